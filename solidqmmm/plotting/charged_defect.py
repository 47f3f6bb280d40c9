"""Figures of charged defects: energy against the size of the cell, and E_inf by every route."""

from __future__ import annotations

import numpy as np
from matplotlib.ticker import MaxNLocator

from solidqmmm.plotting.style import ACCENT, DOUBLE_COLUMN, GUIDE, INK, SINGLE_COLUMN, axes_for, mixed, style

MOTT_LITTLETON = "Mott-Littleton"
# Okabe and Ito's, by route; others have the last.
ROUTE_COLOURS = {
    "extrapolation": ACCENT,
    "Makov-Payne, 1/L": "#D55E00",
    "Makov-Payne, 1/L and 1/L^3": "#E69F00",
    "Lany-Zunger": "#009E73",
    "FNV": "#CC79A7",
    "eFNV": "#8C5A9E",
    MOTT_LITTLETON: "#56B4E9",
}
OTHER_ROUTE = "#777777"
BAND = mixed(ACCENT, "white", 0.75)
PALE = mixed(INK, "white", 0.55)


def plot_size_series(result, ax=None, *, width=SINGLE_COLUMN):
    """Energy against 1/L with the chosen fit and its 95 % band, the energy with the Madelung term taken off, and E_inf.

    The curve is that of cells of the largest one's shape. Cells of another shape are off it by what their 1/V differs; a
    small bar shows where the fit has them. Triangles beside 1/L = 0 are the routes that count. Pale circles are the energies
    with the point charge's correction, the dashed line the fit without its term in 1/L: they would be level without terms
    of higher order. The square at 1/L = 0 is E_inf with two standard errors.

    Args:
        result: A ChargedDefectResult.
        ax: Axes to draw into; a new figure without them.
        width: Width of a new figure in inches.

    Returns:
        The Axes.
    """
    fit = result.fit
    points = [p for p in result.points if p["effective_length_A"] is not None]
    x = np.array([1 / p["effective_length_A"] for p in points])
    energies = np.array([p["energy_eV"] for p in points])
    corrected = energies + np.array([p["madelung_correction_eV"] for p in points])
    with style():
        ax = axes_for(ax, figsize=(width, 2.9))
        grid, curve = result.curve_inverse_length_per_A, result.curve_energy_eV
        if result.curve_stderr_eV is not None:
            half = result.band_factor * result.curve_stderr_eV
            ax.fill_between(grid, curve - half, curve + half, color=BAND, lw=0, zorder=1, label="95 % band", gid="band")
        ax.plot(grid, curve, "-", color=ACCENT, zorder=3, label=_typeset(fit["model"]), gid="fit")
        level = curve - (fit["A_eV_A"] or 0.0) * grid
        ax.plot(grid, level, "--", color=PALE, lw=0.9, zorder=2, gid="without 1/L")
        ax.plot(x, corrected, "o", mfc="white", mec=PALE, zorder=4, label="with Madelung correction")
        by_potentials = _by_cell(result, points)
        for name, values in by_potentials.items():
            colour = ROUTE_COLOURS.get(name, OTHER_ROUTE)
            ax.plot(x, values, "D", color=colour, mfc="white", ms=3.4, zorder=4, label=f"with {name}", gid="by cell")
        errors = [p["error_eV"] for p in points]
        if all(e is not None for e in errors):
            ax.errorbar(x, energies, yerr=errors, fmt="none", ecolor=INK, elinewidth=0.8, capsize=2, zorder=4)
        ax.plot(x, energies, "o", color=INK, zorder=5, label="computed", gid="points")
        fitted = np.array([p["fitted_eV"] for p in points])
        off = np.abs(fitted - np.interp(x, grid, curve)) > 1e-3 * np.ptp(curve)
        if off.any():
            ax.plot(x[off], fitted[off], "_", color=ACCENT, ms=8, mew=1.2, zorder=6, label="fit, other shapes")
        stderr = fit["E_inf_stderr_eV"]
        bar = {"yerr": 2 * stderr} if stderr is not None else {}
        ax.errorbar([0], [fit["E_inf_eV"]], fmt="s", color=ACCENT, capsize=2.5, zorder=7, clip_on=False, ms=5, **bar)
        ax.axhline(fit["E_inf_eV"], color=ACCENT, lw=0.6, ls=":", zorder=1)
        right = 1.08 * max(x.max(), 0.0)
        left = min(-0.045 * right, 1.2 * x.min())
        ax.set_xlim(left, right)
        for name, entry in result.routes.items():
            if entry["counted"] and name != "extrapolation":
                colour = ROUTE_COLOURS.get(name, OTHER_ROUTE)
                ax.plot([0.72 * left], [entry["E_inf_eV"]], ">", color=colour, ms=3.6, mew=0, zorder=8, gid="route")
        _energy_limits(ax, energies, [corrected, *by_potentials.values()], fit["E_inf_eV"])
        ax.set_xlabel("1/$L$ (Å$^{-1}$)")
        ax.set_ylabel("energy (eV)")
        _lengths_on_top(ax, points, x)
        ax.legend(loc="best")
        below = corrected.mean() >= fit["E_inf_eV"]
        ax.annotate(
            f"$E_\\infty$ = {_with_error(fit['E_inf_eV'], stderr)} eV",
            (right, fit["E_inf_eV"]),
            (-2, -3 if below else 3),
            textcoords="offset points",
            ha="right",
            va="top" if below else "bottom",
            color=ACCENT,
        )
    return ax


def plot_routes(result, ax=None, *, width=SINGLE_COLUMN):
    """E_inf by every route that exists, and by every model of the fit, on one scale.

    Filled: routes that count in the systematic spread (shaded); open: those that the series contradicts; small: models that
    were not chosen, grey where a coefficient of theirs is not resolved. Arrows point to what lies off the scale.

    Args:
        result: A ChargedDefectResult.
        ax: Axes to draw into; a new figure without them.
        width: Width of a new figure in inches.

    Returns:
        The Axes.
    """
    routes = {name: r for name, r in result.routes.items() if r["E_inf_eV"] is not None}
    models = [m for m in result.models if not m["chosen"]]
    with style():
        ax = axes_for(ax, figsize=(width, 0.75 + 0.2 * (len(routes) + len(models))))
        counted = [r["E_inf_eV"] for r in routes.values() if r["counted"]]
        stderr = result.fit["E_inf_stderr_eV"] or 0.0
        low, high = min(counted), max(counted)
        low, high = min(low, result.E_inf_eV - 2 * stderr), max(high, result.E_inf_eV + 2 * stderr)
        room = max(0.5 * (high - low), 1e-5)
        near = [m["E_inf_eV"] for m in models if low - 2 * room < m["E_inf_eV"] < high + 2 * room]
        low, high = min([low, *near]) - room, max([high, *near]) + room
        ax.set_xlim(low, high)
        if len(counted) > 1:
            ax.axvspan(min(counted), max(counted), color=BAND, lw=0, zorder=0, gid="spread")
        names, y = [], 0
        for name, entry in routes.items():
            colour = ROUTE_COLOURS.get(name, OTHER_ROUTE)
            bar = {"xerr": 2 * stderr} if name == "extrapolation" and stderr else {}
            face = colour if entry["counted"] else "white"
            _mark(ax, entry["E_inf_eV"], y, (low, high), fmt="s", color=colour, mfc=face, ms=5, capsize=2.5, **bar)
            names.append(name)
            y -= 1
        divider = y + 0.5
        for entry in models:
            colour = PALE if entry["unresolved"] else INK
            error = entry["E_inf_stderr_eV"]
            bar = {"xerr": 2 * error} if error is not None else {}
            _mark(ax, entry["E_inf_eV"], y, (low, high), fmt="o", color=colour, ms=3, elinewidth=0.7, **bar)
            names.append(entry["model"])
            y -= 1
        if models:
            ax.axhline(divider, color=GUIDE, lw=0.5)
        ax.set_yticks(range(0, y, -1), map(_typeset, names))
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(y + 0.4, 0.6)
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.ticklabel_format(axis="x", useOffset=False)
        ax.set_xlabel("$E_\\infty$ (eV)")
    return ax


def plot_charged_defect(result, *, width=DOUBLE_COLUMN):
    """Both panels side by side; returns the first Axes."""
    with style():
        rows = sum(r["E_inf_eV"] is not None for r in result.routes.values()) + len(result.models) - 1
        height = max(2.9, 0.9 + 0.19 * rows)
        axes = axes_for(None, ncols=2, figsize=(width, height), gridspec_kw={"width_ratios": (1.25, 1)})
        plot_size_series(result, axes[0])
        plot_routes(result, axes[1])
    return axes[0]


def plot_mott_littleton(result, ax=None, *, width=SINGLE_COLUMN):
    """Energy without cells against the radius of region I, beside E_inf of the extrapolated cells.

    Points are what was computed, the dashed line is the 1/R^3 through the last two, and the bar at ∞ is where it leads.
    The full line is the extrapolation of the cells with two standard errors.

    Args:
        result: A ChargedDefectResult with the route "Mott-Littleton".
        ax: Axes to draw into; a new figure without them.
        width: Width of a new figure in inches.

    Returns:
        The Axes.

    Raises:
        ValueError: For a result without that route.
    """
    entry = result.routes.get(MOTT_LITTLETON, {})
    if entry.get("E_inf_eV") is None:
        raise ValueError(f"the result has no route Mott-Littleton: {entry.get('reason') or 'it is not among its routes'}")
    radii, energies, limit = np.array(entry["inner_radii_A"]), np.array(entry["energies_eV"]), entry["extrapolated_eV"]
    colour, fit = ROUTE_COLOURS[MOTT_LITTLETON], result.fit
    with style():
        ax = axes_for(ax, figsize=(width, 2.6))
        end = 1.25 * radii[-1]
        half = 2 * (fit["E_inf_stderr_eV"] or 0.0)
        ax.axhspan(fit["E_inf_eV"] - half, fit["E_inf_eV"] + half, color=BAND, lw=0, zorder=1)
        ax.axhline(fit["E_inf_eV"], color=ACCENT, lw=1.0, zorder=2, label="cells, extrapolated")
        r = np.linspace(radii[-2], end, 60)
        curve = limit + (energies[-1] - limit) * (radii[-1] / r) ** 3
        ax.plot(r, curve, "--", color=colour, lw=0.9, zorder=3, label="1/$R^3$ through the last two")
        ax.plot([end], [limit], "_", color=colour, ms=9, mew=1.4, zorder=4, clip_on=False, gid="limit")
        ax.annotate("∞", (end, limit), (8, 0), textcoords="offset points", va="center", color=colour)
        ax.plot(radii, energies, "o", color=colour, zorder=5, label="Mott–Littleton", gid="radii")
        for R, E, n in zip(radii, energies, entry["inner_ions"], strict=True):
            ax.annotate(f"{n} ions", (R, E), (4, 4), textcoords="offset points", color=INK)
        shown = np.array([*energies, limit, fit["E_inf_eV"]])
        room = max(0.12 * np.ptp(shown), 1e-4)
        ax.set_ylim(shown.min() - room, shown.max() + 1.8 * room)
        ax.set_xlim(radii[0] - 0.08 * end, end)
        ax.ticklabel_format(axis="y", useOffset=False)
        ax.set_xlabel("radius of region I (Å)")
        ax.set_ylabel("energy (eV)")
        ax.legend(loc="best")
    return ax


def figures_of(result) -> dict:
    """The figures of a result by name."""
    figures = {"finite_size": plot_charged_defect(result)}
    if result.routes.get(MOTT_LITTLETON, {}).get("E_inf_eV") is not None:
        figures["mott_littleton"] = plot_mott_littleton(result)
    return figures


def _mark(ax, value, y, limits, *, xerr=0.0, **look):
    """A point with its error bar, or an arrow with the number at the edge it lies beyond."""
    low, high = limits
    if low <= value <= high:
        ax.errorbar([value], [y], xerr=[xerr] if xerr else None, zorder=3, **look)
        return
    at_left = value < low
    edge, side = (low, 1) if at_left else (high, -1)
    ax.annotate(
        f"{value:.3f}".replace("-", "−"),
        (edge, y),
        (side * 16, 0),
        textcoords="offset points",
        ha="left" if at_left else "right",
        va="center",
        color=look["color"],
        arrowprops={"arrowstyle": "->", "color": look["color"], "lw": 0.8, "shrinkB": 1},
    )


def _by_cell(result, points) -> dict[str, np.ndarray]:
    """E_inf by the potentials of each cell, by route; NaN where a cell has none."""
    found = {name: entry["by_cell"] for name, entry in result.routes.items() if entry.get("by_cell")}
    return {
        name: np.array([np.nan if given.get(p["label"]) is None else given[p["label"]] for p in points])
        for name, given in found.items()
    }


def _energy_limits(ax, energies, corrected, E_inf):
    """From the points and E_inf: bands of a few points may be far wider."""
    shown = np.concatenate([energies, *corrected, [E_inf]])
    shown = shown[np.isfinite(shown)]
    room = 0.08 * max(np.ptp(shown), 1e-6)
    above = 1.6 + 1.5 * (len(corrected) - 1)  # the number stands above E_inf, or below it; the legend has more lines
    ax.set_ylim(shown.min() - room, shown.max() + above * room)


def _lengths_on_top(ax, points, x):
    """The lengths of the cells on a second axis, those that would overlap left out."""
    top = ax.secondary_xaxis("top")
    low, high = ax.get_xlim()
    kept = []
    for value, point in sorted(zip(x, points), key=lambda pair: pair[0]):
        if not kept or value - kept[-1][0] > 0.07 * (high - low):
            kept.append((value, f"{point['effective_length_A']:.3g}".replace("-", "−")))
    kept = [k for k in kept if k[0] > 0.05 * (high - low)]
    top.set_xticks([0, *(value for value, _ in kept)], ["∞", *(text for _, text in kept)])
    top.set_xlabel("$L$ (Å)")


def _with_error(value: float, stderr: float | None) -> str:
    """A number to the digits that its error allows."""
    if stderr is None or stderr < 5e-5:
        return f"{value:.4f}".replace("-", "−")
    digits = int(np.clip(1 - np.floor(np.log10(stderr)), 2, 4))
    return f"{value:.{digits}f} ± {stderr:.{digits}f}".replace("-", "−")


def _typeset(name: str) -> str:
    return name.replace("^3", "³").replace("^5", "⁵")
