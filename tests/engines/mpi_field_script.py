"""GPAW in a field on as many ranks as it is started with; rank 0 prints JSON. Run by test_gpaw_field.py."""

from __future__ import annotations

import json

import numpy as np
from ase import Atoms

from solidqmmm.engines.gpaw import GPAWEngine
from solidqmmm.engines.protocols import Induced
from solidqmmm.errors import SolidQMMMError
from solidqmmm.runtime import is_root, world
from solidqmmm.system.point_charges import PointCharges, RepulsiveCores

TIGHT = {"convergence": {"density": 1e-6, "energy": 1e-6}}
LCAO = {"mode": "lcao", "basis": "sz(dzp)", "h": 0.25, "kpts": (1, 1, 1)}
CASES = {  # (GPAW needs ScaLAPACK to divide the cell among ranks in its modes FD and PW)
    "grid": (LCAO, False),
    "waves": (LCAO | {"fft_potential": True}, False),
    "periodic grid": (LCAO, True),
    "periodic waves": (LCAO | {"fft_potential": True}, True),
}


class Polarizable:
    """Dipoles proportional to the field."""

    def respond(self, potentials, fields):
        return Induced(np.zeros(len(fields)), 0.1 * fields, -0.05 * float((fields**2).sum()))


class Failing:
    """Fails on the last rank only."""

    def respond(self, potentials, fields):
        if world().rank == world().size - 1:
            raise SolidQMMMError("catastrophe")
        return Polarizable().respond(potentials, fields)


def main():
    atoms = Atoms("H2", [[0.0, 0.0, 0.0], [0.4, 0.5, 0.38]], cell=[5.0, 5.0, 5.5])
    atoms.center()
    middle = atoms.positions.mean(axis=0)
    charges = PointCharges(
        middle + np.array([[2.2, 0.4, 0.5], [-0.5, 2.1, -0.9], [15.0, 3.0, 2.0]]), [0.5, -0.8, 0.3], 0.3
    )
    cores = RepulsiveCores(charges.positions[:1], 5.0, 0.5)
    results = {}
    for name, (settings, periodic) in CASES.items():
        atoms.pbc = periodic
        with GPAWEngine(**settings, **TIGHT) as engine:
            found = engine.evaluate_in_field(atoms, charges, response=Polarizable(), cores=cores)
            results[name] = [
                found.energy, found.forces.tolist(), found.charge_forces.tolist(), found.potentials.tolist(),
                found.core_forces.tolist(), found.spill_out.tolist(), found.induced.dipoles.tolist(),
            ]  # fmt: skip
            if name != "waves":
                continue
            try:
                engine.evaluate_in_field(atoms, charges, response=Failing())
            except SolidQMMMError as error:
                results["failure"] = str(error)
    everywhere = world().allgather(json.dumps(results))
    assert len(set(everywhere)) == 1, "the ranks disagree"
    if is_root():
        print(json.dumps({"ranks": world().size, **results}))


if __name__ == "__main__":
    main()
