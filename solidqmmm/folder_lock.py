"""One process in a run folder at a time; the second one is told who the first is.

The lock is the operating system's (flock on a file `.lock` in the folder), so a process that is killed leaves none. The file
says whose it is: host, process and time. Where the file of a process on another host is left, nobody here can know whether
that process lives, since not all network file systems carry locks between hosts; whoever does know removes the file.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from solidqmmm.errors import SolidQMMMError

logger = logging.getLogger(__name__)

NAME = ".lock"
_NO_LOCKS_HERE = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
_held: set[FolderLock] = set()


class FolderLock:
    """The lock of a folder, from here on until `release`; on one MPI rank.

    Args:
        folder: The folder; made when needed.

    Raises:
        SolidQMMMError: If another process has it: host, process, since when, and what to do.
        OSError: If the folder cannot be written.
    """

    def __init__(self, folder):
        self.path = Path(folder) / NAME
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = self._opened()
        try:
            self._take_over(_content(self._descriptor))
            self._sign()
        except BaseException:
            os.close(self._descriptor)
            raise
        _held.add(self)

    def release(self):
        """Gives the folder free; calling it again does nothing."""
        if self in _held:
            _held.discard(self)
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
            os.close(self._descriptor)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.release()

    def _opened(self) -> int:
        """The file, open and locked by this process, and certainly the one that others will open."""
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = _content(descriptor)
                os.close(descriptor)
                raise self._refusal(holder, "wait until it has ended, or give another folder with --out") from None
            except OSError as error:
                if error.errno not in _NO_LOCKS_HERE:
                    os.close(descriptor)
                    raise
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(self.path)):
                    return descriptor
            os.close(descriptor)  # released, and so removed, by another one meanwhile

    def _take_over(self, holder: dict):
        if not holder:
            return
        if holder.get("host") != socket.gethostname():
            cure = f"if that process is gone (killed, or its host down), remove {self.path} and give the same command again"
            raise self._refusal(holder, cure)
        if _lives(holder):  # where the file system knows no locks
            raise self._refusal(holder, "wait until it has ended, or give another folder with --out")
        logger.info("process %s in %s was killed: going on in its place", holder.get("pid"), self.path.parent)

    def _sign(self):
        me = {"host": socket.gethostname(), "pid": os.getpid(), "born": _born(os.getpid()), "since": _now()}
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(me).encode(), 0)

    def _refusal(self, holder: dict, cure: str) -> SolidQMMMError:
        words = (("pid", "process"), ("host", "host"), ("since", "since"))
        who = ", ".join(f"{word} {holder[key]}" for key, word in words if key in holder)
        return SolidQMMMError(f"another run is at work in {self.path.parent} ({who or 'it did not say who'}): {cure}")


def release_all():
    """Gives free what this process holds; for ways out that pass by `release`."""
    for lock in tuple(_held):
        lock.release()


def _content(descriptor: int) -> dict:
    try:
        found = json.loads(os.pread(descriptor, 4096, 0).decode())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _lives(holder: dict) -> bool:
    """Whether a process of this host is the one that signed, and not another that has its number by now."""
    pid = holder.get("pid")
    if not isinstance(pid, int) or pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # somebody else's
    return _born(pid) == holder.get("born")


def _born(pid: int) -> str | None:
    """When a process was started, in ticks since the start of the system, where the system tells; None if it is over.

    One that is over may stand in the system's list until its parent asks for it, in containers for ever.
    """
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if words[0] in "ZX" else words[19]
    except (OSError, IndexError):
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
