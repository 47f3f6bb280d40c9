"""Energy of a crystal against the strain of its cell: the Birch-Murnaghan equation of state for cells of any shape.

Cells are stretched as h(q) = h_0 G(q) with Eulerian strain components q,

    G(q) = (1 + 2 sum_a q_a e_a)^(-1/2),

so that q e with e = 1 is the strain f = [(V_0/V)^(2/3) - 1]/2 of Birch (Phys. Rev. 71, 809 (1947)). For volumes a cubic
polynomial in q is then the third-order Birch-Murnaghan equation; with more strains it serves cells whose shape is free as
well. Positive q compresses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations_with_replacement

import numpy as np


def stretch_of(q, basis) -> np.ndarray:
    """G(q), symmetric, dimensionless, shape=(3, 3); `basis` holds the matrices e_a, shape=(m, 3, 3).

    Raises:
        ValueError: For a strain that stretches the cell without limit.
    """
    values, vectors = np.linalg.eigh(np.eye(3) + 2 * np.einsum("a,aij->ij", q, basis))
    if values.min() <= 0:
        raise ValueError(f"the Eulerian strain {np.asarray(q).tolist()} stretches the cell without limit")
    return (vectors / np.sqrt(values)) @ vectors.T


def strain_gradient(stress, volume, stretch, basis) -> np.ndarray:
    """dE/dq_a = -V tr(sigma G e_a G) in eV, shape=(m,).

    With rows h = h_0 G the work is dE = V tr(sigma G^-1 dG) = V tr(G^-1 sigma G^-1 d(G^2))/2, and G^2 = (1 + 2 q e)^-1.

    Args:
        stress: Cauchy stress in eV/angstrom^3, tension positive, shape=(3, 3).
        volume: Volume of the stretched cell in angstrom^3.
        stretch: G, shape=(3, 3).
        basis: The matrices e_a, shape=(m, 3, 3).
    """
    return -volume * np.einsum("ij,jk,akl,li->a", stress, stretch, basis, stretch)


def log_volume_gradient(stretch, basis) -> np.ndarray:
    """d(ln V)/dq_a = -tr(G e_a G), shape=(m,)."""
    return -np.einsum("ij,ajk,ki->a", stretch, basis, stretch)


def bulk_modulus(hessian, log_volume_slope, volume) -> float:
    """B = V d2E/dV2 with the shape of the cell free, in eV/angstrom^3.

    At the minimum, E(theta) = min {q.H.q/2 : t.q = theta} = theta^2 / (2 t.H^-1.t) with theta = ln(V/V_0), so that
    B = 1 / (V t.H^-1.t): the modulus under hydrostatic pressure (Reuss).

    Args:
        hessian: H = d2E/dq2 in eV with the ions relaxed, shape=(m, m).
        log_volume_slope: t = d(ln V)/dq, shape=(m,).
        volume: V in angstrom^3.
    """
    return float(1.0 / (volume * log_volume_slope @ np.linalg.solve(hessian, log_volume_slope)))


def energy_scale(bulk_modulus_host, bulk_modulus_engine, stretch) -> float:
    """beta that gives the engine at the stretched positions the host's bulk modulus.

    E'(V') = beta E(V' det A), hence B' = V' d2E'/dV'^2 = beta det(A) B and beta = B_host / (B_engine det A).
    """
    return float(bulk_modulus_host / (bulk_modulus_engine * np.linalg.det(stretch)))


def rotation_free(stretch) -> np.ndarray:
    """The symmetric factor S of A = S R, dimensionless, shape=(3, 3): the engine's cell h A turned by R^T."""
    from scipy.linalg import polar

    S = polar(stretch, side="left")[1]
    return (S + S.T) / 2


@dataclass(frozen=True, eq=False)
class EnergySurface:
    """A polynomial E(y) = sum_k c_k prod_a y_a^(n_ka) fitted to energies or to their gradients.

    Attributes:
        exponents: n, shape=(p, m).
        coefficients: c in eV, shape=(p,).
        covariance: Of the coefficients, from the residual of the fit, in eV^2, shape=(p, p).
        rms: Root mean square residual of what was fitted, in eV.
    """

    exponents: np.ndarray
    coefficients: np.ndarray
    covariance: np.ndarray
    rms: float

    def value(self, y) -> float:
        """E(y) in eV."""
        return float(_monomials(self.exponents, y) @ self.coefficients)

    def gradient(self, y) -> np.ndarray:
        """dE/dy in eV, shape=(m,)."""
        return _slopes(self.exponents, y) @ self.coefficients

    def hessian(self, y) -> np.ndarray:
        """d2E/dy2 in eV, shape=(m, m)."""
        m = self.exponents.shape[1]
        rows = []
        for a in range(m):
            lowered, factors = _lowered(self.exponents, a)
            rows.append(_slopes(lowered, y) @ (factors * self.coefficients))
        return np.array(rows).reshape(m, m)

    def minimum(self, farthest: float = 2.0) -> np.ndarray:
        """Where the polynomial is least near the origin; |y_a| <= `farthest`, shape=(m,).

        Newton steps with the curvature made positive, at most half a unit long, so that a cubic does not run away.
        """
        y = np.zeros(self.exponents.shape[1])
        for _ in range(60):
            values, vectors = np.linalg.eigh(self.hessian(y))
            floor = 1e-3 * np.abs(values).max() + 1e-12
            step = -vectors @ ((vectors.T @ self.gradient(y)) / np.maximum(np.abs(values), floor))
            step *= min(1.0, 0.5 / max(np.abs(step).max(), 1e-300))
            y = np.clip(y + step, -farthest, farthest)
            if np.abs(step).max() < 1e-12:
                break
        return y

    def spread(self, quantity) -> np.ndarray:
        """Standard errors of `quantity(surface)`, a number or an array, by linear propagation of the fit's covariance.

        Returns:
            In the unit of the quantity, shape=(k,) for k numbers.
        """
        centre = np.atleast_1d(quantity(self))
        sigma = np.sqrt(np.diag(self.covariance))
        slopes = np.zeros((len(centre), len(sigma)))
        for k in np.flatnonzero(sigma > 0):
            coefficients = self.coefficients.copy()
            coefficients[k] += 0.1 * sigma[k]
            moved = np.atleast_1d(quantity(replace(self, coefficients=coefficients)))
            slopes[:, k] = (moved - centre) / (0.1 * sigma[k])
        return np.sqrt(np.maximum(np.einsum("ik,kl,il->i", slopes, self.covariance, slopes), 0.0))


def fit_energy_surface(y, energies, gradients=None, *, degree: int = 3) -> EnergySurface:
    """Least squares; of the least norm where the points do not determine every mixed term.

    Args:
        y: Points, scaled to about [-1, 1], shape=(n, m).
        energies: In eV, shape=(n,).
        gradients: dE/dy in eV, shape=(n, m); where given, they are fitted and the energies only set the constant.
        degree: Of the polynomial.
    """
    y = np.asarray(y, dtype=float)
    m = y.shape[1]
    exponents = np.array(
        [
            np.bincount(chosen, minlength=m)
            for order in range(degree + 1)
            for chosen in combinations_with_replacement(range(m), order)
        ],
        dtype=int,
    ).reshape(-1, m)
    values = np.array([_monomials(exponents, point) for point in y])
    if gradients is None:
        design, target = values, np.asarray(energies) - np.mean(energies)
    else:
        design, target = np.concatenate([_slopes(exponents, point) for point in y]), np.ravel(gradients)
    coefficients, _, rank, _ = np.linalg.lstsq(design, target, rcond=1e-10)
    residual = target - design @ coefficients
    freedom = len(target) - rank
    variance = residual @ residual / freedom if freedom > 0 else 0.0
    covariance = variance * np.linalg.pinv(design.T @ design, rcond=1e-12, hermitian=True)
    coefficients[0] += np.mean(np.asarray(energies) - values @ coefficients)
    return EnergySurface(exponents, coefficients, covariance, float(np.sqrt(np.mean(residual**2))))


def _monomials(exponents, y) -> np.ndarray:
    return np.prod(np.asarray(y, dtype=float) ** exponents, axis=1)


def _lowered(exponents, a):
    """d/dy_a of the monomials: exponents and factors."""
    lowered = exponents.copy()
    lowered[:, a] = np.maximum(lowered[:, a] - 1, 0)
    return lowered, exponents[:, a].astype(float)


def _slopes(exponents, y) -> np.ndarray:
    """Gradients of the monomials, shape=(m, p)."""
    rows = []
    for a in range(exponents.shape[1]):
        lowered, factors = _lowered(exponents, a)
        rows.append(factors * _monomials(lowered, y))
    return np.array(rows)
