"""What goes along with a run of dynamics, and is kept in its checkpoints: trackers of a region, loads, observables."""

from __future__ import annotations

from typing import Protocol


class Attendant(Protocol):
    """Something that acts between two steps.

    Its state is part of every checkpoint, and is taken up again there also by the run that was not interrupted, so that
    both do the same arithmetic.

    Attributes:
        name: Its name in the checkpoint, unlike that of every other attendant.
        every: Steps between calls.
    """

    name: str
    every: int

    def begin(self, run) -> None:
        """Called when positions and velocities are set, at the start and at every checkpoint, before any force is asked
        for.
        """
        ...

    def act(self, step: int, run) -> None:
        """Called between two steps. May move atoms, replace the correction (`run.replace_correction`) or end the run
        (`run.stop`)."""
        ...

    def state(self) -> dict:
        """All that it needs to go on: plain JSON values and numpy arrays by name."""
        ...

    def restore(self, state: dict) -> None:
        """Takes up a `state`; `begin` follows."""
        ...


class Stepper(Protocol):
    """How a run gets from one step to another; without one, LAMMPS runs.

    Attributes:
        name: Its name in the checkpoint.
        stride: Steps that belong together: rows, attendants and checkpoints fall between strides.

    One whose scheme takes `foresee(positions, cell)` and passes on what the correction will be asked says `foresees = True`
    (see `foresight`).
    """

    name: str
    stride: int

    def begin(self, run) -> None:
        """As of an attendant."""
        ...

    def advance(self, run, steps: int) -> None:
        """Makes `steps` steps, a multiple of `stride` except at the run's end."""
        ...

    def state(self) -> dict:
        """What a checkpoint keeps of it."""
        ...

    def restore(self, state: dict) -> None:
        """Takes up the state of a checkpoint."""
        ...
