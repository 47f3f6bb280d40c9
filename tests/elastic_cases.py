"""Crystals, potentials and studies that the tests of elastic tensors share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from ase.build import bulk
from pymatgen.core import Lattice, Structure

from solidqmmm import recipebook
from solidqmmm.procedures.build import build_model
from solidqmmm.procedures.elastic.crystal_elasticity import elasticity_of
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


T3_VACANCY = {"host": T3, "supercell": [2, 2, 2], "defect": VACANCY}

# Hybrids with all that a stress must account for.
WITH_EVERYTHING = HYBRID | {
    "coupling": {"scheme": "subtractive", "ghost_forces": True},
    "matching": {"lattice_parameter_A": 5.40, "bulk_modulus_GPa": 90.0},
}
PERIODIC_LINE = HYBRID | {
    "supercell": [4, 4, 1],
    "caps": SILICON_CAPS | {"periodic_axes": [2]},
    "region": {"core": {"line": {"direction": [0, 0, 1]}, "radius": 4.0}},
}


def silicon(a=5.431) -> Crystal:
    return Crystal.of(bulk("Si", a=a, cubic=True))


def copper(a=3.615) -> Crystal:
    return Crystal.of(bulk("Cu", a=a, cubic=True))


def quartz() -> Crystal:
    """Alpha quartz: trigonal (class 32), three silicon atoms on axes, six oxygen atoms where they like."""
    sites = [[0.4697, 0.0, 2 / 3], [0.4135, 0.2669, 0.7858]]
    return Crystal.of(Structure.from_spacegroup("P3_221", Lattice.hexagonal(4.913, 5.405), ["Si", "O"], sites))


def wurtzite() -> Crystal:
    return Crystal.of(bulk("SiC", "wurtzite", a=3.08, c=5.03, u=0.375))


def strained_silicon(direction, size, a=5.431) -> Crystal:
    """Primitive cell, stretched along a direction: rhombohedral along [111], tetragonal along [001]; ions free inside."""
    n = np.array(direction) / np.linalg.norm(direction)
    return Crystal.of(bulk("Si", a=a)).strained(np.eye(3) + size * np.outer(n, n))


def study(**changes) -> Study:
    """The elastic tensor of silicon by Stillinger and Weber, with changes; None leaves a section out."""
    mapping = {"recipe": "elastic_tensor", "structure": silicon(), "host": SW} | changes
    mapping = {key: value for key, value in mapping.items() if value is not None}
    return Study.from_mapping(mapping, schemas=recipebook.schemas())


def model_of(log_dir=None, **changes):
    return build_model(study(**changes), log_dir=log_dir)


def run(workdir=None, executor=None, progress=None, **changes):
    """The result of the recipe."""
    with model_of(log_dir=workdir, **changes) as model:
        return recipebook.find("elastic_tensor").run(
            model=model, workdir=workdir, executor=executor, progress=progress, **model.study.options
        )


def cubic(tensor) -> np.ndarray:
    """C11, C12 and C44."""
    return np.array([tensor[0, 0], tensor[0, 1], tensor[3, 3]])


def tensors(which="defect", *, symmetry=True, fmax=1e-4, relax_cell=True, start=None, changes=None, **options):
    """The elasticity of one crystal of a study."""
    with model_of(**(changes or {})) as model:
        return elasticity_of(
            model, which, use_symmetry=symmetry, fmax=fmax, relax_cell=relax_cell, start=start, **options
        )


class Noisy:
    """An engine whose forces nobody takes for exact, and which are not with a `noise` in eV/angstrom (no net force)."""

    def __init__(self, engine, noise=0.0):
        self.inner, self.noise, self.rng = engine, noise, np.random.default_rng(0)
        self.name, self.provides_stress = engine.name, engine.provides_stress
        self.describe, self.close = engine.describe, engine.close

    def evaluate(self, atoms, *, stress=False):
        given = self.inner.evaluate(atoms, stress=stress)
        noise = self.noise * self.rng.normal(size=given.forces.shape)
        return replace(given, forces=given.forces + noise - noise.mean(axis=0))
