"""The state of a run of molecular dynamics, in one file that is there whole or not at all."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from solidqmmm.engines.protocols import Contribution
from solidqmmm.errors import SolidQMMMError
from solidqmmm.procedures.motion.answers import Answer
from solidqmmm.runtime import agree_on_failure, is_root, world
from solidqmmm.system.npz_file import DAMAGED, read_npz, write_npz


@dataclass(frozen=True, eq=False)
class DynamicsState:
    """Everything that a run needs to go on.

    Attributes:
        step: Number of the step to which the positions belong.
        positions: Positions in angstrom, shape=(n, 3).
        velocities: Velocities in angstrom/ps, shape=(n, 3).
        cell: Cell vectors as rows in angstrom, shape=(3, 3).
        settings: What must be the same when the run goes on: ensemble, time step, seed ... (plain JSON).
        numbers: Atomic numbers, shape=(n,).
        series: Columns of the result so far by name, each of shape=(k,).
        work: Work integrated along the path so far, eV.
        n_qm_calls: Calls of the correction so far.
        at: Positions of the correction's atoms at its last call, shape=(m, 3), or None.
        given: What it gave there, or None; it is not asked for the same again.
        kept: States of thermostat, attendants and stepper by name: plain JSON values and arrays by name.
        answers: What the correction said after that, if the run was interrupted: positions and contributions (see
            `answers`).
    """

    step: int
    positions: np.ndarray
    velocities: np.ndarray
    cell: np.ndarray
    settings: dict
    numbers: np.ndarray
    series: dict = field(default_factory=dict)
    work: float = 0.0
    n_qm_calls: int = 0
    at: np.ndarray | None = None
    given: Contribution | None = None
    kept: dict = field(default_factory=dict)
    answers: tuple[Answer, ...] = ()

    def save(self, path) -> Path:
        """Writes a neighbour, brings it to the disk, and gives it the name; rank 0 writes, all ranks call.

        Raises:
            OSError: On all ranks, if the file cannot be written.
        """
        path, error = Path(path), None
        if is_root():
            try:
                self._write(path)
            except OSError as caught:
                error = caught
        agree_on_failure(world(), error)
        return path

    def _write(self, path: Path):
        head = {
            "step": self.step,
            "settings": self.settings,
            "work": self.work,
            "n_qm_calls": self.n_qm_calls,
        }
        arrays = {name: getattr(self, name) for name in ("positions", "velocities", "cell", "numbers")}
        arrays |= {f"series_{name}": np.asarray(column) for name, column in self.series.items()}
        head["kept"] = {}
        for name, state in self.kept.items():
            is_array = {key: isinstance(value, np.ndarray) for key, value in state.items()}
            head["kept"][name] = {key: value for key, value in state.items() if not is_array[key]}
            arrays |= {f"kept_{name}/{key}": value for key, value in state.items() if is_array[key]}
        named = {} if self.given is None else {"given": (self.at, self.given)}
        head["answers"] = len(self.answers)
        for name, (at, given) in (named | {f"answer{k}": one for k, one in enumerate(self.answers)}).items():
            head |= {f"{name}_energy": given.energy, f"{name}_terms": given.terms}
            arrays |= {f"{name}_at": at, f"{name}_forces": given.forces}
            if given.virial is not None:
                arrays[f"{name}_virial"] = given.virial
        write_npz(path, {"head": json.dumps(head), **arrays})

    @classmethod
    def load(cls, path) -> DynamicsState:
        """The state in a file; every rank reads it.

        Raises:
            FileNotFoundError: If there is none.
            SolidQMMMError: If the file is no checkpoint of solidqmmm.
        """
        try:
            return cls._read(read_npz(Path(path)))
        except FileNotFoundError:
            raise
        except DAMAGED as error:
            raise SolidQMMMError(
                f"{path} is no checkpoint of a dynamics run ({error}): remove it to start anew"
            ) from error

    @classmethod
    def _read(cls, record: dict) -> DynamicsState:
        head = json.loads(str(record.pop("head")))
        for key in [key for key in record if key.startswith("kept_")]:
            name, _, key_of_state = key.removeprefix("kept_").partition("/")
            head["kept"].setdefault(name, {})[key_of_state] = record.pop(key)

        def answer(name) -> Answer:
            energy, terms = head.pop(f"{name}_energy"), head.pop(f"{name}_terms")
            return record[f"{name}_at"], Contribution(
                record[f"{name}_forces"], energy, record.get(f"{name}_virial"), terms
            )

        at, given = answer("given") if "given_forces" in record else (None, None)
        answers = tuple(answer(f"answer{k}") for k in range(head.pop("answers")))
        found = cls(
            **head,
            **{name: record[name] for name in ("positions", "velocities", "cell", "numbers")},
            series={
                name.removeprefix("series_"): column
                for name, column in record.items()
                if name.startswith("series_")
            },
            at=at,
            given=given,
            answers=answers,
        )
        n = len(found.numbers)
        if not found.positions.shape == found.velocities.shape == (n, 3) or found.cell.shape != (3, 3):
            raise ValueError(f"positions of shape {found.positions.shape} for {n} atoms")
        return found

    def require_same(self, settings: dict, numbers, path):
        """Refuses to go on with something else.

        Raises:
            ValueError: Naming what differs.
        """
        if not np.array_equal(self.numbers, numbers):
            raise ValueError(
                f"the checkpoint {path} holds {len(self.numbers)} atoms that are not the {len(numbers)} of this crystal: "
                "resume with the crystal that the run was started with"
            )
        differing = [
            f"{name} {self.settings.get(name)!r}, now {value!r}"
            for name, value in settings.items()
            if self.settings.get(name) != value
        ]
        if differing:
            raise ValueError(
                f"the checkpoint {path} belongs to a run with other settings ({'; '.join(differing)}): resume with the same "
                "settings, or start anew with resume=False and another checkpoint file"
            )
