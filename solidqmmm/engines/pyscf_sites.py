"""Potential, field and field gradient of a PySCF density at external sites, and the electrons close to them.

With g_R a Gaussian of unit charge and the site's width around R, and P the density matrix,

    phi(R) = k [sum_a Z_a (g_R|r_a) - sum_ij P_ij (ij|g_R)],    E = -d phi/dR,

in which derivatives by R are minus those by the electron's coordinate in g_R, or by parts those of the orbitals (integrals
of Q. Sun, J. Comput. Chem. 36, 1664 (2015)): second derivatives of a point's g_R would be lost to rounding. Z_a is the
charge of the nucleus less that of an effective core.
"""

from __future__ import annotations

import numpy as np
from ase.units import Bohr, Hartree
from scipy.spatial import cKDTree

from solidqmmm.physics.electrostatics.coulomb import coulomb_potential
from solidqmmm.system.point_charges import PointCharges

# PySCF's own exponent of a point (1/bohr^2).
_POINT = 1e16
_DOUBLES = 2e7  # of integrals at a time
# Farther than this from all nuclei there are no electrons (angstrom).
_EMPTY = 5.0
_SHELLS, _DIRECTIONS = 8, 38
# Points as close as this share their electrons (pairs of charges that stand for a dipole), angstrom.
_SAME = 0.01


def exponents(widths) -> np.ndarray:
    """z of Gaussians exp(-z r^2) in 1/bohr^2 with standard deviations `widths` in angstrom, shape=(n,)."""
    widths = np.asarray(widths, dtype=float) / Bohr
    return np.where(widths > 0, 0.5 / np.maximum(widths, np.sqrt(0.5 / _POINT)) ** 2, _POINT)


def at_sites(mol, density_matrix, sites: PointCharges, *, derivatives: int = 1) -> tuple[np.ndarray, ...]:
    """Of the total charge, averaged over each site's Gaussian.

    Args:
        mol: PySCF's molecule.
        density_matrix: Of both spins together, shape=(nao, nao).
        sites: Where; their charges do not matter.
        derivatives: 1 for potential and field, 2 for dE_a/dx_b as well.

    Returns:
        Potential in V, shape=(n,); field in V/angstrom, shape=(n, 3); its gradient in V/angstrom^2, shape=(n, 3, 3).
    """
    nuclei = coulomb_potential(
        sites.positions, mol.atom_coords() * Bohr, mol.atom_charges(),
        sigma=np.broadcast_to(sites.widths[:, None], (len(sites), mol.natm)), derivatives=derivatives,
    )  # fmt: skip
    P = 0.5 * (density_matrix + density_matrix.T)
    packed = (2 * P - np.diag(np.diag(P)))[np.tril_indices(len(P))]
    R, z, n = sites.positions / Bohr, exponents(sites.widths), len(sites)
    electrons = [-_contracted(mol, packed, R, z, "int3c2e", 1)[:, 0], -_contracted(mol, packed, R, z, "int3c2e_ip2", 3)]
    if derivatives > 1:
        twice = sum(_contracted(mol, P, R, z, name, 9) for name in ("int3c2e_ipip1", "int3c2e_ipvip1"))
        electrons.append(2 * twice.reshape(n, 3, 3))
    return tuple(a + Hartree / Bohr**order * b for order, (a, b) in enumerate(zip(nuclei, electrons, strict=True)))


def _contracted(mol, P, R, z, name, components) -> np.ndarray:
    """sum_ij P_ij (ij|g_R) of an integral and its derivatives, shape=(n, components); P packed where (ij| = (ji|."""
    from pyscf import df, gto

    name += "_cart" if mol.cart else "_sph"
    optimizer = gto.moleintor.make_cintopt(mol._atm, mol._bas, mol._env, name)
    found = np.empty((len(R), components))
    chunk = max(1, int(_DOUBLES / (P.size * components)))
    for first in range(0, len(R), chunk):
        part = slice(first, first + chunk)
        sites = gto.fakemol_for_charges(R[part], z[part])
        integrals = df.incore.aux_e2(
            mol, sites, intor=name, aosym="s1" if P.ndim == 2 else "s2ij", comp=components, cintopt=optimizer
        )
        found[part] = np.einsum("cxk,x->kc", integrals.reshape(components, P.size, -1), P.ravel())
    return found


def electrons_within(mol, density_matrix, points, radius: float) -> np.ndarray:
    """Electrons within `radius` (angstrom) of each of `points` (angstrom, shape=(n, 3)), by quadrature, shape=(n,)."""
    from pyscf.dft import numint
    from pyscf.dft.gen_grid import MakeAngularGrid

    points, shared = np.unique(np.round(np.reshape(points, (-1, 3)) / _SAME), axis=0, return_inverse=True)
    points = _SAME * points
    found = np.zeros(len(points))
    nuclei = cKDTree(mol.atom_coords() * Bohr)
    near = np.flatnonzero(nuclei.query(points)[0] < _EMPTY) if len(points) else np.empty(0, int)
    x, w = np.polynomial.legendre.leggauss(_SHELLS)
    r = 0.5 * (x + 1) * radius / Bohr
    radial = 0.5 * w * radius / Bohr * 4 * np.pi * r**2
    sphere = MakeAngularGrid(_DIRECTIONS)
    offsets = (r[:, None, None] * sphere[:, :3]).reshape(-1, 3)
    weights = np.outer(radial, sphere[:, 3]).ravel()
    chunk = max(1, int(_DOUBLES / (len(offsets) * mol.nao)))
    for first in range(0, len(near), chunk):
        part = near[first : first + chunk]
        grid = (points[part, None] / Bohr + offsets).reshape(-1, 3)
        rho = numint.eval_rho(mol, numint.eval_ao(mol, grid), density_matrix, xctype="LDA")
        found[part] = rho.reshape(len(part), -1) @ weights
    return found[shared.ravel()]
