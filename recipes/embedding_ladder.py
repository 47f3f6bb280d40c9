"""One defect, its quantum cluster embedded in every way: mechanical, electrostatic, polarizable; and in several sizes.

    E_f = E(defect) - E(perfect) + sum_i n_i mu_i,    E = E_host + E_QM[rho; phi] + E_pol - E_images

Beside the energies: what each term contributes, the charge of the cluster, induced dipoles, the gap between occupied and
empty states, electrons that spill onto cations outside, and the error of the potential. By what the rungs differ is what
the surroundings do to the cluster; by what clusters of several sizes differ is what is left of the boundary.

The study's coupling must be additive, and have what the highest rung needs: {scheme: polarizable, polarizabilities: ...}.
E_f of a charged defect is for electrons at zero energy: add q times the Fermi level.

Inputs (section `ladder`): embeddings, by default all that the coupling has what they need; clusters, a list of selections
such as [{hops: 1}, {radius: 3.0}], each in place of the study's region; ions fixed or relaxed to fmax (eV/angstrom);
chemical_potentials in eV by element.
Cost: two quantum calls for each rung, or two relaxations.
Reference: A. A. Sokol et al., Int. J. Quantum Chem. 99, 695 (2004); B. X. Shi et al., J. Chem. Phys. 156, 124704 (2022).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from solidqmmm import Model
from solidqmmm.procedures.building.describe import described
from solidqmmm.procedures.embedding_ladder import embedding_ladder, missing_potentials
from solidqmmm.results.embedding_ladder import EmbeddingLadderResult
from solidqmmm.system.study_sections import Selection

STUDY_SECTION = "ladder"


def _checked(selection: dict) -> dict:
    Selection(**selection)
    return selection


def run(
    *,
    model: Model,
    embeddings: Annotated[list[Literal["mechanical", "electrostatic", "polarizable"]], Field(min_length=1)] | None = None,
    clusters: Annotated[list[Annotated[dict, AfterValidator(_checked)]], Field(min_length=1)] | None = None,
    ions: Literal["fixed", "relaxed"] = "fixed",
    fmax: Annotated[float, Field(gt=0)] = 0.02,
    max_qm_calls: Annotated[int, Field(gt=0)] = 60,
    chemical_potentials: dict[str, float] | None = None,
    workdir: Path | None = None,  # noqa: ARG001 - engines keep their evaluations in its journal
    executor=None,
    progress=None,
) -> EmbeddingLadderResult:
    """Climbs the ladder.

    Args:
        model: What `build_model` makes of a study.
        embeddings: Which, in this order; by default all that the study's coupling has what they need.
        clusters: Selections (as region.core) in place of the study's region, its buffer left out; by default its own.
        ions: Whether the ions stay where they are, or both crystals are relaxed.
        fmax: Largest force of relaxed crystals, eV/angstrom.
        max_qm_calls: Largest number of quantum calls of a relaxation.
        chemical_potentials: mu by element, eV.
        workdir: Run folder.
        executor: Any concurrent.futures executor; the rungs are computed in it side by side.
        progress: Called as progress(done, total, message).
    """
    rungs = embedding_ladder(
        model,
        embeddings=embeddings,
        clusters=(None,) if clusters is None else [Selection(**selection) for selection in clusters],
        fmax=fmax if ions == "relaxed" else None,
        max_qm_calls=max_qm_calls,
        chemical_potentials=chemical_potentials,
        executor=executor,
        progress=progress,
    )
    said = described(model)
    return EmbeddingLadderResult(
        rungs=rungs,
        ions=ions,
        fmax_eV_per_A=fmax if ions == "relaxed" else None,
        chemical_potentials_eV=chemical_potentials or {},
        formation_energy_missing_reason=missing_potentials(model, chemical_potentials),
        defect=f"{model.defect.kind} ({model.defect.element})",
        defect_position_A=model.partition.centre,
        charge_e=model.study.coupling.charge,
        **{name: said[name] for name in ("n_atoms_host", "host", "engine", "warnings")},
    )


def figures(result: EmbeddingLadderResult) -> dict:
    """Energies by embedding and cluster, what the terms contribute, dipoles against distance."""
    from solidqmmm.plotting.embedding_ladder import plot_dipoles, plot_energies, plot_terms

    drawn = {"energies": plot_energies, "terms": plot_terms}
    if any(rung.largest_dipole_e_A is not None for rung in result.rungs):
        drawn["dipoles"] = plot_dipoles
    return {name: plot(result).figure for name, plot in drawn.items()}
