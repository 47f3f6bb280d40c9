"""Time-sharing and split ranks on two ranks: what was foretold, and what it took."""

from __future__ import annotations

import time

import numpy as np
from scaling_benchmarks import A0, SW

SNAP = {
    "engine": "lammps",
    "pair_style": "snap",
    "pair_coeff": ["* * Si_Zuo_JPCA2020.snapcoeff Si_Zuo_JPCA2020.snapparam Si"],
    "species": ["Si"],
}
GPAW = {"engine": "gpaw", "mode": "lcao", "basis": "sz(dzp)", "h": 0.22, "xc": "PBE"}
HYDROGEN = {"kind": "hydrogen", "clashing": "keep", "vacuum": 3.5}
# Repeats of the host, engine, caps, core radius, steps of a round, rounds.
LAYOUTS = {
    "even": (20, SNAP, {"kind": "none"}, 9.0, 20, 10),
    "quantum_heavy": (10, SNAP, {"kind": "none"}, 9.0, 20, 10),
    "gpaw": (70, GPAW, HYDROGEN, 3.0, 4, 2),
}


def layouts_on_ranks(case) -> dict:
    """Inside mpiexec: steps of NVE with time-sharing and split, in turn, against what was foretold; medians."""
    from ase.build import bulk

    from solidqmmm.procedures.build import build_model
    from solidqmmm.procedures.parallel.rank_forecast import (
        Forecast,
        measured_host,
        measured_quantum,
        without_engine,
    )
    from solidqmmm.procedures.parallel.splitting import split_ranks
    from solidqmmm.runtime import all_ranks
    from solidqmmm.system.study import Study

    repeats, engine, caps, radius, steps, rounds = LAYOUTS[case]
    study = Study.from_mapping(
        {
            "recipe": "single_point",
            "structure": bulk("Si", "diamond", a=A0, cubic=True),
            "supercell": [repeats] * 3,
            "host": {"pair_style": SW[0], "pair_coeff": [SW[1]], "species": SW[2]},
            "qm": engine,
            "caps": caps,
            "coupling": "force_mixing",
            "region": {"core": {"radius": radius}, "centre": [(repeats // 2) * A0] * 3},
        }
    )
    comm = all_ranks()
    hosts, calls, shared, split = [], [], [], []
    for _ in range(rounds):
        with build_model(study) as model:
            coupling = without_engine(model, model.crystal, model.partition)
            hosts.append(measured_host(model.crystal, model.potential, coupling=coupling))
            calls.append(measured_quantum(model.engine, model.cluster.to_atoms()))
            n_quantum, n_host = model.cluster.n_quantum, len(model.crystal)
        shared.append(_step_of(study, steps))
        with split_ranks(1) as link:
            split.append(None if link is None else _step_of(study, steps))
    host, quantum = _middle(hosts), _middle(calls)
    forecast = Forecast(comm.size, host, quantum)
    best = forecast.best
    shared, split = comm.bcast((shared, split))
    counts = [one[1] for one in split]
    shared_s, split_s = np.array([one[0] for one in shared]), np.array([one[0] for one in split])
    measured = float(np.median(shared_s)), float(np.median(split_s))
    return {
        "ranks": comm.size,
        "atoms": n_host,
        "quantum_atoms": n_quantum,
        "host_s_on_1": host.seconds[0],
        "host_s": host.here,
        "quantum_s_on_1": quantum.seconds[0],
        "quantum_s": quantum.here,
        "shared_s": measured[0],
        "shared_foretold_s": forecast.shared,
        "shared_foretold_to_measured": forecast.shared / measured[0],
        "shared_fastest_s": float(shared_s.min()),
        "split_s": measured[1],
        "split_foretold_s": best.seconds,
        "split_foretold_to_measured": best.seconds / measured[1],
        "split_fastest_s": float(split_s.min()),
        "gain": float(np.median(shared_s / split_s)),
        "gain_foretold": forecast.gain,
        "announced": sum(one["announced"] for one in counts),
        "hits": sum(one["hits"] for one in counts),
    }


def _middle(found):
    """One calibration from the medians of several."""
    from solidqmmm.physics.algebra.rank_costs import RankCost
    from solidqmmm.procedures.parallel.rank_forecast import Measured

    seconds = np.median([one.seconds for one in found], axis=0)
    return Measured(found[0].ranks, tuple(seconds.tolist()), RankCost.fitted(found[0].ranks, seconds))


def _step_of(study, steps):
    """Seconds of a step of NVE, and what went across the division."""
    from solidqmmm.procedures.build import build_model
    from solidqmmm.procedures.dynamics import run_dynamics

    stamps = []
    with build_model(study) as model, model.open() as qmmm:
        result = run_dynamics(
            qmmm, steps=steps, timestep_fs=1.0, initial_temperature_K=300.0, every=steps,
            callbacks=[lambda step, _: stamps.append((step, time.perf_counter()))],
        )  # fmt: skip
    (first, begin), (last, end) = stamps[0], stamps[-1]
    return (end - begin) / (last - first), result.split_ranks
