"""The recipe `elastic_tensor` through study files and the command line: reference numbers, results, mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from elastic_cases import (
    ALUMINIUM,
    COPPER,
    HYBRID,
    SIC,
    SW,
    T3,
    T3_VACANCY,
    TERSOFF_MOD,
    VACANCY,
    copper,
    cubic,
    engine,
    quartz,
    run,
    silicon,
    wurtzite,
)
from pymatgen.core.elasticity import ElasticTensor
from scipy.spatial.transform import Rotation

from solidqmmm import recipebook
from solidqmmm.physics.symmetry.crystal_symmetry import turned_elastic_tensor
from solidqmmm.procedures.build import build_model
from solidqmmm.procedures.parallel.executors import local_executor
from solidqmmm.results.base import Result
from solidqmmm.results.elasticity import ElasticTensorResult
from solidqmmm.system.crystal import Crystal

TURN = Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix()


def write_study(folder: Path, crystal, lattice="as_given", **sections) -> Path:
    """A study file, one line for each section, with its structure beside it."""
    Crystal.of(crystal).to_structure().to(filename=str(folder / "POSCAR"))
    mapping = {"recipe": "elastic_tensor", "structure": {"file": "POSCAR", "lattice": lattice}} | sections
    path = folder / "study.yaml"
    path.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in mapping.items()))
    return path


def result_of(path: Path):
    study = recipebook.load_study(path)
    with build_model(study) as model:
        return recipebook.find(study.recipe).run(model=model, **study.options)


# --- reference numbers ------------------------------------------------------------------------------------------------

# Lattice parameter (angstrom), C11, C12, C44, C44 with clamped ions (GPa): matscipy 1.3.1 (fit_elastic_constants, strains up
# to 4e-4, cells and ions relaxed to 1e-6 eV/angstrom) with LAMMPS 22Jul2025 through ASE; for Stillinger-Weber, T3 and
# tersoff.mod matscipy's own implementations of the potentials say the same.
TABLE = {
    "SW": (SW, "Si", 5.43095, 151.4244, 76.4221, 56.4493, 109.7565),
    "T3": (T3, "Si", 5.43211, 142.5124, 75.3641, 69.0129, 118.7945),
    "tersoff.mod": (TERSOFF_MOD, "Si", 5.42900, 166.3735, 65.3027, 77.1050, 120.9309),
    "copper": (COPPER, "Cu", 3.61493, 169.8878, 122.5959, 76.2062, 76.2062),
}


@pytest.mark.parametrize("name", TABLE)
def test_constants_of_the_potentials(name, tmp_path):
    host, symbol, a, C11, C12, C44, clamped = TABLE[name]
    crystal = bulk(symbol, a=1.01 * a, cubic=True)
    path = write_study(tmp_path, crystal, lattice="host", host=host, supercell=[2, 1, 1])
    result = result_of(path)
    np.testing.assert_allclose(cubic(result.elastic_tensor_GPa), [C11, C12, C44], atol=0.05)
    assert result.elastic_tensor_clamped_GPa[5, 5] == pytest.approx(clamped, abs=0.05)
    np.testing.assert_allclose(result.cell_A, np.diag([2 * a, a, a]), atol=2e-5)
    np.testing.assert_allclose(result.elastic_tensor_ieee_GPa, result.elastic_tensor_GPa, atol=1e-9)
    assert (result.n_strain_shapes, result.n_point_operations) == (2, 48)
    assert result.n_force_evaluations <= 20
    assert result.born_stable
    assert result.warnings == []
    assert np.nanmax(result.elastic_tensor_stderr_GPa) < 0.01
    assert np.abs(result.residual_stress_GPa).max() < 1e-3
    B = (C11 + 2 * C12) / 3
    assert result.bulk_modulus_vrh_GPa == pytest.approx(B, abs=0.05)
    compliance = np.linalg.inv(result.elastic_tensor_GPa)
    np.testing.assert_allclose(result.compliance_per_GPa, compliance, atol=1e-6 * np.abs(compliance).max())


def test_a_tabulated_potential_is_taken_with_a_warning(tmp_path):
    """Its tables make the constants depend on the strain by percents; the same source as above."""
    path = write_study(tmp_path, bulk("Al", a=4.05, cubic=True), lattice="host", host=ALUMINIUM)
    result = result_of(path)
    np.testing.assert_allclose(cubic(result.elastic_tensor_GPa), [107.8, 60.1, 31.4], rtol=0.03)
    assert result.nonlinearity_percent > 1
    assert any("the stress is not linear in the strain" in text for text in result.warnings)


# C11, C12, C44 (GPa) and relaxation volume per site with one vacancy in N sites: matscipy 1.3.1 as above (cell and ions with
# the vacancy relaxed to 1e-6 eV/angstrom; symmetry='cubic', N_steps=5, delta=5e-4, ions by BFGS to 1e-6). Constants of the
# smallest cells change by up to 0.24 GPa where the relaxations stop earlier.
@pytest.mark.parametrize(
    ("host", "structure", "a", "n", "constants", "volume", "sign"),
    [
        (T3, silicon(), 5.43211, 64, (130.541, 67.615, 64.255), 0.4555, 1),
        (COPPER, copper(), 3.61493, 32, (159.435, 120.709, 70.519), -0.2992, -1),
    ],
    ids=["silicon", "copper"],
)
def test_vacancies(host, structure, a, n, constants, volume, sign, tmp_path):
    path = write_study(tmp_path, structure, lattice="host", host=host, supercell=[2, 2, 2], defect=VACANCY)
    result = result_of(path)
    np.testing.assert_allclose(cubic(result.elastic_tensor_GPa), constants, atol=0.05)
    assert result.n_defects_per_site == 1 / n
    site = a**3 * len(structure) ** -1
    assert result.relaxation_volume_A3 / site == pytest.approx(volume, abs=0.002)
    assert sign * np.trace(result.elastic_dipole_eV) > 1
    np.testing.assert_allclose(result.elastic_dipole_eV, result.elastic_dipole_eV[0, 0] * np.eye(3), atol=1e-4)
    V = n * site / 160.21766208
    change = result.elastic_tensor_GPa - result.elastic_tensor_perfect_GPa
    np.testing.assert_allclose(result.diaelastic_polarizability_eV, -V * change, atol=0.01)
    np.testing.assert_allclose(cubic(result.diaelastic_polarizability_eV) > 0, True)  # it softens
    # The defect was put into the perfect crystal's cell, whose stress is its dipole's.
    np.testing.assert_allclose(result.residual_stress_GPa, -result.elastic_dipole_eV / V, atol=1e-4)
    np.testing.assert_allclose(result.elastic_tensor_perfect.voigt, result.elastic_tensor_perfect_GPa, atol=1e-9)


@pytest.mark.parametrize(
    ("host", "structure", "limit", "sizes"),
    [(T3, silicon(), (142.5124, 75.3641, 69.0129), (3, 4)), (COPPER, copper(), (169.8878, 122.5959, 76.2062), (3, 4))],
)
def test_vacancies_vanish_with_their_concentration(host, structure, limit, sizes):
    """Linear in the concentration: the line through two supercells meets the perfect crystal at none."""
    found = [run(host=host, structure=structure, supercell=[n] * 3, defect=VACANCY) for n in sizes]
    c = np.array([result.n_defects_per_site for result in found])
    C = np.array([cubic(result.elastic_tensor_GPa) for result in found])
    np.testing.assert_allclose(C[1] - c[1] * (C[1] - C[0]) / (c[1] - c[0]), limit, atol=0.3)


def test_strains_up_to_two_percent_have_the_errors_that_they_deserve():
    """A published tale of Stillinger-Weber silicon kept at 5.44 angstrom, strained up to 2 %: 149.75, 75.10, 56.24 GPa.

    What is measured there is the derivative of the Cauchy stress (libAtoms/QUIP, tutorial on quippy and ASE).
    """
    result = run(structure=silicon(5.44), elastic={"cell": "fixed", "amplitudes": [0.005, 0.01, 0.015, 0.02]})
    np.testing.assert_allclose(cubic(result.stress_strain_tensor_GPa), [149.75, 75.10, 56.24], atol=0.5)
    np.testing.assert_allclose(result.residual_stress_GPa, 0.503 * np.eye(3), atol=0.001)
    np.testing.assert_allclose(result.reference_stress_GPa, result.residual_stress_GPa, atol=1e-9)
    small = run(structure=silicon(5.44), elastic={"cell": "fixed"})
    off = np.abs(cubic(result.elastic_tensor_GPa) - cubic(small.elastic_tensor_GPa))
    error = cubic(result.elastic_tensor_stderr_GPa)
    assert 0.02 < error[0] < off[0] < 10 * error[0]
    assert not result.cell_relaxed
    assert any("it was kept (cell: fixed)" in text for text in result.warnings)


# --- derived numbers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("structure", "host"), [(copper(), COPPER), (wurtzite(), SIC)], ids=["copper", "wurtzite"]
)
def test_averages_and_debye_temperature(structure, host):
    result = run(structure=structure, host=host)
    tensor = result.elastic_tensor
    assert isinstance(tensor, ElasticTensor)
    for key, expected in (
        ("bulk_modulus_vrh_GPa", tensor.k_vrh), ("shear_modulus_vrh_GPa", tensor.g_vrh),
        ("bulk_modulus_voigt_GPa", tensor.k_voigt), ("shear_modulus_reuss_GPa", tensor.g_reuss),
        ("universal_anisotropy", tensor.universal_anisotropy), ("poisson_ratio", tensor.homogeneous_poisson),
    ):  # fmt: skip
        assert getattr(result, key) == pytest.approx(float(expected), rel=1e-6), key
    G, K = result.shear_modulus_vrh_GPa, result.bulk_modulus_vrh_GPa
    assert result.youngs_modulus_vrh_GPa == pytest.approx(2 * G * (1 + result.poisson_ratio))
    # O. L. Anderson, J. Phys. Chem. Solids 24, 909 (1963), by hand, at the density of the relaxed cell.
    masses = {14: 28.0855, 6: 12.011, 29: 63.546}
    mass = sum(masses[int(z)] for z in structure.numbers) * 1.66053907e-27
    volume = abs(np.linalg.det(result.cell_A)) * 1e-30
    vl, vt = (np.sqrt(modulus * 1e9 * volume / mass) for modulus in (K + 4 * G / 3, G))
    v = ((1 / vl**3 + 2 / vt**3) / 3) ** (-1 / 3)
    n = len(structure) / volume
    theta = 1.054571817e-34 / 1.380649e-23 * v * (6 * np.pi**2 * n) ** (1 / 3)
    assert result.debye_temperature_K == pytest.approx(theta, rel=1e-4)


def test_debye_temperature_does_not_depend_on_the_cell_that_was_given():
    values = [
        run(structure=silicon(a), supercell=repeats).debye_temperature_K
        for a, repeats in ((5.3, [1, 1, 1]), (5.431, [1, 1, 1]), (5.6, [2, 1, 1]))
    ]
    assert np.ptp(values) < 0.01
    kept = run(structure=silicon(5.6), elastic={"cell": "fixed"}).debye_temperature_K
    assert abs(kept - values[1]) > 1


@pytest.mark.parametrize(
    ("structure", "host"),
    [(silicon(), SW), (Crystal.of(bulk("Si", a=5.431)), SW), (wurtzite(), SIC)],
    ids=["cubic", "primitive", "hexagonal"],
)
def test_the_frame_of_the_input_and_that_of_the_standard(structure, host):
    """C turns with the crystal; in the IEEE orientation it is what it was."""
    straight, turned = (run(structure=structure.strained(R), host=host) for R in (np.eye(3), TURN))
    expected = turned_elastic_tensor(straight.elastic_tensor_GPa, TURN)
    np.testing.assert_allclose(turned.elastic_tensor_GPa, expected, atol=0.005)
    assert np.abs(turned.elastic_tensor_GPa - straight.elastic_tensor_GPa).max() > 5
    np.testing.assert_allclose(turned.elastic_tensor_ieee_GPa, straight.elastic_tensor_ieee_GPa, atol=0.005)
    if len(structure) == 2:
        np.testing.assert_allclose(
            cubic(turned.elastic_tensor_ieee_GPa), [151.4244, 76.4221, 56.4493], atol=0.005
        )
    else:  # the axes of the input are those of the standard
        np.testing.assert_allclose(straight.elastic_tensor_ieee_GPa, straight.elastic_tensor_GPa, atol=0.005)
    # Averages know of no orientation.
    assert turned.universal_anisotropy == pytest.approx(straight.universal_anisotropy, rel=1e-4)


def test_a_crystal_without_symmetry_has_a_standard_orientation_too():
    """Ions shaken off their places leave no symmetry to begin with; what relaxes is silicon."""
    crystal = silicon()
    shaken = crystal.with_positions(crystal.positions + 0.05 * np.random.default_rng(0).normal(size=(8, 3)))
    result = run(structure=shaken)
    np.testing.assert_allclose(cubic(result.elastic_tensor_ieee_GPa), [151.4244, 76.4221, 56.4493], atol=0.01)
    assert any("were not at rest" in text for text in result.warnings)


def test_unstable_crystals_say_which_condition_fails():
    """Aluminium in bcc, and copper in simple cubic, which fails another one."""
    result = run(structure=Crystal.of(bulk("Al", "bcc", a=3.24, cubic=True)), host=ALUMINIUM)
    assert result.born_failing == ["C11 - C12 > 0"]
    assert result.born_conditions["C11 - C12 > 0"] < 0 < result.born_conditions["C44 > 0"]
    simple = run(structure=Crystal.of(bulk("Cu", "sc", a=2.4)), host=COPPER)
    assert simple.born_failing == ["C44 > 0"]
    for found in (result, simple):
        assert not found.born_stable
        assert found.debye_temperature_K is None
        assert dict(found.summary())["Born stability"] == f"unstable: {found.born_failing[0]}"
        assert "Debye temperature" not in dict(found.summary())


def test_constants_that_are_equal_by_chance_are_both_told():
    """Central forces: C12 = C44 by Cauchy's relation."""
    argon = {"pair_style": "lj/cut 9.0", "pair_coeff": ["1 1 0.0104 3.4"], "species": ["Ar"]}
    result = run(structure=Crystal.of(bulk("Ar", a=5.2, cubic=True)), host=argon)
    assert result.elastic_tensor_GPa[0, 1] == pytest.approx(result.elastic_tensor_GPa[3, 3], rel=1e-4)
    assert [label for label, _ in result.summary() if label[0] == "C" and label[1:].isdigit()] == ["C11", "C12", "C44"]
    trigonal = run(structure=quartz(), host={
        "pair_style": "vashishta", "pair_coeff": ["* * SiO.1990.vashishta Si O"], "species": ["Si", "O"],
    })  # fmt: skip
    labels = [label for label, _ in trigonal.summary() if label[0] == "C" and label[1:].isdigit()]
    assert {"C11", "C12", "C13", "C14", "C33", "C44", "C66"} <= set(labels)


def test_third_order_constants_on_request():
    result = run(elastic={"fit_order": 2})
    assert result.fit_order == 2
    assert result.n_strain_shapes == 3
    assert result.third_order_GPa[0, 0, 0] < -300
    np.testing.assert_allclose(cubic(result.elastic_tensor_GPa), [151.4244, 76.4221, 56.4493], atol=0.05)
    assert run().third_order_GPa is None


# --- the result ---------------------------------------------------------------------------------------------------------

CONTRACT = {
    "recipe", "elastic_tensor_GPa", "elastic_tensor_clamped_GPa", "elastic_tensor_stderr_GPa", "elastic_tensor_ieee_GPa",
    "bulk_modulus_vrh_GPa", "shear_modulus_vrh_GPa", "universal_anisotropy", "born_stable", "residual_stress_GPa",
    "elastic_dipole_eV", "relaxation_volume_A3", "n_force_evaluations", "strain_amplitudes",
}  # fmt: skip


@pytest.mark.parametrize("kind", ["perfect", "defect", "defect alone", "hybrid", "one amplitude"])
def test_results_go_to_json_and_back(kind, tmp_path):
    changes = {
        "perfect": {},
        "defect": T3_VACANCY,
        "defect alone": T3_VACANCY | {"elastic": {"perfect": False}},
        "hybrid": HYBRID | {"elastic": {"cell": "fixed"}},
        "one amplitude": {"elastic": {"amplitudes": [0.001]}},
    }[kind]
    result = run(**changes)
    written = json.loads(result.save(tmp_path / "result.json").read_text())
    assert set(written) >= CONTRACT
    assert np.shape(written["elastic_tensor_GPa"]) == (6, 6)
    assert np.shape(written["residual_stress_GPa"]) == (3, 3)
    for key in ("elastic_dipole_eV", "relaxation_volume_A3", "diaelastic_polarizability_eV", "elastic_tensor_perfect_GPa"):
        assert (written[key] is None) == (kind in ("perfect", "defect alone", "one amplitude")), key
    assert written["elastic_dipole_missing_reason"] == {
        "perfect": "there is no defect",
        "one amplitude": "there is no defect",
        "defect alone": "the perfect crystal was not computed (perfect: false)",
    }.get(kind)
    assert written["strain_amplitudes"] == ([0.001] if kind == "one amplitude" else [0.0002, 0.0004])
    assert (written["nonlinearity_percent"] is None) == (kind == "one amplitude")
    assert written["units"]["elastic_tensor_GPa"] == "GPa"
    assert written["units"]["relaxation_volume_A3"] == "angstrom^3"
    if kind == "one amplitude":
        assert written["elastic_tensor_stderr_GPa"][0][0] is None
    assert (written["n_atoms_qm"], written["n_link_atoms"]) == ((34, 36) if kind == "hybrid" else (0, 0))
    again = Result.load(tmp_path / "result.json")
    assert type(again) is ElasticTensorResult
    for name in ("elastic_tensor_GPa", "elastic_tensor_stderr_GPa", "compliance_per_GPa", "elastic_dipole_eV"):
        one, other = getattr(again, name), getattr(result, name)
        assert one is other is None or np.array_equal(one, other, equal_nan=True), name
    np.testing.assert_array_equal(again.series.stress_GPa, result.series.stress_GPa)
    assert again.summary() == result.summary()
    assert json.loads(again.save(tmp_path / "again.json").read_text()) == written


def test_the_table_says_who_computes():
    rows = [dict(run(**changes).summary()) for changes in ({}, {"host": None, "qm": engine(SW)}, HYBRID)]
    assert [row.get("quantum atoms") for row in rows] == [None, "all", "34 and 36 link atoms"]
    assert ["host" in row for row in rows] == [True, False, True]


def test_rows_of_the_series_are_what_the_tensor_comes_from():
    result = run(**T3_VACANCY)
    for series, C in (
        (result.series, result.elastic_tensor_GPa),
        (result.series_perfect, result.elastic_tensor_perfect_GPa),
    ):
        assert series.shape_names() == ["xx", "yz"]
        assert len(series) == 8
        for k, shape in enumerate(series.shapes):
            mine = series.shape_of == k
            a, S = series.amplitudes[mine], series.stress_GPa[mine]
            slope = a @ S / (a @ a)
            np.testing.assert_allclose(slope, C @ shape, atol=0.01)
            np.testing.assert_allclose(series.fitted_GPa[mine], a[:, None] * (C @ shape), atol=1e-4)
    assert result.n_force_evaluations > result.series.n_force_evaluations.sum()


# --- the command line -----------------------------------------------------------------------------------------------------


def test_run_from_the_command_line(tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path, silicon(), **T3_VACANCY)
    code, out, err = call("run", "study.yaml", "--out", "out")
    assert code == 0, err
    assert "C11" in out
    assert "elastic dipole" in out
    for name in ("stress_strain", "youngs_modulus", "youngs_modulus_surface"):
        for suffix in ("png", "pdf"):
            assert (tmp_path / f"out/figures/{name}.{suffix}").stat().st_size > 5000
    result = Result.load(tmp_path / "out")
    expected = run(**T3_VACANCY | {"structure": Crystal.of(tmp_path / "POSCAR")})
    np.testing.assert_allclose(result.elastic_tensor_GPa, expected.elastic_tensor_GPa, atol=1e-4)
    assert result.n_force_evaluations == pytest.approx(expected.n_force_evaluations, abs=10)
    assert "fit_order: 1" in (tmp_path / "out/study.yaml").read_text()  # defaults filled in
    code, out, _ = call("run", "study.yaml", "--out", "out")
    assert "nothing to do" in out
    code, out, _ = call("recipes", "show", "elastic_tensor")
    assert code == 0
    assert "amplitudes" in out


def test_unstable_crystals_from_the_command_line(tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path, bulk("Al", "bcc", a=3.24, cubic=True), host=ALUMINIUM)
    code, out, err = call("run", "study.yaml", "--out", "out")
    assert code == 0, err
    assert "unstable: C11 - C12 > 0" in out
    assert "Debye" not in out
    assert json.loads((tmp_path / "out/result.json").read_text())["debye_temperature_K"] is None


@pytest.fixture
def without_figures(monkeypatch):
    """Runs of the command line draw nothing: that takes longer than all else."""
    monkeypatch.setattr(recipebook.Recipe, "figures", lambda self, result: {})
    monkeypatch.setattr("solidqmmm.cli.app._drawn_cluster", lambda model: {})


def test_killed_runs_go_on(tmp_path, monkeypatch, call, without_figures):
    """Killed without warning in the middle of a hybrid's series: no deformation is computed twice."""
    write_study(tmp_path, silicon(), **HYBRID)
    command = [sys.executable, "-m", "solidqmmm.cli", "run", "study.yaml", "--out", "out"]

    def saved():
        return {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/strains/*/[!.]*.npz")}

    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        while len(saved()) < 4 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.kill()
    before = saved()
    assert 4 <= len(before) < 14
    assert not (tmp_path / "out/result.json").exists()
    monkeypatch.chdir(tmp_path)
    code, _, err = call("run", "study.yaml", "--out", "out")
    assert code == 0, err
    found = saved()
    assert before.items() <= found.items()
    assert len(found) == 2 * 7
    result = Result.load(tmp_path / "out")
    expected = run(**HYBRID | {"structure": Crystal.of(tmp_path / "POSCAR")})
    np.testing.assert_allclose(result.elastic_tensor_GPa, expected.elastic_tensor_GPa, atol=0.002)
    assert result.n_qm_calls == pytest.approx(expected.n_qm_calls, abs=6)


@pytest.mark.parametrize(
    ("elastic", "said"),
    [
        ({"amplitudes": [0.0]}, "elastic.amplitudes (line 4): strain amplitudes must be finite numbers that differ from"),
        ({"amplitudes": [0.06]}, "elastic.amplitudes (line 4): strain amplitudes must be at most 0.05, got 0.06"),
        ({"amplitudes": []}, "elastic.amplitudes (line 4): at least one strain amplitude is expected"),
        ({"amplitudes": [0.01, 0.01]}, "elastic.amplitudes (line 4): strain amplitudes must differ from each other"),
        ({"amplitudes": 0.01}, "elastic.amplitudes (line 4): expected a list, got 0.01"),
        (
            {"amplitudes": [-0.01, 0.01, 0.02], "fit_order": 2},
            "elastic.fit_order (line 4): an even `fit_order` (2) needs a symmetric series",
        ),
        ({"fit_order": 0}, "elastic.fit_order (line 4): a fit_order of at least 1 (linear) is expected, got 0"),
        ({"fit_order": 5}, "elastic.fit_order (line 4): a symmetric series needs at least 6 amplitudes"),
        ({"amplitude": [0.01]}, "elastic.amplitude (line 4): unknown key; did you mean 'amplitudes'?"),
        ({"fmax": 0}, "elastic.fmax (line 4): expected a number above 0.0, got 0"),
        ({"cell": "free"}, "elastic.cell (line 4): expected 'relaxed' or 'fixed', got 'free'"),
    ],
)
def test_mistakes_are_named_with_key_and_line(tmp_path, monkeypatch, call, elastic, said):
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path, silicon(), host=SW, elastic=elastic)
    code, _, err = call("run", "study.yaml", "--out", "out")
    assert code == 2
    assert said in " ".join(err.split())
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        (HYBRID | {"coupling": "force_mixing"}, "the coupling 'force_mixing' has no energy, and so no virial"),
        ({"qm": {"engine": "gpaw", "mode": "lcao"}}, "GPAW gives it in plane waves"),
        ({"structure": {"file": "slab.xyz", "cell": "as_given"}, "host": SW}, "periodic in three directions"),
    ],
)
def test_what_has_no_elastic_tensor_is_refused_in_words(tmp_path, monkeypatch, call, sections, said):
    if "gpaw" in str(sections):
        pytest.importorskip("gpaw")
    monkeypatch.chdir(tmp_path)
    slab = bulk("Si", a=5.431, cubic=True)
    slab.pbc = (True, True, False)
    slab.write("slab.xyz", format="extxyz")
    write_study(tmp_path, silicon(), **sections)
    code, _, err = call("run", "study.yaml", "--out", "out")
    assert code == (2 if "slab" in str(sections) else 1)  # a structure that cannot be; a failed engine
    assert said in " ".join(err.split())
    assert "Traceback" not in err
    assert not (tmp_path / "out/strains").exists()


def test_workers_are_refused_where_they_cannot_be(tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path, silicon(), host=SW)
    for words, said in ((("--workers", 0), "workers: "), (("--workers", 1, "--ranks-per-worker", 0), "ranks: ")):
        code, _, err = call("run", "study.yaml", "--out", "out", *words)
        assert code == 2
        assert "a number not below 1, got 0" in err
        assert said in err
        assert "Traceback" not in err


def test_workers_from_the_command_line(tmp_path, monkeypatch, call, without_figures):
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path, silicon(), **T3_VACANCY)
    code, _, err = call("run", "study.yaml", "--out", "out", "--workers", 2)
    assert code == 0, err
    expected = run(**T3_VACANCY | {"structure": Crystal.of(tmp_path / "POSCAR")})
    result = Result.load(tmp_path / "out")
    np.testing.assert_allclose(result.elastic_tensor_GPa, expected.elastic_tensor_GPa, atol=1e-3)
    np.testing.assert_allclose(result.elastic_dipole_eV, expected.elastic_dipole_eV, atol=1e-3)


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_shipped_executor(ranks):
    with local_executor(1, ranks) as executor:
        found = run(executor=executor)
    np.testing.assert_allclose(found.elastic_tensor_GPa, run().elastic_tensor_GPa, atol=1e-3)
