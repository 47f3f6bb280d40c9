"""Lattice dynamics of the perfect crystal: mass-weighted matrices W(q) on meshes of wave vectors.

    W_ss'(q) = sum_R W_ss'(0, R) e^(i q.R),     displacements u_(R s) = m_s^(-1/2) e_s e^(i q.R),

with the phase of the cell R. Matrices with the phase of the atoms, e^(i q.(x_s' + R - x_s)), such as phonopy's, are turned
into these on the way in. Wave vectors are in units of the reciprocal basis (fractional), cells are integer offsets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse


@dataclass(frozen=True, eq=False)
class PerfectLattice:
    """W(q) of a crystal.

    Attributes:
        matrices: The function q -> W(q) for many wave vectors, shapes (n_q, D) -> (n_q, b d, b d), in eV/(angstrom^2 amu).
        masses: Of the atoms of the cell in amu, shape=(b,).
        dimension: D, in how many directions the cell repeats.
        d: Degrees of freedom per atom.
    """

    matrices: Callable[[np.ndarray], np.ndarray]
    masses: np.ndarray
    dimension: int
    d: int
    _known: dict = field(default_factory=dict, repr=False)

    @classmethod
    def from_blocks(cls, offsets, blocks, masses) -> PerfectLattice:
        """From force constants between the cell and its neighbours.

        Args:
            offsets: Cells R that the cell at 0 is coupled to, itself included, shape=(n_R, D).
            blocks: Force constants K(0, R) in eV/angstrom^2, shape=(n_R, b d, b d).
            masses: In amu, shape=(b,).

        Raises:
            ValueError: If K(0, -R) is not the transpose of K(0, R).
        """
        offsets, masses = np.asarray(offsets, dtype=int), np.asarray(masses, dtype=float)
        blocks = np.asarray(blocks, dtype=float)
        d = blocks.shape[1] // len(masses)
        known = {tuple(R): block for R, block in zip(offsets, blocks)}
        for R, block in known.items():
            mirrored = known.get(tuple(-x for x in R))
            if mirrored is None or np.abs(mirrored - block.T).max() > 1e-6 * np.abs(blocks).max():
                raise ValueError(
                    f"the block of cell {R} must be the transpose of that of the opposite cell; symmetrize first"
                )
        roots = np.sqrt(np.repeat(masses, d))
        weighted = blocks / (roots[:, None] * roots)

        def matrices(q):
            return np.tensordot(np.exp(2j * np.pi * (q @ offsets.T)), weighted, axes=1)

        return cls(matrices, masses, offsets.shape[1], d)

    @classmethod
    def from_dynamical_matrix(cls, function, scaled_positions, masses) -> PerfectLattice:
        """From a dynamical matrix with the phases of the atoms.

        With phonopy: `def function(q): phonon.dynamical_matrix.run(q); return phonon.dynamical_matrix.dynamical_matrix`,
        positions and masses those of `phonon.primitive`.

        Args:
            function: D(q) in eV/(angstrom^2 amu), shape=(b d, b d), for one fractional q of shape (D,).
            scaled_positions: Of the atoms in the cell, fractional, shape=(b, D).
            masses: In amu, shape=(b,).
        """
        x, masses = np.asarray(scaled_positions, dtype=float), np.asarray(masses, dtype=float)
        d = np.shape(function(np.full(x.shape[1], 0.1)))[0] // len(masses)

        def matrices(q):
            phases = np.repeat(np.exp(2j * np.pi * (q @ x.T)), d, axis=1)
            D = np.array([function(vector) for vector in q])
            return phases[:, :, None] * D * phases.conj()[:, None, :]

        return cls(matrices, masses, x.shape[1], d)

    @classmethod
    def from_supercell(cls, K, masses, cells, basis, repeats) -> PerfectLattice:
        """From the force constants of a periodic crystal of many cells.

        Args:
            K: Sparse, symmetric, in eV/angstrom^2, shape=(n d, n d).
            masses: In amu, shape=(n,).
            cells: The cell of each atom, shape=(n, D).
            basis: Which atom of the cell it is, from 0, shape=(n,).
            repeats: Cells in each direction, shape=(D,).

        Raises:
            ValueError: If force constants reach half around the crystal, so that it cannot be told which way.
        """
        K, cells, basis = sparse.csr_array(K), np.asarray(cells, dtype=int), np.asarray(basis, dtype=int)
        repeats, n_basis = np.asarray(repeats, dtype=int), int(np.max(basis)) + 1
        d = K.shape[0] // len(basis)
        first = np.array(
            [np.flatnonzero((basis == s) & np.all(cells == cells[0], axis=1))[0] for s in range(n_basis)]
        )
        blocks = {}
        for s, atom in enumerate(first):
            rows = K[d * atom + np.arange(d)].tocoo()
            row, column = rows.coords
            strong = np.abs(rows.data) > 1e-12 * np.abs(rows.data).max()
            for i, j, value in zip(row[strong], column[strong], rows.data[strong]):
                R = (cells[j // d] - cells[atom] + repeats // 2) % repeats - repeats // 2
                if np.any((2 * np.abs(R) >= repeats) & (repeats > 1)):
                    raise ValueError(
                        f"force constants reach half around a crystal of {repeats.tolist()} cells; take a larger one"
                    )
                block = blocks.setdefault(tuple(int(r) for r in R), np.zeros((n_basis * d, n_basis * d)))
                block[d * s + i, d * basis[j // d] + j % d] += value
        return cls.from_blocks(list(blocks), list(blocks.values()), np.asarray(masses, dtype=float)[first])

    def on_mesh(self, mesh: int) -> np.ndarray:
        """W(q) at q = k/mesh, k = 0 ... mesh - 1 in each direction, shape=(mesh, ..., mesh, b d, b d)."""
        if mesh not in self._known:
            axes = [np.arange(mesh) / mesh] * self.dimension
            q = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, self.dimension)
            W = np.concatenate([self.matrices(some) for some in np.array_split(q, 1 + len(q) // 20000)])
            self._known[mesh] = ((W + W.conj().swapaxes(1, 2)) / 2).reshape(
                *[mesh] * self.dimension, *W.shape[1:]
            )
        return self._known[mesh]

    def squared_frequencies(self, mesh: int) -> np.ndarray:
        """w^2 of all modes on a mesh in eV/(angstrom^2 amu), ascending at each q, shape=(mesh^D, b d)."""
        W = self.on_mesh(mesh)
        return np.linalg.eigvalsh(W.reshape(-1, *W.shape[-2:]))
