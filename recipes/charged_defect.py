"""Energy of a charged defect in the infinite crystal, from a series of periodic cells, with an error bar.

    E(L) = E_inf + A/L + B/V + ...,    A = -2.8373 q^2 k/(2 eps)

A charge in a periodic cell feels its images and the neutralizing background. The energies E[X^q] - E[bulk] of several
supercells are fitted (A fixed to theory or free, as many terms as the data support) and extrapolated; single-cell
corrections (Makov-Payne, Lany-Zunger, FNV, eFNV) are shown beside, and how far they are from each other. A host of ions
alone also has the energy without any cell, by the two regions of Mott and Littleton.

The cells are computed by a quantum region in a periodic host (electrostatic or polarizable embedding), by the host alone,
or by an engine alone (`qm` without `host`); or they are numbers of yours, `energies: table.csv`, and the study then needs
nothing but this section. Chemical potentials and Fermi level are the same in every cell, and no part of E_inf.

Inputs (section `charged`): charge in e; dielectric, a number, three, nine, or auto (that of the host, computed); cells, a
list of supercells; energies, a table instead (columns label,n_atoms,energy_eV and length_A or structure); fit, auto or
{A: fixed or free, terms: [1, 3], B: free or a value in eV angstrom^3}; ions fixed or relaxed to fmax (eV/angstrom);
second_moment of the defect's charge in e angstrom^2, where it is known; mott_littleton, auto, true, false, or
{inner_radius_A: 10, outer_radius_A: 18}.
Cost: two energies for each cell, or two relaxations.
Reference: G. Makov and M. C. Payne, Phys. Rev. B 51, 4014 (1995); C. W. M. Castleton et al., Phys. Rev. B 73, 035215 (2006).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from solidqmmm import Model
from solidqmmm.procedures.building.describe import described
from solidqmmm.procedures.charged_defects.charged_cells import charged_cells
from solidqmmm.procedures.charged_defects.size_series import extrapolate, extrapolate_table
from solidqmmm.results.charged_defect import ChargedDefectResult
from solidqmmm.system.energy_table import read_energies
from solidqmmm.system.study_charged import MottLittletonRequest, checked_dielectric, checked_fit
from solidqmmm.system.study_sections import Supercell, beside

STUDY_SECTION = "charged"
ENGINE_ALONE = True
INSTEAD_OF_CRYSTAL = "energies"
MAY_CHANGE = ("cells", "dielectric", "fit", "second_moment", "mott_littleton")


def run(
    *,
    model: Model,
    charge: float,
    dielectric: Annotated[Any, AfterValidator(checked_dielectric)] = "auto",
    cells: Annotated[list[Supercell], Field(min_length=1)] | None = None,
    energies: str | None = None,
    fit: Annotated[Any, AfterValidator(checked_fit)] = "auto",
    ions: Literal["fixed", "relaxed"] = "fixed",
    fmax: Annotated[float, Field(gt=0)] = 0.01,
    second_moment: float | None = None,
    mott_littleton: MottLittletonRequest | bool | Literal["auto"] = "auto",
    workdir: Path | None = None,
    executor=None,
    progress=None,
) -> ChargedDefectResult:
    """E_inf of the model's charged defect.

    Args:
        model: What `build_model` makes of a study; with `energies` only its folder counts.
        charge: Charge of the defect in e.
        dielectric: Relative permittivity that screens the charge; 'auto' computes the host's own.
        cells: Supercells, each three repeats or a 3 x 3 matrix.
        energies: File of energies that are known already, instead of cells.
        fit: Form of E(L); 'auto' lets the data choose.
        ions: Whether the ions stay where the perfect crystal has them.
        fmax: Largest force of relaxed ions, eV/angstrom.
        second_moment: Second radial moment of the defect's charge in e angstrom^2.
        mott_littleton: Whether E_inf is also computed without cells, in an infinite host; 'auto' does so for shells.
        workdir: Run folder; each cell is saved there when it is done.
        executor: Any concurrent.futures executor; the cells are computed in it side by side.
        progress: Called as progress(done, total, message).
    """
    options = {"fit_as": fit, "second_moment": second_moment}
    if energies is not None:
        table = read_energies(beside(model.study.folder, energies))
        return extrapolate_table(table, charge, dielectric, **options)
    series = charged_cells(
        model, cells, charge, dielectric, ions=ions, fmax=fmax, workdir=workdir, executor=executor, progress=progress,
        mott_littleton=mott_littleton,
    )  # fmt: skip
    said = {key: value for key, value in described(model).items() if key in ("host", "engine", "coupling")}
    return extrapolate(
        series.cells,
        charge,
        series.dielectric,
        bulk_subtracted=True,
        more_routes=series.routes,
        warnings=series.warnings,
        vbm_eV=series.vbm,
        band_gap_eV=series.band_gap,
        **options,
        **said,
    )


def figures(result: ChargedDefectResult) -> dict:
    """Energy against the size of the cell with its fit, and E_inf by every route."""
    from solidqmmm.plotting.charged_defect import figures_of

    return figures_of(result)
