"""One view of a run: steps and every task by name, the same whether tasks are done one after the other or side by side."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from solidqmmm.cli import progress
from solidqmmm.cli.progress import Progress
from solidqmmm.procedures.parallel.tasks import map_tasks
from solidqmmm.runtime import environment_for_subprocess


def squared(n):
    if n == 3:
        raise ArithmeticError("no")
    return n * n


def mapped(numbers, pool=None):
    map_tasks(squared, numbers, executor=pool, names=[f"strain {n}" for n in numbers])


@pytest.mark.parametrize("pool", [None, 2])
def test_every_task_is_in_the_view(capfd, pool):
    with Progress("elastic_tensor") as view:
        with ThreadPoolExecutor(2) if pool else open(os.devnull) as executor:
            mapped([0, 1, 2], executor if pool else None)
        assert view.tasks == {f"strain {n}": "done" for n in range(3)}
        assert view.lines() == ["elastic_tensor", "  tasks: 3 done"]
    assert capfd.readouterr().err == "", "what is soon over needs no words"
    mapped([4])  # nobody looks any more
    assert len(view.tasks) == 3


def test_what_runs_and_what_failed_is_named():
    view = Progress("charged_defect", show=False)
    view(1, 4, "216 atoms")
    for name, state in [("a", "done"), ("b", "running"), ("c", "waiting"), ("d", "failed"), ("e", "on record")]:
        view.task(name, state)
    first, *rest, last = view.lines()
    assert first.startswith("[######..................] 1 of 4, about ")
    assert first.endswith("charged_defect: 216 atoms")
    assert rest[0] == "  failed     d"
    assert rest[1].startswith("  running    b  ")
    assert last == "  tasks: 1 done, 1 on record, 1 running, 1 waiting, 1 failed"
    assert all(len(line) <= 20 for line in view.lines(20))


def test_many_tasks_do_not_fill_the_screen():
    view = Progress("elastic_tensor", show=False)
    for n in range(100):
        view.task(str(n), "running")
    lines = view.lines()
    assert len(lines) == 11
    assert lines[-2:] == ["  and 92 more", "  tasks: 100 running"]


def test_plain_lines_without_a_terminal(capfd, monkeypatch):
    with Progress("elastic_tensor") as view, pytest.raises(ArithmeticError):
        mapped([1, 3, 5])
    assert capfd.readouterr().err == "  task strain 3: failed (1 done, 1 waiting, 1 failed)\n"
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    with Progress("elastic_tensor") as view:
        view.task("strain 1", "waiting")
        view.task("strain 1", "running")
        view(1, 2, "largest force 0.01 eV/A")
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "  tasks: 1 running (strain 1)"
    assert lines[1].startswith("  1 of 2: largest force 0.01 eV/A, about ")
    assert lines[1].endswith("left; tasks: 1 running (strain 1)")
    monkeypatch.undo()
    with Progress("elastic_tensor", every_task=True):
        mapped([1])
    assert capfd.readouterr().err.splitlines() == ["  task strain 1: running (1 running)", "  task strain 1: done (1 done)"]


def test_other_ranks_are_silent(capfd):
    with Progress("elastic_tensor", show=False), pytest.raises(ArithmeticError):
        mapped([3])
    assert capfd.readouterr().err == ""


ON_TERMINAL = """
import time
from solidqmmm.cli.progress import Progress
from solidqmmm.procedures.parallel.tasks import map_tasks

def slow(n):
    time.sleep(0.6)
    return n

with Progress("elastic_tensor") as view:
    done = []
    map_tasks(slow, [1, 2], names=["xx +0.1", "yz +0.1"], report=lambda n: view(n, 2, "strains"))
print("over")
"""


def test_a_terminal_sees_it_renewed_and_gets_it_back():
    """On a real terminal (a pseudo one): the view with its tasks, gone at the end, and the cursor shown again."""
    ours, theirs = pty.openpty()
    environment = environment_for_subprocess() | {"TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen([sys.executable, "-c", ON_TERMINAL], stdin=theirs, stdout=theirs, stderr=theirs, env=environment):
        os.close(theirs)
        text, deadline = b"", time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            text += piece
    os.close(ours)
    text = text.decode()
    assert "running    xx +0.1" in text
    assert "running    yz +0.1" in text
    assert "tasks: 1 done, 1 running" in text
    assert "1 of 2, about" in text
    assert text.rindex("\x1b[?25h") > text.rindex("running")
    assert "over" in text[text.rindex("\x1b[?25h") :]
