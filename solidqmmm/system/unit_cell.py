"""The conventional or the primitive cell of a crystal, with the way back to the atoms that were given."""

from __future__ import annotations

import warnings
from math import lcm

import numpy as np

from solidqmmm.errors import StructureError
from solidqmmm.system.crystal import Crystal

CELLS = ("conventional", "primitive", "as_given")

# Primitive vectors as rows, in conventional vectors, by centring (as spglib defines them).
_CENTRING = {
    "P": np.eye(3),
    "F": np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2,
    "I": np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]]) / 2,
    "A": np.array([[2, 0, 0], [0, 1, -1], [0, 1, 1]]) / 2,
    "C": np.array([[1, 1, 0], [-1, 1, 0], [0, 0, 2]]) / 2,
    "R": np.array([[2, 1, 1], [-1, 1, 1], [-1, -2, 1]]) / 3,
}


def in_cell(crystal: Crystal, cell: str, *, symprec: float = 1e-2) -> Crystal:
    """`crystal` in its conventional or primitive cell, in the standard orientation.

    A crystal that is already there stays as it is: same order, same orientation, same vectors. The atoms are
    translations of the given ones (not idealized), and the array `input_site` counts in the given crystal.

        new vectors (rows) = M @ old vectors,   M = C (P^-1)^T

    with P spglib's transformation matrix to the standard cell and C the centring.

    Args:
        crystal: The crystal; only fully periodic ones have such cells, others stay as they are.
        cell: 'conventional', 'primitive' or 'as_given'.
        symprec: Distance within which atoms count as symmetric, in angstrom.

    Raises:
        ValueError: For another `cell`.
        StructureError: If no symmetry is found.
    """
    if cell not in CELLS:
        raise ValueError(f"`cell` must be one of {', '.join(CELLS)}, got {cell!r}")
    tagged = crystal.with_arrays(input_site=np.arange(len(crystal)))
    if cell == "as_given" or not np.asarray(crystal.pbc).all():
        return tagged
    dataset = _dataset(crystal, symprec)
    if dataset is None:
        raise StructureError(
            "no symmetry was found: check for overlapping atoms, or set `structure.cell: as_given`"
        )
    standard = np.linalg.inv(dataset.transformation_matrix).T
    M = (_CENTRING[dataset.international[0]] if cell == "primitive" else np.eye(3)) @ standard
    if abs(abs(np.linalg.det(M)) - 1) < 1e-6 and np.allclose(M, np.rint(M), atol=1e-6):
        return tagged  # a cell of the right size already; its owner chose the vectors
    return _with_vectors(tagged, M).strained(dataset.std_rotation_matrix)


def primitive_cell(crystal: Crystal, *, symprec: float = 1e-3) -> Crystal:
    """One primitive cell of `crystal`, in the orientation that it has; itself if it is one, or no symmetry is found.

    Args:
        crystal: Periodic in three directions.
        symprec: Distance within which atoms count as translations of each other, in angstrom.
    """
    dataset = _dataset(crystal, symprec)
    if dataset is None:
        return crystal
    M = _CENTRING[dataset.international[0]] @ np.linalg.inv(dataset.transformation_matrix).T
    if abs(abs(np.linalg.det(M)) - 1) < 1e-6:
        return crystal
    return _with_vectors(crystal, M)


def symmetry_operations(crystal: Crystal, *, symprec: float = 1e-3) -> tuple[str, np.ndarray]:
    """Space group, such as 'Fd-3m (227)', and its point operations on vectors of the cell; the identity where none is found.

    Returns:
        The name, and integer matrices W with x' = W x for fractional coordinates, without repetition, shape=(m, 3, 3).
    """
    dataset = _dataset(crystal, symprec)
    if dataset is None:
        return "P1 (1)", np.eye(3, dtype=int)[None]
    return f"{dataset.international} ({dataset.number})", np.unique(dataset.rotations, axis=0)


def space_group(crystal: Crystal, *, symprec: float = 1e-2) -> tuple[np.ndarray, np.ndarray]:
    """Operations x' = W x + w on fractional coordinates, shape=(m, 3, 3) and (m, 3); the identity where none are found."""
    dataset = _dataset(crystal, symprec)
    if dataset is None:
        return np.eye(3, dtype=int)[None], np.zeros((1, 3))
    return dataset.rotations, dataset.translations


def _dataset(crystal: Crystal, symprec: float):
    import spglib

    scaled = crystal.positions @ np.linalg.inv(crystal.cell)
    with warnings.catch_warnings():
        # spglib announces another way of saying "none found"
        warnings.simplefilter("ignore", DeprecationWarning)
        return spglib.get_symmetry_dataset((crystal.cell, scaled, crystal.numbers), symprec=symprec)


def _with_vectors(crystal: Crystal, M: np.ndarray) -> Crystal:
    """In the cell M @ cell, where M is rational: repeated until it holds that cell, then reduced to it."""
    denominator = lcm(*(_denominator(x) for x in M.flat))
    repeats = np.rint(M * denominator).astype(int)
    large = crystal.supercell(repeats)
    if denominator == 1:
        return large
    cell = M @ crystal.cell
    scaled = np.round(large.positions @ np.linalg.inv(cell), 9)
    scaled = (scaled + 1e-4) % 1.0 - 1e-4
    # images of one atom come from the same or from equivalent given atoms; the first one stays
    key = np.rint(scaled / 2e-3).astype(int) % round(1 / 2e-3)
    _, first = np.unique(np.column_stack([key, large.numbers]), axis=0, return_index=True)
    first = np.sort(first)
    expected = len(crystal) * abs(np.linalg.det(M))
    if len(first) != round(expected):
        raise StructureError(
            f"the reduced cell should hold {expected:.2f} atoms but {len(first)} were found: it is "
            "symmetric only roughly; set `structure.cell: as_given`"
        )
    arrays = {name: np.asarray(value)[first] for name, value in large.arrays.items()}
    return Crystal(large.numbers[first], scaled[first] @ cell, cell, large.pbc, arrays)


def _denominator(x: float) -> int:
    for q in range(1, 49):
        if abs(x * q - round(x * q)) < 1e-4:
            return q
    raise StructureError(
        "the given cell and the standard cell share no common lattice; set `structure.cell: as_given`"
    )
