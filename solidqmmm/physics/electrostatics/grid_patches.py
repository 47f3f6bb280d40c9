"""Small boxes of points around a centre, on grids along the vectors of a cell of any shape.

In a box the vector from the centre to point (i, j, k) is d = a_0[i] + a_1[j] + a_2[k]. Squares and moments of d then need
tables of two indices only, and no array of vectors is ever made.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np


@dataclass(frozen=True, eq=False)
class PointGrid:
    """A block of the points sum_c i_c steps_c with start_c <= i_c < stop_c.

    Attributes:
        steps: Vectors between neighbouring points as rows, angstrom, shape=(3, 3).
        start, stop: Indices, shape=(3,).
        period: After how many points the grid repeats itself along each axis, 0 where it does not, shape=(3,).
    """

    steps: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    period: np.ndarray = (0, 0, 0)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of points along each axis."""
        return tuple(int(n) for n in np.subtract(self.stop, self.start))

    @property
    def point_volume(self) -> float:
        """Volume per point in angstrom^3."""
        return float(abs(np.linalg.det(self.steps)))

    @cached_property
    def _inverse(self):
        inverse = np.linalg.inv(self.steps)
        return inverse, np.linalg.norm(inverse, axis=0)

    def reach(self, radius: float) -> np.ndarray:
        """Indices that a sphere covers to either side of its centre along each axis, not rounded, shape=(3,)."""
        return radius * self._inverse[1]

    def patches(self, centre, radius: float):
        """The boxes that hold a sphere, as (slices into the block, (a_0, a_1, a_2)); several if periods meet the sphere.

        Args:
            centre, radius: In angstrom.
        """
        middle = np.asarray(centre, dtype=float) @ self._inverse[0]
        reach = self.reach(radius)
        first, last = np.ceil(middle - reach).astype(int), np.floor(middle + reach).astype(int) + 1
        pieces = []
        for c in range(3):
            period, found = int(self.period[c]), []
            shifts = [0]
            if period:
                # A point i of the block stands for i + shift.
                low, high = (first[c] - self.stop[c]) // period, (last[c] - self.start[c]) // period + 1
                shifts = [n * period for n in range(int(low), int(high) + 1)]
            for shift in shifts:
                begin, end = max(first[c] - shift, self.start[c]), min(last[c] - shift, self.stop[c])
                if begin < end:
                    offsets = (np.arange(begin, end) + shift - middle[c])[:, None] * self.steps[c]
                    found.append((slice(int(begin - self.start[c]), int(end - self.start[c])), offsets))
            pieces.append(found)
        for piece in product(*pieces):
            yield tuple(p[0] for p in piece), tuple(p[1] for p in piece)


def squares(axes) -> np.ndarray:
    """d^2 in angstrom^2 for all points of a box, shape=(n0, n1, n2).

    `axes`: vectors a_i, b_j and c_k in angstrom, shape=(n0, 3), (n1, 3) and (n2, 3); a point is d = a_i + b_j + c_k.
    """
    a, b, c = axes
    ab = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) + 2 * a @ b.T
    bc = (c * c).sum(axis=1) + 2 * b @ c.T
    d2 = ab[:, :, None] + bc
    ac = 2 * a @ c.T
    if ac.any():
        d2 += ac[:, None, :]
    return np.maximum(d2, 0.0, out=d2)


def along(axes, vector) -> np.ndarray:
    """d . vector in angstrom times the unit of the vector, for all points of a box, shape=(n0, n1, n2); see `squares`."""
    a, b, c = (axis @ vector for axis in axes)
    return a[:, None, None] + (b[:, None] + c)


def first_moment(weights, axes) -> np.ndarray:
    """sum w d over the points of a box, angstrom times the unit of the weights, shape=(3,)."""
    a, b, c = axes
    rest = weights.sum(axis=0)
    return weights.sum(axis=(1, 2)) @ a + rest.sum(axis=1) @ b + rest.sum(axis=0) @ c


def second_moment(weights, axes) -> np.ndarray:
    """sum w d (outer) d over the points of a box, angstrom^2 times the unit of the weights, shape=(3, 3)."""
    a, b, c = axes
    ab, ac, bc = weights.sum(axis=2), weights.sum(axis=1), weights.sum(axis=0)
    mixed = a.T @ ab @ b + a.T @ ac @ c + b.T @ bc @ c
    alone = (a.T * ab.sum(axis=1)) @ a + (b.T * bc.sum(axis=1)) @ b + (c.T * bc.sum(axis=0)) @ c
    return mixed + mixed.T + alone
