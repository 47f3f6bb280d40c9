"""How much of a plane-wave stress comes from the finite basis, not from the crystal.

The stress of a plane-wave calculation is the derivative of the energy at a fixed *set* of waves, which a strain deforms with
the cell. At a fixed *cutoff* waves come and go, and the derivative of that energy, which converges much faster with the
cutoff, is smaller by an isotropic tension (G. P. Francis and M. C. Payne, J. Phys.: Condens. Matter 2, 4395 (1990)):

    sigma(fixed set) - sigma(fixed cutoff) = P 1,     P = -(2/3) (E_cut / V) dE/dE_cut > 0

P shortens the lattice that a stress relaxes to. The same waves, coming and going as a cell is strained, make noise in
elastic constants: at a strain of 0.005, in the primitive cell of rocksalt MgO, about 3 GPa where P is 5 GPa, 1 where it is
1, and 0.5 where it is 0.2.
"""

from __future__ import annotations

from ase import Atoms

from solidqmmm.engines.gpaw import GPAWEngine
from solidqmmm.engines.journal import JournaledEngine, without_journal
from solidqmmm.engines.protocols import Engine
from solidqmmm.engines.remote import RemoteEngine

_DEFAULT_CUTOFF = 340.0  # eV, GPAW's


def pulay_stress(engine: Engine, atoms: Atoms, *, step: float = 0.05) -> float | None:
    """P in eV/angstrom^3, tension positive; None for an engine without plane waves. Two evaluations, without stress.

    Args:
        engine: The engine, in a journal or not, with a k-point mesh fixed (`for_unit_cell`); it is left as it is.
        atoms: A fully periodic cell.
        step: dE/dE_cut is the central difference between cutoffs smaller and larger by this fraction.
    """
    gpaw = without_journal(engine)
    if not isinstance(gpaw, GPAWEngine) or not gpaw.provides_stress:
        return None
    cutoff = gpaw.settings["mode"].get("ecut", _DEFAULT_CUTOFF)
    energies = []
    for factor in (1 + step, 1 - step):
        with _with_cutoff(engine, factor * cutoff) as there:
            energies.append(there.evaluate(atoms).energy)
    slope = (energies[0] - energies[1]) / (2 * step * cutoff)
    return float(-2 / 3 * cutoff / abs(atoms.cell.volume) * slope)


def _with_cutoff(engine: Engine, cutoff: float) -> Engine:
    """The same engine with another cutoff in eV, in the same journal and on the same ranks."""
    if isinstance(engine, RemoteEngine):
        return engine.derived(_with_cutoff, cutoff)
    if isinstance(engine, JournaledEngine):
        return JournaledEngine(_with_cutoff(engine.engine, cutoff), engine.folder)
    return engine.with_settings({"mode": {**engine.settings["mode"], "ecut": cutoff}})
