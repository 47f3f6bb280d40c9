"""Subtractive (ONIOM-like) coupling: E = E_MM(all) + E_QM(cluster) - E_MM(cluster).

It has an energy, and its forces are the exact gradient of it, caps included. The caps of the quantum side have no
parameters in the host's potential; on the classical side they are stood for, by choice, by

- ``"host_bond"`` (default): an atom of the removed neighbour's own species, held on the same bond at the host's own bond
  length. What the quantum cap does to angles is thereby subtracted, while the stretch of the cut bond itself stays in
  E_MM(all), where it belongs; in the perfect crystal the classical cluster is a cut-out of the crystal.
- ``"bare"``: nothing. The cut bonds then keep their classical angles on top of the quantum cap's.

An optional dead load F0 subtracts the spurious forces that the scheme exerts on the atoms of the *perfect* crystal,

    E_dead = sum_i F0_i . (x_i - x0_i),   F_i = -F0_i,

so that the patch test holds at zero strain and an energy is kept; x0 follows the cell affinely, so that the displacements
x - x0 do not depend on which periodic images were chosen (ghost-force correction: M. Dobson and M. Luskin, ESAIM: M2AN 42,
113 (2008)). Source of the scheme: F. Maseras and K. Morokuma, J. Comput. Chem. 16, 1170 (1995).
"""

from __future__ import annotations

import numpy as np

from solidqmmm.coupling.quantum_side import OfCluster, QuantumSide
from solidqmmm.engines.protocols import Contribution, Engine
from solidqmmm.system.cluster import Cluster, LinkAtoms

CLASSICAL_CAPS = ("host_bond", "bare")


class Subtractive(OfCluster):
    """The correction E_QM(cluster) - E_MM(cluster).

    Args:
        cluster: The carved cluster.
        engine: The expensive description.
        classical: The host's potential as an engine for clusters.
        energy_scale: beta of the lattice matching.
        classical_caps: "host_bond" or "bare", see the module's text.
        dead_load: F0 in eV/angstrom, shape=(n_region, 3), or None.

    Raises:
        ValueError: For an unknown `classical_caps`, or "host_bond" where two caps share one removed atom.
    """

    name = "subtractive"
    has_energy = True
    needs_host_forces = False

    def __init__(
        self,
        cluster: Cluster,
        engine: Engine,
        classical: Engine,
        *,
        energy_scale: float = 1.0,
        classical_caps: str = "host_bond",
        dead_load=None,
    ):
        if classical_caps not in CLASSICAL_CAPS:
            raise ValueError(f"`classical_caps` must be one of {CLASSICAL_CAPS}, got {classical_caps!r}")
        self.cluster = cluster
        self.quantum = QuantumSide(cluster, engine, energy_scale=energy_scale)
        self.classical = QuantumSide(classical_cluster(cluster, classical_caps), classical)
        self.classical_caps = classical_caps
        self.dead_load = None if dead_load is None else np.asarray(dead_load, dtype=float)

    def with_dead_load(self, forces) -> Subtractive:
        """The same correction minus the dead load `forces`, eV/angstrom, shape=(n_region, 3)."""
        twin = object.__new__(Subtractive)
        twin.__dict__.update(self.__dict__, dead_load=np.asarray(forces, dtype=float))
        return twin

    def foresee(self, positions, cell):
        """Where the region will be asked next, for engines that can begin with it; as `Correction.evaluate`."""
        self.quantum.foresee(positions, cell)

    def evaluate(self, positions, cell, host_forces=None) -> Contribution:
        """E_QM - E_MM of the cluster at contiguous `positions` of the region, angstrom, shape=(n_region, 3)."""
        del host_forces
        # The host's own part first: an engine on other ranks may be at work meanwhile.
        classical = self.classical.evaluate(positions, cell)
        quantum = self.quantum.evaluate(positions, cell)
        terms = {"qm_cluster": quantum.energy, "mm_cluster": -classical.energy}
        forces = quantum.forces - classical.forces
        virial = None
        if quantum.virial is not None and classical.virial is not None:
            virial = quantum.virial - classical.virial
        if self.dead_load is not None:
            displacements = positions - self.cluster.reference_in(cell)
            terms["ghost_force"] = float((self.dead_load * displacements).sum())
            forces = forces - self.dead_load
            virial = None if virial is None else virial - displacements.T @ self.dead_load
        return Contribution(forces=forces, energy=sum(terms.values()), virial=virial, terms=terms)


def classical_cluster(cluster: Cluster, classical_caps: str) -> Cluster:
    """The cluster as the host's potential sees it: unstretched, with the classical stand-ins of the caps.

    Raises:
        ValueError: If two caps stand for the same removed atom and classical stand-ins are asked for.
    """
    caps = LinkAtoms.none()
    if classical_caps == "host_bond" and len(cluster.caps):
        # Also caps on different images of one removed atom: the cluster is periodic along the shift between them.
        if len(np.unique(cluster.caps.outer)) < len(cluster.caps):
            raise ValueError(
                "classical_caps 'host_bond' puts an atom where each removed neighbour was, and two caps of this cluster "
                "share one: carve with clashing: include, or choose classical_caps: bare"
            )
        caps = cluster.caps.with_classical(cluster.numbers[cluster.caps.outer])
    return cluster.unstretched().with_caps(caps)
