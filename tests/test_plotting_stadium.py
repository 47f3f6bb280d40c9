"""Figures of a stadium show what is damped, what is reflected, and the temperature."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest

from solidqmmm.physics.stadium import disc_damping, graded, strip_damping, wave_reflection
from solidqmmm.plotting import style
from solidqmmm.plotting.stadium import (
    draw_stadium,
    plot_damping,
    plot_reflection,
    plot_temperature_profile,
)

mpl.use("Agg")
import matplotlib.pyplot as plt

CHAIN = {"speed": 80.0, "spacing": 1.36}


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def save(drawn, tmp_path):
    for file in style.save_figure(drawn, tmp_path / "figure"):
        assert file.stat().st_size > 2000


def grid():
    x = np.stack(np.meshgrid(np.arange(40.0), np.arange(30.0), [0.0], indexing="ij"), axis=-1)
    return 2.5 * x.reshape(-1, 3)


def test_reflection(tmp_path):
    stadiums = {"wide": (60.0, 15.0), "narrow": (20.0, 20.0), "a step": np.full(20, 15.0)}
    ax = plot_reflection(
        stadiums,
        **CHAIN,
        range_THz=(2.0, 15.0),
        below=0.02,
        measured=[(3.0, 1e-3, "wide"), (5.0, 1e-2, "a step")],
    )
    lines = {line.get_label(): line for line in ax.lines}
    frequency, R = lines["wide"].get_data()
    np.testing.assert_allclose(R, wave_reflection(frequency, **CHAIN, width=60.0, gamma_max=15.0))
    assert frequency[-1] < 80.0 / (np.pi * 1.36)
    points = [line for line in ax.lines if line.get_gid() == "measured"]
    assert [point.get_color() for point in points] == [lines["wide"].get_color(), lines["a step"].get_color()]
    assert any(text.get_text() == "2 %" for text in ax.texts)
    assert ax.get_xscale() == ax.get_yscale() == "log"
    save(ax, tmp_path)


def test_damping_and_its_levels(tmp_path):
    x = grid()
    gammas = strip_damping(x, width=27.0, gamma_max=12.0)
    ax = plot_damping(x, gammas, levels=4)
    atoms, levels = ax.lines
    np.testing.assert_allclose(atoms.get_ydata(), gammas)
    assert set(levels.get_ydata()) == set(graded(gammas, 4)[1])
    assert "4 levels" in [text.get_text() for text in ax.get_legend().get_texts()]
    save(ax, tmp_path)
    assert plot_damping(x, gammas, axis=1).get_xlabel().startswith("y")
    save(plot_damping(np.empty((0, 3)), []), tmp_path)


def test_the_crystal_with_its_stadium(tmp_path):
    x = grid()
    gammas = disc_damping(x, width=20.0, gamma_max=9.0, centre=(49.0, 36.0, 0.0), radius=45.0)
    ax = draw_stadium(x, gammas, tip=(49.0, 36.0))
    free, damped = ax.collections[:2]
    assert len(free.get_offsets()) == (gammas == 0).sum()
    np.testing.assert_allclose(np.sort(damped.get_array()), np.sort(gammas[gammas > 0]))
    assert damped.get_clim() == (0.0, 9.0)
    assert ax.get_aspect() == 1.0
    save(ax, tmp_path)
    ax = draw_stadium(x, np.zeros(len(x)), along=0, colorbar=False)
    assert ax.get_ylabel().startswith("z")
    save(ax, tmp_path)


def test_temperatures_with_their_errors(tmp_path):
    rows = [
        {"distance_A": 5.0, "T_K": 310.0, "stderr_K": 4.0},
        {"distance_A": 15.0, "T_K": 299.0, "stderr_K": 2.0},
        {"distance_A": 25.0, "T_K": 280.0, "stderr_K": None},
    ]
    ax = plot_temperature_profile(rows, temperature_K=300.0)
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[5, 310], [15, 299], [25, 280]])
    bars = ax.collections[0].get_segments()
    np.testing.assert_allclose([bar[1][1] - bar[0][1] for bar in bars if len(bar)], [8.0, 4.0])
    save(ax, tmp_path)
    assert "no temperatures" in plot_temperature_profile([]).texts[0].get_text()
