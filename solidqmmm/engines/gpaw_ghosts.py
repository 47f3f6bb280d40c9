"""Ghosts: LCAO basis functions of an atom that is not there, without nucleus, electrons or PAW corrections.

The electrons that a vacancy traps sit where no atom is, and the neighbours' atomic functions hardly reach them. Behind the
atoms, GPAW is given its `ghost` setups at the vacant sites. A basis that grows lowers the energy; its Pulay forces on
the atoms are GPAW's own, and a ghost itself stays where it is.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from ase import Atoms

from solidqmmm.system.vacant_sites import VacantSites

_ARRAY = "ghost"


def require_basis(mode: str):
    """Nothing, if the `mode` has a basis of atomic functions.

    Raises:
        ValueError: If it has none.
    """
    if mode != "lcao":
        raise ValueError(
            f"`ghost_basis` puts atomic basis functions on vacant sites and belongs to mode 'lcao'; mode {mode!r} describes "
            "every point of space alike: leave it out"
        )


def with_ghosts(atoms: Atoms, sites: VacantSites) -> Atoms:
    """The atoms followed by a ghost on every vacant site."""
    if not len(sites):
        return atoms
    both = atoms + Atoms(numbers=sites.numbers, positions=sites.positions)
    both.set_array(_ARRAY, np.arange(len(both)) >= len(atoms))
    if "cap_charge" in both.arrays:
        both.arrays["cap_charge"][len(atoms) :] = np.nan
    return both


def ghosts_of(atoms: Atoms) -> np.ndarray:
    """Which atoms are ghosts, booleans, shape=(n,)."""
    return atoms.arrays.get(_ARRAY, np.zeros(len(atoms), dtype=bool))


def without_ghosts(atoms: Atoms) -> Atoms:
    """The atoms that have a nucleus."""
    ghosts = ghosts_of(atoms)
    return atoms[~ghosts] if ghosts.any() else atoms


@lru_cache(maxsize=64)
def ghost_setup(symbol: str, basis: str):
    """GPAW's ghost with the functions of `symbol` in the LCAO basis of that name; one object for all sites of a kind.

    GPAW spreads the total charge over all atoms for its first density, and its own `ghost` fails with spin where it is to
    give electrons that it has not.
    """
    from gpaw.basis_data import Basis
    from gpaw.lcao.bsse import GhostSetup, GhostSetupData
    from gpaw.setup import LeanSetup

    class Empty(LeanSetup):
        name = "ghost"  # by this GPAW takes the plain basis of the element

        def calculate_initial_occupation_numbers(self, magmom, hund, charge, nspins, f_j=None):  # noqa: ARG002 - GPAW's
            return np.zeros((nspins, self.nao))

    return Empty(GhostSetup(Basis.find(symbol, basis), GhostSetupData(symbol)))
