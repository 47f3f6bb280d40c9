"""Formation energies of charged defects against the Fermi level, and the levels where the stable charge changes.

    E_f(q, E_F) = E[X^q] - E[bulk] - sum_i n_i mu_i + q (E_VBM + E_F),    eps(q1/q2) = [E_f(q1, 0) - E_f(q2, 0)]/(q2 - q1)

n_i atoms of species i are added (removed: negative), E_F counts from the valence-band maximum. Of the lines the lowest one
is stable; their lower envelope is concave, so the stable charge falls as E_F rises. Where a state is nowhere lowest between
two that are (negative U), the level between these two is the thermodynamic one.

Source: S. B. Zhang and J. E. Northrup, Phys. Rev. Lett. 67, 2339 (1991).
"""

from __future__ import annotations

import numpy as np


def formation_lines(charges, energies, fermi_levels) -> np.ndarray:
    """E_f(q, E_F) in eV, shape=(n, m).

    Args:
        charges: q of each state in e, shape=(n,).
        energies: E_f(q, 0) in eV, shape=(n,).
        fermi_levels: E_F from the valence-band maximum in eV, shape=(m,).
    """
    return np.add.outer(np.asarray(energies, dtype=float), np.zeros(np.shape(fermi_levels))) + np.outer(
        charges, fermi_levels
    )


def transition_level(charge_1: float, energy_1: float, charge_2: float, energy_2: float) -> float:
    """eps(q1/q2) in eV: the Fermi level at which two states have the same formation energy.

    Raises:
        ValueError: For two states of one charge.
    """
    if charge_1 == charge_2:
        raise ValueError(f"a transition level is between two charges, got {charge_1:+g} twice")
    return float((energy_1 - energy_2) / (charge_2 - charge_1))


def stable_states(charges, energies) -> list[tuple[int, float, float]]:
    """The states that are lowest at some Fermi level, with falling charge: index, and from which E_F to which (eV).

    The first begins at minus, the last ends at plus infinity. Of states with the same charge the lowest counts.

    Args:
        charges: q of each state in e, shape=(n,).
        energies: E_f(q, 0) in eV, shape=(n,).
    """
    charges, energies = np.asarray(charges, dtype=float), np.asarray(energies, dtype=float)
    order = sorted(range(len(charges)), key=lambda i: (-charges[i], energies[i]))
    hull: list[tuple[int, float]] = []  # index, and the level from which on it is lowest
    for i in order:
        if hull and charges[hull[-1][0]] == charges[i]:
            continue
        begin = -np.inf
        while hull:
            last, since = hull[-1]
            begin = transition_level(charges[last], energies[last], charges[i], energies[i])
            if begin > since:
                break
            hull.pop()
            begin = -np.inf
        hull.append((i, begin))
    ends = [begin for _, begin in hull[1:]] + [np.inf]
    return [(i, float(begin), float(end)) for (i, begin), end in zip(hull, ends)]
