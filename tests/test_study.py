"""A study is validated as a whole: every mistake at once, each with key, line, what was expected and what came."""

from __future__ import annotations

import importlib.util
from textwrap import dedent

import numpy as np
import pytest
from ase.build import bulk
from pydantic import BaseModel, ConfigDict
from pymatgen.core import Lattice, Structure

from solidqmmm.errors import EnvironmentProblem, StudyError
from solidqmmm.system import study_file
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.study import RecipeSchema, Schemas, Study
from solidqmmm.system.unit_cell import in_cell

GOOD = {
    "recipe": "defect_relaxation",
    "structure": {"file": "Si.cif"},
    "supercell": [2, 2, 2],
    "defect": {"kind": "vacancy", "site": 0},
    "host": {"pair_style": "sw", "pair_coeff": ["* * Si.sw Si"], "species": ["Si"]},
    "qm": {"engine": "lammps", "pair_style": "sw", "pair_coeff": "* * Si.sw Si", "species": ["Si"]},
    "region": {"core": {"hops": 1}, "buffer": {"hops": 2}},
    "relax": {"fmax": 0.02},
}


class RelaxOptions(BaseModel):
    """Stands for what the signature of a recipe gives."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fmax: float = 0.05
    max_calls: int = 40


class EngineOptions(BaseModel):
    """Stands for an engine's settings."""

    model_config = ConfigDict(extra="forbid")

    engine: str
    pair_style: str
    pair_coeff: list[str] | str
    species: list[str]
    cutoff: float = 5.0


def recipe_schema(name, folder):
    if name not in ("defect_relaxation", "elastic"):
        raise ValueError(f"no recipe '{name}'; did you mean 'defect_relaxation'?")
    return RecipeSchema("relax", RelaxOptions, engine_alone=name == "elastic")


def engine_schema(engine):
    if engine != "lammps":
        raise ValueError(f"expected one of gpaw, lammps, ase, got '{engine}'")
    return EngineOptions


SCHEMAS = Schemas(qm=engine_schema, recipe=recipe_schema, check=lambda: RelaxOptions)


@pytest.fixture(scope="module")
def silicon_cif():
    return str(Structure.from_spacegroup("Fd-3m", Lattice.cubic(5.43), ["Si"], [[0, 0, 0]]).to(fmt="cif"))


@pytest.fixture
def folder(tmp_path, silicon_cif):
    (tmp_path / "Si.cif").write_text(silicon_cif)
    return tmp_path


def problems(folder, **changes):
    """What is wrong with the good study after some changes; None as a value takes a key away."""
    mapping = {key: value for key, value in (GOOD | changes).items() if value is not None}
    with pytest.raises(StudyError) as caught:
        Study.from_mapping(mapping, folder=folder, schemas=SCHEMAS)
    return list(caught.value.problems)


def written(folder, text):
    path = folder / "study.yaml"
    path.write_text(dedent(text))
    return path


# --- what is right ------------------------------------------------------------------------------------------


def test_good_study_with_defaults(folder):
    study = Study.from_mapping(GOOD, folder=folder, schemas=SCHEMAS)
    assert study.section == "relax"
    assert study.options == {"fmax": 0.02, "max_calls": 40}
    assert study.qm["cutoff"] == 5.0
    assert study.coupling.scheme == "subtractive"
    assert study.region.core.kind == "hops"
    assert study.caps.rules().kind == "hydrogen"
    assert len(study.unit_cell()) == 8
    assert study.potential().files()[0].name == "Si.sw"


def test_what_was_run_is_written_complete_and_reads_back_the_same(folder):
    study = Study.from_mapping(GOOD, folder=folder, schemas=SCHEMAS)
    text = study_file.to_yaml(study.as_mapping())
    assert "max_calls: 40" in text
    again = Study.load(written(folder, text), schemas=SCHEMAS)
    assert again.as_mapping() == study.as_mapping()


def test_frozen(folder):
    study = Study.from_mapping(GOOD, folder=folder, schemas=SCHEMAS)
    with pytest.raises(ValueError, match="frozen"):
        study.seed = 2
    assert study.with_options(fmax=0.1).options["fmax"] == 0.1
    assert study.options["fmax"] == 0.02


@pytest.mark.parametrize("supercell", [[3, 1, 2], [[1, 1, 0], [-1, 1, 0], [0, 0, 2]], (2, 2, 2)])
def test_supercell_shapes(folder, supercell):
    study = Study.from_mapping(GOOD | {"supercell": supercell}, folder=folder, schemas=SCHEMAS)
    assert np.array_equal(study.supercell, supercell)


def test_structure_object_is_taken_as_it_is(folder):
    structure = Structure(Lattice.cubic(4.2), ["Mg"], [[0, 0, 0]])
    study = Study.from_mapping(GOOD | {"structure": structure}, folder=folder, schemas=SCHEMAS)
    assert study.structure.cell == "as_given"
    assert study.unit_cell().symbols == ("Mg",)


def test_study_without_quantum_part(folder):
    mapping = {key: GOOD[key] for key in ("recipe", "structure", "host")}
    study = Study.from_mapping(mapping, folder=folder, schemas=SCHEMAS)
    assert study.qm is None
    assert study.region is None


def test_study_of_the_engine_alone(folder):
    mapping = {"recipe": "elastic", **{key: GOOD[key] for key in ("structure", "supercell", "defect", "qm")}}
    study = Study.from_mapping(mapping, folder=folder, schemas=SCHEMAS)
    assert study.engine_alone
    assert study.potential() is None
    assert [path.name for path in study.potential_files()] == ["Si.sw"]
    assert set(study.checksums()) == {"Si.cif", "Si.sw"}
    # what joins an engine to a host is not written either, or the written study would be refused
    assert {"host", "region", "caps", "coupling", "matching"}.isdisjoint(study.as_mapping())
    again = Study.load(written(folder, study_file.to_yaml(study.as_mapping())), schemas=SCHEMAS)
    assert again.as_mapping() == study.as_mapping()
    # a recipe that takes the engine alone takes hosts as well
    assert not Study.from_mapping(GOOD | {"recipe": "elastic"}, folder=folder, schemas=SCHEMAS).engine_alone


def test_short_forms(folder):
    changes = {"coupling": "force_mixing", "matching": "none", "caps": {"kind": "none"}}
    study = Study.from_mapping(GOOD | changes, folder=folder, schemas=SCHEMAS)
    assert (study.coupling.weights, study.matching, study.caps.kind) == ("abrupt", "none", "none")


def test_charges_by_species(folder):
    host = {
        "pair_style": "coul/long 8",
        "pair_coeff": "* *",
        "species": ["Mg", "O"],
        "charges": {"O": -2, "Mg": 2},
        "commands": ["kspace_style ewald 1e-6"],
    }
    study = Study.from_mapping(GOOD | {"host": host}, folder=folder, schemas=SCHEMAS)
    assert study.potential().charges == (2.0, -2.0)
    assert study.potential().atom_style == "charge"


# --- what is wrong --------------------------------------------------------------------------------------------


def test_every_mistake_is_reported_at_once_with_its_line(folder):
    path = written(
        folder,
        """\
        recipe: defect_relaxatoin
        structure: {file: Si.cfi}
        supercell: [2, 0, 2]
        defect: {kind: vacency, site: 0}
        host:
          pair_style: sw
          pair_coeff: "* * Nothing.sw Si"
          species: [Si]
          unit: metal
        qm: {engine: gpau}
        region:
          core: {hops: 1, radius: 3}
          buffer: {hop: 2}
          centre: [1, 2]
        caps: {kind: hydrogenn, vacuum: big}
        coupling: subtractiv
        seed: 1.5
        """,
    )
    with pytest.raises(StudyError) as caught:
        Study.load(path, schemas=SCHEMAS)
    said = caught.value.problems
    expected = [
        "recipe (line 1): no recipe 'defect_relaxatoin'; did you mean 'defect_relaxation'?",
        "structure.file (line 2): file not found",
        "did you mean 'Si.cif'?",
        "supercell (line 3): expected three positive integers",
        "got [2, 0, 2]",
        "defect (line 4): `kind` must be one of 'vacancy', 'substitution', 'interstitial', got 'vacency'",
        "host.pair_coeff (line 7): potential file 'Nothing.sw'",
        "host.unit (line 9): unknown key; did you mean 'units'?",
        "qm.engine (line 10): expected one of gpaw, lammps, ase, got 'gpau'",
        "region.core (line 12): exactly one of hops, radius, sites, property, line is expected, got hops and radius",
        "region.buffer.hop (line 13): unknown key; did you mean 'hops'?",
        "region.centre (line 14): expected [x, y, z] in angstrom or {site: host index}, got [1, 2]",
        "caps.kind (line 15): expected 'hydrogen', 'fractional', 'none' or a chemical symbol, got 'hydrogenn'",
        "caps.vacuum (line 15): expected a number, got 'big'",
        "coupling (line 16): `scheme` must be one of 'subtractive', 'force_mixing', 'mechanical', 'electrostatic', "
        "'polarizable', got 'subtractiv'",
        "seed (line 17): expected an integer, got 1.5",
    ]
    for text in expected:
        assert any(text in problem for problem in said), f"{text!r} is not in\n" + "\n".join(said)
    assert len(said) == 14
    lines = [int(problem.partition("(line ")[2].partition(")")[0]) for problem in said]
    assert lines == sorted(lines)


def test_unknown_keys(folder):
    assert problems(folder, regoin={}) == [
        "regoin: unknown key; did you mean 'region'? (the recipe defect_relaxation reads the section 'relax')"
    ]
    assert problems(folder, relax={"zzz": 1}) == ["relax.zzz: unknown key; allowed here: fmax, max_calls"]
    (said,) = problems(folder, dynamics={"steps": 10})
    assert "the recipe defect_relaxation reads the section 'relax'" in said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"relax": {"fmax": "small"}}, "relax.fmax: expected a number, got 'small'"),
        ({"relax": {"max_calls": 1.5}}, "relax.max_calls: expected an integer, got 1.5"),
        ({"relax": [1]}, "relax: expected a mapping of options, got [1]"),
        ({"seed": True}, "seed: expected an integer, got True"),
        ({"structure": "Si.cif"}, "structure: expected a mapping such as {file: Si.cif}, got 'Si.cif'"),
        ({"caps": {"even_electrons": 1}}, "caps.even_electrons: expected true or false, got 1"),
        ({"caps": {"length": {"Si": -1}}}, "caps: `length` must be positive (angstrom), got {'Si': -1.0}"),
        ({"caps": {"length": 1.5, "ratio": 0.7}}, "not both"),
        (
            {"matching": "atuo"},
            "matching: expected 'none' or 'auto' or a mapping such as {lattice_parameter_A",
        ),
        ({"host": GOOD["host"] | {"species": ["Sx"]}}, "host.species[0]: expected a chemical symbol"),
        ({"region": {"core": 3}}, "region.core: expected a mapping such as {hops: 1}"),
        ({"region": {"core": {"property": "charge"}}}, "region.core: `property` needs `above` or `below`"),
        ({"region": {"core": {"line": {"direction": [0, 0, 1]}}}}, "region.core: `line` needs a `radius`"),
        ({"region": {"core": {}}}, "got none of them"),
        ({"region": {"buffer": {"hops": 1}}}, "region.core: missing, and it has no default"),
        ({"region": None}, "region: missing: a study with `qm` needs a region"),
        ({"recipe": "elastic", "region": None}, "region: missing: a study with `qm` needs a region"),
        (
            {"host": None, "qm": None, "region": None},
            "host: missing: the crystal needs a `host` potential such as {pair_style: sw, ",
        ),
        (
            {"recipe": "elastic", "host": None, "qm": None, "region": None},
            "or `qm` alone, whose engine then computes the whole cell",
        ),
        (
            {"host": None, "region": None},
            "qm: the recipe defect_relaxation needs a host potential beside it: give `host`, and a `region`",
        ),
        ({"host": None}, "region: there is nothing to embed it in without a `host`: give the host's potential"),
        (
            {"recipe": "elastic", "host": None},
            "region: there is nothing to embed it in without a `host`: give the host's potential, or leave the region out",
        ),
        ({"host": 3}, "host: expected a mapping such as {pair_style: sw, "),
        ({"recipe": None}, "recipe: missing, and it has no default"),
        ({"defect": {"kind": "vacancy"}}, "defect.site: missing, and it has no default"),
        ({"defect": {"kind": "vacancy", "site": 0, "element": "C"}}, "defect.element: unknown key"),
        ({"defect": {"kind": "interstitial", "element": "C"}}, "exactly one of `position` and `site`"),
        (
            {"defect": {"site": 0}},
            "defect: `kind` is missing: one of 'vacancy', 'substitution', 'interstitial'",
        ),
        (
            {"coupling": {"scheme": "subtractive", "weights": "smooth"}},
            "coupling.weights: unknown key; allowed",
        ),
        ({"supercell": [2, 2]}, "supercell: expected three positive integers"),
        ({"supercell": [[1, 0, 0], [0, 1, 0], [1, 1, 0]]}, "supercell: expected three positive integers"),
        ({"supercell": [[1, 0], [0, 1, 0]]}, "supercell: expected three positive integers"),
        ({"structure": {"file": "Si.cif", "mp_id": "149"}}, "exactly one of `file` and `mp_id`"),
        (
            {"structure": {"mp_id": "149"}},
            "structure.mp_id: expected a Materials Project id such as 'mp-149'",
        ),
        ({"qm": {"engine": "lammps"}}, "qm.pair_style: missing, and it has no default"),
        ({"qm": {**GOOD["qm"], "cutof": 3}}, "qm.cutof: unknown key; did you mean 'cutoff'?"),
        ({"qm": {**GOOD["qm"], "cutoff": "far"}}, "qm.cutoff: expected a number, got 'far'"),
        ({"qm": {"pair_style": "sw"}}, "qm.engine: expected the name of an engine, got None"),
        ({"check": {"fmx": 1}}, "check.fmx: unknown key; did you mean 'fmax'?"),
    ],
)
def test_one_mistake(folder, changes, said):
    found = problems(folder, **changes)
    assert any(said in problem for problem in found), found


def test_what_has_no_meaning_without_a_host(folder):
    path = written(
        folder,
        """\
        recipe: elastic
        structure: {file: Si.cif, lattice: host}
        qm: {engine: lammps, pair_style: sw, pair_coeff: "* * Si.sw Si", species: [Si]}
        caps: {kind: none}
        coupling: force_mixing
        matching: auto
        """,
    )
    with pytest.raises(StudyError) as caught:
        Study.load(path, schemas=SCHEMAS)
    assert caught.value.problems == (
        "structure.lattice (line 2): 'host' has no meaning without a `host`: give a structure with the engine's own "
        "lattice, and leave this out",
        "caps (line 4): has no meaning without a `host`: leave it out",
        "coupling (line 5): has no meaning without a `host`: leave it out",
        "matching (line 6): has no meaning without a `host`: leave it out",
    )


def test_one_missing_host_is_one_mistake(folder):
    """Sections that a host would give a meaning are not blamed for its absence."""
    sections = {"caps": {"kind": "none"}, "coupling": "force_mixing", "matching": "auto"}
    assert len(problems(folder, host=None, **sections)) == 1
    assert len(problems(folder, host=None, qm=None, region=None, **sections)) == 1
    assert len(problems(folder, host=None, region=None, **sections)) == 1


def test_materials_project_without_package_or_key(folder, monkeypatch):
    monkeypatch.delenv("MP_API_KEY", raising=False)
    (said,) = problems(folder, structure={"mp_id": "mp-149"})
    missing = "MP_API_KEY" if importlib.util.find_spec("mp_api") else "pip install 'solidqmmm[mp]'"
    assert missing in said
    assert "{file: ...}" in said
    from solidqmmm.system.materials_project import fetch_structure

    with pytest.raises(EnvironmentProblem, match="mp-149"):
        fetch_structure("mp-149")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("recipe: [1, 2\nhost: 3\n", r"study.yaml \(line 2\) is not valid YAML"),
        ("seed: 1\nseed: 2\n", r"\(line 2\) is not valid YAML: found duplicate key"),
        ("- a\n- b\n", "expected a mapping with the keys"),
        ("", "expected a mapping with the keys"),
    ],
)
def test_files_that_are_no_study(folder, text, said):
    with pytest.raises(StudyError, match=said):
        Study.load(written(folder, text))


def test_missing_file_offers_the_nearest(folder):
    written(folder, "seed: 1\n")
    with pytest.raises(StudyError, match=r"study file not found.*did you mean .*study.yaml"):
        Study.load(folder / "stduy.yaml")


def test_without_schemas_the_section_of_the_recipe_passes_but_a_misspelt_key_does_not(folder):
    assert Study.from_mapping(GOOD, folder=folder).section == "relax"
    with pytest.raises(StudyError, match="did you mean 'defect'"):
        Study.from_mapping(GOOD | {"defec": {"kind": "vacancy", "site": 0}}, folder=folder)


# --- unit cells -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("atoms", "cell", "n", "lengths"),
    [
        (bulk("Si"), "conventional", 8, [5.43, 5.43, 5.43]),
        (bulk("Si", cubic=True), "primitive", 2, [3.8396, 3.8396, 3.8396]),
        (bulk("Cu", cubic=True) * (2, 2, 2), "conventional", 4, [3.61, 3.61, 3.61]),
        (bulk("Fe"), "conventional", 2, [2.87, 2.87, 2.87]),
        (bulk("Mg"), "conventional", 2, [3.21, 3.21, 5.2132]),
        (bulk("Si") * (3, 1, 1), "as_given", 6, [11.5188, 3.8396, 3.8396]),
    ],
)
def test_unit_cells(atoms, cell, n, lengths):
    found = in_cell(Crystal.of(atoms), cell).require_separation()
    assert len(found) == n
    np.testing.assert_allclose(np.linalg.norm(found.cell, axis=1), lengths, atol=1e-3)
    # same density, and every atom is an image of an atom of the same species
    assert len(found) / found.volume == pytest.approx(len(atoms) / atoms.get_volume())
    np.testing.assert_array_equal(atoms.numbers[found.arrays["input_site"]], found.numbers)


def test_a_conventional_cell_stays_as_it_is():
    atoms = bulk("SiC", "zincblende", a=4.36, cubic=True)
    atoms.rotate(20, "z", rotate_cell=True)
    found = in_cell(Crystal.of(atoms), "conventional")
    np.testing.assert_array_equal(found.positions, atoms.positions)
    np.testing.assert_array_equal(found.cell, atoms.cell.array)
