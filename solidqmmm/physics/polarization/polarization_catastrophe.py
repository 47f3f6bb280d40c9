"""The polarization catastrophe: dipoles that raise each other faster than they cost, and the pair that is to blame.

Dipoles are at a minimum where A = 1 - alpha^(1/2) T alpha^(1/2) is positive definite (and alpha^-1 - T with it). Two sites
alone diverge at the distance of `dipole_damping.critical_distance`, and any two that would do so alone make a whole set
unstable, since A is then indefinite on these two. Without such a pair the instability is collective, and the pair named is
the one that contributes most to the unstable direction.

Sources: J. Applequist, J. R. Carl and K.-K. Fung, J. Am. Chem. Soc. 94, 2952 (1972); B. T. Thole, Chem. Phys. 59,
341 (1981).
"""

from __future__ import annotations

import numpy as np

from solidqmmm.errors import PolarizationCatastrophe
from solidqmmm.physics.polarization.dipole_damping import THOLE_A, critical_distance, criticality


def require_stable_pairs(i, j, distances, polarizabilities, damping, thole_a: float = THOLE_A):
    """Raises for the worst pair that would diverge alone.

    Args:
        i, j: Sites of near pairs, shape=(m,); pairs of a site with its own image do not count.
        distances: In angstrom, shape=(m,).
        polarizabilities: In angstrom^3, shape=(n,).
        damping, thole_a: As in `dipole_damping.factors`.

    Raises:
        PolarizationCatastrophe: Naming the pair, its distance and the critical distance.
    """
    worth = np.flatnonzero((polarizabilities[i] * polarizabilities[j] > 0) & (i != j))
    if not len(worth):
        return
    products = polarizabilities[i[worth]] * polarizabilities[j[worth]]
    level = criticality(distances[worth], products, damping, thole_a)
    worst = int(np.argmax(level))
    if level[worst] >= 1.0:
        k = worth[worst]
        raise catastrophe(int(i[k]), int(j[k]), float(distances[k]), polarizabilities, damping, thole_a)


def catastrophe_along(
    direction, pairs, polarizabilities, damping, thole_a: float = THOLE_A
) -> PolarizationCatastrophe:
    """The error for a direction in which A is not positive, naming the pair that contributes most.

    Args:
        direction: Dipoles in e angstrom, up to a factor, shape=(n, 3).
        pairs: Near pairs, `pair_tensors.Pairs`.
        polarizabilities: In angstrom^3, shape=(n,).
        damping, thole_a: As in `dipole_damping.factors`.
    """
    m, r = direction, pairs.r
    mi, mj = m[pairs.i], m[pairs.j]
    gain = np.einsum("ma,ma->m", mi, r) * np.einsum("ma,ma->m", mj, r) * pairs.B[1]
    gain -= np.einsum("ma,ma->m", mi, mj) * pairs.B[0]
    if not np.any(gain > 0):
        return PolarizationCatastrophe(
            "the induced dipoles diverge (polarization catastrophe), and no near pair is to blame: the density of "
            "polarizability is beyond the Clausius-Mossotti limit; check the unit of the polarizabilities (angstrom^3)"
        )
    k = int(np.argmax(gain))
    distance = float(np.linalg.norm(r[k]))
    return catastrophe(int(pairs.i[k]), int(pairs.j[k]), distance, polarizabilities, damping, thole_a)


def catastrophe(
    i,
    j,
    distance,
    polarizabilities,
    damping,
    thole_a: float = THOLE_A,
    *,
    what: str = "the induced dipoles diverge",
) -> PolarizationCatastrophe:
    """The error for a pair of sites at a distance in angstrom; `what` has happened."""
    alpha_i, alpha_j = float(polarizabilities[i]), float(polarizabilities[j])
    critical = critical_distance(alpha_i, alpha_j, damping, thole_a)
    law = {"thole": f"exponential damping, a = {thole_a:g}", "linear": "linear damping", None: "no damping"}[
        damping
    ]
    if critical > 0:
        formula = " (4 alpha_i alpha_j)^(1/6)" if damping is None else ""
        limit = f"the critical distance of two such sites alone{formula} is {critical:.8g} angstrom"
    else:
        undamped = critical_distance(alpha_i, alpha_j)
        limit = f"two such sites alone are finite at any distance (undamped they diverge at {undamped:.8g} angstrom)"
    if distance > critical:
        limit += "; here the field of others drives them as well"
    softer = {
        None: 'damp the dipoles (damping="thole" or "linear")',
        "linear": 'damp the dipoles at a longer range (damping="thole")',
        "thole": "damp the dipoles at a longer range (a smaller thole_a)",
    }[damping]
    pair = f"sites {i} and {j}" if i != j else f"site {i} and its periodic image"
    return PolarizationCatastrophe(
        f"{what} (polarization catastrophe): {pair}, polarizabilities {alpha_i:g} and {alpha_j:g} angstrom^3, are "
        f"{distance:.8g} angstrom apart with {law}; {limit}. Cure: {softer}, give the oscillators an anharmonic term "
        "(Drude shells with a quartic spring), or check polarizabilities and positions",
        pair=(i, j),
        distance=distance,
        critical_distance=critical,
    )
