"""Learning on the fly: exact limits, force errors, the way back, and runs that are interrupted."""

from __future__ import annotations

import numpy as np
import pytest
from test_dynamics import BARE, HOT, RULES, SNAP, SW, Dying, farthest, hybrid, silicon, state_of

from solidqmmm.coupling.qmmm import QMMM
from solidqmmm.coupling.springs import SpringCorrection, SpringErrors
from solidqmmm.engines.protocols import Contribution
from solidqmmm.errors import EngineError
from solidqmmm.procedures.building.select import partition_from, within_radius
from solidqmmm.procedures.carve import carve
from solidqmmm.procedures.dynamics import run_dynamics
from solidqmmm.procedures.motion.checkpoint import DynamicsState
from solidqmmm.procedures.motion.impulses import Respa
from solidqmmm.procedures.motion.lotf import Lotf
from solidqmmm.procedures.motion.stadium_thermostat import Stadium

HOT_KINETIC = 1.5 * 215 * 8.617333e-5 * 600  # eV, of 216 atoms at the start


def run(scheme, steps, stepper=None, *, wrap=lambda engine: engine, **options):
    """Result and end of a run."""
    with hybrid(scheme, SNAP, wrap=wrap) as qmmm:
        result = run_dynamics(qmmm, steps=steps, stepper=stepper, **(HOT | options))
        return result, state_of(qmmm)


class Constant:
    """A correction with the same forces everywhere, on the atoms of a cluster."""

    name, has_energy, needs_host_forces, weights = "constant", False, False, None

    def __init__(self, cluster):
        self.cluster, self.atoms, self.reference = cluster, cluster.region, cluster.reference
        self.forces = np.random.default_rng(2).normal(0, 0.2, cluster.reference.shape)
        self.asked_at = []

    def evaluate(self, positions, cell, host_forces=None):
        self.asked_at.append(positions)
        return Contribution(self.forces)


def cluster_of(crystal, radius=4.0, wide=7.5):
    centre = 0.5 * crystal.cell.sum(axis=0)
    core, buffer = within_radius(crystal, centre, radius), within_radius(crystal, centre, wide)
    partition = partition_from(crystal, core, buffer, centre=centre)
    return partition, carve(crystal, partition, BARE, bond_rules=RULES)


# --- exact limits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["subtractive", "force_mixing"])
def test_one_step_is_the_plain_scheme(scheme):
    (plain, expected), (result, got) = run(scheme, 10), run(scheme, 10, Lotf(1))
    assert max(farthest(expected, got)) < 1e-11
    assert result.n_qm_calls == plain.n_qm_calls == 11
    work = plain.integrated_work_eV
    if work is None:
        work = plain.potential_energy_eV - plain.potential_energy_eV[0]
        assert "not the gradient" in result.energy_missing_reason
    # The trapezoid of the correction's work is second order in the time step.
    np.testing.assert_allclose(result.integrated_work_eV, work, atol=2e-3)


def test_a_static_system_is_foretold_without_error():
    with hybrid("force_mixing", SNAP) as qmmm:
        x = qmmm.host.positions()
        qmmm.host.set_positions(x + np.random.default_rng(0).normal(0, 0.05, x.shape))
        stepper = Lotf(5)
        run_dynamics(qmmm, steps=20, stepper=stepper, timestep_fs=1e-9)
    assert stepper.errors.before.rms > 0.1
    assert stepper.errors.prediction.rms < 1e-12
    assert stepper.errors.prediction.occasions == 5


def test_the_stand_in_is_exact_at_its_anchor_and_between_anchors_a_mean():
    crystal = silicon()
    _, cluster = cluster_of(crystal)
    exact = Constant(cluster)
    springs = SpringCorrection(exact, SpringErrors.none(), bond_rules=RULES)
    rng, x = np.random.default_rng(1), cluster.reference
    np.testing.assert_array_equal(springs.evaluate(x, crystal.cell).forces, exact.forces)
    np.testing.assert_allclose(springs.forces(x, crystal.cell), exact.forces, atol=1e-12)
    springs.extrapolate(2)
    there = x + rng.normal(0, 0.03, x.shape)
    assert springs.evaluate(x, crystal.cell).forces is not None
    assert not springs.asked
    springs.evaluate(there, crystal.cell)
    assert springs.asked
    a, b = springs.anchors[0], springs.found
    springs.interpolate(2)
    mean = springs.evaluate(there, crystal.cell).forces
    alone = []
    for anchor in (a, b):
        springs.settle(anchor)
        alone.append(springs.forces(there, crystal.cell))
    np.testing.assert_allclose(mean, 0.5 * (alone[0] + alone[1]), atol=1e-12)
    np.testing.assert_allclose(alone[1], exact.forces, atol=1e-12)


# --- what it saves and what it costs -----------------------------------------------------------------------------


def test_the_prediction_gets_better_once_stiffnesses_are_known():
    """300 K, 17 quantum atoms. Springs that only hold their tensions are several times as wrong after as many steps."""
    stepper = Lotf(10)
    result, _ = run("force_mixing", 80, stepper, every=10)
    errors = stepper.errors
    assert result.n_qm_calls == 10  # the first cycle is one of 2 steps and one of 8
    assert errors.prediction.rms < 0.1
    assert errors.fit.rms < 0.02 < 0.4 < errors.before.rms
    along, across = stepper.stiffness_eV_per_A2[(14, 14, 1, 1)]
    assert -4 < along < -2 < across < 0  # SNAP's bonds are softer than those of Stillinger and Weber
    held = Respa(10)  # its force error is how much the correction changes
    run("force_mixing", 80, held, every=10)
    assert errors.prediction.rms < 0.4 * held.error.rms


def test_the_trajectory_stays_near_the_plain_one():
    _, expected = run("force_mixing", 40)
    away = {N: farthest(expected, run("force_mixing", 40, Lotf(N), every=20)[1])[0] for N in (5, 10)}
    assert away[5] < away[10] < 0.005  # angstrom; the atoms moved by 0.3


def test_work_and_kinetic_energy_stay_together():
    result, _ = run("subtractive", 60, Lotf(10), every=10)
    kinetic = 1.5 * 215 * 8.617333e-5 * result.temperature_K
    assert np.ptp(result.integrated_work_eV) > 5
    assert np.ptp(result.integrated_work_eV + kinetic) < 0.06


def test_cycles_are_cut_where_rows_are_due():
    result, _ = run("force_mixing", 14, Lotf(5), every=7)
    assert result.n_qm_calls == 1 + 3 + 2  # 1 + 5 + 1, 5 + 2
    np.testing.assert_array_equal(result.times_fs, [0, 7, 14])


def test_noise_is_the_same_both_ways():
    """Constant forces are foretold exactly, so the corrected end must be the predicted one."""
    crystal = silicon()
    partition, cluster = cluster_of(crystal)
    exact = Constant(cluster)
    stepper = Lotf(5)
    with QMMM(crystal, SW, exact, partition=partition) as qmmm:
        for k in (1, 2, 3):
            exact.asked_at.clear()
            run_dynamics(
                qmmm, steps=5, stepper=stepper, ensemble="langevin", temperature_K=600, damping_fs=20, timestep_fs=1.0,
                initial_temperature_K=600 if k == 1 else None, seed=k,
            )  # fmt: skip
            end = cluster.contiguous(qmmm.host.positions()[cluster.region], crystal.cell)
            # Tensions turn with their bonds, which is learnt: no stand-in for constant forces is quite exact.
            assert np.abs(exact.asked_at[-1] - end).max() < 2e-4
            assert np.abs(exact.asked_at[-1] - exact.asked_at[0]).max() > 0.03


def test_a_stadium_counts_the_corrected_path_only():
    """Kinetic energy, work of the springs and what the stadium took stay together."""
    with hybrid("force_mixing", SNAP) as qmmm:
        gammas = np.where(np.arange(216) % 3, 0.0, 100.0)
        stadium, kinetic, seen = Stadium(300.0, gammas), [], []

        class Ledger:
            name, every = "ledger", 5

            def begin(self, run):
                pass

            def act(self, step, run):
                kinetic.append(run.host.kinetic_energy())
                seen.append(stadium.work(run.host))

            def state(self):
                return {}

        result = run_dynamics(
            qmmm, steps=40, stepper=Lotf(5), every=5, thermostat=stadium, attendants=[Ledger()], **HOT
        )
    total = result.integrated_work_eV[1:] + kinetic + seen
    assert min(seen) > 1
    assert total[0] == pytest.approx(HOT_KINETIC, abs=0.03)
    assert np.ptp(total) < 0.05


# --- resuming -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["subtractive", "force_mixing"])
@pytest.mark.parametrize("ensemble", ["nve", "langevin"])
def test_resuming_is_exact(tmp_path, scheme, ensemble):
    options = {"ensemble": ensemble, "every": 4, "checkpoint_every": 8}
    options |= {} if ensemble == "nve" else {"temperature_K": 600.0}
    first, second = Lotf(4), Lotf(4)
    _, expected = run(scheme, 16, first, checkpoint=tmp_path / "a.npz", **options)
    run(scheme, 8, Lotf(4), checkpoint=tmp_path / "b.npz", **options)
    result, got = run(scheme, 16, second, checkpoint=tmp_path / "b.npz", resume=True, **options)
    assert farthest(expected, got) == [0.0, 0.0]
    assert result.n_qm_calls == 6
    a, b = first.state(), second.state()
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.parametrize("ensemble", ["nve", "langevin"])
def test_an_engine_that_dies_leaves_a_whole_step(tmp_path, ensemble):
    options = {"ensemble": ensemble, "every": 8, "checkpoint_every": 16}
    options |= {} if ensemble == "nve" else {"temperature_K": 600.0}
    _, expected = run("force_mixing", 16, Lotf(4), checkpoint=tmp_path / "a.npz", **options)
    file = tmp_path / "b.npz"
    with pytest.raises(EngineError, match=r"the node was lost.*resume=True") as caught:
        run("force_mixing", 16, Lotf(4), checkpoint=file, wrap=lambda e: Dying(e, 4), **options)
    saved = DynamicsState.load(file)
    assert (caught.value.step, saved.step, saved.n_qm_calls, len(saved.answers)) == (5, 0, 1, 2)
    result, got = run("force_mixing", 16, Lotf(4), checkpoint=file, resume=True, **options)
    assert farthest(expected, got) == [0.0, 0.0]
    assert result.n_qm_calls == 6


# --- what cannot be ---------------------------------------------------------------------------------------------


def test_what_cannot_be():
    with pytest.raises(ValueError, match="must not be below 1"):
        Lotf(0)
    with pytest.raises(ValueError, match="the host alone makes none"):
        run(None, 4, Lotf(2))
    with pytest.raises(ValueError, match="cannot go back in time"):
        run("force_mixing", 4, Lotf(2), ensemble="nvt", temperature_K=300.0)

    class Bare(Constant):
        def __init__(self, cluster):
            super().__init__(cluster)
            del self.cluster

    crystal = silicon()
    partition, cluster = cluster_of(crystal)
    with (
        QMMM(crystal, SW, Bare(cluster), partition=partition) as qmmm,
        pytest.raises(TypeError, match="need a correction with a cluster"),
    ):
        run_dynamics(qmmm, steps=4, stepper=Lotf(2), **HOT)
