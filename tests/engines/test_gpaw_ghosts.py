"""Basis functions on vacant sites: nothing but a larger basis."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from solidqmmm.engines.journal import journaled
from solidqmmm.system.point_charges import PointCharges
from solidqmmm.system.vacant_sites import VacantSites

pytest.importorskip("gpaw")

from solidqmmm.engines.gpaw import GPAWEngine

SETTINGS = {
    "mode": "lcao", "basis": "dzp", "h": 0.22, "fft_potential": True, "convergence": {"density": 1e-6, "energy": 1e-6},
}  # fmt: skip
HOLE = [2.2, 2.2, 1.3]


def hydrogen(*sites, box=(4.4, 4.4, 5.5)) -> Atoms:
    """A molecule, and oxygen that has left."""
    atoms = Atoms("H2", [[2.2, 2.2, 2.6], [2.3, 2.35, 3.3]], cell=box)
    return VacantSites([8] * len(sites), sites).written_to(atoms)


@pytest.fixture(scope="module")
def engine():
    with GPAWEngine(**SETTINGS, ghost_basis=True) as engine:
        yield engine


@pytest.fixture(scope="module")
def plain():
    with GPAWEngine(**SETTINGS) as engine:
        yield engine


def test_functions_out_of_reach_change_nothing(engine, plain):
    """Functions of oxygen end at 2.9 angstrom, those of hydrogen at 3.4."""
    box = (4.4, 4.4, 12.1)
    far, alone = engine.evaluate(hydrogen([2.2, 2.2, 9.0], box=box)), plain.evaluate(hydrogen(box=box))
    assert far.energy == pytest.approx(alone.energy, abs=1e-8)
    np.testing.assert_allclose(far.forces, alone.forces, atol=1e-7)
    assert far.info["ghosts"] == 1
    assert "ghosts" not in alone.info


def test_more_functions_lower_the_energy(engine, plain):
    without = plain.evaluate(hydrogen(HOLE)).energy
    assert without == plain.evaluate(hydrogen()).energy  # an engine that was not asked to does nothing about the site
    one = engine.evaluate(hydrogen(HOLE)).energy
    two = engine.evaluate(hydrogen(HOLE, [2.2, 3.5, 2.9])).energy
    assert two < one - 1e-3 < without - 2e-3
    assert engine.n_basis_functions(hydrogen(HOLE)) == plain.n_basis_functions(hydrogen()) + 13  # those of oxygen
    assert engine.n_electrons(hydrogen(HOLE)) == plain.n_electrons(hydrogen())


def test_forces_are_derivatives_at_a_fixed_site(engine):
    way, step = np.array([[0.3, 0.5, -0.4], [-0.2, 0.4, 0.3]]), 0.01
    charges = PointCharges([[2.2, 2.2, -1.0], [2.2, 4.6, 3.0]], [0.5, -0.5], 0.5)

    def at(s):
        atoms = hydrogen(HOLE)
        atoms.positions += s * way
        return engine.evaluate_in_field(atoms, charges)

    here, right, left = at(0.0), at(step), at(-step)
    assert here.forces.shape == (2, 3)
    assert np.abs(here.forces.sum(axis=0)).max() > 0.01  # what is missing acts on the site
    assert -(here.forces * way).sum() == pytest.approx((right.energy - left.energy) / (2 * step), abs=2e-3)


def test_a_ghost_has_no_moment_and_no_electrons():
    settings = SETTINGS | {"spinpol": True, "magmoms": {"O": 2.0, "H": 0.5}, "charge": 1.0}
    with GPAWEngine(**settings, ghost_basis=True) as engine:
        found = engine.evaluate(hydrogen(HOLE))
        assert engine.gpaw_keywords(engine._bare(hydrogen(HOLE)))["magmoms"].tolist() == [0.5, 0.5, 0.0]
    assert found.info["n_electrons"] == 1
    assert found.info["magnetic_moment"] == pytest.approx(1.0, abs=0.02)


def test_a_charge_may_sit_near_a_vacant_site(engine):
    engine.evaluate_in_field(hydrogen(HOLE), PointCharges([np.add(HOLE, [0.3, 0, 0])], [0.1], 0.5))
    with pytest.raises(ValueError, match="from the nucleus of atom 0"):
        engine.evaluate_in_field(hydrogen(HOLE), PointCharges([[2.4, 2.2, 2.6]], [0.1], 0.5))


def test_a_journal_tells_sites_apart(engine, tmp_path):
    kept = journaled(engine, tmp_path)
    keys = {kept.key(hydrogen(*sites)) for sites in ((), (HOLE,), ([2.2, 2.2, 1.4],))}
    assert len(keys) == 3


def test_refusals(engine):
    for mode in ({"mode": "pw"}, {"mode": "fd", "h": 0.2}):
        with pytest.raises(ValueError, match=r"ghost_basis.*belongs to mode 'lcao'"):
            GPAWEngine(**mode, ghost_basis=True)
    with pytest.raises(ValueError, match=r"0\.300 A from a vacant site"):
        engine.evaluate(hydrogen([2.2, 2.2, 2.3]))
    with pytest.raises(ValueError, match="vacant sites are 1, but their `positions` are 2"):
        VacantSites([8], [[0, 0, 0], [1, 1, 1]])
