"""External charges and dipoles in empty space and a charge density on a grid: what each does to the other.

Sites in and around the grid's box go to a `ParticleMesh`; those far from it are replaced by charges on a `FarFieldBox`,
which go to the same mesh. Nothing is summed over grid points times sites.
"""

from __future__ import annotations

import numpy as np

from solidqmmm.physics.electrostatics.far_field_box import FarFieldBox
from solidqmmm.physics.electrostatics.particle_mesh import ParticleMesh


class GridField:
    """Maps between sites and a block of grid points.

    `potential` and `at_sites` are the transposes of each other to rounding, so that with the same numbers

        sum_points w phi = sum_sites (q phi - p . E).

    Args:
        cell: Cell of the grid as rows, angstrom, shape=(3, 3).
        size: Number of points along each axis of the whole grid, even, shape=(3,).
        start, stop: Indices of the block, shape=(3,).

    Attributes:
        floor: Smallest width in angstrom that the grid carries; narrower sites are taken as this wide.
        far: Which sites are far from the box, shape=(n,).
    """

    def __init__(self, cell, size, start, stop):
        self._cell = np.asarray(cell, dtype=float)
        self._mesh = ParticleMesh(cell, size, start, stop)
        self._box = None
        self.floor = self._mesh.floor
        self.far = np.zeros(0, dtype=bool)
        self._far_positions, self._n_near = np.empty((0, 3)), 0

    def place(self, positions, widths):
        """Sites from now on: positions in angstrom, shape=(n, 3), widths in angstrom, shape=(n,)."""
        positions, widths = np.asarray(positions, dtype=float).reshape(-1, 3), np.asarray(widths, dtype=float)
        if self._box is None and len(positions):
            self._box = FarFieldBox(self._cell, self._mesh.split)
        self.far = np.zeros(len(positions), dtype=bool)
        if len(positions):
            # What is wide must be so far that its tail does not reach the box.
            self.far = self._box.beyond(positions) > np.maximum(self._box.distance, 6.0 * widths)
        self._far_positions = positions[self.far]
        near, near_widths = positions[~self.far], widths[~self.far]
        if self.far.any():
            near = np.vstack([near, self._box.sites])
            near_widths = np.append(near_widths, np.full(len(self._box.sites), self._mesh.split))
        self._n_near = int((~self.far).sum())
        self._mesh.place(near, near_widths)

    def potential(self, charges, dipoles=None) -> np.ndarray:
        """Potential in V on the block for charges in e, shape=(n,), and dipoles in e angstrom, shape=(n, 3)."""
        near, near_dipoles = charges[~self.far], None if dipoles is None else dipoles[~self.far]
        if self.far.any():
            far_dipoles = None if dipoles is None else dipoles[self.far]
            carried = self._box.charges(self._far_positions, charges[self.far], far_dipoles)
            near = np.append(near, carried)
            if dipoles is not None:
                near_dipoles = np.vstack([near_dipoles, np.zeros((len(carried), 3))])
        return self._mesh.potential(near, near_dipoles)

    def at_sites(self, weights, derivatives: int = 1) -> list[np.ndarray]:
        """Potential in V, field in V/angstrom, field gradient in V/angstrom^2 at the sites, averaged over their Gaussians.

        Args:
            weights: Charges on the points of the block in e. Blocks add up.
            derivatives: 0, 1 or 2.

        Returns:
            Arrays of shape (n,), (n, 3), (n, 3, 3): the first `derivatives` + 1 of them.
        """
        on_mesh = self._mesh.at_sites(weights, derivatives)
        found = [np.empty((len(self.far), *(3,) * k)) for k in range(derivatives + 1)]
        for value, near in zip(found, on_mesh):
            value[~self.far] = near[: self._n_near]
        if self.far.any():
            carried = on_mesh[0][self._n_near :]
            for value, far in zip(found, self._box.at_sources(self._far_positions, carried, derivatives)):
                value[self.far] = far
        return found
