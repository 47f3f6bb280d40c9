"""What no additive embedding can be is refused before an engine is made."""

from __future__ import annotations

import numpy as np

from solidqmmm.engines.factory import parse_settings
from solidqmmm.engines.lammps_exclusions import require_pairwise
from solidqmmm.physics.geometry import unwrapped
from solidqmmm.procedures.building.slabs import require_slab_without_field
from solidqmmm.system.charges import require_net_charge, site_charges
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.partition import Partition
from solidqmmm.system.point_charges import PointCharges, require_apart
from solidqmmm.system.study import Study

SHELLS_ANSWER = (
    "{} has no meaning in a core-shell host: its shells are its dipoles, and answer the quantum electrons already with "
    "coupling: electrostatic; take that, or a host without `shells`"
)


def require_embeddable(study: Study, perfect: Crystal, crystal: Crystal, partition: Partition, potential):
    """Refuses what the study's additive coupling cannot do.

    Args:
        study: A study with an additive coupling.
        perfect: The crystal without its defect.
        crystal: The crystal.
        partition: Its labels.
        potential: The host's potential.

    Raises:
        ValueError: For an engine that feels no charges, lattice matching, a periodic cluster, a crystal that is periodic
            along some directions only, a potential without charges or not a sum over pairs, a perfect crystal that is not
            neutral, a charged or polar slab, an ion on a quantum atom, missing polarizabilities, or some beside shells.
    """
    scheme = study.coupling.scheme
    if scheme != "mechanical" and not getattr(type(parse_settings(study.qm)), "FEELS_CHARGES", False):
        raise ValueError(
            f"coupling: {scheme} needs an engine whose electrons feel external charges, and those of "
            f"'{study.qm['engine']}' do not: choose qm: {{engine: gpaw}}, or coupling: mechanical"
        )
    if study.matching != "none":
        raise ValueError(
            f"coupling: {scheme} has no lattice matching, because the ions' charges would be stretched with the cluster: "
            "leave `matching` out"
        )
    if study.caps.periodic_axes:
        raise ValueError(f"coupling: {scheme} is for clusters that are not periodic: leave caps.periodic_axes out")
    require_whole_periodicity(crystal.pbc)
    require_pairwise(potential, tuple(sorted(crystal.species)))
    if potential.atom_style != "charge":
        raise ValueError(
            f"coupling: {scheme} is about the charges of the host's ions, and pair_style {potential.pair_style} has none: "
            "give host.charges, or use coupling: subtractive"
        )
    charges = site_charges(crystal, potential)
    if np.any(perfect.pbc):
        own = site_charges(perfect, potential)
        require_net_charge(perfect, own, 0.0, potential.net_charge)
        require_slab_without_field(perfect, own, study.coupling.charge)
    if scheme == "polarizable" and potential.shells:
        raise ValueError(SHELLS_ANSWER.format("coupling: polarizable"))
    _require_polarizabilities(study, crystal, partition)
    _require_room(crystal, partition, charges)


def require_whole_periodicity(pbc):
    """Nothing, if the crystal is periodic in all directions or in none (`pbc`, shape=(3,)).

    Raises:
        ValueError: If it is so along one or two only.
    """
    if np.any(pbc) and not np.all(pbc):
        raise ValueError(
            "additive couplings need a host that is periodic in all directions or in none: put vacuum into the cell of "
            f"a slab and make it periodic, got pbc {np.asarray(pbc).tolist()}"
        )


def _require_polarizabilities(study: Study, crystal: Crystal, partition: Partition):
    given = study.coupling.polarizabilities
    around = np.delete(np.array(crystal.symbols), partition.quantum)
    missing = [] if given is None else sorted(set(around) - set(given))
    if missing:
        raise ValueError(f"coupling.polarizabilities: missing for {', '.join(missing)}: give it in angstrom^3 (0 for none)")


def _require_room(crystal: Crystal, partition: Partition, charges):
    """ValueError where an ion lies on a quantum atom, through the cell's boundary as well."""
    around = np.setdiff1d(np.arange(len(crystal)), partition.quantum)
    for atom in crystal.positions[partition.quantum]:
        where = unwrapped(crystal.positions[around], atom, crystal.cell, crystal.pbc)
        require_apart(atom[None], PointCharges(where, charges[around]))
