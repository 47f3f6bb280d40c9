"""Induced dipoles of the host as the answer to a quantum region, for engines that ask at every SCF iteration.

With E the field of the quantum charge at the sites and E0 that of the host's own charges,

    E_pol[E] = -1/2 (E + E0).(alpha^-1 - T)^-1 (E + E0),      dE_pol/dE_i = -mu_i,

so the electrons feel the potential of the dipoles mu, all of it, and E_pol counts once in the energy: it contains the
work of polarizing, the dipoles' energy in the fields of the host and of the quantum charge, and E_pol[0] of the host alone.
"""

from __future__ import annotations

import numpy as np

from solidqmmm.engines.protocols import Induced
from solidqmmm.physics.polarization.induced_dipoles import InducedDipoles, PolarizableSites


class DipoleResponse:
    """A `FieldResponse` of induced dipoles, isolated or in a periodic cell. Each answer starts from the one before.

    Args:
        sites: Charges and polarizabilities of the external sites, in the order in which the engine has them.
        tolerance, direct_below: Of `InducedDipoles`.

    Raises:
        PolarizationCatastrophe: If the dipoles diverge; here for a pair that does so alone, else with the first answer.
    """

    def __init__(self, sites: PolarizableSites, *, tolerance: float = 1e-8, direct_below: int | None = None):
        self.sites = sites
        self._dipoles = InducedDipoles(sites, tolerance=tolerance, direct_below=direct_below)
        self._last = None

    def respond(self, potentials, fields) -> Induced:
        """The answer to fields in V/angstrom, shape=(n, 3). Potentials (V, shape=(n,)) move no dipole."""
        del potentials
        found = self._dipoles.solve(fields, guess=self._last)
        self._last = found.dipoles
        return Induced(np.zeros(len(self.sites)), found.dipoles, found.energy)

    @property
    def products(self) -> int:
        """Products with the dipoles' interaction so far, the measure of what the answers cost; 0 for direct solutions."""
        return self._dipoles.products

    def unperturbed(self) -> Induced:
        """The answer to no field: the host polarized by its own charges."""
        return self.respond(np.zeros(len(self.sites)), np.zeros((len(self.sites), 3)))

    def site_forces(self, induced: Induced) -> tuple[np.ndarray, np.ndarray]:
        """Forces of polarization among the sites, for an answer, and their virial.

        What the quantum charge exerts on charges and dipoles is the engine's to say (`FieldEvaluation.charge_forces`), and
        the Coulomb forces among the charges are the host's.

        Returns:
            Forces in eV/angstrom, shape=(n, 3), and sum of x (outer) F in eV, shape=(3, 3).
        """
        return self._dipoles.forces(induced.dipoles)
