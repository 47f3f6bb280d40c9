"""The energy that velocity Verlet keeps: the total energy and the leading part of the integrator's own, bounded error.

    E~ = E + h^2 [ 1/12 v.H v - 1/24 F.F/m ] + O(h^4),    H v = -dF/dt

h is the time step, H the Hessian. E swings by O(h^2) as kinetic and potential energy are exchanged, E~ does not, so a drift
that the *forces* cause shows in E~ after a few steps already. Source: R. D. Engle, R. D. Skeel and M. Drees, J. Comput.
Phys. 206, 432 (2005).
"""

from __future__ import annotations

import numpy as np


def shadow_energy(energies, velocities, forces, masses, timestep) -> np.ndarray:
    """E~ along a trajectory of velocity Verlet, any consistent units, shape=(k,).

    Args:
        energies: Total energies E after each step, the start included, shape=(k,), k >= 3.
        velocities: Velocities at the same times, shape=(k, n, 3).
        forces: Forces at the same times, shape=(k, n, 3).
        masses: Masses, shape=(n,).
        timestep: h.
    """
    v, F = np.asarray(velocities), np.asarray(forces)
    dF_dt = np.gradient(F, timestep, axis=0, edge_order=2)
    curvature = -(v * dF_dt).sum(axis=(1, 2))
    impulse = (F**2 / np.asarray(masses)[:, None]).sum(axis=(1, 2))
    return np.asarray(energies) + timestep**2 * (curvature / 12 - impulse / 24)
