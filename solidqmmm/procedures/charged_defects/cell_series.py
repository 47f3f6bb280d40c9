"""One defect in supercells of several sizes: E[X^q] - E[bulk] of each, by host, hybrid, or an engine alone.

The cells do not depend on each other: they are tasks, and each is on record when it is done. In every cell the crystal with
the defect carries its charge and the perfect one is neutral. Chemical potentials and the Fermi level are no part of these
energies: they are the same in every cell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms

from solidqmmm.engines.factory import parse_settings
from solidqmmm.engines.protocols import Evaluation, PotentialEvaluation, SitePotentialEngine
from solidqmmm.errors import ConvergenceError, StudyError
from solidqmmm.physics.algebra.quasi_newton import update_bfgs
from solidqmmm.procedures.building.embed import is_additive
from solidqmmm.procedures.charged_defects.host_potentials import compared, host_potentials
from solidqmmm.procedures.charged_defects.lattice_stability import require_stable_lattice
from solidqmmm.procedures.parallel.task_worker import ONE_AT_A_TIME
from solidqmmm.procedures.parallel.tasks import map_tasks
from solidqmmm.procedures.records import Records, fingerprint
from solidqmmm.procedures.relax import relax
from solidqmmm.system.charges import site_charges
from solidqmmm.system.energy_table import CellEnergy
from solidqmmm.system.site_potentials import CellPotentials, SitePotentials
from solidqmmm.system.study import Study

_TOLERANCE = 1e-6  # e
_ION_STIFFNESS = 25.0  # eV/angstrom^2, where relaxation by an engine alone starts
_MOST_STEPS, _LARGEST_STEP = 200, 0.15


@dataclass(frozen=True, eq=False)
class CellTask:
    """One cell, as a worker in another process is told about it.

    Attributes:
        study: The study with this cell, its defect charged.
        ions: 'fixed' or 'relaxed'.
        fmax: Largest force, eV/angstrom.
        workdir: Run folder, or None.
        potentials: Whether the electrostatic potentials are wanted too where they cost something: of the host alone. An
            engine that tells them does so in every cell.
    """

    study: Study
    ions: str
    fmax: float
    workdir: Path | None = None
    potentials: bool = False


@dataclass(frozen=True, eq=False)
class CellOutcome:
    """What was found in one cell.

    Attributes:
        n_atoms: With the defect.
        cell: Cell vectors as rows in angstrom, shape=(3, 3).
        defect: Energy with the defect in eV.
        perfect: Energy without in eV.
        max_force: Largest force left in the crystal with the defect, eV/angstrom; NaN for fixed ions.
        vbm, gap: Valence-band maximum and gap of the perfect crystal in eV; NaN where nobody told them.
        partly_filled: Whether levels of the crystal with the defect are, and none of the perfect one, as far as is told.
        potentials: Of both crystals, or None.
    """

    n_atoms: int
    cell: np.ndarray
    defect: float
    perfect: float
    max_force: float
    vbm: float = np.nan
    gap: float = np.nan
    partly_filled: bool = False
    potentials: SitePotentials | None = None

    def record(self) -> dict[str, np.ndarray]:
        """The fields as arrays by name, in their units and shapes, as a record keeps them."""
        arrays = {key: np.asarray(value) for key, value in vars(self).items() if key != "potentials"}
        if self.potentials is not None:
            arrays |= {f"at_{key}": value for key, value in vars(self.potentials).items() if key != "planar"}
            arrays |= {f"plane_{axis}": np.array(rows) for axis, rows in self.potentials.planar.items()}
        return arrays

    @classmethod
    def from_record(cls, arrays: dict[str, np.ndarray]) -> CellOutcome:
        """The inverse of `record`: fields from arrays by name, in their units and shapes."""
        plain = {key: value if value.ndim else value.item() for key, value in arrays.items()}
        at = {key[3:]: plain.pop(key) for key in list(plain) if key.startswith("at_")}
        planar = {int(key[6:]): tuple(plain.pop(key)) for key in list(plain) if key.startswith("plane_")}
        return cls(**plain, potentials=SitePotentials(**at, planar=planar) if at else None)

    def labelled(self, label: str) -> CellEnergy:
        """As a row of a series."""
        return CellEnergy(label, int(self.n_atoms), self.cell, float(self.defect - self.perfect))


def cell_series(
    model, cells, charge: float, *, ions: str, fmax: float, workdir: Path | None = None, executor=None,
    report: Callable | None = None,
) -> list[CellOutcome]:  # fmt: skip
    """Energies of the model's defect and of the perfect crystal in each of some supercells, in the order of `cells`.

    Potentials are there in every cell where an engine alone tells them, in the largest for a host alone.

    Args:
        model: A `procedures.build.Model` of one of them; its study is built anew in each.
        cells: Repeats of the unit cell, or 3 x 3 matrices, as `supercell` has them.
        charge: q in e.
        ions: 'fixed' where the perfect crystal has them, or 'relaxed' to `fmax`.
        fmax: Largest force, eV/angstrom.
        workdir: Run folder; finished cells are kept there.
        executor: Any concurrent.futures executor.
        report: Called as report(outcome) as each is done.

    Raises:
        StudyError: If there is no defect, the coupling has no energy, or the study states another charge.
        ConvergenceError: If the ions do not come to rest.
    """
    study = charged(model, charge)
    sizes = [_repeats(cell) for cell in cells]
    tasks = [
        CellTask(study.model_copy(update={"supercell": cell}), ions, fmax, workdir, potentials=size == max(sizes))
        for cell, size in zip(cells, sizes)
    ]
    names = [f"cell {cell_name(cell)}" for cell in cells]
    return map_tasks(run_cell, tasks, executor=executor, report=report, names=names, directory=workdir)


def _repeats(cell) -> float:
    """By how much a supercell is larger than its unit cell."""
    matrix = np.asarray(cell, dtype=float)
    return float(np.prod(matrix)) if matrix.ndim == 1 else abs(float(np.linalg.det(matrix)))


def cell_name(cell) -> str:
    """Such as '3x3x3', or the rows of a matrix."""
    flat = [str(n) for n in np.ravel(cell)]
    return "x".join(flat) if len(flat) == 3 else "/".join(" ".join(flat[i : i + 3]) for i in (0, 3, 6))


def charged(model, charge: float) -> Study:
    """The model's study with the charge of its defect said to host, coupling or engine, where it is not said yet.

    Raises:
        StudyError: If it says another one.
    """
    study = model.study
    if model.defect is None:
        raise StudyError("a series of cells needs the `defect` of the study, such as {kind: vacancy, site: 0}")
    if model.engine_alone:
        return _with_engine_charge(study, charge)
    if is_additive(study):
        stated = study.coupling.charge
        _require_same("coupling.charge", stated, charge)
        return study.model_copy(update={"coupling": study.coupling.model_copy(update={"charge": float(charge)})})
    if model.engine is not None:
        raise StudyError(
            f"the coupling '{study.coupling.scheme}' has no charged defects: take electrostatic or polarizable embedding, "
            "the host alone, or an engine alone"
        )
    _require_same("host.net_charge", study.host.net_charge, charge)
    total = float(site_charges(model.crystal, model.potential).sum())
    if abs(total - charge) > _TOLERANCE:
        raise StudyError(
            f"the host's charges with the defect sum to {total:+g} e, and charged.charge is {charge:+g}: give the charge "
            "that the missing or added ions leave, or other `host.charges`"
        )
    return study.model_copy(update={"host": study.host.model_copy(update={"net_charge": float(charge)})})


def _require_same(key: str, stated: float | None, charge: float):
    if stated and abs(stated - charge) > _TOLERANCE:
        raise StudyError(f"{key} is {stated:+g}, and charged.charge {charge:+g}: leave {key} out, or say the same")


def _with_engine_charge(study: Study, charge: float) -> Study:
    settings = parse_settings(study.qm)
    key = next((name for name in ("charge", "net_charge") if name in type(settings).model_fields), None)
    if key is None:
        return study  # a calculator that knows of itself what its atoms carry
    stated = getattr(settings, key)
    if charge:
        _require_same(f"qm.{key}", stated, charge)
    return study.model_copy(update={"qm": {**study.qm, key: float(charge)}})


def run_cell(task: CellTask) -> CellOutcome:
    """One cell; the model is built anew. Its record is read where there is one."""
    from solidqmmm.procedures.build import build_model

    with ONE_AT_A_TIME, build_model(task.study, log_dir=task.workdir) as model:
        folder = None if task.workdir is None else Path(task.workdir) / "cells"
        records = Records(folder, fingerprint(_without_series(model), ions=task.ions, fmax=task.fmax))
        name = cell_name(task.study.supercell).replace("/", "_").replace(" ", ".")
        known = records.read(name)
        wanted = (task.potentials and model.engine is None) or _tells_potentials(model)
        if known is None or (wanted and "at_positions" not in known):
            known = (_of_engine(model, task) if model.engine_alone else _of_host(model, task)).record()
            records.write(name, **known)
        return CellOutcome.from_record(known)


class _without_series:
    """A model whose study forgets the other cells: a series that grows keeps its records."""

    def __init__(self, model):
        self.study, self.engine, self.checksums = model.study.without_options(), model.engine, model.checksums


def _of_host(model, task: CellTask) -> CellOutcome:
    energies, potentials, left = [], [], np.nan
    if task.ions == "relaxed":
        require_stable_lattice(model)
    for opened in (model.open_perfect, model.open):
        with opened() as crystal:
            if not crystal.has_energy:
                raise StudyError(f"a series of cells needs energies: {crystal.energy_missing_reason}")
            if task.ions == "relaxed":
                outcome = relax(crystal, fmax=task.fmax)
                left = _at_rest(outcome.max_force, task, model)
            energies.append(crystal.energy())
            if task.potentials and model.engine is None and model.potential.has_coulomb:
                potentials.append(host_potentials(crystal.host))
    beside = compared(model.defect, *potentials[::-1], model.crystal.cell) if potentials else None
    return CellOutcome(
        len(model.crystal), model.crystal.cell, energies[1], energies[0], left, potentials=beside
    )


def _of_engine(model, task: CellTask) -> CellOutcome:
    """The charged cell, and the neutral perfect one by an engine of its own."""
    from solidqmmm.procedures.build import build_model

    qm = dict(model.study.qm)
    if isinstance(qm.get("magmoms"), list):  # one for each atom of the defect's cell
        qm.pop("magmoms")
    perfect = _with_engine_charge(model.study.model_copy(update={"defect": None, "qm": qm}), 0.0)
    # Engines look for symmetry about the origin: the defect has most of it there.
    defect = replace(model.defect, position=np.zeros(3))
    with build_model(perfect, log_dir=task.workdir) as without:
        reference, there, _ = _engine_says(without, task, model.defect.position)
    found, here, left = _engine_says(model, task, model.defect.position)
    cell, beside, edges, partly = model.crystal.cell, None, None, False
    if isinstance(found, PotentialEvaluation):
        beside = compared(defect, _potentials(found, here), _potentials(reference, there), cell)
        edges = reference.band_edges
        partly = edges is not None and found.band_edges is None
    vbm, gap = (np.nan, np.nan) if edges is None else (float(edges[0]), float(edges[1] - edges[0]))
    energies = float(found.energy), float(reference.energy)
    return CellOutcome(len(here), cell, *energies, left, vbm=vbm, gap=gap, partly_filled=partly, potentials=beside)


def _tells_potentials(model) -> bool:
    """Whether an engine alone computes the cells, and tells the potential in them."""
    return model.engine_alone and isinstance(model.engine, SitePotentialEngine) and all(model.crystal.pbc)


def _potentials(found: PotentialEvaluation, atoms) -> CellPotentials:
    return CellPotentials(atoms.positions, found.site_potentials, found.planar_potentials)


def _engine_says(model, task: CellTask, origin) -> tuple[Evaluation, Atoms, float]:
    """What the engine says, of which atoms, and the largest force left; BFGS at fixed cell where the ions are relaxed."""
    atoms, left = model.crystal.to_atoms(), np.nan
    atoms.positions -= origin
    if task.ions == "relaxed":
        left = _at_rest(_come_to_rest(atoms, model.engine, task.fmax), task, model)
    tells = _tells_potentials(model)
    return (model.engine.evaluate_with_potentials if tells else model.engine.evaluate)(atoms), atoms, left


def _come_to_rest(atoms, engine, fmax: float) -> float:
    """Moves the atoms until no force is larger than `fmax` (eV/angstrom); the largest that is left."""
    hessian, found = _ION_STIFFNESS * np.eye(3 * len(atoms)), engine.evaluate(atoms)
    for _ in range(_MOST_STEPS):
        forces = found.forces - found.forces.mean(axis=0)
        left = float(np.linalg.norm(forces, axis=1).max())
        if left <= fmax:
            break
        move = np.linalg.solve(hessian, forces.ravel()).reshape(-1, 3)
        move *= min(1.0, _LARGEST_STEP / np.linalg.norm(move, axis=1).max())
        atoms.positions += move
        found = engine.evaluate(atoms)
        update_bfgs(hessian, move.ravel(), (forces - found.forces + found.forces.mean(axis=0)).ravel())
    return left


def _at_rest(left: float, task: CellTask, model) -> float:
    if left > task.fmax:
        raise ConvergenceError(
            f"the ions of {cell_name(task.study.supercell)} did not come to rest: largest force {left:.4f} eV/A, asked for "
            f"{task.fmax:g}; raise charged.fmax, or take ions: fixed",
            directory=model.log_dir,
        )
    return left
