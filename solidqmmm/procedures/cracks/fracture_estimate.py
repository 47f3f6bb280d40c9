"""What a study of a crack will cost, before it is run."""

from __future__ import annotations

from math import ceil
from time import perf_counter

from solidqmmm.engines.journal import without_journal
from solidqmmm.engines.lammps_host import LammpsHost
from solidqmmm.procedures.cracks.crack_system import crack_system
from solidqmmm.procedures.cracks.fracture import LOOK, thermostat_of, tip_region
from solidqmmm.procedures.cracks.track_tip import TipTracker
from solidqmmm.procedures.parallel.rank_forecast import (
    Forecast,
    in_seconds,
    measured_host,
    measured_quantum,
    seconds_of_call,
    without_engine,
)
from solidqmmm.system.study_crack import CrackSection, DynamicsSection, SavingSection, StadiumSection


def estimated(
    model,
    crack: CrackSection,
    dynamics: DynamicsSection,
    saving: SavingSection,
    mode: str,
    ranks: int | None = None,
    stadium: StadiumSection | None = None,
) -> list[tuple[str, str]]:
    """Rows of label and value: sizes, loads in Griffith's, steps, quantum calls and seconds; a step on `ranks` if asked.

    Makes the crack system, and measures a step of the host and (where it is not quick) a few SCF iterations.

    Raises:
        ValueError: For a crack that cannot be made, a load that the crystal cannot bear, a stadium that does not fit.
    """
    system, crystal, loads = _cracked(model, crack)
    shares = ", ".join(f"{load.K_MPa_sqrt_m / system.griffith.K_MPa_sqrt_m:.2f}" for load in loads)
    seconds = _seconds_of_host(model, crystal)
    rows = [
        ("atoms", f"{len(system)} ({len(system.held)} held)"),
        ("Griffith", f"K {system.griffith.K_MPa_sqrt_m:.4f} MPa sqrt(m), G {system.griffith.G_J_per_m2:.4f} J/m2"),
        ("loads", f"K = {shares} of Griffith's"),
        ("host", f"{in_seconds(seconds)} per step"),
    ]
    stride = _stride(saving)
    steps = stride * max(1, round(dynamics.time_ps * 1e3 / dynamics.timestep_fs / stride))
    if mode == "dynamic":
        rows.append(("steps", f"{steps}, {in_seconds(steps * seconds)} of the host"))
        _, said = thermostat_of(system, stadium, dynamics, model)
        if said:
            width, gamma = said["width_A"], said["gamma_max_per_ps"]
            rows.append(("stadium", f"{width:.1f} A wide, up to {gamma:.3g}/ps"))
    correction, partition = _at_the_tip(model, system, crystal, saving)
    foretold = None if ranks is None else _forecast(model, system, crystal, correction, partition, saving, mode, ranks)
    if correction is None:
        return [*rows, ("quantum atoms", "none: the host alone"), *([] if foretold is None else foretold.rows())]
    cluster = correction.cluster
    core, caps = int(cluster.core.sum()), len(cluster.caps)
    rows.append(("quantum atoms", f"{cluster.n_quantum} ({core} core) and {caps} caps at the start"))
    calls = ceil(steps / saving.steps)
    words = f"{calls} and one for each carving" if mode == "dynamic" else "some tens at each load"
    if foretold is None or foretold.quantum is None:
        each = seconds_of_call(without_journal(model.engine), cluster.to_atoms())
    else:
        each = saving.steps * foretold.quantum.here
    total = f", about {in_seconds(calls * each)} in all" if each and mode == "dynamic" else ""
    rows.append(("quantum calls", words if each is None else f"{words}; about {in_seconds(each)} each{total}"))
    return rows if foretold is None else [*rows, *foretold.rows()]


def forecast(model, crack: CrackSection, saving: SavingSection, mode: str, ranks: int) -> Forecast:
    """What a step takes on `ranks` ranks, the region as it is at the start; collective.

    Raises:
        ValueError: As `estimated`.
    """
    system, crystal, _ = _cracked(model, crack)
    correction, partition = _at_the_tip(model, system, crystal, saving)
    return _forecast(model, system, crystal, correction, partition, saving, mode, ranks)


def _cracked(model, crack: CrackSection):
    """The crack system, the crystal under the first load, and all loads."""
    system = crack_system(model, **crack.geometry())
    loads = [system.load(**{crack.load.measure: value}) for value in crack.load.values]
    return system, system.cracked(loads[0]), loads


def _stride(saving: SavingSection) -> int:
    return LOOK if saving.scheme == "none" else saving.steps * ceil(LOOK / saving.steps)


def _at_the_tip(model, system, crystal, saving):
    """The correction at the start and who is quantum there; None for the host alone."""
    if model.engine is None:
        return None, None
    region = tip_region(model, system, TipTracker(system, rules=model.bond_rules), every=_stride(saving))
    return region.select(crystal, frozen=system.held)


def _forecast(model, system, crystal, correction, partition, saving, mode, ranks) -> Forecast:
    coupling = None if correction is None else without_engine(model, crystal, partition)
    host = measured_host(crystal, model.potential, frozen=system.held, coupling=coupling)
    if correction is None:
        return Forecast(ranks, host, None)
    quantum = measured_quantum(model.engine, correction.cluster.to_atoms())
    if quantum is None:
        return Forecast(ranks, host, None, "this engine has no calibration")
    return Forecast(ranks, host, quantum.spread(saving.steps), _no_overlap(mode, saving))


def _no_overlap(mode: str, saving: SavingSection) -> str:
    """Why no quantum call can be made ahead; '' where it can."""
    if mode != "dynamic":
        return "a relaxation asks at positions that are not known beforehand"
    if saving.scheme == "respa":
        return f"with `saving: respa` a quantum call is known one of its {saving.steps} steps ahead"
    if saving.scheme != "none":
        return f"with `saving: {saving.scheme}` the positions of the next call are not known beforehand"
    return ""


def _seconds_of_host(model, crystal) -> float:
    with LammpsHost(crystal, model.potential) as host:
        host.evaluate()
        begin = perf_counter()
        host.run(5, pre=False)
        return (perf_counter() - begin) / 5
