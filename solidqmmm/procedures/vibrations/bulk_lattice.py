"""The perfect host as an infinite lattice: phonopy's force constants between cells, and the places of atoms in them."""

from __future__ import annotations

import numpy as np

from solidqmmm.errors import SolidQMMMError
from solidqmmm.physics.vibrations.localized_modes import frequencies_THz, joined_bands
from solidqmmm.physics.vibrations.perfect_lattice import PerfectLattice
from solidqmmm.procedures.vibrations.bulk_phonons import BulkPhonons

_SAME_PLACE = 0.05  # angstrom
_MESH = 24  # wave vectors in each direction, for the edges of bands
_SMALLEST_GAP = 0.02  # THz


class BulkLattice:
    """The perfect crystal as blocks of force constants between cells, from phonopy.

    Attributes:
        lattice: For Green's functions.
        blocks: K(0, R) by cell R, in eV/angstrom^2, shape=(3 b, 3 b) each.
        cell: Primitive vectors in angstrom, shape=(3, 3).
        positions: Of the atoms of the cell, as the model's crystal has them before it relaxes, in angstrom, shape=(b, 3).
        numbers: Their atomic numbers, shape=(b,).
    """

    def __init__(self, bulk: BulkPhonons):
        primitive, supercell = bulk.phonopy.primitive, bulk.phonopy.supercell
        vectors, counts = primitive.get_smallest_vectors()
        x, n = primitive.scaled_positions, len(primitive)
        in_cell = [primitive.p2p_map[k] for k in primitive.s2p_map]
        K = bulk.phonopy.force_constants
        rows = primitive.p2s_map if len(K) == len(supercell) else range(n)
        blocks: dict[tuple, np.ndarray] = {}
        for s, row in enumerate(rows):
            for i, t in enumerate(in_cell):
                many, start = counts[i, s]
                for vector in vectors[start : start + many]:
                    R = tuple(int(k) for k in np.rint(vector - x[t] + x[s]))
                    block = blocks.setdefault(R, np.zeros((3 * n, 3 * n)))
                    block[3 * s : 3 * s + 3, 3 * t : 3 * t + 3] += K[row, i] / many
        zero = np.zeros((3 * n, 3 * n))
        self.blocks = {
            R: (blocks.get(R, zero) + blocks.get(tuple(-k for k in R), zero).T) / 2
            for R in {*blocks, *(tuple(-k for k in R) for R in blocks)}
        }
        self.cell = np.array(primitive.cell)
        given = bulk.primitive.positions @ np.linalg.inv(self.cell) - x
        self.positions = (x + given - np.rint(given)) @ self.cell  # in the cells that phonopy puts atoms into
        self.numbers = np.array(primitive.numbers)
        self.lattice = PerfectLattice.from_blocks(
            list(self.blocks), list(self.blocks.values()), np.array(primitive.masses)
        )

    def sites(self, positions, numbers) -> np.ndarray:
        """Cell and atom of points of the perfect crystal, shape=(p, 4).

        Raises:
            SolidQMMMError: If they are no sites of this lattice.
        """
        inverse = np.linalg.inv(self.cell)
        for origin in np.flatnonzero(self.numbers == numbers[0]):
            scaled = (positions - positions[0] + self.positions[origin])[:, None] - self.positions
            scaled = scaled @ inverse
            cells = np.rint(scaled)
            off = np.linalg.norm((scaled - cells) @ self.cell, axis=2)
            off = np.where(self.numbers == numbers[:, None], off, np.inf)
            atom = off.argmin(axis=1)
            if off.min(axis=1).max() < _SAME_PLACE:
                return np.column_stack([cells[np.arange(len(atom)), atom].astype(int), atom])
        raise SolidQMMMError(
            "the supercell is no repetition of the primitive cell whose phonons were computed"
        )

    def between(self, sites) -> np.ndarray:
        """K(perfect) between sites in eV/angstrom^2, shape=(p, p, 3, 3)."""
        K = np.zeros((len(sites), len(sites), 3, 3))
        index = {tuple(site): i for i, site in enumerate(sites.tolist())}
        for R, block in self.blocks.items():
            for t in range(len(self.numbers)):
                pairs = [
                    (a, b)
                    for a, (x, y, z, _) in enumerate(sites.tolist())
                    if (b := index.get((x + R[0], y + R[1], z + R[2], t))) is not None
                ]
                if pairs:
                    a, b = np.array(pairs).T
                    rows = 3 * sites[a, 3][:, None] + np.arange(3)
                    K[a, b] = block[rows[:, :, None], 3 * t + np.arange(3)]
        return K


def bands_with_masses(bulk: BulkPhonons, masses: dict[str, float]) -> np.ndarray:
    """Lower and upper edge in THz of each band of the perfect host with other masses of its elements, shape=(b, 2).

    Args:
        bulk: Phonons of the perfect host.
        masses: In amu by symbol, for each of its elements.
    """
    primitive = bulk.phonopy.primitive
    wanted = np.array([masses[symbol] for symbol in primitive.symbols])
    if np.allclose(wanted, primitive.masses):
        return bulk.bands_THz
    blocks = BulkLattice(bulk).blocks
    lattice = PerfectLattice.from_blocks(list(blocks), list(blocks.values()), wanted)
    return joined_bands(frequencies_THz(lattice.squared_frequencies(_MESH)).clip(0), smallest_gap=_SMALLEST_GAP)
