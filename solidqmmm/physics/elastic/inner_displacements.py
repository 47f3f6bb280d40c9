"""How ions answer a strain beyond the affine image, and what forces that are left after relaxation do to a stress.

At fixed inner displacements W (x = F (X + W)) the energy E(eta, W) has dE/d(eta_i) = V S_i. Where forces f = -dE/dW are
left, the stress at the true minimum follows from the response lambda_i = dW/d(eta_i) by reciprocity,

    V S_i(minimum) = V S_i - lambda_i . f,

with an error of second order: small where the forces left are small beside those that the strain puts on the ions; forces of
0.02 eV/angstrom at strains of a per mille leave half of their error.
"""

from __future__ import annotations

import numpy as np

from solidqmmm.physics.symmetry.crystal_symmetry import voigt_strain, voigt_stress


def symmetric_responses(shapes, responses, rotations, permutations):
    """Responses to all strains that the symmetry makes of the computed ones.

    Under an operation that takes atom a to p(a), lambda_(R eta R^T)[p(a)] = R lambda_eta[a].

    Args:
        shapes: Voigt strains of unit amplitude, shape=(s, 6).
        responses: Inner displacement per unit amplitude of each, angstrom, shape=(s, n, 3).
        rotations: Cartesian, shape=(m, 3, 3).
        permutations: Onto which atom each operation takes each atom, shape=(m, n).

    Returns:
        Voigt strains, shape=(k, 6), k <= 6 and linearly independent, and their responses, shape=(k, n, 3).
    """
    strains, fields = [], []
    for eta, field in zip(shapes, responses):
        for R, images in zip(rotations, permutations):
            turned = R @ voigt_strain(eta) @ R.T
            strain = voigt_stress(turned) * (1, 1, 1, 2, 2, 2)
            if np.linalg.matrix_rank(np.array([*strains, strain]), tol=1e-6) > len(strains):
                moved = np.empty_like(field)
                moved[images] = field @ R.T
                strains.append(strain)
                fields.append(moved)
    return np.array(strains), np.array(fields)


def stress_at_rest(stress, forces, strains, responses, volume) -> np.ndarray:
    """The stress (Voigt) that is left when the forces have gone, in eV/angstrom^3, shape=(6,).

    Components whose strain is no combination of the known `strains` stay as they are.

    Args:
        stress: Second Piola-Kirchhoff stress (Voigt) with forces left, eV/angstrom^3, shape=(6,).
        forces: F^T f in eV/angstrom, shape=(n, 3).
        strains, responses: Of `symmetric_responses`.
        volume: Of the undeformed crystal in angstrom^3.
    """
    work = np.einsum("kai,ai->k", responses, forces) / volume
    corrected = np.array(stress, dtype=float)
    for i in range(6):
        weights = np.linalg.lstsq(strains.T, np.eye(6)[i], rcond=1e-8)[0]
        if np.abs(strains.T @ weights - np.eye(6)[i]).max() < 1e-8:
            corrected[i] -= weights @ work
    return corrected
