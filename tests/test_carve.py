"""Carving: cut bonds, caps, electrons, periodic clusters, and the regions that cannot be cut out."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from pymatgen.core import Lattice, Structure

from solidqmmm.errors import RegionError
from solidqmmm.procedures.building.select import grown_by_hops, partition_from, within_line
from solidqmmm.procedures.carve import carve, complete_partition
from solidqmmm.system.bonds import BondRules
from solidqmmm.system.caps import CapRules
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.partition import Partition

RULES = BondRules()
HYDROGEN = CapRules()


def diamond(element="Si", repeats=(3, 3, 3)) -> Crystal:
    return Crystal.of(bulk(element, cubic=True)).supercell(repeats)


def zincblende(name="GaAs", a=5.65) -> Crystal:
    return Crystal.of(bulk(name, "zincblende", a=a, cubic=True)).supercell([3, 3, 3])


def region(crystal, core=1, buffer=1, atom=0, rules=HYDROGEN) -> Partition:
    chosen = grown_by_hops(crystal, [atom], core, RULES)
    partition = partition_from(
        crystal, chosen, grown_by_hops(crystal, chosen, buffer, RULES), centre=crystal.positions[atom]
    )
    return complete_partition(crystal, partition, rules, RULES)


def bonds_of(atoms, cutoff):
    """Neighbours of each atom below the cutoff, images included."""
    from matscipy.neighbours import neighbour_list

    i, j, d = neighbour_list("ijd", atoms, cutoff)
    return i, j, d


# --- caps -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hops", "quantum", "caps"), [((0, 1), 5, 12), ((1, 1), 35, 36), ((2, 1), 71, 60)])
def test_hydrogen_closes_every_cut_bond(hops, quantum, caps):
    """SiH4-like completeness: every silicon has four neighbours; Si5H12, Si35H36, Si71H60 are closed-shell."""
    crystal = diamond(repeats=(4, 4, 4))
    cluster = carve(crystal, region(crystal, *hops))
    atoms = cluster.to_atoms()
    assert (cluster.n_quantum, len(cluster.caps)) == (quantum, caps)
    assert cluster.n_electrons == 14 * quantum + caps
    i, _, d = bonds_of(atoms, 2.5)
    pairs = np.bincount(i[(d < 2.4)], minlength=len(atoms))
    assert set(pairs[:quantum]) == {4}
    assert set(pairs[quantum:]) == {1}
    assert not atoms.pbc.any()


def test_cap_lengths_by_table_by_number_by_element_and_by_ratio():
    crystal = zincblende("SiC", 4.36)
    bond = 4.36 * np.sqrt(3) / 4
    for rules, expected in (
        (CapRules(), {"Si": 1.48, "C": 1.09}),
        (CapRules(length=1.3), {"Si": 1.3, "C": 1.3}),
        (CapRules(length={"Si": 1.6}), {"Si": 1.6, "C": 1.09}),
        (CapRules(ratio=0.7), {"Si": 0.7 * bond, "C": 0.7 * bond}),
    ):
        for atom in (0, 1):
            cluster = carve(crystal, region(crystal, atom=atom), rules)
            x = cluster.to_atoms().positions
            lengths = np.linalg.norm(x[cluster.n_quantum :] - x[cluster.caps.inner], axis=1)
            symbols = [crystal.symbols[cluster.region[k]] for k in cluster.caps.inner]
            np.testing.assert_allclose(lengths, [expected[s] for s in symbols], atol=1e-12)


def test_caps_point_along_the_cut_bonds_in_any_image():
    """The region sits on the corner of the cell: half of its bonds cross the boundary."""
    crystal = diamond()
    cluster = carve(crystal, region(crystal))
    x, y = cluster.reference[cluster.caps.inner], cluster.reference[cluster.caps.outer]
    np.testing.assert_allclose(np.linalg.norm(y - x, axis=1), cluster.caps.bond, atol=1e-12)
    np.testing.assert_allclose(cluster.caps.bond, 5.43 * np.sqrt(3) / 4, atol=1e-12)
    assert np.ptp(cluster.reference, axis=0).max() < 14
    np.testing.assert_array_equal(cluster.numbers, crystal.numbers[cluster.region])
    np.testing.assert_array_equal(cluster.core_indices, region(crystal).core)


def test_bare_clusters():
    copper = Crystal.of(bulk("Cu", cubic=True)).supercell([4, 4, 4])
    rules = CapRules(kind="none")
    cluster = carve(copper, region(copper, 1, 1, rules=rules), rules)
    assert len(cluster.caps) == 0
    assert len(cluster.region) == cluster.n_quantum == 55


def test_vacuum_on_every_side():
    crystal = diamond()
    atoms = carve(crystal, region(crystal), CapRules(vacuum=6.5)).to_atoms()
    low, high = atoms.positions.min(axis=0), atoms.positions.max(axis=0)
    np.testing.assert_allclose(low, 6.5, atol=1e-10)
    np.testing.assert_allclose(atoms.cell.lengths() - high, 6.5, atol=1e-10)


# --- fractional charges and electrons -----------------------------------------------------------------------------


@pytest.mark.parametrize(("atom", "charge"), [(0, 1.25), (1, 0.75)])
def test_fractional_hydrogens_make_polar_clusters_neutral(atom, charge):
    """Electrons of a stoichiometric closed-shell cluster: two for each bond, 10 in each core of Ga (d10 apart) and As."""
    crystal, rules = zincblende(), CapRules(kind="fractional")
    cluster = carve(crystal, region(crystal, 0, 1, atom=atom, rules=rules), rules)
    assert crystal.symbols[atom] == ("Ga", "As")[atom]
    outer = {"Ga": 1.25, "As": 0.75}[("As", "Ga")[atom]]
    np.testing.assert_allclose(cluster.caps.charges, outer)
    valence = {"Ga": 3, "As": 5}
    symbols = [crystal.symbols[a] for a in cluster.quantum]
    electrons = sum(valence[s] for s in symbols) + cluster.caps.charges.sum()
    assert electrons == pytest.approx(2 * (4 + len(cluster.caps)))
    np.testing.assert_allclose(cluster.to_atoms().arrays["cap_charge"][5:], outer)
    assert charge + outer == 2.0


def test_no_fractional_caps_for_transition_metals():
    structure = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.18), ["Ni", "O"], [[0, 0, 0], [0.5] * 3])
    crystal = Crystal.of(structure).supercell([3, 3, 3])
    rules = CapRules(kind="fractional", clashing="keep")
    with pytest.raises(ValueError, match=r"no rule for the fractional cap of Ni \(group 10\)"):
        carve(crystal, region(crystal, 0, 1, atom=crystal.symbols.index("O"), rules=rules), rules)


def test_even_electrons_on_request(caplog):
    """Boron in silicon leaves an odd number; the cap that is farthest from the core goes."""
    crystal, partition = diamond().substituted(0, "B"), region(diamond())
    bonds = RULES.with_substitute("B", "Si", ("B", "Si"))
    odd = carve(crystal, partition, CapRules(), bond_rules=bonds)
    assert odd.n_electrons % 2 == 1
    even = carve(crystal, partition, CapRules(even_electrons=True), bond_rules=bonds)
    assert even.n_electrons % 2 == 0
    assert len(even.caps) == len(odd.caps) - 1
    assert "odd number of electrons" in caplog.text
    untouched = carve(diamond(), region(diamond()), CapRules(even_electrons=True))
    assert len(untouched.caps) == 36


# --- rules that complete the surface ---------------------------------------------------------------------------------


def clashes(cluster) -> int:
    removed = np.column_stack([cluster.caps.outer, cluster.caps.shift])
    return len(removed) - len(np.unique(removed, axis=0))


def test_clashing_caps_are_repaired_kept_or_refused():
    crystal = diamond()
    keep = CapRules(clashing="keep")
    kept = carve(crystal, region(crystal, 0, 2, rules=keep), keep)
    assert kept.n_quantum == 17
    assert clashes(kept) == 12
    included = carve(crystal, region(crystal, 0, 2))
    assert clashes(included) == 0
    assert included.n_quantum > 17
    np.testing.assert_array_equal(included.core_indices, [0])
    with pytest.raises(RegionError, match=r"12 removed atom\(s\), such as \d+, would be replaced by two or more caps"):
        region(crystal, 0, 2, rules=CapRules(clashing="error"))


def quartz() -> Crystal:
    structure = Structure.from_spacegroup(
        "P3_221", Lattice.hexagonal(4.913, 5.405), ["Si", "O"], [[0.4697, 0, 2 / 3], [0.4133, 0.2672, 0.7855]]
    )
    return Crystal.of(structure).supercell([4, 4, 4])


def test_silica_is_cut_at_oxygen_only():
    crystal, rules = quartz(), CapRules(whole_coordination=("Si",))
    atom = int(np.flatnonzero(crystal.numbers == 8)[40])
    bare = carve(crystal, region(crystal, 1, 0, atom=atom, rules=CapRules(clashing="keep")))
    assert (bare.numbers[bare.caps.inner] == 14).all()
    partition = region(crystal, 1, 0, atom=atom, rules=rules)
    cluster = carve(crystal, partition, rules)
    assert (cluster.numbers[cluster.caps.inner] == 8).all()
    assert (cluster.numbers[cluster.caps.outer] == 14).all()
    assert cluster.n_quantum == 9  # Si2O7 and six caps: disiloxane's hexahydroxide
    assert len(cluster.caps) == 6
    assert cluster.n_electrons % 2 == 0


def test_growth_without_end_is_refused():
    crystal = zincblende("NaCl", 5.64)
    with pytest.raises(RegionError, match="grow from"):
        region(crystal, 0, 1, rules=CapRules(whole_coordination=("Na", "Cl")))


# --- periodic clusters -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_line_is_periodic_and_whole(axis):
    repeats = [4, 4, 4]
    repeats[axis] = 1
    crystal = diamond(repeats=repeats)
    core = within_line(crystal, crystal.positions[0], crystal.cell[axis], 3.0)
    partition = partition_from(crystal, core, centre=crystal.positions[0])
    partition = complete_partition(crystal, partition, HYDROGEN, RULES)
    cluster = carve(crystal, partition, HYDROGEN, periodic_axes=(axis,))
    atoms = cluster.to_atoms()
    assert atoms.pbc.tolist() == [k == axis for k in range(3)]
    np.testing.assert_allclose(atoms.cell[axis], crystal.cell[axis])
    for k in {0, 1, 2} - {axis}:
        assert atoms.cell[k] @ atoms.cell[axis] == pytest.approx(0, abs=1e-9)
    assert np.linalg.det(atoms.cell) > 0
    i, _, _ = bonds_of(atoms, 2.4)
    assert set(np.bincount(i)[: cluster.n_quantum]) == {4}
    with pytest.raises(RegionError, match="wraps onto its own periodic image along cell vector"):
        carve(crystal, partition, HYDROGEN)


def test_everything_quantum_is_the_crystal_itself():
    crystal = diamond(repeats=(2, 2, 2))
    cluster = carve(crystal, Partition(np.full(64, 2)), HYDROGEN, periodic_axes=(0, 1, 2))
    assert len(cluster.caps) == 0
    atoms = cluster.to_atoms()
    np.testing.assert_array_equal(atoms.cell.array, crystal.cell)
    shift = (atoms.positions - crystal.positions) @ np.linalg.inv(crystal.cell)
    np.testing.assert_allclose(shift, np.rint(shift), atol=1e-12)


def test_stretch_is_what_the_engine_sees():
    crystal = diamond()
    A = np.array([[1.02, 0.01, 0], [0.01, 0.98, 0], [0, 0, 1.05]])
    plain = carve(crystal, region(crystal), CapRules(ratio=0.7)).to_atoms()
    stretched = carve(crystal, region(crystal), CapRules(ratio=0.7), stretch=A)
    x = stretched.to_atoms().positions
    np.testing.assert_allclose(x - x[0], (plain.positions - plain.positions[0]) @ A, atol=1e-12)
    low, high = x.min(axis=0), x.max(axis=0)
    np.testing.assert_allclose(low, 5.0, atol=1e-10)
    back = stretched.unstretched().to_atoms().positions
    np.testing.assert_allclose(back - back[0], plain.positions - plain.positions[0], atol=1e-12)
    np.testing.assert_allclose(high + 5.0, stretched.to_atoms().cell.lengths(), atol=1e-10)


# --- what cannot be cut out ----------------------------------------------------------------------------------------------


def test_a_region_that_wraps_onto_itself():
    crystal, rules = diamond(repeats=(2, 4, 4)), CapRules(clashing="keep")
    with pytest.raises(RegionError, match=r"along cell vector 0 \(width 10.86 A\).*periodic_axes: \[0\]"):
        carve(crystal, region(crystal, 2, 3, rules=rules), rules)


def test_images_that_share_a_host_atom():
    """Between a region of four hops and its image lies a single layer, which both would cap."""
    crystal, rules = diamond(repeats=(2, 4, 4)), CapRules(clashing="keep")
    with pytest.raises(RegionError, match=r"share the host atom \d+: at least two host atoms"):
        carve(crystal, region(crystal, 2, 1, rules=rules), rules)


@pytest.mark.parametrize("axis", [2, 3, -1])
def test_periodicity_that_the_host_does_not_have(axis):
    slab = bulk("Si", cubic=True) * (3, 3, 3)
    slab.center(vacuum=5.0, axis=2)
    slab.pbc = (True, True, False)
    crystal = Crystal.of(slab)
    with pytest.raises(RegionError, match=f"cannot be periodic along cell vector {axis}"):
        carve(crystal, region(crystal, atom=100), periodic_axes=(axis,))


def test_no_quantum_atom():
    with pytest.raises(RegionError, match="no quantum atom to carve"):
        carve(diamond(), Partition(np.zeros(216)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "hydrgen"}, "`kind` of the caps"),
        ({"clashing": "ignore"}, "`clashing` must be"),
        ({"ratio": 2.0}, "`ratio` of a cap"),
        ({"ratio": 0.7, "length": 1.5}, "not both"),
        ({"vacuum": 0.0}, "`vacuum` must be positive"),
        ({"whole_coordination": ("Q",)}, "lists elements, got Q"),
    ],
)
def test_wrong_rules(changes, said):
    with pytest.raises(ValueError, match=said):
        CapRules(**changes)
