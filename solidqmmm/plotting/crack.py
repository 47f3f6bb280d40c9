"""A picture of a crack system seen along its front: who is held, free and quantum, the crack plane and the tip."""

from __future__ import annotations

import numpy as np
from ase.data import covalent_radii
from matplotlib.collections import EllipseCollection
from matplotlib.lines import Line2D

from solidqmmm.plotting.style import ACCENT, COLOURS, GUIDE, INK, ROLES, SINGLE_COLUMN, axes_for, mixed, style
from solidqmmm.system.crack import CrackSystem
from solidqmmm.system.partition import LABELS, Partition

_WORDS = {"host": "free", "frozen": "held", "core": "core", "buffer": "buffer"}
_VECTOR_ATOMS = 5000  # above, atoms are pixels in pdf files too


def draw_crack(
    system: CrackSystem,
    positions=None,
    *,
    partition: Partition | None = None,
    tip=None,
    window: float | None = None,
    ax=None,
    legend: bool = True,
):
    """Draws a crack system, the tip at the origin of the axes.

    Args:
        system: The crack.
        positions: Of its atoms in angstrom, shape=(n, 3); under the Griffith load as elasticity has it without them.
        partition: Who is quantum; by default nobody.
        tip: x and y of the tip in angstrom, shape=(2,); that of the system without it.
        window: Half width of the part around the tip that is shown, angstrom; everything without it.
        ax: Axes to draw into; a new figure of one column's width without them.
        legend: Whether to explain the colours.

    Returns:
        The Axes.
    """
    positions = system.cracked(system.griffith).positions if positions is None else np.asarray(positions)
    partition = system.partition if partition is None else partition
    tip = system.tip if tip is None else np.asarray(tip, dtype=float)
    xy = positions[:, :2] - system.tip
    mark = tip - system.tip
    low, high = xy.min(axis=0) - 3, xy.max(axis=0) + 3
    if window is not None:
        low, high = mark - window, mark + window
    seen = ((xy > low) & (xy < high)).all(axis=1)
    depth = np.argsort(positions[seen, 2], kind="stable")  # those in front last
    shown = np.flatnonzero(seen)[depth]
    width, height = high - low
    with style():
        if ax is None:
            inches = SINGLE_COLUMN * min(1.4, max(0.5, height / width)) + (0.55 if legend else 0.3)
            ax = axes_for(None, figsize=(SINGLE_COLUMN, inches), layout="constrained")
        names = np.array(LABELS)[partition.labels[shown]]
        palette = {name: mixed(COLOURS[name], "white", 0.1) for name in LABELS}
        palette["host"] = mixed(COLOURS["host"], "white", 0.35)
        size = 1.1 * covalent_radii[system.perfect.numbers[shown]]
        atoms = EllipseCollection(
            size,
            size,
            np.zeros(len(shown)),
            units="x",
            offsets=xy[shown],
            offset_transform=ax.transData,
            facecolors=[palette[name] for name in names],
            edgecolors=[mixed(palette[name], INK, 0.45) for name in names]
            if len(shown) < _VECTOR_ATOMS
            else "none",
            linewidths=0.25,
            rasterized=len(shown) >= _VECTOR_ATOMS,
        )
        ax.add_collection(atoms)
        ax.axhline(0.0, color=GUIDE, lw=0.6, ls=(0, (6, 4)), zorder=3)
        ax.plot(*mark, marker="+", color=ACCENT, ms=9, mew=1.4, zorder=4, ls="none")
        ax.set_xlim(low[0], high[0])
        ax.set_ylim(low[1], high[1])
        ax.set_aspect("equal")
        _label(ax, system)
        if legend:
            present = [role for role in ROLES if role in names]
            handles = [_dot(palette[role], _WORDS[role]) for role in present]
            handles.append(Line2D([], [], marker="+", color=ACCENT, ls="none", ms=7, mew=1.4, label="tip"))
            ax.figure.legend(
                handles=handles, loc="outside lower center", ncols=len(handles), handletextpad=0.1
            )
    return ax


def _label(ax, system: CrackSystem):
    axes = system.axes
    growth = "" if axes.growth is None else f" along [{_indices(axes.growth)}]"
    ax.set_xlabel(f"$x${growth} (Å)")
    ax.set_ylabel(f"$y$ normal to ({_indices(axes.plane)}) (Å)")
    ax.set_title(f"mode {system.mode}, front [{_indices(axes.front)}] towards the eye", fontsize="medium")


def _indices(three) -> str:
    """Miller indices with bars over negative ones."""
    return r"\,".join(rf"\bar{{{-k}}}" if k < 0 else str(k) for k in three).join("$$")


def _dot(colour, label):
    edge = mixed(colour, INK, 0.45)
    return Line2D([], [], marker="o", ls="none", mfc=colour, mec=edge, mew=0.4, ms=5, label=label)
