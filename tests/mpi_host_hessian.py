"""A host's Hessian, interrupted and resumed, on as many ranks as it is started with; rank 0 prints JSON."""

from __future__ import annotations

import hashlib
import json
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
from ase.build import bulk

from solidqmmm.engines.lammps_host import LammpsHost
from solidqmmm.procedures.vibrations.host_hessian import host_hessian
from solidqmmm.runtime import world
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.potential import Potential


class Interruption(Exception):
    pass


def interrupt(done, of, message):
    if done > of // 2:
        raise Interruption


def main(folder: Path):
    crystal = Crystal.of(bulk("Si", cubic=True)).supercell([4, 3, 5]).without(17)
    crystal = crystal.with_positions(crystal.positions + 0.02 * np.sin(np.arange(3 * len(crystal))).reshape(-1, 3))
    with LammpsHost(crystal, Potential("sw", "* * Si.sw Si", "Si")) as host:
        with suppress(Interruption):
            host_hessian(host, folder=folder, progress=interrupt)
        found = host_hessian(host, folder=folder)
    digests = world().allgather(hashlib.sha256(found.matrix.data.tobytes()).hexdigest())
    assert len(set(digests)) == 1, "the ranks disagree"
    if world().rank == 0:
        probe = np.sin(1.0 + np.arange(3 * len(crystal)))
        numbers = {
            "ranks": world().size,
            "product": (found.matrix @ probe).tolist(),
            "evaluations": found.n_force_evaluations,
            "read": found.n_read,
            "asymmetry": found.asymmetry,
            "leak": found.leak,
        }
        print(json.dumps(numbers))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
