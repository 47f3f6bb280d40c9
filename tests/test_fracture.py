"""The recipe `fracture`: dynamics of cracks at the command line, killed and resumed; what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase.build import bulk

from solidqmmm.results.fracture import FractureResult
from solidqmmm.runtime import environment_for_subprocess

SNAP = {
    "engine": "lammps",
    "pair_style": "snap",
    "pair_coeff": ["* * Si_Zuo_JPCA2020.snapcoeff Si_Zuo_JPCA2020.snapparam Si"],
    "species": ["Si"],
}
STUDY = {
    "recipe": "fracture",
    "structure": {"file": "Si.cif"},
    "host": {"pair_style": "sw", "pair_coeff": ["* * Si.sw Si"], "species": ["Si"]},
    "crack": {
        "system": "strip", "plane": [1, 1, 1], "front": [1, -1, 0], "load": {"G": [4.0, 5.0], "rate_per_ps": 20.0},
        "size_A": [130, 50],
    },
    "stadium": {"width_A": 20, "gamma_max_per_ps": 8},
    "dynamics": {"temperature_K": 300, "time_ps": 0.1, "timestep_fs": 1.0},
    "seed": 3,
}  # fmt: skip
QUANTUM = {
    "qm": SNAP,
    "region": {"core": {"radius": 4.0}, "leave_radius": 5.0, "buffer": {"radius": 4.0}},
    "caps": {"kind": "none", "periodic_axes": [2]},
    "coupling": "force_mixing",
}


def merged(base, changes):
    """`base` with `changes`, sections within sections merged; None takes a key away."""
    out = dict(base)
    for key, value in changes.items():
        if value is None:
            out.pop(key, None)
        elif isinstance(value, dict) and isinstance(out.get(key), dict):
            out[key] = merged(out[key], value)
        else:
            out[key] = value
    return out


@pytest.fixture
def study(tmp_path):
    """Writes a study with changes; its file."""
    bulk("Si", "diamond", a=5.43095, cubic=True).write(tmp_path / "Si.cif")

    def write(name="study.yaml", **changes):
        path = tmp_path / name
        path.write_text(yaml.safe_dump(merged(STUDY, changes)))
        return path

    return write


def read(folder) -> dict:
    return json.loads((Path(folder) / "result.json").read_text())


# --- what a run gives ---------------------------------------------------------------------------------------------


def test_the_host_alone_cracks_at_the_command_line(study, call, tmp_path):
    code, out, err = call("run", study(), "--out", tmp_path / "run")
    assert code == 0, err
    assert "surface energy" in out
    found = read(tmp_path / "run")
    assert found["surface_energy_J_per_m2"] == pytest.approx(1.3600, abs=0.002)
    assert found["G_griffith_J_per_m2"] == pytest.approx(2 * found["surface_energy_J_per_m2"])
    assert found["K_griffith_MPa_sqrt_m"] == pytest.approx(0.61526, rel=3e-3)
    C = np.array(found["elastic_tensor_GPa"])
    assert [C[0, 0], C[0, 1], C[3, 3]] == pytest.approx([151.4244, 76.4221, 56.4493], abs=0.05)
    assert (found["n_steps"], found["qm_calls"], found["n_qm_atoms"]) == (100, 0, {})
    assert found["force_error_rms_eV_per_A"] is None
    tip = found["tip"]
    assert [tip[0]["time_ps"], tip[-1]["time_ps"]] == pytest.approx([0.0, 0.1])
    assert all(2.3 < row["bond_A"] < 3.2 for row in tip)  # stretched, and not broken
    assert [tip[0]["G_J_per_m2"], tip[-1]["G_J_per_m2"]] == pytest.approx([4.0, 5.0])
    ledger = found["energy_ledger_eV"]
    assert abs(ledger["unaccounted"]) < 0.05 * ledger["load_work"]
    assert found["advanced"] is False
    assert {row["distance_A"] for row in found["temperature_profile"]}
    assert np.shape(found["maps"]["stress_yy_GPa"]) == (len(found["maps"]["y_A"]), len(found["maps"]["x_A"]))
    for name in ("tip", "snapshots", "maps", "temperature_profile", "energy_ledger"):
        assert (tmp_path / "run" / "figures" / f"{name}.png").exists()
    assert FractureResult.from_dict(found).mode == "dynamic"


def test_a_quantum_tip_with_learning_on_the_fly(study, call, tmp_path):
    path = study(saving={"scheme": "lotf", "steps": 10}, **QUANTUM)
    code, _, err = call("run", path, "--out", tmp_path / "run")
    assert code == 0, err
    found = read(tmp_path / "run")
    assert found["n_qm_atoms"]["min"] >= 20
    assert found["qm_calls"] <= 15  # 100 steps
    assert 0 < found["force_error_rms_eV_per_A"] < 0.15
    assert found["energy_ledger_eV"]["correction_work"] != 0.0
    # Force mixing here takes its net force out of the core.
    assert np.abs(found["correction_impulse_amu_A_per_ps"]).max() < 1e-8
    regions = found["snapshots"][0]["region"]
    assert {"core", "buffer", "host"} <= set(regions)


def test_the_stress_ahead_of_the_tip_is_that_of_the_load(study, call, tmp_path):
    """Far ahead of the tip the strip is strained homogeneously: sigma_yy = 2 G/(h strain) for a linear solid."""
    changes = {"crack": {"load": {"G": 2.0, "rate_per_ps": None}}, "dynamics": {"temperature_K": 1.0}}
    code, _, err = call("run", study(**changes), "--out", tmp_path / "run")
    assert code == 0, err
    found = read(tmp_path / "run")
    x, y = (np.array(found["maps"][name]) for name in ("x_A", "y_A"))
    stress = np.array(found["maps"]["stress_yy_GPa"], dtype=float)
    tip, held = found["tip"][0], found["crack"]["free_height_A"]
    ahead = (x > tip["x_A"] + 40) & (x < tip["x_A"] + 55)
    inside = np.abs(y - tip["y_A"]) < 0.3 * held
    mean = np.nanmean(stress[np.ix_(inside, ahead)])
    linear = 2 * tip["G_J_per_m2"] / (held * 1e-10 * tip["strain"]) * 1e-9
    assert mean == pytest.approx(linear, rel=0.1)  # the host softens by a few per cent at this strain


# --- killed and resumed -------------------------------------------------------------------------------------------


def run_command(path, out):
    return [sys.executable, "-m", "solidqmmm", "run", str(path), "--out", str(out)]


def finished(path, out):
    done = subprocess.run(run_command(path, out), capture_output=True, text=True, env=environment_for_subprocess())
    assert done.returncode == 0, done.stderr


def same_run(one, other):
    """Results but for wall times, and trajectories to the last byte."""
    first, second = read(one), read(other)
    for found in (first, second):
        del found["seconds"]
    assert first == second
    assert (one / "trajectory.xyz").read_bytes() == (other / "trajectory.xyz").read_bytes()


@pytest.mark.parametrize("scheme", [pytest.param("none", marks=pytest.mark.slow), "lotf"])
def test_a_killed_run_goes_on_to_the_last_bit(study, tmp_path, scheme):
    saving = {"scheme": scheme} if scheme == "none" else {"scheme": scheme, "steps": 10}
    path = study(saving=saving, **QUANTUM)
    finished(path, tmp_path / "whole")
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    victim = subprocess.Popen(run_command(path, tmp_path / "killed"), env=environment_for_subprocess(), **silent)
    checkpoint = tmp_path / "killed" / "checkpoint.npz"
    stamps, deadline = set(), time.monotonic() + 120
    while len(stamps) < 4 and victim.poll() is None and time.monotonic() < deadline:
        if checkpoint.exists():
            stamps.add(checkpoint.stat().st_mtime_ns)
        time.sleep(0.005)
    if victim.poll() is None:
        os.kill(victim.pid, signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL, "the run was over before it could be killed"
    finished(path, tmp_path / "killed")
    same_run(tmp_path / "whole", tmp_path / "killed")


# --- what ends a run early ----------------------------------------------------------------------------------------


def test_a_tip_at_the_boundary_ends_the_run_with_the_result_so_far(study, call, tmp_path):
    """A crack that ends in the stadium: seen at the first look, after ten steps."""
    changes = {"crack": {"tip_A": 112, "load": {"G": 5.0, "rate_per_ps": None}}}
    code, out, err = call("run", study(**changes), "--out", tmp_path / "run")
    assert code == 0, err
    found = read(tmp_path / "run")
    assert "of the boundary" in found["stop_reason"]
    assert found["n_steps"] == 10
    assert "ended early" in out


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"crack": {"front": [1, 1, 1]}}, "does not lie in the crack plane"),
        ({"crack": {"size_A": [130, 50, 2.0]}}, "thin along its front"),
        ({"crack": {"load": {"G": 400.0, "rate_per_ps": None}}}, "beyond the ideal strength"),
        ({"stadium": {"width_A": 90}}, "a stadium of width 90 angstrom leaves nothing undamped"),
        ({"stadium": {"width_A": "auto"}}, "the host is too small for its stadium"),
        ({"crack": {"load": {"G": [4.0, 9.0], "rate_per_ps": 0.1}}}, "longer than the run"),
        ({"crack": {"load": {"K": 0.5}}}, "exactly one of"),
        ({"crack": {"load": {"force": 0.5}}}, "force"),
        ({**QUANTUM, "region": {"core": {"hops": 2}, "buffer": {"hops": 1}}}, "follows the tip"),
        ({**QUANTUM, "coupling": "electrostatic"}, "electrostatic"),
        ({"saving": {"scheme": "lotf", "steps": 10}}, "host alone"),
        ({"saving": {"scheme": "none", "steps": 10}}, "belongs to a saving scheme"),
        ({"mode": "static"}, "dynamic"),
        ({"host": None, "qm": SNAP}, "host"),
        ({"crack": {"size_A": [130]}}, "needs its length and its height"),
        ({**QUANTUM, "region": {"core": {"radius": 4.0}, "leave_radius": 3.0}}, "leave_radius"),
    ],
)
def test_wrong_studies_say_what_to_do(study, call, tmp_path, changes, words):
    code, _, err = call("run", study(**changes), "--out", tmp_path / "run")
    assert code == 2, err
    assert words in err
    assert "Traceback" not in err
    assert not (tmp_path / "run" / "study.yaml").exists()  # the corrected study may have the folder


def test_forces_that_are_no_numbers_end_in_an_error_that_goes_on(study, tmp_path, monkeypatch):
    from solidqmmm import cli
    from solidqmmm.engines.lammps import LammpsEngine

    path = study(**QUANTUM)
    evaluate, calls = LammpsEngine.evaluate, []

    def broken(self, atoms, *, stress=False):
        from dataclasses import replace

        found = evaluate(self, atoms, stress=stress)
        if "snap" not in self.potential.pair_style:
            return found
        calls.append(1)
        return replace(found, forces=np.full_like(found.forces, np.nan)) if len(calls) == 40 else found

    monkeypatch.setattr(LammpsEngine, "evaluate", broken)
    with pytest.raises(SystemExit) as left:
        cli.main(["run", str(path), "--out", str(tmp_path / "run")])
    assert left.value.code not in (0, 2)
    assert not (tmp_path / "run" / "result.json").exists()
    monkeypatch.setattr(LammpsEngine, "evaluate", evaluate)
    with pytest.raises(SystemExit) as left:
        cli.main(["run", str(path), "--out", str(tmp_path / "run")])
    assert left.value.code == 0
    assert read(tmp_path / "run")["n_steps"] == 100


# --- before a run -------------------------------------------------------------------------------------------------


def test_a_dry_run_makes_the_crack_and_counts_the_calls(study, call, tmp_path):
    path = study(saving={"scheme": "lotf", "steps": 10}, **QUANTUM)
    code, out, err = call("run", path, "--dry-run")
    assert code == 0, err
    rows = {line.strip().split("  ")[0]: line for line in out.splitlines() if line.strip()}
    assert "K 0.615" in rows["Griffith"]
    assert "1.21, 1.36 of Griffith's" in rows["loads"]  # sqrt(4/2.72), sqrt(5/2.72)
    assert " 100," in rows["steps"]
    assert " 10 and one for each carving" in rows["quantum calls"]
    assert "core) and 0 caps" in rows["quantum atoms"]
    assert not (tmp_path / "study").exists()
    code, out, _ = call("run", study("host.yaml"), "--dry-run")
    assert code == 0
    assert "none: the host alone" in out


def test_a_dry_run_tells_the_stadium_or_that_there_is_no_room_for_it(study, call):
    code, out, err = call("run", study("wide.yaml", stadium={"width_A": 15.0, "gamma_max_per_ps": 5.0}), "--dry-run")
    assert code == 0, err
    assert "15.0 A wide, up to 5/ps" in out
    code, _, err = call("run", study("narrow.yaml", stadium="auto"), "--dry-run")
    assert code == 2
    assert "too small for its stadium" in err
    assert "give the width: `stadium: {width_A:" in err


@pytest.mark.parametrize("command", ["carve", "check"])
def test_there_is_no_single_cluster_to_look_at(study, call, command):
    code, _, err = call(command, study(**QUANTUM))
    assert code == 2
    assert "places the quantum region itself" in err


def test_options_are_shown_in_words(call):
    code, out, _ = call("recipes", "show", "fracture")
    assert code == 0
    assert "Annotated" not in out
    lines = {line.split()[0]: line for line in out.splitlines() if line.startswith("  ")}
    assert "number ≥ 0, or list of number ≥ 0" in lines["crack.load.K"]
    assert "linear / uniform" in lines["stadium.profile"]


def test_atoms_that_fly_apart_end_in_words_and_leave_the_checkpoint(study, call, tmp_path):
    changes = {"dynamics": {"time_ps": 6.0, "timestep_fs": 30.0}, "crack": {"load": {"G": 4.0, "rate_per_ps": None}}}
    code, _, err = call("run", study(stadium={"gamma_max_per_ps": 1.0}, **changes), "--out", tmp_path / "run")
    assert code == 1
    assert "shorter time step" in err
    assert "last good state" in err
    assert (tmp_path / "run" / "checkpoint.npz").exists()
    assert not (tmp_path / "run" / "result.json").exists()
