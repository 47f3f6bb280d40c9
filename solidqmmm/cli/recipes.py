"""`solidqmmm recipes list|show|copy`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from solidqmmm.cli import show
from solidqmmm.errors import SolidQMMMError

recipes_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


@recipes_app.command("list")
def recipes_list():
    """List the recipes with one line each.

    Example: solidqmmm recipes list
    """
    from solidqmmm import recipebook

    show.table([(name, recipebook.find(name).title) for name in recipebook.names()])


@recipes_app.command("show")
def recipes_show(name: Annotated[str, typer.Argument(help="Name of a recipe, or path of a file.")]):
    """Show what a recipe does, and the options of its sections in a study.

    Example: solidqmmm recipes show defect_relaxation
    """
    from solidqmmm import recipebook

    recipe = _found(name)
    typer.echo(recipe.doc)
    rows = recipebook.described_options(recipe.options)
    if rows:
        typer.echo("")
        where = "the section" if len(recipe.keys) == 1 else "the sections"
        named = ", ".join(f"`{key}`" for key in recipe.keys)
        show.table(rows, heading=f"Options in {where} {named} of a study (name, type, default):")


@recipes_app.command("copy")
def recipes_copy(
    name: Annotated[str, typer.Argument(help="Name of a recipe.")],
    destination: Annotated[Path, typer.Argument(help="File or folder.")] = Path("."),
):
    """Copy a recipe, as the start of one of your own: `recipe: my_recipe.py` in a study runs it.

    Example: solidqmmm recipes copy defect_relaxation my_recipe.py
    """
    from solidqmmm import recipebook

    _found(name)
    try:
        typer.echo(f"copied to {recipebook.copy(name, destination)}")
    except ValueError as error:
        raise SolidQMMMError(str(error)) from error


def _found(name):
    from solidqmmm import recipebook

    try:
        return recipebook.find(name)
    except ValueError as error:
        raise SolidQMMMError(str(error)) from error
