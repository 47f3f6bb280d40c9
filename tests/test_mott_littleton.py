"""Mott and Littleton's two regions: limits in closed form, other ways to the energy, what the radii do, what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from ionic_cases import LATTICE, RIGID

from solidqmmm.engines.lammps_pair_terms import pair_terms
from solidqmmm.errors import EngineError, PolarizationCatastrophe, SolidQMMMError
from solidqmmm.physics.charged_defects.ion_cluster import IonCluster
from solidqmmm.physics.charged_defects.ionic_crystal import FieldResponse, Ion, IonicCrystal
from solidqmmm.physics.charged_defects.mott_littleton import (
    PointDefect,
    TwoRegions,
    born_energy,
    isotropic,
    relax_cluster,
)
from solidqmmm.physics.charged_defects.pair_terms import PairTerm
from solidqmmm.physics.charged_defects.size_corrections import leading_coefficient
from solidqmmm.physics.electrostatics.ewald import COULOMB, ewald_potential
from solidqmmm.physics.electrostatics.lattice_tail import inverse_fourth_beyond
from solidqmmm.physics.polarization.induced_dipoles import InducedDipoles, PolarizableSites
from solidqmmm.procedures.charged_defects.host_dielectric import host_response
from solidqmmm.procedures.charged_defects.mott_littleton import extrapolated, field_response, ionic_crystal
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.host_models import host_model
from solidqmmm.system.potential import Potential

MGO = Potential(**host_model("lewis_catlow_MgO"))


def magnesia(a=LATTICE):
    return Crystal.of(bulk("MgO", "rocksalt", a=a))


OXYGEN = tuple(magnesia().positions[1])


@pytest.fixture(scope="module")
def shell_model():
    """The crystal, and its responses with ions fixed and relaxed."""
    unit = magnesia()
    crystal = ionic_crystal(unit, MGO)
    responses = {ions: host_response(unit, MGO, ions=ions == "relaxed") for ions in ("fixed", "relaxed")}
    return crystal, {ions: (field_response(unit, MGO, found), found) for ions, found in responses.items()}


def two_regions(shell_model, ions: str, inner: float, outer: float, defect=None) -> TwoRegions:
    crystal, responses = shell_model
    return TwoRegions(crystal, responses[ions][0], defect or PointDefect(OXYGEN), inner, outer)


def rigid_crystal(a=4.212) -> IonicCrystal:
    return ionic_crystal(magnesia(a), Potential(**RIGID))


def nothing_moves(crystal: IonicCrystal) -> FieldResponse:
    return FieldResponse(*np.zeros((2, len(crystal), 3, 3)))


# --- the continuum ----------------------------------------------------------------------------------------------------


def test_sums_of_inverse_fourth_powers():
    """Beyond the site itself the known constant of the cubic lattice; beyond R the same sum without what lies inside."""
    crystal = IonicCrystal(2.0 * np.eye(3), np.zeros((1, 3)), (Ion(1.0, 0),))
    whole = inverse_fourth_beyond(crystal, np.zeros(3), 0.1)[0]
    assert whole * 2.0**4 == pytest.approx(16.532315959761669, rel=1e-7)
    places, _ = crystal.sites_within(np.zeros(3), 9.0)
    inside = (np.linalg.norm(places[1:], axis=1) ** -4.0).sum()
    assert inverse_fourth_beyond(crystal, np.zeros(3), 9.0)[0] == pytest.approx(whole - inside, rel=1e-6)
    skewed = IonicCrystal([[2.0, 0, 0], [6.0, 2.0, 0], [0, -4.0, 2.0]], np.zeros((1, 3)), (Ion(1.0, 0),))
    assert inverse_fourth_beyond(skewed, np.zeros(3), 9.0)[0] == pytest.approx(whole - inside, rel=1e-6)


def polarizable_points(a: float, eps: float, shell: float = 20.0) -> tuple[IonicCrystal, FieldResponse, float]:
    """Neutral atoms with shells on a simple cubic lattice, and their polarizability; point dipoles for large charges."""
    alpha = 3 * a**3 / (4 * np.pi) * (eps - 1) / (eps + 2)
    spring = COULOMB * shell**2 / alpha
    crystal = IonicCrystal(a * np.eye(3), np.zeros((1, 3)), (Ion(-shell, 0, shell, 0, spring),))
    moved = (eps - 1) * a**3 / (4 * np.pi * COULOMB * shell) * np.eye(3)
    return crystal, FieldResponse(np.zeros((1, 3, 3)), moved[None]), alpha


def test_a_medium_of_dense_points_is_borns():
    """E_IIb of a lattice that is fine on the scale of R2, and the constants of its response."""
    crystal, response, _ = polarizable_points(1.0, 5.0)
    regions = TwoRegions(crystal, response, PointDefect((0.5, 0.5, 0.5), False, Ion(2.0, 0)), 4.0, 15.0)
    assert regions.dielectric == pytest.approx(5.0, rel=1e-9)
    assert regions.charge == 2.0
    assert regions.continuum_energy == pytest.approx(born_energy(2.0, 5.0, 15.0), rel=5e-3)
    assert born_energy(2.0, 5.0, 15.0) == pytest.approx(-0.5 * COULOMB * 4 / 15 * 0.8)


def test_a_charge_among_point_dipoles_by_three_ways():
    """Two regions; a sphere of induced dipoles with Born's term beyond it; periodic cells of these, extrapolated."""
    a, eps, middle = 3.0, 2.2, np.full(3, 1.5)
    defect, energies = PointDefect(tuple(middle), False, Ion(1.0, 0)), []
    for shell in (20.0, 40.0):
        crystal, response, alpha = polarizable_points(a, eps, shell)
        regions = [TwoRegions(crystal, response, defect, R, R + 8) for R in (6.5, 9.0)]
        small, large = (each.relaxed(hold_ions=True).energy for each in regions)
        assert small == pytest.approx(large, abs=2e-3)
        energies.append(large)
    by_regions = 2 * energies[1] - energies[0]  # a dipole's length falls as 1/charge

    places, _ = crystal.sites_within(middle, 18.0)
    sphere = PolarizableSites(
        np.vstack([np.zeros(3), places]), [1.0] + [0.0] * len(places), [0.0] + [alpha] * len(places), damping=None
    )
    radius = (3 * len(places) * a**3 / (4 * np.pi)) ** (1 / 3)
    by_sphere = InducedDipoles(sphere).solve().energy + born_energy(1.0, eps, radius)
    assert by_regions == pytest.approx(by_sphere, abs=4e-3)

    found = []
    for n in (5, 6):
        mesh = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) * a
        cell = PolarizableSites(
            np.vstack([middle, mesh]), [1.0] + [0.0] * n**3, [0.0] + [alpha] * n**3, n * a * np.eye(3), None
        )
        dipoles = InducedDipoles(cell)
        found.append(dipoles.permanent()[0] + dipoles.solve().energy - leading_coefficient(1.0, eps) / (n * a))
    small, large = found
    assert by_regions == pytest.approx(large - (small - large) / (6**3 / 5**3 - 1), abs=3e-3)


# --- ions that do not move ----------------------------------------------------------------------------------------------


def bare_energy(crystal: IonicCrystal, position, charge: float, kind: int, sign: int) -> float:
    """sign times what an ion has in the undisplaced crystal: its charge in the potential, and its pair terms."""
    potential = ewald_potential([position], crystal.positions, crystal.charges, crystal.cell, derivatives=0)[0][0]
    places, which = crystal.sites_within(position, 9.0)
    r = np.linalg.norm(places, axis=1)
    total = charge * potential
    for distance, site in zip(r[r > 0.1], which[r > 0.1]):
        term = crystal.terms.get(tuple(sorted((kind, crystal.ions[site].kind))))
        total += 0.0 if term is None else float(term.values(np.array([distance]))[0][0])
    return sign * total


def test_rigid_ions_leave_nothing_to_the_radii():
    """A vacancy is minus the ion's own energy, whatever the radii are; an ion that is added has its own."""
    crystal = rigid_crystal()
    still, oxygen, hole = nothing_moves(crystal), crystal.positions[1], np.full(3, 4.212 / 4)
    gone = bare_energy(crystal, oxygen, -2.0, 1, -1)
    for inner, outer in ((3.0, 7.0), (5.0, 9.0), (5.0, 12.0)):
        found = TwoRegions(crystal, still, PointDefect(tuple(oxygen)), inner, outer).relaxed(hold_ions=True)
        assert found.energy == pytest.approx(gone, abs=1e-6)
        assert found.terms["continuum"] == found.terms["outer"] == 0.0
    magnesium = Ion(2.0, 0)
    inside = TwoRegions(crystal, still, PointDefect(tuple(hole), False, magnesium), 4.0, 8.0).relaxed(hold_ions=True)
    assert inside.energy == pytest.approx(bare_energy(crystal, hole, 2.0, 0, 1), abs=1e-6)
    wrong = TwoRegions(crystal, still, PointDefect(tuple(oxygen), True, magnesium), 4.0, 8.0).relaxed(hold_ions=True)
    assert wrong.energy == pytest.approx(gone + bare_energy(crystal, oxygen, 2.0, 0, 1), abs=1e-6)


# --- shells -----------------------------------------------------------------------------------------------------------


def test_displacements_carry_the_models_own_polarization(shell_model):
    crystal, responses = shell_model
    for ions, name in (("fixed", "electronic"), ("relaxed", "static")):
        response, found = responses[ions]
        np.testing.assert_allclose(response.dielectric(crystal), getattr(found, name), atol=1e-4)
    assert not responses["fixed"][0].cores.any()
    cores = responses["relaxed"][0].cores
    assert cores[0, 0, 0] == pytest.approx(-cores[1, 0, 0], rel=1e-4)  # cations along the field, anions against it
    regions = two_regions(shell_model, "relaxed", 5.0, 9.0)
    y = regions.outer_displacements
    r = np.linalg.norm(regions.particles.positions, axis=1)
    assert not y[r < 5.0].any()
    # (1 - 1/eps) q/(4 pi r^2), weighted in a smooth shell
    radial = np.sum(regions.particles.charges[:, None] * y * regions.particles.positions, axis=1) / r.clip(1e-9)
    found = np.sum(radial * np.exp(-(((r - 11.0) / 2.0) ** 2)))
    assert found == pytest.approx((1 - 1 / regions.dielectric) * 2.0 * np.sqrt(np.pi) * 2.0, rel=5e-3)


@pytest.mark.parametrize(
    ("ions", "inner", "expected", "within"), [("fixed", 6.0, 33.7147, 2e-3), ("relaxed", 8.0, 25.2974, 0.02)]
)
def test_the_energy_is_that_of_periodic_cells(shell_model, ions, inner, expected, within):
    """The vacancy of magnesia against cells of up to 999 atoms that are extrapolated (and FNV and eFNV, within 2 meV)."""
    found = two_regions(shell_model, ions, inner, inner + 7).relaxed(hold_ions=ions == "fixed")
    assert found.energy == pytest.approx(expected, abs=within)
    assert found.max_force < 1e-3


def test_the_inner_radius_converges_from_above(shell_model):
    """The displacements of region II are a trial: with fewer of them prescribed the energy falls, to the periodic limit."""
    radii = (4.5, 6.0, 8.0)
    energies = [two_regions(shell_model, "relaxed", R, R + 5).relaxed().energy for R in radii]
    assert energies[0] > energies[1] > energies[2] > 25.297 - 5e-3
    assert extrapolated(radii, energies) == pytest.approx(25.2974, abs=0.04)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "lattice", "element", "inner", "expected", "within"),
    [
        ("lewis_catlow_MgO", 4.198347, "O", 12.0, 25.2974, 4e-3),  # four cells and eFNV
        ("gulp_MgO", 4.173663, "Mg", 10.0, 24.145, 5e-3),  # FNV and eFNV of 511 atoms; three cells 24.151
        ("catlow_CaF2", 5.442626, "F", 12.0, 4.848, 0.02),  # between three cells (4.832) and eFNV of 767 atoms (4.856)
    ],
)
def test_relaxed_vacancies_of_three_crystals(name, lattice, element, inner, expected, within):
    potential = Potential(**host_model(name))
    kind = ("MgO", "rocksalt") if "MgO" in name else ("CaF2", "fluorite")
    unit = Crystal.of(bulk(*kind, a=lattice))
    response = field_response(unit, potential, host_response(unit, potential))
    defect = PointDefect(tuple(unit.positions[unit.symbols.index(element)]))
    regions = TwoRegions(ionic_crystal(unit, potential), response, defect, inner, inner + 8)
    assert regions.relaxed().energy == pytest.approx(expected, abs=within)


def test_the_outer_radius_cancels(shell_model):
    """What IIb loses to IIa is found there again."""
    found = [two_regions(shell_model, "relaxed", 5.0, R).relaxed() for R in (10.0, 13.0, 16.0)]
    energies, continua = [f.energy for f in found], [f.terms["continuum"] for f in found]
    assert np.ptp(energies) < 2e-3
    assert np.ptp(continua) > 0.8


def test_forces_of_region_I_are_the_gradient(shell_model):
    defect = PointDefect(tuple(np.full(3, LATTICE / 4)), False, Ion(-2 + 2.848, 1, -2.848, 2, 74.92, 300.0))
    for cluster in (
        two_regions(shell_model, "relaxed", 4.0, 12.0).cluster(),
        two_regions(shell_model, "relaxed", 3.0, 7.0, defect).cluster(),
    ):
        rng = np.random.default_rng(3)
        u = 0.05 * rng.normal(size=(len(cluster), 3))
        _, gradient = cluster.energy(u)
        for direction in rng.normal(size=(3, len(cluster), 3)):
            E = [cluster.energy(u + h * direction)[0] for h in (1e-4, -1e-4)]
            assert np.sum(gradient * direction) == pytest.approx((E[0] - E[1]) / 2e-4, rel=1e-6, abs=1e-5)


def test_the_perfect_crystal_is_at_rest(shell_model):
    """Without the defect region I has no forces: the far field, the near ions and region I are one crystal."""
    crystal, responses = shell_model
    still = FieldResponse(*np.zeros((2, 2, 3, 3)))
    _, gradient = TwoRegions(crystal, still, PointDefect(OXYGEN), 5.0, 10.0).cluster(with_defect=False).energy()
    assert np.abs(gradient).max() < 1e-4
    assert responses["relaxed"][1].max_force < 1e-3


# --- pair terms ---------------------------------------------------------------------------------------------------------


def test_pair_terms_are_those_of_lammps():
    terms = pair_terms(MGO)
    assert set(terms) == {(0, 2), (2, 2)}  # cores of magnesium, shells of oxygen
    r = np.linspace(0.7, 8.0, 777)
    V, slope, curvature = terms[0, 2].values(r, 2)
    exact = 1428.5 * np.exp(-r / 0.2945)
    np.testing.assert_allclose(V, exact, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(slope, -exact / 0.2945, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(curvature, exact / 0.2945**2, rtol=1e-3, atol=1e-6)
    assert terms[2, 2].cutoff == pytest.approx(12.0, abs=1e-9)
    assert terms[2, 2].values(np.array([12.01]))[0][0] == 0.0
    shorter = pair_terms(Potential(**RIGID | {"pair_coeff": ["* * 0 1 0", "1 2 821.6 0.3242 0.0 5.0123"]}))
    assert shorter[0, 1].cutoff == pytest.approx(5.0123, abs=1e-6)


def test_terms_that_are_no_pairs():
    style = {
        "pair_style": "hybrid/overlay coul/long 8.0 sw", "pair_coeff": ["* * coul/long", "* * sw Si.sw Si"],
        "species": ["Si"], "charges": {"Si": 0}, "commands": ["kspace_style ewald 1e-5"],
    }  # fmt: skip
    with pytest.raises(EngineError, match="cannot be had one by one"):
        pair_terms(Potential(**style))
    with pytest.raises(ValueError, match="must ascend"):
        PairTerm([1.0, 0.5], [0.0, 0.0], [0.0, 0.0])
    with pytest.raises(ValueError, match="as many as distances"):
        PairTerm([1.0, 2.0], [0.0], [0.0, 0.0])
    with pytest.raises(SolidQMMMError, match="two ions came as near"):
        PairTerm([1.0, 2.0], [1.0, 0.0], [0.0, 0.0]).values(np.array([0.3]))


# --- what is refused ------------------------------------------------------------------------------------------------------


def test_regions_that_cannot_be():
    crystal = rigid_crystal()
    still, oxygen = nothing_moves(crystal), PointDefect(tuple(crystal.positions[1]))
    for inner, outer in ((5.0, 5.0), (6.0, 5.0), (0.0, 5.0)):
        with pytest.raises(ValueError, match="0 < `inner_radius` < `outer_radius`"):
            TwoRegions(crystal, still, oxygen, inner, outer)
    with pytest.raises(ValueError, match="neutral"):
        TwoRegions(crystal, still, PointDefect(oxygen.position, True, Ion(-2.0, 1)), 4.0, 8.0)
    with pytest.raises(ValueError, match="where there is none"):
        TwoRegions(crystal, still, PointDefect((1.0, 1.0, 1.0)), 4.0, 8.0)
    with pytest.raises(ValueError, match="upon another one"):
        TwoRegions(crystal, still, PointDefect(oxygen.position, False, Ion(1.0, 1)), 4.0, 8.0)
    along_z = FieldResponse(np.zeros((2, 3, 3)), np.zeros((2, 3, 3)))
    along_z.cores[0, 2, 2] = 0.1
    with pytest.raises(ValueError, match="not isotropic"):
        TwoRegions(crystal, along_z, oxygen, 4.0, 8.0)
    with pytest.raises(ValueError, match="expected 1 or more"):
        isotropic(-3.0 * np.eye(3))
    with pytest.raises(ValueError, match="nothing is there to polarize"):
        IonicCrystal(np.eye(3), np.zeros((1, 3)), (Ion(0.0, 0),))
    with pytest.raises(ValueError, match="positive `spring`"):
        Ion(1.0, 0, -2.0, 1)


def test_a_shell_that_no_spring_holds(shell_model):
    cluster = two_regions(shell_model, "fixed", 4.0, 8.0).cluster()
    pulled = cluster.far.gradients.copy()
    pulled[cluster.springs.shells[0]] += [300.0, 0.0, 0.0]
    far = replace(cluster.far, gradients=pulled)
    free = IonCluster(cluster.particles, cluster.springs, {}, cluster.fixed, far)
    with pytest.raises(PolarizationCatastrophe, match=r"left its core|fell upon each other"):
        relax_cluster(free, hold_ions=True)
