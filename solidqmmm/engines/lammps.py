"""A second LAMMPS instance as the expensive model: SNAP, MEAM, Tersoff or any other pair style on the cluster."""

from __future__ import annotations

import logging
from dataclasses import asdict
from importlib.metadata import version
from time import perf_counter

import numpy as np
from ase import Atoms

from solidqmmm.engines.closing import Closing
from solidqmmm.engines.lammps_session import LammpsSession
from solidqmmm.engines.lammps_shells import Shells
from solidqmmm.engines.protocols import Evaluation
from solidqmmm.errors import EngineError
from solidqmmm.runtime import agree_on_failure, world
from solidqmmm.system.charges import require_net_charge, site_charges
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.potential import Potential

logger = logging.getLogger(__name__)

# Along directions without periodicity LAMMPS gets a box of its own, with at least this much room around the atoms; its faces
# lie on a coarse grid, so that it is seldom another one (angstrom).
_ROOM, _GRID = 5.0, 10.0


class LammpsEngine(Closing):
    """Any LAMMPS potential as an engine, for any cell and any periodicity.

    The instance lives as long as species, cell and pbc stay the same; a call then scatters positions and evaluates
    once. In directions without periodicity the cell vectors do not matter (also none at all are fine). An answer is the
    same to the last bit whatever was asked before, but for shells.

    Args:
        potential: The potential; its species decide the LAMMPS types.
        log: File for LAMMPS's log, or None.

    Raises:
        FileNotFoundError: If a potential file is missing.
    """

    name = "lammps"
    provides_stress = True

    def __init__(self, potential: Potential, *, log=None):
        self.potential = potential
        self.log = log
        potential.resolved_coeff_lines()  # a missing file is an error now, not at the first step
        self._session: LammpsSession | None = None
        self._shells: Shells | None = None
        self._kind = None
        self._box = np.zeros((3, 3))
        self._shift = np.zeros(3)

    def evaluate(self, atoms: Atoms, *, stress: bool = False) -> Evaluation:
        """Energy in eV, forces in eV/angstrom, shape=(n, 3), and on request the stress in eV/angstrom^3.

        The stress is the virial over the volume of the cell that was given, also where that holds vacuum.

        Raises:
            ValueError: For no atoms, an element that the potential does not know, charges that are missing or (in a periodic
                cell) do not sum as stated, or an Ewald sum without a periodic cell.
            EngineError: With LAMMPS's own words and the command.
        """
        if len(atoms) == 0:
            raise ValueError("there are no atoms to compute: the quantum region is empty")
        if not np.isfinite(atoms.positions).all():
            raise ValueError("the positions contain numbers that are not finite")
        for symbol in set(atoms.symbols):
            self.potential.type_of(symbol)
        if stress and atoms.cell.rank < 3:
            raise ValueError("stress needs a cell with a volume, also around a cluster: atoms.center(vacuum=...)")
        started = perf_counter()
        error = None
        warm = self._holds(atoms)
        try:
            if warm:
                positions = atoms.positions + self._shift
                if self._shells is not None:
                    positions = self._shells.following(self._session, positions)
                self._session.scatter("x", positions)
            else:
                self._open(atoms)
            self._run()
            energy = self._session.potential_energy()
            forces = self._session.gather("f")
            if self._shells is not None:
                forces = self._shells.folded(forces)
            tensor = self._stress(atoms) if stress else None
        except Exception as caught:
            error = caught
        try:
            agree_on_failure(world(), error)
        except Exception:
            self.close()
            raise
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            raise EngineError(
                f"LAMMPS gave an energy of {energy} eV or forces that are not finite: atoms overlap, or lie where they "
                "should not",
                command="run 0",
            )
        if energy == 0.0 and len(atoms) > 1 and not forces.any() and not warm:
            logger.warning(
                "LAMMPS gives exactly no energy and no forces for %d atoms: are the pair_coeff lines those of `%s`?",
                len(atoms),
                self.potential.pair_style,
            )
        info = {"start": "warm" if warm else "fresh", "seconds": perf_counter() - started}
        return Evaluation(energy, forces, tensor, info)

    def describe(self) -> dict:
        """Potential, checksums of its files, and LAMMPS's version."""
        potential = self.potential
        return {
            "engine": self.name,
            "settings": {
                "pair_style": potential.pair_style,
                "pair_coeff": list(potential.pair_coeff),
                "species": list(potential.species),
                "units": potential.units,
                "atom_style": potential.atom_style,
                "charges": list(potential.charges),
                **({"shells": [asdict(shell) for shell in potential.shells]} if potential.shells else {}),
                **({"net_charge": potential.net_charge} if potential.net_charge else {}),
                "commands": list(potential.commands),
            },
            "potential_checksums": potential.checksums(),
            "versions": {"lammps": version("lammps")},
            "references": [
                "thompson2022lammps",
                *(["thompson2015snap"] if "snap" in potential.pair_style else []),
                *(["dick1958theory", "mitchell1993adiabatic"] if potential.shells else []),
                *potential.references,
            ],
        }

    def forget(self):
        """The next call starts as the first one did."""
        self.close()

    def close(self):
        """Closes LAMMPS; a later call opens it again."""
        if self._session is not None:
            self._session.close()
            self._session = None
            self._kind = None

    # --- the instance ----------------------------------------------------------------------------------------------

    def _holds(self, atoms: Atoms) -> bool:
        """Whether the open instance is the one that would be opened for these atoms."""
        if self._session is None or self._kind != _kind(atoms):
            return False
        if atoms.pbc.all():
            return True
        box, shift = box_around(atoms)
        return np.array_equal(shift, self._shift) and np.array_equal(box, self._box)

    def _open(self, atoms: Atoms):
        self.close()
        self.potential.require_periodicity(atoms.pbc)
        self._box, self._shift = box_around(atoms)
        own = {"charges": atoms.arrays["charges"]} if "charges" in atoms.arrays else {}
        crystal = Crystal(atoms.numbers, atoms.positions + self._shift, self._box, atoms.pbc, own)
        charges = site_charges(crystal, self.potential)
        if atoms.pbc.all():
            require_net_charge(crystal, charges, 0.0, self.potential.net_charge)
        self._session = LammpsSession(self.potential, log=self.log)
        self._shells = Shells.of(crystal, self.potential)
        self._session.create(crystal, charges=charges, shells=self._shells)
        self._session.watch_virial("step", "pe")
        self._kind = _kind(atoms)

    def _run(self):
        """One evaluation, shells at rest."""

        def evaluate():
            self._session.command("run 0 post no")

        evaluate() if self._shells is None else self._shells.relax(self._session, evaluate)

    def _stress(self, atoms: Atoms) -> np.ndarray:
        return self._session.virial() / abs(np.linalg.det(atoms.cell.array))


def box_around(atoms: Atoms):
    """A box for LAMMPS: periodic vectors as they are, the others at right angles to these and long enough.

    LAMMPS lets a box be skewed along periodic directions only.

    Returns:
        Cell (rows, angstrom, shape=(3, 3)), and the shift to add to positions, shape=(3,).

    Raises:
        ValueError: If a periodic direction has no cell vector.
    """
    cell = np.array(atoms.cell.array)
    pbc = np.array(atoms.pbc, dtype=bool)
    shift = np.zeros(3)
    if not pbc.all():
        if np.linalg.matrix_rank(cell[pbc]) < pbc.sum():
            raise ValueError(f"a periodic direction has no cell vector: pbc {pbc.tolist()}, cell {cell.tolist()}")
        _, _, completed = np.linalg.svd(cell[pbc]) if pbc.any() else (None, None, np.eye(3))
        for axis, direction in zip(np.flatnonzero(~pbc), completed[pbc.sum() :]):
            along = atoms.positions @ direction
            low = np.floor((along.min() - _ROOM) / _GRID) * _GRID
            high = np.ceil((along.max() + _ROOM) / _GRID) * _GRID
            cell[axis] = direction * (high - low)
            shift -= direction * low
    return cell, shift


def _kind(atoms: Atoms) -> tuple:
    """What must be equal for a warm start; without periodicity the cell vectors say nothing."""
    cell = atoms.cell.array * atoms.pbc[:, None]
    charges = np.asarray(atoms.arrays.get("charges", ()), dtype=float)
    return atoms.numbers.tobytes(), cell.tobytes(), atoms.pbc.tobytes(), charges.tobytes()
