"""Figures: every number of the result is in them, axes have labels with units, nothing outside is changed."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from ase.build import bulk

from solidqmmm.plotting import style
from solidqmmm.plotting.check import plot_check
from solidqmmm.plotting.cluster import draw_cluster
from solidqmmm.plotting.dynamics import plot_dynamics
from solidqmmm.plotting.relaxation import plot_convergence, plot_displacements, plot_neighbours
from solidqmmm.procedures.carve import carve
from solidqmmm.results.base import Result
from solidqmmm.results.relaxation import RelaxationTrace
from solidqmmm.system.caps import CapRules
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.partition import BUFFER, CORE, Partition

mpl.use("Agg")
import matplotlib.pyplot as plt

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def relaxation():
    return Result.load(GOLDEN / "defect_relaxation.json")


@pytest.fixture(scope="module")
def without_energy(relaxation):
    trace = dataclasses.replace(relaxation.trace, energy_eV=None)
    reason = {"energy_missing_reason": "force mixing has none", "formation_energy_eV": None}
    return dataclasses.replace(relaxation, trace=trace, energy_eV=None, **reason)


@pytest.fixture(scope="module")
def check():
    return Result.load(GOLDEN / "check.json")


@pytest.fixture(scope="module")
def dynamics():
    return Result.load(GOLDEN / "dynamics.json")


def silicon(repeats=(4, 4, 4), core=2.6, quantum=4.2, vacancy=True, rules=None):
    """A crystal of silicon, and a cluster around its middle."""
    crystal = Crystal.from_atoms(bulk("Si", a=5.431, cubic=True)).supercell(repeats)
    middle = int(np.argmin(np.linalg.norm(crystal.positions - crystal.cell.sum(axis=0) / 2, axis=1)))
    centre = crystal.positions[middle]
    crystal = crystal.without(middle) if vacancy else crystal
    distance = np.linalg.norm(crystal.positions - centre, axis=1)
    labels = np.select([distance < core, distance < quantum], [CORE, BUFFER], 0)
    return crystal, carve(crystal, Partition(labels, centre), rules or CapRules(clashing="keep")), centre


def markers(ax):
    """Number of points drawn as markers; a line's own handles in legends do not count."""
    return sum(len(line.get_xdata()) for line in ax.lines if line.get_marker() not in ("None", None, ""))


def all_text(figure):
    figure.draw_without_rendering()
    return " ".join(text.get_text() for text in figure.findobj(mpl.text.Text)).replace("\n", " ")


def save(drawn, tmp_path):
    """Saved as users do, with warnings as errors: missing glyphs and impossible layouts show up here."""
    for file in style.save_figure(drawn, tmp_path / "figures" / "figure"):
        assert file.stat().st_size > 2000


# --- style ------------------------------------------------------------------------------------------------------


def test_importing_and_plotting_leave_the_settings_alone(relaxation):
    code = (
        "import sys, matplotlib as mpl; before = mpl.rcParams.copy();"
        "import solidqmmm.plotting.cluster, solidqmmm.plotting.relaxation, solidqmmm.plotting.check,"
        " solidqmmm.plotting.dynamics, solidqmmm.plotting.phonons;"
        "assert mpl.rcParams.copy() == before; assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    before = dict(mpl.rcParams)
    plot_displacements(relaxation)
    assert dict(mpl.rcParams) == before


def test_roles_are_told_apart_also_in_grey():
    """Core, buffer, frozen and cap differ in lightness, so that a grey print or any colour blindness keeps them apart."""
    weights = np.array([0.2126, 0.7152, 0.0722])  # ITU-R BT.709
    grey = sorted(weights @ mpl.colors.to_rgb(style.COLOURS[r]) for r in ("core", "buffer", "frozen", "cap"))
    assert np.diff(grey).min() > 0.08


# --- relaxation -----------------------------------------------------------------------------------------------------


def test_displacements_shows_every_atom(relaxation, tmp_path):
    ax = plot_displacements(relaxation)
    assert markers(ax) == len(relaxation.displacement_norm_A)
    assert ax.get_xlabel() == "distance from the defect (Å)"
    assert ax.get_ylabel() == "displacement (Å)"
    assert {"core", "buffer", "host"} <= {text.get_text() for text in ax.get_legend().texts}
    assert ax.figure.get_figwidth() == style.SINGLE_COLUMN
    save(ax, tmp_path)


def test_guide_line_lies_on_an_elastic_field(relaxation):
    r = np.linspace(2.0, 40.0, 500)
    label = np.where(r < 5, "core", "host")
    field = {"displacement_distance_A": r, "displacement_norm_A": 0.3 / r**2, "displacement_label": label}
    ax = plot_displacements(dataclasses.replace(relaxation, **field))
    guide = next(line for line in ax.lines if r"\propto" in line.get_label())
    np.testing.assert_allclose(guide.get_ydata(), 0.3 / guide.get_xdata() ** 2, rtol=1e-12)


def test_atoms_that_did_not_move_are_drawn_at_the_floor(relaxation, tmp_path):
    still = dataclasses.replace(relaxation, displacement_norm_A=np.zeros(len(relaxation.displacement_norm_A)))
    ax = plot_displacements(still)
    assert markers(ax) == len(relaxation.displacement_norm_A)
    save(ax, tmp_path)


def test_convergence_has_a_point_for_each_call_and_the_threshold(relaxation, tmp_path):
    ax = plot_convergence(relaxation)
    assert markers(ax) == len(relaxation.trace)
    assert any(np.allclose(line.get_ydata(), relaxation.fmax_eV_per_A) for line in ax.lines)
    assert ax.get_ylabel() == "largest force (eV/Å)"
    energies = ax.figure.axes[1]
    assert energies.get_ylabel() == "energy − last (eV)"
    assert energies.get_xlabel() == "quantum calls"
    assert markers(energies) == len(relaxation.trace)
    save(ax, tmp_path)


def test_convergence_without_energy_says_why(without_energy, tmp_path):
    ax = plot_convergence(without_energy)
    assert len(ax.figure.axes) == 1
    assert "no energy: force mixing has none" in all_text(ax.figure)
    save(ax, tmp_path)


def test_neighbours_shows_every_neighbour_and_pair(relaxation, tmp_path):
    ax = plot_neighbours(relaxation)
    assert markers(ax) == len(relaxation.neighbour_displacements_A)
    assert ax.get_ylabel() == "outward displacement (Å)"
    pairs = ax.figure.axes[1]
    assert markers(pairs) == 2 * len(relaxation.neighbour_pair_distances_A) == 12
    assert pairs.get_ylabel() == "pair distance (Å)"
    save(ax, tmp_path)


@pytest.mark.parametrize("plot", [plot_displacements, plot_convergence, plot_neighbours])
def test_axes_passed_in_are_used(plot, relaxation, without_energy):
    for result in (relaxation, without_energy):
        figure, ax = plt.subplots()
        assert plot(result, ax=ax) is ax
        assert figure.axes == [ax]
        assert ax.has_data()


@pytest.mark.parametrize("plot", [plot_displacements, plot_convergence, plot_neighbours])
def test_empty_results_give_empty_axes(plot, relaxation, tmp_path):
    arrays = ("displacement_distance_A", "displacement_norm_A", "displacement_label")
    pairs = ("neighbour_pair_distances_A", "neighbour_pair_distances_before_A")
    nothing = dict.fromkeys((*arrays, *pairs), ()) | {
        "neighbour_displacements_A": [],
        "trace": RelaxationTrace(),
    }
    save(plot(dataclasses.replace(relaxation, **nothing)), tmp_path)


def test_labels_of_many_pairs_do_not_touch(relaxation):
    """A close-packed vacancy has 66 pairs in its first shell; a surface, 36."""
    for count in (7, 36, 66):
        pairs = np.linspace(2.5, 5.1, count)
        many = {"neighbour_pair_distances_A": pairs, "neighbour_pair_distances_before_A": pairs}
        result = dataclasses.replace(relaxation, **many)
        ax = plot_neighbours(result).figure.axes[1]
        ax.figure.draw_without_rendering()
        boxes = [label.get_window_extent() for label in ax.get_xticklabels()]
        assert len(boxes) >= 3
        assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_forces_that_vanish_are_drawn_without_complaint(relaxation, tmp_path):
    trace = RelaxationTrace().with_call(max_force=0.0, energy=-1.0).with_call(max_force=0.0, energy=-1.0)
    save(plot_convergence(dataclasses.replace(relaxation, trace=trace)), tmp_path)


# --- check ----------------------------------------------------------------------------------------------------------


def test_check_has_four_panels_with_units_and_verdicts(check, tmp_path):
    figure = plot_check(check)
    patch, series, mismatch, drift = figure.axes
    assert patch.get_ylabel() == "spurious force (eV/Å)"
    assert series.get_xlabel() == "buffer width (Å)"
    assert series.get_ylabel() == "force error (eV/Å)"
    assert mismatch.get_xlabel() == "engine − host (%)"
    assert drift.get_ylabel() == "total energy − first (meV/atom)"
    assert drift.get_xlabel() == "time (fs)"
    assert [ax.get_title("right") for ax in figure.axes] == ["fail", "fail", "fail", "pass"]
    assert markers(series) == 2 * len(check.buffer_series.width)
    assert markers(mismatch) == len(check.mismatch.pairs())
    assert len(drift.lines[0].get_xdata()) == len(check.energy_drift.times_fs)
    bars = [bar for bar in patch.patches if np.isfinite(bar.get_height())]
    assert len(bars) == 2 * (len(check.patch_test.rms_unstrained_eV_per_A) + 1)
    assert figure.get_figwidth() == style.DOUBLE_COLUMN
    save(figure, tmp_path)


def test_panels_that_were_not_computed_say_why(tmp_path):
    partial = Result.load(GOLDEN / "check_partial.json")
    figure = plot_check(partial)
    said = all_text(figure)
    assert partial.buffer_series_missing_reason in said
    assert partial.energy_drift_missing_reason in said
    save(figure, tmp_path)


def test_a_perfect_boundary_is_drawn(check, tmp_path):
    """No spurious force at all, two equal descriptions, no drift: nothing to take a logarithm of."""
    zero = dict.fromkeys(check.patch_test.rms_unstrained_eV_per_A, 0.0)
    patch = dataclasses.replace(
        check.patch_test, max_unstrained_eV_per_A=0.0, max_strained_eV_per_A=0.0,
        rms_unstrained_eV_per_A=zero, rms_strained_eV_per_A=zero,
    )  # fmt: skip
    none = np.zeros(len(check.buffer_series.width))
    errors = {"rms_core_error_eV_per_A": none, "max_core_error_eV_per_A": none, "width_unit": "hops"}
    series = dataclasses.replace(check.buffer_series, **errors)
    same = dataclasses.replace(
        check.mismatch, lattice_engine_A=check.mismatch.lattice_host_A, bulk_modulus_engine_GPa=None,
        elastic_tensor_engine_GPa=None, elastic_missing_reason="too dear", percent={},
    )  # fmt: skip
    tests = [test | {"value": 0.0, "passed": True} for test in check.tests]
    parts = {"patch_test": patch, "buffer_series": series, "mismatch": same}
    perfect = dataclasses.replace(check, tests=tests, passed=None, **parts)
    figure = plot_check(perfect)
    assert figure.axes[1].get_xlabel() == "buffer width (hops)"
    assert [ax.get_title("right") for ax in figure.axes] == ["pass"] * 4
    save(figure, tmp_path)


def test_parts_without_thresholds_have_no_verdict(check, tmp_path):
    figure = plot_check(
        dataclasses.replace(
            check,
            tests=[test | {"threshold": None, "passed": None} for test in check.tests[:3]],
            patch_test=dataclasses.replace(
                check.patch_test, threshold_eV_per_A=None, max_strained_eV_per_A=None
            ),
            buffer_series=dataclasses.replace(check.buffer_series, threshold_eV_per_A=None, study_width=None),
            mismatch_threshold_percent=None,
            energy_drift=dataclasses.replace(check.energy_drift, threshold_meV_per_atom_per_ps=None),
        )
    )
    assert [ax.get_title("right") for ax in figure.axes] == [""] * 4
    save(figure, tmp_path)


def test_verdicts_are_those_of_the_tests_and_matching_is_shown(check, tmp_path):
    """A study that matches the descriptions is judged by what is left; the figure shows both, the verdict is the tests'."""
    left_out = {"value": None, "threshold": None, "passed": None}
    tests = [test | left_out if test["name"] == "lattice mismatch" else test for test in check.tests]
    _, _, mismatch, _ = plot_check(dataclasses.replace(check, tests=tests)).axes
    assert markers(mismatch) == 2 * len(check.mismatch.pairs())
    assert mismatch.get_xlabel() == "engine − host (%); open: before matching"
    left = check.mismatch.percent_matched()
    assert left["a"] == left["B"] == 0.0
    shown = {line.get_xdata()[0] for line in mismatch.lines if line.get_marker() == "o"}
    assert left["C44"] in shown
    all_passed = [test | {"passed": True} for test in check.tests]
    figure = plot_check(dataclasses.replace(check, tests=all_passed))
    assert [ax.get_title("right") for ax in figure.axes] == ["pass"] * 4
    save(mismatch.figure, tmp_path)


# --- dynamics -------------------------------------------------------------------------------------------------------


def test_dynamics_shows_temperature_and_energies(dynamics, tmp_path):
    upper, lower = plot_dynamics(dynamics)
    assert upper.get_ylabel() == "temperature (K)"
    assert lower.get_ylabel() == "energy − first (eV)"
    assert lower.get_xlabel() == "time (fs)"
    assert [len(line.get_xdata()) for line in (*upper.lines, *lower.lines)] == [len(dynamics.times_fs)] * 3
    save(upper, tmp_path)


def test_dynamics_without_energy_says_why_or_shows_the_work(dynamics, tmp_path):
    absent = {
        "potential_energy_eV": None,
        "total_energy_eV": None,
        "energy_missing_reason": "force mixing has none",
    }
    axes = plot_dynamics(dataclasses.replace(dynamics, **absent))
    assert "force mixing has none" in all_text(axes[0].figure)
    save(axes[0], tmp_path)
    work = dynamics.potential_energy_eV - dynamics.potential_energy_eV[0]
    _, lower = plot_dynamics(dataclasses.replace(dynamics, **absent, integrated_work_eV=work))
    assert [text.get_text() for text in lower.get_legend().texts] == ["integrated work"]


def test_long_runs_count_in_picoseconds_and_one_axes_gets_the_temperature(dynamics):
    _, ax = plt.subplots()
    assert plot_dynamics(dataclasses.replace(dynamics, times_fs=100 * dynamics.times_fs), ax) is ax
    assert ax.get_xlabel() == "time (ps)"
    assert ax.get_ylabel() == "temperature (K)"


# --- cluster --------------------------------------------------------------------------------------------------------


def outlines(ax):
    """Spheres of the picture: closed curved paths with an outline."""
    drawn = ax.collections[0]
    curved = [len(path.vertices) > 10 for path in drawn.get_paths()]
    widths = np.resize(drawn.get_linewidths(), len(curved))
    return int(np.sum(np.array(curved) & (widths > 0)))


def legend(ax):
    return [text.get_text() for text in ax.get_legend().texts]


def test_cluster_shows_every_atom_cap_and_outer_atom(tmp_path):
    crystal, cluster, _ = silicon()
    outer = len(np.unique(cluster.bonded_outer_positions(cluster.reference, crystal.cell).round(3), axis=0))
    ax = draw_cluster(cluster, crystal)
    assert outlines(ax) == cluster.n_quantum + len(cluster.caps) + outer
    assert legend(ax) == ["core", "buffer", "H cap", "host", "vacancy"]
    assert any("Å" in text.get_text() for text in ax.texts)
    assert ax.figure.get_figwidth() == style.SINGLE_COLUMN
    save(ax, tmp_path)


def test_vacancy_is_marked_where_it_is():
    """The ring's centre is the projection of the missing atom: the mean of its four neighbours' discs."""
    crystal, cluster, centre = silicon()
    rings = []
    for mark in (None, centre, centre + crystal.cell[0]):
        ax = draw_cluster(cluster, crystal, centre=mark, view=(0, 0, 1))
        rings.append(next(patch for patch in ax.patches if patch.get_gid() == "defect").center)
    np.testing.assert_allclose(rings[0], rings[1], atol=1e-9)
    np.testing.assert_allclose(rings[0], rings[2], atol=1e-9)
    assert not draw_cluster(cluster, crystal, centre=False).patches


def test_defects_with_an_atom_in_the_middle_and_bulk():
    _, cluster, centre = silicon(vacancy=False)
    assert "vacancy" not in legend(draw_cluster(cluster))
    assert legend(draw_cluster(cluster, centre=centre))[-1] == "defect"


def test_scale_is_true_and_discs_are_round():
    crystal, cluster, _ = silicon()
    ax = draw_cluster(cluster, crystal)
    assert ax.get_aspect() == 1.0
    bar = next(line for line in ax.lines if line.get_gid() == "scale bar")
    length = float(next(text.get_text() for text in ax.texts if text.get_text().endswith("Å")).split()[0])
    assert np.ptp(bar.get_xdata()) == pytest.approx(length)


def test_present_positions_are_drawn():
    crystal, cluster, _ = silicon()
    moved = crystal.with_positions(crystal.positions + np.array([0.5, 0.2, 0.0]))
    far = crystal.with_positions(crystal.positions + crystal.cell[1])
    before, shifted, wrapped = (draw_cluster(cluster, c, view=(0, 0, 1)) for c in (crystal, moved, far))

    def corner(ax):
        return np.array([ax.get_xlim()[0], ax.get_ylim()[0]])

    assert np.linalg.norm(corner(shifted) - corner(before)) == pytest.approx(np.hypot(0.5, 0.2), abs=1e-6)
    np.testing.assert_allclose(corner(wrapped), corner(before), atol=1e-6)


def test_core_is_in_sight():
    """The automatic view hides less of the core than looking straight along a cell vector, where atoms line up."""
    from solidqmmm.plotting import cluster as module

    crystal, cluster, _ = silicon()
    scene = module._Scene.of(cluster, crystal)
    weights = (scene.roles == "core").astype(float) + 1e-3 * (scene.roles == "buffer")

    def visibility(frame):
        return module.visibility(scene.positions, scene.radii, weights, frame)

    chosen = visibility(module._frame(None, cluster, scene, None))
    assert all(chosen >= visibility(module.upright(axis, crystal.cell)) for axis in np.eye(3))


def test_bare_clusters_and_periodic_ones(tmp_path):
    crystal, cluster, _ = silicon(rules=CapRules(kind="none"))
    ax = draw_cluster(cluster, crystal, legend=False)
    assert outlines(ax) == cluster.n_quantum
    assert ax.get_legend() is None
    crystal = Crystal.from_atoms(bulk("Si", a=5.431, cubic=True)).supercell((5, 5, 1))
    middle = crystal.cell.sum(axis=0) / 2
    labels = np.where(np.linalg.norm((crystal.positions - middle)[:, :2], axis=1) < 4.5, CORE, 0)
    cluster = carve(crystal, Partition(labels, middle), CapRules(clashing="keep"), periodic_axes=(2,))
    save(draw_cluster(cluster, crystal), tmp_path)


def test_elements_of_one_role_have_entries_of_their_own():
    crystal = Crystal.from_atoms(bulk("GaAs", "zincblende", a=5.653, cubic=True)).supercell((4, 4, 4))
    distance = np.linalg.norm(crystal.positions - crystal.positions[256], axis=1)
    labels = np.select([distance < 2.6, distance < 4.1], [CORE, BUFFER], 0)
    cluster = carve(crystal, Partition(labels, crystal.positions[256]), CapRules(clashing="keep"))
    names = legend(draw_cluster(cluster))
    assert {"Ga core", "As core"} <= set(names)
    assert len(set(names)) == len(names)


def test_large_clusters_are_cut_open_to_show_the_core():
    crystal, cluster, _ = silicon((6, 6, 6), quantum=9.5)
    whole = draw_cluster(cluster, crystal, view=(1, 0.2, 0.1), cutaway=False)
    opened = draw_cluster(cluster, crystal, view=(1, 0.2, 0.1))
    assert cluster.n_quantum > 100
    assert outlines(opened) < outlines(whole)


def test_cluster_draws_into_given_axes():
    crystal, cluster, _ = silicon()
    figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.5))
    assert draw_cluster(cluster, crystal, ax=right) is right
    assert figure.axes == [left, right]
    assert not left.has_data()
