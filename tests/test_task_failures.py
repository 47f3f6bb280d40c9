"""What goes wrong in workers: ranks that fail alone, workers that die, tasks that hang. Nobody waits, nobody is left."""

from __future__ import annotations

import os
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import worker_tasks

from solidqmmm.errors import EngineError, SolidQMMMError, TaskError
from solidqmmm.procedures.parallel import tasks
from solidqmmm.procedures.parallel.executors import local_executor
from solidqmmm.procedures.parallel.task_states import watched
from solidqmmm.procedures.parallel.tasks import map_tasks

NAMES = ["xx +0.1", "xx -0.1", "yz +0.1"]


@pytest.fixture
def workers(tmp_path, monkeypatch):
    """A folder in which tasks leave the numbers of their processes; none of them lives when the test is over."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr(tasks, "_PATIENCE", 1.0)
    folder = tmp_path / "workers"
    folder.mkdir()
    yield folder
    numbers = [path.name for path in folder.iterdir() if path.name.isdigit() and int(path.name) != os.getpid()]
    deadline = time.monotonic() + 10
    while any(lives(Path("/proc", number)) for number in numbers):
        assert time.monotonic() < deadline, "a worker is left behind"
        time.sleep(0.05)


def lives(worker: Path) -> bool:
    """By its folder in /proc; of what is dead, and waited for by nobody, the command is empty."""
    try:
        return bool((worker / "cmdline").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return False


def mapped(function, executor, folder, *, names=NAMES, **options):
    """The results of three tasks, and what was told of them."""
    said = []
    with watched(lambda name, state: said.append((name, state))):
        found = map_tasks(function, [(str(folder), n) for n in range(3)], executor=executor, names=names, **options)
    return found, said


def failure(function, executor, folder, kind=TaskError, *, within=30.0, **options):
    """The error that ends the tasks; it comes soon, says which task, and the executor ends after it."""
    begun = time.monotonic()
    with pytest.raises(kind) as raised, executor:
        mapped(function, executor, folder, directory=folder, **options)
    assert time.monotonic() - begun < within
    return raised.value


# --- ranks ----------------------------------------------------------------------------------------------------


def test_ranks_work_together_and_one_of_them_answers(workers):
    with local_executor(1, 2, task_timeout=60) as executor:
        found, said = mapped(worker_tasks.summed, executor, workers)
        assert found == [0, 3, 6]
        assert mapped(worker_tasks.squared, executor, workers)[0] == [0, 1, 4]
    assert {state for _, state in said} == {"waiting", "running", "done"}


def test_an_error_of_one_rank_at_the_end_is_that_of_all(workers):
    error = failure(worker_tasks.raises_on_rank_1_at_the_end, local_executor(1, 2), workers, EngineError)
    assert error.task == "xx -0.1"
    assert error.directory == workers
    assert "the SCF cycle of rank 1 did not converge" in str(error)
    assert "task: xx -0.1" in str(error)
    assert "raises_on_rank_1_at_the_end" in "".join(error.__notes__), "the traceback of the worker"


def test_an_error_of_one_rank_that_others_wait_for(workers):
    error = failure(worker_tasks.raises_on_rank_1_before_a_collective, local_executor(1, 2), workers)
    assert error.task == "xx -0.1"
    assert error.directory == workers
    assert "failed on rank 1 of 2 alone" in str(error)
    assert "the SCF cycle of rank 1 did not converge" in str(error)


@pytest.mark.parametrize("code", [0, 3])
def test_a_rank_that_dies(workers, code):
    begun = time.monotonic()
    with pytest.raises(TaskError, match="'xx -0\\.1' has died without a word") as raised, local_executor(1, 2) as executor:
        map_tasks(
            worker_tasks.exits_on_rank_1, [(str(workers), n, code) for n in range(3)], executor=executor, names=NAMES
        )
    assert raised.value.task == "xx -0.1"
    assert time.monotonic() - begun < 30


def test_a_rank_that_hangs_inside_mpi(workers):
    error = failure(worker_tasks.waits_for_rank_1_for_ever, local_executor(1, 2, task_timeout=2.0), workers)
    assert "the task 'xx -0.1' did not end within 2 s (`task_timeout`)" in str(error)


# --- workers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", [1, 2, "processes"])
def test_a_worker_that_dies_is_named_and_kills_no_other(workers, pool):
    """executorlib hands the task of a dead worker to the next one; concurrent.futures gives the whole pool up."""
    spawned = ProcessPoolExecutor(2, mp_context=get_context("spawn")) if pool == "processes" else local_executor(pool)
    error = failure(worker_tasks.exits, spawned, workers)
    assert error.task == "xx -0.1"
    assert "has died without a word" in str(error)


def test_a_task_that_sleeps_for_ever(workers):
    error = failure(worker_tasks.sleeps_for_ever, local_executor(2, task_timeout=1.5), workers)
    assert error.task == "xx -0.1"
    assert "did not end within 1.5 s (`task_timeout`)" in str(error)
    assert "sleeps_for_ever (worker_tasks.py, line " in str(error), "where it was"


def test_tasks_within_their_time_are_left_in_peace(workers):
    """The time is that of each task, not of all."""
    with local_executor(1, task_timeout=2.0) as executor:
        names = [str(n) for n in range(6)]
        found = map_tasks(
            worker_tasks.takes_a_while, [(str(workers), 1.5)] * 2 + [(str(workers), 1)] * 4, executor=executor, names=names
        )
    assert found == [1.5, 1.5, 1, 1, 1, 1]


def test_what_does_not_travel_is_said_in_words(workers):
    error = failure(worker_tasks.raises_what_does_not_pickle, local_executor(1), workers, SolidQMMMError)
    assert "Local: of a library" in str(error)
    assert error.task == "xx +0.1"


def test_what_is_at_work_when_another_fails_is_finished(workers):
    """Its record is worth waiting for; what was not begun is not."""
    with pytest.raises(ZeroDivisionError), local_executor(2) as executor:
        map_tasks(worker_tasks.fails_when_another_has_begun, [(str(workers), n) for n in (0, 2, 3, 4)], executor=executor)
    assert (workers / "done_2").exists()
    assert not (workers / "done_4").exists()


def test_an_interruption_of_the_driver_ends_the_workers(workers):
    def interrupted(_):
        raise KeyboardInterrupt

    begun, given = time.monotonic(), [(str(workers), n) for n in (0, 1, 1)]
    with pytest.raises(KeyboardInterrupt), local_executor(2) as executor:
        map_tasks(worker_tasks.sleeps_for_ever, given, executor=executor, report=interrupted)
    assert time.monotonic() - begun < 20


# --- what is told ---------------------------------------------------------------------------------------------


def fails_at_one(task):
    if task[1] == 1:
        raise EngineError("no")
    return task[1]


@pytest.mark.parametrize("pool", [None, "threads"])
def test_states_are_told(tmp_path, pool):
    said = []
    executor = None if pool is None else ThreadPoolExecutor(1)
    with watched(lambda name, state: said.append((name, state))), pytest.raises(EngineError) as raised:
        map_tasks(fails_at_one, [(None, n) for n in range(3)], executor=executor, names=NAMES, directory=tmp_path)
    assert raised.value.task == "xx -0.1"
    assert said[:3] == [(name, "waiting") for name in NAMES]
    assert [entry for entry in said if entry[1] in ("done", "failed")] == [("xx +0.1", "done"), ("xx -0.1", "failed")]
    if pool is None:
        assert said.index(("xx +0.1", "running")) < said.index(("xx +0.1", "done"))


def test_nobody_needs_to_listen(tmp_path):
    assert map_tasks(squared_here, [1, 2]) == [1, 4]


def squared_here(n):
    return n * n


@pytest.mark.parametrize("kind", [ArithmeticError, EngineError])
def test_errors_without_names_stay_as_they_are(kind):
    def task(n):
        raise kind("as it was")

    with pytest.raises(kind) as raised:
        map_tasks(task, [1])
    assert str(raised.value) == "as it was"
    assert not getattr(raised.value, "__notes__", [])
