"""Sum of 1/r^4 over the sites of a crystal that lie beyond a sphere.

    sum_(r>R) 1/r^4 = 2 pi^(3/2) a rho - sum_(r<=R) [1 - g(r)]/r^4 + sum_(r>R) g(r)/r^4,      g = (1 + a^2 r^2) exp(-a^2 r^2)

for each sublattice of density rho. The first term is the integral of the smooth (1 - g)/r^4 over all space, which its
lattice sum is up to exp(-G^2/4a^2), G the shortest reciprocal vector; (1 - g)/r^4 is a^4/2 at a site at the centre itself.
For a dense lattice the sum is 4 pi rho/R.

Source: B. R. A. Nijboer and F. W. de Wette, Physica 23, 309 (1957).
"""

from __future__ import annotations

import numpy as np
from ase.geometry import minkowski_reduce

_REACH = 4.8  # a r at which g has ended, 2e-9


def inverse_fourth_beyond(crystal, centre, radius: float) -> np.ndarray:
    """Sum of 1/r^4 over the images of each ion of a cell farther than `radius`, in angstrom^-4, shape=(n,).

    Args:
        crystal: An `IonicCrystal`, of n ions.
        centre: From where r counts, in angstrom, shape=(3,).
        radius: In angstrom.
    """
    reciprocal = minkowski_reduce(2 * np.pi * np.linalg.inv(crystal.cell).T)[0]
    a = np.linalg.norm(reciprocal, axis=1).min() / (2 * _REACH)
    places, which = crystal.sites_within(centre, max(radius + 1.0, _REACH / a))
    r = np.linalg.norm(places, axis=1)
    x = (a * r) ** 2
    g = (1 + x) * np.exp(-x)
    apart = x > 1e-6
    fourth = np.where(apart, r, 1.0) ** 4
    smooth = np.where(apart, (1 - g) / fourth, 0.5 * a**4)
    total = np.full(len(crystal), 2 * np.pi**1.5 * a / crystal.volume)
    np.add.at(total, which, np.where(r > radius, g / fourth, -smooth))
    return total
