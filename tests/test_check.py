"""The trust report: exact where it must be, falling where it may be, and one command from the study to the figure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from pymatgen.core import Lattice, Structure

from solidqmmm import recipebook
from solidqmmm.engines.protocols import Evaluation
from solidqmmm.errors import StudyError
from solidqmmm.physics.heat.shadow_energy import shadow_energy
from solidqmmm.procedures.build import build_model
from solidqmmm.procedures.check import check_boundary
from solidqmmm.procedures.trust.patch_test import forces_vanish_by_symmetry, searching_strain
from solidqmmm.results.boundary import BoundaryCheckResult
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.study import Study

SILICON = Structure.from_spacegroup("Fd-3m", Lattice.cubic(5.430953), ["Si"], [[0, 0, 0]])
SW = {"pair_style": "sw", "pair_coeff": ["* * Si.sw Si"], "species": ["Si"]}
SNAP = {
    "pair_style": "snap",
    "pair_coeff": ["* * Si_Zuo_JPCA2020.snapcoeff Si_Zuo_JPCA2020.snapparam Si"],
    "species": ["Si"],
}
OFF = {"patch": False, "buffers": [], "mismatch": False, "nve_steps": 0}


def model_of(engine, coupling="subtractive", *, structure=SILICON, log_dir=None, **changes):
    study = {
        "recipe": "single_point",
        "structure": structure,
        "supercell": [3, 3, 3],
        "host": SW,
        "qm": {"engine": "lammps", **engine},
        "region": {"core": {"hops": 1}, "buffer": {"hops": 1}},
        "caps": {"kind": "none"},
        "coupling": coupling,
        **changes,
    }
    return build_model(Study.from_mapping(study), log_dir=log_dir)


def checked(model, **options):
    with model:
        return check_boundary(model, **{**OFF, **options})


def verdict(result, name):
    return next(test for test in result.tests if test["name"] == name)


# --- exact cases ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coupling", ["subtractive", "force_mixing"])
@pytest.mark.parametrize("defect", [None, {"kind": "vacancy", "site": 0}])
def test_one_potential_on_both_sides_has_a_perfect_boundary(coupling, defect):
    """Beyond 2 r_cut a core atom cannot feel the surface; in silicon the SW potential reaches less than two bonds."""
    options = {"patch": True, "buffers": [0, 1, 2, 3], "mismatch": True}
    model = model_of(SW, coupling, defect=defect, region={"core": {"hops": 1}, "buffer": {"hops": 3}})
    result = checked(model, **options)
    assert result.patch_test.max_unstrained_eV_per_A < 1e-10
    assert result.patch_test.max_strained_eV_per_A < 1e-10
    series = result.buffer_series
    assert "whole periodic crystal" in series.reference
    np.testing.assert_array_equal(series.width, [0, 1, 2, 3])
    assert series.rms_core_error_eV_per_A[3] < 1e-10
    if coupling == "force_mixing":
        assert series.rms_core_error_eV_per_A[0] > 0.5
    else:
        assert (
            series.rms_core_error_eV_per_A.max() < 1e-10
        )  # E_QM - E_MM of the cluster is zero whatever the buffer
    assert max(abs(percent) for percent in result.mismatch.percent.values()) < 1e-4
    assert result.passed


def test_ghost_force_correction_makes_the_patch_test_hold_at_rest():
    plain, corrected = (
        checked(model_of(SNAP, {"scheme": "subtractive", "ghost_forces": on}), patch=True)
        for on in (False, True)
    )
    assert plain.patch_test.max_unstrained_eV_per_A > 0.1
    assert corrected.patch_test.max_unstrained_eV_per_A < 1e-10
    assert 1e-4 < corrected.patch_test.max_strained_eV_per_A < 0.05
    assert "ghost_forces" in verdict(plain, "patch test at rest")["explanation"]
    assert not plain.passed
    assert corrected.passed


# --- which strain, and what counts as spurious -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("atoms", "expected"),
    [
        (bulk("Cu", cubic=True), ("general", True)),
        (bulk("Fe"), ("general", True)),
        (bulk("NaCl", "rocksalt", a=5.64), ("general", True)),
        (bulk("Si"), ("diagonal", True)),
        (bulk("GaAs", "zincblende", a=5.65, cubic=True), ("diagonal", True)),
        (bulk("Mg"), ("hydrostatic", True)),
        (bulk("ZnO", "wurtzite", a=3.25, c=5.2), ("general", False)),
    ],
    ids=["fcc", "bcc", "rocksalt", "diamond", "zincblende", "hcp", "wurtzite"],
)
def test_the_strain_is_the_most_searching_one_that_leaves_no_force(atoms, expected):
    assert searching_strain(Crystal.of(atoms)) == expected


def test_a_displaced_atom_may_feel_a_force():
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    assert forces_vanish_by_symmetry(Crystal.of(atoms))
    atoms.positions[0, 0] += 0.1
    assert not forces_vanish_by_symmetry(Crystal.of(atoms))


@pytest.mark.parametrize("coupling", ["subtractive", "force_mixing"])
def test_forces_of_free_internal_coordinates_are_not_spurious(coupling):
    """Wurtzite silicon, u off its ideal value: both pure crystals have forces, and the boundary has none."""
    wurtzite = bulk("SiSi", "wurtzite", a=3.84, c=6.35, u=0.377)
    region = {"core": {"hops": 1}, "buffer": {"hops": 2}}
    model = model_of(SW, coupling, structure=wurtzite, supercell=[6, 6, 4], region=region)
    result = checked(model, patch=True)
    assert result.patch_test.max_unstrained_eV_per_A < 1e-10
    assert result.patch_test.max_strained_eV_per_A < 1e-10
    assert "pure crystals" in verdict(result, "patch test at rest")["explanation"]


# --- two potentials ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coupling", ["subtractive", "force_mixing"])
def test_errors_fall_with_the_buffer(coupling):
    """SNAP reaches 4.9 A: a core atom deeper than twice that does not feel the surface."""
    region = {"core": {"hops": 0}, "buffer": {"radius": 4.0}}
    model = model_of(SNAP, coupling, supercell=[5, 5, 5], region=region)
    result = checked(model, buffers=[2, 6, 8, 10], buffer_threshold=0.03)
    series = result.buffer_series
    assert series.width_unit == "A"
    np.testing.assert_array_equal(series.width, [2, 4, 6, 8, 10])
    assert series.study_width == 4
    error = series.rms_core_error_eV_per_A
    assert np.isfinite(error).all()
    assert error[0] > 3 * error[3]
    assert error[4] < 1e-8
    test = verdict(result, "core-force error")
    assert not test["passed"]
    first = next(width for width, value in zip(series.width, error) if width > 4 and value <= 0.03)
    assert f"{first:g} A passes" in test["explanation"]
    assert any(f"{first:g} A passes" in text for text in result.warnings)


def test_expensive_engines_are_compared_with_the_widest_buffer_they_can_pay():
    """An engine that is no LAMMPS potential: one hop more than the study, none beyond the limit of atoms."""
    engine = {
        "engine": "ase",
        "calculator": "ase.calculators.lj:LennardJones",
        "epsilon": 0.1,
        "sigma": 2.1,
        "rc": 6.0,
    }
    result = checked(model_of({}, "force_mixing", qm=engine), buffers=None)
    assert result.buffer_series.reference == "buffer 2 hops (41 quantum atoms)"
    np.testing.assert_array_equal(result.buffer_series.n_quantum, [5, 17])
    result = checked(model_of({}, "force_mixing", qm=engine), buffers=None, max_quantum_atoms=30)
    assert result.buffer_series is None
    assert "no buffer wider" in result.buffer_series_missing_reason
    assert "41 quantum atoms are more than" in result.buffer_series_missing_reason


def test_a_stand_in_is_named_and_may_be_bare():
    engine = {
        "engine": "ase",
        "calculator": "ase.calculators.lj:LennardJones",
        "epsilon": 0.1,
        "sigma": 2.1,
        "rc": 6.0,
    }
    model = model_of({}, "force_mixing", qm=engine, caps={"kind": "hydrogen"}, supercell=[5, 5, 5])
    result = checked(model, buffers=[2, 3], stand_in={"engine": "lammps", **SW})
    series = result.buffer_series
    assert series.stand_in
    assert series.engine == "lammps sw (bare cut bonds)"
    np.testing.assert_array_equal(series.width, [1, 2, 3])
    assert series.rms_core_error_eV_per_A[-1] < 1e-10
    with pytest.raises(StudyError, match=r"check\.stand_in\.pair_styel"):
        checked(model_of(SW), buffers=[2], stand_in={"engine": "lammps", "pair_styel": "sw"})


def test_mismatch_counts_what_matching_leaves():
    plain = checked(model_of(SNAP), mismatch=True)
    assert verdict(plain, "lattice mismatch")["value"] == pytest.approx(abs(plain.mismatch.percent["a"]))
    assert "matching: auto" in verdict(plain, "lattice mismatch")["explanation"]
    matched = checked(model_of(SNAP, matching="auto"), mismatch=True)
    assert verdict(matched, "lattice mismatch")["passed"] is None
    assert matched.mismatch.percent == pytest.approx(plain.mismatch.percent)


# --- energy ---------------------------------------------------------------------------------------------------


def test_the_shadow_energy_is_what_velocity_verlet_keeps():
    """A harmonic oscillator: E swings by (omega h)^2 / 4 of itself, E~ by O(h^4)."""
    omega, mass, h = 2.0, 3.0, 0.05
    x, v, rows = 1.0, 0.3, []
    for _ in range(200):
        force = -mass * omega**2 * x
        rows.append((0.5 * mass * v**2 + 0.5 * mass * omega**2 * x**2, v, force))
        half = v + 0.5 * h * force / mass
        x += h * half
        v = half - 0.5 * h * omega**2 * x
    energy, velocities, forces = np.array(rows).T
    shadow = shadow_energy(energy, velocities.reshape(-1, 1, 1), forces.reshape(-1, 1, 1), [mass], h)
    assert np.ptp(energy) > 1e-3 * energy.mean()
    assert np.ptp(shadow[1:-1]) < 0.01 * np.ptp(energy)


def test_energy_is_kept():
    result = checked(model_of(SNAP), nve_steps=20)
    drift = result.energy_drift
    assert len(drift.times_fs) == 21
    assert drift.n_atoms < len(SILICON) * 27
    assert abs(drift.drift_meV_per_atom_per_ps) < 0.02
    assert verdict(result, "energy drift")["passed"]


class FivePerCentWrong:
    """An engine whose forces are not the gradient of its energy."""

    def __init__(self, engine):
        self.engine = engine

    def __getattr__(self, name):
        return getattr(self.engine, name)

    def evaluate(self, atoms, *, stress=False):
        exact = self.engine.evaluate(atoms, stress=stress)
        return Evaluation(exact.energy, 1.05 * exact.forces, exact.stress)


def test_forces_that_are_no_gradient_are_found_in_a_few_steps():
    model = model_of(SNAP)
    model.engine = FivePerCentWrong(model.engine)
    result = checked(model, nve_steps=10)
    assert abs(result.energy_drift.drift_meV_per_atom_per_ps) > 1
    assert not verdict(result, "energy drift")["passed"]


def test_a_coupling_without_an_energy_says_so():
    result = checked(model_of(SNAP, "force_mixing"), nve_steps=20)
    assert result.energy_drift is None
    assert "not the gradient of an energy" in result.energy_drift_missing_reason
    assert verdict(result, "energy drift")["passed"] is None


# --- the report ----------------------------------------------------------------------------------------------


def test_a_second_run_reads_the_journal_and_says_the_same(tmp_path):
    options = {"patch": True, "buffers": None, "nve_steps": 5}
    calls, results = [], []
    for _ in range(2):
        with model_of(SNAP, log_dir=tmp_path) as model:
            results.append(check_boundary(model, **{**OFF, **options}))
            calls.append(model.engine.evaluations)
    assert calls[0] > 8
    assert calls[1] == 0
    assert [test["value"] for test in results[0].tests] == pytest.approx(
        [test["value"] for test in results[1].tests]
    )


def test_parts_that_are_off_say_so_and_progress_reaches_the_end():
    seen = []
    result = checked(
        model_of(SW), patch=True, progress=lambda done, total, message: seen.append((done, total, message))
    )
    assert result.buffer_series is None
    assert "switched off" in result.buffer_series_missing_reason
    assert [row[:2] for row in seen] == [(1, 2), (2, 2)]


def test_what_cannot_be_checked_is_refused():
    with pytest.raises(StudyError, match="no quantum region"):
        checked(model_of(SW, qm=None, region=None))
    with pytest.raises(StudyError, match="counts hops"):
        checked(model_of(SW), buffers=[1.5])
    for section, complaint in (
        ({"strain": -1e-3}, r"check\.strain"),
        ({"stand_in": {"engine": "lammps", "pair_styel": "sw"}}, r"check\.stand_in.*pair_style"),
        ({"nve_step": 3}, "nve_steps"),
    ):
        with pytest.raises(StudyError, match=complaint):
            Study.from_mapping(
                {"recipe": "single_point", "structure": SILICON, "host": SW, "check": section},
                schemas=recipebook.schemas(),
            )


STUDY = """
recipe: single_point
structure: {file: Si.cif}
supercell: [4, 4, 4]
defect: {kind: vacancy, site: 0}
host: {pair_style: sw, pair_coeff: ["* * Si.sw Si"], species: [Si]}
qm:
  engine: lammps
  pair_style: snap
  pair_coeff: ["* * Si_Zuo_JPCA2020.snapcoeff Si_Zuo_JPCA2020.snapparam Si"]
  species: [Si]
region: {core: {hops: 1}, buffer: {hops: 2}}
caps: {kind: none}
coupling: {scheme: subtractive, ghost_forces: true}
"""


def test_one_command_writes_report_and_figure(tmp_path):
    SILICON.to(str(tmp_path / "Si.cif"), fmt="cif")
    study, out = tmp_path / "study.yaml", tmp_path / "out"
    for options, code in (
        ("check: {buffer_threshold: 0.2, lattice_threshold_percent: 1, mismatch_threshold_percent: 40}\n", 0),
        ("check: {buffer_threshold: 1.0e-3, mismatch: false, nve_steps: 0}\n", 1),
    ):
        study.write_text(STUDY + options)
        command = [str(Path(sys.executable).parent / "solidqmmm"), "check", str(study), "--out", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        assert ("FAIL" in done.stdout) == bool(code)
        assert (out / "figures" / "check.png").stat().st_size > 10_000
        result = BoundaryCheckResult.load(out / "check.json")
        assert result.passed == (code == 0)
        assert len(result.tests) >= 3
        assert {"name", "value", "unit", "threshold", "passed", "explanation"} <= result.tests[0].keys()
