"""How cost grows: host and quantum engine against atoms, both on two ranks, the coupling against its region."""

from __future__ import annotations

import gc
import os
import time
from functools import partial
from pathlib import Path

import numpy as np

SW = ("sw", "* * Si.sw Si", ["Si"])
A0 = 5.43095
REPEATS = (5, 10, 20, 40, 50, 80)  # of the cubic cell: 1,000 to 4,096,000 atoms


def silicon(repeats):
    """A cube of silicon, repeats^3 cells of 8 atoms."""
    from ase.build import bulk

    from solidqmmm.system.crystal import Crystal

    return Crystal.of(bulk("Si", "diamond", a=A0, cubic=True)).supercell([repeats] * 3)


def potential():
    from solidqmmm.system.potential import Potential

    return Potential(*SW)


def in_motion(crystal, **options):
    """A host at 300 K that has made some steps."""
    from solidqmmm.engines.lammps_host import LammpsHost

    host = LammpsHost(crystal, potential(), **options)
    host.command("velocity all create 300 1 loop geom")
    host.command("fix nve all nve")
    host.run(2)
    return host


def seconds_of(act, times=1) -> float:
    begin = time.perf_counter()
    for _ in range(times):
        act()
    return (time.perf_counter() - begin) / times


def resident_GB() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024**3


# --- against atoms --------------------------------------------------------------------------------------------


def host_against_atoms(rounds=3) -> dict:
    """Step of NVE and memory of silicon on one rank; medians."""
    from solidqmmm.physics.algebra.power_law import power_law
    from solidqmmm.runtime import prepare_engines

    prepare_engines()
    found, atoms, steps_s, memory = {}, [], [], []
    for repeats in REPEATS:
        gc.collect()
        before = resident_GB()
        crystal = silicon(repeats)
        with in_motion(crystal) as host:
            n = len(crystal)
            steps = int(max(3, 200_000 / n))
            step = float(np.median([seconds_of(partial(host.run, steps)) / steps for _ in range(rounds)]))
            size = resident_GB() - before
        atoms.append(n)
        steps_s.append(step)
        memory.append(size)
        found |= {f"step_s_{n}": step, f"memory_GB_{n}": size}
        del crystal
    atoms, steps_s, memory = np.array(atoms), np.array(steps_s), np.array(memory)
    large = atoms > 10_000  # below, the memory is that of the libraries
    time_law, memory_law = power_law(atoms, steps_s), power_law(atoms[large], memory[large])
    return found | {
        "atoms": atoms.tolist(),
        "exponent_step": time_law.exponent,
        "exponent_step_stderr": time_law.stderr,
        "exponent_memory": memory_law.exponent,
        "exponent_memory_stderr": memory_law.stderr,
        "bytes_per_atom": float(memory[-1] * 1024**3 / atoms[-1]),
    }


def cluster(radius, centre=(0.0, 0.0, 0.0)):
    """A ball of silicon, hydrogen on its cut bonds; no atom with more than two of them."""
    from ase import Atoms
    from ase.build import bulk
    from scipy.spatial import cKDTree

    crystal = bulk("Si", "diamond", a=A0, cubic=True) * (7, 7, 7)
    middle = 3 * A0 * np.ones(3) + np.array(centre) * A0
    tree = cKDTree(crystal.positions)
    bonded = [[k for k in tree.query_ball_point(x, 2.6) if k != i] for i, x in enumerate(crystal.positions)]
    inside = set(np.flatnonzero(np.linalg.norm(crystal.positions - middle, axis=1) < radius))
    while few := {i for i in inside if len(inside.intersection(bonded[i])) < 2 and len(inside) > 5}:
        inside -= few
    x = crystal.positions
    caps = [x[i] + 1.48 * (x[k] - x[i]) / 2.352 for i in inside for k in bonded[i] if k not in inside]
    atoms = Atoms(f"Si{len(inside)}H{len(caps)}", np.vstack([x[sorted(inside)], caps]))
    atoms.center(vacuum=3.5)
    return atoms


def gpaw_engine(basis="sz(dzp)", h=0.22):
    from solidqmmm.engines.gpaw import GPAWEngine

    return GPAWEngine(mode="lcao", basis=basis, h=h, xc="PBE")


def gpaw_against_atoms() -> dict:
    """An SCF iteration and a force call of hydrogen-capped silicon on one rank."""
    from solidqmmm.physics.algebra.power_law import power_law

    found, atoms, seconds, iterations, memory = {}, [], [], [], []
    with gpaw_engine() as engine:
        for radius in (3.0, 4.6, 5.5, 6.7, 7.8, 9.2):
            ball = cluster(radius)
            timing = engine.calibrate(ball, iterations=3)
            n = len(ball)
            atoms.append(n)
            seconds.append(timing["estimated_seconds_per_evaluation"])
            iterations.append(timing["seconds_per_scf_step"])
            memory.append(timing["memory_MB"])
            found |= {
                f"formula_{n}": ball.get_chemical_formula(),
                f"call_s_{n}": seconds[-1],
                f"iteration_s_{n}": iterations[-1],
                f"memory_MB_{n}": memory[-1],
            }
    large = np.array(atoms) > 40
    atoms, seconds = np.array(atoms), np.array(seconds)
    laws = power_law(atoms, seconds), power_law(atoms[large], seconds[large])
    return found | {
        "atoms": atoms.tolist(),
        "exponent": laws[0].exponent,
        "exponent_stderr": laws[0].stderr,
        "exponent_above_40": laws[1].exponent,
        "exponent_above_40_stderr": laws[1].stderr,
    }


class Free:
    """An engine that answers at once: what is measured is all that is around it."""

    name, provides_stress = "free", False

    def evaluate(self, atoms, *, stress=False):
        from solidqmmm.engines.protocols import Evaluation

        return Evaluation(0.0, np.zeros((len(atoms), 3)), None, {})

    def describe(self):
        return {"engine": self.name}

    def forget(self):
        pass

    def close(self):
        pass


def coupling_against_region(repeats=25, steps=40, rounds=3) -> dict:
    """Force mixing and subtractive coupling around an engine that costs nothing: seconds in the callback of a step."""
    from solidqmmm.coupling.force_mixing import ForceMixing
    from solidqmmm.coupling.qmmm import QMMM
    from solidqmmm.coupling.subtractive import Subtractive
    from solidqmmm.engines import lammps_attachment
    from solidqmmm.engines.lammps import LammpsEngine
    from solidqmmm.physics.algebra.power_law import power_law
    from solidqmmm.procedures.building.select import within_radius
    from solidqmmm.procedures.carve import carve
    from solidqmmm.system.caps import CapRules
    from solidqmmm.system.partition import CORE, Partition

    spent = [0.0]
    act = lammps_attachment.Attachment.__call__

    def clocked(*arguments):
        begin = time.perf_counter()
        act(*arguments)
        spent[0] += time.perf_counter() - begin

    crystal, found = silicon(repeats), {}
    found["atoms_host"] = len(crystal)
    middle = crystal.cell.sum(axis=0) / 2
    lammps_attachment.Attachment.__call__ = clocked
    try:
        for scheme in ("force_mixing", "subtractive"):
            sizes, seconds = [], []
            for radius in (4.0, 8.0, 16.0, 32.0):
                labels = np.zeros(len(crystal), dtype=np.int8)
                labels[within_radius(crystal, middle, radius)] = CORE
                partition = Partition(labels, middle)
                carved = carve(crystal, partition, CapRules("none"))
                with LammpsEngine(potential()) as classical:
                    if scheme == "force_mixing":
                        correction = ForceMixing(carved, Free())
                    else:
                        correction = Subtractive(carved, Free(), classical)
                    with QMMM(crystal, potential(), correction, partition=partition) as qmmm:
                        qmmm.host.command("fix nve all nve")
                        qmmm.host.run(2)
                        times = []
                        for _ in range(rounds):
                            spent[0] = 0.0
                            qmmm.host.run(steps, pre=False)
                            times.append(spent[0] / steps)
                sizes.append(carved.n_quantum)
                seconds.append(float(np.median(times)))
                found[f"{scheme}_ms_{carved.n_quantum}"] = 1e3 * seconds[-1]
            found[f"{scheme}_exponent"] = power_law(sizes[1:], seconds[1:]).exponent
            found[f"{scheme}_us_per_atom"] = 1e6 * seconds[-1] / sizes[-1]
    finally:
        lammps_attachment.Attachment.__call__ = act
    return found


# --- on two ranks ---------------------------------------------------------------------------------------------


def alone(comm, act):
    """What `act` gives on rank 0 as a world of its own, on every rank; the others sleep meanwhile."""
    from mpi4py import MPI

    from solidqmmm import rank_halves

    found = None
    if comm.rank == 0:
        with rank_halves.inside(MPI.COMM_SELF):
            found = act()
    rank_halves.patient(comm.Ibarrier())
    return comm.bcast(found)


def each(comm, act):
    """What `act` gives on every rank as a world of its own, all at the same time; the mean."""
    from mpi4py import MPI

    from solidqmmm import rank_halves

    comm.Barrier()
    with rank_halves.inside(MPI.COMM_SELF):
        found = act()
    return comm.allreduce(found) / comm.size


def together(comm, act):
    """What `act` gives where all ranks are one world."""
    comm.Barrier()
    return act()


def compared(comm, times, **more) -> dict:
    """Medians and ratios of rounds of (one rank alone, each for itself at the same time, all on one), in seconds."""
    times = np.array(times)
    idle, busy, whole = np.median(times, axis=0)
    speedup = times[:, 0] / times[:, 2]
    return {
        "ranks": comm.size,
        "seconds_on_1": float(idle),
        "seconds_on_1_others_busy": float(busy),
        f"seconds_on_{comm.size}": float(whole),
        "speedup": float(np.median(speedup)),
        "speedup_lowest": float(speedup.min()),
        "speedup_highest": float(speedup.max()),
        "speedup_of_fastest": float(times[:, 0].min() / times[:, 2].min()),
        "efficiency": float(np.median(speedup)) / comm.size,
        "efficiency_others_busy": float(np.median(times[:, 1] / times[:, 2])) / comm.size,
        "slower_with_others_busy": float(np.median(times[:, 1] / times[:, 0])),
        **more,
    }


def host_on_ranks(repeats=50, steps=4, rounds=5) -> dict:
    """Inside mpiexec: steps of 1,000,000 atoms on one rank, on each rank for itself, and on all together."""
    from mpi4py import MPI

    from solidqmmm.runtime import all_ranks

    comm, crystal = all_ranks(), silicon(repeats)
    single = in_motion(crystal, communicator=MPI.COMM_SELF)
    whole = in_motion(crystal, communicator=comm)

    def step(host):
        return lambda: seconds_of(lambda: host.run(steps)) / steps

    times = [
        (alone(comm, step(single)), each(comm, step(single)), together(comm, step(whole))) for _ in range(rounds)
    ]
    return compared(comm, times, atoms=len(crystal), target_efficiency=0.85)


def gpaw_on_ranks(rounds=3) -> dict:
    """Inside mpiexec: a GPAW call of Si28H36 (dzp, h = 0.2) on one rank, on each rank for itself, and on all together."""
    from solidqmmm.runtime import all_ranks

    comm, ball = all_ranks(), cluster(5.5, (0.25, 0.25, 0.5))

    def call():
        with gpaw_engine("dzp", 0.2) as engine:
            return engine.calibrate(ball)["estimated_seconds_per_evaluation"]

    times = [(alone(comm, call), each(comm, call), together(comm, call)) for _ in range(rounds)]
    return compared(comm, times, atoms=len(ball), formula=ball.get_chemical_formula())


def memory_on_ranks(repeats=80) -> dict:
    """Inside mpiexec: memory of a rank with 4,096,000 atoms on all of them, ghosts, and the neighbourhood's volume."""
    from solidqmmm.runtime import all_ranks

    comm = all_ranks()
    before = resident_GB()
    crystal = silicon(repeats)
    python = resident_GB() - before
    host = in_motion(crystal, communicator=comm)
    found = {
        "atoms": len(crystal),
        "ranks": comm.size,
        "crystal_bytes_per_atom": python * 1024**3 / len(crystal),
        "bytes_per_atom_and_rank": comm.allreduce(resident_GB() - before) / comm.size * 1024**3 / len(crystal),
        "ghosts": host.session.lmp.extract_global("nghost"),
    }
    host.close()
    return found
