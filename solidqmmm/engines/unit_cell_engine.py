"""An engine set up for clusters, made fit for strained unit cells of the perfect crystal."""

from __future__ import annotations

from ase import Atoms
from ase.calculators.calculator import kpts2sizeandoffsets

from solidqmmm.engines.gpaw import GPAWEngine
from solidqmmm.engines.journal import JournaledEngine, without_journal
from solidqmmm.engines.protocols import Engine
from solidqmmm.engines.remote import RemoteEngine


def for_unit_cell(engine: Engine, atoms: Atoms, *, perfect: bool = True) -> Engine:
    """The same engine with the mesh that it would choose for `atoms`; other engines than GPAW as they are.

    The perfect crystal is neutral: a charge or a list of moments that belongs to a cluster or a defect is left out.

    A k-point density is rounded to whole points, so that a strain of a per mille may add a plane of k-points. In real
    space the number of grid points is fixed as well; in plane waves the cutoff stays what it is.

    Args:
        engine: The engine, in a journal or not; it is left as it is.
        atoms: The cell in the middle of the series.
        perfect: Whether `atoms` are the perfect crystal's; atoms that the engine was made for keep charge and moments.
    """
    if isinstance(engine, RemoteEngine):
        return engine.derived(for_unit_cell, atoms, perfect=perfect)
    if isinstance(engine, JournaledEngine):
        fixed = for_unit_cell(engine.engine, atoms, perfect=perfect)
        return engine if fixed is engine.engine else JournaledEngine(fixed, engine.folder)
    return _gpaw_for_unit_cell(engine, atoms, perfect) if isinstance(engine, GPAWEngine) else engine


def has_own_mesh(engine: Engine) -> bool:
    """Whether the k-points were given as a mesh, which belongs to one cell, and not as a density, which serves all."""
    engine = without_journal(engine)
    return isinstance(engine, GPAWEngine) and "density" not in (engine.settings.get("kpts") or {"density": None})


def _gpaw_for_unit_cell(engine: GPAWEngine, atoms: Atoms, perfect: bool) -> GPAWEngine:
    settings, changes = engine.settings, {}
    kpts = engine.gpaw_kpts(atoms)
    if isinstance(kpts, dict) and "density" in kpts:
        size, _ = kpts2sizeandoffsets(atoms=atoms, **kpts)
        changes["kpts"] = {"size": tuple(int(n) for n in size), "gamma": kpts.get("gamma", True)}
    if engine.real_space and "gpts" not in settings:
        from ase.units import Bohr
        from gpaw.utilities import h2gpts

        points = h2gpts(settings.get("h", 0.2) / Bohr, atoms.cell.array / Bohr, 4)
        changes |= {"h": None, "gpts": tuple(int(n) for n in points)}
    fixed = engine.with_settings(changes)
    if perfect:
        fixed.charge = 0.0
        if not isinstance(fixed.magmoms, dict):
            fixed.magmoms = None
    return fixed
