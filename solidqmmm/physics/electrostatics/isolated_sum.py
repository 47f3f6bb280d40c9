"""Fields and forces of charges and dipoles in empty space, every site with every other, in memory of order n.

With D3 = 1/r^3 and D5 = 3/r^5 as matrices over pairs, r = r_i - r_j, the field of dipoles is a few matrix products,

    E_i = sum_j D5 (m_j.r) r - D3 m_j
        = r_i (r_i.A) - r_i (B:1) - B r_i + C - sum_j D3 m_j,
    A = sum_j D5 m_j,   B = sum_j D5 r_j (outer) m_j,   C = sum_j D5 (m_j.r_j) r_j,

B : 1 its trace. The matrices are made in blocks of rows and forgotten; being symmetric, each block serves its transpose as
well. Near pairs are left out (`Pairs` has them): they are damped, and would suffer most from the cancellation in these sums.
All in units of 4 pi eps0 = 1.
"""

from __future__ import annotations

from functools import cache, wraps

import numpy as np
from threadpoolctl import ThreadpoolController

ROWS = 64  # at a time: few enough for the cache


@cache
def _threads() -> ThreadpoolController:
    return ThreadpoolController()


def _one_thread(function):
    """Products of blocks this small lose more by meeting of threads than they gain, on a busy machine very much more."""

    @wraps(function)
    def limited(*arguments):
        with _threads().limit(limits=1, user_api="blas"):
            return function(*arguments)

    return limited


class IsolatedSum:
    """Sums over all pairs of sites but some.

    Args:
        positions: In angstrom, shape=(n, 3).
        left_out: Pairs i < j that do not count, shape=(m, 2).
    """

    def __init__(self, positions, left_out):
        self.x = positions - positions.mean(axis=0)
        self.n = len(positions)
        i, j = np.asarray(left_out, dtype=int).reshape(-1, 2).T
        order = np.argsort(i, kind="stable")
        self.left_i, self.left_j = i[order], j[order]

    @_one_thread
    def fields(self, charges, dipoles) -> np.ndarray:
        """At all sites without their own, in e/angstrom^2, shape=(n, 3). Charges or dipoles may be None."""
        x, n = self.x, self.n
        five, three = [], []
        if charges is not None:
            three += [charges[:, None], charges[:, None] * x]
        if dipoles is not None:
            outer = (x[:, :, None] * dipoles[:, None, :]).reshape(n, 9)
            along = np.einsum("na,na->n", x, dipoles)
            five, three = [dipoles, outer, along[:, None] * x], [*three, dipoles]
        summed5, summed3 = self._products(np.hstack(five) if five else None, np.hstack(three))
        fields = np.zeros((n, 3))
        if charges is not None:
            fields += summed3[:, :1] * x - summed3[:, 1:4]
        if dipoles is not None:
            A, B, C = summed5[:, :3], summed5[:, 3:12].reshape(n, 3, 3), summed5[:, 12:]
            fields += (np.einsum("na,na->n", x, A) - np.einsum("naa->n", B))[:, None] * x
            fields += C - np.einsum("nab,nb->na", B, x) - summed3[:, -3:]
        return fields

    @_one_thread
    def energy_of_charges(self, charges) -> float:
        """Energy in e^2/angstrom of charges in e, shape=(n,)."""
        energy = 0.0
        for rows, y in self._blocks():
            potential = np.sqrt(y)
            potential[:, : len(y)] *= 0.5  # the block's own square has each pair twice
            energy += float(charges[rows] @ potential @ charges[rows.start :])
        return energy

    @_one_thread
    def forces(self, charges, dipoles) -> tuple[np.ndarray, np.ndarray]:
        """Forces in e^2/angstrom^2, shape=(n, 3), and sum of x (outer) F in e^2/angstrom, shape=(3, 3)."""
        x, q, m = self.x, charges, dipoles
        m_x = np.einsum("na,na->n", m, x)
        forces = np.zeros((self.n, 3))
        for rows, y in self._blocks():
            far = slice(rows.start, None)
            b = len(y)
            B1 = y * np.sqrt(y)
            mi_r = m_x[rows, None] - m[rows] @ x[far].T
            mj_r = x[rows] @ m[far].T - m_x[far]
            qi, qj = q[rows, None], q[far]
            along = B1 * (qi * qj)
            B2 = 3 * B1 * y
            along += B2 * (m[rows] @ m[far].T + qi * mj_r - qj * mi_r)
            along -= (5 * B2 * y) * mi_r * mj_r
            on_mi, on_mj = B1 * qj + B2 * mj_r, B2 * mi_r - B1 * qi
            forces[rows] += along.sum(axis=1)[:, None] * x[rows] - along @ x[far]
            forces[rows] += on_mi.sum(axis=1)[:, None] * m[rows] + on_mj @ m[far]
            # The reaction on the columns beyond the block's own square, which has both halves already.
            along, on_mi, on_mj, other = along[:, b:], on_mi[:, b:], on_mj[:, b:], slice(rows.stop, None)
            forces[other] += along.sum(axis=0)[:, None] * x[other] - along.T @ x[rows]
            forces[other] -= on_mj.sum(axis=0)[:, None] * m[other] + on_mi.T @ m[rows]
        return forces, x.T @ forces

    def among(self, sites) -> IsolatedSum:
        """The same for some of the sites, in ascending order."""
        number = np.full(self.n, -1)
        number[sites] = np.arange(len(sites))
        left_out = np.column_stack([number[self.left_i], number[self.left_j]])
        return IsolatedSum(self.x[sites], left_out[(left_out >= 0).all(axis=1)])

    def matrix(self) -> np.ndarray:
        """T between dipoles: field = T @ m, in angstrom^-3, shape=(3 n, 3 n)."""
        y = np.zeros((self.n, self.n))
        for rows, part in self._blocks():
            y[rows, rows.start :] = part
            y[rows.start :, rows] = part.T
        B1 = y * np.sqrt(y)
        B2 = 3 * B1 * y
        T = np.zeros((self.n, 3, self.n, 3))
        r = [self.x[:, None, a] - self.x[:, a] for a in range(3)]
        for a in range(3):
            for b in range(a, 3):
                T[:, a, :, b] = T[:, b, :, a] = B2 * r[a] * r[b] - (B1 if a == b else 0.0)
        return T.reshape(3 * self.n, 3 * self.n)

    def _products(self, five, three):
        """D5 @ five and D3 @ three."""
        out5, out3 = np.zeros_like(five) if five is not None else None, np.zeros_like(three)
        for rows, y in self._blocks():
            b, other = len(y), slice(rows.stop, None)
            D = np.sqrt(y)
            D *= y
            out3[rows] += D @ three[rows.start :]
            out3[other] += D[:, b:].T @ three[rows]
            if five is not None:
                D *= y
                out5[rows] += D @ five[rows.start :]
                out5[other] += D[:, b:].T @ five[rows]
        return None if five is None else 3 * out5, out3

    def _blocks(self):
        """Rows, and 1/r^2 of them with all sites from the first of these rows on; zero for what does not count."""
        square = np.einsum("na,na->n", self.x, self.x)
        left = np.column_stack([-2 * self.x, square, np.ones(self.n)])
        right = np.column_stack([self.x, np.ones(self.n), square]).T.copy()
        for first in range(0, self.n, ROWS):
            rows = slice(first, min(first + ROWS, self.n))
            y = left[rows] @ right[:, first:]
            a, b = np.searchsorted(self.left_i, (rows.start, rows.stop))
            i, j = self.left_i[a:b] - first, self.left_j[a:b] - first
            y[i, j] = np.inf
            inside = j < len(y)
            y[j[inside], i[inside]] = np.inf
            y[np.arange(len(y)), np.arange(len(y))] = np.inf
            np.reciprocal(y, out=y)
            yield rows, y
