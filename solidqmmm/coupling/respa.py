"""r-RESPA of a correction: asked at every N-th step, N times as strong there, and absent in between.

    v += N dt/2 Delta F/m,   N steps of the host alone,   v += N dt/2 Delta F/m

Splitting the propagator so keeps the scheme reversible and symplectic: with a coupling that has an energy, the total
energy at outer steps is kept to second order in N dt, without drift. Holding Delta F constant over the N steps instead
would not: a force that lags by t acts as a friction -t k for a correction of stiffness k, so it heats or cools without
end, and is not offered.

Impulses resonate with the host's own vibrations: for a mode of angular frequency w of the host and a correction of
stiffness k per mass on it, one outer step h is stable while |cos(w h) - h k/(2 w) sin(w h)| < 1. The first forbidden zone
lies at h = pi/w, half a period; for k > 0 it begins the earlier the larger k is (`largest_outer_step`). The fastest mode
of Stillinger-Weber silicon has a period of 56 fs, that of a host with bonds to hydrogen 11 fs. Energies get inaccurate
long before; 2 to 5 fs is what is usual.

Source: M. Tuckerman, B. J. Berne and G. J. Martyna, J. Chem. Phys. 97, 1990 (1992); resonance: J. J. Biesiadecki and R.
D. Skeel, J. Comput. Phys. 109, 318 (1993).
"""

from __future__ import annotations

import numpy as np

from solidqmmm.coupling.force_error import ForceError, core_rows
from solidqmmm.engines.protocols import Contribution


class Impulses:
    """A correction by impulses. Who makes the steps says when (`left`).

    Args:
        exact: The correction.
        every: N.
        error: Where its force error is added up: how much the forces on the core change from one outer step to the next.

    Attributes:
        left: Evaluations without the correction that come before the next one with it.
        counts: Whether the next outer step is compared with the last one; not where atoms were moved between two steps.
        asked: Whether the last evaluation asked the exact correction.
        last: Exact forces at the last outer step in eV/angstrom, shape=(n, 3), or None.
        surplus: What the last evaluation gave beyond the exact forces, in eV/angstrom, shape=(n, 3); None between outer
            steps.
    """

    def __init__(self, exact, every: int, error: ForceError):
        self.exact, self.every, self.error = exact, every, error
        self.atoms, self.reference = exact.atoms, exact.reference
        self.has_energy, self.needs_host_forces = exact.has_energy, exact.needs_host_forces
        self.left, self.counts, self.asked = 0, False, False
        self.surplus: np.ndarray | None = None
        self._core = core_rows(exact)
        self.last: np.ndarray | None = None

    def foresee(self, positions, cell):
        """Where the region will be next, as `evaluate`; the exact correction hears of it where it is asked there."""
        if self.every == 1 or (self.left == 0 and not self.asked):
            self.exact.foresee(positions, cell)

    def evaluate(self, positions, cell, host_forces=None) -> Contribution:
        """Nothing while `left` counts down, then N Delta F; the energy and the virial are the exact ones.

        Arguments are those of `Correction.evaluate`.
        """
        self.asked = self.left == 0
        if not self.asked:
            self.left -= 1
            self.surplus = None
            return Contribution(forces=np.zeros((len(self.atoms), 3)))
        given = self.exact.evaluate(positions, cell, host_forces)
        if self.counts and self.last is not None:
            self.error.add((self.last - given.forces)[self._core])
        self.counts = False
        self.last = given.forces
        self.surplus = (self.every - 1) * given.forces
        return Contribution(self.every * given.forces, given.energy, given.virial, given.terms)


def largest_outer_step(frequency: float, stiffness: float) -> float:
    """Outer step at which the first resonance of impulses with one mode begins.

    Args:
        frequency: Angular frequency w of the mode of the host alone, 1/ps.
        stiffness: Second derivative k of the correction along the mode over its mass, 1/ps^2; w^2 + k must be positive.

    Returns:
        The smallest h in ps beyond which one outer step is unstable.

    Raises:
        ValueError: For a mode that is unstable with the correction.
    """
    from scipy.optimize import brentq

    if not frequency > 0 or not frequency**2 + stiffness > 0:
        raise ValueError(
            f"the mode must be stable with and without the correction, got w = {frequency} 1/ps and k = {stiffness} 1/ps^2"
        )
    half = np.pi / frequency
    if stiffness <= 0:
        return half

    # cos(wh) - a h sin(wh) = -1 with a = k/2w is, divided by 2 cos(wh/2):  cos(wh/2) = a h sin(wh/2).
    def crossing(h):
        return np.cos(0.5 * frequency * h) - stiffness / (2 * frequency) * h * np.sin(0.5 * frequency * h)

    return float(brentq(crossing, 0.0, half))
