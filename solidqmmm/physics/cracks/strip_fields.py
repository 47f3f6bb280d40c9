"""A thin strip between two clamped edges: strain and energy release rate, and the displacements around a crack in it.

The edges of a strip of height h are moved apart by eps h (mode I) or along each other by gamma h (mode II). Far behind the
tip it is relaxed, far ahead it holds h M eps^2 / 2 per area, and a crack that grows releases just that:

    G = M eps^2 h / 2.

M depends on what holds the strip along x. With free ends sigma_xx = 0, and M = 1/(S_22 - S_23^2/S_33), for an isotropic
solid E/(1 - nu^2): the convention of the literature of atomistic strips. Far from both ends of a long strip eps_xx = 0, and
M = C_22. A real strip lies between, and its elasticity is not linear: relaxed strips of Stillinger-Weber silicon, 60 A high,
release 3.21 J/m^2 where the free ends' formula says 3.00 and the other one 3.47 (strain 0.081). `moduli` gives both.
Units: eV/angstrom^3, angstrom, G in J/m^2.

Source: J. R. Rice, J. Appl. Mech. 34, 248 (1967).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solidqmmm.physics.cracks.crack_fields import CrackField, J_per_m2, require_mode
from solidqmmm.physics.elasticity import compliance


@dataclass(frozen=True)
class StripModuli:
    """Moduli M of G = M eps^2 h / 2, in eV/angstrom^3.

    Attributes:
        free: No stress along the strip, as between free ends near each other.
        held: No strain along the strip, as in the middle of a long one.
    """

    free: float
    held: float


def moduli(C, mode: str = "I") -> StripModuli:
    """The moduli of a strip in plane strain.

    Args:
        C: Elastic tensor in the axes of the crack, eV/angstrom^3, shape=(6, 6).
        mode: 'I' (strain eps_yy) or 'II' (strain gamma_xy).
    """
    C = CrackField(C).C
    S = compliance(C)
    i = 1 if require_mode(mode) == "I" else 5
    return StripModuli(free=float(1.0 / (S[i, i] - S[i, 2] ** 2 / S[2, 2])), held=float(C[i, i]))


def energy_release_rate(strain: float, height: float, modulus: float) -> float:
    """G = M eps^2 h / 2 in J/m^2, for a height in angstrom and a modulus in eV/angstrom^3."""
    return 0.5 * modulus * strain**2 * height / J_per_m2


def strain_for(G: float, height: float, modulus: float) -> float:
    """The strain at which a strip of `height` (angstrom) releases G (J/m^2).

    Raises:
        ValueError: For a negative G.
    """
    if G < 0:
        raise ValueError(f"`G` must not be negative (J/m^2), got {G}")
    return float(np.sqrt(2.0 * G * J_per_m2 / (modulus * height)))


def displacements(x, y, strain: float, height: float, mode: str = "I") -> np.ndarray:
    """u at points x, y from the tip (y = 0 is the middle of the strip); angstrom, shape=(n, 3).

    The component along which the edges are moved is harmonic, with w = +-strain h/2 on the edges, no flux through the
    flanks of the crack and w = 0 ahead of it:

        w = (strain h / pi) Im artanh sqrt(1 - exp(-2 pi (x + i y)/h)).

    It is uniform strain far ahead, two rigid halves far behind and opens as sqrt(r) at the tip. That is exact in mode III,
    and in modes I and II what a relaxation starts from. Beyond the edges w stays that of the edges.

    Args:
        x, y: In angstrom, shape=(n,); y = 0 belongs to the upper half.
        strain: eps_yy (mode I) or gamma_xy (mode II) far ahead.
        height: h in angstrom.
        mode: 'I' or 'II'.
    """
    x, y = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
    side = np.where(y < 0, -1.0, 1.0)
    z = x + 1j * np.minimum(np.abs(y), height / 2)
    # behind the tip the exponential overflows; w has long reached the edges' value there
    z = np.maximum(z.real, -50 * height) + 1j * z.imag
    t = np.sqrt(-np.expm1(-2 * np.pi * z / height))
    # artanh t = ln(1 + t) + pi z/h, which stays exact where t goes to 1; above the crack t lies in the first quadrant
    w = strain * height / np.pi * (np.arctan2(np.abs(t.imag), 1 + t.real) + np.pi * z.imag / height)
    u = np.zeros((*x.shape, 3))
    u[..., 1 if require_mode(mode) == "I" else 0] = side * w
    return u
