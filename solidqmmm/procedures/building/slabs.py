"""Slabs: crystals whose periodic cell holds a layer of vacuum.

In such a cell, with the images beyond the vacuum and no field far away (tin foil), a slab of dipole moment mu along its
normal and area A makes a field that no single slab would have, E = 4 pi k mu/V, and a potential step 4 pi k mu/A across the
vacuum. A charged one has a background there, and an energy that grows with the vacuum without end. Neither is an answer.

Sources: I.-C. Yeh and M. L. Berkowitz, J. Chem. Phys. 111, 3155 (1999); H.-P. Komsa and A. Pasquarello, Phys. Rev. Lett.
110, 095505 (2013) for charged ones.
"""

from __future__ import annotations

import numpy as np

from solidqmmm.physics.electrostatics.ewald import COULOMB
from solidqmmm.physics.geometry import placed_after_vacuum, vacuum_along
from solidqmmm.system.crystal import Crystal

# An empty layer so wide is no part of a crystal (angstrom).
VACUUM = 6.0
# Potential step across the vacuum that nobody minds (V).
_STEP = 0.1


def slab_axes(crystal: Crystal) -> list[int]:
    """The cell vectors across which a crystal that is periodic in all directions has vacuum."""
    if not np.all(crystal.pbc):
        return []
    return [int(axis) for axis in np.flatnonzero(vacuum_along(crystal.positions, crystal.cell) > VACUUM)]


def potential_step(crystal: Crystal, charges, axis: int) -> float:
    """4 pi k mu/A of a neutral slab in V, its dipole mu along the normal that points towards cell vector `axis`.

    Args:
        crystal: The slab.
        charges: Of its ions in e, shape=(n,).
        axis: The cell vector through the vacuum.
    """
    heights = placed_after_vacuum(crystal.positions, crystal.cell, axis)
    others = np.delete(crystal.cell, axis, axis=0)
    area = np.linalg.norm(np.cross(*others))
    return 4 * np.pi * COULOMB * float(np.dot(charges, heights)) / area


def require_slab_without_field(perfect: Crystal, charges, charge: float):
    """Refuses slabs whose energy depends on the vacuum between them.

    Args:
        perfect: The crystal without its defect. One without vacuum is no slab, nor is one with vacuum along several cell
            vectors, such as a cluster of ions in a box, whose energy has a limit.
        charges: Of its ions in e, shape=(n,).
        charge: Of the crystal with its defect in e.

    Raises:
        ValueError: For a charged slab, or one with a dipole across it.
    """
    axes = slab_axes(perfect)
    for axis in axes if len(axes) == 1 else ():
        width = vacuum_along(perfect.positions, perfect.cell)[axis]
        if charge != 0.0:
            raise ValueError(
                f"coupling.charge {charge:+g} e in a slab with {width:.1f} angstrom of vacuum: the energy of a charged slab "
                "in a periodic cell grows with the vacuum without end; embed a neutral state, or a cluster of ions that is "
                "not periodic (pbc: none) with the surface on it"
            )
        step = potential_step(perfect, charges, axis)
        if abs(step) > _STEP:
            raise ValueError(
                f"the slab with {width:.1f} angstrom of vacuum is polar: the dipole of its ions makes a potential step of "
                f"{step:+.2f} V across the vacuum, and with it a field that one slab alone would not have; take a non-polar "
                "face, or a slab with two equal sides"
            )
