"""A defect in an infinite crystal: the perfect lattice's Green's function and Dyson's equation on the perturbed sites.

    G0(lambda) = (lambda M - K)^-1,   G0_(R s)(R' s') = 1/N sum_q e^(i q.(R - R')) [lambda M - K(q)]^-1_ss',   lambda = w^2.

The defect changes K and M on a few sites P, V(lambda) = dK - lambda dM, so that there

    G = (1 - G0 V)^-1 G0,     modes outside the bands:  det(1 - G0_PP V(lambda)) = 0.

Roots are sought in the symmetric form E(lambda) x = 0, E = G0_PP^-1 - V, whose derivative E' = G0_PP^-1 (G0 M G0)_PP
G0_PP^-1 + dM is positive definite. E has poles where G0_PP has an eigenvalue zero; their number enters the count of modes. x
is the displacement of the sites P, the motion elsewhere is u = G0 V x, and x.E' x its norm, from which the weight on any
atom follows.

A sum over a mesh of n^D wave vectors is exact for a crystal of n^D cells, periodically repeated: it differs from the
infinite one by G0 at the distance of the images. Outside the bands that falls exponentially with n; inside, with a frequency
w + i delta, as well, on the scale of the group velocity over delta.

A vacancy is described by detached springs: all force constants of the atom are removed and its neighbours' own blocks are
corrected such that translations cost nothing (`detached`); the atom stays behind, free, at w = 0. Atoms that are added carry
their own equations beside those of P.

Sources: A. A. Maradudin, E. W. Montroll, G. H. Weiss and I. P. Ipatova, Theory of Lattice Dynamics in the Harmonic
Approximation, 2nd ed. (1971), chapter 8; I. M. Lifshitz, Nuovo Cimento Suppl. 3, 716 (1956).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from solidqmmm.physics.vibrations.nonlinear_modes import Stiffness, nonlinear_modes
from solidqmmm.physics.vibrations.perfect_lattice import PerfectLattice

ACCURACY = 1e-11  # of G0 against images, relative to G0 on one site
ACCURACY_AT_LOW = 1e-4  # at the end of a window only signs matter
FINEST = {1: 20000, 2: 600, 3: 80}  # wave vectors in each direction


@dataclass(frozen=True, eq=False)
class LatticeDefect:
    """What a defect changes.

    Attributes:
        sites: Perturbed sites, each the cell and the atom in it, shape=(p, D + 1).
        stiffness: dK on them, followed by the added atoms with K itself, in eV/angstrom^2, symmetric, shape=(n, n) with
            n = (p + a) d.
        masses: New masses of the sites, followed by those of added atoms, in amu, shape=(p + a,).

    Raises:
        ValueError: For sites that are not all different, masses that are not positive, or a stiffness that is not
            symmetric or does not fit them.
    """

    sites: np.ndarray
    stiffness: np.ndarray
    masses: np.ndarray

    def __post_init__(self):
        sites, masses = np.asarray(self.sites, dtype=int), np.asarray(self.masses, dtype=float)
        stiffness = np.asarray(self.stiffness, dtype=float)
        if sites.ndim != 2 or not len(sites) or len({tuple(s) for s in sites.tolist()}) < len(sites):
            raise ValueError(
                f"`sites` must be different cells and atoms, shape=(p, D + 1), got shape {sites.shape}"
            )
        if len(masses) < len(sites) or not np.all(masses > 0):
            raise ValueError(
                f"each of the {len(sites)} sites needs a positive mass (amu), got {masses.tolist()}"
            )
        lopsided = np.abs(stiffness - stiffness.T).max() > 1e-8 * np.abs(stiffness).max(initial=1.0)
        if stiffness.shape[0] % len(masses) or lopsided:
            raise ValueError(
                f"`stiffness` must be symmetric, with d rows for each mass, got shape {stiffness.shape}"
            )
        for name, array in (("sites", sites), ("stiffness", stiffness), ("masses", masses)):
            object.__setattr__(self, name, array)


@dataclass(frozen=True, eq=False)
class InfiniteModes:
    """Modes of a defect in an infinite crystal, the highest first.

    Attributes:
        squared: w^2 in eV/(angstrom^2 amu), shape=(k,).
        displacements: Of the perturbed sites and the added atoms in amu^(-1/2), the whole crystal's motion normalized to
            sum m |u|^2 = 1, shape=(k, p + a, d).
        weights: m |u|^2 on each of them, shape=(k, p + a).
        participating_atoms: 1/sum_i (m_i |u_i|^2)^2 over the whole crystal, shape=(k,): in an infinite one the participation
            ratio itself is zero.
    """

    squared: np.ndarray
    displacements: np.ndarray
    weights: np.ndarray
    participating_atoms: np.ndarray


def mass_defect(lattice: PerfectLattice, site, mass: float) -> LatticeDefect:
    """One atom of another mass, force constants as they were."""
    return LatticeDefect([site], np.zeros((lattice.d, lattice.d)), [mass])


def detached(K, atom: int, d: int = 3) -> np.ndarray:
    """dK that cuts an atom loose: all its force constants go, and its neighbours keep the acoustic sum rule.

    dK_jv = -K_jv and dK_vv = -K_vv; dK_jj = (K_jv + K_vj)/2, so that a rigid shift of the others costs nothing through the
    atom that has gone. For central springs this removes just the springs of the atom.

    Args:
        K: Force constants between the perturbed sites of the perfect crystal in eV/angstrom^2, shape=(p d, p d); they must
            comprise all neighbours of the atom.
        atom: Index of the vacant site among them.
        d: Degrees of freedom per atom.
    """
    K = np.asarray(K, dtype=float)
    change = np.zeros_like(K)
    v = slice(d * atom, d * (atom + 1))
    change[v], change[:, v] = -K[v], -K[:, v]
    for j in range(len(K) // d):
        if j != atom:
            own = slice(d * j, d * (j + 1))
            change[own, own] += (K[own, v] + K[v, own]) / 2
    return change


def host_greens_function(
    lattice: PerfectLattice, squared, sites, *, mesh: int | None = None, accuracy: float = ACCURACY
) -> np.ndarray:
    """G0 between sites of the perfect crystal in angstrom^2/eV, shape=(p d, p d).

    Args:
        lattice: The perfect crystal.
        squared: lambda in eV/(angstrom^2 amu), real outside the bands or complex.
        sites: Cells and atoms, shape=(p, D + 1).
        mesh: Wave vectors in each direction; None refines until the images are below `accuracy`.
        accuracy: Relative to G0 on one site.

    Raises:
        ArithmeticError: If the finest mesh is too coarse: lambda is too close to a band, or its imaginary part too small.
    """
    return _between(_on_mesh(lattice, squared, sites, mesh, accuracy)[0], lattice, sites)


def infinite_host_modes(
    lattice: PerfectLattice,
    defect: LatticeDefect,
    low: float,
    high: float | None = None,
    *,
    mesh: int | None = None,
) -> InfiniteModes:
    """All modes with low < w^2 < high of a defect in an infinite crystal.

    Args:
        lattice: The perfect crystal.
        defect: What the defect changes.
        low: Lower end of the window in eV/(angstrom^2 amu), just above the bands or the lower edge of a gap.
        high: Upper end; None above the bands.
        mesh: A fixed mesh, which is a crystal of so many cells in each direction; None takes what convergence asks for.

    Raises:
        ArithmeticError: If a mode, or `low`, is so close to the bands that no mesh converges.
    """
    host_masses = lattice.masses[defect.sites[:, -1]]
    d, p = lattice.d, len(defect.sites) * lattice.d
    change = np.diag(np.repeat(defect.masses, d))
    change[:p, :p] -= np.diag(np.repeat(host_masses, d))

    def stiffness(squared):
        accuracy = ACCURACY_AT_LOW if squared == low else ACCURACY
        g, gg = _on_mesh(lattice, squared, defect.sites, mesh, accuracy)
        G, GMG = (_between(x, lattice, defect.sites) for x in (g, gg))
        inverse = linalg.inv(G)
        D, B = defect.stiffness - squared * change, change.copy()
        D[:p, :p] -= inverse
        B[:p, :p] += inverse @ GMG @ inverse
        # Modes below lambda: those of E, less the poles that it has passed, where an eigenvalue of G0_PP falls through zero.
        return Stiffness(squared, (D + D.T) / 2, (B + B.T) / 2, -int(np.sum(linalg.eigvalsh(G) > 0)))

    top = _above_everything(lattice, defect, low) if high is None else high
    squared, x = nonlinear_modes(stiffness, low, top)
    u = x.T.reshape(len(squared), len(defect.masses), d)
    weights = np.sum(u**2, axis=2) * defect.masses
    atoms = [
        _participating(lattice, defect, change, value, vector, mesh) for value, vector in zip(squared, x.T)
    ]
    return InfiniteModes(squared, u, weights, np.array(atoms))


def motion_of_sites(
    lattice, defect, modes: InfiniteModes, k: int, sites, *, mesh: int | None = None
) -> np.ndarray:
    """Displacements of any sites in mode k, u = G0 V x, in amu^(-1/2), shape=(n_sites, d)."""
    d, p = lattice.d, len(defect.sites)
    change = defect.masses.copy()
    change[:p] -= lattice.masses[defect.sites[:, -1]]
    x = modes.displacements[k].ravel()
    force = (defect.stiffness @ x - modes.squared[k] * np.repeat(change, d) * x)[: p * d]
    everywhere = np.concatenate([np.asarray(sites, dtype=int), defect.sites])
    g, _ = _on_mesh(lattice, modes.squared[k], everywhere, mesh, ACCURACY)
    G = _between(g, lattice, everywhere)
    return (G[: d * len(sites), d * len(sites) :] @ force).reshape(-1, d)


def _on_mesh(lattice, squared, sites, mesh, accuracy):
    """G0 and G0 M G0 from the cell at 0 to every cell, shape=(n, ..., n, b d, b d), unweighted."""
    cells = np.asarray(sites)[:, :-1]
    extent = int(np.ptp(cells, axis=0).max())
    n = mesh or max(8, 2 * extent + 4)
    while True:
        W = lattice.on_mesh(n)
        unit = np.eye(W.shape[-1])
        inverse = np.linalg.inv(squared * unit - W)
        axes = tuple(range(lattice.dimension))
        g = np.fft.ifftn(inverse, axes=axes)
        if mesh or _image(g, n, extent, lattice.dimension) <= accuracy:
            break
        if n >= FINEST[lattice.dimension]:
            raise ArithmeticError(
                f"a mesh of {n} wave vectors in each direction is too coarse for w^2 = {squared:.6g} eV/(angstrom^2 amu): "
                "it is too close to a band, or its imaginary part is too small. A fixed `mesh` gives the result of that "
                "finite crystal"
            )
        n = min(int(1.5 * n) + int(1.5 * n) % 2, FINEST[lattice.dimension])
    gg = np.fft.ifftn(inverse @ inverse, axes=axes)
    roots = np.sqrt(np.repeat(lattice.masses, lattice.d))
    g, gg = (x / (roots[:, None] * roots) for x in (g, gg))
    return (g, gg) if np.iscomplexobj(squared) else (g.real, gg.real)


def _image(g, n, extent, dimension) -> float:
    """G0 at the distance of the nearest image, relative to one site, from its decay up to half that distance."""
    size = np.abs(g).max(axis=(-2, -1))
    half = max(np.take(size, n // 2, axis=axis).max() for axis in range(dimension)) / size.flat[0]
    return float(min(half, 1.0) ** (2 * (n - extent) / n))


def _between(g, lattice, sites):
    """The matrix between sites, shape=(p d, p d); symmetric where it is real."""
    sites, d = np.asarray(sites, dtype=int), lattice.d
    n, p = np.array(g.shape[: lattice.dimension]), len(sites)
    apart = (sites[:, None, :-1] - sites[None, :, :-1]) % n
    block = g[tuple(np.moveaxis(apart, -1, 0))].reshape(p, p, -1, d, len(lattice.masses), d)
    rows, columns = np.arange(p)[:, None], np.arange(p)[None, :]
    G = block[rows, columns, sites[:, -1][:, None], :, sites[:, -1][None, :], :]
    G = G.transpose(0, 2, 1, 3).reshape(p * d, p * d)
    return (G + G.T) / 2


def _participating(lattice, defect, change, squared, x, mesh) -> float:
    """1/sum_i (m_i |u_i|^2)^2 with u = G0 V x on all cells of the mesh."""
    d, p = lattice.d, len(defect.sites)
    g, _ = _on_mesh(lattice, squared, defect.sites, mesh, ACCURACY)
    n, axes = g.shape[0], tuple(range(lattice.dimension))
    force = np.zeros((*g.shape[: lattice.dimension], len(lattice.masses), d))
    change_of_force = (defect.stiffness @ x - squared * (change @ x)).reshape(-1, d)
    for site, value in zip(defect.sites, change_of_force):
        force[(*(site[:-1] % n), site[-1])] += value
    force = np.fft.fftn(force.reshape(*force.shape[:-2], -1), axes=axes)
    u = np.fft.ifftn(np.einsum("...ij,...j->...i", np.fft.fftn(g, axes=axes), force), axes=axes).real
    weights = np.sum(u.reshape(*u.shape[:-1], -1, d) ** 2, axis=-1) * lattice.masses
    for site, value, mass in zip(defect.sites, x.reshape(-1, d), defect.masses):
        weights[(*(site[:-1] % n), site[-1])] = mass * value @ value
    added = np.sum(x.reshape(-1, d)[p:] ** 2, axis=1) * defect.masses[p:]
    return float(1 / (np.sum(weights**2) + np.sum(added**2)))


def _above_everything(lattice, defect, low) -> float:
    """A number above the spectrum of the crystal with the defect: both parts of K bounded by their own masses."""
    lightest = min(defect.masses.min(), lattice.masses.min())
    ratio = max(1.0, float(np.max(lattice.masses) / lightest))
    host = float(np.abs(lattice.on_mesh(8)).sum(axis=-1).max())
    changed = float(np.abs(defect.stiffness).sum(axis=1).max(initial=0.0)) / lightest
    return max(1.01 * low, 1.01 * (ratio * host + changed))
