"""The Cartesian axes in which the IEEE standard writes the tensors of a crystal.

    cubic, tetragonal, hexagonal, trigonal:  x3 along c, x1 along a
    orthorhombic, c < a < b:                 x1, x2, x3 along a, b, c
    monoclinic, two-fold axis b, c < a:      x2 along b, x3 along c
    triclinic, c the longest:                x3 along c, x2 normal to a and c

Sources: ANSI/IEEE Std 176-1987, IEEE Standard on Piezoelectricity; for triclinic crystals the choice of pymatgen
(M. de Jong et al., Sci. Data 2, 150009 (2015)).
"""

from __future__ import annotations

import numpy as np

_EQUAL = 1e-4  # relative; lengths nearer than this count as equal and keep their order


def ieee_axes(space_group: int, cell) -> np.ndarray:
    """x1, x2 and x3 as rows, right-handed: a tensor given along the Cartesian axes of `cell` turns by them, shape=(3, 3).

    Args:
        space_group: Number of the space group.
        cell: Conventional cell in the standard setting (axes of trigonal crystals hexagonal, b the unique one of monoclinic
            crystals), rows, shape=(3, 3).

    Raises:
        ValueError: For a number that is none of a space group.
    """
    if not 1 <= space_group <= 230:
        raise ValueError(f"`space_group` must be a number from 1 to 230, got {space_group}")
    cell = np.asarray(cell, dtype=float)
    cell = cell * np.sign(np.linalg.det(cell))  # the same lattice; a mirrored one would turn the sign of C14
    a, b, c = cell
    if space_group >= 75:
        return _frame(x1=a, x3=c)
    if space_group >= 16:
        c, a, b = _by_length(a, b, c)
        return _frame(x1=a, x3=c)
    if space_group >= 3:
        return _frame(x2=b, x3=_by_length(a, c)[0])
    a, _, c = _by_length(a, b, c)
    return _frame(x2=np.cross(c, a), x3=c)


def _by_length(*vectors):
    shortest = min(np.linalg.norm(v) for v in vectors)
    return sorted(vectors, key=lambda v: round(np.linalg.norm(v) / (_EQUAL * shortest)))


def _frame(*, x3, x1=None, x2=None) -> np.ndarray:
    """x3 is kept, the other one made perpendicular to it."""
    given = x1 if x2 is None else x2
    z = x3 / np.linalg.norm(x3)
    across = given - (given @ z) * z
    across = across / np.linalg.norm(across)
    return np.array([across, np.cross(z, across), z] if x2 is None else [np.cross(across, z), across, z])
