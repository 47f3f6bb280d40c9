"""Multiple time steps: the exact scheme, what it conserves, where it resonates, and runs that are interrupted."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest
from ase import units
from test_dynamics import HOT, SNAP, Dying, farthest, hybrid, state_of

from solidqmmm.coupling.respa import largest_outer_step
from solidqmmm.errors import EngineError
from solidqmmm.procedures.dynamics import run_dynamics
from solidqmmm.procedures.motion.impulses import Respa


def outer_step_matrix(w, k, h):
    """One outer step of a host's mode at frequency w under impulses of stiffness k: (x, v) -> (x, v)."""
    kick = np.array([[1, 0], [-0.5 * h * k, 1]])
    c, s = np.cos(w * h), np.sin(w * h)
    return kick @ np.array([[c, s / w], [-w * s, c]]) @ kick


@pytest.mark.parametrize(("w", "k"), [(100.0, 2000.0), (100.0, 100.0), (100.0, -3000.0), (5.0, 60.0)])
def test_resonance_begins_where_the_outer_step_gets_unstable(w, k):
    limit = largest_outer_step(w, k)
    below, above = (
        np.abs(np.linalg.eigvals(outer_step_matrix(w, k, f * limit))).max() for f in (0.999, 1.001)
    )
    assert below == pytest.approx(1.0, abs=1e-9)
    assert above > 1 + 1e-6
    for h in np.linspace(0.01, 0.99, 50) * limit:
        assert abs(np.trace(outer_step_matrix(w, k, h))) < 2
    assert limit <= np.pi / w
    with pytest.raises(ValueError, match="must be stable"):
        largest_outer_step(10.0, -101.0)


def run(scheme, steps, stepper=None, *, wrap=lambda engine: engine, state=None, backwards=False, **options):
    """Result and end of a run; `state` to start from instead of new velocities."""
    with hybrid(scheme, SNAP, wrap=wrap) as qmmm:
        if state is not None:
            options = {"initial_temperature_K": None, **options}
            qmmm.host.set_positions(state[0])
            qmmm.host.set_velocities(-state[1] if backwards else state[1])
        result = run_dynamics(qmmm, steps=steps, stepper=stepper, **(HOT | options))
        return result, state_of(qmmm)


@pytest.mark.parametrize("scheme", ["subtractive", "force_mixing"])
def test_one_step_is_the_plain_scheme_to_the_last_bit(scheme):
    (plain, expected), (result, got) = run(scheme, 8, every=4), run(scheme, 8, Respa(1), every=4)
    assert farthest(expected, got) == [0.0, 0.0]
    assert result.n_qm_calls == plain.n_qm_calls == 9


def test_impulses_are_those_of_the_published_scheme():
    """Against the propagator written out: kicks of N dt/2 by the correction around N steps of the host alone."""
    N, dt = 4, 1e-3
    _, got = run("subtractive", 12, Respa(N), every=4)
    with hybrid("subtractive", SNAP) as qmmm, hybrid(None) as host:
        run_dynamics(qmmm, steps=0, **HOT)
        x, v = state_of(qmmm)
        mass = host.host.potential.masses()[0] / host.host.session.lmp.extract_global("ftm2v")

        def of_host(x):
            host.host.set_positions(x)
            return host.forces()

        def of_correction(x):
            qmmm.host.set_positions(x)
            return qmmm.forces() - of_host(x)

        delta = of_correction(x)
        for _ in range(3):
            v = v + 0.5 * N * dt * delta / mass
            for _ in range(N):
                v = v + 0.5 * dt * of_host(x) / mass
                x = x + dt * v
                v = v + 0.5 * dt * of_host(x) / mass
            delta = of_correction(x)
            v = v + 0.5 * N * dt * delta / mass
    assert max(farthest((x, v), got)) < 1e-10


def test_energy_at_outer_steps_is_kept_to_second_order():
    spread = {}
    for N in (8, 16):
        result, _ = run("subtractive", 320, Respa(N), every=N, timestep_fs=0.25)
        assert result.n_qm_calls == 320 // N + 1
        energy = result.total_energy_eV
        spread[N] = np.ptp(energy)
        slope = np.polyfit(result.times_fs * 1e-3, energy, 1)[0] / 216
        assert abs(slope) < 5e-4  # eV per atom and ps
    assert spread[16] / spread[8] == pytest.approx(4.0, rel=0.15)


def test_force_mixing_keeps_work_and_kinetic_energy():
    result, _ = run("force_mixing", 40, Respa(4), every=4)
    kinetic = 1.5 * 215 * units.kB * result.temperature_K
    assert result.potential_energy_eV is None
    assert np.ptp(result.integrated_work_eV) > 5
    assert np.ptp(result.integrated_work_eV + kinetic) < 0.06


def test_the_way_back_in_time():
    start = run("subtractive", 0)[1]
    there = run("subtractive", 20, Respa(4), state=start, every=20)[1]
    assert farthest(start, there)[0] > 0.05
    x, v = run("subtractive", 20, Respa(4), state=there, backwards=True, every=20)[1]
    assert farthest(start, (x, -v))[0] < 1e-10
    assert farthest(start, (x, -v))[1] < 1e-8


def test_the_force_error_is_how_much_the_correction_changes():
    stepper, seen = Respa(4), []
    with hybrid("force_mixing", SNAP) as qmmm:
        core = qmmm.coupling.cluster.core

        def watch(_step, live):
            forces = live.host.contribution().forces[: len(core)][core]
            seen.append(forces / 4)

        run_dynamics(qmmm, steps=20, stepper=stepper, every=4, callbacks=[watch], **HOT)
    changes = np.diff(seen, axis=0)
    assert stepper.error.rms == pytest.approx(np.sqrt((changes**2).mean()), rel=1e-10)
    assert stepper.error.largest == pytest.approx(np.linalg.norm(changes, axis=2).max(), rel=1e-10)
    assert stepper.error.occasions == 5


def test_atoms_that_were_moved_between_steps_are_no_error():
    class Push:
        name, every = "push", 4

        def begin(self, run):
            pass

        def act(self, step, run):
            run.host.set_positions(run.host.positions() + np.array([0.001, 0, 0]))

        def state(self):
            return {}

    stepper = Respa(4)
    with hybrid("force_mixing", SNAP) as qmmm:
        result = run_dynamics(qmmm, steps=12, stepper=stepper, every=4, attendants=[Push()], **HOT)
    assert stepper.error.occasions == 3
    assert result.n_qm_calls == 1 + 3 + 3


def test_frames_have_forces_and_not_impulses(tmp_path):
    with hybrid("subtractive", SNAP) as qmmm:
        run_dynamics(qmmm, steps=8, stepper=Respa(4), every=4, trajectory=tmp_path / "t.xyz", **HOT)
        qmmm.host.set_positions(qmmm.host.positions())
        np.testing.assert_allclose(ase.io.read(tmp_path / "t.xyz").get_forces(), qmmm.forces(), atol=2e-8)


@pytest.mark.parametrize("scheme", ["subtractive", "force_mixing"])
@pytest.mark.parametrize("ensemble", ["nve", "langevin"])
def test_resuming_is_exact(tmp_path, scheme, ensemble):
    options = {"ensemble": ensemble, "every": 4, "checkpoint_every": 8}
    options |= {} if ensemble == "nve" else {"temperature_K": 600.0}
    first, second = Respa(4), Respa(4)
    _, expected = run(scheme, 16, first, checkpoint=tmp_path / "a.npz", **options)
    run(scheme, 8, Respa(4), checkpoint=tmp_path / "b.npz", **options)
    result, got = run(scheme, 16, second, checkpoint=tmp_path / "b.npz", resume=True, **options)
    assert farthest(expected, got) == [0.0, 0.0]
    assert result.n_qm_calls == 5
    assert second.error.state() == first.error.state()


def test_an_engine_that_dies_costs_its_call(tmp_path):
    _, expected = run(
        "subtractive", 16, Respa(4), every=4, checkpoint_every=16, checkpoint=tmp_path / "a.npz"
    )
    file = tmp_path / "b.npz"
    with pytest.raises(EngineError, match="the node was lost"):
        run(
            "subtractive",
            16,
            Respa(4),
            every=4,
            checkpoint_every=16,
            checkpoint=file,
            wrap=lambda e: Dying(e, 3),
        )
    result, got = run("subtractive", 16, Respa(4), every=4, checkpoint_every=16, checkpoint=file, resume=True)
    assert farthest(expected, got) == [0.0, 0.0]
    assert result.n_qm_calls == 5


def test_an_interrupt_between_impulses(tmp_path):
    """Ctrl-C arrives wherever it does, also while the correction is at rest."""
    _, expected = run(
        "subtractive", 16, Respa(4), every=4, checkpoint_every=16, checkpoint=tmp_path / "a.npz"
    )
    stepper, file = Respa(4), tmp_path / "b.npz"

    with hybrid("subtractive", SNAP) as qmmm:
        around = stepper._around

        def interrupted(exact):
            scheme = around(exact)
            evaluate = scheme.evaluate
            calls = []

            def impatient(*arguments):
                calls.append(1)
                if len(calls) == 8:  # the set-up, and seven steps
                    raise KeyboardInterrupt
                return evaluate(*arguments)

            scheme.evaluate = impatient
            return scheme

        stepper._around = interrupted
        with pytest.raises(KeyboardInterrupt):
            run_dynamics(
                qmmm, steps=16, stepper=stepper, every=4, checkpoint_every=16, checkpoint=file, **HOT
            )
    _, got = run("subtractive", 16, Respa(4), every=4, checkpoint_every=16, checkpoint=file, resume=True)
    assert farthest(expected, got) == [0.0, 0.0]


def test_what_cannot_be(tmp_path):
    with pytest.raises(ValueError, match="must not be below 1"):
        Respa(0)
    with pytest.raises(ValueError, match="multiple of the 4 steps"):
        run("subtractive", 10, Respa(4), every=4)
    with pytest.raises(ValueError, match="multiples of the 4 steps"):
        run("subtractive", 8, Respa(4), every=2)
    with pytest.raises(ValueError, match="the host alone makes none"):
        run(None, 4, Respa(4), every=4)
