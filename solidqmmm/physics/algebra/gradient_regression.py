"""A smooth function from a few of its gradients: Gaussian-process regression on derivatives.

With the kernel k(x, x') = exp(-|x - x'|^2 / (2 l^2)) the covariance of two gradients is, up to a constant factor,

    K_ij = k_ij (1 - d d^T / l^2),   d = x_i - x_j,

and from weights w that solve (K + sigma^2 1) w = y, y the observed gradients, follow

    f(x) = sum_j k(x, x_j) (d_j . w_j),   grad f(x) = sum_j k(x, x_j) [w_j - d_j (d_j . w_j) / l^2],   d_j = x - x_j.

Few observations in many dimensions: outside the span of the differences of the x_j (at most n - 1 directions) K is k_ij
times unity, so that the cost is n^2 per direction there and a dense solve of size n (n - 1) inside, never (n D)^3.

Sources: C. E. Rasmussen and C. K. I. Williams, Gaussian Processes for Machine Learning (2006), section 9.4; its use for
relaxation: E. Garijo del Rio, J. J. Mortensen and K. W. Jacobsen, Phys. Rev. B 100, 104103 (2019).
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve


def weights(points, gradients, length: float, noise: float) -> np.ndarray:
    """The weights w of the observations.

    Args:
        points: Where the gradients were observed, shape=(n, D).
        gradients: The observed gradients, shape=(n, D).
        length: Length l over which the gradient changes, in the unit of the points.
        noise: sigma^2 relative to the variance of a gradient component.

    Returns:
        Weights, shape=(n, D), in the unit of the gradients.
    """
    n = len(points)
    differences = points[:, None, :] - points[None, :, :]
    k = np.exp(-0.5 * (differences**2).sum(axis=2) / length**2)
    basis = _span(points - points[0])
    inside = gradients @ basis
    outside = gradients - inside @ basis.T
    w = cho_solve(cho_factor(k + noise * np.eye(n)), outside)

    m = basis.shape[1]
    if m:
        d = differences @ basis
        K = k[:, :, None, None] * (np.eye(m) - d[..., :, None] * d[..., None, :] / length**2)
        K = K.transpose(0, 2, 1, 3).reshape(n * m, n * m)
        K[np.diag_indices(n * m)] += noise
        w += cho_solve(cho_factor(K), inside.ravel()).reshape(n, m) @ basis.T
    return w


def value_and_gradient(x, points, w, length: float) -> tuple[float, np.ndarray]:
    """f and grad f at `x`, shape=(D,), from `points` and their weights, each of shape=(n, D)."""
    d = x - points
    k = np.exp(-0.5 * (d**2).sum(axis=1) / length**2)
    along = (d * w).sum(axis=1)
    return float(k @ along), k @ w - (k * along / length**2) @ d


def _span(vectors) -> np.ndarray:
    """Orthonormal basis of the span of the rows of `vectors`, as columns, shape=(D, m)."""
    u, s, _ = np.linalg.svd(vectors.T, full_matrices=False)
    return u[:, s > 1e-10 * max(s.max(initial=0.0), 1e-300)]
