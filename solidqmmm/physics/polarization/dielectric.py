"""Macroscopic electronic dielectric constant of polarizable sites.

    eps = 1 + (4 pi/V) sum_ij [(alpha^-1 - T)^-1]_ij

with lattice sums in tin-foil surroundings, where the field that is applied is the macroscopic one. On cubic lattices of
points this is the formula of Clausius and Mossotti,

    (eps - 1)/(eps + 2) = 4 pi alpha/(3 V),

alpha the sum over the cell; damping changes the local field, and so do sites of lower than cubic symmetry (oxygen in
perovskites, say). A large sphere of volume V and total polarizability alpha has the eps of the same formula.

Sources: J. D. Jackson, Classical Electrodynamics, 3rd ed. (1999), section 4.5; M. Born and K. Huang, Dynamical Theory of
Crystal Lattices (1954), section 9.
"""

from __future__ import annotations

import numpy as np

from solidqmmm.physics.electrostatics.ewald import COULOMB
from solidqmmm.physics.polarization.induced_dipoles import InducedDipoles, PolarizableSites


def dielectric_tensor(sites: PolarizableSites) -> np.ndarray:
    """Relative permittivity of a crystal at fixed sites, shape=(3, 3). Charges do not enter.

    Raises:
        ValueError: For sites without a cell.
        PolarizationCatastrophe: If the dipoles diverge.
    """
    if sites.cell is None:
        raise ValueError(
            "a dielectric tensor needs periodic sites: give `cell` (or take a sphere's polarizability)"
        )
    volume = abs(np.linalg.det(sites.cell))
    return np.eye(3) + 4 * np.pi / volume * InducedDipoles(sites).polarizability()


def ionic_part(force_constants, effective_charges, volume: float) -> np.ndarray:
    """What ions that move add to the relative permittivity: (4 pi k/V) Z^T K^+ Z, shape=(3, 3).

    Args:
        force_constants: K at zero wave vector in eV/angstrom^2, shape=(3 n, 3 n).
        effective_charges: Z, force over macroscopic field, in e, shape=(3 n, 3).
        volume: Of the cell in angstrom^3.

    Raises:
        ValueError: If the ions are not at a minimum, but for a shift of the whole crystal.
    """
    K, Z = np.asarray(force_constants, dtype=float), np.asarray(effective_charges, dtype=float)
    n = len(K) // 3
    rigid = np.tile(np.eye(3), (n, 1)) / np.sqrt(n)
    project = np.eye(3 * n) - rigid @ rigid.T
    stiff = max(1.0, np.abs(K).max())
    values, modes = np.linalg.eigh(project @ (0.5 * (K + K.T)) @ project + 1e3 * stiff * rigid @ rigid.T)
    if values[0] <= 1e-3:
        raise ValueError(
            f"the softest force constant of the ions is {values[0]:.4f} eV/A^2: they are not at a minimum, and have no "
            "static dielectric constant"
        )
    moved = modes.T @ project @ Z
    tensor = 4 * np.pi * COULOMB / volume * (moved.T / values) @ moved
    return 0.5 * (tensor + tensor.T)


def clausius_mossotti(polarizability: float, volume: float) -> float:
    """eps of a cubic lattice, from the sum of polarizabilities in a cell, or of a sphere, from its total polarizability.

    Args:
        polarizability: In angstrom^3.
        volume: Of the cell or the sphere in angstrom^3.

    Raises:
        ValueError: Where 4 pi alpha/(3 V) is not between 0 and 1: eps has diverged before.
    """
    x = 4 * np.pi * polarizability / (3 * volume)
    if not 0 <= x < 1:
        raise ValueError(
            f"4 pi alpha/(3 V) must be between 0 and 1, got {x:g}: no dielectric is that polarizable"
        )
    return (1 + 2 * x) / (1 - x)
