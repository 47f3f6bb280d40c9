"""An engine set up for clusters, made fit for strained unit cells of the perfect crystal."""

from __future__ import annotations

import copy

from ase import Atoms
from ase.calculators.calculator import kpts2sizeandoffsets

from solidqmmm.engines.gpaw import GPAWEngine
from solidqmmm.engines.journal import JournaledEngine, without_journal
from solidqmmm.engines.protocols import Engine


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
    if isinstance(engine, JournaledEngine):
        fixed = for_unit_cell(engine.engine, atoms, perfect=perfect)
        return engine if fixed is engine.engine else JournaledEngine(fixed, engine.folder)
    return _gpaw_for_unit_cell(engine, atoms, perfect) if isinstance(engine, GPAWEngine) else engine


def has_own_mesh(engine: Engine) -> bool:
    """Whether the k-points were given as a mesh, which belongs to one cell, and not as a density, which serves all."""
    engine = without_journal(engine)
    return isinstance(engine, GPAWEngine) and "density" not in (engine._settings.get("kpts") or {"density": None})


def _gpaw_for_unit_cell(engine: GPAWEngine, atoms: Atoms, perfect: bool) -> GPAWEngine:
    settings = dict(engine._settings)
    kpts = engine.gpaw_kpts(atoms)
    if isinstance(kpts, dict) and "density" in kpts:
        size, _ = kpts2sizeandoffsets(atoms=atoms, **kpts)
        kpts = {"size": tuple(int(n) for n in size), "gamma": kpts.get("gamma", True)}
        settings["kpts"] = kpts
    if engine._real_space and "gpts" not in settings:
        from ase.units import Bohr
        from gpaw.utilities import h2gpts

        spacing = settings.pop("h", 0.2)
        settings["gpts"] = tuple(int(n) for n in h2gpts(spacing / Bohr, atoms.cell.array / Bohr, 4))
    fixed = with_settings(engine, settings)
    if perfect:
        fixed._settings["charge"] = fixed.charge = 0.0
        if not isinstance(fixed.magmoms, dict):
            fixed.magmoms = None
    return fixed


def with_settings(engine: GPAWEngine, settings: dict) -> GPAWEngine:
    """The same engine with other keywords for GPAW; it has computed nothing yet, and `engine` is left as it is."""
    other = copy.copy(engine)
    other._settings = settings
    other._calc = other._kind = other._file = None
    return other
