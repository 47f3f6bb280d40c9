"""Young's modulus against direction: polar cuts with what a defect changes, and the surface."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np

from solidqmmm.physics.elasticity import young_modulus
from solidqmmm.plotting.style import ACCENT, COLOURS, DOUBLE_COLUMN, GUIDE, INK, SINGLE_COLUMN, style

# Planes by two perpendicular directions that span them; angles count from the first.
_CUBIC = {"(001)": ((1, 0, 0), (0, 1, 0)), "(1$\\bar{1}$0)": ((0, 0, 1), (1, 1, 0)), "(111)": ((1, -1, 0), (1, 1, -2))}
_GENERAL = {"xy": ((1, 0, 0), (0, 1, 0)), "xz": ((1, 0, 0), (0, 0, 1)), "yz": ((0, 1, 0), (0, 0, 1))}
_NAMED = {
    (1, 0, 0): "[100]", (0, 1, 0): "[010]", (0, 0, 1): "[001]", (1, 1, 0): "[110]", (1, -1, 0): "[1$\\bar{1}$0]",
    (1, 1, 1): "[111]", (1, 1, -2): "[11$\\bar{2}$]",
}  # fmt: skip


def plot_youngs_modulus(result, ax=None):
    """Three polar cuts of Young's modulus in GPa; below them, with a perfect crystal, its change by the defect in percent.

    Cuts are (001), (1-10) and (111) for crystals that are cubic without the defect, else the planes of the axes.

    Args:
        result: An ElasticTensorResult.
        ax: Three polar Axes (and no change is drawn), or None for a new figure.

    Returns:
        The first of the Axes.
    """
    perfect = result.elastic_tensor_perfect_GPa
    host = result.elastic_tensor_GPa if perfect is None else perfect
    cuts = _CUBIC if _is_cubic(host) else _GENERAL
    angle = np.linspace(0, 2 * np.pi, 361)
    with style():
        polar, change = (list(np.ravel(ax)), None) if ax is not None else _new_axes(perfect is not None)
        if len(polar) != 3:
            raise ValueError(f"`ax` must hold three polar Axes, got {len(polar)}")
        for k, (name, (u, v)) in enumerate(cuts.items()):
            n = np.outer(np.cos(angle), _unit(u)) + np.outer(np.sin(angle), _unit(v))
            E = young_modulus(result.elastic_tensor_GPa, n)
            panel = polar[k]
            if perfect is not None:
                E_perfect = young_modulus(perfect, n)
                panel.plot(angle, E_perfect, color=COLOURS["host"], lw=2.2, label="perfect crystal", zorder=2)
            label = result.defect or "crystal"
            panel.plot(angle, E, color=COLOURS["core"] if perfect is not None else ACCENT, lw=1.0, label=label, zorder=3)
            _dress(panel, name, u, v)
            if change is not None:
                change[k].plot(np.degrees(angle), 100 * (E / E_perfect - 1), color=COLOURS["core"], lw=1.2)
                _dress_change(change[k], u, v, first=k == 0)
        top = max(panel.get_ylim()[1] for panel in polar)
        for panel in polar:
            panel.set_ylim(0, top)
            panel.set_rlabel_position(247.5)
            panel.yaxis.set_major_locator(plt.MaxNLocator(3))
            panel.tick_params(axis="y", labelsize=6, labelcolor=GUIDE)
            for label in panel.get_yticklabels():
                label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.8})
        if ax is None:
            handles, labels = polar[0].get_legend_handles_labels()
            if len(labels) > 1:
                polar[0].figure.legend(handles, labels, loc="outside upper center", ncols=2)
    return polar[0]


def plot_youngs_modulus_surface(result, ax=None):
    """Young's modulus as a surface: its distance from the middle along each direction, in GPa.

    Args:
        result: An ElasticTensorResult.
        ax: 3D Axes, or None for a new figure.

    Returns:
        The Axes.
    """
    theta, phi = np.meshgrid(np.linspace(0, np.pi, 91), np.linspace(0, 2 * np.pi, 181), indexing="ij")
    n = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=-1)
    E = young_modulus(result.elastic_tensor_GPa, n.reshape(-1, 3)).reshape(theta.shape)
    with style():
        if ax is None:
            figure = plt.figure(figsize=(SINGLE_COLUMN, 3.0))
            ax = figure.add_subplot(projection="3d")
        low, high = E.min(), E.max()
        span = high - low if high - low > 1e-6 * high else high
        colours = plt.get_cmap("viridis")((E - low) / span)
        shade = 0.86 + 0.14 * np.clip(n @ _unit((0.4, -0.5, 0.77)), 0, 1)
        colours[..., :3] *= shade[..., None]
        points = E[..., None] * n
        look = {"rstride": 1, "cstride": 1, "shade": False, "antialiased": False}
        ax.plot_surface(*np.moveaxis(points, -1, 0), facecolors=colours, **look)
        for axis in "xyz":
            getattr(ax, f"set_{axis}lim")(-high, high)
        reach = 1.08 * high
        # The axes that come forward: y points to the back.
        for direction, name in zip(np.diag([1.0, -1.0, 1.0]), ("x", "−y", "z")):
            ax.plot(*np.transpose([0.0 * direction, reach * direction]), color=INK, lw=0.6, zorder=0)
            ax.text(*(1.22 * high * direction), name, ha="center", va="center", color=INK, size=8)
        ax.set_box_aspect((1, 1, 1), zoom=1.35)
        ax.view_init(elev=24, azim=-58)
        ax.set_axis_off()
        scale = plt.cm.ScalarMappable(plt.Normalize(low, low + span), "viridis")
        bar = ax.figure.colorbar(scale, ax=ax, shrink=0.62, aspect=18, pad=0.0)
        bar.set_label("Young's modulus (GPa)")
        bar.outline.set_visible(False)
    return ax


def _new_axes(with_change):
    figure = plt.figure(figsize=(DOUBLE_COLUMN, 4.4 if with_change else 2.7))
    rows = 2 if with_change else 1
    grid = figure.add_gridspec(rows, 3, height_ratios=(2.6, 1)[:rows])
    polar = [figure.add_subplot(grid[0, k], projection="polar") for k in range(3)]
    if not with_change:
        return polar, None
    first = figure.add_subplot(grid[1, 0])
    return polar, [first, *(figure.add_subplot(grid[1, k], sharey=first) for k in (1, 2))]


def _dress(panel, name, u, v):
    panel.set_title(name, pad=16, loc="center")
    marks = [(0.0, u), (np.pi / 2, v), (np.pi, tuple(-x for x in u)), (3 * np.pi / 2, tuple(-x for x in v))]
    diagonal = _between(u, v)
    if diagonal:
        marks.insert(1, diagonal)
    panel.set_xticks([angle for angle, _ in marks], [_NAMED.get(d, "") for _, d in marks])
    panel.tick_params(axis="x", pad=-1, labelsize=7)
    panel.grid(color="#DDDDDD", lw=0.5)
    panel.spines["polar"].set_visible(False)


def _between(u, v):
    """A named direction between the two that span a cut, and its angle."""
    for named in ((1, 1, 1), (1, 1, 0)):
        n = _unit(named)
        cos, sin = n @ _unit(u), n @ _unit(v)
        if named not in (u, v) and abs(cos**2 + sin**2 - 1) < 1e-9:
            return float(np.arctan2(sin, cos)), named
    return None


def _dress_change(panel, u, v, *, first):
    marks = [(0, u), (90, v), (180, tuple(-x for x in u))]
    diagonal = _between(u, v)
    if diagonal:
        marks.insert(1, (np.degrees(diagonal[0]), diagonal[1]))
    panel.set_xlim(0, 180)
    panel.set_xticks([angle for angle, _ in marks], [_NAMED.get(d, "") or _opposite_name(d) for _, d in marks])
    panel.axhline(0, color=GUIDE, lw=0.6, zorder=0)
    if first:
        panel.set_ylabel("change (%)")
    else:
        panel.tick_params(labelleft=False)


def _opposite_name(direction) -> str:
    digits = "".join(f"$\\bar{{{abs(x)}}}$" if x < 0 else str(x) for x in direction)
    return f"[{digits}]"


def _is_cubic(C) -> bool:
    blocks = (C[[0, 1, 2], [0, 1, 2]], C[[0, 0, 1], [1, 2, 2]], C[[3, 4, 5], [3, 4, 5]])
    rest = np.array(C, dtype=float)
    rest[:3, :3] = 0
    np.fill_diagonal(rest, 0)
    return all(np.ptp(block) < 0.02 * C.max() for block in blocks) and np.abs(rest).max() < 0.02 * C.max()


def _unit(direction) -> np.ndarray:
    return np.array(direction, dtype=float) / np.linalg.norm(direction)
