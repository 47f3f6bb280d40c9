"""The field of an infinite ionic crystal in a quantum region, by a finite set of charges.

Ions of the lattice within a radius R of the region's centre stand at their places, those of the region itself are left out.
The ions beyond R make a potential that is harmonic inside, and charges on the sphere of radius R make the same one:

    k sum_s Q_s/|r - r_s| = U(r),     U(r) = phi_crystal(r) - k sum_(j: |r_j - c| < R) q_j/|r - r_j|,

in the least-squares sense at points on the sphere of radius a < R that encloses the region; a harmonic error is largest on
that sphere, so it is smaller everywhere inside. It falls like (a/R)^sqrt(n) with n charges. A single sphere would fix the
constant part of the potential by its charge, so a few more charges sit on a wider one, and the charges of all, with those of
the region's own ions, sum to zero. No more of the fit's singular vectors are used than the tolerance asks for, or charges
would grow without need. (S. E. Derenzo, M. K. Klintenberg and M. J. Weber, J. Chem. Phys. 112, 2074 (2000), fit charges of
lattice sites in the same spirit.)

Repeated in three directions, a polar slab is in a field that makes its potential periodic across the vacuum. With `vacuum`
the potential is that of the slab alone, polar or not, with zero as the mean of both sides far away:

    phi_slab(r) = phi(r) - (2 pi k/V) sum_j q_j (z - z_j)^2     up to exp(-2 pi gap/period)

(I.-C. Yeh and M. L. Berkowitz, J. Chem. Phys. 111, 3155 (1999) for the part linear in z).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import null_space, svd
from scipy.spatial import cKDTree

from solidqmmm.physics.electrostatics.coulomb import coulomb_potential
from solidqmmm.physics.electrostatics.ewald import COULOMB, ewald_potential
from solidqmmm.physics.electrostatics.ewald_real import near_pairs
from solidqmmm.physics.electrostatics.far_field import evenly_on_sphere

SITES = (100, 200, 400, 800)  # charges on the sphere, tried in turn
OUTER, WIDER = 32, 1.6  # charges on the wider sphere, and its radius over the other's
GROWTH, LARGEST = 1.25, 4.0  # steps of R, and its largest value over a
SAMPLES = 1600  # points of the fit
SAME_SITE = 0.01  # angstrom
FINER = 0.3  # residual of the fit over the tolerance


@dataclass(frozen=True, eq=False)
class EmbeddingCharges:
    """Charges around a quantum region, and how well they stand for the crystal.

    Attributes:
        positions: In angstrom, ions of the lattice first, shape=(n, 3).
        charges: In e, shape=(n,).
        n_explicit: How many of them are ions of the lattice.
        region: Positions of the region's own ions, which are not among the charges, in angstrom, shape=(m, 3).
        region_charges: Their charges in e; with them all charges sum to zero, shape=(m,).
        centre: Of the region in angstrom, shape=(3,).
        region_radius: Within so many angstrom of the centre the potential is that of the crystal.
        radius: Within so many angstrom of the centre the ions are explicit.
        rms_error_eV: Root mean square error per unit charge at points that were not fitted, within and on that sphere.
        max_error_eV: The largest of these errors.
        tolerance: What was asked of the former, eV.
    """

    positions: np.ndarray
    charges: np.ndarray
    n_explicit: int
    region: np.ndarray
    region_charges: np.ndarray
    centre: np.ndarray
    region_radius: float
    radius: float
    rms_error_eV: float
    max_error_eV: float
    tolerance: float

    def __post_init__(self):
        for name in ("positions", "charges", "region", "region_charges", "centre"):
            array = np.array(getattr(self, name), dtype=float)
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def __len__(self):
        return len(self.charges)

    @property
    def converged(self) -> bool:
        """Whether the error is within the tolerance."""
        return self.rms_error_eV <= self.tolerance


def embedding_charges(
    positions,
    charges,
    cell,
    *,
    region,
    margin: float = 1.5,
    radius: float | None = None,
    tolerance: float = 1e-3,
    vacuum: int | None = None,
) -> EmbeddingCharges:
    """Charges that make the potential of the infinite crystal, without the region's own ions, in a quantum region.

    Args:
        positions: Ions of the host in angstrom, shape=(n, 3); one unit cell is enough.
        charges: In e, summing to zero, shape=(n,).
        cell: Cell vectors as rows in angstrom, shape=(3, 3).
        region: The quantum ions: indices of ions, taken as one cluster across the cell's faces, the first of them where it
            is; or points in angstrom, shape=(m, 3), in any images of the cell. Points on ions (within 0.01 angstrom) take
            these out; others (interstitial places) only say where the potential matters.
        margin: How far beyond the outermost of them the potential matters, angstrom.
        radius: R in angstrom; None grows it from 1.4 times the region's until the tolerance is met.
        tolerance: Root mean square error in eV per unit charge.
        vacuum: Cell vector (0, 1 or 2) along which the host is a slab with vacuum; None is the periodic crystal as given.

    Returns:
        The first that is within the tolerance without charges larger than the ions'; otherwise the best that was tried, with
        its error.

    Raises:
        ValueError: If the host is not neutral, the region is empty, or R too small for it.
    """
    positions, charges, cell = (np.asarray(value, dtype=float) for value in (positions, charges, cell))
    quantum = _region(region, positions, cell)
    centre = (quantum.min(axis=0) + quantum.max(axis=0)) / 2
    a = float(np.linalg.norm(quantum - centre, axis=1).max()) + margin
    if not margin > 0 or not (radius is None or radius > a):
        raise ValueError(
            f"`margin` must be positive and `radius` larger than that of the region with its margin, {a:.3f} angstrom, "
            f"got margin={margin} and radius={radius}"
        )
    fitted = centre + a * evenly_on_sphere(SAMPLES)
    rng = np.random.default_rng(0)
    inside = rng.normal(size=(300, 3))
    inside *= a * np.cbrt(rng.uniform(size=(300, 1))) / np.linalg.norm(inside, axis=1)[:, None]
    tested = centre + np.concatenate([inside, -a * evenly_on_sphere(301)])
    points = np.concatenate([fitted, tested])
    crystal = host_potential(points, positions, charges, cell, vacuum=vacuum, near=centre)

    first = max(1.4 * a, a + 3.0)
    radii = (
        [radius]
        if radius
        else first * GROWTH ** np.arange(1 + int(np.log(LARGEST * a / first) / np.log(GROWTH)))
    )
    tried = []
    for R in radii:
        ions, q = _ball(positions, charges, cell, centre, R, vacuum)
        U = crystal - coulomb_potential(points, ions, q, derivatives=0)[0]
        own = _on_sites(ions, quantum)
        for n in SITES:
            sphere = centre + R * np.concatenate([evenly_on_sphere(n), WIDER * evenly_on_sphere(OUTER)])
            Q = _fit(fitted, sphere, U[:SAMPLES], -q.sum(), FINER * tolerance)
            error = coulomb_potential(tested, sphere, Q, derivatives=0)[0] - U[SAMPLES:]
            found = EmbeddingCharges(
                np.concatenate([ions[~own], sphere]), np.concatenate([q[~own], Q]), int(np.sum(~own)), ions[own], q[own],
                centre, a, float(R), float(np.sqrt(np.mean(error**2))), float(np.abs(error).max()), tolerance,
            )  # fmt: skip
            # A fit that only just succeeds does it with huge charges of alternating sign.
            huge = bool(np.abs(Q).max() > np.abs(charges).max())
            if found.converged and not huge:
                return found
            tried.append((huge, found.rms_error_eV, found))
    return min(tried, key=lambda attempt: attempt[:2])[-1]


def host_potential(points, positions, charges, cell, *, vacuum: int | None = None, near=None) -> np.ndarray:
    """Potential of the periodic host, or of a slab alone, in V, shape=(m,); points on ions leave these out.

    Args:
        points, positions, charges, cell: As in `ewald_potential`.
        vacuum: Cell vector along which the host is a slab; zero is then the mean of the potentials on both sides.
        near: A point in angstrom in the period of the slab that is meant, shape=(3,); None takes the first of `points`.
    """
    (potential,) = ewald_potential(points, positions, charges, cell, derivatives=0)
    if vacuum is None:
        return potential
    normal = np.linalg.inv(cell)[:, vacuum]
    normal = normal / np.linalg.norm(normal)
    z = (positions + _to_one_slab(positions, cell, points[0] if near is None else near, vacuum)) @ normal
    height = points @ normal
    # sum q (h - z)^2 for a neutral slab
    moments = charges @ z**2 - 2 * (charges @ z) * height
    return potential - 2 * np.pi * COULOMB / abs(np.linalg.det(cell)) * moments


def _to_one_slab(positions, cell, near, axis):
    """Lattice vectors that bring all ions into the slab whose period holds `near`, cut in the middle of the widest gap."""
    f = positions @ np.linalg.inv(cell)[:, axis]
    levels = np.sort(f % 1.0)
    gaps = np.diff(levels, append=levels[0] + 1.0)
    cut = levels[np.argmax(gaps)] + gaps.max() / 2
    period = np.floor(np.asarray(near) @ np.linalg.inv(cell)[:, axis] - cut)
    return np.outer(period - np.floor(f - cut), cell[axis])


def _ball(positions, charges, cell, centre, R, vacuum):
    """Ions within R of the centre, shape=(n, 3), and their charges."""
    found = list(near_pairs(centre[None], positions, cell, R))
    j = np.concatenate([j for _, j, _ in found]) if found else np.zeros(0, dtype=int)
    ions = centre - np.concatenate([r for _, _, r in found]) if found else np.zeros((0, 3))
    if vacuum is not None:
        moved = positions[j] + _to_one_slab(positions, cell, centre, vacuum)[j]
        along = (ions - moved) @ np.linalg.inv(cell)[:, vacuum]
        ions, j = ions[np.abs(along) < 0.5], j[np.abs(along) < 0.5]
    return ions, charges[j]


def _fit(points, sphere, U, total, residual):
    """Charges with a given sum, as small as they can be, whose potentials differ from U by `residual` (rms)."""
    A = COULOMB / np.linalg.norm(points[:, None] - sphere, axis=2)
    even = np.full(len(sphere), total / len(sphere))
    neutral = null_space(np.ones((1, len(sphere))))
    rest = U - A @ even
    left, values, right = svd(A @ neutral, full_matrices=False)
    along = left.T @ rest
    remaining = rest @ rest - np.concatenate([[0.0], np.cumsum(along**2)])
    enough = np.flatnonzero(remaining <= len(U) * residual**2)
    k = min(enough[0] if len(enough) else len(values), int(np.sum(values > 1e-12 * values[0])))
    return even + neutral @ right[:k].T @ (along[:k] / values[:k])


def _on_sites(ions, quantum):
    """Which ions are those of the quantum region."""
    if not len(ions):
        return np.zeros(0, dtype=bool)
    return cKDTree(quantum).query(ions)[0] < SAME_SITE


def _region(region, positions, cell):
    """Positions of the quantum ions, one cluster."""
    region = np.asarray(region)
    if not region.size:
        raise ValueError("`region` is empty; give the indices of the quantum ions, or points")
    if region.ndim == 2:
        return region.astype(float)
    if region.ndim != 1 or region.dtype.kind not in "iu":
        raise ValueError(
            f"`region` must be integers or points of shape (m, 3), got {region.dtype} of {region.shape}"
        )
    f = positions[region] @ np.linalg.inv(cell)
    # The mean on a circle does not mind the cell's faces.
    middle = np.angle(np.exp(2j * np.pi * f).sum(axis=0)) / (2 * np.pi)
    shift = -np.rint(f - middle)
    return positions[region] + (shift - shift[0]) @ cell
