"""Where independent tasks are done: options of `run` and `check`, the study's own section, and which of them counts."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import typer

from solidqmmm.errors import StudyError

logger = logging.getLogger(__name__)

ExecutorName = Annotated[
    str | None,
    typer.Option(
        "--executor",
        metavar="NAME|FILE.yaml",
        help="Where independent tasks are done: serial, local, slurm, flux, module:callable, or a file of settings.",
    ),
]
Workers = Annotated[
    int | None, typer.Option("--workers", metavar="N", help="Independent tasks side by side, N at a time.")
]
RanksPerWorker = Annotated[
    int | None, typer.Option("--ranks-per-worker", metavar="M", help="MPI ranks of each of them.")
]
TaskTimeout = Annotated[
    float | None, typer.Option("--task-timeout", metavar="S", help="Seconds that each of them may take.")
]


@dataclass(frozen=True)
class Asked:
    """What the command line says of an executor; None where it says nothing."""

    named: str | None = None
    workers: int | None = None
    ranks: int | None = None
    task_timeout: float | None = None

    @property
    def sizes(self) -> dict:
        """What was given beside the name, by its key in settings."""
        given = {"workers": self.workers, "ranks": self.ranks, "task_timeout": self.task_timeout}
        return {key: value for key, value in given.items() if value is not None}

    @property
    def anything(self) -> bool:
        """Whether an executor is asked for here."""
        return self.named is not None or bool(self.sizes)

    def settings(self, study):
        """The command line's word, else the study's, else serial; sizes without a name are those of workers here.

        Raises:
            StudyError: With every mistake.
        """
        from solidqmmm.procedures.parallel.executors import load_executor
        from solidqmmm.system.study_executor import LocalExecutor, SerialExecutor, read_executor

        found = study.executor_settings or SerialExecutor()
        if self.named is not None:
            found = load_executor(self.named, permitted=study.allow_import)
        if not self.sizes:
            return found
        if isinstance(found, SerialExecutor):
            if self.named is not None:
                raise StudyError(
                    "executor: serial does one task after the other: leave out --workers, --ranks-per-worker and "
                    "--task-timeout, or take --executor local"
                )
            found = LocalExecutor()
        written = (
            found.model_dump(exclude_unset=True, mode="json") | {"executor": found.executor} | self.sizes
        )
        changed, problems = read_executor(written, permitted=study.allow_import)
        if problems:
            raise StudyError(
                "--executor: wrong sizes; nothing was run", problems=[p.shown({}) for p in problems]
            )
        return changed


def require_tasks(asked: Asked, settings, takes_executor: bool, name: str):
    """StudyError where an executor is asked for, and there is nothing that it could do."""
    if takes_executor or settings.executor == "serial":
        return
    if asked.anything:
        raise StudyError(
            f"the recipe '{name}' has no independent tasks: run it without --executor and --workers"
        )
    logger.info("the recipe '%s' has no independent tasks, and no use for the study's executor", name)


@contextmanager
def opened(settings, takes_executor: bool, folder, ranks: int) -> Iterator[dict]:
    """The argument `executor` of whoever takes one, open; nothing where tasks are done one after the other.

    Raises:
        StudyError: Under mpiexec: workers start processes of their own.
    """
    from solidqmmm.procedures.parallel.executors import open_executor

    if not takes_executor or settings.executor == "serial":
        yield {}
        return
    if ranks > 1:
        raise StudyError(
            f"executor: {settings.executor} starts processes of its own: run it without mpiexec (see --ranks-per-worker)"
        )
    with open_executor(settings, folder=folder) as executor:
        yield {"executor": executor}
