"""Solvers, orders of elimination and the eigenvalues outside the bands, against dense linear algebra."""

import numpy as np
import pytest
from scipy import sparse
from spring_crystals import DIAMOND_TOP, diamond, ring

from solidqmmm.physics.algebra.isolated_eigenpairs import _by_filter, eigenpairs_between, spectral_bound
from solidqmmm.physics.algebra.krylov import NegativeCurvature, conjugate_gradients, minres
from solidqmmm.physics.algebra.multigrid import Multigrid, rigid_body_modes
from solidqmmm.physics.algebra.nested_dissection import nested_dissection
from solidqmmm.physics.algebra.sparse_solve import (
    Factors,
    NotPositiveDefinite,
    StiffnessSolver,
    shifted_factors,
    solve_above,
)


@pytest.fixture(scope="module")
def held():
    """512 atoms with a core of five held: force constants, positions, names of the atoms."""
    K, positions = diamond(4)
    core = np.argsort(np.linalg.norm(positions - positions[200], axis=1))[:5]
    rest = np.setdiff1d(np.arange(512), core)
    dofs = (3 * rest[:, None] + np.arange(3)).ravel()
    return K[dofs][:, dofs], positions[rest], rest


def test_every_atom_is_eliminated_once_and_factors_stay_sparse():
    from scipy.sparse.linalg import splu

    K, positions = diamond(6)
    bonds = sparse.csr_array(abs(K[::3][:, ::3]) + sparse.eye_array(len(positions)))
    order = nested_dissection(bonds, positions)
    assert np.array_equal(np.sort(order), np.arange(len(positions)))

    def fill(order):
        A = sparse.csc_matrix((bonds + 20 * sparse.eye_array(len(positions)))[order][:, order])
        return splu(A, permc_spec="NATURAL", diag_pivot_thresh=0, options={"SymmetricMode": True}).L.nnz

    assert fill(order) < 0.65 * fill(np.arange(len(positions)))


@pytest.mark.parametrize("positions_known", [True, False])
def test_factors_solve_and_count_negative_eigenvalues(held, positions_known):
    A, positions, _ = held
    values = np.linalg.eigvalsh(A.toarray())
    B = np.random.default_rng(0).normal(size=(A.shape[0], 3))
    for shift in (0.0, 3.21, 17.3, 40.0):
        shifted = A - shift * sparse.eye_array(A.shape[0])
        factors = shifted_factors(A, shift, positions if positions_known else None)
        assert factors.n_negative == np.sum(values < shift)
        np.testing.assert_allclose(shifted @ factors.solve(B), B, atol=1e-9)


def test_a_singular_matrix_is_refused_and_a_shift_goes_around_it():
    with pytest.raises(np.linalg.LinAlgError, match="singular"):
        Factors(ring(50))
    assert shifted_factors(ring(52), 2.0).n_negative in (25, 26, 27)  # 2 is an eigenvalue, twice


@pytest.mark.parametrize("solver", [conjugate_gradients, minres])
def test_krylov_solvers_equal_a_dense_solve(solver):
    rng = np.random.default_rng(3)
    Q = np.linalg.qr(rng.normal(size=(60, 60)))[0]
    definite = solver is conjugate_gradients
    values = np.linspace(1, 5, 60) * (1 if definite else np.where(np.arange(60) % 3, 1, -1))
    A, B = (Q * values) @ Q.T, rng.normal(size=(60, 4))
    B[:, 2] = 0.0
    X, R, converged = solver(A, B, tolerance=1e-11)
    assert converged
    np.testing.assert_allclose(X, np.linalg.solve(A, B), atol=1e-9)
    np.testing.assert_allclose(R, B - A @ X, atol=1e-12)
    again, _, _ = solver(A, B, guess=X + 1e-3, tolerance=1e-11)
    np.testing.assert_allclose(again, X, atol=1e-9)


def test_conjugate_gradients_notice_an_indefinite_matrix():
    with pytest.raises(NegativeCurvature):
        conjugate_gradients(np.diag([1.0, 2.0, -1.0]), np.ones((3, 1)))


def test_rigid_body_modes_cost_nothing_without_supports():
    """A free cluster, where the rotations are exact: the diamond crystal with the bonds across its boundary cut."""
    from spring_crystals import springs

    _, positions = diamond(2)
    i, j = np.triu_indices(len(positions), 1)
    apart = positions[j] - positions[i]
    r = np.linalg.norm(apart, axis=1)
    near = r < 4.0
    K = springs(len(positions), i[near], j[near], 1.0, (apart / r[:, None])[near])
    modes = rigid_body_modes(positions)
    assert np.linalg.matrix_rank(modes) == 6
    np.testing.assert_allclose(K @ modes, 0, atol=1e-12)


def test_multigrid_is_symmetric_positive_and_as_good_on_a_crystal_eight_times_larger():
    iterations = []
    for n in (5, 10):
        K, positions = diamond(n)
        A, positions = K[15:, 15:], positions[5:]
        M = Multigrid(A, rigid_body_modes(positions), 3)
        X = np.random.default_rng(1).normal(size=(A.shape[0], 6))
        gram = X.T @ M(X)
        np.testing.assert_allclose(gram, gram.T, atol=1e-5 * np.abs(gram).max())
        assert np.linalg.eigvalsh(gram).min() > 0
        count = 0

        def counted(R, M=M):
            nonlocal count
            count += 1
            return M(R)

        _, _, converged = conjugate_gradients(A, X[:, :1], precondition=counted, tolerance=1e-8)
        assert converged
        iterations.append(count)
    assert iterations[1] < 1.5 * iterations[0] < 45


def test_multigrid_and_factors_agree(held):
    A, positions, _ = held
    B = np.random.default_rng(2).normal(size=(A.shape[0], 40))
    direct, _ = StiffnessSolver(A, positions, method="direct").solve(B)
    for known in (positions, None):
        X, R = StiffnessSolver(A, known, method="multigrid").solve(B, tolerance=1e-11)
        np.testing.assert_allclose(X, direct, atol=1e-8)
        np.testing.assert_allclose(R, B - A @ X, atol=1e-8)


@pytest.mark.parametrize("method", ["direct", "multigrid"])
def test_instability_names_its_atoms(held, method):
    A, positions, rest = held
    K = A.tolil()
    K[300:303, 300:303] -= 25.0 * np.eye(3)  # more than the springs of atom 100 hold
    with pytest.raises(NotPositiveDefinite, match="these atoms move most") as caught:
        StiffnessSolver(K.tocsr(), positions, method=method, atoms=rest)
    assert caught.value.atoms[0] == rest[100]
    assert caught.value.eigenvalue == pytest.approx(np.linalg.eigvalsh(K.toarray())[0], rel=1e-2)


@pytest.mark.parametrize("method", ["direct", "multigrid"])
def test_a_soft_mode_far_from_the_right_hand_side_is_noticed(held, method):
    A, positions, rest = held
    weak = A - 1.02 * np.linalg.eigvalsh(A.toarray())[0] * sparse.eye_array(A.shape[0])
    with pytest.raises(NotPositiveDefinite):
        StiffnessSolver(weak, positions, method=method, atoms=rest)


def test_unknown_method():
    with pytest.raises(ValueError, match="must be 'auto', 'direct' or 'multigrid', got 'cholesky'"):
        StiffnessSolver(ring(5), method="cholesky", block=1)


def test_solution_above_the_bands_reaches_only_as_far_as_it_must():
    K, positions = diamond(6)
    B = np.zeros((K.shape[0], 3))
    B[:3] = np.eye(3)
    shift = 4 * DIAMOND_TOP
    exact = Factors(shift * sparse.eye_array(K.shape[0]) - K, positions).solve(B)
    X, R = solve_above(K, B, shift, tolerance=1e-5)
    np.testing.assert_allclose(X, exact, atol=1e-5 * np.abs(exact).max())
    np.testing.assert_allclose(R, B - (shift * X - K @ X), atol=1e-14)
    assert np.any(X != 0, axis=1).mean() < 0.5
    tight, _ = solve_above(K, B, shift, guess=X, tolerance=1e-12)
    np.testing.assert_allclose(tight, exact, atol=1e-12)
    with pytest.raises(NegativeCurvature):
        solve_above(K, B, 0.5 * DIAMOND_TOP)


@pytest.mark.parametrize("margin", [1e-1, 1e-3, 1e-8])
def test_coarse_solutions_just_above_the_bands_keep_their_tolerance(margin):
    """Found in single precision where that can be, and in double where the matrix is too close to singular for it."""
    K, positions = diamond(5)
    shift = (1 + margin) * DIAMOND_TOP
    B = np.zeros((K.shape[0], 3))
    B[:3] = np.eye(3)
    X, R = solve_above(K, B, shift, tolerance=1e-3)
    assert np.all(np.linalg.norm(B - (shift * X - K @ X), axis=0) < 1e-3)
    np.testing.assert_allclose(R, B - (shift * X - K @ X), atol=1e-10 * np.abs(X).max())
    exact = Factors(shift * sparse.eye_array(K.shape[0]) - K, positions).solve(B)
    energy = B.T @ X + X.T @ R  # its error is the square of the solution's
    np.testing.assert_allclose(energy, B.T @ exact, atol=1e-6 / (margin * DIAMOND_TOP))


def test_solution_above_the_bands_without_the_modes_that_are_held():
    K, positions = diamond(3)
    masses = np.ones(216)
    masses[[0, 100]] = 0.3
    s = sparse.diags_array(np.repeat(masses, 3) ** -0.5)
    W = sparse.csr_array(s @ K @ s)
    p, V = eigenpairs_between(W, 1.01 * DIAMOND_TOP, positions=positions)
    assert len(p) == 6
    shift = 0.5 * (p[0] + 1.01 * DIAMOND_TOP)  # below the modes, above the bands
    B = np.zeros((648, 2))
    B[300:302] = np.eye(2)
    B -= V @ (V.T @ B)
    X, _ = solve_above(W, B, shift, held=(p, V), tolerance=1e-11)
    exact = np.linalg.solve(shift * np.eye(648) - W.toarray(), B)
    np.testing.assert_allclose(X, exact, atol=1e-10)


def test_isolated_eigenvalues_by_every_route_with_their_multiplicity():
    K, positions = diamond(5)
    masses = np.ones(1000)
    masses[[0, 333, 900]] = 0.3, 0.3, 0.5
    s = sparse.diags_array(np.repeat(masses, 3) ** -0.5)
    W, low = sparse.csr_array(s @ K @ s), 1.003 * DIAMOND_TOP
    by_factors, V = eigenpairs_between(W, low, positions=positions)
    by_filter, F = _by_filter(W, low)
    assert len(by_factors) == len(by_filter) == 9
    np.testing.assert_allclose(by_filter, by_factors, atol=1e-9)
    for values, vectors in ((by_factors, V), (by_filter, F)):
        np.testing.assert_allclose(W @ vectors, vectors * values, atol=1e-8)
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(9), atol=1e-9)
    between, _ = eigenpairs_between(W, by_factors[3] + 1e-3, spectral_bound(W), positions=positions)
    np.testing.assert_allclose(between, by_factors[by_factors > by_factors[3] + 1e-3], atol=1e-9)


def test_a_window_in_the_bands_is_refused():
    K, positions = diamond(5)
    with pytest.raises(ValueError, match="outside the bands"):
        eigenpairs_between(K, 0.5 * DIAMOND_TOP, positions=positions)
    with pytest.raises(ValueError, match="outside the bands"):
        _by_filter(K, 0.5 * DIAMOND_TOP)
