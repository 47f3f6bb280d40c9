"""Figures and tables of the page on scaling, from what `make bench` measured: python docs/tutorial_runs/scaling.py"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from make import OUTPUTS, PROGRAM, STATIC, small

from solidqmmm.physics.algebra.power_law import power_law
from solidqmmm.physics.algebra.rank_costs import RankCost, best_split, shared_seconds
from solidqmmm.plotting.ranks import plot_layouts
from solidqmmm.plotting.style import ACCENT, COLOURS, DOUBLE_COLUMN, GUIDE, INK, save_figure, style

RESULTS = Path(__file__).parents[2] / "tests" / "benchmarks" / "results.json"
HOST, QUANTUM = COLOURS["host"], COLOURS["core"]

# The projection: silicon, its potential's reach with LAMMPS's skin, and a network as clusters have it (assumed).
DENSITY, REACH = 8 / 5.43095**3, 3.77 + 2.0  # atoms/angstrom^3, angstrom
LATENCY, BANDWIDTH = 2e-6, 5e9  # s for a message, bytes/s for a rank
ATOMS, REGION = 100_000_000, 500


def main():
    results = json.loads(RESULTS.read_text())
    dry_run()
    measured(results)
    tables(results)
    projection(results)


def dry_run():
    """The crack of the examples in a larger strip, without what saves quantum calls, on two ranks."""
    example = Path(__file__).parents[2] / "examples" / "silicon_crack"
    lines = (example / "quantum.yaml").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith(("saving", "#")))
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(example / "Si.cif", folder)
        Path(folder, "crack.yaml").write_text(text.replace("size_A: [260, 92]", "size_A: [900, 300, 31]"))
        done = subprocess.run(
            [PROGRAM.with_name("mpiexec"), "-n", "2", PROGRAM, "run", "crack.yaml", "--dry-run", "--ranks", "16"],
            cwd=folder, text=True, stdout=subprocess.PIPE, check=True,
        )  # fmt: skip
    (OUTPUTS / "scaling_dry_run.txt").write_text(done.stdout)


def table(name, rows):
    lines = [f"| {' | '.join(cells)} |" for cells in (rows[0], ["---"] * len(rows[0]), *rows[1:])]
    (OUTPUTS / name).write_text("\n".join(lines) + "\n")


def keep(drawn, name):
    with tempfile.TemporaryDirectory() as folder:
        small(save_figure(drawn, Path(folder) / name, formats=("png",))[0], STATIC / f"{name}.png")


def series(case, key):
    """Atoms and values of the keys KEY_ATOMS of a case."""
    atoms = np.array(case["atoms"])
    return atoms, np.array([case[f"{key}_{n}"] for n in atoms])


# --- what was measured ----------------------------------------------------------------------------------------


def measured(results):
    """Cost against atoms, speed-up on two ranks, both layouts against what was foretold."""
    with style():
        figure, axes = plt.subplots(1, 3, figsize=(DOUBLE_COLUMN, 2.6), width_ratios=(1.2, 0.9, 1.2))
        against_atoms(axes[0], results)
        on_two_ranks(axes[1], results)
        layouts(axes[2], results)
        for ax, letter in zip(axes, "abc"):
            ax.set_title(letter, fontweight="bold")
    keep(figure, "scaling")


def against_atoms(ax, results):
    for name, key, colour, label in (
        ("scaling_host", "step_s", HOST, "host, a step"),
        ("scaling_gpaw", "call_s", QUANTUM, "GPAW, a call"),
    ):
        atoms, seconds = series(results[name], key)
        law = power_law(atoms, seconds)
        ax.plot(atoms, seconds, "o", ms=3.5, color=colour)
        ax.plot(atoms, law(atoms), color=colour, lw=1.0)
        middle = np.sqrt(atoms[0] * atoms[-1])
        ax.annotate(
            rf"{label}" "\n" rf"$\propto n^{{{law.exponent:.2f}}}$", (middle, law(middle)), xytext=(7, -9),
            textcoords="offset points", va="top", color=INK,
        )  # fmt: skip
    ax.set(xscale="log", yscale="log", xlabel="atoms", ylabel="seconds on one rank")
    ax.margins(x=0.05)


def on_two_ranks(ax, results):
    ax.fill_between([1, 2], [1, 1.7], [1, 2], color=GUIDE, alpha=0.12, lw=0)
    ax.plot([1, 2], [1, 2], color=GUIDE, ls=":", lw=0.9)
    ax.text(1.5, 1.53, "ideal", color=GUIDE, ha="right", va="bottom")
    for name, colour, label, shift in (
        ("ranks_host", HOST, "host, 10$^6$ atoms", 0.0),
        ("ranks_gpaw", QUANTUM, "GPAW, 64 atoms", 0.03),
    ):
        case = results[name]
        speedup = case["speedup"]
        spread = [[speedup - case["speedup_lowest"]], [case["speedup_highest"] - speedup]]
        ax.plot([1, 2 + shift], [1, speedup], color=colour, marker="o", ms=3.5, label=label)
        ax.errorbar([2 + shift], [speedup], yerr=spread, color=colour, lw=1.0, capsize=2)
    ax.set(xticks=[1, 2], xlim=(0.9, 2.15), ylim=(0.95, 2.6), xlabel="ranks", ylabel="speed-up")
    ax.legend(loc="upper left", bbox_to_anchor=(-0.02, 1.03))


CASES = {"even": "SNAP,\nequal", "quantum_heavy": "SNAP,\nlonger", "gpaw": "GPAW"}


def layouts(ax, results):
    case = results.get("ranks_layouts", {})
    for k, name in enumerate(CASES):
        if f"{name}_shared_s" not in case:
            continue
        unit = case[f"{name}_shared_s"]
        for shift, layout, colour in ((-0.14, "shared", INK), (0.14, "split", ACCENT)):
            ax.bar(k + shift, case[f"{name}_{layout}_s"] / unit, 0.24, color=colour, alpha=0.85, lw=0)
            ax.plot(k + shift, case[f"{name}_{layout}_foretold_s"] / unit, "D", ms=4, mfc="white", mec=QUANTUM, mew=1.1)
    ax.bar(0, 0, color=INK, label="time-sharing")
    ax.bar(0, 0, color=ACCENT, label="split, 1 + 1")
    ax.plot([], [], "D", ms=4, mfc="white", mec=QUANTUM, mew=1.1, label="foretold")
    ax.set_xticks(range(len(CASES)), CASES.values())
    ax.set(ylabel="step / time-sharing", ylim=(0, 1.75), xlim=(-0.5, len(CASES) - 0.5))
    ax.legend(loc="upper left", bbox_to_anchor=(-0.02, 1.03))


def tables(results):
    host, gpaw = results["scaling_host"], results["scaling_gpaw"]
    atoms, steps = series(host, "step_s")
    _, memory = series(host, "memory_GB")
    rows = [["atoms", *(f"{n:,}" for n in atoms)]]
    rows.append(["step (s)", *(f"{t:.3g}" for t in steps)])
    rows.append(["per atom (µs)", *(f"{1e6 * t / n:.2f}" for t, n in zip(steps, atoms))])
    rows.append(["memory (GB)", *(f"{m:.2g}" if n > 50_000 else "–" for m, n in zip(memory, atoms))])
    table("scaling_host.md", rows)
    atoms, calls = series(gpaw, "call_s")
    _, iterations = series(gpaw, "iteration_s")
    _, memory = series(gpaw, "memory_MB")
    rows = [["cluster", *(gpaw[f"formula_{n}"] for n in atoms)], ["atoms", *(str(n) for n in atoms)]]
    rows.append(["SCF iteration (s)", *(f"{t:.2g}" for t in iterations)])
    rows.append(["call (s)", *(f"{t:.3g}" for t in calls)])
    rows.append(["memory, estimated (GB)", *(f"{m / 1000:.2g}" for m in memory)])
    table("scaling_gpaw.md", rows)
    layouts_table(results.get("ranks_layouts", {}))


def layouts_table(case):
    layouts = ("time-sharing", "foretold", "error", "split 1 + 1", "foretold", "error")
    rows = [["case", "atoms, quantum", *layouts, "gain", "foretold"]]
    for name, label in CASES.items():
        found = {key.removeprefix(f"{name}_"): value for key, value in case.items() if key.startswith(f"{name}_")}
        if not found:
            continue
        cells = [label.replace("\n", " "), f"{found['atoms']:,}, {found['quantum_atoms']}"]
        for layout in ("shared", "split"):
            cells += [in_ms(found[f"{layout}_s"]), in_ms(found[f"{layout}_foretold_s"])]
            cells.append(f"{100 * (found[f'{layout}_foretold_to_measured'] - 1):+.0f} %")
        rows.append([*cells, f"{found['gain']:.2f}", f"{found['gain_foretold']:.2f}"])
    table("scaling_layouts.md", rows)


def in_ms(seconds) -> str:
    return f"{1e3 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


# --- the projection -------------------------------------------------------------------------------------------


def ghosts(atoms) -> float:
    """Atoms of other ranks around a cube of `atoms`, within the potential's reach."""
    edge = (atoms / DENSITY) ** (1 / 3)
    return DENSITY * ((edge + 2 * REACH) ** 3 - edge**3)


def halo_seconds(atoms) -> float:
    """Positions out and forces back, six neighbours each way."""
    return 12 * LATENCY + 48 * ghosts(atoms) / BANDWIDTH


def host_cost(results, atoms=ATOMS, ranks=10_000) -> RankCost:
    """The host's atoms at their measured time, halo of `ranks` ranks, and two sums over the region at each step."""
    per_atom = results["scaling_host"]["step_s_1000000"] / 1e6
    collective = 2 * (LATENCY + 24 * REGION / BANDWIDTH)
    return RankCost(halo_seconds(atoms / ranks), per_atom * atoms, collective)


def quantum_cost(results, atoms) -> RankCost:
    """GPAW's measured law for `atoms`, divided as on two ranks."""
    sizes, calls = series(results["scaling_gpaw"], "call_s")
    one, two = 1.0, 1 / (2 * results["ranks_gpaw"]["efficiency_others_busy"])
    return RankCost.fitted([1, 2], [one, two]).scaled(float(power_law(sizes, calls)(atoms)))


def projection(results):
    memory = results["ranks_memory"]
    alone = results["scaling_host"]["bytes_per_atom"]
    each = 2 * memory["bytes_per_atom_and_rank"] - alone  # A + B / 2 on two ranks, A + B on one
    divided = alone - each
    host, quantum = host_cost(results), quantum_cost(results, 200)
    with style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(DOUBLE_COLUMN, 2.6), width_ratios=(1.25, 1))
    plot_layouts(host, quantum, left)
    with style():
        left.set_title("a", fontweight="bold")
        right.set_title("b", fontweight="bold")
        ranks = np.geomspace(1, 1e4, 60)
        right.plot(ranks, ATOMS * divided / ranks / 1e9, color=HOST, label="divided among ranks")
        right.plot(ranks, np.full_like(ranks, ATOMS * each / 1e9), color=QUANTUM, label="held by every rank")
        right.axhline(4, color=GUIDE, ls="--", lw=0.7)
        right.text(1e4, 3.6, "4 GB, usual per core", color=GUIDE, va="top", ha="right")
        right.set(xscale="log", yscale="log", xlabel="ranks", ylabel="GB per rank")
        right.legend(loc="lower left")
    keep(figure, "scaling_projection")
    rows = [["ranks", "host step", "quantum call", "time-sharing", "best split", "quantum + host ranks", "memory of a rank"]]
    for n in (10, 100, 1000, 10_000):
        best = best_split(host, quantum, n)
        rows.append(
            [
                f"{n:,}", in_ms(host.seconds(n)), in_ms(quantum.seconds(n)), in_ms(shared_seconds(host, quantum, n)),
                in_ms(best.seconds), f"{best.quantum:,} + {best.host:,}", f"{ATOMS * (each + divided / n) / 1e9:.2g} GB",
            ]
        )  # fmt: skip
    table("scaling_projection.md", rows)
    n = ATOMS / 10_000
    print(f"per rank {n:.0f} atoms, {ghosts(n):.0f} ghosts, {48 * ghosts(n) / 1e3:.0f} kB, {1e6 * halo_seconds(n):.0f} us")
    print(f"ghosts of 4,096,000 on 2 ranks: {memory['ghosts']} found")
    print(f"bytes per atom: {each:.0f} on every rank, {divided:.0f} divided; host {host}, quantum {quantum}")


if __name__ == "__main__":
    main()
