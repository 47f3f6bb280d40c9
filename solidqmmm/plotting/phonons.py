"""Figures of a defect's vibrations: frequencies by method, local density of states, a mode's arrows."""

from __future__ import annotations

import numpy as np
from matplotlib import patheffects
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from solidqmmm.physics.symmetry.irreps import degenerate_sets
from solidqmmm.physics.vibrations.localized_modes import CM1_PER_THZ, kinds_of
from solidqmmm.plotting.style import (
    ACCENT,
    COLOURS,
    GUIDE,
    INK,
    SINGLE_COLUMN,
    apart,
    axes_for,
    mixed,
    say,
    style,
)
from solidqmmm.plotting.vibration import mulliken, plot_mode
from solidqmmm.results.phonons import METHODS

__all__ = ["plot_frequency_ladder", "plot_local_dos", "plot_mode"]

NAMES = {method: method.replace("guyan", "Guyan") for method in METHODS}
EXACT = ("full", "dynamic", "infinite")  # in the order in which they are the reference of the others
LEVEL = {True: ACCENT, False: "#B8467C"}  # colour of the levels of exact and of other methods
BAND = mixed(COLOURS["host"], "white", 0.82)
LEVEL_WIDTH = 0.8  # of a method's column
SAME_LEVEL = 1e-3  # THz; nearer levels are one degenerate level
ROOM_FOR_ARROW = 11.0  # points between reference and level
LINE = 9.0  # points from line to line of a label
BROKEN = 0.68  # share of a broken axis that shows the bands
MOST_NAMED = 6  # modes outside the bands, those with most weight on the core
TRIANGLE = [(0.0, 0.7), (-0.8, 2.3), (0.8, 2.3), (0.0, 0.7)]  # above its point, pointing at it
HALO = [patheffects.withStroke(linewidth=2.0, foreground="white")]


def plot_frequency_ladder(result, ax=None, *, width=SINGLE_COLUMN):
    """The highest frequencies by each method as levels, beside the bulk's density of states on the same axis.

    A level of degeneracy d is d dashes, pale where it lies in the bulk's bands (shaded). The dashed line is the highest mode
    of the exact method ('full', else 'dynamic', else 'infinite') if that lies outside the bands. The numbers on it are the
    distances in 1/cm of every other method's highest frequency from it, with an arrow to the level where there is room for
    one. Local modes are named beside the bulk, the six with most weight on the core where there are more.

    Args:
        result: A DefectPhononsResult.
        ax: Axes to draw into; a new figure without them.
        width: Width of a new figure in inches.

    Returns:
        The Axes.
    """
    ladder = {method: list(result.ladder_THz[method]) for method in NAMES if method in result.ladder_THz}
    local = _named(result)
    with style():
        ax = axes_for(ax, figsize=(width, 2.8))
        if not any(ladder.values()):
            say(ax, "no frequencies of any method in this result")
            return ax
        ax.set_xticks(np.arange(len(ladder)) + LEVEL_WIDTH / 2, [NAMES[method] for method in ladder])
        ax.tick_params(axis="x", length=0)
        low = _frequency_limits(ax, ladder, local, result)
        ax.set_xlim(0, len(ladder) - 1 + LEVEL_WIDTH + 0.15)
        ax.set_ylabel("frequency (THz)" if low > -SAME_LEVEL else "frequency (THz), below 0 imaginary")
        ax.secondary_yaxis("right", functions=_WAVENUMBERS).set_ylabel("frequency (cm$^{-1}$)")
        if _points(ax, "width") / (len(ladder) + 2.5) < 36:  # of one column
            for label in ax.get_xticklabels():
                label.set(rotation=40, ha="right", rotation_mode="anchor")
        ax.figure.draw_without_rendering()  # labels need the size that the layout gives
        low = _frequency_limits(ax, ladder, local, result)
        left = _name_local_modes(ax, local, result)
        _say_how_many_more(ax, len(_local_levels(result)) - len(local))
        _bands(ax.axhspan, result)
        _bulk_column(ax, left, result)
        for column, (method, frequencies) in enumerate(ladder.items()):
            _levels(ax, column, frequencies, LEVEL[method in EXACT], result)
        _distances(ax, ladder, result)
    return ax


def _frequency_limits(ax, ladder, local, result) -> float:
    """Sets the limits of the frequencies, with room above the bands for the names of local modes; the lowest frequency."""
    shown = [0.0, result.bulk_band_top_THz, *(f for f, _ in local), *np.concatenate([*ladder.values()])]
    low, high = min(shown), max(shown)
    bottom, top = low - 0.04 * (high - low), high + 0.12 * (high - low)
    above = LINE * (sum(f > result.bulk_band_top_THz for f, _ in local) + 0.5) / _points(ax, "height")
    if above < 0.6:
        top = max(top, (result.bulk_band_top_THz - above * bottom) / (1 - above))
    ax.set_ylim(bottom, top)
    return low


_WAVENUMBERS = (lambda frequency: frequency * CM1_PER_THZ, lambda wavenumber: wavenumber / CM1_PER_THZ)


def _local_levels(result) -> list[tuple[float, str | None]]:
    """Frequency in THz and irrep of the modes outside the bands, each degenerate set once, descending."""
    return [(mode["frequency_THz"], mode.get("irrep")) for mode in _sets_outside(result)]


def _named(result) -> list[tuple[float, str | None]]:
    """Those of `_local_levels` that are named: the highest one, and those with most weight on the core."""
    sets = _sets_outside(result)
    order = sorted(range(len(sets)), key=lambda k: (k > 0, -(sets[k].get("core_weight") or 0.0), k))
    return [(sets[k]["frequency_THz"], sets[k].get("irrep")) for k in sorted(order[:MOST_NAMED])]


def _sets_outside(result) -> list[dict]:
    """The first mode of each degenerate set outside the bands."""
    sets, k = [], 0
    while k < len(result.modes):
        mode = result.modes[k]
        if mode["kind"] in ("local", "gap"):
            sets.append(mode)
        k += max(int(mode.get("degeneracy") or 1), 1)
    return sets


def _outside(frequency, result) -> bool:
    """Whether a frequency lies outside the bulk's bands."""
    bands = result.bulk_bands_THz if len(result.bulk_bands_THz) else [(0.0, result.bulk_band_top_THz)]
    return kinds_of([frequency], bands, tolerance=SAME_LEVEL) != ["band"]


def _bands(span, result):
    """The bulk's bands as a shade behind everything else; `span` is axhspan or axvspan."""
    for low, high in result.bulk_bands_THz:
        span(low, high, color=BAND, lw=0, zorder=0, gid="band")


def _bulk_column(ax, left, result):
    """Density of states of the bulk between x = `left` and 0."""
    ax.set_xlim(left=left)
    ax.set_xticks(
        [left / 2, *ax.get_xticks()], ["bulk", *(label.get_text() for label in ax.get_xticklabels())]
    )
    ax.get_xticklabels()[0].set(rotation=0, ha="center", rotation_mode="default")
    dos = result.bulk_dos_per_THz
    if dos is None or not np.any(dos > 0):
        return
    x = left + (-left - 0.45) * dos / dos.max()
    host = COLOURS["host"]
    ax.fill_betweenx(result.dos_frequency_THz, left, x, color=mixed(host, "white", 0.4), lw=0, zorder=1)
    edge = np.where(dos > 1e-3 * dos.max(), x, np.nan)
    ax.plot(edge, result.dos_frequency_THz, color=mixed(host, "black", 0.35), lw=0.8, zorder=2, gid="bulk")


def _levels(ax, column, frequencies, colour, result):
    """One method's levels; a degenerate one is several dashes."""
    for members in degenerate_sets(frequencies, SAME_LEVEL):
        level, d = np.array(frequencies)[members], len(members)
        edges = column + LEVEL_WIDTH * np.arange(d + 1) / d
        tone = colour if _outside(level[0], result) else mixed(colour, "white", 0.55)
        ax.hlines(level, edges[:-1] + 0.045, edges[1:] - 0.045, color=tone, lw=1.4, zorder=4, gid="level")


def _distances(ax, ladder, result):
    """The line of the exact highest mode, and how far from it the other methods are."""
    exact = next((method for method in EXACT if ladder.get(method)), None)
    if exact is None or not _outside(ladder[exact][0], result):
        return
    reference = ladder[exact][0]
    right = ax.get_xlim()[1]
    ax.plot([0, right], [reference] * 2, color=GUIDE, lw=0.7, ls=(0, (4, 2)), zorder=1, gid="reference")
    numbers = []
    for column, (method, frequencies) in enumerate(ladder.items()):
        if method == exact or not frequencies:
            continue
        x, level, ink = column + LEVEL_WIDTH / 2, frequencies[0], mixed(LEVEL[method in EXACT], "black", 0.2)
        number = ax.annotate(
            _difference((level - reference) * CM1_PER_THZ), (x, max(reference, level)), (0, 3),
            textcoords="offset points", ha="center", va="bottom", size=6.5, color=ink, gid="distance",
        )  # fmt: skip
        numbers.append(number)
        if _points(ax, "height") * (reference - level) / np.diff(ax.get_ylim())[0] > ROOM_FOR_ARROW:
            look = {
                "arrowstyle": "-|>,head_length=0.3,head_width=0.13",
                "color": ink,
                "lw": 0.8,
                "shrinkA": 1,
                "shrinkB": 1,
            }
            ax.annotate("", (x, level), (x, reference), arrowprops=look, zorder=3, gid="arrow")
    widest = max([number.get_window_extent().width for number in numbers], default=0.0)
    column = ax.get_window_extent().width / np.diff(ax.get_xlim())[0]
    for number in numbers:
        number.set_size(6.5 * min(1.0, 0.9 * column / widest))
    if numbers:
        ax.set_title(
            f"numbers: distance from {NAMES[exact]} (cm$^{{-1}}$)", size=6.5, color=GUIDE, loc="right"
        )


def _difference(wavenumbers) -> str:
    if abs(wavenumbers) < 0.005:
        return "0"
    digits = 0 if abs(wavenumbers) >= 10 else 1 if abs(wavenumbers) >= 1 else 2
    return f"{wavenumbers:+.{digits}f}".replace("-", "−")


def _name_local_modes(ax, local, result) -> float:
    """Irrep and frequency of each local mode, left of the levels, where the bulk has no states; the left end of x."""
    (low, high), height, width = ax.get_ylim(), _points(ax, "height"), _points(ax, "width")
    to_points = height / (high - low)
    wanted = (np.array([f for f, _ in local]) - low) * to_points
    floor = max((result.bulk_band_top_THz - low) * to_points, 0.0) if len(wanted) else 0.0
    above = wanted > floor
    lines = 2 if above.all() and 2 * LINE * len(local) < height - floor else 1
    gap = lines * LINE + 1.0
    places = np.array(wanted)
    places[above] = apart(wanted[above], gap, floor + gap / 2, height - gap / 2)
    places[~above] = apart(wanted[~above], gap, gap / 2, floor - gap / 2)
    widest = 0.0
    for (frequency, irrep), at in zip(local, places):
        text = f"{mulliken(irrep)} {_signed(frequency, 3)} THz".strip()
        if lines == 2:
            text += f"\n{_signed(frequency * CM1_PER_THZ, 2)} cm$^{{-1}}$"
        name = ax.annotate(
            text, (0, frequency), (3 / width, at / height), xycoords="data", textcoords="axes fraction",
            ha="left", va="center", size=6.5, linespacing=1.1, color=INK, path_effects=HALO, zorder=6, gid="local mode",
            arrowprops={"arrowstyle": "-", "color": GUIDE, "lw": 0.6, "shrinkA": 1, "shrinkB": 0, "relpos": (1, 0.5)},
        )  # fmt: skip
        widest = max(widest, Text.get_window_extent(name).width * 72 / ax.figure.dpi)
    share = min(max((widest + 12) / width, 0.2), 0.6)
    return -ax.get_xlim()[1] * share / (1 - share)


def _say_how_many_more(ax, unnamed: int):
    """That not all modes outside the bands are named."""
    if unnamed:
        ax.set_title(f"and {unnamed} more", size=6.5, color=GUIDE, loc="left")


def _signed(value, digits) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def _points(ax, side) -> float:
    """Width or height of the axes in points."""
    return getattr(ax.get_window_extent(), side) * 72 / ax.figure.dpi


# --- local density of states ----------------------------------------------------------------------------------------


def plot_local_dos(result, ax=None, *, width=SINGLE_COLUMN):
    """Local densities of states of the defect's atom and of the core, in front of the bulk's; each is 3 per atom.

    Resonances are where a line rises above the bulk inside the bands (shaded); those that the result lists, of an infinite
    host, have a triangle. Where peaks of local modes are much higher, the axis is broken, with a coarser scale above.
    Local modes are marked by dotted lines; the six with most weight on the core are named. The title says how the local
    densities were computed.

    Args:
        result: A DefectPhononsResult.
        ax: Axes to draw into; a new figure without them.
        width: Width of a new figure in inches.

    Returns:
        The Axes.
    """
    frequency = result.dos_frequency_THz
    atom = "nearest atom" if result.defect.startswith("vacancy") else "defect's atom"
    lines = (
        ("bulk", result.bulk_dos_per_THz, mixed(COLOURS["host"], "black", 0.35), 0.8),
        (f"core ({result.n_core or len(result.core)} atoms)", result.local_dos_per_THz, COLOURS["core"], 1.1),
        (atom, result.defect_dos_per_THz, ACCENT, 1.1),
    )
    lines = [line for line in lines if line[1] is not None and len(line[1])]
    if len(lines) == 3 and np.allclose(lines[1][1], lines[2][1], rtol=0, atol=0.005 * lines[1][1].max()):
        lines[1:] = [(f"core, {atom}", *lines[2][1:])]  # one line would hide the other
    with style():
        ax = axes_for(ax, figsize=(width, 2.4))
        if not lines:
            say(ax, "no densities of states in this result")
            return ax
        _bands(ax.axvspan, result)
        for order, (name, dos, colour, lw) in enumerate(lines):
            if name == "bulk":
                ax.fill_between(frequency, 0, dos, color=mixed(COLOURS["host"], "white", 0.4), lw=0, zorder=1)
            ax.plot(frequency, dos, color=colour, lw=lw, label=name, zorder=2 + order)
        local = _local_levels(result)
        reach = max([1.15 * result.bulk_band_top_THz, *(1.06 * f for f, _ in local)])
        ax.set_xlim(min([0.0, *(1.04 * f for f, _ in local)]), reach)
        inside = np.array([not _outside(f, result) for f in frequency])
        _height(ax, np.array([dos for _, dos, *_ in lines]), inside)
        ax.set_xlabel("frequency (THz)")
        ax.set_ylabel("density of states (THz$^{-1}$)")
        ax.secondary_xaxis("top", functions=_WAVENUMBERS).set_xlabel("frequency (cm$^{-1}$)")
        if result.local_dos_half_width_THz is not None:
            said = f"{result.local_dos_method}, half width {result.local_dos_half_width_THz:.2g} THz"
            ax.set_title(said, size=6.5, color=GUIDE, loc="right")
        ax.figure.draw_without_rendering()  # names and legend make way for one another
        _mark_resonances(ax, result)
        for level, _ in local:
            ax.axvline(level, color=GUIDE, lw=0.7, ls=":", zorder=1.5, gid="local mode")
        boxes = _name_in_rows(ax, _named(result))
        _raise_ceiling(ax, boxes, max(dos.max() for _, dos, *_ in lines))
        _legend_beside(ax, boxes)
    return ax


def _mark_resonances(ax, result):
    """A triangle above each peak of the defect's density that is a resonance."""
    nu = [peak["frequency_THz"] for peak in result.resonances]
    if nu and result.defect_dos_per_THz is not None:
        height = np.interp(nu, result.dos_frequency_THz, result.defect_dos_per_THz)
        ax.scatter(nu, height, s=70, marker=TRIANGLE, color=ACCENT, lw=0, label="resonance", zorder=6, gid="resonance")


def _name_in_rows(ax, local) -> list:
    """The names of local modes beside their lines, in the highest row that has room; boxes in pixels."""
    rows, boxes = [], []
    for level, irrep in local:
        right = level > sum(ax.get_xlim()) / 2
        name = ax.annotate(
            f"{mulliken(irrep)} {_signed(level, 3)} THz".strip(), (level, 0.985), (-3 if right else 3, 0),
            xycoords=("data", "axes fraction"), textcoords="offset points", ha="right" if right else "left",
            va="top", size=7, color=INK, path_effects=HALO, zorder=6, gid="local mode",
        )  # fmt: skip
        box = name.get_window_extent()
        row = next(
            (k for k, ends in enumerate(rows) if all(box.x1 < x0 or x1 < box.x0 for x0, x1 in ends)),
            len(rows),
        )
        rows[row:] = [[*(rows[row] if row < len(rows) else []), (box.x0 - 4, box.x1 + 4)], *rows[row + 1 :]]
        name.xyann = (name.xyann[0], -LINE * row)
        boxes.append(name.get_window_extent())
    return boxes


def _raise_ceiling(ax, boxes, highest):
    """Makes room for the rows of names above the highest peak, up to a third of the axes."""
    if not boxes or not highest > 0:
        return
    frame = ax.get_window_extent()
    rows = min((frame.y1 - min(box.y0 for box in boxes)) / frame.height + 0.02, 0.33)
    scale = ax.yaxis.get_transform()
    wanted = scale.inverted().transform(scale.transform(np.array([highest])) / (1 - rows))[0]
    ax.set_ylim(top=max(ax.get_ylim()[1], float(wanted)))


def _legend_beside(ax, boxes):
    """The legend where it covers no name, and of such places the one where it covers least of the lines."""
    legend = ax.legend(loc="upper left")
    points = [
        ax.transData.transform(line.get_xydata()) for line in ax.lines if not line.get_label().startswith("_")
    ]

    def covered(loc):
        legend.set_loc(loc)
        box = legend.get_window_extent()
        return sum(map(box.overlaps, boxes)), sum(box.count_contains(some) for some in points)

    legend.set_loc(
        min(
            ("upper left", "upper center", "upper right", "center left", "center", "center right"),
            key=covered,
        )
    )


def _height(ax, densities, inside):
    """A linear axis for what is in the bands; above it, where peaks go far beyond, a coarser one after a break."""
    highest = float(densities.max())
    seam = 1.12 * float(densities[:, inside].max()) if inside.any() else highest
    if not highest > 0:
        ax.set_ylim(0, 1)
        return
    if highest < 1.6 * seam:
        ax.set_ylim(0, 1.3 * max(highest, seam / 1.12))
        return
    top = 1.08 * highest

    def forward(y):
        y = np.asarray(y, dtype=float)
        return np.where(y < seam, BROKEN * y / seam, BROKEN + (1 - BROKEN) * (y - seam) / (top - seam))

    def inverse(t):
        t = np.asarray(t, dtype=float)
        return np.where(t < BROKEN, t * seam / BROKEN, seam + (t - BROKEN) / (1 - BROKEN) * (top - seam))

    ax.set_yscale("function", functions=(forward, inverse))
    ax.set_ylim(0, top)
    below = [y for y in MaxNLocator(4).tick_values(0, seam) if 0 <= y < 0.96 * seam]
    above = [y for y in MaxNLocator(3).tick_values(0, top) if seam + 0.15 * (top - seam) < y <= top]
    ax.set_yticks([*below, *above])
    ax.axhline(seam, color="white", lw=2.5, zorder=5, gid="break")
    marks = {
        "marker": [(-1, -0.5), (1, 0.5)],
        "ms": 6,
        "ls": "none",
        "color": INK,
        "mew": 0.7,
        "clip_on": False,
    }
    for shift in (-0.009, 0.009):
        ax.plot([0], [BROKEN + shift], transform=ax.transAxes, zorder=6, **marks)
