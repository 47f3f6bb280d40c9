"""SIGINT and SIGTERM: a run that can stop at a whole step does so, all others end at once; and which of the two was asked.

Who can stop says so (`heeded`) and looks (`due`). The signal reaches a thread of its own at once, also while the main thread
is inside LAMMPS, where Python's own handlers would wait until it comes out.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from solidqmmm.runtime import largest

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# A launcher passes on what its ranks have got from the terminal already: within this time (s) a signal is the same one.
_ECHO = 2.0

_asked: tuple[int, float] | None = None
_heeding = 0


class Interruption(KeyboardInterrupt):
    """A run stopped at a whole step because a signal asked for it; its state is kept."""


def requested() -> int | None:
    """Number of the signal that has come, or None."""
    return None if _asked is None else _asked[0]


def exit_code() -> int:
    """128 + the signal's number, as shells have it: 130 for SIGINT, 143 for SIGTERM."""
    return 128 + (requested() or signal.SIGINT)


@contextmanager
def heeded() -> Iterator[None]:
    """Inside, somebody looks at `due` now and then, and keeps its state when it stops."""
    global _heeding
    _heeding += 1
    try:
        yield
    finally:
        _heeding -= 1


def due(communicator) -> bool:
    """Whether to stop, where somebody heeds it; collective, True on all ranks when the signal has reached one of them."""
    if not _heeding:
        return False
    mine = requested() or 0
    if communicator.Get_size() == 1:
        return mine > 0
    found = largest(communicator, mine)
    if found and not mine:
        _ask(found)
    return found > 0


@contextmanager
def watched(ended: Callable[[int], object], stopping: Callable[[int], object]) -> Iterator[None]:
    """Inside, signals are received; for the main thread of a command.

    Args:
        ended: Called with the signal before the process ends at once.
        stopping: Called with the signal where the run ends itself.
    """
    global _asked
    _asked = None
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    woken = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=_watch, args=(reader, ended, stopping), daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(woken)
        for number, handler in before.items():
            signal.signal(number, handler)
        writer.close()
        thread.join(timeout=1.0)
        reader.close()


def _watch(reader, ended, stopping):
    while number := reader.recv(1):
        if number[0] not in SIGNALS:
            continue
        echo = _asked is not None and time.monotonic() - _asked[1] < _ECHO
        if _heeding and _asked is None:
            _ask(number[0])
            stopping(number[0])
        elif not (_heeding and echo):
            _ask(number[0])
            with suppress(Exception):
                ended(number[0])
            os._exit(128 + number[0])


def _ask(number: int):
    global _asked
    _asked = (number, time.monotonic())
