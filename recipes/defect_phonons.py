"""Vibrations of a point defect: local modes, by static, Guyan's and dynamic condensation, and exactly.

    K u = w^2 M u,    D(w) = K_QQ - w^2 M_Q - K_QM (K_MM - w^2 M_M)^-1 K_MQ

The crystal is relaxed at fixed cell. The host gives its Hessian by coloured displacements (the number of force evaluations
does not grow with the crystal), the coupling that of the quantum region. What is condensed on, Q, is the region's core.
Static condensation, H = K_QQ - K_QM K_MM^-1 K_MQ, neglects the inertia of the environment: above the bands it can be worse
than holding the environment still. `dynamic` is exact outside the bands, whatever the core; the difference is always shown.

Without `qm` the host provides all force constants, and `region.core` still says what is condensed on.

Inputs (section `phonons`): method static, guyan, dynamic or full (shift-invert of the whole matrix, nothing eliminated);
host finite or infinite (the perfect lattice's Green's function instead of the supercell: modes outside the bands, local
densities of states inside them);
displacement of the quantum atoms in angstrom; isotopes by element (a whole number is a mass number, with decimals a mass in
amu), of all its atoms or, as {mass: 30, sites: [0, 5]} or a list of such, of named ones; fmax in eV/angstrom; relax; rattle
in angstrom; temperatures in K for the vibrational formation entropy.
Cost: about 200 force evaluations of the host, two quantum calls for each atom that symmetry leaves in the region.
Reference: A. A. Maradudin, E. W. Montroll, G. H. Weiss and I. P. Ipatova, Theory of Lattice Dynamics in the Harmonic
Approximation (1971); R. J. Guyan, AIAA J. 3, 380 (1965).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from solidqmmm import Model
from solidqmmm.procedures.building.describe import described
from solidqmmm.procedures.vibrations.bulk_phonons import bulk_phonons
from solidqmmm.procedures.vibrations.defect_modes import (
    core_atoms,
    crystal_at_rest,
)
from solidqmmm.procedures.vibrations.isotopes import Isotopes
from solidqmmm.procedures.vibrations.phonon_requests import require_possible
from solidqmmm.procedures.vibrations.phonon_result import phonon_result
from solidqmmm.procedures.vibrations.phonopy_file import write_phonopy
from solidqmmm.results.phonons import DefectPhononsResult

STUDY_SECTION = "phonons"


def _checked(isotopes):
    Isotopes.read(isotopes)
    return isotopes


def run(
    *,
    model: Model,
    method: Literal["static", "guyan", "dynamic", "full"] = "dynamic",
    host: Literal["finite", "infinite"] = "finite",
    displacement: Annotated[float, Field(gt=0)] = 0.01,
    isotopes: Annotated[dict[str, int | float | dict | list], AfterValidator(_checked)] | None = None,
    fmax: Annotated[float, Field(gt=0)] = 1e-3,
    relax: bool = True,
    rattle: Annotated[float, Field(ge=0)] = 0.0,
    temperatures: list[Annotated[float, Field(gt=0)]] | None = None,
    workdir: Path | None = None,
    executor=None,
    progress=None,
) -> DefectPhononsResult:
    """Vibrations of the model's defect.

    Args:
        model: What `build_model` makes of a study.
        method: Whose modes are listed, of a finite host.
        host: 'infinite' lists those of the defect in a host without end.
        displacement: Step of the quantum atoms, angstrom.
        isotopes: Masses by element: {C: 13} is a mass number, {C: 13.00335} a mass in amu. On named atoms of the supercell
            {Si: {mass: 30, sites: [0, 5]}}, where sites may be `core` or `defect`; {Si: [28, {mass: 30, sites: [0]}]} says
            both.
        fmax: Largest force at the point of expansion, eV/angstrom.
        relax: Whether to relax a crystal that is not at rest; else it is refused.
        rattle: Random displacements of the defect's neighbours before, angstrom.
        temperatures: For the vibrational formation entropy and free energy, K.
        workdir: Run folder.
        executor: Any concurrent.futures executor; quantum atoms are displaced in it side by side.
        progress: Called as progress(done, total, message).
    """
    core = core_atoms(model)
    own = None if model.defect is None else model.defect.atom(len(model.crystal))
    masses = Isotopes.read(isotopes).located(model.crystal.numbers, core=core, own=own)
    require_possible(model, method=method, infinite_host=host == "infinite", isotopes=masses)
    folder = None if workdir is None else workdir / "hessian"
    rest = crystal_at_rest(
        model,
        fmax=fmax,
        displacement=displacement,
        relax=relax,
        rattle=rattle,
        folder=folder,
        executor=executor,
        progress=progress,
    )
    bulk = bulk_phonons(model, rest.hessian.host.force_range, masses=masses.of_elements(model.unit.species))
    result = phonon_result(
        model,
        rest,
        bulk,
        core,
        method=method,
        infinite_host=host == "infinite",
        isotopes=masses,
        temperatures=temperatures or (),
        displacement=displacement,
        animation=None if workdir is None else workdir / "modes.extxyz",
        progress=progress,
        **described(model),
    )
    if workdir is not None:
        weights = masses.masses(model.crystal.numbers)
        file = workdir / "phonopy_params.yaml"
        write_phonopy(file, model.crystal.numbers, weights, rest.positions, rest.cell, rest.hessian.matrix)
    return result


def figures(result: DefectPhononsResult) -> dict:
    """Frequency ladder beside the bulk's density of states; local density of states; the highest mode."""
    from solidqmmm.plotting.phonons import plot_frequency_ladder, plot_local_dos, plot_mode

    drawn = {"frequency_ladder": plot_frequency_ladder, "local_dos": plot_local_dos}
    if result.modes and result.modes[0]["core_weight"] is not None:
        drawn["mode"] = plot_mode
    return {name: plot(result).figure for name, plot in drawn.items()}
