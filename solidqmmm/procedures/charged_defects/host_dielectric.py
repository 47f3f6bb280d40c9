"""Dielectric tensor of a model's host: of its shells or polarizabilities, and of its ions.

    eps = 1 + (4 pi k/V) dp/dE + (4 pi k/V) Z^T u,    u = dR/dE = K^+ Z,    Z = dF/dE,    K = -dF/dR

by linear response of one unit cell in tin-foil surroundings, where the field that is applied is the macroscopic one: p is
the cell's dipole with fixed ions (shells at rest), Z its ions' effective charges, K its force constants at zero wave vector.
The last term belongs to ions that move.

Source: M. Born and K. Huang, Dynamical Theory of Crystal Lattices (1954), section 9.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from solidqmmm.errors import SolidQMMMError
from solidqmmm.physics.electrostatics.ewald import COULOMB
from solidqmmm.physics.polarization.dielectric import dielectric_tensor
from solidqmmm.physics.polarization.induced_dipoles import PolarizableSites
from solidqmmm.procedures.charged_defects.dipole_dielectric import dipole_dielectric

FIELD = 5e-3  # V/angstrom
STEP = 1e-3  # angstrom
_LARGEST_CELL = 200  # atoms; a Hessian by finite differences of more is no unit cell's
_AT_REST = 0.05  # eV/angstrom


def model_dielectric(model, ions: str) -> tuple[np.ndarray | None, str]:
    """The constant with which the host of a model screens a charge, and what it is in words (or why there is none).

    Args:
        model: A `procedures.build.Model`.
        ions: 'fixed' or 'relaxed'.

    Returns:
        Relative permittivity, shape=(3, 3), or None; words.
    """
    if model.engine_alone:
        return None, "an engine alone does not tell it: give `dielectric`"
    unit = model.unit
    if len(unit) > _LARGEST_CELL:
        return None, f"the unit cell has {len(unit)} atoms: give `dielectric`"
    alpha = getattr(model.study.coupling, "polarizabilities", None) if model.engine is not None else None
    if alpha is not None:
        polarizabilities = [alpha.get(symbol, 0.0) for symbol in unit.symbols]
        damping = None if model.study.coupling.damping == "none" else model.study.coupling.damping
        sites = PolarizableSites(
            unit.positions, np.zeros(len(unit)), polarizabilities, unit.cell, damping, model.study.coupling.thole_a
        )
        if ions == "relaxed":
            return dipole_dielectric(unit, model.potential, sites)[1], "of the induced dipoles and the ions"
        return dielectric_tensor(sites), "of the induced dipoles"
    if not model.potential.has_coulomb:
        return None, "the host has no charges"
    electronic, static = host_dielectric(unit, model.potential, ions=ions == "relaxed")
    if ions == "fixed":
        return electronic, "of the shells" if model.potential.shells else "of ions that do not move"
    return static, "of shells and ions" if model.potential.shells else "of the ions"


@dataclass(frozen=True, eq=False)
class HostResponse:
    """What a macroscopic field does to the crystal of a host.

    Attributes:
        electronic: Relative permittivity with fixed ions, shape=(3, 3).
        static: With ions that move, shape=(3, 3); None where they were not asked for.
        atoms: Displacements of the atoms over the field in angstrom per V/angstrom, their mean zero, shape=(n, 3, 3); zero
            without `static`.
        shells: Of the shells, those of their atoms included, shape=(m, 3, 3).
        shell_offset: Largest distance of a shell from its core without field, angstrom.
        max_force: Largest component of a force on an atom without field, eV/angstrom.
    """

    electronic: np.ndarray
    static: np.ndarray | None
    atoms: np.ndarray
    shells: np.ndarray
    shell_offset: float
    max_force: float

    def __post_init__(self):
        for name in ("electronic", "static", "atoms", "shells"):
            if getattr(self, name) is not None:
                getattr(self, name).flags.writeable = False


def host_dielectric(unit, potential, *, ions: bool = True) -> tuple[np.ndarray, np.ndarray | None]:
    """High-frequency and static relative permittivity of a host's crystal, shape=(3, 3).

    Arguments and errors are those of `host_response`; the static tensor is None without `ions`.
    """
    found = host_response(unit, potential, ions=ions)
    return found.electronic, found.static


@lru_cache(maxsize=4)
def host_response(unit, potential, *, ions: bool = True) -> HostResponse:
    """What a macroscopic field does to the crystal of a host: where its atoms and shells go, and how it screens.

    The answer for one `unit` is remembered: it costs six evaluations for each atom.

    Args:
        unit: Its unit cell, at rest.
        potential: The host's potential.
        ions: Whether the ions' part is computed.

    Raises:
        SolidQMMMError: If the ions are not at a minimum.
    """
    from solidqmmm.engines.lammps_host import LammpsHost

    n, V = len(unit), unit.volume
    with LammpsHost(unit, potential) as host:
        start, owner = unit.positions.copy(), host.shell_owner
        rest = _shells_from_cores(host, unit)

        def shells_and_forces(axis, sign):
            field = host.session.rotation.T @ (sign * FIELD * np.eye(3)[axis])  # in LAMMPS's frame
            host.command(f"fix solidqmmm_field all efield {field[0]:.16g} {field[1]:.16g} {field[2]:.16g}")
            host.forget()
            forces, shells = host.forces().copy(), _shells_from_cores(host, unit)
            host.command("unfix solidqmmm_field")
            host.forget()
            return shells, forces

        max_force = float(np.abs(host.forces()).max())
        if max_force > _AT_REST:
            raise SolidQMMMError(
                f"the unit cell is not at rest: forces up to {max_force:.3f} eV/A; relax it first (structure: "
                "{lattice: host}), or give `dielectric`"
            )
        shells, Z = np.zeros((len(owner), 3, 3)), np.zeros((3 * n, 3))
        for axis in range(3):
            (up, f_up), (down, f_down) = shells_and_forces(axis, 1), shells_and_forces(axis, -1)
            shells[:, :, axis] = (up - down) / (2 * FIELD)
            Z[:, axis] = (f_up - f_down).ravel() / (2 * FIELD)
        response = np.einsum("m,mab->ab", host.shell_charges(), shells)
        electronic = _symmetric(np.eye(3) + 4 * np.pi * COULOMB / V * response)
        offset = float(np.linalg.norm(rest, axis=1).max(initial=0.0))
        if not ions:
            return HostResponse(electronic, None, np.zeros((n, 3, 3)), shells, offset, max_force)
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
        u = _solved(K, Z)
        # In the field with the atoms where it takes them, the shells say where they go.
        for axis in range(3):
            d = []
            for sign in (1, -1):
                host.set_positions(start + sign * FIELD * u[:, axis].reshape(n, 3))
                d.append(shells_and_forces(axis, sign)[0])
            shells[:, :, axis] = (d[0] - d[1]) / (2 * FIELD)
    atoms = u.reshape(n, 3, 3)
    static = _symmetric(electronic + 4 * np.pi * COULOMB / V * Z.T @ u)
    return HostResponse(electronic, static, atoms, shells + atoms[owner], offset, max_force)


def _solved(K, Z) -> np.ndarray:
    """K^+ Z, the whole crystal not shifted."""
    n = len(K) // 3
    K = 0.5 * (K + K.T)
    rigid = np.tile(np.eye(3), (n, 1)) / np.sqrt(n)  # the whole crystal shifted
    project = np.eye(3 * n) - rigid @ rigid.T
    values, modes = np.linalg.eigh(project @ K @ project + 1e3 * rigid @ rigid.T)
    if values[0] <= 1e-3:
        raise SolidQMMMError(
            f"the unit cell is not at a minimum: its softest force constant is {values[0]:.4f} eV/A^2, so its ions have no "
            "static dielectric constant; relax it (structure: {lattice: host}), or give `dielectric`"
        )
    return project @ modes @ ((modes.T @ project @ Z) / values[:, None])


def _shells_from_cores(host, unit) -> np.ndarray:
    """Displacements of the shells from their atoms in angstrom, shape=(m, 3)."""
    if not len(host.shell_owner):
        return np.zeros((0, 3))
    return _nearest(host.shell_positions() - host.positions()[host.shell_owner], unit.cell)


def _nearest(vectors, cell):
    shifts = np.rint(vectors @ np.linalg.inv(cell))
    return vectors - shifts @ cell


def _symmetric(tensor):
    return np.round(0.5 * (tensor + tensor.T), 6) + 0.0  # steps and shells at rest are good to 1e-7
