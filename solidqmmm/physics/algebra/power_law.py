"""A power law through measured costs: t = a n^b, by least squares of the logarithms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PowerLaw:
    """t = a n^b.

    Attributes:
        factor: a, in the unit of t.
        exponent: b.
        stderr: Standard error of b; None from two points, which leave no deviation.
    """

    factor: float
    exponent: float
    stderr: float | None

    def __call__(self, sizes):
        """t at sizes n."""
        return self.factor * np.asarray(sizes, dtype=float) ** self.exponent


def power_law(sizes, values) -> PowerLaw:
    """The law nearest to `values` at `sizes`, each of shape=(k,), in relative deviations.

    Raises:
        ValueError: For fewer than two sizes, or numbers that are not positive.
    """
    n, t = np.asarray(sizes, dtype=float), np.asarray(values, dtype=float)
    if n.shape != t.shape or len(np.unique(n)) < 2 or min(n.min(), t.min()) <= 0:
        raise ValueError(
            f"a power law needs positive values at two sizes at least, got {t.tolist()} at {n.tolist()}"
        )
    x, y = np.log(n), np.log(t)
    dx = x - x.mean()
    b = float(dx @ y / (dx @ dx))
    deviation = y - y.mean() - b * dx
    stderr = float(np.sqrt(deviation @ deviation / (len(n) - 2) / (dx @ dx))) if len(n) > 2 else None
    return PowerLaw(float(np.exp(y.mean() - b * x.mean())), b, stderr)
