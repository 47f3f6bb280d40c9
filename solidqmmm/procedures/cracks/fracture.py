"""A crack under load in molecular dynamics: LAMMPS moves everything, a quantum region follows the tip, a stadium absorbs.

1. The cracked crystal under its first load is relaxed with the host.
2. Velocities at twice the temperature: a crystal at rest takes half of the energy up.
3. Along the run, between steps: the load (`crack_load`), the quantum region (`tip_region`), the tip's history, maps,
   temperature profile and energy ledger, all of them in the checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from time import perf_counter

import numpy as np

from solidqmmm.coupling.qmmm import QMMM
from solidqmmm.physics.cracks.load_schedule import LoadSchedule
from solidqmmm.physics.elastic.sound_waves import sound_speeds
from solidqmmm.physics.stadium import best_damping, disc_damping, strip_damping, suggested
from solidqmmm.procedures.cracks.crack_load import CrackLoad
from solidqmmm.procedures.cracks.crack_maps import CrackMaps
from solidqmmm.procedures.cracks.tip_history import (
    TipHistory,
    advanced,
    critical_load,
    speed_A_per_ps,
    tip_of,
)
from solidqmmm.procedures.cracks.tip_region import TipRegion, coupled_by, place_of
from solidqmmm.procedures.cracks.track_tip import TipTracker
from solidqmmm.procedures.dynamics import run_dynamics
from solidqmmm.procedures.motion.energy_ledger import EnergyLedger
from solidqmmm.procedures.motion.impulses import Respa
from solidqmmm.procedures.motion.lotf import Lotf
from solidqmmm.procedures.motion.stadium_thermostat import Stadium
from solidqmmm.procedures.motion.temperature_profile import TemperatureProfile
from solidqmmm.procedures.motion.thermostats import NVE
from solidqmmm.procedures.records import Records, fingerprint
from solidqmmm.results.dynamics import DynamicsResult
from solidqmmm.system.crack import CrackSystem
from solidqmmm.system.study_crack import CrackSection, DynamicsSection, SavingSection, StadiumSection

LOOK = 10  # steps between looks at load, tip and region, rounded up to whole strides of the saving scheme
_ROWS = 250
_SNAPSHOTS = 4
_CHECKPOINTS = 50
_LARGEST_TRAJECTORY = 2_000_000  # atoms in all frames
_RELAXED = 0.01  # eV/angstrom
_HYSTERESIS = 2.0  # angstrom


@dataclass(frozen=True, eq=False)
class FractureRun:
    """A crack that was run.

    Attributes:
        dynamics: Time series.
        tip: Its history.
        ledger: Rows of the energy ledger.
        profile: Temperature against distance from the tip.
        maps: Stress and temperature on a grid.
        region: Where the quantum region was; None for the host alone.
        force_error_rms: Of the saving scheme in eV/angstrom, or None.
        impulse: Momentum given by the correction in amu angstrom/ps, shape=(3,), or None.
        stadium: What is said of the thermostat.
        seconds: Wall time by stage.
    """

    dynamics: DynamicsResult
    tip: TipHistory
    ledger: EnergyLedger
    profile: TemperatureProfile
    maps: CrackMaps
    region: TipRegion | None
    force_error_rms: float | None
    impulse: np.ndarray | None
    stadium: dict
    seconds: dict

    @property
    def advanced(self) -> bool:
        """Whether the tip went ahead by more than one period of the crystal."""
        return advanced(self.tip.rows, self._period)

    @property
    def critical_load(self) -> dict | None:
        """Load at which the tip started to run for good, or None."""
        return critical_load(self.tip.rows, self._period)

    @property
    def _period(self) -> float:
        """Of the crystal along x, angstrom."""
        tracker = self.tip.tracker
        return tracker.system.axes.growth_period or 2 * tracker.bond_spacing

    @property
    def speed_m_per_s(self) -> float | None:
        """Mean speed of the tip in the second half."""
        speed = speed_A_per_ps(self.tip.rows)
        return None if speed is None else 100.0 * speed


def run_fracture(
    model,
    crack: CrackSystem,
    section: CrackSection,
    stadium: StadiumSection | None,
    dynamics: DynamicsSection,
    saving: SavingSection,
    *,
    workdir: Path | None = None,
    progress: Callable | None = None,
) -> FractureRun:
    """Runs dynamics of a crack.

    Args:
        model: A `procedures.build.Model` with a host; with an engine, its region is the sphere or cylinder around the tip.
        crack: The crack system.
        section, stadium, dynamics, saving: What the study asks for; without a stadium nothing takes heat out.
        workdir: Run folder, with trajectory and checkpoint; a run that is found there goes on.
        progress: Called as progress(done, total, message).

    Raises:
        ValueError: For loads beyond the ideal strength, a stadium wider than the host, a region or scheme that does not fit.
        EngineError: If an engine fails; the run can go on.
    """
    if model.engine is None and saving.scheme != "none":
        raise ValueError(
            f"`saving: {{scheme: {saving.scheme}}}` spares quantum calls, and the host alone makes none: give `qm` and "
            "`region`, or leave `saving` out"
        )
    started = perf_counter()
    dt = dynamics.timestep_fs
    stride = saving.steps
    look = stride * ceil(LOOK / stride)
    steps = look * max(1, round(dynamics.time_ps * 1e3 / dt / look))
    schedule = LoadSchedule.through(
        section.load.values,
        time_ps=steps * dt * 1e-3,
        rate_per_ps=section.load.rate_per_ps,
        hold_ps=section.load.hold_ps,
    )
    tracker = TipTracker(crack, rules=model.bond_rules)
    load = CrackLoad(
        crack,
        section.load.measure,
        schedule,
        tip=tip_of(tracker),
        applied_to=section.load.applied_to,
        every=look,
    )
    heat, said = thermostat_of(crack, stadium, dynamics, model)
    crystal = relaxed_start(model, crack, load, workdir, progress)
    stages = {"preparation": perf_counter() - started}

    every = look * max(1, ceil(steps / look / _ROWS))
    sparse = look * max(1, ceil(steps / look / 25))
    half = steps // 2
    history = TipHistory(
        tracker, load, margin=margin_of(crack, said), every=every,
        snapshot_steps=[round(k * steps / (_SNAPSHOTS - 1)) for k in range(_SNAPSHOTS)],
    )  # fmt: skip
    ledger = EnergyLedger(load, every=every)
    profile = TemperatureProfile(_Centre(tracker, history), every=look, after_step=half)
    maps = CrackMaps(crack.cleavage.unit.volume / len(crack.cleavage.unit), every=sparse, after_step=half)
    region, correction, partition = None, None, crack.partition
    if model.engine is not None:
        region = tip_region(model, crack, tracker, every=look)
        correction, partition = region.select(crystal, frozen=crack.held)
    stepper = {"none": lambda: None, "respa": lambda: Respa(stride), "lotf": lambda: Lotf(stride)}[saving.scheme]()
    attendants = [load, *(() if region is None else (region,)), history, ledger, profile, maps]
    files = {}
    if workdir is not None:
        files = {
            "checkpoint": Path(workdir) / "checkpoint.npz",
            "checkpoint_every": every * ceil(steps / every / _CHECKPOINTS),
            "resume": True,
            "trajectory": Path(workdir) / "trajectory.xyz",
            "frame_every": every * ceil(steps / every / int(np.clip(_LARGEST_TRAJECTORY // len(crack), 2, 50))),
        }
    T = dynamics.temperature_K
    with QMMM(crystal, model.potential, correction, partition=partition) as qmmm:
        result = run_dynamics(
            qmmm,
            steps=steps,
            timestep_fs=dt,
            thermostat=heat,
            initial_temperature_K=2 * T if T > 0 else None,
            attendants=attendants,
            stepper=stepper,
            callbacks=[history.at_start, ledger.at_start],
            seed=model.study.seed,
            every=every,
            progress=progress,
            **files,
        )
    stages |= {"run": perf_counter() - started - stages["preparation"], "engine": result.engine_s or 0.0}
    error = None
    if saving.scheme == "respa":
        error = stepper.error.rms
    elif saving.scheme == "lotf":
        error = stepper.errors.prediction.rms
    return FractureRun(
        result, history, ledger, profile, maps, region, error, result.correction_impulse_amu_A_per_ps, said, stages
    )


# --- parts --------------------------------------------------------------------------------------------------------


class _Centre:
    """The tip of the last row, for what counts distances from it."""

    def __init__(self, tracker: TipTracker, history: TipHistory):
        self.tracker, self.history = tracker, history

    def __call__(self, run) -> np.ndarray:
        del run
        for row in reversed(self.history.rows):
            if row["x_A"] is not None:
                return np.array([row["x_A"], row["y_A"], 0.0])
        return np.array([*self.tracker.system.tip, 0.0])


def relaxed_start(model, crack: CrackSystem, load: CrackLoad, workdir, progress=None):
    """The cracked crystal under its first load, relaxed with the host; kept in the run folder."""
    facts = {"crack": crack.described(), "load": [load.measure, load.value]}
    records = Records(None if workdir is None else Path(workdir) / "host", fingerprint(model, fracture=facts))
    found = records.read("start")
    crystal = crack.cracked(load.load)
    if found is not None:
        return crystal.with_positions(found["positions"])
    if progress is not None:
        progress(0, 1, "relaxing the loaded crack with the host")
    with QMMM(crystal, model.potential, partition=crack.partition) as qmmm:
        qmmm.host.minimize(fmax=_RELAXED, max_iterations=2000)
        positions = qmmm.host.positions()
    records.write("start", positions=positions)
    return crystal.with_positions(positions)


def tip_region(model, crack: CrackSystem, tracker: TipTracker, *, every: int) -> TipRegion:
    """The moving quantum region of a study.

    Raises:
        ValueError: Unless the core is given by a radius and the buffer by hops or a radius.
    """
    region = model.study.region
    if region.core.kind != "radius":
        raise ValueError(
            "the quantum region follows the tip: give `region: {core: {radius: 6.0}, buffer: {hops: 2}}` (angstrom)"
        )
    if region.centre is not None:
        raise ValueError("`region.centre` is the crack tip here: leave it out")
    inner = region.core.radius
    buffer = region.buffer
    hops = None if buffer is None else buffer.hops
    width = None if buffer is None else buffer.radius
    if hops is None and width is None:
        hops = 0
    along_front = 2 in model.study.caps.periodic_axes
    return TipRegion(
        place_of(tracker, z=0.5 * float(crack.perfect.cell[2, 2])),
        coupled_by(model),
        radius_in=inner,
        radius_out=region.leave_radius or inner + _HYSTERESIS,
        buffer_hops=hops,
        buffer_radius=width,
        shape="cylinder" if along_front else "sphere",
        bond_rules=model.bond_rules,
        every=every,
    )


def thermostat_of(crack: CrackSystem, stadium: StadiumSection | None, dynamics: DynamicsSection, model):
    """The thermostat, and what a result says about it: `width_A`, `gamma_max_per_ps`, `reflection`, `range_THz`.

    The stadium of a strip lies at its two ends, that of a cylinder inside its rim.

    Raises:
        ValueError: If the host is too small for it.
    """
    if stadium is None:
        return NVE(), {}
    width, gamma, said = stadium.width_A, stadium.gamma_max_per_ps, {}
    if "auto" in (width, gamma):
        found = _suggested(crack, width, model)
        said = {"reflection": found.reflection, "range_THz": list(found.range_THz)}
        width, gamma = found.width if width == "auto" else width, found.gamma_max if gamma == "auto" else gamma
    positions = crack.perfect.positions
    if crack.kind == "cylinder":
        centre = np.array([*crack.tip, 0.0])
        gammas = disc_damping(positions, width=width, gamma_max=gamma, centre=centre, radius=crack.free_size)
    else:
        gammas = strip_damping(positions, width=width, gamma_max=gamma)
    if stadium.profile == "uniform":
        gammas = np.where(gammas > 0, gamma, 0.0)
    said = {"width_A": float(width), "gamma_max_per_ps": float(gamma), "profile": stadium.profile, **said}
    return Stadium(dynamics.temperature_K, gammas), said


def _suggested(crack: CrackSystem, width, model):
    """The stadium by the host's speeds of sound, planes as far apart as atoms are."""
    unit = crack.cleavage.unit
    masses = dict(zip(model.potential.species, model.potential.masses(), strict=True))
    density = sum(masses[symbol] for symbol in unit.symbols) / unit.volume
    from ase.units import GPa

    # Waves reach the ends of a strip along x, the rim of a cylinder along all directions in the plane.
    angles = np.radians(np.arange(0, 180, 15)) if crack.kind == "cylinder" else np.zeros(1)
    directions = np.column_stack([np.cos(angles), np.sin(angles), np.zeros(len(angles))])
    speeds = sound_speeds(crack.cleavage.elastic_tensor / GPa, density, directions)[0].ravel()
    spacing = (unit.volume / len(unit)) ** (1 / 3)
    if width != "auto":
        return best_damping(speeds, width=width, spacing=spacing)
    room = crack.free_size / 2 if crack.kind == "cylinder" else np.ptp(crack.perfect.positions[:, 0]) / 4
    try:
        return suggested(speeds, spacing=spacing, room=float(room))
    except ValueError as error:
        raise ValueError(f"{error}; or give the width: `stadium: {{width_A: {0.9 * room:.0f}}}`") from None


def margin_of(crack: CrackSystem, said: dict) -> float:
    """How near the tip may come to the held atoms or the end: to the stadium, or twice the range of the potential."""
    return max(2 * crack.cleavage.cutoff, said.get("width_A", 0.0))
