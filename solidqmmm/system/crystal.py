"""The crystal: species and positions on arrays, so that a million sites cost megabytes and not minutes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii

from solidqmmm.errors import StructureError
from solidqmmm.physics.geometry import perpendicular_widths
from solidqmmm.system.structure_file import brief, read_structure


@dataclass(frozen=True, eq=False)
class Crystal:
    """Atoms in a periodic (or partly periodic) cell of any shape.

    Attributes:
        numbers: Atomic numbers, shape=(n,).
        positions: Cartesian positions in angstrom, shape=(n, 3); not necessarily inside the cell.
        cell: Cell vectors as rows in angstrom, shape=(3, 3).
        pbc: Which cell vectors are periodic, shape=(3,).
        arrays: Further per-atom arrays (coordination, region ...), each of length n. `charges` (e) go before those of the
            species in a host with charges; NaN leaves an atom the charge of its species.

    Raises:
        StructureError: For arrays that do not fit together, a flat cell, or positions that are not finite.
    """

    numbers: np.ndarray
    positions: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray = (True, True, True)
    arrays: dict = field(default_factory=dict)

    def __post_init__(self):
        for name, dtype, shape in (
            ("numbers", np.int32, (-1,)),
            ("positions", float, (-1, 3)),
            ("cell", float, (3, 3)),
            ("pbc", bool, (3,)),
        ):
            value = np.array(getattr(self, name), dtype=dtype).reshape(shape)
            value.flags.writeable = False
            object.__setattr__(self, name, value)
        n = len(self.numbers)
        if len(self.positions) != n:
            raise StructureError(f"{n} atomic numbers but {len(self.positions)} positions were given")
        for key, value in self.arrays.items():
            if len(value) != n:
                raise StructureError(f"per-atom array '{key}' has length {len(value)}, expected {n}")
        if not np.isfinite(self.positions).all():
            bad = int(np.flatnonzero(~np.isfinite(self.positions).all(axis=1))[0])
            raise StructureError(f"position of atom {bad} is not finite: {self.positions[bad]}")
        if not abs(np.linalg.det(self.cell)) >= 1e-6 or not np.isfinite(self.cell).all():
            raise StructureError(f"the cell has no volume: {self.cell.tolist()}")

    def __len__(self):
        return len(self.numbers)

    # --- ways in ------------------------------------------------------------------------------------------------

    @classmethod
    def from_atoms(cls, atoms: Atoms) -> Crystal:
        """From ASE Atoms; cell vectors that are missing along non-periodic directions are an error."""
        known = {"numbers", "positions"}
        arrays = {key: value.copy() for key, value in atoms.arrays.items() if key not in known}
        return cls(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, arrays)

    @classmethod
    def from_structure(cls, structure) -> Crystal:
        """From a pymatgen Structure.

        Raises:
            StructureError: For disordered sites; names the first.
        """
        disordered = [i for i, site in enumerate(structure) if not site.is_ordered]
        if disordered:
            i = disordered[0]
            raise StructureError(
                f"site {i} is disordered ({structure[i].species_string}), and {len(disordered)} site(s) in all; an ordered "
                "structure is needed: choose one with pymatgen's OrderDisorderedStructureTransformation"
            )
        arrays = {}
        for key, values in structure.site_properties.items():
            if not any(value is None for value in values):
                arrays[key] = np.array(values)
        oxidation = [getattr(site.specie, "oxi_state", None) for site in structure]
        if oxidation and all(state is not None for state in oxidation):
            arrays.setdefault("oxidation_state", np.array(oxidation, dtype=float))
        numbers = [site.specie.Z for site in structure]
        return cls(numbers, structure.cart_coords, structure.lattice.matrix, structure.lattice.pbc, arrays)

    @classmethod
    def of(cls, source) -> Crystal:
        """From anything users hold: Crystal, Structure, Atoms, or the path of a file that pymatgen or ASE reads.

        Raises:
            TypeError: For anything else.
            StructureError: For a file that cannot be read, or a disordered structure.
        """
        if isinstance(source, cls):
            return source
        if isinstance(source, Atoms):
            return cls.from_atoms(source)
        if isinstance(source, str | Path):
            return cls._in_file(source)
        if hasattr(source, "cart_coords") and hasattr(source, "lattice"):
            return cls.from_structure(source)
        raise TypeError(
            f"a structure must be a pymatgen Structure, ASE Atoms, a Crystal or a file's path, got {type(source).__name__}"
        )

    @classmethod
    def _in_file(cls, path) -> Crystal:
        found = read_structure(path)
        try:
            crystal = cls.of(found)
            if len(crystal) == 0:
                raise StructureError("there are no atoms in it")
            if (crystal.numbers < 1).any():
                raise StructureError(f"site {int(np.argmin(crystal.numbers))} is of no element")
        except Exception as error:  # StructureError, and what libraries make of odd species and lattices
            raise StructureError(f"{path} holds no structure that can be used: {brief(error)}") from error
        return crystal

    # --- ways out -----------------------------------------------------------------------------------------------

    def to_atoms(self) -> Atoms:
        """As ASE Atoms, with the per-atom arrays."""
        atoms = Atoms(numbers=self.numbers, positions=self.positions, cell=self.cell, pbc=self.pbc)
        for key, value in self.arrays.items():
            atoms.set_array(key, np.asarray(value))
        return atoms

    def to_structure(self):
        """As a pymatgen Structure (slow and large beyond 1e5 sites)."""
        from pymatgen.core import Lattice, Structure

        return Structure(
            Lattice(self.cell, pbc=tuple(bool(p) for p in self.pbc)),
            [chemical_symbols[z] for z in self.numbers],
            self.positions,
            coords_are_cartesian=True,
            site_properties={key: np.asarray(value).tolist() for key, value in self.arrays.items()},
        )

    # --- facts --------------------------------------------------------------------------------------------------

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """Chemical symbols in atom order."""
        return tuple(chemical_symbols[z] for z in self.numbers)

    @property
    def species(self) -> tuple[str, ...]:
        """Distinct chemical symbols, in order of first appearance."""
        _, first = np.unique(self.numbers, return_index=True)
        return tuple(chemical_symbols[self.numbers[i]] for i in sorted(first))

    @property
    def volume(self) -> float:
        """Cell volume in angstrom^3."""
        return float(abs(np.linalg.det(self.cell)))

    @property
    def widths(self) -> np.ndarray:
        """Perpendicular widths of the cell in angstrom, shape=(3,)."""
        return perpendicular_widths(self.cell)

    # --- verbs that return a new crystal ------------------------------------------------------------------------

    def with_positions(self, positions, cell=None) -> Crystal:
        """The same atoms at other positions (angstrom, shape=(n, 3)) and, on request, in another cell."""
        return replace(self, positions=positions, cell=self.cell if cell is None else cell)

    def with_arrays(self, **arrays) -> Crystal:
        """The same crystal with further per-atom arrays (a value of None removes one)."""
        merged = {**self.arrays, **arrays}
        return replace(self, arrays={key: np.asarray(value) for key, value in merged.items() if value is not None})

    def strained(self, deformation) -> Crystal:
        """Homogeneously deformed by F, shape=(3, 3): x -> F x for positions and cell vectors alike."""
        F = np.asarray(deformation, dtype=float)
        return replace(self, positions=self.positions @ F.T, cell=self.cell @ F.T)

    def supercell(self, repeats) -> Crystal:
        """Repeated by three integers or by an integer 3x3 matrix whose rows are the new cell vectors.

        Raises:
            StructureError: If the repeats are not positive integers or the matrix has no volume.
        """
        matrix = np.asarray(repeats)
        if matrix.shape == (3,):
            matrix = np.diag(matrix)
        if matrix.shape != (3, 3) or not np.array_equal(matrix, np.rint(matrix)):
            raise StructureError(f"supercell must be three integers or an integer 3x3 matrix, got {repeats!r}")
        matrix = np.rint(matrix).astype(int)
        n_cells = abs(round(np.linalg.det(matrix)))
        if n_cells == 0 or ((np.diag(np.diag(matrix)) == matrix).all() and (np.diag(matrix) < 1).any()):
            raise StructureError(f"supercell {repeats!r} has no volume or a repeat below 1")
        shifts = _lattice_points_inside(matrix)
        if len(shifts) != n_cells:
            raise StructureError(f"supercell matrix {repeats!r} gave {len(shifts)} cells, expected {n_cells}")
        # Cell by cell, so that the atoms of one primitive cell stay neighbours in memory.
        positions = (shifts @ self.cell)[:, None, :] + self.positions[None, :, :]
        arrays = {key: np.tile(value, (n_cells,) + (1,) * (np.ndim(value) - 1)) for key, value in self.arrays.items()}
        return Crystal(
            np.tile(self.numbers, n_cells), positions.reshape(-1, 3), matrix @ self.cell, self.pbc, arrays
        )

    def without(self, index: int) -> Crystal:
        """With atom `index` removed (a vacancy)."""
        keep = np.arange(len(self)) != self._checked(index)
        arrays = {key: np.asarray(value)[keep] for key, value in self.arrays.items()}
        return replace(self, numbers=self.numbers[keep], positions=self.positions[keep], arrays=arrays)

    def substituted(self, index: int, element: str) -> Crystal:
        """With the species of atom `index` replaced by `element`, which gets no charge of its own."""
        numbers, arrays = self.numbers.copy(), dict(self.arrays)
        numbers[self._checked(index)] = chemical_symbols.index(element)
        if "charges" in arrays:
            arrays["charges"] = np.array(arrays["charges"], dtype=float)
            arrays["charges"][index] = np.nan
        return replace(self, numbers=numbers, arrays=arrays)

    def with_extra(self, element: str, position) -> Crystal:
        """With one atom appended (an interstitial) at `position` in angstrom; per-atom arrays get a zero or empty entry,
        `charges` NaN.
        """
        arrays = {
            key: np.concatenate([value, np.zeros((1, *np.shape(value)[1:]), dtype=np.asarray(value).dtype)])
            for key, value in self.arrays.items()
        }
        if "charges" in arrays:
            arrays["charges"] = np.append(np.asarray(self.arrays["charges"], dtype=float), np.nan)
        return replace(
            self,
            numbers=np.append(self.numbers, chemical_symbols.index(element)),
            positions=np.vstack([self.positions, np.asarray(position, dtype=float)]),
            arrays=arrays,
        )

    def _checked(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise StructureError(f"site {index} does not exist: the crystal has {len(self)} atoms (0 to {len(self) - 1})")
        return index

    def require_separation(self, shortest_fraction: float = 0.5) -> Crystal:
        """Itself, if no two atoms are nearer than `shortest_fraction` of the sum of their covalent radii.

        Raises:
            StructureError: Naming the nearest pair otherwise.
        """
        from matscipy.neighbours import neighbour_list

        largest = 2 * covalent_radii[self.numbers].max() * shortest_fraction
        i, j, d = neighbour_list("ijd", positions=self.positions, cell=self.cell, pbc=self.pbc, cutoff=float(largest))
        too_near = d < shortest_fraction * (covalent_radii[self.numbers[i]] + covalent_radii[self.numbers[j]])
        if too_near.any():
            k = np.flatnonzero(too_near)[np.argmin(d[too_near])]
            raise StructureError(
                f"atoms {i[k]} ({self.symbols[i[k]]}) and {j[k]} ({self.symbols[j[k]]}) overlap: they are {d[k]:.3f} A "
                "apart; check the structure file, its units and the supercell"
            )
        return self


def _lattice_points_inside(matrix: np.ndarray) -> np.ndarray:
    """Integer lattice vectors inside the parallelepiped spanned by the rows of `matrix`, shape=(|det|, 3)."""
    if (np.diag(np.diag(matrix)) == matrix).all():
        counts = np.diag(matrix)
        return np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), axis=-1).reshape(-1, 3)
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) @ matrix
    low, high = corners.min(axis=0), corners.max(axis=0)
    box = np.stack(
        np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(low, high, strict=True)), indexing="ij"), axis=-1
    ).reshape(-1, 3)
    fractional = box @ np.linalg.inv(matrix)
    return box[((fractional > -1e-9) & (fractional < 1 - 1e-9)).all(axis=1)]
