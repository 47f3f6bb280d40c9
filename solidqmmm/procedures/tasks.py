"""Independent tasks: one after the other, or through any executor of the concurrent.futures kind."""

from __future__ import annotations

import os
import sys
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
    futures = [executor.submit(function, task) for task in tasks]
    try:
        for future in as_completed(futures):
            report(_of_one_rank(future.result()))
    except BaseException:
        for future in futures:
            future.cancel()
        raise
    return [_of_one_rank(future.result()) for future in futures]


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
    from executorlib import SingleNodeExecutor

    # Workers must find the mpiexec that belongs to this environment's MPI.
    own = str(Path(sys.executable).parent)
    if os.environ.get("PATH", "").split(os.pathsep)[0] != own:
        os.environ["PATH"] = os.pathsep.join([own, os.environ.get("PATH", "")])
    return SingleNodeExecutor(max_workers=workers, resource_dict={"cores": ranks})
