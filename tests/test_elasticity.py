"""Finite strain and stress, fits of strain series, third-order constants, moduli, stability and defects.

The crystal of most tests is hyperelastic, U(E) = C:E:E/2 + T:E:E:E/6 in full tensors, so that every derivative is known.
"""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from pymatgen.core.elasticity.elastic import ElasticTensor, ElasticTensorExpansion
from pymatgen.core.elasticity.strain import Deformation
from pymatgen.core.elasticity.stress import Stress
from pymatgen.symmetry.groups import PointGroup
from scipy.spatial.transform import Rotation

from solidqmmm.physics import elasticity
from solidqmmm.physics.elastic import defect_elasticity as defects
from solidqmmm.physics.elastic.elastic_fit import tensor_from_slopes, third_order_from_curvatures
from solidqmmm.physics.elastic.elastic_stability import born_conditions, elastic_stability
from solidqmmm.physics.elastic.strain_fit import fit_strain_series, require_amplitudes
from solidqmmm.physics.symmetry import crystal_symmetry as symmetry
from solidqmmm.physics.symmetry.crystal_symmetry import VOIGT, voigt_strain, voigt_stress
from solidqmmm.physics.symmetry.laue_class import laue_class

HEXAGONAL_CELL = [[1, 0, 0], [-0.5, np.sqrt(0.75), 0], [0, 0, 1.3]]
TURN = Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix()
A = np.array([0.01, -0.01, 0.005, -0.005, 0.0075, -0.0075])

# Laue class: a point group of it, numbers of constants of second and third order, of strain shapes that give those of second
# and those of both orders. Numbers of constants: R. F. S. Hearmon, Acta Cryst. 6, 331 (1953).
CLASSES = {
    "cubic": ("m-3m", 3, 6, 2, 3),
    "cubic, m-3": ("m-3", 3, 8, 2, 3),
    "hexagonal": ("6/mmm", 5, 10, 3, 3),
    "hexagonal, 6/m": ("6/m", 5, 12, 3, 3),
    "tetragonal I": ("4/mmm", 6, 12, 4, 4),
    "tetragonal II": ("4/m", 7, 16, 4, 4),
    "rhombohedral I": ("-3m", 6, 14, 3, 3),
    "rhombohedral II": ("-3", 7, 20, 3, 4),
    "orthorhombic": ("mmm", 9, 20, 6, 6),
    "monoclinic": ("2/m", 13, 32, 6, 6),
    "triclinic": ("-1", 21, 56, 6, 11),
}


def point_group(symbol):
    rotations = [operation.rotation_matrix for operation in PointGroup(symbol).symmetry_ops]
    cell = HEXAGONAL_CELL if symbol.lstrip("-")[0] in "36" and symbol != "m-3" else np.eye(3)
    return symmetry.cartesian_rotations(rotations, cell)


def cubic_tensor(C11, C12, C44):
    C = np.diag([C11 - C12] * 3 + [C44] * 3)
    C[:3, :3] += C12
    return C


def full_tensors(rotations, seed=0):
    """Random C_ijkl and T_ijklmn that the group leaves as they are, made without Voigt's notation."""
    rng = np.random.default_rng(seed)
    made = []
    for pairs in (2, 3):
        T = rng.normal(size=(3,) * (2 * pairs))
        for p in range(pairs):
            T = T + np.swapaxes(T, 2 * p, 2 * p + 1)
        orders = [[2 * p + s for p in order for s in (0, 1)] for order in permutations(range(pairs))]
        T = sum(np.transpose(T, order) for order in orders)
        total = np.zeros_like(T)
        for R in rotations:
            turned = T
            for _ in range(2 * pairs):
                turned = np.tensordot(turned, R, axes=(0, 1))
            total += turned / len(rotations)
        made.append(total)
    return made


def to_voigt(T):
    out = np.zeros((6,) * (T.ndim // 2))
    for chosen in product(range(6), repeat=out.ndim):
        out[chosen] = T[tuple(axis for k in chosen for axis in VOIGT[k])]
    return out


class Hyperelastic:
    """Crystal with the energy of the heading; stable, with strong nonlinearity, without any symmetry."""

    def __init__(self, seed=1):
        self.C4, self.T6 = full_tensors(np.eye(3)[None], seed)
        lame = np.einsum("ij,kl->ijkl", np.eye(3), np.eye(3))
        self.C4 = 0.03 * self.C4 + 0.5 * lame + 0.4 * (lame.swapaxes(1, 2) + lame.transpose(0, 3, 2, 1))
        self.T6 = 0.05 * self.T6

    def energy(self, F):
        E = (F.T @ F - np.eye(3)) / 2
        quadratic = np.einsum("ijkl,ij,kl", self.C4, E, E)
        return quadratic / 2 + np.einsum("ijklmn,ij,kl,mn", self.T6, E, E, E, optimize=True) / 6

    def cauchy(self, F):
        """From the derivative of the energy with respect to F alone: sigma = dU/dF F^T / det F."""
        slope = np.zeros((3, 3))
        for i, j in product(range(3), repeat=2):
            step = np.zeros((3, 3))
            step[i, j] = 1e-3
            near = self.energy(F + step) - self.energy(F - step)
            far = self.energy(F + 2 * step) - self.energy(F - 2 * step)
            slope[i, j] = (8 * near - far) / (12 * 1e-3)
        return slope @ F.T / np.linalg.det(F)


def derivative(function, h=1e-3):
    """d(function)/d(eta), function of a symmetric matrix eta, to fourth order in h, columns per Voigt strain."""
    columns = []
    for unit in np.eye(6):
        f1, f2 = (function(voigt_strain(s * unit)) - function(voigt_strain(-s * unit)) for s in (h, 2 * h))
        columns.append(voigt_stress((8 * f1 - f2) / (12 * h)))
    return np.array(columns).T


F0 = np.array([[1.03, 0.02, -0.01], [0.01, 0.96, 0.03], [0.0, -0.02, 1.05]])

# --- strain and stress --------------------------------------------------------------------------------------


def test_green_lagrange_strain():
    gamma = 0.1
    E = elasticity.green_lagrange([[1, gamma, 0], [0, 1, 0], [0, 0, 1]])  # simple shear, known in closed form
    np.testing.assert_allclose(E, [[0, gamma / 2, 0], [gamma / 2, gamma**2 / 2, 0], [0, 0, 0]], atol=1e-15)
    np.testing.assert_allclose(
        elasticity.green_lagrange(TURN @ F0), elasticity.green_lagrange(F0), atol=1e-15
    )
    np.testing.assert_allclose(
        elasticity.green_lagrange(F0), Deformation(F0).green_lagrange_strain, atol=1e-15
    )


def test_stretch_has_the_strain_and_no_rotation():
    E = elasticity.green_lagrange(F0)
    F = elasticity.stretch_for(E)
    np.testing.assert_allclose(F, F.T, atol=1e-15)
    np.testing.assert_allclose(elasticity.green_lagrange(F), E, atol=1e-15)
    assert np.linalg.eigvalsh(F).min() > 0
    np.testing.assert_allclose(
        elasticity.stretch_for(np.diag([0.105, 0, 0])), np.diag([1.1, 1, 1]), atol=1e-15
    )


def test_second_piola_kirchhoff_stress_is_the_derivative_of_the_energy():
    crystal, E0 = Hyperelastic(), elasticity.green_lagrange(F0)
    h, expected = 1e-3, np.zeros(6)
    for k, unit in enumerate(np.eye(6)):
        U = [crystal.energy(elasticity.stretch_for(E0 + voigt_strain(s * h * unit))) for s in (1, -1, 2, -2)]
        expected[k] = (8 * (U[0] - U[1]) - (U[2] - U[3])) / (12 * h)
    sigma = crystal.cauchy(F0)
    S = elasticity.second_piola_kirchhoff(sigma, F0)
    np.testing.assert_allclose(voigt_stress(S), expected, atol=1e-9)
    np.testing.assert_allclose(elasticity.cauchy_stress(S, F0), sigma, atol=1e-15)
    np.testing.assert_allclose(S, Stress(sigma).piola_kirchoff_2(F0), atol=1e-15)
    # no rotation of the crystal changes S
    turned = elasticity.second_piola_kirchhoff(TURN @ sigma @ TURN.T, TURN @ F0)
    np.testing.assert_allclose(turned, S, atol=1e-15)


def test_stress_strain_tensor_is_the_derivative_of_the_cauchy_stress():
    crystal = Hyperelastic()
    sigma = crystal.cauchy(F0)
    B = derivative(lambda eps: crystal.cauchy((np.eye(3) + eps) @ F0))

    def piola_kirchhoff_from_here(E):
        F = elasticity.stretch_for(E)
        return elasticity.second_piola_kirchhoff(crystal.cauchy(F @ F0), F)

    C = derivative(piola_kirchhoff_from_here)
    np.testing.assert_allclose(C, C.T, atol=1e-8)  # a second derivative of the energy
    assert np.abs(B - B.T).max() > 0.05  # so that the order of the indices of the last term matters
    np.testing.assert_allclose(elasticity.stress_strain_tensor(C, sigma), B, atol=1e-8)


def test_stress_strain_tensor_under_pressure():
    B = elasticity.stress_strain_tensor(cubic_tensor(150, 70, 60), -10 * np.eye(3))
    np.testing.assert_allclose(B, cubic_tensor(150 - 10, 70 + 10, 60 - 10), atol=1e-12)


def test_stress_strain_tensor_as_in_pymatgen():
    crystal = Hyperelastic()
    expansion = ElasticTensorExpansion([crystal.C4, crystal.T6])
    tau = np.array([[0.02, 0.01, -0.01], [0.01, -0.03, 0.005], [-0.01, 0.005, 0.04]])
    at_stress = expansion.get_effective_ecs(expansion.get_strain_from_stress(tau))
    B = elasticity.stress_strain_tensor(to_voigt(at_stress), tau)
    np.testing.assert_allclose(B, to_voigt(expansion.get_wallace_tensor(tau)), atol=1e-12)


# --- symmetry -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLASSES)
def test_constants_of_every_laue_class_come_back_from_the_fewest_strains(name):
    symbol, n_second, n_third, n_shapes, n_shapes_third = CLASSES[name]
    rotations = point_group(symbol)
    second = symmetry.invariant_elastic_tensors(rotations)
    third = symmetry.invariant_third_order_tensors(rotations)
    assert (len(second), len(third)) == (n_second, n_third)
    assert len(symmetry.strains_that_suffice(second, from_stress=True)) == n_shapes
    shapes = symmetry.strains_that_suffice_third_order(third, second)
    assert len(shapes) == n_shapes_third

    C4, T6 = full_tensors(rotations)
    fits = []
    for shape in shapes:
        strains = [a * voigt_strain(shape) for a in A]
        S = [np.einsum("ijkl,kl", C4, E) + np.einsum("ijklmn,kl,mn", T6, E, E) / 2 for E in strains]
        fits.append(fit_strain_series(A, [voigt_stress(s) for s in S], np.zeros(6), fit_order=2))
    C = tensor_from_slopes(second, shapes, [fit.slope for fit in fits], [fit.slope_error for fit in fits])
    T = third_order_from_curvatures(
        third, shapes, [fit.curvature for fit in fits], [fit.curvature_error for fit in fits]
    )
    for fit, expected in ((C, to_voigt(C4)), (T, to_voigt(T6))):
        np.testing.assert_allclose(fit.tensor, expected, atol=1e-8)
        assert fit.misfit < 1e-8
        assert np.nanmax(fit.stderr) < 1e-8
    for k in range(len(shapes)):  # none of them is superfluous
        fewer = shapes[:k] + shapes[k + 1 :]
        ranks = [
            np.linalg.matrix_rank(np.vstack([rows(basis, s) for s in fewer]), tol=1e-6)
            for rows, basis in (
                (symmetry.third_order_rows, third),
                (lambda basis, s: symmetry.elastic_rows(basis, s, from_stress=True), second),
            )
        ]
        assert sum(ranks) < n_second + n_third


def test_known_relations_between_cubic_third_order_constants():
    for T in symmetry.invariant_third_order_tensors(point_group("m-3m")):
        np.testing.assert_allclose(T, np.transpose(T, (1, 2, 0)), atol=1e-12)
        assert T[0, 0, 1] == pytest.approx(T[0, 0, 2], abs=1e-12)  # C112 = C113
        assert T[0, 4, 4] == pytest.approx(T[0, 5, 5], abs=1e-12)  # C155 = C166
        assert T[1, 3, 3] == pytest.approx(T[0, 4, 4], abs=1e-12)  # C244 = C155
        assert T[0, 0, 3] == T[3, 3, 3] == T[0, 3, 4] == 0
    T = symmetry.invariant_third_order_tensors(point_group("6/mmm"))
    # hexagonal crystals: C222 = C111 + C112 - C122 and C144 = C155 exchanged by no operation, C166 from C111, C112, C222
    np.testing.assert_allclose(T[:, 0, 1, 1], T[:, 0, 0, 0] + T[:, 0, 0, 1] - T[:, 1, 1, 1], atol=1e-12)
    expected = (-2 * T[:, 0, 0, 0] - T[:, 0, 0, 1] + 3 * T[:, 1, 1, 1]) / 4
    np.testing.assert_allclose(T[:, 0, 5, 5], expected, atol=1e-12)


def test_symmetry_of_a_turned_crystal_with_errors_in_its_rotations():
    rotations = TURN @ point_group("-3m") @ TURN.T
    noisy = rotations + 1e-5 * np.random.default_rng(2).normal(size=rotations.shape)
    C4, T6 = full_tensors(rotations)
    for basis, expected in (
        (symmetry.invariant_elastic_tensors(noisy), C4),
        (symmetry.invariant_third_order_tensors(noisy), T6),
    ):
        assert len(basis) == {4: 6, 6: 14}[expected.ndim]
        flat, target = basis.reshape(len(basis), -1), to_voigt(expected).ravel()
        constants = np.linalg.lstsq(flat.T, target, rcond=None)[0]
        np.testing.assert_allclose(constants @ flat, target, atol=1e-3)


def test_turned_elastic_tensor():
    C4, _ = full_tensors(np.eye(3)[None])
    turned = np.einsum("ai,bj,ck,dl,ijkl", TURN, TURN, TURN, TURN, C4, optimize=True)
    np.testing.assert_allclose(
        symmetry.turned_elastic_tensor(to_voigt(C4), TURN), to_voigt(turned), atol=1e-12
    )
    np.testing.assert_allclose(elasticity.full_tensor(to_voigt(C4)), C4, atol=1e-15)


# --- fits of strain series ----------------------------------------------------------------------------------


def polynomial(a, coefficients):
    """S(a) with rows of six coefficients, lowest power first."""
    return np.array([sum(c * x**n for n, c in enumerate(coefficients)) for x in a])


COEFFICIENTS = np.random.default_rng(3).normal(size=(6, 6)) * np.array([0.01, 1, 8, 60, 400, 3000])[:, None]


def test_curvature_does_not_enter_the_slope_of_a_symmetric_series():
    S = polynomial(A, COEFFICIENTS[:3])
    fit = fit_strain_series(A, S, COEFFICIENTS[0])
    assert fit.symmetric
    assert fit.degrees_of_freedom == 2
    assert fit.curvature is None
    assert fit.curvature_error is None
    np.testing.assert_allclose(fit.slope, COEFFICIENTS[1], atol=1e-12)
    np.testing.assert_allclose(fit.slope_error, 0, atol=1e-12)
    np.testing.assert_allclose(fit.linearity, 0, atol=1e-12)
    np.testing.assert_allclose(fit.residuals, np.outer(A**2, COEFFICIENTS[2]), atol=1e-14)
    one_sided = fit_strain_series([0.005, 0.01], polynomial([0.005, 0.01], COEFFICIENTS[:3]), COEFFICIENTS[0])
    assert not one_sided.symmetric
    assert np.abs(one_sided.slope - COEFFICIENTS[1]).max() > 0.05  # where it does
    assert np.abs(one_sided.slope_error).max() > 0.005


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("symmetric", [True, False])
def test_polynomials_are_fitted_exactly(symmetric, order):
    a = A if symmetric else np.array([0.002, -0.004, 0.006, 0.008, 0.01])
    S = polynomial(a, COEFFICIENTS[: order + 1])
    fit = fit_strain_series(a, S, COEFFICIENTS[0], fit_order=order)
    np.testing.assert_allclose(fit.slope, COEFFICIENTS[1], atol=1e-10)
    np.testing.assert_allclose(fit.curve, S, atol=1e-12)
    np.testing.assert_allclose(fit.residuals, 0, atol=1e-12)
    np.testing.assert_allclose(
        fit.at([0.0, 0.003]), polynomial([0.0, 0.003], COEFFICIENTS[: order + 1]), atol=1e-12
    )
    if order >= 2:
        np.testing.assert_allclose(fit.curvature, 2 * COEFFICIENTS[2], atol=1e-6)


def test_linearity_is_the_change_of_the_secant_slope():
    fit = fit_strain_series(A, polynomial(A, COEFFICIENTS[:4]), COEFFICIENTS[0])
    np.testing.assert_allclose(fit.magnitudes, [0.005, 0.0075, 0.01])
    np.testing.assert_allclose(
        fit.secants, COEFFICIENTS[1] + np.outer(fit.magnitudes**2, COEFFICIENTS[3]), atol=1e-12
    )
    np.testing.assert_allclose(fit.linearity, COEFFICIENTS[3] * (0.01**2 - 0.005**2), atol=1e-12)
    # the odd power that the fit leaves out shifts the slope by about the linearity, and its error shows part of that
    assert (np.abs(fit.slope - COEFFICIENTS[1]) < 1.5 * np.abs(fit.linearity)).all()
    assert (fit.slope_error > 0.1 * np.abs(fit.linearity)).all()
    one = fit_strain_series(
        [0.01, -0.01], polynomial([0.01, -0.01], COEFFICIENTS), COEFFICIENTS[0], fit_order=2
    )
    for unknown in (one.linearity, one.slope_error, one.curvature_error):
        assert np.isnan(unknown).all()
    one_sided = fit_strain_series([0.01, 0.02], polynomial([0.01, 0.02], COEFFICIENTS[:3]), COEFFICIENTS[0])
    np.testing.assert_allclose(one_sided.linearity, 0.01 * COEFFICIENTS[2], atol=1e-12)


@pytest.mark.parametrize(("a", "order"), [(A, 1), (A, 2), (np.array([0.002, 0.004, 0.006, 0.008, 0.01]), 3)])
def test_errors_of_slope_and_curvature_have_the_size_of_the_scatter(a, order):
    """All points with the same noise, the reference as well: mean square error bar against scatter of many series."""
    rng, noise = np.random.default_rng(4), 2e-4
    slopes, slope_errors, curvatures, curvature_errors = [], [], [], []
    for _ in range(500):  # times six components, each a series of its own
        S = polynomial(a, COEFFICIENTS[: order + 1]) + noise * rng.normal(size=(len(a), 6))
        fit = fit_strain_series(a, S, COEFFICIENTS[0] + noise * rng.normal(size=6), fit_order=order)
        slopes.append(fit.slope - COEFFICIENTS[1])
        slope_errors.append(fit.slope_error)
        if order >= 2:
            curvatures.append(fit.curvature - 2 * COEFFICIENTS[2])
            curvature_errors.append(fit.curvature_error)
    # 3000 series: the ratio has a relative standard error of 0.026 from the scatter and at most 0.026 from the error bars
    assert np.mean(np.square(slope_errors)) / np.mean(np.square(slopes)) == pytest.approx(1, abs=0.12)
    if order == 1:
        assert np.sqrt(np.mean(np.square(slopes))) == pytest.approx(noise / np.sqrt(np.sum(a**2)), rel=0.05)
    else:
        ratio = np.mean(np.square(curvature_errors)) / np.mean(np.square(curvatures))
        assert ratio == pytest.approx(1, abs=0.12)


@pytest.mark.parametrize("symbol", ["m-3m", "6/mmm", "-1"])
def test_errors_of_constants_have_the_size_of_the_scatter(symbol):
    rng, noise = np.random.default_rng(5), 2e-4
    rotations = point_group(symbol)
    basis = symmetry.invariant_elastic_tensors(rotations)
    shapes = symmetry.strains_that_suffice(basis, from_stress=True)
    C = to_voigt(full_tensors(rotations)[0])
    off, errors = [], []
    for _ in range(300):
        fits = []
        for shape in shapes:
            S = np.outer(A, C @ shape) + noise * rng.normal(size=(6, 6))
            fits.append(fit_strain_series(A, S, np.zeros(6)))
        found = tensor_from_slopes(basis, shapes, [f.slope for f in fits], [f.slope_error for f in fits])
        off.append(found.tensor - C)
        errors.append(found.stderr)
    np.testing.assert_array_equal(np.array(errors)[:, np.abs(C) < 1e-12], 0)
    free = np.abs(C) > 1e-12
    ratio = np.sqrt(np.mean(np.square(errors), axis=0)[free] / np.mean(np.square(off), axis=0)[free])
    # scatter of 300: 4 %; the excess of the misfit only ever adds (at most 20 % with one comparison)
    assert ratio.min() > 0.85
    assert ratio.max() < 1.35


def slopes_of(C, shapes):
    return np.array([C @ shape for shape in shapes])


def test_what_one_amplitude_cannot_tell_is_not_claimed():
    """Of a cubic crystal the stresses that symmetry makes equal agree exactly: no measure of the error of the slopes."""
    basis = symmetry.invariant_elastic_tensors(point_group("m-3m"))
    shapes = symmetry.strains_that_suffice(basis, from_stress=True)
    C = cubic_tensor(150, 70, 60)
    for errors in (None, np.full((2, 6), np.nan)):
        fit = tensor_from_slopes(basis, shapes, slopes_of(C, shapes), errors)
        np.testing.assert_allclose(fit.tensor, C, atol=1e-10)
        np.testing.assert_array_equal(np.isnan(fit.stderr), C > 0)
    half = tensor_from_slopes(basis, shapes, slopes_of(C, shapes), [[1.0] * 6, [np.nan] * 6])
    assert np.isnan(half.stderr[3, 3])  # its series alone is silent
    assert half.stderr[0, 0] == pytest.approx(1.0)
    assert half.stderr[0, 1] == pytest.approx(np.sqrt(0.5))  # the mean of two stresses


def test_shapes_that_disagree_widen_the_errors():
    """C13 of a hexagonal crystal from strain along x and along z."""
    basis = symmetry.invariant_elastic_tensors(point_group("6/mmm"))
    shapes = symmetry.strains_that_suffice(basis, from_stress=True)
    C = to_voigt(full_tensors(point_group("6/mmm"))[0])
    slopes = slopes_of(C, shapes)
    slopes[0, 2] += 0.6
    for errors in (None, np.full((3, 6), 1e-4)):
        fit = tensor_from_slopes(basis, shapes, slopes, errors)
        # two equations from z (S_xx = S_yy = C13) against one from x
        assert fit.tensor[0, 2] - C[0, 2] == pytest.approx(0.2, abs=1e-9)
        assert fit.misfit == pytest.approx(0.4, abs=1e-9)
        # one comparison: its residual squared, 0.4^2 + 2 x 0.2^2, spread over the three equations
        assert fit.stderr[0, 2] == pytest.approx(np.sqrt(0.24 / 3), rel=1e-3)
    agreeing = tensor_from_slopes(basis, shapes, slopes_of(C, shapes), np.full((3, 6), 0.1))
    assert agreeing.stderr[0, 2] == pytest.approx(0.1 / np.sqrt(3))
    assert agreeing.misfit < 1e-12


def test_a_symmetry_that_the_crystal_does_not_have_shows():
    basis = symmetry.invariant_elastic_tensors(point_group("m-3m"))
    shapes = symmetry.strains_that_suffice(basis, from_stress=True)
    C = cubic_tensor(150, 70, 60)
    C[0, 2] = C[2, 0] = 76
    fit = tensor_from_slopes(basis, shapes, slopes_of(C, shapes), np.full((2, 6), 1e-3))
    assert fit.misfit == pytest.approx(3)
    assert fit.stderr[0, 1] > 0.5


def test_third_order_errors():
    basis = symmetry.invariant_third_order_tensors(point_group("m-3m"))
    shapes = symmetry.strains_that_suffice_third_order(basis)
    curvatures = [voigt_stress(np.einsum("ijklmn,kl,mn", full_tensors(point_group("m-3m"))[1], E, E))
                  for E in map(voigt_strain, shapes)]  # fmt: skip
    fit = third_order_from_curvatures(basis, shapes, curvatures, np.full((3, 6), 2.0))
    assert fit.stderr[0, 0, 0] == pytest.approx(2.0, rel=0.3)  # read off directly: S_xx under e_xx
    np.testing.assert_array_equal(fit.stderr[0, 0, 3:], 0)
    np.testing.assert_allclose(fit.stderr, np.transpose(fit.stderr, (2, 0, 1)), atol=1e-12)


# --- moduli -------------------------------------------------------------------------------------------------

SILICON_T3 = cubic_tensor(142.5124, 75.3641, 69.0129)
COPPER = cubic_tensor(169.8878, 122.5959, 76.2062)  # EAM of Mishin et al. (2001)


@pytest.mark.parametrize(
    ("C", "expected"), [(SILICON_T3, (90.3751, 138.0967, 167.5958)), (COPPER, (67.1145, 131.4433, 193.1562))]
)
def test_young_modulus_of_cubic_crystals(C, expected):
    directions = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 2, 3]])
    found = elasticity.young_modulus(C, directions)
    np.testing.assert_allclose(found[:3], expected, atol=1e-3)
    S11, S12, S44 = (np.linalg.inv(C)[index] for index in ((0, 0), (0, 1), (3, 3)))
    n2 = directions**2 / (directions**2).sum(axis=1, keepdims=True)
    anisotropy = n2[:, 0] * n2[:, 1] + n2[:, 1] * n2[:, 2] + n2[:, 2] * n2[:, 0]
    np.testing.assert_allclose(found, 1 / (S11 - 2 * (S11 - S12 - S44 / 2) * anisotropy), rtol=1e-12)


def test_poisson_ratio_of_copper_changes_sign_across_110():
    found = elasticity.poisson_ratio(COPPER, [[1, 1, 0], [1, 1, 0]], [[0, 0, 1], [1, -1, 0]])
    np.testing.assert_allclose(found, [0.82091, -0.13758], atol=5e-6)


def test_moduli_without_symmetry_as_in_pymatgen_and_by_solving_for_tension():
    crystal = Hyperelastic()
    C = to_voigt(crystal.C4)
    n, t = TURN[0], TURN[1]
    E, nu = elasticity.young_modulus(C, [3 * n])[0], elasticity.poisson_ratio(C, n, 2 * t)[0]
    strain = voigt_strain(np.linalg.solve(C, voigt_stress(np.outer(n, n))))
    assert pytest.approx(1 / (n @ strain @ n), rel=1e-12) == E
    assert nu == pytest.approx(-(t @ strain @ t) / (n @ strain @ n), rel=1e-12)
    tensor = ElasticTensor(crystal.C4)
    assert nu == pytest.approx(tensor.directional_poisson_ratio(n, t), rel=1e-10)
    assert pytest.approx(1 / tensor.compliance_tensor.einsum_sequence([n] * 4), rel=1e-10) == E


# --- stability ----------------------------------------------------------------------------------------------

LAUE_CLASSES = {
    "triclinic": "1 -1",
    "monoclinic": "2 m 2/m",
    "orthorhombic": "222 mm2 mmm",
    "tetragonal II": "4 -4 4/m",
    "tetragonal I": "422 4mm -42m 4/mmm",
    "rhombohedral II": "3 -3",
    "rhombohedral I": "32 3m -3m",
    "hexagonal": "6 -6 6/m 622 6mm -6m2 6/mmm",
    "cubic": "23 m-3 432 -43m m-3m",
}


@pytest.mark.parametrize(
    ("name", "symbol"),
    [(name, symbol) for name, symbols in LAUE_CLASSES.items() for symbol in symbols.split()],
)
def test_laue_class_of_every_point_group(name, symbol):
    for turn in (np.eye(3), TURN):
        found, frame = laue_class(turn @ point_group(symbol) @ turn.T)
        assert found == name
        np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-8)
        assert np.linalg.det(frame) == pytest.approx(1)


@pytest.mark.parametrize("name", [name for name in LAUE_CLASSES if name != "triclinic"])
def test_conditions_hold_exactly_where_all_eigenvalues_are_positive(name):
    """Random tensors of each class, in the frame of the class and in another one."""
    rotations = point_group(LAUE_CLASSES[name].split()[-1])
    rng, stable = np.random.default_rng(6), 0
    basis = symmetry.invariant_elastic_tensors(rotations)
    for _ in range(60):
        C = np.tensordot(rng.normal(size=len(basis)), basis, axes=1) + np.diag(rng.uniform(0, 1) * np.ones(6))
        C = np.mean([Q.T @ C @ Q for Q in map(symmetry.strain_turn, rotations)], axis=0)
        factors = np.sqrt([1, 1, 1, 2, 2, 2])
        eigenvalues = np.linalg.eigvalsh(C * factors * factors[:, None])
        verdict = elastic_stability(C, rotations)
        assert verdict.laue_class == name
        assert all(condition.holds for condition in verdict.conditions) == (eigenvalues.min() > 0)
        assert verdict.stable == (eigenvalues.min() > 0) == (not verdict.failing)
        np.testing.assert_allclose(verdict.eigenvalues_GPa, eigenvalues, atol=1e-12)
        turned = elastic_stability(symmetry.turned_elastic_tensor(C, TURN), TURN @ rotations @ TURN.T)
        assert turned.stable == verdict.stable == all(condition.holds for condition in turned.conditions)
        if name not in ("tetragonal II", "orthorhombic", "monoclinic"):  # whose frames are not unique
            values = [[c.value_GPa for c in v.conditions] for v in (verdict, turned)]
            np.testing.assert_allclose(*values, atol=1e-6)
        stable += verdict.stable
    assert 0 < stable < 60  # both kinds are in the sample


@pytest.mark.parametrize("name", [name for name in LAUE_CLASSES if name != "triclinic"])
def test_class_that_a_tensor_has_by_itself(name):
    rotations = point_group(LAUE_CLASSES[name].split()[-1])
    C = to_voigt(full_tensors(rotations)[0])
    for cycle in range(3):
        verdict = elastic_stability(symmetry.turned_elastic_tensor(C, np.roll(np.eye(3), cycle, axis=0)))
        assert verdict.laue_class == name
        if name not in ("orthorhombic", "monoclinic"):  # where x, y and z are told apart by name alone
            expected = [condition.value_GPa for condition in born_conditions(C, rotations)]
            np.testing.assert_allclose([c.value_GPa for c in verdict.conditions], expected, atol=1e-8)


def test_failing_conditions_are_named():
    assert elastic_stability(SILICON_T3).failing == ()
    values = {condition.name: condition.value_GPa for condition in born_conditions(SILICON_T3)}
    assert values == pytest.approx(
        {"C11 - C12 > 0": 67.1483, "C11 + 2 C12 > 0": 293.2406, "C44 > 0": 69.0129}, abs=1e-4
    )
    assert elastic_stability(cubic_tensor(100, 110, 50)).failing == ("C11 - C12 > 0",)
    assert elastic_stability(cubic_tensor(100, -60, -1)).failing == ("C11 + 2 C12 > 0", "C44 > 0")
    # quartz (alpha, GPa) with C14 so large that a shear of the basal plane softens
    quartz = np.zeros((6, 6))
    quartz[:3, :3] = [[86.8, 7.04, 11.91], [7.04, 86.8, 11.91], [11.91, 11.91, 105.75]]
    quartz[3:, 3:] = np.diag([58.2, 58.2, (86.8 - 7.04) / 2])
    for C14, failing in ((-18.04, ()), (-50.0, ("C44 (C11 - C12) - 2 C14^2 > 0",))):
        for place, sign in (((0, 3), 1), ((1, 3), -1), ((4, 5), 1)):
            quartz[place] = quartz[place[::-1]] = sign * C14
        verdict = elastic_stability(quartz)
        assert verdict.laue_class == "rhombohedral I"
        assert verdict.failing == failing
    # a part that breaks the symmetry of the class and decides
    C = cubic_tensor(150, 70, 1e-3)
    C[3, 4] = C[4, 3] = 0.01
    verdict = elastic_stability(C, point_group("m-3m"))
    assert not verdict.stable
    assert verdict.failing == ("smallest eigenvalue of C > 0",)


# --- defects ------------------------------------------------------------------------------------------------


def test_dipole_and_polarizability_of_a_known_energy():
    """A cell whose defect adds -P:E - E:alpha:E/2 to the energy; stresses and constants by differences."""
    rng, V = np.random.default_rng(7), 300.0
    P = rng.normal(size=(3, 3))
    P = P + P.T
    alpha = rng.normal(size=(6, 6)) * 5
    alpha = alpha + alpha.T
    C = to_voigt(Hyperelastic().C4)

    def energy(eta, with_defect):
        added = -voigt_stress(P) @ eta - eta @ alpha @ eta / 2
        return V * eta @ C @ eta / 2 + with_defect * added

    def stress_and_constants(with_defect):
        h, units = 1e-3, np.eye(6)
        E = lambda eta: energy(eta, with_defect)  # noqa: E731
        slope = [(E(h * u) - E(-h * u)) / (2 * h * V) for u in units]
        curvature = [
            [
                (E(h * (u + v)) - E(h * (u - v)) - E(h * (v - u)) + E(-h * (u + v))) / (4 * h**2 * V)
                for u in units
            ]
            for v in units
        ]
        stress = np.array([[slope[k] for k in row] for row in ([0, 5, 4], [5, 1, 3], [4, 3, 2])])
        return stress, np.array(curvature)

    (stress, constants), (stress_perfect, constants_perfect) = map(stress_and_constants, (True, False))
    np.testing.assert_allclose(defects.elastic_dipole(stress, stress_perfect, V), P, atol=1e-8)
    found = defects.diaelastic_polarizability(constants, constants_perfect, V)
    np.testing.assert_allclose(found, alpha, atol=1e-5)


def test_relaxation_volume():
    # an isotropic dipole p in a cubic crystal: dV = tr(P)/(3 K) = p/K, K = (C11 + 2 C12)/3
    C = cubic_tensor(1.2, 0.6, 0.5)
    omega = defects.relaxation_volume_tensor(4.0 * np.eye(3), C)
    np.testing.assert_allclose(omega, 4.0 / 0.8 / 3 * np.eye(3), atol=1e-12)
    # a shear dipole: strain 2 eps_xy = P_xy/C44 over the cell, no change of volume
    shear = np.array([[0, 3.0, 0], [3.0, 0, 0], [0, 0, 0]])
    np.testing.assert_allclose(defects.relaxation_volume_tensor(shear, C), shear / (2 * 0.5), atol=1e-12)


def test_vacancy_dipole_predicts_how_the_cell_shrinks():
    """Copper (EMT), 108 sites: relaxation volume from the dipole at fixed cell against that of the relaxed cell."""
    from ase.build import bulk
    from ase.calculators.emt import EMT
    from ase.filters import FrechetCellFilter
    from ase.optimize import BFGS

    def relaxed(atoms, cell):
        atoms.calc = EMT()
        BFGS(FrechetCellFilter(atoms) if cell else atoms, logfile=None).run(fmax=1e-3, steps=200)
        return atoms

    unit = relaxed(bulk("Cu", cubic=True), cell=True)
    constants = []
    for shape in np.eye(6)[[0, 3]]:
        strained = []
        for sign in (1, -1):
            atoms = unit.copy()
            atoms.calc = EMT()
            atoms.set_cell(
                unit.cell @ elasticity.stretch_for(sign * 1e-3 * voigt_strain(shape)), scale_atoms=True
            )
            F = elasticity.stretch_for(sign * 1e-3 * voigt_strain(shape))
            S = elasticity.second_piola_kirchhoff(atoms.get_stress(voigt=False), F)
            strained.append(voigt_stress(S))
        constants.append((strained[0] - strained[1]) / 2e-3)
    C = cubic_tensor(constants[0][0], constants[0][1], constants[1][3])

    perfect = unit.repeat(3)
    perfect.calc = EMT()
    vacancy = perfect.copy()
    del vacancy[0]
    held = relaxed(vacancy.copy(), cell=False)
    V = perfect.get_volume()
    P = defects.elastic_dipole(held.get_stress(voigt=False), perfect.get_stress(voigt=False), V)
    volume = np.trace(defects.relaxation_volume_tensor(P, C))
    free = relaxed(held, cell=True).get_volume() - V
    assert np.trace(P) < 0  # a vacancy in a metal pulls inwards
    assert volume == pytest.approx(free, rel=0.05)  # what is beyond linear in 1/108


# --- bad input ----------------------------------------------------------------------------------------------


CUBIC = symmetry.invariant_elastic_tensors(point_group("m-3m"))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: elasticity.green_lagrange(np.diag([1, 1, 0])), "singular deformation: det F must be positive, got 0"),
        (lambda: elasticity.green_lagrange(-np.eye(3)), "singular deformation: det F must be positive, got -1"),
        (lambda: elasticity.cauchy_stress(np.eye(3), np.full((3, 3), np.nan)), "finite matrix of shape"),
        (lambda: elasticity.require_deformation(np.eye(2)), r"shape \(3, 3\)"),
        (lambda: elasticity.stretch_for(np.diag([-0.5, 0, 0])), "singular deformation: 1 . 2 E must be positive"),
        (lambda: elasticity.stretch_for([[0, 0.1, 0], [0, 0, 0], [0, 0, 0]]), "symmetric matrix"),
        (lambda: elasticity.stretch_for(np.full((3, 3), np.nan)), "symmetric matrix"),
        (lambda: elasticity.young_modulus(SILICON_T3, [[0, 0, 0]]), "`directions` must be vectors"),
        (lambda: elasticity.young_modulus(SILICON_T3, [[1, 0]]), "`directions` must be vectors"),
        (lambda: elasticity.poisson_ratio(SILICON_T3, [[1, 0, 0]], [[1, 1, 0]]), "perpendicular"),
        (lambda: elasticity.compliance(cubic_tensor(100, 100, 50)), "singular"),
        (lambda: elasticity.compliance(np.eye(3)), r"shape \(6, 6\)"),
        (lambda: elastic_stability(np.full((6, 6), np.nan)), r"finite matrix of shape \(6, 6\)"),
        (lambda: defects.elastic_dipole(np.eye(3), np.eye(3), -1.0), "`volume` must be positive .* got -1.0"),
        (lambda: defects.diaelastic_polarizability(np.eye(6), np.eye(6), float("nan")), "`volume` must be"),
        (lambda: require_amplitudes([0.01, 0.0, -0.01]), "differ from zero"),
        (lambda: require_amplitudes([]), "differ from zero"),
        (lambda: require_amplitudes([0.01, float("inf")]), "finite"),
        (lambda: require_amplitudes([-0.06, 0.06]), r"at most 0.05, got -0.06"),
        (lambda: require_amplitudes([0.01, 0.01]), "differ from each other"),
        (lambda: require_amplitudes([0.01, 0.02, -0.01], fit_order=2), "even `fit_order` .* symmetric series"),
        (lambda: require_amplitudes([0.01, -0.01], fit_order=3), "symmetric series needs at least 4 amplitudes"),
        (lambda: require_amplitudes([0.01, 0.02], fit_order=3), "asymmetric series needs at least 3 amplitudes"),
        (lambda: require_amplitudes([0.01, -0.01], fit_order=0), "`fit_order` must be a whole number"),
        (lambda: fit_strain_series([0.0, 0.01], np.zeros((2, 6)), np.zeros(6)), "differ from zero"),
        (lambda: fit_strain_series([0.01], np.zeros((2, 6)), np.zeros(6)), r"stresses of shape \(1, 6\)"),
        (lambda: fit_strain_series([0.01], np.full((1, 6), np.nan), np.zeros(6)), "must be finite"),
        (lambda: fit_strain_series([0.01, -0.01], np.zeros((2, 6)), np.zeros(6), fit_order=3), "at least 4"),
        (lambda: tensor_from_slopes(CUBIC, np.eye(6)[:1], np.ones((1, 6))), "fix 2 of the 3 constants"),
        (lambda: tensor_from_slopes(CUBIC, np.eye(6)[:2], np.ones((1, 6))), r"2 strain shapes need .* shape \(2, 6\)"),
    ],
)  # fmt: skip
def test_bad_input(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_amplitudes_that_are_fine():
    np.testing.assert_array_equal(require_amplitudes([0.05, -0.05], fit_order=2), [0.05, -0.05])
    np.testing.assert_array_equal(require_amplitudes([0.01, 0.02, -0.005], fit_order=3), [0.01, 0.02, -0.005])
