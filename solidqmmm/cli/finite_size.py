"""`solidqmmm finite-size`: energies that the user has, extrapolated to the infinite crystal."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from solidqmmm.cli import kept, show
from solidqmmm.errors import StudyError


def finite_size(
    energies: Annotated[Path, typer.Argument(metavar="ENERGIES.csv", help="Energies by cell, CSV or JSON.")],
    charge: Annotated[float, typer.Option("--charge", "-q", metavar="Q", help="Charge of the defect, e.")],
    dielectric: Annotated[
        str, typer.Option("--dielectric", "-e", metavar="EPS", help="One number, three (diagonal) or nine between commas.")
    ],
    structure: Annotated[
        Path | None,
        typer.Option("--structure", metavar="FILE", help="The crystal, for rows without length_A and structure."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Folder; by default the table's name.")
    ] = None,
    terms: Annotated[
        str, typer.Option("--terms", metavar="1,3", help="Powers of 1/L in the fit; 'auto' lets the data choose.")
    ] = "auto",
    free_A: Annotated[
        bool, typer.Option("--free-a/--fixed-a", help="With --terms: A fitted, or fixed to its prediction.")
    ] = False,
    second_moment: Annotated[
        float | None,
        typer.Option("--second-moment", metavar="Q2", help="Second radial moment of the defect's charge, e A^2."),
    ] = None,
    verbose: Annotated[int, typer.Option("--verbose", "-v", count=True, help="-v: more words; -vv: tracebacks too.")] = 0,
):
    """Extrapolate a charged defect's energies in cells of several sizes to the infinite crystal.

    The table has the columns label,n_atoms,energy_eV (of total energies also bulk_energy_eV), and length_A (cubes) or
    structure (a file for each row); error_eV, charge and potentials are optional.

    Example: solidqmmm finite-size energies.csv --charge 2 --dielectric 9.8 --out vacancy
    """
    show.set_verbosity(verbose)
    begin = time.perf_counter()
    from solidqmmm.plotting.charged_defect import figures_of
    from solidqmmm.procedures.charged_defects.size_series import extrapolate_table
    from solidqmmm.system.energy_table import read_energies

    table = read_energies(energies, structure=structure)
    try:
        fit_as = _fit(terms, free_A)
        result = extrapolate_table(table, charge, dielectric, fit_as=fit_as, second_moment=second_moment)
    except ValueError as error:
        raise StudyError(f"{energies} cannot be extrapolated: {error}") from None
    written = kept.keep(
        kept.folder_for(energies, out),
        result,
        figures_of(result),
        begin=begin,
        checksums=table.checksums() | kept.checksums(structure),
        settings={"charge": charge, "dielectric": dielectric, "fit": fit_as},
    )
    for heading, rows in result.tables().items():
        show.table(rows, heading=heading)
        typer.echo("")
    show.table(result.conclusion())
    show.paths(written)


def _fit(terms: str, free_A: bool):
    """The fit that is asked for, as a study would say it."""
    if terms.strip() == "auto":
        if free_A:
            raise ValueError("--free-a belongs to a fit with given --terms, such as --terms 1,3")
        return "auto"
    try:
        powers = [int(word) for word in terms.replace(",", " ").split()]
    except ValueError:
        raise ValueError(f"--terms must be 'auto' or powers of 1/L such as 1,3, got {terms!r}") from None
    return {"A": "free" if free_A else "fixed", "terms": powers}
