"""Embedding at MgO(001), a slab in a cell with vacuum: against the plain slab, and against an Ewald sum; what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, surface
from embedding_cases import COUPLINGS, HOST, PAIRS, QM, mapping, oxide, run_mapping
from test_embedding_studies import refused, written

from solidqmmm import recipebook
from solidqmmm.engines.lammps_host import LammpsHost
from solidqmmm.physics.electrostatics.ewald import ewald_energy
from solidqmmm.physics.geometry import vacuum_along
from solidqmmm.procedures.build import build_model
from solidqmmm.procedures.building.slabs import potential_step, require_slab_without_field, slab_axes
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.potential import Potential
from solidqmmm.system.study import Study

SAME = {"engine": "classical_field", "charges": QM["charges"], "inner": {**QM["inner"], "pair_coeff": PAIRS}}


def slab(layers=4, vacuum=10.0) -> Atoms:
    """MgO(001), two formula units in each layer, periodic in all directions."""
    atoms = bulk("MgO", "rocksalt", a=4.2, cubic=True) * (1, 1, (layers + 1) // 2)
    atoms = atoms[atoms.positions[:, 2] < (layers - 0.5) * 2.1]
    atoms.cell[2, 2] = (layers - 1) * 2.1 + vacuum
    atoms.positions[:, 2] += vacuum / 2
    return atoms


def on_top(atoms: Atoms, symbol="O") -> int:
    """An ion of the upper face."""
    top = atoms.positions[:, 2] > atoms.positions[:, 2].max() - 0.1
    return int(np.flatnonzero(top & (atoms.symbols == symbol))[0])


def asked(embedding="electrostatic", *, atoms=None, charge=0.0, **changes) -> dict:
    """A study of the neutral oxygen vacancy of the upper face."""
    atoms = slab() if atoms is None else atoms
    changes = {"defect": {"kind": "vacancy", "site": on_top(atoms)}, "recipe": "single_point"} | changes
    coupling = {**COUPLINGS[embedding], "charge": charge} | changes.pop("coupling", {})
    return mapping(embedding, structure=atoms, supercell=[3, 3, 1], coupling=coupling, **changes)


def built(study: dict):
    return build_model(Study.from_mapping(study, schemas=recipebook.schemas()))


@pytest.mark.parametrize("embedding", COUPLINGS)
def test_a_surface_vacancy_from_the_command_line(tmp_path, call, embedding):
    """The slab comes from a file; five cations around the vacancy, in the potential of the infinite slab."""
    code, _, err = call("run", written(tmp_path, asked(embedding), slab()), "--out", tmp_path / "out")
    assert code == 0, err
    result = json.loads((tmp_path / "out/result.json").read_text())
    assert result["n_atoms_host"] == 4 * 36 - 1
    assert result["n_atoms_qm"] == 5
    assert result["region_charge_e"] == 8
    assert result["region_potential_rms_error_eV"] < 1e-3
    assert result["warnings"] == []
    assert sum(result["energy_terms_eV"].values()) == pytest.approx(result["energy_eV"], abs=1e-9)


def test_the_potential_of_the_bulk_is_as_good(tmp_path, call):
    study = written(tmp_path, mapping("electrostatic", recipe="single_point"), None)
    assert call("run", study, "--out", tmp_path / "out")[0] == 0
    assert json.loads((tmp_path / "out/result.json").read_text())["region_potential_rms_error_eV"] < 1e-3


@pytest.mark.parametrize("layers", [3, 4])
def test_a_surface_vacancy_is_an_ewald_sum(layers):
    """Two electrons amid five cations: all charges in one Ewald sum, and the pairs of the host."""
    study = asked(atoms=slab(layers), qm=SAME, coupling={"width": 0.0})
    result = run_mapping(study)
    with built(study) as model:
        crystal, middle = model.crystal, model.cluster.reference[:5].mean(axis=0)
    charges = np.where(crystal.numbers == 12, 2.0, -2.0)
    lattice = ewald_energy(np.vstack([crystal.positions, middle]), np.append(charges, -2.0), crystal.cell).energy
    pairs = Potential("buck 6.3", PAIRS, ("Mg", "O"), commands=("pair_modify shift yes",))
    with LammpsHost(crystal, pairs) as host:
        assert result.energy_eV == pytest.approx(lattice + host.energy(), abs=2e-3)
    assert result.region_potential_rms_error_eV < 1e-6


def test_the_same_ions_on_both_sides_are_the_plain_slab():
    around = {"core": {"hops": 1}, "centre": {"site": on_top(slab())}}
    study = asked(qm=SAME, defect=None, region=around, coupling={"width": 0.0})
    with built(study) as model, model.open() as qmmm:
        assert len(model.partition.quantum) == 6
        rng = np.random.default_rng(3)
        moved = model.crystal.positions + 0.05 * rng.normal(size=model.crystal.positions.shape)
        qmmm.host.set_positions(moved)
        energy, forces = qmmm.energy(), qmmm.forces()
        with LammpsHost(model.crystal.with_positions(moved), model.potential) as host:
            assert energy == pytest.approx(host.energy(), abs=1e-3)
            np.testing.assert_allclose(forces, host.forces(), atol=1e-4)


def test_calcium_on_the_surface_relaxes_as_in_the_plain_slab():
    """A larger cation in the upper face moves out; so it does in the host alone, to the same energy."""
    pairs = [*PAIRS, "2 3 1090.4 0.3437 0"]
    charges = {"Mg": 2.0, "O": -2.0, "Ca": 2.0}
    host = {**HOST, "pair_coeff": pairs, "species": ["Mg", "O", "Ca"], "charges": charges}
    inner = {**SAME["inner"], "pair_coeff": pairs, "species": ["Mg", "O", "Ca"]}
    study = asked(
        atoms=slab(3),
        recipe="defect_relaxation",
        defect={"kind": "substitution", "site": on_top(slab(3), "Mg"), "element": "Ca"},
        host=host,
        qm={**SAME, "charges": charges, "inner": inner},
        coupling={"width": 0.0},
        relax={"fmax": 0.02},
    )
    hybrid = run_mapping(study)
    plain = run_mapping({key: value for key, value in study.items() if key not in ("qm", "region", "caps", "coupling")})
    assert hybrid.converged
    assert hybrid.n_qm_calls <= 12
    assert hybrid.energy_eV == pytest.approx(plain.energy_eV, abs=2e-3)
    moved = hybrid.displacement_norm_A[:6]  # calcium first, which is nearest to where it was
    np.testing.assert_allclose(moved, plain.displacement_norm_A[:6], atol=0.02)
    assert moved[0] > 0.2


@pytest.mark.slow
def test_electrons_in_a_surface_vacancy():
    """GPAW on five cations with two electrons amid them: an insulator, little of which spills onto cations outside."""
    pytest.importorskip("gpaw")
    qm = {"engine": "gpaw", "mode": "lcao", "basis": "dzp", "xc": "PBE", "h": 0.2}
    result = run_mapping(asked(qm=qm, caps={"kind": "none", "vacuum": 4.0}))
    assert result.region_charge_e == 8
    assert result.region_potential_rms_error_eV < 1e-3
    assert result.spill_out_e == pytest.approx(0.0127, abs=3e-3)
    assert result.energy_eV == pytest.approx(-2813.953, abs=0.02)


# --- what is refused ------------------------------------------------------------------------------------------------------


def test_charged_slabs(tmp_path, call):
    said = "the energy of a charged slab in a periodic cell grows with the vacuum"
    refused(tmp_path, call, asked(charge=2.0), said, slab())


def test_polar_slabs(tmp_path, call):
    """MgO(111): one side of cations, one of anions."""
    atoms = surface(bulk("MgO", "rocksalt", a=4.2, cubic=True), (1, 1, 1), 2, vacuum=6.0)
    atoms.pbc = True
    polar = asked(atoms=atoms, defect=None, region={"core": {"hops": 1}, "centre": {"site": 0}})
    refused(tmp_path, call, polar, "angstrom of vacuum is polar", atoms)


def test_a_charged_cluster_in_a_box_is_no_slab():
    """Vacuum on all sides: the energy has a limit, as 1/L."""
    atoms = bulk("MgO", "rocksalt", a=4.2, cubic=True)
    atoms.center(vacuum=6.0)
    require_slab_without_field(Crystal.of(atoms), np.where(atoms.symbols == "Mg", 2.0, -2.0), 2.0)


def test_vacuum_and_dipoles_of_slabs():
    atoms = slab(4, vacuum=10.0)
    crystal = Crystal.of(atoms)
    charges = np.where(crystal.numbers == 12, 2.0, -2.0)
    np.testing.assert_allclose(vacuum_along(crystal.positions, crystal.cell), [2.1, 2.1, 10.0])
    assert slab_axes(crystal) == [2]
    assert slab_axes(oxide()) == []
    for shift in (0.0, 7.0, -3.0):  # the slab may lie across the boundary of its cell
        positions = crystal.positions + np.array([0, 0, shift])
        assert potential_step(crystal.with_positions(positions), charges, 2) == pytest.approx(0.0, abs=1e-6)
        positions[charges > 0, 2] += 0.01
        step = 4 * np.pi * 14.399645 * 8 * 2.0 * 0.01 / 4.2**2
        assert potential_step(crystal.with_positions(positions), charges, 2) == pytest.approx(step, rel=1e-5)
