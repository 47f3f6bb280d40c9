"""GPAW's own affairs: the ladder of retries, spin, fractional hydrogen, checks before paying, estimates."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import read
from cases import in_cubic_box, rattled

from solidqmmm.errors import ConvergenceError, EngineError

pytest.importorskip("gpaw")

from solidqmmm.engines.gpaw import GPAWEngine
from solidqmmm.engines.gpaw_ladder import FRESH, Rung

CHEAP = {"basis": "sz(dzp)", "h": 0.3, "fft_potential": True}


@pytest.fixture(scope="module")
def hydrogen():
    return in_cubic_box("H2", 6.0)


@pytest.fixture(scope="module")
def reference(hydrogen):
    with GPAWEngine(**CHEAP) as engine:
        return engine.evaluate(hydrogen)


def test_ladder_that_ends_well(hydrogen, reference, caplog):
    too_few = reference.info["scf_iterations"] - 1  # from atomic densities; the gentle rung has twice as many
    with caplog.at_level(logging.WARNING), GPAWEngine(**CHEAP, maxiter=too_few) as engine:
        evaluation = engine.evaluate(hydrogen)
    assert evaluation.energy == pytest.approx(reference.energy, abs=1e-4)
    assert len(evaluation.info["retries"]) == 2
    assert evaluation.info["retries"][0].startswith("fresh start: no self-consistency")
    assert evaluation.info["retries"][1] == "gentler mixing: converged"
    assert "gentler mixing" in caplog.text


def test_more_smearing_comes_back_to_the_requested_one(hydrogen, reference):
    ladder = (Rung("more smearing", maxiter_factor=3.0, smearing_factor=3.0, smallest_smearing=0.3),)
    too_few = reference.info["scf_iterations"] - 1
    with GPAWEngine(**CHEAP, maxiter=too_few, retries=ladder) as engine:
        evaluation = engine.evaluate(hydrogen)
    assert evaluation.info["smearing_eV"] == 0.1
    assert evaluation.info["retries"][-1] == "more smearing: converged"
    assert evaluation.energy == pytest.approx(reference.energy, abs=1e-4)


def test_larger_smearing_is_kept_only_as_a_last_resort_and_reported(hydrogen, reference, monkeypatch, caplog):
    from gpaw import KohnShamConvergenceError

    def fails(*_):
        raise KohnShamConvergenceError

    monkeypatch.setattr("solidqmmm.engines.gpaw_ladder.change_occupations", fails)
    ladder = (Rung("more smearing", maxiter_factor=3.0, smearing_factor=3.0, smallest_smearing=0.3),)
    too_few = reference.info["scf_iterations"] - 1
    with caplog.at_level(logging.WARNING), GPAWEngine(**CHEAP, maxiter=too_few, retries=ladder) as engine:
        evaluation = engine.evaluate(hydrogen)
    assert evaluation.info["smearing_eV"] == pytest.approx(0.3)
    assert "does not compare" in caplog.text


def test_ladder_that_fails_saves_the_cluster(hydrogen, tmp_path):
    with (
        GPAWEngine(**CHEAP, maxiter=2, log=tmp_path / "run" / "gpaw.txt") as engine,
        pytest.raises(ConvergenceError) as caught,
    ):
        engine.evaluate(hydrogen)
    error = caught.value
    assert [attempt.split(":")[0] for attempt in error.attempts] == ["fresh start", "gentler mixing", "more smearing"]
    assert error.directory == tmp_path / "run"
    saved = read(error.last_good_state)
    np.testing.assert_allclose(saved.positions, hydrogen.positions, atol=1e-7)
    assert "tried: gentler mixing" in str(error)


def test_failed_warm_start_begins_afresh(hydrogen):
    with GPAWEngine(**CHEAP, retries=(FRESH,)) as engine:
        engine.evaluate(hydrogen)
        engine._calc.dft.scf_loop.maxiter = 1
        evaluation = engine.evaluate(rattled(hydrogen, 0.05))
    assert evaluation.info["start"] == "fresh"
    assert [line.split(":")[0] for line in evaluation.info["retries"]] == ["warm start", "fresh start"]


def test_log_is_appended_to(hydrogen, tmp_path):
    log = tmp_path / "gpaw.txt"
    for _ in range(2):
        with GPAWEngine(**CHEAP, log=log) as engine:
            engine.evaluate(hydrogen)
    assert log.read_text().count("Input parameters") == 2


def test_odd_electrons_without_spin(tmp_path):
    methyl = molecule("CH3", vacuum=3.0)
    with GPAWEngine(**CHEAP, log=tmp_path / "gpaw.txt") as engine:
        assert engine.n_electrons(methyl) == 7
        with pytest.raises(ValueError, match=r"7 electrons.*spinpol=True.*charge.*even_electrons"):
            engine.evaluate(methyl)
    assert not (tmp_path / "gpaw.txt").exists()  # no SCF was started


def test_odd_electrons_with_spin_have_a_moment():
    with GPAWEngine(**CHEAP, spinpol=True) as engine:
        evaluation = engine.evaluate(Atoms("H", [[2.5, 2.5, 2.5]], cell=[5, 5, 5]))
    assert evaluation.info["magnetic_moment"] == pytest.approx(1.0, abs=0.01)


def test_charge_changes_the_electron_number(hydrogen):
    with GPAWEngine(**CHEAP, charge=1) as engine:
        assert engine.n_electrons(hydrogen) == 1
        with pytest.raises(ValueError, match="1 electrons"):
            engine.evaluate(hydrogen)


def test_energy_is_the_free_energy():
    # Half-filled level of an unpolarized hydrogen atom: entropy 2 ln 2 k T, so that E_free < E_extrapolated.
    with GPAWEngine(**CHEAP, paired_odd_electrons=True, smearing=0.2) as engine:
        evaluation = engine.evaluate(Atoms("H", [[2.5, 2.5, 2.5]], cell=[5, 5, 5]))
    assert evaluation.info["energy_extrapolated"] - evaluation.energy == pytest.approx(0.2 * np.log(2), abs=1e-4)


def test_crystal_leaves_its_symmetry_without_an_error():
    silicon = bulk("Si")
    with GPAWEngine(mode="pw", ecut=150, kpts=(2, 2, 2)) as engine:
        symmetric = engine.evaluate(silicon, stress=True)
        silicon.positions[0] += [0.03, 0.01, 0.0]
        broken = engine.evaluate(silicon)
        again = engine.evaluate(silicon)
    assert np.abs(symmetric.forces).max() < 1e-6
    np.testing.assert_allclose(symmetric.stress, symmetric.stress[0, 0] * np.eye(3), atol=1e-6)
    assert broken.info["retries"] == []
    assert broken.forces[0, 0] < -0.1
    assert again.energy == broken.energy


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mode": "plane waves"}, "'lcao', 'pw' or 'fd'"),
        ({"ecut": 300}, "`ecut` belongs to mode 'pw'"),
        ({"mode": {"name": "pw", "ecut": 300, "dedecut": "estimate"}}, "ignores it: raise `ecut`"),
        ({"h": -0.2}, "positive grid spacing"),
        ({"nonsense": 1}, "nonsense"),
        ({"xc": "PBB"}, "PBB"),
        ({"mixer": {"name": "bowl"}}, "bowl"),
        ({"setups": {0: "paw"}}, "by element"),
        ({"smearing": -1.0}, "smearing"),
        ({"mode": "fd", "fft_potential": True}, "fft_potential"),
    ],
)
def test_wrong_settings_fail_at_construction(settings, words):
    with pytest.raises(ValueError, match=words):
        GPAWEngine(**settings)


def test_atoms_that_cannot_be_computed(hydrogen):
    with GPAWEngine(**CHEAP) as engine:
        near = hydrogen.copy()
        near.positions[1] = near.positions[0] + [0.3, 0, 0]
        with pytest.raises(ValueError, match=r"0\.300 A apart"):
            engine.evaluate(near)
        with pytest.raises(ValueError, match="box with three cell vectors"):
            engine.evaluate(molecule("H2"))
        with pytest.raises(ValueError, match="PW mode only"):
            engine.evaluate(hydrogen, stress=True)
        outside = hydrogen.copy()
        outside.positions -= outside.positions.min(axis=0)
        with pytest.raises(EngineError, match="GPAW says: AtomsTooClose: Atoms too close to boundary"):
            engine.evaluate(outside)


def test_coarse_grid_is_warned_about_and_refuses_what_it_cannot(hydrogen, caplog):
    chain = hydrogen.copy()
    chain.pbc = (False, False, True)
    with GPAWEngine(basis="sz(dzp)", h=0.3, charge=1, spinpol=True) as engine:
        assert "h = 0.3 A is coarse" in caplog.text
        with pytest.raises(ValueError, match="cannot be solved on a real-space grid"):
            engine.evaluate(chain)


def test_missing_basis_is_an_engine_error(hydrogen):
    with GPAWEngine(basis="no.such", h=0.3) as engine, pytest.raises(EngineError, match=r"H\.no\.such"):
        engine.evaluate(hydrogen)


def test_kpoints_only_where_periodic(hydrogen):
    chain = hydrogen.copy()
    chain.pbc = (False, False, True)
    with GPAWEngine(**CHEAP) as engine:
        assert "kpts" not in engine.gpaw_keywords(hydrogen)
        from gpaw.dft import BZSampling

        size = BZSampling.from_param(engine.gpaw_kpts(chain)).build(chain).size_c
    assert size[0] == size[1] == 1
    assert size[2] >= 3.5 * 2 * np.pi / 6.0 - 1


# --- fractional hydrogen ---------------------------------------------------------------------------------------


def capped(charges, distance=0.9) -> Atoms:
    """Two hydrogens with the given nuclear charges."""
    atoms = Atoms("H2", [[0, 0, 0], [distance, 0, 0]], cell=[7, 6, 6])
    atoms.center()
    atoms.set_array("cap_charge", np.array(charges, dtype=float))
    return atoms


@pytest.mark.parametrize("charge", [0.25, 0.5, 0.75, 1.25, 1.5, 1.75])
def test_fractional_hydrogen_is_made_and_holds_its_charge(charge):
    from solidqmmm.engines.gpaw_setups import fractional_hydrogen

    setup, basis = fractional_hydrogen(charge, "PBE")
    assert (setup.Z, setup.Nv, setup.Nc) == (charge, charge, 0)
    assert basis.nao == 5
    assert fractional_hydrogen(charge, "PBE")[0] is setup


def test_fractional_pair_is_neutral_polar_and_has_gradient_forces():
    with GPAWEngine(basis="dzp", h=0.22, fft_potential=True, convergence={"density": 1e-6}) as engine:
        atoms = capped([0.75, 1.25])
        assert engine.n_electrons(atoms) == pytest.approx(2)
        assert engine.n_basis_functions(atoms) == 10
        middle = engine.evaluate(atoms)
        dipole = engine._calc.dft.results["dipole"]
        energies = []
        for shift in (5e-3, -5e-3):
            moved = atoms.copy()
            moved.positions[1, 0] += shift
            energies.append(engine.evaluate(moved).energy)
    assert abs(dipole[0]) > 0.02  # electrons go to the larger charge
    assert middle.forces[1, 0] == pytest.approx(-(energies[0] - energies[1]) / 1e-2, abs=0.01)
    # Grid and basis break Newton's third law between unequal atoms a little.
    assert abs(middle.forces.sum(axis=0)).max() < 0.1


@pytest.mark.parametrize(("element", "cap"), [("As", 0.75), ("Ga", 1.25)])
def test_caps_of_a_polar_crystal_close_the_shell(element, cap):
    """An atom of GaAs with four caps: even electron number, all bonds alike, no force on the atom by symmetry."""
    atoms = molecule("SiH4")
    atoms.symbols[0] = element
    atoms.set_cell([7.2] * 3)
    atoms.center()
    atoms.set_array("cap_charge", np.array([0.0] + [cap] * 4))
    with GPAWEngine(**CHEAP) as engine:
        assert engine.n_electrons(atoms) == pytest.approx(8)
        evaluation = engine.evaluate(atoms)
        lowest, highest = engine._calc.get_homo_lumo()
    assert np.abs(evaluation.forces[0]).max() < 1e-3
    pulls = np.linalg.norm(evaluation.forces[1:], axis=1)
    assert np.ptp(pulls) < 1e-3
    assert highest - lowest > 2.0  # eV: no level of a dangling bond is left in the gap


def test_fractional_charge_of_one_is_hydrogen(hydrogen, reference):
    atoms = hydrogen.copy()
    atoms.set_array("cap_charge", np.array([1.0, np.nan]))
    with GPAWEngine(**CHEAP) as engine:
        assert engine.evaluate(atoms).energy == pytest.approx(reference.energy, abs=1e-9)


def test_fractional_caps_must_add_up():
    with GPAWEngine(**CHEAP) as engine, pytest.raises(ValueError, match=r"1\.75 electrons.*2 - Z/N"):
        engine.evaluate(capped([0.75, 0.0]))


def test_fractional_charge_belongs_to_hydrogen():
    atoms = in_cubic_box("SiH4", 7.0)
    atoms.set_array("cap_charge", np.array([0.75, 0, 0, 0, 0]))
    with GPAWEngine(**CHEAP) as engine, pytest.raises(ValueError, match="only hydrogen caps"):
        engine.n_electrons(atoms)


# --- what it would cost -----------------------------------------------------------------------------------------


def test_sizes_and_calibration():
    silane = in_cubic_box("SiH4", 7.2)
    with GPAWEngine(**CHEAP | {"basis": "dzp"}) as engine:
        assert engine.n_electrons(silane) == 8
        assert engine.n_basis_functions(silane) == 13 + 4 * 5
        assert 150 < engine.memory_estimate_MB(silane) < 300  # 125 MB of them are the interpreter and its libraries
        cost = engine.calibrate(silane)
    assert cost["seconds_per_scf_step"] > 0
    assert cost["estimated_seconds_first"] > cost["estimated_seconds_per_evaluation"] > cost["seconds_per_scf_step"]


def test_plane_waves_are_counted_as_gpaw_does():
    silicon = bulk("Si")
    with GPAWEngine(mode="pw", ecut=300, kpts=(1, 1, 1)) as engine:
        calc = engine.unconverged(silicon)
        calc.create_new_calculation(silicon)
        exact = 2 * calc.dft.ibzwfs.get_max_shape(global_shape=True)[-1] - 1
        assert engine.n_basis_functions(silicon) == pytest.approx(exact, rel=0.1)
