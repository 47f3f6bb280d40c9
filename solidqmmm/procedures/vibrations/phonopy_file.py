"""The vibrations of a supercell in phonopy's own file, for everything that phonopy and its friends can do with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from solidqmmm.runtime import agree_on_failure, is_root, world

# The file holds every 3x3 block as text: 25 MB for 300 atoms.
LARGEST = 300


def write_phonopy(path, numbers, masses, positions, cell, K) -> bool:
    """`phonopy_params.yaml` with the crystal as its own unit cell, and its force constants; collective, rank 0 writes.

    `phonopy.load(path)` then gives frequencies at Gamma, those of the recipe's method `full`.

    Args:
        path: The file.
        numbers: Atomic numbers, shape=(n,).
        masses: In amu, shape=(n,).
        positions, cell: In angstrom.
        K: Force constants in eV/angstrom^2, sparse, shape=(3 n, 3 n).

    Returns:
        Whether it was written: crystals of more than 300 atoms are not, whose file would be too large.
    """
    n = len(numbers)
    if n > LARGEST:
        return False
    error = None
    if is_root():
        try:
            _write(Path(path), numbers, masses, positions, cell, K)
        except OSError as caught:
            error = caught
    agree_on_failure(world(), error)
    return True


def _write(path: Path, numbers, masses, positions, cell, K):
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    n = len(numbers)
    atoms = PhonopyAtoms(
        symbols=[chemical_symbols[z] for z in numbers], cell=cell, positions=positions, masses=np.asarray(masses)
    )
    phonopy = Phonopy(atoms, supercell_matrix=np.eye(3, dtype=int), primitive_matrix="P")
    phonopy.force_constants = np.ascontiguousarray(K.toarray().reshape(n, 3, n, 3).transpose(0, 2, 1, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    phonopy.save(path, settings={"force_constants": True})
