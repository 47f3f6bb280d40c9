"""A smooth stand-in for a correction between its evaluations, so that the host relaxes at classical cost.

Around the best exact evaluation x_k, with d = x - x_k on the region's atoms (their common translation taken out),

    Delta E(x) ~ Delta E_k - Delta F_k . d + f(x) + 1/2 kappa sum_i max(0, |d_i| - Delta)^2

where grad f is learnt from the exact evaluations so far. What is learnt is the *difference* of the two descriptions, which
is small and smooth where the host's own potential is a good guess.

- Where the correction is the gradient of an energy, f comes from regression on its forces
  (physics/algebra/gradient_regression).
- Near a minimum, where displacements are far below the length on which forces change, f is d.B d / 2 with a symmetric B that
  symmetric quasi-Newton updates learn from steps (physics/algebra/quasi_newton). B belongs to the crystal and not to the
  state: one `Harmonic` may serve many relaxations of it, in slightly strained cells too.
- Where the correction reaches beyond the region (ions in the field of an embedded cluster), what regression on the region's
  atoms leaves over has the smallest symmetric Hessian on all atoms that explains the last steps.
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
from solidqmmm.physics.algebra.gradient_regression import value_and_gradient, weights
from solidqmmm.physics.algebra.quasi_newton import SecantHessian, update_broyden, update_symmetric

# Stiffness of the wall in eV/angstrom^2: above any negative curvature that a difference of potentials has.
_WALL = 50.0
# Length over which forces of one atom change, in angstrom: a fraction of a bond. Relaxations of vacancies took the fewest
# exact evaluations between 0.2 and 0.4.
_LENGTH = 0.4
# Noise of exact forces, relative to the variance of what is regressed.
_NOISE = 1e-3
# Older evaluations are forgotten.
_MEMORY = 30
# Far atoms: how many steps are explained, which steps are too long to tell of the same Hessian, and below which total length
# they drown in noise (angstrom).
_STEPS, _LONGEST, _SHORTEST = 8, 0.2, 0.02


class Surrogate:
    """Wraps a correction: exact on request, a smooth model in between.

    Args:
        exact: The correction that is stood in for.
        harmonic: What other relaxations of the crystal have learnt, for one that begins near a minimum; it goes on learning.
        n_atoms: Number of the host's atoms; what the correction says of shells, which are at rest in exact evaluations, is
            not learnt. All particles by default.
    """

    has_energy = True

    def __init__(self, exact, harmonic: Harmonic | None = None, n_atoms: int | None = None):
        self.exact = exact
        atoms = slice(None) if n_atoms is None else np.flatnonzero(exact.atoms < n_atoms)
        self.atoms = exact.atoms[atoms]
        self.reference = exact.reference[atoms]
        self.needs_host_forces = exact.needs_host_forces
        # The model is about these; elsewhere there are ions in the field of an embedded cluster.
        learnt = getattr(exact, "learnt", None)
        self.learnt = self.atoms if learnt is None else np.asarray(learnt)
        self._learnt = slice(None) if learnt is None else np.searchsorted(self.atoms, learnt)
        self.asks_exact = True
        self.trust_radius = np.inf
        self.wall_energy = 0.0
        self._model = harmonic or (_Regression() if exact.has_energy else _Broyden())
        self._elsewhere = None if learnt is None else _Elsewhere()
        self._last = self._base = None  # on the atoms that the model is about
        self._exact = self._expanded = None  # on all of the correction's

    def evaluate(self, positions, cell, host_forces=None) -> Contribution:
        """The exact correction if it is asked for, else its model, at contiguous `positions`, shape=(n, 3)."""
        if self.asks_exact:
            given = self.exact.evaluate(positions, cell, host_forces)
            self.told(positions, given.forces, given.energy or 0.0)
            return given
        base, learnt = self._expanded, self._learnt
        d = positions - base.positions
        value, gradient = self._model.at(_centred(positions[learnt]).ravel())
        forces = base.forces.copy()
        forces[learnt] -= _centred(gradient.reshape(-1, 3))
        if self._elsewhere is None:
            self.wall_energy, wall_forces = self._wall(_centred(d[learnt]))
            forces[learnt] += _centred(wall_forces)
        else:
            more, slope = self._elsewhere.at(_centred(d).ravel())
            self.wall_energy, wall_forces = self._wall(_centred(d))
            value, forces = value + more, forces + _centred(wall_forces - slope.reshape(-1, 3))
        energy = base.energy - float((base.forces * d).sum()) + value + self.wall_energy
        return Contribution(forces=forces, energy=energy)

    def told(self, positions, forces, energy: float):
        """Takes an exact evaluation (angstrom, eV/angstrom, shape=(n, 3); eV) that was made elsewhere."""
        self._exact = _Seen(np.array(positions), np.array(forces), energy)
        self._last = _Seen(self._exact.positions[self._learnt], self._exact.forces[self._learnt], energy)

    def learn(self):
        """Gives the last exact evaluation to the model."""
        self._model.learn(self._last, self._base)
        if self._elsewhere is not None:
            self._elsewhere.learn(self._exact)

    def centre_here(self):
        """Makes the last exact evaluation the centre of the model."""
        self._base, self._expanded = self._last, self._exact

    def fit(self):
        """Makes the model ready to be asked, around the present centre."""
        self._model.fit(self._base)
        if self._elsewhere is not None:
            self._elsewhere.fit(self._expanded, self._gradient)

    def _gradient(self, positions) -> np.ndarray:
        """What the model of the region foresees at `positions` of all atoms, in eV/angstrom, shape=(n, 3)."""
        gradient = np.zeros_like(positions)
        gradient[self._learnt] = self._model.at(_centred(positions[self._learnt]).ravel())[1].reshape(-1, 3)
        return gradient

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
    """f by regression on gradients; f = 0 and grad f = 0 at the centre.

    What the regression takes for noise there is put back: far evaluations with large forces would hide the last small ones.
    """

    def __init__(self):
        self.seen: list[_Seen] = []

    def learn(self, last: _Seen, base: _Seen | None):  # noqa: ARG002 - the other model needs the centre
        self.seen = [*self.seen, last][-_MEMORY:]

    def fit(self, base: _Seen):
        self.points = np.array([_centred(seen.positions).ravel() for seen in self.seen])
        gradients = np.array([_centred(base.forces - seen.forces).ravel() for seen in self.seen])
        self.weights = weights(self.points, gradients, _LENGTH, _NOISE)
        self.centre = _centred(base.positions).ravel()
        self.offset, self.slope = value_and_gradient(self.centre, self.points, self.weights, _LENGTH)

    def at(self, x) -> tuple[float, np.ndarray]:
        value, gradient = value_and_gradient(x, self.points, self.weights, _LENGTH)
        return value - self.offset - float(self.slope @ (x - self.centre)), gradient - self.slope


class _Elsewhere:
    """d.B d / 2 on all atoms, with the smallest B that explains what the model of the region does not."""

    def __init__(self):
        self.seen: list[_Seen] = []

    def learn(self, last: _Seen):
        self.seen = [*self.seen, last][-_STEPS - 1 :]

    def fit(self, base: _Seen, gradient):
        near = [one for one in self.seen if 0 < np.abs(one.positions - base.positions).max() < _LONGEST]
        self.hessian = None
        if near:
            steps = [_centred(one.positions - base.positions).ravel() for one in near]
            changes = [_centred(base.forces - one.forces - gradient(one.positions)).ravel() for one in near]
            self.hessian = SecantHessian.of(steps, changes, _SHORTEST)

    def at(self, d) -> tuple[float, np.ndarray]:
        return (0.0, np.zeros_like(d)) if self.hessian is None else self.hessian.at(d)


class _Linear:
    """A gradient B d around the centre, and d.B d / 2 for its value; B learns from steps, by the rule of its class."""

    def __init__(self):
        self.matrix = None

    def learn(self, last: _Seen, base: _Seen | None):
        """Takes the step from the centre `base`, where there is one, to the exact evaluation `last`."""
        if self.matrix is None:
            self.matrix = np.zeros((last.positions.size,) * 2)
        if base is None:
            return
        s = _centred(last.positions - base.positions).ravel()
        if s.any():
            self._update(self.matrix, s, _centred(base.forces - last.forces).ravel())

    def fit(self, base: _Seen):
        """Makes the exact evaluation `base` the centre."""
        self.base = _centred(base.positions).ravel()

    def at(self, x) -> tuple[float, np.ndarray]:
        """Value in eV and gradient in eV/angstrom at `x`, the region's coordinates in angstrom, both shape=(3 n,)."""
        d = x - self.base
        gradient = self.matrix @ d
        return 0.5 * float(d @ gradient), gradient


class _Broyden(_Linear):
    """B is a Jacobian, by Broyden's update: the value is no potential of the gradient."""

    _update = staticmethod(update_broyden)


class Harmonic(_Linear):
    """B is a Hessian in eV/angstrom^2, shape=(3 n, 3 n), by a symmetric update, and outlives the relaxation."""

    _update = staticmethod(update_symmetric)


def _centred(vectors) -> np.ndarray:
    """Vectors without their mean: a model of differences must not push the crystal as a whole."""
    return vectors - vectors.mean(axis=0)
