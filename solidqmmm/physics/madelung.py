"""Potentials of ionic crystals at their sites, and the energy of a charge among its own images.

A charge q with a neutralizing background, on a lattice in a medium of dielectric tensor eps, has per cell the energy

    E_pc = -alpha q^2 k/(2 eps L),     k = e^2/(4 pi eps0),

the first-order error of a charged defect in a supercell. alpha depends on the length L it refers to: with L = V^(1/3) it is
2.8373 (sc), 2.8883 (fcc), 2.8885 (bcc); with the edge a of the conventional cell 2.8373, 4.5849, 3.6392, that is by
a/V^(1/3) = 1, 4^(1/3), 2^(1/3) more. For another length alpha(L') = alpha(L) L'/L. For a tensor, eps in this formula means
(det eps)^(1/3); alpha is then the one of the lattice deformed by eps^(-1/2), with L on the scale of the lattice itself.

Madelung's constant of an ionic crystal, E = -M z^2 k/d per formula unit with nearest neighbours at a distance d, is another
number: it follows from `ewald_energy`, or for two kinds of ions that see the same surroundings from phi = -M z k/d.

Sources: M. Leslie and M. J. Gillan, J. Phys. C 18, 973 (1985); G. Makov and M. C. Payne, Phys. Rev. B 51, 4014 (1995);
R. Rurali and X. Cartoixa, Nano Lett. 9, 975 (2009) for the tensor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from solidqmmm.physics.electrostatics.ewald import COULOMB, ewald_energy, ewald_potential

if TYPE_CHECKING:
    from pymatgen.core import Structure


def madelung_constant(cell, *, length: float | None = None, dielectric=None) -> float:
    """alpha of a lattice of equal charges with a neutralizing background; see the module's text.

    Args:
        cell: Cell vectors as rows in angstrom, shape=(3, 3).
        length: L in angstrom, as the edge of a conventional cell; None takes V^(1/3).
        dielectric: A number, which does not change alpha, or a symmetric tensor, shape=(3, 3).

    Raises:
        ValueError: If `length` is not positive, or for what `ewald_energy` refuses.
    """
    cell = np.asarray(cell, dtype=float)
    L = abs(np.linalg.det(cell)) ** (1 / 3) if length is None else float(length)
    if not L > 0:
        raise ValueError(f"`length` must be positive (angstrom), got {length}")
    eps = 1.0
    if dielectric is not None:
        tensor = np.asarray(dielectric, dtype=float) * (np.eye(3) if np.ndim(dielectric) == 0 else 1.0)
        eps = np.cbrt(np.linalg.det(tensor))
    return float(-2 * eps * L * point_charge_energy(1.0, cell, dielectric) / COULOMB)


def point_charge_energy(charge: float, cell, dielectric=None) -> float:
    """E_pc in eV: a point charge, its images and a neutralizing background in a medium; negative for compact cells.

    Args:
        charge: q in e.
        cell: Cell vectors as rows in angstrom, shape=(3, 3).
        dielectric: Static relative permittivity, a number or a symmetric tensor of shape=(3, 3); None for vacuum.
    """
    unit = ewald_energy(np.zeros((1, 3)), [1.0], cell, dielectric=dielectric, background=True)
    return float(charge**2 * unit.energy)


def site_potentials_of(positions, charges, cell) -> np.ndarray:
    """Potentials at ions of the others and of all images, in V, shape=(n,); their average over the crystal is zero.

    Args:
        positions: In angstrom, shape=(n, 3).
        charges: In e, summing to zero, shape=(n,).
        cell: Cell vectors as rows in angstrom, shape=(3, 3).

    Raises:
        ValueError: If the cell is not neutral; the message names the sums of positive and of negative charges.
    """
    return ewald_potential(positions, positions, charges, cell, derivatives=0)[0]


def site_potentials(structure: Structure) -> np.ndarray:
    """Madelung potentials at the sites of an ionic crystal; half the sum of q phi is its lattice energy.

    Args:
        structure: A pymatgen Structure with oxidation states; partly occupied sites carry the mean of theirs.

    Returns:
        Potentials in V, shape=(n,).

    Raises:
        ValueError: If oxidation states are missing, or do not sum to zero.
    """
    return site_potentials_of(structure.cart_coords, formal_charges(structure), structure.lattice.matrix)


def formal_charges(structure: Structure) -> np.ndarray:
    """Oxidation states of a pymatgen Structure, weighted by occupancy, in e, shape=(n,).

    Raises:
        ValueError: If there are none on some site.
    """
    states = [
        [(getattr(kind, "oxi_state", None), share) for kind, share in site.species.items()]
        for site in structure
    ]
    bare = [k for k, site in enumerate(states) if any(state is None for state, _ in site)]
    if bare:
        raise ValueError(
            f"{len(bare)} of {len(states)} sites have no oxidation state, the first of them site {bare[0]} "
            f"({structure[bare[0]].species_string}); add them with "
            'structure.add_oxidation_state_by_element({"Mg": 2, "O": -2}) or structure.add_oxidation_state_by_guess()'
        )
    return np.array([sum(state * share for state, share in site) for site in states], dtype=float)
