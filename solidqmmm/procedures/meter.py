"""A correction under observation: how often it was called, what work it did, and where it failed."""

from __future__ import annotations

import numpy as np

from solidqmmm.engines.protocols import Contribution
from solidqmmm.errors import EngineError
from solidqmmm.runtime import agree_on_failure

# Positions within this distance (angstrom) are the same place: a set-up brings atoms back into the box.
_SAME_PLACE = 1e-8


class Meter:
    """Passes a correction through to the host.

    Args:
        exact: The correction.
        host: The LammpsHost that it is attached to.

    Attributes:
        calls: Number of calls.
        work: -sum of mean force . displacement over the steps so far, in eV.
        moving: Whether time steps are being made; a set-up of LAMMPS (False) asks again for what is known.
        at: Positions at the last call in angstrom, shape=(n, 3), or None.
        given: What the correction gave there, or None.
        failed_at: Positions (angstrom) and half-step velocities (angstrom/ps) of all atoms, each of shape=(n_host, 3), at
            which a call during a step failed; None if none did.
    """

    def __init__(self, exact, host):
        self.exact, self.host = exact, host
        self.atoms, self.reference = exact.atoms, exact.reference
        self.has_energy, self.needs_host_forces = exact.has_energy, exact.needs_host_forces
        self.calls, self.work = 0, 0.0
        self.moving = False
        self.at: np.ndarray | None = None
        self.given: Contribution | None = None
        self.failed_at: tuple[np.ndarray, np.ndarray] | None = None

    def evaluate(self, positions, cell, host_forces=None) -> Contribution:
        """The correction at `positions`; in a set-up at the place where it was asked last, what it said there."""
        if not self.moving and self.at is not None and np.abs(positions - self.at).max() < _SAME_PLACE:
            return self.given
        error = None
        try:
            given = self.exact.evaluate(positions, cell, host_forces)
            if not np.isfinite(given.forces).all():
                raise EngineError("the correction gave forces that are not finite: look at the engine's log")
        except BaseException as caught:  # an interrupt, too, must leave a state to go on from
            error = caught
        try:
            agree_on_failure(self.host.session.communicator, error)
        except BaseException:
            if self.moving:
                self.failed_at = self.host.positions(), self.host.velocities()
            raise
        self.calls += 1
        if self.at is not None:
            self.work -= 0.5 * float(((self.given.forces + given.forces) * (positions - self.at)).sum())
        self.at, self.given = positions, given
        return given
