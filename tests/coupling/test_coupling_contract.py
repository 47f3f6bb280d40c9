"""What every coupling owes, whatever its boundary, crystal and engines: gradients, virials, invariances, exact limits."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
from ase.units import GPa
from hybrids import (
    BARE,
    EVERY,
    FORCE_MIXING,
    SILICON_CAPS,
    SNAP,
    SUBTRACTIVE,
    SW,
    TERSOFF,
    TERSOFF_1989,
    TERSOFF_MOD,
    Hybrid,
    rattled,
    silicon,
    small_silicon,
    thin_silicon,
    triclinic_silicon,
)
from scipy.spatial.transform import Rotation

from solidqmmm.coupling.force_mixing import ForceMixing
from solidqmmm.coupling.qmmm import QMMM
from solidqmmm.coupling.subtractive import Subtractive
from solidqmmm.engines.lammps import LammpsEngine
from solidqmmm.procedures.building.select import partition_from
from solidqmmm.procedures.carve import carve
from solidqmmm.system.caps import CapRules
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.partition import Partition

each_with_energy = pytest.mark.parametrize("hybrid", SUBTRACTIVE.values(), ids=SUBTRACTIVE)
each_without_energy = pytest.mark.parametrize("hybrid", FORCE_MIXING.values(), ids=FORCE_MIXING)
each = pytest.mark.parametrize("hybrid", EVERY.values(), ids=EVERY)

STEP = 1e-3  # angstrom
# Fourth-order central difference: (offset in steps, weight per step).
STENCIL = ((1, 8 / 12), (-1, -8 / 12), (2, -1 / 12), (-2, 1 / 12))
STRAINS = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]


def some_of_each_kind(qmmm) -> list[int]:
    """Two atoms each of core, buffer, the host's side of cut bonds, and the rest of the host."""
    cluster, partition = qmmm.coupling.cluster, qmmm.partition
    outer = cluster.region[cluster.n_quantum :]
    rest = np.setdiff1d(np.arange(len(qmmm)), cluster.region)
    kinds = [partition.core, partition.buffer, outer, rest]
    return [int(atom) for kind in kinds for atom in kind[[0, -1][: len(kind)]]]


def energy_gradient(qmmm, atom) -> np.ndarray:
    start = qmmm.host.positions()
    gradient = np.zeros(3)
    for k in range(3):
        for offset, weight in STENCIL:
            moved = start.copy()
            moved[atom, k] += offset * STEP
            qmmm.host.set_positions(moved)
            gradient[k] += weight / STEP * qmmm.energy()
    qmmm.host.set_positions(start)
    return gradient


def symmetric_strain(i, j, size) -> np.ndarray:
    """The deformation 1 + e with e_ij = e_ji = size (size / 2 each off the diagonal)."""
    F = np.eye(3)
    F[i, j] += 0.5 * size
    F[j, i] += 0.5 * size
    return F


# --- gradients ------------------------------------------------------------------------------------------------


@each_with_energy
def test_forces_are_minus_the_gradient_of_the_energy(hybrid):
    with hybrid.open() as qmmm:
        forces = qmmm.forces()
        for atom in some_of_each_kind(qmmm):
            np.testing.assert_allclose(forces[atom], -energy_gradient(qmmm, atom), atol=1e-5, err_msg=str(atom))


@each_with_energy
def test_stress_is_the_strain_derivative_of_the_energy(hybrid):
    size = 1e-5
    with hybrid.open() as qmmm:
        stress, cell = qmmm.stress(), qmmm.host.cell()
        volume = abs(np.linalg.det(cell))
        for i, j in STRAINS:
            energies = []
            for sign in (1, -1):
                qmmm.host.set_cell(cell @ symmetric_strain(i, j, sign * size).T)
                energies.append(qmmm.energy())
                qmmm.host.set_cell(cell)
            numerical = (energies[0] - energies[1]) / (2 * size) / volume
            assert stress[i, j] / GPa == pytest.approx(numerical / GPa, abs=1e-4), (i, j)
        np.testing.assert_allclose(stress, stress.T, atol=1e-12)


@each_with_energy
def test_a_strained_crystal_is_the_same_made_at_once_or_by_the_host(hybrid):
    """Energy, forces and stress after `set_cell` are those of a crystal that was made strained."""
    F = np.eye(3) + 0.01 * np.array([[1.0, 0.5, -0.3], [0.2, -0.7, 0.4], [-0.6, 0.1, 0.9]])
    perfect = hybrid.make()
    crystal = rattled(perfect)
    with hybrid.open(crystal) as qmmm:
        qmmm.host.set_cell(crystal.cell @ F.T)
        stepwise = qmmm.energy(), qmmm.forces(), qmmm.stress()
    with hybrid.open(crystal.strained(F)) as qmmm:
        qmmm.host.evaluate()
        at_once = qmmm.energy(), qmmm.forces(), qmmm.stress()
    for one, other in zip(stepwise, at_once, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-8)


@each_with_energy
def test_terms_add_up_to_the_energy(hybrid):
    with hybrid.open() as qmmm:
        terms = qmmm.energy_terms()
        assert set(terms) == {"mm", "qm_cluster", "mm_cluster"} | ({"ghost_force"} if hybrid.ghost else set())
        assert sum(terms.values()) == pytest.approx(qmmm.energy(), abs=1e-9)
        with LammpsEngine(hybrid.host) as host:
            assert terms["mm"] == pytest.approx(host.evaluate(qmmm.host.snapshot().to_atoms()).energy, abs=1e-9)


# --- net force and torque -------------------------------------------------------------------------------------


@each
def test_no_net_force(hybrid):
    with hybrid.open() as qmmm:
        net = qmmm.forces().sum(axis=0)
    if hybrid.options.get("net_force") == "none":
        assert np.abs(net).max() > 1e-3
    else:
        np.testing.assert_allclose(net, 0.0, atol=1e-10)


@pytest.mark.parametrize("scheme", ["bare, SNAP", "caps of fixed length", "polar crystal", "metal", "triclinic"])
def test_no_torque_from_an_isolated_cluster(scheme):
    with SUBTRACTIVE[scheme].open() as qmmm:
        given = qmmm.contribution()
        x = qmmm.coupling.cluster.contiguous(qmmm.host.positions()[qmmm.coupling.atoms], qmmm.host.cell())
    assert np.abs(given.forces).max() > 0.05
    np.testing.assert_allclose(np.cross(x, given.forces).sum(axis=0), 0.0, atol=1e-9)


# --- invariances ----------------------------------------------------------------------------------------------


def answers(hybrid, crystal, perfect, partition):
    with hybrid.open(crystal, perfect, partition) as qmmm:
        return qmmm.energy(), qmmm.forces(), qmmm.stress()


def assert_same(found, expected, tolerance=1e-8):
    for one, other in zip(found, expected, strict=True):
        if other is None:
            assert one is None
        else:
            np.testing.assert_allclose(one, other, atol=tolerance)


@each
def test_translation_and_wrapping(hybrid):
    """A rigid shift, and atoms given in any image, change nothing; the region moves over all boundaries of the cell."""
    perfect = hybrid.make()
    crystal, partition = rattled(perfect), hybrid.partition(perfect)
    before = answers(hybrid, crystal, perfect, partition)
    shift = np.array([7.31, -4.9, 13.7])
    images = np.random.default_rng(1).integers(-2, 3, crystal.positions.shape) @ crystal.cell
    for u in (shift, shift + images, images):
        moved = perfect.with_positions(perfect.positions + u)
        there = Partition(partition.labels, partition.centre + shift * (u is not images))
        after = answers(hybrid, crystal.with_positions(crystal.positions + u), moved, there)
        assert_same(after, before)


@each
def test_rotation_of_the_whole_crystal(hybrid):
    R = Rotation.from_euler("xyz", [31, -47, 112], degrees=True).as_matrix()
    perfect = hybrid.make()
    partition = hybrid.partition(perfect)
    energy, forces, stress = answers(hybrid, rattled(perfect), perfect, partition)
    turned = replace(hybrid, stretch=R @ hybrid.stretch @ R.T)
    there = Partition(partition.labels, R @ partition.centre)
    found = answers(turned, rattled(perfect).strained(R), perfect.strained(R), there)
    assert_same(found, (energy, forces @ R.T, None if stress is None else R @ stress @ R.T))


@each
def test_order_of_the_atoms(hybrid):
    perfect = hybrid.make()
    crystal, partition = rattled(perfect), hybrid.partition(perfect)
    energy, forces, stress = answers(hybrid, crystal, perfect, partition)
    order = np.random.default_rng(5).permutation(len(perfect))

    def shuffled(c):
        return Crystal(c.numbers[order], c.positions[order], c.cell, c.pbc)

    found = answers(hybrid, shuffled(crystal), shuffled(perfect), Partition(partition.labels[order], partition.centre))
    assert_same(found, (energy, forces[order], stress))


@each
def test_atoms_that_cross_the_boundary_during_dynamics(hybrid):
    """The crystal drifts through its own cell while it vibrates; LAMMPS wraps its atoms, and nothing notices."""
    perfect = hybrid.make()
    drift = np.array([400.0, -350.0, 300.0])  # angstrom/ps: more than half of the cell in the end
    with hybrid.open() as qmmm:
        host = qmmm.host
        host.command("fix nve all nve")
        host.command("timestep 0.0005")
        host.command("neigh_modify every 1 delay 0 check no")
        host.set_velocities(np.tile(drift, (len(host), 1)))
        before = host.session.gather("x")
        host.run(40)
        wrapped = np.abs(host.session.gather("x") - before).max(axis=0)
        assert (wrapped > 0.3 * perfect.widths.min()).all(), "no atom was wrapped: the test tests nothing"
        after = qmmm.energy(), qmmm.forces(), qmmm.stress()
        crystal = host.snapshot()
        # A fresh start at the final positions, the drift taken back.
        back = crystal.with_positions(crystal.positions - 0.02 * drift)
    with hybrid.open(back) as qmmm:
        assert_same(after, (qmmm.energy(), qmmm.forces(), qmmm.stress()), 1e-7)


# --- exact limits -----------------------------------------------------------------------------------------------

# Quantum caps that are atoms of the host held on the host's own bonds: the two descriptions then see the same cluster.
HOST_CAPS = CapRules(kind="Si", length=5.431 * np.sqrt(3) / 4)
SAME = {
    "bare": Hybrid(silicon, caps=BARE),
    "caps": Hybrid(silicon, caps=HOST_CAPS),
    "periodic line": Hybrid(thin_silicon, caps=HOST_CAPS, periodic_axes=(2,)),
    "triclinic": Hybrid(triclinic_silicon, caps=HOST_CAPS),
    "everything quantum": Hybrid(small_silicon, core=1, buffer=20, periodic_axes=(0, 1, 2)),
    "force mixing, everything core": Hybrid(
        small_silicon, core=20, buffer=0, periodic_axes=(0, 1, 2), scheme="force_mixing"
    ),
}


@pytest.mark.parametrize("potential", [SW, TERSOFF], ids=["SW", "Tersoff"])
@pytest.mark.parametrize("hybrid", SAME.values(), ids=SAME)
def test_same_engine_on_both_sides_is_the_plain_engine(hybrid, potential):
    hybrid = replace(hybrid, host=potential, expensive=potential)
    crystal = rattled(hybrid.make())
    with LammpsEngine(potential) as engine:
        plain = engine.evaluate(crystal.to_atoms(), stress=True)
    with hybrid.open(crystal) as qmmm:
        np.testing.assert_allclose(qmmm.forces(), plain.forces, atol=1e-8)
        if hybrid.has_energy:
            assert qmmm.energy() == pytest.approx(plain.energy, abs=1e-9)
            np.testing.assert_allclose(qmmm.stress(), plain.stress, atol=1e-10)


@pytest.mark.parametrize("scheme", ["subtractive", "force_mixing"])
def test_everything_quantum_is_the_pure_engine(scheme):
    hybrid = Hybrid(small_silicon, expensive=SNAP, core=20, buffer=0, periodic_axes=(0, 1, 2), scheme=scheme)
    crystal = rattled(hybrid.make())
    with LammpsEngine(SNAP) as engine:
        pure = engine.evaluate(crystal.to_atoms(), stress=True)
    with hybrid.open(crystal) as qmmm:
        np.testing.assert_allclose(qmmm.forces(), pure.forces, atol=1e-8)
        if hybrid.has_energy:
            assert qmmm.energy() == pytest.approx(pure.energy, abs=1e-9)
            np.testing.assert_allclose(qmmm.stress(), pure.stress, atol=1e-10)


def test_everything_quantum_and_matched_is_the_matched_engine():
    """E = beta E_engine(x A): the engine alone on the stretched crystal, its energy and forces scaled."""
    hybrid = SUBTRACTIVE["everything quantum, matching"]
    crystal, beta = rattled(hybrid.make()), hybrid.options["energy_scale"]
    with LammpsEngine(hybrid.expensive) as engine:
        pure = engine.evaluate(crystal.strained(hybrid.stretch.T).to_atoms())
    with hybrid.open(crystal) as qmmm:
        assert qmmm.energy() == pytest.approx(beta * pure.energy, abs=1e-9)
        np.testing.assert_allclose(qmmm.forces(), beta * pure.forces @ hybrid.stretch.T, atol=1e-8)


def test_nothing_quantum_is_the_pure_host():
    crystal = rattled(silicon())
    with LammpsEngine(SW) as engine:
        pure = engine.evaluate(crystal.to_atoms(), stress=True)
    with QMMM(crystal, SW) as qmmm:
        assert qmmm.energy() == pytest.approx(pure.energy, abs=1e-9)
        assert qmmm.energy_terms() == {"mm": qmmm.energy()}
        np.testing.assert_allclose(qmmm.forces(), pure.forces, atol=1e-8)
        np.testing.assert_allclose(qmmm.stress(), pure.stress, atol=1e-10)
        assert qmmm.contribution() is None


# --- ghost forces -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ghost forces", "periodic line, matching and ghost forces"])
def test_patch_test_at_zero_strain(name):
    hybrid = SUBTRACTIVE[name]
    perfect = hybrid.make()
    without = replace(hybrid, ghost=False)
    with without.open(perfect) as qmmm:
        energy, spurious = qmmm.energy(), np.abs(qmmm.forces()).max()
    assert spurious > 0.02, "nothing to correct: the test tests nothing"
    with hybrid.open(perfect) as qmmm:
        np.testing.assert_allclose(qmmm.forces(), 0.0, atol=1e-9)
        assert qmmm.energy() == pytest.approx(energy, abs=1e-9)
        assert qmmm.energy_terms()["ghost_force"] == pytest.approx(0.0, abs=1e-9)


def test_dead_load_is_constant():
    """Its share of the forces is the same at any displacement: the Hessian is untouched."""
    hybrid = SUBTRACTIVE["ghost forces"]
    given = []
    for one in (hybrid, replace(hybrid, ghost=False)):
        with one.open(rattled(one.make(), 0.15)) as qmmm:
            given.append(qmmm.contribution())
            loaded = qmmm.coupling if one.ghost else None
        if loaded is not None:
            load = loaded.dead_load
    np.testing.assert_allclose(given[1].forces - given[0].forces, load, atol=1e-12)


# --- force mixing -------------------------------------------------------------------------------------------------


@each_without_energy
def test_absent_energy_is_absent_and_says_why(hybrid):
    with hybrid.open() as qmmm:
        qmmm.forces()
        assert qmmm.energy() is None
        assert qmmm.energy_terms() == {}
        assert "gradient of an energy" in qmmm.energy_missing_reason
        assert qmmm.stress() is None
        assert "no energy" in qmmm.stress_missing_reason
        assert qmmm.contribution().energy is None
        assert qmmm.contribution().virial is None


@each_without_energy
def test_mixed_forces_are_weighted_sums_up_to_the_net_force(hybrid):
    """F_i = w_i F_engine,i + (1 - w_i) F_host,i - share_i x (net force), and the host's own forces elsewhere."""
    crystal = rattled(hybrid.make())
    with hybrid.open(crystal) as qmmm:
        forces, coupling = qmmm.forces(), qmmm.coupling
        cluster, w, net = coupling.cluster, coupling.weights, coupling.removed_net_force
        x = cluster.contiguous(qmmm.host.positions()[cluster.region], qmmm.host.cell())
        atoms = cluster.to_atoms(x, qmmm.host.cell())
        quantum = cluster.quantum
    with LammpsEngine(hybrid.host) as host, LammpsEngine(hybrid.expensive) as engine:
        classical = host.evaluate(crystal.to_atoms()).forces
        beta = hybrid.options.get("energy_scale", 1.0)
        expensive = beta * engine.evaluate(atoms).forces[: len(quantum)] @ hybrid.stretch.T
    share = {"core": w / w.sum(), "region": np.full(len(w), 1 / len(w)), "none": 0 * w}[coupling.net_force]
    expected = classical.copy()
    expected[quantum] += w[:, None] * (expensive - classical[quantum]) - share[:, None] * net
    np.testing.assert_allclose(forces, expected, atol=1e-8)
    assert (w[cluster.core] == 1).all()
    if not hybrid.smooth:
        assert (w[~cluster.core] == 0).all()
    else:
        assert (w[~cluster.core] < 1).all()
        assert ((w > 0) & (w < 1)).any()


# --- exactness with a thick buffer ---------------------------------------------------------------------------------

# RMS error of the core forces in eV/angstrom for buffers of 0, 1, 2, ... angstrom: 1728 atoms of silicon, rattled by 0.05
# angstrom (numpy RandomState(0)), core within 4 angstrom of the atom nearest the centre, bare clusters of the same potential
# in vacuum. A potential sees its neighbours' neighbours, so the error vanishes exactly from twice its cutoff on.
EXACTNESS = {
    "SW": (SW, [1.31, 0.642, 0.0866, 0.0390, 1.5e-7, 0, 0, 0]),
    "T3": (TERSOFF_1989, [1.16, 0.858, 0.624, 0.244, 0, 0, 0, 0]),
    "tersoff.mod": (TERSOFF_MOD, [1.54, 0.952, 0.592, 0.182, 0, 0, 0, 0]),
}


def big_silicon() -> tuple[Crystal, Crystal, np.ndarray]:
    """1728 atoms, perfect and rattled, and their distances from the atom nearest the centre in angstrom."""
    from ase.build import bulk

    from solidqmmm.physics.geometry import distances_to_point

    perfect = Crystal.of(bulk("Si", a=5.431, cubic=True) * (6, 6, 6))
    crystal = perfect.with_positions(perfect.positions + np.random.RandomState(0).normal(0, 0.05, (1728, 3)))
    middle = 0.5 * perfect.cell.sum(axis=0)
    atom = np.argmin(np.linalg.norm(perfect.positions - middle, axis=1))
    return perfect, crystal, distances_to_point(perfect.positions, perfect.positions[atom], perfect.cell, perfect.pbc)


def core_error(host, expensive, radius, buffer) -> float:
    """RMS error of the core forces under force mixing in eV/angstrom, against the expensive potential everywhere."""
    perfect, crystal, distance = big_silicon()
    core = np.flatnonzero(distance <= radius)
    partition = partition_from(perfect, core, np.flatnonzero(distance <= radius + buffer))
    with ExitStack() as stack:
        engine = stack.enter_context(LammpsEngine(expensive))
        coupling = ForceMixing(carve(crystal, partition, BARE), engine, net_force="none")
        qmmm = stack.enter_context(QMMM(crystal, host, coupling, partition=partition))
        mixed = qmmm.forces()[core]
        exact = engine.evaluate(crystal.to_atoms()).forces[core]
    return float(np.sqrt(((mixed - exact) ** 2).sum(axis=1).mean()))


@pytest.mark.parametrize(("potential", "expected"), EXACTNESS.values(), ids=EXACTNESS)
def test_core_forces_become_exact_with_the_buffer(potential, expected):
    found = [core_error(potential, potential, 4.0, b) for b in range(len(expected))]
    for b, (error, reference) in enumerate(zip(found, expected, strict=True)):
        if reference == 0:
            assert error < 1e-12, b
        else:
            assert error == pytest.approx(reference, rel=0.006 if reference > 1e-3 else 0.05), b


@pytest.mark.parametrize(("buffer", "largest"), [(6.0, 0.03), (8.0, 0.001)])
def test_snap_core_in_sw_silicon(buffer, largest):
    """Per Cartesian component; as vectors the errors are sqrt(3) times larger (0.044 eV/angstrom at 6 angstrom)."""
    assert core_error(SW, SNAP, 5.0, buffer) / np.sqrt(3) <= largest


# --- construction -----------------------------------------------------------------------------------------------


def test_wrong_arguments():
    hybrid = Hybrid(silicon)
    perfect = hybrid.make()
    cluster = carve(perfect, hybrid.partition(perfect), SILICON_CAPS)
    with LammpsEngine(SW) as engine:
        with pytest.raises(ValueError, match="`net_force` must be one of"):
            ForceMixing(cluster, engine, net_force="all")
        with pytest.raises(ValueError, match="`weights` must lie in"):
            ForceMixing(cluster, engine, weights=np.full(cluster.n_quantum, 1.5))
        with pytest.raises(ValueError, match="`weights` must lie in"):
            ForceMixing(cluster, engine, weights=[1.0])
        with pytest.raises(ValueError, match="`classical_caps` must be one of"):
            Subtractive(cluster, engine, engine, classical_caps="hydrogen")
    clashing = replace(hybrid, core=0, buffer=2, caps=CapRules(kind="Si", clashing="keep"))
    with pytest.raises(ValueError, match="two caps of this cluster share"), clashing.open():
        pass
