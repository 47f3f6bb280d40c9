"""Direct Coulomb sums and the sphere that carries far fields: closed formulas, derivatives, and Ewald sums."""

from __future__ import annotations

import numpy as np
import pytest

from solidqmmm.physics.electrostatics.coulomb import coulomb_energy, coulomb_potential
from solidqmmm.physics.electrostatics.ewald import COULOMB, ewald_potential
from solidqmmm.physics.electrostatics.far_field import FarFieldSphere, evenly_on_sphere

rng = np.random.default_rng(5)
SOURCES = rng.uniform(-2, 2, (6, 3))
CHARGES = rng.normal(size=6)
DIPOLES = rng.normal(size=(6, 3))
POINTS = rng.uniform(-2, 2, (4, 3))


@pytest.mark.parametrize("sigma", [None, 0.7, np.array([0.0, 0.3, 0.5, 0.0, 1.0, 2.0])])
def test_field_and_its_gradient_are_derivatives_of_the_potential(sigma):
    def phi(points):
        return coulomb_potential(points, SOURCES, CHARGES, dipoles=DIPOLES, sigma=sigma, derivatives=0)[0]

    _, field, gradient = coulomb_potential(POINTS, SOURCES, CHARGES, dipoles=DIPOLES, sigma=sigma, derivatives=2)
    h = 1e-4
    for a in range(3):
        e = h * np.eye(3)[a]
        np.testing.assert_allclose(field[:, a], -(phi(POINTS + e) - phi(POINTS - e)) / (2 * h), rtol=2e-6, atol=1e-5)
        up, down = (
            coulomb_potential(POINTS + s * e, SOURCES, CHARGES, dipoles=DIPOLES, sigma=sigma)[1] for s in (1, -1)
        )
        np.testing.assert_allclose(gradient[:, :, a], (up - down) / (2 * h), rtol=2e-6, atol=1e-4)


def test_a_dipole_is_a_pair_of_charges():
    p, h = np.array([[0.3, -0.2, 0.5]]), 1e-4
    along = p / np.linalg.norm(p)
    q = np.linalg.norm(p) / (2 * h)
    pair = coulomb_potential(POINTS, np.vstack([h * along, -h * along]), [q, -q], sigma=0.4)
    one = coulomb_potential(POINTS, np.zeros((1, 3)), [0.0], dipoles=p, sigma=0.4)
    for found, expected in zip(one, pair, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_gaussian_far_away_is_a_point_and_finite_at_its_centre():
    far = coulomb_potential([[0, 0, 9.0]], [[0, 0, 0]], [1.0], sigma=1.0)
    assert far[0][0] == pytest.approx(COULOMB / 9, rel=1e-12)
    near = coulomb_potential([[0, 0, 1e-4]], [[0, 0, 0]], [1.0], sigma=0.5, derivatives=0)[0][0]
    assert near == pytest.approx(COULOMB * np.sqrt(2 / np.pi) / 0.5, rel=1e-6)


def test_energy_and_forces_of_three_charges():
    positions = np.array([[0, 0, 0], [0, 0, 2.0], [0, 1.5, 0]])
    energy, forces = coulomb_energy(positions, [1.0, -1.0, 2.0])
    assert energy == pytest.approx(COULOMB * (-1 / 2 + 2 / 1.5 - 2 / 2.5))
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(forces[0], COULOMB * np.array([0, -2 / 1.5**2, 1 / 4]), atol=1e-12)


def test_points_on_the_sphere_are_even():
    points = evenly_on_sphere(800)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, atol=1e-14)
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=2e-3)
    np.testing.assert_allclose(points.T @ points / 800, np.eye(3) / 3, atol=2e-3)


A0 = 4.2112
MGO = A0 / 2 * np.array([[0, 0, 0], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1.0]])
IONS = np.array([2.0] * 4 + [-2.0] * 4)


def explicit(radius, centre):
    shifts = A0 * (np.stack(np.meshgrid(*[np.arange(-4, 5)] * 3, indexing="ij"), axis=-1).reshape(-1, 1, 3))
    everywhere = (MGO + shifts).reshape(-1, 3)
    near = np.linalg.norm(everywhere - centre, axis=1) < radius
    return everywhere[near], np.tile(IONS, len(shifts))[near]


@pytest.mark.parametrize(("n_sites", "tolerance"), [(100, 2e-3), (400, 1e-6)])
def test_field_of_the_infinite_crystal_from_near_ions_and_a_sphere(n_sites, tolerance):
    """Potential inside 5 angstrom of a site of MgO: 619 ions and the sphere, against the Ewald sum."""
    centre = MGO[4]
    ions, q = explicit(11.0, centre)
    sphere = FarFieldSphere.around(centre, 5.0, 11.0, n_sites)
    cell = A0 * np.eye(3)

    def far(points):
        return ewald_potential(points, MGO, IONS, cell, derivatives=0)[0] - coulomb_potential(points, ions, q)[0]

    charges = sphere.charges(far(sphere.samples))
    inside = centre + 5.0 * rng.normal(size=(60, 3)) / 3
    inside = inside[np.linalg.norm(inside - centre, axis=1) < 5.0]
    error = coulomb_potential(inside, sphere.sites, charges)[0] - far(inside)
    assert len(inside) > 30
    assert np.abs(far(inside)).max() > 0.1
    assert np.sqrt((error**2).mean()) < tolerance


def test_the_reaction_on_far_charges_is_the_adjoint():
    """A density inside and a far charge: the same energy from either side, and near that of Coulomb's law."""
    sphere = FarFieldSphere.around(np.zeros(3), 4.0, 10.0, 300)
    inside, q = rng.normal(size=(5, 3)), np.array([1.0, -0.4, 0.7, -1.6, 0.9])
    far, one = np.array([[3.0, -11.0, 2.0]]), np.array([0.8])
    potentials = coulomb_potential(sphere.sites, inside, q, derivatives=0)[0]
    samples = coulomb_potential(sphere.samples, far, one, derivatives=0)[0]
    energy = sphere.charges(samples) @ potentials
    assert energy == pytest.approx(sphere.reaction(potentials) @ samples, rel=1e-9)
    assert energy == pytest.approx(one @ coulomb_potential(far, inside, q, derivatives=0)[0], abs=1e-5)
    with pytest.raises(ValueError, match="`outer` must be larger than `inner`"):
        FarFieldSphere.around(np.zeros(3), 4.0, 3.0)
