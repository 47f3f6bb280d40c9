"""A cluster in a core-shell crystal: the shells answer it, and forces are total derivatives."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk

from solidqmmm.procedures.build import build_model
from solidqmmm.system.study import Study

STUDY = {
    "recipe": "single_point",
    "structure": bulk("MgO", "rocksalt", a=4.2, cubic=True),
    "supercell": [2, 2, 2],
    "defect": {"kind": "vacancy", "site": 1},
    "host": {"model": "gulp_MgO"},
    "qm": {"engine": "classical_field", "charges": {"Mg": 2, "O": -2}},
    "region": {"core": {"hops": 1}},
    "caps": {"kind": "none"},
    "coupling": {"scheme": "electrostatic", "charge": 2},
}


def test_shells_answer_and_forces_are_total_derivatives():
    rng = np.random.default_rng(2)
    with build_model(Study.from_mapping(STUDY)) as model, model.open() as qmmm:
        coupling, host = qmmm.coupling, qmmm.host
        n, shells = len(model.crystal), len(host.shell_owner)
        assert shells == (model.crystal.numbers == 8).sum()
        assert len(coupling.atoms) == n + shells
        start = model.crystal.positions + 0.03 * rng.normal(size=(n, 3))
        host.set_positions(start)
        forces = qmmm.forces()
        pulled = host.shell_positions() - host.positions()[host.shell_owner]
        assert np.linalg.norm(pulled, axis=1).max() > 0.02
        step = 1e-3 * rng.normal(size=(n, 3))
        energies = []
        for sign in (1, -1):
            host.set_positions(start + sign * step)
            energies.append(qmmm.energy())
        slope = (energies[1] - energies[0]) / 2
        size = np.linalg.norm(forces) * np.linalg.norm(step)
        assert slope == pytest.approx(float((forces * step).sum()), abs=3e-5 * size)
        np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-4)
