"""The quasi-static crack of a study: raised and lowered from the Griffith load, its tip quantum where there is an engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace

import numpy as np

from solidqmmm.coupling.qmmm import QMMM
from solidqmmm.procedures.cracks.fracture import tip_region
from solidqmmm.procedures.cracks.lattice_trapping import Branch, along
from solidqmmm.procedures.cracks.quasistatic import MEASURES, QuasistaticCrack, QuasistaticStep
from solidqmmm.procedures.cracks.tip_history import around_tip
from solidqmmm.procedures.cracks.track_tip import TipTracker
from solidqmmm.procedures.elastic.strained_crystal import is_noise_free
from solidqmmm.procedures.records import Records, fingerprint
from solidqmmm.system.crack import CrackSystem
from solidqmmm.system.study_crack import LoadSection

_FMAX = {"host": 1e-3, "exact": 5e-3, "noisy": 0.03}  # eV/angstrom
_LOWEST, _HIGHEST = 0.2, 2.0  # ends of a search that the study does not bound, in Griffith's K


@dataclass
class QuasistaticRun:
    """What was found of a quasi-static crack.

    Attributes:
        start: The first state.
        way_at_start: How far the tip went when the first state relaxed, angstrom: it stays, 0, where the lattice traps it.
        raised, lowered: The branches above and below it; None where the study asks for none.
        n_qm_calls: Quantum calls in all.
        n_qm_atoms: Quantum atoms of the region: min, mean, max; empty for the host alone.
        n_carvings: How often the region was carved anew.
        snapshots: Atoms around the tip, at the start and the ends of the branches.
        warnings: What a reader should know.
        stop_reason: Why it ended early, or None.
        seconds: Wall time.
    """

    start: QuasistaticStep
    way_at_start: float
    raised: Branch | None
    lowered: Branch | None
    n_qm_calls: int = 0
    n_qm_atoms: dict = field(default_factory=dict)
    n_carvings: int = 0
    snapshots: list[dict] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    stop_reason: str | None = None
    seconds: float = 0.0

    def rows(self) -> list[dict]:
        """The tip against the load, from the lowest to the highest."""
        lowered = [] if self.lowered is None else self.lowered.steps[::-1]
        raised = [] if self.raised is None else self.raised.steps
        named = (
            [("lowered", step) for step in lowered],
            [("start", self.start)],
            [("raised", step) for step in raised],
        )
        return [_row(step, branch) for part in named for branch, step in part]

    @property
    def advanced(self) -> bool:
        """Whether the crack opened by a bond, at the first load already or when it was raised."""
        steps = [] if self.raised is None else self.raised.steps
        return self.way_at_start > 0 or any(step.event == "opened" for step in steps)


def run_quasistatic(
    model,
    system: CrackSystem,
    load: LoadSection,
    *,
    workdir: Path | None = None,
    progress: Callable | None = None,
) -> QuasistaticRun:
    """Raises and lowers the load of a crack, relaxing it at each increment.

    Several values bound the range: it starts at the Griffith load where that lies inside, else at the value nearest to it,
    and goes up to the highest and, from the start again, down to the lowest. With one value it starts there and goes either
    way until the crack opens or heals, up to twice and down to a fifth of the Griffith load (in K).

    Args:
        model: A `procedures.build.Model` with a host; with an engine, its region follows the tip.
        system: The crack.
        load: What the study asks for.
        workdir: Run folder; each state is saved there, and not relaxed again.
        progress: Called as progress(done, total, message).

    Raises:
        ValueError: For loads beyond the ideal strength, or a region that does not fit.
        EngineError: If an engine fails; the states before are saved.
    """
    started, measure = perf_counter(), load.measure
    for value in load.values:  # impossible loads before anything is relaxed
        system.load(**{measure: value})
    griffith = getattr(system.griffith, MEASURES[measure])
    increment = 0.02 * griffith if load.increment is None else load.increment
    single = len(set(load.values)) == 1
    low, high = min(load.values), max(load.values)
    first = system.load(**{measure: float(np.clip(griffith, low, high))})
    if single:
        power = 2 if measure == "G" else 1
        low, high = min(low, _LOWEST**power * griffith), max(high, _HIGHEST**power * griffith)
    facts = {"crack": system.described(), "load": load.model_dump()}
    folder = None if workdir is None else Path(workdir) / "states"
    tracker = TipTracker(system, rules=model.bond_rules)
    region, coupling, partition = None, None, system.partition
    kind = "host"
    if model.engine is not None:
        region = tip_region(model, system, tracker, every=1)
        coupling, partition = region.select(system.cracked(first), frozen=system.held)
        kind = "exact" if is_noise_free(model.engine) else "noisy"
    with QMMM(system.cracked(first), model.potential, coupling, partition=partition) as qmmm:
        crack = QuasistaticCrack(
            system, qmmm, first, fmax=_FMAX[kind], direct=kind == "exact", tracker=tracker, region=region,
            records=Records(folder, fingerprint(model, quasistatic=facts)), progress=progress,
        )  # fmt: skip
        start = crack.start()
        snapshots = [_snapshot(crack)]
        options = {"measure": measure, "increment": increment, "to_the_end": not single}
        way = _way(tracker, start)
        value, branches = getattr(first, MEASURES[measure]), {}
        for name, end in (("raised", high), ("lowered", low)):
            if single and way:
                branches[name] = Branch(None, _untrapped(start, way), [])
            elif abs(end - value) > 1e-9 * abs(value):
                branches[name] = along(crack, end, last=lambda: snapshots.append(_snapshot(crack)), **options)
        steps = crack.steps
    warnings = list(crack.warnings) + ([_untrapped(start, way)] if way else [])
    loose = [step for step in steps if not step.converged]
    if loose:
        worst = max(loose, key=lambda step: step.max_force)
        warnings.append(
            f"{len(loose)} of {len(steps)} states did not relax to {_FMAX[kind]:g} eV/A (at worst {worst.max_force:.2g} "
            f"eV/A at K = {worst.load.K_MPa_sqrt_m:.3f} MPa sqrt(m))"
        )
    return QuasistaticRun(
        start,
        way,
        branches.get("raised"),
        branches.get("lowered"),
        n_qm_calls=sum(step.n_qm_calls for step in steps),
        n_qm_atoms={} if region is None else region.counts(),
        n_carvings=0 if region is None else region.n_carved - 1,
        snapshots=snapshots,
        warnings=warnings,
        stop_reason=crack.stopped,
        seconds=perf_counter() - started,
    )


def _way(tracker: TipTracker, start: QuasistaticStep) -> float:
    """How far the tip went in the first relaxation, angstrom; -inf if the crack closed, 0 if by less than a bond."""
    if start.tip is None:
        return -np.inf
    way = start.tip.reference_x - tracker.system.tip[0]
    return float(way) if abs(way) > 0.9 * tracker.bond_spacing else 0.0


def _untrapped(start: QuasistaticStep, way: float) -> str:
    what = "closed" if way == -np.inf else f"{'opened' if way > 0 else 'healed'} by {abs(way):.1f} A"
    bound = "K_plus lies below" if way > 0 else "K_minus lies above"
    return (
        f"at the first load, K = {start.load.K_MPa_sqrt_m:.3f} MPa sqrt(m), the crack {what} when it relaxed: the lattice "
        f"does not trap it there ({bound})"
    )


def _row(step: QuasistaticStep, branch: str) -> dict:
    tip, load = step.tip, step.load
    row = {
        "K_MPa_sqrt_m": load.K_MPa_sqrt_m,
        "G_J_per_m2": load.G_J_per_m2,
        "branch": branch,
        "event": step.event,
        "x_A": None if tip is None else tip.x,
        "y_A": None if tip is None else tip.y,
        "reference_x_A": None if tip is None else tip.reference_x,
        "energy_eV": step.energy_eV,
        "load_work_eV": step.load_work_eV,
        "max_force_eV_per_A": step.max_force,
        "converged": step.converged,
        "bonds_A": [[float(x), float(d)] for x, d in step.bonds],
        "qm_calls": step.n_qm_calls,
    }
    return row if load.strain is None else {**row, "strain": load.strain}


def _snapshot(crack: QuasistaticCrack) -> dict:
    state, system = crack.mark(), crack.system
    tip = crack.tracker.find(state.positions)
    where = system.tip if tip is None else (tip.x, tip.y)
    around = around_tip(crack.qmmm, SimpleNamespace(x=where[0], y=where[1]), state.positions)
    return {"K_MPa_sqrt_m": state.load.K_MPa_sqrt_m, **around}
