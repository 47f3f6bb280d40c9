"""A vibration as arrows on the atoms that take part in it."""

from __future__ import annotations

import re
from itertools import combinations, product

import numpy as np
from ase.data import atomic_numbers, chemical_symbols, covalent_radii

from solidqmmm.plotting.cluster import (
    MARGIN,
    SCALE_STRIP,
    SPHERE,
    bonded,
    directions,
    dot,
    scale_bar,
    upright,
    visibility,
)
from solidqmmm.plotting.spheres import HEAD, Painter
from solidqmmm.plotting.style import ACCENT, COLOURS, INK, SINGLE_COLUMN, axes_for, mixed, say, style

LEGEND_STRIP, TITLE_STRIP = 0.3, 0.24  # inches below and above the picture of a mode
LARGEST_INCH = 0.6  # of one angstrom
LONGEST_ARROW = 1.6  # angstrom
SHORTEST_ARROW = 0.06  # angstrom; shorter ones are left out
LONGEST_IN_THE_WAY = 0.8  # angstrom, where arrows would run into atoms: no shorter than this
CROWDED = 9  # atoms; among more, those that hardly move are small and pale, and bonds between them are left out
MOVES = 0.3  # share of the largest displacement from which on an atom is drawn in full
MOSTLY_ELSEWHERE = 0.5  # a mode with less weight on the core says so


def plot_mode(result, mode: int = 0, ax=None, *, view=None, width=SINGLE_COLUMN, legend=True):
    """The displacements of the core's atoms in one mode, as arrows on the cluster.

    Arrows begin at the surface of the spheres; their lengths are proportional to the displacements (not to the mass-weighted
    ones), the longest being 1.6 angstrom, or less (0.8 at least) where it would run into an atom. Displacements below 1/27
    of the largest have none. Among more than nine atoms those that move little are small and pale. Neighbours of a vacancy,
    which have no bonds, are joined by lines. The title gives the mode's weight on the core where that is below one half.

    Args:
        result: A DefectPhononsResult.
        mode: Which one of `result.modes`.
        ax: Axes to draw into; a new figure without them.
        view: Direction from the cluster to the eye, shape=(3,); by default one that hides little and shows the longest
            arrows from the side.
        width: Width of a new figure in inches.
        legend: Whether to explain the colours.

    Returns:
        The Axes.

    Raises:
        IndexError: If there is no such mode.
    """
    n = len(result.modes)
    if not -n <= mode < n and n:
        raise IndexError(f"`mode` must be one of the {n} modes of the result, 0 to {n - 1}, got {mode}")
    with style():
        if not n or not len(result.core):
            ax = axes_for(ax)
            say(ax, "no modes in this result" if not n else "no core in this result")
            return ax
        new = ax is None
        positions = np.asarray(result.core_positions_A)
        numbers = np.array([atomic_numbers[symbol] for symbol in result.core_symbols])
        moving = _moving(result.mode_displacements[mode])
        radii = SPHERE["core"] * covalent_radii[numbers] * (0.5 + 0.5 * moving)
        arrows = _arrows(result.mode_displacements[mode])
        arrows = arrows * _room(positions, radii, arrows)
        frame = (
            _view(positions, radii, arrows)
            if view is None
            else upright(np.asarray(view, dtype=float), np.eye(3))
        )
        along = np.linalg.norm(arrows, axis=1)[:, None]
        tips = positions + arrows * (1 + radii[:, None] / np.where(along > 0, along, 1.0))
        drawn = np.vstack([positions, tips]) @ frame[:2].T
        reach = np.append(radii, np.zeros(len(tips)))[:, None]
        low, high = (drawn - reach).min(axis=0) - MARGIN, (drawn + reach).max(axis=0) + MARGIN
        tones = _species(numbers)
        title = _title(result.modes[mode])
        ax, inch = _canvas(ax, high - low, width, LEGEND_STRIP * bool(legend), TITLE_STRIP * (1 + 0.8 * title.count("\n")))
        floor = low[1] - SCALE_STRIP / inch
        middle, half = (low[0] + high[0]) / 2, max(high[0] - low[0], width / inch * bool(new)) / 2
        ax.set_xlim(middle - half, middle + half)
        ax.set_ylim(floor - LEGEND_STRIP * bool(legend) / inch, high[1])
        ax.set_aspect("equal")
        ax.set_axis_off()
        ax.add_collection(_painted(positions, numbers, radii, arrows, moving, tones, frame), autolim=False)
        scale_bar(ax, middle - half + MARGIN, floor, 0.3 * (high[0] - low[0]))
        directions(ax, frame, np.eye(3), np.array([middle + half - MARGIN, floor]), inch, names="xyz")
        ax.set_title(title, loc="center", color=INK)
        if legend:
            dots = [
                dot(chemical_symbols[z], 7.5, mfc=tone, mec=mixed(tone, "black", 0.6))
                for z, tone in tones.items()
            ]
            ax.legend(handles=dots, loc="lower center", ncols=len(dots), borderaxespad=0.4)
    return ax


def _canvas(ax, extent, width, strip, head):
    """Axes for a picture of this many angstrom, shape=(2,), between strips in inches; and the inches of one angstrom."""
    tall = SCALE_STRIP + strip
    if ax is not None:
        box = ax.get_window_extent()
        inch = min(box.width / extent[0], (box.height - tall * ax.figure.dpi) / extent[1]) / ax.figure.dpi
        return ax, max(inch, 0.05)
    inch = min(width / extent[0], 1.1 * width / extent[1], LARGEST_INCH)
    height = inch * extent[1] + tall + head
    full = {"left": 0, "right": 1, "bottom": 0, "top": 1 - head / height}
    return axes_for(None, figsize=(width, height), layout="none", gridspec_kw=full), inch


def _arrows(displacements) -> np.ndarray:
    """Arrows in angstrom, the longest 1.6, too short ones zero, shape=(q, 3)."""
    lengths = np.linalg.norm(displacements, axis=1)
    if not lengths.max() > 0:
        return np.zeros_like(displacements)
    arrows = displacements * LONGEST_ARROW / lengths.max()
    return np.where((lengths * LONGEST_ARROW / lengths.max() < SHORTEST_ARROW)[:, None], 0.0, arrows)


def _moving(displacements) -> np.ndarray:
    """How much each atom of a crowded picture is drawn in full (0 to 1), shape=(q,)."""
    lengths = np.linalg.norm(displacements, axis=1)
    if len(lengths) <= CROWDED or not lengths.max() > 0:
        return np.ones(len(lengths))
    return np.minimum(lengths / (MOVES * lengths.max()), 1.0)


def _room(positions, radii, arrows) -> float:
    """By how much all arrows must shrink so that none runs into an atom."""
    lengths = np.linalg.norm(arrows, axis=1)
    share = 1.0
    for k in np.flatnonzero(lengths > 0):
        along = arrows[k] / lengths[k]
        apart = np.delete(positions, k, axis=0) - positions[k]
        ahead = apart @ along
        across = np.linalg.norm(apart - ahead[:, None] * along, axis=1)
        others = np.delete(radii, k)
        hit = (ahead > 0) & (across < others)
        reach = (ahead - np.sqrt(np.maximum(others**2 - across**2, 0)) - radii[k])[hit]
        share = min(share, reach.min(initial=np.inf) / lengths[k])
    return max(share, min(LONGEST_IN_THE_WAY / max(lengths.max(), 1e-9), 1.0))


def _view(positions, radii, arrows) -> np.ndarray:
    """Rows: right, up and towards the eye. Little of atoms and arrows is hidden, and arrows are seen from the side."""
    directions_of_cube = [np.array(d) for d in product((-1, 0, 1), repeat=3) if any(d)]
    turns = list(product((-24.0, -16.0, -9.0, 9.0, 16.0, 24.0), (8.0, 16.0, 24.0)))
    frames = [upright(d, np.eye(3), *turn) for d, turn in product(directions_of_cube, turns)]
    lengths = np.linalg.norm(arrows, axis=1)
    moving = np.flatnonzero(lengths > 0)
    ends = positions[moving] + arrows[moving] * (radii[moving] / lengths[moving])[:, None]
    along = [ends + share * arrows[moving] for share in (0.3, 0.65, 1.0)]
    points, sizes = np.vstack([positions, *along]), np.append(radii, np.full(3 * len(moving), HEAD[1]))
    shares = lengths / max(lengths.max(), 1e-9)
    weights = np.append(1.0 + 6 * shares, np.tile(4 * shares[moving], 3))

    def worth(frame):
        across = np.linalg.norm(arrows @ frame[:2].T, axis=1).sum() / max(lengths.sum(), 1e-9)
        return visibility(points, sizes, weights, frame) + 0.5 * across

    return max(frames, key=worth)


def _species(numbers) -> dict:
    """Colour of each element of the core: the rarest has the core's own, further ones paler and darker tones of it."""
    order = sorted(set(numbers.tolist()), key=lambda z: (np.sum(numbers == z), z))
    tones = (("white", 0.0), ("white", 0.45), ("black", 0.4), ("white", 0.75), ("black", 0.65))
    return {z: mixed(COLOURS["core"], *tones[k % len(tones)]) for k, z in enumerate(order)}


def _painted(positions, numbers, radii, arrows, moving, tones, frame):
    """Spheres, bonds and arrows in one collection, from back to front."""
    painter = Painter(frame, positions, radii, 0.6)
    colours = [mixed(tones[z], "white", 0.65 * (1 - share)) for z, share in zip(numbers, moving)]
    for k, colour in enumerate(colours):
        painter.sphere(k, colour)
        if arrows[k].any():
            painter.arrow(k, arrows[k], ACCENT)
    bonds = bonded(positions, numbers)
    for i, j in bonds:
        if max(moving[i], moving[j]) == 1:
            painter.bond(i, j, colours[i], colours[j], thin=len(numbers) > CROWDED)
    for i, j in _contacts(positions) if not len(bonds) else ():
        painter.cut_bond(i, j)
    return painter.collection()


def _contacts(positions) -> list[tuple[int, int]]:
    """Pairs of atoms that are about as near as the nearest ones."""
    pairs = list(combinations(range(len(positions)), 2))
    distances = np.array([np.linalg.norm(positions[i] - positions[j]) for i, j in pairs])
    return [pair for pair, d in zip(pairs, distances) if d < 1.3 * distances.min()]


def _title(mode) -> str:
    """Irrep and frequency of a mode, imaginary ones with an i; its weight on the core where little of it is there."""
    i = "i" if mode["frequency_THz"] < 0 else ""
    frequency = f"{abs(mode['frequency_THz']):.3f}{i} THz = {abs(mode['frequency_cm-1']):.2f}{i} cm$^{{-1}}$"
    weight = mode.get("core_weight")
    elsewhere = weight is not None and weight < MOSTLY_ELSEWHERE
    share = f"\n{100 * weight:.2g} % of it on these atoms" if elsewhere else ""
    return f"{mulliken(mode.get('irrep'))}   {frequency}".strip() + share


def mulliken(irrep: str | None) -> str:
    """An irrep's symbol in mathtext ("A1g + 2T2" to "$A_{1g}$ + 2$T_2$"); empty for None."""
    if not irrep:
        return ""
    return re.sub(
        r"([ABET])(\d?[gu]?)('*)",
        lambda m: f"${m[1]}_{{{m[2]}}}{m[3]}$" if m[2] else f"${m[1]}{m[3]}$",
        irrep,
    )
