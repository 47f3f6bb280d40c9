"""From settings to an executor: executorlib's workers here, on SLURM or Flux, or an executor of one's own.

executorlib starts MPI-parallel tasks from a driver that is not parallel, and does so with the same interface on one machine,
inside a job, and by jobs of its own (https://executorlib.readthedocs.io). What it does not do (a rank that fails alone, a
task that hangs, workers of a driver that was killed) is in `task_worker`. Its cache is not used for results: finished work
is in the run folder's records and journal, whoever did it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import socket
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial
from pathlib import Path

from solidqmmm.errors import EnvironmentProblem, StudyError
from solidqmmm.procedures.parallel.task_worker import tethered
from solidqmmm.system import study_file
from solidqmmm.system.study_executor import (
    ExecutorSettings,
    FluxExecutor,
    LocalExecutor,
    OwnExecutor,
    SerialExecutor,
    SlurmExecutor,
    read_executor,
)

# Environment variables by which a process knows that it is inside of a job.
_INSIDE = {"slurm": "SLURM_JOB_ID", "flux": "FLUX_URI"}
_OF_JOBS = {"slurm": "sbatch", "flux": "flux"}


class Workers(Executor):
    """An executor, and what `map_tasks` should know of it.

    Args:
        inner: The executor.
        settings: What it was made from.
        limit: Most tasks that it is handed at a time; None for all.
        folder: Where workers leave marks, on other machines too; None for a folder of this machine.
        jobs: Folder of the jobs in the queue, which are cancelled where the work fails; None for workers.
        cleared: Called when all is over.
    """

    def __init__(
        self, inner: Executor, settings: ExecutorSettings, *, limit: int | None = None, folder=None, jobs=None,
        cleared: Callable | None = None,
    ):  # fmt: skip
        self.inner, self.settings, self.limit = inner, settings, limit
        self.folder = None if folder is None else Path(folder)
        self._jobs = jobs
        self._cleared = cleared or (lambda: None)

    @property
    def cancels(self) -> bool:
        """Whether single tasks may be cancelled: executorlib's watch over jobs stumbles over one that is."""
        return self._jobs is None

    @property
    def task_timeout(self) -> float | None:
        """Seconds that a task may take, or None."""
        return getattr(self.settings, "task_timeout", None)

    def submit(self, function, /, *args, **kwargs) -> Future:
        """As of any executor."""
        return self.inner.submit(function, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False):
        """Ends the workers; those at work finish first, unless `wait` is False."""
        self.inner.shutdown(wait=wait, cancel_futures=cancel_futures)
        self._cleared()

    def __exit__(self, kind, value, trace):
        failed = kind is not None
        self.shutdown(wait=not (failed and self._jobs is not None), cancel_futures=failed)
        return False


def load_executor(named: str, *, permitted=()) -> ExecutorSettings:
    """Settings by the name of an executor, or in a YAML file.

    Args:
        named: serial, local, slurm, flux, module:callable, or a file.
        permitted: Modules that may be imported.

    Raises:
        StudyError: With every mistake: its key and line, what was expected, what came.
    """
    lines, title, raw = {}, "--executor", named
    if named.endswith((".yaml", ".yml")):
        source = study_file.read(named)
        lines, title, raw = source.lines, f"the settings of an executor in {named}", source.mapping
        if raw.get("queue_folder"):
            raw["queue_folder"] = str((source.folder / str(raw["queue_folder"])).resolve())
    settings, problems = read_executor(raw, permitted=permitted)
    if problems:
        count = "one mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        said = [p.shown(lines) for p in problems] if lines else [p.text for p in problems]
        raise StudyError(f"{title}: {count}; nothing was run", problems=said)
    return settings


def open_executor(settings: ExecutorSettings, *, folder=None) -> Workers | None:
    """The executor of some settings, a context manager; None for 'serial'.

    Args:
        settings: See `system.study_executor`.
        folder: Run folder, on a file system that all nodes see; needed where workers are on other machines.

    Raises:
        EnvironmentProblem: If a package or a program is missing; says how to get it.
        StudyError: If the settings do not fit the place (more workers than the job has room for), or name no executor.
    """
    if isinstance(settings, SerialExecutor):
        return None
    if isinstance(settings, LocalExecutor):
        return _local(settings)
    if isinstance(settings, OwnExecutor):
        return _own(settings)
    place = None if folder is None else Path(folder).resolve() / "executor"
    if place is not None:
        _clear(place, settings)
    if mode_of(settings) == "steps":
        return Workers(_steps(settings), settings, folder=place)
    if place is None:
        raise StudyError(
            f"executor: {settings.executor} hands its tasks to jobs through files, and there is no run folder"
        )
    inner = _jobs(settings, place / "queue")
    return Workers(
        inner,
        settings,
        limit=settings.workers,
        folder=place,
        jobs=place / "queue",
        cleared=lambda: _clear(place, settings),
    )


def local_executor(
    workers: int | None = None, ranks: int = 1, *, task_timeout: float | None = None
) -> Workers:
    """executorlib's executor on this machine: `workers` tasks side by side, each on `ranks` MPI ranks.

    Args:
        workers: Tasks at a time; by default as many as there are processors for.
        ranks: MPI ranks of each.
        task_timeout: Seconds that a task may take, or None.

    Raises:
        ValueError: For numbers below one, or a timeout that is not positive.
    """
    if (workers is not None and workers < 1) or ranks < 1:
        raise ValueError(f"`workers` and `ranks` must be at least 1, got {workers} and {ranks}")
    if task_timeout is not None and not task_timeout > 0:
        raise ValueError(f"`task_timeout` must be positive (seconds), got {task_timeout}")
    return _local(LocalExecutor(workers=workers, ranks=ranks, task_timeout=task_timeout))


def mode_of(settings: SlurmExecutor | FluxExecutor) -> str:
    """'jobs' or 'steps'; 'auto' asks the environment whether this is a job."""
    if settings.mode != "auto":
        return settings.mode
    return "steps" if os.environ.get(_INSIDE[settings.executor]) else "jobs"


# --- executors ------------------------------------------------------------------------------------------------


def _library():
    """executorlib, silent about its own ways with pydantic, and never waiting for a worker that is gone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        library = importlib.import_module("executorlib")
        interface = importlib.import_module(
            "executorlib.standalone.interactive.communication"
        ).SocketInterface
    # Its own way is a blocking send: for ever, where the worker could not be started or has died between two tasks.
    interface.send_and_receive_dict = _answered
    return library


def _answered(interface, input_dict: dict) -> dict:
    """Takes the place of executorlib's `SocketInterface.send_and_receive_dict`: looks whether the worker lives meanwhile."""
    import cloudpickle
    import zmq
    from executorlib.api import ExecutorlibSocketError

    data = cloudpickle.dumps(input_dict)
    while True:
        try:
            interface._socket.send(data, zmq.NOBLOCK)
            return interface.receive_dict()
        except zmq.Again:
            if not interface._spawner.poll():
                return {"error": ExecutorlibSocketError("the worker is gone")}
            time.sleep(0.02)


def _pool() -> dict:
    """Workers that serve many tasks, as starting one takes as long as a small task; bound to this process from the start.

    executorlib's dependencies between tasks are left out: nobody uses them, and they stumble over cancelled tasks.
    """
    tether = partial(tethered, (socket.gethostname(), os.getpid()))
    return {"block_allocation": True, "disable_dependencies": True, "init_function": tether}


def _local(settings: LocalExecutor) -> Workers:
    # Workers must find the mpiexec that belongs to this environment's MPI.
    own = str(Path(sys.executable).parent)
    if os.environ.get("PATH", "").split(os.pathsep)[0] != own:
        os.environ["PATH"] = os.pathsep.join([own, os.environ.get("PATH", "")])
    workers = settings.workers or max(1, len(os.sched_getaffinity(0)) // (settings.ranks * settings.threads))
    inner = _library().SingleNodeExecutor(
        max_workers=workers,
        resource_dict={"cores": settings.ranks, "threads_per_core": settings.threads},
        **_pool(),
    )
    return Workers(inner, settings, limit=workers)


def _own(settings: OwnExecutor) -> Workers:
    module, _, name = settings.executor.partition(":")
    try:
        made = getattr(importlib.import_module(module), name)(**settings.options)
    except (ImportError, AttributeError) as error:
        raise StudyError(
            f"executor: {settings.executor} cannot be imported ({error}): is its folder on PYTHONPATH?"
        ) from error
    except TypeError as error:
        raise StudyError(
            f"executor: {settings.executor} does not take `options` {settings.options}: {error}"
        ) from error
    if not isinstance(made, Executor):
        raise StudyError(
            f"executor: {settings.executor} returned {type(made).__name__}, and a concurrent.futures.Executor is expected"
        )
    return Workers(made, settings, limit=settings.workers)


def _steps(settings: SlurmExecutor | FluxExecutor) -> Executor:
    """Workers inside the allocation of the job that this process runs in."""
    name = settings.executor
    if name == "slurm":
        _require_program(
            "srun", "executor: slurm starts workers by it (`mode: steps`): run this inside a SLURM job"
        )
    else:
        _require_flux()
    workers = settings.workers or _room(settings)
    resources = {"cores": settings.ranks, "threads_per_core": settings.threads}
    if settings.gpus_per_rank:
        resources["gpus_per_core"] = settings.gpus_per_rank
    if settings.nodes is not None:
        resources["num_nodes"] = settings.nodes
    if name == "slurm":
        # Without --exact a step takes whole nodes, and the next worker waits for it.
        resources |= {"exclusive": True, "slurm_cmd_args": list(settings.srun_arguments)}
    kind = _library().SlurmJobExecutor if name == "slurm" else _library().FluxJobExecutor
    try:
        return kind(max_workers=workers, resource_dict=resources, pmi_mode=settings.pmi, **_pool())
    except ValueError as error:
        raise StudyError(
            f"executor: {name} with {workers} workers of {settings.ranks} ranks does not fit this job: {error}; ask for "
            "fewer `workers` or `ranks`, or for a larger job"
        ) from error


def _room(settings) -> int:
    """How many workers the job has processors for, by what SLURM says of it."""
    tasks, threads = os.environ.get("SLURM_NTASKS", ""), os.environ.get("SLURM_CPUS_PER_TASK", "1")
    if settings.executor != "slurm" or not (tasks.isdigit() and threads.isdigit()):
        raise StudyError(
            f"executor: {settings.executor} needs `workers` here: how many tasks are to run at a time?"
        )
    return max(1, int(tasks) * int(threads) // (settings.ranks * settings.threads))


def _jobs(settings: SlurmExecutor | FluxExecutor, queue: Path) -> Executor:
    """Each task as a job of its own."""
    name = settings.executor
    missing = [package for package in ("pysqa", "h5py") if importlib.util.find_spec(package) is None]
    if missing:
        raise EnvironmentProblem(
            f"executor: {name} submits jobs by {' and '.join(missing)}, not installed here: `pip install "
            f"{' '.join(missing)}`; inside of a job (`mode: steps`) that is not needed"
        )
    if name == "flux":
        _require_flux()
    _require_program(
        _OF_JOBS[name], f"executor: {name} submits jobs by it: run this on a login node of the cluster"
    )
    resources = {"cores": settings.ranks, "job_name": "solidqmmm", "run_time_max": settings.time_limit_s}
    if settings.queue_folder is None:
        resources["submission_template"] = job_template(settings)
    else:
        resources |= {
            key: value for key in ("partition", "account", "queue") if (value := getattr(settings, key, None))
        }
    kind = _library().SlurmClusterExecutor if name == "slurm" else _library().FluxClusterExecutor
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that job_name and the like are not of executorlib
        return kind(
            resource_dict={key: value for key, value in resources.items() if value is not None},
            cache_directory=str(queue),
            pysqa_config_directory=settings.queue_folder,
            pmi_mode=settings.pmi,
        )


def job_template(settings: SlurmExecutor | FluxExecutor) -> str:
    """The script of a job for pysqa, which fills in name, folder, time and command."""
    if settings.executor == "slurm":
        asked = {
            "job-name": "{{job_name}}",
            "chdir": "{{working_directory}}",
            "output": "job.out",
            "ntasks": settings.ranks,
            "cpus-per-task": settings.threads,
            "nodes": settings.nodes,
            "gpus-per-task": settings.gpus_per_rank or None,
            "partition": settings.partition,
            "account": settings.account,
            "mem": None if settings.memory is None else settings.memory.replace(" ", "").removesuffix("B"),
            "time": None if settings.time_limit is None else settings.time_limit,
        }
        lines = [f"#SBATCH --{key}={value}" for key, value in asked.items() if value is not None]
        lines += ["#SBATCH --exclusive"] if settings.exclusive else []
    else:
        asked = {
            "job-name": "{{job_name}}",
            "output": "job.out",
            "nslots": settings.ranks,
            "cores-per-slot": settings.threads,
            "gpus-per-slot": settings.gpus_per_rank or None,
            "nodes": settings.nodes,
            "queue": settings.queue,
            "time-limit": None if settings.time_limit_s is None else f"{settings.time_limit_s}s",
        }
        lines = [f"# flux: --{key}={value}" for key, value in asked.items() if value is not None]
    return "\n".join(
        ["#!/bin/bash", *lines, "", f"export OMP_NUM_THREADS={settings.threads}", "{{command}}", ""]
    )


# --- what has to be there -------------------------------------------------------------------------------------


def _require_program(program: str, why: str):
    if shutil.which(program) is None:
        raise EnvironmentProblem(f"the program {program} is not found; {why}")


def _require_flux():
    if importlib.util.find_spec("flux") is None:
        raise EnvironmentProblem(
            "executor: flux needs the Python package of Flux, not installed here: `conda install -c conda-forge flux-core`, "
            "or that of the machine on PYTHONPATH"
        )


def _clear(place: Path, settings):
    """Ends the jobs of a driver that was killed; what they had finished is in the records."""
    queue = place / "queue"
    if queue.is_dir() and any(queue.rglob("*_i.h5")) and importlib.util.find_spec("pysqa") is not None:
        with suppress(Exception):  # jobs that are gone already
            _library().terminate_tasks_in_cache(
                str(queue), pysqa_config_directory=settings.queue_folder, backend=settings.executor
            )
    shutil.rmtree(place, ignore_errors=True)
