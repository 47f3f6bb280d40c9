"""What every engine promises: F = -dE/dx, invariances, warm starts that do not show, errors that speak."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase import Atoms
from cases import CASES, rattled

from solidqmmm.engines.protocols import Engine
from solidqmmm.errors import EngineError


@pytest.fixture(scope="module", params=CASES)
def contract(request):
    """(case, engine, atoms, evaluation) of one member of the family; the engine stays warm through its tests."""
    case = CASES[request.param]
    if case.missing:
        pytest.skip(f"{', '.join(case.missing)} is not installed")
    atoms = case.atoms()
    with case.make() as engine:
        yield case, engine, atoms, engine.evaluate(atoms)


def test_is_an_engine(contract):
    _, engine, atoms, evaluation = contract
    assert isinstance(engine, Engine)
    assert isinstance(engine.provides_stress, bool)
    assert evaluation.forces.shape == (len(atoms), 3)
    assert evaluation.stress is None
    json.dumps(evaluation.info)


def test_describe_is_plain_json_and_stable(contract):
    _, engine, _, _ = contract
    described = engine.describe()
    assert described == json.loads(json.dumps(engine.describe()))
    assert described["engine"] == engine.name
    assert described["references"]
    assert str(np.__file__).split("/lib/")[0] not in json.dumps(described)  # no path of this machine


def test_forces_are_the_gradient_of_the_energy(contract):
    case, engine, atoms, evaluation = contract
    for index, axis in ((0, 0), (len(atoms) - 1, 2)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[index, axis] += sign * case.step
            energies.append(engine.evaluate(moved).energy)
        numerical = -(energies[0] - energies[1]) / (2 * case.step)
        assert evaluation.forces[index, axis] == pytest.approx(numerical, abs=case.force), case.reason


def test_net_force_vanishes(contract):
    case, _, _, evaluation = contract
    assert np.abs(evaluation.forces.sum(axis=0)).max() < case.net_force, case.reason


def test_translation(contract):
    case, engine, atoms, evaluation = contract
    moved = atoms.copy()
    moved.positions += [0.11, -0.07, 0.05]
    assert np.abs(engine.evaluate(moved).forces - evaluation.forces).max() < case.shift, case.reason


def test_rotation(contract):
    case, engine, atoms, evaluation = contract
    R = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ R)
    turned.positions = atoms.positions @ R
    again = engine.evaluate(turned)
    assert again.energy == pytest.approx(evaluation.energy, abs=case.turn)
    assert np.abs(again.forces - evaluation.forces @ R).max() < case.turn, case.reason


def test_order_of_the_atoms(contract):
    case, engine, atoms, evaluation = contract
    order = np.random.default_rng(3).permutation(len(atoms))
    again = engine.evaluate(atoms[order])
    assert again.energy == pytest.approx(evaluation.energy, abs=case.order)
    assert np.abs(again.forces - evaluation.forces[order]).max() < case.order, case.reason


def test_warm_start_equals_fresh_start_and_repeats(contract):
    case, engine, atoms, _ = contract
    engine.evaluate(atoms)
    moved = rattled(atoms, 0.02, seed=11)
    warm = engine.evaluate(moved)
    repeated = engine.evaluate(moved)
    assert repeated.energy == pytest.approx(warm.energy, abs=1e-10)
    np.testing.assert_allclose(repeated.forces, warm.forces, atol=1e-10)
    with case.make() as other:
        fresh = other.evaluate(moved)
    if "start" in warm.info:
        assert (warm.info["start"], fresh.info["start"]) == ("warm", "fresh")
    assert warm.energy == pytest.approx(fresh.energy, abs=case.warm)
    assert np.abs(warm.forces - fresh.forces).max() < case.warm, case.reason


def test_the_callers_atoms_stay_as_they_were(contract):
    _, engine, atoms, _ = contract
    before = atoms.copy()
    engine.evaluate(atoms)
    assert atoms == before
    assert atoms.calc is None


def test_no_atoms_is_an_error(contract):
    _, engine, _, _ = contract
    with pytest.raises(ValueError, match="no atoms"):
        engine.evaluate(Atoms(cell=[5, 5, 5]))


def test_unknown_element_is_an_error_in_the_engines_words(contract):
    _, engine, _, _ = contract
    lonely = Atoms("Og", positions=[[4.0, 4.0, 4.0]], cell=[8, 8, 8])
    with pytest.raises((EngineError, ValueError), match=r"Og|118|86"):
        engine.evaluate(lonely)


def test_still_works_after_close(contract):
    case, engine, atoms, evaluation = contract
    engine.close()
    assert engine.evaluate(atoms).energy == pytest.approx(evaluation.energy, abs=case.warm)


@pytest.mark.parametrize("name", ["gpaw-pw", "ase-emt", "lammps-bulk"])
def test_stress_is_the_strain_derivative(name):
    case = CASES[name]
    if case.missing:
        pytest.skip(f"{', '.join(case.missing)} is not installed")
    atoms = case.atoms()
    h = 1e-3
    if name == "gpaw-pw":
        # Plane waves come and go at a fixed cutoff: test_plane_wave_stress.py has the derivative, here is the symmetry.
        with case.make() as engine:
            stress = engine.evaluate(atoms, stress=True).stress
        np.testing.assert_allclose(stress, stress.T, atol=1e-6)
        return
    with case.make() as engine:
        assert engine.provides_stress
        stress = engine.evaluate(atoms, stress=True).stress
        for i, j in ((0, 0), (1, 2)):
            energies = []
            for sign in (1, -1):
                strain = np.eye(3)
                strain[i, j] += sign * h / 2
                strain[j, i] += sign * h / 2
                strained = atoms.copy()
                strained.set_cell(atoms.cell.array @ strain, scale_atoms=True)
                energies.append(engine.evaluate(strained).energy)
            derivative = (energies[0] - energies[1]) / (2 * h) / atoms.get_volume()
            assert stress[i, j] == pytest.approx(derivative, abs=1e-5)
