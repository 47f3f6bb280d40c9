"""Figures of a relaxation: displacements against distance, forces against quantum calls, the defect's
neighbours."""

from __future__ import annotations

import numpy as np
from matplotlib.ticker import MaxNLocator

from solidqmmm.plotting.style import COLOURS, GUIDE, INK, ROLES, SINGLE_COLUMN, axes_for, log_y, mixed, style

SMALLEST_SHOWN = 1e-6  # angstrom; atoms that moved less are drawn here


def plot_displacements(result, ax=None):
    """How far each atom moved against its distance from the defect, on logarithmic axes.

    The dashed line falls as r^-2, as displacements do in an elastic continuum around a point defect (J. D.
    Eshelby, Solid State Phys. 3, 79 (1956)); its height is the median of |u| r^2 over the outer half of the
    atoms before the cell's boundary bends them. Atoms that moved less than 1e-6 A are drawn there.

    Args:
        result: A DefectRelaxationResult.
        ax: Axes to draw into; a new figure without them.

    Returns:
        The Axes.
    """
    distance, norm, label = (
        result.displacement_distance_A,
        result.displacement_norm_A,
        result.displacement_label,
    )
    with style():
        ax = axes_for(ax)
        for role in (role for role in reversed(ROLES) if (label == role).any()):
            of_role = label == role
            ax.plot(
                distance[of_role],
                np.maximum(norm[of_role], SMALLEST_SHOWN),
                ls="none",
                marker="o",
                ms=2.2 if role in ("host", "frozen") else 4.2,
                mfc=COLOURS[role],
                mec=mixed(COLOURS[role], "black", 0.4) if role in ("core", "buffer") else "none",
                mew=0.4,
                label=role,
                zorder=3 - ROLES.index(role) / 4,
                rasterized=of_role.sum() > 2000,  # else the PDF of a million atoms has a million circles
            )
        if len(distance):
            ax.set_xscale("log")
            ax.set_yscale("log")
        _distance_ticks(ax, distance)
        _elastic_guide(ax, distance, norm)
        ax.set_xlabel("distance from the defect (Å)")
        ax.set_ylabel("displacement (Å)")
        handles, names = ax.get_legend_handles_labels()
        if handles:
            ax.legend(handles[::-1], names[::-1], loc="best")
    return ax


def _distance_ticks(ax, distance):
    """Plain numbers at 1, 2, 5, 10, ... on the logarithmic axis of distances."""
    seen = distance[distance > 0]
    if not len(seen):
        return
    low, high = 0.85 * seen.min(), 1.15 * seen.max()
    ticks = [m * 10.0**k for k in range(-1, 5) for m in (1, 2, 5) if low <= m * 10.0**k <= high]
    ax.set_xlim(low, high)
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_xticks([], minor=True)


def _elastic_guide(ax, distance, norm):
    moved = (norm > 10 * SMALLEST_SHOWN) & (distance > 0)
    if moved.sum() < 20:
        return
    # The field of the periodic images cancels the defect's own at the boundary, which starts about where
    # atoms get fewer.
    near, far = np.quantile(distance[moved], [0.0, 0.5])
    fit = moved & (distance > 0.5 * far) & (distance <= far)
    if not fit.any():
        return
    amplitude = np.median(norm[fit] * distance[fit] ** 2)
    r = np.array([max(near, 0.25 * far), 1.3 * far])
    ax.plot(
        r, amplitude / r**2, ls=(0, (4, 2)), lw=1.0, color=INK, zorder=4, label=r"$\propto \mathit{r}^{-2}$"
    )


def plot_convergence(result, ax=None):
    """The largest force against quantum calls, with the threshold; below it the energies, where there are
    any.

    Marks are coloured by where the largest force is (core, buffer or host). In axes of the caller's the
    change of energy is written instead of drawn.

    Args:
        result: A DefectRelaxationResult.
        ax: Axes to draw the forces into; a new figure without them, with a second panel for the energies.

    Returns:
        The Axes of the forces.
    """
    trace = result.trace
    calls = np.arange(1, len(trace) + 1)
    energies = trace.energy_eV is not None and np.isfinite(trace.energy_eV).sum() > 1
    with style():
        below = None
        if ax is None and energies:
            ax, below = axes_for(
                None,
                nrows=2,
                sharex=True,
                figsize=(SINGLE_COLUMN, 3.2),
                gridspec_kw={"height_ratios": (3, 2)},
            )
        ax = axes_for(ax)
        ax.plot(calls, trace.max_force_eV_per_A, "-", color=GUIDE, lw=0.9, zorder=1)
        where = np.array(trace.max_force_region)
        for role in (role for role in ROLES if (where == role).any()):
            ax.plot(
                calls[where == role],
                trace.max_force_eV_per_A[where == role],
                "o",
                mfc=COLOURS[role],
                mec=mixed(COLOURS[role], "black", 0.4),
                mew=0.5,
                label=f"in the {role}",
            )
        log_y(ax, trace.max_force_eV_per_A)
        _threshold(ax, result.fmax_eV_per_A, f"{result.fmax_eV_per_A:g} eV/Å")
        ax.set_ylabel("largest force (eV/Å)")
        if len(trace):
            ax.legend(loc="upper right")
        lowest = ax if below is None else below
        if below is not None:
            _energies(below, calls, trace.energy_eV)
            ax.figure.align_ylabels([ax, below])
        else:
            _say_energies(ax, trace, energies, result.energy_missing_reason)
        lowest.set_xlabel("quantum calls")
        lowest.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        lowest.set_xlim(0.5, max(len(trace), 2) + 0.5)
    return ax


def _threshold(ax, value, text):
    """A dashed line with its value written at its left end."""
    ax.axhline(value, color=GUIDE, ls=(0, (4, 2)), lw=0.9, zorder=0)
    ax.annotate(
        text,
        (0, value),
        (2, 2),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        color=GUIDE,
        size="small",
        va="bottom",
    )


def _energies(ax, calls, energy):
    last = energy[np.isfinite(energy)][-1]
    ax.plot(calls, energy - last, "o-", color=INK, ms=3.2, lw=0.9)
    ax.set_ylabel("energy − last (eV)")


def _say_energies(ax, trace, energies, reason):
    if energies:
        known = trace.energy_eV[np.isfinite(trace.energy_eV)]
        text = f"energy {known[-1] - known[0]:+.3f} eV"
    elif reason:
        text = f"no energy: {reason}"
    else:
        return
    ax.set_title(text, size="small", color=GUIDE)


def plot_neighbours(result, ax=None):
    """How the defect's neighbours moved, and how far apart those of the first shell came to be.

    Left: outward displacement of each neighbour against its distance before. Right: distances between first-shell atoms,
    before (open) and after (full); four long and two short ones around a vacancy are a Jahn-Teller pairing.

    Args:
        result: A DefectRelaxationResult.
        ax: Axes to draw the displacements into; a new figure without them, with the pair distances in a
            second panel.

    Returns:
        The Axes of the displacements.
    """
    neighbours = sorted(result.neighbour_displacements_A, key=lambda atom: (atom["shell"], atom["radial_A"]))
    pairs = result.neighbour_pair_distances_A
    with style():
        beside = None
        if ax is None and len(pairs):
            ax, beside = axes_for(
                None, ncols=2, figsize=(SINGLE_COLUMN, 2.3), gridspec_kw={"width_ratios": (1.5, 1)}
            )
        ax = axes_for(ax)
        shells = [atom["shell"] for atom in neighbours]
        first, starts = np.unique(shells, return_index=True)
        place = (
            np.arange(len(neighbours)) + np.searchsorted(first, shells) * 1.5 if len(first) else np.empty(0)
        )
        colours = [COLOURS["core"], COLOURS["buffer"], COLOURS["host"], COLOURS["frozen"]]
        for k, shell in enumerate(first):
            members = [i for i, s in enumerate(shells) if s == shell]
            radial = [neighbours[i]["radial_A"] for i in members]
            colour = colours[min(k, 3)]
            edge = mixed(colour, "black", 0.4)
            ax.vlines(place[members], 0, radial, color=edge, lw=0.9, zorder=2)
            ax.plot(place[members], radial, "o", mfc=colour, mec=edge, mew=0.5, ms=4, zorder=3)
        ax.axhline(0, color=GUIDE, lw=0.7, zorder=1)
        centres = [place[[i for i, s in enumerate(shells) if s == shell]].mean() for shell in first]
        distances = [neighbours[i]["distance_before_A"] for i in starts]
        ax.set_xticks(centres, [f"{d:.2f}" for d in distances])
        ax.tick_params(axis="x", length=0)
        ax.margins(x=0.06, y=0.12)
        ax.set_xlabel("neighbours at (Å)")
        ax.set_ylabel("outward displacement (Å)")
        if beside is not None:
            _pair_distances(beside, result.neighbour_pair_distances_before_A, pairs)
    return ax


def _pair_distances(ax, before, after):
    order = np.argsort(after)
    rank = np.arange(1, len(after) + 1)
    if len(before):
        ax.vlines(rank, before[order], after[order], color=GUIDE, lw=0.7, zorder=1)
        ax.plot(rank, before[order], "o", mfc="white", mec=GUIDE, mew=0.7, ms=3.6, label="before")
    edge = mixed(COLOURS["core"], "black", 0.4)
    ax.plot(rank, after[order], "o", mfc=COLOURS["core"], mec=edge, mew=0.5, ms=4, label="after")
    ax.set_xlabel("pair in shell 1")
    ax.set_ylabel("pair distance (Å)")
    ax.set_xticks(rank if len(rank) <= 6 else rank[:: -(-len(rank) // 4)])
    ax.margins(x=0.12, y=0.15)
    if len(before):
        ax.legend(
            loc="lower right", bbox_to_anchor=(1.05, 0.98), ncols=2, handlelength=0.7, columnspacing=0.8
        )
