"""`ranks: {layout: split}` on the command line: the host ranks run the study, the quantum ranks serve them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from solidqmmm.cli.ranks import Ranks
from solidqmmm.errors import StudyError


@contextmanager
def host_ranks(study, ranks: Ranks) -> Iterator[bool]:
    """Inside, the ranks are divided as the study says; True on those that run it.

    Raises:
        StudyError: If the study asks for more quantum ranks than there can be.
    """
    asked = study.ranks
    if asked.layout == "shared" or study.qm is None:
        yield True
        return
    if ranks.size == 1:
        typer.echo("ranks: {layout: split} needs at least two ranks, and this is one: quantum and host take turns")
        yield True
        return
    from solidqmmm.procedures.splitting import split_ranks

    quantum = asked.quantum or ranks.size // 2
    if quantum >= ranks.size:
        raise StudyError(
            f"ranks.quantum: expected 1 to {ranks.size - 1}, so that at least one of the {ranks.size} ranks is left for the "
            f"host, got {quantum}"
        )
    with split_ranks(quantum) as link:
        if link is not None:
            typer.echo(f"ranks: {link.halves.host} for the host, {quantum} for quantum mechanics, at the same time")
        yield link is not None
