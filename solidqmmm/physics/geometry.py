"""Distances in periodic cells of any shape."""

from __future__ import annotations

import numpy as np


def perpendicular_widths(cell) -> np.ndarray:
    """Distances between opposite faces of a cell: w_k = V / |a_i x a_j|.

    Args:
        cell: Cell vectors as rows in angstrom, shape=(3, 3).

    Returns:
        Widths in angstrom, shape=(3,).
    """
    return 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)


def unwrapped(positions, reference, cell, pbc) -> np.ndarray:
    """The periodic images of `positions` that lie nearest to `reference` in fractional coordinates.

    Exact whenever every true distance is below half of the smallest perpendicular width: the fractional difference along
    axis k is then below 1/2, whatever the shape of the cell.

    Args:
        positions: Positions in angstrom, shape=(n, 3).
        reference: One point, shape=(3,), or one for each position, shape=(n, 3).
        cell: Cell vectors as rows in angstrom, shape=(3, 3).
        pbc: Periodic directions, shape=(3,).

    Returns:
        Positions in angstrom, shape=(n, 3).
    """
    positions = np.asarray(positions, dtype=float)
    if not np.any(pbc):
        return positions.copy()
    shift = np.rint((positions - reference) @ np.linalg.inv(cell)) * np.asarray(pbc, dtype=bool)
    return positions - shift @ cell


def distances_to_point(positions, point, cell, pbc) -> np.ndarray:
    """Distances in angstrom from `point` to the nearest image of each position (below half a width), shape=(n,)."""
    return np.linalg.norm(unwrapped(positions, point, cell, pbc) - point, axis=1)


def distances_to_line(positions, point, direction, cell, pbc) -> np.ndarray:
    """Distances in angstrom from the line through `point` along `direction` to each position, shape=(n,)."""
    direction = np.asarray(direction, dtype=float)
    direction = direction / np.linalg.norm(direction)
    offset = unwrapped(positions, point, cell, pbc) - point
    return np.linalg.norm(offset - np.outer(offset @ direction, direction), axis=1)


def triangular_frame(cell) -> tuple[np.ndarray, np.ndarray]:
    """Rotates a cell to the lower triangular form that LAMMPS asks for: `cell @ Q` with positive diagonal.

    For left-handed cells Q contains a reflection, under which every interatomic potential is invariant.

    Args:
        cell: Cell vectors as rows in angstrom, shape=(3, 3).

    Returns:
        The triangular cell (rows, angstrom, shape=(3, 3)) and Q, shape=(3, 3); vectors map as `v @ Q`.
    """
    q, r = np.linalg.qr(np.asarray(cell, dtype=float).T)
    signs = np.sign(np.diag(r))
    signs[signs == 0] = 1.0
    Q = q * signs
    triangular = np.asarray(cell) @ Q
    return np.tril(triangular), Q


def vacuum_along(positions, cell) -> np.ndarray:
    """Widest layer without atoms along the normal of each pair of faces of a periodic cell, in angstrom, shape=(3,).

    Args:
        positions: Positions in angstrom, shape=(n, 3).
        cell: Cell vectors as rows in angstrom, shape=(3, 3).
    """
    heights = np.sort((positions @ np.linalg.inv(cell)) % 1.0, axis=0)
    gaps = np.diff(heights, axis=0, append=heights[:1] + 1.0)
    return gaps.max(axis=0) * perpendicular_widths(cell)


def placed_after_vacuum(positions, cell, axis: int) -> np.ndarray:
    """Heights along the normal of the faces `axis`, in angstrom from the end of the widest empty layer, shape=(n,)."""
    heights = (positions @ np.linalg.inv(cell))[:, axis] % 1.0
    ordered = np.sort(heights)
    start = ordered[(int(np.argmax(np.diff(ordered, append=ordered[0] + 1.0))) + 1) % len(ordered)]
    # A little early, so that rounding leaves the first layer together.
    return ((heights - start + 1e-9) % 1.0) * perpendicular_widths(cell)[axis]
