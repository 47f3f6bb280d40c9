"""Units, participation, kinds of modes and harmonic free energies."""

import numpy as np
import pytest
from scipy import constants
from spring_crystals import ring

from solidqmmm.physics.condensation import PartitionedCrystal, all_squared_frequencies
from solidqmmm.physics.vibrations.harmonic_free_energy import (
    entropy,
    formation_difference,
    free_energy,
    vibrational_energy,
    vibrations,
)
from solidqmmm.physics.vibrations.localized_modes import (
    CM1_PER_THZ,
    MEV_PER_THZ,
    Modes,
    frequencies_THz,
    joined_bands,
    kinds_of,
    participation_ratios,
    squared_frequencies,
)

K_EV = constants.k / constants.e


def test_units_against_another_table_of_constants():
    omega = np.sqrt(constants.e / (constants.atomic_mass * 1e-20))
    assert frequencies_THz(1.0) == pytest.approx(omega / (2 * np.pi * 1e12), rel=1e-7)
    assert pytest.approx(1e12 / (100 * constants.c)) == CM1_PER_THZ
    assert pytest.approx(1e15 * constants.h / constants.e, rel=1e-7) == MEV_PER_THZ


def test_imaginary_frequencies_are_negative_and_come_back():
    squared = np.array([-4.0, -1e-3, 0.0, 2.5])
    nu = frequencies_THz(squared)
    assert np.array_equal(np.sign(nu), np.sign(squared))
    np.testing.assert_allclose(squared_frequencies(nu), squared)


def test_modes_are_sorted_normalized_and_read_only():
    masses = np.array([1.0, 4.0])
    u = np.array([[[1.0, 0, 0], [0, 0, 0]], [[1.0, 0, 0], [1.0, 0, 0]]])
    modes = Modes(np.array([-1.0, 3.0]), u, masses)
    np.testing.assert_allclose(modes.squared, [3.0, -1.0])
    np.testing.assert_allclose(np.sum(modes.eigenvectors**2, axis=(1, 2)), 1)
    np.testing.assert_allclose(modes.weights([0]), [0.2, 1.0])
    np.testing.assert_allclose(modes.participation_ratios, [1 / (2 * (0.04 + 0.64)), 0.5])
    with pytest.raises(ValueError, match="read-only"):
        modes.squared[0] = 1.0


@pytest.mark.parametrize("n", [1, 7, 50])
def test_participation_of_one_atom_of_all_and_of_a_wave(n):
    one, everyone = np.zeros((1, n, 3)), np.ones((1, n, 3))
    one[0, n // 2, 1] = 2.0
    assert participation_ratios(one)[0] == pytest.approx(1 / n)
    assert participation_ratios(everyone)[0] == pytest.approx(1)
    wave = np.zeros((1, 60, 1))
    wave[0, :, 0] = np.cos(2 * np.pi * np.arange(60) / 12)
    assert participation_ratios(wave)[0] == pytest.approx(2 / 3)  # (mean cos^2)^2 / mean cos^4


def test_kinds():
    bands = [[10.0, 12.0], [0.0, 6.0]]
    assert kinds_of([13.0, 11.0, 8.0, 6.0, 3.0, 0.0, -2.0], bands) == [
        *("local", "band", "gap", "band", "band", "band", "local")
    ]
    assert kinds_of([12.01, 6.5], bands, tolerance=0.1) == ["band", "gap"]
    for wrong in ([], [[2.0, 1.0]], [[0.0, np.nan]]):
        with pytest.raises(ValueError, match="a lower and an upper edge"):
            kinds_of([1.0], wrong)


def test_bands_of_the_diatomic_chain():
    q = np.linspace(-np.pi, np.pi, 401)
    root = np.sqrt((1 + 1 / 3) ** 2 - 4 / 3 * np.sin(q / 2) ** 2)
    branches = np.sqrt(np.stack([4 / 3 - root, 4 / 3 + root], axis=1).clip(0))
    np.testing.assert_allclose(
        joined_bands(branches, smallest_gap=0.05),
        [[0, np.sqrt(2 / 3)], [np.sqrt(2), np.sqrt(8 / 3)]],
        atol=1e-3,
    )
    assert len(joined_bands(branches, smallest_gap=0.7)) == 1


def test_free_energy_limits_and_derivative():
    nu = np.array([1.0, 5.0, 16.0])
    energy = constants.h * 1e12 / constants.e * nu
    assert free_energy(nu, 0.0) == pytest.approx(energy.sum() / 2, rel=1e-7)
    assert entropy(nu, 0.0) == pytest.approx(0, abs=1e-15)
    hot = 1e6
    classical = K_EV * hot * np.sum(np.log(energy / (K_EV * hot)))
    assert free_energy(nu, hot) == pytest.approx(classical, rel=1e-6)  # constants of 2014 and 2018
    assert vibrational_energy(nu, hot) == pytest.approx(3 * K_EV * hot, rel=1e-6)
    T, h = np.array([40.0, 300.0, 1000.0]), 1e-3
    slope = (free_energy(nu, T + h) - free_energy(nu, T - h)) / (2 * h)
    np.testing.assert_allclose(entropy(nu, T), -slope, rtol=1e-6)


def test_one_oscillator_by_its_levels():
    """The sum over states of an oscillator of 10 THz at 300 K."""
    levels = constants.h * 1e13 / constants.e * (np.arange(400) + 0.5)
    kT = K_EV * 300
    Z = np.exp(-levels / kT).sum()
    p = np.exp(-levels / kT) / Z
    assert free_energy([10.0], 300.0) == pytest.approx(-kT * np.log(Z), rel=1e-6)
    assert entropy([10.0], 300.0) == pytest.approx(-K_EV * np.sum(p * np.log(p.clip(1e-300))), rel=1e-6)
    assert vibrational_energy([10.0], 300.0) == pytest.approx(p @ levels, rel=1e-6)


def test_formation_entropy_of_an_isotope_is_classical_when_hot():
    """At high temperature an isotope changes S by k/2 ln(m'/m) for every direction: forces do not matter.

    The chain is held at one end, so that there are no translations; det(M^-1 K) changes by m/m' only.
    """
    held, masses = ring(60)[1:, 1:], np.full(59, 28.0)
    perfect = frequencies_THz(all_squared_frequencies(PartitionedCrystal(held, masses, [0])))
    masses[20] = 12.0
    defect = frequencies_THz(all_squared_frequencies(PartitionedCrystal(held, masses, [0])))
    change = formation_difference(entropy, defect, perfect, 1e5)
    assert change == pytest.approx(K_EV / 2 * np.log(12 / 28), rel=1e-5)
    cold = formation_difference(free_energy, defect, perfect, 0.0)
    assert cold == pytest.approx(
        constants.h * 1e12 / constants.e * (defect.sum() - perfect.sum()) / 2, rel=1e-6
    )


def test_formation_difference_counts_vibrations():
    """Half the crystal is no defect: half of its vibrations have half of its entropy."""
    nu = np.array([1.0, 2.0, 1.0, 2.0])
    assert formation_difference(entropy, nu[:2], nu, 300.0) == pytest.approx(0, abs=1e-18)


def test_translations_are_taken_out_and_instabilities_refused():
    nu = np.array([5.0, 1e-3, -2e-3, 0.0, 3.0])
    np.testing.assert_allclose(vibrations(nu), [3.0, 5.0])
    with pytest.raises(ValueError, match="acoustic"):
        vibrations(np.array([1.0, 2.0, 3.0, 4.0]))
    with pytest.raises(ValueError, match="but 1 of 2 are imaginary or zero, the lowest -4"):
        vibrations(np.array([0.0, 0.0, 0.0, -4.0, 3.0]))
    with pytest.raises(ValueError, match="must be positive"):
        free_energy([0.0, 1.0], 300.0)
    with pytest.raises(ValueError, match="must not be negative"):
        entropy([1.0], -1.0)
