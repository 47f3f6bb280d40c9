"""A journal of evaluations: what was computed once is read, not computed again, also after the run was killed."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import numpy as np
from ase import Atoms

from solidqmmm.engines.npz_file import DAMAGED, read_npz, write_npz
from solidqmmm.engines.protocols import Engine, Evaluation
from solidqmmm.runtime import agree_on_failure, is_root, world

logger = logging.getLogger(__name__)

_POSITION_DIGITS = 9  # 1e-9 angstrom: far below what changes an energy, above the noise of a rerun


class JournaledEngine:
    """An engine whose finished evaluations are kept in a folder, one small file each.

    The file's name is the sha256 of species, positions (rounded to 1e-9 angstrom), cell, pbc, cap charges, initial
    moments, whether stress was asked for, and the engine's `describe()`; so a change of settings or versions never
    reads old numbers. A file appears whole or not at all (temporary file, fsync, rename); a truncated one is ignored
    and computed again. Rank 0 reads and writes.

    Args:
        engine: The engine that computes what is not in the journal.
        folder: Folder of the journal, made when needed.

    Attributes:
        hits: Evaluations that were read.
        evaluations: Evaluations that were computed.
    """

    def __init__(self, engine: Engine, folder):
        self.engine = engine
        self.folder = Path(folder)
        self.hits = 0
        self.evaluations = 0
        self._described = json.dumps(engine.describe(), sort_keys=True)

    @property
    def name(self) -> str:
        return self.engine.name

    @property
    def provides_stress(self) -> bool:
        return self.engine.provides_stress

    def evaluate(self, atoms: Atoms, *, stress: bool = False) -> Evaluation:
        """What the engine says, or said, about `atoms`. `info["journal"]` is "read" or "written"."""
        communicator = world()
        path = self.folder / f"{self.key(atoms, stress=stress)}.npz"
        found = _read(path, len(atoms), stress) if is_root() else None
        if communicator.size > 1:
            found = communicator.bcast(found, root=0)
        if found is not None:
            self.hits += 1
            return Evaluation(found.energy, found.forces, found.stress, {**found.info, "journal": "read"})
        evaluation = self.engine.evaluate(atoms, stress=stress)
        self.evaluations += 1
        error = None
        if is_root():
            try:
                _write(path, evaluation)
            except OSError as caught:
                error = caught
        try:
            agree_on_failure(communicator, error)
        except OSError as agreed:
            # A full disk must not cost the evaluation that has just been paid for.
            logger.warning("journal record %s was not written (%s): it is lost when the run ends", path.name, agreed)
            return evaluation
        return Evaluation(
            evaluation.energy, evaluation.forces, evaluation.stress, {**evaluation.info, "journal": "written"}
        )

    def key(self, atoms: Atoms, *, stress: bool = False) -> str:
        """The name under which an evaluation of these atoms is kept."""
        digest = hashlib.sha256(self._described.encode())
        # Adding 0.0 turns -0.0 into 0.0.
        for array in (
            np.asarray(atoms.numbers, dtype=np.int64),
            np.round(np.asarray(atoms.positions, dtype=float), _POSITION_DIGITS) + 0.0,
            np.round(atoms.cell.array, _POSITION_DIGITS) + 0.0,
            np.asarray(atoms.pbc, dtype=np.int8),
            np.nan_to_num(np.asarray(atoms.arrays.get("cap_charge", ()), dtype=float)),
            np.asarray(atoms.get_initial_magnetic_moments(), dtype=float) + 0.0,
            np.array([stress], dtype=np.int8),
        ):
            digest.update(f"{array.shape}{array.dtype.str}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def describe(self) -> dict:
        """The wrapped engine's description: a journal does not change the numbers."""
        return self.engine.describe()

    def close(self):
        self.engine.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()


def _read(path: Path, n_atoms: int, stress: bool) -> Evaluation | None:
    """A record, or None if there is none or it is damaged."""
    if not path.exists():
        return None
    try:
        record = read_npz(path)
        energy, forces, tensor = float(record["energy"]), record["forces"], record.get("stress")
        info = json.loads(str(record["info"]))
        if forces.shape != (n_atoms, 3) or (stress and tensor is None):
            raise ValueError(f"forces of shape {forces.shape} for {n_atoms} atoms")
        return Evaluation(energy, forces, tensor, info)
    except DAMAGED as error:
        logger.warning("ignoring the damaged journal record %s (%s); computing again", path, error)
        return None


def _write(path: Path, evaluation: Evaluation):
    fields = {"energy": evaluation.energy, "forces": evaluation.forces, "info": json.dumps(evaluation.info)}
    if evaluation.stress is not None:
        fields["stress"] = evaluation.stress
    write_npz(path, fields)


def without_journal(engine: Engine | None) -> Engine | None:
    """The engine behind its journal, or the one that was given if it has none."""
    return getattr(engine, "engine", engine)
