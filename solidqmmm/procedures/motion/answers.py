"""What a correction has said since the last checkpoint: a run that goes on from there asks for the same again, in order.

So an interrupted run loses no quantum call, and does nothing but the arithmetic of the run that was not interrupted: it goes
on from its regular checkpoint, and steps that were made already cost the host's time alone.
"""

from __future__ import annotations

import logging
from collections import deque

import numpy as np

from solidqmmm.engines.protocols import Contribution

logger = logging.getLogger(__name__)

# Repeated on other ranks, positions (angstrom) differ by the rounding of sums; an answer serves within this distance.
_SAME = 1e-9

Answer = tuple[np.ndarray, Contribution]


class Answers:
    """The answers of one run; on all ranks."""

    def __init__(self):
        self._said: list[Answer] = []
        self._known: deque[Answer] = deque()

    def __call__(self, correction) -> Remembered:
        """The correction; it is not asked for what is known."""
        return Remembered(correction, self)

    def forget(self):
        """At a checkpoint: what was said before it is not asked for again."""
        self._said.clear()
        self._known.clear()

    def expect(self, known):
        """After a checkpoint with answers: pairs of positions in angstrom, shape=(n, 3), and what was said there."""
        self.forget()
        self._known.extend(known)

    def all(self) -> tuple[Answer, ...]:
        """All since the checkpoint, those included that were known and have not been asked for yet."""
        return (*self._said, *self._known)

    def known(self, positions) -> Contribution | None:
        """What is known to come next, if it belongs to these positions (angstrom, shape=(n, 3)).

        Else nothing of it will be asked for.
        """
        if not self._known:
            return None
        at, given = self._known[0]
        if at.shape != positions.shape or np.abs(at - positions).max(initial=0.0) > _SAME:
            logger.info("%d answers of an interrupted run belong to other positions: asking again", len(self._known))
            self._known.clear()
            return None
        self._known.popleft()
        return given

    @property
    def in_hand(self) -> bool:
        """Whether the next one is known."""
        return bool(self._known)

    def keep(self, positions, given: Contribution):
        """One more at `positions`, angstrom, shape=(n, 3); only what a run can use."""
        if np.isfinite(given.forces).all():
            self._said.append((positions.copy(), given))


class Remembered:
    """A correction whose answers are kept; all that is not said here is the correction's."""

    def __init__(self, correction, answers: Answers):
        self._correction, self._answers = correction, answers

    def __getattr__(self, name):
        return getattr(self._correction, name)

    def foresee(self, positions, cell):
        """Where the correction will be asked next, as `Correction.evaluate`, unless the answer is known."""
        if not self._answers.in_hand:
            self._correction.foresee(positions, cell)

    def evaluate(self, positions, cell, host_forces=None) -> Contribution:
        """The correction at `positions`, or what it is known to say there; as `Correction.evaluate`."""
        given = self._answers.known(positions)
        if given is None:
            given = self._correction.evaluate(positions, cell, host_forces)
        self._answers.keep(positions, given)
        return given
