"""Crack systems of any crystal: axes and reduced cells, surfaces of the host, strips and cylinders, loads, errors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from ase.build import bulk
from crack_cases import IRON, SILICON, TITANIUM, made_up_cleavage, made_up_crack

from solidqmmm.coupling.qmmm import QMMM
from solidqmmm.physics.cracks.crack_lattice import crack_axes, filled_box, layers, three_indices
from solidqmmm.procedures.build import build_model
from solidqmmm.procedures.cracks.cleavage import cleavage_of
from solidqmmm.procedures.cracks.crack_system import crack_system, cracked_crystal
from solidqmmm.system.study import Study
from solidqmmm.system.unit_cell import primitive_cell

HOSTS = {
    "sw": {"pair_style": "sw", "pair_coeff": ["* * Si.sw Si"], "species": ["Si"]},
    "t3": {"pair_style": "tersoff", "pair_coeff": ["* * SiC.tersoff Si"], "species": ["Si"]},
    "sic": {"pair_style": "tersoff", "pair_coeff": ["* * SiC.tersoff Si C"], "species": ["Si", "C"]},
    "gan": {"pair_style": "sw", "pair_coeff": ["* * GaN.sw Ga N"], "species": ["Ga", "N"]},
    "fe": {"pair_style": "eam/fs", "pair_coeff": ["* * Fe_mm.eam.fs Fe"], "species": ["Fe"]},
}
GALLIUM_NITRIDE = bulk("GaN", "wurtzite", a=3.19, c=5.19, u=0.377)


def model_of(atoms, host):
    return build_model(
        Study.from_mapping({"recipe": "elastic_tensor", "structure": atoms, "host": HOSTS[host]})
    )


@pytest.fixture(scope="module")
def silicon():
    return model_of(SILICON, "sw")


# --- axes -----------------------------------------------------------------------------------------------------------


def families(largest):
    every = list(itertools.product(range(-largest, largest + 1), repeat=3))
    return [(p, f) for p in every for f in every if any(p) and any(f) and np.dot(p, f) == 0][::29]


TRICLINIC = np.array([[4.1, 0.3, -0.2], [1.2, 5.3, 0.4], [-0.7, 1.1, 6.2]])


@pytest.mark.parametrize("atoms", [SILICON, IRON, TITANIUM], ids=["diamond", "bcc", "hcp"])
def test_reduced_cells_are_primitive_cells_of_the_same_lattice(atoms):
    cell, primitive = (
        atoms.cell.array,
        primitive_cell(made_up_cleavage(atoms, (0, 0, 1), (1, 0, 0)).unit).cell,
    )
    for plane, front in families(3):
        axes = crack_axes(cell, primitive, plane, front)
        back = axes.cell @ axes.rotation @ np.linalg.inv(primitive)
        np.testing.assert_allclose(back, np.rint(back), atol=1e-6)
        assert round(abs(np.linalg.det(back))) == 1
        np.testing.assert_allclose(axes.indices @ cell, axes.cell @ axes.rotation, atol=1e-6)
        a, b, c = axes.cell
        assert a[1] == c[0] == c[1] == 0.0
        assert min(a[0], b[1], c[2]) > 0
        assert abs(a[2]) <= 0.5001 * c[2]
        assert abs(b[0]) <= 0.5001 * a[0]
        # y is the normal of the plane, x y z a right-handed frame
        assert np.linalg.det(axes.rotation) == pytest.approx(1.0, abs=1e-12)
        assert axes.rotation[2] @ (np.array(front) @ cell) > 0
        for other in families(1):
            if np.dot(other[1], plane) == 0:
                assert abs(axes.rotation[1] @ (np.array(other[1]) @ cell)) < 1e-9


def test_axes_of_silicon():
    axes = made_up_cleavage().axes
    assert (axes.plane, axes.front, axes.growth) == ((1, 1, 1), (1, -1, 0), (1, 1, -2))
    a = 5.43095
    assert axes.front_period == pytest.approx(a / np.sqrt(2))
    assert axes.growth_period == pytest.approx(a * np.sqrt(6) / 2)
    assert axes.spacing == pytest.approx(a / np.sqrt(3))


def test_axes_of_a_hexagonal_crystal_by_four_indices():
    prism = made_up_cleavage(TITANIUM, (1, 0, -1, 0), (0, 0, 0, 1)).axes
    assert (prism.plane, prism.front) == ((1, 0, 0), (0, 0, 1))
    assert prism.spacing == pytest.approx(2.951 * np.sqrt(3) / 2)
    assert prism.front_period == pytest.approx(4.684)
    basal = made_up_cleavage(TITANIUM, (0, 0, 0, 1), (2, -1, -1, 0)).axes
    assert basal.front == (1, 0, 0)
    assert basal.spacing == pytest.approx(4.684)
    assert basal.growth_period == pytest.approx(2.951 * np.sqrt(3))


def test_a_direction_of_growth_need_not_be_one_of_the_lattice():
    axes = crack_axes(TRICLINIC, TRICLINIC, (1, 2, 3), (1, 1, -1))
    assert axes.growth is None
    assert axes.growth_period is None


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ((1, 1), "three Miller indices"),
        ((1, 1, 1, 0), "sum to zero"),
        ((0, 0, 0), "all zero"),
        ((1, 0.5, 0), "three Miller"),
    ],
)
def test_wrong_indices_are_refused(indices, message):
    with pytest.raises(ValueError, match=message):
        three_indices(indices, "plane", direction=False)


def test_boxes_are_filled_as_by_brute_force():
    rng = np.random.default_rng(2)
    axes = crack_axes(TRICLINIC, TRICLINIC, (1, 2, 3), (1, 1, -1))
    basis = rng.normal(scale=3, size=(3, 3))
    found, which = filled_box(axes.cell, basis, (-17.0, 11.0), (-8.0, 21.0), 2)
    n = np.arange(-30, 31)
    every = np.stack(np.meshgrid(n, n, [0, 1], indexing="ij"), -1).reshape(-1, 3) @ axes.cell
    every = (every[:, None] + basis).reshape(-1, 3)
    every = every[(every[:, 0] >= -17) & (every[:, 0] < 11) & (every[:, 1] >= -8) & (every[:, 1] < 21)]
    every[:, 2] %= 2 * axes.front_period
    assert len(found) == len(every) == len(which)
    order = [np.lexsort(np.round(p, 6).T) for p in (found, every)]
    np.testing.assert_allclose(found[order[0]], every[order[1]], atol=1e-5)


def test_layers_of_a_plane():
    middles, widths = layers([0.0, 0.01, 1.0, 3.3], 3.0)
    np.testing.assert_allclose(sorted(middles), [0.155, 0.65, 2.0])
    assert widths.sum() == pytest.approx(3.0, abs=0.011)


# --- what the host says ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plane", "front", "gamma", "K"),
    [
        ((1, 1, 1), (1, -1, 0), 1.36003, 0.61526),
        ((1, 1, 0), (1, -1, 0), 1.66569, 0.68775),
        ((1, 1, 0), (0, 0, 1), 1.66569, 0.65944),
        ((1, 1, 1), (1, 1, -2), 1.36003, 0.61218),
        ((1, 0, 0), (0, 1, 0), 2.35564, None),
    ],
)
def test_surfaces_of_stillinger_weber_silicon_cost_half_an_epsilon_a_bond(silicon, plane, front, gamma, K):
    found = cleavage_of(silicon, plane, front)
    assert found.surface_energy_J_per_m2 == pytest.approx(gamma, abs=2e-4)
    assert found.surface_energy_unrelaxed_J_per_m2 == pytest.approx(gamma, abs=2e-4)
    assert found.griffith_G_J_per_m2 == 2 * found.surface_energy_J_per_m2
    if K is not None:
        assert found.griffith_K("I") == pytest.approx(K, rel=3e-3)
    C = found.elastic_tensor_GPa
    np.testing.assert_allclose([C[0, 0], C[0, 1], C[3, 3]], [151.4244, 76.4221, 56.4493], atol=0.05)


@pytest.mark.parametrize(
    ("plane", "front", "unrelaxed", "relaxed", "K"),
    [((1, 1, 1), (1, -1, 0), 1.2861, 1.1997, 0.59809), ((1, 1, 0), (0, 0, 1), 1.5752, 1.5214, 0.63308)],
)
def test_surfaces_of_tersoff_silicon(plane, front, unrelaxed, relaxed, K):
    found = cleavage_of(model_of(SILICON, "t3"), plane, front)
    assert found.surface_energy_unrelaxed_J_per_m2 == pytest.approx(unrelaxed, abs=2e-3)
    assert found.surface_energy_J_per_m2 == pytest.approx(relaxed, abs=2e-3)
    assert found.griffith_K("I") == pytest.approx(K, rel=3e-3)


def test_cuts_of_silicon_are_shuffle_and_glide_set(silicon):
    shuffle, glide = cleavage_of(silicon, (1, 1, 1), (1, -1, 0)).cuts
    assert glide["relaxed_J_per_m2"] == pytest.approx(
        3 * shuffle["relaxed_J_per_m2"], rel=1e-3
    )  # three bonds for one
    assert shuffle["gap_A"] == pytest.approx(3 * glide["gap_A"], rel=1e-3)
    chosen = cleavage_of(silicon, (1, 1, 1), (1, -1, 0), cut=1)
    assert chosen.surface_energy_J_per_m2 == pytest.approx(glide["relaxed_J_per_m2"])
    with pytest.raises(ValueError, match="counts the 2 cut"):
        cleavage_of(silicon, (1, 1, 1), (1, -1, 0), cut=2)


def test_polar_surfaces_of_a_compound_are_the_mean_of_both():
    """A slab of whole cells has one side of each kind; cut between the double layers one bond a cell is broken."""
    found = cleavage_of(model_of(bulk("SiC", "zincblende", a=4.32, cubic=True), "sic"), (1, 1, 1), (1, -1, 0))
    assert found.cuts[0]["gap_A"] > 1.8 > found.cuts[1]["gap_A"]
    assert any("the mean of both" in text and "C" in text for text in found.warnings)
    assert 1.0 < found.surface_energy_J_per_m2 < found.surface_energy_unrelaxed_J_per_m2 < 10


def test_a_hexagonal_compound():
    """m plane of wurtzite gallium nitride: its own relaxed lattice, a hexagonal tensor, a cylinder at rest without load."""
    model = model_of(GALLIUM_NITRIDE, "gan")
    crack = crack_system(model, system="cylinder", plane=(1, 0, -1, 0), front=(1, -2, 1, 0), size_A=[60])
    C = crack.cleavage.elastic_tensor_GPa
    assert C[5, 5] == pytest.approx((C[0, 0] - C[0, 1]) / 2, rel=1e-3)
    assert abs(C[2, 2] - C[0, 0]) > 1.0
    assert sorted(np.bincount(crack.perfect.numbers)[[7, 31]]) == pytest.approx(
        [len(crack) / 2] * 2, rel=0.05
    )
    with QMMM(crack.perfect, model.potential, partition=crack.partition) as qmmm:
        inside = np.linalg.norm(crack.perfect.positions[:, :2] - crack.tip, axis=1) < crack.free_size
        assert np.linalg.norm(qmmm.forces()[inside], axis=1).max() < 1e-3


def test_an_ewald_sum_cannot_hold_a_crack():
    host = {
        "pair_style": "buck/coul/long 10.0",
        "pair_coeff": ["1 1 0.0 1.0 0.0", "1 2 821.6 0.3242 0.0", "2 2 22764.0 0.149 27.88"],
        "species": ["Mg", "O"],
        "charges": {"Mg": 2.0, "O": -2.0},
        "commands": ["kspace_style ewald 1e-6"],
    }
    study = Study.from_mapping(
        {"recipe": "elastic_tensor", "structure": bulk("MgO", "rocksalt", a=4.2), "host": host}
    )
    with pytest.raises(ValueError, match="needs a periodic cell"):
        crack_system(build_model(study), system="cylinder", plane=(1, 0, 0), front=(0, 1, 0), size_A=[90])


def test_ideal_strength_of_iron_and_its_griffith_load():
    """bcc (100)[001]: without relaxation of shape iron bears some tens of GPa; K by the constants of the same host."""
    found = cleavage_of(model_of(IRON, "fe"), (1, 0, 0), (0, 0, 1))
    assert 0.1 < found.ideal_strain < 0.6
    assert 15 < found.ideal_stress_GPa < 100
    C = found.elastic_tensor_GPa
    np.testing.assert_allclose([C[0, 0], C[0, 1], C[3, 3]], [243.4, 145.0, 116.0], rtol=0.01)
    assert 1.5 < found.surface_energy_J_per_m2 < 2.6
    shear = cleavage_of(model_of(IRON, "fe"), (1, 1, 0), (0, 0, 1), mode="II")
    assert shear.ideal_stress_GPa < found.ideal_stress_GPa


def test_another_lattice_than_the_hosts_own_is_said():
    found = cleavage_of(model_of(bulk("Si", "diamond", a=5.5, cubic=True), "sw"), (1, 1, 1), (1, -1, 0))
    assert any("host's own relaxed lattice" in text for text in found.warnings)
    assert found.unit.cell[0, 0] == pytest.approx(5.43095, abs=1e-4)


def test_an_engine_alone_has_no_crack():
    qm = {"engine": "lammps", **HOSTS["sw"]}
    study = Study.from_mapping({"recipe": "elastic_tensor", "structure": SILICON, "qm": qm})
    with pytest.raises(ValueError, match="needs a host"):
        cleavage_of(build_model(study), (1, 1, 1), (1, -1, 0))


def test_symmetry_of_planes():
    silicon = made_up_cleavage().symmetry
    assert silicon["space_group"] == "Fd-3m (227)"
    assert silicon["equivalent_planes"] == 4
    assert silicon["antiplane_strain_is_separate"]
    # the other {111} plane through [1-10]
    assert [one["inclination_deg"] for one in silicon["equivalent_planes_through_front"]] == pytest.approx(
        [70.5288], abs=1e-3
    )
    assert not made_up_cleavage(front=(1, 1, -2)).symmetry["antiplane_strain_is_separate"]
    prism = made_up_cleavage(TITANIUM, (1, 0, 0), (0, 0, 1)).symmetry
    assert prism["equivalent_planes"] == 3
    assert [one["inclination_deg"] for one in prism["equivalent_planes_through_front"]] == pytest.approx(
        [60, 60], abs=1e-6
    )


def test_a_front_out_of_the_plane_is_refused(silicon):
    with pytest.raises(ValueError, match=r"\[1 1 0\] does not lie in the crack plane \(1 1 1\).* got 2"):
        cleavage_of(silicon, (1, 1, 1), (1, 1, 0))


# --- atoms ----------------------------------------------------------------------------------------------------------


def test_a_cylinder_of_silicon():
    crack = made_up_crack()
    assert (len(crack), crack.free_size, crack.repeats) == (1056, 34.0, 1)
    r = np.linalg.norm(crack.perfect.positions[:, :2] - crack.tip, axis=1)
    assert r.max() < 42
    np.testing.assert_array_equal(np.flatnonzero(r > 34), crack.held)
    np.testing.assert_array_equal(crack.partition.frozen, crack.held)
    # the cut runs through the shuffle set, the tip midway between two bonds
    d = crack.perfect.positions[:, :2] - crack.tip
    nearest = np.abs(d[:, 1]).min()
    assert nearest == pytest.approx(5.43095 * np.sqrt(3) / 8, abs=1e-4)
    beside = d[np.abs(d[:, 1]) < nearest + 0.01, 0]
    assert np.sort(np.abs(beside))[:4] == pytest.approx([5.43095 * np.sqrt(6) / 8] * 4, abs=1e-4)


def test_a_strip_is_held_at_its_edges():
    crack = made_up_crack("strip", (120, 60, 7.7), annulus_A=9.0)
    assert (crack.repeats, crack.free_size) == (2, 60.0)
    y = crack.perfect.positions[:, 1] - crack.tip[1]
    assert np.abs(y[crack.held]).min() > 30
    assert np.abs(np.delete(y, crack.held)).max() <= 30
    assert np.abs(y).max() == pytest.approx(39, abs=2)
    density = 8 / 5.43095**3
    assert len(crack) == pytest.approx(density * 120 * 78 * 2 * crack.axes.front_period, rel=0.03)
    load = crack.load(strain=0.05)
    u = crack.far_field(load)
    np.testing.assert_allclose(np.abs(u[crack.held, 1]), 0.05 * 30, rtol=1e-9)
    assert crack.load(G=load.G_J_per_m2).strain == pytest.approx(0.05)
    assert crack.load(K=load.K_MPa_sqrt_m).strain == pytest.approx(0.05)
    assert crack.room_ahead(crack.tip[0]) == pytest.approx(80, abs=3.5)


def test_no_atom_lies_near_another_across_the_front():
    """The front of low symmetry wraps around: nearest neighbours as in the crystal, none nearer."""
    for plane, front in (((1, 1, 0), (0, 0, 1)), ((1, 1, 2), (1, 1, -1)), ((1, 2, 3), (1, 1, -1))):
        crack = cracked_crystal(
            made_up_cleavage(plane=plane, front=front, height=0.3),
            system="cylinder",
            size_A=[50],
            annulus_A=8,
        )
        from matscipy.neighbours import neighbour_list

        p = crack.perfect
        i, d = neighbour_list("id", positions=p.positions, cell=p.cell, pbc=p.pbc, cutoff=2.6)
        assert d == pytest.approx(5.43095 * np.sqrt(3) / 4, abs=1e-6)
        inside = np.linalg.norm(p.positions[:, :2] - crack.tip, axis=1) < 20
        assert (np.bincount(i, minlength=len(p))[inside] == 4).all()


def test_mode_two_has_a_slit_that_keeps_its_flanks_apart():
    crack = made_up_crack(size_A=(90,), mode="II")
    d = crack.perfect.positions[:, :2] - crack.tip
    behind = d[d[:, 0] < 0]
    assert crack.slit == 2
    assert behind[behind[:, 1] > 0, 1].min() - behind[behind[:, 1] < 0, 1].max() > 3.77
    assert len(made_up_crack(size_A=(90,), mode="II", slit=0)) > len(crack)
    u = crack.far_field(crack.griffith)
    assert np.abs(u[d[:, 0] < -20, 0]).max() > 0.5


def test_a_million_atoms_take_seconds():
    from time import perf_counter

    cleavage, started = made_up_cleavage(), perf_counter()
    crack = cracked_crystal(cleavage, system="strip", size_A=[3000, 1700, 3.84])
    crack.cracked(crack.griffith)
    assert len(crack) > 980_000
    assert perf_counter() - started < 10


def test_description_is_plain_json():
    import json

    told = json.loads(json.dumps(made_up_crack().described()))
    assert told["growth"] == [1, 1, -2]
    assert told["n_atoms"] == 1056
    assert told["n_held"] == 356


# --- loads ----------------------------------------------------------------------------------------------------------


def test_loads_in_all_measures():
    crack = made_up_crack()
    assert crack.griffith.G_J_per_m2 == pytest.approx(2.72)
    assert crack.griffith.K_MPa_sqrt_m == pytest.approx(0.61526, rel=1e-4)
    assert crack.load(K=0.5).G_J_per_m2 == pytest.approx(2.72 * (0.5 / 0.61526) ** 2, rel=1e-4)
    assert crack.load(K=0.5).strain is None
    u = crack.far_field(crack.load(K=1.0))
    np.testing.assert_allclose(u, 2 * crack.far_field(crack.load(K=0.5)), atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "load", "message"),
    [
        ("cylinder", {"strain": 0.1}, "the load of a strip"),
        ("cylinder", {"K": 0.5, "G": 2.0}, "one of K, G or strain"),
        ("cylinder", {}, "one of K, G or strain"),
        ("cylinder", {"K": -1.0}, "not below zero"),
        ("cylinder", {"K": float("nan")}, "not below zero"),
        ("cylinder", {"K": 6.0}, "beyond the ideal strength"),
        ("strip", {"strain": 0.34}, "beyond the ideal strength"),
        ("strip", {"G": 200.0}, "beyond the ideal strength"),
    ],
)
def test_impossible_loads_are_refused(kind, load, message):
    crack = made_up_crack(kind, (84,) if kind == "cylinder" else (120, 90))
    with pytest.raises(ValueError, match=message):
        crack.load(**load)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"system": "disc"}, "must be one of strip, cylinder"),
        ({"size_A": (30,)}, "too small for its held annulus of 8 A"),
        ({"size_A": (60,), "annulus_A": 25.0}, "too small for its held annulus of 25 A"),
        ({"annulus_A": -1.0}, "must be positive"),
        (
            {"size_A": (84, 84, 2.0)},
            r"2 A thin along its front \[1 -1 0\], where the crystal repeats after 3.8403 A",
        ),
        ({"size_A": (84, 84, 7.7), "front_repeats": 3}, "give one of them"),
        ({"front_repeats": 0}, "at least 1"),
        ({"size_A": (84, 90)}, "one diameter"),
        ({"size_A": ()}, "one to three positive lengths"),
        ({"system": "strip", "size_A": (100,)}, "its length and its height"),
        ({"system": "strip", "size_A": (100, 12)}, "is too small"),
        ({"system": "strip", "size_A": (100, 60, 3.0)}, "3 A thin along its front"),
        ({"system": "strip", "size_A": (100, 60), "tip_A": 200.0}, "within the strip"),
        ({"slit": -1}, "counts lattice planes"),
    ],
)
def test_impossible_sizes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        made_up_crack(**options)


def test_a_missing_potential_is_an_error_of_the_study():
    from solidqmmm.errors import StudyError

    host = {**HOSTS["sw"], "pair_coeff": ["* * Si_missing.sw Si"]}
    with pytest.raises(StudyError) as error:
        Study.from_mapping({"recipe": "elastic_tensor", "structure": SILICON, "host": host})
    assert "Si_missing.sw" in str(error.value)


# --- picture --------------------------------------------------------------------------------------------------------


def test_picture_shows_every_atom_and_names_the_axes():
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    from solidqmmm.plotting.crack import draw_crack

    crack = made_up_crack()
    ax = draw_crack(crack)
    (atoms,) = ax.collections
    assert len(atoms.get_offsets()) == 1056
    assert len(np.unique(atoms.get_facecolors(), axis=0)) == 2  # free and held
    assert r"\bar{2}" in ax.get_xlabel()
    assert "front" in ax.get_title(loc="left")
    (atoms,) = draw_crack(crack, window=10.0).collections
    assert 0 < len(atoms.get_offsets()) < 200
    plt.close("all")
