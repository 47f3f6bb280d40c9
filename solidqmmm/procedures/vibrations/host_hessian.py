"""The Hessian of the host's potential energy, sparse, by displacements of many atoms at once.

    K_ij = d2E / dx_i dx_j = -[F_i(x_j + h) - F_i(x_j - h)] / (2 h)

Atoms no force feels together move together (`physics.colouring`), so that the number of force evaluations,

    1 + 2 per probe + 6 per colour,

depends on the surroundings of the atoms and not on their number. How far a force reaches is measured: the potential's
cutoff makes a graph of neighbours, and a few atoms of every species (with the fewest, the most and the median number of
neighbours) are displaced to see how many bonds away forces change. That is one bond for pair potentials and two for those
whose atomic energies depend on the neighbours (Stillinger-Weber, Tersoff, EAM, MEAM, SNAP): there dF_i/dx_j comes about
through a common neighbour, up to twice the cutoff away. Every evaluation is held against it: a force that changes where
none should is an error and not a wrong matrix. In small cells atoms meet images; the matrix is that of the periodic cell.

Symmetry and the acoustic sum rule are enforced after their violations have been measured (`physics.force_constants`).
Forces need not be zero: the matrix is the second derivative wherever the host is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matscipy.neighbours import neighbour_list
from scipy import sparse
from scipy.sparse.csgraph import dijkstra

from solidqmmm.engines.displaced_forces import DisplacedForces, force_cutoff, is_long_range
from solidqmmm.engines.lammps_host import LammpsHost
from solidqmmm.errors import EngineError
from solidqmmm.physics.algebra.colouring import colouring, entries_by_colour, interaction_pattern
from solidqmmm.physics.vibrations.force_constants import symmetrized, with_sum_rule
from solidqmmm.procedures.vibrations.hessian_journal import HessianJournal, HessianPlan
from solidqmmm.system.crystal import Crystal

_FELT = 1e-7  # eV/angstrom^2: forces that change by less did not change
_MOST_HOPS = 4


@dataclass(frozen=True, eq=False)
class HostHessian:
    """Second derivatives of the host's energy, and what their numerical quality is.

    Attributes:
        matrix: K in eV/angstrom^2, shape=(3n, 3n), rows and columns x, y, z of atom 0, of atom 1 ...; symmetric, and
            translations are zero modes.
        displacement: Step h in angstrom.
        n_force_evaluations: Of the host, those of an interrupted run included.
        n_read: How many of them were read from the folder.
        n_colours: Groups of atoms that moved together.
        cutoff: Largest distance of neighbours in angstrom.
        hops: Largest number of neighbour bonds between two atoms whose block is not zero.
        force_range: Largest distance in angstrom at which the force on one atom may depend on another.
        largest_force: Largest norm of a force at the place of expansion, eV/angstrom.
        asymmetry: max |K - K^T| before symmetrization, eV/angstrom^2.
        sum_rule_error: max |sum_j K_ij| after symmetrization and before the sum rule was enforced, eV/angstrom^2.
        leak: Largest |dF/(2h)| where no force should have changed, eV/angstrom^2.
    """

    matrix: sparse.csr_array
    displacement: float
    n_force_evaluations: int
    n_read: int
    n_colours: int
    cutoff: float
    hops: int
    force_range: float
    largest_force: float
    asymmetry: float
    sum_rule_error: float
    leak: float


def host_hessian(
    host: LammpsHost,
    *,
    displacement: float = 1e-3,
    hops: int | None = None,
    folder=None,
    progress: Callable[[int, int, str], object] | None = None,
) -> HostHessian:
    """The Hessian of a host at its present positions; collective, the same on all ranks.

    Args:
        host: A live host without corrections, frozen atoms and fixes; it is left where it was.
        displacement: Step h in angstrom. The error is of order h^2: about 1e-5 of K at 0.001, 1e-3 at 0.01.
        hops: How many bonds (pairs within the potential's cutoff) away a force may depend on an atom; measured by default.
        folder: Where every finished group of displacements is kept, so that a run that was interrupted goes on; one folder
            for one Hessian, about 72 bytes for each atom and colour at most. None keeps nothing.
        progress: Called as progress(evaluation, evaluations, message).

    Raises:
        ValueError: If the displacement is not positive or above a tenth of the shortest bond; for long-range (kspace)
            potentials; for forces that reach too far, `hops` below 1, or a host that is not bare.
        EngineError: If LAMMPS fails, or a force changed where none should.
    """
    if not displacement > 0:
        raise ValueError(f"`displacement` must be positive (angstrom), got {displacement}")
    if is_long_range(host.potential):
        raise ValueError(
            "the potential is long-ranged (kspace): every force depends on every atom, and a sparse Hessian does not exist. "
            "Use a potential with a cutoff, such as coul/dsf or coul/wolf for the charges"
        )
    report = progress or (lambda _done, _of, _message: None)
    with DisplacedForces(host) as forces:
        journal = HessianJournal(folder, host, forces.crystal, displacement=displacement, hops=hops)
        plan = journal.plan()
        if plan is None:
            plan = journal.start(_planned(forces, displacement, hops, force_cutoff(host.potential), report))
        return _computed(forces, plan, displacement, journal, report)


def force_range(host: LammpsHost, *, displacement: float = 1e-3) -> float:
    """Largest distance in angstrom at which the force on one atom may depend on another, by a few displacements.

    Args:
        host: As for `host_hessian`, with its errors.
        displacement: In angstrom.
    """
    with DisplacedForces(host) as forces:
        plan = _planned(forces, displacement, None, force_cutoff(host.potential), lambda *_: None)
    return plan.hops * plan.cutoff


def _planned(forces: DisplacedForces, h: float, hops: int | None, cutoff: float, report) -> HessianPlan:
    crystal, n = forces.crystal, len(forces.crystal)
    # Displaced by h, a pair just outside of the cutoff may come inside.
    i, j, d = neighbour_list(
        "ijd", positions=crystal.positions, cell=crystal.cell, pbc=crystal.pbc, cutoff=float(cutoff + 2 * h)
    )
    if len(d) and h > 0.1 * d.min():
        raise ValueError(
            f"`displacement` must not exceed a tenth of the shortest bond, {0.1 * d.min():.3g} angstrom here, got {h}"
        )
    graph = interaction_pattern(i, j, n, 1)
    probes = _probes(crystal, np.diff(graph.indptr)) if hops is None else []
    report(1, 1 + 2 * len(probes), "range of the forces")
    if hops is None:
        hops = max(_reach(forces, graph, atom, h) for atom in probes)
    pattern = graph if hops == 1 else interaction_pattern(i, j, n, hops)
    return HessianPlan(pattern, colouring(pattern), cutoff, hops, len(probes))


def _probes(crystal: Crystal, neighbours) -> list[int]:
    """Of every species one atom with the fewest, one with the most and one with the median number of neighbours.

    Always three, the same one or not, so that the number of evaluations does not depend on which they are.
    """
    chosen = []
    for number in np.unique(crystal.numbers):
        atoms = np.flatnonzero(crystal.numbers == number)
        order = atoms[np.argsort(neighbours[atoms], kind="stable")]
        chosen += [int(order[0]), int(order[len(order) // 2]), int(order[-1])]
    return chosen


def _reach(forces: DisplacedForces, graph, atom: int, h: float) -> int:
    """How many bonds away from `atom` forces change when it moves by `h` in a direction without symmetry."""
    u = h * np.array([0.8017, 0.2673, 0.5345])
    change = np.abs(forces([atom], u) - forces([atom], -u)).max(axis=1) / (2 * h)
    felt = np.flatnonzero(change > _FELT)
    bonds = dijkstra(graph, indices=atom, unweighted=True, limit=_MOST_HOPS)[felt]
    if not np.isfinite(bonds).all():
        k = felt[np.flatnonzero(~np.isfinite(bonds))[0]]
        raise ValueError(
            f"the force on atom {k} changes by {change[k]:.1e} eV/angstrom^2 when atom {atom} moves, more than {_MOST_HOPS} "
            "neighbours away: the forces of this potential have no finite range (do charges equilibrate?), and its Hessian "
            "is not sparse"
        )
    return max(1, int(bonds.max(initial=1)))


def _computed(forces: DisplacedForces, plan: HessianPlan, h: float, journal: HessianJournal, report) -> HostHessian:
    n, pattern = len(forces.crystal), plan.pattern
    rows, order, limits = entries_by_colour(pattern, plan.colours)
    blocks = np.empty((len(rows), 3, 3))
    by_colour = np.argsort(plan.colours, kind="stable")
    members = np.split(by_colour, np.cumsum(np.bincount(plan.colours))[:-1])
    leak, read = 0.0, 0
    for colour, atoms in enumerate(members):
        entries = order[limits[colour] : limits[colour + 1]]
        found = journal.read(colour, len(entries))
        if found is None:
            found = _columns(forces, atoms, rows[entries], h)
            journal.write(colour, *found)
        else:
            read += 6
        blocks[entries] = found[0]
        leak = max(leak, found[1])
        report(1 + 2 * plan.n_probes + 6 * (colour + 1), plan.evaluations, f"{colour + 1} of {plan.n_colours} groups")
        if leak > _FELT:
            raise EngineError(
                f"a force changed by {leak:.1e} eV/angstrom^2 more than {plan.hops} bond(s) away from every displaced atom: "
                f"give `hops` of {plan.hops + 1} or more"
            )
    K = sparse.bsr_array((blocks, pattern.indices, pattern.indptr), shape=(3 * n, 3 * n))
    K, asymmetry = symmetrized(K)
    K, sum_rule_error = with_sum_rule(K)
    return HostHessian(
        matrix=K.tocsr(),
        displacement=h,
        n_force_evaluations=plan.evaluations,
        n_read=read + (2 * plan.n_probes if journal.resumed else 0),
        n_colours=plan.n_colours,
        cutoff=plan.cutoff,
        hops=plan.hops,
        force_range=plan.hops * plan.cutoff,
        largest_force=float(np.sqrt((forces.forces**2).sum(axis=1).max(initial=0.0))),
        asymmetry=asymmetry,
        sum_rule_error=sum_rule_error,
        leak=leak,
    )


def _columns(forces: DisplacedForces, atoms, rows, h: float) -> tuple[np.ndarray, float]:
    """Blocks K_ij of the atoms j of one colour, for i = `rows` that feel them, and the largest change elsewhere."""
    blocks = np.empty((len(rows), 3, 3))
    elsewhere = np.ones(len(forces.crystal), dtype=bool)
    elsewhere[rows] = False
    leak = 0.0
    for axis, u in enumerate(h * np.eye(3)):
        derivative = (forces(atoms, u) - forces(atoms, -u)) / (2 * h)
        blocks[:, :, axis] = -derivative[rows]
        leak = max(leak, float(np.abs(derivative[elsewhere]).max(initial=0.0)))
    return blocks, leak
