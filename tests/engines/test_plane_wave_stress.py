"""GPAW's stress in plane waves: the derivative of the energy, and what the finite basis adds to it."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.units import GPa
from cases import SW

from solidqmmm.engines.journal import JournaledEngine
from solidqmmm.engines.lammps import LammpsEngine

pytest.importorskip("gpaw")

from solidqmmm.engines.gpaw import GPAWEngine
from solidqmmm.procedures.elastic.pulay import pulay_stress

XX = np.diag([1.0, 0.0, 0.0])
YZ = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.5], [0.0, 0.5, 0.0]])


def strained(atoms, strain):
    atoms = atoms.copy()
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return atoms


def derivative_GPa(energy, volume, h=0.012):
    """dE/d(strain) / V of `energy(strain)` by five points, whose error is of the fourth order in h."""
    near, far = ((energy(x) - energy(-x)) / (2 * x) for x in (h, 2 * h))
    return (4 * near - far) / 3 / volume / GPa


@pytest.fixture(scope="module")
def silicon():
    """Without any symmetry: sheared, and the sublattices displaced."""
    atoms = strained(bulk("Si", a=5.475), 0.01 * XX + 0.02 * YZ)
    atoms.positions[1] += [0.02, -0.03, 0.01]
    return atoms


@pytest.fixture(scope="module")
def engine(silicon):
    """With a fixed mesh of k-points, and a real-space grid that no strain changes."""
    settings = {"mode": "pw", "ecut": 250, "kpts": {"size": (2, 2, 2), "gamma": True}, "gpts": (16, 16, 16)}
    with GPAWEngine(**settings, convergence={"density": 1e-6}) as engine:
        yield engine


@pytest.fixture(scope="module")
def stress_GPa(engine, silicon):
    return engine.evaluate(silicon, stress=True).stress / GPa


def test_pressure_is_the_derivative_at_a_fixed_set_of_plane_waves(engine, silicon, stress_GPa):
    """The cutoff goes along with an isotropic strain, so that the same waves stay in the basis."""

    def energy(x):
        mode = {"name": "pw", "ecut": 250 / (1 + x) ** 2}
        return engine.with_settings({"mode": mode}).evaluate(strained(silicon, x * np.eye(3))).energy

    assert np.trace(stress_GPa) == pytest.approx(derivative_GPa(energy, silicon.get_volume()), abs=1e-3)


def test_stress_is_the_strain_derivative_at_a_fixed_cutoff(silicon):
    """A shear keeps no set of plane waves. Tolerance: waves come and go, and the finite basis adds 0.01 GPa to xx."""
    settings = {"mode": "pw", "ecut": 350, "kpts": {"size": (2, 2, 2), "gamma": True}, "gpts": (18, 18, 18)}
    shape = XX + YZ
    with GPAWEngine(**settings) as engine:
        stress = engine.evaluate(silicon, stress=True).stress / GPa
        expected = derivative_GPa(lambda x: engine.evaluate(strained(silicon, x * shape)).energy, silicon.get_volume())
    assert (stress * shape).sum() == pytest.approx(expected, abs=0.03)


def test_tension_of_the_basis_is_kept_in_the_journal(engine, silicon, tmp_path):
    journaled = JournaledEngine(engine, tmp_path)
    tension = pulay_stress(journaled, silicon)
    assert 0.02 < tension / GPa < 0.2
    assert len(list(tmp_path.glob("*.npz"))) == 2
    assert journaled.engine is engine
    assert pulay_stress(JournaledEngine(engine, tmp_path), silicon) == tension


def test_engines_without_plane_waves_have_no_tension_of_the_basis(silicon):
    with LammpsEngine(SW) as classical, GPAWEngine(mode="lcao") as orbitals:
        assert pulay_stress(classical, silicon) is None
        assert pulay_stress(orbitals, silicon) is None


@pytest.mark.slow
def test_tension_of_the_basis_is_what_a_low_cutoff_adds():
    """Rocksalt MgO, whose oxygen is hard: 5 GPa too much at 600 eV, and gone at 900 eV."""
    magnesia = bulk("MgO", "rocksalt", a=4.256)
    found = {}
    for ecut in (600, 700, 900):
        with GPAWEngine(mode="pw", ecut=ecut, kpts={"size": (4, 4, 4), "gamma": True}) as engine:
            stress = engine.evaluate(magnesia, stress=True).stress[0, 0] / GPa
            found[ecut] = stress, pulay_stress(engine, magnesia) / GPa
    assert found[600][1] == pytest.approx(4.9, abs=0.5)
    assert found[900][1] < 0.05
    converged = found[900][0]
    assert abs(converged) < 0.3
    for ecut in (600, 700):
        stress, tension = found[ecut]
        assert stress - converged > 0.9
        assert stress - tension == pytest.approx(converged, abs=0.15 * tension)
