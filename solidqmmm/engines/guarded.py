"""What is asked of every engine whatever its code: an answer in finite time, in finite numbers.

An engine that hangs is ended in three steps, each for what the one before cannot reach:

1. after `timeout_s`: programs that it has started are killed, and an exception is raised in the thread that waits for it. So
   ends what waits in Python, for a file, a socket or a program.
2. `GRACE` seconds later, from another thread: the message is printed, and the process ends, with all MPI ranks. So ends what
   does not come back from a library in C.
3. the same time later, by an alarm of the operating system: Python prints where it was, and the process is gone. So ends a
   library that lets no other thread of Python run.

Every rank watches for itself, since none can be sure that the others still can.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path

import numpy as np

from solidqmmm.engines.protocols import Engine, Evaluation
from solidqmmm.errors import EngineError
from solidqmmm.runtime import all_ranks, is_root

CALLS = ("evaluate", "evaluate_in_field", "evaluate_with_potentials")
"""What an engine is asked."""

GRACE = 10.0
"""Seconds from one step to the next."""

_NUMBERS = (
    "energy", "forces", "stress", "charge_forces", "core_forces", "potentials", "fields", "site_potentials",
)  # fmt: skip
# Nobody's otherwise: what arrives too late is ignored, as the operating system does by itself.
_SIGNAL = signal.SIGURG
# Time that rank 0 has to speak before another one ends everything (s).
_MANNERS = 3.0

_watching = threading.local()


def guarded(engine: Engine, timeout_s: float | None = None, directory=None) -> Engine:
    """The engine, which from here on raises where an answer is not finite or does not come.

    Args:
        engine: Any engine.
        timeout_s: Seconds that one call may take; None for as long as it wants.
        directory: Run folder, for messages.

    Returns:
        The same object.
    """
    kind = type(engine)
    calls = {call: _guarded(kind, call, timeout_s, directory) for call in CALLS if hasattr(kind, call)}
    # A kind of its own and no methods hung on the object: a copy of the engine with other settings asks itself.
    engine.__class__ = type(kind.__name__, (kind,), {"__module__": kind.__module__, "__doc__": kind.__doc__, **calls})
    return engine


def _guarded(kind: type, call: str, timeout_s, directory) -> Callable:
    @wraps(getattr(kind, call))
    def answered(engine, atoms, *arguments, **options):
        def ask():
            return getattr(kind, call)(engine, atoms, *arguments, **options)

        who = engine.name
        if hasattr(engine, "calculator"):
            who += f" ({type(engine.calculator).__name__})"
        if timeout_s is None or getattr(_watching, "now", False):  # an engine may ask itself
            given = ask()
        else:
            words = (
                f"the engine {who} has not answered `{call}` for {len(atoms)} atoms within {timeout_s:g} s "
                "(`qm.timeout_s`): it hangs, or needs more time; look at its log. What was computed before is kept, and the "
                "same command goes on, with a longer `qm.timeout_s` if need be"
            )
            watch = _Watch(timeout_s, EngineError(words, directory=directory))
            given = watch.over(ask)
        require_finite(given, who, directory)
        return given

    return answered


def not_finite(given: Evaluation) -> str | None:
    """Which of an answer's numbers are none, in words; None if all is well."""
    for name in _NUMBERS:
        value = getattr(given, name, None)
        if value is not None and not np.isfinite(value).all():
            words = name.replace("_", " ")
            return words if np.ndim(value) == 0 else f"{words} (row {np.argwhere(~np.isfinite(value))[0][0]})"
    return None


def require_finite(given: Evaluation, who: str, directory=None):
    """Refuses an answer with numbers that are none.

    Raises:
        EngineError: Naming the engine, and which of its numbers they are.
    """
    bad = not_finite(given)
    if bad is not None:
        raise EngineError(
            f"the engine {who} gave numbers that are not finite: {bad}. Look at its log; atoms that overlap, or a "
            "calculation that did not converge, end like this",
            directory=directory,
        )


class _Watch:
    """Over one call, in the thread that makes it."""

    def __init__(self, seconds: float, error: EngineError):
        self.seconds, self.error = seconds, error
        self.caller = threading.get_ident()
        self.in_main = self.caller == threading.main_thread().ident
        self.begun = time.clock_gettime(time.CLOCK_MONOTONIC)
        self.overdue = False
        self._open = False
        self._over = threading.Event()
        self._lock = threading.Lock()

    def over(self, ask: Callable):
        """What `ask()` gives.

        Raises:
            EngineError: The one that was given, if it takes too long and can be ended.
        """
        before = _prepared_alarm(self, self.seconds + 2 * GRACE)
        _watching.now = True
        threading.Thread(target=self._watch, name="time limit of an engine", daemon=True).start()
        try:
            try:
                self._open = True
                return ask()
            finally:
                self._open = False  # from here on nothing is raised in the main thread
        except Exception as error:
            if self.overdue and error is not self.error:
                raise self.error from error
            raise
        finally:
            with self._lock:
                self._over.set()
                self._interrupt_no_more()
            _watching.now = False
            _restored(before)

    def _watch(self):
        if self._over.wait(self.seconds):
            return
        with self._lock:
            if self._over.is_set():
                return
            self.overdue = True
            _kill_children_since(self.begun)
            self._interrupt()
        if not self._over.wait(GRACE + (0.0 if is_root() else _MANNERS)):
            self._end()

    def _interrupt(self):
        if self.in_main:
            signal.pthread_kill(self.caller, _SIGNAL)
        else:
            self._raise_there(ctypes.py_object(_TimeIsUp))

    def _interrupt_no_more(self):
        if not self.in_main:
            self._raise_there(None)

    def _raise_there(self, kind):
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.caller), kind)

    def heard(self, *_):
        """In the main thread, as soon as Python runs there."""
        if self._open:
            self._open = False
            raise self.error

    def _end(self):
        """The process, and with it all ranks."""
        _say(f"\n{self.error}\nIt could not be interrupted: the process ends here.\n")
        if all_ranks().Get_size() > 1:
            time.sleep(0.5)  # the launcher forwards what was said before it hears of the abort
            # What MPI does at its end may wait for the thread that hangs.
            faulthandler.unregister(signal.SIGALRM)
            signal.setitimer(signal.ITIMER_REAL, 1.0)
            all_ranks().Abort(1)
        os._exit(1)


class _TimeIsUp(Exception):
    """In a thread that is not the main one, where signals do not arrive."""


def _prepared_alarm(watch: _Watch, seconds: float):
    """Handler of the signal that interrupts, and the alarm of last resort; what was there before."""
    if not watch.in_main:
        return None
    before = signal.signal(_SIGNAL, watch.heard), signal.signal(signal.SIGALRM, signal.SIG_DFL)
    with suppress(AttributeError, ValueError, OSError):  # no standard error to write to
        faulthandler.register(signal.SIGALRM, file=sys.__stderr__, chain=True)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    return before


def _restored(before):
    if before is None:
        return
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    faulthandler.unregister(signal.SIGALRM)
    signal.signal(_SIGNAL, before[0] or signal.SIG_DFL)
    signal.signal(signal.SIGALRM, before[1] or signal.SIG_DFL)


def _say(text: str):
    """Past Python's own files, which another thread may hold."""
    with suppress(OSError):
        if is_root():
            os.write(2, text.encode())


def _kill_children_since(begun: float):
    """Programs that were started after `begun` (of the monotonic clock), and theirs; where the system tells who they are."""
    parents, born = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, IndexError, ValueError):
            words = path.read_text().rpartition(")")[2].split()
            parents[int(path.parent.name)] = int(words[1])
            born[int(path.parent.name)] = int(words[19]) / os.sysconf("SC_CLK_TCK")
    # The system counts from its start, with the time that it slept.
    since = begun + time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC) if parents else begun
    doomed = {pid for pid, parent in parents.items() if parent == os.getpid() and born[pid] >= since - 0.05}
    while more := {pid for pid, parent in parents.items() if parent in doomed} - doomed:
        doomed |= more
    for pid in doomed:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
