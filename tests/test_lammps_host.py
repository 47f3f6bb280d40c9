"""The host: LAMMPS's answers in the crystal's frame, corrections attached, failures raised in words."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.units import GPa

from solidqmmm.engines.lammps import LammpsEngine
from solidqmmm.engines.lammps_host import LammpsHost
from solidqmmm.engines.protocols import Contribution
from solidqmmm.errors import EngineError
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.potential import Potential

SW = Potential("sw", "* * Si.sw Si", "Si")


class Springs:
    """A correction with known answers: E = k/2 sum |x - x0|^2 over a few atoms, x0 following the cell."""

    has_energy = True
    needs_host_forces = False

    def __init__(self, crystal, atoms, k=2.0, fails_at=None):
        self.atoms = np.array(atoms)
        self.reference = crystal.positions[self.atoms]
        self.cell, self.k = crystal.cell, k
        self.calls, self.fails_at = 0, fails_at

    def evaluate(self, positions, cell, host_forces=None):
        self.calls += 1
        if self.calls == self.fails_at:
            raise KeyError("the spring broke")
        d = positions - self.reference @ np.linalg.solve(self.cell, cell)
        return Contribution(forces=-self.k * d, energy=0.5 * self.k * (d**2).sum(), virial=-self.k * d.T @ d)


def rattled(crystal, amplitude=0.05):
    u = amplitude * np.random.default_rng(2).normal(size=crystal.positions.shape)
    return crystal.with_positions(crystal.positions + u)


CRYSTALS = {
    "cubic": lambda: Crystal.of(bulk("Si", cubic=True) * (3, 3, 3)),
    "skewed": lambda: Crystal.of(bulk("Si")).supercell([[4, 0, 0], [3, 4, 0], [-3, 2, 4]]),
    "left-handed": lambda: Crystal.of(bulk("Si")).supercell([[0, 4, 0], [4, 0, 0], [0, 0, 4]]),
    "free surface": lambda: Crystal.of(_slab()),
}


def _slab():
    slab = bulk("Si", cubic=True) * (3, 3, 2)
    slab.center(vacuum=6.0, axis=2)
    slab.pbc = (True, True, False)
    return slab


@pytest.fixture(params=CRYSTALS, scope="module")
def crystal(request):
    return rattled(CRYSTALS[request.param]())


@pytest.fixture
def silicon():
    return rattled(CRYSTALS["cubic"]())


def test_host_equals_the_engine_in_any_cell(crystal):
    with LammpsHost(crystal, SW) as host, LammpsEngine(SW) as engine:
        expected = engine.evaluate(crystal.to_atoms(), stress=True)
        assert host.energy() == pytest.approx(expected.energy, abs=1e-9)
        np.testing.assert_allclose(host.forces(), expected.forces, atol=1e-10)
        np.testing.assert_allclose(host.stress(), expected.stress, atol=1e-12)
        np.testing.assert_allclose(host.positions(), crystal.positions, atol=1e-12)
        np.testing.assert_allclose(host.cell(), crystal.cell, atol=1e-12)


def test_cell_and_positions_go_in_and_come_out(crystal):
    F = np.eye(3) + 0.02 * np.array([[0.4, 0.3, 0.0], [-0.5, 0.6, 0.0], [0.0, 0.0, -1.0]])
    with LammpsHost(crystal, SW) as host:
        host.set_cell(crystal.cell @ F.T)
        np.testing.assert_allclose(host.cell(), crystal.cell @ F.T, atol=1e-12)
        np.testing.assert_allclose(host.positions(), crystal.positions @ F.T, atol=1e-11)
        energy, forces = host.energy(), host.forces()
        host.set_cell(crystal.cell, remap=True)
        host.set_positions(crystal.positions + 100 * crystal.cell[0])  # any image along a periodic direction
        np.testing.assert_allclose(host.positions(), crystal.positions, atol=1e-10)
        before = host.energy()
        host.set_velocities(crystal.positions * 1e-3)
        np.testing.assert_allclose(host.velocities(), crystal.positions * 1e-3, atol=1e-14)
    with LammpsHost(crystal.strained(F), SW) as host:
        assert host.energy() == pytest.approx(energy, abs=1e-9)
        np.testing.assert_allclose(host.forces(), forces, atol=1e-9)
    with LammpsHost(crystal, SW) as host:
        assert host.energy() == pytest.approx(before, abs=1e-9)


def test_a_cell_without_remap_leaves_the_atoms():
    crystal = CRYSTALS["cubic"]()
    with LammpsHost(crystal, SW) as host:
        host.set_cell(crystal.cell * 1.1, remap=False)
        images = (host.session.gather("x") - crystal.positions) @ np.linalg.inv(host.cell())
        np.testing.assert_allclose(images, np.rint(images), atol=1e-12)


def test_units_real_and_metal_agree(silicon):
    lj = {"pair_style": "lj/cut 6.0", "species": "Si"}
    ev = 0.0433641153
    answers = []
    for potential in (
        Potential(**lj, pair_coeff=f"1 1 {0.4 * ev:.12g} 2.3"),
        Potential(**lj, pair_coeff="1 1 0.4 2.3", units="real"),
    ):
        with LammpsHost(silicon, potential) as host:
            host.set_velocities(np.ones((len(host), 3)))
            np.testing.assert_allclose(host.velocities(), 1.0, rtol=1e-12)
            answers.append((host.energy(), host.forces(), host.stress() / GPa))
    for metal, real in zip(*answers, strict=True):
        np.testing.assert_allclose(real, metal, rtol=1e-7, atol=1e-9)


def test_charges_and_hybrid_styles():
    crystal = rattled(Crystal.of(bulk("NaCl", "rocksalt", a=5.64, cubic=True) * (3, 3, 3)), 0.1)
    born = {"pair_coeff": ("* * coul/long", "* * lj/cut 0.01 2.8"), "species": ("Na", "Cl"), "atom_style": "charge"}
    ewald = {"pair_style": "hybrid/overlay coul/long 7.0 lj/cut 7.0", "commands": ("kspace_style ewald 1e-8",)}
    energies = []
    for q in (0.5, 1.0):
        with LammpsHost(crystal, Potential(**born, **ewald, charges=(q, -q))) as host:
            energies.append(host.energy())
    # Madelung: -1.747565 e^2 / r_0 per pair; the rattling changes a per cent of it.
    coulomb = (energies[1] - energies[0]) / (1 - 0.5**2) / (len(crystal) / 2)
    assert coulomb == pytest.approx(-1.747565 * 14.399645 / 2.82, rel=0.02)


@pytest.mark.parametrize("solver", ["ewald 1e-8", "pppm 1e-6"])
def test_a_box_that_becomes_skewed_keeps_its_long_range_forces(solver):
    crystal = rattled(Crystal.of(bulk("NaCl", "rocksalt", a=5.64, cubic=True) * (2, 2, 2)), 0.1)
    potential = Potential(
        "born/coul/long 7.0", ("* * 0.1 0.3 2.5 0 0",), ("Na", "Cl"), atom_style="charge", charges=(1, -1),
        commands=(f"kspace_style {solver}", "kspace_modify gewald 0.4"),
    )  # fmt: skip
    shear = np.eye(3) + 0.02 * np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    with LammpsHost(crystal, potential) as host:
        host.set_cell(crystal.cell @ shear.T)
        found = host.energy(), host.forces(), host.stress()
    with LammpsHost(crystal.strained(shear), potential) as host:
        expected = host.energy(), host.forces(), host.stress()
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


# --- corrections ------------------------------------------------------------------------------------------------


def test_a_correction_adds_energy_forces_and_virial_and_goes_away(crystal):
    atoms = [3, 0, 11]
    shifted = crystal.positions.copy()
    shifted[atoms] += [[0.2, 0.1, 0.0], [0.0, -0.1, 0.3], [-0.1, 0.0, 0.1]]
    with LammpsHost(crystal.with_positions(shifted), SW) as host:
        bare = host.energy(), host.forces(), host.virial()
        springs = Springs(crystal, atoms)
        host.attach(springs)
        given = springs.evaluate(shifted[atoms], crystal.cell)
        assert host.energy() == pytest.approx(bare[0] + given.energy, abs=1e-9)
        added = host.forces() - bare[1]
        np.testing.assert_allclose(added[atoms], given.forces, atol=1e-10)
        assert np.abs(np.delete(added, atoms, axis=0)).max() < 1e-10
        np.testing.assert_allclose(host.virial(), bare[2] - given.virial, atol=1e-8)
        assert host.contribution().energy == pytest.approx(given.energy)
        assert list(host.corrections) == ["correction"]
        with pytest.raises(ValueError, match="attached already"):
            host.attach(springs)
        host.detach()
        assert host.energy() == pytest.approx(bare[0], abs=1e-9)
        np.testing.assert_allclose(host.forces(), bare[1], atol=1e-10)


def test_atoms_shares_of_the_virial_add_up_to_it(crystal):
    with LammpsHost(crystal, SW) as host:
        shares = host.atomic_virials()
        assert shares.shape == (len(crystal), 3, 3)
        np.testing.assert_allclose(shares.sum(axis=0), host.virial(), atol=1e-6)


def test_two_corrections_add_up(silicon):
    moved = silicon.positions + 0.1
    with LammpsHost(silicon.with_positions(moved), SW) as host:
        energy, force = host.energy(), host.forces()[2]
        host.attach(Springs(silicon, [1, 2]), "one")
        host.attach(Springs(silicon, [2, 5], k=6.0), "two")
        assert host.energy() == pytest.approx(energy + 0.5 * (2 + 6) * 2 * 0.03, abs=1e-9)
        np.testing.assert_allclose(host.forces()[2], force - (2 + 6) * 0.1, atol=1e-10)
        host.detach("one")
        np.testing.assert_allclose(host.forces()[2], force - 6 * 0.1, atol=1e-10)


@pytest.mark.parametrize("work", ["minimize", "fire", "run"])
def test_answers_after_work_are_those_of_a_fresh_host(silicon, work):
    atoms = [0, 1, 30]
    with LammpsHost(silicon, SW) as host:
        host.attach(Springs(silicon, atoms))
        if work == "run":
            host.command("fix nve all nve")
            host.run(20)
        else:
            host.minimize(fmax=0.01, style="cg" if work == "minimize" else "fire")
            assert host.max_force() <= 0.01
        after, answers = host.snapshot(), (host.energy(), host.forces(), host.stress())
    assert np.abs(after.positions - silicon.positions).max() > 1e-3
    with LammpsHost(after, SW) as host:
        host.attach(Springs(silicon, atoms))
        for found, expected in zip(answers, (host.energy(), host.forces(), host.stress()), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-8)


def test_dynamics_with_a_correction_conserve_energy(silicon):
    with LammpsHost(silicon, SW) as host:
        host.attach(Springs(silicon, range(0, 40)))
        host.command("fix nve all nve")
        host.command("timestep 0.0005")
        host.set_velocities(np.random.default_rng(0).normal(0, 3.0, (len(silicon), 3)))
        total, kinetic = [], []
        for _ in range(10):
            host.run(20)
            kinetic.append(host.session.thermo("ke"))
            total.append(host.session.thermo("etotal"))
    assert np.ptp(kinetic) > 0.5
    assert np.ptp(total) < 1e-3 * np.ptp(kinetic)


def test_frozen_atoms_stay(silicon):
    frozen = np.arange(0, len(silicon), 2)
    with LammpsHost(silicon, SW, frozen=frozen) as host:
        host.attach(Springs(silicon.with_positions(silicon.positions + 0.1), [0, 1]))
        assert np.abs(host.forces()[frozen]).max() == 0
        assert np.abs(host.forces()[1]).max() > 0.1
        host.minimize(fmax=0.01)
        moved = np.linalg.norm(host.positions() - silicon.positions, axis=1)
    assert moved[frozen].max() < 1e-12
    assert moved[1::2].min() > 1e-4


def test_groups_of_thousands_of_scattered_atoms():
    crystal = Crystal.of(bulk("Si", cubic=True) * (9, 9, 9))
    chosen = np.random.default_rng(1).permutation(len(crystal))[:2500]
    with LammpsHost(crystal, SW) as host:
        host.group("chosen", chosen)
        host.command("variable n equal count(chosen)")
        assert host.session.lmp.extract_variable("n") == 2500
        host.group("nobody", [])
        host.command("variable m equal count(nobody)")
        assert host.session.lmp.extract_variable("m") == 0


# --- what fails --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("work", ["evaluate", "minimize", "run"])
def test_what_a_correction_raises_arrives_and_the_host_lives_on(silicon, work):
    with LammpsHost(silicon, SW) as host:
        pure = host.energy()
        host.attach(Springs(silicon, [0], fails_at=1 if work == "evaluate" else 3))
        host.command("fix nve all nve")
        with pytest.raises(KeyError, match="the spring broke"):
            {"evaluate": host.evaluate, "minimize": lambda: host.minimize(fmax=1e-3), "run": lambda: host.run(50)}[work]()
        host.detach()
        host.set_positions(silicon.positions)
        assert host.energy() == pytest.approx(pure, abs=1e-9)
        host.minimize(fmax=0.01)
        assert host.max_force() <= 0.01


def test_forces_that_are_not_finite_name_the_atom(silicon):
    class Broken(Springs):
        def evaluate(self, positions, cell, host_forces=None):
            return Contribution(forces=np.array([[0.0, 0, 0], [0, np.nan, 0]]), energy=0.0)

    with LammpsHost(silicon, SW) as host:
        host.attach(Broken(silicon, [4, 7]))
        with pytest.raises(EngineError, match="not finite on host atom 7"):
            host.energy()


@pytest.mark.parametrize(
    ("potential", "error", "said"),
    [
        (Potential("sv", "* * Si.sw Si", "Si"), EngineError, "pair style 'sv' is not in this build"),
        (Potential("sw", "* * Si.sw Ge", "Si"), EngineError, "LAMMPS says"),
        (Potential("sw", "1 1 Si.sw Si", "Si"), EngineError, "pair_coeff"),
        (Potential("sw", "* * Nowhere.sw Si", "Si"), FileNotFoundError, "Nowhere.sw"),
        (Potential("eam/alloy", "* * Cu_mishin1.eam.alloy Cu", "Cu"), ValueError, "element Si is not in the potential"),
        (Potential("lj/cut 5.0", "1 1 0.1 2.0", ("Si", "Ge")), EngineError, "coeff"),
    ],
)
def test_wrong_potentials_are_named(silicon, potential, error, said):
    with pytest.raises(error, match=said):
        LammpsHost(silicon, potential)


def test_a_wrong_command_and_a_closed_host(silicon):
    host = LammpsHost(silicon, SW)
    with pytest.raises(EngineError, match="no_such_command") as caught:
        host.command("no_such_command 1 2")
    assert caught.value.command == "no_such_command 1 2"
    assert host.energy() < 0
    host.close()
    host.close()
    with pytest.raises(EngineError, match="closed"):
        host.forces()


def test_atoms_outside_a_free_direction_are_refused():
    slab = _slab()
    slab.positions[0, 2] = -3.0
    with pytest.raises(EngineError, match="must lie inside"):
        LammpsHost(Crystal.of(slab), SW)


def test_values_of_the_wrong_shape(silicon):
    with LammpsHost(silicon, SW) as host, pytest.raises(ValueError, match="must have shape"):
        host.set_positions(np.zeros((3, 3)))
