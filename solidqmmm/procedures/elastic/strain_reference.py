"""The state that a strain series starts from: ions at rest, and the cell without stress where that is asked for."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from ase.units import GPa

from solidqmmm.physics.algebra.quasi_newton import update_broyden
from solidqmmm.physics.symmetry.crystal_symmetry import voigt_strain, voigt_stress
from solidqmmm.procedures.elastic.strained_crystal import StrainedCrystal

logger = logging.getLogger(__name__)

STRESS_TOLERANCE_GPa = 1e-3
_TIGHT_STRESS_GPa = 1e-5  # where the forces carry no noise
_LARGEST_STEP = 0.02  # strain
_MOST_STEPS = 20


@dataclass(frozen=True, eq=False)
class Reference:
    """The undeformed crystal of a series.

    Attributes:
        positions: In angstrom, shape=(n, 3).
        cell: Rows in angstrom, shape=(3, 3).
        stress: Cauchy stress in eV/angstrom^3, shape=(3, 3).
        given_stress: The same with relaxed ions in the cell that was given, shape=(3, 3).
        deformation: F from the given cell to this one, symmetric, shape=(3, 3).
        given_max_force: Largest force before anything was relaxed, eV/angstrom.
        max_force: Largest force left, eV/angstrom.
    """

    positions: np.ndarray
    cell: np.ndarray
    stress: np.ndarray
    given_stress: np.ndarray
    deformation: np.ndarray
    given_max_force: float
    max_force: float

    @property
    def volume(self) -> float:
        """In angstrom^3."""
        return float(abs(np.linalg.det(self.cell)))


def isotropic_stiffness(bulk_modulus_GPa: float = 100.0, shear_modulus_GPa: float = 50.0) -> np.ndarray:
    """The stiffness of an isotropic solid in eV/angstrom^3 (Voigt), shape=(6, 6): where nothing better is known."""
    K, G = bulk_modulus_GPa * GPa, shear_modulus_GPa * GPa
    C = np.zeros((6, 6))
    C[:3, :3] = K - 2 * G / 3
    C[np.arange(3), np.arange(3)] += 2 * G
    C[np.arange(3, 6), np.arange(3, 6)] = G
    return C


def relaxed_reference(
    crystal: StrainedCrystal, positions, cell, *, fmax: float, relax_cell: bool, stiffness=None, report=None
) -> Reference:
    """Relaxes the ions, and then the cell by Newton steps on its strain; the crystal is left there.

    Each step strains the cell by -C^-1 sigma with the best known stiffness C, which Broyden's update learns from the
    stresses that follow; the ions are carried along affinely and relaxed again. It ends below 1e-3 GPa (1e-5
    GPa without noise), or where the stress falls no further (the caller reads it in `stress`).

    Args:
        crystal: A live crystal.
        positions, cell: Where to start, angstrom.
        fmax: Largest force, eV/angstrom.
        relax_cell: Whether the cell is relaxed.
        stiffness: First guess of C in eV/angstrom^3 (Voigt), shape=(6, 6).
        report: Called as report(message) after each step.
    """
    report = report or logger.debug
    target = 0.01 * fmax if crystal.tightens else None
    crystal.place(positions, cell)
    given_force = crystal.max_force()
    force = crystal.relax(fmax, target)
    given = stress = crystal.stress()
    F = np.eye(3)
    best, since = (np.abs(stress).max(), crystal.positions(), cell, stress, F, force), 0
    stiffness = np.array(isotropic_stiffness() if stiffness is None else stiffness)
    tolerance = (_TIGHT_STRESS_GPa if crystal.tightens else STRESS_TOLERANCE_GPa) * GPa
    for step in range(_MOST_STEPS if relax_cell else 0):
        if np.abs(stress).max() < tolerance:
            break
        strain = -np.linalg.solve(stiffness, voigt_stress(stress))
        strain *= min(1.0, _LARGEST_STEP / np.abs(strain).max())
        D = np.eye(3) + voigt_strain(strain)
        cell = cell @ D.T
        # F stays a pure stretch, so that the frame of the input cell stays the frame.
        turn, F = _polar(D @ F)
        cell = cell @ turn
        crystal.place(crystal.positions() @ D.T @ turn, cell)
        force = crystal.relax(fmax, target)
        before, stress = stress, crystal.stress()
        update_broyden(stiffness, strain, voigt_stress(stress) - voigt_stress(before))
        report(f"cell: stress {np.abs(stress).max() / GPa:.4f} GPa")
        if np.abs(stress).max() < best[0]:
            best, since = (np.abs(stress).max(), crystal.positions(), cell, stress, F, force), step
        elif step - since >= 3:
            break  # noise: it goes no further down
    if best[2] is not cell:  # an atom at the origin is at the same place in every cell
        crystal.place(*best[1:3])
    _, positions, cell, stress, F, force = best
    return Reference(positions, cell, stress, given, F, given_force, force)


def _polar(F):
    """R and the symmetric U of F = R U."""
    from scipy.linalg import polar

    R, U = polar(F)
    return R, (U + U.T) / 2
