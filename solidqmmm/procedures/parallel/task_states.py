"""Who is told of independent tasks: which there are, and whether each waits, runs, is done, was on record, or failed.

The library tells; the command line shows. What is told here does not depend on whether tasks are done one after the other or
side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

WAITING, RUNNING, DONE, KNOWN, FAILED = "waiting", "running", "done", "on record", "failed"

_watcher: ContextVar[Callable[[str, str], None] | None] = ContextVar("watcher of tasks", default=None)


@contextmanager
def watched(watcher: Callable[[str, str], None]) -> Iterator[None]:
    """Inside, `watcher(name, state)` hears of every task; states are the words of this module."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def tell(name: str, state: str):
    """Says that a task is in a state."""
    watcher = _watcher.get()
    if watcher is not None:
        watcher(name, state)


def tell_waiting(names: Iterable[str]):
    """Says which tasks there are, before the first begins."""
    for name in names:
        tell(name, WAITING)


def tell_known(names: Iterable[str]):
    """Says which tasks are on record."""
    for name in names:
        tell(name, KNOWN)


@contextmanager
def told(name: str) -> Iterator[None]:
    """A task that is done inside: running at first, then done, or failed where it raises."""
    tell(name, RUNNING)
    try:
        yield
    except BaseException:
        tell(name, FAILED)
        raise
    tell(name, DONE)
