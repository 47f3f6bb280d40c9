"""How corrections enter a host: `fix external pf/callback`, called by LAMMPS at every force evaluation, on every rank.

Only the correction's own particles are touched: their positions are collected from the ranks that own them, and their forces
handed back, so the cost in Python grows with the region and never with the crystal.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from solidqmmm.engines.lammps_session import VOIGT
from solidqmmm.engines.protocols import Contribution
from solidqmmm.errors import EngineError
from solidqmmm.physics.geometry import unwrapped


class Correction(Protocol):
    """What a coupling adds to the host: positions of few atoms in; energy, forces and virial for those atoms out.

    Attributes:
        atoms: Host indices of the atoms it cares about, shape=(n,). In a host of n atoms, n + k is its shell k.
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


class Attachment:
    """One correction on one host.

    Attributes:
        last: What it gave last, or None.
        failure: What it raised, until the host raises it.
        rests: Set while none of its particles moves; it is then asked once.
        said: Whether it has been asked meanwhile.
    """

    def __init__(self, host, correction: Correction, fix: str):
        self.host = host
        self.correction = correction
        self.fix = fix
        self.ids = np.asarray(correction.atoms, dtype=np.int64) + 1
        self.near = np.array(correction.reference, dtype=float)
        self.near_cell = None
        self.last: Contribution | None = None
        self.failure: BaseException | None = None
        self.rests = self.said = False
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
        if not (self.rests and self.said):
            self.last = correction.evaluate(x, cell, host_forces)
            self.said = True
        given = self.last
        if not np.isfinite(given.forces).all():
            bad = int(np.flatnonzero(~np.isfinite(given.forces).all(axis=1))[0])
            raise EngineError(
                f"the correction gave a force that is not finite on host atom {int(correction.atoms[bad])}: "
                "look at the engine's log"
            )
        for word, value in (("an energy", given.energy), ("a virial", given.virial)):
            if value is not None and not np.isfinite(value).all():
                raise EngineError(f"the correction gave {word} that is not finite: look at the engine's log")
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
