"""A charged defect in an infinite crystal of ions, by the two regions of Mott and Littleton: no cell, no images.

    Region I     r < R1         ions that relax, cores and shells, each with all its forces
    Region IIa   R1 <= r < R2   particles at X + y, y the response to the field of the defect's net charge q in the medium
    Region IIb   R2 <= r        the same, its energy in closed form

**Displacements.** In the screened field of q, E(r) = k q r/(eps r^3), particle p of sublattice s goes to

    y_p = u_s E(X_p),        eps = 1 + (4 pi k/V) sum_s q_s u_s.

The u_s, of cores and shells, are what a macroscopic field does to the perfect crystal: linear response at zero wave vector
with relaxed ions, or of the shells alone where ions are held. So the polarization of region II is that of the model itself,
(1 - 1/eps) q r/(4 pi r^3). (Mott and Littleton, and the programs after them, divide it among the ions by rules.)

**Energy.** With x the particles of region I and f_p(x) the forces of region I on a region II that is undisplaced,

    E(x, y) = Phi(x, y) - Phi_0(y) + U(y),      Phi = E_I(x) + E_I,II(x, y),      U = y.A.y/2 = -1/2 sum_p F0_p.y_p.

Phi is the energy of region I with itself and with region II, Phi_0 the same of the perfect crystal's ions at their sites; U
is what the displacements of region II cost in the perfect crystal, where they make the forces F0_p on region II. But for
terms of third order in y that is the energy of the infinite crystal with these displacements: it lies above the true one,
and its error is of second order in that of y. The gradient over x is that of Phi. From R2 on, where f_p = k q q_p r/r^3 and
A y = f to leading order,

    E_IIb = -1/2 sum_(p in IIb) f_p.y_p = -(k^2 q^2/2 eps) sum_(p in IIb) q_p u_p/r_p^4
          = -(k q^2/2 R2)(1 - 1/eps) for a dense lattice (Born; Jost),

half of the interaction of I with IIb, the other half being what it costs to polarize IIb. The lattice sum: `lattice_tail`.

**What is explicit.** Region I interacts with displaced particles up to 6 angstrom beyond R1 pair by pair. Farther ones, and
the rest of the infinite crystal, undisplaced, act by their potential to second order in the displacements of region I: an
Ewald sum of the perfect crystal (zero average potential) minus what is explicit. F0 is of displaced particles up to R2 + 6
angstrom.

**What is left.** The true displacements differ from y by the elastic field of the defect and by flexoelectric terms, also of
order 1/r^2 but without polarization; their energy outside R1 falls as 1/R1^3. Where ions are held there is none of these,
and convergence is much faster.

Sources: N. F. Mott and M. J. Littleton, Trans. Faraday Soc. 34, 485 (1938); M. Born, Z. Phys. 1, 45 (1920); W. Jost, J.
Chem. Phys. 1, 466 (1933); A. B. Lidiard and M. J. Norgett, in Computational Solid State Physics (Plenum, 1972); J. D. Gale
and A. L. Rohl, Mol. Simul. 29, 291 (2003).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.optimize import minimize

from solidqmmm.errors import PolarizationCatastrophe, SolidQMMMError
from solidqmmm.physics.charged_defects.ion_cluster import Expansion, IonCluster, Springs
from solidqmmm.physics.charged_defects.ionic_crystal import FieldResponse, Ion, IonicCrystal, particles_of
from solidqmmm.physics.charged_defects.pair_terms import Particles, pairs_in_reach
from solidqmmm.physics.electrostatics.coulomb import coulomb_potential
from solidqmmm.physics.electrostatics.ewald import COULOMB, ewald_potential
from solidqmmm.physics.electrostatics.lattice_tail import inverse_fourth_beyond

_NEAR = 6.0  # angstrom beyond R1, pair by pair
_BEYOND = 6.0  # angstrom beyond R2, whose dipoles act on region IIa
_ELASTIC_REACH = 8.0  # angstrom; beyond, pair terms are too soft to matter between displacements that hardly differ
_ISOTROPIC = 1e-3  # relative; a tensor that deviates by more has another field
_ON_SITE = 1e-3  # angstrom
_RUNAWAY = 0.7  # angstrom; a shell farther from its core does not belong to it any more
_MOST_ITERATIONS, _RESTARTS = 2000, 3


def born_energy(charge: float, dielectric: float, radius: float) -> float:
    """-(k q^2/2R)(1 - 1/eps) in eV: a medium that begins at R around a charge (M. Born, Z. Phys. 1, 45 (1920)).

    Args:
        charge: q in e.
        dielectric: eps.
        radius: R in angstrom.
    """
    return -0.5 * COULOMB * charge**2 / radius * (1 - 1 / dielectric)


@dataclass(frozen=True)
class PointDefect:
    """What is not as in the perfect crystal: at one point an ion is missing, is there instead, or is there besides.

    Attributes:
        position: In angstrom, in the frame of the crystal's cell, shape=(3,).
        removed: Whether the crystal's ion at that point is gone.
        added: The ion that is there, or None.
    """

    position: tuple[float, float, float]
    removed: bool = True
    added: Ion | None = None


@dataclass(frozen=True, eq=False)
class TwoRegionEnergy:
    """Outcome of a calculation with two regions.

    Attributes:
        energy: Of the defect in the infinite crystal, in eV.
        terms: Its parts in eV: `inner` (Phi - Phi_0), `outer` (U) and `continuum` (E_IIb).
        n_inner: Ions of region I.
        max_force: Largest component of a force left in region I, eV/angstrom.
        positions: Of the particles of region I in the perfect crystal, from the defect, in angstrom, shape=(n, 3).
        displacements: Of these in angstrom, shape=(n, 3).
        evaluations: Energies that were computed.
    """

    energy: float
    terms: dict[str, float] = field(default_factory=dict)
    n_inner: int = 0
    max_force: float = 0.0
    positions: np.ndarray = ()
    displacements: np.ndarray = ()
    evaluations: int = 0


class TwoRegions:
    """A charged point defect in a crystal, its surroundings divided at two radii.

    Args:
        crystal: The perfect crystal.
        response: What a field does to it; zero for cores, if ions are held.
        defect: The defect.
        inner_radius: R1 in angstrom.
        outer_radius: R2 in angstrom.

    Attributes:
        charge: q in e.
        dielectric: eps.

    Raises:
        ValueError: For radii that do not increase, a neutral defect, an anisotropic crystal, or a site without an ion.
    """

    def __init__(
        self, crystal: IonicCrystal, response: FieldResponse, defect: PointDefect, inner_radius: float, outer_radius: float
    ):  # fmt: skip
        if not 0 < inner_radius < outer_radius < np.inf:
            raise ValueError(
                "the regions need 0 < `inner_radius` < `outer_radius` (angstrom), got "
                f"{inner_radius:g} and {outer_radius:g}"
            )
        self.crystal, self.response, self.defect = crystal, response, defect
        self.inner_radius, self.outer_radius = float(inner_radius), float(outer_radius)
        self.dielectric = isotropic(response.dielectric(crystal))
        self._far_from = min(inner_radius + _NEAR, outer_radius)
        reach = max(outer_radius + _BEYOND, inner_radius + crystal.reach)
        self._sites, self._which = crystal.sites_within(defect.position, reach)
        self._distances = np.linalg.norm(self._sites, axis=1)
        self._site_charges = crystal.charges[self._which]
        self.particles, self._is_shell = particles_of([crystal.ions[s] for s in self._which], self._sites)
        self._r = self._distances[self.particles.ions]
        self.charge = self._net_charge()

    def _net_charge(self) -> float:
        on_site = self._distances[0] < _ON_SITE
        if self.defect.removed and not on_site:
            raise ValueError(
                f"the defect takes an ion away where there is none: the nearest is {self._distances[0]:.3f} A from it"
            )
        if not self.defect.removed and on_site:
            raise ValueError("the defect puts an ion upon another one: say `removed`, or another position")
        gone = self._site_charges[0] if self.defect.removed else 0.0
        there = self.defect.added.charge if self.defect.added is not None else 0.0
        charge = float(there - gone)
        if abs(charge) < 1e-9:
            raise ValueError(
                "the defect is neutral: no field of a net charge polarizes the crystal far from it, so region II would be a "
                "rigid wall; take a periodic cell"
            )
        return charge

    # --- region II ---------------------------------------------------------------------------------------------------

    @cached_property
    def outer_displacements(self) -> np.ndarray:
        """y of all particles in angstrom, zero in region I, shape=(n, 3)."""
        which = self._which[self.particles.ions]
        u = np.where(self._is_shell[:, None, None], self.response.shells[which], self.response.cores[which])
        r = np.where(self._r > _ON_SITE, self._r, 1.0)
        field = COULOMB * self.charge / self.dielectric * self.particles.positions / r[:, None] ** 3
        return np.where((self._r >= self.inner_radius)[:, None], np.einsum("nab,nb->na", u, field), 0.0)

    @cached_property
    def continuum_energy(self) -> float:
        """E_IIb in eV."""
        along = np.trace(self.response.dipoles(self.crystal), axis1=1, axis2=2) / 3
        sums = inverse_fourth_beyond(self.crystal, self.defect.position, self.outer_radius)
        return float(-0.5 * (COULOMB * self.charge) ** 2 / self.dielectric * (along @ sums))

    @cached_property
    def host_energy(self) -> float:
        """U = -1/2 sum over region IIa of F0.y in eV, harmonic."""
        p, y = self.particles, self.outer_displacements
        outer = np.flatnonzero((self._r >= self.inner_radius) & (self._r < self.outer_radius))
        dipoles = np.zeros((len(self._sites), 3))
        np.add.at(dipoles, p.ions, p.charges[:, None] * y)
        here = (self._distances >= self.inner_radius) & (self._distances < self.outer_radius)
        there = (self._distances >= self.inner_radius) & (self._distances < self.outer_radius + _BEYOND)
        fields = np.zeros((len(self._sites), 3))
        fields[here] = coulomb_potential(
            self._sites[here], self._sites[there], np.zeros(there.sum()), dipoles=dipoles[there]
        )[1]
        gradients = self._lattice[2][self._which[p.ions[outer]]]
        force = p.charges[outer, None] * (fields[p.ions[outer]] + np.einsum("nab,nb->na", gradients, y[outer]))
        # Two particles on a spring or in reach of a pair term pull each other by its curvature.
        F = np.zeros_like(y)
        F[outer] = force
        shells = np.flatnonzero(self._is_shell)
        cores = p.ions[shells]  # the cores come first, in the order of the ions
        spring = np.array([self.crystal.ions[s].spring for s in self._which[cores]])[:, None] * (y[shells] - y[cores])
        F[shells] -= spring
        F[cores] += spring
        for i, j, term in pairs_in_reach(self.crystal.terms, p[outer], p, reach=_ELASTIC_REACH):
            i = outer[i]
            F -= _scattered(len(p), i, _pull(p.positions[i] - p.positions[j], y[i] - y[j], term))
        return float(-0.5 * np.sum(F[outer] * y[outer]))

    # --- region I ----------------------------------------------------------------------------------------------------

    @cached_property
    def _lattice(self) -> tuple[np.ndarray, ...]:
        """Potential, field and field gradient of the perfect crystal at its ions, without the ion itself."""
        c = self.crystal
        return ewald_potential(c.positions, c.positions, c.charges, c.cell, derivatives=2)

    def _potential_of_far(self, points, which) -> list[np.ndarray]:
        """Of the crystal without region I and what is near: potential, field and gradient at points.

        `which` ions of the cell the points are on; -1 for none.
        """
        bare = self._lattice
        if (which < 0).any():
            c = self.crystal
            origin = np.asarray(self.defect.position, dtype=float)
            more = ewald_potential(points[which < 0] + origin, c.positions, c.charges, c.cell, derivatives=2)
            bare = [np.concatenate([a, b]) for a, b in zip(bare, more, strict=True)]
            which = np.where(which < 0, len(c) + np.cumsum(which < 0) - 1, which)
        total = [value[which] for value in bare]
        near = self._distances < self._far_from
        far = ~near & (self._distances < self.outer_radius)
        moved = self._r >= self._far_from
        moved &= self._r < self.outer_radius
        p = self.particles
        for sign, places, charges in (
            (-1, self._sites[near], self._site_charges[near]),
            (-1, self._sites[far], self._site_charges[far]),
            (1, p.positions[moved] + self.outer_displacements[moved], p.charges[moved]),
        ):
            if len(charges):
                part = coulomb_potential(points, places, charges, derivatives=2)
                total = [a + sign * b for a, b in zip(total, part, strict=True)]
        return total

    def _expansion(self, particles: Particles, which) -> Expansion:
        """What is far does to particles, from their positions; `which` as in `_potential_of_far`."""
        _, first, back = np.unique(particles.ions, return_index=True, return_inverse=True)
        potential, field, gradient = (
            value[back] for value in self._potential_of_far(particles.positions[first], which[first])
        )
        q = particles.charges
        W, g, H = q * potential, -q[:, None] * field, -q[:, None, None] * gradient
        beyond = np.flatnonzero(self._r >= self._far_from)
        inside = (self._r[beyond] < self.outer_radius)[:, None]
        far = self.particles[beyond].moved(np.where(inside, self.outer_displacements[beyond], 0.0))
        for i, j, term in pairs_in_reach(self.crystal.terms, particles, far):
            d = particles.positions[i] - far.positions[j]
            r = np.linalg.norm(d, axis=1)
            V, slope, curvature = term.values(r, 2)
            n = d / r[:, None]
            np.add.at(W, i, V)
            np.add.at(g, i, slope[:, None] * n)
            across = (slope / r)[:, None, None] * np.eye(3)
            along = (curvature - slope / r)[:, None, None] * n[:, :, None] * n[:, None, :]
            np.add.at(H, i, across + along)
        return Expansion(W, g, H)

    @cached_property
    def _near_shell(self) -> Particles:
        near = np.flatnonzero((self._r >= self.inner_radius) & (self._r < self._far_from))
        return self.particles[near].moved(self.outer_displacements[near])

    def cluster(self, with_defect: bool = True) -> IonCluster:
        """Region I among region II: an energy of its particles, Phi. Without the defect: the perfect crystal's ions."""
        sites = np.flatnonzero(self._distances < self.inner_radius)
        ions, places, which = [self.crystal.ions[s] for s in self._which[sites]], self._sites[sites], self._which[sites]
        if with_defect:
            if self.defect.removed:
                ions, places, which, centre = ions[1:], places[1:], which[1:], which[0]
            else:
                centre = -1
            if self.defect.added is not None:
                ions, places = [self.defect.added, *ions], np.vstack([np.zeros((1, 3)), places])
                which = np.insert(which, 0, centre)
        # Far above the numbers of region II, so that no ion is there twice.
        particles, is_shell = particles_of(ions, places, first_ion=len(self._sites))
        far = self._expansion(particles, which[particles.ions - len(self._sites)])
        shells = np.flatnonzero(is_shell)
        cores = particles.ions[shells] - len(self._sites)
        k2, k4 = (np.array([getattr(ions[i], name) for i in cores]) for name in ("spring", "quartic"))
        return IonCluster(particles, Springs(cores, shells, k2, k4), self.crystal.terms, self._near_shell, far)

    def relaxed(self, *, hold_ions: bool = False, fmax: float = 1e-3) -> TwoRegionEnergy:
        """Region I at rest, and the energy of the defect.

        Args:
            hold_ions: Only shells move.
            fmax: Largest component of a force at the end, eV/angstrom.

        Raises:
            SolidQMMMError: If region I does not come to rest.
            PolarizationCatastrophe: If a shell leaves its core.
        """
        perfect, _ = self.cluster(with_defect=False).energy()
        cluster = self.cluster()
        E, u, left, evaluations = relax_cluster(cluster, hold_ions=hold_ions, fmax=fmax)
        terms = {"inner": E - perfect, "outer": self.host_energy, "continuum": self.continuum_energy}
        return TwoRegionEnergy(
            energy=sum(terms.values()),
            terms=terms,
            n_inner=int(np.sum(self._distances < self.inner_radius)),
            max_force=left,
            positions=cluster.particles.positions,
            displacements=u,
            evaluations=evaluations,
        )


def relax_cluster(cluster: IonCluster, *, hold_ions: bool = False, fmax: float = 1e-3):
    """The particles of a cluster where its energy is least, in the displacements of cores, and of shells from them.

    Returns:
        Energy in eV, displacements in angstrom (shape=(n, 3)), largest component of a force left, number of evaluations.

    Raises:
        SolidQMMMError: If it does not come to rest.
        PolarizationCatastrophe: If a shell leaves its core.
    """
    s = cluster.springs
    moving = np.ones(len(cluster), dtype=bool)
    if hold_ions:
        moving[:] = False
        moving[s.shells] = True
    if not moving.any():
        return cluster.energy()[0], np.zeros((len(cluster), 3)), 0.0, 1
    start = cluster.energy(steps=False)[0]

    def displacements(z):
        u = np.zeros((len(cluster), 3))
        u[moving] = z.reshape(-1, 3)
        u[s.shells] += u[s.cores]
        return u

    def function(z):
        E, g = cluster.energy(displacements(z), steps=False)
        g[s.cores] += g[s.shells]
        return E - start, g[moving].ravel()

    limits = {"maxcor": 30, "maxiter": _MOST_ITERATIONS, "maxfun": 2 * _MOST_ITERATIONS, "gtol": 0.5 * fmax, "ftol": 0.0}
    z, evaluations = np.zeros(3 * moving.sum()), 0
    for _ in range(_RESTARTS):  # a line search that ends in rounding begins again downhill
        found = minimize(function, z, jac=True, method="L-BFGS-B", options=limits)
        z, left, evaluations = found.x, float(np.abs(found.jac).max()), evaluations + found.nfev
        if left <= fmax:
            break
    u = displacements(z)
    lengths = np.linalg.norm(u[s.shells] - u[s.cores], axis=1)
    if lengths.max(initial=0.0) > _RUNAWAY:
        raise PolarizationCatastrophe(
            f"a shell of region I left its core by {lengths.max():.2f} A, more than {_RUNAWAY} A: a stiffer `spring`, or a "
            "`quartic` term, holds it"
        )
    if left > fmax:
        raise SolidQMMMError(
            f"region I did not come to rest: {left:.2g} eV/A is left after {evaluations} evaluations, asked for {fmax:g}"
        )
    return cluster.energy(u)[0], u, left, evaluations


def isotropic(tensor) -> float:
    """eps of an isotropic dielectric tensor, shape=(3, 3).

    Raises:
        ValueError: For another, or one that does not screen like a stable medium.
    """
    eps = float(np.trace(tensor)) / 3
    if np.abs(tensor - eps * np.eye(3)).max() > _ISOTROPIC * abs(eps):
        rows = "; ".join(" ".join(f"{x:.4g}" for x in row) for row in tensor)
        raise ValueError(
            f"the dielectric tensor, {rows}, is not isotropic, and the field in region II is that of an isotropic medium: "
            "take the series of periodic cells, which knows such crystals"
        )
    if not eps >= 1 - 1e-6:
        raise ValueError(f"the crystal's dielectric constant is {eps:.4g}, expected 1 or more: is its energy at a minimum?")
    return eps


def _pull(d, dy, term) -> np.ndarray:
    """Curvature of a pair term times the difference of displacements, V'' along the pair and V'/r across, shape=(n, 3)."""
    r = np.linalg.norm(d, axis=1)
    _, slope, curvature = term.values(r, 2)
    n = d / r[:, None]
    along = np.einsum("na,na->n", n, dy)
    return (slope / r)[:, None] * dy + ((curvature - slope / r) * along)[:, None] * n


def _scattered(n, rows, values) -> np.ndarray:
    return np.stack([np.bincount(rows, values[:, a], minlength=n) for a in range(3)], axis=1)
