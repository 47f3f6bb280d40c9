"""Measures what the page on the stadium thermostat shows: python docs/tutorial_runs/stadium.py

Takes about five minutes on one core. Tables and figures of the page are from an actual run.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from make import OUTPUTS, STATIC, small

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from stadium_cases import A, at_the_ends, bar, equilibrium, silicon_speed, wave_in_copper, wave_in_silicon

from solidqmmm.physics.stadium import best_damping, disc_damping, strip_damping, suggested
from solidqmmm.plotting.stadium import draw_stadium, plot_damping, plot_reflection, plot_temperature_profile
from solidqmmm.plotting.style import DOUBLE_COLUMN, save_figure, style
from solidqmmm.procedures.motion.stadium_thermostat import Stadium


def main():
    wave = wave_in_silicon()
    choice = suggested(silicon_speed(), spacing=wave.spacing)
    measured = reflection(wave, choice)
    curves(wave, choice, measured)
    polarizations()
    pictures()
    temperatures()


def table(name, rows):
    lines = [f"| {' | '.join(cells)} |" for cells in (rows[0], ["---"] * len(rows[0]), *rows[1:])]
    (OUTPUTS / name).write_text("\n".join(lines) + "\n")


def percent(R) -> str:
    return f"{100 * R:.3g} %"


def reflection(wave, choice) -> list:
    """Packets in silicon against the chain; the points."""
    found, gammas = [], wave.damping(choice)
    abrupt = np.where(gammas > 0, choice.gamma_max, 0.0)
    rows = [["frequency (THz)", "stadium", "the chain, 16 levels", "same damping all over", "fixed wall"]]
    for frequency in (2.2, 3.0, 5.0, 8.0, 11.0):
        stadium, chain = wave.reflected(frequency, Stadium(0.0, gammas), choice)
        step, _ = wave.reflected(frequency, Stadium(0.0, abrupt), choice)
        wall, _ = wave.reflected(frequency, None, choice)
        found.append((frequency, stadium, step))
        rows.append([f"{frequency:g}", percent(stadium), percent(chain), percent(step), percent(wall)])
    table("stadium_reflection.md", rows)
    return found


def polarizations():
    """Longitudinal and transverse packets in copper, in the stadium that the speeds of both suggest."""
    waves = [wave_in_copper(polarization) for polarization in (0, 1)]
    choice = suggested([wave.speed for wave in waves], spacing=waves[0].spacing)
    rows = [["polarization", "frequency (THz)", "stadium", "the chain, 16 levels"]]
    for name, wave, frequencies in zip(
        ("longitudinal", "transverse"), waves, ((1.0, 2.0, 4.0), (1.0, 2.0, 3.5))
    ):
        for frequency in frequencies:
            stadium = Stadium(0.0, wave.damping(choice))
            found, chain = wave.reflected(frequency, stadium, choice, amplitude=0.002)
            rows.append([name, f"{frequency:g}", percent(found), percent(chain)])
    table("stadium_polarizations.md", rows)


def curves(wave, choice, measured):
    """Reflection against frequency, for several widths and for several dampings."""
    d = wave.spacing
    options = {"speed": wave.speed, "spacing": d, "range_THz": choice.range_THz}
    planes = round(choice.width / d)
    with style():
        _, (left, right) = plt.subplots(1, 2, figsize=(DOUBLE_COLUMN, 2.8), sharey=True)
        left.set_title("width, each with its best damping")
        right.set_title(f"damping of a stadium of {choice.width:.0f} Å")
    widths = {}
    for w in (planes // 2, planes, 2 * planes):
        gamma = best_damping(wave.speed, width=w * d, spacing=d).gamma_max
        widths[f"{w * d:.0f} Å, {gamma:.1f}/ps"] = (w * d, gamma)
    plot_reflection(widths, left, **options)
    strong, weak = 4 * choice.gamma_max, choice.gamma_max / 4
    name = f"{choice.gamma_max:.1f}/ps"
    dampings = {
        f"{weak:.1f}/ps": (choice.width, weak), name: (choice.width, choice.gamma_max),
        f"{strong:.0f}/ps": (choice.width, strong),
        f"{name}, without a ramp": np.full(planes, choice.gamma_max),
    }  # fmt: skip
    points = [(nu, R, name) for nu, R, _ in measured]
    points += [(nu, R, f"{name}, without a ramp") for nu, _, R in measured]
    plot_reflection(dampings, right, measured=points, **options)
    right.set_ylabel("")
    keep(left, "stadium_reflection")


def keep(drawn, name):
    with tempfile.TemporaryDirectory() as folder:
        small(save_figure(drawn, Path(folder) / name, formats=("png",))[0], STATIC / f"{name}.png")


def pictures():
    """A strip and a disc, and the levels."""
    x = bar(24, across=12).positions
    x = x[x[:, 2] < A]
    with style():
        figure, axes = plt.subplots(2, 2, figsize=(DOUBLE_COLUMN, 3.9), height_ratios=(1.5, 1))
        axes[0, 0].set_title("strip")
        axes[0, 1].set_title("disc")
    gammas = strip_damping(x, width=30, gamma_max=20)
    draw_stadium(x, gammas, axes[0, 0])
    plot_damping(x, gammas, axes[1, 0], levels=16)
    x = bar(22, across=22).positions
    x = x[(x[:, 2] < A) & (np.hypot(x[:, 0] - 60, x[:, 1] - 60) < 58)]
    gammas = disc_damping(x, width=22, gamma_max=20, centre=(60, 60, 0))
    draw_stadium(x, gammas, axes[0, 1])
    middle = np.abs(x[:, 1] - 60) < 3
    plot_damping(x[middle], gammas[middle], axes[1, 1], levels=16)
    keep(figure, "stadium_profile")


def temperatures(replicas=12):
    """Layers of a bar at 300 K, from independent runs."""
    crystal = bar(16, across=2)
    gammas = at_the_ends(crystal, 22.0, 20.0)
    runs = [
        equilibrium(crystal, gammas, width=A, steps=12_000, T=300.0, seed=seed) for seed in range(replicas)
    ]
    layers = np.array([np.mean(watch.layers, axis=0) for watch in runs])
    errors = layers.std(axis=0, ddof=1) / np.sqrt(replicas)
    rows = [
        {"distance_A": (k + 0.5) * A, "T_K": T, "stderr_K": error}
        for k, (T, error) in enumerate(zip(layers.mean(axis=0), errors))
    ]
    with style():
        _, (upper, lower) = plt.subplots(2, 1, sharex=True, figsize=(3.4, 2.9), height_ratios=(2, 1))
    plot_temperature_profile(rows, upper, temperature_K=300.0, label="")
    plot_damping(crystal.positions, gammas, lower)
    keep(upper, "stadium_temperature")
    whole = layers.mean(axis=1)
    kinetic = np.concatenate([np.mean(watch.layers, axis=1) for watch in runs])
    deviation = (layers.mean(axis=0) - 300) / errors
    head = [
        "mean temperature",
        "rms deviation of layers in standard errors",
        "largest",
        "variance of the kinetic energy",
    ]
    values = [
        f"{whole.mean():.1f} ± {whole.std(ddof=1) / np.sqrt(replicas):.1f} K",
        f"{np.sqrt((deviation**2).mean()):.2f}",
        f"{np.abs(deviation).max():.1f}",
        f"{kinetic.var() * 3 * len(crystal) / (2 * 300**2):.2f} of the canonical",
    ]
    table("stadium_temperature.md", [head, values])


if __name__ == "__main__":
    main()
