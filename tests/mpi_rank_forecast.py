"""Under mpiexec: calibration on halves of the ranks; prints JSON."""

from __future__ import annotations

import json

from ase.build import bulk

from solidqmmm.engines.lammps import LammpsEngine
from solidqmmm.errors import EngineError
from solidqmmm.procedures.parallel.rank_forecast import measured_host, measured_quantum
from solidqmmm.runtime import world
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.potential import Potential

SW = Potential("sw", "* * Si.sw Si", ["Si"])
crystal = Crystal.of(bulk("Si", cubic=True) * (4, 4, 4))
comm = world()
host = measured_host(crystal, SW)
with LammpsEngine(SW) as engine:
    before = engine.evaluate(crystal.to_atoms()).energy
    quantum = measured_quantum(engine, crystal.to_atoms())
    after = engine.evaluate(crystal.to_atoms()).energy

try:
    measured_host(crystal, Potential("sw", "* * Si.sw Si", ["Si"], commands=["kspace_style no_such_style"]))
    failure = None
except EngineError as error:
    failure = type(error).__name__
failures = comm.gather(failure)

if comm.rank == 0:
    deviations = [abs(one.cost.seconds(n) / t - 1) for one in (host, quantum) for n, t in zip(one.ranks, one.seconds)]
    print(
        json.dumps(
            {
                "host_ranks": host.ranks,
                "quantum_ranks": quantum.ranks,
                "costs_as_measured": max(deviations),
                "world": world().Get_size(),
                "energy_change": abs(after - before),
                "failure": failures,
            }
        )
    )
