"""The expensive description of a cluster, seen from the host: E, forces and virial of the region's atoms.

With the lattice matching (A, beta) the engine sees the stretched cluster and its energy counts beta-fold,

    E(x) = beta E_engine(x A),    F = beta F_engine A^T,

so that its lattice parameter and bulk modulus become those of the host (rescaled potentials; see procedures/match).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solidqmmm.engines.protocols import Engine, Evaluation
from solidqmmm.system.cluster import Cluster


@dataclass(frozen=True, eq=False)
class RegionEvaluation:
    """What an engine says about a cluster, on the region's atoms.

    Attributes:
        energy: beta E_engine in eV.
        forces: Gradient forces on the region (caps pulled back by the chain rule), eV/angstrom, shape=(n_region, 3).
        bare_forces: Forces on the quantum atoms alone, caps' forces left where they are, shape=(n_quantum, 3).
        virial: Sum of x (outer) F in eV, whose symmetric part is -dE/d(strain), shape=(3, 3), or None where a periodic
            engine gives no stress.
    """

    energy: float
    forces: np.ndarray
    bare_forces: np.ndarray
    virial: np.ndarray | None


class OfCluster:
    """What every correction on the region of a carved `cluster` says of itself."""

    cluster: Cluster

    @property
    def atoms(self) -> np.ndarray:
        """Host indices of the region, shape=(n_region,)."""
        return self.cluster.region

    @property
    def reference(self) -> np.ndarray:
        """Contiguous positions of the region at carving in angstrom, shape=(n_region, 3)."""
        return self.cluster.reference


class QuantumSide:
    """An engine bound to a cluster. Repeated calls with the same positions cost nothing.

    Args:
        cluster: The carved cluster; its `stretch` is the matching A.
        engine: The engine.
        energy_scale: beta of the matching.
    """

    def __init__(self, cluster: Cluster, engine: Engine, *, energy_scale: float = 1.0):
        self.cluster = cluster
        self.engine = engine
        self.energy_scale = float(energy_scale)
        self.evaluations = 0
        self.last: Evaluation | None = None
        self._seen = None

    def foresee(self, positions, cell):
        """Has an engine on other ranks begin with what will be asked next, as `evaluate`.

        Other engines hear nothing of it.
        """
        begin = getattr(self.engine, "begin", None)
        if begin is None:
            return
        atoms = self.cluster.to_atoms(positions, cell)
        if not self._knows(atoms):
            begin(atoms, stress=self._wants_stress)

    @property
    def _wants_stress(self) -> bool:
        return bool(self.cluster.periodic_axes) and self.engine.provides_stress

    def evaluate(self, positions, cell) -> RegionEvaluation:
        """The engine's answer.

        Args:
            positions: Of the region, contiguous, in angstrom, shape=(n_region, 3).
            cell: The host's present cell in angstrom, shape=(3, 3).
        """
        cluster, beta = self.cluster, self.energy_scale
        atoms = cluster.to_atoms(positions, cell)
        if not self._knows(atoms):
            self.last = self.engine.evaluate(atoms, stress=self._wants_stress)
            self._seen = atoms
            self.evaluations += 1
        answer = self.last
        forces = beta * cluster.region_forces(answer.forces, positions, cell)
        return RegionEvaluation(
            energy=beta * answer.energy,
            forces=forces,
            bare_forces=beta * answer.forces[: cluster.n_quantum] @ cluster.stretch.T,
            virial=self._virial(atoms, answer, forces, positions, cell),
        )

    def _knows(self, atoms) -> bool:
        """Whether these are the last atoms, up to the rounding of periodic images and rotations of the frame."""
        return self._seen is not None and all(
            np.abs(new - old).max() < 1e-10
            for new, old in ((atoms.positions, self._seen.positions), (atoms.cell.array, self._seen.cell.array))
        )

    def _virial(self, atoms, answer, forces, positions, cell):
        cluster, beta = self.cluster, self.energy_scale
        # Atoms: sum of x (outer) F, the cut partners Y at the image that is bonded.
        virial = positions.T @ forces
        if len(cluster.caps):
            virial = virial + beta * cluster.image_virial(answer.forces, positions, cell)
        if not cluster.periodic_axes:
            return virial
        if answer.stress is None:
            return None
        # Cell: what the engine's stress holds beyond its atoms, for the vectors that follow the host's strain.
        # The explicit dependence on the cell vectors h_k is D_ij = -sum_k (dE/dh_k)_i h_kj; only periodic k are kept.
        h = atoms.cell.array
        explicit = -atoms.get_volume() * answer.stress - answer.forces.T @ atoms.positions
        gradient = -(explicit @ np.linalg.inv(h)).T
        axes = list(cluster.periodic_axes)
        kept = -gradient[axes].T @ h[axes]
        A = cluster.stretch
        return virial + beta * (A @ kept @ np.linalg.inv(A)).T
