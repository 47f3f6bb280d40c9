"""Studies of an oxygen vacancy in MgO, embedded in every way, with the classical stand-in for the quantum engine."""

from __future__ import annotations

from copy import deepcopy

from ase import Atoms
from ase.build import bulk

from solidqmmm import recipebook
from solidqmmm.procedures.build import build_model
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.study import Study

PAIRS = ["* * 0 1 0", "1 2 1428.5 0.2945 0", "2 2 22764.3 0.149 27.88"]
HOST = {
    "pair_style": "buck/coul/long 6.3",
    "pair_coeff": PAIRS,
    "species": ["Mg", "O"],
    "charges": {"Mg": 2.0, "O": -2.0},
    "commands": ["kspace_style ewald 1e-7", "pair_modify table 0 shift yes"],
}
# Another repulsion and polarizable anions: what electrons would say differs from what the host says.
QM = {
    "engine": "classical_field",
    "charges": {"Mg": 2.0, "O": -2.0},
    "polarizabilities": {"O": 0.9},
    "inner": {
        "engine": "lammps",
        "pair_style": "buck 6.3",
        "pair_coeff": ["* * 0 1 0", "1 2 1280.0 0.3 0", "2 2 22764.3 0.149 27.88"],
        "species": ["Mg", "O"],
        "commands": ["pair_modify shift yes"],
    },
}
VACANCY = {"kind": "vacancy", "site": 1}
COUPLINGS = {
    "mechanical": {"scheme": "mechanical"},
    "electrostatic": {"scheme": "electrostatic"},
    "polarizable": {"scheme": "polarizable", "polarizabilities": {"Mg": 0.09, "O": 0.9}},
}


def oxide() -> Crystal:
    return Crystal.of(bulk("MgO", "rocksalt", a=4.2, cubic=True))


def isolated_oxide() -> Atoms:
    """64 ions in empty space."""
    atoms = bulk("MgO", "rocksalt", a=4.2, cubic=True) * (2, 2, 2)
    atoms.pbc = False
    atoms.center(vacuum=15.0)
    return atoms


ISOLATED = {
    "structure": isolated_oxide(),
    "supercell": [1, 1, 1],
    "defect": {"kind": "vacancy", "site": 33},
    "qm": {**QM, "inner": {**QM["inner"], "pair_style": "buck 40.0"}},
    "host": {
        "pair_style": "buck/coul/cut 40.0 60.0",
        "pair_coeff": PAIRS,
        "species": ["Mg", "O"],
        "charges": {"Mg": 2.0, "O": -2.0},
    },
}


def mapping(embedding="electrostatic", *, charge=2.0, **changes) -> dict:
    """A study: the doubly charged vacancy, whose ions are those of the crystal without the one that is missing."""
    asked = {
        "recipe": "defect_relaxation",
        "structure": oxide(),
        "supercell": [3, 3, 3],
        "defect": VACANCY,
        "host": HOST,
        "qm": QM,
        "region": {"core": {"hops": 1}},
        "caps": {"kind": "none"},
        "coupling": {**COUPLINGS[embedding], "charge": charge},
    }
    return deepcopy(asked) | changes


def study_of(embedding="electrostatic", **changes) -> Study:
    return Study.from_mapping(mapping(embedding, **changes), schemas=recipebook.schemas())


def model_of(embedding="electrostatic", *, workdir=None, **changes):
    return build_model(study_of(embedding, **changes), log_dir=workdir)


def run_mapping(asked: dict, workdir=None):
    study = Study.from_mapping(asked, schemas=recipebook.schemas())
    with build_model(study, log_dir=workdir) as model:
        return recipebook.find(study.recipe).run(model=model, workdir=workdir, **study.options)


def run(embedding="electrostatic", workdir=None, **changes):
    return run_mapping(mapping(embedding, **changes), workdir)
