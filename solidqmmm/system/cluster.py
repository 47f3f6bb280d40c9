"""The quantum cluster that was carved out of the crystal, and the map back."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from ase import Atoms

from solidqmmm.physics import link_atoms
from solidqmmm.physics.geometry import unwrapped
from solidqmmm.system.vacant_sites import VacantSites


@dataclass(frozen=True, eq=False)
class LinkAtoms:
    """Caps on cut bonds X-Y (X quantum, Y host).

    Attributes:
        inner: Index of X in the cluster's region, shape=(n,).
        outer: Index of Y in the cluster's region, shape=(n,).
        shift: Lattice translation of Y to the image bonded to X, in host cell vectors, shape=(n, 3).
        numbers: Atomic numbers of the caps, shape=(n,).
        length: Fixed bond length in angstrom or NaN, shape=(n,).
        ratio: Fixed ratio of the X-Y bond or NaN, shape=(n,).
        bond: Length of the X-Y bond at carving, in angstrom, shape=(n,).
        charges: Nuclear charge of fractional pseudo-hydrogens, NaN for ordinary caps, shape=(n,).

    Raises:
        ValueError: If a cap has both a length and a ratio, or neither.
    """

    inner: np.ndarray
    outer: np.ndarray
    shift: np.ndarray
    numbers: np.ndarray
    length: np.ndarray
    ratio: np.ndarray
    bond: np.ndarray
    charges: np.ndarray

    def __post_init__(self):
        for name, dtype in (
            ("inner", int), ("outer", int), ("shift", int), ("numbers", int),
            ("length", float), ("ratio", float), ("bond", float), ("charges", float),
        ):  # fmt: skip
            value = np.array(getattr(self, name), dtype=dtype)
            if name == "shift":
                value = value.reshape(-1, 3)
            value.flags.writeable = False
            object.__setattr__(self, name, value)
        if np.isnan(self.length).astype(int).sum() + np.isnan(self.ratio).astype(int).sum() != len(self.inner):
            raise ValueError("each cap needs either a fixed length or a fixed ratio")

    @classmethod
    def none(cls) -> LinkAtoms:
        """No caps at all (a bare cluster)."""
        return cls(*([np.empty(0)] * 8))

    def __len__(self):
        return len(self.inner)

    def without(self, index: int) -> LinkAtoms:
        """With cap `index` left out."""
        return LinkAtoms(*(np.delete(getattr(self, name), index, axis=0) for name in self.__dataclass_fields__))

    def with_classical(self, numbers) -> LinkAtoms:
        """The caps of the classical side: atoms of species `numbers` held at the host's own bond length."""
        return replace(
            self, numbers=numbers, length=self.bond, ratio=np.full(len(self), np.nan), charges=np.full(len(self), np.nan)
        )


@dataclass(frozen=True, eq=False)
class Cluster:
    """Quantum atoms, caps, and the way back to the host.

    The *region* is what the cluster needs to know of the host: its quantum atoms, followed by the host atoms Y whose bonds
    were cut. The engine sees the quantum atoms followed by the caps, moved by `offset` into its own cell.

    Attributes:
        region: Host indices of the region's atoms, quantum first, shape=(n_region,).
        n_quantum: Number of quantum atoms.
        core: Mask of core atoms among the quantum ones, shape=(n_quantum,).
        numbers: Atomic numbers of the region, shape=(n_region,).
        reference: Contiguous positions of the region at carving, in angstrom, shape=(n_region, 3).
        caps: The link atoms.
        cell: Cell of the engine in angstrom at carving, shape=(3, 3); vacuum included along non-periodic vectors.
        periodic_axes: Host cell vectors along which the cluster is periodic; the engine's cell vector of the same index
            then equals the host's.
        host_cell: Cell of the host at carving in angstrom, shape=(3, 3).
        host_pbc: Periodic directions of the host, shape=(3,).
        offset: Translation from host to engine coordinates in angstrom, shape=(3,).
        stretch: Lattice matching A, shape=(3, 3): the engine sees x A (see coupling/matching); 1 without matching.
        vacant: Sites among the quantum atoms that atoms have left, at carving, in the host's coordinates. They follow the
            host's cell and nothing else.
    """

    region: np.ndarray
    n_quantum: int
    core: np.ndarray
    numbers: np.ndarray
    reference: np.ndarray
    caps: LinkAtoms
    cell: np.ndarray
    periodic_axes: tuple[int, ...]
    host_cell: np.ndarray
    host_pbc: np.ndarray
    offset: np.ndarray
    stretch: np.ndarray = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    vacant: VacantSites = field(default_factory=VacantSites)

    def __post_init__(self):
        for name, dtype in (
            ("region", int), ("core", bool), ("numbers", int), ("reference", float), ("cell", float),
            ("host_cell", float), ("host_pbc", bool), ("offset", float), ("stretch", float),
        ):  # fmt: skip
            value = np.array(getattr(self, name), dtype=dtype)
            value.flags.writeable = False
            object.__setattr__(self, name, value)

    # --- facts --------------------------------------------------------------------------------------------------

    @property
    def quantum(self) -> np.ndarray:
        """Host indices of the quantum atoms, shape=(n_quantum,)."""
        return self.region[: self.n_quantum]

    @property
    def core_indices(self) -> np.ndarray:
        """Host indices of the core atoms, shape=(n_core,)."""
        return self.quantum[self.core]

    @property
    def engine_numbers(self) -> np.ndarray:
        """Atomic numbers as the engine sees them, shape=(n_quantum + n_caps,): quantum atoms, then caps."""
        return np.concatenate([self.numbers[: self.n_quantum], self.caps.numbers])

    @property
    def pbc(self) -> np.ndarray:
        """Whether the engine's cell is periodic along each of its vectors, booleans, shape=(3,)."""
        return np.isin(np.arange(3), self.periodic_axes)

    @property
    def n_electrons(self) -> float:
        """Number of electrons of the neutral cluster (sum of nuclear charges, fractional caps counted so)."""
        caps = np.where(np.isnan(self.caps.charges), self.caps.numbers, self.caps.charges)
        return float(self.numbers[: self.n_quantum].sum() + caps.sum())

    # --- the two directions of the map ----------------------------------------------------------------------------

    def contiguous(self, positions, host_cell, near=None) -> np.ndarray:
        """The images of the region's atoms that hang together, in angstrom, shape=(n_region, 3).

        Args:
            positions: Positions of the region's atoms in any image, shape=(n_region, 3).
            host_cell: Present cell of the host, shape=(3, 3).
            near: Contiguous positions not far away (the previous step); the reference by default, deformed with the cell.
        """
        near = self.reference_in(host_cell) if near is None else near
        return unwrapped(positions, near, host_cell, self.host_pbc)

    def reference_in(self, host_cell) -> np.ndarray:
        """The reference, deformed affinely with the host's cell, in angstrom, shape=(n_region, 3)."""
        return self._deformed(self.reference, host_cell)

    def _deformed(self, positions, host_cell) -> np.ndarray:
        if np.array_equal(host_cell, self.host_cell):
            return positions
        return positions @ np.linalg.solve(self.host_cell, host_cell)

    def _bond_ends(self, positions, host_cell):
        """Positions of X and of the bonded image of Y as the engine sees them (stretched), each of shape=(n_caps, 3)."""
        inner = positions[self.caps.inner]
        outer = positions[self.caps.outer] + self.caps.shift @ host_cell
        return inner @ self.stretch, outer @ self.stretch

    def engine_positions(self, positions, host_cell) -> np.ndarray:
        """Positions of quantum atoms and caps in the engine's cell, in angstrom, shape=(n_quantum + n_caps, 3).

        Args:
            positions: Contiguous positions of the region, shape=(n_region, 3).
            host_cell: Present cell of the host, shape=(3, 3).
        """
        quantum = positions[: self.n_quantum] @ self.stretch
        inner, outer = self._bond_ends(positions, host_cell)
        return np.vstack([quantum, link_atoms.place(inner, outer, self.caps.length, self.caps.ratio)]) + self.offset

    def region_forces(self, engine_forces, positions, host_cell) -> np.ndarray:
        """Forces on the engine's atoms, pulled back to the region by the exact chain rule, in eV/angstrom,
        shape=(n_region, 3).

        Args:
            engine_forces: On quantum atoms and caps in eV/angstrom, shape=(n_quantum + n_caps, 3).
            positions: Of the region, contiguous, in angstrom, shape=(n_region, 3).
            host_cell: The host's cell in angstrom, shape=(3, 3).
        """
        forces = np.zeros((len(self.region), 3))
        forces[: self.n_quantum] = engine_forces[: self.n_quantum]
        if len(self.caps):
            inner, outer = self._bond_ends(positions, host_cell)
            on_inner, on_outer = link_atoms.distribute(
                engine_forces[self.n_quantum :], inner, outer, self.caps.length, self.caps.ratio
            )
            np.add.at(forces, self.caps.inner, on_inner)
            np.add.at(forces, self.caps.outer, on_outer)
        return forces @ self.stretch.T

    def image_virial(self, engine_forces, positions, host_cell) -> np.ndarray:
        """Sum of (lattice shift of Y) (outer) (cap force handed to Y) in eV, shape=(3, 3): the part of the virial that
        x (outer) F over the region misses where a cut bond crosses the boundary of a periodic cluster."""
        inner, outer = self._bond_ends(positions, host_cell)
        _, on_outer = link_atoms.distribute(
            engine_forces[self.n_quantum :], inner, outer, self.caps.length, self.caps.ratio
        )
        return (self.caps.shift @ host_cell).T @ (on_outer @ self.stretch.T)

    def engine_cell(self, host_cell) -> np.ndarray:
        """The engine's cell in angstrom for the present cell of the host: periodic vectors follow, vacuum stays,
        shape=(3, 3).
        """
        cell = self.cell.copy()
        for axis in self.periodic_axes:
            cell[axis] = host_cell[axis] @ self.stretch
        return cell

    def bonded_outer_positions(self, positions, host_cell) -> np.ndarray:
        """Contiguous images of Y, one for each cap, in angstrom, shape=(n_caps, 3)."""
        return positions[self.caps.outer] + self.caps.shift @ host_cell

    def to_atoms(self, positions=None, host_cell=None) -> Atoms:
        """What the engine sees, as ASE Atoms with arrays `region` ('core', 'buffer', 'cap') and `host_index` (-1 for caps),
        and with the vacant sites (`VacantSites.of`) if there are any.

        Args:
            positions: Contiguous positions of the region in angstrom, shape=(n_region, 3); those at carving by default.
            host_cell: Present cell of the host, shape=(3, 3); that at carving by default.
        """
        positions = self.reference if positions is None else positions
        host_cell = self.host_cell if host_cell is None else host_cell
        atoms = Atoms(
            numbers=self.engine_numbers,
            positions=self.engine_positions(positions, host_cell),
            cell=self.engine_cell(host_cell),
            pbc=self.pbc,
        )
        labels = np.where(self.core, "core", "buffer").astype("U6")
        atoms.set_array("region", np.concatenate([labels, np.full(len(self.caps), "cap", dtype="U6")]))
        atoms.set_array("host_index", np.concatenate([self.quantum, np.full(len(self.caps), -1)]))
        if not np.isnan(self.caps.charges).all():
            atoms.set_array("cap_charge", np.concatenate([np.full(self.n_quantum, np.nan), self.caps.charges]))
        sites = self._deformed(self.vacant.positions, host_cell) @ self.stretch + self.offset
        return self.vacant.with_positions(sites).written_to(atoms)

    def with_caps(self, caps: LinkAtoms) -> Cluster:
        """The same cluster with other caps."""
        return replace(self, caps=caps)

    def placed(self, cell, offset) -> Cluster:
        """The same cluster in another engine cell (angstrom, shape=(3, 3)), moved by `offset` (angstrom, shape=(3,))."""
        return replace(self, cell=cell, offset=offset)

    def unstretched(self) -> Cluster:
        """The same cluster without lattice matching, its middle where it was in the engine's cell."""
        cell = self.cell.copy()
        for axis in self.periodic_axes:
            cell[axis] = self.host_cell[axis]
        middle = self.reference.mean(axis=0)
        return replace(self, stretch=np.eye(3), cell=cell, offset=self.offset + middle @ (self.stretch - np.eye(3)))
