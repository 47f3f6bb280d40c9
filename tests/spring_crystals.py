"""Crystals of springs, for tests with known answers. All are periodic and sparse."""

import numpy as np
from scipy import sparse


def springs(n, i, j, k, directions=None):
    """Force constants of springs k between atoms i and j; scalar, or along unit vectors of shape=(n_springs, d)."""
    u = np.ones((len(i), 1)) if directions is None else directions
    blocks = np.broadcast_to(k, len(i))[:, None, None] * u[:, :, None] * u[:, None, :]
    d = u.shape[1]
    row = np.concatenate([i, j, i, j])[:, None, None] * d + np.arange(d)[:, None] + np.zeros(d, int)
    column = np.concatenate([j, i, i, j])[:, None, None] * d + np.arange(d) + np.zeros((d, 1), int)
    data = np.concatenate([-blocks, -blocks, blocks, blocks])
    return sparse.csr_array((data.ravel(), (row.ravel(), column.ravel())), shape=(n * d, n * d))


def ring(n, k=1.0):
    """n atoms in a ring of springs, one degree of freedom each."""
    i = np.arange(n)
    return springs(n, i, (i + 1) % n, k)


def simple_cubic(n):
    """n^3 atoms with one degree of freedom, unit springs to six neighbours; positions in lattice constants."""
    cells = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    index = np.arange(n**3).reshape(n, n, n)
    i = np.tile(index.ravel(), 3)
    j = np.concatenate([np.roll(index, -1, axis=axis).ravel() for axis in range(3)])
    return springs(n**3, i, j, 1.0), cells.astype(float)


def diamond(n, a=5.43, k1=9.0, k2=1.0):
    """8 n^3 atoms of the diamond lattice with central springs to first and second neighbours, in eV/angstrom^2."""
    from scipy.spatial import cKDTree

    face = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    cells = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    positions = a * (cells + np.vstack([face, face + 0.25]) + 1e-6).reshape(-1, 3)
    i, j = cKDTree(positions, boxsize=n * a).query_pairs(0.75 * a, output_type="ndarray").T
    apart = positions[j] - positions[i]
    apart -= n * a * np.round(apart / (n * a))
    r = np.linalg.norm(apart, axis=1)
    return springs(len(positions), i, j, np.where(r < 0.5 * a, k1, k2), apart / r[:, None]), positions


#: The highest w^2 of `diamond` with unit masses, met in crystals of 3 n cells.
DIAMOND_TOP = 30.0
