"""Engines that hang, die or give numbers that are none, in runs: a clear end, nothing lost, and the same command goes on."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import embedding_cases
import launching
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from faults.harm import same_result
from test_dynamics import hybrid

from solidqmmm.engines import guarded as guard
from solidqmmm.engines.classical_field import ClassicalFieldEngine
from solidqmmm.engines.factory import SETTINGS, make_engine
from solidqmmm.engines.guarded import guarded
from solidqmmm.engines.journal import journaled
from solidqmmm.engines.lammps import LammpsEngine
from solidqmmm.engines.protocols import FieldEvaluation, PotentialEvaluation
from solidqmmm.errors import EngineError
from solidqmmm.procedures.records import fingerprint
from solidqmmm.runtime import environment_for_subprocess
from solidqmmm.system.potential import Potential

HERE = Path(__file__).resolve().parent / "faults"
COPPER = {
    "recipe": "defect_relaxation",
    "structure": {"file": "Cu.cif"},
    "supercell": [3, 3, 3],
    "defect": {"kind": "vacancy", "site": 0},
    "host": {"pair_style": "eam/alloy", "pair_coeff": ["* * AlCu.eam.alloy Cu"], "species": ["Cu"]},
    "region": {"core": {"hops": 1}, "buffer": {"hops": 1}},
    "caps": {"kind": "none"},
    "coupling": "force_mixing",
}
# Steps of `guarded` follow each other faster here.
MAIN = """
import sys
from solidqmmm.engines import guarded
guarded.GRACE = 1.5
from solidqmmm.cli import main
main(sys.argv[1:])
"""


@pytest.fixture
def folder(tmp_path):
    bulk("Cu", a=3.615, cubic=True).write(tmp_path / "Cu.cif")
    return tmp_path


def study(folder, fault, *, call=3, timeout_s=4.0, **changes):
    qm = {
        "engine": "ase", "calculator": "calculators:Faulty",
        "arguments": {"fault": fault, "call": call, "marker": str(folder / "failed")}, "timeout_s": timeout_s,
    }  # fmt: skip
    (folder / "study.yaml").write_text(json.dumps({**COPPER, "qm": qm, **changes}))


def command(ranks=1, out="out"):
    words = [sys.executable, "-c", MAIN, "run", "study.yaml", "--out", out, "--allow-import", "calculators"]
    return launching.on_ranks(ranks, *words)


def environment():
    return environment_for_subprocess() | {"PYTHONPATH": str(HERE)}


def run(folder, ranks=1, out="out"):
    return subprocess.run(
        command(ranks, out), cwd=folder, capture_output=True, text=True, timeout=300, check=False, env=environment()
    )


def goes_on(folder, ranks=1):
    """The same command finishes, with what was computed before, and with the result of a run that nothing disturbed."""
    kept = {path: path.read_bytes() for path in (folder / "out/journal").glob("*.npz")}
    done = run(folder, ranks)
    assert done.returncode == 0, done.stderr
    for path, content in kept.items():
        assert path.read_bytes() == content
    assert run(folder, ranks, out="undisturbed").returncode == 0
    words = []
    assert same_result(folder / "undisturbed", folder / "out", words), words
    return len(kept)


# --- the watch ----------------------------------------------------------------------------------------------------

PAIR = Atoms("Si2", [[0, 0, 0], [2.3, 0, 0]])


class Slow:
    """An engine that takes its time, in whatever way."""

    name, provides_stress = "slow", False

    def __init__(self, wait):
        self.wait, self.calls = wait, 0

    def evaluate(self, atoms, *, stress=False):
        del stress
        self.calls += 1
        self.wait()
        return replace(_FIELD, energy=-1.0, forces=np.zeros((len(atoms), 3)))


_FIELD = FieldEvaluation(
    energy=0.0, forces=np.zeros((2, 3)), stress=np.eye(3), charge_forces=np.zeros((3, 3)), potentials=np.zeros(3),
    fields=np.zeros((3, 3)), core_forces=np.zeros((1, 3)),
)  # fmt: skip
_POTENTIALS = PotentialEvaluation(
    energy=0.0, forces=np.zeros((2, 3)), site_potentials=np.zeros(2), planar_potentials=(np.zeros(4),) * 3
)


def test_whoever_is_in_time_is_left_alone():
    """Also where engines ask themselves; afterwards no alarm is set and no handler left."""
    handlers = [signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGURG)]
    engine = guarded(Slow(lambda: None), 30.0)
    asked, engine.wait = engine.evaluate, lambda: engine.calls < 2 and asked(PAIR)
    for _ in range(200):
        assert engine.evaluate(PAIR).energy == -1.0
    assert engine.calls == 201
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert [signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGURG)] == handlers
    time.sleep(0.05)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("time limit")]


def test_a_copy_with_other_settings_asks_itself():
    """As `GPAWEngine.with_settings` makes them for unit cells and other cutoffs."""
    engine = guarded(Slow(lambda: None), 30.0)
    other = copy.copy(engine)
    other.calls = 0
    other.evaluate(PAIR)
    assert (engine.calls, other.calls) == (0, 1)
    assert isinstance(engine, Slow)


def test_what_waits_in_python_is_interrupted():
    engine = guarded(Slow(lambda: time.sleep(30)), 0.3, "some/folder")
    for _ in range(2):
        begun = time.monotonic()
        with pytest.raises(EngineError, match=r"slow has not answered `evaluate` for 2 atoms within 0\.3 s") as caught:
            engine.evaluate(PAIR)
        assert time.monotonic() - begun < 5
        assert caught.value.directory == Path("some/folder")
    engine.wait = lambda: None
    assert engine.evaluate(PAIR).energy == -1.0


def test_an_answer_that_comes_late_but_comes_is_taken():
    """It was not to be interrupted, and has been paid for."""

    def deaf():
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            with suppress(EngineError):
                time.sleep(0.1)

    assert guarded(Slow(deaf), 0.3).evaluate(PAIR).energy == -1.0


def test_another_thread_is_interrupted_too():
    said = []

    def ask():
        try:
            guarded(Slow(lambda: [time.sleep(0.01) for _ in range(2000)]), 0.3).evaluate(PAIR)
        except EngineError as error:
            said.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join(timeout=10)
    assert "has not answered" in said[0]


def test_every_engine_has_a_limit_and_none_by_default():
    for settings in SETTINGS.values():
        assert settings.model_fields["timeout_s"].default is None
    settings = {"engine": "lammps", "pair_style": "sw", "pair_coeff": "* * Si.sw Si", "species": ["Si"], "timeout_s": 0}
    with pytest.raises(ValueError, match=r"qm\.timeout_s.*greater than 0"):
        make_engine(settings)


def test_records_are_good_with_another_limit():
    prints = set()
    for timeout_s in (None, 5.0, 7.0):
        with embedding_cases.model_of(qm=embedding_cases.QM | {"timeout_s": timeout_s}) as model:
            prints.add(fingerprint(model))
    assert len(prints) == 1


def answering(engine, evaluate):
    """The engine, of a kind that answers by `evaluate(engine, atoms, ...)`."""
    engine.__class__ = type("Sick", (type(engine),), {"evaluate": evaluate})


# --- numbers that are none ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", guard._NUMBERS)
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_an_answer_with_numbers_that_are_none_is_refused(name, wrong, tmp_path):
    whole = _POTENTIALS if name == "site_potentials" else _FIELD
    assert guard.not_finite(whole) is None
    value = np.array(getattr(whole, name), dtype=float)
    value.flat[-1] = wrong
    engine = Slow(lambda: None)
    engine.describe = dict
    answering(engine, lambda *_, **__: replace(whole, **{name: float(value) if value.ndim == 0 else value}))
    kept = journaled(engine, tmp_path)
    kept.evaluate(PAIR)
    assert not list(tmp_path.iterdir())
    with pytest.raises(EngineError, match=rf"slow gave numbers that are not finite: {name.replace('_', ' ')}"):
        guarded(engine).evaluate(PAIR)


@pytest.mark.parametrize("watched", [True, False])
@pytest.mark.parametrize("name", ["energy", "forces"])
@pytest.mark.parametrize("scheme", ["subtractive", "force_mixing"])
def test_no_coupling_lets_them_through(scheme, name, watched):
    """With the watch that every engine of a study has, and without it; force mixing does not use the energy."""

    def sick(engine):
        ask = engine.evaluate
        wrong = {name: np.nan if name == "energy" else np.full((17, 3), np.nan)}
        answering(engine, lambda _, *atoms, **options: replace(ask(*atoms, **options), **wrong))
        return guarded(engine) if watched else engine

    if scheme == "force_mixing" and name == "energy" and not watched:
        return
    with pytest.raises(EngineError, match="finite"), hybrid(scheme, wrap=sick) as qmmm:
        qmmm.forces()


@pytest.mark.parametrize("name", ["energy", "forces", "charge_forces", "potentials"])
@pytest.mark.parametrize("embedding", ["electrostatic", "polarizable"])
def test_no_embedding_lets_them_through(embedding, name, monkeypatch):
    ask = ClassicalFieldEngine.evaluate_in_field

    def sick(*arguments, **options):
        found = ask(*arguments, **options)
        return replace(found, **{name: np.nan if name == "energy" else np.full_like(getattr(found, name), np.nan)})

    monkeypatch.setattr(ClassicalFieldEngine, "evaluate_in_field", sick)
    words = f"classical_field gave numbers that are not finite: {name.replace('_', ' ')}"
    with embedding_cases.model_of(embedding) as model, pytest.raises(EngineError, match=words), model.open() as qmmm:
        qmmm.forces()


def test_a_stress_that_is_none_ends_a_strained_cell():
    potential = Potential("sw", "* * Si.sw Si", "Si")
    with LammpsEngine(potential) as engine:
        ask = engine.evaluate
        answering(engine, lambda _, *atoms, **options: replace(ask(*atoms, **options), stress=np.full((3, 3), np.nan)))
        with pytest.raises(EngineError, match="not finite: stress"):
            guarded(engine).evaluate(bulk("Si"), stress=True)


# --- runs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "ranks"),
    [
        ("program", 1),
        pytest.param("hangs", 2, marks=pytest.mark.slow),
        pytest.param("deaf", 1, marks=pytest.mark.slow),
        pytest.param("library", 1, marks=pytest.mark.slow),
        pytest.param("library", 2, marks=pytest.mark.slow),
    ],
)
def test_an_engine_that_hangs_ends_the_run(folder, fault, ranks):
    study(folder, fault)
    begun = time.monotonic()
    done = run(folder, ranks)
    assert time.monotonic() - begun < 60
    assert done.returncode == 1, done.stderr
    assert "the engine ase (Faulty) has not answered `evaluate` for" in done.stderr
    assert "within 4 s (`qm.timeout_s`)" in done.stderr
    assert "run folder: out" in done.stderr
    assert "the same command goes on" in done.stderr
    assert ("It could not be interrupted" in done.stderr) == (fault in ("library", "deaf"))
    assert "Traceback" not in done.stderr
    assert done.stderr.count("has not answered") == 1
    if fault == "program":
        with pytest.raises(ProcessLookupError):
            os.kill(int((folder / "failed").read_text()), 0)
    study(folder, fault, timeout_s=100.0)  # may be changed
    assert goes_on(folder, ranks) == 2


@pytest.mark.slow
def test_a_library_that_lets_nothing_else_run(folder):
    """The operating system ends it, and Python says where it was."""
    study(folder, "locked")
    done = run(folder)
    assert done.returncode == -signal.SIGALRM
    assert "calculators.py" in done.stderr
    assert goes_on(folder) == 2


@pytest.mark.parametrize(
    ("fault", "ranks", "words"),
    [
        pytest.param("dies", 1, "Faulty says: CalledProcessError", marks=pytest.mark.slow),
        pytest.param("energy", 1, "finite", marks=pytest.mark.slow),
        pytest.param("forces", 2, "finite", marks=pytest.mark.slow),
        ("killed", 2, ""),
    ],
)
def test_an_engine_that_fails_ends_the_run(folder, fault, ranks, words):
    """A rank that is killed takes the others with it; its lock is no obstacle."""
    study(folder, fault, timeout_s=60.0)
    done = run(folder, ranks)
    assert done.returncode != 0
    if fault != "killed":
        assert done.returncode == 1
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert goes_on(folder, ranks) == 2
