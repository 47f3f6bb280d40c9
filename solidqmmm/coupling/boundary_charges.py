"""Which charges lie beside the link atoms of a cluster, and where in the crystal they are moved.

The bonds are those at carving, with the images that are bonded; the schemes are those of
physics/electrostatics/charge_redistribution. It is what the quantum electrons are shown that is moved. The host's own ions
interact with each other as before, and other images of the same atoms keep their charges.

A cluster whose bonds link atoms close has another charge than the host's charges leave for it: in silica Si(OH)4 has none,
and the crystal without its SiO4 has +2.4 e with partial charges. Before anything is moved, the difference is shared by the
atoms Y, one share for each cut bond: the balanced charges of B. Wang and D. G. Truhlar, J. Chem. Theory Comput. 6, 359
(2010). Where charges are sums over bonds, as in silica, every Y is left with those of its other bonds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solidqmmm.physics.electrostatics.charge_redistribution import (
    SCHEMES,
    RedistributedCharges,
    redistributed,
)
from solidqmmm.system.bonds import BondRules, local_bonds
from solidqmmm.system.cluster import Cluster
from solidqmmm.system.crystal import Crystal

_SAME = 1e-3  # angstrom


@dataclass(frozen=True, eq=False)
class BoundaryCharges:
    """Host atoms Y of capped bonds, each with the image that is bonded, and their neighbours.

    Attributes:
        scheme: "none", "delete", "shift", "rc" or "rcd".
        atoms: Host indices of the atoms Y, shape=(n,).
        shares: What is added to the charge of each before it is moved, in e, shape=(n,).
        positions: Of the images of Y that are bonded to the cluster, at carving, in angstrom, shape=(n, 3).
        bonds: Which Y each bond Y-Z starts at, shape=(m,).
        neighbours: Host indices of Z, shape=(m,).
        vectors: From Y to Z at carving in angstrom, shape=(m, 3).
    """

    scheme: str
    atoms: np.ndarray
    shares: np.ndarray
    positions: np.ndarray
    bonds: np.ndarray
    neighbours: np.ndarray
    vectors: np.ndarray

    @classmethod
    def of(
        cls, cluster: Cluster, crystal: Crystal, rules: BondRules, scheme: str, *, balance: float = 0.0
    ) -> BoundaryCharges:
        """Those of the link atoms of `cluster`, which was carved out of `crystal`.

        Args:
            cluster, crystal: See above.
            rules: Who is bonded.
            scheme: "none" (nothing is moved) or one of `charge_redistribution.SCHEMES`.
            balance: What the host's charges leave for the cluster beyond its own, in e; the atoms Y share it.

        Raises:
            ValueError: For an unknown scheme, or a cluster without link atoms.
        """
        if scheme not in ("none", *SCHEMES):
            raise ValueError(f"`scheme` must be one of {('none', *SCHEMES)}, got {scheme!r}")
        caps = cluster.caps
        if not len(caps):
            raise ValueError(
                f"boundary charges ('{scheme}') are those beside link atoms, and this cluster has none: caps: "
                "{kind: hydrogen}, or boundary_charges: none"
            )
        ends, cut = np.unique(np.column_stack([caps.outer, caps.shift]), axis=0, return_counts=True)
        atoms = cluster.region[ends[:, 0]]
        positions = cluster.reference[ends[:, 0]] + ends[:, 1:] @ cluster.host_cell
        around = local_bonds(crystal, np.unique(atoms), rules)
        bonds, found = [], []
        for k, atom in enumerate(atoms):
            rows = np.flatnonzero(around.i == atom)
            bonds.append(np.full(len(rows), k))
            found.append(rows)
        found = np.concatenate(found)
        shares = balance * cut / cut.sum()
        return cls(scheme, atoms, shares, positions, np.concatenate(bonds), around.j[found], around.vector[found])

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
        charges = np.array(charges, dtype=float)
        charges[Y] += self.shares
        if self.scheme == "none":
            return RedistributedCharges.unchanged(charges)
        distance, Z = tree.query(self.positions[self.bonds] + self.vectors)
        # Who is not explicit belongs to the cluster.
        there = distance < _SAME
        there[there] &= sites[Z[there]] == self.neighbours[there]
        return redistributed(charges, Y, np.column_stack([Y[self.bonds], Z])[there], self.scheme)
