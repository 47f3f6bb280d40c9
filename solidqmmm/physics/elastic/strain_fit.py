"""Slope and curvature of the stress along one strain shape, with errors that come from the series itself.

The strain is a eta (Green-Lagrange, Voigt), the stress S(a) second Piola-Kirchhoff. In a symmetric series, one that has -a
for each a, even and odd powers do not mix:

    [S(a) - S(-a)]/2 = C eta a + O(a^3),       [S(a) + S(-a)]/2 = S(0) + (d2S/da2) a^2/2 + O(a^4),

so that the curvature of the stress enters neither the slope nor its error. The reference is one more point at a = 0, as good
as the others. Errors are standard errors of least squares, made from the residuals. Noise they measure; of an odd power that
the fit leaves out they show a part only, for it also shifts the slope: `StrainFit.linearity` has the size of that shift.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class StrainFit:
    """Fit of the six stresses along one strain shape; stresses in the unit they came in.

    Attributes:
        amplitudes: Signed amplitudes a, shape=(m,).
        coefficients: S(a) = sum_n coefficients[n] a^n, shape=(fit_order + 1, 6).
        slope: dS/da at a = 0, shape=(6,).
        slope_error: Its standard error, shape=(6,); NaN where no degree of freedom is left to tell it.
        curvature: d2S/da2 at a = 0, shape=(6,); None below fit_order 2.
        curvature_error: Its standard error, shape=(6,); None below fit_order 2.
        residuals: Stresses minus fit, shape=(m, 6). With fit_order 1 of a symmetric series they show the even part, which
            the slope does not feel.
        symmetric: Whether the series has -a for each a.
        degrees_of_freedom: Of the fit that gives the slope.
        magnitudes: The distinct |a|, ascending, shape=(k,).
        secants: [S(a) - S(-a)]/2a, or [S(a) - S(0)]/a where -a is missing, at these, shape=(k, 6).
    """

    amplitudes: np.ndarray
    coefficients: np.ndarray
    slope: np.ndarray
    slope_error: np.ndarray
    curvature: np.ndarray | None
    curvature_error: np.ndarray | None
    residuals: np.ndarray
    symmetric: bool
    degrees_of_freedom: int
    magnitudes: np.ndarray
    secants: np.ndarray

    @property
    def curve(self) -> np.ndarray:
        """The fit at the amplitudes, in the unit of the values that were fitted, shape=(m, 6)."""
        return self.at(self.amplitudes)

    @property
    def linearity(self) -> np.ndarray:
        """Secant slope at the largest |a| minus that at the smallest, in the unit of the values, shape=(6,); NaN with
        one |a| only.
        """
        return self.secants[-1] - self.secants[0] if len(self.magnitudes) > 1 else np.full(6, np.nan)

    def at(self, amplitudes) -> np.ndarray:
        """The fit at any amplitudes, in the unit of the values that were fitted, shape=(n, 6)."""
        return _powers(np.asarray(amplitudes, dtype=float), range(len(self.coefficients))) @ self.coefficients


def require_amplitudes(amplitudes, *, fit_order: int = 1, largest: float = 0.05) -> np.ndarray:
    """The strain amplitudes of a series that gives trustworthy constants, shape=(m,).

    Raises:
        ValueError: If one is zero, not finite, beyond `largest`, or there twice; if there are too few for the powers of the
            fit; or if the series is not symmetric and the fit even, where every odd power left out shifts the slope.
    """
    a = _require_distinct(amplitudes)
    if np.abs(a).max() > largest:
        raise ValueError(
            f"strain amplitudes must be at most {largest:g}, got {a[np.abs(a).argmax()]:g}: elastic constants are the "
            "limit of small strain"
        )
    symmetric = _pairs(a) is not None
    if fit_order % 2 == 0 and not symmetric:
        raise ValueError(
            f"an even `fit_order` ({fit_order}) needs a symmetric series, with -a for each a, got {a.tolist()}; "
            "add the missing amplitudes or choose an odd order"
        )
    _require_enough(a, fit_order, symmetric)
    return a


def fit_strain_series(amplitudes, stresses, reference, *, fit_order: int = 1) -> StrainFit:
    """Fits powers of the amplitude up to `fit_order`; odd and even ones apart in a symmetric series.

    Args:
        amplitudes: Signed amplitudes a of the shape, without zero, shape=(m,).
        stresses: Second Piola-Kirchhoff stresses (Voigt) there, shape=(m, 6).
        reference: Stress at a = 0, shape=(6,).
        fit_order: Highest power.

    Raises:
        ValueError: For amplitudes that are zero, not finite or there twice, stresses of another shape or not finite, or
            fewer amplitudes than the powers need.
    """
    a = _require_distinct(amplitudes)
    S, S0 = np.asarray(stresses, dtype=float), np.asarray(reference, dtype=float)
    if S.shape != (len(a), 6) or S0.shape != (6,):
        raise ValueError(
            f"{len(a)} amplitudes need stresses of shape ({len(a)}, 6) and a reference of shape (6,), "
            f"got {S.shape} and {S0.shape}"
        )
    if not (np.isfinite(S).all() and np.isfinite(S0).all()):
        raise ValueError("the stresses of a strain series must be finite")
    pairs = _pairs(a)
    _require_enough(a, fit_order, pairs is not None)

    coefficients, errors = np.zeros((fit_order + 1, 6)), np.zeros((fit_order + 1, 6))
    if pairs is None:
        powers = range(fit_order + 1)
        coefficients[:], errors[:], freedom = _least_squares(np.append(a, 0.0), np.vstack([S, S0]), powers)
    else:
        up, down = pairs
        odd, even = range(1, fit_order + 1, 2), range(0, fit_order + 1, 2)
        coefficients[odd], errors[odd], freedom = _least_squares(a[up], (S[up] - S[down]) / 2, odd)
        coefficients[0] = S0
        if fit_order >= 2:
            # A mean of two stresses counts twice, the reference once.
            points, means = np.append(a[up], 0.0), np.vstack([(S[up] + S[down]) / 2, S0])
            weights = np.append(np.full(len(up), 2.0), 1.0)
            coefficients[even], errors[even], _ = _least_squares(points, means, even, weights)
    magnitudes, secants = _secants(a, S, S0)
    return StrainFit(
        amplitudes=a,
        coefficients=coefficients,
        slope=coefficients[1],
        slope_error=errors[1],
        curvature=2 * coefficients[2] if fit_order >= 2 else None,
        curvature_error=2 * errors[2] if fit_order >= 2 else None,
        residuals=S - _powers(a, range(fit_order + 1)) @ coefficients,
        symmetric=pairs is not None,
        degrees_of_freedom=freedom,
        magnitudes=magnitudes,
        secants=secants,
    )


def _least_squares(a, values, powers, weights=None):
    """Coefficients and their standard errors, each of shape (p, 6), and the degrees of freedom."""
    scale = np.abs(a).max()
    root = np.sqrt(np.ones(len(a)) if weights is None else weights)[:, None]
    design = root * _powers(a / scale, powers)
    back = np.linalg.pinv(design)
    coefficients = back @ (root * values)
    freedom = len(a) - len(powers)
    chi2 = ((root * values - design @ coefficients) ** 2).sum(axis=0)
    variance = chi2 / freedom if freedom > 0 else np.full(values.shape[1], np.nan)
    errors = np.sqrt((back**2).sum(axis=1)[:, None] * variance)
    units = scale ** np.array(powers, dtype=float)[:, None]
    return coefficients / units, errors / units, freedom


def _powers(a, powers) -> np.ndarray:
    return a[:, None] ** np.array(powers)


def _secants(a, S, S0):
    """The distinct |a|, and the secant slope at each."""
    tolerance = 1e-9 * np.abs(a).max()
    magnitudes, secants = [], []
    for k in np.argsort(np.abs(a), kind="stable"):
        if magnitudes and abs(abs(a[k]) - magnitudes[-1]) <= tolerance:
            continue
        partner = np.flatnonzero(np.abs(a + a[k]) <= tolerance)
        other, distance = (S[partner[0]], 2 * a[k]) if len(partner) else (S0, a[k])
        magnitudes.append(abs(a[k]))
        secants.append((S[k] - other) / distance)
    return np.array(magnitudes), np.array(secants)


def _pairs(a):
    """Indices of the positive amplitudes and of their negatives, or None if the series is not symmetric."""
    up, down = np.flatnonzero(a > 0), np.flatnonzero(a < 0)
    if len(up) != len(down):
        return None
    up, down = up[np.argsort(a[up])], down[np.argsort(-a[down])]
    return (up, down) if np.abs(a[up] + a[down]).max() <= 1e-9 * np.abs(a).max() else None


def _require_distinct(amplitudes) -> np.ndarray:
    a = np.atleast_1d(np.asarray(amplitudes, dtype=float))
    if a.ndim != 1 or not len(a) or not np.isfinite(a).all() or (a == 0).any():
        raise ValueError(f"strain amplitudes must be finite numbers that differ from zero, got {a.tolist()}")
    if len(a) > 1 and np.diff(np.sort(a)).min() <= 1e-9 * np.abs(a).max():
        raise ValueError(f"strain amplitudes must differ from each other, got {a.tolist()}")
    return a


def _require_enough(a, fit_order, symmetric):
    if fit_order < 1 or fit_order != int(fit_order):
        raise ValueError(f"`fit_order` must be a whole number of at least 1, got {fit_order}")
    needed = 2 * -(-fit_order // 2) if symmetric else fit_order
    if len(a) < needed:
        kind = "symmetric" if symmetric else "asymmetric"
        raise ValueError(
            f"a {kind} series needs at least {needed} amplitudes for `fit_order` {fit_order}, got {a.tolist()}"
        )
