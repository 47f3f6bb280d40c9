"""Executors by name and by settings: what they are made with, what is missing, what is refused; SLURM by stand-ins."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import worker_tasks
from jinja2 import Template

from solidqmmm import recipebook
from solidqmmm.errors import EnvironmentProblem, StudyError, TaskError
from solidqmmm.procedures.parallel import executors
from solidqmmm.procedures.parallel.executors import (
    Workers,
    job_template,
    load_executor,
    mode_of,
    open_executor,
)
from solidqmmm.procedures.parallel.tasks import map_tasks
from solidqmmm.runtime import environment_for_subprocess
from solidqmmm.system.study_executor import KINDS, read_executor

ROOT = Path(__file__).parents[1]
EXECUTORLIB = executors._library()


def settings(**raw):
    found, problems = read_executor(raw, permitted=("test_executors",))
    assert not problems, problems
    return found


def problems(raw, **options):
    return [problem.shown({}) for problem in read_executor(raw, **options)[1]]


@pytest.fixture
def outside(monkeypatch):
    """Not inside of a job, whatever the tests run in."""
    for name in ("SLURM_JOB_ID", "SLURM_NTASKS", "SLURM_CPUS_PER_TASK", "FLUX_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]))


@pytest.fixture
def made(monkeypatch, outside):
    """What executorlib's executors would be made with, and everything that they need in its place."""
    given = {}

    def recording(name):
        def make(**options):
            given[name] = options
            return ThreadPoolExecutor(1)

        return make

    names = ("SlurmJobExecutor", "SlurmClusterExecutor", "FluxJobExecutor", "FluxClusterExecutor")
    monkeypatch.setattr(executors, "_library", lambda: SimpleNamespace(**{name: recording(name) for name in names}))
    monkeypatch.setattr(executors.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(executors.shutil, "which", lambda name: name)
    return given


# --- settings -------------------------------------------------------------------------------------------------


def test_the_example_of_the_pages_is_valid():
    found = load_executor(str(ROOT / "docs/slurm_executor.yaml"))
    assert (found.executor, found.workers, found.ranks, found.memory) == ("slurm", 20, 16, "32 GB")
    assert found.time_limit_s == 8 * 3600 > found.task_timeout


@pytest.mark.parametrize("name", KINDS)
def test_names_alone_are_settings(name):
    assert load_executor(name) == KINDS[name]()
    assert settings(executor=name) == KINDS[name]()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("lokal", "expected one of serial, local, slurm, flux, or module:callable, got 'lokal'; did you mean 'local'?"),
        (4, "expected the name of an executor or a mapping such as {executor: local, workers: 4}, got 4"),
        ({"workers": 4}, "executor: expected one of serial, local, slurm, flux, or module:callable, got None"),
        ({"executor": "local", "worker": 4}, "worker: unknown key; did you mean 'workers'?"),
        ({"executor": "local", "workers": 0}, "workers: expected a number not below 1, got 0"),
        ({"executor": "local", "workers": "4"}, "workers: expected an integer, got '4'"),
        ({"executor": "local", "partition": "x"}, "partition: unknown key"),
        ({"executor": "serial", "workers": 2}, "workers: unknown key"),
        ({"executor": "local", "task_timeout": 0}, "task_timeout: expected a number above 0"),
        ({"executor": "slurm", "mode": "step"}, "mode: expected 'auto', 'jobs' or 'steps', got 'step'"),
        ({"executor": "slurm", "time_limit": 28800}, "time_limit: expected a time such as '8:00:00'"),
        ({"executor": "slurm", "time_limit": "8h"}, "time_limit: expected a time such as '8:00:00'"),
        ({"executor": "slurm", "memory": "16 gigs"}, "memory: expected an amount of memory such as '16 GB'"),
        ({"executor": "slurm", "partition": "a\nrm -rf ~"}, "partition: expected a name of letters, digits"),
        ({"executor": "slurm", "account": "$(rm x)"}, "account: expected a name of letters, digits"),
        ({"executor": "flux", "partition": "x"}, "partition: unknown key"),
        ({"executor": "flux", "queue": "a b"}, "queue: expected a name of letters, digits"),
        ({"executor": "os:getcwd"}, "'os:getcwd' would be imported; if you trust its code, permit it: --allow-import os"),
    ],
)  # fmt: skip
def test_wrong_settings_name_the_key_and_the_cure(raw, said):
    assert said in "\n".join(problems(raw))


@pytest.mark.parametrize("key", ["queue_folder", "srun_arguments"])
def test_a_study_names_no_code(key):
    raw = {"executor": "slurm", key: "x" if key == "queue_folder" else ["--prolog=x"]}
    assert problems(raw) == []
    assert "a study is data: say it in a file of settings, --executor FILE.yaml" in problems(raw, code=False)[0]


def test_files_say_the_line(tmp_path):
    file = tmp_path / "slurm.yaml"
    file.write_text("executor: slurm\nworkers: 4\nrank: 2\n")
    with pytest.raises(StudyError, match=r"rank \(line 3\): unknown key; did you mean 'ranks'\?"):
        load_executor(str(file))
    with pytest.raises(StudyError, match="not found"):
        load_executor(str(tmp_path / "flux.yaml"))
    file.write_text("executor: slurm\nqueue_folder: queues\n")
    assert load_executor(str(file)).queue_folder == str(tmp_path / "queues"), "beside the file"


# --- what is made ---------------------------------------------------------------------------------------------


def test_serial_is_no_executor():
    assert open_executor(settings(executor="serial")) is None


def test_steps_of_a_slurm_job(made, monkeypatch, tmp_path):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    given = settings(
        executor="slurm", workers=3, ranks=4, threads=2, pmi="pmi2", srun_arguments=["--mem=2G"], task_timeout=60
    )  # fmt: skip
    assert mode_of(given) == "steps"
    with open_executor(given, folder=tmp_path) as workers:
        assert workers.task_timeout == 60
        assert workers.folder == tmp_path / "executor"
    options = made["SlurmJobExecutor"]
    assert options["resource_dict"] == {
        "cores": 4, "threads_per_core": 2, "exclusive": True, "slurm_cmd_args": ["--mem=2G"]
    }  # fmt: skip
    assert (options["max_workers"], options["pmi_mode"], options["block_allocation"]) == (3, "pmi2", True)
    monkeypatch.setenv("SLURM_NTASKS", "32")
    open_executor(settings(executor="slurm", ranks=4), folder=tmp_path).shutdown()
    assert made["SlurmJobExecutor"]["max_workers"] == 8, "as many as the job has room for"
    monkeypatch.delenv("SLURM_NTASKS")
    with pytest.raises(StudyError, match="needs `workers` here"):
        open_executor(settings(executor="slurm", ranks=4), folder=tmp_path)


def test_jobs_of_slurm(made, tmp_path):
    given = settings(
        executor="slurm", workers=20, ranks=16, threads=2, partition="standard", account="my-project", memory="32 GB",
        time_limit="1-02:00:00", nodes=2, exclusive=True, gpus_per_rank=1,
    )  # fmt: skip
    assert mode_of(given) == "jobs"
    with open_executor(given, folder=tmp_path) as workers:
        assert workers.limit == 20
    options = made["SlurmClusterExecutor"]
    assert options["cache_directory"] == str(tmp_path / "executor/queue")
    script = Template(options["resource_dict"].pop("submission_template")).render(
        job_name="x", working_directory="/w", command="python task", cores=16, run_time_max=93600
    )
    assert options["resource_dict"] == {"cores": 16, "job_name": "solidqmmm", "run_time_max": 93600}
    asked = ["job-name=x", "chdir=/w", "output=job.out", "ntasks=16", "cpus-per-task=2", "nodes=2", "gpus-per-task=1",
             "partition=standard", "account=my-project", "mem=32G", "time=1-02:00:00", "exclusive"]  # fmt: skip
    assert script.splitlines() == [
        "#!/bin/bash", *(f"#SBATCH --{word}" for word in asked), "", "export OMP_NUM_THREADS=2", "python task"
    ]  # fmt: skip
    own = settings(executor="slurm", queue_folder="/q", partition="standard")
    open_executor(own, folder=tmp_path).shutdown()
    assert made["SlurmClusterExecutor"]["pysqa_config_directory"] == "/q"
    assert made["SlurmClusterExecutor"]["resource_dict"]["partition"] == "standard"


def test_flux(made, monkeypatch, tmp_path):
    given = settings(executor="flux", workers=2, ranks=4, time_limit="0:30:00", queue="batch")
    with open_executor(given, folder=tmp_path):
        pass
    assert "# flux: --nslots=4\n# flux: --cores-per-slot=1\n# flux: --queue=batch\n# flux: --time-limit=1800s" in (
        made["FluxClusterExecutor"]["resource_dict"]["submission_template"]
    )
    monkeypatch.setenv("FLUX_URI", "local:///run/flux")
    with open_executor(given, folder=tmp_path):
        pass
    assert made["FluxJobExecutor"]["resource_dict"] == {"cores": 4, "threads_per_core": 1}
    assert made["FluxJobExecutor"]["max_workers"] == 2


def test_what_is_made_is_what_executorlib_takes():
    """Names of its arguments and of its resources, of the version that is installed."""
    import inspect

    from executorlib.standalone.validate import ResourceDictValidation

    for name in ("SlurmJobExecutor", "FluxJobExecutor"):
        taken = inspect.signature(getattr(EXECUTORLIB, name).__init__).parameters
        assert {"max_workers", "resource_dict", "pmi_mode", *executors._pool()} <= set(taken)
    for name in ("SlurmClusterExecutor", "FluxClusterExecutor"):
        taken = inspect.signature(getattr(EXECUTORLIB, name).__init__).parameters
        assert {"resource_dict", "cache_directory", "pysqa_config_directory", "pmi_mode"} <= set(taken)
    resources = {"cores", "threads_per_core", "gpus_per_core", "num_nodes", "exclusive", "slurm_cmd_args", "run_time_max"}
    assert resources | {"submission_template"} <= set(ResourceDictValidation.model_fields)


# --- what is missing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"executor": "slurm", "mode": "jobs"}, "`pip install pysqa"),
        ({"executor": "slurm", "mode": "steps", "workers": 1}, "the program srun is not found"),
        ({"executor": "flux", "mode": "steps", "workers": 1}, "`conda install -c conda-forge flux-core`"),
        ({"executor": "flux", "mode": "jobs"}, "`pip install pysqa"),
    ],
)
def test_what_is_missing_is_said_with_how_to_get_it(raw, said, outside, monkeypatch, tmp_path):
    there = executors.importlib.util.find_spec
    monkeypatch.setattr(
        executors.importlib.util, "find_spec", lambda name: None if name in ("pysqa", "flux") else there(name)
    )
    monkeypatch.setattr(executors.shutil, "which", lambda name: None)
    with pytest.raises(EnvironmentProblem) as raised:
        open_executor(settings(**raw), folder=tmp_path)
    assert said in str(raised.value)


def test_jobs_need_a_folder_that_they_see(made):
    with pytest.raises(StudyError, match="there is no run folder"):
        open_executor(settings(executor="slurm"))


# --- of one's own ---------------------------------------------------------------------------------------------


def threads(n=1, **more):
    return more or ThreadPoolExecutor(n)


def test_an_executor_of_ones_own(tmp_path):
    given = settings(executor="test_executors:threads", options={"n": 2}, workers=1)
    with open_executor(given) as workers:
        assert isinstance(workers, Workers)
        assert isinstance(workers, Executor)
        assert map_tasks(abs, [-1, 2], executor=workers) == [1, 2]
    for changes, said in (
        ({"options": {"n": 1, "more": 2}}, "returned dict, and a concurrent.futures.Executor is expected"),
        ({"executor": "test_executors:nobody"}, "cannot be imported"),
        ({"options": {"n": 0}}, None),
    ):
        with pytest.raises(StudyError if said else ValueError, match=said):
            open_executor(settings(**({"executor": "test_executors:threads"} | changes)))


# --- real workers ---------------------------------------------------------------------------------------------

SRUN = """#!{python}
import os, sys
words, ranks = sys.argv[1:], "1"
open({log!r}, "a").write(" ".join(words) + "\\n")
while words[0].startswith("-"):
    if words.pop(0) == "-n":
        ranks = words.pop(0)
os.execv({mpiexec!r}, [{mpiexec!r}, "-n", ranks, *words])
"""


def test_steps_by_a_stand_in_for_srun(outside, monkeypatch, tmp_path):
    """executorlib's own SlurmJobExecutor; what it calls is not SLURM's srun, but starts as many ranks."""
    log, mpiexec = tmp_path / "srun.log", Path(sys.prefix, "bin", "mpiexec")
    if not mpiexec.exists():
        pytest.skip("this environment has no mpiexec of its own")
    srun = tmp_path / "bin/srun"
    srun.parent.mkdir()
    srun.write_text(SRUN.format(python=sys.executable, log=str(log), mpiexec=str(mpiexec)))
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{srun.parent}{os.pathsep}{os.environ['PATH']}")
    given = settings(executor="slurm", mode="steps", workers=1, ranks=2, task_timeout=60)
    (tmp_path / "workers").mkdir()
    with open_executor(given, folder=tmp_path / "out") as workers:
        found = map_tasks(worker_tasks.summed, [(str(tmp_path / "workers"), n) for n in range(3)], executor=workers)
    assert found == [0, 3, 6]
    assert "-n 2 --cpus-per-task=1 --exact" in log.read_text()
    assert not (tmp_path / "out/executor").exists(), "what workers left is swept"


def test_workers_that_cannot_be_started(outside, monkeypatch, tmp_path):
    """executorlib would wait for them for ever."""
    srun = tmp_path / "bin/srun"
    srun.parent.mkdir()
    srun.write_text("#!/bin/sh\nexit 1\n")
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{srun.parent}{os.pathsep}{os.environ['PATH']}")
    given = settings(executor="slurm", mode="steps", workers=2, ranks=1)
    begun = time.monotonic()
    with (
        pytest.raises(TaskError, match="it could not be started"),
        open_executor(given, folder=tmp_path / "out") as workers,
    ):
        map_tasks(worker_tasks.squared, [(str(tmp_path), n) for n in range(3)], executor=workers)
    assert time.monotonic() - begun < 20


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the stand-in does not wait for its own
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_jobs_by_executorlibs_own_stand_in(outside, monkeypatch, tmp_path):
    """Tasks and results go through files, as with the jobs of a queue."""
    from executorlib.api import TestClusterExecutor as ByFiles

    def by_files(given, queue):
        return ByFiles(resource_dict={"cores": given.ranks}, cache_directory=str(queue))

    monkeypatch.setattr(executors, "_jobs", by_files)
    monkeypatch.setenv("PATH", f"{Path(sys.prefix, 'bin')}{os.pathsep}{os.environ['PATH']}")  # of its mpiexec
    (tmp_path / "workers").mkdir()
    for ranks in (1, 2):
        with open_executor(settings(executor="slurm", ranks=ranks, workers=2), folder=tmp_path / "out") as workers:
            function = worker_tasks.squared if ranks == 1 else worker_tasks.summed
            found = map_tasks(function, [(str(tmp_path / "workers"), n) for n in range(3)], executor=workers)
        assert found == ([0, 1, 4] if ranks == 1 else [0, 3, 6])
        del workers
        gc.collect()
    assert not (tmp_path / "out/executor").exists()


# --- the command line and the study ---------------------------------------------------------------------------

STUDY = {
    "recipe": "elastic_tensor",
    "structure": {"file": "Si.cif"},
    "host": {"pair_style": "sw", "pair_coeff": ["* * Si.sw Si"], "species": ["Si"]},
    "elastic": {"cell": "fixed", "amplitudes": [0.001]},
}


@pytest.fixture
def study(tmp_path, monkeypatch):
    from study_cases import write_structures

    write_structures(tmp_path)
    monkeypatch.chdir(tmp_path)

    def written(**changes):
        (tmp_path / "study.yaml").write_text(json.dumps(STUDY | changes))
        return tmp_path / "study.yaml"

    return written


def test_the_command_line_comes_before_the_study(study):
    from solidqmmm.cli.executor import Asked

    plain = recipebook.load_study(study())
    assert Asked().settings(plain).executor == "serial"
    assert Asked(workers=3).settings(plain) == settings(executor="local", workers=3)
    assert Asked("local", 3, 2, 60.0).settings(plain) == settings(executor="local", workers=3, ranks=2, task_timeout=60)
    given = recipebook.load_study(study(executor={"executor": "slurm", "partition": "p", "ranks": 4, "mode": "jobs"}))
    assert Asked().settings(given) == settings(executor="slurm", partition="p", ranks=4, mode="jobs")
    assert Asked(workers=3, ranks=8).settings(given).ranks == 8
    assert Asked(workers=3).settings(given).partition == "p"
    assert Asked("serial").settings(given).executor == "serial"
    assert recipebook.load_study(study(executor="local")).executor_settings == settings(executor="local")
    with pytest.raises(StudyError, match="serial does one task after the other"):
        Asked("serial", workers=2).settings(plain)


def test_who_computes_is_no_part_of_what_is_computed(study):
    from solidqmmm.procedures.build import build_model
    from solidqmmm.procedures.records import fingerprint

    facts = []
    for executor in ("serial", {"executor": "local", "workers": 2}):
        loaded = recipebook.load_study(study(executor=executor))
        with build_model(loaded) as model:
            facts.append((loaded.as_mapping(), fingerprint(model)))
    assert facts[0] == facts[1]
    assert "executor" not in facts[0][0]


def test_one_run_by_several_executors(study, call, monkeypatch, without_figures):
    """What workers have finished is read by a serial run, and the other way round; the study says which, or the command."""
    study(executor={"executor": "local", "workers": 2})
    code, _, err = call("run", "study.yaml", "--out", "out", "-v")
    assert code == 0, err
    assert "task defect xx_+0.001: done" in err
    assert json.loads(Path("out/provenance.json").read_text())["settings"]["executor"]["workers"] == 2
    Path("out/provenance.json").unlink()
    gone = sorted(Path("out/strains/defect").glob("yz*"))
    assert gone
    for path in gone:
        path.unlink()
    code, _, err = call("run", "study.yaml", "--out", "out", "-v", "--executor", "serial")
    assert code == 0, err
    assert "task defect xx_+0.001: on record" in err
    assert "task defect yz_+0.001: done" in err


def test_what_was_finished_before_a_kill_is_not_computed_again(study, call, without_figures):
    """The driver is killed without warning; whoever goes on, here serially, reads what its workers have finished."""
    amplitudes = [round(0.0001 * n, 4) for n in range(1, 13)]
    study(elastic={"cell": "fixed", "amplitudes": amplitudes})
    command = [Path(sys.executable).with_name("solidqmmm"), "run", "study.yaml", "--out", "out", "--executor", "local"]
    folder = Path("out/strains/defect")

    def records():
        return {path.name: path.stat().st_mtime_ns for path in folder.glob("??_*.npz")}

    with subprocess.Popen([*command, "--workers", "2"], env=environment_for_subprocess()) as driver:
        deadline = time.monotonic() + 90
        while len(records()) < 3:
            assert time.monotonic() < deadline
            assert driver.poll() is None
            time.sleep(0.005)
        driver.kill()
    time.sleep(2.5)  # its workers end by themselves
    before = records()
    code, _, err = call("run", "study.yaml", "--out", "out", "-v")
    assert code == 0, err
    after = records()
    assert len(after) > len(before) >= 3, "it was killed in between"
    assert {name: after[name] for name in before} == before
    assert err.count(": on record") == len(before)
    assert err.count(": done") == len(after) - len(before)


@pytest.fixture
def without_figures(monkeypatch):
    from solidqmmm.runfolder import RunFolder

    monkeypatch.setattr(RunFolder, "write_figures", lambda *_: [])


def test_executors_are_refused_where_there_is_nothing_to_do(study, call):
    study(recipe="single_point", elastic=None)
    mapping = {key: value for key, value in STUDY.items() if key != "elastic"} | {"recipe": "single_point"}
    Path("study.yaml").write_text(json.dumps(mapping))
    code, _, err = call("run", "study.yaml", "--out", "out", "--executor", "local")
    assert code == 2
    assert "the recipe 'single_point' has no independent tasks" in err
    for words, said in ((("--executor", "lokal"), "did you mean 'local'?"), (("--executor", "no.yaml"), "not found")):
        code, _, err = call("run", "study.yaml", "--out", "out", *words)
        assert code == 2
        assert said in err
    assert not Path("out").exists()


def test_the_template_has_nothing_that_was_not_asked_for():
    script = job_template(settings(executor="slurm"))
    assert "partition" not in script
    assert script.splitlines()[-2:] == ["export OMP_NUM_THREADS=1", "{{command}}"]
