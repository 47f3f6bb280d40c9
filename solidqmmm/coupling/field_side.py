"""A cluster's engine among external charges: what is asked once is not computed twice."""

from __future__ import annotations

import numpy as np

from solidqmmm.coupling.surroundings import Arrangement
from solidqmmm.engines.outer_loop import OuterLoop
from solidqmmm.engines.protocols import FieldEngine, FieldEvaluation
from solidqmmm.system.cluster import Cluster
from solidqmmm.system.point_charges import PointCharges, RepulsiveCores, require_apart


class FieldSide:
    """An engine bound to a cluster, in the field of surroundings.

    Args:
        cluster: The carved cluster, without lattice matching.
        engine: The engine; one that asks no environment inside its own cycle goes through an `OuterLoop`.

    Raises:
        TypeError: For an engine that cannot feel external charges.
        ValueError: For a stretched cluster.
    """

    def __init__(self, cluster: Cluster, engine: FieldEngine):
        if not isinstance(engine, FieldEngine):
            raise TypeError(
                f"the engine '{engine.name}' cannot feel external charges: choose qm: {{engine: gpaw}} or "
                "{engine: pyscf}, or coupling: mechanical"
            )
        if not np.array_equal(cluster.stretch, np.eye(3)):
            raise ValueError("electrostatic embedding has no lattice matching: charges are not stretched; matching: none")
        if cluster.periodic_axes:
            raise ValueError("electrostatic embedding is for clusters that are not periodic: caps: {periodic_axes: []}")
        self.cluster = cluster
        self.engine = engine if "dipoles" in engine.field_capabilities else OuterLoop(engine)
        self.evaluations = 0
        self.last: FieldEvaluation | None = None
        self._seen = None

    def evaluate(
        self, positions, cell, arrangement: Arrangement, *, response=None, cores: RepulsiveCores | None = None
    ) -> FieldEvaluation:
        """The engine's answer at contiguous `positions` of the region, in angstrom, shape=(n_region, 3)."""
        atoms = self.cluster.to_atoms(positions, cell)
        offset = self.cluster.offset
        given = arrangement.permanent
        charges = PointCharges(given.positions + offset, given.charges, given.widths)
        state = np.concatenate([atoms.positions.ravel(), charges.positions.ravel(), charges.charges])
        if self._seen is None or len(state) != len(self._seen) or np.abs(state - self._seen).max() > 1e-10:
            require_apart(atoms.positions, charges)
            if cores is not None:
                cores = RepulsiveCores(cores.positions + offset, cores.heights, cores.widths)
            self.last = self.engine.evaluate_in_field(atoms, charges, response=response, cores=cores)
            self._seen = state
            self.evaluations += 1
        return self.last
