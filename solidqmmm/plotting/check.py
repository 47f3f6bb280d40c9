"""The figure of the trust report: patch test, buffer series, mismatch and energy drift, each with its
threshold."""

from __future__ import annotations

import numpy as np
from matplotlib.ticker import MaxNLocator

from solidqmmm.plotting.style import (
    ACCENT,
    COLOURS,
    DOUBLE_COLUMN,
    FAIL,
    GUIDE,
    INK,
    PASS,
    ROLES,
    log_y,
    mixed,
    say,
    style,
)

DASHES = (0, (4, 2))
CENTRED = {"ha": "center", "va": "bottom", "size": "small", "color": GUIDE}


def plot_check(result):
    """Draws a BoundaryCheckResult.

    Each panel shows one part of the report and ends its title with the verdict of the report's tests on it; a part that
    was not computed says why in words.

    Args:
        result: The BoundaryCheckResult.

    Returns:
        The Figure.
    """
    import matplotlib.pyplot as plt

    parts = (
        ("patch test", "patch_test", "patch", _patch_test),
        ("force error on the core", "buffer_series", "core-force", _buffer_series),
        ("mismatch (host → engine)", "mismatch", "mismatch", _mismatch),
        ("energy drift", "energy_drift", "drift", _energy_drift),
    )
    with style():
        figure, axes = plt.subplots(2, 2, figsize=(DOUBLE_COLUMN, 4.8))
        figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08, wspace=0.05, hspace=0.05)
        for letter, ax, (title, name, word, draw) in zip("abcd", axes.flat, parts):
            part, tests = getattr(result, name), [test for test in result.tests if word in test["name"]]
            if part is None:
                reason = getattr(result, f"{name}_missing_reason")
                say(ax, reason if reason.startswith("not computed") else f"not computed: {reason}")
            elif name == "mismatch":
                draw(ax, part, tests, result.mismatch_threshold_percent)
            else:
                draw(ax, part)
            _title(ax, letter, title, _verdict(tests))
    return figure


def _verdict(tests) -> bool | None:
    """Whether all tests that apply were passed; None where none applies."""
    verdicts = [test["passed"] for test in tests if test["passed"] is not None]
    return all(verdicts) if verdicts else None


def _title(ax, letter, title, passed):
    ax.set_title(f"({letter}) {title}", loc="left", color=INK)
    if passed is not None:
        ax.set_title(
            "pass" if passed else "fail", loc="right", color=PASS if passed else FAIL, fontweight="bold"
        )


def _limit(ax, value):
    ax.axhline(value, color=GUIDE, ls=DASHES, lw=0.9, zorder=1)


# --- panels -------------------------------------------------------------------------------------------------


def _patch_test(ax, patch):
    """RMS over each label and the largest of all, without strain (full) and with it (hatched)."""
    unstrained, strained = patch.rms_unstrained_eV_per_A, patch.rms_strained_eV_per_A
    roles = [role for role in ROLES if role in unstrained or role in strained]
    groups = [*roles, "max"]
    cases = [("no strain", [*(unstrained.get(role) for role in roles), patch.max_unstrained_eV_per_A], "")]
    if patch.max_strained_eV_per_A is not None:
        values = [*(strained.get(role) for role in roles), patch.max_strained_eV_per_A]
        cases.append((f"strain {_largest_component(patch.strain)}", values, "/////"))
    width = 0.8 / len(cases)
    for k, (label, values, hatch) in enumerate(cases):
        for place, (group, value) in enumerate(zip(groups, values)):
            if value is None:
                continue
            colour = COLOURS.get(group, INK)
            ax.bar(
                place + (k - (len(cases) - 1) / 2) * width,
                max(value, 1e-12),
                0.92 * width,
                fc=mixed(colour, "white", 0.0 if not hatch else 0.55),
                ec=mixed(colour, "black", 0.35) if group != "max" else INK,
                lw=0.6,
                hatch=hatch,
                zorder=2,
            )
        ax.bar(0, np.nan, fc="#DDDDDD", ec=INK, lw=0.6, hatch=hatch, label=label)
    shown = np.array([v for _, values, _ in cases for v in values if v is not None and v > 0])
    limit = patch.threshold_eV_per_A
    if len(shown):
        ax.set_yscale("log")
        top = max(shown.max(), limit or 0.0)
        bottom = np.clip(min(shown.min(), limit or np.inf) / 3, 1e-6 * top, 1e-2 * top)
        ax.set_ylim(bottom, top * (top / bottom) ** 0.3)  # room for the legend above the threshold
        for bar in ax.patches:
            if bar.get_height() < bottom:
                ax.annotate(
                    "0",
                    (bar.get_x() + bar.get_width() / 2, bottom),
                    (0, 2),
                    textcoords="offset points",
                    **CENTRED,
                )
    ax.set_xticks(range(len(groups)), [f"rms {group}" if group != "max" else "largest" for group in groups])
    ax.tick_params(axis="x", length=0)
    ax.set_ylabel("spurious force (eV/Å)")
    ax.legend(loc="upper left", ncols=2)
    if limit is not None:
        _limit(ax, limit)


def _largest_component(strain) -> str:
    if strain is None or not np.any(strain):
        return ""
    i, j = np.unravel_index(np.argmax(np.abs(strain)), (3, 3))
    return rf"$\epsilon_{{{'xyz'[i]}{'xyz'[j]}}}$ = {100 * strain[i, j]:g} %"


def _buffer_series(ax, series):
    """RMS and largest error against width; the study's own width is marked."""
    core = COLOURS["core"]
    ax.plot(
        series.width,
        series.max_core_error_eV_per_A,
        "s--",
        color=mixed(core, "white", 0.35),
        ms=3.6,
        label="largest",
    )
    ax.plot(series.width, series.rms_core_error_eV_per_A, "o-", color=core, label="rms")
    log_y(ax, series.max_core_error_eV_per_A)
    hops = series.width_unit == "hops"
    ax.set_xlabel("buffer width (hops)" if hops else "buffer width (Å)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(series.width) == 1:
        ax.set_xlim(series.width[0] - 1, series.width[0] + 1)
        ax.set_xticks(series.width)
    ax.set_ylabel("force error (eV/Å)")
    if series.study_width is not None:
        ax.axvline(series.study_width, color=COLOURS["buffer"], lw=5, alpha=0.35, zorder=0)
        ax.annotate(
            "this study",
            (series.study_width, 0.98),
            (5, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="top",
            color=mixed(COLOURS["buffer"], "black", 0.45),
            size="small",
        )
    name = f"{series.engine} as a stand-in" if series.stand_in else series.engine
    ax.legend(loc="lower left", title=name or None, title_fontsize="small", alignment="left")
    if series.threshold_eV_per_A is not None:
        _limit(ax, series.threshold_eV_per_A)
        if ax.get_yscale() == "log":  # what is zero but for rounding must not flatten the rest
            ax.set_ylim(bottom=max(ax.get_ylim()[0], 1e-4 * series.threshold_eV_per_A))


def _mismatch(ax, match, tests, threshold):
    """Difference of each constant in percent, with the two values in words.

    Where the study matches the two descriptions, what is left is drawn over what there was (open marks).
    """
    pairs = match.pairs()
    labels = list(pairs)[::-1]
    limits = {"lattice": None, "elastic": threshold}
    limits |= {kind: test["threshold"] for test in tests for kind in limits if kind in test["name"]}
    matched = any("lattice" in test["name"] and test["passed"] is None for test in tests)
    left = match.percent_matched() if matched else match.percent
    reach = max(
        map(
            abs, (*match.percent.values(), *left.values(), *(limit or 0.0 for limit in limits.values()), 1e-3)
        )
    )
    ax.axvline(0, color=GUIDE, lw=0.7, zorder=1)
    for row, label in enumerate(labels):
        host, engine = pairs[label]
        lattice = label in "abc"
        percent, limit = match.percent.get(label, np.nan), limits["lattice" if lattice else "elastic"]
        if limit is not None:
            ax.fill_betweenx(
                [row - 0.5, row + 0.5], -limit, limit, color=mixed(PASS, "white", 0.82), lw=0, zorder=0
            )
        if matched:
            ax.plot(percent, row, "o", mfc="white", mec=GUIDE, mew=0.7, zorder=2)
        judged = left.get(label, np.nan)
        colour = ACCENT if limit is None else PASS if abs(judged) <= limit else FAIL
        ax.hlines(row, 0, judged, color=colour, lw=1.1, zorder=2)
        ax.plot(judged, row, "o", color=colour, zorder=3)
        side = -1 if (judged or percent) > 0 else 1  # where the row's own line is not
        ax.annotate(
            f"{host:.4g} → {engine:.4g} {'Å' if lattice else 'GPa'}",
            (min(0.0, judged) if side < 0 else max(0.0, judged), row),
            (5 * side, 0),
            textcoords="offset points",
            ha="left" if side > 0 else "right",
            va="center",
            size="small",
        )
    ax.set_yticks(range(len(labels)), [_with_subscript(label) for label in labels])
    ax.set_ylim(-0.6, len(labels) - 0.4)
    ax.set_xlim(-1.15 * reach, 1.15 * reach)
    ax.set_xlabel("engine − host (%); open: before matching" if matched else "engine − host (%)")


def _with_subscript(label):
    return f"$C_{{{label[1:]}}}$" if label.startswith("C") else f"${label}$"


def _energy_drift(ax, drift):
    """Total energy since the start, its straight line, and the cone that the threshold allows."""
    time = drift.times_fs
    change = drift.change_meV_per_atom
    ax.plot(time, change, color=ACCENT, lw=1.0, zorder=2)
    slope, limit = drift.drift_meV_per_atom_per_ps, drift.threshold_meV_per_atom_per_ps
    elapsed = (time - time[0]) / 1000
    if slope is not None:
        ax.plot(
            time,
            change.mean() + slope * (elapsed - elapsed.mean()),
            color=INK,
            ls=DASHES,
            lw=1.0,
            zorder=3,
            label=f"{slope:+.2g} meV/atom/ps".replace("-", "−"),
        )
        ax.legend(loc="upper left")
    if limit is not None:
        ax.fill_between(
            time, -limit * elapsed, limit * elapsed, color=mixed(PASS, "white", 0.82), lw=0, zorder=0
        )
    ax.set_xlabel("time (fs)")
    ax.set_ylabel("total energy − first (meV/atom)")
    ax.margins(x=0)
