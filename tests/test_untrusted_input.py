"""Studies, structures and results are data: none of them runs a program, imports a module or fills the memory."""

from __future__ import annotations

import json
import sys

import pytest
from ase.build import bulk

from solidqmmm import recipebook
from solidqmmm.errors import StructureError, StudyError
from solidqmmm.results.base import Result
from solidqmmm.system import foreign_code, study_file
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.potential import Potential
from solidqmmm.system.study import Study

SW = {"pair_style": "sw", "pair_coeff": ["* * Si.sw Si"], "species": ["Si"]}
STUDY = {"recipe": "single_point", "structure": bulk("Si", cubic=True), "host": SW}
EMBEDDED = {**STUDY, "region": {"core": {"sites": [0]}}, "caps": {"kind": "none"}}


def problems(mapping, **options):
    with pytest.raises(StudyError) as caught:
        Study.from_mapping(mapping, schemas=recipebook.schemas(**options))
    return "\n".join(caught.value.problems)


# --- LAMMPS lines ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "shell touch /tmp/x", "include evil.in", "python f input 1 x here 'def f(x): pass'", "jump file", "log /tmp/x",
        "print text file /tmp/x", "dump 1 all atom 1 /tmp/x", "write_data /tmp/x", "write_restart x", "restart 1 x",
        "write_dump all atom x", "plugin load evil.so", "variable x getenv HOME", "variable x python f", "read_restart x",
        "read_data x", "read_dump x 0 x y z", "run 0", "clear", "quit", "fix 1 all print 1 x file /tmp/x",
        "info all out append x",
        "pair_write 1 1 10 r 1 2 /tmp/x A", "quotes", "if 1 then clear", "next x", "label a", "kim init a b", "mdi engine",
        "", "  ",
        "pair_modify shift yes\nshell touch /tmp/x", "pair_modify shift $(v_x)", "pair_modify shift yes &",
        "pair_modify shift ${x}", "pair_modify shift yes; shell ls", 'pair_modify shift "yes"', "pair_modify shift 'yes'",
        "pair_modify shift yes # no", "pair_modify shift `ls`", "pair_modify shift y\x00es", "PAIR_MODIFY shift yes",
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ["host", "qm"])
def test_only_commands_of_a_potential(line, where):
    section = {**SW, "commands": [line]}
    mapping = {**STUDY, "host": section} if where == "host" else {**EMBEDDED, "qm": {"engine": "lammps", **section}}
    said = problems(mapping)
    assert said.startswith(where)
    assert "`commands`" in said


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("pair_style", "python 8.0"), ("pair_style", "hybrid sw python 8.0"), ("pair_style", "mliap model mliappy x.pkl"),
        ("pair_style", "mliap unified x.pkl"), ("pair_style", "sw $(python:f)"),
        ("pair_style", "mliap/kk model mliappy/kk x.pkl"),
        ("pair_style", "deepmd g.pb out_file /tmp/x"), ("pair_style", "deepmd ../g.pb"), ("pair_style", "deepmd /tmp/g.pb"),
        ("pair_style", "sw\nshell ls"), ("pair_coeff", "* * Si.sw ${Si}"), ("pair_coeff", "* * Si.sw Si\nshell ls"),
        ("pair_coeff", "* * Si.sw Si &"), ("pair_coeff", '* * "Si.sw" Si'),
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ["host", "qm", "inner", "stand_in"])
def test_lines_that_lammps_would_interpret(key, line, where):
    section = {**SW, key: [line] if key == "pair_coeff" else line}
    engine = {"engine": "lammps", **section}
    mapping = {
        "host": {**STUDY, "host": section},
        "qm": {**EMBEDDED, "qm": engine},
        "inner": {**EMBEDDED, "qm": {"engine": "classical_field", "charges": {"Si": 0}, "inner": engine}},
        "stand_in": {**EMBEDDED, "qm": {"engine": "lammps", **SW}, "check": {"stand_in": engine}},
    }[where]
    said = problems(mapping)
    assert key in said, said


def test_a_potential_in_python_holds_to_the_same():
    with pytest.raises(ValueError, match=r"`commands` may hold .*, got 'kspace_stile"):
        Potential(**SW, commands=("kspace_stile ewald 1e-5",))
    lines = ("kspace_style ewald 1e-6", "kspace_modify gewald 0.4", "pair_modify table 0 shift yes", "neigh_modify delay 0")
    assert Potential(**SW, commands=lines).commands == lines


# --- imports --------------------------------------------------------------------------------------------------------

MODULE = '''
from pathlib import Path
Path(__file__).with_suffix(".was_imported").touch()
from ase.calculators.emt import EMT as Mine
'''


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    name = "calculator_of_somebody"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path / f"{name}.was_imported"


def ase_engine(path):
    return {"engine": "ase", "calculator": path}


@pytest.mark.parametrize("where", ["qm", "inner", "stand_in"])
def test_a_calculator_needs_permission(own_module, where):
    engine = ase_engine(f"{own_module.stem}:Mine")
    mapping = {
        "qm": {**EMBEDDED, "qm": engine},
        "inner": {**EMBEDDED, "qm": {"engine": "classical_field", "charges": {"Si": 0}, "inner": engine}},
        "stand_in": {**EMBEDDED, "qm": ase_engine("ase.calculators.emt:EMT"), "check": {"stand_in": engine}},
    }[where]
    said = problems(mapping)
    assert "calculator: 'calculator_of_somebody:Mine' is none of the calculators" in said
    assert "--allow-import calculator_of_somebody" in said
    with pytest.raises(StudyError, match="--allow-import"):  # and so without schemas
        Study.from_mapping(mapping)
    study = Study.from_mapping(mapping, schemas=recipebook.schemas(allow_import=["calculator_of_somebody"]))
    assert study.allow_import == ("calculator_of_somebody",)
    assert not own_module.exists()  # validation imports nothing


@pytest.mark.parametrize(
    "path",
    ["os:system", "subprocess:run", "builtins:exec", "ase.calculators.emt:os", "ase.calculators.vasp:Vasp",
     "ase.calculators.lammpslib:LAMMPSlib", "ase.calculators.emt.os:system"],
)  # fmt: skip
def test_calculators_that_run_programs(path):
    assert "is none of the calculators" in problems({**EMBEDDED, "qm": ase_engine(path)})


def test_permission_is_for_a_module_and_below():
    assert foreign_code.is_permitted("mace.calculators:mace_mp", ["mace"])
    assert not foreign_code.is_permitted("macerator:Mace", ["mace"])
    assert not foreign_code.is_permitted("mace:Mace", ["mace.calculators"])


def test_permission_for_the_ase_calculator(own_module):
    from solidqmmm.procedures.calculator import QMMMCalculator

    host = {"pair_style": "eam/alloy", "pair_coeff": ["* * Cu_mishin1.eam.alloy Cu"], "species": ["Cu"]}
    sections = {"host": host, "qm": ase_engine("calculator_of_somebody:Mine"), "caps": {"kind": "none"}}
    atoms = bulk("Cu", cubic=True).repeat(4)
    sections["region"] = {"core": {"radius": 1.0}, "centre": {"site": 0}}
    with QMMMCalculator(**sections) as calculator, pytest.raises(StudyError, match="--allow-import"):
        calculator.get_potential_energy(atoms)
    assert not own_module.exists()
    with QMMMCalculator(**sections, allow_import=["calculator_of_somebody"]) as calculator:
        calculator.get_potential_energy(atoms)
    assert own_module.exists()


def test_permission_on_the_command_line(own_module, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Crystal.of(bulk("Cu", cubic=True)).to_structure().to(filename="POSCAR")
    (tmp_path / "study.yaml").write_text(
        "recipe: elastic_tensor\nstructure: {file: POSCAR}\nqm: {engine: ase, calculator: 'calculator_of_somebody:Mine'}\n"
    )
    code, _, err = call("run", "study.yaml")
    assert code == 2
    assert "qm.calculator (line 3)" in err
    assert not own_module.exists()
    assert not (tmp_path / tmp_path.name).exists()
    code, _, err = call("run", "study.yaml", "--dry-run", "--allow-import", "calculator_of_somebody")
    assert code == 0, err
    assert own_module.exists()


# --- engines --------------------------------------------------------------------------------------------------------


def test_gpaw_writes_where_the_run_is():
    said = problems({**EMBEDDED, "qm": {"engine": "gpaw", "extra": {"txt": "/tmp/x"}}})
    assert "qm.extra: must not set txt" in said


@pytest.mark.parametrize("basis", ["#\nSi    S\n  __import__('os').getpid()  1.0\n", "../basis.nw", "/etc/passwd", "POSCAR"])
def test_pyscf_takes_names_of_basis_sets(basis, tmp_path, monkeypatch):
    """PySCF would evaluate what is no number in the text or the file of a basis."""
    (tmp_path / "POSCAR").touch()
    monkeypatch.chdir(tmp_path)
    for given in (basis, {"Si": basis}):
        assert "must be the name of a basis set" in problems({**EMBEDDED, "qm": {"engine": "pyscf", "basis": given}})


# --- YAML -----------------------------------------------------------------------------------------------------------

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS, "with all aliases written out"),
        ("a: &a [*a]\n", "a"),  # nothing but an end to it
        ("a: &a {b: *a}\n", "a"),
        ("a: " + "[" * 5000 + "]" * 5000, "not valid YAML"),
        ("a: " + "[" * 60 + "]" * 60, "nests deeper"),
        ("recipe: x\nrecipe: y\n", "(line 2) is not valid YAML"),
        ("a: 2001-99-99\n", "not valid YAML"),
        ("a: \x00\n", "not valid YAML"),
    ],
)
def test_files_that_are_no_studies(tmp_path, text, said):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(StudyError) as caught:
        recipebook.load_study(path)
    assert said in str(caught.value)


def test_aliases_that_are_no_bomb(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("host: &sw {pair_style: sw}\nqm: {<<: *sw, engine: lammps}\n")
    assert study_file.read(path).mapping == {"host": {"pair_style": "sw"}, "qm": {"pair_style": "sw", "engine": "lammps"}}


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.mkdir [made]", "!!python/name:os.system", "!!python/module:os"])
def test_yaml_makes_no_objects(tmp_path, monkeypatch, tag):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "study.yaml"
    path.write_text(f"recipe: {tag}\n")
    with pytest.raises(StudyError):
        recipebook.load_study(path)
    assert not (tmp_path / "made").exists()


def test_a_file_that_is_far_too_large(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_bytes(b"#" * (study_file.LARGEST_BYTES + 1))
    with pytest.raises(StudyError, match="10 MB, and a study file at most"):
        recipebook.load_study(path)


# --- JSON -----------------------------------------------------------------------------------------------------------


def structure(**properties):
    dct = Crystal.of(bulk("Si")).to_structure().as_dict()
    dct["sites"][0]["properties"] = properties
    return dct


EVIL = {"@module": "calculator_of_somebody", "@class": "Mine"}
FUNCTION = {"@module": "os", "@callable": "getcwd"}


@pytest.mark.parametrize("evil", [EVIL, FUNCTION, {"@module": "os.path", "@class": "x"}, {"@module": 3, "@class": "x"}])
@pytest.mark.parametrize("name", ["a.json", "a.JSON", "a.mson", "a.yaml", "a.json.gz"])
def test_structures_import_nothing(tmp_path, own_module, name, evil):
    from monty.io import zopen

    with zopen(tmp_path / name, mode="wt", encoding="utf-8") as file:
        file.write(json.dumps(structure(spin=evil)).replace("@module", "\\u0040module"))
    with pytest.raises(StructureError, match="names a"):
        Crystal.of(tmp_path / name)
    assert not own_module.exists()


def test_structures_with_classes_of_pymatgen(tmp_path):
    from pymatgen.electronic_structure.core import Magmom

    magmom = {"@module": Magmom.__module__, "@class": "Magmom", "moment": 1.0, "saxis": [0, 0, 1]}
    dct = structure(magmom=magmom)
    dct["sites"][1]["properties"] = {"magmom": magmom}
    (tmp_path / "a.json").write_text(json.dumps(dct))
    assert len(Crystal.of(tmp_path / "a.json")) == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"@module": "calculator_of_somebody", "@class": "Mine"}, "is not imported for data"),
        ({"@module": "os", "@class": "system"}, "is not imported for data"),
        ({"@module": "solidqmmm.results.relaxation", "@class": "replace"}, "expected a Result"),
        ({"@module": "solidqmmm.no_such", "@class": "X"}, "cannot be imported.*load its module first"),
        ({"@module": "solidqmmm_user_recipe_mine", "@class": "X"}, r'solidqmmm\.recipebook\.find\("mine\.py"\)'),
        ({"@module": "solidqmmm.results.relaxation", "@class": "DefectRelaxationResult", "more": [EVIL]}, "is not imported"),
        ({"@module": 1, "@class": 2}, "holds no result"),
        ([1], "holds no result"),
    ],
)
def test_results_import_nothing(tmp_path, own_module, content, said):
    path = tmp_path / "result.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=said):
        Result.load(path)
    assert not own_module.exists()
