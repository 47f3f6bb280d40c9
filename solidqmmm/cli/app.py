"""The front door: `solidqmmm run|carve|check|finite-size|charge-states|cracks|doctor|cite|recipes`."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from solidqmmm import __version__, interruption
from solidqmmm.cli import show
from solidqmmm.cli.charge_states import charge_states
from solidqmmm.cli.cracks import cracks
from solidqmmm.cli.executor import (
    Asked,
    ExecutorName,
    RanksPerWorker,
    TaskTimeout,
    Workers,
    opened,
    require_tasks,
)
from solidqmmm.cli.finite_size import finite_size
from solidqmmm.cli.layout import division_of_ranks, on_host_ranks
from solidqmmm.cli.progress import Progress, close_all
from solidqmmm.cli.ranks import Ranks
from solidqmmm.cli.recipes import recipes_app
from solidqmmm.errors import SolidQMMMError, StudyError

app = typer.Typer(
    no_args_is_help=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(recipes_app, name="recipes", help="The shipped recipes: list, show, copy.")
app.command(name="finite-size")(finite_size)
app.command(name="charge-states")(charge_states)
app.command(name="cracks")(cracks)

ranks = Ranks()

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="The study.")]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="DIR", help="Folder; by default the study's name.")
]
Verbose = Annotated[
    int, typer.Option("--verbose", "-v", count=True, help="-v: more words; -vv: tracebacks too.")
]

AllowImport = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-import", metavar="MODULE", help="A module whose ASE calculators the study may import; repeatable."
    ),
]

START = """solidqmmm does concurrent QM/MM for crystals: LAMMPS holds the crystal, quantum mechanics corrects a few atoms.

  solidqmmm recipes list               what can be computed
  solidqmmm recipes show NAME          what a recipe does, and its options in a study
  solidqmmm carve STUDY.yaml           look at the quantum cluster before paying for it
  solidqmmm run STUDY.yaml --dry-run   what it will cost
  solidqmmm run STUDY.yaml --out DIR   run it (the same command goes on after an interruption)
  solidqmmm check STUDY.yaml           is the boundary good enough?
  solidqmmm finite-size ENERGIES.csv   charged defects: from a series of cells to the infinite crystal
  solidqmmm charge-states STATES.csv   their formation energies against the Fermi level
  solidqmmm cracks DIR...              tips of several cracks in one figure, animations
  solidqmmm cite DIR                   BibTeX of what a run used
  solidqmmm doctor                     is the installation in order?

A study is one YAML file. With more processes: mpiexec -n 4 solidqmmm run STUDY.yaml"""


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
):
    """Concurrent QM/MM for crystals."""
    if version:
        typer.echo(f"solidqmmm {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(START)


@app.command()
def run(
    study_file: StudyFile,
    out: Out = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Validate, and estimate the cost; run nothing.")
    ] = False,
    on_ranks: Annotated[
        int | None, typer.Option("--ranks", metavar="N", min=1, help="With --dry-run: what a step takes on N ranks.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Run a finished study again (its journal is used).")
    ] = False,
    executor: ExecutorName = None,
    workers: Workers = None,
    ranks_per_worker: RanksPerWorker = None,
    task_timeout: TaskTimeout = None,
    allow_import: AllowImport = None,
    verbose: Verbose = 0,
):
    """Run a study, or go on with it: what was computed is not computed again.

    Example: solidqmmm run vacancy.yaml --out vacancy

    On four processes: mpiexec -n 4 solidqmmm run vacancy.yaml --out vacancy

    Recipes with independent tasks (strains, cells, rungs, displacements): solidqmmm run elastic.yaml --workers 4

    On a cluster, by a file of settings: solidqmmm run elastic.yaml --executor slurm.yaml
    """
    study = _loaded(study_file, allow_import, verbose)
    from solidqmmm import recipebook

    recipe = recipebook.find(study.recipe, study.folder)
    asked = Asked(executor, workers, ranks_per_worker, task_timeout)
    settings = asked.settings(study)
    require_tasks(asked, settings, recipe.takes_executor, recipe.name)
    ranks.start()
    if dry_run:
        _estimate(study, recipe, on_ranks)
        return
    if on_ranks is not None:
        raise SolidQMMMError("--ranks belongs to --dry-run: the ranks of a run are those of mpiexec -n N")
    place = Path(out or _default_out(study_file))
    on_host_ranks(
        study, recipe, ranks, place,
        lambda note: _run_or_go_on(study_file, study, recipe, place, force, settings, note),
    )  # fmt: skip


def _run_or_go_on(study_file, study, recipe, place, force, settings, note_division):
    from solidqmmm.runfolder import RunFolder

    folder = RunFolder(place)
    with folder.locked(or_finished=not force):
        if folder.prepare(study) and not force:
            from solidqmmm.results.base import Result

            typer.echo(f"{study_file} is complete, nothing to do (--force runs it again)")
            if ranks.is_root:
                _conclude(Result.load(folder.result_file), folder)
            return
        note_division()
        with opened(settings, recipe.takes_executor, folder.path, ranks.size) as tasks:
            result = _run(study, recipe, folder, tasks)
    if ranks.is_root:
        _conclude(result, folder)


@app.command()
def carve(study_file: StudyFile, out: Out = None, allow_import: AllowImport = None, verbose: Verbose = 0):
    """Write the quantum cluster of a study and a picture of it; no quantum calculation is made.

    Example: solidqmmm carve vacancy.yaml --out vacancy
    """
    study = _loaded(study_file, allow_import, verbose)
    _require_region_of_study(study, study_file)
    ranks.start()
    with _built(study, None) as model:
        if model.cluster is None:
            sections = "`host` and `region`" if model.engine_alone else "`qm` and `region`"
            raise StudyError(f"{study_file} has no quantum region: give it the sections {sections}")
        if ranks.is_root:
            from solidqmmm.cli.carve import write_cluster

            counts, written = write_cluster(model, Path(out or _default_out(study_file)))
            show.table(counts)
            show.paths([("written", written)])


@app.command()
def check(
    study_file: StudyFile,
    out: Out = None,
    executor: ExecutorName = None,
    workers: Workers = None,
    ranks_per_worker: RanksPerWorker = None,
    task_timeout: TaskTimeout = None,
    allow_import: AllowImport = None,
    verbose: Verbose = 0,
):
    """Ask whether the boundary of the quantum region is good enough; writes check.json and a figure.

    The section `check:` of the study sets thresholds and lengths.

    Example: solidqmmm check vacancy.yaml --out vacancy

    Its questions side by side: solidqmmm check vacancy.yaml --out vacancy --workers 4
    """
    study = _loaded(study_file, allow_import, verbose)
    settings = Asked(executor, workers, ranks_per_worker, task_timeout).settings(study)
    _require_region_of_study(study, study_file)
    ranks.start()
    from solidqmmm.procedures.check import check_boundary
    from solidqmmm.runfolder import RunFolder

    folder = RunFolder(out or _default_out(study_file))
    options = dict(study.check)
    with (
        folder.locked(),
        _built(study, folder.path) as model,
        opened(settings, True, folder.path, ranks.size) as tasks,
        Progress("check", show=ranks.is_root, every_task=show.verbosity() > 0) as progress,
    ):
        result = check_boundary(model, progress=progress, **tasks, **options)
        written = folder.write_result(result, "check.json")
        if ranks.is_root:
            from solidqmmm.plotting.check import plot_check

            figures = folder.write_figures({"check": plot_check(result)})
    if ranks.is_root:
        show.table(result.summary())
        show.paths([("result", [written]), ("figure", figures)])
    if not result.passed:
        raise typer.Exit(1)


@app.command()
def doctor(verbose: Verbose = 0):
    """Look at the installation: versions, MPI libraries, potentials, and a short self-test of each engine.

    Example: solidqmmm doctor
    """
    show.set_verbosity(verbose)
    if not ranks.is_root:
        return
    from solidqmmm.procedures.doctor import diagnose

    colours = {"ok": typer.colors.GREEN, "warning": typer.colors.YELLOW, "failed": typer.colors.RED}
    findings = diagnose()
    width = max(len(finding.name) for finding in findings)
    indent = width + 13
    for finding in findings:
        status = typer.style(finding.status.ljust(7), fg=colours[finding.status])
        typer.echo(
            f"  {status}  {finding.name.ljust(width)}  {show.wrapped(finding.detail, indent=indent)}"
        )
        if finding.cure:
            typer.echo(" " * indent + "-> " + show.wrapped(finding.cure, indent=indent + 3))
    if any(finding.status == "failed" for finding in findings):
        raise typer.Exit(1)


@app.command()
def cite(folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a run.")]):
    """Print the BibTeX entries of everything that a run used.

    Example: solidqmmm cite vacancy > vacancy.bib
    """
    from solidqmmm.results.provenance import Provenance

    file = folder / "provenance.json"
    if not file.is_file():
        raise SolidQMMMError(f"{folder} holds no provenance.json: expected the folder of a finished run")
    typer.echo(Provenance.load(file).bibtex(), nl=False)


# --- steps ----------------------------------------------------------------------------------------------------


def _loaded(study_file, allow_import, verbose):
    """The study that a command is given, after it has been told how much to say."""
    show.set_verbosity(verbose)
    from solidqmmm import recipebook

    return recipebook.load_study(study_file, allow_import=allow_import or ())


def _run(study, recipe, folder, tasks):
    """Everything between a folder that is ready and one that is complete."""
    with folder.withdrawn_on_failure():
        with folder.stage("build"):
            model = _built(study, folder.path)
        with model:
            told = Progress(recipe.name, show=ranks.is_root, every_task=show.verbosity() > 0)
            with folder.stage("run"), told as progress:
                result = recipe.run(model=model, workdir=folder.path, progress=progress, **tasks, **study.options)
            folder.write_result(result)
            if ranks.is_root:
                with folder.stage("figures"):
                    folder.write_figures(_drawn_cluster(model) | recipe.figures(result))
            _write_provenance(folder, study, model, result, tasks.get("executor"))  # last: it says that the run is complete
    return result


def _default_out(study_file: Path) -> Path:
    """A folder beside the caller, named after the study (study.yaml: after its folder)."""
    stem = study_file.stem
    return Path(study_file.resolve().parent.name if stem == "study" else stem)


def _built(study, log_dir):
    """The model; what a study asks for and cannot be is said in words, not in a traceback."""
    from solidqmmm.procedures.build import build_model

    try:
        return build_model(study, log_dir=log_dir)
    except (ValueError, FileNotFoundError) as error:
        raise StudyError(f"the study cannot be built: {error}") from error


def _require_region_of_study(study, study_file):
    """StudyError where the recipe places the quantum region itself: no single cluster is there to look at."""
    if study.recipe_places_region:
        raise StudyError(
            f"the recipe '{study.recipe}' places the quantum region itself, in a crystal of its own: `solidqmmm run "
            f"{study_file} --dry-run` counts its atoms, and the figures of a run show them"
        )


def _estimate(study, recipe, on_ranks):
    from solidqmmm.procedures.dry_run import estimate

    with _built(study, None) as model:
        if model.crystal is None:
            typer.echo("  nothing is computed: the numbers are known")
            return
        own = recipe.estimate(model, on_ranks, **study.options)
        show.table(estimate(model, on_ranks).rows() if own is None else own)


def _drawn_cluster(model) -> dict:
    if model.cluster is None:
        return {}
    from solidqmmm.plotting.cluster import draw_cluster

    return {"cluster": draw_cluster(model.cluster, model.crystal)}


def _write_provenance(folder, study, model, result, executor):
    from solidqmmm.results.provenance import Provenance

    folder.write_provenance(
        Provenance.collected(
            seeds={"study": study.seed},
            checksums=model.checksums() | study.checksums(),
            references=[*model.references(), *result.METHOD_REFERENCES],
            wall_time_s=folder.seconds,
            mpi_ranks=ranks.size,
            potential_files=study.potential_files(),
            settings={
                "qm": study.qm,
                "coupling": study.as_mapping().get("coupling") if study.qm else None,
                **division_of_ranks(),
                **({} if executor is None else {"executor": executor.settings.model_dump(exclude_none=True)}),
            },
        )
    )


def _conclude(result, folder):
    show.table(result.summary())
    figures = sorted(folder.figures.glob("*.png")) if folder.figures.is_dir() else []
    show.paths([("result", [folder.result_file]), ("figures", figures)])


# --- the entry ------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Entry of the command `solidqmmm`: sets up the process, runs a command, ends all ranks together."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # before numpy: more BLAS threads per rank make GPAW slower
    os.environ.setdefault("MPLBACKEND", "Agg")
    ranks.silence_all_but_root()
    command = shlex.join(["solidqmmm", *(sys.argv[1:] if arguments is None else arguments)])
    with interruption.watched(ended=lambda _: _interrupted(command), stopping=_stopping):
        try:
            code = app(args=arguments, prog_name="solidqmmm", standalone_mode=False)
            if code == 130:  # typer's word for a KeyboardInterrupt, of whatever signal
                _interrupted(command)
                code = interruption.exit_code()
        except SystemExit as leaving:
            code = leaving.code
        except Exception as problem:
            if hasattr(problem, "show") and hasattr(problem, "exit_code"):  # wrong usage of the command line
                problem.show()
                code = problem.exit_code
            else:
                code = ranks.leave(problem)
    with suppress(OSError, ValueError):  # a reader that has gone, as in `solidqmmm cite DIR | head`
        sys.stdout.flush()
    sys.exit(code or 0)


def _interrupted(command: str):
    """Says how to go on. Every file is whole at any time."""
    from solidqmmm.folder_lock import release_all

    release_all()
    close_all()
    _say(f"\ninterrupted; the same command goes on from here: {command}")


def _stopping(_signal):
    _say("\nstopping after the calculation in flight, which is kept; a second signal ends at once")


def _say(text: str):
    typer.secho(text, fg=typer.colors.RED, err=True)
    sys.stderr.flush()


if __name__ == "__main__":
    main()
