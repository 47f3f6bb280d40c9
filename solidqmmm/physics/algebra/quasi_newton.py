"""Updates of approximate Hessians and Jacobians from steps and the changes they made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def update_bfgs(hessian, step, change):
    """BFGS update of a symmetric Hessian, in place; skipped where the curvature along the step is not positive.

    J. Nocedal and S. J. Wright, Numerical Optimization, 2nd ed., eq. 6.19 (Springer, 2006).

    Args:
        hessian: shape=(k, k).
        step: Displacement, shape=(k,).
        change: Change of the gradient along it, shape=(k,).
    """
    curvature = step @ change
    if curvature <= 1e-8 * np.linalg.norm(step) * np.linalg.norm(change):
        return
    along = hessian @ step
    hessian += np.outer(change, change) / curvature - np.outer(along, along) / (step @ along)


def update_broyden(jacobian, step, change):
    """Broyden's update ("good") of a Jacobian of any symmetry, in place: the smallest one with jacobian @ step = change.

    C. G. Broyden, Math. Comput. 19, 577 (1965).
    """
    jacobian += np.outer(change - jacobian @ step, step) / (step @ step)


def update_symmetric(hessian, step, change):
    """Update of a symmetric, perhaps indefinite Hessian, in place, so that hessian @ step = change.

    With r = change - hessian @ step: SR1, r r^T / (r.s), which finds the Hessian of a quadratic function in as many steps as
    there are directions; and where r and s are nearly orthogonal, so that SR1 would explode, Powell's symmetric Broyden
    update, the smallest change that does it (Nocedal and Wright, section 6.2; M. J. D. Powell in J. B. Rosen et al., eds.,
    Nonlinear Programming, Academic Press, 1970).
    """
    r = change - hessian @ step
    along, square = r @ step, step @ step
    if abs(along) > 0.3 * np.linalg.norm(r) * np.sqrt(square):
        hessian += np.outer(r, r) / along
    elif square > 0:
        mixed = np.outer(r, step) / square
        hessian += mixed + mixed.T - along / square**2 * np.outer(step, step)


@dataclass(frozen=True, eq=False)
class SecantHessian:
    """The symmetric Hessian of smallest norm that explains several steps at once, never written out.

    With steps S and changes of the gradient Y as columns, S+ the pseudo-inverse of S,

        B = Y S+ + (Y S+)^T - S+^T (S^T Y) S+,

    for which B S = Y where S^T Y is symmetric, as it is for a quadratic function. R. B. Schnabel, Quasi-Newton methods using
    multiple secant equations, report CU-CS-247-83 (University of Colorado, 1983).

    Attributes:
        inverse: S+, shape=(m, k).
        changes: Y^T, shape=(m, k).
        curvatures: The symmetric part of S^T Y, shape=(m, m).
    """

    inverse: np.ndarray
    changes: np.ndarray
    curvatures: np.ndarray

    @classmethod
    def of(cls, steps, changes, shortest: float) -> SecantHessian:
        """From steps and changes as rows, shape=(m, k); steps far below `shortest` count for nothing."""
        steps, changes = np.asarray(steps, dtype=float), np.asarray(changes, dtype=float)
        inverse = np.linalg.solve(steps @ steps.T + shortest**2 * np.eye(len(steps)), steps)
        curvatures = steps @ changes.T
        return cls(inverse, changes, (curvatures + curvatures.T) / 2)

    def at(self, d) -> tuple[float, np.ndarray]:
        """d.B d / 2 and B d, shape=(k,)."""
        u = self.inverse @ d
        gradient = u @ self.changes + (self.changes @ d - self.curvatures @ u) @ self.inverse
        return 0.5 * float(d @ gradient), gradient
