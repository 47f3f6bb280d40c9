"""Phonons of the perfect host by phonopy: its bands, its density of states, its force constants for a host without end."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from solidqmmm.engines.lammps import LammpsEngine
from solidqmmm.physics.geometry import perpendicular_widths
from solidqmmm.physics.localized_modes import joined_bands
from solidqmmm.procedures.formation import primitive
from solidqmmm.system.crystal import Crystal

_DISPLACEMENT = 1e-3  # angstrom, as the host's Hessian
_SMALLEST_GAP = 0.02  # THz
# Beyond, the search for symmetry takes longer than the displacements that it saves: a minute for 1331 atoms.
_LARGEST_SYMMETRIC = 600  # atoms of phonopy's supercell
_BINS_PER_WIDTH = 40


@dataclass(frozen=True, eq=False)
class BulkPhonons:
    """Phonons of a perfect crystal.

    Attributes:
        phonopy: The Phonopy object with its force constants.
        primitive: The primitive cell.
        bands_THz: Lower and upper edge of each band, shape=(b, 2).
        n_force_evaluations: Of supercells.
    """

    phonopy: object
    primitive: Crystal
    bands_THz: np.ndarray
    n_force_evaluations: int

    @property
    def band_top_THz(self) -> float:
        """Highest frequency."""
        return float(self.bands_THz.max())

    def dos_per_THz(self, frequencies_THz, *, width_THz: float) -> np.ndarray:
        """Density of states with Gaussian broadening, 3 per atom, shape=(k,)."""
        mesh = self.phonopy.mesh
        weights = np.broadcast_to(mesh.weights[:, None] / mesh.weights.sum(), mesh.frequencies.shape)
        low, high = mesh.frequencies.min(), mesh.frequencies.max()
        bins = max(int(_BINS_PER_WIDTH * (high - low) / width_THz), 1)
        counts, edges = np.histogram(mesh.frequencies, bins, weights=weights)
        centres = (edges[1:] + edges[:-1]) / 2
        off = (np.asarray(frequencies_THz)[:, None] - centres) / width_THz
        return np.exp(-0.5 * off**2) @ counts / (width_THz * np.sqrt(2 * np.pi) * len(self.primitive))

    def frequencies_of_supercell(self, cell) -> np.ndarray:
        """All frequencies of a perfect supercell (its wave vectors folded to Gamma) in THz, shape=(3 n,)."""
        M = np.rint(np.asarray(cell) @ np.linalg.inv(self.primitive.cell)).astype(int)
        self.phonopy.run_qpoints(commensurate_points(M))
        return np.sort(np.ravel(self.phonopy.qpoints.frequencies))


def commensurate_points(matrix) -> np.ndarray:
    """Wave vectors (fractional) of which a supercell holds whole waves, shape=(|det|, 3).

    Args:
        matrix: Rows are the supercell's vectors in primitive ones, integer, shape=(3, 3).
    """
    M = np.asarray(matrix, dtype=int)
    inverse = np.linalg.inv(M)
    reach = np.ceil(np.abs(M).sum(axis=0)).astype(int)
    box = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), axis=-1).reshape(-1, 3)
    q = box @ inverse.T
    return np.unique(np.round(q - np.floor(q + 1e-9), 8), axis=0)


def bulk_phonons(model, force_range: float, *, masses: dict[str, float], mesh_density: float = 100.0) -> BulkPhonons:
    """Phonons of the model's perfect crystal in its host potential.

    Args:
        model: A `procedures.build.Model` with a host.
        force_range: Largest distance in angstrom at which a force depends on an atom; supercells are twice as wide.
        masses: In amu by element.
        mesh_density: Mesh points along each reciprocal vector times the length of the cell vector in angstrom.
    """
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    cell = primitive(model.unit)
    symbols = [chemical_symbols[z] for z in cell.numbers]
    atoms = PhonopyAtoms(
        symbols=symbols, cell=cell.cell, positions=cell.positions, masses=[masses[s] for s in symbols]
    )
    repeats = np.ceil(2 * force_range / perpendicular_widths(cell.cell) + 1e-9).astype(int)
    symmetric = len(cell) * np.prod(repeats) <= _LARGEST_SYMMETRIC
    phonopy = Phonopy(atoms, supercell_matrix=np.diag(repeats), primitive_matrix="P", is_symmetry=symmetric)
    phonopy.generate_displacements(distance=_DISPLACEMENT)
    supercells = phonopy.supercells_with_displacements
    with LammpsEngine(model.potential) as engine:
        phonopy.forces = [
            np.array(engine.evaluate(Atoms(s.symbols, cell=s.cell, positions=s.positions, pbc=True)).forces)
            for s in supercells
        ]
    phonopy.produce_force_constants(calculate_full_force_constants=False)  # rows of the primitive cell alone
    phonopy.symmetrize_force_constants(show_drift=False)
    lengths = np.linalg.norm(cell.cell, axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # phonopy's advice about meshes
        phonopy.run_mesh(np.maximum(np.ceil(mesh_density / lengths), 4).astype(int).tolist(), is_gamma_center=True)
    bands = joined_bands(phonopy.mesh.frequencies, smallest_gap=_SMALLEST_GAP)
    bands[:, 0] = np.maximum(bands[:, 0], 0.0)
    return BulkPhonons(phonopy, cell, bands, len(supercells))
