"""Every additive coupling: forces are gradients, frames and orders do not matter, and each pair is counted once."""

from __future__ import annotations

import numpy as np
import pytest
from ionic_hybrids import (
    FAMILY,
    ISOLATED,
    PERIODIC,
    IonicHybrid,
    oxide,
    oxide_cluster,
    rattled,
    skewed_oxide,
    slope_and_work,
)

from solidqmmm.coupling.qmmm import QMMM
from solidqmmm.physics.electrostatics.ewald import COULOMB
from solidqmmm.physics.polarization.induced_dipoles import InducedDipoles, PolarizableSites

rng = np.random.default_rng(17)
@pytest.fixture(scope="module", params=FAMILY.values(), ids=FAMILY)
def member(request):
    """A member of the family and its live crystal, for one test after the other."""
    with request.param.open() as qmmm:
        yield request.param, qmmm


def test_forces_are_the_gradient_of_the_energy(member):
    slope, work, size = slope_and_work(member[1], seed=17)
    assert slope == pytest.approx(work, abs=1e-5 * size)


def test_no_net_force_and_no_change_under_translation(member):
    qmmm = member[1]
    positions, energy, forces = qmmm.host.positions(), qmmm.energy(), qmmm.forces()
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=2e-6)
    qmmm.host.set_positions(positions + np.array([0.31, -0.22, 0.13]))
    assert qmmm.energy() == pytest.approx(energy, abs=2e-5)
    qmmm.host.set_positions(positions)


def test_terms_add_up(member):
    hybrid, qmmm = member
    terms = qmmm.energy_terms()
    assert sum(terms.values()) == pytest.approx(qmmm.energy(), abs=1e-8)
    expected = {"mm", "qm", "qm_mm_electrostatic", "qm_mm_short_range", "images"}
    assert set(terms) == expected | ({"polarization"} if hybrid.embedding == "polarizable" else set())
    report = qmmm.embedding()
    assert report["region_potential_rms_error_eV"] < 1e-3
    assert qmmm.stress() is None
    assert "no virial" in qmmm.stress_missing_reason


@pytest.mark.parametrize("name", ["mechanical", "electrostatic, charged vacancy"])
def test_order_of_atoms_does_not_matter(name):
    hybrid = FAMILY[name]
    with hybrid.open() as qmmm:
        energy, forces = qmmm.energy(), qmmm.forces()
    order = rng.permutation(len(forces))
    with hybrid.open(order=order) as qmmm:
        assert qmmm.energy() == pytest.approx(energy, abs=1e-6)
        np.testing.assert_allclose(qmmm.forces(), forces[order], atol=1e-6)


@pytest.mark.parametrize("embedding", ["mechanical", "electrostatic"])
@pytest.mark.parametrize("make", [oxide, skewed_oxide, oxide_cluster])
def test_the_same_ions_on_both_sides_are_the_plain_crystal(make, embedding):
    """Every pair once, every lattice sum once: LAMMPS alone is the second way.

    LAMMPS's polynomial for erfc is good to 1e-7, of a lattice energy of 5000 eV.
    """
    hybrid = IonicHybrid(make, embedding)
    perfect = hybrid.crystal()[0]
    with QMMM(rattled(perfect), PERIODIC if perfect.pbc.any() else ISOLATED) as plain:
        energy, forces = plain.energy(), plain.forces()
    with hybrid.open() as qmmm:
        assert qmmm.energy() == pytest.approx(energy, abs=5e-4)
        np.testing.assert_allclose(qmmm.forces(), forces, atol=1e-5)


def test_polarizable_without_polarizabilities_is_electrostatic():
    a, b = FAMILY["electrostatic"], FAMILY["polarizable"]
    with a.open() as fixed, b.open() as soft:
        response = soft.coupling.environment
        object.__setattr__(response, "polarizabilities", np.zeros_like(response.polarizabilities))
        soft.host.forget()
        soft.coupling.quantum._seen = None
        assert soft.energy() == pytest.approx(fixed.energy(), abs=1e-7)
        np.testing.assert_allclose(soft.forces(), fixed.forces(), atol=1e-6)


@pytest.mark.parametrize("make", [oxide, skewed_oxide, oxide_cluster])
def test_the_same_ions_on_both_sides_are_the_plain_polarizable_crystal(make):
    """Dipoles answer a quantum cluster of point ions as they answer these ions, lattice sums and all."""
    fixed, soft = IonicHybrid(make, "electrostatic"), IonicHybrid(make, "polarizable")
    with fixed.open() as crystal:
        energy, forces = crystal.energy(), crystal.forces()
    with soft.open() as crystal:
        terms, given = crystal.energy_terms(), crystal.forces() - forces
        polarized, positions = crystal.energy() - energy, crystal.host.positions()
        around = crystal.coupling.environment
    perfect = soft.crystal()[0]
    ions = PolarizableSites(
        positions,
        np.where(perfect.numbers == 12, 2.0, -2.0),
        around.polarizabilities,
        cell=perfect.cell if perfect.pbc.all() else None,
    )
    plain = InducedDipoles(ions)
    expected = plain.solve()
    assert expected.energy < -1.0
    assert polarized == pytest.approx(expected.energy, abs=1e-5)
    assert terms["polarization"] == pytest.approx(expected.energy, abs=1e-5)
    np.testing.assert_allclose(given, plain.forces(expected.dipoles)[0], atol=1e-5)


def test_a_vacancy_far_from_its_images():
    """Neutral and charged vacancies in two cells: what is left of the size is the interaction of a charge with its images.

    Nothing moves and nothing is polarized, so that E(L) - E_perfect(L) depends on L by -alpha_M q^2 k/(2 L) alone.
    """
    found = {}
    for repeats in (2, 3):

        def cell(n=repeats):
            from ase.build import bulk

            from solidqmmm.system.crystal import Crystal

            return Crystal.of(bulk("MgO", "rocksalt", a=4.2112, cubic=True) * (n, n, n))

        for charge in (0.0, 2.0):
            ideal, energies = cell().positions, []
            for vacancy in (False, True):
                hybrid = IonicHybrid(cell, "electrostatic", vacancy=vacancy, charge=charge * vacancy)
                perfect = hybrid.crystal()[0]
                with hybrid.open(moved=perfect.positions) as qmmm:
                    energies.append(qmmm.energy())
            assert len(ideal) == 8 * repeats**3
            found[charge, repeats] = energies[1] - energies[0]
    madelung = -2.837297479 * COULOMB * 4 / 2 * (1 / 12.6336 - 1 / 8.4224)
    assert found[2.0, 3] - found[2.0, 2] == pytest.approx(madelung, abs=2e-3)
    # The classical ions are those of a charged vacancy; the images of a neutral one are neutral.
    assert found[0.0, 3] - found[0.0, 2] == pytest.approx(0.0, abs=2e-3)
