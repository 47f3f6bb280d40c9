"""The outer loop against the response inside the engine's own cycle, closed formulas and derivatives."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase import Atoms
from field_cases import Dipoles

from solidqmmm.engines.ase import ASEEngine
from solidqmmm.engines.classical_field import ClassicalFieldEngine
from solidqmmm.engines.outer_loop import OuterLoop, with_induced
from solidqmmm.engines.protocols import FieldEngine, Induced
from solidqmmm.errors import ConvergenceError
from solidqmmm.physics.electrostatics.coulomb import coulomb_potential
from solidqmmm.physics.electrostatics.ewald import COULOMB
from solidqmmm.system.point_charges import PointCharges

ATOMS = Atoms("MgOMg", positions=[[0, 0, 0], [0, 0.3, 2.1], [2.0, 0.1, -0.2]])
SITES = np.array([[4.0, 3.0, 0.2], [-3.0, 1.0, 1.0], [0.5, -2.6, 1.5], [3.0, 2.0, 4.0]])
CHARGES = PointCharges(SITES, [2.0, -2.0, 1.0, -0.5], [0.0, 0.5, 0.8, 0.3])
POLARIZABLE = {"charges": {"Mg": 1.4, "O": -1.1}, "polarizabilities": {"O": 1.65, "Mg": 0.3}}


class Deaf(ClassicalFieldEngine):
    """The classical stand-in without its own answer to a response."""

    field_capabilities = frozenset()

    def evaluate_in_field(self, atoms, charges, *, response=None, cores=None):
        assert response is None
        return super().evaluate_in_field(atoms, charges, cores=cores)


@pytest.mark.parametrize("mixing", [1.0, 0.6])
def test_same_numbers_as_a_response_inside(mixing):
    inside = ClassicalFieldEngine(**POLARIZABLE).evaluate_in_field(ATOMS, CHARGES, response=Dipoles(CHARGES))
    loop = OuterLoop(Deaf(**POLARIZABLE), mixing=mixing, dipole_tolerance=1e-8, energy_tolerance=1e-9)
    outside = loop.evaluate_in_field(ATOMS, CHARGES, response=Dipoles(CHARGES))
    assert outside.energy == pytest.approx(inside.energy, abs=1e-6)
    # The answers matter here: without them the energy is another one.
    assert abs(Deaf(**POLARIZABLE).evaluate_in_field(ATOMS, CHARGES).energy - inside.energy) > 0.1
    for name in ("forces", "charge_forces", "potentials", "fields", "field_gradients"):
        np.testing.assert_allclose(getattr(outside, name), getattr(inside, name), atol=2e-6, err_msg=name)
    np.testing.assert_allclose(outside.induced.dipoles, inside.induced.dipoles, atol=1e-7)
    np.testing.assert_allclose(outside.induced.charges, inside.induced.charges, atol=1e-7)
    again = loop.evaluate_in_field(ATOMS, CHARGES, response=Dipoles(CHARGES))
    assert again.info["outer_iterations"] < outside.info["outer_iterations"]
    assert again.energy == pytest.approx(outside.energy, abs=1e-8)


def test_same_numbers_as_inside_the_cycle_of_gpaw():
    pytest.importorskip("gpaw")
    from ase.build import molecule

    from solidqmmm.engines.gpaw import GPAWEngine

    class DeafGPAW(GPAWEngine):
        field_capabilities = frozenset()

    settings = {"basis": "sz(dzp)", "h": 0.25, "convergence": {"density": 1e-7}}
    water = molecule("H2O")
    water.set_cell([7.0] * 3)
    water.center()
    sites = water.positions.mean(axis=0) + np.array([[2.8, 0.0, 0.3], [0.0, 2.6, 1.0], [0.0, 0.4, -2.8]])
    charges = PointCharges(sites, [0.8, -0.6, 0.3], [0.4, 0.5, 0.6])
    with GPAWEngine(**settings) as asking, DeafGPAW(**settings) as deaf:
        inside = asking.evaluate_in_field(water, charges, response=Dipoles(charges))
        outside = OuterLoop(deaf).evaluate_in_field(water, charges, response=Dipoles(charges))
    assert outside.energy == pytest.approx(inside.energy, abs=1e-6)
    np.testing.assert_allclose(outside.forces, inside.forces, atol=1e-4)
    np.testing.assert_allclose(outside.charge_forces, inside.charge_forces, atol=1e-5)
    np.testing.assert_allclose(outside.induced.dipoles, inside.induced.dipoles, atol=1e-6)


def test_energy_is_wrong_in_second_order_of_the_dipoles_only():
    class Remembering(Deaf):
        def evaluate_in_field(self, atoms, charges, *, response=None, cores=None):
            self.dipole = charges.charges[4:] @ charges.positions[4:]
            return super().evaluate_in_field(atoms, charges)

    exact = ClassicalFieldEngine(**POLARIZABLE).evaluate_in_field(ATOMS, CHARGES, response=Dipoles(CHARGES))
    engine = Remembering(**POLARIZABLE)
    loose = OuterLoop(engine, dipole_tolerance=0.02, energy_tolerance=1.0, force_tolerance=10.0)
    found = loose.evaluate_in_field(ATOMS, CHARGES, response=Dipoles(CHARGES))
    given = np.linalg.norm(engine.dipole - exact.induced.dipoles.sum(axis=0))
    assert given > 1e-3
    assert abs(found.energy - exact.energy) < COULOMB * given**2


def test_an_ion_and_one_polarizable_point():
    """-k alpha q^2/2 r^4, and the field of the dipole back at the ion."""
    site = PointCharges([[0, 0, 2.5]], [0.0])
    found = OuterLoop(Deaf(charges={"Mg": 2.0})).evaluate_in_field(Atoms("Mg"), site, response=Dipoles(site))
    alpha = Dipoles.alpha
    softness = Dipoles.softness * (COULOMB * 2 / 2.5) ** 2 / 2
    assert found.energy == pytest.approx(-0.5 * COULOMB * alpha * 4 / 2.5**4 - softness, rel=1e-7)
    np.testing.assert_allclose(found.induced.dipoles, [[0, 0, alpha * 2 / 2.5**2]], rtol=1e-9)


def test_pairs_are_dipoles():
    charges = PointCharges(SITES, np.zeros(4), CHARGES.widths)
    dipoles = np.array([[0.3, 0.1, -0.2], [0, 0, 0], [0.0, 0.5, 0.0], [-0.4, 0.1, 0.1]])
    given, sites = with_induced(charges, Induced(np.zeros(4), dipoles, 0.0))
    assert given.total == pytest.approx(0.0, abs=1e-9)
    assert sites.tolist() == [0, 1, 2, 3, 0, 2, 3, 0, 2, 3]
    points = SITES[[0, 2]] + [[0.3, -0.4, 0.0], [0.0, 0.0, 0.5]]
    exact = coulomb_potential(points, SITES, np.zeros(4), dipoles=dipoles, sigma=CHARGES.widths)
    pairs = coulomb_potential(points, given.positions, given.charges, sigma=given.widths)
    for a, b in zip(pairs, exact, strict=True):
        assert np.abs(a - b).max() < 4e-6 * np.abs(b).max()


def test_runaways_and_wrong_arguments():
    class Runaway(Dipoles):
        alpha = 300.0

    with pytest.raises(ConvergenceError, match="without end") as caught:
        OuterLoop(Deaf(**POLARIZABLE)).evaluate_in_field(ATOMS, CHARGES, response=Runaway(CHARGES))
    assert "e angstrom" in caught.value.attempts[-1]
    with pytest.raises(ConvergenceError, match="no end after 3 iterations"):
        OuterLoop(Deaf(**POLARIZABLE), max_iterations=3).evaluate_in_field(ATOMS, CHARGES, response=Dipoles(CHARGES))
    with pytest.raises(ValueError, match="`mixing`"):
        OuterLoop(Deaf(), mixing=0.0)
    with pytest.raises(ValueError, match="tolerances"):
        OuterLoop(Deaf(), energy_tolerance=0.0)
    from ase.calculators.emt import EMT

    with pytest.raises(TypeError, match="cannot feel"):
        OuterLoop(ASEEngine(EMT()))


def test_contract():
    with OuterLoop(Deaf(**POLARIZABLE)) as loop:
        assert isinstance(loop, FieldEngine)
        assert loop.field_capabilities == {"dipoles"}
        assert loop.describe() == json.loads(json.dumps(loop.describe()))
        assert loop.evaluate(ATOMS).energy == Deaf(**POLARIZABLE).evaluate(ATOMS).energy
        fixed = loop.evaluate_in_field(ATOMS, CHARGES)
        assert fixed.induced is None
