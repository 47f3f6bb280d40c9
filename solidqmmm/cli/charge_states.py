"""`solidqmmm charge-states`: formation energies against the Fermi level."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from solidqmmm.cli import kept, show
from solidqmmm.errors import StudyError


def charge_states(
    states: Annotated[Path, typer.Argument(metavar="STATES.csv", help="Charge states of defects.")],
    gap: Annotated[
        float | None, typer.Option("--gap", metavar="EV", help="Band gap, eV; by default what the runs tell.")
    ] = None,
    vbm: Annotated[
        float | None,
        typer.Option("--vbm", metavar="EV", help="Valence-band maximum in their reference; by default the runs', or 0."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Folder; by default the table's name.")
    ] = None,
    verbose: Annotated[int, typer.Option("--verbose", "-v", count=True, help="-v: more words; -vv: tracebacks too.")] = 0,
):
    """Formation energies and transition levels of defects in their charge states, and the figure against the Fermi level.

    The table has the columns defect,charge and energy_eV (E[X^q] - E[bulk] in the infinite crystal) or run (the folder of an
    extrapolation, which knows the band edges if GPAW alone computed it); error_eV and chemical_eV (minus the sum of n_i mu_i
    over added atoms) are optional.

    Example: solidqmmm charge-states states.csv --gap 7.8 --vbm 3.1 --out vacancy
    """
    show.set_verbosity(verbose)
    begin = time.perf_counter()
    from solidqmmm.plotting.charge_states import plot_charge_states
    from solidqmmm.procedures.charged_defects.charge_states import charge_states as computed
    from solidqmmm.procedures.charged_defects.charge_states import read_states

    try:
        result = computed(read_states(states), band_gap=gap, vbm=vbm)
    except ValueError as error:
        raise StudyError(f"{states}: {error}") from None
    written = kept.keep(
        kept.folder_for(states, out),
        result,
        {"formation_energy": plot_charge_states(result)},
        begin=begin,
        checksums=kept.checksums(states),
        settings={"gap": result.band_gap_eV, "vbm": result.vbm_eV},
    )
    show.table(result.summary())
    show.paths(written)
