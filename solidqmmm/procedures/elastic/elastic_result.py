"""From fitted tensors to the result that users read: averages, stability, and what the defect does."""

from __future__ import annotations

import numpy as np
from ase.units import GPa
from pymatgen.analysis.elasticity import ElasticTensor

from solidqmmm.physics.elastic.defect_elasticity import (
    diaelastic_polarizability,
    elastic_dipole,
    relaxation_volume_tensor,
)
from solidqmmm.physics.elastic.elastic_stability import elastic_stability
from solidqmmm.physics.elasticity import compliance, stress_strain_tensor
from solidqmmm.physics.symmetry.crystal_symmetry import turned_elastic_tensor
from solidqmmm.physics.symmetry.ieee_orientation import ieee_axes
from solidqmmm.procedures.elastic.crystal_elasticity import CrystalElasticity
from solidqmmm.procedures.elastic.symmetry_of import conventional_cell
from solidqmmm.results.elasticity import ElasticTensorResult
from solidqmmm.system.crystal import Crystal


def elastic_result(
    model, found: CrystalElasticity, perfect: CrystalElasticity | None, *, options: dict, **described
) -> ElasticTensorResult:
    """The result of a series, with that of the crystal without the defect where there is one.

    Averages, stability and compliance are those of the stress-strain tensor B, which equals C at zero stress.

    Args:
        model: A `procedures.build.Model`.
        found: The study's own crystal.
        perfect: The crystal without its defect, or None.
        options: `fit_order` and `relax_cell` of the series.
        **described: Further fields of the result.
    """
    reference = found.reference
    B = stress_strain_tensor(found.tensor, reference.stress)
    judged = elastic_stability(B / GPa, found.rotations)
    runs = [found] if perfect is None else [perfect, found]
    unit = _unit_at(reference, model)
    return ElasticTensorResult(
        elastic_tensor_GPa=found.tensor / GPa,
        elastic_tensor_clamped_GPa=found.clamped / GPa,
        elastic_tensor_stderr_GPa=found.stderr / GPa,
        elastic_tensor_ieee_GPa=turned_elastic_tensor(found.tensor / GPa, ieee_axes(*conventional_cell(unit))),
        stress_strain_tensor_GPa=B / GPa,
        compliance_per_GPa=compliance(B) * GPa,
        **_averages(B / GPa, unit),
        born_stable=judged.stable,
        born_conditions={condition.name: condition.value_GPa for condition in judged.conditions},
        born_failing=list(judged.failing),
        residual_stress_GPa=reference.given_stress / GPa,
        reference_stress_GPa=reference.stress / GPa,
        cell_A=reference.cell,
        cell_relaxed=options["relax_cell"],
        strain_amplitudes=sorted({float(abs(a)) for a in found.series.amplitudes}),
        fit_order=options["fit_order"],
        nonlinearity_percent=found.nonlinearity_percent,
        n_strain_shapes=len(found.series.shapes),
        n_point_operations=len(found.rotations),
        n_force_evaluations=sum(run.n_force_evaluations for run in runs),
        n_qm_calls=sum(run.n_qm_calls for run in runs),
        defect="" if model.defect is None else f"{model.defect.kind} ({model.defect.element})",
        third_order_GPa=None if found.third_order is None else found.third_order / GPa,
        third_order_stderr_GPa=None if found.third_order_stderr is None else found.third_order_stderr / GPa,
        series=found.series,
        **_of_the_defect(model, found, perfect),
        **{**described, "warnings": [*_of_the_perfect(perfect), *found.warnings]},
    )


def _averages(B, unit) -> dict:
    """Aggregate moduli in GPa, by pymatgen; the Debye temperature only of a stable crystal."""
    tensor = ElasticTensor.from_voigt((B + B.T) / 2)
    K, G = float(tensor.k_vrh), float(tensor.g_vrh)
    stable = min(np.linalg.eigvalsh((B + B.T) / 2)) > 0
    debye = float(tensor.debye_temperature(unit.to_structure())) if stable else None
    return {
        "bulk_modulus_vrh_GPa": K,
        "bulk_modulus_voigt_GPa": float(tensor.k_voigt),
        "bulk_modulus_reuss_GPa": float(tensor.k_reuss),
        "shear_modulus_vrh_GPa": G,
        "shear_modulus_voigt_GPa": float(tensor.g_voigt),
        "shear_modulus_reuss_GPa": float(tensor.g_reuss),
        "youngs_modulus_vrh_GPa": 9 * K * G / (3 * K + G),
        "poisson_ratio": float(tensor.homogeneous_poisson),
        "universal_anisotropy": float(tensor.universal_anisotropy),
        "debye_temperature_K": debye,
    }


def _unit_at(reference, model) -> Crystal:
    """The repeated cell of the perfect crystal with the density of the reference; its ions at rest where it is all of it."""
    unit, whole = model.unit, model.crystal
    if model.defect is None and len(whole) == len(unit):
        return Crystal(whole.numbers, reference.positions, reference.cell)
    stretch = np.cbrt(reference.volume / whole.volume) * np.eye(3)
    return Crystal(unit.numbers, unit.positions, unit.cell).strained(stretch)


def _of_the_perfect(perfect: CrystalElasticity | None) -> list[str]:
    return [] if perfect is None else [f"without the defect, {text}" for text in perfect.warnings]


def _of_the_defect(model, found: CrystalElasticity, perfect: CrystalElasticity | None) -> dict:
    if model.defect is None:
        return {"elastic_dipole_missing_reason": "there is no defect"}
    concentration = {"n_defects_per_site": 1.0 / len(model.perfect)}
    if perfect is None:
        return {**concentration, "elastic_dipole_missing_reason": "the perfect crystal was not computed (perfect: false)"}
    # The defect was put into the cell of the perfect crystal's reference: the same cell for both stresses.
    before = perfect.reference
    sites = len(model.perfect) / len(before.positions)
    volume = before.volume * sites
    dipole = elastic_dipole(found.reference.given_stress, before.stress, volume)
    # Under stress it is B that answers to the dipole at constant load.
    tensor = relaxation_volume_tensor(dipole, stress_strain_tensor(perfect.tensor, before.stress))
    relaxed = not np.allclose(found.reference.deformation, np.eye(3), rtol=0, atol=1e-12)
    return {
        **concentration,
        "elastic_dipole_eV": dipole,
        "relaxation_volume_tensor_A3": tensor,
        "relaxation_volume_A3": float(found.reference.volume - volume) if relaxed else float(np.trace(tensor)),
        "diaelastic_polarizability_eV": diaelastic_polarizability(found.tensor, perfect.tensor, volume),
        "elastic_tensor_perfect_GPa": perfect.tensor / GPa,
        "elastic_tensor_perfect_stderr_GPa": perfect.stderr / GPa,
        "series_perfect": perfect.series,
    }
