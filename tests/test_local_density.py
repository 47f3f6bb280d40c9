"""Local densities of states: moments and norm of the matrix, the chain's closed form, resonances and local modes."""

import numpy as np
import pytest
from scipy import sparse
from spring_crystals import DIAMOND_TOP, diamond, ring

from solidqmmm.physics.vibrations.local_density import (
    broadened_density,
    recursion,
    recursions,
    terminated_density,
)
from solidqmmm.physics.vibrations.localized_modes import frequencies_THz


def disordered(n=3, seed=0):
    K, _ = diamond(n)
    masses = np.random.default_rng(seed).uniform(10, 60, 8 * n**3)
    s = sparse.diags_array(np.repeat(masses, 3) ** -0.5)
    return sparse.csr_array(s @ K @ s)


def start(n, k=0):
    e = np.zeros(n)
    e[k] = 1.0
    return e


def test_moments_are_those_of_the_matrix():
    W = disordered()
    chain = recursion(W, 3.0 * start(648, 100), 10)
    v, moments = start(648, 100), []
    for _ in range(20):
        moments.append(v[100])
        v = W @ v
    np.testing.assert_allclose(chain.moments(19), moments, rtol=1e-10)
    v = W @ v
    assert chain.moments(20)[-1] != pytest.approx(
        v[100], rel=1e-10
    )  # ten levels carry twenty moments, no more


def test_local_densities_of_all_directions_add_up_to_the_spectrum():
    W = disordered(1)
    nu = np.linspace(-3, 60, 4000)
    total = np.zeros_like(nu)
    for k in range(24):
        density = broadened_density(nu, recursion(W, start(24, k), 24), 0.3)
        assert np.trapezoid(density, nu) == pytest.approx(1, abs=1e-9)
        total += density
    spectrum = frequencies_THz(np.linalg.eigvalsh(W.toarray()))
    expected = np.exp(-0.5 * ((nu[:, None] - spectrum) / 0.3) ** 2).sum(axis=1) / (0.3 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(total, expected, atol=1e-6)


def test_a_chain_that_ends_says_so():
    """From an eigenvector the chain has one level; from one atom of a ring only its even states are met."""
    W = ring(12)
    wave = np.cos(2 * np.pi * np.arange(12) / 4)
    one = recursion(W, wave, 10)
    assert len(one.a) == 1
    assert one.last == 0
    assert one.a[0] == pytest.approx(2.0)
    assert len(recursion(W, start(12), 50).a) == 7
    for wrong in (np.zeros(12), None):
        with pytest.raises(ValueError, match="at least one level"):
            recursion(W, start(12) if wrong is None else wrong, 0 if wrong is None else 5)


def test_recursions_side_by_side_are_those_one_after_the_other():
    """Of 7 levels, of one, and of 12, where none may disturb the others after its end."""
    W = sparse.csr_array(sparse.block_diag([ring(12), disordered(2)]))
    n = W.shape[0]
    wave = np.concatenate([np.cos(2 * np.pi * np.arange(12) / 4), np.zeros(n - 12)])
    starts = np.array([start(n), wave, 2.0 * start(n, 50)]).T
    together = recursions(W, starts, 12)
    assert [len(chain.a) for chain in together] == [7, 1, 12]
    for chain, e in zip(together, starts.T):
        alone = recursion(W, e, 12)
        for name in ("a", "b", "last"):
            np.testing.assert_allclose(getattr(chain, name), getattr(alone, name), rtol=1e-10, atol=1e-12)
    assert together[2].last > 0
    with pytest.raises(ValueError, match="at least one level"):
        recursions(W, starts * [1, 0, 1], 12)


def test_terminator_continues_the_chain_exactly():
    """The infinite chain's density is 1/(pi sqrt(w^2 (4 - w^2))) in w^2, reached with three levels."""
    chain = recursion(ring(40), start(40), 3)
    np.testing.assert_allclose([*chain.a, *chain.b, chain.last], [2, 2, 2, np.sqrt(2), 1, 1], atol=1e-12)
    z = np.linspace(0.3, 3.7, 7) + 1e-10j
    np.testing.assert_allclose(
        -chain.greens_function(z, 0.0, 4.0).imag / np.pi,
        1 / (np.pi * np.sqrt(z.real * (4 - z.real))),
        rtol=1e-6,
    )
    outside = chain.greens_function(np.array([6.0 + 0j]), 0.0, 4.0)
    assert outside[0] == pytest.approx(1 / np.sqrt(6.0 * 2.0))  # G_00 = 1/sqrt(z (z - 4))


def test_density_integrates_to_one_with_a_terminator_and_a_local_mode_among_it():
    masses = np.ones(200)
    masses[0] = 0.4
    s = sparse.diags_array(masses**-0.5)
    chain = recursion(sparse.csr_array(s @ ring(200) @ s), start(200), 60)
    top, width = float(frequencies_THz(4.0)), 0.02
    nu = np.linspace(1e-3, 4000 * width, 400001)
    density = terminated_density(nu, chain, top, width=width)
    assert np.trapezoid(density, nu) == pytest.approx(1, abs=1e-3)
    local = frequencies_THz(4 / (1 - 0.6**2))
    near = np.abs(nu - local) < 2.0
    r = 0.4 / 1.6
    assert nu[near][np.argmax(density[near])] == pytest.approx(local, abs=2 * width)
    weight = 0.4 / (0.4 + 2 * r**2 / (1 - r**2))
    assert np.trapezoid(density[near], nu[near]) == pytest.approx(weight, abs=0.01)


def test_heavy_atom_has_a_resonance_where_broadening_and_terminator_agree():
    """A heavy impurity in the diamond lattice: one smooth curve from 30 levels, the other from the nodes of 150."""
    K, _ = diamond(8)
    masses = np.full(4096, 28.0)
    masses[0] = 200.0
    s = sparse.diags_array(np.repeat(masses, 3) ** -0.5)
    W = sparse.csr_array(s @ K @ s)
    top = float(frequencies_THz(DIAMOND_TOP / 28))
    nu = np.linspace(0.5, 1.1 * top, 300)
    smooth = terminated_density(nu, recursion(W, start(12288), 24), top, width=0.3)
    nodes = broadened_density(nu, recursion(W, start(12288), 150), 0.5)
    for density in (smooth, nodes):
        assert nu[np.argmax(density)] < 0.35 * top
    assert nu[np.argmax(smooth)] == pytest.approx(nu[np.argmax(nodes)], abs=0.5)
    assert np.trapezoid(np.abs(smooth - nodes), nu) < 0.25
