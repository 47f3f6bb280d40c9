"""The ASE calculator: what QMMM says, in ASE's units and order, to whatever drives ASE."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.optimize import FIRE
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from solidqmmm.errors import StructureError, StudyError
from solidqmmm.procedures.build import build_model
from solidqmmm.procedures.calculator import QMMMCalculator
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.potential import lammps_potentials_dir
from solidqmmm.system.study import Study

SECTIONS = {
    "host": {"pair_style": "sw", "pair_coeff": ["* * Si.sw Si"], "species": ["Si"]},
    "qm": {"engine": "lammps", "pair_style": "tersoff", "pair_coeff": "* * Si.tersoff Si", "species": ["Si"]},
    "region": {"core": {"hops": 1}, "buffer": {"hops": 1}, "centre": {"site": 0}},
    "caps": {"kind": "none"},
}


def silicon(rattle=0.05):
    atoms = bulk("Si", a=5.431, cubic=True) * (3, 3, 3)
    atoms.rattle(rattle, seed=4)
    return atoms


@pytest.mark.parametrize("coupling", ["subtractive", {"scheme": "force_mixing", "weights": "smooth"}])
def test_it_says_what_the_hybrid_crystal_says(coupling):
    atoms = silicon()
    study = Study.from_mapping(
        {"recipe": "single_point", "structure": Crystal.from_atoms(atoms), "coupling": coupling, **SECTIONS}
    )
    with (
        build_model(study) as model,
        model.open() as qmmm,
        QMMMCalculator(**SECTIONS, coupling=coupling) as calc,
    ):
        atoms.calc = calc
        np.testing.assert_array_equal(atoms.get_forces(), qmmm.forces())
        if qmmm.has_energy:
            assert atoms.get_potential_energy() == qmmm.energy()
            assert atoms.get_potential_energy(force_consistent=True) == qmmm.energy()
            np.testing.assert_array_equal(atoms.get_stress(voigt=False), qmmm.stress())
        borrowed = QMMMCalculator.from_qmmm(qmmm)
        assert borrowed.implemented_properties == calc.implemented_properties
        np.testing.assert_allclose(borrowed.get_forces(atoms), atoms.get_forces(), atol=1e-12)
        with pytest.raises(ValueError, match="one live crystal"):
            borrowed.get_forces(atoms[1:])
        borrowed.close()
        assert qmmm.host.session.is_open


def test_forces_and_stress_are_the_gradient_of_the_energy():
    with QMMMCalculator(**SECTIONS) as calc:
        atoms = silicon()
        atoms.calc = calc
        forces, stress = atoms.get_forces(), atoms.get_stress(voigt=False)
        h = 1e-4
        for atom, axis in ((0, 0), (1, 2), (100, 1)):
            energies = []
            for sign in (1, -1):
                moved = atoms.copy()
                moved.calc = calc
                moved.positions[atom, axis] += sign * h
                energies.append(moved.get_potential_energy())
            assert forces[atom, axis] == pytest.approx(-(energies[0] - energies[1]) / (2 * h), abs=1e-5)
        for i, j in ((0, 0), (1, 2)):
            energies = []
            for sign in (1, -1):
                strain = np.zeros((3, 3))
                strain[i, j] += 0.5 * sign * h
                strain[j, i] += 0.5 * sign * h
                strained = atoms.copy()
                strained.calc = calc
                strained.set_cell(atoms.cell @ (np.eye(3) + strain), scale_atoms=True)
                energies.append(strained.get_potential_energy())
            numerical = (energies[0] - energies[1]) / (2 * h * atoms.get_volume())
            assert stress[i, j] == pytest.approx(numerical, abs=1e-7)


def test_one_live_crystal_serves_all_positions_and_cells():
    with QMMMCalculator(**SECTIONS) as calc:
        atoms = silicon()
        atoms.calc = calc
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        model, live = calc.model, calc.qmmm(atoms)
        far = atoms.copy()
        far.set_cell(atoms.cell @ [[1.02, 0.01, 0], [0, 0.99, 0], [0.02, 0, 1.01]], scale_atoms=True)
        far.positions += 0.4  # some of them leave the cell
        far.wrap()
        strained = calc.get_potential_energy(far)
        assert calc.model is model
        with QMMMCalculator(**SECTIONS) as fresh:
            # The region is centred on a site, so the fresh calculator chooses the same atoms.
            assert strained == pytest.approx(fresh.get_potential_energy(far), abs=1e-8)
            np.testing.assert_allclose(calc.get_forces(far), fresh.get_forces(far), atol=1e-8)
        assert calc.get_potential_energy(atoms) == pytest.approx(energy, abs=1e-9)
        np.testing.assert_allclose(calc.get_forces(atoms), forces, atol=1e-9)
        assert calc.qmmm(atoms) is live
        calls = live.coupling.quantum.evaluations
        calc.get_stress(atoms)
        assert live.coupling.quantum.evaluations == calls  # everything came with the first property
        calc.get_forces(atoms[1:])
        assert calc.model is not model


def test_ase_relaxes_a_vacancy():
    atoms = silicon(0.0)
    del atoms[0]
    atoms.rattle(0.03, seed=2)
    region = {"core": {"radius": 3.0}, "buffer": {"hops": 1}, "centre": [0.0, 0.0, 0.0]}
    with QMMMCalculator(**(SECTIONS | {"region": region})) as calc:
        atoms.calc = calc
        start = atoms.get_potential_energy()
        assert FIRE(atoms, logfile=None).run(fmax=0.02, steps=300)
        assert atoms.get_potential_energy() < start - 1.0
        assert np.linalg.norm(atoms.get_forces(), axis=1).max() < 0.02
        assert len(calc.model.partition.core) == 4


@pytest.mark.filterwarnings("ignore:logm result may be inaccurate")  # scipy on ASE's cell filter, at 7e-13
def test_pymatgen_relaxes_a_structure_and_its_cell():
    structure = AseAtomsAdaptor.get_structure(bulk("Si", a=5.6, cubic=True) * (2, 2, 2))
    host_alone = QMMMCalculator(host=SECTIONS["host"])
    everywhere = QMMMCalculator(
        **(SECTIONS | {"region": SECTIONS["region"] | {"core": {"hops": 0}, "buffer": {"hops": 1}}})
    )
    with host_alone, everywhere:
        relaxed = structure.relax(calculator=host_alone, fmax=0.01)
        assert isinstance(relaxed, Structure)
        assert relaxed.lattice.a == pytest.approx(2 * 5.431, abs=2e-3)  # Stillinger and Weber, 1985
        hybrid = structure.relax(calculator=everywhere, relax_cell=False, steps=3)
        assert len(hybrid) == len(structure)


def test_force_mixing_has_no_energy_and_says_so():
    with QMMMCalculator(**SECTIONS, coupling="force_mixing") as calc:
        assert calc.implemented_properties == ["forces"]
        assert QMMMCalculator(**SECTIONS).implemented_properties == [
            "energy",
            "free_energy",
            "forces",
            "stress",
        ]
        atoms = silicon()
        atoms.calc = calc
        assert atoms.get_forces().shape == (216, 3)
        for ask in (atoms.get_potential_energy, atoms.get_stress):
            with pytest.raises(PropertyNotImplementedError, match="not the gradient of an energy"):
                ask()
        assert "energy" not in calc.results
        with pytest.raises(PropertyNotImplementedError, match="no property 'dipole'"):
            calc.get_property("dipole", atoms)
        calc.set(coupling="subtractive")
        assert np.isfinite(atoms.get_potential_energy())


def test_arguments_are_plain_json_and_copies_are_independent(tmp_path):
    (tmp_path / "mine.sw").write_text((lammps_potentials_dir() / "Si.sw").read_text())
    host = SECTIONS["host"] | {"pair_coeff": ["* * mine.sw Si"]}
    with QMMMCalculator(**(SECTIONS | {"host": host}), search_dirs=tmp_path) as calc:
        atoms = silicon()
        energy = calc.get_potential_energy(atoms)
        again = QMMMCalculator(**json.loads(json.dumps(calc.todict())))
        copied, pickled = copy.deepcopy(calc), pickle.loads(pickle.dumps(calc))
        for other in (again, copied, pickled):
            other.reset()
            with other:
                assert other.get_potential_energy(atoms) == energy
        calc.close()
        calc.reset()
        assert calc.get_potential_energy(atoms) == energy


def test_mistakes_are_named_before_anything_runs():
    wrong = SECTIONS | {"host": SECTIONS["host"] | {"pair_stile": "sw"}}
    with pytest.raises(StudyError, match="pair_stile"):
        QMMMCalculator(**wrong).get_forces(silicon())
    with pytest.raises(StudyError, match="host"):
        QMMMCalculator().get_forces(silicon())
    with pytest.raises(StudyError, match="needs a host potential"):
        QMMMCalculator(qm=SECTIONS["qm"]).get_forces(silicon())
    qm = SECTIONS["qm"] | {"pair_stile": "sw"}
    with pytest.raises(ValueError, match="pair_stile"):
        QMMMCalculator(**(SECTIONS | {"qm": qm})).get_forces(silicon())


# --- ghost forces ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["perfect", "strained", "vacancy", "rattled", "impurity"])
def test_ghost_forces_want_a_perfect_crystal(what):
    """Of a crystal with the defect in it, the dead load would be the quantum forces of the defect."""
    atoms = bulk("Si", "diamond", a=5.431, cubic=True) * (4, 4, 4)
    if what == "vacancy":
        del atoms[21]  # a neighbour of the centre
        atoms.positions += 0.005 * np.sin(atoms.positions)
    elif what == "rattled":
        atoms.rattle(0.1, seed=1)
    elif what == "impurity":
        atoms.numbers[21] = 32
    elif what == "strained":
        atoms.set_cell(atoms.cell @ np.array([[1.01, 0.01, 0], [0, 1, 0], [0, 0, 1.02]]), scale_atoms=True)
    potential = {"pair_style": "tersoff", "pair_coeff": ["* * SiCGe.tersoff Si(D) Ge"], "species": ["Si", "Ge"]}
    calculator = QMMMCalculator(
        host=potential,
        qm={"engine": "lammps", **potential},
        region={"core": {"hops": 1}, "buffer": {"hops": 1}, "centre": {"site": 20}},
        caps={"kind": "Si", "length": 2.3},
        coupling={"scheme": "subtractive", "ghost_forces": True},
    )
    with calculator:
        atoms.calc = calculator
        if what in ("perfect", "strained"):
            assert np.abs(atoms.get_forces()).max() < (1e-6 if what == "perfect" else 1.0)
        else:
            with pytest.raises(StructureError, match=r"repeats nowhere.*study's `defect`, or leave ghost_forces out"):
                atoms.get_forces()
