"""Condensation on a core against closed formulas, dense diagonalization and itself with other cores."""

from functools import lru_cache

import numpy as np
import pytest
from scipy import linalg, sparse
from spring_crystals import DIAMOND_TOP, diamond, ring, simple_cubic, springs

from solidqmmm.physics.algebra.sparse_solve import NotPositiveDefinite
from solidqmmm.physics.condensation import (
    PartitionedCrystal,
    all_squared_frequencies,
    clamped,
    full_modes,
    guyan_condensation,
    modes_near,
    static_condensation,
)
from solidqmmm.physics.dynamic_condensation import DynamicStiffness, dynamic_modes

RATIOS = (0.2, 0.3, 0.5, 0.8)


def chain(ratio, core, n=401):
    """A ring with one light atom, number 0; k = M = 1, so that the band ends at w^2 = 4."""
    masses = np.ones(n)
    masses[0] = ratio
    return PartitionedCrystal(ring(n), masses, core)


def local_mode(ratio):
    """w of the light atom in the infinite chain: w_max / sqrt(1 - eps^2), eps = 1 - M'/M."""
    return 2 / np.sqrt(1 - (1 - ratio) ** 2)


def weight_of_light_atom(ratio):
    """Displacements fall by r = (1 - eps)/(1 + eps) from site to site, so the others carry 2 M r^2/(1 - r^2)."""
    r = ratio / (2 - ratio)
    return ratio / (ratio + 2 * r**2 / (1 - r**2))


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("core", [[0], [5], [200], [0, 1, 2, 200], [3, 400, 1], range(401)])
def test_dynamic_condensation_is_exact_for_any_core(ratio, core):
    modes = dynamic_modes(chain(ratio, list(core)), 4.0001)
    assert len(modes) == 1
    assert np.sqrt(modes.squared[0]) == pytest.approx(local_mode(ratio), abs=1e-8)
    u = modes.displacements[0, :, 0]
    r = ratio / (2 - ratio)
    np.testing.assert_allclose(u[:8] / u[0], (-r) ** np.arange(8), atol=1e-8)
    assert modes.weights([0])[0] == pytest.approx(weight_of_light_atom(ratio), abs=1e-8)


@pytest.mark.parametrize("ratio", RATIOS)
def test_errors_of_the_approximations_on_the_chain(ratio):
    """The environment eliminated by hand: m atoms in a row are one spring 1/(m + 1) between the ends of the core.

    All three lie below the exact mode: clamping least, static condensation more, Guyan's still more.
    """
    exact = local_mode(ratio)
    for half in (1, 2, 4):
        core = np.arange(-half, half + 1) % 401
        crystal, q = chain(ratio, core), 2 * half + 1
        static = static_condensation(crystal)
        by_hand = 2 * np.eye(q) - np.eye(q, k=1) - np.eye(q, k=-1)
        m = 401 - q
        by_hand[0, 0] = by_hand[-1, -1] = 1 + 1 / (m + 1)
        by_hand[0, -1] -= 1 / (m + 1)
        by_hand[-1, 0] -= 1 / (m + 1)
        np.testing.assert_allclose(static.stiffness, by_hand, atol=1e-10)
        # x_j = 1 - j/(m + 1) is what the environment does for a unit step of one end.
        shape = 1 - np.arange(1, m + 1) / (m + 1)
        guyan = guyan_condensation(static)
        assert guyan.mass[0, 0] == pytest.approx(1 + shape @ shape, rel=1e-9)
        assert guyan.mass[0, -1] == pytest.approx(shape @ shape[::-1], rel=1e-9)
        errors = [np.sqrt(c.modes(1).squared[0]) - exact for c in (clamped(crystal), static, guyan)]
        assert 0 > errors[0] > errors[1] > errors[2]

        # Between walls u_n = (-1)^n sinh kappa(half + 1 - n), w^2 = 2 + 2 cosh kappa; the light atom's equation fixes kappa.
        squared = clamped(crystal).modes(1).squared[0]
        kappa = np.arccosh(complex(squared / 2 - 1))
        assert 2 + 2 * np.sinh(kappa * half) / np.sinh(kappa * (half + 1)) == pytest.approx(
            ratio * squared, rel=1e-9
        )


def test_static_condensation_onto_one_atom_finds_nothing_to_hold_it():
    """The rest follows the atom as a rigid body, so the mode is lost altogether."""
    static = static_condensation(chain(0.3, [0]))
    assert static.modes().squared[0] == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(static.response, 1, atol=1e-10)
    assert guyan_condensation(static).mass[0, 0] == pytest.approx(400.3)


def test_isolated_harmonic_cluster():
    """A molecule with nothing around it: every method is the diagonalization of K itself. Water-like: two springs."""
    k, masses = 30.0, np.array([1.0, 16.0, 1.0])
    K = springs(3, np.array([0, 1]), np.array([1, 2]), k)
    expected = np.array([k * (1 / 1 + 2 / 16), k / 1, 0.0])
    crystal = PartitionedCrystal(K, masses, [0, 1, 2])
    for condensed in (clamped(crystal), static_condensation(crystal)):
        np.testing.assert_allclose(condensed.modes().squared, expected, atol=1e-12)
    np.testing.assert_allclose(dynamic_modes(crystal, 1.0).squared, expected[:2], atol=1e-11)
    np.testing.assert_allclose(
        dynamic_modes(PartitionedCrystal(K, masses, [1]), 1.0).squared, expected[:2], atol=1e-11
    )
    np.testing.assert_allclose(all_squared_frequencies(crystal), expected, atol=1e-12)


def test_weight_on_the_core_counts_the_environment_that_follows():
    """Core m on a spring to the ground and one to M, which has its own: u_M = u_Q/2 follows, the weight is m/(m + M/4)."""
    m, M, k = 2.0, 5.0, 3.0
    crystal = PartitionedCrystal(np.array([[2 * k, -k], [-k, 2 * k]]), [m, M], [0])
    static = static_condensation(crystal)
    weights = {
        "clamped": clamped(crystal).modes().weights([0])[0],
        "static": static.modes().weights([0])[0],
        "guyan": guyan_condensation(static).modes().weights([0])[0],
    }
    assert weights == pytest.approx({"clamped": 1.0, "static": m / (m + M / 4), "guyan": m / (m + M / 4)})
    # the equations of motion differ by that mass: w^2 = (3/2) k over m and over m + M/4
    np.testing.assert_allclose(static.modes().squared, [1.5 * k / m])
    np.testing.assert_allclose(guyan_condensation(static).modes().squared, [1.5 * k / (m + M / 4)])
    W = np.array([[2 * k / m, -k / np.sqrt(m * M)], [-k / np.sqrt(m * M), 2 * k / M]])
    values, e = np.linalg.eigh(W)
    exact = dynamic_modes(crystal, 0.5 * values[0])
    np.testing.assert_allclose(exact.weights([0]), e[0, ::-1] ** 2, rtol=1e-9)


def test_translations_stay_at_zero():
    """Three zero modes after static and Guyan condensation; in the latter the whole crystal's mass moves."""
    K, positions = diamond(3)
    core = np.argsort(np.linalg.norm(positions - positions[100], axis=1))[:17]
    crystal = PartitionedCrystal(K, np.full(216, 28.0), core, positions)
    static = static_condensation(crystal)
    for condensed in (static, guyan_condensation(static)):
        np.testing.assert_allclose(condensed.modes().squared[-3:], 0, atol=1e-10)
    rigid = np.tile(np.eye(3), (17, 1))
    np.testing.assert_allclose(static.stiffness @ rigid, 0, atol=1e-9)
    np.testing.assert_allclose(guyan_condensation(static).modes().participation_ratios[-3:], 1, atol=1e-9)
    total = rigid.T @ guyan_condensation(static).mass @ rigid
    np.testing.assert_allclose(total, 216 * 28.0 * np.eye(3), rtol=1e-9, atol=1e-6)


def test_static_condensation_is_the_schur_complement_by_both_solvers():
    K, positions = diamond(3)
    core = np.sort(np.argsort(np.linalg.norm(positions - positions[7], axis=1))[:30])
    crystal = PartitionedCrystal(K, np.full(216, 28.0), core, positions)
    Q, M = crystal.dofs
    dense = K.toarray()
    expected = dense[np.ix_(Q, Q)] - dense[np.ix_(Q, M)] @ np.linalg.solve(
        dense[np.ix_(M, M)], dense[np.ix_(M, Q)]
    )
    for method in ("direct", "multigrid"):
        static = static_condensation(crystal, method=method, tolerance=1e-6)
        # H is an energy: its error is the square of the response's.
        np.testing.assert_allclose(static.stiffness, expected, atol=1e-9)
    assert len(static.coupled) <= 90


def test_one_direction_of_a_large_response_is_right_only_to_first_order():
    """Why H is evaluated as an energy: with a coarse response the plain product is off by its error, H by the square."""
    K, positions = diamond(4)
    crystal = PartitionedCrystal(K, np.full(512, 28.0), np.arange(20), positions)
    exact = static_condensation(crystal, method="direct")
    coarse = static_condensation(crystal, method="multigrid", tolerance=1e-2)
    _, K_MQ, _ = crystal.blocks()
    at = np.ix_(coarse.coupled, coarse.coupled)
    plain = crystal.blocks()[0][at] + K_MQ[:, coarse.coupled].T @ coarse.response
    scale = np.abs(exact.stiffness).max()
    assert np.abs(coarse.stiffness - exact.stiffness).max() < 3e-5 * scale
    assert np.abs(plain - exact.stiffness[at]).max() > 10 * np.abs(coarse.stiffness - exact.stiffness).max()


@pytest.mark.parametrize(
    ("eps", "ratio"), [(0.5, 1.15491100), (0.6, 1.37993737), (0.7, 1.77970030), (0.8, 2.60062392)]
)
def test_light_mass_in_the_simple_cubic_lattice(eps, ratio):
    """(w_L/w_max)^2 of the infinite lattice (Watson-type integral), 20^3 atoms; w_max^2 = 12."""
    K, positions = simple_cubic(20)
    masses = np.ones(8000)
    masses[4210] = 1 - eps
    modes = dynamic_modes(PartitionedCrystal(K, masses, [4210], positions), 12.1)
    assert modes.squared / 12 == pytest.approx([ratio], abs=1e-5)


@pytest.mark.parametrize("eps", [0.25, 0.32])
def test_no_local_mode_below_the_threshold(eps):
    """eps_c = 0.32973: above the band nothing splits off a finite lattice either, beyond what its size allows."""
    K, positions = simple_cubic(12)
    masses = np.ones(1728)
    masses[0] = 1 - eps
    assert len(dynamic_modes(PartitionedCrystal(K, masses, [0], positions), 12.1)) == 0


@lru_cache
def all_of_two_defects():
    """w^2 of every mode of the crystal with two defects, ascending."""
    K, masses, _ = light_atoms_in_diamond()
    return linalg.eigvalsh(K.toarray() / np.sqrt(np.outer(*[np.repeat(masses, 3)] * 2)))


def light_atoms_in_diamond(n=3, light=((100, 10.0), (203, 12.0))):
    K, positions = diamond(n)
    masses = np.full(8 * n**3, 28.0)
    for atom, mass in light:
        masses[atom] = mass
    return K, masses, positions


@pytest.mark.parametrize("core", [[100], [203], [0], [100, 203], list(range(90, 120))])
def test_every_mode_of_two_defects_from_every_core(core):
    """Two triplets. Where the core is one atom, the other's modes are poles of D, nearly invisible from the core."""
    K, masses, positions = light_atoms_in_diamond()
    low = 1.005 * DIAMOND_TOP / 28
    dense = all_of_two_defects()
    expected = dense[dense > low][::-1]
    assert len(expected) == 6
    crystal = PartitionedCrystal(K, masses, core, positions)
    modes = dynamic_modes(crystal, low)
    np.testing.assert_allclose(modes.squared, expected, rtol=1e-11)
    reference = full_modes(crystal, low)
    np.testing.assert_allclose(reference.squared, expected, rtol=1e-11)
    for triplet in (slice(0, 3), slice(3, 6)):
        mine, theirs = (m.eigenvectors[triplet].reshape(3, -1) for m in (modes, reference))
        np.testing.assert_allclose(mine @ mine.T, np.eye(3), atol=1e-7)
        np.testing.assert_allclose(np.linalg.svd(mine @ theirs.T)[1], 1, atol=1e-7)
    W = crystal.weighted()
    e = modes.eigenvectors.reshape(6, -1)
    np.testing.assert_allclose(W @ e.T, e.T * modes.squared, atol=1e-7)


def diatomic(n_cells, light=1.0, heavy=3.0):
    """A ring with masses light, heavy, light, ...; the gap lies between w^2 = 2/heavy and 2/light."""
    return ring(2 * n_cells), np.tile([light, heavy], n_cells)


@pytest.mark.parametrize("method", ["direct", "minres"])
@pytest.mark.parametrize("core", [[1], [0, 1, 2], [40]])
def test_modes_in_the_gap(method, core):
    """A lighter heavy atom lifts a mode into the gap and, light enough, one above the bands."""
    K, masses = diatomic(201)
    masses[1] = 1.6
    crystal = PartitionedCrystal(K, masses, core)
    dense = np.linalg.eigvalsh(crystal.weighted().toarray())
    low, high = 2 / 3 + 0.01, 2.0 - 0.01
    expected = dense[(dense > low) & (dense < high)][::-1]
    assert len(expected) == 1
    modes = dynamic_modes(crystal, low, high, method=method)
    np.testing.assert_allclose(modes.squared, expected, rtol=1e-10)
    np.testing.assert_allclose(full_modes(crystal, low, high).squared, expected, rtol=1e-10)
    np.testing.assert_allclose(modes_near(crystal, expected[0] + 1e-3, 1).squared, expected, rtol=1e-10)


def test_gap_mode_of_a_free_end():
    """Wallis: a diatomic chain that ends with its light atom has a mode at w^2 = k (1/m + 1/M) in the gap (Phys. Rev. 105,
    540 (1957)). A vacancy on a heavy site makes two such ends."""
    K, masses = diatomic(150)
    K = K.tolil()
    K[1, :] = K[:, 1] = 0.0
    K[0, 0] = K[2, 2] = 1.0
    crystal = PartitionedCrystal(K.tocsr(), masses, [0, 2])
    modes = dynamic_modes(crystal, 2 / 3 + 0.01, 1.99)
    np.testing.assert_allclose(modes.squared, [4 / 3, 4 / 3], rtol=1e-10)


def test_a_mode_that_the_core_does_not_see():
    """The antisymmetric pair of a symmetric defect leaves its centre at rest, and the core is the centre alone."""
    masses = np.ones(301)
    masses[[1, -1]] = 0.3
    crystal = PartitionedCrystal(ring(301), masses, [0])
    expected = np.linalg.eigvalsh(crystal.weighted().toarray())[:-3:-1]
    modes = dynamic_modes(crystal, 4.001)
    np.testing.assert_allclose(modes.squared, expected, rtol=1e-11)
    assert modes.weights([0]).min() < 1e-20


def test_derivative_and_count_of_the_dynamic_stiffness():
    K, masses, positions = light_atoms_in_diamond()
    low = 1.005 * DIAMOND_TOP / 28
    dense = all_of_two_defects()
    stiffness = DynamicStiffness(PartitionedCrystal(K, masses, [100, 101], positions), low)
    assert len(stiffness.poles) == 3
    seen = [stiffness(x) for x in (1.02 * low, 1.2 * low, 1.5 * low, 3 * low)]
    counts = [np.sum(np.linalg.eigvalsh(s.D) < 0) for s in seen]
    assert np.array_equal(np.diff(counts), np.diff([np.sum(dense < s.at) for s in seen]))
    h = 1e-4 * low
    slope = (stiffness(1.5 * low + h).D - stiffness(1.5 * low - h).D) / (2 * h)
    np.testing.assert_allclose(-slope, stiffness(1.5 * low).B, atol=2e-5)


def test_isotope_shift_is_the_derivative_by_the_mass():
    """Hellmann-Feynman: d ln w^2 / d ln m = -(weight on the atom)."""
    K, masses, positions = light_atoms_in_diamond(light=((100, 12.0),))
    low, step = 1.005 * DIAMOND_TOP / 28, 1e-4
    squared = []
    for mass in (12.0 * (1 - step), 12.0, 12.0 * (1 + step)):
        masses[100] = mass
        modes = dynamic_modes(PartitionedCrystal(K, masses, [100], positions), low)
        squared.append(modes.squared[0])
        if mass == 12.0:
            weight = modes.weights([100])[0]
    assert np.log(squared[2] / squared[0]) / np.log((1 + step) / (1 - step)) == pytest.approx(
        -weight, abs=1e-6
    )


def test_nothing_above_the_bands_of_a_perfect_crystal():
    K, positions = diamond(3)
    crystal = PartitionedCrystal(K, np.full(216, 28.0), [0], positions)
    for modes in (
        dynamic_modes(crystal, 1.001 * DIAMOND_TOP / 28),
        full_modes(crystal, 1.001 * DIAMOND_TOP / 28),
    ):
        assert len(modes) == 0
        assert modes.displacements.shape == (0, 216, 3)


def test_a_window_that_reaches_into_the_bands_is_refused():
    K, positions = diamond(4)
    crystal = PartitionedCrystal(K, np.full(512, 28.0), [0], positions)
    with pytest.raises(ValueError, match="outside the bands"):
        dynamic_modes(crystal, 0.53 * DIAMOND_TOP / 28)
    with pytest.raises(ValueError, match="below its upper end"):
        dynamic_modes(crystal, 2.0, 1.9)
    with pytest.raises(ValueError, match="must be 'auto', 'direct' or 'minres'"):
        dynamic_modes(crystal, 2.0, method="cg")


def test_an_unstable_environment_names_its_atoms():
    K, positions = diamond(3)
    K = K.tolil()
    K[330:333, 330:333] -= 20.0 * np.eye(3)
    crystal = PartitionedCrystal(sparse.csr_array(K), np.full(216, 28.0), [0, 1, 2], positions)
    with pytest.raises(NotPositiveDefinite, match=r"move most: 110 \(") as caught:
        static_condensation(crystal)
    assert caught.value.atoms[0] == 110
    held = PartitionedCrystal(sparse.csr_array(K), np.full(216, 28.0), [110], positions)
    assert static_condensation(held).modes().squared[-1] < 0


def test_a_piece_that_nothing_binds_to_the_core_is_named():
    K = sparse.block_diag([ring(8), ring(5)], format="csr")
    with pytest.raises(NotPositiveDefinite, match=r"5 are not: \[8, 9, 10, 11, 12\]"):
        static_condensation(PartitionedCrystal(K, np.ones(13), [2, 3]))
    assert len(static_condensation(PartitionedCrystal(K, np.ones(13), [2, 8])).modes()) == 2


def test_nearly_degenerate_modes_of_equal_defects_far_apart():
    """Five equal light atoms, 80 sites from each other: five modes that differ by 1e-15 or less, from a core of one atom."""
    masses = np.ones(400)
    masses[::80] = 0.4
    for core in ([0], [37], [0, 80]):
        modes = dynamic_modes(PartitionedCrystal(ring(400), masses, core), 4.01)
        np.testing.assert_allclose(np.sqrt(modes.squared), [local_mode(0.4)] * 5, rtol=1e-9)
        e = modes.eigenvectors.reshape(5, -1)
        np.testing.assert_allclose(e @ e.T, np.eye(5), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masses": np.ones(9)}, "rows and columns for each of 9 masses"),
        ({"masses": np.zeros(10)}, "masses must be positive"),
        ({"core": [1, 1]}, "each once"),
        ({"core": [10]}, "some of the 10 atoms"),
        ({"core": []}, "some of the 10 atoms"),
        ({"K": sparse.csr_array(np.triu(np.ones((10, 10))))}, "symmetrize it first"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(ValueError, match=message):
        PartitionedCrystal(**{"K": ring(10), "masses": np.ones(10), "core": [0], **change})
