"""Ionic crystals for the tests, and Coulomb energies summed another way than LAMMPS sums them."""

from __future__ import annotations

from itertools import product

import numpy as np
from ase.build import bulk
from scipy.special import erfc

from solidqmmm.system.crystal import Crystal
from solidqmmm.system.potential import Potential

COULOMB = 14.399645  # eV angstrom, LAMMPS's own in metal units
MGO_A, MGO_RHO = 1428.5, 0.2945
OO_A, OO_RHO, OO_C = 22764.3, 0.149, 27.88

# Lewis and Catlow's MgO: its lattice parameter with shells at rest (angstrom), and the model without shells.
LATTICE = 4.198347
RIGID = {
    "pair_style": "buck/coul/long 8.0",
    "pair_coeff": ["* * 0 1 0", "1 2 821.6 0.3242 0.0", "2 2 22764.0 0.149 27.88"],
    "species": ["Mg", "O"],
    "charges": {"Mg": 2, "O": -2},
    "commands": ["kspace_style ewald 1e-7"],
}


def buckingham(r, a, rho, c=0.0):
    return a * np.exp(-r / rho) - c / r**6


def magnesia(repeats=2, amplitude=0.05, seed=1) -> Crystal:
    """Rocksalt MgO, every atom displaced at random."""
    crystal = Crystal.of(bulk("MgO", "rocksalt", a=4.212, cubic=True) * ((repeats,) * 3))
    noise = np.random.default_rng(seed).normal(0.0, amplitude, crystal.positions.shape)
    return crystal.with_positions(crystal.positions + noise)


def rigid_ions(
    style="buck/coul/long 10.0",
    commands=("kspace_style ewald 1e-8", "pair_modify table 0"),
    dispersion=OO_C,
    **more,
):
    """Formal charges and Buckingham terms; without dispersion none of these ends at the cutoff with a step."""
    lines = (
        "* * 0.0 1.0 0.0",
        f"1 2 {MGO_A} {MGO_RHO} 0.0",
        f"2 2 {OO_A} {OO_RHO} {dispersion}",
    )
    return Potential(style, lines, ("Mg", "O"), commands=commands, **{"charges": (2, -2)} | more)


def coulomb_matrix(positions, cell, splitting=0.35) -> np.ndarray:
    """M with E = 1/2 q.M.q in eV for point charges in a periodic cell and a neutralizing background, shape=(n, n).

    Sums of Ewald (1921) in real space and over reciprocal lattice vectors, both far beyond what is needed.
    """
    reach = 5.5 / splitting
    volume = abs(np.linalg.det(cell))
    separation = positions[:, None] - positions[None]
    matrix = np.full((len(positions),) * 2, -np.pi / splitting**2 / volume)
    matrix -= np.eye(len(positions)) * 2 * splitting / np.sqrt(np.pi)
    images = range(-int(reach / _width(cell)) - 2, int(reach / _width(cell)) + 3)
    for shift in product(images, repeat=3):
        r = np.linalg.norm(separation + np.array(shift) @ cell, axis=-1)
        near = (r > 1e-9) & (r < reach + 5.0)
        matrix[near] += erfc(splitting * r[near]) / r[near]
    reciprocal = 2 * np.pi * np.linalg.inv(cell).T
    largest = 2 * splitting * 5.5
    waves = range(-int(largest / _width(reciprocal)) - 1, int(largest / _width(reciprocal)) + 2)
    for wave in product(waves, repeat=3):
        k = np.array(wave) @ reciprocal
        kk = k @ k
        if 0 < kk < largest**2:
            phase = np.exp(1j * positions @ k)
            matrix += 4 * np.pi / volume / kk * np.exp(-kk / 4 / splitting**2) * (phase[:, None] * phase.conj()).real
    return COULOMB * matrix


def _width(cell):
    return (1 / np.linalg.norm(np.linalg.inv(cell), axis=0)).min()


def numerical_forces(energy, positions, atoms, step=1e-3) -> np.ndarray:
    """-dE/dx of some atoms by central differences of `energy(positions)`, shape=(len(atoms), 3)."""
    forces = np.empty((len(atoms), 3))
    for row, (atom, axis) in enumerate(product(atoms, range(3))):
        values = []
        for sign in (1, -1):
            moved = positions.copy()
            moved[atom, axis] += sign * step
            values.append(energy(moved))
        forces.flat[row] = -(values[0] - values[1]) / (2 * step)
    return forces


def polarizable(cutoff=10.0, solver="ewald 1e-7", dispersion=OO_C, spring=74.92, quartic=0.0, **more):
    """`rigid_ions` with shells on oxygen."""
    lines = (
        "* * 0.0 1.0 0.0",
        f"Mg O_shell {MGO_A} {MGO_RHO} 0.0",
        f"O_shell O_shell {OO_A} {OO_RHO} {dispersion}",
    )
    shells = {"O": {"charge": -2.848, "spring": spring, "quartic": quartic}}
    return Potential(
        f"buck/coul/long/cs {cutoff}",
        lines,
        ("Mg", "O"),
        charges=(2, -2),
        **{"shells": shells, "commands": (f"kspace_style {solver}",)} | more,
    )
