"""One look for all figures: the style sheet, and the colour that each role keeps from figure to figure."""

from __future__ import annotations

import textwrap
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from scipy.optimize import isotonic_regression

from solidqmmm.system.whole_file import written_whole

SINGLE_COLUMN = 3.4  # inches, as journals count
DOUBLE_COLUMN = 7.0

# The palette of M. Okabe and K. Ito (2008), told apart with every common form of colour blindness.
COLOURS = {
    "core": "#D55E00",
    "buffer": "#56B4E9",
    "host": "#9A9A9A",
    "frozen": "#4D4D4D",
    "cap": "#F7F2DF",
}
ROLES = ("core", "buffer", "host", "frozen")  # the order in legends, and from front to back
INK = "#262626"  # text and lines that belong to no role
GUIDE = "#6E6E6E"  # thresholds and guide lines
ACCENT = "#0072B2"
PASS, FAIL = "#009E73", "#B2182B"


@contextmanager
def style():
    """solidqmmm's style sheet for the figures made inside; the caller's settings are as before afterwards."""
    with mpl.rc_context(_sheet()):
        yield


@cache
def _sheet() -> dict:
    """The style sheet, its fonts cut down to those installed (matplotlib warns of every other one)."""
    path = Path(__file__).with_name("solidqmmm.mplstyle")
    settings = dict(mpl.rc_params_from_file(path, use_default_template=False))
    installed = {font.name for font in font_manager.fontManager.ttflist}
    settings["font.sans-serif"] = [name for name in settings["font.sans-serif"] if name in installed]
    return settings


def axes_for(ax, **figure):
    """The axes given, or those of a new figure (registered with pyplot, so that notebooks show it).

    Args:
        ax: Axes to draw into, or None.
        **figure: Arguments of `pyplot.subplots` for a new one.
    """
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(**figure)[1]


def save_figure(drawn, path, formats=("png", "pdf")) -> list[Path]:
    """Writes a figure in some formats, in the style it was made in, and closes it; each file is there whole or not at all.

    Args:
        drawn: A Figure, or Axes in it.
        path: The file without its ending; its folder is made.
        formats: Endings.

    Returns:
        The files.
    """
    import matplotlib.pyplot as plt

    figure = drawn.figure if isinstance(drawn, mpl.axes.Axes) else drawn
    path = Path(path)
    written = [path.with_name(f"{path.name}.{ending}") for ending in formats]
    with style():
        for file in written:
            with written_whole(file) as temporary:
                figure.savefig(temporary, format=file.suffix[1:])
    plt.close(figure)
    return written


def log_y(ax, *values):
    """A logarithmic y axis, unless nothing is positive (perfect results are zero)."""
    if any(np.any(np.asarray(some) > 0) for some in values):
        ax.set_yscale("log")


def mixed(colour, other, amount: float) -> np.ndarray:
    """`colour` with a share of `amount` (0 to 1) of `other` in it, as RGB fractions, shape=(3,)."""
    to_rgb = mpl.colors.to_rgb
    return (1 - amount) * np.array(to_rgb(colour)) + amount * np.array(to_rgb(other))


def apart(wanted, gap: float, low: float, high: float) -> np.ndarray:
    """The places between `low` and `high` nearest to those wanted (least squares) that keep `gap` from each other.

    They are in the order and the unit of `wanted`, shape=(n,). Where they do not all fit, the lowest is at `low`.
    """
    wanted = np.asarray(wanted, dtype=float)
    if not len(wanted):
        return wanted
    order = np.argsort(wanted, kind="stable")
    steps = gap * np.arange(len(wanted))
    nearest = isotonic_regression(wanted[order] - steps).x
    place = np.empty(len(wanted))
    place[order] = np.clip(nearest, low, max(high - gap * (len(wanted) - 1), low)) + steps
    return place


def say(ax, reason, width: int = 34):
    """Empty axes that say in words why nothing is in them."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    ax.set_xlabel("")
    ax.set_ylabel("")
    ax.text(
        0.5,
        0.5,
        textwrap.fill(reason, width),
        transform=ax.transAxes,
        ha="center",
        va="center",
        color=GUIDE,
        style="italic",
    )
