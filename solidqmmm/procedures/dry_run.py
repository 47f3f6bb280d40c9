"""What a study will cost, before it is run: sizes, memory, and time from a short calibration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import perf_counter

from solidqmmm.engines.journal import without_journal
from solidqmmm.engines.protocols import CostedEngine
from solidqmmm.procedures.building.embed import is_additive
from solidqmmm.procedures.parallel.rank_forecast import (
    Forecast,
    in_seconds,
    measured_host,
    measured_quantum,
    without_engine,
)

NO_DYNAMICS = "this recipe makes no steps of dynamics, whose next positions are known beforehand"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Sizes and costs. What nobody knows is None.

    Attributes:
        n_atoms: Atoms of the crystal.
        seconds_host: One evaluation of the host in seconds; None for the engine alone.
        n_quantum, n_core, n_caps: Quantum atoms, those of the core, caps; all atoms are core for the engine alone.
        n_electrons: Electrons of the cluster, or of the cell.
        n_basis_functions: Basis functions of the quantum engine.
        memory_MB: Memory of the quantum calculation on all ranks together.
        seconds_first: The first quantum evaluation in seconds.
        seconds_next: Each further one in seconds, started from the last.
        forecast: What a step takes on a number of ranks; None if it was not asked for.
    """

    n_atoms: int
    seconds_host: float | None
    n_quantum: int = 0
    n_core: int = 0
    n_caps: int = 0
    n_electrons: float | None = None
    n_basis_functions: int | None = None
    memory_MB: float | None = None
    seconds_first: float | None = None
    seconds_next: float | None = None
    forecast: Forecast | None = None

    def rows(self) -> list[tuple[str, str]]:
        """Rows of label and value for a table."""
        return self._rows() + ([] if self.forecast is None else self.forecast.rows())

    def _rows(self):
        rows = [("atoms", str(self.n_atoms))]
        if self.seconds_host is None:
            rows.append(("quantum atoms", "all: the engine alone"))
        else:
            rows.append(("host", f"{in_seconds(self.seconds_host)} per evaluation"))
            if not self.n_quantum:
                return [*rows, ("quantum atoms", "none: the host alone")]
            rows.append(("quantum atoms", f"{self.n_quantum} ({self.n_core} core) and {self.n_caps} caps"))
        if self.n_electrons is not None:
            rows.append(("electrons in the SCF", f"{self.n_electrons:g}"))
        if self.n_basis_functions is not None:
            rows.append(("basis functions", str(self.n_basis_functions)))
        if self.memory_MB is not None:
            rows.append(("memory", f"about {self.memory_MB:.0f} MB"))
        if self.seconds_first is None:
            return [*rows, ("quantum calls", "no estimate: this engine has no calibration")]
        text = (
            f"about {in_seconds(self.seconds_first)} the first, {in_seconds(self.seconds_next)} each further one"
        )
        return [*rows, ("quantum calls", text)]


def estimate(model, ranks: int | None = None) -> Estimate:
    """Cost of a model on the ranks that call this; collective. Takes the time of a few SCF steps.

    Args:
        model: What `build_model` returns.
        ranks: A number of ranks on which a step is foretold; that takes as long again, and half the ranks twice as long.
    """
    costs = _on_these_ranks(model)
    return costs if ranks is None else replace(costs, forecast=forecast(model, ranks))


def forecast(model, ranks: int) -> Forecast:
    """What a host step and a quantum call of a model take on `ranks` ranks; collective on those that are there."""
    if model.engine_alone:
        return Forecast(ranks, None, measured_quantum(model.engine, model.crystal.to_atoms()), "the engine alone")
    if model.cluster is None:
        return Forecast(ranks, measured_host(model.crystal, _potential(model)), None)
    excluded = model.partition.quantum if is_additive(model.study) else ()
    coupling = without_engine(model, model.crystal, model.partition)
    host = measured_host(model.crystal, _potential(model), excluded=excluded, coupling=coupling)
    quantum = measured_quantum(model.engine, model.cluster.to_atoms())
    if quantum is None:
        return Forecast(ranks, host, None, "this engine has no calibration")
    return Forecast(ranks, host, quantum, NO_DYNAMICS)


def _on_these_ranks(model) -> Estimate:
    n = len(model.crystal)
    if model.engine_alone:
        sizes = {"n_atoms": n, "seconds_host": None, "n_quantum": n, "n_core": n}
        atoms, n_electrons = model.crystal.to_atoms(), float(model.crystal.numbers.sum())
    else:
        sizes, cluster = {"n_atoms": n, "seconds_host": _time_of_host(model)}, model.cluster
        if cluster is None:
            return Estimate(**sizes)
        sizes |= {"n_quantum": cluster.n_quantum, "n_core": int(cluster.core.sum()), "n_caps": len(cluster.caps)}
        atoms, n_electrons = cluster.to_atoms(), cluster.n_electrons
    engine = without_journal(model.engine)
    if not isinstance(engine, CostedEngine):
        return Estimate(**sizes, n_electrons=n_electrons)
    timing = engine.calibrate(atoms)
    return Estimate(
        **sizes,
        n_electrons=engine.n_electrons(atoms),
        n_basis_functions=engine.n_basis_functions(atoms),
        memory_MB=engine.memory_estimate_MB(atoms),
        seconds_first=timing["estimated_seconds_first"],
        seconds_next=timing["estimated_seconds_per_evaluation"],
    )


def _potential(model):
    """The host's potential; with an option `charge` the recipe charges the crystal."""
    charge = model.study.options.get("charge")
    return replace(model.potential, net_charge=float(charge)) if charge else model.potential


def _time_of_host(model) -> float:
    """One evaluation of the host alone, the neighbour lists made before."""
    from solidqmmm.engines.lammps_host import LammpsHost

    excluded = model.partition.quantum if is_additive(model.study) else ()
    with LammpsHost(model.crystal, _potential(model), excluded=excluded) as host:
        host.evaluate()
        begin = perf_counter()
        host.set_positions(model.crystal.positions)
        host.evaluate()
        return perf_counter() - begin

