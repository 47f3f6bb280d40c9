"""Electrostatics of point charges and point dipoles repeated in all three directions, in cells of any shape: Ewald sums.

    phi(r) = k sum_j' (q_j - p_j.grad) 1/|r - r_j|,   E = -grad phi,   U = 1/2 sum_i (q_i phi_i - p_i.E_i)

with k = 1/(4 pi eps0). The surroundings at infinity are a conductor (tin foil). The potential's average over the cell is
zero. A net charge Q needs a uniform background of density -Q/V to have any potential at all; then div E = -4 pi k Q/V away
from the charges, and U contains the background's interaction with the charges and with itself.

Splitting: 1/r = erfc(alpha r)/r + erf(alpha r)/r; the first part is summed over pairs (`ewald_real`), the second as a
Fourier series (`ewald_reciprocal`). Both are cut where exp(-x^2) = 1e-14, with alpha such that they cost the same, which
makes O(N^(3/2)). The zero average leaves the constant -(pi/alpha^2) k Q/V.

In a uniform medium of dielectric tensor eps, with S = eps^(-1/2),

    phi(r) = k/sqrt(det eps) sum_j (q_j - p_j.grad) 1/|S (r - r_j)|:

the sum in vacuum of the crystal deformed by S, with dipoles S p. A Gaussian source of width sigma has the covariance
sigma^2 S^2 there. If it is wider than the splitting's own Gaussian it needs no real space at all; narrower ones are
corrected in real space. In an anisotropic medium that correction would not be short-ranged, so alpha is raised until all are
wider: the cost grows like sigma^-3.

A point that coincides with a source (in any image) leaves out that source, but not the images of it. For the Gaussian of
covariance C that the Fourier series contains, potential and second derivatives at its centre are Carlson's integrals of the
principal values c of C, sqrt(2/pi) R_F(c) and -sqrt(2/pi) R_D(c)/3.

Sources: P. P. Ewald, Ann. Phys. 369, 253 (1921); A. Y. Toukmaji et al., J. Chem. Phys. 113, 10913 (2000) for dipoles;
G. Fischerauer, IEEE Trans. Ultrason. Ferroelectr. Freq. Control 44, 1179 (1997) and R. Rurali and X. Cartoixa, Nano
Lett. 9, 975 (2009) for the tensor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.geometry import minkowski_reduce
from ase.units import Bohr, Hartree
from scipy.special import elliprd, elliprf

from solidqmmm.physics.electrostatics.ewald_real import pairs_at_the_same_place, short_ranged
from solidqmmm.physics.electrostatics.ewald_reciprocal import (
    planes,
    series,
    series_virial,
    spread,
    structure_factor,
)

COULOMB = Hartree * Bohr  # e^2/(4 pi eps0) = 14.399645 eV angstrom
REACH = np.sqrt(-np.log(1e-14))  # alpha r and |G|/(2 alpha) at the cutoffs
PAIR_OVER_PHASE = 300.0  # time for a pair in real space over that for a site and a wave vector
NEUTRAL = 1e-9  # net charge, relative to the sum of the moduli


@dataclass(frozen=True, eq=False)
class EwaldEnergy:
    """Energy of a periodic set of charges and dipoles, and its derivatives.

    Attributes:
        energy: Per cell, in eV.
        forces: -dU/dr in eV/angstrom, shape=(n, 3).
        virial: Sum of r (outer) F in eV, -dU/de for positions and cell r -> r (1 + e) as rows at fixed charges, dipoles (in
            e angstrom, Cartesian), widths and dielectric tensor, shape=(3, 3). Dipoles and tensors make it unsymmetric.
        stress: -virial/V in eV/angstrom^3, positive in tension, shape=(3, 3).
        potential: At each site, spread as the site is, without the site itself, in V, shape=(n,): dU/dq.
        field: There, in V/angstrom, shape=(n, 3): -dU/dp.
    """

    energy: float
    forces: np.ndarray
    virial: np.ndarray
    stress: np.ndarray
    potential: np.ndarray
    field: np.ndarray


def ewald_potential(
    points,
    positions,
    charges,
    cell,
    *,
    dipoles=None,
    sigma=None,
    dielectric=None,
    derivatives: int = 1,
    exclude_self: bool = True,
    background: bool = False,
    splitting: float | None = None,
) -> tuple[np.ndarray, ...]:
    """Potential, field and field gradient of periodic charges and dipoles at any points.

    Args:
        points: Where, in angstrom, shape=(m, 3).
        positions: Sources in angstrom, inside the cell or not, shape=(n, 3).
        charges: In e, shape=(n,).
        cell: Cell vectors as rows in angstrom, either handedness, shape=(3, 3).
        dipoles: Point dipoles on the sources in e angstrom, shape=(n, 3).
        sigma: Widths (standard deviations) of Gaussian sources in angstrom, zero for points; a number or shape=(n,).
        dielectric: Relative permittivity of a uniform medium, a number or a symmetric tensor of shape=(3, 3).
        derivatives: 0 for the potential alone, 1 for the field as well, 2 for its gradient as well.
        exclude_self: Points that coincide with sources (nearer than 1e-6 angstrom) leave these out, and keep their images.
        background: Neutralize a net charge by a uniform background.
        splitting: alpha in 1/angstrom; None takes the cheapest. It does not change the result.

    Returns:
        Potential in V, shape=(m,); field in V/angstrom, shape=(m, 3); dE_a/dx_b in V/angstrom^2, shape=(m, 3, 3): the first
        `derivatives` + 1 of them.

    Raises:
        ValueError: For arrays of wrong shape, a net charge without `background`, a dielectric tensor that is not symmetric
            and positive, or a point on a point charge with `exclude_self=False`.
    """
    if derivatives not in (0, 1, 2):
        raise ValueError(f"`derivatives` must be 0, 1 or 2, got {derivatives!r}")
    sources = _sources(positions, charges, cell, dipoles, sigma, background)
    points = _array("points", points, (-1, 3))
    problem = _Problem(*sources, dielectric, splitting, len(points))
    found, _ = problem.sums(points @ problem.S, problem.sigma, derivatives, exclude_self)
    return tuple(problem.out(k, value) for k, value in enumerate(found))


def ewald_energy(
    positions,
    charges,
    cell,
    *,
    dipoles=None,
    sigma=None,
    dielectric=None,
    background: bool = False,
    splitting: float | None = None,
) -> EwaldEnergy:
    """Energy per cell of periodic charges and dipoles, forces, virial and stress.

    Arguments and errors are those of `ewald_potential`. Sources do not interact with themselves, nor with others at the same
    place (nearer than 1e-6 angstrom), but with the images of both. With `sigma` the interactions are those of Gaussian
    distributions; the energy of a Gaussian in its own field, k q^2/(2 sqrt(pi) sigma) in vacuum, is not part of it. With a
    background the energy is the one of zero average potential: E = -alpha_M k Q^2/(2 L) for a single point charge.
    """
    positions, charges, cell, dipoles, sigma = _sources(positions, charges, cell, dipoles, sigma, background)
    problem = _Problem(positions, charges, cell, dipoles, sigma, dielectric, splitting, len(positions))
    order = 1 if dipoles is None else 2
    potential, field, gradient = (np.zeros((len(charges), *(3,) * k)) for k in range(3))
    virial = np.zeros((3, 3))
    for width in np.unique(sigma):
        # A Gaussian feels another Gaussian as a point would feel one of the two widths together.
        these = np.flatnonzero(sigma == width)
        widths = np.hypot(sigma, width)
        found, part = problem.sums(problem.positions[these], widths, order, True, targets=these)
        for total, value in zip((potential, field, gradient), found):
            total[these] = value
        virial += part
    potential, field, gradient = (problem.out(k, v) for k, v in enumerate((potential, field, gradient)))
    energy, forces = 0.5 * charges @ potential, charges[:, None] * field
    if dipoles is not None:
        energy -= 0.5 * np.sum(dipoles * field)
        forces += np.einsum("nab,nb->na", gradient, dipoles)
    virial = problem.scale * np.linalg.solve(problem.S, virial @ problem.S)
    stress = -virial / abs(np.linalg.det(cell))
    return EwaldEnergy(float(energy), forces, virial, stress, potential, field)


class _Problem:
    """Sources in the frame where the medium is a vacuum, and the splitting; sums in units of 4 pi eps0 = 1."""

    def __init__(self, positions, charges, cell, dipoles, sigma, dielectric, splitting, m):
        eps = _dielectric(dielectric)
        values, axes = np.linalg.eigh(eps)
        self.S = (axes / np.sqrt(values)) @ axes.T
        self.scale = COULOMB / np.sqrt(np.prod(values))
        # The shortest cell of the same lattice: fewest images, and least waste in boxes of wave vectors.
        self.cell = np.asarray(minkowski_reduce(cell @ self.S)[0])
        self.positions, self.charges, self.sigma = positions @ self.S, charges, sigma
        self.dipoles = None if dipoles is None else dipoles @ self.S
        self.volume = abs(np.linalg.det(self.cell))
        n = len(charges)
        if splitting is None:
            alpha = (32.6 * PAIR_OVER_PHASE * n * m / ((n + m) * self.volume**2)) ** (1 / 6)
        else:
            alpha = splitting * np.prod(values) ** (1 / 6)
        isotropic = np.ptp(values) <= 1e-12 * values.max()
        if not isotropic and np.any(sigma):
            alpha = max(alpha, np.sqrt(0.5 * values.max()) / sigma[sigma > 0].min())
        self.alpha, self.isotropic = alpha, isotropic

    def sums(self, points, sigma, derivatives, exclude_self, targets=None):
        """Potential, field and gradient at points, sources having widths `sigma`; the virial where points are `targets`."""
        S2, own = self.S @ self.S, 0.5 / self.alpha**2
        narrow = sigma**2 * S2[0, 0] < own if self.isotropic else sigma == 0
        groups = [(narrow, own * np.eye(3))] if narrow.any() else []
        groups += [((sigma == s) & ~narrow, s**2 * S2) for s in np.unique(sigma[~narrow])]
        # Real space
        local = sigma[narrow] * np.sqrt(S2[0, 0])
        felt = None if targets is None else (self.charges[targets], self._dipoles(targets))
        found, virial = short_ranged(
            points, self.positions[narrow], self.charges[narrow], self._dipoles(narrow), local, self.cell, self.alpha,
            REACH / self.alpha, derivatives=derivatives, exclude_self=exclude_self, targets=felt,
        )  # fmt: skip
        # Fourier series
        least = min(np.linalg.eigvalsh(C)[0] for _, C in groups)
        lattice = planes(self.cell, REACH * np.sqrt(2 / least))
        R = None if targets is None else structure_factor(lattice, self.cell, points, *felt)
        total = [0.0] * len(lattice)
        for members, C in groups:
            these = self.positions[members], self.charges[members], self._dipoles(members)
            factors = structure_factor(lattice, self.cell, *these)
            c = [plane.weight * spread(plane, C) * F.conj() for plane, F in zip(lattice, factors)]
            total = [a + b for a, b in zip(total, c)]
            if targets is not None:
                virial += series_virial(lattice, C, c, R)
        smooth = list(series(lattice, self.cell, total, points, derivatives))
        smooth[1:] = [-value for value in smooth[1:]]  # E = -grad phi
        if targets is not None and self.dipoles is not None:
            virial -= felt[1].T @ smooth[1]
        # Zero average: what the short-ranged parts contribute to it
        constant = -self.charges[narrow] @ (np.pi / self.alpha**2 - 2 * np.pi * local**2) / self.volume
        smooth[0] = smooth[0] + constant
        if targets is not None:
            virial += 0.5 * felt[0].sum() * constant * np.eye(3)
        if exclude_self:
            for members, C in groups:
                self._leave_out(smooth, points, np.flatnonzero(members), C)
        return [a + b for a, b in zip(found, smooth)], virial

    def _dipoles(self, members):
        return None if self.dipoles is None else self.dipoles[members]

    def _leave_out(self, smooth, points, members, C):
        """Takes the Gaussians of coinciding sources out of the Fourier series."""
        i, j = pairs_at_the_same_place(points, self.positions[members], self.cell)
        c, axes = np.linalg.eigh(C)
        height = np.sqrt(2 / np.pi) * elliprf(*c)
        curvature = [-np.sqrt(2 / np.pi) / 3 * elliprd(c[k - 2], c[k - 1], c[k]) for k in range(3)]
        curvature = (axes * curvature) @ axes.T
        np.subtract.at(smooth[0], i, self.charges[members[j]] * height)
        if len(smooth) > 1 and self.dipoles is not None:
            np.subtract.at(smooth[1], i, self.dipoles[members[j]] @ curvature)
        if len(smooth) > 2:
            np.add.at(smooth[2], i, self.charges[members[j], None, None] * curvature)

    def out(self, derivative, value):
        """Back to the frame of the medium, in V and angstrom."""
        if derivative == 0:
            return self.scale * value
        if derivative == 1:
            return self.scale * value @ self.S
        return self.scale * self.S @ value @ self.S


def _dielectric(dielectric):
    eps = np.eye(3) if dielectric is None else np.asarray(dielectric, dtype=float)
    eps = eps * np.eye(3) if eps.ndim == 0 else eps
    if eps.shape != (3, 3) or np.abs(eps - eps.T).max() > 1e-8 * np.abs(eps).max():
        raise ValueError(f"`dielectric` must be a number or a symmetric 3x3 tensor, got {dielectric}")
    if np.linalg.eigvalsh(eps)[0] <= 0:
        raise ValueError(f"`dielectric` must be positive in every direction, got {dielectric}")
    return (eps + eps.T) / 2


def _array(name, values, shape):
    values = np.asarray(values, dtype=float)
    fits = values.ndim == len(shape) and all(n in (-1, k) for n, k in zip(shape, values.shape))
    if not fits or not values.size or not np.all(np.isfinite(values)):
        wanted = str(shape).replace("-1", "n")
        raise ValueError(f"`{name}` must be finite numbers of shape {wanted}, got shape {values.shape}")
    return values


def _sources(positions, charges, cell, dipoles, sigma, background):
    positions = _array("positions", positions, (-1, 3))
    n = len(positions)
    charges, cell = _array("charges", charges, (n,)), _array("cell", cell, (3, 3))
    if np.linalg.cond(cell) > 1e12:
        raise ValueError(f"`cell` must be three independent vectors, got {cell.tolist()}")
    dipoles = None if dipoles is None else _array("dipoles", dipoles, (n, 3))
    sigma = np.zeros(n) if sigma is None else np.broadcast_to(np.asarray(sigma, dtype=float), (n,))
    if not np.all(sigma >= 0):
        raise ValueError(f"`sigma` must not be negative (angstrom), got {sigma.min()}")
    if abs(charges.sum()) > NEUTRAL * np.abs(charges).sum() and not background:
        raise ValueError(
            f"the cell must be neutral, got positive charges of {charges[charges > 0].sum():+.10g} e and negative ones of "
            f"{charges[charges < 0].sum():+.10g} e; correct the charges, or ask for a uniform `background`"
        )
    return positions, charges, cell, dipoles, sigma
