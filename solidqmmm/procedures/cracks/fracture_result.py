"""What ran of a crack, as a result."""

from __future__ import annotations

from solidqmmm.procedures.building.describe import described
from solidqmmm.procedures.cracks.fracture import FractureRun
from solidqmmm.procedures.cracks.quasistatic_run import QuasistaticRun
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
        critical_load=run.critical_load,
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
        split_ranks=dynamics.split_ranks,
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


def quasistatic_result(model, crack: CrackSystem, run: QuasistaticRun) -> FractureResult:
    """The result of a crack whose load was raised and lowered."""
    fields = shared(model, crack)
    fields["warnings"] += run.warnings
    one = "the study asks for no {} load: give the ends of a range, as in load: {{K: [0.4, 1.2]}}"
    plus, minus = run.raised, run.lowered
    return FractureResult(
        mode="quasistatic",
        tip=run.rows(),
        advanced=run.advanced,
        K_plus_MPa_sqrt_m=None if plus is None else plus.K_MPa_sqrt_m,
        K_plus_missing_reason=one.format("higher") if plus is None else plus.reason,
        K_minus_MPa_sqrt_m=None if minus is None else minus.K_MPa_sqrt_m,
        K_minus_missing_reason=one.format("lower") if minus is None else minus.reason,
        snapshots=run.snapshots,
        qm_calls=run.n_qm_calls,
        n_qm_atoms=run.n_qm_atoms,
        n_carvings=run.n_carvings,
        seconds={"relaxation": run.seconds},
        stop_reason=run.stop_reason,
        **fields,
    )
