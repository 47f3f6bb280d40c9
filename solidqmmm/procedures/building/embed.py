"""Additive couplings from a study: who carries which charge, and what the quantum cluster's charge must then be."""

from __future__ import annotations

import numpy as np

from solidqmmm.coupling.additive import Additive
from solidqmmm.coupling.boundary_charges import BoundaryCharges
from solidqmmm.engines.factory import parse_settings
from solidqmmm.engines.lammps_shells import Shells
from solidqmmm.system.bonds import BondRules, local_bonds
from solidqmmm.system.charges import site_charges
from solidqmmm.system.cluster import Cluster
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.partition import Partition
from solidqmmm.system.study import Study
from solidqmmm.system.study_sections import AdditiveSection

# Charges that differ by less are the same (e); those of engines are whole numbers to this.
_TOLERANCE = 1e-3


def is_additive(study: Study) -> bool:
    """Whether the study embeds an engine by an additive coupling."""
    return study.qm is not None and study.region is not None and isinstance(study.coupling, AdditiveSection)


def cluster_charge(crystal: Crystal, partition: Partition, potential, charge: float) -> float:
    """Charge of the quantum cluster in e: what is left of the crystal's `charge` for it by the ions around.

    Raises:
        ValueError: If it is no whole number, with both sums.
    """
    around = np.delete(site_charges(crystal, potential), partition.quantum).sum()
    needed = charge - float(around)
    if abs(needed - round(needed)) > _TOLERANCE:
        raise ValueError(
            f"the ions around the quantum cluster sum to {around:+.4g} e and the crystal to {charge:+g} e, which leaves "
            f"{needed:+.4g} e for the cluster, no whole number: choose a region of whole formula units, formal charges "
            "(host: {charges: ...}), or, where bonds are covalent, link atoms (caps: {kind: hydrogen})"
        )
    return float(round(needed))


def cuts_bonds(study: Study, crystal: Crystal, partition: Partition, bond_rules: BondRules) -> bool:
    """Whether link atoms close the cluster, which then has the charge of the defect, and no ions' sums tell it."""
    if study.caps.rules().kind == "none":
        return False
    bonds = local_bonds(crystal, partition.quantum, bond_rules)
    outward = np.isin(bonds.i, partition.quantum) & ~np.isin(bonds.j, partition.quantum)
    return bool(outward.any())


def engine_settings(
    study: Study, crystal: Crystal, partition: Partition, potential, charge: float, bond_rules: BondRules
):
    """The study's section `qm` with the charge of the cluster filled in, where the engine has one.

    Raises:
        ValueError: If the study states another charge, both sums named; for ghost functions without a cluster.
    """
    settings = parse_settings(study.qm)
    if study.region is None and study.defect is not None and getattr(settings, "ghost_basis", False):
        raise ValueError(
            "qm.ghost_basis: only the cluster of a `region` knows its vacant sites, and this study's engine computes the "
            "whole cell: leave it out (in Python, `VacantSites(...).written_to(atoms)` tells the engine)"
        )
    if not is_additive(study) or "charge" not in type(settings).model_fields:
        return settings
    if cuts_bonds(study, crystal, partition, bond_rules):
        if settings.charge is not None and abs(settings.charge - charge) > _TOLERANCE:
            raise ValueError(
                f"qm.charge: {settings.charge:+g} e stated, but a cluster that link atoms close has the charge of the "
                f"defect, coupling.charge: {charge:+g} e: leave qm.charge out, or change coupling.charge"
            )
        return settings.model_copy(update={"charge": float(charge)})
    needed = cluster_charge(crystal, partition, potential, charge)
    if settings.charge is not None and abs(settings.charge - needed) > _TOLERANCE:
        raise ValueError(
            f"qm.charge: {settings.charge:+g} e stated, but the ions around the {len(partition.quantum)} quantum atoms sum "
            f"to {charge - needed:+g} e and the crystal to {charge:+g} e, which leaves {needed:+g} e: leave qm.charge out, "
            "or state the charge of the defect as coupling.charge"
        )
    return settings.model_copy(update={"charge": needed})


def additive_coupling(
    study: Study, cluster: Cluster, crystal: Crystal, potential, engine, charge: float, bond_rules: BondRules
) -> Additive:
    """The study's additive coupling on a crystal whose total charge is `charge` (e).

    Raises:
        TypeError, ValueError: As `Additive`; for boundary charges without link atoms.
    """
    asked = study.coupling
    charges = site_charges(crystal, potential)
    around = np.setdiff1d(np.arange(len(crystal)), cluster.quantum)
    positions, left = crystal.positions, charge - charges[around].sum()
    shells = Shells.of(crystal, potential, cluster.quantum)
    owner = np.empty(0, dtype=int) if shells is None else shells.owner
    if shells is not None:  # further particles behind the atoms, on their cores at first
        charges[owner] -= shells.charges
        charges, positions = np.append(charges, shells.charges), np.vstack([positions, positions[owner]])
    environment, cores, boundary = None, None, None
    if asked.polarizabilities is not None:
        from solidqmmm.coupling.polarizable_surroundings import PolarizableSurroundings

        symbols = np.array(crystal.symbols)
        alpha = np.array([asked.polarizabilities.get(symbol, 0.0) for symbol in symbols])
        alpha[cluster.quantum] = 0.0
        damping = None if asked.damping == "none" else asked.damping
        environment = PolarizableSurroundings(np.append(alpha, np.zeros(len(owner))), damping, asked.thole_a)
    if asked.cores is not None:
        shapes = {symbol: (core.height, core.width) for symbol, core in asked.cores.items()}
        cores = np.array([shapes.get(symbol, (np.nan, np.nan)) for symbol in crystal.symbols])
        cores = np.vstack([cores, np.full((len(owner), 2), np.nan)])
    closed = len(cluster.caps) > 0
    if asked.boundary_charges != "none" or (closed and asked.scheme != "mechanical"):
        boundary = BoundaryCharges.of(cluster, crystal, bond_rules, asked.boundary_charges, balance=left - charge)
    return Additive(
        cluster,
        engine,
        positions,
        charges,
        embedding=asked.scheme,
        charge=left,
        own_charge=charge if closed else left,
        environment=environment,
        cores=cores,
        width=asked.width,
        boundary=boundary,
    )
