"""The spring between core and shell as a bond table of LAMMPS, which also mends its pair styles at short distance.

LAMMPS's pair styles `.../coul/long/cs` take the Coulomb energy of a shell with its own core out of the Ewald sum again,
-k q Q erf(g d)/d, by a fit of erfc whose energy and force are not quite each other's derivative (5e-4 eV/angstrom). The
table holds the exact term minus LAMMPS's, in both columns, so that minimizers find a minimum and forces are gradients.

The constants of the fit have nine digits, which leaves a stray force of 3e-9 k q Q g / d between shell and core that no
table can hold; it is known (`stray_force`). What remains is rounding (`rounding`). Neither acts on the ion as a whole.
"""

from __future__ import annotations

import numpy as np
from scipy.special import erf

from solidqmmm.system.shell import Shell

_END, LINES = 1.5, 3001
# Constants of LAMMPS's fit of erfc, its shift of d (angstrom), and what its force lacks to vanish at d = 0.
_F, _P, _SHIFT = 1.12837917, 9.95473818e-1, 1e-6
_B = (-0.1335096380159268, -2.57839507e-1, -1.37203639e-1, -8.88822059e-3, -5.80844129e-3, 1.14652755e-1)
_STRAY = _F - _P * (1 - _B[0])
_JUMP = _P**2 * (1 - 2 * _B[0] + _B[1]) - 1


def stray_force(displacements, products, splitting: float) -> np.ndarray:
    """Force on shells that only LAMMPS's constants make, eV/angstrom, shape=(m, 3).

    Args:
        displacements: From the cores in angstrom, shape=(m, 3).
        products: k q Q of shell and core in eV angstrom, shape=(m,).
        splitting: g of the Ewald sum in 1/angstrom.
    """
    d = np.linalg.norm(displacements, axis=1)
    x = splitting * np.asarray(products)
    along = x * _STRAY * d / (d**2 + _SHIFT**2)
    # The table goes on to d = 0 as LAMMPS's force does only beyond its shift.
    along += x * splitting * _JUMP * ((d + _SHIFT) * d / (d**2 + _SHIFT**2) - 1.0)
    return along[:, None] * displacements / np.maximum(d, 1e-12)[:, None]


def rounding(displacements, products) -> np.ndarray:
    """How far rounding falsifies the force between shells and their cores in eV/angstrom, shape=(m,)."""
    d = np.linalg.norm(displacements, axis=1)
    return 2e-16 * np.abs(products) * d / ((d + _SHIFT) * (d**2 + _SHIFT**2))


def spring_table(shell: Shell, product: float, splitting: float | None, unit: float) -> str:
    """A section of a bond table, named as the shell's type: the spring, and the exact Coulomb term minus LAMMPS's.

    Args:
        shell: The shell.
        product: k q Q of shell and core in eV angstrom.
        splitting: g in 1/angstrom, None without an Ewald sum.
        unit: LAMMPS's unit of energy in eV.
    """
    d = np.linspace(0.0, _END, LINES)
    energy = shell.spring * d**2 / 2 + shell.quartic * d**4 / 24
    force = -shell.spring * d - shell.quartic * d**3 / 6
    if splitting is not None:
        exact, fitted = _exact(d, product, splitting), _fitted(d, product, splitting)
        energy += exact[0] - fitted[0]
        lacking = exact[1] - fitted[1]
        lacking[0] = 2 * lacking[1] - lacking[2]  # LAMMPS's force jumps to zero within 1e-6 angstrom of the core
        force += lacking
    rows = zip(range(1, len(d) + 1), d, energy / unit, force / unit, strict=True)
    lines = [f"{i} {r:.12g} {e:.17g} {f:.17g}" for i, r, e, f in rows]
    return "\n".join([f"# shell of {shell.element}", "", shell.label, f"N {len(d)}", "", *lines, ""])


def _exact(d, product, g):
    """-k q Q erf(g d)/d, and minus its derivative; series below g d = 0.3."""
    x = g * d
    near = x < 0.3
    y = np.where(near, 1.0, x)
    # erf(x)/x = 2/sqrt(pi) sum_n (-x^2)^n / (n! (2n+1))
    powers, value, slope = np.ones_like(x), np.zeros_like(x), np.zeros_like(x)
    factorial = 1.0
    for n in range(12):
        factorial *= max(n, 1)
        value += powers / (factorial * (2 * n + 1))
        if n:
            slope += 2 * n * powers / np.where(x > 0, x, 1.0) / (factorial * (2 * n + 1))
        powers = -powers * x**2
    value, slope = 2 / np.sqrt(np.pi) * value, 2 / np.sqrt(np.pi) * np.where(x > 0, slope, 0.0)
    far_slope = 2 / np.sqrt(np.pi) * np.exp(-(y**2)) / y - erf(y) / y**2
    value, slope = np.where(near, value, erf(y) / y), np.where(near, slope, far_slope)
    return -product * g * value, product * g * g * slope


def _fitted(d, product, g):
    """The same as `.../coul/long/cs` computes it: energy, and force along the bond without the stray one.

    LAMMPS shifts d against a division by zero.
    """
    x = g * (d + _SHIFT)
    gauss, t = np.exp(-(x**2)), 1.0 / (1.0 + _P * x)
    u = 1.0 - t
    erfc = t * (1.0 + u * np.polynomial.polynomial.polyval(u, _B)) * gauss
    prefactor = product / (d + _SHIFT)
    force = prefactor * (erfc + _F * x * gauss - 1.0 - _STRAY * x) * d / (d**2 + _SHIFT**2)
    return prefactor * (erfc - 1.0), force
