"""Waves that run along a harmonic chain into a damped end: what comes back, exactly.

The chain is M u''_n = k (u_(n+1) + u_(n-1) - 2 u_n) - M gamma_n u'_n, without damping in front of site 1. With
exp(-i omega t) the displacements follow from the outer end inwards (u_(w+1) = 0 at a fixed end, u_w = 1),

    u_(n-1) = (2 - (M/k)(omega^2 + i omega gamma_n)) u_n - u_(n+1),

and u_n = e^(iqn) + r e^(-iqn) in front of it (4 (k/M) sin^2(q/2) = omega^2) gives r from u_1/u_0.

For a linear ramp gamma_n = gamma_max n/w the reflected energy R = |r|^2 has two parts: exp(-gamma_max width/c), what has
survived the way to the outer end and back, and (omega gamma_max/(8 w sin^3 q))^2 (in units k = M = 1), what the bend of the
profile at its inner edge throws back; at wavelengths well above the lattice's that is (gamma_max c/(8 width omega^2))^2. The
second is the first Born approximation with the chain's Green's function e^(iq|n|)/(2i sin q):
r = (omega/2 sin q) sum_n gamma_n e^(2iqn), where the ramp's sum is (gamma_max/w)/(4 sin^2 q).
"""

from __future__ import annotations

import numpy as np


def chain_reflection(gammas, omega, *, k: float = 1.0, M: float = 1.0, end: str = "fixed") -> np.ndarray:
    """Reflected part of the energy of a wave that runs along a free harmonic chain into a damped end, exactly.

    Args:
        gammas: Damping of the sites from the inside outwards, shape=(..., w) (none: an undamped end).
        omega: Angular frequencies, shape=(f,), above 0 and below the highest of the chain, 2 sqrt(k/M).
        k: Spring constant; any consistent units.
        M: Mass.
        end: "fixed": the outermost site is bound to a wall by another spring; "free": it is not.

    Returns:
        |r|^2, shape=(..., f).

    Raises:
        ValueError: For a frequency outside the band, where no wave runs, or an unknown end.
    """
    gammas, omega = np.asarray(gammas, dtype=float), np.atleast_1d(np.asarray(omega, dtype=float))
    top = 2 * np.sqrt(k / M)
    if not ((omega > 0) & (omega < top)).all():
        raise ValueError(
            f"`omega` must be above 0 and below the highest frequency of the chain, {top:.6g}, got values from "
            f"{omega.min():.6g} to {omega.max():.6g}"
        )
    if end not in ("fixed", "free"):
        raise ValueError(f"`end` must be 'fixed' or 'free', got {end!r}")
    shape = (*gammas.shape[:-1], len(omega))
    u, outer = np.ones(shape, dtype=complex), np.full(shape, 0.0 if end == "fixed" else 1.0, dtype=complex)
    for gamma in np.moveaxis(gammas, -1, 0)[::-1]:
        z = 2 - (M / k) * (omega**2 + 1j * omega * gamma[..., None])
        u, outer = z * u - outer, u
        size = np.hypot(np.abs(u), np.abs(outer))  # only the ratio counts, and it may be 1/0 at a node
        u, outer = u / size, outer / size
    forward = np.exp(2j * np.arcsin(omega / top))
    return np.abs((forward * u - outer) / (outer - u / forward)) ** 2


def ramp_reflection(gamma_max, planes, omega, *, k: float = 1.0, M: float = 1.0) -> np.ndarray:
    """The limit of `chain_reflection` for a wide linear ramp: what its inner edge reflects, in the shape of `omega`.

    R = (omega gamma_max (M/k) / 8 w sin^3 q)^2 with 4 (k/M) sin^2(q/2) = omega^2; units are those of `chain_reflection`.
    """
    omega = np.asarray(omega, dtype=float)
    q = 2 * np.arcsin(omega / 2 * np.sqrt(M / k))
    return (omega * gamma_max * (M / k) / (8 * planes * np.sin(q) ** 3)) ** 2
