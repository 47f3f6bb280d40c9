"""Drude oscillators: polarizable sites as a core and a charged shell on a spring, the shells where the energy is least.

    E(x, d) = sum_i [k2_i d_i^2/2 + k4_i d_i^4/4 - p_i d_i.E_i] + k sum_(i<j) q_i q_j/|x_i - x_j|
            + k sum_(a<b) w_ab l1(r_ab)/r_ab,          k2 = k p^2/alpha,     k = 1/(4 pi eps0)

Shell i of charge p_i sits at x_i + d_i and its countercharge -p_i at x_i, beside the ion's own charge q_i. a and b run over
cores and shells of different sites; w_ab are the products of charges in which at least one belongs to an oscillator, and l1
damps just these (`dipole_damping`). For shells of large charge the displacements vanish and the dipoles p d become those
of `induced_dipoles` with the same damping.

The quartic term is k4 d^4/4; as the energy of a dipole mu = p d it is gamma mu^4 with k4 = 4 gamma p^4, beside
k mu^2/(2 alpha). (Codes that write k' d^4/24 have k' = 6 k4.) It stiffens shells that are far out, and bounds the dipoles of
ions nearer than the critical distance.

The minimum over d is found by Newton's method in a trust region, on the Hessian itself; forces are -dE/dx at fixed d.

Sources: P. Drude, Lehrbuch der Optik (1900); G. Lamoureux and B. Roux, J. Chem. Phys. 119, 3025 (2003); J. D. Gale and A. L.
Rohl, Mol. Simul. 29, 291 (2003) for quartic springs; J. Nocedal and S. J. Wright, Numerical Optimization, 2nd ed. (2006),
chapter 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solidqmmm.errors import SolidQMMMError
from solidqmmm.physics.electrostatics.ewald import COULOMB
from solidqmmm.physics.polarization.dipole_damping import THOLE_A, damped_tensors
from solidqmmm.physics.polarization.induced_dipoles import PolarizableSites
from solidqmmm.physics.polarization.polarization_catastrophe import catastrophe

RUNAWAY = 0.5  # of the distance to the nearest site: beyond that a shell does not belong to its core any more
ITERATIONS = 200


@dataclass(frozen=True, eq=False)
class DrudeShells:
    """Shells at their minimum.

    Attributes:
        energy: Of polarization in eV: that of springs and shells, without the Coulomb energy of the permanent charges.
        displacements: Shell minus core in angstrom, shape=(n, 3).
        dipoles: In e angstrom, shape=(n, 3).
        forces: On the sites (core and shell together) in eV/angstrom, of permanent charges and polarization, without what
            external fields do; shape=(n, 3).
        iterations: Newton steps.
    """

    energy: float
    displacements: np.ndarray
    dipoles: np.ndarray
    forces: np.ndarray
    iterations: int


def spring_constant(shell_charges, polarizabilities):
    """k2 = p^2/(4 pi eps0 alpha) in eV/angstrom^2, of charges in e and polarizabilities in angstrom^3."""
    return COULOMB * np.asarray(shell_charges, dtype=float) ** 2 / np.asarray(polarizabilities, dtype=float)


def relax_shells(
    positions,
    charges,
    polarizabilities,
    shell_charges,
    *,
    quartic=0.0,
    damping: str | None = None,
    thole_a: float = THOLE_A,
    fields=None,
    guess=None,
    tolerance: float = 1e-9,
) -> DrudeShells:
    """The shells of an isolated set of ions where the energy is least.

    Args:
        positions: In angstrom, shape=(n, 3).
        charges: Of whole ions in e, shape=(n,).
        polarizabilities: In angstrom^3, shape=(n,); zero for an ion without a shell.
        shell_charges: p in e, a number or shape=(n,).
        quartic: k4 in eV/angstrom^4, a number or shape=(n,).
        damping: "thole", "linear" or None, of the oscillators' charges (not of ions with each other).
        thole_a: a of the exponential law.
        fields: External field at the sites in V/angstrom, uniform over an ion, shape=(n, 3). It acts on the dipoles alone.
        guess: Displacements to start from in angstrom, shape=(n, 3).
        tolerance: Largest force on a shell at the end, over k2 times an angstrom.

    Raises:
        PolarizationCatastrophe: If a shell goes further than half the way to the nearest site.
        ValueError: For arrays that do not fit, or a shell without charge.
    """
    sites = PolarizableSites(positions, charges, polarizabilities, damping=damping, thole_a=thole_a)
    n, movable = len(sites), np.flatnonzero(sites.polarizabilities > 0)
    p, k4 = (
        np.array(np.broadcast_to(np.asarray(values, dtype=float), (n,)))
        for values in (shell_charges, quartic)
    )
    p[sites.polarizabilities == 0] = 0.0
    if not np.isfinite(p).all() or (p[movable] == 0).any():
        raise ValueError(
            f"`shell_charges` must not be zero where an ion is polarizable (e), got {p.tolist()}"
        )
    if not np.isfinite(k4).all() or (k4 < 0).any():
        raise ValueError(f"`quartic` must not be negative (eV/angstrom^4), got {quartic}")
    drude = _Oscillators(sites, p, k4, fields)
    d = np.zeros((n, 3)) if guess is None else np.array(guess, dtype=float)
    if d.shape != (n, 3) or not np.isfinite(d).all():
        raise ValueError(f"`guess` must be finite, of shape ({n}, 3), got shape {d.shape}")
    d[sites.polarizabilities == 0] = 0.0
    d, iterations = _minimize(drude, d, movable, tolerance)
    return DrudeShells(drude.energy(d), d, p[:, None] * d, drude.forces(d), iterations)


class _Oscillators:
    """Energy of displaced shells and its derivatives. Particles are the cores, then the shells."""

    def __init__(self, sites, p, k4, fields):
        self.sites, self.p, self.k4 = sites, p, k4
        n, q = len(sites), sites.charges
        self.k2 = np.zeros(n)
        shells = sites.polarizabilities > 0
        self.k2[shells] = spring_constant(p[shells], sites.polarizabilities[shells])
        self.fields = np.zeros((n, 3)) if fields is None else np.asarray(fields, dtype=float)
        if self.fields.shape != (n, 3) or not np.isfinite(self.fields).all():
            raise ValueError(f"`fields` must be finite, of shape ({n}, 3), got shape {self.fields.shape}")
        permanent, total = np.concatenate([q, np.zeros(n)]), np.concatenate([q - p, p])
        self.weights = COULOMB * (np.outer(total, total) - np.outer(permanent, permanent))
        site = np.tile(np.arange(n), 2)
        self.apart = site[:, None] != site
        self.weights *= self.apart
        products = np.outer(sites.polarizabilities, sites.polarizabilities)
        self.products = np.tile(products, (2, 2))
        r = sites.positions[:, None] - sites.positions
        distances = np.linalg.norm(r, axis=2)
        np.fill_diagonal(distances, np.inf)
        i, j = np.unravel_index(np.argmin(distances), distances.shape)
        if distances[i, j] < 1e-6:
            raise ValueError(
                f"sites {min(i, j)} and {max(i, j)} are at the same place: their interaction is infinite"
            )
        self.distances, self.room = distances, distances.min(axis=1)
        strength = COULOMB * np.outer(q, q) / distances**3
        self.permanent_forces = np.einsum("ij,ija->ia", strength, r)

    def energy(self, d) -> float:
        square = np.einsum("na,na->n", d, d)
        _, B = self._tensors(d)
        springs = 0.5 * self.k2 @ square + 0.25 * self.k4 @ square**2
        return float(springs - self.p @ np.sum(d * self.fields, axis=1) + 0.5 * np.sum(self.weights * B[0]))

    def derivatives(self, d):
        """dE/dd, shape=(n, 3), and its own derivatives, shape=(n, 3, n, 3)."""
        n = len(d)
        r, B = self._tensors(d)
        force = np.einsum("ab,abx->ax", self.weights * B[1], r)
        square = np.einsum("na,na->n", d, d)
        stiffness = self.k2 + self.k4 * square
        gradient = stiffness[:, None] * d - self.p[:, None] * self.fields - force[n:]
        # d2E/dr_a dr_b = -w (B_2 r r - B_1) for a != b, and the sum over b with the other sign for a = b.
        pair = (self.weights * B[2])[:, :, None, None] * r[:, :, :, None] * r[:, :, None, :]
        pair -= (self.weights * B[1])[:, :, None, None] * np.eye(3)
        own = pair.sum(axis=1)[n:]
        hessian = -pair[n:, n:].transpose(0, 2, 1, 3)
        own += stiffness[:, None, None] * np.eye(3)
        own += 2 * self.k4[:, None, None] * d[:, :, None] * d[:, None, :]
        hessian[np.arange(n), :, np.arange(n), :] += own
        return gradient, hessian

    def forces(self, d) -> np.ndarray:
        n = len(d)
        r, B = self._tensors(d)
        force = np.einsum("ab,abx->ax", self.weights * B[1], r)
        return force[:n] + force[n:] + self.permanent_forces

    def _tensors(self, d):
        places = np.concatenate([self.sites.positions, self.sites.positions + d])
        r = places[:, None] - places
        distances = np.where(self.apart, np.sqrt(np.einsum("abx,abx->ab", r, r)), 1.0)
        B = damped_tensors(distances.ravel(), self.products.ravel(), self.sites.damping, self.sites.thole_a)
        return r, [b.reshape(distances.shape) for b in B[:3]]


def _minimize(drude, d, movable, tolerance):
    """Newton's method in y = sqrt(k2) d, in which a lone oscillator has the Hessian 1, within a trust region."""
    if not len(movable):
        return d, 0
    root = np.sqrt(np.repeat(drude.k2[movable], 3))
    energy = drude.energy(d)
    radius = 0.1  # angstrom, of the largest displacement in a step
    for iteration in range(ITERATIONS):
        gradient, hessian = drude.derivatives(d)
        g = gradient[movable].reshape(-1) / root
        H = hessian[np.ix_(movable, range(3), movable, range(3))].reshape(len(g), -1) / np.outer(root, root)
        values, vectors = np.linalg.eigh(H)
        if np.abs(g / root).max() < tolerance and values[0] > 0:
            return d, iteration
        along = vectors.T @ g
        while True:
            step = (vectors @ _within(values, along, root, radius)) / root
            trial = d.copy()
            trial[movable] += step.reshape(-1, 3)
            _require_at_home(drude, trial)
            there = drude.energy(trial)
            y = vectors.T @ (root * step)
            promised = -(along @ y + 0.5 * y @ (values * y))
            noise = 1e-13 * np.abs(drude.weights).sum() / drude.room.min()
            if there - energy <= -0.1 * promised + noise:
                break
            radius = 0.25 * np.abs(step).max()
            if radius < 1e-12:
                return d, iteration
        if energy - there > 0.75 * promised:
            radius = max(radius, 2 * np.abs(step).max())
        d, energy = trial, there
    raise SolidQMMMError(
        f"the shells did not find their minimum in {ITERATIONS} Newton steps (largest force over k2: "
        f"{np.abs(g / root).max():.3g} angstrom, wanted {tolerance:g}): damp them, or stiffen them by a quartic term"
    )


def _within(values, along, root, radius):
    """The step -(H + shift)^-1 g in eigenvectors, shift the least that makes H + shift positive and the step short."""
    limit = radius * root.min()

    def step(shift):
        return -along / (values + shift)

    if values[0] > 0 and np.linalg.norm(step(0.0)) <= limit:
        return step(0.0)
    low = max(0.0, -values[0]) + 1e-12 * max(1.0, abs(values[0]))
    if np.linalg.norm(step(low)) <= limit:
        # No gradient along the direction in which H is negative: go there all the same.
        y = step(low)
        y[0] += np.copysign(np.sqrt(limit**2 - y @ y), -along[0])
        return y
    high = low + np.linalg.norm(along) / limit
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if np.linalg.norm(step(middle)) > limit else (low, middle)
    return step(high)


def _require_at_home(drude, d):
    lengths = np.linalg.norm(d, axis=1)
    ratio = lengths / (RUNAWAY * drude.room)
    if ratio.max() >= 1.0:
        i = int(np.argmax(ratio))
        j = int(np.argmin(drude.distances[i]))
        sites = drude.sites
        raise catastrophe(
            i, j, float(drude.distances[i, j]), sites.polarizabilities, sites.damping, sites.thole_a,
            what=f"the shell of site {i} runs away, {lengths[i]:.3g} angstrom off its core",
        )  # fmt: skip
