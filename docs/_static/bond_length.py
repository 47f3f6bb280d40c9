"""Bond lengths of a substitutional atom after relaxation at fixed cell.

Inputs (section `bond_length`): fmax in eV/angstrom.
Cost: about 10 quantum calls, or none for the host alone.
"""

from dataclasses import dataclass

import numpy as np

from solidqmmm import Model, Result, relax
from solidqmmm.procedures.building.describe import stored_structure

STUDY_SECTION = "bond_length"


@dataclass(frozen=True, eq=False, kw_only=True)
class BondLengths(Result):
    """Bonds of one atom.

    Attributes:
        converged: Whether the forces came below fmax.
        shortest_A: Shortest bond in angstrom.
        longest_A: Longest of the four shortest in angstrom.
        relaxed_structure: pymatgen's dictionary, or the name of a file for a large crystal.
    """

    converged: bool
    shortest_A: float
    longest_A: float
    relaxed_structure: dict | None = None


def run(*, model: Model, fmax: float = 0.01, workdir=None, progress=None) -> BondLengths:
    """Relaxes, and measures the four shortest distances from the foreign atom.

    Args:
        model: What a study describes.
        fmax: Largest force at the end, eV/angstrom.
        workdir: Run folder.
        progress: Called as progress(done, total, message).
    """
    with model.open() as qmmm:
        outcome = relax(qmmm, fmax=fmax, progress=progress)
    atoms = outcome.crystal.to_atoms()
    distances = atoms.get_distances(model.defect.site, range(len(atoms)), mic=True)
    bonds = np.sort(distances)[1:5]
    return BondLengths(
        converged=outcome.converged,
        shortest_A=bonds[0],
        longest_A=bonds[-1],
        relaxed_structure=stored_structure(outcome.crystal, model.partition, workdir, "relaxed.extxyz"),
    )
