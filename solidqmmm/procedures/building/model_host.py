"""The host in which a model of the correction is relaxed between exact evaluations, and where these are made.

The model learns the difference of two descriptions of the same crystal. A host whose quantum atoms carry no charge is no
such description: its ions would fly apart between two calls. With an additive coupling a second LAMMPS instance therefore
holds the crystal with all pairs and charges, what the cluster's classical charges lack shared by its atoms (by those that
would have no shells: ions of a core-shell model carry what the model says); the model is

    E_exact - E_LAMMPS(all).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from solidqmmm.coupling.qmmm import QMMM
from solidqmmm.coupling.surrogate import Surrogate
from solidqmmm.engines.lammps_host import LammpsHost
from solidqmmm.physics.geometry import unwrapped


def model_host(qmmm: QMMM, surrogate: Surrogate) -> OwnHost:
    """A context manager in which `surrogate` stands in for the coupling of `qmmm`."""
    return (WholeHost if len(qmmm.host.excluded) else OwnHost)(qmmm, surrogate)


class OwnHost:
    """The crystal's own host.

    Attributes:
        host: Where the model is relaxed.
    """

    def __init__(self, qmmm: QMMM, surrogate: Surrogate):
        self.qmmm, self.surrogate, self.host = qmmm, surrogate, qmmm.host

    def __enter__(self):
        self.host.detach()
        self.host.attach(self.surrogate)
        return self

    def __exit__(self, *exc_info):
        if self.host.session.is_open:
            self.host.detach()
            self.host.attach(self.qmmm.coupling)

    def exact(self) -> tuple[np.ndarray, float]:
        """Exact forces on all atoms (eV/angstrom, shape=(n, 3)) and energy (eV) where the host is; the surrogate sees them.

        Without an energy of the coupling the second one means nothing.
        """
        self.surrogate.asks_exact = True
        self.host.set_positions(self.host.positions())
        return self.host.forces(), self.host.energy()


class WholeHost(OwnHost):
    """A second instance without exclusions beside the crystal's own, for as long as the context lasts."""

    def __init__(self, qmmm: QMMM, surrogate: Surrogate):
        super().__init__(qmmm, surrogate)
        own, snapshot = qmmm.host, qmmm.host.snapshot()
        charges = _with_what_is_lacking(qmmm.coupling, snapshot, own)
        potential = replace(own.potential, net_charge=float(charges.sum()))
        self.host = LammpsHost(snapshot.with_arrays(charges=charges), potential, frozen=own.frozen)

    def __enter__(self):
        self.host.attach(self.surrogate)
        return self

    def __exit__(self, *exc_info):
        self.host.close()

    def exact(self) -> tuple[np.ndarray, float]:
        """Forces in eV/angstrom, shape=(n, 3), and energy in eV; see `OwnHost`."""
        positions = self.host.positions()
        self.qmmm.host.set_positions(positions)
        forces, energy = self.qmmm.forces(), self.qmmm.energy()
        self.host.detach()
        # The images that a host shows its corrections.
        seen = unwrapped(positions, self.surrogate.reference, self.host.cell(), self.host.crystal.pbc)
        self.surrogate.told(seen, forces - self.host.forces(), energy - self.host.energy())
        self.host.attach(self.surrogate)
        return forces, energy


def _with_what_is_lacking(coupling, crystal, host) -> np.ndarray:
    """Charges of whole ions in e, those of the cluster summing to its charge, shape=(n,)."""
    n = len(crystal)
    charges = coupling.charges[:n].copy()
    np.add.at(charges, host.shell_owner, coupling.charges[n:])
    shelled = {shell.element for shell in host.potential.shells}
    bare = [atom for atom in coupling.excluded if crystal.symbols[atom] not in shelled]
    if bare:
        charges[bare] += coupling.surroundings.charges[-1] / len(bare)
    return charges
