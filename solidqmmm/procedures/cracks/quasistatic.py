"""A crack without heat: the load goes up or down in increments, and all free atoms relax at each.

An increment displaces every atom by the difference of the elastic far fields, the held ones exactly so; then the crystal
relaxes, with the quantum correction where there is one. The crack follows the load along metastable states, until one ends
and it opens or heals by a bond (`lattice_trapping`).

Energies are differences from the first state. With forces that have no energy (force mixing)

    E(n+1) - E(n) = E_MM(n+1) - E_MM(n) - sum_i (Delta F_i(n) + Delta F_i(n+1)) / 2 . (x_i(n+1) - x_i(n)),

which holds for small increments and is a straight line's answer across a jump. The work of the load is that of the forces
which hold the held atoms; what it exceeds the energy by was set free in jumps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from solidqmmm.coupling.qmmm import QMMM
from solidqmmm.procedures.cracks.track_tip import CrackTip, TipTracker
from solidqmmm.procedures.records import Records
from solidqmmm.procedures.relax import relax
from solidqmmm.system.crack import CrackSystem, Load

EVENTS = ("none", "opened", "healed", "rearranged")
MEASURES = {"K": "K_MPa_sqrt_m", "G": "G_J_per_m2", "strain": "strain"}
_SHOWN = 12.0  # angstrom on both sides of the tip in which lengths of bonds are told
_MOST_CARVINGS, _MOST_DESCENTS = 5, 4
_DIRECT = 10  # more calls for a minimizer that does not learn
# Stretches of bonds, length over that in the perfect crystal. One that opens or heals jumps by more than _JUMP and what the
# load alone does to it, from below _OPEN or to below _SHUT: bonds of open flanks jump as well when the tip does.
_JUMP, _SHUT, _OPEN = 0.12, 1.25, 1.45


@dataclass(frozen=True, eq=False)
class QuasistaticStep:
    """One relaxed state.

    Attributes:
        load: Its load.
        tip: Where the crack ends; None if it is closed.
        event: What happened since the state before: 'none'; 'opened' or 'healed' (a bond across the crack plane jumped open
            or shut); 'rearranged' (only other bonds did: a tip that blunts, a dislocation).
        energy_eV: Energy above the first state.
        load_work_eV: Work of the load since the first state.
        max_force: Largest force on a free atom, eV/angstrom.
        converged: Whether it is below the threshold.
        bonds: x from the first tip and length of the bonds across the crack plane near it, angstrom, shape=(m, 2).
        n_qm_calls: Quantum calls of this state.
    """

    load: Load
    tip: CrackTip | None
    event: str
    energy_eV: float
    load_work_eV: float
    max_force: float
    converged: bool
    bonds: np.ndarray
    n_qm_calls: int


@dataclass(frozen=True, eq=False)
class _Forces:
    """What the increments of energy and work are made of.

    Attributes:
        energy: Energy in eV, that of the host where the coupling has none; steady when the region is carved anew.
        atoms, delta: Atoms of the correction, and its forces on them in eV/angstrom.
        held: Forces on the held atoms in eV/angstrom.
    """

    energy: np.ndarray
    atoms: np.ndarray
    delta: np.ndarray
    held: np.ndarray


@dataclass(frozen=True, eq=False)
class _State:
    """Where the crystal is, to go on from or back to; energies in eV above the first state."""

    positions: np.ndarray
    load: Load
    tip_x: float
    stretches: np.ndarray
    forces: _Forces
    energy: float
    work: float
    offset: float


class QuasistaticCrack:
    """A live crack that is led through relaxed states.

    Args:
        system: The crack.
        qmmm: Its live crystal, opened at `system.cracked(first load)` with `system.partition` (held atoms frozen).
        load: That first load.
        fmax: Largest force of a relaxed state, eV/angstrom.
        max_qm_calls: Largest number of quantum calls of one relaxation.
        direct: Whether the minimizer follows the forces of the engine itself, which takes some ten times as many calls as
            micro-iterations and keeps nearer to the end of a metastable state: for engines that cost little.
        tracker: Finds the tip; one with usual settings without it.
        region: A quantum region that follows the tip (`procedures.tip_region.TipRegion`), or None.
        follow_tip: Whether the far field is centred on the present tip; else it stays where the crack began.
        records: Where states are saved, and read from where they are there already; `Records(None, "")` keeps none.
        progress: Called as progress(done, total, message).

    Raises:
        ValueError: If other atoms are frozen in the live crystal than the crack holds.
    """

    def __init__(
        self,
        system: CrackSystem,
        qmmm: QMMM,
        load: Load,
        *,
        fmax: float = 5e-3,
        max_qm_calls: int = 60,
        direct: bool = False,
        tracker: TipTracker | None = None,
        region=None,
        follow_tip: bool = False,
        records: Records | None = None,
        progress: Callable | None = None,
    ):
        if not np.array_equal(np.sort(qmmm.partition.frozen), system.held):
            raise ValueError(
                "the held atoms of the crack must be frozen in the live crystal: open it with `system.partition`"
            )
        self.system, self.qmmm, self.host = system, qmmm, qmmm.host
        self.fmax, self.max_qm_calls, self.direct = fmax, max_qm_calls, direct
        self.tracker = TipTracker(system) if tracker is None else tracker
        self.region, self.follow_tip = region, follow_tip
        self.records = Records(None, "") if records is None else records
        self.report = progress or (lambda *_: None)
        self.steps: list[QuasistaticStep] = []
        self.warnings: list[str] = []
        self.stopped: str | None = None
        self._calls, self._offset = 0, 0.0
        self._carved = False
        self._state: _State | None = None
        self._first = load
        self._run = SimpleNamespace(
            host=self.host, qmmm=qmmm, step=0, time_ps=0.0, warnings=self.warnings, has_energy=False,
            replace_correction=self._replace, stop=self._stop,
        )  # fmt: skip

    # --- states -----------------------------------------------------------------------------------------------------

    def start(self) -> QuasistaticStep:
        """Relaxes the first state."""
        if self.region is not None:
            self.region.begin(self._run)
        return self._reach(self._first, float(self.system.tip[0]), None)

    def to(self, load: Load) -> QuasistaticStep:
        """The next state: the increment of the far field, and relaxation."""
        if self._state is None:
            self.start()
        tip = self.steps[-1].tip
        centre = self._state.tip_x if tip is None or not self.follow_tip else tip.reference_x
        return self._reach(load, centre, self._state)

    def mark(self) -> _State:
        """The present state, to come back to."""
        return self._state

    def back(self, state: _State):
        """Returns to a state that was marked, the quantum region with it; the record of steps goes on."""
        self.host.set_positions(state.positions)
        self._state = state
        if self.region is not None:
            self.region.act(len(self.steps), self._run)
        if self._offset != state.offset:
            self._offset = self.host.energy() - float(state.forces.energy)

    def _reach(self, load: Load, tip_x: float, before: _State | None) -> QuasistaticStep:
        name = f"state_{len(self.steps):05d}"
        known = self.records.read(name)
        if known is not None and known["load"].tolist() != [load.K_MPa_sqrt_m, tip_x]:
            known = None
        if known is None:
            if before is not None:
                self.host.set_positions(self._predicted(load, tip_x, before))
            max_force, converged, calls = self._relaxed()
            positions, forces = self.host.positions(), self._forces()
            region = "" if self.region is None else _packed(self.region.state())
            self.records.write(
                name, positions=positions, load=np.array([load.K_MPa_sqrt_m, tip_x]), max_force=max_force,
                converged=converged, n_qm_calls=calls, region=region, **vars(forces),
            )  # fmt: skip
        else:
            max_force, converged, calls = (
                known[key].item() for key in ("max_force", "converged", "n_qm_calls")
            )
            positions, forces = known["positions"], _Forces(*(known[key] for key in _Forces.__annotations__))
            self.host.set_positions(positions)
            if self.region is not None:
                self.region.restore(_unpacked(known["region"].item()))
                self.region.begin(self._run)
        self._state, step = self._observed(
            load, tip_x, before, positions, forces, (max_force, converged), calls
        )
        self.steps.append(step)
        where = "closed" if step.tip is None else f"tip at {step.tip.reference_x - self.system.tip[0]:+.1f} A"
        self.report(len(self.steps), None, f"K = {load.K_MPa_sqrt_m:.4f} MPa sqrt(m): {where}, {step.event}")
        return step

    def _predicted(self, load: Load, tip_x: float, before: _State) -> np.ndarray:
        new = self.system.far_field(load, tip_x)
        positions = before.positions + new - self.system.far_field(before.load, before.tip_x)
        held = self.system.held
        positions[held] = self.system.perfect.positions[held] + new[held]
        return positions

    def _relaxed(self) -> tuple[float, bool, int]:
        """Relaxes, and carves the region anew until it stays; the largest force, whether that is small, quantum calls."""
        calls = 0
        for _ in range(_MOST_CARVINGS):
            self._carved, before = False, self._spent()
            outcome = self._minimized()
            calls += self._spent() - before
            if self.region is None:
                break
            self.region.act(len(self.steps), self._run)
            if not self._carved:
                break
        return float(outcome.max_force), bool(outcome.converged), calls

    def _minimized(self):
        """Relaxes; where forces without an energy come to a halt, they are followed downhill for a while.

        Micro-iterations take what lowers the forces. Where a state ends, the way out of it leads over larger ones.
        """
        options = {"fmax": self.fmax, "max_qm_calls": self.max_qm_calls}
        along = {
            "max_qm_calls": _DIRECT * self.max_qm_calls,
            "algorithm": "cg" if self.qmmm.has_energy else "fire",
        }
        if self.direct and self.qmmm.coupling is not None:
            outcome = relax(self.qmmm, **options | along)
            if outcome.converged:
                return outcome
        outcome = relax(self.qmmm, **options)
        for _ in range(_MOST_DESCENTS):
            if outcome.converged or self.qmmm.has_energy:
                break
            relax(self.qmmm, **options, algorithm="fire")
            outcome = relax(self.qmmm, **options)
        return outcome

    def _forces(self) -> _Forces:
        energy, atoms, delta = self.host.energy() - self._offset, np.empty(0, dtype=int), np.empty((0, 3))
        if self.qmmm.coupling is not None:
            atoms, delta = self.qmmm.coupling.atoms, self.host.contribution().forces
        return _Forces(np.array(energy), atoms, delta, self.host.unheld_forces()[self.system.held])

    def _observed(
        self, load, tip_x, before, positions, forces, outcome, calls
    ) -> tuple[_State, QuasistaticStep]:
        tip, bond_lengths = self.tracker.find(positions), self.tracker.bond_lengths(positions)
        stretches = bond_lengths / self.tracker.lengths
        energy, work, event = 0.0, 0.0, "none"
        if before is not None:
            moved = positions - before.positions
            energy = before.energy + float(forces.energy - before.forces.energy)
            if not self.qmmm.has_energy:
                for end in (before.forces, forces):
                    energy -= 0.5 * float((end.delta * moved[end.atoms]).sum())
            pull = (before.forces.held + forces.held) / 2
            work = before.work - float((pull * moved[self.system.held]).sum())
            event = self._event(before, stretches, load)
        shown = self.tracker.cut_bonds(_SHOWN)
        x = self.tracker.middles[shown, 0] - self.system.tip[0]
        bonds = np.column_stack([x, bond_lengths[shown]])
        state = _State(positions, load, tip_x, stretches, forces, energy, work, self._offset)
        return state, QuasistaticStep(load, tip, event, energy, work, *outcome, bonds, calls)

    def _event(self, before: _State, now, load: Load) -> str:
        """What bonds jumped from the stretches of a state to those of `now`."""
        relative = abs(load.K_MPa_sqrt_m - before.load.K_MPa_sqrt_m) / max(before.load.K_MPa_sqrt_m, 1e-12)
        was, cut = before.stretches, self.tracker.cut
        jump = _JUMP + 2 * relative * np.abs(was - 1)
        opened = (now - was > jump) & (was < _OPEN) & (now > self.tracker.factor)
        healed = (was - now > jump) & (was > _SHUT) & (now < _SHUT)
        if (healed & cut).any():
            return "healed"
        if (opened & cut).any():
            return "opened"
        return "rearranged" if (opened | healed).any() else "none"

    # --- what a moving region asks for --------------------------------------------------------------------------------

    def _replace(self, correction, partition=None):
        before = self.host.energy()
        self._calls += getattr(getattr(self.qmmm.coupling, "quantum", None), "evaluations", 0)
        self.host.replace(correction)
        self.qmmm.coupling = correction
        self.qmmm.partition = self.qmmm.partition if partition is None else partition
        self._carved = True
        self._offset += self.host.energy() - before  # another region has another zero of energy

    def _stop(self, reason: str):
        self.stopped = reason

    def _spent(self) -> int:
        """Quantum calls so far."""
        return self._calls + getattr(getattr(self.qmmm.coupling, "quantum", None), "evaluations", 0)


def quasistatic(
    crack: QuasistaticCrack, measure: str, values: Sequence[float], increment: float | None = None
):
    """Leads a crack through loads, one after the other, in increments; ends early where the tip comes to the boundary.

    Args:
        crack: The live crack.
        measure: 'K' (MPa sqrt(m)), 'G' (J/m^2) or 'strain'.
        values: Loads in their order; the first one is where the crack was opened.
        increment: Largest step in that measure; by default a fiftieth of the Griffith load.

    Returns:
        The steps; `crack.stopped` says why they ended early, or is None.
    """
    loads = [
        crack.system.load(**{measure: value}) for value in path(crack.system, measure, values, increment)
    ]
    for load in loads:  # all are possible before the first is relaxed
        step = crack.start() if not crack.steps else crack.to(load)
        if at_boundary(crack, step):
            K = step.load.K_MPa_sqrt_m
            crack.stopped = f"the tip came to the boundary at K = {K:.3f} MPa sqrt(m)"
        if crack.stopped:
            break
    return crack.steps


def path(system: CrackSystem, measure: str, values, increment: float | None = None) -> np.ndarray:
    """Loads from value to value in steps no larger than `increment`, in the unit of `measure`, shape=(n,).

    Raises:
        ValueError: For an increment that is not positive.
    """
    if increment is None:
        increment = 0.02 * _griffith(system, measure)
    if increment <= 0:
        raise ValueError(f"`increment` must be positive, got {increment}")
    loads = [float(values[0])]
    for target in values[1:]:
        n = max(1, int(np.ceil(abs(target - loads[-1]) / increment - 1e-9)))
        loads += np.linspace(loads[-1], target, n + 1)[1:].tolist()
    return np.array(loads)


def at_boundary(crack: QuasistaticCrack, step: QuasistaticStep) -> bool:
    """Whether the tip is nearer to the boundary than twice the range of the potential."""
    return step.tip is not None and crack.system.room_ahead(step.tip.x) < 2 * crack.system.cleavage.cutoff


def _griffith(system: CrackSystem, measure: str) -> float:
    return getattr(system.griffith, MEASURES[measure])


def _packed(state: dict) -> str:
    return json.dumps(state, default=lambda array: {"array": array.tolist()})


def _unpacked(text: str) -> dict:
    return {
        key: np.array(value["array"]) if isinstance(value, dict) and "array" in value else value
        for key, value in json.loads(text).items()
    }
