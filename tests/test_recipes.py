"""The recipes on real studies: keys, formation energies against independent ones, killed runs that go on."""

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
from ase.build import bulk
from pymatgen.core import Structure

from solidqmmm import recipebook
from solidqmmm.engines.lammps import LammpsEngine
from solidqmmm.procedures.build import build_model
from solidqmmm.procedures.building.neighbours import neighbour_shells
from solidqmmm.procedures.relax import relax
from solidqmmm.results.base import Result
from solidqmmm.runtime import environment_for_subprocess
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.potential import Potential
from solidqmmm.system.study import Study

SW = {"pair_style": "sw", "pair_coeff": ["* * Si.sw Si"], "species": ["Si"]}
COPPER = {"pair_style": "eam/alloy", "pair_coeff": ["* * Cu_mishin1.eam.alloy Cu"], "species": ["Cu"]}
TERSOFF = {"engine": "lammps", "pair_style": "tersoff", "pair_coeff": "* * Si.tersoff Si", "species": ["Si"]}
VACANCY = {"kind": "vacancy", "site": 0}
REGION = {"core": {"hops": 1}, "buffer": {"hops": 1}}


def silicon():
    return Crystal.of(bulk("Si", a=5.431, cubic=True))


def run(recipe="defect_relaxation", workdir=None, **changes) -> Result:
    mapping = {"recipe": recipe, "structure": silicon(), "supercell": [3, 3, 3], "host": SW} | changes
    study = Study.from_mapping(mapping, schemas=recipebook.schemas())
    with build_model(study, log_dir=workdir) as model:
        return recipebook.find(recipe).run(model=model, workdir=workdir, **study.options)


def energy(potential: dict, crystal) -> float:
    with LammpsEngine(Potential(**potential)) as engine:
        return engine.evaluate(Crystal.of(crystal).to_atoms()).energy


# --- single point -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coupling", ["subtractive", "force_mixing", "host alone"])
def test_single_point(tmp_path, coupling):
    quantum = {} if coupling == "host alone" else {"qm": TERSOFF, "region": REGION, "coupling": coupling}
    result = run("single_point", defect=VACANCY, **({"caps": {"kind": "none"}} | quantum))
    path = tmp_path / "result.json"
    result.save(path)
    written = json.loads(path.read_text())
    assert {"energy_eV", "energy_terms_eV", "forces_eV_per_A", "stress_GPa", "partition"} <= set(written)
    assert np.shape(written["forces_eV_per_A"]) == (215, 3)
    assert len(written["partition"]) == 215
    assert set(written["partition"]) == ({"host"} if coupling == "host alone" else {"core", "buffer", "host"})
    if coupling == "force_mixing":
        assert written["energy_eV"] is None
        assert written["stress_GPa"] is None
        assert "gradient" in written["energy_missing_reason"]
        assert written["energy_terms_eV"] == {}
    else:
        assert sum(written["energy_terms_eV"].values()) == pytest.approx(written["energy_eV"], abs=1e-9)
        assert np.shape(written["stress_GPa"]) == (3, 3)
    again = Result.load(path)
    assert type(again) is type(result)
    np.testing.assert_array_equal(again.forces_eV_per_A, result.forces_eV_per_A)
    assert again.energy_eV == result.energy_eV


# --- relaxed defects ------------------------------------------------------------------------------------------------

KEYS = {
    "recipe", "converged", "n_atoms_host", "n_atoms_qm", "n_link_atoms", "max_force_eV_per_A", "energy_eV",
    "relaxed_structure", "neighbour_displacements_A",
}  # fmt: skip


@pytest.mark.parametrize("coupling", ["subtractive", "force_mixing"])
def test_relaxed_vacancy(tmp_path, coupling):
    hybrid = {"qm": TERSOFF, "region": REGION, "caps": {"kind": "none"}, "coupling": coupling}
    result = run(defect=VACANCY, relax={"fmax": 0.05}, **hybrid)
    path = tmp_path / "result.json"
    result.save(path)
    written = json.loads(path.read_text())
    assert set(written) >= KEYS
    assert (written["n_atoms_host"], written["n_atoms_qm"], written["n_link_atoms"]) == (215, 16, 0)
    assert written["max_force_eV_per_A"] <= 0.05
    assert written["converged"]
    assert len(Structure.from_dict(written["relaxed_structure"])) == 215
    shells = [row["shell"] for row in written["neighbour_displacements_A"]]
    assert shells.count(1) == 4
    assert shells.count(2) == 12
    if coupling == "force_mixing":
        assert written["energy_eV"] is None
        assert written["formation_energy_eV"] is None
        assert "gradient" in written["energy_missing_reason"]
    again = Result.load(path)
    assert again.converged
    assert again.formation_energy_eV == result.formation_energy_eV
    assert len(again.trace) == result.n_qm_calls


def test_ideal_vacancy_is_a_trap():
    """Stillinger-Weber silicon, 216 sites, fixed lattice: 4.3366 eV without forces, 2.6942 eV with the neighbours inward.

    Random displacements up to 0.2 angstrom fall back into the trap, a minimum of its own; 0.3 angstrom inward get out of it.
    """
    trapped = run(defect=VACANCY, relax={"rattle": 0.0, "fmax": 0.001})
    assert trapped.formation_energy_eV == pytest.approx(4.3366, abs=0.005)
    assert trapped.n_qm_calls == 0
    assert max(abs(row["radial_A"]) for row in trapped.neighbour_displacements_A) < 1e-4

    perfect = silicon().supercell([3, 3, 3])
    asked = {"recipe": "defect_relaxation", "structure": silicon(), "supercell": [3, 3, 3], "host": SW, "defect": VACANCY}
    with build_model(Study.from_mapping(asked, schemas=recipebook.schemas())) as model, model.open() as crystal:
        centre = model.defect.position
        (shell,) = neighbour_shells(model.crystal, centre, shells=1)
        start = model.crystal.positions.copy()
        start[shell] += 0.3 * (centre - start[shell]) / np.linalg.norm(centre - start[shell], axis=1)[:, None]
        crystal.host.set_positions(start)
        relaxed = relax(crystal, fmax=0.001)
    assert relaxed.converged
    # two energies by an engine that knows nothing of hosts and defects
    found = energy(SW, relaxed.crystal) - energy(SW, perfect) * 215 / 216
    assert found == pytest.approx(2.6942, abs=0.005)


def test_copper_vacancy():
    copper = Crystal.of(bulk("Cu", a=3.615, cubic=True))
    result = run(structure=copper, supercell=[4, 4, 4], host=COPPER, defect=VACANCY, relax={"fmax": 0.002})
    assert result.formation_energy_eV == pytest.approx(1.2735, abs=0.002)
    # twelve neighbours make 66 pairs: cuboctahedron of 24 edges, 12 + 24 + 6 longer ones
    groups = dict(result.summary())["pairs in shell 1"].split(", ")
    assert [int(group.split(" of ")[0]) for group in groups] == [24, 12, 24, 6]
    # no quantum call, no convergence against quantum calls
    assert sorted(recipebook.find("defect_relaxation").figures(result)) == ["displacements", "neighbours"]


def test_a_defect_whose_neighbours_are_images():
    """In one cubic cell of fcc every neighbour is an image away: nothing to list, and no failure."""
    copper = Crystal.of(bulk("Cu", a=3.615, cubic=True))
    result = run(structure=copper, supercell=[1, 1, 1], host=COPPER, defect=VACANCY)
    assert result.converged
    assert len(result.neighbour_pair_distances_A) == 0
    assert recipebook.find("defect_relaxation").figures(result)


def test_calculators_of_ase_are_called_by_their_name():
    qm = {"engine": "ase", "calculator": "ase.calculators.emt:EMT"}
    copper = Crystal.of(bulk("Cu", a=3.615, cubic=True))
    region = {"core": {"hops": 1}, "buffer": {"hops": 1}}
    changes = {"qm": qm, "region": region, "caps": {"kind": "none"}, "coupling": "force_mixing", "defect": VACANCY}
    result = run("single_point", structure=copper, supercell=[4, 4, 4], host=COPPER, **changes)
    assert result.engine == "ase ase.calculators.emt:EMT"


def test_formation_energy_of_a_hybrid_vacancy_by_hand():
    """E(defect) - E(perfect) + mu, each term by itself; mu is the expensive model's at the host's lattice."""
    changes = {"defect": VACANCY, "qm": TERSOFF, "region": REGION, "caps": {"kind": "Si"}}
    result = run(relax={"fmax": 0.05}, **changes)
    study = Study.from_mapping(
        {"recipe": "defect_relaxation", "structure": silicon(), "supercell": [3, 3, 3], "host": SW} | changes,
        schemas=recipebook.schemas(),
    )
    with build_model(study) as model:
        relaxed = Crystal.of(Structure.from_dict(result.relaxed_structure))
        with model.open() as qmmm:
            qmmm.host.set_positions(relaxed.positions)
            defective = qmmm.energy()
            assert qmmm.largest_force()[0] == pytest.approx(result.max_force_eV_per_A, abs=1e-6)
        with model.open_perfect() as qmmm:
            perfect = qmmm.energy()
    expensive = {key: value for key, value in TERSOFF.items() if key != "engine"}
    mu = energy(expensive, silicon()) / 8
    assert result.chemical_potentials_eV == {"Si": pytest.approx(mu, abs=1e-8)}
    assert result.energy_eV == pytest.approx(defective, abs=1e-7)
    assert result.formation_energy_eV == pytest.approx(defective - perfect + mu, abs=1e-7)
    assert 1.0 < result.formation_energy_eV < 8.0


def test_everything_quantum_gives_the_formation_energy_of_the_engine():
    region = {"core": {"hops": 1}, "buffer": {"hops": 20}}
    caps = {"kind": "none", "periodic_axes": [0, 1, 2]}
    expensive = {key: value for key, value in TERSOFF.items() if key != "engine"}
    pure = run(supercell=[2, 2, 2], host=expensive, defect=VACANCY, relax={"fmax": 0.002, "rattle": 0.02})
    hybrid = run(
        supercell=[2, 2, 2], qm=TERSOFF, region=region, caps=caps, defect=VACANCY,
        relax={"fmax": 0.01, "rattle": 0.02, "max_qm_calls": 100},
    )  # fmt: skip
    assert hybrid.converged
    assert hybrid.formation_energy_eV == pytest.approx(pure.formation_energy_eV, abs=0.005)


@pytest.mark.parametrize(
    ("defect", "potentials", "present"),
    [
        ({"kind": "substitution", "site": 0, "element": "C"}, {}, False),
        ({"kind": "substitution", "site": 0, "element": "C"}, {"C": -7.3, "Si": -4.6}, True),
        ({"kind": "interstitial", "position": [0.5, 0.5, 0.5], "element": "Si"}, {}, True),
    ],
)
def test_chemical_potentials(defect, potentials, present):
    host = {"pair_style": "tersoff", "pair_coeff": ["* * SiC.tersoff Si C"], "species": ["Si", "C"]}
    result = run(host=host, defect=defect, relax={"chemical_potentials": potentials or None, "fmax": 0.05})
    assert (result.formation_energy_eV is not None) == present
    if not present:
        assert "chemical potential of C" in result.formation_energy_missing_reason
        return
    perfect = energy(host, silicon().supercell([3, 3, 3]))
    mu = potentials or {"Si": perfect / 216}
    change = -mu["Si"] if defect["kind"] == "interstitial" else mu["Si"] - mu["C"]
    assert result.formation_energy_eV == pytest.approx(result.energy_eV - perfect + change, abs=1e-6)


# --- runs that die and go on -------------------------------------------------------------------------------------------

SLOW = '''
"""An ASE calculator that notes every evaluation, takes its time, and dies on request."""
import hashlib, os, time
from pathlib import Path
import numpy as np
from ase.calculators.emt import EMT

class Slow(EMT):
    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        here = Path(os.environ["EVALUATIONS"])
        done = here.read_text().splitlines() if here.exists() else []
        if len(done) == int(os.environ.get("DIES_AT", -1)):
            raise RuntimeError("the supercomputer is on fire")
        time.sleep(float(os.environ.get("SECONDS", 0)))
        super().calculate(atoms, properties, system_changes)
        x = np.round(atoms.positions, 7) + 0.0
        with here.open("a") as file:
            file.write(hashlib.sha256(x.tobytes()).hexdigest() + "\\n")
'''

STUDY = """
recipe: defect_relaxation
structure: {file: POSCAR}
supercell: [4, 4, 4]
defect: {kind: vacancy, site: 0}
host: {pair_style: eam/alloy, pair_coeff: ["* * Cu_mishin1.eam.alloy Cu"], species: [Cu]}
qm: {engine: ase, calculator: "slow_emt:Slow"}
region: {core: {hops: 1}}
caps: {kind: none}
relax: {fmax: 0.02}
"""


@pytest.fixture
def copper_study(tmp_path):
    (tmp_path / "slow_emt.py").write_text(SLOW)
    (tmp_path / "study.yaml").write_text(STUDY)
    Crystal.of(bulk("Cu", a=3.615, cubic=True)).to_structure().to(filename=str(tmp_path / "POSCAR"))
    return tmp_path


def start(folder, out, **environment):
    command = [sys.executable, "-m", "solidqmmm.cli", "run", "study.yaml", "--out", out, "--allow-import", "slow_emt"]
    surroundings = environment_for_subprocess() | {
        "PYTHONPATH": str(folder),
        "EVALUATIONS": str(folder / f"{out}.evaluations"),
        **{key: str(value) for key, value in environment.items()},
    }
    return subprocess.Popen(
        command, cwd=folder, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finished(process) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def evaluations(folder, out) -> list[str]:
    path = Path(folder / f"{out}.evaluations")
    return path.read_text().splitlines() if path.exists() else []


def assert_same_result(folder, one, other):
    found, expected = (json.loads((folder / out / "result.json").read_text()) for out in (one, other))
    for key in ("energy_eV", "formation_energy_eV", "max_force_eV_per_A", "n_qm_calls"):
        assert found[key] == pytest.approx(expected[key], abs=1e-6), key
    x, y = (Structure.from_dict(result["relaxed_structure"]).cart_coords for result in (found, expected))
    np.testing.assert_allclose(x, y, atol=1e-6)


def test_killed_and_failed_runs_go_on_where_they_were(copper_study):
    code, _, err = finished(start(copper_study, "whole"))
    assert code == 0, err
    whole = evaluations(copper_study, "whole")
    assert len(whole) == len(set(whole)) > 4, "an evaluation was repeated"

    killed = start(copper_study, "killed", SECONDS=0.5)
    while len(evaluations(copper_study, "killed")) < 3:
        assert killed.poll() is None, killed.communicate()[1]
        time.sleep(0.05)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    before = evaluations(copper_study, "killed")
    assert not (copper_study / "killed/result.json").exists()
    code, _, err = finished(start(copper_study, "killed"))
    assert code == 0, err
    after = evaluations(copper_study, "killed")
    assert after[: len(before)] == before
    # what was in flight when the signal came may have been noted, but not kept
    assert len(after) - len(set(after)) <= 1
    assert len(set(after)) == len(whole)
    assert_same_result(copper_study, "killed", "whole")

    code, out, err = finished(start(copper_study, "failed", DIES_AT=4))
    assert code == 1
    assert "the supercomputer is on fire" in err
    assert "Traceback" not in out + err
    assert not (copper_study / "failed/result.json").exists()
    assert len(evaluations(copper_study, "failed")) == 4
    code, _, err = finished(start(copper_study, "failed"))
    assert code == 0, err
    assert len(evaluations(copper_study, "failed")) == len(set(evaluations(copper_study, "failed"))) == len(whole)
    assert_same_result(copper_study, "failed", "whole")
