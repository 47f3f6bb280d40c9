"""A correction on adjustable springs: between two quantum calls a network of springs stands in for the engine.

At a quantum call the network is fitted to the forces of the correction; what no springs can give is carried along as a
constant force on each atom, so that the stand-in is exact there (the *anchor*). Away from it tensions turn with their
bonds, and stiffnesses learnt from earlier calls say how forces change. Between two anchors A and B both foretell, and
count in proportion to the time from them,

    Delta F(x, s) = (1 - s) Delta F_A(x) + s Delta F_B(x),   0 <= s <= 1.

Springs join bonded atoms and second neighbours of the core (of every atom that the correction acts on) and of what they
are joined to. The stand-in is no gradient of anything, so there is no energy. Who makes the steps, and the sources:
`procedures/motion/lotf`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solidqmmm.coupling.force_error import ForceError, core_rows
from solidqmmm.engines.protocols import Contribution
from solidqmmm.physics.cracks.adjustable_springs import (
    LearntStiffness,
    SpringNetwork,
    once,
    second_neighbours,
)
from solidqmmm.system.bonds import BondRules, local_bonds
from solidqmmm.system.cluster import Cluster
from solidqmmm.system.crystal import Crystal

DAMPING = 0.01


@dataclass(frozen=True, eq=False)
class Anchor:
    """What the springs are at a quantum call.

    Attributes:
        positions: Of the correction's atoms in angstrom, shape=(n, 3).
        tensions: Of the springs in eV/angstrom, shape=(m,).
        residual: What the springs do not give, eV/angstrom, shape=(n, 3).
        forces: The correction's forces there, eV/angstrom, shape=(n, 3).
    """

    positions: np.ndarray
    tensions: np.ndarray
    residual: np.ndarray
    forces: np.ndarray


@dataclass
class SpringErrors:
    """Force errors on the core, in eV/angstrom, added up over a run.

    Attributes:
        before: The correction itself at quantum calls: what the springs have to give.
        fit: Tensions alone at quantum calls, without the residual.
        prediction: The stand-in at the end of an extrapolation, where the engine is asked.
    """

    before: ForceError
    fit: ForceError
    prediction: ForceError

    @classmethod
    def none(cls) -> SpringErrors:
        """Before the first call."""
        return cls(ForceError(), ForceError(), ForceError())


class SpringCorrection:
    """Another correction, with springs in its place where it is not asked.

    Without an anchor it asks the correction, and has one.

    Args:
        exact: The correction; it must have a cluster.
        errors: Where its errors are added up.
        bond_rules: Who is bonded.
        damping: Of the fit of tensions.

    Attributes:
        anchors: None, one, or two anchors between which it interpolates.
        steps: Number of evaluations from the first anchor to the end; at the end an extrapolation asks the correction.
        count: How many of them were made.
        asked: Whether the last evaluation asked the exact correction.
        found: The anchor that the extrapolation found at its end, or None.
        stiffness: What was learnt.
    """

    has_energy = False
    surplus = None
    energy_missing_reason = (
        "between quantum calls adjustable springs give the forces, which are not the gradient of an energy"
    )

    def __init__(
        self, exact, errors: SpringErrors, *, bond_rules: BondRules | None = None, damping: float = DAMPING
    ):
        self.exact, self.errors, self.damping = exact, errors, float(damping)
        self.atoms, self.reference = exact.atoms, exact.reference
        self.needs_host_forces = exact.needs_host_forces
        self.network, self.kinds = network_of(exact, bond_rules or BondRules())
        self.stiffness = LearntStiffness.nothing(self.network.n_kinds)
        self._K = self.stiffness.values()
        self._core = core_rows(exact)
        self.anchors: tuple[Anchor, ...] = ()
        self.steps, self.count, self.asked = 0, 0, False
        self.found: Anchor | None = None

    # --- what a stepper does ------------------------------------------------------------------------------------

    def extrapolate(self, steps: int):
        """From the last anchor, `steps` evaluations; at the last one the correction is asked (`found`)."""
        self.anchors = self.anchors[-1:]
        self.steps, self.count, self.found = steps, 0, None

    def interpolate(self, steps: int):
        """The same `steps` evaluations again, between the anchor and what was found; that is the anchor afterwards."""
        self.anchors = (self.anchors[-1], self.found)
        self.steps, self.count, self.found = steps, 0, None

    def settle(self, anchor: Anchor | None = None):
        """On from one anchor: the one given, or the last."""
        self.anchors = self.anchors[-1:] if anchor is None else (anchor,)
        self.steps, self.count, self.found = 0, 0, None

    def taught(self, stiffness: LearntStiffness):
        """Takes over what was learnt."""
        self.stiffness, self._K = stiffness, stiffness.values()

    # --- forces -------------------------------------------------------------------------------------------------

    def evaluate(self, positions, cell, host_forces=None) -> Contribution:
        """The stand-in's forces, or the correction's where it has to be asked.

        Args:
            positions: Of the correction's atoms, contiguous, in angstrom, shape=(n, 3).
            cell: Rows in angstrom, shape=(3, 3).
            host_forces: The host's own on them in eV/angstrom, shape=(n, 3), if the correction needs them.
        """
        self.asked = False
        if not self.anchors:
            given = self._ask(positions, cell, host_forces)
            self.anchors = (self._anchored(positions, cell, given.forces),)
            return Contribution(given.forces)
        self.count = min(self.count + 1, self.steps)
        forces = self.forces(positions, cell)
        if len(self.anchors) == 1 and self.steps and self.count == self.steps:
            given = self._ask(positions, cell, host_forces)
            self.errors.prediction.add((forces - given.forces)[self._core])
            self._learn(positions, cell, given.forces)
            self.found = self._anchored(positions, cell, given.forces)
        return Contribution(forces)

    def forces(self, positions, cell) -> np.ndarray:
        """The stand-in's forces here and at this moment, in eV/angstrom, shape=(n, 3)."""
        vectors = self.network.vectors(positions, cell)
        told = [self._foretold(anchor, vectors, cell) for anchor in self.anchors]
        if len(told) == 1:
            return told[0]
        s = self.count / self.steps
        return (1 - s) * told[0] + s * told[1]

    def _foretold(self, anchor: Anchor, vectors, cell):
        network = self.network
        change = network.stretched(network.vectors(anchor.positions, cell), vectors, self._K)
        return network.tension_forces(vectors, anchor.tensions) + anchor.residual + change

    def _ask(self, positions, cell, host_forces) -> Contribution:
        self.asked = True
        return self.exact.evaluate(positions, cell, host_forces)

    def _anchored(self, positions, cell, forces) -> Anchor:
        vectors = self.network.vectors(positions, cell)
        tensions = self.network.fitted_tensions(vectors, forces, self.damping)
        residual = forces - self.network.tension_forces(vectors, tensions)
        self.errors.before.add(forces[self._core])
        self.errors.fit.add(residual[self._core])
        return Anchor(positions.copy(), tensions, residual, forces)

    def _learn(self, positions, cell, forces):
        """Stiffnesses from what tensions alone miss between the anchor and here."""
        anchor, network = self.anchors[-1], self.network
        here, there = network.vectors(positions, cell), network.vectors(anchor.positions, cell)
        unexplained = forces - network.tension_forces(here, anchor.tensions) - anchor.residual
        weighed = network.weights > 0
        self.taught(
            self.stiffness.with_difference(network.patterns(there, here)[weighed], unexplained[weighed])
        )


def network_of(correction, rules: BondRules) -> tuple[SpringNetwork, list[list[int]]]:
    """Springs among a correction's atoms, and their kinds: [Z, Z, 1 or 2 for bonds or second neighbours, at the core or
    not].

    Raises:
        TypeError: For a correction without a cluster.
    """
    cluster = getattr(correction, "cluster", None)
    if cluster is None:
        raise TypeError(
            f"springs need a correction with a cluster, which {type(correction).__name__} '{correction.name}' has not"
        )
    weights = _weights(correction, cluster)
    bonded, second = _pairs(cluster, rules)
    pairs, shell = np.vstack([bonded, second]), np.repeat([1, 2], [len(bonded), len(second)])
    acts = weights > 0
    near = acts.copy()
    touched = acts[pairs[:, 0]] | acts[pairs[:, 1]]
    near[pairs[touched, :2].ravel()] = True
    kept = near[pairs[:, 0]] & near[pairs[:, 1]]
    pairs, shell = pairs[kept], shell[kept]
    core = core_rows(correction)
    at_core = core[pairs[:, 0]] | core[pairs[:, 1]]
    species = np.sort(cluster.numbers[pairs[:, :2]].reshape(-1, 2), axis=1)
    kinds, kind = np.unique(np.column_stack([species, shell, at_core]), axis=0, return_inverse=True)
    network = SpringNetwork(pairs[:, 0], pairs[:, 1], pairs[:, 2:], kind.ravel(), len(kinds), weights)
    return network, kinds.tolist()


def _weights(correction, cluster: Cluster) -> np.ndarray:
    """By how much each atom of the region feels the correction, shape=(n_region,)."""
    given = getattr(correction, "weights", None)
    if given is None:
        return np.ones(len(cluster.region))
    weights = np.zeros(len(cluster.region))
    weights[: cluster.n_quantum] = given
    return weights


def _pairs(cluster: Cluster, rules: BondRules):
    """Bonds and pairs of second neighbours in the region, each once: columns i, j, shift, shape=(m, 5)."""
    crystal = Crystal(cluster.numbers, cluster.reference, cluster.host_cell, cluster.pbc)
    bonds = local_bonds(crystal, np.arange(len(crystal)), rules)
    ends = cluster.reference[bonds.i] + bonds.vector - cluster.reference[bonds.j]
    shift = np.rint(ends @ np.linalg.inv(cluster.host_cell)).astype(int)
    second = np.column_stack(second_neighbours(bonds.i, bonds.j, shift))
    return once(np.column_stack([bonds.i, bonds.j, shift])), second
