"""Benchmarks of what saves quantum calls, and of the region that moves: silicon, Stillinger-Weber host, SNAP in the core."""

from __future__ import annotations

import time

import numpy as np

SW = {"pair_style": "sw", "pair_coeff": ["* * Si.sw Si"], "species": ["Si"]}
SNAP = {
    "engine": "lammps",
    "pair_style": "snap",
    "pair_coeff": ["* * Si_Zuo_JPCA2020.snapcoeff Si_Zuo_JPCA2020.snapparam Si"],
    "species": ["Si"],
}
A0 = 5.43095
STEPS = 400


def _model(coupling="force_mixing", **sections):
    """1000 atoms, 66 of them in the core, a buffer of 5.5 angstrom."""
    from ase.build import bulk

    from solidqmmm.procedures.build import build_model
    from solidqmmm.system.study import Study

    return build_model(
        Study.from_mapping(
            {
                "recipe": "single_point",
                "structure": bulk("Si", "diamond", a=A0, cubic=True),
                "supercell": [5, 5, 5],
                "host": SW,
                "qm": SNAP,
                "caps": {"kind": "none"},
                "coupling": coupling,
                "region": {
                    "core": {"radius": 6.5},
                    "buffer": {"radius": 5.5},
                    "centre": [13.88, 13.88, 13.88],
                },
                **sections,
            }
        )
    )


def _hot(model, temperature_K):
    """Positions and velocities of the host after 1 ps from 2 T."""
    from solidqmmm.coupling.qmmm import QMMM
    from solidqmmm.procedures.dynamics import run_dynamics

    with QMMM(model.crystal, model.potential) as host:
        run_dynamics(
            host, steps=1000, timestep_fs=1.0, initial_temperature_K=2 * temperature_K, every=1000, seed=3
        )
        return host.host.positions(), host.host.velocities()


class _Applied:
    """What a stepper's stand-in gave along the path that was kept, every 7 steps, against the coupling there."""

    def __init__(self, stepper):
        self.taken, around = [], stepper._around

        def watching(exact):
            scheme = around(exact)
            evaluate, count = scheme.evaluate, [0]

            def evaluated(positions, cell, host_forces=None):
                given = evaluate(positions, cell, host_forces)
                if len(scheme.anchors) == 2:
                    count[0] += 1
                    if count[0] % 7 == 0:
                        self.taken.append((positions.copy(), cell, host_forces.copy(), given.forces.copy()))
                return given

            scheme.evaluate = evaluated
            return scheme

        stepper._around = watching

    def error(self, coupling):
        core = np.flatnonzero(coupling.cluster.core)
        differences = [
            (forces - coupling.evaluate(x, cell, f).forces)[core] for x, cell, f, forces in self.taken
        ]
        return float(np.sqrt(np.mean(np.square(differences))))


def saving() -> dict:
    """Calls, force errors on the core and kept energy of both schemes at 300 K and 1 fs."""
    from solidqmmm.procedures.dynamics import run_dynamics
    from solidqmmm.procedures.motion.impulses import Respa
    from solidqmmm.procedures.motion.lotf import Lotf

    found = {"steps": STEPS}
    with _model() as model:
        found |= {"core_atoms": len(model.partition.core), "quantum_atoms": len(model.partition.quantum)}
        start = _hot(model, 300.0)
        for stepper in (Lotf(5), Lotf(10), Lotf(20), Respa(2), Respa(5), Respa(10)):
            kind = f"{stepper.name}_{getattr(stepper, 'steps', stepper.stride)}"
            applied = _Applied(stepper) if stepper.name == "lotf" else None
            with model.open() as qmmm:
                qmmm.host.set_positions(start[0])
                qmmm.host.set_velocities(start[1])
                result = run_dynamics(qmmm, steps=STEPS, timestep_fs=1.0, every=20, stepper=stepper)
                coupling = qmmm.coupling
            kinetic = 1.5 * (len(model.crystal) - 1) * 8.617333e-5 * result.temperature_K
            found |= {
                f"{kind}_calls": result.n_qm_calls,
                f"{kind}_steps_per_call": STEPS / result.n_qm_calls,
                f"{kind}_spread_of_work_and_kinetic_meV_per_atom": 1e3
                * float(np.ptp(result.integrated_work_eV + kinetic))
                / len(model.crystal),
                f"{kind}_temperature_K": float(result.temperature_K.mean()),
            }
            if applied is None:
                found[f"{kind}_change_rms_eV_per_A"] = stepper.error.rms
                continue
            errors = stepper.errors
            found |= {
                f"{kind}_prediction_rms_eV_per_A": errors.prediction.rms,
                f"{kind}_prediction_largest_vector_eV_per_A": errors.prediction.largest,
                f"{kind}_applied_rms_eV_per_A": applied.error(coupling),
                f"{kind}_correction_rms_eV_per_A": errors.before.rms,
                f"{kind}_fit_rms_eV_per_A": errors.fit.rms,
            }
    return found | {"target_steps_per_call": 8, "target_rms_eV_per_A": 0.1}


STRIP = {"system": "strip", "plane": (1, 1, 1), "front": (1, -1, 0), "size_A": [430, 150, 30.72]}


def _study():
    from ase.build import bulk

    from solidqmmm.system.study import Study

    return Study.from_mapping(
        {
            "recipe": "single_point",
            "structure": bulk("Si", "diamond", a=A0, cubic=True),
            "host": SW,
            "qm": SNAP,
            "caps": {"kind": "none"},
            "coupling": "force_mixing",
            "region": {"core": {"hops": 1}, "buffer": {"hops": 1}},
        }
    )


def step(steps=10, pairs=5) -> dict:
    """A step of that strip against the native step and one bare evaluation of the cluster; processor time, medians."""
    from solidqmmm.coupling.qmmm import QMMM
    from solidqmmm.procedures.build import build_model
    from solidqmmm.procedures.cracks.crack_system import crack_system
    from solidqmmm.procedures.cracks.tip_region import TipRegion, coupled_by
    from solidqmmm.system.partition import Partition

    def seconds(act):
        begin = time.process_time()
        act()
        return time.process_time() - begin

    with build_model(_study()) as model:
        crack = crack_system(model, **STRIP)
        crystal = crack.cracked(crack.griffith)
        tip = np.array([*crack.tip, 0.5 * crystal.cell[2, 2]])
        region = TipRegion(
            lambda _positions: tip, coupled_by(model), radius_in=6.5, radius_out=7.5, buffer_radius=5.0,
            bond_rules=model.bond_rules,
        )  # fmt: skip
        correction, partition = region.select(crystal, frozen=crack.held)
        atoms = correction.cluster.to_atoms()
        held = Partition(np.where(partition.labels == 3, 3, 0))
        with (
            QMMM(crystal, model.potential, correction, partition=partition) as hybrid,
            QMMM(crystal, model.potential, partition=held) as native,
        ):
            for one in (hybrid, native):
                one.host.command("velocity mobile create 300 1 loop geom")
                one.host.command("fix nve mobile nve")
                one.host.run(steps)
            times = np.array(
                [
                    (
                        seconds(lambda: hybrid.host.run(steps, pre=False)) / steps,
                        seconds(lambda: native.host.run(steps, pre=False)) / steps,
                        np.mean([seconds(lambda: model.engine.evaluate(atoms)) for _ in range(steps)]),
                    )
                    for _ in range(pairs)
                ]
            )
    return {
        "atoms": len(crystal),
        "core_atoms": len(partition.core),
        "quantum_atoms": len(partition.quantum),
        "step_ms": 1e3 * float(np.median(times[:, 0])),
        "native_step_ms": 1e3 * float(np.median(times[:, 1])),
        "bare_cluster_ms": 1e3 * float(np.median(times[:, 2])),
        "ratio": float(np.median(times[:, 0] / (times[:, 1] + times[:, 2]))),
        "target_ratio": 1.3,
    }


def moving_region(steps=200, every=10) -> dict:
    """A strip of 100,000 atoms, a core of about 60 that is drawn along the crack plane: what looking and carving cost."""
    from solidqmmm.coupling.qmmm import QMMM
    from solidqmmm.procedures.build import build_model
    from solidqmmm.procedures.cracks.crack_system import crack_system
    from solidqmmm.procedures.cracks.tip_region import TipRegion, coupled_by, place_of
    from solidqmmm.procedures.cracks.track_tip import TipTracker
    from solidqmmm.procedures.dynamics import run_dynamics

    with build_model(_study()) as model:
        crack = crack_system(model, **STRIP)
        crystal = crack.cracked(crack.griffith)
        z, tracker, spent, looks = 0.5 * crystal.cell[2, 2], TipTracker(crack, band=50.0), [], []
        find = place_of(tracker, z)

        def drawn(positions):
            """The tracked tip, and 2 km/s ahead of it, so that the region has to move."""
            return find(positions) + np.array([0.02 * every * len(looks), 0.0, 0.0])

        region = TipRegion(
            drawn, coupled_by(model), radius_in=6.5, radius_out=7.5, buffer_radius=5.0, every=every,
            bond_rules=model.bond_rules,
        )  # fmt: skip
        correction, partition = region.select(crystal, frozen=crack.held)
        act = region.act

        def timed(step, run):
            begin, before = time.process_time(), region.n_carved
            act(step, run)
            looks.append(time.process_time() - begin)
            if region.n_carved > before:
                spent.append(looks[-1])

        region.act = timed
        with QMMM(crystal, model.potential, correction, partition=partition) as qmmm:
            begin = time.perf_counter()
            result = run_dynamics(
                qmmm,
                steps=steps,
                timestep_fs=1.0,
                initial_temperature_K=300.0,
                every=steps,
                attendants=[region],
            )
            wall = time.perf_counter() - begin
    plain = [t for t in looks if t not in spent]
    return {
        "atoms": len(crystal),
        "core_atoms": region.events[-1]["n_core"],
        "quantum_atoms": region.counts(),
        "looks": len(looks),
        "carvings": region.n_carved - 1,
        "look_without_carving_ms": 1e3 * float(np.median(plain)) if plain else None,
        "look_with_carving_ms": 1e3 * float(np.median(spent)) if spent else None,
        "region_ms_per_step": 1e3 * sum(looks) / steps,
        "step_ms": 1e3 * wall / steps,
        "quantum_calls": result.n_qm_calls,
        "target_region_ms_per_step": 20,
    }
