"""Crystals: ways in and out, supercells of any shape, the verbs of defects, and what is refused."""

from __future__ import annotations

import json

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from pymatgen.core import Lattice, Structure

from solidqmmm.errors import StructureError
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.defect import Defect
from solidqmmm.system.partition import BUFFER, CORE, FROZEN, HOST, Partition
from solidqmmm.system.potential import Potential, lammps_potentials_dir

ROCKSALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def pair_distances(crystal, cutoff=6.0):
    """All distances below the cutoff, sorted."""
    from matscipy.neighbours import neighbour_list

    i, j, d = neighbour_list(
        "ijd", positions=crystal.positions, cell=np.array(crystal.cell), pbc=np.array(crystal.pbc), cutoff=cutoff
    )
    # Pairs of different species are told apart, so that a supercell with exchanged atoms does not pass.
    return np.sort(d + 100 * (crystal.numbers[i] != crystal.numbers[j]))


# --- ways in and out ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.cif", "POSCAR", "a.json", "a.extxyz", "a.xyz"])
def test_files(tmp_path, name):
    path = tmp_path / name
    if name.endswith("json"):
        path.write_text(json.dumps(ROCKSALT.as_dict()))
    elif name.endswith("xyz"):
        ase.io.write(path, ROCKSALT.to_ase_atoms(), format="extxyz")
    else:
        ROCKSALT.to(filename=str(path))
    crystal = Crystal.of(path)
    assert len(crystal) == 8
    assert sorted(crystal.species) == ["Mg", "O"]
    assert crystal.pbc.all()
    assert crystal.volume == pytest.approx(4.21**3, rel=1e-6)
    crystal.require_separation()


def test_round_trips_keep_everything():
    atoms = bulk("SiC", "zincblende", a=4.36) * (2, 1, 1)
    atoms.pbc = (True, False, True)
    atoms.set_array("coordination", np.arange(4))
    crystal = Crystal.of(atoms)
    for back in (Crystal.of(crystal.to_atoms()), Crystal.of(crystal.to_structure()), Crystal.of(crystal)):
        np.testing.assert_array_equal(back.numbers, atoms.numbers)
        np.testing.assert_allclose(back.positions, atoms.positions, atol=1e-12)
        np.testing.assert_allclose(back.cell, atoms.cell.array, atol=1e-12)
        np.testing.assert_array_equal(back.pbc, atoms.pbc)
        np.testing.assert_array_equal(back.arrays["coordination"], np.arange(4))


def test_oxidation_states_come_along():
    structure = ROCKSALT.copy()
    structure.add_oxidation_state_by_element({"Mg": 2, "O": -2})
    crystal = Crystal.of(structure)
    np.testing.assert_array_equal(np.unique(crystal.arrays["oxidation_state"]), [-2, 2])
    assert crystal.symbols.count("O") == 4


def test_frozen_arrays():
    crystal = Crystal.of(bulk("Si"))
    with pytest.raises(ValueError, match="read-only"):
        crystal.positions[0] = 1.0
    with pytest.raises(AttributeError):
        crystal.cell = np.eye(3)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Crystal.of(3), "must be a pymatgen Structure"),
        (lambda: Crystal([14], [[0, 0, np.nan]], np.eye(3)), "position of atom 0 is not finite"),
        (lambda: Crystal([14], [[0, 0, 0]], np.zeros((3, 3))), "no volume"),
        (lambda: Crystal([14, 14], [[0, 0, 0]], np.eye(3)), "2 atomic numbers but 1 positions"),
        (lambda: Crystal([14], [[0, 0, 0]], np.eye(3), arrays={"q": [1, 2]}), "length 2, expected 1"),
        (lambda: Crystal.of(Atoms("Si", pbc=False)), "no volume"),
        (lambda: Crystal.of("nowhere.cif"), "not found"),
    ],
)
def test_what_is_no_crystal(make, said):
    with pytest.raises((StructureError, TypeError), match=said):
        make()


def test_disordered_sites_are_named():
    structure = Structure(Lattice.cubic(4), [{"Si": 0.5, "Ge": 0.5}, "Si"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    with pytest.raises(StructureError, match=r"site 0 is disordered \(Si:0.5, Ge:0.5\)"):
        Crystal.of(structure)


def test_a_file_that_nobody_reads(tmp_path):
    path = tmp_path / "a.cif"
    path.write_text("this is no crystal")
    with pytest.raises(StructureError, match=r"neither by pymatgen .* nor by ASE"):
        Crystal.of(path)


def test_overlapping_atoms_name_the_pair():
    crystal = Crystal.of(bulk("Si", cubic=True)).with_extra("C", [5.0, 5.0, 5.0])
    crystal.with_extra("H", [0.0, 2.7, 1.3]).require_separation(0.2)
    with pytest.raises(StructureError, match=r"atoms \d+ \((Si|C)\) and \d+ \((Si|C)\) overlap: they are 0\.7"):
        crystal.require_separation()  # 0.74 angstrom from the image of an atom across the corner


# --- supercells -------------------------------------------------------------------------------------------------

MATRICES = [
    [[2, 0, 0], [0, 3, 0], [0, 0, 1]],
    [[1, 1, 0], [-1, 1, 0], [0, 0, 2]],
    [[0, 2, 0], [2, 0, 0], [0, 0, 1]],
    [[-1, 1, 1], [1, -1, 1], [1, 1, -1]],
    [[3, 1, -2], [0, 2, 1], [1, 0, 2]],
]


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("source", ["Si", "MgO"])
def test_supercells_are_the_same_crystal(source, matrix):
    unit = Crystal.of(bulk("Si") if source == "Si" else ROCKSALT).with_arrays(site=None)
    n = abs(round(np.linalg.det(matrix)))
    cell = unit.supercell(matrix)
    assert len(cell) == n * len(unit)
    np.testing.assert_allclose(cell.cell, matrix @ unit.cell, atol=1e-12)
    once, distances = pair_distances(unit), pair_distances(cell)
    np.testing.assert_allclose(distances, np.sort(np.tile(once, n)), atol=1e-9)
    np.testing.assert_array_equal(cell.numbers, np.tile(unit.numbers, n))


def test_supercell_of_three_repeats_is_its_diagonal_matrix():
    unit = Crystal.of(bulk("Si"))
    np.testing.assert_array_equal(unit.supercell([2, 3, 4]).positions, unit.supercell(np.diag([2, 3, 4])).positions)


@pytest.mark.parametrize("repeats", [[1, 1, 0], [[1, 0, 0], [2, 0, 0], [0, 0, 1]], [1.5, 1, 1], [2, 2], [-1, 1, 1]])
def test_impossible_supercells(repeats):
    with pytest.raises(StructureError, match="supercell"):
        Crystal.of(bulk("Si")).supercell(repeats)


def test_a_large_supercell_takes_no_time():
    unit = Crystal.of(bulk("Si", cubic=True))
    assert len(unit.supercell([40, 40, 40])) == 512_000


# --- defects ------------------------------------------------------------------------------------------------------


def test_defect_verbs_and_the_way_back_to_the_perfect_crystal():
    perfect = Crystal.of(ROCKSALT).supercell([2, 2, 2]).with_arrays(tag=np.arange(64))
    labels = np.full(64, HOST)
    labels[[10, 11, 12]], labels[[13, 14]], labels[60] = CORE, BUFFER, FROZEN
    whole = Partition(labels)

    vacancy = Defect("vacancy", 12, "Mg", "", perfect.positions[12])
    crystal = vacancy.applied_to(perfect)
    assert len(crystal) == 63
    indices = np.arange(63)
    np.testing.assert_array_equal(perfect.positions[vacancy.to_perfect(indices)], crystal.positions)
    back = vacancy.perfect_partition(Partition(np.delete(labels, 12)))
    np.testing.assert_array_equal(back.labels, whole.labels)
    assert vacancy.particle_balance() == {"Mg": -1}
    assert vacancy.atom(63) is None

    substitution = Defect("substitution", 12, "Ca", "Mg", perfect.positions[12])
    crystal = substitution.applied_to(perfect)
    assert crystal.symbols[12] == "Ca"
    assert substitution.particle_balance() == {"Ca": 1, "Mg": -1}
    np.testing.assert_array_equal(substitution.perfect_partition(whole).labels, labels)

    extra = Defect("interstitial", -1, "He", "", [1.0, 1.0, 1.0])
    crystal = extra.applied_to(perfect)
    assert crystal.symbols[extra.atom(len(crystal))] == "He"
    np.testing.assert_array_equal(extra.perfect_partition(Partition(np.append(labels, CORE))).labels, labels)
    assert extra.particle_balance() == {"He": 1}


def test_sites_that_do_not_exist():
    crystal = Crystal.of(bulk("Si"))
    for verb in (crystal.without, lambda i: crystal.substituted(i, "C")):
        for index in (2, -1):
            with pytest.raises(StructureError, match=f"site {index} does not exist"):
                verb(index)
    with pytest.raises(StructureError, match="`kind` of a defect"):
        Defect("antisite", 0, "Si", "", [0, 0, 0])


# --- partitions -----------------------------------------------------------------------------------------------------


def test_hysteresis_of_the_core():
    """Atoms enter at the inner mask and leave only beyond the outer one."""
    partition = Partition([CORE, CORE, CORE, BUFFER, HOST, FROZEN])
    inner = np.array([1, 0, 0, 0, 1, 1], dtype=bool)
    outer = np.array([1, 1, 0, 1, 1, 1], dtype=bool)
    found = partition.updated(inner, outer)
    np.testing.assert_array_equal(found.labels, [CORE, CORE, HOST, HOST, CORE, FROZEN])
    np.testing.assert_array_equal(found.updated(inner, outer).labels, found.labels)
    with pytest.raises(ValueError, match="within the outer"):
        partition.updated(outer, inner)


def test_partition_verbs():
    partition = Partition([CORE, BUFFER, HOST, FROZEN])
    assert partition.counts() == {"host": 1, "buffer": 1, "core": 1, "frozen": 1}
    assert partition.names().tolist() == ["core", "buffer", "host", "frozen"]
    np.testing.assert_array_equal(partition.with_buffer([0, 2, 3]).labels, [CORE, HOST, BUFFER, FROZEN])
    np.testing.assert_array_equal(partition.with_frozen([0, 1, 2]).labels, [CORE, BUFFER, FROZEN, FROZEN])
    np.testing.assert_array_equal(partition.quantum, [0, 1])
    with pytest.raises(ValueError, match="must be HOST"):
        Partition([4])


# --- potentials -------------------------------------------------------------------------------------------------------


def test_potential_files_are_found_beside_the_study_first(tmp_path):
    potential = Potential("sw", "* * Si.sw Si", "Si")
    assert potential.files() == ((lammps_potentials_dir() / "Si.sw").resolve(),)
    (tmp_path / "Si.sw").write_text("mine")
    mine = potential.with_search_dirs(tmp_path)
    assert mine.files() == ((tmp_path / "Si.sw").resolve(),)
    assert mine.checksums()["Si.sw"] != potential.checksums()["Si.sw"]
    with pytest.raises(FileNotFoundError, match=r"'Other.sw' .* found neither in .* nor among"):
        Potential("sw", "* * Other.sw Si", "Si").with_search_dirs(tmp_path).resolved_coeff_lines()


def test_words_that_are_no_files():
    lines = ("* * zbl 14.0 14", "1*2 *3 tersoff SiC.tersoff Si C", "1 1 lj/cut 0.5 -2.5e-1")
    files = Potential("hybrid/overlay", lines, ("Si", "C")).files()
    assert [path.name for path in files] == ["SiC.tersoff"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"species": ()}, "at least one element"),
        ({"species": ("Si", "Si")}, "twice"),
        ({"species": ("Sx",)}, "chemical symbols, got Sx"),
        ({"units": "lj"}, "`units` must be"),
        ({"atom_style": "full"}, "`atom_style` must be"),
        ({"charges": (1.0,), "atom_style": "atomic"}, "`charges` needs"),
        ({"charges": (1.0, 2.0)}, "`charges` needs"),
        ({"charges": {"O": -2}}, "`charges` must name Si, got O"),
    ],
)
def test_wrong_potentials(changes, said):
    with pytest.raises(ValueError, match=said):
        Potential(**({"pair_style": "sw", "pair_coeff": "* * Si.sw Si", "species": "Si"} | changes))


def test_an_element_that_the_potential_does_not_know():
    with pytest.raises(ValueError, match="element Ge is not in the potential, whose species are Si, C"):
        Potential("tersoff", "* * SiC.tersoff Si C", ("Si", "C")).type_of("Ge")
