"""Elastic tensor of a perfect or defective crystal, by a series of small homogeneous deformations.

    C_IJKL = dS_IJ / dE_KL,    S = J F^-1 sigma F^-T,    E = (F^T F - 1) / 2

The whole hybrid cell is deformed, quantum and classical atoms alike; at each deformation the total stress is taken twice,
with the ions clamped to the affine image and relaxed. Before, the cell is relaxed to zero stress (`cell: fixed` keeps it,
and the constants are those of the stressed crystal). Symmetry leaves the fewest strain shapes. With a defect the crystal
without it is done as well: the difference gives elastic dipole, relaxation volume and diaelastic polarizability.

Without `qm` the host is alone; with `qm` and neither `host` nor `region` the engine is alone on the periodic cell.
Couplings without a stress (force mixing) are refused.

Inputs (section `elastic`): amplitudes of the Green-Lagrange strain, each applied with both signs unless some are negative
(without them 0.0002 and 0.0004 where LAMMPS computes everything, 0.005 and 0.01 for engines with noise); fit_order (1:
linear; 2 and more also give third-order constants); symmetry; fmax in eV/angstrom; cell relaxed or fixed; perfect: whether
the crystal without the defect is done too.
Cost: 2 strain shapes (cubic) to 6, times 2, times amplitudes, each with 2 to 4 quantum calls; with a defect that twice.
Reference: J. H. Weiner, Statistical Mechanics of Elasticity (Wiley, 1983); D. C. Wallace, Thermodynamics of Crystals (1972).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from solidqmmm import Model
from solidqmmm.procedures.building.describe import described, stored_structure
from solidqmmm.procedures.elastic.crystal_elasticity import checked_amplitudes, checked_order, elasticity_of
from solidqmmm.procedures.elastic.elastic_result import elastic_result
from solidqmmm.results.elasticity import ElasticTensorResult

STUDY_SECTION = "elastic"
ENGINE_ALONE = True


def run(
    *,
    model: Model,
    amplitudes: Annotated[tuple[float, ...] | None, AfterValidator(checked_amplitudes)] = None,
    fit_order: Annotated[int, AfterValidator(checked_order)] = 1,
    symmetry: bool = True,
    fmax: Annotated[float, Field(gt=0)] = 1e-4,
    cell: Literal["relaxed", "fixed"] = "relaxed",
    perfect: bool = True,
    workdir: Path | None = None,
    executor=None,
    progress=None,
) -> ElasticTensorResult:
    """Elastic tensor of the model's crystal.

    Args:
        model: What `build_model` makes of a study.
        amplitudes: Green-Lagrange strains; each with both signs, unless some are negative. Without them 0.0002 and 0.0004
            where LAMMPS computes everything, 0.005 and 0.01 for engines with noise.
        fit_order: Highest power of the strain in the stress.
        symmetry: Whether symmetry reduces the strain shapes.
        fmax: Largest force with relaxed ions, eV/angstrom.
        cell: Whether the cell is relaxed first.
        perfect: Whether the crystal without the defect is computed too.
        workdir: Run folder; each deformation is saved there when it is done.
        executor: Any concurrent.futures executor; the deformations are done in it side by side.
        progress: Called as progress(done, total, message).
    """
    options = {
        "amplitudes": amplitudes,
        "fit_order": fit_order,
        "use_symmetry": symmetry,
        "fmax": fmax,
        "relax_cell": cell == "relaxed",
        "folder": None if workdir is None else workdir / "strains",
        "executor": executor,
        "progress": progress,
    }
    wanted = model.defect is not None and perfect
    without = elasticity_of(model, "perfect", **options) if wanted else None
    found = elasticity_of(model, "defect", start=without, **options)
    relaxed = model.crystal.with_positions(found.reference.positions, found.reference.cell)
    return elastic_result(
        model,
        found,
        without,
        options=options,
        reference_structure=stored_structure(relaxed, model.partition, workdir, "reference.extxyz"),
        **described(model),
    )


def figures(result: ElasticTensorResult) -> dict:
    """Stress against strain with residuals; Young's modulus against direction, cuts and surface; the tensor."""
    from solidqmmm.plotting.elasticity import plot_stress_strain, plot_tensor_change
    from solidqmmm.plotting.youngs_modulus import plot_youngs_modulus, plot_youngs_modulus_surface

    drawn = {
        "stress_strain": plot_stress_strain,
        "youngs_modulus": plot_youngs_modulus,
        "youngs_modulus_surface": plot_youngs_modulus_surface,
        "tensor": plot_tensor_change,
    }
    return {name: plot(result).figure for name, plot in drawn.items()}
