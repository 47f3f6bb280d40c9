"""Dipoles that charges, an external field and each other induce on polarizable sites, in empty space or in a crystal.

    mu_i = alpha_i (E_i + sum_j T_ij mu_j),     E_i = E_i^charges + E_i^external,
    U(mu) = mu (alpha^-1 - T) mu/2 - E mu,      E_pol = min U = -1/2 E (alpha^-1 - T)^-1 E.

E_pol is a minimum over the dipoles, so its derivatives are those of U at fixed dipoles: by a position minus the force, by
the external field minus the dipole. In a periodic cell the surroundings at infinity are a conductor (tin foil): the
macroscopic field is the external one.

What is solved is A y = alpha^(1/2) E with mu = alpha^(1/2) y and A = 1 - alpha^(1/2) T alpha^(1/2), by Cholesky's factors
for few sites and by conjugate gradients for many. The condition number of A is about (1 + 2 c)/(1 - c), c = 4 pi/3 times the
polarizability per volume: 5 in oxides, so that there is little for a preconditioner to gain. In empty space (1 + S/2)^2
with S = alpha^(1/2) T alpha^(1/2) of near pairs alone saves a quarter; it is positive whatever S is. A random right-hand
side is solved as well, roughly and once: it hides no direction in which A is not positive, as a symmetric field might.

T is damped by Thole's laws (`dipole_damping`); near pairs are summed one by one (`pair_tensors`), the others by
`isolated_sum` or, in a crystal, by `smooth_sum`.

Sources: J. Applequist, J. R. Carl and K.-K. Fung, J. Am. Chem. Soc. 94, 2952 (1972); W. Wang and R. D. Skeel, J. Chem. Phys.
123, 164107 (2005) for the iteration.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import linalg
from scipy.sparse.linalg import eigsh

from solidqmmm.errors import SolidQMMMError
from solidqmmm.physics.algebra.krylov import NegativeCurvature, conjugate_gradients
from solidqmmm.physics.electrostatics.ewald import COULOMB
from solidqmmm.physics.polarization.dipole_damping import THOLE_A, require_law
from solidqmmm.physics.polarization.polarization_catastrophe import catastrophe_along, require_stable_pairs
from solidqmmm.physics.polarization.site_sums import isolated_sums, periodic_sums

DIRECT_BELOW = {"isolated": 1500, "periodic": 400}  # polarizable sites; all sites
ITERATIONS = 500
SINGULAR = 1e-12  # smallest pivot of A, whose diagonal is about 1


@dataclass(frozen=True, eq=False)
class PolarizableSites:
    """Point charges and polarizabilities.

    Attributes:
        positions: In angstrom, shape=(n, 3).
        charges: In e, shape=(n,). In a cell a net charge has a uniform background.
        polarizabilities: In angstrom^3, shape=(n,); zero for a charge alone.
        cell: Cell vectors as rows in angstrom, shape=(3, 3); None for an isolated set.
        damping: "thole" (exponential), "linear" or None.
        thole_a: a of the exponential law.
        excluded: Pairs of sites that do not interact at all (parts of one ion), shape=(m, 2); in a cell the nearest images
            are meant.

    Raises:
        ValueError: For arrays that do not fit or are not finite, a negative polarizability, or an unknown damping.
    """

    positions: np.ndarray
    charges: np.ndarray
    polarizabilities: np.ndarray
    cell: np.ndarray | None = None
    damping: str | None = "thole"
    thole_a: float = THOLE_A
    excluded: np.ndarray = ()

    def __post_init__(self):
        positions = np.array(self.positions, dtype=float)
        if positions.ndim != 2 or positions.shape[1] != 3 or not len(positions):
            raise ValueError(f"`positions` must be of shape (n, 3), got {positions.shape}")
        values = {"positions": positions}
        for name in ("charges", "polarizabilities"):
            values[name] = np.array(getattr(self, name), dtype=float)
            if values[name].shape != positions.shape[:1]:
                raise ValueError(f"`{name}` must be of shape ({len(positions)},), got {values[name].shape}")
        if self.cell is not None:
            values["cell"] = np.array(self.cell, dtype=float)
            if values["cell"].shape != (3, 3):
                raise ValueError(f"`cell` must be three vectors, shape (3, 3), got {values['cell'].shape}")
        for name, value in values.items():
            if not np.isfinite(value).all():
                where = np.argwhere(~np.isfinite(value))[0].tolist()
                raise ValueError(f"`{name}` must be finite, got {value[tuple(where)]} at {where}")
        if self.cell is not None and np.linalg.cond(values["cell"]) > 1e12:
            raise ValueError(f"`cell` must be three independent vectors, got {values['cell'].tolist()}")
        if (values["polarizabilities"] < 0).any():
            lowest = values["polarizabilities"].min()
            raise ValueError(f"`polarizabilities` must not be negative (angstrom^3), got {lowest:g}")
        require_law(self.damping, self.thole_a)
        excluded = np.sort(np.array(self.excluded, dtype=int).reshape(-1, 2), axis=1)
        outside = (excluded < 0) | (excluded >= len(positions))
        if outside.any() or (excluded[:, 0] == excluded[:, 1]).any():
            raise ValueError(
                f"`excluded` must be pairs of two different sites below {len(positions)}, got {excluded.tolist()}"
            )
        values["excluded"] = np.unique(excluded, axis=0)
        for name, value in values.items():
            value.flags.writeable = False
            object.__setattr__(self, name, value)

    def __len__(self):
        return len(self.charges)

    def with_positions(self, positions, cell=None) -> PolarizableSites:
        """The same sites elsewhere, in angstrom, shape=(n, 3), perhaps in another cell, shape=(3, 3)."""
        return replace(self, positions=positions, cell=self.cell if cell is None else cell)


@dataclass(frozen=True, eq=False)
class Polarization:
    """Induced dipoles.

    Attributes:
        energy: E_pol in eV; without an error of first order in that of the dipoles.
        dipoles: In e angstrom, shape=(n, 3).
        iterations: Products with T that it took, 0 for a direct solution.
    """

    energy: float
    dipoles: np.ndarray
    iterations: int


class InducedDipoles:
    """The induced dipoles of one arrangement of sites, for any external field.

    Args:
        sites: Charges and polarizabilities.
        tolerance: Of conjugate gradients: energy norm of the dipoles' error over that of the dipoles.
        direct_below: Number of sites below which the matrix is factorized; by default 1500 polarizable ones in an isolated
            set and 400 in a cell.

    Raises:
        PolarizationCatastrophe: If the dipoles diverge: at once for a pair that does so alone, else with the first solution.
        ValueError: For two sites at the same place that are not excluded.
    """

    def __init__(self, sites: PolarizableSites, *, tolerance: float = 1e-8, direct_below: int | None = None):
        self.sites, self.tolerance = sites, tolerance
        kind = "isolated" if sites.cell is None else "periodic"
        self.polarizable = np.flatnonzero(sites.polarizabilities > 0)
        size = len(self.polarizable) if kind == "isolated" else len(sites)
        self.direct = size < (DIRECT_BELOW[kind] if direct_below is None else direct_below)
        arguments = sites.positions, sites.polarizabilities, sites.excluded, sites.damping, sites.thole_a
        if kind == "isolated":
            self._sums = isolated_sums(*arguments)
        else:
            self._sums = periodic_sums(*arguments, sites.cell, exact=self.direct)
        pairs, there = self._sums.near, self._sums.interacting
        distances = np.linalg.norm(pairs.r[there], axis=1)
        require_stable_pairs(
            pairs.i[there], pairs.j[there], distances, sites.polarizabilities, sites.damping, sites.thole_a
        )
        self._root = np.sqrt(sites.polarizabilities[self.polarizable])[:, None]
        self._stable = False
        self.products = 0

    @cached_property
    def permanent_fields(self) -> np.ndarray:
        """Field of the charges at all sites, damped, in V/angstrom, shape=(n, 3)."""
        fields = COULOMB * self._sums.fields_of_charges(self.sites.charges)
        fields.flags.writeable = False
        return fields

    def solve(self, fields=None, *, guess=None) -> Polarization:
        """The dipoles in the field of the charges and an external one.

        Args:
            fields: External field at the sites in V/angstrom, shape=(n, 3).
            guess: Dipoles to start from in e angstrom, shape=(n, 3); conjugate gradients end sooner.

        Raises:
            PolarizationCatastrophe: If the dipoles diverge.
        """
        return self._minimum(self.permanent_fields + self._checked("fields", fields), guess)

    def respond(self, fields, *, guess=None) -> Polarization:
        """The dipoles in an external field alone, as `solve` without charges."""
        return self._minimum(self._checked("fields", fields), guess)

    def forces(self, dipoles, field_gradients=None) -> tuple[np.ndarray, np.ndarray]:
        """Forces of polarization: of the dipoles with each other, with the charges and with an external field.

        They are -dE_pol/dx for the dipoles of `solve`. What the external field does to the charges is not part of them.

        Args:
            dipoles: In e angstrom, shape=(n, 3).
            field_gradients: d(field_a)/d(x_b) of the external field in V/angstrom^2, shape=(n, 3, 3).

        Returns:
            Forces in eV/angstrom, shape=(n, 3), and the sum of x (outer) F in eV over interactions of the sites with each
            other, whose symmetric part is -dE_pol/d(strain) without external field, shape=(3, 3).
        """
        q, m = self.sites.charges, self._checked("dipoles", dipoles)
        forces, virial = self._sums.forces(q, m)
        forces, virial = COULOMB * (forces - self._permanent[0]), COULOMB * (virial - self._permanent[1])
        if field_gradients is not None:
            forces += np.einsum("na,nab->nb", m, np.asarray(field_gradients, dtype=float))
        return forces, virial

    def permanent(self) -> tuple[float, np.ndarray, np.ndarray]:
        """Energy of the charges with each other (eV), forces (eV/angstrom, shape=(n, 3)) and virial (eV, shape=(3, 3))."""
        energy = self._sums.energy_of_charges(self.sites.charges)
        return COULOMB * energy, COULOMB * self._permanent[0], COULOMB * self._permanent[1]

    def polarizability(self) -> np.ndarray:
        """Dipole of the whole set in a uniform external field, over that field, in angstrom^3, shape=(3, 3)."""
        total = np.zeros((3, 3))
        for a in range(3):
            fields = np.zeros((len(self.sites), 3))
            fields[:, a] = COULOMB
            total[:, a] = self.respond(fields).dipoles.sum(axis=0)
        return (total + total.T) / 2

    @cached_property
    def _permanent(self):
        return self._sums.forces(self.sites.charges, np.zeros((len(self.sites), 3)))

    def _minimum(self, fields, guess) -> Polarization:
        b = fields[self.polarizable] / COULOMB
        dipoles = np.zeros((len(self.sites), 3))
        if not len(b):
            return Polarization(0.0, dipoles, 0)
        before = self.products
        right = (self._root * b).reshape(-1, 1)
        if self.direct:
            y, residual = linalg.cho_solve(self._factor, right), 0.0
        else:
            self._require_stable()
            start = None if guess is None else self._checked("guess", guess)[self.polarizable] / self._root
            start = None if start is None else start.reshape(-1, 1)
            y, residual = self._iterate(right, start, self.tolerance)
        # U = y.A y/2 - y.right at the y found, with A y = right - residual
        energy = -0.5 * COULOMB * float(np.sum(y * (right + residual)))
        dipoles[self.polarizable] = self._root * y.reshape(-1, 3)
        return Polarization(energy, dipoles, self.products - before)

    @cached_property
    def _factor(self):
        root = np.repeat(self._root[:, 0], 3)
        A = np.eye(len(root)) - root[:, None] * self._sums.matrix() * root
        try:
            factor = linalg.cho_factor(A, lower=True)
        except linalg.LinAlgError:
            factor = None
        if factor is None or np.diagonal(factor[0]).min() ** 2 < SINGULAR:
            # The direction of the lowest eigenvalue, which is not positive: the dipoles that grow.
            small = len(A) < 300
            lowest = linalg.eigh(A, subset_by_index=[0, 0]) if small else eigsh(A, k=1, which="SA", tol=1e-2)
            raise self._catastrophe(lowest[1][:, 0])
        return factor

    def _require_stable(self):
        if not self._stable:
            probe = np.random.default_rng(0).normal(size=(3 * len(self.polarizable), 1))
            self._iterate(probe, None, 0.1 / np.sqrt(len(probe)))
            self._stable = True

    def _iterate(self, right, start, tolerance):
        try:
            y, residual, converged = conjugate_gradients(
                _Operator(self),
                right,
                precondition=self._precondition if self.sites.cell is None else None,
                guess=start,
                tolerance=tolerance,
                max_iterations=ITERATIONS,
            )
        except NegativeCurvature as found:
            raise self._catastrophe(found.direction) from None
        if not converged:
            raise SolidQMMMError(
                f"the dipoles of {len(right) // 3} sites did not converge to {tolerance:g} in {ITERATIONS} iterations: "
                "they are close to diverging; damp them at a longer range (a smaller `thole_a`), or solve directly "
                "(a larger `direct_below`)"
            )
        return y, residual

    def _times(self, y):
        """A y of one column."""
        self.products += 1
        return y - (self._root * self._sums.fields_of_dipoles(self._root * y.reshape(-1, 3))).reshape(-1)

    def _precondition(self, R):
        root = np.repeat(self._root[:, 0], 3)[:, None]
        for _ in range(2):
            R = R + 0.5 * root * self._sums.near_product(root * R)
        return R

    def _catastrophe(self, direction):
        dipoles = np.zeros((len(self.sites), 3))
        dipoles[self.polarizable] = self._root * direction.reshape(-1, 3)
        return catastrophe_along(
            dipoles, self._sums.near, self.sites.polarizabilities, self.sites.damping, self.sites.thole_a
        )

    def _checked(self, name, values):
        if values is None:
            return np.zeros((len(self.sites), 3))
        values = np.asarray(values, dtype=float)
        if values.shape != (len(self.sites), 3) or not np.isfinite(values).all():
            raise ValueError(
                f"`{name}` must be finite, of shape ({len(self.sites)}, 3), got shape {values.shape}"
            )
        return values


class _Operator:
    """A, for blocks of columns."""

    def __init__(self, dipoles: InducedDipoles):
        self.dipoles = dipoles

    def __matmul__(self, Y):
        return np.column_stack([self.dipoles._times(y) for y in Y.T])
