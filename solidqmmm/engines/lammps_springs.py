"""The spring between core and shell as a bond table of LAMMPS, with the Coulomb term that an Ewald sum needs between them.

The sum over reciprocal vectors holds the interaction of a shell with its own core, k q Q erf(g d)/d. LAMMPS's pair styles
for core-shell models take it out by a fit of erfc whose energy and force differ by 5e-4 eV/angstrom at small d; the table is
exact.
"""

from __future__ import annotations

import numpy as np
from scipy.special import erf

from solidqmmm.system.shell import Shell

_END, LINES = 1.5, 3001


def spring_table(shell: Shell, product: float, splitting: float | None, unit: float) -> str:
    """A section of a bond table, named as the shell's type: the spring minus k q Q erf(g d)/d.

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
        more = _exact(d, product, splitting)
        energy, force = energy + more[0], force + more[1]
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
