"""The Hessian of the hybrid crystal: sparse from the host, dense on the quantum region from the coupled forces.

    K = K_host(all) + dK(region),    dK_ij = -d(Delta F_i)/dx_j

Only atoms of the region are displaced under the quantum engine, those that symmetry leaves, by symmetric differences
(`physics.symmetric_displacements`). Force mixing replaces rows, dK_i = w_i (K_i^QM - K_i^host), which is the gradient of
nothing: what symmetrization takes away is reported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse

from solidqmmm.coupling.qmmm import QMMM
from solidqmmm.physics.geometry import unwrapped
from solidqmmm.physics.symmetry.symmetric_displacements import (
    fewest_displacements,
    hessian_from_responses,
    opposite_forces,
)
from solidqmmm.physics.vibrations.force_constants import symmetrized, with_sum_rule
from solidqmmm.procedures.build import build_model
from solidqmmm.procedures.parallel.task_worker import ONE_AT_A_TIME
from solidqmmm.procedures.parallel.tasks import map_tasks
from solidqmmm.procedures.vibrations.host_hessian import HostHessian, host_hessian
from solidqmmm.system.study import Study


@dataclass(frozen=True, eq=False)
class HybridHessian:
    """Second derivatives of the hybrid crystal.

    Attributes:
        matrix: K in eV/angstrom^2, shape=(3n, 3n); symmetric, and translations are zero modes.
        host: The host's part, with its own measures of quality.
        n_displacements: Displacements of region atoms.
        n_qm_calls: Evaluations by the quantum engine for them.
        asymmetry: max |K - K^T| of the quantum block before symmetrization, eV/angstrom^2; that of the host without one.
        sum_rule_error: max |sum_j K_ij| of the whole matrix before the sum rule was enforced, eV/angstrom^2.
    """

    matrix: sparse.csr_array
    host: HostHessian
    n_displacements: int
    n_qm_calls: int
    asymmetry: float
    sum_rule_error: float


def hybrid_hessian(
    qmmm: QMMM,
    *,
    displacement: float = 0.01,
    rotations=None,
    permutations=None,
    folder=None,
    study: Study | None = None,
    workdir: Path | None = None,
    executor=None,
    progress: Callable | None = None,
) -> HybridHessian:
    """The Hessian of a hybrid crystal (or of the host alone) at its present positions; collective.

    Args:
        qmmm: The live crystal; it is left as it was.
        displacement: Step of the quantum atoms in angstrom; the host's own is 0.001.
        rotations, permutations: Point operations that the crystal has, and onto which atom each takes each atom,
            shape=(m, 3, 3) and (m, n); only the identity without them.
        folder: Where the host's finished displacements are kept; quantum evaluations are in the engine's journal.
        study, workdir: Of the crystal, where an executor is given: its workers build the coupling anew, and read what is in
            the journal of the run folder.
        executor: Any concurrent.futures executor; the atoms of the quantum region are displaced in it side by side. The
            host's own displacements are done here, in a live LAMMPS that knows its neighbours.
        progress: Called as progress(done, total, message).

    Raises:
        ValueError: If the displacement is not positive, or larger than a tenth of the shortest bond of the region.
    """
    host, coupling = qmmm.host, qmmm.coupling
    report = progress or (lambda *_: None)
    positions, cell = host.positions(), host.cell()
    if coupling is not None:
        host.detach()
    try:
        classical = host_hessian(host, folder=folder, progress=progress)
    finally:
        if coupling is not None:
            host.attach(coupling)
    if coupling is None:
        K = classical.matrix
        return HybridHessian(K, classical, 0, 0, classical.asymmetry, classical.sum_rule_error)

    atoms = np.asarray(coupling.atoms)
    inside = unwrapped(positions[atoms], coupling.reference, cell, host.crystal.pbc)
    _require_small(displacement, inside)
    if rotations is None:
        rotations, local = np.eye(3)[None], np.arange(len(atoms))[None]
    else:
        place = np.full(len(positions), -1)
        place[atoms] = np.arange(len(atoms))
        local = place[np.asarray(permutations)[:, atoms]]
        kept = (local >= 0).all(axis=1)
        rotations, local = np.asarray(rotations)[kept], local[kept]
    displacements = fewest_displacements(rotations, local)
    moved, calls = _moved_forces(
        displacements, displacement, inside, cell, atoms, coupling, executor, study, workdir, report
    )
    responses = []
    for d, found in zip(displacements, moved):
        if len(found) == 1:
            found.append(opposite_forces(d, found[0], rotations, local))
        responses.append((found[1] - found[0]) / (2 * displacement))
    block = hessian_from_responses(displacements, responses, rotations, local).reshape(3 * len(atoms), -1)
    return _joined(classical, coupling, atoms, block, len(displacements), calls)


@dataclass(frozen=True, eq=False)
class DisplacementTask:
    """Displacements of one atom, as a worker in another process is told about them.

    Attributes:
        study: The study.
        positions: Of the region's atoms at rest in angstrom, shape=(n, 3).
        cell: Cell vectors as rows in angstrom, shape=(3, 3).
        atom: Which of them is displaced.
        vectors: By how much, angstrom, shape=(m, 3).
        workdir: Run folder, or None.
    """

    study: Study
    positions: np.ndarray
    cell: np.ndarray
    atom: int
    vectors: np.ndarray
    workdir: Path | None = None


def run_displacements(task: DisplacementTask) -> tuple[np.ndarray, int]:
    """Forces in eV/angstrom, shape=(m, n, 3), and the quantum calls they took, in a worker: the coupling is built anew."""
    with ONE_AT_A_TIME, build_model(task.study, log_dir=task.workdir) as model:
        coupling = model.coupling()
        return _displaced(task, coupling, lambda: None)


def _displaced(task: DisplacementTask, coupling, tick: Callable) -> tuple[np.ndarray, int]:
    forces, before, found = _quantum_forces(coupling, task.cell), coupling.quantum.evaluations, []
    for vector in task.vectors:
        shifted = task.positions.copy()
        shifted[task.atom] += vector
        found.append(forces(shifted))
        tick()
    return np.array(found), coupling.quantum.evaluations - before


def _moved_forces(displacements, size, inside, cell, atoms, coupling, executor, study, workdir, report):
    """Forces with each displacement by each of its signs, and the quantum calls they took; atom by atom."""
    of_atom: dict[int, list[int]] = {}
    for n, d in enumerate(displacements):
        of_atom.setdefault(d.atom, []).append(n)
    steps = {
        atom: [(n, sign * size * np.array(displacements[n].direction)) for n in mine for sign in displacements[n].signs]
        for atom, mine in of_atom.items()
    }
    tasks = [
        DisplacementTask(study, inside, cell, atom, np.array([vector for _, vector in mine]), workdir)
        for atom, mine in steps.items()
    ]
    total, done = sum(map(len, steps.values())), 0

    def tick(count=1, text="quantum block"):
        nonlocal done
        done += count
        report(done, total, text)

    names = [f"atom {int(atoms[atom])}" for atom in steps]
    if executor is None:
        outcomes = map_tasks(lambda task: _displaced(task, coupling, tick), tasks, names=names, directory=workdir)
    else:
        outcomes = map_tasks(
            run_displacements, tasks, executor=executor, names=names, directory=workdir,
            report=lambda outcome: tick(len(outcome[0])),
        )  # fmt: skip
    moved = [[] for _ in displacements]
    for mine, (forces, _) in zip(steps.values(), outcomes, strict=True):
        for (n, _), found in zip(mine, forces, strict=True):
            moved[n].append(found)
    return moved, sum(calls for _, calls in outcomes)


def _quantum_forces(coupling, cell):
    """Forces on the region's atoms whose derivative makes the quantum block, as a function of their positions."""
    if coupling.has_energy:
        return lambda positions: np.array(coupling.evaluate(positions, cell).forces)

    def bare(positions):
        forces = np.zeros((len(coupling.atoms), 3))
        given = coupling.quantum.evaluate(positions, cell).bare_forces
        forces[: len(given)] = coupling.weights[:, None] * given
        return forces

    return bare


def _joined(classical: HostHessian, coupling, atoms, block, n_displacements, n_qm_calls) -> HybridHessian:
    n = classical.matrix.shape[0] // 3
    dofs = (3 * atoms[:, None] + np.arange(3)).ravel()
    K = classical.matrix
    if coupling.has_energy:
        asymmetry = float(np.abs(block - block.T).max())
        block = (block + block.T) / 2
    else:
        # Rows of the core change hands: what the host says there counts only with 1 - w.
        share = np.zeros(3 * n)
        share[dofs[: 3 * len(coupling.weights)]] = np.repeat(coupling.weights, 3)
        K = sparse.diags_array(1 - share) @ K
    rows, columns = np.repeat(dofs, len(dofs)), np.tile(dofs, len(dofs))
    K = K + sparse.coo_array((block.ravel(), (rows, columns)), shape=K.shape).tocsr()
    if not coupling.has_energy:
        asymmetry = float(abs(K - K.T).max())
    K = _blocks((K + K.T) / 2)
    K, _ = symmetrized(K)
    K, sum_rule_error = with_sum_rule(K)
    return HybridHessian(
        sparse.csr_array(K), classical, n_displacements, n_qm_calls, asymmetry, sum_rule_error
    )


def _blocks(K) -> sparse.bsr_array:
    """In 3x3 blocks, each atom with its own."""
    n = K.shape[0] // 3
    own = sparse.bsr_array((np.zeros((n, 3, 3)), np.arange(n), np.arange(n + 1)), shape=K.shape)
    blocks = (sparse.bsr_array(K, blocksize=(3, 3)) + own).tobsr((3, 3))
    blocks.sort_indices()
    return blocks


def _require_small(displacement, positions):
    from scipy.spatial import cKDTree

    if not displacement > 0:
        raise ValueError(f"`displacement` must be positive (angstrom), got {displacement}")
    if len(positions) > 1:
        shortest = cKDTree(positions).query(positions, k=2)[0][:, 1].min()
        if displacement > 0.1 * shortest:
            raise ValueError(
                f"a `displacement` of {displacement:g} angstrom is more than a tenth of the shortest bond "
                f"({shortest:.3f} angstrom): forces are not linear that far; 0.01 is usual"
            )
