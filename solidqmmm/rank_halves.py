"""Ranks divided into two halves that work at the same time: host ranks and quantum ranks, and messages between them.

The first ranks are the host's, so rank 0 stays the one that talks and writes; the last ones compute quantum mechanics. Each
half is a world of its own: `runtime.world()` gives its communicator, and GPAW and ASE are given the same, so that nothing
else in the house knows of the division.

A message goes from the first rank of one half to all ranks of the other, in turns: what is asked, then the answer. Who waits
for one sleeps between two looks, so that ranks may share cores.
"""

from __future__ import annotations

import importlib.util
import pickle
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from solidqmmm.runtime import all_ranks, prepare_engines, use_world, world

# A wait looks without sleeping at first, then in short sleeps, then in longer ones (s): after how long, and how long.
_PATIENCE = ((1e-3, 0.0), (2.0, 5e-5), (float("inf"), 1e-3))


@dataclass(frozen=True, eq=False)
class Halves:
    """This rank's view of the division.

    Attributes:
        own: Communicator of its own half.
        is_quantum: Whether this is a quantum rank.
        quantum: Number of quantum ranks.
        host: Number of host ranks.
    """

    own: object
    is_quantum: bool
    quantum: int
    host: int
    _everybody: object  # for messages alone, as the next one: never mixed up with those of engines
    _own: object

    def send(self, message):
        """Sends an object to all ranks of the other half; all ranks of this half call, and that of the first one goes."""
        # On every rank: what cannot be sent fails on all of them.
        packed = np.frombuffer(pickle.dumps(message, protocol=5), dtype=np.uint8).copy()
        if self.own.Get_rank() == 0:
            to = 0 if self.is_quantum else self.host
            patient(self._everybody.Isend(np.array([packed.size], dtype=np.int64), to))
            patient(self._everybody.Isend(packed, to))

    def receive(self):
        """The object that the other half sends; all ranks of this half call."""
        size = np.zeros(1, dtype=np.int64)
        self._take(size)
        packed = np.empty(int(size[0]), dtype=np.uint8)
        self._take(packed)
        return pickle.loads(packed.tobytes())

    def _take(self, buffer):
        """From the first rank of the other half to the first one here, and on to all others."""
        if self.own.Get_rank() == 0:
            patient(self._everybody.Irecv(buffer, self.host if not self.is_quantum else 0))
        if self.own.Get_size() > 1:
            patient(self._own.Ibcast(buffer, root=0))


def patient(request, *, seconds: float = float("inf")) -> bool:
    """Waits for a request of MPI, asleep most of the time; False if `seconds` were not enough."""
    started, sleeps = time.perf_counter(), iter(_PATIENCE)
    until, pause = next(sleeps)
    while not request.Test():
        waited = time.perf_counter() - started
        if waited > seconds:
            return False
        while waited > until:
            until, pause = next(sleeps)
        time.sleep(pause)
    return True


def divide(quantum: int) -> Halves:
    """Divides all ranks; collective. The last `quantum` ones become quantum ranks.

    Raises:
        ValueError: If one half would be empty.
    """
    prepare_engines()
    everybody = all_ranks()
    size, rank = everybody.Get_size(), everybody.Get_rank()
    if not 0 < quantum < size:
        raise ValueError(
            f"split ranks need at least one quantum rank and one host rank: expected 1 to {size - 1} quantum ranks of "
            f"{size} in all, got {quantum}"
        )
    host = size - quantum
    is_quantum = rank >= host
    own = everybody.Split(int(is_quantum), rank)
    _give_away(own)
    return Halves(own, is_quantum, quantum, host, everybody.Dup(), own.Dup())


def unite():
    """All ranks are one world again. Engines that were made in a half must be closed."""
    _give_away(all_ranks())


@contextmanager
def inside(communicator):
    """Inside, `communicator` is the world of the house, of GPAW and of ASE; engines made there are closed there."""
    before = world()
    _give_away(communicator)
    try:
        yield
    finally:
        _give_away(before)


def _give_away(communicator):
    """Makes `communicator` the world of the house, of GPAW and of ASE."""
    use_world(communicator)
    if importlib.util.find_spec("gpaw") is not None:
        _give_to_gpaw(communicator)  # before ASE: GPAW compares the two when it is first imported
    import ase.parallel

    ase.parallel.world.comm = ase.parallel.MPI4PY(communicator)


def _give_to_gpaw(communicator):
    hook = sys.excepthook
    import gpaw.mpi
    from gpaw.mpi4pywrapper import MPI4PYWrapper

    sys.excepthook = hook  # GPAW puts its own there when it is first imported
    old, new = gpaw.mpi.world, MPI4PYWrapper(communicator)
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "gpaw" and getattr(module, "__dict__", {}).get("world") is old:
            module.world = new
