"""Vibrational entropy and free energy of forming a defect: its crystal against the perfect one, vibration by vibration.

Both crystals have the same isotopes: those of whole elements, and those on named sites of atoms that are in both. So
isotopes count only where the defect adds or takes an atom, and an isotope is never mistaken for a defect.
"""

from __future__ import annotations

import numpy as np
from ase.data import atomic_numbers
from ase.units import kB
from scipy import linalg

from solidqmmm.errors import SolidQMMMError
from solidqmmm.physics.condensation import PartitionedCrystal, all_squared_frequencies
from solidqmmm.physics.vibrations.harmonic_free_energy import (
    entropy,
    formation_difference,
    free_energy,
    vibrations,
)
from solidqmmm.physics.vibrations.localized_modes import frequencies_THz
from solidqmmm.procedures.relax import settle
from solidqmmm.procedures.vibrations.host_hessian import host_hessian
from solidqmmm.procedures.vibrations.isotopes import Isotopes

_FMAX = 1e-5  # eV/angstrom
_LARGEST_DENSE = 6000  # degrees of freedom: a dense diagonalization takes minutes beyond


def vibrational_formation(
    model, crystal: PartitionedCrystal, isotopes: Isotopes, temperatures, *, stable: bool
):
    """Formation entropy in k, shape=(t,), and free energy in eV, shape=(t,), or None, None and why there are none.

    Args:
        model: A `procedures.build.Model`.
        crystal: Force constants and masses with the defect.
        isotopes: Masses, with sites as indices.
        temperatures: In K.
        stable: Whether the crystal is at a minimum.

    Raises:
        SolidQMMMError: If a spectrum has no free energy.
    """
    if len(temperatures) == 0:
        return None, None, "no temperatures were asked for"
    if model.defect is None:
        return None, None, "nothing is formed: the crystal has no defect"
    if not stable:
        return None, None, "the crystal has imaginary frequencies"
    if model.engine is not None:
        return None, None, "the perfect crystal was not computed with the quantum engine"
    if crystal.K.shape[0] > _LARGEST_DENSE:
        return None, None, f"more than {_LARGEST_DENSE} degrees of freedom: take a smaller supercell"
    try:
        defective = vibrations(frequencies_THz(all_squared_frequencies(crystal)))
        perfect = vibrations(perfect_frequencies(model, isotopes))
    except (ValueError, linalg.LinAlgError) as problem:
        raise SolidQMMMError(f"no harmonic free energy: {problem}") from problem
    T = np.asarray(temperatures, dtype=float)
    return (
        formation_difference(entropy, defective, perfect, T) / kB,
        formation_difference(free_energy, defective, perfect, T),
        None,
    )


def perfect_frequencies(model, isotopes: Isotopes) -> np.ndarray:
    """All frequencies in THz of the perfect supercell with the isotopes of those of its atoms that stay, shape=(3 n,).

    By the displacements that the crystal with the defect has had: what a tabulated potential's noise does to hundreds of
    frequencies is then the same in both.
    """
    with model.open_perfect() as qmmm:
        settle(qmmm, fmax=_FMAX)
        K = host_hessian(qmmm.host).matrix
    return frequencies_THz(all_squared_frequencies(PartitionedCrystal(K, perfect_masses(model, isotopes), [0])))


def perfect_masses(model, isotopes: Isotopes) -> np.ndarray:
    """Masses in amu of the perfect supercell, shape=(n,).

    Those of named sites count where the same atom is there without the defect.
    """
    numbers = model.perfect.numbers
    masses = Isotopes(isotopes.everywhere).masses(numbers)
    for group in isotopes.named:
        sites = np.array(group.sites, dtype=int)
        sites = sites if model.defect is None else model.defect.to_perfect(sites)
        sites = sites[(sites >= 0) & (sites < len(numbers))]  # an interstitial atom has none
        masses[sites[numbers[sites] == atomic_numbers[group.element]]] = group.mass
    return masses
