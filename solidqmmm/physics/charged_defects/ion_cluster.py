"""Energy and forces of ions, cores and shells, among fixed charges and in a smooth field of the rest of a crystal.

    E(x) = sum_(i<j) [k q_i q_j/r_ij + V_ij(r_ij)] + sum_(i, f) [k q_i q_f/r_if + V_if(r_if)]
           + sum_springs [k2 d^2/2 + k4 d^4/24] + sum_i [W_i + g_i.u_i + u_i.H_i u_i/2],        u = x - x_0

i and j move, f does not. Particles of one ion have no Coulomb energy with each other and no V: they may lie upon each other.
The last line is what sources beyond the fixed ones do, to second order in the displacement. All of it is open space; the
gradient is that of the energy as it is written here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solidqmmm.errors import PolarizationCatastrophe
from solidqmmm.physics.charged_defects.pair_terms import Particles, pairs_in_reach
from solidqmmm.physics.electrostatics.ewald import COULOMB

_SKIN = 1.0  # angstrom; how far two particles may approach each other before a pair is missed at the end of its term
_BLOCK = 2_000_000  # pairs at a time
_FALLEN = 0.2  # angstrom between charges of two ions, from which on nothing stops them


@dataclass(frozen=True, eq=False)
class Expansion:
    """Energy of particles in the field of what is far, W + g.u + u.H u/2.

    Attributes:
        energies: W in eV, shape=(n,).
        gradients: g in eV/angstrom, shape=(n, 3).
        hessians: H in eV/angstrom^2, shape=(n, 3, 3).
    """

    energies: np.ndarray
    gradients: np.ndarray
    hessians: np.ndarray

    def __getitem__(self, some) -> Expansion:
        return Expansion(self.energies[some], self.gradients[some], self.hessians[some])


@dataclass(frozen=True, eq=False)
class Springs:
    """Springs between cores and shells, k2 d^2/2 + k4 d^4/24.

    Attributes:
        cores, shells: Indices of the particles, shape=(m,).
        k2: In eV/angstrom^2, shape=(m,).
        k4: In eV/angstrom^4, shape=(m,).
    """

    cores: np.ndarray
    shells: np.ndarray
    k2: np.ndarray
    k4: np.ndarray


class IonCluster:
    """Ions that move.

    Args:
        particles: Cores and shells, at the positions x_0.
        springs: Between some of them.
        terms: Pair terms by kinds.
        fixed: Particles that do not move.
        far: Field of everything else.
    """

    def __init__(self, particles: Particles, springs: Springs, terms: dict, fixed: Particles, far: Expansion):
        self.particles, self.springs, self.fixed, self.far = particles, springs, fixed, far
        self._among = pairs_in_reach(terms, particles, skin=_SKIN)
        self._to_fixed = pairs_in_reach(terms, particles, fixed, skin=_SKIN)

    def __len__(self):
        return len(self.particles)

    def energy(self, displacements=None, *, steps: bool = True) -> tuple[float, np.ndarray]:
        """Energy in eV and its gradient in eV/angstrom, shape=(n, 3).

        Args:
            displacements: In angstrom, shape=(n, 3).
            steps: Whether the energy has the steps of pair terms that end at their cutoff with a value; without them each
                term is shifted to end at zero, which a minimizer's line searches like better.

        Raises:
            SolidQMMMError: If two ions come too near for their pair term.
            PolarizationCatastrophe: If two charges fall upon each other.
        """
        u = np.zeros((len(self), 3)) if displacements is None else np.asarray(displacements, dtype=float)
        x = self.particles.positions + u
        pull = np.einsum("nab,nb->na", self.far.hessians, u)
        energy = self.far.energies.sum() + np.sum(u * (self.far.gradients + 0.5 * pull))
        gradient = self.far.gradients + pull
        energy += self._coulomb(x, gradient) + self._pairs(x, gradient, steps) + self._springs(x, gradient)
        return float(energy), gradient

    def _coulomb(self, x, gradient) -> float:
        """sum k q q/r, by the product of matrices that squared distances are; adds to the gradient."""
        q, mine, total = self.particles.charges, self.particles.ions, 0.0
        for sources, charges, ions, share in (
            (x, q, mine, 0.5),
            (self.fixed.positions, self.fixed.charges, self.fixed.ions, 1.0),
        ):
            squares = np.einsum("na,na->n", sources, sources)
            rows = max(1, _BLOCK // max(len(sources), 1))
            for first in range(0, len(x) if len(sources) else 0, rows):
                part = slice(first, first + rows)
                y = x[part]
                r2 = np.einsum("na,na->n", y, y)[:, None] + squares - 2 * y @ sources.T
                if share < 1:
                    own = mine[part, None] == ions
                    r2[own] = 1.0
                if r2.min() < _FALLEN**2:
                    raise PolarizationCatastrophe(
                        f"two charges of region I fell upon each other, to less than {_FALLEN} A: no pair term holds them "
                        "apart, or a shell left its core; stiffer springs hold shells"
                    )
                c = COULOMB * q[part, None] * charges / np.sqrt(r2)
                if share < 1:
                    c[own] = 0.0
                total += share * c.sum()
                c /= r2
                gradient[part] += c @ sources - c.sum(axis=1)[:, None] * y
        return total

    def _pairs(self, x, gradient, steps: bool) -> float:
        total = 0.0
        for pairs, other in ((self._among, x), (self._to_fixed, self.fixed.positions)):
            for i, j, term in pairs:
                d = x[i] - other[j]
                r = np.sqrt(np.einsum("na,na->n", d, d))
                V, slope = term.values(r)
                pull = (slope / r)[:, None] * d
                total += V.sum()
                if not steps:
                    total -= term.energies[-1] * np.sum(r < term.cutoff)
                _add_at(gradient, i, pull)
                if other is x:
                    _add_at(gradient, j, -pull)
        return total

    def _springs(self, x, gradient) -> float:
        s = self.springs
        d = x[s.shells] - x[s.cores]
        square = np.einsum("na,na->n", d, d)
        pull = (s.k2 + s.k4 * square / 6)[:, None] * d
        gradient[s.shells] += pull
        gradient[s.cores] -= pull
        return float(np.sum(0.5 * s.k2 * square + s.k4 * square**2 / 24))


def _add_at(total, rows, values):
    """total[rows] += values where rows repeat (many times faster than np.add.at)."""
    for axis in range(3):
        total[:, axis] += np.bincount(rows, values[:, axis], minlength=len(total))
