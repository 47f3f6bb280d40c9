"""Fields around a crack tip in any elastic solid, and what its stress intensity K and energy release rate G have in common.

Axes: x is the direction of growth, y the normal of the crack plane, z the crack front; plane strain (nothing depends on z).
With Stroh's eigenvalues p_a and vectors A, B and k = (K_II, K_I, K_III)

    u = sqrt(2/pi) Re[A <sqrt(x + p_a y)> B^-1] k,      G = k . L^-1 k / 2,      L the Barnett-Lothe tensor.

Where z is the normal of a mirror plane, u_z vanishes and this is the solution of Sih, Paris and Irwin, which is taken from
matscipy. In a solid that is isotropic about z the eigenvalues coincide and that form has no limit: there it is Westergaard's
solution with moduli of plane strain. K in MPa sqrt(m), G in J/m^2, lengths in angstrom, stress and C in eV/angstrom^3.

Sources: G. C. Sih, P. C. Paris and G. R. Irwin, Int. J. Fract. Mech. 1, 189 (1965); T. C. T. Ting, Anisotropic Elasticity
(Oxford University Press, 1996), chapter 11; H. M. Westergaard, J. Appl. Mech. 6, A49 (1939).
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from ase.units import GPa, Pascal, kJ, m

from solidqmmm.physics.elasticity import compliance, full_tensor, require_elastic_tensor

MPa_sqrt_m = 1e6 * Pascal * np.sqrt(m)  # eV/angstrom^(5/2)
J_per_m2 = 1e-3 * kJ / m**2  # eV/angstrom^2
MODES = ("I", "II")

_SAME = 1e-9  # relative: constants that symmetry makes equal or zero
_ILL = 1e3  # condition of Stroh's vectors above which eigenvalues count as coinciding
_SPLIT = 1e-3  # relative change of the constants that parts them
# A change that parts any coinciding eigenvalues; no symmetry has it.
_GENERIC = np.diag([1.0, -0.7, 0.3, 0.5, -0.4, 0.8])


def require_mode(mode: str) -> str:
    """The mode, if it is 'I' or 'II'.

    Raises:
        ValueError: For another mode.
    """
    if mode not in MODES:
        raise ValueError(f"`mode` must be 'I' (opening) or 'II' (in-plane shear), got {mode!r}")
    return mode


class CrackField:
    """The field of a crack in one solid, seen from its axes.

    Args:
        C: Elastic tensor in the axes of the crack (Voigt: xx yy zz yz xz xy), eV/angstrom^3, shape=(6, 6).

    Raises:
        ValueError: If C is no elastic tensor, or not positive definite (the crystal is unstable).
    """

    def __init__(self, C):
        C = require_elastic_tensor(C)
        self.C = (C + C.T) / 2
        lowest = np.linalg.eigvalsh(self.C).min()
        if lowest <= 0:
            raise ValueError(
                f"the elastic tensor is not positive definite (lowest eigenvalue {lowest / GPa:.3g} GPa): the crystal is "
                "unstable and no crack can be loaded in it"
            )

    # --- K and G --------------------------------------------------------------------------------------------------

    @cached_property
    def barnett_lothe(self) -> np.ndarray:
        """L in eV/angstrom^3, shape=(3, 3); mu/(1 - nu), mu/(1 - nu), mu on the diagonal of an isotropic solid."""
        from matscipy.fracture_mechanics.crack import barnett_lothe_L

        return barnett_lothe_L(self.C, n_omega=256)

    def energy_release_rate(self, K_I: float = 0.0, K_II: float = 0.0) -> float:
        """G = k . L^-1 k / 2 in J/m^2 for stress intensities in MPa sqrt(m)."""
        k = np.array([K_II, K_I, 0.0]) * MPa_sqrt_m
        return float(0.5 * k @ np.linalg.solve(self.barnett_lothe, k) / J_per_m2)

    def stress_intensity(self, G: float, mode: str = "I") -> float:
        """K in MPa sqrt(m) at which a crack in a pure mode releases G in J/m^2.

        Raises:
            ValueError: For a negative G or an unknown mode.
        """
        if G < 0:
            raise ValueError(f"`G` must not be negative (J/m^2), got {G}")
        unit = self.energy_release_rate(**{f"K_{require_mode(mode)}": 1.0})
        return float(np.sqrt(G / unit))

    # --- fields ---------------------------------------------------------------------------------------------------

    def displacements(self, x, y, K_I: float = 0.0, K_II: float = 0.0) -> np.ndarray:
        """u at points x, y in angstrom from the tip, K in MPa sqrt(m); angstrom, shape=(n, 3).

        The crack is at y = 0, x < 0; points on it belong to its upper flank.
        """
        x, y = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
        k = np.array([K_II, K_I, 0.0]) * MPa_sqrt_m
        if not k.any():
            return np.zeros((*x.shape, 3))
        r, theta = np.hypot(x, y), _angle(x, y)
        if self._kind == "isotropic":
            return _isotropic_displacements(*self._reduced_moduli, r, theta, k)
        if self._kind == "mirror":
            u = np.zeros((*x.shape, 3))
            u[..., 0], u[..., 1] = self._sih_paris_irwin.displacements(r, theta, k[1], k[0])
            return u
        return self._averaged(lambda solid: solid.displacements(r, theta, k))

    def stresses(self, x, y, K_I: float = 0.0, K_II: float = 0.0) -> np.ndarray:
        """Stress at points x, y in angstrom from the tip; Voigt, eV/angstrom^3, tension positive, shape=(n, 6)."""
        x, y = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
        k = np.array([K_II, K_I, 0.0]) * MPa_sqrt_m
        r, theta = np.hypot(x, y), _angle(x, y)
        sigma = np.zeros((*x.shape, 6))
        if self._kind == "isotropic":
            sigma[..., [0, 1, 5]] = _isotropic_stresses(r, theta, k)
        elif self._kind == "mirror":
            sigma[..., 0], sigma[..., 1], sigma[..., 5] = self._sih_paris_irwin.stresses(r, theta, k[1], k[0])
        else:
            sigma = self._averaged(lambda solid: solid.stresses(r, theta, k))
        S = compliance(self.C)
        sigma[..., 2] = -(sigma @ S[2]) / S[2, 2]  # no strain along the front; it was zero so far
        return sigma

    # --- which solution -------------------------------------------------------------------------------------------

    @cached_property
    def _reduced(self) -> np.ndarray:
        """Compliances of plane strain S_ij - S_i3 S_3j / S_33 of xx, yy and xy, shape=(3, 3)."""
        S = compliance(self.C)
        return (S - np.outer(S[:, 2], S[2]) / S[2, 2])[np.ix_([0, 1, 5], [0, 1, 5])]

    @property
    def _reduced_moduli(self) -> tuple[float, float]:
        """mu and Kolosov's kappa of a solid that is isotropic about z."""
        a = self._reduced
        mu = 1.0 / a[2, 2]
        return mu, 8.0 * mu * a[0, 0] - 1.0  # a_11 = (1 - nu)/(2 mu), kappa = 3 - 4 nu

    @cached_property
    def _kind(self) -> str:
        """'isotropic' about z, 'mirror' where in-plane and antiplane strains do not mix, or 'general'."""
        mixing = np.abs(self.C[np.ix_([3, 4], [0, 1, 5])]).max()
        if mixing > _SAME * np.abs(self.C).max():
            return "general"
        a = self._reduced
        odd = [a[0, 0] - a[1, 1], a[2, 2] - 2 * (a[0, 0] - a[0, 1]), a[0, 2], a[1, 2]]
        if np.abs(odd).max() < _SAME * np.abs(a).max():
            return "isotropic"
        return "mirror" if self._sih_paris_irwin is not None else "general"

    @cached_property
    def _sih_paris_irwin(self):
        """matscipy's solution, or None where its roots coincide."""
        from matscipy.fracture_mechanics.crack import RectilinearAnisotropicCrack

        crack, a = RectilinearAnisotropicCrack(), self._reduced
        try:
            crack.set_plane_stress(a[0, 0], a[1, 1], a[0, 1], a[0, 2], a[1, 2], a[2, 2])
        except RuntimeError:  # roots that rounding has parted
            return None
        above = crack.mu1.imag > 0 and crack.mu2.imag > 0
        return crack if above and abs(crack.mu1 - crack.mu2) > 1.0 / _ILL else None

    def _averaged(self, field) -> np.ndarray:
        """The field of Stroh's solution; where eigenvalues coincide, its limit from solids on both sides of this one.

        The field is analytic in C, only the formula is not: means over +-h and extrapolation leave an error of order h^6.
        """
        solid = _Stroh(self.C)
        if solid.condition < _ILL:
            return field(solid)
        change = _SPLIT * np.abs(self.C).max() / 8 * _GENERIC

        def mean(h):
            return (field(_Stroh(self.C + h * change)) + field(_Stroh(self.C - h * change))) / 2

        f1, f2, f4 = mean(1), mean(2), mean(4)
        return (64 * f1 - 20 * f2 + f4) / 45


class _Stroh:
    """Stroh's eigenvalues with positive imaginary part and their vectors."""

    def __init__(self, C):
        c = full_tensor(C)
        Q, R, T = c[:, 0, :, 0], c[:, 0, :, 1], c[:, 1, :, 1]
        N1, N2 = -np.linalg.solve(T, R.T), np.linalg.inv(T)
        scale = np.trace(T) / 3  # both halves of the vectors of one size
        N = np.block([[N1, scale * N2], [(R @ N2 @ R.T - Q) / scale, N1.T]])
        p, vectors = np.linalg.eig(N)
        chosen = np.argsort(-p.imag)[:3]
        self.p, self.A, self.B = p[chosen], vectors[:3, chosen] / scale, vectors[3:, chosen]
        self.condition = float(np.linalg.cond(self.B))

    def _roots(self, r, theta):
        return np.sqrt(np.cos(theta)[..., None] + self.p * np.sin(theta)[..., None]), np.sqrt(r)[..., None]

    def displacements(self, r, theta, k):
        roots, sqrt_r = self._roots(r, theta)
        q = np.linalg.solve(self.B, k.astype(complex))
        return np.sqrt(2 / np.pi) * sqrt_r * ((roots * q) @ self.A.T).real

    def stresses(self, r, theta, k):
        roots, sqrt_r = self._roots(r, theta)
        q = np.linalg.solve(self.B, k.astype(complex)) / np.sqrt(2 * np.pi)
        along = ((q / roots) @ self.B.T).real / sqrt_r  # sigma_iy = d phi_i / dx
        across = -((self.p * q / roots) @ self.B.T).real / sqrt_r  # sigma_ix = -d phi_i / dy
        sigma = np.zeros((*np.shape(r), 6))
        sigma[..., 0], sigma[..., 1], sigma[..., 5] = across[..., 0], along[..., 1], along[..., 0]
        sigma[..., 4], sigma[..., 3] = across[..., 2], along[..., 2]
        return sigma


def _angle(x, y):
    """theta in (-pi, pi], +pi on the crack whatever the sign of a zero."""
    return np.arctan2(np.where(y == 0.0, 0.0, y), x)


def _isotropic_displacements(mu, kappa, r, theta, k):
    c, s = np.cos(theta / 2), np.sin(theta / 2)
    front = np.sqrt(r / (2 * np.pi)) / (2 * mu)
    u = np.zeros((*np.shape(r), 3))
    u[..., 0] = front * (k[1] * c * (kappa - 1 + 2 * s**2) + k[0] * s * (kappa + 1 + 2 * c**2))
    u[..., 1] = front * (k[1] * s * (kappa + 1 - 2 * c**2) - k[0] * c * (kappa - 1 - 2 * s**2))
    return u


def _isotropic_stresses(r, theta, k):
    c, s = np.cos(theta / 2), np.sin(theta / 2)
    c3, s3 = np.cos(1.5 * theta), np.sin(1.5 * theta)
    xx = k[1] * c * (1 - s * s3) - k[0] * s * (2 + c * c3)
    yy = k[1] * c * (1 + s * s3) + k[0] * s * c * c3
    xy = k[1] * s * c * c3 + k[0] * c * (1 - s * s3)
    return np.stack([xx, yy, xy], axis=-1) / np.sqrt(2 * np.pi * r)[..., None]
