"""The load of a crack in time: increments of the far field, and the work that they do.

When the load goes from one value to another, atoms are displaced by the difference of the elastic far fields around the
present tip, at once: all atoms (the elastic answer then needs no wave to cross the crystal), or the held ones only. The work
of an increment is the change of the potential energy in it,

    W_load = [E_MM(x + du) - E_MM(x)] - 1/2 sum (Delta F(x) + Delta F(x + du)) . du

the second term for a correction, as everywhere in a run of dynamics (`dynamics`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from solidqmmm.physics.cracks.load_schedule import LoadSchedule
from solidqmmm.procedures.motion.energy_ledger import effective_potential
from solidqmmm.system.crack import CrackSystem, Load

APPLIED_TO = ("all", "boundary")
_SMALLEST = 1e-12


class CrackLoad:
    """Attendant of `run_dynamics` that loads a crack by a schedule.

    Args:
        crack: The crack system.
        measure: 'K' (MPa sqrt(m)), 'G' (J/m^2) or 'strain'.
        schedule: The load in time.
        tip: Called with the positions of all atoms in angstrom, shape=(n, 3); gives the tip's x in the perfect crystal in
            angstrom, or None where there is no tip, and the last one counts on.
        applied_to: 'all' atoms, or the 'boundary' that is held.
        every: Steps between looks at the schedule.

    Attributes:
        load: The present load.
        work_eV: Work done so far, eV.

    Raises:
        ValueError: For an unknown `applied_to`, or a load beyond the ideal strength anywhere in the schedule.
    """

    name = "crack_load"

    def __init__(
        self,
        crack: CrackSystem,
        measure: str,
        schedule: LoadSchedule,
        *,
        tip: Callable | None = None,
        applied_to: str = "all",
        every: int = 10,
    ):
        if applied_to not in APPLIED_TO:
            raise ValueError(f"`applied_to` must be one of {', '.join(APPLIED_TO)}, got {applied_to!r}")
        self.crack, self.measure, self.schedule, self.tip = crack, measure, schedule, tip
        self.applied_to, self.every = applied_to, int(every)
        for value in schedule.values:  # loads that the crystal cannot bear are refused before anything runs
            crack.load(**{measure: float(value)})
        self.value = schedule.at(0.0)
        self.tip_x, self.work_eV = float(crack.tip[0]), 0.0

    @property
    def load(self) -> Load:
        """The present load in every measure."""
        return self.crack.load(**{self.measure: self.value})

    def begin(self, run):
        """Nothing: the load is on the crystal that the run begins with."""
        pass

    def act(self, step: int, run):
        """Brings the load to what the schedule says, if that has changed."""
        del step
        wanted = self.schedule.at(run.time_ps)
        if abs(wanted - self.value) <= _SMALLEST:
            return
        positions = run.host.positions()
        x = None if self.tip is None else self.tip(positions)
        self.tip_x = self.tip_x if x is None else float(x)
        after = self.crack.load(**{self.measure: wanted})
        shift = self.crack.far_field(after, self.tip_x) - self.crack.far_field(self.load, self.tip_x)
        if self.applied_to == "boundary":
            inside = np.ones(len(shift), dtype=bool)
            inside[self.crack.held] = False
            shift[inside] = 0.0
        before = effective_potential(run)
        run.host.set_positions(positions + shift)
        self.work_eV += effective_potential(run) - before
        self.value = wanted

    def state(self) -> dict:
        """The load, where the tip was, and the work done so far, for a checkpoint."""
        return {"value": self.value, "tip_x": self.tip_x, "work_eV": self.work_eV}

    def restore(self, state: dict):
        """Takes up the state of a checkpoint."""
        self.value, self.tip_x, self.work_eV = state["value"], state["tip_x"], state["work_eV"]
