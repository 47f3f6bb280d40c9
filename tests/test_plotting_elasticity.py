"""Figures of elastic constants show what is in the result, and nothing that is not."""

import dataclasses
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest

from solidqmmm.physics.elasticity import stress_strain_tensor, young_modulus
from solidqmmm.plotting import style
from solidqmmm.plotting.elasticity import plot_stress_strain, plot_tensor_change
from solidqmmm.plotting.youngs_modulus import plot_youngs_modulus, plot_youngs_modulus_surface
from solidqmmm.results.elasticity import ElasticTensorResult, StrainSeries

mpl.use("Agg")
import matplotlib.pyplot as plt

FIGURES = (plot_stress_strain, plot_tensor_change, plot_youngs_modulus, plot_youngs_modulus_surface)


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


def test_line_of_the_fit_follows_its_powers_also_with_few_rows():
    """One amplitude and its negative, fitted to second order: a parabola through both and the reference."""
    a = np.array([-0.02, 0.02])
    given = series(SOFTER, amplitudes=a)
    bent = result(fit_order=2, series=dataclasses.replace(given, fitted_GPa=given.stress_GPa))
    fit = labelled(plot_stress_strain(bent, shapes=0).figure.axes[0], "S_xx fit")
    eta = fit.get_xdata() / 100
    np.testing.assert_allclose(fit.get_ydata(), SOFTER[0, 0] * eta - 400.0 * eta**2, atol=1e-12)


def test_stress_of_the_reference_moves_points_and_tangent():
    pressed = series(SOFTER)
    at = np.array([0.3, -0.2, 0.1, 0.05, 0.0, 0.0])
    moved = {name: getattr(pressed, name) + at for name in ("stress_GPa", "stress_clamped_GPa", "fitted_GPa")}
    pressed = dataclasses.replace(pressed, reference_stress_GPa=at, **moved)
    xx, yz = plot_stress_strain(result(series=pressed)).figure.axes[:2]
    tangent = labelled(xx, "S_yy clamped tangent")
    assert np.interp(0, tangent.get_xdata(), tangent.get_ydata()) == pytest.approx(-0.2)
    assert not any(line.get_label() == "S_xx" for line in yz.lines)  # stressed, but not by this strain


def test_components_are_named_apart_at_the_ends_of_their_lines():
    ax = plot_stress_strain(result()).figure.axes[0]
    names = sorted(text.get_text() for text in ax.texts)
    assert names == ["$S_{xx}$", "$S_{yy}$", "$S_{zz}$"]
    ax.figure.draw_without_rendering()
    boxes = [mpl.text.Text.get_window_extent(text) for text in ax.texts]
    assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])  # yy and zz have one line


def test_six_shapes_with_six_components_each_have_room():
    noise = np.random.default_rng(0).normal(size=(6, 6))
    C = SOFTER + 10 * (noise + noise.T)
    a = np.tile(AMPLITUDES, 6)
    of = np.repeat(np.arange(6), 4)
    stress = a[:, None] * C[of]
    zeros = np.zeros(len(a))
    rows = StrainSeries(
        shapes=np.eye(6), shape_of=of, amplitudes=a, stress_GPa=stress, stress_clamped_GPa=stress, fitted_GPa=stress,
        max_force_eV_per_A=zeros, n_force_evaluations=zeros, n_qm_calls=zeros,
    )  # fmt: skip
    figure = plot_stress_strain(result(C=C, series=rows)).figure
    assert figure.get_figwidth() == style.DOUBLE_COLUMN
    stresses = [ax for ax in figure.axes if ax.get_title(loc="left")]
    assert [ax.get_title(loc="left") for ax in stresses] == ["xx", "yy", "zz", "yz", "xz", "xy"]
    figure.draw_without_rendering()
    page = figure.bbox.padded(1)
    for ax in stresses:
        boxes = [mpl.text.Text.get_window_extent(text) for text in ax.texts]
        assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])
        assert all(page.x0 < box.x0 and box.x1 < page.x1 for box in boxes)


def test_clamped_ions_that_were_not_computed_are_absent():
    given = series(SOFTER)
    without = dataclasses.replace(given, stress_clamped_GPa=np.full_like(given.stress_GPa, np.nan))
    figure = plot_stress_strain(result(series=without)).figure
    assert not any("clamped" in line.get_label() for ax in figure.axes for line in ax.lines)
    assert [text.get_text() for text in figure.legends[0].texts] == ["relaxed ions"]


def test_names_of_shapes_say_signs_and_factors():
    given = dataclasses.replace(series(SOFTER), shapes=[[1, -1, 0, 0, 0, 0], [0, 0, 0.5, 1, 0, 0]])
    titles = [ax.get_title(loc="left") for ax in plot_stress_strain(result(series=given)).figure.axes[:2]]
    assert titles == ["xx − yy", "0.5 zz + yz"]


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
    assert [tick.get_text() for tick in change.get_xticklabels()] == [
        "[100]",
        "[110]",
        "[010]",
        "",
        r"[$\bar{1}$00]",
    ]


def test_numbers_stand_at_the_directions_of_a_cube():
    """<100>, <110> and <111> by the closed formula: 1/E = S11 - 2 (S11 - S12 - S44/2) (l^2 m^2 + m^2 n^2 + n^2 l^2)."""
    figure = plot_youngs_modulus(result()).figure
    cut = figure.axes[2]
    assert cut.get_title(loc="left") == r"(1$\bar{1}$0)"
    for C in (SOFTER, SILICON):
        S = np.linalg.inv(C)
        E = [1 / (S[0, 0] - 2 * (S[0, 0] - S[0, 1] - S[3, 3] / 2) * mixed) for mixed in (0.25, 1 / 3, 0)]
        words = [text.get_text() for text in cut.texts]
        assert {f"{value:.1f}" for value in E} <= set(words)
    assert {"[110]", "[111]", "[001]"} <= set(words)
    angles = [np.degrees(line.get_xdata()[0]) for line in cut.lines if len(line.get_xdata()) == 1]
    np.testing.assert_allclose(np.unique(np.round(angles, 6)), [0, 35.264390, 90], atol=1e-6)


def test_change_too_small_for_the_cuts_is_seen_below_them():
    figure = plot_youngs_modulus(result(C=(1 - 2e-4) * SILICON)).figure
    low, high = figure.axes[3].get_ylim()
    assert low < -0.02 < high < 0


def test_moduli_under_stress_are_those_of_the_stress_strain_tensor():
    stress = np.diag([1.0, 2.0, 3.0])
    rows = dataclasses.replace(series(SILICON), reference_stress_GPa=[1.0, 2.0, 3.0, 0.0, 0.0, 0.0])
    B = stress_strain_tensor(SOFTER, 2 * stress)
    pressed = result(stress_strain_tensor_GPa=B, series_perfect=rows)
    polar = plot_youngs_modulus(pressed).figure.axes[0]
    for name, tensor in (("vacancy (Si)", B), ("perfect crystal", stress_strain_tensor(SILICON, stress))):
        shown = labelled(polar, name).get_ydata()[0]
        assert shown == pytest.approx(young_modulus(tensor, [[1, 0, 0]])[0], rel=1e-12)


def test_directions_without_a_positive_modulus_are_left_out(tmp_path):
    unstable = SILICON.copy()
    unstable[5, 5] = -1.0
    drawn = plot_youngs_modulus(result(C=unstable))
    shown = labelled(drawn, "vacancy (Si)").get_ydata()
    assert np.isnan(shown).any()
    assert np.nanmin(shown) > 0
    style.save_figure(drawn, tmp_path / "cuts")
    surface = plot_youngs_modulus_surface(result(C=unstable, perfect=None))
    assert "not positive" in surface.texts[0].get_text()


def test_without_a_perfect_crystal_nothing_is_compared():
    alone = result(perfect=None, defect="")
    assert len(plot_youngs_modulus(alone).figure.axes) == 3
    assert len(plot_tensor_change(alone).figure.axes) == 1
    assert len(plot_youngs_modulus_surface(alone).figure.axes) == 2  # the surface and its colours


def test_planes_of_a_crystal_that_is_not_cubic_are_those_of_the_axes():
    tetragonal = SILICON.copy()
    tetragonal[2, 2] *= 1.5
    titles = [
        ax.get_title(loc="left") for ax in plot_youngs_modulus(result(C=tetragonal, perfect=None)).figure.axes
    ]
    assert titles == ["xy", "xz", "yz"]


def test_surface_reaches_from_the_softest_to_the_stiffest_direction():
    ax = plot_youngs_modulus_surface(result())
    E = young_modulus(SOFTER, [[1, 0, 0], [1, 1, 1]])
    bars = {bar.get_ylabel(): bar.get_ylim() for bar in ax.figure.axes[2:]}
    np.testing.assert_allclose(bars["Young's modulus (GPa)"], E, rtol=1e-3)
    change = 100 * (E / young_modulus(SILICON, [[1, 0, 0], [1, 1, 1]]) - 1)
    np.testing.assert_allclose(bars["change by the defect (%)"], sorted(change), rtol=1e-2)


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
    figure, ax = plt.subplots()
    assert plot_stress_strain(result(), ax, shapes=1) is ax
    assert figure.axes == [ax]
    assert ax.get_xlabel() == "strain (%)"
    figure, pair = plt.subplots(1, 2)
    assert plot_tensor_change(result(perfect=None), pair) is pair
    assert "no perfect crystal" in pair[1].texts[0].get_text()


def test_given_axes_of_cuts_and_surfaces_are_used():
    figure, polar = plt.subplots(1, 3, subplot_kw={"projection": "polar"})
    assert plot_youngs_modulus(result(), polar) is polar
    assert len(figure.axes) == 3
    with pytest.raises(ValueError, match="three polar Axes"):
        plot_youngs_modulus(result(), polar[:2])
    figure, ax = plt.subplots(subplot_kw={"projection": "3d"})
    assert plot_youngs_modulus_surface(result(), ax) is ax
    assert len(figure.axes) == 2


@pytest.mark.parametrize("width", [style.SINGLE_COLUMN, style.DOUBLE_COLUMN])
@pytest.mark.parametrize("plot", FIGURES)
def test_figures_of_both_widths_are_saved_without_complaint(plot, width, tmp_path):
    drawn = plot(result(), width=width)
    assert drawn.figure.get_figwidth() == width
    # thousands of faces take seconds
    formats = ("png",) if plot is plot_youngs_modulus_surface else ("png", "pdf")
    for file in style.save_figure(drawn, tmp_path / "figure", formats):
        assert file.stat().st_size > 2000


def test_perfect_agreement_is_drawn_without_complaint(tmp_path):
    same = result(C=SILICON, series=dataclasses.replace(series(SILICON, curvature=0.0)))
    for plot in FIGURES[:3]:
        style.save_figure(plot(same), tmp_path / plot.__name__)
    plot_youngs_modulus_surface(same).figure.draw_without_rendering()


def test_a_result_without_a_series_says_so():
    ax = plot_stress_strain(result(series=StrainSeries()))
    assert ax.texts[0].get_text() == "no strain series in this result"


def test_importing_and_plotting_leave_the_settings_alone():
    code = (
        "import sys, matplotlib as mpl; before = mpl.rcParams.copy();"
        "import solidqmmm.plotting.elasticity, solidqmmm.plotting.youngs_modulus;"
        "assert mpl.rcParams.copy() == before; assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    before = dict(mpl.rcParams)
    for plot in FIGURES[:3]:
        plot(result())
    assert dict(mpl.rcParams) == before
