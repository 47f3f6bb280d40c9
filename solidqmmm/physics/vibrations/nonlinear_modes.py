"""Roots of D(lambda) x = 0 for the dynamic stiffness D of a few coordinates that stand for a whole crystal.

Eliminating every other coordinate from K - lambda M leaves D(lambda), whose derivative is -B with

    B = T^T M T,   T(lambda): the motion of the whole crystal that follows x,

and B is positive definite. Hence the eigenvalues of D fall with lambda, each crosses zero at most once between two poles,
and Sylvester's law of inertia counts the modes of the crystal below lambda,

    c(lambda) = negative eigenvalues of D + negative eigenvalues of what was eliminated,

a number that grows by the multiplicity at every mode and stays as it is at the poles. So no mode can be missed or counted
twice: c at both ends of a window says how many there are, bisection on c brackets each, and Newton's step, the eigenvalue
mu of D x = mu B x, doubles the digits (it is the Rayleigh quotient of the whole crystal).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import linalg

CLOSE = 1e-8  # a Newton step of this part of the distance to the end of the window is the last: its error is the square


@dataclass(frozen=True, eq=False)
class Stiffness:
    """D, B = -dD/dlambda and the count c at one lambda.

    Attributes:
        at: lambda in eV/(angstrom^2 amu).
        D: Hermitian, shape=(n, n).
        B: Hermitian, positive definite, shape=(n, n).
        eliminated: Negative eigenvalues of what was eliminated, relative to any constant.
    """

    at: float
    D: np.ndarray
    B: np.ndarray
    eliminated: int = 0


class _Sample:
    """A stiffness with its Newton steps mu, ascending, and the modes below it."""

    def __init__(self, stiffness: Stiffness):
        self.at = stiffness.at
        self.steps, self.vectors = linalg.eigh(stiffness.D, stiffness.B)
        self.negative = int(np.sum(self.steps < 0))
        self.count = self.negative + stiffness.eliminated

    def branch(self, k: int) -> int | None:
        """Which step leads to the k-th mode from below, the first being k = 1; None if none does."""
        j = self.negative + (k - self.count) - 1
        return j if 0 <= j < len(self.steps) else None


def nonlinear_modes(
    stiffness: Callable[[float], Stiffness], low: float, high: float, *, max_evaluations: int = 200
) -> tuple[np.ndarray, np.ndarray]:
    """All lambda in (low, high) with D(lambda) x = 0, and x with x.B x = 1.

    Args:
        stiffness: D, B and count at a lambda; it may answer for a lambda nearby and say so in `at`.
        low: Lower end of the window, outside the bands of the perfect crystal.
        high: Upper end.
        max_evaluations: Of `stiffness`, where to give up.

    Returns:
        Roots, descending, a multiplet as often as it is degenerate, shape=(k,), and vectors x, shape=(n, k).

    Raises:
        ValueError: If the window is empty.
        ArithmeticError: If the roots are not found within `max_evaluations`, which says that B is not the derivative of
            D.
    """
    if not low < high:
        raise ValueError(f"the window must have its lower end below its upper end, got {low:g} and {high:g}")
    samples = [_Sample(stiffness(low)), _Sample(stiffness(high))]
    roots, vectors = [], []
    for k in range(samples[-1].count, samples[0].count, -1):
        width = np.inf
        while True:
            below = max((s for s in samples if s.count < k), key=lambda s: s.at)
            above = min((s for s in samples if s.count >= k), key=lambda s: s.at)
            step, sample, j = min(
                (abs(s.steps[j]), i, j)
                for i, s in enumerate((below, above))
                if (j := s.branch(k)) is not None
            )
            sample = (below, above)[sample]
            root = sample.at + sample.steps[j]
            room = max(min(sample.at - low, high - sample.at), 1e-6 * (high - low))
            if step <= CLOSE * room or above.at - below.at <= 4e-16 * abs(above.at):
                roots.append(root)
                vectors.append(sample.vectors[:, j])
                break
            if len(samples) >= max_evaluations:
                raise ArithmeticError(
                    f"{samples[0].count} to {samples[-1].count} modes lie below the ends of the window, but mode {k} was "
                    f"not found in {max_evaluations} evaluations between {below.at:.12g} and {above.at:.12g}"
                )
            shrank, width = above.at - below.at < 0.6 * width, above.at - below.at
            if not (below.at < root < above.at) or (not shrank and len(samples) % 3 == 0):
                root = (below.at + above.at) / 2
            samples.append(_Sample(stiffness(root)))
    n = len(samples[0].steps)
    return np.array(roots), np.array(vectors).T.reshape(n, len(roots))
