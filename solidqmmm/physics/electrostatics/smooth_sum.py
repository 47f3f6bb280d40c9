"""The smooth part of an Ewald sum as an operator: fields of charges and dipoles, applied again and again to the same sites.

    rho(k) = sum_j (q_j - i k.m_j) e^(-i k.r_j),    phi(k) = G(k) rho(k),    G = 4 pi/(V k^2) exp(-k^2/4 s^2),
    E_i = sum_k -i k phi(k) e^(i k.r_i),    dE_a/dx_b = sum_k k_a k_b phi(k) e^(i k.r_i),    U = 1/2 sum_k G |rho|^2,

without k = 0 (tin foil; a net charge has a uniform background). It is the field of Gaussians of width 1/(sqrt(2) s); that of
a site's own Gaussian is taken out. Two ways to the Fourier sums: `ExactSeries`, matrices of phases, n times the number of
wave vectors; and `MeshSeries`, a mesh with B-splines and fast Fourier transforms, of order n log n: at the order and spacing
below its fields are exact to some 5e-9 of the largest. All in units of 4 pi eps0 = 1.

Sources: U. Essmann et al., J. Chem. Phys. 103, 8577 (1995); A. Y. Toukmaji et al., J. Chem. Phys. 113, 10913 (2000).
"""

from __future__ import annotations

from copy import copy

import numpy as np
from scipy import fft, sparse
from scipy.interpolate import BSpline

ORDER = 10  # of the splines: points that a site reaches along each axis
SPACING = 0.25  # of the mesh, over 1/s


class SmoothSum:
    """Fields, forces and energy of the smooth part.

    Args:
        series: Fourier sums over the sites: `ExactSeries` or `MeshSeries`.
        volume: Of the cell in angstrom^3.
        screening: s in 1/angstrom.
    """

    def __init__(self, series, volume: float, screening: float):
        self.series, self.volume, self.s = series, volume, screening
        square = np.einsum("a...,a...->...", series.k, series.k)
        self.square = np.where(square > 0, square, 1.0)
        self.G = (
            4
            * np.pi
            / volume
            * np.exp(-square / (4 * screening**2))
            / self.square
            * series.weight
            * (square > 0)
        )
        self.background = np.pi / (volume * screening**2)

    def fields(self, charges, dipoles) -> np.ndarray:
        """At all sites, in e/angstrom^2, shape=(n, 3). Charges or dipoles may be None."""
        k = self.series.k
        phi = self.G * self._density(charges, dipoles)
        fields = np.stack([self.series.backward(-1j * k[a] * phi) for a in range(3)], axis=1)
        if dipoles is not None:
            fields += 4 * self.s**3 / (3 * np.sqrt(np.pi)) * dipoles
        return fields

    def energy_of_charges(self, charges) -> float:
        """Energy in e^2/angstrom of charges in e, shape=(n,), with the background of a net charge."""
        rho = self._density(charges, None)
        series = 0.5 * float(np.sum(self.G * np.abs(rho) ** 2))
        own = self.s / np.sqrt(np.pi) * float(charges @ charges)
        return series - own - 0.5 * self.background * float(charges.sum()) ** 2

    def forces(self, charges, dipoles) -> tuple[np.ndarray, np.ndarray]:
        """Forces in e^2/angstrom^2, shape=(n, 3), and -dU/de in e^2/angstrom, shape=(3, 3)."""
        k, backward = self.series.k, self.series.backward
        rho = self._density(charges, dipoles)
        phi = self.G * rho
        forces = charges[:, None] * np.stack([backward(-1j * k[a] * phi) for a in range(3)], axis=1)
        for a in range(3):
            for b in range(a, 3):
                gradient = backward(k[a] * k[b] * phi)
                forces[:, b] += dipoles[:, a] * gradient
                if b > a:
                    forces[:, a] += dipoles[:, b] * gradient
        energy = 0.5 * self.G * np.abs(rho) ** 2
        stretch = 2 * energy * (1 / self.square + 1 / (4 * self.s**2))
        total = energy.sum() - 0.5 * self.background * float(charges.sum()) ** 2
        virial = total * np.eye(3)
        turned = [np.conj(phi) * self.series.forward(dipoles[:, a]) for a in range(3)]
        for a in range(3):
            for b in range(3):
                virial[a, b] += np.sum(k[b] * turned[a].imag) - np.sum(stretch * k[a] * k[b])
        return forces, virial

    def among(self, sites) -> SmoothSum:
        """The same for some of the sites."""
        return SmoothSum(self.series.among(sites), self.volume, self.s)

    def matrix(self) -> np.ndarray:
        """T between dipoles: field = T @ m, in angstrom^-3, shape=(3 n, 3 n); with `ExactSeries` only."""
        size = 3 * len(self.series.phases)
        waves = (self.series.phases[:, None, :] * (np.sqrt(self.G) * self.series.k)).reshape(size, -1)
        own = 4 * self.s**3 / (3 * np.sqrt(np.pi)) * np.eye(size)
        return own - waves.real @ waves.real.T - waves.imag @ waves.imag.T

    def _density(self, charges, dipoles):
        rho = 0.0 if charges is None else self.series.forward(charges)
        if dipoles is not None:
            for a in range(3):
                rho = rho - 1j * self.series.k[a] * self.series.forward(dipoles[:, a])
        return rho


class ExactSeries:
    """Sums over half of the wave vectors up to a cutoff, by matrices of phases.

    Attributes:
        k: Wave vectors in 1/angstrom, shape=(3, m).
        weight: How often each counts, for real sums over all.
    """

    def __init__(self, positions, cell, screening: float, exponent: float):
        cutoff = 2 * screening * np.sqrt(exponent)
        most = np.floor(cutoff * np.linalg.norm(cell, axis=1) / (2 * np.pi)).astype(int)
        h = np.stack(np.meshgrid(*(np.arange(-m, m + 1) for m in most), indexing="ij"), axis=-1).reshape(
            -1, 3
        )
        h = h[len(h) // 2 + 1 :]  # h = 0 is in the middle, and -h as far before it as h after it
        k = 2 * np.pi * h @ np.linalg.inv(cell).T
        self.k = k[np.einsum("ma,ma->m", k, k) <= cutoff**2].T.copy()
        self.weight = 2.0
        self.phases = np.exp(1j * positions @ self.k)

    def among(self, sites) -> ExactSeries:
        """The same for some of the sites."""
        some = copy(self)
        some.phases = self.phases[sites]
        return some

    def forward(self, values) -> np.ndarray:
        """sum_j f_j e^(-i k.r_j), shape=(m,)."""
        return np.conj(values @ self.phases)

    def backward(self, coefficients) -> np.ndarray:
        """Re sum_k c(k) e^(i k.r_i), shape=(n,); the weights are the caller's."""
        return (self.phases @ coefficients).real


class MeshSeries:
    """The same sums over all wave vectors of a mesh, to the accuracy of B-splines of high order.

    Attributes:
        k: Wave vectors in 1/angstrom, shape=(3, n1, n2, n3//2 + 1).
        weight: How often each counts, over the splines' own transform in both directions; zero at the mesh's limit.
    """

    def __init__(self, positions, cell, screening: float, order: int = ORDER, spacing: float = SPACING):
        lengths = np.linalg.norm(cell, axis=1)
        self.shape = tuple(
            2
            * fft.next_fast_len(
                max(int(np.ceil(length * screening / (2 * spacing))), order // 2 + 1), real=True
            )
            for length in lengths
        )
        n = np.array(self.shape)
        scaled = positions @ np.linalg.inv(cell)
        u = (scaled - np.floor(scaled)) * n
        first = np.ceil(u - order / 2).astype(int)
        spline = BSpline.basis_element(np.arange(order + 1) - order / 2, extrapolate=False)
        places, weights = [], []
        for a in range(3):
            points = first[:, a, None] + np.arange(order)
            weights.append(np.nan_to_num(spline(points - u[:, a, None])))
            places.append(points % n[a])
        (x, y, z), (w_x, w_y, w_z) = places, weights
        index = ((x[:, :, None] * n[1] + y[:, None, :])[..., None] * n[2] + z[:, None, None, :]).reshape(-1)
        data = (w_x[:, :, None, None] * w_y[:, None, :, None] * w_z[:, None, None, :]).reshape(-1)
        starts = np.arange(0, len(data) + 1, order**3)
        small = np.int32 if max(len(data), n.prod()) < 2**31 else np.int64
        self.spread = sparse.csr_array(
            (data, index.astype(small), starts.astype(small)), shape=(len(positions), int(n.prod()))
        )
        h = [fft.fftfreq(n[0], 1 / n[0]), fft.fftfreq(n[1], 1 / n[1]), fft.rfftfreq(n[2], 1 / n[2])]
        self.k = (
            2
            * np.pi
            * np.einsum("ab,b...->a...", np.linalg.inv(cell), np.stack(np.meshgrid(*h, indexing="ij")))
        )
        counts = [
            np.where(2 * np.abs(h_a) < n_a, np.sinc(h_a / n_a) ** (-2.0 * order), 0.0)
            for h_a, n_a in zip(h, n)
        ]
        counts[2][1:] *= 2
        self.weight = counts[0][:, None, None] * counts[1][:, None] * counts[2]

    def among(self, sites) -> MeshSeries:
        """The same for some of the sites."""
        some = copy(self)
        some.spread = self.spread[sites]
        return some

    def forward(self, values) -> np.ndarray:
        """sum_j f_j e^(-i k.r_j) times the splines' transform, in the unit of f, on the half of the vectors k,
        shape=(n1, n2, n3 // 2 + 1).
        """
        return fft.rfftn((values @ self.spread).reshape(self.shape))

    def backward(self, coefficients) -> np.ndarray:
        """Re sum_k c(k) e^(i k.r_i) times the splines' transform, each vector of the half counted once, shape=(m,)."""
        half = coefficients.copy()
        half[..., 1:] *= 0.5
        return self.spread @ fft.irfftn(half, s=self.shape, norm="forward").reshape(-1)
