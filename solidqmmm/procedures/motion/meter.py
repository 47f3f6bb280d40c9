"""A correction under observation: how often it was called, what it said, and what work it did."""

from __future__ import annotations

from time import perf_counter

import numpy as np

from solidqmmm import interruption
from solidqmmm.engines.protocols import Contribution
from solidqmmm.errors import EngineError
from solidqmmm.procedures.motion.answers import Answers
from solidqmmm.runtime import agree_on_failure

# Positions within this distance (angstrom) are the same place: a set-up brings atoms back into the box.
_SAME_PLACE = 1e-8


class Meter:
    """Passes a correction through to the host.

    Args:
        exact: The correction.
        host: The LammpsHost that it is attached to.
        answers: Where to keep what it says, or None.

    Attributes:
        exact: The correction.
        scheme: What is asked: the correction, or what a stepper has put around it (`around`).
        calls: Number of calls of the correction.
        seconds: Wall time in it, in this process.
        work: -sum of mean force . displacement over the steps so far, in eV.
        impulse: Sum over the steps so far of the mean total force in eV/angstrom, shape=(3,): times the time step, the
            momentum that the correction has given to the crystal.
        moving: Whether time steps are being made; a set-up of LAMMPS (False) asks again for what is known.
        at: Positions at the last call in angstrom, shape=(n, 3), or None.
        given: What the correction gave there, or None.
    """

    def __init__(self, exact, host, answers: Answers | None = None):
        self.host, self.answers = host, answers
        self.calls, self.work, self.impulse = 0, 0.0, np.zeros(3)
        self.seconds = 0.0
        self.moving = False
        self._wrap = None
        self.replace(exact)

    def around(self, wrap):
        """From here on what is asked is wrap(correction), also of corrections that take its place."""
        self._wrap = wrap
        self.replace(self.exact)

    def replace(self, exact):
        """Goes on with another correction; calls and work count on."""
        self.exact = exact
        asked = exact if self.answers is None else self.answers(exact)
        self.scheme = asked if self._wrap is None else self._wrap(asked)
        self.atoms, self.reference = exact.atoms, exact.reference
        self.has_energy, self.needs_host_forces = self.scheme.has_energy, exact.needs_host_forces
        self.at: np.ndarray | None = None
        self.given: Contribution | None = None

    def evaluate(self, positions, cell, host_forces=None) -> Contribution:
        """The correction at `positions`; in a set-up at the place where it was asked last, what it said there.

        Arguments are those of `Correction.evaluate`.

        Raises:
            EngineError: If it gave forces that are not finite.
            Interruption: In a step, if the run has been told to end.
        """
        if not self.moving and self.at is not None and np.abs(positions - self.at).max() < _SAME_PLACE:
            return self.given
        error, started = None, perf_counter()
        try:
            if self.moving and interruption.due(self.host.session.communicator):
                raise interruption.Interruption
            given = self.scheme.evaluate(positions, cell, host_forces)
            if not np.isfinite(given.forces).all():
                raise EngineError("the correction gave forces that are not finite: look at the engine's log")
        except BaseException as caught:  # an interrupt, too, ends all ranks
            error = caught
        agree_on_failure(self.host.session.communicator, error)
        self.seconds += perf_counter() - started
        self.calls += getattr(self.scheme, "asked", True)
        if self.at is not None:
            mean = 0.5 * (self.given.forces + given.forces)
            self.work -= float((mean * (positions - self.at)).sum())
            if self.moving:
                self.impulse = self.impulse + mean.sum(axis=0)
        self.at, self.given = positions, given
        return given

    def state(self) -> dict:
        """What is counted beside calls and work."""
        return {"impulse": self.impulse}

    def restore(self, state: dict):
        """Takes up a `state`."""
        self.impulse = np.array(state["impulse"])
