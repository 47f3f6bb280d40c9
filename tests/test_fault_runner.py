"""`make test-faults` sees what it is there to see; a few of its kills."""

from __future__ import annotations

import json

import pytest
from faults import run


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"seconds": {"run": 9.0}}, True),
        ({"trace": {"seconds": [3.0], "energy_eV": [1.0]}}, True),
        ({"trace": {"seconds": [1.0], "energy_eV": [1.0 + 2e-16]}}, False),
        ({"energy_eV": 2.0}, False),
        ({"energy_eV": None}, False),
    ],
)
def test_results_are_the_same_but_for_times(tmp_path, changes, same):
    result = {"energy_eV": 1.0, "seconds": {"run": 1.0}, "trace": {"seconds": [1.0], "energy_eV": [1.0]}}
    for name, content in (("one", result), ("other", result | changes)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json.dumps(content))
    words = []
    assert run.same_result(tmp_path / "one", tmp_path / "other", words) == same
    assert bool(words) != same


def test_what_is_lost_is_counted(tmp_path):
    for name in ("a", "b", "c", "checkpoint"):
        (tmp_path / f"{name}.npz").write_text(name)
    before = run.contents(tmp_path)
    (tmp_path / "a.npz").unlink()
    (tmp_path / "b.npz").write_text("half")
    (tmp_path / "checkpoint.npz").write_text("of a later step")
    words = []
    assert run.lost(before, run.contents(tmp_path), words) == 2
    assert [word.split()[1] for word in words] == ["a.npz", "b.npz"]


@pytest.mark.slow
def test_runs_survive_kills(capsys):
    assert run.main(["--kills", "4", "--only", "elastic_tensor", "--only", "charged_defect"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["all", "4", "4", "0", "0"]
