"""Runs the classical studies of the page on elastic constants again: python docs/tutorial_runs/elasticity.py

Takes about a minute on one core. Table, output and figures of the page are from an actual run.
"""

from __future__ import annotations

import time

import numpy as np
from make import OUTPUTS, STATIC, example, printed, small

from solidqmmm import Result

SHORTEST = """recipe: elastic_tensor
structure: {file: Si.cif, lattice: host}
host: {pair_style: sw, pair_coeff: ["* * Si.sw Si"], species: [Si]}
"""
WAYS = {"snap": "SNAP", "study": "SNAP in SW", "sw": "SW"}


def main():
    with example("silicon_elasticity") as folder:
        (folder / "silicon.yaml").write_text(SHORTEST)
        (OUTPUTS / "elastic_silicon.txt").write_text(printed(folder, "run", "silicon.yaml", "--out", "silicon"))
        results, seconds = {}, {}
        for name in WAYS:
            begin = time.perf_counter()
            printed(folder, "run", f"{name}.yaml", "--out", name)
            seconds[name] = time.perf_counter() - begin
            results[name] = Result.load(folder / name)
        (OUTPUTS / "elastic_vacancy.md").write_text(table(results, seconds))
        for figure in ("stress_strain", "youngs_modulus"):
            small(folder / "study" / "figures" / f"{figure}.png", STATIC / f"elastic_{figure}.png")


def table(results, seconds) -> str:
    """What the vacancy changes, by the three models, in Markdown."""
    rows = [["change by the vacancy", *WAYS.values()], ["---"] * 4]
    for i, j in ((0, 0), (0, 1), (3, 3)):
        change = [results[name].elastic_tensor_GPa - results[name].elastic_tensor_perfect_GPa for name in WAYS]
        rows.append([f"$C_{{{i + 1}{j + 1}}}$ (GPa)", *(f"{C[i, j]:+.2f}" for C in change)])
    rows.append(["trace of the dipole (eV)", *(f"{np.trace(results[n].elastic_dipole_eV) + 0.0:+.1f}" for n in WAYS)])
    rows.append(["relaxation volume (Å³)", *(f"{round(results[n].relaxation_volume_A3, 1) + 0.0:+.1f}" for n in WAYS)])
    rows.append(["evaluations by SNAP", "all", str(results["study"].n_qm_calls), "none"])
    rows.append(["command on one core (s)", *(f"{seconds[name]:.0f}" for name in WAYS)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows).replace("-", "−").replace("| −−−", "| ---") + "\n"


if __name__ == "__main__":
    main()
