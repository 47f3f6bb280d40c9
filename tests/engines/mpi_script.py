"""Evaluates the same arrangements on as many ranks as it is started with; rank 0 prints JSON. Run by test_mpi.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ase.build import bulk
from ase.calculators.emt import EMT
from cases import SW, in_cubic_box, rattled

from solidqmmm.engines.ase import ASEEngine
from solidqmmm.engines.journal import JournaledEngine
from solidqmmm.engines.lammps import LammpsEngine
from solidqmmm.errors import EngineError
from solidqmmm.runtime import is_root, world


def numbers(engine, atoms):
    """Two calls, the second one warm: energies and forces as lists."""
    answers = [engine.evaluate(atoms), engine.evaluate(rattled(atoms, 0.02))]
    return [[answer.energy, answer.forces.tolist()] for answer in answers]


def main(folder: Path, with_gpaw: bool):
    slab = bulk("Si") * (3, 3, 3)
    slab.pbc = (True, True, False)
    results = {}
    with LammpsEngine(SW) as engine:
        results["lammps"] = numbers(engine, rattled(slab, 0.05))
    with JournaledEngine(ASEEngine(EMT()), folder / "journal") as engine:
        results["ase"] = numbers(engine, rattled(bulk("Al") * (2, 2, 2), 0.05))
    try:
        ASEEngine(EMT()).evaluate(bulk("Si"))
    except EngineError as error:
        results["failure"] = str(error)
    if with_gpaw:
        from solidqmmm.engines.gpaw import GPAWEngine

        for name, fft in (("gpaw-grid", False), ("gpaw-fft", True)):
            with GPAWEngine(basis="sz(dzp)", h=0.3, fft_potential=fft, log=folder / "gpaw.txt") as engine:
                results[name] = numbers(engine, in_cubic_box("H2", 6.0))
        results["waves"] = "computed"
        try:
            with GPAWEngine(mode="pw", ecut=150) as engine:
                engine.evaluate(in_cubic_box("H2", 4.0))
        except EngineError as error:
            results["waves"] = str(error)
    everywhere = world().allgather(json.dumps(results))
    assert len(set(everywhere)) == 1, "the ranks disagree"
    if is_root():
        print(json.dumps({"ranks": world().size, **results}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] == "gpaw")
