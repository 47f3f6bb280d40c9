"""Small engines and arrangements that the contract runs over, with the accuracy that each can promise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule

from solidqmmm.system.potential import Potential


@dataclass(frozen=True)
class Case:
    """One engine under the contract.

    Attributes:
        make: Makes the engine.
        atoms: Makes the arrangement (angstrom).
        force: Largest |F + dE/dx| in eV/angstrom by central differences of `step` angstrom.
        net_force: Largest component of the sum of the forces, eV/angstrom.
        shift: Largest change of a force under a rigid shift that the grid does not share, eV/angstrom.
        turn: Largest change of a force under a rotation by 90 degrees (which a grid shares), eV/angstrom.
        order: Largest change of a force when the atoms change places, eV/angstrom.
        warm: Largest difference of a force between a warm and a fresh start, eV/angstrom.
        reason: Why the tolerances are what they are.
        modules: Packages that must be there.
    """

    make: Callable
    atoms: Callable[[], Atoms]
    step: float = 1e-3
    force: float = 1e-5
    net_force: float = 1e-9
    shift: float = 1e-9
    turn: float = 1e-9
    order: float = 1e-9
    warm: float = 1e-9
    reason: str = ""
    modules: tuple[str, ...] = field(default=())

    @property
    def missing(self) -> list[str]:
        return [name for name in self.modules if find_spec(name) is None]


SW = Potential("sw", ("* * Si.sw Si",), ("Si",))


def rattled(atoms: Atoms, amplitude: float, seed: int = 7) -> Atoms:
    """The same atoms, displaced at random (angstrom)."""
    atoms = atoms.copy()
    atoms.positions += amplitude * np.random.default_rng(seed).normal(size=atoms.positions.shape)
    return atoms


def in_cubic_box(name: str, width: float) -> Atoms:
    """A molecule of ASE's collection in the middle of a cube without periodicity, a little distorted."""
    atoms = molecule(name)
    atoms.set_cell([width] * 3)
    atoms.center()
    return rattled(atoms, 0.03)


def _gpaw(**keywords):
    def make():
        from solidqmmm.engines.gpaw import GPAWEngine

        return GPAWEngine(convergence={"density": 1e-6}, **keywords)

    return make


def _emt():
    from ase.calculators.emt import EMT

    from solidqmmm.engines.ase import ASEEngine

    return ASEEngine(EMT())


def _tblite():
    from solidqmmm.engines.ase import ASEEngine

    return ASEEngine.from_import("tblite.ase:TBLite", method="GFN1-xTB", verbosity=0, accuracy=0.01)


def _pyscf():
    from solidqmmm.engines.pyscf import PySCFEngine

    return PySCFEngine(basis="6-31g", grid_level=1)


def _lammps():
    from solidqmmm.engines.lammps import LammpsEngine

    return LammpsEngine(SW)


def _silicon(pbc) -> Atoms:
    atoms = bulk("Si") * (3, 3, 3)
    atoms.pbc = pbc
    return rattled(atoms, 0.05)


CASES = {
    "gpaw-lcao": Case(
        _gpaw(basis="sz(dzp)", h=0.3, fft_potential=True),
        lambda: in_cubic_box("SiH4", 7.2),
        step=5e-3,
        force=1e-3,
        net_force=0.1,
        shift=0.1,
        turn=1e-3,
        order=1e-3,
        warm=1e-3,
        reason="grid of 0.3 A (egg-box error 0.05 eV/A), SCF density to 1e-6",
        modules=("gpaw",),
    ),
    "gpaw-pw": Case(
        _gpaw(mode="pw", ecut=250),
        lambda: in_cubic_box("H2", 4.0),
        step=5e-3,
        force=5e-3,
        net_force=5e-3,
        shift=5e-3,
        turn=1e-3,
        order=1e-3,
        warm=1e-3,
        reason="exchange and correlation live on the grid of a 250 eV cutoff, SCF density to 1e-6",
        modules=("gpaw",),
    ),
    "ase-emt": Case(
        _emt,
        lambda: rattled(bulk("Al", cubic=True) * (2, 2, 2), 0.05),
        shift=1e-8,
        turn=1e-8,
        order=1e-8,
        warm=1e-8,
        reason="an analytic potential; the central difference itself is good to 1e-6",
    ),
    "ase-tblite": Case(
        _tblite,
        lambda: in_cubic_box("SiH4", 8.0),
        force=1e-4,
        net_force=1e-4,
        shift=1e-4,
        turn=1e-4,
        order=1e-4,
        warm=1e-4,
        reason="SCF to 1e-8 hartree",
        modules=("tblite",),
    ),
    "pyscf": Case(
        _pyscf,
        lambda: in_cubic_box("H2O", 6.0),
        force=1e-5,
        shift=5e-5,
        turn=5e-5,
        order=5e-5,
        warm=5e-5,
        reason="orbital gradient to 6e-7 hartree; angular grids share turns by 90 degrees",
        modules=("pyscf",),
    ),
    "lammps-bulk": Case(_lammps, lambda: _silicon(True), force=1e-5, reason="analytic; the step's square"),
    "lammps-wire": Case(_lammps, lambda: _silicon((False, False, True)), force=1e-5, reason="as in bulk"),
    "lammps-cluster": Case(_lammps, lambda: _silicon(False), force=1e-5, reason="as in bulk"),
}
