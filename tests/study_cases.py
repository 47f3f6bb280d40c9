"""A small valid study of each recipe, and how to change one; for tests of what is refused."""

from __future__ import annotations

from copy import deepcopy

SW = {"pair_style": "sw", "pair_coeff": ["* * Si.sw Si"], "species": ["Si"]}
SNAP = {
    "engine": "lammps", "pair_style": "snap", "species": ["Si"],
    "pair_coeff": ["* * Si_Zuo_JPCA2020.snapcoeff Si_Zuo_JPCA2020.snapparam Si"],
}  # fmt: skip
MAGNESIA = {
    "pair_style": "buck/coul/long 6.2",
    "pair_coeff": ["* * 0 1 0", "Mg O 821.6 0.3242 0", "O O 22764.0 0.149 27.88"],
    "species": ["Mg", "O"],
    "charges": {"Mg": 2, "O": -2},
    "commands": ["kspace_style ewald 1e-7", "pair_modify shift yes table 0"],
}
VACANCY = {"kind": "vacancy", "site": 0}
_SILICON = {"structure": {"file": "Si.cif"}, "host": SW, "seed": 1}
_EMBEDDED = {"qm": SNAP, "region": {"core": {"hops": 1}, "buffer": {"hops": 2}}, "caps": {"kind": "none"}}
_IONS = {"structure": {"file": "MgO.cif"}, "supercell": [2, 2, 2], "host": MAGNESIA}

STUDIES = {
    "relaxation": {
        "recipe": "defect_relaxation", **_SILICON, "supercell": [3, 3, 3], "defect": VACANCY, **_EMBEDDED,
        "coupling": {"scheme": "force_mixing"}, "relax": {"fmax": 0.02}, "check": {"nve_steps": 0},
    },
    "tensor": {"recipe": "elastic_tensor", **_SILICON, "elastic": {"amplitudes": [0.005], "fit_order": 1}},
    "phonons": {"recipe": "defect_phonons", **_SILICON, "defect": VACANCY, "phonons": {"method": "full"}},
    "point": {"recipe": "single_point", **_SILICON},
    "alone": {"recipe": "elastic_tensor", "structure": {"file": "Si.cif"}, "qm": SNAP},
    "charged": {
        "recipe": "charged_defect", **_IONS, "defect": {"kind": "vacancy", "site": 4},
        "charged": {"charge": 2, "cells": [[2, 2, 2], [3, 3, 3]], "ions": "fixed"},
    },
    "ladder": {
        "recipe": "embedding_ladder", **_IONS, "defect": {"kind": "vacancy", "site": 4},
        "qm": {"engine": "classical_field", "charges": {"Mg": 2, "O": -2}, "polarizabilities": {"Mg": 0.09, "O": 1.65}},
        "region": {"core": {"hops": 1}}, "caps": {"kind": "none"},
        "coupling": {"scheme": "polarizable", "charge": 2, "width": 0, "polarizabilities": {"Mg": 0.09, "O": 1.65}},
        "ladder": {"clusters": [{"hops": 1}]},
    },
    "fracture": {
        "recipe": "fracture", **_SILICON,
        "crack": {
            "system": "strip", "plane": [1, 1, 1], "front": [1, -1, 0], "load": {"G": [4.0, 5.0]}, "size_A": [130, 50],
        },
        "stadium": {"width_A": 20, "gamma_max_per_ps": 8}, "dynamics": {"temperature_K": 300, "time_ps": 0.1},
        "saving": {"scheme": "none"},
    },
}  # fmt: skip


def changed(mapping: dict, changes: dict) -> dict:
    """`mapping` with values at dotted keys ('relax.fmax'); None takes a key away."""
    out = deepcopy(mapping)
    for key, value in changes.items():
        *path, last = key.split(".")
        node = out
        for part in path:
            node = node.setdefault(part, {})
        if value is None:
            node.pop(last, None)
        else:
            node[last] = value
    return out


def write_structures(folder):
    """Si.cif and MgO.cif."""
    from pymatgen.core import Lattice, Structure

    Structure.from_spacegroup("Fd-3m", Lattice.cubic(5.43), ["Si"], [[0, 0, 0]]).to(filename=str(folder / "Si.cif"))
    sites = [[0, 0, 0], [0.5, 0, 0]]
    Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], sites).to(filename=str(folder / "MgO.cif"))
