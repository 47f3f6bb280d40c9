"""Run by test_split_ranks.py under mpiexec: a study's model on split ranks, as JSON.

    mpi_split_ranks.py STUDY.yaml QUANTUM RUN.json

QUANTUM 0 shares the ranks. RUN holds keyword arguments of `run_dynamics`; without it, one evaluation.
"""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

from solidqmmm import run_dynamics
from solidqmmm.procedures.build import build_model
from solidqmmm.procedures.parallel.splitting import split_ranks
from solidqmmm.recipebook import load_study
from solidqmmm.runtime import all_ranks, is_root, world


def answer(study, options):
    with build_model(study) as model, model.open() as qmmm:
        result = None if options is None else run_dynamics(qmmm, **options)
        given = {
            "world": world().size,
            "positions": qmmm.host.positions().tolist(),
            "forces": qmmm.forces().tolist(),
            "energy": qmmm.energy(),
            "calls": None if result is None else result.n_qm_calls,
            "engine": type(model.engine).__name__,
        }
    everywhere = world().allgather(json.dumps(given))
    assert len(set(everywhere)) == 1, "the host ranks disagree"
    return given


def main(study_file, quantum, run_file=None):
    study = load_study(Path(study_file))
    options = None if run_file is None else json.loads(Path(run_file).read_text())
    with split_ranks(int(quantum)) if int(quantum) else nullcontext(False) as link:
        if link is not None:
            given = answer(study, options)
            if link:
                given["traffic"] = asdict(link.traffic)
            if is_root():
                print(json.dumps(given))
    assert world().size == all_ranks().size


if __name__ == "__main__":
    main(*sys.argv[1:])
