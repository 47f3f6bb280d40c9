"""Recipes that own several sections of a study, and the sections of a crack."""

from __future__ import annotations

from textwrap import dedent

import pytest
from typer.testing import CliRunner

from solidqmmm import recipebook
from solidqmmm.cli.app import app
from solidqmmm.errors import StudyError
from solidqmmm.system.study_crack import CrackSection, SavingSection
from solidqmmm.system.study_file import to_yaml

RECIPE = '''
    """Breaks a crystal.

    More about it.
    """
    from solidqmmm.results.single_point import SinglePointResult
    from solidqmmm.system.study_crack import CrackSection, DynamicsSection, Mode, SavingSection, Stadium, StadiumSection

    STUDY_SECTIONS = ("crack", "stadium", "dynamics", "saving", "mode")

    def run(
        *,
        model,
        crack: CrackSection,
        stadium: Stadium | None = None,
        dynamics: DynamicsSection = DynamicsSection(),
        saving: SavingSection = SavingSection(),
        mode: Mode = "dynamic",
        workdir=None,
        progress=None,
    ):
        return crack, stadium, dynamics, saving, mode
'''
HEAD = """
    recipe: breaking.py
    structure: {file: Si.cif}
    host: {pair_style: sw, pair_coeff: ["* * Si.sw Si"], species: [Si]}
"""
CRACK = (
    "    crack: {system: strip, plane: [1, 1, 1], front: [1, -1, 0], load: {G: [3, 5]}, size_A: [120, 90]}\n"
)


@pytest.fixture
def folder(tmp_path):
    from ase.build import bulk
    from ase.io import write

    write(tmp_path / "Si.cif", bulk("Si", "diamond", a=5.43, cubic=True))
    (tmp_path / "breaking.py").write_text(dedent(RECIPE))
    return tmp_path


def load(folder, text):
    path = folder / "study.yaml"
    path.write_text(dedent(HEAD) + dedent(text))
    return recipebook.load_study(path)


def mistakes(folder, text):
    with pytest.raises(StudyError) as error:
        load(folder, text)
    return list(error.value.problems)


# --- several sections -----------------------------------------------------------------------------------------------


def test_sections_are_the_arguments_of_run(folder):
    study = load(folder, CRACK + "    stadium: auto\n    saving: {scheme: lotf}\n    mode: quasistatic\n")
    crack, stadium, dynamics, saving, mode = recipebook.find("breaking.py", folder).run(
        model=None, **study.options
    )
    assert (crack.system, crack.plane, crack.mode) == ("strip", (1, 1, 1), "I")
    assert (crack.load.measure, crack.load.values) == ("G", (3.0, 5.0))
    assert (stadium.width_A, stadium.profile) == ("auto", "linear")
    assert (dynamics.temperature_K, dynamics.timestep_fs) == (300.0, 1.0)
    assert (saving.scheme, saving.steps, mode) == ("lotf", 10, "quasistatic")


def test_what_was_run_is_written_with_all_defaults_and_reads_back_the_same(folder):
    study = load(folder, CRACK)
    mapping = study.as_mapping()
    assert mapping["crack"]["load"] == {"G": [3.0, 5.0], "applied_to": "all"}
    assert mapping["dynamics"] == {"temperature_K": 300.0, "time_ps": 10.0, "timestep_fs": 1.0}
    assert mapping["mode"] == "dynamic"
    assert mapping["stadium"] is None
    (folder / "again.yaml").write_text(to_yaml(mapping))
    assert recipebook.load_study(folder / "again.yaml").as_mapping() == mapping
    assert study.section is None
    assert study.with_options(mode="quasistatic").as_mapping()["mode"] == "quasistatic"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CRACK + "    dynamic: {time_ps: 3}\n", "dynamic (line 6): unknown key; did you mean 'dynamics'?"),
        (CRACK + "    dynamics: {time: 3}\n", "dynamics.time (line 6): unknown key; did you mean 'time_ps'?"),
        (CRACK + "    mode: dynamics\n", "mode (line 6): expected 'dynamic' or 'quasistatic', got 'dynamics'"),
        (CRACK + "    dynamics: 3\n", "dynamics (line 6): expected a mapping such as {temperature_K: 300"),
        ("    mode: dynamic\n", "crack: missing, and it has no default"),
        (CRACK.replace("[1, -1, 0]", "[1, 1, 0]"), "crack (line 5): the crack front [1 1 0] does not lie in the crack"),
        (CRACK.replace("[1, 1, 1]", "[1, 1]"), "crack.plane (line 5): "),
        (CRACK.replace("{G: [3, 5]}", "{G: 3, K: 1}"), "crack.load (line 5): exactly one of `K`"),
        (CRACK.replace("{G: [3, 5]}", "{G: high}"), "crack.load.G (line 5): expected a number or a list, got 'high'"),
        (CRACK.replace("[120, 90]", "[120]"), "crack (line 5): `size_A` of a strip needs its length and its height"),
        (CRACK.replace("[120, 90]", "[120, -90]"), "crack.size_A[1] (line 5): expected a number above 0"),
        (CRACK.replace("strip", "cylinder"), "crack (line 5): a cylinder has one diameter"),
        (CRACK.replace("strip", "disc"), "crack.system (line 5): expected 'strip' or 'cylinder', got 'disc'"),
        (CRACK + "    saving: {steps: 5}\n", "saving (line 6): `steps` belongs to a saving scheme"),
        (CRACK + "    saving: {scheme: lotff}\n", "saving.scheme (line 6): expected 'none', 'respa' or 'lotf'"),
        (CRACK + "    stadium: {width_A: wide}\n", "stadium.width_A (line 6): "),
        (CRACK + "    relax: {fmax: 0.1}\n", "(the recipe breaking.py reads the sections 'crack', 'stadium',"),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_key_line_and_cure(folder, text, said):
    problems = mistakes(folder, text)
    assert len(problems) == 1, problems
    assert said in problems[0]


def test_a_strain_is_no_load_of_a_cylinder(folder):
    text = "    crack: {system: cylinder, plane: [1, 1, 1], front: [1, -1, 0], load: {strain: 0.1}, size_A: [84]}\n"
    assert "a strain is the load of a strip" in mistakes(folder, text)[0]


def test_recipes_show_lists_the_keys_of_every_section(folder, monkeypatch):
    monkeypatch.chdir(folder)
    said = CliRunner().invoke(app, ["recipes", "show", "./breaking.py"]).stdout
    assert "Options in the sections `crack`, `stadium`, `dynamics`, `saving`, `mode` of a study" in said
    rows = [line.split() for line in said.splitlines()]
    assert ["crack", "section", "required"] in rows
    assert ["crack.load", "section", "required"] in rows
    assert any(row[0] == "crack.load.G" for row in rows if row)
    assert any(row[0] == "stadium.width_A" and row[-1] == "'auto'" for row in rows if row)
    assert any(row[0] == "mode" and row[-1] == "'dynamic'" for row in rows if row)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ('STUDY_SECTION = "a"\nSTUDY_SECTIONS = ("b",)', "not both"),
        ('STUDY_SECTIONS = ("b", "c")', "it names b, c, and run has n"),
        ('STUDY_SECTIONS = ("host",)', "must not be the study's own key 'host'"),
    ],
)
def test_recipes_with_wrong_sections_are_refused(folder, head, said):
    (folder / "bad.py").write_text(f"{head}\ndef run(*, model, n: int = 1): ...\n")
    with pytest.raises(ValueError, match=said):
        recipebook.find("bad.py", folder)


# --- values ---------------------------------------------------------------------------------------------------------


def test_hexagonal_indices_and_geometry():
    crack = CrackSection(
        system="cylinder",
        plane=(1, 0, -1, 0),
        front=(0, 0, 0, 1),
        mode="II",
        load={"K": 0.5},
        size_A=(90,),
        slit=2,
    )
    assert crack.load.values == (0.5,)
    assert crack.geometry()["plane"] == (1, 0, -1, 0)
    assert set(crack.geometry()) == {
        "system", "plane", "front", "mode", "size_A", "annulus_A", "front_repeats", "cut", "tip_A", "slit",
    }  # fmt: skip


@pytest.mark.parametrize(("scheme", "steps"), [("none", 1), ("respa", 3), ("lotf", 10)])
def test_usual_steps_of_saving_schemes(scheme, steps):
    assert SavingSection(scheme=scheme).steps == steps
    assert SavingSection(scheme="respa", steps=5).steps == 5
