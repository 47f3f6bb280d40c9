"""Loads in time, the work that they do, and the ledger that it goes into."""

from __future__ import annotations

import numpy as np
import pytest
from crack_cases import made_up_crack

from solidqmmm.coupling.qmmm import QMMM
from solidqmmm.physics.cracks.load_schedule import LoadSchedule
from solidqmmm.procedures.cracks.crack_load import CrackLoad
from solidqmmm.procedures.dynamics import run_dynamics
from solidqmmm.procedures.motion.energy_ledger import EnergyLedger
from solidqmmm.system.potential import Potential

SW = Potential("sw", "* * Si.sw Si", "Si")


# --- the schedule -----------------------------------------------------------------------------------------------


def test_steps_hold_each_value_for_equal_parts():
    schedule = LoadSchedule.through([1.0, 3.0], time_ps=4.0)
    assert [schedule.at(t) for t in (0.0, 1.999, 2.0, 4.0, 9.0)] == [1.0, 1.0, 3.0, 3.0, 3.0]


def test_ramps_take_their_time_and_the_rest_is_held():
    schedule = LoadSchedule.through([1.0, 3.0, 2.0], time_ps=9.0, rate_per_ps=0.5)
    # ways of 4 and 2 ps leave 3 ps for three values
    assert [schedule.at(t) for t in (0.5, 1.0, 3.0, 5.0, 6.0, 7.0, 8.0, 9.0)] == pytest.approx(
        [1.0, 1.0, 2.0, 3.0, 3.0, 2.5, 2.0, 2.0]
    )


def test_a_way_that_does_not_fit_says_how_long_it_is():
    with pytest.raises(ValueError, match=r"takes 4 ps, longer than the run of 3 ps: load faster"):
        LoadSchedule.through([1.0, 3.0], time_ps=3.0, rate_per_ps=0.5)
    with pytest.raises(ValueError, match="loads not below zero"):
        LoadSchedule.through([-1.0], time_ps=3.0)


# --- the load of a crack ----------------------------------------------------------------------------------------


class Ramp:
    """Runs a crack in Stillinger-Weber silicon without heat, and keeps what it has."""

    def __init__(self, applied_to, *, steps=40, every=4, timestep_fs=0.5, system="strip", size=(110, 50)):
        self.crack = made_up_crack(system, size)
        time = steps * timestep_fs * 1e-3
        schedule = LoadSchedule.through([2.0, 4.0], time_ps=time, rate_per_ps=2.0 / (0.8 * time))
        self.load = CrackLoad(self.crack, "G", schedule, applied_to=applied_to, every=every)
        self.ledger = EnergyLedger(self.load, every=every)
        crystal = self.crack.cracked(self.load.load)
        with QMMM(crystal, SW, partition=self.crack.partition) as qmmm:
            qmmm.host.minimize(fmax=0.02)
            self.before = qmmm.host.positions()
            self.result = run_dynamics(
                qmmm, steps=steps, timestep_fs=timestep_fs, every=every, initial_temperature_K=50.0,
                attendants=[self.load, self.ledger], callbacks=[self.ledger.at_start],
            )  # fmt: skip
            self.moved = qmmm.host.positions() - self.before


@pytest.mark.parametrize("applied_to", ["all", "boundary"])
def test_the_work_of_the_load_is_what_the_crystal_gains(applied_to):
    run = Ramp(applied_to)
    assert run.load.load.G_J_per_m2 == pytest.approx(4.0)
    last = run.ledger.rows[-1]
    assert last["load_work"] > 5.0
    gained = last["kinetic_change"] + last["host_potential_change"]
    # Without correction and thermostat the rest is the integrator's error alone.
    assert abs(last["unaccounted"]) < 2e-3 * last["load_work"]
    assert gained == pytest.approx(last["load_work"], rel=2e-3)
    assert "thermostat_out" not in last
    assert "correction_work" not in last


def test_the_unaccounted_falls_with_the_square_of_the_time_step():
    spread = {}
    for dt, steps in ((0.5, 80), (1.0, 40)):
        rows = Ramp("all", steps=steps, every=steps // 10, timestep_fs=dt).ledger.rows
        spread[dt] = np.ptp([row["unaccounted"] for row in rows])
    assert spread[1.0] / spread[0.5] == pytest.approx(4.0, rel=0.5)


def test_held_atoms_follow_the_far_field_exactly():
    run = Ramp("boundary", system="cylinder", size=(60,))
    crack, held = run.crack, run.crack.held
    wanted = crack.far_field(crack.load(G=4.0)) - crack.far_field(crack.load(G=2.0))
    np.testing.assert_allclose(run.moved[held], wanted[held], atol=1e-10)
    free = np.setdiff1d(np.arange(len(crack)), held)
    assert np.abs(run.moved[free] - wanted[free]).max() > 0.05


def test_wrong_loads():
    crack = made_up_crack("strip", (110, 50))
    steady = LoadSchedule.through([2.0], time_ps=1.0)
    with pytest.raises(ValueError, match="must be one of all, boundary"):
        CrackLoad(crack, "G", steady, applied_to="rim")
    with pytest.raises(ValueError, match="beyond the ideal strength"):
        CrackLoad(crack, "G", LoadSchedule.through([2.0, 500.0], time_ps=1.0))
