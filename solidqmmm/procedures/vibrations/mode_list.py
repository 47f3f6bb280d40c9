"""Vibrations in words: a dictionary for each mode of a result, and an animation of the first ones."""

from __future__ import annotations

import io

import ase.io
import numpy as np
from ase import Atoms

from solidqmmm.physics.condensation import PartitionedCrystal, full_modes
from solidqmmm.physics.geometry import distances_to_point, unwrapped
from solidqmmm.physics.symmetry.irreps import irreps
from solidqmmm.physics.vibrations.localized_modes import CM1_PER_THZ, Modes, kinds_of, squared_frequencies
from solidqmmm.runtime import agree_on_failure, is_root, world
from solidqmmm.system.whole_file import written_whole

#: How far outside a band a mode must lie to be sought there, relative to the band's edge.
MARGIN = 2e-4
DEGENERATE_THz = 2e-3
SOFT_THz = 0.1  # imaginary frequencies below are rounding of the translations
_FILLS_THE_CELL = 0.3  # participation ratio
_LITTLE = 0.1  # weight on the core
_LARGEST_ANIMATED = 600  # atoms
_AROUND = 7.0  # angstrom, of the centre, that is shown of larger crystals
_AMPLITUDE = 0.4  # angstrom, of the atom that moves most
_FRAMES = 20
_ANIMATED = 6  # modes


def rows_of(frequencies_THz, bands_THz, *, core_weights, participation_ratios=None, **more) -> list[dict]:
    """One dictionary for each mode (see `DefectPhononsResult.modes`), without symmetry yet.

    Args:
        frequencies_THz: Shape=(k,), imaginary ones negative.
        bands_THz: Of the perfect host, shape=(b, 2).
        core_weights: Shape=(k,).
        participation_ratios: Shape=(k,), None in an infinite crystal.
        **more: Further numbers by name, shape=(k,) each.
    """
    nu = np.asarray(frequencies_THz, dtype=float)
    if not len(nu):
        return []
    return [
        {
            "frequency_THz": float(nu[k]),
            "frequency_cm-1": float(nu[k] * CM1_PER_THZ),
            "participation_ratio": None if participation_ratios is None else float(participation_ratios[k]),
            "core_weight": float(core_weights[k]),
            "kind": kind,
            "degeneracy": 1,
            "irrep": None,
            **{name: float(values[k]) for name, values in more.items()},
        }
        for k, kind in enumerate(kinds_of(nu, bands_THz, tolerance=0.5 * MARGIN * np.max(bands_THz)))
    ]


def name_symmetries(rows: list[dict], eigenvectors, rotations, permutations):
    """Writes degeneracies and irreps into the rows; see `physics.irreps.irreps`."""
    if not rows:
        return
    nu = [row["frequency_THz"] for row in rows]
    for same in irreps(eigenvectors, nu, rotations, permutations, tolerance=DEGENERATE_THz):
        for k in same.modes:
            rows[k].update(degeneracy=len(same.modes), irrep=same.irrep)


def soft_modes(crystal: PartitionedCrystal, static: Modes) -> Modes:
    """All modes with an imaginary frequency, exactly.

    With a stable environment K has as many negative eigenvalues as the statically condensed stiffness, whose sizes are
    another matter: it leaves out the environment's inertia.
    """
    edge = -float(squared_frequencies(SOFT_THz))
    if static.squared.min(initial=0.0) > edge:
        nothing = np.zeros((0, len(crystal.masses), crystal.d))
        return Modes(np.zeros(0), nothing, crystal.masses)
    lowest = -float(np.abs(crystal.weighted()).sum(axis=1).max())
    return full_modes(crystal, 1.01 * lowest, edge)


def doubtful(rows: list[dict]) -> list[str]:
    """What to know of modes outside the bands that fill the supercell, or that live elsewhere than on the core."""
    outside = [row for row in rows if row["kind"] != "band" and row["frequency_THz"] > 0]
    wide = [row for row in outside if (row["participation_ratio"] or 0.0) > _FILLS_THE_CELL]
    far = [row for row in outside if row["core_weight"] < _LITTLE and not any(row is other for other in wide)]
    found = []
    if wide:
        found.append(
            f"{len(wide)} of {len(outside)} modes outside the bands fill the supercell (the highest at "
            f"{wide[0]['frequency_THz']:.3f} THz, participation ratio {wide[0]['participation_ratio']:.2f}): they are the "
            "bulk's own, pushed over the edge by a finite cell, or wider than it; a larger supercell or host: infinite tells"
        )
    if far:
        found.append(
            f"{len(far)} of {len(outside)} modes outside the bands have less than {100 * _LITTLE:.0f} % of their weight on "
            f"the core (the highest at {far[0]['frequency_THz']:.3f} THz, {100 * far[0]['core_weight']:.2g} %): what makes "
            "them is elsewhere (the boundary of the quantum region, atoms at a potential's cutoff); modes.extxyz shows where"
        )
    return found


def write_animation(path, crystal, positions, cell, centre, rows: list[dict], displacements):
    """The first modes as an extended XYZ file, one after the other, 20 frames for each period.

    The array `displacement` holds the pattern, the atom that moves most at 1; the comment the mode's number, `frequency_THz`
    and `frequency_cm-1`, kind and irrep. Of crystals of more than 600 atoms only those within 7 angstrom of the centre are
    written, without a cell. Collective; rank 0 writes.

    Args:
        path: The file.
        crystal: For species and periodicity.
        positions, cell: The crystal at rest, angstrom.
        centre: Of the defect, angstrom, shape=(3,).
        rows: Of the modes.
        displacements: Of all atoms in any unit, shape=(k, n, 3).
    """
    periodic = len(crystal) <= _LARGEST_ANIMATED
    shown = np.arange(len(crystal))
    if not periodic:
        shown = np.flatnonzero(distances_to_point(positions, centre, cell, crystal.pbc) < _AROUND)
        positions = unwrapped(positions, centre, cell, crystal.pbc)
    text = io.StringIO()
    for number, (row, u) in enumerate(list(zip(rows, displacements))[:_ANIMATED], start=1):
        pattern = u[shown] / np.linalg.norm(u[shown], axis=1).max()
        for frame in range(_FRAMES):
            atoms = Atoms(crystal.numbers[shown], positions=positions[shown])
            if periodic:
                atoms.set_cell(cell)
                atoms.pbc = crystal.pbc
            atoms.positions += _AMPLITUDE * np.sin(2 * np.pi * frame / _FRAMES) * pattern
            atoms.set_array("displacement", pattern)
            atoms.info = {
                "mode": number, "frame": frame, "frequency_THz": row["frequency_THz"],
                "frequency_cm-1": row["frequency_cm-1"], "kind": row["kind"], "irrep": row["irrep"] or "-",
            }  # fmt: skip
            ase.io.write(text, atoms, format="extxyz")
    error = None
    if is_root():
        try:
            with written_whole(path) as temporary:
                temporary.write_text(text.getvalue())
        except OSError as caught:
            error = caught
    agree_on_failure(world(), error)
