"""Ewald sums of crystals that are not neutral, in LAMMPS.

LAMMPS neutralizes a net charge Q by a uniform background, whose energy

    E_bg = -pi k Q^2 / (2 g^2 V)

depends on how the sum is split (g, LAMMPS's `gewald`) and keeps the total independent of it. The virial lacks its derivative
by a strain, -E_bg times the identity; to add it g must be known, and so it is chosen here.
"""

from __future__ import annotations

import ctypes

import numpy as np

from solidqmmm.errors import EngineError


def choose_splitting(session, charges, *, always: bool = False) -> float | None:
    """Sets `kspace_modify gewald` where the crystal has a net charge, or none at all (LAMMPS cannot choose there).

    g = sqrt(-ln eps) / r_c, with the relative accuracy eps of the kspace_style and the real-space cutoff r_c.

    Args:
        session: LAMMPS with its potential.
        charges: Of all particles in e, shape=(n,).
        always: Also where LAMMPS could choose.

    Returns:
        g in 1/angstrom; None where LAMMPS chooses, or without an Ewald sum.
    """
    lines = [line.split() for line in session.potential.commands]
    solvers = [words for words in lines if words[:1] == ["kspace_style"]]
    if not solvers or not solvers[-1][1].startswith(("ewald", "pppm")):
        return None
    for words in lines:
        if words[:1] == ["kspace_modify"] and "gewald" in words:
            return float(words[words.index("gewald") + 1])
    if not always and np.abs(charges).max(initial=0.0) > 0 and abs(np.sum(charges)) < 1e-9:
        return None
    g = float(np.sqrt(-np.log(float(solvers[-1][2]))) / _real_space_cutoff(session))
    session.command(f"kspace_modify gewald {g:.16g}")
    return g


def _real_space_cutoff(session) -> float:
    """In angstrom. The wrapper of the lammps module mistakes its shape in hybrid styles."""
    extract = session.lmp.lib.lammps_extract_pair
    extract.restype = ctypes.POINTER(ctypes.c_double)
    found = extract(session.lmp.lmp, b"cut_coul")
    if not found:
        raise EngineError(f"pair_style {session.potential.pair_style} has no Coulomb cutoff for a kspace_style")
    return float(found[0])


def background_energy(session, net_charge: float, splitting: float) -> float:
    """E_bg in eV at the present volume."""
    k = session.lmp.extract_global("qqrd2e") * session.scale["energy"]
    volume = abs(np.linalg.det(session.cell()))
    return float(-np.pi * k * net_charge**2 / (2 * splitting**2 * volume))
