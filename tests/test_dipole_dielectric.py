"""Ions with induced dipoles: Szigeti's relations, the dipole that a field makes when the ions follow it, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from scipy.optimize import brentq

from solidqmmm.engines.lammps_host import LammpsHost
from solidqmmm.errors import SolidQMMMError
from solidqmmm.physics.electrostatics.ewald import COULOMB
from solidqmmm.physics.polarization.dielectric import clausius_mossotti, ionic_part
from solidqmmm.physics.polarization.induced_dipoles import InducedDipoles, PolarizableSites
from solidqmmm.procedures.charged_defects.dipole_dielectric import dipole_dielectric
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.potential import Potential

A, RHO, CUTOFF, Z = 1284.4, 0.2997, 2.6, 2.0
HOST = Potential(
    pair_style=f"born/coul/long {CUTOFF} 8.0",
    pair_coeff=["* * 0 1 0 0 0", f"1 2 {A} {RHO} 0 0 0"],
    species=["Mg", "O"],
    charges={"Mg": Z, "O": -Z},
    commands=["kspace_style ewald 1e-8", "pair_modify shift yes table 0"],
)
ALPHA = (0.09, 0.6)


def crystal(a: float) -> Crystal:
    return Crystal.of(bulk("MgO", "rocksalt", a=a))


def sites(unit, alpha=ALPHA, damping=None) -> PolarizableSites:
    return PolarizableSites(unit.positions, np.zeros(2), alpha, unit.cell, damping)


@pytest.mark.parametrize("alpha", [(0.0, 0.0), ALPHA])
def test_szigeti(alpha):
    """One short-range term between nearest neighbours in rock salt: both constants are closed formulas, at any a."""
    a = 4.2
    unit, r = crystal(a), a / 2
    electronic, static = dipole_dielectric(unit, HOST, sites(unit, alpha))
    eps = clausius_mossotti(sum(alpha), unit.volume)
    S = 2 * A * np.exp(-r / RHO) * (1 / RHO**2 - 2 / RHO / r)
    lorentz = 4 * np.pi * COULOMB * Z**2 / (3 * unit.volume) * (eps + 2) / 3
    wanted = eps + 4 * np.pi * COULOMB / unit.volume * (Z * (eps + 2) / 3) ** 2 / (S - lorentz)
    np.testing.assert_allclose(electronic, eps * np.eye(3), atol=1e-6)
    np.testing.assert_allclose(static, wanted * np.eye(3), rtol=1e-4, atol=1e-4)
    assert wanted > 1.5 * eps


@pytest.mark.parametrize("damping", ["thole", None])
def test_ions_that_follow_a_field(damping):
    """The dipole of a cell whose ions have come to rest in a finite field, relaxed without any derivative of the model."""
    unit, field = crystal(4.2), np.array([0, 0, 0.01])
    model = sites(unit, damping=damping)
    charges = np.array([Z, -Z])
    with LammpsHost(unit, HOST) as host:

        def state(u):
            positions = unit.positions + np.outer([0, 1], [0, 0, u])
            host.set_positions(positions)
            ions = PolarizableSites(positions, charges, ALPHA, unit.cell, damping)
            dipoles = InducedDipoles(ions)
            induced = dipoles.solve(np.tile(field, (2, 1))).dipoles
            force = host.forces() + dipoles.forces(induced)[0] + np.outer(charges, field)
            return force[1, 2] - force[0, 2], -Z * u + induced[:, 2].sum()

        at_rest = brentq(lambda u: state(u)[0], -0.05, 0.05, xtol=1e-10)
        p = state(at_rest)[1]
    static = dipole_dielectric(unit, HOST, model)[1]
    assert 1 + 4 * np.pi * COULOMB * p / unit.volume / field[2] == pytest.approx(static[2, 2], rel=1e-3)


def test_no_constant_without_a_minimum():
    with pytest.raises(SolidQMMMError, match="softest force constant"):
        dipole_dielectric(crystal(4.8), HOST, sites(crystal(4.8)))
    moved = Crystal.of(bulk("MgO", "rocksalt", a=4.2))
    moved = moved.with_positions(moved.positions + np.outer([0, 1], [0, 0, 0.1]))
    with pytest.raises(SolidQMMMError, match="not at rest"):
        dipole_dielectric(moved, HOST, sites(moved))
    with pytest.raises(ValueError, match="not at a minimum"):
        ionic_part(np.diag([1.0, 1, 1, -1, -1, -1]), np.ones((6, 3)), 10.0)
