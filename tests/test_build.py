"""From a study to crystal, defect, region, cluster and coupling; and the studies that cannot be built."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from ase.build import bulk
from pymatgen.core import Lattice, Structure

from solidqmmm.coupling.force_mixing import ForceMixing
from solidqmmm.coupling.subtractive import Subtractive
from solidqmmm.engines.journal import JournaledEngine
from solidqmmm.errors import RegionError, StructureError
from solidqmmm.physics.geometry import distances_to_point, unwrapped
from solidqmmm.procedures.build import build_model
from solidqmmm.procedures.building.describe import described
from solidqmmm.procedures.dry_run import estimate
from solidqmmm.recipebook import schemas
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.study import Study

A0 = 5.431
SW = {"pair_style": "sw", "pair_coeff": ["* * Si.sw Si"], "species": ["Si"]}
TERSOFF = {"engine": "lammps", "pair_style": "tersoff", "pair_coeff": "* * Si.tersoff Si", "species": ["Si"]}
TERSOFF_HOST = {key: value for key, value in TERSOFF.items() if key != "engine"} | {"pair_coeff": ["* * Si.tersoff Si"]}
SIC = {"pair_style": "tersoff", "pair_coeff": ["* * SiC.tersoff Si C"], "species": ["Si", "C"]}
SIC_QM = {
    "engine": "lammps",
    "pair_style": "tersoff",
    "pair_coeff": "* * SiC_Erhart-Albe.tersoff Si C",
    "species": ["Si", "C"],
}


def silicon() -> Structure:
    return Structure.from_spacegroup("Fd-3m", Lattice.cubic(A0), ["Si"], [[0, 0, 0]])


def study(**changes) -> Study:
    mapping = {
        "recipe": "single_point",
        "structure": silicon(),
        "supercell": [4, 4, 4],
        "host": SW,
        "qm": TERSOFF,
        "region": {"core": {"hops": 1}, "buffer": {"hops": 1}},
        "caps": {"kind": "Si"},
    } | changes
    mapping = {key: value for key, value in mapping.items() if value is not None}
    return Study.from_mapping(mapping, schemas=schemas())


def model(**changes):
    return build_model(study(**changes))


def from_defect(built):
    return distances_to_point(built.crystal.positions, built.defect.position, built.crystal.cell, (True,) * 3)


# --- crystals and defects -----------------------------------------------------------------------------------------

CELLS = {
    "conventional": ([3, 3, 3], 216),
    "primitive": ([5, 5, 5], 250),
    "as_given": ([2, 3, 3], 144),
}


@pytest.mark.parametrize("cell", CELLS)
def test_cells_and_repeats(tmp_path, cell):
    silicon().to(filename=str(tmp_path / "Si.cif"))
    repeats, n = CELLS[cell]
    asked = {"structure": {"file": "Si.cif", "cell": cell}, "supercell": repeats, "recipe": "single_point", "host": SW}
    built = build_model(Study.from_mapping(asked, folder=tmp_path, schemas=schemas()))
    assert len(built.crystal) == n
    assert built.engine is None
    assert built.partition.counts()["host"] == n
    with built.open() as host:
        assert host.energy() == pytest.approx(-4.3366 * n, abs=1e-3 * n)
        assert np.abs(host.forces()).max() < 1e-8


@pytest.mark.parametrize("matrix", [[[4, 0, 0], [0, 4, 0], [1, 1, 4]], [[3, 3, 0], [-3, 3, 0], [0, 0, 4]]])
def test_matrix_supercells(matrix):
    with model(supercell=matrix, defect={"kind": "vacancy", "site": 3}) as built:
        assert len(built.perfect) == 8 * abs(round(np.linalg.det(matrix)))
        assert built.partition.counts()["core"] == 4
        with built.open() as qmmm:
            assert np.isfinite(qmmm.energy())


@pytest.mark.parametrize("cell", ["conventional", "primitive", "as_given"])
@pytest.mark.parametrize("site", [0, 1])
def test_the_image_of_the_site_nearest_the_centre_is_meant(tmp_path, cell, site):
    """Sites count in the file, whatever cell is repeated."""
    unit = Crystal.of(bulk("SiC", "zincblende", a=4.36)).to_structure()
    unit.to(filename=str(tmp_path / "POSCAR"))
    asked = {
        "recipe": "single_point",
        "structure": {"file": "POSCAR", "cell": cell},
        "supercell": [4, 4, 4],
        "host": SIC,
        "defect": {"kind": "vacancy", "site": site},
    }
    built = build_model(Study.from_mapping(asked, folder=tmp_path, schemas=schemas()))
    assert built.defect.element == ("Si", "C")[site]
    assert built.perfect.symbols[built.defect.site] == ("Si", "C")[site]
    centre = 0.5 * built.perfect.cell.sum(axis=0)
    same = np.array(built.perfect.symbols) == built.defect.element
    distance = np.linalg.norm(built.perfect.positions - centre, axis=1)
    assert np.linalg.norm(built.defect.position - centre) == pytest.approx(distance[same].min(), abs=1e-9)
    assert len(built.crystal) == len(built.perfect) - 1


def test_vacancy_region():
    with model(defect={"kind": "vacancy", "site": 0}) as built:
        np.testing.assert_allclose(from_defect(built)[built.partition.core], A0 * np.sqrt(3) / 4, atol=1e-9)
        assert built.partition.counts()["core"] == 4
        assert isinstance(built.coupling(), Subtractive)
        perfect = built.perfect_partition
        assert perfect.counts()["core"] == 5
        assert perfect.labels[built.defect.site] == 2
        assert len(perfect.buffer) == len(built.partition.buffer)


@pytest.mark.parametrize("element", ["C", "Ge"])
def test_substitution_region(element):
    """The new atom keeps the bonds of the old one, also where it is too small for the unrelaxed site."""
    host = {"pair_style": "tersoff", "pair_coeff": [f"* * SiCGe.tersoff Si(D) {element}"], "species": ["Si", element]}
    qm = {"engine": "lammps", **host}
    with model(defect={"kind": "substitution", "site": 0, "element": element}, host=host, qm=qm) as built:
        assert built.crystal.symbols[built.defect.site] == element
        assert built.partition.counts()["core"] == 5
        assert built.partition.labels[built.defect.site] == 2
        assert len(built.cluster.caps) == 36
        with built.open() as qmmm, built.open_perfect() as perfect:
            assert qmmm.energy() != perfect.energy()


@pytest.mark.parametrize(
    ("asked", "neighbours"),
    [({"position": [0.5, 0.5, 0.5]}, 4), ({"position": [0.625, 0.625, 0.625]}, 6)],
    ids=["tetrahedral", "hexagonal"],
)
def test_interstitials(asked, neighbours):
    with model(defect={"kind": "interstitial", "element": "Si", **asked}) as built:
        n = len(built.crystal)
        assert n == 513
        atom = built.defect.atom(n)
        assert built.partition.labels[atom] == 2
        distance = from_defect(built)
        assert distance[atom] == pytest.approx(0.0, abs=1e-9)
        others = np.sort(np.delete(distance, atom))
        assert others[0] > 1.5
        assert (others < others[0] + 0.1).sum() == neighbours
        centre = 0.5 * built.perfect.cell.sum(axis=0)
        assert np.linalg.norm(built.defect.position - centre) < A0
        assert len(built.perfect_partition) == 512
        with built.open() as qmmm:
            assert np.isfinite(qmmm.energy())


def test_distinct_interstitial_sites_differ():
    places = []
    for site in range(2):
        with model(defect={"kind": "interstitial", "element": "Si", "site": site}) as built:
            places.append(np.sort(from_defect(built))[1])
            assert built.partition.labels[built.defect.atom(len(built.crystal))] == 2
            assert places[-1] > 1.5
    assert abs(places[0] - places[1]) > 0.1


# --- regions --------------------------------------------------------------------------------------------------------


def test_kinds_of_regions():
    vacancy = {"kind": "vacancy", "site": 0}
    for core, buffer, expected in (
        ({"hops": 1}, {"hops": 1}, (4, 12)),
        ({"hops": 2}, None, (16, 0)),
        ({"radius": 4.0}, {"hops": 1}, (16, 24)),
        ({"radius": 2.5}, {"radius": 2.1}, (4, 24)),
        ({"hops": 1}, {"radius": 2.5}, (4, 12)),
        ({"sites": [0, 1, 7]}, None, (3, 0)),
    ):
        region = {"core": core} | ({} if buffer is None else {"buffer": buffer})
        with model(defect=vacancy, region=region, caps={"kind": "none"}) as built:
            counts = built.partition.counts()
            assert (counts["core"], counts["buffer"]) == expected, (core, buffer)


def test_a_buffer_by_radius_is_concentric_with_a_core_by_radius():
    region = {"core": {"radius": 3.0}, "buffer": {"radius": 4.0}, "centre": {"site": 7}}
    with model(region=region, caps={"kind": "none"}) as built:
        x, cell = built.crystal.positions, built.crystal.cell
        distance = distances_to_point(x, x[7], cell, (True,) * 3)
        np.testing.assert_array_equal(built.partition.core, np.flatnonzero(distance <= 3.0))
        np.testing.assert_array_equal(built.partition.quantum, np.flatnonzero(distance <= 7.0))
        thicker = built.with_buffer(radius=5.0)
        np.testing.assert_array_equal(thicker.partition.quantum, np.flatnonzero(distance <= 8.0))
        np.testing.assert_array_equal(thicker.partition.core, built.partition.core)


def test_region_without_a_defect_is_centred_where_it_is_asked():
    for centre, expected in (
        (None, [2 * A0] * 3),
        ({"site": 5}, None),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]),
    ):
        region = {"core": {"radius": 4.0}} | ({} if centre is None else {"centre": centre})
        with model(region=region) as built:
            expected = built.crystal.positions[5] if expected is None else expected
            np.testing.assert_allclose(built.partition.centre, expected, atol=1e-9)


def test_line_and_property_and_frozen():
    region = {"core": {"line": {"direction": [0, 0, 1]}, "radius": 3.0}, "buffer": {"radius": 2.0}}
    with model(supercell=[4, 4, 1], region=region, caps={"kind": "Si", "periodic_axes": [2]}) as built:
        assert built.cluster.pbc.tolist() == [False, False, True]
        with built.open() as qmmm:
            assert qmmm.stress() is not None

    atoms = bulk("Si", a=A0, cubic=True) * (3, 3, 3)
    atoms.set_array("damage", (np.arange(216) < 5).astype(float))
    region = {"core": {"property": "damage", "above": 0.5}, "frozen": {"property": "damage", "below": 0.5}}
    with model(structure=atoms, supercell=[1, 1, 1], region=region, caps={"kind": "none"}) as built:
        assert built.partition.counts() == {"host": 0, "buffer": 0, "core": 5, "frozen": 211}
        with built.open() as qmmm:
            assert np.abs(qmmm.forces()[5:]).max() == 0


@pytest.mark.parametrize("buffer", [None, {"hops": 1}])
def test_sites_that_do_not_exist(buffer):
    """511 atoms are left of 512: the vacancy shifts what a reader counted in the perfect crystal."""
    for sites, said in (([3, 511], "511"), ([-1], "-1"), ([900, 901], "900, 901")):
        region = {"core": {"sites": sites}, "buffer": buffer}
        with (
            pytest.raises(RegionError, match=rf"region\.core\.sites names {said}, .* are 0 to 510"),
            model(defect={"kind": "vacancy", "site": 0}, region=region),
        ):
            pass
    region = {"core": {"hops": 1}, "frozen": {"sites": [511]}}
    with (
        pytest.raises(RegionError, match=r"region\.frozen\.sites names 511"),
        model(defect={"kind": "vacancy", "site": 0}, region=region),
    ):
        pass


# --- the engine alone -----------------------------------------------------------------------------------------------


@pytest.fixture
def whole_cell(tmp_path):
    """A study without a host, for a recipe that says that it takes one."""
    (tmp_path / "whole.py").write_text('"""Whole cells."""\nENGINE_ALONE = True\ndef run(*, model): ...\n')

    def made(**changes):
        asked = {"recipe": "whole.py", "structure": silicon(), "supercell": [2, 2, 2], "qm": TERSOFF} | changes
        return Study.from_mapping(asked, folder=tmp_path, schemas=schemas())

    return made


def test_engine_alone(whole_cell, tmp_path):
    """The whole periodic crystal is the engine's, and the energy is that of the same potential as a host."""
    with (
        build_model(whole_cell(), log_dir=tmp_path / "run") as built,
        build_model(study(qm=None, region=None, caps=None, host=TERSOFF_HOST, supercell=[2, 2, 2])) as host_alone,
    ):
        assert built.engine_alone
        assert not host_alone.engine_alone
        assert isinstance(built.engine, JournaledEngine)
        assert (built.potential, built.cluster, built.coupling(), built.matching) == (None,) * 4
        assert built.partition.counts() == {"host": 64, "buffer": 0, "core": 0, "frozen": 0}
        assert built.warnings() == []
        assert built.checksums() == {}
        given = built.engine.evaluate(built.crystal.to_atoms(), stress=True)
        with host_alone.open() as host:
            assert given.energy == pytest.approx(host.energy(), abs=1e-9)
            np.testing.assert_allclose(given.stress, host.stress(), atol=1e-12)
        # the same potential is cited, and no coupling
        assert set(built.references()) == set(host_alone.references())


def test_defect_in_the_engine_alone(whole_cell):
    with build_model(whole_cell(defect={"kind": "vacancy", "site": 0})) as built:
        assert len(built.crystal) == 63
        np.testing.assert_array_equal(built.partition.centre, built.defect.position)
        assert len(built.perfect_partition) == 64


def test_engine_alone_cannot_be_opened(whole_cell):
    with build_model(whole_cell()) as built:
        for opened in (built.open, built.open_perfect, lambda: built.classical):
            with pytest.raises(ValueError, match="no host potential, so there is no hybrid crystal to open"):
                opened()


def test_engine_alone_in_words_and_costs(whole_cell):
    with build_model(whole_cell()) as built:
        fields = described(built)
        assert (fields["n_atoms_host"], fields["n_atoms_qm"], fields["n_link_atoms"]) == (64, 64, 0)
        assert (fields["host"], fields["coupling"]) == ("", "")
        assert fields["engine"] == "lammps tersoff"
        costs = dict(estimate(built).rows())
        assert costs["atoms"] == "64"
        assert costs["quantum atoms"] == "all: the engine alone"
        assert "host" not in costs


# --- couplings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["abrupt", "smooth"])
def test_force_mixing_from_a_study(weights):
    coupling = {"scheme": "force_mixing", "weights": weights, "net_force": "region"}
    with model(coupling=coupling, caps={"kind": "none"}) as built:
        mixing = built.coupling()
        assert isinstance(mixing, ForceMixing)
        assert mixing.net_force == "region"
        assert (mixing.weights[mixing.cluster.core] == 1).all()
        assert ((mixing.weights > 0) & (mixing.weights < 1)).any() == (weights == "smooth")


def test_patch_test_of_a_study_with_ghost_forces():
    spurious, carbide = {}, bulk("SiC", "zincblende", a=4.36, cubic=True)
    for ghost in (False, True):
        coupling = {"scheme": "subtractive", "ghost_forces": ghost}
        polar = {"structure": carbide, "host": SIC, "qm": SIC_QM, "caps": {"kind": "C"}}
        with model(coupling=coupling, **polar) as built, built.open() as qmmm:
            spurious[ghost] = np.abs(qmmm.forces()).max()
    assert spurious[False] > 0.1
    assert spurious[True] < 1e-9


def test_dead_load_of_a_vacancy_comes_from_the_atoms_at_the_same_places():
    coupling = {"scheme": "subtractive", "ghost_forces": True}
    with model(coupling=coupling, defect={"kind": "vacancy", "site": 0}) as built:
        load, cluster = built.coupling().dead_load, built.cluster
        atoms, given = built.perfect_contribution
        perfect = built.perfect
        where = perfect.positions[atoms]
        np.testing.assert_allclose(load.sum(axis=0), 0.0, atol=1e-10)
        removed = []
        for x, force in zip(cluster.reference, load, strict=True):
            near = unwrapped(where, x, perfect.cell, (True,) * 3) - x
            partner = np.linalg.norm(near, axis=1).argmin()
            assert np.linalg.norm(near[partner]) < 1e-6
            removed.append(given.forces[partner] - force)
        # all but the mean of them, which would drag the crystal
        assert np.ptp(removed, axis=0).max() < 1e-10


# --- what cannot be built -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"region": {"core": {"radius": 1.0}, "centre": [1.3, 1.3, 0.0]}}, RegionError, "the core is empty"),
        ({"region": {"core": {"sites": []}}}, RegionError, "the core is empty"),
        ({"region": {"core": {"sites": [512]}}}, RegionError, r"sites names .*are 0 to 511"),
        ({"region": {"core": {"radius": 11.0}}}, RegionError, "meets its own periodic image"),
        ({"region": {"core": {"hops": 1}, "buffer": {"radius": 10.9}}}, RegionError, "meets its own periodic image"),
        ({"region": {"core": {"radius": 8.0}, "buffer": {"radius": 3.0}}}, RegionError, "meets its own periodic image"),
        ({"region": {"core": {"hops": 5}, "buffer": {"hops": 5}}}, RegionError, "wraps onto its own|periodic image share"),
        ({"region": {"core": {"property": "damage", "above": 1}}}, RegionError, "no per-atom property 'damage'"),
        ({"region": {"core": {"hops": 1}, "centre": {"site": 512}}}, RegionError, "names site 512"),
        ({"defect": {"kind": "vacancy", "site": 8}}, StructureError, "defect.site 8 does not exist"),
        ({"defect": {"kind": "substitution", "site": 0, "element": "Si"}}, StructureError, "is Si already"),
        ({"defect": {"kind": "substitution", "site": 0, "element": "Ge"}}, ValueError, "element Ge is not in the potential"),
        ({"defect": {"kind": "interstitial", "site": 99, "element": "Si"}}, StructureError, "interstitial site 99"),
        ({"caps": {"kind": "H", "periodic_axes": [0]}, "supercell": [4, 4, 4]}, None, ""),
    ],
)
def test_impossible_studies(changes, error, said):
    if error is None:
        with model(**changes) as built:
            assert built.cluster.periodic_axes == (0,)
        return
    with pytest.raises(error, match=said), model(**changes) as built:
        assert built.cluster is not None


def test_buffer_that_wraps_onto_itself():
    with (
        pytest.raises(RegionError, match=r"wraps onto its own periodic image along cell vector 0.*periodic_axes: \[0\]"),
        model(supercell=[2, 5, 5], region={"core": {"hops": 2}, "buffer": {"hops": 3}}, caps={"kind": "none"}) as built,
    ):
        assert built.cluster is not None


@pytest.mark.parametrize(
    ("structure", "said"),
    [
        (Structure(Lattice.cubic(4), ["Si", "Si"], [[0, 0, 0], [0.1, 0, 0]]), "overlap: they are 0.400 A"),
        (Structure(Lattice.cubic(0.543), ["Si"] * 2, [[0, 0, 0], [0.5] * 3]), "overlap"),
    ],
)
def test_overlapping_atoms(structure, said):
    with pytest.raises(StructureError, match=said):
        model(structure=structure)


def test_disordered_structures(tmp_path):
    alloy = Structure(Lattice.cubic(4), [{"Si": 0.5, "Ge": 0.5}], [[0, 0, 0]])
    alloy.to(filename=str(tmp_path / "alloy.cif"))
    asked = {"recipe": "single_point", "structure": {"file": "alloy.cif"}, "host": SW}
    with pytest.raises(StructureError, match="site 0 is disordered"):
        build_model(Study.from_mapping(asked, folder=tmp_path, schemas=schemas()))


def test_every_coupling_owes_references_that_exist():
    from solidqmmm.procedures.building.coupling_references import BALANCED, BOUNDARY_CHARGES, DAMPING, SCHEMES
    from solidqmmm.results.provenance import bibliography
    from solidqmmm.system.study_sections import AdditiveSection

    options = AdditiveSection.model_fields
    assert set(BOUNDARY_CHARGES) == set(get_args(options["boundary_charges"].annotation))
    assert set(DAMPING) == set(get_args(options["damping"].annotation))
    for scheme, keys in SCHEMES.items():
        assert keys, scheme
    assert BALANCED in bibliography()
    for table in (SCHEMES, DAMPING, BOUNDARY_CHARGES):
        assert set().union(*table.values()) <= set(bibliography())
