"""Resonances: where inside the bands an atom vibrates much more than those of the perfect crystal do.

A mode that lies in a band decays into it; what is left is a peak of the local density of states. It counts as a resonance if
it is more than twice as high as the perfect crystal's density at its place, and stands out from the density on both sides
by half its height: the van Hove singularities of the bulk, which every atom shares, do neither.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import find_peaks, peak_widths

from solidqmmm.physics.vibrations.localized_modes import kinds_of

_TIMES = 2.0  # the density of the perfect crystal
_STANDS_OUT = 0.5  # by this share of its height


@dataclass(frozen=True)
class Resonance:
    """A peak of a local density of states inside the bands.

    Attributes:
        frequency_THz: Its place.
        width_THz: Full width at half of its prominence, the broadening of the density included.
        enhancement: Its height, in units of the perfect crystal's density there.
    """

    frequency_THz: float
    width_THz: float
    enhancement: float


def resonances(frequencies, density, perfect, bands) -> tuple[Resonance, ...]:
    """The resonances of a local density of states, ascending.

    Args:
        frequencies: A uniform grid in THz, shape=(m,).
        density: Local density of states in 1/THz, shape=(m,).
        perfect: That of the perfect crystal, shape=(m,).
        bands: Lower and upper edge of each band in THz, shape=(b, 2).
    """
    nu, density = np.asarray(frequencies, dtype=float), np.asarray(density, dtype=float)
    peaks, _ = find_peaks(density, height=_TIMES * np.asarray(perfect), prominence=_STANDS_OUT * density)
    widths = peak_widths(density, peaks)[0] * (nu[1] - nu[0])
    return tuple(
        Resonance(float(nu[peak]), float(width), float(density[peak] / perfect[peak]))
        for peak, width, kind in zip(peaks, widths, kinds_of(nu[peaks], bands))
        if kind == "band"
    )
