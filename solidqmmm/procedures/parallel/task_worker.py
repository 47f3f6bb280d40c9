"""What a worker does with a task: it ends with who asked, all its ranks agree on failure, and it does not hang for ever.

Executors that give a task several MPI ranks wait for an answer of all. A rank that raises alone leaves the others in a
collective call, and the whole for ever. So every rank comes to a barrier of its own channel after the task; one that has
failed waits there for a while, writes its last words to a file that the driver reads, and aborts all.

A task that takes longer than it may is ended by a thread in C (`faulthandler`), which needs no help from the interpreter:
also inside a library that does not come back. It writes down where the task was.
"""

from __future__ import annotations

import faulthandler
import json
import os
import re
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from solidqmmm.errors import SolidQMMMError, TaskError
from solidqmmm.rank_halves import patient
from solidqmmm.runtime import agree_on_failure, outlives_pickling
from solidqmmm.system.whole_file import written_whole

# Threads of one process share MPI and LAMMPS's globals: what opens engines in a task holds this.
ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Order:
    """A task on its way to a worker.

    Attributes:
        function: What to call.
        task: Its argument.
        name: Of the task, for people.
        key: Of the task, for files.
        folder: Where the worker leaves marks for whoever asked; it may be out of reach from another machine.
        home: Host and process that asked.
        timeout: Seconds that the task may take, or None.
        patience: Seconds that a rank which failed waits for the others.
    """

    function: Callable
    task: Any
    name: str
    key: str
    folder: str
    home: tuple[str, int]
    timeout: float | None = None
    patience: float = 10.0

    def mark(self, kind: str) -> Path:
        """File of this task: 'begun', 'words' (of a rank that failed alone), 'stuck' (where a task hung)."""
        return Path(self.folder, f"{self.key}.{kind}")


def logs_in(folder) -> Path:
    """Where engines write their logs: in a worker a folder of the task that it is at, so that neighbours do not mix."""
    return logs_of(folder, _at_work[-1].name) if _at_work else Path(folder)


def logs_of(folder, name: str) -> Path:
    """Folder of a task's logs in a run folder."""
    return Path(folder, "tasks", re.sub(r"[^\w.+-]+", "_", name))


def stop_mark(folder) -> Path:
    """File whose appearance ends all workers that are at work on tasks of a folder."""
    return Path(folder, "stop")


def work(order: Order):
    """The result of a task; of several MPI ranks only the first returns it.

    Raises:
        TaskError: If a worker has died of this task before.
        Exception: What the task raises, on all ranks the same.
    """
    if order.home == (socket.gethostname(), os.getpid()):  # a thread of whoever asked
        with suppress(OSError):
            order.mark("begun").touch()
        return order.function(order.task)
    tethered(order.home)
    channel = _channel()
    rank = 0 if channel is None else channel.Get_rank()
    _begin(order, channel, rank)
    result, error = None, None
    _at_work.append(order)
    try:
        with _timed(order, rank):
            try:
                result = order.function(order.task)
            except Exception as caught:
                error = _portable(caught)
            if channel is not None:
                _meet(order, channel, error)
    finally:
        _at_work.pop()
    if channel is None and error is not None:
        raise error
    return result if rank == 0 else None


# --- ranks ----------------------------------------------------------------------------------------------------

_channels: list = []


def _channel():
    """A communicator of the worker's ranks that nobody else uses; None where the worker is alone."""
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is None or not mpi.Is_initialized() or mpi.COMM_WORLD.Get_size() == 1:
        return None
    if not _channels:
        _channels.append(mpi.COMM_WORLD.Dup())
    return _channels[0]


def _meet(order: Order, channel, error):
    """All ranks come here after the task; raises the same on all if any has failed."""
    if not patient(channel.Ibarrier(), seconds=float("inf") if error is None else order.patience):
        _leave_alone(order, channel, error)
    agree_on_failure(channel, error)


def _leave_alone(order: Order, channel, error):
    """The others are in a collective call that this rank will never join."""
    text = "".join(traceback.format_exception_only(error)).strip()
    _write(order.mark("words"), {"rank": channel.Get_rank(), "ranks": channel.Get_size(), "error": text})
    sys.stderr.flush()
    channel.Abort(1)


def _begin(order: Order, channel, rank: int):
    """Leaves a mark; TaskError on all ranks where one is there: executors hand what killed a worker to the next one."""
    found = ""
    if rank == 0:
        try:
            with open(order.mark("begun"), "x") as file:
                json.dump({"host": socket.gethostname(), "pid": os.getpid()}, file)
        except FileExistsError:
            found = "begun"
        except OSError:  # the series is over, or the folder out of reach from this machine
            found = "over" if order.home[0] == socket.gethostname() else ""
    if channel is not None:
        found = channel.bcast(found, root=0)
    if found == "begun":
        raise died(order.name)
    if found == "over":
        raise TaskError(f"nobody waits for the task '{order.name}' any more", task=order.name)


def died(name: str, directory=None) -> TaskError:
    """What to say of a worker that is gone without a word."""
    return TaskError(
        f"the worker of the task '{name}' has died without a word: it could not be started, was killed from outside, ran "
        "out of memory, or crashed inside a library (its last lines are above, or in the logs of the job). Give it more "
        "memory or fewer neighbours (`workers`); the same command goes on, and what other tasks have finished is not lost",
        task=name,
        directory=directory,
    )


# --- what is sent back ----------------------------------------------------------------------------------------


def _portable(error: Exception) -> Exception:
    """The error as another process can receive it, with the traceback of this one as a note."""
    frames = list(traceback.walk_tb(error.__traceback__))
    module = frames[-1][0].f_globals.get("__name__", "") if frames else ""
    there = "".join(traceback.format_exception(error))
    found = error
    if not outlives_pickling(error):
        found = SolidQMMMError("".join(traceback.format_exception_only(error)).strip())
    found.add_note(f"In the worker (process {os.getpid()} on {socket.gethostname()}):\n{there}")
    found.of_solidqmmm = module.startswith("solidqmmm.")
    return found


def _write(path: Path, content: dict):
    with suppress(OSError), written_whole(path) as temporary:
        temporary.write_text(json.dumps(content))


# --- the end --------------------------------------------------------------------------------------------------


@contextmanager
def _timed(order: Order, rank: int):
    if order.timeout is None:
        yield
        return
    try:
        file = open(f"{order.mark('stuck')}.{rank}", "w")  # noqa: SIM115 - written by a thread in C
    except OSError:
        file = sys.stderr
    faulthandler.dump_traceback_later(order.timeout, exit=True, file=file)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        if file is not sys.stderr:
            file.close()


_tethers: set[tuple[str, int]] = set()
_at_work: list[Order] = []  # the task that this worker is at


def tethered(home: tuple[str, int]) -> dict:
    """From now on this worker ends with who asked for it, or when it is told to stop.

    Not every executor ends its workers when its own process is killed: these would wait for ever, or go on computing
    beside the workers of the run that goes on. A worker that is told to stop between two tasks stays: executorlib does
    not look whether it lives before it sends the next one.

    Args:
        home: Host and process.
    """
    if home not in _tethers:
        _tethers.add(home)
        threading.Thread(target=_end_with, args=(home,), daemon=True).start()
    return {}


def _end_with(home: tuple[str, int]):
    host, process = home
    here = host == socket.gethostname()
    parent = os.getppid()  # that process, or the launcher of the ranks
    while os.getppid() == parent and not any(stop_mark(order.folder).exists() for order in tuple(_at_work)):
        if here:
            try:
                os.kill(process, 0)
            except ProcessLookupError:
                break
            except PermissionError:
                pass
        time.sleep(1.0)
    os._exit(1)
