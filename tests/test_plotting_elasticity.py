"""Figures of elastic constants show what is in the result, and nothing that is not."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from solidqmmm.physics.elasticity import young_modulus
from solidqmmm.plotting.elasticity import plot_stress_strain, plot_tensor_change
from solidqmmm.plotting.youngs_modulus import plot_youngs_modulus, plot_youngs_modulus_surface
from solidqmmm.results.elasticity import ElasticTensorResult, StrainSeries


def cubic(C11, C12, C44):
    C = np.diag([C11] * 3 + [C44] * 3).astype(float)
    C[:3, :3] += C12 * (1 - np.eye(3))
    return C


SILICON, SOFTER = cubic(151.42, 76.42, 56.45), cubic(149.3, 74.96, 55.96)
CLAMPED = cubic(151.42, 76.42, 109.76)
AMPLITUDES = np.array([-0.01, -0.005, 0.005, 0.01])


def series(C, clamped=CLAMPED, amplitudes=AMPLITUDES, curvature=-800.0):
    shapes = np.eye(6)[[0, 3]]
    a = np.tile(amplitudes, 2)
    of = np.repeat([0, 1], len(amplitudes))
    linear = np.array([a_k * C @ shapes[k] for a_k, k in zip(a, of)])
    bent = linear.copy()
    bent[:, 0] += np.where(of == 0, curvature * a**2 / 2, 0.0)
    return StrainSeries(
        shapes=shapes,
        shape_of=of,
        amplitudes=a,
        stress_GPa=bent,
        stress_clamped_GPa=np.array([a_k * clamped @ shapes[k] for a_k, k in zip(a, of)]),
        fitted_GPa=linear,
        max_force_eV_per_A=np.zeros(len(a)),
        n_force_evaluations=np.ones(len(a)),
        n_qm_calls=np.zeros(len(a)),
    )


def result(C=SOFTER, perfect=SILICON, defect="vacancy (Si)", **more):
    fields = {
        "elastic_tensor_GPa": C,
        "elastic_tensor_clamped_GPa": CLAMPED,
        "elastic_tensor_stderr_GPa": np.full((6, 6), 0.02),
        "elastic_tensor_ieee_GPa": C,
        "stress_strain_tensor_GPa": C,
        "compliance_per_GPa": np.linalg.inv(C),
        "born_stable": True,
        "residual_stress_GPa": np.zeros((3, 3)),
        "reference_stress_GPa": np.zeros((3, 3)),
        "cell_A": 5.43 * np.eye(3),
        "cell_relaxed": True,
        "n_atoms_host": 511,
        "elastic_tensor_perfect_GPa": perfect,
        "defect": defect,
        "series": series(C),
    }
    means = (
        "bulk_modulus_vrh_GPa", "bulk_modulus_voigt_GPa", "bulk_modulus_reuss_GPa", "shear_modulus_vrh_GPa",
        "shear_modulus_voigt_GPa", "shear_modulus_reuss_GPa", "youngs_modulus_vrh_GPa", "poisson_ratio",
        "universal_anisotropy",
    )  # fmt: skip
    return ElasticTensorResult(**(dict.fromkeys(means, 1.0) | fields | more))


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def labelled(ax, label):
    return next(line for line in ax.lines if line.get_label() == label)


def test_points_and_fit_are_those_of_the_series():
    figure = plot_stress_strain(result()).figure
    xx, yz = figure.axes[:2]
    rows = series(SOFTER)
    np.testing.assert_allclose(labelled(xx, "S_xx").get_xdata(), 100 * AMPLITUDES)
    np.testing.assert_allclose(labelled(xx, "S_xx").get_ydata(), rows.stress_GPa[:4, 0])
    np.testing.assert_allclose(labelled(yz, "S_yz clamped").get_ydata(), rows.stress_clamped_GPa[4:, 3])
    fit = labelled(yz, "S_yz fit")
    slope = np.polyfit(fit.get_xdata() / 100, fit.get_ydata(), 1)[0]
    assert slope == pytest.approx(SOFTER[3, 3], rel=1e-9)
    assert [line for line in yz.lines if line.get_label() == "S_xx"] == []  # does not answer to this strain


def test_residuals_are_points_minus_fit_in_one_unit():
    figure = plot_stress_strain(result()).figure
    residual = figure.axes[2]
    assert "MPa" in residual.get_ylabel()
    np.testing.assert_allclose(labelled(residual, "S_xx").get_ydata(), 1e3 * -800.0 * AMPLITUDES**2 / 2)


def test_small_strains_have_a_unit_of_their_own():
    small = result(series=series(SOFTER, amplitudes=AMPLITUDES / 25))
    figure = plot_stress_strain(small).figure
    assert "10^{-4}" in figure.axes[2].get_xlabel()
    np.testing.assert_allclose(labelled(figure.axes[0], "S_xx").get_xdata(), 1e4 * AMPLITUDES / 25)


def test_cuts_show_youngs_modulus_and_its_change():
    figure = plot_youngs_modulus(result()).figure
    polar, change = figure.axes[0], figure.axes[3]
    perfect, defective = labelled(polar, "perfect crystal"), labelled(polar, "vacancy (Si)")
    along = [[1, 0, 0], [1, 1, 0]]
    for line, C in ((perfect, SILICON), (defective, SOFTER)):
        shown = np.interp(np.radians([0, 45]), line.get_xdata(), line.get_ydata())
        np.testing.assert_allclose(shown, young_modulus(C, along), rtol=1e-9)
    expected = 100 * (young_modulus(SOFTER, along) / young_modulus(SILICON, along) - 1)
    line = change.lines[0]
    np.testing.assert_allclose(np.interp([0, 45], line.get_xdata(), line.get_ydata()), expected, rtol=1e-6)


def test_without_a_perfect_crystal_nothing_is_compared():
    alone = result(perfect=None, defect="")
    assert len(plot_youngs_modulus(alone).figure.axes) == 3
    assert len(plot_tensor_change(alone).figure.axes) == 1


def test_planes_of_a_crystal_that_is_not_cubic_are_those_of_the_axes():
    tetragonal = SILICON.copy()
    tetragonal[2, 2] *= 1.5
    titles = [ax.get_title() for ax in plot_youngs_modulus(result(C=tetragonal, perfect=None)).figure.axes]
    assert titles == ["xy", "xz", "yz"]


def test_surface_reaches_from_the_softest_to_the_stiffest_direction():
    ax = plot_youngs_modulus_surface(result())
    E = young_modulus(SOFTER, [[1, 0, 0], [1, 1, 1]])
    bar = ax.figure.axes[1]
    np.testing.assert_allclose(bar.get_ylim(), E, rtol=1e-3)


def test_numbers_of_the_tensor_and_of_its_change():
    first = plot_tensor_change(result())
    texts = [text.get_text() for text in first.texts]
    assert "149.30" in texts
    assert "±0.02" in texts
    change = [text.get_text() for text in first.figure.axes[1].texts]
    assert "−2.1" in change
    assert "−1.4 %" in change


def test_given_axes_are_used():
    figure, axes = plt.subplots(2, 2)
    assert plot_stress_strain(result(), axes) is axes
    assert len(figure.axes) == 4
    with pytest.raises(ValueError, match="2 Axes"):
        plot_stress_strain(result(), axes.ravel()[:3])
