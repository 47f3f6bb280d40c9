"""GPAW's electrostatic potential: its sign against a point charge, its zero against levels, its planes, its journal."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

pytest.importorskip("gpaw")

from solidqmmm.engines.gpaw import GPAWEngine
from solidqmmm.engines.journal import journaled
from solidqmmm.engines.protocols import SitePotentialEngine
from solidqmmm.physics.electrostatics.ewald import ewald_potential

WAVES = {"mode": "pw", "ecut": 300, "kpts": (1, 1, 1)}
GRID = {"mode": "lcao", "basis": "sz(dzp)", "h": 0.25, "kpts": (1, 1, 1), "fft_potential": True}


def helium(L: float, **keywords):
    with GPAWEngine(**WAVES, **keywords) as engine:
        return engine.evaluate_with_potentials(Atoms("He", cell=[L] * 3, pbc=True))


@pytest.mark.parametrize("settings", [WAVES, GRID], ids=["pw", "lcao"])
def test_a_positive_charge_raises_the_potential_around_it(settings):
    """Two helium atoms with and without Li+: the difference is the potential of a point charge and its images.

    But for a constant, which is what the charge is no point for, and the same for both (to the grid's ripple).
    """
    L = 7.0
    atoms = Atoms("He2Li", positions=[[0, 0, 0], [L / 2, 0, 0], [L / 2, L / 2, L / 2]], cell=[L] * 3, pbc=True)
    V = []
    for part, charge in ((atoms[:2], 0), (atoms, 1)):
        with GPAWEngine(**settings, charge=charge) as engine:
            assert isinstance(engine, SitePotentialEngine)
            found = engine.evaluate_with_potentials(part)
        V.append(found.site_potentials[:2])
        for plane in found.planar_potentials:
            assert plane.mean() == pytest.approx(0, abs=1e-9)
    point = ewald_potential(
        atoms.positions[:2], atoms.positions[2:], [1.0], atoms.cell.array, derivatives=0, background=True
    )[0]
    left = V[1] - V[0] - point
    tolerance = 2e-3 if settings is WAVES else 0.1
    assert left[0] == pytest.approx(left[1], abs=tolerance)
    assert abs(left).max() < 0.15
    assert point[1] - point[0] > 0.4  # the nearer one
    assert V[1][1] - V[0][1] > V[1][0] - V[0][0] + 0.4


def test_levels_and_potentials_have_one_zero():
    """An electron's level falls as the potential rises; larger boxes around a neutral atom change nothing else."""
    small, large = helium(6.0, nbands=4), helium(9.0, nbands=4)
    rise = large.site_potentials[0] - small.site_potentials[0]
    assert rise > 0.04  # the zero is the average of the cell, and that of an atom is positive
    assert large.band_edges[0] - small.band_edges[0] == pytest.approx(-rise, abs=2e-3)
    assert helium(5.0).band_edges is None  # no empty level was computed


def test_metals_have_no_band_edges():
    with GPAWEngine(mode="pw", ecut=250, kpts=(2, 2, 2), nbands=6) as engine:
        assert engine.evaluate_with_potentials(bulk("Al", "fcc", a=4.05)).band_edges is None


def test_planes_follow_the_axes():
    """Along the axis of a He dimer the planes differ; along the others it is one peak, at the origin."""
    atoms = Atoms("He2", positions=[[0, 0, 0], [0, 0, 3.0]], cell=[4, 5, 6], pbc=True)
    with GPAWEngine(**WAVES) as engine:
        planes = engine.evaluate_with_potentials(atoms).planar_potentials
    assert [int(p.argmax()) for p in planes[:2]] == [0, 0]
    m = len(planes[2])
    np.testing.assert_allclose(planes[2], np.roll(planes[2], m // 2), atol=1e-3)
    assert planes[2][0] > planes[2][m // 4] + 1


def test_the_journal_keeps_potentials(tmp_path):
    atoms = Atoms("He", cell=[5.0] * 3, pbc=True)
    with journaled(GPAWEngine(**WAVES, nbands=4), tmp_path) as engine:
        written = engine.evaluate_with_potentials(atoms)
        engine.evaluate(atoms)
        assert engine.evaluations == 2
    with journaled(GPAWEngine(**WAVES, nbands=4), tmp_path) as engine:
        read = engine.evaluate_with_potentials(atoms)
        assert (engine.hits, engine.evaluations) == (1, 0)
    for field in dataclasses.fields(written):
        if field.name != "info":
            for a, b in zip(np.atleast_1d(getattr(written, field.name)), np.atleast_1d(getattr(read, field.name))):
                np.testing.assert_array_equal(a, b)
    assert read.info["journal"] == "read"


def test_clusters_have_no_cells_to_compare():
    with GPAWEngine(**WAVES) as engine, pytest.raises(ValueError, match="periodic in all directions"):
        engine.evaluate_with_potentials(Atoms("He", cell=[5.0] * 3, pbc=[True, True, False]))
