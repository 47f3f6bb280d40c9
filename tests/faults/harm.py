"""What can happen to a run, done to it at random; and whether the run was as if nothing had happened, in the end."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from faults.studies import prepare

from solidqmmm.runtime import environment_for_subprocess

# What two runs may differ in: times, and how much was read instead of computed.
TIMES = ("seconds", "wall_time_s", "wall_s", "engine_s", "engine_seconds", "date")
KILLS_IN_A_ROW = 4
PATIENCE = 900.0
"""Seconds after which a run counts as one that hangs."""
CODES = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
ENGINE_FAULTS = ("dies", "killed", "hangs", "program", "library", "locked", "deaf", "energy", "forces")
LIMITED = """
import resource, sys
from solidqmmm.runtime import prepare_engines
prepare_engines()  # MPI has files of its own in memory
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
from solidqmmm.cli import main
main(sys.argv[2:])
"""


@dataclass
class Counts:
    """Of one kind of fault in one study."""

    injected: int = 0
    recovered: int = 0
    lost: int = 0
    different: int = 0
    words: list[str] = field(default_factory=list)


class Victim:
    """A study in a folder, and its run that nobody disturbs.

    Args:
        folder: Where everything is.
        name: Of the study.
        ranks: MPI ranks.
        dice: Whatever is drawn at random.
    """

    def __init__(self, folder: Path, name: str, ranks: int, dice: random.Random):
        self.folder, self.name, self.ranks, self.dice = folder, name, ranks, dice
        self.counts, self.runs = Counts(), 0
        self.command = [sys.executable, "-m", "solidqmmm"]
        prepare(folder, name, **self._calculator("none", 0))
        self.whole = folder / f"{name}_whole"
        run = self.start(self.whole)
        begin = self.at_work(run, self.whole)
        code, err = ended(run)
        if code != 0:
            raise SystemExit(f"{name} fails without any fault:\n{err}")
        self.duration = time.monotonic() - begin

    def _calculator(self, fault: str, call: int) -> dict:
        marker = str(self.folder / "failed")
        return {"fault": fault, "call": call, "marker": marker} if self.name == "copper" else {}

    def new(self) -> Path:
        """A run folder that is not there yet."""
        self.runs += 1
        return self.folder / f"{self.name}_{self.runs}"

    def start(self, out: Path, command=None, **variables) -> subprocess.Popen:
        words = [*(command or self.command), "run", f"{self.name}.yaml", "--out", str(out)]
        words += ["--allow-import", "calculators"] if self.name == "copper" else []
        launcher = [str(Path(sys.prefix, "bin/mpiexec")), "-n", str(self.ranks)] if self.ranks > 1 else []
        here = str(Path(__file__).parent)
        environment = environment_for_subprocess() | variables
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [here, environment.get("PYTHONPATH")]))
        return subprocess.Popen(
            [*launcher, *words], cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env=environment, start_new_session=True,
        )  # fmt: skip

    def at_work(self, run: subprocess.Popen, out: Path) -> float:
        """The time when a run has taken its folder; what comes before is the start of Python."""
        while run.poll() is None:
            with suppress(OSError, ValueError):
                pid = json.loads((out / ".lock").read_text())["pid"]
                if pid in family_of(run.pid):
                    break
            time.sleep(0.01)
        return time.monotonic()

    def disturbed(self, out: Path, number: int) -> int | None:
        """Starts a run and sends it a signal at a random moment; its exit code, None if it was faster."""
        run = self.start(out)
        begin = self.at_work(run, out)
        try:
            run.wait(timeout=self.dice.uniform(0.0, 1.0) * self.duration)
        except subprocess.TimeoutExpired:
            family = family_of(run.pid)
            self._send(run, number, family)
            code, err = ended(run, family)
            if self.ranks == 1 and code not in (CODES[number], 0):
                self.counts.words.append(f"{out.name}: exit code {code} after signal {number}: {err.strip()[-300:]}")
            return code
        ended(run)
        self.duration = 0.5 * (self.duration + time.monotonic() - begin)
        return None

    def _send(self, run: subprocess.Popen, number: int, family: list[int]):
        """On several ranks a kill is for one of them, the launcher or all, as it happens."""
        chosen = [run.pid]
        if self.ranks > 1 and number == signal.SIGKILL:
            chosen = self.dice.choice([chosen, *([pid] for pid in family if is_python(pid)), family])
        for pid in chosen:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def concluded(self, out: Path, faults: int, before: dict | None = None):
        """Gives the command once more and leaves it alone: counts how that ends."""
        counts, before = self.counts, contents(out) if before is None else before
        code, err = ended(self.start(out))
        if "no checkpoint of a dynamics run" in err:  # what the message says
            (out / "checkpoint.npz").unlink()
            code, err = ended(self.start(out))
        counts.lost += lost(before, contents(out), counts.words)
        counts.injected += faults
        if code == 0 and same_result(self.whole, out, counts.words):
            counts.recovered += faults
        elif code != 0:
            counts.words.append(f"{out.name}: exit code {code}: {err.strip()[-500:]}")
        trajectory = self.whole / "trajectory.xyz"
        if trajectory.exists() and (code != 0 or trajectory.read_bytes() != (out / "trajectory.xyz").read_bytes()):
            counts.different += 1
            counts.words.append(f"{out.name}: another trajectory")


# --- kinds ----------------------------------------------------------------------------------------------------------


def killed(victim: Victim, times: int):
    """SIGKILL, up to four in a row before the run is left alone."""
    _signalled(victim, times, lambda: signal.SIGKILL)


def stopped(victim: Victim, times: int):
    """SIGTERM or SIGINT, in the same way."""
    _signalled(victim, times, lambda: victim.dice.choice([signal.SIGTERM, signal.SIGINT]))


def _signalled(victim: Victim, times: int, draw):
    while victim.counts.injected < times:
        out, here = victim.new(), 0
        while here < min(KILLS_IN_A_ROW, times - victim.counts.injected):
            before = contents(out)
            if victim.disturbed(out, draw()) is None:
                break
            here += 1
            victim.counts.lost += lost(before, contents(out), victim.counts.words)
        if here:
            victim.concluded(out, here)


def truncated(victim: Victim, times: int):
    """A file of a killed run, or of a finished one, loses its end."""
    while victim.counts.injected < times:
        out = victim.new()
        if victim.dice.random() < 0.7:
            victim.disturbed(out, signal.SIGKILL)
        else:
            ended(victim.start(out))
        files = [path for path in out.rglob("*") if path.suffix in (".npz", ".json", ".h5") and path.name[0] != "."]
        if not files:
            continue
        chosen = victim.dice.choice(sorted(files))
        before = {path: content for path, content in contents(out).items() if path != chosen}
        os.truncate(chosen, int(victim.dice.random() * chosen.stat().st_size))
        victim.concluded(out, 1, before)


def full(victim: Victim, times: int):
    """No file may grow beyond a random size; the command ends with words about it, or does without."""
    largest = max(path.stat().st_size for path in victim.whole.rglob("*") if path.is_file())
    for _ in range(times):
        out, size = victim.new(), int(largest * victim.dice.random() ** 2)
        code, err = ended(victim.start(out, [sys.executable, "-c", LIMITED, str(size)]))
        if code not in (0, 1) or (code == 1 and "the same command goes on" not in err) or "Traceback" in err:
            victim.counts.words.append(f"{out.name}: exit code {code} on a full disk: {err.strip()[-300:]}")
        victim.concluded(out, 1)


def lost_atoms(victim: Victim, times: int):
    """An atom is thrown out of the crystal between two checkpoints; LAMMPS ends the run."""
    for _ in range(times):
        out, marker = victim.new(), victim.folder / f"kicked_{victim.runs}"
        step = 25 * victim.dice.randrange(11) + victim.dice.choice([5, 10, 15, 20])
        code, err = ended(victim.start(out, FAULTS_KICK=f"{step} {marker}"))
        if code != 1 or "last good state" not in err:
            victim.counts.words.append(f"{out.name}: exit code {code} with a lost atom: {err.strip()[-300:]}")
        victim.concluded(out, 1)


def engine_fails(victim: Victim, times: int):
    """Each fault of `calculators` in turn, at a random call."""
    for k in range(times):
        fault, out = ENGINE_FAULTS[k % len(ENGINE_FAULTS)], victim.new()
        (victim.folder / "failed").unlink(missing_ok=True)
        prepare(victim.folder, victim.name, **victim._calculator(fault, victim.dice.randint(1, 3)))
        code, err = ended(victim.start(out))
        silent = fault in ("killed", "locked")
        if code == 0 or not (silent or "error: " in err or "has not answered" in err) or ("Traceback" in err and not silent):
            victim.counts.words.append(f"{out.name}: exit code {code} where the engine {fault}: {err.strip()[-300:]}")
        victim.concluded(out, 1)


KINDS = {
    "SIGKILL": killed, "SIGTERM, SIGINT": stopped, "file truncated": truncated, "disk full": full,
    "lost atoms": lost_atoms, "engine fails": engine_fails,
}  # fmt: skip


# --- how it ends ----------------------------------------------------------------------------------------------------


def ended(run: subprocess.Popen, family=()) -> tuple[int, str]:
    """Exit code and what was said, when the run's family is gone; a run that hangs is killed, with all of its processes."""
    try:
        _, err = run.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        for pid in family_of(run.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _, err = run.communicate()
        return -1, f"it hung for {PATIENCE:g} s, and was killed: {err}"
    deadline = time.monotonic() + 30.0
    while any(map(is_python, family)) and time.monotonic() < deadline:  # ranks that are on their way out
        time.sleep(0.05)
    return run.returncode, err


def family_of(pid: int) -> list[int]:
    """A process and all that come from it."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, IndexError, ValueError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    family = [pid]
    for one in family:
        family += [child for child, parent in parents.items() if parent == one]
    return family


def is_python(pid: int) -> bool:
    """Whether a process lives and runs Python."""
    with suppress(OSError):
        return b"python" in Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0]
    return False


def contents(out: Path) -> dict[Path, bytes]:
    """Finished pieces: evaluations and records; they are never written twice."""
    return {path: path.read_bytes() for path in out.rglob("*.npz") if path.name[0] != "." and path.name != "checkpoint.npz"}


def lost(before: dict, after: dict, words: list[str]) -> int:
    """How many finished pieces are gone or other ones."""
    gone = [path for path, content in before.items() if after.get(path) != content]
    words += [f"lost: {path.name} in {path.parent}" for path in gone]
    return len(gone)


def same_result(one: Path, other: Path, words: list[str]) -> bool:
    """Whether two folders hold the same result, but for times; if not, the first differences are words."""
    first, second = (without_times(json.loads((out / "result.json").read_text())) for out in (one, other))
    found = [f"{key} {str(a)[:60]} / {str(b)[:60]}" for key, a, b in differences(first, second)]
    if found:
        words.append(f"{other.name} differs in {'; '.join(found[:4])}")
    return not found


def differences(first, second, key: str = ""):
    """Keys and values that two results do not share."""
    if isinstance(first, dict) and isinstance(second, dict):
        for name in {**first, **second}:
            yield from differences(first.get(name), second.get(name), f"{key}.{name}".strip("."))
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        for k, pair in enumerate(zip(first, second, strict=True)):
            yield from differences(*pair, f"{key}[{k}]")
    elif first != second:
        yield key, first, second


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value
