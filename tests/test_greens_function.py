"""Defects in an infinite crystal: closed formulas, Watson-type integrals, published rows, and finite crystals that grow."""

from functools import lru_cache

import numpy as np
import pytest
from scipy import sparse
from spring_crystals import DIAMOND_TOP, diamond, ring, simple_cubic, springs

from solidqmmm.physics.condensation import PartitionedCrystal
from solidqmmm.physics.dynamic_condensation import dynamic_modes
from solidqmmm.physics.vibrations.greens_function import (
    LatticeDefect,
    detached,
    host_greens_function,
    infinite_host_modes,
    mass_defect,
    motion_of_sites,
)
from solidqmmm.physics.vibrations.localized_modes import CM1_PER_THZ, frequencies_THz, squared_frequencies
from solidqmmm.physics.vibrations.perfect_lattice import PerfectLattice


def chain():
    return PerfectLattice.from_blocks([[0], [1], [-1]], np.reshape([2.0, -1, -1], (3, 1, 1)), [1.0])


def diatomic(light=1.0, heavy=3.0):
    """Unit springs; cell: light atom, heavy atom."""
    own = np.array([[2.0, -1], [-1, 2]])
    right = np.array([[0.0, 0], [-1, 0]])  # the heavy atom to the light one of the next cell
    return PerfectLattice.from_blocks([[0], [1], [-1]], [own, right, right.T], [light, heavy])


def cubic():
    steps = [[0, 0, 0], *(s * row for row in np.eye(3, dtype=int) for s in (1, -1))]
    return PerfectLattice.from_blocks(steps, np.reshape([6.0] + [-1.0] * 6, (7, 1, 1)), [1.0])


def test_greens_function_of_the_chain():
    """G_0n = (-x)^|n| / sqrt(w^2 (w^2 - 4)) with x + 1/x = w^2 - 2, above the band; inside by continuation."""
    squared = 4.7
    G = host_greens_function(chain(), squared, [[0, 0], [1, 0], [5, 0]])
    x = (squared - 2) / 2 - np.sqrt(((squared - 2) / 2) ** 2 - 1)
    np.testing.assert_allclose(
        G[0], (-x) ** np.array([0, 1, 5]) / np.sqrt(squared * (squared - 4)), rtol=1e-9
    )
    z = 1.3 + 0.05j
    inside = host_greens_function(chain(), z, [[0, 0]])
    assert inside[0, 0] == pytest.approx(1 / (np.sqrt(z) * np.sqrt(z - 4)), rel=1e-8)


@pytest.mark.parametrize("ratio", [0.2, 0.3, 0.5, 0.8])
def test_light_mass_in_the_infinite_chain(ratio):
    modes = infinite_host_modes(chain(), defect := mass_defect(chain(), [7, 0], ratio), 4.0001)
    assert np.sqrt(modes.squared) == pytest.approx([2 / np.sqrt(1 - (1 - ratio) ** 2)], abs=1e-8)
    r = ratio / (2 - ratio)
    u = motion_of_sites(chain(), defect, modes, 0, [[n, 0] for n in range(7, 12)])[:, 0]
    np.testing.assert_allclose(u / modes.displacements[0, 0, 0], (-r) ** np.arange(5), atol=1e-8)
    weights = ratio * np.ones(41), r ** (2 * np.abs(np.arange(-20, 21)))
    weights = np.where(np.arange(-20, 21) == 0, ratio, 1) * weights[1]
    weights /= weights.sum()
    assert modes.weights[0, 0] == pytest.approx(weights[20], rel=1e-6)
    assert modes.participating_atoms[0] == pytest.approx(1 / np.sum(weights**2), rel=1e-6)


def test_watson_integral_and_threshold():
    """G0(w_max^2) = 0.2527310099 (half of Watson's integral), so that eps_c = 1/(12 G0) = 0.3297313.

    At the band edge the error of a mesh is a/n + b/n^3: three meshes tell the limit. Odd ones miss the edge itself, where
    all components of q are pi and the summand diverges.
    """
    n = np.array([21.0, 41.0, 81.0])
    values = [host_greens_function(cubic(), 12.0, [[0, 0, 0, 0]], mesh=int(k))[0, 0] for k in n]
    limit = np.linalg.solve(np.stack([n**0, 1 / n, 1 / n**3], axis=1), values)[0]
    assert limit == pytest.approx(0.2527310099, abs=5e-8)
    assert 1 / (12 * limit) == pytest.approx(0.3297313352, abs=1e-7)


@pytest.mark.parametrize(
    ("eps", "ratio"),
    [(0.4, 1.03077856), (0.5, 1.15491100), (0.6, 1.37993737), (0.7, 1.77970030), (0.8, 2.60062392)],
)
def test_light_mass_in_the_infinite_cubic_lattice(eps, ratio):
    modes = infinite_host_modes(cubic(), mass_defect(cubic(), [0, 0, 0, 0], 1 - eps), 12.15)
    assert modes.squared / 12 == pytest.approx([ratio], abs=2e-8)


def test_no_mode_below_the_threshold():
    assert len(infinite_host_modes(cubic(), mass_defect(cubic(), [0, 0, 0, 0], 1 - 0.32), 12.1).squared) == 0
    assert len(infinite_host_modes(cubic(), mass_defect(cubic(), [0, 0, 0, 0], 1.5), 12.1).squared) == 0


def test_a_mesh_is_a_finite_crystal():
    """n^3 wave vectors and n^3 atoms in a ring give the same mode to the last digit; the infinite one is their limit."""
    infinite = infinite_host_modes(cubic(), mass_defect(cubic(), [0, 0, 0, 0], 0.6), 12.15).squared[0]
    errors = []
    for n in (4, 6, 8, 10):
        K, positions = simple_cubic(n)
        masses = np.ones(n**3)
        masses[1] = 0.6
        finite = dynamic_modes(PartitionedCrystal(K, masses, [1], positions), 12.15).squared[0]
        by_mesh = infinite_host_modes(
            cubic(), mass_defect(cubic(), [0, 0, 0, 0], 0.6), 12.15, mesh=n
        ).squared[0]
        assert finite == pytest.approx(by_mesh, rel=1e-12)
        errors.append(abs(finite - infinite))
    assert np.all(np.diff(errors) < 0)
    assert errors[-1] < 0.1 * errors[0]


def diamond_lattice(n=3):
    K, positions = diamond(n)
    a = 5.43
    cells = np.floor(positions / a + 1e-4).astype(int)
    return PerfectLattice.from_supercell(
        K, np.full(len(positions), 28.0), cells, np.arange(len(positions)) % 8, [n] * 3
    )


def test_substitution_with_changed_springs_equals_the_finite_crystal_it_stands_for():
    """A light atom with stiffer bonds, its changed force constants as dK; three cells around, on a mesh of three."""
    lattice, (K, positions) = diamond_lattice(), diamond(3)
    cells, basis = np.floor(positions / 5.43 + 1e-4).astype(int), np.arange(216) % 8
    changed = sparse.csr_array(K).tolil()
    atom = 100
    row = np.abs(K[3 * atom : 3 * atom + 3].toarray()).max(axis=0).reshape(-1, 3).max(axis=1)
    partners = np.flatnonzero((row > 2.0) & (np.arange(216) != atom))
    assert len(partners) == 4
    for j in partners:
        block = K[3 * atom : 3 * atom + 3, 3 * j : 3 * j + 3].toarray() * 0.3
        for i, k, sign in ((atom, j, 1), (j, atom, 1), (atom, atom, -1), (j, j, -1)):
            changed[3 * i : 3 * i + 3, 3 * k : 3 * k + 3] += sign * block
    changed = sparse.csr_array(changed)
    masses = np.full(216, 28.0)
    masses[atom] = 12.0
    low = 1.01 * DIAMOND_TOP / 28
    finite = dynamic_modes(PartitionedCrystal(changed, masses, [atom], positions), low)
    sites = np.array([atom, *partners])
    dofs = (3 * sites[:, None] + np.arange(3)).ravel()
    defect = LatticeDefect(
        np.column_stack([cells[sites], basis[sites]]), (changed - K)[dofs][:, dofs].toarray(), masses[sites]
    )
    by_mesh = infinite_host_modes(lattice, defect, low, mesh=3)
    np.testing.assert_allclose(by_mesh.squared, finite.squared, rtol=1e-11)
    assert len(finite) == 3
    np.testing.assert_allclose(
        by_mesh.weights.sum(axis=0), [finite.weights([s]).sum() for s in sites], rtol=1e-7
    )
    infinite = infinite_host_modes(lattice, defect, low)
    assert np.ptp(infinite.squared) < 1e-9
    assert infinite.squared[0] == pytest.approx(finite.squared[0], rel=1e-3)


def test_vacancy_by_detached_springs():
    """A heavy site of the diatomic chain taken out leaves two light ends, each with Wallis' mode at k (1/m + 1/M)."""
    lattice = diatomic()
    sites = [[0, 0], [0, 1], [1, 0]]
    K = np.array([[2.0, -1, 0], [-1, 2, -1], [0, -1, 2]])
    change = detached(K, 1, d=1)
    np.testing.assert_allclose(K + change, [[1, 0, 0], [0, 0, 0], [0, 0, 1]])
    modes = infinite_host_modes(lattice, LatticeDefect(sites, change, [1.0, 3.0, 1.0]), 2 / 3 + 0.01, 1.99)
    np.testing.assert_allclose(modes.squared, [4 / 3, 4 / 3], rtol=1e-9)
    assert modes.weights[:, 1].max() < 1e-15
    # along the half chain (u_light, u_heavy) = (1, -1/3), and -1/3 of that per cell
    expected = 1 / ((1 + 3 / 9) / (1 - 1 / 9))
    assert modes.weights.sum() == pytest.approx(2 * expected, rel=1e-8)


def test_detached_atom_leaves_translations_free():
    K, positions = diamond(2)
    change = detached(K.toarray(), 5)
    rest = np.tile(np.eye(3), (64, 1))
    rest[15:18] = 0.0
    np.testing.assert_allclose((K.toarray() + change) @ rest, 0, atol=1e-12)
    np.testing.assert_allclose((K.toarray() + change)[15:18], 0, atol=1e-12)
    assert len(positions) == 64


def test_modes_in_the_gap_on_both_sides_of_a_pole():
    """Bonds of 1 and 3 in turn: G0 of a site is zero at w^2 = 4, the middle of the gap, because a chain held there has an
    end state. E and the condensed stiffness have a pole there; no mode may be lost or invented."""
    own, right = np.array([[4.0, -1], [-1, 4]]), np.array([[0.0, 0], [-3, 0]])
    lattice = PerfectLattice.from_blocks([[0], [1], [-1]], [own, right, right.T], [1.0, 1.0])
    n, low, high = 60, 2.02, 5.98
    i = np.arange(2 * n)
    K = springs(2 * n, i, (i + 1) % (2 * n), np.tile([1.0, 3.0], n))
    held = [host_greens_function(lattice, x, [[0, 1]], mesh=n)[0, 0] for x in (3.9, 4.1)]
    assert held[0] > 0 > held[1]
    seen = set()
    for mass in (0.3, 0.9, 1.1, 1.7, 6.0):
        masses = np.ones(2 * n)
        masses[1] = mass
        crystal = PartitionedCrystal(K, masses, [1])
        values = np.linalg.eigvalsh(crystal.weighted().toarray())
        expected = values[(values > low) & (values < high)][::-1]
        seen.add((len(expected), bool(np.all(expected > 4))))
        modes = infinite_host_modes(lattice, mass_defect(lattice, [0, 1], mass), low, high, mesh=n)
        np.testing.assert_allclose(modes.squared, expected, rtol=1e-9)
        np.testing.assert_allclose(dynamic_modes(crystal, low, high).squared, expected, rtol=1e-9)
    assert len(seen) > 1  # modes on either side of the pole


def test_added_atom():
    """An atom hung on the chain by a spring: a finite ring with one more atom."""
    k, mass, n = 9.0, 0.8, 120
    K = sparse.lil_array((n + 1, n + 1))
    K[:n, :n] = ring(n)
    for i, j, value in ((0, 0, k), (n, n, k), (0, n, -k), (n, 0, -k)):
        K[i, j] += value
    values = np.linalg.eigvalsh(K.toarray() / np.sqrt(np.outer(*[np.append(np.ones(n), mass)] * 2)))
    modes = infinite_host_modes(
        chain(), LatticeDefect([[0, 0]], np.array([[k, -k], [-k, k]]), [1.0, mass]), 4.01, mesh=n
    )
    np.testing.assert_allclose(modes.squared, values[values > 4.01][::-1], rtol=1e-10)
    infinite = infinite_host_modes(chain(), LatticeDefect([[0, 0]], [[k, -k], [-k, k]], [1.0, mass]), 4.01)
    np.testing.assert_allclose(infinite.squared, modes.squared, rtol=1e-9)
    assert 1 < infinite.participating_atoms[0] < 3


def test_too_close_to_the_band_says_so():
    with pytest.raises(ArithmeticError, match="too coarse"):
        infinite_host_modes(cubic(), mass_defect(cubic(), [0, 0, 0, 0], 0.5), 12 * (1 + 1e-7))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sites": [[0, 0], [0, 0]]}, "different cells and atoms"),
        ({"masses": [1.0]}, "needs a positive mass"),
        ({"masses": [1.0, -1.0]}, "needs a positive mass"),
        ({"stiffness": [[0.0, 1.0], [0.0, 0.0]]}, "must be symmetric"),
    ],
)
def test_bad_defects(change, message):
    with pytest.raises(ValueError, match=message):
        LatticeDefect(
            **{"sites": [[0, 0], [1, 0]], "stiffness": np.zeros((2, 2)), "masses": [1.0, 1.0], **change}
        )


def test_bad_lattices():
    with pytest.raises(ValueError, match="transpose"):
        PerfectLattice.from_blocks([[0], [1]], np.ones((2, 1, 1)), [1.0])
    with pytest.raises(ValueError, match="half around"):
        PerfectLattice.from_supercell(ring(2), np.ones(2), [[0], [1]], [0, 0], [2])


SILICON_MASS = 28.0855


@lru_cache
def silicon(n=5):
    """Stillinger-Weber silicon, n^3 primitive cells: atoms and force constants (matscipy's analytic second derivatives)."""
    from ase.build import bulk
    from matscipy.calculators.manybody import Manybody
    from matscipy.calculators.manybody.explicit_forms import StillingerWeber
    from matscipy.calculators.manybody.explicit_forms.stillinger_weber import Stillinger_Weber_PRB_31_5262_Si

    atoms = bulk("Si", "diamond", a=5.43095).repeat(n)
    atoms.calc = Manybody(**StillingerWeber(Stillinger_Weber_PRB_31_5262_Si))
    K = sparse.csr_array(atoms.calc.get_hessian(atoms))
    return atoms, sparse.csr_array((K + K.T) / 2)


def silicon_lattice(n=5):
    atoms, K = silicon(n)
    cells = (
        np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), axis=-1).reshape(-1, 3).repeat(2, axis=0)
    )
    return PerfectLattice.from_supercell(
        K, np.full(len(atoms), SILICON_MASS), cells, np.tile([0, 1], n**3), [n] * 3
    )


@pytest.mark.parametrize(
    ("mass", "wavenumber"),
    [(5.0, 1026.292), (10.0129, 761.854), (12.0, 710.528), (16.0, 643.198), (20.0, 604.691)],
)
def test_light_mass_in_infinite_silicon(mass, wavenumber):
    """Mass-only defect in Stillinger-Weber silicon: values by phonopy's spectrum on a 48^3 mesh, a triplet."""
    lattice = silicon_lattice()
    low = float(squared_frequencies(596.0 / CM1_PER_THZ))
    modes = infinite_host_modes(lattice, mass_defect(lattice, [0, 0, 0, 0], mass), low)
    np.testing.assert_allclose(frequencies_THz(modes.squared) * CM1_PER_THZ, [wavenumber] * 3, atol=0.003)


def test_top_of_silicons_band():
    nu = frequencies_THz(silicon_lattice().squared_frequencies(24)) * CM1_PER_THZ
    assert nu.max() == pytest.approx(594.8, abs=0.1)
    assert np.abs(nu[0, :3]).max() < 0.01


def test_silicon_infinite_and_finite_by_dynamic_condensation():
    atoms, K = silicon()
    masses = np.full(250, SILICON_MASS)
    masses[100] = 12.0
    low = float(squared_frequencies(600.0 / CM1_PER_THZ))
    finite = dynamic_modes(PartitionedCrystal(K, masses, [100], atoms.positions), low)
    lattice = silicon_lattice()
    by_mesh = infinite_host_modes(lattice, mass_defect(lattice, [0, 0, 0, 0], 12.0), low, mesh=5)
    np.testing.assert_allclose(finite.squared, by_mesh.squared, rtol=1e-10)
    assert frequencies_THz(finite.squared[0]) * CM1_PER_THZ == pytest.approx(710.528, abs=0.05)


def test_phonopys_phases():
    """W(q) from phonopy's dynamical matrix, whose phases are those of the atoms, and from the supercell directly."""
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    n = 4
    atoms, K = silicon(n)
    cell = atoms.cell.array / n
    unit = PhonopyAtoms(
        symbols=["Si"] * 2, cell=cell, positions=atoms.positions[:2], masses=[SILICON_MASS] * 2
    )
    phonon = Phonopy(unit, supercell_matrix=n * np.eye(3, dtype=int), primitive_matrix=np.eye(3), log_level=0)
    apart = phonon.supercell.positions[:, None] - atoms.positions[None, :]
    scaled = apart @ np.linalg.inv(atoms.cell.array)
    order = np.abs(scaled - np.round(scaled)).max(axis=2).argmin(axis=1)
    constants = K.toarray().reshape(2 * n**3, 3, 2 * n**3, 3).transpose(0, 2, 1, 3)
    phonon.force_constants = np.ascontiguousarray(constants[order][:, order])

    def function(q):
        phonon.dynamical_matrix.run(q)
        return phonon.dynamical_matrix.dynamical_matrix

    by_phonopy = PerfectLattice.from_dynamical_matrix(
        function, phonon.primitive.scaled_positions, [SILICON_MASS] * 2
    )
    q = np.random.default_rng(0).random((5, 3))
    np.testing.assert_allclose(by_phonopy.matrices(q), silicon_lattice(n).matrices(q), atol=1e-9)
    modes = [
        infinite_host_modes(lattice, mass_defect(lattice, [0, 0, 0, 1], 12.0), 0.55, mesh=6).squared
        for lattice in (by_phonopy, silicon_lattice(n))
    ]
    np.testing.assert_allclose(*modes, rtol=1e-9)
