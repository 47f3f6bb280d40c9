"""External charges and dipoles, repeated with the cell, and a charge density given by plane waves: what each does to
the other.

    phi_G = k (4 pi/V G^2) sum_j (q_j - i G.p_j) exp(-s_j^2 G^2/2) exp(-i G.r_j),    phi_0 = -k (2 pi/V) sum_j q_j s_j^2.

The potential of points has a zero average (conducting surroundings, a uniform background for a net charge), and that of
Gaussians is the potential of points wherever the Gaussians do not reach, which gives phi_0. The sums over G are those
of Ewald's
method with nothing left for real space: the density's own plane waves are all that it can feel.
"""

from __future__ import annotations

import numpy as np

from solidqmmm.physics.electrostatics.ewald import COULOMB

_PHASES = 2_000_000  # at a time


class LatticeField:
    """Maps between sites and plane waves, of which one of each pair G, -G is given.

    `potential` and `at_sites` are the transposes of each other to rounding: with the same numbers

        V sum_G conj(phi_G) rho_G = sum_sites (q phi - p . E),

    the sum over both of each pair.

    Args:
        cell: Rows in angstrom, shape=(3, 3).
        indices: Whole numbers n of the waves G = 2 pi n cell^-T, with the origin perhaps, shape=(m, 3). Several blocks
            of waves
            make several objects, whose `at_sites` add up.
    """

    def __init__(self, cell, indices):
        self._inverse = np.linalg.inv(np.asarray(cell, dtype=float))
        self._volume = abs(np.linalg.det(cell))
        self._indices = np.asarray(indices)
        self.G = 2 * np.pi * self._indices @ self._inverse.T
        self.G2 = (self.G**2).sum(axis=1)
        self._origin = np.flatnonzero(self.G2 == 0)
        self._kernel = 4 * np.pi * COULOMB / np.where(self.G2 == 0, 1.0, self.G2)
        self._kernel[self._origin] = 0.0

    def place(self, positions, widths):
        """Sites from now on: positions in angstrom, shape=(n, 3), widths in angstrom, shape=(n,)."""
        self._fractions = np.asarray(positions, dtype=float).reshape(-1, 3) @ self._inverse
        self._widths = np.asarray(widths, dtype=float)

    def potential(self, charges, dipoles=None) -> np.ndarray:
        """Coefficients phi_G in V for charges in e, shape=(n,), and dipoles in e angstrom, shape=(n, 3); shape=(m,)."""
        total = np.zeros(len(self.G), dtype=complex)
        for width, part, phases in self._phases():
            wave = phases @ charges[part]
            if dipoles is not None:
                wave -= 1j * np.einsum("gk,gk->g", self.G, phases @ dipoles[part])
            total += wave * self._smeared(width)
        total /= self._volume
        total[self._origin] = -2 * np.pi * COULOMB / self._volume * (charges @ self._widths**2)
        return total

    def at_sites(self, density, derivatives: int = 1) -> list[np.ndarray]:
        """Potential in V, field in V/angstrom, field gradient in V/angstrom^2 at the sites, averaged over their Gaussians.

        Args:
            density: Coefficients rho_G in e/angstrom^3, shape=(m,).
            derivatives: 0, 1 or 2.

        Returns:
            Arrays of shape (n,), (n, 3), (n, 3, 3): the first `derivatives` + 1 of them.
        """
        n = len(self._fractions)
        found = [np.zeros((n, *(3,) * k)) for k in range(derivatives + 1)]
        G = self.G
        # Both of a pair: twice the real part. phi = Re sum c e^(iGr), E = Im sum G c e^(iGr), dE/dx = Re sum G G c e^(iGr).
        columns = [np.ones((len(G), 1)), G, (G[:, :, None] * G[:, None, :]).reshape(-1, 9)][: derivatives + 1]
        for width, part, phases in self._phases():
            wave = 2 * density * self._smeared(width)
            sums = phases.conj().T @ (wave[:, None] * np.hstack(columns))
            found[0][part] = sums[:, 0].real
            if derivatives > 0:
                found[1][part] = sums[:, 1:4].imag
            if derivatives > 1:
                found[2][part] = sums[:, 4:].real.reshape(-1, 3, 3)
            found[0][part] -= 2 * np.pi * COULOMB * width**2 * density[self._origin].real.sum()
        return found

    def _smeared(self, width):
        return self._kernel * np.exp(-0.5 * width**2 * self.G2)

    def _phases(self):
        """exp(-i G.r) by parts of sites of equal width, shape=(m, n_part): products of powers along the three axes."""
        low, high = (f(self._indices, axis=0, initial=0) for f in (np.min, np.max))
        chunk = max(1, _PHASES // max(len(self.G), 1))
        for width in np.unique(self._widths):
            these = np.flatnonzero(self._widths == width)
            for first in range(0, len(these), chunk):
                part = these[first : first + chunk]
                phases = 1.0
                for c in range(3):
                    powers = np.exp(
                        -2j * np.pi * np.outer(np.arange(low[c], high[c] + 1), self._fractions[part, c])
                    )
                    phases = phases * powers[self._indices[:, c] - low[c]]
                yield width, part, phases
