"""Trajectories as extended XYZ: whole frames, appended, on disk before the next one starts."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import ase.io
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from solidqmmm.coupling.qmmm import QMMM
from solidqmmm.runtime import agree_on_failure, is_root, world


class Trajectory:
    """An extxyz file that rank 0 writes; all ranks call the same methods.

    Each frame has the arrays `region` ('core', 'buffer', 'host', 'frozen'), `forces` in eV/angstrom and `velocities` in
    angstrom/ps, and in its comment `step`, `time_fs`, and `energy` in eV where there is one (the key is missing otherwise).

    Args:
        path: The file; its folder is made when needed.
        after: Step up to which the frames of an existing file are kept, or None to start anew. What a kill left of an
            unfinished frame goes in either case.

    Attributes:
        last_step: Step of the last frame that was kept, -1 if there is none.
    """

    def __init__(self, path, *, after: int | None = None):
        self.path = Path(path)
        self.last_step = -1
        self._on_root(lambda: self._begin(after))
        self.last_step = world().bcast(self.last_step, root=0)

    def append(self, qmmm: QMMM, forces, *, step: int, energy: float | None = None, **info):
        """Adds one frame.

        Args:
            qmmm: Where positions, velocities and labels come from.
            forces: Forces in eV/angstrom, shape=(n, 3).
            step: Number of the step.
            energy: Potential energy in eV, or None where there is none.
            info: Further numbers for the comment line.
        """
        positions, velocities, cell = qmmm.host.positions(), qmmm.host.velocities(), qmmm.host.cell()
        self._on_root(lambda: self._write(qmmm, positions, velocities, cell, forces, step, energy, info))

    def _begin(self, after):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if after is None or not self.path.exists():
            self.path.write_bytes(b"")
        else:
            end, self.last_step = end_of_frame(self.path, after)
            os.truncate(self.path, end)

    def _write(self, qmmm, positions, velocities, cell, forces, step, energy, info):
        crystal = qmmm.host.crystal
        atoms = Atoms(numbers=crystal.numbers, positions=positions, cell=cell, pbc=crystal.pbc)
        atoms.set_array("region", qmmm.partition.names())
        atoms.set_array("velocities", velocities)
        atoms.info = {"step": step, **info}
        results = {"forces": forces} if energy is None else {"forces": forces, "energy": energy}
        atoms.calc = SinglePointCalculator(atoms, **results)
        text = io.StringIO()
        # In parallel ASE would broadcast to ranks that do not listen, and their next collective call would get that.
        ase.io.write(text, atoms, format="extxyz", parallel=False)
        with self.path.open("ab") as file:
            file.write(text.getvalue().encode())
            file.flush()
            os.fsync(file.fileno())

    @staticmethod
    def _on_root(work):
        error = None
        if is_root():
            try:
                work()
            except OSError as caught:
                error = caught
        agree_on_failure(world(), error)


def end_of_frame(path, last_step: int) -> tuple[int, int]:
    """Length in bytes of the whole frames of an extxyz file up to `last_step`, and the step of the last of them (or -1)."""
    end, last = 0, -1
    with Path(path).open("rb") as file:
        while (count := file.readline().strip()).isdigit():
            step = re.search(rb"\bstep=(\d+)", file.readline())
            lines = [file.readline() for _ in range(int(count))]
            if step is None or int(step[1]) > last_step or (lines and not lines[-1].endswith(b"\n")):
                break
            end, last = file.tell(), int(step[1])
    return end, last
