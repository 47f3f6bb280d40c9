"""Local density of vibrational states by recursion: what one atom, or one direction, sees of the whole crystal's spectrum.

From a start e_0 (mass weighted) Lanczos' recursion makes a chain out of the crystal,

    b_(n+1) e_(n+1) = W e_n - a_n e_n - b_n e_(n-1),
    G_00(z) = 1/(z - a_0 - b_1^2/(z - a_1 - b_2^2/(...))),     g(lambda) = -Im G_00(lambda + i0) / pi.

N levels carry the first 2 N moments e_0.W^k e_0 exactly: the tridiagonal matrix of a and b is the Gauss quadrature of the
local density. What follows after N levels is either nothing (the nodes of the quadrature are then broadened) or the chain
that goes on for ever with constant coefficients that fit the band, the square-root terminator. A periodic host has the
coefficients of the infinite one up to half as many levels as there are bonds around its cell.

Source: R. Haydock, V. Heine and M. J. Kelly, J. Phys. C 5, 2845 (1972).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from solidqmmm.physics.vibrations.localized_modes import THZ, frequencies_THz


@dataclass(frozen=True, eq=False)
class Recursion:
    """The chain that stands for the crystal.

    Attributes:
        a: Diagonal in eV/(angstrom^2 amu), shape=(N,).
        b: Couplings b_1 ... b_(N-1) in the same unit, shape=(N - 1,).
        last: b_N, the coupling to what follows; 0 if the chain is all there is.
    """

    a: np.ndarray
    b: np.ndarray
    last: float

    def quadrature(self) -> tuple[np.ndarray, np.ndarray]:
        """Nodes lambda_k and weights of the local density, both of shape=(N,); the weights add up to 1."""
        nodes, vectors = linalg.eigh_tridiagonal(self.a, self.b)
        return nodes, vectors[0] ** 2

    def moments(self, highest: int) -> np.ndarray:
        """e_0.W^k e_0 for k = 0 ... `highest`, exact below 2 N, shape=(highest + 1,)."""
        nodes, weights = self.quadrature()
        return np.array([weights @ nodes**k for k in range(highest + 1)])

    def greens_function(self, z, bottom: float, top: float) -> np.ndarray:
        """G_00(z) with the square-root terminator of the band [bottom, top].

        Args:
            z: Complex w^2 off the real axis, in eV/(angstrom^2 amu), any shape.
            bottom: Lower edge of the band of the perfect crystal in eV/(angstrom^2 amu), usually 0.
            top: Its upper edge.
        """
        z = np.asarray(z, dtype=complex)
        b_squared = ((top - bottom) / 4) ** 2
        # t = 1/(z - a - b^2 t), the root that goes as 1/z far away
        t = (z - (top + bottom) / 2 - np.sqrt(z - bottom) * np.sqrt(z - top)) / (2 * b_squared)
        G = 1 / (z - self.a[-1] - self.last**2 * t)
        for a, b in zip(self.a[-2::-1], self.b[::-1]):
            G = 1 / (z - a - b**2 * G)
        return G


def recursion(W, start, levels: int) -> Recursion:
    """The first `levels` levels of the chain that begins with `start`.

    Args:
        W: Mass-weighted force constants, sparse, symmetric, in eV/(angstrom^2 amu), shape=(n, n).
        start: Mass-weighted direction, of any length, shape=(n,).
        levels: N; fewer come back if the chain ends.

    Raises:
        ValueError: If `start` is zero or `levels` is not positive.
    """
    return recursions(W, np.asarray(start, dtype=float)[:, None], levels)[0]


def recursions(W, starts, levels: int) -> list[Recursion]:
    """One recursion for each column of `starts`, shape=(n, k); they share the products with W, a third of the cost each.

    Raises:
        ValueError: For a start of length zero, or no level.
    """
    norms = np.linalg.norm(starts, axis=0)
    if levels < 1 or not np.all(norms > 0):
        raise ValueError(
            f"a recursion needs a start and at least one level, got |start| = {norms.min():g}, {levels} levels"
        )
    k = len(norms)
    E, before = starts / norms, np.zeros(starts.shape)
    a, b, length = np.zeros((levels, k)), np.zeros((levels + 1, k)), np.full(k, levels)
    for n in range(levels):
        V = W @ E
        V -= b[n] * before
        a[n] = np.einsum("ik,ik->k", E, V)
        V -= a[n] * E
        b[n + 1] = np.linalg.norm(V, axis=0)
        ends = b[n + 1] < 1e-10 * np.maximum(np.abs(a).max(axis=0), b.max(axis=0))
        b[n + 1, ends] = 0.0
        length[ends & (length == levels)] = n + 1
        if ends.all():
            break
        V /= np.where(ends, 1.0, b[n + 1])
        V[:, ends] = 0.0
        before, E = E, V
    return [Recursion(a[:N, c], b[1:N, c], float(b[N, c])) for c, N in enumerate(length)]


def broadened_density(frequencies, chain: Recursion, width: float) -> np.ndarray:
    """g(nu) in 1/THz: the nodes of the quadrature as Gaussians in frequency, imaginary ones at negative frequencies.

    The integral is 1. The nodes are as dense as the levels are many: with N levels in a band of width Delta, a `width` below
    Delta/N resolves the nodes instead of the crystal.

    Args:
        frequencies: nu in THz, shape=(m,).
        chain: From `recursion`.
        width: Standard deviation in THz.
    """
    nodes, weights = chain.quadrature()
    x = (np.asarray(frequencies, dtype=float)[:, None] - frequencies_THz(nodes)) / width
    return np.exp(-0.5 * x**2) @ weights / (np.sqrt(2 * np.pi) * width)


def terminated_density(
    frequencies, chain: Recursion, top: float, *, bottom: float = 0.0, width: float = 0.01
) -> np.ndarray:
    """g(nu) in 1/THz with the square-root terminator: smooth in the band, local modes as Lorentzians of half width `width`.

    Args:
        frequencies: nu in THz, positive, shape=(m,).
        chain: From `recursion`, of no more levels than the host has before its images meet.
        top: Upper edge of the band of the perfect crystal, as a frequency in THz.
        bottom: Its lower edge in THz.
        width: Imaginary part of the frequency in THz.
    """
    w = (np.asarray(frequencies, dtype=float) + 1j * width) / THZ
    edges = (np.array([bottom, top]) / THZ) ** 2
    return density_of_greens_function(w, chain.greens_function(w**2, *edges))


def density_of_greens_function(w, G) -> np.ndarray:
    """g(nu) = -Im[2 w G(w^2)] / pi dw/dnu in 1/THz, in the shape of G.

    Args:
        w: Complex, in sqrt(eV/amu)/angstrom, one for each G or one for all.
        G: In angstrom^2 amu/eV, any shape.
    """
    return -np.imag(2 * w * G) / (np.pi * THZ)
