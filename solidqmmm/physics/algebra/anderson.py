"""Anderson's mixing: a fixed point from few evaluations, each step a combination of the last ones.

    x_next = x + r - (S + R) w,    w = argmin |r - R w|

with the residual r, the columns of S the last steps and those of R the changes of r on them.

D. G. Anderson, J. ACM 12, 547 (1965); H. F. Walker and P. Ni, SIAM J. Numer. Anal. 49, 1715 (2011).
"""

from __future__ import annotations

import numpy as np


class Anderson:
    """The steps to r = 0; r is the step that the simplest iteration would take.

    Args:
        memory: Number of past steps that are combined.
    """

    def __init__(self, memory: int = 6):
        self.memory = memory
        self._steps: list[np.ndarray] = []
        self._changes: list[np.ndarray] = []
        self._residual = self._taken = None

    def step(self, residual) -> np.ndarray:
        """The next step, in the shape of the residual."""
        r = np.ravel(residual).astype(float)
        if self._taken is not None:
            self._steps = [*self._steps, self._taken][-self.memory :]
            self._changes = [*self._changes, r - self._residual][-self.memory :]
        self._residual, found = r, r.copy()
        if self._changes:
            S, R = np.array(self._steps).T, np.array(self._changes).T
            found -= (S + R) @ np.linalg.lstsq(R, r, rcond=1e-10)[0]
        self._taken = found
        return found.reshape(np.shape(residual))

    def taken(self, step):
        """Says that another step was taken, such as a shorter one."""
        self._taken = np.ravel(step).astype(float)
