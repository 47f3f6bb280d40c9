"""Hybrid crystals on two MPI ranks are those on one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from solidqmmm.runtime import environment_for_subprocess

MPIEXEC = Path(sys.executable).with_name("mpiexec")


def run(*launcher):
    command = [*launcher, sys.executable, Path(__file__).with_name("mpi_hybrids.py")]
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env=environment_for_subprocess(),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.skipif(not MPIEXEC.exists(), reason="this environment has no mpiexec of its own")
def test_two_ranks_equal_one():
    serial, parallel = run(), run(MPIEXEC, "-n", 2)
    assert (serial.pop("ranks"), parallel.pop("ranks")) == (1, 2)
    assert serial["relaxed"].pop("converged")
    assert parallel["relaxed"].pop("converged")
    for name, expected in serial.items():
        found = parallel[name]
        # Two minimizations follow each other to rounding errors, which the iterations enlarge.
        tolerance = 1e-6 if name == "relaxed" else 1e-9
        for key, value in expected.items():
            if value is None:
                assert found[key] is None
            else:
                np.testing.assert_allclose(found[key], value, atol=tolerance, rtol=0, err_msg=f"{name} {key}")
