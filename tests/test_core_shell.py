"""Core-shell models: shells at rest, forces as total derivatives, dielectric constants, shells that run away."""

from __future__ import annotations

from itertools import combinations_with_replacement, product
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ionic_cases import (
    COULOMB,
    MGO_A,
    MGO_RHO,
    OO_A,
    OO_C,
    OO_RHO,
    buckingham,
    coulomb_matrix,
    magnesia,
    numerical_forces,
    polarizable,
    rigid_ions,
)
from solidqmmm.recipes import elastic_tensor

from solidqmmm.coupling.qmmm import QMMM
from solidqmmm.engines.lammps import LammpsEngine
from solidqmmm.engines.lammps_host import LammpsHost
from solidqmmm.engines.protocols import Contribution
from solidqmmm.errors import EngineError, PolarizationCatastrophe, StudyError
from solidqmmm.procedures.build import build_model
from solidqmmm.procedures.building.host_lattice import relaxed_cell
from solidqmmm.procedures.dynamics import run_dynamics
from solidqmmm.procedures.vibrations.host_hessian import host_hessian
from solidqmmm.recipebook import schemas
from solidqmmm.results.provenance import bibliography
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.host_models import _data, host_model, host_models
from solidqmmm.system.potential import Potential
from solidqmmm.system.study import Study
from solidqmmm.system.study_host import HostSection

SHELL, SPRING = -2.848, 74.92


def energy_of(host):
    def energy(positions):
        host.set_positions(positions)
        return host.energy()

    return energy


def by_hand(crystal, shells, owner, cutoff=10.0):
    """Energy of a core-shell crystal from its definition, shells wherever they are."""
    q = np.where(crystal.numbers == 12, 2.0, -2.0)
    q[owner] -= SHELL
    everything = np.vstack([crystal.positions, shells])
    charges = np.concatenate([q, np.full(len(shells), SHELL)])
    d = np.linalg.norm(shells - crystal.positions[owner], axis=1)
    energy = 0.5 * charges @ coulomb_matrix(everything, crystal.cell) @ charges
    energy -= (COULOMB * SHELL * q[owner] / d).sum()  # a shell does not feel its own core, but for the spring
    energy += 0.5 * SPRING * (d**2).sum()
    bearers = np.vstack([crystal.positions[crystal.numbers == 12], shells])
    oxygen = np.arange(len(bearers)) >= (crystal.numbers == 12).sum()
    reach = range(-3, 4)
    for i, j in combinations_with_replacement(range(len(bearers)), 2):
        if not (oxygen[i] or oxygen[j]):
            continue
        shifts = np.array(list(product(reach, repeat=3))) @ crystal.cell
        r = np.linalg.norm(bearers[i] - bearers[j] + shifts, axis=1)
        r = r[(r > 1e-6) & (r < cutoff)]
        pair = buckingham(r, OO_A, OO_RHO, OO_C) if oxygen[i] and oxygen[j] else buckingham(r, MGO_A, MGO_RHO)
        energy += pair.sum() * (0.5 if i == j else 1.0)
    return energy


# --- energy and forces --------------------------------------------------------------------------------------------


def test_the_energy_is_that_of_the_definition_and_least():
    crystal = magnesia(1)
    with LammpsHost(crystal, polarizable()) as host:
        shells, owner = host.shell_positions(), host.shell_owner
        assert host.energy() == pytest.approx(by_hand(crystal, shells, owner), abs=2e-4)
    np.testing.assert_array_equal(owner, np.flatnonzero(crystal.numbers == 8))
    assert np.linalg.norm(shells - crystal.positions[owner], axis=1).max() > 5e-3
    slope = numerical_forces(lambda x: by_hand(crystal, x, owner), shells, [0, 2])
    np.testing.assert_allclose(slope, 0.0, atol=1e-4)


@pytest.mark.parametrize("shape", ["narrow", "skewed", "wide"])
def test_forces_and_stress_are_total_derivatives(shape):
    crystal = magnesia(3 if shape == "wide" else 2, 0.08)
    if shape == "skewed":
        crystal = crystal.strained(np.eye(3) + 0.03 * np.array([[0, 1, 0], [0, 0, -1], [0.5, 0, 0]]))
    with LammpsHost(crystal, polarizable(9.0, dispersion=0.0)) as host:
        forces, virial = host.forces(), host.virial()
        assert np.abs(forces.sum(axis=0)).max() < 1e-9
        found = numerical_forces(energy_of(host), crystal.positions, [0, 9], step=3e-3)
        np.testing.assert_allclose(forces[[0, 9]], found, atol=1e-4)
        host.set_positions(crystal.positions)
        energies = []
        for sign in (1, -1):
            F = np.eye(3) + sign * 2e-4 * np.array([[1, 0.5, 0], [0.5, 0, 0], [0, 0, -0.3]])
            host.set_cell(crystal.cell)
            host.set_positions(crystal.positions)
            host.set_cell(crystal.cell @ F.T)
            energies.append(host.energy())
    slope = (energies[0] - energies[1]) / 4e-4
    assert virial[0, 0] + virial[0, 1] - 0.3 * virial[2, 2] == pytest.approx(slope, abs=2e-2)


@pytest.mark.parametrize("distance", [1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5])
def test_energy_and_force_of_a_spring_agree(distance):
    lone = Crystal([8], [[5.0, 5.0, 5.0]], 20.0 * np.eye(3))
    potential = polarizable(net_charge=-2.0, quartic=300.0)
    with LammpsHost(lone, potential) as host:

        def pulled(d):
            host.session.scatter_some("x", [1], np.array([[5.0 + d, 5.0, 5.0]]))
            host.session.command("run 0 post no")
            return host.session.potential_energy(), host.session.gather("f")[1, 0]

        step = 1e-2 * distance
        slope = -(pulled(distance + step)[0] - pulled(distance - step)[0]) / (2 * step)
        force = pulled(distance)[1]
    cubic = 300.0 * distance * step**2 / 6  # of the difference quotient
    assert slope == pytest.approx(force - cubic, abs=2e-7, rel=1e-6 if distance > 1e-3 else 1e-4)
    # The box's own images and background push it by 0.0182 eV/A^2.
    assert force == pytest.approx(-SPRING * distance - 50.0 * distance**3 + 0.0182 * distance, rel=1e-5)


def test_wide_and_narrow_cells_agree(monkeypatch):
    """In wide cells pairs are left out by molecule, in narrow ones by type with another splitting of the Ewald sum."""
    crystal = magnesia(3)
    answers = []
    for margin in (1.0, 100.0):
        monkeypatch.setattr("solidqmmm.engines.lammps_shells._MARGIN", margin)
        with LammpsHost(crystal, polarizable(9.0)) as host:
            answers.append((host.energy(), host.forces(), host.virial(), host.shell_positions()))
            if margin == 1.0:
                with pytest.raises(EngineError, match="open a new host"):
                    host.set_cell(0.88 * crystal.cell)
    (wide, *wide_vectors), (narrow, *narrow_vectors) = answers
    assert wide == pytest.approx(narrow, abs=1e-5 * len(crystal))  # the fit of erfc in LAMMPS's pair styles
    for one, other, tolerance in zip(wide_vectors, narrow_vectors, (2e-5, 5e-3, 1e-6), strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance)


def test_a_wide_crystal_relaxes_as_far_as_asked():
    crystal = magnesia(3, 0.02)
    with LammpsHost(crystal, polarizable(9.0, solver="ewald 1e-7", dispersion=0.0)) as host:
        host.minimize(fmax=1e-5)
        assert host.max_force() < 1e-5
        assert np.linalg.norm(host.shell_positions() - host.positions()[host.shell_owner], axis=1).max() < 1e-4


def test_the_engine_is_the_host():
    crystal = magnesia()
    with LammpsHost(crystal, polarizable()) as host, LammpsEngine(polarizable()) as engine:
        first = engine.evaluate(magnesia(2, 0.08).to_atoms())
        answer = engine.evaluate(crystal.to_atoms(), stress=True)
        assert first.energy != answer.energy
        assert answer.energy == pytest.approx(host.energy(), abs=1e-7)
        np.testing.assert_allclose(answer.forces, host.forces(), atol=1e-5)
        np.testing.assert_allclose(answer.stress, host.stress(), atol=1e-7)
        assert engine.describe()["settings"]["shells"][0]["spring"] == SPRING


@pytest.mark.parametrize("style", ["cg", "fire"])
def test_a_minimization_moves_atoms_and_shells(style):
    crystal = magnesia(2 if style == "cg" else 1, 0.03)
    potential = polarizable(cutoff=8.0, solver="ewald 1e-6")
    with LammpsHost(crystal, potential, frozen=[0]) as host:
        host.minimize(fmax=5e-3, style=style)
        after, answers = host.snapshot(), (host.energy(), host.forces())
        assert host.max_force() < 5e-3
        assert not host.forces()[0].any()
    np.testing.assert_allclose(after.positions[0], crystal.positions[0], atol=1e-9)
    with LammpsHost(after, potential, frozen=[0]) as host:
        assert host.energy() == pytest.approx(answers[0], abs=1e-6)
        np.testing.assert_allclose(host.forces(), answers[1], atol=1e-5)


def test_shells_lower_the_energy_and_follow_their_atoms():
    crystal = magnesia()
    with LammpsHost(crystal, polarizable()) as host, LammpsHost(crystal, rigid_ions()) as rigid:
        assert host.energy() < rigid.energy() - 0.01
        d = host.shell_positions() - host.positions()[host.shell_owner]
        host.set_positions(crystal.positions + np.array([50.0, 3.0, -20.0]))
        moved = host.shell_positions() - host.positions()[host.shell_owner]
        np.testing.assert_allclose(moved, d, atol=1e-6)
        host.set_velocities(np.ones((len(crystal), 3)))
        assert host.velocities().shape == (len(crystal), 3)
        assert host.charges().sum() + host.shell_charges().sum() == pytest.approx(0.0, abs=1e-12)


def test_two_ranks_equal_one(on_ranks):
    script = Path(__file__).with_name("mpi_core_shell.py")
    np.testing.assert_allclose(on_ranks(script, ranks=2), on_ranks(script), atol=1e-5)


# --- excluded atoms, corrections ----------------------------------------------------------------------------------


def test_excluded_atoms_have_no_shells_but_their_pair_terms():
    crystal, excluded = magnesia(), [1, 4, 5]
    with LammpsHost(crystal, polarizable(dispersion=0.0), excluded=excluded) as host:
        assert not np.isin(host.shell_owner, excluded).any()
        assert len(host.shell_owner) == 32 - (crystal.numbers[excluded] == 8).sum()
        assert not host.charges()[excluded].any()
        shells, found = host.shell_positions(), host.excluded_pair_energy()
        forces = host.forces()
        by_differences = numerical_forces(energy_of(host), crystal.positions, [1, 2], step=3e-3)
        np.testing.assert_allclose(forces[[1, 2]], by_differences, atol=1e-4)
    magnesium = np.setdiff1d(np.flatnonzero(crystal.numbers == 12), excluded)
    expected = 0.0
    shifts = np.array(list(product((-1, 0, 1), repeat=3))) @ crystal.cell
    for atom in excluded:
        oxygen = crystal.numbers[atom] == 8
        for others, is_oxygen in ((crystal.positions[magnesium], False), (shells, True)):
            r = np.linalg.norm(others[:, None] - crystal.positions[atom] + shifts, axis=-1)
            r = r[r < 10.0]
            if oxygen and is_oxygen:
                expected += buckingham(r, OO_A, OO_RHO).sum()
            elif oxygen or is_oxygen:
                expected += buckingham(r, MGO_A, MGO_RHO).sum()
    assert found == pytest.approx(expected, abs=1e-6)


class Tether:
    """A correction: a spring between an atom and somebody's shell, and one that counts how often it is asked."""

    has_energy = True
    needs_host_forces = False

    def __init__(self, positions, particles):
        self.atoms, self.reference, self.calls = np.array(particles), np.array(positions), 0

    def evaluate(self, positions, cell, host_forces=None):
        self.calls += 1
        d = positions - self.reference
        return Contribution(forces=-3.0 * d, energy=1.5 * (d**2).sum())


def test_corrections_name_shells_behind_the_atoms():
    crystal = magnesia()
    n = len(crystal)
    with LammpsHost(crystal, polarizable()) as host:
        shell, atom = host.shell_positions()[3], crystal.positions[7]
        bare = host.energy()
        tether = Tether([atom + 0.1, shell + 0.3], [7, n + 3])
        host.attach(tether)
        with_it = host.energy()
        assert bare + 0.4 < with_it < bare + 1.5 * 3 * (0.1**2 + 0.3**2)  # the shell gives way
        assert np.linalg.norm(host.shell_positions()[3] - shell) > 5e-3
        forces = host.forces()
        found = numerical_forces(energy_of(host), crystal.positions, [host.shell_owner[3], 7], step=3e-3)
        np.testing.assert_allclose(forces[[host.shell_owner[3], 7]], found, atol=2e-4)
        host.detach()
        blind = Tether([atom + 0.1], [7])
        host.attach(blind)
        host.set_positions(crystal.positions + 0.01 * np.sin(np.arange(3 * n)).reshape(-1, 3))
        host.energy()
        assert blind.calls == 1
        assert tether.calls > 5


# --- what the models are like ---------------------------------------------------------------------------------------


def relaxed(name):
    potential = HostSection(model=name).potential()
    kind = _data()[name]["structure"]
    a = _data()[name]["experiment"]["lattice_parameter_A"]
    crystal = Crystal.of(bulk("".join(potential.species), kind, a=a) if kind == "rocksalt" else bulk("CaF2", kind, a=a))
    with LammpsEngine(potential) as engine:
        return relaxed_cell(crystal, engine), potential


def dielectric_constants(crystal, potential, field=5e-3):
    """High-frequency and static dielectric constants of a cubic crystal from dipoles in a field (V/angstrom)."""
    constants = []
    for clamped in (True, False):
        dipoles = []
        with LammpsHost(crystal, potential) as host:
            along = host.session.rotation[:, 0]  # LAMMPS's x in the crystal's frame
            for sign in (1, -1):
                host.command(f"fix field all efield {sign * field} 0 0")
                host.forget()
                for _ in range(0 if clamped else 400):
                    if np.abs(host.forces()).max() < 1e-6:
                        break
                    host.set_positions(host.positions() + host.forces() / 30.0)
                sites = host.charges() @ host.positions() + host.shell_charges() @ host.shell_positions()
                dipoles.append(sites @ along)
                host.command("unfix field")
        constants.append(1 + 4 * np.pi * COULOMB * (dipoles[0] - dipoles[1]) / (2 * field) / crystal.volume)
    return constants


@pytest.mark.parametrize("name", host_models())
def test_shipped_models_have_the_lattice_of_experiment(name):
    crystal, potential = relaxed(name)
    experiment = _data()[name]["experiment"]
    a = (4 * crystal.volume) ** (1 / 3)
    assert a == pytest.approx(experiment["lattice_parameter_A"], rel=0.01)
    electronic, static = dielectric_constants(crystal, potential)
    assert 1.4 < electronic < experiment["dielectric"][0] * 1.05
    assert static == pytest.approx(experiment["dielectric"][1], rel=0.2)
    assert set(potential.references) <= set(bibliography())


def test_dielectric_constants_are_those_of_lorentz():
    """Closed formulas of cubic crystals: local field E + P/3 eps0; springs, and the pair terms' curvature at rest."""
    crystal, potential = relaxed("lewis_catlow_MgO")
    curvature = 0.0
    for neighbours, square in ((6, 1), (8, 3), (24, 5)):
        r = (4 * crystal.volume) ** (1 / 3) / 2 * np.sqrt(square)
        repulsion = MGO_A * np.exp(-r / MGO_RHO)
        curvature += neighbours / 3 * repulsion * (1 / MGO_RHO**2 - 2 / MGO_RHO / r)
    k_core, lorentz = -2 - SHELL, 4 * np.pi * COULOMB / 3 / crystal.volume

    def constant(stiffness, charges):
        inner = np.array(stiffness) - lorentz * np.outer(charges, charges)
        u = np.linalg.lstsq(inner, np.array(charges), rcond=1e-9)[0]
        return 1 + 3 * lorentz * (u @ charges)

    S = curvature
    all_move = [[S, 0, -S], [0, SPRING, -SPRING], [-S, -SPRING, S + SPRING]]
    expected = constant([[S + SPRING]], [SHELL]), constant(all_move, [2.0, k_core, SHELL])
    np.testing.assert_allclose(dielectric_constants(crystal, potential), expected, rtol=2e-3)


def test_elastic_constants_of_central_forces_obey_cauchy():
    """Every ion is a centre of inversion and all forces are central: C12 = C44 (Born and Huang, 1954), at no pressure."""
    host = {"model": "lewis_catlow_MgO", "pair_style": "buck/coul/long/cs 8.0"}
    structure = bulk("MgO", "rocksalt", a=4.212)
    mapping = {"recipe": "elastic_tensor", "structure": structure, "host": host}
    model = build_model(Study.from_mapping(mapping, schemas=schemas()))
    C = np.array(elastic_tensor.run(model=model).elastic_tensor_GPa)
    assert C[0, 1] == pytest.approx(C[3, 3], rel=0.01)
    assert 300 < C[0, 0] < 420


# --- what fails -----------------------------------------------------------------------------------------------------


def test_a_shell_that_runs_away_is_named():
    crystal = magnesia(2, 0.02)
    near = crystal.positions.copy()
    near[1] += 0.6 * (near[0] - near[1]) / 2.1  # an oxygen pressed towards its neighbour
    crowded = crystal.with_positions(near)
    with pytest.raises(PolarizationCatastrophe, match=r"shell of atom \d+ \(O\) ran away .* Mg 0 at .*`quartic`") as caught:
        LammpsHost(crowded, polarizable(spring=4.0))
    assert caught.value.pair is not None
    with LammpsHost(crowded, polarizable(spring=4.0, quartic=5e4)) as host:
        assert np.isfinite(host.energy())


def test_dynamics_and_hessians_are_refused():
    crystal = magnesia(1)
    with QMMM(crystal, polarizable()) as qmmm:
        with pytest.raises(ValueError, match="dynamics of a core-shell model"):
            run_dynamics(qmmm, steps=1, timestep_fs=1.0)
        with pytest.raises(ValueError, match="dynamics of a core-shell model"):
            qmmm.host.run(1)
        with pytest.raises(ValueError, match="long-ranged"):
            host_hessian(qmmm.host)


BUCK = {"pair_coeff": "* * 0 1 0", "species": ("Mg", "O"), "charges": (2, -2), "commands": "kspace_style ewald 1e-6"}
SHELLS = {"shells": {"O": {"charge": -2.8, "spring": 70.0}}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shells": {"F": {"charge": -2.0, "spring": 1.0}}}, "shells without their cores: F is not among"),
        ({"pair_style": "born/coul/wolf 0.2 9"}, "use born/coul/wolf/cs"),
        ({"charges": ()}, "`shells` need `charges`"),
        ({"shells": {"O": {"charge": 0.0, "spring": 1.0}}}, "needs a `charge`"),
        ({"shells": {"O": {"charge": -2.0, "spring": 0.0}}}, "positive `spring`"),
    ],
)
def test_wrong_shells(changes, said):
    with pytest.raises(ValueError, match=said):
        Potential(**({"pair_style": "buck/coul/long/cs 9"} | BUCK | SHELLS | changes))


def test_own_charges_of_ions_with_shells():
    crystal = magnesia(1)
    own = np.where(crystal.numbers == 12, 1.9, -1.9)
    with pytest.raises(ValueError, match="ions with shells have the charges of their species"):
        LammpsHost(crystal.with_arrays(charges=own), polarizable())


# --- through a study ------------------------------------------------------------------------------------------------


def test_a_study_names_a_model():
    mapping = {"recipe": "single_point", "structure": bulk("MgO", "rocksalt", a=4.2, cubic=True)}
    study = Study.from_mapping(mapping | {"host": {"model": "gulp_MgO"}}, schemas=schemas())
    written = study.as_mapping()["host"]
    assert written["pair_coeff"] == host_model("gulp_MgO")["pair_coeff"]
    again = Study.from_mapping(mapping | {"host": written}, schemas=schemas())
    assert again.potential() == study.potential()
    model = build_model(study)
    assert "gale2003gulp" in model.references()
    with model.open() as qmmm:
        assert len(qmmm.host.shell_owner) == 4
    with pytest.raises(StudyError, match="no host model 'gulp_Mg0'; did you mean 'gulp_MgO'"):
        Study.from_mapping(mapping | {"host": {"model": "gulp_Mg0"}}, schemas=schemas())
