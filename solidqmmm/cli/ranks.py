"""The command line under mpiexec: one voice, and no rank that waits for one that has failed."""

from __future__ import annotations

import os
import sys
import time

from solidqmmm.cli import show

AGREE_SECONDS = 5.0  # how long a failed rank waits to see whether the others failed too


class Ranks:
    """The ranks of this run. Until `start`, the launcher's environment says which one this is."""

    def __init__(self):
        names = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK")
        self.rank = next((int(os.environ[name]) for name in names if os.environ.get(name, "").isdigit()), 0)
        self.size = 1
        self._failures = None

    @property
    def is_root(self) -> bool:
        """Whether this rank prints."""
        return self.rank == 0

    def start(self) -> None:
        """Starts MPI, before any engine is imported.

        Raises:
            EnvironmentProblem: If two MPI libraries would meet.
        """
        from solidqmmm.runtime import world

        comm = world()
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        if self.size > 1 and self._failures is None:
            self._failures = comm.Dup()  # its own channel: a failure never answers somebody else's message

    def silence_all_but_root(self) -> None:
        """Python's own output of the other ranks goes nowhere; their errors still find a way (`leave`)."""
        if not self.is_root:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
            sys.stderr = open(os.devnull, "w")  # noqa: SIM115

    def leave(self, problem: BaseException) -> int:
        """Says once what went wrong and returns the exit code; aborts all ranks where only some have failed."""
        if self.is_root:
            show.error(problem)
        if self.size == 1:
            return show.exit_code(problem)
        if not self._all_failed(AGREE_SECONDS if self.is_root else AGREE_SECONDS + 2):
            if not self.is_root:
                sys.stderr = sys.__stderr__
                show.error(problem, rank=self.rank)
            sys.stdout.flush()
            sys.stderr.flush()
            time.sleep(0.5)  # the launcher forwards what was said before it hears of the abort
            from mpi4py import MPI

            MPI.COMM_WORLD.Abort(show.exit_code(problem))
        return show.exit_code(problem)

    def _all_failed(self, seconds: float) -> bool:
        """Whether every rank gets here within `seconds`."""
        from solidqmmm.rank_halves import patient

        return patient(self._failures.Ibarrier(), seconds=seconds)
