"""Gaussian charges and dipoles in empty space on a grid of any shape: a mesh for what is smooth, boxes for what is not.

The potential of a charge of width s is split by a wider Gaussian of width S = 2 H, H the spacing of the mesh:

    erf(r/sqrt(2) s)/r = [erf(r/sqrt(2) s) - erf(r/sqrt(2) S)]/r + erf(r/sqrt(2) S)/r.

The first part ends at 5.6 S and is added point by point. The second is a Gaussian of width S/sqrt(2) put on the mesh,
convolved there with erf(r/S)/r by Fourier transforms (of twice the extent, so that nothing is periodic), and
interpolated to the grid, which is twice as fine, by polynomials of 16 points along each axis. It is R. W. Hockney and
J. W. Eastwood's particle-particle particle-mesh method (Computer Simulation Using Particles, 1988) with Gaussians in
place of splines.

`potential` is a linear map from charges and dipoles to the grid, and `at_sites` is its exact transpose: what it returns
are the derivatives of the interaction energy by the charges, the dipoles and the positions.
"""

from __future__ import annotations

import numpy as np
from scipy.fft import irfftn, next_fast_len, rfftn
from scipy.special import erf

from solidqmmm.physics.electrostatics.ewald import COULOMB
from solidqmmm.physics.electrostatics.grid_patches import (
    PointGrid,
    along,
    first_moment,
    second_moment,
    squares,
)

SPLIT = 2.0  # S/H: the interpolation's error falls as S grows, the cost of the boxes grows as its cube
_ENDS = 5.6  # in units of S: erfc(5.6/sqrt(2)) = 2e-8
_SPREAD = 6.2  # in units of the width of what is put on the mesh
_HALF = 8  # points of the interpolation on either side
_TABLE = 40_000


class ParticleMesh:
    """Maps between sites and a block of grid points.

    Args:
        cell: Cell of the grid as rows, angstrom, shape=(3, 3).
        size: Number of points along each axis of the whole grid, even, shape=(3,).
        start, stop: Indices of the block, shape=(3,).

    Attributes:
        split: S in angstrom.
        floor: The smallest width in angstrom that the grid can carry: its largest spacing. Narrower charges are taken as
            this wide, which changes their potential within 5 widths only.

    Raises:
        ValueError: For a grid with an odd number of points along an axis.
    """

    def __init__(self, cell, size, start, stop):
        cell, size = np.asarray(cell, dtype=float), np.asarray(size)
        if (size % 2).any():
            raise ValueError(
                f"the grid must have an even number of points along each axis, got {size.tolist()}"
            )
        self.fine = PointGrid(cell / size[:, None], np.asarray(start), np.asarray(stop))
        self.floor = float(np.linalg.norm(self.fine.steps, axis=1).max())
        self.split = SPLIT * 2 * self.floor
        self._size = size
        self._steps = 2 * self.fine.steps
        first, last = self.fine.start // 2 - _HALF + 1, (self.fine.stop - 1) // 2 + _HALF + 1
        self._target = PointGrid(self._steps, first, last)
        self._interpolation = [
            _midpoints(np.arange(a, b), first[c], last[c])
            for c, (a, b) in enumerate(zip(self.fine.start, self.fine.stop))
        ]
        self._source = None
        self._tables = {}
        self.positions = np.empty((0, 3))

    def place(self, positions, widths):
        """Sites from now on: positions in angstrom, shape=(n, 3), widths in angstrom, not below `floor`, shape=(n,)."""
        self.positions = np.asarray(positions, dtype=float).reshape(-1, 3)
        self.widths = np.maximum(np.asarray(widths, dtype=float), self.floor)
        kernel = self.split / np.sqrt(2)
        self._spread = np.sqrt(np.maximum(self.widths**2 - kernel**2, kernel**2))
        if len(self.positions):
            self._cover(kernel)

    def potential(self, charges, dipoles=None) -> np.ndarray:
        """Potential in V on the block for charges in e, shape=(n,), and dipoles in e angstrom, shape=(n, 3)."""
        if len(self.positions) == 0:
            return np.zeros(self.fine.shape)
        density = np.zeros(self._source.shape)
        for j, (slices, axes) in self._patches(self._source, _SPREAD * self._spread):
            s2 = self._spread[j] ** 2
            g = np.exp(squares(axes) * (-0.5 / s2)) * self._norm(j)
            # A dipole p is the charge density p . grad_j g(r - r_j) = (p . d) g/s^2.
            density[slices] += g * (
                charges[j] if dipoles is None else charges[j] + along(axes, dipoles[j] / s2)
            )
        smooth = irfftn(rfftn(density, self._padded) * self._kernel, self._padded)
        smooth = smooth[tuple(slice(0, n) for n in self._target.shape)]
        out = _interpolated(smooth, self._interpolation)
        for j, (slices, axes) in self._patches(self.fine, _ENDS * self.split, narrow=True):
            f = self._table(j)
            u = squares(axes)
            if dipoles is None:
                out[slices] += charges[j] * f(u, 0)
            else:  # p . grad_j f(d^2) = -2 p . d f'
                out[slices] += charges[j] * f(u, 0) - 2 * along(axes, dipoles[j]) * f(u, 1)
        return COULOMB * out

    def at_sites(self, weights, derivatives: int = 1) -> list[np.ndarray]:
        """Potential in V, field in V/angstrom and field gradient in V/angstrom^2 at the sites, averaged over their
        Gaussians.

        Args:
            weights: Charges on the points of the block in e.
            derivatives: 0, 1 or 2.

        Returns:
            Arrays of shape (n,), (n, 3), (n, 3, 3): the first `derivatives` + 1 of them.
        """
        n = len(self.positions)
        found = [np.zeros((n, *(3,) * k)) for k in range(derivatives + 1)]
        if n == 0:
            return found
        coarse = _interpolated(weights, [A.T for A in self._interpolation])
        smooth = irfftn(rfftn(coarse, self._padded) * np.conj(self._kernel), self._padded)
        smooth = smooth[tuple(slice(0, m) for m in self._source.shape)]
        for j, (slices, axes) in self._patches(self._source, _SPREAD * self._spread):
            s2 = self._spread[j] ** 2
            w = np.exp(squares(axes) * (-0.5 / s2)) * smooth[slices] * self._norm(j)
            total = w.sum()
            found[0][j] += total
            if derivatives > 0:
                found[1][j] -= first_moment(w, axes) / s2
            if derivatives > 1:
                found[2][j] -= second_moment(w, axes) / s2**2 - total / s2 * np.eye(3)
        for j, (slices, axes) in self._patches(self.fine, _ENDS * self.split, narrow=True):
            f, u, w = self._table(j), squares(axes), weights[slices]
            found[0][j] += np.vdot(w, f(u, 0))
            if derivatives > 0:
                w1 = w * f(u, 1)
                found[1][j] += 2 * first_moment(w1, axes)
            if derivatives > 1:
                found[2][j] -= 4 * second_moment(w * f(u, 2), axes) + 2 * w1.sum() * np.eye(3)
        return [COULOMB * value for value in found]

    # --- geometry -------------------------------------------------------------------------------------------------

    def _patches(self, grid, radii, *, narrow=False):
        radii = np.broadcast_to(radii, len(self.positions))
        for j in np.flatnonzero(self.widths < self.split) if narrow else range(len(self.positions)):
            for patch in grid.patches(self.positions[j], radii[j]):
                yield j, patch

    def _norm(self, j):
        return self._source.point_volume / (2 * np.pi * self._spread[j] ** 2) ** 1.5

    def _cover(self, kernel):
        """A mesh that holds all sites; the old one where it is large enough."""
        indices = self.positions @ np.linalg.inv(self._steps)
        reach = self._target.reach(1.0) * _SPREAD * self._spread[:, None]
        first = np.floor((indices - reach).min(axis=0)).astype(int)
        last = np.ceil((indices + reach).max(axis=0)).astype(int) + 1
        old = self._source
        if old is not None and (old.start <= first).all() and (old.stop >= last).all():
            return
        if old is not None:
            first, last = np.minimum(first, old.start), np.maximum(last, old.stop)
        source, target = PointGrid(self._steps, first - 2, last + 2), self._target
        self._source = source
        n_source, n_target = np.array(source.shape), np.array(target.shape)
        self._padded = tuple(next_fast_len(int(n), real=True) for n in n_source + n_target - 1)
        axes = []
        for c in range(3):
            m = np.arange(self._padded[c])
            m = np.where(m < n_target[c], m, m - self._padded[c])
            axes.append((m + target.start[c] - source.start[c])[:, None] * self._steps[c])
        r = np.sqrt(squares(axes))
        values = erf(r / (np.sqrt(2) * kernel))
        at = r == 0
        r[at], values[at] = 1.0, np.sqrt(2 / np.pi) / kernel
        self._kernel = rfftn(values / r)

    def _table(self, j):
        width = float(self.widths[j])
        if width not in self._tables:
            if len(self._tables) > 200:
                self._tables.clear()
            self._tables[width] = _ShortRange(width, self.split)
        return self._tables[width]


class _ShortRange:
    """[erf(r/sqrt(2) s) - erf(r/sqrt(2) S)]/r as a function of u = r^2, and its two derivatives by u; 0 beyond 5.6 S.

    erf(r/sqrt(2) s)/r = 2/sqrt(pi) int_0^b exp(-t^2 u) dt with b = 1/(sqrt(2) s), so that the derivatives are
    Gaussian integrals too; a quadrature between the two b is exact to rounding, also at u = 0.
    """

    def __init__(self, narrow, wide):
        nodes, weights = np.polynomial.legendre.leggauss(48)
        low, high = 1 / (np.sqrt(2) * wide), 1 / (np.sqrt(2) * narrow)
        t = 0.5 * (high + low) + 0.5 * (high - low) * nodes
        weights = weights * 0.5 * (high - low) * 2 / np.sqrt(np.pi)
        self.end = (_ENDS * wide) ** 2
        u = np.linspace(0.0, self.end, _TABLE + 1)
        self.per_u = _TABLE / self.end
        decay = np.exp(-np.outer(u, t**2))
        self.values = []
        for order in range(3):
            f = decay @ (weights * (-(t**2)) ** order)
            self.values.append((np.append(f, 0.0), np.append(np.diff(f), [0.0, 0.0])))

    def __call__(self, u, order):
        x = np.minimum(u * self.per_u, _TABLE + 1)
        i = x.astype(np.int32)
        f, step = self.values[order]
        x -= i
        x *= step[i]
        x += f[i]
        return x


def _midpoints(indices, first, last) -> np.ndarray:
    """Interpolation along one axis from mesh points first ... last - 1 to grid points, mesh point m being grid point 2 m."""
    # Lagrange's polynomial through 2 p equidistant points, half way between the middle two.
    x = np.arange(-_HALF + 1, _HALF + 1) - 0.5
    weights = np.array([np.prod(np.delete(-x, k) / np.delete(x[k] - x, k)) for k in range(2 * _HALF)])
    A = np.zeros((len(indices), int(last - first)))
    for row, i in enumerate(indices):
        m = i // 2 - first
        if i % 2 == 0:
            A[row, m] = 1.0
        else:
            A[row, m - _HALF + 1 : m + _HALF + 1] = weights
    return A


def _interpolated(values, matrices) -> np.ndarray:
    """The three matrices applied along the three axes."""
    for c in (2, 1, 0):
        values = np.moveaxis(np.tensordot(matrices[c], values, axes=(1, c)), 0, c)
    return np.ascontiguousarray(values)
