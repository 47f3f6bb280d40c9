"""E_inf from the electrostatic potential of one cell: FNV by planar averages, eFNV by the potentials at atoms."""

from __future__ import annotations

import numpy as np

from solidqmmm.physics.charged_defects.efnv import efnv
from solidqmmm.procedures.charged_defects.size_routes import EFNV, FNV, route
from solidqmmm.system.energy_table import CellEnergy
from solidqmmm.system.site_potentials import SitePotentials

# Scatter of the potential far from the defect (V) from which on an alignment by it means little.
_NOT_FLAT = 0.1


def potential_routes(of: CellEnergy, given: SitePotentials, charge: float, tensor) -> dict[str, dict]:
    """The routes FNV and eFNV for one cell, in the form of `size_routes.route`.

    Args:
        of: The cell and its energy.
        given: Its potentials.
        charge: q in e.
        tensor: Relative permittivity, shape=(3, 3).
    """
    energy, label, cell, found = of.energy, of.label, of.cell, {}
    try:
        by_sites = efnv(charge, cell, tensor, given.positions, given.defect_position, given.defect, given.bulk)
        reason = None
        if by_sites.flatness > _NOT_FLAT:
            reason = f"the potential is not flat far from the defect: it varies by {by_sites.flatness:.2f} V"
        found[EFNV] = route(
            energy + by_sites.correction, by_sites.correction, label, counted=reason is None, reason=reason
        ) | {"alignment_V": by_sites.alignment, "flatness_V": by_sites.flatness}
    except ValueError as error:
        found[EFNV] = route(None, reason=str(error))
    if set(given.planar) != {0, 1, 2}:
        found[FNV] = route(None, reason="needs the potential averaged over planes along all three axes")
        return found
    correction, alignment = freysoldt(charge, cell, tensor, given)
    found[FNV] = route(energy + correction, correction, label) | {"alignment_V": alignment}
    return found


def freysoldt(charge: float, cell, tensor, given: SitePotentials, *, width: float = 1.0) -> tuple[float, float]:
    """FNV correction (added to the energy, eV) and alignment (V, positive charge), by pymatgen-analysis-defects.

    That library wants the potential energy of electrons, the opposite sign of the potentials here.

    Args:
        charge: q in e.
        cell: Cell vectors as rows in angstrom, shape=(3, 3).
        tensor: Relative permittivity, shape=(3, 3).
        given: Potentials with planar averages.
        width: Of the model charge, exp(-r^2/width^2), in bohr.
    """
    from pymatgen.analysis.defects.corrections.freysoldt import get_freysoldt_correction
    from pymatgen.analysis.defects.utils import QModel
    from pymatgen.core import Lattice

    cell = np.asarray(cell, dtype=float)
    found = get_freysoldt_correction(
        q=charge,
        dielectric=np.asarray(tensor, dtype=float),
        defect_locpot={axis: -np.asarray(rows[0]) for axis, rows in given.planar.items()},
        bulk_locpot={axis: -np.asarray(rows[1]) for axis, rows in given.planar.items()},
        defect_frac_coords=np.linalg.solve(cell.T, given.defect_position) % 1.0,
        lattice=Lattice(cell),
        q_model=QModel(beta=width),
    )
    return float(found.correction_energy), float(-found.metadata["mean_alignments"])
