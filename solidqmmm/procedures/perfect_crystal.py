"""The perfect crystal as one engine sees it: relaxed cell, bulk modulus and elastic tensor, by straining it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from ase import Atoms
from ase.spacegroup.symmetrize import prep_symmetry, refine_symmetry
from ase.units import GPa

from solidqmmm.engines.protocols import Engine, Evaluation
from solidqmmm.engines.unit_cell_engine import for_unit_cell
from solidqmmm.errors import ConvergenceError, StructureError
from solidqmmm.physics.algebra.quasi_newton import update_bfgs
from solidqmmm.physics.elastic.equation_of_state import (
    EnergySurface,
    bulk_modulus,
    fit_energy_surface,
    log_volume_gradient,
    strain_gradient,
    stretch_of,
)
from solidqmmm.physics.symmetry import crystal_symmetry as symmetry
from solidqmmm.system.crystal import Crystal

logger = logging.getLogger(__name__)

SYMPREC = 1e-3  # angstrom; what files round coordinates to
# Errors from which on a result carries a warning: of the cell's lengths and of the bulk modulus, in percent.
LENGTH_ERROR_PERCENT, MODULUS_ERROR_PERCENT = 0.05, 2.0
_ION_STIFFNESS = 25.0  # eV/angstrom^2, where relaxation starts (silicon's optical phonon has 27)
_MOST_ION_STEPS = 40
_MOST_MOVES = 12
_FARTHEST = 0.15  # strain from the given cell at which the search gives up


@dataclass(frozen=True, eq=False)
class PerfectCrystal:
    """A unit cell with its symmetry idealized, and its primitive cell in the same orientation.

    Attributes:
        unit: The unit cell as given, idealized.
        atoms: Its primitive cell.
        rotations: Cartesian point operations of the space group, shape=(n, 3, 3).
        permutations: Where each takes the primitive cell's atoms, shape=(n, n_atoms).
        number: International number of the space group.
        sites_per_conventional: Atoms in the conventional cell.
    """

    unit: Atoms
    atoms: Atoms
    rotations: np.ndarray
    permutations: np.ndarray
    number: int
    sites_per_conventional: int

    @classmethod
    def of(cls, unit: Crystal) -> PerfectCrystal:
        """Finds symmetry and primitive cell.

        Raises:
            StructureError: If the cell is not periodic in three directions or no symmetry is found.
        """
        import spglib

        if not np.all(unit.pbc):
            raise StructureError(
                f"matching needs a crystal that is periodic in three directions, got pbc {unit.pbc.tolist()}"
            )
        whole = Atoms(numbers=unit.numbers, positions=unit.positions, cell=unit.cell, pbc=True)
        try:
            refine_symmetry(whole, SYMPREC)
            cell = (whole.cell.array, whole.get_scaled_positions(wrap=False), whole.numbers)
            vectors, scaled, numbers = spglib.standardize_cell(
                cell, to_primitive=True, no_idealize=True, symprec=SYMPREC
            )
            atoms = Atoms(numbers=numbers, scaled_positions=scaled, cell=vectors, pbc=True)
            rotations, _, permutations = prep_symmetry(atoms, SYMPREC)[:3]
            dataset = spglib.get_symmetry_dataset((vectors, scaled, numbers), symprec=SYMPREC)
        except Exception as error:  # spglib and ASE have several ways of saying so
            raise StructureError(
                f"no symmetry was found within {SYMPREC} angstrom ({error}): check for overlapping atoms"
            ) from error
        return cls(
            whole,
            atoms,
            symmetry.cartesian_rotations(rotations, atoms.cell.array),
            np.asarray(permutations),
            int(dataset.number),
            len(dataset.std_types),
        )

    @cached_property
    def strains(self) -> np.ndarray:
        """Strains that keep the symmetry, the volume's first, shape=(m, 3, 3)."""
        return symmetry.invariant_strains(self.rotations)

    @cached_property
    def displacements(self) -> np.ndarray:
        """Displacements that keep the symmetry, shape=(k, 3 n_atoms)."""
        return symmetry.invariant_displacements(self.rotations, self.permutations)

    @property
    def is_cubic(self) -> bool:
        """Whether the space group is cubic."""
        return self.number >= 195


@dataclass(frozen=True, eq=False)
class Equilibrium:
    """The crystal at an engine's own minimum.

    Attributes:
        stretch: G, symmetric: the relaxed unit cell is `unit.cell @ G`, shape=(3, 3).
        energy_per_atom: In eV.
        bulk_modulus_GPa: Under hydrostatic pressure, shape of the cell and ions free.
        length_error_percent: Standard error of the cell's lengths, from the residual of the fit.
        modulus_error_percent: The same of the bulk modulus.
        ions: Displacements of the ions from the given cell's fractional positions, as coefficients, shape=(k,).
        warnings: What makes the numbers doubtful.
    """

    stretch: np.ndarray
    energy_per_atom: float
    bulk_modulus_GPa: float
    length_error_percent: float
    modulus_error_percent: float
    ions: np.ndarray
    warnings: list[str] = field(default_factory=list)


class StrainedCells:
    """An engine on strained primitive cells; what was computed is kept.

    Args:
        crystal: The crystal.
        engine: The engine; collective over MPI ranks like every engine.
        label: Who is speaking in messages.
        strain: Half-width of the series, as linear strain.
        fmax: Largest force on an ion that counts as relaxed, eV/angstrom.
        report: Called as report(message) after each call of the engine.
    """

    def __init__(self, crystal: PerfectCrystal, engine: Engine, *, label, strain, fmax, report=None):
        self.crystal = crystal
        self.engine = for_unit_cell(engine, crystal.atoms)
        self.label = label
        self.strain = float(strain)
        self.fmax = float(fmax)
        self.report = report or logger.debug
        self.n_calls = 0
        self.warnings: list[str] = []
        self._has_stress = bool(self.engine.provides_stress)
        # Energies alone need a longer series than stresses do: 7 and 5 volumes.
        self._n = 3 if len(crystal.strains) == 1 and not self._has_stress else 2
        self._known: dict[tuple, tuple[Evaluation, np.ndarray]] = {}
        self._stiffness = _ION_STIFFNESS * np.eye(len(crystal.displacements))

    # --- evaluations ---------------------------------------------------------------------------------------------

    def relaxed(self, deformation, ions, displacements, stiffness):
        """The engine's answer with the ions relaxed along `displacements`, by quasi-Newton (BFGS) steps.

        Args:
            deformation: D, cell = cell_0 D and positions = (positions_0 + ions . displacements) D.
            ions: Where to start, shape=(k,).
            displacements: Orthonormal, shape=(k, 3 n).
            stiffness: Guess of d2E/d(ions)2 in eV/angstrom^2, shape=(k, k); improved in place.

        Returns:
            The evaluation, and the ions' coefficients, shape=(k,).
        """
        start, ions, last = self.crystal.atoms, np.array(ions, dtype=float), None
        for _ in range(_MOST_ION_STEPS):
            atoms = start.copy()
            atoms.set_cell(start.cell.array @ deformation)
            atoms.positions = (start.positions + (ions @ displacements).reshape(-1, 3)) @ deformation
            answer = self.engine.evaluate(atoms, stress=self._has_stress)
            self.n_calls += 1
            self.report(f"{self.label}: call {self.n_calls}, {answer.energy:.5f} eV")
            if len(ions) == 0:
                return answer, ions
            slope = -displacements @ (answer.forces @ deformation.T).ravel()
            if np.linalg.norm((slope @ displacements).reshape(-1, 3), axis=1).max() < self.fmax:
                return answer, ions
            if last is not None:
                update_bfgs(stiffness, ions - last[0], slope - last[1])
            last = ions, slope
            move = -np.linalg.solve(stiffness, slope)
            ions = ions + move * min(1.0, 0.15 / np.linalg.norm(move))
        largest = np.linalg.norm((slope @ displacements).reshape(-1, 3), axis=1).max()
        self._warn(
            f"the ions of a strained cell were not relaxed to {self.fmax:g} eV/A in {_MOST_ION_STEPS} steps "
            f"({largest:.2g} eV/A are left)"
        )
        return answer, last[0]

    def _at(self, point: tuple) -> tuple[Evaluation, np.ndarray]:
        """The relaxed crystal at a point of the grid of strains."""
        if point not in self._known:
            ions = np.zeros(len(self._stiffness))
            if self._known:
                nearest = min(self._known, key=lambda other: sum((a - b) ** 2 for a, b in zip(other, point)))
                ions = self._known[nearest][1]
            deformation = self._stretch(point)
            self._known[point] = self.relaxed(deformation, ions, self.crystal.displacements, self._stiffness)
        return self._known[point]

    def _stretch(self, point) -> np.ndarray:
        return stretch_of(np.asarray(point) * self.strain / self._n, self.crystal.strains)

    # --- the minimum ---------------------------------------------------------------------------------------------

    def equilibrium(self) -> Equilibrium:
        """Cell, energy and bulk modulus at the minimum.

        A few strains find where it is; a series around it is then fitted by a cubic in the Eulerian strain. The points
        lie on one grid, so that a series that must move keeps what it has.

        Raises:
            ConvergenceError: If no minimum is found.
        """
        m, n = len(self.crystal.strains), self._n
        centre = np.zeros(m, dtype=int)
        for _ in range(_MOST_MOVES):
            shift = n * self._fitted(centre, self._cross(centre, (n,)), degree=2).minimum()
            shift = np.rint(shift).astype(int)
            if np.abs(shift).max() <= 1:
                break
            centre = self._moved(centre, shift)
        for _ in range(_MOST_MOVES):
            points = self._cross(centre, range(1, n + 1)) + (
                [] if self._has_stress else self._corners(centre)
            )
            points += [known for known in self._known if np.abs(np.subtract(known, centre)).max() <= n + 1]
            points = list(dict.fromkeys(points))
            # one strain and five stresses fix a quartic as well
            surface = self._fitted(centre, points, degree=4 if m == 1 and self._has_stress else 3)
            y = surface.minimum()
            if np.abs(y).max() <= 0.75:
                return self._equilibrium(centre, points, surface, y)
            moved = np.rint(n * y).astype(int)
            logger.info("%s: the minimum lies at the edge of the series; it moves by %s", self.label, moved)
            centre = self._moved(centre, moved)
        raise self._no_minimum(centre)

    def _moved(self, centre, shift):
        centre = centre + shift
        if self.strain / self._n * np.abs(centre).max() > _FARTHEST:
            raise self._no_minimum(centre)
        return centre

    def _no_minimum(self, centre) -> ConvergenceError:
        reached = 100 * self.strain / self._n * np.abs(centre).max()
        return ConvergenceError(
            f"{self.label}: no minimum of the energy was found up to a strain of {reached:.0f} % from the cell that was "
            "given: check that the model binds this crystal, or start from a cell nearer to its own"
        )

    def _cross(self, centre, steps) -> list[tuple]:
        """The centre and points along the axes, the nearest first."""
        along = [
            centre + sign * step * axis
            for step in steps
            for axis in np.eye(len(centre), dtype=int)
            for sign in (-1, 1)
        ]
        return [tuple(int(k) for k in point) for point in [centre, *along]]

    def _corners(self, centre) -> list[tuple]:
        """What mixed derivatives need where there are energies only."""
        axes = self._n * np.eye(len(centre), dtype=int)
        signs = ((-1, -1), (-1, 1), (1, -1), (1, 1))
        corners = [
            centre + s * axes[a] + t * axes[b] for a in range(len(centre)) for b in range(a) for s, t in signs
        ]
        return [tuple(int(k) for k in point) for point in corners]

    def _fitted(self, centre, points, *, degree) -> EnergySurface:
        answers = [self._at(point)[0] for point in points]
        y = np.subtract(points, centre) / self._n
        gradients = None
        if self._has_stress:
            gradients = [
                self.strain
                * strain_gradient(answer.stress, self._volume(stretch), stretch, self.crystal.strains)
                for answer, stretch in zip(answers, map(self._stretch, points))
            ]
        return fit_energy_surface(y, [answer.energy for answer in answers], gradients, degree=degree)

    def _volume(self, deformation) -> float:
        return abs(np.linalg.det(self.crystal.atoms.cell.array @ deformation))

    def _equilibrium(self, centre, points, surface, y) -> Equilibrium:
        def at(y):
            return self._stretch(centre + self._n * y)

        def modulus(fit, y) -> float:
            G = at(y)
            slope = self.strain * log_volume_gradient(G, self.crystal.strains)
            return bulk_modulus(fit.hessian(y), slope, self._volume(G)) / GPa

        def lengths_and_modulus(fit):
            own = fit.minimum()
            return np.array([*np.diag(at(own)), modulus(fit, own)])

        if np.linalg.eigvalsh(surface.hessian(y)).min() <= 0:
            raise ConvergenceError(
                f"{self.label}: the crystal is not stable against a strain that keeps its symmetry; is this the phase "
                "that the engine knows?"
            )
        B = modulus(surface, y)
        *lengths, of_modulus = surface.spread(lengths_and_modulus)
        length_error, modulus_error = 100 * float(max(lengths)), 100 * float(of_modulus / B)
        if length_error > LENGTH_ERROR_PERCENT or modulus_error > MODULUS_ERROR_PERCENT:
            self._warn(
                f"the series is not smooth: standard error {length_error:.2g} % of the lattice parameter and "
                f"{modulus_error:.2g} % of the bulk modulus; use tighter SCF and grid settings or a larger strain than "
                f"{self.strain:g}"
            )
        if self._has_stress:
            self._compare_with_energies(centre, points, surface, y, at)
        nearest = min(points, key=lambda p: np.sum((np.subtract(p, centre) - self._n * y) ** 2))
        logger.info(
            "%s: B = %.2f GPa +- %.2g %%, %d calls of the engine", self.label, B, modulus_error, self.n_calls
        )
        return Equilibrium(
            at(y), surface.value(y) / len(self.crystal.atoms), B, length_error, modulus_error,
            self._known[nearest][1], list(self.warnings),
        )  # fmt: skip

    def _compare_with_energies(self, centre, points, surface, y, at):
        """The energy must be least where the stress vanishes; a plane-wave basis that is too small parts the two."""
        Y = np.subtract(points, centre) / self._n
        left = np.array([self._at(point)[0].energy for point in points]) - [
            surface.value(point) for point in Y
        ]
        slope = np.linalg.lstsq(np.column_stack([np.ones(len(Y)), Y]), left, rcond=1e-10)[0][1:]
        shift = np.linalg.solve(surface.hessian(y), -slope)
        off = 100 * np.abs(np.diag(at(y + shift)) / np.diag(at(y)) - 1).max()
        if off > LENGTH_ERROR_PERCENT:
            self._warn(
                f"stress and energy disagree: by the energies the cell would be {off:.2g} % off the one without stress "
                "(Pulay stress of a basis that is too small; raise the cutoff)"
            )

    # --- elasticity ----------------------------------------------------------------------------------------------

    def elastic_tensor_GPa(self, equilibrium: Equilibrium) -> np.ndarray:
        """Relaxed-ion elastic tensor (Voigt) in GPa by central differences, shape=(6, 6).

        From stresses C_ij = [sigma_i(+eta_j) - sigma_i(-eta_j)] / 2 eta at a fifth of `strain`; without them from energies,
        eta.C.eta = [E(+) + E(-) - 2 E(0)] / V at `strain`. Only strains that the symmetry asks for are computed.
        """
        tensors = symmetry.invariant_elastic_tensors(self.crystal.rotations)
        size = self.strain / 5 if self._has_stress else self.strain
        free = symmetry.free_displacements(len(self.crystal.atoms))
        stiffness = _ION_STIFFNESS * np.eye(len(free))
        relaxed_ions = free @ (equilibrium.ions @ self.crystal.displacements)
        G = equilibrium.stretch
        volume = self._volume(G)

        def strained(eta):
            deformation = G @ (np.eye(3) + symmetry.voigt_strain(eta))
            return self.relaxed(deformation, relaxed_ions, free, stiffness)[0]

        unstrained = None if self._has_stress else strained(np.zeros(6)).energy
        rows, answers = [], []
        for direction in symmetry.strains_that_suffice(tensors, from_stress=self._has_stress):
            up, down = strained(size * direction), strained(-size * direction)
            rows.append(symmetry.elastic_rows(tensors, direction, from_stress=self._has_stress))
            if self._has_stress:
                answers.append(symmetry.voigt_stress(up.stress - down.stress) / (2 * size))
            else:
                answers.append([(up.energy + down.energy - 2 * unstrained) / (volume * size**2)])
        constants = np.linalg.lstsq(np.vstack(rows), np.concatenate(answers), rcond=None)[0]
        return np.einsum("r,rij->ij", constants, tensors) / GPa

    def _warn(self, text: str):
        message = f"{self.label}: {text}"
        if message not in self.warnings:
            self.warnings.append(message)
