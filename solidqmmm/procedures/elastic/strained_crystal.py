"""A live crystal whose cell may be strained, whoever evaluates it: host, hybrid, or an engine alone."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from ase import Atoms

from solidqmmm.coupling.qmmm import QMMM
from solidqmmm.coupling.surrogate import Harmonic
from solidqmmm.engines.journal import without_journal
from solidqmmm.engines.lammps import LammpsEngine
from solidqmmm.engines.protocols import Contribution, Engine
from solidqmmm.engines.unit_cell_engine import for_unit_cell
from solidqmmm.errors import EngineError
from solidqmmm.physics.algebra.quasi_newton import update_bfgs
from solidqmmm.procedures.elastic.pulay import pulay_stress
from solidqmmm.procedures.relax import settle
from solidqmmm.system.crystal import Crystal

_ION_STIFFNESS = 25.0  # eV/angstrom^2, where relaxation starts (silicon's optical phonon has 27)
_MOST_ION_STEPS = 200
_PATIENCE = 6  # steps in which the largest force must fall by a tenth; where it does not, it is noise
_CURE = "choose coupling: {scheme: subtractive}"


class StrainedCrystal(Protocol):
    """What a strain series asks of a crystal; a context manager.

    Attributes:
        crystal: Its atoms where it was made.
        tightens: Whether the forces carry no noise, so that it is worth while to relax far below the asked threshold.
        n_force_evaluations: Evaluations of the whole crystal so far.
        n_qm_calls: Evaluations by the quantum engine so far.
    """

    crystal: Crystal
    tightens: bool
    n_force_evaluations: int
    n_qm_calls: int

    def place(self, positions, cell):
        """Puts the atoms at `positions`, angstrom, shape=(n, 3), into the `cell`, rows in angstrom, shape=(3, 3)."""
        ...

    def positions(self) -> np.ndarray:
        """Present positions in angstrom, shape=(n, 3)."""
        ...

    def stress(self) -> np.ndarray:
        """Cauchy stress in eV/angstrom^3, tension positive, shape=(3, 3)."""
        ...

    def forces(self) -> np.ndarray:
        """Forces in eV/angstrom, shape=(n, 3)."""
        ...

    def max_force(self) -> float:
        """Largest norm of a force in eV/angstrom."""
        ...

    def relax(self, fmax: float, target: float | None = None) -> float:
        """Relaxes the ions in the present cell, towards the force `target` where that costs nothing, at least to `fmax`
        (eV/angstrom).

        Returns:
            The largest force left in eV/angstrom.
        """
        ...

    def __enter__(self): ...

    def __exit__(self, *exc_info): ...


def is_noise_free(engine: Engine | None) -> bool:
    """Whether forces are exact to rounding: LAMMPS's are, those of self-consistent engines and of grids are not."""
    return engine is None or isinstance(without_journal(engine), LammpsEngine)


def require_stress(model):
    """Refuses a model without a stress before anything is computed, a lattice matching included.

    Raises:
        EngineError: If coupling or engine have no stress; says why.
    """
    if model.engine is None:
        return
    scheme = None if model.engine_alone else model.study.coupling.scheme
    if scheme == "force_mixing":
        raise _no_stress(f"the coupling '{scheme}' has no energy, and so no virial", _CURE)
    if model.engine_alone or model.study.caps.periodic_axes:
        _require_stress_of(model.engine, "" if model.engine_alone else " of the periodic cluster")


def _require_stress_of(engine: Engine, whose: str = ""):
    if not engine.provides_stress:
        in_pw = "gpaw" in engine.name.lower()
        cure = "GPAW gives it in plane waves: qm: {engine: gpaw, mode: pw}" if in_pw else "choose another engine"
        raise _no_stress(f"the engine '{engine.name}'{whose} gives none", cure)


def _no_stress(reason, cure) -> EngineError:
    return EngineError(f"elastic constants need a stress: {reason}; {cure}")


class HybridCrystal:
    """Host and correction (or the host alone), driven by LAMMPS.

    Args:
        qmmm: The live hybrid crystal; closed with this one.
        tightens: See `StrainedCrystal`.
        max_qm_calls: Largest number of quantum calls of one relaxation.

    Raises:
        EngineError: If the coupling has no stress; says why.
    """

    def __init__(self, qmmm: QMMM, *, tightens: bool, max_qm_calls: int = 60):
        self.qmmm = qmmm
        self.crystal = qmmm.host.crystal
        self.tightens = tightens
        self.max_qm_calls = max_qm_calls
        if not qmmm.has_energy:
            reason = qmmm.stress_missing_reason
            qmmm.close()
            raise _no_stress(reason, _CURE)
        self._harmonic = Harmonic()
        self._counter = _Counter()
        qmmm.host.attach(self._counter, "counter")

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.qmmm.close()

    @property
    def n_force_evaluations(self) -> int:
        """Force evaluations of the whole crystal so far."""
        return self._counter.calls

    @property
    def n_qm_calls(self) -> int:
        """Evaluations by the quantum engine so far."""
        quantum = getattr(self.qmmm.coupling, "quantum", None)
        return 0 if quantum is None else quantum.evaluations

    def place(self, positions, cell):
        """Moves the atoms (angstrom, shape=(n, 3)) into another cell (rows in angstrom)."""
        self.qmmm.host.set_cell(cell, remap=False)
        self.qmmm.host.set_positions(positions)

    def positions(self) -> np.ndarray:
        """In angstrom, shape=(n, 3)."""
        return self.qmmm.host.positions()

    def stress(self) -> np.ndarray:
        """Cauchy stress in eV/angstrom^3, tension positive, shape=(3, 3).

        Raises:
            EngineError: If there is none, with the reason.
        """
        stress = self.qmmm.stress()
        if stress is None:
            raise EngineError(f"elastic constants need a stress: {self.qmmm.stress_missing_reason}")
        return stress

    def forces(self) -> np.ndarray:
        """In eV/angstrom, zero on frozen atoms, shape=(n, 3)."""
        return self.qmmm.forces()

    def max_force(self) -> float:
        """Largest norm of a force in eV/angstrom, frozen atoms left out."""
        return self.qmmm.largest_force()[0]

    def relax(self, fmax: float, target: float | None = None) -> float:
        """Relaxes the atoms at fixed cell; the largest force left in eV/angstrom.

        Args:
            fmax: Largest force that is good enough, eV/angstrom.
            target: Smaller force that is tried, with conjugate gradients or a few quantum calls.
        """
        return settle(
            self.qmmm, fmax=fmax, target=target, harmonic=self._harmonic, max_qm_calls=self.max_qm_calls
        )


class _Counter:
    """A correction of nothing: it counts LAMMPS's force evaluations."""

    atoms = np.empty(0, dtype=int)
    reference = np.empty((0, 3))
    has_energy = True
    needs_host_forces = False

    def __init__(self):
        self.calls = 0

    def evaluate(self, positions, cell, host_forces=None) -> Contribution:
        del cell, host_forces
        self.calls += 1
        return Contribution(forces=np.zeros_like(positions), energy=0.0)


class EngineCrystal:
    """An engine alone on a periodic cell; ions relaxed by BFGS with a Hessian that is kept from strain to strain.

    Args:
        engine: The engine; it must give stress. It is not closed here.
        crystal: Fully periodic.
        tightens: See `StrainedCrystal`.
        perfect: Whether it is the crystal without its defect: then neutral, and without the defect's moments.

    Raises:
        EngineError: If the engine gives no stress.
    """

    def __init__(self, engine: Engine, crystal: Crystal, *, tightens: bool, perfect: bool = False):
        _require_stress_of(engine)
        self.crystal = crystal
        self.tightens = tightens
        self._atoms = Atoms(numbers=crystal.numbers, positions=crystal.positions, cell=crystal.cell, pbc=True)
        self._engine = for_unit_cell(engine, self._atoms, perfect=perfect)
        self._answer = None
        self._hessian = _ION_STIFFNESS * np.eye(3 * len(crystal))
        self.n_qm_calls = 0

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        pass

    @property
    def n_force_evaluations(self) -> int:
        """Evaluations by the engine so far: it computes the whole crystal."""
        return self.n_qm_calls

    def place(self, positions, cell):
        """Moves the atoms (angstrom, shape=(n, 3)) into another cell (rows in angstrom)."""
        self._atoms.set_cell(cell)
        self._atoms.positions = positions
        self._answer = None

    def positions(self) -> np.ndarray:
        """In angstrom, shape=(n, 3)."""
        return self._atoms.positions.copy()

    def stress(self) -> np.ndarray:
        """Cauchy stress in eV/angstrom^3, tension positive, shape=(3, 3)."""
        return np.array(self._evaluated().stress)

    def max_force(self) -> float:
        """Largest norm of a force in eV/angstrom, the net force left out."""
        return float(np.linalg.norm(self.forces(), axis=1).max())

    def relax(self, fmax: float, target: float | None = None) -> float:
        """Relaxes the atoms at fixed cell to `target` (`fmax` without); the largest force left in eV/angstrom.

        Where forces fall no further, that is in their noise, the atoms are left where they were smallest.
        """
        fmax = min(fmax, target or fmax)
        best, since = (self.max_force(), self.positions(), self._answer, self._hessian.copy()), 0
        for _ in range(_MOST_ION_STEPS):
            if best[0] <= fmax or since == _PATIENCE:
                break
            forces, before = self.forces().ravel(), self.positions()
            move = np.linalg.solve(self._hessian, forces).reshape(-1, 3)
            move *= min(1.0, 0.15 / np.linalg.norm(move, axis=1).max())
            self.place(before + move, self._atoms.cell.array)
            update_bfgs(self._hessian, move.ravel(), forces - self.forces().ravel())
            since = 0 if self.max_force() < 0.9 * best[0] else since + 1
            if self.max_force() < best[0]:
                best = self.max_force(), self.positions(), self._answer, self._hessian.copy()
        force, self._atoms.positions, self._answer, self._hessian = best
        return force

    def basis_tension(self) -> float | None:
        """Tension in eV/angstrom^3 that a finite basis of plane waves pretends; None without one. Two evaluations."""
        return pulay_stress(self._engine, self._atoms)

    def _evaluated(self):
        if self._answer is None:
            self._answer = self._engine.evaluate(self._atoms, stress=True)
            self.n_qm_calls += 1
        return self._answer

    def forces(self) -> np.ndarray:
        """In eV/angstrom without the net force, shape=(n, 3)."""
        forces = self._evaluated().forces
        return forces - forces.mean(axis=0)
