"""A smooth stand-in for a correction between its evaluations, so that the host relaxes at classical cost.

Around the best exact evaluation x_k, with d = x - x_k on the region's atoms (their common translation taken out),

    Delta E(x) ~ Delta E_k - Delta F_k . d + f(x) + 1/2 kappa sum_i max(0, |d_i| - Delta)^2

where grad f is learnt from the exact evaluations so far. What is learnt is the *difference* of the two descriptions, which
is small and smooth where the host's own potential is a good guess.

- Where the correction is the gradient of an energy, f comes from regression on its forces (physics/gradient_regression).
- Near a minimum, where displacements are far below the length on which forces change, f is d.B d / 2 with a symmetric B that
  symmetric quasi-Newton updates learn from steps (physics/quasi_newton). B belongs to the crystal and not to the state: one
  `Harmonic` may serve many relaxations of it, in slightly strained cells too.
- Where there is no energy (force mixing), grad f is replaced by J d with Broyden's update J += (y - J s) s^T / (s.s), whose
  Jacobian need not be symmetric; the model must then be relaxed by a minimizer that looks at forces only, and the energy
  that LAMMPS sees means nothing and is never reported (J. Nocedal and S. J. Wright, Numerical Optimization (2006), section
  11.1).

The last term is a wall around the trust region: no atom of the region moves much farther than Delta in one step, however
soft the model is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solidqmmm.engines.protocols import Contribution
from solidqmmm.physics.gradient_regression import value_and_gradient, weights
from solidqmmm.physics.quasi_newton import update_broyden, update_symmetric

# Stiffness of the wall in eV/angstrom^2: above any negative curvature that a difference of potentials has.
_WALL = 50.0
# Length over which forces of one atom change, in angstrom: a fraction of a bond. Relaxations of vacancies took the fewest
# exact evaluations between 0.2 and 0.4.
_LENGTH = 0.4
# Noise of exact forces, relative to the variance of what is regressed.
_NOISE = 1e-3
# Older evaluations are forgotten.
_MEMORY = 30


class Surrogate:
    """Wraps a correction: exact on request, a smooth model in between.

    Args:
        exact: The correction that is stood in for.
        harmonic: What other relaxations of the crystal have learnt, for one that begins near a minimum; it goes on learning.
    """

    has_energy = True

    def __init__(self, exact, harmonic: Harmonic | None = None):
        self.exact = exact
        self.atoms = exact.atoms
        self.reference = exact.reference
        self.needs_host_forces = exact.needs_host_forces
        # Elsewhere (far ions in the field of an embedded cluster) the correction's forces are constant in between.
        learnt = getattr(exact, "learnt", None)
        self.learnt = self.atoms if learnt is None else np.asarray(learnt)
        self._learnt = slice(None) if learnt is None else np.searchsorted(self.atoms, learnt)
        self.asks_exact = True
        self.trust_radius = np.inf
        self.wall_energy = 0.0
        self._model = harmonic or (_Regression() if exact.has_energy else _Broyden())
        self._last = self._base = None  # on the atoms that the model is about
        self._exact = self._expanded = None  # on all of the correction's

    def evaluate(self, positions, cell, host_forces=None) -> Contribution:
        """The exact correction if it is asked for, else its model, at contiguous `positions`, shape=(n, 3)."""
        if self.asks_exact:
            given = self.exact.evaluate(positions, cell, host_forces)
            self._exact = _Seen(positions.copy(), np.array(given.forces), given.energy or 0.0)
            self._last = _Seen(positions[self._learnt].copy(), self._exact.forces[self._learnt], self._exact.energy)
            return given
        base, learnt = self._expanded, self._learnt
        d = positions - base.positions
        value, gradient = self._model.at(_centred(positions[learnt]).ravel())
        self.wall_energy, wall_forces = self._wall(_centred(d[learnt]))
        forces = base.forces.copy()
        forces[learnt] += _centred(wall_forces - gradient.reshape(-1, 3))
        energy = base.energy - float((base.forces * d).sum()) + value + self.wall_energy
        return Contribution(forces=forces, energy=energy)

    def learn(self):
        """Gives the last exact evaluation to the model."""
        self._model.learn(self._last, self._base)

    def centre_here(self):
        """Makes the last exact evaluation the centre of the model."""
        self._base, self._expanded = self._last, self._exact

    def fit(self):
        """Makes the model ready to be asked, around the present centre."""
        self._model.fit(self._base)

    def _wall(self, d):
        """Energy in eV and forces in eV/angstrom, shape=(n, 3), of the wall around the trust region."""
        length = np.linalg.norm(d, axis=1)
        beyond = np.maximum(length - self.trust_radius, 0.0)
        pull = np.divide(beyond, length, out=np.zeros_like(length), where=length > 0)
        return 0.5 * _WALL * float((beyond**2).sum()), -_WALL * pull[:, None] * d


@dataclass(frozen=True, eq=False)
class _Seen:
    """An exact evaluation: positions in angstrom and forces in eV/angstrom, shape=(n, 3), energy in eV."""

    positions: np.ndarray
    forces: np.ndarray
    energy: float


class _Regression:
    """f by regression on gradients; f = 0 and grad f = 0 (but for noise) at the centre."""

    def __init__(self):
        self.seen: list[_Seen] = []

    def learn(self, last: _Seen, base: _Seen | None):  # noqa: ARG002 - the other model needs the centre
        self.seen = [*self.seen, last][-_MEMORY:]

    def fit(self, base: _Seen):
        self.points = np.array([_centred(seen.positions).ravel() for seen in self.seen])
        gradients = np.array([_centred(base.forces - seen.forces).ravel() for seen in self.seen])
        self.weights = weights(self.points, gradients, _LENGTH, _NOISE)
        self.offset, _ = value_and_gradient(_centred(base.positions).ravel(), self.points, self.weights, _LENGTH)

    def at(self, x) -> tuple[float, np.ndarray]:
        value, gradient = value_and_gradient(x, self.points, self.weights, _LENGTH)
        return value - self.offset, gradient


class _Broyden:
    """J d with Broyden's update; the value is that of d.J d / 2, which is no potential of it."""

    def __init__(self):
        self.jacobian = None

    def learn(self, last: _Seen, base: _Seen | None):
        if self.jacobian is None:
            self.jacobian = np.zeros((last.positions.size,) * 2)
        if base is None:
            return
        s = _centred(last.positions - base.positions).ravel()
        y = _centred(base.forces - last.forces).ravel()
        if s.any():
            update_broyden(self.jacobian, s, y)

    def fit(self, base: _Seen):
        self.base = _centred(base.positions).ravel()

    def at(self, x) -> tuple[float, np.ndarray]:
        d = x - self.base
        gradient = self.jacobian @ d
        return 0.5 * float(d @ gradient), gradient


class Harmonic:
    """d.B d / 2 around the centre, with a symmetric B in eV/angstrom^2, shape=(3 n, 3 n), that outlives the relaxation."""

    def __init__(self):
        self.matrix = None

    def learn(self, last: _Seen, base: _Seen | None):
        if self.matrix is None:
            self.matrix = np.zeros((last.positions.size,) * 2)
        if base is None:
            return
        s = _centred(last.positions - base.positions).ravel()
        update_symmetric(self.matrix, s, _centred(base.forces - last.forces).ravel())

    def fit(self, base: _Seen):
        self.base = _centred(base.positions).ravel()

    def at(self, x) -> tuple[float, np.ndarray]:
        d = x - self.base
        gradient = self.matrix @ d
        return 0.5 * float(d @ gradient), gradient


def _centred(vectors) -> np.ndarray:
    """Vectors without their mean: a model of differences must not push the crystal as a whole."""
    return vectors - vectors.mean(axis=0)
