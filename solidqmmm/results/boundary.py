"""Is the boundary good enough? The answers of `solidqmmm check`, each with its threshold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from solidqmmm.results.base import Result
from solidqmmm.results.fields import require_reason, same_length, set_array
from solidqmmm.results.matching import MatchingResult


@dataclass(frozen=True, eq=False, kw_only=True)
class PatchTest:
    """Spurious forces: those of the coupled crystal where a perfect crystal has none.

    Attributes:
        max_unstrained_eV_per_A: Largest spurious force at zero strain in eV/angstrom.
        max_strained_eV_per_A: Largest one under the strain in eV/angstrom.
        strain: The uniform strain, shape=(3, 3).
        rms_unstrained_eV_per_A: RMS of the spurious force over the atoms of each label ('core', 'buffer',
            'host').
        rms_strained_eV_per_A: The same under the strain.
        threshold_eV_per_A: What the largest force is held against.
    """

    max_unstrained_eV_per_A: float
    max_strained_eV_per_A: float | None = None
    strain: np.ndarray | None = None
    rms_unstrained_eV_per_A: dict[str, float] = field(default_factory=dict)
    rms_strained_eV_per_A: dict[str, float] = field(default_factory=dict)
    threshold_eV_per_A: float | None = None

    def __post_init__(self):
        set_array(self, "strain", shape=(3, 3))


@dataclass(frozen=True, eq=False, kw_only=True)
class BufferSeries:
    """Force error on the core against the width of the buffer.

    Attributes:
        width: Widths, shape=(k,).
        width_unit: 'hops' or 'A'.
        n_quantum: Number of quantum atoms at each width, shape=(k,).
        rms_core_error_eV_per_A: RMS over core atoms of |F - F_reference| in eV/angstrom, shape=(k,).
        max_core_error_eV_per_A: Largest |F - F_reference| of a core atom in eV/angstrom, shape=(k,).
        reference: What the forces are compared with.
        engine: The engine used.
        stand_in: Whether that is a cheaper stand-in for the study's engine.
        study_width: Width that the study asks for.
        threshold_eV_per_A: What the RMS error is held against.

    Raises:
        ValueError: For another unit of the widths, or arrays that do not fit together.
    """

    width: np.ndarray
    width_unit: str = "A"
    n_quantum: np.ndarray
    rms_core_error_eV_per_A: np.ndarray
    max_core_error_eV_per_A: np.ndarray
    reference: str = ""
    engine: str = ""
    stand_in: bool = False
    study_width: float | None = None
    threshold_eV_per_A: float | None = None

    def __post_init__(self):
        set_array(self, "n_quantum", int, shape=(-1,))
        for name in ("width", "rms_core_error_eV_per_A", "max_core_error_eV_per_A"):
            set_array(self, name, shape=(-1,))
        same_length(self, "width", "n_quantum", "rms_core_error_eV_per_A", "max_core_error_eV_per_A")
        if self.width_unit not in ("hops", "A"):
            raise ValueError(f"`width_unit` must be 'hops' or 'A', got {self.width_unit!r}")


@dataclass(frozen=True, eq=False, kw_only=True)
class EnergyDrift:
    """Total energy along a short run at constant energy.

    Attributes:
        times_fs: Times in fs, shape=(k,).
        total_energy_eV: Total energy in eV, shape=(k,).
        n_atoms: Number of atoms that move.
        timestep_fs: Time step in fs.
        temperature_K: Temperature at the start in K.
        drift_meV_per_atom_per_ps: Slope of a straight line through the energies; worked out here unless it
            is given.
        threshold_meV_per_atom_per_ps: What its absolute value is held against.
    """

    times_fs: np.ndarray
    total_energy_eV: np.ndarray
    n_atoms: int
    timestep_fs: float | None = None
    temperature_K: float | None = None
    drift_meV_per_atom_per_ps: float | None = None
    threshold_meV_per_atom_per_ps: float | None = None

    def __post_init__(self):
        set_array(self, "times_fs", shape=(-1,))
        set_array(self, "total_energy_eV", shape=(-1,))
        same_length(self, "times_fs", "total_energy_eV")
        if self.drift_meV_per_atom_per_ps is None and len(self.times_fs) > 1:
            slope = np.polyfit(self.times_fs / 1000, self.change_meV_per_atom, 1)[0]
            object.__setattr__(self, "drift_meV_per_atom_per_ps", float(slope))

    @property
    def change_meV_per_atom(self) -> np.ndarray:
        """Total energy since the first row in meV/atom, shape=(k,)."""
        return 1000 * (self.total_energy_eV - self.total_energy_eV[0]) / self.n_atoms


@dataclass(frozen=True, eq=False, kw_only=True)
class BoundaryCheckResult(Result):
    """The trust report on a study's boundary. What does not apply is None, with the reason.

    Attributes:
        recipe: 'check'.
        passed: Whether tests were made and none failed; worked out from `tests` unless it is given.
        tests: One dictionary for each test: `name`, `value`, `unit`, `threshold`, `passed` (None where not
            applicable) and `explanation`.
        patch_test: Spurious forces in the perfect crystal.
        buffer_series: Core-force error against buffer width.
        mismatch: Lattice and elastic constants of the two descriptions.
        mismatch_threshold_percent: What the differences are held against, in percent.
        energy_drift: Energy along a short run at constant energy.
        patch_test_missing_reason, buffer_series_missing_reason, mismatch_missing_reason,
            energy_drift_missing_reason: Why that part is absent.
        n_atoms_host: Number of atoms of the crystal.
        n_atoms_qm: Number of quantum atoms of the study.
        coupling, engine, host: Descriptions.
        warnings: What a reader should know.

    Raises:
        ValueError: For a test without a name or a verdict.
    """

    UNITS: ClassVar = {"mismatch_threshold_percent": "%"}

    recipe: str = "check"
    passed: bool | None = None
    tests: list[dict] = field(default_factory=list)
    n_atoms_host: int = 0
    n_atoms_qm: int = 0
    coupling: str = ""
    engine: str = ""
    host: str = ""
    patch_test: PatchTest | None = None
    patch_test_missing_reason: str | None = None
    buffer_series: BufferSeries | None = None
    buffer_series_missing_reason: str | None = None
    mismatch: MatchingResult | None = None
    mismatch_missing_reason: str | None = None
    mismatch_threshold_percent: float | None = None
    energy_drift: EnergyDrift | None = None
    energy_drift_missing_reason: str | None = None
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self):
        for part in ("patch_test", "buffer_series", "mismatch", "energy_drift"):
            require_reason(self, part, f"{part}_missing_reason", default="not computed")
        for test in self.tests:
            missing = {"name", "value", "unit", "threshold", "passed", "explanation"} - test.keys()
            if missing:
                raise ValueError(
                    f"test {test.get('name', test)!r} of a boundary check lacks {sorted(missing)}"
                )
        if self.passed is None:
            verdicts = [test["passed"] for test in self.tests if test["passed"] is not None]
            object.__setattr__(self, "passed", bool(verdicts) and all(verdicts))

    def summary(self) -> list[tuple[str, str]]:
        """Rows of label and value for a table: one for each test, the verdict last."""
        rows = []
        for test in self.tests:
            verdict = {None: "not applicable", True: "pass", False: "FAIL"}[test["passed"]]
            if test["value"] is None:
                rows.append((test["name"], f"{verdict}: {test['explanation']}"))
                continue
            limit = "" if test["threshold"] is None else f" (threshold {test['threshold']:g})"
            rows.append(
                (test["name"], f"{verdict}: {test['value']:.3g} {test['unit'] or ''}".rstrip() + limit)
            )
        rows += [("warning", text) for text in self.warnings]
        return [*rows, ("boundary", "good enough by every test made" if self.passed else "NOT good enough")]
