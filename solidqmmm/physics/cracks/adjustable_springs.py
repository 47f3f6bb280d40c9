"""Adjustable springs: a network that stands in for forces known at one arrangement of atoms, at others nearby.

Between atoms i and j at the distance vector r = x_j - x_i, with the unit vector u, a spring exerts on i (and the opposite
on j)

    F_ij = t_ij u(x)  +  K_l u_a u_a . (r - r_a)  +  K_t (1 - u_a u_a) . (r - r_a)

The tensions t belong to single springs. They are those that come nearest to given forces F at an arrangement a,

    min_t  sum_i |F_i - sum_j t_ij u_ij|^2 + damping^2 sum t^2 ,

a sparse linear problem; what they cannot give (central forces have no torque) is the residual, to be carried as a
constant. The stiffnesses K along and across belong to kinds of springs (species, first or second neighbours), and are
learnt from how the given forces changed between arrangements: a few numbers from thousands, by linear least squares in
which the past fades.

Sources: G. Csanyi, T. Albaret, M. C. Payne and A. De Vita, Phys. Rev. Lett. 93, 175503 (2004), and N. Bernstein, J. R.
Kermode and G. Csanyi, Rep. Prog. Phys. 72, 026501 (2009), for parameters fitted on the fly to quantum forces; M. Born and
K. Huang, Dynamical Theory of Crystal Lattices (1954), for springs with two stiffnesses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix, identity
from scipy.sparse.linalg import splu

# Weight of everything learnt before at each further difference, and singular values that say nothing.
_FADING, _RELATIVE_CUTOFF = 0.8, 1e-8


@dataclass(frozen=True, eq=False)
class SpringNetwork:
    """Who is joined to whom.

    Attributes:
        i, j: Ends of the springs, shape=(m,).
        shift: Lattice translation of j to the image that is joined to i, in cell vectors, shape=(m, 3).
        kind: Kind of each spring, shape=(m,).
        n_kinds: Number of kinds.
        weights: By how much each atom feels a *change* of its springs' forces by stiffness, 0 to 1, shape=(n,).

    Raises:
        ValueError: For arrays that do not fit together.
    """

    i: np.ndarray
    j: np.ndarray
    shift: np.ndarray
    kind: np.ndarray
    n_kinds: int
    weights: np.ndarray

    def __post_init__(self):
        for name, dtype in (("i", int), ("j", int), ("shift", int), ("kind", int), ("weights", float)):
            value = np.array(getattr(self, name), dtype=dtype)
            if name == "shift":
                value = value.reshape(-1, 3)
            value.flags.writeable = False
            object.__setattr__(self, name, value)
        m, n = len(self.i), len(self.weights)
        if not len(self.j) == len(self.shift) == len(self.kind) == m:
            raise ValueError(f"each of the {m} springs needs two ends, a shift and a kind")
        if m and (max(self.i.max(), self.j.max()) >= n or self.kind.max() >= self.n_kinds):
            raise ValueError(
                f"a spring ends on an atom beyond the {n}, or is of a kind beyond the {self.n_kinds}"
            )

    def __len__(self):
        return len(self.i)

    @property
    def n_atoms(self) -> int:
        """Number of atoms n."""
        return len(self.weights)

    def vectors(self, positions, cell) -> np.ndarray:
        """r of every spring in angstrom, shape=(m, 3), at contiguous `positions` (angstrom, shape=(n, 3))."""
        return positions[self.j] + self.shift @ cell - positions[self.i]

    # --- tensions -----------------------------------------------------------------------------------------------

    def tension_forces(self, vectors, tensions) -> np.ndarray:
        """Forces in eV/angstrom of tensions in eV/angstrom (shape=(m,)), pulling where positive, shape=(n, 3)."""
        return self._on_atoms(tensions[:, None] * _units(vectors))

    def fitted_tensions(self, vectors, forces, damping: float) -> np.ndarray:
        """The tensions that come nearest to `forces` (eV/angstrom, shape=(n, 3)), in eV/angstrom, shape=(m,).

        Args:
            vectors: Of the springs, angstrom, shape=(m, 3).
            forces: What they are to give.
            damping: Weight of the tensions' own size, positive, without unit: networks have more springs than they need.
        """
        if not len(self):
            return np.empty(0)
        A = self._directions(_units(vectors))
        normal = (A.T @ A + damping**2 * identity(len(self))).tocsc()
        return splu(normal).solve(A.T @ np.ravel(forces))

    def _directions(self, units) -> csr_matrix:
        """A of forces = A t, components of an atom side by side, shape=(3 n, m)."""
        m, axes = len(self), np.arange(3)
        rows = np.concatenate([(3 * end[:, None] + axes).ravel() for end in (self.i, self.j)])
        columns = np.tile(np.repeat(np.arange(m), 3), 2)
        values = np.concatenate([units.ravel(), -units.ravel()])
        return coo_matrix((values, (rows, columns)), shape=(3 * self.n_atoms, m)).tocsr()

    # --- stiffness ----------------------------------------------------------------------------------------------

    def stretched(self, anchor, vectors, stiffness) -> np.ndarray:
        """Change of the forces by stiffness from the anchor to here, on atoms by weight and without net force, shape=(n,
        3).

        Args:
            anchor: Vectors of the springs at the anchor in angstrom, shape=(m, 3).
            vectors: Vectors here, shape=(m, 3).
            stiffness: K_l and K_t of every kind in eV/angstrom^2, shape=(n_kinds, 2).
        """
        along, across = _parts(anchor, vectors)
        K = stiffness[self.kind]
        return self._felt(self._on_atoms(K[:, :1] * along + K[:, 1:] * across))

    def patterns(self, anchor, vectors) -> np.ndarray:
        """Forces for every K = 1, others 0, as `stretched` gives them, shape=(n, 3, 2 n_kinds)."""
        found = np.zeros((self.n_atoms, 3, self.n_kinds, 2))
        for p, part in enumerate(_parts(anchor, vectors)):
            for kind in range(self.n_kinds):
                found[:, :, kind, p] = self._felt(
                    self._on_atoms(np.where((self.kind == kind)[:, None], part, 0.0))
                )
        return found.reshape(self.n_atoms, 3, -1)

    def _felt(self, forces) -> np.ndarray:
        """Forces by weight; where some atoms feel less than others, the net force that this leaves is taken out again."""
        forces = self.weights[:, None] * forces
        total = self.weights.sum()
        return forces - np.outer(self.weights, forces.sum(axis=0) / total) if total > 0 else forces

    def _on_atoms(self, on_i) -> np.ndarray:
        """Sum of what the springs exert on their ends, `on_i` on i and the opposite on j, shape=(n, 3)."""
        columns = (
            np.bincount(self.i, on_i[:, a], self.n_atoms) - np.bincount(self.j, on_i[:, a], self.n_atoms)
            for a in range(3)
        )
        return np.stack(list(columns), axis=1)


@dataclass(frozen=True, eq=False)
class LearntStiffness:
    """K of every kind, from all differences so far: the normal equations of a least-squares fit.

    Attributes:
        normal: In angstrom^2, shape=(2 n_kinds, 2 n_kinds).
        right: In eV, shape=(2 n_kinds,).
    """

    normal: np.ndarray
    right: np.ndarray

    @classmethod
    def nothing(cls, n_kinds: int) -> LearntStiffness:
        """Before the first difference: all K are 0."""
        return cls(np.zeros((2 * n_kinds, 2 * n_kinds)), np.zeros(2 * n_kinds))

    def with_difference(self, patterns, change) -> LearntStiffness:
        """Having seen forces change by `change` (eV/angstrom, shape=(n, 3)) where unit stiffness gives `patterns`."""
        A, b = patterns.reshape(-1, patterns.shape[-1]), np.ravel(change)
        return LearntStiffness(_FADING * self.normal + A.T @ A, _FADING * self.right + A.T @ b)

    def values(self) -> np.ndarray:
        """K_l and K_t of every kind in eV/angstrom^2, shape=(n_kinds, 2); the smallest where data leave a choice."""
        if not len(self.right):
            return np.zeros((0, 2))
        return np.linalg.lstsq(self.normal, self.right, rcond=_RELATIVE_CUTOFF)[0].reshape(-1, 2)


def second_neighbours(i, j, shift) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ends and shifts of pairs that have a neighbour in common and are no neighbours, each pair once.

    Args:
        i, j: Indices of the ends of bonds, each in both directions, shape=(m,).
        shift: Lattice translations of j, shape=(m, 3).
    """
    i, j, shift = np.asarray(i), np.asarray(j), np.asarray(shift).reshape(-1, 3)
    order = np.argsort(i, kind="stable")
    i, j, shift = i[order], j[order], shift[order]
    first, last = np.searchsorted(i, j, "left"), np.searchsorted(i, j, "right")
    counts = last - first
    here = np.repeat(np.arange(len(i)), counts)
    there = np.repeat(first, counts) + np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    bonded = {tuple(row) for row in np.column_stack([i, j, shift]).tolist()}
    found = np.column_stack([i[here], j[there], shift[here] + shift[there]])
    found = np.unique(once(found), axis=0)
    keep = np.array([row[0] != row[1] and tuple(row) not in bonded for row in found.tolist()], dtype=bool)
    found = found[keep] if len(found) else found.reshape(0, 5)
    return found[:, 0], found[:, 1], found[:, 2:]


def once(pairs) -> np.ndarray:
    """Those of `pairs` (integers: i, j, shift in numbers of cells, shape=(m, 5)) with i < j.

    All have to be there in both directions.
    """
    return pairs[pairs[:, 0] < pairs[:, 1]]


def _units(vectors) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1)[:, None]


def _parts(anchor, vectors):
    """vectors - anchor along the anchor's direction and across it, each of shape=(m, 3)."""
    u, d = _units(anchor), vectors - anchor
    along = (d * u).sum(axis=1)[:, None] * u
    return along, d - along
