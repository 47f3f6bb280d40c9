"""examples/silicon_crack gives what its files promise: fast parts of the studies, and on request the whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from solidqmmm import recipebook
from solidqmmm.procedures.build import build_model
from solidqmmm.results.base import Result

EXAMPLE = Path(__file__).parents[1] / "examples" / "silicon_crack"


def ran(name, folder, **changes):
    """The result of a study of the example, its sections changed."""
    study = recipebook.load_study(EXAMPLE / f"{name}.yaml")
    options = dict(study.options)
    for key, values in changes.items():
        options[key] = options[key].model_copy(update=values)
    folder.mkdir()
    with build_model(study, log_dir=folder) as model:
        return recipebook.find(study.recipe).run(model=model, workdir=folder, **options)


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLE.glob("*.yaml")))
def test_every_study_is_valid(name):
    study = recipebook.load_study(EXAMPLE / f"{name}.yaml")
    assert study.recipe == "fracture"
    assert (study.qm is not None) == (name in ("quantum", "trapping", "gpaw"))


def test_both_tips_are_in_the_same_strip():
    host, quantum = (recipebook.load_study(EXAMPLE / f"{name}.yaml").options for name in ("host", "quantum"))
    for key in ("crack", "stadium", "dynamics"):
        assert host[key] == quantum[key]


def test_stillinger_weber_heals_and_does_not_open(tmp_path):
    result = ran("quasistatic", tmp_path / "run")
    assert result.n_atoms_host == 1056
    assert result.K_griffith_MPa_sqrt_m == pytest.approx(0.61526, rel=3e-3)
    assert result.K_minus_MPa_sqrt_m / result.K_griffith_MPa_sqrt_m == pytest.approx(0.555, abs=0.02)
    assert result.K_plus_MPa_sqrt_m is None
    assert "blunts" in result.K_plus_missing_reason
    blunts = next(row for row in result.tip if row["event"] == "rearranged" and row["branch"] == "raised")
    assert blunts["K_MPa_sqrt_m"] / result.K_griffith_MPa_sqrt_m == pytest.approx(1.40, abs=0.03)


def test_the_first_steps_with_a_quantum_tip(tmp_path):
    result = ran("quantum", tmp_path / "run", dynamics={"time_ps": 0.05})
    assert (result.n_atoms_host, result.n_steps) == (5304, 50)
    assert 55 <= result.n_qm_atoms["min"] <= result.n_qm_atoms["max"] <= 75
    assert result.qm_calls <= 9
    assert result.critical_load is None
    assert abs(result.energy_ledger_eV["unaccounted"]) < 1.0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_classic_result(call, tmp_path):
    """Stillinger-Weber blunts and does not run up to five times Griffith's load; with SNAP at its tip the crack runs."""
    for name in ("host", "quantum"):
        code, _, err = call("run", EXAMPLE / f"{name}.yaml", "--out", tmp_path / name)
        assert code == 0, err
    host, quantum = (Result.load(tmp_path / name) for name in ("host", "quantum"))
    assert host.critical_load is None
    assert host.tip[-1]["G_J_per_m2"] == pytest.approx(14.0)
    assert host.tip[-1]["x_A"] - host.tip[0]["x_A"] < 15
    assert 1.3 < quantum.critical_load["G_J_per_m2"] / quantum.G_griffith_J_per_m2 < 2.3
    assert quantum.tip[-1]["x_A"] - quantum.tip[0]["x_A"] > 120
    assert 1500 < quantum.tip_speed_m_per_s < 3000
    assert quantum.qm_calls < quantum.n_steps / 8
    assert quantum.force_error_rms_eV_per_A < 0.16
    assert "boundary" in quantum.stop_reason


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_trapping_with_a_quantum_tip(tmp_path):
    """Every state relaxes; the tip opens a bond above Griffith's load and heals one below it, at far lower loads than SW."""
    result = ran("trapping", tmp_path / "run")
    unit = result.K_griffith_MPa_sqrt_m
    assert all(row["converged"] for row in result.tip)
    assert result.K_plus_MPa_sqrt_m / unit == pytest.approx(1.275, abs=0.03)
    assert result.K_minus_MPa_sqrt_m / unit == pytest.approx(0.935, abs=0.03)


@pytest.mark.slow
def test_gpaw_at_the_tip(tmp_path):
    """The first steps: GPAW's forces go through the springs, and the ledger closes."""
    pytest.importorskip("gpaw")
    load = recipebook.load_study(EXAMPLE / "gpaw.yaml").options["crack"].load
    load = load.model_copy(update={"hold_ps": 0.0})  # the ramp begins, and the run ends on the way
    result = ran("gpaw", tmp_path / "run", dynamics={"time_ps": 0.02}, crack={"load": load})
    assert result.n_steps == 20
    assert 2 <= result.qm_calls <= 6
    assert 15 <= result.n_qm_atoms["min"] <= 30
    assert abs(result.energy_ledger_eV["unaccounted"]) < 0.5
