"""Repulsive cores on GPAW's wave-function grid, and the electrons that are found around a point.

A core acts on the pseudo-density, E = int V n: inside the augmentation spheres of nearby atoms that is a model (the partial
waves do not see the core), which is why a core must stay away from nuclei. Energy and forces are exact for the model.
"""

from __future__ import annotations

import numpy as np
from ase.units import Bohr

from solidqmmm.errors import EngineError
from solidqmmm.physics.electrostatics.grid_patches import PointGrid, first_moment, squares
from solidqmmm.system.point_charges import RepulsiveCores

_END = 6.0  # in units of the width: exp(-18) = 1.5e-8


def point_grid(desc) -> PointGrid:
    """GPAW's grid in angstrom."""
    period = np.where(desc.pbc_c, desc.size_c, 0)
    return PointGrid(desc.cell_cv * Bohr / desc.size_c[:, None], desc.start_c, desc.end_c, period)


def core_potential(cores: RepulsiveCores, desc) -> np.ndarray:
    """V in eV on this rank's block of the grid, in the shape of that block.

    Raises:
        EngineError: For a core that is narrower than the grid's spacing.
    """
    grid = point_grid(desc)
    spacing = np.linalg.norm(grid.steps, axis=1).max()
    if len(cores) and cores.widths.min() < spacing:
        raise EngineError(
            f"a repulsive core of width {cores.widths.min():.3g} A is narrower than GPAW's grid spacing of {spacing:.3g} A: "
            "widen the core or use a finer grid"
        )
    V = np.zeros(grid.shape)
    for centre, height, width in zip(cores.positions, cores.heights, cores.widths):
        for slices, axes in grid.patches(centre, _END * width):
            V[slices] += height * np.exp(squares(axes) * (-0.5 / width**2))
    return V


def core_forces(cores: RepulsiveCores, density) -> np.ndarray:
    """-dE/dR of the cores in eV/angstrom, shape=(n_cores, 3), for a pseudo-density in bohr^-3 (GPAW's array)."""
    grid = point_grid(density.desc)
    electrons = density.data * density.desc.dv
    forces = np.zeros((len(cores), 3))
    for force, centre, height, width in zip(forces, cores.positions, cores.heights, cores.widths):
        for slices, axes in grid.patches(centre, _END * width):
            w = height * np.exp(squares(axes) * (-0.5 / width**2)) * electrons[slices]
            force -= first_moment(w, axes) / width**2
    density.desc.comm.sum(forces)
    return forces


def electrons_around(points, density, radius: float) -> np.ndarray:
    """Electrons (of the pseudo-density, per bohr^3) within `radius` (angstrom) of points in angstrom, shape=(n,).

    The sphere's edge is smooth over one grid spacing.
    """
    grid = point_grid(density.desc)
    spacing = np.linalg.norm(grid.steps, axis=1).mean()
    electrons = density.data * density.desc.dv
    found = np.zeros(len(points))
    for k, point in enumerate(points):
        for slices, axes in grid.patches(point, radius + spacing):
            inside = np.clip((radius - np.sqrt(squares(axes))) / spacing + 0.5, 0.0, 1.0)
            found[k] += np.vdot(inside, electrons[slices])
    density.desc.comm.sum(found)
    return found
