"""How far an isotope moves a mode: the same mode with and without it."""

from __future__ import annotations

import numpy as np

from solidqmmm.physics.condensation import PartitionedCrystal
from solidqmmm.physics.symmetry.irreps import degenerate_sets
from solidqmmm.physics.vibrations.localized_modes import CM1_PER_THZ, Modes
from solidqmmm.procedures.vibrations.bulk_lattice import bands_with_masses
from solidqmmm.procedures.vibrations.bulk_phonons import BulkPhonons
from solidqmmm.procedures.vibrations.defect_modes import modes_outside
from solidqmmm.procedures.vibrations.isotopes import Isotopes
from solidqmmm.procedures.vibrations.mode_list import DEGENERATE_THz

_SAME = 0.5  # of a mode's norm that must be in the other crystal's modes to speak of one mode


def isotope_shifts(
    crystal: PartitionedCrystal, bulk: BulkPhonons, numbers, isotopes: Isotopes, modes: Modes
) -> dict[str, float]:
    """Shift in 1/cm by each isotope of the mode outside the bands that has most weight on its atoms, by label.

    Against the element's natural mass; isotopes on named sites against the mass that the element has elsewhere. The same
    mode without the isotope is the one that overlaps it most. Where there is none outside the bands there is no shift.

    Args:
        crystal: With the isotopes.
        bulk: Phonons of the perfect host with those of whole elements.
        numbers: Atomic numbers, shape=(n,).
        isotopes: Masses, with sites as indices.
        modes: Those outside the bands.
    """
    shifts = {}
    for label, atoms, others in isotopes.one_by_one(numbers):
        if not len(modes):
            continue
        mode = int(modes.weights(atoms).argmax())
        same = next(s for s in degenerate_sets(modes.frequencies_THz, DEGENERATE_THz) if mode in s)
        bands = bands_with_masses(bulk, others.of_elements(set(bulk.phonopy.primitive.symbols)))
        without = PartitionedCrystal(crystal.K, others.masses(numbers), crystal.core, crystal.positions)
        before = modes_outside("full", without, bands)
        overlaps = np.einsum("kia,lia->kl", before.eigenvectors, modes.eigenvectors[same]) ** 2
        if overlaps.sum() < _SAME * len(same):
            continue
        nu = before.frequencies_THz[overlaps.sum(axis=1).argmax()]
        shifts[label] = float((modes.frequencies_THz[mode] - nu) * CM1_PER_THZ)
    return shifts
