"""Which symmetry a crystal with a defect, a region or another cell keeps; updates of approximate Hessians."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from ase.build import bulk
from elastic_cases import COPPER, HYBRID, SIC, T3, VACANCY, copper, model_of, silicon, strained_silicon
from scipy.spatial.transform import Rotation

from solidqmmm.physics.algebra.quasi_newton import update_symmetric
from solidqmmm.physics.symmetry.ieee_orientation import ieee_axes
from solidqmmm.physics.symmetry.site_symmetry import kept_operations, site_operations
from solidqmmm.procedures.elastic.symmetry_of import (
    conventional_cell,
    crystal_operations,
    defect_operations,
    space_group_operations,
)
from solidqmmm.system.crystal import Crystal

TURN = Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix()
CUBE, _ = space_group_operations(copper())  # all 48
HOST = SimpleNamespace(engine=None)


def assert_operations(rotations, permutations, crystal, centre=None, tolerance=0.02):
    """Each is a symmetry: x -> R x + t with one t for all atoms, up to lattice vectors, species kept; a group, no twins."""
    assert len(np.unique(np.round(rotations, 6), axis=0)) == len(rotations)
    products = {tuple(np.round(A @ B + 0.0, 4).ravel() + 0.0) for A in rotations for B in rotations}
    assert products == {tuple(np.round(R, 4).ravel() + 0.0) for R in rotations}
    x, to_fractional = crystal.positions, np.linalg.inv(crystal.cell)
    for R, images in zip(rotations, permutations):
        np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-6)
        assert sorted(images) == list(range(len(x)))
        assert (crystal.numbers[images] == crystal.numbers).all()
        shifts = x[images] - x @ R.T
        if centre is not None:
            shifts = shifts - (centre - R @ centre)
        else:
            shifts = shifts - shifts[0]
        off = shifts @ to_fractional
        assert np.abs((off - np.rint(off)) @ crystal.cell).max() < 2 * tolerance


# --- the whole crystal -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("crystal", "order"),
    [
        (silicon(), 48),
        (Crystal.of(bulk("Si", a=5.431)), 48),
        (silicon().supercell([2, 1, 1]), 16),
        (silicon().strained(TURN), 48),
        (Crystal.of(bulk("Mg", "hcp", a=3.2, c=5.2)), 24),
        (Crystal.of(bulk("SiC", "wurtzite", a=3.08, c=5.03, u=0.375)), 12),
        (Crystal.of(bulk("SiC", "zincblende", a=4.36)), 24),
        (strained_silicon([1, 1, 1], 0.03), 12),
        (strained_silicon([0, 0, 1], 0.03), 16),
        (strained_silicon([1, 2, 3], 0.03), 2),
    ],
)
def test_operations_of_whole_crystals(crystal, order):
    rotations, _ = space_group_operations(crystal)
    assert len(rotations) == order
    shifted = crystal.with_positions(crystal.positions + [0.3, -7.1, 2.2] + [5, -3, 1] @ crystal.cell)
    for one in (crystal, shifted):
        found, permutations = crystal_operations(HOST, one, one.positions, one.cell)
        assert len(found) == order
        assert_operations(found, permutations, one)
    strained = crystal.strained(np.eye(3) * 1.01)  # the relaxed cell of the same crystal
    assert len(crystal_operations(HOST, crystal, strained.positions, strained.cell)[0]) == order


def test_ions_that_leave_their_places_take_operations_with_them():
    crystal = Crystal.of(bulk("Si", a=5.431))
    for direction, order in (([0, 0, 1], 8), ([1, 1, 1], 12), ([1, 2, 4], 2)):
        u = 0.1 * np.array(direction) / np.linalg.norm(direction)
        moved = crystal.positions + np.array([-u, u])  # without a shift of the whole crystal, as forces move ions
        found, permutations = crystal_operations(HOST, crystal, moved, crystal.cell)
        assert len(found) == order
        assert_operations(found, permutations, crystal.with_positions(moved))


def test_moments_of_single_atoms_take_part():
    """Layers of opposite moments leave a cube of copper the symmetry of a tetragon; moments by element leave all."""
    crystal = copper()
    up = np.where(crystal.positions[:, 2] < 1, 1.0, -1.0)
    for moments, order in ((up.tolist(), 16), ({"Cu": 1.0}, 48), ([1.0] * 7, 48), (None, 48)):
        for engine in (SimpleNamespace(magmoms=moments), SimpleNamespace(engine=SimpleNamespace(magmoms=moments))):
            model = SimpleNamespace(engine=engine)
            found, permutations = crystal_operations(model, crystal, crystal.positions, crystal.cell)
            assert len(found) == order
            assert all((up[images] == up).all() for images in permutations) == (order == 16)


# --- sites -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cubic", "repeats"),
    [(True, [2, 2, 2]), (True, [3, 3, 3]), (False, [3, 3, 3]), (False, [[-2, 2, 2], [2, -2, 2], [2, 2, -2]])],
)
@pytest.mark.parametrize("turn", [np.eye(3), TURN])
def test_operations_of_a_vacancy(cubic, repeats, turn):
    unit = Crystal.of(bulk("Si", a=5.431, cubic=cubic)).strained(turn)
    rotations, _ = space_group_operations(unit)
    perfect = unit.supercell(repeats)
    for site in (0, len(perfect) // 2):
        crystal = perfect.without(site)
        centre = perfect.positions[site]
        found, permutations = site_operations(rotations, crystal.positions, crystal.cell, crystal.numbers, centre)
        assert len(found) == 24
        assert_operations(found, permutations, crystal, centre)
    bond = perfect.positions[0] + turn @ np.full(3, 5.431 / 8)  # a middle of a bond: -3m
    found, permutations = site_operations(rotations, perfect.positions, perfect.cell, perfect.numbers, bond)
    assert len(found) == 12
    assert_operations(found, permutations, perfect, bond)


def test_the_cell_takes_part():
    """One vacancy in a tetragonal supercell of copper has the symmetry of the cell, not that of its site."""
    for repeats, order in (([2, 2, 2], 48), ([2, 2, 3], 16), ([2, 3, 4], 8), ([[3, 0, 0], [0, 2, 0], [1, 0, 2]], 4)):
        perfect = copper().supercell(repeats)
        crystal = perfect.without(0)
        found, permutations = site_operations(
            CUBE, crystal.positions, crystal.cell, crystal.numbers, perfect.positions[0]
        )
        assert len(found) == order, repeats
        assert_operations(found, permutations, crystal, perfect.positions[0])


def test_labels_and_displacements_break_symmetry():
    perfect = copper().supercell([2, 2, 2])
    labels = np.array(perfect.numbers)
    labels[np.argmin(np.linalg.norm(perfect.positions - [1.8, 1.8, 0], axis=1))] += 100
    found, _ = site_operations(CUBE, perfect.positions, perfect.cell, labels, perfect.positions[0])
    assert len(found) == 4  # mm2 about the axis to the labelled neighbour
    for size, order in ((0.008, 48), (0.03, 8)):
        positions = perfect.positions.copy()
        positions[0] += [0, 0, size]
        found, _ = site_operations(CUBE, positions, perfect.cell, perfect.numbers, perfect.positions[0])
        assert len(found) == order, size


def test_the_identity_is_always_there():
    rng = np.random.default_rng(0)
    for rotations in (CUBE, np.empty((0, 3, 3)), CUBE[5:6]):
        found, permutations = kept_operations(
            rotations, np.zeros((len(rotations), 3)), rng.random((7, 3)), 9 * np.eye(3), np.ones(7)
        )
        assert len(found) == 1
        np.testing.assert_allclose(found[0], np.eye(3), atol=1e-12)
        np.testing.assert_array_equal(permutations, [np.arange(7)])


@pytest.mark.parametrize(
    ("changes", "order"),
    [
        ({"host": T3, "supercell": [2, 2, 2], "defect": VACANCY}, 24),
        ({"host": COPPER, "structure": copper(), "supercell": [2, 2, 2], "defect": VACANCY}, 48),
        ({"host": T3, "supercell": [2, 2, 3], "defect": VACANCY}, 8),
        ({"host": SIC, "supercell": [2, 2, 2], "defect": {"kind": "substitution", "site": 3, "element": "C"}}, 24),
        (
            {
                "host": COPPER,
                "structure": copper(),
                "supercell": [2, 2, 2],
                "defect": {"kind": "interstitial", "element": "Cu", "position": [0.5, 0.5, 0.5]},
            },
            48,
        ),
        (HYBRID, 24),
        (HYBRID | {"defect": None, "region": {"core": {"hops": 1}, "centre": {"site": 0}}}, 24),
        (HYBRID | {"region": {"core": {"sites": [0, 1, 30]}}}, 1),
    ],
)
def test_operations_of_a_model(changes, order):
    with model_of(**changes) as model:
        for perfect, crystal in ((False, model.crystal), (True, model.perfect)):
            found, permutations = defect_operations(model, crystal.positions, crystal.cell, perfect=perfect)
            strained = crystal.strained(0.99 * np.eye(3))
            again, _ = defect_operations(model, strained.positions, strained.cell, perfect=perfect)
            assert len(again) == len(found)
            assert_operations(found, permutations, crystal, model.partition.centre)
            labels = (model.perfect_partition if perfect else model.partition).labels
            assert all((labels[images] == labels).all() for images in permutations)
            if not perfect or model.partition.quantum.size:
                assert len(found) == order


# --- the axes of the IEEE standard --------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", [np.eye(3), TURN, TURN @ np.diag([1, 1, -1])])
@pytest.mark.parametrize("cell", ["conventional", "primitive"])
def test_ieee_axes(turn, cell):
    """Along the axes of the standard, however the cell was given, mirrored ones included."""
    from pymatgen.core import Lattice, Structure

    cases = {
        "cubic": ("Fd-3m", Lattice.cubic(5.4), ["Si"], [[0, 0, 0]]),
        "hexagonal": ("P6_3/mmc", Lattice.hexagonal(3.2, 5.2), ["Mg"], [[1 / 3, 2 / 3, 1 / 4]]),
        "trigonal": ("R-3c", Lattice.hexagonal(4.76, 12.99), ["Al", "O"], [[0, 0, 0.352], [0.306, 0, 0.25]]),
        "tetragonal, long": ("I4/mmm", Lattice.tetragonal(3.0, 5.6), ["Cu"], [[0, 0, 0]]),
        "tetragonal, short": ("I4_1/amd", Lattice.tetragonal(4.69, 2.58), ["Si"], [[0, 0, 0]]),
        "orthorhombic": ("Pnma", Lattice.orthorhombic(5.0, 4.0, 6.2), ["Fe"], [[0.2, 0.05, 0.8]]),
    }
    for name, (group, lattice, species, sites) in cases.items():
        structure = Structure.from_spacegroup(group, lattice, species, sites)
        if cell == "primitive":
            structure = structure.get_primitive_structure(use_site_props=False)
            # get_primitive_structure turns the crystal: its axes are looked up in the lattice that it has there
        crystal = Crystal.of(structure)
        number, own = conventional_cell(crystal)
        axes = ieee_axes(number, own)
        np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(axes) > 0
        lengths = np.linalg.norm(own, axis=1)
        along = np.abs(own @ axes.T) / lengths[:, None]  # cosines of a, b, c with x1, x2, x3
        if name == "orthorhombic":  # c < a < b
            np.testing.assert_allclose(lengths @ along, sorted(lengths)[1:] + sorted(lengths)[:1], atol=1e-6)
        else:
            assert along[2, 2] == pytest.approx(1, abs=1e-6), name
            assert along[0, 0] == pytest.approx(1, abs=1e-6), name
        # The same crystal in a left-handed cell has the same ones, up to its symmetry (C14 keeps its sign).
        rotations, _ = space_group_operations(crystal)
        swapped = Crystal(crystal.numbers, crystal.positions, crystal.cell[[1, 0, 2]])
        again = ieee_axes(*conventional_cell(swapped))
        assert min(np.abs(axes @ rotations - again).max(axis=(1, 2))) < 1e-4, name
        np.testing.assert_allclose(ieee_axes(number, -own), axes, atol=1e-12)
        # A turned crystal has turned axes, up to its own symmetry and (a mirrored one) inversion.
        number, there = conventional_cell(crystal.strained(turn))
        turned = ieee_axes(number, there) @ turn
        candidates = np.concatenate([axes @ rotations, -axes @ rotations])
        assert min(np.abs(candidates - turned).max(axis=(1, 2))) < 1e-4, name


def test_ieee_axes_of_low_symmetry():
    mono = np.array([[5.1, 0, 0], [0, 5.3, 0], [-0.8, 0, 4.9]])
    axes = ieee_axes(14, mono)
    np.testing.assert_allclose(axes[1], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(axes[2], mono[2] / np.linalg.norm(mono[2]), atol=1e-12)
    np.testing.assert_allclose(ieee_axes(1, 5 * np.eye(3)) @ [0, 0, 1], [0, 0, 1], atol=1e-12)  # equal lengths
    np.testing.assert_allclose(ieee_axes(16, 5 * np.eye(3)), [[0, 1, 0], [0, 0, 1], [1, 0, 0]], atol=1e-12)
    with pytest.raises(ValueError, match="1 to 230"):
        ieee_axes(231, np.eye(3))


# --- Hessians -------------------------------------------------------------------------------------------------------


def test_updates_meet_the_secant_equation_and_stay_symmetric():
    rng = np.random.default_rng(2)
    for n in (1, 2, 7):
        hessian = rng.normal(size=(n, n))
        hessian = hessian + hessian.T
        for _ in range(20):
            step, change = rng.normal(size=(2, n))
            update_symmetric(hessian, step, change)
            np.testing.assert_allclose(hessian @ step, change, rtol=1e-9, atol=1e-9 * np.abs(hessian).max())
            np.testing.assert_allclose(hessian, hessian.T, atol=1e-12 * np.abs(hessian).max())


def test_an_indefinite_hessian_is_found_in_as_many_steps_as_it_has_directions():
    rng = np.random.default_rng(3)
    exact = rng.normal(size=(6, 6))
    exact = exact + exact.T
    assert np.linalg.eigvalsh(exact).min() < 0 < np.linalg.eigvalsh(exact).max()
    hessian = np.zeros((6, 6))
    for step in rng.normal(size=(60, 6)):
        update_symmetric(hessian, step, exact @ step)
    np.testing.assert_allclose(hessian, exact, atol=1e-6)
    known = hessian.copy()
    update_symmetric(hessian, rng.normal(size=6) * 0, np.zeros(6))
    np.testing.assert_array_equal(hessian, known)


def test_steps_that_would_make_the_rank_one_update_explode():
    """r nearly perpendicular to s: the change stays of the size of |r| / |s|; SR1's would be |r|^2 / (r.s)."""
    hessian = np.zeros((3, 3))
    step, change = np.array([1.0, 0, 0]), np.array([1e-9, 0.5, 0])
    update_symmetric(hessian, step, change)
    np.testing.assert_allclose(hessian @ step, change, atol=1e-15)
    assert np.abs(hessian).max() <= 0.5
