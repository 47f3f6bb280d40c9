"""The rules of the house that a machine can hold: imports go down the stairs, files stay short."""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STAIRS = (
    ("errors", "runtime", "rank_halves", "interruption", "shared_libraries", "data"),
    ("physics",),
    ("system",),
    ("results",),
    ("engines",),
    ("coupling",),
    ("procedures",),
    ("plotting",),
    ("schema_words", "recipebook", "folder_lock", "runfolder", "cli", "recipes", "__main__"),
)  # fmt: skip
HEIGHT = {name: height for height, step in enumerate(STAIRS) for name in step}
FILES = sorted([*ROOT.glob("solidqmmm/**/*.py"), *ROOT.glob("recipes/*.py")])


def imported(tree):
    """Second part of every solidqmmm import, wherever in the file it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            names = [
                f"{node.module}.{a.name}" if node.module == "solidqmmm" else node.module for a in node.names
            ]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "solidqmmm" and len(parts) > 1 and not parts[1].startswith("_"):
                yield node.lineno, parts[1]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_only_go_down_the_stairs(file):
    parts = file.relative_to(ROOT).with_suffix("").parts
    own = "recipes" if parts[0] == "recipes" else parts[1]
    if own == "__init__":
        return
    public = own == "recipes"  # recipes may also say `from solidqmmm import relax`
    for line, name in imported(ast.parse(file.read_text())):
        height = HEIGHT.get(name)
        assert height is not None or public, f"line {line}: solidqmmm.{name} has no place on the stairs"
        assert height is None or height <= HEIGHT[own], f"line {line}: {own} must not import solidqmmm.{name}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_files_stay_short(file):
    ceiling = 140 if file.parent.name == "recipes" else 450
    length = len(file.read_text().splitlines())
    assert length <= ceiling


@pytest.mark.parametrize("room", sorted({file.parent for file in FILES}), ids=lambda room: str(room.relative_to(ROOT)))
def test_rooms_stay_surveyable(room):
    """A folder is read at a glance: what grows beyond that gets a room of its own."""
    assert len(list(room.glob("*.py"))) <= 36


def modules_of(stair):
    """Every module of a stair, by its dotted name."""
    for file in sorted((ROOT / "solidqmmm" / stair).rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), file


def imported_modules(tree, known):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in known else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("stair", ["physics", "procedures"])
def test_no_circles_between_rooms(stair):
    """A room, and a file that stands in front of the rooms, never needs what needs it."""
    files = dict(modules_of(stair))

    def place(module):
        parts = module.split(".")
        return ".".join(parts[:3])  # the room, or the file in front

    needs = {}
    for module, file in files.items():
        needed = {place(name) for name in imported_modules(ast.parse(file.read_text()), files) if name in files}
        needs.setdefault(place(module), set()).update(needed - {place(module)})
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


# Fields of other people's objects that have no public name.
FOREIGN = {
    "_exit", "_replace", "_c", "_e", "_hplanck",  # os, namedtuple, ase.units
    "_atm", "_bas", "_env", "_chkfile",  # PySCF
    "_socket", "_spawner",  # executorlib
}  # fmt: skip


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_private_fields_are_their_own_files_business(file):
    nodes = list(ast.walk(ast.parse(file.read_text())))
    private = [node for node in nodes if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr)]
    mine = {node.attr for node in private if ast.unparse(node.value) in ("self", "cls")}
    mine |= {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    mine |= {node.target.id for node in nodes if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
    taken = {f"line {node.lineno}: {ast.unparse(node)}" for node in private if node.attr not in mine | FOREIGN}
    assert not taken


def test_importing_changes_nothing():
    import subprocess
    import sys

    code = (
        "import os, sys; before = dict(os.environ); import solidqmmm, solidqmmm.cli; "
        "assert dict(os.environ) == before; "
        "loaded = {'numpy', 'mpi4py.MPI', 'gpaw', 'lammps', 'matplotlib'} & set(sys.modules); assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
