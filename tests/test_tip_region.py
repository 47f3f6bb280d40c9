"""The moving quantum region: who enters and leaves, what is conserved, where it ends, and how it goes on."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path as FilePath
from types import SimpleNamespace

import numpy as np
import pytest
from ase.build import bulk
from test_dynamics import BARE, RULES, SNAP, SW, farthest, state_of

from solidqmmm.coupling.force_mixing import ForceMixing
from solidqmmm.coupling.qmmm import QMMM
from solidqmmm.engines.lammps import LammpsEngine
from solidqmmm.errors import RegionError
from solidqmmm.physics.heat.thermal_velocities import thermal_velocities
from solidqmmm.procedures.build import build_model
from solidqmmm.procedures.carve import carve
from solidqmmm.procedures.cracks.tip_region import TipRegion, coupled_by, place_of
from solidqmmm.procedures.dynamics import run_dynamics
from solidqmmm.procedures.motion.impulses import Respa
from solidqmmm.procedures.motion.lotf import Lotf
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.study import Study

A0 = 5.431
DRIFT = 60.0  # angstrom/ps along x: a point at rest then moves through the crystal


def block(repeats=(4, 3, 3)) -> Crystal:
    return Crystal.of(bulk("Si", a=A0, cubic=True) * repeats)


def middle(crystal) -> np.ndarray:
    return 0.5 * crystal.cell.sum(axis=0) + [0.3, 0.2, 0.1]


def a_region(crystal, make=None, *, tip=None, **options):
    options = {"radius_in": 2.6, "radius_out": 3.4, "buffer_hops": 1, "every": 2} | options
    place = middle(crystal)
    return TipRegion(tip or (lambda _positions: place), make or carved, **options)


def carved(crystal, partition):
    """Carving and nothing to compute with it."""
    return SimpleNamespace(cluster=carve(crystal, partition, BARE, bond_rules=RULES)), partition


@contextmanager
def moving(*, frozen=(), repeats=(4, 3, 3), net_force="core", **options):
    """A crystal that drifts through its quantum region; 300 K."""
    crystal = block(repeats)
    with LammpsEngine(SNAP) as engine:

        def make(crystal, partition):
            cluster = carve(crystal, partition, BARE, bond_rules=RULES)
            return ForceMixing(cluster, engine, net_force=net_force), partition

        region = a_region(crystal, make, **options)
        correction, partition = region.select(crystal, frozen=frozen)
        with QMMM(crystal, SW, correction, partition=partition) as qmmm:
            v = thermal_velocities(np.full(len(crystal), 28.085), 600.0, seed=3)
            v[:, 0] += DRIFT
            v[np.asarray(frozen, dtype=int)] = 0.0
            qmmm.host.set_velocities(v)
            yield qmmm, region


def run(steps, *, stepper=None, resume=False, checkpoint=None, every=2, wanted=None, **options):
    run_options = {
        name: options.pop(name)
        for name in ("ensemble", "temperature_K", "checkpoint_every")
        if name in options
    }
    with moving(every=every, **options) as (qmmm, region):
        result = run_dynamics(
            qmmm, steps=steps, timestep_fs=1.0, every=every, attendants=[region], stepper=stepper, resume=resume,
            checkpoint=checkpoint, **run_options,
        )  # fmt: skip
        return result, state_of(qmmm), region


# --- who is in ------------------------------------------------------------------------------------------------


class Path:
    """A run that has positions, and takes note of what an attendant does."""

    has_energy, time_ps = False, 0.0

    def __init__(self, crystal, correction):
        self.host, self.warnings, self.replaced, self.reason = self, [], [], None
        self.qmmm = SimpleNamespace(coupling=correction)
        self.x = crystal.positions.copy()

    def positions(self):
        return self.x

    def replace_correction(self, correction, partition):
        self.qmmm.coupling, self.partition = correction, partition
        self.replaced.append(partition)

    def stop(self, reason):
        self.reason = reason


@pytest.mark.parametrize("shape", ["sphere", "cylinder"])
def test_atoms_enter_and_leave_at_their_radii(shape):
    """Against the rule written out, along a random walk of the tip across periodic boundaries."""
    crystal = block((4, 4, 3))
    places, rng = [middle(crystal)], np.random.default_rng(1)
    for _ in range(40):
        places.append(places[-1] + rng.normal(0, 0.5, 3))
    made, now = [], [0]

    def make(crystal, partition):
        made.append(partition)
        return object(), partition

    region = a_region(crystal, make, tip=lambda _x: places[now[0]], shape=shape)
    path = Path(crystal, region.select(crystal)[0])
    region.begin(path)
    axes = 3 if shape == "sphere" else 2
    lengths = np.diag(crystal.cell)[:axes]
    core, changes = None, 0
    for step, place in enumerate(places):
        now[0] = step
        if step:
            region.act(step, path)
        d = (crystal.positions - place)[:, :axes]
        d = np.linalg.norm(d - lengths * np.rint(d / lengths), axis=1)
        expected = (d <= 2.6) if core is None else (d <= 2.6) | (core & (d <= 3.4))
        changes += core is None or not np.array_equal(expected, core)
        core = expected
        np.testing.assert_array_equal(region.core, np.flatnonzero(core))
    assert len(made) == region.n_carved == len(region.events) == changes
    assert 5 < changes < 40
    sizes = [len(p.quantum) for p in made]
    assert (region.counts()["min"], region.counts()["max"]) == (min(sizes), max(sizes))
    assert min(sizes) < region.counts()["mean"] < max(sizes)
    entered = sum(e["entered"] - e["left"] for e in region.events)
    assert entered == core.sum()


def test_buffers_by_distance_and_by_bonds():
    crystal = block((4, 4, 4))
    for shape, axes in (("sphere", 3), ("cylinder", 2)):
        region = a_region(crystal, lambda *made: made, buffer_hops=None, buffer_radius=3.0, shape=shape)
        _, partition = region.select(crystal)
        x = crystal.positions[:, :axes]
        d = np.linalg.norm(x[:, None] - x[partition.core], axis=2).min(axis=1)
        np.testing.assert_array_equal(np.sort(partition.quantum), np.flatnonzero(d <= 3.0))
        np.testing.assert_allclose(partition.centre, middle(crystal))


def test_a_cluster_along_a_short_front_is_periodic():
    crystal = block((4, 4, 1))

    def make(crystal, partition):
        cluster = carve(crystal, partition, BARE, bond_rules=RULES, periodic_axes=(2,))
        return SimpleNamespace(cluster=cluster), partition

    region = a_region(crystal, make, shape="cylinder", radius_in=3.0)
    correction, partition = region.select(crystal)
    assert correction.cluster.pbc.tolist() == [False, False, True]
    np.testing.assert_allclose(correction.cluster.engine_cell(crystal.cell)[2], crystal.cell[2])
    d = np.linalg.norm((crystal.positions - middle(crystal))[:, :2], axis=1)
    np.testing.assert_array_equal(partition.core, np.flatnonzero(d <= 3.0))


def test_without_a_tip_the_region_stays():
    crystal = block()
    place = [middle(crystal)]
    region = a_region(crystal, tip=lambda _x: place[0])
    path = Path(crystal, region.select(crystal)[0])
    place[0] = None
    region.act(2, path)
    assert not path.replaced
    assert path.reason is None
    assert region.counts()["mean"] == region.counts()["max"]
    tracker = SimpleNamespace(find=lambda x: None if x is None else SimpleNamespace(x=1.0, y=2.0))
    np.testing.assert_array_equal(place_of(tracker, 3.0)(0), [1, 2, 3])
    assert place_of(tracker, 3.0)(None) is None


# --- in a run ----------------------------------------------------------------------------------------------------


def test_carving_anew_takes_and_gives_no_kinetic_energy_and_no_momentum():
    with moving(radius_in=3.2, radius_out=3.6) as (qmmm, region):
        mass, act, seen = 28.085 * 1.0364269e-4, region.act, []

        def watched(step, run):
            before = qmmm.host.velocities()
            act(step, run)
            seen.append((np.array_equal(before, qmmm.host.velocities()), region.n_carved))

        region.act = watched
        momentum = mass * qmmm.host.velocities().sum(axis=0)
        kept = qmmm.host.velocities()
        result = run_dynamics(qmmm, steps=40, timestep_fs=1.0, every=2, attendants=[region])
        np.testing.assert_allclose(mass * qmmm.host.velocities().sum(axis=0), momentum, atol=1e-9)
    assert all(same for same, _ in seen)
    n = region.n_carved
    assert 3 <= n <= 20
    assert result.n_qm_calls == 41 + n - 1  # one more wherever the region changed
    assert result.n_atoms_qm == region.events[-1]["n_quantum"]
    # Work and kinetic energy stay together while the region moves.
    thermal = 0.5 * mass * ((kept - kept.mean(axis=0)) ** 2).sum()
    drift = 0.5 * mass * len(kept) * DRIFT**2
    kinetic = 1.5 * 287 * 8.617333e-5 * result.temperature_K
    assert kinetic[0] == pytest.approx(thermal + drift, rel=1e-4)
    assert np.ptp(result.integrated_work_eV) > 3
    assert np.ptp(result.integrated_work_eV + kinetic) < 0.1


def test_momentum_that_force_mixing_gives_is_counted():
    """Against the velocities at the end; with the net force taken out there is none."""
    mass = 28.085 * 1.0364269e-4  # eV ps^2/angstrom^2
    for net_force, stepper in (("none", None), ("none", Lotf(2)), ("core", None)):
        with moving(net_force=net_force) as (qmmm, region):
            before, meters, act = qmmm.host.velocities().sum(axis=0), [], region.act

            def watched(step, run, act=act, meters=meters):
                act(step, run)
                meters.append(run.meter)

            region.act = watched
            run_dynamics(qmmm, steps=20, timestep_fs=1.0, every=2, attendants=[region], stepper=stepper)
            given = mass * (qmmm.host.velocities().sum(axis=0) - before)
            counted = meters[-1].impulse * 1e-3
        np.testing.assert_allclose(given, counted, rtol=1e-4, atol=1e-9)
        assert (np.abs(counted).max() > 1e-4) == (net_force == "none")


def test_smooth_weights_make_the_forces_jump_less():
    """What a step of the tip by 1 angstrom changes at the same positions; the median over directions."""
    crystal = block((4, 4, 4))
    rattled = crystal.with_positions(
        crystal.positions + np.random.default_rng(0).normal(0, 0.06, (len(crystal), 3))
    )
    sections = {
        "recipe": "single_point", "structure": rattled.to_atoms(),
        "host": {"pair_style": "sw", "pair_coeff": ["* * Si.sw Si"], "species": ["Si"]},
        "qm": {"engine": "lammps", "pair_style": "snap", "pair_coeff": list(SNAP.pair_coeff), "species": ["Si"]},
        "region": {"core": {"radius": 4.0}, "buffer": {"radius": 5.0}}, "caps": {"kind": "none"},
    }  # fmt: skip
    jumps = {}
    for weights in ("abrupt", "smooth"):
        study = Study.from_mapping(sections | {"coupling": {"scheme": "force_mixing", "weights": weights}})
        with build_model(study) as model:
            jumps[weights] = []
            for direction in np.random.default_rng(2).normal(size=(6, 3)):
                place = [middle(crystal)]
                region = a_region(
                    rattled, coupled_by(model), tip=lambda _x, place=place: place[0], radius_in=4.0, radius_out=4.0,
                    buffer_hops=None, buffer_radius=5.0,
                )  # fmt: skip
                correction, partition = region.select(rattled)
                with QMMM(rattled, SW, correction, partition=partition) as qmmm:
                    before = qmmm.forces()
                    place[0] = place[0] + direction / np.linalg.norm(direction)
                    path = Path(rattled, correction)
                    region.act(1, path)
                    qmmm.host.replace(path.qmmm.coupling)
                    jumps[weights].append(np.linalg.norm(qmmm.forces() - before, axis=1).max())
    assert np.median(jumps["smooth"]) < 0.6 * np.median(jumps["abrupt"])


# --- ends ----------------------------------------------------------------------------------------------------------


def test_a_region_that_reaches_held_atoms_ends_the_run_with_the_result_so_far():
    crystal = block()
    held = np.flatnonzero(np.abs(crystal.positions[:, 0] - middle(crystal)[0] - 8.0) < 1.5)
    atom = int(np.argmin(np.linalg.norm(crystal.positions - middle(crystal), axis=1)))
    result, _, region = run(80, frozen=held, tip=lambda x: x[atom] + 4 * (x[atom] - crystal.positions[atom]))
    assert "cannot follow the tip" in result.stop_reason
    assert "atom(s) that are held" in result.stop_reason
    assert 0 < result.n_steps < 80
    assert result.times_fs[-1] == result.n_steps
    assert region.n_carved > 1


def test_a_region_that_cannot_be():
    crystal = block()
    with pytest.raises(RegionError, match="no tip in this crystal"):
        a_region(crystal, tip=lambda _x: None).select(crystal)
    with pytest.raises(RegionError, match=r"no atom lies within radius_in = 0\.01"):
        a_region(crystal, radius_in=0.01).select(crystal)
    with pytest.raises(RegionError, match="core would contain"):
        a_region(crystal).select(crystal, frozen=np.arange(len(crystal)))
    with pytest.raises(RegionError, match="wraps onto its own periodic image"):
        a_region(crystal, buffer_hops=5).select(crystal)
    for wrong, words in (
        ({"radius_in": 4.0}, "radius_out"),
        ({"buffer_radius": 1.0}, "give one of them"),
        ({"shape": "cube"}, "must be one of"),
        ({"every": 0}, "must not be below 1"),
        ({"buffer_hops": -1}, "must not be negative"),
    ):
        with pytest.raises(ValueError, match=words):
            a_region(crystal, **wrong)
    region = a_region(crystal)
    region.select(crystal)
    with pytest.raises(ValueError, match="open it with what `select` gives"):
        region.begin(Path(crystal, object()))


def test_models_whose_region_cannot_move():
    base = {
        "recipe": "single_point", "structure": block((3, 3, 3)).to_atoms(),
        "host": {"pair_style": "sw", "pair_coeff": ["* * Si.sw Si"], "species": ["Si"]},
    }  # fmt: skip
    qm = {
        "qm": {"engine": "lammps", "pair_style": "snap", "pair_coeff": list(SNAP.pair_coeff), "species": ["Si"]},
        "region": {"core": {"hops": 1}, "buffer": {"hops": 1}}, "caps": {"kind": "none"},
    }  # fmt: skip
    with (
        build_model(Study.from_mapping(base)) as model,
        pytest.raises(ValueError, match="both a host and a quantum"),
    ):
        coupled_by(model)
    dead = {"coupling": {"scheme": "subtractive", "ghost_forces": True}}
    with (
        build_model(Study.from_mapping(base | qm | dead)) as model,
        pytest.raises(ValueError, match="a region that stays"),
    ):
        coupled_by(model)
    plain = {"coupling": {"scheme": "subtractive", "classical_caps": "bare"}}
    with build_model(Study.from_mapping(base | qm | plain)) as model:
        region = a_region(model.crystal, coupled_by(model))
        correction, partition = region.select(model.crystal)
        with QMMM(model.crystal, SW, correction, partition=partition) as qmmm:
            result = run_dynamics(qmmm, steps=2, timestep_fs=1.0, every=2, attendants=[region])
    assert "energy jumps" in result.warnings[0]


# --- going on ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ensemble": "langevin", "temperature_K": 300.0},
        {"stepper": lambda: Respa(2)},
        {"stepper": lambda: Lotf(4), "every": 4},
    ],
    ids=["nve", "langevin", "respa", "lotf"],
)
def test_resuming_is_exact(tmp_path, options):
    options = {"every": 2, "radius_in": 3.2, "radius_out": 3.6, **options}
    stepper = options.pop("stepper", lambda: None)
    options["checkpoint_every"] = 4 * options["every"]
    half, whole = 2 * options["checkpoint_every"], 4 * options["checkpoint_every"]
    first, expected, one = run(whole, stepper=stepper(), checkpoint=tmp_path / "a.npz", **options)
    run(half, stepper=stepper(), checkpoint=tmp_path / "b.npz", **options)
    second, got, other = run(whole, stepper=stepper(), checkpoint=tmp_path / "b.npz", resume=True, **options)
    assert farthest(expected, got) == [0.0, 0.0]
    assert first.n_qm_calls == second.n_qm_calls
    assert one.n_carved == other.n_carved > 2
    assert one.events == other.events
    assert one.counts() == other.counts()
    np.testing.assert_array_equal(one.core, other.core)


@pytest.mark.slow
def test_two_ranks_equal_one(on_ranks):
    script = FilePath(__file__).with_name("mpi_tip_region.py")
    serial, parallel = on_ranks(script), on_ranks(script, ranks=2)
    assert (serial.pop("ranks"), parallel.pop("ranks")) == (1, 2)
    assert serial["carved"] > 1
    for name, expected in serial.items():
        np.testing.assert_allclose(parallel[name], expected, atol=1e-8, rtol=0, err_msg=name)
