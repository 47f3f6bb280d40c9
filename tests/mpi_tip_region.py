"""Run by test_tip_region.py, alone or under mpiexec: a region that moves while learning on the fly, as JSON."""

from __future__ import annotations

import json

from test_tip_region import run

from solidqmmm.procedures.motion.lotf import Lotf
from solidqmmm.runtime import is_root, world


def main():
    result, (x, v), region = run(32, stepper=Lotf(4), every=4, radius_in=3.2, radius_out=3.6)
    answer = {
        "ranks": world().size,
        "positions": x.tolist(),
        "velocities": v.tolist(),
        "core": region.core.tolist(),
        "carved": region.n_carved,
        "calls": result.n_qm_calls,
    }
    everywhere = world().allgather(json.dumps(answer))
    assert len(set(everywhere)) == 1, "the ranks disagree"
    if is_root():
        print(everywhere[0])


if __name__ == "__main__":
    main()
