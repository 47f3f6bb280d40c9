"""What a charged defect's energy in a periodic cell lacks, from the cell's shape and the dielectric tensor alone.

    E(cell) = E_inf + E_pc + B/V + ...,    E_pc = -alpha q^2 k/(2 eps V^(1/3))    (see `madelung`)

Signs: E is what a supercell calculation gives; E_pc is negative in compact cells, where the charge and its background
attract; what is added to E to correct it has the opposite sign. eps means (det eps)^(1/3) where it is a tensor.

The *effective length* of a cell is that of the simple cubic one with the same E_pc, so that cells of all shapes lie on one
line A/L with A = -2.8373 q^2 k/(2 eps):   1/L_eff = -2 eps E_pc(q=1)/(2.8373 k). It is negative in cells so long that E_pc
is positive.

B comes from the spread of the charge, in the cell's uniform background of density -q/V: for a localized charge of second
radial moment Q = integral of rho r^2 (a Gaussian has 3 q sigma^2),   B = 2 pi k q Q/(3 eps). In an anisotropic medium B also
depends, weakly, on the shape of the cell.

Sources: G. Makov and M. C. Payne, Phys. Rev. B 51, 4014 (1995); S. Lany and A. Zunger, Phys. Rev. B 78, 235104 (2008),
Modelling Simul. Mater. Sci. Eng. 17, 084002 (2009).
"""

from __future__ import annotations

import numpy as np
from ase.geometry import minkowski_reduce

from solidqmmm.physics.electrostatics.ewald import COULOMB
from solidqmmm.physics.madelung import madelung_constant, point_charge_energy

SIMPLE_CUBIC = 2.837297479480619  # alpha of the simple cubic lattice


def mean_dielectric(dielectric) -> float:
    """(det eps)^(1/3)."""
    return float(np.cbrt(np.linalg.det(dielectric_tensor(dielectric))))


def dielectric_tensor(dielectric) -> np.ndarray:
    """A number or a tensor as a tensor, shape=(3, 3).

    Raises:
        ValueError: If it is not symmetric and positive definite, naming the eigenvalue, or of another shape.
    """
    tensor = np.array(dielectric, dtype=float)
    if tensor.ndim == 0:
        tensor = tensor * np.eye(3)
    if tensor.shape != (3, 3) or not np.isfinite(tensor).all():
        raise ValueError(f"`dielectric` must be a number or a 3 x 3 tensor, got {np.asarray(dielectric).tolist()}")
    if not np.allclose(tensor, tensor.T, rtol=1e-6, atol=1e-9):
        raise ValueError(f"`dielectric` must be symmetric, got {tensor.tolist()}; take the mean of it and its transpose")
    lowest = float(np.linalg.eigvalsh(tensor)[0])
    if lowest <= 0:
        raise ValueError(f"`dielectric` must be positive definite, but has the eigenvalue {lowest:g}: {tensor.tolist()}")
    return tensor


def inverse_effective_length(cell, dielectric=1.0) -> float:
    """1/L_eff of the module's text in 1/angstrom; 1/L for a cubic cell of edge L in an isotropic medium.

    Args:
        cell: Cell vectors as rows in angstrom, shape=(3, 3).
        dielectric: Relative permittivity, a number or shape=(3, 3).
    """
    tensor = dielectric_tensor(dielectric)
    return float(-2 * mean_dielectric(tensor) * point_charge_energy(1.0, cell, tensor) / (SIMPLE_CUBIC * COULOMB))


def leading_coefficient(charge: float, dielectric) -> float:
    """A of E = E_inf + A/L_eff in eV angstrom; negative."""
    return float(-SIMPLE_CUBIC * charge**2 * COULOMB / (2 * mean_dielectric(dielectric)))


def second_moment_coefficient(charge: float, second_moment: float, dielectric) -> float:
    """B of E = E_inf + A/L_eff + B/V in eV angstrom^3, for a second radial moment Q in e angstrom^2."""
    return float(2 * np.pi * COULOMB * charge * second_moment / (3 * mean_dielectric(dielectric)))


def wigner_seitz_second_moment(cell, n: int = 48) -> float:
    """Mean of r^2 over the Wigner-Seitz cell in angstrom^2, by n^3 points brought to their nearest images."""
    reduced, _ = minkowski_reduce(np.asarray(cell, dtype=float))
    f = (np.arange(n) + 0.5) / n - 0.5
    points = np.stack(np.meshgrid(f, f, f, indexing="ij"), axis=-1).reshape(-1, 3) @ reduced
    shifts = np.stack(np.meshgrid(*[(-1, 0, 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) @ reduced
    nearest = np.full(len(points), np.inf)
    for shift in shifts:
        nearest = np.minimum(nearest, ((points + shift) ** 2).sum(axis=1))
    return float(nearest.mean())


def lany_zunger_correction(charge: float, cell, dielectric) -> float:
    """What is added to E in eV: -E_pc [1 + c (1 - 1/eps)], c = -(4 pi/3) <r^2>_WS / (alpha V^(2/3)).

    c is -0.369 for simple cubic, -0.343 for fcc and -0.342 for bcc supercells: the screening charge that a defect takes from
    the rest of the cell is spread evenly over it.
    """
    cell = np.asarray(cell, dtype=float)
    tensor = dielectric_tensor(dielectric)
    shape = -4 * np.pi / 3 * wigner_seitz_second_moment(cell) / abs(np.linalg.det(cell)) ** (2 / 3)
    shape /= madelung_constant(cell)
    return float(-point_charge_energy(charge, cell, tensor) * (1 + shape * (1 - 1 / mean_dielectric(tensor))))
