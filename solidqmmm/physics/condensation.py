"""Vibrations of a core Q in its crystal, the rest M of the crystal eliminated: statically, with its mass, or exactly.

    clamped     K_QQ u = w^2 M_Q u                                                     the environment stands still
    static      H u = w^2 M_Q u,     H = K_QQ - K_QM K_MM^-1 K_MQ                      it follows at once, without inertia
    Guyan       H u = w^2 T^T M T u, T = [1; -K_MM^-1 K_MQ]                            it follows at once, with its mass
    dynamic     D(w) u = 0,          D = K_QQ - w^2 M_Q - K_QM (K_MM - w^2 M_M)^-1 K_MQ      exact
    full        K u = w^2 M u                                                          exact, nothing eliminated

Static condensation and Guyan's are right for w -> 0. Above the bands the environment moves against the core, not with it,
so both are worse there than clamping; D is right at every w. Outside the bands D(w) is a matrix function with isolated
poles (modes of the environment with the core held). Eigenvectors of those poles are kept beside Q as coordinates, after
which D has none left.

Every mode comes with its motion of the whole crystal, normalized to sum_i m_i |u_i|^2 = 1 over all atoms, and its weight on
the core is the core's part of that sum: 1 if the environment is clamped; with static condensation and Guyan's, whose
environment follows by -K_MM^-1 K_MQ u_Q, u_Q.M_Q u_Q over the same with T^T M T, although the static equation of motion
knows nothing of that mass; with dynamic condensation and the full matrix that of the exact mode.

Sources: R. J. Guyan, AIAA J. 3, 380 (1965); A. Y. T. Leung, Int. J. Numer. Methods Eng. 12, 1705 (1978); W. H. Wittrick
and F. W. Williams, Q. J. Mech. Appl. Math. 24, 263 (1971) for the count of modes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg, sparse
from scipy.sparse.linalg import LinearOperator, eigsh

from solidqmmm.physics.algebra.isolated_eigenpairs import DENSE_BELOW, eigenpairs_between
from solidqmmm.physics.algebra.sparse_solve import (
    NotPositiveDefinite,
    StiffnessSolver,
    bond_distances,
    shifted_factors,
)
from solidqmmm.physics.vibrations.localized_modes import Modes


@dataclass(frozen=True, eq=False)
class PartitionedCrystal:
    """Force constants and masses of a crystal of which some atoms are the core.

    Attributes:
        K: Force constants in eV/angstrom^2, sparse, symmetric, shape=(n d, n d); a molecule's or a model's d need not be
            3.
        masses: In amu, shape=(n,).
        core: Indices of the core's atoms, shape=(q,).
        positions: In angstrom, shape=(n, 3), or None. They order eliminations and give multigrid its rotations; results
            do not depend on them, times do.

    Raises:
        ValueError: For matrices, masses or a core that do not fit together, masses that are not positive, or K not
            symmetric.
    """

    K: sparse.csr_array
    masses: np.ndarray
    core: np.ndarray
    positions: np.ndarray | None = None

    def __post_init__(self):
        K, masses = sparse.csr_array(self.K, dtype=float), np.asarray(self.masses, dtype=float)
        core = np.asarray(self.core, dtype=int)
        n = len(masses)
        if K.shape[0] != K.shape[1] or n == 0 or K.shape[0] % n:
            raise ValueError(f"`K` must have d rows and columns for each of {n} masses, got shape {K.shape}")
        if not np.all(masses > 0):
            raise ValueError(f"masses must be positive (amu), the lowest is {masses.min():g}")
        if len(core) == 0 or len(np.unique(core)) < len(core) or core.min() < 0 or core.max() >= n:
            raise ValueError(f"`core` must name some of the {n} atoms, each once, got {core.tolist()}")
        asymmetry, largest = abs(K - K.T).max(), abs(K).max()
        if asymmetry > 1e-8 * largest:
            raise ValueError(
                f"`K` must be symmetric, but |K - K^T| reaches {asymmetry:.3g} eV/angstrom^2; symmetrize it first"
            )
        object.__setattr__(self, "K", K)
        object.__setattr__(self, "masses", masses)
        object.__setattr__(self, "core", core)

    @property
    def environment(self) -> np.ndarray:
        """Indices of the atoms that are not in the core, ascending, shape=(m,)."""
        return np.setdiff1d(np.arange(len(self.masses)), self.core)

    @property
    def parts(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the atoms of the core, shape=(q,), and of the environment, shape=(m,)."""
        return self.core, self.environment

    @property
    def dofs(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of K that belong to the core, shape=(q d,), and to the environment, shape=(m d,)."""
        return tuple((self.d * part[:, None] + np.arange(self.d)).ravel() for part in self.parts)

    @property
    def d(self) -> int:
        """Degrees of freedom per atom."""
        return self.K.shape[0] // len(self.masses)

    def weighted(self) -> sparse.csr_array:
        """M^(-1/2) K M^(-1/2) in eV/(angstrom^2 amu), shape=(n d, n d)."""
        scale = sparse.diags_array(1 / np.sqrt(np.repeat(self.masses, self.d)))
        return sparse.csr_array(scale @ self.K @ scale)

    def blocks(self, *, weighted: bool = False):
        """K_QQ (dense), K_MQ and K_MM (sparse csr), divided by the roots of the masses if `weighted`."""
        K = self.weighted() if weighted else self.K
        Q, M = self.dofs
        below = K[M]
        return K[Q][:, Q].toarray(), sparse.csr_array(below[:, Q]), sparse.csr_array(below[:, M])

    def modes_of_eigenvectors(self, squared, e) -> Modes:
        """Modes from mass-weighted vectors e of the whole crystal, shape=(k, n d)."""
        e = np.asarray(e).reshape(len(squared), len(self.masses), self.d)
        return Modes(squared, e / np.sqrt(self.masses)[None, :, None], self.masses)

    def environment_positions(self):
        """Positions of the environment's atoms, or None."""
        return None if self.positions is None else np.asarray(self.positions)[self.environment]


@dataclass(frozen=True, eq=False)
class Condensation:
    """Equations of motion of the core alone, and the motion of the environment that goes with them.

    Attributes:
        crystal: What was condensed.
        stiffness: H in eV/angstrom^2, shape=(q d, q d).
        mass: In amu, shape=(q d, q d).
        coupled: Columns of the core that the environment feels, shape=(c,).
        response: Displacements of the environment for unit displacements of those columns, shape=(m d, c).
    """

    crystal: PartitionedCrystal
    stiffness: np.ndarray
    mass: np.ndarray
    coupled: np.ndarray
    response: np.ndarray

    def modes(self, highest: int | None = None) -> Modes:
        """H u = w^2 (mass) u on the whole crystal: all q d modes, or only the `highest` ones."""
        squared, u = linalg.eigh(self.stiffness, self.mass)
        kept = slice(None) if highest is None else slice(max(len(squared) - highest, 0), None)
        u = u[:, kept]
        whole = np.empty((u.shape[1], self.crystal.K.shape[0]))
        for part, moves in zip(self.crystal.dofs, (u, self.response @ u[self.coupled])):
            whole[:, part] = moves.T
        return Modes(squared[kept], whole.reshape(len(whole), -1, self.crystal.d), self.crystal.masses)


def clamped(crystal: PartitionedCrystal) -> Condensation:
    """K_QQ and M_Q alone: the environment stands still."""
    K_QQ, K_MQ, _ = crystal.blocks()
    nothing = np.zeros((K_MQ.shape[0], 0))
    return Condensation(crystal, _symmetric(K_QQ), _core_mass(crystal), np.zeros(0, int), nothing)


def static_condensation(
    crystal: PartitionedCrystal, *, method: str = "auto", tolerance: float = 1e-6
) -> Condensation:
    """H = K_QQ - K_QM K_MM^-1 K_MQ with the core's own masses.

    Args:
        crystal: The crystal and its core.
        method: How K_MM is inverted: "direct", "multigrid" or "auto" (`StiffnessSolver`).
        tolerance: Of multigrid. The error of the response is of this order, that of H of its square, because H is
            evaluated as the energy, which is stationary: H = K_QQ + K_QM X - X^T R with the residual R = -K_MQ - K_MM X.

    Raises:
        NotPositiveDefinite: If the environment is unstable with the core held, with its atoms.
    """
    loose = np.unique(np.flatnonzero(bond_distances(crystal.K, crystal.dofs[0]) < 0) // crystal.d)
    if len(loose):
        raise NotPositiveDefinite(
            f"every atom must be bound to the core through others, but {len(loose)} are not: {loose[:10].tolist()}; nothing "
            "holds them when the core is held. Take them out, or put one atom of each piece into the core",
            eigenvalue=0.0,
            atoms=loose,
        )
    K_QQ, K_MQ, K_MM = crystal.blocks()
    coupled = np.unique(K_MQ.indices)
    X = np.zeros((K_MM.shape[0], 0))
    H = K_QQ.copy()
    if K_MM.shape[0]:
        solver = StiffnessSolver(
            K_MM, crystal.environment_positions(), method=method, block=crystal.d, atoms=crystal.environment
        )
        X, R = solver.solve(-K_MQ[:, coupled].toarray(), tolerance=tolerance)
        H[np.ix_(coupled, coupled)] += K_MQ[:, coupled].T @ X - X.T @ R
    return Condensation(crystal, _symmetric(H), _core_mass(crystal), coupled, X)


def guyan_condensation(static: Condensation) -> Condensation:
    """The same stiffness with the mass of the environment that follows, T^T M T."""
    crystal, X = static.crystal, static.response
    mass = static.mass.copy()
    m = np.repeat(crystal.masses[crystal.environment], crystal.d)
    mass[np.ix_(static.coupled, static.coupled)] += X.T @ (m[:, None] * X)
    return Condensation(crystal, static.stiffness, _symmetric(mass), static.coupled, X)


def full_modes(crystal: PartitionedCrystal, low: float, high: float | None = None) -> Modes:
    """The reference: all modes with low < w^2 < high of the full mass-weighted matrix, nothing eliminated.

    Args:
        crystal: The crystal; its core plays no part.
        low: Lower end of the window in eV/(angstrom^2 amu), above the bands or in a gap.
        high: Upper end; None above the bands.

    Raises:
        ValueError: If so many modes lie in the window that it must reach into the bands.
    """
    squared, e = eigenpairs_between(crystal.weighted(), low, high, positions=crystal.positions)
    return crystal.modes_of_eigenvectors(squared, e.T)


def modes_near(crystal: PartitionedCrystal, squared: float, count: int) -> Modes:
    """The `count` modes of the crystal whose w^2 lie nearest to `squared` in eV/(angstrom^2 amu), by shift and invert.

    For hosts of up to about `FACTORS_BELOW` degrees of freedom.
    """
    W = crystal.weighted()
    n = W.shape[0]
    if count >= n - 1 or n < DENSE_BELOW:
        values, e = np.linalg.eigh(W.toarray())
        nearest = np.argsort(np.abs(values - squared), kind="stable")[:count]
        return crystal.modes_of_eigenvectors(values[nearest], e[:, nearest].T)
    factors = shifted_factors(W, squared, crystal.positions)
    inverse = LinearOperator((n, n), matvec=factors.solve, dtype=float)
    start = np.random.default_rng(0).normal(size=n)
    values, e = eigsh(W, k=count, sigma=squared, OPinv=inverse, v0=start, ncv=min(n, 2 * count + 30))
    return crystal.modes_of_eigenvectors(values, e.T)


def all_squared_frequencies(crystal: PartitionedCrystal) -> np.ndarray:
    """w^2 of every mode, descending, in eV/(angstrom^2 amu), shape=(n d,). Dense: 8 (n d)^2 bytes, O((n d)^3) operations."""
    return linalg.eigvalsh(crystal.weighted().toarray(), overwrite_a=True)[::-1]


def _core_mass(crystal):
    return np.diag(np.repeat(crystal.masses[crystal.core], crystal.d))


def _symmetric(matrix):
    return (matrix + matrix.T) / 2
