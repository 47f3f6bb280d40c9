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
    "crystal": ("energy of the crystal", COLOURS["frozen"]),
    "correction_work": ("work of the correction", COLOURS["core"]),
    "thermostat_out": ("taken by the thermostat", PASS),
    "unaccounted": ("unaccounted for", FAIL),
}
_NAMES = {
    "sw": "Stillinger-Weber", "tersoff": "Tersoff", "snap": "SNAP", "gpaw": "GPAW", "eam": "EAM", "eam/alloy": "EAM",
    "eam/fs": "EAM", "meam": "MEAM", "buck": "Buckingham",
}  # fmt: skip
_WORDS = {"host": "host", "frozen": "held", "core": "core", "buffer": "buffer"}
_HALF = 17.5  # angstrom; snapshots are discs of 25
_SMALLEST = 5.0  # angstrom: a tip that trembles by less is drawn as one that stays


def model_name(result) -> str:
    """'Stillinger-Weber alone', 'SNAP at the tip': who breaks the bonds of a FractureResult."""

    def short(words):
        first = [word for word in words.split() if word.lower() != "lammps"][:1]
        return _NAMES.get(first[0].lower(), first[0]) if first else words

    return f"{short(result.engine)} at the tip" if result.engine else f"{short(result.host) or 'host'} alone"


def plot_tip(*results, labels=None, ax=None):
    """The way of the tip against time, with the load; or against the load, for quasi-static results.

    Quasi-static: 0 is where the tip is at the load that the crack was opened with; K- and K+ are marked.

    Args:
        *results: FractureResults of one mode, each a line.
        labels: Their names; by default who breaks the bonds.
        ax: Axes to draw into; a new figure without them.

    Returns:
        The Axes.
    """
    quasistatic = results[0].mode == "quasistatic"
    labels = [model_name(result) for result in results] if labels is None else labels
    with style():
        ax = axes_for(ax, figsize=(SINGLE_COLUMN, 2.6), layout="constrained")
        for result, label, colour in zip(results, labels, _colours(results)):
            rows, way = _way(result)
            if quasistatic:
                across = [row["K_MPa_sqrt_m"] / result.K_griffith_MPa_sqrt_m for row in rows]
            else:
                across = [row["time_ps"] for row in rows]
            ax.plot(across, way, color=colour, lw=1.2, label=label, marker="o" if quasistatic else None, ms=2.5)
        ax.set_xlabel("$K$ / Griffith's $K$" if quasistatic else "time (ps)")
        ax.set_ylabel("way of the tip (Å)")
        _widened(ax)
        if quasistatic:
            ax.margins(x=0.2, y=0.12)
            for result, colour in zip(results, _colours(results)):
                _mark_trapping(ax, result, colour)
        else:
            _load_beside(ax, results[0])
        ax.legend(loc="lower right" if quasistatic else "best")
    return ax


def plot_tips_side_by_side(*results, labels=None):
    """Tips of runs of dynamics under the same load, each in a panel: its way, from where it runs, and the atoms around it.

    Against the load where that rises in all of them, else against time. Below, where snapshots of one time exist in all
    runs, the latest of these.

    Args:
        *results: FractureResults of dynamic runs.
        labels: Titles; by default who breaks the bonds.

    Returns:
        The Figure.
    """
    import matplotlib.pyplot as plt

    labels = [model_name(result) for result in results] if labels is None else labels
    rising = all(_rises(result) for result in results)
    shots = _snapshots_of_one_time(results)
    columns = max(2, len(results))
    width = DOUBLE_COLUMN * len(results) / columns
    with style():
        panel = DOUBLE_COLUMN / columns - 0.45
        figure, axes = plt.subplots(
            2 if shots else 1, len(results), squeeze=False, layout="constrained",
            figsize=(width, 2.6 + (panel + 0.65 if shots else 0.0)), height_ratios=(2.0, panel) if shots else None,
        )  # fmt: skip
        for ax, result, label, colour in zip(axes[0], results, labels, _colours(results)):
            rows, way = _way(result)
            ax.plot([row["G_J_per_m2" if rising else "time_ps"] for row in rows], way, color=colour, lw=1.3)
            ax.set_title(label)
            ax.set_xlabel("energy release rate $G$ (J/m²)" if rising else "time (ps)")
        low = min(ax.get_ylim()[0] for ax in axes[0])
        high = max(ax.get_ylim()[1] for ax in axes[0])
        across = [ax.get_xlim() for ax in axes[0]]
        left, right = min(limits[0] for limits in across), max(limits[1] for limits in across)
        for ax, result in zip(axes[0], results):
            ax.set(xlim=(left, right), ylim=(low, high))
            _widened(ax)
            _mark_critical(ax, result, rising)
        axes[0, 0].set_ylabel("way of the tip (Å)")
        if shots:
            for ax, shot in zip(axes[1], shots):
                _draw_atoms(ax, shot, shot["tip_A"])
                ax.set_xlabel("$x$ from the tip (Å)")
            axes[1, 0].set_ylabel("$y$ from the tip (Å)")
            row = min(results[0].tip, key=lambda row: abs(row["time_ps"] - shots[0]["time_ps"]))
            load = f", $G$ = {row['G_J_per_m2']:.1f} J/m²" if "G_J_per_m2" in row else ""
            axes[1, 0].set_title(f"at {shots[0]['time_ps']:.1f} ps{load}", loc="left", fontsize=8)
            _legend(figure, shots)
    return figure


def _colours(results) -> list:
    """One colour a line: that of quantum atoms for quantum tips, that of held ones for a host alone, where this tells."""
    colours = [COLOURS["core"] if result.engine else COLOURS["frozen"] for result in results]
    if len(set(colours)) < len(colours):
        several = [COLOURS["core"], ACCENT, PASS, COLOURS["frozen"], COLOURS["buffer"], FAIL]
        colours = [several[k % len(several)] for k in range(len(results))]
    return colours


def _way(result):
    """Rows with a tip, and how far it is from where it began, angstrom."""
    rows = [row for row in result.tip if row["x_A"] is not None]
    start = next((row["x_A"] for row in rows if row.get("branch", "start") == "start"), rows[0]["x_A"] if rows else 0.0)
    return rows, [row["x_A"] - start for row in rows]


def _widened(ax):
    """A y range of at least one bond or so, around what is shown."""
    low, high = ax.get_ylim()
    if high - low < _SMALLEST:
        middle = 0.5 * (low + high)
        ax.set_ylim(middle - _SMALLEST / 2, middle + _SMALLEST / 2)


def _mark_trapping(ax, result, colour):
    for load, name, side in (
        (result.K_minus_MPa_sqrt_m, "$K_-$", "right"),
        (result.K_plus_MPa_sqrt_m, "$K_+$", "left"),
    ):
        if load is not None:
            x = load / result.K_griffith_MPa_sqrt_m
            ax.axvline(x, color=colour, lw=0.8, ls="--", gid="trapping")
            ax.annotate(
                f"{name} {x:.3f}", (x, 1.0), xycoords=("data", "axes fraction"), xytext=(2 if side == "left" else -2, 0),
                textcoords="offset points", ha=side, va="top", fontsize=7, color=colour,
            )  # fmt: skip


def _mark_critical(ax, result, rising: bool):
    """Griffith's load, and from where the tip runs, or that it does not."""
    griffith = result.G_griffith_J_per_m2
    if rising and ax.get_xlim()[0] - 0.5 < griffith < ax.get_xlim()[1]:
        ax.axvline(griffith, color=GUIDE, lw=0.7, ls=":")
        ax.annotate(
            "Griffith", (griffith, 0.97), xycoords=("data", "axes fraction"), xytext=(3, 0), textcoords="offset points",
            fontsize=7, color=GUIDE, va="top",
        )  # fmt: skip
    start = result.critical_load
    if start is None:
        most = max((row.get("G_J_per_m2", np.nan) for row in result.tip), default=np.nan)
        words = f"does not run up to {most:.1f} J/m²" if np.isfinite(most) else "does not run"
        ax.text(0.97, 0.93, words, transform=ax.transAxes, ha="right", va="top", color=INK)
        return
    x = start["G_J_per_m2" if rising else "time_ps"]
    ax.axvline(x, color=FAIL, lw=1.0, ls="--", gid="critical")
    speed = "" if result.tip_speed_m_per_s is None else f",\n{result.tip_speed_m_per_s:.0f} m/s"
    ax.annotate(
        f"runs from {start['G_J_per_m2']:.1f} J/m²{speed}", (x, 0.1), xycoords=("data", "axes fraction"), xytext=(18, 0),
        textcoords="offset points", color=FAIL, va="bottom",
    )  # fmt: skip


def _rises(result) -> bool:
    loads = [row["G_J_per_m2"] for row in result.tip if "G_J_per_m2" in row]
    return len(loads) > 1 and loads[-1] - loads[0] > 1e-6 and bool((np.diff(loads) >= -1e-9).all())


def _snapshots_of_one_time(results) -> list:
    """The latest snapshots, one of each result, that are within a tenth of a picosecond of each other; or none."""
    for shot in reversed(results[0].snapshots):
        near = [
            min(result.snapshots, key=lambda other: abs(other["time_ps"] - shot["time_ps"]), default=None)
            for result in results
        ]
        if all(one is not None and abs(one["time_ps"] - shot["time_ps"]) < 0.1 for one in near):
            return near
    return []


def _load_beside(ax, result):
    """The load on an axis of its own, dotted, where it changes."""
    loads = np.array([row.get("G_J_per_m2", np.nan) for row in result.tip], dtype=float)
    if not len(loads) or np.ptp(loads) < 1e-6:
        if len(loads):
            ax.set_title(f"G = {loads[0]:.2f} J/m² ({loads[0] / result.G_griffith_J_per_m2:.2f} Griffith)", fontsize=8)
        return
    other = ax.twinx()
    other.plot([row["time_ps"] for row in result.tip], loads, color=GUIDE, lw=0.9, ls=":")
    other.set_ylabel("$G$ (J/m², dotted)", color=GUIDE)
    other.spines["right"].set_visible(True)
    ax.set_zorder(other.get_zorder() + 1)  # the legend in front of the dots
    ax.patch.set_visible(False)
    if result.critical_load is not None:
        ax.axvline(result.critical_load["time_ps"], color=FAIL, lw=0.8, ls="--", gid="critical")


def plot_snapshots(result):
    """The atoms around the tip at some times or loads, coloured by region, seen along the front.

    Args:
        result: A FractureResult with snapshots.

    Returns:
        The Figure.
    """
    import matplotlib.pyplot as plt

    shots = result.snapshots[-4:] if len(result.snapshots) > 4 else result.snapshots
    if "K_MPa_sqrt_m" in shots[0]:
        shots = sorted(shots, key=lambda shot: shot["K_MPa_sqrt_m"])
    columns = min(len(shots), 2) if len(shots) in (1, 2, 4) else len(shots)
    rows = -(-len(shots) // columns)
    with style():
        width = min(DOUBLE_COLUMN, SINGLE_COLUMN * columns)
        figure, axes = plt.subplots(
            rows, columns, figsize=(width, rows * (width / columns + 0.1) + 0.3), layout="constrained", squeeze=False
        )
        origin = result.snapshots[0]["tip_A"]
        for ax, shot in zip(axes.flat, shots):
            _draw_atoms(ax, shot, origin)
            time = shot.get("time_ps")
            ax.set_title(f"{time:.2f} ps" if time is not None else f"$K$ = {shot['K_MPa_sqrt_m']:.3f} MPa√m", fontsize=8)
        for ax in axes[-1]:
            ax.set_xlabel("$x$ (Å)")
        for ax in axes[:, 0]:
            ax.set_ylabel("$y$ (Å)")
        _legend(figure, shots)
    return figure


def _draw_atoms(ax, shot, origin, *, half: float | None = _HALF):
    """Atoms of a snapshot, coloured by region, the tip a cross; `half` the width shown around it."""
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
    ax.set(xlim=(tip[0] - half, tip[0] + half), ylim=(tip[1] - half, tip[1] + half), aspect="equal")


def _legend(figure, shots):
    from matplotlib.lines import Line2D

    present = [role for role in ROLES if any(role in shot["region"] for shot in shots)]
    dots = [Line2D([], [], marker="o", ls="none", color=COLOURS[role], ms=5, label=_WORDS[role]) for role in present]
    dots.append(Line2D([], [], marker="+", ls="none", color=ACCENT, ms=7, mew=1.3, label="tip"))
    figure.legend(handles=dots, loc="outside lower center", ncols=len(dots))


def plot_maps(result):
    """Mean opening stress and temperature over the crystal, in the second half of the time that was asked for.

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
            figure.colorbar(image, ax=ax, label=words, shrink=0.9, extend="both" if ax is axes[0] else "max")
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
        ax = axes_for(ax, figsize=(SINGLE_COLUMN, 2.4), layout="constrained")
        errors = [0.0 if row["stderr_K"] is None else row["stderr_K"] for row in rows]
        ax.errorbar(
            [row["distance_A"] for row in rows], [row["T_K"] for row in rows], errors, color=ACCENT, lw=0.8, marker="o",
            ms=3, capsize=2,
        )  # fmt: skip
        ax.set(xlabel="distance from the tip (Å)", ylabel="temperature (K)")
        ax.set_ylim(bottom=0)
    return ax


def plot_ledger(result, ax=None):
    """Where the energy goes, against time; kinetic and potential energy of the host as their sum.

    Args:
        result: A FractureResult of a dynamic run.
        ax: Axes to draw into; a new figure without them.

    Returns:
        The Axes.
    """
    rows = result.energy_ledger_in_time
    with style():
        ax = axes_for(ax, figsize=(SINGLE_COLUMN, 2.8), layout="constrained")
        if not rows:
            say(ax, "no row of the energy ledger was taken")
            return ax
        time = [row["time_ps"] for row in rows]
        rows = [{**row, "crystal": row["kinetic_change"] + row["host_potential_change"]} for row in rows]
        for name, (label, colour) in _LEDGER.items():
            if name in rows[-1] and any(abs(row[name]) > 0 for row in rows):
                ax.plot(time, [row[name] for row in rows], color=colour, lw=1.1, label=label)
        ax.set(xlabel="time (ps)", ylabel="energy since the start (eV)")
        ax.figure.legend(loc="outside lower center", ncols=2, columnspacing=1.2, handlelength=1.4)
    return ax
