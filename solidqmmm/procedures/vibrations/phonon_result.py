"""From a Hessian to the result that users read: modes in words, the ladder of methods, isotopes, free energies."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from solidqmmm.physics.condensation import PartitionedCrystal
from solidqmmm.physics.geometry import unwrapped
from solidqmmm.physics.vibrations.localized_modes import CM1_PER_THZ, Modes, kinds_of
from solidqmmm.procedures.vibrations.bulk_phonons import BulkPhonons
from solidqmmm.procedures.vibrations.defect_modes import (
    CrystalAtRest,
    condensed_modes,
    modes_outside,
    with_band_modes,
)
from solidqmmm.procedures.vibrations.infinite_host import MARGINS, InfiniteHostModes, infinite_modes
from solidqmmm.procedures.vibrations.isotope_shifts import isotope_shifts
from solidqmmm.procedures.vibrations.isotopes import Isotopes
from solidqmmm.procedures.vibrations.local_densities import local_densities
from solidqmmm.procedures.vibrations.mode_list import (
    MARGIN,
    SOFT_THz,
    doubtful,
    name_symmetries,
    rows_of,
    soft_modes,
    write_animation,
)
from solidqmmm.procedures.vibrations.vibrational_formation import vibrational_formation
from solidqmmm.results.phonons import DefectPhononsResult

_LADDER = 12  # frequencies of each method that are kept
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
    isotopes: Isotopes,
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
        bulk: Phonons of the perfect host with the isotopes of whole elements.
        core: Atoms that are condensed on, shape=(q,).
        method: Whose modes are listed.
        infinite_host: Whether the modes of the defect in a host without end are listed instead.
        isotopes: Masses, with sites as indices.
        temperatures: For free energies, K.
        displacement: Step of the quantum atoms, angstrom.
        animation: File that gets the patterns of the first modes, or None.
        progress: Called as progress(done, total, message).
        **described: Further fields of the result.
    """
    report = progress or (lambda *_: None)
    numbers = model.crystal.numbers
    crystal = PartitionedCrystal(rest.hessian.matrix, isotopes.masses(numbers), core, rest.positions)
    rest = _with_symmetry_of_masses(rest, crystal.masses)
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
    if bulk.lowest_THz < -SOFT_THz:
        warnings.append(
            f"the perfect host is unstable ({-bulk.lowest_THz:.2f}i THz): its bands begin at zero here, and no harmonic "
            "theory holds; is the structure a crystal of this potential?"
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
        warnings += _left_out(endless, computed["dynamic"], bulk)
    rows, patterns = _listed(computed[method], soft, endless, crystal, bulk, rest)
    if animation is not None:
        write_animation(
            animation, model.crystal, rest.positions, rest.cell, model.partition.centre, rows, patterns
        )
    warnings += doubtful(rows)
    error = _static_error(computed["static"], computed.get("full", computed["dynamic"]), bulk.bands_THz)
    if method == "static" and error is not None and abs(error) > _NOTEWORTHY_ERROR_THz:
        warnings.append(
            f"static condensation is off by {error:+.3f} THz for the highest mode: it neglects the inertia of the "
            "environment; use method: dynamic"
        )
    report(None, None, "local densities of states")
    highest = max((row["frequency_THz"] for row in rows), default=0.0)
    densities = local_densities(model, crystal, rest, bulk, highest_THz=highest, infinite_host=infinite_host)
    entropies, energies, reason = vibrational_formation(
        model, crystal, isotopes, temperatures, stable=not len(soft)
    )
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
        band_margin=MARGIN if endless is None else endless.margin,
        n_perturbed_sites=0 if endless is None else endless.n_sites,
        left_out_eV_per_A2=None if endless is None else endless.left_out,
        hessian_asymmetry_eV_per_A2=rest.hessian.asymmetry,
        sum_rule_error_eV_per_A2=rest.hessian.sum_rule_error,
        n_force_evaluations_host=rest.hessian.host.n_force_evaluations + bulk.n_force_evaluations,
        n_force_evaluations_qm=rest.hessian.n_qm_calls,
        n_qm_calls_relaxation=rest.n_qm_calls,
        max_force_eV_per_A=rest.max_force,
        displacement_A=displacement,
        isotopes=isotopes.everywhere,
        isotope_sites=[
            {"element": group.element, "mass_amu": group.mass, "sites": list(group.sites)} for group in isotopes.named
        ],
        isotope_shifts_per_cm=isotope_shifts(crystal, bulk, numbers, isotopes, computed["dynamic"]),
        temperatures_K=temperatures,
        formation_free_energy_eV=energies,
        formation_entropy_k=entropies,
        formation_entropy_missing_reason=reason,
        defect=_defect_in_words(model, isotopes),
        n_core=len(core),
        core=core,
        core_symbols=[chemical_symbols[z] for z in numbers[core]],
        core_positions_A=unwrapped(
            rest.positions[core], model.partition.centre, rest.cell, model.crystal.pbc
        ),
        masses_amu=crystal.masses[core],
        mode_displacements=patterns[:, core],
        dos_frequency_THz=densities.frequencies_THz,
        bulk_dos_per_THz=densities.bulk,
        local_dos_per_THz=densities.core,
        defect_dos_per_THz=densities.own,
        local_dos_method=densities.method,
        local_dos_half_width_THz=densities.half_width_THz,
        resonances=[
            {
                "frequency_THz": peak.frequency_THz,
                "frequency_cm-1": peak.frequency_THz * CM1_PER_THZ,
                "width_THz": peak.width_THz,
                "enhancement": peak.enhancement,
            }
            for peak in densities.resonances
        ],
        warnings=warnings,
        **described,
    )


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


def _static_error(static: Modes, exact: Modes, bands_THz) -> float | None:
    """Static condensation's frequency minus the exact one of the highest mode outside the bands, in THz.

    Above the bands that is static condensation's highest one, in a gap the mode that is most like the exact one.
    """
    nu = exact.frequencies_THz
    kinds = kinds_of(nu, bands_THz, tolerance=0.5 * MARGIN * np.max(bands_THz))
    k = next((k for k, kind in enumerate(kinds) if kind != "band"), None)
    if k is None:
        return None
    alike = np.einsum("kid,id->k", static.eigenvectors, exact.eigenvectors[k]) ** 2
    twin = 0 if kinds[k] == "local" else int(alike.argmax())
    return float(static.frequencies_THz[twin] - nu[k])


def _with_symmetry_of_masses(rest: CrystalAtRest, masses) -> CrystalAtRest:
    """The same with those operations alone that take each atom to one of its mass."""
    kept = np.all(np.abs(masses[rest.permutations] - masses) < 1e-9, axis=1)
    return dataclasses.replace(rest, rotations=rest.rotations[kept], permutations=rest.permutations[kept])


def _left_out(endless: InfiniteHostModes, finite: Modes, bulk: BulkPhonons) -> list[str]:
    """What the modes of the infinite host leave out: those next to the bands, and what the defect changes far away."""
    found = []
    if endless.margin > MARGINS[0]:
        found.append(
            f"no mesh of wave vectors resolves the edges of the bands: modes that lie within {100 * endless.margin:g} % of "
            "an edge are not told apart from the band and not listed"
        )
    if endless.reaches_far:
        found.append(
            f"the defect changes force constants by {endless.left_out:.2g} eV/A^2 on sites that are not among the "
            f"{endless.n_sites} perturbed ones of the infinite host (atoms that moved into a potential's cutoff, a "
            "supercell that is too small): its modes there are not those of this crystal; compare with host: finite"
        )
    edges, nu = np.ravel(bulk.bands_THz), finite.frequencies_THz
    near = np.abs(nu[:, None] - edges) < endless.margin * edges
    lost = nu[near.any(axis=1) & (nu > 0)]
    if len(lost):
        found.append(
            f"{len(lost)} modes of the finite host ({', '.join(f'{f:.3f}' for f in lost[:6])} THz) lie within "
            f"{100 * endless.margin:g} % of the edge of a band, where host: infinite seeks none: they are not listed"
        )
    return found


def _defect_in_words(model, isotopes: Isotopes) -> str:
    if model.defect is not None:
        return f"{model.defect.kind} ({model.defect.element})"
    return ", ".join(f"isotope ({group.element} of {group.mass:.3f} amu)" for group in isotopes.named)
