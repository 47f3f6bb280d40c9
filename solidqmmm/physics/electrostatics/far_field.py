"""The field of far charges in a region, carried by charges on a sphere around it.

Far sources, none of them inside a sphere of radius R, make a potential inside it that is harmonic, and so fixed by its
values on the sphere. With points r_k spread over that sphere and points s_i over a larger one,

    Q = S phi(r),    S = A^+,    A_ki = k / |r_k - s_i|,

charges Q_i at s_i reproduce it (method of fundamental solutions: G. Fairweather and A. Karageorghis, Adv. Comput. Math. 9,
69 (1998)). S depends on the two spheres only. It works both ways: a charge density inside, whose potentials at the s_i are
phi_i, acts on the far sources as charges w = S^T phi at the r_k do, and with *exactly* the energy it has in their field,

    E = sum_i Q_i phi_i = sum_k w_k phi_far(r_k),

so that forces on far sources are those of the charges w, and the gradient of E.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solidqmmm.physics.electrostatics.ewald import COULOMB

# Singular values of A below this, relative to the largest, are left out: they would only amplify rounding.
_CUTOFF = 1e-8


@dataclass(frozen=True, eq=False)
class FarFieldSphere:
    """Two concentric spheres and the map between them.

    Attributes:
        centre: In angstrom, shape=(3,).
        inner: Radius R of the sphere on which far potentials are sampled, angstrom.
        samples: Points on it, shape=(n_samples, 3).
        sites: Points that carry the charges, shape=(n_sites, 3).
        S: From potentials at the samples in V to charges at the sites in e, shape=(n_sites, n_samples).
    """

    centre: np.ndarray
    inner: float
    samples: np.ndarray
    sites: np.ndarray
    S: np.ndarray

    @classmethod
    def around(cls, centre, inner: float, outer: float, n_sites: int = 400) -> FarFieldSphere:
        """Around a region within `inner` of `centre`, for sources beyond `outer` (angstrom).

        The error falls as (inner/outer)^l with l = sqrt(n_sites). For the ions of MgO beyond 11 angstrom and a region of
        5 angstrom it is 1e-7 V with 400 sites, 4e-5 V with 200; with 14 and 8 angstrom 3e-5 V and 7e-4 V.

        Raises:
            ValueError: If `outer` is not larger than `inner`.
        """
        if not 0 < inner < outer:
            raise ValueError(f"`outer` must be larger than `inner` and both positive, got {outer} and {inner} angstrom")
        centre = np.asarray(centre, dtype=float)
        samples = centre + inner * evenly_on_sphere(2 * n_sites)
        sites = centre + outer * evenly_on_sphere(n_sites)
        A = COULOMB / np.linalg.norm(samples[:, None] - sites, axis=2)
        return cls(centre, float(inner), samples, sites, np.linalg.pinv(A, rcond=_CUTOFF))

    def charges(self, potentials) -> np.ndarray:
        """Charges at the sites in e for far potentials at the samples in V, shape=(n_sites,)."""
        return self.S @ potentials

    def reaction(self, potentials) -> np.ndarray:
        """Charges w at the samples in e, shape=(n_samples,).

        They act on far sources as a density with `potentials` in V at the sites does, shape=(n_sites,).
        """
        return potentials @ self.S


def evenly_on_sphere(n: int) -> np.ndarray:
    """n unit vectors, evenly spread (Fibonacci's spiral), shape=(n, 3)."""
    i = np.arange(n) + 0.5
    polar, turn = np.arccos(1 - 2 * i / n), np.pi * (1 + np.sqrt(5)) * i
    return np.stack([np.cos(turn) * np.sin(polar), np.sin(turn) * np.sin(polar), np.cos(polar)], axis=1)
