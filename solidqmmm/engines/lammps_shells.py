"""Core-shell models in LAMMPS: shells are further particles behind the atoms, each on a spring to its core.

    E(R) = min_d E(R, d),    F = -dE/dR = F_core + F_shell   at fixed lattice, where F_shell vanishes

Minimizers of LAMMPS move atoms and shells together. Whenever something is asked for, the shells come to rest at fixed atoms,
by Anderson's mixing of the forces over the spring constants: one force evaluation for each iteration, no energy needed.

With an Ewald sum a shell and its core are no neighbours to LAMMPS, and the spring holds what the sum has between them.
LAMMPS can leave pairs out by their molecule, periodic images included; so where the cell is narrower than it looks for
neighbours, all pairs of cores and shells of an element are left out instead, and the sum is split (g) such that these
interact over reciprocal vectors only.

P. J. Mitchell and D. Fincham, J. Phys.: Condens. Matter 5, 1031 (1993); LAMMPS, package CORESHELL.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from solidqmmm.engines.lammps_springs import LINES, spring_table
from solidqmmm.errors import ConvergenceError, EngineError, PolarizationCatastrophe
from solidqmmm.physics.algebra.anderson import Anderson
from solidqmmm.physics.geometry import perpendicular_widths
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.potential import Potential

# A shell farther than this from its core does not belong to it any more (angstrom).
RUNAWAY = 0.7
# Largest force on a shell after relaxation (eV/angstrom).
SHELL_FMAX = 1e-6
# A bond of no length has no direction in a table; and the part of an ion's mass that its shell gets.
_OFFSET, _SHELL_MASS = 1e-5, 0.5
_SMALLEST = 1e-9  # displacement of a shell along each axis that still has a direction (angstrom)
_MARGIN = 1.0  # by which a cell must be wider than LAMMPS looks for neighbours (angstrom)
_ERFC_IS_ZERO, _FAR = 4.6, 4.0
_MAX_ITERATIONS, _LARGEST_STEP = 200, 0.1
# What neighbours add to the curvature of a shell's energy, about (eV/angstrom^2).
_NEIGHBOURS = 20.0


class Shells:
    """The shells of a crystal's atoms.

    Args:
        crystal, potential: The crystal, and a potential with shells.
        excluded: Atoms that have none. The short-ranged terms of their species belong to the shells, whose type they get.

    Attributes:
        owner: Atom of each shell, shape=(m,).
        charges: In e, shape=(m,).
        springs: Spring constants in eV/angstrom^2, shape=(m,).
    """

    def __init__(self, crystal: Crystal, potential: Potential, excluded=()):
        self.crystal, self.potential = crystal, potential
        self.excluded = np.asarray(excluded, dtype=int)
        symbols = np.array(crystal.symbols)
        kind = np.full(len(crystal), -1)
        for k, shell in enumerate(potential.shells):
            kind[symbols == shell.element] = k
        self._kind_of_atom = kind.copy()
        kind[self.excluded] = -1
        self.owner = np.flatnonzero(kind >= 0)
        self.kind = kind[self.owner]
        self.charges = np.array([shell.charge for shell in potential.shells])[self.kind]
        self._reach: float | None = None  # in cells wider than this cores and shells are no neighbours
        self.springs = np.array([shell.spring for shell in potential.shells])[self.kind]

    @classmethod
    def of(cls, crystal: Crystal, potential: Potential, excluded=()) -> Shells | None:
        """The shells, or None for a potential without."""
        return cls(crystal, potential, excluded) if potential.shells else None

    def __len__(self):
        return len(self.owner)

    def _charge_of_ion(self, symbol: str) -> float:
        return self.potential.charges[self.potential.species.index(symbol)]

    # --- in LAMMPS --------------------------------------------------------------------------------------------------

    @property
    def box_words(self) -> str:
        """What `create_box` must know."""
        return f" bond/types {len(self.potential.shells)} extra/bond/per/atom 1 extra/special/per/atom 1"

    @property
    def masses(self) -> list[float]:
        """Masses of the LAMMPS types in amu: cores (and ions without shell), then shells."""
        whole = dict(zip(self.potential.species, self.potential.masses(), strict=True))
        with_shell = {shell.element for shell in self.potential.shells}
        cores = [mass * (1 - _SHELL_MASS if symbol in with_shell else 1) for symbol, mass in whole.items()]
        return cores + [whole[shell.element] * _SHELL_MASS for shell in self.potential.shells]

    def particles(self, crystal: Crystal, charges, types):
        """Crystal, charges (e) and LAMMPS types of all particles, the shells (almost) on their cores, behind the atoms.

        `charges` and `types` are those of the atoms, shape=(n,).

        Raises:
            ValueError: If an ion with a shell has another charge than its species.
        """
        first_shell = len(self.potential.species) + 1
        charges, types = np.array(charges, dtype=float), np.array(types)
        of_ion = np.array([self._charge_of_ion(shell.element) for shell in self.potential.shells])[self.kind]
        if np.abs(charges[self.owner] - of_ion).max(initial=0.0) > 1e-9:
            raise ValueError(
                "ions with shells have the charges of their species: take them out of the crystal's array `charges` (NaN)"
            )
        charges[self.owner] -= self.charges
        bare = self.excluded[self._kind_of_atom[self.excluded] >= 0]
        types[bare] = first_shell + self._kind_of_atom[bare]
        positions = np.vstack([crystal.positions, crystal.positions[self.owner] + _OFFSET / np.sqrt(3)])
        numbers = np.concatenate([crystal.numbers, crystal.numbers[self.owner]])
        everything = Crystal(numbers, positions, crystal.cell, crystal.pbc)
        types = np.concatenate([types, first_shell + self.kind])
        return everything, np.concatenate([charges, self.charges]), types

    def bind(self, session):
        """Bonds between cores and shells, by their zero distance; before the pair style is there.

        Raises:
            EngineError: If LAMMPS finds other bonds, because two atoms lie upon each other.
        """
        session.command("special_bonds lj/coul 0.0 0.0 0.0")
        session.command("bond_style zero")
        session.command("bond_coeff *")
        if not len(self):
            return
        session.command("pair_style zero 2.0")
        session.command("pair_coeff * *")
        n = len(self.crystal)
        for k in np.unique(self.kind):
            session.group("solidqmmm_core", self.owner[self.kind == k])
            session.group("solidqmmm_shell", n + np.flatnonzero(self.kind == k))
            session.command(f"create_bonds many solidqmmm_core solidqmmm_shell {k + 1} 0.0 {100 * _OFFSET}")
            session.command("group solidqmmm_core delete")
            session.command("group solidqmmm_shell delete")
        bonds = int(session.lmp.extract_global("nbonds"))
        if bonds != len(self):
            raise EngineError(f"{len(self)} shells got {bonds} springs: two atoms lie upon each other")

    def set_springs(self, session, splitting: float | None) -> float | None:
        """The bond tables, for g of the Ewald sum (1/angstrom, None where there is none); g as it is afterwards."""
        if splitting is not None and len(self):
            splitting = self._take_apart(session, splitting)
        root = session.communicator.rank == 0
        k_coulomb = session.lmp.extract_global("qqrd2e") * session.scale["energy"]
        charges = [(shell.charge, self._charge_of_ion(shell.element) - shell.charge) for shell in self.potential.shells]
        products = k_coulomb * np.prod(charges, axis=1)
        session.command(f"bond_style table spline {LINES}")
        with tempfile.TemporaryDirectory() as folder:
            path = session.communicator.bcast(str(Path(folder, "springs.table")) if root else None)
            if root:
                pairs = zip(self.potential.shells, products, strict=True)
                unit = session.scale["energy"]
                Path(path).write_text("\n".join(spring_table(*pair, splitting, unit) for pair in pairs))
            for k, shell in enumerate(self.potential.shells, start=1):
                session.command(f"bond_coeff {k} {path} {shell.label}")
        return splitting

    def _take_apart(self, session, splitting: float) -> float:
        """Removes the pairs of cores and their own shells from LAMMPS's lists of neighbours; g that goes with it."""
        n, cell = len(self.crystal), session.cell()
        reach = session.neighbour_cutoff() + _MARGIN
        if (perpendicular_widths(cell)[self.crystal.pbc] < reach).any():
            for shell in self.potential.shells:
                session.command(f"neigh_modify exclude type {self.potential.type_of(shell.element)} {shell.label}")
            splitting = max(splitting, _ERFC_IS_ZERO / self._nearest_of_a_kind())
            session.command(f"kspace_modify gewald {splitting:.16g}")
            return splitting
        self._reach = reach - _MARGIN + 0.2
        molecules = np.arange(1, n + len(self) + 1)
        molecules[n:] = self.owner + 1
        session.scatter_integers("molecule", molecules)
        session.group("polarizable", np.concatenate([self.owner, n + np.arange(len(self))]))
        session.command("neigh_modify exclude molecule/intra polarizable")
        return splitting

    def _nearest_of_a_kind(self) -> float:
        """A distance that ions of one element with shells do not go below, in angstrom: 2 in all usual crystals, so that
        every host of theirs splits the sum alike; else 15 % under the shortest now.
        """
        from matscipy.neighbours import neighbour_list

        crystal = self.crystal
        i, j, d = neighbour_list(
            "ijd", positions=crystal.positions, cell=crystal.cell, pbc=crystal.pbc, cutoff=_FAR
        )
        alike = (self._kind_of_atom[i] >= 0) & (self._kind_of_atom[i] == self._kind_of_atom[j])
        return float(min(2.0, 0.85 * d[alike].min(initial=_FAR)))

    def require_width(self, cell):
        """Nothing, as long as a cell (rows in angstrom, shape=(3, 3)) is as wide as the shells' set-up bears.

        Raises:
            EngineError: If it has become narrower.
        """
        if self._reach is None:
            return
        widths = perpendicular_widths(np.asarray(cell, dtype=float))[self.crystal.pbc]
        if (widths < self._reach).any():
            raise EngineError(
                f"the cell became {widths.min():.2f} A narrow, where this core-shell host was set up for more than "
                f"{self._reach:.2f} A: open a new host for it"
            )

    # --- where they are ----------------------------------------------------------------------------------------------

    def displacements(self, x, cell, pbc) -> np.ndarray:
        """Shells relative to their cores in angstrom, shape=(m, 3), from positions of all particles."""
        n = len(self.crystal)
        d = x[n:] - x[self.owner]
        fractional = d @ np.linalg.inv(cell)
        return d - (np.rint(fractional) * np.asarray(pbc)) @ cell

    def following(self, session, positions) -> np.ndarray:
        """Positions of all particles in angstrom, shape=(n + m, 3): atoms at `positions`, shape=(n, 3), shells as far
        from them as they are.
        """
        d = self.displacements(session.gather("x"), session.cell(), self.crystal.pbc)
        return np.vstack([positions, positions[self.owner] + d])

    def folded(self, forces) -> np.ndarray:
        """Forces on ions, core and shell together, in eV/angstrom, shape=(n, 3), from those on all particles,
        shape=(n + m, 3).
        """
        n = len(self.crystal)
        total = forces[:n].copy()
        total[self.owner] += forces[n:]
        return total

    # --- adiabatic ----------------------------------------------------------------------------------------------------

    def relax(self, session, evaluate, *, fmax: float = SHELL_FMAX) -> int:
        """Moves the shells to where no force acts on them, the atoms fixed (Anderson's mixing of the forces over springs).

        Args:
            session: LAMMPS.
            evaluate: Makes LAMMPS compute the forces, all corrections included.
            fmax: Largest force on a shell at the end, eV/angstrom.

        Returns:
            Number of force evaluations.

        Raises:
            PolarizationCatastrophe: If a shell leaves its core.
            ConvergenceError: If the forces do not vanish.
            EngineError: If a force is not finite.
        """
        n, m, cell = len(self.crystal), len(self), session.cell()
        mixer, largest, before, unstable = Anderson(), np.inf, None, False
        for iteration in range(1, _MAX_ITERATIONS + 1):
            evaluate()
            if m == 0:
                return iteration
            x, f = session.gather("x"), session.gather("f")[n:]
            if not np.isfinite(f).all():
                raise EngineError("forces on shells are not finite: do ions overlap?")
            d = self.displacements(x, cell, self.crystal.pbc)
            self.require_bound(d, x[:n], cell)
            norms = np.linalg.norm(f, axis=1)
            largest = float(norms.max())
            if largest <= fmax:
                return iteration
            if before is not None and (before[0] * (f - before[1])).sum() > 0:
                unstable = True
                mixer = Anderson()  # a saddle attracts mixing; downhill is the way to a minimum, or away from the cores
            step = mixer.step(f / (self.springs[:, None] + _NEIGHBOURS))
            step *= min(1.0, _LARGEST_STEP / np.linalg.norm(step, axis=1).max())
            mixer.taken(step)
            before = step, f
            # LAMMPS's bond table divides by the length: a shell must not sit on its core exactly.
            step = np.where(np.abs(d + step).max(axis=1, keepdims=True) < _SMALLEST, _SMALLEST - d, step)
            session.scatter_some("x", n + np.arange(m), x[n:] + step)
        if unstable:
            raise self._catastrophe(int(norms.argmax()), "finds no place where it is stable", x[:n], cell)
        raise ConvergenceError(
            f"the shells did not come to rest in {_MAX_ITERATIONS} evaluations: {largest:.2g} eV/A is left, asked for "
            f"{fmax:g} eV/A; are the springs too soft for the fields at the ions?"
        )

    def require_bound(self, displacements, positions, cell):
        """Raises if a shell has left its core.

        Args:
            displacements: Of the shells in angstrom, shape=(m, 3).
            positions, cell: Of the atoms, for the message.

        Raises:
            PolarizationCatastrophe: Naming the atom and its nearest neighbour.
        """
        lengths = np.linalg.norm(displacements, axis=1)
        if len(lengths) and lengths.max() > RUNAWAY:
            shell = int(lengths.argmax())
            what = f"ran away from its core: {lengths[shell]:.2f} A, more than {RUNAWAY} A"
            raise self._catastrophe(shell, what, positions, cell)

    def _catastrophe(self, shell: int, what: str, positions, cell) -> PolarizationCatastrophe:
        """The error for a shell that is not held, naming its atom and the nearest neighbours."""
        atom = int(self.owner[shell])
        away = positions - positions[atom]
        away -= (np.rint(away @ np.linalg.inv(cell)) * self.crystal.pbc) @ cell
        distances = np.linalg.norm(away, axis=1)
        distances[atom] = np.inf
        near = [int(i) for i in np.argsort(distances)[:3] if np.isfinite(distances[i])]
        names = ", ".join(f"{self.crystal.symbols[i]} {i} at {distances[i]:.3f} A" for i in near) or "none"
        symbol = self.crystal.symbols[atom]
        return PolarizationCatastrophe(
            f"the shell of atom {atom} ({symbol}) {what} (polarization catastrophe); nearest neighbours: {names}. Are two "
            "ions too close, or is a charge beside it bare? A stiffer `spring` of "
            f"{symbol}, or a `quartic` term, holds the shell",
            pair=(atom, near[0]) if near else None,
            distance=float(distances[near[0]]) if near else None,
        )
