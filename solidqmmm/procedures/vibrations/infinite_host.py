"""A defect in a host without end: the supercell says what the defect changes, the perfect lattice gives the rest.

    dK = K(crystal with the defect) - K(perfect),     det(1 - G0(lambda) (dK - lambda dM)) = 0

on the perturbed sites (`physics.greens_function`). K(perfect) is made of the bulk's force constants by phonopy. Sites are
perturbed where a block of dK exceeds a tolerance, the nearest first, and where an isotope is named. What is left of the
supercell's size is the relaxation: the atoms of a finite crystal are not where those of an infinite one are.

Between the perturbed sites dK is left as it is. A coupling to a site that was left out has gone, but its share of the sites'
own blocks stays, as if that site stood still, which in a local mode it does. The acoustic sum rule would take that share as
well: with the five sites around carbon in silicon it puts the mode at 763.6 1/cm instead of 750.55 (750.56 in 4096 atoms).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solidqmmm.errors import SolidQMMMError
from solidqmmm.physics.geometry import unwrapped
from solidqmmm.physics.vibrations.defect_spectrum import defect_spectrum
from solidqmmm.physics.vibrations.greens_function import (
    InfiniteModes,
    LatticeDefect,
    infinite_host_modes,
    motion_of_sites,
)
from solidqmmm.physics.vibrations.localized_modes import frequencies_THz, squared_frequencies
from solidqmmm.procedures.vibrations.bulk_lattice import BulkLattice
from solidqmmm.procedures.vibrations.bulk_phonons import BulkPhonons
from solidqmmm.procedures.vibrations.phonon_requests import require_room

TOLERANCE = 1e-3  # eV/angstrom^2; force constants of bonds are of the order of ten
MOST_SITES = 150
MOST_SITES_OF_SPECTRUM = 50  # a matrix of them is inverted at every frequency
#: Relative distances from the bands; the first that a mesh of wave vectors resolves is taken.
MARGINS = (2e-3, 1e-2, 3e-2)
_FAR = 0.1  # of the host's largest force constant; relaxed defects leave out 0.01 to 0.05
_SAME_SHELL = 1e-3  # angstrom
_SAME_MASS = 1e-9  # amu
_RING = 185.0  # angstrom, around the crystal whose wave vectors the mesh of a spectrum are
_MOST_NUMBERS = 4_000_000  # of the dynamical matrices on that mesh


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
        reaches_far: Whether that is too large to trust the modes: the defect reaches beyond the perturbed sites.
        margin: How far from the bands, relative to the frequency, modes were sought.
    """

    frequencies_THz: np.ndarray
    displacements: np.ndarray
    core_weights: np.ndarray
    participating_atoms: np.ndarray
    eigenvectors: np.ndarray
    n_sites: int
    left_out: float
    reaches_far: bool
    margin: float


@dataclass(frozen=True, eq=False)
class Perturbation:
    """Where a crystal differs from the perfect lattice, and by how much.

    Attributes:
        defect: The difference, for Green's functions.
        atoms: The perturbed sites' atoms in the crystal with the defect (-1 for the vacant site), added ones last,
            shape=(p + a,).
        left_out: Largest |dK| of a site that was left out, eV/angstrom^2.
        others: Atoms that were asked for and are not perturbed, shape=(o,).
        other_sites: Their sites, shape=(o, 4).
    """

    defect: LatticeDefect
    atoms: np.ndarray
    left_out: float
    others: np.ndarray
    other_sites: np.ndarray


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
        model: A `procedures.build.Model` with a defect, or with isotopes of its own in `masses`.
        rest: The `CrystalAtRest`.
        bulk: Phonons of the perfect host with the masses of its elements.
        core: Atoms whose motion is wanted, shape=(q,).
        masses: Of the supercell's atoms in amu, shape=(n,).
        tolerance: Change of force constants that makes a site a perturbed one, eV/angstrom^2.
        most_sites: Largest number of them; shells of equal distance stay whole.

    Raises:
        ValueError: If nothing differs from the perfect crystal.
        RegionError: If the supercell is so small that forces reach around it.
        SolidQMMMError: If no mesh of wave vectors resolves the neighbourhood of the bands.
    """
    host = BulkLattice(bulk)
    found = perturbation(model, rest, host, masses, core, tolerance=tolerance, most_sites=most_sites)
    modes, margin = _sought(host.lattice, found.defect, bulk.bands_THz)
    k, n = len(modes.squared), len(model.crystal)
    u, there = np.zeros((k, n, 3)), found.atoms >= 0
    u[:, found.atoms[there]] = modes.displacements[:, there]
    for mode in range(k if len(found.others) else 0):
        u[mode, found.others] = motion_of_sites(host.lattice, found.defect, modes, mode, found.other_sites)
    weighted = u * np.sqrt(masses)[None, :, None]
    weights = np.sum(weighted[:, core] ** 2, axis=(1, 2))
    weighted[:, found.others] = 0.0
    return InfiniteHostModes(
        frequencies_THz=frequencies_THz(modes.squared),
        displacements=u,
        core_weights=weights,
        participating_atoms=modes.participating_atoms,
        eigenvectors=weighted,
        n_sites=len(found.atoms),
        left_out=found.left_out,
        reaches_far=found.left_out > _FAR * np.abs(host.blocks[0, 0, 0]).max(),
        margin=margin,
    )


def infinite_spectrum(
    model, rest, bulk: BulkPhonons, core, masses, frequencies_THz, *, width_THz: float, mesh: int | None = None
) -> np.ndarray:
    """Local densities of states of the core's atoms in an infinite host, 3 per atom, in 1/THz, shape=(q, m).

    Args:
        model, rest, bulk, core, masses: See `infinite_modes`.
        frequencies_THz: Where, shape=(m,).
        width_THz: Half width at half maximum of the kernel of `physics.defect_spectrum`.
        mesh: Wave vectors in each direction; None takes those of a crystal that is 185 angstrom wide, fewer for large cells.

    Raises:
        ValueError, RegionError: As `infinite_modes`.
    """
    host = BulkLattice(bulk)
    found = perturbation(model, rest, host, masses, core, most_sites=MOST_SITES_OF_SPECTRUM)
    p, o, n = len(found.defect.sites), len(found.others), len(found.atoms)
    moved = np.concatenate([np.arange(p), np.arange(p + o, n + o)])  # others stand between sites and added atoms
    stiffness = np.zeros((n + o, 3, n + o, 3))
    stiffness[np.ix_(moved, range(3), moved, range(3))] = found.defect.stiffness.reshape(n, 3, n, 3)
    weights = np.zeros(n + o)
    weights[moved], weights[p : p + o] = found.defect.masses, np.asarray(masses)[found.others]
    atoms = np.concatenate([found.atoms[:p], found.others, found.atoms[p:]])
    sites = np.concatenate([found.defect.sites, found.other_sites])
    density = defect_spectrum(
        frequencies_THz,
        host.lattice,
        LatticeDefect(sites, stiffness.reshape(3 * (n + o), -1), weights),
        width=width_THz,
        mesh=mesh or _mesh(host),
    ).sum(axis=2)
    return density[:, [int(np.flatnonzero(atoms == atom)[0]) for atom in core]].T


def perturbation(
    model,
    rest,
    host: BulkLattice,
    masses,
    wanted,
    *,
    tolerance: float = TOLERANCE,
    most_sites: int = MOST_SITES,
) -> Perturbation:
    """Where the model's crystal differs from the perfect lattice; see `infinite_modes` for arguments and errors.

    Raises:
        ValueError: If nothing differs from the perfect crystal.
    """
    require_room(rest.hessian.host.force_range, model.perfect)
    perfect = model.perfect
    masses, centre = np.asarray(masses, dtype=float), _centre(model)
    place = unwrapped(perfect.positions, centre, rest.cell, perfect.pbc)
    distance = np.linalg.norm(place - centre, axis=1)
    twin, added = _twins(model)
    named = np.zeros(len(perfect), dtype=bool)  # atoms of the host with a mass of their own
    own = perfect.numbers[twin >= 0] == model.crystal.numbers[twin[twin >= 0]]
    by_number = dict(zip(host.numbers.tolist(), host.lattice.masses.tolist()))
    usual = np.array([by_number[z] for z in perfect.numbers[twin >= 0].tolist()])
    named[twin >= 0] = own & (np.abs(masses[twin[twin >= 0]] - usual) > _SAME_MASS)
    if model.defect is None and not named.any():
        raise ValueError(
            "host: infinite needs a `defect`, or isotopes on named sites: a perfect crystal has no modes outside its bands"
        )
    asked = np.isin(twin, wanted)
    order = np.argsort(distance, kind="stable")
    order = order[(distance[order] < 0.5 * perfect.widths.min() + 1e-6) | named[order] | asked[order]]
    every = host.sites(place[order], perfect.numbers[order])
    K = _blocks(rest.hessian.matrix, twin[order], added, place[order], rest.cell, centre)
    K[: len(order), : len(order)] -= host.between(every)
    size = np.abs(K).max(axis=(2, 3))
    near = distance[order] < 0.5 * perfect.widths.min() + 1e-6
    felt = near & (size[: len(order)].max(axis=1) > tolerance)
    shell = np.concatenate([[0], np.cumsum(np.diff(distance[order]) > _SAME_SHELL)])
    whole = np.array([felt[shell == s].any() for s in range(shell[-1] + 1)])
    largest = max(
        (s for s in range(shell[-1] + 1) if np.sum(whole[shell[shell <= s]]) <= most_sites), default=0
    )
    kept = (whole[shell] & (shell <= largest) & near) | named[order]
    kept[0] = True
    beyond = max(
        float(size[: len(order), : len(order)][~kept & near].max(initial=0.0)),
        _change_of_own(rest, host, perfect, twin, order[kept]),
    )
    chosen = np.concatenate([np.flatnonzero(kept), len(order) + np.arange(len(added))])
    atoms, sites = np.concatenate([twin[order][kept], added]), every[kept]
    vacant = host.lattice.masses[sites[0, 3]]  # the nearest site; its atom stays behind, free
    change = K[np.ix_(chosen, chosen)].transpose(0, 2, 1, 3).reshape(3 * len(chosen), -1)
    defect = LatticeDefect(sites, (change + change.T) / 2, np.where(atoms >= 0, masses[atoms], vacant))
    others = ~kept & asked[order]
    return Perturbation(defect, atoms, beyond, twin[order][others], every[others])


def _change_of_own(rest, host, perfect, twin, kept) -> float:
    """Largest change of an atom's own force constants K_ii, of all that stay and are on no kept site, eV/angstrom^2."""
    others = np.setdiff1d(np.flatnonzero(twin >= 0), kept)
    if not len(others):
        return 0.0
    usual = np.diagonal(host.blocks[0, 0, 0]).reshape(-1, 3)
    atom = host.sites(perfect.positions, perfect.numbers)[others, 3]
    return float(np.abs(rest.hessian.matrix.diagonal().reshape(-1, 3)[twin[others]] - usual[atom]).max())


def _centre(model) -> np.ndarray:
    return np.asarray(model.partition.centre if model.defect is None else model.defect.position)


def _twins(model) -> tuple[np.ndarray, np.ndarray]:
    """The atom of the crystal with the defect on each site of the perfect one, -1 for none, and the atoms on no site."""
    n, twin = len(model.crystal), np.full(len(model.perfect), -1)
    if model.defect is None:
        return np.arange(n), np.zeros(0, dtype=int)
    on_site = np.arange(n - 1 if model.defect.kind == "interstitial" else n)
    twin[model.defect.to_perfect(on_site)] = on_site
    return twin, np.arange(len(on_site), n)


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


def _mesh(host: BulkLattice) -> int:
    """Wave vectors in each direction for a spectrum."""
    numbers = (3 * len(host.numbers)) ** 2
    wanted = int(np.ceil(_RING / np.linalg.norm(host.cell, axis=1).min()))
    return max(min(wanted + wanted % 2, int((_MOST_NUMBERS / numbers) ** (1 / 3))), 4)
