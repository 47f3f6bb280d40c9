"""Run by test_split_ranks.py under mpiexec: a run whose region grows, and that asks for another division, as JSON.

    mpi_divide_anew.py FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from mpi_split_dynamics import BASE, HOT
from study_cases import write_structures

from solidqmmm import run_dynamics
from solidqmmm.physics.algebra.rank_costs import RankCost, Split
from solidqmmm.procedures.build import build_model
from solidqmmm.procedures.parallel.splitting import DivideAnew, Plan, split_ranks
from solidqmmm.rank_halves import inside
from solidqmmm.recipebook import schemas
from solidqmmm.runtime import all_ranks, is_root
from solidqmmm.system.study import Study


class Wide(Plan):
    """Wants two quantum ranks whatever is measured; it pays."""

    def better(self, quantum_ranks, *, steps_left, rebuild):
        assert rebuild > 0
        assert steps_left > 0
        return Split(2, 1, 0.0) if quantum_ranks == 1 else None

    @property
    def best(self):
        return Split(2, 1, 0.0)


class Growing:
    """Takes a wider buffer at step 4."""

    name, every = "growing", 4

    def __init__(self, model):
        self.model, self.grown = model, False

    def begin(self, run):
        if self.grown:
            wider = self.model.with_buffer(hops=2)
            run.replace_correction(wider.coupling(), wider.partition)

    def act(self, step, run):
        if not self.grown:
            self.grown = True
            self.begin(run)

    def state(self):
        return {"grown": self.grown}

    def restore(self, state):
        self.grown = bool(state["grown"])


def run(folder, name):
    with build_model(Study.from_mapping(BASE, folder=folder, schemas=schemas())) as model, model.open() as qmmm:
        result = run_dynamics(
            qmmm, **{**HOT, "steps": 20}, attendants=[Growing(model)], checkpoint=folder / f"{name}.npz", checkpoint_every=4,
            resume=True,
        )  # fmt: skip
        return qmmm.host.positions(), result


def main(folder):
    folder, everybody = Path(folder), all_ranks()
    if everybody.Get_rank() == 0:
        write_structures(folder)
    everybody.Barrier()
    mine = everybody.Split(everybody.Get_rank())
    with inside(mine):
        x0, one = run(folder, f"alone{everybody.Get_rank()}")
    plan, quantum, said = Wide(3, RankCost(0.0, 1.0), RankCost(0.0, 1.0)), 1, []
    while True:
        try:
            with split_ranks(quantum, plan=plan) as link:
                if link is not None:
                    x, other = run(folder, "split")
                    if is_root():
                        difference = float(np.abs(x - x0).max())
                        calls = [one.n_qm_calls, other.n_qm_calls]
                        answer = {"said": said, "difference": difference, "calls": calls, "split": other.split_ranks}
                        print(json.dumps(answer))
            return
        except DivideAnew as anew:
            quantum, plan = anew.plan.best.quantum, anew.plan
            said.append(anew.why)


if __name__ == "__main__":
    main(*sys.argv[1:])
