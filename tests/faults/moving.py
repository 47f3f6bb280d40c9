"""Dynamics alone, for the fault suite: a crystal with a quantum region and a thermostat, or a bar with a stadium.

FAULTS_KICK="STEP FILE" in the environment throws an atom out of the crystal at that step, once: where FILE is, no more.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from solidqmmm.physics.stadium import box_damping
from solidqmmm.procedures.dynamics import run_dynamics
from solidqmmm.procedures.motion.stadium_thermostat import Stadium
from solidqmmm.results.dynamics import DynamicsResult

STUDY_SECTION = "moving"


def run(*, model, steps: int = 200, stadium: bool = False, workdir=None, progress=None) -> DynamicsResult:
    """Langevin dynamics, or Newton's inside a stadium."""
    heat = {"ensemble": "langevin", "temperature_K": 300.0}
    if stadium:
        ends = box_damping(model.crystal.positions, width=8.0, gamma_max=15.0, faces=("x-", "x+"))
        heat = {"thermostat": Stadium(300.0, ends)}
    with model.open() as qmmm:
        return run_dynamics(
            qmmm, steps=steps, timestep_fs=1.0, initial_temperature_K=600.0, every=5, checkpoint_every=25,
            frame_every=10, checkpoint=Path(workdir) / "checkpoint.npz", resume=True,
            trajectory=Path(workdir) / "trajectory.xyz", callbacks=[_kick], progress=progress, seed=model.study.seed,
            **heat,
        )  # fmt: skip


def _kick(step, qmmm):
    at, _, marker = os.environ.get("FAULTS_KICK", "").partition(" ")
    if at and step == int(at) and not Path(marker).exists():
        Path(marker).touch()
        velocities = np.array(qmmm.host.velocities())
        velocities[0] = 1e6, 0.0, 0.0
        qmmm.host.set_velocities(velocities)
