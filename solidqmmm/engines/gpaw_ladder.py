"""What is tried when a GPAW SCF cycle fails, and how GPAW's exceptions are read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from solidqmmm.errors import EngineError, SolidQMMMError
from solidqmmm.runtime import is_root, world


@dataclass(frozen=True)
class Rung:
    """One attempt at self-consistency.

    Attributes:
        name: What is tried, as it appears in `Evaluation.info["retries"]` and in the log.
        keywords: GPAW keywords that replace the engine's.
        maxiter_factor: The iteration limit is this many times the engine's.
        smearing_factor: The Fermi-Dirac width is this many times the engine's (at least `smallest_smearing`). When
            that has converged, the engine's own width is tried again from the density found.
        smallest_smearing: eV.
    """

    name: str
    keywords: dict = field(default_factory=dict)
    maxiter_factor: float = 1.0
    smearing_factor: float = 1.0
    smallest_smearing: float = 0.0


_GENTLE = {"mixer": {"name": "pulay", "beta": 0.02, "nmaxold": 8, "weight": 50.0}}

FRESH = Rung("fresh start")

RETRY_LADDER = (
    FRESH,
    Rung("gentler mixing", _GENTLE, maxiter_factor=2.0),
    Rung("more smearing", _GENTLE, maxiter_factor=2.0, smearing_factor=3.0, smallest_smearing=0.3),
)
"""What is tried, in this order, when an SCF cycle fails: the same settings from atomic densities (left out when the
failed attempt was itself a fresh start); Pulay mixing with a step of 0.02, a history of 8 and twice the iterations;
three times the smearing (at least 0.3 eV) to find a density, and from it the requested smearing again. If only the
larger smearing converges its result is used, the info says so under `smearing_eV`, and a warning is logged: such an
energy does not compare with those at the requested smearing. The next evaluation tries the requested settings again."""


class NotConverged(Exception):
    """An SCF cycle that did not end; the ladder goes on."""


class SymmetryLost(Exception):
    """The atoms left the symmetry of the calculation that was to be continued."""


def classified(error: Exception, *, directory=None) -> Exception:
    """NotConverged, SymmetryLost, or an EngineError with GPAW's own words."""
    from gpaw import ConvergenceError as GPAWConvergenceError
    from gpaw.new.scf import TooFewBandsError
    from gpaw.new.symmetry import SymmetryBrokenError

    if isinstance(error, SymmetryBrokenError):
        return SymmetryLost()
    if isinstance(error, TooFewBandsError):
        return NotConverged("too few bands: raise `nbands`")
    if isinstance(error, GPAWConvergenceError):
        return NotConverged(f"no self-consistency ({type(error).__name__})")
    if isinstance(error, np.linalg.LinAlgError | FloatingPointError) or "are NaN" in str(error):
        return NotConverged(f"{type(error).__name__}: {error}")
    return translated(error, directory=directory)


def translated(error: Exception, *, directory=None) -> SolidQMMMError:
    """Any exception of GPAW as an EngineError that says it in GPAW's words; errors of this family as they are."""
    if isinstance(error, SolidQMMMError):
        return error
    words = re.sub(r"\s+", " ", str(error)).strip()
    hint = ""
    if isinstance(error, FileNotFoundError) and "PAW dataset" in words:
        hint = (
            " -- gpaw-data ships PAW setups for LDA, PBE, RPBE and revPBE; another functional needs setups of its own "
            "(GPAW's `gpaw dataset`) in GPAW_SETUP_PATH"
        )
    if isinstance(error, AssertionError | AttributeError) and world().size > 1 and not has_scalapack():
        hint = (
            f" -- GPAW is built without ScaLAPACK: its modes pw and fd then divide nothing but k-points and spins among "
            f"ranks. Use mode lcao, one rank instead of {world().size}, or as many k-points as ranks"
        )
    return EngineError(f"GPAW says: {type(error).__name__}{': ' + words if words else ''}{hint}", directory=directory)


def has_scalapack() -> bool:
    """Whether GPAW was built with ScaLAPACK."""
    from gpaw import cgpaw

    return hasattr(cgpaw, "new_blacs_context")


def saved(atoms, folder: Path) -> Path:
    """Writes the arrangement that did not converge; rank 0."""
    path = folder / "scf_failed.extxyz"
    if is_root():
        from ase.io import write

        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, atoms, format="extxyz", parallel=False)
    return path


def change_occupations(dft, atoms, occupations: dict):
    """Gives a calculation another smearing and keeps its density (GPAW 26.7's `DFT.change` loses the LCAO basis)."""
    from gpaw.dft import Occupations

    dft.params.occupations = Occupations.from_param(occupations)
    builder = dft.params.dft_component_builder(atoms, log=dft.log, comm=dft.comm)
    dft.scf_loop.occ_calc = builder.create_occupation_number_calculator()
    dft.results = {}
