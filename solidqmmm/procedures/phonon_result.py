"""From a Hessian to the result that users read: modes in words, the ladder of methods, isotopes, free energies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from scipy import linalg

from solidqmmm.errors import SolidQMMMError
from solidqmmm.physics.condensation import PartitionedCrystal, all_squared_frequencies
from solidqmmm.physics.geometry import unwrapped
from solidqmmm.physics.harmonic_free_energy import entropy, formation_difference, free_energy, vibrations
from solidqmmm.physics.local_density import broadened_density, recursions
from solidqmmm.physics.localized_modes import CM1_PER_THZ, Modes, frequencies_THz, kinds_of
from solidqmmm.procedures.bulk_phonons import BulkPhonons
from solidqmmm.procedures.defect_modes import (
    CrystalAtRest,
    condensed_modes,
    masses_of,
    modes_outside,
    with_band_modes,
)
from solidqmmm.procedures.infinite_host import InfiniteHostModes, infinite_modes
from solidqmmm.procedures.mode_list import (
    MARGIN,
    SOFT_THz,
    name_symmetries,
    rows_of,
    soft_modes,
    write_animation,
)
from solidqmmm.results.phonons import DefectPhononsResult

_LADDER = 12  # frequencies of each method that are kept
_LARGEST_DENSE = 6000  # degrees of freedom: a dense diagonalization takes minutes beyond
_LEVELS = 160  # of the recursion
_TOGETHER = 24  # recursions that share their products with the matrix
_WIDTH_THz = 0.12  # of the densities of states
_NOTEWORTHY_ERROR_THz = 0.05
_NOTEWORTHY_ASYMMETRY = 2e-3  # of the largest force constant


def phonon_result(
    model,
    rest: CrystalAtRest,
    bulk: BulkPhonons,
    core,
    *,
    method: str,
    infinite_host: bool = False,
    isotopes: dict[str, float],
    temperatures=(),
    displacement: float,
    animation: Path | None = None,
    progress: Callable | None = None,
    **described,
) -> DefectPhononsResult:
    """The result of a defect's phonons.

    Static, Guyan's and dynamic condensation, and the clamped environment, are always computed: the first two miss modes
    above the bands, and the reader must see by how much.

    Args:
        model: A `procedures.build.Model`.
        rest: The crystal at rest, with its Hessian.
        bulk: Phonons of the perfect host with the same masses.
        core: Atoms that are condensed on, shape=(q,).
        method: Whose modes are listed.
        infinite_host: Whether the modes of the defect in a host without end are listed instead.
        isotopes: Masses by element, amu.
        temperatures: For free energies, K.
        displacement: Step of the quantum atoms, angstrom.
        animation: File that gets the patterns of the first modes, or None.
        progress: Called as progress(done, total, message).
        **described: Further fields of the result.
    """
    report = progress or (lambda *_: None)
    numbers = model.crystal.numbers
    crystal = PartitionedCrystal(rest.hessian.matrix, masses_of(numbers, isotopes), core, rest.positions)
    report(None, None, "modes: static condensation")
    computed = condensed_modes(crystal)
    for name in ("dynamic", "full") if method == "full" else ("dynamic",):
        report(None, None, f"modes: {name}")
        computed[name] = modes_outside(name, crystal, bulk.bands_THz)
    if method == "full":
        computed["full"] = with_band_modes(computed["full"], crystal, bulk.bands_THz)
    soft = soft_modes(crystal, computed["static"])
    warnings = list(described.pop("warnings", []))
    if len(soft):
        warnings.append(
            f"the crystal is not at a minimum: {len(soft)} imaginary frequencies, the largest "
            f"{-soft.frequencies_THz[-1]:.2f}i THz; displace the atoms along that mode and relax again (phonons: "
            "{rattle: 0.05} does so at random)"
        )
    asymmetry = rest.hessian.asymmetry
    if asymmetry > _NOTEWORTHY_ASYMMETRY * abs(crystal.K).max():
        warnings.append(
            f"force constants differ from their transposes by up to {asymmetry:.2g} eV/A^2 before symmetrization: the "
            "forces are not smooth here (atoms at a potential's cutoff, force mixing, an engine that is not converged)"
        )
    endless = None
    if infinite_host:
        report(None, None, "modes: infinite host")
        endless = infinite_modes(model, rest, bulk, core, crystal.masses)
    rows, patterns = _listed(computed[method], soft, endless, crystal, bulk, rest)
    if animation is not None:
        write_animation(
            animation, model.crystal, rest.positions, rest.cell, model.partition.centre, rows, patterns
        )
    exact = _outside(computed.get("full", computed["dynamic"]), bulk.bands_THz)
    error = float(computed["static"].frequencies_THz[0] - exact[0]) if len(exact) else None
    if method == "static" and error is not None and abs(error) > _NOTEWORTHY_ERROR_THz:
        warnings.append(
            f"static condensation is off by {error:+.3f} THz for the highest mode: it neglects the inertia of the "
            "environment; use method: dynamic"
        )
    report(None, None, "local densities of states")
    grid, core_density, defect_density = local_densities(model, crystal, rest, bulk)
    entropies, energies, reason = _formation(model, crystal, bulk, rest, temperatures, soft)
    return DefectPhononsResult(
        method=method if endless is None else "infinite",
        modes=rows,
        ladder_THz={
            name: modes.frequencies_THz[:_LADDER].tolist()
            for name, modes in {**computed, **({} if endless is None else {"infinite": endless})}.items()
        },
        static_condensation_error_THz=error,
        static_condensation_error_missing_reason=None
        if error is not None
        else "no mode lies outside the bands",
        bulk_band_top_THz=bulk.band_top_THz,
        bulk_bands_THz=bulk.bands_THz,
        hessian_asymmetry_eV_per_A2=rest.hessian.asymmetry,
        sum_rule_error_eV_per_A2=rest.hessian.sum_rule_error,
        n_force_evaluations_host=rest.hessian.host.n_force_evaluations + bulk.n_force_evaluations,
        n_force_evaluations_qm=rest.hessian.n_qm_calls,
        n_qm_calls_relaxation=rest.n_qm_calls,
        max_force_eV_per_A=rest.max_force,
        displacement_A=displacement,
        isotopes=isotopes,
        isotope_shifts_per_cm=_isotope_shifts(crystal, bulk, numbers, isotopes, computed),
        temperatures_K=temperatures,
        formation_free_energy_eV=energies,
        formation_entropy_k=entropies,
        formation_entropy_missing_reason=reason,
        defect="" if model.defect is None else f"{model.defect.kind} ({model.defect.element})",
        n_core=len(core),
        core=core,
        core_symbols=[chemical_symbols[z] for z in numbers[core]],
        core_positions_A=unwrapped(
            rest.positions[core], model.partition.centre, rest.cell, model.crystal.pbc
        ),
        masses_amu=crystal.masses[core],
        mode_displacements=patterns[:, core],
        dos_frequency_THz=grid,
        bulk_dos_per_THz=bulk.dos_per_THz(grid, width_THz=_WIDTH_THz),
        local_dos_per_THz=core_density,
        defect_dos_per_THz=defect_density,
        warnings=warnings,
        **described,
    )


def local_densities(model, crystal: PartitionedCrystal, rest: CrystalAtRest, bulk: BulkPhonons):
    """Grid in THz, and the local densities of states of the core (per atom) and of the atom nearest to its centre, in 1/THz.

    By recursion, from one atom of each orbit of the site symmetry; as many levels as the supercell bears.
    """
    grid = np.linspace(0.0, 1.55 * bulk.band_top_THz, 621)
    core, W = crystal.core, crystal.weighted()
    place = unwrapped(rest.positions[core], model.partition.centre, rest.cell, model.crystal.pbc)
    nearest = int(np.argmin(np.linalg.norm(place - model.partition.centre, axis=1)))
    orbits: dict[int, list[int]] = {}
    for atom in core:
        orbits.setdefault(int(rest.permutations[:, atom].min()), []).append(int(atom))
    starts = np.array([3 * members[0] + k for members in orbits.values() for k in range(3)])
    densities = np.empty((len(starts), len(grid)))
    for first in range(0, len(starts), _TOGETHER):
        some = slice(first, first + _TOGETHER)
        units = np.zeros((W.shape[0], len(starts[some])))
        units[starts[some], np.arange(units.shape[1])] = 1.0
        densities[some] = [broadened_density(grid, chain, _WIDTH_THz) for chain in recursions(W, units, _LEVELS)]
    of_orbit = densities.reshape(-1, 3, len(grid)).sum(axis=1)
    total = np.array([len(members) for members in orbits.values()]) @ of_orbit
    own = of_orbit[[core[nearest] in members for members in orbits.values()].index(True)]
    return grid, total / len(core), own


def _listed(modes: Modes, soft: Modes, endless: InfiniteHostModes | None, crystal, bulk, rest):
    """Rows of the modes that are listed, and their displacements on the supercell's atoms, shape=(k, n, 3)."""
    if endless is not None:
        rows = rows_of(
            endless.frequencies_THz,
            bulk.bands_THz,
            core_weights=endless.core_weights,
            participating_atoms=endless.participating_atoms,
        )
        name_symmetries(rows, endless.eigenvectors, rest.rotations, rest.permutations)
        patterns = endless.displacements
    else:
        rows, patterns = _rows(modes, crystal, bulk, rest), modes.displacements
        if np.any(modes.frequencies_THz < -SOFT_THz):  # of a condensed stiffness, which has them all
            return rows, patterns
    return [*rows, *_rows(soft, crystal, bulk, rest)], np.concatenate([patterns, soft.displacements])


def _rows(modes: Modes, crystal, bulk, rest) -> list[dict]:
    rows = rows_of(
        modes.frequencies_THz,
        bulk.bands_THz,
        core_weights=modes.weights(crystal.core),
        participation_ratios=modes.participation_ratios,
    )
    name_symmetries(rows, modes.eigenvectors, rest.rotations, rest.permutations)
    return rows


def _outside(modes: Modes, bands_THz) -> np.ndarray:
    nu = modes.frequencies_THz
    kinds = kinds_of(nu, bands_THz, tolerance=0.5 * MARGIN * np.max(bands_THz))
    return nu[[kind != "band" for kind in kinds]]


def _isotope_shifts(crystal, bulk, numbers, isotopes, computed) -> dict[str, float]:
    """Shift of the mode outside the bands that an element carries, by its isotope against its natural mass, 1/cm."""
    shifts = {}
    for element in isotopes:
        atoms = np.flatnonzero(numbers == _number(element))
        others = {other: mass for other, mass in isotopes.items() if other != element}
        masses = masses_of(numbers, others)
        natural = PartitionedCrystal(crystal.K, masses, crystal.core, crystal.positions)
        before, after = modes_outside("full", natural, bulk.bands_THz), computed["dynamic"]
        if len(atoms) and len(before) and len(after):
            label = f"{element} {masses[atoms[0]]:.3f} -> {isotopes[element]:.3f} amu"
            nu = [modes.frequencies_THz[modes.weights(atoms).argmax()] for modes in (before, after)]
            shifts[label] = float((nu[1] - nu[0]) * CM1_PER_THZ)
    return shifts


def _number(element) -> int:
    return chemical_symbols.index(element)


def _formation(model, crystal, bulk, rest, temperatures, soft):
    """Vibrational formation entropy in k and free energy in eV at the temperatures, or why there is none."""
    if len(temperatures) == 0:
        return None, None, "no temperatures were asked for"
    if len(soft):
        return None, None, "the crystal has imaginary frequencies"
    if model.engine is not None:
        return None, None, "the perfect crystal was not computed with the quantum engine"
    if crystal.K.shape[0] > _LARGEST_DENSE:
        return None, None, f"more than {_LARGEST_DENSE} degrees of freedom: take a smaller supercell"
    try:
        defective = vibrations(frequencies_THz(all_squared_frequencies(crystal)))
        perfect = vibrations(bulk.frequencies_of_supercell(rest.cell))
    except (ValueError, linalg.LinAlgError) as problem:
        raise SolidQMMMError(f"no harmonic free energy: {problem}") from problem
    from ase.units import kB

    T = np.asarray(temperatures, dtype=float)
    return (
        formation_difference(entropy, defective, perfect, T) / kB,
        formation_difference(free_energy, defective, perfect, T),
        None,
    )
