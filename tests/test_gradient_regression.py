"""Regression on gradients against the dense solution of the same equations, and its derivatives."""

import numpy as np
import pytest

from solidqmmm.physics.algebra.gradient_regression import value_and_gradient, weights


def dense_weights(points, gradients, length, noise):
    n, D = points.shape
    K = np.zeros((n, D, n, D))
    for i in range(n):
        for j in range(n):
            d = points[i] - points[j]
            K[i, :, j, :] = np.exp(-0.5 * d @ d / length**2) * (np.eye(D) - np.outer(d, d) / length**2)
    K = K.reshape(n * D, n * D) + noise * np.eye(n * D)
    return np.linalg.solve(K, gradients.ravel()).reshape(n, D)


@pytest.mark.parametrize("n", [1, 2, 6])
def test_reduced_solve_equals_the_dense_one(n):
    rng = np.random.default_rng(n)
    points, gradients = rng.normal(size=(n, 15)), rng.normal(size=(n, 15))
    np.testing.assert_allclose(
        weights(points, gradients, 1.7, 1e-3), dense_weights(points, gradients, 1.7, 1e-3), atol=1e-9
    )


def test_gradient_is_the_derivative_of_the_value():
    rng = np.random.default_rng(0)
    points, gradients, x, h = rng.normal(size=(4, 6)), rng.normal(size=(4, 6)), rng.normal(size=6), 1e-6
    w = weights(points, gradients, 2.0, 1e-4)
    _, gradient = value_and_gradient(x, points, w, 2.0)
    for k, unit in enumerate(np.eye(6)):
        above, below = (value_and_gradient(x + s * h * unit, points, w, 2.0)[0] for s in (1, -1))
        assert gradient[k] == pytest.approx((above - below) / (2 * h), abs=1e-8)


def test_observations_are_reproduced_and_a_smooth_function_is_found():
    def slope(x):
        return np.column_stack([np.cos(x[:, 0]), -np.sin(x[:, 1])])

    grid = np.stack(np.meshgrid(*[np.linspace(-1.5, 1.5, 9)] * 2), axis=-1).reshape(-1, 2)
    w = weights(grid, slope(grid), 1.0, 1e-8)
    values = [value_and_gradient(x, grid, w, 1.0)[0] for x in ([0.0, 0.0], [0.5, -0.3])]
    assert values[1] - values[0] == pytest.approx(np.sin(0.5) + np.cos(-0.3) - 1.0, abs=1e-4)
    for x, expected in zip(grid, slope(grid), strict=True):
        np.testing.assert_allclose(value_and_gradient(x, grid, w, 1.0)[1], expected, atol=1e-4)
