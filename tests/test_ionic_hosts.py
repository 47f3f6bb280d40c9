"""Ionic hosts: charges, Ewald sums, and atoms taken out so that every pair counts once."""

from __future__ import annotations

from itertools import combinations, combinations_with_replacement, product
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
    rigid_ions,
)

from solidqmmm.engines.lammps import LammpsEngine
from solidqmmm.engines.lammps_host import LammpsHost
from solidqmmm.engines.protocols import Contribution
from solidqmmm.errors import StudyError
from solidqmmm.procedures.build import build_model
from solidqmmm.recipebook import schemas
from solidqmmm.system.charges import site_charges
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.potential import Potential
from solidqmmm.system.study import Study

SW = Potential("sw", "* * Si.sw Si", "Si")
THREE = np.array([[10.0, 10.0, 10.0], [12.1, 10.3, 9.8], [9.2, 12.4, 11.0]])


def three(n=3, pbc=False):
    return Crystal([12, 8, 8][:n], THREE[:n], 30.0 * np.eye(3), (pbc,) * 3)


def short_range(kinds, r):
    """The Buckingham terms of `rigid_ions` for a pair of atomic numbers."""
    if sorted(kinds) == [8, 12]:
        return buckingham(r, MGO_A, MGO_RHO)
    return buckingham(r, OO_A, OO_RHO, OO_C) if list(kinds) == [8, 8] else 0.0


# --- every pair once --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("long_range", [False, True])
def test_every_pair_counts_once(n, long_range):
    crystal, q = three(n, pbc=long_range), np.array([2.0, -2.0, -2.0])[:n]
    if long_range:
        potential = rigid_ions(net_charge=-2.0)
        matrix = coulomb_matrix(crystal.positions, crystal.cell)
    else:
        potential = rigid_ions("buck/coul/cut 14.0", (), net_charge=-2.0)
        r = np.linalg.norm(THREE[:n, None] - THREE[None, :n], axis=-1)
        matrix = COULOMB * np.divide(1.0, r, out=np.zeros((n, n)), where=r > 0)
    for excluded in (subset for size in range(n + 1) for subset in combinations(range(n), size)):
        charges = np.where(np.isin(range(n), excluded), 0.0, q)
        expected = 0.5 * charges @ matrix @ charges
        between = 0.0
        for i, j in combinations(range(n), 2):
            inside = (i in excluded) + (j in excluded)
            pair = short_range(crystal.numbers[[j, i]], np.linalg.norm(THREE[i] - THREE[j]))
            expected += 0.0 if inside == 2 else pair
            between += pair if inside == 1 else 0.0
        with LammpsHost(crystal, potential, excluded=excluded) as host:
            assert host.energy() == pytest.approx(expected, abs=2e-5)
            assert host.excluded_pair_energy() == pytest.approx(between, abs=1e-9)
            np.testing.assert_array_equal(host.charges(), charges)
            if excluded == (0,):
                forces = host.forces()
                by_hand = numerical_forces(energy_of(host), crystal.positions, range(n))
                np.testing.assert_allclose(forces, by_hand, atol=2e-5)


def energy_of(host):
    def energy(positions):
        host.set_positions(positions)
        return host.energy()

    return energy


@pytest.mark.parametrize("excluded", [[9], [0, 1, 2, 3, 4, 33, 50]])
def test_what_is_taken_out_of_magnesia_is_what_it_was(excluded):
    """E(all) = E(excluded) + E_QQ + q.Phi: the missing terms from sums of Ewald's that are not LAMMPS's."""
    crystal, potential = magnesia(), rigid_ions()
    q = site_charges(crystal, potential)
    matrix = coulomb_matrix(crystal.positions, crystal.cell)
    inside = np.isin(range(len(crystal)), excluded)
    quantum = 0.5 * (q * inside) @ matrix @ (q * inside)
    in_the_field = (q * inside) @ matrix @ (q * ~inside)
    for i, j in combinations_with_replacement(excluded, 2):
        for shift in product((-1, 0, 1), repeat=3):
            r = np.linalg.norm(crystal.positions[i] - crystal.positions[j] + np.array(shift) @ crystal.cell)
            if 0 < r < 10.0:
                quantum += short_range(crystal.numbers[[i, j]], r) * (0.5 if i == j else 1.0)
    with LammpsHost(crystal, potential) as host, LammpsHost(crystal, potential, excluded=excluded) as rest:
        assert host.energy() == pytest.approx(rest.energy() + quantum + in_the_field, abs=2e-4)
        assert rest.charges().sum() == pytest.approx(-q[excluded].sum())


def test_two_ranks_equal_one(on_ranks):
    script = Path(__file__).with_name("mpi_ionic_host.py")
    np.testing.assert_allclose(on_ranks(script, ranks=2), on_ranks(script), atol=1e-6)


def test_exclusions_outlive_lists_minimization_dynamics_and_boxes():
    crystal, excluded = magnesia(), [0, 1, 2, 9]

    def answers(host):
        return host.energy(), host.excluded_pair_energy(), host.forces(), host.stress()

    with LammpsHost(crystal, rigid_ions(), excluded=excluded) as host:
        host.attach(Anchors(crystal, excluded))  # atoms that repel their neighbours only would leave
        host.minimize(fmax=0.1)
        host.command("fix nve all nve")
        host.run(30)
        host.set_cell(host.cell() @ np.array([[1.01, 0.01, 0], [0, 1, 0], [0, 0, 0.99]]))
        host.detach()
        after, found = host.snapshot(), answers(host)
    assert np.abs(after.positions - crystal.positions).max() > 0.05
    with LammpsHost(after, rigid_ions(), excluded=excluded) as host:
        for one, other in zip(found, answers(host), strict=True):
            np.testing.assert_allclose(one, other, atol=2e-5)


class Anchors:
    """A correction: springs between atoms and where they were."""

    has_energy = True
    needs_host_forces = False

    def __init__(self, crystal, atoms):
        self.atoms, self.reference = np.array(atoms), crystal.positions[atoms]

    def evaluate(self, positions, cell, host_forces=None):
        d = positions - self.reference
        return Contribution(forces=-20.0 * d, energy=10.0 * (d**2).sum(), virial=-20.0 * d.T @ d)


def test_everything_excluded_is_nothing():
    crystal = magnesia(1)
    with LammpsHost(crystal, rigid_ions(), excluded=range(8)) as host:
        assert host.energy() == pytest.approx(0.0, abs=1e-10)
        assert np.abs(host.forces()).max() < 1e-10
        assert host.excluded_pair_energy() == 0.0


@pytest.mark.parametrize(
    "potential",
    [
        SW,
        Potential("tersoff", "* * Si.tersoff Si", "Si"),
        Potential("eam/alloy", "* * Cu_mishin1.eam.alloy Cu", "Cu"),
        Potential("meam", "* * library.meam Si NULL Si", "Si"),
        Potential("snap", "* * Ta06A.snapcoeff Ta06A.snapparam Ta", "Ta"),
        Potential(
            "hybrid/overlay coul/long 8 lj/cut 6 sw",
            ("* * coul/long", "* * lj/cut 0.01 2.0", "* * sw Si.sw Si NULL"),
            ("Si", "O"),
            charges=(2, -1),
            commands=("kspace_style ewald 1e-5",),
        ),
    ],
    ids=lambda potential: potential.pair_style,
)
def test_potentials_of_many_bodies_cannot_be_taken_apart(potential):
    crystal = Crystal.of(bulk("Si" if "Si" in potential.species else potential.species[0], "diamond", a=5.4, cubic=True))
    with pytest.raises(ValueError, match=r"not a sum over pairs .* beyond its pairs.*subtractive"):
        LammpsHost(crystal, potential, excluded=[0, 1])


def test_excluded_atoms_that_do_not_exist():
    with pytest.raises(ValueError, match="indices from 0 to 63, got 3 to 64"):
        LammpsHost(magnesia(), rigid_ions(), excluded=[3, 64])


# --- charges ----------------------------------------------------------------------------------------------------


def test_charges_of_sites_go_before_those_of_species():
    crystal = magnesia()
    own = np.full(len(crystal), np.nan)
    own[[0, 1]] = 1.5, -1.5
    charged = crystal.with_arrays(charges=own)
    expected = np.where(crystal.numbers == 12, 2.0, -2.0)
    expected[[0, 1]] = 1.5, -1.5
    np.testing.assert_array_equal(site_charges(charged, rigid_ions()), expected)
    matrix = coulomb_matrix(crystal.positions, crystal.cell)
    q = site_charges(crystal, rigid_ions())
    change = 0.5 * (expected @ matrix @ expected - q @ matrix @ q)
    with LammpsHost(crystal, rigid_ions()) as one, LammpsHost(charged, rigid_ions()) as other:
        np.testing.assert_array_equal(other.charges(), expected)
        assert other.energy() - one.energy() == pytest.approx(change, abs=2e-4)
    with LammpsEngine(rigid_ions()) as engine:
        engine.evaluate(crystal.to_atoms())
        assert engine.evaluate(charged.to_atoms()).energy == pytest.approx(other_energy(charged), abs=1e-6)


def other_energy(crystal):
    with LammpsHost(crystal, rigid_ions()) as host:
        return host.energy()


def test_a_new_atom_has_the_charge_of_its_species():
    crystal = magnesia().with_arrays(charges=np.tile([1.7, -1.7], 32))
    potential = rigid_ions()
    swapped = crystal.substituted(0, "O").with_extra("Mg", [1.0, 1.0, 1.0])
    assert site_charges(swapped, potential)[[0, 1, -1]].tolist() == [-2.0, -1.7, 2.0]


def test_oxidation_states_are_no_charges():
    crystal = magnesia(1)
    with pytest.raises(ValueError, match=r"no charges for Mg, O: set `host: \{charges: \{Mg: 2, O: -2\}\}`"):
        LammpsHost(crystal, rigid_ions(charges=()))
    states = np.where(crystal.numbers == 12, 3.0, -3.0)
    with pytest.raises(ValueError, match=r"Mg: 3, O: -3"):
        LammpsHost(crystal.with_arrays(oxidation_state=states), rigid_ions(charges=()))
    assert not site_charges(crystal.with_arrays(charges=states), SW).any()


def test_a_charged_crystal_must_be_stated():
    crystal = magnesia().without(1)
    with pytest.raises(ValueError, match=r"charges of Mg32O31 sum to \+2 e, stated 0: .*host: \{net_charge: 2\}"):
        LammpsHost(crystal, rigid_ions())
    with pytest.raises(ValueError, match=r"sum to \+2 e, stated 0 or \+1"):
        LammpsHost(crystal, rigid_ions(net_charge=1.0))
    with pytest.raises(ValueError, match=r"sum to \+2 e"), LammpsEngine(rigid_ions()) as engine:
        engine.evaluate(crystal.to_atoms())


@pytest.mark.parametrize("solver", ["ewald 1e-9", "pppm 1e-7"])
def test_the_background_of_a_charged_crystal_is_in_energy_and_stress(solver):
    crystal = magnesia().without(1)
    smooth = {"dispersion": 0.0, "net_charge": 2.0}
    potential = rigid_ions(commands=(f"kspace_style {solver}", "pair_modify table 0"), **smooth)
    matrix = coulomb_matrix(crystal.positions, crystal.cell)
    q = site_charges(crystal, potential)
    energies, step = [], 5e-4
    with LammpsHost(crystal, potential) as host:
        with LammpsHost(crystal, rigid_ions("buck/coul/cut 10.0 0.1", (), **smooth)) as short:
            pairs = short.energy()
        assert host.energy() - pairs == pytest.approx(0.5 * q @ matrix @ q, abs=2e-3)
        virial = host.virial()
        for sign in (1, -1):
            host.set_cell(crystal.cell * (1 + sign * step))
            energies.append(host.energy())
    # Without the background the trace is wrong by 3 pi k Q^2 / (2 g^2 V) = 2 eV.
    assert np.trace(virial) == pytest.approx((energies[0] - energies[1]) / (2 * step), abs=0.05)


# --- Ewald sums and their kin -------------------------------------------------------------------------------------

PERIODIC = {
    "buck/coul/long 9.0": ("kspace_style ewald 1e-7",),
    "buck/coul/long 8.0": ("kspace_style pppm 1e-6",),
    "born/coul/long 9.0": ("kspace_style ewald 1e-7",),
    "lj/cut/coul/long 9.0": ("kspace_style ewald 1e-7",),
    "coul/long 9.0": ("kspace_style ewald 1e-7",),
    "coul/wolf 0.25 12.0": (),
    "coul/dsf 0.25 12.0": (),
    "born/coul/wolf 0.25 12.0": (),
    "born/coul/dsf 0.25 12.0": (),
    "lj/cut/coul/dsf 0.25 12.0": (),
    "hybrid/overlay coul/long 9.0 buck 9.0": ("kspace_style ewald 1e-7",),
}
MAGNESIA = {"species": ["Mg", "O"], "charges": {"Mg": 2, "O": -2}}
# Terms that do nothing: the energy is Coulomb's.
NOTHING = {"buck": "0 1 0", "born": "0 1 0 0 0", "lj": "0 1", "coul": ""}


def study(host, **changes):
    structure = bulk("MgO", "rocksalt", a=4.212, cubic=True)
    mapping = {"recipe": "single_point", "structure": structure, "supercell": [2, 2, 2], "host": host} | changes
    return Study.from_mapping(mapping, schemas=schemas())


@pytest.mark.parametrize("style", PERIODIC)
def test_a_study_of_every_style_gives_the_energy_of_madelung(style):
    if style.startswith("hybrid"):
        lines = ["* * coul/long", "* * buck 0 1 0"]
    else:
        lines = [f"* * {NOTHING[style.split('/')[0]]}".strip()]
    commands = list(PERIODIC[style])
    asked = MAGNESIA | {"pair_style": style, "pair_coeff": lines, "commands": commands}
    with build_model(study(asked)).open() as qmmm:
        per_formula = qmmm.energy() / 32
    exact = -1.74756459463 * 4 * COULOMB / 2.106
    # Ewald sums are exact; those that are cut off and damped leave a per cent.
    assert per_formula == pytest.approx(exact, rel=1e-6 if commands else 0.01)


def test_a_missing_kspace_style_is_a_mistake_of_the_study():
    host = MAGNESIA | {"pair_style": "buck/coul/long 8", "pair_coeff": "* * 0 1 0"}
    with pytest.raises(StudyError, match=r'host: .*`commands: \["kspace_style ewald 1e-6"\]`'):
        study(host)


def test_an_isolated_cluster_has_no_ewald_sum():
    with (
        LammpsEngine(rigid_ions()) as engine,
        pytest.raises(ValueError, match=r"needs a periodic cell, got .* f f f: .*coul/wolf"),
    ):
        engine.evaluate(three().to_atoms())
    slab = Crystal(*(getattr(magnesia(), name) for name in ("numbers", "positions", "cell")), (True, True, False))
    with pytest.raises(ValueError, match="kspace_modify slab"):
        LammpsHost(slab, rigid_ions())


def test_a_charged_defect_of_the_host_alone():
    host = MAGNESIA | {
        "pair_style": "buck/coul/long 8.0",
        "pair_coeff": ["* * 0 1 0", f"1 2 {MGO_A} {MGO_RHO} 0", f"2 2 {OO_A} {OO_RHO} {OO_C}"],
        "commands": ["kspace_style ewald 1e-6"],
    }
    vacancy = {"kind": "vacancy", "site": 1}
    with pytest.raises(ValueError, match=r"Mg32O31 sum to \+2 e, stated 0"):
        build_model(study(host, defect=vacancy)).open()
    model = build_model(study(host | {"net_charge": 2}, defect=vacancy))
    with model.open() as qmmm, model.open_perfect() as perfect:
        assert qmmm.host.charges().sum() == pytest.approx(2.0)
        assert perfect.host.charges().sum() == pytest.approx(0.0)
        assert qmmm.energy() > perfect.energy()
