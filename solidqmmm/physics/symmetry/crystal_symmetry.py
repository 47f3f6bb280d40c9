"""What the symmetry of a crystal leaves free: strains of the cell, displacements of the ions, elastic constants."""

from __future__ import annotations

from itertools import combinations, combinations_with_replacement, permutations

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

    Args:
        rotations: Cartesian, shape=(n, 3, 3).

    Returns:
        Matrices, shape=(r, 6, 6); r is 3 for cubic, 5 for hexagonal, 21 for triclinic crystals.
    """
    return _invariant_tensors(rotations, order=2)


def invariant_third_order_tensors(rotations) -> np.ndarray:
    """A basis of the third-order elastic constants C_IJK (Voigt) that the rotations leave as they are.

    C_IJK = d3U/(d eta_I d eta_J d eta_K) in Voigt strains (factor 2 on shear) is C_ijklmn of the tensor without further
    factors, the same in every order of I, J, K (K. Brugger, Phys. Rev. 133, A1611 (1964)).

    Args:
        rotations: Cartesian, shape=(n, 3, 3).

    Returns:
        Tensors, shape=(r, 6, 6, 6); r is 6 for cubic crystals of class m-3m, 56 for triclinic ones.
    """
    return _invariant_tensors(rotations, order=3)


def strain_turn(rotation) -> np.ndarray:
    """Q(R): the Voigt components of the strain R e R^T are Q times those of e, shape=(6, 6)."""
    columns = [voigt_stress(rotation @ voigt_strain(unit) @ np.transpose(rotation)) for unit in np.eye(6)]
    return np.diag([1, 1, 1, 2, 2, 2]) @ np.array(columns).T


def turned_elastic_tensor(tensor, rotation) -> np.ndarray:
    """The elastic tensor (Voigt) of the crystal turned by R: C' = Q(R^T)^T C Q(R^T), shape=(6, 6)."""
    Q = strain_turn(np.transpose(rotation))
    return Q.T @ tensor @ Q


def _invariant_tensors(rotations, order) -> np.ndarray:
    """Symmetric tensors of this order over the six strain components, averaged over the group.

    With factor sqrt(2) instead of 2 on shear a rotation of the strain is orthogonal. The average is then an orthogonal
    projector, whose singular values are 1 and 0 however small an error the rotations carry.
    """
    weights = np.array([1, 1, 1, *[np.sqrt(2)] * 3])
    turns = [strain_turn(R) * weights / weights[:, None] for R in rotations]
    simple = []
    for chosen in combinations_with_replacement(range(6), order):
        tensor = np.zeros((6,) * order)
        for indices in set(permutations(chosen)):
            tensor[indices] = 1.0
        simple.append(tensor / np.linalg.norm(tensor))
    simple = np.array(simple)
    averaged = np.zeros_like(simple)
    for Q in turns:
        turned = simple
        for _ in range(order):  # takes the first index of each tensor away, appends the turned one
            turned = np.tensordot(turned, Q, axes=(1, 0))
        averaged += turned / len(turns)
    n = len(simple)
    projector = averaged.reshape(n, -1) @ simple.reshape(n, -1).T
    values, vectors = np.linalg.eigh((projector + projector.T) / 2)
    tensors = np.tensordot(vectors[:, values > 0.5].T[::-1], simple, axes=1)
    for axis in range(1, order + 1):
        tensors = tensors / weights.reshape([6 if k == axis else 1 for k in range(order + 1)])
    return np.where(np.abs(tensors) > 1e-12, tensors, 0.0)


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
        if _rank(trial) > rank:
            chosen.append(strain)
            rows, rank = trial, _rank(trial)
        if rank == len(tensors):
            break
    return chosen


def strains_that_suffice_third_order(third_order, second_order=None) -> list[np.ndarray]:
    """The fewest of the Voigt strains e_i and e_i + e_j whose curvatures of the stress fix every third-order constant.

    Sets of up to four are all tried, single components first. Larger ones (orthorhombic 6, monoclinic 6, triclinic 11) are
    built from what adds most, then up to three strains are exchanged for one fewer while that is possible.

    Args:
        third_order: Basis of the third-order constants, shape=(r, 6, 6, 6).
        second_order: Basis of the elastic tensors, shape=(s, 6, 6), if the slopes of the same series shall fix these too.

    Returns:
        Voigt strains, each of shape (6,); 3 for cubic and hexagonal, 4 for tetragonal crystals.
    """
    candidates = [*np.eye(6), *(np.eye(6)[i] + np.eye(6)[j] for i, j in combinations(range(6), 2))]
    asked = [[third_order_rows(third_order, strain) for strain in candidates]]
    if second_order is not None:
        asked.append([elastic_rows(second_order, strain, from_stress=True) for strain in candidates])
    every = range(len(candidates))

    def rank(rows, chosen):
        return _rank(np.vstack([rows[k] for k in chosen]))

    def suffice(chosen):
        return all(rank(rows, chosen) == rows[0].shape[1] for rows in asked)

    for size in range(-(-len(third_order) // 6), 5):
        for chosen in combinations(every, size):
            if suffice(chosen):
                return [candidates[k] for k in chosen]
    chosen = []
    while not chosen or not suffice(chosen):
        chosen.append(max(every, key=lambda k: sum(rank(rows, [*chosen, k]) for rows in asked)))
    while (fewer := _one_fewer(chosen, every, suffice)) is not None:
        chosen = fewer
    return [candidates[k] for k in sorted(chosen)]


def _one_fewer(chosen, every, suffice):
    """`chosen` with at most three members exchanged for one fewer, or None."""
    for n_new in range(3):
        for gone in combinations(chosen, n_new + 1):
            kept = [k for k in chosen if k not in gone]
            for added in combinations([k for k in every if k not in kept], n_new):
                if suffice([*kept, *added]):
                    return [*kept, *added]
    return None


def elastic_rows(tensors, strain, *, from_stress: bool) -> np.ndarray:
    """What a strain tells about each basis tensor: C eta, shape=(6, r), or eta.C.eta, shape=(1, r)."""
    stresses = np.asarray(tensors) @ strain
    return stresses.T if from_stress else (stresses @ strain)[None, :]


def third_order_rows(tensors, strain) -> np.ndarray:
    """What the curvature of the stress along a strain tells about each basis tensor: C_IJK eta_J eta_K, shape=(6, r)."""
    return (np.asarray(tensors) @ strain @ strain).T


def _rank(rows) -> int:
    """Rank, blind to what errors of the rotations leave (basis tensors have entries of about one)."""
    return int(np.linalg.matrix_rank(rows, tol=1e-3))
