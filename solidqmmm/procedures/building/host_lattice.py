"""The host's own lattice: how much pressure a given cell puts on its potential, the cell without any, its ions at rest."""

from __future__ import annotations

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.filters import FrechetCellFilter
from ase.optimize import BFGSLineSearch
from ase.units import GPa

from solidqmmm.engines.protocols import Engine
from solidqmmm.errors import SolidQMMMError
from solidqmmm.system.crystal import Crystal


def pressure_GPa(unit: Crystal, engine: Engine) -> float:
    """Pressure of a periodic cell as it stands, in GPa."""
    return float(-np.trace(engine.evaluate(unit.to_atoms(), stress=True).stress) / 3 / GPa)


def relaxed_cell(unit: Crystal, engine: Engine, *, fmax: float = 1e-4, steps: int = 500) -> Crystal:
    """`unit` with cell and atoms relaxed by an engine that gives stress; symmetric crystals stay symmetric.

    Args:
        unit: Periodic cell.
        engine: The host's potential as an engine.
        fmax: Largest force on atoms and generalized force on the cell at the end, eV/angstrom.
        steps: Largest number of steps.

    Raises:
        SolidQMMMError: If it does not converge.
    """
    atoms = unit.to_atoms()
    atoms.calc = _EngineCalculator(engine)
    optimizer = BFGSLineSearch(FrechetCellFilter(atoms), logfile=None)
    if not optimizer.run(fmax=fmax, steps=steps):
        raise SolidQMMMError(
            f"the host's lattice did not relax to {fmax} eV/A in {steps} steps: is the structure a crystal of this "
            "potential? Give structure: {lattice: as_given} to keep the cell"
        )
    return unit.with_positions(atoms.positions, atoms.cell.array)


def relaxed_ions(unit: Crystal, engine: Engine, *, fmax: float = 1e-5, steps: int = 500) -> Crystal:
    """`unit` with its atoms relaxed by an engine, the cell as it is; symmetric crystals stay symmetric.

    Args:
        unit: Periodic cell.
        engine: The host's potential as an engine.
        fmax: Largest force at the end, eV/angstrom.
        steps: Largest number of steps.

    Raises:
        SolidQMMMError: If it does not converge.
    """
    atoms = unit.to_atoms()
    atoms.calc = _EngineCalculator(engine)
    if not BFGSLineSearch(atoms, logfile=None).run(fmax=fmax, steps=steps):
        raise SolidQMMMError(
            f"the atoms of the perfect crystal did not relax to {fmax} eV/A in {steps} steps: is the structure a crystal of "
            "this potential?"
        )
    return unit.with_positions(atoms.positions)


class _EngineCalculator(Calculator):
    """An engine as ASE's optimizers want it."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, engine: Engine):
        super().__init__()
        self.engine = engine

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        answer = self.engine.evaluate(atoms, stress=True)
        voigt = answer.stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        self.results = {"energy": answer.energy, "forces": np.array(answer.forces), "stress": voigt}
