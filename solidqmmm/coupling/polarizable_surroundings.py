"""The crystal's induced dipoles answer the density of a quantum cluster, inside the engine's self-consistency.

    E_pol[rho] = -1/2 b.(alpha^-1 - T)^-1 b,    b_i = sum_n { E(r_i + n; ions of one cell) + E(r_i + n; rho) }

Dipoles repeat with the crystal, and so does what polarizes them: the density polarizes a dipole through each of its copies
n, each of which acts on the density. In the perfect crystal b is zero where symmetry says so. Near sites feel the density
itself and give their dipoles to the engine; far ones are reached by the charges on the sphere, in both directions with the
same map (see `surroundings`), so that E_pol is one functional of the density and its derivatives are what the engine is
given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solidqmmm.coupling.surroundings import Arrangement
from solidqmmm.engines.protocols import Induced
from solidqmmm.physics.polarization.induced_dipoles import InducedDipoles, PolarizableSites


@dataclass(frozen=True, eq=False)
class PolarizableSurroundings:
    """Which of the host's particles answer a field, and how.

    Attributes:
        polarizabilities: In angstrom^3, zero on quantum atoms, shape=(n,).
        damping: "thole", "linear" or None.
        thole_a: Of the exponential damping.
    """

    polarizabilities: np.ndarray
    damping: str | None = "thole"
    thole_a: float = 0.39

    def response(self, around: Arrangement) -> CrystalResponse:
        """What an engine asks during its self-consistency; PolarizationCatastrophe where dipoles diverge."""
        return CrystalResponse(self, around)

    def describe(self) -> dict:
        """Plain JSON, for journals."""
        return {
            "polarizabilities": self.polarizabilities.tolist(),
            "damping": self.damping,
            "thole_a": self.thole_a,
        }


class CrystalResponse:
    """Induced dipoles of a crystal at one arrangement; a `FieldResponse`."""

    def __init__(self, model: PolarizableSurroundings, around: Arrangement):
        of = around.of
        self.model, self.around = model, around
        # What the cluster really holds comes from the engine, and its images hold the same.
        charges = of.charges.copy()
        charges[of.home] = 0.0
        self.solver = InducedDipoles(
            PolarizableSites(
                around.positions,
                charges,
                np.append(model.polarizabilities, 0.0),
                cell=around.cell if of.periodic else None,
                damping=model.damping,
                thole_a=model.thole_a,
                excluded=np.column_stack([of.quantum, np.full(len(of.quantum), of.n)]),
            )
        )
        self.dipoles = np.zeros((of.n + 1, 3))

    def respond(self, potentials, fields) -> Induced:
        """The answer to `potentials` (V, shape=(n_sites,)) and `fields` (V/angstrom, shape=(n_sites, 3))."""
        of, n_explicit = self.around.of, len(self.around.of.explicit)
        b = np.zeros_like(self.dipoles)
        np.add.at(b, of.explicit, fields[:n_explicit])
        if of.sphere is not None:
            b += self.around.far_field_of(of.sphere.reaction(potentials[of.n_near:]))
        found = self.solver.solve(b, guess=self.dipoles)
        self.dipoles = np.array(found.dipoles)
        charges, dipoles = np.zeros(of.n_sites), np.zeros((of.n_sites, 3))
        dipoles[:n_explicit] = self.dipoles[of.explicit]
        if of.sphere is not None:
            charges[of.n_near:] = of.sphere.charges(self.around.far_potential_of_dipoles(self.dipoles))
        return Induced(charges, dipoles, found.energy)

    def settle(self, potentials, fields):
        """Makes `dipoles` the answer to these, whatever was asked before: an engine that remembers asks nothing."""
        self.dipoles = np.zeros_like(self.dipoles)
        self.respond(potentials, fields)

    def forces(self) -> np.ndarray:
        """-dE_pol/dx at fixed quantum charge for the last dipoles, in eV/angstrom, shape=(n + 1, 3)."""
        return self.solver.forces(self.dipoles)[0]

    def describe(self) -> dict:
        """What determines the answers besides the charges that the engine is given, as plain JSON."""
        return {
            **self.model.describe(),
            "positions": self.around.positions.tolist(),
            "charges": self.around.of.charges.tolist(),
            "cell": self.around.cell.tolist(),
        }
