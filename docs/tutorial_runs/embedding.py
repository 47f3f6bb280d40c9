"""Runs the study of the page on embedding again: python docs/tutorial_runs/embedding.py

Takes half a minute on one core. Output and figures of the page are from an actual run.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from make import OUTPUTS, STATIC, printed, small

EXAMPLE = Path(__file__).parents[2] / "examples" / "magnesia_vacancy"


def main():
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for file in EXAMPLE.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        (OUTPUTS / "embedding_ladder.txt").write_text(printed(folder, "run", "ladder.yaml", "--out", "ladder"))
        for figure in ("energies", "terms", "dipoles"):
            small(folder / "ladder" / "figures" / f"{figure}.png", STATIC / f"embedding_{figure}.png")


if __name__ == "__main__":
    main()
