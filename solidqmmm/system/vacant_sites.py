"""Sites that atoms have left: basis functions may stay there without a nucleus."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms

_NUMBERS, _POSITIONS = "vacant_numbers", "vacant_positions"


@dataclass(frozen=True, eq=False)
class VacantSites:
    """Where atoms were removed, and which.

    ASE Atoms carry them in `info`, under `vacant_numbers` and `vacant_positions`.

    Attributes:
        numbers: Atomic numbers of the removed atoms, shape=(n,).
        positions: Their ideal positions in angstrom, shape=(n, 3).

    Raises:
        ValueError: For numbers and positions that are not equally many, or positions that are not finite.
    """

    numbers: np.ndarray = ()
    positions: np.ndarray = ()

    def __post_init__(self):
        numbers = np.array(self.numbers, dtype=int).reshape(-1)
        positions = np.array(self.positions, dtype=float).reshape(-1, 3)
        if len(numbers) != len(positions):
            raise ValueError(f"`numbers` of vacant sites are {len(numbers)}, but their `positions` are {len(positions)}")
        if not np.isfinite(positions).all():
            raise ValueError(f"`positions` of vacant sites must be finite (angstrom), got {positions.tolist()}")
        for name, value in (("numbers", numbers), ("positions", positions)):
            value.flags.writeable = False
            object.__setattr__(self, name, value)

    def __len__(self):
        return len(self.numbers)

    @classmethod
    def of(cls, atoms: Atoms) -> VacantSites:
        """Those that these atoms carry; none if they carry none."""
        return cls(atoms.info.get(_NUMBERS, ()), atoms.info.get(_POSITIONS, ()))

    def written_to(self, atoms: Atoms) -> Atoms:
        """The same atoms object, which carries these sites from now on."""
        if len(self):
            atoms.info |= {_NUMBERS: np.array(self.numbers), _POSITIONS: np.array(self.positions)}
        return atoms

    def with_positions(self, positions) -> VacantSites:
        """The same sites elsewhere, angstrom, shape=(n, 3)."""
        return VacantSites(self.numbers, positions)

    def near(self, positions, distance: float) -> VacantSites:
        """Those within `distance` (angstrom) of one of `positions`, shape=(m, 3)."""
        if not len(self):
            return self
        gaps = np.linalg.norm(self.positions[:, None] - np.asarray(positions), axis=2).min(axis=1)
        return VacantSites(self.numbers[gaps < distance], self.positions[gaps < distance])
