"""Run by test_mpi_hybrids.py, alone or under mpiexec: the answers of hybrid crystals and a short relaxation, as JSON."""

from __future__ import annotations

import json
from dataclasses import replace

from hybrids import FORCE_MIXING, SUBTRACTIVE, TERSOFF

from solidqmmm.procedures.relax import relax
from solidqmmm.runtime import is_root, world

CASES = {
    "subtractive": SUBTRACTIVE["caps of fixed length"],
    "triclinic line": SUBTRACTIVE["triclinic, periodic line and matching"],
    "ghost": SUBTRACTIVE["ghost forces"],
    "mixing": FORCE_MIXING["smooth"],
}


def main():
    answers = {}
    for name, hybrid in CASES.items():
        with hybrid.open() as qmmm:
            stress = qmmm.stress()
            answers[name] = {
                "energy": qmmm.energy(),
                "forces": qmmm.forces().tolist(),
                "stress": None if stress is None else stress.tolist(),
            }
    with replace(CASES["subtractive"], expensive=TERSOFF).open() as qmmm:
        outcome = relax(qmmm, fmax=0.02, max_qm_calls=30)
        answers["relaxed"] = {
            "energy": qmmm.energy(),
            "forces": qmmm.forces().tolist(),
            "stress": qmmm.stress().tolist(),
            "converged": outcome.converged,
        }
    everywhere = world().allgather(json.dumps(answers))
    assert len(set(everywhere)) == 1, "the ranks disagree"
    if is_root():
        print(json.dumps({"ranks": world().size, **answers}))


if __name__ == "__main__":
    main()
