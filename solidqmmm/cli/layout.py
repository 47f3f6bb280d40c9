"""`ranks: {layout: split}` on the command line: the host ranks run the study, the quantum ranks serve them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import typer

from solidqmmm.cli import show
from solidqmmm.cli.ranks import Ranks
from solidqmmm.errors import StudyError

# In the run folder, so that a run goes on with the division that it had.
NOTE = "ranks.log"


def on_host_ranks(study, recipe, ranks: Ranks, folder: Path, work: Callable[[Callable[[], object]], object]):
    """Does the work on all ranks or, where the study asks for split ranks, on the host ranks; again after another division.

    Args:
        study, recipe: What is run.
        ranks: The ranks of the command.
        folder: The run folder, which need not exist.
        work: Called with what writes the division down in the folder, for when it belongs to the study.

    Raises:
        StudyError: If the study asks for more quantum ranks than there can be.
    """
    asked = study.ranks
    if asked.layout == "shared" or study.qm is None:
        return work(lambda: None)
    if ranks.size == 1:
        typer.echo("ranks: {layout: split} needs at least two ranks, and this is one: quantum and host take turns")
        return work(lambda: None)
    from solidqmmm.procedures.parallel.splitting import DivideAnew, split_ranks

    if (asked.quantum or 1) >= ranks.size:
        raise StudyError(
            f"ranks.quantum: expected 1 to {ranks.size - 1}, so that at least one of the {ranks.size} ranks is left for the "
            f"host, got {asked.quantum}"
        )
    quantum, plan = (asked.quantum, None) if asked.quantum else _chosen(study, recipe, ranks, folder)
    while True:
        try:
            with split_ranks(quantum, plan=plan) as link:
                if link is None:
                    return None
                typer.echo(f"ranks: {link.halves.host} for the host, {quantum} for quantum mechanics, at the same time")
                done = work(lambda: _note(folder, link))
                show.table(_rows(link.traffic))
                return done
        except DivideAnew as anew:
            quantum, plan = anew.plan.best.quantum, anew.plan
            typer.echo(f"ranks: {anew.why}")


def division_of_ranks() -> dict:
    """The division of the moment for provenance: LAMMPS's noise depends on the number of host ranks; empty without one."""
    from solidqmmm.engines.remote import link

    one = link()
    return {} if one is None else {"ranks": {"host": one.halves.host, "quantum": one.halves.quantum}}


def _rows(traffic) -> list[tuple[str, str]]:
    words = f"{traffic.asked} asked"
    if not traffic.announced:
        words += ", none of them foreseen: both halves took turns"
    else:
        words += f", {traffic.hits} of them foreseen" + (f", {traffic.missed} in vain" if traffic.missed else "")
    waits = f"host ranks {traffic.host_waits_s:.1f} s, quantum ranks {traffic.quantum_waits_s:.1f} s"
    return [("quantum ranks", words), ("waited", waits)]


# --- how many ---------------------------------------------------------------------------------------------------


def _chosen(study, recipe, ranks: Ranks, folder: Path):
    """Number of quantum ranks and the plan behind it: that of the run folder, or of a short calibration on all ranks."""
    from solidqmmm.procedures.parallel.splitting import Plan

    if ranks.size == 2:
        return 1, None
    known = _noted(folder, ranks)
    if known is not None:
        return known
    forecast = _calibrated(study, recipe, ranks.size)
    if forecast is None or forecast.best is None:
        typer.echo("ranks: nobody knows what this engine costs, and half of the ranks are its own; `ranks: quantum` sets it")
        return ranks.size // 2, None
    plan = Plan(ranks.size, forecast.host.cost, forecast.quantum.cost, forecast.exchange)
    from solidqmmm.procedures.parallel.rank_forecast import in_seconds

    host, quantum = in_seconds(forecast.host.here), in_seconds(forecast.quantum.here)
    typer.echo(f"ranks: on all {ranks.size} of them a host step takes {host} and a quantum call {quantum}")
    return plan.best.quantum, plan


def _calibrated(study, recipe, size: int):
    from solidqmmm.procedures.build import build_model

    try:
        with build_model(study) as model:
            return recipe.forecast(model, size, **study.options)
    except (ValueError, FileNotFoundError) as error:
        raise StudyError(f"the study cannot be built: {error}") from error


def _note(folder: Path, link):
    """Writes the division down; collective among the host ranks."""
    from solidqmmm.runtime import is_root
    from solidqmmm.system.whole_file import written_whole

    if is_root() and link.plan is not None:
        plan = asdict(link.plan)
        note = {"quantum": link.halves.quantum, "quantum_cost": plan.pop("quantum"), **plan}
        with written_whole(folder / NOTE) as temporary:
            Path(temporary).write_text(json.dumps(note) + "\n", encoding="utf-8")


def _noted(folder: Path, ranks: Ranks):
    """What was written down for as many ranks, or None; collective among all ranks."""
    from solidqmmm.physics.algebra.rank_costs import RankCost
    from solidqmmm.procedures.parallel.splitting import Plan
    from solidqmmm.runtime import world

    found = None
    if ranks.is_root:
        try:
            note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
            plan = Plan(
                int(note["ranks"]), RankCost(**note["host"]), RankCost(**note["quantum_cost"]), float(note["exchange"])
            )
            if plan.ranks == ranks.size and 0 < int(note["quantum"]) < ranks.size:
                found = int(note["quantum"]), plan
        except (OSError, ValueError, KeyError, TypeError):  # none there, or damaged: calibrate
            found = None
    return world().bcast(found)
