"""Wrong studies of all recipes: exit code 2, one clear message that names the key and the cure, and no run folder."""

from __future__ import annotations

import json

import pytest
from study_cases import MAGNESIA, SNAP, STUDIES, SW, changed, write_structures

from solidqmmm import recipebook

# study, changes, and what the message must hold: the key, and what to do
BAD = [
    # the study as a whole
    ("point", {"recipe": "single_pint"}, ["recipe (line 1)", "did you mean 'single_point'?"]),
    ("point", {"recipe": None}, ["recipe: missing"]),
    ("point", {"recipe": "mine.py"}, ["recipe", "recipe file not found", "mine.py"]),
    ("point", {"recipe": 3}, ["recipe", "expected a text, got 3"]),
    ("point", {"supercel": [2, 2, 2]}, ["supercel", "did you mean 'supercell'?"]),
    ("point", {"relax": {"fmax": 0.1}}, ["relax", "unknown key"]),
    ("point", {"structure": None}, ["structure: missing"]),
    ("point", {"structure.file": "Si.cfi"}, ["structure.file", "file not found", "did you mean 'Si.cif'?"]),
    ("point", {"structure.file": None}, ["structure", "exactly one of `file` and `mp_id`"]),
    ("point", {"structure.cell": "primitve"}, ["structure.cell", "'conventional', 'primitive' or 'as_given'"]),
    ("point", {"supercell": [2, 2]}, ["supercell", "expected three positive integers", "[2, 2]"]),
    ("point", {"supercell": [0, 1, 1]}, ["supercell", "expected three positive integers"]),
    ("point", {"supercell": 2}, ["supercell", "expected three positive integers"]),
    ("point", {"seed": -1}, ["seed", "a number not below 0, got -1"]),
    ("point", {"seed": float("nan")}, ["seed", "expected an integer"]),
    # the host
    ("point", {"host": None}, ["host: missing", "pair_style: sw"]),
    ("point", {"host.pair_style": None}, ["host.pair_style", "missing"]),
    ("point", {"host.pair_coef": "x"}, ["host.pair_coef", "did you mean 'pair_coeff'?"]),
    ("point", {"host.pair_coeff": ["* * Si.swx Si"]}, ["host.pair_coeff", "'Si.swx'", "put it beside the study"]),
    ("point", {"host.species": ["Sj"]}, ["host.species[0]", "expected a chemical symbol such as 'Si', got 'Sj'"]),
    ("point", {"host.species": []}, ["host.species", "at least 1 value"]),
    ("relaxation", {"host": {"pair_style": "tersoff", "pair_coeff": ["* * SiC.tersoff Si C"], "species": ["C", "Si"]}},
     ["host", "names the elements as Si C, and `species` as C, Si", "same order"]),
    ("point", {"host.species": ["Si", "Si"]}, ["host", "names an element twice"]),
    ("point", {"host.units": "lj"}, ["host.units", "'metal' or 'real', got 'lj'"]),
    ("point", {"host.commands": ["shell rm -r x"]}, ["host", "`commands` may hold kspace_style", "leave it out"]),
    ("point", {"host.model": "gulp_Mg"}, ["host", "gulp_MgO"]),
    ("charged", {"host.commands": []}, ["host", 'give `commands: ["kspace_style ewald 1e-6"]`']),
    ("charged", {"host.charges": {"Mg": 2}}, ["host", "`charges` must name Mg, O, got Mg"]),
    ("charged", {"host.shells": {"O": {"charge": -2.8, "spring": 0}}}, ["host.shells.O.spring", "above 0.0, got 0"]),
    # defects
    ("relaxation", {"defect.kind": "vacency"}, ["defect", "'vacancy', 'substitution'", "did you mean 'vacancy'?"]),
    ("relaxation", {"defect.site": -1}, ["defect.site", "a number not below 0"]),
    ("relaxation", {"defect": {"kind": "substitution", "site": 0}}, ["defect.element", "missing"]),
    ("relaxation", {"defect": {"kind": "interstitial", "element": "Si"}}, ["defect", "one of `position` and `site`"]),
    # who is quantum, and how
    ("relaxation", {"region": None}, ["region: missing", "{core:"]),
    ("relaxation", {"region.core": {"hops": 1, "radius": 3}}, ["region.core", "exactly one of", "got hops and radius"]),
    ("relaxation", {"region.core": {"radius": -3}}, ["region.core", "-3"]),
    ("relaxation", {"region.core": {"radius": float("inf")}}, ["region.core.radius", "a finite number"]),
    ("relaxation", {"region.buffer": {"hop": 2}}, ["region.buffer.hop", "did you mean 'hops'?"]),
    ("relaxation", {"caps.kind": "hydrgen"}, ["caps.kind", "'fractional', 'none' or a chemical symbol"]),
    ("relaxation", {"caps.length": -1.5}, ["caps", "`length` must be positive (angstrom)"]),
    ("relaxation", {"coupling": "force_mixng"}, ["coupling", "did you mean 'force_mixing'?"]),
    ("relaxation", {"coupling": {"scheme": "subtractive", "weights": "smooth"}}, ["coupling.weights", "unknown key"]),
    ("relaxation", {"matching": "atuo"}, ["matching", "'none' or 'auto'"]),
    ("relaxation", {"qm": {**SNAP, "engine": "gpwa"}}, ["qm.engine", "did you mean 'gpaw'?"]),
    ("relaxation", {"qm": {"pair_style": "sw"}}, ["qm.engine", "expected the name of an engine"]),
    ("relaxation", {"qm.pair_coeff": "* * No.snapcoeff Si"}, ["qm", "'No.snapcoeff'", "put it beside the study"]),
    ("relaxation", {"qm": {"engine": "gpaw", "h": 0}}, ["qm.h", "a number above 0"]),
    ("relaxation", {"qm": {"engine": "ase", "calculator": "emt"}}, ["qm.calculator", "as tblite.ase:TBLite", "got 'emt'"]),
    ("relaxation", {"qm": {"engine": "ase", "calculator": "os:system"}}, ["qm.calculator", "--allow-import os"]),
    ("relaxation", {"check.nve_stpes": 1}, ["check.nve_stpes", "did you mean 'nve_steps'?"]),
    ("alone", {"coupling": "force_mixing"}, ["coupling", "leave it out"]),
    ("alone", {"structure.lattice": "host"}, ["structure.lattice", "leave this out"]),
    # options of the recipes
    ("relaxation", {"relax.fmax": 0}, ["relax.fmax", "a number above 0.0, got 0"]),
    ("relaxation", {"relax.fmx": 0.1}, ["relax.fmx", "did you mean 'fmax'?"]),
    ("relaxation", {"relax.algorithm": "bfgs"}, ["relax.algorithm", "'micro', 'fire' or 'cg'"]),
    ("relaxation", {"relax": [0.1]}, ["relax", "expected a mapping of options"]),
    ("tensor", {"elastic.amplitudes": "small"}, ["elastic.amplitudes", "got 'small'"]),
    ("tensor", {"elastic.cell": "free"}, ["elastic.cell", "'relaxed' or 'fixed'"]),
    ("tensor", {"elastic.symmetry": "yes"}, ["elastic.symmetry", "true or false"]),
    ("phonons", {"phonons.displacement": -0.01}, ["phonons.displacement", "a number above 0"]),
    ("phonons", {"phonons.method": "exact"}, ["phonons.method", "'static', 'guyan', 'dynamic' or 'full'"]),
    ("phonons", {"phonons.temperatures": [0]}, ["phonons.temperatures[0]", "a number above 0"]),
    ("charged", {"charged.charge": None}, ["charged.charge", "missing"]),
    ("charged", {"charged.cells": [[2, 2]]}, ["charged.cells[0]", "three positive integers"]),
    ("charged", {"charged.ions": "free"}, ["charged.ions", "'fixed' or 'relaxed'"]),
    (
        "charged",
        {"charged.energies": "table.csv", "charged.cells": None}
        | dict.fromkeys(["structure", "supercell", "host", "defect"]),
        ["charged.energies", "file not found", "table.csv"],
    ),
    ("ladder", {"ladder.embeddings": ["mechnical"]}, ["ladder.embeddings[0]", "'mechanical'"]),
    ("ladder", {"coupling.polarizabilities": None}, ["coupling", "`polarizabilities` by element"]),
    ("ladder", {"qm.charges": None}, ["qm.charges", "missing"]),
    ("tensor", {"executor": "lokal"}, ["executor.executor", "did you mean 'local'?"]),
    ("tensor", {"executor": 4}, ["executor", "expected a mapping", "got 4"]),
    ("tensor", {"executor": {"workers": 4}}, ["executor.executor", "one of serial, local, slurm, flux, or module:callable"]),
    ("tensor", {"executor": {"executor": "local", "worker": 4}}, ["executor.worker", "did you mean 'workers'?"]),
    ("tensor", {"executor": {"executor": "local", "workers": 0}}, ["executor.workers", "a number not below 1, got 0"]),
    ("tensor", {"executor": {"executor": "slurm", "time_limit": 3600}}, ["executor.time_limit", "'8:00:00'"]),
    ("tensor", {"executor": {"executor": "slurm", "partition": "a\nsh x"}}, ["executor.partition", "a name of letters"]),
    ("tensor", {"executor": {"executor": "slurm", "queue_folder": "q"}}, ["executor.queue_folder", "--executor FILE.yaml"]),
    ("tensor", {"executor": "os:getcwd"}, ["executor.executor", "permit it: --allow-import os"]),
    ("fracture", {"crack": None}, ["crack", "missing"]),
    ("fracture", {"crack.front": [1, 0, 0]}, ["crack", "hu + kv + lw must be zero"]),
    ("fracture", {"crack.load": {"G": 4, "K": 1}}, ["crack.load", "exactly one of `K`"]),
    ("fracture", {"crack.size_A": [130]}, ["crack", "length and its height"]),
    ("fracture", {"crack.system": "disc"}, ["crack.system", "'strip' or 'cylinder'"]),
    ("fracture", {"dynamics.timestep_fs": 0}, ["dynamics.timestep_fs", "a number above 0"]),
    ("fracture", {"saving": {"scheme": "none", "steps": 4}}, ["saving", "leave out `steps: 4`"]),
    ("fracture", {"stadium.width_A": "wide"}, ["stadium.width_A", "'auto'"]),
]  # fmt: skip


@pytest.fixture(scope="module")
def structures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("structures")
    write_structures(folder)
    return folder


@pytest.fixture
def folder(structures, tmp_path, monkeypatch):
    for file in structures.iterdir():
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(folder, mapping):
    """JSON, but for numbers that are not finite, is YAML."""
    text = "".join(f"{key}: {json.dumps(value)}\n" for key, value in mapping.items())
    (folder / "study.yaml").write_text(text.replace("NaN", ".nan").replace("Infinity", ".inf"))
    return "study.yaml"


@pytest.mark.parametrize("name", STUDIES)
def test_the_studies_are_right_without_the_changes(folder, name):
    study = recipebook.load_study(written(folder, STUDIES[name]))
    assert study.recipe == STUDIES[name]["recipe"]


@pytest.mark.parametrize(("name", "changes", "words"), BAD, ids=[f"{name} {json.dumps(c)[1:60]}" for name, c, _ in BAD])
def test_wrong_studies(folder, call, name, changes, words):
    study = written(folder, changed(STUDIES[name], changes))
    code, out, err = call("run", study, "--out", "out")
    assert code == 2, err
    assert out == ""
    assert err.startswith("error: the study study.yaml has one mistake; nothing was run\n"), err
    (said,) = err.splitlines()[1:]
    for word in words:
        assert word in said, said
    assert not (folder / "out").exists()


def test_there_are_many_and_of_all_recipes():
    assert len(BAD) >= 40
    assert {STUDIES[name]["recipe"] for name, *_ in BAD} == set(recipebook.names())
    assert SW["species"] == ["Si"]  # the cases share these; none may change them
    assert len(MAGNESIA["commands"]) == 2
