"""Studies with additive couplings: relaxations and dynamics through LAMMPS, and requests that cannot be met."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase.build import bulk
from embedding_cases import (
    COUPLINGS,
    HOST,
    ISOLATED,
    PAIRS,
    QM,
    mapping,
    model_of,
    oxide,
    run,
    run_mapping,
)

from solidqmmm.procedures.dry_run import estimate
from solidqmmm.procedures.dynamics import run_dynamics
from solidqmmm.procedures.relax import relax
from solidqmmm.results.base import Result
from solidqmmm.system import study_file

every = pytest.mark.parametrize("embedding", COUPLINGS)
SHELL, BUFFER = {"core": {"hops": 1}}, {"core": {"hops": 1}, "buffer": {"hops": 1}}
regions = pytest.mark.parametrize(
    "region", [pytest.param(SHELL, id="6 atoms"), pytest.param(BUFFER, id="24 atoms", marks=pytest.mark.slow)]
)


# --- single points and relaxations ------------------------------------------------------------------------------------


@every
def test_single_point(tmp_path, embedding):
    result = run(embedding, recipe="single_point")
    result.save(tmp_path / "result.json")
    written = json.loads((tmp_path / "result.json").read_text())
    assert sum(written["energy_terms_eV"].values()) == pytest.approx(written["energy_eV"], abs=1e-9)
    assert {"mm", "qm", "qm_mm_electrostatic", "qm_mm_short_range"} <= set(written["energy_terms_eV"])
    assert written["region_charge_e"] == 12
    assert written["region_potential_rms_error_eV"] < 1e-3
    assert written["stress_GPa"] is None
    assert (written["dipoles_e_A"] is not None) == (embedding == "polarizable")
    assert ("polarization" in written["energy_terms_eV"]) == (embedding == "polarizable")
    if embedding != "mechanical":
        assert written["scf_iterations"] >= 1
    again = Result.load(tmp_path / "result.json")
    assert again.region_charge_e == 12


@regions
@every
def test_a_relaxed_vacancy_takes_few_calls(embedding, region):
    result = run(embedding, region=region, relax={"fmax": 0.02})
    assert result.converged
    assert result.max_force_eV_per_A <= 0.02
    assert result.n_qm_calls <= 15
    outward = [row["radial_A"] for row in result.neighbour_displacements_A if row["shell"] == 1]
    assert np.ptp(outward) < 0.02  # the rattle is forgotten
    assert min(outward) > 0.15


@regions
@pytest.mark.parametrize("embedding", ["mechanical", "electrostatic"])
def test_the_same_ions_on_both_sides_have_the_formation_energy_of_the_host_alone(embedding, region):
    asked = {"relax": {"fmax": 0.01, "chemical_potentials": {"O": -5.0}}}
    same = {"engine": "classical_field", "charges": QM["charges"], "inner": {**QM["inner"], "pair_coeff": PAIRS}}
    alone = mapping(host={**HOST, "net_charge": 2.0}, **asked)
    plain = run_mapping({key: value for key, value in alone.items() if key not in ("qm", "region", "caps", "coupling")})
    points = {"scheme": embedding, "charge": 2.0, "width": 0.0}
    hybrid = run(qm=same, region=region, coupling=points, **asked)
    assert hybrid.formation_energy_eV == pytest.approx(plain.formation_energy_eV, abs=2e-3)


def test_a_second_run_asks_nothing(tmp_path):
    options = {**ISOLATED, "relax": {"fmax": 0.05}}
    first = run("polarizable", tmp_path, **options)
    records = sorted((tmp_path / "journal").iterdir())
    again = run("polarizable", tmp_path, **options)
    assert sorted((tmp_path / "journal").iterdir()) == records
    assert again.energy_eV == first.energy_eV
    np.testing.assert_array_equal(again.dipoles_e_A, first.dipoles_e_A)


def test_trapped_electrons_of_a_neutral_vacancy():
    """The stand-in's charge is what the ions around leave to the cluster: two electrons fewer than its ions sum to."""
    neutral = run("electrostatic", charge=0.0, recipe="single_point")
    assert neutral.region_charge_e == 10
    with model_of("electrostatic", charge=0.0) as model:
        assert model.engine.describe()["settings"]["charge"] == 10


def test_dry_run_of_a_charged_cell():
    with model_of("electrostatic") as model:
        found = estimate(model)
    assert (found.n_atoms, found.n_quantum) == (215, 6)


# --- dynamics -----------------------------------------------------------------------------------------------------------


def drift_eV_per_atom_per_ps(model, *, steps: int) -> float:
    """Slope of the total energy at about 30 K, the crystal relaxed before."""
    with model.open() as qmmm:
        relax(qmmm, fmax=0.05)
        result = run_dynamics(qmmm, steps=steps, timestep_fs=0.5, initial_temperature_K=60.0, every=2)
    slope = np.polyfit(result.times_fs / 1000, result.total_energy_eV, 1)[0]
    return abs(slope) / len(model.crystal)


def test_dynamics_keep_the_energy():
    with model_of("polarizable", **ISOLATED) as model:
        assert drift_eV_per_atom_per_ps(model, steps=400) < 1e-6


@pytest.mark.slow
def test_dynamics_of_a_periodic_crystal_keep_the_energy():
    with model_of("polarizable", supercell=[2, 2, 2]) as model:
        assert drift_eV_per_atom_per_ps(model, steps=300) < 1e-6


# --- what is owed ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("coupling", "owed", "not_owed"),
    [
        ({"scheme": "electrostatic"}, {"senn2009qmmm", "sokol2004hybrid"}, {"thole1981", "lin2005redistributed"}),
        (COUPLINGS["polarizable"], {"applequist1972dipole", "thole1981", "ren2003polarizable"}, {"dick1958theory"}),
        ({**COUPLINGS["polarizable"], "damping": "none"}, {"applequist1972dipole"}, {"thole1981"}),
        ({"scheme": "electrostatic", "boundary_charges": "rcd"}, {"lin2005redistributed"}, {"sherwood2003quasi"}),
        ({"scheme": "electrostatic", "boundary_charges": "shift"}, {"sherwood2003quasi"}, {"lin2005redistributed"}),
    ],
)
def test_references_of_what_was_used(coupling, owed, not_owed):
    with model_of(coupling={**coupling, "charge": 2.0}, supercell=[2, 2, 2]) as model:
        keys = set(model.references())
    assert owed <= keys
    assert not keys & not_owed


def test_references_reach_the_run_folder(tmp_path, call):
    """A shell model, its dipoles' source, the embedding: provenance.json has them all, and `cite` their entries."""
    host = {"model": "lewis_catlow_MgO", "pair_style": "buck/coul/long/cs 4.95"}
    asked = mapping("electrostatic", recipe="single_point", supercell=[2, 2, 2], host=host)
    code, _, err = call("run", written(tmp_path, asked, None), "--out", tmp_path / "out")
    assert code == 0, err
    references = json.loads((tmp_path / "out/provenance.json").read_text())["references"]
    assert {"lewis1985potentials", "dick1958theory", "mitchell1993adiabatic", "senn2009qmmm"} <= set(references)
    _, out, _ = call("cite", tmp_path / "out")
    assert "@article{dick1958theory" in out
    assert "no entry" not in out


# --- what cannot be -------------------------------------------------------------------------------------------------------


def partial(fraction):
    return {**HOST, "charges": {"Mg": fraction, "O": -fraction}}


TERSOFF = {"pair_style": "tersoff", "pair_coeff": ["* * SiC.tersoff Si C"], "species": ["Si", "C"]}
LAMMPS = {**QM["inner"], "pair_coeff": PAIRS}


UNEVEN = {**HOST, "charges": {"Mg": 2.0, "O": -1.9}}
UNCHARGED = {"pair_style": "buck 6.0", "pair_coeff": PAIRS, "species": ["Mg", "O"]}
ON_ATOM = {"defect": None, "region": {"core": {"hops": 1}, "centre": {"site": 0}}}
EMT = {"engine": "ase", "calculator": "ase.calculators.emt:EMT"}


def coupled(scheme, **options):
    return {"coupling": {"scheme": scheme, **options}}


@pytest.mark.parametrize(
    ("embedding", "changes", "said"),
    [
        (
            "electrostatic",
            {"qm": {**QM, "charge": 3.0}},
            "+3 e stated, but the ions around the 6 quantum atoms sum to -10 e and the crystal to +2 e, which leaves +12",
        ),
        ("electrostatic", {"host": partial(1.7)}, "sum to -8.5 e and the crystal to +2 e, which leaves +10.5 e"),
        ("electrostatic", {"host": UNEVEN}, "charges of Mg108O108 sum to +10.8 e, stated 0"),
        ("mechanical", {"host": UNEVEN}, "charges of Mg108O108 sum to +10.8 e, stated 0"),
        ("mechanical", {"host": UNCHARGED}, "the charges of the host's ions, and pair_style buck 6.0 has none"),
        ("electrostatic", {"qm": {**QM, "charges": {"Mg": 1.0}}, **ON_ATOM}, "sum to +1 e, stated -8 e"),
        ("polarizable", coupled("polarizable", polarizabilities={"O": 1.65}), "coupling.polarizabilities: missing for Mg"),
        ("polarizable", coupled("polarizable"), "`polarizable` needs `polarizabilities` by element"),
        ("electrostatic", coupled("electrostatic", polarizabilities={"O": 1}), "belong to scheme polarizable"),
        ("electrostatic", {"qm": LAMMPS}, "an engine whose electrons feel external charges, and those of 'lammps' do not"),
        ("polarizable", {"qm": EMT}, "and those of 'ase' do not"),
        ("electrostatic", {"matching": "auto"}, "coupling: electrostatic has no lattice matching"),
        ("electrostatic", {"caps": {"kind": "none", "periodic_axes": [0]}}, "leave caps.periodic_axes out"),
        ("electrostatic", {"recipe": "elastic_tensor"}, "the additive coupling 'electrostatic' has no virial"),
        ("mechanical", {"recipe": "defect_phonons"}, "phonons with the additive coupling 'mechanical' do not exist"),
    ],
)
def test_impossible_requests(tmp_path, call, embedding, changes, said):
    refused(tmp_path, call, mapping(embedding, **changes), said)


def test_many_body_hosts(tmp_path, call):
    silicon = {"structure": {"file": "crystal.cif"}, "host": TERSOFF, "supercell": [3, 3, 3]}
    asked = mapping("mechanical", charge=0.0, qm={**LAMMPS, "species": ["Si"]}, **silicon)
    said = "atoms cannot be excluded from pair_style tersoff: its energy is not a sum over pairs"
    refused(tmp_path, call, asked, said, bulk("Si", a=5.43, cubic=True))


def test_slabs(tmp_path, call):
    slab = oxide().to_atoms()
    slab.pbc = (True, True, False)
    host = {**HOST, "commands": [*HOST["commands"], "kspace_modify slab 3.0"]}
    asked = mapping(structure={"file": "crystal.xyz", "cell": "as_given"}, supercell=[3, 3, 1], host=host)
    refused(tmp_path, call, asked, "periodic in all directions or in none", slab)


def test_an_ion_on_a_quantum_atom(tmp_path, call):
    atoms = oxide().to_atoms()
    atoms.positions[0] = atoms.positions[1] + [0.0, 0.0, 0.45]
    refused(tmp_path, call, mapping(), "overlap: they are 0.450 A apart", atoms)


def test_an_interstitial_on_an_ion(tmp_path, call):
    defect = {"kind": "interstitial", "element": "O", "position": [0.0, 0.0, 0.45 / 4.2]}
    asked = mapping(charge=-2.0, defect=defect, region={"core": {"hops": 0}})
    refused(tmp_path, call, asked, "(+2 e) lies 0.45 angstrom from nucleus 0 of the quantum cluster")


def test_an_ion_that_comes_too_near():
    with model_of("electrostatic", recipe="single_point") as model, model.open() as qmmm:
        moved = model.crystal.positions.copy()
        atom = model.partition.quantum[0]
        apart = np.linalg.norm(moved - moved[atom], axis=1)
        ion = next(i for i in np.argsort(apart) if i not in model.partition.quantum)
        moved[ion] = moved[atom] + [0.0, 0.0, 0.45]
        qmmm.host.set_positions(moved)
        with pytest.raises(ValueError, match=r"lies 0\.45 angstrom from nucleus"):
            qmmm.energy()


def test_no_trust_report(tmp_path, call):
    study = written(tmp_path, mapping(), None)
    code, _, err = call("check", study, "--out", tmp_path / "out")
    assert code == 2
    assert "recipe embedding_ladder shows" in err


def written(folder, asked, atoms):
    atoms = oxide().to_atoms() if atoms is None else atoms
    if isinstance(asked["structure"], dict):
        atoms.write(folder / asked["structure"]["file"])
    else:
        asked = asked | {"structure": {"file": "crystal.xyz", "cell": "as_given"}}
        atoms.write(folder / "crystal.xyz")
    (folder / "study.yaml").write_text(study_file.to_yaml({k: v for k, v in asked.items() if v is not None}))
    return folder / "study.yaml"


def refused(folder, call, asked, said, atoms=None):
    """Exit code 2, one message without a traceback, no result and no engine call."""
    code, out, err = call("run", written(folder, asked, atoms), "--out", folder / "out")
    assert said in " ".join(err.split())
    assert code == 2, err
    assert "Traceback" not in out + err
    for name in ("result.json", "provenance.json", "figures", "journal"):
        assert not (folder / "out" / name).exists()
