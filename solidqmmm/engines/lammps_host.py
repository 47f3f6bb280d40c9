"""The host: a live LAMMPS instance that holds the whole crystal, and the hook by which corrections enter it.

A correction is attached by `fix external pf/callback`. Inside the callback only the correction's own atoms are touched:
their positions are collected from the ranks that own them, and their forces handed back, so the cost in Python grows with
the region and never with the crystal.
"""

from __future__ import annotations

import logging
from typing import Protocol

import numpy as np

from solidqmmm.engines.lammps_exclusions import Exclusions
from solidqmmm.engines.lammps_session import VOIGT, LammpsSession
from solidqmmm.engines.protocols import Contribution
from solidqmmm.errors import EngineError
from solidqmmm.physics.geometry import unwrapped
from solidqmmm.system.charges import require_net_charge, site_charges
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.potential import Potential

logger = logging.getLogger(__name__)


class Correction(Protocol):
    """What a coupling adds to the host: positions of few atoms in; energy, forces and virial for those atoms out.

    Attributes:
        atoms: Host indices of the atoms it cares about, shape=(n,).
        reference: Contiguous positions of those atoms at carving in angstrom, shape=(n, 3).
        has_energy: Whether the forces are the gradient of an energy.
        needs_host_forces: Whether `evaluate` wants the host's own forces on those atoms.
    """

    atoms: np.ndarray
    reference: np.ndarray
    has_energy: bool
    needs_host_forces: bool

    def evaluate(self, positions, cell, host_forces=None) -> Contribution:
        """Contribution at contiguous `positions` (angstrom, shape=(n, 3)) in the host's present `cell` (shape=(3, 3))."""
        ...


class LammpsHost:
    """The whole crystal in one LAMMPS instance; a context manager.

    Args:
        crystal: The crystal.
        potential: Its interatomic potential.
        frozen: Indices of atoms that never move.
        excluded: Indices of atoms that another description takes over: they carry no charge, and no pair among them (or
            their periodic images) interacts. What is left are the other atoms, and the short-ranged pair terms between them
            and the excluded ones.
        log: File for LAMMPS's log, or None.
        communicator: mpi4py communicator; the world by default.

    Raises:
        EngineError: If LAMMPS refuses the potential or the crystal.
        ValueError: If an element of the crystal is not in the potential, charges are missing or do not sum as the potential
            states (in a periodic crystal without excluded atoms), or atoms are excluded from a potential that is not a sum
            over pairs.
    """

    def __init__(
        self, crystal: Crystal, potential: Potential, *, frozen=(), excluded=(), log=None, communicator=None
    ):
        self.crystal = crystal
        self.potential = potential
        self._attachments: dict[str, _Attachment] = {}
        self._evaluated = False
        self.excluded = np.unique(np.asarray(excluded, dtype=int))
        charges = site_charges(crystal, potential)
        if len(self.excluded):
            self._exclusions = Exclusions(crystal, potential, self.excluded)
            charges[self.excluded] = 0.0
        elif np.any(crystal.pbc):
            require_net_charge(crystal, charges, 0.0, potential.net_charge)
        self.session = LammpsSession(potential, log=log, communicator=communicator)
        try:
            self.session.create(crystal, charges=charges)
            self.session.watch_virial("step", "temp", "pe", "ke", "etotal", "press")
            if len(self.excluded):
                self._exclusions.apply(self)
            self._freeze(np.asarray(frozen, dtype=int))
            # The first evaluation shows whether pair style and coefficients are complete.
            self.evaluate()
        except BaseException:
            self.close()
            raise

    # --- life -------------------------------------------------------------------------------------------------

    def close(self):
        """Closes LAMMPS; calling it again does nothing."""
        self.session.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    def __len__(self):
        return len(self.crystal)

    # --- commands -----------------------------------------------------------------------------------------------

    def command(self, line: str):
        """Sends one LAMMPS command; what failed inside a correction meanwhile is raised here.

        Raises:
            EngineError: With LAMMPS's own words and the command.
        """
        self.session.command(line)
        self._raise_what_failed()

    def _raise_what_failed(self):
        for attachment in self._attachments.values():
            if attachment.failure is not None:
                failure, attachment.failure = attachment.failure, None
                self._evaluated = False
                self.session.command("timer timeout unlimited")
                raise failure

    def group(self, name: str, indices):
        """Defines a LAMMPS group from atom indices, in chunks that LAMMPS's parser takes."""
        ids = np.unique(np.asarray(indices, dtype=int)) + 1
        if len(ids) == 0:
            self.command(f"group {name} empty")
            return
        starts = np.flatnonzero(np.diff(ids, prepend=ids[0] - 2) != 1)
        ends = np.append(starts[1:], len(ids))
        ranges = [f"{ids[a]}:{ids[b - 1]}" for a, b in zip(starts, ends, strict=True)]
        for k in range(0, len(ranges), 200):
            self.command(f"group {name} id {' '.join(ranges[k : k + 200])}")

    def _freeze(self, indices):
        self.frozen = indices
        if len(indices):
            self.group("frozen", indices)
            self.command("group mobile subtract all frozen")
            self._freeze_last()
        else:
            self.command("group mobile union all")

    # --- corrections --------------------------------------------------------------------------------------------

    def attach(self, correction: Correction, name: str = "correction"):
        """Adds a correction to every energy, force and pressure that LAMMPS computes from now on.

        Raises:
            ValueError: If a correction of that name is attached already.
        """
        if name in self._attachments:
            raise ValueError(f"a correction named '{name}' is attached already: detach it first")
        fix = f"solidqmmm_{name}"
        self.command(f"fix {fix} all external pf/callback 1 1")
        self.command(f"fix_modify {fix} energy yes virial yes")
        attachment = _Attachment(self, correction, fix)
        self.session.lmp.set_fix_external_callback(fix, attachment)
        self._attachments[name] = attachment
        self._evaluated = False
        self._freeze_last()

    def detach(self, name: str = "correction"):
        """Removes a correction."""
        attachment = self._attachments.pop(name)
        self.session.command(f"unfix {attachment.fix}")
        self._evaluated = False

    def _freeze_last(self):
        """Frozen atoms stay without force whatever is attached: their fix must come after the corrections'."""
        if not len(self.frozen):
            return
        if "solidqmmm_freeze" in self.session.lmp.available_ids("fix"):
            self.command("unfix solidqmmm_freeze")
        self.command("fix solidqmmm_freeze frozen setforce 0 0 0")

    def contribution(self, name: str = "correction") -> Contribution:
        """What the correction gave at the last evaluation."""
        return self._attachments[name].last

    @property
    def corrections(self) -> dict[str, Correction]:
        """The attached corrections by name."""
        return {name: attachment.correction for name, attachment in self._attachments.items()}

    # --- state ------------------------------------------------------------------------------------------------

    def positions(self) -> np.ndarray:
        """Positions in angstrom, as images near those of the crystal that was given, shape=(n, 3)."""
        cell = self.cell()
        reference = self.crystal.positions
        if not np.array_equal(cell, self.crystal.cell):
            reference = reference @ np.linalg.solve(self.crystal.cell, cell)
        return unwrapped(self.session.gather("x"), reference, cell, self.crystal.pbc)

    def set_positions(self, positions):
        """Moves all atoms; positions in angstrom, the same on all ranks, shape=(n, 3)."""
        self.session.scatter("x", positions)
        self._evaluated = False

    def velocities(self) -> np.ndarray:
        """Velocities in angstrom/ps, shape=(n, 3)."""
        return self.session.gather("v")

    def set_velocities(self, velocities):
        """Sets all velocities in angstrom/ps, shape=(n, 3)."""
        self.session.scatter("v", velocities)

    def cell(self) -> np.ndarray:
        """Cell vectors as rows in angstrom, shape=(3, 3)."""
        return self.session.cell()

    def set_cell(self, cell, *, remap: bool = True):
        """Gives the crystal another cell (rows in angstrom, shape=(3, 3)); with `remap` the atoms follow affinely."""
        self.session.set_cell(cell, remap=remap)
        self._evaluated = False

    def charges(self) -> np.ndarray:
        """Charges that LAMMPS carries in e, zero on excluded atoms, shape=(n,)."""
        return self.session.charges()

    # --- answers ------------------------------------------------------------------------------------------------

    def evaluate(self):
        """Computes energy and forces at the present positions, unless they are known."""
        if not self._evaluated:
            self.command("run 0 post no")
            self._evaluated = True

    def forget(self):
        """What was computed is computed again when it is next asked for: after work with `session` past this object."""
        self._evaluated = False

    def energy(self) -> float:
        """Potential energy in eV: host and those corrections that have an energy."""
        self.evaluate()
        return self.session.potential_energy()

    def excluded_pair_energy(self) -> float:
        """Energy in eV of the short-ranged pair terms between excluded atoms and the rest; it is part of `energy()`.

        Raises:
            EngineError: If the pair style does not tell the energies of single pairs.
        """
        self.evaluate()
        return self._exclusions.pair_energy(self) if len(self.excluded) else 0.0

    def forces(self) -> np.ndarray:
        """Total forces in eV/angstrom, zero on frozen atoms, shape=(n, 3)."""
        self.evaluate()
        return self.session.gather("f")

    def max_force(self) -> float:
        """Largest norm of a total force in eV/angstrom, frozen atoms left out."""
        return float(np.sqrt((self.forces() ** 2).sum(axis=1).max()))

    def stress(self) -> np.ndarray:
        """Cauchy stress without the kinetic part in eV/angstrom^3, tension positive, shape=(3, 3)."""
        self.evaluate()
        return self.virial() / abs(np.linalg.det(self.cell()))

    def virial(self) -> np.ndarray:
        """-W = dE/d(strain) in eV, host and corrections, shape=(3, 3)."""
        self.evaluate()
        return self.session.virial()

    # --- work -------------------------------------------------------------------------------------------------

    def minimize(
        self, *, fmax: float, style: str = "cg", max_iterations: int = 10000, max_evaluations: int | None = None
    ) -> int:
        """Relaxes all mobile atoms with one of LAMMPS's own minimizers.

        Args:
            fmax: Largest norm of a force at which it stops, eV/angstrom.
            style: "cg", "fire", "sd", "hftn" or "quickmin".
            max_iterations: Largest number of iterations.
            max_evaluations: Number of force evaluations after which it stops at the end of the line search; ten times
                `max_iterations` by default.

        Returns:
            Number of iterations taken.
        """
        self.command(f"min_style {style}")
        if style != "fire":
            self.command("min_modify norm max line quadratic dmax 0.1")
        else:
            self.command("min_modify norm max dmax 0.1")
        ftol = fmax / self.session.scale["energy"]
        before = self.session.thermo("step")
        self.command(f"minimize 0.0 {ftol:.16g} {max_iterations} {max_evaluations or 10 * max_iterations}")
        self._evaluated = True
        return int(self.session.thermo("step") - before)

    def run(self, steps: int, *, pre: bool = True, post: bool = False):
        """Runs `steps` of dynamics with the integrator fixes that are set."""
        self.command(f"run {steps} pre {'yes' if pre else 'no'} post {'yes' if post else 'no'}")
        self._evaluated = True

    def snapshot(self) -> Crystal:
        """The crystal as it is now."""
        return self.crystal.with_positions(self.positions(), self.cell())


class _Attachment:
    """One correction on one host: called by LAMMPS at every force evaluation, on every rank."""

    def __init__(self, host: LammpsHost, correction: Correction, fix: str):
        self.host = host
        self.correction = correction
        self.fix = fix
        self.ids = np.asarray(correction.atoms, dtype=np.int64) + 1
        self.near = np.array(correction.reference, dtype=float)
        self.near_cell = None
        self.last: Contribution | None = None
        self.failure: BaseException | None = None
        self._local = np.full(len(self.ids), -1)

    def __call__(self, _caller, _timestep, nlocal, tags, positions, external):
        external[:] = 0.0
        if self.failure is not None:
            return
        try:
            self._act(nlocal, tags, positions, external)
        except BaseException as error:
            self.failure = error
            lmp = self.host.session.lmp
            lmp.lib.lammps_force_timeout(lmp.lmp)

    def _act(self, nlocal, tags, positions, external):
        session, correction = self.host.session, self.correction
        Q, scale = session.rotation, session.scale["energy"]
        cell = session.cell()
        mine = self._find(nlocal, tags)
        local = self._local[mine]

        x = self._collect(mine, positions[local]) @ Q.T
        near = self.near
        if self.near_cell is not None and not np.array_equal(cell, self.near_cell):
            near = near @ np.linalg.solve(self.near_cell, cell)
        x = unwrapped(x, near, cell, self.host.crystal.pbc)
        self.near, self.near_cell = x, cell

        host_forces = None
        if correction.needs_host_forces:
            f = session.lmp.numpy.extract_atom("f")
            host_forces = self._collect(mine, f[local]) @ Q.T * scale
        given = self.last = correction.evaluate(x, cell, host_forces)
        if not np.isfinite(given.forces).all():
            bad = int(np.flatnonzero(~np.isfinite(given.forces).all(axis=1))[0])
            raise EngineError(
                f"the correction gave a force that is not finite on host atom {int(correction.atoms[bad])}: "
                "look at the engine's log"
            )
        external[local] = (given.forces[mine] @ Q) / scale
        session.lmp.fix_external_set_energy_global(self.fix, (given.energy or 0.0) / scale)
        if given.virial is not None:
            # The derivative by a symmetric strain: matching and dead loads do not turn with the crystal, W may be lopsided.
            W = Q.T @ (0.5 * (given.virial + given.virial.T)) @ Q / scale
            session.lmp.fix_external_set_virial_global(self.fix, [float(W[i, j]) for i, j in VOIGT])

    def _find(self, nlocal, tags):
        """Positions in the region of those atoms that this rank owns; their local indices go to `_local`."""
        known = self._local
        stale = (known < 0) | (known >= nlocal)
        stale[~stale] = tags[known[~stale]] != self.ids[~stale]
        if stale.any():
            map_atom = self.host.session.lmp.map_atom
            for k in np.flatnonzero(stale):
                index = map_atom(int(self.ids[k]))
                known[k] = index if 0 <= index < nlocal else -1
        return np.flatnonzero(known >= 0)

    def _collect(self, mine, values):
        """Vectors of all region atoms on all ranks, from the ranks that own them, shape=(n_region, 3)."""
        everything = np.zeros((len(self.ids), 3))
        everything[mine] = values
        communicator = self.host.session.communicator
        if communicator.size == 1:
            return everything
        total = np.empty_like(everything)
        communicator.Allreduce(everything, total)
        return total
