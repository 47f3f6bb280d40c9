"""Young's modulus against direction: polar cuts with what a defect changes, and the surface."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from solidqmmm.physics.elasticity import stress_strain_tensor, young_modulus
from solidqmmm.plotting.style import ACCENT, COLOURS, DOUBLE_COLUMN, GUIDE, INK, SINGLE_COLUMN, mixed, style

CUBIC_WITHIN = 0.02  # of the largest constant: tensors nearer to cubic form than this have cubic directions
NUMBER_GAP = 8.5  # points between the lines of numbers at a direction
LIGHT = np.array([0.55, 0.05, 0.83])  # where the light comes from
FLAT = 0.3  # of the largest change; where the change varies less, its axis leaves zero out


@dataclass(frozen=True)
class _Plane:
    """A cut: its name, and directions in it by increasing angle from the first one; `names` where indices are none."""

    name: str
    directions: tuple
    names: tuple = ()

    def at(self, angle) -> np.ndarray:
        """Unit vectors at some angles in radians, shape=(n, 3)."""
        u, v = self._frame()
        return np.outer(np.cos(angle), u) + np.outer(np.sin(angle), v)

    def marks(self) -> list:
        """Angle in radians and name of each direction."""
        u, _ = self._frame()
        names = self.names or map(_indices, self.directions)
        return [(np.arccos(np.clip(_unit(d) @ u, -1, 1)), name) for d, name in zip(self.directions, names)]

    def _frame(self):
        u = _unit(self.directions[0])
        v = np.array(self.directions[1], dtype=float)
        return u, _unit(v - (v @ u) * u)


_CUBIC = (
    _Plane("(001)", ((1, 0, 0), (1, 1, 0), (0, 1, 0), (-1, 1, 0), (-1, 0, 0))),
    _Plane("(100)", ((0, 1, 0), (0, 1, 1), (0, 0, 1), (0, -1, 1), (0, -1, 0))),
    _Plane("(1$\\bar{1}$0)", ((1, 1, 0), (1, 1, 1), (0, 0, 1), (-1, -1, 1), (-1, -1, 0))),
)
_CARTESIAN = tuple(
    _Plane(a + b, (u, u + v, v, v - u, -u), (a, "", b, "", f"−{a}"))
    for (a, u), (b, v) in (
        (("x", np.eye(3)[0]), ("y", np.eye(3)[1])),
        (("x", np.eye(3)[0]), ("z", np.eye(3)[2])),
        (("y", np.eye(3)[1]), ("z", np.eye(3)[2])),
    )
)


def plot_youngs_modulus(result, ax=None, *, width=DOUBLE_COLUMN):
    """Three polar cuts of Young's modulus, and beside each, with a perfect crystal, its change by the defect in percent.

    The cuts are (001), (100) and (1-10) of crystals that are cubic without the defect (their constants in the frame of the
    cell have cubic form), else the planes of the axes. The numbers at the directions are E in GPa, of the crystal and
    below it of the perfect one. Both come from the stress-strain tensor, which is C at zero stress. Directions
    in which an unstable crystal has no positive E are left out.

    Args:
        result: An ElasticTensorResult.
        ax: Three polar Axes, or three and then three more for the changes; a new figure without them.
        width: Width of a new figure in inches; the cuts are in rows where it is less than 5.

    Returns:
        The Axes given, or the first of the new figure.

    Raises:
        ValueError: If the number of axes is another.
    """
    own, perfect = _tensors(result)
    planes = _CUBIC if _is_cubic(own if perfect is None else perfect) else _CARTESIAN
    cases = [(result.defect or "crystal", ACCENT, 1.2, own)]
    if perfect is not None:
        cases = [("perfect crystal", COLOURS["host"], 1.8, perfect), (cases[0][0], COLOURS["core"], 1.1, own)]
    with style():
        polar, change = _given(ax) if ax is not None else _new_axes(perfect is not None, width)
        for panel, plane in zip(polar, planes):
            _cut(panel, plane, cases)
        reach = (
            max(np.nanmax(line.get_ydata(), initial=0.0) for panel in polar for line in panel.lines) or 1.0
        )
        for panel, plane in zip(polar, planes):
            _dress(panel, plane, reach, cases)
        if perfect is not None and len(change):
            _changes(change, planes, own, perfect)
        if ax is None and perfect is not None:
            polar[0].figure.legend(*polar[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return polar[0] if ax is None else ax


def _tensors(result):
    """Stress-strain tensors of the crystal and of the perfect one (or None), both at the stress of their reference."""
    perfect = result.elastic_tensor_perfect_GPa
    if perfect is None:
        return result.stress_strain_tensor_GPa, None
    if result.series_perfect is None:
        return result.elastic_tensor_GPa, perfect
    stress = result.series_perfect.reference_stress_GPa[[[0, 5, 4], [5, 1, 3], [4, 3, 2]]]
    return result.stress_strain_tensor_GPa, stress_strain_tensor(perfect, stress)


def _moduli(tensor, directions) -> np.ndarray:
    """Young's modulus in GPa; NaN where it is not positive."""
    E = young_modulus(tensor, directions)
    return np.where((E > 0) & np.isfinite(E), E, np.nan)


def _given(ax):
    axes = list(np.ravel(ax))
    if len(axes) not in (3, 6):
        raise ValueError(
            f"`ax` must hold three polar Axes, or six with those of the changes, got {len(axes)}"
        )
    return axes[:3], axes[3:]


def _new_axes(with_change, width):
    import matplotlib.pyplot as plt

    beside = width >= 5
    count = 2 if with_change else 1
    shape = (count, 3) if beside else (3, count)
    cut = width / 3 if beside else width / count if with_change else 0.62 * width
    size = (width, 0.2 + 1.02 * cut + 1.25 * (count - 1)) if beside else (width, 0.2 + 3 * 0.95 * cut)
    figure = plt.figure(figsize=size)
    ratios = {"height_ratios": (cut, 1.15)[:count]} if beside else {"width_ratios": (1, 1.12)[:count]}
    grid = figure.add_gridspec(*shape, **ratios)
    place = [[grid[c, k] if beside else grid[k, c] for k in range(3)] for c in range(count)]
    polar = [figure.add_subplot(cell, projection="polar") for cell in place[0]]
    return polar, [figure.add_subplot(cell) for cells in place[1:] for cell in cells]


def _cut(panel, plane, cases):
    angle = np.linspace(0, 2 * np.pi, 721)
    for k, (name, colour, width, tensor) in enumerate(cases):
        panel.plot(angle, _moduli(tensor, plane.at(angle)), color=colour, lw=width, label=name, zorder=2 + k)


def _dress(panel, plane, reach, cases):
    """Rings, and the directions of the first quadrant with their numbers outside."""
    marks = plane.marks()
    panel.set_title(plane.name, color=INK)
    panel.set_ylim(0, 1.03 * reach)
    rings = MaxNLocator(3, min_n_ticks=1).tick_values(0, reach)
    rings = [ring for ring in rings if 0 < ring <= reach]
    panel.set_yticks(rings, [f"{rings[0]:g} GPa", *[""] * (len(rings) - 1)])
    panel.set_rlabel_position(270)
    panel.tick_params(axis="y", labelsize=6, labelcolor=GUIDE)
    for label in panel.get_yticklabels():
        label.set(ha="center", va="center", path_effects=[withStroke(linewidth=1.5, foreground="white")])
    panel.set_xticks([turn + angle for angle, _ in marks[:-1] for turn in (0, np.pi)], [""] * 8)
    panel.grid(color="#E2E2E2", lw=0.5)
    panel.spines["polar"].set_visible(False)
    for angle, name in marks[:3]:
        words = [(name, INK)] if name else []
        for k, (_, colour, _, tensor) in reversed(list(enumerate(cases))):
            E = float(_moduli(tensor, plane.at(angle))[0])
            words.append(("–" if np.isnan(E) else f"{E:.1f}", mixed(colour, "black", 0.2)))
            panel.plot(angle, E, "o", color=colour, ms=2.6, mew=0, zorder=4 + k)
        _stack(panel, angle, 1.03 * reach, words)


def _stack(panel, angle, radius, words):
    """Lines of text at a direction, outside the circle."""
    across, up = np.cos(angle), np.sin(angle)
    for k, (word, colour) in enumerate(words):
        lowest = (len(words) - 1) * (
            0.5 if up < 0.3 else 1.0
        )  # the middle of the stack, or its foot, is at the circle
        panel.annotate(
            word,
            (angle, radius),
            (4 * across if across > 0.1 else 0, 4 * up + NUMBER_GAP * (lowest - k)),
            textcoords="offset points",
            ha="left" if across > 0.1 else "center",
            va="center" if up < 0.3 else "bottom",
            size=7,
            color=colour,
            annotation_clip=False,
        )


def _changes(axes, planes, own, perfect):
    """Change of E in percent against the angle, on one scale."""
    angle = np.linspace(0, np.pi, 361)
    values = [100 * (_moduli(own, p.at(angle)) / _moduli(perfect, p.at(angle)) - 1) for p in planes]
    low, high = np.nanmin(values), np.nanmax(values)
    if high - low > FLAT * max(-low, high) or low * high <= 0:
        low, high = min(low, 0.0), max(high, 0.0)
    margin = max(0.12 * (high - low), 1e-6)
    for panel, plane, change in zip(axes, planes, values):
        marks = plane.marks()
        panel.plot(np.degrees(angle), change, color=COLOURS["core"])
        panel.axhline(0, color=GUIDE, lw=0.7, zorder=1)
        for at, _ in marks[1:-1]:
            panel.axvline(np.degrees(at), color="#E2E2E2", lw=0.5, zorder=0)
        panel.set_xlim(0, 180)
        panel.set_ylim(low - margin, high + margin)
        panel.yaxis.set_major_locator(MaxNLocator(4))
        names = [name for _, name in marks]
        panel.set_xticks([np.degrees(at) for at, _ in marks], [*names[:3], "", names[4]], va="baseline")
        panel.tick_params(axis="x", labelsize=7, pad=8)
        place = panel.get_subplotspec()
        if (
            place is not None and place.get_gridspec().ncols == 2
        ):  # in rows, where height is less scarce than width
            panel.set_title("change of E (%)", color=INK)
            panel.tick_params(axis="x", labelsize=6)
        elif place is None or place.is_first_col():
            panel.set_ylabel("change of E (%)")
        else:
            panel.tick_params(labelleft=False)


# --- the surface --------------------------------------------------------------------------------------------


def plot_youngs_modulus_surface(result, ax=None, *, width=None):
    """Young's modulus as a surface: its distance from the middle along each direction is E, and so is its colour.

    With a perfect crystal the same surface again, its colour the change of E by the defect in percent.

    Args:
        result: An ElasticTensorResult.
        ax: 3D Axes, or two of them, the second for the change; a new figure without them.
        width: Width of a new figure in inches, by default one column, or two with the change; the surfaces are one above the
            other where it is less than 5.

    Returns:
        The Axes given, or the first of the new figure.
    """
    own, perfect = _tensors(result)
    theta, phi = np.meshgrid(np.linspace(0, np.pi, 101), np.linspace(0, 2 * np.pi, 201), indexing="ij")
    n = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=-1)
    E = _moduli(own, n.reshape(-1, 3)).reshape(theta.shape)
    with style():
        axes = _new_surfaces(perfect is not None, width) if ax is None else list(np.ravel(ax))
        for panel in axes:
            panel.set_axis_off()
        if np.isnan(E).any():
            axes[0].text2D(
                0.5, 0.5, "not positive\nin every direction", transform=axes[0].transAxes, ha="center", va="center",
                color=GUIDE, style="italic",
            )  # fmt: skip
            return axes[0] if ax is None else ax
        _surface(axes[0], n, E, E, "viridis", "Young's modulus (GPa)")
        if perfect is not None and len(axes) > 1:
            change = 100 * (E / _moduli(perfect, n.reshape(-1, 3)).reshape(E.shape) - 1)
            _surface(axes[1], n, E, change, "plasma", "change by the defect (%)")
    return axes[0] if ax is None else ax


def _new_surfaces(with_change, width):
    import matplotlib.pyplot as plt

    width = width or (DOUBLE_COLUMN if with_change else SINGLE_COLUMN)
    shape = (1, 1 + with_change) if width >= 5 else (1 + with_change, 1)
    figure = plt.figure(figsize=(width, 0.84 * width * shape[0] / shape[1]))
    return [figure.add_subplot(*shape, k + 1, projection="3d") for k in range(1 + with_change)]


def _surface(ax, n, E, values, colours, label):
    low, high = values.min(), values.max()
    least = 1e-6 * max(abs(low), abs(high), 1e-3)  # of an isotropic crystal all is one colour
    scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(low - least, high + least), colours)
    points = E[..., None] * n
    across, along = np.gradient(points, axis=(0, 1))
    normal = np.cross(across, along)
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    normal = np.where(
        length > 1e-6 * length.max(), normal / np.maximum(length, 1e-300), n
    )  # the poles are points
    faces = scale.to_rgba(values)
    faces[..., :3] *= (0.8 + 0.2 * np.clip(normal @ _unit(LIGHT), 0, 1))[..., None]
    ax.computed_zorder = False
    # thin edges of each face's own colour, else the paper shows between them
    look = {"rstride": 1, "cstride": 1, "lw": 0.2, "shade": False, "zorder": 1, "rasterized": True}
    ax.plot_surface(*np.moveaxis(points, -1, 0), facecolors=faces, **look)
    reach = E.max()
    for axis, name in zip(np.eye(3), "xyz"):
        start = points.reshape(-1, 3)[np.argmax(n.reshape(-1, 3) @ axis)]
        halo = [withStroke(linewidth=2, foreground="white")]
        ax.plot(*np.transpose([start, 1.25 * reach * axis]), color=INK, lw=0.8, zorder=2, path_effects=halo)
        ax.text(
            *(1.35 * reach * axis), name, ha="center", va="center", color=INK, zorder=3, path_effects=halo
        )
    ax.set(
        xlim=(-reach, reach), ylim=(-reach, reach), zlim=(-0.87 * reach, 1.13 * reach)
    )  # room for the z above
    ax.set_box_aspect((1, 1, 1), zoom=1.4)
    ax.view_init(elev=24, azim=35)
    bar = ax.figure.colorbar(scale, ax=ax, shrink=0.6, aspect=20, pad=0.02)
    bar.set_label(label)
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_locator(MaxNLocator(5))


# --- directions ---------------------------------------------------------------------------------------------


def _is_cubic(C) -> bool:
    blocks = (C[[0, 1, 2], [0, 1, 2]], C[[0, 0, 1], [1, 2, 2]], C[[3, 4, 5], [3, 4, 5]])
    rest = np.array(C, dtype=float)
    rest[:3, :3] = 0
    np.fill_diagonal(rest, 0)
    return max(*map(np.ptp, blocks), np.abs(rest).max()) < CUBIC_WITHIN * C.max()


def _indices(direction) -> str:
    """[uvw] with bars."""
    return "[" + "".join(rf"$\bar{{{-k}}}$" if k < 0 else str(k) for k in direction) + "]"


def _unit(direction) -> np.ndarray:
    return np.array(direction, dtype=float) / np.linalg.norm(direction)
