"""Where a curve of stress against strain peaks for the first time: the ideal strength of a crystal."""

from __future__ import annotations

import numpy as np

# A stress has peaked when it lies this far (relative) below its maximum: less may be noise of a tabulated potential.
_DECLINE = 0.02


def first_peak(strains, stresses) -> tuple[float, float] | None:
    """Strain and stress of the first maximum, by a parabola through it and its neighbours; None before there is one.

    Args:
        strains: Ascending and equally spaced, from zero, shape=(n,).
        stresses: In any unit, zero at the start, shape=(n,).
    """
    strains, stresses = np.asarray(strains, dtype=float), np.asarray(stresses, dtype=float)
    highest = np.maximum.accumulate(stresses)
    fallen = np.flatnonzero((stresses < (1 - _DECLINE) * highest) & (highest > 0))
    if len(fallen) == 0:
        return None
    k = int(np.argmax(stresses[: fallen[0]]))
    if k == 0:
        return None
    left, top, right = stresses[k - 1 : k + 2]
    curvature = left - 2 * top + right
    shift = 0.0 if curvature >= 0 else np.clip(0.5 * (left - right) / curvature, -0.5, 0.5)
    step = strains[k + 1] - strains[k]
    return float(strains[k] + shift * step), float(top - 0.25 * (left - right) * shift)
