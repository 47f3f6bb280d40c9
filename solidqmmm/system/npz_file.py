"""Sets of arrays on disk that are there whole or not at all."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from solidqmmm.system.whole_file import written_whole

#: What reading a file raises that was damaged, or is another one than expected.
DAMAGED = (OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, zipfile.BadZipFile)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name, in the shapes and units in which they were written.

    Raises:
        ValueError: If it cannot be read; or another of `DAMAGED`.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as record:
            return {key: record[key] for key in record.files}
    except DAMAGED:
        raise
    except Exception as error:  # one flipped bit, and it says to be encrypted, of another version, or larger than memory
        raise ValueError(f"{path.name}: {type(error).__name__}: {error}") from error


def write_npz(path: Path, fields: dict, *, durable: bool = True):
    """Writes arrays by a temporary file that is renamed; the folder is made when needed.

    Args:
        path: The file.
        fields: Arrays, numbers and texts by name.
        durable: Whether to wait until they are on the disk, so that they outlive a power failure and not only a kill.

    Raises:
        OSError: If the disk is full or the folder cannot be written; no temporary file is left.
    """
    with written_whole(path, durable=durable) as temporary, temporary.open("wb") as file:
        np.savez(file, **fields)
