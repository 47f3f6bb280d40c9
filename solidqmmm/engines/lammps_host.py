"""The host: a live LAMMPS instance that holds the whole crystal, and the hook by which corrections enter it.

How a correction does so: `lammps_attachment`. Shells of a core-shell model: `lammps_shells`. Atoms that are left to another
description: `lammps_exclusions`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import contextmanager

import numpy as np

from solidqmmm.engines.closing import Closing
from solidqmmm.engines.lammps_attachment import Attachment, Correction
from solidqmmm.engines.lammps_exclusions import Exclusions
from solidqmmm.engines.lammps_session import VOIGT, LammpsSession
from solidqmmm.engines.lammps_shells import Shells
from solidqmmm.engines.protocols import Contribution
from solidqmmm.errors import EngineError
from solidqmmm.physics.geometry import unwrapped
from solidqmmm.system.charges import require_net_charge, site_charges
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.potential import Potential

logger = logging.getLogger(__name__)

_ATOMIC_VIRIALS = "solidqmmm_atomic_virials"


class LammpsHost(Closing):
    """The whole crystal in one LAMMPS instance; a context manager.

    In a core-shell model all that is public speaks of the crystal's n atoms, whose shells are at rest whenever something is
    asked for: forces are total derivatives. See `shell_positions`, `shell_charges` and `shell_owner` for the shells.

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
        self._attachments: dict[str, Attachment] = {}
        self._evaluated = False
        # Called before LAMMPS is set up anew: random numbers belong to the steps that follow (`dynamics_run`).
        self.before_setup: Callable[[], object] | None = None
        self.excluded = np.unique(np.asarray(excluded, dtype=int))
        charges = site_charges(crystal, potential)
        self._shells = Shells.of(crystal, potential, self.excluded)
        if len(self.excluded):
            self._exclusions = Exclusions(crystal, potential, self.excluded)
            charges[self.excluded] = 0.0
        elif np.any(crystal.pbc):
            require_net_charge(crystal, charges, 0.0, potential.net_charge)
        self.session = LammpsSession(potential, log=log, communicator=communicator)
        try:
            self.session.create(crystal, charges=charges, shells=self._shells)
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
        """Defines a LAMMPS group from indices of atoms (or of shells, behind the atoms)."""
        self.session.group(name, indices)

    def _freeze(self, indices):
        self.frozen = indices
        if len(indices):
            self.group("frozen", indices)
            self.command("group mobile subtract all frozen")
            self._freeze_last()
        else:
            self.command("group mobile union all")

    # --- corrections --------------------------------------------------------------------------------------------

    def attach(self, correction: Correction, name: str = "correction", *, hook: Callable[..., Attachment] = Attachment):
        """Adds a correction to every energy, force and pressure that LAMMPS computes from now on.

        `hook(host, correction, fix)` makes what LAMMPS calls; another one than the default may look on without a correction.

        Raises:
            ValueError: If a correction of that name is attached already.
        """
        if name in self._attachments:
            raise ValueError(f"a correction named '{name}' is attached already: detach it first")
        fix = f"solidqmmm_{name}"
        self.command(f"fix {fix} all external pf/callback 1 1")
        self.command(f"fix_modify {fix} energy yes virial yes")
        attachment = hook(self, correction, fix)
        self.session.lmp.set_fix_external_callback(fix, attachment)
        self._attachments[name] = attachment
        self._evaluated = False
        self._freeze_last()

    def detach(self, name: str = "correction"):
        """Removes a correction."""
        attachment = self._attachments.pop(name)
        self.session.command(f"unfix {attachment.fix}")
        self._evaluated = False

    def replace(self, correction: Correction, name: str = "correction"):
        """Another correction, with other atoms, in the place of an attached one; LAMMPS is not set up anew for it."""
        old = self._attachments[name]
        attachment = Attachment(self, correction, old.fix)
        self.session.lmp.set_fix_external_callback(old.fix, attachment)
        self._attachments[name] = attachment
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
        return unwrapped(self.session.gather("x")[: len(self)], reference, cell, self.crystal.pbc)

    def set_positions(self, positions):
        """Moves all atoms, shells with them; positions in angstrom, the same on all ranks, shape=(n, 3)."""
        if self._shells is not None and np.shape(positions) == (len(self), 3):
            positions = self._shells.following(self.session, positions)
        self.session.scatter("x", positions)
        self._evaluated = False

    def velocities(self) -> np.ndarray:
        """Velocities in angstrom/ps, shape=(n, 3)."""
        return self.session.gather("v")[: len(self)]

    def set_velocities(self, velocities):
        """Sets all velocities in angstrom/ps, shape=(n, 3)."""
        if self._shells is not None:
            velocities = np.vstack([velocities, np.asarray(velocities)[self._shells.owner]])
        self.session.scatter("v", velocities)

    def cell(self) -> np.ndarray:
        """Cell vectors as rows in angstrom, shape=(3, 3)."""
        return self.session.cell()

    def set_cell(self, cell, *, remap: bool = True):
        """Gives the crystal another cell (rows in angstrom, shape=(3, 3)); with `remap` the atoms follow affinely."""
        self.session.set_cell(cell, remap=remap)
        self._evaluated = False

    def charges(self) -> np.ndarray:
        """Charges of atoms (of cores, where an atom has a shell) in e, zero on excluded atoms, shape=(n,)."""
        return self.session.charges()[: len(self)]

    # --- shells -------------------------------------------------------------------------------------------------

    @property
    def shell_owner(self) -> np.ndarray:
        """The atom of each shell, shape=(m,)."""
        return np.empty(0, dtype=int) if self._shells is None else self._shells.owner

    def shell_charges(self) -> np.ndarray:
        """Charges of the shells in e, shape=(m,)."""
        return np.empty(0) if self._shells is None else self._shells.charges

    def shell_positions(self) -> np.ndarray:
        """Positions of the shells at rest in angstrom, near those of their atoms, shape=(m, 3)."""
        if self._shells is None:
            return np.empty((0, 3))
        self.evaluate()
        d = self._shells.displacements(self.session.gather("x"), self.cell(), self.crystal.pbc)
        return self.positions()[self.shell_owner] + d

    # --- answers ------------------------------------------------------------------------------------------------

    def evaluate(self):
        """Computes energy and forces at the present positions, unless they are known.

        Shells come to rest, to forces of 1e-6 eV/angstrom; corrections that do not name shells are asked once for it.

        Raises:
            PolarizationCatastrophe: If a shell leaves its core.
        """
        if self._evaluated:
            return
        if self.before_setup is not None:
            self.before_setup()
        if self._shells is None:
            self.command("run 0 post no")
        else:
            with self._resting_atoms():
                self._shells.relax(self.session, lambda: self.command("run 0 post no"))
        self._evaluated = True

    @contextmanager
    def _resting_atoms(self):
        """Meanwhile only shells move: who does not name any has said what there is to say."""
        resting = [one for one in self._attachments.values() if one.ids.max(initial=0) <= len(self)]
        try:
            for attachment in resting:
                attachment.rests = True
            yield
        finally:
            for attachment in resting:
                attachment.rests = attachment.said = False

    @property
    def evaluated(self) -> bool:
        """Whether energy and forces at the present positions are known."""
        return self._evaluated

    def forget(self):
        """What was computed is computed again when it is next asked for: after work with `session` past this object."""
        self._evaluated = False

    def energy(self) -> float:
        """Potential energy in eV: host and those corrections that have an energy."""
        self.evaluate()
        return self.session.potential_energy()

    def kinetic_energy(self) -> float:
        """Kinetic energy of all atoms in eV."""
        return self.session.thermo("ke") * self.session.scale["energy"]

    def excluded_pair_energy(self) -> float:
        """Energy in eV of the short-ranged pair terms between excluded atoms and the rest; it is part of `energy()`."""
        self.evaluate()
        return self._exclusions.pair_energy(self) if len(self.excluded) else 0.0

    def forces(self) -> np.ndarray:
        """Total forces in eV/angstrom, zero on frozen atoms, shape=(n, 3)."""
        self.evaluate()
        forces = self.session.gather("f")
        if self._shells is not None:
            forces = self._shells.folded(forces)
            forces[self.frozen] = 0.0
        return forces

    def unheld_forces(self) -> np.ndarray:
        """Total forces in eV/angstrom on all atoms, frozen ones too, minus which holds them, shape=(n, 3)."""
        if not len(self.frozen):
            return self.forces()
        self.command("unfix solidqmmm_freeze")
        frozen, self.frozen, self._evaluated = self.frozen, np.empty(0, dtype=int), False
        try:
            return self.forces()
        finally:
            self.frozen, self._evaluated = frozen, False
            self._freeze_last()

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

    def atomic_virials(self) -> np.ndarray:
        """Each atom's share of the host's own -W in eV, in the crystal's frame, shape=(n, 3, 3).

        By LAMMPS's `compute stress/atom`, without the kinetic part, and without what corrections add, which know no shares.
        """
        self.session.command(f"compute {_ATOMIC_VIRIALS} all stress/atom NULL virial")
        try:
            self.session.command("run 0 post no")
            components = np.array(self.session.lmp.gather(f"c_{_ATOMIC_VIRIALS}", 1, 6)).reshape(-1, 6)
        finally:
            self.session.command(f"uncompute {_ATOMIC_VIRIALS}")
        self.forget()
        tensors = np.empty((len(components), 3, 3))
        for values, (i, j) in zip(components.T, VOIGT, strict=True):
            tensors[:, i, j] = tensors[:, j, i] = values
        found = tensors[: len(self)].copy()
        np.add.at(found, self.shell_owner, tensors[len(self) :])
        scale = self.session.scale
        return self.session.tensor_in_crystal_frame(found) * scale["energy"] / scale["nktv2p"]

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
        self.evaluate()
        self.command(f"min_style {style}")
        if style != "fire":
            self.command("min_modify norm max line quadratic dmax 0.1")
        else:
            self.command("min_modify norm max dmax 0.1")
        if self._shells is not None:  # what is left on shells changes the forces on atoms when they come to rest
            fmax = 0.4 * fmax
        ftol = fmax / self.session.scale["energy"]
        before = self.session.thermo("step")
        self._move(f"minimize 0.0 {ftol:.16g} {max_iterations} {max_evaluations or 10 * max_iterations}")
        return int(self.session.thermo("step") - before)

    def run(self, steps: int, *, pre: bool = True, post: bool = False):
        """Runs `steps` of dynamics with the integrator fixes that are set.

        Raises:
            ValueError: For a core-shell model: its shells have no dynamics of their own here.
        """
        if self._shells is not None:
            raise ValueError(
                "dynamics of a core-shell model is not supported: shells would need masses, short time steps and a "
                "thermostat of their own. Relax it, or use the potential without `shells` for dynamics"
            )
        self.command(f"run {steps} pre {'yes' if pre else 'no'} post {'yes' if post else 'no'}")
        self._evaluated = True

    def _move(self, line: str):
        """A command of LAMMPS that moves atoms and shells together; a shell that runs away is the error that is raised."""
        self._evaluated = False
        try:
            self.command(line)
        except EngineError:
            if self._shells is not None:
                x, cell = self.session.gather("x"), self.cell()
                d = self._shells.displacements(x, cell, self.crystal.pbc)
                self._shells.require_bound(d, x[: len(self)], cell)
            raise
        self._evaluated = self._shells is None

    def snapshot(self) -> Crystal:
        """The crystal as it is now."""
        return self.crystal.with_positions(self.positions(), self.cell())
