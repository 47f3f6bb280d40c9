"""Small studies over the recipes and over dynamics alone, a quarter of a minute each or less."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from ase.build import bulk

SW = {"pair_style": "sw", "pair_coeff": ["* * Si.sw Si"], "species": ["Si"]}
SIC = {"pair_style": "tersoff", "pair_coeff": ["* * SiC.tersoff Si C"], "species": ["Si", "C"]}
SNAP = {
    "engine": "lammps", "pair_style": "snap", "species": ["Si"],
    "pair_coeff": ["* * Si_Zuo_JPCA2020.snapcoeff Si_Zuo_JPCA2020.snapparam Si"],
}  # fmt: skip
SILICON = {"structure": {"file": "Si.cif"}, "host": SW, "seed": 1}
OXIDE = {
    "pair_style": "buck/coul/long 6.3", "pair_coeff": ["* * 0 1 0", "1 2 1428.5 0.2945 0", "2 2 22764.3 0.149 27.88"],
    "species": ["Mg", "O"], "charges": {"Mg": 2.0, "O": -2.0},
    "commands": ["kspace_style ewald 1e-7", "pair_modify table 0 shift yes"],
}  # fmt: skip
IONS = {
    "engine": "classical_field", "charges": {"Mg": 2.0, "O": -2.0}, "polarizabilities": {"O": 0.9},
    "inner": {
        "engine": "lammps", "pair_style": "buck 6.3", "species": ["Mg", "O"], "commands": ["pair_modify shift yes"],
        "pair_coeff": ["* * 0 1 0", "1 2 1280.0 0.3 0", "2 2 22764.3 0.149 27.88"],
    },
}  # fmt: skip
MIXED = {
    "qm": SNAP, "region": {"core": {"hops": 1}, "buffer": {"hops": 1}}, "caps": {"kind": "none"}, "coupling": "force_mixing",
}  # fmt: skip

STUDIES = {
    "defect_relaxation": {
        "recipe": "defect_relaxation", **SILICON, "supercell": [3, 3, 3], "defect": {"kind": "vacancy", "site": 0},
        **MIXED, "region": {"core": {"hops": 1}, "buffer": {"hops": 2}},
    },
    "elastic_tensor": {
        "recipe": "elastic_tensor", **SILICON, "supercell": [2, 2, 2], "defect": {"kind": "vacancy", "site": 0},
    },
    "defect_phonons": {
        "recipe": "defect_phonons", "structure": {"file": "SiT.cif"}, "host": SIC, "supercell": [3, 3, 3],
        "defect": {"kind": "substitution", "site": 0, "element": "C"}, "qm": {"engine": "lammps", **SIC},
        "region": {"core": {"hops": 1}, "buffer": {"hops": 1}}, "caps": {"kind": "Si", "length": 2.2},
    },
    "embedding_ladder": {
        "recipe": "embedding_ladder", "structure": {"file": "MgO.cif"}, "host": OXIDE, "qm": IONS, "supercell": [2, 2, 2],
        "defect": {"kind": "vacancy", "site": 4}, "region": {"core": {"hops": 1}}, "caps": {"kind": "none"},
        "coupling": {"scheme": "polarizable", "polarizabilities": {"Mg": 0.09, "O": 0.9}, "charge": 2.0},
        "ladder": {"ions": "relaxed"},
    },
    "charged_defect": {
        "recipe": "charged_defect", "structure": {"file": "MgO.cif"}, "host": {"model": "gulp_MgO"},
        "supercell": [2, 2, 2], "defect": {"kind": "vacancy", "site": 4},
        "charged": {"charge": 2, "ions": "relaxed", "cells": [[2, 2, 2], [3, 3, 3], [4, 4, 4]], "mott_littleton": False},
    },
    "fracture": {
        "recipe": "fracture", **SILICON,
        "crack": {
            "system": "strip", "plane": [1, 1, 1], "front": [1, -1, 0], "size_A": [130, 50],
            "load": {"G": [4.0, 5.0], "rate_per_ps": 20.0},
        },
        "stadium": {"width_A": 20, "gamma_max_per_ps": 8},
        "dynamics": {"temperature_K": 300, "time_ps": 0.2, "timestep_fs": 1.0},
        "qm": SNAP, "region": {"core": {"radius": 4.0}, "leave_radius": 5.0, "buffer": {"radius": 4.0}},
        "caps": {"kind": "none", "periodic_axes": [2]}, "coupling": "force_mixing",
        "saving": {"scheme": "lotf", "steps": 10},
    },
    "dynamics": {"recipe": "moving.py", **SILICON, "supercell": [3, 3, 3], **MIXED, "moving": {"steps": 300}} | {
        "region": {"core": {"hops": 1}, "buffer": {"hops": 1}, "centre": {"site": 0}},
    },
    "stadium": {"recipe": "moving.py", **SILICON, "supercell": [8, 2, 2], "moving": {"steps": 1200, "stadium": True}},
    "copper": {
        "recipe": "defect_relaxation", "structure": {"file": "Cu.cif"}, "supercell": [3, 3, 3],
        "defect": {"kind": "vacancy", "site": 0}, **MIXED,
        "host": {"pair_style": "eam/alloy", "pair_coeff": ["* * AlCu.eam.alloy Cu"], "species": ["Cu"]},
        "qm": {"engine": "ase", "calculator": "calculators:Faulty", "timeout_s": 20.0},
    },
}  # fmt: skip
"""Studies by name; `copper` is for engines that fail (`calculators`)."""


def prepare(folder: Path, name: str, **qm) -> None:
    """Writes a study and what it needs; `qm` are arguments of its calculator."""
    bulk("Si", "diamond", a=5.43095, cubic=True).write(folder / "Si.cif")
    bulk("Si", "diamond", a=5.4321148, cubic=True).write(folder / "SiT.cif")
    bulk("MgO", "rocksalt", a=4.21, cubic=True).write(folder / "MgO.cif")
    bulk("Cu", "fcc", a=3.615, cubic=True).write(folder / "Cu.cif")
    shutil.copy(Path(__file__).with_name("moving.py"), folder)
    study = STUDIES[name]
    if qm:
        study = study | {"qm": study["qm"] | {"arguments": qm}}
    (folder / f"{name}.yaml").write_text(json.dumps(study))
