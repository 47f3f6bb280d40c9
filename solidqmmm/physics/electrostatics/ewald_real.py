"""The short-ranged part of an Ewald sum: pairs of points and sources within a cutoff, in units of 4 pi eps0 = 1.

A source's potential, less that of the Gaussian which the Fourier series takes over, is a radial function b_0(r), and

    b_(k+1) = -(1/r) db_k/dr,   phi = q b_0 + (p.r) b_1,   E = q b_1 r - p b_1 + (p.r) b_2 r,
    dE_a/dx_b = q (b_1 1 - b_2 r r) + b_2 (p r + r p + (p.r) 1) - (p.r) b_3 r r.

For a point b_0 = erfc(alpha r)/r; for a Gaussian of width sigma the difference of two functions erf(beta r)/r, beta = alpha
and 1/(sqrt(2) sigma), whose b_k = (2 beta/sqrt(pi)) (2 beta^2)^k F_k(beta^2 r^2) with the Boys function F_k has no
cancellation at small r.

Source: W. Smith, CCP5 Newsletter 46, 18 (1998); A. Y. Toukmaji et al., J. Chem. Phys. 113, 10913 (2000).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import erfc, gamma, gammainc

PAIRS = 200_000  # at a time
COINCIDENT = 1e-6  # angstrom: nearer than that a point is its source


def near_pairs(points, positions, cell, cutoff: float):
    """Yields pairs of a point and an image of a source within `cutoff`: indices i and j, r = r_i - r_j, shape=(n, 3).

    Only images near the points are made, so a few points in a large crystal cost little; about `PAIRS` pairs at a time.
    """
    inverse = np.linalg.inv(cell)
    reach = cutoff * np.linalg.norm(inverse, axis=0)  # fractional: cutoff over the distance of opposite faces
    f = points @ inverse
    origin = f[0].copy()
    f -= origin
    f -= np.rint(f)
    low, high = f.min(axis=0) - reach, f.max(axis=0) + reach
    images = positions @ inverse - origin
    images -= np.floor(images - low)
    source = np.arange(len(images))
    for axis in range(3):
        shifted = images[:, axis, None] + np.arange(max(1, int(np.ceil(high[axis] - low[axis]))))
        which, shift = np.nonzero(shifted <= high[axis])
        images, source = images[which], source[which]
        images[:, axis] += shift
    if not len(images):
        return
    points, images = f @ cell, images @ cell
    tree = cKDTree(images)
    sample = points[:: max(1, len(points) // 50)]
    each = np.mean(tree.query_ball_point(sample, cutoff, return_length=True))
    step = max(1, int(PAIRS / max(each, 1.0)))
    for first in range(0, len(points), step):
        some = cKDTree(points[first : first + step])
        found = some.sparse_distance_matrix(tree, cutoff, output_type="ndarray")
        if len(found):
            i, image = found["i"] + first, found["j"]
            yield i, source[image], points[i] - images[image]


def short_ranged(
    points, positions, charges, dipoles, sigma, cell, alpha, cutoff, *, derivatives, exclude_self, targets=None
):  # fmt: skip
    """Potential, field and field gradient of the short-ranged parts, and the virial where `targets` are given.

    Args:
        points: In angstrom, shape=(m, 3).
        positions, charges, dipoles, sigma: Sources, in angstrom, e, e angstrom and angstrom, shape=(n, 3), (n,), (n, 3) or
            None, (n,).
        cell: Rows in angstrom, shape=(3, 3).
        alpha: Splitting parameter in 1/angstrom; no `sigma` is above 1/(sqrt(2) alpha).
        cutoff: Radius of the sum in angstrom.
        derivatives: 0, 1 or 2.
        exclude_self: Leave out sources nearer than `COINCIDENT`.
        targets: Charges and dipoles (or None) at the points, for sum r (outer) F / 2 over the pairs.

    Raises:
        ValueError: If a point coincides with a point charge that is not left out.
    """
    m = len(points)
    sums = [np.zeros((m, *(3,) * k)) for k in range(derivatives + 1)]
    virial = np.zeros((3, 3))
    for i, j, r in near_pairs(points, positions, cell, cutoff):
        d = np.sqrt(np.einsum("nk,nk->n", r, r))
        here = d < COINCIDENT
        if here.any():
            if not exclude_self and np.any(sigma[j[here]] == 0):
                k = i[here][sigma[j[here]] == 0][0]
                raise ValueError(
                    f"point {k} coincides with a point charge, where the potential is infinite; leave the charge out "
                    "(`exclude_self=True`) or give it a width (`sigma`)"
                )
            if exclude_self:
                i, j, r, d = i[~here], j[~here], r[~here], d[~here]
        p = None if dipoles is None else dipoles[j]
        b = _radial(d, alpha, sigma[j], derivatives + (p is not None))
        terms = _multipoles(r, charges[j], p, b)
        for total, term in zip(sums, terms):
            flat = total.reshape(m, -1)
            for k, column in enumerate(term.reshape(len(i), 3**term.ndim // 3).T):
                flat[:, k] += np.bincount(i, weights=column, minlength=m)
        if targets is not None:
            force = targets[0][i, None] * terms[1]
            if targets[1] is not None:
                force += np.einsum("nab,nb->na", terms[2], targets[1][i])
            virial += 0.5 * r.T @ force
    return sums, virial


def pairs_at_the_same_place(points, positions, cell):
    """Indices i and j of points and sources (in any image) nearer than `COINCIDENT`, shape=(k,) each.

    Args:
        points: In angstrom, shape=(m, 3).
        positions: Of the sources in angstrom, shape=(n, 3).
        cell: Rows in angstrom, shape=(3, 3).
    """
    found = [(i, j) for i, j, _ in near_pairs(points, positions, cell, COINCIDENT)]
    return tuple(np.concatenate(part) for part in zip(*found)) if found else (np.zeros(0, dtype=int),) * 2


def _multipoles(r, q, p, b):
    """Potential, field and gradient of single pairs, as far as the radial functions reach."""
    if p is None:
        terms = [q * b[0]]
        central = [q * x for x in b[1:]]  # q b_k + (p.r) b_(k+1)
    else:
        along = np.einsum("nk,nk->n", p, r)
        first, *central = (q * x + along * y for x, y in pairwise(b))
        terms = [first]
    if central:
        field = central[0][:, None] * r
        terms.append(field if p is None else field - b[1][:, None] * p)
    if len(central) > 1:
        gradient = -(central[1][:, None] * r)[:, :, None] * r[:, None, :]
        gradient[:, range(3), range(3)] += central[0][:, None]
        if p is not None:
            mixed = (b[2][:, None] * p)[:, :, None] * r[:, None, :]
            gradient += mixed + mixed.transpose(0, 2, 1)
        terms.append(gradient)
    return terms


def _radial(d, alpha, sigma, highest):
    """b_0 ... b_highest of pairs at distance d."""
    if not np.any(sigma):
        return _points(d, alpha, highest)
    wide = sigma > 0
    b = np.empty((highest + 1, len(d)))
    b[:, ~wide] = _points(d[~wide], alpha, highest)
    beta = 1 / (np.sqrt(2) * sigma[wide])
    b[:, wide] = np.array(_gaussian(d[wide], beta, highest)) - _gaussian(d[wide], alpha, highest)
    return b


def _points(d, alpha, highest):
    b = [erfc(alpha * d) / d]
    tail = 2 * alpha / np.sqrt(np.pi) * np.exp(-((alpha * d) ** 2))
    for k in range(highest):
        b.append(((2 * k + 1) * b[k] + tail) / d**2)
        tail = 2 * alpha**2 * tail
    return b


def _gaussian(d, beta, highest):
    x = np.maximum((beta * d) ** 2, 1e-40)  # the Boys function is smooth there: F_k(0) = 1/(2 k + 1)
    boys = [0.5 * gamma(k + 0.5) * gammainc(k + 0.5, x) / x ** (k + 0.5) for k in range(highest + 1)]
    return [2 * beta / np.sqrt(np.pi) * (2 * beta**2) ** k * F for k, F in enumerate(boys)]
