"""SIGINT, SIGTERM: dynamics keeps what it was told and goes on to the last bit, all else ends at once; codes 130 and 143."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest
from ase.build import bulk
from launching import on_ranks

from solidqmmm.procedures.motion.checkpoint import DynamicsState
from solidqmmm.runtime import environment_for_subprocess

RECIPE = '''
"""Dynamics of a crystal, with or without a quantum region."""
from pathlib import Path
from solidqmmm.procedures.dynamics import run_dynamics

STUDY_SECTION = "hot"
HEAT = {"ensemble": "langevin", "temperature_K": 300.0, "initial_temperature_K": 600.0}

def run(*, model, steps: int = 3000, checkpoint: bool = True, workdir=None, progress=None):
    files = {"checkpoint": Path(workdir) / "checkpoint.npz", "resume": True} if checkpoint else {}
    def look(step, _):
        if step:
            (Path(workdir) / "moving.log").touch()

    with model.open() as qmmm:
        return run_dynamics(
            qmmm, steps=steps, timestep_fs=1.0, every=50, callbacks=[look], trajectory=Path(workdir) / "trajectory.xyz",
            frame_every=100, **HEAT, **files
        )
'''
STUDY = """
recipe: hot_recipe.py
structure: {file: POSCAR}
supercell: [3, 3, 3]
host: {pair_style: sw, pair_coeff: ["* * Si.sw Si"], species: [Si]}
"""
QUANTUM = """
qm: {engine: lammps, pair_style: tersoff, pair_coeff: "* * Si.tersoff Si", species: [Si]}
region: {core: {radius: 1.0}, buffer: {hops: 1}, centre: {site: 0}}
caps: {kind: none}
coupling: force_mixing
"""


@pytest.fixture
def folder(tmp_path):
    bulk("Si", cubic=True).write(tmp_path / "POSCAR", format="vasp")
    (tmp_path / "hot_recipe.py").write_text(RECIPE)
    return tmp_path


def start(folder, *, ranks=1, out="out"):
    command = on_ranks(ranks, sys.executable, "-m", "solidqmmm", "run", "study.yaml", "--out", out)
    return subprocess.Popen(
        command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment_for_subprocess()
    )


def wait_for(path, process):
    deadline = time.monotonic() + 60
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)


@pytest.mark.parametrize(
    ("number", "code", "quantum", "ranks"),
    [(signal.SIGTERM, 143, True, 1), (signal.SIGINT, 130, False, 1), (signal.SIGTERM, 143, True, 2)],
)
def test_dynamics_stops_and_goes_on_to_the_last_bit(folder, number, code, quantum, ranks):
    steps = 1000 if ranks == 1 else 150  # each step waits for the other rank
    (folder / "study.yaml").write_text(f"{STUDY}hot: {{steps: {steps}}}\n" + quantum * QUANTUM)
    checkpoint = folder / "out/checkpoint.npz"
    with start(folder, ranks=ranks) as run:
        wait_for(folder / "out/moving.log", run)
        run.send_signal(number)
        _, err = run.communicate(timeout=300)
    assert run.returncode == code, err
    assert err.count("stopping after the calculation in flight") == 1
    assert "interrupted; the same command goes on from here: solidqmmm run study.yaml --out out" in err
    assert "Traceback" not in err
    assert not (folder / "out/.lock").exists()
    state = DynamicsState.load(checkpoint)
    assert 50 <= state.step < steps
    assert state.step % 50 == 0
    with start(folder, ranks=ranks) as run:
        _, err = run.communicate(timeout=300)
    assert run.returncode == 0, err
    result = json.loads((folder / "out/result.json").read_text())
    assert result["n_steps"] == steps
    if quantum:
        assert result["n_qm_calls"] == steps + 1
    with start(folder, ranks=ranks, out="undisturbed") as run:
        _, err = run.communicate(timeout=300)
    assert run.returncode == 0, err
    expected = json.loads((folder / "undisturbed/result.json").read_text())
    assert {**result, "engine_s": 0} == {**expected, "engine_s": 0}
    trajectories = [(folder / out / "trajectory.xyz").read_bytes() for out in ("out", "undisturbed")]
    assert trajectories[0] == trajectories[1]


def test_without_a_checkpoint_it_ends_at_once(folder):
    (folder / "study.yaml").write_text(STUDY + "hot: {checkpoint: false}\n")
    with start(folder) as run:
        wait_for(folder / "out/moving.log", run)
        begin = time.monotonic()
        run.send_signal(signal.SIGTERM)
        _, err = run.communicate(timeout=300)
    assert time.monotonic() - begin < 5
    assert run.returncode == 143
    assert "interrupted; the same command goes on" in err
    assert "stopping" not in err
    assert not (folder / "out/.lock").exists()


def test_a_second_signal_ends_at_once(monkeypatch):
    """In a process of its own: somebody who heeds, and never looks."""
    script = """
import os, signal, sys, time
from solidqmmm import interruption
interruption._ECHO = float(sys.argv[1])
said = []
def tell(what):
    return lambda n: print(what, n, flush=True)
with interruption.watched(ended=tell("ended"), stopping=tell("stopping")):
    with interruption.heeded():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)
        print(interruption.exit_code(), flush=True)
"""
    for echo, code, said in ((0.0, 130, ["stopping 15", "ended 2"]), (9.0, 0, ["stopping 15", "143"])):
        done = subprocess.run([sys.executable, "-c", script, str(echo)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout.splitlines()) == (code, said), done.stderr
