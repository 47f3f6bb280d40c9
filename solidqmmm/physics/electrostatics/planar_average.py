"""Average over planes of the potential of periodic point charges, in closed form.

    V(x) = (2 pi k w^2/Omega) sum_i q_i B_2({x - x_i}),    B_2(t) = t^2 - t + 1/6,

x the fractional coordinate along a cell vector, w the distance of the cell's faces across it, Omega the volume, {} the
fractional part: of the Fourier series of Ewald's potential only the wave vectors across the planes are left, and
sum_(m != 0) exp(2 pi i m t)/m^2 = 2 pi^2 B_2(t). The average over the cell is zero; a net charge has its background.
"""

from __future__ import annotations

import numpy as np

from solidqmmm.physics.electrostatics.ewald import COULOMB
from solidqmmm.physics.geometry import perpendicular_widths


def planar_average(axis: int, n_points: int, positions, charges, cell) -> np.ndarray:
    """The averages over planes at x = 0, 1/n, 2/n ... along a cell vector, in V, shape=(n_points,).

    Args:
        axis: Which cell vector, 0 to 2.
        n_points: Number of planes.
        positions: Of the charges in angstrom, shape=(n, 3).
        charges: In e, shape=(n,).
        cell: Cell vectors as rows in angstrom, shape=(3, 3).
    """
    cell = np.asarray(cell, dtype=float)
    at = (np.asarray(positions, dtype=float) @ np.linalg.inv(cell))[:, axis]
    t = (np.arange(n_points)[:, None] / n_points - at) % 1.0
    scale = 2 * np.pi * COULOMB * perpendicular_widths(cell)[axis] ** 2 / abs(np.linalg.det(cell))
    return scale * (t * t - t + 1 / 6) @ np.asarray(charges, dtype=float)
