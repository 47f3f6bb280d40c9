"""What a Hessian by displacements keeps on disk: how atoms were grouped, and every group that is finished."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy import sparse

from solidqmmm.engines.lammps_host import LammpsHost
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.npz_file import DAMAGED, read_npz, write_npz

logger = logging.getLogger(__name__)

_SAME_PLACE = 1e-8  # angstrom


@dataclass(frozen=True, eq=False)
class HessianPlan:
    """What is known before the work starts.

    Attributes:
        pattern: Which forces depend on which atoms, shape=(n, n).
        colours: The group of each atom, shape=(n,).
        cutoff: Largest distance of neighbours in angstrom.
        hops: Largest number of bonds between two atoms that interact.
        n_probes: Atoms that were displaced to find this out.
    """

    pattern: sparse.csr_array
    colours: np.ndarray
    cutoff: float
    hops: int
    n_probes: int

    @property
    def n_colours(self) -> int:
        """Number of groups of atoms that are displaced together."""
        return int(self.colours.max()) + 1

    @property
    def evaluations(self) -> int:
        """Number of force evaluations that the whole Hessian takes."""
        return 1 + 2 * self.n_probes + 6 * self.n_colours


class HessianJournal:
    """The plan and every finished group in one folder; rank 0 reads and writes. A folder of None keeps nothing.

    Groups carry the sha256 of their plan: what belongs to other positions, another potential or step is never read.
    """

    def __init__(self, folder, host: LammpsHost, crystal: Crystal, **settings):
        self.folder = None if folder is None else Path(folder)
        self.communicator = host.session.communicator
        self.crystal = crystal
        self.settings = json.dumps(
            {
                **settings,
                "potential": {k: v for k, v in asdict(host.potential).items() if k != "search_dirs"},
                "files": host.potential.checksums(),
            },
            sort_keys=True,
        )
        self.key = ""
        self.resumed = False

    def plan(self) -> HessianPlan | None:
        """The plan in the folder, if it is of this crystal, potential and step."""
        record = self._read("plan.npz")
        if record is None:
            return None
        if str(record["settings"]) != self.settings or not self._same_place(record):
            logger.warning("%s holds the Hessian of something else: starting afresh", self.folder)
            return None
        self.key, self.resumed = str(record["key"]), True
        n = len(self.crystal)
        pattern = sparse.csr_array(
            (np.ones(len(record["indices"]), dtype=np.int32), record["indices"], record["indptr"]), shape=(n, n)
        )
        return HessianPlan(
            pattern, record["colours"], float(record["cutoff"]), int(record["hops"]), int(record["n_probes"])
        )

    def start(self, plan: HessianPlan) -> HessianPlan:
        """Keeps a new plan."""
        crystal, pattern = self.crystal, plan.pattern
        fields = {
            "numbers": crystal.numbers,
            "positions": crystal.positions,
            "cell": crystal.cell,
            "pbc": crystal.pbc,
            "indices": pattern.indices,
            "indptr": pattern.indptr,
            "colours": plan.colours,
            "cutoff": plan.cutoff,
            "hops": plan.hops,
            "n_probes": plan.n_probes,
        }
        digest = hashlib.sha256(self.settings.encode())
        for value in fields.values():
            digest.update(np.ascontiguousarray(value).tobytes())
        self.key = digest.hexdigest()
        self._write("plan.npz", {**fields, "settings": self.settings, "key": self.key})
        return plan

    def read(self, colour: int, n_entries: int) -> tuple[np.ndarray, float] | None:
        """Blocks of one group in eV/angstrom^2, shape=(n_entries, 3, 3), and its leak in eV/angstrom^2, or None."""
        record = self._read(f"group_{colour:05d}.npz") if self.resumed else None
        if record is None or str(record["key"]) != self.key or record["blocks"].shape != (n_entries, 3, 3):
            return None
        return record["blocks"], float(record["leak"])

    def write(self, colour: int, blocks, leak: float):
        """Keeps one group."""
        self._write(f"group_{colour:05d}.npz", {"blocks": blocks, "leak": leak, "key": self.key})

    def _same_place(self, record) -> bool:
        crystal = self.crystal
        if not np.array_equal(record["numbers"], crystal.numbers) or not np.array_equal(record["pbc"], crystal.pbc):
            return False
        if np.abs(record["cell"] - crystal.cell).max() > _SAME_PLACE:
            return False
        moved = (record["positions"] - crystal.positions) @ np.linalg.inv(crystal.cell)
        moved -= np.rint(moved) * crystal.pbc
        return bool(np.abs(moved @ crystal.cell).max(initial=0.0) < _SAME_PLACE)

    def _read(self, name: str) -> dict | None:
        """A record, or None if there is none or it is damaged."""
        if self.folder is None:
            return None
        found = None
        path = self.folder / name
        if self.communicator.rank == 0 and path.exists():
            try:
                found = read_npz(path)
            except DAMAGED as error:
                logger.warning("ignoring the damaged record %s (%s); computing again", path, error)
        return self.communicator.bcast(found, root=0) if self.communicator.size > 1 else found

    def _write(self, name: str, fields: dict):
        """Writes a record so that it is there whole or not at all; a full disk is a warning."""
        if self.folder is None or self.communicator.rank != 0:
            return
        path = self.folder / name
        try:
            write_npz(path, fields)
        except OSError as error:
            logger.warning("%s was not written (%s): it is computed again after an interruption", path, error)
