"""Engines that live on the quantum ranks: the host ranks ask, and may do other work until the answer comes.

    host ranks:     begin(atoms n+1) ... host's forces at n+1 ... evaluate(atoms n+1)  -> the answer
    quantum ranks:       SCF at n+1 ............................. -> sent

A `RemoteEngine` can what the engine can, and is asked in the same way. `begin` says what will be asked next. If that is what
is asked indeed, the answer is collected; if not, it is awaited, dropped and counted, and the engine is asked anew: what was
foreseen decides how long one waits, never what is answered. Journals are kept by the quantum ranks.

One question is under way at a time. A quantum rank that fails alone ends the whole run, as everywhere.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
from ase import Atoms

from solidqmmm import interruption
from solidqmmm.engines.closing import Closing
from solidqmmm.engines.journal import without_journal
from solidqmmm.engines.protocols import (
    Engine,
    Evaluation,
    FieldEngine,
    FieldEvaluation,
    PotentialEvaluation,
    SitePotentialEngine,
)
from solidqmmm.errors import EngineError
from solidqmmm.rank_halves import Halves, patient
from solidqmmm.runtime import agree_on_failure, outlives_pickling

# Positions and cells that differ by less (angstrom) are the same: a host that brings atoms back into its box rounds.
SAME = 1e-12
# How long a quantum rank that has failed waits to see whether the others have failed as well (s).
_AGREE_SECONDS = 20.0


# --- the quantum ranks --------------------------------------------------------------------------------------------


class _Heard(logging.Handler):
    """What the house says of an evaluation, for the rank that talks."""

    def __init__(self):
        super().__init__(logging.INFO)
        self.said: list[tuple[str, int, str]] = []

    def emit(self, record):
        self.said.append((record.name, record.levelno, record.getMessage()))

    def taken(self) -> list:
        said, self.said = self.said, []
        return said


def serve(halves: Halves):
    """Answers the host ranks until they say stop; on the quantum ranks.

    Raises:
        Exception: What ended the run on the host ranks, so that all ranks leave in the same way; whatever fails on some of
            the quantum ranks only.
    """
    engines: dict[int, Engine] = {}
    heard, house = _Heard(), logging.getLogger("solidqmmm")
    agreement = halves.own.Dup()
    house.addHandler(heard)
    try:
        with interruption.heeded():  # when to stop is for the host ranks to say
            idle = perf_counter()
            while True:
                what, key, *question = halves.receive()
                begun = perf_counter()
                if what == "stop":
                    break
                answer, error = None, None
                try:
                    answer = _answered(engines, what, key, *question)
                except Exception as caught:
                    error = caught
                failed = _agreed(agreement, error)
                ended = perf_counter()
                said = heard.taken()
                # What an engine says when it is made its twin has said already.
                halves.send((answer, failed, said if what == "call" else [], ended - begun, begun - idle))
                idle = ended
    finally:
        house.removeHandler(heard)
    for engine in engines.values():
        engine.close()
    if key is not None:
        raise pickle.loads(key)


def _answered(engines: dict, what: str, key: int, *question):
    """Does what is asked; a value that can be sent."""
    if what == "make":
        engines[key] = question[0]()
        return None
    if what == "derive":
        source, function, arguments, keywords = question
        engines[key] = function(engines[source], *arguments, **keywords)
        return None
    method, arguments, keywords = question
    return getattr(engines[key], method)(*arguments, **keywords)


def _agreed(communicator, error) -> bytes | None:
    """The exception that all quantum ranks have, packed; raises it where only some have it."""
    if communicator.Get_size() > 1:
        seconds = float("inf") if error is None else _AGREE_SECONDS
        if not patient(communicator.Ibarrier(), seconds=seconds):
            raise error
    try:
        agree_on_failure(communicator, error)
    except Exception as agreed:
        return _packed(agreed)
    return None


def _packed(error: BaseException) -> bytes:
    """An exception as bytes that can be an exception again."""
    if outlives_pickling(error):
        return pickle.dumps(error)
    return pickle.dumps(EngineError(f"on the quantum ranks: {type(error).__name__}: {error}"))


# --- the host ranks -----------------------------------------------------------------------------------------------


@dataclass
class Traffic:
    """What went between the halves.

    Attributes:
        asked: Questions to engines that were evaluated: those of `evaluate` and those announced.
        announced: Evaluations that were begun before they were asked for.
        hits: Announced evaluations that were then asked for.
        missed: Announced evaluations that nobody asked for.
        host_waits_s: Wall time that the host ranks waited for answers, s.
        quantum_works_s: Wall time that the quantum ranks worked, s.
        quantum_waits_s: Wall time that the quantum ranks waited for questions, s.
    """

    asked: int = 0
    announced: int = 0
    hits: int = 0
    missed: int = 0
    host_waits_s: float = 0.0
    quantum_works_s: float = 0.0
    quantum_waits_s: float = 0.0

    def since(self, before: Traffic) -> Traffic:
        """What was added after `before`."""
        return Traffic(**{name: value - getattr(before, name) for name, value in vars(self).items()})


class Link:
    """The host ranks' end: asks the quantum ranks, collects what they answer.

    Attributes:
        halves: The division.
        plan: Costs on which the division rests (`procedures/parallel/splitting`), or None.
        traffic: Counts and times so far.
        made: When the ranks were divided, of `perf_counter`.
        wishes: Checkpoints in a row at which another division would have paid.
        rebuild_s: How long it took from there to the first step of dynamics, in s; None before it.
    """

    def __init__(self, halves: Halves, plan=None):
        self.halves, self.plan = halves, plan
        self.traffic = Traffic()
        self.made, self.rebuild_s, self.wishes = perf_counter(), None, 0
        self._engines = 0
        self._foreseen: tuple | None = None  # what was begun: engine, atoms, stress

    def engine(self, make: Callable[[], Engine]) -> RemoteEngine:
        """The engine that `make` makes, on the quantum ranks; `make` must be fit to be pickled.

        Raises:
            Exception: As `make`.
        """
        twin = make()
        key = self._new()
        self._ask("make", key, make)
        return _remote(twin, self, key)

    def derived(self, engine: RemoteEngine, function, *arguments, **keywords) -> RemoteEngine:
        """The engine function(engine, ...) there, where `function` is one of a module."""
        twin = function(engine.twin, *arguments, **keywords)
        if twin is engine.twin:
            return engine
        key = self._new()
        self._ask("derive", key, engine.key, function, arguments, keywords)
        return _remote(twin, self, key)

    def _new(self) -> int:
        self._engines += 1
        return self._engines

    # --- questions ------------------------------------------------------------------------------------------------

    def call(self, key: int, method: str, *arguments, **keywords):
        """What a method of an engine returns, on all host ranks; what was foreseen is given up."""
        self.traffic.asked += method.startswith("evaluate")
        return self._ask("call", key, method, arguments, keywords)

    def begin(self, key: int, atoms: Atoms, stress: bool):
        """Has an evaluation begun whose answer `evaluate` collects; nothing happens if that is under way already."""
        if self._is_foreseen(key, atoms, stress):
            return
        self._give_up()
        atoms = atoms.copy()
        self.halves.send(("call", key, "evaluate", (atoms,), {"stress": stress}))
        self._foreseen = (key, atoms, stress)
        self.traffic.asked += 1
        self.traffic.announced += 1

    def evaluate(self, key: int, atoms: Atoms, stress: bool) -> Evaluation:
        """The answer to what was begun, if that is the same; otherwise asked now."""
        if self._is_foreseen(key, atoms, stress):
            self.traffic.hits += 1
            return self._collect()
        return self.call(key, "evaluate", atoms.copy(), stress=stress)

    def _is_foreseen(self, key, atoms, stress) -> bool:
        if self._foreseen is None:
            return False
        of, there, with_stress = self._foreseen
        return of == key and with_stress == stress and same_atoms(there, atoms)

    def stop(self, error: BaseException | None = None):
        """Ends the service of the quantum ranks; with an error they leave with it as well."""
        self._give_up()
        self.halves.send(("stop", None if error is None else _packed(error)))

    def _ask(self, *question):
        self._give_up()
        self.halves.send(question)
        return self._collect()

    def _give_up(self):
        """Awaits and drops what was foreseen and not asked for."""
        if self._foreseen is not None:
            self.traffic.missed += 1
            self._collect(dropped=True)

    def _collect(self, *, dropped: bool = False):
        self._foreseen = None
        started = perf_counter()
        answer, failed, said, worked, waited = self.halves.receive()
        self.traffic.host_waits_s += perf_counter() - started
        self.traffic.quantum_works_s += worked
        self.traffic.quantum_waits_s += waited
        if dropped:
            return None
        for name, level, text in said if self.halves.own.Get_rank() == 0 else ():
            logging.getLogger(name).log(level, "%s", text)
        if failed is not None:
            raise pickle.loads(failed)
        return answer


def same_atoms(one: Atoms, other: Atoms) -> bool:
    """Whether two arrangements are the same to rounding, positions and cell within `SAME`."""
    if len(one) != len(other) or not np.array_equal(one.pbc, other.pbc) or set(one.arrays) != set(other.arrays):
        return False
    if np.abs(one.cell.array - other.cell.array).max() > SAME or np.abs(one.positions - other.positions).max() > SAME:
        return False
    kept = all(
        np.array_equal(values, other.arrays[name], equal_nan=values.dtype.kind == "f")
        for name, values in one.arrays.items()
        if name != "positions"
    )
    return kept and pickle.dumps(one.info) == pickle.dumps(other.info)


_link: Link | None = None


def link() -> Link | None:
    """The way to the quantum ranks; None where the ranks are not divided."""
    return _link


def use_link(one: Link | None):
    """From here on `link()` is this one."""
    global _link
    _link = one


def made(make: Callable[[], Engine]) -> Engine:
    """The engine that `make` makes: on the quantum ranks where there are some, otherwise here."""
    return make() if _link is None else _link.engine(make)


class RemoteEngine(Closing):
    """An engine on the quantum ranks.

    Args:
        twin: The same engine on the host ranks, for what it says of itself; it computes nothing.
        link: The way to it.
        key: Its number there.
    """

    def __init__(self, twin: Engine, link: Link, key: int):
        self.twin, self.key, self._link = twin, key, link

    @property
    def name(self) -> str:
        """The engine's."""
        return self.twin.name

    @property
    def provides_stress(self) -> bool:
        """The engine's."""
        return self.twin.provides_stress

    @property
    def engine(self) -> Engine:
        """What kind of engine it is: the twin without its journal (`without_journal`)."""
        return without_journal(self.twin)

    def evaluate(self, atoms: Atoms, *, stress: bool = False) -> Evaluation:
        """What the engine says; what `begin` foresaw is collected."""
        return replace(self._link.evaluate(self.key, atoms, stress))

    def begin(self, atoms: Atoms, *, stress: bool = False):
        """Has the evaluation of `atoms` begin; see `OverlappingEngine`."""
        self._link.begin(self.key, atoms, stress)

    def derived(self, function, *arguments, **keywords) -> RemoteEngine:
        """function(engine, ...) of the engine there, itself a remote engine; the same object if it is the same engine."""
        return self._link.derived(self, function, *arguments, **keywords)

    def forget(self):
        """The engine's next evaluation starts as its first one did, where it can."""
        if hasattr(self.twin, "forget"):
            self._link.call(self.key, "forget")

    def describe(self) -> dict:
        """The engine's."""
        return self.twin.describe()

    def close(self):
        """Frees what the engine holds there; a later call opens it again."""
        if self._link is link():
            self._link.call(self.key, "close")
        self.twin.close()


class RemoteFieldEngine(RemoteEngine):
    """The same for an engine that feels external charges; nothing is foreseen."""

    @property
    def field_capabilities(self) -> frozenset[str]:
        """The engine's."""
        return self.twin.field_capabilities

    def evaluate_in_field(self, atoms: Atoms, charges, *, response=None, cores=None) -> FieldEvaluation:
        """See `FieldEngine`; a response answers on the quantum ranks."""
        return replace(
            self._link.call(self.key, "evaluate_in_field", atoms.copy(), charges, response=response, cores=cores)
        )


class RemotePotentialEngine(RemoteEngine):
    """The same for an engine that tells its electrostatic potential."""

    def evaluate_with_potentials(self, atoms: Atoms) -> PotentialEvaluation:
        """What the engine says."""
        return replace(self._link.call(self.key, "evaluate_with_potentials", atoms.copy()))


class RemoteFieldAndPotentialEngine(RemoteFieldEngine, RemotePotentialEngine):
    """The same for an engine that can do both."""


def _remote(twin: Engine, link: Link, key: int) -> RemoteEngine:
    kinds = {
        (False, False): RemoteEngine,
        (True, False): RemoteFieldEngine,
        (False, True): RemotePotentialEngine,
        (True, True): RemoteFieldAndPotentialEngine,
    }
    return kinds[isinstance(twin, FieldEngine), isinstance(twin, SitePotentialEngine)](twin, link, key)
