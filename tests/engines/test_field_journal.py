"""A journal of evaluations among external charges: read back whole, and told apart by all that determines them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from ase import Atoms
from field_cases import Dipoles

from solidqmmm.engines.ase import ASEEngine
from solidqmmm.engines.classical_field import ClassicalFieldEngine
from solidqmmm.engines.journal import JournaledEngine, journaled
from solidqmmm.engines.protocols import FieldEngine
from solidqmmm.system.point_charges import PointCharges, RepulsiveCores

ATOMS = Atoms("MgO", positions=[[0, 0, 0], [0, 0.3, 2.1]])
CHARGES = PointCharges([[4.0, 3.0, 0.2], [-3.5, 1.0, 1.0]], [2.0, -2.0], [0.0, 0.5])


def engine():
    return ClassicalFieldEngine(charges={"Mg": 1.4, "O": -1.1}, polarizabilities={"O": 1.65})


class Described(Dipoles):
    def __init__(self, charges):
        super().__init__(charges)
        self.sites = charges.positions.tolist()

    def describe(self):
        return {"sites": self.sites}


class Asked(Described):
    """A response that must not be asked."""

    def respond(self, potentials, fields):
        raise AssertionError("asked again")


@pytest.mark.parametrize("answers", [False, True])
def test_everything_comes_back(tmp_path, answers):
    given = {"response": Described(CHARGES)} if answers else {}
    written = journaled(engine(), tmp_path).evaluate_in_field(ATOMS, CHARGES, **given)
    again = journaled(engine(), tmp_path)
    read = again.evaluate_in_field(ATOMS, CHARGES, **({"response": Asked(CHARGES)} if answers else {}))
    assert (again.hits, again.evaluations) == (1, 0)
    for field in dataclasses.fields(written):
        a, b = getattr(written, field.name), getattr(read, field.name)
        if field.name == "info":
            assert (a.pop("journal"), b.pop("journal")) == ("written", "read")
            assert a == b
        elif field.name == "induced" and answers:
            assert (a.energy, a.dipoles.tolist(), a.charges.tolist()) == (b.energy, b.dipoles.tolist(), b.charges.tolist())
        else:
            np.testing.assert_array_equal(a, b)


def test_arrangements_are_told_apart(tmp_path):
    there = journaled(engine(), tmp_path)
    moved = CHARGES.with_positions(CHARGES.positions + 1e-8)
    wider = PointCharges(CHARGES.positions, CHARGES.charges, [0.1, 0.5])
    stronger = PointCharges(CHARGES.positions, [2.0, -1.9], CHARGES.widths)
    core = RepulsiveCores(CHARGES.positions[:1], 30.0, 0.5)
    keys = {
        there.key(ATOMS),
        *(there.field_key(ATOMS, charges) for charges in (PointCharges.none(), CHARGES, moved, wider, stronger)),
        there.field_key(ATOMS, CHARGES, cores=core),
        there.field_key(ATOMS, CHARGES, cores=dataclasses.replace(core, heights=20.0)),
        there.field_key(ATOMS, CHARGES, response=Described(CHARGES)),
        there.field_key(ATOMS, CHARGES, response=Described(moved)),
    }
    assert len(keys) == 10
    noise = CHARGES.with_positions(CHARGES.positions + 1e-13)
    noisy = there.field_key(ATOMS, noise, response=Described(noise))
    assert noisy == there.field_key(ATOMS, CHARGES, response=Described(CHARGES))


def test_damaged_records_are_computed_again(tmp_path):
    there = journaled(engine(), tmp_path)
    energy = there.evaluate_in_field(ATOMS, CHARGES).energy
    (record,) = tmp_path.glob("*.npz")
    record.write_bytes(record.read_bytes()[:200])
    assert there.evaluate_in_field(ATOMS, CHARGES).energy == energy
    assert there.evaluations == 2


def test_who_feels_no_charges_has_no_such_journal(tmp_path):
    from ase.calculators.emt import EMT

    assert isinstance(journaled(engine(), tmp_path), FieldEngine)
    plain = journaled(ASEEngine(EMT()), tmp_path)
    assert type(plain) is JournaledEngine
    assert not isinstance(plain, FieldEngine)
