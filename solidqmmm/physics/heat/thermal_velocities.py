"""Velocities at a temperature, the same on any number of MPI ranks."""

from __future__ import annotations

import numpy as np
from ase.units import _amu, _e, kB

AMU_A2_PER_PS2 = _amu * 1e4 / _e  # in eV: what masses times squared velocities are


def thermal_velocities(masses, temperature_K: float, seed: int, mobile=None) -> np.ndarray:
    """Velocities of a Maxwell-Boltzmann distribution without total momentum, scaled to exactly `temperature_K`.

    Args:
        masses: Masses in amu, shape=(n,).
        temperature_K: Temperature in K; 3 n degrees of freedom, less 3 where every atom is mobile.
        seed: Seed of the random numbers, which are the same on all ranks.
        mobile: Mask of atoms that move, shape=(n,); all by default. The others get none.

    Returns:
        Velocities in angstrom/ps, shape=(n, 3).
    """
    masses = np.asarray(masses, dtype=float)[:, None]
    mobile = np.ones(len(masses), dtype=bool) if mobile is None else np.asarray(mobile, dtype=bool)
    v = np.random.default_rng(seed).normal(size=(len(masses), 3)) / np.sqrt(masses)
    v[~mobile] = 0.0
    if mobile.sum() > 1:
        v[mobile] -= (masses * v).sum(axis=0) / masses[mobile].sum()
    freedoms = 3 * mobile.sum() - 3 * mobile.all()
    kinetic = 0.5 * AMU_A2_PER_PS2 * (masses * v**2).sum()
    return v * np.sqrt(0.5 * freedoms * kB * temperature_K / kinetic) if kinetic > 0 else v
