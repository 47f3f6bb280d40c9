"""A defect's modes in a host without end: the supercell says what the defect changes, the perfect lattice gives the rest.

    dK = K(crystal with the defect) - K(perfect),     det(1 - G0(lambda) (dK - lambda dM)) = 0

on the perturbed sites (`physics.greens_function`). K(perfect) is made of the bulk's force constants by phonopy. Sites are
perturbed where a block of dK exceeds a tolerance, the nearest first; dK on them is made to obey the acoustic sum rule. What
is left of the supercell's size is the relaxation: the atoms of a finite crystal are not where those of an infinite one are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from solidqmmm.errors import RegionError, SolidQMMMError
from solidqmmm.physics.force_constants import symmetrized, with_sum_rule
from solidqmmm.physics.geometry import unwrapped
from solidqmmm.physics.greens_function import (
    InfiniteModes,
    LatticeDefect,
    infinite_host_modes,
    motion_of_sites,
)
from solidqmmm.physics.localized_modes import frequencies_THz, squared_frequencies
from solidqmmm.physics.perfect_lattice import PerfectLattice
from solidqmmm.procedures.bulk_phonons import BulkPhonons

TOLERANCE = 1e-3  # eV/angstrom^2; force constants of bonds are of the order of ten
MOST_SITES = 150
MARGINS = (
    2e-3,
    1e-2,
    3e-2,
)  # relative distances from the bands, the first that a mesh of wave vectors resolves
_SAME_PLACE = 0.05  # angstrom
_SAME_SHELL = 1e-3  # angstrom


@dataclass(frozen=True, eq=False)
class InfiniteHostModes:
    """Modes outside the bands, the highest first.

    Attributes:
        frequencies_THz: Shape=(k,).
        displacements: In amu^(-1/2), the whole motion normalized; those of perturbed sites and of the core, zero on other
            atoms of the supercell, shape=(k, n, 3).
        core_weights: Shape=(k,).
        participating_atoms: Inverse sum of the squared weights, shape=(k,).
        eigenvectors: Mass-weighted, on the perturbed sites, zero on the supercell's other atoms, shape=(k, n, 3).
        n_sites: Perturbed sites and added atoms.
        left_out: Largest |dK| of a site that was left out, eV/angstrom^2.
        margin: How far from the bands, relative to the frequency, modes were sought.
    """

    frequencies_THz: np.ndarray
    displacements: np.ndarray
    core_weights: np.ndarray
    participating_atoms: np.ndarray
    eigenvectors: np.ndarray
    n_sites: int
    left_out: float
    margin: float


class BulkLattice:
    """The perfect crystal as blocks of force constants between cells, from phonopy.

    Attributes:
        lattice: For Green's functions.
        blocks: K(0, R) by cell R, in eV/angstrom^2, shape=(3 b, 3 b) each.
        cell: Primitive vectors in angstrom, shape=(3, 3).
        positions: Of the atoms of the cell in angstrom, shape=(b, 3).
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
        self.cell, self.positions = np.array(primitive.cell), np.array(primitive.positions)
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
        p = len(sites)
        K = np.zeros((p, p, 3, 3))
        for a in range(p):
            for b in range(p):
                block = self.blocks.get(tuple((sites[b, :3] - sites[a, :3]).tolist()))
                if block is not None:
                    s, t = 3 * sites[a, 3], 3 * sites[b, 3]
                    K[a, b] = block[s : s + 3, t : t + 3]
        return K


def infinite_modes(
    model,
    rest,
    bulk: BulkPhonons,
    core,
    masses,
    *,
    tolerance: float = TOLERANCE,
    most_sites: int = MOST_SITES,
) -> InfiniteHostModes:
    """Modes of the model's defect outside the bands of an infinite host.

    Args:
        model: A `procedures.build.Model` with a defect.
        rest: The `CrystalAtRest`.
        bulk: Phonons of the perfect host with the same masses.
        core: Atoms whose motion is wanted, shape=(q,).
        masses: Of the supercell's atoms in amu, shape=(n,).
        tolerance: Change of force constants that makes a site a perturbed one, eV/angstrom^2.
        most_sites: Largest number of them; shells of equal distance stay whole.

    Raises:
        ValueError: Without a defect.
        RegionError: If the supercell is so small that forces reach around it.
        SolidQMMMError: If no mesh of wave vectors resolves the neighbourhood of the bands.
    """
    if model.defect is None:
        raise ValueError("host: infinite needs a `defect`: a perfect crystal has no modes outside its bands")
    reach, narrowest = rest.hessian.host.force_range, model.perfect.widths.min()
    if 2 * reach >= narrowest:
        raise RegionError(
            f"forces reach {reach:.2f} A, around a supercell that is {narrowest:.2f} A wide: host: infinite needs one wider "
            f"than {2 * reach:.2f} A, so that the defect does not act upon itself"
        )
    host = BulkLattice(bulk)
    atoms, sites, change, left_out = _perturbation(model, rest, host, tolerance, most_sites)
    masses = np.asarray(masses, dtype=float)
    vacant = host.lattice.masses[sites[0, 3]]  # the nearest site; its atom stays behind, free
    defect = LatticeDefect(sites, change, np.where(atoms >= 0, masses[atoms], vacant))
    modes, margin = _sought(host.lattice, defect, bulk.bands_THz)
    return _described(model, rest, host, atoms, sites, modes, defect, core, masses, left_out, margin)


def _perturbation(model, rest, host: BulkLattice, tolerance, most_sites):
    """Perturbed atoms (-1 for the vacant site; added ones last), their sites, dK, and the largest |dK| left out."""
    perfect, defect, cell = model.perfect, model.defect, rest.cell
    n, n_perfect = len(model.crystal), len(perfect)
    place = unwrapped(perfect.positions, defect.position, cell, perfect.pbc)
    distance = np.linalg.norm(place - defect.position, axis=1)
    twin = np.full(n_perfect, -1)  # index in the crystal with the defect
    stays = (
        np.flatnonzero(defect.to_perfect(np.arange(n)) >= 0)
        if defect.kind != "interstitial"
        else np.arange(n - 1)
    )
    twin[defect.to_perfect(stays)] = stays
    added = np.array([n - 1]) if defect.kind == "interstitial" else np.zeros(0, dtype=int)

    order = np.argsort(distance, kind="stable")
    order = order[distance[order] < 0.5 * perfect.widths.min() + 1e-6]
    every = host.sites(place[order], perfect.numbers[order])
    K = _blocks(rest.hessian.matrix, twin[order], added, place[order], cell, defect.position)
    K[: len(order), : len(order)] -= host.between(every)
    size = np.abs(K).max(axis=(2, 3))
    felt = size[: len(order)].max(axis=1) > tolerance
    shell = np.concatenate([[0], np.cumsum(np.diff(distance[order]) > _SAME_SHELL)])
    whole = np.array([felt[shell == s].any() for s in range(shell[-1] + 1)])
    largest = max(
        (s for s in range(shell[-1] + 1) if np.sum(whole[shell[shell <= s]]) <= most_sites), default=0
    )
    kept = whole[shell] & (shell <= largest)
    kept[0] = True
    beyond = float(size[: len(order), : len(order)][~kept].max(initial=0.0))
    chosen = np.concatenate([np.flatnonzero(kept), len(order) + np.arange(len(added))])
    return (
        np.concatenate([twin[order][kept], added]),
        every[kept],
        _obeying_sum_rule(K[np.ix_(chosen, chosen)]),
        beyond,
    )


def _blocks(K, atoms, added, place, cell, centre) -> np.ndarray:
    """Blocks of the supercell's K between atoms (-1 has none) and added ones, shape=(p + a, p + a, 3, 3).

    Only between those images that are nearest to the centre: a pair that is nearer around the cell has none.
    """
    every = np.concatenate([atoms, added])
    p = len(every)
    there = np.flatnonzero(every >= 0)
    dofs = (3 * every[there][:, None] + np.arange(3)).ravel()
    found = np.zeros((p, p, 3, 3))
    dense = K[dofs][:, dofs].toarray().reshape(len(there), 3, len(there), 3).transpose(0, 2, 1, 3)
    found[np.ix_(there, there)] = dense
    where = np.vstack([place, np.repeat(np.asarray(centre)[None], len(added), axis=0)])
    apart = (where[None] - where[:, None]) @ np.linalg.inv(cell)
    found[np.any(np.abs(apart) > 0.5 + 1e-6, axis=2)] = 0.0
    return found


def _obeying_sum_rule(change) -> np.ndarray:
    """dK in blocks, symmetric and without force on rigid shifts, as a matrix, shape=(3 n, 3 n)."""
    n = len(change)
    blocks = sparse.bsr_array(
        (change.reshape(-1, 3, 3), np.tile(np.arange(n), n), n * np.arange(n + 1)), shape=(3 * n, 3 * n)
    )
    return with_sum_rule(symmetrized(blocks)[0])[0].toarray()


def _sought(lattice, defect: LatticeDefect, bands_THz) -> tuple[InfiniteModes, float]:
    """Modes above the bands and in gaps, as near to the bands as a mesh of wave vectors resolves."""
    edges = squared_frequencies(np.sort(np.asarray(bands_THz), axis=0))
    for margin in MARGINS:
        windows = [
            (a * (1 + margin) ** 2, b * (1 - margin) ** 2) for a, b in zip(edges[:-1, 1], edges[1:, 0])
        ]
        windows = [
            *((low, high) for low, high in windows if low < high),
            (edges[-1, 1] * (1 + margin) ** 2, None),
        ]
        try:
            found = [infinite_host_modes(lattice, defect, low, high) for low, high in windows]
        except ArithmeticError as problem:
            last = problem
            continue
        order = np.argsort(-np.concatenate([modes.squared for modes in found]), kind="stable")
        parts = ("squared", "displacements", "weights", "participating_atoms")
        return InfiniteModes(
            *(np.concatenate([getattr(m, name) for m in found])[order] for name in parts)
        ), margin
    raise SolidQMMMError(f"no modes in an infinite host: {last}; use host: finite") from last


def _described(model, rest, host, atoms, sites, modes, defect, core, masses, left_out, margin):
    k, n = len(modes.squared), len(model.crystal)
    u = np.zeros((k, n, 3))
    there = atoms >= 0
    u[:, atoms[there]] = modes.displacements[:, there]
    outside = np.setdiff1d(core, atoms)
    if len(outside) and k:
        perfect = model.defect.to_perfect(outside)
        place = unwrapped(model.perfect.positions, model.defect.position, rest.cell, model.perfect.pbc)
        first = model.defect.to_perfect(atoms[there][:1])
        both = np.concatenate([first, perfect])
        found = host.sites(place[both], model.perfect.numbers[both])
        found[:, :3] += sites[there[: len(sites)]][0, :3] - found[0, :3]
        for mode in range(k):
            u[mode, outside] = motion_of_sites(host.lattice, defect, modes, mode, found[1:])
    weighted = u * np.sqrt(masses)[None, :, None]
    weights = np.sum(weighted[:, core] ** 2, axis=(1, 2))
    weighted[:, outside] = 0.0
    return InfiniteHostModes(
        frequencies_THz=frequencies_THz(modes.squared),
        displacements=u,
        core_weights=weights,
        participating_atoms=modes.participating_atoms,
        eigenvectors=weighted,
        n_sites=len(atoms),
        left_out=left_out,
        margin=margin,
    )
