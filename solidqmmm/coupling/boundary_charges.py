"""Which charges lie beside the link atoms of a cluster, and where in the crystal they are moved.

The bonds are those at carving, with the images that are bonded; the schemes are those of physics/charge_redistribution. It
is what the quantum electrons are shown that is moved. The host's own ions interact with each other as before, and other
images of the same atoms keep their charges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solidqmmm.physics.charge_redistribution import SCHEMES, RedistributedCharges, redistributed
from solidqmmm.system.bonds import BondRules, local_bonds
from solidqmmm.system.cluster import Cluster
from solidqmmm.system.crystal import Crystal

_SAME = 1e-3  # angstrom


@dataclass(frozen=True, eq=False)
class BoundaryCharges:
    """Host atoms Y of capped bonds, each with the image that is bonded, and their neighbours.

    Attributes:
        scheme: "delete", "shift", "rc" or "rcd".
        atoms: Host indices of the atoms Y, shape=(n,).
        positions: Of the images of Y that are bonded to the cluster, at carving, in angstrom, shape=(n, 3).
        bonds: Which Y each bond Y-Z starts at, shape=(m,).
        neighbours: Host indices of Z, shape=(m,).
        vectors: From Y to Z at carving in angstrom, shape=(m, 3).
    """

    scheme: str
    atoms: np.ndarray
    positions: np.ndarray
    bonds: np.ndarray
    neighbours: np.ndarray
    vectors: np.ndarray

    @classmethod
    def of(cls, cluster: Cluster, crystal: Crystal, rules: BondRules, scheme: str) -> BoundaryCharges:
        """Those of the link atoms of `cluster`, which was carved out of `crystal`.

        Raises:
            ValueError: For an unknown scheme, or a cluster without link atoms.
        """
        if scheme not in SCHEMES:
            raise ValueError(f"`scheme` must be one of {SCHEMES}, got {scheme!r}")
        caps = cluster.caps
        if not len(caps):
            raise ValueError(
                f"boundary charges ('{scheme}') are those beside link atoms, and this cluster has none: caps: "
                "{kind: hydrogen}, or boundary_charges: none"
            )
        ends = np.unique(np.column_stack([caps.outer, caps.shift]), axis=0)
        atoms = cluster.region[ends[:, 0]]
        positions = cluster.reference[ends[:, 0]] + ends[:, 1:] @ cluster.host_cell
        around = local_bonds(crystal, np.unique(atoms), rules)
        bonds, found = [], []
        for k, atom in enumerate(atoms):
            rows = np.flatnonzero(around.i == atom)
            bonds.append(np.full(len(rows), k))
            found.append(rows)
        found = np.concatenate(found)
        return cls(scheme, atoms, positions, np.concatenate(bonds), around.j[found], around.vector[found])

    def among(self, sites, positions, charges) -> RedistributedCharges:
        """The charges of explicit sites with those of Y moved.

        Args:
            sites: Host index of each site, shape=(n_sites,).
            positions: Where they are at carving in angstrom, shape=(n_sites, 3).
            charges: In e, shape=(n_sites,).

        Raises:
            ValueError: For a charge that has nowhere to go.
        """
        from scipy.spatial import cKDTree

        tree = cKDTree(positions)
        distance, Y = tree.query(self.positions)
        if distance.max() > _SAME or (sites[Y] != self.atoms).any():
            raise ValueError("an atom beside a link atom is not among the explicit charges: give them a longer reach")
        distance, Z = tree.query(self.positions[self.bonds] + self.vectors)
        # Who is not explicit belongs to the cluster.
        there = distance < _SAME
        there[there] &= sites[Z[there]] == self.neighbours[there]
        return redistributed(charges, Y, np.column_stack([Y[self.bonds], Z])[there], self.scheme)
