"""Runs the studies of the page on charged defects again: python docs/tutorial_runs/charged_defects.py

Takes about two minutes on one core. Outputs and figures of the page are from an actual run.
"""

from __future__ import annotations

from make import OUTPUTS, STATIC, example, printed, small


def main():
    with example("magnesia_vacancy") as folder:
        table = printed(folder, "finite-size", "energies.csv", "--charge", "2", "--dielectric", "8.378", "--out", "table")
        (OUTPUTS / "charged_table.txt").write_text(table)
        (OUTPUTS / "charged_shells.txt").write_text(printed(folder, "run", "study.yaml", "--out", "shells"))
        (OUTPUTS / "charged_embedded.txt").write_text(printed(folder, "run", "embedded.yaml", "--out", "embedded"))
        figures = folder / "shells" / "figures"
        small(figures / "finite_size.png", STATIC / "charged_finite_size.png")
        small(figures / "mott_littleton.png", STATIC / "charged_mott_littleton.png")


if __name__ == "__main__":
    main()
