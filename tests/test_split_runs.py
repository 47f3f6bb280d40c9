"""Split ranks over whole runs: recipes, signals, ranks that fail alone, and GPAW overlapped with its host."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from launching import on_ranks as command_on_ranks
from study_cases import SNAP, STUDIES, changed
from test_split_ranks import GPAW, POINT, SPLIT, ran, same
from test_split_ranks import study as study

from solidqmmm.results.base import Result
from solidqmmm.runtime import environment_for_subprocess

pytestmark = pytest.mark.slow

POLARIZABLE = changed(STUDIES["ladder"], {"recipe": "single_point", "ladder": None})
CRACK = changed(
    STUDIES["fracture"],
    {"qm": SNAP, "region": {"core": {"radius": 4.0}, "leave_radius": 5.0, "buffer": {"radius": 4.0}},
     "caps": {"kind": "none", "periodic_axes": [2]}, "coupling": {"scheme": "force_mixing"},
     "crack.load": {"G": [5.0]}},
)  # fmt: skip
RECIPES = {
    "an engine in a field": (POLARIZABLE, ("energy_eV", "forces_eV_per_A")),
    "an engine alone": (STUDIES["alone"], ("elastic_tensor_GPa",)),
    "matched lattices": (changed(POINT, {"matching": "auto"}), ("energy_eV", "forces_eV_per_A")),
    "a crack": (CRACK, ()),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_on_split_ranks_is_that_on_one(study, tmp_path, name):
    mapping, compared = RECIPES[name]
    ran(study(mapping), tmp_path / "one")
    said = ran(study(mapping, ranks=SPLIT), tmp_path / "two", ranks=2)
    assert "quantum ranks  0 asked" not in said
    one, two = (Result.load(tmp_path / name / "result.json") for name in ("one", "two"))
    same(vars(one), vars(two), *compared)
    if name == "a crack":
        assert one.tip == two.tip
        assert one.qm_calls == two.qm_calls
        carved = int(re.search(r"carved anew (\d+) time", said)[1])  # another region is asked for in a set-up
        assert f"{two.qm_calls - 1 - carved} of them foreseen" in said


# --- dynamics of GPAW -------------------------------------------------------------------------------------------

DYNAMICS = '''
"""Dynamics of a study."""
from pathlib import Path

import numpy as np

from solidqmmm.procedures.dynamics import run_dynamics

STUDY_SECTION = "hot"

def run(*, model, steps: int = 6, every: int = 3, workdir=None, progress=None):
    def look(step, _):
        if step:
            (Path(workdir) / "moving.log").touch()

    with model.open() as qmmm:
        result = run_dynamics(
            qmmm, steps=steps, timestep_fs=1.0, every=every, initial_temperature_K=600.0, ensemble="langevin",
            temperature_K=300.0, checkpoint=Path(workdir) / "checkpoint.npz", resume=True, callbacks=[look],
        )
        np.save(Path(workdir) / "positions.npy", qmmm.host.positions())
    return result
'''


def test_gpaw_works_while_the_host_does(study, tmp_path):
    pytest.importorskip("gpaw")
    (tmp_path / "hot.py").write_text(DYNAMICS)
    hot = changed(GPAW, {"recipe": "hot.py", "hot": {"steps": 6}})
    ran(study(hot), tmp_path / "one")
    ran(study(hot, ranks=SPLIT), tmp_path / "two", ranks=2)
    one, two = (np.load(tmp_path / name / "positions.npy") for name in ("one", "two"))
    assert np.abs(one - two).max() < 1e-10
    said = Result.load(tmp_path / "two" / "result.json").split_ranks
    assert (said["hits"], said["missed"]) == (6, 0)


# --- signals ----------------------------------------------------------------------------------------------------


def test_a_signal_keeps_what_was_computed_and_the_run_goes_on_to_the_last_bit(study, tmp_path):
    (tmp_path / "hot.py").write_text(DYNAMICS)
    hot = changed(POINT, {"recipe": "hot.py", "hot": {"steps": 400, "every": 50}, "ranks": SPLIT})
    command = command_on_ranks(2, sys.executable, "-m", "solidqmmm", "run", study(hot), "--out", tmp_path / "stopped")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment_for_subprocess()) as run:
        deadline = time.monotonic() + 60
        while not (tmp_path / "stopped" / "moving.log").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        run.send_signal(signal.SIGTERM)
        _, said = run.communicate(timeout=60)
    assert run.returncode == 143, said
    assert said.count("the same command goes on") == 1
    ran(study(hot), tmp_path / "stopped", ranks=2)
    ran(study(hot), tmp_path / "whole", ranks=2)
    one, two = (np.load(tmp_path / name / "positions.npy") for name in ("stopped", "whole"))
    assert np.array_equal(one, two)


# --- a rank that fails alone --------------------------------------------------------------------------------------

LONELY = '''
"""The last rank fails alone, the others of its half wait for it."""
from solidqmmm.engines import remote
from solidqmmm.engines.lammps import LammpsEngine
from solidqmmm.errors import EngineError
from solidqmmm.runtime import all_ranks, world

remote._AGREE_SECONDS = 1.0

compute = LammpsEngine.evaluate

def evaluate(self, atoms, *, stress=False):
    if all_ranks().Get_rank() == 0:
        return compute(self, atoms, stress=stress)
    if all_ranks().Get_rank() == all_ranks().Get_size() - 1:
        raise EngineError("no memory left on this node")
    world().Barrier()

LammpsEngine.evaluate = evaluate

def run(*, model, workdir=None, progress=None):
    with model.open() as qmmm:
        return qmmm.forces()
'''


def test_a_quantum_rank_that_fails_alone_ends_all_of_them_with_its_message(study, tmp_path):
    (tmp_path / "lonely.py").write_text(LONELY)
    lonely = changed(POINT, {"recipe": "lonely.py", "ranks": {"layout": "split", "quantum": 2}})
    said = ran(study(lonely), tmp_path / "out", ranks=3, code=1)
    assert said.count("no memory left on this node") == 1
    assert "rank 2" in said
