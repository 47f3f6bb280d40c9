"""Public names are few, and say what they are: docstrings with shapes, units and errors, as far as a machine can tell.

Held here: everything public of the rooms has a docstring; who takes or gives arrays names a shape and a unit, or the place
where both are told; every error that is raised in a function, or where an object is made, stands under its Raises.
"""

from __future__ import annotations

import ast
import inspect
import re
from functools import cache
from pathlib import Path

import pytest

import solidqmmm

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("physics", "system", "results", "engines", "coupling", "procedures", "plotting")
FILES = [file for room in ROOMS for file in sorted((ROOT / "solidqmmm" / room).rglob("*.py"))]

ARRAY = re.compile(r"\b(ndarray|NDArray|ArrayLike)\b")
# Arguments without annotation that are arrays wherever they stand.
ARRAYS = {"positions", "forces", "charges", "dipoles", "displacements", "velocities", "masses", "points", "permutations"}
SHAPE = re.compile(r"shapes?\b", re.I)
ELSEWHERE = re.compile(r"\b([Ss]ee|[Aa]s|[Aa]s in|[Aa]s of|those of|also) `\w")
UNIT = re.compile(
    r"""\b( m?eV | e | V | amu | [GM]Pa | THz | cm-1 | fs | ps | K | MB | (?i: angstrom | bohr | hartree | degrees?
    | radians? | units? | dimensionless | fractions? | fractional | indices | index | masks? | booleans? | numbers? | counts?
    | labels? | names? | strains? | stretch | deformations? | rotations? | orthonormal | permittivity | weights? ))\b""",
    re.X,
)
# Numbers without a material, and operations on whatever unit comes.
WITHOUT_UNIT = ("physics/algebra/", "physics/symmetry/")


@cache
def tree(file):
    return ast.parse(file.read_text())


def public(file):
    """(qualified name, node, docstring of the class) of what is public in a file."""

    def visit(body, prefix, of_class):
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                marks = [ast.unparse(mark) for mark in node.decorator_list]
                if not any(mark.endswith(("overload", ".setter")) for mark in marks):
                    yield prefix + node.name, node, of_class
                if isinstance(node, ast.ClassDef):
                    yield from visit(node.body, f"{prefix}{node.name}.", ast.get_docstring(node) or "")

    yield from visit(tree(file).body, "", "")


def raised(function):
    """Names of the errors that leave a function from its own lines."""

    def walk(node, caught):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.Lambda | ast.ClassDef):
                continue
            here = caught | handled(node) if isinstance(node, ast.Try) and child in node.body else caught
            if isinstance(child, ast.Raise) and child.exc is not None:
                made = child.exc.func if isinstance(child.exc, ast.Call) else child.exc
                name = ast.unparse(made).split(".")[-1]
                if name[0].isupper() and not here & {name, "Exception", "BaseException"}:
                    yield name
            yield from walk(child, here)

    return set(walk(function, frozenset()))


def handled(attempt):
    kinds = [kind for handler in attempt.handlers for kind in (getattr(handler.type, "elts", None) or [handler.type])]
    return {"BaseException" if kind is None else ast.unparse(kind).split(".")[-1] for kind in kinds}


def section(text, name):
    found = re.search(rf"^{name}:\n((?:[ \t]+.*\n?|\n)+)", text, re.M)
    return found[1] if found else ""


def is_array(annotation):
    return annotation is not None and bool(ARRAY.search(ast.unparse(annotation)))


def has_arrays(function):
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    bare = any(one.annotation is None and one.arg in ARRAYS for one in arguments)
    return bare or is_array(function.returns) or any(is_array(one.annotation) for one in arguments)


def attribute(text, name):
    """What a docstring says of an attribute, several of which may share their words."""
    pattern = rf"^ +(?:\w+, )*{name}(?:, \w+)*(?: \(.*?\))?:((?:.|\n)*?)(?=^    \w[\w, ]*:|\Z)"
    found = re.search(pattern, text, re.M)
    return found[1] if found else ""


def faults(file):
    if not ast.get_docstring(tree(file)):
        yield "the module has no docstring"
    where = file.relative_to(ROOT / "solidqmmm").as_posix()
    for name, node, of_class in public(file):
        said = ast.get_docstring(node) or ""
        if not said:
            yield f"{name} has no docstring"
            continue
        if isinstance(node, ast.FunctionDef):
            for error in raised(node) - set(re.findall(r"\w+", section(said, "Raises"))):
                yield f"{name} raises {error}, which is not under Raises"
            if has_arrays(node) and not ELSEWHERE.search(said):
                if not SHAPE.search(said):
                    yield f"{name} takes or gives arrays and names no shape"
                elif not UNIT.search(said + of_class) and not where.startswith(WITHOUT_UNIT):
                    yield f"{name} takes or gives arrays and names no unit"
            continue
        for part in node.body:
            if isinstance(part, ast.FunctionDef) and part.name in ("__init__", "__post_init__"):
                told = section(said, "Raises") + section(ast.get_docstring(part) or "", "Raises")
                for error in raised(part) - set(re.findall(r"\w+", told)):
                    yield f"{name} raises {error} when it is made, which is not under Raises"
            field = isinstance(part, ast.AnnAssign) and is_array(part.annotation) and part.target.id
            if field and not field.startswith("_") and not SHAPE.search(attribute(said, field)):
                yield f"{name}.{field} is an array, and its shape is not among the Attributes"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_what_is_public_is_documented(file):
    assert list(faults(file)) == []


SAID = '''
"""A module."""


def sum_of(positions) -> np.ndarray:
    """{}"""
    if not len(positions):
        raise ValueError("none")
'''
WHOLE = "Sum in angstrom, shape=(3,).\n\n    Raises:\n        ValueError: For none.\n    "


@pytest.mark.parametrize(
    ("docstring", "fault"),
    [
        (WHOLE, None),
        (WHOLE.replace(", shape=(3,)", ""), "shape"),
        (WHOLE.replace(" in angstrom", ""), "unit"),
        (WHOLE.replace("ValueError", "TypeError"), "raises ValueError"),
        ("", "no docstring"),
    ],
)
def test_what_is_left_out_is_noticed(tmp_path, monkeypatch, docstring, fault):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "solidqmmm").mkdir()
    file = tmp_path / "solidqmmm" / "sums.py"
    file.write_text(SAID.format(docstring))
    found = list(faults(file))
    assert found == [] if fault is None else len(found) == 1 and fault in found[0]


def test_public_names_are_few_and_documented():
    names = set(solidqmmm.__all__) - {"__version__"}
    assert 15 <= len(names) <= 25
    for name in names:
        found = getattr(solidqmmm, name)
        assert inspect.getdoc(found), name
        assert found.__name__ == name
