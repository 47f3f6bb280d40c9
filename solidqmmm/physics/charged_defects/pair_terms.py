"""Short-ranged energies of particles in pairs, tabulated by distance, for sets of particles of several kinds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.interpolate import CubicHermiteSpline
from scipy.spatial import cKDTree

from solidqmmm.errors import SolidQMMMError


@dataclass(frozen=True, eq=False)
class PairTerm:
    """V(r) of two kinds of particles: cubic between distances at which V and V' are known, zero beyond the last one.

    Attributes:
        distances: Ascending, in angstrom, shape=(n,).
        energies: In eV, shape=(n,).
        slopes: dV/dr in eV/angstrom, shape=(n,).

    Raises:
        ValueError: For arrays that do not fit, are not finite, or distances that do not ascend.
    """

    distances: np.ndarray
    energies: np.ndarray
    slopes: np.ndarray

    def __post_init__(self):
        for name in ("distances", "energies", "slopes"):
            value = np.array(getattr(self, name), dtype=float)
            if value.shape != np.shape(self.distances) or value.ndim != 1 or len(value) < 2 or not np.isfinite(value).all():
                raise ValueError(f"`{name}` must be finite numbers, two or more, as many as distances, got {value.shape}")
            value.flags.writeable = False
            object.__setattr__(self, name, value)
        if (np.diff(self.distances) <= 0).any():
            raise ValueError("`distances` of a pair term must ascend")

    @classmethod
    def of(cls, energy, slope, cutoff: float, *, nearest: float = 0.6, n: int = 4001) -> PairTerm:
        """From functions of the distance (angstrom), cut at `cutoff`."""
        r = np.linspace(nearest, cutoff, n)
        return cls(r, energy(r), slope(r))

    @property
    def cutoff(self) -> float:
        """Where it ends, in angstrom."""
        return float(self.distances[-1])

    def values(self, r, order: int = 1) -> list[np.ndarray]:
        """V, V' ... of `order` at distances in angstrom, each of their shape.

        Raises:
            SolidQMMMError: For a distance below the first of the table.
        """
        if r.min(initial=np.inf) < self.distances[0]:
            raise SolidQMMMError(
                f"two ions came as near as {r.min():.2f} A, and their pair term is known from {self.distances[0]:g} A on: "
                "start from another position of the defect, or are signs of charges wrong?"
            )
        inside = r < self.cutoff
        r = np.minimum(r, self.cutoff)
        return [np.where(inside, self._spline(r, k), 0.0) for k in range(order + 1)]

    @cached_property
    def _spline(self):
        return CubicHermiteSpline(self.distances, self.energies, self.slopes)


@dataclass(frozen=True, eq=False)
class Particles:
    """Cores and shells of ions.

    Attributes:
        positions: In angstrom, shape=(n, 3).
        charges: In e, shape=(n,).
        kinds: Of the short-ranged terms, shape=(n,).
        ions: The ion of each, shape=(n,). Particles of one ion have no pair term and no Coulomb energy with each other.
    """

    positions: np.ndarray
    charges: np.ndarray
    kinds: np.ndarray
    ions: np.ndarray

    def __len__(self):
        return len(self.charges)

    def __getitem__(self, some) -> Particles:
        return Particles(self.positions[some], self.charges[some], self.kinds[some], self.ions[some])

    def moved(self, displacements) -> Particles:
        """The same elsewhere; displacements in angstrom, shape=(n, 3)."""
        return replace(self, positions=self.positions + displacements)


def pairs_in_reach(
    terms: dict[tuple[int, int], PairTerm], first: Particles, second: Particles | None = None, *, skin: float = 0.0,
    reach: float = np.inf,
) -> list[tuple[np.ndarray, np.ndarray, PairTerm]]:  # fmt: skip
    """Pairs (i, j) of particles whose pair term reaches from one to the other, with that term.

    Args:
        terms: Pair terms by kinds (a, b) with a <= b.
        first: Particles i.
        second: Particles j; without them pairs within `first`, each once.
        skin: What is added to each cutoff, angstrom.
        reach: Distance beyond which no pair is listed, angstrom.

    Returns:
        Indices i and j, shape=(m,) each, and the term, for each term that has pairs.
    """
    within = second is None
    second = first if within else second
    found = []
    for (a, b), term in terms.items():
        for one, other in sorted({(a, b), (b, a)}):
            if within and (one, other) != (a, b):
                continue
            i, j = np.flatnonzero(first.kinds == one), np.flatnonzero(second.kinds == other)
            if not len(i) or not len(j):
                continue
            trees = cKDTree(first.positions[i]), cKDTree(second.positions[j])
            near = trees[0].sparse_distance_matrix(trees[1], min(term.cutoff + skin, reach), output_type="ndarray")
            i, j = i[near["i"]], j[near["j"]]
            keep = first.ions[i] != second.ions[j]
            if within and a == b:
                keep &= i < j
            found.append((i[keep], j[keep], term))
    return found
