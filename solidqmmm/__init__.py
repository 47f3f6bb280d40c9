"""Concurrent QM/MM for crystals: LAMMPS holds the whole crystal, quantum mechanics corrects a few atoms.

Importing this package changes nothing in the process: no engine is loaded, no MPI is started.
The public names below are resolved on first use.
"""

from importlib import import_module

__version__ = "0.1.0"

_PUBLIC = {
    "Crystal": "solidqmmm.system.crystal",
    "Potential": "solidqmmm.system.potential",
    "Partition": "solidqmmm.system.partition",
    "Cluster": "solidqmmm.system.cluster",
    "Study": "solidqmmm.system.study",
    "CapRules": "solidqmmm.system.caps",
    "LammpsHost": "solidqmmm.engines.lammps_host",
    "GPAWEngine": "solidqmmm.engines.gpaw",
    "LammpsEngine": "solidqmmm.engines.lammps",
    "ASEEngine": "solidqmmm.engines.ase",
    "Subtractive": "solidqmmm.coupling.subtractive",
    "ForceMixing": "solidqmmm.coupling.force_mixing",
    "QMMM": "solidqmmm.coupling.qmmm",
    "load_study": "solidqmmm.recipebook",
    "build_model": "solidqmmm.procedures.build",
    "Model": "solidqmmm.procedures.build",
    "QMMMCalculator": "solidqmmm.procedures.calculator",
    "carve": "solidqmmm.procedures.carve",
    "relax": "solidqmmm.procedures.relax",
    "run_dynamics": "solidqmmm.procedures.dynamics",
    "check_boundary": "solidqmmm.procedures.check",
    "match_lattices": "solidqmmm.procedures.match",
    "Result": "solidqmmm.results.base",
    "SolidQMMMError": "solidqmmm.errors",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'solidqmmm' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__():
    return sorted(__all__)
