"""Cracks whose host is only numbers: no engine is asked for them."""

from __future__ import annotations

import numpy as np
from ase.build import bulk
from ase.units import GPa
from matscipy.elasticity import rotate_elastic_constants

from solidqmmm.physics.cracks.crack_lattice import crack_axes
from solidqmmm.procedures.cracks.crack_system import cracked_crystal
from solidqmmm.system.crack import Cleavage
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.unit_cell import primitive_cell

SILICON = bulk("Si", "diamond", a=5.43095, cubic=True)
IRON = bulk("Fe", "bcc", a=2.855, cubic=True)
TITANIUM = bulk("Ti", "hcp", a=2.951, c=4.684)


def cubic_tensor(c11, c12, c44):
    C = np.diag([c11] * 3 + [c44] * 3).astype(float)
    C[:3, :3] += c12 * (1 - np.eye(3))
    return C


def made_up_cleavage(
    atoms=SILICON, plane=(1, 1, 1), front=(1, -1, 0), *, C=None, gamma=1.36, height=None, **more
):
    """A plane whose constants (GPa) and surface energy (J/m^2) are given; the cut in the middle of the widest gap."""
    unit = Crystal.of(atoms)
    axes = crack_axes(unit.cell, primitive_cell(unit).cell, plane, front)
    C = cubic_tensor(151.4244, 76.4221, 56.4493) if C is None else C
    numbers = {"ideal_strain": 0.33, "ideal_stress_GPa": 34.5, "cutoff": 3.77, "cuts": (), **more}
    return Cleavage(
        axes=axes,
        unit=unit,
        elastic_tensor=rotate_elastic_constants(C, axes.rotation) * GPa,
        surface_energy_J_per_m2=gamma,
        surface_energy_unrelaxed_J_per_m2=gamma,
        cut_height=axes.spacing * 0.375 if height is None else height,  # silicon (111): the shuffle set
        **numbers,
    )


def made_up_crack(system="cylinder", size_A=(84,), **options):
    """A crack in silicon (111)[1-10]."""
    return cracked_crystal(made_up_cleavage(), system=system, size_A=size_A, **options)
