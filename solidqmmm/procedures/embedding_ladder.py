"""One defect embedded in several ways: the same crystal, the same engine, another coupling and other clusters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from solidqmmm.coupling.additive import EMBEDDINGS
from solidqmmm.coupling.qmmm import QMMM
from solidqmmm.physics.geometry import distances_to_point
from solidqmmm.procedures.build import Model, build_model
from solidqmmm.procedures.building.embed import is_additive
from solidqmmm.procedures.building.embedding_requests import SHELLS_ANSWER
from solidqmmm.procedures.charged_defects.lattice_stability import require_stable_lattice
from solidqmmm.procedures.parallel.task_worker import ONE_AT_A_TIME
from solidqmmm.procedures.parallel.tasks import map_tasks
from solidqmmm.procedures.relax import relax
from solidqmmm.results.embedding_ladder import EmbeddingRung
from solidqmmm.system.study import Study
from solidqmmm.system.study_sections import AdditiveSection, Selection

_LARGEST_SHOWN = 5000  # dipoles, the nearest ones


def embedding_ladder(
    model: Model,
    *,
    embeddings: Iterable[str] | None = None,
    clusters: Iterable[Selection | None] = (None,),
    fmax: float | None = None,
    max_qm_calls: int = 60,
    chemical_potentials: dict[str, float] | None = None,
    executor=None,
    progress: Callable | None = None,
) -> list[EmbeddingRung]:
    """E(defect) - E(perfect) by every embedding of every cluster.

    Args:
        model: A `procedures.build.Model` with a defect and an additive coupling; its options hold on every rung that they
            have a meaning for.
        embeddings: Which; by default those that the study's coupling has what they need.
        clusters: Selections in place of the study's region, whose buffer is then left out; None for the study's own.
        fmax: Relaxes both crystals to this largest force, eV/angstrom; None leaves the ions where they are.
        max_qm_calls: Largest number of quantum calls of a relaxation.
        chemical_potentials: mu by element, eV; formation energies need those of what was added or removed.
        executor: Any concurrent.futures executor; the rungs are computed in it side by side.
        progress: Called as progress(done, total, message).

    Raises:
        ValueError: Without a defect or an additive coupling, or for an embedding that lacks polarizabilities or has shells.
        PolarizationCatastrophe: If ions are to move in a lattice that dipoles make unstable.
    """
    if model.defect is None:
        raise ValueError("an embedding ladder compares a defect with the perfect crystal: give the study a `defect`")
    if not is_additive(model.study):
        raise ValueError(
            "an embedding ladder needs an additive coupling: coupling: {scheme: electrostatic}, or {scheme: polarizable, "
            "polarizabilities: {...}} with all that its rungs need"
        )
    if "polarizable" in (embeddings or ()) and model.potential.shells:
        raise ValueError(SHELLS_ANSWER.format("ladder.embeddings: polarizable"))
    schemes = _schemes(model.study.coupling, embeddings)
    if fmax is not None and any(coupling.scheme == "polarizable" for coupling in schemes):
        require_stable_lattice(model)
    balance, mu = model.defect.particle_balance(), chemical_potentials or {}
    known = set(balance) <= set(mu)
    report = progress or (lambda *_: None)
    pairs = [(coupling, cluster) for cluster in clusters for coupling in schemes]
    options = (fmax, max_qm_calls, balance if known else None, mu)
    done: list[EmbeddingRung] = []

    def here(pair):
        with model.with_embedding(*pair) as there:
            report(len(done), len(pairs), f"{there.study.coupling.scheme}, {_formula(there)}")
            return _rung(there, *options)

    def told(rung: EmbeddingRung):
        done.append(rung)
        report(len(done), len(pairs), f"{rung.embedding}, {rung.formula_qm}")

    names = [_name(coupling, cluster) for coupling, cluster in pairs]
    if executor is None:
        return map_tasks(here, pairs, report=told, names=names, directory=model.log_dir)
    tasks = [RungTask(model.study_with_embedding(*pair), options, model.log_dir) for pair in pairs]
    return map_tasks(run_rung, tasks, executor=executor, report=told, names=names, directory=model.log_dir)


@dataclass(frozen=True, eq=False)
class RungTask:
    """One rung, as a worker in another process is told about it.

    Attributes:
        study: The study with the coupling and the core of this rung.
        options: fmax, max_qm_calls, particle balance (None where a chemical potential is missing), chemical potentials.
        workdir: Run folder, or None.
    """

    study: Study
    options: tuple
    workdir: Path | None = None


def run_rung(task: RungTask) -> EmbeddingRung:
    """One rung in a worker: the model is built anew. What its engine was asked before is read from the journal."""
    with ONE_AT_A_TIME, build_model(task.study, log_dir=task.workdir) as model:
        return _rung(model, *task.options)


def _name(coupling: AdditiveSection, cluster: Selection | None) -> str:
    """Such as 'mechanical', or 'mechanical, hops 1'."""
    if cluster is None:
        return coupling.scheme
    said = {key: value for key, value in cluster.model_dump().items() if value is not None}
    words = ", ".join(f"{key} {value}" for key, value in said.items())
    return f"{coupling.scheme}, {words if len(words) < 40 else cluster.kind}"


def missing_potentials(model: Model, chemical_potentials: dict[str, float] | None) -> str | None:
    """Why there are no formation energies, or None."""
    missing = sorted(set(model.defect.particle_balance()) - set(chemical_potentials or {}))
    return f"the chemical potential of {', '.join(missing)} is not given: ladder.chemical_potentials" if missing else None


def _schemes(asked: AdditiveSection, embeddings) -> list[AdditiveSection]:
    """The study's coupling section for every embedding, without what that has no use for."""
    if embeddings is None:
        embeddings = EMBEDDINGS if asked.polarizabilities else EMBEDDINGS[:2]
    made = []
    for scheme in embeddings:
        if scheme == "polarizable" and not asked.polarizabilities:
            raise ValueError(
                "the ladder has a polarizable rung, and the study has no polarizabilities: give coupling: {scheme: "
                "polarizable, polarizabilities: {...}}, or ladder.embeddings: [mechanical, electrostatic]"
            )
        fields = asked.model_dump() | {"scheme": scheme}
        if scheme != "polarizable":
            fields["polarizabilities"] = None
        if scheme == "mechanical":
            fields |= {"cores": None, "boundary_charges": "none"}
        made.append(AdditiveSection(**fields))
    return made


def _rung(model: Model, fmax, max_qm_calls, balance, mu) -> EmbeddingRung:
    with model.open() as qmmm:
        converged, calls, wall = _settled(qmmm, fmax, max_qm_calls)
        energy, terms, said = qmmm.energy(), qmmm.energy_terms(), qmmm.embedding()
        info, force = qmmm.coupling.quantum.last.info, qmmm.largest_force()[0]
    with model.open_perfect() as perfect:
        also, more, _ = _settled(perfect, fmax, max_qm_calls)
        reference, terms_perfect = perfect.energy(), perfect.energy_terms()
        info_perfect = perfect.coupling.quantum.last.info
    difference = float(energy - reference)
    formation = None if balance is None else difference - sum(n * mu[element] for element, n in balance.items())
    return EmbeddingRung(
        embedding=model.study.coupling.scheme,
        n_atoms_qm=len(model.partition.quantum),
        formula_qm=_formula(model),
        region_charge_e=said["region_charge_e"],
        converged=converged and also,
        max_force_eV_per_A=force,
        energy_eV=energy,
        energy_perfect_eV=reference,
        energy_difference_eV=difference,
        formation_energy_eV=formation,
        energy_terms_eV={name: float(value) for name, value in terms.items()},
        energy_terms_perfect_eV={name: float(value) for name, value in terms_perfect.items()},
        gap_eV=info.get("gap_eV"),
        gap_perfect_eV=info_perfect.get("gap_eV"),
        spill_out_e=said.get("spill_out_e"),
        region_potential_rms_error_eV=said["region_potential_rms_error_eV"],
        scf_iterations=said.get("scf_iterations"),
        n_qm_calls=calls + more,
        wall_s=info.get("seconds", wall),
        **_dipoles(model, said.get("dipoles_e_A")),
    )


def _settled(qmmm: QMMM, fmax, max_qm_calls) -> tuple[bool, int, float]:
    """Whether the crystal is where it should be, the quantum calls this took, and the seconds of one."""
    started = perf_counter()
    if fmax is None:
        qmmm.energy()
        return True, 1, perf_counter() - started
    outcome = relax(qmmm, fmax=fmax, max_qm_calls=max_qm_calls)
    return outcome.converged, len(outcome.trace), (perf_counter() - started) / len(outcome.trace)


def _dipoles(model: Model, dipoles) -> dict:
    if dipoles is None:
        return {}
    crystal, norms = model.crystal, np.linalg.norm(dipoles, axis=1)
    distance = distances_to_point(crystal.positions, model.partition.centre, crystal.cell, crystal.pbc)
    around = np.setdiff1d(np.arange(len(crystal)), model.partition.quantum)
    shown = around[np.argsort(distance[around])][:_LARGEST_SHOWN]
    return {
        "largest_dipole_e_A": float(norms.max()),
        "total_dipole_e_A": float(np.linalg.norm(dipoles.sum(axis=0))),
        "dipole_distance_A": distance[shown],
        "dipole_symbol": np.array(crystal.symbols)[shown],
        "dipole_norm_e_A": norms[shown],
    }


def _formula(model: Model) -> str:
    """Of the quantum atoms around the defect."""
    return model.cluster.to_atoms().symbols[: model.cluster.n_quantum].get_chemical_formula("metal")
