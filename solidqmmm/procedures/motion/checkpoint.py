"""The state of a run of molecular dynamics, in one file that is there whole or not at all."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from solidqmmm.engines.npz_file import write_npz
from solidqmmm.engines.protocols import Contribution
from solidqmmm.errors import SolidQMMMError
from solidqmmm.runtime import agree_on_failure, is_root, world


@dataclass(frozen=True, eq=False)
class DynamicsState:
    """Everything that a run needs to go on.

    Attributes:
        step: Number of the step to which the positions belong.
        positions: Positions in angstrom, shape=(n, 3).
        velocities: Velocities in angstrom/ps, shape=(n, 3).
        cell: Cell vectors as rows in angstrom, shape=(3, 3).
        half_step: Whether the velocities are those of step - 1/2: a correction failed after the positions had moved, and the
            second half of the velocity Verlet step is still to be made with the forces at `positions`.
        settings: What must be the same when the run goes on: ensemble, time step, seed ... (plain JSON).
        numbers: Atomic numbers, shape=(n,).
        series: Columns of the result so far by name, each of shape=(k,).
        work: Work integrated along the path so far, eV.
        n_qm_calls: Calls of the correction so far.
        at: Positions of the correction's atoms at its last call, shape=(m, 3), or None.
        given: What it gave there, or None; it is not asked for the same again.
        kept: States of thermostat, attendants and stepper by name: plain JSON values and arrays by name.
    """

    step: int
    positions: np.ndarray
    velocities: np.ndarray
    cell: np.ndarray
    half_step: bool
    settings: dict
    numbers: np.ndarray
    series: dict = field(default_factory=dict)
    work: float = 0.0
    n_qm_calls: int = 0
    at: np.ndarray | None = None
    given: Contribution | None = None
    kept: dict = field(default_factory=dict)

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
            "half_step": self.half_step,
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
        if self.given is not None:
            head |= {"given_energy": self.given.energy, "given_terms": self.given.terms}
            arrays |= {"given_at": self.at, "given_forces": self.given.forces}
            if self.given.virial is not None:
                arrays["given_virial"] = self.given.virial
        write_npz(path, {"head": json.dumps(head), **arrays})

    @classmethod
    def load(cls, path) -> DynamicsState:
        """The state in a file; every rank reads it.

        Raises:
            FileNotFoundError: If there is none.
            SolidQMMMError: If the file is no checkpoint of solidqmmm.
        """
        try:
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as record:
                head = json.loads(str(record["head"]))
                arrays = {name: record[name] for name in record.files if name != "head"}
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise SolidQMMMError(
                f"{path} is no checkpoint of a dynamics run ({error}): remove it to start anew"
            ) from error
        for key in [key for key in arrays if key.startswith("kept_")]:
            name, _, key_of_state = key.removeprefix("kept_").partition("/")
            head["kept"].setdefault(name, {})[key_of_state] = arrays.pop(key)
        given = None
        if "given_forces" in arrays:
            given = Contribution(
                arrays["given_forces"],
                head.pop("given_energy"),
                arrays.get("given_virial"),
                head.pop("given_terms"),
            )
        return cls(
            **head,
            **{name: arrays[name] for name in ("positions", "velocities", "cell", "numbers")},
            series={
                name.removeprefix("series_"): column
                for name, column in arrays.items()
                if name.startswith("series_")
            },
            at=arrays.get("given_at"),
            given=given,
        )

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
