"""Ewald sums: exact lattices, derivatives, invariances, dipoles, Gaussians, dielectrics, and pymatgen's own sum."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from scipy.special import erf

from solidqmmm.physics.electrostatics.ewald import COULOMB, ewald_energy, ewald_potential

CELL = np.array([[7.0, 0.3, 0], [3.4, 6.0, 0.1], [-2.8, 2.9, 8.0]])
VOLUME = np.linalg.det(CELL)
RNG = np.random.default_rng(7)
POSITIONS = (
    np.array([[0.2, 0.1, 0.0], [0.55, 0.3, 0.4], [0.1, 0.7, 0.6], [0.8, 0.75, 0.2], [0.45, 0.1, 0.8]]) @ CELL
)
CHARGES = np.array([1.3, -0.7, 0.4, -1.9, 1.1])
DIPOLES = RNG.normal(scale=0.3, size=(5, 3))
WIDTHS = np.array([0.0, 0.15, 0.5, 1.1, 0.15])
TENSOR = np.array([[3.0, 0.4, -0.2], [0.4, 2.0, 0.1], [-0.2, 0.1, 5.0]])
PROBES = np.array([[0.31, 0.52, 0.13], [0.71, 0.42, 0.55], [0.97, 0.06, 0.88]]) @ CELL

CASES = {
    "charges": {},
    "dipoles": {"dipoles": DIPOLES},
    "Gaussians": {"sigma": WIDTHS},
    "medium": {"dielectric": 4.0, "dipoles": DIPOLES, "sigma": WIDTHS},
    "crystal": {"dielectric": TENSOR, "dipoles": DIPOLES},
    "wide in a crystal": {
        "dielectric": TENSOR,
        "dipoles": DIPOLES,
        "sigma": np.where(WIDTHS > 0, WIDTHS + 0.8, 0),
    },
}
each_case = pytest.mark.parametrize("options", CASES.values(), ids=CASES)


def potential(points, *, positions=POSITIONS, cell=CELL, derivatives=2, **options):
    return ewald_potential(
        points, positions, CHARGES, cell, derivatives=derivatives, background=True, **options
    )


def energy(*, positions=POSITIONS, cell=CELL, **options):
    return ewald_energy(positions, CHARGES, cell, background=True, **options)


def five_points(f, h=2e-3):
    """f'(0) to fourth order."""
    return (8 * (f(h) - f(-h)) - f(2 * h) + f(-2 * h)) / (12 * h)


@each_case
def test_splitting_does_not_matter(options):
    points = np.concatenate([PROBES, POSITIONS + CELL[0] - CELL[2]])
    values, at_ions = potential(points, **options), energy(**options)
    for splitting in (0.3, 0.55, 0.9):
        for expected, found in zip(values, potential(points, splitting=splitting, **options)):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 * np.abs(expected).max())
        again = energy(splitting=splitting, **options)
        for name in ("energy", "forces", "virial", "potential", "field"):
            expected = getattr(at_ions, name)
            np.testing.assert_allclose(
                getattr(again, name), expected, rtol=0, atol=1e-11 * np.abs(expected).max(), err_msg=name
            )


@each_case
def test_field_and_gradient_are_derivatives(options):
    value, field, gradient = potential(PROBES, **options)

    def moved(axis, k):
        return five_points(lambda h: potential(PROBES + h * np.eye(3)[axis], derivatives=k, **options)[k])

    np.testing.assert_allclose(field, -np.stack([moved(a, 0) for a in range(3)], axis=1), atol=1e-8)
    np.testing.assert_allclose(gradient, np.stack([moved(a, 1) for a in range(3)], axis=2), atol=1e-8)
    np.testing.assert_allclose(gradient, gradient.transpose(0, 2, 1), atol=1e-10)
    for k in (0, 1):
        shorter = potential(PROBES, derivatives=k, **options)
        assert len(shorter) == k + 1
        np.testing.assert_allclose(shorter[k], (value, field)[k], atol=1e-12 * np.abs(value).max())


@each_case
def test_forces_and_virial_are_derivatives(options):
    result = energy(**options)

    def strained(a, b):
        def f(h):
            deformation = np.eye(3)
            deformation[a, b] += h
            return energy(positions=POSITIONS @ deformation, cell=CELL @ deformation, **options).energy

        return -five_points(f)

    def shifted(i, a):
        def f(h):
            positions = POSITIONS.copy()
            positions[i, a] += h
            return energy(positions=positions, **options).energy

        return -five_points(f)

    forces = [[shifted(i, a) for a in range(3)] for i in (0, 3)]
    np.testing.assert_allclose(result.forces[[0, 3]], forces, atol=2e-8)
    virial = [[strained(a, b) for b in range(3)] for a in range(3)]
    np.testing.assert_allclose(result.virial, virial, atol=2e-8)
    np.testing.assert_allclose(result.stress, -result.virial / VOLUME, rtol=1e-14)
    assert np.abs(result.forces.sum(axis=0)).max() < 1e-10


def test_field_is_the_derivative_by_dipoles_and_potential_by_charges():
    result = energy(dipoles=DIPOLES)

    def f(h):
        return energy(dipoles=DIPOLES + h * np.eye(5, 3)).energy

    assert -five_points(f) == pytest.approx(np.trace(result.field), abs=1e-9)
    weights = np.array([1, -2, 0.5, 3, 0.1])
    energies = [
        ewald_energy(POSITIONS, CHARGES + s * weights, CELL, dipoles=DIPOLES, background=True).energy
        for s in (1, -1)
    ]
    assert (energies[0] - energies[1]) / 2 == pytest.approx(weights @ result.potential, abs=1e-10)


@each_case
def test_energy_is_the_sum_over_sites(options):
    result = energy(**options)
    dipoles = options.get("dipoles", np.zeros((5, 3)))
    assert result.energy == pytest.approx(
        0.5 * (CHARGES @ result.potential - np.sum(dipoles * result.field)), abs=1e-11
    )
    if "sigma" not in options:
        value, field = potential(POSITIONS, derivatives=1, **options)
        np.testing.assert_allclose(result.potential, value, atol=1e-11)
        np.testing.assert_allclose(result.field, field, atol=1e-11)


@each_case
def test_translations_images_and_other_cells_of_the_lattice(options):
    points = np.concatenate([PROBES, POSITIONS])
    images = RNG.integers(-3, 4, (5, 3)) @ CELL
    skewed = np.array([[1, 0, 0], [3, 1, 0], [-2, 4, -1]]) @ CELL  # left-handed as well
    shift = np.array([0.3, -11.7, 5.1])
    moved = potential(points + shift, positions=POSITIONS + images + shift, cell=skewed, **options)
    for expected, found in zip(potential(points, **options), moved):
        np.testing.assert_allclose(found, expected, atol=1e-10)


@each_case
def test_rotations(options):
    Q = Rotation.from_rotvec([0.4, -1.1, 0.7]).as_matrix()
    turned = dict(options)
    if "dipoles" in options:
        turned["dipoles"] = options["dipoles"] @ Q.T
    if np.ndim(options.get("dielectric", 1.0)):
        turned["dielectric"] = Q @ options["dielectric"] @ Q.T
    a, b = energy(**options), energy(positions=POSITIONS @ Q.T, cell=CELL @ Q.T, **turned)
    assert b.energy == pytest.approx(a.energy, abs=1e-10)
    np.testing.assert_allclose(b.forces, a.forces @ Q.T, atol=1e-10)
    np.testing.assert_allclose(b.virial, Q @ a.virial @ Q.T, atol=1e-9)


def test_supercell():
    repeats = np.array([[2, 0, 1], [0, 1, -1], [0, 0, 2]])
    shifts = np.array([[i, 0, k] for i in range(2) for k in range(2)]) @ CELL
    positions, n = np.concatenate([POSITIONS + s for s in shifts]), len(shifts)
    small = ewald_energy(POSITIONS, CHARGES, CELL, dipoles=DIPOLES, background=True)
    large = ewald_energy(
        positions, np.tile(CHARGES, n), repeats @ CELL, dipoles=np.tile(DIPOLES, (n, 1)), background=True
    )
    assert large.energy == pytest.approx(n * small.energy, abs=1e-10)
    np.testing.assert_allclose(large.forces, np.tile(small.forces, (n, 1)), atol=1e-10)
    np.testing.assert_allclose(large.stress, small.stress, atol=1e-12)


def test_dipoles_are_pairs_of_charges():
    h, direction = 2e-3, DIPOLES / np.linalg.norm(DIPOLES, axis=1)[:, None]
    strength = np.linalg.norm(DIPOLES, axis=1) / h
    positions = np.concatenate([POSITIONS, POSITIONS + h / 2 * direction, POSITIONS - h / 2 * direction])
    pairs = ewald_potential(
        PROBES, positions, np.r_[CHARGES, strength, -strength], CELL, derivatives=2, background=True
    )
    for expected, found in zip(potential(PROBES, dipoles=DIPOLES), pairs):
        np.testing.assert_allclose(found, expected, atol=1e-5)  # the pairs' octupoles, of order h^2


def test_dipole_lattices():
    # Cubic sites feel nothing from within a sphere, and from beyond it the Lorentz field P/(3 eps0): tin foil adds none.
    p = np.array([[0.3, -0.2, 0.5]])
    (field,) = ewald_potential([[0, 0, 0]], [[0, 0, 0]], [0.0], 3 * np.eye(3), dipoles=p)[1]
    np.testing.assert_allclose(field, COULOMB * 4 * np.pi / 3 * p[0] / 27, rtol=1e-12)


@pytest.mark.parametrize("dielectric", [1.0, 3.0, TENSOR], ids=["vacuum", "medium", "crystal"])
def test_gauss_law(dielectric):
    """div(eps E) is what remains of the density: the background between the charges."""
    _, _, gradient = potential(np.concatenate([PROBES, POSITIONS]), dielectric=dielectric)
    eps = dielectric * np.eye(3) if np.ndim(dielectric) == 0 else dielectric
    divergence = np.einsum("ab,mba->m", eps, gradient)
    np.testing.assert_allclose(divergence, -4 * np.pi * COULOMB * CHARGES.sum() / VOLUME, rtol=1e-9)


def test_density_of_gaussians():
    sigma = 0.4
    points = POSITIONS[3] + np.array([[0, 0, 0], [0.3, 0, 0], [0.2, -0.5, 0.4]])
    gradient = potential(points, sigma=sigma, exclude_self=False)[2]
    r = np.array([np.linalg.norm(points - POSITIONS[3], axis=1)]).T
    others = np.linalg.norm(points[:, None] - np.delete(POSITIONS, 3, axis=0), axis=2)
    assert others.min() > 7 * sigma
    density = CHARGES[3] * np.exp(-(r[:, 0] ** 2) / (2 * sigma**2)) / (2 * np.pi * sigma**2) ** 1.5
    expected = 4 * np.pi * COULOMB * (density - CHARGES.sum() / VOLUME)
    np.testing.assert_allclose(np.trace(gradient, axis1=1, axis2=2), expected, rtol=1e-8)


@pytest.mark.parametrize("sigma", [0.0, 0.3, 1.2])
def test_a_source_leaves_itself_out_at_its_place(sigma):
    """The limit of the potential near a source, less its own closed form."""
    here, step = POSITIONS[1], np.array([2e-4, 1e-4, -2e-4])
    excluded, field = potential(here[None], sigma=sigma, derivatives=1)
    near = [potential((here + s * step)[None], sigma=sigma, derivatives=0)[0][0] for s in (1, -1)]
    r = np.linalg.norm(step)
    own = COULOMB * CHARGES[1] * (erf(r / (np.sqrt(2) * sigma)) if sigma else 1.0) / r
    assert np.mean(near) - own == pytest.approx(excluded[0], abs=1e-6)
    assert (near[1] - near[0]) / 2 == pytest.approx(field[0] @ step, abs=1e-7)
    if sigma:
        kept = potential(here[None], sigma=sigma, derivatives=0, exclude_self=False)[0][0]
        assert kept - excluded[0] == pytest.approx(
            COULOMB * CHARGES[1] * np.sqrt(2 / np.pi) / sigma, rel=1e-12
        )


def test_a_gaussian_leaves_itself_out_in_a_crystal():
    options = {"sigma": 0.9, "dielectric": TENSOR, "dipoles": DIPOLES}
    excluded = potential(POSITIONS, **options)
    # Adding the missing source as the only one in a large cell, where its images are far and their field is known.
    for i in (1, 4):
        kept = potential(POSITIONS[i : i + 1], exclude_self=False, **options)
        for k in range(3):
            alone = [
                ewald_potential(
                    [[0, 0, 0]], [[0, 0, 0]], CHARGES[i : i + 1], 12 * np.eye(3), derivatives=2, background=True,
                    sigma=0.9, dielectric=TENSOR, dipoles=DIPOLES[i : i + 1], exclude_self=own,
                )[k][0]
                for own in (False, True)
            ]  # fmt: skip
            np.testing.assert_allclose(kept[k][0] - excluded[k][i], alone[0] - alone[1], atol=1e-10)


def test_average_potential_is_zero():
    n = 24
    mesh = (np.indices((n, n, n)).reshape(3, -1).T + 0.5) / n @ CELL
    (value,) = potential(mesh, derivatives=0, sigma=0.6, dielectric=2.0)
    assert np.mean(value) == pytest.approx(0.0, abs=1e-10)


def test_lone_wide_gaussians():
    """A few waves are all that is left of very wide Gaussians, and then nothing."""
    cell, sigma = np.diag([6.0, 6.0, 6.0]), 2.4
    points = np.array([[0.0, 0, 0], [1.3, 0, 0], [2.0, 1.0, -0.4]])
    (value,) = ewald_potential(points, np.zeros((1, 3)), [1.0], cell, sigma=sigma, background=True, derivatives=0,
                               exclude_self=False)  # fmt: skip
    h = np.indices((7, 7, 7)).reshape(3, -1).T - 3
    G = 2 * np.pi / 6 * h[np.any(h, axis=1)]
    square = np.sum(G**2, axis=1)
    waves = 4 * np.pi * COULOMB / 216 * np.cos(points @ G.T) @ (np.exp(-square * sigma**2 / 2) / square)
    np.testing.assert_allclose(value, waves, rtol=1e-10)
    (value,) = ewald_potential(points, np.zeros((1, 3)), [1.0], cell, sigma=20, background=True, derivatives=0,
                               exclude_self=False)  # fmt: skip
    np.testing.assert_allclose(value, 0, atol=1e-12)


def test_gaussians_interact_as_densities():
    """U of Gaussians is an integral of their density with the potential, done on a mesh."""
    widths, n = np.array([0.6, 0.6, 0.8, 0.9, 0.7]), 40
    mesh = np.indices((n, n, n)).reshape(3, -1).T / n @ CELL
    (value,) = potential(mesh, derivatives=0, sigma=widths, exclude_self=False)
    shifts = np.indices((5, 5, 5)).reshape(3, -1).T - 2
    density = np.zeros(len(mesh))
    for position, q, s in zip(POSITIONS, CHARGES, widths):
        for shift in shifts @ CELL:
            square = np.sum((mesh - position - shift) ** 2, axis=1)
            density += q * np.exp(-square / (2 * s**2)) / (2 * np.pi * s**2) ** 1.5
    integral = 0.5 * value @ density * VOLUME / n**3
    own = COULOMB * np.sum(CHARGES**2 / (2 * np.sqrt(np.pi) * widths))
    assert energy(sigma=widths).energy + own == pytest.approx(integral, abs=1e-9)


def test_anisotropic_medium_is_a_deformed_crystal():
    eps = np.diag([2.0, 3.0, 7.0])
    S = np.diag(1 / np.sqrt(np.diag(eps)))
    value = potential(PROBES, dielectric=eps, derivatives=0)[0]
    deformed = potential(PROBES @ S, positions=POSITIONS @ S, cell=CELL @ S, derivatives=0)[0]
    np.testing.assert_allclose(value, deformed / np.sqrt(42.0), rtol=1e-11)


def test_pymatgen_agrees():
    from pymatgen.analysis.ewald import EwaldSummation
    from pymatgen.core import Structure

    charges = np.array([1.5, -1.0, 2.0, -3.0, 0.5])
    structure = Structure(
        CELL, ["Na", "Cl", "Mg", "N", "K"], POSITIONS, coords_are_cartesian=True, site_properties={}
    )
    structure.add_oxidation_state_by_site(charges)
    other = EwaldSummation(structure, acc_factor=16, compute_forces=True)
    result = ewald_energy(POSITIONS, charges, CELL)
    constants = COULOMB / EwaldSummation.CONV_FACT
    assert result.energy == pytest.approx(constants * other.total_energy, abs=1e-10)
    np.testing.assert_allclose(result.forces, constants * other.forces, atol=1e-9)
    assert np.trace(result.virial) == pytest.approx(
        result.energy, abs=1e-10
    )  # Clausius, for forces of degree -2


def test_direct_sum():
    """Cells of CsCl type without dipole, a ball of them summed directly, which leaves a surface potential."""
    a, point = 3.0, np.array([0.7, 0.2, 0.4])
    shifts = a * (np.indices((61, 61, 61)).reshape(3, -1).T - 30)
    corners = a * np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])

    def lattice(site):
        return np.sum(1 / np.linalg.norm(shifts + site - point, axis=1))

    direct = COULOMB * (np.mean([lattice(corner) for corner in corners]) - lattice(np.full(3, a / 2)))
    (value,) = ewald_potential([point], [[0, 0, 0], [a / 2] * 3], [1.0, -1.0], a * np.eye(3), derivatives=0)
    # The average potential of a crystal of such cells, whose second moment is spherical, is -(2 pi/3) (k/V) sum q r^2.
    moment = 3 * (a / 2) ** 2
    assert direct - value[0] == pytest.approx(-2 * np.pi / 3 * COULOMB / a**3 * moment, abs=2e-3)


def test_few_points_far_away_and_many_chunks(monkeypatch):
    import solidqmmm.physics.electrostatics.ewald_real as real
    import solidqmmm.physics.electrostatics.ewald_reciprocal as reciprocal

    points = RNG.uniform(size=(70, 3)) @ CELL + 40 * CELL[1]
    whole = potential(points, dipoles=DIPOLES)
    monkeypatch.setattr(real, "PAIRS", 500)
    monkeypatch.setattr(reciprocal, "CHUNK", 3)
    for a, b in zip(whole, potential(points, dipoles=DIPOLES)):
        np.testing.assert_allclose(a, b, atol=1e-10)


def test_refusals():
    with pytest.raises(ValueError, match=r"positive charges of \+2\.8 e and negative ones of -2\.6"):
        ewald_potential(PROBES, POSITIONS, CHARGES, CELL)
    with pytest.raises(ValueError, match="point 1 coincides with a point charge"):
        potential(np.array([PROBES[0], POSITIONS[2] - CELL[1]]), exclude_self=False)
    with pytest.raises(ValueError, match="symmetric 3x3 tensor"):
        energy(dielectric=np.triu(np.ones((3, 3))))
    with pytest.raises(ValueError, match="positive in every direction"):
        energy(dielectric=np.diag([1.0, 2.0, -1.0]))
    with pytest.raises(ValueError, match="`dipoles` must be"):
        energy(dipoles=DIPOLES[:2])
    with pytest.raises(ValueError, match="independent vectors"):
        energy(cell=np.ones((3, 3)))
    with pytest.raises(ValueError, match="`sigma` must not be negative"):
        energy(sigma=-1.0)
    with pytest.raises(ValueError, match="`derivatives` must be"):
        potential(PROBES, derivatives=3)
