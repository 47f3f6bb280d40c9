"""A crack under load: a quantum tip that moves, in a host that carries its elastic field.

    K-field:  u(r, theta) = K sqrt(r) f(theta),   G = K^2/E',   Griffith: G = 2 gamma
    strip:    G = 1/2 h C' strain^2

Elastic constants, surface energy and ideal strength are the host's own, in the orientation of the crack. `mode: dynamic`:
the crystal is loaded in steps or at a rate, the region of `qm` follows the tip, a stadium at the boundary takes up waves,
and `saving` spares quantum calls (multiple time steps, or springs learnt on the fly). `mode: quasistatic`: the load is
raised and lowered by increments with relaxation, which gives the loads at which the crack opens and closes (lattice
trapping).

Inputs, each a section of the study: `crack` (system, plane, front, mode, load in K [MPa sqrt(m)], G [J/m^2] or strain,
size_A), `stadium` (width_A, gamma_max_per_ps; auto from the host's speeds of sound), `dynamics` (temperature_K, time_ps,
timestep_fs), `saving` (scheme none, respa or lotf; steps), `mode`. Without `qm` the host alone cracks.
Cost: dynamics: time_ps/timestep_fs steps of the host, as many quantum calls without `saving`, a tenth with lotf;
quasi-static: a relaxation of the region at each load.
Reference: G. C. Sih, P. C. Paris and G. R. Irwin, Int. J. Fract. Mech. 1, 189 (1965); N. Bernstein, J. R. Kermode and G.
Csanyi, Rep. Prog. Phys. 72, 026501 (2009); S. Qu et al., Modelling Simul. Mater. Sci. Eng. 13, 1101 (2005).
"""

from __future__ import annotations

from pathlib import Path

from solidqmmm import Model
from solidqmmm.procedures.cracks.crack_system import crack_system
from solidqmmm.procedures.cracks.fracture import run_fracture
from solidqmmm.procedures.cracks.fracture_result import dynamic_result, quasistatic_result
from solidqmmm.procedures.cracks.quasistatic_run import run_quasistatic
from solidqmmm.results.fracture import FractureResult
from solidqmmm.system.study_crack import (
    CrackSection,
    DynamicsSection,
    Mode,
    SavingSection,
    Stadium,
    StadiumSection,
)

STUDY_SECTIONS = ("crack", "stadium", "dynamics", "saving", "mode")
PLACES_REGION = True

AUTO, USUAL, EVERY_STEP = StadiumSection(), DynamicsSection(), SavingSection()


def run(
    *,
    model: Model,
    crack: CrackSection,
    stadium: Stadium | None = AUTO,
    dynamics: DynamicsSection = USUAL,
    saving: SavingSection = EVERY_STEP,
    mode: Mode = "dynamic",
    workdir: Path | None = None,
    progress=None,
) -> FractureResult:
    """Loads a crack in the crystal of the model.

    Args:
        model: What `build_model` makes of a study.
        crack: Geometry and load.
        stadium: The thermostat at the boundary; none (`null`): no thermostat.
        dynamics: Temperature, time and time step of a dynamic run.
        saving: How quantum calls are saved.
        mode: 'dynamic' or 'quasistatic'.
        workdir: Run folder, with checkpoint and trajectory.
        progress: Called as progress(done, total, message).
    """
    system = crack_system(model, **crack.geometry(), folder=workdir and workdir / "host", progress=progress)
    if mode == "quasistatic":
        found = run_quasistatic(model, system, crack.load, workdir=workdir, progress=progress)
        return quasistatic_result(model, system, found)
    found = run_fracture(model, system, crack, stadium, dynamics, saving, workdir=workdir, progress=progress)
    return dynamic_result(model, system, found, saving)


def estimate(
    *, model: Model, crack, stadium=AUTO, dynamics=USUAL, saving=EVERY_STEP, mode="dynamic", ranks: int | None = None
) -> list[tuple[str, str]]:
    """Rows of a dry run: atoms, loads in Griffith's, steps, quantum calls, time; what a step takes on `ranks` ranks."""
    from solidqmmm.procedures.cracks.fracture_estimate import estimated

    return estimated(model, crack, dynamics, saving, mode, ranks, stadium)


def forecast(*, model: Model, crack, ranks: int, saving=EVERY_STEP, mode="dynamic", **_):
    """What a step takes on `ranks` ranks (`procedures.parallel.rank_forecast.Forecast`), for split ranks."""
    from solidqmmm.procedures.cracks.fracture_estimate import forecast

    return forecast(model, crack, saving, mode, ranks)


def figures(result: FractureResult) -> dict:
    """The tip against time or load, snapshots, maps of stress and temperature, the energy ledger."""
    from solidqmmm.plotting.fracture import (
        plot_ledger,
        plot_maps,
        plot_snapshots,
        plot_temperature_profile,
        plot_tip,
    )

    drawn = {"tip": plot_tip(result).figure}
    if result.snapshots:
        drawn["snapshots"] = plot_snapshots(result)
    if result.maps:
        drawn["maps"] = plot_maps(result)
    if result.temperature_profile:
        drawn["temperature_profile"] = plot_temperature_profile(result).figure
    if result.energy_ledger_in_time:
        drawn["energy_ledger"] = plot_ledger(result).figure
    return drawn
