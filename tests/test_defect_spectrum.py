"""Local densities of states of a defect in an infinite crystal: closed formulas, recursion, finite crystals, resonances."""

import numpy as np
import pytest
from scipy import linalg, sparse
from scipy.optimize import brentq
from spring_crystals import ring
from test_greens_function import chain, cubic, silicon, silicon_lattice

from solidqmmm.physics.vibrations.defect_spectrum import broadened, defect_spectrum, quartic_kernel
from solidqmmm.physics.vibrations.greens_function import (
    LatticeDefect,
    host_greens_function,
    infinite_host_modes,
    mass_defect,
)
from solidqmmm.physics.vibrations.local_density import recursion
from solidqmmm.physics.vibrations.localized_modes import THZ, frequencies_THz, squared_frequencies

WIDTH = 0.5 * np.sqrt(2)  # THz; s = 0.5 and a grid of 0.5 share the frequencies at which G is taken
GRID = np.arange(0.0, 60.0, 0.5)


def test_kernel():
    x = np.linspace(-300, 300, 200_001)
    assert np.trapezoid(quartic_kernel(x, 2.0), x) == pytest.approx(1, abs=1e-6)
    assert quartic_kernel(2.0, 2.0) == pytest.approx(quartic_kernel(0.0, 2.0) / 2)


def test_broadening_is_the_convolution_with_the_kernel():
    """One oscillator, and its image at -nu: 2 w / (w^2 - w_0^2) = 1/(w - w_0) + 1/(w + w_0)."""
    nu, w0, d = np.linspace(0, 30, 77), 12.0 / THZ, 0.9
    found = broadened(nu, lambda w: 1 / (w**2 - w0**2), d)
    np.testing.assert_allclose(found, quartic_kernel(nu - 12, d) + quartic_kernel(nu + 12, d), rtol=1e-6)


@pytest.mark.parametrize("mass", [1.0, 0.4, 5.0])
def test_mass_in_the_infinite_chain(mass):
    """G0 = 1/sqrt(w^2 (w^2 - 4)), and m G = m / (1/G0 + (m - 1) w^2)."""

    def closed(w):
        z = w**2
        return mass / (np.sqrt(z) * np.sqrt(z - 4) + (mass - 1) * z)

    found = defect_spectrum(GRID, chain(), mass_defect(chain(), [0, 0], mass), width=WIDTH, mesh=3000)[:, 0, 0]
    expected = broadened(GRID, closed, WIDTH)
    np.testing.assert_allclose(found, expected, atol=2e-3 * expected.max())


def test_mass_in_the_infinite_cubic_lattice():
    """The scalar lattice's G0 by a sum over the mesh at each frequency, and the densities of a light and of a heavy mass."""
    for mass in (0.4, 6.0):
        defect = mass_defect(cubic(), [0, 0, 0, 0], mass)

        def by_sum(w, mass=mass):
            G0 = np.array([host_greens_function(cubic(), z, [[0, 0, 0, 0]], mesh=30)[0, 0] for z in w**2])
            return mass / (1 / G0 + (mass - 1) * w**2)

        found = defect_spectrum(GRID, cubic(), defect, width=WIDTH, mesh=30)[:, 0, 0]
        expected = broadened(GRID, by_sum, WIDTH)
        np.testing.assert_allclose(found, expected, atol=2e-3 * expected.max())
    # a light one has its mode above the band, with the weight that the exact mode has
    exact = infinite_host_modes(cubic(), mass_defect(cubic(), [0, 0, 0, 0], 0.4), 12.2)
    nu = np.arange(0.0, 100.0, 0.25)
    density = defect_spectrum(
        nu, cubic(), mass_defect(cubic(), [0, 0, 0, 0], 0.4), width=WIDTH / 2, mesh=30
    )[:, 0, 0]
    above = nu > float(frequencies_THz(12.0)) + 2
    assert nu[density.argmax()] == pytest.approx(float(frequencies_THz(exact.squared[0])), abs=0.2)
    assert np.trapezoid(density[above], nu[above]) == pytest.approx(exact.weights[0, 0], abs=5e-3)


def test_heavy_mass_resonates_where_dysons_equation_says():
    """A mass of 20: its density is highest where Re[1/G0 + 19 w^2] = 0, far above that of the perfect crystal."""
    mass, lattice, width = 20.0, cubic(), 0.3 * np.sqrt(2)
    nu = np.arange(0.0, 20.0, 0.05)
    with_it, without = (
        defect_spectrum(nu, lattice, mass_defect(lattice, [0, 0, 0, 0], m), width=width, mesh=60)[:, 0, 0]
        for m in (mass, 1.0)
    )
    peak = nu[with_it.argmax()]

    def real_part(frequency):
        z = ((frequency + 0.3j) / THZ) ** 2
        return (1 / host_greens_function(lattice, z, [[0, 0, 0, 0]], mesh=60)[0, 0] + (mass - 1) * z).real

    assert brentq(real_part, 2.0, 14.0, xtol=0.01) == pytest.approx(peak, abs=0.15)
    assert with_it.max() > 20 * without[with_it.argmax()]


def test_density_integrates_to_one_on_every_site():
    """A mass and the springs next to it changed, and a site without change."""
    stiffness = np.zeros((4, 4))
    stiffness[:3, :3] = [[0.5, -0.5, 0], [-0.5, 1.0, -0.5], [0, -0.5, 0.5]]
    defect = LatticeDefect([[-1, 0], [0, 0], [1, 0], [7, 0]], stiffness, [1.0, 0.5, 1.0, 1.0])
    nu = np.arange(0, 120, 0.1)
    density = defect_spectrum(nu, chain(), defect, width=WIDTH, mesh=900)
    np.testing.assert_allclose(np.trapezoid(density[:, :, 0], nu, axis=0), 1, atol=1e-3)


def test_chain_by_recursion():
    """A finite ring of 4000 with the square-root terminator, its mass and its neighbour's density."""
    masses = np.ones(4000)
    masses[0] = 3.0
    s = sparse.diags_array(masses**-0.5)
    W = sparse.csr_array(s @ ring(4000) @ s)
    defect = LatticeDefect([[0, 0], [1, 0]], np.zeros((2, 2)), [3.0, 1.0])
    found = defect_spectrum(GRID, chain(), defect, width=WIDTH, mesh=3000)[:, :, 0]
    for site in (0, 1):
        steps = recursion(W, np.eye(1, 4000, site)[0], 40)
        expected = broadened(GRID, lambda w, steps=steps: steps.greens_function(w**2, 0.0, 4.0), WIDTH)
        np.testing.assert_allclose(found[:, site], expected, atol=3e-3 * expected.max())


def test_silicon_and_finite_crystals():
    """A heavy mass: n^3 cells on a mesh of n are the finite crystal, and a finer mesh is the limit of larger ones."""
    lattice, mass = silicon_lattice(), 90.0
    nu, width = np.arange(0.0, 18.4, 0.2), 0.4 * np.sqrt(2)
    defect = mass_defect(lattice, [0, 0, 0, 0], mass)
    infinite = defect_spectrum(nu, lattice, defect, width=width, mesh=36)[:, 0].sum(axis=1)
    off = []
    for n in (3, 5):
        atoms, K = silicon(n)
        masses = np.full(len(atoms), 28.0855)
        masses[0] = mass
        scale = 1 / np.sqrt(np.repeat(masses, 3))
        squared, e = linalg.eigh(K.toarray() * np.outer(scale, scale))
        frequencies = frequencies_THz(squared)
        kernel = quartic_kernel(nu[:, None] - frequencies, width) + quartic_kernel(nu[:, None] + frequencies, width)
        finite = kernel @ np.sum(e[:3] ** 2, axis=0)
        if n == 5:  # whose force constants the lattice has
            by_mesh = defect_spectrum(nu, lattice, defect, width=width, mesh=5)[:, 0].sum(axis=1)
            np.testing.assert_allclose(by_mesh, finite, atol=3e-3 * finite.max())
        off.append(np.abs(finite - infinite).max() / infinite.max())
    assert off[1] < off[0]
    assert off[1] < 0.2
    assert squared_frequencies(nu[infinite.argmax()]) < 0.2 * squared_frequencies(17.8)
