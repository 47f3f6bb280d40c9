"""The symmetry that a strain series or a Hessian may use: of the perfect crystal, or what defect and region leave of it."""

from __future__ import annotations

import warnings

import numpy as np

from solidqmmm.engines.journal import without_journal
from solidqmmm.physics.symmetry.crystal_symmetry import cartesian_rotations
from solidqmmm.physics.symmetry.site_symmetry import kept_operations, site_operations
from solidqmmm.system.crystal import Crystal

SYMPREC = 1e-3  # angstrom
_LARGEST_CELL = 20_000  # atoms; spglib takes seconds there


def space_group_operations(crystal: Crystal) -> tuple[np.ndarray, np.ndarray]:
    """One operation for each rotation of the space group: Cartesian rotations, shape=(n, 3, 3), translations in angstrom.

    A cell of more than 20,000 atoms, or one in which spglib finds nothing, has the identity alone.
    """
    found = _spglib("get_symmetry", crystal)
    if found is None:
        return np.eye(3)[None], np.zeros((1, 3))
    _, first = np.unique(found["rotations"], axis=0, return_index=True)
    first = np.sort(first)
    rotations = cartesian_rotations(found["rotations"][first], crystal.cell)
    return rotations, found["translations"][first] @ crystal.cell


def conventional_cell(crystal: Crystal) -> tuple[int, np.ndarray]:
    """Number of the space group, and the conventional cell in the standard setting, not turned, rows in angstrom,
    shape=(3, 3).

    Of more than 20,000 atoms, or where spglib finds nothing: space group 1 and the cell as it is.
    """
    found = _spglib("get_symmetry_dataset", crystal)
    if found is None:
        return 1, np.array(crystal.cell)
    return int(found.number), np.linalg.inv(found.transformation_matrix).T @ crystal.cell


def _spglib(question: str, crystal: Crystal):
    """What a function of spglib says of a crystal, or None."""
    import spglib

    if len(crystal) > _LARGEST_CELL:
        return None
    scaled = crystal.positions @ np.linalg.inv(crystal.cell)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # spglib announces another way of saying "none found"
        return getattr(spglib, question)((crystal.cell, scaled, crystal.numbers), symprec=SYMPREC)


def defect_operations(model, positions, cell, *, perfect: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Operations of the perfect crystal about the centre of defect and region that keep species, regions and positions.

    Moments that the study gives atom by atom are kept too.

    Args:
        model: A `procedures.build.Model`.
        positions, cell: Where its atoms are, angstrom; the cell may be strained against the model's.
        perfect: Whether these are the atoms of the crystal without the defect.

    Returns:
        Cartesian rotations, shape=(m, 3, 3), and onto which atom each takes each atom, shape=(m, n).
    """
    start = model.perfect if perfect else model.crystal
    partition = model.perfect_partition if perfect else model.partition
    rotations, _ = space_group_operations(model.unit)
    centre = partition.centre @ np.linalg.solve(start.cell, cell)
    kinds = np.column_stack([start.numbers, partition.labels, _moments(model, len(start))])
    return site_operations(rotations, positions, cell, _labels(kinds), centre)


def crystal_operations(model, crystal: Crystal, positions, cell) -> tuple[np.ndarray, np.ndarray]:
    """Operations of a whole cell of a model's crystal that still hold at `positions`, angstrom, shape=(n, 3).

    Returns:
        Rotations, shape=(m, 3, 3), and permutations of the atoms, shape=(m, n), as `defect_operations`.
    """
    rotations, translations = space_group_operations(crystal)
    D = np.linalg.solve(crystal.cell, cell)
    kinds = np.column_stack([crystal.numbers, _moments(model, len(crystal))])
    return kept_operations(rotations, translations @ D, positions, cell, _labels(kinds))


def _labels(kinds) -> np.ndarray:
    """One whole number for each distinct row, shape=(n,)."""
    return np.unique(kinds, axis=0, return_inverse=True)[1].ravel()


def _moments(model, n: int) -> np.ndarray:
    """Initial moments that the study gives atom by atom, else zeros, shape=(n,)."""
    moments = getattr(without_journal(model.engine), "magmoms", None)
    if moments is None or isinstance(moments, dict) or len(moments) != n:
        return np.zeros(n)
    return np.asarray(moments, dtype=float)
