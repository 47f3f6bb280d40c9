"""What is seen of a crack along a run: where its tip is, at which load, how long its next bond is; and when to end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from solidqmmm.procedures.cracks.track_tip import CrackTip, TipTracker

# Atoms within this distance of the tip are in snapshots (angstrom), along the front all of them.
_SNAPSHOT = 25.0


class TipHistory:
    """Attendant: rows of the tip, snapshots around it, and the end of the run where the tip comes too near the boundary.

    Args:
        tracker: Finds the tip.
        load: A `CrackLoad` (anything with `load`), or None.
        margin: The run ends when the tip is nearer than this to the held atoms or the end of the strip, angstrom.
        every: Steps between rows.
        snapshot_steps: Steps at which a snapshot is taken, multiples of `every` (the first row at or after each).

    Attributes:
        rows: One mapping a row: `time_ps`, `x_A`, `y_A`, `reference_x_A` (all None where there is no tip), `K_MPa_sqrt_m`,
            `G_J_per_m2`, `strain` (of a strip), `bond_A` (the longest of the first whole bonds ahead).
        snapshots: Mappings with `time_ps`, `tip_A` and arrays of the atoms near the tip: `x_A`, `y_A`, `region`, `number`.
    """

    name = "tip_history"

    def __init__(self, tracker: TipTracker, load=None, *, margin: float, every: int = 10, snapshot_steps=()):
        self.tracker, self.load, self.margin, self.every = tracker, load, float(margin), int(every)
        self.rows: list[dict] = []
        self.snapshots: list[dict] = []
        self._due = sorted(int(step) for step in snapshot_steps)

    def at_start(self, step: int, qmmm):
        """A callback of `run_dynamics`: the row of step 0."""
        if step == 0:
            self._look(0, 0.0, qmmm)

    def begin(self, run):
        """Nothing: the first row is that of the first step."""
        del run

    def act(self, step: int, run):
        """Looks for the tip, writes its row, and stops the run where it comes too near to the boundary."""
        found = self._look(step, run.time_ps, run.qmmm)
        if found is None:
            return
        room = self.tracker.system.room_ahead(found.reference_x)
        if room < self.margin:
            run.stop(
                f"the tip has come within {room:.1f} A of the boundary at {run.time_ps:.3f} ps "
                f"(the limit is {self.margin:.1f} A)"
            )

    def _look(self, step, time_ps, qmmm):
        positions = qmmm.host.positions()
        found = self.tracker.find(positions)
        row = {"time_ps": time_ps, "x_A": None, "y_A": None, "reference_x_A": None, "bond_A": None}
        if found is not None:
            row |= {"x_A": found.x, "y_A": found.y, "reference_x_A": found.reference_x}
            row["bond_A"] = self.tracker.next_bond_length(positions, found.reference_x)
        if self.load is not None:
            load = self.load.load
            row |= {"K_MPa_sqrt_m": load.K_MPa_sqrt_m, "G_J_per_m2": load.G_J_per_m2}
            if load.strain is not None:
                row["strain"] = load.strain
        self.rows.append(row)
        if self._due and step >= self._due[0] and found is not None:
            while self._due and step >= self._due[0]:
                self._due.pop(0)
            self.snapshots.append({"time_ps": time_ps, **around_tip(qmmm, found, positions)})
        return found

    def state(self) -> dict:
        """Rows, snapshots and the times of those to come, for a checkpoint."""
        return {"rows": list(self.rows), "snapshots": list(self.snapshots), "due": list(self._due)}

    def restore(self, state: dict):
        """Takes up the state of a checkpoint."""
        self.rows, self.snapshots = list(state["rows"]), list(state["snapshots"])
        self._due = list(state["due"])


def around_tip(qmmm, tip: CrackTip, positions) -> dict:
    """The atoms near a tip: `tip_A`, and lists of `x_A`, `y_A`, `z_A`, `number` and `region`.

    Args:
        qmmm: The live crystal.
        tip: The tip.
        positions: Of all atoms in angstrom, shape=(n, 3).
    """
    near = np.flatnonzero(np.hypot(positions[:, 0] - tip.x, positions[:, 1] - tip.y) < _SNAPSHOT)
    places = {f"{axis}_A": np.round(positions[near, k], 3).tolist() for k, axis in enumerate("xyz")}
    labels = {"number": qmmm.host.crystal.numbers[near].tolist(), "region": qmmm.partition.names()[near].tolist()}
    return {"tip_A": [tip.x, tip.y], **places, **labels}


def advanced(rows, period: float) -> bool:
    """Whether the tip went ahead by more than one period of the crystal, in the median of the last tenth of the rows.

    By less it moves back and forth with heat, and where it blunts.

    Args:
        rows: Of `TipHistory`.
        period: Of the crystal along x, angstrom.
    """
    where = [row["reference_x_A"] for row in rows if row["reference_x_A"] is not None]
    if len(where) < 2:
        return False
    return bool(np.median(where[-max(1, len(where) // 10) :]) - where[0] > 1.01 * period)


def critical_load(rows, period: float, *, periods: float = 5.0) -> dict | None:
    """The load at which the tip starts to run for good: that of the last row in which it was not ahead of its start.

    Ahead is by more than one period of the crystal. None unless the tip is `periods` periods ahead at the end (median of the
    last tenth of the rows): blunting, and bonds that break and heal, are no running. Under a load that rises in time this is
    an upper bound, by as much as the load rises while the tip waits for heat to carry it.

    Args:
        rows: Of `TipHistory`, with the load.
        period: Of the crystal along x, angstrom.
        periods: How far ahead a crack is that has run.

    Returns:
        `time_ps`, `K_MPa_sqrt_m` and `G_J_per_m2`, or None.
    """
    seen = [row for row in rows if row["reference_x_A"] is not None and "G_J_per_m2" in row]
    if len(seen) < 2:
        return None
    way = np.array([row["reference_x_A"] for row in seen]) - seen[0]["reference_x_A"]
    if np.median(way[-max(1, len(way) // 10) :]) < periods * period:
        return None
    last = seen[np.flatnonzero(way <= 1.01 * period)[-1]]
    return {name: last[name] for name in ("time_ps", "K_MPa_sqrt_m", "G_J_per_m2")}


def speed_A_per_ps(rows) -> float | None:
    """Mean speed of the tip over the second half of the rows by a straight line, angstrom/ps; None with fewer than five."""
    seen = [(row["time_ps"], row["x_A"]) for row in rows if row["x_A"] is not None]
    seen = np.array(seen[len(seen) // 2 :], dtype=float).reshape(-1, 2)
    if len(seen) < 5:
        return None
    return float(np.polyfit(seen[:, 0], seen[:, 1], 1)[0])


def tip_of(tracker: TipTracker) -> Callable:
    """The `tip` of a `CrackLoad`: x in the perfect crystal."""

    def tip(positions):
        found = tracker.find(positions)
        return None if found is None else found.reference_x

    return tip
