"""Electrostatic potentials in a host of ions, with its shells: at the ions, and averaged over planes."""

from __future__ import annotations

import numpy as np
from ase.geometry import find_mic

from solidqmmm.physics.electrostatics.ewald import COULOMB, ewald_potential
from solidqmmm.physics.electrostatics.planar_average import planar_average
from solidqmmm.system.site_potentials import CellPotentials, SitePotentials

_PLANES_PER_ANGSTROM = 10
_FAR_FROM_HOME = 0.3  # angstrom; no lattice has two sites so close that a nearer atom could belong to another
_ON_ITS_CORE = 1e-6  # angstrom; nearer than this the Ewald sum leaves a shell out by itself


def host_potentials(host) -> CellPotentials:
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
    return CellPotentials(atoms, at_ions, planes)


def compared(defect, with_it: CellPotentials, without: CellPotentials, cell) -> SitePotentials:
    """The potentials of a crystal with its defect beside those of the perfect one, at the sites that both have.

    An atom stands for its lattice site while no other site is nearer to it; one that has left its own is left out.

    Args:
        defect: A `system.defect.Defect`.
        with_it, without: Of the two crystals, planes in the same steps.
        cell: Cell vectors as rows in angstrom, shape=(3, 3).
    """
    indices = np.arange(len(with_it.positions))
    own = defect.atom(len(indices))
    kept = indices if own is None else np.delete(indices, own)
    sites = defect.to_perfect(kept)
    moved = find_mic(with_it.positions[kept] - without.positions[sites], np.asarray(cell), pbc=True)[1]
    home = np.ones(len(kept), dtype=bool)
    for k in np.flatnonzero(moved > _FAR_FROM_HOME):
        distances = find_mic(without.positions - with_it.positions[kept[k]], np.asarray(cell), pbc=True)[1]
        home[k] = distances.argmin() == sites[k]
    kept, sites = kept[home], sites[home]
    return SitePotentials(
        positions=with_it.positions[kept],
        defect=with_it.sites[kept],
        bulk=without.sites[sites],
        defect_position=defect.position,
        planar={axis: (with_it.planes[axis], without.planes[axis]) for axis in range(3)},
    )
