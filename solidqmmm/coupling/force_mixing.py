"""Force mixing: quantum forces on the core, classical ones elsewhere, a buffer in between.

    Delta F_i = w_i (F_QM,i - F_MM,i) - correction of the net force

w is 1 on the core. In the abrupt form it is 0 on the buffer; in the smooth form it falls over the buffer. The forces are no
gradient, so there is no energy and no virial: they are absent, not zero. Energies along a path follow from integrated work.

The net force sum_i Delta F_i would drag the crystal; it is removed by choice:

- ``"core"`` (default): in proportion to w, from the atoms that are mixed;
- ``"region"``: in equal parts, from all quantum atoms;
- ``"none"``: left in. `removed_net_force` holds what the last evaluation had before removal, whatever the choice.

Source: N. Bernstein, J. R. Kermode and G. Csanyi, Rep. Prog. Phys. 72, 026501 (2009).
"""

from __future__ import annotations

import numpy as np

from solidqmmm.coupling.quantum_side import OfCluster, QuantumSide
from solidqmmm.engines.protocols import Contribution, Engine
from solidqmmm.system.cluster import Cluster

NET_FORCE = ("core", "region", "none")


class ForceMixing(OfCluster):
    """The correction that replaces the host's forces on the core by the engine's.

    Args:
        cluster: The carved cluster.
        engine: The expensive description.
        weights: w of each quantum atom, shape=(n_quantum,); None for the abrupt form (1 on the core, 0 on the buffer).
        energy_scale: beta of the lattice matching.
        net_force: From which atoms the net force is removed: "core", "region" or "none".

    Raises:
        ValueError: For weights outside [0, 1] or of the wrong length, or an unknown `net_force`.
    """

    name = "force_mixing"
    has_energy = False
    needs_host_forces = True

    def __init__(
        self,
        cluster: Cluster,
        engine: Engine,
        *,
        weights=None,
        energy_scale: float = 1.0,
        net_force: str = "core",
    ):
        if net_force not in NET_FORCE:
            raise ValueError(f"`net_force` must be one of {NET_FORCE}, got {net_force!r}")
        w = cluster.core.astype(float) if weights is None else np.array(weights, dtype=float)
        if w.shape != (cluster.n_quantum,) or w.min() < 0 or w.max() > 1:
            raise ValueError(f"`weights` must lie in [0, 1], one for each of the {cluster.n_quantum} quantum atoms")
        self.cluster = cluster
        self.weights = w
        self.net_force = net_force
        self.quantum = QuantumSide(cluster, engine, energy_scale=energy_scale)
        self.removed_net_force = np.zeros(3)

    def foresee(self, positions, cell):
        """Where the region will be asked next, for engines that can begin with it; as `Correction.evaluate`."""
        self.quantum.foresee(positions, cell)

    def evaluate(self, positions, cell, host_forces=None) -> Contribution:
        """Delta F at contiguous `positions` of the region; `host_forces` in eV/angstrom, shape=(n_region, 3)."""
        n = self.cluster.n_quantum
        delta = self.weights[:, None] * (self.quantum.evaluate(positions, cell).bare_forces - host_forces[:n])
        self.removed_net_force = delta.sum(axis=0)
        share = {
            "core": self.weights / self.weights.sum(),
            "region": np.full(n, 1.0 / n),
            "none": np.zeros(n),
        }[self.net_force]
        forces = np.zeros((len(self.atoms), 3))
        forces[:n] = delta - share[:, None] * self.removed_net_force
        return Contribution(forces=forces)


def smooth_weights(depth) -> np.ndarray:
    """w = cos^2(pi/2 s) over the buffer, s = 0 at the core and 1 at the outer edge of the buffer; dimensionless,
    shape=(n,).

    Args:
        depth: s of each quantum atom, 0 for core atoms, shape=(n,).
    """
    return np.cos(0.5 * np.pi * np.clip(depth, 0.0, 1.0)) ** 2
