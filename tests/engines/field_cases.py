"""An answering environment for tests of engines in a field."""

from __future__ import annotations

import numpy as np

from solidqmmm.engines.protocols import Induced
from solidqmmm.physics.electrostatics.coulomb import coulomb_potential
from solidqmmm.physics.electrostatics.ewald import COULOMB


class Dipoles:
    """Polarizable sites that do not see each other's dipoles, and a charge (the last) that answers the potential."""

    alpha, softness = 1.3, 0.02

    def __init__(self, charges):
        self.permanent = coulomb_potential(charges.positions, charges.positions, charges.charges)[1]

    def respond(self, potentials, fields):
        b = self.permanent + fields
        mu = self.alpha * b / COULOMB
        q = np.zeros(len(b))
        q[-1] = -self.softness * potentials[-1]
        return Induced(q, mu, -0.5 * float((b * mu).sum()) + 0.5 * float(q[-1] * potentials[-1]))
