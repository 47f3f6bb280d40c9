"""Algebraic multigrid for elastic crystals: a preconditioner whose cost per right-hand side grows like the number of
atoms.

Smoothed aggregation (pyamg builds the levels) reproduces the near-null space exactly on every level. For a crystal these
are the six motions that cost almost no energy, three translations and three rotations. A V-cycle smooths with Chebyshev
polynomials in the diagonally scaled matrix, which unlike Gauss-Seidel act on a block of columns and are symmetric, as
conjugate gradients ask.

Sources: P. Vanek, J. Mandel and M. Brezina, Computing 56, 179 (1996); M. Adams, M. Brezina, J. Hu and R. Tuminaro, J.
Comput. Phys. 188, 593 (2003).
"""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
from scipy import linalg, sparse

DEGREE = 2
RATIO = 10.0  # the smoother damps eigenvalues between the largest / RATIO and the largest
COARSEST = 600


def rigid_body_modes(positions) -> np.ndarray:
    """Translations and, in three dimensions, infinitesimal rotations about the centre, shape=(n d, 3 or 6 or d).

    Args:
        positions: In angstrom, shape=(n, d). A crystal that is cut by the boundary of its periodic cell may be given as
            it
            is: the modes need to be right piece by piece only.
    """
    positions = np.asarray(positions, dtype=float)
    n, d = positions.shape
    modes = [np.tile(np.eye(d)[k], n) for k in range(d)]
    if d == 3:
        x = positions - positions.mean(axis=0)
        x /= max(np.abs(x).max(), 1e-12)
        modes += [np.cross(np.eye(3)[k], x).ravel() for k in range(3)]
    return np.array(modes).T


class Multigrid:
    """The V-cycle as a function: R -> M R with M ~ A^-1, linear, symmetric, positive definite.

    Levels are kept in single precision: a preconditioner needs no more, and its cost is the traffic of memory.

    Args:
        A: Symmetric, positive definite, sparse, shape=(n, n).
        near_null_space: Motions that cost almost nothing, shape=(n, m).
        block: Degrees of freedom per atom; atoms are aggregated whole.

    Raises:
        numpy.linalg.LinAlgError: If A, or what is left of it on the coarsest level, is not positive definite.
    """

    def __init__(self, A, near_null_space, block: int):
        import pyamg

        diagonal = A.diagonal()
        if diagonal.min() <= 0:
            raise np.linalg.LinAlgError("a diagonal element is not positive")
        blocks = sparse.csr_matrix(A).tobsr((block, block))
        with _same_random_numbers():
            hierarchy = pyamg.smoothed_aggregation_solver(
                blocks,
                B=near_null_space,
                symmetry="symmetric",
                strength=("symmetric", {"theta": 0.0}),
                improve_candidates=None,
                presmoother=None,
                postsmoother=None,
                max_coarse=COARSEST,
            )
        self._levels = [_Level(level.A, level.P) for level in hierarchy.levels[:-1]]
        coarsest = hierarchy.levels[-1].A.toarray()
        self._coarsest = linalg.cho_factor((coarsest + coarsest.T).astype(float) / 2)

    def __call__(self, R) -> np.ndarray:
        return self._cycle(R.astype(np.float32), 0).astype(float)

    def _cycle(self, R, k):
        if k == len(self._levels):
            return linalg.cho_solve(self._coarsest, R).astype(np.float32)
        level = self._levels[k]
        R = level.scale * R
        X = level.smooth(R)
        X += level.P @ self._cycle(level.P.T @ (R - level.A @ X), k + 1)
        X += level.smooth(R - level.A @ X)
        X *= level.scale
        return X


@contextmanager
def _same_random_numbers():
    """pyamg draws from NumPy's global generator: the same numbers each time, and none that the caller would miss."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


class _Level:
    """A scaled to a unit diagonal, and the prolongation P into it, from the level below."""

    def __init__(self, A, P):
        scale = 1 / np.sqrt(A.diagonal())
        A = sparse.diags_array(scale) @ sparse.csr_array(A) @ sparse.diags_array(scale)
        self.largest = 1.05 * _largest_eigenvalue(A)
        self.A = A.tocsr().astype(np.float32)
        self.P = sparse.csr_array(sparse.diags_array(1 / scale) @ sparse.csr_array(P)).astype(np.float32)
        self.scale = scale.astype(np.float32)[:, None]

    def smooth(self, R) -> np.ndarray:
        """p(A) R with the Chebyshev polynomial p that makes 1 - x p(x) least on [largest / RATIO, largest]."""
        centre, half = (self.largest * (1 + sign / RATIO) / 2 for sign in (1, -1))
        sigma = centre / half
        rho = 1 / sigma
        D = R * np.float32(1 / centre)
        X = D.copy()
        for _ in range(DEGREE - 1):
            R = R - self.A @ D
            rho, before = 1 / (2 * sigma - rho), rho
            D = np.float32(rho * before) * D + np.float32(2 * rho / half) * R
            X += D
        return X


def _largest_eigenvalue(A, steps: int = 15) -> float:
    """By a few steps of Lanczos' recursion from a fixed start."""
    v = np.random.default_rng(0).normal(size=A.shape[0])
    v /= np.linalg.norm(v)
    before, beta, alphas, betas = np.zeros_like(v), 0.0, [], []
    for _ in range(min(steps, len(v))):
        w = A @ v - beta * before
        alphas.append(v @ w)
        w -= alphas[-1] * v
        beta = np.linalg.norm(w)
        betas.append(beta)
        if beta < 1e-12:
            break
        before, v = v, w / beta
    return float(linalg.eigvalsh_tridiagonal(np.array(alphas), np.array(betas[: len(alphas) - 1])).max())
