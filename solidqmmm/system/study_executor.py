"""Where independent tasks are done: here, in workers on this machine, on SLURM or Flux, or in an executor of one's own.

Said in the section `executor` of a study, or with the same keys in a file of settings. A study is data that may come from
anywhere: whatever ends up in a job script is checked word by word, and what is code (job templates, arguments of srun) may
only be said in a file of settings, which whoever runs the study names on the command line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PlainValidator, model_validator

from solidqmmm.system.foreign_code import is_permitted_module
from solidqmmm.system.study_file import Problem, shown, validated
from solidqmmm.system.study_sections import Section

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]


def _word(value):
    if not isinstance(value, str) or not re.fullmatch(r"[\w.,:@+-]+", value, re.ASCII):
        raise ValueError(f"expected a name of letters, digits and . , : @ + -, got {value!r}")
    return value


def _memory(value):
    if not isinstance(value, str) or not re.fullmatch(r"\d+ ?[MGT]B?", value):
        raise ValueError(f"expected an amount of memory such as '16 GB', got {value!r}")
    return value


def _duration(value):
    if not isinstance(value, str) or not re.fullmatch(r"(\d+-)?\d{1,2}:\d\d:\d\d", value):
        raise ValueError(
            f"expected a time such as '8:00:00' or '2-00:00:00' (days-hours), in quotes, got {value!r}"
        )
    return value


Word = Annotated[str, PlainValidator(_word)]
Memory = Annotated[str, PlainValidator(_memory)]
Duration = Annotated[str, PlainValidator(_duration)]


class SerialExecutor(Section):
    """One task after the other, in this process; each may start from the one before."""

    executor: Literal["serial"] = "serial"


class LocalExecutor(Section):
    """Workers on this machine.

    Attributes:
        executor: 'local'.
        workers: Tasks at a time; by default as many as there are processors for.
        ranks: MPI ranks of each task.
        threads: Threads of each rank.
        task_timeout: Seconds that a task may take; without it as long as it likes.
    """

    executor: Literal["local"] = "local"
    workers: Count | None = None
    ranks: Count = 1
    threads: Count = 1
    task_timeout: Seconds | None = None


class _Cluster(Section):
    """What SLURM and Flux have in common."""

    mode: Literal["auto", "jobs", "steps"] = "auto"
    workers: Count | None = None
    ranks: Count = 1
    threads: Count = 1
    nodes: Count | None = None
    gpus_per_rank: Annotated[int, Field(ge=0)] = 0
    time_limit: Duration | None = None
    task_timeout: Seconds | None = None
    pmi: Literal["pmi2", "pmix", "simple"] | None = None
    queue_folder: str | None = None

    #: Keys that name code, and have no place in a study.
    CODE: ClassVar[tuple[str, ...]] = ("queue_folder",)

    @property
    def time_limit_s(self) -> int | None:
        """The time limit of a job in seconds."""
        if self.time_limit is None:
            return None
        days, _, clock = self.time_limit.rpartition("-")
        hours, minutes, seconds = map(int, clock.split(":"))
        return ((24 * int(days or 0) + hours) * 60 + minutes) * 60 + seconds


class SlurmExecutor(_Cluster):
    """Workers on a cluster with SLURM.

    Attributes:
        executor: 'slurm'.
        mode: 'jobs' submits each task as a job of its own, 'steps' starts workers by srun in the job that this runs in;
            'auto' is 'steps' inside a job and 'jobs' elsewhere.
        workers: Tasks at a time; by default as many as the job has processors for, or all at once as jobs.
        ranks: MPI ranks of each task.
        threads: Threads of each rank.
        nodes: Nodes for each task.
        gpus_per_rank: GPUs of each rank.
        time_limit: Of a job, as '8:00:00' or '2-00:00:00'.
        task_timeout: Seconds that a task may take.
        pmi: How srun tells the ranks of each other; the wheels' MPICH wants 'pmi2'.
        partition: Of a job.
        account: Of a job.
        memory: Of a job, as '16 GB'.
        exclusive: Whether a job has its nodes for itself.
        queue_folder: Folder of pysqa with the cluster's own queue.yaml and job templates; only in a file of settings.
        srun_arguments: More arguments of srun; only in a file of settings.
    """

    CODE: ClassVar[tuple[str, ...]] = ("queue_folder", "srun_arguments")

    executor: Literal["slurm"] = "slurm"
    partition: Word | None = None
    account: Word | None = None
    memory: Memory | None = None
    exclusive: bool = False
    srun_arguments: tuple[str, ...] = ()


class FluxExecutor(_Cluster):
    """Workers on a cluster with Flux, or in a Flux instance inside another job.

    Attributes:
        executor: 'flux'.
        mode: 'jobs' submits each task as a job of its own, 'steps' starts workers in the instance that this runs in; 'auto'
            is 'steps' inside an instance and 'jobs' elsewhere.
        workers, ranks, threads, nodes, gpus_per_rank, time_limit, task_timeout, pmi, queue_folder: As of `slurm`.
        queue: Of a job.
    """

    executor: Literal["flux"] = "flux"
    queue: Word | None = None


class OwnExecutor(Section):
    """An executor that an importable function returns.

    Attributes:
        executor: 'module:callable', of a module that is permitted (`--allow-import`).
        options: Its keyword arguments.
        workers: Most tasks that are handed to it at a time.
        task_timeout: Seconds that a task may take.
    """

    executor: str
    options: dict[str, Any] = Field(default_factory=dict)
    workers: Count | None = None
    task_timeout: Seconds | None = None

    @model_validator(mode="after")
    def _is_a_path(self):
        if not re.fullmatch(r"[\w.]+:\w+", self.executor):
            raise ValueError(
                f"`executor` must be one of {', '.join(KINDS)}, or module:callable, got {self.executor!r}"
            )
        return self


KINDS: dict[str, type[Section]] = {
    "serial": SerialExecutor,
    "local": LocalExecutor,
    "slurm": SlurmExecutor,
    "flux": FluxExecutor,
}

ExecutorSettings = SerialExecutor | LocalExecutor | SlurmExecutor | FluxExecutor | OwnExecutor


def read_executor(
    raw, *, path: tuple = (), permitted: Iterable[str] = (), code: bool = True
) -> tuple[ExecutorSettings | None, list[Problem]]:
    """The settings that a mapping (or the mere name of an executor) says, or None and what is wrong with them.

    Args:
        raw: What was written.
        path: Key of the section, for the problems.
        permitted: Modules that may be imported.
        code: Whether keys that name code are taken: those of a file of settings are, those of a study are not.
    """
    if isinstance(raw, str):
        raw = {"executor": raw}
    if not isinstance(raw, dict):
        text = f"expected the name of an executor or a mapping such as {{executor: local, workers: 4}}, got {shown(raw)}"
        return None, [Problem(path, text)]
    name = raw.get("executor")
    if not isinstance(name, str):
        text = f"expected one of {', '.join(KINDS)}, or module:callable, got {shown(name)}"
        return None, [Problem((*path, "executor"), text)]
    if name not in KINDS and ":" not in name:
        near = get_close_matches(name, KINDS, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        text = f"expected one of {', '.join(KINDS)}, or module:callable, got '{name}'{hint}"
        return None, [Problem((*path, "executor"), text)]
    model = KINDS.get(name, OwnExecutor)
    found, problems = validated(model, raw, path)
    if ":" in name and not is_permitted_module(name, permitted):
        module = name.partition(":")[0]
        text = f"{name!r} would be imported; if you trust its code, permit it: --allow-import {module}"
        problems.append(Problem((*path, "executor"), text))
    for key in getattr(model, "CODE", ()):
        if not code and raw.get(key):
            text = "names code that a job would run, and a study is data: say it in a file of settings, --executor FILE.yaml"
            problems.append(Problem((*path, key), text))
    return (None if problems else found), problems
