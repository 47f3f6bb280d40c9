"""Relaxes a point defect in a hybrid crystal, and gives its formation energy where there is an energy.

    E_f = E(defect) - E(perfect) + sum_i n_i mu_i

with the hybrid energies of the relaxed crystal with and without the defect (the same atoms quantum, the same caps), n_i the
number of atoms of element i that were taken out (negative: put in), and mu_i their chemical potentials. For the elements of
an elemental crystal mu defaults to the engine's own energy per atom of the perfect crystal at the host's lattice (after
lattice matching, where the study asks for it); for others it is an input, and without it E_f is absent.

Inputs (section `relax`): fmax in eV/angstrom; max_qm_calls; algorithm micro, fire or cg; rattle in angstrom (random
displacements of the quantum atoms: an ideal vacancy can be an exactly force-free, unstable point); trust_radius in angstrom;
chemical_potentials in eV by element; shells of neighbours to report.
Cost: about 10 to 15 quantum calls, whatever the size of the crystal, and up to 5 for the formation energy.
Reference: N. Bernstein, J. R. Kermode and G. Csanyi, Rep. Prog. Phys. 72, 026501 (2009).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from solidqmmm import Model
from solidqmmm.physics.geometry import distances_to_point
from solidqmmm.procedures.building.describe import described, stored_structure
from solidqmmm.procedures.building.neighbours import (
    displacements,
    neighbour_shells,
    pair_distances,
    shell_displacements,
)
from solidqmmm.procedures.charged_defects.lattice_stability import require_stable_lattice
from solidqmmm.procedures.formation import formation_energy
from solidqmmm.procedures.relax import rattled, relax
from solidqmmm.results.relaxation import DefectRelaxationResult

STUDY_SECTION = "relax"


def run(
    *,
    model: Model,
    fmax: Annotated[float, Field(gt=0)] = 0.02,
    max_qm_calls: Annotated[int, Field(gt=0)] = 60,
    algorithm: Literal["micro", "fire", "cg"] = "micro",
    rattle: Annotated[float, Field(ge=0)] = 0.05,
    trust_radius: Annotated[float, Field(gt=0)] = 0.15,
    chemical_potentials: dict[str, float] | None = None,
    shells: Annotated[int, Field(ge=0)] = 3,
    workdir: Path | None = None,
    progress=None,
) -> DefectRelaxationResult:
    """Relaxes the crystal of the model at fixed cell.

    Args:
        model: What `build_model` makes of a study.
        fmax: Largest force at the end, eV/angstrom.
        max_qm_calls: Largest number of quantum calls of the relaxation.
        algorithm: See `solidqmmm.relax`.
        rattle: Standard deviation of random displacements of the atoms around the defect at the start, angstrom.
        trust_radius: First bound on a step, angstrom.
        chemical_potentials: mu by element, eV.
        shells: Neighbour shells of the defect to report.
        workdir: Run folder.
        progress: Called as progress(done, total, message).
    """
    start, centre = model.crystal, model.partition.centre
    own = [] if model.defect is None or model.defect.kind == "vacancy" else [model.defect.atom(len(start))]
    around = neighbour_shells(start, centre, shells=shells, exclude=own)
    first = around[0] if around else []  # none where the nearest atom is an image away
    require_stable_lattice(model)
    with model.open() as qmmm:
        qmmm.host.set_positions(rattled(start, around[:1], rattle, model.study.seed))
        outcome = relax(
            qmmm, fmax=fmax, max_qm_calls=max_qm_calls, algorithm=algorithm, trust_radius=trust_radius, progress=progress
        )
        energy, terms, reason = qmmm.energy(), qmmm.energy_terms(), qmmm.energy_missing_reason
        embedding = qmmm.embedding()
    formation, mu, formation_reason = formation_energy(
        model, energy, reason, chemical_potentials or {}, fmax=fmax, max_qm_calls=max_qm_calls, progress=progress
    )

    moved = displacements(start, outcome.crystal, centre)
    distance = distances_to_point(start.positions, centre, start.cell, start.pbc)
    shown = np.argsort(distance)[:5000]
    return DefectRelaxationResult(
        converged=outcome.converged,
        n_core=len(model.partition.core),
        n_qm_calls=len(outcome.trace) if model.engine is not None else 0,
        max_force_eV_per_A=outcome.max_force,
        fmax_eV_per_A=fmax,
        energy_eV=energy,
        energy_missing_reason=reason,
        energy_terms_eV=terms,
        formation_energy_eV=formation,
        formation_energy_missing_reason=formation_reason,
        chemical_potentials_eV=mu,
        relaxed_structure=stored_structure(outcome.crystal, model.partition, workdir, "relaxed.extxyz"),
        defect="" if model.defect is None else f"{model.defect.kind} ({model.defect.element})",
        defect_position_A=centre,
        volume_A3=start.volume,
        neighbour_displacements_A=shell_displacements(start, moved, centre, around),
        neighbour_pair_distances_before_A=pair_distances(start, first),
        neighbour_pair_distances_A=pair_distances(outcome.crystal, first),
        displacement_distance_A=distance[shown],
        displacement_norm_A=np.linalg.norm(moved, axis=1)[shown],
        displacement_label=model.partition.names()[shown],
        trace=outcome.trace,
        **embedding,
        **described(model),
    )


def figures(result: DefectRelaxationResult) -> dict:
    """Displacement against distance, convergence, neighbours."""
    from solidqmmm.plotting.relaxation import plot_convergence, plot_displacements, plot_neighbours

    drawn = {"displacements": plot_displacements, "neighbours": plot_neighbours}
    if result.n_qm_calls:
        drawn["convergence"] = plot_convergence
    return {name: plot(result).figure for name, plot in drawn.items()}
