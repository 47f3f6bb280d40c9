"""Charges of the sites of a crystal: where they come from, and what they must sum to."""

from __future__ import annotations

from collections import Counter

import numpy as np
from ase.data import atomic_numbers

from solidqmmm.system.crystal import Crystal
from solidqmmm.system.potential import Potential

NET_CHARGE_TOLERANCE = 1e-6  # e


def site_charges(crystal: Crystal, potential: Potential) -> np.ndarray:
    """Charge of every atom in e, shape=(n,): its own from the crystal's array `charges`, else that of its species.

    Oxidation states that a structure carries are not taken for charges. Potentials without charges give zeros.

    Raises:
        ValueError: If the potential has a Coulomb part and an atom has no charge.
    """
    if potential.atom_style != "charge":
        return np.zeros(len(crystal))
    own = crystal.arrays.get("charges")
    charges = np.full(len(crystal), np.nan) if own is None else np.array(own, dtype=float)
    if potential.charges:
        of_species = np.full(crystal.numbers.max() + 1, np.nan)
        for symbol, charge in zip(potential.species, potential.charges, strict=True):
            if atomic_numbers[symbol] < len(of_species):
                of_species[atomic_numbers[symbol]] = charge
        charges = np.where(np.isnan(charges), of_species[crystal.numbers], charges)
    missing = np.isnan(charges)
    if missing.any() and potential.has_coulomb:
        symbols = list(dict.fromkeys(crystal.symbols[i] for i in np.flatnonzero(missing)))
        raise ValueError(
            f"pair_style {potential.pair_style} has a Coulomb part, but there are no charges for {', '.join(symbols)}: set "
            f"{_example(crystal)}, in e"
        )
    return np.where(missing, 0.0, charges)


def _example(crystal: Crystal) -> str:
    """How charges are set, with the oxidation states of this structure or common ones."""
    from pymatgen.core import Element

    words = []
    for symbol in crystal.species:
        known = crystal.arrays.get("oxidation_state")
        states = Element(symbol).common_oxidation_states or (0,)
        state = states[0] if known is None else np.mean(known[crystal.numbers == atomic_numbers[symbol]])
        words.append(f"{symbol}: {state:g}")
    return f"`host: {{charges: {{{', '.join(words)}}}}}`"


def require_net_charge(crystal: Crystal, charges, *allowed: float):
    """Nothing, if the charges of a crystal's sites (e, shape=(n,)) sum to one of the `allowed` net charges, to 1e-6 e.

    Raises:
        ValueError: If they do not.
    """
    total = float(np.sum(charges))
    if any(abs(total - stated) <= NET_CHARGE_TOLERANCE for stated in allowed):
        return
    stated = " or ".join(f"{value:+g}" if value else "0" for value in dict.fromkeys(allowed))
    raise ValueError(
        f"the charges of {formula(crystal)} sum to {total:+g} e, stated {stated}: a periodic crystal should be neutral; "
        "look at `charges`. If the crystal is charged on purpose (a charged defect), state it as "
        f"`host: {{net_charge: {total:g}}}`: a uniform background then neutralizes the Ewald sum"
    )


def formula(crystal: Crystal) -> str:
    """Symbols and numbers of atoms, such as Mg32O31."""
    count = Counter(crystal.symbols)
    return "".join(f"{symbol}{count[symbol] if count[symbol] > 1 else ''}" for symbol in crystal.species)
