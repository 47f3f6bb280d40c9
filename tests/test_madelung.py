"""Lattice constants of electrostatics against tabulated values and pymatgen's sums."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.analysis.ewald import EwaldSummation
from pymatgen.core import Lattice, Structure

from solidqmmm.physics.electrostatics.ewald import COULOMB, ewald_energy
from solidqmmm.physics.madelung import (
    formal_charges,
    madelung_constant,
    point_charge_energy,
    site_potentials,
    site_potentials_of,
)

FCC = 0.5 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
BCC = 0.5 * np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
GALLIUM_NITRIDE = Lattice.hexagonal(9.567, 15.6).matrix

# Nearest-neighbour distance d over a, ions of the primitive cell (fractions of the conventional one), charges.
# Constants: Y. Sakamoto, J. Chem. Phys. 28, 164 (1958) for CsCl, zincblende and fluorite; NaCl to all its digits.
CRYSTALS = {
    "rock salt": (FCC, [[0, 0, 0], [0.5, 0.5, 0.5]], [1, -1], 0.5, 1.74756459463318219064),
    "caesium chloride": (np.eye(3), [[0, 0, 0], [0.5, 0.5, 0.5]], [1, -1], np.sqrt(0.75), 1.762674773070988),
    "zincblende": (FCC, [[0, 0, 0], [0.25, 0.25, 0.25]], [1, -1], np.sqrt(3) / 4, 1.638055053388790),
    "fluorite": (
        FCC,
        [[0, 0, 0], [0.25, 0.25, 0.25], [0.75, 0.75, 0.75]],
        [2, -1, -1],
        np.sqrt(3) / 4,
        5.038784880,
    ),
}


@pytest.mark.parametrize(
    ("cell", "edge", "by_volume", "by_edge"),
    [
        (np.eye(3), 1.0, 2.83729748, 2.83729748),
        (FCC, 1.0, 2.88828212, 4.58486207),
        (BCC, 1.0, 2.88846150, 3.63923345),
        (np.diag([1.0, 1, 2]), None, 2.27521811, None),
        (np.diag([1.0, 1, 3]), None, 1.09419467, None),
    ],
    ids=["sc", "fcc", "bcc", "1:1:2", "1:1:3"],
)
def test_lattices_of_one_charge(cell, edge, by_volume, by_edge):
    assert madelung_constant(cell) == pytest.approx(by_volume, abs=1e-8)
    for scale in (0.1, 5.3, 200.0):
        assert madelung_constant(scale * cell) == pytest.approx(by_volume, abs=1e-8)
        if edge:
            assert madelung_constant(scale * cell, length=scale * edge) == pytest.approx(by_edge, abs=1e-8)


def test_conventions_of_length_and_dielectric():
    cell, q = 7.0 * FCC, -3.0
    for dielectric in (None, 4.0, np.diag([2.0, 3.0, 9.0])):
        eps = np.cbrt(54.0) if np.ndim(dielectric) else dielectric or 1.0
        for L in (None, 7.0):
            alpha = madelung_constant(cell, length=L, dielectric=dielectric)
            expected = -alpha * q**2 * COULOMB / (2 * eps * (L or np.cbrt(7.0**3 / 4)))
            assert point_charge_energy(q, cell, dielectric) == pytest.approx(expected, rel=1e-13)
    assert madelung_constant(cell, dielectric=4.0) == pytest.approx(madelung_constant(cell), rel=1e-13)
    with pytest.raises(ValueError, match="`length` must be positive"):
        madelung_constant(cell, length=0.0)


@pytest.mark.parametrize(
    ("cell", "dielectric", "expected"),
    [
        (10.0 * np.eye(3), 10.0, -0.2042804),
        (10.0 * np.eye(3), np.diag([10.0, 10, 5]), -0.24622091),
        (GALLIUM_NITRIDE, np.diag([9.3, 9.3, 10.4]), -0.17972916),
    ],
    ids=["isotropic", "tetragonal", "GaN"],
)
def test_anisotropic_point_charges(cell, dielectric, expected):
    """Numbers of pydefect's anisotropic Ewald sum, to what it gives."""
    assert point_charge_energy(1.0, cell, dielectric) == pytest.approx(expected, abs=1e-6)
    assert point_charge_energy(-2.0, cell, dielectric) == pytest.approx(4 * expected, abs=4e-6)


@pytest.mark.parametrize("crystal", CRYSTALS.values(), ids=CRYSTALS)
def test_constants_of_ionic_crystals(crystal):
    cell, fractions, charges, d, expected = crystal
    a = 4.7
    energy = ewald_energy(a * np.array(fractions), charges, a * cell).energy
    # E = -M k/d per formula unit; for fluorite M is twice the 2.5194 of tables that divide by |z+ z-|.
    assert -energy * a * d / COULOMB == pytest.approx(expected, abs=1e-9)


def wurtzite(u=0.375):
    lattice = Lattice.hexagonal(3.25, 3.25 * np.sqrt(8 / 3))
    sites = [[1 / 3, 2 / 3, 0], [2 / 3, 1 / 3, 0.5], [1 / 3, 2 / 3, u], [2 / 3, 1 / 3, 0.5 + u]]
    return Structure(lattice, ["Zn2+", "Zn2+", "O2-", "O2-"], sites)


def rutile():
    lattice, u = Lattice.tetragonal(4.594, 2.959), 0.305
    oxygen = [[u, u, 0], [-u, -u, 0], [0.5 + u, 0.5 - u, 0.5], [0.5 - u, 0.5 + u, 0.5]]
    return Structure(lattice, ["Ti4+"] * 2 + ["O2-"] * 4, [[0, 0, 0], [0.5, 0.5, 0.5], *oxygen])


def test_ideal_wurtzite():
    d, M = 0.375 * 3.25 * np.sqrt(8 / 3), 1.641321627
    potentials = site_potentials(wurtzite())
    np.testing.assert_allclose(potentials, M * 2 * COULOMB / d * np.array([-1, -1, 1, 1]), rtol=1e-9)


@pytest.mark.parametrize(
    "structure", [wurtzite(), wurtzite(0.382), rutile()], ids=["wurtzite", "with u", "rutile"]
)
def test_pymatgen_gives_the_same_potentials(structure):
    other = EwaldSummation(structure, acc_factor=16)
    charges = formal_charges(structure)
    expected = 2 * other.total_energy_matrix.sum(axis=1) / charges * COULOMB / EwaldSummation.CONV_FACT
    np.testing.assert_allclose(site_potentials(structure), expected, atol=1e-8)


def test_magnesium_oxide():
    structure = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(4.2112), ["Mg2+", "O2-"], [[0, 0, 0], [0.5] * 3]
    )
    potentials = site_potentials(structure)
    assert potentials.shape == (8,)
    np.testing.assert_allclose(potentials, 23.9022707 * np.repeat([-1, 1], 4), atol=1e-6)
    assert 0.5 * formal_charges(structure) @ potentials / 4 == pytest.approx(-47.8045414, abs=1e-6)
    large = structure.make_supercell([[2, 1, 0], [0, 1, 0], [0, -1, 1]], in_place=False)
    np.testing.assert_allclose(np.abs(site_potentials(large)), 23.9022707, atol=1e-6)


def test_partly_occupied_sites_carry_the_mean():
    mixed = Structure(
        Lattice.cubic(4.0), [{"Na+": 0.5, "Ca2+": 0.5}, {"F-": 0.5, "O2-": 0.5}], [[0, 0, 0], [0.5] * 3]
    )
    np.testing.assert_allclose(formal_charges(mixed), [1.5, -1.5])
    M, d = 1.762674773070988, 4.0 * np.sqrt(0.75)
    np.testing.assert_allclose(site_potentials(mixed), 1.5 * M * COULOMB / d * np.array([-1, 1]), rtol=1e-10)


def test_refusals():
    sites = [[0, 0, 0], [0.5, 0.5, 0.5]]
    with pytest.raises(
        ValueError, match=r"1 of 2 sites have no oxidation state.*site 1 \(Cl\).*add_oxidation_state_by"
    ):
        site_potentials(Structure(Lattice.cubic(4.0), ["Na+", "Cl"], sites))
    with pytest.raises(
        ValueError, match=r"must be neutral, got positive charges of \+2 e and negative ones of -1 e"
    ):
        site_potentials(Structure(Lattice.cubic(4.0), ["Mg2+", "Cl-"], sites))
    with pytest.raises(ValueError, match="shape"):
        site_potentials_of(np.zeros((2, 3)), [1.0], np.eye(3))
