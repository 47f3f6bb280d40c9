"""Colouring and sparse force constants: every response has one cause, and a known matrix comes back exactly."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from matscipy.neighbours import neighbour_list
from scipy import sparse

from solidqmmm.physics.algebra.colouring import colouring, entries_by_colour, interaction_pattern
from solidqmmm.physics.vibrations.force_constants import symmetrized, with_sum_rule


def pattern_of(atoms, cutoff, hops):
    i, j = neighbour_list("ij", atoms, float(cutoff))
    return interaction_pattern(i, j, len(atoms), hops)


def ring(n, hops=1):
    i = np.arange(n)
    return interaction_pattern(np.append(i, (i + 1) % n), np.append((i + 1) % n, i), n, hops)


def gas():
    atoms = bulk("Cu", cubic=True) * (4, 4, 4)
    atoms.positions[:] = np.random.default_rng(5).random((len(atoms), 3)) * atoms.cell.lengths()
    return atoms


def vacancies():
    atoms = bulk("Si", cubic=True) * (5, 5, 5)
    del atoms[[0, 17, 18, 500]]
    return atoms


PATTERNS = {
    "diamond": lambda: pattern_of(bulk("Si", cubic=True) * (5, 5, 5), 2.7, 2),
    "diamond with vacancies": lambda: pattern_of(vacancies(), 2.7, 2),
    "skewed fcc": lambda: pattern_of(bulk("Cu") * (9, 7, 11), 2.8, 2),
    "one hop": lambda: pattern_of(bulk("Fe", cubic=True) * (6, 6, 6), 5.0, 1),
    "gas": lambda: pattern_of(gas(), 3.0, 1),
    "two atoms": lambda: pattern_of(bulk("Si"), 4.0, 2),
    "lone atoms": lambda: interaction_pattern([], [], 4, 2),
    "ring of 7": lambda: ring(7),
}


@pytest.fixture(params=PATTERNS)
def pattern(request):
    return PATTERNS[request.param]()


def test_no_force_feels_two_atoms_of_one_colour(pattern):
    colours = colouring(pattern)
    n = pattern.shape[0]
    rows = np.repeat(np.arange(n), np.diff(pattern.indptr))
    met = np.zeros((n, colours.max() + 1), dtype=int)
    np.add.at(met, (rows, colours[pattern.indices]), 1)
    assert met.max() == 1
    assert np.array_equal(np.unique(colours), np.arange(colours.max() + 1))
    assert np.array_equal(colours, colouring(pattern))


def test_a_known_matrix_comes_back_exactly(pattern):
    n = pattern.shape[0]
    known = sparse.csr_array((np.arange(1.0, len(pattern.indices) + 1), pattern.indices, pattern.indptr), shape=(n, n))
    colours = colouring(pattern)
    rows, order, limits = entries_by_colour(pattern, colours)
    found = np.zeros(len(rows))
    for colour in range(colours.max() + 1):
        response = known @ (colours == colour).astype(float)  # all of one colour move by one
        entries = order[limits[colour] : limits[colour + 1]]
        found[entries] = response[rows[entries]]
    np.testing.assert_array_equal(found, known.data)


@pytest.mark.parametrize("size", [(5, 5, 5), (8, 8, 8), (11, 7, 9), (13, 13, 13)])
def test_colours_do_not_depend_on_size_or_shape(size):
    # 4 first and 12 second neighbours and the atom itself: at least 17, and twice that.
    assert colouring(pattern_of(bulk("Si", cubic=True) * size, 2.7, 2)).max() + 1 == 34


def test_small_cells_get_a_colour_for_each_atom():
    assert len(set(colouring(pattern_of(bulk("Cu", cubic=True) * (2, 2, 2), 5.5, 2)))) == 32
    assert set(colouring(interaction_pattern([], [], 4, 1))) == {0}


@pytest.mark.parametrize("hops", [1, 2, 3])
def test_hops_on_a_ring(hops):
    distance = np.abs(np.arange(12)[:, None] - np.arange(12))
    expected = np.minimum(distance, 12 - distance) <= hops
    np.testing.assert_array_equal(ring(12, hops).toarray(), expected)


def test_no_hop_at_all():
    with pytest.raises(ValueError, match="at least 1"):
        interaction_pattern([0], [1], 2, 0)


# --- symmetry and sum rule -----------------------------------------------------------------------------------------


def blocks_on(pattern, values):
    n = pattern.shape[0]
    return sparse.bsr_array((values, pattern.indices, pattern.indptr), shape=(3 * n, 3 * n))


def springs(pattern, rng):
    """Symmetric blocks with vanishing sums: every pair is a symmetric 3x3 spring."""
    n = pattern.shape[0]
    i = np.repeat(np.arange(n), np.diff(pattern.indptr))
    seeds = rng.normal(size=(n, 3, 3))
    K = -(seeds[i] + seeds[pattern.indices])
    K = K + K.transpose(0, 2, 1)
    own = pattern.indices == i
    K[own] = 0.0
    K[own] = -np.add.reduceat(K, pattern.indptr[:-1])
    return blocks_on(pattern, K)


def translations(n):
    return np.tile(np.eye(3), (n, 1))


def test_symmetry_and_sum_rule_are_measured_and_enforced(pattern):
    rng = np.random.default_rng(1)
    n = pattern.shape[0]
    raw = blocks_on(pattern, rng.normal(size=(len(pattern.indices), 3, 3)))
    dense = raw.toarray()
    K, asymmetry = symmetrized(raw)
    assert asymmetry == pytest.approx(np.abs(dense - dense.T).max(), rel=1e-14)
    np.testing.assert_allclose(K.toarray(), 0.5 * (dense + dense.T), atol=1e-15)
    ruled, error = with_sum_rule(K)
    assert error == pytest.approx(np.abs(K @ translations(n)).max(), rel=1e-12)
    assert np.abs(ruled @ translations(n)).max() < 1e-8 * max(1.0, error)
    found = ruled.toarray()
    np.testing.assert_allclose(found, found.T, atol=1e-14)
    assert (found[K.toarray() == 0] == 0).all()


def test_what_obeys_is_left_alone(pattern):
    K = springs(pattern, np.random.default_rng(2))
    same, asymmetry = symmetrized(K)
    assert asymmetry < 1e-13
    ruled, error = with_sum_rule(same)
    assert error < 1e-12
    np.testing.assert_allclose(ruled.data, K.data, atol=1e-12)


def test_the_antisymmetric_part_is_removed_by_the_smallest_change():
    """The flow of least squares on a graph, against the pseudo-inverse of its constraints."""
    pattern = ring(6, 2)
    pairs = [(i, j) for i in range(6) for j in range(i + 1, 6) if pattern[i, j]]
    flow = np.random.default_rng(3).normal(size=len(pairs))  # the xy component of otherwise proper springs
    K = springs(pattern, np.random.default_rng(4)).toarray()
    constraint = np.zeros((6, len(pairs)))
    for k, (i, j) in enumerate(pairs):
        constraint[i, k], constraint[j, k] = 1, -1
        for a, b, sign in ((i, j, 1), (j, i, -1)):
            K[3 * a, 3 * b + 1] += sign * flow[k]
            K[3 * a + 1, 3 * b] -= sign * flow[k]
    given = sparse.bsr_array(K, blocksize=(3, 3))
    given.sort_indices()
    ruled = with_sum_rule(given)[0].toarray()
    kept = flow - np.linalg.pinv(constraint) @ constraint @ flow
    change = [(ruled - K)[3 * i, 3 * j + 1] for i, j in pairs]
    np.testing.assert_allclose(change, kept - flow, atol=1e-9)


def test_patterns_that_cannot_be():
    lopsided = sparse.bsr_array((np.ones((3, 3, 3)), [0, 1, 1], [0, 2, 3]), shape=(6, 6))
    with pytest.raises(ValueError, match="K_ij without K_ji"):
        symmetrized(lopsided)
    ownless = sparse.bsr_array((np.ones((2, 3, 3)), [1, 0], [0, 1, 2]), shape=(6, 6))
    with pytest.raises(ValueError, match="2 of 2 are missing"):
        with_sum_rule(ownless)
