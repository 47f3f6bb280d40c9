"""Finite arrays of charges against the infinite crystals that they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from solidqmmm.physics.electrostatics.coulomb import coulomb_potential
from solidqmmm.physics.electrostatics.embedding_charges import embedding_charges, host_potential
from solidqmmm.physics.electrostatics.ewald import COULOMB

A = 4.2112  # MgO
FCC = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
IONS, CHARGES, CELL = (
    A * np.concatenate([FCC, FCC + 0.5 * np.eye(3)[0]]),
    np.repeat([2.0, -2.0], 4),
    A * np.eye(3),
)


def images(positions, cell, n):
    shifts = np.indices(n).reshape(3, -1).T - np.array(n) // 2
    return (positions[:, None] + shifts @ cell).reshape(-1, 3)


def within(positions, centre, radius):
    return positions[np.linalg.norm(positions - centre, axis=1) < radius]


def slab(gap, *, layers=6, rumpled=0.0):
    """MgO(001), period a/sqrt(2), the outermost oxygen layer raised by `rumpled` on one side: a dipole."""
    p = A / np.sqrt(2)
    cell = np.diag([p, p, (layers - 1) * A / 2 + gap])
    z = np.arange(layers) * A / 2
    corner = np.arange(layers) % 2 * p / 2
    magnesium = np.stack([corner, corner, z], axis=1)
    oxygen = np.stack([p / 2 - corner, p / 2 - corner, z], axis=1)
    oxygen[-1, 2] += rumpled
    return np.concatenate([magnesium, oxygen]), np.repeat([2.0, -2.0], layers), cell


def felt(embedding, points):
    """Potential of embedding charges and quantum ions together; ions leave themselves out."""
    positions = np.concatenate([embedding.positions, embedding.region])
    charges = np.concatenate([embedding.charges, embedding.region_charges])
    return coulomb_potential(points, positions, charges, derivatives=0)[0]


@pytest.fixture(scope="module")
def bulk():
    return embedding_charges(IONS, CHARGES, CELL, region=within(images(IONS, CELL, (5, 5, 5)), 0, 4.0))


def test_bulk_magnesium_oxide(bulk):
    assert bulk.converged
    assert bulk.rms_error_eV < 1e-3
    assert bulk.max_error_eV < 3e-3
    assert len(bulk) < 1200
    assert len(bulk.region) == 27  # with shells of 6, 12 and 8 around a magnesium ion
    np.testing.assert_allclose(felt(bulk, np.zeros((1, 3))), -23.9022707, atol=2e-3)
    expected = -23.9022707 * np.sign(bulk.region_charges)
    np.testing.assert_allclose(felt(bulk, bulk.region), expected, atol=2e-3)
    assert bulk.charges.sum() + bulk.region_charges.sum() == pytest.approx(0, abs=1e-10)
    assert np.abs(bulk.charges).max() <= 2.0 + 1e-9


def test_reported_errors_are_those_elsewhere(bulk):
    """Harmonic errors are largest on the sphere; points of our own inside never exceed what was reported by much."""
    rng = np.random.default_rng(5)
    points = rng.uniform(-1, 1, size=(400, 3)) * bulk.region_radius
    points = within(points + bulk.centre, bulk.centre, bulk.region_radius)
    error = felt(bulk, points) - host_potential(points, IONS, CHARGES, CELL)
    assert np.sqrt(np.mean(error**2)) < bulk.rms_error_eV
    assert np.abs(error).max() < 1.2 * bulk.max_error_eV
    outside = bulk.centre + 1.6 * bulk.region_radius * np.eye(3)
    beyond = felt(bulk, outside) - host_potential(outside, IONS, CHARGES, CELL)
    assert np.abs(beyond).max() > 10 * bulk.max_error_eV  # the region is where it says, and not by accident


def test_explicit_ions_are_the_lattice(bulk):
    lattice = images(IONS, CELL, (7, 7, 7))
    ball = within(lattice, bulk.centre, bulk.radius)
    explicit = bulk.positions[: bulk.n_explicit]
    assert len(ball) == bulk.n_explicit + len(bulk.region)
    apart = np.linalg.norm(explicit[:, None] - ball, axis=2)
    assert apart.min(axis=1).max() < 1e-9
    assert np.linalg.norm(explicit[:, None] - bulk.region, axis=2).min() > 2.0
    fitted = bulk.positions[bulk.n_explicit :] - bulk.centre
    assert np.linalg.norm(fitted, axis=1).min() > bulk.radius - 1e-9


def test_indices_across_the_faces_of_a_supercell(bulk):
    shifts = (np.indices((3, 3, 3)).reshape(3, -1).T) @ CELL
    positions = (shifts[:, None] + IONS).reshape(-1, 3)
    distance = np.linalg.norm((positions + 1.5 * A) % (3 * A) - 1.5 * A, axis=1)
    ions = np.flatnonzero(distance < 4.0)
    assert ions[0] == 0
    found = embedding_charges(positions, np.tile(CHARGES, 27), 3 * CELL, region=ions)
    np.testing.assert_allclose(found.centre, bulk.centre, atol=1e-9)
    assert found.n_explicit == bulk.n_explicit
    assert found.rms_error_eV == pytest.approx(bulk.rms_error_eV, rel=0.01)
    np.testing.assert_allclose(
        found.positions[found.n_explicit :], bulk.positions[bulk.n_explicit :], atol=1e-9
    )


def test_more_explicit_ions_need_fewer_fitted_ones(bulk):
    wide = embedding_charges(IONS, CHARGES, CELL, region=bulk.region, radius=14.0)
    assert wide.converged
    assert wide.n_explicit > 1000
    assert len(wide) - wide.n_explicit < len(bulk) - bulk.n_explicit


def test_an_interstitial_place_takes_no_ion_out():
    place = np.array([[0.25, 0.25, 0.25]]) * A
    found = embedding_charges(IONS, CHARGES, CELL, region=place)
    assert found.converged
    assert len(found.region) == 0
    assert found.charges.sum() == pytest.approx(0, abs=1e-10)
    np.testing.assert_allclose(felt(found, place), host_potential(place, IONS, CHARGES, CELL), atol=2e-3)


@pytest.mark.parametrize("vacuum", [None, 2], ids=["periodic", "slab alone"])
def test_surface_of_magnesium_oxide(vacuum):
    ions, charges, cell = slab(14.0, rumpled=0.06)
    top = np.array([0.0, 0.0, 5 * A / 2])
    region = within(images(ions, cell, (5, 5, 1)), top, 4.0)
    found = embedding_charges(ions, charges, cell, region=region, vacuum=vacuum)
    assert found.converged
    assert found.max_error_eV < 3e-3
    expected = host_potential(region, ions, charges, cell, vacuum=vacuum)
    np.testing.assert_allclose(felt(found, region), expected, atol=3e-3)
    if vacuum is not None:
        assert found.positions[: found.n_explicit, 2].max() < top[2] + 0.1  # no ion of the next slab


def test_a_polar_slab_alone():
    """No field far away, the jump of a dipole layer across the slab, and no trace of the gap."""
    potentials = []
    for gap in (18.0, 35.0):
        ions, charges, cell = slab(gap, rumpled=0.3)
        top, normal = ions[:, 2].max(), np.array([0, 0, 1.0])
        points = np.array([[1.0, 0.3, h] for h in (-9.0, -8.5, top + 8.5, top + 9.0)])
        across = host_potential(points, ions, charges, cell, vacuum=2, near=ions[0])
        jump = 4 * np.pi * COULOMB * (charges @ ions @ normal) / cell[0, 0] ** 2
        np.testing.assert_allclose(across, jump / 2 * np.array([-1, -1, 1, 1]), atol=1e-6)
        potentials.append(host_potential(ions, ions, charges, cell, vacuum=2))
        # Ions that lie in other images, as a program may have wrapped them, belong to the same slab.
        wrapped = ions + np.outer(np.arange(len(ions)) % 3 - 1, cell[2])
        again = host_potential(ions, wrapped, charges, cell, vacuum=2)
        np.testing.assert_allclose(again, potentials[-1], atol=1e-9)
    np.testing.assert_allclose(potentials[0], potentials[1], atol=1e-8)
    periodic = host_potential(points, ions, charges, cell)
    field = COULOMB * 4 * np.pi * (charges @ ions[:, 2]) / np.linalg.det(cell)
    assert periodic[0] - periodic[1] == pytest.approx(0.5 * field, abs=1e-6)


def test_what_cannot_be_met_is_said():
    region = within(images(IONS, CELL, (3, 3, 3)), 0, 3.0)
    found = embedding_charges(IONS, CHARGES, CELL, region=region, radius=4.8, tolerance=1e-9)
    assert not found.converged
    assert found.rms_error_eV > 1e-9
    with pytest.raises(ValueError, match="larger than that of the region with its margin"):
        embedding_charges(IONS, CHARGES, CELL, region=region, radius=3.0)
    with pytest.raises(ValueError, match="is empty"):
        embedding_charges(IONS, CHARGES, CELL, region=[])
    with pytest.raises(ValueError, match="must be integers or points"):
        embedding_charges(IONS, CHARGES, CELL, region=[0.5, 1.0])
    with pytest.raises(ValueError, match="must be neutral"):
        embedding_charges(IONS, CHARGES + 0.1, CELL, region=[0])
    with pytest.raises(ValueError, match="read-only"):
        found.charges[0] = 0
