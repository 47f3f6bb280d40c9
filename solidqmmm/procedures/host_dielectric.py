"""Dielectric tensor of a model's host: of its shells or polarizabilities, and of its ions.

    eps = 1 + (4 pi k/V) dp/dE + (4 pi k/V) Z^T K^+ Z,    Z = dF/dE,    K = -dF/dR

by linear response of one unit cell in tin-foil surroundings, where the field that is applied is the macroscopic one: p is
the cell's dipole with fixed ions (shells at rest), Z its ions' effective charges, K its force constants at zero wave vector.
The last term belongs to ions that move.

Source: M. Born and K. Huang, Dynamical Theory of Crystal Lattices (1954), section 9.
"""

from __future__ import annotations

import numpy as np

from solidqmmm.errors import SolidQMMMError
from solidqmmm.physics.dielectric import dielectric_tensor
from solidqmmm.physics.ewald import COULOMB
from solidqmmm.physics.induced_dipoles import PolarizableSites

FIELD = 5e-3  # V/angstrom
STEP = 1e-3  # angstrom
_LARGEST_CELL = 200  # atoms; a Hessian by finite differences of more is no unit cell's
_AT_REST = 0.05  # eV/angstrom


def model_dielectric(model, ions: str) -> tuple[np.ndarray | None, str]:
    """The constant with which the host of a model screens a charge, and what it is in words (or why there is none).

    Args:
        model: A `procedures.build.Model`.
        ions: 'fixed' or 'relaxed'.
    """
    if model.engine_alone:
        return None, "an engine alone does not tell it: give `dielectric`"
    unit = model.unit
    if len(unit) > _LARGEST_CELL:
        return None, f"the unit cell has {len(unit)} atoms: give `dielectric`"
    alpha = getattr(model.study.coupling, "polarizabilities", None) if model.engine is not None else None
    if alpha is not None:
        if ions == "relaxed":
            return None, "that of induced dipoles and ions together is not computed: give `dielectric`"
        polarizabilities = [alpha.get(symbol, 0.0) for symbol in unit.symbols]
        damping = None if model.study.coupling.damping == "none" else model.study.coupling.damping
        sites = PolarizableSites(
            unit.positions, np.zeros(len(unit)), polarizabilities, unit.cell, damping, model.study.coupling.thole_a
        )
        return dielectric_tensor(sites), "of the induced dipoles"
    if not model.potential.has_coulomb:
        return None, "the host has no charges"
    electronic, static = host_dielectric(unit, model.potential, ions=ions == "relaxed")
    if ions == "fixed":
        return electronic, "of the shells" if model.potential.shells else "of ions that do not move"
    return static, "of shells and ions" if model.potential.shells else "of the ions"


def host_dielectric(unit, potential, *, ions: bool = True) -> tuple[np.ndarray, np.ndarray | None]:
    """High-frequency and static dielectric tensor of a host's crystal, shape=(3, 3).

    Args:
        unit: Its unit cell, at rest.
        potential: The host's potential.
        ions: Whether the ions' part is computed; the static tensor is None without.

    Raises:
        SolidQMMMError: If the ions are not at a minimum.
    """
    from solidqmmm.engines.lammps_host import LammpsHost

    n, V = len(unit), unit.volume
    with LammpsHost(unit, potential) as host:
        start = unit.positions.copy()

        def dipole_and_forces(axis, sign):
            field = host.session.rotation.T @ (sign * FIELD * np.eye(3)[axis])  # in LAMMPS's frame
            host.command(f"fix solidqmmm_field all efield {field[0]:.16g} {field[1]:.16g} {field[2]:.16g}")
            host.forget()
            forces = host.forces().copy()
            shells = host.shell_positions() - start[host.shell_owner] if len(host.shell_owner) else np.zeros((0, 3))
            shells = _nearest(shells, unit.cell)
            host.command("unfix solidqmmm_field")
            return host.shell_charges() @ shells if len(shells) else np.zeros(3), forces

        if np.abs(host.forces()).max() > _AT_REST:
            raise SolidQMMMError(
                f"the unit cell is not at rest: forces up to {np.abs(host.forces()).max():.3f} eV/A; relax it first, or "
                "give `dielectric`"
            )
        response, Z = np.zeros((3, 3)), np.zeros((3 * n, 3))
        for axis in range(3):
            (up, f_up), (down, f_down) = dipole_and_forces(axis, 1), dipole_and_forces(axis, -1)
            response[:, axis] = (up - down) / (2 * FIELD)
            Z[:, axis] = (f_up - f_down).ravel() / (2 * FIELD)
        electronic = _symmetric(np.eye(3) + 4 * np.pi * COULOMB / V * response)
        if not ions:
            return electronic, None
        host.forget()
        K = np.zeros((3 * n, 3 * n))
        for column in range(3 * n):
            f = []
            for sign in (1, -1):
                moved = start.copy()
                moved.flat[column] += sign * STEP
                host.set_positions(moved)
                f.append(host.forces().ravel())
            K[:, column] = -(f[0] - f[1]) / (2 * STEP)
    K = 0.5 * (K + K.T)
    rigid = np.tile(np.eye(3), (n, 1)) / np.sqrt(n)  # the whole crystal shifted
    project = np.eye(3 * n) - rigid @ rigid.T
    values, modes = np.linalg.eigh(project @ K @ project + 1e3 * rigid @ rigid.T)
    if values[0] <= 1e-3:
        raise SolidQMMMError(
            f"the unit cell is not at a minimum: its softest force constant is {values[0]:.4f} eV/A^2, so its ions have no "
            "static dielectric constant; relax it (structure: {lattice: host}), or give `dielectric`"
        )
    moved = modes.T @ project @ Z
    return electronic, _symmetric(electronic + 4 * np.pi * COULOMB / V * (moved.T / values) @ moved)


def _nearest(vectors, cell):
    shifts = np.rint(vectors @ np.linalg.inv(cell))
    return vectors - shifts @ cell


def _symmetric(tensor):
    return np.round(0.5 * (tensor + tensor.T), 6) + 0.0  # steps and shells at rest are good to 1e-7
