"""Dielectric tensors of ions that carry induced dipoles: electronic, and static where the ions move.

    E(R; F) = E_host(R) + E_pol(R; F) - sum_i q_i F.R_i
    eps_static = eps_electronic + (4 pi k/V) Z^T K^+ Z,    Z = d(force)/dF,    K = -d(force)/dR

by linear response of one unit cell in tin-foil surroundings, where the field F that is applied is the macroscopic one. The
host has the short-range terms and the Coulomb energy of the ions, E_pol is that of `physics.induced_dipoles`. For rock salt
without damping these are Szigeti's relations: Z = z (eps + 2)/3, K = S - (4 pi k z^2/3V) (eps + 2)/3, eps the electronic
constant and S the curvature of the short-range terms.

Sources: M. Born and K. Huang, Dynamical Theory of Crystal Lattices (1954), section 9; B. Szigeti, Trans. Faraday Soc.
45, 155 (1949).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from solidqmmm.errors import SolidQMMMError
from solidqmmm.physics.polarization.dielectric import dielectric_tensor, ionic_part
from solidqmmm.physics.polarization.induced_dipoles import InducedDipoles, PolarizableSites
from solidqmmm.system.charges import site_charges

_FIELD = 5e-3  # V/angstrom
_STEP = 1e-3  # angstrom
_AT_REST = 0.05  # eV/angstrom


def dipole_dielectric(unit, potential, sites: PolarizableSites) -> tuple[np.ndarray, np.ndarray]:
    """Electronic and static dielectric tensor of a crystal, shape=(3, 3) each.

    Args:
        unit: Its unit cell, at rest under host and dipoles together.
        potential: The host's potential; ions with shells are polarizable already, and have none here.
        sites: Polarizabilities and damping; positions and cell are those of `unit`, charges those of the host.

    Raises:
        SolidQMMMError: If the ions are not at rest, or not at a minimum.
        PolarizationCatastrophe: If the dipoles diverge.
    """
    from solidqmmm.engines.lammps_host import LammpsHost

    n, charges = len(unit), site_charges(unit, potential)
    sites = replace(sites, charges=charges)
    with LammpsHost(unit, potential) as host:

        def forces(positions, field):
            host.set_positions(positions)
            dipoles = InducedDipoles(sites.with_positions(positions))
            induced = dipoles.solve(np.tile(field, (n, 1))).dipoles
            return (host.forces() + dipoles.forces(induced)[0] + np.outer(charges, field)).ravel()

        left = np.abs(forces(unit.positions, np.zeros(3))).max()
        if left > _AT_REST:
            raise SolidQMMMError(
                f"the unit cell with its dipoles is not at rest: forces up to {left:.3f} eV/A; relax it first, or give "
                "`dielectric`"
            )
        Z, K = np.zeros((3 * n, 3)), np.zeros((3 * n, 3 * n))
        for axis, field in enumerate(_FIELD * np.eye(3)):
            Z[:, axis] = (forces(unit.positions, field) - forces(unit.positions, -field)) / (2 * _FIELD)
        for column, move in enumerate(_STEP * np.eye(3 * n)):
            ahead, back = (
                forces(unit.positions + sign * move.reshape(n, 3), np.zeros(3)) for sign in (1, -1)
            )
            K[:, column] = (back - ahead) / (2 * _STEP)
    electronic = dielectric_tensor(sites)
    try:
        return electronic, electronic + ionic_part(K, Z, unit.volume)
    except ValueError as error:
        raise SolidQMMMError(f"{error}; relax the unit cell, or give `dielectric`") from None
