"""Two MPI ranks give what one gives."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest


def test_two_ranks_equal_one(tmp_path, on_ranks):
    def run(name, ranks):
        folder = tmp_path / name
        folder.mkdir()
        script = Path(__file__).with_name("mpi_script.py")
        return on_ranks(script, folder, "gpaw" if find_spec("gpaw") else "-", ranks=ranks)

    serial, parallel = run("serial", 1), run("parallel", 2)
    assert (serial["ranks"], parallel["ranks"]) == (1, 2)
    assert "EMT" in parallel["failure"]
    if "waves" in serial:
        assert serial["waves"] == "computed"
        assert "without ScaLAPACK" in parallel["waves"] or parallel["waves"] == "computed"
    for engine in set(serial) - {"ranks", "failure", "waves"}:
        for one, two in zip(serial[engine], parallel[engine], strict=True):
            assert two[0] == pytest.approx(one[0], abs=1e-6), engine
            np.testing.assert_allclose(two[1], one[1], atol=1e-5, err_msg=engine)
