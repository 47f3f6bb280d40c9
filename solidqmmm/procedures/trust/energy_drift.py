"""Energy drift of a short run at constant energy: forces that are no gradient of the energy show as a slope.

    drift = dE~/dt / n,    n the number of atoms that move

E~ is the total energy without the integrator's own bounded error (physics/heat/shadow_energy), whose first half period would
pass for a drift of some meV/atom/ps in a run of 20 steps. (In silicon at 300 K exact forces show 0.002, and forces 5 % off
the gradient 2.) Positions and velocities at the start come from thermal motion of the host alone, which costs no engine
call. Only the region and the host within `REACH` of it move, so that the answer does not depend on the size of the crystal,
over which a drift per atom would be diluted.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ase import units

from solidqmmm.coupling.qmmm import QMMM
from solidqmmm.errors import RegionError
from solidqmmm.physics.heat.shadow_energy import shadow_energy
from solidqmmm.procedures.build import Model
from solidqmmm.procedures.building.select import grown_by_radius
from solidqmmm.procedures.dynamics import run_dynamics
from solidqmmm.results.boundary import EnergyDrift

REACH = 3.0  # angstrom
WARM_UP_STEPS = 500  # of 1 fs


def energy_drift(
    model: Model,
    *,
    steps: int,
    timestep_fs: float,
    temperature_K: float,
    threshold: float,
    progress: Callable[[str], None],
) -> tuple[EnergyDrift | None, str | None]:
    """Total energy (E~) of `model` over a run at constant energy, and the reason where there is none.

    Args:
        model: A model with a quantum region.
        steps: Number of time steps (at least 2), one engine call each.
        timestep_fs: Time step, fs.
        temperature_K: Temperature of the thermal motion at the start, K.
        threshold: What the drift is held against, meV/atom/ps.
        progress: Called with a message after each step.
    """
    coupling = model.coupling()
    if not coupling.has_energy:
        return None, f"the coupling '{coupling.name}' has forces that are not the gradient of an energy"
    crystal = model.crystal
    partition = model.partition.with_frozen(_held(model, coupling.atoms))
    mobile = np.setdiff1d(np.arange(len(crystal)), partition.frozen)
    with QMMM(crystal, model.potential, partition=partition) as host:
        # No thermostat: the noise of Langevin's would depend on the number of MPI ranks.
        run_dynamics(
            host,
            steps=WARM_UP_STEPS,
            timestep_fs=1.0,
            initial_temperature_K=2 * temperature_K,  # half of it becomes potential energy
            every=WARM_UP_STEPS,
            seed=model.study.seed,
        )
        positions, velocities = host.host.positions(), host.host.velocities()

    path = _Path(mobile)
    with QMMM(crystal, model.potential, coupling, partition=partition) as hybrid:
        hybrid.host.set_positions(positions)
        hybrid.host.set_velocities(velocities)
        run = run_dynamics(
            hybrid,
            steps=max(2, steps),
            timestep_fs=timestep_fs,
            every=1,
            callbacks=[path],
            progress=lambda done, total, message: progress(
                f"energy drift, step {done} of {total}, {message}"
            ),
        )
    by_symbol = dict(zip(model.potential.species, model.potential.masses(), strict=True))
    masses = [by_symbol[crystal.symbols[atom]] for atom in mobile]
    energy = shadow_energy(run.total_energy_eV, path.velocities, path.forces, masses, timestep_fs * units.fs)
    return EnergyDrift(
        times_fs=run.times_fs,
        total_energy_eV=energy,
        n_atoms=len(mobile),
        timestep_fs=timestep_fs,
        temperature_K=temperature_K,
        threshold_meV_per_atom_per_ps=threshold,
    ), None


class _Path:
    """Callback of `run_dynamics`: velocities (ASE's units) and forces (eV/angstrom) of the atoms that move, step by step."""

    def __init__(self, atoms):
        self.atoms = atoms
        self.velocities, self.forces = [], []

    def __call__(self, _step, qmmm: QMMM):
        self.velocities.append(qmmm.host.velocities()[self.atoms] / (1000 * units.fs))
        self.forces.append(qmmm.forces()[self.atoms])


def _held(model: Model, region) -> np.ndarray:
    """Atoms farther than `REACH` from the region; none where the crystal is too small for that."""
    try:
        near = grown_by_radius(model.crystal, region, REACH)
    except RegionError:
        return np.empty(0, dtype=int)
    return np.setdiff1d(np.arange(len(model.crystal)), near)
