"""Independent tasks: one after the other, or through any executor of the concurrent.futures kind."""

from __future__ import annotations

import json
import os
import re
import socket
import tempfile
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree

from solidqmmm.errors import SolidQMMMError, TaskError
from solidqmmm.procedures.parallel.task_states import DONE, FAILED, RUNNING, tell, tell_waiting, told
from solidqmmm.procedures.parallel.task_worker import Order, died, logs_of, stop_mark, work

_LOOK = 0.2  # seconds between looks at what workers leave in the folder
_PATIENCE = 10.0  # seconds that a rank which failed waits for the others
_LAST_WORDS = 5.0  # seconds between the words of a worker that ends itself and the notice of its executor
_LATE = 30.0  # seconds after which a task that ought to have ended itself is given up


def map_tasks(
    function: Callable, tasks: Iterable, *, executor: Executor | None = None, report: Callable | None = None,
    names: Iterable[str] | None = None, directory=None,
) -> list:  # fmt: skip
    """The results of `function(task)`, in the order of the tasks.

    Args:
        function: A function of a module (executors of other processes import it), whose result is no list.
        tasks: Its arguments; they must be picklable where the executor works in other processes.
        executor: Where to compute; here and one after the other without one. Of one by `executors.open_executor` it is known
            how many tasks it takes at a time, how long a task may take, and where its workers leave marks.
        report: Called as report(result) as each is done.
        names: What each task is called in errors and where progress is shown; different from each other.
        directory: Folder of the run, for errors.

    Raises:
        Exception: The first one that a task raises, with `task` (its name) and `directory` if it is a SolidQMMMError; tasks
            that were not begun are cancelled.
        TaskError: If a worker dies, a task takes longer than it may, or one of its MPI ranks fails alone.
    """
    tasks = list(tasks)
    named = names is not None
    names = list(names) if named else [f"{function.__name__} {n + 1}" for n in range(len(tasks))]
    report = report or (lambda _: None)
    tell_waiting(names)
    if executor is None:
        results = []
        for name, task in zip(names, tasks, strict=True):
            with _named(name if named else None, directory), told(name):
                results.append(function(task))
            report(results[-1])
        return results
    with _marks(executor) as folder:
        timeout = getattr(executor, "task_timeout", None)
        # Of a rank that fails alone its own words say more than that the others took too long.
        patience = _PATIENCE if timeout is None else min(_PATIENCE, timeout / 2)
        home = socket.gethostname(), os.getpid()
        orders = [
            Order(function, task, name, f"{n:05d}", str(folder), home, timeout, patience)
            for n, (name, task) in enumerate(zip(names, tasks, strict=True))
        ]
        return _Driver(executor, orders, folder, directory if named else None).results(report)


class _Driver:
    """Hands out tasks, and looks at what becomes of them."""

    def __init__(self, executor: Executor, orders: list[Order], folder: Path, directory):
        self.executor, self.orders, self.folder, self.directory = executor, orders, folder, directory
        self.limit = getattr(executor, "limit", None) or len(orders)
        self.waiting = deque(range(len(orders)))
        self.at_work: dict[Future, int] = {}
        self.begun: dict[int, float] = {}

    def results(self, report: Callable) -> list:
        found: dict[int, object] = {}
        try:
            while self.waiting or self.at_work:
                while self.waiting and len(self.at_work) < self.limit:
                    n = self.waiting.popleft()
                    self.at_work[self._submitted(n)] = n
                done, _ = wait(self.at_work, timeout=_LOOK, return_when=FIRST_COMPLETED)
                self._look()
                for future in sorted(done, key=self.at_work.__getitem__):
                    n = self.at_work.pop(future)
                    found[n] = _of_one_rank(self._result(future, n))
                    tell(self.orders[n].name, DONE)
                    report(found[n])
        except BaseException as error:
            if getattr(self.executor, "cancels", True):
                for future in self.at_work:
                    future.cancel()
            if not isinstance(error, Exception):
                self._stop()
            raise
        return [found[n] for n in range(len(self.orders))]

    def _submitted(self, n: int) -> Future:
        try:
            return self.executor.submit(work, self.orders[n])
        except BrokenExecutor:
            raise self._died(n) from None

    def _look(self):
        """Who has begun; TaskError for who left last words, or is long overdue, before the executor notices."""
        for n in sorted(self.at_work.values()):
            order = self.orders[n]
            if n not in self.begun and order.mark("begun").exists():
                self.begun[n] = time.monotonic()
                tell(order.name, RUNNING)
            if n not in self.begun:
                continue
            words = self._words(n)
            if words is not None:
                with suppress(Exception):  # whatever the executor makes of it; the words say more
                    next(f for f, k in self.at_work.items() if k == n).result(timeout=_LAST_WORDS)
                raise self._failed(n, words)
            if order.timeout and time.monotonic() - self.begun[n] > order.timeout + _LATE:
                self._stop()
                raise self._failed(n, _too_long(order, "; its worker did not end itself"))

    def _result(self, future: Future, n: int):
        order = self.orders[n]
        try:
            with _named(order.name, self._folder(order.name)):
                return future.result()
        except BaseException as error:
            if not isinstance(error, Exception):
                raise
            if n not in self.begun and order.mark("begun").exists():
                tell(order.name, RUNNING)
            words = self._words(n)
            if words is not None:
                raise self._failed(n, words) from None
            if _lost(error):
                raise self._died(n) from None
            tell(order.name, FAILED)
            if getattr(error, "of_solidqmmm", False):
                # Here its words are as good as there: no traceback of the executor's.
                raise error.with_traceback(None) from None
            raise

    def _died(self, n: int) -> TaskError:
        """One worker takes the others of its pool along: who was at work when it died is whom to name."""
        suspects = [k for k in [n, *sorted(self.at_work.values())] if self.orders[k].mark("begun").exists()]
        k = suspects[0] if suspects else n
        words = self._words(k)
        if words is not None:
            return self._failed(k, words)
        tell(self.orders[k].name, FAILED)
        return died(self.orders[k].name, self._folder(self.orders[k].name))

    def _failed(self, n: int, words: str) -> TaskError:
        name = self.orders[n].name
        tell(name, FAILED)
        return TaskError(words, task=name, directory=self._folder(name))

    def _folder(self, name: str):
        """Where the logs of a task are; the run folder where it has left none."""
        logs = None if self.directory is None else logs_of(self.directory, name)
        return logs if logs is not None and logs.is_dir() else self.directory

    def _words(self, n: int) -> str | None:
        """What a worker wrote down before it ended itself."""
        order = self.orders[n]
        with suppress(OSError, ValueError):
            said = json.loads(order.mark("words").read_text())
            return (
                f"the task '{order.name}' failed on rank {said['rank']} of {said['ranks']} alone, and the others waited for "
                f"it: {said['error']}"
            )
        for path in sorted(self.folder.glob(f"{order.key}.stuck.*")):
            with suppress(OSError):
                if text := path.read_text():
                    return _too_long(order, _where(text))
        return None

    def _stop(self):
        """Ends all workers of these tasks, also on other machines that see the folder."""
        with suppress(OSError):
            stop_mark(self.folder).touch()
        wait(self.at_work, timeout=_LAST_WORDS)


def _too_long(order: Order, more: str) -> str:
    return (
        f"the task '{order.name}' did not end within {order.timeout:g} s (`task_timeout`) and was ended{more}. If it only "
        "needs longer, give a larger task_timeout; the same command goes on, and what is finished is not lost"
    )


def _where(dump: str) -> str:
    """The innermost calls of the main thread, the last one of the dump."""
    frames = re.findall(r'File "(.+)", line (\d+) in (\S+)', re.split(r"^Thread .+$", dump, flags=re.M)[-1])
    inner = [f"{name} ({Path(file).name}, line {line})" for file, line, name in frames[:3]]
    return f"; it was in {', called by '.join(inner)}" if inner else ""


def _lost(error: Exception) -> bool:
    """Whether an executor says that a worker is gone."""
    of_a_job = isinstance(error, RuntimeError) and "terminated without producing output" in str(error)
    return isinstance(error, BrokenExecutor) or type(error).__name__ == "ExecutorlibSocketError" or of_a_job


@contextmanager
def _named(name: str | None, directory) -> Iterator[None]:
    """Errors of the task inside say which it is."""
    try:
        yield
    except SolidQMMMError as error:
        if name is not None and error.task is None:
            error.task = name
        if directory is not None and error.directory is None:
            error.directory = Path(directory)
        raise
    except Exception as error:
        if name is not None:
            error.add_note(f"in the task '{name}'" + ("" if directory is None else f" of {directory}"))
        raise


@contextmanager
def _marks(executor) -> Iterator[Path]:
    """A folder of this series for what workers leave; gone afterwards."""
    parent = getattr(executor, "folder", None)
    if parent is None:
        folder = Path(tempfile.mkdtemp(prefix="solidqmmm_tasks_"))
    else:
        folder = Path(parent).resolve() / uuid.uuid4().hex[:12]
        folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        rmtree(folder, ignore_errors=True)
        if parent is not None:
            with suppress(OSError):
                Path(parent).rmdir()


def _of_one_rank(result):
    """Executors that start several MPI ranks for a task return a list of results, one for each rank."""
    return result[0] if isinstance(result, list) else result
