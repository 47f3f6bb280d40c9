"""A picture of the carved cluster: who is core, buffer and cap, where bonds were cut, what was left outside.

Orthographic, painted from back to front: spheres and bonds far away fade into the paper. The direction of view is chosen so
that core atoms hide as little as possible behind others.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from matplotlib import patheffects
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.path import Path

from solidqmmm.physics import link_atoms
from solidqmmm.physics.geometry import unwrapped
from solidqmmm.plotting.spheres import OUTSIDE, Painter
from solidqmmm.plotting.style import COLOURS, GUIDE, INK, SINGLE_COLUMN, axes_for, mixed, style

SPHERE = {"core": 0.48, "buffer": 0.40, "cap": 0.42, "host": 0.34}  # drawn radii in covalent radii
TOUCH = 1.25  # atoms nearer than this many sums of covalent radii are bonded
MARGIN = 0.3  # around the picture in angstrom
SCALE_STRIP, LEGEND_STRIP, LEGEND_ROW = 0.22, 0.14, 0.155  # inches below the picture
LARGE = 300  # spheres; above, what lies in front of the core is cut away by default
PALETTE_STEPS = (
    (None, 0.0),
    ("black", 0.35),
    ("white", 0.5),
    ("black", 0.6),
)  # for further elements of a role

_DASHED_RING = Path.make_compound_path(*(Path.arc(angle, angle + 28) for angle in range(0, 360, 45)))


def draw_cluster(cluster, crystal=None, ax=None, *, centre=None, view=None, cutaway=None, legend=True):
    """Draws a cluster.

    Args:
        cluster: The Cluster.
        crystal: The crystal it was carved from in its present state (relaxed, say); drawn as carved without it.
        ax: Axes to draw into; a new figure of one column's width without them.
        centre: The defect in angstrom, shape=(3,), marked by a dashed ring; by default the middle of the core where
            no atom is (a vacancy). False for no mark.
        view: Direction from the cluster to the eye, shape=(3,); chosen by itself if None.
        cutaway: Whether to leave out what lies in front of the core; by default only in clusters of more than 300
            atoms, whose core would be out of sight.
        legend: Whether to explain the colours.

    Returns:
        The Axes.
    """
    scene = _Scene.of(cluster, crystal)
    if centre is None:
        centre = scene.empty_middle()
    else:
        centre = None if centre is False else scene.nearest_image(centre, cluster)
    frame = _frame(view, cluster, scene, centre)
    if len(scene.positions) > LARGE if cutaway is None else cutaway:
        scene = scene.behind(frame[2])
    flat = scene.positions @ frame[:2].T
    low, high = (flat - scene.radii[:, None]).min(axis=0), (flat + scene.radii[:, None]).max(axis=0)
    handles = _legend_handles(scene, centre) if legend else []
    columns = len(handles) if len(handles) < 6 else -(-len(handles) // 2)

    width = high[0] - low[0] + 2 * MARGIN
    with style():
        strip = LEGEND_STRIP + LEGEND_ROW * -(-len(handles) // columns) if handles else 0.0
        if ax is None:
            inch = SINGLE_COLUMN / width  # of one angstrom
            height = inch * (high[1] - low[1] + 2 * MARGIN) + SCALE_STRIP + strip
            full = {"left": 0, "right": 1, "bottom": 0, "top": 1}
            ax = axes_for(None, figsize=(SINGLE_COLUMN, height), layout="none", gridspec_kw=full)
        else:
            inch = max(ax.get_window_extent().width / ax.figure.dpi, 0.5) / width
        below = low[1] - MARGIN - SCALE_STRIP / inch
        ax.set_aspect("equal")
        ax.set_axis_off()
        ax.add_collection(_painted(scene, frame), autolim=False)
        if centre is not None:
            _mark(ax, centre @ frame[:2].T, 1.4 * scene.radii[scene.roles == "core"].max())
        scale_bar(ax, low[0], below, 0.4 * width)
        directions(ax, frame, cluster.host_cell, np.array([high[0], below]), inch)
        ax.set_xlim(low[0] - MARGIN, high[0] + MARGIN)
        ax.set_ylim(below - strip / inch, high[1] + MARGIN)
        if handles:
            ax.legend(handles=handles, loc="lower center", ncols=columns, borderaxespad=0.4)
    return ax


# --- what is to be drawn ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Scene:
    """Spheres with roles, and bonds between them.

    `roles` are 'core', 'buffer', 'cap', and 'host' for what lies outside; `bonds` are pairs of spheres, `cut` pairs
    of cap and outer atom. `stubs` are spheres bonded to the next period of a periodic cluster, `stub_ends` the
    points halfway.
    """

    positions: np.ndarray
    numbers: np.ndarray
    roles: np.ndarray
    radii: np.ndarray
    bonds: np.ndarray
    cut: np.ndarray
    stubs: np.ndarray
    stub_ends: np.ndarray

    @classmethod
    def of(cls, cluster, crystal=None) -> _Scene:
        cell, positions = cluster.host_cell, cluster.reference
        if crystal is not None:
            cell = crystal.cell
            positions = cluster.contiguous(crystal.positions[cluster.region], cell)
        caps, n = cluster.caps, cluster.n_quantum
        outer = cluster.bonded_outer_positions(positions, cell)
        cap_positions = link_atoms.place(positions[caps.inner], outer, caps.length, caps.ratio)
        # caps at the host's own bond length sit on the outer atoms, which are then not drawn again
        apart = np.flatnonzero(np.linalg.norm(outer - cap_positions, axis=1) > 0.6)
        images, first, image_of = _distinct(outer[apart])
        inside = np.vstack([positions[:n], cap_positions])
        cap_index = n + np.arange(len(caps))
        stubs, stub_ends = _across(positions[:n], cluster.numbers[:n], cell[list(cluster.periodic_axes)])
        near = bonded(positions[:n], cluster.numbers[:n])
        roles = [*np.where(cluster.core, "core", "buffer"), *["cap"] * len(caps), *["host"] * len(images)]
        numbers = np.concatenate([cluster.engine_numbers, cluster.numbers[caps.outer[apart[first]]]]).astype(
            int
        )
        return cls(
            positions=np.vstack([inside, images]),
            numbers=numbers,
            roles=np.array(roles),
            radii=np.array([SPHERE[role] for role in roles]) * covalent_radii[numbers],
            bonds=np.vstack([near, np.column_stack([caps.inner, cap_index])]).astype(int),
            cut=np.column_stack([cap_index[apart], len(inside) + image_of]).astype(int),
            stubs=stubs,
            stub_ends=stub_ends,
        )

    def behind(self, toward) -> _Scene:
        """Without what lies nearer to the eye than the core."""
        depth = self.positions @ toward
        core = self.roles == "core"
        keep = core | (depth <= depth[core].max() + 1.0)
        place = np.cumsum(keep) - 1
        bonds, cut = (pairs[keep[pairs].all(axis=1)] for pairs in (self.bonds, self.cut))
        return _Scene(
            *(values[keep] for values in (self.positions, self.numbers, self.roles, self.radii)),
            place[bonds],
            place[cut],
            place[self.stubs[keep[self.stubs]]],
            self.stub_ends[keep[self.stubs]],
        )

    def is_empty(self, point) -> bool:
        """Whether no quantum atom is near."""
        quantum = np.isin(self.roles, ("core", "buffer"))
        away = np.linalg.norm(self.positions[quantum] - point, axis=1)
        return bool((away > 1.2 * covalent_radii[self.numbers[quantum]]).all())

    def empty_middle(self):
        """The middle of the core if no atom is there, else None."""
        middle = self.positions[self.roles == "core"].mean(axis=0)
        return middle if self.is_empty(middle) else None

    def nearest_image(self, point, cluster):
        """The periodic image of `point` nearest to the core."""
        middle = self.positions[self.roles == "core"].mean(axis=0)
        return unwrapped(np.reshape(point, (1, 3)), middle, cluster.host_cell, cluster.host_pbc)[0]


def _distinct(points):
    """Points without repetitions, where each is first, and the place of every given point among them."""
    if not len(points):
        return np.empty((0, 3)), np.empty(0, dtype=int), np.empty(0, dtype=int)
    _, first, place = np.unique(np.round(points, 3), axis=0, return_index=True, return_inverse=True)
    return points[first], first, place.ravel()


def bonded(positions, numbers) -> np.ndarray:
    """Pairs of indices of atoms in touch, shape=(n_bonds, 2), at `positions` in angstrom, shape=(n, 3)."""
    from scipy.spatial import cKDTree

    radii = covalent_radii[numbers]
    pairs = cKDTree(positions).query_pairs(2 * TOUCH * radii.max(), output_type="ndarray").reshape(-1, 2)
    distance = np.linalg.norm(positions[pairs[:, 0]] - positions[pairs[:, 1]], axis=1)
    return pairs[distance < TOUCH * (radii[pairs[:, 0]] + radii[pairs[:, 1]])]


def _across(positions, numbers, periods):
    """Atoms bonded to atoms of the next period, and the middle of each such bond."""
    shifts = [s @ periods for s in map(np.array, product((-1, 0, 1), repeat=len(periods))) if s.any()]
    atoms, ends, n = [np.empty(0, dtype=int)], [np.empty((0, 3))], len(positions)
    for shift in shifts:
        both = np.vstack([positions, positions + shift])
        pairs = bonded(both, np.tile(numbers, 2))
        pairs = pairs[(pairs[:, 0] < n) & (pairs[:, 1] >= n)]
        atoms.append(pairs[:, 0])
        ends.append(both[pairs].mean(axis=1))
    return np.concatenate(atoms), np.vstack(ends)


# --- from where ---------------------------------------------------------------------------------------------


def _frame(view, cluster, scene, centre) -> np.ndarray:
    """Rows: right, up, and towards the eye, shape=(3, 3)."""
    if view is not None:
        return upright(np.asarray(view, dtype=float), cluster.host_cell)
    frames = [
        upright(direction, cluster.host_cell, turn, rise)
        for direction in _low_index_directions(cluster)
        for turn, rise in product((-14.0, -8.0, 8.0, 14.0), (8.0, 14.0))
    ]
    points, radii = scene.positions, scene.radii
    weights = np.select(
        [scene.roles == "core", scene.roles == "buffer", scene.roles == "cap"], [6.0, 1.0, 0.4], 0.0
    )
    if centre is not None:
        points = np.vstack([points, centre])
        radii, weights = np.append(radii, radii.max()), np.append(weights, 6.0)
    return max(frames, key=lambda frame: visibility(points, radii, weights, frame))


def _low_index_directions(cluster) -> np.ndarray:
    """Along which a crystal looks ordered: the axis of a line defect, else low indices of the cell."""
    if len(cluster.periodic_axes) == 1:
        axis = cluster.host_cell[cluster.periodic_axes[0]]
        return np.array([axis, -axis])
    unit = cluster.host_cell / np.linalg.norm(cluster.host_cell, axis=1)[:, None]
    indices = [index for index in product((-1, 0, 1), repeat=3) if any(index)]
    return np.array(indices) @ unit


def upright(direction, cell, turn=0.0, rise=0.0) -> np.ndarray:
    """The rows right, up and toward the eye, orthonormal, shape=(3, 3).

    Looking against `direction`, shape=(3,), a vector of the cell as upright as can be, then turned and raised (degrees).
    """
    toward = direction / np.linalg.norm(direction)
    vectors = cell / np.linalg.norm(cell, axis=1)[:, None]
    across = vectors - np.outer(vectors @ toward, toward)
    lengths = np.linalg.norm(across, axis=1)
    up = across[np.argmax(np.round(lengths, 3) + np.array([0.0, 0.0, 1e-3]))]  # of equals the third: z
    up = up / np.linalg.norm(up)
    frame = np.array([np.cross(up, toward), up, toward])
    a, b = np.radians([turn, rise])
    about_up = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    about_right = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return about_right @ about_up @ frame


def visibility(points, radii, weights, frame) -> float:
    """Weighted mean of how much of each disc is free of others (1: all), and a little for a wide picture.

    Args:
        points: Centres in angstrom, shape=(n, 3).
        radii: In angstrom, shape=(n,).
        weights: Shape=(n,).
        frame: Rows right, up and toward the eye, shape=(3, 3).
    """
    flat, depth = points @ frame[:2].T, points @ frame[2]
    looked_at = np.flatnonzero(weights >= (0.1 if len(points) < 300 else weights.max()))
    solid = weights > 0
    apart = np.linalg.norm(flat[looked_at, None] - flat[None, solid], axis=-1)
    own = radii[looked_at, None]
    cover = np.clip((own + radii[None, solid] - apart) / (2 * own), 0, 1)
    in_front = depth[None, solid] > depth[looked_at, None] + 1e-6
    free = np.clip(1 - np.where(in_front, cover, 0.0).sum(axis=1), 0, 1)
    extent = np.ptp(flat, axis=0)
    return float(
        np.average(free, weights=weights[looked_at]) + 0.1 * min(extent[0] / max(extent[1], 1e-9), 1.3)
    )


# --- how ----------------------------------------------------------------------------------------------------


def _tones(scene) -> dict:
    """Colour of each (role, element): the role's, darker or lighter for further elements under it."""
    tones = {}
    for role in ("core", "buffer", "cap"):
        for k, number in enumerate(sorted(set(scene.numbers[scene.roles == role].tolist()))):
            other, amount = PALETTE_STEPS[k % len(PALETTE_STEPS)]
            tones[role, number] = mixed(COLOURS[role], other or COLOURS[role], amount)
    return tones


def _painted(scene, frame):
    """Everything in one collection, from back to front."""
    tones = _tones(scene)
    painter = Painter(frame, scene.positions, scene.radii, np.where(scene.roles == "core", 0.4, 1.0))
    for k, (role, number) in enumerate(zip(scene.roles, scene.numbers)):
        if role == "host":
            painter.ring(k)
        else:
            painter.sphere(k, tones[role, number])
    for i, j in scene.bonds:
        colours = [tones[scene.roles[end], scene.numbers[end]] for end in (i, j)]
        painter.bond(i, j, *colours, thin="cap" in (scene.roles[i], scene.roles[j]))
    for k, end in zip(scene.stubs, scene.stub_ends):
        painter.half_bond(k, end, tones[scene.roles[k], scene.numbers[k]])
    for i, j in scene.cut:
        painter.cut_bond(i, j)
    return painter.collection()


def _legend_handles(scene, centre) -> list[Line2D]:
    handles = []
    tones = _tones(scene)
    several = {role for role, _ in tones if sum(other == role for other, _ in tones) > 1}
    for (role, number), tone in tones.items():
        name = f"{chemical_symbols[number]} {role}" if role == "cap" or role in several else role
        size = 7.5 if role != "cap" else 5.0
        handles.append(dot(name, size, mfc=tone, mec=mixed(tone, "black", 0.6)))
    if (scene.roles == "host").any():
        handles.append(dot("host", 6.0, mfc="white", mec=OUTSIDE))
    if centre is not None:
        handles.append(
            dot(
                "vacancy" if scene.is_empty(centre) else "defect",
                8.0,
                marker=_DASHED_RING,
                mfc="none",
                mec=INK,
                mew=0.9,
            )
        )
    return handles


def dot(label, size, **look) -> Line2D:
    """A disc for a legend, `size` in points."""
    return Line2D([], [], ls="none", ms=size, label=label, **({"marker": "o", "mew": 0.6} | look))


def _mark(ax, at, radius):
    """A dashed ring where the defect is."""
    halo = [patheffects.withStroke(linewidth=1.8, foreground="white")]
    ring = Circle(
        at, radius, fill=False, ec=INK, lw=0.9, ls=(0, (3.2, 2)), zorder=3, path_effects=halo, gid="defect"
    )
    ax.add_patch(ring)


def scale_bar(ax, left, bottom, longest):
    """A bar of a round length."""
    length = max((n for n in (1, 2, 5, 10, 20, 50, 100) if n <= longest), default=1)
    ax.plot(
        [left, left + length], [bottom, bottom], color=INK, lw=1.8, solid_capstyle="butt", gid="scale bar"
    )
    ax.annotate(
        f"{length} Å", (left + length, bottom), (4, 0), textcoords="offset points", va="center", color=INK
    )


def directions(ax, frame, vectors, corner, inch, names="abc"):
    """Three vectors (of the host's cell) as small arrows in a corner, so that the view is found again elsewhere."""
    unit = vectors / np.linalg.norm(vectors, axis=1)[:, None]
    arrows = 0.22 / inch * unit @ frame[:2].T
    label = 0.08 / inch
    reach = arrows.clip(min=0).max(axis=0)[0] + 2 * label, arrows.clip(max=0).min(axis=0)[1]
    origin = corner - reach
    head = {
        "arrowstyle": "-|>,head_length=0.25,head_width=0.1",
        "color": GUIDE,
        "lw": 0.7,
        "shrinkA": 0,
        "shrinkB": 0,
    }
    for arrow, name in zip(arrows, names):
        length = np.linalg.norm(arrow)
        if length < 0.09 / inch:  # points at the reader
            continue
        ax.annotate("", origin + arrow, origin, arrowprops=head)
        at = origin + arrow * (1 + label / length)
        ax.text(*at, name, style="italic", size="small", ha="center", va="center", color=GUIDE)
