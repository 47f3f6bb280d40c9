"""Two MPI ranks give what one gives."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from solidqmmm.runtime import environment_for_subprocess

MPIEXEC = Path(sys.prefix, "bin", "mpiexec")


def run(folder, *launcher):
    script = Path(__file__).with_name("mpi_script.py")
    folder.mkdir()
    command = [*launcher, sys.executable, script, folder, "gpaw" if find_spec("gpaw") else "-"]
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=environment_for_subprocess(),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.skipif(not MPIEXEC.exists(), reason="this environment has no mpiexec of its own")
def test_two_ranks_equal_one(tmp_path):
    serial = run(tmp_path / "serial")
    parallel = run(tmp_path / "parallel", MPIEXEC, "-n", 2)
    assert (serial["ranks"], parallel["ranks"]) == (1, 2)
    assert "EMT" in parallel["failure"]
    for engine in set(serial) - {"ranks", "failure"}:
        for one, two in zip(serial[engine], parallel[engine], strict=True):
            assert two[0] == pytest.approx(one[0], abs=1e-6), engine
            np.testing.assert_allclose(two[1], one[1], atol=1e-5, err_msg=engine)
