"""What can be known to be wrong, or right, about atoms and settings before GPAW is called."""

from __future__ import annotations

import copy
import logging
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from ase import Atoms

from solidqmmm.engines.gpaw_ghosts import ghosts_of, with_ghosts, without_ghosts
from solidqmmm.engines.gpaw_setups import cap_charges
from solidqmmm.errors import EnvironmentProblem
from solidqmmm.system.vacant_sites import VacantSites

logger = logging.getLogger(__name__)

_COARSEST = 0.22  # angstrom


def mesh(kpts):
    """Three whole numbers as a mesh around Gamma, anything else as it is.

    GPAW takes them as a Monkhorst-Pack mesh, which an even number shifts off Gamma: in fcc and hexagonal cells it lacks
    the symmetry of the crystal, and shear stresses carry an error that does not vanish with the strain.
    """
    if isinstance(kpts, list | tuple) and len(kpts) == 3 and all(isinstance(n, int) for n in kpts):
        return {"size": list(kpts), "gamma": True}
    return kpts


def convergence(criteria) -> dict:
    """SCF criteria with a density criterion of 1e-5 unless they have one.

    GPAW's own 1e-4 is met by the density of the previous step when atoms move by 1e-4 angstrom: forces then lag behind by
    some 1e-3 eV/angstrom, which misleads minimizers and spoils differences of forces.
    """
    return {"density": 1e-5, **(criteria or {})}


def functional(settings: dict, occupations):
    """GPAW's object for the functional, once its new implementation has taken all settings.

    Args:
        settings: GPAW's keywords but for occupations.
        occupations: GPAW's keyword.

    Raises:
        ValueError: For settings that GPAW does not accept, in its words.
        EnvironmentProblem: If GPAW is not installed.
    """
    try:
        from gpaw.dft import LegacyGPAWError, Parameters
        from gpaw.xc import XC
    except ImportError as error:
        raise EnvironmentProblem(
            f"gpaw cannot be imported ({error}): `make test` installs it, the installation page has pip and conda"
        ) from error
    try:
        taken = copy.deepcopy({k: v for k, v in settings.items() if k != "extensions"})
        xc = Parameters(**taken, occupations=occupations).xc
        return XC({"name": xc.name, **xc.kwargs}, legacy_gpaw=False)
    except LegacyGPAWError as error:
        raise ValueError(f"GPAW's new implementation has no such setting: {settings}") from error
    except NameError as error:
        built = "with" if has_libxc() else "WITHOUT"
        raise ValueError(f"`xc`: {error} (GPAW was built {built} LibXC)") from error
    except (TypeError, KeyError, ValueError, AssertionError, AttributeError) as error:
        words = str(error).replace("Parameters.__init__() ", "") or type(error).__name__
        raise ValueError(f"GPAW does not take these settings ({words}): {taken}") from error


def require_sound(atoms: Atoms):
    """Refuses no atoms, no box, positions that are not finite, and atoms closer than 0.5 angstrom.

    Raises:
        ValueError: Saying which.
    """
    if len(atoms) == 0:
        raise ValueError("there are no atoms to compute: the quantum region is empty")
    if atoms.cell.rank < 3:
        raise ValueError(
            f"GPAW needs a box with three cell vectors also around a cluster, got {atoms.cell.rank}: "
            "atoms.center(vacuum=4)"
        )
    if not np.isfinite(atoms.positions).all():
        bad = int(np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))[0])
        raise ValueError(f"position of atom {bad} is not finite: {atoms.positions[bad]}")
    from matscipy.neighbours import neighbour_list

    i, j, d = neighbour_list("ijd", atoms, 0.5)
    if len(d) and ghosts_of(atoms)[[i[0], j[0]]].any():
        raise ValueError(
            f"an atom is {d[0]:.3f} A from a vacant site that holds basis functions (ghost_basis), closer than 0.5 A: leave "
            "ghost_basis out where atoms move into the vacancy"
        )
    if len(d):
        k = int(np.argmin(d))
        raise ValueError(
            f"atoms {i[k]} ({atoms.symbols[i[k]]}) and {j[k]} ({atoms.symbols[j[k]]}) are {d[k]:.3f} A apart, closer "
            "than 0.5 A: two caps of one removed atom, or a wrong structure"
        )


def require_electrons(n: float, formula: str, *, paired: bool):
    """Refuses a fraction of an electron, and an odd number where every level is to hold a pair.

    Args:
        n: Number of valence electrons.
        formula: What has them, for the message.
        paired: Whether the calculation is spin-paired on one k-point.

    Raises:
        ValueError: Saying what to do.
    """
    if abs(n - round(n)) > 1e-6:
        raise ValueError(
            f"{formula} has {n:g} electrons: charge and fractional caps must add up to an integer. On a cut bond of an "
            "atom with Z valence electrons and N bonds the cap's charge is 2 - Z/N"
        )
    if paired and is_odd(n):
        raise ValueError(
            f"{formula} has {n:g} electrons, and GPAW was asked for a spin-paired calculation, which needs an even "
            "number: set spinpol=True, give a `charge`, carve with `even_electrons`, or (metals) set "
            "paired_odd_electrons=True"
        )


def warn_of_coarse_grid(h: float | None, mode: str):
    """Logs a warning if a real-space grid of spacing `h` (angstrom) is too coarse for forces; see `GPAWEngine`."""
    if h is not None and h > _COARSEST:
        logger.warning(
            "h = %.3g A is coarse for a real-space grid: forces may change by up to 1 eV/A as atoms move between its "
            "points; use h = 0.2 or less%s",
            h,
            ", or fft_potential=True" if mode == "lcao" else "",
        )


def mode_dict(mode, ecut, h) -> dict:
    """GPAW's mode as a dict with a name, the cutoff merged in.

    Raises:
        ValueError: For another mode, or a spacing or a cutoff that does not belong to it.
    """
    if hasattr(mode, "todict"):
        mode = {"name": mode.name, **mode.todict()}
    mode = {"name": mode} if isinstance(mode, str) else dict(mode)
    name = mode.get("name")
    if name not in ("lcao", "pw", "fd"):
        raise ValueError(f"`mode` must be 'lcao', 'pw' or 'fd' (or GPAW's dict with such a name), got {name!r}")
    if ecut is not None:
        if name != "pw":
            raise ValueError(f"`ecut` belongs to mode 'pw', but the mode is {name!r}: give `h` (angstrom) instead")
        mode["ecut"] = float(ecut)
    if "dedecut" in mode:
        raise ValueError(
            "GPAW's new implementation takes `dedecut` and ignores it: raise `ecut` until the stress of the finite basis is "
            "small (solidqmmm.procedures.elastic.pulay.pulay_stress)"
        )
    if h is not None and not h > 0:
        raise ValueError(f"`h` must be a positive grid spacing in angstrom, got {h}")
    return mode


def bare(atoms: Atoms, *, ghosts: bool = False) -> Atoms:
    """Only what determines the calculation; GPAW synchronizes positions in place, and must not touch the caller's.

    Args:
        atoms: The caller's.
        ghosts: Whether the vacant sites that the atoms carry become ghosts behind them (`gpaw_ghosts`).
    """
    bare = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    bare.set_initial_magnetic_moments(atoms.get_initial_magnetic_moments())
    if "cap_charge" in atoms.arrays:
        bare.set_array("cap_charge", np.array(atoms.arrays["cap_charge"], dtype=float))
    return with_ghosts(bare, VacantSites.of(atoms)) if ghosts else bare


def kind(atoms: Atoms) -> tuple:
    """What must be equal for a warm start."""
    return (
        atoms.numbers.tobytes(), atoms.cell.array.tobytes(), atoms.pbc.tobytes(), cap_charges(atoms).tobytes(),
        ghosts_of(atoms).tobytes(), atoms.get_initial_magnetic_moments().tobytes(),
    )  # fmt: skip


def is_odd(n_electrons: float) -> bool:
    """Whether a number of electrons is not an even integer (a fraction of an electron counts as odd)."""
    return abs(n_electrons / 2 - round(n_electrons / 2)) > 1e-6


def has_k_points(atoms: Atoms, kpts) -> bool:
    """Whether GPAW's k-point keyword means more than Gamma for these atoms."""
    if not atoms.pbc.any():
        return False
    from gpaw.dft import BZSampling

    return not BZSampling.from_param(kpts).build(atoms).gamma_only


def plain(value):
    """JSON for settings: objects of GPAW become their dicts or reprs."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if hasattr(value, "todict"):
        return {"name": getattr(value, "name", type(value).__name__), **plain(value.todict())}
    return type(value).__name__


def setups_release() -> str:
    """Which release of PAW data GPAW uses: the package's version, or the bare name of the folder."""
    try:
        return f"gpaw-data {version('gpaw-data')}"
    except PackageNotFoundError:
        import gpaw

        return Path(str(gpaw.setup_paths[0])).name if gpaw.setup_paths else "unknown"


def has_libxc() -> bool:
    """Whether GPAW was built with LibXC."""
    from gpaw import cgpaw

    return hasattr(cgpaw, "libxc_version")


def references(xc, *, lcao: bool) -> list[str]:
    """Citation keys that a result with this functional (GPAW's keyword) owes."""
    native = {"LDA", "PBE", "revPBE", "RPBE", "PW91", "LDAc", "HCTH407", "EXX", "PBE0", "mBEEF", "BEEF1"}
    keys = ["mortensen2024gpaw", "enkovaara2010gpaw", "bloechl1994paw"]
    if lcao:
        keys.append("larsen2009lcao")
    if xc == "PBE":
        keys.append("perdew1996pbe")
    if (xc.get("name") if isinstance(xc, dict) else str(xc)) not in native:
        keys.append("lehtola2018libxc")
    return keys


def moments(atoms: Atoms, magmoms, n_electrons) -> np.ndarray:
    """Initial moments in Bohr magnetons, shape=(n,): see `GPAWEngine`; ghosts have none.

    Args:
        atoms: The arrangement.
        magmoms: By atom, by element, or None for those of the atoms.
        n_electrons: Gives the number of electrons when it is called.

    Raises:
        ValueError: For moments that are not as many as the atoms.
    """
    real = without_ghosts(atoms)
    if isinstance(magmoms, dict):
        found = np.array([float(magmoms.get(symbol, 0.0)) for symbol in real.symbols])
    elif magmoms is not None:
        found = np.asarray(magmoms, dtype=float)
        if found.shape != (len(real),):
            raise ValueError(f"`magmoms` has shape {found.shape}, expected ({len(real)},), or a dict by element")
    else:
        found = real.get_initial_magnetic_moments()
        if not found.any() and is_odd(n_electrons()):
            found = np.full(len(real), 1.0 / len(real))
    return np.append(found, np.zeros(len(atoms) - len(real)))
