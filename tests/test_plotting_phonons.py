"""Figures of defect phonons: what is drawn is what is in the result, what is absent is absent, nothing overlaps.

The numbers are those of carbon in silicon (Tersoff): a triplet at 750.31 1/cm above a band that ends at 16.07 THz, and what
other methods make of it with a core of five atoms or of one.
"""

from __future__ import annotations

import dataclasses
from itertools import combinations

import matplotlib as mpl
import numpy as np
import pytest

from solidqmmm.physics.vibrations.localized_modes import CM1_PER_THZ
from solidqmmm.plotting import style
from solidqmmm.plotting.cluster import upright
from solidqmmm.plotting.phonons import LEVEL, plot_frequency_ladder, plot_local_dos, plot_mode
from solidqmmm.plotting.vibration import mulliken
from solidqmmm.results.phonons import DefectPhononsResult

mpl.use("Agg")
import matplotlib.pyplot as plt

TOP, EXACT = 16.0677, 750.3102 / CM1_PER_THZ
CARBON_SILICON = (
    1.96448 / np.sqrt(3) * np.array([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
)
GRID = np.linspace(0.0, 25.0, 501)
PLOTS = [plot_frequency_ladder, plot_local_dos, plot_mode]


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def peak(centre, weight, width=0.15):
    return weight * np.exp(-0.5 * ((GRID - centre) / width) ** 2) / (width * np.sqrt(2 * np.pi))


def modes_of(*sets):
    """Modes from (THz, irrep, degeneracy, kind)."""
    return [
        {
            "frequency_THz": f, "frequency_cm-1": f * CM1_PER_THZ, "participation_ratio": 0.01, "core_weight": 0.98,
            "kind": kind, "degeneracy": d, "irrep": irrep,
        }
        for f, irrep, d, kind in sets
        for _ in range(d)
    ]  # fmt: skip


def below(*wavenumbers):
    """A triplet this far from the exact one, for each distance in 1/cm."""
    return [EXACT + w / CM1_PER_THZ for w in wavenumbers for _ in range(3)]


@pytest.fixture
def carbon():
    displacements = np.zeros((6, 5, 3))
    displacements[:3, 0] = displacements[3:, 0] = np.sqrt(0.851 / 12.0) * np.eye(3)
    displacements[:3, 1:] = -0.14 * np.sqrt(0.851 / 12.0) * np.eye(3)[:, None]
    return DefectPhononsResult(
        method="dynamic",
        modes=modes_of((EXACT, "T2", 3, "local"), (TOP - 0.01, "T1", 3, "band")),
        ladder_THz={
            "clamped": [*below(-1.078), 12.6], "static": [*below(-8.581), 10.87], "guyan": below(-61.231),
            "dynamic": below(0.0), "full": [*below(0.0), *[TOP - 0.01] * 3], "infinite": below(0.25),
        },
        static_condensation_error_THz=-8.581 / CM1_PER_THZ,
        bulk_band_top_THz=TOP,
        bulk_bands_THz=[[0.0, TOP]],
        hessian_asymmetry_eV_per_A2=1e-6,
        sum_rule_error_eV_per_A2=1e-6,
        n_force_evaluations_host=217,
        max_force_eV_per_A=1e-6,
        displacement_A=1e-3,
        defect="substitution (C)",
        n_atoms_host=1728,
        n_core=5,
        core=np.arange(5),
        core_symbols=["C", "Si", "Si", "Si", "Si"],
        core_positions_A=CARBON_SILICON + 23.0,
        masses_amu=[12.0, *[28.085] * 4],
        mode_displacements=displacements,
        dos_frequency_THz=GRID,
        bulk_dos_per_THz=peak(5, 0.8, 0.8) + peak(10, 0.8, 2.0) + peak(15, 1.4, 0.35),
        local_dos_per_THz=peak(7, 1.2, 2.0) + peak(14.5, 1.0, 0.4) + peak(EXACT, 0.6),
        defect_dos_per_THz=peak(7, 0.45, 2.0) + peak(EXACT, 3 * 0.851),
    )  # fmt: skip


def one_atom(result):
    """The same with a core of one atom, whose mode static condensation and Guyan's lose."""
    ladder = result.ladder_THz | {"clamped": below(-48.518), "static": [-1e-5] * 3, "guyan": [-1e-5] * 3}
    first = {
        name: getattr(result, name)[:1] for name in ("core", "core_symbols", "core_positions_A", "masses_amu")
    }
    moves = result.mode_displacements[:, :1]
    return dataclasses.replace(result, ladder_THz=ladder, **first, mode_displacements=moves, n_core=1)


def many_modes(result):
    """An imaginary mode, one in a gap, and many that lie close together above the bands; Si-H far above."""
    sets = [
        (62.1, "A1", 1, "local"), (61.9, "E", 2, "local"), (19.4, "A1", 1, "local"), (19.3, "E", 2, "local"),
        (19.25, None, 1, "local"), (19.2, "A1 + E", 3, "local"), (10.8, "A2", 1, "gap"), (5.0, "E", 2, "band"),
        (-2.5, "B1", 1, "local"),
    ]  # fmt: skip
    modes = modes_of(*sets)
    for mode in modes[1:5]:  # elsewhere than on the core
        mode["core_weight"] = 0.03
    ladder = {
        "static": [m["frequency_THz"] - 1 for m in modes],
        "dynamic": [m["frequency_THz"] for m in modes],
    }
    moves = np.repeat(result.mode_displacements[:1], len(modes), axis=0)
    bands = [[0.0, 9.5], [12.0, 19.1]]
    return dataclasses.replace(
        result,
        modes=modes,
        ladder_THz=ladder,
        mode_displacements=moves,
        bulk_bands_THz=bands,
        bulk_band_top_THz=19.1,
    )


def without(result):
    """A result of the barest kind."""
    nothing = {
        "dos_frequency_THz": (),
        "bulk_dos_per_THz": None,
        "local_dos_per_THz": None,
        "defect_dos_per_THz": None,
    }
    nothing |= {
        "modes": [],
        "mode_displacements": np.zeros((0, 5, 3)),
        "ladder_THz": {},
        "bulk_bands_THz": (),
    }
    return dataclasses.replace(result, **nothing)


def tagged(ax, gid, kind=mpl.artist.Artist):
    return [artist for artist in ax.findobj(kind) if artist.get_gid() == gid]


def levels(ax):
    """Middle of the column and height of every dash."""
    return [tuple(segment.mean(axis=0)) for lines in tagged(ax, "level") for segment in lines.get_segments()]


def words(ax, gid):
    return [text.get_text() for text in tagged(ax, gid, mpl.text.Text)]


def extent(text, figure):
    return mpl.text.Text.get_window_extent(text, figure.canvas.get_renderer())


def overlaps(ax):
    """Pairs of labels inside the axes whose boxes meet."""
    figure = ax.figure
    figure.draw_without_rendering()
    texts = [text for text in ax.texts if text.get_text()]
    boxes = [(text.get_text(), extent(text, figure).padded(-0.5)) for text in texts]
    boxes += [("legend", ax.get_legend().get_window_extent())] if ax.get_legend() else []
    return [(a, b) for (a, one), (b, other) in combinations(boxes, 2) if one.overlaps(other)]


def save(ax, tmp_path):
    for file in style.save_figure(ax, tmp_path / "figure"):
        assert file.stat().st_size > 2000


# --- ladder ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [3.4, 7.0])
@pytest.mark.parametrize("change", [lambda r: r, one_atom, many_modes])
def test_ladder_has_a_dash_for_every_frequency_and_no_labels_that_meet(carbon, change, width, tmp_path):
    result = change(carbon)
    ax = plot_frequency_ladder(result, width=width)
    shown = levels(ax)
    for column, method in enumerate(result.ladder_THz):
        of_method = sorted(f for x, f in shown if column <= x <= column + 1)
        np.testing.assert_allclose(of_method, sorted(result.ladder_THz[method]))
    assert len(shown) == sum(map(len, result.ladder_THz.values()))
    low, high = ax.get_ylim()
    assert low < min(f for _, f in shown) <= max(f for _, f in shown) < high
    assert overlaps(ax) == []
    assert ax.figure.get_figwidth() == width
    save(ax, tmp_path)


def test_ladder_names_methods_and_local_modes(carbon):
    ax = plot_frequency_ladder(carbon)
    names = [label.get_text() for label in ax.get_xticklabels()]
    assert names == ["bulk", "clamped", "static", "Guyan", "dynamic", "full", "infinite"]
    assert words(ax, "local mode") == ["$T_{2}$ 22.494 THz\n750.31 cm$^{-1}$"]
    assert ax.get_ylabel() == "frequency (THz)"
    (second,) = ax.child_axes
    ax.figure.draw_without_rendering()
    np.testing.assert_allclose(second.get_ylim(), np.array(ax.get_ylim()) * CM1_PER_THZ)
    assert second.get_ylabel() == "frequency (cm$^{-1}$)"


def test_ladder_says_how_far_each_method_is_off(carbon):
    ax = plot_frequency_ladder(carbon)
    assert words(ax, "distance") == ["−1.1", "−8.6", "−61", "0", "+0.25"]
    assert ax.get_title("right") == "numbers: distance from full (cm$^{-1}$)"
    (line,) = tagged(ax, "reference")
    np.testing.assert_allclose(line.get_ydata(), EXACT)
    # Guyan's has room for an arrow; the lost mode of a one-atom core has one all the way down
    assert [arrow.xy[1] for arrow in tagged(ax, "arrow", mpl.text.Annotation)] == pytest.approx(
        below(-61.231)[:1]
    )
    lost = plot_frequency_ladder(one_atom(carbon))
    arrows = tagged(lost, "arrow", mpl.text.Annotation)
    assert words(lost, "distance")[:3] == ["−49", "−750", "−750"]
    assert [(arrow.xyann[1], arrow.xy[1]) for arrow in arrows[-2:]] == [(pytest.approx(EXACT), -1e-5)] * 2
    assert lost.get_ylabel() == "frequency (THz)"  # rounding of zero is not imaginary


def test_ladder_tells_exact_from_approximate_and_local_from_band(carbon):
    ax = plot_frequency_ladder(carbon)
    colours = {}
    for lines in tagged(ax, "level"):
        for segment in lines.get_segments():
            colours[int(segment[0, 0]), round(segment[0, 1], 2)] = mpl.colors.to_hex(lines.get_colors()[0])
    exact, other = (mpl.colors.to_hex(LEVEL[key]) for key in (True, False))
    assert {colours[k, round(EXACT, 2)] for k in (3, 4)} == {exact}
    assert colours[1, round(below(-8.581)[0], 2)] == other
    assert colours[1, 10.87] not in (exact, other)
    assert colours[4, round(TOP - 0.01, 2)] not in (exact, other)


def test_ladder_shows_the_bulk(carbon):
    ax = plot_frequency_ladder(carbon)
    (band,) = tagged(ax, "band", mpl.patches.Rectangle)
    assert (band.get_y(), band.get_y() + band.get_height()) == (0.0, pytest.approx(TOP))
    (edge,) = tagged(ax, "bulk")
    left = ax.get_xlim()[0]
    x, seen = edge.get_xdata() - left, carbon.bulk_dos_per_THz > 1e-3 * carbon.bulk_dos_per_THz.max()
    ratio = x[seen] / carbon.bulk_dos_per_THz[seen]
    np.testing.assert_allclose(ratio, ratio[0])
    assert np.isnan(x[~seen]).all()
    assert edge.get_xdata()[seen].max() < 0
    bare = plot_frequency_ladder(dataclasses.replace(carbon, bulk_dos_per_THz=None, bulk_bands_THz=()))
    assert tagged(bare, "bulk") == tagged(bare, "band") == []


def test_gaps_and_imaginary_modes(carbon):
    result = many_modes(carbon)
    ax = plot_frequency_ladder(result)
    assert ax.get_ylabel() == "frequency (THz), below 0 imaginary"
    said = words(ax, "local mode")
    assert len(said) == 6
    assert ax.get_title("left") == "and 2 more"
    assert "$B_{1}$ −2.500 THz" in said
    assert "$A_{2}$ 10.800 THz" in said
    assert "19.250 THz" in said
    assert len(tagged(ax, "band", mpl.patches.Rectangle)) == 2


def test_methods_that_were_not_computed_are_absent(carbon):
    ladder = {"static": [15.0], "guyan": []}
    ax = plot_frequency_ladder(dataclasses.replace(carbon, ladder_THz=ladder, modes=carbon.modes[3:]
        , mode_displacements=carbon.mode_displacements[3:]))  # fmt: skip
    assert [label.get_text() for label in ax.get_xticklabels()] == ["bulk", "static", "Guyan"]
    assert [f for _, f in levels(ax)] == [15.0]
    assert tagged(ax, "reference") == words(ax, "distance") == words(ax, "local mode") == []
    # an exact method whose highest mode is in the band is no reference
    ax = plot_frequency_ladder(dataclasses.replace(carbon, ladder_THz={"static": [15.0], "full": [16.0]}))
    assert tagged(ax, "reference") == words(ax, "distance") == []


# --- local density of states ----------------------------------------------------------------------------------------


def test_resonances_have_a_triangle_and_the_title_says_how(carbon):
    result = dataclasses.replace(
        carbon,
        resonances=[{"frequency_THz": 7.0, "frequency_cm-1": 233.5, "width_THz": 1.0, "enhancement": 3.0}],
        local_dos_method="Dyson's equation",
        local_dos_half_width_THz=0.1421,
    )
    ax = plot_local_dos(result)
    (marks,) = tagged(ax, "resonance", mpl.collections.PathCollection)
    height = np.interp(7.0, GRID, carbon.defect_dos_per_THz)
    np.testing.assert_allclose(marks.get_offsets(), [[7.0, height]])
    assert ax.get_title("right") == "Dyson's equation, half width 0.14 THz"
    assert "resonance" in [text.get_text() for text in ax.get_legend().get_texts()]
    assert overlaps(ax) == []
    bare = plot_local_dos(carbon)
    assert tagged(bare, "resonance", mpl.collections.PathCollection) == []
    assert bare.get_title("right") == ""


def test_a_vacancy_whose_neighbours_are_alike_has_one_line_for_them(carbon):
    """Else the line of the nearest atom hides that of the core, which the legend still names."""
    result = dataclasses.replace(carbon, defect="vacancy (Ni)", defect_dos_per_THz=carbon.local_dos_per_THz)
    names = [text.get_text() for text in plot_local_dos(result).get_legend().get_texts()]
    assert "core, nearest atom" in names
    assert not any(name.startswith("core (") for name in names)


@pytest.mark.parametrize("width", [3.4, 7.0])
@pytest.mark.parametrize("change", [lambda r: r, many_modes])
def test_local_dos_draws_the_three_densities(carbon, change, width, tmp_path):
    result = change(carbon)
    ax = plot_local_dos(result, width=width)
    drawn = {line.get_label(): line.get_ydata() for line in ax.lines if not line.get_label().startswith("_")}
    assert list(drawn) == ["bulk", "core (5 atoms)", "defect's atom"]
    np.testing.assert_array_equal(drawn["bulk"], result.bulk_dos_per_THz)
    np.testing.assert_array_equal(drawn["core (5 atoms)"], result.local_dos_per_THz)
    np.testing.assert_array_equal(drawn["defect's atom"], result.defect_dos_per_THz)
    marked = [line.get_xdata()[0] for line in tagged(ax, "local mode", mpl.lines.Line2D)]
    outside = {m["frequency_THz"] for m in result.modes if m["kind"] != "band"}
    assert set(marked) == outside
    assert ax.get_xlim()[0] < min(marked) <= max(marked) < ax.get_xlim()[1]
    assert len(words(ax, "local mode")) == min(len(marked), 6)
    assert overlaps(ax) == []
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("frequency (THz)", "density of states (THz$^{-1}$)")
    save(ax, tmp_path)


def test_a_high_local_mode_breaks_the_axis_and_resonances_stay_large(carbon):
    ax = plot_local_dos(carbon)
    assert len(tagged(ax, "break")) == 1
    transform = ax.transScale.transform
    inside = carbon.bulk_dos_per_THz.max()
    share = transform((0, inside))[1] / transform((0, ax.get_ylim()[1]))[1]
    assert share > 0.55  # without a break: 1.6 of 6.8
    assert ax.get_ylim()[1] > carbon.defect_dos_per_THz.max()
    ticks = np.array([t for t in ax.get_yticks() if 0 <= t <= ax.get_ylim()[1]])
    assert ticks[0] == 0.0
    assert ticks[-1] > 2 * inside
    # the axis's two maps are inverse to each other
    values = np.linspace(0, ax.get_ylim()[1], 40)
    points = np.column_stack([np.zeros(40), values])
    np.testing.assert_allclose(
        ax.transScale.inverted().transform(transform(points))[:, 1], values, atol=1e-12
    )


def test_without_a_high_peak_the_axis_is_whole(carbon):
    low = {"local_dos_per_THz": peak(7, 1.5, 2.0), "defect_dos_per_THz": peak(4, 1.5, 1.0)}
    ax = plot_local_dos(dataclasses.replace(carbon, **low, modes=[], mode_displacements=np.zeros((0, 5, 3))))
    assert tagged(ax, "break") == []
    assert ax.get_yscale() == "linear"
    assert tagged(ax, "local mode") == []


def test_densities_that_are_absent_are_not_drawn(carbon):
    result = dataclasses.replace(carbon, defect_dos_per_THz=None, bulk_dos_per_THz=None)
    ax = plot_local_dos(result)
    assert [text.get_text() for text in ax.get_legend().texts] == ["core (5 atoms)"]
    vacancy = plot_local_dos(dataclasses.replace(carbon, defect="vacancy (Si)"))
    assert "nearest atom" in [text.get_text() for text in vacancy.get_legend().texts]
    zero = dataclasses.replace(result, local_dos_per_THz=np.zeros(len(GRID)))
    assert plot_local_dos(zero).get_ylim()[0] == 0


# --- mode -----------------------------------------------------------------------------------------------------------


def outlines(ax, curved):
    """Closed paths with an edge: spheres where curved."""
    drawn = ax.collections[0]
    widths = np.resize(drawn.get_linewidths(), len(drawn.get_paths()))
    return [
        p
        for p, w in zip(drawn.get_paths(), widths)
        if w > 0 and (p.codes is not None and 4 in p.codes) == curved
    ]


@pytest.mark.parametrize("width", [3.4, 7.0])
@pytest.mark.parametrize("change", [lambda r: r, one_atom])
def test_mode_shows_every_atom_and_arrow(carbon, change, width, tmp_path):
    result = change(carbon)
    ax = plot_mode(result, width=width)
    assert len(outlines(ax, curved=True)) == len(result.core)
    heads = outlines(ax, curved=False)
    assert len(heads) == np.any(result.mode_displacements[0], axis=1).sum()
    assert ax.get_title() == "$T_{2}$   22.494 THz = 750.31 cm$^{-1}$"
    assert ax.figure.get_figwidth() == width
    everything = np.vstack([path.vertices for path in ax.collections[0].get_paths()])
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert left < everything[:, 0].min() < everything[:, 0].max() < right
    assert bottom < everything[:, 1].min() < everything[:, 1].max() < top
    save(ax, tmp_path)


def test_arrows_point_along_the_displacements(carbon):
    """The carbon's arrow ends 1.6 angstrom from its surface, the neighbours' point the other way and are 0.14 as long."""
    radius = {"C": 0.48 * 0.76, "Si": 0.48 * 1.11}
    for mode, direction in enumerate(np.eye(3)[:2]):
        right, up, _ = upright(np.array([0.0, 0.0, 1.0]), np.eye(3))
        ax = plot_mode(carbon, mode, view=(0, 0, 1))
        heads = [path.vertices for path in outlines(ax, curved=False)]
        for k, symbol in enumerate(carbon.core_symbols):
            length = 1.6 if k == 0 else -0.14 * 1.6
            tip = carbon.core_positions_A[k] + direction * (length + np.sign(length) * 0.95 * radius[symbol])
            nearest = min(np.linalg.norm(head - [right @ tip, up @ tip], axis=1).min() for head in heads)
            assert nearest < 1e-3, symbol


def test_atoms_that_hardly_move_have_no_arrow(carbon):
    moves = np.array(carbon.mode_displacements)
    moves[0, 1] *= 0.1
    moves[1] = 0.0
    result = dataclasses.replace(carbon, mode_displacements=moves)
    assert len(outlines(plot_mode(result), curved=False)) == 4
    assert len(outlines(plot_mode(result, 1), curved=False)) == 0


def test_the_automatic_view_shows_the_longest_arrow_from_the_side(carbon):
    for mode in range(3):
        ax = plot_mode(carbon, mode)
        heads = [np.ptp(path.vertices, axis=0).max() for path in outlines(ax, curved=False)]
        assert max(heads) > 0.8 * 0.5  # length of a head, of which little is lost by projection


def test_titles_of_modes(carbon):
    assert plot_mode(many_modes(carbon), -1).get_title() == "$B_{1}$   2.500i THz = 83.39i cm$^{-1}$"
    nameless = [mode | {"irrep": None} for mode in carbon.modes]
    assert (
        plot_mode(dataclasses.replace(carbon, modes=nameless)).get_title() == "22.494 THz = 750.31 cm$^{-1}$"
    )
    with pytest.raises(IndexError, match="one of the 6 modes of the result, 0 to 5, got 6"):
        plot_mode(carbon, 6)


@pytest.mark.parametrize(
    ("symbol", "text"),
    [
        ("T2", "$T_{2}$"), ("A1g", "$A_{1g}$"), ("A", "$A$"), ("Eu", "$E_{u}$"), ("E''", "$E''$"), ("A1'", "$A_{1}'$"),
        ("A1 + 2E", "$A_{1}$ + 2$E$"), (None, ""),
    ],
)  # fmt: skip
def test_symbols(symbol, text):
    assert mulliken(symbol) == text


# --- all ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plot", PLOTS)
def test_axes_passed_in_are_used_and_settings_stay(plot, carbon):
    before = dict(mpl.rcParams)
    figure, ax = plt.subplots()
    assert plot(carbon, ax=ax) is ax
    assert figure.axes == [ax]
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("plot", PLOTS)
def test_empty_results_say_so(plot, carbon, tmp_path):
    ax = plot(without(carbon))
    assert any("in this result" in text.get_text().replace("\n", " ") for text in ax.texts)
    save(ax, tmp_path)


# --- crowded pictures -----------------------------------------------------------------------------------------------


def crowded(result):
    """A dumbbell among fourteen neighbours that hardly move."""
    rng = np.random.default_rng(0)
    around = rng.normal(size=(14, 3))
    around *= 2.6 / np.linalg.norm(around, axis=1)[:, None]
    moves = np.zeros((6, 16, 3))
    moves[:, 0, 0], moves[:, 1, 0], moves[:, 2:, 1] = 0.3, -0.3, 0.02
    return dataclasses.replace(
        result,
        core=np.arange(16),
        core_symbols=["Cu"] * 16,
        core_positions_A=np.vstack([[[1.1, 0, 0], [-1.1, 0, 0]], around]),
        masses_amu=[63.546] * 16,
        mode_displacements=moves,
        n_core=16,
    )


def test_atoms_that_hardly_move_are_small_among_many(carbon):
    sizes = sorted(np.ptp(path.vertices[:, 0]) for path in outlines(plot_mode(crowded(carbon)), curved=True))
    assert len(sizes) == 16
    assert sizes[13] < 0.7 * sizes[14]  # the dumbbell's two are large
    few = sorted(np.ptp(path.vertices[:, 0]) for path in outlines(plot_mode(carbon), curved=True))
    assert few[0] == pytest.approx(2 * 0.48 * 0.76)  # carbon, whole


def test_arrows_do_not_run_into_atoms(carbon):
    """A breathing mode: silicon's arrows point at the carbon, 1.1 angstrom away from surface to surface."""
    moves = np.array(carbon.mode_displacements)
    moves[0] = -0.1 * CARBON_SILICON
    breathing = dataclasses.replace(carbon, mode_displacements=moves)
    ax = plot_mode(breathing, view=(0, 0, 1))
    centre = np.array(upright(np.array([0.0, 0.0, 1.0]), np.eye(3))[:2]) @ carbon.core_positions_A[0]
    for head in outlines(ax, curved=False):
        assert np.linalg.norm(head.vertices - centre, axis=1).min() > 0.48 * 0.76 * np.sqrt(2 / 3) - 0.05


def test_a_mode_that_lives_elsewhere_says_so(carbon):
    far = [mode | {"core_weight": 0.0016} for mode in carbon.modes]
    ax = plot_mode(dataclasses.replace(carbon, modes=far))
    assert ax.get_title().splitlines()[1] == "0.16 % of it on these atoms"


def test_modes_without_number_stay_inside_the_axes(carbon):
    modes = modes_of(*[(17.0 + 0.1 * k, "A", 1, "local") for k in range(30)][::-1])
    moves = np.repeat(carbon.mode_displacements[:1], len(modes), axis=0)
    many = dataclasses.replace(carbon, modes=modes, mode_displacements=moves)
    for plot in (plot_frequency_ladder, plot_local_dos):
        ax = plot(many)
        ax.figure.draw_without_rendering()
        frame = ax.get_window_extent()
        boxes = [extent(text, ax.figure) for text in tagged(ax, "local mode", mpl.text.Text)]
        assert len(boxes) == 6
        assert min(box.y0 for box in boxes) > frame.y0 - 2
        assert max(box.y1 for box in boxes) < frame.y1 + 2
        assert overlaps(ax) == []
