"""What the command line shows: tables, paths, errors in plain words."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import textwrap
import traceback
import warnings

import typer

from solidqmmm.errors import RegionError, SolidQMMMError, StructureError, StudyError


def table(rows, *, heading: str | None = None) -> None:
    """Rows of texts in aligned columns; the last column may be long."""
    rows = [[str(cell) for cell in row] for row in rows]
    if heading:
        typer.echo(heading)
    if not rows:
        return
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths)]
        start = "  " + "".join(f"{cell}  " for cell in cells)
        typer.echo(start + wrapped(row[-1], indent=len(start)))


def wrapped(text: str, *, indent: int) -> str:
    """A long text in lines that fit the terminal, each but the first indented; as it is where there is none."""
    if not sys.stdout.isatty():
        return text
    room = max(40, shutil.get_terminal_size().columns - indent)
    return textwrap.fill(
        text, room, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )


def paths(rows) -> None:
    """Labels and the paths of what was written; one line for each label."""
    table([(label, "  ".join(map(str, found))) for label, found in rows if found])


_verbosity = 0


def error(problem: BaseException, *, rank: int | None = None) -> None:
    """An error on stderr: text for what users can cure, a traceback for the rest (or always, on request)."""
    expected = isinstance(problem, SolidQMMMError) or _said_by_us(problem)
    if not expected or _verbosity > 1 or os.environ.get("SOLIDQMMM_TRACEBACK"):
        typer.echo("".join(traceback.format_exception(problem)), err=True, nl=False)
    where = f" on rank {rank}" if rank else ""
    text = str(problem) if expected else f"{type(problem).__name__}: {problem}"
    typer.secho(f"error{where}: {text}", fg=typer.colors.RED, err=True)
    if not expected:
        typer.secho(
            "This is a mistake in solidqmmm or in a recipe, please report it.", fg=typer.colors.RED, err=True
        )


def _said_by_us(problem: BaseException) -> bool:
    """A ValueError or the like that this package raised itself: its words are meant for users."""
    frames = list(traceback.walk_tb(problem.__traceback__))
    module = frames[-1][0].f_globals.get("__name__", "") if frames else ""
    return isinstance(problem, ValueError | TypeError | FileNotFoundError) and module.startswith("solidqmmm.")


def exit_code(problem: BaseException) -> int:
    """2 for a wrong study and for what it asks of a crystal that cannot be, 1 for work that failed."""
    wrong = isinstance(problem, StudyError | StructureError | RegionError) or _said_by_us(problem)
    return 2 if wrong else 1


def verbosity() -> int:
    """How often -v was given."""
    return _verbosity


def set_verbosity(level: int) -> None:
    """-v shows what the library logs, -vv everything and tracebacks. Warnings become one line each, and are said once."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("solidqmmm").setLevel({0: logging.WARNING, 1: logging.INFO}.get(level, logging.DEBUG))
    global _verbosity
    _verbosity = level
    said = set()

    def once(message, *_, **__):
        """A series of cells reads one structure many times, and its reader warns each time."""
        if str(message) not in said:
            said.add(str(message))
            typer.secho(f"warning: {message}", fg=typer.colors.YELLOW, err=True)

    warnings.showwarning = once
