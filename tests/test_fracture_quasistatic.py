"""The recipe `fracture` in its quasi-static mode, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

import pytest
from ase.io import write
from crack_cases import SILICON
from typer.testing import CliRunner

from solidqmmm.cli.app import app
from solidqmmm.cli.show import exit_code
from solidqmmm.results.base import Result

HEAD = """
recipe: fracture
structure: {file: Si.cif}
host: {pair_style: sw, pair_coeff: ["* * Si.sw Si"], species: [Si]}
mode: quasistatic
"""
CRACK = "crack: {{system: cylinder, plane: [1, 1, 1], front: [1, -1, 0], load: {}, size_A: [70]}}\n"
SNAP = """
qm:
  engine: lammps
  pair_style: snap
  pair_coeff: ["* * Si_Zuo_JPCA2020.snapcoeff Si_Zuo_JPCA2020.snapparam Si"]
  species: [Si]
region: {core: {radius: 4.0}, buffer: {radius: 3.0}}
caps: {kind: none, periodic_axes: [2]}
coupling: force_mixing
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "Si.cif", SILICON)

    def run(load, more="", out="out"):
        (tmp_path / "study.yaml").write_text(dedent(HEAD) + CRACK.format(load) + dedent(more))
        done = CliRunner().invoke(app, ["run", "study.yaml", "--out", out])
        file = tmp_path / out / "result.json"
        return done, json.loads(file.read_text()) if file.exists() else None

    return run


def test_a_crack_that_is_raised_and_lowered(run, tmp_path):
    done, result = run("{K: [0.5, 0.66], increment: 0.02}")
    assert done.exit_code == 0, done.output
    assert (result["recipe"], result["mode"], result["advanced"]) == ("fracture", "quasistatic", False)
    assert result["surface_energy_J_per_m2"] == pytest.approx(1.36, abs=2e-3)
    assert result["G_griffith_J_per_m2"] == pytest.approx(2.72, abs=4e-3)
    assert result["K_griffith_MPa_sqrt_m"] == pytest.approx(0.61526, rel=3e-3)
    assert result["elastic_tensor_GPa"][0][0] == pytest.approx(151.42, abs=0.1)
    loads = [row["K_MPa_sqrt_m"] for row in result["tip"]]
    assert loads == sorted(loads)
    assert (loads[0], loads[-1]) == pytest.approx((0.5, 0.66))
    start = next(row for row in result["tip"] if row["branch"] == "start")
    assert start["K_MPa_sqrt_m"] == pytest.approx(result["K_griffith_MPa_sqrt_m"])
    assert [length for _, length in start["bonds_A"]][3:5] == pytest.approx([4.63, 2.61], abs=0.05)
    assert result["K_plus_MPa_sqrt_m"] is None
    assert "does not open up to 0.660" in result["K_plus_missing_reason"]
    assert "does not heal down to 0.500" in result["K_minus_missing_reason"]
    assert all(row["converged"] for row in result["tip"])
    assert result["crack"]["symmetry"]["space_group"] == "Fd-3m (227)"
    assert Result.load(tmp_path / "out" / "result.json").tip == result["tip"]
    assert (tmp_path / "out" / "figures" / "tip.png").exists()
    assert "K- (closes)" in done.output


def test_one_load_searches_both_ways_until_something_happens(run):
    _, result = run("{K: 0.5, increment: 0.04}")
    assert 0.2 < result["K_minus_MPa_sqrt_m"] < 0.5
    assert "blunts" in result["K_plus_missing_reason"] or "does not open" in result["K_plus_missing_reason"]


def test_a_load_at_which_the_lattice_does_not_hold_the_crack(run):
    _, result = run("{K: 0.2}")
    assert "healed by" in result["K_minus_missing_reason"]
    assert "K_minus lies above" in result["K_minus_missing_reason"]
    assert len(result["tip"]) == 1
    assert any("not trap it" in text for text in result["warnings"])


def test_a_run_again_takes_its_states_from_the_folder(run, monkeypatch):
    _, first = run("{K: [0.55, 0.66], increment: 0.03}")
    import solidqmmm.procedures.cracks.quasistatic as module

    monkeypatch.setattr(module, "relax", lambda *_, **__: pytest.fail("it relaxed again"))
    Path("out/result.json").unlink()
    _, again = run("{K: [0.55, 0.66], increment: 0.03}")
    assert again["tip"] == first["tip"]


def test_a_quantum_tip(run):
    done, result = run("{K: [0.6, 0.63], increment: 0.02}", SNAP)
    assert done.exit_code == 0, done.output
    assert result["qm_calls"] == sum(row["qm_calls"] for row in result["tip"]) > 0
    assert 0 < result["n_qm_atoms"]["min"] <= result["n_qm_atoms"]["max"] < 40
    assert "force" in result["coupling"]
    assert {"core", "buffer"} <= set(result["snapshots"][0]["region"])


@pytest.mark.parametrize(
    ("load", "said"),
    [
        ("{K: [0.5, 9.0]}", "beyond the ideal strength"),
        ("{strain: 0.05}", "a strain is the load of a strip"),
        ("{K: 0.5, G: 1.0}", "exactly one of `K`"),
    ],
)
def test_impossible_loads_are_refused(run, load, said):
    done, result = run(load)
    assert exit_code(done.exception) == 2
    assert said in str(done.exception)
    assert result is None
