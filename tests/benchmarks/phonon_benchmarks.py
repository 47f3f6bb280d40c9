"""Benchmarks of defect phonons: host Hessians, condensation and the whole recipe from 1,000 to 100,000 atoms.

Growth is fitted to processor time, which a busy machine disturbs less than the time on the clock.
"""

from __future__ import annotations

import resource
import time
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

SW = {"pair_style": "sw", "pair_coeff": ["* * Si.sw Si"], "species": ["Si"]}
TERSOFF = {"pair_style": "tersoff", "pair_coeff": ["* * SiC.tersoff Si"], "species": ["Si"]}
LATTICE = {"sw": 5.43095, "tersoff": 5.4321148}  # angstrom
CORE_RADIUS = 6.0  # angstrom, 47 atoms
CARBON = 12.011  # amu


class Clock:
    """Seconds on the clock and of the processor within a `with` block."""

    def __enter__(self):
        self._begin = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *exc_info):
        self.wall, self.cpu = time.perf_counter() - self._begin[0], time.process_time() - self._begin[1]


def exponent(sizes, seconds) -> float:
    """The least-squares slope of log seconds against log size."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def silicon(host, repeats):
    from ase.build import bulk

    from solidqmmm.system.crystal import Crystal

    return Crystal.of(bulk("Si", "diamond", a=LATTICE[host["pair_style"]], cubic=True)).supercell(repeats)


def host_hessians(sizes=((5, 5, 5), (10, 5, 25), (25, 25, 20))) -> dict:
    """Force calls, seconds and peak memory of the Hessians of Stillinger-Weber and Tersoff silicon, their growth."""
    from solidqmmm.engines.lammps_host import LammpsHost
    from solidqmmm.procedures.vibrations.host_hessian import host_hessian
    from solidqmmm.system.potential import Potential

    found = {}
    for potential in (SW, TERSOFF):
        name, atoms, clocks = potential["pair_style"], [], []
        for repeats in sizes:
            crystal = silicon(potential, repeats)
            with LammpsHost(crystal, Potential(**potential)) as host:
                with Clock() as clock:
                    hessian = host_hessian(host)
                host.command("run 0 post no")
                with Clock() as bare:
                    host.command("run 20 pre no post no")
            atoms.append(len(crystal))
            clocks.append(clock)
            found |= {
                f"{name}_force_calls_{atoms[-1]}": hessian.n_force_evaluations,
                f"{name}_seconds_{atoms[-1]}": clock.wall,
                f"{name}_cpu_seconds_{atoms[-1]}": clock.cpu,
            }
        calls = found[f"{name}_force_calls_{atoms[-1]}"]
        found |= {
            f"{name}_exponent": exponent(atoms, [clock.cpu for clock in clocks]),
            f"{name}_ratio_to_bare_force_calls": clocks[-1].cpu / (calls * bare.cpu / 20),
            f"{name}_peak_memory_so_far_GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2,
        }
    return found | {"target_force_calls": 3000, "target_s": 600, "target_exponent": 1.6}


def condensation(potential, sizes=(5, 9, 14, 23)) -> dict:
    """Modes of one light atom by static, dynamic condensation onto 47 atoms and from the whole matrix, against size.

    Exponents are of the sizes that are beyond factorizations.
    """
    from solidqmmm.engines.lammps_host import LammpsHost
    from solidqmmm.physics.algebra.sparse_solve import DIRECT_BELOW
    from solidqmmm.physics.condensation import PartitionedCrystal, full_modes, static_condensation
    from solidqmmm.physics.dynamic_condensation import dynamic_modes
    from solidqmmm.physics.vibrations.localized_modes import CM1_PER_THZ
    from solidqmmm.procedures.building.select import within_radius
    from solidqmmm.procedures.vibrations.host_hessian import host_hessian
    from solidqmmm.procedures.vibrations.mode_list import MARGIN
    from solidqmmm.system.potential import Potential

    found, low = {}, None
    iterative: dict[str, list[float]] = {"atoms": [], "static": [], "dynamic": [], "full": []}
    for n in sizes:
        crystal = silicon(potential, (n, n, n))
        with LammpsHost(crystal, Potential(**potential)) as host:
            K = host_hessian(host).matrix
        core = within_radius(crystal, crystal.positions[0], CORE_RADIUS)
        masses = np.full(len(crystal), 28.085)
        if low is None:  # the top of the bands is at the zone's centre, which every supercell has
            low = np.linalg.eigvalsh(K.toarray())[-1] / masses[0] * (1 + MARGIN) ** 2
        masses[0] = CARBON
        defective = PartitionedCrystal(K, masses, core, crystal.positions)
        clocks = {name: Clock() for name in ("static", "dynamic", "full")}
        with clocks["static"]:
            static = static_condensation(defective).modes(highest=1)
        with clocks["dynamic"]:
            dynamic = dynamic_modes(defective, low)
        with clocks["full"]:
            full = full_modes(defective, low)
        wavenumbers = [modes.frequencies_THz[0] * CM1_PER_THZ for modes in (static, dynamic, full)]
        for (name, clock), value in zip(clocks.items(), wavenumbers, strict=True):
            found |= {
                f"{name}_seconds_{len(crystal)}": clock.wall,
                f"{name}_cpu_seconds_{len(crystal)}": clock.cpu,
                f"{name}_highest_per_cm_{len(crystal)}": value,
            }
        if K.shape[0] > DIRECT_BELOW:
            iterative["atoms"].append(len(crystal))
            for name, clock in clocks.items():
                iterative[name].append(clock.cpu)
    return {
        "core_atoms": len(core),
        **found,
        **{f"{name}_exponent": exponent(iterative["atoms"], iterative[name]) for name in ("static", "dynamic", "full")},
        "target_exponent": 1.6,
        "target_s": 600,
        "target_peak_GB": 8,
    }


def recipe(repeats=23) -> dict:
    """The recipe for carbon among 97,336 Tersoff silicon atoms, core of 29 atoms, from the study to the result, by stage."""
    from ase.build import bulk

    from solidqmmm import recipebook
    from solidqmmm.procedures.build import build_model
    from solidqmmm.system.study import Study

    stages: list[tuple[str, float, float]] = []

    def stage(name):
        if not stages or stages[-1][0] != name:
            stages.append((name, time.perf_counter(), time.process_time()))

    def progress(_done, _total, message):
        name = message.removeprefix("modes: ").replace(" ", "_")
        stage("hessian" if name.startswith("range_of") or name.endswith("_groups") else name)

    stage("build_and_relax")
    study = Study.from_mapping(
        {
            "recipe": "defect_phonons",
            "structure": bulk("Si", "diamond", a=LATTICE["tersoff"], cubic=True),
            "supercell": [repeats] * 3,
            "defect": {"kind": "substitution", "site": 0, "element": "C"},
            "host": {"pair_style": "tersoff", "pair_coeff": ["* * SiC.tersoff Si C"], "species": ["Si", "C"]},
            "region": {"core": {"radius": 4.9}},
            "phonons": {"isotopes": {"C": 13}},
        },
        schemas=recipebook.schemas(),
    )
    with TemporaryDirectory() as folder, build_model(study) as model:
        result = recipebook.find("defect_phonons").run(
            model=model, workdir=Path(folder), progress=progress, **study.options
        )
        atoms = len(model.crystal)
    stage("end")
    return {
        "atoms": atoms,
        "core_atoms": result.n_core,
        **{f"{a[0]}_s": b[1] - a[1] for a, b in pairwise(stages)},
        **{f"{a[0]}_cpu_s": b[2] - a[2] for a, b in pairwise(stages)},
        "highest_per_cm": result.modes[0]["frequency_cm-1"],
        "target_s": 600,
        "target_peak_GB": 8,
    }
