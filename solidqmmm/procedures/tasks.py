"""Independent tasks: one after the other, or through any executor of the concurrent.futures kind."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, as_completed
from pathlib import Path


def map_tasks(
    function: Callable, tasks: Iterable, *, executor: Executor | None = None, report: Callable | None = None
) -> list:
    """The results of `function(task)`, in the order of the tasks.

    Args:
        function: A function of a module (executors of other processes import it), whose result is no list.
        tasks: Its arguments; they must be picklable where the executor works in other processes.
        executor: Where to compute; here and one after the other without one.
        report: Called as report(result) as each is done.

    Raises:
        Exception: The first one that a task raises; tasks that were not begun are cancelled.
    """
    tasks = list(tasks)
    report = report or (lambda _: None)
    if executor is None:
        results = []
        for task in tasks:
            results.append(function(task))
            report(results[-1])
        return results
    home = socket.gethostname(), os.getpid()
    futures = [executor.submit(_tethered, home, function, task) for task in tasks]
    try:
        for future in as_completed(futures):
            report(_of_one_rank(future.result()))
    except BaseException:
        for future in futures:
            future.cancel()
        raise
    return [_of_one_rank(future.result()) for future in futures]


def _tethered(home, function, task):
    """The result of a task, in a worker that does not outlive who asked for it.

    Not every executor ends its workers when its own process is killed: these would wait for ever, or go on computing
    beside the workers of the run that goes on.
    """
    host, process = home
    if host == socket.gethostname() and process != os.getpid() and process not in _WATCHED:
        _WATCHED.add(process)
        threading.Thread(target=_end_with, args=(process,), daemon=True).start()
    return function(task)


_WATCHED: set[int] = set()


def _end_with(process: int):
    parent = os.getppid()  # that process, or the launcher of the ranks
    while os.getppid() == parent:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            break
        time.sleep(1.0)
    os._exit(1)


def _of_one_rank(result):
    """Executors that start several MPI ranks for a task return a list of equal results, one for each rank."""
    return result[0] if isinstance(result, list) else result


def local_executor(workers: int, ranks: int = 1) -> Executor:
    """executorlib's executor on this machine: `workers` tasks side by side, each on `ranks` MPI ranks.

    Raises:
        ValueError: For numbers below one.
    """
    if workers < 1 or ranks < 1:
        raise ValueError(f"`workers` and `ranks` must be at least 1, got {workers} and {ranks}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # executorlib's own, of its ways with pydantic
        from executorlib import SingleNodeExecutor

    # Workers must find the mpiexec that belongs to this environment's MPI.
    own = str(Path(sys.executable).parent)
    if os.environ.get("PATH", "").split(os.pathsep)[0] != own:
        os.environ["PATH"] = os.pathsep.join([own, os.environ.get("PATH", "")])
    # With block_allocation a worker serves many tasks: starting one takes as long as a small task.
    return SingleNodeExecutor(max_workers=workers, resource_dict={"cores": ranks}, block_allocation=True)
