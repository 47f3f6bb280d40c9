"""From energies in cells of several sizes to the infinite cell: which terms the data support, and how sure that is.

    E = E_inf + A x + B/V + C/V^(5/3),    x = 1/L_eff (see `size_corrections`)

x and 1/V are L^-1 and L^-3 for cubes; for mixed shapes each term keeps its own dependence on the cell. A may be fixed to its
prediction, B to that of a known second moment. Weighted linear least squares with residuals e_i and leverages h_i gives

    covariance = s^2 (X^T W X)^-1,    s^2 = sum_i w_i e_i^2/(n - p)    (s = 1 where error bars are given),
    leave-one-out residuals e_i/(1 - h_i),

and the model is chosen by the root mean square of the latter: what it would have said of each point without having seen it,
among those whose fitted coefficients all differ from zero by more than two standard errors. Where the residuals of that one
say, by the F-test at 1 %, that terms are missing, the model that has them and better leave-one-out residuals takes its
place. A is known from theory: where cells are small, a line of another slope may imitate the higher terms. A fitted A that
is off its prediction by more than a tenth therefore counts only if it foretells ten times better than every model with A
fixed. A model with as many parameters as points fits everything and foretells nothing; it has no error bar and is never
chosen.

Source of the criterion: D. M. Allen, Technometrics 16, 125 (1974).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

# For each further parameter a model must foretell better by this factor: six points or so let some model win by chance.
_WORTH_A_PARAMETER = 0.6
# Standard errors that a fitted coefficient must be away from zero, or its term is not supported by the data.
_RESOLVED = 2.0
# Residuals below this (eV) are rounding.
_ROUNDING = 1e-9
# A fitted A that is off its prediction by more than this share must foretell better by this factor.
_OFF_PREDICTION, _STRONG_EVIDENCE = 0.1, 0.1
# A model without a term is out where the data would have this probability or less.
_UNLIKELY = 0.01
TERMS = (1, 3, 5)


@dataclass(frozen=True, eq=False)
class SizeSeries:
    """Energies against the size of the cell.

    Attributes:
        inverse_lengths: 1/L_eff in 1/angstrom, shape=(n,).
        volumes: In angstrom^3, shape=(n,).
        energies: In eV, shape=(n,).
        errors: Standard errors of the energies in eV, shape=(n,); None where they are not known.

    Raises:
        ValueError: For arrays of different lengths, values that are not finite, two equal cells alone, or volumes and errors
            that are not positive.
    """

    inverse_lengths: np.ndarray
    volumes: np.ndarray
    energies: np.ndarray
    errors: np.ndarray | None = None

    def __post_init__(self):
        for name in ("inverse_lengths", "volumes", "energies", "errors"):
            value = getattr(self, name)
            if value is None:
                continue
            value = np.array(value, dtype=float)
            if value.ndim != 1 or not np.isfinite(value).all():
                raise ValueError(f"`{name}` must be finite numbers, one for each cell, got {value.tolist()}")
            if name in ("volumes", "errors") and (value <= 0).any():
                raise ValueError(f"`{name}` must be positive, got {value.min():g}")
            value.flags.writeable = False
            object.__setattr__(self, name, value)
        lengths = {len(v) for v in (self.inverse_lengths, self.volumes, self.energies, self.errors) if v is not None}
        if len(lengths) != 1:
            raise ValueError(f"one energy for each cell is expected, got arrays of lengths {sorted(lengths)}")

    def __len__(self):
        return len(self.energies)

    def without(self, index: int) -> SizeSeries:
        """Without one cell."""
        keep = np.arange(len(self)) != index
        errors = None if self.errors is None else self.errors[keep]
        return SizeSeries(self.inverse_lengths[keep], self.volumes[keep], self.energies[keep], errors)


@dataclass(frozen=True)
class SizeModel:
    """Which terms, and which of their coefficients are known.

    Attributes:
        terms: Powers of 1/L: () or any of 1, 3, 5 in that order; 1 is always there for a charge.
        A: In eV angstrom if it is fixed, else None.
        B: In eV angstrom^3 if it is fixed, else None.

    Raises:
        ValueError: For other powers.
    """

    terms: tuple[int, ...] = (1, 3)
    A: float | None = None
    B: float | None = None

    def __post_init__(self):
        terms = tuple(sorted(set(self.terms)))
        if not set(terms) <= set(TERMS):
            raise ValueError(f"`terms` must be of {list(TERMS)} (powers of 1/L), got {list(self.terms)}")
        object.__setattr__(self, "terms", terms)

    @property
    def free(self) -> tuple[int, ...]:
        """Powers whose coefficients are fitted."""
        known = {1: self.A, 3: self.B}
        return tuple(power for power in self.terms if known.get(power) is None)

    @property
    def n_parameters(self) -> int:
        """E_inf and the free coefficients."""
        return 1 + len(self.free)

    @property
    def name(self) -> str:
        """Such as '1/L + 1/L^3, A fixed'."""
        words = " + ".join("1/L" if power == 1 else f"1/L^{power}" for power in self.terms) or "constant"
        fixed = [letter for letter, value in (("A", self.A), ("B", self.B)) if value is not None]
        return f"{words}, {' and '.join(fixed)} fixed" if fixed else words


@dataclass(frozen=True, eq=False)
class SizeFit:
    """One model, fitted.

    Attributes:
        model: The model.
        E_inf: In eV.
        E_inf_stderr: In eV; None where the model has as many parameters as there are points and no errors were given.
        coefficients: Of every term by its power of 1/L, in eV angstrom^power.
        stderr: Of the fitted coefficients by power; empty where there are none.
        residuals: Energies minus model in eV, shape=(n,).
        left_out: Leave-one-out residuals in eV, shape=(n,); None where the model has as many parameters as points.
        E_inf_left_out: E_inf without each of the points in eV, shape=(n,); None in the same case.
        covariance: Of E_inf and the fitted coefficients in the order of `model.free`, shape=(p, p); None where
        E_inf_stderr is.
        degrees_of_freedom: n - p.
        chi_squared: Sum of the squares of residuals over error bars; None without error bars.
    """

    model: SizeModel
    E_inf: float
    E_inf_stderr: float | None
    coefficients: dict[int, float]
    stderr: dict[int, float]
    residuals: np.ndarray
    left_out: np.ndarray | None
    E_inf_left_out: np.ndarray | None
    covariance: np.ndarray | None
    degrees_of_freedom: int
    chi_squared: float | None

    @property
    def rms(self) -> float:
        """Root mean square of the residuals in eV."""
        return float(np.sqrt(np.mean(self.residuals**2)))

    @property
    def weighted_squares(self) -> float:
        """Sum of the squares of residuals, over those of the error bars where there are any, else in eV^2."""
        return float(np.sum(self.residuals**2)) if self.chi_squared is None else self.chi_squared

    @property
    def left_out_rms(self) -> float | None:
        """Root mean square of the leave-one-out residuals in eV."""
        return None if self.left_out is None else float(np.sqrt(np.mean(self.left_out**2)))

    @property
    def left_out_spread(self) -> float | None:
        """Largest minus smallest E_inf when single points are left out, in eV."""
        return None if self.E_inf_left_out is None else float(np.ptp(self.E_inf_left_out))

    def energy(self, inverse_lengths, volumes) -> np.ndarray:
        """The model in eV at other cells, 1/L in 1/angstrom and volumes in angstrom^3, in their common shape."""
        columns = _columns(np.asarray(inverse_lengths, dtype=float), np.asarray(volumes, dtype=float))
        return self.E_inf + sum(value * columns[power] for power, value in self.coefficients.items())

    def energy_stderr(self, inverse_lengths, volumes) -> np.ndarray | None:
        """Standard error of `energy` in eV, in the same shape; None where the fit has no error bar."""
        if self.covariance is None:
            return None
        columns = _columns(np.asarray(inverse_lengths, dtype=float), np.asarray(volumes, dtype=float))
        X = np.stack([np.ones_like(columns[1]), *(columns[power] for power in self.model.free)], axis=-1)
        return np.sqrt(np.einsum("...a,ab,...b->...", X, self.covariance, X))

    def unresolved(self) -> list[int]:
        """Powers whose fitted coefficient is not two standard errors away from zero: terms that the data do not support."""
        return [power for power, error in self.stderr.items() if abs(self.coefficients[power]) < _RESOLVED * error]


def fit(series: SizeSeries, model: SizeModel) -> SizeFit:
    """Weighted least squares of one model.

    Raises:
        ValueError: If there are fewer points than parameters (says how many are needed), or cells that do not tell the terms
            apart.
    """
    n, p = len(series), model.n_parameters
    if n < p:
        raise ValueError(
            f"the model '{model.name}' has {p} parameters, and there are {n} cells: at least {p} are needed, and one more "
            "for an error bar"
        )
    columns = _columns(series.inverse_lengths, series.volumes)
    known = {power: value for power, value in ((1, model.A), (3, model.B)) if power in model.terms and value is not None}
    y = series.energies - sum((value * columns[power] for power, value in known.items()), np.zeros(n))
    X = np.column_stack([np.ones(n), *(columns[power] for power in model.free)])
    scale = np.abs(X).max(axis=0)
    weights = np.ones(n) if series.errors is None else series.errors**-2.0
    root = np.sqrt(weights)[:, None]
    U, s, Vt = np.linalg.svd(root * X / scale, full_matrices=False)
    if s[-1] < 1e-10 * s[0]:
        raise ValueError(
            f"the cells do not tell the terms of '{model.name}' apart: some are equal in size; {p} different ones are needed"
        )
    beta = (Vt.T / s) @ (U.T @ (root[:, 0] * y)) / scale
    residuals = y - X @ beta
    leverage = (U**2).sum(axis=1)
    enough = n > p
    variance = float(weights @ residuals**2) / (n - p) if enough else None
    if series.errors is not None:
        variance = 1.0
    inverse = ((Vt.T / s**2) @ Vt) / np.outer(scale, scale)
    covariance = None if variance is None else variance * inverse
    stderr = None if variance is None else np.sqrt(np.diag(covariance))
    left_out = shifted = None
    if enough:
        left_out = residuals / np.maximum(1 - leverage, 1e-12)
        shifted = beta[0] - (inverse @ X.T)[0] * weights * left_out
    return SizeFit(
        model=model,
        E_inf=float(beta[0]),
        E_inf_stderr=None if stderr is None else float(stderr[0]),
        coefficients=dict(sorted((known | dict(zip(model.free, map(float, beta[1:]), strict=True))).items())),
        stderr={} if stderr is None else dict(zip(model.free, map(float, stderr[1:]), strict=True)),
        residuals=residuals,
        left_out=left_out,
        E_inf_left_out=shifted,
        covariance=covariance,
        degrees_of_freedom=n - p,
        chi_squared=None if series.errors is None else float(weights @ residuals**2),
    )


def candidates(series: SizeSeries, A: float, B: float | None = None) -> list[SizeFit]:
    """All models that the number of cells allows: A fixed to its prediction and free, with 1/L^3 and 1/L^5 or not.

    Args:
        series: The energies.
        A: Predicted leading coefficient in eV angstrom.
        B: Predicted coefficient of 1/L^3 in eV angstrom^3, where the second moment is known.
    """
    models = [SizeModel(terms, A=fixed) for fixed in (A, None) for terms in ((1,), (1, 3), (1, 3, 5))]
    if B is not None:
        models += [SizeModel((1, 3), A=A, B=B), SizeModel((1, 3, 5), A=A, B=B)]
    found = []
    for model in models:
        if model.n_parameters <= len(series):
            try:
                found.append(fit(series, model))
            except ValueError:
                continue  # cells too alike for this one
    return found


def choose(fits: list[SizeFit], A: float | None = None) -> SizeFit:
    """The model with resolved coefficients that foretells left-out points best; with more parameters only if clearly.

    Where no model has more points than parameters, the one with the fewest parameters.

    Args:
        fits: All candidates.
        A: Predicted leading coefficient in eV angstrom, against which fitted ones are held.

    Raises:
        ValueError: If there is none.
    """
    if not fits:
        raise ValueError("no model fits: at least two cells of different size are needed")
    ordered = sorted(fits, key=lambda f: f.model.n_parameters)
    judged = [f for f in ordered if f.left_out is not None and not f.unresolved()]
    if A is not None:
        judged = [f for f in judged if not _imitates(f, judged, A)]
    if not judged:
        return ordered[0]
    best = min(judged, key=lambda f: max(f.left_out_rms, _ROUNDING) / _WORTH_A_PARAMETER**f.model.n_parameters)
    richer = [f for f in judged if f.left_out_rms < best.left_out_rms and _needs(f, best)]
    return min(richer, key=lambda f: f.left_out_rms, default=best)


def _needs(richer: SizeFit, fewer: SizeFit) -> bool:
    """Whether the points would be this unlikely if the further terms of `richer` were zero (F-test of nested models).

    Leaving out a cell at the end of the series asks a model to reach beyond its data: many terms lose there, and a
    straight line through a curve may win although its residuals have a trend.
    """
    nested = set(fewer.model.free) < set(richer.model.free) and (fewer.model.A, fewer.model.B) == (
        richer.model.A, richer.model.B,
    )  # fmt: skip
    if not nested:
        return False
    squares = [max(f.weighted_squares, _ROUNDING**2) for f in (fewer, richer)]
    more = fewer.degrees_of_freedom - richer.degrees_of_freedom
    F = (squares[0] - squares[1]) / more / (squares[1] / richer.degrees_of_freedom)
    return float(stats.f.sf(F, more, richer.degrees_of_freedom)) < _UNLIKELY


def _imitates(found: SizeFit, others: list[SizeFit], A: float) -> bool:
    """Whether a fitted A is far from its prediction without strong evidence for it."""
    if 1 not in found.stderr or abs(found.coefficients[1] / A - 1) <= _OFF_PREDICTION:
        return False
    fixed = [f.left_out_rms for f in others if 1 in f.coefficients and 1 not in f.stderr]
    return bool(fixed) and max(found.left_out_rms, _ROUNDING) > _STRONG_EVIDENCE * min(fixed)


def _columns(inverse_lengths, volumes) -> dict[int, np.ndarray]:
    return {1: inverse_lengths, 3: 1 / volumes, 5: volumes ** (-5 / 3)}
