"""Sites of external charges and GPAW's own arrays: grids in empty space, plane waves, and both for periodic cells.

Each class has the same two maps, and they are transposes of each other: `electron_potential` makes what an electron
feels (hartree, an array such as GPAW's Hartree potential), `at_sites` what the sites feel of GPAW's total density,
which counts electrons positive (per bohr^3), in V, V/angstrom and V/angstrom^2. GPAW's C code and all its ranks stay
outside `physics`.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from ase.units import Bohr, Ha
from gpaw.core import PWDesc, UGDesc

from solidqmmm.physics.electrostatics.grid_field import GridField
from solidqmmm.physics.electrostatics.lattice_field import LatticeField

_FACES = 1.5  # angstrom


def site_map(grid: UGDesc, desc, known=None):
    """The map for a calculation whose density lives on `desc`: the fine grid itself or plane waves.

    Args:
        grid: GPAW's fine grid.
        desc: Where the density lives.
        known: The map of an earlier calculation, which is given back if it fits (GPAW sets up calculations twice).
    """
    waves = isinstance(desc, PWDesc)
    periodic = bool(grid.pbc_c.all())
    block = (desc.ecut, desc.ng1, desc.ng2) if waves else (*grid.size_c, *grid.start_c, *grid.end_c)
    key = (
        waves,
        periodic,
        desc.cell_cv.tobytes(),
        tuple(float(x) for x in block),
        desc.comm.size,
        desc.comm.rank,
    )
    if known is not None and known.key == key:
        return known
    if periodic:
        made = PeriodicWaves(desc) if waves else PeriodicGrid(grid)
    else:
        made = OpenWaves(desc) if waves else OpenGrid(grid)
    made.key, made.sites, made.permanent = key, None, None
    return made


class OpenGrid:
    """A density on a real-space grid, in empty space."""

    def __init__(self, grid: UGDesc):
        self.grid = grid
        self._field = GridField(grid.cell_cv * Bohr, grid.size_c, grid.start_c, grid.end_c)
        self.floor = self._field.floor

    def place(self, positions, widths):
        """Puts sites at `positions` (angstrom, shape=(n, 3)) with Gaussian `widths` (angstrom, shape=(n,)); `far` says
        which are off the grid.
        """
        self._field.place(positions, widths)
        self.far = self._field.far

    def electron_potential(self, charges, dipoles=None):
        """What electrons feel of charges (e, shape=(n,)) and dipoles (e angstrom, shape=(n, 3)) at the sites, in
        hartree, GPAW's array.
        """
        v = self.grid.empty()
        v.data[:] = self._field.potential(charges, dipoles) * (-1 / Ha)
        return v

    def at_sites(self, density, derivatives: int) -> list[np.ndarray]:
        """Potential in V, shape=(n,), field in V/angstrom, shape=(n, 3), and its gradient, shape=(n, 3, 3), at the
        sites.

        The first `derivatives` + 1 of them, of GPAW's total `density`, the same on all ranks.
        """
        found = self._field.at_sites(density.data * -self.grid.dv, derivatives)
        return _summed(found, self.grid.comm)


class OpenWaves:
    """A density in plane waves, felt in empty space.

    Sites have no images, though the density has (those of GPAW's own electrostatics are the user's vacuum to choose). Their
    potential v then jumps from one face of the cell to the other, and the waves that the jump needs and the density lacks
    would ring through the cell. Near the faces the density is taken as divided between both sides instead,

        v_p(r) = sum_R w(r + R) v(r + R),    sum_R w(r + R) = 1,

    with a window w that falls from 1 to 0 within 1.5 angstrom to either side of the faces (a fifth of small cells).
    """

    def __init__(self, pw: PWDesc):
        self.pw = pw
        self._pw0 = pw.new(comm=None)
        self._grid = pw.minimal_uniform_grid(n=2).new(
            comm=None
        )  # GPAW's fine grid need not hold all the waves
        cell, size, comm = self._grid.cell_cv * Bohr, self._grid.size_c, pw.comm
        perpendicular = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
        margin = np.minimum(_FACES, 0.2 * perpendicular) / perpendicular
        reach = np.ceil(margin * size).astype(int)
        start, stop = -reach, size + reach
        # Each rank does some of the planes along the first axis.
        planes = np.linspace(start[0], stop[0], comm.size + 1).astype(int)
        start[0], stop[0] = planes[comm.rank : comm.rank + 2]
        self._field = GridField(cell, size, start, stop)
        self.floor = self._field.floor
        self._pieces = list(product(*map(_images, start, stop, size)))
        self._window = 1.0
        for c in range(3):
            x = np.arange(start[c], stop[c]) / size[c]
            w = _rise(x / margin[c]) - _rise((x - 1) / margin[c])
            self._window = self._window * w.reshape([-1 if k == c else 1 for k in range(3)])

    def place(self, positions, widths):
        """See `OpenGrid`."""
        self._field.place(positions, widths)
        self.far = self._field.far

    def electron_potential(self, charges, dipoles=None):
        """See `OpenGrid`."""
        v = self._grid.zeros()
        block = self._window * self._field.potential(charges, dipoles)
        for piece in self._pieces:
            here, there = zip(*piece)
            v.data[there] -= block[here] / Ha
        self.pw.comm.sum(v.data)
        waves = self.pw.empty()
        waves.data[:] = v.fft(pw=self._pw0).data[self.pw.ng1 : self.pw.ng2]
        return waves

    def at_sites(self, density, derivatives: int) -> list[np.ndarray]:
        """See `OpenGrid`."""
        whole = density.gather(broadcast=True).ifft(grid=self._grid).data
        weights = np.array(self._window)
        for piece in self._pieces:
            here, there = zip(*piece)
            weights[here] *= whole[there]
        return _summed(self._field.at_sites(weights * -self._grid.dv, derivatives), self.pw.comm)


def _images(start, stop, size):
    """Parts of the indices start ... stop - 1 that lie in one image of the cell: slices in the block, and in the cell."""
    for image in range(start // size, (stop - 1) // size + 1):
        first, last = max(start, image * size), min(stop, (image + 1) * size)
        yield slice(first - start, last - start), slice(first - image * size, last - image * size)


def _rise(x) -> np.ndarray:
    """Step from 0 at x = -1 to 1 at x = 1 with three smooth derivatives, and _rise(x) + _rise(-x) = 1."""
    t = np.clip((x + 1) / 2, 0.0, 1.0)
    return t**4 * (35 - 84 * t + 70 * t**2 - 20 * t**3)


class PeriodicWaves:
    """A density in plane waves, and sites that repeat with the cell."""

    floor = 0.0

    def __init__(self, pw: PWDesc):
        self.pw = pw
        self._field = LatticeField(pw.cell_cv * Bohr, pw.indices_cG[:, pw.ng1 : pw.ng2].T)

    def place(self, positions, widths):
        """See `OpenGrid`."""
        self._field.place(positions, widths)
        self.far = np.zeros(len(positions), dtype=bool)

    def electron_potential(self, charges, dipoles=None):
        """See `OpenGrid`."""
        v = self.pw.empty()
        v.data[:] = self._field.potential(charges, dipoles) * (-1 / Ha)
        return v

    def at_sites(self, density, derivatives: int) -> list[np.ndarray]:
        """See `OpenGrid`."""
        found = self._field.at_sites(density.data * (-1 / Bohr**3), derivatives)
        return _summed(found, self.pw.comm)


class PeriodicGrid(PeriodicWaves):
    """A density on a periodic real-space grid: what the sites see of it are the plane waves that the grid can carry."""

    def __init__(self, grid: UGDesc):
        self.grid = grid
        super().__init__(PWDesc(ecut=0.99 * grid.ekin_max(), cell=grid.cell_cv, comm=grid.comm))
        self.floor = float(np.linalg.norm(grid.cell_cv * Bohr / grid.size_c[:, None], axis=1).max())

    def electron_potential(self, charges, dipoles=None):
        """See `OpenGrid`."""
        return super().electron_potential(charges, dipoles).ifft(grid=self.grid)

    def at_sites(self, density, derivatives: int) -> list[np.ndarray]:
        """See `OpenGrid`."""
        return super().at_sites(density.fft(pw=self.pw), derivatives)


def _summed(found, comm):
    for value in found:
        comm.sum(value)
    return found
