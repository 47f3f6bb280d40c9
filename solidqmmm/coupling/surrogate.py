"""A quadratic stand-in for a correction between its evaluations, so that the host relaxes at classical cost.

Around the last exact evaluation x_k, with d = x - x_k on the region's atoms,

    Delta E(x) ~ Delta E_k - Delta F_k . d + 1/2 d^T B d + 1/2 kappa sum_i max(0, |d_i| - Delta)^2

B starts at zero: the host's own potential already carries the elasticity, and the correction's Hessian is what it lacks. It
is learnt from pairs of exact evaluations, with s = x_{k+1} - x_k, y = -(Delta F_{k+1} - Delta F_k) and r = y - B s.

Where the correction is the gradient of an energy, B stays symmetric (Bofill's mixture of the symmetric rank-one and the
Powell-symmetric-Broyden updates): unlike BFGS it allows the indefinite curvature that a difference of two descriptions has,
and unlike rank one alone it stays tame where r and s are nearly at right angles,

    B += phi r r^T / (r.s) + (1 - phi) [ (r s^T + s r^T) / (s.s) - (r.s) s s^T / (s.s)^2 ],   phi = (r.s)^2 / ((r.r)(s.s)).

Where it is not (force mixing), the Jacobian has no reason to be symmetric, and B follows Broyden: B += r s^T / (s.s).

The last term is a wall around the trust region: no atom of the region moves much farther than Delta in one step, however
soft the model is. Sources: J. M. Bofill, J. Comput. Chem. 15, 1 (1994); J. Nocedal and S. J. Wright, Numerical Optimization (2006),
section 11.1.
"""

from __future__ import annotations

import numpy as np

from solidqmmm.engines.protocols import Contribution

# Stiffness of the wall in eV/angstrom^2: above any negative curvature that a difference of potentials has.
_WALL = 50.0


class Surrogate:
    """Wraps a correction: exact on request, quadratic in between.

    For a correction without an energy (force mixing) the model stands for its forces alone, and must be relaxed by a
    minimizer that looks at forces only; the energy that LAMMPS then sees means nothing and is never reported.

    Args:
        exact: The correction that is stood in for.
    """

    has_energy = True

    def __init__(self, exact):
        self.exact = exact
        self.atoms = exact.atoms
        self.reference = exact.reference
        self.needs_host_forces = exact.needs_host_forces
        self.asks_exact = True
        self.given: Contribution | None = None
        self.evaluated_at: np.ndarray | None = None
        self.base_forces: np.ndarray | None = None
        self.base_energy = 0.0
        self.wall_energy = 0.0
        self.base_positions: np.ndarray | None = None
        self.trust_radius = np.inf
        self.hessian = np.zeros((3 * len(self.atoms),) * 2)

    def evaluate(self, positions, cell, host_forces=None) -> Contribution:
        """The exact correction if it is asked for, else its quadratic model, at `positions`, shape=(n, 3)."""
        if self.asks_exact:
            self.given = self.exact.evaluate(positions, cell, host_forces)
            self.evaluated_at = positions.copy()
            return self.given
        d = positions - self.base_positions
        bend = (self.hessian @ d.ravel()).reshape(-1, 3)
        energy = self.base_energy + float(((0.5 * bend - self.base_forces) * d).sum())
        wall_energy, wall_forces = self._wall(d)
        self.wall_energy = wall_energy
        return Contribution(forces=self.base_forces - bend + wall_forces, energy=energy + wall_energy)

    def _wall(self, d):
        """Energy in eV and forces in eV/angstrom, shape=(n, 3), of the wall around the trust region."""
        length = np.linalg.norm(d, axis=1)
        beyond = np.maximum(length - self.trust_radius, 0.0)
        pull = np.divide(beyond, length, out=np.zeros_like(length), where=length > 0)
        return 0.5 * _WALL * float((beyond**2).sum()), -_WALL * pull[:, None] * d

    def centre_here(self):
        """Makes the last exact evaluation the centre of the model."""
        self.base_positions = self.evaluated_at
        self.base_forces = np.array(self.given.forces)
        self.base_energy = self.given.energy or 0.0

    def learn(self, positions, forces):
        """Updates B so that the model reproduces the exact `forces` at `positions` (both shape=(n, 3))."""
        s = (positions - self.base_positions).ravel()
        r = -(forces - self.base_forces).ravel() - self.hessian @ s
        ss, rs, rr = s @ s, r @ s, r @ r
        if ss == 0 or rr == 0:
            return
        if not self.exact.has_energy:
            self.hessian += np.outer(r, s / ss)
            return
        phi = rs**2 / (rr * ss)
        powell = (np.outer(r, s) + np.outer(s, r)) / ss - rs * np.outer(s, s) / ss**2
        # phi r r^T / (r.s), written without the division by r.s
        self.hessian += np.outer(r, r) * (rs / (rr * ss)) + (1 - phi) * powell
