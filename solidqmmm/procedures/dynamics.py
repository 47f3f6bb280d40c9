"""Molecular dynamics of the hybrid crystal: LAMMPS integrates, the correction is called once per step.

    velocity Verlet:  v += dt/2 F/m,   x += dt v,   F = F_MM(all) + Delta F(region),   v += dt/2 F/m

Where the forces have no energy (force mixing), a pseudo-energy follows from the work along the path,

    U(t) - U(0) = E_MM(t) - E_MM(0) - sum_k 1/2 (Delta F_k + Delta F_{k+1}) . (x_{k+1} - x_k)

with the host's own potential energy and a trapezoid over the steps for the correction, which touches the region's atoms
only. It is -int F dx to second order in the time step; U plus the kinetic energy is constant in NVE as far as the trapezoid
is exact. It belongs to this path alone: on a closed path it need not come back to zero.

A checkpoint makes the run go on as if it had not been interrupted. At each one LAMMPS is set up afresh from what is in the
file (neighbour lists included, and for Langevin the random numbers start from a seed derived from (seed, step)), so that
the uninterrupted and the resumed run do the same arithmetic: the host alone is equal to the last bit on one rank, a hybrid
to rounding (a new engine may place its cluster differently; below 1e-14 angstrom after ten steps). The variables of a
Nose-Hoover chain cannot be set from outside LAMMPS and start from rest, which the result says.

Where a correction fails, LAMMPS has moved the atoms already: x of the failing step and the velocities half a step before it
are saved, and a resume makes the second half of that step. Nothing but the failed call is lost; Langevin noise goes on
from another seed. Sources: L. Verlet, Phys. Rev. 159, 98 (1967); T. Schneider and E. Stoll, Phys. Rev. B 17, 1302 (1978);
N. Bernstein, J. R. Kermode and G. Csanyi, Rep. Prog. Phys. 72, 026501 (2009).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from solidqmmm.coupling.qmmm import QMMM
from solidqmmm.errors import EngineError, SolidQMMMError
from solidqmmm.physics.thermal_velocities import thermal_velocities
from solidqmmm.procedures.checkpoint import DynamicsState
from solidqmmm.procedures.describe import engine_in_words
from solidqmmm.procedures.meter import Meter
from solidqmmm.procedures.trajectory import Trajectory
from solidqmmm.results.dynamics import DynamicsResult

logger = logging.getLogger(__name__)

ENSEMBLES = ("nve", "nvt", "langevin")
_COLUMNS = ("step", "temperature", "potential", "kinetic")
_LARGEST_SEED = 900_000_000  # LAMMPS's limit


def run_dynamics(
    qmmm: QMMM,
    *,
    steps: int,
    timestep_fs: float,
    ensemble: str = "nve",
    temperature_K: float | None = None,
    initial_temperature_K: float | None = None,
    damping_fs: float = 100.0,
    seed: int = 1,
    every: int = 10,
    trajectory=None,
    checkpoint=None,
    checkpoint_every: int | None = None,
    resume: bool = False,
    callbacks: Iterable[Callable[[int, QMMM], object]] = (),
    progress: Callable[[int, int, str], object] | None = None,
) -> DynamicsResult:
    """Runs molecular dynamics at fixed cell.

    Args:
        qmmm: The live hybrid crystal; it is left where the run ended.
        steps: Number of steps in all, those before a resume included.
        timestep_fs: Time step in fs.
        ensemble: "nve"; "nvt" (Nose-Hoover chain); "langevin". Frozen atoms do not move.
        temperature_K: Of the thermostat, K; None for "nve".
        initial_temperature_K: New velocities: Gaussian, without total momentum, scaled to exactly this temperature, and the
            same on any number of MPI ranks. None keeps the velocities that the crystal has.
        damping_fs: Relaxation time of the thermostat in fs.
        seed: Seed of the velocities and of the Langevin noise.
        every: Steps between rows of the result, frames and callbacks; step 0 and the last one are always among them.
        trajectory: extxyz file to write (see `Trajectory`), or None.
        checkpoint: File to go on from, replaced atomically, or None.
        checkpoint_every: Steps between checkpoints; `every` by default. Each one costs a neighbour list and a force call of
            the host, and no quantum call. A resumed run equals one that had its checkpoints at the same steps.
        resume: Go on from `checkpoint` if that file exists, otherwise start.
        callbacks: Called as callback(step, qmmm). Under Langevin `qmmm.forces()` then contains the noise.
        progress: Called as progress(step, steps, message).

    Returns:
        Time series; energies are None where the coupling has none, and `integrated_work_eV` is there instead.

    Raises:
        ValueError: For impossible arguments, or a checkpoint of another run.
        EngineError: If an engine or LAMMPS fails on the way, with `step`, `directory` and `last_good_state` (the checkpoint,
            written before this is raised): resume goes on from the step that failed.
    """
    if steps < 0 or every < 1 or (checkpoint_every is not None and checkpoint_every < 1):
        raise ValueError(
            "`steps` must not be negative, `every` and `checkpoint_every` not below 1, "
            f"got {steps}, {every} and {checkpoint_every}"
        )
    if not timestep_fs > 0 or not damping_fs > 0:
        raise ValueError(
            f"`timestep_fs` and `damping_fs` must be positive (fs), got {timestep_fs} and {damping_fs}"
        )
    if ensemble not in ENSEMBLES:
        raise ValueError(f"`ensemble` must be one of {ENSEMBLES}, got {ensemble!r}")
    if ensemble == "nve" and temperature_K is not None:
        raise ValueError(
            "ensemble 'nve' has no thermostat: give `initial_temperature_K`, or use 'langevin' or 'nvt'"
        )
    if ensemble != "nve" and not (temperature_K or 0) > 0:
        raise ValueError(f"ensemble {ensemble!r} needs a positive `temperature_K` (K), got {temperature_K}")
    if initial_temperature_K is not None and initial_temperature_K < 0:
        raise ValueError(f"`initial_temperature_K` must not be negative (K), got {initial_temperature_K}")
    if checkpoint is None and (resume or checkpoint_every is not None):
        raise ValueError("`resume` and `checkpoint_every` need a file: give `checkpoint`")
    if len(qmmm.host.shell_owner):
        raise ValueError(
            "dynamics of a core-shell model is not supported: use the host's potential without its `shells`"
        )
    settings = {
        "ensemble": ensemble,
        "timestep_fs": float(timestep_fs),
        "temperature_K": temperature_K,
        "damping_fs": float(damping_fs),
        "initial_temperature_K": initial_temperature_K,
        "seed": int(seed),
    }
    run = _Run(
        qmmm, settings, steps, every, checkpoint, checkpoint_every or every, tuple(callbacks), progress
    )
    with run.integrator():
        run.begin(trajectory, resume)
        run.go()
    return run.result()


class _Run:
    """One run: its integrator in LAMMPS, its rows so far, its files."""

    def __init__(self, qmmm, settings, steps, every, checkpoint, checkpoint_every, callbacks, progress):
        self.qmmm, self.host, self.settings = qmmm, qmmm.host, settings
        self.steps, self.every, self.callbacks = steps, every, callbacks
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        self.checkpoint_every = checkpoint_every
        self.progress = progress
        self.meter = None if qmmm.coupling is None else Meter(qmmm.coupling, self.host)
        self.trajectory: Trajectory | None = None
        self.step, self.saved_step = 0, None
        self.series: dict[str, list] = {name: [] for name in _COLUMNS}
        self.warnings: list[str] = []
        potential, crystal = self.host.potential, self.host.crystal
        by_number = {atomic_numbers[s]: m for s, m in zip(potential.species, potential.masses(), strict=True)}
        self.masses = np.array([by_number[z] for z in crystal.numbers])
        self.mobile = np.ones(len(crystal), dtype=bool)
        self.mobile[self.host.frozen] = False

    # --- LAMMPS -----------------------------------------------------------------------------------------------

    @contextmanager
    def integrator(self):
        """The correction metered and the integrator's fixes in place; everything as before at the end."""
        command, settings = self.host.command, self.settings
        if self.meter is not None:
            self.host.detach()
            self.host.attach(self.meter)
        ps = self.host.session.scale["time"]
        damping = settings["damping_fs"] * 1e-3 / ps
        T = settings["temperature_K"]
        command(f"timestep {settings['timestep_fs'] * 1e-3 / ps:.16g}")
        command("compute solidqmmm_T mobile temp")
        if not self.mobile.all():
            command("compute_modify solidqmmm_T extra/dof 0")
        self._noise = None
        if settings["ensemble"] == "nvt":
            command(f"fix solidqmmm_move mobile nvt temp {T:.16g} {T:.16g} {damping:.16g}")
            command("fix_modify solidqmmm_move temp solidqmmm_T")
        else:
            command("fix solidqmmm_move mobile nve")
        if settings["ensemble"] == "langevin":
            # The forces before friction and noise are added, for the trajectory.
            command("fix solidqmmm_bare mobile store/force")
            zero = (
                "yes" if self.mobile.all() else "no"
            )  # without frozen atoms nothing else holds the crystal in place
            self._noise = (
                f"fix solidqmmm_noise mobile langevin {T:.16g} {T:.16g} {damping:.16g} {{}} zero {zero}"
            )
        try:
            yield
        finally:
            if self.host.session.is_open:
                self._remove_integrator()

    def _remove_integrator(self):
        present = self.host.session.lmp.available_ids("fix")
        for fix in ("solidqmmm_noise", "solidqmmm_bare", "solidqmmm_move"):
            if fix in present:
                self.host.session.command(f"unfix {fix}")
        self.host.session.command("uncompute solidqmmm_T")
        if self.meter is not None:
            self.host.detach()
            self.host.attach(self.qmmm.coupling)

    def _seed_noise(self):
        if self._noise is None:
            return
        if "solidqmmm_noise" in self.host.session.lmp.available_ids("fix"):
            self.host.command("unfix solidqmmm_noise")
        state = np.random.SeedSequence([self.settings["seed"], self.step]).generate_state(1)
        self.host.command(self._noise.format(int(state[0]) % (_LARGEST_SEED - 1) + 1))

    # --- beginning --------------------------------------------------------------------------------------------

    def begin(self, trajectory, resume: bool):
        """Sets the crystal to the state to start from, and LAMMPS up for it."""
        found = None
        if resume and self.checkpoint.exists():
            found = DynamicsState.load(self.checkpoint)
            found.require_same(self.settings, self.host.crystal.numbers, self.checkpoint)
        if trajectory is not None:
            self.trajectory = Trajectory(
                trajectory, after=None if found is None else _last(found.series["step"])
            )
        if found is None:
            T = self.settings["initial_temperature_K"]
            if T is not None:
                self.host.set_velocities(
                    thermal_velocities(self.masses, T, self.settings["seed"], self.mobile)
                )
            found = self._state()
            self._save_start(found)
            self._restore(found)
            if self.meter is not None:
                self._save_start(replace(found, n_qm_calls=1, at=self.meter.at, given=self.meter.given))
        else:
            self.series = {name: list(column) for name, column in found.series.items()}
            if self.meter is not None:
                self.meter.calls, self.meter.work = found.n_qm_calls, found.work
            if self.settings["ensemble"] == "nvt" and found.step > 0:
                self.warnings.append(
                    f"the thermostat's own variables start from rest at step {found.step}, where the run was resumed"
                )
            self._restore(found)
            self.saved_step = None if found.half_step else found.step

    def _save_start(self, state):
        if self.checkpoint is not None:
            state.save(self.checkpoint)
            self.saved_step = state.step

    def _state(self) -> DynamicsState:
        meter = self.meter
        return DynamicsState(
            step=self.step,
            positions=self.host.positions(),
            velocities=self.host.velocities(),
            cell=self.host.cell(),
            half_step=False,
            settings=self.settings,
            numbers=self.host.crystal.numbers,
            series={name: np.array(column, dtype=float) for name, column in self.series.items()},
            **(
                {}
                if meter is None
                else {"work": meter.work, "n_qm_calls": meter.calls, "at": meter.at, "given": meter.given}
            ),
        )

    def _restore(self, state: DynamicsState):
        """Sets LAMMPS up for `state`; the correction is not asked again for what it has said there."""
        host, meter = self.host, self.meter
        self.step = state.step
        if not np.array_equal(host.cell(), state.cell):
            host.set_cell(state.cell)
        host.set_positions(state.positions)
        host.set_velocities(state.velocities)
        self._seed_noise()
        if meter is not None:
            meter.at, meter.given, meter.moving = state.at, state.given, False
        try:
            host.evaluate()
        except (Exception, KeyboardInterrupt) as error:
            self._give_up(error)
        if state.half_step:
            self._second_half()

    def _second_half(self):
        """v += dt/2 F/m on mobile atoms, in LAMMPS's units and order of operations."""
        session = self.host.session
        dt = self.settings["timestep_fs"] * 1e-3 / session.scale["time"]
        dtfm = (0.5 * dt * session.lmp.extract_global("ftm2v") / self.masses)[:, None] * self.mobile[:, None]
        kick = dtfm * (session.gather("f") / session.scale["energy"]) * session.scale["velocity"]
        self.host.set_velocities(self.host.velocities() + kick)

    # --- the loop ---------------------------------------------------------------------------------------------

    def go(self):
        """Step by step to the end; rows, frames, callbacks and checkpoints where they are due."""
        while True:
            if (self.step % self.every == 0 or self.step >= self.steps) and self.step != _last(
                self.series["step"]
            ):
                self._record()
            if self._checkpoint_is_due():
                state = self._state()
                state.save(self.checkpoint)
                self.saved_step = self.step
                if self.step < self.steps:
                    self._restore(state)
            if self.step >= self.steps:
                return
            self._advance()

    def _checkpoint_is_due(self) -> bool:
        if self.checkpoint is None or self.step == self.saved_step:
            return False
        return self.step % self.checkpoint_every == 0 or self.step >= self.steps

    def _advance(self):
        periods = [self.every] if self.checkpoint is None else [self.every, self.checkpoint_every]
        chunk = min(self.steps - self.step, *(period - self.step % period for period in periods))
        before = self.host.session.lmp.extract_global("ntimestep")
        try:
            self.host.evaluate()  # a callback may have moved something
            if self.meter is not None:
                self.meter.moving = True
            self.host.run(chunk, pre=False)
        except (Exception, KeyboardInterrupt) as error:
            self.step += self.host.session.lmp.extract_global("ntimestep") - before
            self._give_up(error)
        finally:
            if self.meter is not None:
                self.meter.moving = False
        self.step += chunk

    def _give_up(self, error):
        """Saves the last good state and raises."""
        meter, saved = self.meter, None
        if meter is not None and meter.failed_at is not None:
            positions, velocities = meter.failed_at
            self.host.set_positions(positions)
            self.host.set_velocities(velocities)
            if self.checkpoint is not None:
                state = self._state()
                replace(state, half_step=True).save(self.checkpoint)
        if self.checkpoint is not None and self.checkpoint.exists():
            saved = self.checkpoint
        if not isinstance(error, Exception):
            raise error
        folder = None if saved is None else saved.resolve().parent
        if isinstance(error, EngineError):
            error.step = self.step
            error.directory, error.last_good_state = error.directory or folder, saved
            raise error
        cure = (
            "the same call with resume=True goes on from there"
            if saved
            else "give `checkpoint` to be able to go on"
        )
        words = (
            super(SolidQMMMError, error).__str__()
            if isinstance(error, SolidQMMMError)
            else f"{type(error).__name__}: {error}"
        )
        raise EngineError(
            f"the engine failed during dynamics ({words}); {cure}",
            step=self.step,
            directory=folder,
            last_good_state=saved,
        ) from error

    # --- output -----------------------------------------------------------------------------------------------

    def _record(self):
        from lammps import LMP_STYLE_GLOBAL, LMP_TYPE_SCALAR

        session, has_energy = self.host.session, self.qmmm.has_energy
        temperature = float(session.lmp.extract_compute("solidqmmm_T", LMP_STYLE_GLOBAL, LMP_TYPE_SCALAR))
        potential = self.host.energy()
        if not has_energy:
            potential += self.meter.work
        kinetic = session.thermo("ke") * session.scale["energy"]
        for name, value in zip(_COLUMNS, (self.step, temperature, potential, kinetic), strict=True):
            self.series[name].append(value)
        if self.trajectory is not None:
            info = {"time_fs": self.step * self.settings["timestep_fs"]}
            if not has_energy:
                info["integrated_work_eV"] = potential - self.series["potential"][0]
            energy = potential if has_energy else None
            self.trajectory.append(self.qmmm, self._forces(), step=self.step, energy=energy, **info)
        for callback in self.callbacks:
            callback(self.step, self.qmmm)
        if self.progress is not None:
            self.progress(self.step, self.steps, f"{temperature:.0f} K")

    def _forces(self) -> np.ndarray:
        """Forces of host and correction, without friction and noise, eV/angstrom, shape=(n, 3)."""
        session = self.host.session
        if self._noise is None:
            return self.host.forces()
        self.host.evaluate()
        bare = np.array(session.lmp.gather("f_solidqmmm_bare", 1, 3)).reshape(-1, 3)
        return bare * session.scale["energy"] @ session.rotation.T

    def result(self) -> DynamicsResult:
        """The rows so far as a result."""
        qmmm, settings = self.qmmm, self.settings
        series = {name: np.array(column, dtype=float) for name, column in self.series.items()}
        potential, has_energy = series["potential"], qmmm.has_energy
        coupling = qmmm.coupling
        return DynamicsResult(
            ensemble=settings["ensemble"],
            n_steps=self.step,
            n_qm_calls=0 if self.meter is None else self.meter.calls,
            timestep_fs=settings["timestep_fs"],
            times_fs=series["step"] * settings["timestep_fs"],
            temperature_K=series["temperature"],
            potential_energy_eV=potential if has_energy else None,
            total_energy_eV=potential + series["kinetic"] if has_energy else None,
            energy_missing_reason=qmmm.energy_missing_reason,
            integrated_work_eV=None if has_energy else potential - potential[0],
            n_atoms_host=len(qmmm),
            n_atoms_qm=len(qmmm.partition.quantum) if coupling is not None else 0,
            trajectory_file=None if self.trajectory is None else self.trajectory.path.name,
            restart_file=None if self.checkpoint is None else self.checkpoint.name,
            coupling="" if coupling is None else coupling.name,
            engine=engine_in_words(coupling.quantum.engine) if hasattr(coupling, "quantum") else "",
            host=f"LAMMPS {self.host.potential.pair_style}",
            warnings=self.warnings,
        )


def _last(steps) -> int:
    return int(steps[-1]) if len(steps) else -1
