"""What the rest of the house asks of an engine. A capability is a narrow protocol, never a method that raises."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import ase
import numpy as np


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an engine says about one arrangement of atoms.

    Attributes:
        energy: Potential energy in eV (for metals the one consistent with the forces).
        forces: Forces in eV/angstrom, shape=(n, 3), in the order of the atoms that were given.
        stress: Cauchy stress in eV/angstrom^3, tension positive, shape=(3, 3); None when it was not asked for.
        info: Plain JSON facts about this evaluation (SCF iterations, seconds, retries taken, magnetic moment ...).
    """

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None = None
    info: dict = field(default_factory=dict)

    def __post_init__(self):
        for name in ("forces", "stress"):
            value = getattr(self, name)
            if value is not None:
                value = np.array(value, dtype=float)
                value.flags.writeable = False
                object.__setattr__(self, name, value)


@dataclass(frozen=True, eq=False)
class Contribution:
    """What a correction adds to the host.

    Attributes:
        forces: Forces in eV/angstrom on the correction's atoms, shape=(n, 3).
        energy: Energy in eV, or None where the scheme has none (never 0.0).
        virial: Sum of x (outer) F in eV, whose symmetric part is -dE/d(strain), shape=(3, 3); None where there is none.
        terms: The parts of the energy in eV by name.
    """

    forces: np.ndarray
    energy: float | None = None
    virial: np.ndarray | None = None
    terms: dict = field(default_factory=dict)


@runtime_checkable
class Engine(Protocol):
    """Evaluates energies and forces. Stateful at the edge only (warm starts); a context manager.

    Every MPI rank calls `evaluate` with the same atoms and gets the same answer; if the engine fails on one rank it
    raises on all of them.
    """

    name: str
    provides_stress: bool

    def evaluate(self, atoms: ase.Atoms, *, stress: bool = False) -> Evaluation:
        """Energy, forces (and stress on request, else None) of `atoms`; EngineError or ConvergenceError on failure.

        `atoms.pbc` says where the arrangement is periodic. Consecutive calls with the same species, cell and pbc may
        start from the previous solution.
        """
        ...

    def describe(self) -> dict:
        """Plain JSON: everything that determines the numbers (settings, versions), for provenance and journals.

        The key `references` lists the citation keys (of data/references.bib) that a user of the result owes.
        """
        ...

    def close(self) -> None: ...

    def __enter__(self): ...

    def __exit__(self, *exc_info): ...
