"""What happened around a defect: shells of neighbours before and after, and how far every atom moved."""

from __future__ import annotations

import numpy as np

from solidqmmm.physics.geometry import distances_to_point, unwrapped
from solidqmmm.system.crystal import Crystal


def neighbour_shells(crystal: Crystal, centre, *, shells: int = 3, width: float = 0.15, exclude=()) -> list[np.ndarray]:
    """Indices of the atoms in the first shells around a point; a gap of `width` (angstrom) separates shells.

    Args:
        crystal: The crystal before relaxation.
        centre: The point in angstrom, shape=(3,).
        shells: How many shells.
        width: Smallest gap in distance between two shells, angstrom.
        exclude: Atoms that are no neighbours (the defect's own atom).
    """
    distance = distances_to_point(crystal.positions, centre, crystal.cell, crystal.pbc)
    distance[list(exclude)] = np.inf
    distance = np.where(distance <= 0.5 * crystal.widths.min(), distance, np.inf)
    order = np.argsort(distance, kind="stable")
    order = order[np.isfinite(distance[order])]
    cuts = np.flatnonzero(np.diff(distance[order]) > width) + 1
    return np.split(order, cuts)[:shells] if len(order) else []


def shell_displacements(before: Crystal, moved, centre, shells: list[np.ndarray]) -> list[dict]:
    """One plain dictionary for each atom of the shells (see DefectRelaxationResult.neighbour_displacements_A).

    Args:
        before: The crystal before relaxation.
        moved: How far every atom moved in angstrom, shape=(n, 3) (see `displacements`).
        centre: The defect in angstrom, shape=(3,).
        shells: Indices by shell.
    """
    rows = []
    for number, shell in enumerate(shells, start=1):
        start = unwrapped(before.positions[shell], centre, before.cell, before.pbc) - centre
        for atom, r, u in zip(shell, start, moved[shell], strict=True):
            distance = float(np.linalg.norm(r))
            rows.append(
                {
                    "index": int(atom),
                    "symbol": before.symbols[atom],
                    "shell": number,
                    "distance_before_A": distance,
                    "distance_after_A": float(np.linalg.norm(r + u)),
                    "radial_A": float(u @ r / distance) if distance > 0 else 0.0,
                    "displacement_A": u.tolist(),
                }
            )
    return rows


def pair_distances(crystal: Crystal, atoms) -> np.ndarray:
    """Distances in angstrom between all pairs of a few atoms, shape=(n (n - 1) / 2,)."""
    atoms = np.asarray(atoms, dtype=int)
    if len(atoms) < 2:
        return np.empty(0)
    x = unwrapped(crystal.positions[atoms], crystal.positions[atoms[0]], crystal.cell, crystal.pbc)
    i, j = np.triu_indices(len(atoms), k=1)
    return np.linalg.norm(x[i] - x[j], axis=1)


def displacements(before: Crystal, after: Crystal, centre) -> np.ndarray:
    """How far every atom moved, nearest images, in angstrom, shape=(n, 3).

    A periodic crystal may drift as a whole while it relaxes; the mean displacement of the half of the atoms that is farther
    from `centre` (angstrom, shape=(3,)) is taken out, so that the far field tends to zero.
    """
    moved = unwrapped(after.positions, before.positions, before.cell, before.pbc) - before.positions
    distance = distances_to_point(before.positions, centre, before.cell, before.pbc)
    return moved - moved[distance >= np.median(distance)].mean(axis=0)
