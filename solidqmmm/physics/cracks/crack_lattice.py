"""A lattice seen from a crack: Miller indices into axes, a reduced cell of plane and front, and the atoms of a box.

Planes (hkl) and directions [uvw] count in the crystal's own cell; with four indices they are those of a hexagonal cell,
(hkil) = (hkl) and [uvtw] = [u - t, v - t, w]. Axes of the crack: y the normal of the plane, z the front, x = y x z.
The reduced cell has c along the front (its shortest lattice vector), a in the plane, and b from one lattice plane to the
next, so that it is primitive whatever the crystal, and the lattice is all i a + j b + k c.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import numpy as np

_LARGEST_DENOMINATOR = 24
_TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class CrackAxes:
    """The axes of a crack and the reduced cell of its lattice.

    Attributes:
        plane, front: Miller indices in the crystal's own cell, three each.
        growth: Those of x if they are small integers, else None (x is no lattice direction).
        rotation: Rows are x, y, z in the frame of the crystal, shape=(3, 3): v_crack = rotation @ v.
        cell: a, b and c in the axes of the crack, angstrom, shape=(3, 3).
        indices: The same in vectors of the crystal's own cell, shape=(3, 3); fractions in centred cells.
    """

    plane: tuple[int, int, int]
    front: tuple[int, int, int]
    growth: tuple[int, int, int] | None
    rotation: np.ndarray
    cell: np.ndarray
    indices: np.ndarray

    @property
    def spacing(self) -> float:
        """Distance of lattice planes in angstrom."""
        return float(self.cell[1, 1])

    @property
    def front_period(self) -> float:
        """Length after which the lattice repeats along the front, angstrom."""
        return float(self.cell[2, 2])

    @property
    def growth_period(self) -> float | None:
        """The same along x, or None if no short lattice vector lies along it."""
        shift = self.cell[0, 2] / self.front_period
        q = _denominator(shift)
        return None if q is None else float(q * self.cell[0, 0])


def three_indices(indices, name: str, *, direction: bool) -> tuple[int, int, int]:
    """Three Miller indices from three or four.

    Raises:
        ValueError: For other numbers, all zero, or four of which the first three do not sum to zero.
    """
    given = list(indices)
    if len(given) not in (3, 4) or any(k != int(k) for k in given):
        raise ValueError(f"`{name}` must be three Miller indices (four in a hexagonal cell), got {given}")
    given = [int(k) for k in given]
    if len(given) == 4:
        h, k, i, w = given
        if h + k + i != 0:
            raise ValueError(f"`{name}`: of four indices the first three sum to zero, got {given}")
        given = [h - i, k - i, w] if direction else [h, k, w]
    common = gcd(*given)
    if common == 0:
        raise ValueError(f"`{name}` must not be all zero")
    return tuple(k // common for k in given)


def crack_axes(cell, primitive, plane, front) -> CrackAxes:
    """Axes and reduced cell of a crack.

    Args:
        cell: The cell in which the indices count, rows in angstrom, shape=(3, 3).
        primitive: A primitive cell of the same lattice, rows in angstrom in the same frame, shape=(3, 3).
        plane: (hkl) or (hkil).
        front: [uvw] or [uvtw].

    Raises:
        ValueError: If the indices are none, or the front is not in the plane.
    """
    cell, primitive = np.asarray(cell, dtype=float), np.asarray(primitive, dtype=float)
    plane, front = (
        three_indices(plane, "plane", direction=False),
        three_indices(front, "front", direction=True),
    )
    product = int(np.dot(plane, front))
    if product != 0:
        h, u = " ".join(map(str, plane)), " ".join(map(str, front))
        raise ValueError(
            f"the crack front [{u}] does not lie in the crack plane ({h}): hu + kv + lw must be zero, got {product}"
        )
    P = primitive @ np.linalg.inv(cell)  # primitive vectors in vectors of the cell
    height = _coprime(P @ np.array(plane))
    along = _coprime(np.array(front) @ np.linalg.inv(P))
    U = _unimodular_for(height)  # height . U = (1, 0, 0)
    m = np.rint(np.linalg.solve(U, along)).astype(int)  # the front among the vectors of the plane
    _, p, q = _extended_gcd(m[1], m[2])
    M = np.array([p * U[:, 2] - q * U[:, 1], U[:, 0], along])

    y = np.linalg.inv(cell) @ np.array(plane, dtype=float)
    z = np.array(front, dtype=float) @ cell
    y, z = y / np.linalg.norm(y), z / np.linalg.norm(z)
    rotation = np.array([np.cross(y, z), y, z])
    if (M[0] @ primitive) @ rotation[0] < 0:
        M[0] = -M[0]

    def seen(i):
        return rotation @ (M[i] @ primitive)

    M[0] -= round(seen(0)[2] / seen(2)[2]) * M[2]
    M[1] -= round(seen(1)[0] / seen(0)[0]) * M[0]
    M[1] -= round(seen(1)[2] / seen(2)[2]) * M[2]
    reduced = np.array([seen(i) for i in range(3)])
    reduced[[0, 2], 1] = 0.0
    reduced[2, 0] = 0.0
    return CrackAxes(plane, front, _indices_along(rotation[0], cell), rotation, reduced, M @ P)


def filled_box(cell, basis, x, y, repeats: int) -> tuple[np.ndarray, np.ndarray]:
    """Atoms of a lattice in a box that is periodic along the front.

    Args:
        cell: Reduced cell of `CrackAxes`, shape=(3, 3).
        basis: Positions of the atoms of one primitive cell in the axes of the crack, angstrom, shape=(b, 3).
        x, y: Lower and upper bounds in angstrom; atoms on the lower one are inside.
        repeats: Number of periods along the front.

    Returns:
        Positions in angstrom, z in [0, repeats c), shape=(n, 3); the atom of the cell that each is, shape=(n,).
    """
    a, b, c = np.asarray(cell)
    basis = np.asarray(basis, dtype=float)
    low, high = np.array([x[0], y[0]]), np.array([x[1], y[1]])
    reach = basis[:, :2].min(axis=0), basis[:, :2].max(axis=0)
    j = np.arange(np.floor((low[1] - reach[1][1]) / b[1]), np.ceil((high[1] - reach[0][1]) / b[1]) + 1)
    # lattice rows start where they enter the box, however skewed the cell is
    first = np.floor((low[0] - reach[1][0] - j * b[0]) / a[0])
    i = np.arange(np.ceil((high[0] - low[0] + np.ptp(basis[:, 0])) / a[0]) + 2)
    rows = (first[:, None] + i)[..., None] * a + j[:, None, None] * b
    points = rows[:, :, None, None, :] + np.arange(repeats)[:, None, None] * c + basis
    which = np.broadcast_to(np.arange(len(basis)), points.shape[:-1]).reshape(-1)
    points = points.reshape(-1, 3)
    edge = 1e-6
    inside = ((points[:, :2] >= low - edge) & (points[:, :2] < high - edge)).all(axis=1)
    points, which = points[inside], which[inside]
    length = repeats * c[2]
    points[:, 2] = (points[:, 2] + edge) % length - edge
    return points, which


def layers(heights, spacing: float, *, tolerance: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Distinct heights of atoms above a lattice plane, and the gaps above them.

    Args:
        heights: y of the atoms of one primitive cell in angstrom, shape=(b,).
        spacing: Distance of lattice planes in angstrom.
        tolerance: Heights nearer than this are one layer, angstrom.

    Returns:
        Middles of the gaps between successive layers, in [0, spacing), shape=(m,), and their widths, shape=(m,).
    """
    y = np.sort(np.asarray(heights, dtype=float) % spacing)
    gaps = np.diff(y, append=y[0] + spacing)
    wide = gaps > tolerance
    return (y[wide] + gaps[wide] / 2) % spacing, gaps[wide]


def _denominator(fraction: float) -> int | None:
    for q in range(1, _LARGEST_DENOMINATOR + 1):
        if abs(q * fraction - round(q * fraction)) < _TOLERANCE * q:
            return q
    return None


def _coprime(vector) -> np.ndarray:
    """The shortest integer vector along a rational one."""
    vector = np.asarray(vector, dtype=float)
    scaled = vector / np.abs(vector[np.abs(vector) > 1e-9]).min()
    for q in range(1, 49):
        whole = np.rint(q * scaled)
        if np.abs(q * scaled - whole).max() < 1e-6 * q:
            whole = whole.astype(int)
            return whole // gcd(*(int(k) for k in whole))
    raise ValueError("the primitive cell does not span the lattice of the crystal's own cell")


def _extended_gcd(a: int, b: int) -> tuple[int, int, int]:
    """g, p, q with p a + q b = g = gcd(a, b) > 0."""
    p0, q0, p1, q1, a, b = 1, 0, 0, 1, int(a), int(b)
    while b:
        n = a // b
        a, b = b, a - n * b
        p0, p1 = p1, p0 - n * p1
        q0, q1 = q1, q0 - n * q1
    return (a, p0, q0) if a >= 0 else (-a, -p0, -q0)


def _unimodular_for(h) -> np.ndarray:
    """U of determinant +-1 with h . U = (1, 0, 0), for coprime h."""
    h, U = [int(k) for k in h], np.eye(3, dtype=int)
    for column in (1, 2):
        g, p, q = _extended_gcd(h[0], h[column])
        if g == 0:
            continue
        first, other = U[:, 0].copy(), U[:, column].copy()
        U[:, 0] = p * first + q * other
        U[:, column] = -(h[column] // g) * first + (h[0] // g) * other
        h[0], h[column] = g, 0
    return U


def _indices_along(direction, cell) -> tuple[int, int, int] | None:
    coordinates = direction @ np.linalg.inv(cell)
    scaled = coordinates / np.abs(coordinates).max()
    for q in range(1, _LARGEST_DENOMINATOR + 1):
        whole = np.rint(q * scaled)
        if np.abs(q * scaled - whole).max() < _TOLERANCE * q:
            whole = whole.astype(int)
            common = gcd(*(int(k) for k in whole))
            return tuple(int(k) // common for k in whole)
    return None
