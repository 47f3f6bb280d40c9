"""Temperature from a crack tip (or any centre) outwards, gathered along a run of dynamics."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from solidqmmm.physics.heat.temperature_profile import binned_temperature, distances_from, mean_profile


class TemperatureProfile:
    """Attendant: mean temperature in bins of the distance from a centre, with standard errors.

    Args:
        centre: A point in angstrom, shape=(3,), or a function of the run that gives it, for one that moves.
        bin_width: Width of the bins in angstrom.
        axis: Direction of the line through the centre from which distances count; None: from the point.
        every: Steps between samples.
        after_step: Samples are taken after this step.

    Raises:
        ValueError: For bins without width.
    """

    name = "temperature_profile"

    def __init__(
        self, centre: Callable | np.ndarray, *, bin_width: float = 10.0, axis: int | None = 2, every: int = 10,
        after_step: int = 0,
    ):  # fmt: skip
        if not bin_width > 0 or every < 1:
            raise ValueError(
                f"`bin_width` must be positive (angstrom) and `every` at least 1, got {bin_width} and {every}"
            )
        self.centre, self.bin_width, self.axis = centre, float(bin_width), axis
        self.every, self.after_step = int(every), int(after_step)
        self._temperatures, self._atoms = [], []
        self._edges: np.ndarray | None = None

    def begin(self, run):
        """Chooses the bins, wide enough for the crystal of the run."""
        if self._edges is None:  # no distance in the crystal is larger than its diagonal
            farthest = 1.2 * np.linalg.norm(np.ptp(run.host.crystal.positions, axis=0)) + self.bin_width
            self._edges = np.arange(0.0, farthest + self.bin_width, self.bin_width)

    def act(self, step: int, run):
        """Takes a sample, after the step from which samples count."""
        if step <= self.after_step:
            return
        centre = self.centre(run) if callable(self.centre) else self.centre
        mobile = run.mobile
        distances = distances_from(run.host.positions()[mobile], centre, self.axis)
        velocities = run.host.velocities()[mobile]
        T, atoms = binned_temperature(velocities, run.masses[mobile], distances, self._edges)
        self._temperatures.append(T)
        self._atoms.append(atoms)

    def rows(self) -> list[dict]:
        """`{"distance_A", "T_K", "stderr_K"}` of every bin that had atoms, the nearest first."""
        if not self._temperatures:
            return []
        return mean_profile(self._temperatures, self._atoms, self._edges)

    def state(self) -> dict:
        """Bins and samples so far, for a checkpoint."""
        edges = np.empty(0) if self._edges is None else self._edges
        shape = (len(self._atoms), max(len(edges) - 1, 0))
        return {
            "edges": edges,
            "temperatures": np.array(self._temperatures, dtype=float).reshape(shape),
            "atoms": np.array(self._atoms, dtype=int).reshape(shape),
        }

    def restore(self, state: dict):
        """Takes up the state of a checkpoint."""
        self._edges = np.asarray(state["edges"]) if len(state["edges"]) else None
        self._temperatures, self._atoms = list(state["temperatures"]), list(state["atoms"])
