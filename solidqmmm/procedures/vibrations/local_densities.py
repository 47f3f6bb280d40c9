"""Local densities of states of a defect: in the supercell by recursion, in a host without end by Dyson's equation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solidqmmm.physics.condensation import PartitionedCrystal
from solidqmmm.physics.geometry import unwrapped
from solidqmmm.physics.vibrations.local_density import broadened_density, recursions
from solidqmmm.physics.vibrations.resonances import Resonance, resonances
from solidqmmm.procedures.vibrations.bulk_phonons import BulkPhonons
from solidqmmm.procedures.vibrations.defect_modes import CrystalAtRest
from solidqmmm.procedures.vibrations.infinite_host import infinite_spectrum

_POINTS = 621
_REACH = 1.55  # of the grid, in units of the highest frequency of the bulk, at least
_LEVELS = 160  # of the recursion
_TOGETHER = 24  # recursions that share their products with the matrix
_WIDTH = 0.0075  # standard deviation, in units of the highest frequency of the bulk
_FINE = 1000  # atoms; the lines of smaller crystals lie farther apart and are drawn wider
_HALF_WIDTH = np.sqrt(2 * np.log(2))  # of a Gaussian at half maximum, in standard deviations


@dataclass(frozen=True, eq=False)
class LocalDensities:
    """Densities of states on one grid, each 3 per atom.

    Attributes:
        frequencies_THz: Shape=(m,).
        bulk: Of the perfect host, in Gaussians of the half width below, in 1/THz, shape=(m,).
        core: Mean over the core's atoms, shape=(m,).
        own: Of the core's atom nearest to its centre: the defect's own, a neighbour of a vacancy, shape=(m,).
        half_width_THz: Half width at half maximum of the broadening of `core` and `own`.
        method: "recursion" or "Dyson's equation".
        resonances: Peaks of `own` inside the bands; none are sought in a finite crystal, whose bands are discrete.
    """

    frequencies_THz: np.ndarray
    bulk: np.ndarray
    core: np.ndarray
    own: np.ndarray
    half_width_THz: float
    method: str
    resonances: tuple[Resonance, ...] = ()


def local_densities(
    model,
    crystal: PartitionedCrystal,
    rest: CrystalAtRest,
    bulk: BulkPhonons,
    *,
    highest_THz: float = 0.0,
    infinite_host: bool = False,
) -> LocalDensities:
    """Local densities of states of the core's atoms.

    Args:
        model: A `procedures.build.Model`.
        crystal: Force constants, masses and core.
        rest: The crystal at rest; its operations keep the masses.
        bulk: Phonons of the perfect host.
        highest_THz: Highest frequency of the defect; the grid reaches beyond it.
        infinite_host: Whether of the defect in a host without end.
    """
    coarse = 1.0 if infinite_host else max((_FINE / len(crystal.masses)) ** (1 / 3), 1.0)
    width = _WIDTH * coarse * bulk.band_top_THz
    step = _REACH * bulk.band_top_THz / (_POINTS - 1)
    beyond = int(np.ceil((highest_THz + 4 * width) / step)) + 1
    grid = step * np.arange(max(_POINTS, beyond))
    core = crystal.core
    place = unwrapped(rest.positions[core], model.partition.centre, rest.cell, model.crystal.pbc)
    nearest = int(np.argmin(np.linalg.norm(place - model.partition.centre, axis=1)))
    perfect = bulk.dos_per_THz(grid, width_THz=width)
    wanted = _HALF_WIDTH * width
    if not infinite_host:
        densities = _by_recursion(crystal, rest, grid, width)
        return LocalDensities(grid, perfect, densities.mean(axis=0), densities[nearest], wanted, "recursion")
    # so wide that two points of the grid share the frequencies at which Dyson's equation is solved
    step = grid[1] / np.sqrt(2)
    width = step * max(round(wanted / step), 1)
    densities = infinite_spectrum(model, rest, bulk, core, crystal.masses, grid, width_THz=width)
    own = densities[nearest]
    found = resonances(grid, own, perfect, bulk.bands_THz)
    return LocalDensities(grid, perfect, densities.mean(axis=0), own, float(width), "Dyson's equation", found)


def _by_recursion(crystal: PartitionedCrystal, rest: CrystalAtRest, grid, width: float) -> np.ndarray:
    """Of each atom of the core, from one of each orbit of the site symmetry, shape=(q, m)."""
    W, core = crystal.weighted(), crystal.core
    _, first, orbit = np.unique(rest.permutations[:, core].min(axis=0), return_index=True, return_inverse=True)
    starts = (3 * core[first][:, None] + np.arange(3)).ravel()
    densities = np.empty((len(starts), len(grid)))
    for begin in range(0, len(starts), _TOGETHER):
        some = slice(begin, begin + _TOGETHER)
        units = np.zeros((W.shape[0], len(starts[some])))
        units[starts[some], np.arange(units.shape[1])] = 1.0
        densities[some] = [broadened_density(grid, chain, width) for chain in recursions(W, units, _LEVELS)]
    return densities.reshape(-1, 3, len(grid)).sum(axis=1)[orbit]
