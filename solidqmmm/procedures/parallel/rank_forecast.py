"""Time-sharing or splitting: what a step takes on N ranks, foretold from a short calibration on those that are there.

Host step (with all that a coupling does around its engine) and quantum call are timed on all ranks together, and on each
half of them as a world of its own, all halves at the same time, so that the memory of a node is as busy as in the run. Two
times give the part that divides among ranks and the part that does not (`physics/algebra/rank_costs`); on a single rank the
latter is taken from our own measurement.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import ase
import numpy as np

from solidqmmm import rank_halves
from solidqmmm.engines.closing import Closing
from solidqmmm.engines.journal import without_journal
from solidqmmm.engines.lammps_attachment import Correction
from solidqmmm.engines.lammps_host import LammpsHost
from solidqmmm.engines.protocols import Contribution, CostedEngine, Engine, Evaluation
from solidqmmm.physics.algebra.rank_costs import RankCost, best_split, shared_seconds
from solidqmmm.procedures.building.embed import is_additive
from solidqmmm.runtime import agree_on_failure, world
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.partition import Partition
from solidqmmm.system.potential import Potential

# What divides among ranks of the time on one, where nothing else is known: from one to two ranks with a busy memory,
# 1,000,000 Stillinger-Weber atoms and GPAW's LCAO mode on 64 atoms (docs/scaling.md).
HOST_SHARE, QUANTUM_SHARE = 0.97, 0.77
# Positions to the quantum ranks and forces back, between halves that sleep while they wait (two cores, 150 atoms).
EXCHANGE_SECONDS = 2.5e-3
# A calibration of the host takes about so long, s.
_ENOUGH = 0.5
# A calibration that takes longer is not repeated, s.
_LONG = 20.0
# Below this gain a prediction does not tell which one is faster.
_MARGIN = 1.05


@dataclass(frozen=True)
class Measured:
    """Seconds of one piece of work on numbers of ranks, and the cost through them.

    Attributes:
        ranks: Numbers of ranks, ascending; the last is all that are there.
        seconds: Seconds on them.
        cost: The cost on any number of ranks.
    """

    ranks: tuple[int, ...]
    seconds: tuple[float, ...]
    cost: RankCost

    @property
    def here(self) -> float:
        """Seconds on the ranks that are there."""
        return self.seconds[-1]

    def spread(self, steps: int) -> Measured:
        """The same work done once in so many steps, for each of them."""
        cost = RankCost(*(part / steps for part in (self.cost.serial, self.cost.parallel, self.cost.collective)))
        return Measured(self.ranks, tuple(t / steps for t in self.seconds), cost)


@dataclass(frozen=True)
class Forecast:
    """What a step takes on N ranks.

    Attributes:
        ranks: N.
        host: Of a host step; None for the engine alone.
        quantum: Of the quantum calls of a step, started from the last ones; None for the host alone, or an engine without
            calibration.
        no_overlap: Why host and quantum engine cannot work at the same time; '' where they can.
        exchange: T_exchange in s.
    """

    ranks: int
    host: Measured | None
    quantum: Measured | None
    no_overlap: str = ""
    exchange: float = EXCHANGE_SECONDS

    @property
    def shared(self) -> float | None:
        """Seconds of a step with time-sharing; None where one of the two is missing."""
        if self.host is None or self.quantum is None:
            return None
        return shared_seconds(self.host.cost, self.quantum.cost, self.ranks)

    @property
    def best(self):
        """The best `Split`; None on one rank, or where one of the two is missing."""
        if self.shared is None or self.ranks < 2:
            return None
        return best_split(self.host.cost, self.quantum.cost, self.ranks, self.exchange)

    @property
    def gain(self) -> float | None:
        """T_shared / T_split of the best split; None where there is none."""
        return None if self.best is None else self.shared / self.best.seconds

    def rows(self) -> list[tuple[str, str]]:
        """Rows of label and value for a table."""
        known = self.host or self.quantum
        if known is None:
            return [("ranks", f"{self.ranks}; no prediction: this engine has no calibration")]
        rows = [("ranks", f"{self.ranks}, foretold from {_in_words(known.ranks)}")]
        if known.ranks == (1,) and self.ranks > 1:
            rows[0] = ("ranks", f"{self.ranks}, foretold from one and how our own cases scale: under mpiexec it is measured")
        for label, work in (("host per step", self.host), ("quantum per step", self.quantum)):
            if work is not None:
                seconds, efficiency = work.cost.seconds(self.ranks), work.cost.efficiency(self.ranks)
                rows.append((label, f"{in_seconds(seconds)} on {_in_words((self.ranks,))}, efficiency {efficiency:.2f}"))
        slower = [work for work in (self.host, self.quantum) if work is not None and work.seconds[-1] > work.seconds[0]]
        if slower:
            words = f"{slower[0].ranks[-1]} ranks were slower than {slower[0].ranks[0]}"
            rows.append(("", f"{words}: a busy machine, or too little work to divide"))
        if self.shared is None:
            reason = "the host alone" if self.host is not None and not self.no_overlap else self.no_overlap
            return [*rows, ("layout", f"time-sharing: {reason}")]
        rows.append(("time-sharing", f"{in_seconds(self.shared)} per step"))
        if self.best is None:
            return [*rows, ("layout", "time-sharing: one rank cannot be split")]
        best = self.best
        rows.append(
            ("best split", f"{in_seconds(best.seconds)} per step: {best.quantum} quantum + {best.host} host ranks")
        )
        return [*rows, ("layout", self._advice())]

    def _advice(self) -> str:
        if self.no_overlap:
            return f"time-sharing: {self.no_overlap}"
        if self.gain > _MARGIN:
            return f"ranks: {{layout: split, quantum: {self.best.quantum}}}, {self.gain:.2f} times as fast"
        if self.gain < 1 / _MARGIN:
            return f"time-sharing, {1 / self.gain:.2f} times as fast as the split"
        return "time-sharing: the split is as fast within 5 %"


def measured_host(
    crystal: Crystal, potential: Potential, *, frozen=(), excluded=(), coupling: Callable[[], Correction] | None = None
) -> Measured:
    """A step of molecular dynamics of the host on the ranks that are there; collective.

    Args:
        crystal: The crystal.
        potential: Its interatomic potential.
        frozen, excluded: As of `LammpsHost`.
        coupling: Makes a correction whose work belongs to the step (`without_engine`).
    """

    def step():
        with LammpsHost(crystal, potential, frozen=frozen, excluded=excluded) as host:
            if coupling is None:
                return _seconds_of_step(host)
            correction = coupling()
            host.attach(_Weightless(correction))
            try:
                return _seconds_of_step(host)
            finally:
                if hasattr(correction, "classical"):
                    correction.classical.engine.close()  # it lives on these ranks only

    return _on_the_ranks(step, HOST_SHARE)


def without_engine(model, crystal: Crystal, partition: Partition) -> Callable[[], Correction] | None:
    """Makes a model's coupling around an engine that answers at once; None where the engine itself would be asked.

    Args:
        model: What `build_model` returns.
        crystal, partition: The crystal and who is quantum in it.
    """
    if is_additive(model.study) or model.study.matching == "auto":
        return None
    return lambda: model.coupling(crystal, partition, engine=_AtOnce())


def measured_quantum(engine: Engine | None, atoms: ase.Atoms) -> Measured | None:
    """A quantum call on the ranks that are there; None without an engine, or where nobody knows. Collective."""
    bare = without_journal(engine)
    if bare is None or not _can_be_timed(bare):
        return None
    return _on_the_ranks(lambda: seconds_of_call(bare, atoms), QUANTUM_SHARE)


def seconds_of_call(engine: Engine, atoms: ase.Atoms) -> float | None:
    """One further evaluation by an engine without journal, in s; None where nobody knows. The engine is left closed."""
    if not _can_be_timed(engine):
        return None
    if isinstance(engine, CostedEngine):
        return _calibrated(engine, atoms)
    engine.close()  # an instance that lives on other ranks is no use here
    engine.evaluate(atoms)
    seconds = _median(lambda: engine.evaluate(atoms))
    engine.close()
    return seconds


def in_seconds(value: float) -> str:
    """A time in s, in words with the unit that suits it."""
    if value < 1:
        return f"{1000 * value:.3g} ms"
    if value < 120:
        return f"{value:.3g} s"
    return f"{value / 60:.1f} min" if value < 7200 else f"{value / 3600:.1f} h"


class _AtOnce(Closing):
    """An engine that answers at once: what is left is everything around it."""

    name, provides_stress = "at once", False

    def evaluate(self, atoms: ase.Atoms, *, stress: bool = False) -> Evaluation:  # noqa: ARG002
        return Evaluation(0.0, np.zeros((len(atoms), 3)))

    def describe(self) -> dict:
        return {"engine": self.name}

    def close(self):
        pass


class _Weightless:
    """Does the work of a correction and adds nothing: the crystal moves as its potential says."""

    has_energy = False

    def __init__(self, correction: Correction):
        self.correction = correction
        self.atoms, self.reference = correction.atoms, correction.reference
        self.needs_host_forces = correction.needs_host_forces

    def evaluate(self, positions, cell, host_forces=None) -> Contribution:
        self.correction.evaluate(positions, cell, host_forces)
        return Contribution(np.zeros_like(positions))


def _can_be_timed(engine) -> bool:
    return isinstance(engine, CostedEngine) or engine.name == "lammps"


def _calibrated(engine: CostedEngine, atoms: ase.Atoms) -> float:
    """The mean of two calibrations; one where it takes long."""
    begin, times = perf_counter(), []
    for _ in range(2):
        times.append(float(engine.calibrate(atoms)["estimated_seconds_per_evaluation"]))
        if world().bcast(perf_counter() - begin > _LONG):
            break
    return world().bcast(float(np.mean(times)))


def _seconds_of_step(host: LammpsHost) -> float:
    """Velocity Verlet from 300 K, so that neighbour lists are made as often as in a run; atoms stay where they are if
    excluded neighbours do not push back. Shells: a relaxation of them, as there are no steps of theirs."""
    if len(host.shell_owner):

        def again():
            host.forget()
            host.evaluate()

        return _median(again)
    if not len(host.excluded):
        host.command("velocity mobile create 300 1 loop geom")
        host.command("fix solidqmmm_calibration mobile nve")
    host.run(2)
    return _median(lambda: host.run(5, pre=False)) / 5


def _median(act: Callable) -> float:
    """Median seconds of at least five calls and about `_ENOUGH` seconds: whoever disturbs them disturbs the run as well."""
    communicator, times = world(), []
    while True:
        begin = perf_counter()
        act()
        times.append(perf_counter() - begin)
        if communicator.bcast(len(times) >= 5 and sum(times) > _ENOUGH):
            return communicator.bcast(float(np.median(times)))


def _on_the_ranks(act: Callable[[], float], parallel_share: float) -> Measured:
    """Seconds of `act` on all ranks together, and on each half of them at the same time (their mean)."""
    everybody = world()
    n = everybody.Get_size()
    sizes, seconds = [], []
    if n > 1:
        sizes.append(n // 2)
        seconds.append(_side_by_side(everybody, n // 2, act))
    sizes.append(n)
    seconds.append(act())
    seconds = everybody.bcast(seconds)
    return Measured(tuple(sizes), tuple(seconds), RankCost.fitted(sizes, seconds, parallel_share=parallel_share))


def _side_by_side(everybody, size: int, act: Callable[[], float]) -> float:
    """Mean seconds of `act` in worlds of `size` ranks; ranks that are left over sleep."""
    from mpi4py import MPI

    group = everybody.Get_rank() // size
    works = (group + 1) * size <= everybody.Get_size()
    mine = everybody.Split(group if works else MPI.UNDEFINED, everybody.Get_rank())
    seconds, error = None, None
    if works:
        try:
            with rank_halves.inside(mine):
                seconds = act()
        except Exception as caught:
            error = caught
        mine.Free()
    rank_halves.patient(everybody.Ibarrier())
    agree_on_failure(everybody, error)
    return float(np.mean([value for value in everybody.allgather(seconds) if value is not None]))


def _in_words(ranks) -> str:
    numbers = " and ".join(str(n) for n in ranks)
    return f"{numbers} rank{'' if ranks[-1] == 1 else 's'}"
