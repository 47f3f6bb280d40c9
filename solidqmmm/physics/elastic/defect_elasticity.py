"""What a point defect does to the elasticity of its crystal: elastic dipole, relaxation volume, polarizability.

One defect in a cell of volume V changes the energy of the strained crystal by

    Delta E(eps) = Delta E(0) - P_ij eps_ij - eps_ij alpha_ijkl eps_kl / 2,

eps the Green-Lagrange strain from the perfect crystal. The first and second derivatives of energy per volume are stress and
elastic constants, so both constants of the defect follow from differences at the same cell, defect and perfect crystal
alike. Energies in eV, lengths in angstrom; 1 eV/angstrom^3 = 160.21766 GPa = 1602.1766 kbar.

Sources: C. Varvenne and E. Clouet, Phys. Rev. B 96, 224103 (2017) (dipole); E. Clouet, C. Varvenne and T. Jourdan, Comput.
Mater. Sci. 147, 49 (2018) (polarizability).
"""

from __future__ import annotations

import numpy as np

from solidqmmm.physics.elasticity import compliance
from solidqmmm.physics.symmetry.crystal_symmetry import voigt_strain, voigt_stress


def elastic_dipole(stress_defect, stress_perfect, volume) -> np.ndarray:  # cite: varvenne2017dipole
    """P_ij = -V (sigma_defect - sigma_perfect) in eV, shape=(3, 3).

    A defect that pushes outwards has P > 0: held in its cell, the crystal is under pressure.

    Args:
        stress_defect: Cauchy stress with the defect, ions relaxed, in eV/angstrom^3, tension positive, shape=(3, 3).
        stress_perfect: The same of the perfect crystal in the same cell; zero only if that cell is free of stress.
        volume: Volume V of the cell per defect in angstrom^3.

    Raises:
        ValueError: If the volume is not positive.
    """
    return -_positive(volume) * (
        np.asarray(stress_defect, dtype=float) - np.asarray(stress_perfect, dtype=float)
    )


def relaxation_volume_tensor(dipole, C) -> np.ndarray:
    """Omega_ij = S_ijkl P_kl in angstrom^3, whose trace is the relaxation volume, shape=(3, 3).

    The cell of volume V takes the strain Omega/V when it is let go (small strains, C of the perfect crystal: the limit of a
    dilute defect).

    Args:
        dipole: P in eV, shape=(3, 3).
        C: Elastic tensor (Voigt) of the perfect crystal in eV/angstrom^3, shape=(6, 6).

    Raises:
        ValueError: If C is singular.
    """
    return voigt_strain(compliance(C) @ voigt_stress(np.asarray(dipole, dtype=float)))


def diaelastic_polarizability(C_defect, C_perfect, volume) -> np.ndarray:  # cite: clouet2018elastic
    """alpha = -V (C_defect - C_perfect) in eV per defect (Voigt, as C), shape=(6, 6).

    The dipole that a strain induces, P(eps) = P + alpha eps; positive where the defect softens the crystal.

    Args:
        C_defect: dS/dE with the defect, ions relaxed, in eV/angstrom^3, shape=(6, 6).
        C_perfect: The same of the perfect crystal in the same cell.
        volume: Volume V of the cell per defect in angstrom^3.

    Raises:
        ValueError: If the volume is not positive.
    """
    return -_positive(volume) * (np.asarray(C_defect, dtype=float) - np.asarray(C_perfect, dtype=float))


def _positive(volume) -> float:
    if not volume > 0:
        raise ValueError(f"`volume` must be positive (angstrom^3 per defect), got {volume}")
    return float(volume)
