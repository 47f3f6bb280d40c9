"""Fields and forces of charges and dipoles that interact in pairs, by any radial functions B_n.

    U = q_i q_j C_0 + G_1 B_1 + G_2 B_2,      r = r_i - r_j,
    G_1 = m_i.m_j + q_i m_j.r - q_j m_i.r,    G_2 = -(m_i.r)(m_j.r),
    F_i = r (q_i q_j C_1 + G_1 B_2 + G_2 B_3) + B_1 (q_j m_i - q_i m_j) + B_2 [(m_j.r) m_i + (m_i.r) m_j],   F_j = -F_i,

with X_(n+1) = -(1/r) dX_n/dr. The charges have functions C_n of their own, since damping leaves them alone. All in units
of 4 pi eps0 = 1.

A Gaussian's functions (erf in place of 1) are B_n = (2 s/sqrt(pi)) (2 s^2)^n F_n(s^2 r^2), F_n the Boys function: what a
smooth sum has of near pairs already, to be taken out again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.special import gamma, gammainc


def gaussian_tensors(distances, screening: float) -> list[np.ndarray]:
    """B_0 ... B_3 of erf(s r)/r in powers of 1/angstrom, finite at r = 0, each in the shape of `distances`; s =
    `screening` in 1/angstrom.
    """
    x = np.maximum(
        (screening * np.asarray(distances)) ** 2, 1e-40
    )  # F_n(0) = 1/(2 n + 1), reached long before
    # F_3 by the incomplete gamma function, the others by the recursion that is stable downwards.
    boys = [0.5 * gamma(3.5) * gammainc(3.5, x) / x**3.5]
    decay = np.exp(-x)
    for n in (3, 2, 1):
        boys.append((2 * x * boys[-1] + decay) / (2 * n - 1))
    scale = 2 * screening / np.sqrt(np.pi)
    return [scale * (2 * screening**2) ** n * F for n, F in enumerate(reversed(boys))]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of sites, each once, and their radial functions.

    Attributes:
        i, j: Sites, shape=(m,).
        r: r_i - r_j of the image meant, in angstrom, shape=(m, 3).
        C: C_0 and C_1 between charges, shape=(2, m).
        B: B_1, B_2, B_3 of all else, shape=(3, m).
        n: Number of sites.
    """

    i: np.ndarray
    j: np.ndarray
    r: np.ndarray
    C: np.ndarray
    B: np.ndarray
    n: int

    def matrix(self, sites) -> sparse.bsr_array:
        """T between the dipoles of some sites: field = T @ m, in angstrom^-3, shape=(3 k, 3 k)."""
        number = np.full(self.n, -1)
        number[sites] = np.arange(len(sites))
        i, j = number[self.i], number[self.j]
        among = (i >= 0) & (j >= 0)
        i, j, r = i[among], j[among], self.r[among]
        blocks = r[:, :, None] * (self.B[1][among, None] * r)[:, None, :]
        for k in range(3):
            blocks[:, k, k] -= self.B[0][among]
        rows, columns = np.concatenate([i, j]), np.concatenate([j, i])
        order = np.argsort(rows, kind="stable")
        starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(sites)))])
        data = blocks[order % max(len(i), 1)]
        return sparse.bsr_array((data, columns[order], starts), shape=(3 * len(sites),) * 2, blocksize=(3, 3))

    def fields_of_charges(self, charges) -> np.ndarray:
        """At all sites, in e/angstrom^2, shape=(n, 3)."""
        weighted = self.B[0][:, None] * self.r
        return self._add(charges[self.j, None] * weighted, -charges[self.i, None] * weighted)

    def energy_of_charges(self, charges) -> float:
        """Energy in e^2/angstrom of charges in e, shape=(n,)."""
        return float(np.sum(charges[self.i] * charges[self.j] * self.C[0]))

    def forces(self, charges, dipoles) -> tuple[np.ndarray, np.ndarray]:
        """Forces in e^2/angstrom^2, shape=(n, 3), and sum of x (outer) F in e^2/angstrom, shape=(3, 3)."""
        i, j, r, (B1, B2, B3) = self.i, self.j, self.r, self.B
        qi, qj, mi, mj = charges[i], charges[j], dipoles[i], dipoles[j]
        mi_r, mj_r = np.einsum("ma,ma->m", mi, r), np.einsum("ma,ma->m", mj, r)
        G1 = np.einsum("ma,ma->m", mi, mj) + qi * mj_r - qj * mi_r
        force = (qi * qj * self.C[1] + G1 * B2 - mi_r * mj_r * B3)[:, None] * r
        force += (B1 * qj + B2 * mj_r)[:, None] * mi + (B2 * mi_r - B1 * qi)[:, None] * mj
        return self._add(force, -force), r.T @ force

    def _add(self, on_i, on_j) -> np.ndarray:
        total = np.zeros((self.n, 3))
        for k in range(3):
            total[:, k] = np.bincount(self.i, on_i[:, k], self.n) + np.bincount(self.j, on_j[:, k], self.n)
        return total
