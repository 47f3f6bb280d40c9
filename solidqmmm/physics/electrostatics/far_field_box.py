"""The field of far charges in a box of any shape, carried by charges on a larger box around it.

As in `far_field`, but for a box, which wastes no space around a grid: charges Q = S phi on the surface of the larger box
reproduce the potentials phi that far charges and dipoles have on the surface of the box, hence everywhere inside,

    Q = S (T q),    phi_far = T^T (S^T phi_Q),    S = A^+,    A_ci = erf(|r_c - s_i|/sqrt(2) sigma)/|r_c - s_i|,

T the Coulomb potentials of the far sources at the surface's points r_c. The second map, from the potentials phi_Q that a
charge density in the box has at the sites s_i to those at the far sources, is the transpose of the first: both give the same
energy.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy.special import erf

from solidqmmm.physics.electrostatics.ewald import COULOMB

FAR = 4.0  # angstrom
_CUTOFF = 1e-10  # singular values below this, relative to the largest, only amplify rounding
_PAIRS = 2_000_000  # at a time


class FarFieldBox:
    """Two boxes, one around the other, and the maps between far sources and the charges on the outer one.

    Args:
        cell: Vectors of the inner box as rows from the origin, angstrom, shape=(3, 3).
        sigma: Width of the Gaussian charges on the outer box, angstrom.

    Attributes:
        distance: From here on a source is far: perpendicular distance from the inner box in angstrom, at least 4 and 0.285
            of the box's size. Random ions of +-2 e beyond it, 10,000 of them, then have errors of 4e-6 V in the middle
            70 % of a box of 14 angstrom, and of 1e-3 V on its surface, where no density is.
        sites: Where the charges are, angstrom, shape=(n_sites, 3).
    """

    def __init__(self, cell, sigma: float):
        cell = np.asarray(cell, dtype=float)
        length = abs(np.linalg.det(cell)) ** (1 / 3)
        self._inverse = np.linalg.inv(cell)
        self.distance = max(FAR, 0.285 * length)
        spacing = min(0.375 * self.distance, length / 6)
        self.sites = _surface(cell, spacing, 0.62 * self.distance)
        self._points = _surface(cell, 0.53 * spacing, 0.0)
        self._sigma = float(sigma)

    @cached_property
    def _S(self):
        r = np.linalg.norm(self._points[:, None] - self.sites, axis=2)
        return np.linalg.pinv(erf(r / (np.sqrt(2) * self._sigma)) / r, rcond=_CUTOFF)

    def beyond(self, positions) -> np.ndarray:
        """Distances from the inner box in angstrom (the largest of those from its faces, 0 inside), shape=(n,)."""
        fractions = np.asarray(positions, dtype=float) @ self._inverse
        outside = np.maximum(-fractions, fractions - 1) / np.linalg.norm(self._inverse, axis=0)
        return np.maximum(outside.max(axis=1, initial=0.0), 0.0)

    def charges(self, positions, charges, dipoles=None) -> np.ndarray:
        """Charges at the sites in e that stand for far charges (e) and dipoles (e angstrom), shape=(n_sites,)."""
        potential = np.zeros(len(self._points))
        for part, inverse in self._pairs(positions):
            potential += charges[part] @ inverse
            if dipoles is not None:
                # p . (x - r)/|x - r|^3
                p, cubed = dipoles[part], inverse**3
                potential += np.einsum("ck,kc->c", self._points, p.T @ cubed)
                potential -= np.einsum("jk,jk->j", p, positions[part]) @ cubed
        return self._S @ potential

    def at_sources(self, positions, potentials, derivatives: int = 1) -> list[np.ndarray]:
        """Potential in V, field in V/angstrom, field gradient in V/angstrom^2 of the density inside at far positions.

        Args:
            positions: Angstrom, shape=(n, 3).
            potentials: Those of the density at the sites in V, shape=(n_sites,).
            derivatives: 0, 1 or 2.

        Returns:
            Arrays of shape (n,), (n, 3), (n, 3, 3): the first `derivatives` + 1 of them.
        """
        w, x = potentials @ self._S / COULOMB, self._points
        n = len(positions)
        found = [np.zeros((n, *(3,) * k)) for k in range(derivatives + 1)]
        columns = np.hstack([w[:, None], w[:, None] * x])
        if derivatives > 1:
            columns = np.hstack([columns, (w[:, None, None] * x[:, :, None] * x[:, None, :]).reshape(-1, 9)])
        for part, inverse in self._pairs(positions):
            r = positions[part]
            found[0][part] = inverse @ w
            if derivatives > 0:
                f = inverse**3 @ columns[:, :4]
                found[1][part] = r * f[:, :1] - f[:, 1:]
            if derivatives > 1:
                g = inverse**5 @ columns
                cross = r[:, :, None] * g[:, None, 1:4]
                second = g[:, 4:].reshape(-1, 3, 3) - cross - cross.transpose(0, 2, 1)
                second += r[:, :, None] * r[:, None, :] * g[:, :1, None]
                found[2][part] = f[:, :1, None] * np.eye(3) - 3 * second
        return [COULOMB * value for value in found]

    def _pairs(self, positions):
        """Parts of the sources, and 1/r between them and the points, shape=(n_part, n_points)."""
        x = self._points
        chunk = max(1, _PAIRS // len(x))
        for first in range(0, len(positions), chunk):
            r = positions[first : first + chunk]
            squared = (r**2).sum(axis=1)[:, None] + (x**2).sum(axis=1) - 2 * r @ x.T
            yield slice(first, first + chunk), 1 / np.sqrt(squared)


def _surface(cell, spacing, distance) -> np.ndarray:
    """Points on the surface of the cell grown by `distance` on all sides, at most `spacing` apart along the edges."""
    grown = distance * np.linalg.norm(np.linalg.inv(cell), axis=0)
    counts = np.ceil(np.linalg.norm(cell, axis=1) * (1 + 2 * grown) / spacing).astype(int) + 1
    lines = [np.linspace(-g, 1 + g, n) for g, n in zip(grown, counts)]
    index = np.array([line.ravel() for line in np.meshgrid(*[np.arange(n) for n in counts], indexing="ij")]).T
    on_surface = ((index == 0) | (index == counts - 1)).any(axis=1)
    return np.stack([lines[c][index[on_surface, c]] for c in range(3)], axis=1) @ cell
