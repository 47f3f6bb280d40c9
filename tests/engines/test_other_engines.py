"""ASE calculators, LAMMPS as an engine, the journal and the factory: what is theirs alone."""

from __future__ import annotations

import signal
import subprocess
import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from cases import SW, rattled

from solidqmmm.engines.ase import ASEEngine
from solidqmmm.engines.factory import make_engine
from solidqmmm.engines.journal import JournaledEngine
from solidqmmm.engines.lammps import LammpsEngine, box_around
from solidqmmm.errors import EngineError, EnvironmentProblem
from solidqmmm.system.potential import Potential

SILICON = rattled(bulk("Si") * (2, 2, 2), 0.05)
ALUMINIUM = rattled(bulk("Al") * (2, 2, 2), 0.05)


# --- ASE --------------------------------------------------------------------------------------------------------


class Failing(Calculator):
    """Energy and forces without stress; fails when told to."""

    implemented_properties = ("energy", "forces")
    fails = False

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        if self.fails:
            raise RuntimeError("the machine is on fire")
        self.results = {"energy": 1.0, "forces": np.zeros((len(atoms), 3))}


def test_failure_of_a_calculator_keeps_its_words():
    calculator = Failing()
    engine = ASEEngine(calculator)
    assert not engine.provides_stress
    assert engine.evaluate(ALUMINIUM).energy == 1.0
    with pytest.raises(ValueError, match="no stress"):
        engine.evaluate(ALUMINIUM, stress=True)
    calculator.fails = True
    with pytest.raises(EngineError, match="Failing says: RuntimeError: the machine is on fire"):
        engine.evaluate(rattled(ALUMINIUM, 0.01))


def test_calculators_by_import_path():
    engine = ASEEngine.from_import("ase.calculators.emt:EMT", asap_cutoff=True)
    assert engine.describe()["calculator"] == "ase.calculators.emt:EMT"
    assert engine.describe()["settings"]["asap_cutoff"] is True
    with pytest.raises(ValueError, match="module, colon, class"):
        ASEEngine.from_import("ase.calculators.emt.EMT")
    with pytest.raises(ValueError, match="no calculator 'EMX'"):
        ASEEngine.from_import("ase.calculators.emt:EMX")
    with pytest.raises(EnvironmentProblem, match="no_such_package"):
        ASEEngine.from_import("no_such_package:EMT")
    with pytest.raises(ValueError, match="has no 'asap_cutof': did you mean 'asap_cutoff'"):
        ASEEngine.from_import("ase.calculators.emt:EMT", asap_cutof=True)
    with pytest.raises(TypeError, match="got the class EMT"):
        ASEEngine(EMT)
    with pytest.raises(TypeError, match="ASE calculator"):
        ASEEngine("EMT")


# --- LAMMPS -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pbc", [(1, 1, 1), (1, 1, 0), (0, 1, 0), (1, 0, 1), (0, 0, 0)])
def test_any_cell_any_handedness_any_orientation(pbc):
    atoms = bulk("Si") * (3, 3, 3)
    atoms.pbc = pbc
    atoms = rattled(atoms, 0.1)
    rng = np.random.default_rng(5)
    Q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turned = Atoms(atoms.numbers, atoms.positions @ Q, cell=atoms.cell.array @ Q, pbc=pbc)
    swapped = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell.array[[1, 0, 2]], pbc=np.array(pbc)[[1, 0, 2]])
    with LammpsEngine(SW) as engine:
        plain = engine.evaluate(atoms, stress=True)
        after = engine.evaluate(turned, stress=True)
        other = engine.evaluate(swapped, stress=True)
    assert after.energy == pytest.approx(plain.energy, abs=1e-9)
    np.testing.assert_allclose(after.forces, plain.forces @ Q, atol=1e-9)
    np.testing.assert_allclose(after.stress, Q.T @ plain.stress @ Q, atol=1e-12)
    assert other.energy == pytest.approx(plain.energy, abs=1e-9)
    np.testing.assert_allclose(other.forces, plain.forces, atol=1e-9)
    np.testing.assert_allclose(other.stress, plain.stress, atol=1e-12)


def test_cluster_needs_no_cell_and_may_fly_away():
    pair = Atoms("Si2", [[0, 0, 0], [2.3, 0, 0]])
    with LammpsEngine(SW) as engine:
        near = engine.evaluate(pair)
        pair.positions += 500.0
        far = engine.evaluate(pair)
        with pytest.raises(ValueError, match="stress needs a cell"):
            engine.evaluate(pair, stress=True)
    assert far.energy == pytest.approx(near.energy, abs=1e-9)


@pytest.mark.parametrize("pbc", [False, (False, False, True), True])
def test_an_answer_does_not_depend_on_what_was_asked_before(pbc):
    """Bit for bit, also where atoms leave their box on the way: an interrupted run goes on with a new instance."""
    random = np.random.default_rng(3)
    atoms = bulk("Si", cubic=True) * (2, 2, 2)
    atoms.pbc = pbc
    with LammpsEngine(SW) as engine:
        for _ in range(6):
            atoms.positions += random.normal(scale=0.05, size=(len(atoms), 3))
            atoms.positions[:, 1] += 2.2
            answer = engine.evaluate(atoms)
    with LammpsEngine(SW) as engine:
        alone = engine.evaluate(atoms)
    assert answer.energy == alone.energy
    np.testing.assert_array_equal(answer.forces, alone.forces)


def test_box_keeps_periodic_vectors_and_holds_the_atoms():
    atoms = bulk("Si") * (2, 2, 2)
    atoms.pbc = (False, True, False)
    cell, shift = box_around(atoms)
    np.testing.assert_allclose(cell[1], atoms.cell[1])
    assert abs(cell[0] @ cell[1]) < 1e-9
    assert abs(cell[2] @ cell[0]) < 1e-9
    fractional = (atoms.positions + shift) @ np.linalg.inv(cell)
    assert (fractional[:, [0, 2]] > 0).all()
    assert (fractional[:, [0, 2]] < 1).all()


def test_lammps_errors_in_its_own_words():
    with pytest.raises(FileNotFoundError, match=r"Nowhere\.sw"):
        LammpsEngine(Potential("sw", ("* * Nowhere.sw Si",), ("Si",)))
    with LammpsEngine(Potential("no/such/style", ("* * Si.sw Si",), ("Si",))) as engine:
        with pytest.raises(EngineError, match="Unrecognized pair style 'no/such/style'") as caught:
            engine.evaluate(SILICON)
        assert caught.value.command == "pair_style no/such/style"
    with LammpsEngine(SW) as engine:
        with pytest.raises(ValueError, match="element C is not in the potential"):
            engine.evaluate(bulk("C"))
        with pytest.raises(EngineError, match="not finite"):
            engine.evaluate(Atoms("Si2", positions=np.zeros((2, 3)), cell=[5, 5, 5], pbc=True))
        assert np.isfinite(engine.evaluate(SILICON).energy)


def test_instance_is_kept_while_nothing_but_positions_changes():
    with LammpsEngine(SW) as engine:
        assert engine.evaluate(SILICON).info["start"] == "fresh"
        assert engine.evaluate(rattled(SILICON, 0.1)).info["start"] == "warm"
        strained = SILICON.copy()
        strained.set_cell(SILICON.cell * 1.01, scale_atoms=True)
        assert engine.evaluate(strained).info["start"] == "fresh"


# --- journal ----------------------------------------------------------------------------------------------------


class Counting(ASEEngine):
    """EMT that counts its calls."""

    def __init__(self):
        super().__init__(EMT())
        self.calls = 0

    def evaluate(self, atoms, *, stress=False):
        self.calls += 1
        return super().evaluate(atoms, stress=stress)


def test_journal_reads_what_was_computed(tmp_path):
    first = JournaledEngine(Counting(), tmp_path)
    written = first.evaluate(ALUMINIUM, stress=True)
    again = JournaledEngine(Counting(), tmp_path)
    read = again.evaluate(ALUMINIUM, stress=True)
    assert (again.hits, again.evaluations, again.engine.calls) == (1, 0, 0)
    assert (first.hits, first.evaluations) == (0, 1)
    assert read.energy == written.energy
    np.testing.assert_array_equal(read.forces, written.forces)
    np.testing.assert_array_equal(read.stress, written.stress)
    assert (written.info["journal"], read.info["journal"]) == ("written", "read")


def test_journal_tells_arrangements_apart(tmp_path):
    engine = JournaledEngine(Counting(), tmp_path)
    keys = {engine.key(ALUMINIUM), engine.key(ALUMINIUM, stress=True)}
    for change in ("position", "cell", "pbc", "species", "cap_charge", "moment"):
        atoms = ALUMINIUM.copy()
        if change == "position":
            atoms.positions[0, 0] += 1e-8
        elif change == "cell":
            atoms.cell[0, 0] += 1e-8
        elif change == "pbc":
            atoms.pbc = (True, True, False)
        elif change == "species":
            atoms.numbers[0] = 29
        elif change == "cap_charge":
            atoms.set_array("cap_charge", np.full(len(atoms), 0.75))
        else:
            atoms.set_initial_magnetic_moments(np.ones(len(atoms)))
        keys.add(engine.key(atoms))
    assert len(keys) == 8
    noise = ALUMINIUM.copy()
    noise.positions += 1e-13
    assert engine.key(noise) == engine.key(ALUMINIUM)
    assert JournaledEngine(LammpsEngine(SW), tmp_path).key(ALUMINIUM) not in keys


@pytest.mark.parametrize("left", [0, 10, 300])
def test_truncated_record_is_computed_again(tmp_path, left):
    engine = JournaledEngine(Counting(), tmp_path)
    energy = engine.evaluate(ALUMINIUM).energy
    (record,) = tmp_path.glob("*.npz")
    record.write_bytes(record.read_bytes()[:left])
    assert engine.evaluate(ALUMINIUM).energy == energy
    assert engine.engine.calls == 2
    assert engine.evaluate(ALUMINIUM).info["journal"] == "read"


def test_killed_run_resumes(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(
        "import sys, os, signal\n"
        "from ase.build import bulk\n"
        "from ase.calculators.emt import EMT\n"
        "from solidqmmm.engines.ase import ASEEngine\n"
        "from solidqmmm.engines.journal import JournaledEngine\n"
        "engine = JournaledEngine(ASEEngine(EMT()), sys.argv[1])\n"
        "for i in range(5):\n"
        "    atoms = bulk('Al') * (2, 2, 2)\n"
        "    atoms.positions[0, 0] += 0.01 * i\n"
        "    engine.evaluate(atoms)\n"
        "    if len(sys.argv) > 2 and i == 2:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "print(engine.hits, engine.evaluations)\n"
    )
    folder = tmp_path / "journal"
    killed = subprocess.run([sys.executable, script, folder, "kill"], check=False)
    assert killed.returncode == -signal.SIGKILL
    resumed = subprocess.run([sys.executable, script, folder], check=True, capture_output=True, text=True)
    assert resumed.stdout.split() == ["3", "2"]
    assert not list(folder.glob("*.tmp"))


def test_journal_that_cannot_be_written_costs_nothing(tmp_path, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    engine = JournaledEngine(Counting(), blocked)
    assert np.isfinite(engine.evaluate(ALUMINIUM).energy)
    assert "was not written" in caplog.text


# --- factory ----------------------------------------------------------------------------------------------------


def test_engines_from_settings(tmp_path):
    lammps = make_engine({"engine": "lammps", "pair_style": "sw", "pair_coeff": ["* * Si.sw Si"], "species": ["Si"]})
    assert lammps.describe()["settings"]["pair_style"] == "sw"
    emt = make_engine({"engine": "ase", "calculator": "ase.calculators.emt:EMT", "arguments": {"asap_cutoff": True}})
    assert emt.describe()["settings"]["asap_cutoff"] is True
    pytest.importorskip("gpaw")
    gpaw = make_engine({"engine": "gpaw", "mode": "pw", "ecut": 300, "extra": {"random": True}}, log_dir=tmp_path)
    assert gpaw.provides_stress
    assert gpaw.log == tmp_path / "gpaw.txt"
    assert gpaw.describe()["settings"]["random"] is True


def test_potential_files_beside_the_study(tmp_path):
    source = SW.files()[0]
    (tmp_path / "mine.sw").write_text(source.read_text())
    settings = {"engine": "lammps", "pair_style": "sw", "pair_coeff": "* * mine.sw Si", "species": "Si"}
    engine = make_engine(settings, search_dirs=[tmp_path])
    assert engine.potential.files() == (tmp_path / "mine.sw",)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"engine": "gpaw", "basiss": "dzp"}, "qm.basiss: unknown key; did you mean 'basis'"),
        ({"engine": "gpaw", "h": -1.0}, "qm.h: .*greater than 0"),
        ({"engine": "gpaw", "spinpol": "perhaps"}, "qm.spinpol"),
        ({"engine": "gpaws"}, "must be one of gpaw, pyscf, lammps, ase, classical_field, got 'gpaws'"),
        ({"mode": "pw"}, "must be one of gpaw, pyscf, lammps, ase"),
        ({"engine": "lammps", "pair_stile": "sw"}, "did you mean 'pair_style'"),
        ({"engine": "ase", "calculator": "no colon"}, "qm.calculator"),
        ({"engine": "ase", "calculator": "a:B", "argument": {}}, "did you mean 'arguments'"),
    ],
)
def test_wrong_settings_name_the_key(settings, words):
    with pytest.raises(ValueError, match=words):
        make_engine(settings)


def test_all_mistakes_are_listed_at_once():
    with pytest.raises(ValueError, match="`qm` is wrong") as caught:
        make_engine({"engine": "gpaw", "basiss": "dzp", "h": -1.0, "maxiter": 0})
    assert str(caught.value).count("\n  - ") == 3


