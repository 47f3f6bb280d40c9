"""What the atoms of a defect see of the spectrum of an infinite crystal: Dyson's equation inside the bands.

    G(z) = [G0(z)^-1 - V(z)]^-1,    V = dK - z dM,    z = w^2,    g_i(nu) = local density of states of m_i G_ii

(`physics.greens_function`). G0 at many frequencies takes one sum over the modes of a mesh: they are sorted into bins of
frequency that are narrow beside the broadening,

    A_b(R) = 1/N sum_(q s in b) e^(i q.R) e_qs e_qs^+,
    G0_(R t)(R' t') = (m_t m_t')^(-1/2) sum_b A_b(R - R')_tt' / (z - w_b^2),

a mode shared by the two bins nearest to it, so that their distance enters by its square only.

Densities are broadened by the kernel

    K(x) = sqrt(2) d^3 / (pi (x^4 + d^4)),

of integral 1 and half width d at half maximum. Unlike a Lorentzian's its tails are negligible: a local mode leaves nothing
in the bands, and integrals count vibrations. As the sum of two poles it takes G at two complex frequencies, with
F(w) = 2 w G(w^2),

    g(nu) = Re[(1 + i) F(w + (1 + i) s) + (-1 + i) F(w + (-1 + i) s)] / 2 pi,     s = d / sqrt(2).

A sum over a mesh of n^3 wave vectors is exact for a crystal of n^3 cells: what it differs from the infinite one falls as
exp(-2 pi n a s / v), with the group velocity v and the length a of the cell's vectors.

Source: A. A. Maradudin, E. W. Montroll, G. H. Weiss and I. P. Ipatova, Theory of Lattice Dynamics in the Harmonic
Approximation, 2nd ed. (1971), chapter 8.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solidqmmm.physics.vibrations.greens_function import LatticeDefect
from solidqmmm.physics.vibrations.localized_modes import THZ, frequencies_THz
from solidqmmm.physics.vibrations.perfect_lattice import PerfectLattice

_BINS_PER_WIDTH = 6  # of s; the error of a bin's kernel is 1/(8 * 36) of its height
_TOGETHER = 32  # frequencies


def quartic_kernel(x, width: float) -> np.ndarray:
    """K(x) = sqrt(2) d^3 / (pi (x^4 + d^4)) with the half width d at half maximum, in 1/[x], in the shape of x."""
    return np.sqrt(2) * width**3 / (np.pi * (np.asarray(x) ** 4 + width**4))


def broadened(frequencies, function, width: float) -> np.ndarray:
    """g(nu) in 1/THz by the kernel K, from G in the upper half plane.

    Args:
        frequencies: nu in THz, shape=(m,).
        function: From complex w in sqrt(eV/amu)/angstrom, shape=(k,), to m_i G_ii(w^2) in angstrom^2 amu/eV, shape=(k, ...).
            It is asked once for frequencies that two values of nu share: those of a uniform grid do, where 2 s is a multiple
            of its step.
        width: d in THz.

    Returns:
        Shape=(m, ...).
    """
    nu, s = np.asarray(frequencies, dtype=float), width / np.sqrt(2)
    places, index = np.unique(np.round(np.concatenate([nu + s, nu - s]), 9), return_inverse=True)
    w = (places + 1j * s) / THZ
    G = function(w)
    F = 2 * w.reshape(-1, *[1] * (G.ndim - 1)) * G
    above, below = F[index[: len(nu)]], F[index[len(nu) :]]
    return np.real((1 + 1j) * above + (-1 + 1j) * below) / (2 * np.pi * THZ)


def defect_spectrum(
    frequencies, lattice: PerfectLattice, defect: LatticeDefect, *, width: float, mesh: int
) -> np.ndarray:
    """Local density of states on each perturbed site and added atom, per direction, in 1/THz, shape=(m, p + a, d).

    Args:
        frequencies: nu in THz, not negative, shape=(m,).
        lattice: The perfect crystal.
        defect: What the defect changes. A site without change (dK = 0, the host's mass) is one whose density is wanted.
        width: d in THz, the half width at half maximum of the kernel K that every mode becomes.
        mesh: Wave vectors in each direction.
    """
    spectrum = _Spectrum.of(lattice, defect.sites, mesh, width / np.sqrt(2) / _BINS_PER_WIDTH)
    d, p = lattice.d, len(defect.sites) * lattice.d
    masses = np.repeat(defect.masses, d)
    change = np.diag(masses)
    change[:p, :p] -= np.diag(np.repeat(lattice.masses[defect.sites[:, -1]], d))

    def weighted(w):
        found = []
        for some in np.array_split(w, 1 + len(w) // _TOGETHER):
            E = some[:, None, None] ** 2 * change - defect.stiffness
            E[:, :p, :p] += np.linalg.inv(spectrum.greens_functions(some**2))
            found.append(masses * np.diagonal(np.linalg.inv(E), axis1=1, axis2=2))
        return np.concatenate(found)

    density = broadened(frequencies, weighted, width)
    return density.reshape(len(density), len(defect.masses), d)


@dataclass(frozen=True, eq=False)
class _Spectrum:
    """A_b between sites.

    Attributes:
        squared: w_b^2 in eV/(angstrom^2 amu), shape=(k,).
        weights: (m m')^(-1/2) A_b(R) for each distinct R, in 1/amu, shape=(k, n_R, b d, b d).
        pairs: Two sites, one pair for each two, shape=(n_pairs, 2).
        index: Which R each pair has, shape=(n_pairs,).
        atoms: Which atom of the cell each site is, shape=(p,).
        d: Degrees of freedom per atom.
    """

    squared: np.ndarray
    weights: np.ndarray
    pairs: np.ndarray
    index: np.ndarray
    atoms: np.ndarray
    d: int

    @classmethod
    def of(cls, lattice: PerfectLattice, sites, mesh: int, step: float) -> _Spectrum:
        """From the modes of a mesh, in bins of `step` THz."""
        cells = sites[:, :-1]
        later, earlier = np.tril_indices(len(sites))
        order = np.lexsort(cells.T)  # so that R and -R do not both occur
        pairs = np.column_stack([order[later], order[earlier]])
        R, index = np.unique(cells[pairs[:, 0]] - cells[pairs[:, 1]], axis=0, return_inverse=True)
        q, twice = _half_of_mesh(mesh, lattice.dimension)
        W = lattice.on_mesh(mesh).reshape(mesh**lattice.dimension, *[len(lattice.masses) * lattice.d] * 2)
        squared, e = np.linalg.eigh(W[_flat(q, mesh)])
        place = np.clip(frequencies_THz(squared), 0, None) / step
        k = int(place.max()) + 2
        lower = np.minimum(place.astype(int), k - 2)
        share = place - lower
        D = e.shape[-1]
        A = np.zeros((k, len(R), D, D))
        which, mode = np.unravel_index(np.argsort(lower, axis=None, kind="stable"), lower.shape)
        ends = np.searchsorted(lower[which, mode], np.arange(k))
        for b in range(k - 1):
            own = slice(ends[b], ends[b + 1])
            n, s = which[own], mode[own]
            if not len(n):
                continue
            waves = np.exp(2j * np.pi / mesh * (R @ q[n].T))
            vectors = e[n, :, s]
            both = (vectors[:, :, None] * vectors[:, None, :].conj()).reshape(len(n), -1)
            for bin_, part in ((b, 1 - share[n, s]), (b + 1, share[n, s])):
                amount = (part * twice[n])[:, None]
                # q and -q together are twice the real part
                found = waves.real @ (amount * both.real) - waves.imag @ (amount * both.imag)
                A[bin_] += found.reshape(-1, D, D)
        roots = np.sqrt(np.repeat(lattice.masses, lattice.d))
        A /= mesh**lattice.dimension * roots[:, None] * roots
        centres = (np.arange(k) * step / THZ) ** 2
        return cls(centres, A, pairs, index.ravel(), sites[:, -1], lattice.d)

    def greens_functions(self, z) -> np.ndarray:
        """G0 between the sites at complex z in angstrom^2/eV, shape=(len(z), p d, p d)."""
        poles = 1 / (np.asarray(z)[:, None] - self.squared)
        flat = self.weights.reshape(len(self.squared), -1)
        G = poles.real @ flat + 1j * (poles.imag @ flat)
        b, p, d = self.weights.shape[-1] // self.d, len(self.atoms), self.d
        G = G.reshape(len(poles), -1, b, d, b, d)
        one, other = self.pairs.T
        blocks = G[:, self.index, self.atoms[one], :, self.atoms[other], :]  # of pairs, then z
        whole = np.empty((len(poles), p, d, p, d), dtype=complex)
        whole[:, one, :, other, :] = blocks
        whole[:, other, :, one, :] = blocks.swapaxes(2, 3)
        G = whole.reshape(len(poles), p * d, p * d)
        return (G + G.swapaxes(1, 2)) / 2


def _half_of_mesh(mesh: int, dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """One of each pair of wave vectors q and -q, as multiples of 1/mesh, and how many it stands for."""
    axes = [np.arange(mesh)] * dimension
    q = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, dimension)
    own, other = _flat(q, mesh), _flat(-q % mesh, mesh)
    kept = own <= other
    return q[kept], np.where(own == other, 1.0, 2.0)[kept]


def _flat(q, mesh: int) -> np.ndarray:
    return q @ mesh ** np.arange(q.shape[1])[::-1]
