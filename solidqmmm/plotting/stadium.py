"""Figures of a stadium: where it damps, what it reflects, and the temperature that it keeps."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from solidqmmm.physics.heat.damped_chain import chain_reflection
from solidqmmm.physics.stadium import graded, wave_reflection
from solidqmmm.plotting.style import ACCENT, COLOURS, GUIDE, SINGLE_COLUMN, axes_for, say, style

DAMPING = LinearSegmentedColormap.from_list("damping", [COLOURS["buffer"], ACCENT, "#00274D"])
LOWEST = 1e-6  # of the reflected part, below which the axis ends
_PER_CURVE = 400


def plot_reflection(
    stadiums, ax=None, *, speed: float, spacing: float, range_THz=None, below: float = 0.01, measured=()
):
    """Reflected part of the energy of a wave against its frequency, by the chain of planes.

    Args:
        stadiums: Widths in angstrom and largest dampings in 1/ps by the name that the legend gives them,
            `{"40 A": (40.0, 15.0)}`; in place of a pair also the damping of each plane from the inside outwards.
        ax: Axes to draw into; a new figure without them.
        speed: Speed of sound in angstrom/ps.
        spacing: Distance of the planes in angstrom.
        range_THz: Frequencies that are to be absorbed; they are shaded.
        below: Largest reflection wanted, a line.
        measured: Points `(frequency in THz, reflection, name of the stadium)`.

    Returns:
        The Axes.
    """
    top = speed / (np.pi * spacing)
    frequencies = np.geomspace(0.02, 0.995, _PER_CURVE) * top
    with style():
        ax = axes_for(ax)
        colours = {}
        for name, stadium in stadiums.items():
            if isinstance(stadium, tuple):
                width, gamma_max = stadium
                R = wave_reflection(
                    frequencies, speed=speed, spacing=spacing, width=width, gamma_max=gamma_max
                )
            else:
                R = chain_reflection(stadium, 2 * np.pi * frequencies, k=(speed / spacing) ** 2)
            colours[name] = ax.plot(frequencies, R, label=name, lw=1.2)[0].get_color()
        for frequency, R, name in measured:
            ax.plot(
                frequency, R, "o", color=colours[name], mec="white", mew=0.5, ms=4.5, zorder=4, gid="measured"
            )
        if range_THz is not None:
            ax.axvspan(*range_THz, color=COLOURS["host"], alpha=0.18, lw=0, zorder=0)
        ax.axhline(below, color=GUIDE, lw=0.7, ls=":", zorder=1)
        ax.annotate(
            f"{100 * below:g} %", (0.0, below), (3, 2), xycoords=("axes fraction", "data"),
            textcoords="offset points", va="bottom", color=GUIDE, size=7,
        )  # fmt: skip
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlim(frequencies[0], top)
        ax.set_ylim(LOWEST, 1.5)
        ax.xaxis.set_major_formatter("{x:g}")
        ax.set_xlabel("frequency (THz)")
        ax.set_ylabel("reflected energy")
        ax.legend(loc="lower left")
    return ax


def plot_damping(positions, gammas, ax=None, *, axis: int = 0, levels: int | None = None):
    """Damping of atoms against one coordinate, with the levels that LAMMPS works with.

    Args:
        positions: In angstrom, shape=(n, 3).
        gammas: In 1/ps, shape=(n,).
        ax: Axes to draw into; a new figure without them.
        axis: The coordinate, 0 to 2.
        levels: Number of levels of `graded`; None draws none.

    Returns:
        The Axes.
    """
    x, gammas = np.asarray(positions)[:, axis], np.asarray(gammas, dtype=float)
    with style():
        ax = axes_for(ax, figsize=(SINGLE_COLUMN, 1.8))
        if not len(x):
            say(ax, "no atoms")
            return ax
        ax.plot(x, gammas, ".", color=ACCENT, ms=2.5, zorder=3, label="atoms")
        if levels is not None:
            labels, values = graded(gammas, levels)
            damped = labels >= 0
            name = f"{len(values)} level{'s' if len(values) > 1 else ''}"
            ax.plot(x[damped], values[labels[damped]], "_", color=COLOURS["core"], ms=6, mew=1.0, label=name)
            ax.legend(loc="center")
        ax.set_xlabel(f"{'xyz'[axis]} (Å)")
        ax.set_ylabel("damping (ps$^{-1}$)")
        ax.set_ylim(bottom=0)
    return ax


def draw_stadium(positions, gammas, ax=None, *, along: int = 2, tip=None, colorbar: bool = True):
    """The crystal seen along an axis, atoms coloured by their damping; those without any are grey.

    Args:
        positions: In angstrom, shape=(n, 3).
        gammas: In 1/ps, shape=(n,).
        ax: Axes to draw into; a new figure without them.
        along: The axis, 0 to 2.
        tip: A point to mark, in angstrom in the plane of the picture, shape=(2,).
        colorbar: Whether the scale of the damping is drawn.

    Returns:
        The Axes.
    """
    across = [axis for axis in range(3) if axis != along]
    x, gammas = np.asarray(positions)[:, across], np.asarray(gammas, dtype=float)
    with style():
        ax = axes_for(ax, figsize=(SINGLE_COLUMN, SINGLE_COLUMN))
        ax.set_aspect("equal")
        extent = np.ptp(x, axis=0).max() if len(x) else 1.0
        size = 40 * (30 / max(extent, 30.0)) ** 1.2
        free = gammas == 0
        ax.scatter(*x[free].T, s=size, color=COLOURS["host"], lw=0, rasterized=True, label="no damping")
        order = np.flatnonzero(~free)
        shown = ax.scatter(
            *x[order].T, s=size, c=gammas[order], cmap=DAMPING, vmin=0, vmax=max(gammas.max(), 1e-12), lw=0,
            rasterized=True,
        )  # fmt: skip
        if colorbar:
            ax.figure.colorbar(shown, ax=ax, label="damping (ps$^{-1}$)", shrink=0.7, aspect=25)
        if tip is not None:
            ax.plot(*tip, "x", color=COLOURS["core"], ms=6, mew=1.5)
        ax.set_xlabel(f"{'xyz'[across[0]]} (Å)")
        ax.set_ylabel(f"{'xyz'[across[1]]} (Å)")
    return ax


def plot_temperature_profile(
    rows, ax=None, *, temperature_K: float | None = None, label: str = "distance (Å)"
):
    """Temperature against distance, with one standard error.

    Args:
        rows: `{"distance_A", "T_K", "stderr_K"}` each (`physics.temperature_profile.mean_profile`).
        ax: Axes to draw into; a new figure without them.
        temperature_K: What was set, a line.
        label: Of the axis of distances.

    Returns:
        The Axes.
    """
    with style():
        ax = axes_for(ax, figsize=(SINGLE_COLUMN, 2.0))
        if not rows:
            say(ax, "no temperatures were gathered")
            return ax
        distance, T = ([row[key] for row in rows] for key in ("distance_A", "T_K"))
        errors = [np.nan if row["stderr_K"] is None else row["stderr_K"] for row in rows]
        ax.errorbar(distance, T, errors, fmt="o", color=COLOURS["core"], ms=3.5, lw=0.9, capsize=2)
        if temperature_K is not None:
            ax.axhline(temperature_K, color=GUIDE, lw=0.7, ls=":", zorder=0)
        ax.set_xlabel(label)
        ax.set_ylabel("temperature (K)")
    return ax
