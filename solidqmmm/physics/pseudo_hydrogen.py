"""Fractional pseudo-hydrogens: the nuclear charge that completes a cut bond.

In a crystal where an atom with v valence electrons forms n bonds of two electrons each, it brings v/n electrons to a bond,
and its missing partner brought the rest:

    Z = 2 - v/n

(silicon 1, gallium in GaAs 1.25, arsenic 0.75). Source: X. Huang, E. Lindgren and J. R. Chelikowsky, Phys. Rev. B 71, 165328
(2005).
"""

from __future__ import annotations

import numpy as np


def cap_charge(valence_electrons, bonds):
    """Nuclear charge of the pseudo-hydrogen on an atom.

    Args:
        valence_electrons: Number of valence electrons of the quantum atom X, scalar or shape=(n,).
        bonds: Number of bonds of X in the crystal, same shape.

    Returns:
        Nuclear charges in e, same shape.

    Raises:
        ValueError: Where the charge would not lie between 0 and 2.
    """
    charge = 2.0 - np.asarray(valence_electrons, dtype=float) / np.asarray(bonds, dtype=float)
    if np.any(charge <= 0) or np.any(charge >= 2):
        raise ValueError(
            f"a pseudo-hydrogen needs a nuclear charge between 0 and 2, got {np.min(charge):.3f} to {np.max(charge):.3f}: "
            f"{np.asarray(valence_electrons).tolist()} valence electrons over {np.asarray(bonds).tolist()} bonds"
        )
    return charge
