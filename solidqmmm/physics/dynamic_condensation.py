"""Exact vibrations outside the bands from a few atoms: dynamic condensation.

Mass-weighted, with W = M^(-1/2) K M^(-1/2), the coupling C = W_MQ and lambda = w^2,

    D(lambda) = W_QQ - lambda - C^T (W_MM - lambda)^-1 C,     -dD/dlambda = 1 + X^T X,     X = -(W_MM - lambda)^-1 C.

X is the motion of the environment that follows the core. D has a pole wherever the environment vibrates with the core
held. The eigenvectors V of such poles p in the window are made coordinates beside Q, and X is taken orthogonal to them:

    D = [ W_QQ - lambda + C^T X    C^T V      ]        -dD/dlambda = [ 1 + X^T X    0 ]
        [ V^T C                    p - lambda ],                     [ 0            1 ].

Then D is smooth throughout the window, its negative eigenvalues count the modes below lambda, and modes that leave the
core at rest are found like all others. Every core gives the same modes, be it one atom.

Sources: A. Y. T. Leung, Int. J. Numer. Methods Eng. 12, 1705 (1978); W. H. Wittrick and F. W. Williams, Q. J. Mech. Appl.
Math. 24, 263 (1971).
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from solidqmmm.physics.algebra.isolated_eigenpairs import eigenpairs_between, spectral_bound
from solidqmmm.physics.algebra.krylov import NegativeCurvature, minres
from solidqmmm.physics.algebra.sparse_solve import FACTORS_BELOW, shifted_factors, solve_above
from solidqmmm.physics.condensation import PartitionedCrystal
from solidqmmm.physics.vibrations.localized_modes import Modes
from solidqmmm.physics.vibrations.nonlinear_modes import Stiffness, nonlinear_modes

TOLERANCE = 1e-5  # of X where D is asked for: D is evaluated as an energy and has the square of that error
TOLERANCE_AT_LOW = 1e-3  # there only the signs of D's eigenvalues matter, and it is nearest to the bands
TOLERANCE_OF_MOTIONS = 1e-9


def dynamic_modes(
    crystal: PartitionedCrystal, low: float, high: float | None = None, *, method: str = "auto"
) -> Modes:
    """All modes of the whole crystal with low < w^2 < high.

    Args:
        crystal: The crystal and its core.
        low: Lower end of the window in eV/(angstrom^2 amu): just above the bands of the perfect crystal, or just above
            the lower edge of a gap. Iterations grow as one over the root of its distance from the edge.
        high: Upper end; None above the bands.
        method: In a gap "direct" factorizes W_MM - lambda, "minres" iterates, "auto" goes by size. Above the bands
            conjugate gradients serve every size.

    Raises:
        ValueError: If the window reaches into the bands.
    """
    W = crystal.weighted()
    top = max(spectral_bound(W), 1.01 * low) if high is None else high
    stiffness = DynamicStiffness(crystal, low, high, method=method)
    squared, x = nonlinear_modes(stiffness, low, top)
    motions = [stiffness.motion(value, vector) for value, vector in zip(squared, x.T)]
    e = np.array(motions).reshape(len(squared), W.shape[0])
    # The Rayleigh quotient of the whole crystal: one more Newton step, with the tighter motion.
    squared = np.einsum("kn,kn->k", e, (W @ e.T).T) / np.einsum("kn,kn->k", e, e)
    return crystal.modes_of_eigenvectors(squared, e)


class DynamicStiffness:
    """D(lambda) and its derivative in a window outside the bands, as a function of lambda.

    Args:
        crystal: The crystal and its core.
        low: Lower end of the window in eV/(angstrom^2 amu).
        high: Upper end; None above the bands.
        method: See `dynamic_modes`.

    Raises:
        ValueError: If `method` is unknown, or the window reaches into the bands.
    """

    def __init__(self, crystal: PartitionedCrystal, low: float, high: float | None = None, *, method="auto"):
        if method not in ("auto", "direct", "minres"):
            raise ValueError(f"`method` must be 'auto', 'direct' or 'minres', got {method!r}")
        self._W_QQ, C, self._W_MM = crystal.blocks(weighted=True)
        if method == "auto":
            method = "direct" if self._W_MM.shape[0] <= FACTORS_BELOW else "minres"
        self._method = "above" if high is None else method
        self._dofs = crystal.dofs
        self._positions = crystal.environment_positions()
        #: w^2 of the environment's modes in the window with the core held, shape=(h,)
        self.poles, self._V = eigenpairs_between(self._W_MM, low, high, positions=self._positions)
        self._coupled = np.unique(C.indices)
        C = C[:, self._coupled].toarray()
        self._CV = np.zeros((len(self._W_QQ), len(self.poles)))
        self._CV[self._coupled] = C.T @ self._V
        self._C = C - self._V @ (self._V.T @ C)
        self._guess, self._low = None, low

    def __call__(self, squared: float) -> Stiffness:
        """D and B at lambda = `squared`; what was eliminated has equally many negative eigenvalues throughout the window."""
        tolerance = TOLERANCE_AT_LOW if squared == self._low else TOLERANCE
        X, R = self._response(squared, self._C, self._guess, tolerance)
        self._guess = X if squared != self._low else None  # far above, the motion is much narrower
        q, h = len(self._W_QQ), len(self.poles)
        D, B = np.zeros((q + h, q + h)), np.eye(q + h)
        D[:q, :q] = self._W_QQ - squared * np.eye(q)
        at = np.ix_(self._coupled, self._coupled)
        D[at] += self._C.T @ X + X.T @ R
        D[:q, q:], D[q:, :q] = self._CV, self._CV.T
        D[q:, q:] = np.diag(self.poles - squared)
        B[at] += X.T @ X
        return Stiffness(squared, (D + D.T) / 2, (B + B.T) / 2)

    def motion(self, squared: float, x) -> np.ndarray:
        """The mass-weighted motion of the whole crystal that belongs to the coordinates x, in their unit, shape=(n d,)."""
        q = len(self._W_QQ)
        forced = self._C @ x[self._coupled]
        X, _ = self._response(squared, forced[:, None], None, TOLERANCE_OF_MOTIONS)
        e = np.empty(q + len(X))
        e[self._dofs[0]], e[self._dofs[1]] = x[:q], X[:, 0] + self._V @ x[q:]
        return e

    def _response(self, squared, C, guess, tolerance):
        """X = (lambda - W_MM)^-1 C, orthogonal to V, and R = C - (lambda - W_MM) X."""
        try:
            if self._method == "above":
                X, R = solve_above(
                    self._W_MM, C, squared, held=(self.poles, self._V), guess=guess, tolerance=tolerance
                )
                return X, R
            shifted = self._W_MM - squared * sparse.eye_array(self._W_MM.shape[0], format="csr")
            if self._method == "direct":
                X = shifted_factors(self._W_MM, squared, self._positions).solve(-C)
            else:
                X, _, converged = minres(shifted, -C, guess=guess, tolerance=tolerance)
                if not converged:
                    raise np.linalg.LinAlgError("MINRES did not converge")
        except (NegativeCurvature, np.linalg.LinAlgError) as error:
            raise ValueError(
                f"w^2 = {squared:.6g} eV/(angstrom^2 amu) must lie outside the bands of the environment ({error}); take "
                "the window farther from the edge of the bands"
            ) from error
        X -= self._V @ (self._V.T @ X)
        return X, C + shifted @ X
