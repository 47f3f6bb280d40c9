"""Figures of costs on ranks: a step with time-sharing and with the best split, and the ranks of each half."""

from __future__ import annotations

import numpy as np

from solidqmmm.physics.algebra.rank_costs import best_split, shared_seconds
from solidqmmm.plotting.style import ACCENT, COLOURS, GUIDE, INK, SINGLE_COLUMN, axes_for, style


def plot_layouts(host, quantum, ax=None, *, largest: int = 10_000, exchange: float = 0.0):
    """Seconds of a step against the number of ranks: time-sharing, the best split, and what each would take alone.

    Args:
        host, quantum: What each costs on ranks, a `RankCost`.
        ax: Axes; a new figure without them.
        largest: Largest number of ranks.
        exchange: T_exchange in s.

    Returns:
        The Axes.
    """
    ranks = np.unique(np.geomspace(2, largest, 80).astype(int))
    shared = [shared_seconds(host, quantum, n) for n in ranks]
    split = [best_split(host, quantum, n, exchange).seconds for n in ranks]
    with style():
        ax = axes_for(ax, figsize=(SINGLE_COLUMN, 2.6))
        ax.plot(ranks, host.seconds(ranks), color=COLOURS["host"], ls="--", lw=1.0, label="host on all ranks")
        ax.plot(ranks, quantum.seconds(ranks), color=COLOURS["core"], ls="--", lw=1.0, label="quantum call on all ranks")
        ax.plot(ranks, shared, color=INK, label="time-sharing")
        ax.plot(ranks, split, color=ACCENT, label="best split")
        ax.set(xscale="log", yscale="log", xlabel="ranks", ylabel="seconds per step")
        ax.grid(which="major", color=GUIDE, alpha=0.15, lw=0.5)
        ax.legend()
    return ax
