"""Whether a crystal repeats itself around some atoms, as a perfect one does and one with a defect does not."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from solidqmmm.system.crystal import Crystal

_TRIED = 20  # candidates for each atom; in a perfect crystal the first one fits


def repeats_around(crystal: Crystal, atoms, *, radius: float = 5.0, tolerance: float = 0.05) -> bool:
    """Whether each of `atoms` has another atom, not an image of its own, with the same neighbours at the same places.

    Args:
        crystal: The crystal.
        atoms: Indices.
        radius: How far neighbours count, angstrom.
        tolerance: How far from the same place a neighbour may be, angstrom.
    """
    positions, numbers = _with_images(crystal, radius + 2 * tolerance)
    tree, n = cKDTree(positions), len(crystal)

    def surroundings(atom):
        near = [k for k in tree.query_ball_point(positions[atom], radius - tolerance) if k != atom]
        return positions[near] - positions[atom], numbers[near]

    def found_at(candidates, away, kinds):
        """Those of `candidates` that have atoms of `kinds` at `away`."""
        for vector, kind in zip(away, kinds, strict=True):
            distance, hit = tree.query(positions[candidates] + vector, distance_upper_bound=tolerance)
            there = np.isfinite(distance)
            there[there] = numbers[hit[there]] == kind
            candidates = candidates[there]
        return candidates

    for atom in map(int, atoms):
        same = np.flatnonzero(numbers[:n] == numbers[atom])
        matches = found_at(same[same != atom], *surroundings(atom))
        here = np.array([atom])
        if not any(len(found_at(here, *surroundings(match))) for match in matches[:_TRIED]):
            return False
    return True


def _with_images(crystal: Crystal, margin: float):
    """Positions in the cell, those of the crystal first, then of images within `margin` of it; atomic numbers."""
    to_cell = np.linalg.inv(crystal.cell)
    pbc = np.asarray(crystal.pbc)
    scaled = crystal.positions @ to_cell
    scaled = np.where(pbc, scaled - np.floor(scaled), scaled)
    numbers, share = np.asarray(crystal.numbers), margin / crystal.widths
    for axis in np.flatnonzero(pbc):
        shifts = [k for k in range(-int(np.ceil(share[axis])), int(np.ceil(share[axis])) + 1) if k]
        images = [scaled + k * np.eye(3)[axis] for k in shifts]
        keep = [(x[:, axis] > -share[axis]) & (x[:, axis] < 1 + share[axis]) for x in images]
        scaled, numbers = (
            np.concatenate([scaled, *(x[k] for x, k in zip(images, keep, strict=True))]),
            np.concatenate([numbers, *(numbers[k] for k in keep)]),
        )
    return scaled @ crystal.cell, numbers
