"""How a load changes in time: values one after the other, each held for a while, with steps or ramps between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class LoadSchedule:
    """A load that is piecewise linear in time.

    Attributes:
        times_ps: Times of the corners in ps, not falling, from 0, shape=(k,). Two corners at one time are a step.
        values: Loads there, shape=(k,). After the last corner the load stays.
    """

    times_ps: np.ndarray
    values: np.ndarray

    @classmethod
    def through(
        cls, values, *, time_ps: float, rate_per_ps: float | None = None, hold_ps: float | None = None
    ) -> LoadSchedule:
        """The values in their order, each held, with steps between them or ramps.

        Args:
            values: Loads, shape=(n,).
            time_ps: Length of the run in ps.
            rate_per_ps: Change of the load in a ps on the way from one value to the next; steps without.
            hold_ps: Time at each value; by default what the ramps leave of the run, in equal parts.

        Raises:
            ValueError: If values are missing or negative, or the ramps alone take longer than the run.
        """
        values = np.atleast_1d(np.asarray(values, dtype=float))
        if not len(values) or not np.isfinite(values).all() or values.min() < 0:
            raise ValueError(f"`values` must be loads not below zero, got {values.tolist()}")
        if not time_ps > 0 or (rate_per_ps is not None and not rate_per_ps > 0) or (hold_ps is not None and hold_ps < 0):
            raise ValueError(
                f"`time_ps` and `rate_per_ps` must be positive, `hold_ps` not negative, "
                f"got {time_ps}, {rate_per_ps}, {hold_ps}"
            )
        ways = np.zeros(len(values) - 1) if rate_per_ps is None else np.abs(np.diff(values)) / rate_per_ps
        if hold_ps is None:
            if ways.sum() >= time_ps and len(ways):
                raise ValueError(
                    f"at {rate_per_ps:g} per ps the way through the loads {values.tolist()} takes {ways.sum():g} ps, "
                    f"longer than the run of {time_ps:g} ps: load faster, or run longer"
                )
            hold_ps = (time_ps - ways.sum()) / len(values)
        times, loads, now = [0.0], [values[0]], 0.0
        for k, value in enumerate(values):
            if k:
                now += ways[k - 1]
                times.append(now)
                loads.append(value)
            now += hold_ps
            times.append(now)
            loads.append(value)
        return cls(np.array(times), np.array(loads))

    def at(self, time_ps: float) -> float:
        """The load at a time; at a step the value after it."""
        after = int(np.searchsorted(self.times_ps, time_ps, side="right"))
        if after == len(self.times_ps):
            return float(self.values[-1])
        t0, t1 = self.times_ps[after - 1], self.times_ps[after]
        v0, v1 = self.values[after - 1], self.values[after]
        return float(v0 + (v1 - v0) * (time_ps - t0) / (t1 - t0))
