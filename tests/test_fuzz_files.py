"""Whatever stands in a file that a user hands in or a run has left, it is read, or refused with the error meant for it.

`FUZZ_EXAMPLES=20000` looks longer than a test suite should. What was found stands below as cases of its own.
"""

from __future__ import annotations

import json
import os
import warnings
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from solidqmmm.engines import journal
from solidqmmm.engines.protocols import (
    Contribution,
    Evaluation,
    FieldEvaluation,
    Induced,
    PotentialEvaluation,
)
from solidqmmm.errors import SolidQMMMError, StructureError, StudyError
from solidqmmm.procedures.charged_defects.charge_states import charge_states, read_states
from solidqmmm.procedures.charged_defects.size_series import extrapolate_table
from solidqmmm.procedures.motion.checkpoint import DynamicsState
from solidqmmm.procedures.records import Records
from solidqmmm.results.base import Result
from solidqmmm.results.dynamics import DynamicsResult
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.energy_table import read_energies
from solidqmmm.system.lammps_lines import require_command, require_plain, require_style
from solidqmmm.system.site_potentials import read_site_potentials

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "30"))
FAST = settings(
    max_examples=EXAMPLES, deadline=None, derandomize="FUZZ_EXAMPLES" not in os.environ, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
NOISE = [
    b"-", b"1e400", b"nan", b"99999", b"-1", b"0", b"Xx", b"\n\n", b"{", b"[" * 3000, b"null", b'"', b"\x00", b"\xff\xfe",
    b",", b"1e5000", b"\xed\xa0\x80", b"true", b"{}", b"[]", b"  ",
]  # fmt: skip


@st.composite
def mutilated(draw, original: bytes):
    """A file that was cut, patched, doubled in part, or whose bits have flipped."""
    content = bytearray(original)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(content)))
        kind = draw(st.sampled_from(["cut", "patch", "insert", "repeat", "drop", "flip"]))
        gone = draw(st.integers(1, 40))
        if kind == "cut":
            del content[at:]
        elif kind == "drop":
            del content[at : at + gone]
        elif kind == "repeat":
            content[at:at] = content[at : at + gone] * draw(st.integers(1, 3))
        elif kind == "flip" and at < len(content):
            content[at] ^= 1 << draw(st.integers(0, 7))
        else:
            noise = draw(st.sampled_from(NOISE) | st.binary(max_size=8))
            content[at : at + (gone if kind == "patch" else 0)] = noise
    return bytes(content)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


# --- structures of every format --------------------------------------------------------------------------------------

BY_PYMATGEN = {"a.cif": "cif", "a.mcif": "mcif", "POSCAR": "poscar", "a.json": "json", "a.yaml": "yaml", "a.xsf": "xsf",
               "a.cssr": "cssr", "a.prismatic": "prismatic", "atom.config": "pwmat", "a.res": "res"}  # fmt: skip
BY_ASE = {
    "a.xyz": "extxyz", "a.traj": "traj", "a.cube": "cube", "a.pdb": "proteindatabank", "a.gen": "gen", "a.in": "aims",
    "a.data": "lammps-data", "a.struct": "struct", "a.pwi": "espresso-in", "a.cfg": "cfg", "XDATCAR": "vasp-xdatcar",
    "a.xsd": "xsd", "a.shelx": "res", "a.g96": "gromos", "a.gro": "gromacs", "a.xtl": "mustem", "a.vti": "vti",
    "a.rmc6f": "rmc6f", "a.cell": "castep-cell", "coord": "turbomole", "a.com": "gaussian-in", "CONFIG": "dlp4",
    "a.sys": "sys", "a.con": "eon", "a.ascii": "v-sim", "a.nwi": "nwchem-in", "a.db": "db",
}  # fmt: skip
FORMATS = [*BY_PYMATGEN, *BY_ASE]


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """One whole file of every format; those that the installed ASE does not write are left out."""
    silicon, found = Crystal.of(bulk("Si", cubic=True)), {}
    whole = tmp_path_factory.mktemp("whole")
    for name, kind in BY_PYMATGEN.items():
        with suppress(Exception):
            found[name] = str(silicon.to_structure().to(fmt=kind)).encode()
    for name, kind in BY_ASE.items():
        with warnings.catch_warnings(), suppress(Exception):
            warnings.simplefilter("ignore")
            ase.io.write(whole / name, silicon.to_atoms(), format=kind)
            found[name] = (whole / name).read_bytes()
    return found


def structure_refused_or_read(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with suppress(StructureError):
            crystal = Crystal.of(path)
            assert len(crystal) > 0
            assert np.isfinite(crystal.positions).all()
            assert np.isfinite(crystal.cell).all()


def test_many_formats_are_looked_at(originals):
    assert len(originals) > 20


@pytest.mark.parametrize("name", FORMATS)
@settings(FAST, max_examples=max(EXAMPLES // 10, 1))
@given(data=st.data())
def test_structures(folder, originals, name, data):
    if name not in originals:
        pytest.skip(f"nobody here writes {name}")
    path = folder / name
    path.write_bytes(data.draw(mutilated(originals[name])))
    structure_refused_or_read(path)


# --- tables of numbers ------------------------------------------------------------------------------------------------

CSV = b"label,n_atoms,energy_eV,length_A,error_eV\n2,64,5.1,8.42,0.01\n3,216,5.6,12.63,0.01\n4,512,5.9,16.84,0.02\n"
POINTS = [
    {"label": str(n), "n_atoms": 8 * n**3, "energy_eV": 7 - 4 / n, "cell_A": (4.21 * n * np.eye(3)).tolist()}
    for n in (2, 3, 4)
]
JSON = json.dumps({"points": POINTS}).encode()
STATES = b"defect,charge,energy_eV,error_eV\nV_O,0,7.1,0.1\nV_O,1,3.2,0.1\nV_O,2,-1.4,0.2\n"
POTENTIALS = json.dumps({
    "defect_position_A": [0, 0, 0], "positions_A": [[1, 0, 0], [0, 1, 0]], "defect_V": [0.1, 0.2], "bulk_V": [0.0, 0.1],
    "planar_V": {"0": {"defect": [0.1, 0.2], "bulk": [0.0, 0.1]}},
}).encode()  # fmt: skip


@pytest.mark.parametrize(("name", "original"), [("a.csv", CSV), ("a.json", JSON)])
@FAST
@given(data=st.data())
def test_tables_of_energies(folder, name, original, data):
    path = folder / name
    path.write_bytes(data.draw(mutilated(original)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with suppress(StudyError):
            table = read_energies(path)
            with suppress(ValueError):  # the command line names the table with it
                extrapolate_table(table, 2.0, 9.8)


@FAST
@given(data=st.data())
def test_tables_of_states(folder, data):
    path = folder / "states.csv"
    path.write_bytes(data.draw(mutilated(STATES)))
    with suppress(StudyError, ValueError):
        charge_states(read_states(path), band_gap=7.8, vbm=3.1)


@FAST
@given(data=st.data())
def test_site_potentials(folder, data):
    path = folder / "potentials.json"
    path.write_bytes(data.draw(mutilated(POTENTIALS)))
    with suppress(StudyError):
        assert np.isfinite(read_site_potentials(path).defect).all()


# --- lines for LAMMPS -------------------------------------------------------------------------------------------------

WORDS = [
    "* *", "Si.sw", "Si", "${x}", "$(v_x)", "&", "shell", "include", "python", "variable", "mliap", "unified", "out_file",
    "../x", "/etc/passwd", "~", "jump", "print", "\n", "#", '"', "kspace_style", "ewald", "1e-7", "\u2028", "\x00", "`id`",
    ";",
]  # fmt: skip


@FAST
@given(line=st.lists(st.sampled_from(WORDS) | st.text(max_size=6), max_size=6).map(" ".join))
def test_lines_that_pass_are_one_plain_line(line):
    for judge in (lambda text: require_plain(text, "pair_coeff"), require_style, require_command):
        try:
            passed = judge(line)
        except ValueError:
            continue
        assert not set(passed.strip()) & set("$&;\"'`#\\\n\r\x00\u2028")
        if judge is not require_style:
            continue
        assert not {"python", "unified", "out_file"} & set(passed.lower().replace("/", " ").split())
        assert not any(word.startswith(("/", "~")) or ".." in word.split("/") for word in passed.split())


# --- what runs leave --------------------------------------------------------------------------------------------------

ATOMS = Atoms("Si2", [[0, 0, 0], [2.3, 0, 0]])
PLAIN = Evaluation(-1.0, np.ones((2, 3)), np.eye(3), {"seconds": 1.0})
FIELD = FieldEvaluation(
    energy=-1.0, forces=np.ones((2, 3)), info={}, charge_forces=np.ones((3, 3)), potentials=np.ones(3),
    fields=np.ones((3, 3)), induced=Induced(np.ones(3), np.ones((3, 3)), -0.1),
)  # fmt: skip
POTENTIAL = PotentialEvaluation(
    energy=-1.0, forces=np.ones((2, 3)), info={}, site_potentials=np.ones(2), planar_potentials=(np.ones(4),) * 3
)


def saved(write) -> bytes:
    with TemporaryDirectory() as folder:
        write(Path(folder, "one.npz"))
        return Path(folder, "one.npz").read_bytes()


def journal_entry(evaluation) -> bytes:
    return saved(lambda path: journal._write(path, evaluation))


def state():
    given = Contribution(np.ones((2, 3)), -1.0, np.eye(3), {"qm": -1.0})
    return DynamicsState(
        step=5, positions=np.ones((4, 3)), velocities=np.ones((4, 3)), cell=np.eye(3), settings={"seed": 1},
        numbers=np.full(4, 14), series={"step": np.arange(2.0)}, at=np.ones((2, 3)), given=given,
        kept={"thermostat": {"taken": np.ones(2), "n": 3}}, answers=((np.ones((2, 3)), given),),
    )  # fmt: skip


def read_entry(kind, path):
    read = {"plain": lambda: journal._read(path, 2, True), "field": lambda: journal._read_field(path, 2, 3)}
    return read.get(kind, lambda: journal._read_potentials(path, 2))()


ENTRIES = {"plain": PLAIN, "field": FIELD, "potentials": POTENTIAL}


@pytest.mark.parametrize("kind", ENTRIES)
@FAST
@given(data=st.data())
def test_journal_entries(folder, kind, data):
    path = folder / "entry.npz"
    path.write_bytes(data.draw(mutilated(journal_entry(ENTRIES[kind]))))
    found = read_entry(kind, path)
    if found is not None:
        assert found.energy == -1.0
        np.testing.assert_array_equal(found.forces, ENTRIES[kind].forces)


@FAST
@given(data=st.data())
def test_records(folder, data):
    path = folder / "record.npz"
    whole = saved(lambda path: Records(path.parent, "print").write("one", values=np.arange(5.0), n=3))
    path.write_bytes(data.draw(mutilated(whole)))
    found = Records(folder, "print").read("record")
    if found is not None and "values" in found:
        np.testing.assert_array_equal(found["values"], np.arange(5.0))


@FAST
@given(data=st.data())
def test_checkpoints(folder, data):
    path = folder / "checkpoint.npz"
    path.write_bytes(data.draw(mutilated(saved(lambda path: state().save(path)))))
    with suppress(SolidQMMMError):  # which says what to do, see below
        np.testing.assert_array_equal(DynamicsState.load(path).positions, np.ones((4, 3)))


@pytest.fixture(scope="module")
def result():
    found = DynamicsResult(
        ensemble="nve", n_steps=2, n_qm_calls=3, timestep_fs=1.0, times_fs=np.arange(3.0), temperature_K=np.ones(3),
        potential_energy_eV=None, total_energy_eV=None, energy_missing_reason="none", integrated_work_eV=np.zeros(3),
        n_atoms_host=8, n_atoms_qm=2, trajectory_file=None, restart_file=None, coupling="", engine="", host="",
        stop_reason=None, engine_s=None, correction_impulse_amu_A_per_ps=None, warnings=[],
    )  # fmt: skip
    return saved(lambda path: found.save(path))


@FAST
@given(data=st.data())
def test_results(folder, result, data):
    path = folder / "result.json"
    path.write_bytes(data.draw(mutilated(result)))
    with suppress(ValueError):
        Result.load(path).summary()


# --- what was found ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*ENTRIES, "record", "checkpoint"])
def test_any_byte_of_a_record_may_be_wrong(tmp_path, kind):
    """A flipped bit makes a zip archive one that is encrypted, of version 17.3 or of an unknown method."""
    path = tmp_path / "one.npz"
    if kind == "record":
        Records(tmp_path, "print").write("one", values=np.arange(5.0))
    elif kind == "checkpoint":
        state().save(path)
    else:
        path.write_bytes(journal_entry(ENTRIES[kind]))
    whole, refused = path.read_bytes(), 0
    headers = [at for at in range(len(whole)) if whole[at : at + 2] == b"PK"]
    for at in sorted({byte for header in headers for byte in range(header, min(header + 46, len(whole)))}):
        wrong = bytearray(whole)
        wrong[at] ^= 1
        path.write_bytes(wrong)
        if kind == "checkpoint":
            try:
                DynamicsState.load(path)
            except SolidQMMMError as error:
                refused += "remove it to start anew" in str(error)
        elif kind == "record":
            refused += Records(tmp_path, "print").read("one") is None
        else:
            refused += read_entry(kind, path) is None
    assert refused > 20


@pytest.mark.parametrize(
    ("read", "content", "words"),
    [
        (read_states, b"defect,charge,energy_eV\nV_O,V_O,1,3.2,0.1\n", "row 2: more values than the 3 columns"),
        (read_states, b"defect,charge,energy_eV\nV_O,1," + b"9" * 200_000 + b"\n", "field larger than"),
        (read_energies, b"label,n_atoms,energy_eV\na,1," + b"9" * 200_000 + b"\n", "field larger than"),
        (read_energies, b"[" * 100_000, "recursion"),
        (read_site_potentials, b"[" * 100_000, "recursion"),
        (read_site_potentials, b"[3]", "missing"),
    ],
)
def test_tables_that_were_no_study_errors(tmp_path, read, content, words):
    path = tmp_path / "table"
    path.write_bytes(content)
    with pytest.raises(StudyError, match=words):
        read(path)


def test_a_reader_that_never_comes_to_an_end_is_not_asked(tmp_path, originals):
    path = tmp_path / "a.nwi"
    path.write_bytes(originals["a.nwi"][:780])
    with pytest.raises(StructureError, match="files of the kind nwchem-in are not read"):
        Crystal.of(path)


@pytest.mark.parametrize("name", [".", "/dev/zero"])
def test_what_is_no_file_is_not_read(tmp_path, name):
    """The second one never ends."""
    with pytest.raises(StructureError, match="is no file"):
        Crystal.of(tmp_path / name)
