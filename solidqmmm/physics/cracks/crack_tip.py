"""Where a crack ends: the foremost point of its surfaces, by broken bonds or by atoms that lack neighbours.

Points that mark a surface (middles of bonds of the reference lattice that are broken, or under-coordinated atoms) are linked
where they lie near each other; only what hangs together with the surfaces behind counts. So bonds that heat stretches for a
moment, vacancies ahead and atoms on outer surfaces do not move the tip, nor do adatoms and reconstructed surfaces behind it.
Axes: x the direction of growth, z the front, periodic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Foremost:
    """The end of what hangs together.

    Attributes:
        points: The foremost point of each slice along the front, indices, shape=(m,); slices without any are left out.
        connected: Which points hang together with the seeds, shape=(n,).
    """

    points: np.ndarray
    connected: np.ndarray


def foremost_connected(
    points, seeds, *, link: float, period: float | None = None, slices: int = 1
) -> Foremost | None:
    """The foremost (largest x) of the points that hang together with the seeds.

    Args:
        points: In angstrom, shape=(n, 3).
        seeds: Which of them belong to the crack for certain (its mouth), shape=(n,).
        link: Points within this distance hang together, angstrom.
        period: Length along z after which the crystal repeats, angstrom; None where it does not.
        slices: Into how many slices along the front it is cut; the crack ends in each.

    Returns:
        None if there are no seeds: the crack is closed.

    Raises:
        ValueError: For a link or slices that are not positive.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    if link <= 0 or slices < 1:
        raise ValueError(
            f"`link` must be positive (angstrom) and `slices` at least 1, got {link} and {slices}"
        )
    points, seeds = np.asarray(points, dtype=float).reshape(-1, 3), np.asarray(seeds, dtype=bool)
    if not seeds.any():
        return None
    shifted, box = points - points.min(axis=0), None
    if period is not None:
        shifted[:, 2] = np.mod(points[:, 2], period)
        shifted[shifted[:, 2] >= period, 2] = 0.0  # rounding of a tiny negative number
        box = [0.0, 0.0, period]  # zero: not periodic
    pairs = cKDTree(shifted, boxsize=box).query_pairs(link, output_type="ndarray")
    n = len(points)
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    _, part = connected_components(graph, directed=False)
    connected = np.isin(part, part[seeds])
    where = np.flatnonzero(connected)
    if slices == 1:
        return Foremost(where[[np.argmax(points[where, 0])]], connected)
    length = period if period is not None else float(np.ptp(points[:, 2])) or 1.0
    z = np.mod(points[where, 2] - (0.0 if period is not None else points[:, 2].min()), length)
    slab = np.minimum((z / length * slices).astype(int), slices - 1)
    ends = [
        where[slab == k][np.argmax(points[where[slab == k], 0])] for k in range(slices) if (slab == k).any()
    ]
    return Foremost(np.array(ends), connected)


def bond_lengths(positions, i, j, images=0.0) -> np.ndarray:
    """Present lengths of bonds in angstrom, shape=(m,).

    Args:
        positions: Of all atoms in angstrom, shape=(n, 3).
        i, j: Ends of each bond, shape=(m,).
        images: What lies between j and its bonded image along z, angstrom, shape=(m,).
    """
    positions = np.asarray(positions)
    d = positions[j] - positions[i]
    d[:, 2] += images
    return np.sqrt(np.einsum("ij,ij->i", d, d))


def under_coordinated(positions, atoms, cutoff: float, full, *, period: float | None = None) -> np.ndarray:
    """Which of some atoms have fewer neighbours than in the perfect crystal, shape=(len(atoms),).

    Only their surroundings are searched: the cost is that of the few, whatever the size of the crystal, but for one pass
    over the positions.

    Args:
        positions: Of all atoms in angstrom, shape=(n, 3).
        atoms: Indices of those that are asked about, shape=(m,).
        cutoff: Distance below which two atoms are neighbours, angstrom.
        full: Number of neighbours of each of `atoms` in the perfect crystal, shape=(m,) or one number.
        period: Length along z after which the crystal repeats, angstrom.
    """
    positions, atoms = np.asarray(positions, dtype=float), np.asarray(atoms, dtype=int)
    if len(atoms) == 0:
        return np.zeros(0, dtype=bool)
    tree, asked = _surroundings(positions, positions[atoms], cutoff, period)
    counts = tree.query_ball_point(asked, cutoff, return_length=True) - 1
    return counts < np.asarray(full)


def in_void(positions, points, radius, *, period: float | None = None) -> np.ndarray:
    """Which points have no atom within `radius` (angstrom, a number or shape=(m,)), shape=(m,).

    Args:
        positions: Of all atoms in angstrom, shape=(n, 3).
        points: In angstrom, shape=(m, 3).
        radius: Larger than the interstices of the crystal.
        period: Length along z after which the crystal repeats, angstrom.
    """
    positions, points = np.asarray(positions, dtype=float), np.asarray(points, dtype=float)
    if len(points) == 0:
        return np.zeros(0, dtype=bool)
    reach = float(np.max(radius))
    tree, asked = _surroundings(positions, points, reach, period)
    nearest, _ = tree.query(asked, distance_upper_bound=reach)
    return nearest > radius


def _surroundings(positions, points, reach: float, period: float | None):
    """A tree of the atoms (and their images along z) near some points, and the points brought among them."""
    from scipy.spatial import cKDTree

    low, high = points.min(axis=0) - reach, points.max(axis=0) + reach
    around = positions[((positions[:, :2] >= low[:2]) & (positions[:, :2] <= high[:2])).all(axis=1)]
    if period is None:
        return cKDTree(around), points
    around, asked = around.copy(), points.copy()
    around[:, 2], asked[:, 2] = np.mod(around[:, 2], period), np.mod(asked[:, 2], period)
    n = int(np.ceil(reach / period))  # a short front is shorter than the reach
    shifts = np.zeros((2 * n + 1, 3))
    shifts[:, 2] = np.arange(-n, n + 1) * period
    images = (around + shifts[:, None]).reshape(-1, 3)
    low, high = asked[:, 2].min() - reach, asked[:, 2].max() + reach
    return cKDTree(images[(images[:, 2] > low) & (images[:, 2] < high)]), asked
