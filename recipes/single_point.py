"""One evaluation of a hybrid crystal: energy by term, forces, stress.

    E = E_MM(all) + Delta E(region),   F = F_MM(all) + Delta F(region),   sigma = -(W_MM + Delta W) / V

It is how couplings are compared term by term. A coupling that has no energy (force mixing) has none here either, and says
why.

Inputs: a study with any coupling, or without `qm` (the host alone). No options.
Cost: one quantum call.
Reference: N. Bernstein, J. R. Kermode and G. Csanyi, Rep. Prog. Phys. 72, 026501 (2009).
"""

from __future__ import annotations

from pathlib import Path

from ase.units import GPa

from solidqmmm import Model
from solidqmmm.procedures.building.describe import described, stored_structure
from solidqmmm.results.single_point import SinglePointResult

STUDY_SECTION = None


def run(*, model: Model, workdir: Path | None = None, progress=None) -> SinglePointResult:
    """Evaluates the crystal of the model as it stands.

    Args:
        model: What `build_model` makes of a study.
        workdir: Folder for the structure of large crystals.
        progress: Called as progress(done, total, message).

    Returns:
        Energy and its terms in eV, forces in eV/angstrom, stress in GPa.
    """
    with model.open() as qmmm:
        forces = qmmm.forces()
        stress = qmmm.stress()
        result = SinglePointResult(
            energy_eV=qmmm.energy(),
            energy_missing_reason=qmmm.energy_missing_reason,
            energy_terms_eV=qmmm.energy_terms(),
            forces_eV_per_A=forces,
            stress_GPa=None if stress is None else stress / GPa,
            stress_missing_reason=qmmm.stress_missing_reason,
            partition=model.partition.names().tolist(),
            structure=stored_structure(model.crystal, model.partition, workdir, "structure.extxyz"),
            **qmmm.embedding(),
            **described(model),
        )
    if progress is not None:
        progress(1, 1, "evaluated")
    return result
