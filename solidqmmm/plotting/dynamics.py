"""Figures of molecular dynamics: temperature and energies against time."""

from __future__ import annotations

import numpy as np

from solidqmmm.plotting.style import ACCENT, COLOURS, INK, SINGLE_COLUMN, axes_for, say, style


def plot_dynamics(result, ax=None):
    """Temperature against time, and below it the energies since the start.

    Where the forces have no energy, the integrated work stands in for the potential energy, under its own
    name; without either, the panel says why.

    Args:
        result: A DynamicsResult.
        ax: Two Axes, for temperature and energy, or one for the temperature alone; a new figure without them.

    Returns:
        The Axes, as an array of two or the one given.
    """
    time, unit = result.times_fs, "fs"
    if len(time) and time[-1] - time[0] >= 5000:
        time, unit = time / 1000, "ps"
    with style():
        ax = axes_for(ax, nrows=2, sharex=True, figsize=(SINGLE_COLUMN, 3.2))
        upper, *lower = np.atleast_1d(ax)
        upper.plot(time, result.temperature_K, color=COLOURS["core"], lw=1.0)
        upper.set_ylabel("temperature (K)")
        bottom = upper
        if lower:
            bottom = lower[0]
            _energies(bottom, time, result)
            upper.figure.align_ylabels([upper, bottom])
        bottom.set_xlabel(f"time ({unit})")
        bottom.margins(x=0.02)
    return ax


def _energies(ax, time, result):
    series = (
        ("potential", result.potential_energy_eV, ACCENT),
        ("total", result.total_energy_eV, INK),
        ("integrated work", result.integrated_work_eV, COLOURS["buffer"]),
    )
    shown = [(name, values, colour) for name, values, colour in series if values is not None and len(values)]
    for name, values, colour in shown:
        ax.plot(time, values - values[0], color=colour, lw=1.0, label=name)
    ax.set_ylabel("energy − first (eV)")
    if shown:
        # beside the lines' own panel, so that no line is hidden
        ax.legend(loc="lower right", bbox_to_anchor=(1.0, 0.98), ncols=len(shown))
    if result.energy_missing_reason and not shown:
        say(ax, result.energy_missing_reason)
