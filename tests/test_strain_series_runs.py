"""Strain series as they are run: interrupted, side by side, refused; references; what a reader is told."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.units import GPa
from elastic_cases import (
    COPPER,
    HYBRID,
    PERIODIC_LINE,
    SW,
    T3,
    T3_VACANCY,
    VACANCY,
    Noisy,
    copper,
    cubic,
    engine,
    model_of,
    silicon,
    tensors,
)
from scipy.spatial.transform import Rotation

from solidqmmm.errors import EngineError, StructureError
from solidqmmm.physics.symmetry.crystal_symmetry import turned_elastic_tensor
from solidqmmm.procedures.elastic import strain_series, strained_crystal
from solidqmmm.procedures.elastic.crystal_elasticity import elasticity_of
from solidqmmm.procedures.elastic.strain_reference import isotropic_stiffness, relaxed_reference
from solidqmmm.procedures.elastic.strain_series import open_strained
from solidqmmm.procedures.elastic.strained_crystal import EngineCrystal, HybridCrystal
from solidqmmm.system.crystal import Crystal

TURN = Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix()

# --- interrupted and side by side -------------------------------------------------------------------------------------


class Interruption(Exception):
    pass


def interrupting(after):
    """A progress callback that raises when so many deformations are done."""

    def progress(done, total, message):
        if done == after:
            raise Interruption

    return progress


@pytest.fixture
def computed(monkeypatch):
    """Names of the deformations that are computed, in order."""
    names, inner = [], strain_series._strained

    def noted(crystal, reference, member, before, fmax):
        names.append(member.name)
        return inner(crystal, reference, member, before, fmax)

    monkeypatch.setattr(strain_series, "_strained", noted)
    return names


RESUMED = {
    "host": T3_VACANCY,
    "hybrid": HYBRID,
    "engine alone": {"host": None, "qm": engine(T3), "supercell": [2, 2, 2], "defect": VACANCY},
}


@pytest.mark.parametrize("kind", RESUMED)
def test_interrupted_series_go_on(tmp_path, computed, kind):
    """As often as one likes: each deformation is computed once, nothing is lost, and all evaluations are counted."""
    changes = RESUMED[kind]
    whole = tensors(changes=changes)
    expected = list(computed)
    computed.clear()
    for after in (1, 3):
        with pytest.raises(Interruption):
            tensors(changes=changes, folder=tmp_path / "strains", progress=interrupting(after))
    assert sorted(path.stem for path in (tmp_path / "strains/defect").iterdir()) == sorted(["reference", *expected[:4]])
    found = tensors(changes=changes, folder=tmp_path / "strains")
    assert computed == expected, "a deformation was computed twice"
    np.testing.assert_allclose(found.tensor / GPa, whole.tensor / GPa, atol=1e-4)
    # A relaxation that begins without what those before it have learnt may take a step more or less.
    assert found.n_force_evaluations == pytest.approx(whole.n_force_evaluations, rel=0.05)
    assert found.n_qm_calls == pytest.approx(whole.n_qm_calls, abs=3)
    if kind == "host":
        assert found.n_force_evaluations == whole.n_force_evaluations
    again = tensors(changes=changes, folder=tmp_path / "strains")
    assert computed == expected
    np.testing.assert_array_equal(again.tensor, found.tensor)
    assert (again.n_force_evaluations, again.n_qm_calls) == (found.n_force_evaluations, found.n_qm_calls)


def test_records_of_other_series_and_damaged_ones_are_computed_again(tmp_path, computed, caplog):
    options = {"changes": T3_VACANCY, "folder": tmp_path}
    first = tensors(**options)
    n = len(computed)
    for other in ({"fmax": 1e-5}, {"relax_cell": False}, {"changes": T3_VACANCY | {"structure": silicon(5.432)}}):
        computed.clear()
        tensors(**(options | other))
        assert len(computed) == n, other
    tensors(**options)
    computed.clear()
    (tmp_path / "defect/xx_+0.0002.npz").write_bytes(b"PK\x03\x04 and then the power went out")
    found = tensors(**options)
    assert computed == ["xx_+0.0002"]
    assert "damaged record" in caplog.text
    np.testing.assert_allclose(found.tensor / GPa, first.tensor / GPa, atol=1e-4)
    computed.clear()
    (tmp_path / "defect/reference.npz").unlink()  # the deformations are those of the same reference
    np.testing.assert_allclose(tensors(**options).tensor / GPa, first.tensor / GPa, atol=1e-4)
    # More amplitudes: those that are there are read.
    more = tensors(**options, amplitudes=(0.0002, 0.0004, 0.0008))
    assert computed == ["xx_+0.0008", "xx_-0.0008", "yz_+0.0008"]
    assert len(more.series) == len(found.series) + 4


def test_deformations_side_by_side_are_those_one_after_the_other(tmp_path, computed):
    serial = tensors(changes=T3_VACANCY)
    n = len(computed)
    reported = []
    with ThreadPoolExecutor(2) as executor:
        found = tensors(
            changes=T3_VACANCY, executor=executor, folder=tmp_path, progress=lambda *given: reported.append(given)
        )
    assert len(computed) == 2 * n
    np.testing.assert_allclose(found.tensor / GPa, serial.tensor / GPa, atol=2e-4)
    np.testing.assert_array_equal(found.series.amplitudes, serial.series.amplitudes)
    counted = [given[:2] for given in reported if given[0] is not None]
    assert counted == [(k + 1, n) for k in range(n)]
    again = tensors(changes=T3_VACANCY, folder=tmp_path)  # what workers saved is read
    assert len(computed) == 2 * n
    np.testing.assert_array_equal(again.tensor, found.tensor)
    for path in list((tmp_path / "defect").glob("yz*")):
        path.unlink()
    with ThreadPoolExecutor(2) as executor:
        again = tensors(changes=T3_VACANCY, executor=executor, folder=tmp_path)
    assert len(computed) == 2 * n + 2, "only what is missing goes to the workers"
    np.testing.assert_allclose(again.tensor / GPa, serial.tensor / GPa, atol=2e-4)


def test_workers_in_other_processes():
    """Spawned ones, that know of this process only what is sent to them; a hybrid crystal from a structure given here."""
    changes = HYBRID | {"structure": silicon(5.44)}
    serial = tensors(changes=changes)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        found = tensors(changes=changes, executor=executor)
    np.testing.assert_allclose(found.tensor / GPa, serial.tensor / GPa, atol=2e-4)


@pytest.mark.parametrize("workers", [None, 2])
def test_failures_of_a_deformation_come_back(workers, monkeypatch):
    def fails(*_):
        raise EngineError("the engine died")

    monkeypatch.setattr(strain_series, "_strained", fails)
    executor = None if workers is None else ThreadPoolExecutor(workers)
    with executor or nullcontext(), pytest.raises(EngineError, match="the engine died"):
        tensors(executor=executor)


# --- what cannot be done, and what a reader is told ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (HYBRID | {"coupling": "force_mixing"}, "'force_mixing' has no energy, and so no virial; choose coupling"),
        (
            {"host": None, "qm": {"engine": "gpaw", "mode": "lcao"}},
            "the engine 'gpaw' gives none; GPAW gives it in plane waves: qm: {engine: gpaw, mode: pw}",
        ),
        (PERIODIC_LINE | {"qm": {"engine": "gpaw", "mode": "lcao"}}, "the engine 'gpaw' of the periodic cluster gives none"),
    ],
)
@pytest.mark.parametrize("which", ["defect", "perfect"])
def test_without_a_stress_nothing_is_computed(changes, said, which, monkeypatch):
    if "gpaw" in str(changes):
        pytest.importorskip("gpaw")
    monkeypatch.setattr("solidqmmm.procedures.match.match_lattices", lambda *_: pytest.fail("something was computed"))
    if changes.get("host"):
        changes = changes | {"matching": "auto"}
    with pytest.raises(EngineError, match="elastic constants need a stress") as caught:
        tensors(which, changes=changes)
    assert said in str(caught.value)


def test_crystals_of_both_kinds_say_so_themselves():
    with model_of(**HYBRID | {"coupling": "force_mixing"}) as model, pytest.raises(EngineError, match="no energy"):
        HybridCrystal(model.open(), tightens=True)
    with model_of(host=None, qm=engine(SW)) as model:
        without = Noisy(model.engine)
        without.provides_stress = False
        with pytest.raises(EngineError, match="gives none; choose another"):
            EngineCrystal(without, model.crystal, tightens=True)


def test_charge_and_moments_belong_to_the_defect():
    """An engine alone: its charge and its list of moments go with the study's crystal, not with the perfect one."""
    pytest.importorskip("gpaw")
    settings = {"mode": "pw", "charge": 1.0, "spinpol": True, "magmoms": [1.0, -1.0, 1.0, -1.0]}
    with model_of(host=None, qm={"engine": "gpaw"} | settings, structure=copper()) as model:
        with open_strained(model, "defect") as crystal:
            keywords = crystal._engine.gpaw_keywords(model.crystal.to_atoms())
            assert keywords["charge"] == 1.0
            assert keywords["magmoms"].tolist() == settings["magmoms"]
        with open_strained(model, "perfect") as crystal:
            keywords = crystal._engine.gpaw_keywords(crystal.crystal.to_atoms())
            assert not keywords.get("charge")
            assert np.unique(keywords["magmoms"]).size == 1
        assert model.engine.charge == 1.0


@pytest.mark.parametrize(
    ("kpts", "n_atoms"), [({}, 2), ({"kpts": {"density": 2.0, "gamma": True}}, 2), ({"kpts": [2, 2, 2]}, 64)]
)
def test_a_mesh_of_k_points_belongs_to_the_supercell(kpts, n_atoms):
    """The defect's stress is compared with that of the perfect crystal: at the same k-points."""
    pytest.importorskip("gpaw")
    qm = {"engine": "gpaw", "mode": "pw"} | kpts
    with model_of(host=None, qm=qm, supercell=[2, 2, 2], defect=VACANCY) as model:
        with open_strained(model, "perfect") as crystal:
            assert len(crystal.crystal) == n_atoms
        with open_strained(model, "defect") as crystal:
            assert len(crystal.crystal) == 63


def test_a_slab_has_no_elastic_tensor():
    slab = Crystal(silicon().numbers, silicon().positions, silicon().cell, (True, True, False))
    with pytest.raises(StructureError, match=r"periodic in three directions, got pbc \[True, True, False\]"):
        tensors(changes={"structure": slab})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"amplitudes": (0.0,)}, "differ from zero"),
        ({"amplitudes": (0.06,)}, "at most 0.05"),
        ({"amplitudes": (0.01, 0.01)}, "differ from each other"),
        ({"amplitudes": (-0.01, 0.01, 0.02), "fit_order": 2}, "needs a symmetric series"),
        ({"amplitudes": (0.01,), "fit_order": 3}, "at least 4 amplitudes"),
        ({"amplitudes": ()}, r"must be finite numbers that differ from zero, got \[\]"),
    ],
)
def test_series_that_cannot_be_fitted(options, said, computed):
    with pytest.raises(ValueError, match=said):
        tensors(**options)
    assert not computed


@pytest.mark.parametrize("amplitudes", [(-0.0004, 0.0003), (-0.0002, -0.0004, 0.0006), (-0.0003,)])
def test_asymmetric_series(amplitudes):
    """Taken as they are, where one is negative; what curvature does to the slope is of their size."""
    found = tensors(amplitudes=amplitudes)
    assert sorted({*found.series.amplitudes}) == sorted(amplitudes)
    np.testing.assert_allclose(cubic(found.tensor) / GPa, [151.4244, 76.4221, 56.4493], atol=0.4)
    assert found.series.stress_GPa.shape == (2 * len(amplitudes), 6)


def test_a_crystal_that_is_not_at_rest_is_relaxed_and_the_reader_told():
    rng = np.random.default_rng(6)
    crystal = silicon(5.5)
    crystal = crystal.with_positions(crystal.positions + 0.1 * rng.normal(size=(8, 3)))
    found = tensors(changes={"structure": crystal})
    np.testing.assert_allclose(cubic(found.tensor) / GPa, [151.4244, 76.4221, 56.4493], atol=0.01)
    text = " | ".join(found.warnings)
    assert "the cell of the study is under a stress of" in text
    assert "it was relaxed" in text
    assert "the ions of the study's structure were not at rest (largest force" in text
    kept = tensors(changes={"structure": silicon(5.5)}, relax_cell=False)
    assert "it was kept (cell: fixed): the constants are those of the stressed crystal" in kept.warnings[0]
    assert tensors(changes={"structure": silicon(5.43095)}).warnings == []
    # A defect has a stress of its own, which is no fault of the study's cell.
    perfect = tensors("perfect", changes=T3_VACANCY)
    assert tensors(changes=T3_VACANCY, start=perfect).warnings == []


def test_what_did_not_converge_is_told(monkeypatch):
    """A reference and deformations that stay above the threshold, of the crystal with a defect as of any other."""
    perfect = tensors("perfect", changes=T3_VACANCY)
    monkeypatch.setattr(HybridCrystal, "relax", lambda self, fmax, target=None: self.max_force())
    found = tensors(changes=T3_VACANCY, start=perfect)
    text = " | ".join(found.warnings)
    assert "the reference did not relax to 0.0001 eV/A" in text
    assert "deformations did not relax to 0.0001 eV/A (at worst" in text


NOISY = {
    "unit cell": ({"host": None, "qm": engine(T3), "structure": silicon(5.432)}, 120),
    "vacancy": ({"host": None, "qm": engine(T3), "supercell": [2, 2, 2], "defect": VACANCY}, 200),
    "hybrid": (HYBRID, 250),
}


@pytest.mark.parametrize("kind", NOISY)
def test_forces_that_cannot_get_smaller_are_left(kind):
    """Forces with a noise of ten times the threshold: few calls, hardly other constants, and a word to the reader."""
    changes, calls = NOISY[kind]
    found = {}
    for noise in (0.0, 1e-3):
        with model_of(**changes) as model:
            model.engine = Noisy(model.engine, noise)
            found[noise] = elasticity_of(model, "defect", fmax=1e-4, relax_cell=False)
    exact, rough = found[0.0], found[1e-3]
    assert exact.n_qm_calls < rough.n_qm_calls < calls
    np.testing.assert_allclose(rough.tensor / GPa, exact.tensor / GPa, atol=0.3)
    assert any("did not relax to 0.0001 eV/A" in text for text in rough.warnings)
    assert rough.series.max_force_eV_per_A.max() < 6e-3


def test_bends_of_the_stress_are_told():
    assert "is not linear" in tensors(amplitudes=(0.01, 0.05)).warnings[0]
    assert tensors(amplitudes=(0.05,)).nonlinearity_percent is None


# --- the reference --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0.97, 1.04])
def test_cells_are_relaxed_from_far_away(start):
    changes = {"structure": Crystal.of(bulk("Cu", a=3.61493)), "host": COPPER}
    with model_of(**changes) as model, open_strained(model, "defect") as crystal:
        found = relaxed_reference(
            crystal, start * model.crystal.positions, start * model.crystal.cell, fmax=1e-4, relax_cell=True
        )
        assert np.abs(found.stress).max() / GPa < 1e-4
        np.testing.assert_allclose(found.cell, model.crystal.cell, atol=1e-4)
        np.testing.assert_allclose(found.deformation, np.eye(3) / start, atol=1e-4)
        # It is left there: an atom at the origin is at its place in every cell.
        np.testing.assert_allclose(crystal.stress(), found.stress, atol=1e-12)


class Unruly:
    """An atom in a cube of one angstrom too much or too little, whose stress is known to a tenth only."""

    tightens = False

    def __init__(self, errors):
        self.errors = iter(errors)

    def place(self, positions, cell):
        self.cell, self.error = np.array(cell), next(self.errors)

    def stress(self):
        return (0.1 * np.log(self.cell[0, 0] / 4.0) + self.error) * np.eye(3)

    def positions(self):
        return np.zeros((1, 3))

    def max_force(self):
        return 0.0

    def relax(self, fmax, target=None):
        return 0.0


def test_of_a_noisy_stress_the_best_cell_is_kept():
    errors = 1e-4 * np.array([0, 3, 1, -4, 6, -5, 7, 1, 2, 3, 4, 5, 6, 7, 8])
    crystal = Unruly(errors)
    found = relaxed_reference(crystal, np.zeros((1, 3)), 4.1 * np.eye(3), fmax=0.01, relax_cell=True)
    assert np.abs(found.stress).max() / GPa > 1e-3, "the noise decides where it ends"
    np.testing.assert_array_equal(crystal.cell, found.cell)
    np.testing.assert_allclose(found.cell, 4.1 * found.deformation, atol=1e-12)
    given = 0.1 * np.log(4.1 / 4.0)
    assert np.abs(found.stress).max() < 0.2 * given
    np.testing.assert_allclose(found.given_stress, given * np.eye(3), atol=1e-12)


def test_a_cell_that_cannot_be_relaxed_is_told(monkeypatch):
    monkeypatch.setattr("solidqmmm.procedures.elastic.strain_reference._MOST_STEPS", 1)
    found = tensors(changes={"structure": silicon(5.2)})
    assert any("the cell could not be relaxed below a stress of" in text for text in found.warnings)


def test_all_force_evaluations_are_counted(monkeypatch):
    """By LAMMPS's own calls of the correction that counts, from the first relaxation of the reference on."""
    counters, inner = [], strained_crystal._Counter

    def counter():
        counters.append(inner())
        return counters[-1]

    monkeypatch.setattr(strained_crystal, "_Counter", counter)
    for changes in (T3_VACANCY, HYBRID):
        counters.clear()
        found = tensors(changes=changes)
        assert found.n_force_evaluations == sum(c.calls for c in counters)
        assert found.n_force_evaluations > found.series.n_force_evaluations.sum()
        assert (found.n_qm_calls > found.series.n_qm_calls.sum()) == ("qm" in changes)


def test_the_frame_of_the_input_is_kept():
    """Of a crystal that relaxes by a large shear the cell changes by a pure stretch."""
    shear = np.eye(3) + 0.03 * np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]])
    changes = {"structure": silicon().strained(TURN).strained(shear)}
    found = tensors(changes=changes)
    F = found.reference.deformation
    np.testing.assert_allclose(F, F.T, atol=1e-12)
    with model_of(**changes) as model:
        np.testing.assert_allclose(found.reference.cell, model.crystal.cell @ F.T, atol=1e-9)
    cell = found.reference.cell
    np.testing.assert_allclose(cell @ cell.T, 5.43095**2 * np.eye(3), atol=1e-3)
    turned = turned_elastic_tensor(found.tensor, cell / 5.43095)  # along its own edges
    np.testing.assert_allclose(cubic(turned) / GPa, [151.4244, 76.4221, 56.4493], atol=0.01)


def test_stiffness_to_begin_with():
    C = isotropic_stiffness(100.0, 50.0) / GPa
    assert (C[0, 0] + 2 * C[0, 1]) / 3 == pytest.approx(100.0)
    assert C[3, 3] == pytest.approx(50.0)
    assert (C[0, 0] - C[0, 1]) / 2 == pytest.approx(50.0)


# --- more ranks ---------------------------------------------------------------------------------------------------------


def test_two_ranks_equal_one(tmp_path, on_ranks):
    script = Path(__file__).with_name("mpi_strain_series.py")
    serial = on_ranks(script, tmp_path / "one")
    parallel = on_ranks(script, tmp_path / "two", ranks=2)
    assert (serial.pop("ranks"), parallel.pop("ranks")) == (1, 2)
    assert serial.pop("saved") == parallel.pop("saved")
    for key, value in serial.items():
        np.testing.assert_allclose(parallel[key], value, atol=1e-3, err_msg=key)
