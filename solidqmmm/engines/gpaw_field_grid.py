"""Sites of external charges and GPAW's own arrays: grids in empty space, plane waves, and both for periodic cells.

Each class has the same two maps, and they are transposes of each other: `electron_potential` makes what an electron
feels (hartree, an array such as GPAW's Hartree potential), `at_sites` what the sites feel of GPAW's total density,
which counts electrons positive (per bohr^3), in V, V/angstrom and V/angstrom^2. GPAW's C code and all its ranks stay
outside `physics`.
"""

from __future__ import annotations

import numpy as np
from ase.units import Bohr, Ha
from gpaw.core import PWDesc, UGDesc

from solidqmmm.physics.grid_field import GridField
from solidqmmm.physics.lattice_field import LatticeField


def site_map(fine_grid: UGDesc, desc):
    """The map for a calculation whose density lives on `desc`: the fine grid itself or plane waves."""
    waves = isinstance(desc, PWDesc)
    if fine_grid.pbc_c.all():
        return PeriodicWaves(desc) if waves else PeriodicGrid(fine_grid)
    return OpenWaves(fine_grid, desc) if waves else OpenGrid(fine_grid)


class OpenGrid:
    """A density on a real-space grid, in empty space."""

    def __init__(self, grid: UGDesc):
        self.grid = grid
        self._field = GridField(grid.cell_cv * Bohr, grid.size_c, grid.start_c, grid.end_c)
        self.floor = self._field.floor

    def place(self, positions, widths):
        self._field.place(positions, widths)
        self.far = self._field.far

    def electron_potential(self, charges, dipoles=None):
        v = self.grid.empty()
        v.data[:] = self._field.potential(charges, dipoles) * (-1 / Ha)
        return v

    def at_sites(self, density, derivatives: int) -> list[np.ndarray]:
        found = self._field.at_sites(density.data * -self.grid.dv, derivatives)
        return _summed(found, self.grid.comm)


class OpenWaves(OpenGrid):
    """A density in plane waves, felt in empty space: sites have no images, though the density has (GPAW's own do)."""

    def __init__(self, grid: UGDesc, pw: PWDesc):
        super().__init__(grid)
        self.pw = pw

    def electron_potential(self, charges, dipoles=None):
        return super().electron_potential(charges, dipoles).fft(pw=self.pw)

    def at_sites(self, density, derivatives: int) -> list[np.ndarray]:
        return super().at_sites(density.ifft(grid=self.grid), derivatives)


class PeriodicWaves:
    """A density in plane waves, and sites that repeat with the cell."""

    floor = 0.0

    def __init__(self, pw: PWDesc):
        self.pw = pw
        self._field = LatticeField(pw.cell_cv * Bohr, pw.indices_cG[:, pw.ng1 : pw.ng2].T)

    def place(self, positions, widths):
        self._field.place(positions, widths)
        self.far = np.zeros(len(positions), dtype=bool)

    def electron_potential(self, charges, dipoles=None):
        v = self.pw.empty()
        v.data[:] = self._field.potential(charges, dipoles) * (-1 / Ha)
        return v

    def at_sites(self, density, derivatives: int) -> list[np.ndarray]:
        found = self._field.at_sites(density.data * (-1 / Bohr**3), derivatives)
        return _summed(found, self.pw.comm)


class PeriodicGrid(PeriodicWaves):
    """A density on a periodic real-space grid: what the sites see of it are the plane waves that the grid can carry."""

    def __init__(self, grid: UGDesc):
        self.grid = grid
        super().__init__(PWDesc(ecut=0.99 * grid.ekin_max(), cell=grid.cell_cv, comm=grid.comm))
        self.floor = float(np.linalg.norm(grid.cell_cv * Bohr / grid.size_c[:, None], axis=1).max())

    def electron_potential(self, charges, dipoles=None):
        return super().electron_potential(charges, dipoles).ifft(grid=self.grid)

    def at_sites(self, density, derivatives: int) -> list[np.ndarray]:
        return super().at_sites(density.fft(pw=self.pw), derivatives)


def _summed(found, comm):
    for value in found:
        comm.sum(value)
    return found
