"""Formation energies of defects in hybrid crystals."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np

from solidqmmm.procedures.relax import relax
from solidqmmm.system.crystal import Crystal


def formation_energy(model, energy, energy_missing_reason, given_potentials, *, fmax, max_qm_calls=60, progress=None):
    """E(defect) - E(perfect) + sum_i n_i mu_i.

    A coupling without ghost-force correction exerts spurious forces on the perfect crystal too; it is relaxed like the
    defect, so that what they do to the two energies cancels (a few quantum calls). With the dead load it is at rest.

    Args:
        model: A `procedures.build.Model`.
        energy: Energy of the relaxed crystal with the defect in eV, or None.
        energy_missing_reason: Why it is absent.
        given_potentials: Chemical potentials in eV by element; missing ones are taken from the perfect crystal where it is
            elemental.
        fmax: Largest force on the relaxed perfect crystal, eV/angstrom.
        max_qm_calls: Largest number of quantum calls for it.
        progress: Called as progress(done, total, message).

    Returns:
        Formation energy in eV or None; the chemical potentials used, by element; the reason if it is None.
    """
    if model.defect is None:
        return None, {}, "there is no defect"
    if energy is None:
        return None, {}, energy_missing_reason
    balance = model.defect.particle_balance()
    mu = {element: float(given_potentials[element]) for element in balance if element in given_potentials}
    missing = [element for element in balance if element not in mu]
    if missing:
        if set(missing) != set(model.unit.species) or len(model.unit.species) > 1:
            return None, mu, (
                f"the chemical potential of {', '.join(missing)} is not known from the perfect crystal: give "
                f"relax.chemical_potentials, such as {{{missing[0]}: -5.4}}"
            )
        mu[missing[0]] = energy_per_atom(model)
    with model.open_perfect() as perfect:
        if model.engine is not None and not getattr(model.study.coupling, "ghost_forces", False):
            outcome = relax(perfect, fmax=fmax, max_qm_calls=max_qm_calls, progress=progress)
            if not outcome.converged:
                return None, mu, (
                    f"the perfect crystal did not relax: {outcome.max_force:.3f} eV/A after {len(outcome.trace)} calls"
                )
        reference = perfect.energy()
    return float(energy - reference - sum(balance[element] * mu[element] for element in balance)), mu, None


def energy_per_atom(model) -> float:
    """Energy per atom of the perfect crystal in eV, by the engine at the host's lattice (matched), or by the host alone."""
    unit = primitive(model.unit)
    if model.engine is None:
        return model.classical.evaluate(unit.to_atoms()).energy / len(unit)
    matched = unit.strained(np.asarray(model.stretch).T)
    return model.energy_scale * model.engine.evaluate(matched.to_atoms()).energy / len(unit)


def primitive(unit: Crystal) -> Crystal:
    """The primitive cell in the orientation of `unit`: the smallest cell is the cheapest for an engine with k-points."""
    import spglib

    fractional = unit.positions @ np.linalg.inv(unit.cell)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # spglib announces another way of saying "none found"
        found = spglib.standardize_cell(
            (unit.cell, fractional, unit.numbers), to_primitive=True, no_idealize=True, symprec=1e-4
        )
    if found is None or len(found[2]) >= len(unit):
        return replace(unit, arrays={})
    cell, scaled, numbers = found
    return Crystal(numbers, scaled @ cell, cell, unit.pbc)
