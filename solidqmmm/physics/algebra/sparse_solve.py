"""Solving with blocks of a sparse force-constant matrix, whatever their size: factors or iterations, definite or not.

| matrix                                    | small                    | large                                             |
|-------------------------------------------|--------------------------|---------------------------------------------------|
| K_MM, positive definite                   | L D L^T                  | conjugate gradients, multigrid with rigid motions |
| K_MM - w^2 M_M, w^2 in a gap of the bands | L D L^T, counts modes    | MINRES                                            |
| w^2 M_M - K_MM, w^2 above the bands       | conjugate gradients on the atoms that the answer reaches |                   |

L D L^T comes from SuperLU without row exchanges on an order by nested dissection. Its cost grows like n^2 in three
dimensions, that of multigrid like n, and they meet at a few thousand degrees of freedom. Above the bands the matrix is
positive definite after a change of sign, its condition is (w^2 - w_min^2)/(w^2 - w_max^2), and the answer decays
exponentially with distance: host atoms far away cost nothing.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import ArpackNoConvergence, eigsh, splu

from solidqmmm.errors import SolidQMMMError, StructureError
from solidqmmm.physics.algebra.krylov import NegativeCurvature, conjugate_gradients
from solidqmmm.physics.algebra.multigrid import Multigrid, rigid_body_modes
from solidqmmm.physics.algebra.nested_dissection import nested_dissection

DIRECT_BELOW = 6000  # degrees of freedom; above it multigrid is faster
FACTORS_BELOW = 15000  # degrees of freedom; above it L D L^T takes tens of seconds and gigabytes
COLUMNS = 32  # right-hand sides at a time
SINGLE_ABOVE = 1e-4  # tolerances that single precision meets


class NotPositiveDefinite(StructureError):
    """A crystal, or what is left of it when its core is held, is not stable.

    Attributes:
        eigenvalue: The lowest one found, in the unit of the matrix (force constants: eV/angstrom^2).
        atoms: The atoms that move most in its eigenvector, most first.
    """

    def __init__(self, message, *, eigenvalue, atoms, **fields):
        super().__init__(message, **fields)
        self.eigenvalue = eigenvalue
        self.atoms = tuple(int(atom) for atom in atoms)


class Factors:
    """L D L^T of a sparse symmetric matrix, definite or not.

    Args:
        A: Sparse, symmetric, shape=(n d, n d).
        positions: Of the atoms, in angstrom, shape=(n, 3); None leaves the order to SuperLU (minimum degree), which needs
            five times longer at 24,000 degrees of freedom.

    Raises:
        numpy.linalg.LinAlgError: If a pivot vanishes, so that the matrix is singular or needs row exchanges; a shift that
            is a little different cures that.
    """

    def __init__(self, A, positions=None):
        self._A = sparse.csr_array(A)
        order = np.arange(A.shape[0])
        if positions is not None:
            block = A.shape[0] // len(positions)
            atoms = nested_dissection(_bonds(self._A, block), positions)
            order = (block * atoms[:, None] + np.arange(block)).ravel()
        self._order = order
        # SuperLU takes matrices with 32-bit indices only.
        ordered = sparse.csc_matrix(self._A[order][:, order])
        try:
            self._lu = splu(
                ordered,
                permc_spec="MMD_AT_PLUS_A" if positions is None else "NATURAL",
                diag_pivot_thresh=0.0,
                options={"SymmetricMode": True},
            )
        except RuntimeError as error:
            raise np.linalg.LinAlgError(f"the matrix is singular: {error}") from error
        pivots = self._lu.U.diagonal()
        scale = np.abs(self._A.diagonal()).max()
        if not np.array_equal(self._lu.perm_r, self._lu.perm_c) or np.abs(pivots).min() < 1e-13 * scale:
            raise np.linalg.LinAlgError("a pivot vanished: the matrix is singular or nearly so")
        #: Number of negative eigenvalues (Sylvester's law of inertia).
        self.n_negative = int(np.sum(pivots < 0))

    def solve(self, B) -> np.ndarray:
        """X with A X = B, for one right-hand side or a block, shape=(n,) or (n, k) as B, refined once."""
        X = self._back(B)
        return X + self._back(B - self._A @ X)

    def _back(self, B):
        X = np.empty_like(B, dtype=float)
        X[self._order] = self._lu.solve(np.ascontiguousarray(B[self._order], dtype=float))
        return X


def shifted_factors(A, shift: float, positions=None) -> Factors:
    """Factors of A - shift; where that hits an eigenvalue, of a shift nearby (by 1e-8 of the largest element at most).

    Args:
        A: Symmetric, sparse, shape=(n d, n d).
        shift: In the unit of A.
        positions: Of the atoms in angstrom, shape=(n, 3), if they shall order the elimination.

    Raises:
        LinAlgError: If no shift nearby can be factorized.
    """
    scale = np.abs(A.diagonal()).max()
    for nudge in (0.0, 1e-10, -1e-9, 1e-8):
        try:
            return Factors(A - (shift + nudge * scale) * sparse.eye_array(A.shape[0]), positions)
        except np.linalg.LinAlgError:
            continue
    raise np.linalg.LinAlgError(f"no shift near {shift:.8g} can be factorized without exchanging rows")


class StiffnessSolver:
    """A X = B for a positive definite matrix of force constants, such as the host with its core held.

    Args:
        A: Symmetric, sparse, in eV/angstrom^2, shape=(n d, n d).
        positions: Of its atoms in angstrom, shape=(n, 3); None orders by minimum degree and gives multigrid translations
            only.
        method: "direct", "multigrid", or "auto": direct below `DIRECT_BELOW` degrees of freedom.
        block: Degrees of freedom per atom.
        atoms: What the atoms are called in messages, shape=(n,); their indices by default.

    Raises:
        ValueError: If `method` is unknown.
        NotPositiveDefinite: With the atoms that are not stable (a LinAlgError).
    """

    def __init__(self, A, positions=None, *, method: str = "auto", block: int = 3, atoms=None):
        self._A = sparse.csr_array(A)
        n = A.shape[0] // block
        self._block, self._atoms = block, np.arange(n) if atoms is None else np.asarray(atoms)
        if method not in ("auto", "direct", "multigrid"):
            raise ValueError(f"`method` must be 'auto', 'direct' or 'multigrid', got {method!r}")
        if method == "auto":
            method = "direct" if A.shape[0] < DIRECT_BELOW else "multigrid"
        #: "direct" or "multigrid"
        self.method = method
        try:
            if method == "direct":
                self._factors = Factors(self._A, positions)
                if self._factors.n_negative:
                    raise np.linalg.LinAlgError(f"{self._factors.n_negative} negative eigenvalues")
            else:
                motions = np.kron(np.ones((n, 1)), np.eye(block)) if positions is None else None
                motions = rigid_body_modes(positions) if motions is None else motions
                self._multigrid = Multigrid(self._A, motions, block)
                # A negative eigenvalue shows to a random right-hand side, not to one that happens to be blind to it.
                probe = np.random.default_rng(0).normal(size=(A.shape[0], 1))
                self._iterate(probe, 1e-6)
        except (np.linalg.LinAlgError, NegativeCurvature) as error:
            raise self._failure(error) from error

    def solve(self, B, *, tolerance: float = 1e-10) -> tuple[np.ndarray, np.ndarray]:
        """X and the residual R = B - A X.

        Args:
            B: Dense, shape=(n d, k).
            tolerance: Of multigrid: the energy of the error against that of the solution, its square root.
        """
        if self.method == "direct":
            X = self._factors.solve(B)
            return X, B - self._A @ X
        X, R = np.empty_like(B, dtype=float), np.empty_like(B, dtype=float)
        for start in range(0, B.shape[1], COLUMNS):
            some = slice(start, start + COLUMNS)
            try:
                X[:, some], R[:, some] = self._iterate(
                    np.ascontiguousarray(B[:, some], dtype=float), tolerance
                )
            except (np.linalg.LinAlgError, NegativeCurvature) as error:
                raise self._failure(error) from error
        return X, R

    def _iterate(self, B, tolerance):
        X, R, converged = conjugate_gradients(
            self._A, B, precondition=self._multigrid, tolerance=tolerance, max_iterations=500
        )
        if not converged:
            raise np.linalg.LinAlgError(
                "conjugate gradients with multigrid did not converge in 500 iterations"
            )
        return X, R

    def _failure(self, error):
        value, vector = lowest_eigenpair(self._A)
        if value > 1e-9 * np.abs(self._A.diagonal()).max():
            return SolidQMMMError(
                f"{error}, although the force constants are positive definite (lowest eigenvalue {value:.3g} "
                "eV/angstrom^2); loosen the tolerance or take `method='direct'`"
            )
        moves = np.linalg.norm(vector.reshape(-1, self._block), axis=1)
        most = np.argsort(-moves)[:5]
        most = most[moves[most] > 0.3 * moves.max()]
        listed = ", ".join(f"{self._atoms[a]} ({moves[a]:.2f})" for a in most)
        return NotPositiveDefinite(
            "the force constants of the environment with the core held must be positive definite; their lowest eigenvalue "
            f"is {value:.3g} eV/angstrom^2, and in its eigenvector these atoms move most: {listed}. Relax the structure "
            "further, put these atoms into the core, or look for atoms that nothing binds",
            eigenvalue=value,
            atoms=self._atoms[most],
        )


def lowest_eigenpair(A) -> tuple[float, np.ndarray]:
    """The lowest eigenvalue of a sparse symmetric matrix and its eigenvector, shape=(n,), well enough to name atoms."""
    n = A.shape[0]
    if n < 200:
        values, vectors = np.linalg.eigh(A.toarray())
        return float(values[0]), vectors[:, 0]
    # As the highest of bound - A: its size sets the scale of the tolerance, where an eigenvalue near zero has none.
    bound = abs(A).sum(axis=1).max()
    flipped, start = bound * sparse.eye_array(n) - A, np.random.default_rng(0).normal(size=n)
    try:
        values, vectors = eigsh(flipped, k=1, which="LA", tol=1e-6, ncv=min(n, 60), v0=start, maxiter=100)
    except ArpackNoConvergence:
        values, vectors = eigsh(flipped, k=1, which="LA", tol=1e-4, ncv=min(n, 60), v0=start, maxiter=1000)
    return float(bound - values[0]), vectors[:, 0]


def solve_above(A, B, shift: float, *, held=None, guess=None, tolerance: float = 1e-9):
    """X = (shift - A)^-1 B with `shift` above the whole spectrum of A, by conjugate gradients where X is not zero.

    X decays exponentially with the number of bonds between an atom and the right-hand side. The equations are solved on the
    atoms within that many bonds, as if those beyond were held; the residual beyond tells whether that was enough.

    Args:
        A: Sparse csr, symmetric, mass weighted, in eV/(angstrom^2 amu), shape=(n, n).
        B: Dense, large near the core only, shape=(n, k).
        shift: w^2 in the unit of A.
        held: Eigenvalues p, shape=(h,), and orthonormal eigenvectors V, shape=(n, h), of A that are taken out of it:
            A - V p V^T stands for A.
        guess: An X for a shift nearby.
        tolerance: |R| <= tolerance |B|, column by column.

    Returns:
        X and R = B - (shift - A) X, both shape=(n, k).

    Raises:
        NegativeCurvature: If `shift` is not above the spectrum.
        numpy.linalg.LinAlgError: If it is so close that nothing converges.
    """
    p, V = held or (np.zeros(0), np.zeros((A.shape[0], 0)))
    size = np.abs(B).max(axis=1, initial=0.0)
    distance = bond_distances(A, np.flatnonzero(size > 1e-3 * size.max(initial=0.0)))
    X = np.zeros_like(B)
    reach, inner = 4, 0.1
    if guess is not None:
        felt = np.abs(guess).max(axis=1, initial=0.0)
        felt = (felt > 0.01 * tolerance * felt.max(initial=0.0)) & (distance >= 0)
        X[felt] = guess[felt]
        reach, inner = max(reach, int(distance[felt].max(initial=0))), tolerance
    whole, target = _Shifted(A, shift, p, V), tolerance * np.linalg.norm(B, axis=0)
    connected = int(np.sum(distance >= 0))
    # Twice as fast, and the residual is that of double precision all the same.
    precision = np.float32 if tolerance >= SINGLE_ABOVE else np.float64
    while True:
        inside = np.flatnonzero((distance >= 0) & (distance <= reach))
        S = _Shifted(A[inside][:, inside].astype(precision), shift, p.astype(precision), V[inside].astype(precision))
        X[inside], _, converged = conjugate_gradients(
            S,
            B[inside].astype(precision),
            guess=X[inside].astype(precision),
            tolerance=0.3 * inner,
            max_iterations=3000,
        )
        if not converged and precision == np.float32:
            precision = np.float64
            continue
        if not converged:
            raise np.linalg.LinAlgError(
                "conjugate gradients did not converge: the shift is too close to the spectrum"
            )
        R = B - whole @ X
        everywhere = np.linalg.norm(R, axis=0)
        wanting = everywhere > target
        complete = len(inside) == connected
        if not wanting.any() or (complete and inner <= tolerance and precision == np.float64):
            return X, R
        # Neither iterate inside for what lies beyond, nor look beyond for what is not settled inside.
        settled = np.linalg.norm(R[inside], axis=0) < 0.5 * everywhere
        if inner > tolerance and (complete or not np.all(settled[wanting])):
            inner = max(0.1 * inner, tolerance)
        elif complete or (not np.all(settled[wanting]) and precision == np.float32):
            precision = np.float64
        else:
            reach = int(np.ceil(1.4 * reach))
            if np.sum(distance <= reach) > 0.5 * len(distance):
                reach, inner = int(distance.max()), tolerance


class _Shifted:
    """shift - A + V p V^T on a block of columns."""

    def __init__(self, A, shift, p, V):
        self._A, self._shift, self._p, self._V = A, shift, p[:, None], V

    def __matmul__(self, X):
        Y = self._shift * X
        Y -= self._A @ X
        if self._V.shape[1]:
            Y += self._V @ (self._p * (self._V.T @ X))
        return Y


def bond_distances(A, start) -> np.ndarray:
    """The least number of matrix elements that lead from `start` to each row; -1 where none do, shape=(n,)."""
    distance = np.full(A.shape[0], -1)
    distance[start] = 0
    front, steps = np.asarray(start), 0
    while len(front):
        steps += 1
        reached = np.unique(A[front].indices)
        front = reached[distance[reached] < 0]
        distance[front] = steps
    return distance


def _bonds(A, block: int):
    """Which atoms are coupled, shape=(n, n)."""
    A = A.tocoo()
    n = A.shape[0] // block
    row, column = A.coords
    return sparse.csr_array((np.ones(len(row), np.int8), (row // block, column // block)), shape=(n, n))
