"""Results: plain JSON on disk, the same object back, no NaN in a file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest
from monty.serialization import loadfn
from pymatgen.core import Lattice, Structure

from solidqmmm.results.base import Result, unit_in_name


@dataclass(frozen=True)
class Row:
    """A plain part of a result."""

    label: str
    value: float


@dataclass(frozen=True, eq=False)
class Sample(Result):
    """One field of each kind."""

    converged: bool
    energy_eV: float | None
    bulk_modulus_GPa: float
    forces: np.ndarray
    labels: np.ndarray
    rows: tuple[Row, ...]
    shells: dict[int, float]
    relaxed_structure: dict = field(default_factory=dict)
    parts: tuple[Result, ...] = ()

    UNITS: ClassVar[dict[str, str]] = {"forces": "eV/angstrom"}


def sample(n=4, **changes):
    structure = Structure(Lattice.cubic(3.0), ["Na"], [[0, 0, 0]])
    values = {
        "converged": True,
        "energy_eV": None,
        "bulk_modulus_GPa": 88.5,
        "forces": np.linspace(0, 1, 3 * n).reshape(n, 3),
        "labels": np.array(["core", "host"]),
        "rows": (Row("a", 1.0), Row("b", float("nan"))),
        "shells": {1: 0.5, 2: float("inf")},
        "relaxed_structure": structure.as_dict(),
    }
    return Sample(**(values | changes))


def test_round_trip_gives_the_same_object(tmp_path):
    before = sample()
    after = Result.load(before.save(tmp_path / "result.json"))
    assert type(after) is Sample
    assert after.as_dict() == before.as_dict()
    assert isinstance(after.forces, np.ndarray)
    np.testing.assert_array_equal(after.forces, before.forces)
    assert after.labels.dtype.kind == "U"
    assert after.rows[0] == Row("a", 1.0)
    assert np.isnan(after.rows[1].value)
    assert set(after.shells) == {1, 2}
    assert Structure.from_dict(after.relaxed_structure).species[0].symbol == "Na"


def test_file_is_plain_json_with_units_and_without_nan(tmp_path):
    forces = np.array([[1.0, np.nan, np.inf]])
    text = sample(forces=forces).save(tmp_path / "result.json").read_text()
    dct = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} in the file"))
    assert dct["forces"] == [[1.0, None, None]]
    assert dct["rows"][1]["value"] is None
    assert dct["units"] == {"energy_eV": "eV", "bulk_modulus_GPa": "GPa", "forces": "eV/angstrom"}
    assert dct["@class"] == "Sample"
    assert np.isnan(Result.load(tmp_path).forces[0, 1:]).all()


def test_monty_reads_it_as_every_msonable(tmp_path):
    sample().save(tmp_path / "result.json")
    assert isinstance(loadfn(tmp_path / "result.json"), Sample)


def test_large_arrays_go_to_hdf5_beside_the_json(tmp_path):
    before = sample(n=60_000)
    path = before.save(tmp_path / "result.json")
    assert json.loads(path.read_text())["forces"] == {"hdf5": "result.h5", "dataset": "forces"}
    assert path.stat().st_size < 10_000
    np.testing.assert_array_equal(Result.load(path).forces, before.forces)


def test_results_within_results(tmp_path):
    before = sample(parts=(sample(), sample(n=60_000)))
    after = Result.load(before.save(tmp_path / "result.json"))
    assert [type(part) for part in after.parts] == [Sample, Sample]
    np.testing.assert_array_equal(after.parts[1].forces, before.parts[1].forces)


def test_interrupted_write_keeps_the_old_file(tmp_path):
    path = sample().save(tmp_path / "result.json")
    old = path.read_text()
    with pytest.raises(TypeError, match=r"relaxed_structure/x.*holds a object"):
        sample(relaxed_structure={"x": object()}).save(path)
    assert path.read_text() == old
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_wrong_files_are_named(tmp_path):
    (tmp_path / "other.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match="holds no result"):
        Result.load(tmp_path / "other.json")
    dct = sample().as_dict()
    del dct["forces"]
    with pytest.raises(ValueError, match="`forces`, which is missing"):
        Sample.from_dict(dct)


def test_summary_shows_single_values_with_units():
    assert sample().summary() == [("converged", "yes"), ("bulk modulus", "88.5 GPa")]


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("max_force_eV_per_A", "eV/angstrom"),
        ("energy_eV", "eV"),
        ("n_atoms", None),
        ("neighbour_displacements_A", "angstrom"),
    ],
)
def test_units_are_read_from_names(name, unit):
    assert unit_in_name(name) == unit
