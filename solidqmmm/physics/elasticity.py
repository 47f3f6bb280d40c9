"""Finite strain, finite stress, and the figures of an elastic tensor that depend on direction.

A homogeneous deformation takes x to F x. Strain, stress and elastic constants of the reference belong together as

    E = (F^T F - 1)/2,   S = det(F) F^-1 sigma F^-T = dU/dE,   C_ijkl = dS_ij/dE_kl = d2U/dE_ij dE_kl,

with U the energy per volume of the reference, sigma the Cauchy stress (tension positive). C has the full symmetry of an
elastic tensor at any stress of the reference, the derivative of sigma has not (`stress_strain_tensor`). Voigt order is
xx yy zz yz xz xy, with factor 2 on shear strains and none on stresses.

Source: D. C. Wallace, Solid State Physics 25, 301 (1970).
"""

from __future__ import annotations

import numpy as np

from solidqmmm.physics.symmetry.crystal_symmetry import VOIGT

_PLACE = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])  # of the pair (i, j) in Voigt order


def require_deformation(F) -> np.ndarray:
    """The deformation gradient F, dimensionless, as an array, shape=(3, 3).

    Raises:
        ValueError: Unless F is a finite 3x3 matrix with a positive determinant.
    """
    F = np.asarray(F, dtype=float)
    if F.shape != (3, 3) or not np.isfinite(F).all():
        raise ValueError(f"a deformation must be a finite matrix of shape (3, 3), got {F.tolist()}")
    if np.linalg.det(F) <= 0:
        raise ValueError(
            f"singular deformation: det F must be positive, got {np.linalg.det(F):.6g} for F = {F.tolist()}"
        )
    return F


def green_lagrange(F) -> np.ndarray:
    """E = (F^T F - 1)/2, which no rotation R F changes, shape=(3, 3).

    Raises:
        ValueError: If F is no deformation (`require_deformation`).
    """
    F = require_deformation(F)
    return (F.T @ F - np.eye(3)) / 2


def stretch_for(strain) -> np.ndarray:
    """The symmetric F with the Green-Lagrange strain E: F = (1 + 2 E)^(1/2), shape=(3, 3).

    Raises:
        ValueError: If E is not symmetric and finite, or 1 + 2 E is not positive definite (no deformation has that strain).
    """
    E = np.asarray(strain, dtype=float)
    if E.shape != (3, 3) or not np.allclose(E, E.T, rtol=0, atol=1e-12):  # NaN is equal to nothing
        raise ValueError(
            f"a Green-Lagrange strain must be a symmetric matrix of shape (3, 3), got {E.tolist()}"
        )
    values, vectors = np.linalg.eigh(np.eye(3) + (E + E.T))
    if values.min() <= 0:
        raise ValueError(
            f"singular deformation: 1 + 2 E must be positive definite, got the eigenvalue {values.min():.6g} "
            f"for the Green-Lagrange strain E = {E.tolist()}; take a smaller amplitude"
        )
    return (vectors * np.sqrt(values)) @ vectors.T


def second_piola_kirchhoff(cauchy, F) -> np.ndarray:
    """S = det(F) F^-1 sigma F^-T in the unit of sigma, per area of the reference, shape=(3, 3).

    Args:
        cauchy: Cauchy stress of the deformed crystal, tension positive, shape=(3, 3).
        F: Deformation from the reference, shape=(3, 3).

    Raises:
        ValueError: If F is no deformation (`require_deformation`).
    """
    F = require_deformation(F)
    back = np.linalg.inv(F)
    return np.linalg.det(F) * back @ np.asarray(cauchy) @ back.T


def cauchy_stress(second_piola_kirchhoff, F) -> np.ndarray:
    """sigma = F S F^T / det(F), the inverse of `second_piola_kirchhoff`, shape=(3, 3).

    Raises:
        ValueError: If F is no deformation (`require_deformation`).
    """
    F = require_deformation(F)
    return F @ np.asarray(second_piola_kirchhoff) @ F.T / np.linalg.det(F)


def stress_strain_tensor(C, cauchy) -> np.ndarray:  # cite: barron1965stress
    """B_ijkl = d sigma_ij / d eps_kl for a small strain eps without rotation from a state under stress, shape=(6, 6).

    From sigma = F S F^T / det F with F = 1 + eps,

        B_ijkl = C_ijkl + [s_ik d_jl + s_jk d_il + s_il d_jk + s_jl d_ik - 2 s_ij d_kl] / 2.

    The last term is the change of volume, hence carries the indices of the strain; B_ijkl = B_klij holds under pressure
    only. Sources: T. H. K. Barron and M. L. Klein, Proc. Phys. Soc. 85, 523 (1965); D. C. Wallace, Solid State Physics 25,
    301 (1970).

    Args:
        C: d2U/dE2 at this state and per its volume (Voigt), shape=(6, 6).
        cauchy: Stress s of this state in the unit of C, tension positive, shape=(3, 3).
    """
    s, d = np.asarray(cauchy, dtype=float), np.eye(3)
    B = np.array(C, dtype=float)
    for row, (i, j) in enumerate(VOIGT):
        for column, (k, m) in enumerate(VOIGT):
            turned = s[i, k] * d[j, m] + s[j, k] * d[i, m] + s[i, m] * d[j, k] + s[j, m] * d[i, k]
            B[row, column] += turned / 2 - s[i, j] * d[k, m]
    return B


def full_tensor(C) -> np.ndarray:
    """C_ijkl of Voigt constants C_IJ, in their unit, shape=(3, 3, 3, 3)."""
    return np.asarray(C)[_PLACE[:, :, None, None], _PLACE[None, None, :, :]]


def require_elastic_tensor(C) -> np.ndarray:
    """The elastic tensor C (Voigt) as an array, in its own unit, shape=(6, 6).

    Raises:
        ValueError: Unless C is a finite 6x6 matrix.
    """
    C = np.asarray(C, dtype=float)
    if C.shape != (6, 6) or not np.isfinite(C).all():
        raise ValueError(f"an elastic tensor must be a finite matrix of shape (6, 6), got {C.tolist()}")
    return C


def compliance(C) -> np.ndarray:
    """S = C^-1 (Voigt, strains with factor 2 on shear) in the inverse unit of C, shape=(6, 6).

    Raises:
        ValueError: If C is no elastic tensor, or singular: the crystal yields to some stress without limit.
    """
    C = require_elastic_tensor(C)
    if np.linalg.cond(C) > 1e12:
        raise ValueError("the elastic tensor is singular: the crystal yields to some stress without limit")
    return np.linalg.inv(C)


def young_modulus(C, directions) -> np.ndarray:
    """Young's modulus 1/E(n) = S_ijkl n_i n_j n_k n_l under tension along n, in the unit of C, shape=(n,).

    Source: J. F. Nye, Physical Properties of Crystals (1957), chapter VIII.

    Args:
        C: Elastic tensor (Voigt), shape=(6, 6).
        directions: Cartesian, of any length but zero, shape=(n, 3).

    Raises:
        ValueError: For a direction of no length, or a singular C.
    """
    n = _dyads(_unit(directions, "directions"))
    return 1.0 / np.einsum("ni,ij,nj->n", n, compliance(C), n)


def poisson_ratio(C, directions, transverse) -> np.ndarray:
    """Poisson's ratio nu(n; t) = -eps_tt/eps_nn = -S_ijkl t_i t_j n_k n_l E(n) under tension along n, shape=(n,).

    Args:
        C: Elastic tensor (Voigt) in any unit, shape=(6, 6).
        directions: n, Cartesian, of any length but zero, shape=(n, 3).
        transverse: t, perpendicular to n, shape=(n, 3).

    Raises:
        ValueError: For a direction of no length, t not perpendicular to n, or a singular C.
    """
    n, t = _unit(directions, "directions"), _unit(transverse, "transverse")
    if np.abs((n * t).sum(axis=1)).max() > 1e-6:
        raise ValueError(
            f"`transverse` must be perpendicular to `directions`, got {np.asarray(transverse).tolist()}"
        )
    strains = _dyads(n) @ compliance(C)
    return -(_dyads(t) * strains).sum(axis=1) / (_dyads(n) * strains).sum(axis=1)


def _unit(directions, name) -> np.ndarray:
    directions = np.atleast_2d(np.asarray(directions, dtype=float))
    lengths = np.linalg.norm(directions, axis=-1)
    if directions.shape[1:] != (3,) or not (lengths > 0).all():
        raise ValueError(
            f"`{name}` must be vectors that differ from zero, shape (n, 3), got {directions.tolist()}"
        )
    return directions / lengths[:, None]


def _dyads(n) -> np.ndarray:
    """n_i n_j as a Voigt stress, shape=(n, 6)."""
    return np.array([n[:, i] * n[:, j] for i, j in VOIGT]).T
