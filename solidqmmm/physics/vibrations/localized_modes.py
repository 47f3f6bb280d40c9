"""Vibrations as numbers: units of frequency, where a mode lives, and whether it is local, in a gap or in a band.

Squared frequencies lambda = w^2 are in eV/(angstrom^2 amu). A negative one is an instability, and its frequency is given
as a negative number, nu = sign(lambda) sqrt|lambda| / 2 pi, as is usual for imaginary frequencies.

Participation ratio and weights are those of the mass-weighted vector e_i = sqrt(m_i) u_i, which is the one that is
normalized:

    p = (sum_i |e_i|^2)^2 / (N sum_i |e_i|^4),     w_core = sum_(i in core) |e_i|^2 / sum_i |e_i|^2.

p is 1 for a rigid shift of equal atoms and 1/N for one atom alone. Source: R. J. Bell, P. Dean and D. C. Hibbins-Butler,
J. Phys. C 3, 2111 (1970).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import units

#: nu in THz of w = 1 sqrt(eV/amu)/angstrom
THZ = 1000 * units.fs / (2 * np.pi)
#: 1 THz in cm^-1
CM1_PER_THZ = 1e10 / units._c
#: 1 THz in meV
MEV_PER_THZ = 1e15 * units._hplanck / units._e


def frequencies_THz(squared) -> np.ndarray:
    """nu = sign(lambda) sqrt|lambda| / 2 pi in THz, from lambda in eV/(angstrom^2 amu), in the same shape."""
    squared = np.asarray(squared, dtype=float)
    return np.sign(squared) * np.sqrt(np.abs(squared)) * THZ


def squared_frequencies(frequencies_THz) -> np.ndarray:
    """lambda in eV/(angstrom^2 amu) of frequencies in THz, in the same shape: the inverse of `frequencies_THz`."""
    w = np.asarray(frequencies_THz, dtype=float) / THZ
    return np.sign(w) * w**2


@dataclass(frozen=True, eq=False)
class Modes:
    """Vibrations of a crystal, the highest first.

    Attributes:
        squared: lambda = w^2 in eV/(angstrom^2 amu), descending, shape=(k,).
        displacements: u of every atom of the crystal in amu^(-1/2), normalized to sum_i m_i |u_i|^2 = 1, shape=(k, n, d).
        masses: In amu, shape=(n,).
    """

    squared: np.ndarray
    displacements: np.ndarray
    masses: np.ndarray

    def __post_init__(self):
        order = np.argsort(-np.asarray(self.squared), kind="stable")
        u = np.asarray(self.displacements, dtype=float)[order]
        masses = np.asarray(self.masses, dtype=float)
        norms = np.sqrt(np.einsum("kid,i->k", u**2, masses))
        u = u / np.where(norms > 0, norms, 1.0)[:, None, None]
        for name, array in (
            ("squared", np.asarray(self.squared)[order]),
            ("displacements", u),
            ("masses", masses),
        ):
            array = array.copy()
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def __len__(self):
        return len(self.squared)

    @property
    def frequencies_THz(self) -> np.ndarray:
        """nu in THz, imaginary ones negative, shape=(k,)."""
        return frequencies_THz(self.squared)

    @property
    def eigenvectors(self) -> np.ndarray:
        """e_i = sqrt(m_i) u_i, normalized to sum_i |e_i|^2 = 1, shape=(k, n, d)."""
        return self.displacements * np.sqrt(self.masses)[None, :, None]

    @property
    def participation_ratios(self) -> np.ndarray:
        """p of each mode, shape=(k,)."""
        return participation_ratios(self.eigenvectors)

    def weights(self, atoms) -> np.ndarray:
        """Weight of each mode on the given atoms, shape=(k,)."""
        return np.sum(self.eigenvectors[:, atoms] ** 2, axis=(1, 2))


def participation_ratios(eigenvectors) -> np.ndarray:
    """p = (sum |e_i|^2)^2 / (N sum |e_i|^4), dimensionless, shape=(k,), from mass-weighted vectors, shape=(k, n, d)."""
    weights = np.sum(np.abs(eigenvectors) ** 2, axis=2)
    return weights.sum(axis=1) ** 2 / (weights.shape[1] * np.sum(weights**2, axis=1))


def kinds_of(values, bands, *, tolerance: float = 0.0) -> list[str]:
    """ "local" above or below all bands, "gap" between two, "band" inside one or at its edge.

    Args:
        values: Frequencies, or their squares, of the modes; imaginary ones negative.
        bands: Lower and upper edge of each band of the perfect crystal in the same unit, in any order, shape=(b, 2).
        tolerance: How far outside a band a value still counts as inside, in the same unit: the accuracy of the edges.

    Raises:
        ValueError: If there is no band, or an edge is not a number.
    """
    bands = np.asarray(bands, dtype=float).reshape(-1, 2)
    if not len(bands) or not np.all(np.isfinite(bands)) or np.any(bands[:, 0] > bands[:, 1]):
        raise ValueError(f"`bands` must be pairs of a lower and an upper edge, got {bands.tolist()}")
    kinds = []
    for value in np.asarray(values, dtype=float):
        inside = (bands[:, 0] - tolerance <= value) & (value <= bands[:, 1] + tolerance)
        between = bands[:, 0].min() < value < bands[:, 1].max()
        kinds.append("band" if inside.any() else "gap" if between else "local")
    return kinds


def joined_bands(branches, *, smallest_gap: float) -> np.ndarray:
    """The bands that frequencies of a perfect crystal fill, as lower and upper edges, shape=(b, 2).

    Args:
        branches: Frequencies on a mesh of wave vectors, sorted by branch, shape=(n_q, n_branches).
        smallest_gap: Branches closer than this belong to one band, in the unit of the frequencies.
    """
    branches = np.sort(np.asarray(branches, dtype=float), axis=1)
    edges = np.stack([branches.min(axis=0), branches.max(axis=0)], axis=1)
    bands = [edges[0]]
    for low, high in edges[1:]:
        if low - bands[-1][1] <= smallest_gap:
            bands[-1] = np.array([bands[-1][0], max(high, bands[-1][1])])
        else:
            bands.append(np.array([low, high]))
    return np.array(bands)
