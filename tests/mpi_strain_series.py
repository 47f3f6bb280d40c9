"""Elastic tensors, one of them interrupted and resumed, on as many ranks as it is started with; rank 0 prints JSON."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path

from ase.units import GPa
from elastic_cases import HYBRID, T3_VACANCY, tensors

from solidqmmm.runtime import is_root, world


class Interruption(Exception):
    pass


def interrupt(done, total, message):
    if done == 3:
        raise Interruption


def main(folder: Path):
    with suppress(Interruption):
        tensors(changes=T3_VACANCY, folder=folder, progress=interrupt)
    host = tensors(changes=T3_VACANCY, folder=folder)
    hybrid = tensors(changes=HYBRID, relax_cell=False, amplitudes=(0.001,))
    answers = {
        "host": (host.tensor / GPa).tolist(),
        "host clamped": (host.clamped / GPa).tolist(),
        "hybrid": (hybrid.tensor / GPa).tolist(),
        "stress": (hybrid.reference.stress / GPa).tolist(),
        "saved": sorted(path.name for path in folder.glob("defect/*")),
    }
    everywhere = world().allgather(json.dumps(answers))
    assert len(set(everywhere)) == 1, "the ranks disagree"
    if is_root():
        print(json.dumps({"ranks": world().size, **answers}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
