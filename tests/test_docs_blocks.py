"""What the pages say can be done, can be done: blocks are run, commands and their options exist, studies are valid.

Every block of Python and every command is one of four: run here, run when the pages' outputs were made (its output follows
it, from `docs/tutorial_runs/outputs`), run by another test (`ELSEWHERE`), or excused in the page itself (`markdown_blocks`).
The tutorials are executed when the documentation is built as well.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from markdown_blocks import PAGES, ROOT, TUTORIALS, Block, blocks, name_of, of_language
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError

from solidqmmm import recipebook
from solidqmmm.runtime import environment_for_subprocess

BIN = Path(sys.executable).parent
OUTPUTS = ROOT / "docs" / "tutorial_runs" / "outputs"

# A hybrid crystal that costs nothing: one classical potential in another.
STUDY = """
recipe: defect_relaxation
structure: {file: Si.cif}
supercell: [3, 3, 3]
defect: {kind: vacancy, site: 0}
host: {pair_style: sw, pair_coeff: ["* * Si.sw Si"], species: [Si]}
qm: {engine: lammps, pair_style: tersoff, pair_coeff: ["* * Si.tersoff Si"], species: [Si]}
region: {core: {hops: 1}, buffer: {hops: 1}}
caps: {kind: Si, length: 2.35}
coupling: {scheme: subtractive, ghost_forces: true}
relax: {fmax: 0.02}
"""
ELASTIC = """
recipe: elastic_tensor
structure: {file: Si.cif, lattice: host}
host: {pair_style: sw, pair_coeff: ["* * Si.sw Si"], species: [Si]}
"""
IONIC = """
recipe: single_point
structure: {file: MgO.cif}
supercell: [2, 2, 2]
host: {model: lewis_catlow_MgO}
"""

# Pages whose blocks are run from the first to the last: files of their folder, and Python that comes before.
FAST = {
    "conventions.md": ({}, ""),
    "recipes.md": ({}, ""),
    "regions.md": ({"study.yaml": STUDY}, ""),
    "resuming.md": ({"study.yaml": STUDY}, ""),
    "tutorials/single_point.md": ({}, ""),
}
SLOW = {
    "choose_boundary.md": ({"study.yaml": STUDY.replace("[3, 3, 3]", "[5, 5, 5]")}, ""),
    "cluster_computers.md": ({"study.yaml": ELASTIC}, ""),
    "README.md": ({"study.yaml": STUDY, "vacancy.yaml": STUDY}, ""),
    "dynamics.md": ({"study.yaml": STUDY}, ""),
    "elasticity.md": (
        {"study.yaml": ELASTIC},
        "from solidqmmm.procedures.build import build_model; from solidqmmm.recipebook import load_study\n"
        "from pathlib import Path; model, folder = build_model(load_study('study.yaml')), Path('tasks')\n",
    ),
    "matching.md": ({}, ""),
    "parallel.md": ({"study.yaml": STUDY}, ""),
    "python.md": ({"vacancy/result.json": (ROOT / "tests" / "golden" / "defect_relaxation.json").read_text()}, ""),
    "stadium.md": (
        {},
        "from ase.build import bulk; from solidqmmm import QMMM, Crystal, Potential; import numpy as np\n"
        "crystal = Crystal.of(bulk('Si', a=5.431, cubic=True) * (20, 2, 2))\n"
        "C, density = [[151, 76, 76], [76, 151, 76], [76, 76, 151]], 1.40\n"
        "elastic_tensor_GPa = np.block([[np.array(C), np.zeros((3, 3))], [np.zeros((3, 3)), 56 * np.eye(3)]])\n"
        "qmmm = QMMM(crystal, Potential('sw', '* * Si.sw Si', ['Si']))\n",
    ),
    "trust.md": ({"study.yaml": STUDY}, ""),
    **{name_of(page): ({}, "") for page in TUTORIALS if name_of(page) not in FAST},
}
# Commands that end with another exit code than 0: a trust report that says no.
MAY_SAY_NO = ("check",)
# Pages and commands that other tests run.
ELSEWHERE = {
    "fracture.md": "tests/test_fracture.py, tests/test_plotting_fracture.py",
    "cracks": "tests/test_plotting_fracture.py",
    "doctor": "tests/test_doctor.py",
}

EAGER = {"--install-completion", "--show-completion", "--help", "-h"}

PYTHON = of_language("python")
SHELL = of_language("shell")
YAML_BLOCKS = of_language("yaml")


def by_place(found):
    return pytest.mark.parametrize("block", found, ids=lambda block: block.where)


# --- every block has somebody who runs it ---------------------------------------------------------------------


@cache
def made_outputs() -> str:
    return "".join(file.read_text() for file in (ROOT / "docs" / "tutorial_runs").glob("*.py"))


def shown_output(block: Block) -> str | None:
    """The name of the output of a tutorial run that is shown after the block, at once or after a sentence."""
    lines = block.page.read_text().splitlines()
    after = lines[block.line - 1 + len(block.text.splitlines()) :][:8]
    following = next((line for line in after if line.startswith(("```", "    "))), "")
    found = re.match(r"^```\{\w+\} (?:\.\./)?tutorial_runs/outputs/(\S+)$", following)
    return found and found[1]


@by_place([*PYTHON, *SHELL])
def test_every_block_is_run_or_says_why_not(block):
    output = shown_output(block)
    if output:
        assert (OUTPUTS / output).stat().st_size > 0
        stem = Path(output).stem  # or in a loop, as f"fracture_{name}.txt"
        names = (stem, stem.split("_")[0] + "_{")
        assert any(name in made_outputs() for name in names), f"no script of docs/tutorial_runs makes {output}"
    elif name_of(block.page) not in FAST | SLOW | ELSEWHERE:
        assert block.excuse, f"{block.where}: run it in {Path(__file__).name}, or excuse it by `% not run: REASON` before it"


def test_excuses_are_reasons():
    for block in [*PYTHON, *SHELL]:
        assert block.excuse is None or len(block.excuse.split()) > 2, block.where


# --- without running anything ---------------------------------------------------------------------------------


@by_place(PYTHON)
def test_python_parses_and_what_it_calls_is_there(block):
    tree = ast.parse(block.text)
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name] = importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom):
            if node.module.startswith("IPython"):  # belongs to the kernel of the documentation
                continue
            module = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")
                names[alias.asname or alias.name] = getattr(module, alias.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and callable(names.get(node.func.id)):
            require_keywords(names[node.func.id], [word.arg for word in node.keywords if word.arg])


def require_keywords(function, words):
    parameters = inspect.signature(function).parameters
    if not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        assert set(words) <= set(parameters), f"{function.__name__} does not take {set(words) - set(parameters)}"


def command_line():
    import typer

    from solidqmmm.cli.app import app

    return typer.main.get_command(app)


def parsed(words):
    """The command that the words name; an error of usage if an option or an argument is wrong. Nothing is run."""
    # Eager options act as soon as they are parsed: installing a completion would write into the home directory.
    eager = {option for parameter in command_line().params if parameter.is_eager for option in parameter.opts}
    if EAGER.intersection(words) or eager.intersection(words):
        assert set(words) <= EAGER | eager, words
        return command_line()
    context = command_line().make_context("solidqmmm", list(words), resilient_parsing=False)
    while hasattr(context.command, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        if not rest:
            return context.command
        name, command, rest = context.command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)
    return context.command


@by_place(SHELL)
def test_commands_and_their_options_exist(block):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    for words in block.commands():
        if words[0] == "mpiexec":
            words = words[3:]
        if words[0] == "solidqmmm":
            parsed(words[1:])
        elif words[0] == "make":
            assert words[1] in targets
        elif block.page in TUTORIALS:
            assert words[0] in ("sed", "echo"), f"{block.where}: `{words[0]}` is not on every machine"
        else:
            assert block.excuse, f"{block.where}: `{words[0]}` is nothing that a test can look at"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_within_sentences_exist(page):
    for said in re.findall(r"(?<!`)`solidqmmm ([a-z][^`]*)`", page.read_text()):
        words = said.split()
        command = command_line()
        while words and hasattr(command, "commands"):
            assert words[0] in command.commands, f"solidqmmm {said}"
            command = command.commands[words.pop(0)]
        options = EAGER | {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= options, f"solidqmmm {said}"


# What commands make; not in a fresh checkout.
MADE = {"docs/_build", "docs/_build/html/index.html", "tests/benchmarks/results.json"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_a_page_names_are_there(page):
    text = page.read_text()
    for name in re.findall(r"`((?:examples|tests|docs|recipes|solidqmmm|\.config)/[\w./-]+\w)`", text):
        assert name in MADE or (ROOT / name).exists() or any(ROOT.glob(f"{name}*")), name
    for link in re.findall(r"\]\((?!https?:|#)([\w./-]+\.\w+)", text):
        assert (page.parent / link).exists(), link
    for source in re.findall(r'src="([^"]+)"', text):
        assert (page.parent / source).exists(), source


@cache
def words_of_sources() -> frozenset[str]:
    folders = ("solidqmmm", "recipes", "docs/_static")
    text = "".join(file.read_text() for folder in folders for file in (ROOT / folder).rglob("*.py"))
    return frozenset(re.findall(r"\w+", text))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_quantities_that_a_page_names_are_there(page):
    suffixes = "eV|eV_per_A|e|A|A3|GPa|THz|K|MPa_sqrt_m|J_per_m2|reason"
    for name in re.findall(rf"(?<!`)`(\w+_(?:{suffixes}))`", page.read_text()):
        assert name in words_of_sources() or name.startswith("_"), name


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A folder with the structures and tables of the examples, and the recipe of the page about recipes."""
    folder = tmp_path_factory.mktemp("shelf")
    for pattern in ("*.cif", "*.csv"):
        for file in ROOT.glob(f"examples/*/{pattern}"):
            shutil.copy(file, folder)
    shutil.copy(ROOT / "docs" / "_static" / "bond_length.py", folder)
    return folder


def validated(text, folder, name="study.yaml"):
    (folder / name).write_text(text)
    return recipebook.load_study(folder / name)


@by_place([block for block in YAML_BLOCKS if block.excuse is None])
def test_studies_on_pages_are_valid(block, shelf):
    """A whole study as it is; single sections in a study that has all others."""
    yaml = YAML(typ="safe")
    try:
        pieces = [yaml.load(block.text)]
    except DuplicateKeyError:  # alternatives, one on each line
        pieces = [yaml.load(line) for line in block.text.splitlines()]
    for piece in pieces:
        if "recipe" in piece:
            validated(block.text, shelf)
            continue
        ionic = "charges" in piece.get("host", {})
        whole = yaml.load(IONIC if ionic else STUDY) | piece
        if whole.get("caps", {}).get("kind") == "hydrogen":
            whole["caps"].pop("length", None)
        with (shelf / "study.yaml").open("w") as file:
            YAML(typ="safe").dump(whole, file)
        recipebook.load_study(shelf / "study.yaml")


@pytest.mark.parametrize(
    "file",
    [*sorted(ROOT.glob("examples/*/*.yaml")), *sorted(ROOT.glob("docs/tutorial_runs/*.yaml"))],
    ids=lambda file: f"{file.parent.name}/{file.name}",
)
def test_studies_that_pages_include_are_valid(file, shelf):
    if file.parent.name == "tutorial_runs":
        file = Path(shutil.copy(file, shelf))
    recipebook.load_study(file)


def test_output_in_the_readme_is_that_of_the_tutorial():
    shown = (ROOT / "README.md").read_text().partition("$ solidqmmm run vacancy.yaml\n")[2].partition("\n\n")[0]
    made = (OUTPUTS / "run.txt").read_text()
    lines = [line.strip() for line in shown.splitlines()]
    assert len(lines) > 10
    assert [line for line in lines if line not in made] == []


# --- running --------------------------------------------------------------------------------------------------


def run_page(name, files, before, folder, monkeypatch):
    """All blocks of a page in one folder, Python in one namespace; those with an excuse or a cached output left out."""
    monkeypatch.chdir(folder)
    page = next(page for page in PAGES if name_of(page) == name)
    for file in ("silicon_vacancy/Si.cif", "magnesia_vacancy/MgO.cif"):
        shutil.copy(ROOT / "examples" / file, folder)
    for file, text in files.items():
        Path(file).parent.mkdir(exist_ok=True)
        Path(file).write_text(text)
    namespace = {"__name__": "page"}
    exec(before, namespace)
    ran = 0
    for block in blocks(page):
        if block.excuse or shown_output(block) or block.text.startswith("make "):
            continue
        if block.file:
            Path(block.file).write_text(block.text)
        elif picture := re.search(r'^Image\("(.+)"\)$', block.text, re.M):
            assert Path(picture[1]).stat().st_size > 0, block.where
        elif block.language == "python":
            exec(compile(block.text, block.where, "exec"), namespace)
            ran += 1
        elif block.language == "shell" and page in TUTORIALS:
            run_command(["sh", "-e", "-c", block.text], block)
            ran += 1
        elif block.language == "shell":
            for words in block.commands():
                if not ELSEWHERE.keys() & words:
                    run_command(words, block)
                    ran += 1
    assert ran


def run_command(words, block):
    assert not EAGER.intersection(words), "completion is not for tests to install"
    environment = environment_for_subprocess() | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=environment, text=True, capture_output=True, timeout=500, check=False)
    allowed = (0, 1) if words[0] == "solidqmmm" and any(word in MAY_SAY_NO for word in words) else (0,)
    assert done.returncode in allowed, f"{block.where}: {' '.join(words)}\n{done.stderr[-2000:]}"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", FAST)
def test_page_runs(name, tmp_path, monkeypatch):
    run_page(name, *FAST[name], tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_page_of_longer_runs(name, tmp_path, monkeypatch):
    run_page(name, *SLOW[name], tmp_path, monkeypatch)


# --- the tutorials, which the build executes ------------------------------------------------------------------


@pytest.mark.parametrize("recipe", recipebook.names())
def test_each_recipe_has_a_tutorial(recipe):
    page = ROOT / "docs" / "tutorials" / f"{recipe}.md"
    studies = [block.text for block in blocks(page) if block.file.endswith(".yaml")]
    assert any(f"recipe: {recipe}\n" in study for study in studies)


@pytest.mark.parametrize("page", TUTORIALS, ids=name_of)
def test_tutorials_are_executed_show_a_figure_and_check_a_number(page):
    text, cells = page.read_text(), [block for block in blocks(page) if block.excuse is None]
    assert text.startswith("---\nfile_format: mystnb\nkernelspec:\n")
    assert not re.search(r"raises-exception|skip-execution|execution_mode|allow_errors", text)
    code = [block.text for block in cells if block.language == "python"]
    assert any("assert " in cell for cell in code)
    assert any("Image(" in cell for cell in code) or any("plt.subplots" in cell for cell in code)
    assert f"tutorials/{page.stem}\n" in (ROOT / "docs" / "index.md").read_text()
    assert "../study_reference.md" in text or "../dynamics.md" in text


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["1 / 0", "%%sh\nfalse"])
def test_a_cell_that_fails_fails_the_build(cell, tmp_path):
    pytest.importorskip("myst_nb")
    source = tmp_path / "source"
    source.mkdir()
    head = "---\nfile_format: mystnb\nkernelspec:\n  name: python3\n---\n\n# A page\n\n"
    (source / "index.md").write_text(f"{head}```{{code-cell}}\n{cell}\n```\n")
    build = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "-c", ROOT / "docs", source, tmp_path / "html"]
    done = subprocess.run(build, env=os.environ, text=True, capture_output=True, timeout=300, check=False)
    assert done.returncode != 0
    assert "ExecutionError" in done.stderr
