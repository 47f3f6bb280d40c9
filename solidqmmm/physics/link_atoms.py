"""Link atoms on cut bonds: where they sit, and where their forces go.

A bond X-Y is cut between a quantum atom X and a host atom Y, and a cap L takes the place of Y:

    fixed length:  r_L = r_X + d u,            u = (r_Y - r_X) / |r_Y - r_X|
    fixed ratio:   r_L = r_X + g (r_Y - r_X)

L is no degree of freedom of its own, so its force belongs to X and Y by the chain rule:

    F_Y += J^T F_L,   F_X += (1 - J)^T F_L,
    fixed length:  J = dr_L/dr_Y = (d / |r_Y - r_X|) (1 - u u^T)
    fixed ratio:   J = g 1

Source: F. Maseras and K. Morokuma, J. Comput. Chem. 16, 1170 (1995); S. Dapprich et al., J. Mol. Struct. (Theochem)
461-462, 1 (1999) for the ratio.
"""

from __future__ import annotations

import numpy as np


def place(inner, outer, length, ratio) -> np.ndarray:
    """Positions of the caps.

    Args:
        inner: Positions of X in angstrom, shape=(n, 3).
        outer: Positions of Y (the image bonded to X) in angstrom, shape=(n, 3).
        length: Fixed length d in angstrom, NaN where the ratio counts, shape=(n,).
        ratio: Fixed ratio g, NaN where the length counts, shape=(n,).

    Returns:
        Positions of the caps in angstrom, shape=(n, 3).
    """
    bond = outer - inner
    distance = np.linalg.norm(bond, axis=1)
    fraction = np.where(np.isnan(length), ratio, length / distance)
    return inner + fraction[:, None] * bond


def distribute(cap_forces, inner, outer, length, ratio) -> tuple[np.ndarray, np.ndarray]:
    """Forces on the caps, handed to X and Y by the chain rule.

    Args:
        cap_forces: Forces on the caps in eV/angstrom, shape=(n, 3).
        inner, outer, length, ratio: As in `place`.

    Returns:
        Forces on X and on Y in eV/angstrom, each of shape=(n, 3); their sum is the force on the cap.
    """
    bond = outer - inner
    distance = np.linalg.norm(bond, axis=1)
    u = bond / distance[:, None]
    across = cap_forces - np.einsum("ij,ij->i", cap_forces, u)[:, None] * u
    fixed_length = ~np.isnan(length)
    on_outer = np.where(
        fixed_length[:, None], (length / distance)[:, None] * across, np.nan_to_num(ratio)[:, None] * cap_forces
    )
    return cap_forces - on_outer, on_outer
