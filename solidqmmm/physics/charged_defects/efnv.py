"""The correction of Kumagai and Oba (eFNV): a point charge among its images, and the potential at the atoms far away.

    E_inf = E - E_pc - q dV,    dV = < V_defect - V_bulk - V_pc >   over sites outside a sphere around the defect

V_pc is the potential of the point charge, its images and the neutralizing background in the dielectric medium; all
potentials are those that a positive charge feels, in V, and average to zero over their cells. (Codes that print the
potential energy of electrons have the opposite sign.) A constant that shifts the defect's cell by c changes its energy by
q c: dV takes that out again, and with it what the defect's charge, being no point, adds to the energy as B/V.

The sphere touches the cell's faces that are furthest apart; the standard deviation of V_defect - V_bulk - V_pc beyond it
says how flat it is there.

Source: Y. Kumagai and F. Oba, Phys. Rev. B 89, 195205 (2014).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.geometry import find_mic

from solidqmmm.physics.electrostatics.ewald import ewald_potential
from solidqmmm.physics.geometry import perpendicular_widths
from solidqmmm.physics.madelung import point_charge_energy

_AT_THE_DEFECT = 0.01  # angstrom; a site nearer than this is the defect itself


@dataclass(frozen=True, eq=False)
class EFNV:
    """A correction and where it comes from.

    Attributes:
        point_charge: -E_pc in eV.
        alignment: dV in V.
        flatness: Standard deviation of the differences beyond the sphere in V.
        distances: Of the sites from the defect in angstrom, shape=(n,).
        differences: V_defect - V_bulk in V, shape=(n,).
        point_charge_potentials: V_pc in V, shape=(n,); infinite at the defect itself.
        far: Sites beyond the sphere, bool, shape=(n,).
        radius: Of the sphere in angstrom.
        charge: q in e.
    """

    point_charge: float
    alignment: float
    flatness: float
    distances: np.ndarray
    differences: np.ndarray
    point_charge_potentials: np.ndarray
    far: np.ndarray
    radius: float
    charge: float

    @property
    def correction(self) -> float:
        """What is added to E in eV."""
        return self.point_charge - self.charge * self.alignment


def efnv(charge: float, cell, dielectric, positions, defect_position, defect_potentials, bulk_potentials) -> EFNV:
    """The correction of a charged defect's energy.

    Args:
        charge: q in e.
        cell: Cell vectors as rows in angstrom, shape=(3, 3).
        dielectric: Relative permittivity, a number or shape=(3, 3).
        positions: Of the sites in angstrom, shape=(n, 3).
        defect_position: In angstrom, shape=(3,).
        defect_potentials, bulk_potentials: At the sites with and without the defect, as a positive charge feels them, in V,
            shape=(n,).

    Raises:
        ValueError: For arrays of different lengths, or a cell without sites beyond the sphere.
    """
    positions = np.asarray(positions, dtype=float)
    differences = np.asarray(defect_potentials, dtype=float) - np.asarray(bulk_potentials, dtype=float)
    if positions.ndim != 2 or positions.shape[1] != 3 or differences.shape != (len(positions),):
        raise ValueError(
            f"one potential with and one without the defect is expected for each of the {len(positions)} sites, got "
            f"{np.shape(defect_potentials)} and {np.shape(bulk_potentials)}"
        )
    defect_position = np.asarray(defect_position, dtype=float)
    distances = find_mic(positions - defect_position, np.asarray(cell, dtype=float), pbc=True)[1]
    radius = sphere_radius(cell)
    far = distances > radius
    if not far.any():
        raise ValueError(f"no site is further than {radius:.2f} A from the defect: the cell is too small for eFNV")
    point = np.full(len(positions), np.inf * np.sign(charge))
    apart = distances > _AT_THE_DEFECT
    point[apart] = ewald_potential(
        positions[apart], [defect_position], [charge], cell, dielectric=dielectric, derivatives=0, background=True
    )[0]
    left = differences[far] - point[far]
    return EFNV(
        point_charge=-point_charge_energy(charge, cell, dielectric),
        alignment=float(left.mean()),
        flatness=float(left.std()),
        distances=distances,
        differences=differences,
        point_charge_potentials=point,
        far=far,
        radius=radius,
        charge=float(charge),
    )


def sphere_radius(cell) -> float:
    """Half of the largest distance between opposite faces of a cell, in angstrom."""
    return float(0.5 * perpendicular_widths(np.asarray(cell, dtype=float)).max())
