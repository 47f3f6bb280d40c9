"""Which operations of a space group a crystal still has: those that carry cell, atoms and labels onto themselves."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

_PROBES = 64  # atoms that are tried first


def site_operations(rotations, positions, cell, labels, centre, *, tolerance: float = 0.02):
    """Those `rotations` about `centre` that map a periodic crystal onto itself: see `kept_operations`."""
    rotations = np.asarray(rotations, dtype=float)
    translations = np.asarray(centre) - rotations @ np.asarray(centre)
    return kept_operations(rotations, translations, positions, cell, labels, tolerance=tolerance)


def kept_operations(rotations, translations, positions, cell, labels, *, tolerance: float = 0.02):
    """The operations x -> R x + t that map a periodic crystal onto itself.

    They must take the lattice of the cell onto itself, and each atom to within `tolerance` of one with the same label.

    Args:
        rotations: Candidates, Cartesian, shape=(n, 3, 3).
        translations: In angstrom, shape=(n, 3).
        positions: In angstrom, shape=(n_atoms, 3).
        cell: Periodic cell, rows in angstrom, shape=(3, 3).
        labels: What must not be mixed (species, regions) as integers, shape=(n_atoms,).
        tolerance: In angstrom.

    Returns:
        The kept rotations, shape=(m, 3, 3), and onto which atom each takes each atom, shape=(m, n_atoms). The identity is
        always among them, the first where it was not given.
    """
    positions, cell, labels = np.asarray(positions), np.asarray(cell), np.asarray(labels)
    to_fractional = np.linalg.inv(cell)
    scaled = _in_unit_cube(positions @ to_fractional)
    tree = cKDTree(scaled, boxsize=1.0)
    # No image farther away in fractional coordinates can be within the tolerance.
    reach = tolerance * np.linalg.norm(to_fractional, 2)
    kept, permutations = [], []
    for R, t in zip(rotations, translations):
        turned = cell @ R.T @ to_fractional
        if np.abs(turned - np.rint(turned)).max() > 1e-3:
            continue
        images = _in_unit_cube((positions @ R.T + t) @ to_fractional)
        distance, nearest = tree.query(images[:_PROBES], distance_upper_bound=reach)
        if np.isinf(distance).any():
            continue
        distance, nearest = tree.query(images, distance_upper_bound=reach)
        if np.isinf(distance).any():
            continue
        apart = images - scaled[nearest]
        distance = np.linalg.norm((apart - np.rint(apart)) @ cell, axis=1)
        if distance.max(initial=0.0) < tolerance and (labels[nearest] == labels).all():
            kept.append(R)
            permutations.append(nearest)
    if not any(np.allclose(R, np.eye(3)) for R in kept):
        kept.insert(0, np.eye(3))
        permutations.insert(0, np.arange(len(positions)))
    return np.array(kept), np.array(permutations)


def _in_unit_cube(scaled) -> np.ndarray:
    scaled = scaled - np.floor(scaled)
    return np.where(scaled >= 1.0, 0.0, scaled)
