"""Benchmarks of the foundation: `make bench`. Ratios are measured within one run; nothing here is a test.

    python tests/benchmarks/run.py [case ...]        # all cases by default; `--list` names them

Each case runs in a process of its own, so that its peak memory is its own. Results go to a table on the terminal and to
`results.json` beside this file, where those of cases that were not asked for stay.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

SW = {"pair_style": "sw", "pair_coeff": ["* * Si.sw Si"], "species": ["Si"]}
SNAP = {
    "engine": "lammps",
    "pair_style": "snap",
    "pair_coeff": ["* * Si_Zuo_JPCA2020.snapcoeff Si_Zuo_JPCA2020.snapparam Si"],
    "species": ["Si"],
}
A0 = 5.43095


def silicon():
    from ase.build import bulk

    return bulk("Si", "diamond", a=A0, cubic=True)


def study(repeats, **sections):
    from solidqmmm.system.study import Study

    return Study.from_mapping(
        {
            "recipe": "single_point",
            "structure": silicon(),
            "supercell": [repeats] * 3,
            "host": SW,
            "qm": SNAP,
            "caps": {"kind": "none"},
            "coupling": "force_mixing",
            **sections,
        }
    )


class Springs:
    """A correction on given atoms that costs nothing: what is measured is the coupling itself."""

    name, has_energy, needs_host_forces = "springs", True, False

    def __init__(self, crystal, atoms):
        self.atoms, self.reference = atoms, crystal.positions[atoms]

    def evaluate(self, positions, cell, host_forces=None):
        from solidqmmm.engines.protocols import Contribution

        d = positions - self.reference
        return Contribution(forces=-0.1 * d, energy=0.05 * float((d**2).sum()), virial=-0.1 * positions.T @ d)


def median_ratio(first, second, pairs):
    """Median of first()/second() over alternating calls, and the medians themselves."""
    a, b = [], []
    for _ in range(pairs):
        a.append(first())
        b.append(second())
    ratios = sorted(x / y for x, y in zip(a, b, strict=True))
    return ratios[len(ratios) // 2], sorted(a)[len(a) // 2], sorted(b)[len(b) // 2]


def case_million(repeats=50, steps=5, pairs=3):
    """1,000,000 Stillinger-Weber atoms, a correction on 100 of them: step against the native step; set-up."""
    from solidqmmm.coupling.qmmm import QMMM
    from solidqmmm.procedures.build import build_model
    from solidqmmm.procedures.building.select import within_radius

    started = time.perf_counter()
    model = build_model(study(repeats, region={"core": {"radius": 6.0}, "buffer": {"radius": 3.0}}))
    cluster = model.cluster
    built = time.perf_counter() - started
    atoms = within_radius(model.crystal, model.partition.centre, 8.0)[:100]
    qmmm = QMMM(model.crystal, model.potential, Springs(model.crystal, atoms))
    ready = time.perf_counter() - started
    host = qmmm.host
    host.command("velocity all create 300 1 loop geom")
    host.command("fix nve all nve")

    def timed():
        begin = time.perf_counter()
        host.run(steps)
        return (time.perf_counter() - begin) / steps

    correction = qmmm.coupling

    def native():
        host.detach()
        host.run(0)
        seconds = timed()
        host.attach(correction)
        host.run(0)
        return seconds

    ratio, coupled_s, native_s = median_ratio(timed, native, pairs)
    return {
        "atoms": len(model.crystal),
        "quantum_atoms_carved": cluster.n_quantum,
        "atoms_with_correction": len(atoms),
        "setup_build_partition_carve_s": built,
        "setup_with_first_force_evaluation_s": ready,
        "step_coupled_s": coupled_s,
        "step_native_s": native_s,
        "ratio_step": ratio,
        "target_ratio_step": 1.05,
        "target_setup_s": 20,
        "target_peak_GB": 3,
    }


def case_host_hessian():
    """Sparse Hessian of 1,000 to 100,000 atoms, Stillinger-Weber and Tersoff: force calls, time, growth, bare calls."""
    import phonon_benchmarks

    return phonon_benchmarks.host_hessians()


def case_condensation():
    """Static and dynamic condensation onto 47 atoms, and the whole matrix: 1,000 to 97,336 Stillinger-Weber atoms."""
    import phonon_benchmarks

    return phonon_benchmarks.condensation(phonon_benchmarks.SW)


def case_condensation_tersoff():
    """The same for Tersoff silicon."""
    import phonon_benchmarks

    return phonon_benchmarks.condensation(phonon_benchmarks.TERSOFF)


def case_defect_phonons():
    """The recipe for carbon in 97,336 Tersoff silicon atoms, core of 29 atoms: time by stage, memory."""
    import phonon_benchmarks

    return phonon_benchmarks.recipe()


def case_strain_series(repeats=8, pairs=3):
    """Elastic tensor of 4,096 sites with a vacancy: the relaxed series against LAMMPS's commands that evaluate forces."""
    import solidqmmm.procedures.elastic.crystal_elasticity as procedure
    from solidqmmm.engines.lammps_session import LammpsSession
    from solidqmmm.procedures.build import build_model
    from solidqmmm.system.study import Study

    spent, total = [0.0], [0.0]
    command, series = LammpsSession.command, procedure.strain_series

    def clocked(session, line):
        begin = time.perf_counter()
        try:
            return command(session, line)
        finally:
            if line.startswith(("run", "minimize")):
                spent[0] += time.perf_counter() - begin

    def timed(*arguments, **keywords):
        spent[0], begin = 0.0, time.perf_counter()
        found = series(*arguments, **keywords)
        total[0] = time.perf_counter() - begin
        return found

    LammpsSession.command, procedure.strain_series = clocked, timed
    results = {}
    try:
        for name, defect in (("perfect", {}), ("vacancy", {"defect": {"kind": "vacancy", "site": 0}})):
            ratios, seconds, evaluations = [], [], 0
            for _ in range(pairs):
                alone = Study.from_mapping(
                    {"recipe": "elastic_tensor", "structure": silicon(), "supercell": [repeats] * 3, "host": SW, **defect}
                )
                with build_model(alone) as model:
                    found = procedure.elasticity_of(model, "defect")
                ratios.append(total[0] / spent[0])
                seconds.append(total[0])
                evaluations = int(sum(found.series.n_force_evaluations))
            results |= {
                f"ratio_{name}": sorted(ratios)[pairs // 2],
                f"seconds_{name}": sorted(seconds)[pairs // 2],
                f"force_evaluations_{name}": evaluations,
            }
    finally:
        LammpsSession.command, procedure.strain_series = command, series
    return {**results, "target_ratio": 1.2}


def case_first_call(repeats=20):
    """64,000 atoms, about 99 quantum ones: from the structure to the first forces, the quantum cost subtracted."""
    from solidqmmm.procedures.build import build_model

    started = time.perf_counter()
    model = build_model(study(repeats, region={"core": {"radius": 5.0}, "buffer": {"radius": 2.6}}))
    quantum = 0.0
    evaluate = model.engine.evaluate

    def clocked(*arguments, **keywords):
        nonlocal quantum
        begin = time.perf_counter()
        answer = evaluate(*arguments, **keywords)
        quantum += time.perf_counter() - begin
        return answer

    model.engine.evaluate = clocked
    with model.open() as qmmm:
        qmmm.forces()
        total = time.perf_counter() - started
        return {
            "atoms": len(model.crystal),
            "quantum_atoms": qmmm.coupling.cluster.n_quantum,
            "first_call_without_quantum_s": total - quantum,
            "quantum_s": quantum,
            "target_s": 2.0,
            "target_peak_GB": 1.0,
        }


def case_ase_force_qmmm(repeats=20):
    """The same first call by ASE's ForceQMMM with LAMMPSlib (minutes and 12 GB: run it where there is room)."""
    import numpy as np
    from ase.calculators.lammpslib import LAMMPSlib
    from ase.calculators.qmmm import ForceQMMM

    from solidqmmm.runtime import prepare_engines
    from solidqmmm.system.potential import lammps_potentials_dir

    prepare_engines()
    atoms = silicon().repeat(repeats)
    middle = atoms.cell.sum(axis=0) / 2
    core = np.linalg.norm(atoms.positions - middle, axis=1) < 5.0
    files = lammps_potentials_dir()
    keep = {"atom_types": {"Si": 1}, "keep_alive": True}
    mm = LAMMPSlib(lmpcmds=["pair_style sw", f"pair_coeff * * {files}/Si.sw Si"], **keep)
    coeff = f"pair_coeff * * {files}/Si_Zuo_JPCA2020.snapcoeff {files}/Si_Zuo_JPCA2020.snapparam Si"
    qm = LAMMPSlib(lmpcmds=["pair_style snap", coeff], **keep)
    started = time.perf_counter()
    atoms.calc = ForceQMMM(atoms, core, qm, mm, buffer_width=3.2)
    atoms.get_forces()
    return {"atoms": len(atoms), "core_atoms": int(core.sum()), "first_call_s": time.perf_counter() - started}


def case_gpaw_overhead(steps=4):
    """A QM/MM step with GPAW against the bare GPAW call on the same cluster (4095 atoms, silicon vacancy)."""
    from solidqmmm.procedures.build import build_model

    asked = study(
        8,
        defect={"kind": "vacancy", "site": 0},
        qm={"engine": "gpaw", "mode": "lcao", "basis": "sz(dzp)", "h": 0.22, "xc": "PBE"},
        region={"core": {"hops": 1}, "buffer": {"hops": 1}},
        caps={"kind": "hydrogen", "clashing": "keep", "vacuum": 3.5},
        coupling={"scheme": "subtractive", "classical_caps": "bare"},
    )
    with build_model(asked) as model:
        quantum, calls = [], 0
        evaluate = model.engine.evaluate

        def clocked(*arguments, **keywords):
            begin = time.perf_counter()
            answer = evaluate(*arguments, **keywords)
            quantum.append(time.perf_counter() - begin)
            return answer

        model.engine.evaluate = clocked
        with model.open() as qmmm:
            host = qmmm.host
            host.command("velocity all create 300 1 loop geom")
            host.command("fix nve all nve")
            host.command("timestep 0.001")
            host.run(1)
            calls = len(quantum)
            begin = time.perf_counter()
            host.run(steps, pre=False)
            total = time.perf_counter() - begin
            bare = sum(quantum[calls:])
    return {
        "quantum_calls": len(quantum) - calls,
        "step_s": total / steps,
        "engine_call_s": bare / steps,
        "ratio_step_to_engine_call": total / bare,
        "target_ratio": 1.03,
        "note": "the engine call is this package's adapter around GPAW; the bare GPAW call is measured in gpaw_adapter",
    }


def case_gpaw_adapter(steps=7):
    """The GPAW adapter against GPAW itself through its ASE interface, the same positions one after the other."""
    import numpy as np
    from ase.build import molecule

    from solidqmmm.engines.gpaw import GPAWEngine

    atoms = molecule("Si2H6")
    atoms.center(vacuum=4.0)
    rng = np.random.default_rng(1)
    path = [atoms.positions + rng.normal(0, 0.01, atoms.positions.shape) for _ in range(steps + 1)]

    from gpaw.new.ase_interface import GPAW

    adapter, bare = [], []
    with GPAWEngine(mode="lcao", basis="dzp", h=0.2, xc="PBE") as engine:
        bare_atoms = atoms.copy()
        bare_atoms.calc = GPAW(**{**engine.gpaw_keywords(atoms), "txt": None})
        for positions in path:
            atoms.positions[:] = bare_atoms.positions[:] = positions
            for seconds, evaluate in ((adapter, lambda: engine.evaluate(atoms)), (bare, bare_atoms.get_forces)):
                begin = time.perf_counter()
                evaluate()
                seconds.append(time.perf_counter() - begin)
    ratios = sorted(x / y for x, y in zip(adapter[1:], bare[1:], strict=True))
    return {"adapter_s": sum(adapter[1:]), "bare_s": sum(bare[1:]), "ratio": ratios[len(ratios) // 2], "target_ratio": 1.03}


def case_saving_quantum_calls():
    """Learning on the fly and r-RESPA in silicon at 300 K: calls, force errors on a core of 66 SNAP atoms, kept energy."""
    import fracture_benchmarks

    return fracture_benchmarks.saving()


def case_moving_region():
    """A SNAP core of about 60 atoms drawn through a cracked strip of 100,000: processor time of region and carving."""
    import fracture_benchmarks

    return fracture_benchmarks.moving_region()


def case_fracture_step():
    """A cracked strip of 100,000 atoms with a SNAP core of about 60 at the tip: the step against its parts."""
    import fracture_benchmarks

    return fracture_benchmarks.step()


def case_scaling_host():
    """Step and memory of 1,000 to 4,096,000 Stillinger-Weber atoms on one rank: exponents."""
    import scaling_benchmarks

    return scaling_benchmarks.host_against_atoms()


def case_scaling_gpaw():
    """A GPAW call (LCAO, sz(dzp), h = 0.22 angstrom) of 17 to 247 atoms on one rank: exponents."""
    import scaling_benchmarks

    return scaling_benchmarks.gpaw_against_atoms()


def case_scaling_coupling():
    """What couplings do around a quantum call, regions of 10 to some thousand atoms in 125,000: exponents."""
    import scaling_benchmarks

    return scaling_benchmarks.coupling_against_region()


def case_ranks_host():
    """Strong scaling of the host: 1,000,000 atoms on one rank and on two, in turn."""
    from rank_runner import on_ranks

    return on_ranks("scaling_benchmarks", "host_on_ranks")


def case_ranks_gpaw():
    """Strong scaling of GPAW: Si28H36 on one rank and on two, in turn."""
    from rank_runner import on_ranks

    return on_ranks("scaling_benchmarks", "gpaw_on_ranks")


def case_ranks_memory():
    """Memory of each of two ranks with 4,096,000 atoms: what is divided among ranks and what each rank holds."""
    from rank_runner import on_ranks

    return on_ranks("scaling_benchmarks", "memory_on_ranks")


def case_ranks_layouts():
    """Steps with time-sharing and with split ranks on two ranks, three cases, against what the model foretells."""
    from layout_benchmarks import LAYOUTS
    from rank_runner import on_ranks

    found = {case: on_ranks("layout_benchmarks", "layouts_on_ranks", case) for case in LAYOUTS}
    return {f"{case}_{key}": value for case, values in found.items() for key, value in values.items()}


CASES = {name[5:]: function for name, function in list(globals().items()) if name.startswith("case_")}


def measured(name: str) -> dict:
    """Runs one case in this process; adds its wall time and peak memory."""
    begin, load = time.perf_counter(), os.getloadavg()[0]
    found = CASES[name]()
    found["wall_s"] = time.perf_counter() - begin
    found["load_average_at_start"] = load
    found["peak_memory_GB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; all but ase_force_qmmm by default")
    parser.add_argument("--list", action="store_true", help="say what each case measures")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.list:
        for name, function in CASES.items():
            print(f"{name:20} {function.__doc__.splitlines()[0]}")
        return
    if asked.inside:
        print(json.dumps(measured(asked.inside)))
        return
    file = Path(__file__).with_name("results.json")
    results = json.loads(file.read_text()) if file.exists() else {}
    for name in asked.cases or [name for name in CASES if name != "ase_force_qmmm"]:
        print(f"{name}: {CASES[name].__doc__.splitlines()[0]}", flush=True)
        done = subprocess.run(
            [sys.executable, __file__, "--inside", name], stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            print(f"  failed with exit code {done.returncode}")
            continue
        results[name] = json.loads(done.stdout.splitlines()[-1])
        for key, value in results[name].items():
            print(f"  {key:38} {value:.4g}" if isinstance(value, float) else f"  {key:38} {value}")
        file.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
