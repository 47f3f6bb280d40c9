"""Formation energies of charged defects against the Fermi level."""

from __future__ import annotations

import numpy as np
from matplotlib import patheffects

from solidqmmm.physics.charged_defects.charge_transitions import formation_lines, stable_states
from solidqmmm.plotting.style import GUIDE, INK, SINGLE_COLUMN, axes_for, mixed, style
from solidqmmm.results.charge_states import signed

# Okabe and Ito's, by defect.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
BAND = mixed(GUIDE, "white", 0.82)
HALO = [patheffects.withStroke(linewidth=2.0, foreground="white")]


def plot_charge_states(result, ax=None, *, width=SINGLE_COLUMN):
    """Formation energy of each defect's stable charge against the Fermi level, with its transition levels.

    Full lines are the lower envelope, pale ones every charge state; points are the thermodynamic transition levels in the
    gap, with their standard errors where these are known. The bands are shaded.

    Args:
        result: A ChargeStatesResult.
        ax: Axes to draw into; a new figure without them.
        width: Width of a new figure in inches.

    Returns:
        The Axes.
    """
    gap = result.band_gap_eV
    margin = 0.06 * gap
    shown = []
    with style():
        ax = axes_for(ax, figsize=(width, 2.9))
        for edge in ((-margin, 0), (gap, gap + margin)):
            ax.axvspan(*edge, color=BAND, lw=0, zorder=0, gid="band")
        fermi = np.linspace(0, gap, 201)
        lowest = {name: _lines(result, name, fermi).min(axis=0) for name in result.defects}
        for name, colour in zip(result.defects, COLOURS * (1 + len(result.defects) // len(COLOURS))):
            own = [s for s in result.states if s["defect"] == name]
            charges = [s["charge"] for s in own]
            energies = [s["formation_energy_eV"] for s in own]
            for line in _lines(result, name, fermi):
                ax.plot(fermi, line, "-", color=mixed(colour, "white", 0.65), lw=0.7, zorder=2, gid="state")
            segments = [(i, max(begin, 0), min(end, gap)) for i, begin, end in stable_states(charges, energies)]
            for k, (i, begin, end) in enumerate([s for s in segments if s[2] > s[1]]):
                x = np.array([begin, end])
                y = energies[i] + charges[i] * x
                shown.extend(y)
                label = _typeset(name) if k == 0 else None
                ax.plot(x, y, "-", color=colour, lw=1.6, zorder=4, label=label, gid="envelope")
                others = [line for other, line in lowest.items() if other != name]
                at = _freest(x, y, fermi, others)
                ax.annotate(
                    signed(charges[i]).replace("-", "−"),
                    (at, energies[i] + charges[i] * at),
                    (0, 3),
                    textcoords="offset points",
                    ha="right" if charges[i] > 0 else "left" if charges[i] < 0 else "center",
                    color=mixed(colour, "black", 0.25),
                    path_effects=HALO,
                    zorder=6,
                )
            for level in result.transitions:
                if level["defect"] == name and level["thermodynamic"] and level["in_gap"]:
                    i = charges.index(level["from"])
                    y = energies[i] + charges[i] * level["level_eV"]
                    error = level["stderr_eV"]
                    bar = {"xerr": 2 * error} if error else {}
                    ax.errorbar([level["level_eV"]], [y], fmt="o", color=colour, ms=4, capsize=2, zorder=5, **bar)
        low, high = min(shown), max(shown)
        room = 0.12 * max(high - low, 0.1)
        ax.set_ylim(low - room, high + 1.5 * room)
        ax.set_xlim(-margin, gap + margin)
        ax.set_xlabel("Fermi level from the valence-band maximum (eV)")
        ax.set_ylabel("formation energy (eV)", color=INK)
        ax.legend(loc="best")
    return ax


def _lines(result, name, fermi):
    own = [s for s in result.states if s["defect"] == name]
    return formation_lines([s["charge"] for s in own], [s["formation_energy_eV"] for s in own], fermi)


def _freest(x, y, fermi, others) -> float:
    """Where along a segment its label is furthest from the other defects' lines; the middle where there are none."""
    at = x[0] + (x[1] - x[0]) * np.array([0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8])
    if not others:
        return float(at[0])
    height = y[0] + (y[1] - y[0]) * (at - x[0]) / max(x[1] - x[0], 1e-9)
    distance = np.min([np.abs(np.interp(at, fermi, line) - height) for line in others], axis=0)
    return float(at[np.argmax(distance > 0.5 * distance.max())])


def _typeset(name: str) -> str:
    """'V_O' with its site as an index."""
    head, _, site = name.partition("_")
    return f"{head}$_{{\\mathrm{{{site}}}}}$" if site and site.isalnum() else name
