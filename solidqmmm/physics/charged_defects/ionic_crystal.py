"""A crystal of ions with and without shells, as the particles that interact: cores and shells, in a ball around a point."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from solidqmmm.physics.charged_defects.pair_terms import PairTerm, Particles
from solidqmmm.physics.electrostatics.ewald import COULOMB
from solidqmmm.physics.geometry import perpendicular_widths


@dataclass(frozen=True)
class Ion:
    """One species: a core, and perhaps a shell on a spring, E = k d^2/2 + k4 d^4/24.

    Attributes:
        core: Charge of the core in e (of the whole ion, without a shell).
        kind: Of the core's short-ranged terms.
        shell: Charge of the shell in e; 0 without.
        shell_kind: Of the shell's short-ranged terms.
        spring: k in eV/angstrom^2.
        quartic: k4 in eV/angstrom^4.

    Raises:
        ValueError: For a shell that no spring holds.
    """

    core: float
    kind: int
    shell: float = 0.0
    shell_kind: int = -1
    spring: float = 0.0
    quartic: float = 0.0

    def __post_init__(self):
        if self.shell and not self.spring > 0:
            raise ValueError(f"a shell needs a positive `spring` (eV/A^2), got {self.spring:g}")

    @property
    def charge(self) -> float:
        """Of core and shell in e."""
        return self.core + self.shell


@dataclass(frozen=True, eq=False)
class IonicCrystal:
    """A perfect crystal at rest, its shells on their cores.

    Attributes:
        cell: Cell vectors as rows in angstrom, shape=(3, 3).
        positions: Of the ions of a cell in angstrom, shape=(n, 3).
        ions: Their species, n of them.
        terms: Short-ranged pair terms by kinds (a, b), a <= b.

    Raises:
        ValueError: For arrays that do not fit, or a crystal without any charge or shell.
    """

    cell: np.ndarray
    positions: np.ndarray
    ions: tuple[Ion, ...]
    terms: dict[tuple[int, int], PairTerm] = field(default_factory=dict)

    def __post_init__(self):
        for name, shape in (("cell", (3, 3)), ("positions", (len(self.ions), 3))):
            value = np.array(getattr(self, name), dtype=float)
            if value.shape != shape or not np.isfinite(value).all():
                raise ValueError(f"`{name}` must be finite, of shape {shape}, got {value.shape}")
            value.flags.writeable = False
            object.__setattr__(self, name, value)
        object.__setattr__(self, "ions", tuple(self.ions))
        if not any(ion.core or ion.shell for ion in self.ions):
            raise ValueError("a crystal without charges and shells does not answer a charge: nothing is there to polarize")

    def __len__(self):
        return len(self.ions)

    @property
    def volume(self) -> float:
        """Of the cell in angstrom^3."""
        return float(abs(np.linalg.det(self.cell)))

    @property
    def charges(self) -> np.ndarray:
        """Of whole ions in e, shape=(n,)."""
        return np.array([ion.charge for ion in self.ions])

    @property
    def reach(self) -> float:
        """Of the longest short-ranged term in angstrom."""
        return max((term.cutoff for term in self.terms.values()), default=0.0)

    def sites_within(self, centre, radius: float) -> tuple[np.ndarray, np.ndarray]:
        """Positions relative to a point, nearest first, and which ion of the cell is there; shapes (m, 3) and (m,).

        Args:
            centre: The point in angstrom, shape=(3,).
            radius: In angstrom; ions nearer than that are meant.
        """
        centre = np.asarray(centre, dtype=float)
        relative = self.positions - centre
        relative -= np.rint(relative @ np.linalg.inv(self.cell)) @ self.cell
        farthest = radius + np.linalg.norm(relative, axis=1).max()
        counts = np.ceil(farthest / perpendicular_widths(self.cell)).astype(int)
        mesh = np.meshgrid(*(np.arange(-n, n + 1) for n in counts), indexing="ij")
        shifts = np.stack(mesh, axis=-1).reshape(-1, 3) @ self.cell
        shifts = shifts[np.einsum("na,na->n", shifts, shifts) <= farthest**2]
        places = (shifts[:, None] + relative).reshape(-1, 3)
        which = np.tile(np.arange(len(self)), len(shifts))
        distances = np.linalg.norm(places, axis=1)
        order = np.argsort(np.round(distances, 9), kind="stable")
        order = order[distances[order] < radius]
        return places[order], which[order]


@dataclass(frozen=True, eq=False)
class FieldResponse:
    """How far the particles of a crystal go in a macroscopic field, in angstrom per V/angstrom.

    Attributes:
        cores: Displacements over the field, shape=(n, 3, 3); zero for ions that are held.
        shells: Of the shells, theirs with the core included, shape=(n, 3, 3); zero without a shell.
    """

    cores: np.ndarray
    shells: np.ndarray

    def dipoles(self, crystal: IonicCrystal) -> np.ndarray:
        """Sum over the particles of each ion of charge times displacement, over the field, in e angstrom^2/V,
        shape=(n, 3, 3).
        """
        core, shell = (np.array([getattr(ion, name) for ion in crystal.ions]) for name in ("core", "shell"))
        return core[:, None, None] * self.cores + shell[:, None, None] * self.shells

    def dielectric(self, crystal: IonicCrystal) -> np.ndarray:
        """Relative permittivity, 1 + (4 pi k/V) sum_p q_p u_p/E, shape=(3, 3)."""
        return np.eye(3) + 4 * np.pi * COULOMB / crystal.volume * self.dipoles(crystal).sum(axis=0)


def particles_of(ions, positions, first_ion: int = 0) -> tuple[Particles, np.ndarray]:
    """The cores of some ions and, behind them, their shells, which sit on them.

    Args:
        ions: Species of each.
        positions: In angstrom, shape=(n, 3).
        first_ion: Number of the first.

    Returns:
        The particles, and which of them are shells, shape=(m,).
    """
    positions = np.asarray(positions, dtype=float).reshape(-1, 3)
    with_shell = np.array([i for i, ion in enumerate(ions) if ion.shell], dtype=int)
    number = np.concatenate([np.arange(len(ions)), with_shell])
    is_shell = np.arange(len(number)) >= len(ions)
    charges = [ion.core for ion in ions] + [ions[i].shell for i in with_shell]
    kinds = [ion.kind for ion in ions] + [ions[i].shell_kind for i in with_shell]
    particles = Particles(positions[number], np.array(charges), np.array(kinds, dtype=int), first_ion + number)
    return particles, is_shell
