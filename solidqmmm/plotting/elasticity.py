"""Figures of elastic constants: stress against strain with its fit, and the tensor with what a defect changes in it."""

from __future__ import annotations

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from solidqmmm.plotting.style import (
    DOUBLE_COLUMN,
    GUIDE,
    INK,
    SINGLE_COLUMN,
    apart,
    axes_for,
    mixed,
    say,
    style,
)

VOIGT = ("xx", "yy", "zz", "yz", "xz", "xy")
COMPONENT_COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
)  # Okabe and Ito's, by component
DRIVEN = 0.02  # of the largest change of stress under a strain; components that change less are left out
COINCIDENT = 0.01  # of the axis; lines nearer than this are drawn one inside the other
LINE_GAP = 9.0  # points between labels
UNITS = ((1.0, "GPa"), (1e-3, "MPa"), (1e-6, "kPa"), (1e-9, "Pa"))
SMALLEST_RESIDUAL = 1e-9  # GPa; what is smaller is rounding
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # ITU-R BT.709
ZERO = 0.01  # of the largest constant; a change of less than this has no percentage


def plot_stress_strain(result, ax=None, *, shapes=None, width=None):
    """Second Piola-Kirchhoff stress against strain, for each strain shape, and below it what the fit leaves over.

    Filled points and full lines are the stress with relaxed ions and its fit, open points and dashed lines the stress
    with the ions at the affine image of the reference and the tangent that `elastic_tensor_clamped_GPa` gives. The strain
    is the amplitude of the shape: Green-Lagrange components, shears as 2 E_yz. Components that change by less than 2 %
    of the one that changes most are left out.

    Args:
        result: An ElasticTensorResult.
        ax: Axes for the stresses, one for each shape, or twice as many: those for the stresses, then those for the
            residuals; a new figure without them.
        shapes: Numbers of the shapes to draw; all without them.
        width: Width of a new figure in inches; by default one column for up to two shapes and two columns for more.

    Returns:
        The Axes given, or the first of the new figure.

    Raises:
        ValueError: If the number of axes does not fit the shapes.
    """
    series = result.series
    shapes = range(len(series.shapes)) if shapes is None else list(np.atleast_1d(shapes))
    with style():
        if ax is not None:
            stress, residual = _given_axes(ax, len(shapes))
        elif len(shapes):
            stress, residual = _new_axes(len(shapes), width, series)
        else:
            ax = axes_for(None)
            say(ax, "no strain series in this result")
            return ax
        drawn = [
            _stress(panel, result, series, shape, residuals)
            for panel, residuals, shape in zip(stress, residual, shapes)
        ]
        if ax is None:
            stress[0].figure.legend(handles=_ions(series), loc="outside upper right", ncols=2)
        else:
            stress[0].legend(handles=_ions(series), loc="upper left")
        _label_residuals(residual)
        stress[0].figure.draw_without_rendering()  # the labels need the height that the layout gives
        for panel, ends in zip(stress, drawn):
            _label_ends(panel, ends)
        if ax is None:
            stress[0].figure.align_ylabels()
    return stress[0] if ax is None else ax


def _strain_unit(amplitudes):
    """What a strain is multiplied by, and the axis's label."""
    small = np.abs(amplitudes).max(initial=0.0) < 1e-3
    return (1e4, "strain ($10^{-4}$)") if small else (100.0, "strain (%)")


def _given_axes(ax, n):
    axes = list(np.ravel(ax))
    if len(axes) not in (n, 2 * n) or not n:
        raise ValueError(
            f"`ax` must hold {n} Axes (stresses) or {2 * n} (and residuals) for {n} strain shapes, got {len(axes)}: "
            f"give as many, or choose with `shapes`"
        )
    return axes[:n], axes[n:] or [None] * n


def _new_axes(n, width, series):
    """Pairs of panels (stress above residual), side by side, and in further rows where the width ends."""
    width = width or (SINGLE_COLUMN if n <= 2 else DOUBLE_COLUMN)
    rows = -(-n // max(1, round(width / 1.75)))
    columns = -(-n // rows)
    grid = axes_for(
        None,
        nrows=2 * rows,
        ncols=columns,
        figsize=(width, 0.35 + 2.45 * rows),
        sharex=True,
        sharey="row",
        squeeze=False,
        gridspec_kw={"height_ratios": (2.7, 1) * rows},
    )
    stress, residual = grid[::2].ravel(), grid[1::2].ravel()
    for panel in (*stress[n:], *residual[n:]):
        panel.remove()
    for k, panel in enumerate(residual[:n]):
        panel.tick_params(labelbottom=True)
        if k + columns >= n:
            panel.set_xlabel(_strain_unit(series.amplitudes)[1])
    for row in range(rows):
        stress[row * columns].set_ylabel("second Piola–Kirchhoff\nstress (GPa)")
    return stress[:n], residual[:n]


def _stress(ax, result, series, shape, residuals):
    """Draws one shape; where each line ends: strain, stress and component."""
    rows = np.flatnonzero(series.shape_of == shape)
    rows = rows[np.argsort(series.amplitudes[rows])]
    amplitudes, fitted = series.amplitudes[rows], series.fitted_GPa[rows]
    ax.set_title(_name(series.shapes[shape]), color=INK)
    unit, label = _strain_unit(series.amplitudes)
    if not ax.get_xlabel() and residuals is None:
        ax.set_xlabel(label)
    if not len(rows):
        return []
    for panel in (ax,) if residuals is None else (ax, residuals):
        ends = unit * np.unique([min(amplitudes[0], 0.0), 0.0, max(amplitudes[-1], 0.0)])
        panel.set_xticks(ends, [f"{end:.4g}".replace("-", "−") for end in ends])
        panel.set_xticks(unit * amplitudes, minor=True)
    fine = np.linspace(min(amplitudes[0], 0.0), max(amplitudes[-1], 0.0), 61)
    lines = _fit(amplitudes, fitted, fine, result.fit_order, series.reference_stress_GPa)
    change = np.abs(lines - series.reference_stress_GPa).max(axis=0)
    driven = np.flatnonzero(change >= DRIVEN * change.max()) if change.max() > 0 else np.arange(0)
    tangent = series.reference_stress_GPa + np.outer(
        fine, result.elastic_tensor_clamped_GPa @ series.shapes[shape]
    )
    width, left = _widths(lines[:, driven]), series.stress_GPa[rows] - fitted
    thin = _widths(left[:, driven])
    for k, component in enumerate(driven):
        colour, name = COMPONENT_COLOURS[component], f"S_{VOIGT[component]}"
        clamped = series.stress_clamped_GPa[rows, component]
        if np.isfinite(clamped).any():
            pale = mixed(colour, "white", 0.25)
            ax.plot(
                unit * fine,
                tangent[:, component],
                "--",
                color=pale,
                lw=0.7,
                zorder=2,
                label=f"{name} clamped tangent",
            )
            ax.plot(
                unit * amplitudes, clamped, "o", mfc="none", mec=pale, mew=0.7, ms=5.4, zorder=3,
                label=f"{name} clamped",
            )  # fmt: skip
        ax.plot(
            unit * fine, lines[:, component], "-", color=colour, lw=width[k], zorder=4, label=f"{name} fit"
        )
        points = series.stress_GPa[rows, component]
        ms = 2.1 + 1.2 * width[k]
        ax.plot(unit * amplitudes, points, "o", color=colour, ms=ms, mew=0, zorder=5, label=name)
        if residuals is not None:
            look = {"color": colour, "lw": 0.6 * thin[k], "ms": 1.7 + thin[k], "mew": 0}
            residuals.plot(unit * amplitudes, left[:, component], "o-", label=name, **look)
    return [(unit * fine[-1], lines[-1, component], component) for component in driven]


def _fit(amplitudes, fitted, at, order, reference):
    """The fit between its rows: the polynomial through them, and through the reference where they alone do not fix it."""
    if len(amplitudes) <= order:
        amplitudes, fitted = np.append(0.0, amplitudes), np.vstack([reference, fitted])
    scale = np.abs(amplitudes).max()
    powers = np.polynomial.polynomial.polyfit(amplitudes / scale, fitted, order)
    return np.polynomial.polynomial.polyval(at / scale, powers).T


def _widths(lines) -> np.ndarray:
    """Widths of lines so that one that a later one covers shows at both its sides, lines of shape (x, k)."""
    reach = max(np.ptp(lines), 1e-300)
    covered = [
        sum(
            np.abs(lines[:, k] - lines[:, later]).max() < COINCIDENT * reach
            for later in range(k + 1, lines.shape[1])
        )
        for k in range(lines.shape[1])
    ]
    return 1.1 + 1.2 * np.array(covered, dtype=float)


def _name(shape) -> str:
    """A strain shape in words: its components, with factors other than one."""
    words = []
    for component in np.flatnonzero(shape):
        factor = shape[component]
        size = "" if np.isclose(abs(factor), 1) else f"{abs(factor):.3g} "
        sign = "−" if factor < 0 else "+" if words else ""
        words.append(f"{sign}{' ' * bool(words and sign)}{size}{VOIGT[component]}")
    return " ".join(words)


def _ions(series):
    """What filled and open points stand for."""
    relaxed = Line2D([], [], color=INK, marker="o", ms=3.3, mew=0, lw=1.1, label="relaxed ions")
    clamped = Line2D(
        [], [], color=GUIDE, marker="o", mfc="none", ms=5.4, mew=0.7, lw=0.7, ls="--", label="clamped ions"
    )
    return [relaxed, clamped] if np.isfinite(series.stress_clamped_GPa).any() else [relaxed]


def _label_residuals(axes):
    """One unit for all residuals, in which the largest one is at least one half."""
    axes = [ax for ax in axes if ax is not None]
    shown = [0.0, *(value for ax in axes for line in ax.lines for value in line.get_ydata())]
    low, high = min(shown), max(shown)
    largest = max(-low, high, SMALLEST_RESIDUAL)
    size, unit = next((size, unit) for size, unit in UNITS if largest >= 0.5 * size)
    for ax in axes:
        for line in ax.lines:
            line.set_ydata(line.get_ydata() / size)
        ax.axhline(0, color=GUIDE, lw=0.7, zorder=1)
        ax.set_ylim(min(low, -0.3 * largest) * 1.2 / size, max(high, 0.3 * largest) * 1.2 / size)
        ax.yaxis.set_major_locator(MaxNLocator(3))
        if ax.get_subplotspec() is None or ax.get_subplotspec().is_first_col():
            ax.set_ylabel(f"point − fit\n({unit})")


def _label_ends(ax, ends):
    """The components at the ends of their lines, moved apart where they would overlap."""
    if not ends:
        return
    low, high = ax.get_ylim()
    height = ax.get_window_extent().height * 72 / ax.figure.dpi
    wanted = (np.array([y for _, y, _ in ends]) - low) / (high - low) * height
    place = apart(wanted, LINE_GAP, 0, height)
    for (x, y, component), at in zip(ends, place):
        ink = mixed(COMPONENT_COLOURS[component], "black", 0.25)
        ax.annotate(
            f"$S_{{{VOIGT[component]}}}$",
            (x, y),
            (1.02, at / height),
            textcoords="axes fraction",
            color=ink,
            va="center",
            arrowprops={"arrowstyle": "-", "color": ink, "lw": 0.5, "shrinkA": 1, "shrinkB": 3},
        )


# --- the tensor ---------------------------------------------------------------------------------------------


def plot_tensor_change(result, ax=None, *, width=DOUBLE_COLUMN):
    """The elastic constants as numbers on colours, and beside them what the defect changes in them.

    The upper triangle of C with its standard errors where the series tells them, and of the change C - C_perfect in GPa
    and in percent of the perfect crystal's; constants below 1 % of the largest there have no percentage.

    Args:
        result: An ElasticTensorResult.
        ax: Axes for C, or two, for C and for the change; a new figure without them.
        width: Width of a new figure in inches; the panels are one above the other where it is less than 5.

    Returns:
        The Axes given, or the first of the new figure.
    """
    C, perfect, error = (
        result.elastic_tensor_GPa,
        result.elastic_tensor_perfect_GPa,
        result.elastic_tensor_stderr_GPa,
    )
    with style():
        axes = _tensor_axes(perfect is not None, width) if ax is None else np.ravel(ax)
        known = error[np.isfinite(error) & (error > 0)]
        digits = int(np.clip(np.ceil(-np.log10(known.max())), 1, 2)) if known.size else 2
        spread = [
            ["" if float(f"{e:.{digits}f}") == 0 else f"±{e:.{digits}f}" for e in row]
            for row in np.nan_to_num(error)
        ]
        _matrix(
            axes[0],
            C,
            [[_rounded(c, digits) for c in row] for row in C],
            spread,
            "YlGnBu",
            (0, 1.25 * C.max()),
        )
        axes[0].set_title("elastic tensor (GPa)", color=INK)
        if len(axes) > 1 and perfect is None:
            say(axes[1], "no perfect crystal in this result")
        elif len(axes) > 1:
            change = C - perfect
            known = np.abs(perfect) >= ZERO * np.abs(perfect).max()
            percent = 100 * np.divide(change, perfect, out=np.full((6, 6), np.nan), where=known)
            numbers, below = (
                [[_rounded(x, _digits(some), "+") for x in row] for row in some] for some in (change, percent)
            )
            below = [[f"{text} %" if text not in ("", "0") else "" for text in row] for row in below]
            reach = max(1.25 * np.abs(change).max(), 1e-9)
            _matrix(axes[1], change, numbers, below, "RdBu", (-reach, reach))
            axes[1].set_title("change by the defect (GPa)", color=INK)
    return axes[0] if ax is None else ax


def _tensor_axes(with_change, width):
    if not with_change:
        width = min(width, SINGLE_COLUMN)
        return [axes_for(None, figsize=(width, 1.07 * width))]
    shape = (1, 2) if width >= 5 else (2, 1)
    size = width / shape[1]
    return axes_for(None, nrows=shape[0], ncols=shape[1], figsize=(width, 1.07 * shape[0] * size)).ravel()


def _matrix(ax, values, numbers, small, colours, limits):
    """Upper triangle of a 6 x 6 tensor: two lines of text on the colour of each value."""
    upper = np.triu(np.ones((6, 6), dtype=bool))
    image = ax.imshow(np.where(upper, values, np.nan), cmap=colours, vmin=limits[0], vmax=limits[1])
    centred = {"ha": "center", "va": "center"}
    for i, j in np.argwhere(upper):
        ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fc="none", ec="white", lw=1.2))
        ink = INK if image.cmap(image.norm(values[i, j]))[:3] @ LUMINANCE > 0.45 else "white"
        raised = 0.15 if small[i][j] else 0.0
        ax.text(j, i - raised, numbers[i][j], size=7, color=GUIDE if numbers[i][j] == "0" else ink, **centred)
        if small[i][j]:
            ax.text(j, i + 0.21, small[i][j], size=6, color=ink, **centred)
    ax.set_xticks(range(6), VOIGT)
    ax.set_yticks(range(6), VOIGT)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _digits(values) -> int:
    """Decimals that give the largest of some values two digits, at least one."""
    largest = np.nanmax(np.abs(values))
    return max(1, 1 - int(np.floor(np.log10(largest)))) if largest > 0 else 1


def _rounded(value, digits, sign="") -> str:
    """A number with a true minus sign; '0' for what rounds to zero, and nothing for NaN."""
    if np.isnan(value):
        return ""
    text = f"{value:{sign}.{digits}f}"
    return text.replace("-", "−") if float(text) else "0"
