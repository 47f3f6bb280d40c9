"""Figures of a crack: its tip against time or load, the atoms around it, maps of stress and temperature, the energy
ledger.
"""

from __future__ import annotations

import numpy as np
from ase.data import covalent_radii
from matplotlib.collections import EllipseCollection

from solidqmmm.plotting.style import (
    ACCENT,
    COLOURS,
    DOUBLE_COLUMN,
    FAIL,
    GUIDE,
    INK,
    PASS,
    ROLES,
    SINGLE_COLUMN,
    axes_for,
    mixed,
    say,
    style,
)  # fmt: skip

_LEDGER = {
    "load_work": ("work of the load", ACCENT),
    "correction_work": ("work of the correction", COLOURS["core"]),
    "thermostat_out": ("taken by the thermostat", PASS),
    "kinetic_change": ("kinetic", COLOURS["buffer"]),
    "host_potential_change": ("potential of the host", COLOURS["host"]),
    "unaccounted": ("unaccounted for", FAIL),
}


def plot_tip(*results, labels=None, ax=None):
    """The way of the tip against time, with the load; or against the load, for quasi-static results.

    Args:
        *results: FractureResults of one mode, each a line.
        labels: Their names; by default the engine, or 'host alone'.
        ax: Axes to draw into; a new figure without them.

    Returns:
        The Axes.
    """
    quasistatic = results[0].mode == "quasistatic"
    if labels is None:
        labels = [result.engine or "host alone" for result in results]
    colours = [COLOURS["core"] if result.engine else COLOURS["frozen"] for result in results]
    if len(set(colours)) < len(colours):
        colours = [ACCENT, COLOURS["core"], PASS, COLOURS["frozen"], COLOURS["buffer"]]
    with style():
        if ax is None:
            ax = axes_for(None, figsize=(SINGLE_COLUMN, 2.6), layout="constrained")
        start = min((row["x_A"] for result in results for row in result.tip[:1] if row["x_A"] is not None), default=0.0)
        for result, label, colour in zip(results, labels, colours):
            rows = [row for row in result.tip if row["x_A"] is not None]
            if quasistatic:
                across = [row["K_MPa_sqrt_m"] / result.K_griffith_MPa_sqrt_m for row in rows]
            else:
                across = [row["time_ps"] for row in rows]
            ax.plot(across, [row["x_A"] - start for row in rows], color=colour, lw=1.2, label=label,
                    marker="o" if quasistatic else None, ms=3)  # fmt: skip
        ax.set_xlabel("K / K of Griffith" if quasistatic else "time (ps)")
        ax.set_ylabel("way of the tip (Å)")
        if quasistatic:
            for result, colour in zip(results, colours):
                for load in (result.K_minus_MPa_sqrt_m, result.K_plus_MPa_sqrt_m):
                    if load is not None:
                        ax.axvline(load / result.K_griffith_MPa_sqrt_m, color=colour, lw=0.7, ls="--")
        else:
            _load_beside(ax, results[0])
        if len(results) > 1 or labels[0] != "host alone":
            ax.legend(loc="upper left")
    return ax


def _load_beside(ax, result):
    """The load on an axis of its own, dotted, where it changes."""
    loads = np.array([row.get("G_J_per_m2", np.nan) for row in result.tip], dtype=float)
    if not len(loads) or np.ptp(loads) < 1e-6:
        if len(loads):
            ax.set_title(f"G = {loads[0]:.2f} J/m² ({loads[0] / result.G_griffith_J_per_m2:.2f} Griffith)", fontsize=8)
        return
    other = ax.twinx()
    other.plot([row["time_ps"] for row in result.tip], loads, color=GUIDE, lw=0.9, ls=":")
    other.axhline(result.G_griffith_J_per_m2, color=GUIDE, lw=0.5)
    other.set_ylabel("G (J/m², dotted; line: Griffith)", color=GUIDE)
    other.spines["right"].set_visible(True)


def plot_snapshots(result):
    """The atoms around the tip at some times, coloured by region, seen along the front.

    Args:
        result: A FractureResult with snapshots.

    Returns:
        The Figure.
    """
    import matplotlib.pyplot as plt

    shots = result.snapshots[-4:] if len(result.snapshots) > 4 else result.snapshots
    with style():
        height = DOUBLE_COLUMN / len(shots) + 0.45
        figure, axes = plt.subplots(1, len(shots), figsize=(DOUBLE_COLUMN, height), layout="constrained", squeeze=False)
        origin = shots[0]["tip_A"]
        for ax, shot in zip(axes[0], shots):
            order = np.argsort(shot["z_A"], kind="stable")
            x, y = (np.array(shot[name])[order] - origin[k] for k, name in enumerate(("x_A", "y_A")))
            region, size = np.array(shot["region"])[order], 1.15 * covalent_radii[np.array(shot["number"])[order]]
            palette = {role: mixed(COLOURS[role], "white", 0.35 if role == "host" else 0.05) for role in ROLES}
            colours = [palette[role] for role in region]
            atoms = EllipseCollection(
                size, size, np.zeros(len(size)), units="x", offsets=np.column_stack([x, y]), offset_transform=ax.transData,
                facecolors=colours, edgecolors=[mixed(colour, INK, 0.45) for colour in colours], linewidths=0.25,
            )  # fmt: skip
            ax.add_collection(atoms)
            tip = np.array(shot["tip_A"]) - origin
            ax.plot(*tip, marker="+", color=ACCENT, ms=8, mew=1.3, ls="none", zorder=4)
            ax.set(xlim=(tip[0] - 22, tip[0] + 22), ylim=(tip[1] - 22, tip[1] + 22), aspect="equal")
            ax.set_xlabel("x (Å)")
            load = shot.get("time_ps")
            ax.set_title(f"{load:.2f} ps" if load is not None else f"K = {shot['K_MPa_sqrt_m']:.3f} MPa√m", fontsize=8)
        axes[0, 0].set_ylabel("y (Å)")
        present = [role for role in ROLES if any(role in shot["region"] for shot in shots)]
        if len(present) > 1:
            dots = [plt.Line2D([], [], marker="o", ls="none", color=COLOURS[role], ms=5, label=role) for role in present]
            figure.legend(handles=dots, loc="outside lower center", ncols=len(dots))
    return figure


def plot_maps(result):
    """Mean opening stress and temperature over the crystal, in the second half of the run.

    Args:
        result: A FractureResult with maps.

    Returns:
        The Figure.
    """
    import matplotlib.pyplot as plt

    maps = result.maps
    x, y = np.array(maps["x_A"]), np.array(maps["y_A"])
    shear = result.crack["mode"] == "II"
    name, label = ("stress_xy_GPa", "σ$_{xy}$ (GPa)") if shear else ("stress_yy_GPa", "σ$_{yy}$ (GPa)")
    stress, T = (np.array(maps[key], dtype=float) for key in (name, "temperature_K"))
    with style():
        panel = (DOUBLE_COLUMN / 2 - 0.5) * min(1.4, np.ptp(y) / np.ptp(x))
        tall = np.ptp(y) / np.ptp(x) < 0.55
        shape = (2, 1) if tall else (1, 2)
        size = (DOUBLE_COLUMN, panel + 0.5)
        if tall:
            size = (SINGLE_COLUMN * 1.4, 2 * (SINGLE_COLUMN * 1.15 * np.ptp(y) / np.ptp(x) + 0.5))
        figure, axes = plt.subplots(*shape, figsize=size, layout="constrained", sharex=tall)
        largest = np.nanpercentile(np.abs(stress), 99)
        mean = result.mean_temperature_K or np.nanmean(T)
        for ax, grid, words, options in (
            (axes[0], stress, label, {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest}),
            (axes[1], T, "T (K)", {"cmap": "inferno", "vmin": 0.0, "vmax": 2.0 * mean}),
        ):
            image = ax.pcolormesh(x - x[0], y - y[0], grid, shading="nearest", rasterized=True, **options)
            figure.colorbar(image, ax=ax, label=words, shrink=0.9)
            ax.set(aspect="equal", ylabel="y (Å)")
            if not tall or ax is axes[1]:
                ax.set_xlabel("x (Å)")
    return figure


def plot_temperature_profile(result, ax=None):
    """Temperature against the distance from the tip, with standard errors.

    Args:
        result: A FractureResult with a profile.
        ax: Axes to draw into; a new figure without them.

    Returns:
        The Axes.
    """
    rows = result.temperature_profile
    with style():
        if ax is None:
            ax = axes_for(None, figsize=(SINGLE_COLUMN, 2.4), layout="constrained")
        errors = [0.0 if row["stderr_K"] is None else row["stderr_K"] for row in rows]
        ax.errorbar(
            [row["distance_A"] for row in rows], [row["T_K"] for row in rows], errors, color=ACCENT, lw=0.8, marker="o",
            ms=3, capsize=2,
        )  # fmt: skip
        ax.set(xlabel="distance from the tip (Å)", ylabel="temperature (K)")
        ax.set_ylim(bottom=0)
    return ax


def plot_ledger(result, ax=None):
    """Where the energy goes, against time.

    Args:
        result: A FractureResult of a dynamic run.
        ax: Axes to draw into; a new figure without them.

    Returns:
        The Axes.
    """
    rows = result.energy_ledger_in_time
    with style():
        if ax is None:
            ax = axes_for(None, figsize=(SINGLE_COLUMN, 2.8), layout="constrained")
        if not rows:
            say(ax, "no row of the energy ledger was taken")
            return ax
        time = [row["time_ps"] for row in rows]
        for name, (label, colour) in _LEDGER.items():
            if name in rows[-1] and any(abs(row[name]) > 0 for row in rows):
                ax.plot(time, [row[name] for row in rows], color=colour, lw=1.0, label=label)
        ax.set(xlabel="time (ps)", ylabel="energy since the start (eV)")
        ax.figure.legend(loc="outside lower center", ncols=2)
    return ax
