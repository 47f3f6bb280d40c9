"""Free energy, entropy and energy of harmonic vibrations, quantum mechanically, and what a defect changes in them.

With x = h nu / k T, per mode

    F = h nu / 2 + k T ln(1 - e^-x),     S = k [x / (e^x - 1) - ln(1 - e^-x)],     U = F + T S.

Translations have no vibration, and a crystal with an imaginary frequency has no harmonic free energy.
"""

from __future__ import annotations

import numpy as np
from ase import units

from solidqmmm.physics.vibrations.localized_modes import MEV_PER_THZ


def vibrations(frequencies_THz, *, translations: int = 3, largest_translation: float = 0.05) -> np.ndarray:
    """Frequencies without those of the translations, ascending, in THz.

    Args:
        frequencies_THz: All modes of a crystal, imaginary ones negative, shape=(n,).
        translations: How many modes are rigid translations: 3 in a periodic cell, 0 where atoms are held.
        largest_translation: A translation of a larger frequency, in THz, says that the force constants break the acoustic
            sum rule.

    Raises:
        ValueError: If a translation is not at zero, or another mode is imaginary or zero.
    """
    nu = np.asarray(frequencies_THz, dtype=float)
    order = np.argsort(np.abs(nu))
    rigid, rest = nu[order[:translations]], np.sort(nu[order[translations:]])
    if np.any(np.abs(rigid) > largest_translation):
        raise ValueError(
            f"the {translations} translations must lie at zero, but have {np.round(rigid, 4).tolist()} THz; impose the "
            "acoustic sum rule, or say `translations=0` where atoms are held"
        )
    if len(rest) and rest[0] <= 0:
        bad = rest[rest <= 0]
        raise ValueError(
            f"a harmonic free energy needs real frequencies, but {len(bad)} of {len(rest)} are imaginary or zero, the "
            f"lowest {bad[0]:.4f} THz; relax the structure along that mode first"
        )
    return rest


def free_energy(frequencies_THz, temperature) -> np.ndarray:
    """F in eV, the zero-point energy included; the shape is that of `temperature` in K, which may be zero."""
    energy, kT = _energies(frequencies_THz, temperature)
    # k T ln(1 - e^-x) vanishes with T.
    thermal = kT * np.log(-np.expm1(-_ratio(energy, kT)))
    return np.sum(energy / 2 + np.where(kT > 0, thermal, 0.0), axis=-1)


def entropy(frequencies_THz, temperature) -> np.ndarray:
    """S in eV/K; the shape is that of `temperature` in K, which may be zero."""
    x = _ratio(*_energies(frequencies_THz, temperature))
    return units.kB * np.sum(x / np.expm1(x) - np.log(-np.expm1(-x)), axis=-1)


def vibrational_energy(frequencies_THz, temperature) -> np.ndarray:
    """U = F + T S in eV; arguments and shape as in `free_energy`."""
    T = np.asarray(temperature, dtype=float)
    return free_energy(frequencies_THz, T) + T * entropy(frequencies_THz, T)


def formation_difference(quantity, defect_THz, perfect_THz, temperature) -> np.ndarray:
    """X_defect - (n_defect / n_perfect) X_perfect, n the number of vibrations of each crystal.

    This is the vibrational part of a formation energy or entropy. Atoms that were added or removed are counted with the
    average vibration of the perfect crystal, which is the reservoir of an element in its own crystal; another reservoir
    (the crystal of an impurity) is the caller's to add.

    Args:
        quantity: `free_energy`, `entropy` or `vibrational_energy`.
        defect_THz: Vibrations of the crystal with the defect, without translations.
        perfect_THz: Vibrations of the perfect crystal, without translations.
        temperature: In K, a number or an array of any shape.

    Returns:
        In the unit of the quantity, in the shape of `temperature`.
    """
    share = len(defect_THz) / len(perfect_THz)
    return quantity(defect_THz, temperature) - share * quantity(perfect_THz, temperature)


def _energies(frequencies_THz, temperature):
    """h nu and k T in eV, ready to be combined, shapes=(n,) and (..., 1)."""
    nu, T = np.asarray(frequencies_THz, dtype=float), np.asarray(temperature, dtype=float)
    if np.any(nu <= 0):
        raise ValueError(f"frequencies must be positive (THz), the lowest is {nu.min():g}; see `vibrations`")
    if np.any(T < 0):
        raise ValueError(f"temperatures must not be negative (K), the lowest is {T.min():g}")
    return nu * MEV_PER_THZ / 1000, units.kB * T[..., None]


def _ratio(energy, kT):
    """x = h nu / k T, at most 700, where e^-x is zero for every purpose and e^x still a number."""
    return np.minimum(energy / np.maximum(kT, 1e-300), 700.0)
