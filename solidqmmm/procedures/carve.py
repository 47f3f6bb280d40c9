"""Carving: from labels over the crystal to a cluster that an engine can evaluate."""

from __future__ import annotations

import logging

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from solidqmmm.errors import RegionError
from solidqmmm.physics.geometry import unwrapped
from solidqmmm.physics.pseudo_hydrogen import cap_charge
from solidqmmm.system.bonds import BondRules, Bonds, local_bonds
from solidqmmm.system.caps import CapRules
from solidqmmm.system.cluster import Cluster, LinkAtoms
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.partition import Partition
from solidqmmm.system.vacant_sites import VacantSites

logger = logging.getLogger(__name__)

_MAX_GROWTH = 4
# A vacant site farther than this from every quantum atom is not the cluster's (angstrom).
_VACANT_WITHIN = 4.0


def complete_partition(crystal: Crystal, partition: Partition, rules: CapRules, bond_rules: BondRules) -> Partition:
    """The partition with its buffer extended until the rules for cut bonds hold.

    Atoms enter the buffer where an element of `whole_coordination` would lose a neighbour, and, with clashing "include",
    where one removed atom would be replaced by two or more caps.

    Raises:
        RegionError: If the rules make the region grow beyond four times its size, or two caps clash under "error".
    """
    if rules.element is None and not rules.whole_coordination:
        return partition
    quantum = partition.quantum
    limit = _MAX_GROWTH * len(quantum) + 20
    while True:
        bonds = local_bonds(crystal, quantum, bond_rules, hops=2)
        outward = _cut(bonds, quantum)
        missing = outward.j[np.isin(crystal.numbers[outward.i], [atomic_numbers[e] for e in rules.whole_coordination])]
        if rules.clashing != "keep" and rules.element is not None:
            removed, count = np.unique(outward.j, return_counts=True)
            clashing = removed[count > 1]
            if len(clashing) and rules.clashing == "error":
                raise RegionError(
                    f"{len(clashing)} removed atom(s), such as {clashing[0]}, would be replaced by two or more caps: choose "
                    "caps.clashing include (make them quantum) or keep, or another buffer"
                )
            missing = np.union1d(missing, clashing)
        if len(missing) == 0:
            break
        quantum = np.union1d(quantum, missing)
        if len(quantum) > limit:
            raise RegionError(
                f"completing the region's surface made it grow from {len(partition.quantum)} to more than {limit} atoms: "
                "choose another buffer, caps.clashing keep, or shorter bond cutoffs"
            )
    return partition.with_buffer(np.setdiff1d(quantum, partition.core))


def carve(
    crystal: Crystal,
    partition: Partition,
    rules: CapRules | None = None,
    *,
    bond_rules: BondRules | None = None,
    periodic_axes=(),
    stretch=None,
    vacant: VacantSites | None = None,
) -> Cluster:
    """Cuts the quantum atoms out of the crystal and closes the cut bonds.

    Args:
        crystal: The crystal.
        partition: Its labels; extend it with `complete_partition` first where the rules ask for more atoms.
        rules: Rules for the cut bonds; hydrogen caps by default.
        bond_rules: Who is bonded.
        periodic_axes: Indices of the host's cell vectors along which the cluster is periodic (line defects, fronts).
        stretch: Lattice matching A, shape=(3, 3): the engine sees x A.
        vacant: Sites that atoms have left; those within 4 angstrom of a quantum atom go into the cluster.

    Returns:
        The cluster. Its engine cell has `rules.vacuum` on every side along directions that are not periodic.

    Raises:
        RegionError: If there is no quantum atom, or the region meets or wraps onto its own periodic image.
    """
    rules, bond_rules = rules or CapRules(), bond_rules or BondRules()
    stretch = np.eye(3) if stretch is None else np.asarray(stretch, dtype=float)
    periodic_axes = tuple(sorted({int(axis) for axis in periodic_axes}))
    for axis in periodic_axes:
        if axis not in (0, 1, 2) or not crystal.pbc[axis]:
            raise RegionError(f"the cluster cannot be periodic along cell vector {axis}: the host is not")
    quantum = partition.quantum
    if len(quantum) == 0:
        raise RegionError("there is no quantum atom to carve: the partition has neither core nor buffer")
    bonds = local_bonds(crystal, quantum, bond_rules, hops=1).of(quantum)
    positions = unwrapped(crystal.positions[quantum], partition.centre, crystal.cell, crystal.pbc)
    _require_no_self_contact(crystal, quantum, positions, bonds, periodic_axes)

    cut = _cut(bonds, quantum) if rules.element is not None else Bonds(*(np.empty(0, int),) * 2, np.empty((0, 3)))
    outer, outer_positions, shift = _removed_atoms(crystal, quantum, positions, cut, periodic_axes)
    caps = _caps(crystal, quantum, cut, outer, shift, bonds, rules)
    reference = np.vstack([positions, outer_positions])
    region = np.concatenate([quantum, outer]).astype(int)
    core = np.isin(quantum, partition.core)
    if rules.even_electrons:
        caps = _with_even_electrons(crystal.numbers[quantum], caps, reference, core)
    draft = Cluster(
        region=region,
        n_quantum=len(quantum),
        core=core,
        numbers=crystal.numbers[region],
        reference=reference,
        caps=caps,
        cell=np.eye(3),
        periodic_axes=periodic_axes,
        host_cell=crystal.cell,
        host_pbc=crystal.pbc,
        offset=np.zeros(3),
        stretch=stretch,
        vacant=_vacant(vacant, crystal, partition, positions),
    )
    cell, offset = engine_cell(draft.engine_positions(reference, crystal.cell), crystal.cell @ stretch, periodic_axes, rules)
    return draft.placed(cell, offset)


def _vacant(sites: VacantSites | None, crystal: Crystal, partition: Partition, positions) -> VacantSites:
    if sites is None:
        return VacantSites()
    images = unwrapped(sites.positions, partition.centre, crystal.cell, crystal.pbc)
    return sites.with_positions(images).near(positions, _VACANT_WITHIN)


def engine_cell(positions, host_cell, periodic_axes, rules: CapRules) -> tuple[np.ndarray, np.ndarray]:
    """Cell with vacuum around `positions`, and the translation that puts them into its middle.

    Periodic directions keep the host's cell vectors; the others are perpendicular to them, with `rules.vacuum` on each side.

    Args:
        positions: Positions of all engine atoms in angstrom, shape=(n, 3).
        host_cell: Host cell as the engine sees it, shape=(3, 3).
        periodic_axes: Periodic cell vectors.
        rules: For the vacuum.

    Returns:
        Cell in angstrom, shape=(3, 3), and translation in angstrom, shape=(3,).
    """
    periodic = list(periodic_axes)
    if len(periodic) == 3:
        return host_cell.copy(), np.zeros(3)
    # An orthonormal frame whose first vectors span the periodic directions; without any, the Cartesian one.
    frame = np.eye(3)
    if periodic:
        q, _ = np.linalg.qr(np.vstack([host_cell[periodic], np.eye(3)]).T)
        # Towards the positive axes: GPAW draws its cell into the log, and fails at one that points backwards.
        largest = np.abs(q).argmax(axis=0)
        frame = (q * np.sign(q[largest, range(3)])).T
    cell, free = np.zeros((3, 3)), [axis for axis in range(3) if axis not in periodic]
    for axis in periodic:
        cell[axis] = host_cell[axis]
    along = (positions @ frame.T)[:, len(periodic) :]
    extent = np.ptp(along, axis=0) + 2 * rules.vacuum
    for k, axis in enumerate(free):
        cell[axis] = frame[len(periodic) + k] * extent[k]
    if np.linalg.det(cell) < 0:
        cell[free[-1]] *= -1
        frame = frame.copy()
        frame[2] *= -1
        along = (positions @ frame.T)[:, len(periodic) :]
    middle = 0.5 * (along.min(axis=0) + along.max(axis=0)) @ frame[len(periodic) :]
    return cell, 0.5 * cell[free].sum(axis=0) - middle


def _cut(bonds: Bonds, quantum) -> Bonds:
    """Bonds that lead from a quantum atom to a host atom."""
    keep = np.isin(bonds.i, quantum) & ~np.isin(bonds.j, quantum)
    return Bonds(bonds.i[keep], bonds.j[keep], bonds.vector[keep])


def _require_no_self_contact(crystal, quantum, positions, bonds: Bonds, periodic_axes):
    """Every bond inside the region must join the images that were chosen, but for periodic directions."""
    where = {atom: k for k, atom in enumerate(quantum)}
    inside = np.isin(bonds.j, quantum)
    i = np.array([where[a] for a in bonds.i[inside]], dtype=int)
    j = np.array([where[a] for a in bonds.j[inside]], dtype=int)
    shift = _lattice_shift(positions[i] + bonds.vector[inside] - positions[j], crystal.cell)
    shift[:, list(periodic_axes)] = 0
    wrong = np.flatnonzero(shift.any(axis=1))
    if len(wrong):
        axes = np.flatnonzero(shift.any(axis=0)).tolist()
        where = ", ".join(f"{axis} (width {crystal.widths[axis]:.2f} A)" for axis in axes)
        raise RegionError(
            f"the quantum region (core and buffer, {len(quantum)} atoms) wraps onto its own periodic image along cell "
            f"vector {where}: use a larger supercell, a smaller core or buffer, or make the cluster periodic along it "
            f"(caps.periodic_axes: {axes})"
        )


def _lattice_shift(difference, cell) -> np.ndarray:
    return np.rint(difference @ np.linalg.inv(cell)).astype(int).reshape(-1, 3)


def _removed_atoms(crystal, quantum, positions, cut: Bonds, periodic_axes):
    """The host atoms Y behind the cut bonds: unique indices, one contiguous image each, and the shift of every bond."""
    where = {atom: k for k, atom in enumerate(quantum)}
    ends = positions[[where[a] for a in cut.i]].reshape(-1, 3) + cut.vector
    outer, first = np.unique(cut.j, return_index=True)
    outer_positions = ends[first].reshape(-1, 3)
    index = np.searchsorted(outer, cut.j)
    shift = _lattice_shift(ends - outer_positions[index], crystal.cell)
    stray = shift.copy()
    stray[:, list(periodic_axes)] = 0
    wrong = np.flatnonzero(stray.any(axis=1))
    if len(wrong):
        raise RegionError(
            f"the quantum region ({len(quantum)} atoms) and its periodic image share the host atom {cut.j[wrong[0]]}: at "
            "least two host atoms must lie between images; use a larger supercell or a smaller buffer"
        )
    return outer, outer_positions, shift


def _caps(crystal, quantum, cut: Bonds, outer, shift, bonds: Bonds, rules: CapRules) -> LinkAtoms:
    if len(cut.i) == 0:
        return LinkAtoms.none()
    where = {atom: k for k, atom in enumerate(quantum)}
    n = len(cut.i)
    length = np.array([rules.length_for(chemical_symbols[z]) for z in crystal.numbers[cut.i]])
    ratio = np.full(n, np.nan)
    if rules.ratio is not None:
        length, ratio = np.full(n, np.nan), np.full(n, float(rules.ratio))
    charges = np.full(n, np.nan)
    if rules.kind == "fractional":
        coordination = dict(zip(*np.unique(bonds.i, return_counts=True), strict=True))
        charges = cap_charge(
            [_valence_electrons(z) for z in crystal.numbers[cut.i]], [coordination[a] for a in cut.i]
        )
    return LinkAtoms(
        inner=[where[a] for a in cut.i],
        outer=len(quantum) + np.searchsorted(outer, cut.j),
        shift=shift,
        numbers=np.full(n, atomic_numbers[rules.element]),
        length=length,
        ratio=ratio,
        bond=np.linalg.norm(cut.vector, axis=1),
        charges=charges,
    )


def _valence_electrons(z: int) -> int:
    """Electrons that a main-group atom brings to its bonds: the group's last digit."""
    from pymatgen.core import Element

    group = Element(chemical_symbols[z]).group
    if 3 <= group <= 11:
        raise ValueError(
            f"no rule for the fractional cap of {chemical_symbols[z]} (group {group}): fractional pseudo-hydrogens are "
            "known for main-group elements; use caps.kind hydrogen"
        )
    return group if group <= 2 else group - 10


def _with_even_electrons(quantum_numbers, caps: LinkAtoms, reference, core) -> LinkAtoms:
    """Drops the cap farthest from the core if the number of electrons is odd."""
    electrons = quantum_numbers.sum() + np.where(np.isnan(caps.charges), caps.numbers, caps.charges).sum()
    if round(electrons) % 2 == 0 or len(caps) == 0:
        return caps
    middle = reference[: len(core)][core].mean(axis=0)
    farthest = np.argmax(np.linalg.norm(reference[caps.inner] - middle, axis=1))
    logger.warning(
        "odd number of electrons: the cap farthest from the core (on region atom %d) is left out", caps.inner[farthest]
    )
    return caps.without(farthest)
