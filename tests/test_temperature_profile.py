"""Temperature against distance: errors of correlated series, bins, and the attendant of a run."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk

from solidqmmm.coupling.qmmm import QMMM
from solidqmmm.physics.heat.temperature_profile import (
    binned_temperature,
    distances_from,
    mean_profile,
    standard_error,
)
from solidqmmm.physics.heat.thermal_velocities import thermal_velocities
from solidqmmm.procedures.dynamics import run_dynamics
from solidqmmm.procedures.motion.temperature_profile import TemperatureProfile
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.partition import Partition
from solidqmmm.system.potential import Potential


def chain_of_samples(n, memory, seed):
    """x_k = memory x_(k-1) + noise, of variance 1 at every k."""
    noise = np.random.default_rng(seed).normal(size=n) * np.sqrt(1 - memory**2)
    x = np.empty(n)
    x[0] = noise[0] / np.sqrt(1 - memory**2)
    for k in range(1, n):
        x[k] = memory * x[k - 1] + noise[k]
    return x


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9, 0.97])
def test_standard_error_of_a_correlated_series(memory):
    """Exactly: variance of the mean = (1 + memory)/(1 - memory)/n for long series."""
    n = 8192
    exact = np.sqrt((1 + memory) / (1 - memory) / n)
    found = [standard_error(chain_of_samples(n, memory, seed)) for seed in range(12)]
    assert np.mean(found) == pytest.approx(exact, rel=0.12)
    assert np.abs(np.divide(found, exact) - 1).max() < 0.6


def test_standard_error_of_little():
    assert standard_error([]) is None
    assert standard_error([300.0]) is None
    assert standard_error([300.0, 300.0]) == 0.0
    assert standard_error([1.0, 3.0]) == pytest.approx(1.0)
    # One rise over the whole series: far from the plateau, and the largest error that shows.
    rise = np.arange(64.0)
    assert standard_error(rise) > 5 * rise.std() / 8


def test_bins_hold_the_temperature_that_was_put_in():
    rng = np.random.default_rng(1)
    positions, masses = rng.uniform(-50, 50, (4000, 3)), rng.choice([12.0, 28.0], 4000)
    line, point = distances_from(positions, (1, 2, 3)), distances_from(positions, (1, 2, 3), axis=None)
    np.testing.assert_allclose(line, np.hypot(positions[:, 0] - 1, positions[:, 1] - 2))
    np.testing.assert_allclose(point, np.linalg.norm(positions - [1, 2, 3], axis=1))
    np.testing.assert_allclose(
        distances_from(positions, (1, 2, 3), axis=0), np.hypot(positions[:, 1] - 2, positions[:, 2] - 3)
    )
    edges = np.array([0.0, 10.0, 20.0, 40.0, 200.0, 300.0])
    v = np.zeros((4000, 3))
    wanted = (900.0, 600.0, 300.0, 100.0)
    for low, high, T in zip(edges[:-2], edges[1:-1], wanted, strict=True):
        inside = (line >= low) & (line < high)
        # thermal_velocities has 3 freedoms less, those of the momentum.
        v[inside] = thermal_velocities(masses[inside], T, seed=1) / np.sqrt(1 - 1 / inside.sum())
    T, atoms = binned_temperature(v, masses, line, edges)
    np.testing.assert_allclose(T[:4], wanted, rtol=1e-9)
    assert np.isnan(T[4])
    assert atoms[4] == 0
    assert atoms.sum() == 4000


def test_means_weight_samples_by_their_atoms():
    nan = np.nan
    T = [[300.0, nan, 500.0], [200.0, nan, nan], [400.0, nan, nan]]
    atoms = [[1, 0, 2], [3, 0, 0], [4, 0, 0]]
    near, far = mean_profile(T, atoms, [0.0, 2.0, 4.0, 8.0])
    assert near["distance_A"] == 1.0
    assert near["T_K"] == pytest.approx((300 + 600 + 1600) / 8)
    assert near["stderr_K"] > 0
    assert far == {"distance_A": 6.0, "T_K": 500.0, "stderr_K": None}
    assert mean_profile(np.full((3, 1), 300.0), np.array([[1], [5], [3]]), [0.0, 1.0])[0][
        "stderr_K"
    ] == pytest.approx(0, abs=1e-9)


def run_with_profile(tmp_path, parts, **options):
    crystal = Crystal.of(bulk("Si", a=5.431, cubic=True) * (4, 2, 1))
    frozen = np.flatnonzero(crystal.positions[:, 0] < 5)
    partition = Partition(np.zeros(len(crystal), dtype=np.int8)).with_frozen(frozen)
    for steps in parts:
        profile = TemperatureProfile(
            lambda run: (20.0 + 0.01 * run.step, 5.0, 0.0), bin_width=6.0, every=5, **options
        )
        with QMMM(crystal, Potential("sw", "* * Si.sw Si", "Si"), partition=partition) as qmmm:
            result = run_dynamics(
                qmmm, steps=steps, timestep_fs=1.0, initial_temperature_K=600.0, every=10, attendants=[profile],
                checkpoint=tmp_path / f"{len(parts)}.npz", checkpoint_every=20, resume=True,
            )  # fmt: skip
    return profile, result


def test_the_attendant_gathers_and_goes_on_where_it_was(tmp_path):
    profile, result = run_with_profile(tmp_path, (60,))
    rows = profile.rows()
    assert [row["distance_A"] for row in rows] == [3.0, 9.0, 15.0]
    atoms = np.array(profile.state()["atoms"])
    assert atoms.shape[0] == 12  # steps 5 to 60
    assert (atoms.sum(axis=1) == 64 - 16).all()  # without frozen atoms
    mean = np.average([row["T_K"] for row in rows], weights=atoms.mean(axis=0)[:3])
    assert mean == pytest.approx(result.temperature_K[1:].mean(), rel=0.05)
    resumed, _ = run_with_profile(tmp_path, (20, 40, 60))
    for name, value in profile.state().items():
        np.testing.assert_array_equal(resumed.state()[name], value)
    late, _ = run_with_profile(tmp_path / "late", (60,), after_step=30)
    assert len(late.state()["atoms"]) == 6
    assert TemperatureProfile((0, 0, 0)).rows() == []
    with pytest.raises(ValueError, match="must be positive"):
        TemperatureProfile((0, 0, 0), bin_width=0.0)
