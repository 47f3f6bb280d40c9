"""Mutual induction of point charges and point dipoles in empty space, damped after Thole.

    mu_i = alpha_i (sum_j q_j B_1 r + sum_j T_ij mu_j),    E_pol = -1/2 sum_i mu_i.E_i,    forces = -d(E_pol + E_Coulomb)/dx.

A site feels all others, and only itself not. The laws of damping, and what they damp, are those of `dipole_damping`;
`induced_dipoles` has the general model (crystals, external fields, exclusions).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solidqmmm.physics.polarization.dipole_damping import THOLE_A
from solidqmmm.physics.polarization.induced_dipoles import InducedDipoles, PolarizableSites


@dataclass(frozen=True, eq=False)
class Induction:
    """What `induce` finds.

    Attributes:
        energy: Of polarization alone in eV.
        dipoles: In e angstrom, shape=(n, 3).
        forces: Of the permanent charges and of polarization together in eV/angstrom, shape=(n, 3).
    """

    energy: float
    dipoles: np.ndarray
    forces: np.ndarray


def induce(
    positions, charges, polarizabilities, damping: str | None = "thole", thole_a: float = THOLE_A
) -> Induction:
    """The dipoles that point charges and each other induce on an isolated set of sites.

    Args:
        positions: In angstrom, shape=(n, 3).
        charges: In e, shape=(n,).
        polarizabilities: In angstrom^3, shape=(n,); a site of zero is a charge alone, and what it does is not damped.
        damping: "thole", exponential: l3 = 1 - exp(-a u^3) on the field of a charge, l3 and l5 = 1 - (1 + a u^3) exp(-a u^3)
            on that of a dipole, u^3 = r^3/sqrt(alpha_i alpha_j). "linear": l3 = 4 v^3 - 3 v^4 and l5 = v^4 for v = r/s < 1,
            s = 1.662 (alpha_i alpha_j)^(1/6). None: points. Charges are never damped against each other.
        thole_a: a of the exponential law.

    Raises:
        PolarizationCatastrophe: If the dipoles diverge, naming the pair of sites.
        ValueError: For arrays that do not fit or are not finite, a negative polarizability, two sites at the same place, or
            an unknown damping.
    """
    model = InducedDipoles(
        PolarizableSites(positions, charges, polarizabilities, damping=damping, thole_a=thole_a)
    )
    found = model.solve()
    return Induction(found.energy, found.dipoles, model.forces(found.dipoles)[0] + model.permanent()[1])
