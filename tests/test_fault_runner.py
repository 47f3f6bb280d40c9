"""`make test-faults` sees what it is there to see; a few of its kills."""

from __future__ import annotations

import json

import pytest
from faults import harm, run


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
    assert harm.same_result(tmp_path / "one", tmp_path / "other", words) == same
    assert bool(words) != same


def test_what_is_lost_is_counted(tmp_path):
    for name in ("a", "b", "c", "checkpoint"):
        (tmp_path / f"{name}.npz").write_text(name)
    before = harm.contents(tmp_path)
    (tmp_path / "a.npz").unlink()
    (tmp_path / "b.npz").write_text("half")
    (tmp_path / "checkpoint.npz").write_text("of a later step")
    words = []
    assert harm.lost(before, harm.contents(tmp_path), words) == 2
    assert [word.split()[1] for word in words] == ["a.npz", "b.npz"]


def test_the_plan_has_every_kind_and_a_hundred_kills():
    rows = run.planned(100, run.PLANS)
    kills = [row for row in rows if row[0].startswith("SIGKILL")]
    assert sum(times for *_, times in kills) == 100
    assert {name for _, name, _ in kills} == set(run.RECIPES)
    assert {kind for kind, *_ in rows} == set(run.PLANS)
    assert {kind.partition(" on ")[0] for kind in run.PLANS} == set(harm.KINDS)
    assert run.planned(100, ["SIGKILL"], ["fracture"]) == [("SIGKILL", "fracture", 12)]
    assert [sum(times for *_, times in run.planned(kills, run.PLANS)) > 0 for kills in (0, 12)] == [False, True]


def test_the_table_adds_pieces_up():
    one = {"kind": "SIGKILL", "study": "fracture", "injected": 4, "recovered": 4, "lost": 0, "different": 0}
    said = [line.split() for line in run.table([one, one, {**one, "kind": "disk full", "lost": 1}]).splitlines()]
    assert said[1:] == [
        ["SIGKILL", "fracture", "8", "8", "0", "0"], ["disk", "full", "fracture", "4", "4", "1", "0"],
        ["all", "12", "12", "1", "0"],
    ]  # fmt: skip
    assert run.clean([one])
    for wrong in ({"recovered": 3}, {"lost": 1}, {"different": 1}):
        assert not run.clean([one, one | wrong])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "study", "faults"),
    [("SIGKILL", "elastic_tensor", 1), ("SIGTERM, SIGINT", "dynamics", 4), ("lost atoms", "dynamics", 1)],
)
def test_runs_survive(kind, study, faults, tmp_path, capsys):
    arguments = ["--kills", "8" if faults == 1 else "100", "--kind", kind, "--only", study]
    assert run.main([*arguments, "--counts", str(tmp_path / "counts.json")]) == 0
    counts = [str(faults), str(faults), "0", "0"]
    assert capsys.readouterr().out.splitlines()[-1].split() == ["all", *counts]
    assert len(json.loads((tmp_path / "counts.json").read_text())) == 1
