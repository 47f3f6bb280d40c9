"""Crystals, potentials and studies that the tests of elastic tensors share."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
from ase.build import bulk

from solidqmmm import recipebook
from solidqmmm.procedures.build import build_model
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.study import Study


def lammps(pair_style, file, *species) -> dict:
    return {"pair_style": pair_style, "pair_coeff": [f"* * {file} {' '.join(species)}"], "species": list(species)}


SW = lammps("sw", "Si.sw", "Si")
T3 = lammps("tersoff", "SiC.tersoff", "Si")
TERSOFF_MOD = lammps("tersoff/mod", "Si.tersoff.mod", "Si")
SIC = lammps("tersoff", "SiC.tersoff", "Si", "C")
QUARTZ_VASHISHTA = lammps("vashishta", "SiO.1990.vashishta", "Si", "O")
COPPER = lammps("eam/alloy", "Cu_mishin1.eam.alloy", "Cu")
ALUMINIUM = lammps("eam/fs", "Al_mm.eam.fs", "Al")
MAGNESIUM = lammps("eam/fs", "Mg_mm.eam.fs", "Mg")

VACANCY = {"kind": "vacancy", "site": 0}
REGION = {"core": {"hops": 1}, "buffer": {"hops": 1}}
SILICON_CAPS = {"kind": "Si", "length": 2.2}


def engine(host: dict) -> dict:
    """A LAMMPS potential in the place of the quantum engine."""
    return {"engine": "lammps", **host}


# A Tersoff region with silicon caps around the vacancy of a Stillinger-Weber crystal.
HYBRID = {
    "supercell": [3, 3, 3], "host": SW, "defect": VACANCY, "qm": engine(T3), "region": REGION, "caps": SILICON_CAPS,
}  # fmt: skip


def silicon(a=5.431) -> Crystal:
    return Crystal.of(bulk("Si", a=a, cubic=True))


def copper(a=3.615) -> Crystal:
    return Crystal.of(bulk("Cu", a=a, cubic=True))


def strained_silicon(direction, size, a=5.431) -> Crystal:
    """Primitive cell, stretched along a direction: rhombohedral along [111], tetragonal along [001]; ions free inside."""
    n = np.array(direction) / np.linalg.norm(direction)
    return Crystal.of(bulk("Si", a=a)).strained(np.eye(3) + size * np.outer(n, n))


def study(**changes) -> Study:
    """The elastic tensor of silicon by Stillinger and Weber, with changes; None leaves a section out."""
    mapping = {"recipe": "elastic_tensor", "structure": silicon(), "host": SW} | changes
    mapping = {key: value for key, value in mapping.items() if value is not None}
    return Study.from_mapping(mapping, schemas=recipebook.schemas())


@contextmanager
def model_of(log_dir=None, **changes):
    with build_model(study(**changes), log_dir=log_dir) as model:
        yield model


def run(workdir=None, executor=None, progress=None, **changes):
    """The result of the recipe."""
    with model_of(log_dir=workdir, **changes) as model:
        return recipebook.find("elastic_tensor").run(
            model=model, workdir=workdir, executor=executor, progress=progress, **model.study.options
        )


def cubic(tensor) -> np.ndarray:
    """C11, C12 and C44."""
    return np.array([tensor[0, 0], tensor[0, 1], tensor[3, 3]])
