"""Molecular dynamics: conserved quantities, thermostats, files, resuming, and engines that die."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes

from solidqmmm.coupling.force_mixing import ForceMixing
from solidqmmm.coupling.qmmm import QMMM
from solidqmmm.coupling.subtractive import Subtractive
from solidqmmm.engines.ase import ASEEngine
from solidqmmm.engines.lammps import LammpsEngine
from solidqmmm.errors import EngineError, SolidQMMMError
from solidqmmm.physics.heat.thermal_velocities import thermal_velocities
from solidqmmm.procedures.building.select import grown_by_hops, partition_from
from solidqmmm.procedures.carve import carve, complete_partition
from solidqmmm.procedures.dynamics import run_dynamics
from solidqmmm.procedures.motion.checkpoint import DynamicsState
from solidqmmm.procedures.motion.trajectory import end_of_frame
from solidqmmm.results.dynamics import DynamicsResult
from solidqmmm.runtime import environment_for_subprocess, is_root
from solidqmmm.system.bonds import BondRules
from solidqmmm.system.caps import CapRules
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.potential import Potential

SW = Potential("sw", "* * Si.sw Si", "Si")
TERSOFF = Potential("tersoff", "* * Si.tersoff Si", "Si")
SNAP = Potential("snap", "* * Si_Zuo_JPCA2020.snapcoeff Si_Zuo_JPCA2020.snapparam Si", "Si")
BARE, RULES = CapRules(kind="none"), BondRules()
HOT = {"initial_temperature_K": 600.0, "timestep_fs": 1.0, "seed": 3}


def silicon() -> Crystal:
    """216 atoms; the region around atom 0 straddles all periodic boundaries."""
    return Crystal.of(bulk("Si", a=5.431, cubic=True) * (3, 3, 3))


@contextmanager
def hybrid(scheme="subtractive", expensive=TERSOFF, *, frozen=(), wrap=lambda engine: engine):
    """A live crystal with 17 quantum atoms; scheme None: the host alone."""
    crystal = silicon()
    if scheme is None:
        with QMMM(crystal, SW) as qmmm:
            yield qmmm
        return
    core = grown_by_hops(crystal, [0], 1, RULES)
    partition = partition_from(
        crystal, core, grown_by_hops(crystal, core, 1, RULES), frozen=np.asarray(frozen, int)
    )
    partition = complete_partition(crystal, partition, BARE, RULES)
    cluster = carve(crystal, partition, BARE, bond_rules=RULES)
    with LammpsEngine(expensive) as quantum, LammpsEngine(SW) as classical:
        engine = wrap(quantum)
        if scheme == "subtractive":
            coupling = Subtractive(cluster, engine, classical, classical_caps="bare")
        else:
            coupling = ForceMixing(cluster, engine)
        with QMMM(crystal, SW, coupling, partition=partition) as qmmm:
            yield qmmm


def state_of(qmmm):
    return qmmm.host.positions(), qmmm.host.velocities()


def farthest(one, other):
    """Largest distance in angstrom and difference of velocity in angstrom/ps."""
    return [float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True)]


class Dying:
    """An engine that raises at its k-th call."""

    name, provides_stress = "dying", False

    def __init__(self, engine, k, error=None):
        self.engine, self.k, self.calls = engine, k, 0
        self.error = error or RuntimeError("the node was lost")

    def evaluate(self, atoms, *, stress=False):
        self.calls += 1
        if self.calls == self.k:
            raise self.error
        return self.engine.evaluate(atoms, stress=stress)

    def describe(self):
        return self.engine.describe()


# --- physics ------------------------------------------------------------------------------------------------


def test_energy_is_conserved_and_the_drift_falls_with_the_square_of_the_time_step():
    spread = {}
    for dt in (0.5, 1.0):
        with hybrid(expensive=SNAP) as qmmm:
            result = run_dynamics(qmmm, steps=int(60 / dt), every=4, **(HOT | {"timestep_fs": dt}))
            assert qmmm.coupling.quantum.evaluations == result.n_qm_calls == int(60 / dt) + 1
        # 600 K in the perfect crystal: half of it becomes potential energy, 8 eV.
        assert np.ptp(result.potential_energy_eV) > 5
        spread[dt] = np.ptp(result.total_energy_eV)
    assert spread[0.5] < 0.015
    assert spread[1.0] / spread[0.5] == pytest.approx(4.0, rel=0.2)
    assert isinstance(result, DynamicsResult)
    assert result.integrated_work_eV is None


def test_force_mixing_has_integrated_work_in_place_of_an_energy(tmp_path):
    """Work and kinetic energy together are as constant as the energy of the host alone."""
    with hybrid(None) as qmmm:
        plain = run_dynamics(qmmm, steps=40, every=5, **HOT)
    with hybrid("force_mixing", SNAP) as qmmm:
        mixed = run_dynamics(qmmm, steps=40, every=5, trajectory=tmp_path / "t.xyz", **HOT)
        kinetic = 1.5 * (len(qmmm) - 1) * 8.617333e-5 * mixed.temperature_K
    assert mixed.potential_energy_eV is None
    assert mixed.total_energy_eV is None
    assert "not the gradient" in mixed.energy_missing_reason
    assert mixed.integrated_work_eV[0] == 0.0
    assert np.ptp(mixed.integrated_work_eV) > 5
    assert np.ptp(mixed.integrated_work_eV + kinetic) < 0.06
    assert np.ptp(plain.total_energy_eV) < 0.06
    frame = ase.io.read(tmp_path / "t.xyz", "-1")
    assert "energy" not in frame.calc.results
    assert "energy" not in frame.info
    assert frame.info["integrated_work_eV"] == pytest.approx(mixed.integrated_work_eV[-1], abs=1e-6)


@pytest.mark.parametrize("ensemble", ["nvt", "langevin"])
def test_thermostats_reach_their_temperature(ensemble):
    with hybrid() as qmmm:
        result = run_dynamics(
            qmmm, steps=300, every=5, ensemble=ensemble, temperature_K=300.0, damping_fs=30.0, **HOT
        )
        late = result.temperature_K[20:]
        # One standard deviation of a single row is T sqrt(2/3N) = 17 K; rows are correlated over the damping time.
        assert late.mean() == pytest.approx(300, abs=25)
        momentum = qmmm.host.velocities().mean(axis=0)
    np.testing.assert_allclose(momentum, 0, atol=1e-10)


def test_velocities_have_no_momentum_and_the_temperature_asked_for():
    masses = np.tile([28.0, 12.0], 300)
    v = thermal_velocities(masses, 500.0, seed=5)
    np.testing.assert_allclose(masses @ v, 0, atol=1e-9)
    kinetic = 0.5 * 1.0364269e-4 * (masses[:, None] * v**2).sum()
    assert kinetic == pytest.approx(0.5 * (3 * 600 - 3) * 8.617333e-5 * 500, rel=1e-6)
    light, heavy = (v[masses == m] ** 2 for m in (12.0, 28.0))
    assert light.mean() / heavy.mean() == pytest.approx(28 / 12, rel=0.15)
    assert np.array_equal(v, thermal_velocities(masses, 500.0, seed=5))
    mobile = np.arange(600) > 99
    v = thermal_velocities(masses, 500.0, seed=5, mobile=mobile)
    assert not v[~mobile].any()
    assert not thermal_velocities([28.0], 500.0, seed=1).any()


def test_frozen_atoms_stay():
    crystal = silicon()
    frozen = np.flatnonzero(np.linalg.norm(crystal.positions - crystal.cell.sum(axis=0) / 2, axis=1) < 3)
    with hybrid(frozen=frozen) as qmmm:
        result = run_dynamics(qmmm, steps=10, **HOT)
        moved = np.abs(qmmm.host.positions() - crystal.positions).max(axis=1)
    assert result.temperature_K[0] == pytest.approx(600, rel=1e-5)
    assert moved[frozen].max() < 1e-12
    assert moved.max() > 0.01


# --- rows, frames, callbacks ----------------------------------------------------------------------------------


def test_trajectory_and_callbacks(tmp_path):
    seen, messages = [], []
    with hybrid() as qmmm:
        result = run_dynamics(
            qmmm, steps=10, every=4, ensemble="langevin", temperature_K=600.0,
            trajectory=tmp_path / "run" / "t.xyz", callbacks=[lambda step, live: seen.append((step, live is qmmm))],
            progress=lambda done, total, message: messages.append((done, total)), **HOT,
        )  # fmt: skip
        qmmm.host.set_positions(qmmm.host.positions())
        forces, energy, velocities = qmmm.forces(), qmmm.energy(), qmmm.host.velocities()
        labels = qmmm.partition.names()
    frames = ase.io.read(tmp_path / "run" / "t.xyz", ":")
    assert seen == [(0, True), (4, True), (8, True), (10, True)]
    assert messages == [(0, 10), (4, 10), (8, 10), (10, 10)]
    assert [frame.info["step"] for frame in frames] == [0, 4, 8, 10]
    np.testing.assert_allclose(result.times_fs, [0, 4, 8, 10])
    last = frames[-1]
    np.testing.assert_allclose(
        last.get_forces(), forces, atol=2e-8
    )  # eight decimals, no noise of the thermostat
    np.testing.assert_allclose(last.arrays["velocities"], velocities, atol=2e-8)
    assert last.get_potential_energy() == pytest.approx(energy, abs=1e-7)
    assert (last.arrays["region"] == labels).all()
    assert result.trajectory_file == "t.xyz"
    assert dict(result.summary())["steps"] == "10 (11 quantum calls)"
    assert DynamicsResult.from_dict(json.loads(json.dumps(result.as_dict()))).n_steps == 10


def test_a_callback_may_move_atoms():
    def kick(step, qmmm):
        if step == 5:
            x = qmmm.host.positions()
            x[0, 0] += 0.05
            qmmm.host.set_positions(x)

    with hybrid() as qmmm:
        run_dynamics(qmmm, steps=6, every=5, callbacks=[kick], **HOT)
        kicked = state_of(qmmm)
        assert qmmm.coupling.quantum.evaluations == 8
        forces = qmmm.forces()
        qmmm.host.set_positions(qmmm.host.positions())
        np.testing.assert_allclose(qmmm.forces(), forces, atol=1e-10)
    with hybrid() as qmmm:
        run_dynamics(qmmm, steps=6, every=5, **HOT)
        assert farthest(kicked, state_of(qmmm))[0] == pytest.approx(0.05, abs=0.005)


def test_the_crystal_is_left_as_it_was_found():
    with hybrid() as qmmm:
        fixes = list(qmmm.host.session.lmp.available_ids("fix"))
        for _ in range(2):
            run_dynamics(qmmm, steps=2, ensemble="langevin", temperature_K=300, **HOT)
        assert list(qmmm.host.session.lmp.available_ids("fix")) == fixes
        assert qmmm.host.corrections == {"correction": qmmm.coupling}


# --- resuming -------------------------------------------------------------------------------------------------


def in_two_parts(tmp_path, *scheme, **options):
    """Ends of a run of 20 steps, and of 10 and a resume with everything new; both results."""
    options = HOT | {"every": 5, "checkpoint_every": 10} | options
    with hybrid(*scheme) as qmmm:
        whole = run_dynamics(qmmm, steps=20, checkpoint=tmp_path / "whole.npz", **options)
        expected = state_of(qmmm)
    with hybrid(*scheme) as qmmm:
        run_dynamics(qmmm, steps=10, checkpoint=tmp_path / "parts.npz", **options)
    with hybrid(*scheme) as qmmm:
        resumed = run_dynamics(qmmm, steps=20, checkpoint=tmp_path / "parts.npz", resume=True, **options)
        if qmmm.coupling is not None:
            assert qmmm.coupling.quantum.evaluations == 10  # what the checkpoint holds is not computed again
        return expected, state_of(qmmm), whole, resumed


@pytest.mark.parametrize("ensemble", ["nve", "langevin"])
def test_resuming_the_host_is_exact_to_the_last_bit(tmp_path, ensemble):
    thermostat = {} if ensemble == "nve" else {"temperature_K": 600.0}
    expected, got, whole, resumed = in_two_parts(tmp_path, None, ensemble=ensemble, **thermostat)
    assert farthest(expected, got) == [0.0, 0.0]
    assert np.array_equal(whole.total_energy_eV, resumed.total_energy_eV)
    np.testing.assert_array_equal(resumed.times_fs, [0, 5, 10, 15, 20])


@pytest.mark.parametrize("scheme", ["subtractive", "force_mixing"])
@pytest.mark.parametrize("ensemble", ["nve", "langevin"])
def test_resuming_a_hybrid_with_new_engines(tmp_path, scheme, ensemble):
    """Engines forget what earlier calls left at every checkpoint: equal to the last bit."""
    thermostat = {} if ensemble == "nve" else {"temperature_K": 600.0}
    expected, got, whole, resumed = in_two_parts(tmp_path, scheme, ensemble=ensemble, **thermostat)
    assert farthest(expected, got) == [0.0, 0.0]
    assert whole.n_qm_calls == resumed.n_qm_calls == 21
    series = "total_energy_eV" if scheme == "subtractive" else "integrated_work_eV"
    np.testing.assert_array_equal(getattr(resumed, series), getattr(whole, series))


def test_resuming_nose_hoover_says_what_it_cannot(tmp_path):
    expected, got, _, resumed = in_two_parts(tmp_path, None, ensemble="nvt", temperature_K=600.0)
    assert farthest(expected, got)[0] < 1e-3
    assert "start from rest at step 10" in resumed.warnings[0]


def test_a_finished_run_is_not_run_again_and_can_be_made_longer(tmp_path):
    where = {
        "checkpoint": tmp_path / "c.npz",
        "trajectory": tmp_path / "t.xyz",
        "resume": True,
        "every": 5,
        **HOT,
    }
    with hybrid() as qmmm:
        first = run_dynamics(qmmm, steps=10, **where)
    with hybrid() as qmmm:
        again = run_dynamics(qmmm, steps=10, **where)
        assert qmmm.coupling.quantum.evaluations == 0
    np.testing.assert_array_equal(first.total_energy_eV, again.total_energy_eV)
    with hybrid() as qmmm:
        longer = run_dynamics(qmmm, steps=15, **where)
    assert longer.n_qm_calls == 16
    assert [frame.info["step"] for frame in ase.io.read(tmp_path / "t.xyz", ":")] == [0, 5, 10, 15]


def test_what_a_kill_leaves_of_a_trajectory_is_cut_off(tmp_path):
    where = {"checkpoint": tmp_path / "c.npz", "trajectory": tmp_path / "t.xyz", **HOT}
    with hybrid(None) as qmmm:
        run_dynamics(qmmm, steps=4, every=2, **where)
    whole = (tmp_path / "t.xyz").read_bytes()
    later = whole[end_of_frame(tmp_path / "t.xyz", 2)[0] :].replace(b"step=4", b"step=6")
    (tmp_path / "t.xyz").write_bytes(
        whole + later + whole[:5000]
    )  # a frame after the checkpoint, and half of one
    with hybrid(None) as qmmm:
        result = run_dynamics(qmmm, steps=8, every=2, resume=True, **where)
    assert [frame.info["step"] for frame in ase.io.read(tmp_path / "t.xyz", ":")] == [0, 2, 4, 6, 8]
    assert not result.warnings


def test_frames_that_are_lost_are_missed(tmp_path):
    where = {"checkpoint": tmp_path / "c.npz", "trajectory": tmp_path / "t.xyz", **HOT}
    with hybrid(None) as qmmm:
        run_dynamics(qmmm, steps=4, every=2, **where)
    (tmp_path / "t.xyz").write_bytes((tmp_path / "t.xyz").read_bytes()[:-1000])
    with hybrid(None) as qmmm:
        result = run_dynamics(qmmm, steps=6, every=2, resume=True, **where)
    assert [frame.info["step"] for frame in ase.io.read(tmp_path / "t.xyz", ":")] == [0, 2, 6]
    assert "lacks the frames after step 2 up to step 4" in result.warnings[0]


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    file = tmp_path / "c.npz"
    with hybrid(None) as qmmm:
        run_dynamics(qmmm, steps=2, checkpoint=file, **HOT)
        with pytest.raises(ValueError, match=r"timestep_fs 1\.0, now 2\.0"):
            run_dynamics(qmmm, steps=2, checkpoint=file, resume=True, **(HOT | {"timestep_fs": 2.0}))
    with QMMM(silicon().without(0), SW) as qmmm:
        with pytest.raises(ValueError, match="216 atoms that are not the 215"):
            run_dynamics(qmmm, steps=2, checkpoint=file, resume=True, **HOT)
        file.write_bytes(b"PK of no use")
        with pytest.raises(SolidQMMMError, match="no checkpoint"):
            run_dynamics(qmmm, steps=2, checkpoint=file, resume=True, **HOT)


# --- engines that die -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "call", "heat"),
    [
        ("subtractive", 1, {}),
        ("subtractive", 8, {"ensemble": "langevin", "temperature_K": 600.0}),
        ("force_mixing", 11, {}),
        ("force_mixing", 15, {"ensemble": "langevin", "temperature_K": 600.0}),
    ],
)
def test_an_engine_that_raises_costs_nothing_but_its_call(tmp_path, scheme, call, heat):
    """The resumed run starts at the last regular checkpoint, knows what was said since, and does the same arithmetic."""
    options = HOT | {"every": 5, "checkpoint_every": 10} | heat
    with hybrid(scheme) as qmmm:
        whole = run_dynamics(qmmm, steps=15, checkpoint=tmp_path / "whole.npz", **options)
        expected = state_of(qmmm)
    file = tmp_path / "c.npz"
    with hybrid(scheme, wrap=lambda engine: Dying(engine, call)) as qmmm:
        with pytest.raises(EngineError, match=r"the node was lost.*resume=True") as caught:
            run_dynamics(qmmm, steps=15, checkpoint=file, **options)
        assert qmmm.host.session.is_open
        assert np.isfinite(
            qmmm.energy() if qmmm.has_energy else 0.0
        )  # LAMMPS is alive, and so is the crystal
    assert (caught.value.step, caught.value.last_good_state, caught.value.directory) == (
        call - 1,
        file,
        tmp_path,
    )
    saved = DynamicsState.load(file)
    checkpoint = max(call - 2, 0) // 10 * 10
    assert (saved.step, saved.n_qm_calls + len(saved.answers)) == (checkpoint, call - 1)
    with hybrid(scheme) as qmmm:
        resumed = run_dynamics(qmmm, steps=15, checkpoint=file, resume=True, **options)
        assert qmmm.coupling.quantum.evaluations == 16 - (call - 1)
        assert farthest(expected, state_of(qmmm)) == [0.0, 0.0]
    assert resumed.n_qm_calls == whole.n_qm_calls
    np.testing.assert_array_equal(resumed.times_fs, whole.times_fs)


def test_an_error_of_the_family_stays_what_it_is(tmp_path):
    own = EngineError("no licence", directory="logs")
    with hybrid(wrap=lambda engine: Dying(engine, 4, own)) as qmmm, pytest.raises(EngineError) as caught:
        run_dynamics(qmmm, steps=9, checkpoint=tmp_path / "c.npz", **HOT)
    assert caught.value is own
    assert (own.step, own.directory, own.last_good_state) == (3, Path("logs"), tmp_path / "c.npz")
    interrupted = hybrid(wrap=lambda engine: Dying(engine, 4, KeyboardInterrupt()))
    with interrupted as qmmm, pytest.raises(KeyboardInterrupt):
        run_dynamics(qmmm, steps=9, checkpoint=tmp_path / "i.npz", **HOT)
    left = DynamicsState.load(tmp_path / "i.npz")
    assert (left.step, left.n_qm_calls, len(left.answers)) == (0, 1, 2)
    with (
        hybrid(wrap=lambda engine: Dying(engine, 4)) as qmmm,
        pytest.raises(EngineError, match="give `checkpoint`"),
    ):
        run_dynamics(qmmm, steps=9, **HOT)


_WORKER = """
import sys
for line in sys.stdin:
    x = [float(word) for word in line.split()]
    print(0.05 * sum(v * v for v in x), *(-0.1 * v for v in x), flush=True)
"""


class InAnotherProcess(Calculator):
    """E = 0.05 sum x^2 about the mean position, computed by a child process, which is killed at the k-th call."""

    implemented_properties = ("energy", "forces")

    def __init__(self, killed_at=None):
        super().__init__()
        self.calls, self.killed_at = 0, killed_at
        self.child = subprocess.Popen(
            [sys.executable, "-c", _WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.calls += 1
        if self.calls == self.killed_at:
            self.child.kill()
            self.child.wait()
        self.child.stdin.write(
            " ".join(map(repr, (atoms.positions - atoms.positions.mean(axis=0)).ravel().tolist())) + "\n"
        )
        self.child.stdin.flush()
        answer = [float(word) for word in self.child.stdout.readline().split()]
        self.results = {"energy": answer[0], "forces": np.reshape(answer[1:], (-1, 3))}

    def close(self):
        for pipe in (self.child.stdout, self.child.stdin):
            with suppress(BrokenPipeError):
                pipe.close()
        self.child.kill()
        self.child.wait()


def test_a_killed_process_of_an_ase_calculator(tmp_path):
    file = tmp_path / "c.npz"
    options = HOT | {"every": 5, "checkpoint": file}

    def with_calculator(calculator, **more):
        try:
            with hybrid("force_mixing", wrap=lambda engine: ASEEngine(calculator)) as qmmm:
                return run_dynamics(qmmm, steps=10, **options, **more), state_of(qmmm)
        finally:
            calculator.close()

    _, expected = with_calculator(InAnotherProcess())
    with pytest.raises(EngineError, match="InAnotherProcess says") as caught:
        with_calculator(InAnotherProcess(killed_at=8))
    assert (caught.value.step, caught.value.last_good_state) == (7, file)
    result, got = with_calculator(InAnotherProcess(), resume=True)
    assert result.n_steps == 10
    assert farthest(expected, got) == [0.0, 0.0]


_KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from test_dynamics import HOT, Dying, hybrid, run_dynamics

class Killing(Dying):
    def evaluate(self, atoms, *, stress=False):
        if self.calls + 1 == self.k:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().evaluate(atoms, stress=stress)

with hybrid(wrap=lambda engine: Killing(engine, int(sys.argv[3]))) as qmmm:
    out = sys.argv[2]
    run_dynamics(qmmm, steps=10, every=2, checkpoint=out + ".npz", trajectory=out + ".xyz", **HOT)
"""


def test_a_killed_run_goes_on_from_its_checkpoint(tmp_path):
    out = tmp_path / "killed"
    command = [sys.executable, "-c", _KILLED, Path(__file__).parent, out, 8]
    done = subprocess.run(list(map(str, command)), timeout=120, check=False, env=environment_for_subprocess())
    assert done.returncode == -signal.SIGKILL
    assert DynamicsState.load(f"{out}.npz").step == 6
    assert [frame.info["step"] for frame in ase.io.read(f"{out}.xyz", ":")] == [0, 2, 4, 6]
    ends = []
    for name in ("killed", "whole"):
        files = {"checkpoint": tmp_path / f"{name}.npz", "trajectory": tmp_path / f"{name}.xyz"}
        with hybrid() as qmmm:
            result = run_dynamics(qmmm, steps=10, every=2, resume=True, **files, **HOT)
            ends.append(state_of(qmmm))
        assert [frame.info["step"] for frame in ase.io.read(files["trajectory"], ":")] == [0, 2, 4, 6, 8, 10]
        assert result.n_qm_calls == 11
    assert max(farthest(*ends)) < 1e-11


# --- arguments ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"ensemble": "npt"}, "`ensemble` must be one of"),
        ({"temperature_K": 300.0}, "'nve' has no thermostat"),
        ({"ensemble": "nvt"}, "needs a positive `temperature_K`"),
        ({"timestep_fs": 0.0}, "`timestep_fs` must be positive"),
        ({"every": 0}, "not below 1"),
        ({"resume": True}, "give `checkpoint`"),
    ],
)
def test_wrong_arguments(wrong, words):
    with hybrid(None) as qmmm, pytest.raises(ValueError, match=words):
        run_dynamics(qmmm, **({"steps": 1, "timestep_fs": 1.0} | wrong))


# --- more ranks -----------------------------------------------------------------------------------------------

_SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from solidqmmm.runtime import world
from test_dynamics import two_runs
assert world().size == 2
two_runs(sys.argv[2])
"""


def two_runs(out):
    """Five steps and a resume for five more; the last positions go to `out`.npy."""
    files = {"checkpoint": f"{out}.npz", "trajectory": f"{out}.xyz"}
    with hybrid() as qmmm:
        run_dynamics(qmmm, steps=5, every=5, **files, **HOT)
        run_dynamics(qmmm, steps=10, every=5, resume=True, **files, **HOT)
        positions, _ = state_of(qmmm)
    if is_root():
        np.save(f"{out}.npy", positions)


def test_two_ranks_equal_one(tmp_path, on_ranks):
    two_runs(tmp_path / "one")
    on_ranks("-c", _SCRIPT, Path(__file__).parent, tmp_path / "two", ranks=2)
    one, two = (np.load(tmp_path / f"{name}.npy") for name in ("one", "two"))
    np.testing.assert_allclose(two, one, atol=1e-8, rtol=0)
    assert len(ase.io.read(tmp_path / "two.xyz", ":")) == 3


# --- what goes along ------------------------------------------------------------------------------------------


class Pusher:
    """Pushes one atom by what it has counted so far, and ends the run at the third push."""

    name, every = "pusher", 4

    def __init__(self):
        self.count, self.begun = np.zeros(1), 0

    def begin(self, run):
        self.begun += 1

    def act(self, step, run):
        self.count = self.count + 1
        x = run.host.positions()
        x[7, 1] += 0.01 * self.count[0]
        run.host.set_positions(x)
        if self.count[0] == 3:
            run.stop("pushed enough")

    def state(self):
        return {"count": self.count}

    def restore(self, state):
        self.count = np.array(state["count"])


def test_attendants_act_between_steps_resume_and_may_end_the_run(tmp_path):
    options = HOT | {"every": 5, "checkpoint_every": 10}
    with hybrid() as qmmm:
        whole = run_dynamics(
            qmmm, steps=30, checkpoint=tmp_path / "w.npz", attendants=[Pusher()], **options
        )
        expected = state_of(qmmm)
    assert (whole.n_steps, whole.stop_reason) == (12, "pushed enough")
    np.testing.assert_allclose(whole.times_fs, [0, 5, 10, 12])
    with hybrid() as qmmm:
        run_dynamics(qmmm, steps=10, checkpoint=tmp_path / "p.npz", attendants=[Pusher()], **options)
    with hybrid() as qmmm:
        pusher = Pusher()
        resumed = run_dynamics(
            qmmm, steps=30, checkpoint=tmp_path / "p.npz", resume=True, attendants=[pusher], **options
        )
        assert pusher.count[0] == 3
        assert farthest(expected, state_of(qmmm)) == [0.0, 0.0]
    np.testing.assert_array_equal(resumed.total_energy_eV, whole.total_energy_eV)


def test_another_region_in_the_course_of_a_run():
    """A correction may be replaced by one on other atoms: from there on the run is that of the other region."""

    class Move:
        name, every = "move", 3

        def __init__(self, correction, partition):
            self.correction, self.partition = correction, partition

        def begin(self, run):
            pass

        def act(self, step, run):
            if step == 3:
                run.replace_correction(self.correction, self.partition)

        def state(self):
            return {}

        def restore(self, state):
            pass

    with hybrid() as qmmm, LammpsEngine(TERSOFF) as quantum, LammpsEngine(SW) as classical:
        crystal = qmmm.host.crystal
        core = grown_by_hops(crystal, [100], 1, RULES)
        partition = partition_from(crystal, core, grown_by_hops(crystal, core, 1, RULES))
        other = Subtractive(
            carve(crystal, partition, BARE, bond_rules=RULES), quantum, classical, classical_caps="bare"
        )
        result = run_dynamics(qmmm, steps=6, every=1, attendants=[Move(other, partition)], **HOT)
        assert qmmm.coupling is other
        assert (qmmm.partition.quantum == partition.quantum).all()
        assert result.n_qm_calls == 8  # one more for the other region at step 3
        forces = qmmm.forces()
        with QMMM(crystal, SW, other, partition=partition) as plain:
            plain.host.set_positions(qmmm.host.positions())
            np.testing.assert_allclose(plain.forces(), forces, atol=1e-9)
    # The jump of the energy where the region moves is the difference of two descriptions of the same atoms.
    assert np.ptp(result.total_energy_eV[:3]) < 0.01
    assert np.ptp(result.total_energy_eV[3:]) < 0.01
