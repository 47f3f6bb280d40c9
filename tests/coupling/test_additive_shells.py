"""A cluster in a core-shell crystal: the shells answer it, and forces are total derivatives."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk

from solidqmmm import recipebook
from solidqmmm.engines.lammps_host import LammpsHost
from solidqmmm.procedures.build import build_model
from solidqmmm.system.study import Study

# Between shells of neighbours, and short enough for a narrow cell to need no steep splitting of its Ewald sum.
SHORT = {"pair_style": "buck/coul/long/cs 4.95", "commands": ["kspace_style ewald 1e-6", "pair_modify shift yes"]}
STUDY = {
    "recipe": "single_point",
    "structure": bulk("MgO", "rocksalt", a=4.2, cubic=True),
    "supercell": [2, 2, 2],
    "defect": {"kind": "vacancy", "site": 1},
    "host": {"model": "gulp_MgO", **SHORT},
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


# --- the ladder -----------------------------------------------------------------------------------------------------------

# Six cations, and the oxygen ion amid them in the perfect crystal, whose dipole vanishes: the engine is one with the host.
LEWIS = {"model": "lewis_catlow_MgO", **SHORT}
PAIRS = {
    "engine": "lammps",
    "pair_style": "buck 4.95",
    "pair_coeff": ["* * 0 1 0", "Mg O 1428.5 0.2945 0"],
    "species": ["Mg", "O"],
    "commands": ["pair_modify shift yes"],
}
LADDER = STUDY | {"recipe": "embedding_ladder", "host": LEWIS, "qm": {**STUDY["qm"], "inner": PAIRS}}


def recipe_run(mapping):
    study = Study.from_mapping(mapping, schemas=recipebook.schemas())
    with build_model(study) as model:
        return recipebook.find(study.recipe).run(model=model, **study.options)


def test_a_ladder_in_a_core_shell_host_is_the_host_with_the_same_ions():
    found = recipe_run(LADDER | {"coupling": {"scheme": "electrostatic", "charge": 2, "width": 0}})
    assert [rung.embedding for rung in found.rungs] == ["mechanical", "electrostatic"]
    host = {**LEWIS, "net_charge": 2.0}
    with build_model(Study.from_mapping({**LADDER, "recipe": "single_point", "host": host})) as model:
        energies = []
        for crystal in (model.crystal, model.perfect):
            with LammpsHost(crystal, model.potential) as alone:
                energies.append(alone.energy())
    for rung in found.rungs:
        assert rung.energy_difference_eV == pytest.approx(energies[0] - energies[1], abs=1e-3)
        assert rung.region_potential_rms_error_eV < 1e-3


@pytest.mark.slow
def test_a_relaxed_ladder_in_a_core_shell_host_is_the_relaxed_host():
    mu = {"chemical_potentials": {"O": -5.0}}
    asked = {"ions": "relaxed", "fmax": 0.01, "embeddings": ["electrostatic"], **mu}
    coupling = {"scheme": "electrostatic", "charge": 2, "width": 0}
    (rung,) = recipe_run(LADDER | {"coupling": coupling, "ladder": asked}).rungs
    alone = {key: LADDER[key] for key in ("structure", "supercell", "defect")} | {"recipe": "defect_relaxation"}
    plain = recipe_run(alone | {"host": {**LEWIS, "net_charge": 2.0}, "relax": {"fmax": 0.01, **mu}})
    assert rung.converged
    assert rung.n_qm_calls < 20
    assert rung.formation_energy_eV == pytest.approx(plain.formation_energy_eV, abs=2e-3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"coupling": {"scheme": "polarizable", "charge": 2, "polarizabilities": {"Mg": 0.09, "O": 0.9}}},
            "coupling: polarizable has no meaning in a core-shell host",
        ),
        ({"ladder": {"embeddings": ["polarizable"]}}, "ladder.embeddings: polarizable has no meaning in a core-shell host"),
    ],
)
def test_dipoles_beside_shells_are_refused(changes, said):
    with pytest.raises(ValueError, match=f"{said}.*take that, or a host without `shells`"):
        recipe_run(LADDER | changes)
