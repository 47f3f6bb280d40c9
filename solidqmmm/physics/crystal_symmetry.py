"""What the symmetry of a crystal leaves free: strains of the cell, displacements of the ions, elastic constants."""

from __future__ import annotations

import numpy as np

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def voigt_strain(components) -> np.ndarray:
    """The symmetric strain with Voigt components (xx, yy, zz, 2 yz, 2 xz, 2 xy), shape=(3, 3)."""
    strain = np.zeros((3, 3))
    for value, (i, j) in zip(components, VOIGT):
        strain[i, j] += value / 2
        strain[j, i] += value / 2
    return strain


def voigt_stress(tensor) -> np.ndarray:
    """(xx, yy, zz, yz, xz, xy) of a symmetric tensor, shape=(6,)."""
    return np.array([(tensor[i, j] + tensor[j, i]) / 2 for i, j in VOIGT])


def cartesian_rotations(rotations, cell) -> np.ndarray:
    """Rotations that act on fractional columns, as matrices for Cartesian columns, shape=(n, 3, 3)."""
    to_cartesian = np.asarray(cell).T
    return to_cartesian @ np.asarray(rotations, dtype=float) @ np.linalg.inv(to_cartesian)


def invariant_strains(rotations) -> np.ndarray:
    """Symmetric matrices e with R e R^T = e for all rotations; the first is 1, the largest entry of each is 1.

    Args:
        rotations: Cartesian, shape=(n, 3, 3).

    Returns:
        Mutually orthogonal matrices, shape=(m, 3, 3); m is 1 for cubic, 2 for hexagonal, 6 for triclinic crystals.
    """
    found = [np.eye(3) / np.sqrt(3)]
    for k in range(6):
        candidate = voigt_strain(np.eye(6)[k])
        candidate = np.mean(rotations @ candidate @ np.swapaxes(rotations, 1, 2), axis=0)
        for known in found:
            candidate = candidate - np.sum(candidate * known) * known
        norm = np.linalg.norm(candidate)
        if norm > 1e-6:
            found.append(candidate / norm)
    return np.array([e / np.abs(e).max() for e in found])


def invariant_displacements(rotations, permutations) -> np.ndarray:
    """Displacements of the ions that break no symmetry, the rigid shift left out.

    Args:
        rotations: Cartesian, shape=(n_operations, 3, 3).
        permutations: The atom onto which each atom goes, shape=(n_operations, n_atoms).

    Returns:
        Orthonormal displacements, shape=(k, 3 n_atoms); k may be 0.
    """
    n = np.shape(permutations)[1]
    projector = np.zeros((n, 3, n, 3))
    atoms = np.arange(n)
    for R, images in zip(rotations, permutations):
        projector[images, :, atoms, :] += R
    projector = projector.reshape(3 * n, 3 * n) / len(rotations)
    without_shift = np.eye(3 * n) - np.kron(np.full((n, n), 1 / n), np.eye(3))
    values, vectors = np.linalg.eigh(without_shift @ (projector + projector.T) @ without_shift / 2)
    return vectors[:, values > 0.5].T


def free_displacements(n_atoms: int) -> np.ndarray:
    """All displacements but the rigid shift, orthonormal, shape=(3 n_atoms - 3, 3 n_atoms)."""
    return invariant_displacements(np.eye(3)[None], np.arange(n_atoms)[None])


def invariant_elastic_tensors(rotations) -> np.ndarray:
    """A basis of the elastic tensors (Voigt) that the rotations leave as they are.

    A strain turns as Q(R) eta in Voigt components, hence an invariant tensor has Q^T C Q = C.

    Returns:
        Matrices, shape=(r, 6, 6); r is 3 for cubic, 5 for hexagonal, 21 for triclinic crystals.
    """
    turns = []
    for R in rotations:
        columns = [voigt_stress(R @ voigt_strain(np.eye(6)[k]) @ R.T) for k in range(6)]
        turns.append(np.diag([1, 1, 1, 2, 2, 2]) @ np.array(columns).T)
    averaged = []
    for i in range(6):
        for j in range(i, 6):
            C = np.zeros((6, 6))
            C[i, j] = C[j, i] = 1.0
            averaged.append(np.mean([Q.T @ C @ Q for Q in turns], axis=0).ravel())
    _, values, vectors = np.linalg.svd(np.array(averaged), full_matrices=False)
    return vectors[values > 1e-6 * values[0]].reshape(-1, 6, 6)


def strains_that_suffice(tensors, *, from_stress: bool) -> list[np.ndarray]:
    """The fewest of the simple Voigt strains whose answers fix every constant.

    Args:
        tensors: Basis of the tensors in question, shape=(r, 6, 6).
        from_stress: Whether a strain tells its six stresses C eta (else the one energy eta.C.eta / 2).

    Returns:
        Voigt strains, each of shape (6,).
    """
    pairs = [] if from_stress else [(i, j) for i in range(6) for j in range(i)]
    candidates = [*np.eye(6), *(np.eye(6)[i] + np.eye(6)[j] for i, j in pairs)]
    chosen, rows, rank = [], np.zeros((0, len(tensors))), 0
    for strain in candidates:
        trial = np.vstack([rows, elastic_rows(tensors, strain, from_stress=from_stress)])
        if np.linalg.matrix_rank(trial, tol=1e-6) > rank:
            chosen.append(strain)
            rows, rank = trial, np.linalg.matrix_rank(trial, tol=1e-6)
        if rank == len(tensors):
            break
    return chosen


def elastic_rows(tensors, strain, *, from_stress: bool) -> np.ndarray:
    """What a strain tells about each basis tensor: C eta, shape=(6, r), or eta.C.eta, shape=(1, r)."""
    stresses = np.asarray(tensors) @ strain
    return stresses.T if from_stress else (stresses @ strain)[None, :]
