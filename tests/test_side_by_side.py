"""Recipes whose calculations are independent: workers in other processes give the numbers of one after the other."""

from __future__ import annotations

import os

import elastic_cases
import embedding_cases
import numpy as np
import phonon_cases
import pytest

from solidqmmm import recipebook
from solidqmmm.procedures.build import build_model
from solidqmmm.procedures.check import check_boundary
from solidqmmm.procedures.parallel.executors import local_executor
from solidqmmm.procedures.parallel.task_states import watched
from solidqmmm.system.study import Study


@pytest.fixture(scope="module")
def executor():
    before = {name: os.environ.get(name) for name in ("PATH", "PYTHONPATH")}
    with local_executor(2, task_timeout=300) as workers:
        yield workers
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def run(asked: dict, workdir=None, executor=None):
    """The result of a study's recipe, and the last state of each task."""
    study, states = Study.from_mapping(asked, schemas=recipebook.schemas()), {}
    with build_model(study, log_dir=workdir) as model, watched(states.__setitem__):
        options = dict(study.options) | ({} if executor is None else {"executor": executor})
        return recipebook.find(study.recipe).run(model=model, workdir=workdir, **options), states


def journal(workdir):
    return {path.name: path.stat().st_mtime_ns for path in (workdir / "journal").glob("*.npz")}


LADDER = embedding_cases.mapping(
    recipe="embedding_ladder", supercell=[2, 2, 2], coupling={"scheme": "electrostatic", "charge": 2.0},
    ladder={"clusters": [{"hops": 1}], "chemical_potentials": {"O": -5.0}},
)  # fmt: skip


def test_rungs_of_an_embedding_ladder(tmp_path, executor):
    expected, told = run(LADDER)
    found, states = run(LADDER, tmp_path, executor)
    assert list(states) == list(told) == [f"{name}, hops 1" for name in ("mechanical", "electrostatic")]
    assert set(states.values()) == set(told.values()) == {"done"}
    for rung, other in zip(found.rungs, expected.rungs, strict=True):
        assert (rung.embedding, rung.formula_qm) == (other.embedding, other.formula_qm)
        assert rung.formation_energy_eV == pytest.approx(other.formation_energy_eV, abs=1e-6)
        assert rung.energy_terms_eV == pytest.approx(other.energy_terms_eV, abs=1e-6)
    written = journal(tmp_path)
    assert len(written) >= 2
    again, _ = run(LADDER, tmp_path)
    assert journal(tmp_path) == written, "what workers computed is read by whoever comes after"
    np.testing.assert_array_equal(again.energies_eV, found.energies_eV)


PHONONS = {
    "recipe": "defect_phonons",
    **phonon_cases.CARBON_EMBEDDED,
    "supercell": [2, 2, 2],
    "region": {"core": {"hops": 1}},
    "phonons": {"method": "static"},
}


def test_displacements_of_a_quantum_region(tmp_path, executor):
    expected, told = run(PHONONS)
    found, states = run(PHONONS, tmp_path, executor)
    assert states == told
    assert len(states) >= 2
    assert all(name.startswith("atom ") for name in states)
    frequencies = [[mode["frequency_THz"] for mode in result.modes] for result in (found, expected)]
    np.testing.assert_allclose(*frequencies, atol=1e-4)
    assert found.n_force_evaluations_qm == expected.n_force_evaluations_qm
    written = journal(tmp_path)
    run(PHONONS, tmp_path)
    assert journal(tmp_path) == written


ELASTIC = {"recipe": "elastic_tensor", "structure": elastic_cases.silicon(), "host": elastic_cases.T3}


def test_deformations_of_a_crystal(tmp_path, executor):
    expected, told = run(ELASTIC)
    found, states = run(ELASTIC, tmp_path, executor)
    assert states == told
    assert "defect yz_+0.0002" in states
    np.testing.assert_allclose(found.elastic_tensor_GPa, expected.elastic_tensor_GPa, atol=1e-3)
    for path in (tmp_path / "strains/defect").glob("yz_*"):
        path.unlink()
    again, states = run(ELASTIC, tmp_path, executor)
    assert {name for name, state in states.items() if state == "done"} == {n for n in told if "yz" in n}
    assert {name for name, state in states.items() if state == "on record"} == {n for n in told if "yz" not in n}
    np.testing.assert_allclose(again.elastic_tensor_GPa, found.elastic_tensor_GPa, atol=1e-6)


CELLS = {
    "recipe": "charged_defect",
    **{key: LADDER[key] for key in ("structure", "supercell", "defect", "host")},
    "charged": {"charge": 2, "cells": [[2, 2, 2], [3, 3, 3]], "fit": {"terms": [1]}, "mott_littleton": False},
}


def test_cells_of_a_charged_defect(tmp_path, executor):
    expected, told = run(CELLS)
    found, states = run(CELLS, tmp_path, executor)
    assert states == told == {"cell 2x2x2": "done", "cell 3x3x3": "done"}
    for point, other in zip(found.points, expected.points, strict=True):
        assert point["energy_eV"] == pytest.approx(other["energy_eV"], abs=1e-8)
    records = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
    again, _ = run(CELLS, tmp_path)
    assert again.E_inf_eV == found.E_inf_eV
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()} == records


CHECKED = {
    "recipe": "single_point",
    "structure": elastic_cases.silicon(),
    "supercell": [2, 2, 2],
    "host": elastic_cases.SW,
    "qm": elastic_cases.engine(elastic_cases.T3),
    "region": {"core": {"hops": 1}, "buffer": {"hops": 0}},
    "caps": {"kind": "none"},
    "coupling": {"scheme": "subtractive"},
}


def test_questions_of_a_trust_report(tmp_path, executor):
    def checked(workdir=None, **options):
        study, states = Study.from_mapping(CHECKED, schemas=recipebook.schemas()), {}
        with build_model(study, log_dir=workdir) as model, watched(states.__setitem__):
            return check_boundary(model, buffers=[0, 1], nve_steps=3, **options), states

    expected, told = checked()
    found, states = checked(tmp_path, executor=executor)
    assert states == told
    assert set(states) == {"patch test", "mismatch", "energy drift", "buffer 0 hops", "buffer 1 hop"}
    for test, other in zip(found.tests, expected.tests, strict=True):
        assert test["value"] == pytest.approx(other["value"], abs=1e-5)
        assert {**test, "value": 0} == {**other, "value": 0}
    assert found.warnings == expected.warnings
    assert found.buffer_series.reference == expected.buffer_series.reference
