"""Independent tasks through executors, and the records of what is finished."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from elastic_cases import SW, T3, model_of, silicon

from solidqmmm.procedures.parallel.executors import local_executor
from solidqmmm.procedures.parallel.tasks import map_tasks
from solidqmmm.procedures.records import Records, fingerprint
from solidqmmm.runtime import environment_for_subprocess

# --- tasks ----------------------------------------------------------------------------------------------------


def square(n):
    return n * n


def square_after_the_others(n):
    time.sleep(0.15 * (4 - n))
    return n * n


def list_from_each_rank(n):
    return [n * n, n * n]


@pytest.mark.parametrize("function", [square, square_after_the_others, list_from_each_rank])
def test_results_keep_the_order_of_the_tasks(function):
    reported = []
    with ThreadPoolExecutor(4) as executor:
        assert map_tasks(function, iter(range(4)), executor=executor, report=reported.append) == [0, 1, 4, 9]
    assert sorted(reported) == [0, 1, 4, 9]
    if function is square_after_the_others:
        assert reported == [9, 4, 1, 0], "reported as they are done"


def test_without_an_executor_one_after_the_other():
    reported = []

    def noted(n):
        assert len(reported) == n
        return square(n)

    assert map_tasks(noted, range(3), report=reported.append) == reported == [0, 1, 4]
    assert map_tasks(square, []) == []
    with ThreadPoolExecutor(1) as executor:
        assert map_tasks(square, [], executor=executor) == []


@pytest.mark.parametrize("workers", [None, 1])
def test_the_first_failure_is_raised_and_what_was_not_begun_is_cancelled(workers):
    begun, seen = [], threading.Event()

    def fails_at_one(n):
        begun.append(n)
        if n == 1:
            raise ArithmeticError(f"task {n}")
        if n == 2:
            seen.wait(10)  # may run when the failure is noticed; the ones after it have not begun
        return n

    if workers is None:
        with pytest.raises(ArithmeticError, match="task 1"):
            map_tasks(fails_at_one, range(9))
        assert begun == [0, 1]
        return
    with ThreadPoolExecutor(workers) as executor:
        with pytest.raises(ArithmeticError, match="task 1"):
            map_tasks(fails_at_one, range(9), executor=executor)
        seen.set()
    assert begun in ([0, 1], [0, 1, 2])


def test_a_report_that_raises_cancels_too():
    begun, go = [], threading.Event()

    def task(n):
        begun.append(n)
        if n:
            go.wait(10)
        return n

    def report(result):
        raise KeyboardInterrupt

    with ThreadPoolExecutor(1) as executor:
        with pytest.raises(KeyboardInterrupt):
            map_tasks(task, range(9), executor=executor, report=report)
        go.set()
    assert begun in ([0], [0, 1])


@pytest.mark.parametrize("numbers", [(0, 1), (1, 0), (-1, 1)])
def test_numbers_of_workers_that_make_no_sense(numbers):
    with pytest.raises(ValueError, match="at least 1"):
        local_executor(*numbers)


WAITING = """
import os, time
from pathlib import Path

def waits(folder):
    Path(folder, str(os.getpid())).touch()
    time.sleep(600)
"""
ASKING = """
import sys
from solidqmmm.procedures.parallel.executors import local_executor
from solidqmmm.procedures.parallel.tasks import map_tasks
from waiting import waits

with local_executor(2) as executor:
    map_tasks(waits, [sys.argv[1]] * 2, executor=executor)
"""


def lives(worker: Path) -> bool:
    """By its folder in /proc; of what is dead, and waited for by nobody, the command is empty."""
    try:
        return bool((worker / "cmdline").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="this system does not tell of its processes")
def test_workers_end_with_the_run_that_is_killed(tmp_path):
    (tmp_path / "waiting.py").write_text(WAITING)
    (tmp_path / "workers").mkdir()
    command = [sys.executable, "-c", ASKING, str(tmp_path / "workers")]
    environment = environment_for_subprocess() | {"PYTHONPATH": str(tmp_path)}
    with subprocess.Popen(command, env=environment) as process:
        deadline = time.monotonic() + 60
        while len(workers := [Path("/proc", path.name) for path in (tmp_path / "workers").iterdir()]) < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert all(map(lives, workers))
        process.kill()
    deadline = time.monotonic() + 20
    while any(map(lives, workers)):
        assert time.monotonic() < deadline, "workers outlive the run that asked for them"
        time.sleep(0.05)


# --- records --------------------------------------------------------------------------------------------------

ARRAYS = {"number": 3, "size": 0.1, "field": np.arange(6.0).reshape(2, 3), "empty": np.empty((0, 3))}


def test_records_give_back_what_was_written(tmp_path):
    records = Records(tmp_path / "not/made/yet", "mine")
    assert records.read("a/b_+0.001") is None
    records.write("a/b_+0.001", **ARRAYS)
    found = Records(str(tmp_path / "not/made/yet"), "mine").read("a/b_+0.001")
    assert found.keys() == ARRAYS.keys()
    for key, value in ARRAYS.items():
        np.testing.assert_array_equal(found[key], value)
    assert [path.name for path in (tmp_path / "not/made/yet/a").iterdir()] == ["b_+0.001.npz"]
    assert records.read("a/b_+0.0010001") is None


def test_records_of_something_else_count_as_absent(tmp_path):
    Records(tmp_path, "mine").write("a", **ARRAYS)
    others = Records(tmp_path, "another's")
    assert others.read("a") is None
    others.write("a", number=4)
    assert others.read("a")["number"] == 4
    assert Records(tmp_path, "mine").read("a") is None


@pytest.mark.parametrize("damage", ["cut", "emptied", "overwritten", "no fingerprint"])
def test_damaged_records_are_ignored_and_told(tmp_path, caplog, damage):
    records = Records(tmp_path, "mine")
    records.write("a", **ARRAYS)
    path = tmp_path / "a.npz"
    if damage == "no fingerprint":
        np.savez(path, **ARRAYS)
    else:
        whole = path.read_bytes()
        path.write_bytes({"cut": whole[: len(whole) // 2], "emptied": b"", "overwritten": b"x" * 500}[damage])
    assert records.read("a") is None
    assert "damaged record" in caplog.text
    records.write("a", **ARRAYS)
    assert records.read("a")["number"] == 3


def test_without_a_folder_nothing_is_kept():
    records = Records(None, "mine")
    records.write("a", **ARRAYS)
    assert records.read("a") is None


def test_what_cannot_be_written_costs_nothing_but_the_record(tmp_path, caplog):
    (tmp_path / "full").write_text("a file where the folder should be")
    records = Records(tmp_path / "full", "mine")
    records.write("a", **ARRAYS)
    assert "was not written" in caplog.text
    assert records.read("a") is None


def test_fingerprints_tell_what_determines_a_record():
    def of(more=None, **changes):
        with model_of(**changes) as model:
            return fingerprint(model, **({"fmax": 1e-4} | (more or {})))

    base = of()
    assert of() == base
    moved = silicon().with_positions(silicon().positions + 1e-6 * np.eye(8, 3))
    others = [
        of({"fmax": 1e-5}),
        of({"frame": [[1.0]]}),
        of(host=T3),
        of(supercell=[2, 1, 1]),
        of(structure=silicon(5.432)),
        of(structure=moved),
        of(elastic={"cell": "fixed"}),
        of(host=None, qm={"engine": "lammps", **SW}),
        of(host=None, qm={"engine": "lammps", **T3}),
    ]
    assert len({base, *others}) == len(others) + 1
