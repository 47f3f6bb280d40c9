"""Whatever a study or a structure file holds, it is read, or refused with the one error that is meant for it.

`FUZZ_EXAMPLES=20000` looks longer than a test suite should. What was found stands below as cases of its own.
"""

from __future__ import annotations

import json
import os
import warnings
from contextlib import suppress
from copy import deepcopy

import pytest
from ase.build import bulk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from study_cases import STUDIES, changed, write_structures

from solidqmmm import recipebook
from solidqmmm.errors import StructureError, StudyError
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.study import Study

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))
FAST = settings(
    max_examples=EXAMPLES, deadline=None, derandomize="FUZZ_EXAMPLES" not in os.environ, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz")
    write_structures(path)
    return path


def refused_or_read(folder, mapping):
    """A study, or None where it is refused; anything else is raised."""
    try:
        return Study.from_mapping(mapping, folder=folder, schemas=recipebook.schemas())
    except StudyError as caught:
        problems = caught.problems
    assert problems
    assert all(len(problem) < 3000 for problem in problems)
    return None


# --- mutations of valid studies -------------------------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12),
    st.sampled_from([
        10**400, -(10**30), 1e308, -0.0, float("nan"), float("inf"), "", " ", "é", "\x00", "\ud800", "$(x)", "auto",
        "none", "Si", "../x", "/", ".",
         "3", "mp-149", "mine.py", "single_point", "subtractive", "ase", "gpaw", "pyscf", "host", "\n",
    ]),
)  # fmt: skip
KEYS = st.text(max_size=8) | st.sampled_from(["kind", "site", "engine", "radius", "scheme"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def places(node, path=()):
    """Paths of everything in a study."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in inner:
        yield (*path, key)
        yield from places(value, (*path, key))


@st.composite
def mutated(draw):
    study = deepcopy(STUDIES[draw(st.sampled_from(sorted(STUDIES)))])
    for _ in range(draw(st.integers(1, 3))):
        found = list(places(study))
        if not found:
            break
        *path, last = draw(st.sampled_from(found))
        node = study
        for part in path:
            node = node[part]
        kind = draw(st.sampled_from(["replace", "delete", "rename", "swap", "add"]))
        if kind == "replace":
            node[last] = draw(VALUES)
        elif kind == "delete":
            del node[last]
        elif kind == "swap":
            *far, key = draw(st.sampled_from(found))
            other = study
            for part in far:
                other = other[part] if isinstance(other, dict | list) and part in dict_or_range(other) else {}
            node[last] = deepcopy(other[key]) if key in dict_or_range(other) else None
        elif isinstance(node, dict):
            node[draw(st.text(max_size=10))] = node.pop(last) if kind == "rename" else draw(VALUES)
        else:
            node.append(draw(VALUES))
    return study


def dict_or_range(node):
    return node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()


@FAST
@given(mapping=mutated())
def test_mutated_studies(folder, mapping):
    study = refused_or_read(folder, mapping)
    if study is not None:  # what is accepted can be written down
        json.dumps(study.as_mapping())


@FAST
@given(mapping=mutated(), cut=st.integers(0, 400), noise=st.text(max_size=5))
def test_mutilated_files(folder, mapping, cut, noise):
    text = json.dumps(mapping, indent=1)
    path = folder / "study.yaml"
    path.write_bytes((text[:cut] + noise + text[cut + len(noise) :]).encode("utf-8", "surrogatepass"))
    with suppress(StudyError):
        recipebook.load_study(path)


# What was found.
FOUND = [
    ("fracture", {"saving": {"scheme": {"a": 1}}}, "saving"),
    ("fracture", {"saving": {"scheme": ["lotf"]}}, "saving"),
    ("point", {"structure": []}, "structure"),
    ("point", {"structure": 3}, "structure"),
    ("point", {"structure": 0.5}, "structure"),
    ("relaxation", {"relax.fmax": float("inf")}, "relax.fmax"),
    ("relaxation", {"relax.fmax": 10**400}, "relax.fmax"),
]


@pytest.mark.parametrize(("name", "changes", "key"), FOUND)
def test_mutations_that_were_no_study_errors(folder, name, changes, key):
    with pytest.raises(StudyError) as caught:
        Study.from_mapping(changed(STUDIES[name], changes), folder=folder, schemas=recipebook.schemas())
    assert caught.value.problems[0].startswith(key)


# --- structures -----------------------------------------------------------------------------------------------------

NOISE = ["-", "1e400", "nan", "99999", "Xx", "\n\n", "{", "[", "null", '"']
FORMATS = {"a.cif": "cif", "POSCAR": "poscar", "a.json": "json", "a.xyz": "extxyz", "a.yaml": "yaml", "a.xsf": "xsf"}


@pytest.fixture(scope="module")
def originals():
    silicon = Crystal.of(bulk("Si", cubic=True))
    found = {}
    for name, kind in FORMATS.items():
        if kind == "extxyz":
            import io

            import ase.io

            buffer = io.StringIO()
            ase.io.write(buffer, silicon.to_atoms(), format="extxyz")
            found[name] = buffer.getvalue()
        else:
            found[name] = str(silicon.to_structure().to(fmt=kind))
    return found


def structure_refused_or_read(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with suppress(StructureError):
            assert len(Crystal.of(path)) > 0


@pytest.mark.parametrize("name", FORMATS)
@FAST
@given(data=st.data())
def test_mutilated_structures(folder, originals, name, data):
    text = originals[name]
    at = data.draw(st.integers(0, len(text)), label="at")
    gone = data.draw(st.integers(0, 40), label="gone")
    noise = data.draw(st.text(max_size=6) | st.sampled_from(NOISE), label="noise")
    mutilated = data.draw(st.sampled_from([text[:at], text[:at] + noise + text[at + gone :]]), label="cut or patched")
    path = folder / name
    path.write_bytes(mutilated.encode("utf-8", "surrogatepass"))
    structure_refused_or_read(path)


@pytest.mark.parametrize("name", FORMATS)
@FAST
@given(content=st.binary(max_size=200))
def test_files_of_noise(folder, name, content):
    (folder / name).write_bytes(content)
    structure_refused_or_read(folder / name)
