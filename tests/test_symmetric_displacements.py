"""The fewest displacements for a Hessian: exact for every matrix that has the symmetry, and as few as can be."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from solidqmmm.physics.symmetry.laue_class import generated_group
from solidqmmm.physics.symmetry.symmetric_displacements import (
    fewest_displacements,
    hessian_from_responses,
    opposite_forces,
)

C3 = Rotation.from_rotvec([0, 0, 2 * np.pi / 3]).as_matrix()
C4 = Rotation.from_rotvec([0, 0, np.pi / 2]).as_matrix()
C3_111 = Rotation.from_rotvec(2 * np.pi / 3 * np.ones(3) / np.sqrt(3)).as_matrix()
MIRROR_X, MIRROR_Z = np.diag([-1.0, 1, 1]), np.diag([1.0, 1, -1])
GROUPS = {
    "C1": [np.eye(3)],
    "Ci": [-np.eye(3)],
    "C2v": [np.diag([-1.0, -1, 1]), MIRROR_X],
    "C3": [C3],
    "D3h": [C3, MIRROR_X, MIRROR_Z],
    "S4": [-C4],
    "Td": [C3_111, -C4],
    "Oh": [C3_111, C4, -np.eye(3)],
}


def cluster(generators, turn):
    """Rotations, permutations and positions of a centre, atoms on special places and one orbit in general position."""
    group = np.array(generated_group([turn @ R @ turn.T for R in generators]))
    seeds = [np.zeros(3), turn @ [1, 1, 1], turn @ [0, 0, 1.3], turn @ [0.3, 0.7, 1.9]]
    positions = []
    for image in (R @ seed for seed in seeds for R in group):
        if not any(np.allclose(image, known, atol=1e-6) for known in positions):
            positions.append(image)
    x = np.array(positions)
    apart = np.linalg.norm(np.einsum("mij,nj->mni", group, x)[:, :, None] - x[None, None], axis=3)
    assert apart.min(axis=2).max() < 1e-6
    return group, apart.argmin(axis=2), x


def invariant(group, permutations, seed=0):
    """A random matrix with the symmetry of the cluster, and no other: not even K = K^T."""
    n = permutations.shape[1]
    random, K = np.random.default_rng(seed).normal(size=(n, 3, n, 3)), np.zeros((n, 3, n, 3))
    for R, p in zip(group, permutations):
        K[p[:, None], :, p[None, :], :] += np.einsum("xa,iajb,yb->ijxy", R, random, R)
    return K / len(group)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("name", GROUPS)
def test_every_invariant_matrix_comes_back(name, turned):
    turn = Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix() if turned else np.eye(3)
    group, permutations, x = cluster(GROUPS[name], turn)
    K = invariant(group, permutations)
    displacements = fewest_displacements(group, permutations)
    responses = []
    for d in displacements:
        # forces on both sides of a displacement, with an even part that the difference must cancel
        force = -np.einsum("ixy,y->ix", K[:, :, d.atom], d.direction)
        if d.opposite is not None:
            np.testing.assert_allclose(opposite_forces(d, force, group, permutations), -force, atol=1e-10)
        responses.append(-force)
    found = hessian_from_responses(displacements, responses, group, permutations)
    np.testing.assert_allclose(found, K, atol=1e-9)
    evaluations = sum(len(d.signs) for d in displacements)
    orbits = len(np.unique(permutations.min(axis=0)))
    assert orbits <= evaluations <= 6 * orbits
    assert len(x) * 6 / len(group) <= evaluations


@pytest.mark.parametrize(("name", "evaluations"), [("C1", 6), ("Ci", 3), ("C3", 2), ("D3h", 1), ("S4", 2), ("Td", 1)])
def test_one_atom_in_the_centre(name, evaluations):
    """In C3 no operation turns a vector round; in S4 those that it turns round lie on the axis or across it."""
    group = np.array(generated_group(GROUPS[name]))
    displacements = fewest_displacements(group, np.zeros((len(group), 1), dtype=int))
    assert sum(len(d.signs) for d in displacements) == evaluations
    assert len({d.atom for d in displacements}) == 1


def test_methane():
    """Carbon in one sense of one direction; hydrogen, on a threefold axis with mirrors, in both senses of one."""
    group = np.array(generated_group(GROUPS["Td"]))
    x = np.array([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    permutations = np.linalg.norm((group @ x.T).swapaxes(1, 2)[:, :, None] - x, axis=3).argmin(axis=2)
    found = fewest_displacements(group, permutations)
    assert [(d.atom, len(d.signs)) for d in found] == [(0, 1), (1, 2)]
