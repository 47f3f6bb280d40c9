"""Charges beside cut bonds: what each scheme keeps, where it puts what, and its forces."""

from __future__ import annotations

import numpy as np
import pytest

from solidqmmm.physics.electrostatics.charge_redistribution import SCHEMES, redistributed
from solidqmmm.physics.electrostatics.coulomb import coulomb_energy, coulomb_potential

# Two boundary atoms (0 and 4) that are bonded to each other and share the neighbour 2.
POSITIONS = np.array([[0, 0, 0], [1.5, 0.3, 0], [-0.4, 1.6, 0.2], [0.1, -0.5, 1.7], [-1.6, 0.4, 0.3], [-2.5, 1.5, 0.9]])
CHARGES = np.array([1.2, -0.7, -0.6, -0.4, 0.9, -0.5])
BONDS = [(0, 1), (0, 2), (0, 3), (0, 4), (4, 0), (4, 2), (4, 5)]


def given(scheme, charges=CHARGES):
    return redistributed(charges, [0, 4], BONDS, scheme)


def moments(found, positions=POSITIONS):
    """Total charge and dipole."""
    dipole = found.charges @ positions + found.added @ found.points(positions)
    return found.total, dipole


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_is_kept(scheme):
    found = given(scheme)
    charge, dipole = moments(found)
    assert found.charges[[0, 4]].tolist() == [0.0, 0.0]
    kept = CHARGES.sum() - (2.1 if scheme == "delete" else 0.0)
    assert charge == pytest.approx(kept, abs=1e-13)
    same = np.abs(dipole - CHARGES @ POSITIONS).max() < 1e-12
    assert same == (scheme in ("rcd", "shift"))


def test_where_charges_go():
    """One atom of charge 0.9 with three neighbours: numbers of the schemes' own words."""
    q, bonds = [0.9, 0.1, 0.1, 0.1], [(0, 1), (0, 2), (0, 3)]
    x = POSITIONS[:4]
    rc = redistributed(q, [0], bonds, "rc")
    np.testing.assert_allclose(rc.added, [0.3, 0.3, 0.3])
    np.testing.assert_allclose(rc.charges, [0, 0.1, 0.1, 0.1])
    np.testing.assert_allclose(rc.points(x), (x[0] + x[1:]) / 2)
    rcd = redistributed(q, [0], bonds, "rcd")
    np.testing.assert_allclose(rcd.added, [0.6, 0.6, 0.6])
    np.testing.assert_allclose(rcd.charges, [0, -0.2, -0.2, -0.2], atol=1e-15)
    shift = redistributed(q, [0], bonds, "shift")
    np.testing.assert_allclose(shift.charges, [0, 0.4, 0.4, 0.4])
    np.testing.assert_allclose(shift.added, [3, 3, 3, -3, -3, -3])
    np.testing.assert_allclose(shift.points(x)[:3], x[1:] + 0.05 * (x[0] - x[1:]))
    assert len(redistributed(q, [0], bonds, "delete").added) == 0


def test_symmetric_neighbours_keep_the_dipole_with_midpoints_alone():
    """Ideal tetrahedron: bond vectors sum to zero."""
    x = np.array([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.0]])
    x += [0.3, 0.2, 0.1]
    found = redistributed([0.8, 0, 0, 0, 0], [0], [(0, k) for k in range(1, 5)], "rc")
    np.testing.assert_allclose(moments(found, x)[1], 0.8 * x[0], atol=1e-14)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_far_away_nothing_has_changed_but_higher_moments(scheme):
    """The potential's error falls as the first moment that is not kept: 1/r, 1/r^2 or 1/r^3."""
    found = given(scheme)
    errors = []
    for r in (300.0, 600.0):
        probe = r * np.array([[0.36, 0.48, 0.8]])
        before = coulomb_potential(probe, POSITIONS, CHARGES)[0]
        sites = np.vstack([POSITIONS, found.points(POSITIONS)])
        after = coulomb_potential(probe, sites, np.concatenate([found.charges, found.added]))[0]
        errors.append(abs(float((after - before)[0])))
    power = {"delete": 1, "rc": 2, "rcd": 3, "shift": 3}[scheme]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(power, abs=0.15)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_forces_by_the_chain_rule(scheme):
    """Energy of what is shown among other charges, by central differences of the sites."""
    rng = np.random.default_rng(3)
    found, others, q = given(scheme), 5 * rng.normal(size=(4, 3)), rng.normal(size=4)

    def energy(x):
        sites = np.vstack([x, found.points(x), others])
        return coulomb_energy(sites, np.concatenate([found.charges, found.added, q]))

    value, on_all = energy(POSITIONS)
    n = len(POSITIONS)
    forces = on_all[:n] + found.forces(on_all[n : n + len(found.added)])
    assert np.isfinite(value)
    h = 1e-4
    for i, a in ((0, 0), (2, 1), (4, 2), (5, 0)):
        step = np.zeros_like(POSITIONS)
        step[i, a] = h
        numerical = (energy(POSITIONS - step)[0] - energy(POSITIONS + step)[0]) / (2 * h)
        assert forces[i, a] == pytest.approx(numerical, rel=1e-6, abs=1e-6)


def test_what_cannot_be():
    with pytest.raises(ValueError, match="`scheme` must be one of"):
        given("rdc")
    with pytest.raises(ValueError, match="must start at boundary sites"):
        redistributed(CHARGES, [0], [(1, 2)], "rc")
    with pytest.raises(ValueError, match="nowhere to go"):
        redistributed(CHARGES, [0, 4], [(0, 4), (4, 0), (4, 2)], "rc")
    assert redistributed(CHARGES, [0, 4], [(0, 4)], "delete").total == pytest.approx(CHARGES.sum() - 2.1)
    uncharged = redistributed([0.0, 1.0], [0], [], "rcd")
    assert uncharged.total == 1.0
