"""Bonds of a neighbourhood, and regions: by hops, radius, line, sites, property; in any cell; O(N)."""

from __future__ import annotations

import time

import numpy as np
import pytest
from ase.build import bulk
from pymatgen.core import Lattice, Structure

from solidqmmm.errors import RegionError
from solidqmmm.procedures.building.select import (
    bonded_to_point,
    by_property,
    grown_by_hops,
    grown_by_radius,
    partition_from,
    within_line,
    within_radius,
)
from solidqmmm.system.bonds import BondRules, local_bonds, neighbourhood, pairs_within
from solidqmmm.system.crystal import Crystal

RULES = BondRules()


def silicon(*repeats) -> Crystal:
    return Crystal.of(bulk("Si", a=5.431, cubic=True)).supercell(repeats)


def skewed_silicon() -> Crystal:
    return Crystal.of(bulk("Si", a=5.431)).supercell([[6, 0, 0], [3, 6, 0], [-2, 1, 6]])


CRYSTALS = {
    "cubic": lambda: silicon(4, 4, 4),
    "skewed": skewed_silicon,
    "wrapped": lambda: _wrapped(skewed_silicon()),
}


def _wrapped(crystal):
    s = crystal.positions @ np.linalg.inv(crystal.cell)
    return crystal.with_positions((s - np.floor(s)) @ crystal.cell)


# --- bonds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("structure", "coordination"),
    [
        (bulk("Si"), {"Si": 4}),
        (bulk("GaAs", "zincblende", a=5.65), {"Ga": 4, "As": 4}),
        (bulk("Cu"), {"Cu": 12}),
        (bulk("Fe"), {"Fe": 14}),  # bcc: the second shell is 15 % farther, and counts
        (Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5] * 3]), {"Mg": 6, "O": 6}),
        (
            Structure.from_spacegroup(
                "P4_2/mnm", Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]]
            ),
            {"Ti": 6, "O": 3},
        ),
        (
            Structure.from_spacegroup(
                "P3_221", Lattice.hexagonal(4.913, 5.405), ["Si", "O"],
                [[0.4697, 0, 2 / 3], [0.4133, 0.2672, 0.7855]],
            ),
            {"Si": 4, "O": 2},
        ),
    ],
    ids=["Si", "GaAs", "Cu", "Fe", "MgO", "rutile", "quartz"],
)  # fmt: skip
def test_coordination_in_crystals(structure, coordination):
    crystal = Crystal.of(structure).supercell([3, 3, 3])
    bonds = local_bonds(crystal, np.arange(len(crystal)), RULES)
    count = np.bincount(bonds.i, minlength=len(crystal))
    for symbol, expected in coordination.items():
        assert set(count[[s == symbol for s in crystal.symbols]]) == {expected}, symbol


def test_explicit_cutoffs_and_scale():
    crystal = silicon(3, 3, 3)
    assert len(local_bonds(crystal, [0], BondRules(cutoffs={"Si-Si": 4.0})).of([0]).i) == 16
    assert len(local_bonds(crystal, [0], BondRules(scale=0.9)).of([0]).i) == 0
    assert len(local_bonds(crystal, [0], BondRules(cutoffs={"Si-O": 9.0})).of([0]).i) == 4
    for wrong in ({"scale": 0}, {"cutoffs": {"SiO": 2}}, {"cutoffs": {"Si-Xx": 2}}):
        with pytest.raises(ValueError, match="bond"):
            BondRules(**wrong)


@pytest.mark.parametrize("name", CRYSTALS)
def test_bonds_of_a_neighbourhood_are_those_of_the_whole_crystal(name):
    crystal = CRYSTALS[name]()
    whole = pairs_within(crystal, np.arange(len(crystal)), RULES.matrix(crystal.numbers))
    for atoms in ([0], [17, 0, len(crystal) - 1]):
        shells = [np.array(atoms)]
        for _ in range(2):
            shells.append(np.union1d(shells[-1], whole.of(shells[-1]).j))
        local = local_bonds(crystal, atoms, RULES, hops=2).of(shells[1])
        expected = whole.of(shells[1])
        for found, bonds in ((local, expected), (expected, local)):
            rows = {(i, j, *np.round(v, 6)) for i, j, v in zip(found.i, found.j, found.vector)}
            assert rows == {(i, j, *np.round(v, 6)) for i, j, v in zip(bonds.i, bonds.j, bonds.vector)}
        assert np.linalg.norm(local.vector, axis=1) == pytest.approx(5.431 * np.sqrt(3) / 4)


@pytest.mark.parametrize("element", ["C", "B", "N", "Ge"])
def test_a_substituting_atom_is_bonded_to_what_its_predecessor_was(element):
    """At the unrelaxed site C-Si is 2.35 angstrom, more than 1.2 times the covalent radii (2.24)."""
    crystal = silicon(3, 3, 3).substituted(7, element)
    rules = RULES.with_substitute(element, "Si", crystal.species)
    assert len(local_bonds(crystal, [7], rules).of([7]).i) == 4
    assert len(grown_by_hops(crystal, [7], 2, rules)) == 17
    own = BondRules(cutoffs={f"Si-{element}": 1.0}).with_substitute(element, "Si", crystal.species)
    assert len(local_bonds(crystal, [7], own).of([7]).i) == 0  # the user's own cutoff counts


def test_bonds_in_a_cell_smaller_than_a_bond():
    """A primitive cell bonds to images of its own atoms, several times to the same one."""
    crystal = Crystal.of(bulk("Cu"))
    bonds = local_bonds(crystal, [0], RULES)
    assert bonds.i.tolist() == bonds.j.tolist() == [0] * 12
    np.testing.assert_allclose(bonds.vector.sum(axis=0), 0.0, atol=1e-12)


# --- regions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CRYSTALS)
@pytest.mark.parametrize(("hops", "expected"), [(0, 1), (1, 5), (2, 17), (3, 41)])
def test_hops_count_shells_of_the_diamond_lattice(name, hops, expected):
    crystal = CRYSTALS[name]()
    for atom in (0, 33):
        chosen = grown_by_hops(crystal, [atom], hops, RULES)
        assert len(chosen) == expected
        assert atom in chosen
        assert (np.diff(chosen) > 0).all()


@pytest.mark.parametrize("name", CRYSTALS)
@pytest.mark.parametrize(("radius", "expected"), [(2.4, 5), (3.9, 17), (4.6, 29), (5.5, 35), (6.0, 47)])
def test_radius_counts_shells_of_the_diamond_lattice(name, radius, expected):
    crystal = CRYSTALS[name]()
    for atom in (0, 100):
        assert len(within_radius(crystal, crystal.positions[atom], radius)) == expected


@pytest.mark.parametrize("name", CRYSTALS)
def test_growth_by_radius_is_the_union_of_spheres(name):
    crystal = CRYSTALS[name]()
    seed = grown_by_hops(crystal, [5], 1, RULES)
    expected = np.unique(np.concatenate([within_radius(crystal, crystal.positions[a], 4.0) for a in seed]))
    np.testing.assert_array_equal(grown_by_radius(crystal, seed, 4.0), expected)


def test_atoms_around_a_vacancy():
    crystal = silicon(3, 3, 3).without(100)
    point = silicon(3, 3, 3).positions[100]
    chosen = bonded_to_point(crystal, point, "Si", RULES)
    assert len(chosen) == 4
    assert len(grown_by_hops(crystal, chosen, 1, RULES)) == 16  # 4 + 3 x 4: the vacancy joins nothing


def test_line_through_the_crystal():
    crystal = silicon(4, 4, 3)
    chosen = within_line(crystal, crystal.positions[0], [0, 0, 1], 2.0)
    one_layer = within_line(silicon(4, 4, 1), [0, 0, 0], [0, 0, 2], 2.0)
    assert len(chosen) == 3 * len(one_layer) > 0
    # a line through the corner is the same as one through its image
    np.testing.assert_array_equal(chosen, within_line(crystal, crystal.cell[0] + crystal.cell[1], [0, 0, -1], 2.0))


def test_property():
    crystal = silicon(2, 2, 2).with_arrays(height=np.arange(64))
    np.testing.assert_array_equal(by_property(crystal, "height", above=3, below=7), [4, 5, 6])
    np.testing.assert_array_equal(by_property(crystal, "height", above=60.5), [61, 62, 63])
    with pytest.raises(RegionError, match="no per-atom property 'hieght'; it has: height"):
        by_property(crystal, "hieght", above=0)


def test_labels():
    crystal = silicon(2, 2, 2)
    partition = partition_from(crystal, [0, 1], [1, 2, 3], frozen=[3, 4, 0])
    assert partition.names()[:6].tolist() == ["core", "core", "buffer", "buffer", "frozen", "host"]
    np.testing.assert_allclose(partition.centre, crystal.positions[:2].mean(axis=0))
    far = np.argmax(crystal.positions.sum(axis=1))
    assert crystal.positions[far].min() > 6
    assert np.abs(partition_from(crystal, [0, far]).centre).max() < 2.1  # the mean of the images that hang together


# --- what is refused ----------------------------------------------------------------------------------------------


def test_empty_core():
    with pytest.raises(RegionError, match="the core is empty"):
        partition_from(silicon(2, 2, 2), [])


@pytest.mark.parametrize("indices", [[64], [-1], [0, 1000]])
def test_atoms_that_do_not_exist(indices):
    with pytest.raises(RegionError, match=r"names an atom outside 0\.\.63"):
        partition_from(silicon(2, 2, 2), indices)


@pytest.mark.parametrize("make", [lambda: silicon(2, 4, 4), lambda: Crystal.of(bulk("Si", a=5.431)).supercell([4, 4, 4])])
def test_a_sphere_or_cylinder_larger_than_the_cell_allows(make):
    crystal = make()
    width = crystal.widths.min()
    within_radius(crystal, crystal.positions[0], 0.49 * width)
    for choose in (
        lambda r: within_radius(crystal, crystal.positions[0], r),
        lambda r: grown_by_radius(crystal, [0], r),
        lambda r: within_line(crystal, crystal.positions[0], crystal.cell[1], r),
    ):
        with pytest.raises(RegionError, match=f"meets its own periodic image.* {width:.2f} A"):
            choose(0.51 * width)
    with pytest.raises(RegionError, match="must be positive"):
        within_radius(crystal, crystal.positions[0], 0.0)


def test_a_free_direction_allows_any_radius():
    slab = bulk("Si", cubic=True) * (1, 1, 1)
    slab.pbc = False
    assert len(within_radius(Crystal.of(slab), [0, 0, 0], 50.0)) == 8


# --- cost ----------------------------------------------------------------------------------------------------------


def test_half_a_million_atoms_in_seconds():
    crystal = silicon(40, 40, 40)
    started = time.perf_counter()
    core = grown_by_hops(crystal, [0], 2, RULES)
    partition = partition_from(crystal, core, grown_by_radius(crystal, core, 5.0))
    assert partition.counts()["core"] == 17
    assert time.perf_counter() - started < 10
    assert len(neighbourhood(crystal, crystal.positions[:1], 5.0)) < 200
