"""Interstitial sites: those of the textbooks, the largest hole first, whatever the cell, its origin and its fourth digit."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111

from solidqmmm.errors import StructureError
from solidqmmm.procedures.building.place_defect import distinct_interstitials, place_defect
from solidqmmm.system.crystal import Crystal


def sites_of(atoms: Atoms):
    return distinct_interstitials(Crystal.of(atoms))


# radius over lattice parameter, sites in the primitive cell, atoms touched; by geometry
TEXTBOOK = {
    "fcc": (bulk("Al", "fcc", a=1, cubic=True), [(1 / 2, 1, 6), (np.sqrt(3) / 4, 2, 4)], 4.05),
    "bcc": (bulk("Fe", "bcc", a=1, cubic=True), [(np.sqrt(5) / 4, 6, 4)], 2.86),
    "diamond": (
        bulk("Ge", "diamond", a=1, cubic=True),
        [(np.sqrt(3) / 4, 2, 4), (np.sqrt(11) / 8, 4, 6)],
        5.66,
    ),
    "hcp": (
        bulk("Mg", "hcp", a=1, c=np.sqrt(8 / 3)),
        [(np.sqrt(1 / 2), 2, 6), (np.sqrt(3 / 8), 4, 4)],
        3.2,
    ),
}


@pytest.mark.parametrize("lattice", TEXTBOOK)
@pytest.mark.parametrize("stretch", [1.0, 1.00013, 0.9991])
def test_holes_of_the_textbooks(lattice, stretch):
    atoms, expected, a = TEXTBOOK[lattice]
    atoms = atoms.copy()
    atoms.set_cell(atoms.cell * a * stretch, scale_atoms=True)
    found = [(s.radius / (a * stretch), s.multiplicity, len(s.neighbours)) for s in sites_of(atoms)]
    assert len(found) == len(expected)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_holes_of_one_radius_are_told_apart_by_what_they_touch():
    for a in (4.36, 4.35965, 4.3591):
        sites = sites_of(bulk("SiC", "zincblende", a=a, cubic=True))
        assert [s.neighbours for s in sites] == [(6,) * 4, (14,) * 4, (6,) * 3 + (14,) * 3]
        assert [s.multiplicity for s in sites] == [1, 1, 4]


def test_neither_origin_nor_cell_nor_orientation_matter():
    reference = bulk("GaN", "wurtzite", a=3.19, c=5.19, u=0.377)
    expected = [(s.radius, s.multiplicity, s.neighbours) for s in sites_of(reference)]
    assert expected[0][0] > expected[-1][0]
    moved = reference.copy()
    moved.positions += [0.3, -1.1, 0.7]
    moved.rotate(40, (1, 2, 3), rotate_cell=True)
    for atoms in (moved, moved[[2, 0, 3, 1]], moved * (2, 1, 1)):
        found = [(s.radius, s.multiplicity, s.neighbours) for s in sites_of(atoms)]
        assert [n for *_, n in found] == [n for *_, n in expected]
        np.testing.assert_allclose([f[:2] for f in found], [e[:2] for e in expected], atol=1e-6)


def test_atoms_that_are_not_quite_in_place():
    atoms = bulk("Al", "fcc", a=4.05, cubic=True)
    atoms.positions += np.random.default_rng(3).uniform(-0.002, 0.002, (4, 3))
    sites = sites_of(atoms)
    assert [len(s.neighbours) for s in sites] == [6, 4]
    assert sites[0].radius == pytest.approx(2.025, abs=0.005)


def test_the_vacuum_of_a_slab_is_no_site():
    slab = fcc111("Al", (1, 1, 5), a=4.05, vacuum=8.0)
    slab.pbc = True
    inside = slab.positions[:, 2]
    sites = sites_of(slab)
    heights = [s.fractional @ slab.cell.array @ [0, 0, 1] for s in sites if s.radius < 2.1]
    assert heights
    assert all(inside.min() - 1.0 < z < inside.max() + 1.0 for z in heights)
    assert all(s.radius <= 4.0 for s in sites)


def test_an_interstitial_on_an_atom():
    unit = Crystal.of(bulk("Al", "fcc", a=4.05, cubic=True))
    for place in ([0, 0, 0.05], [0.52, 0.5, 0.98]):
        with pytest.raises(StructureError, match=r"0\.\d\d A from an atom of Al.*fractional.*`site: 0`"):
            place_defect(unit, unit.supercell([3, 3, 3]), kind="interstitial", element="Cu", position=place)
    assert place_defect(unit, unit.supercell([3, 3, 3]), kind="interstitial", element="Cu", position=[0, 0, 0.5])


def test_the_defect_is_put_there_and_wrong_numbers_are_answered_with_the_list():
    unit = Crystal.of(bulk("Al", "fcc", a=4.05, cubic=True))
    cell = unit.supercell([3, 3, 3])
    for site, radius in ((0, 2.025), (1, 4.05 * np.sqrt(3) / 4)):
        defect = place_defect(unit, cell, kind="interstitial", element="Cu", site=site)
        away = cell.positions - defect.position
        away -= np.rint(away @ np.linalg.inv(cell.cell)) @ cell.cell
        assert np.linalg.norm(away, axis=1).min() == pytest.approx(radius, abs=1e-6)
    with pytest.raises(
        StructureError, match=r"2 symmetry-distinct.*0 at \[.*2\.0[23] A from Al Al.*or give `position`"
    ):
        place_defect(unit, cell, kind="interstitial", element="Cu", site=2)
