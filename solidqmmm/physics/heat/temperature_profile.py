"""Temperature against distance from a centre, and standard errors of what is correlated in time.

    T_b = sum_(i in b) m_i v_i^2 / (3 n_b k_B)

over the atoms of a bin of distances; the mean over time weights a sample by its number of atoms, which changes where the
centre moves. Samples of a run follow each other closely. Averaged over blocks of B of the n samples their standard error e_B
grows with B until the blocks are independent; the block taken is the shortest with

    B^3 > 2 n (e_B/e_1)^4,

which balances what is left of the correlation against the scatter of few blocks.

Sources: H. Flyvbjerg and H. G. Petersen, J. Chem. Phys. 91, 461 (1989); R. M. Lee, G. J. Conduit, N. Nemec, P. Lopez Rios
and N. D. Drummond, Phys. Rev. E 83, 066706 (2011).
"""

from __future__ import annotations

import numpy as np
from ase.units import kB

from solidqmmm.physics.heat.thermal_velocities import AMU_A2_PER_PS2


def standard_error(series) -> float | None:
    """Standard error of the mean of a series that is correlated in time; None for fewer than two samples.

    For series that are too short for their correlation it is the largest that blocks show, and still too small.

    Args:
        series: Samples at equal intervals, shape=(n,).
    """
    blocks = np.asarray(series, dtype=float)
    n, size, errors = len(blocks), 1, []
    while len(blocks) > 1:
        errors.append(blocks.std(ddof=1) / np.sqrt(len(blocks)))
        if errors[0] == 0 or size**3 > 2 * n * (errors[-1] / errors[0]) ** 4:
            return float(errors[-1])
        half = len(blocks) // 2
        blocks, size = (blocks[: 2 * half : 2] + blocks[1 : 2 * half : 2]) / 2, 2 * size
    return float(max(errors)) if errors else None


def distances_from(positions, centre, axis: int | None = 2) -> np.ndarray:
    """Distances in angstrom from a line along `axis` through `centre` (a crack front), or from the point for None.

    No periodic images: the crystal is taken to end where its atoms do, or to be periodic along `axis`. shape=(n,).
    """
    d = np.asarray(positions, dtype=float) - np.asarray(centre, dtype=float)
    if axis is not None:
        d = np.delete(d, axis, axis=1)
    return np.linalg.norm(d, axis=1)


def binned_temperature(velocities, masses, distances, edges) -> tuple[np.ndarray, np.ndarray]:
    """Temperature of the atoms in each bin.

    Args:
        velocities: Of the atoms that move, in angstrom/ps, shape=(n, 3).
        masses: In amu, shape=(n,).
        distances: In angstrom, shape=(n,).
        edges: Rising edges of the bins in angstrom, shape=(b + 1,); atoms outside are left out.

    Returns:
        Temperatures in K, nan where a bin is empty, and numbers of atoms, shape=(b,) each.
    """
    energy = 0.5 * AMU_A2_PER_PS2 * np.asarray(masses) * (np.asarray(velocities) ** 2).sum(axis=1)
    atoms, _ = np.histogram(distances, edges)
    total, _ = np.histogram(distances, edges, weights=energy)
    with np.errstate(invalid="ignore"):
        return total / (1.5 * kB * atoms), atoms


def mean_profile(temperatures, atoms, edges) -> list[dict]:
    """The mean over samples, of every bin that had atoms, the nearest first.

    Args:
        temperatures: Of samples at equal intervals in K, nan where a bin is empty, shape=(k, b).
        atoms: Numbers of atoms, shape=(k, b).
        edges: Edges of the bins in angstrom, shape=(b + 1,).

    Returns:
        Rows `{"distance_A", "T_K", "stderr_K"}`, the distance being the middle of the bin; `stderr_K` is None where a bin
        had atoms in one sample only.
    """
    rows = []
    for T, n, low, high in zip(
        np.transpose(temperatures), np.transpose(atoms), edges[:-1], edges[1:], strict=True
    ):
        there = n > 0
        if there.any():
            T, n = T[there], n[there]
            weighted = T * n / n.mean()
            mean = float(weighted.mean())
            # Of a ratio of means: the samples' deviations from it, each with its weight.
            error = standard_error(weighted - mean * n / n.mean())
            rows.append({"distance_A": float(low + high) / 2, "T_K": mean, "stderr_K": error})
    return rows
