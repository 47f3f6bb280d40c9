"""Cracked crystals of any crystal, plane and front: a strip between held edges, or a cylinder in the K-field.

Atoms are laid out on arrays, without site objects: a million take seconds.
"""

from __future__ import annotations

import numpy as np

from solidqmmm.physics.cracks.crack_lattice import CrackAxes, filled_box
from solidqmmm.procedures.cracks.cleavage import cleavage_of
from solidqmmm.system.bonds import BondRules, pairs_within
from solidqmmm.system.crack import KINDS, Cleavage, CrackSystem
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.unit_cell import primitive_cell

_ROOM = 20.0  # angstrom of vacuum around the atoms, beside what the load moves them
_SMALLEST_ANNULUS = 8.0
_SAME_X = 0.05  # angstrom


def crack_system(
    model,
    *,
    system: str,
    plane,
    front,
    size_A,
    mode: str = "I",
    cut: int = 0,
    annulus_A: float | None = None,
    front_repeats: int | None = None,
    tip_A: float | None = None,
    slit: int | None = None,
    folder=None,
    progress=None,
) -> CrackSystem:
    """The crack of a study's crystal: what its host says of the plane (`cleavage_of`), and the atoms (`cracked_crystal`).

    Args:
        model: A `procedures.build.Model` with a host.
        system, size_A, annulus_A, front_repeats, tip_A, slit: See `cracked_crystal`.
        plane, front, mode, cut, folder, progress: See `cleavage_of`.

    Raises:
        ValueError, SolidQMMMError: As `cleavage_of` and `cracked_crystal`.
    """
    if model.potential is not None:
        model.potential.require_periodicity((False, False, True))
    found = cleavage_of(model, plane, front, mode=mode, cut=cut, folder=folder, progress=progress)
    return cracked_crystal(
        found, system=system, mode=mode, size_A=size_A, annulus_A=annulus_A, front_repeats=front_repeats, tip_A=tip_A,
        slit=slit,
    )  # fmt: skip


def cracked_crystal(
    cleavage: Cleavage,
    *,
    system: str,
    size_A,
    mode: str = "I",
    annulus_A: float | None = None,
    front_repeats: int | None = None,
    tip_A: float | None = None,
    slit: int | None = None,
) -> CrackSystem:
    """The atoms of a strip or a cylinder with a crack.

    Args:
        cleavage: Plane and front with what the host says of them.
        system: 'strip' or 'cylinder'.
        size_A: Length along x, height along y, length of the front along z, in angstrom. Of a strip the height is that
            between the held edges; of a cylinder the first is its diameter, rim included, and the second is left out or the
            same. The third may be left out: one period of the front (and it is rounded to whole periods).
        mode: 'I' or 'II'.
        annulus_A: Width of the held rim or edges; by default twice the range of the potential, at least 8 angstrom.
        front_repeats: Number of periods along the front, in place of the third size.
        tip_A: Length of the crack of a strip, from its left end; a third of the strip by default.
        slit: Number of lattice planes that are left out behind the tip. By default none in mode I; in mode II as many as
            keep the flanks out of each other's reach, which the load does not part.

    Raises:
        ValueError: If sizes are missing, too small for the held atoms or for one period of the front.
    """
    if system not in KINDS:
        raise ValueError(f"`system` must be one of {', '.join(KINDS)}, got {system!r}")
    axes = cleavage.axes
    length, height, repeats = _sizes(system, size_A, front_repeats, axes)
    annulus = max(_SMALLEST_ANNULUS, 2 * cleavage.cutoff) if annulus_A is None else float(annulus_A)
    if annulus <= 0:
        raise ValueError(f"`annulus_A` must be positive (angstrom), got {annulus_A}")
    _require_room(system, length, height, annulus, cleavage.cutoff)
    planes = _default_slit(cleavage, mode) if slit is None else int(slit)
    if planes < 0:
        raise ValueError(f"`slit` counts lattice planes that are left out, got {slit}")
    primitive = primitive_cell(cleavage.unit)
    basis = _basis_at_tip(primitive, axes, cleavage.cut_height)
    if system == "cylinder":
        radius = length / 2
        x = y = (-radius, radius)
        free = radius - annulus
    else:
        behind = length / 3 if tip_A is None else float(tip_A)
        if not 0 < behind < length:
            raise ValueError(f"`tip_A` must lie within the strip (0 to {length:g} angstrom), got {tip_A}")
        x, y = (-behind, length - behind), (-height / 2 - annulus, height / 2 + annulus)
        free = height
    positions, which = filled_box(axes.cell, basis, x, y, repeats)
    r = np.hypot(positions[:, 0], positions[:, 1])
    keep = np.ones(len(positions), dtype=bool) if system == "strip" else r < radius
    if planes:
        keep &= ~((positions[:, 0] < 0) & _within_planes(positions[:, 1], planes, axes.spacing))
    positions, which, r = positions[keep], which[keep], r[keep]
    held = np.abs(positions[:, 1]) > free / 2 if system == "strip" else r > free
    room = _ROOM + (0.5 * cleavage.ideal_strain * height if system == "strip" else 0.1 * length)
    low, high = positions.min(axis=0) - room, positions.max(axis=0) + room
    cell = np.diag([high[0] - low[0], high[1] - low[1], repeats * axes.front_period])
    positions[:, :2] -= low[:2]
    crystal = Crystal(primitive.numbers[which], positions, cell, (False, False, True))
    return CrackSystem(
        system, mode, crystal, -low[:2], np.flatnonzero(held), float(free), cleavage, repeats, planes
    )


# --- sizes --------------------------------------------------------------------------------------------------------


def _sizes(system, size_A, front_repeats, axes: CrackAxes) -> tuple[float, float, int]:
    """Length, height and number of periods along the front."""
    given = [float(s) for s in np.atleast_1d(size_A)]
    example = "[120, 90] for a strip, [84] for a cylinder"
    if not 1 <= len(given) <= 3 or not all(np.isfinite(s) and s > 0 for s in given):
        raise ValueError(
            f"`size_A` must be one to three positive lengths in angstrom, such as {example}; got {size_A}"
        )
    if system == "strip" and len(given) < 2:
        raise ValueError(
            f"`size_A` of a strip needs its length and its height, such as {example}; got {size_A}"
        )
    length, height = given[0], given[1] if len(given) > 1 else given[0]
    if system == "cylinder" and height != length:
        raise ValueError(
            f"a cylinder has one diameter: the first two of `size_A` must be the same, got {given}"
        )
    repeats = 1 if front_repeats is None else int(front_repeats)
    if repeats < 1:
        raise ValueError(f"`front_repeats` must be at least 1, got {front_repeats}")
    if len(given) == 3:
        period = axes.front_period
        if given[2] < 0.95 * period:
            raise ValueError(
                f"the {system} is {given[2]:g} A thin along its front [{' '.join(map(str, axes.front))}], where the crystal "
                f"repeats after {period:.4f} A: give at least that as the third of `size_A`, or leave it out"
            )
        found = max(1, round(given[2] / period))
        if front_repeats is not None and found != repeats:
            raise ValueError(
                f"`front_repeats` is {repeats}, but the third of `size_A` makes it {found}: give one of them"
            )
        repeats = found
    return length, height, repeats


def _require_room(system, length, height, annulus, cutoff):
    if system == "cylinder":
        least = 2 * (annulus + 2 * cutoff)
        if length < least:
            raise ValueError(
                f"a cylinder of {length:g} A across is too small for its held annulus of {annulus:g} A: within it the tip "
                f"needs twice the range of the potential ({cutoff:.2f} A) on all sides, so at least {least:.1f} A across"
            )
        return
    least = 4 * cutoff
    if height < least or length < least:
        raise ValueError(
            f"a strip of {length:g} x {height:g} A is too small: the tip needs twice the range of the potential "
            f"({cutoff:.2f} A) to the held edges (annulus {annulus:g} A, outside that height) and to the ends, so at least "
            f"{least:.1f} A each way"
        )


def _default_slit(cleavage: Cleavage, mode: str) -> int:
    return 0 if mode == "I" else int(np.ceil(cleavage.cutoff / cleavage.axes.spacing))


def _within_planes(y, planes: int, spacing: float):
    """Atoms in the given number of lattice planes around the cut at y = 0."""
    return (y > -(planes // 2) * spacing) & (y < (planes - planes // 2) * spacing)


# --- where the tip lies -------------------------------------------------------------------------------------------


def _basis_at_tip(primitive: Crystal, axes: CrackAxes, cut_height: float) -> np.ndarray:
    """Atoms of one primitive cell in the axes of the crack, the tip at the origin, angstrom, shape=(b, 3).

    In y it lies in the middle of the gap between the layers that the crack parts, in x midway between two bonds that the
    crack cuts: in the middle of the widest gap between successive ones.
    """
    basis = primitive.positions @ axes.rotation.T
    basis[:, 1] -= basis[0, 1] + cut_height
    basis[:, 0] -= basis[0, 0]
    bonds = _cut_bonds(basis, primitive.numbers, axes)
    if len(bonds) > 1:
        gaps = np.diff(bonds)
        widest = np.flatnonzero(gaps > gaps.max() - _SAME_X)
        middles = bonds[widest] + gaps[widest] / 2
        basis[:, 0] -= middles[np.argmin(np.abs(middles))]
    return basis


def _cut_bonds(basis, numbers, axes: CrackAxes) -> np.ndarray:
    """Distinct x of the middles of bonds that cross the plane y = 0, ascending, over a few periods around x = 0."""
    rules = BondRules()
    reach = float(rules.matrix(numbers).max())
    width = 2 * (axes.growth_period or 3 * axes.cell[0, 0]) + 2 * reach
    repeats = int(np.ceil(2 * reach / axes.front_period))
    positions, which = filled_box(axes.cell, basis, (-width, width), (-reach, reach), repeats)
    cell = np.diag([4 * width, 4 * reach, repeats * axes.front_period])
    crystal = Crystal(numbers[which], positions, cell, (False, False, True))
    bonds = pairs_within(crystal, np.arange(len(crystal)), rules.matrix(crystal.numbers))
    y = positions[bonds.i, 1]
    cut = (y < 0) & (y + bonds.vector[:, 1] > 0)
    x = np.sort((positions[bonds.i, 0] + bonds.vector[:, 0] / 2)[cut])
    x = x[np.abs(x) < width - reach]
    return x[np.diff(x, prepend=-np.inf) > _SAME_X]
