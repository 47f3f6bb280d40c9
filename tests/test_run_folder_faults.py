"""Run folders under bad luck: two processes, killed ones, full disks, truncated files; nothing is lost without a word."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from ase.build import bulk
from launching import on_ranks

from solidqmmm.errors import SolidQMMMError
from solidqmmm.folder_lock import FolderLock
from solidqmmm.plotting.style import save_figure
from solidqmmm.results.base import Result, write_atomically
from solidqmmm.runtime import environment_for_subprocess
from solidqmmm.system.whole_file import sweep, written_whole

RECIPE = '''
"""Numbers: a result of a hundred kilobytes."""
from dataclasses import dataclass
from pathlib import Path
import numpy as np
from solidqmmm.results.base import Result

@dataclass(frozen=True, eq=False, kw_only=True)
class Numbers(Result):
    n_atoms: int
    values: np.ndarray

def run(*, model, workdir=None, progress=None) -> Numbers:
    with (Path(workdir) / "called.log").open("a") as file:
        file.write("x")
    return Numbers(n_atoms=len(model.crystal), values=np.random.default_rng(1).random(5000))
'''
STUDY = "recipe: numbers_recipe.py\nstructure: {file: POSCAR}\n"
STUDY += 'host: {pair_style: sw, pair_coeff: ["* * Si.sw Si"], species: [Si]}\n'
STUDY_WITH_A_CLUSTER = """
recipe: single_point
structure: {file: POSCAR}
supercell: [3, 3, 3]
host: {pair_style: sw, pair_coeff: ["* * Si.sw Si"], species: [Si]}
qm: {engine: lammps, pair_style: tersoff, pair_coeff: "* * Si.tersoff Si", species: [Si]}
region: {core: {radius: 1.0}, buffer: {hops: 1}, centre: {site: 0}}
caps: {kind: none}
coupling: force_mixing
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    bulk("Si", cubic=True).write(tmp_path / "POSCAR", format="vasp")
    (tmp_path / "numbers_recipe.py").write_text(RECIPE)
    (tmp_path / "study.yaml").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- one process at a time ------------------------------------------------------------------------------------------


def test_the_second_process_is_told_who_the_first_is(folder, call):
    with FolderLock(folder / "out"):
        code, _, err = call("run", "study.yaml", "--out", "out")
        assert code == 1
        assert "another run is at work in out" in err
        assert f"process {os.getpid()}, host {socket.gethostname()}, since 20" in err
        assert "give another folder with --out" in err
        assert "Traceback" not in err
        assert [path.name for path in (folder / "out").iterdir()] == [".lock"]
        assert call("check", "study.yaml", "--out", "out")[0] == 1
    assert not list((folder / "out").iterdir())
    code, _, err = call("run", "study.yaml", "--out", "out")
    assert code == 0, err
    assert not (folder / "out/.lock").exists()


HOLDING = """
import sys
from solidqmmm.folder_lock import FolderLock
from solidqmmm.plotting.style import save_figure
lock = FolderLock(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path):
    command = [sys.executable, "-c", HOLDING, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(SolidQMMMError, match=f"process {holder.pid}, host"):
            FolderLock(tmp_path)
        holder.kill()
    assert (tmp_path / ".lock").exists()
    with FolderLock(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
        with pytest.raises(SolidQMMMError, match="another run is at work"):
            FolderLock(tmp_path)
    assert not (tmp_path / ".lock").exists()


def test_the_lock_of_a_killed_process_that_nobody_has_buried(tmp_path):
    """Killed with its parent, in a container whose first process does not ask for orphans."""
    command = [sys.executable, "-c", HOLDING, str(tmp_path)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    os.kill(holder.pid, signal.SIGKILL)
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # it is over, and still in the list
    os.kill(holder.pid, 0)
    FolderLock(tmp_path).release()
    holder.communicate()


def test_what_another_host_left_is_for_its_user_to_judge(folder, call):
    (folder / "out").mkdir()
    left = {"host": "node17", "pid": 4711, "since": "2020-01-01T00:00:00+00:00"}
    (folder / "out/.lock").write_text(json.dumps(left))
    code, _, err = call("run", "study.yaml", "--out", "out")
    assert code == 1
    assert "process 4711, host node17, since 2020-01-01" in err
    assert "remove out/.lock and give the same command again" in err
    (folder / "out/.lock").unlink()
    assert call("run", "study.yaml", "--out", "out")[0] == 0


@pytest.mark.parametrize("content", ["", "{", "[]", "\x00\x00", '{"host": 3}'])
def test_a_lock_that_a_crash_left_half_written(tmp_path, content):
    (tmp_path / ".lock").write_text(content)
    if "host" in content:
        with pytest.raises(SolidQMMMError, match=r"\.lock"):
            FolderLock(tmp_path)
    else:
        FolderLock(tmp_path).release()


def test_where_the_file_system_knows_no_locks(tmp_path, monkeypatch):
    """The process number decides, with the time of its start: numbers come again."""
    import errno
    import fcntl

    def unknown(*_):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", unknown)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        from solidqmmm.folder_lock import _born

        holder = {"host": socket.gethostname(), "pid": other.pid, "born": _born(other.pid)}
        (tmp_path / ".lock").write_text(json.dumps(holder))
        with pytest.raises(SolidQMMMError, match=f"process {other.pid}"):
            FolderLock(tmp_path)
        (tmp_path / ".lock").write_text(json.dumps(holder | {"born": "1"}))
        FolderLock(tmp_path).release()
        other.communicate(b"\n")
    (tmp_path / ".lock").write_text(json.dumps(holder))
    FolderLock(tmp_path).release()


def test_two_ranks_are_refused_together(folder):
    with FolderLock(folder / "out"):
        done = run("out", ranks=2)
    assert done.returncode == 1
    assert done.stderr.count("another run is at work") == 1


# --- whole or not at all --------------------------------------------------------------------------------------------


def test_a_failed_write_leaves_what_was_there(tmp_path):
    write_atomically(tmp_path / "a.json", "before")

    def interrupted():
        with written_whole(tmp_path / "a.json") as file:
            file.write_text("half of the")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "before"


def test_what_killed_processes_left_is_swept_away(folder, call):
    for name in (".result.json.123.tmp", "journal/.abc.npz.77.tmp"):
        (folder / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "out" / name).write_text("half")
    (folder / "out/notes.tmp").write_text("the user's own")
    code, _, err = call("run", "study.yaml", "--out", "out")
    assert code == 0, err
    left = {str(path.relative_to(folder / "out")) for path in (folder / "out").rglob("*tmp*")}
    assert left == {"notes.tmp"}
    sweep(folder / "nowhere")


@pytest.mark.parametrize("name", ["result.json", "provenance.json"])
@pytest.mark.parametrize("length", [0, -2])
def test_truncated_files_are_noticed_and_made_again(folder, call, caplog, name, length):
    call("run", "study.yaml", "--out", "out")
    path = folder / "out" / name
    whole = path.read_bytes()
    path.write_bytes(whole[:length])
    with pytest.raises(ValueError, match="is damaged"):
        Result.load(path)
    code, out, err = call("run", "study.yaml", "--out", "out")
    assert code == 0, err
    assert f"{name} cannot be read" in caplog.text
    assert "complete, nothing to do" not in out
    assert len(Result.load(folder / "out").values) == 5000
    assert (folder / "out/called.log").read_text() == "xx"


def test_a_truncated_study_in_the_folder(folder, call):
    call("run", "study.yaml", "--out", "out")
    (folder / "out/study.yaml").write_text("")
    code, _, err = call("run", "study.yaml", "--out", "out")
    assert code == 2
    assert "out/study.yaml is damaged" in err
    assert "remove that file" in err
    (folder / "out/study.yaml").unlink()
    assert call("run", "study.yaml", "--out", "out")[0] == 0


def test_a_figure_is_whole_or_not_there(tmp_path, monkeypatch):
    import matplotlib as mpl
    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().plot([0, 1])
    for file in save_figure(figure, tmp_path / "figures/line"):
        assert file.stat().st_size > 1000
    before = {path: path.read_bytes() for path in (tmp_path / "figures").iterdir()}

    def full(self, file, **_):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mpl.figure.Figure, "savefig", full)
    with pytest.raises(OSError, match="No space"):
        save_figure(figure, tmp_path / "figures/line")
    assert {path: path.read_bytes() for path in (tmp_path / "figures").iterdir()} == before
    assert {path.suffix for path in before} == {".png", ".pdf"}


def test_a_carved_cluster_is_whole_or_not_there(folder, call, monkeypatch):
    import ase.io

    (folder / "cluster.yaml").write_text(STUDY_WITH_A_CLUSTER)
    assert call("carve", "cluster.yaml", "--out", "cut")[0] == 0
    before = {path.name: path.read_bytes() for path in (folder / "cut").iterdir()}
    assert set(before) == {"cluster.xyz", "POSCAR", "cluster.cif", "cluster.png"}
    assert len(ase.io.read(folder / "cut/POSCAR")) == len(ase.io.read(folder / "cut/cluster.cif")) == 5
    write = ase.io.write

    def full(file, *arguments, **options):
        write(file, *arguments, **options)
        os.truncate(file, 100)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ase.io, "write", full)
    code, _, err = call("carve", "cluster.yaml", "--out", "cut")
    assert code == 1, err
    assert {path.name: path.read_bytes() for path in (folder / "cut").iterdir()} == before


# --- full disks -----------------------------------------------------------------------------------------------------


def command_of(out):
    return [sys.executable, "-m", "solidqmmm", "run", "study.yaml", "--out", str(out)]


def run(out, ranks=1, command=None):
    return subprocess.run(
        on_ranks(ranks, *(command or command_of(out))), capture_output=True, text=True, timeout=120, check=False,
        env=environment_for_subprocess(),
    )  # fmt: skip


LIMITED = """
import resource, sys
from solidqmmm.runtime import prepare_engines
prepare_engines()  # MPI has files of its own in memory
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]) * 1024, resource.RLIM_INFINITY))
from solidqmmm.cli import main
main(sys.argv[2:])
"""


@pytest.mark.parametrize("kilobytes", [0, 40])
def test_files_that_may_not_grow(folder, kilobytes):
    """None at all; all but the result."""
    limited = [sys.executable, "-c", LIMITED, str(kilobytes), *command_of("out")[3:]]
    done = run("out", command=limited)
    assert done.returncode == 1, done.stderr
    assert "the file would be larger than is allowed" in done.stderr
    assert "the same command goes on" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "out/result.json").exists()
    assert not list((folder / "out").rglob(".*.tmp"))
    done = run("out")
    assert done.returncode == 0, done.stderr
    assert np.isfinite(json.loads((folder / "out/result.json").read_text())["values"]).all()


@contextmanager
def small_disk(path, kilobytes):
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root may make small disks, and not everywhere")
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


def test_a_full_disk(folder):
    with small_disk(folder / "disk", 80):
        done = run("disk/out")
        assert done.returncode == 1, done.stderr
        assert "the disk is full: make room" in done.stderr
        assert "the same command goes on" in done.stderr
        assert not (folder / "disk/out/result.json").exists()
        subprocess.run(["mount", "-o", "remount,size=4m", str(folder / "disk")], check=True)
        done = run("disk/out")
        assert done.returncode == 0, done.stderr
        assert (folder / "disk/out/result.json").exists()


def test_a_finished_run_on_a_read_only_disk_is_shown(folder):
    with small_disk(folder / "disk", 4096):
        remount = ["mount", "-o", "remount,ro", str(folder / "disk")]
        assert run("disk/out").returncode == 0
        subprocess.run(remount, check=True)
        done = run("disk/out")
        assert done.returncode == 0, done.stderr
        assert "is complete, nothing to do" in done.stdout
        assert "disk/out/result.json" in done.stdout
        for refused in (run("disk/other"), run("disk/out", command=[*command_of("disk/out"), "--force"])):
            assert refused.returncode == 1
            assert "the disk is read-only: mount it for writing, or give another folder with --out" in refused.stderr
            assert "Traceback" not in refused.stderr
