"""Distances in periodic cells of any shape, against a search over images."""

from __future__ import annotations

import numpy as np
import pytest

from solidqmmm.physics.geometry import (
    distances_to_line,
    distances_to_point,
    perpendicular_widths,
    triangular_frame,
    unwrapped,
)

CELLS = {
    "cubic": 6.0 * np.eye(3),
    "primitive fcc": 5.0 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0.0]]),
    "skewed": np.array([[7.0, 0.3, 0], [3.4, 6.0, 0.1], [-2.8, 2.9, 8.0]]),
    "left-handed": np.array([[0, 7.0, 1.0], [6.0, 0.5, 0], [0, 0.2, 5.0]]),
}
each_cell = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
IMAGES = np.array([[i, j, k] for i in range(-3, 4) for j in range(-3, 4) for k in range(-3, 4)])


@each_cell
def test_widths_are_distances_of_faces(cell):
    for k, width in enumerate(perpendicular_widths(cell)):
        normal = np.cross(cell[k - 2], cell[k - 1])
        assert width == pytest.approx(abs(cell[k] @ normal) / np.linalg.norm(normal))


@each_cell
def test_nearest_images_below_half_a_width(cell):
    rng = np.random.default_rng(0)
    point = rng.normal(size=3) * 10
    half = 0.5 * perpendicular_widths(cell).min()
    near = rng.normal(size=(200, 3))
    near *= rng.uniform(0, 0.999 * half, (200, 1)) / np.linalg.norm(near, axis=1)[:, None]
    scattered = point + near + rng.integers(-3, 4, (200, 3)) @ cell
    np.testing.assert_allclose(unwrapped(scattered, point, cell, (True,) * 3), point + near, atol=1e-10)
    found = distances_to_point(scattered, point, cell, (True,) * 3)
    np.testing.assert_allclose(found, np.linalg.norm(near, axis=1), atol=1e-10)
    wrapped = scattered - np.floor((scattered - point) @ np.linalg.inv(cell)) @ cell
    by_search = np.linalg.norm((wrapped - point)[:, None] + (IMAGES @ cell), axis=2).min(axis=1)
    np.testing.assert_allclose(found, by_search, atol=1e-10)


@each_cell
def test_directions_without_periodicity_are_left_alone(cell):
    positions = np.random.default_rng(1).normal(scale=20, size=(50, 3))
    np.testing.assert_array_equal(unwrapped(positions, np.zeros(3), cell, (False,) * 3), positions)
    moved = (unwrapped(positions, np.zeros(3), cell, (True, False, True)) - positions) @ np.linalg.inv(cell)
    assert np.abs(moved[:, 1]).max() < 1e-10
    np.testing.assert_allclose(moved, np.rint(moved), atol=1e-10)
    assert np.abs(moved[:, [0, 2]]).max() > 0.5


def test_each_position_may_have_a_reference_of_its_own():
    cell, reference = CELLS["skewed"], np.random.default_rng(2).normal(scale=30, size=(40, 3))
    scattered = reference + 0.4 + np.random.default_rng(3).integers(-2, 3, (40, 3)) @ cell
    np.testing.assert_allclose(unwrapped(scattered, reference, cell, (True,) * 3), reference + 0.4, atol=1e-10)


def test_distances_to_a_line():
    cell = np.diag([10.0, 12.0, 4.0])
    positions = np.array([[9.5, 0.5, 1.0], [1.0, 11.0, 3.0], [5.0, 6.0, 2.0], [0.0, 0.0, 77.0]])
    found = distances_to_line(positions, [0, 0, 0], [0, 0, -3], cell, (True,) * 3)
    np.testing.assert_allclose(found, [np.hypot(0.5, 0.5), np.hypot(1, 1), np.hypot(5, 6), 0.0], atol=1e-12)


@each_cell
def test_triangular_frame(cell):
    triangular, Q = triangular_frame(cell)
    np.testing.assert_allclose(cell @ Q, triangular, atol=1e-12)
    np.testing.assert_allclose(Q @ Q.T, np.eye(3), atol=1e-12)
    assert (np.diag(triangular) > 0).all()
    assert np.triu(triangular, 1).any() == 0
    assert np.sign(np.linalg.det(Q)) == np.sign(np.linalg.det(cell))
