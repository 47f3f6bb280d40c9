"""Faults of every kind done to runs at random; the runs are gone on with, and compared with runs that nobody disturbed.

    make test-faults                      all of it: 100 SIGKILLs and what else can happen
    make test-faults ARGS="--kills 12"    fewer; --seed N for other moments, --only STUDY, --kind KIND for some
    make test-faults ARGS="--counts FILE" in pieces: counts are added up in FILE, and the table shows them all

A fault counts as recovered if the same command finished later with the same result, wall times left out; a result as lost if
what was computed before (journal, records) is damaged or gone afterwards, but for a file that the fault itself cut; a
trajectory as different if it is not the same to the last byte. Moments are drawn uniformly over the time that a run needs
once it has begun.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faults.harm import KINDS, Victim

RECIPES = (
    "defect_relaxation", "elastic_tensor", "defect_phonons", "embedding_ladder", "charged_defect", "fracture", "dynamics",
    "stadium",
)  # fmt: skip
MOVING = ("fracture", "dynamics", "stadium")
# Studies that a kind is for, and how many of its faults come with 100 kills.
PLANS = {
    "SIGKILL": (RECIPES, 92),
    "SIGKILL on 2 ranks": (("defect_relaxation", "dynamics"), 8),
    "SIGTERM, SIGINT": ((*MOVING, "defect_relaxation"), 16),
    "file truncated": (("defect_relaxation", "elastic_tensor", "charged_defect", "dynamics"), 16),
    "disk full": (("defect_relaxation", "elastic_tensor", "dynamics"), 9),
    "engine fails": (("copper",), 9),
    "lost atoms": (("dynamics",), 4),
}
COLUMNS = ("injected", "recovered", "lost", "different")


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100, help="number of SIGKILLs in all (100), others in proportion")
    parser.add_argument("--seed", type=int, default=1, help="of all that is drawn (1)")
    parser.add_argument("--only", choices=(*RECIPES, "copper"), action="append", help="this study; repeatable")
    parser.add_argument("--kind", choices=PLANS, action="append", help="this kind of fault; repeatable")
    parser.add_argument("--counts", type=Path, help="file in which counts are added up")
    asked = parser.parse_args(arguments)
    found = json.loads(asked.counts.read_text()) if asked.counts and asked.counts.exists() else []
    for kind, name, times in planned(asked.kills, asked.kind or list(PLANS), asked.only):
        begun = time.monotonic()
        plain, _, ranks = kind.partition(" on ")
        with tempfile.TemporaryDirectory(prefix="faults_") as folder:
            dice = random.Random(f"{asked.seed} {kind} {name}")
            victim = Victim(Path(folder), name, int(ranks.split()[0]) if ranks else 1, dice)
            KINDS[plain](victim, times)
        counts = victim.counts
        found.append({"kind": kind, "study": name, **{column: getattr(counts, column) for column in COLUMNS}})
        if asked.counts:
            asked.counts.write_text(json.dumps(found))
        said = f"{kind}, {name}: {counts.injected} faults in {time.monotonic() - begun:.0f} s"
        print(said, *counts.words, sep="\n  ", file=sys.stderr, flush=True)
    print(table(found))
    return 0 if clean(found) else 1


def planned(kills: int, kinds, only=None) -> list[tuple[str, str, int]]:
    """Kind, study and number of faults, row by row; at least one fault in each where the number allows it."""
    rows = []
    for kind in kinds:
        studies, share = PLANS[kind]
        chosen = [name for name in studies if only is None or name in only]
        total = round(share * kills / 100) if only is None else -(-share * kills * len(chosen) // (100 * len(studies)))
        rows += [(kind, name, total // len(chosen) + (k < total % len(chosen))) for k, name in enumerate(chosen)]
    return [row for row in rows if row[2]]


def table(found: list[dict]) -> str:
    """Counts by kind and study, in all at the end."""
    header = ("fault", "study", "faults injected", "recovered", "results lost", "trajectories different")
    merged: dict[tuple, list[int]] = {}
    for row in found:
        sums = merged.setdefault((row["kind"], row["study"]), [0] * len(COLUMNS))
        merged[row["kind"], row["study"]] = [a + row[column] for a, column in zip(sums, COLUMNS, strict=True)]
    rows = [(*key, *sums) for key, sums in merged.items()]
    rows.append(("all", "", *(sum(row[k] for row in rows) for k in range(2, 6))))
    widths = [max(len(str(row[k])) for row in (header, *rows)) for k in range(6)]
    lines = [[str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)] for row in (header, *rows)]
    return "\n".join("  ".join(cells).rstrip() for cells in lines)


def clean(found: list[dict]) -> bool:
    """Whether every run recovered, and nothing was lost or is different."""
    return all(row["recovered"] == row["injected"] and not row["lost"] and not row["different"] for row in found)


if __name__ == "__main__":
    sys.exit(main())
