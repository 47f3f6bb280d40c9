"""Sums over all interactions of charges and dipoles: near pairs one by one, everything else by a sum that knows no damping.

In empty space the near pairs are left out of the other sum. In a cell that sum is the smooth part of Ewald's, which has
them as Gaussians, so each pair counts with its own tensors minus the Gaussians': B_n(damped) - B_n(Gaussian), which is
the usual erfc where nothing is damped, and minus B_n(Gaussian) for a pair that does not interact.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from matscipy.neighbours import neighbour_list
from scipy.spatial import cKDTree

from solidqmmm.physics.electrostatics.isolated_sum import IsolatedSum
from solidqmmm.physics.electrostatics.smooth_sum import ExactSeries, MeshSeries, SmoothSum
from solidqmmm.physics.polarization.dipole_damping import THOLE_A, critical_distance, damped_tensors, reach
from solidqmmm.physics.polarization.pair_tensors import Pairs, gaussian_tensors

NEAR = 4.0  # angstrom: nearer pairs are always summed one by one, for accuracy
SAME_PLACE = 1e-6  # angstrom
MESH_CUTOFF = 9.0  # angstrom
EXPONENT = {
    "exact": 32.0,
    "mesh": 23.0,
}  # (s r)^2 at the cutoff of pairs, exp(-32) = 1e-14 and exp(-23) = 1e-10


class SiteSums:
    """Fields and forces among sites, in units of 4 pi eps0 = 1.

    Args:
        near: Near pairs with the tensors that the other sum lacks.
        far: The other sum.
        interacting: Which near pairs interact, mask, shape=(m,).
        polarizable: Sites that may have dipoles, shape=(k,).
    """

    def __init__(self, near: Pairs, far: IsolatedSum | SmoothSum, interacting, polarizable):
        self.near, self.far, self.interacting, self.polarizable = near, far, interacting, polarizable

    def fields_of_charges(self, charges) -> np.ndarray:
        """At all sites in e/angstrom^2, shape=(n, 3)."""
        return self.far.fields(charges, None) + self.near.fields_of_charges(charges)

    def fields_of_dipoles(self, dipoles) -> np.ndarray:
        """Among the polarizable sites, in e/angstrom^2, dipoles and fields of shape=(k, 3)."""
        return self._among.fields(None, dipoles) + (self._near_matrix @ dipoles.reshape(-1)).reshape(-1, 3)

    def energy_of_charges(self, charges) -> float:
        """Energy in e^2/angstrom of charges in e, shape=(n,)."""
        return self.far.energy_of_charges(charges) + self.near.energy_of_charges(charges)

    def forces(self, charges, dipoles) -> tuple[np.ndarray, np.ndarray]:
        """Forces in e^2/angstrom^2, shape=(n, 3), and sum of x (outer) F in e^2/angstrom, shape=(3, 3)."""
        (F_far, W_far), (F_near, W_near) = (
            self.far.forces(charges, dipoles),
            self.near.forces(charges, dipoles),
        )
        return F_far + F_near, W_far + W_near

    def near_product(self, dipoles) -> np.ndarray:
        """The part of near pairs alone in the field of dipoles, a block of columns of shape=(3 k, m)."""
        return self._near_matrix @ dipoles

    def matrix(self) -> np.ndarray:
        """T between the dipoles of the polarizable sites in angstrom^-3, shape=(3 k, 3 k)."""
        return self._among.matrix() + self._near_matrix.toarray()

    @cached_property
    def _among(self):
        return self.far if len(self.polarizable) == self.near.n else self.far.among(self.polarizable)

    @cached_property
    def _near_matrix(self):
        return self.near.matrix(self.polarizable)


def isolated_sums(positions, polarizabilities, excluded, damping, thole_a: float = THOLE_A) -> SiteSums:
    """The sums in empty space.

    Args:
        positions: In angstrom, shape=(n, 3).
        polarizabilities: In angstrom^3, shape=(n,).
        excluded: Pairs i < j that do not interact, shape=(m, 2).
        damping, thole_a: As in `dipole_damping.factors`.

    Raises:
        ValueError: For sites at the same place that are not excluded.
    """
    n = len(positions)
    found = cKDTree(positions).query_pairs(
        _least_cutoff(polarizabilities, damping, thole_a), output_type="ndarray"
    )
    numbers = np.unique(np.concatenate([np.sort(found, axis=1) @ [n, 1], excluded @ [n, 1]]).astype(int))
    i, j = numbers // n, numbers % n
    interacting = ~np.isin(numbers, excluded @ [n, 1])
    near = _pairs(i, j, positions[i] - positions[j], interacting, polarizabilities, damping, thole_a, None)
    return SiteSums(
        near, IsolatedSum(positions, np.column_stack([i, j])), interacting, np.flatnonzero(polarizabilities)
    )


def periodic_sums(
    positions, polarizabilities, excluded, damping, thole_a: float, cell, *, exact: bool
) -> SiteSums:
    """The sums in a cell: an exact Fourier series, or a mesh for many sites. Arguments as in `isolated_sums`.

    Raises:
        ValueError: For excluded pairs farther apart than the sums' cutoff.
    """
    volume = abs(np.linalg.det(cell))
    cutoff = np.clip(volume ** (1 / 3), 6.0, 14.0) if exact else MESH_CUTOFF
    cutoff = max(cutoff, _least_cutoff(polarizabilities, damping, thole_a))
    screening = np.sqrt(EXPONENT["exact" if exact else "mesh"]) / cutoff
    inside = positions - np.floor(positions @ np.linalg.inv(cell)) @ cell
    i, j, r, shift = neighbour_list("ijDS", positions=inside, cell=cell, pbc=[True] * 3, cutoff=cutoff)
    once = (i < j) | ((i == j) & (shift @ [1_000_000, 1_000, 1] > 0))
    i, j, r = i[once], j[once], -r[once]
    interacting = np.ones(len(i), dtype=bool)
    for a, b in excluded:
        images = np.flatnonzero((i == a) & (j == b))
        if not len(images):
            raise ValueError(
                f"excluded sites {a} and {b} must be nearer than {cutoff:.3g} angstrom to each other"
            )
        interacting[images[np.argmin(np.linalg.norm(r[images], axis=1))]] = False
    near = _pairs(i, j, r, interacting, polarizabilities, damping, thole_a, screening)
    if exact:
        series = ExactSeries(positions, cell, screening, EXPONENT["exact"])
    else:
        series = MeshSeries(positions, cell, screening)
    return SiteSums(near, SmoothSum(series, volume, screening), interacting, np.flatnonzero(polarizabilities))


def _least_cutoff(polarizabilities, damping, thole_a):
    largest = polarizabilities.max()
    return max(NEAR, float(reach(largest**2, damping, thole_a)), 1.001 * critical_distance(largest, largest))


def _pairs(i, j, r, interacting, polarizabilities, damping, thole_a, screening) -> Pairs:
    distances = np.linalg.norm(r, axis=1)
    together = np.flatnonzero((distances < SAME_PLACE) & interacting)
    if len(together):
        k = together[0]
        raise ValueError(
            f"sites {i[k]} and {j[k]} are at the same place, so that their interaction is infinite; exclude the pair "
            "(`excluded`) if they are parts of one ion"
        )
    safe = np.where(interacting, distances, 1.0)
    bare = damped_tensors(safe, np.zeros(len(i)), None)[:2]
    damped = damped_tensors(safe, polarizabilities[i] * polarizabilities[j], damping, thole_a)[1:]
    C, B = np.array(bare) * interacting, np.array(damped) * interacting
    if screening is not None:
        smooth = np.array(gaussian_tensors(distances, screening))
        C, B = C - smooth[:2], B - smooth[1:]
    return Pairs(i, j, r, C, B, len(polarizabilities))
