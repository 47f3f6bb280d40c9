"""Studies that the tests of defect phonons share."""

from __future__ import annotations

import elastic_cases
from elastic_cases import HYBRID, SIC, engine, silicon

from solidqmmm import recipebook
from solidqmmm.procedures.build import build_model
from solidqmmm.system.study import Study

A0 = 5.4321148  # angstrom, of SiC.tersoff silicon
CARBON = {
    "structure": silicon(A0),
    "host": SIC,
    "supercell": [3, 3, 3],
    "defect": {"kind": "substitution", "site": 0, "element": "C"},
}
CARBON_EMBEDDED = CARBON | {
    "qm": engine(SIC),
    "region": {"core": {"hops": 1}, "buffer": {"hops": 1}},
    "caps": {"kind": "Si", "length": 2.2},
}
VACANCY_EMBEDDED = {key: value for key, value in HYBRID.items() if key != "coupling"}


def study(**changes) -> Study:
    """Phonons of carbon in Tersoff silicon, 216 sites, with changes; None leaves a section out."""
    return elastic_cases.study(**{"recipe": "defect_phonons", **CARBON} | changes)


def model_of(log_dir=None, **changes):
    return build_model(study(**changes), log_dir=log_dir)


def run(workdir=None, progress=None, **changes):
    """The result of the recipe."""
    with model_of(log_dir=workdir, **changes) as model:
        return recipebook.find("defect_phonons").run(
            model=model, workdir=workdir, progress=progress, **model.study.options
        )
