"""Is the boundary good enough? The four questions of a trust report, each with a threshold and with what to do about it.

1. Patch test: what forces does the coupling make in the perfect crystal, at rest and strained? (patch_test)
2. How wrong is the force on the core with this buffer? (buffer_series)
3. How far apart are lattice and elasticity of the two descriptions? (match)
4. Does a short run at constant energy keep it? (energy_drift)
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field

from solidqmmm.engines.factory import parse_settings
from solidqmmm.errors import StudyError
from solidqmmm.procedures.build import Model
from solidqmmm.procedures.building.describe import described
from solidqmmm.procedures.building.embed import is_additive
from solidqmmm.procedures.parallel.task_states import told
from solidqmmm.procedures.parallel.tasks import map_tasks
from solidqmmm.procedures.trust.buffer_series import (
    Series,
    buffer_series,
    buffer_width,
    default_widths,
    in_words,
    series_widths,
)
from solidqmmm.procedures.trust.patch_test import searching_strain
from solidqmmm.procedures.trust.questions import Question, answer, answered
from solidqmmm.results.boundary import BoundaryCheckResult, EnergyDrift, PatchTest
from solidqmmm.results.matching import MatchingResult

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


def _engine_section(section: dict) -> dict:
    try:
        parse_settings(section)
    except ValueError as error:
        lines = str(error).replace("qm.", "").splitlines()
        raise ValueError("; ".join(line.removeprefix("  - ") for line in lines[1:] or lines)) from error
    return section


EngineSection = Annotated[dict, AfterValidator(_engine_section)]

OFF = "switched off in the study's section `check`"


def check_boundary(
    model: Model,
    *,
    patch: bool = True,
    strain: Positive = 1e-3,
    patch_threshold: Positive = 0.05,
    buffers: list[NotNegative] | None = None,
    buffer_threshold: Positive = 0.1,
    stand_in: EngineSection | None = None,
    rattle: Positive = 0.05,
    max_quantum_atoms: Annotated[int, Field(gt=0)] | None = None,
    mismatch: bool = True,
    lattice_threshold_percent: Positive = 0.5,
    mismatch_threshold_percent: Positive = 10.0,
    nve_steps: Annotated[int, Field(ge=0)] = 20,
    nve_timestep_fs: Positive = 1.0,
    nve_temperature_K: Positive = 300.0,
    drift_threshold: Positive = 1.0,
    executor=None,
    progress=None,
) -> BoundaryCheckResult:
    """Asks four questions about the boundary of a model. All arguments but the model are options of `check:` in a study.

    Collective over MPI ranks. Engine calls go through the model's journal, so a second run goes on where the first stopped.

    Args:
        model: What `build_model` makes of a study; `model.log_dir` is where engines leave their logs.
        patch: Whether to make the patch test (2 calls of the study's engine, 2 more on the unit cell where symmetry does not
            make the forces of both pure crystals zero; `procedures.patch_test` says which strain is used).
        strain: Largest component of its strain.
        patch_threshold: Largest spurious force, eV/angstrom.
        buffers: Buffer widths of the series, in the unit of the study's buffer (hops or angstrom); by default from none to
            one step beyond the study's, for LAMMPS engines two. The study's own is added; an empty list leaves them out.
        buffer_threshold: Largest RMS error of the core forces at the study's width, eV/angstrom.
        stand_in: A section like `qm` with a cheaper engine for the buffer series: {engine: lammps, pair_style: snap, ...}.
        rattle: Standard deviation of the random displacements for the series, angstrom; seeded by the study.
        max_quantum_atoms: Buffers wider than the study's with more quantum atoms are left out; by default 120, without limit
            for LAMMPS engines.
        mismatch: Whether to compare lattice and elastic constants (some ten engine calls on the unit cell).
        lattice_threshold_percent: Largest difference of a lattice length in percent.
        mismatch_threshold_percent: Largest difference of bulk modulus and elastic constants in percent.
        nve_steps: Steps of the run at constant energy (at least 2), one engine call each; 0 leaves it out.
        nve_timestep_fs: Its time step, fs.
        nve_temperature_K: Its temperature at the start, K.
        drift_threshold: Largest drift of the total energy in meV per moving atom per ps.
        executor: Any concurrent.futures executor; the questions, and each width of the buffer series, are answered in it
            side by side.
        progress: Called as progress(done, total, message).

    Returns:
        The report. Parts that do not apply or are switched off are None, with the reason.

    Raises:
        StudyError: For a study without a quantum region or with an additive coupling, or options that do not fit it.
        SolidQMMMError: If an engine fails at the study's own boundary.
    """
    if model.engine is None or model.engine_alone:
        cure = "`host` and `region`" if model.engine_alone else "`qm` and `region`"
        raise StudyError(f"this study has no quantum region, so there is no boundary to check: give it {cure}")
    if is_additive(model.study):
        raise StudyError(
            f"the trust report is about couplings that are corrections, and '{model.study.coupling.scheme}' is additive: "
            "the recipe embedding_ladder shows how its numbers depend on the cluster, and the error of the potential"
        )
    _require_whole_hops(model, buffers)
    report = _Report(model)
    meter = _Meter(progress)
    cheap = model.engine.name == "lammps" or (stand_in or {}).get("engine") == "lammps"
    n_widths = 0 if buffers == [] else 1 + len(buffers or default_widths(model, cheap=cheap))
    does_drift = nve_steps > 0 and model.study.coupling.scheme != "force_mixing"
    meter.plan(patch=2 * patch, buffers=n_widths, mismatch=33 * mismatch, drift=(nve_steps + 1) * does_drift)
    patch_core = len(model.perfect_partition.core) > 0
    widths = {"widths": buffers, "stand_in": stand_in, "max_quantum_atoms": max_quantum_atoms}
    asked: dict[str, tuple[str, dict]] = {}
    if patch and patch_core:
        asked["patch test"] = "patch", {"strain": strain, "threshold": patch_threshold}
    if mismatch:
        asked["mismatch"] = "mismatch", {}
    if nve_steps > 0:
        timing = {"steps": nve_steps, "timestep_fs": nve_timestep_fs, "temperature_K": nve_temperature_K}
        asked["energy drift"] = "drift", timing | {"threshold": drift_threshold}
    answers = {}
    if executor is not None:
        if buffers != []:
            for width in series_widths(model, **widths):
                given = {"width": width, "stand_in": stand_in, "rattle": rattle}
                asked[f"buffer {in_words(width, report.unit)}"] = "buffer", given
        answers = _side_by_side(model, asked, executor, progress)

    def ask(name: str):
        if name in answers:
            return answers[name]
        with told(name):
            return answer(model, *asked[name], meter.of({"patch test": "patch", "energy drift": "drift"}.get(name, name)))

    if not patch:
        report.without("patch_test", OFF)
    elif not patch_core:
        report.without(
            "patch_test", "no atom of the core is left in the perfect crystal (an interstitial alone)"
        )
    else:
        report.patch_test(ask("patch test"))

    if buffers == []:
        report.without("buffer_series", OFF)
    else:
        known = {options["width"]: answers[name] for name, (kind, options) in asked.items() if kind == "buffer"}
        report.buffer_series(
            buffer_series(
                model,
                **widths,
                rattle=rattle,
                threshold=buffer_threshold,
                known=known or None,
                progress=meter.of("buffers"),
            )
        )

    if not mismatch:
        report.without("mismatch", OFF)
    else:
        found = ask("mismatch")
        if isinstance(found, str):
            report.no_mismatch(found)
        else:
            report.mismatch(found, lattice_threshold_percent, mismatch_threshold_percent)

    if nve_steps == 0:
        report.without("energy_drift", OFF)
    else:
        found, reason = ask("energy drift")
        report.energy_drift(found, reason)
    return report.result(mismatch_threshold_percent)


def _side_by_side(model: Model, asked: dict[str, tuple[str, dict]], executor, progress) -> dict:
    """Answers by name."""
    done, report = [], progress or (lambda *_: None)

    def one_more(_):
        done.append(1)
        report(len(done), len(asked), "questions")

    tasks = [Question(model.study, kind, options, model.log_dir) for kind, options in asked.values()]
    found = map_tasks(
        answered, tasks, executor=executor, report=one_more, names=list(asked), directory=model.log_dir
    )
    return dict(zip(asked, found, strict=True))


def _require_whole_hops(model, buffers):
    unit, _ = buffer_width(model)
    broken = [width for width in buffers or () if width != int(width)] if unit == "hops" else []
    if broken:
        raise StudyError(
            f"check.buffers counts hops, as the study's buffer does, and must be whole numbers; got {broken}"
        )


class _Report:
    """Collects the parts, and turns each into tests with a verdict and advice."""

    def __init__(self, model: Model):
        self.model = model
        self.parts: dict = {}
        self.tests: list[dict] = []
        self.warnings: list[str] = []
        self.unit, self.own = buffer_width(model)

    def without(self, part: str, reason: str):
        """Notes why a part is absent."""
        self.parts |= {part: None, f"{part}_missing_reason": reason}

    def result(self, mismatch_threshold_percent: float) -> BoundaryCheckResult:
        advice = [f"{test['name']}: {test['explanation']}" for test in self.tests if test["passed"] is False]
        words = {key: value for key, value in described(self.model).items() if key != "n_link_atoms"}
        return BoundaryCheckResult(
            tests=self.tests,
            warnings=advice + self.warnings + words.pop("warnings"),
            mismatch_threshold_percent=mismatch_threshold_percent,
            **self.parts,
            **words,
        )

    # --- the four parts ---------------------------------------------------------------------------------------

    def patch_test(self, found: PatchTest):
        self.parts["patch_test"] = found
        limit = found.threshold_eV_per_A
        scheme = self.model.study.coupling
        if scheme.scheme == "force_mixing":
            cure = f"a wider buffer: {self._wider()}"
        elif not scheme.ghost_forces:
            cure = "coupling: {scheme: subtractive, ghost_forces: true}, which removes what there is at rest"
        else:
            cure = (
                f"a wider buffer: {self._wider()}, or a host whose elastic constants are nearer the engine's"
            )
        kind, vanishing = searching_strain(self.model.unit)
        against = "" if vanishing else " (beyond the forces of the two pure crystals)"
        words = f"largest spurious force in the perfect crystal{against}"
        at_rest = words + _where(found.rms_unstrained_eV_per_A)
        strained = f"{words} under a {kind} strain of {np.abs(found.strain).max():g}" + _where(
            found.rms_strained_eV_per_A
        )
        self._test("patch test at rest", found.max_unstrained_eV_per_A, "eV/A", limit, at_rest, cure)
        self._test("patch test strained", found.max_strained_eV_per_A, "eV/A", limit, strained, cure)

    def buffer_series(self, found: Series):
        self.warnings += found.warnings
        series = found.series
        if series is None:
            self.without("buffer_series", found.missing_reason)
            self._not_applicable("core-force error", "eV/A", found.missing_reason)
            return
        self.parts["buffer_series"] = series
        error = dict(zip(series.width, series.rms_core_error_eV_per_A))
        limit = series.threshold_eV_per_A
        enough = [width for width in series.width if width > self.own and error[width] <= limit]
        if enough:
            cure = f"a wider buffer: {in_words(enough[0], self.unit)} passes"
        else:
            cure = f"a wider buffer: {self._wider(series.width.max())} or more, since no width of the series passes"
        by = f"{series.engine}, a stand-in" if series.stand_in else series.engine
        self._test(
            "core-force error",
            error[self.own],
            "eV/A",
            limit,
            f"RMS error of the core forces with a buffer of {in_words(self.own, self.unit)}, against {series.reference}, "
            f"by {by}",
            cure,
        )

    def mismatch(self, found: MatchingResult, lattice_limit: float, elastic_limit: float):
        self.parts["mismatch"] = found
        self.warnings += found.warnings
        matched = self.model.study.matching != "none"
        lengths = {label: found.percent[label] for label in found.pairs() if label in "abc"}
        worst = max(lengths, key=lambda label: abs(lengths[label]))
        if matched:
            text = "the study's matching stretches the engine's cluster and scales its energy, which removes this difference"
            self._not_applicable("lattice mismatch", "%", text)
        else:
            self._test(
                "lattice mismatch",
                abs(lengths[worst]),
                "%",
                lattice_limit,
                f"difference of {worst} between engine and host",
                "matching: auto maps the engine's lattice on the host's",
            )
        percent = _elastic_percent(found, matched)
        if not percent:
            self._not_applicable("elastic mismatch", "%", found.elastic_missing_reason)
            return
        worst = max(percent, key=lambda label: abs(percent[label]))
        self._test(
            "elastic mismatch",
            abs(percent[worst]),
            "%",
            elastic_limit,
            f"difference of {worst} between engine and host" + (", after matching" if matched else ""),
            "a host potential nearer the engine, or "
            + ("a larger core" if matched else "matching: auto, which makes the bulk moduli equal"),
        )

    def no_mismatch(self, reason: str):
        self.without("mismatch", reason)
        self._not_applicable("lattice mismatch", "%", reason)
        self._not_applicable("elastic mismatch", "%", reason)

    def energy_drift(self, found: EnergyDrift | None, reason: str | None):
        if found is None:
            self.without("energy_drift", reason)
            self._not_applicable("energy drift", "meV/atom/ps", reason)
            return
        self.parts["energy_drift"] = found
        self._test(
            "energy drift",
            abs(found.drift_meV_per_atom_per_ps),
            "meV/atom/ps",
            found.threshold_meV_per_atom_per_ps,
            f"slope of the total energy over {found.times_fs[-1]:g} fs at {found.temperature_K:g} K, for each of the "
            f"{found.n_atoms} atoms that move",
            "a shorter nve_timestep_fs, tighter convergence or a finer grid of the engine",
        )

    # --- verdicts ---------------------------------------------------------------------------------------------

    def _test(self, name, value, unit, threshold, what, cure):
        passed = bool(value <= threshold)
        explanation = what + ("" if passed else f"; what helps: {cure}")
        self.tests.append(
            {
                "name": name,
                "value": float(value),
                "unit": unit,
                "threshold": float(threshold),
                "passed": passed,
                "explanation": explanation,
            }
        )

    def _not_applicable(self, name, unit, reason):
        self.tests.append(
            {
                "name": name,
                "value": None,
                "unit": unit,
                "threshold": None,
                "passed": None,
                "explanation": reason,
            }
        )

    def _wider(self, width: float | None = None) -> str:
        width = self.own if width is None else float(width)
        return in_words(width + 1 if self.unit == "hops" else width + 2, self.unit)


def _elastic_percent(found: MatchingResult, matched: bool) -> dict[str, float]:
    """Differences of the elastic constants by label, and of the bulk modulus unless matching makes it equal."""
    percent = found.percent_matched() if matched else found.percent
    return {label: value for label, value in percent.items() if label not in "abc" and not (matched and label == "B")}


def _where(rms: dict[str, float]) -> str:
    return "; rms " + ", ".join(f"{label} {value:.2g}" for label, value in rms.items())


class _Meter:
    """One progress over parts of different lengths: a part that takes fewer or more calls than planned fills its share."""

    def __init__(self, report):
        self.report = report
        self.shares: dict[str, int] = {}

    def plan(self, **calls: int):
        self.shares = calls

    def of(self, part: str):
        """The callback of one part: called with a message after each of its engine calls."""
        names = list(self.shares)
        before = sum(self.shares[name] for name in names[: names.index(part)])
        done = 0

        def tick(message: str):
            nonlocal done
            done = min(done + 1, self.shares[part])
            if self.report is not None:
                self.report(before + done, sum(self.shares.values()), message)

        return tick
