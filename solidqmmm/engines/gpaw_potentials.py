"""GPAW's electrostatic potential at atoms and over planes, and its band edges.

GPAW solves for the potential energy of an electron in the field of pseudo density and compensation charges, and lets it
average to zero over the cell; this is the zero that the energies of charged cells refer to. Here the sign is turned.

At an atom the potential is averaged over the shape function of its compensation charge, which is the same wherever the atom
is: differences between two crystals are those of the potential around it.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.units import Ha

from solidqmmm.engines.protocols import PotentialEvaluation

_NO_GAP = 0.05  # eV; below this there are no band edges
_FULL = 0.02  # a level nearer to full or empty than this is not partly filled


class WithPotentials:
    """What makes a GPAWEngine a `SitePotentialEngine`."""

    def evaluate_with_potentials(self, atoms: Atoms) -> PotentialEvaluation:
        """Energy, forces and electrostatic potentials of a cell that is periodic in all directions.

        Raises:
            ValueError: For atoms that are not, and as `evaluate`.
            EngineError, ConvergenceError: As `evaluate`.
        """
        if not atoms.pbc.all():
            raise ValueError(
                f"potentials are compared in cells that are periodic in all directions, got pbc {atoms.pbc.tolist()}"
            )
        self._source.assign(None)
        return PotentialEvaluation(**self._evaluated(self._bare(atoms), potentials=True))


def potentials_of(calc) -> dict:
    """What `PotentialEvaluation` has beyond `Evaluation`, of a converged calculator of GPAW's new implementation."""
    from gpaw.core import UGArray

    found = calc.dft.electrostatic_potential()
    averages = found.W_aL.gather(broadcast=True)
    sites = np.array([averages[a][0] for a in range(len(found.relpos_ac))])
    v = found.vHt_x
    on_grid = v.to_pbc_grid() if isinstance(v, UGArray) else v.ifft(grid=calc.dft.pot_calc.fine_grid)
    on_grid = on_grid.gather(broadcast=True).data
    edges = np.array(calc.get_homo_lumo(), dtype=float)
    clear = np.isfinite(edges).all() and edges[1] - edges[0] > _NO_GAP and not _partly_filled(calc.dft.ibzwfs)
    return {
        "site_potentials": -Ha / np.sqrt(4 * np.pi) * sites,
        "planar_potentials": tuple(
            -Ha * on_grid.mean(axis=tuple(other for other in range(3) if other != axis)) for axis in range(3)
        ),
        "band_edges": edges if clear else None,
    }


def _partly_filled(ibzwfs) -> bool:
    """Whether some level at some k-point holds a part of its electrons."""
    count = sum(int(((wfs.occ_n > _FULL) & (wfs.occ_n < 1 - _FULL)).sum()) for wfs in ibzwfs)
    return ibzwfs.kpt_comm.sum_scalar(count) > 0
