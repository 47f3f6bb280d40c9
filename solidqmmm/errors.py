"""The error family. Wrong arguments raise ValueError or TypeError; failed *work* raises one of these.

Every message says what was wrong, what was expected, what came, and what to do. Where work was lost or saved, the fields
`directory`, `step` and `last_good_state` say so, and the printed message ends with them.
"""

from __future__ import annotations

from pathlib import Path


class SolidQMMMError(Exception):
    """Base of all errors that solidqmmm raises for failed work.

    Args:
        message: What was wrong, what was expected, what came, what to do.
        directory: Run folder that holds logs and results so far.
        step: Step (minimizer iteration, MD step) at which the work failed.
        last_good_state: File to go on from.

    Attributes:
        task: Name of the independent task that failed, where there is one.
    """

    task: str | None = None

    def __init__(self, message, *, directory=None, step=None, last_good_state=None):
        super().__init__(message)
        self.directory = Path(directory) if directory is not None else None
        self.step = step
        self.last_good_state = Path(last_good_state) if last_good_state is not None else None

    def __str__(self):
        lines = [super().__str__()]
        for label, value in (
            ("task", self.task),
            ("step", self.step),
            ("run folder", self.directory),
            ("last good state", self.last_good_state),
        ):
            if value is not None:
                lines.append(f"  {label}: {value}")
        return "\n".join(lines)


class EnvironmentProblem(SolidQMMMError):
    """The installation cannot do the work: two MPI libraries in one process, a missing package, no PAW setups."""


class StudyError(SolidQMMMError):
    """A study file is wrong. `problems` lists every mistake, one line each."""

    def __init__(self, message, *, problems=(), **fields):
        super().__init__(message, **fields)
        self.problems = tuple(problems)

    def __str__(self):
        return "\n".join([super().__str__(), *(f"  - {problem}" for problem in self.problems)])


class StructureError(SolidQMMMError):
    """A structure cannot be used: disordered, overlapping atoms, a site that does not exist."""


class RegionError(SolidQMMMError):
    """The quantum region is impossible: empty, larger than the cell allows, meeting its own periodic image."""


class EngineError(SolidQMMMError):
    """An engine failed. `command` is the engine's own command that caused it, where there is one."""

    def __init__(self, message, *, command=None, **fields):
        super().__init__(message, **fields)
        self.command = command

    def __str__(self):
        text = super().__str__()
        return f"{text}\n  command: {self.command}" if self.command else text


class ConvergenceError(EngineError):
    """A self-consistency cycle did not converge after the whole ladder of retries. `attempts` lists what was tried."""

    def __init__(self, message, *, attempts=(), **fields):
        super().__init__(message, **fields)
        self.attempts = tuple(attempts)

    def __str__(self):
        return "\n".join([super().__str__(), *(f"  tried: {attempt}" for attempt in self.attempts)])


class TaskError(SolidQMMMError):
    """An independent task did not fail by an error of its own: its worker died, it hung, or its ranks lost each other."""

    def __init__(self, message, *, task=None, **fields):
        super().__init__(message, **fields)
        self.task = task


class PolarizationCatastrophe(SolidQMMMError):
    """Induced dipoles that would grow without bound.

    `pair` are the two sites, `distance` theirs and `critical_distance` the one at which these two alone diverge (angstrom).
    """

    def __init__(self, message, *, pair=None, distance=None, critical_distance=None, **fields):
        super().__init__(message, **fields)
        self.pair, self.distance, self.critical_distance = pair, distance, critical_distance
