"""Result files written once and kept: later versions must go on reading them, field by field.

`single_point`, `defect_relaxation` (Stillinger-Weber silicon around a Tersoff region), `dynamics` (Tersoff silicon) and
`elastic_tensor` (a vacancy among eight sites of it) are from runs, and so is `embedding_ladder` (classical ions in MgO);
`charged_defect` is of a Gaussian charge in a medium;
`check`, `check_partial` and `matching` are specimens of the format with invented numbers.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from monty.json import MontyDecoder
from pymatgen.core import Structure

from solidqmmm.results.base import Result
from solidqmmm.results.boundary import BoundaryCheckResult, BufferSeries, EnergyDrift, PatchTest
from solidqmmm.results.charged_defect import ChargedDefectResult
from solidqmmm.results.dynamics import DynamicsResult
from solidqmmm.results.elasticity import ElasticTensorResult
from solidqmmm.results.embedding_ladder import EmbeddingLadderResult
from solidqmmm.results.fields import structure_record
from solidqmmm.results.matching import MatchingResult
from solidqmmm.results.relaxation import DefectRelaxationResult, RelaxationTrace
from solidqmmm.results.single_point import SinglePointResult
from solidqmmm.system.crystal import Crystal

GOLDEN = Path(__file__).parent / "golden"
FILES = {
    "single_point": SinglePointResult,
    "defect_relaxation": DefectRelaxationResult,
    "check": BoundaryCheckResult,
    "check_partial": BoundaryCheckResult,
    "matching": MatchingResult,
    "dynamics": DynamicsResult,
    "elastic_tensor": ElasticTensorResult,
    "charged_defect": ChargedDefectResult,
    "embedding_ladder": EmbeddingLadderResult,
}
EYE = np.eye(3)


@pytest.mark.parametrize("name", FILES)
def test_golden_files_load_and_say_the_same_again(name, tmp_path):
    """Every value that is in the file is in the object, and goes back into a file unchanged."""
    written = json.loads((GOLDEN / f"{name}.json").read_text())
    result = Result.load(GOLDEN / f"{name}.json")
    assert type(result) is FILES[name]
    again = json.loads(result.save(tmp_path / "again.json").read_text())
    units = written.pop("units")
    assert units.items() <= again["units"].items()  # later versions have more fields
    missing = {key: value for key, value in written.items() if key != "@version" and again.get(key) != value}
    assert not missing
    assert isinstance(MontyDecoder().process_decoded(written), FILES[name])


@pytest.mark.parametrize("name", FILES)
def test_summaries_are_rows_of_text(name):
    rows = Result.load(GOLDEN / f"{name}.json").summary()
    assert rows
    assert all(isinstance(label, str) and isinstance(value, str) and value for label, value in rows)


@pytest.mark.parametrize("name", FILES)
def test_arrays_are_read_only(name):
    result = Result.load(GOLDEN / f"{name}.json")
    parts = [getattr(result, field.name) for field in dataclasses.fields(result)]
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    inner = [part for part in parts if dataclasses.is_dataclass(part)]
    arrays += [v for part in inner for v in vars(part).values() if isinstance(v, np.ndarray)]
    assert arrays
    assert not any(array.flags.writeable for array in arrays)


def test_keys_that_the_documentation_promises():
    relaxation = json.loads((GOLDEN / "defect_relaxation.json").read_text())
    assert {
        "recipe", "converged", "n_atoms_host", "n_atoms_qm", "n_link_atoms", "max_force_eV_per_A", "energy_eV",
        "relaxed_structure", "neighbour_displacements_A",
    } <= relaxation.keys()  # fmt: skip
    assert len(Structure.from_dict(relaxation["relaxed_structure"])) == relaxation["n_atoms_host"]
    assert {
        "index", "symbol", "shell", "distance_before_A", "distance_after_A", "radial_A", "displacement_A",
    } <= relaxation["neighbour_displacements_A"][0].keys()  # fmt: skip

    point = json.loads((GOLDEN / "single_point.json").read_text())
    assert {"energy_eV", "energy_terms_eV", "forces_eV_per_A", "stress_GPa", "partition"} <= point.keys()
    assert np.shape(point["forces_eV_per_A"]) == (point["n_atoms_host"], 3)
    assert len(point["partition"]) == point["n_atoms_host"]
    assert point["units"]["forces_eV_per_A"] == "eV/angstrom"
    qm_minus_mm = point["energy_terms_eV"]["qm_cluster"] + point["energy_terms_eV"]["mm_cluster"]
    assert point["energy_eV"] == pytest.approx(point["energy_terms_eV"]["mm"] + qm_minus_mm, abs=1e-9)

    elastic = json.loads((GOLDEN / "elastic_tensor.json").read_text())
    assert {
        "recipe", "elastic_tensor_GPa", "elastic_tensor_clamped_GPa", "elastic_tensor_stderr_GPa",
        "elastic_tensor_ieee_GPa", "bulk_modulus_vrh_GPa", "shear_modulus_vrh_GPa", "universal_anisotropy", "born_stable",
        "residual_stress_GPa", "elastic_dipole_eV", "relaxation_volume_A3", "n_force_evaluations", "strain_amplitudes",
    } <= elastic.keys()  # fmt: skip
    assert np.shape(elastic["elastic_tensor_GPa"]) == (6, 6)
    assert np.shape(elastic["elastic_dipole_eV"]) == (3, 3)
    assert elastic["third_order_GPa"] is None
    assert elastic["units"]["compliance_per_GPa"] == "1/GPa"


# --- contracts of the classes ---------------------------------------------------------------------------------


def test_an_absent_energy_must_say_why():
    with pytest.raises(ValueError, match="say why in `energy_missing_reason`"):
        SinglePointResult(energy_eV=None, forces_eV_per_A=np.zeros((2, 3)))
    with pytest.raises(ValueError, match="finite"):
        SinglePointResult(energy_eV=float("nan"), forces_eV_per_A=np.zeros((2, 3)))
    with pytest.raises(ValueError, match="but there is one"):
        SinglePointResult(energy_eV=1.0, energy_missing_reason="none", forces_eV_per_A=np.zeros((2, 3)))
    result = SinglePointResult(
        energy_eV=None, energy_missing_reason="forces only", forces_eV_per_A=np.zeros((2, 3))
    )
    assert dict(result.summary())["energy"] == "none (forces only)"
    assert result.as_dict()["energy_eV"] is None
    assert result.stress_missing_reason == "not computed"
    assert result.partition == ["host", "host"]


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"`forces_eV_per_A` must have shape \(-1, 3\)"):
        SinglePointResult(energy_eV=0.0, forces_eV_per_A=np.zeros(3))
    with pytest.raises(ValueError, match="must agree"):
        SinglePointResult(energy_eV=0.0, forces_eV_per_A=np.zeros((2, 3)), partition=["core"])
    with pytest.raises(ValueError, match="one length"):
        DynamicsResult(n_steps=2, times_fs=[0, 1], temperature_K=[1.0], energy_missing_reason="none")


def test_trace_grows_by_one_row_for_each_call():
    trace = RelaxationTrace().with_call(max_force=1.0, host_iterations=3)
    assert trace.energy_eV is None
    trace = trace.with_call(max_force=0.1, region="host", energy=-4.0, step_length=0.2, seconds=1.5)
    assert len(trace) == 2
    assert trace.max_force_region == ("core", "host")
    assert np.isnan(trace.energy_eV[0])
    assert trace.energy_eV[1] == -4.0
    assert trace.host_iterations.tolist() == [3, 0]


def test_drift_is_the_slope_in_meV_per_atom_and_ps():
    times = np.linspace(0, 500, 11)
    drift = EnergyDrift(times_fs=times, total_energy_eV=-7.0 + 2e-5 * times, n_atoms=10)
    assert drift.drift_meV_per_atom_per_ps == pytest.approx(2e-5 * 1000 * 1000 / 10)


def test_mismatch_in_percent_and_cubic_crystals_have_three_constants():
    cubic = np.zeros((6, 6))
    cubic[:3, :3] = 60.0
    cubic[range(6), range(6)] = [160.0] * 3 + [80.0] * 3
    match = MatchingResult(
        lattice_host_A=5.0 * EYE, lattice_engine_A=5.1 * EYE, bulk_modulus_host_GPa=100.0, bulk_modulus_engine_GPa=90.0,
        elastic_tensor_host_GPa=cubic, elastic_tensor_engine_GPa=1.1 * cubic,
    )  # fmt: skip
    assert match.percent == pytest.approx({"a": 2.0, "B": -10.0, "C11": 10.0, "C12": 10.0, "C44": 10.0})
    hexagonal = np.diag([4.0, 4.0, 6.0])
    match = MatchingResult(lattice_host_A=hexagonal, lattice_engine_A=hexagonal)
    assert list(match.percent) == ["a", "c"]
    assert match.elastic_missing_reason == "not computed"


def test_a_boundary_passes_only_by_tests_that_were_made():
    def test(passed):
        keys = ("name", "value", "unit", "threshold", "passed", "explanation")
        return dict(zip(keys, ("patch", 0.1, "eV/A", 0.2, passed, "")))

    assert BoundaryCheckResult().passed is False
    assert BoundaryCheckResult(tests=[test(None)]).passed is False
    assert BoundaryCheckResult(tests=[test(None), test(True)]).passed is True
    assert BoundaryCheckResult(tests=[test(False), test(True)]).passed is False
    with pytest.raises(ValueError, match="lacks"):
        BoundaryCheckResult(tests=[{"name": "patch"}])
    with pytest.raises(ValueError, match="width_unit"):
        BufferSeries(
            width=[1],
            width_unit="nm",
            n_quantum=[5],
            rms_core_error_eV_per_A=[0.1],
            max_core_error_eV_per_A=[0.1],
        )
    assert PatchTest(max_unstrained_eV_per_A=0.0).strain is None


def test_large_structures_are_named_and_small_ones_kept():
    crystal = Crystal([14] * 8, np.random.default_rng(1).random((8, 3)), 5 * EYE)
    assert Structure.from_dict(structure_record(crystal, "x.extxyz")).num_sites == 8
    many = Crystal(np.full(20_000, 14), np.zeros((20_000, 3)), 5 * EYE)
    assert structure_record(many, "x.extxyz") == {"file": "x.extxyz"}
