"""The smooth part of an Ewald sum: a Fourier series over half of the reciprocal lattice, in units of 4 pi eps0 = 1.

    S(G) = sum_j (q_j + i p_j.G) exp(-G C_j G / 2) e^(i G.r_j)
    phi(r) = (4 pi / V) sum_(G != 0) Re[S*(G) e^(i G.r)] / G^2,     G = 2 pi (cell^-1) h,  h integers,

with C_j the covariance of the Gaussian into which source j is spread. e^(i G.r) is a product of three one-dimensional
tables, so both sums are matrix products of planes h_1 = const; no array has more than (plane) or (chunk x line) elements
beyond S itself. A mesh with fast Fourier transforms would replace `structure_factor` and `series`, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CHUNK = 512  # sites at a time


@dataclass(frozen=True, eq=False)
class Plane:
    """Vectors h with the same first index, those beyond the cutoff carrying no weight.

    Attributes:
        h: First index.
        second, third: Indices along the other axes, shape=(n2,) and (n3,).
        G: Wave vectors in 1/angstrom, shape=(n2, n3, 3).
        weight: 4 pi/(V G^2), twice where -G is left out, in 1/angstrom, shape=(n2, n3).
    """

    h: int
    second: np.ndarray
    third: np.ndarray
    G: np.ndarray
    weight: np.ndarray


def planes(cell, cutoff: float) -> list[Plane]:
    """Half of the reciprocal lattice up to |G| = `cutoff` (1/angstrom), without G = 0."""
    n = np.floor(cutoff * np.linalg.norm(cell, axis=1) / (2 * np.pi)).astype(int)
    B = 2 * np.pi * np.linalg.inv(cell)
    second, third = np.arange(-n[1], n[1] + 1), np.arange(-n[2], n[2] + 1)
    half = []
    for h in range(n[0] + 1):
        G = h * B[:, 0] + second[:, None, None] * B[:, 1] + third[:, None] * B[:, 2]
        square = np.einsum("abk,abk->ab", G, G)
        inside = square <= cutoff**2
        if h == 0:
            inside[n[1], n[2]] = False
        if not inside.any():
            continue
        rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
        rows, columns = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        weight = np.zeros_like(square)
        weight[inside] = (2 if h else 1) * 4 * np.pi / abs(np.linalg.det(cell)) / square[inside]
        half.append(Plane(h, second[rows], third[columns], G[rows, columns], weight[rows, columns]))
    return half


def structure_factor(lattice: list[Plane], cell, positions, charges, dipoles=None) -> list[np.ndarray]:
    """sum_j (q_j + i p_j.G) e^(i G.r_j) of points, one array of shape (n2, n3) for each plane."""
    S = [np.zeros(plane.weight.shape, dtype=complex) for plane in lattice]
    fractions = positions @ np.linalg.inv(cell)
    turns = None if dipoles is None else 2j * np.pi * dipoles @ np.linalg.inv(cell)
    for first in range(0, len(fractions), CHUNK):
        part = slice(first, first + CHUNK)
        x, y, z = _tables(lattice, fractions[part])
        for plane, total in zip(lattice, S):
            Y, Z = _cut(plane, y, z)
            one, q = x[plane.h], charges[part]
            if turns is None:
                total += ((one * q)[:, None] * Y).T @ Z
            else:
                p = turns[part]
                source = (q + plane.h * p[:, 0])[:, None] + p[:, 1:2] * plane.second
                total += (one[:, None] * source * Y).T @ Z
                total += (((one * p[:, 2])[:, None] * Y).T @ Z) * plane.third
    return S


def series(lattice: list[Plane], cell, coefficients, points, derivatives: int) -> tuple[np.ndarray, ...]:
    """Re sum_G c(G) e^(i G.r), its gradient and its matrix of second derivatives, as many as asked for.

    Returns:
        Arrays of shape (m,), (m, 3), (m, 3, 3) in powers of 1/angstrom, `derivatives` + 1 of them.
    """
    inverse = np.linalg.inv(cell)
    fractions, powers = points @ inverse, np.arange(derivatives + 1)
    # found[m, a, b, c]: the (a, b, c)-th derivative along the fractional coordinates, over (2 pi i)^(a + b + c)
    found = np.zeros((len(points), *(derivatives + 1,) * 3), dtype=complex)
    columns = [
        np.concatenate([(c * plane.third**k).T for k in powers], axis=1)
        for plane, c in zip(lattice, coefficients)
    ]
    for first in range(0, len(fractions), CHUNK):
        part = slice(first, first + CHUNK)
        x, y, z = _tables(lattice, fractions[part])
        for plane, c in zip(lattice, columns):
            Y, Z = _cut(plane, y, z)
            along = (Z @ c).reshape(len(Z), derivatives + 1, len(plane.second))
            for b in powers:
                summed = np.einsum("ma,mca->mc", Y * plane.second**b, along[:, : derivatives + 1 - b])
                summed *= x[plane.h][:, None]
                for a in range(derivatives + 1 - b):
                    found[part, a, b, : derivatives + 1 - b] += float(plane.h) ** a * summed
    value = found[:, 0, 0, 0].real
    if not derivatives:
        return (value,)
    one = np.eye(3, dtype=int)
    first = np.stack([(2j * np.pi * found[(slice(None), *one[k])]).real for k in range(3)], axis=1)
    gradient = first @ inverse.T
    if derivatives == 1:
        return value, gradient
    second = [[found[(slice(None), *(one[k] + one[n]))].real for n in range(3)] for k in range(3)]
    hessian = -4 * np.pi**2 * np.einsum("ak,knm,bn->mab", inverse, np.array(second), inverse)
    return value, gradient, hessian


def _tables(lattice, fractions):
    """e^(2 pi i h f) along the three axes: first index leading, the others with sites leading."""
    fractions = fractions - np.floor(fractions)
    n = [max((plane.h for plane in lattice), default=0)] + [
        max((int(np.abs(h).max()) for h in axis), default=0)
        for axis in ([plane.second for plane in lattice], [plane.third for plane in lattice])
    ]
    x = np.exp(2j * np.pi * np.outer(np.arange(n[0] + 1), fractions[:, 0]))
    y, z = (np.exp(2j * np.pi * np.outer(fractions[:, k], np.arange(-n[k], n[k] + 1))) for k in (1, 2))
    return x, y, z


def _cut(plane, y, z):
    """The columns of the tables that belong to a plane."""
    middle = y.shape[1] // 2, z.shape[1] // 2
    return tuple(
        table[:, m + h[0] : m + h[-1] + 1] for table, m, h in zip((y, z), middle, (plane.second, plane.third))
    )


def spread(plane: Plane, covariance) -> np.ndarray:
    """exp(-G C G / 2), dimensionless, for a covariance C in angstrom^2, shape=(n2, n3)."""
    return np.exp(-0.5 * np.einsum("abk,kl,abl->ab", plane.G, covariance, plane.G))


def series_virial(lattice: list[Plane], covariance, coefficients, targets) -> np.ndarray:
    """-dE/de of E = 1/2 Re sum_G c(G) R(G) for r -> r (1 + e) as rows, at fixed covariance and charges, shape=(3, 3).

    `coefficients` belong to sources of one covariance, `targets` are the structure factor R of what feels them. Fixed
    dipoles add -sum p (outer) E to this.
    """
    virial = np.zeros((3, 3))
    for plane, c, R in zip(lattice, coefficients, targets):
        energy = 0.5 * (c * R).real
        square = np.einsum("abk,abk->ab", plane.G, plane.G)
        square[square == 0] = 1.0  # G = 0 has no weight
        virial += energy.sum() * np.eye(3)
        virial -= 2 * np.einsum("ab,abk,abl->kl", energy / square, plane.G, plane.G)
        virial -= covariance @ np.einsum("ab,abk,abl->kl", energy, plane.G, plane.G)
    return virial
