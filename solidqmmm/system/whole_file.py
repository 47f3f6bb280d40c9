"""Files that are there whole or not at all, whatever kills the process or fills the disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Of files that are being written; what a killed process leaves of them is nobody's.
SUFFIX = ".tmp"


@contextmanager
def written_whole(path, *, durable: bool = True) -> Iterator[Path]:
    """A path to write to, beside `path`; at the end of the block that file takes the name, after a failure it is gone.

    Args:
        path: The file; its folder is made when needed.
        durable: Whether to wait until content and name are on the disk, so that they outlive a power failure and not only a
            kill.

    Raises:
        OSError: If the disk is full or the folder cannot be written; what was at `path` before is still there.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{SUFFIX}")
    try:
        yield temporary
        if durable:
            _to_disk(temporary)
        temporary.replace(path)
        if durable:
            with suppress(OSError):  # some network file systems have no such call for folders
                _to_disk(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def sweep(folder) -> None:
    """Removes what killed processes left of unfinished files, in the folder and below; no process may be writing there."""
    for left in Path(folder).rglob(f".*{SUFFIX}"):
        with suppress(OSError):
            left.unlink()


def _to_disk(path: Path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
