"""Phonons of the perfect host by phonopy: its bands, its density of states, its force constants for a host without end."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from solidqmmm.engines.lammps import LammpsEngine
from solidqmmm.physics.geometry import perpendicular_widths
from solidqmmm.physics.vibrations.localized_modes import joined_bands
from solidqmmm.procedures.building.host_lattice import relaxed_ions
from solidqmmm.procedures.formation import primitive
from solidqmmm.system.crystal import Crystal

_DISPLACEMENT = 1e-3  # angstrom, as the host's Hessian
_SMALLEST_GAP = 0.02  # THz
# Beyond, the search for symmetry takes longer than the displacements that it saves: a minute for 1331 atoms.
_LARGEST_SYMMETRIC = 600  # atoms of phonopy's supercell
_BINS_PER_WIDTH = 40
_AT_REST = 1e-4  # eV/angstrom
# Wave vectors in each direction: edges of bands lie on the zone's boundary, at halves, quarters, eighths, thirds.
_MESHES = (4, 8, 12, *range(24, 1000, 24))


@dataclass(frozen=True, eq=False)
class BulkPhonons:
    """Phonons of a perfect crystal.

    Attributes:
        phonopy: The Phonopy object with its force constants, its atoms at rest.
        primitive: The primitive cell as the model has it, its atoms in the same order.
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

    @property
    def lowest_THz(self) -> float:
        """Lowest frequency, negative where the perfect crystal is unstable."""
        return float(self.phonopy.mesh.frequencies.min())

    def dos_per_THz(self, frequencies_THz, *, width_THz: float) -> np.ndarray:
        """Density of states in 1/THz with Gaussian broadening, its integral 3 per atom, shape=(k,)."""
        mesh = self.phonopy.mesh
        weights = np.broadcast_to(mesh.weights[:, None] / mesh.weights.sum(), mesh.frequencies.shape)
        low, high = mesh.frequencies.min(), mesh.frequencies.max()
        bins = max(int(_BINS_PER_WIDTH * (high - low) / width_THz), 1)
        counts, edges = np.histogram(mesh.frequencies, bins, weights=weights)
        centres = (edges[1:] + edges[:-1]) / 2
        off = (np.asarray(frequencies_THz)[:, None] - centres) / width_THz
        return np.exp(-0.5 * off**2) @ counts / (width_THz * np.sqrt(2 * np.pi) * len(self.primitive))


def bulk_phonons(model, force_range: float, *, masses: dict[str, float], mesh_density: float = 100.0) -> BulkPhonons:
    """Phonons of the model's perfect crystal in its host potential.

    Args:
        model: A `procedures.build.Model` with a host.
        force_range: Largest distance in angstrom at which a force depends on an atom; supercells are twice as wide.
        masses: In amu by element.
        mesh_density: Least number of mesh points along each reciprocal vector times the length of the cell vector in
            angstrom.
    """
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    periodic = np.asarray(model.unit.pbc)
    cell = primitive(_apart(model.unit, force_range))
    symbols = [chemical_symbols[z] for z in cell.numbers]
    widths, lengths = perpendicular_widths(cell.cell), np.linalg.norm(cell.cell, axis=1)
    repeats = np.where(periodic, np.ceil(2 * force_range / widths + 1e-9), 1).astype(int)
    symmetric = len(cell) * np.prod(repeats) <= _LARGEST_SYMMETRIC
    with LammpsEngine(model.potential) as engine:
        atoms = PhonopyAtoms(
            symbols=symbols,
            cell=cell.cell,
            positions=_at_rest(cell, engine),
            masses=[masses[symbol] for symbol in symbols],
        )
        phonopy = Phonopy(atoms, supercell_matrix=np.diag(repeats), primitive_matrix="P", is_symmetry=symmetric)
        phonopy.generate_displacements(distance=_DISPLACEMENT)
        supercells = phonopy.supercells_with_displacements
        phonopy.forces = [
            np.array(engine.evaluate(Atoms(s.symbols, cell=s.cell, positions=s.positions, pbc=True)).forces)
            for s in supercells
        ]
    phonopy.produce_force_constants(calculate_full_force_constants=False)  # rows of the primitive cell alone
    phonopy.symmetrize_force_constants(show_drift=False)
    mesh = [
        next(n for n in _MESHES if n >= least) if along else 1
        for least, along in zip(mesh_density / lengths, periodic)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # phonopy's advice about meshes
        phonopy.run_mesh(mesh, is_gamma_center=True)
    bands = joined_bands(phonopy.mesh.frequencies, smallest_gap=_SMALLEST_GAP)
    bands[:, 0] = np.maximum(bands[:, 0], 0.0)
    return BulkPhonons(phonopy, cell, bands, len(supercells))


def _at_rest(cell: Crystal, engine) -> np.ndarray:
    """Positions in angstrom at which no atom of a perfect cell feels a force: a given cell need not be relaxed."""
    forces = engine.evaluate(cell.to_atoms()).forces
    at_rest = cell if np.abs(forces).max() < _AT_REST else relaxed_ions(cell, engine)
    return at_rest.positions


def _apart(unit: Crystal, reach: float) -> Crystal:
    """A periodic cell whose images along directions without periodicity do not feel each other."""
    cell = np.array(unit.cell)
    for axis in np.flatnonzero(~np.asarray(unit.pbc)):
        normal = np.cross(cell[axis - 2], cell[axis - 1])
        normal /= np.linalg.norm(normal)
        cell[axis] = (np.ptp(unit.positions @ normal) + 2 * reach) * normal
    return replace(unit, cell=cell, pbc=(True, True, True), arrays={})
