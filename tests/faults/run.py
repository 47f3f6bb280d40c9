"""Runs that are killed at random moments, gone on with until they are done, and compared with runs that nobody disturbed.

    make test-faults                      100 SIGKILLs
    make test-faults ARGS="--kills 12"    fewer; --seed N for other moments, --only NAME for one study

A fault counts as recovered if the same command finished later with the same result, wall times left out; a result as lost if
what was computed before (journal, records, checkpoint) is damaged or gone afterwards; a trajectory as different if it is not
the same to the last byte. Each study is killed a few times in a row, at moments drawn uniformly over the time that it needs
once it has begun.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ase.build import bulk

SW = {"pair_style": "sw", "pair_coeff": ["* * Si.sw Si"], "species": ["Si"]}
SNAP = {
    "engine": "lammps", "pair_style": "snap", "species": ["Si"],
    "pair_coeff": ["* * Si_Zuo_JPCA2020.snapcoeff Si_Zuo_JPCA2020.snapparam Si"],
}  # fmt: skip
SILICON = {"structure": {"file": "Si.cif"}, "host": SW, "seed": 1}
STUDIES = {
    "defect_relaxation": {
        "recipe": "defect_relaxation", **SILICON, "supercell": [3, 3, 3], "defect": {"kind": "vacancy", "site": 0},
        "qm": SNAP, "region": {"core": {"hops": 1}, "buffer": {"hops": 2}}, "caps": {"kind": "none"},
        "coupling": "force_mixing",
    },
    "elastic_tensor": {
        "recipe": "elastic_tensor", **SILICON, "supercell": [2, 2, 2], "defect": {"kind": "vacancy", "site": 0},
    },
    "fracture": {
        "recipe": "fracture", **SILICON,
        "crack": {
            "system": "strip", "plane": [1, 1, 1], "front": [1, -1, 0], "size_A": [130, 50],
            "load": {"G": [4.0, 5.0], "rate_per_ps": 20.0},
        },
        "stadium": {"width_A": 20, "gamma_max_per_ps": 8},
        "dynamics": {"temperature_K": 300, "time_ps": 0.2, "timestep_fs": 1.0},
        "qm": SNAP, "region": {"core": {"radius": 4.0}, "leave_radius": 5.0, "buffer": {"radius": 4.0}},
        "caps": {"kind": "none", "periodic_axes": [2]}, "coupling": "force_mixing",
        "saving": {"scheme": "lotf", "steps": 10},
    },
    "charged_defect": {
        "recipe": "charged_defect", "structure": {"file": "MgO.cif"}, "host": {"model": "gulp_MgO"},
        "supercell": [2, 2, 2], "defect": {"kind": "vacancy", "site": 4},
        "charged": {"charge": 2, "ions": "relaxed", "cells": [[2, 2, 2], [3, 3, 3], [4, 4, 4]], "mott_littleton": False},
    },
}  # fmt: skip
# What two runs may differ in: times, and how much was read instead of computed.
TIMES = ("seconds", "wall_time_s", "engine_s", "engine_seconds", "date")
# Each attempt but the last is killed; then the run is left alone.
KILLS_IN_A_ROW = 4


@dataclass
class Counts:
    """Of one study."""

    injected: int = 0
    recovered: int = 0
    lost: int = 0
    different: int = 0
    words: list[str] = field(default_factory=list)


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100, help="number of SIGKILLs in all (100)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (1)")
    parser.add_argument("--only", choices=STUDIES, action="append", help="this study; repeatable")
    asked = parser.parse_args(arguments)
    names = asked.only or list(STUDIES)
    shares = {name: asked.kills // len(names) + (k < asked.kills % len(names)) for k, name in enumerate(names)}
    counts = {}
    with tempfile.TemporaryDirectory(prefix="faults_") as folder:
        folder = Path(folder)
        bulk("Si", "diamond", a=5.43095, cubic=True).write(folder / "Si.cif")
        bulk("MgO", "rocksalt", a=4.21, cubic=True).write(folder / "MgO.cif")
        for name in names:
            (folder / f"{name}.yaml").write_text(json.dumps(STUDIES[name]))
            counts[name] = harassed(folder, name, shares[name], random.Random(f"{asked.seed} {name}"))
            print(f"{name}: {counts[name].injected} faults", *counts[name].words, sep="\n  ", file=sys.stderr, flush=True)
    rows = [(name, c.injected, c.recovered, c.lost, c.different) for name, c in counts.items()]
    rows.append(("all", *(sum(row[k] for row in rows) for k in range(1, 5))))
    header = ("study", "faults injected", "recovered", "results lost", "trajectories different")
    for row in (header, *rows):
        widths = (18, *map(len, header[1:]))
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip())
    _, injected, recovered, lost, different = rows[-1]
    return 0 if recovered == injected and not lost and not different else 1


def harassed(folder: Path, name: str, kills: int, dice: random.Random) -> Counts:
    """One study, killed as often as asked; in new folders whenever it has been finished."""
    whole = folder / f"{name}_whole"
    run = start(folder, name, whole)
    begin = at_work(run, whole)
    code, err = ended(run)
    if code != 0:
        raise SystemExit(f"{name} fails without any fault:\n{err}")
    duration, counts, attempt = time.monotonic() - begin, Counts(), 0
    while counts.injected < kills:
        out = folder / f"{name}_{attempt}"
        attempt += 1
        here = 0
        while here < min(KILLS_IN_A_ROW, kills - counts.injected):
            before = contents(out)
            run = start(folder, name, out)
            begin = at_work(run, out)
            try:
                run.wait(timeout=dice.uniform(0.0, 1.0) * duration)
                duration = 0.5 * (duration + time.monotonic() - begin)  # it was faster than the fault
                break
            except subprocess.TimeoutExpired:
                os.kill(run.pid, signal.SIGKILL)
                ended(run)
                here += 1
                counts.lost += lost(before, contents(out), counts.words)
        counts.injected += here
        before = contents(out)
        code, err = ended(start(folder, name, out))
        counts.lost += lost(before, contents(out), counts.words)
        if code == 0 and same_result(whole, out, counts.words):
            counts.recovered += here
        elif code != 0:
            counts.words.append(f"attempt {attempt}: exit code {code}: {err.strip()[-300:]}")
        trajectory = "trajectory.xyz"
        if (whole / trajectory).exists() and (whole / trajectory).read_bytes() != (out / trajectory).read_bytes():
            counts.different += 1
    return counts


def start(folder: Path, name: str, out: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "solidqmmm", "run", f"{name}.yaml", "--out", str(out)]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def at_work(run: subprocess.Popen, out: Path) -> float:
    """The time when a run has taken its folder; what comes before is the start of Python."""
    while run.poll() is None:
        with suppress(OSError, ValueError):
            if json.loads((out / ".lock").read_text())["pid"] == run.pid:
                break
        time.sleep(0.01)
    return time.monotonic()


def ended(run: subprocess.Popen) -> tuple[int, str]:
    _, err = run.communicate()
    return run.returncode, err


def contents(out: Path) -> dict[Path, bytes]:
    """Finished pieces: evaluations and records; they are never written twice."""
    return {path: path.read_bytes() for path in out.rglob("*.npz") if path.name[0] != "." and path.name != "checkpoint.npz"}


def lost(before: dict, after: dict, words: list[str]) -> int:
    """How many finished pieces are gone or other ones."""
    gone = [path for path, content in before.items() if after.get(path) != content]
    words += [f"lost: {path.name} in {path.parent}" for path in gone]
    return len(gone)


def same_result(one: Path, other: Path, words: list[str]) -> bool:
    first, second = (without_times(json.loads((out / "result.json").read_text())) for out in (one, other))
    if first == second:
        return True
    differing = [key for key in first if first[key] != second.get(key)]
    words.append(f"{other.name} differs in {', '.join(differing)}: " + "; ".join(
        f"{key} {str(first[key])[:80]} / {str(second.get(key))[:80]}" for key in differing[:3]
    ))  # fmt: skip
    return False


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


if __name__ == "__main__":
    sys.exit(main())
