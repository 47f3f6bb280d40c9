"""The stadium in LAMMPS: what it reflects of waves in silicon, its equilibrium, its account of energy, its restarts."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.units import kB
from stadium_cases import (
    MASS,
    SW,
    A,
    at_the_ends,
    bar,
    equilibrium,
    silicon_speed,
    wave_in_copper,
    wave_in_silicon,
)

from solidqmmm.coupling.qmmm import QMMM
from solidqmmm.physics.heat.temperature_profile import standard_error
from solidqmmm.physics.stadium import suggested
from solidqmmm.procedures.dynamics import run_dynamics
from solidqmmm.procedures.motion.stadium_thermostat import Stadium
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.partition import Partition
from solidqmmm.system.potential import Potential

# --- waves ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wave():
    return wave_in_silicon()


@pytest.fixture(scope="module")
def choice(wave):
    return suggested(silicon_speed(), spacing=wave.spacing, room=60.0)


def test_the_planes_are_the_chain_that_they_are_mapped_on(wave):
    assert wave.speed == pytest.approx(silicon_speed(), rel=1e-3)
    top = wave.omega(np.array([np.pi / wave.spacing]))[0]
    assert top == pytest.approx(2 * wave.speed / wave.spacing, rel=0.08)


@pytest.mark.parametrize("frequency_THz", [2.5, 4.0])
def test_the_suggested_stadium_reflects_less_than_one_percent(wave, choice, frequency_THz):
    found, chain = wave.reflected(frequency_THz, Stadium(0.0, wave.damping(choice)), choice)
    assert 0 < found < 0.01
    assert found == pytest.approx(chain, rel=0.1)


def test_walls_reflect(wave, choice):
    """A fixed wall everything, a border of the largest damping all over what its impedance demands."""
    wall, _ = wave.reflected(3.0, None, choice)
    assert wall == pytest.approx(1.0, abs=1e-4)
    gammas = np.where(wave.damping(choice) > 0, choice.gamma_max, 0.0)
    abrupt, _ = wave.reflected(3.0, Stadium(0.0, gammas), choice)
    index = np.sqrt(1 + 1j * choice.gamma_max / (2 * np.pi * 3.0))
    assert abrupt == pytest.approx(abs((1 - index) / (1 + index)) ** 2, rel=0.15)
    assert abrupt > 0.04


def test_one_stadium_absorbs_all_polarizations():
    """Longitudinal and transverse waves in copper meet the stadium that the speeds of both suggest."""
    waves = [wave_in_copper(polarization) for polarization in (0, 1)]
    assert waves[1].speed < 0.7 * waves[0].speed
    choice = suggested([wave.speed for wave in waves], spacing=waves[0].spacing)
    for wave, frequency_THz in zip(waves, (1.5, 1.0), strict=True):
        stadium = Stadium(0.0, wave.damping(choice))
        found, chain = wave.reflected(frequency_THz, stadium, choice, amplitude=0.002)
        assert 0 < found < 0.01
        assert found == pytest.approx(chain, rel=0.1)


# --- equilibrium ----------------------------------------------------------------------------------------------------


def assert_at(T, watch):
    """Every layer within four standard errors (blocks) of T, and their squares as many as there should be."""
    layers = np.array(watch.layers)
    deviation = np.array([(one.mean() - T) / standard_error(one) for one in layers.T])
    assert np.abs(deviation).max() < 4.5
    assert 0.1 < (deviation**2).mean() < 2.8
    whole = layers.mean(axis=1)
    assert abs(whole.mean() - T) < 4 * standard_error(whole)
    return layers.mean(axis=0), standard_error(whole)


def assert_no_drift(watch, gammas, T):
    """The crystal as a whole is a Brownian particle: D = kT / sum m gamma in each direction; thermal momentum."""
    moved = watch.centres[-1] - watch.centres[0]
    time = (len(watch.centres) - 1) * watch.every * 1e-3
    diffused = np.sqrt(2 * kB * T / (MASS * gammas.sum()) * time)
    assert np.abs(moved).max() < 4 * diffused
    momenta = MASS * np.array(watch.momenta)
    assert (momenta**2).mean() == pytest.approx(MASS * len(gammas) * kB * T, rel=0.5)


@pytest.fixture(scope="module")
def at_300_K():
    crystal = bar(8)
    gammas = at_the_ends(crystal, 14.0, 20.0)
    assert (gammas == 0).sum() == 20
    return equilibrium(crystal, gammas, width=A, steps=40_000, T=300.0), gammas


def test_every_layer_is_at_the_temperature_that_was_set(at_300_K):
    watch, gammas = at_300_K
    layers, error = assert_at(300.0, watch)
    assert len(layers) == 8
    assert error < 6.0
    assert_no_drift(watch, gammas, 300.0)


def test_the_kinetic_energy_fluctuates_canonically(at_300_K):
    """Variance 3N/2 (kT)^2; in a crystal that is left alone it is half of that."""
    watch, gammas = at_300_K
    freedoms = 3 * len(gammas)
    temperature = np.mean(watch.layers, axis=1)  # layers have as many atoms each
    assert temperature.var() * freedoms / (2 * 300**2) == pytest.approx(1.0, abs=0.25)


def test_strong_friction_does_not_heat():
    """gamma dt = 0.2: velocities of half steps would show a tenth too much."""
    crystal = bar(4)
    watch = equilibrium(crystal, np.full(len(crystal), 200.0), width=100.0, steps=8000, T=300.0, warm_up=200)
    temperature = np.array(watch.layers)[:, 0]
    assert standard_error(temperature) < 8.0
    assert temperature.mean() == pytest.approx(300.0, abs=4 * standard_error(temperature))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_layer_is_at_the_temperature_that_was_set_closely():
    """Twelve independent runs: their scatter is the error, whatever is slow in the crystal."""
    crystal = bar(16, across=2)
    gammas = at_the_ends(crystal, 22.0, 20.0)
    runs = [equilibrium(crystal, gammas, width=A, steps=12_000, T=300.0, seed=seed) for seed in range(12)]
    layers = np.array([np.mean(watch.layers, axis=0) for watch in runs])
    error = layers.std(axis=0, ddof=1) / np.sqrt(len(runs))
    deviation = (layers.mean(axis=0) - 300) / error
    assert error.max() < 0.02 * 300
    assert np.abs(deviation).max() < 5
    assert (deviation**2).mean() < 3
    whole = layers.mean(axis=1)
    assert abs(whole.mean() - 300) < 4 * whole.std(ddof=1) / np.sqrt(len(runs))
    for watch in runs:
        assert_no_drift(watch, gammas, 300.0)
    kinetic = np.concatenate([np.mean(watch.layers, axis=1) for watch in runs])
    assert kinetic.var() * 3 * len(crystal) / (2 * 300**2) == pytest.approx(1.0, abs=0.15)


def test_inside_nothing_but_newton():
    """No force of friction or noise on the interior, and the same velocity autocorrelation as without a stadium."""
    crystal = bar(10, across=2)
    gammas = at_the_ends(crystal, 14.0, 20.0)
    inside = np.flatnonzero((gammas == 0) & (np.abs(crystal.positions[:, 0] - 5 * A) < 1.6 * A))
    thermostats = {
        "stadium": Stadium(300.0, gammas), "nve": None, "everywhere": Stadium(300.0, np.full(len(crystal), 20.0))
    }  # fmt: skip
    with QMMM(crystal, SW) as qmmm:
        run_dynamics(
            qmmm, steps=1000, timestep_fs=1.0, initial_temperature_K=600.0, every=1000,
            thermostat=thermostats["stadium"],
        )  # fmt: skip
        start = qmmm.host.positions(), qmmm.host.velocities()
        paths = {}
        for name, thermostat in thermostats.items():
            qmmm.host.set_positions(start[0])
            qmmm.host.set_velocities(start[1])
            paths[name] = []
            run_dynamics(
                qmmm, steps=3000, timestep_fs=1.0, every=5, thermostat=thermostat,
                callbacks=[lambda _, live, path=paths[name]: path.append(live.host.velocities()[inside])],
            )  # fmt: skip
    paths = {name: np.array(path) for name, path in paths.items()}
    # 0.1 ps take sound 8 angstrom: the stadium is not heard of yet.
    early = np.abs(paths["stadium"][:6] - paths["nve"][:6]).max()
    assert early < 1e-3 * np.abs(paths["nve"][:6]).max()
    assert np.abs(paths["everywhere"][:6] - paths["nve"][:6]).max() > 0.1 * np.abs(paths["nve"][:6]).max()
    lags = np.arange(0, 60)  # 0.3 ps
    found = {name: autocorrelation(path, lags) for name, path in paths.items()}
    off = {name: np.sqrt(((one - found["nve"]) ** 2).mean()) for name, one in found.items()}
    assert found["nve"].min() < -0.2
    assert off["stadium"] < 0.05  # two stretches of plain NVE differ by as much
    assert off["everywhere"] > 0.1


def autocorrelation(path, lags):
    """Normalized velocity autocorrelation, averaged over atoms and origins, shape=(lags,)."""
    most = len(path) - lags.max()
    return (
        np.array([(path[:most] * path[lag : lag + most]).mean() for lag in lags]) / (path[:most] ** 2).mean()
    )


# --- the account ------------------------------------------------------------------------------------------------------


class Shaking:
    """Attendant that makes LAMMPS set itself up anew between two steps, as one does that moves atoms."""

    name, every = "shaking", 5

    def begin(self, run): ...

    def act(self, step, run):
        run.host.set_positions(run.host.positions())

    def state(self):
        return {}

    def restore(self, state): ...


def lost_and_taken(timestep_fs, *, attendants=(), T=300.0):
    """Total energy, and what the thermostat says it took, at the rows of a run from 1200 K."""
    crystal, taken = bar(8), []
    gammas = at_the_ends(crystal, 10.0, 20.0)
    stadium = Stadium(T, gammas)
    every = int(10 / timestep_fs)
    with QMMM(crystal, SW) as qmmm:
        result = run_dynamics(
            qmmm, steps=100 * every, timestep_fs=timestep_fs, initial_temperature_K=1200.0, every=every,
            thermostat=stadium, attendants=attendants,
            callbacks=[lambda _, live: taken.append(stadium.work(live.host))],
        )  # fmt: skip
        assert stadium.work(qmmm.host) == taken[-1]
    return result.total_energy_eV, np.array(taken)


def test_what_the_crystal_loses_is_what_the_stadium_took():
    energy, taken = lost_and_taken(1.0)
    assert taken[0] == 0
    assert taken[-1] > 2  # of 5 eV above 300 K: taken out is positive
    error = np.ptp(energy + taken)
    assert error < 0.03
    half = np.ptp(np.add(*lost_and_taken(0.5)))
    assert half == pytest.approx(error / 4, rel=0.4)  # it is the integrator's
    energy, taken = lost_and_taken(1.0, T=0.0)
    assert (np.diff(taken) > 0).all()  # friction alone only takes


def test_the_account_survives_set_ups_between_steps():
    energy, taken = lost_and_taken(1.0, attendants=[Shaking()])
    assert np.ptp(energy + taken) < 0.04


def test_a_resumed_run_is_the_same_to_the_last_bit(tmp_path):
    crystal = bar(6)
    gammas = at_the_ends(crystal, 8.0, 15.0)
    options = {
        "timestep_fs": 1.0, "initial_temperature_K": 600.0, "every": 5, "checkpoint_every": 10, "seed": 5,
    }  # fmt: skip
    ends = []
    for parts in ((40,), (10, 30, 40)):
        for steps in parts:
            stadium = Stadium(300.0, gammas)
            with QMMM(crystal, SW) as qmmm:
                run_dynamics(
                    qmmm, steps=steps, thermostat=stadium, checkpoint=tmp_path / f"{len(parts)}.npz", resume=True,
                    **options,
                )  # fmt: skip
                end = (qmmm.host.positions(), qmmm.host.velocities(), stadium.work(qmmm.host))
        ends.append(end)
    assert np.array_equal(ends[0][0], ends[1][0])
    assert np.array_equal(ends[0][1], ends[1][1])
    assert ends[0][2] == pytest.approx(ends[1][2], rel=1e-14)
    assert ends[0][2] != 0
    with QMMM(crystal, SW) as qmmm, pytest.raises(ValueError, match=r"other settings.*gammas"):
        run_dynamics(
            qmmm,
            steps=50,
            thermostat=Stadium(300.0, 1.1 * gammas),
            checkpoint=tmp_path / "1.npz",
            resume=True,
            **options,
        )


RANKS = """
import json
import numpy as np
from ase.build import bulk
from solidqmmm.coupling.qmmm import QMMM
from solidqmmm.physics.stadium import box_damping
from solidqmmm.procedures.dynamics import run_dynamics
from solidqmmm.procedures.motion.stadium_thermostat import Stadium
from solidqmmm.runtime import is_root
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.potential import Potential

crystal = Crystal.of(bulk("Si", a=5.43095, cubic=True) * (6, 2, 2))
taken, stadium = [], Stadium(300.0, box_damping(crystal.positions, width=10, gamma_max=20, faces=["x-", "x+"]))
with QMMM(crystal, Potential("sw", "* * Si.sw Si", "Si")) as qmmm:
    run = run_dynamics(qmmm, steps=60, timestep_fs=1.0, initial_temperature_K=1200, every=20, thermostat=stadium,
                       callbacks=[lambda step, live: taken.append(stadium.work(live.host))])
if is_root():
    print(json.dumps({"kept": float(np.ptp(run.total_energy_eV + taken)), "taken": taken[-1]}))
"""


def test_the_account_is_kept_on_two_ranks(on_ranks):
    said = on_ranks("-c", RANKS, ranks=2)
    assert said["taken"] > 0.5
    assert said["kept"] < 0.1


# --- what cannot be ---------------------------------------------------------------------------------------------------


def test_stadiums_that_cannot_be():
    crystal = bar(6)
    gammas = at_the_ends(crystal, 8.0, 15.0)
    with pytest.raises(ValueError, match="must not be negative"):
        Stadium(-1.0, gammas)
    with pytest.raises(ValueError, match="without damping"):
        Stadium(300.0, 0 * gammas)
    with pytest.raises(ValueError, match="none negative"):
        Stadium(300.0, -gammas)
    frozen = Partition(np.zeros(len(crystal), dtype=np.int8)).with_frozen(np.flatnonzero(gammas))
    with QMMM(crystal, SW, partition=frozen) as qmmm, pytest.raises(ValueError, match="are frozen"):
        run_dynamics(qmmm, steps=1, timestep_fs=1.0, thermostat=Stadium(300.0, gammas))
    for stadium, words in (
        (Stadium(300.0, gammas[:-1]), "one number for each of the 48 atoms"),
        (Stadium(300.0, 30 * gammas), "too strong for the time step of 1 fs"),
        (Stadium(300.0, np.linspace(0, 1, len(crystal)), levels=40), "use `levels=30`"),
    ):
        with QMMM(crystal, SW) as qmmm:
            before = ids(qmmm)
            with pytest.raises(ValueError, match=words):
                run_dynamics(qmmm, steps=1, timestep_fs=1.0, thermostat=stadium)
            run_dynamics(qmmm, steps=1, timestep_fs=1.0, thermostat=Stadium(300.0, gammas))
            assert ids(qmmm) == before


def ids(qmmm):
    return [list(qmmm.host.session.lmp.available_ids(kind)) for kind in ("fix", "group", "compute")]


def test_the_units_of_the_potential_do_not_matter():
    """The same crystal in `real` units: friction by time in fs, the account in kcal/mol inside LAMMPS."""
    crystal = Crystal.of(bulk("Ar", a=5.3, cubic=True) * (4, 2, 2))
    gammas = at_the_ends(crystal, 6.0, 10.0)
    ends = []
    for units, epsilon in (("metal", 0.0104), ("real", 0.0104 / 0.0433641153)):
        potential = Potential("lj/cut 5.0", f"* * {epsilon:.12g} 3.4", "Ar", units=units)
        stadium = Stadium(0.0, gammas)
        with QMMM(crystal, potential) as qmmm:
            run_dynamics(
                qmmm, steps=100, timestep_fs=2.0, initial_temperature_K=20.0, every=50, thermostat=stadium
            )
            ends.append(stadium.work(qmmm.host))
    assert ends[0] > 0.01
    assert ends[1] == pytest.approx(ends[0], rel=1e-4)
