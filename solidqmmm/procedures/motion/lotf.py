"""Learning on the fly: N steps on adjustable springs for one quantum call, as predictor and corrector.

    1. extrapolate: N steps with the springs of the last quantum call, A
    2. ask the engine at the end, fit the springs to its forces: B
    3. go back, and make the same N steps with springs that pass from A to B linearly in time

B serves for the next extrapolation, though it was fitted to the predicted positions and not to the corrected ones (0.0003
angstrom apart in silicon at 300 K after 10 fs). So N steps cost one quantum call and 2 N steps of the host. What the
springs are: `coupling/springs`.

The first cycle, while no stiffness is known, is a fifth as long: one more call, and no prediction by tensions alone over
N steps, which would be several times as wrong as all later ones.

Langevin noise is the same both times. The work that the correction does is that of the springs along the corrected path;
an energy there is not, whatever the coupling. With N = 1 the scheme is the plain one, to rounding.

Source: G. Csanyi, T. Albaret, M. C. Payne and A. De Vita, Phys. Rev. Lett. 93, 175503 (2004); N. Bernstein, J. R. Kermode
and G. Csanyi, Rep. Prog. Phys. 72, 026501 (2009).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solidqmmm.coupling.force_error import ForceError
from solidqmmm.coupling.springs import DAMPING, Anchor, SpringCorrection, SpringErrors
from solidqmmm.physics.cracks.adjustable_springs import LearntStiffness
from solidqmmm.procedures.motion.impulses import require_correction
from solidqmmm.system.bonds import BondRules


class Lotf:
    """Stepper of `run_dynamics` that learns on the fly.

    Where a run's attendants or rows ask for fewer steps than N at a time, a cycle is as short as that.

    Args:
        steps: N, the length of an extrapolation.
        bond_rules: Who is bonded: springs join bonded atoms and their second neighbours.
        damping: Of the fit of tensions, see `physics/cracks/adjustable_springs`.

    Attributes:
        errors: Force errors on the core: of the fit before and after, and of the prediction at the end of an
            extrapolation.

    Raises:
        ValueError: For `steps` below 1.
    """

    name = "lotf"
    stride = 1
    references = ("csanyi2004lotf", "bernstein2009hybrid")

    def __init__(self, steps: int, *, bond_rules: BondRules | None = None, damping: float = DAMPING):
        if steps < 1:
            raise ValueError(f"`steps` must not be below 1, got {steps}")
        self.steps, self.bond_rules, self.damping = int(steps), bond_rules, float(damping)
        self.errors = SpringErrors.none()
        self._scheme: SpringCorrection | None = None
        self._kinds: dict[tuple, int] = {}
        self._learnt = LearntStiffness.nothing(0)
        self._kept: Anchor | None = None

    @property
    def stiffness_eV_per_A2(self) -> dict[tuple, tuple[float, float]]:
        """K along and across springs by kind: (Z, Z, 1 for bonds or 2 for second neighbours, at the core or not).

        Kinds of which nothing was learnt are left out.
        """
        self._keep()
        values, seen = self._learnt.values(), np.diag(self._learnt.normal)[::2] > 0
        return {kind: tuple(values[row].tolist()) for kind, row in self._kinds.items() if seen[row]}

    # --- the stepper --------------------------------------------------------------------------------------------

    def begin(self, run):
        """Puts springs beside the correction.

        Raises:
            ValueError: For the host alone, or a thermostat whose own variables cannot go back (Nose-Hoover).
            TypeError: For a correction without a cluster.
        """
        require_correction(run, self.name)
        if run.heat.restarts:
            raise ValueError(
                f"the variables of the thermostat '{run.heat.ensemble}' cannot go back in time with the atoms: learn on the "
                "fly with 'langevin', a stadium, or 'nve'"
            )
        run.meter.around(self._around)
        if self._kept is not None:
            self._scheme.settle(self._kept)

    def advance(self, run, steps: int):
        """Makes `steps` steps in cycles of at most N."""
        done = 0
        while done < steps:
            first = self.errors.prediction.occasions == 0
            n = min(max(self.steps // 5, 1) if first else self.steps, steps - done)
            self._cycle(run, n, done)
            done += n

    def state(self) -> dict:
        """Errors, stiffnesses and the springs at the last quantum call."""
        self._keep()
        found = {
            "errors": [one.state() for one in (self.errors.before, self.errors.fit, self.errors.prediction)],
            "kinds": [list(kind) for kind in self._kinds],
            "normal": self._learnt.normal,
            "right": self._learnt.right,
        }
        if self._scheme is not None and self._scheme.anchors:
            anchor = self._scheme.anchors[-1]
            found |= {f"anchor_{name}": getattr(anchor, name) for name in Anchor.__dataclass_fields__}
        return found

    def restore(self, state: dict):
        """Takes up a `state`."""
        self.errors = SpringErrors(*(ForceError.of(one) for one in state["errors"]))
        self._kinds = {tuple(kind): row for row, kind in enumerate(state["kinds"])}
        self._learnt = LearntStiffness(state["normal"], state["right"])
        self._scheme, self._kept = None, None
        if "anchor_positions" in state:
            self._kept = Anchor(*(state[f"anchor_{name}"] for name in Anchor.__dataclass_fields__))

    # --- one cycle ----------------------------------------------------------------------------------------------

    def _cycle(self, run, n: int, done: int):
        scheme, meter = self._scheme, run.meter
        anchor = scheme.anchors[-1]
        start = _Start.of(run, done)
        try:
            start.seed(run)
            scheme.extrapolate(n)
            run.host.run(n, pre=False)
            calls = meter.calls
            start.go_back(run)
            meter.calls = calls
            scheme.interpolate(n)
            run.host.run(n, pre=False)
            scheme.settle()
        except BaseException:
            scheme.settle(anchor)
            start.go_back(run)
            raise

    # --- what was learnt, from one correction to the next ----------------------------------------------------------

    def _around(self, exact) -> SpringCorrection:
        self._keep()
        scheme = SpringCorrection(exact, self.errors, bond_rules=self.bond_rules, damping=self.damping)
        rows = [self._kinds.get(tuple(kind)) for kind in scheme.kinds]
        known = [(own, row) for own, row in enumerate(rows) if row is not None]
        own, old = (np.array([pair[k] for pair in known], dtype=int) for k in (0, 1))
        scheme.taught(_transferred(self._learnt, LearntStiffness.nothing(len(rows)), old, own))
        self._scheme = scheme
        return scheme

    def _keep(self):
        """Takes from the springs what they have learnt; kinds that they do not have are kept as they were."""
        if self._scheme is None:
            return
        for kind in self._scheme.kinds:
            self._kinds.setdefault(tuple(kind), len(self._kinds))
        own = np.array([self._kinds[tuple(kind)] for kind in self._scheme.kinds], dtype=int)
        n_old = len(self._learnt.right) // 2
        wider = _transferred(
            self._learnt, LearntStiffness.nothing(len(self._kinds)), np.arange(n_old), np.arange(n_old)
        )
        self._learnt = _transferred(self._scheme.stiffness, wider, np.arange(len(own)), own)


@dataclass(frozen=True, eq=False)
class _Start:
    """Where a cycle begins: everything that goes back.

    Attributes:
        step: LAMMPS's own number of the step.
        number: The run's.
        positions: In angstrom, shape=(n, 3).
        velocities: In angstrom/ps, shape=(n, 3).
        heat: State of the thermostat.
        work, impulse, at, given, calls: Of the meter.
    """

    step: int
    number: int
    positions: np.ndarray
    velocities: np.ndarray
    heat: dict
    work: float
    impulse: np.ndarray
    at: np.ndarray
    given: object
    calls: int

    @classmethod
    def of(cls, run, done: int) -> _Start:
        host, meter = run.host, run.meter
        return cls(
            host.session.lmp.extract_global("ntimestep"),
            run.step + done,
            host.positions(),
            host.velocities(),
            run.heat.state(),
            meter.work,
            meter.impulse,
            meter.at,
            meter.given,
            meter.calls,
        )

    def seed(self, run):
        """Starts the noise, at the beginning of both ways from the same numbers."""
        if run.heat.noisy:
            run.heat.restore(self.heat)
            run.seed_noise(self.number)
            run.host.forget()
            run.host.evaluate()

    def go_back(self, run):
        """Brings crystal, meter, thermostat and time back; forces are set up there anew."""
        host, meter = run.host, run.meter
        if run.heat.noisy:  # what counts its work in LAMMPS goes before the clock is turned back
            run.heat.restore(self.heat)
        host.command(f"reset_timestep {self.step}")
        host.set_positions(self.positions)
        host.set_velocities(self.velocities)
        meter.work, meter.impulse = self.work, self.impulse
        meter.at, meter.given, meter.calls = self.at, self.given, self.calls
        moving, meter.moving = meter.moving, False
        try:
            if run.heat.noisy:
                run.seed_noise(self.number)
            host.evaluate()
        finally:
            meter.moving = moving


def _transferred(source: LearntStiffness, target: LearntStiffness, of_source, of_target) -> LearntStiffness:
    """`target` with what `source` knows about its kinds `of_source`, which are `of_target` there."""
    a, b = ((2 * np.asarray(rows)[:, None] + [0, 1]).ravel().astype(int) for rows in (of_source, of_target))
    normal, right = target.normal.copy(), target.right.copy()
    normal[np.ix_(b, b)] = source.normal[np.ix_(a, a)]
    right[b] = source.right[a]
    return LearntStiffness(normal, right)
