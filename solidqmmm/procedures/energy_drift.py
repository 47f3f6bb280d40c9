"""Energy drift of a short run at constant energy: forces that are no gradient of the energy show as a slope.

    drift = d(E_potential + E_kinetic)/dt / n,    n the number of atoms that move

The run starts from positions and velocities of the host alone in thermal motion, which cost no engine call. (From ideal
positions all atoms would swing in phase, and the first half period of the integrator's own bounded error, in silicon 3
meV/atom/ps over 20 fs at steps of 1 fs, would pass for a drift; some 0.5 are left so.) Only the region and the host
within `REACH` of it move, so that the answer does not depend on the size of the crystal, over which a drift per atom would
be diluted.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from solidqmmm.coupling.qmmm import QMMM
from solidqmmm.errors import RegionError
from solidqmmm.procedures.build import Model
from solidqmmm.procedures.dynamics import run_dynamics
from solidqmmm.procedures.select import grown_by_radius
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
    """Total energy of `model` over a run at constant energy, and the reason where there is none.

    Args:
        model: A model with a quantum region.
        steps: Number of time steps, one engine call each.
        timestep_fs: Time step, fs.
        temperature_K: Temperature of the thermal motion at the start, K.
        threshold: What the drift is held against, meV/atom/ps.
        progress: Called with a message after each step.
    """
    coupling, seed = model.coupling(), model.study.seed
    if not coupling.has_energy:
        return None, f"the coupling '{coupling.name}' has forces that are not the gradient of an energy"
    partition = model.partition.with_frozen(_held(model, coupling.atoms))
    with QMMM(model.crystal, model.potential, partition=partition) as host:
        run_dynamics(
            host,
            steps=WARM_UP_STEPS,
            timestep_fs=1.0,
            ensemble="langevin",
            temperature_K=temperature_K,
            initial_temperature_K=2 * temperature_K,  # half of it becomes potential energy
            every=WARM_UP_STEPS,
            seed=seed,
        )
        positions, velocities = host.host.positions(), host.host.velocities()
    with QMMM(model.crystal, model.potential, coupling, partition=partition) as hybrid:
        hybrid.host.set_positions(positions)
        hybrid.host.set_velocities(velocities)
        run = run_dynamics(
            hybrid,
            steps=steps,
            timestep_fs=timestep_fs,
            every=1,
            progress=lambda done, total, message: progress(
                f"energy drift, step {done} of {total}, {message}"
            ),
        )
    return EnergyDrift(
        times_fs=run.times_fs,
        total_energy_eV=run.total_energy_eV,
        n_atoms=len(model.crystal) - len(partition.frozen),
        timestep_fs=timestep_fs,
        temperature_K=temperature_K,
        threshold_meV_per_atom_per_ps=threshold,
    ), None


def _held(model: Model, region) -> np.ndarray:
    """Atoms farther than `REACH` from the region; none where the crystal is too small for that."""
    try:
        near = grown_by_radius(model.crystal, region, REACH)
    except RegionError:
        return np.empty(0, dtype=int)
    return np.setdiff1d(np.arange(len(model.crystal)), near)
