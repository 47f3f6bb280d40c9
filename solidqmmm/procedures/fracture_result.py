"""What ran of a crack, as a result."""

from __future__ import annotations

from solidqmmm.procedures.describe import described
from solidqmmm.procedures.fracture import FractureRun
from solidqmmm.results.fracture import FractureResult
from solidqmmm.system.crack import CrackSystem
from solidqmmm.system.study_crack import SavingSection


def shared(model, crack: CrackSystem) -> dict:
    """The fields that dynamic and quasi-static results have in common."""
    cleavage = crack.cleavage
    words = described(model)
    return {
        "crack": crack.described(),
        "elastic_tensor_GPa": cleavage.elastic_tensor_GPa,
        "surface_energy_J_per_m2": cleavage.surface_energy_J_per_m2,
        "surface_energy_unrelaxed_J_per_m2": cleavage.surface_energy_unrelaxed_J_per_m2,
        "G_griffith_J_per_m2": cleavage.griffith_G_J_per_m2,
        "K_griffith_MPa_sqrt_m": cleavage.griffith_K(crack.mode),
        "n_atoms_host": len(crack),
        "n_atoms_held": len(crack.held),
        "host": words["host"],
        "engine": words["engine"],
        "coupling": words["coupling"],
        "warnings": [*words["warnings"], *cleavage.warnings],
    }


def dynamic_result(model, crack: CrackSystem, run: FractureRun, saving: SavingSection) -> FractureResult:
    """The result of a run of dynamics."""
    dynamics, quantum = run.dynamics, run.region is not None
    late = dynamics.temperature_K[len(dynamics.temperature_K) // 2 :]
    rows = run.ledger.rows
    fields = shared(model, crack)
    fields["warnings"] += dynamics.warnings
    return FractureResult(
        mode="dynamic",
        tip=run.tip.rows,
        advanced=run.advanced,
        tip_speed_m_per_s=run.speed_m_per_s,
        mean_temperature_K=float(late.mean()) if len(late) else None,
        temperature_profile=run.profile.rows(),
        energy_ledger_eV={} if not rows else {name: value for name, value in rows[-1].items() if name != "time_ps"},
        energy_ledger_in_time=rows,
        maps=run.maps.maps(),
        snapshots=run.tip.snapshots,
        n_steps=dynamics.n_steps,
        timestep_fs=dynamics.timestep_fs,
        qm_calls=dynamics.n_qm_calls,
        n_qm_atoms=run.region.counts() if quantum else {},
        n_carvings=run.region.n_carved - 1 if quantum else 0,
        saving_scheme=saving.scheme,
        saving_steps=saving.steps,
        force_error_rms_eV_per_A=run.force_error_rms,
        correction_impulse_amu_A_per_ps=run.impulse,
        stadium=run.stadium,
        seconds=run.seconds,
        stop_reason=dynamics.stop_reason,
        trajectory_file=dynamics.trajectory_file,
        **fields,
    )
