"""What a GPAW calculation would cost: sizes from formulas, seconds from a few SCF iterations."""

from __future__ import annotations

from time import perf_counter

import numpy as np
from ase.units import Bohr, Ha
from scipy.fft import next_fast_len

# Iterations that a clamped cluster took (LCAO, H-capped silicon): about 10 from atoms, 7 after a small step.
_FRESH_ITERATIONS, _WARM_ITERATIONS = 10, 7


def grid_points(engine, atoms) -> int:
    """Points of GPAW's coarse real-space grid."""
    return int(np.prod(_grid(engine, atoms)))


def _grid(engine, atoms):
    settings = engine.gpaw_keywords(atoms)
    if "gpts" in settings:
        return settings["gpts"]
    h = settings.get("h")
    if h is None:
        # PW: the finest wave of twice the cutoff, pi / (2 sqrt(2 E)) bohr, coarsened by GPAW's 1.4.
        ecut = settings["mode"].get("ecut", 340.0) / Ha
        h = 1.4 * np.pi / np.sqrt(8 * ecut) * Bohr if settings["mode"]["name"] == "pw" else 0.2
    widths = 1 / np.linalg.norm(atoms.cell.reciprocal(), axis=1)
    if settings["mode"]["name"] == "pw" or "pw_pot_calc" in settings.get("experimental", {}):
        return [next_fast_len(int(np.ceil(width / h))) for width in widths]
    return np.maximum(4, 4 * np.rint(widths / h / 4)).astype(int)


def basis_size(engine, atoms) -> int:
    """LCAO functions; in PW mode plane waves at Gamma, V (2 E)^(3/2) / (6 pi^2); in FD mode grid points."""
    mode = engine.gpaw_keywords(atoms)["mode"]
    if mode["name"] == "lcao":
        return engine.counts.basis_functions(atoms)
    if mode["name"] == "fd":
        return grid_points(engine, atoms)
    volume = abs(atoms.cell.volume) / Bohr**3
    return int(volume * (2 * mode.get("ecut", 340.0) / Ha) ** 1.5 / (6 * np.pi**2))


def n_bands(engine, atoms) -> int:
    """GPAW's default number of bands, 1.2 times the occupied ones and four more."""
    given = engine.gpaw_keywords(atoms).get("nbands")
    if isinstance(given, int) and given > 0:
        return given
    return int(np.ceil(1.2 * engine.n_electrons(atoms) / 2)) + 4


def n_kpoints(engine, atoms) -> int:
    """k-points of the whole mesh, halved by time reversal."""
    from gpaw.dft import BZSampling

    return max(1, (len(BZSampling.from_param(engine.gpaw_kpts(atoms)).build(atoms)) + 1) // 2)


def memory_MB(engine, atoms) -> float:
    """Memory in MB of the whole calculation on one process.

    Grids: 258 numbers per point of the coarse grid without spin, mostly on the fine grid with its eight times the
    points, and 50 more for a second spin (the mixer's history); measured with Si5H12 at 0.25 and 0.18 A in LCAO and PW
    mode. LCAO: about 10 matrices of the basis per k-point and spin. PW and FD: the wave functions three times
    (Davidson), and the projections. 125 MB are Python, GPAW and its libraries.
    """
    points = grid_points(engine, atoms)
    spins = 2 if engine.spinpol else 1
    kpoints = n_kpoints(engine, atoms)
    number = 8 if kpoints == 1 else 16
    megabytes = 8e-6 * points * (208 + 50 * spins)
    bands = n_bands(engine, atoms)
    if engine.gpaw_keywords(atoms)["mode"]["name"] == "lcao":
        nao = basis_size(engine, atoms)
        megabytes += number * 1e-6 * nao * (10 * nao + bands) * kpoints * spins
    else:
        waves = basis_size(engine, atoms) * (1 if number == 16 else 0.5)
        megabytes += 16e-6 * waves * bands * kpoints * spins * 3
        megabytes += number * 1e-6 * engine.counts.projectors(atoms) * bands * kpoints * spins
    return float(125.0 + megabytes)


def calibrate(engine, atoms, *, iterations: int = 3) -> dict:
    """Runs at most `iterations` SCF iterations and one force evaluation on the way, and extrapolates.

    Returns:
        Plain JSON: `seconds_setup`, `seconds_per_scf_step`, `seconds_forces`, `estimated_seconds_first` and
        `estimated_seconds_per_evaluation` (with about 10 iterations from atoms and 7 after a small step),
        `n_electrons`, `n_basis_functions`, `memory_MB`. On the number of MPI ranks that run it.
    """
    started = perf_counter()
    calc = engine.unconverged(atoms)
    cycle = calc.iconverge(atoms.copy())
    next(cycle)
    first = perf_counter()
    done = 0
    for _ in cycle:
        done += 1
        if done == max(1, iterations - 1):
            break
    per_step = (perf_counter() - first) / max(done, 1)
    cycle.close()
    before_forces = perf_counter()
    calc.dft.calculate_forces()
    forces = perf_counter() - before_forces
    setup = max(first - started - per_step, 0.0)
    return {
        "seconds_setup": setup,
        "seconds_per_scf_step": per_step,
        "seconds_forces": forces,
        "estimated_seconds_first": setup + _FRESH_ITERATIONS * per_step + forces,
        "estimated_seconds_per_evaluation": _WARM_ITERATIONS * per_step + forces,
        "n_electrons": engine.n_electrons(atoms),
        "n_basis_functions": basis_size(engine, atoms),
        "memory_MB": memory_MB(engine, atoms),
    }
