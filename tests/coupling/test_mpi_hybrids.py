"""Hybrid crystals on two MPI ranks are those on one."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def test_two_ranks_equal_one(on_ranks):
    script = Path(__file__).with_name("mpi_hybrids.py")
    serial, parallel = on_ranks(script), on_ranks(script, ranks=2)
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
