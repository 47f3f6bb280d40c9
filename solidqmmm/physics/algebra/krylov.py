"""Conjugate gradients and MINRES for many right-hand sides at once: the columns share every product with the matrix.

A product of a sparse matrix with a block of columns reads the matrix once, so a column costs about a third of what it
costs alone. Each column has its own coefficients; the iteration ends when the slowest is done.

Sources: M. R. Hestenes and E. Stiefel, J. Res. Natl. Bur. Stand. 49, 409 (1952); C. C. Paige and M. A. Saunders, SIAM J.
Numer. Anal. 12, 617 (1975).
"""

from __future__ import annotations

import numpy as np


class NegativeCurvature(ArithmeticError):
    """p.A p <= 0 was met, so the matrix is not positive definite. `direction` is p, shape=(n,)."""

    def __init__(self, direction):
        super().__init__("conjugate gradients met a direction of negative curvature")
        self.direction = direction


def conjugate_gradients(
    A, B, *, precondition=None, guess=None, tolerance: float = 1e-8, max_iterations: int = 5000
) -> tuple[np.ndarray, np.ndarray, bool]:
    """A X = B with A symmetric and positive definite.

    A column is done when r.M r <= tolerance^2 b.M b. With a good preconditioner M ~ A^-1 that compares the energy of the
    error, e.A e, with that of the solution, x.A x.

    Args:
        A: Anything that multiplies a block, `A @ X`, shape=(n, n).
        B: Right-hand sides, shape=(n, k).
        precondition: The function R -> M R, linear, symmetric, positive definite; None for M = 1.
        guess: Where to start, shape=(n, k).
        tolerance: See above.
        max_iterations: Where to give up.

    Returns:
        X, the residual R = B - A X, and whether all columns converged.

    Raises:
        NegativeCurvature: If A is found not to be positive definite.
    """
    M = precondition or np.copy
    X, R = (np.zeros_like(B), B.copy()) if guess is None else (guess.copy(), B - A @ guess)
    Z = M(R)
    rz = _dots(R, Z)
    target = tolerance**2 * (rz if guess is None else _dots(B, M(B)))
    P = Z
    for _ in range(max_iterations):
        going = rz > target
        if not going.any():
            break
        AP = A @ P
        curvature = _dots(P, AP)
        wrong = going & (curvature <= 0)
        if wrong.any():
            raise NegativeCurvature(P[:, np.argmax(wrong)].copy())
        step = np.divide(rz, curvature, out=np.zeros_like(rz), where=going)
        X += step * P
        AP *= step
        R -= AP
        Z = M(R)
        before, rz = rz, _dots(R, Z)
        P *= np.divide(rz, before, out=np.zeros_like(rz), where=going)
        P += Z
    return X, R, bool(np.all(rz <= target))


def minres(
    A, B, *, guess=None, tolerance: float = 1e-8, max_iterations: int = 5000
) -> tuple[np.ndarray, np.ndarray, bool]:
    """A X = B with A symmetric, definite or not: |B - A X| is least over the Krylov space.

    Arguments, shapes and results are those of `conjugate_gradients`; a column is done when |r| <= tolerance |b|.
    """
    X, R = (np.zeros_like(B), B.copy()) if guess is None else (guess.copy(), B - A @ guess)
    target = tolerance * np.linalg.norm(B, axis=0)
    beta = np.linalg.norm(R, axis=0)
    V, V_before = _scaled(R, beta), np.zeros_like(R)
    W, W_before = np.zeros_like(R), np.zeros_like(R)
    ones = np.ones_like(beta)
    (c, c_before), (s, s_before) = (ones, ones), (0 * ones, 0 * ones)
    eta, length = beta.copy(), beta.copy()
    for _ in range(max_iterations):
        if np.all(np.abs(eta) <= target):
            break
        AV = A @ V
        alpha = _dots(V, AV)
        AV -= alpha * V + length * V_before
        length_before, length = length, np.linalg.norm(AV, axis=0)
        # QR of the tridiagonal matrix by rotations (c, s): its newest column becomes (rho3, rho2, rho1).
        delta = c * alpha - c_before * s * length_before
        rho1 = np.hypot(delta, length)
        rho2 = s * alpha + c_before * c * length_before
        rho3 = s_before * length_before
        c_before, s_before = c, s
        alive = rho1 > 0
        c, s = (np.divide(x, rho1, out=np.zeros_like(rho1), where=alive) for x in (delta, length))
        W, W_before = _scaled(V - rho3 * W_before - rho2 * W, rho1), W
        X += (c * eta) * W
        eta = -s * eta
        V, V_before = _scaled(AV, length), V
    R = B - A @ X
    return X, R, bool(np.all(np.linalg.norm(R, axis=0) <= 10 * target))


def _dots(X, Y) -> np.ndarray:
    """Column by column, shape=(k,)."""
    return np.einsum("nk,nk->k", X, Y)


def _scaled(X, lengths) -> np.ndarray:
    """Columns divided by their lengths; columns of zeros stay zero."""
    return X * np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
