"""Runs the studies of the tutorial again and keeps what they printed and drew: python docs/tutorial_runs/make.py

Takes a few minutes on one core. The page shows these outputs, so every number in it is from an actual run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
from PIL import Image

from solidqmmm import Result

HERE = Path(__file__).parent
OUTPUTS, STATIC = HERE / "outputs", HERE.parent / "_static"
EXAMPLE = HERE.parent.parent / "examples" / "silicon_vacancy"
PROGRAM = Path(sys.executable).with_name("solidqmmm")


@contextmanager
def example(name: str, folder: Path | None = None):
    """A folder with the files of an example; without one that is given, it is gone afterwards."""
    with tempfile.TemporaryDirectory() if folder is None else nullcontext(folder) as place:
        for file in (HERE.parent.parent / "examples" / name).iterdir():
            shutil.copy(file, place)
        yield Path(place)


def printed(folder: Path, *arguments: str, may_fail: bool = False) -> str:
    """What `solidqmmm ARGUMENTS` prints on the standard output."""
    done = subprocess.run([PROGRAM, *arguments], cwd=folder, text=True, stdout=subprocess.PIPE, check=not may_fail)
    return done.stdout


def series_row(folder: Path, hops: int, ghost_forces: bool) -> str:
    """One row of the table of buffers."""
    text = (HERE / "snap.yaml").read_text()
    text = text.replace("buffer: {hops: 2}", f"buffer: {{hops: {hops}}}")
    text = text.replace("ghost_forces: true", f"ghost_forces: {str(ghost_forces).lower()}")
    name = f"series_{hops}_{ghost_forces}"
    (folder / f"{name}.yaml").write_text(text)
    printed(folder, "run", f"{name}.yaml", "--out", name)
    return row(Result.load(folder / name), f"{hops} hops, {'with' if ghost_forces else 'no'} dead load")


def row(result, label: str) -> str:
    """Label, atoms, calls, formation energy and the range of pair distances, as a row of a table."""
    pairs = np.sort(result.neighbour_pair_distances_A)
    calls = result.n_qm_calls if result.n_atoms_qm else "–"
    return (
        f"| {label} | {result.n_atoms_qm or result.n_atoms_host} | {calls} | {result.formation_energy_eV:.2f} | "
        f"{pairs[0]:.2f} to {pairs[-1]:.2f} |"
    )


def small(source: Path, target: Path):
    """A copy of a picture for the screen: 256 colours, at most 1000 pixels wide."""
    with Image.open(source) as picture:
        opaque = Image.new("RGB", picture.size, "white")
        opaque.paste(picture, mask=picture.convert("RGBA").getchannel("A"))
    opaque.thumbnail((1000, 1000))
    opaque.quantize(256).save(target, optimize=True)


def main():
    OUTPUTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shutil.copy(EXAMPLE / "Si.cif", folder)
        for name in ("snap.yaml", "full.yaml"):
            shutil.copy(HERE / name, folder)
        for name, arguments in {
            "carve": ("carve", "snap.yaml", "--out", "look"),
            "dry_run": ("run", "snap.yaml", "--dry-run"),
            "run": ("run", "snap.yaml", "--out", "vacancy"),
            "full": ("run", "full.yaml", "--out", "full"),
            "check": ("check", "snap.yaml", "--out", "vacancy"),
        }.items():
            text = printed(folder, *arguments, may_fail=name == "check")
            (OUTPUTS / f"{name}.txt").write_text(text)
        lines = [
            "| buffer | expensive atoms | calls | formation energy (eV) | pairs in shell 1 (Å) |",
            "|---|---|---|---|---|",
            *(series_row(folder, hops, ghost) for ghost in (True, False) for hops in (2, 3, 4)),
            row(Result.load(folder / "full"), "SNAP everywhere"),
        ]
        (OUTPUTS / "series.md").write_text("\n".join(lines) + "\n")
        printed(EXAMPLE, "carve", "study.yaml", "--out", str(folder / "gpaw"))
        small(folder / "gpaw" / "cluster.png", STATIC / "vacancy.png")
        small(folder / "look" / "cluster.png", STATIC / "cluster.png")
        for figure in ("displacements", "convergence", "neighbours", "check"):
            small(folder / "vacancy" / "figures" / f"{figure}.png", STATIC / f"{figure}.png")


if __name__ == "__main__":
    main()
