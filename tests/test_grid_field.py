"""External charges on grids and in plane waves, against direct and Ewald sums; both maps are transposes."""

from __future__ import annotations

import numpy as np
import pytest

from solidqmmm.physics.electrostatics.coulomb import coulomb_potential
from solidqmmm.physics.electrostatics.ewald import ewald_potential
from solidqmmm.physics.electrostatics.far_field_box import FarFieldBox
from solidqmmm.physics.electrostatics.grid_field import GridField
from solidqmmm.physics.electrostatics.grid_patches import (
    PointGrid,
    along,
    first_moment,
    second_moment,
    squares,
)
from solidqmmm.physics.electrostatics.lattice_field import LatticeField

STRAIGHT = np.diag([6.0, 6.6, 7.0])
SKEW = np.array([[6.0, 0.0, 0.0], [1.5, 6.0, 0.0], [-1.0, 1.0, 6.5]])
SIZE = np.array([48, 52, 56])


def points(cell, size=SIZE, start=(1, 1, 1)):
    index = np.stack(np.meshgrid(*[np.arange(a, b) for a, b in zip(start, size)], indexing="ij"), axis=-1)
    return index @ (cell / np.asarray(size)[:, None])


def density(cell):
    """Charges on the points of a blob of 10 e without symmetry in the middle of the cell."""
    x = points(cell)
    d = x - cell.sum(axis=0) / 2
    w = np.exp(-(d**2).sum(axis=-1) / (2 * 0.6**2)) * (1 + 0.3 * d[..., 0] - 0.2 * d[..., 1])
    return 10 * w / w.sum()


def sites(cell, n=12):
    """Charges and dipoles inside, around and far from the cell; points and Gaussians."""
    rng = np.random.default_rng(3)
    x = np.vstack([rng.uniform(-0.5, 1.5, (n, 3)), rng.uniform(2.0, 3.0, (n, 3))]) @ cell
    widths = np.tile([0.0, 0.2, 0.9, 0.35], n // 2)
    return x, rng.normal(size=2 * n), 0.3 * rng.normal(size=(2 * n, 3)), widths


@pytest.mark.parametrize("cell", [STRAIGHT, SKEW], ids=["straight", "skew"])
def test_potential_is_the_direct_sum(cell):
    x, q, p, widths = sites(cell)
    field = GridField(cell, SIZE, [1, 1, 1], SIZE)
    field.place(x, widths)
    assert field.far.sum() == 12
    r = points(cell).reshape(-1, 3)[::37]
    middle = (np.abs(r @ np.linalg.inv(cell) - 0.5) < 0.35).all(axis=1)
    expected = coulomb_potential(r, x, q, dipoles=p, sigma=np.maximum(widths, field.floor), derivatives=0)[0]
    error = field.potential(q, p).ravel()[::37] - expected
    assert (
        np.abs(error[middle]).max() < 2e-4
    )  # right beside a dipole of 0.1 angstrom width; the potential there is 20 V
    assert np.sqrt((error[middle] ** 2).mean()) < 5e-6


@pytest.mark.parametrize("cell", [STRAIGHT, SKEW], ids=["straight", "skew"])
def test_sites_feel_the_direct_sum(cell):
    x, q, p, widths = sites(cell)
    field, w = GridField(cell, SIZE, [1, 1, 1], SIZE), density(cell)
    field.place(x, widths)
    phi, E, gradient = field.at_sites(w, 2)
    wide = np.maximum(widths, field.floor)[:, None] * np.ones(w.size)
    expected = coulomb_potential(x, points(cell).reshape(-1, 3), w.ravel(), sigma=wide, derivatives=2)
    np.testing.assert_allclose(phi, expected[0], atol=2e-6)
    np.testing.assert_allclose(E, expected[1], atol=1e-5)
    np.testing.assert_allclose(gradient, expected[2], atol=2e-4)
    # ... and what a site feels is what it does to the density.
    assert (w * field.potential(q, p)).sum() == pytest.approx(q @ phi - (p * E).sum(), abs=1e-6)


def test_gradients_are_those_of_the_energy():
    x, q, p, widths = sites(SKEW)
    field, w = GridField(SKEW, SIZE, [1, 1, 1], SIZE), density(SKEW)
    field.place(x, widths)
    _, E, gradient = field.at_sites(w, 2)
    forces = q[:, None] * E + np.einsum("jb,jba->ja", p, gradient)
    direction, step = np.random.default_rng(0).normal(size=x.shape), 1e-3
    energies = []
    for sign in (1, -1):
        field.place(x + sign * step * direction, widths)
        energies.append((w * field.potential(q, p)).sum())
    assert (forces * direction).sum() == pytest.approx(-(energies[0] - energies[1]) / (2 * step), abs=2e-4)


def test_blocks_of_the_grid_add_up():
    x, q, p, widths = sites(STRAIGHT)
    w, whole = density(STRAIGHT), GridField(STRAIGHT, SIZE, [1, 1, 1], SIZE)
    left, right = (GridField(STRAIGHT, SIZE, [a, 1, 1], [b, *SIZE[1:]]) for a, b in ((1, 23), (23, SIZE[0])))
    for field in (whole, left, right):
        field.place(x, widths)
    together = np.concatenate([left.potential(q, p), right.potential(q, p)])
    np.testing.assert_allclose(together, whole.potential(q, p), atol=1e-9)
    for a, b, c in zip(left.at_sites(w[:22], 2), right.at_sites(w[22:], 2), whole.at_sites(w, 2)):
        np.testing.assert_allclose(a + b, c, atol=1e-6)


def test_far_charges_are_carried_by_a_box():
    rng = np.random.default_rng(1)
    box = FarFieldBox(STRAIGHT, 0.5)
    x = rng.uniform(-25, 30, (3000, 3))
    x = x[box.beyond(x) > box.distance]
    q, p = rng.choice([-2.0, 2.0], len(x)), 0.1 * rng.normal(size=(len(x), 3))
    inside = STRAIGHT.sum(axis=0) * rng.uniform(0.15, 0.85, (200, 3))
    carried = coulomb_potential(inside, box.sites, box.charges(x, q, p), sigma=0.5, derivatives=0)[0]
    np.testing.assert_allclose(
        carried, coulomb_potential(inside, x, q, dipoles=p, derivatives=0)[0], atol=2e-5
    )


def test_distance_from_the_box_is_perpendicular():
    box = FarFieldBox(SKEW, 0.5)
    faces = np.cross(SKEW[[1, 2, 0]], SKEW[[2, 0, 1]])
    normals = faces / np.linalg.norm(faces, axis=1)[:, None]
    middle = SKEW.sum(axis=0) / 2
    beside = middle + SKEW[0] / 2 + 3.0 * normals[0]  # 3 angstrom above the middle of a face
    np.testing.assert_allclose(box.beyond(np.array([middle, beside])), [0.0, 3.0], atol=1e-12)


# --- plane waves ------------------------------------------------------------------------------------------------


def half_sphere(n=14):
    i = np.stack(np.meshgrid(*[np.arange(-n, n + 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    x, y, z = i.T
    return i[(z > 0) | ((z == 0) & ((y > 0) | ((y == 0) & (x >= 0))))]


def lattice():
    rng = np.random.default_rng(0)
    x, q, p = rng.uniform(size=(5, 3)) @ SKEW, rng.normal(size=5), 0.2 * rng.normal(size=(5, 3))
    return x, q - q.mean(), p, np.array([0.4, 0.4, 0.5, 0.6, 0.4])


def test_plane_waves_are_the_ewald_sum():
    x, q, p, widths = lattice()
    field = LatticeField(SKEW, half_sphere())
    field.place(x, widths)
    v = field.potential(q, p)
    r = np.random.default_rng(1).uniform(size=(7, 3)) @ SKEW
    values = (np.exp(1j * r @ field.G.T) @ (np.where(field.G2 == 0, 1, 2) * v)).real
    expected = ewald_potential(r, x, q, SKEW, dipoles=p, sigma=widths, derivatives=0)[0]
    np.testing.assert_allclose(values - v[field.G2 == 0].real, expected, atol=1e-6)


def test_a_periodic_gaussian_is_a_point_where_it_does_not_reach():
    field = LatticeField(STRAIGHT, half_sphere(40))
    r, x = STRAIGHT.sum(axis=0) / 2, np.array([[0.0, 0.0, 0.0], [0.5, 0.3, -0.2]])
    wave = np.exp(1j * field.G @ r) * np.where(field.G2 == 0, 1, 2)
    values = []
    for widths in ([0.3, 0.4], [0.4, 0.3]):
        field.place(x, widths)
        values.append((wave @ field.potential(np.array([1.0, -1.0]))).real)
    expected = ewald_potential(r[None], x, [1.0, -1.0], STRAIGHT, derivatives=0)[0]
    np.testing.assert_allclose(values, [expected[0]] * 2, atol=1e-8)


def test_maps_of_plane_waves_are_transposes():
    x, q, p, widths = lattice()
    rng, field = np.random.default_rng(2), LatticeField(SKEW, half_sphere())
    rho = (rng.normal(size=len(field.G)) + 1j * rng.normal(size=len(field.G))) * np.exp(-field.G2 / 4)
    rho[field.G2 == 0] = 0.3
    field.place(x, widths)
    phi, E, gradient = field.at_sites(rho, 2)
    pair = np.where(field.G2 == 0, 1, 2)
    energy = abs(np.linalg.det(SKEW)) * (pair * field.potential(q, p).conj() * rho).real.sum()
    assert energy == pytest.approx(q @ phi - (p * E).sum(), abs=1e-10)
    step = 1e-4 * np.eye(3)
    for a in range(3):
        shifted = []
        for sign in (1, -1):
            field.place(x + sign * step[a], widths)
            shifted.append(field.at_sites(rho, 1))
        np.testing.assert_allclose(E[:, a], -(shifted[0][0] - shifted[1][0]) / 2e-4, atol=1e-5)
        np.testing.assert_allclose(gradient[:, :, a], (shifted[0][1] - shifted[1][1]) / 2e-4, atol=1e-5)


# --- boxes of points --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", [STRAIGHT, SKEW], ids=["straight", "skew"])
def test_periodic_boxes_find_every_image_once(cell):
    size = np.array([12, 14, 16])
    grid = PointGrid(cell / size[:, None], np.zeros(3, dtype=int), size, size)
    centre, radius, found = np.array([0.3, -0.4, 9.0]), 4.2, np.zeros(grid.shape)
    for slices, axes in grid.patches(centre, radius):
        found[slices] += squares(axes) < radius**2
    assert found.sum() * grid.point_volume == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.02)
    x = points(cell, size, (0, 0, 0))
    images = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) @ cell
    expected = sum((((x + image - centre) ** 2).sum(axis=-1) < radius**2).astype(int) for image in images)
    np.testing.assert_array_equal(found, expected)


def test_moments_are_those_of_the_vectors():
    grid = PointGrid(SKEW / 8, np.array([-2, 0, 1]), np.array([9, 6, 7]))
    ((_, axes),) = grid.patches([1.0, 2.0, 3.0], 2.0)
    d = axes[0][:, None, None] + axes[1][:, None] + axes[2]
    w = np.random.default_rng(0).normal(size=d.shape[:3])
    np.testing.assert_allclose(squares(axes), (d**2).sum(axis=-1), atol=1e-12)
    np.testing.assert_allclose(along(axes, [1.0, -2.0, 0.5]), d @ [1.0, -2.0, 0.5], atol=1e-12)
    np.testing.assert_allclose(first_moment(w, axes), np.einsum("ijk,ijka->a", w, d), atol=1e-12)
    np.testing.assert_allclose(second_moment(w, axes), np.einsum("ijk,ijka,ijkb->ab", w, d, d), atol=1e-12)
