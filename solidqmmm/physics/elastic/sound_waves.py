"""Speeds of sound in a crystal from its elastic constants.

Plane waves u = e exp(i(k n.x - omega t)) of long wavelength obey Christoffel's equation

    Gamma_ik = C_ijkl n_j n_l,   Gamma e = rho c^2 e

with three polarizations e for every direction n, and the phase speeds c = omega/k. Source: D. C. Wallace, Solid State
Physics 25, 301 (1970).
"""

from __future__ import annotations

import numpy as np
from ase.units import GPa, _amu, _e

from solidqmmm.physics.symmetry.crystal_symmetry import VOIGT

# eV/angstrom^3 per amu/angstrom^3 in (angstrom/ps)^2.
_SQUARED_SPEED = _e / _amu * 1e-4


def sound_speeds(elastic_tensor_GPa, density, directions):
    """Speeds and polarizations of the three sound waves along each direction, the slowest first.

    Args:
        elastic_tensor_GPa: Elastic constants in Voigt order xx yy zz yz xz xy, GPa, shape=(6, 6).
        density: Mass density in amu/angstrom^3.
        directions: Directions of propagation of any length, shape=(..., 3).

    Returns:
        Speeds in angstrom/ps, shape=(..., 3), and unit polarizations as rows, shape=(..., 3, 3).

    Raises:
        ValueError: For arrays of another shape, a density that is not positive, a direction without length, or a crystal
            that is not stable against one of these waves.
    """
    C, n = np.asarray(elastic_tensor_GPa, dtype=float) * GPa, np.asarray(directions, dtype=float)
    if C.shape != (6, 6) or not np.isfinite(C).all():
        raise ValueError(
            f"`elastic_tensor_GPa` must be finite numbers of shape (6, 6), got {np.shape(elastic_tensor_GPa)}"
        )
    if not density > 0:
        raise ValueError(f"`density` must be positive (amu/angstrom^3), got {density}")
    length = np.linalg.norm(n, axis=-1, keepdims=True)
    if n.shape[-1:] != (3,) or not (length > 0).all():
        raise ValueError(
            f"`directions` must be vectors of three components and some length, got {n.tolist()}"
        )
    n = n / length
    place = np.empty((3, 3), dtype=int)
    for voigt, (i, j) in enumerate(VOIGT):
        place[i, j] = place[j, i] = voigt
    full = C[place[:, :, None, None], place[None, None, :, :]]
    squared, vectors = np.linalg.eigh(np.einsum("ijkl,...j,...l->...ik", full, n, n))
    if squared.min() <= 0:
        raise ValueError(
            f"the crystal is not stable: rho c^2 = {squared.min() / GPa:.6g} GPa for a wave; check the elastic constants"
        )
    return np.sqrt(squared * _SQUARED_SPEED / density), np.swapaxes(vectors, -1, -2)
