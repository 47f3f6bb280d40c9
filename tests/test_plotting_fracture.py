"""Figures of cracks show the tip, its load, the atoms around it and where the energy went; cracks are drawn together."""

from __future__ import annotations

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from PIL import Image
from solidqmmm.recipes import fracture as recipe

from solidqmmm.plotting import style
from solidqmmm.plotting.crack_animation import animate_crack
from solidqmmm.plotting.fracture import (
    model_name,
    plot_ledger,
    plot_maps,
    plot_snapshots,
    plot_temperature_profile,
    plot_tip,
    plot_tips_side_by_side,
)
from solidqmmm.results.fracture import FractureResult
from solidqmmm.results.provenance import Provenance

mpl.use("Agg")
import matplotlib.pyplot as plt

HOST, SNAP = "LAMMPS sw (Si.sw)", "lammps snap"
PERIOD = 6.65
TIMES = np.linspace(0.0, 8.0, 41)


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def snapshot(regions, **when):
    """A patch of a square lattice with a slit on the left."""
    x, y = (5.0 * axis.ravel() for axis in np.meshgrid(np.arange(-4, 5), np.arange(-4, 5)))
    names = np.array(regions)[np.argsort(np.argsort(np.hypot(x, y))) * len(regions) // len(x)]
    return {
        **when, "tip_A": [100.0, 50.0], "x_A": (x + 100).tolist(), "y_A": (y + 50).tolist(), "z_A": [0.0] * len(x),
        "number": [14] * len(x), "region": names.tolist(),
    }  # fmt: skip


def result(way=None, *, engine="", loads=None, **more):
    """A dynamic result whose tip goes the given way (angstrom, at 41 times of 8 ps) as G rises from 3 to 11 J/m^2."""
    way = np.zeros(len(TIMES)) if way is None else way
    loads = 3 + TIMES if loads is None else loads
    tip = [
        {"time_ps": t, "x_A": 100 + x, "y_A": 50.0, "reference_x_A": 100 + x, "K_MPa_sqrt_m": 0.37 * G**0.5, "G_J_per_m2": G}
        for t, x, G in zip(TIMES.tolist(), np.asarray(way, dtype=float).tolist(), np.asarray(loads, dtype=float).tolist())
    ]
    ledger = [
        {
            "time_ps": t, "kinetic_change": -100 + t, "host_potential_change": 100 + 7 * t, "load_work": 10 * t,
            "thermostat_out": 2 * t, "unaccounted": 0.01, **({"correction_work": -t} if engine else {}),
        }
        for t in TIMES.tolist()
    ]  # fmt: skip
    regions = ("core", "buffer", "host") if engine else ("host",)
    grid = {name: np.arange(12.0).reshape(3, 4).tolist() for name in ("stress_yy_GPa", "stress_xy_GPa", "temperature_K")}
    grid["temperature_K"][0][0] = None
    fields = {
        "mode": "dynamic", "crack": {"kind": "strip", "mode": "I", "plane": [1, 1, 1], "front": [1, -1, 0]},
        "elastic_tensor_GPa": np.eye(6), "surface_energy_J_per_m2": 1.36, "surface_energy_unrelaxed_J_per_m2": 1.36,
        "G_griffith_J_per_m2": 2.72, "K_griffith_MPa_sqrt_m": 0.615, "tip": tip, "energy_ledger_in_time": ledger,
        "energy_ledger_eV": {key: value for key, value in ledger[-1].items() if key != "time_ps"},
        "snapshots": [snapshot(regions, time_ps=t) for t in (0.0, 4.0)], "mean_temperature_K": 300.0,
        "maps": {"x_A": [0.0, 5, 10, 15], "y_A": [0.0, 5, 10], **grid},
        "temperature_profile": [{"distance_A": 5.0, "T_K": 400.0, "stderr_K": 10.0},
                                {"distance_A": 15.0, "T_K": 300.0, "stderr_K": None}],
        "host": HOST, "engine": engine, "n_steps": 8000, "timestep_fs": 1.0,
    }  # fmt: skip
    return FractureResult(**{**fields, **more})


def running():
    """A tip that waits until 4 ps (7 J/m^2) and then runs at 2000 m/s."""
    start = {"time_ps": 4.0, "K_MPa_sqrt_m": 0.98, "G_J_per_m2": 7.0}
    more = {"critical_load": start, "tip_speed_m_per_s": 2000.0, "n_qm_atoms": {"min": 60, "mean": 64.0, "max": 70}}
    return result(20.0 * np.clip(TIMES - 4, 0, None), engine=SNAP, saving_scheme="lotf", saving_steps=10, **more)


def quasistatic(engine="", **loads):
    K = np.linspace(0.4, 1.0, 13)
    rows = [
        {"K_MPa_sqrt_m": k, "G_J_per_m2": k**2 / 0.14, "branch": "lowered" if i < 5 else "start" if i == 5 else "raised",
         "x_A": 70.0 + 3.3 * (i > 9) - 3.3 * (i < 2), "y_A": 70.0, "reference_x_A": 70.0, "event": "none"}
        for i, k in enumerate(K.tolist())
    ]  # fmt: skip
    shots = [snapshot(("core", "host"), K_MPa_sqrt_m=k) for k in (0.65, 1.0, 0.4)]
    more = {"crack": {"kind": "cylinder", "mode": "I", "plane": [1, 1, 1], "front": [1, -1, 0]}, "energy_ledger_in_time": []}
    more |= {"maps": {}, "temperature_profile": [], "engine": engine}
    return result(mode="quasistatic", tip=rows, snapshots=shots, **more, **loads)


def save(drawn, tmp_path):
    for file in style.save_figure(drawn, tmp_path / "figure"):
        assert file.stat().st_size > 2000


def test_who_breaks_the_bonds():
    assert model_name(result()) == "Stillinger-Weber alone"
    assert model_name(running()) == "SNAP at the tip"
    assert model_name(result(engine="gpaw lcao sz(dzp) PBE")) == "GPAW at the tip"
    assert model_name(result(host="LAMMPS my/style (a.file)")) == "my/style alone"


def test_the_tip_against_time_with_its_load(tmp_path):
    ax = plot_tip(result(), running())
    alone, tip = ax.lines[:2]
    assert [alone.get_label(), tip.get_label()] == ["Stillinger-Weber alone", "SNAP at the tip"]
    np.testing.assert_allclose(tip.get_xydata(), np.column_stack([TIMES, 20 * np.clip(TIMES - 4, 0, None)]))
    (other,) = [axes for axes in ax.figure.axes if axes is not ax]
    np.testing.assert_allclose(other.lines[0].get_ydata(), 3 + TIMES)
    assert "G" in other.get_ylabel()
    save(ax, tmp_path)


def test_a_tip_that_trembles_looks_like_one_that_stays(tmp_path):
    ax = plot_tip(result(0.3 * np.sin(TIMES), loads=np.full(41, 4.0)))
    low, high = ax.get_ylim()
    assert high - low == pytest.approx(5.0)
    assert ax.get_title(loc="left") == "G = 4.00 J/m² (1.47 Griffith)"
    save(ax, tmp_path)


def test_trapping_is_marked_and_the_way_counts_from_the_start(tmp_path):
    loads = {"K_minus_MPa_sqrt_m": 0.43, "K_plus_MPa_sqrt_m": 0.91}
    ax = plot_tip(quasistatic(**loads))
    line = ax.lines[0]
    np.testing.assert_allclose(line.get_xdata(), np.linspace(0.4, 1.0, 13) / 0.615)
    np.testing.assert_allclose(np.unique(np.round(line.get_ydata(), 6)), [-3.3, 0.0, 3.3])
    marks = [mark.get_xdata()[0] for mark in ax.lines if mark.get_gid() == "trapping"]
    assert marks == pytest.approx([0.43 / 0.615, 0.91 / 0.615])
    assert [text.get_text() for text in ax.texts] == ["$K_-$ 0.699", "$K_+$ 1.480"]
    save(ax, tmp_path)
    assert not [mark for mark in plot_tip(quasistatic()).lines if mark.get_gid() == "trapping"]


def test_cracks_side_by_side_at_the_same_loads(tmp_path):
    figure = plot_tips_side_by_side(result(), running())
    left, right = figure.axes[:2]
    assert [left.get_title(loc="left"), right.get_title(loc="left")] == ["Stillinger-Weber alone", "SNAP at the tip"]
    np.testing.assert_allclose(right.lines[0].get_xdata(), 3 + TIMES)  # the load
    assert (left.get_xlim(), left.get_ylim()) == (right.get_xlim(), right.get_ylim())
    (mark,) = [line for line in right.lines if line.get_gid() == "critical"]
    assert mark.get_xdata()[0] == 7.0
    assert not [line for line in left.lines if line.get_gid() == "critical"]
    assert "does not run up to 11.0 J/m²" in [text.get_text() for text in left.texts]
    assert "runs from 7.0 J/m²,\n2000 m/s" in [text.get_text() for text in right.texts]
    assert figure.axes[2].get_title(loc="left") == "at 4.0 ps, $G$ = 7.0 J/m²"  # the latest snapshot of both
    save(figure, tmp_path)


def test_under_a_constant_load_time_goes_across(tmp_path):
    constant = {"loads": np.full(41, 5.0), "snapshots": []}
    figure = plot_tips_side_by_side(result(**constant), result(3 * TIMES, engine=SNAP, **constant), labels=("a", "b"))
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["a", "b"]
    assert figure.axes[0].get_xlabel() == "time (ps)"
    np.testing.assert_allclose(figure.axes[1].lines[0].get_xdata(), TIMES)
    save(figure, tmp_path)


def test_the_ledger_adds_up_in_the_figure(tmp_path):
    ax = plot_ledger(running())
    drawn = {line.get_label(): np.array(line.get_ydata()) for line in ax.lines}
    np.testing.assert_allclose(drawn["energy of the crystal"], 8 * TIMES)
    assert set(drawn) == {
        "work of the load", "energy of the crystal", "work of the correction", "taken by the thermostat", "unaccounted for"
    }  # fmt: skip
    assert "work of the correction" not in {line.get_label() for line in plot_ledger(result()).lines}
    save(ax, tmp_path)
    assert "no row" in plot_ledger(result(energy_ledger_in_time=[])).texts[0].get_text()


def test_snapshots_maps_and_temperatures(tmp_path):
    figure = plot_snapshots(running())
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["0.00 ps", "4.00 ps"]
    assert len(figure.axes[0].collections[0].get_offsets()) == 81
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["core", "buffer", "host", "tip"]
    save(figure, tmp_path)
    titles = [ax.get_title(loc="left") for ax in plot_snapshots(quasistatic()).axes]
    assert titles == [f"$K$ = {K:.3f} MPa√m" for K in (0.4, 0.65, 1.0)]
    figure = plot_maps(running())
    stress, heat = (ax.collections[0] for ax in figure.axes[:2])
    low, high = stress.get_clim()
    assert low == -high
    assert heat.get_clim() == (0.0, 600.0)
    assert heat.get_array().mask.sum() == 1
    save(figure, tmp_path)
    ax = plot_temperature_profile(running())
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[5, 400], [15, 300]])
    save(ax, tmp_path)


def test_figures_of_the_recipe():
    dynamic = {"tip", "snapshots", "maps", "temperature_profile", "energy_ledger"}
    assert set(recipe.figures(running())) == dynamic
    assert set(recipe.figures(quasistatic())) == {"tip", "snapshots"}


def test_what_is_cited():
    assert running().METHOD_REFERENCES == ("sih1965cracks", "bernstein2009hybrid", "csanyi2004lotf")
    assert result(stadium={"width_A": 30.0}).METHOD_REFERENCES == ("sih1965cracks", "qu2005finite")
    assert quasistatic().METHOD_REFERENCES == ("sih1965cracks", "thomson1971lattice")


# --- animation, and several runs at the command line --------------------------------------------------------------


@pytest.fixture
def runs(tmp_path):
    """Two run folders: the host alone, and a tip that runs, with a trajectory."""
    frames = []
    for k in range(4):
        atoms = Atoms("Si4", positions=[[0, 0, 0], [40, 0, 0], [0, 30, 0], [40, 30, 2.0 + k]], cell=[60, 50, 4])
        atoms.arrays["region"] = np.array(["frozen", "host", "core", "buffer"])
        atoms.info["time_fs"] = 1000.0 * k
        frames.append(atoms)
    for name, crack in {"host": result(), "quantum": running(), "slow": quasistatic()}.items():
        (tmp_path / name).mkdir()
        if name == "quantum":
            write(tmp_path / name / "trajectory.xyz", frames, format="extxyz")
            crack = replace(crack, trajectory_file="trajectory.xyz")
        crack.save(tmp_path / name / "result.json")
    return tmp_path


def test_an_animation_has_the_frames(runs):
    file = animate_crack(runs / "quantum" / "trajectory.xyz", runs / "a.gif", tip=running().tip)
    with Image.open(file) as movie:
        assert (movie.format, movie.n_frames) == ("GIF", 4)
    file = animate_crack(runs / "quantum" / "trajectory.xyz", runs / "b.gif", most_frames=2, window=30.0, tip=running().tip)
    with Image.open(file) as movie:
        assert movie.n_frames == 2
    with pytest.raises(FileNotFoundError, match="expected the trajectory"):
        animate_crack(runs / "nothing.xyz", runs / "c.gif")


def test_several_cracks_at_the_command_line(runs, call):
    code, out, err = call("cracks", runs / "host", runs / "quantum", "--out", runs / "both")
    assert code == 0, err
    assert "the tip does not run" in out
    assert "the tip runs from 7.000 J/m2" in out
    assert (runs / "both" / "tips.png").exists()
    code, out, err = call("cracks", runs / "quantum", "--out", runs / "one", "--animate")
    assert code == 0, err
    assert (runs / "one" / "quantum.gif").exists()


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        (["host", "slow"], "no axis in common"),
        (["nowhere"], "holds no result.json"),
        (["host", "--animate"], "has no trajectory"),
        (["other"], "expected a run of the recipe `fracture`"),
    ],
)
def test_cracks_that_cannot_be_drawn(runs, call, folders, words):
    (runs / "other").mkdir()
    Provenance.collected(seeds={}, checksums={}, references=(), wall_time_s={}, mpi_ranks=1).save(
        runs / "other" / "result.json"
    )
    code, _, err = call("cracks", *[name if name.startswith("-") else runs / name for name in folders], "--out", runs / "x")
    assert code == 2
    assert words in err
