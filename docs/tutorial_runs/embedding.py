"""Runs the study of the page on embedding again: python docs/tutorial_runs/embedding.py

Takes half a minute on one core. Output and figures of the page are from an actual run.
"""

from __future__ import annotations

from make import OUTPUTS, STATIC, example, printed, small


def main():
    with example("magnesia_vacancy") as folder:
        (OUTPUTS / "embedding_ladder.txt").write_text(printed(folder, "run", "ladder.yaml", "--out", "ladder"))
        for figure in ("energies", "terms", "dipoles"):
            small(folder / "ladder" / "figures" / f"{figure}.png", STATIC / f"embedding_{figure}.png")


if __name__ == "__main__":
    main()
