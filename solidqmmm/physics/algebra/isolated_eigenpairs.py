"""The few eigenvalues of a large sparse symmetric matrix that lie outside its bands, with none missed.

In a window (low, high), by factors: the inertia of A - low and A - high counts the eigenvalues between them, and
shift-and-invert about the middle finds just so many. Above everything else, by iteration: a Chebyshev polynomial that is
small on the bands and grows above them turns random vectors into the eigenvectors above; the block is wider than their
number, so degenerate ones come out as often as they are.

Sources: T. Ericsson and A. Ruhe, Math. Comput. 35, 1251 (1980); Y. Zhou, Y. Saad, M. L. Tiago and J. R. Chelikowsky, J.
Comput. Phys. 219, 172 (2006).
"""

from __future__ import annotations

import numpy as np
from scipy import linalg, sparse
from scipy.sparse.linalg import LinearOperator, eigsh

from solidqmmm.physics.algebra.krylov import minres
from solidqmmm.physics.algebra.sparse_solve import DIRECT_BELOW, FACTORS_BELOW, shifted_factors

TOO_MANY = 200
DENSE_BELOW = 300


def spectral_bound(A) -> float:
    """A number above the whole spectrum: the largest row sum of |A| (Gershgorin)."""
    return float(abs(A).sum(axis=1).max()) * (1 + 1e-12)


def eigenpairs_between(A, low: float, high: float | None = None, *, positions=None):
    """Eigenvalues of A in (low, high), descending, and their vectors.

    Args:
        A: Sparse csr, symmetric, shape=(n, n).
        low: Lower end of the window.
        high: Upper end; None for all that lie above `low`.
        positions: Of the atoms, in angstrom, shape=(n / d, 3), for the order of elimination.

    Returns:
        Eigenvalues, shape=(k,), and orthonormal vectors, shape=(n, k).

    Raises:
        ValueError: If more than `TOO_MANY` lie in the window, so that it is not one between or above bands.
    """
    n = A.shape[0]
    if n < DENSE_BELOW:
        values, vectors = np.linalg.eigh(A.toarray())
        inside = (values > low) & (values < (np.inf if high is None else high))
        return values[inside][::-1], vectors[:, inside][:, ::-1]
    if n <= (DIRECT_BELOW if high is None else FACTORS_BELOW):
        return _by_factors(A, low, high, positions)
    return _by_filter(A, low) if high is None else _by_minres(A, low, high)


def _by_factors(A, low, high, positions):
    n = A.shape[0]
    below_low = shifted_factors(A, low, positions).n_negative
    top = spectral_bound(A) if high is None else high
    below_high = n if high is None else shifted_factors(A, high, positions).n_negative
    count = below_high - below_low
    _check_number(count, low, high)
    if count == 0:
        return np.zeros(0), np.zeros((n, 0))
    middle = (low + top) / 2
    factors = shifted_factors(A, middle, positions)
    inverse = LinearOperator((n, n), matvec=factors.solve, dtype=float)
    start = np.random.default_rng(0).normal(size=n)
    for wanted in (count, 2 * count + 10):  # one copy of a multiplet may come late
        values, vectors = eigsh(
            A, k=wanted, sigma=middle, OPinv=inverse, v0=start, ncv=min(n, 2 * wanted + 30)
        )
        inside = (values > low) & (values < top)
        if np.sum(inside) == count:
            return _descending(values[inside], vectors[:, inside])
    raise ArithmeticError(
        f"{count} eigenvalues lie in ({low:g}, {top:g}), but these came: {values[inside].tolist()}"
    )


def _by_filter(A, low, *, tolerance: float = 1e-11, max_rounds: int = 400):
    n, scale = A.shape[0], spectral_bound(A)
    start = np.random.default_rng(0)
    lowest, highest = (
        float(eigsh(A, k=1, which=w, tol=1e-2, v0=start.normal(size=n))[0][0]) for w in ("SA", "LA")
    )
    lowest = min(lowest, 0.0) - 0.02 * highest
    # The columns stay independent as long as the highest is not raised by more than 1e8 in a round.
    farthest = max((2 * max(highest, low) - lowest - low) / (low - lowest), 1.0 + 1e-6)
    degree = int(np.clip(np.arccosh(1e8) / np.arccosh(farthest), 4, 50))
    X, done = start.normal(size=(n, 8)), 0
    for _ in range(max_rounds):
        X = linalg.qr(_filtered(A, X, degree, lowest, low), mode="economic")[0]
        values, turn = np.linalg.eigh(X.T @ (A @ X))
        X, values = X @ turn[:, ::-1], values[::-1]
        done += degree
        above = int(np.sum(values > low))
        _check_number(above, low, None)
        if above > X.shape[1] - 3:
            X = np.hstack([X, start.normal(size=(n, X.shape[1]))])
            done = 0
            continue
        residual = np.linalg.norm(A @ X[:, :above] - X[:, :above] * values[:above], axis=0)
        if done >= 150 and np.all(residual <= tolerance * scale):
            return values[:above], X[:, :above]
    raise ArithmeticError(f"the eigenvalues above {low:g} did not converge; is that the top of the bands?")


def _filtered(A, X, degree, low, high):
    """T_degree of A mapped from [low, high] to [-1, 1], on a block of columns."""
    centre, half = (high + low) / 2, (high - low) / 2
    before, now = X, (A @ X - centre * X) / half
    for _ in range(degree - 1):
        before, now = now, 2 / half * (A @ now - centre * now) - before
    return now


def _by_minres(A, low, high):
    n, middle = A.shape[0], (low + high) / 2
    shifted = A - middle * sparse.eye_array(n)

    def solve(b):
        return minres(shifted, b.reshape(-1, 1), tolerance=1e-10)[0].ravel()

    inverse, start = (
        LinearOperator((n, n), matvec=solve, dtype=float),
        np.random.default_rng(0).normal(size=n),
    )
    count = 4
    while True:
        values, vectors = eigsh(A, k=count, sigma=middle, OPinv=inverse, v0=start, tol=1e-10)
        inside = (values > low) & (values < high)
        if not inside.all():
            return _descending(values[inside], vectors[:, inside])
        count *= 2
        _check_number(count // 2, low, high)


def _check_number(count, low, high):
    if count > TOO_MANY:
        end = "" if high is None else f" and below {high:g}"
        raise ValueError(
            f"at least {count} modes lie above {low:g}{end} eV/(angstrom^2 amu), more than the {TOO_MANY} that a "
            "defect may split off; the window must lie outside the bands of the perfect crystal"
        )


def _descending(values, vectors):
    order = np.argsort(-values)
    return values[order], vectors[:, order]
