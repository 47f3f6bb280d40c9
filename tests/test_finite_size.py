"""Extrapolation to infinite cells: exact series, closed formulas of least squares, cells of mixed shapes, bad input."""

from __future__ import annotations

import numpy as np
import pytest

from solidqmmm.physics.charged_defects.size_corrections import (
    dielectric_tensor,
    inverse_effective_length,
    lany_zunger_correction,
    leading_coefficient,
    second_moment_coefficient,
    wigner_seitz_second_moment,
)
from solidqmmm.physics.electrostatics.ewald import COULOMB, ewald_energy
from solidqmmm.physics.finite_size import SizeModel, SizeSeries, candidates, choose, fit

# A Gaussian of charge 2 and width 1.2 angstrom in a medium of eps = 10, in cubes (closed Ewald form), eV.
LENGTHS = np.array([8.0, 10, 12, 16, 20, 24])
ENERGIES = np.array([0.4343995693, 0.5890140704, 0.7032455809, 0.8560438285, 0.9519751322, 1.0173241675])
E_INF = 1.3540216643
A = leading_coefficient(2, 10)
FCC = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
BCC = np.array([[-0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.5, 0.5, -0.5]])


def cubes(lengths, energies, errors=None):
    return SizeSeries(1 / lengths, lengths**3, energies, errors)


def gaussian_series(cells, dielectric, charge=2.0, sigma=1.2):
    """The same Gaussian in any cells: energies between images and in itself, by the Ewald sum."""
    energies = [
        ewald_energy(
            np.zeros((1, 3)), [charge], cell, sigma=[sigma], dielectric=dielectric, background=True
        ).energy
        for cell in cells
    ]
    inverse = [inverse_effective_length(cell, dielectric) for cell in cells]
    return SizeSeries(inverse, [abs(np.linalg.det(cell)) for cell in cells], energies)


def test_gaussian_in_a_medium():
    """E_inf to 1e-6 from 10-24 angstrom by three parameters; A and B are those of theory; 1/L alone is visibly worse."""
    series = cubes(LENGTHS[1:], ENERGIES[1:])
    three = fit(series, SizeModel((1, 3)))
    assert three.E_inf == pytest.approx(E_INF, abs=1e-6)
    assert three.coefficients[1] == pytest.approx(A, rel=1e-5)
    assert three.coefficients[3] == pytest.approx(second_moment_coefficient(2, 3 * 2 * 1.2**2, 10), rel=1e-4)
    assert three.E_inf_stderr < 1e-6
    one = fit(series, SizeModel((1,)))
    assert abs(one.E_inf - E_INF) > 0.003
    assert one.E_inf_stderr > 100 * three.E_inf_stderr
    chosen = choose(candidates(series, A))
    assert chosen.model.terms == (1, 3)
    assert chosen.E_inf == pytest.approx(E_INF, abs=1e-6)


SHAPES = {
    "cube": np.eye(3),
    "fcc": 1.6 * FCC,
    "bcc": 1.3 * BCC,
    "skewed": np.array([[1, 0, 0], [0.4, 1.1, 0], [-0.3, 0.2, 0.9]]),
    "long": np.diag([1, 1, 2.0]),
}


@pytest.mark.parametrize("dielectric", [10.0, np.diag([10, 10, 5.0]), [[9, 1, 0], [1, 7, 0.5], [0, 0.5, 12]]])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_any_shape_and_tensor(shape, dielectric):
    """E_inf is zero: the Ewald sum leaves out the Gaussian's energy in its own field.

    A round Gaussian in an anisotropic medium has a quadrupole, and so a term 1/L^5.
    """
    found = fit(gaussian_series([a * shape for a in (14, 18, 24, 32)], dielectric), SizeModel((1, 3)))
    tolerance = 1e-6 if np.ndim(dielectric) == 0 else 2e-4
    assert found.E_inf == pytest.approx(0.0, abs=tolerance)
    assert found.coefficients[1] == pytest.approx(leading_coefficient(2, dielectric), rel=10 * tolerance)


def test_all_shapes_lie_on_one_curve():
    found = fit(gaussian_series([a * shape for a in (12, 16, 22) for shape in SHAPES.values()], 10.0), SizeModel((1, 3)))
    assert found.E_inf == pytest.approx(0.0, abs=1e-6)
    assert found.rms < 1e-6


def test_effective_lengths():
    assert 1 / inverse_effective_length(12 * np.eye(3), 7.0) == pytest.approx(12, rel=1e-12)
    # alpha on the scale of V^(1/3): 2.88828212 for fcc, 2.27521811 for 1:1:2
    assert 1 / inverse_effective_length(10 * FCC) == pytest.approx(10 * 0.25 ** (1 / 3) * 2.83729748 / 2.88828212, rel=1e-8)
    assert 1 / inverse_effective_length(np.diag([10, 10, 20.0])) == pytest.approx(
        2000 ** (1 / 3) * 2.83729748 / 2.27521811, rel=1e-8
    )
    assert inverse_effective_length(np.diag([4, 4, 40.0])) < 0


def test_shape_factors_of_lany_and_zunger():
    """c = -0.369, -0.343, -0.342 (S. Lany and A. Zunger, 2009), and the known second moments of the lattices' cells."""
    for shape, moment, c in ((np.eye(3), 1 / 12, -0.369), (FCC, 0.0787451, -0.343), (BCC, 0.0785433, -0.342)):
        V = abs(np.linalg.det(shape))
        assert wigner_seitz_second_moment(shape) / 3 / V ** (2 / 3) == pytest.approx(moment, rel=5e-4)
        eps = 1e9
        found = lany_zunger_correction(1, 10 * shape, eps) * eps
        first_order = -leading_coefficient(1, 1) * inverse_effective_length(10 * shape)
        assert found / first_order - 1 == pytest.approx(c, abs=7e-4)
    assert lany_zunger_correction(2, 10 * np.eye(3), 1.0) == pytest.approx(2.837297479 * 4 * COULOMB / 20)


def test_error_bars_and_left_out_points_are_those_of_refits():
    rng = np.random.default_rng(4)
    x = np.array([8.0, 9, 11, 13, 16, 20, 25])
    series = cubes(x, 1.0 - 5 / x + 30 / x**3 + 0.01 * rng.normal(size=len(x)))
    found = fit(series, SizeModel((1, 3)))
    refits = [fit(series.without(i), SizeModel((1, 3))) for i in range(len(x))]
    np.testing.assert_allclose(found.E_inf_left_out, [f.E_inf for f in refits], atol=1e-10)
    left = [series.energies[i] - f.energy(1 / x[i], x[i] ** 3) for i, f in enumerate(refits)]
    np.testing.assert_allclose(found.left_out, left, atol=1e-10)
    trials = []
    for _ in range(400):
        noisy = cubes(x, 1.0 - 5 / x + 30 / x**3 + 0.01 * rng.normal(size=len(x)), 0.01 * np.ones(len(x)))
        one = fit(noisy, SizeModel((1, 3)))
        trials.append((one.E_inf - 1.0) / one.E_inf_stderr)
    assert np.std(trials) == pytest.approx(1.0, abs=0.12)
    assert np.mean(trials) == pytest.approx(0.0, abs=0.15)


def test_fixed_coefficients_and_weights():
    x = np.array([8.0, 10, 14, 20])
    energies = 2.0 - 3 / x + 40 / x**3
    fixed = fit(cubes(x, energies), SizeModel((1, 3), A=-3.0))
    assert fixed.coefficients == pytest.approx({1: -3.0, 3: 40.0})
    assert fixed.E_inf == pytest.approx(2.0)
    assert set(fixed.stderr) == {3}
    both = fit(cubes(x, energies), SizeModel((1, 3), A=-3.0, B=40.0))
    assert both.E_inf == pytest.approx(2.0)
    assert both.model.name == "1/L + 1/L^3, A and B fixed"
    # A point with a huge error bar says nothing.
    wrong = energies + np.array([1.0, 0, 0, 0])
    assert fit(cubes(x, wrong, [1e4, 1, 1, 1]), SizeModel((1,), A=-3.0)).E_inf == pytest.approx(
        fit(cubes(x[1:], energies[1:]), SizeModel((1,), A=-3.0)).E_inf, abs=1e-6
    )


def test_a_term_that_noise_hides_is_said_to_be_unresolved():
    x = np.array([8.0, 10, 12, 16, 20, 24])
    rng = np.random.default_rng(1)
    found = fit(cubes(x, 1 - 2 / x + 1.0 / x**3 + 0.005 * rng.normal(size=6)), SizeModel((1, 3)))
    assert found.unresolved() == [3]
    simple = [
        choose(candidates(cubes(x, 1 - 2 / x + 0.02 * rng.normal(size=6)), -2.0)).model.n_parameters == 1
        for _ in range(200)
    ]
    assert np.mean(simple) > 0.7


@pytest.mark.parametrize(
    ("lengths", "model", "message"),
    [
        ([10.0, 12], SizeModel((1, 3)), "has 3 parameters, and there are 2 cells: at least 3 are needed"),
        ([10.0, 10, 10], SizeModel((1, 3)), "do not tell the terms"),
    ],
)
def test_too_few_cells(lengths, model, message):
    x = np.array(lengths)
    with pytest.raises(ValueError, match=message):
        fit(cubes(x, 1 / x), model)


def test_as_many_parameters_as_points_have_no_error_bar_and_are_not_chosen():
    series = cubes(LENGTHS[:3], ENERGIES[:3])
    all_used = fit(series, SizeModel((1, 3)))
    assert all_used.E_inf_stderr is None
    assert all_used.left_out is None
    assert choose(candidates(series, A)).left_out is not None
    with pytest.raises(ValueError, match="at least two"):
        choose([])


@pytest.mark.parametrize(
    ("dielectric", "message"),
    [
        (-2.0, "positive definite, but has the eigenvalue -2"),
        ([[2, 1, 0], [0, 2, 0], [0, 0, 2]], "symmetric"),
        (np.diag([1, 1, -3.0]), "eigenvalue -3"),
        ([1, 2, 3], "a number or a 3 x 3 tensor"),
    ],
)
def test_impossible_dielectric_tensors(dielectric, message):
    with pytest.raises(ValueError, match=message):
        dielectric_tensor(dielectric)


def test_impossible_series_and_terms():
    with pytest.raises(ValueError, match="powers of 1/L"):
        SizeModel((1, 2))
    with pytest.raises(ValueError, match="must be finite"):
        cubes(np.array([1.0, 2]), np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match="arrays of lengths"):
        cubes(np.array([1.0, 2]), np.array([1.0]))
