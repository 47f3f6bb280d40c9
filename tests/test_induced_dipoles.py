"""The general model of induced dipoles: crystals and isolated sets, direct and iterated, exact forces, instabilities."""

from __future__ import annotations

import numpy as np
import pytest

from solidqmmm.errors import PolarizationCatastrophe, SolidQMMMError
from solidqmmm.physics.electrostatics.coulomb import coulomb_energy, coulomb_potential
from solidqmmm.physics.electrostatics.ewald import COULOMB, ewald_energy
from solidqmmm.physics.polarization import induced_dipoles
from solidqmmm.physics.polarization.dipole_damping import reach
from solidqmmm.physics.polarization.induced_dipoles import InducedDipoles, PolarizableSites

LAWS = ["thole", "linear", None]
CELL = np.array([[4.3, 0.0, 0.0], [0.8, 3.9, 0.0], [-0.7, 0.5, 4.6]])
DIRECT, ITERATED = 10**9, 0


def ions(n=8, seed=1, cell=CELL, **settings) -> PolarizableSites:
    """Ions near the points of a grid, all different, one of them not polarizable, neutral together."""
    rng = np.random.default_rng(seed)
    m = round(n ** (1 / 3))
    grid = np.stack(np.meshgrid(*[np.arange(m)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) / m
    x = grid @ cell + rng.normal(0, 0.1, (len(grid), 3))
    q, alpha = rng.normal(size=len(x)), rng.uniform(0.3, 1.3, len(x))
    alpha[2] = 0.0
    alpha *= {"linear": 2.0, "thole": 1.0, None: 0.5}[settings.get("damping", "thole")]
    return PolarizableSites(x, q - q.mean(), alpha, **settings)


def crystal(**settings) -> PolarizableSites:
    return ions(cell=CELL, **settings).with_positions(ions().positions, CELL)


def big(n=216, periodic=True, **settings) -> PolarizableSites:
    cell = 13.2 * np.eye(3)
    sites = ions(n, seed=4, cell=cell, **settings)
    return sites.with_positions(sites.positions, cell) if periodic else sites


def numerical(energy, x, h=1e-4):
    out = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[index] = h
        out[index] = -(energy(x + step) - energy(x - step)) / (2 * h)
    return out


# --- against sums that know no damping ------------------------------------------------------------------------


@pytest.mark.parametrize("left_handed", [False, True])
def test_undamped_crystal_is_an_ewald_sum(left_handed):
    """mu = alpha E with E, energy, forces and virial of charges and dipoles from `ewald`."""
    sites = crystal(damping=None)
    if left_handed:
        sites = sites.with_positions(
            sites.positions @ np.diag([1, 1, -1]), CELL[[1, 0, 2]] @ np.diag([1, 1, -1])
        )
    x, q, cell = sites.positions, sites.charges, sites.cell
    model = InducedDipoles(sites)
    found = model.solve()
    bare, full = ewald_energy(x, q, cell), ewald_energy(x, q, cell, dipoles=found.dipoles)
    np.testing.assert_allclose(model.permanent_fields, bare.field, atol=1e-11)
    np.testing.assert_allclose(
        found.dipoles, sites.polarizabilities[:, None] * full.field / COULOMB, atol=1e-12
    )
    self_energy = (
        0.5
        * COULOMB
        * np.sum(
            found.dipoles[[0, 1, 3, 4, 5, 6, 7]] ** 2 / sites.polarizabilities[[0, 1, 3, 4, 5, 6, 7], None]
        )
    )
    assert found.energy == pytest.approx(full.energy - bare.energy + self_energy, abs=1e-10)
    energy, forces, virial = model.permanent()
    assert energy == pytest.approx(bare.energy, abs=1e-10)
    np.testing.assert_allclose(forces, bare.forces, atol=1e-10)
    np.testing.assert_allclose(virial, bare.virial, atol=1e-10)
    induced, turned = model.forces(found.dipoles)
    np.testing.assert_allclose(forces + induced, full.forces, atol=1e-10)
    np.testing.assert_allclose(virial + turned, full.virial, atol=1e-10)


def test_undamped_cluster_is_a_direct_sum():
    sites = big(periodic=False, damping=None)
    model = InducedDipoles(sites)
    found = model.solve()
    x, q = sites.positions, sites.charges
    field = coulomb_potential(x, x, q, dipoles=found.dipoles)[1]
    np.testing.assert_allclose(found.dipoles, sites.polarizabilities[:, None] * field / COULOMB, atol=1e-12)
    energy, forces, virial = model.permanent()
    assert energy == pytest.approx(coulomb_energy(x, q)[0], rel=1e-12)
    np.testing.assert_allclose(forces, coulomb_energy(x, q)[1], atol=1e-11)
    np.testing.assert_allclose(np.trace(virial), energy, rtol=1e-11)  # of an energy that goes as 1/r


@pytest.mark.parametrize("damping", ["thole", None])
def test_a_molecule_in_a_large_cell(damping):
    """Tin foil around a cube of edge L lowers the energy by (2 pi/3) k mu^2/L^3, the rest falls faster."""
    x, q, alpha = [[0, 0, 0], [0.5, 0.2, 1.9], [-1.4, 0.9, 0.7]], [0.8, -0.5, -0.3], [0.9, 1.1, 0.7]

    def total(cell):
        model = InducedDipoles(PolarizableSites(x, q, alpha, cell=cell, damping=damping))
        found = model.solve()
        return found.energy + model.permanent()[0], found.dipoles.sum(axis=0) + q @ np.array(x)

    alone, mu = total(None)
    rest = []
    for L in (20.0, 40.0):
        expected = -2 * np.pi / 3 * COULOMB * (mu @ mu) / L**3
        rest.append(total(L * np.eye(3))[0] - alone - expected)
        assert abs(rest[-1]) < 0.05 * abs(expected)
    assert abs(rest[1]) < abs(rest[0]) / 2**4.5


def test_a_supercell_is_its_cells():
    sites = crystal()
    one = InducedDipoles(sites)
    found = one.solve()
    T = np.diag([2, 1, 2])
    shifts = np.array([[i, 0, k] for i in range(2) for k in range(2)]) @ CELL
    x = (sites.positions + shifts[:, None]).reshape(-1, 3)
    many = InducedDipoles(
        PolarizableSites(x, np.tile(sites.charges, 4), np.tile(sites.polarizabilities, 4), cell=T @ CELL)
    )
    there = many.solve()
    assert there.energy == pytest.approx(4 * found.energy, rel=1e-11)
    np.testing.assert_allclose(there.dipoles, np.tile(found.dipoles, (4, 1)), atol=1e-11)
    forces, virial = one.forces(found.dipoles)
    np.testing.assert_allclose(many.forces(there.dipoles)[0], np.tile(forces, (4, 1)), atol=1e-10)
    np.testing.assert_allclose(many.forces(there.dipoles)[1], 4 * virial, atol=1e-9)


def test_images_are_not_counted_from_where_an_atom_happens_to_be():
    sites = crystal()
    moved = sites.with_positions(sites.positions + np.random.default_rng(2).integers(-2, 3, (8, 3)) @ CELL)
    here, there = InducedDipoles(sites).solve(), InducedDipoles(moved).solve()
    np.testing.assert_allclose(there.dipoles, here.dipoles, atol=1e-11)


# --- forces ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direct_below", [DIRECT, ITERATED])
@pytest.mark.parametrize("damping", LAWS)
@pytest.mark.parametrize("make", [ions, crystal])
def test_forces_and_virial_are_the_exact_gradient(make, damping, direct_below):
    sites = make(damping=damping, excluded=[(5, 4)])
    x = sites.positions.copy()
    x[0] += 0.2 * (x[1] - x[0])
    x[7] += 0.05  # away from the distance where the linear law's forces have a step
    sites = sites.with_positions(x)
    if damping is not None:
        products = np.outer(sites.polarizabilities, sites.polarizabilities)
        assert reach(products, damping)[0, 1] > 1.05 * np.linalg.norm(
            x[0] - x[1]
        )  # at least these are damped

    def energy(x, cell=None):
        return (
            InducedDipoles(sites.with_positions(x, cell), tolerance=1e-11, direct_below=direct_below)
            .solve()
            .energy
        )

    model = InducedDipoles(sites, tolerance=1e-11, direct_below=direct_below)
    forces, virial = model.forces(model.solve().dipoles)
    np.testing.assert_allclose(forces, numerical(energy, x), atol=2e-7 * max(1, np.abs(forces).max()))
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-10)
    h, tolerance = 3e-5, 1e-6
    for a, b in ((0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (2, 0)):
        strain = np.zeros((3, 3))
        strain[a, b] += h / 2
        strain[b, a] += h / 2
        cells = [None if sites.cell is None else sites.cell @ (np.eye(3) + s * strain) for s in (1, -1)]
        up, down = (energy(x @ (np.eye(3) + s * strain), cell) for s, cell in zip((1, -1), cells))
        assert (virial[a, b] + virial[b, a]) / 2 == pytest.approx(-(up - down) / (2 * h), abs=tolerance)


@pytest.mark.parametrize("make", [ions, crystal])
def test_external_field(make):
    """dE/dE_i = -mu_i; forces by the gradient of the field, which here is E0 + G x."""
    sites, rng = make(), np.random.default_rng(6)
    E0, G = rng.normal(size=3), rng.normal(size=(3, 3))
    G = G + G.T - 2 * np.trace(G) / 3 * np.eye(3)

    def energy(x):
        return InducedDipoles(sites.with_positions(x)).solve(E0 + x @ G).energy

    x = sites.positions
    fields, model = E0 + x @ G, InducedDipoles(sites)
    found = model.solve(fields)
    derivative = numerical(lambda f: model.solve(f).energy, fields, h=1e-3)
    np.testing.assert_allclose(found.dipoles, derivative, atol=1e-9)
    forces, _ = model.forces(found.dipoles, np.tile(G, (8, 1, 1)))
    np.testing.assert_allclose(forces, numerical(energy, x), atol=1e-6)
    alone = model.respond(fields).dipoles
    np.testing.assert_allclose(alone, found.dipoles - model.solve().dipoles, atol=1e-12)


def test_single_site():
    model = InducedDipoles(PolarizableSites([[1, 2, 3]], [2.0], [1.5]))
    found = model.solve([[0.0, 0.0, 3.0]])
    np.testing.assert_allclose(found.dipoles, [[0, 0, 1.5 * 3.0 / COULOMB]])
    assert found.energy == pytest.approx(-0.5 * 1.5 * 9.0 / COULOMB)


# --- direct and iterated --------------------------------------------------------------------------------------


@pytest.mark.parametrize("periodic", [False, True])
def test_iterated_is_direct(periodic):
    sites = big(periodic=periodic)
    direct, iterated = (InducedDipoles(sites, direct_below=size) for size in (DIRECT, ITERATED))
    a, b = direct.solve(), iterated.solve()
    assert (a.iterations, direct.products) == (0, 0)
    assert 5 < b.iterations < 30
    assert b.energy == pytest.approx(a.energy, rel=1e-8)
    np.testing.assert_allclose(b.dipoles, a.dipoles, atol=2e-7 * np.abs(a.dipoles).max())
    (F, W), (F2, W2) = direct.forces(a.dipoles), iterated.forces(b.dipoles)
    np.testing.assert_allclose(F2, F, atol=1e-6 * np.abs(F).max())
    np.testing.assert_allclose(W2, W, atol=1e-6 * np.abs(W).max())
    for one, other in zip(direct.permanent(), iterated.permanent()):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-7 * np.abs(one).max())


def test_energy_has_no_first_order_error():
    sites = big(periodic=False)
    exact = InducedDipoles(sites).solve()
    rough = InducedDipoles(sites, direct_below=ITERATED, tolerance=1e-3).solve()
    error = np.abs(rough.dipoles - exact.dipoles).max() / np.abs(exact.dipoles).max()
    assert 1e-6 < error < 1e-2
    assert 0 <= rough.energy - exact.energy < 2e-6 * abs(exact.energy)


def test_a_warm_start_saves_iterations():
    model = InducedDipoles(big(), direct_below=ITERATED)
    cold = model.solve()
    fields = np.random.default_rng(3).normal(0, 1e-4, (216, 3))
    again, near = model.solve(guess=cold.dipoles), model.solve(fields, guess=cold.dipoles)
    assert again.iterations <= 2
    assert near.iterations < cold.iterations - 3
    np.testing.assert_allclose(near.dipoles, model.solve(fields).dipoles, atol=1e-7)


def test_few_polarizable_among_many_charges():
    """Sums run over polarizable sites alone where only these have dipoles."""
    sites = big(periodic=False)
    alpha = np.where(np.arange(216) % 5 == 0, sites.polarizabilities, 0.0)
    some = PolarizableSites(sites.positions, sites.charges, alpha)
    direct, iterated = (InducedDipoles(some, direct_below=size) for size in (DIRECT, ITERATED))
    a = direct.solve()
    field = direct.permanent_fields / COULOMB
    among = np.flatnonzero(alpha)
    alone = InducedDipoles(PolarizableSites(some.positions[among], np.zeros(len(among)), alpha[among]))
    np.testing.assert_allclose(
        alone.solve(COULOMB * field[among]).dipoles, a.dipoles[among], atol=1e-12 * np.abs(a.dipoles).max()
    )
    np.testing.assert_allclose(iterated.solve().dipoles, a.dipoles, atol=1e-7 * np.abs(a.dipoles).max())


def test_not_converged_is_an_error(monkeypatch):
    monkeypatch.setattr(induced_dipoles, "ITERATIONS", 2)
    with pytest.raises(SolidQMMMError, match=r"did not converge to .* in 2 iterations"):
        InducedDipoles(big(), direct_below=ITERATED).solve()


@pytest.mark.slow
@pytest.mark.parametrize("periodic", [False, True])
def test_ten_thousand_sites(periodic):
    """Build, fields and solution in 10 s of processor time."""
    from time import process_time

    base = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    grid = np.stack(np.meshgrid(*[np.arange(11)] * 3, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    mg = (grid + base).reshape(-1, 3)
    x = 4.2112 * np.vstack([mg, mg + np.array([0.5, 0, 0])])
    x += np.random.default_rng(0).normal(0, 0.05, x.shape)
    q, alpha = np.repeat([2.0, -2.0], len(mg)), np.repeat([0.09, 1.65], len(mg))
    cell = 11 * 4.2112 * np.eye(3) if periodic else None
    start = process_time()
    found = InducedDipoles(PolarizableSites(x, q, alpha, cell=cell)).solve()
    assert len(x) == 10648
    assert found.iterations < 25  # those of the probe included
    assert process_time() - start < 10


# --- parts of one ion -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("periodic", [False, True])
def test_charge_and_polarizability_of_an_ion_as_two_sites(periodic):
    """At the same place and excluded from each other they are one site, which does not feel itself."""
    whole = crystal() if periodic else ions()
    x = np.vstack([whole.positions, whole.positions[:2]])
    q = np.concatenate([whole.charges, [0.0, 0.0]])
    alpha = np.concatenate([whole.polarizabilities, whole.polarizabilities[:2]])
    alpha[:2] = 0.0
    # Damping would see the polarizability of the charge's own site.
    whole = PolarizableSites(
        whole.positions, whole.charges, 0.5 * whole.polarizabilities, cell=whole.cell, damping=None
    )
    split = PolarizableSites(x, q, 0.5 * alpha, cell=whole.cell, damping=None, excluded=[(0, 8), (9, 1)])
    one, two = InducedDipoles(whole), InducedDipoles(split)
    a, b = one.solve(), two.solve()
    assert b.energy == pytest.approx(a.energy, rel=1e-11)
    np.testing.assert_allclose(b.dipoles[[8, 9, *range(2, 8)]], a.dipoles, atol=1e-12)
    F, F2 = one.forces(a.dipoles)[0], two.forces(b.dipoles)[0]
    F2[:2] += F2[8:]
    np.testing.assert_allclose(F2[:8], F, atol=1e-10)
    assert two.permanent()[0] == pytest.approx(one.permanent()[0], rel=1e-11)


def test_two_polarizable_parts_add_up():
    """Two polarizabilities at one place that do not feel each other are their sum."""
    x, q = np.array([[0, 0, 0], [0, 0, 2.5], [0, 0, 2.5]]), [1.0, 0, 0]
    parts = PolarizableSites(x, q, [0, 0.7, 0.5], excluded=[(1, 2)])
    found = InducedDipoles(parts).solve()
    assert found.energy == pytest.approx(-0.5 * COULOMB * 1.2 / 2.5**4)


# --- instabilities --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direct_below", [DIRECT, ITERATED])
@pytest.mark.parametrize("periodic", [False, True])
def test_one_bad_pair_among_many_is_found(periodic, direct_below):
    sites = big(periodic=periodic, damping=None)
    x = sites.positions.copy()
    alpha = sites.polarizabilities.copy()
    alpha[[70, 71]] = 0.6
    x[71] = x[70] + [0.0, 0.0, 1.05]  # critical: 1.0627
    alpha[72:74] = 0.0
    good = PolarizableSites(
        x + 0.02 * (np.arange(216) == 71)[:, None] * [0, 0, 1],
        sites.charges,
        alpha,
        cell=sites.cell,
        damping=None,
    )
    InducedDipoles(good, direct_below=direct_below)  # 1.07 angstrom: no pair is critical alone
    with pytest.raises(
        PolarizationCatastrophe, match=r"sites 70 and 71, polarizabilities 0\.6 and 0\.6"
    ) as caught:
        InducedDipoles(good.with_positions(x), direct_below=direct_below)
    assert caught.value.distance == pytest.approx(1.05)
    assert caught.value.critical_distance == pytest.approx((4 * 0.36) ** (1 / 6))


@pytest.mark.parametrize("direct_below", [DIRECT, ITERATED])
@pytest.mark.parametrize("charged", [False, True])
def test_a_chain_diverges_together(direct_below, charged):
    """Two sites diverge at 1.26 angstrom, an endless chain at (4 zeta(3))^(1/3) = 1.69; even without any field."""
    x = np.zeros((40, 3))
    x[:, 2] = 1.45 * np.arange(40)
    charges = np.zeros(40)
    charges[0] = 1.0 if charged else 0.0
    with pytest.raises(PolarizationCatastrophe, match="field of others") as caught:
        InducedDipoles(
            PolarizableSites(x, charges, np.ones(40), damping=None), direct_below=direct_below
        ).solve()
    i, j = caught.value.pair
    assert abs(i - j) == 1
    assert caught.value.distance == pytest.approx(1.45)
    assert InducedDipoles(
        PolarizableSites(x * 1.17, charges, np.ones(40), damping=None), direct_below=direct_below
    ).solve()


@pytest.mark.parametrize("direct_below", [DIRECT, ITERATED])
def test_a_crystal_beyond_clausius_mossotti(direct_below):
    sites = big(damping=None)
    alpha = np.full(216, 1.02 * 13.2**3 / 216 * 3 / (4 * np.pi))
    grid = np.stack(np.meshgrid(*[np.arange(6)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) * 2.2
    with pytest.raises(PolarizationCatastrophe, match="field of others"):
        InducedDipoles(
            PolarizableSites(grid, sites.charges, alpha, cell=sites.cell, damping=None),
            direct_below=direct_below,
        ).solve()


BASES = {"sc": [[0, 0, 0]], "fcc": [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]}


def cubic_lattice(kind, repeats, level) -> PolarizableSites:
    """Equal points on a cubic lattice with 4 pi/3 alpha n = level, not damped."""
    a, base = 4.0, np.array(BASES[kind])
    cells = np.stack(np.meshgrid(*[np.arange(repeats)] * 3, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    x = a * (cells + base).reshape(-1, 3)
    alpha = level * 3 / (4 * np.pi) * a**3 / len(base)
    return PolarizableSites(x, np.zeros(len(x)), np.full(len(x), alpha), cell=repeats * a * np.eye(3), damping=None)


# The largest eigenvalue of T, in units of 4 pi n/3. fcc: the uniform polarization of Clausius and Mossotti. sc: columns of
# alternating dipoles at (1/2, 1/2, 0), 5.3511 n (J. M. Luttinger and L. Tisza, Phys. Rev. 70, 954 (1946)), which only cells
# of an even number of repeats have.
@pytest.mark.parametrize("direct_below", [DIRECT, ITERATED])
@pytest.mark.parametrize(
    ("kind", "repeats", "largest"),
    [("fcc", 1, 1.0), ("fcc", 2, 1.0), ("fcc", 3, 1.0), ("sc", 1, 1.0), ("sc", 2, 5.3511 * 3 / (4 * np.pi))],
)
def test_infinite_lattices_diverge_at_their_largest_eigenvalue(kind, repeats, largest, direct_below):
    def solved(level):
        return InducedDipoles(cubic_lattice(kind, repeats, level), direct_below=direct_below).solve()

    assert solved(0.999 / largest).energy == 0  # no field, no dipoles
    with pytest.raises(PolarizationCatastrophe, match="field of others") as caught:
        solved(1.001 / largest)
    assert caught.value.distance == pytest.approx({"sc": 4.0, "fcc": np.sqrt(8)}[kind])
    assert caught.value.distance > caught.value.critical_distance


def test_a_large_lattice_diverges_at_clausius_mossotti_too():
    """500 sites, by iteration; below the limit the response to a field is that of Clausius and Mossotti."""
    with pytest.raises(PolarizationCatastrophe):
        InducedDipoles(cubic_lattice("fcc", 5, 1.001)).solve()
    sites = cubic_lattice("fcc", 5, 0.99)
    found = InducedDipoles(sites).respond(np.tile([0.0, 0.0, 1.0], (500, 1)))
    alone = sites.polarizabilities[0] / COULOMB
    np.testing.assert_allclose(found.dipoles, np.tile([0, 0, alone / (1 - 0.99)], (500, 1)), atol=1e-5 * alone)


# --- bad input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell": np.eye(2)}, r"`cell` must be three vectors"),
        ({"cell": [[1, 0, 0], [2, 0, 0], [0, 0, 1]]}, "three independent vectors"),
        ({"cell": [[np.nan, 0, 0], [0, 9, 0], [0, 0, 9]]}, "`cell` must be finite"),
        ({"excluded": [(0, 2)]}, "pairs of two different sites below 2"),
        ({"excluded": [(1, 1)]}, "pairs of two different sites below 2"),
        (
            {"positions": np.zeros((0, 3)), "charges": [], "polarizabilities": []},
            r"`positions` must be of shape \(n, 3\)",
        ),
    ],
)
def test_bad_sites(change, message):
    good = {"positions": [[0, 0, 0], [0, 0, 3.0]], "charges": [1, -1], "polarizabilities": [1, 1]}
    with pytest.raises(ValueError, match=message):
        PolarizableSites(**(good | change))


def test_bad_fields():
    model = InducedDipoles(ions())
    with pytest.raises(ValueError, match=r"`fields` must be finite, of shape \(8, 3\)"):
        model.solve(np.full((8, 3), np.nan))
    with pytest.raises(ValueError, match="`dipoles` must be finite"):
        model.forces(np.zeros((7, 3)))
    with pytest.raises(ValueError, match="sites 0 and 1 are at the same place"):
        InducedDipoles(PolarizableSites([[0, 0, 0], [9, 0, 0]], [1, -1], [1, 1], cell=9 * np.eye(3)))
    with pytest.raises(ValueError, match="excluded sites 0 and 1 must be nearer than"):
        InducedDipoles(
            PolarizableSites([[0, 0, 0], [40, 0, 0]], [1, -1], [1, 1], cell=80 * np.eye(3), excluded=[(0, 1)])
        )
