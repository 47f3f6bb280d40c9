"""Mutual induction of isolated sites: reference numbers, closed formulas, exact forces, and where the dipoles diverge."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from solidqmmm.errors import PolarizationCatastrophe, SolidQMMMError
from solidqmmm.physics.electrostatics.coulomb import coulomb_energy
from solidqmmm.physics.electrostatics.ewald import COULOMB
from solidqmmm.physics.polarization.dipole_damping import critical_distance, damped_tensors, factors, reach
from solidqmmm.physics.polarization.induced_dipoles import InducedDipoles, PolarizableSites
from solidqmmm.physics.thole import induce

LAWS = ["thole", "linear", None]
RNG = np.random.default_rng(5)
# Ions close enough that both laws damp: reach of the linear one 1.662 (alpha_i alpha_j)^(1/6).
X = 1.9 * np.array([[i, j, k] for i in range(2) for j in range(2) for k in range(2)]) + RNG.normal(
    0, 0.1, (8, 3)
)
Q = np.array([1.0, -1.2, 0.7, -0.4, 0.3, -1.0, 0.8, -0.5])
ALPHA = np.array([0.9, 1.4, 0.0, 1.1, 1.7, 0.6, 1.3, 0.8])
MGO = np.vstack([[0, 0, 0.2], 2.1056 * np.vstack([np.eye(3), -np.eye(3)])])


# --- reference numbers: a direct solution and OpenMM's AmoebaMultipoleForce agree on them to 1e-8 eV ------------


@pytest.mark.parametrize("damping", LAWS)
def test_charge_and_polarizable_ion(damping):
    """A charge without polarizability is not damped, so this is -k alpha q^2/(2 r^4) with any law."""
    found = induce([[0, 0, 0], [0, 0, 2.5]], [2, -1], [0, 1.65], damping)
    assert found.energy == pytest.approx(-1.21648205, abs=1e-6)
    assert found.energy == pytest.approx(-0.5 * COULOMB * 1.65 * 4 / 2.5**4, rel=1e-12)
    np.testing.assert_allclose(found.dipoles, [[0, 0, 0], [0, 0, 0.528]], atol=1e-12)
    np.testing.assert_allclose(found.forces, [[0, 0, 6.554258], [0, 0, -6.554258]], atol=1e-6)


@pytest.mark.parametrize(("damping", "energy"), [("thole", -0.09188687), (None, -0.09188696)])
def test_three_on_a_line(damping, energy):
    found = induce([[0, 0, 0], [0, 0, 3.0], [0, 0, 6.5]], [1, -1, 0.5], [0.5, 1.0, 0.8], damping)
    assert found.energy == pytest.approx(energy, abs=1e-8)
    np.testing.assert_allclose(found.dipoles[:, 2], [0.052152, 0.072134, -0.043375], atol=1e-6)


def test_magnesium_off_the_centre_of_six_oxygens():
    alpha = [0.09] + [1.65] * 6
    found = induce(MGO, [2] + [-2] * 6, alpha)
    assert found.energy == pytest.approx(-4.74530012, abs=1e-6)
    assert found.dipoles[3, 2] == pytest.approx(-0.177159, abs=1e-6)
    assert found.dipoles[6, 2] == pytest.approx(0.470628, abs=1e-6)
    assert found.forces[0, 2] == pytest.approx(2.803757, abs=1e-6)
    assert induce(MGO, [2] + [-2] * 6, alpha, None).energy == pytest.approx(-4.76332037, abs=1e-6)


@pytest.mark.parametrize(
    ("r", "along", "across"),
    [
        (2.0, 2.66666667, 1.77777778),
        (2.5, 2.29357798, 1.87969925),
        (3.0, 2.16, 1.92857143),
        (4.0, 2.06451613, 1.96923077),
    ],
)
def test_polarizability_of_a_pair(r, along, across):
    pair = PolarizableSites([[0, 0, 0], [0, 0, r]], [0, 0], [1, 1], damping=None)
    np.testing.assert_allclose(
        InducedDipoles(pair).polarizability(), np.diag([across, across, along]), atol=1e-8
    )


# --- laws of damping ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damping", LAWS)
def test_tensors_are_derivatives_of_one_potential(damping):
    """B_(n+1) = -(1/r) dB_n/dr, and nothing is damped beyond the reach."""
    products = np.full(60, 1.3)
    limit = float(reach(1.3, damping, 0.39)) if damping else 3.0
    r, h = np.linspace(0.3, 0.98 * limit, 60), 1e-5
    B = damped_tensors(r, products, damping)
    up, down = (damped_tensors(r + s * h, products, damping) for s in (1, -1))
    for n in range(3):
        np.testing.assert_allclose(B[n + 1], -(up[n] - down[n]) / (2 * h) / r, rtol=2e-7)
    beyond = factors(np.array([1.001 * limit]), products[:1], damping)
    np.testing.assert_allclose(beyond, 1.0, atol=1e-12)
    just_inside = factors(np.array([limit * (1 - 1e-9)]), products[:1], damping)
    np.testing.assert_allclose(just_inside[:3], 1.0, atol=1e-8)


@pytest.mark.parametrize("r", [1.2, 1.7, 2.6])
def test_linear_law_written_out(r):
    """Two sites, of which one is charged: mu_1 = a_1 (l3 q/r^2 + t mu_2) and mu_2 = a_2 t mu_1."""
    a1, a2, q = 1.5, 1.1, -0.8
    v = min(r / (1.662 * (a1 * a2) ** (1 / 6)), 1.0)
    l3, t = 4 * v**3 - 3 * v**4, (6 * v**4 - 4 * v**3) / r**3
    mu1 = a1 * l3 * q / r**2 / (1 - a1 * a2 * t**2)
    found = induce([[0, 0, r], [0, 0, 0]], [0, q], [a1, a2], "linear")
    np.testing.assert_allclose(found.dipoles[:, 2], [mu1, a2 * t * mu1], rtol=1e-12)
    assert found.energy == pytest.approx(-0.5 * COULOMB * mu1 * l3 * q / r**2, rel=1e-12)


# --- forces and invariances -----------------------------------------------------------------------------------


@pytest.mark.parametrize("damping", LAWS)
def test_forces_are_the_exact_gradient(damping):
    assert damping is None or reach(1.0, damping, 0.39) > 1.6  # some pairs are damped
    alpha = ALPHA if damping else 0.5 * ALPHA

    def energy(x):
        return induce(x, Q, alpha, damping).energy + coulomb_energy(x, Q)[0]

    numerical, h = np.zeros_like(X), 1e-4
    for index in np.ndindex(X.shape):
        step = np.zeros_like(X)
        step[index] = h
        numerical[index] = -(energy(X + step) - energy(X - step)) / (2 * h)
    found = induce(X, Q, alpha, damping).forces
    np.testing.assert_allclose(found, numerical, atol=2e-6)
    np.testing.assert_allclose(found.sum(axis=0), 0, atol=1e-10)
    np.testing.assert_allclose(np.cross(X, found).sum(axis=0), 0, atol=1e-10)


@pytest.mark.parametrize("damping", LAWS)
def test_turned_shifted_and_reordered(damping):
    alpha = ALPHA if damping else 0.5 * ALPHA
    R, order = Rotation.random(rng=np.random.default_rng(1)).as_matrix(), RNG.permutation(8)
    here = induce(X, Q, alpha, damping)
    there = induce((X @ R.T + [30.0, -8.0, 4.0])[order], Q[order], alpha[order], damping)
    assert there.energy == pytest.approx(here.energy, rel=1e-12)
    np.testing.assert_allclose(there.dipoles, (here.dipoles @ R.T)[order], atol=1e-11)
    np.testing.assert_allclose(there.forces, (here.forces @ R.T)[order], atol=1e-10)


def test_nothing_polarizable():
    found = induce(X, Q, np.zeros(8))
    assert found.energy == 0.0
    np.testing.assert_array_equal(found.dipoles, 0.0)
    np.testing.assert_allclose(found.forces, coulomb_energy(X, Q)[1], atol=1e-12)


# --- the polarization catastrophe -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alpha", "critical"),
    [((1.0, 1.0), 1.25992105), ((1.65, 1.65), 1.48880555), ((1.65, 0.09), 0.91684884)],
)
@pytest.mark.parametrize("charges", [(1.0, -1.0), (0.0, 0.0)])
def test_two_undamped_dipoles_diverge_at_the_critical_distance(alpha, critical, charges):
    exact = critical_distance(*alpha)
    assert exact == pytest.approx(critical, abs=1e-8)
    apart = [[0, 0, 0], [0.6 * exact * (1 + 1e-7), 0, 0.8 * exact * (1 + 1e-7)]]
    assert np.isfinite(induce(apart, charges, alpha, None).energy)
    for r in (exact * (1 - 1e-7), 0.5 * exact):
        with pytest.raises(PolarizationCatastrophe, match="polarization catastrophe") as caught:
            induce([[5, 5, 5], [0, 0, 0], [0, 0, r]], [0.3, *charges], [0, *alpha], None)
        assert isinstance(caught.value, SolidQMMMError)
        assert caught.value.pair == (1, 2)
        assert caught.value.distance == pytest.approx(r)
        assert caught.value.critical_distance == pytest.approx(exact)
        message = str(caught.value)
        for said in (
            "sites 1 and 2",
            f"{r:.8g} angstrom",
            f"{exact:.8g} angstrom",
            'damping="thole"',
            "quartic",
        ):
            assert said in message


@pytest.mark.parametrize("damping", ["thole", "linear"])
def test_damped_dipoles_are_finite_at_any_distance(damping):
    assert critical_distance(1, 1, damping) == 0.0
    for r in np.geomspace(0.02, 1.3, 30):
        found = induce([[0, 0, 0], [0, 0, r]], [0, 0], [1, 1], damping)
        assert found.energy == 0.0
        pair = PolarizableSites([[0, 0, 0], [0, 0, r]], [0, 0], [1, 1], damping=damping)
        total = np.linalg.eigvalsh(InducedDipoles(pair).polarizability())
        assert total.min() > 0
        assert total.max() < 20


def test_weak_damping_has_a_critical_distance_of_its_own():
    exact = critical_distance(1, 1, "thole", 3.0)
    assert 0.5 < exact < critical_distance(1, 1)
    assert np.isfinite(induce([[0, 0, 0], [0, 0, exact * (1 + 1e-6)]], [1, -1], [1, 1], "thole", 3.0).energy)
    with pytest.raises(PolarizationCatastrophe, match="a = 3"):
        induce([[0, 0, 0], [0, 0, exact * (1 - 1e-6)]], [1, -1], [1, 1], "thole", 3.0)


def test_at_the_critical_distance_itself():
    """A is singular there to the last digit, and a solution would be rounding errors."""
    with pytest.raises(PolarizationCatastrophe):
        induce([[0, 0, 0], [0, 0, 4 ** (1 / 6)]], [1, -1], [1, 1], None)


# --- bad input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positions": [[0, 0, 0], [0, 0, np.nan]]}, r"`positions` must be finite, got nan at \[1, 2\]"),
        ({"charges": [1, np.inf]}, "`charges` must be finite"),
        ({"polarizabilities": [np.nan, 1]}, "`polarizabilities` must be finite"),
        ({"polarizabilities": [1, -0.1]}, r"must not be negative \(angstrom\^3\), got -0.1"),
        ({"polarizabilities": [1.0]}, r"`polarizabilities` must be of shape \(2,\)"),
        ({"charges": [1.0, 2.0, 3.0]}, r"`charges` must be of shape \(2,\)"),
        ({"positions": [0, 0, 0]}, r"`positions` must be of shape \(n, 3\)"),
        ({"positions": [[0, 0, 1], [0, 0, 1]]}, "sites 0 and 1 are at the same place"),
        ({"damping": "Thole"}, r"`damping` must be .* got 'Thole'"),
        ({"thole_a": 0.0}, "`thole_a` must be positive"),
    ],
)
def test_bad_input(change, message):
    good = {"positions": [[0, 0, 0], [0, 0, 3.0]], "charges": [1, -1], "polarizabilities": [1, 1]}
    with pytest.raises(ValueError, match=message):
        induce(**(good | change))
