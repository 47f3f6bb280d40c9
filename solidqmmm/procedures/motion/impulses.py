"""Multiple time steps: the correction as impulses at every N-th step. What that is: `coupling/respa`."""

from __future__ import annotations

from solidqmmm.coupling.force_error import ForceError
from solidqmmm.coupling.respa import Impulses


class Respa:
    """Stepper of `run_dynamics` that asks the correction at every N-th step only.

    Rows, attendants and checkpoints fall on outer steps, where energies are what the scheme keeps. With `steps` = 1 it is
    the plain velocity Verlet scheme to the last bit.

    Args:
        steps: N; the outer step is N time steps.

    Attributes:
        error: How much the correction's forces on the core changed from one outer step to the next: what holding them
            costs.
        references: Citation keys that a user of it owes.

    Raises:
        ValueError: For `steps` below 1.
    """

    name = "respa"
    foresees = True
    references = ("tuckerman1992respa",)

    def __init__(self, steps: int):
        if steps < 1:
            raise ValueError(f"`steps` must not be below 1, got {steps}")
        self.stride = int(steps)
        self.error = ForceError()
        self._scheme: Impulses | None = None
        self._last = None

    def begin(self, run):
        """Puts the correction behind impulses.

        Raises:
            ValueError: For the host alone, and for a run or attendants whose steps are no multiples of the outer step.
        """
        require_correction(run, self.name)
        for what, number in [
            ("steps", run.steps),
            *((f"every of '{one.name}'", one.every) for one in run.attendants),
        ]:
            if number % self.stride:
                raise ValueError(
                    f"`{what}` must be a multiple of the {self.stride} steps from one impulse to the next, got {number}"
                )
        run.meter.around(self._around)
        self._scheme.left = 0  # checkpoints are made at outer steps
        self._scheme.last = self._last

    def _around(self, exact) -> Impulses:
        self._scheme = Impulses(exact, self.stride, self.error)
        return self._scheme

    def advance(self, run, steps: int):
        """Makes `steps` steps."""
        done = 0
        while done < steps:
            left = self.stride - (run.step + done) % self.stride
            self._scheme.left, self._scheme.counts = left - 1, True
            n = min(left, steps - done)
            run.host.run(n, pre=False)
            done += n

    def state(self) -> dict:
        """The errors so far, and the forces that the next ones are compared with."""
        last = None if self._scheme is None else self._scheme.last
        return {"error": self.error.state()} | ({} if last is None else {"last": last})

    def restore(self, state: dict):
        """Takes up a `state`."""
        self.error = ForceError.of(state["error"])
        self._last = state.get("last")


def require_correction(run, name: str):
    """Nothing, unless the host is alone, which has no calls to save.

    Raises:
        ValueError: If it is.
    """
    if run.meter is None:
        raise ValueError(
            f"the stepper '{name}' saves quantum calls, and the host alone makes none: leave it out"
        )
