"""The Laue class of a crystal, and the frame in which its elastic constants have their textbook form.

Elastic constants know of no inversion, so that the directions and orders of the rotation axes tell everything. Tetragonal
and rhombohedral classes are two each: II (4/m, -3) have no two-fold axes across the main one, and therefore C16, or C15,
beside the constants of I (4/mmm, -3m). Source: J. F. Nye, Physical Properties of Crystals (1957).
"""

from __future__ import annotations

from itertools import permutations

import numpy as np


def laue_class(rotations) -> tuple[str, np.ndarray]:
    """Laue class of a point group, and its frame.

    Args:
        rotations: All operations of the group, Cartesian, proper or not, shape=(n, 3, 3).

    Returns:
        "cubic", "hexagonal", "tetragonal I", "tetragonal II", "rhombohedral I", "rhombohedral II", "orthorhombic",
        "monoclinic" or "triclinic"; and the right-handed frame, axes as rows, shape=(3, 3): z is the main axis, x a two-fold
        axis across it where there is one; the cube's edges; the three two-fold axes. Unity for the two lowest classes.
    """
    axes = _axes(rotations)
    across = {order: [axis for n, axis in axes if n == order] for order in (2, 3, 4, 6)}
    if len(across[3]) == 4:
        edges = across[4] if len(across[4]) == 3 else across[2]
        return "cubic", _nearest_frame(edges)
    for order, name in ((6, "hexagonal"), (3, "rhombohedral"), (4, "tetragonal")):
        if across[order]:
            main = across[order][0]
            twofold = [axis for axis in across[2] if abs(axis @ main) < 0.1]
            kind = "" if order == 6 else " I" if twofold else " II"
            return name + kind, _frame_about(main, twofold)
    if len(across[2]) == 3:
        return "orthorhombic", _nearest_frame(across[2])
    return ("monoclinic" if across[2] else "triclinic"), np.eye(3)


def generated_group(generators) -> np.ndarray:
    """All products of a few orthogonal matrices, shape=(n, 3, 3); they must generate a finite group."""
    group = [np.eye(3)]
    for element in group:  # grows while it is read
        for g in generators:
            product = g @ element
            if not any(np.allclose(product, known, atol=1e-6) for known in group):
                group.append(product)
    return np.array(group)


def _axes(rotations):
    """Pairs of order and direction of each rotation axis, the order being the highest that the axis has."""
    found = []
    for R in np.asarray(rotations, dtype=float):
        R = R * np.sign(np.linalg.det(R))
        angle = np.degrees(np.arccos(np.clip((np.trace(R) - 1) / 2, -1, 1)))
        if angle < 5:
            continue
        order = round(360 / angle)  # both senses of a turn look alike: 240 degrees are 120, of order 3
        axis = np.linalg.eigh((R + R.T) / 2)[1][:, -1]
        axis = axis * np.sign(axis[np.argmax(np.abs(axis) > 0.1)])
        for k, (known, direction) in enumerate(found):
            if abs(direction @ axis) > 0.99:
                found[k] = (max(known, order), direction)
                break
        else:
            found.append((order, axis))
    return found


def _frame_about(main, twofold) -> np.ndarray:
    """z along the main axis, x along a two-fold axis, or else as near to the present x as it can be."""
    start = max(twofold or np.eye(3), key=lambda axis: (abs(axis @ main) < 0.9) * (1 + abs(axis[0])))
    x = start - (start @ main) * main
    x = x / np.linalg.norm(x)
    return np.array([x, np.cross(main, x), main])


def _nearest_frame(axes) -> np.ndarray:
    """Three perpendicular axes in the order that turns the present frame least."""
    x, y, _ = max(permutations(axes), key=lambda trial: np.abs(np.diag(trial)).sum())
    return np.array([x, y, np.cross(x, y)])
