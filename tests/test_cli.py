"""The front door: what it prints, writes, refuses and resumes; one voice under mpiexec."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings

import pytest
from launching import on_ranks
from pymatgen.core import Lattice, Structure

from solidqmmm import recipebook
from solidqmmm.cli.progress import duration
from solidqmmm.errors import StudyError
from solidqmmm.results.base import Result
from solidqmmm.results.provenance import Provenance, bibliography, without_paths
from solidqmmm.runfolder import RunFolder

RECIPE = '''
"""Counts atoms.

A recipe for tests: it costs nothing."""
from __future__ import annotations
from dataclasses import dataclass
from pathlib import Path
from solidqmmm.results.base import Result

STUDY_SECTION = "count"

@dataclass(frozen=True, eq=False, kw_only=True)
class CountResult(Result):
    recipe: str = "counting"
    n_atoms: int
    threshold_eV: float

def run(*, model, threshold: float = 0.5, fail_on_rank: int | None = None, wrong: bool = False,
        workdir=None, progress=None) -> CountResult:
    from solidqmmm.errors import EngineError
    from solidqmmm.runtime import world
    with open(Path(workdir) / f"called_{world().Get_rank()}", "a") as file:
        file.write("x")
    if fail_on_rank in (-1, world().Get_rank()):
        raise EngineError("the engine died", directory=workdir)
    if wrong:
        raise KeyError("a bug")
    with model.open() as crystal:
        progress(1, 2, "counting")
        return CountResult(n_atoms=len(crystal), threshold_eV=threshold)

def figures(result):
    import matplotlib.pyplot as plt
    figure, axes = plt.subplots()
    axes.plot([0, 1], [0, result.n_atoms])
    return {"atoms": figure}
'''

STUDY = """
recipe: counting.py
structure: {file: Si.cif}
supercell: [2, 2, 2]
host: {pair_style: sw, pair_coeff: ["* * Si.sw Si"], species: [Si]}
count: {threshold: 0.25}
"""


@pytest.fixture(scope="module")
def silicon_cif():
    return str(Structure.from_spacegroup("Fd-3m", Lattice.cubic(5.43), ["Si"], [[0, 0, 0]]).to(fmt="cif"))


@pytest.fixture
def folder(tmp_path, silicon_cif, monkeypatch):
    (tmp_path / "Si.cif").write_text(silicon_cif)
    (tmp_path / "counting.py").write_text(RECIPE)
    (tmp_path / "study.yaml").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SOLIDQMMM_TRACEBACK", raising=False)
    return tmp_path


def changed(folder, before, after):
    path = folder / "study.yaml"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


# --- the door -------------------------------------------------------------------------------------------------


def test_alone_it_says_where_to_start(call):
    code, out, _ = call()
    assert code == 0
    for command in ("run", "carve", "check", "doctor", "cite", "recipes"):
        assert f"solidqmmm {command}" in out


@pytest.mark.parametrize(
    "command",
    ["run", "carve", "check", "cracks", "doctor", "cite", "recipes list", "recipes show", "recipes copy"],
)
def test_every_help_has_an_example(call, command):
    code, out, _ = call(*command.split(), "--help")
    assert code == 0
    assert f"Example: solidqmmm {command}" in out


def test_wrong_usage(call):
    code, _, err = call("rnu")
    assert code == 2
    assert "Did you mean 'run'?" in err
    assert "Traceback" not in err


# --- run --------------------------------------------------------------------------------------------------------


def test_run_writes_a_folder_that_stands_on_its_own(folder, call):
    code, out, err = call("run", "study.yaml", "--out", "out")
    assert code == 0, err
    assert "n atoms" in out
    assert "out/result.json" in out
    assert "out/figures/atoms.png" in out
    found = {str(path.relative_to(folder / "out")) for path in (folder / "out").rglob("*") if path.is_file()}
    assert {
        "study.yaml",
        "Si.cif",
        "counting.py",
        "result.json",
        "provenance.json",
        "figures/atoms.png",
        "figures/atoms.pdf",
    } <= found
    result = json.loads((folder / "out/result.json").read_text())
    assert (result["n_atoms"], result["threshold_eV"], result["units"]) == (64, 0.25, {"threshold_eV": "eV"})

    as_run = (folder / "out/study.yaml").read_text()
    assert "fail_on_rank: null" in as_run  # defaults filled in
    assert "clashing: include" in as_run
    os.chdir(folder / "out")
    code, out, err = call("run", "study.yaml", "--out", ".")
    assert code == 0, err
    assert "complete, nothing to do" in out


def test_second_run_has_nothing_to_do_unless_forced(folder, call):
    call("run", "study.yaml", "--out", "out")
    code, out, _ = call("run", "study.yaml", "--out", "out")
    assert code == 0
    assert "complete, nothing to do" in out
    assert "n atoms" in out
    assert (folder / "out/called_0").read_text() == "x"
    call("run", "study.yaml", "--out", "out", "--force")
    assert (folder / "out/called_0").read_text() == "xx"


def test_another_study_in_the_folder_is_refused_and_the_difference_named(folder, call):
    call("run", "study.yaml", "--out", "out")
    changed(folder, "threshold: 0.25", "threshold: 0.75")
    code, _, err = call("run", "study.yaml", "--out", "out")
    assert code == 2
    assert "count.threshold: 0.25 in the folder, 0.75 asked for" in err
    assert "--out" in err
    changed(folder, "threshold: 0.75", "threshold: 0.25")
    (folder / "Si.cif").write_text((folder / "Si.cif").read_text() + "\n# moved an atom\n")
    code, _, err = call("run", "study.yaml", "--out", "out")
    assert code == 2
    assert "the contents of Si.cif have changed" in err


def test_failed_work_is_text_and_the_same_command_goes_on(folder, call):
    changed(folder, "0.25", "0.25, fail_on_rank: 0")
    code, _, err = call("run", "study.yaml", "--out", "out")
    assert code == 1
    assert "the engine died" in err
    assert "run folder: out" in err
    assert "Traceback" not in err
    assert (folder / "out/study.yaml").exists()
    assert not (folder / "out/result.json").exists()
    code, _, err = call("run", "study.yaml", "--out", "out", "-vv")
    assert code == 1
    assert "Traceback" in err


def test_wrong_study_is_text_with_every_mistake(folder, call):
    changed(folder, "threshold: 0.25", "treshold: 0.25")
    changed(folder, "pair_style: sw", "pair_style: 3")
    changed(folder, "recipe: counting.py", "recipe: counting.py\nsupercel: 3")
    code, _, err = call("run", "study.yaml", "--out", "out")
    assert code == 2
    assert "3 mistakes" in err
    assert "count.treshold (line 7): unknown key; did you mean 'threshold'?" in err
    assert "host.pair_style (line 6): expected a text, got 3" in err
    assert "supercel (line 3): unknown key; did you mean 'supercell'?" in err
    assert "Traceback" not in err
    assert not (folder / "out").exists()


def test_what_cannot_be_built_is_text(folder, call):
    changed(folder, "pair_style: sw", "pair_style: no/such/style")
    code, _, err = call("run", "study.yaml", "--out", "out")
    assert code == 1
    assert "no/such/style" in err
    assert "Traceback" not in err


def test_bug_shows_a_traceback(folder, call):
    changed(folder, "0.25", "0.25, wrong: true")
    code, _, err = call("run", "study.yaml", "--out", "out")
    assert code == 1
    assert "Traceback" in err
    assert "please report" in err


def test_dry_run_runs_nothing(folder, call):
    code, out, err = call("run", "study.yaml", "--dry-run")
    assert code == 0, err
    assert "atoms" in out
    assert "64" in out
    assert sorted(path.name for path in folder.iterdir() if path.name != "__pycache__") == [
        "Si.cif",
        "counting.py",
        "study.yaml",
    ]


# --- the real thing, small ----------------------------------------------------------------------------------------

VACANCY = """
recipe: defect_relaxation
structure: {file: Si.cif}
supercell: [3, 3, 3]
defect: {kind: vacancy, site: 0}
host: {pair_style: sw, pair_coeff: ["* * Si.sw Si"], species: [Si]}
qm:
  engine: lammps
  pair_style: snap
  pair_coeff: "* * Si_Zuo_JPCA2020.snapcoeff Si_Zuo_JPCA2020.snapparam Si"
  species: [Si]
region: {core: {hops: 1}, buffer: {hops: 2}}
caps: {kind: none}
coupling: force_mixing
relax: {fmax: 0.02}
"""


@pytest.fixture
def vacancy(folder):
    (folder / "vacancy.yaml").write_text(VACANCY)
    return folder


def test_carve_writes_the_cluster_and_a_picture(vacancy, call):
    import ase.io

    code, out, err = call("carve", "vacancy.yaml")
    assert code == 0, err
    counts = dict(line.split(maxsplit=1) for line in out.splitlines() if not line.startswith("  host"))
    assert counts["core"] == "4"
    assert counts["electrons"].startswith(str(14 * (4 + int(counts["buffer"]))))
    atoms = ase.io.read(vacancy / "vacancy/cluster.xyz")
    assert (atoms.arrays["region"] == "core").sum() == 4
    for name in ("POSCAR", "cluster.cif"):
        assert len(ase.io.read(vacancy / "vacancy" / name)) == len(atoms)
    assert (vacancy / "vacancy/cluster.png").stat().st_size > 10_000
    code, _, err = call("carve", "study.yaml")
    assert code == 2
    assert "no quantum region" in err


def test_killed_run_goes_on_from_its_journal(vacancy, call):
    command = [sys.executable, "-m", "solidqmmm.cli", "run", "vacancy.yaml"]
    journal = vacancy / "vacancy/journal"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        deadline = time.monotonic() + 60
        while len(list(journal.glob("[!.]*.npz"))) < 2 and run.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        run.kill()
    before = {path.name: path.stat().st_mtime_ns for path in journal.glob("[!.]*.npz")}
    assert before
    code, out, err = call("run", "vacancy.yaml")
    assert code == 0, err
    assert "converged" in out
    assert "complete, nothing" not in out
    after = {path.name: path.stat().st_mtime_ns for path in journal.glob("[!.]*.npz")}
    assert before.items() <= after.items()  # what was computed was not computed again
    assert len(after) > len(before)
    assert (vacancy / "vacancy/figures/cluster.png").exists()
    code, out, _ = call("cite", "vacancy")
    assert "zuo2020snap" in out
    assert "no entry" not in out


def test_interrupt_ends_at_once_and_says_so(vacancy):
    (vacancy / "vacancy.yaml").write_text(
        VACANCY.replace("[3, 3, 3]", "[10, 10, 10]").replace("hops: 2", "radius: 9")
    )
    command = [sys.executable, "-m", "solidqmmm.cli", "run", "vacancy.yaml"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as run:
        deadline = time.monotonic() + 60
        while not list(vacancy.glob("vacancy/journal/*.npz")) and time.monotonic() < deadline:
            time.sleep(0.005)
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=20)
    assert run.returncode == 130
    assert "interrupted; the same command goes on" in err
    assert "Traceback" not in err


def test_check_prints_a_verdict_and_writes_its_report(vacancy, call):
    options = "check: {nve_steps: 0, buffers: [], mismatch: false, patch_threshold: 100}"
    (vacancy / "vacancy.yaml").write_text(VACANCY + options)
    code, out, err = call("check", "vacancy.yaml")
    assert code == 0, err
    assert "pass" in out
    assert (vacancy / "vacancy/figures/check.png").exists()
    assert Result.load(vacancy / "vacancy/check.json").passed
    (vacancy / "vacancy.yaml").write_text(VACANCY + options.replace("100", "1e-9"))
    code, out, _ = call("check", "vacancy.yaml")
    assert code == 1
    assert "FAIL" in out
    (vacancy / "vacancy.yaml").write_text(VACANCY + "check: {nve_stpes: 0}")
    code, _, err = call("check", "vacancy.yaml")
    assert code == 2
    assert "check.nve_stpes (line 16): unknown key; did you mean 'nve_steps'?" in err


def test_dry_run_with_a_quantum_region(vacancy, call):
    code, out, err = call("run", "vacancy.yaml", "--dry-run")
    assert code == 0, err
    assert "(4 core) and 0 caps" in out


WHOLE = """
from __future__ import annotations
from dataclasses import dataclass
from solidqmmm.procedures.building.describe import described
from solidqmmm.results.base import Result

ENGINE_ALONE = True

@dataclass(frozen=True, eq=False, kw_only=True)
class WholeResult(Result):
    recipe: str = "whole"
    energy_eV: float
    n_atoms_host: int
    n_atoms_qm: int
    n_link_atoms: int
    host: str
    engine: str
    coupling: str
    warnings: list[str]

def run(*, model, workdir=None, progress=None) -> WholeResult:
    return WholeResult(energy_eV=model.engine.evaluate(model.crystal.to_atoms()).energy, **described(model))
"""


@pytest.fixture
def whole(folder):
    """A study of the engine alone."""
    engine = "qm: {engine: ase, calculator: 'ase.calculators.emt:EMT'}"
    text = f"recipe: whole.py\nstructure: {{file: Cu.cif}}\nsupercell: [2, 1, 1]\n{engine}\n"
    (folder / "whole.py").write_text(WHOLE)
    Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.6), ["Cu"], [[0, 0, 0]]).to(filename=str(folder / "Cu.cif"))
    (folder / "whole.yaml").write_text(text)
    return folder


def test_engine_alone_runs_and_owes_no_thanks_to_a_host(whole, call):
    code, out, err = call("run", "whole.yaml", "--out", "out")
    assert code == 0, err
    found = json.loads((whole / "out/result.json").read_text())
    assert (found["n_atoms_host"], found["n_atoms_qm"], found["n_link_atoms"], found["host"]) == (8, 8, 0, "")
    assert not (whole / "out/figures/cluster.png").exists()
    assert "thompson2022lammps" not in Provenance.load(whole / "out/provenance.json").references
    assert recipebook.load_study(whole / "out/study.yaml").engine_alone
    code, out, err = call("run", "whole.yaml", "--out", "out")
    assert "nothing to do" in out, err


def test_engine_alone_has_no_boundary(whole, call):
    for command in ("carve", "check"):
        code, _, err = call(command, "whole.yaml", "--out", "out")
        assert code == 2
        assert "no quantum region" in err
        assert "give it the sections `host` and `region`" in err or "give it `host` and `region`" in err


def test_dry_run_of_the_engine_alone(whole, call):
    code, out, err = call("run", "whole.yaml", "--dry-run")
    assert code == 0, err
    assert "all: the engine alone" in out
    assert "no estimate: this engine has no calibration" in out


def test_recipe_that_needs_a_host_refuses_the_engine_alone(whole, call):
    path = whole / "whole.yaml"
    path.write_text(path.read_text().replace("whole.py", "counting.py"))
    code, _, err = call("run", "whole.yaml", "--out", "out")
    assert code == 2
    assert "qm (line 4): the recipe counting.py needs a host potential" in err


# --- recipes ----------------------------------------------------------------------------------------------------


def test_recipes_list_show_copy(folder, call):
    code, out, _ = call("recipes", "list")
    assert code == 0
    assert recipebook.names()
    assert all(name in out for name in recipebook.names())
    name = recipebook.names()[0]
    code, out, _ = call("recipes", "show", name)
    assert code == 0
    assert recipebook.find(name).title in out
    code, out, _ = call("recipes", "copy", name, "mine.py")
    assert code == 0
    assert (
        recipebook.find("mine.py", folder).options.model_fields.keys()
        == recipebook.find(name).options.model_fields.keys()
    )
    code, _, err = call("recipes", "copy", name, "mine.py")
    assert code == 1
    assert "exists already" in err


def test_recipe_of_a_user_by_path(call, folder):
    code, out, _ = call("recipes", "show", "./counting.py")
    assert code == 0
    assert "Counts atoms." in out
    assert "threshold" in out
    assert "0.5" in out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\n", "is no recipe: it needs a function"),
        ("def run(*, model, n: int = 1): ...\nx = (\n", "line 2"),
        ('STUDY_SECTION = "host"\ndef run(*, model): ...\n', "must not be the study's own key 'host'"),
        ("def run(*, model, n: int): ...\n", "no STUDY_SECTION"),
        ('STUDY_SECTION = "a"\ndef run(*, model, n=1): ...\n', "no annotation"),
    ],
)
def test_files_that_are_no_recipes(folder, text, said):
    (folder / "bad.py").write_text(text)
    with pytest.raises(ValueError, match=said):
        recipebook.find("bad.py", folder)


@pytest.mark.parametrize("name", recipebook.names())
def test_shipped_recipes_have_a_docstring_and_options_with_annotations(name):
    recipe = recipebook.find(name)
    assert len(recipe.title) > 10
    assert recipe.options.model_fields is not None


def test_nearest_recipe_is_offered():
    name = recipebook.names()[0]
    with pytest.raises(ValueError, match=f"did you mean '{name}'"):
        recipebook.find(name[:-1])


# --- provenance and citations -------------------------------------------------------------------------------------


def test_provenance_names_versions_checksums_and_no_machine(folder, call):
    call("run", "study.yaml", "--out", "out")
    text = (folder / "out/provenance.json").read_text()
    found = Provenance.load(folder / "out/provenance.json")
    assert found.packages["ase"]
    assert len(found.checksums["Si.sw"]) == 64
    assert found.seeds == {"study": 1}
    assert {"build", "run"} <= set(found.wall_time_s)
    assert {"thompson2022lammps", "stillinger1985"} <= set(found.references)
    assert os.uname().nodename not in text
    assert str(folder) not in text


def test_cite_prints_bibtex(folder, call):
    call("run", "study.yaml", "--out", "out")
    code, out, _ = call("cite", "out")
    assert code == 0
    assert "@article{thompson2022lammps," in out
    assert "@article{stillinger1985," in out
    assert out.count("{") == out.count("}")
    code, _, err = call("cite", "nowhere")
    assert code == 1
    assert "provenance.json" in err


def test_bibliography_is_well_formed():
    needs = {
        "article": ("journal", "doi"), "book": ("publisher",), "incollection": ("booktitle", "publisher"),
        "inproceedings": ("booktitle", "doi"),
    }  # fmt: skip
    for key, entry in bibliography().items():
        assert entry.count("{") == entry.count("}"), key
        needed = needs[entry[1 : entry.index("{")]]
        assert all(f"  {field} = {{" in entry for field in ("author", "title", "year", *needed)), key


def test_paths_are_cut_to_names():
    assert without_paths({"a": ["/usr/share/Si.sw", "* * /x/y/Si.sw Si"]}) == {"a": ["Si.sw", "* * Si.sw Si"]}


# --- run folder ---------------------------------------------------------------------------------------------------


TOO_WIDE = "region: {core: {radius: 300}}\nqm: {engine: lammps, pair_style: sw, pair_coeff: '* * Si.sw Si', species: [Si]}\n"


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param(TOO_WIDE, id="no model"),
        pytest.param("defect: {kind: vacancy, site: 99}\n", id="no crystal"),
    ],
)
def test_a_study_that_cannot_be_built_does_not_keep_the_folder(folder, call, mistake):
    right = (folder / "study.yaml").read_text()
    (folder / "study.yaml").write_text(right + mistake)
    failed, _, err = call("run", "study.yaml", "--out", "out")
    assert failed != 0, err
    for name in ("study.yaml", "Si.cif", "counting.py"):
        assert not (folder / "out" / name).exists()
    (folder / "study.yaml").write_text(right)
    done, _, err = call("run", "study.yaml", "--out", "out")
    assert done == 0, err
    assert (folder / "out/result.json").exists()
    changed(folder, "0.25", "0.3")
    refused, _, err = call("run", "study.yaml", "--out", "out")
    assert refused == 2
    assert "holds the run of another study" in err


def test_a_failure_after_something_was_computed_keeps_the_folder(folder, call):
    """The recipe leaves a file before its engine dies."""
    changed(folder, "threshold: 0.25", "fail_on_rank: -1")
    assert call("run", "study.yaml", "--out", "out")[0] != 0
    assert (folder / "out/study.yaml").exists()
    changed(folder, "fail_on_rank: -1", "threshold: 0.25")
    code, _, err = call("run", "study.yaml", "--out", "out")
    assert code == 2
    assert "count.fail_on_rank" in err


def test_a_run_in_the_folder_of_the_study_leaves_the_user_s_files(folder, call):
    (folder / "study.yaml").write_text(STUDY + TOO_WIDE)
    assert call("run", "study.yaml", "--out", ".")[0] != 0
    for name in ("study.yaml", "Si.cif", "counting.py"):
        assert (folder / name).exists()


def test_two_input_files_of_one_name(folder, silicon_cif):
    (folder / "sub").mkdir()
    (folder / "sub/counting.py").write_text(silicon_cif)  # a structure under the recipe's name
    mapping = {
        "recipe": "counting.py",
        "structure": {"file": "sub/counting.py"},
        "host": {"pair_style": "sw", "pair_coeff": ["* * Si.sw Si"], "species": ["Si"]},
    }
    from solidqmmm.system.study import Study

    study = Study.from_mapping(mapping, folder=folder)
    with pytest.raises(StudyError, match="rename one of them"):
        RunFolder(folder / "out").prepare(study)


def test_study_made_in_python(folder):
    from ase.build import bulk

    from solidqmmm.system.study import Study

    mapping = {
        "recipe": "single_point",
        "structure": bulk("Si", cubic=True),
        "host": {"pair_style": "sw", "pair_coeff": ["* * Si.sw Si"], "species": ["Si"]},
    }
    study = Study.from_mapping(mapping, schemas=recipebook.schemas())
    assert not RunFolder(folder / "out").prepare(study)
    assert not RunFolder(folder / "out").prepare(study)
    again = recipebook.load_study(folder / "out/study.yaml")
    assert again.as_mapping() == study.as_mapping()
    assert again.unit_cell().positions == pytest.approx(study.unit_cell().positions)


def test_own_potentials_come_along(folder):
    from solidqmmm.system.potential import lammps_potentials_dir

    (folder / "pots").mkdir()
    (folder / "pots/My.sw").write_bytes((lammps_potentials_dir() / "Si.sw").read_bytes())
    changed(folder, "* * Si.sw Si", "* * pots/My.sw Si")
    RunFolder(folder / "out").prepare(recipebook.load_study(folder / "study.yaml"))
    assert (folder / "out/My.sw").exists()
    moved = recipebook.load_study(folder / "out/study.yaml")
    assert moved.host.pair_coeff == ("* * My.sw Si",)
    assert moved.potential().files()[0].parent == (folder / "out").resolve()


@pytest.mark.parametrize("nested", [False, True])
def test_own_potentials_of_the_engine_come_along(folder, nested):
    from solidqmmm.system.potential import lammps_potentials_dir

    (folder / "pots").mkdir()
    (folder / "pots/My.sw").write_bytes((lammps_potentials_dir() / "Si.sw").read_bytes())
    qm = "{engine: lammps, pair_style: sw, pair_coeff: '* * pots/My.sw Si', species: [Si]}"
    if nested:
        qm = f"{{engine: classical_field, charges: {{Si: 0}}, inner: {qm}}}"
    with (folder / "study.yaml").open("a") as file:
        file.write(f"qm: {qm}\nregion: {{core: {{radius: 3}}}}\n")
    study = recipebook.load_study(folder / "study.yaml")
    RunFolder(folder / "out").prepare(study)
    assert (folder / "out/My.sw").exists()
    moved = recipebook.load_study(folder / "out/study.yaml")
    assert {path.parent for path in moved.potential_files() if path.name == "My.sw"} == {(folder / "out").resolve()}
    assert "pots/My.sw" in str(study.qm)  # the study itself goes on reading its own file
    (folder / "pots/My.sw").unlink()
    with pytest.raises(StudyError, match=r"My\.sw"):
        recipebook.load_study(folder / "study.yaml")


@pytest.mark.parametrize(
    ("seconds", "text"), [(3, "3 s"), (42, "42 s"), (200, "3 min"), (9000, "2.5 h"), (4e5, "4.6 days")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


# --- under mpiexec ------------------------------------------------------------------------------------------------


def on_two_ranks(*arguments, timeout=120):
    command = on_ranks(2, sys.executable, "-m", "solidqmmm.cli", *arguments)
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def test_two_ranks_speak_with_one_voice(folder):
    done = on_two_ranks("run", "study.yaml", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("n atoms") == 1
    assert Provenance.load(folder / "out/provenance.json").mpi_ranks == 2


def test_error_on_all_ranks_is_printed_once(folder):
    changed(folder, "0.25", "0.25, fail_on_rank: -1")
    done = on_two_ranks("run", "study.yaml", "--out", "out")
    assert done.returncode == 1
    assert done.stderr.count("the engine died") == 1
    changed(folder, "threshold", "treshold")
    done = on_two_ranks("run", "study.yaml", "--out", "out")
    assert done.returncode == 2
    assert done.stderr.count("did you mean") == 1


@pytest.mark.parametrize("rank", [0, 1])
def test_error_on_one_rank_ends_all(folder, rank):
    changed(folder, "0.25", f"0.25, fail_on_rank: {rank}")
    done = on_two_ranks("run", "study.yaml", "--out", "out")
    assert done.returncode == 1
    assert done.stderr.count("the engine died") == 1


def test_warnings_are_said_once(capsys, monkeypatch):
    from solidqmmm.cli.show import set_verbosity

    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # as it was, afterwards
    set_verbosity(0)
    for text in ("coordinates were rounded", "another", "coordinates were rounded"):
        warnings.showwarning(UserWarning(text), UserWarning, "file.py", 1)
    assert capsys.readouterr().err.splitlines() == ["warning: coordinates were rounded", "warning: another"]
