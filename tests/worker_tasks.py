"""Tasks that go wrong in a worker; a module of its own, because workers import them."""

from __future__ import annotations

import os
import time
from pathlib import Path

from solidqmmm.errors import EngineError


def rank() -> int:
    from mpi4py import MPI

    return MPI.COMM_WORLD.Get_rank()


def present(folder: str):
    """Leaves the number of this process."""
    Path(folder, str(os.getpid())).touch()


def squared(task):
    folder, n = task
    present(folder)
    return n * n


def summed(task):
    from mpi4py import MPI

    present(task[0])
    return MPI.COMM_WORLD.allreduce(task[1] * (1 + rank()))


def raises_on_rank_1_at_the_end(task):
    """All ranks come to the end, one with an error."""
    folder, n = task
    present(folder)
    if n == 1 and rank() == 1:
        raise EngineError("the SCF cycle of rank 1 did not converge")
    return n


def raises_on_rank_1_before_a_collective(task):
    """The other rank waits for it in a collective call."""
    from mpi4py import MPI

    folder, n = task
    present(folder)
    if n == 1 and rank() == 1:
        raise EngineError("the SCF cycle of rank 1 did not converge")
    return MPI.COMM_WORLD.allreduce(n)


def exits_on_rank_1(task):
    from mpi4py import MPI

    folder, n, code = task
    present(folder)
    if n == 1 and rank() == 1:
        os._exit(code)
    MPI.COMM_WORLD.Barrier()
    return n


def exits(task):
    folder, n = task
    present(folder)
    if n == 1:
        os._exit(3)
    return n


def sleeps_for_ever(task):
    folder, n = task
    present(folder)
    if n == 1:
        while True:
            time.sleep(600)
    return n


def waits_for_rank_1_for_ever(task):
    """Hangs inside a call of the MPI library."""
    from mpi4py import MPI

    folder, n = task
    present(folder)
    if n == 1 and rank() == 0:
        MPI.COMM_WORLD.Barrier()
    return n


def raises_what_does_not_pickle(task):
    class Local(Exception):
        pass

    present(task[0])
    raise Local("of a library")


def takes_a_while(task):
    folder, n = task
    present(folder)
    time.sleep(0.3 * n)
    Path(folder, f"done_{n}").touch()
    return n


def fails_when_another_has_begun(task):
    folder, n = task
    if n > 0:
        return takes_a_while(task)
    while not os.listdir(folder):
        time.sleep(0.02)
    return 1 // 0
