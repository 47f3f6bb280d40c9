"""A series of homogeneous deformations of one crystal: at each, the stress with clamped and with relaxed ions.

Deformations do not depend on each other. Without an executor they are done in an order in which each starts from the
relaxed ones before it; with one, each is a task that starts from the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from solidqmmm.coupling.qmmm import QMMM
from solidqmmm.engines.unit_cell_engine import has_own_mesh
from solidqmmm.errors import StructureError
from solidqmmm.physics.elasticity import second_piola_kirchhoff, stretch_for
from solidqmmm.physics.symmetry.crystal_symmetry import voigt_strain
from solidqmmm.procedures.elastic.strain_reference import Reference
from solidqmmm.procedures.elastic.strained_crystal import (
    EngineCrystal,
    HybridCrystal,
    StrainedCrystal,
    is_noise_free,
    require_stress,
)
from solidqmmm.procedures.formation import primitive
from solidqmmm.procedures.parallel.task_states import tell_known, tell_waiting, told
from solidqmmm.procedures.parallel.task_worker import ONE_AT_A_TIME
from solidqmmm.procedures.parallel.tasks import map_tasks
from solidqmmm.procedures.records import Records
from solidqmmm.system.study import Study

# The host's forces carry no noise: they are relaxed to this fraction of what the strain puts on the ions.
_RELATIVE_FORCE = 1e-3
_SMALLEST_TARGET = 1e-7  # eV/angstrom; below, LAMMPS's line search sees no change of the energy


@dataclass(frozen=True)
class Deformation:
    """One member of a series: the Green-Lagrange strain `amplitude` times a strain shape.

    Attributes:
        shape: Voigt strain (xx, yy, zz, 2 yz, 2 xz, 2 xy) at unit amplitude, six numbers.
        amplitude: Signed.
    """

    shape: tuple[float, ...]
    amplitude: float

    @property
    def gradient(self) -> np.ndarray:
        """F, the symmetric stretch with that strain, shape=(3, 3); ValueError where it is singular."""
        return stretch_for(self.amplitude * voigt_strain(self.shape))

    @property
    def name(self) -> str:
        """As in file names: 'xx_+0.0010'."""
        labels = ("xx", "yy", "zz", "yz", "xz", "xy")
        parts = [
            label if value == 1 else f"{value:g}{label}" for label, value in zip(labels, self.shape) if value
        ]
        return f"{'.'.join(parts)}_{self.amplitude:+.12g}"


def deformations(shapes, amplitudes) -> list[Deformation]:
    """All members of a series: by shape, the smallest amplitudes first, so that each can start from those before it."""
    ordered = sorted(amplitudes, key=lambda a: (abs(a), -a))
    return [Deformation(tuple(float(x) for x in shape), float(a)) for shape in shapes for a in ordered]


@dataclass(frozen=True, eq=False)
class StrainedState:
    """What was found at one deformation.

    Attributes:
        deformation: The deformation.
        stress: Second Piola-Kirchhoff stress with relaxed ions in eV/angstrom^3, shape=(3, 3).
        stress_clamped: The same with the ions at the affine image of the reference, shape=(3, 3).
        inner: F^-1 x - X of the relaxed ions in angstrom, shape=(n, 3); None in an image by symmetry whose atoms are not
            told.
        forces: F^T f, the forces left in eV/angstrom, shape=(n, 3); None likewise.
        max_force: Largest force left in eV/angstrom.
        max_force_clamped: Largest force that the strain put on the ions in eV/angstrom.
        n_force_evaluations, n_qm_calls: What it took.
    """

    deformation: Deformation
    stress: np.ndarray
    stress_clamped: np.ndarray
    inner: np.ndarray | None
    forces: np.ndarray | None
    max_force: float
    max_force_clamped: float
    n_force_evaluations: int
    n_qm_calls: int

    def record(self) -> dict:
        """The arrays that a record keeps."""
        return {name: value for name, value in vars(self).items() if name != "deformation"}

    @classmethod
    def from_record(cls, deformation: Deformation, arrays: dict) -> StrainedState:
        """The inverse of `record`."""
        plain = {name: value if value.ndim else value.item() for name, value in arrays.items()}
        return cls(deformation=deformation, **plain)


def mirror_of(shape, rotations) -> int | None:
    """The operation that turns a strain shape into its negative, or None: then -a need not be computed."""
    strain = voigt_strain(shape)
    for k, R in enumerate(rotations):
        if np.abs(R @ strain @ R.T + strain).max() < 1e-6:
            return k
    return None


def mirrored(state: StrainedState, rotation, images=None) -> StrainedState:
    """The state at the opposite amplitude, by an operation that turns the strain into its negative.

    Args:
        state: The computed state.
        rotation: R, Cartesian, shape=(3, 3).
        images: Onto which atom it takes each atom, shape=(n,), or None.
    """

    def moved(field):
        if images is None or field is None:
            return None
        turned = np.empty_like(field)
        turned[images] = field @ rotation.T
        return turned

    return replace(
        state,
        deformation=Deformation(state.deformation.shape, -state.deformation.amplitude),
        stress=rotation @ state.stress @ rotation.T,
        stress_clamped=rotation @ state.stress_clamped @ rotation.T,
        inner=moved(state.inner),
        forces=moved(state.forces),
        n_force_evaluations=0,
        n_qm_calls=0,
    )


@dataclass(frozen=True, eq=False)
class SeriesTask:
    """Deformations of one crystal, as a worker in another process is told about them.

    Attributes:
        study: The study.
        which: 'defect' or 'perfect', see `open_strained`.
        reference: Where they start.
        members: The deformations, in order.
        fmax: Largest force, eV/angstrom.
        records: Where each is saved when it is done.
        workdir: Run folder, or None.
    """

    study: Study
    which: str
    reference: Reference
    members: tuple[Deformation, ...]
    fmax: float
    records: Records
    workdir: Path | None = None


def strain_series(
    model, which: str, crystal: StrainedCrystal, reference: Reference, members: Iterable[Deformation], *,
    fmax: float, records: Records, executor=None, report: Callable | None = None,
) -> list[StrainedState]:  # fmt: skip
    """All members of a series, those that are on record read and the others computed and saved, in order.

    Args:
        model: A `procedures.build.Model`.
        which: Which of its crystals this is ('defect' or 'perfect').
        crystal: That crystal, live; used where there is no executor.
        reference: Where the deformations start.
        members: The deformations.
        fmax: Largest force with relaxed ions, eV/angstrom.
        records: Where finished members are kept.
        executor: Any concurrent.futures executor; its workers build the model anew from its study.
        report: Called as report(state) as each is done.
    """
    task = SeriesTask(model.study, which, reference, tuple(members), fmax, records, model.log_dir)
    if executor is None:
        return _computed(task, crystal, report or (lambda _: None))
    missing = [m for m in task.members if records.read(f"{which}/{m.name}") is None]
    singles = [SeriesTask(task.study, which, reference, (m,), fmax, records, task.workdir) for m in missing]
    tell_known(f"{which} {m.name}" for m in task.members if m not in missing)
    done = map_tasks(
        run_task, singles, executor=executor, report=report, names=[f"{which} {m.name}" for m in missing],
        directory=task.workdir,
    )  # fmt: skip
    found = {state.deformation: state for state in done}
    for member in task.members:
        if member not in found:
            found[member] = StrainedState.from_record(member, records.read(f"{which}/{member.name}"))
    return [found[member] for member in task.members]


def run_task(task: SeriesTask) -> StrainedState:
    """One deformation in a worker: the model is built anew."""
    from solidqmmm.procedures.build import build_model

    with (
        ONE_AT_A_TIME,
        build_model(task.study, log_dir=task.workdir) as model,
        open_strained(model, task.which) as crystal,
    ):
        return _computed(task, crystal, lambda _: None)[0]


def open_strained(model, which: str) -> StrainedCrystal:
    """A crystal of the model, live: 'defect' (the study's own) or 'perfect' (without its defect).

    The perfect crystal of the host alone or of an engine alone is one unit cell, but of an engine whose mesh of k-points was
    given for the supercell it is the supercell, and of a hybrid the supercell with the same quantum atoms.

    Raises:
        StructureError: If it is not periodic in three directions.
        EngineError: If coupling or engine have no stress.
    """
    if not np.all(model.crystal.pbc):
        raise StructureError(
            f"elastic constants need a crystal that is periodic in three directions, got pbc {model.crystal.pbc.tolist()}"
        )
    require_stress(model)
    tightens = is_noise_free(model.engine)
    if model.engine_alone:
        crystal = model.crystal
        if which == "perfect":
            crystal = model.perfect if has_own_mesh(model.engine) else primitive(model.unit)
        return EngineCrystal(model.engine, crystal, tightens=tightens, perfect=which == "perfect")
    if which == "perfect" and model.engine is None:
        return HybridCrystal(QMMM(model.unit, model.potential), tightens=True)
    return HybridCrystal(model.open_perfect() if which == "perfect" else model.open(), tightens=tightens)


def _computed(task: SeriesTask, crystal: StrainedCrystal, report) -> list[StrainedState]:
    states: list[StrainedState] = []
    tell_waiting(f"{task.which} {member.name}" for member in task.members)
    for member in task.members:
        name = f"{task.which}/{member.name}"
        known = task.records.read(name)
        if known is not None:
            tell_known([f"{task.which} {member.name}"])
            states.append(StrainedState.from_record(member, known))
            continue
        same = [state for state in states if state.deformation.shape == member.shape]
        with told(f"{task.which} {member.name}"):
            states.append(_strained(crystal, task.reference, member, same, task.fmax))
        task.records.write(name, **states[-1].record())
        report(states[-1])
    return states


def _strained(crystal, reference: Reference, member: Deformation, before, fmax) -> StrainedState:
    """Stress at one deformation, first with the ions clamped to the affine image, then relaxed."""
    counts = crystal.n_force_evaluations, crystal.n_qm_calls
    F = member.gradient
    affine, cell = reference.positions @ F.T, reference.cell @ F.T
    crystal.place(affine, cell)
    put_on = crystal.max_force()
    clamped = crystal.stress()
    target = max(_RELATIVE_FORCE * put_on, _SMALLEST_TARGET) if crystal.tightens else None
    if before and put_on > min(fmax, target or fmax):
        crystal.place(affine + foreseen(before, member.amplitude) @ F.T, cell)
    left = crystal.relax(fmax, target)
    return StrainedState(
        deformation=member,
        stress=second_piola_kirchhoff(crystal.stress(), F),
        stress_clamped=second_piola_kirchhoff(clamped, F),
        inner=np.linalg.solve(F, (crystal.positions() - affine).T).T,
        forces=crystal.forces() @ F,
        max_force=left,
        max_force_clamped=put_on,
        n_force_evaluations=crystal.n_force_evaluations - counts[0],
        n_qm_calls=crystal.n_qm_calls - counts[1],
    )


def foreseen(before: list[StrainedState], amplitude: float) -> np.ndarray:
    """Inner displacements in angstrom at an amplitude, shape=(n, 3).

    By the polynomial through the reference and the last two states.
    """
    nodes = [(0.0, np.zeros_like(before[-1].inner))]
    nodes += [(state.deformation.amplitude, state.inner) for state in before[-2:]]
    total = np.zeros_like(before[-1].inner)
    for i, (a, field) in enumerate(nodes):
        weight = np.prod([(amplitude - b) / (a - b) for j, (b, _) in enumerate(nodes) if j != i])
        total += weight * field
    return total
