"""A point defect, and the map between the crystal with it and the crystal without."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers

from solidqmmm.errors import StructureError
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.partition import BUFFER, CORE, HOST, Partition
from solidqmmm.system.vacant_sites import VacantSites

KINDS = ("vacancy", "substitution", "interstitial")


@dataclass(frozen=True, eq=False)
class Defect:
    """One point defect in a supercell.

    Attributes:
        kind: "vacancy", "substitution" or "interstitial".
        site: Index in the perfect crystal of the atom that is removed or replaced; -1 for interstitials.
        element: Species that is removed (vacancy) or put in (substitution, interstitial).
        replaced: Species of the replaced atom (substitution), else "".
        position: Ideal position of the defect in angstrom, shape=(3,).

    Raises:
        StructureError: For an unknown kind.
    """

    kind: str
    site: int
    element: str
    replaced: str
    position: np.ndarray

    def __post_init__(self):
        if self.kind not in KINDS:
            raise StructureError(f"`kind` of a defect must be one of {', '.join(KINDS)}, got {self.kind!r}")
        position = np.array(self.position, dtype=float)
        position.flags.writeable = False
        object.__setattr__(self, "position", position)

    def applied_to(self, perfect: Crystal) -> Crystal:
        """The crystal with the defect."""
        if self.kind == "vacancy":
            return perfect.without(self.site)
        if self.kind == "substitution":
            return perfect.substituted(self.site, self.element)
        return perfect.with_extra(self.element, self.position)

    def atom(self, n_atoms: int) -> int | None:
        """Index of the defect's own atom in the crystal of `n_atoms` with the defect; None for a vacancy."""
        return {"vacancy": None, "substitution": self.site, "interstitial": n_atoms - 1}[self.kind]

    @property
    def vacant_sites(self) -> VacantSites:
        """The site that a vacancy leaves, in the perfect crystal; none for other defects."""
        if self.kind != "vacancy":
            return VacantSites()
        return VacantSites([atomic_numbers[self.element]], [self.position])

    def to_perfect(self, indices) -> np.ndarray:
        """Indices in the perfect crystal of atoms of the crystal with the defect, shape=(m,); -1 for an interstitial's
        own atom.
        """
        indices = np.asarray(indices, dtype=int)
        if self.kind == "vacancy":
            return indices + (indices >= self.site)
        return indices

    def perfect_partition(self, partition: Partition) -> Partition:
        """The partition of the perfect crystal that has the same atoms quantum, the removed atom among the core."""
        if self.kind == "interstitial":
            return Partition(partition.labels[:-1], partition.centre)
        if self.kind == "substitution":
            return partition
        labels = np.insert(partition.labels, self.site, CORE)
        if not ((partition.labels == CORE) | (partition.labels == BUFFER)).any():
            labels[self.site] = HOST
        return Partition(labels, partition.centre)

    def particle_balance(self) -> dict[str, int]:
        """Atoms by species that the crystal gained (+) or lost (-) with the defect."""
        if self.kind == "vacancy":
            return {self.element: -1}
        if self.kind == "substitution":
            return {self.element: 1, self.replaced: -1}
        return {self.element: 1}
