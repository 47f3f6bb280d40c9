"""The questions of a trust report as independent tasks: each builds the model anew, and answers with what it found."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from solidqmmm.errors import ConvergenceError, StructureError
from solidqmmm.procedures.build import Model, build_model
from solidqmmm.procedures.match import match_lattices
from solidqmmm.procedures.parallel.task_worker import ONE_AT_A_TIME
from solidqmmm.procedures.trust.buffer_series import forces_at_width
from solidqmmm.procedures.trust.energy_drift import energy_drift
from solidqmmm.procedures.trust.patch_test import patch_test
from solidqmmm.results.matching import MatchingResult
from solidqmmm.system.study import Study


@dataclass(frozen=True, eq=False)
class Question:
    """One question, as a worker in another process is told about it.

    Attributes:
        study: The study.
        kind: 'patch', 'buffer', 'mismatch' or 'drift'.
        options: Of the function that answers it.
        workdir: Run folder, or None.
    """

    study: Study
    kind: str
    options: dict = field(default_factory=dict)
    workdir: Path | None = None


def answered(question: Question):
    """The answer, in a worker."""
    with ONE_AT_A_TIME, build_model(question.study, log_dir=question.workdir) as model:
        return answer(model, question.kind, question.options, lambda _: None)


def answer(model: Model, kind: str, options: dict, progress):
    """The answer: a PatchTest, forces of a width (or why not), a MatchingResult (or why not), a drift (or why not).

    Args:
        model: A model with a quantum region.
        kind, options: See `Question`.
        progress: Called with a message after each engine call.
    """
    if kind == "mismatch":
        return mismatch(model, progress)
    function = {"patch": patch_test, "buffer": forces_at_width, "drift": energy_drift}[kind]
    return function(model, **options, progress=progress)


def mismatch(model: Model, progress) -> MatchingResult | str:
    """How far lattice and elasticity of engine and host are apart, or why nobody can tell.

    Args:
        model: A model with a quantum region.
        progress: Called with a message after each engine call.
    """
    try:
        return match_lattices(
            model.unit,
            model.classical,
            model.engine,
            elastic=True,
            fmax=_ion_threshold(model.engine),
            warn_above_percent=np.inf,  # the report warns by its own thresholds
            progress=lambda _done, _total, message: progress(message),
        )
    except (StructureError, ConvergenceError) as error:
        return str(error)


def _ion_threshold(engine) -> float:
    """Force below which ions count as relaxed in a report of percents, eV/angstrom: what is left enters energies squared,
    stresses linearly, and the grids of quantum engines do not let it become arbitrarily small."""
    if engine.name == "lammps":
        return 1e-4
    return 1e-3 if engine.provides_stress else 5e-3
