"""A journal of evaluations: what was computed once is read, not computed again, also after the run was killed."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import fields, replace
from pathlib import Path
from time import perf_counter

import numpy as np
from ase import Atoms

from solidqmmm.engines.closing import Closing
from solidqmmm.engines.guarded import not_finite
from solidqmmm.engines.protocols import (
    Engine,
    Evaluation,
    FieldEngine,
    FieldEvaluation,
    FieldResponse,
    Induced,
    PotentialEvaluation,
    SitePotentialEngine,
)
from solidqmmm.runtime import agree_on_failure, is_root, world
from solidqmmm.system.npz_file import DAMAGED, read_npz, write_npz
from solidqmmm.system.point_charges import PointCharges, RepulsiveCores
from solidqmmm.system.vacant_sites import VacantSites

logger = logging.getLogger(__name__)

_DIGITS = 9  # 1e-9 angstrom: far below what changes an energy, above the noise of a rerun


class JournaledEngine(Closing):
    """An engine whose finished evaluations are kept in a folder, one small file each.

    The file's name is the sha256 of species, positions (rounded to 1e-9 angstrom), cell, pbc, cap charges, initial
    moments, vacant sites, whether stress was asked for, and the engine's `describe()`; so a change of settings or
    versions never reads old numbers. A file appears whole or not at all (temporary file, fsync, rename); a truncated one
    is ignored and computed again. Rank 0 reads and writes.

    `info["seconds"]` is the wall time of the evaluation when it was computed.

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
        """The engine's."""
        return self.engine.name

    @property
    def provides_stress(self) -> bool:
        """The engine's."""
        return self.engine.provides_stress

    def evaluate(self, atoms: Atoms, *, stress: bool = False) -> Evaluation:
        """What the engine says, or said, about `atoms`. `info["journal"]` is "read" or "written"."""
        return self._remembered(
            self.key(atoms, stress=stress),
            lambda path: _read(path, len(atoms), stress),
            lambda: self.engine.evaluate(atoms, stress=stress),
        )

    def _remembered(self, key: str, read, compute):
        """What is kept under `key`, or what `compute()` gives, which is kept then."""
        communicator = world()
        path = self.folder / f"{key}.npz"
        found = read(path) if is_root() else None
        if communicator.size > 1:
            found = communicator.bcast(found, root=0)
        if found is not None:
            self.hits += 1
            return replace(found, info={**found.info, "journal": "read"})
        started = perf_counter()
        evaluation = compute()
        if not_finite(evaluation):
            return evaluation  # whoever asked refuses it; kept, it would come back for ever
        evaluation = replace(evaluation, info={"seconds": perf_counter() - started, **evaluation.info})
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
        return replace(evaluation, info={**evaluation.info, "journal": "written"})

    def key(self, atoms: Atoms, *, stress: bool = False) -> str:
        """The name under which an evaluation of these atoms is kept."""
        digest = hashlib.sha256(self._described.encode())
        for array in (
            np.asarray(atoms.numbers, dtype=np.int64),
            _rounded(atoms.positions),
            _rounded(atoms.cell.array),
            np.asarray(atoms.pbc, dtype=np.int8),
            np.nan_to_num(np.asarray(atoms.arrays.get("cap_charge", ()), dtype=float)),
            np.asarray(atoms.get_initial_magnetic_moments(), dtype=float) + 0.0,
            np.array([stress], dtype=np.int8),
        ):
            _add(digest, array)
        vacant = VacantSites.of(atoms)
        if len(vacant):
            for array in (vacant.numbers.astype(np.int64), _rounded(vacant.positions)):
                _add(digest, array)
        return digest.hexdigest()

    def forget(self):
        """The engine's next evaluation starts as its first one did, where it can."""
        forget = getattr(self.engine, "forget", None)
        if forget is not None:
            forget()

    def describe(self) -> dict:
        """The wrapped engine's description: a journal does not change the numbers."""
        return self.engine.describe()

    def close(self):
        """Closes the engine."""
        self.engine.close()


class JournaledFieldEngine(JournaledEngine):
    """The same for an engine that feels external charges.

    Their positions, charges and widths, repulsive cores, and what describes the response are part of the file's name. If an
    evaluation was read, the response has not been asked: ask it at the potentials and fields that are returned.
    """

    @property
    def field_capabilities(self) -> frozenset[str]:
        """The engine's."""
        return self.engine.field_capabilities

    def evaluate_in_field(
        self,
        atoms: Atoms,
        charges: PointCharges,
        *,
        response: FieldResponse | None = None,
        cores: RepulsiveCores | None = None,
    ) -> FieldEvaluation:
        """What the engine says, or said. `info["journal"]` is "read" or "written"."""
        return self._remembered(
            self.field_key(atoms, charges, response=response, cores=cores),
            lambda path: _read_field(path, len(atoms), len(charges)),
            lambda: self.engine.evaluate_in_field(atoms, charges, response=response, cores=cores),
        )

    def field_key(self, atoms: Atoms, charges: PointCharges, *, response=None, cores=None) -> str:
        """The name under which an evaluation of these atoms among these charges is kept."""
        digest = hashlib.sha256(self.key(atoms).encode())
        for array in (charges.positions, charges.charges, charges.widths):
            _add(digest, _rounded(array))
        if cores is not None:
            for array in (cores.positions, cores.heights, cores.widths):
                _add(digest, _rounded(array))
        if response is not None:
            digest.update(json.dumps(_rounded_json(response.describe()), sort_keys=True).encode())
        return digest.hexdigest()


class JournaledPotentialEngine(JournaledEngine):
    """The same for an engine that tells its electrostatic potential."""

    def evaluate_with_potentials(self, atoms: Atoms) -> PotentialEvaluation:
        """What the engine says, or said. `info["journal"]` is "read" or "written"."""
        key = hashlib.sha256(f"potentials {self.key(atoms)}".encode()).hexdigest()
        return self._remembered(
            key,
            lambda path: _read_potentials(path, len(atoms)),
            lambda: self.engine.evaluate_with_potentials(atoms),
        )


class JournaledFieldAndPotentialEngine(JournaledFieldEngine, JournaledPotentialEngine):
    """The same for an engine that can do both."""


def journaled(engine: Engine, folder) -> JournaledEngine:
    """The engine with a journal in `folder`; it feels external charges and tells its potential if the engine does."""
    kinds = {
        (False, False): JournaledEngine,
        (True, False): JournaledFieldEngine,
        (False, True): JournaledPotentialEngine,
        (True, True): JournaledFieldAndPotentialEngine,
    }
    return kinds[isinstance(engine, FieldEngine), isinstance(engine, SitePotentialEngine)](engine, folder)


# --- keys -------------------------------------------------------------------------------------------------------


def _rounded(array) -> np.ndarray:
    # Adding 0.0 turns -0.0 into 0.0.
    return np.round(np.asarray(array, dtype=float), _DIGITS) + 0.0


def _rounded_json(value):
    if isinstance(value, dict):
        return {key: _rounded_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded_json(item) for item in value]
    return round(value, _DIGITS) + 0.0 if isinstance(value, float) else value


def _add(digest, array: np.ndarray):
    digest.update(f"{array.shape}{array.dtype.str}".encode())
    digest.update(np.ascontiguousarray(array).tobytes())


# --- records ----------------------------------------------------------------------------------------------------


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


def _read_field(path: Path, n_atoms: int, n_sites: int) -> FieldEvaluation | None:
    if not path.exists():
        return None
    try:
        record = read_npz(path)
        induced = None
        if "induced.dipoles" in record:
            induced = Induced(*(record.pop(f"induced.{name}") for name in ("charges", "dipoles", "energy")))
            induced = replace(induced, energy=float(induced.energy))
        record["energy"], record["info"] = float(record["energy"]), json.loads(str(record["info"]))
        if record["forces"].shape != (n_atoms, 3) or record["charge_forces"].shape != (n_sites, 3):
            raise ValueError(f"{len(record['forces'])} atoms among {len(record['charge_forces'])} charges")
        return FieldEvaluation(**record, induced=induced)
    except DAMAGED as error:
        logger.warning("ignoring the damaged journal record %s (%s); computing again", path, error)
        return None


def _read_potentials(path: Path, n_atoms: int) -> PotentialEvaluation | None:
    if not path.exists():
        return None
    try:
        record = read_npz(path)
        planes = tuple(record.pop(f"planes.{axis}") for axis in range(3))
        record["energy"], record["info"] = float(record["energy"]), json.loads(str(record["info"]))
        if record["forces"].shape != (n_atoms, 3) or record["site_potentials"].shape != (n_atoms,):
            raise ValueError(f"{len(record['forces'])} forces for {n_atoms} atoms")
        return PotentialEvaluation(**record, planar_potentials=planes)
    except DAMAGED as error:
        logger.warning("ignoring the damaged journal record %s (%s); computing again", path, error)
        return None


def _write(path: Path, evaluation: Evaluation):
    record = {field.name: getattr(evaluation, field.name) for field in fields(evaluation)}
    record |= {f"planes.{axis}": row for axis, row in enumerate(record.pop("planar_potentials", ()))}
    record["info"] = json.dumps(evaluation.info)
    induced = record.pop("induced", None)
    if induced is not None:
        record |= {f"induced.{field.name}": getattr(induced, field.name) for field in fields(induced)}
    write_npz(path, {name: value for name, value in record.items() if value is not None})


def without_journal(engine: Engine | None) -> Engine | None:
    """The engine behind its journal, or the one that was given if it has none."""
    return getattr(engine, "engine", engine)
