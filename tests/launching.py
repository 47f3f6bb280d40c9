"""Commands on several MPI ranks, by the mpiexec of this environment."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

MPIEXEC = Path(sys.prefix, "bin", "mpiexec")


def on_ranks(ranks: int, *command) -> list[str]:
    """The words that start a command on so many ranks; skips the test where there is no mpiexec. One rank needs none."""
    if ranks > 1 and not MPIEXEC.exists():
        pytest.skip("this environment has no mpiexec of its own")
    launcher = [MPIEXEC, "-n", ranks] if ranks > 1 else []
    return [str(word) for word in (*launcher, *command)]
