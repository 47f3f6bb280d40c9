"""Who is quantum: regions from hops along bonds, distances, explicit sites or per-atom properties.

Everything is O(N) with a small factor: one pass finds the neighbourhood, neighbour lists are built for that alone.
"""

from __future__ import annotations

import numpy as np

from solidqmmm.errors import RegionError
from solidqmmm.physics.geometry import distances_to_line, distances_to_point, unwrapped
from solidqmmm.system.bonds import BondRules, local_bonds, neighbourhood, pairs_within
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.partition import BUFFER, CORE, HOST, Partition


def within_radius(crystal: Crystal, centre, radius: float) -> np.ndarray:
    """Indices of the atoms within `radius` (angstrom) of the point `centre`, ascending, shape=(m,).

    Raises:
        RegionError: If the sphere is so large that it meets its own periodic image.
    """
    _require_room(crystal, radius)
    return np.flatnonzero(distances_to_point(crystal.positions, centre, crystal.cell, crystal.pbc) <= radius)


def within_line(crystal: Crystal, point, direction, radius: float) -> np.ndarray:
    """Indices of the atoms within `radius` (angstrom) of a line (a dislocation, a crack front), ascending, shape=(m,).

    Args:
        crystal: The crystal.
        point: A point of the line in angstrom, shape=(3,).
        direction: Along it, of any length, shape=(3,).
        radius: In angstrom.

    Raises:
        RegionError: If the cylinder is so thick that it meets its own periodic image.
    """
    _require_room(crystal, radius, along=direction)
    return np.flatnonzero(
        distances_to_line(crystal.positions, point, direction, crystal.cell, crystal.pbc) <= radius
    )


def by_property(crystal: Crystal, name: str, above: float | None = None, below: float | None = None) -> np.ndarray:
    """Indices of the atoms whose per-atom array `name` lies above and/or below the given bounds, ascending, shape=(m,).

    Raises:
        RegionError: If the crystal carries no such array.
    """
    if name not in crystal.arrays:
        raise RegionError(f"the crystal has no per-atom property '{name}'; it has: {', '.join(crystal.arrays) or 'none'}")
    values = np.asarray(crystal.arrays[name], dtype=float)
    chosen = np.ones(len(crystal), dtype=bool)
    if above is not None:
        chosen &= values > above
    if below is not None:
        chosen &= values < below
    return np.flatnonzero(chosen)


def bonded_to_point(crystal: Crystal, point, element: str, rules: BondRules) -> np.ndarray:
    """Indices of the atoms that an atom of `element` at `point` (angstrom, shape=(3,)) would be bonded to, shape=(m,).

    Around a vacancy these are its neighbours.
    """
    probe = crystal.with_extra(element, point)
    bonds = local_bonds(probe, [len(crystal)], rules).of([len(crystal)])
    return np.unique(bonds.j)


def grown_by_hops(crystal: Crystal, atoms, hops: int, rules: BondRules) -> np.ndarray:
    """`atoms` and everything within `hops` bonds of them, ascending indices, shape=(m,)."""
    chosen = np.unique(np.asarray(atoms, dtype=int))
    if hops == 0 or len(chosen) == 0:
        return chosen
    bonds = local_bonds(crystal, chosen, rules, hops=hops)
    for _ in range(hops):
        chosen = np.union1d(chosen, bonds.j[np.isin(bonds.i, chosen)])
    return chosen


def grown_by_radius(crystal: Crystal, atoms, radius: float) -> np.ndarray:
    """`atoms` and everything within `radius` (angstrom) of any of them, ascending indices, shape=(m,)."""
    chosen = np.unique(np.asarray(atoms, dtype=int))
    _require_room(crystal, radius)
    points = unwrapped(crystal.positions[chosen], crystal.positions[chosen[0]], crystal.cell, crystal.pbc)
    pairs = pairs_within(crystal, neighbourhood(crystal, points, 1.01 * radius), radius)
    return np.union1d(chosen, pairs.j[np.isin(pairs.i, chosen)])


def partition_from(crystal: Crystal, core, buffer=(), *, centre=None, frozen=()) -> Partition:
    """Labels from index lists: core wins over buffer, buffer over frozen.

    Args:
        crystal: The crystal.
        core, buffer, frozen: Atom indices.
        centre: Centre of the region in angstrom; the middle of the core by default.

    Raises:
        RegionError: If the core is empty or an index does not exist.
    """
    core = np.asarray(core, dtype=int)
    if len(core) == 0:
        raise RegionError(
            "the core is empty: no atom was selected as quantum; enlarge `region.core` (more hops, a larger radius) or "
            "move `region.centre`"
        )
    for name, indices in (("core", core), ("buffer", np.asarray(buffer)), ("frozen", np.asarray(frozen))):
        if len(indices) and (indices.min() < 0 or indices.max() >= len(crystal)):
            raise RegionError(f"{name} names an atom outside 0..{len(crystal) - 1}: {indices.min()}..{indices.max()}")
    labels = np.full(len(crystal), HOST, dtype=np.int8)
    if centre is None:
        images = unwrapped(crystal.positions[core], crystal.positions[core[0]], crystal.cell, crystal.pbc)
        centre = images.mean(axis=0)
    partition = Partition(labels, centre).with_frozen(np.asarray(frozen, dtype=int))
    labels = partition.labels.copy()
    labels[np.asarray(buffer, dtype=int)] = BUFFER
    labels[core] = CORE
    return Partition(labels, centre)


def _require_room(crystal: Crystal, radius: float, along=None):
    """A sphere (or a cylinder along the cell vector `along`) must not meet its own periodic image."""
    if radius <= 0:
        raise RegionError(f"a region's radius must be positive (angstrom), got {radius}")
    counts = np.array(crystal.pbc)
    if along is not None:
        sine = np.linalg.norm(np.cross(crystal.cell, along), axis=1)
        counts &= sine > 1e-6 * np.linalg.norm(crystal.cell, axis=1) * np.linalg.norm(along)
    widths = crystal.widths[counts]
    if len(widths) and radius >= 0.5 * widths.min():
        shape = "sphere" if along is None else "cylinder"
        raise RegionError(
            f"a {shape} of radius {radius:.2f} A meets its own periodic image: the narrowest periodic width of the cell is "
            f"{widths.min():.2f} A, so the radius must stay below {0.5 * widths.min():.2f} A; use a larger supercell"
        )
