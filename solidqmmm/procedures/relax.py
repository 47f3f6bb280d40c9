"""Relaxation with micro-iterations: the number of quantum calls is set by the core, not by the crystal."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from solidqmmm.coupling.qmmm import QMMM
from solidqmmm.coupling.surrogate import Harmonic, Surrogate
from solidqmmm.errors import SolidQMMMError
from solidqmmm.procedures.building.model_host import model_host
from solidqmmm.results.relaxation import RelaxationTrace
from solidqmmm.system.crystal import Crystal

logger = logging.getLogger(__name__)

ALGORITHMS = ("micro", "cg", "fire")

# Near a minimum: quantum calls in which the forces must fall by a tenth; where they do not, they are noise.
_PATIENCE = 6
# Energy differences below this (eV) say nothing: grids and incomplete self-consistency make such noise.
_ENERGY_NOISE = 2e-3
# Below this force (eV/angstrom) a correction is harmonic.
_NEAR_MINIMUM = 0.02


@dataclass(frozen=True, eq=False)
class Relaxation:
    """Outcome of `relax`.

    Attributes:
        converged: Whether every force came below the threshold.
        crystal: The crystal at the end.
        max_force: Largest force on any mobile atom in eV/angstrom.
        trace: One row for each quantum call.
    """

    converged: bool
    crystal: Crystal
    max_force: float
    trace: RelaxationTrace


def relax(
    qmmm: QMMM,
    *,
    fmax: float,
    max_qm_calls: int = 60,
    algorithm: str = "micro",
    trust_radius: float = 0.15,
    harmonic: Harmonic | None = None,
    strict: bool = False,
    progress: Callable | None = None,
) -> Relaxation:
    """Relaxes the hybrid crystal at fixed cell.

    "micro" alternates one exact evaluation of the correction with a minimization by LAMMPS in which a smooth model stands
    in for the correction (coupling/surrogate). Host and region move together in it, so the long-ranged elastic response
    costs no quantum calls; the expensive calls only have to learn how the two descriptions differ. Steps are bounded by a
    trust radius, judged by the energy where there is one and by the forces otherwise; the model of force mixing is relaxed
    by FIRE. "cg" and "fire" hand the exact correction to LAMMPS's own minimizers at every force call ("cg" needs an
    energy).

    Args:
        qmmm: The live hybrid crystal; it is left at the relaxed positions.
        fmax: Largest norm of a force in eV/angstrom.
        max_qm_calls: Largest number of exact evaluations of the correction.
        algorithm: "micro", "cg" or "fire".
        trust_radius: First bound on the step of a region's atom in angstrom.
        harmonic: For "micro" near a minimum and a coupling with energy: the quadratic model that earlier relaxations of the
            crystal have learnt, instead of regression; it goes on learning. It ends where forces fall no further.
        strict: Raise instead of returning an unconverged relaxation.
        progress: Called as progress(done, total, message) after every quantum call.

    Returns:
        The relaxation; not converged is an outcome.

    Raises:
        ValueError: For an unknown algorithm, or "cg" with a coupling that has no energy.
        SolidQMMMError: If it does not converge and `strict` is set.
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(f"`algorithm` must be one of {ALGORITHMS}, got {algorithm!r}")
    if fmax <= 0:
        raise ValueError(f"`fmax` must be positive (eV/angstrom), got {fmax}")
    if algorithm == "cg" and not qmmm.has_energy:
        raise ValueError("algorithm 'cg' needs an energy, and force mixing has none: use 'micro' or 'fire'")
    report = progress or (lambda *_: None)
    if qmmm.coupling is None:
        outcome = _relax_host(qmmm, fmax)
    elif algorithm == "micro":
        outcome = _MicroIterations(qmmm, fmax, max_qm_calls, trust_radius, report, harmonic).run()
    else:
        outcome = _relax_directly(qmmm, fmax, max_qm_calls, algorithm, report)
    if strict and not outcome.converged:
        raise SolidQMMMError(
            f"the relaxation did not converge: largest force {outcome.max_force:.4f} eV/A, asked for {fmax} eV/A, after "
            f"{len(outcome.trace)} quantum calls; raise max_qm_calls or look at the trace"
        )
    return outcome


def settle(
    qmmm: QMMM, *, fmax: float, target: float | None = None, harmonic: Harmonic | None = None, max_qm_calls: int = 60
) -> float:
    """Relaxes to small forces for derivatives: regression far from the minimum, a quadratic model near it.

    Args:
        qmmm: The live crystal; it is left at the relaxed positions.
        fmax: Largest force that is good enough, eV/angstrom.
        target: Smaller force that is tried, with conjugate gradients or a few quantum calls.
        harmonic: What earlier relaxations of the crystal have learnt; it goes on learning.
        max_qm_calls: Largest number of quantum calls.

    Returns:
        The largest force left, eV/angstrom.
    """
    largest, target = qmmm.largest_force()[0], min(fmax, target or fmax)
    if qmmm.coupling is None:
        if largest > target:
            qmmm.host.minimize(fmax=target)
            largest = qmmm.largest_force()[0]
        return largest if largest <= fmax else relax(qmmm, fmax=fmax).max_force
    if largest > max(fmax, _NEAR_MINIMUM) or (largest > target and not qmmm.has_energy):
        near = max(fmax, _NEAR_MINIMUM) if qmmm.has_energy else fmax
        largest = relax(qmmm, fmax=near, max_qm_calls=max_qm_calls).max_force
    if qmmm.has_energy and largest > target:
        largest = relax(
            qmmm, fmax=target, max_qm_calls=max_qm_calls, harmonic=harmonic or Harmonic()
        ).max_force
    return largest


def rattled(crystal: Crystal, shells, amplitude: float, seed: int) -> np.ndarray:
    """Positions with random displacements (standard deviation `amplitude`, angstrom) of the atoms in `shells`, shape=(n, 3).

    An ideal vacancy can be a force-free point that is no minimum; a relaxation that starts there tests nothing.
    """
    positions = crystal.positions.copy()
    if amplitude > 0 and len(shells):
        atoms = np.sort(np.concatenate(shells))
        positions[atoms] += np.random.default_rng(seed).normal(0.0, amplitude, (len(atoms), 3))
    return positions


def _finished(qmmm: QMMM, fmax, trace) -> Relaxation:
    force, _ = qmmm.largest_force()
    return Relaxation(force <= fmax, qmmm.host.snapshot(), force, trace)


def _relax_host(qmmm: QMMM, fmax) -> Relaxation:
    """The host alone: conjugate gradients, and FIRE where their line search stalls."""
    started = time.perf_counter()
    before = qmmm.host.positions()
    iterations = qmmm.host.minimize(fmax=fmax)
    if qmmm.largest_force()[0] > fmax:
        iterations += qmmm.host.minimize(fmax=fmax, style="fire")
    force, atom = qmmm.largest_force()
    trace = RelaxationTrace().with_call(
        max_force=force,
        region=str(qmmm.partition.names()[atom]),
        energy=qmmm.energy(),
        host_iterations=iterations,
        step_length=float(np.abs(qmmm.host.positions() - before).max()),
        seconds=time.perf_counter() - started,
    )
    return _finished(qmmm, fmax, trace)


def _relax_directly(qmmm: QMMM, fmax, max_qm_calls, algorithm, report) -> Relaxation:
    """LAMMPS's own minimizer with the exact correction at every force call."""
    recorder = _Recorder(qmmm, max_qm_calls, report)
    qmmm.host.detach()
    qmmm.host.attach(recorder)
    try:
        qmmm.host.minimize(
            fmax=fmax, style=algorithm, max_iterations=max_qm_calls, max_evaluations=max_qm_calls
        )
    finally:
        if qmmm.host.session.is_open:
            qmmm.host.detach()
            qmmm.host.attach(qmmm.coupling)
    force, atom = qmmm.largest_force()
    trace = RelaxationTrace()
    for largest, label, seconds in recorder.calls[:-1]:
        trace = trace.with_call(max_force=largest, region=label, seconds=seconds)
    trace = trace.with_call(
        max_force=force,
        region=str(qmmm.partition.names()[atom]),
        energy=qmmm.energy(),
        seconds=recorder.calls[-1][2],
    )
    return _finished(qmmm, fmax, trace)


class _Recorder:
    """Passes a correction through, and notes the largest force on its atoms at every call (others it does not see)."""

    needs_host_forces = True

    def __init__(self, qmmm: QMMM, total, report):
        self.exact, self.total, self.report = qmmm.coupling, total, report
        self.atoms, self.reference, self.has_energy = self.exact.atoms, self.exact.reference, self.exact.has_energy
        self.names = qmmm.partition.names()[self.atoms]
        self.calls: list[tuple[float, str, float]] = []
        self._positions = np.full_like(self.reference, np.inf)

    def evaluate(self, positions, cell, host_forces=None):
        started = time.perf_counter()
        given = self.exact.evaluate(positions, cell, host_forces)
        if np.abs(positions - self._positions).max() < 1e-10:
            return given  # asked for again, nothing was computed
        self._positions = positions.copy()
        norms = np.linalg.norm(host_forces + given.forces, axis=1)
        atom = int(norms.argmax())
        self.calls.append((float(norms[atom]), str(self.names[atom]), time.perf_counter() - started))
        self.report(len(self.calls), self.total, "direct minimization")
        return given


class _MicroIterations:
    """The loop of "micro": exact call, judge, learn, relax the model, repeat."""

    def __init__(self, qmmm: QMMM, fmax, max_qm_calls, trust_radius, report, harmonic=None):
        self.qmmm = qmmm
        self.fmax, self.max_qm_calls, self.report = fmax, max_qm_calls, report
        self.trust, self.largest_trust = trust_radius, 2 * trust_radius
        self.surrogate = Surrogate(qmmm.coupling, harmonic, len(qmmm))
        # Near a minimum differences of the energy drown in rounding, and forces judge the steps.
        self.near_minimum = harmonic is not None
        self.judges_energy = qmmm.has_energy and not self.near_minimum
        self.style = "cg" if qmmm.has_energy else "fire"
        self.names = qmmm.partition.names()
        self.trace = RelaxationTrace()

    def run(self) -> Relaxation:
        with model_host(self.qmmm, self.surrogate) as self.there:
            self.host = self.there.host
            best = self._loop()
        self.qmmm.host.set_positions(best.positions)
        return _finished(self.qmmm, self.fmax, self.trace)

    def _loop(self) -> _State:
        best = self._exact_call(iterations=0, step=0.0, started=time.perf_counter())
        self.surrogate.learn()
        self.surrogate.centre_here()
        mark, since = best.norm, 0
        while best.force > self.fmax and len(self.trace) < self.max_qm_calls:
            if self.near_minimum and since == _PATIENCE:
                break
            started = time.perf_counter()
            iterations, step, predicted = self._relax_model(best)
            trial = self._exact_call(iterations, step, started)
            self.surrogate.learn()
            if self._is_better(trial, best, predicted):
                best = trial
                self.surrogate.centre_here()
            else:
                self.trust = max(0.02, 0.4 * min(self.trust, step))
                self.host.set_positions(best.positions)
                logger.info("step rejected, trust radius now %.3f A", self.trust)
            mark, since = (best.norm, 0) if best.norm < 0.9 * mark else (mark, since + 1)
        return best

    def _exact_call(self, iterations, step, started) -> _State:
        forces, total = self.there.exact()
        norms = np.linalg.norm(forces, axis=1)
        atom = int(norms.argmax())
        state = _State(self.host.positions(), float(norms[atom]), float(np.linalg.norm(forces)), total)
        self.trace = self.trace.with_call(
            max_force=state.force,
            region=str(self.names[atom]),
            energy=total if self.qmmm.has_energy else None,
            host_iterations=iterations,
            step_length=step,
            seconds=time.perf_counter() - started,
        )
        self.report(len(self.trace), None, f"largest force {state.force:.4f} eV/A on {self.names[atom]}")
        return state

    def _relax_model(self, best) -> tuple[int, float, float]:
        """Minimizes host and model from the best positions; iterations, largest step in angstrom, predicted change in eV."""
        surrogate = self.surrogate
        surrogate.fit()
        surrogate.asks_exact = False
        surrogate.trust_radius = self.trust
        self.host.set_positions(best.positions)
        iterations = self.host.minimize(fmax=0.2 * self.fmax, style=self.style, max_iterations=500)
        step = self._step_from(best)
        if step == 0.0 and self.style == "cg":
            # Tabulated Coulomb terms make energies that are not quite those of the forces, and line searches that fail.
            iterations += self.host.minimize(fmax=0.2 * self.fmax, style="fire", max_iterations=200)
            step = self._step_from(best)
        predicted = self.host.energy() - surrogate.wall_energy - best.total
        return iterations, step, predicted

    def _step_from(self, best) -> float:
        """Largest displacement of an atom that is learnt about from the best positions, angstrom."""
        moved = (self.host.positions() - best.positions)[self.surrogate.learnt]
        return float(np.linalg.norm(moved - moved.mean(axis=0), axis=1).max())

    def _is_better(self, trial, best, predicted) -> bool:
        """Whether the step is kept; adapts the trust radius to how well the model foresaw it."""
        if self.judges_energy:
            gained = trial.total - best.total
            ratio = gained / predicted if predicted < 0 else 0.0
            good = ratio > 0.1 or (gained < _ENERGY_NOISE and trial.force < best.force)
        else:
            ratio = 1.0 - trial.norm / best.norm
            good = trial.norm < best.norm
        if not self.judges_energy:  # nothing was foretold that could be compared: a third less force is a good step
            self.trust = min(1.6 * self.trust, self.largest_trust) if ratio > 0.3 else self.trust
        elif good and ratio > 0.6:
            self.trust = min(1.5 * self.trust, self.largest_trust)
        elif ratio < 0.25:
            self.trust = max(0.05, 0.6 * self.trust)
        return good


@dataclass(frozen=True, eq=False)
class _State:
    """Positions with their largest force, norm of all forces and total energy (model's where there is no other)."""

    positions: np.ndarray
    force: float
    norm: float
    total: float
