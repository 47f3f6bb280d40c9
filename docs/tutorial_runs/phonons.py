"""Runs the studies of the page on vibrations of defects again: python docs/tutorial_runs/phonons.py

Takes about a minute on one core. Output, table and figures of the page are from an actual run.
"""

from __future__ import annotations

import time

from make import OUTPUTS, STATIC, example, printed, small

from solidqmmm import Result

SIZES = (3, 4, 6, 8)
SUPERCELL = "supercell: [6, 6, 6]"
TO_CM1 = 33.35640952


def main():
    with example("carbon_in_silicon") as folder:
        study = (folder / "study.yaml").read_text()
        (OUTPUTS / "phonons_carbon.txt").write_text(printed(folder, "run", "study.yaml", "--out", "carbon"))
        for figure in ("frequency_ladder", "local_dos", "mode"):
            small(folder / "carbon" / "figures" / f"{figure}.png", STATIC / f"phonons_{figure}.png")
        rows = [
            ["atoms", "finite (cm⁻¹)", "infinite (cm⁻¹)", "static condensation (cm⁻¹)", "command (s)"],
            ["---"] * 5,
        ]
        for n in SIZES:
            text = study.replace(SUPERCELL, f"supercell: [{n}, {n}, {n}]").replace(
                "{C: 12}", "{C: 12}, host: infinite"
            )
            (folder / f"{n}.yaml").write_text(text)
            begin = time.perf_counter()
            printed(folder, "run", f"{n}.yaml", "--out", f"host_{n}")
            seconds = time.perf_counter() - begin
            rows.append(row(Result.load(folder / f"host_{n}"), seconds))
        lines = [f"| {' | '.join(cells)} |" for cells in rows]
        (OUTPUTS / "phonons_sizes.md").write_text("\n".join(lines) + "\n")


def row(result, seconds: float) -> list[str]:
    """Size and the highest frequency by several ways, of a row of the table."""
    highest = {way: frequencies[0] * TO_CM1 for way, frequencies in result.ladder_THz.items()}
    numbers = (f"{highest[way]:.3f}" for way in ("dynamic", "infinite", "static"))
    return [f"{result.n_atoms_host:,}", *numbers, f"{seconds:.0f}"]


if __name__ == "__main__":
    main()
