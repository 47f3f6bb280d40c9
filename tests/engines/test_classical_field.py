"""The classical stand-in for an engine in a field: derivatives of its energy, with and without an answering environment."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from field_cases import Dipoles

from solidqmmm.engines.classical_field import ClassicalFieldEngine
from solidqmmm.engines.protocols import Engine, FieldEngine
from solidqmmm.errors import ConvergenceError
from solidqmmm.physics.electrostatics.ewald import COULOMB
from solidqmmm.system.point_charges import PointCharges, RepulsiveCores

rng = np.random.default_rng(11)
ATOMS = Atoms("MgOMg", positions=[[0, 0, 0], [0, 0.3, 2.1], [2.0, 0.1, -0.2]])
SITES = np.array([[4.0, 3.0, 0.2], [-3.5, 1.0, 1.0], [0.5, -4.0, 2.0], [5.0, 5.0, 5.0]])
CHARGES = PointCharges(SITES, [2.0, -2.0, 1.0, -0.5], [0.0, 0.5, 0.8, 0.3])


@pytest.mark.parametrize("response", [None, Dipoles], ids=["fixed", "answering"])
@pytest.mark.parametrize("interacting", [True, False])
def test_forces_are_derivatives(response, interacting):
    engine = ClassicalFieldEngine(
        charges={"Mg": 1.4, "O": -1.1}, polarizabilities={"O": 1.65, "Mg": 0.3}, interacting=interacting
    )

    def at(x, sites):
        charges = CHARGES.with_positions(sites)
        # The answer's own permanent field is held: its derivative belongs to the environment.
        answer = None if response is None else response(CHARGES)
        atoms = ATOMS.copy()
        atoms.positions = x
        return engine.evaluate_in_field(atoms, charges, response=answer)

    found, h = at(ATOMS.positions, SITES), 1e-4
    for which, forces in ((0, found.forces), (1, found.charge_forces)):
        for _ in range(4):
            start = [ATOMS.positions.copy(), SITES.copy()]
            step = h * rng.normal(size=start[which].shape)
            ends = []
            for sign in (1, -1):
                moved = [x.copy() for x in start]
                moved[which] += sign * step
                ends.append(at(*moved).energy)
            assert (ends[1] - ends[0]) / 2 == pytest.approx(float((forces * step).sum()), rel=1e-6, abs=1e-9)
    total = found.forces.sum(axis=0) + found.charge_forces.sum(axis=0)
    np.testing.assert_allclose(total, 0, atol=1e-9)


def test_two_polarizable_atoms_share_an_external_field():
    """Axial and transverse polarizability of a pair, alpha = 1, r = 3: 2.16 and 1.92857143 A^3 (closed formula)."""
    engine = ClassicalFieldEngine(polarizabilities={"He": 1.0})
    pair = Atoms("He2", positions=[[0, 0, -1.5], [0, 0, 1.5]])
    for axis, expected in ((2, 2.16), (0, 1.92857143)):
        e = np.eye(3)[axis]
        far = PointCharges([1e5 * e, -1e5 * e], [-1e6, 1e6])
        field = 2 * COULOMB * 1e6 / 1e10
        mu = np.array(engine.evaluate_in_field(pair, far).info["dipoles_e_A"])
        assert COULOMB * mu[:, axis].sum() / field == pytest.approx(expected, rel=1e-6)


def test_one_charge_and_one_polarizable_point():
    found = ClassicalFieldEngine(polarizabilities={"O": 1.65}).evaluate_in_field(
        Atoms("O"), PointCharges([[0, 0, 2.5]], [2.0])
    )
    assert found.energy == pytest.approx(-0.5 * COULOMB * 1.65 * 4 / 2.5**4, rel=1e-12)
    assert found.potentials[0] == pytest.approx(-COULOMB * 1.65 * 2 / 2.5**4, rel=1e-12)


def test_contract_and_refusals():
    engine = ClassicalFieldEngine(charges={"O": -1.0}, polarizabilities={"O": 5.0})
    assert isinstance(engine, Engine)
    assert isinstance(engine, FieldEngine)
    assert engine.describe()["settings"]["charges"] == {"O": -1.0}
    with pytest.raises(ValueError, match="no electrons"):
        engine.evaluate_in_field(Atoms("O"), CHARGES, cores=RepulsiveCores([[0, 0, 3]], 10.0, 0.5))
    with pytest.raises(ValueError, match="must not be negative"):
        ClassicalFieldEngine(polarizabilities={"O": -1.0})

    class Runaway(Dipoles):
        alpha = 5e3

    with pytest.raises(ConvergenceError, match="drive each other"):
        engine.evaluate_in_field(ATOMS, CHARGES, response=Runaway(CHARGES))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (([[0, 0, 0]], [1.0, 2.0]), "as many as"),
        (([[0, 0, np.nan]], [1.0]), "`positions` must be finite"),
        (([[0, 0, 0]], [1.0], [-0.1]), "`widths` must not be negative"),
    ],
)
def test_charges_that_make_no_sense(given, message):
    with pytest.raises(ValueError, match=message):
        PointCharges(*given)


def test_what_atoms_lack_of_the_total_charge_is_at_their_middle():
    """Six ions +2 around two trapped electrons, in the field of one far charge: closed formula, and forces by difference."""
    r = 2.1
    atoms = Atoms("Mg6", positions=r * np.vstack([np.eye(3), -np.eye(3)]))
    engine = ClassicalFieldEngine(charges={"Mg": 2.0}, charge=10.0)
    mutual = 4 * (12 / np.sqrt(2) + 3 / 2) / r - 6 * 4 / r
    assert engine.evaluate(atoms).energy == pytest.approx(COULOMB * mutual, rel=1e-12)
    far = PointCharges([[0, 0, 1e4]], [1.0])
    assert engine.evaluate_in_field(atoms, far).potentials[0] == pytest.approx(COULOMB * 10 / 1e4, rel=1e-6)
    atoms.positions += 0.1 * rng.normal(size=(6, 3))
    step, ends = 1e-4 * rng.normal(size=(6, 3)), []
    forces = engine.evaluate_in_field(atoms, CHARGES).forces
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions += sign * step
        ends.append(engine.evaluate_in_field(moved, CHARGES).energy)
    assert (ends[1] - ends[0]) / 2 == pytest.approx(float((forces * step).sum()), rel=1e-6)
    with pytest.raises(ValueError, match=r"sum to \+10 e, stated \+12 e"):
        ClassicalFieldEngine(charges={"Mg": 2.0, "O": -2.0}, charge=12.0).evaluate(atoms + Atoms("O"))
