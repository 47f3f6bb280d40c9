"""Run by test_split_ranks.py under mpiexec: the same dynamics on one half of the ranks and on split ranks, as JSON.

    mpi_split_dynamics.py FOLDER QUANTUM
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from study_cases import STUDIES, changed, write_structures

from solidqmmm import run_dynamics
from solidqmmm.procedures.build import build_model
from solidqmmm.procedures.motion.impulses import Respa
from solidqmmm.procedures.motion.lotf import Lotf
from solidqmmm.procedures.motion.stadium_thermostat import Stadium
from solidqmmm.procedures.parallel.splitting import split_ranks
from solidqmmm.rank_halves import inside
from solidqmmm.recipebook import schemas
from solidqmmm.runtime import all_ranks, is_root
from solidqmmm.system.study import Study

SKEWED = [[-2, 2, 2], [2, -2, 2], [2, 2, -2]]
BASE = changed(
    STUDIES["relaxation"],
    {"recipe": "single_point", "relax": None, "check": None, "supercell": [2, 2, 2], "region.buffer.hops": 1,
     "coupling": {"scheme": "subtractive"}},
)  # fmt: skip
HOT = {"steps": 12, "timestep_fs": 1.0, "every": 4, "initial_temperature_K": 600.0}
LANGEVIN = {**HOT, "ensemble": "langevin", "temperature_K": 300.0}


def kick(step, qmmm):
    """A caller that moves an atom of the region at step 4."""
    if step == 4:
        x = qmmm.host.positions()
        x[qmmm.partition.quantum[0], 0] += 0.01
        qmmm.host.set_positions(x)


def push(step, qmmm):
    """A caller that changes velocities alone at step 4: forces are known, and what was foreseen is wrong."""
    if step == 4:
        qmmm.host.set_velocities(0.9 * qmmm.host.velocities())


def stadium(model):
    outer = np.ones(len(model.crystal))
    outer[model.partition.quantum] = 0.0
    return {**HOT, "thermostat": Stadium(300.0, 5.0 * outer)}


CASES = {
    "nve": ({}, lambda model: HOT),
    "skewed": ({"structure.cell": "primitive", "supercell": SKEWED}, lambda model: HOT),
    "frozen": ({"region.frozen": {"sites": [0, 1, 2]}}, lambda model: HOT),
    "corner": (  # atoms of the region are brought back into the box
        {"defect": None, "region.centre": {"site": 0}},
        lambda model: {**HOT, "steps": 60, "every": 20, "initial_temperature_K": 1500.0},
    ),
    "langevin": ({"coupling.scheme": "force_mixing"}, lambda model: LANGEVIN),
    "stadium": ({}, stadium),
    "checkpoints": ({}, lambda model: {**LANGEVIN, "checkpoint": "checkpoint.npz", "checkpoint_every": 4}),
    "nvt": ({}, lambda model: {**LANGEVIN, "ensemble": "nvt"}),
    "kicked": ({}, lambda model: {**HOT, "callbacks": [kick]}),
    "pushed": ({}, lambda model: {**HOT, "callbacks": [push]}),
    "impulses": ({}, lambda model: {**HOT, "every": 3, "stepper": Respa(3)}),
    "learning": ({}, lambda model: {**HOT, "stepper": Lotf(4, bond_rules=model.bond_rules)}),
}


def run(folder, name):
    changes, options = CASES[name]
    study = Study.from_mapping(changed(BASE, changes), folder=folder, schemas=schemas())
    with build_model(study) as model, model.open() as qmmm:
        keywords = options(model)
        if "checkpoint" in keywords:
            keywords = {**keywords, "checkpoint": folder / f"{name}.npz"}
        result = run_dynamics(qmmm, **keywords)
        return qmmm.host.positions(), qmmm.host.velocities(), result


def main(folder, quantum, *names):
    """The reference has as many ranks as the host of the split: LAMMPS's noise depends on their number."""
    folder, names, answers = Path(folder), names or tuple(CASES), {}
    everybody = all_ranks()
    if everybody.Get_rank() == 0:
        write_structures(folder)
    everybody.Barrier()
    host = everybody.Get_size() - int(quantum)
    half = everybody.Split(int(everybody.Get_rank() < host), everybody.Get_rank())
    with inside(half):
        shared = {name: run(folder, name) for name in names} if everybody.Get_rank() < host else {}
    with split_ranks(int(quantum)) as link:
        for name in names if link is not None else ():
            (x0, v0, one), (x, v, other) = shared[name], run(folder, name)
            answers[name] = {
                "positions": float(np.abs(x - x0).max()),
                "velocities": float(np.abs(v - v0).max()),
                "calls": [one.n_qm_calls, other.n_qm_calls],
                "split": other.split_ranks,
                "summary": dict(other.summary())["split ranks"],
            }
        if link is not None and is_root():
            print(json.dumps(answers))
    run(folder, names[0])  # all ranks together once more


if __name__ == "__main__":
    main(*sys.argv[1:])
