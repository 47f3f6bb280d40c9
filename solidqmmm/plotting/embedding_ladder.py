"""Figures of an embedding ladder: energies, what each term contributes, induced dipoles against distance."""

from __future__ import annotations

import re

from solidqmmm.plotting.style import GUIDE, INK, SINGLE_COLUMN, axes_for, mixed, say, style

# Okabe and Ito's colours, by embedding.
COLOURS = {"mechanical": "#9A9A9A", "electrostatic": "#0072B2", "polarizable": "#D55E00"}
MARKERS = {"mechanical": "s", "electrostatic": "o", "polarizable": "D"}
TERMS = {
    "mm": "host",
    "qm_mm_short_range": "host–cluster, short range",
    "qm": "cluster",
    "qm_mm_electrostatic": "host–cluster, electrostatic",
    "polarization": "polarization",
    "images": "images",
}
TERM_COLOURS = ("#9A9A9A", "#56B4E9", "#D55E00", "#0072B2", "#009E73", "#CC79A7")
_ELEMENTS = "o^sDv<>ph"  # marks of the elements, in the order in which they come
_SMALLEST_TERM = 5e-4  # eV; smaller ones are drawn nowhere


def plot_energies(result, ax=None):
    """Energy of the defect against the size of the cluster, one line for each embedding; with one size, one point for each.

    Args:
        result: An EmbeddingLadderResult.
        ax: Axes to draw into; a new figure without them.

    Returns:
        The Axes.
    """
    energies = result.energies_eV
    clusters = _clusters(result)
    with style():
        ax = axes_for(ax)
        embeddings = list(dict.fromkeys(rung.embedding for rung in result.rungs))
        for embedding in embeddings:
            rows = [k for k, rung in enumerate(result.rungs) if rung.embedding == embedding]
            if len(clusters) > 1:
                place = [clusters.index(_cluster(result.rungs[k])) for k in rows]
            else:
                place = [embeddings.index(embedding)]
            ax.plot(
                place, energies[rows], "-", marker=MARKERS[embedding], color=COLOURS[embedding], label=embedding,
                mec=mixed(COLOURS[embedding], "black", 0.4), mew=0.5, ms=5, lw=1.0, clip_on=False, zorder=3,
            )  # fmt: skip
            for k, x in zip(rows, place):
                if not result.rungs[k].converged:
                    ax.annotate(
                        "not converged", (x, energies[k]), (5, 3), textcoords="offset points", color=GUIDE, size="small"
                    )
        if len(clusters) > 1:
            ax.set_xticks(range(len(clusters)), [_typeset(formula) for formula, _ in clusters])
            ax.set_xlabel("cluster")
            ax.legend(loc="best")
        else:
            ax.set_xticks(range(len(embeddings)), embeddings)
            ax.set_title(f"cluster {_typeset(clusters[0][0])}", color=INK)
            low, high = energies.min(), energies.max()
            for x, energy in enumerate(energies):
                ax.annotate(
                    f"{energy:.2f}", (x, energy), (0, 7), textcoords="offset points", ha="center", size="small", color=INK
                )
            ax.set_ylim(low - 0.15 * max(high - low, 0.1), high + 0.25 * max(high - low, 0.1))
        ax.set_xlim(-0.4, max(len(clusters), len(embeddings) if len(clusters) == 1 else 0) - 0.6)
        ax.set_ylabel(_energy_label(result))
    return ax


def plot_terms(result, ax=None):
    """What each term contributes to the step from the lowest rung to the others, for the largest cluster.

    Bars to the right raise the energy of the defect, those to the left lower it; the number is their sum.

    Args:
        result: An EmbeddingLadderResult.
        ax: Axes to draw into; a new figure without them.

    Returns:
        The Axes.
    """
    last = _clusters(result)[-1]
    rungs = [rung for rung in result.rungs if _cluster(rung) == last]
    lowest = rungs[0].term_differences_eV
    with style():
        if len(rungs) < 2:
            ax = axes_for(ax)
            say(ax, "one embedding alone: there is no step to take apart")
            return ax
        ax = axes_for(ax, figsize=(SINGLE_COLUMN, 0.95 + 0.75 * (len(rungs) - 1)))
        drawn = {}
        for row, rung in enumerate(rungs[1:]):
            steps = {name: value - lowest.get(name, 0.0) for name, value in rung.term_differences_eV.items()}
            shown = [name for name in TERMS if abs(steps.get(name, 0.0)) > _SMALLEST_TERM]
            height = 0.8 / max(len(shown), 1)
            for k, name in enumerate(shown):
                colour = TERM_COLOURS[list(TERMS).index(name)]
                drawn[name] = ax.barh(
                    row - 0.4 + (k + 0.5) * height, steps[name], height=0.86 * height, color=colour, zorder=2,
                    label=TERMS[name],
                )  # fmt: skip
            total = sum(steps.values())
            ax.vlines(total, row - 0.42, row + 0.42, color=INK, lw=1.4, zorder=3)
            ax.annotate(
                f"{round(total, 2) + 0.0:+.2f} eV".replace("-", "−"), (1.0, row), (-2, 0),
                xycoords=("axes fraction", "data"), textcoords="offset points", ha="right", va="center", color=INK,
                size="small",
            )  # fmt: skip
        ax.axvline(0, color=GUIDE, lw=0.7, zorder=1)
        ax.set_yticks(range(len(rungs) - 1), [rung.embedding for rung in rungs[1:]])
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(len(rungs) - 1.5, -0.5)
        low, high = ax.get_xlim()
        ax.set_xlim(low, high + 0.28 * (high - low))
        ax.set_xlabel(f"contribution to E − E({rungs[0].embedding}) (eV)")
        ax.set_title(f"cluster {_typeset(last[0])}", color=INK)
        bars = [drawn[name] for name in TERMS if name in drawn]
        ax.figure.legend(handles=bars, loc="outside lower center", ncols=2)
    return ax


def plot_dipoles(result, ax=None):
    """Induced dipoles of ions against their distance from the defect, on a logarithmic axis: element, and cluster inside.

    Args:
        result: An EmbeddingLadderResult.
        ax: Axes to draw into; a new figure without them.

    Returns:
        The Axes.
    """
    rungs = [rung for rung in result.rungs if rung.largest_dipole_e_A]
    with style():
        new, ax = ax is None, axes_for(ax)
        if not rungs:
            say(ax, "no induced dipoles in this ladder")
            return ax
        elements = list(dict.fromkeys(symbol for rung in rungs for symbol in rung.dipole_symbol))
        floor = 1e-4 * max(rung.largest_dipole_e_A for rung in rungs)
        for k, rung in enumerate(rungs):
            colour = mixed(COLOURS["polarizable"], "#0072B2", k / max(len(rungs) - 1, 1))
            size = 5.5 - 3.0 * k / max(len(rungs) - 1, 1)  # equal ones lie inside each other
            for element, marker in zip(elements, _ELEMENTS):
                seen = (rung.dipole_norm_e_A > floor) & (rung.dipole_symbol == element)
                ax.plot(
                    rung.dipole_distance_A[seen], rung.dipole_norm_e_A[seen], ls="none", marker=marker, ms=size,
                    mfc="none", mec=colour, mew=0.9, label=f"{element}, {_typeset(rung.formula_qm)}",
                    rasterized=seen.sum() > 2000,
                )  # fmt: skip
        ax.set_yscale("log")
        ax.set_xlabel("distance from the defect (Å)")
        ax.set_ylabel("induced dipole (e Å)")
        if new and len(rungs) > 1:
            ax.figure.legend(loc="outside upper center", ncols=min(len(rungs), 3))
        else:
            ax.legend(loc="best")
    return ax


def _cluster(rung) -> tuple[str, int]:
    return rung.formula_qm, rung.n_atoms_qm


def _clusters(result) -> list[tuple[str, int]]:
    return list(dict.fromkeys(_cluster(rung) for rung in result.rungs))


def _energy_label(result) -> str:
    known = result.formation_energy_missing_reason is None
    return "formation energy (eV)" if known else "E(defect) − E(perfect) (eV)"


def _typeset(formula: str) -> str:
    """Mg14O12 with its numbers as subscripts."""
    return re.sub(r"(\d+)", r"$_{\1}$", formula)
