"""Whether the ions of a polarizable crystal have a place to rest at all.

    K = d^2/dR^2 { E_host + min_mu U(mu; R) } = K_host - Z alpha^(1/2) (1 - alpha^(1/2) T alpha^(1/2))^-1 alpha^(1/2) Z^T

Dipoles always soften a lattice, Z being how the fields at them change as ions move. Two things may go wrong. The dipoles
alone diverge where alpha^-1 - T is not positive: for any periodic set the solver says so. Before that, K loses its
positive eigenvalues, first that of the transverse optical mode: in a rigid-ion potential, which was fitted without dipoles,
those of free ions may do it, and the ions run away in any relaxation. In rocksalt, with v the volume of a formula unit,

    K_TO = K_short-range - (4 pi k/3v) Z^2/(1 - 4 pi (alpha_+ + alpha_-)/3v)       (per relative displacement),

the polarization catastrophe of the ions (W. Cochran, Adv. Phys. 9, 387 (1960)).
"""

from __future__ import annotations

import numpy as np

from solidqmmm.engines.lammps_host import LammpsHost
from solidqmmm.errors import PolarizationCatastrophe
from solidqmmm.physics.geometry import perpendicular_widths, unwrapped
from solidqmmm.physics.polarization.induced_dipoles import InducedDipoles, PolarizableSites
from solidqmmm.system.charges import site_charges

WIDTH = 4.0  # angstrom
LARGEST_CELL = 64  # atoms: six force calls for each
STEP = 2e-3  # angstrom
_SOFT = 1e-2  # eV/angstrom^2; less is the noise of a cell that is nearly at rest


def require_stable_lattice(model):
    """Refuses to move the ions of a crystal whose dipoles make its lattice unstable.

    What is looked at is the unit cell of the study, repeated until it is 4 angstrom wide (a primitive cell has the optical
    modes at the zone's centre alone, and others may be softer), with all its ions polarizable. Nothing is done for other
    couplings, for crystals that are not periodic, for core-shell hosts (whose shells LAMMPS looks after) and for more than
    64 atoms.

    Args:
        model: A `procedures.build.Model`.

    Raises:
        PolarizationCatastrophe: Naming two ions, their distance, and what to do.
    """
    coupling, potential = model.study.coupling, model.potential
    alpha = getattr(coupling, "polarizabilities", None)
    if model.engine is None or not alpha or potential.shells or not np.all(model.unit.pbc):
        return
    unit = model.unit.supercell(np.ceil(WIDTH / perpendicular_widths(model.unit.cell)).astype(int))
    if len(unit) > LARGEST_CELL:
        return
    damping = None if coupling.damping == "none" else coupling.damping
    sites = PolarizableSites(
        unit.positions,
        site_charges(unit, potential),
        [alpha[symbol] for symbol in unit.symbols],
        unit.cell,
        damping,
        coupling.thole_a,
    )
    plain, polarizable = lattice_stiffness(unit, potential, sites)
    (lowest, mode), (before, _) = _softest(polarizable), _softest(plain)
    if lowest > -_SOFT or before <= 0:  # a lattice that is unstable by itself is none of the dipoles' doing
        return
    i, j, distance = _moving_apart(unit, mode)
    named = ", ".join(f"{symbol}: {value:g}" for symbol, value in alpha.items())
    raise PolarizationCatastrophe(
        f"the ions of this crystal have no place to rest with polarizabilities {{{named}}} (polarization catastrophe of the "
        f"lattice): its softest force constant is {lowest:.3f} eV/A^2 with induced dipoles and {before:.3f} eV/A^2 without; "
        f"sites {i} ({unit.symbols[i]}) and {j} ({unit.symbols[j]}), {distance:.4f} angstrom apart, move apart most. "
        "The potential was fitted without these dipoles. Cure: smaller polarizabilities, damping at a longer range (a "
        "smaller thole_a), a core-shell host (host: {model: ...}) with coupling: electrostatic, or fixed ions",
        pair=(i, j),
        distance=distance,
    )


def lattice_stiffness(unit, potential, sites: PolarizableSites) -> tuple[np.ndarray, np.ndarray]:
    """Force constants of a cell at zero wave vector without and with induced dipoles, in eV/angstrom^2, shape=(3 n, 3 n).

    Raises:
        PolarizationCatastrophe: If the dipoles alone diverge.
    """
    plain, induced = np.zeros((2, 3 * len(unit), 3 * len(unit)))
    InducedDipoles(sites).solve()
    with LammpsHost(unit, potential) as host:
        for column in range(3 * len(unit)):
            for sign in (1, -1):
                moved = unit.positions.copy()
                moved.flat[column] += sign * STEP
                host.set_positions(moved)
                dipoles = InducedDipoles(sites.with_positions(moved))
                plain[:, column] -= sign * host.forces().ravel() / (2 * STEP)
                induced[:, column] -= sign * dipoles.forces(dipoles.solve().dipoles)[0].ravel() / (2 * STEP)
    return (plain + plain.T) / 2, (plain + plain.T + induced + induced.T) / 2


def _softest(K) -> tuple[float, np.ndarray]:
    """Lowest eigenvalue and its mode, shape=(n, 3), of what does not shift the whole crystal."""
    n = len(K) // 3
    rigid = np.tile(np.eye(3), (n, 1)) / np.sqrt(n)
    project = np.eye(3 * n) - rigid @ rigid.T
    values, modes = np.linalg.eigh(project @ K @ project + 1e3 * rigid @ rigid.T)
    return float(values[0]), modes[:, 0].reshape(-1, 3)


def _moving_apart(unit, mode) -> tuple[int, int, float]:
    """Of the nearest neighbours of the atom that moves most, the one that moves against it most; their distance."""
    i = int(np.argmax(np.linalg.norm(mode, axis=1)))
    images = unwrapped(unit.positions, unit.positions[i], unit.cell, unit.pbc)
    distance = np.linalg.norm(images - unit.positions[i], axis=1)
    distance[i] = np.inf
    near = np.flatnonzero(distance < 1.2 * distance.min())
    j = int(near[np.argmax(np.linalg.norm(mode[near] - mode[i], axis=1))])
    return i, j, float(distance[j])
