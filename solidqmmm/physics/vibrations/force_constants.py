"""Sparse force constants K_ij = d2E/dx_i dx_j in 3x3 blocks: symmetry and the acoustic sum rule, each a step of its own.

Symmetric differences with step h leave errors of order h^2, by which K differs from its transpose and a rigid
translation costs energy. Both are measured before they are removed:

    symmetrization          K <- (K + K^T) / 2
    acoustic sum rule       sum_j K_ij = 0

With S_i = sum_j K_ij of the symmetrized matrix, its symmetric part goes to the atom's own block, K_ii <- K_ii - sym S_i. Its
antisymmetric part cannot go there without making K lopsided; it is spread over the pairs of the pattern,

    K_ij <- K_ij + a_i - a_j,    (L a)_i = -skew S_i,    L the Laplacian of the pattern,

which keeps K symmetric (a is antisymmetric) and is the smallest change, in the sum of squares, that does it. Blocks
outside the pattern stay zero.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import cg


def symmetrized(K: sparse.bsr_array) -> tuple[sparse.bsr_array, float]:
    """(K + K^T)/2 and the asymmetry max |K - K^T| before.

    Args:
        K: Blocks of 3x3 in eV/angstrom^2, shape=(3n, 3n), sorted indices, the pattern of blocks symmetric.

    Raises:
        ValueError: If the pattern of blocks is not symmetric.
    """
    other = K.data[_transposition(K)].transpose(0, 2, 1)
    asymmetry = float(np.abs(K.data - other).max(initial=0.0))
    return sparse.bsr_array((0.5 * (K.data + other), K.indices, K.indptr), shape=K.shape), asymmetry


def with_sum_rule(K: sparse.bsr_array) -> tuple[sparse.bsr_array, float]:
    """A symmetric K for which every translation is a zero mode, and max |sum_j K_ij| before.

    Args:
        K: Symmetric, blocks of 3x3 in eV/angstrom^2, shape=(3n, 3n), sorted indices, every diagonal block present.

    Raises:
        ValueError: If a diagonal block is missing.
    """
    n = K.shape[0] // 3
    rows = np.repeat(np.arange(n), np.diff(K.indptr))
    own = np.flatnonzero(K.indices == rows)
    if len(own) != n:
        raise ValueError(f"every atom needs its own block in the pattern: {n - len(own)} of {n} are missing")
    data = K.data.copy()
    sums = _row_sums(data, K.indptr)
    error = float(np.abs(sums).max(initial=0.0))
    _spread_antisymmetric(data, 0.5 * (sums - sums.transpose(0, 2, 1)), rows, K.indices, K.indptr)
    # Twice, because the first sum carries the rounding errors of what it removes.
    for _ in range(2):
        sums = _row_sums(data, K.indptr)
        data[own] -= 0.5 * (sums + sums.transpose(0, 2, 1))
    return sparse.bsr_array((data, K.indices, K.indptr), shape=K.shape), error


def _row_sums(data, indptr):
    """sum_j K_ij, shape=(n, 3, 3)."""
    return np.add.reduceat(data, indptr[:-1], axis=0)


def _transposition(K):
    """For every block its transposed partner, shape=(number of blocks,)."""
    n = K.shape[0] // 3
    numbered = sparse.csr_array((np.arange(len(K.indices)), K.indices, K.indptr), shape=(n, n)).tocsc()
    if not (np.array_equal(numbered.indptr, K.indptr) and np.array_equal(numbered.indices, K.indices)):
        raise ValueError("the pattern of blocks must be symmetric: K_ij without K_ji was found")
    return numbered.data


def _spread_antisymmetric(data, skew, rows, columns, indptr):
    """Adds a_i - a_j to the blocks, so that the row sums lose `skew`, shape=(n, 3, 3)."""
    largest = np.abs(skew).max(initial=0.0)
    if largest < 1e-15:
        return
    n = len(skew)
    ones = sparse.csr_array((np.ones(len(columns)), columns, indptr), shape=(n, n))
    laplacian = (sparse.diags_array(np.diff(indptr).astype(float)) - ones).tocsr()
    # The Laplacian is singular on each connected part; there the right-hand sides add up to zero because K is symmetric.
    _, part = connected_components(ones, directed=False)
    sizes = np.bincount(part)
    degree = laplacian.diagonal()
    inverse = sparse.diags_array(1.0 / np.where(degree > 0, degree, 1.0))
    for p, q in ((0, 1), (0, 2), (1, 2)):
        wanted = -skew[:, p, q]
        wanted = wanted - (np.bincount(part, wanted) / sizes)[part]
        a, _ = cg(laplacian, wanted, rtol=1e-10, atol=1e-16, maxiter=20 * int(np.sqrt(n)) + 1000, M=inverse)
        flow = a[rows] - a[columns]
        data[:, p, q] += flow
        data[:, q, p] -= flow
