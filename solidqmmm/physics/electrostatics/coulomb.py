"""Direct sums over charges and dipoles in empty space, points or Gaussians.

    phi(r) = k sum_j [q_j f_0 + (p_j.d) f_1],    E = k sum_j [q_j d f_1 + (p_j.d) d f_2 - p_j f_1],    d = r - r_j,

    f_0 = erf(a d)/d,    f_(n+1) = [(2n + 1) f_n - (2 a^2)^n (2 a/sqrt(pi)) exp(-a^2 d^2)]/d^2,    a = 1/(sqrt(2) sigma),

which is f_n = (2n - 1)!!/d^(2n+1) for points, k = 1/(4 pi eps0) (the functions B_n of W. Smith, CCP5 Newsletter 46, 18
(1998), with erf in place of erfc). `ewald` has the same sums for periodic sources; the difference is that of the images.
"""

from __future__ import annotations

import numpy as np
from scipy.special import erf

from solidqmmm.physics.electrostatics.ewald import COULOMB

SAME_PLACE = 1e-6  # angstrom
_PAIRS = 400_000  # at a time


def coulomb_potential(
    points, positions, charges, *, dipoles=None, sigma=None, derivatives: int = 1
) -> tuple[np.ndarray, ...]:
    """Potential, field and field gradient of charges and dipoles at any points.

    A point nearer than 1e-6 angstrom to a source leaves that source out.

    Args:
        points: Where, in angstrom, shape=(m, 3).
        positions: Sources in angstrom, shape=(n, 3).
        charges: In e, shape=(n,).
        dipoles: On the sources in e angstrom, shape=(n, 3).
        sigma: Widths of Gaussians in angstrom, 0 for points: a number, shape=(n,), or shape=(m, n) for pairs.
        derivatives: 0 for the potential alone, 1 for the field as well, 2 for its gradient as well.

    Returns:
        Potential in V, shape=(m,); field in V/angstrom, shape=(m, 3); dE_a/dx_b in V/angstrom^2, shape=(m, 3, 3): the first
        `derivatives` + 1 of them.
    """
    points, positions = np.reshape(points, (-1, 3)).astype(float), np.reshape(positions, (-1, 3)).astype(float)
    charges = np.asarray(charges, dtype=float)
    m, n = len(points), len(positions)
    widths = np.broadcast_to(0.0 if sigma is None else np.asarray(sigma, dtype=float), (m, n))
    found = [np.zeros((m, *(3,) * k)) for k in range(derivatives + 1)]
    chunk = max(1, _PAIRS // max(n, 1))
    for first in range(0, m, chunk):
        part = slice(first, first + chunk)
        d = points[part, None] - positions
        f = radial(np.linalg.norm(d, axis=2), widths[part], derivatives + (dipoles is not None))
        p_d = None if dipoles is None else np.einsum("mnk,nk->mn", d, dipoles)
        found[0][part] = f[0] @ charges
        if dipoles is not None:
            found[0][part] += (p_d * f[1]).sum(axis=1)
        if derivatives > 0:
            found[1][part] = np.einsum("mn,mnk->mk", f[1] * charges, d)
            if dipoles is not None:
                found[1][part] += np.einsum("mn,mnk->mk", p_d * f[2], d) - f[1] @ dipoles
        if derivatives > 1:
            isotropic, along = f[1] * charges, f[2] * charges
            if dipoles is not None:
                isotropic, along = isotropic + p_d * f[2], along + p_d * f[3]
                mixed = np.einsum("mn,na,mnb->mab", f[2], dipoles, d)
                found[2][part] += mixed + mixed.transpose(0, 2, 1)
            found[2][part] += isotropic.sum(axis=1)[:, None, None] * np.eye(3)
            found[2][part] -= np.einsum("mn,mna,mnb->mab", along, d, d)
    return tuple(COULOMB * value for value in found)


def radial(distances, sigma, order: int) -> list[np.ndarray]:
    """f_0 ... f_order of the module's text; zero at distances below 1e-6 angstrom. Shapes are those of `distances`."""
    apart = distances > SAME_PLACE
    r = np.where(apart, distances, 1.0)
    smeared = sigma > 0
    a = 1.0 / (np.sqrt(2) * np.where(smeared, sigma, 1.0))
    gauss = np.where(smeared, 2 * a / np.sqrt(np.pi) * np.exp(-((a * r) ** 2)), 0.0)
    f = [np.where(smeared, erf(a * r), 1.0) / r]
    for n in range(order):
        f.append(((2 * n + 1) * f[n] - (2 * a**2) ** n * gauss) / r**2)
    return [value * apart for value in f]


def coulomb_energy(positions, charges) -> tuple[float, np.ndarray]:
    """Energy of point charges in empty space in eV, and the forces on them in eV/angstrom, shape=(n, 3)."""
    potential, field = coulomb_potential(positions, positions, charges)
    charges = np.asarray(charges, dtype=float)
    return 0.5 * float(charges @ potential), charges[:, None] * field
