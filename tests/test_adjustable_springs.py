"""Spring networks: what they recover exactly, what they conserve, and whom they join."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from scipy.spatial.transform import Rotation

from solidqmmm.physics.cracks.adjustable_springs import (
    LearntStiffness,
    SpringNetwork,
    once,
    second_neighbours,
)
from solidqmmm.system.bonds import BondRules, local_bonds
from solidqmmm.system.crystal import Crystal

CELL = np.eye(3)
TETRAHEDRON = 1.4 * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.0]])


def network(n, pairs, kind=None, n_kinds=1, weights=None, shift=None):
    i, j = np.array(pairs).T
    kind = np.zeros(len(i), int) if kind is None else kind
    shift = np.zeros((len(i), 3), int) if shift is None else shift
    return SpringNetwork(i, j, shift, kind, n_kinds, np.ones(n) if weights is None else weights)


def cloud(n=12, seed=4):
    """Atoms, all joined to all, in two kinds."""
    rng = np.random.default_rng(seed)
    pairs = [(a, b) for a in range(n) for b in range(a)]
    kind = rng.integers(0, 2, len(pairs))
    return rng.normal(0, 3, (n, 3)), network(n, pairs, kind, 2), rng


def test_tensions_of_a_statically_determinate_network_are_recovered():
    springs = network(4, [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)])
    vectors = springs.vectors(TETRAHEDRON, CELL)
    tensions = np.array([0.3, -0.2, 0.1, 0.05, -0.4, 0.25])
    forces = springs.tension_forces(vectors, tensions)
    np.testing.assert_allclose(springs.fitted_tensions(vectors, forces, 1e-7), tensions, atol=1e-10)
    # One tension alone pulls its ends together.
    pull = springs.tension_forces(vectors, np.eye(6)[0])
    d = TETRAHEDRON[1] - TETRAHEDRON[0]
    np.testing.assert_allclose(pull[:2], [d / np.linalg.norm(d), -d / np.linalg.norm(d)], atol=1e-15)
    assert not pull[2:].any()


def test_springs_neither_push_nor_turn_the_whole_and_turn_with_it():
    x, springs, rng = cloud()
    vectors, tensions = springs.vectors(x, CELL), rng.normal(size=len(springs))
    forces = springs.tension_forces(vectors, tensions)
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(np.cross(x, forces).sum(axis=0), 0, atol=1e-11)
    any_force = rng.normal(size=x.shape)
    turn = Rotation.from_rotvec([0.3, -0.8, 0.5]).as_matrix()
    fitted = springs.fitted_tensions(vectors, any_force, 0.1)
    turned = springs.fitted_tensions(springs.vectors(x @ turn.T + 2.0, CELL), any_force @ turn.T, 0.1)
    np.testing.assert_allclose(turned, fitted, atol=1e-10)


def test_the_residual_of_the_fit_is_what_central_forces_cannot_give():
    """Twelve free atoms all joined: every force without net force and torque is within reach, and no other."""
    x, springs, rng = cloud()
    vectors, forces = springs.vectors(x, CELL), rng.normal(size=x.shape)
    residual = forces - springs.tension_forces(vectors, springs.fitted_tensions(vectors, forces, 1e-6))
    rigid = [np.tile(e, (12, 1)) for e in np.eye(3)] + [np.cross(e, x) for e in np.eye(3)]
    q, _ = np.linalg.qr(np.array(rigid).reshape(6, -1).T)
    expected = q @ (q.T @ forces.ravel())
    np.testing.assert_allclose(residual.ravel(), expected, atol=1e-8)
    damped = springs.fitted_tensions(vectors, forces, 1.0)
    assert np.linalg.norm(damped) < np.linalg.norm(springs.fitted_tensions(vectors, forces, 0.1))
    assert not springs.fitted_tensions(vectors, np.zeros_like(x), 0.1).any()


def harmonic(springs, K):
    """Springs without length: the force of each is K r, whatever its direction."""

    def forces(x):
        return springs._on_atoms(K[springs.kind][:, None] * springs.vectors(x, CELL))

    return forces


def test_a_harmonic_system_is_learnt_from_one_difference_and_foretold_exactly():
    x, springs, rng = cloud()
    K = np.array([2.5, -0.7])
    forces = harmonic(springs, K)
    there = x + rng.normal(0, 0.05, x.shape)
    r0, r1 = springs.vectors(x, CELL), springs.vectors(there, CELL)
    learnt = LearntStiffness.nothing(2).with_difference(springs.patterns(r0, r1), forces(there) - forces(x))
    np.testing.assert_allclose(learnt.values(), [[2.5, 2.5], [-0.7, -0.7]], atol=1e-10)
    far = x + rng.normal(0, 0.5, x.shape)
    foretold = forces(x) + springs.stretched(r0, springs.vectors(far, CELL), learnt.values())
    np.testing.assert_allclose(foretold, forces(far), atol=1e-9)
    again = learnt.with_difference(springs.patterns(r0, r1), forces(there) - forces(x))
    np.testing.assert_allclose(again.values(), learnt.values(), atol=1e-10)


def test_a_chain_with_rest_lengths_is_exact_along_its_line():
    springs = network(6, [(k, k + 1) for k in range(5)])
    x = np.zeros((6, 3))
    x[:, 0] = [0, 2.0, 4.1, 6.0, 8.3, 10.2]

    def forces(x):
        r = springs.vectors(x, CELL)
        return springs.tension_forces(r, 1.7 * (np.linalg.norm(r, axis=1) - 2.2))

    there = x + np.array([0.1, -0.05, 0.2, 0.0, -0.1, 0.03])[:, None] * [1, 0, 0]
    r0, r1 = springs.vectors(x, CELL), springs.vectors(there, CELL)
    learnt = LearntStiffness.nothing(1).with_difference(springs.patterns(r0, r1), forces(there) - forces(x))
    np.testing.assert_allclose(learnt.values(), [[1.7, 0.0]], atol=1e-10)  # nothing moved across
    far = x * [1.3, 1, 1]
    told = forces(x) + springs.stretched(r0, springs.vectors(far, CELL), learnt.values())
    np.testing.assert_allclose(told, forces(far), atol=1e-9)


def test_nothing_that_moved_teaches_nothing():
    x, springs, _ = cloud()
    r = springs.vectors(x, CELL)
    learnt = LearntStiffness.nothing(2).with_difference(springs.patterns(r, r), np.zeros_like(x))
    assert not learnt.values().any()
    assert not springs.stretched(r, r, np.ones((2, 2))).any()


def test_atoms_that_feel_less_leave_no_net_force():
    x, springs, rng = cloud()
    weights = np.where(np.arange(12) < 5, 1.0, 0.0)
    weights[5:7] = 0.4
    partly = SpringNetwork(springs.i, springs.j, springs.shift, springs.kind, 2, weights)
    r0, r1 = (springs.vectors(x + d, CELL) for d in (0.0, rng.normal(0, 0.1, x.shape)))
    K = rng.normal(size=(2, 2))
    change = partly.stretched(r0, r1, K)
    assert not change[7:].any()
    np.testing.assert_allclose(change.sum(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(partly.patterns(r0, r1) @ K.ravel(), change, atol=1e-12)


@pytest.mark.parametrize("repeats", [(3, 3, 3), (3, 3, 1)])
def test_second_neighbours_of_diamond(repeats):
    """Twelve of every atom at a/sqrt(2), also where a short cell is crossed; an atom's own images are left out."""
    crystal = Crystal.of(bulk("Si", a=5.431, cubic=True) * repeats)
    bonds = local_bonds(crystal, np.arange(len(crystal)), BondRules())
    ends = crystal.positions[bonds.i] + bonds.vector - crystal.positions[bonds.j]
    shift = np.rint(ends @ np.linalg.inv(crystal.cell)).astype(int)
    i, j, shift2 = second_neighbours(bonds.i, bonds.j, shift)
    n = len(crystal)
    assert len(i) == 6 * n
    assert (i < j).all()
    springs = network(n, np.column_stack([i, j]), shift=shift2)
    lengths = np.linalg.norm(springs.vectors(crystal.positions, crystal.cell), axis=1)
    np.testing.assert_allclose(lengths, 5.431 / np.sqrt(2), atol=1e-10)
    first = once(np.column_stack([bonds.i, bonds.j, shift]))
    assert len(first) == 2 * n


def test_networks_that_do_not_fit_together():
    with pytest.raises(ValueError, match="beyond the 3"):
        network(3, [(0, 1), (1, 3)])
    with pytest.raises(ValueError, match="two ends, a shift and a kind"):
        network(3, [(0, 1), (1, 2)], kind=[0])
