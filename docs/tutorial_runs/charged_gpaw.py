"""Runs the GPAW study of the page on charged defects again: python docs/tutorial_runs/charged_gpaw.py [FOLDER]

Takes some minutes on one core; with a folder it resumes there. Output and figure of the page are from an actual run.
"""

from __future__ import annotations

import sys
from pathlib import Path

from make import OUTPUTS, STATIC, example, printed, small


def main():
    with example("sodium_chloride_vacancy", Path(sys.argv[1]) if len(sys.argv) > 1 else None) as folder:
        (OUTPUTS / "charged_gpaw.txt").write_text(printed(folder, "run", "study.yaml", "--out", "out"))
        small(folder / "out" / "figures" / "finite_size.png", STATIC / "charged_gpaw.png")


if __name__ == "__main__":
    main()
