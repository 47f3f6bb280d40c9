"""Charged shells on springs: closed formulas of one and two of them, the limit of point dipoles, exact forces."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.spatial.transform import Rotation

from solidqmmm.errors import PolarizationCatastrophe
from solidqmmm.physics.electrostatics.coulomb import coulomb_energy
from solidqmmm.physics.electrostatics.ewald import COULOMB
from solidqmmm.physics.polarization.drude import relax_shells, spring_constant
from solidqmmm.physics.thole import induce

LAWS = ["thole", "linear", None]
RNG = np.random.default_rng(8)
X = 2.2 * np.array([[i, j, k] for i in range(3) for j in range(2) for k in range(1)]) + RNG.normal(
    0, 0.1, (6, 3)
)
Q = np.array([0.7, -0.7, 0.5, -0.5, 0.6, -0.6])
ALPHA = np.array([0.4, 1.2, 0.0, 0.9, 0.7, 1.3])


def test_one_shell_in_a_field():
    """Harmonic, mu = alpha E whatever the charge; quartic, k2 d + k4 d^3 = p E."""
    alpha, p, E, k4 = 1.3, -2.5, 1.7, 400.0
    k2 = float(spring_constant(p, alpha))
    assert k2 == pytest.approx(COULOMB * p**2 / alpha)
    field = E * np.array([[0.6, 0.0, 0.8]])
    lonely = {"positions": [[0, 0, 0], [1e4, 0, 0]], "charges": [0, 0], "polarizabilities": [alpha, 0]}
    fields = np.vstack([field, field])
    found = relax_shells(**lonely, shell_charges=p, fields=fields)
    np.testing.assert_allclose(found.dipoles[0], alpha * field[0] / COULOMB, atol=1e-12)
    assert found.energy == pytest.approx(-0.5 * alpha * E**2 / COULOMB)
    d = brentq(lambda d: k2 * d + k4 * d**3 - p * E, -1.0, 1.0, xtol=1e-15)
    found = relax_shells(**lonely, shell_charges=p, fields=fields, quartic=k4)
    np.testing.assert_allclose(found.displacements[0], d * field[0] / E, atol=1e-10)
    assert found.energy == pytest.approx(k2 * d**2 / 2 + k4 * d**4 / 4 - p * d * E)


@pytest.mark.parametrize("damping", LAWS)
def test_large_charges_are_point_dipoles(damping):
    """The error goes as 1/p and changes sign with it, so that the mean over both signs has one of 1/p^2."""
    wanted = induce(X, Q, ALPHA, damping)
    error = []
    for p in (40.0, 400.0):
        both = [relax_shells(X, Q, ALPHA, s * p, damping=damping) for s in (1, -1)]
        error.append(np.abs(np.mean([b.dipoles for b in both], axis=0) - wanted.dipoles).max())
        single = np.abs(both[0].dipoles - wanted.dipoles).max()
    assert error[1] < 0.012 * error[0]
    assert error[1] < 1e-6
    assert 1e-5 < single < 1e-3
    np.testing.assert_allclose(np.mean([b.energy for b in both]), wanted.energy, atol=2e-6)
    np.testing.assert_allclose(np.mean([b.forces for b in both], axis=0), wanted.forces, atol=2e-5)


@pytest.mark.parametrize("damping", LAWS)
def test_forces_are_the_exact_gradient(damping):
    settings = {"shell_charges": -2.0, "quartic": 150.0, "damping": damping}

    def energy(x):
        return relax_shells(x, Q, ALPHA, **settings).energy + coulomb_energy(x, Q)[0]

    numerical, h = np.zeros_like(X), 1e-4
    for index in np.ndindex(X.shape):
        step = np.zeros_like(X)
        step[index] = h
        numerical[index] = -(energy(X + step) - energy(X - step)) / (2 * h)
    found = relax_shells(X, Q, ALPHA, **settings)
    assert np.abs(found.displacements).max() > 0.02  # the quartic term matters
    np.testing.assert_allclose(found.forces, numerical, atol=1e-6)
    np.testing.assert_allclose(found.forces.sum(axis=0), 0, atol=1e-9)


def test_turned_and_from_another_start():
    R = Rotation.random(rng=np.random.default_rng(2)).as_matrix()
    here = relax_shells(X, Q, ALPHA, -3.0, quartic=100.0, damping="thole")
    guess = here.displacements @ R.T + RNG.normal(0, 0.05, (6, 3))
    there = relax_shells(X @ R.T, Q, ALPHA, -3.0, quartic=100.0, damping="thole", guess=guess)
    assert there.energy == pytest.approx(here.energy, abs=1e-10)
    np.testing.assert_allclose(there.displacements, here.displacements @ R.T, atol=1e-9)
    np.testing.assert_array_equal(here.displacements[2], 0.0)
    again = relax_shells(X, Q, ALPHA, -3.0, quartic=100.0, damping="thole", guess=here.displacements)
    assert again.iterations <= 1


@pytest.mark.parametrize("charges", [(0.0, 0.0), (0.1, 0.0), (1.0, -1.0)])
def test_a_quartic_spring_removes_the_catastrophe(charges):
    """Nearer than the critical distance harmonic shells run away, stiffening ones stop."""
    pair, gamma, p = [[0, 0, 0], [0, 0, 1.15]], 10.0, 2000.0
    with pytest.raises(
        PolarizationCatastrophe, match=r"the shell of site . runs away, .*no damping.*quartic"
    ) as caught:
        relax_shells(pair, charges, [1, 1], p)
    assert set(caught.value.pair) == {0, 1}
    assert caught.value.critical_distance == pytest.approx(4 ** (1 / 6))
    both = [relax_shells(pair, charges, [1, 1], s * p, quartic=4 * gamma * p**4) for s in (1, -1)]
    # min over mu of k mu^2/(2 alpha) + gamma mu^4 each, charges' field and dipoles' interaction
    mu = np.abs(np.mean([np.abs(b.dipoles[:, 2]) for b in both], axis=0))
    q1, q2, r = *charges, 1.15
    sign = np.sign(both[0].dipoles[0, 2])
    fields = COULOMB * np.array([-q2 / r**2 + 2 * sign * mu[1] / r**3, q1 / r**2 + 2 * sign * mu[0] / r**3])
    np.testing.assert_allclose(sign * fields, COULOMB * mu + 4 * gamma * mu**3, rtol=5e-4)
    if charges == (0.0, 0.0):
        np.testing.assert_allclose(mu, np.sqrt(COULOMB * (2 / r**3 - 1) / (4 * gamma)), rtol=5e-4)


def test_damping_keeps_shells_at_home():
    pair = [[0, 0, 0], [0, 0, 1.15]]
    found = relax_shells(pair, [0.1, -0.1], [1, 1], 50.0, damping="thole")
    wanted = induce(pair, [0.1, -0.1], [1, 1])
    np.testing.assert_allclose(found.dipoles[:, 2], wanted.dipoles[:, 2], rtol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shell_charges": [1.0, 0.0]}, "`shell_charges` must not be zero"),
        ({"shell_charges": np.nan}, "`shell_charges`"),
        ({"quartic": -1.0}, "`quartic` must not be negative"),
        ({"positions": [[0, 0, 0], [0, 0, np.nan]]}, "`positions` must be finite"),
        ({"positions": [[0, 0, 0], [0, 0, 0]]}, "sites 0 and 1 are at the same place"),
        ({"fields": [[0, 0, 1]]}, "`fields` must be finite, of shape"),
        ({"guess": np.full((2, 3), np.nan)}, "`guess` must be finite"),
    ],
)
def test_bad_input(change, message):
    good = {
        "positions": [[0, 0, 0], [0, 0, 3.0]],
        "charges": [1, -1],
        "polarizabilities": [1, 1],
        "shell_charges": -1,
    }
    with pytest.raises(ValueError, match=message):
        relax_shells(**(good | change))
