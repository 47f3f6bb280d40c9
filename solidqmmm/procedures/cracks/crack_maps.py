"""Maps of stress and temperature around a crack, gathered along a run of dynamics on a grid of x and y.

The stress of an atom is its share of the host's virial (`LammpsHost.atomic_virials`) over the volume of an atom of the
perfect crystal; without the kinetic part, and without what a correction adds, which knows no atoms' shares. In a cell of
the grid it is the mean over the atoms in it. Temperatures are kinetic.
"""

from __future__ import annotations

import numpy as np
from ase.units import GPa, kB

from solidqmmm.physics.heat.thermal_velocities import AMU_A2_PER_PS2

_COMPONENTS = {"xx": (0, 0), "yy": (1, 1), "xy": (0, 1)}


class CrackMaps:
    """Attendant: mean stress and temperature on a grid.

    Args:
        volume_per_atom: Of the perfect crystal, angstrom^3.
        spacing: Of the grid in angstrom.
        every: Steps between samples.
        after_step: Samples are taken after this step.
    """

    name = "crack_maps"

    def __init__(self, volume_per_atom: float, *, spacing: float = 5.0, every: int = 100, after_step: int = 0):
        self.volume, self.spacing = float(volume_per_atom), float(spacing)
        self.every, self.after_step = int(every), int(after_step)
        self._sums: dict[str, np.ndarray] = {}
        self._edges = ()

    def begin(self, run):
        """Lays the grid over the crystal of the run."""
        reference = run.host.crystal.positions
        self._edges = tuple(
            np.arange(reference[:, axis].min() - self.spacing, reference[:, axis].max() + 2 * self.spacing, self.spacing)
            for axis in (0, 1)
        )
        if not self._sums:
            shape = tuple(len(edges) - 1 for edges in self._edges)
            self._sums = {name: np.zeros(shape) for name in ("atoms", "mobile", "heat", *_COMPONENTS)}

    def act(self, step: int, run):
        """Takes a sample, after the step from which samples count."""
        if step <= self.after_step:
            return
        host = run.host
        positions, velocities, virials = host.positions(), host.velocities(), host.atomic_virials()
        where = [positions[:, 0], positions[:, 1]]

        def add(name, weights, chosen=slice(None)):
            weights = None if weights is None else weights[chosen]
            self._sums[name] += np.histogram2d(where[0][chosen], where[1][chosen], self._edges, weights=weights)[0]

        add("atoms", None)
        add("mobile", None, run.mobile)
        heat = run.masses * (velocities**2).sum(axis=1) * AMU_A2_PER_PS2
        add("heat", heat, run.mobile)
        for name, (i, j) in _COMPONENTS.items():
            add(name, virials[:, i, j])

    def maps(self) -> dict:
        """`x_A`, `y_A` (middles of the cells), `stress_xx_GPa`, `stress_yy_GPa`, `stress_xy_GPa` and `temperature_K`,
        lists of rows along y; None in cells without atoms. Empty before the first sample."""
        if not self._sums or not self._sums["atoms"].any():
            return {}
        found = {f"{axis}_A": (0.5 * (e[1:] + e[:-1])).tolist() for axis, e in zip("xy", self._edges, strict=True)}
        with np.errstate(invalid="ignore", divide="ignore"):
            for name in _COMPONENTS:
                found[f"stress_{name}_GPa"] = _plain(self._sums[name] / self._sums["atoms"] / self.volume / GPa)
            found["temperature_K"] = _plain(self._sums["heat"] / (3 * kB * self._sums["mobile"]))
        return found

    def state(self) -> dict:
        """The sums over the samples so far, for a checkpoint."""
        return dict(self._sums)

    def restore(self, state: dict):
        """Takes up the state of a checkpoint."""
        self._sums = {name: np.array(value) for name, value in state.items()}


def _plain(grid) -> list:
    """Rows along y, None for cells without a value."""
    return [[None if not np.isfinite(value) else round(float(value), 4) for value in row] for row in grid.T]
