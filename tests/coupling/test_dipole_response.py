"""The host's induced dipoles as the answer to a quantum charge."""

from __future__ import annotations

import numpy as np
import pytest

from solidqmmm.coupling.dipole_response import DipoleResponse
from solidqmmm.errors import PolarizationCatastrophe
from solidqmmm.physics.electrostatics.coulomb import coulomb_potential
from solidqmmm.physics.polarization.induced_dipoles import PolarizableSites
from solidqmmm.physics.thole import induce

RNG = np.random.default_rng(9)
X = 2.4 * np.array([[i, j, k] for i in range(2) for j in range(2) for k in range(2)]) + RNG.normal(
    0, 0.1, (8, 3)
)
SITES = PolarizableSites(X, np.tile([1.0, -1.0], 4), RNG.uniform(0.3, 1.2, 8))
QUANTUM, CHARGE = np.array([[1.1, 1.3, -1.5]]), 1.4  # what stands for the quantum region


def seen(x, where):
    """Potential, field and its gradient of the quantum charge at x."""
    return coulomb_potential(x, where, [CHARGE])[:2], coulomb_potential(x, where, [CHARGE], derivatives=2)[2]


@pytest.mark.parametrize("direct_below", [None, 0])
def test_the_dipole_is_minus_the_derivative(direct_below):
    response = DipoleResponse(SITES, tolerance=1e-11, direct_below=direct_below)
    (potentials, fields), _ = seen(X, QUANTUM)
    found = response.respond(potentials, fields)
    np.testing.assert_array_equal(found.charges, 0.0)
    h = 1e-3
    for index in np.ndindex(fields.shape):
        step = np.zeros_like(fields)
        step[index] = h
        up, down = (response.respond(potentials, fields + s * step).energy for s in (1, -1))
        assert found.dipoles[index] == pytest.approx(-(up - down) / (2 * h), abs=1e-8)


def test_the_permanent_part_is_in_the_energy():
    """Without a quantum charge the host polarizes itself; with one, both are a single set of charges."""
    response = DipoleResponse(SITES)
    alone = induce(X, SITES.charges, SITES.polarizabilities)
    assert response.unperturbed().energy == pytest.approx(alone.energy, rel=1e-12)
    np.testing.assert_allclose(response.unperturbed().dipoles, alone.dipoles, atol=1e-13)
    together = induce(
        np.vstack([X, QUANTUM]), np.append(SITES.charges, CHARGE), np.append(SITES.polarizabilities, 0.0)
    )
    found = response.respond(*seen(X, QUANTUM)[0])
    assert found.energy == pytest.approx(together.energy, rel=1e-12)
    np.testing.assert_allclose(found.dipoles, together.dipoles[:-1], atol=1e-13)


def test_forces_add_up():
    """Forces among the sites, and those of the quantum charge on the dipoles, are the gradient of the energy."""

    def energy(x):
        return DipoleResponse(SITES.with_positions(x)).respond(*seen(x, QUANTUM)[0]).energy

    response = DipoleResponse(SITES)
    fields, gradients = seen(X, QUANTUM)
    found = response.respond(*fields)
    forces = response.site_forces(found)[0] + np.einsum("na,nab->nb", found.dipoles, gradients)
    h = 1e-4
    for index in np.ndindex(X.shape):
        step = np.zeros_like(X)
        step[index] = h
        assert forces[index] == pytest.approx(-(energy(X + step) - energy(X - step)) / (2 * h), abs=1e-6)


def test_each_answer_starts_from_the_one_before():
    response = DipoleResponse(SITES, direct_below=0)
    (potentials, fields), _ = seen(X, QUANTUM)
    response.respond(potentials, fields)
    before = response.products
    response.respond(potentials, fields * (1 + 1e-9))
    assert response.products - before <= 2


def test_a_catastrophe_is_raised_at_once():
    close = PolarizableSites([[0, 0, 0], [0, 0, 1.2]], [0, 0], [1, 1], damping=None)
    with pytest.raises(PolarizationCatastrophe, match="sites 0 and 1"):
        DipoleResponse(close)
