"""Where the region's atoms will be at the next step, told to the quantum ranks before the host computes its forces there.

    velocity Verlet, once the forces F_n are complete:   v = v_n-1/2 + dt/2 F_n/m   (only inside a run)
                                                         v = v + dt/2 F_n/m,   x_n+1 = x_n + dt v

These are the very operations of LAMMPS's `fix nve` in their order, so x_n+1 is what LAMMPS will find, to the last bit but
for atoms that are brought back into the box. A hook of its own does it, behind all fixes that add forces: friction and noise
are in F_n. Inside a run of LAMMPS the quantum ranks are told at once; at its last step only when it is clear that the next
one follows, because attendants, checkpoints and callers may change things in between.

Nothing is foreseen where the positions do not follow from the forces alone (a Nose-Hoover chain), where the correction is
not asked at every step and does not say when, or where the coupling needs more than the region's positions.
"""

from __future__ import annotations

from dataclasses import asdict
from time import perf_counter

from solidqmmm.engines.lammps_attachment import Attachment
from solidqmmm.engines.remote import Link, Traffic, link
from solidqmmm.physics.geometry import unwrapped
from solidqmmm.procedures.parallel.splitting import DivideAnew

_NAME = "foresight"
_IN_A_ROW = 2


class Foresight:
    """Of one run of dynamics; it does nothing where the ranks are not split.

    Args:
        run: The `Run`.

    Attributes:
        until: LAMMPS's own number of the last step of the present run of LAMMPS.
        resumes: Whether the run goes on from its checkpoint when it is called again; only then it may ask for another
            division of the ranks.
    """

    def __init__(self, run):
        self.run, self.until, self.resumes = run, -1, False
        self._since: tuple | None = None  # step, time and traffic at the first step after a checkpoint
        self._link: Link | None = None if run.meter is None else link()
        self._before = Traffic() if self._link is None else self._link.traffic.since(Traffic())
        self._next: tuple | None = None
        self._attached = False

    @property
    def why_not(self) -> str | None:
        """Why nothing is foreseen, in words; None where something is, or the ranks are not split."""
        run = self.run
        if self._link is None:
            return None
        if not getattr(run.heat, "velocity_verlet", False):
            return f"the next positions do not follow from the forces alone under '{run.heat.ensemble}'"
        if not getattr(run.stepper, "foresees", run.stepper is None):
            return f"'{run.stepper.name}' asks when its steps are made"
        if not hasattr(run.qmmm.coupling, "foresee"):
            return f"the coupling '{run.qmmm.coupling.name}' needs more than the next positions of the region"
        return None

    def stand_last(self):
        """Puts the hook behind all fixes that there are; for this correction."""
        self.end()
        if self._link is not None and self.why_not is None:
            self.run.host.attach(self.run.meter, _NAME, hook=self._hook)
            self._attached = True

    def end(self):
        """Removes the hook."""
        self._next = None
        if self._attached:
            self._attached = False
            self.run.host.detach(_NAME)

    def _hook(self, host, correction, fix) -> Attachment:
        return _Hook(host, correction, fix, self)

    def told(self, positions, cell):
        """The next positions of the region in angstrom, shape=(n, 3), by the hook."""
        run = self.run
        if run.meter.moving and run.host.session.lmp.extract_global("ntimestep") < self.until:
            run.meter.scheme.foresee(positions, cell)
        else:
            self._next = positions, cell

    def release(self, steps: int):
        """So many steps follow now: what was held back goes out."""
        if self._link is not None and self._since is None:
            now = perf_counter()
            self._link.rebuild_s = self._link.rebuild_s or now - self._link.made
            self._since = self.run.step, now, self._link.traffic.since(Traffic())
        self.until = self.run.host.session.lmp.extract_global("ntimestep") + steps
        held, self._next = self._next, None
        if held is not None:
            self.run.meter.scheme.foresee(*held)

    def reconsider(self):
        """At a checkpoint: whether the ranks should be divided anew, by the costs since the last one; collective.

        Raises:
            DivideAnew: If that saves more in the steps that are left than it costs, at `_IN_A_ROW` checkpoints running: the
                times of a few steps tell of other users of the machine as well.
        """
        one, since, self._since = self._link, self._since, None
        if one is None or one.plan is None or since is None or not self.resumes or self.why_not is not None:
            return
        step, begun, before = since
        done, gone = self.run.step - step, one.traffic.since(before)
        host_s = (perf_counter() - begun - gone.host_waits_s) / max(done, 1)
        quantum_s = gone.quantum_works_s / max(done, 1)
        halves, left = one.halves, self.run.steps - self.run.step
        plan = better = None
        if min(host_s, quantum_s) > 0:
            plan = one.plan.measured(halves.quantum, host_s, quantum_s)
            better = plan.better(halves.quantum, steps_left=left, rebuild=one.rebuild_s)
        plan, better, host_s, quantum_s = halves.own.bcast((plan, better, host_s, quantum_s))
        one.wishes = 0 if better is None else one.wishes + 1
        if one.wishes >= _IN_A_ROW:
            raise DivideAnew(
                plan,
                f"at step {self.run.step} the host needs {1e3 * host_s:.3g} ms a step on {halves.host} ranks and quantum "
                f"mechanics {1e3 * quantum_s:.3g} ms on {halves.quantum}: going on with {better.host} and {better.quantum}",
            )

    def in_words(self) -> str:
        """What a reader of the progress should know: calls that were foreseen in vain; '' without any."""
        missed = 0 if self._link is None else self._link.traffic.since(self._before).missed
        return f", {missed} calls foreseen in vain" if missed else ""

    def report(self) -> dict | None:
        """The division and what went across it during this run, as plain JSON; None where the ranks are not split."""
        if self._link is None:
            return None
        halves, why_not = self._link.halves, self.why_not
        said = {"host": halves.host, "quantum": halves.quantum, **asdict(self._link.traffic.since(self._before))}
        return said if why_not is None else said | {"not_foreseen": why_not}


class _Hook(Attachment):
    """Adds no force; sees the complete ones."""

    def __init__(self, host, correction, fix: str, foresight: Foresight):
        super().__init__(host, correction, fix)
        self._foresight = foresight

    def _act(self, nlocal, tags, positions, _external):
        session, meter = self.host.session, self.correction
        lmp, mine = session.lmp, self._find(nlocal, tags)
        local = self._local[mine]
        v, f = (lmp.numpy.extract_atom(name)[local] for name in ("v", "f"))
        mass = lmp.numpy.extract_atom("mass")[lmp.numpy.extract_atom("type")[local]]
        dt = lmp.extract_global("dt")
        half = (0.5 * dt * lmp.extract_global("ftm2v") / mass)[:, None] * f
        if meter.moving:
            v = v + half
        x = positions[local]
        moves = self._foresight.run.mobile[meter.atoms[mine]]
        x = x + dt * (v + half) * moves[:, None]
        cell = session.cell()
        x = self._collect(mine, x) @ session.rotation.T
        self._foresight.told(unwrapped(x, meter.at, cell, self.host.crystal.pbc), cell)
