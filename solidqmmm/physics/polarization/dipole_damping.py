"""Thole's damping: dipoles and charges that are spread over their site, so that near ones do not diverge.

Every interaction of site i with site j derives from one radial function, the potential l1/r of a unit charge, and its
derivatives, with a factor of its own at each order:

    B_0 = l1/r,   B_1 = l3/r^3,   B_2 = 3 l5/r^5,   B_3 = 15 l7/r^7,      B_(n+1) = -(1/r) dB_n/dr,
    field of a charge q:   q B_1 r,        field of a dipole m:   T m = (m.r) B_2 r - B_1 m,        r = r_i - r_j.

Exponential ("thole", the convention of AMOEBA), x = a u^3 = a r^3/sqrt(alpha_i alpha_j):

    l1 = 1 - e^-x + x^(1/3) Gamma(2/3, x),   l3 = 1 - e^-x,   l5 = 1 - (1 + x) e^-x,   l7 = 1 - (1 + x + 3 x^2/5) e^-x.

Linear ("linear"), v = r/s < 1, s = 1.662 (alpha_i alpha_j)^(1/6), undamped from v = 1 on:

    l1 = 2 v - 2 v^3 + v^4,   l3 = 4 v^3 - 3 v^4,   l5 = v^4,   l7 = v^4/5.

The linear law's l7 jumps to 1 at v = 1, so that forces between dipoles have a step at r = s; energies and dipoles have none.
A site without polarizability is a point: u is infinite and nothing that it does is damped.

For two sites alone alpha^(1/2) (alpha^-1 - T) alpha^(1/2) has the eigenvalues 1 -+ sqrt(alpha_i alpha_j) t, with
t = |3 l5 - l3|/r^3 along the line between them and t = l3/r^3 across it. Where sqrt(alpha_i alpha_j) t = 1 their dipoles
diverge. Undamped that is at the critical distance r = (4 alpha_i alpha_j)^(1/6).

Sources: B. T. Thole, Chem. Phys. 59, 341 (1981); P. Ren and J. W. Ponder, J. Phys. Chem. B 107, 5933 (2003) for the
exponential law and its a = 0.39.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import gamma, gammainc, gammaincc

LAWS = ("thole", "linear", None)
LINEAR_REACH = 1.662
THOLE_A = 0.39
_GONE = 37.0  # x where the exponential law differs from 1 by less than 1e-13


def require_law(damping, thole_a):
    """Nothing, if the damping is one that there is.

    Raises:
        ValueError: For a damping that is none of `LAWS`, or an a that is not positive.
    """
    if damping not in LAWS:
        raise ValueError(f'`damping` must be "thole", "linear" or None, got {damping!r}')
    if not (np.isfinite(thole_a) and thole_a > 0):
        raise ValueError(f"`thole_a` must be positive, got {thole_a}")


def factors(distances, products, damping, thole_a: float = THOLE_A) -> list[np.ndarray]:
    """l1, l3, l5, l7 of pairs.

    Args:
        distances: In angstrom, shape=(m,).
        products: alpha_i alpha_j in angstrom^6, shape=(m,); zero leaves a pair undamped.
        damping: "thole" (exponential), "linear" or None.
        thole_a: a of the exponential law.
    """
    found = [np.ones(len(distances)) for _ in range(4)]
    if damping is None:
        return found
    near = np.flatnonzero(distances < reach(products, damping, thole_a))
    r, width = distances[near], products[near] ** (1 / 6)
    if damping == "linear":
        v = r / (LINEAR_REACH * width)
        damped = (v * (2 - v**2 * (2 - v)), v**3 * (4 - 3 * v), v**4, v**4 / 5)
    else:
        x = thole_a * (r / width) ** 3
        decay = np.exp(-x)
        tail = np.cbrt(x) * gamma(2 / 3) * gammaincc(2 / 3, x)
        l3, l5 = -np.expm1(-x), gammainc(2, x)
        damped = (l3 + tail, l3, l5, l5 - 0.6 * x**2 * decay)
    for whole, part in zip(found, damped):
        whole[near] = part
    return found


def damped_tensors(distances, products, damping, thole_a: float = THOLE_A) -> list[np.ndarray]:
    """B_0 ... B_3 of the module's text, in powers of 1/angstrom, each in the shape of `distances`; arguments as in
    `factors`.
    """
    inverse = 1.0 / distances
    found, scale = [], inverse
    for n, factor in enumerate(factors(distances, products, damping, thole_a)):
        found.append(factor * scale)
        scale = (2 * n + 1) * inverse**2 * scale
    return found


def reach(products, damping, thole_a: float = THOLE_A) -> np.ndarray:
    """Distance in angstrom from which on pairs are not damped, shape as `products` (angstrom^6)."""
    width = np.asarray(products, dtype=float) ** (1 / 6)
    if damping is None:
        return np.zeros_like(width)
    return width * (LINEAR_REACH if damping == "linear" else (_GONE / thole_a) ** (1 / 3))


def criticality(distances, products, damping, thole_a: float = THOLE_A) -> np.ndarray:
    """sqrt(alpha_i alpha_j) t of two sites alone, dimensionless, in the shape of `distances`; arguments as in `factors`.

    It is 1 where their dipoles diverge, more where they are unstable.
    """
    _, l3, l5, _ = factors(distances, products, damping, thole_a)
    return np.sqrt(products) * np.maximum(np.abs(3 * l5 - l3), l3) / distances**3


def critical_distance(alpha_i: float, alpha_j: float, damping=None, thole_a: float = THOLE_A) -> float:
    """Distance in angstrom at which the dipoles of two sites alone diverge; 0 if damping keeps them finite at any distance.

    Args:
        alpha_i, alpha_j: Polarizabilities in angstrom^3.
        damping, thole_a: As in `factors`.
    """
    require_law(damping, thole_a)
    product = np.array([float(alpha_i) * float(alpha_j)])
    undamped = float((4 * product[0]) ** (1 / 6))
    if damping is None or undamped == 0.0:
        return undamped

    def excess(r):
        return float(criticality(np.array([r]), product, damping, thole_a)[0]) - 1.0

    # Damping only weakens 3 l5 - l3 and l3, so damped dipoles diverge nearer than undamped ones, if at all.
    r = undamped * np.linspace(1.0, 1e-3, 3000)
    above = np.flatnonzero(criticality(r, np.full(len(r), product[0]), damping, thole_a) >= 1.0)
    if not len(above):
        return 0.0
    return float(brentq(excess, r[above[0]], r[above[0] - 1], xtol=1e-14)) if above[0] else undamped
