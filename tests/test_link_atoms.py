"""Caps: where they sit, where their forces go, and the charge of fractional ones."""

from __future__ import annotations

import numpy as np
import pytest

from solidqmmm.physics.link_atoms import distribute, place
from solidqmmm.physics.pseudo_hydrogen import cap_charge

RNG = np.random.default_rng(4)
X = RNG.normal(size=(6, 3))
Y = X + RNG.normal(size=(6, 3)) + 1.0
LENGTH = np.array([1.48, 1.09, np.nan, 0.9, np.nan, 2.0])
RATIO = np.where(np.isnan(LENGTH), 0.63, np.nan)


def test_places():
    caps = place(X, Y, LENGTH, RATIO)
    bond, cap = Y - X, caps - X
    np.testing.assert_allclose(np.cross(bond, cap), 0.0, atol=1e-12)
    assert ((bond * cap).sum(axis=1) > 0).all()
    distance = np.linalg.norm(cap, axis=1)
    expected = np.where(np.isnan(LENGTH), 0.63 * np.linalg.norm(bond, axis=1), LENGTH)
    np.testing.assert_allclose(distance, expected, rtol=1e-12)


def test_forces_follow_the_chain_rule():
    """For E(r_L) = g . r_L the forces on X and Y are minus the numerical gradient of E."""
    g = RNG.normal(size=(6, 3))
    on_inner, on_outer = distribute(-g, X, Y, LENGTH, RATIO)
    h = 1e-5
    for mine, which in ((on_inner, 0), (on_outer, 1)):
        for k in range(3):
            shift = np.zeros(3)
            shift[k] = h
            moved = [(X + s * shift, Y) if which == 0 else (X, Y + s * shift) for s in (1, -1)]
            energy = [(g * place(*xy, LENGTH, RATIO)).sum(axis=1) for xy in moved]
            np.testing.assert_allclose(mine[:, k], -(energy[0] - energy[1]) / (2 * h), atol=1e-8)


def test_nothing_is_lost_on_the_way():
    F = RNG.normal(size=(6, 3))
    on_inner, on_outer = distribute(F, X, Y, LENGTH, RATIO)
    np.testing.assert_allclose(on_inner + on_outer, F, atol=1e-14)
    caps = place(X, Y, LENGTH, RATIO)
    torque = np.cross(X, on_inner) + np.cross(Y, on_outer)
    np.testing.assert_allclose(torque, np.cross(caps, F), atol=1e-12)


def test_a_cap_of_fixed_length_does_not_pull_on_its_partner():
    u = (Y - X) / np.linalg.norm(Y - X, axis=1)[:, None]
    _, on_outer = distribute(u, X, Y, np.full(6, 1.5), np.full(6, np.nan))
    np.testing.assert_allclose(on_outer, 0.0, atol=1e-14)


@pytest.mark.parametrize(
    ("valence", "bonds", "charge"), [(4, 4, 1.0), (3, 4, 1.25), (5, 4, 0.75), (2, 4, 1.5), (6, 4, 0.5), (6, 6, 1.0)]
)
def test_fractional_charges(valence, bonds, charge):
    """Si, Ga, As, Zn, Se in tetrahedral crystals; O in rocksalt."""
    assert cap_charge(valence, bonds) == pytest.approx(charge)
    # cation and anion together bring the two electrons of the bond
    assert cap_charge(valence, bonds) + cap_charge(8 - valence, 4) == pytest.approx(2.0) or bonds == 6


@pytest.mark.parametrize("valence", [0, 8, 9])
def test_impossible_fractional_charges(valence):
    with pytest.raises(ValueError, match="between 0 and 2"):
        cap_charge([4, valence], [4, 4])
