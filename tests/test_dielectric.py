"""Macroscopic dielectric constants from dipoles on lattices."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from solidqmmm.errors import PolarizationCatastrophe
from solidqmmm.physics.polarization.dielectric import clausius_mossotti, dielectric_tensor
from solidqmmm.physics.polarization.induced_dipoles import InducedDipoles, PolarizableSites

FCC = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
ROCKSALT = np.vstack([FCC, FCC + 0.5])
LATTICES = {
    "simple cubic": (np.zeros((1, 3)), [0.9], 2.4),
    "body-centred": (np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), [1.0, 1.0], 3.2),
    "face-centred": (FCC, [1.0] * 4, 4.1),
    "rock salt, MgO": (ROCKSALT, [0.09] * 4 + [1.65] * 4, 4.2112),
}


def sites(places, alpha, cell, damping=None):
    cell = np.asarray(cell) * np.eye(3) if np.ndim(cell) < 2 else np.asarray(cell)
    return PolarizableSites(places @ cell, np.zeros(len(alpha)), alpha, cell=cell, damping=damping)


@pytest.mark.parametrize("name", LATTICES)
def test_cubic_lattices_are_clausius_mossotti(name):
    places, alpha, a = LATTICES[name]
    wanted = clausius_mossotti(sum(alpha), a**3)
    assert wanted > 1.5
    np.testing.assert_allclose(dielectric_tensor(sites(places, alpha, a)), wanted * np.eye(3), atol=1e-9)


def test_any_cell_of_the_same_lattice():
    """The primitive cell of rock salt, turned and left-handed, is the conventional one."""
    R = Rotation.random(rng=np.random.default_rng(3)).as_matrix()
    cell = 4.2112 / 2 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])[::-1] @ R
    found = dielectric_tensor(sites(np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), [0.09, 1.65], cell))
    np.testing.assert_allclose(found, clausius_mossotti(4 * 1.74, 4.2112**3) * np.eye(3), atol=1e-8)


def test_sum_rule_of_a_stretched_lattice():
    """eps_a = 1 + (4 pi/V) alpha/(1 - alpha T_a), and the lattice sums T_a add up to 4 pi/V in any shape."""
    cell, alpha = np.diag([2.9, 3.3, 4.4]), 1.2
    V = np.linalg.det(cell)
    eps = dielectric_tensor(sites(np.zeros((1, 3)), [alpha], cell))
    T = 1 / alpha - 4 * np.pi / V / (np.diag(eps) - 1)
    assert T.sum() == pytest.approx(4 * np.pi / V, rel=1e-9)
    assert np.ptp(np.diag(eps)) > 0.1


def test_many_sites_on_a_mesh():
    places, alpha, a = LATTICES["rock salt, MgO"]
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    places = (places + grid).reshape(-1, 3) / 4
    eps = dielectric_tensor(sites(places, np.tile(alpha, 64), 4 * a))
    np.testing.assert_allclose(eps, clausius_mossotti(sum(alpha), a**3) * np.eye(3), atol=1e-6)


def test_damping_screens_the_local_field():
    places, alpha, a = LATTICES["rock salt, MgO"]
    damped = dielectric_tensor(sites(places, alpha, a, "thole"))[0, 0]
    assert 0.98 < damped / clausius_mossotti(sum(alpha), a**3) < 0.995


def test_catastrophe_of_a_crystal():
    """The simple cubic lattice diverges at 4 pi alpha/(3 V) = 1, further than any pair of its sites."""
    critical = (4 * np.pi / 3) ** (1 / 3)
    assert dielectric_tensor(sites(np.zeros((1, 3)), [1.0], critical * (1 + 1e-6)))[0, 0] > 1e5
    with pytest.raises(PolarizationCatastrophe, match=r"site 0 and its periodic image.* field of others"):
        dielectric_tensor(sites(np.zeros((1, 3)), [1.0], critical * (1 - 1e-6)))
    with pytest.raises(ValueError, match="between 0 and 1"):
        clausius_mossotti(1.0, 0.999 * critical**3)


def test_a_sphere_has_the_crystal_inside():
    a, alpha, radius = 2.0, 0.7, 12.1
    grid = np.stack(np.meshgrid(*[np.arange(-7, 8)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    x = a * grid[np.linalg.norm(a * grid, axis=1) < radius]
    ball = InducedDipoles(PolarizableSites(x, np.zeros(len(x)), np.full(len(x), alpha), damping=None))
    total = ball.polarizability()
    np.testing.assert_allclose(total, total[0, 0] * np.eye(3), atol=1e-6 * total[0, 0])
    eps = clausius_mossotti(total[0, 0], len(x) * a**3)
    assert eps == pytest.approx(clausius_mossotti(alpha, a**3), rel=0.01)


def test_isolated_sites_have_none():
    with pytest.raises(ValueError, match="give `cell`"):
        dielectric_tensor(PolarizableSites(np.zeros((1, 3)), [0], [1.0]))
