"""Split ranks: the same numbers as on shared ranks and on one, from the command line and in Python."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from launching import on_ranks as command_on_ranks
from study_cases import STUDIES, changed, write_structures

from solidqmmm.physics.algebra.rank_costs import RankCost
from solidqmmm.procedures.parallel.splitting import Plan
from solidqmmm.results.base import Result
from solidqmmm.runtime import environment_for_subprocess

SCRIPT = Path(__file__).with_name("mpi_split_ranks.py")
SPLIT = {"layout": "split", "quantum": 1}
POINT = changed(
    STUDIES["relaxation"],
    {"recipe": "single_point", "relax": None, "check": None, "supercell": [2, 2, 2], "region.buffer.hops": 1,
     "coupling": {"scheme": "subtractive"}},
)  # fmt: skip
RELAX = changed(STUDIES["relaxation"], {"supercell": [2, 2, 2], "region.buffer.hops": 1, "check": None})
GPAW = changed(
    POINT,
    {"defect": None, "region": {"core": {"sites": [0]}}, "caps": {"kind": "hydrogen"}},
) | {"qm": {"engine": "gpaw", "mode": "lcao", "basis": "sz(dzp)", "h": 0.3, "xc": "LDA"}}  # fmt: skip


@pytest.fixture
def study(tmp_path):
    """Writes a study, changed; its file."""
    write_structures(tmp_path)

    def written(mapping, **changes):
        file = tmp_path / f"study{len(list(tmp_path.glob('*.yaml')))}.yaml"
        file.write_text(yaml.safe_dump(changed(mapping, changes)))
        return file

    return written


def ran(file, out, *, ranks=1, code=0):
    """Runs a study from the command line; what it said."""
    command = command_on_ranks(ranks, sys.executable, "-m", "solidqmmm", "run", file, "--out", out)
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=120, check=False,
        env=environment_for_subprocess(),
    )  # fmt: skip
    assert done.returncode == code, done.stderr[-2000:]
    return done.stdout + done.stderr


def result_in(folder):
    return vars(Result.load(folder / "result.json"))


def same(one, other, *names, tolerance=1e-9):
    for name in names:
        assert np.allclose(one[name], other[name], rtol=0, atol=tolerance), name


# --- numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ranks", "quantum"), [(2, 1), (3, 2)])
def test_one_evaluation_is_that_of_one_rank(study, on_ranks, ranks, quantum):
    alone = on_ranks(SCRIPT, study(POINT), 0)
    split = on_ranks(SCRIPT, study(POINT), quantum, ranks=ranks, timeout=60)
    assert split["engine"] == "RemoteEngine"
    assert split["world"] == ranks - quantum
    assert split["traffic"]["asked"] == 1
    same(alone, split, "energy", "forces", tolerance=1e-10)


@pytest.mark.slow
def test_a_relaxation_from_the_command_line(study, tmp_path):
    ran(study(RELAX), tmp_path / "one")
    said = ran(study(RELAX, ranks=SPLIT), tmp_path / "two", ranks=2)
    assert "1 for the host, 1 for quantum mechanics" in said
    one, two = result_in(tmp_path / "one"), result_in(tmp_path / "two")
    assert one["n_qm_calls"] == two["n_qm_calls"]
    same(one, two, "max_force_eV_per_A", "displacement_norm_A", tolerance=1e-7)
    # The quantum ranks keep the journal: one rank goes on from it, and computes nothing.
    (tmp_path / "two" / "result.json").unlink()
    log = tmp_path / "two" / "lammps_qm.log"
    log.unlink()
    ran(study(RELAX), tmp_path / "two")
    assert not log.exists(), "an evaluation was computed again"
    same(two, result_in(tmp_path / "two"), "displacement_norm_A", tolerance=1e-7)


def test_gpaw_on_its_own_rank(study, tmp_path):
    pytest.importorskip("gpaw")
    ran(study(GPAW), tmp_path / "one")
    ran(study(GPAW, ranks=SPLIT), tmp_path / "two", ranks=2)
    one, two = result_in(tmp_path / "one"), result_in(tmp_path / "two")
    same(one, two, "energy_eV", "forces_eV_per_A", tolerance=1e-9)
    assert "cores:  1\n" in (tmp_path / "two" / "gpaw.txt").read_text()


@pytest.mark.slow
def test_gpaw_on_two_of_three_ranks(study, tmp_path):
    pytest.importorskip("gpaw")
    ran(study(GPAW), tmp_path / "one")
    ran(study(GPAW, ranks=SPLIT | {"quantum": 2}), tmp_path / "three", ranks=3)
    one, three = result_in(tmp_path / "one"), result_in(tmp_path / "three")
    same(one, three, "energy_eV", "forces_eV_per_A", tolerance=1e-5)


# --- dynamics ---------------------------------------------------------------------------------------------------

DYNAMICS = SCRIPT.with_name("mpi_split_dynamics.py")
FORESEEN = ("nve", "skewed", "frozen", "corner", "langevin", "stadium", "checkpoints", "kicked", "pushed")
ASKED_LATE = {"nvt": "do not follow from the forces alone", "learning": "asks when its steps are made"}


def test_dynamics_of_one_host_rank_is_that_of_one_rank_to_the_last_bit(tmp_path, on_ranks):
    cases = on_ranks(DYNAMICS, tmp_path, 1, ranks=2, timeout=100)
    for name, found in cases.items():
        # Atoms that came back through the other face are foreseen to rounding.
        allowed = 1e-10 if name == "corner" else 0.0
        assert max(found["positions"], found["velocities"]) <= allowed, name
        assert found["calls"][0] == found["calls"][1], name
    for name in FORESEEN:  # every call but those of set-ups: the first one, and the one after a caller moved an atom
        calls, split = cases[name]["calls"][1], cases[name]["split"]
        wrong = 1 if name == "pushed" else 0
        assert split["missed"] == wrong, name
        assert split["hits"] == calls - 1 - (name in ("kicked", "pushed")), name
        assert split["announced"] == split["hits"] + wrong, name
    for name, why in ASKED_LATE.items():
        assert cases[name]["split"]["announced"] == 0
        assert why in cases[name]["summary"]
    # Impulses at every third step: what comes after two steps of the host alone is known one step before.
    assert cases["impulses"]["split"]["hits"] == cases["impulses"]["calls"][1] - 1


@pytest.mark.slow
@pytest.mark.parametrize("quantum", [1, 2])
def test_dynamics_on_three_ranks(tmp_path, on_ranks, quantum):
    cases = on_ranks(DYNAMICS, tmp_path, quantum, "skewed", "langevin", ranks=3, timeout=100)
    for name, found in cases.items():
        assert found["positions"] < 1e-12, name
        assert found["split"]["hits"] == found["calls"][1] - 1, name


# --- how many of which ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_whose_region_has_grown_divides_the_ranks_anew(tmp_path, on_ranks):
    found = on_ranks(SCRIPT.with_name("mpi_divide_anew.py"), tmp_path, ranks=3, timeout=100)
    # Asked for at the checkpoints of steps 4 and 8, and done at the second one; only once.
    assert [words.partition(":")[0][:9] for words in found["said"]] == ["at step 8"]
    assert "going on with 1 and 2" in found["said"][0]
    assert (found["split"]["host"], found["split"]["quantum"]) == (1, 2)
    assert found["difference"] < 1e-11
    assert found["calls"][0] == found["calls"][1]


def test_a_plan_follows_what_is_measured():
    plan = Plan(8, host=RankCost(0.0, 4.0), quantum=RankCost(1.0, 4.0))
    # Half as long as planned on 2 quantum ranks, as planned on 6 host ranks.
    now = plan.measured(2, host_s=4 / 6, quantum_s=1.5)
    assert now.host == plan.host
    assert now.quantum == RankCost(0.5, 2.0)
    # The region has grown eightfold: all but one rank, if the run is long enough for the change.
    grown = plan.measured(2, host_s=4 / 6, quantum_s=24.0)
    saved = 24.0 - (8.0 + 32.0 / 7)
    assert grown.better(2, steps_left=10, rebuild=10 * saved + 1) is None
    assert grown.better(2, steps_left=10, rebuild=10 * saved - 1).quantum == 7


@pytest.mark.slow
def test_the_number_of_quantum_ranks_is_measured_and_kept(study, tmp_path):
    file = study(POINT, ranks={"layout": "split"})
    said = ran(file, tmp_path / "out", ranks=3)
    assert "on all 3 of them a host step takes" in said
    noted = json.loads((tmp_path / "out" / "ranks.log").read_text())
    assert f"{noted['quantum']} for quantum mechanics" in said
    (tmp_path / "out" / "provenance.json").unlink()  # a run that was not finished goes on as it was divided
    (tmp_path / "out" / "ranks.log").write_text(json.dumps({**noted, "quantum": 3 - noted["quantum"]}))
    said = ran(file, tmp_path / "out", ranks=3)
    assert f"{3 - noted['quantum']} for quantum mechanics" in said
    assert "a host step takes" not in said


# --- what goes wrong --------------------------------------------------------------------------------------------


def test_an_error_on_the_quantum_ranks_is_said_once(study, tmp_path):
    pytest.importorskip("gpaw")
    said = ran(study(GPAW, ranks=SPLIT, **{"qm.maxiter": 1}), tmp_path / "out", ranks=2, code=1)
    assert said.count("did not converge") == 1
    assert "tried: fresh start" in said


def test_an_error_on_the_host_ranks_ends_the_quantum_ranks(study, tmp_path):
    wrong = study(POINT, ranks=SPLIT, **{"region.core": {"hops": 9}})
    said = ran(wrong, tmp_path / "out", ranks=2, code=2)
    assert said.count("error:") == 1


def test_more_quantum_ranks_than_ranks(study, tmp_path):
    said = ran(study(POINT, ranks=SPLIT | {"quantum": 2}), tmp_path / "out", ranks=2, code=2)
    assert "expected 1 to 1" in said
    assert "got 2" in said


def test_split_on_one_rank_takes_turns(study, tmp_path):
    assert "needs at least two ranks" in ran(study(POINT, ranks=SPLIT), tmp_path / "out")
    assert "ranks" not in yaml.safe_load((tmp_path / "out" / "study.yaml").read_text())


def test_quantum_ranks_of_shared_ranks_are_refused(study, tmp_path):
    said = ran(study(POINT, ranks={"layout": "shared", "quantum": 1}), tmp_path / "out", code=2)
    assert "layout: split" in said
