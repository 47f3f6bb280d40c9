"""Runs the studies of the page on fracture again: python docs/tutorial_runs/fracture.py [FOLDER]

Takes about twenty minutes on one core. Runs are kept in FOLDER if one is given, and those that are finished there are
not run again. Outputs and figures of the page are from actual runs.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
from make import OUTPUTS, STATIC, example, printed, small

from solidqmmm import Result, build_model, load_study
from solidqmmm.plotting.crack import draw_crack
from solidqmmm.plotting.fracture import plot_tip
from solidqmmm.plotting.style import DOUBLE_COLUMN, save_figure, style
from solidqmmm.procedures.cracks.crack_system import crack_system

SHOWN = {
    "host": "fracture_host.txt",
    "quantum": "fracture_quantum.txt",
    "quasistatic": "fracture_quasistatic.txt",
    "trapping": "fracture_trapping.txt",
}


def main():
    with example("silicon_crack", Path(sys.argv[1]) if len(sys.argv) > 1 else None) as folder:
        run_in(folder)


def run_in(folder: Path):
    for name, output in SHOWN.items():
        said = printed(folder, "run", f"{name}.yaml", "--out", name).splitlines(keepends=True)
        kept = [line for line in said if not line.startswith(f"{name}.yaml is complete")]
        (OUTPUTS / output).write_text("".join(kept))
    printed(folder, "cracks", "host", "quantum", "--out", "together")
    small(folder / "together" / "tips.png", STATIC / "fracture_together.png")
    for figure in ("energy_ledger", "maps", "temperature_profile"):
        small(folder / "quantum" / "figures" / f"{figure}.png", STATIC / f"fracture_{figure}.png")
    keep(plot_tip(*(Result.load(folder / name) for name in ("quasistatic", "trapping"))), "fracture_trapping")
    geometry(folder)


def geometry(folder: Path):
    """A strip and a cylinder, who is held and who is free."""
    with style():
        figure, axes = plt.subplots(
            1, 2, figsize=(DOUBLE_COLUMN, 2.9), layout="constrained", width_ratios=(1.75, 1)
        )
    study = load_study(folder / "quasistatic.yaml")
    with build_model(study) as model:
        for ax, (kind, size) in zip(axes, (("strip", [150, 70]), ("cylinder", [84])), strict=True):
            crack = crack_system(model, system=kind, plane=(1, 1, 1), front=(1, -1, 0), size_A=size)
            draw_crack(crack, ax=ax, legend=ax is axes[1])
    keep(figure, "fracture_geometry")


def keep(drawn, name):
    with tempfile.TemporaryDirectory() as folder:
        small(save_figure(drawn, Path(folder) / name, formats=("png",))[0], STATIC / f"{name}.png")


if __name__ == "__main__":
    main()
