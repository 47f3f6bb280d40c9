"""Fields of cracks: closed forms of isotropic solids, published numbers, Hooke's law, the J integral; strips."""

from __future__ import annotations

import numpy as np
import pytest
from ase.units import GPa, m
from matscipy.elasticity import rotate_cubic_elastic_constants, rotate_elastic_constants

from solidqmmm.physics.cracks import strip_fields
from solidqmmm.physics.cracks.crack_fields import CrackField, J_per_m2, MPa_sqrt_m
from solidqmmm.physics.elastic.ideal_strength import first_peak

SW = (151.4244, 76.4221, 56.4493)  # GPa, Stillinger-Weber silicon
T3 = (142.5124, 75.3641, 69.0129)
HEXAGONAL = {"11": 162.0, "12": 92.0, "13": 69.0, "33": 181.0, "44": 47.0}  # GPa, near those of titanium


def axes(plane, front):
    y, z = np.array(plane) / np.linalg.norm(plane), np.array(front) / np.linalg.norm(front)
    return np.array([np.cross(y, z), y, z])


def cubic(constants, plane, front):
    return CrackField(rotate_cubic_elastic_constants(*constants, axes(plane, front)) * GPa)


def hexagonal(rotation=None):
    c = HEXAGONAL
    C = np.diag([c["11"], c["11"], c["33"], c["44"], c["44"], (c["11"] - c["12"]) / 2])
    C[0, 1] = C[1, 0] = c["12"]
    C[[0, 1, 2, 2], [2, 2, 0, 1]] = c["13"]
    return CrackField((C if rotation is None else rotate_elastic_constants(C, rotation)) * GPa)


def isotropic(E=100 * GPa, nu=0.3):
    mu = E / 2 / (1 + nu)
    C = np.diag([2 * mu] * 3 + [mu] * 3)
    C[:3, :3] += E * nu / (1 + nu) / (1 - 2 * nu)
    return C


def muskhelishvili(x, y, K_I, K_II, E, nu):
    """Displacements and stresses of a straight cut, by N. I. Muskhelishvili's complex potentials.

    With phi = (K_I - i K_II) sqrt(z/2 pi) and Phi its derivative,
    2 mu (u + i v) = kappa phi(z) - phi(conj z) - (z - conj z) conj(Phi(z)),   sigma_xx + sigma_yy = 4 Re Phi(z),
    sigma_yy - i sigma_xy = Phi(z) + Phi(conj z) + (z - conj z) conj(Phi'(z)).
    """
    z, mu, kappa = x + 1j * y, E / 2 / (1 + nu), 3 - 4 * nu
    k = (K_I - 1j * K_II) * MPa_sqrt_m

    def root(z):
        return np.sqrt(z / (2 * np.pi))

    derivative = k / (2 * np.sqrt(2 * np.pi * z))
    u = (kappa * k * root(z) - k * root(np.conj(z)) - (z - np.conj(z)) * np.conj(derivative)) / (2 * mu)
    second = -k / (4 * np.sqrt(2 * np.pi) * z**1.5)
    Omega = k / (2 * np.sqrt(2 * np.pi * np.conj(z)))
    trace = 4 * derivative.real
    yy_xy = derivative + Omega + (z - np.conj(z)) * np.conj(second)  # sigma_yy - i sigma_xy
    return np.stack([u.real, u.imag], axis=-1), np.stack(
        [trace - yy_xy.real, yy_xy.real, -yy_xy.imag], axis=-1
    )


@pytest.fixture
def points():
    return np.random.default_rng(3).normal(scale=15.0, size=(2, 60))


# --- isotropic solids -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("load", [(1.0, 0.0), (0.0, 1.0), (0.7, -0.4)])
def test_isotropic_solid_has_the_field_of_complex_potentials(points, load):
    x, y = points
    u, sigma = muskhelishvili(x, y, *load, 100 * GPa, 0.3)
    field = CrackField(isotropic())
    np.testing.assert_allclose(field.displacements(x, y, *load)[:, :2], u, rtol=0, atol=1e-10)
    np.testing.assert_allclose(field.stresses(x, y, *load)[:, [0, 1, 5]], sigma, rtol=0, atol=1e-12)


def test_isotropic_solid_has_the_field_of_matscipy(points):
    from matscipy.fracture_mechanics.crack import isotropic_modeI_crack_tip_displacement_field as reference

    x, y = points
    mu = 100 * GPa / 2.6
    u, v = reference(MPa_sqrt_m, mu, 0.3, np.hypot(x, y), np.arctan2(y, x))
    found = CrackField(isotropic()).displacements(x, y, K_I=1.0)
    np.testing.assert_allclose(found, np.stack([u, v, 0 * u], axis=1), rtol=0, atol=1e-10)


def test_formula_of_anisotropic_solids_has_the_isotropic_limit(points):
    """Stroh's eigenvalues coincide there: the limit is taken from both sides."""
    exact, limit = CrackField(isotropic()), CrackField(isotropic())
    limit.__dict__["_kind"] = "general"
    for of in ("displacements", "stresses"):
        a, b = (getattr(field, of)(*points, 0.8, 0.5) for field in (exact, limit))
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-10 * np.abs(a).max())


@pytest.mark.parametrize("part", [1e-12, 1e-7, 1e-5, 1e-3])
def test_nearly_isotropic_solids_are_near_the_isotropic_one(points, part):
    C = isotropic()
    C[0, 0] *= 1 + part
    u, near = (CrackField(c).displacements(*points, 1.0, 0.3) for c in (isotropic(), C))
    assert np.abs(near - u).max() < 2 * part * np.abs(u).max() + 1e-9


def test_isotropic_griffith_load():
    """K = sqrt(2 gamma E / (1 - nu^2))."""
    field = CrackField(isotropic())
    for mode in ("I", "II"):
        assert field.stress_intensity(2.0, mode) == pytest.approx(0.46880723, abs=1e-8)
    assert field.energy_release_rate(K_I=3.0, K_II=4.0) == pytest.approx(25 * 0.91 / 100e9 * 1e12, rel=1e-10)


# --- anisotropic solids -----------------------------------------------------------------------------------------------

# Computed with matscipy alone: K_I = 1, surface (111), front [1-10].
NEAR_TIP = [
    (3, 0, 0.58301063, 0.0),
    (3, 45, 0.70661686, 0.28957698),
    (3, 90, 0.85180270, 0.86822290),
    (3, 135, 0.60006643, 1.64312802),
    (3, 180, -0.05572348, 1.98607581),
    (3, -60, 0.82686416, -0.44388675),
    (10, 45, 1.29009998, 0.52869281),
    (10, 90, 1.55517184, 1.58515089),
    (10, 180, -0.10173669, 3.62606174),
    (10, -60, 1.50964051, -0.81042261),
]


def test_displacements_in_silicon():
    r, theta, ux, uy = np.array(NEAR_TIP).T
    theta = np.radians(theta)
    u = cubic(SW, (1, 1, 1), (1, -1, 0)).displacements(r * np.cos(theta), r * np.sin(theta), K_I=1.0)
    np.testing.assert_allclose(u, np.stack([ux, uy, 0 * ux], axis=1), rtol=0, atol=1e-6)


def test_the_same_plane_seen_from_the_other_side():
    u = cubic(SW, (1, 1, 1), (-1, 1, 0)).displacements([-10.0, 0.0], [0.0, 10.0], K_I=1.0)
    np.testing.assert_allclose(
        u[:, :2], [[0.10173669, 3.62606174], [1.69460759, 1.63884829]], rtol=0, atol=1e-6
    )


@pytest.mark.parametrize(
    ("constants", "gamma", "plane", "front", "K"),
    [
        (SW, 1.36003, (1, 1, 1), (1, -1, 0), 0.61526),
        (SW, 1.66569, (1, 1, 0), (1, -1, 0), 0.68775),
        (SW, 1.66569, (1, 1, 0), (0, 0, 1), 0.65944),
        (T3, 1.1997, (1, 1, 1), (1, -1, 0), 0.59809),
        (T3, 1.5214, (1, 1, 0), (1, -1, 0), 0.68660),
        (T3, 1.5214, (1, 1, 0), (0, 0, 1), 0.63308),
    ],
)
def test_griffith_loads_in_silicon(constants, gamma, plane, front, K):
    assert cubic(constants, plane, front).stress_intensity(2 * gamma) == pytest.approx(K, rel=1e-4)


def test_a_front_off_the_mirror_planes_mixes_in_plane_and_antiplane_strain():
    """(111)[11-2]: matscipy leaves the mixing out and finds 0.61218."""
    field = cubic(SW, (1, 1, 1), (1, 1, -2))
    assert np.abs(field.displacements(3.0, 4.0, K_I=1.0)[2]) > 0.01
    K = field.stress_intensity(2 * 1.36003)
    assert 0.61218 < K < 1.003 * 0.61218


FIELDS = {
    "silicon": lambda: cubic(SW, (1, 1, 1), (1, -1, 0)),
    "mixing": lambda: cubic(T3, (1, 1, 1), (1, 1, -2)),
    "low symmetry": lambda: cubic(SW, (1, 2, 3), (1, 1, -1)),
    "basal plane": lambda: hexagonal(np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])),
    "front along c": hexagonal,
    "pyramidal": lambda: hexagonal(axes((0, 3, 2), (1, 0, 0))),
}


@pytest.fixture(params=FIELDS)
def field(request):
    return FIELDS[request.param]()


def gradients(field, x, y, load, h=1e-4):
    along = (field.displacements(x + h, y, *load) - field.displacements(x - h, y, *load)) / (2 * h)
    up = (field.displacements(x, y + h, *load) - field.displacements(x, y - h, *load)) / (2 * h)
    return along, up


def test_stress_is_that_of_the_strain_in_plane_strain(field, points):
    x, y = points
    load = (0.9, 0.6)
    along, up = gradients(field, x, y, load)
    zero = np.zeros(len(x))
    strain = np.stack([along[:, 0], up[:, 1], zero, up[:, 2], along[:, 2], along[:, 1] + up[:, 0]], axis=1)
    sigma = field.stresses(x, y, *load)
    np.testing.assert_allclose(strain @ field.C, sigma, rtol=0, atol=1e-7 * np.abs(sigma).max())


def test_flanks_are_free_and_the_plane_ahead_carries_K(field):
    behind = np.array([[5.0, 5.0], [np.pi, -np.pi]])
    x, y = behind[0] * np.cos(behind[1]), behind[0] * np.sin(behind[1])
    scale = np.abs(field.stresses(5.0, 0.0, 1.0, 0.5)).max()
    assert np.abs(field.stresses(x, y, 1.0, 0.5)[:, [1, 3, 5]]).max() < 1e-7 * scale
    ahead = field.stresses(10.0, 0.0, 1.0, 0.5)
    K = MPa_sqrt_m / np.sqrt(2 * np.pi * 10.0)
    np.testing.assert_allclose(ahead[[1, 5, 3]], [K, K / 2, 0.0], rtol=0, atol=1e-9 * K)


def test_G_is_the_J_integral(field):
    """J = int W dy - t . du/dx ds around the tip, from the lower flank to the upper."""
    load = (0.9, 0.6)
    theta, weight = np.polynomial.legendre.leggauss(200)
    theta, weight = np.pi * theta, np.pi * weight
    c, s, r = np.cos(theta), np.sin(theta), 4.0
    sigma = field.stresses(r * c, r * s, *load)
    along, up = gradients(field, r * c, r * s, load)
    zero = 0 * c
    strain = np.stack([along[:, 0], up[:, 1], zero, up[:, 2], along[:, 2], along[:, 1] + up[:, 0]], axis=1)
    W = 0.5 * (sigma * strain).sum(axis=1)
    t = np.stack(
        [
            sigma[:, 0] * c + sigma[:, 5] * s,
            sigma[:, 5] * c + sigma[:, 1] * s,
            sigma[:, 4] * c + sigma[:, 3] * s,
        ],
        axis=1,
    )
    J = r * weight @ (W * c - (t * along).sum(axis=1)) / J_per_m2
    assert pytest.approx(J, rel=1e-6) == field.energy_release_rate(*load)


def test_points_on_the_crack_belong_to_its_upper_flank():
    field = cubic(SW, (1, 1, 1), (1, -1, 0))
    u = field.displacements(np.full(2, -5.0), np.array([0.0, -0.0]), K_I=1.0)
    assert u[0, 1] == u[1, 1] > 0


def test_units():
    assert MPa_sqrt_m == pytest.approx(1e-3 * GPa * np.sqrt(m), rel=1e-12)
    assert J_per_m2 == pytest.approx(0.0624150907, rel=1e-7)


@pytest.mark.parametrize("change", [-1.0, 0.0])
def test_unstable_solids_are_refused(change):
    C = isotropic()
    C[3, 3] *= change
    with pytest.raises(ValueError, match="not positive definite"):
        CrackField(C)


def test_wrong_loads_are_refused():
    field = CrackField(isotropic())
    with pytest.raises(ValueError, match="must not be negative"):
        field.stress_intensity(-1.0)
    with pytest.raises(ValueError, match="must be 'I'"):
        field.stress_intensity(1.0, "III")


# --- strips -----------------------------------------------------------------------------------------------------------


def test_strain_of_a_strip_is_the_published_one():
    """Silicon's E(111) = 142.846 GPa and nu = 0.26526 in a strip of 91.715 A at 5 J/m^2."""
    M = strip_fields.moduli(isotropic(142.846 * GPa, 0.26526)).free
    assert strip_fields.strain_for(5.0, 91.715, M) == pytest.approx(0.084237, abs=1e-6)
    assert strip_fields.energy_release_rate(0.084237, 91.715, M) == pytest.approx(5.0, abs=1e-4)


def test_moduli_of_a_strip():
    E, nu = 100 * GPa, 0.3
    found = strip_fields.moduli(isotropic(E, nu))
    assert found.free == pytest.approx(E / (1 - nu**2), rel=1e-12)
    assert found.held == pytest.approx(E * (1 - nu) / (1 + nu) / (1 - 2 * nu), rel=1e-12)
    assert strip_fields.moduli(isotropic(E, nu), "II").free == pytest.approx(E / 2 / (1 + nu), rel=1e-12)


def test_displacements_of_a_strip_solve_its_boundary_problem():
    h, strain = 80.0, 0.05

    def w(x, y, mode="I"):
        return strip_fields.displacements(x, y, strain, h, mode)[..., 1 if mode == "I" else 0]

    y = np.linspace(-h / 2, h / 2, 9)[1:-1]
    np.testing.assert_allclose(w(np.full(7, 5 * h), y), strain * y, atol=1e-12)
    np.testing.assert_allclose(
        w(np.full(7, -5 * h), y), np.sign(y) * strain * h / 2 + (y == 0) * 2, atol=1e-6
    )
    edge = np.linspace(-3 * h, 3 * h, 7)
    np.testing.assert_allclose(w(edge, h / 2), strain * h / 2, rtol=1e-12)
    np.testing.assert_allclose(w(edge, -h / 2 - 7), -strain * h / 2, rtol=1e-12)
    np.testing.assert_allclose(w(np.array([1.0, 30.0]), 0.0), 0.0, atol=1e-12)
    d = 1e-3
    assert abs(w(-20.0, d) - w(-20.0, 2 * d)) < 1e-6 * strain * h  # no flux through the flank
    x, y = np.array([-30.0, -3.0, 4.0, 50.0]), np.array([7.0, -20.0, 3.0, -11.0])
    laplacian = w(x + d, y) + w(x - d, y) + w(x, y + d) + w(x, y - d) - 4 * w(x, y)
    assert np.abs(laplacian).max() < 1e-9 * strain * h
    # opens as the root of the distance, and mode II moves the same along x
    assert w(-0.04, 0.0) / w(-0.01, 0.0) == pytest.approx(2.0, abs=1e-3)
    np.testing.assert_array_equal(w(x, y, "II"), w(x, y))


def test_first_peak_of_a_stress():
    strains = np.linspace(0, 1, 101)
    assert first_peak(strains, np.sin(3 * strains)) == pytest.approx((np.pi / 6, 1.0), abs=1e-4)
    assert first_peak(strains[:40], np.sin(3 * strains[:40])) is None
