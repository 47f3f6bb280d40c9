"""Electrostatic potentials in a host of ions, with its shells: at the ions, and averaged over planes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solidqmmm.physics.ewald import COULOMB, ewald_potential
from solidqmmm.physics.planar_average import planar_average
from solidqmmm.system.site_potentials import SitePotentials

_PLANES_PER_ANGSTROM = 10
_ON_ITS_CORE = 1e-6  # angstrom; nearer than this the Ewald sum leaves a shell out by itself


@dataclass(frozen=True, eq=False)
class HostPotentials:
    """Potentials of one crystal, as a positive charge feels them, in V.

    Attributes:
        positions: Of the ions in angstrom, shape=(n, 3).
        sites: At the ions, without their own charges, shape=(n,).
        planes: Averages over planes along each axis, three arrays.
    """

    positions: np.ndarray
    sites: np.ndarray
    planes: tuple[np.ndarray, ...]


def host_potentials(host) -> HostPotentials:
    """Potentials in a live LammpsHost that is periodic in three directions."""
    atoms, shells, owner = host.positions(), host.shell_positions(), host.shell_owner
    particles = np.concatenate([atoms, shells])
    charges = np.concatenate([host.charges(), host.shell_charges()])
    cell = host.cell()
    at_ions = ewald_potential(atoms, particles, charges, cell, derivatives=0, background=True)[0]
    distance = np.linalg.norm(shells - atoms[owner], axis=1)
    own = distance > _ON_ITS_CORE
    at_ions[owner[own]] -= COULOMB * host.shell_charges()[own] / distance[own]
    counts = [max(60, int(_PLANES_PER_ANGSTROM * length)) for length in np.linalg.norm(cell, axis=1)]
    planes = tuple(planar_average(axis, n, particles, charges, cell) for axis, n in enumerate(counts))
    return HostPotentials(atoms, at_ions, planes)


def compared(defect, with_it: HostPotentials, without: HostPotentials) -> SitePotentials:
    """The potentials of a crystal with its defect beside those of the perfect one, at the ions that both have.

    Args:
        defect: A `system.defect.Defect`.
        with_it, without: Of the two crystals.
    """
    indices = np.arange(len(with_it.positions))
    own = defect.atom(len(indices))
    kept = indices if own is None else np.delete(indices, own)
    planar = {axis: (with_it.planes[axis], without.planes[axis]) for axis in range(3)}
    return SitePotentials(
        positions=with_it.positions[kept],
        defect=with_it.sites[kept],
        bulk=without.sites[defect.to_perfect(kept)],
        defect_position=defect.position,
        planar=planar,
    )
