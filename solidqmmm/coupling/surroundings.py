"""The charges of an infinite crystal as a quantum cluster in it feels them.

The host is periodic, the cluster is there once. Its electrons feel the lattice sum of all charges but the cluster's own,

    phi(r) = sum_j sum_n q_j k/|r - r_j - n| - sum_(j in cluster) q_j k/|r - r_j|,

in which images of the cluster are made of `image charges` on its atoms. What lies within the reach of the region is
explicit (sites with an image each, chosen once, so that energies are smooth functions of the positions); the rest is
carried by charges on a sphere around it (physics/electrostatics/far_field), which follow the positions of all ions. Forces
on every ion are the exact gradient.

The uniform background of a charged crystal has a potential in the region that no charges outside can have; it acts on the
cluster's classical charges instead. What that makes wrong falls as 1/V, and extrapolations to infinite cells remove it.

Beside link atoms explicit charges may be moved (see `boundary_charges`); what is far is not concerned.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from solidqmmm.coupling.boundary_charges import BoundaryCharges
from solidqmmm.physics.electrostatics.charge_redistribution import RedistributedCharges
from solidqmmm.physics.electrostatics.coulomb import coulomb_energy, coulomb_potential
from solidqmmm.physics.electrostatics.ewald import COULOMB, ewald_energy, ewald_potential
from solidqmmm.physics.electrostatics.far_field import FarFieldSphere, evenly_on_sphere
from solidqmmm.physics.geometry import perpendicular_widths
from solidqmmm.system.point_charges import PointCharges

# Angstrom beyond the outermost atom of the cluster in which its electron density lives.
DENSITY_MARGIN = 3.0
# From there to where charges are no longer explicit.
REACH = 6.0
# Points around every quantum atom at which the potential is checked, and how far from it they are (angstrom).
_PROBES, _PROBE = 12, 1.3


class Surroundings:
    """Everything about the charges around a cluster that does not change while atoms move.

    Args:
        reference: Positions of the host's particles in angstrom, those of the cluster contiguous, shape=(n, 3).
        cell: Cell of the host in angstrom, shape=(3, 3).
        pbc: Periodic directions, all or none, shape=(3,).
        charges: In e, those of the cluster's atoms being what their images carry, shape=(n,).
        quantum: Indices of the cluster's atoms.
        centred: Further image charge in e at the middle of the cluster (a vacancy has no atom that could carry it).
        extent: Distance from the middle to the outermost atom that the engine sees, caps included, angstrom.
        width: Gaussian width of explicit charges in angstrom, 0 for points.
        reach: See the module; angstrom.
        n_sites: Charges on the sphere.
        boundary: Charges beside link atoms that are moved, or None.

    Raises:
        ValueError: For a host that is periodic along some directions only; for a boundary charge that cannot be moved.
    """

    def __init__(
        self, reference, cell, pbc, charges, quantum, *, centred=0.0, extent=None, width=0.0, reach=REACH,
        n_sites=400, boundary: BoundaryCharges | None = None,
    ):  # fmt: skip
        pbc = np.asarray(pbc, dtype=bool)
        if pbc.any() and not pbc.all():
            raise ValueError(
                "electrostatic embedding needs a host that is periodic in all directions or in none: put vacuum into the "
                f"cell of a slab and make it periodic, got pbc {pbc.tolist()}"
            )
        self.periodic = bool(pbc.all())
        self.quantum = np.asarray(quantum, dtype=int)
        # One more site in the middle of the cluster, which follows its atoms.
        self.charges = np.append(np.asarray(charges, dtype=float), centred)
        self.n = len(self.charges) - 1
        self.home = np.append(self.quantum, self.n)
        reference = self._with_middle(np.asarray(reference, dtype=float))
        middle = reference[-1]
        distance = np.linalg.norm(reference[self.quantum] - middle, axis=1).max()
        self.radius = max(distance, extent or 0.0) + DENSITY_MARGIN
        self.explicit, self.shift = self._within(reference, np.asarray(cell, dtype=float), self.radius + reach)
        self.shown = RedistributedCharges.unchanged(self.charges[self.explicit])
        if boundary is not None:
            where = reference[self.explicit] + self.shift @ np.asarray(cell, dtype=float)
            self.shown = boundary.among(self.explicit, where, self.charges[self.explicit])
        self.n_near = len(self.explicit) + len(self.shown.added)
        self.width = float(width)
        self.sphere = None
        if self.periodic:
            self.sphere = FarFieldSphere.around(np.zeros(3), self.radius, self.radius + reach, n_sites)

    @property
    def n_sites(self) -> int:
        """Number of charges that the engine is given: explicit ones, `n_near` with those added, then those on the sphere."""
        return self.n_near + (0 if self.sphere is None else len(self.sphere.sites))

    def at(self, positions, cell) -> Arrangement:
        """The charges at `positions` of the particles (cluster contiguous, shape=(n, 3)) in the host's `cell`."""
        return Arrangement(self, self._with_middle(np.asarray(positions, dtype=float)), np.asarray(cell, dtype=float))

    def _with_middle(self, positions) -> np.ndarray:
        return np.vstack([positions, positions[self.quantum].mean(axis=0)])

    def _within(self, reference, cell, reach):
        """Indices and lattice shifts of the sites within `reach` of the middle; without a lattice all but the cluster's."""
        if not self.periodic:
            others = np.setdiff1d(np.arange(self.n), self.quantum)
            return others, np.zeros((len(others), 3), dtype=int)
        middle = reference[-1]
        home = np.rint((reference - middle) @ np.linalg.inv(cell)).astype(int)
        counts = np.ceil(reach / perpendicular_widths(cell) + 0.5).astype(int)
        found = []
        for shift in np.stack(np.meshgrid(*(np.arange(-m, m + 1) for m in counts), indexing="ij"), -1).reshape(-1, 3):
            shifts = shift - home
            shifts[self.home] = shift
            near = np.linalg.norm(reference + shifts @ cell - middle, axis=1) < reach
            if not shift.any():
                near[self.home] = False
            found.append(np.column_stack([np.flatnonzero(near), shifts[near]]))
        found = np.vstack(found)
        if self.charges[-1] == 0:
            found = found[found[:, 0] < self.n]
        return found[:, 0], found[:, 1:]


@dataclass(frozen=True, eq=False)
class Arrangement:
    """Surroundings at given positions.

    Attributes:
        of: The surroundings.
        positions: Of all sites in angstrom, the middle of the cluster last, shape=(n + 1, 3).
        cell: In angstrom, shape=(3, 3).
    """

    of: Surroundings
    positions: np.ndarray
    cell: np.ndarray

    # --- what the engine is given -----------------------------------------------------------------------------

    @cached_property
    def explicit(self) -> np.ndarray:
        """Positions of the explicit charges in angstrom, shape=(n_explicit, 3)."""
        return self.positions[self.of.explicit] + self.of.shift @ self.cell

    @property
    def samples(self) -> np.ndarray:
        """Points on the inner sphere in angstrom, shape=(n_samples, 3)."""
        return self.of.sphere.samples + self.positions[-1]

    @cached_property
    def permanent(self) -> PointCharges:
        """Explicit charges, those added near the boundary and those on the sphere, in the host's coordinates."""
        shown = self.of.shown
        where = np.vstack([self.explicit, shown.points(self.explicit)])
        near = PointCharges(where, np.concatenate([shown.charges, shown.added]), self.of.width)
        return near if self.of.sphere is None else near.joined(self._carried)

    @cached_property
    def _carried(self) -> PointCharges:
        """The charges on the sphere."""
        harmonic = self._far_at_samples[0] - self._background * self.of.sphere.inner**2
        carried = self.of.sphere.charges(harmonic)
        return PointCharges(self.of.sphere.sites + self.positions[-1], carried)

    # --- far fields -------------------------------------------------------------------------------------------

    def far_potential(self, points, charges, dipoles=None, derivatives=1) -> tuple[np.ndarray, ...]:
        """Potential, field ... at `points` of the sites neither explicit nor the cluster's; units and shapes of
        `ewald_potential`.
        """
        every = ewald_potential(
            points, self.positions, charges, self.cell, dipoles=dipoles, derivatives=derivatives, background=True
        )
        copies, where = self._copies
        own = None if dipoles is None else dipoles[copies]
        near = coulomb_potential(points, where, charges[copies], dipoles=own, derivatives=derivatives)
        return tuple(a - b for a, b in zip(every, near, strict=True))

    @cached_property
    def _far_at_samples(self):
        """Potential and field of the far charges at the samples: one sum for the charges on the sphere and their forces."""
        return self.far_potential(self.samples, self.of.charges)

    def far_potential_of_dipoles(self, dipoles) -> np.ndarray:
        """At the samples in V, of dipoles alone: for the many times that they are asked for, shape=(n_samples,)."""
        every = ewald_potential(
            self.samples, self.positions, np.zeros(len(dipoles)), self.cell, dipoles=dipoles, derivatives=0
        )[0]
        return every - self._near_samples @ dipoles[self._copies[0]].ravel()

    def far_field(self, w, derivatives=1) -> tuple[np.ndarray, ...]:
        """Potential in V, field in V/angstrom ... of charges `w` (e) at the samples, over the far copies of every site.

        Shapes are (n + 1,), (n + 1, 3), ...: the n sites, and the middle of the cluster last.
        """
        every = ewald_potential(
            self.positions, self.samples, w, self.cell, derivatives=derivatives, background=True
        )
        copies, where = self._copies
        near = coulomb_potential(where, self.samples, w, derivatives=derivatives)
        for total, part in zip(every, near, strict=True):
            np.subtract.at(total, copies, part)
        return every

    def far_field_of(self, w) -> np.ndarray:
        """The field of `far_field`, for the many times that it is asked for, in V/angstrom, shape=(n + 1, 3)."""
        field = ewald_potential(self.positions, self.samples, w, self.cell, background=True)[1]
        np.add.at(field, self._copies[0], (w @ self._near_samples).reshape(-1, 3))
        return field

    @cached_property
    def _near_samples(self) -> np.ndarray:
        """Potentials at the samples of unit dipoles on copies that are not far, V/(e angstrom), shape=(n_samples, 3 m)."""
        d = self.samples[:, None] - self._copies[1]
        return (COULOMB * d / np.linalg.norm(d, axis=2)[..., None] ** 3).reshape(len(d), -1)

    @cached_property
    def _copies(self):
        """Sites and positions of the copies that are not far: the explicit ones and the cluster's own."""
        home = self.of.home
        return np.concatenate([self.of.explicit, home]), np.vstack([self.explicit, self.positions[home]])

    @property
    def _background(self) -> float:
        """c of the potential c |r - middle|^2 that the neutralizing background of a charged crystal has, V/angstrom^2."""
        if not self.of.periodic:
            return 0.0
        return 2 * np.pi / 3 * COULOMB * self.of.charges.sum() / abs(np.linalg.det(self.cell))

    # --- energies of classical charges alone --------------------------------------------------------------------

    def background_energy(self) -> tuple[float, np.ndarray]:
        """Energy in eV of the cluster's classical charges where the potential is not harmonic; forces in eV/angstrom,
        shape=(n + 1, 3).

        A charged crystal has a uniform background, also inside the region, and no charges outside it have such a
        potential.
        """
        forces = np.zeros_like(self.positions)
        home, q = self.of.home, self.of.charges[self.of.home]
        apart = self.positions[home] - self.positions[-1]
        forces[home] = -2 * self._background * q[:, None] * apart
        forces[-1] -= forces[home].sum(axis=0)
        return self._background * float(q @ (apart**2).sum(axis=1)), forces

    def image_energy(self) -> tuple[float, np.ndarray]:
        """Energy of the cluster's classical charges with their own images in eV, and the forces, shape=(n + 1, 3)."""
        forces = np.zeros_like(self.positions)
        if not self.of.periodic:
            return 0.0, forces
        home, q = self.of.home, self.of.charges[self.of.home]
        lattice = ewald_energy(self.positions[home], q, self.cell, background=True)
        own, own_forces = coulomb_energy(self.positions[home], q)
        forces[home] = lattice.forces - own_forces
        return lattice.energy - own, forces

    def potential_error(self) -> float:
        """Root mean square of what the charges, as points, lack of the lattice sum in the region, in V; none moved."""
        if self.of.sphere is None:
            return 0.0
        atoms = self.positions[self.of.quantum]
        points = (atoms[:, None] + _PROBE * evenly_on_sphere(_PROBES)).reshape(-1, 3)
        home = self.of.home
        given = PointCharges(self.explicit, self.of.charges[self.of.explicit]).joined(self._carried)
        lattice = ewald_potential(points, self.positions, self.of.charges, self.cell, derivatives=0, background=True)[0]
        own = coulomb_potential(points, self.positions[home], self.of.charges[home], derivatives=0)[0]
        shown = coulomb_potential(points, given.positions, given.charges, derivatives=0)[0]
        background = self._background * ((points - self.positions[-1]) ** 2).sum(axis=1)
        return float(np.sqrt(np.mean((lattice - own - shown - background) ** 2)))

    # --- the way back -------------------------------------------------------------------------------------------

    def forces(self, potentials, site_forces, dipoles=None) -> np.ndarray:
        """What the quantum charge exerts on the host's particles, in eV/angstrom, shape=(n, 3).

        Args:
            potentials: Of the quantum charge at the engine's sites in V, shape=(n_sites,).
            site_forces: On the engine's sites in eV/angstrom, shape=(n_sites, 3).
            dipoles: Of all sites in e angstrom, shape=(n + 1, 3), or None.
        """
        forces = np.zeros_like(self.positions)
        n_explicit, n_near = len(self.of.explicit), self.of.n_near
        on_explicit = site_forces[:n_explicit] + self.of.shown.forces(site_forces[n_explicit:n_near])
        np.add.at(forces, self.of.explicit, on_explicit)
        if self.of.sphere is not None:
            w = self.of.sphere.reaction(potentials[n_near:])
            far = self.far_field(w, derivatives=1 if dipoles is None else 2)
            forces += self.of.charges[:, None] * far[1]
            field = self._far_at_samples[1]
            if dipoles is not None:
                forces += np.einsum("ia,iab->ib", dipoles, far[2])
                field = field + self.far_potential(self.samples, np.zeros(len(dipoles)), dipoles)[1]
            # The sphere is carried by the cluster.
            forces[-1] += site_forces[n_near:].sum(axis=0)
            forces[-1] += w @ field
        return self.without_middle(forces)

    def without_middle(self, forces) -> np.ndarray:
        """Forces on the particles in eV/angstrom, that on the middle of the cluster shared by its atoms, shape=(n, 3)."""
        shared = forces[:-1].copy()
        shared[self.of.quantum] += forces[-1] / len(self.of.quantum)
        return shared
