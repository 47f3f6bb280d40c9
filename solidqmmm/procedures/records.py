"""Finished pieces of a run, one small file each: what was saved is read, not computed again."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import numpy as np

from solidqmmm import __version__
from solidqmmm.runtime import agree_on_failure, is_root, world
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.npz_file import DAMAGED, read_npz, write_npz

logger = logging.getLogger(__name__)


class Records:
    """Named sets of arrays in a folder; collective over MPI ranks, rank 0 reads and writes.

    Each record carries a fingerprint of everything that determines it; one with another fingerprint, or a damaged one,
    counts as absent. A record appears whole or not at all (temporary file, rename).

    Args:
        folder: Where the records are kept, made when needed; None keeps nothing.
        fingerprint: See `fingerprint`.
    """

    def __init__(self, folder, fingerprint: str):
        self.folder = None if folder is None else Path(folder)
        self.fingerprint = fingerprint

    def read(self, name: str) -> dict[str, np.ndarray] | None:
        """The arrays that were saved under `name`, in their shapes, or None."""
        if self.folder is None:
            return None
        found = self._read(self.folder / f"{name}.npz") if is_root() else None
        return world().bcast(found, root=0) if world().size > 1 else found

    def write(self, name: str, **arrays):
        """Saves arrays under `name`. A full disk is logged: it must not cost what has just been computed."""
        if self.folder is None:
            return
        error = None
        if is_root():
            try:
                write_npz(self.folder / f"{name}.npz", {"fingerprint": self.fingerprint, **arrays}, durable=False)
            except OSError as caught:
                error = caught
        try:
            agree_on_failure(world(), error)
        except OSError as agreed:
            logger.warning("the record %s was not written (%s): it is lost when the run ends", name, agreed)

    def _read(self, path: Path):
        if not path.exists():
            return None
        try:
            arrays = read_npz(path)
            return arrays if str(arrays.pop("fingerprint")) == self.fingerprint else None
        except DAMAGED as error:
            logger.warning("ignoring the damaged record %s (%s); computing again", path, error)
            return None


def fingerprint(model, **more) -> str:
    """sha256 of a model's study, structure, potential files, engine and the version, and of further plain JSON facts.

    Args:
        model: A `procedures.build.Model`.
        **more: What else determines the record.
    """
    given = model.study.structure_source
    facts = {
        "version": __version__,
        "study": _without_limits(model.study.as_mapping()),
        "checksums": model.checksums() | model.study.checksums(),
        "engine": None if model.engine is None else model.engine.describe(),
        # A structure that was given in Python has no file whose checksum would tell it from others.
        "given": [array.tolist() for array in (given.numbers, given.positions, given.cell)]
        if isinstance(given, Crystal)
        else None,
        **more,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def _without_limits(mapping):
    """A study without what changes no number, such as how long one waits for it."""
    if isinstance(mapping, dict):
        return {key: _without_limits(value) for key, value in mapping.items() if key != "timeout_s"}
    return mapping
