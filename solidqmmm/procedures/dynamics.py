"""Molecular dynamics of the hybrid crystal: LAMMPS integrates, the correction is called once per step.

    velocity Verlet:  v += dt/2 F/m,   x += dt v,   F = F_MM(all) + Delta F(region),   v += dt/2 F/m

Where the forces have no energy (force mixing), a pseudo-energy follows from the work along the path,

    U(t) - U(0) = E_MM(t) - E_MM(0) - sum_k 1/2 (Delta F_k + Delta F_{k+1}) . (x_{k+1} - x_k)

with the host's own potential energy and a trapezoid over the steps for the correction, which touches the region's atoms
only. It is -int F dx to second order in the time step; U plus the kinetic energy is constant in NVE as far as the trapezoid
is exact. It belongs to this path alone: on a closed path it need not come back to zero.

A checkpoint makes the run go on as if it had not been interrupted. At each one LAMMPS is set up afresh from what is in the
file (neighbour lists included, random numbers from a seed derived from (seed, step)), engines forget what earlier calls
left, and attendants take up their state, so that the uninterrupted and the resumed run do the same arithmetic, to the last
bit on the same ranks; an engine that cannot forget adds its own rounding. The variables of a Nose-Hoover chain cannot be
set from outside LAMMPS and start from rest, which the result says.

Where a correction fails or a signal ends the run, what the correction has said since the last checkpoint is added to it. A
resumed run begins at the checkpoint and is told the same again: nothing but the failed call is computed anew by the engine,
and the trajectory is that of a run that was not interrupted, noise included. Sources: L. Verlet, Phys. Rev. 159, 98 (1967);
T. Schneider and E. Stoll, Phys. Rev. B 17, 1302 (1978); N. Bernstein, J. R. Kermode and G. Csanyi, Rep. Prog. Phys. 72,
026501 (2009).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from solidqmmm.coupling.qmmm import QMMM
from solidqmmm.procedures.motion.attendants import Attendant, Stepper
from solidqmmm.procedures.motion.dynamics_run import Run
from solidqmmm.procedures.motion.thermostats import Thermostat
from solidqmmm.procedures.motion.thermostats import thermostat as thermostat_named
from solidqmmm.results.dynamics import DynamicsResult


def run_dynamics(
    qmmm: QMMM,
    *,
    steps: int,
    timestep_fs: float,
    ensemble: str = "nve",
    temperature_K: float | None = None,
    initial_temperature_K: float | None = None,
    damping_fs: float = 100.0,
    thermostat: Thermostat | None = None,
    attendants: Iterable[Attendant] = (),
    stepper: Stepper | None = None,
    seed: int = 1,
    every: int = 10,
    trajectory=None,
    frame_every: int | None = None,
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
        thermostat: Any other one (see `procedures.thermostats`), instead of `ensemble`, `temperature_K` and `damping_fs`.
        attendants: What goes along and is kept in checkpoints (see `procedures.attendants`), called in this order.
        stepper: Another way to make steps, such as learning on the fly; LAMMPS alone without.
        seed: Seed of the velocities and of the Langevin noise.
        every: Steps between rows of the result, frames and callbacks; step 0 and the last one are always among them.
        trajectory: extxyz file to write (see `Trajectory`), or None.
        frame_every: Steps between its frames, a multiple of `every`, which is the default.
        checkpoint: File to go on from, replaced atomically, or None.
        checkpoint_every: Steps between checkpoints; `every` by default. Each one costs a neighbour list and a force call of
            the host, and no quantum call; an interrupted run repeats the host's steps since the last one. A resumed run
            equals one that had its checkpoints at the same steps.
        resume: Go on from `checkpoint` if that file exists, otherwise start.
        callbacks: Called as callback(step, qmmm). Under Langevin `qmmm.forces()` then contains the noise.
        progress: Called as progress(step, steps, message).

    Returns:
        Time series; energies are None where the coupling has none, and `integrated_work_eV` is there instead.

    Raises:
        ValueError: For impossible arguments, or a checkpoint of another run.
        EngineError: If an engine or LAMMPS fails on the way, with `step`, `directory` and `last_good_state` (the checkpoint,
            to which all answers so far are added before this is raised).
    """
    if steps < 0 or every < 1 or (checkpoint_every is not None and checkpoint_every < 1):
        raise ValueError(
            "`steps` must not be negative, `every` and `checkpoint_every` not below 1, "
            f"got {steps}, {every} and {checkpoint_every}"
        )
    if not timestep_fs > 0:
        raise ValueError(f"`timestep_fs` must be positive (fs), got {timestep_fs}")
    heat = thermostat or thermostat_named(ensemble, temperature_K, damping_fs)
    if initial_temperature_K is not None and initial_temperature_K < 0:
        raise ValueError(f"`initial_temperature_K` must not be negative (K), got {initial_temperature_K}")
    if checkpoint is None and (resume or checkpoint_every is not None):
        raise ValueError("`resume` and `checkpoint_every` need a file: give `checkpoint`")
    if len(qmmm.host.shell_owner):
        raise ValueError(
            "dynamics of a core-shell model is not supported: use the host's potential without its `shells`"
        )
    if (frame_every or every) % every:
        raise ValueError(f"`frame_every` must be a multiple of `every` ({every}), got {frame_every}")
    if stepper is not None and (every % stepper.stride or (checkpoint_every or every) % stepper.stride):
        raise ValueError(
            f"`every` and `checkpoint_every` must be multiples of the {stepper.stride} steps that belong together in "
            f"'{stepper.name}', got {every} and {checkpoint_every or every}"
        )
    settings = {
        **heat.settings,
        "timestep_fs": float(timestep_fs),
        "initial_temperature_K": initial_temperature_K,
        "seed": int(seed),
    }
    run = Run(
        qmmm,
        heat,
        settings,
        steps=steps,
        every=every,
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every or every,
        frame_every=frame_every or every,
        attendants=tuple(attendants),
        stepper=stepper,
        callbacks=tuple(callbacks),
        progress=progress,
    )
    with run.integrator():
        run.begin(trajectory, resume)
        run.go()
    return run.result()
