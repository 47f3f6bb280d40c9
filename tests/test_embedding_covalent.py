"""Embedding where link atoms cut polar bonds: Si(OH)4 in quartz, whose partial charges leave no whole number for it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from embedding_cases import mapping
from pymatgen.core import Lattice, Structure
from test_embedding_studies import refused, written

from solidqmmm import recipebook
from solidqmmm.procedures.build import build_model
from solidqmmm.system.study import Study

# The potential of B. W. H. van Beest, G. J. Kramer and R. A. van Santen, Phys. Rev. Lett. 64, 1955 (1990).
SILICA = {
    "pair_style": "buck/coul/long 5.5",
    "pair_coeff": ["* * 0 1 0", "1 2 18003.7572 0.20520482 133.5381", "2 2 1388.773 0.36231884 175.0"],
    "species": ["Si", "O"],
    "charges": {"Si": 2.4, "O": -1.2},
    "commands": ["kspace_style ewald 1e-6", "pair_modify shift yes table 0"],
}
STAND_IN = {"engine": "classical_field", "charges": {"Si": 2.4, "O": -1.2, "H": 0.6}, "polarizabilities": {"O": 0.3}}


def quartz():
    structure = Structure.from_spacegroup(
        "P3_221",
        Lattice.hexagonal(4.9134, 5.4052),
        ["Si", "O"],
        [[0.4697, 0, 2 / 3], [0.4135, 0.2669, 0.7858]],
    )
    return structure.to_ase_atoms()


def asked(boundary="rcd", **changes) -> dict:
    coupling = {"scheme": "electrostatic", "boundary_charges": boundary} | changes.pop("coupling", {})
    return {
        key: value
        for key, value in mapping(
            structure=quartz(),
            supercell=[3, 3, 3],
            recipe="single_point",
            defect=None,
            host=SILICA,
            qm=STAND_IN,
            region={"core": {"hops": 1}, "centre": {"site": 0}},
            caps={"kind": "hydrogen", "whole_coordination": ["Si"]},
            coupling=coupling,
        ).items()
        if value is not None
    } | changes


def built(study):
    return build_model(Study.from_mapping(study, schemas=recipebook.schemas()))


@pytest.mark.parametrize("boundary", ["none", "rc", "rcd", "shift"])
def test_a_tetrahedron_of_silica_from_the_command_line(tmp_path, call, boundary):
    """SiO4 takes -2.4 e out of the host and Si(OH)4 puts nothing there: each Y has 1.8 e left, the worth of three bonds."""
    code, _, err = call("run", written(tmp_path, asked(boundary), quartz()), "--out", tmp_path / "out")
    assert code == 0, err
    result = json.loads((tmp_path / "out/result.json").read_text())
    assert (result["n_atoms_qm"], result["n_link_atoms"]) == (5, 4)
    assert result["region_charge_e"] == 0
    assert result["boundary_balance_e"] == pytest.approx(-2.4)
    assert result["region_potential_rms_error_eV"] < 1e-3
    moved = None if boundary == "none" else pytest.approx(4 * 1.8)
    assert result["boundary_charge_e"] == moved
    assert result["lost_charge_e"] == (None if boundary == "none" else pytest.approx(0.0, abs=1e-9))
    references = json.loads((tmp_path / "out/provenance.json").read_text())["references"]
    assert "wang2010balanced" in references
    assert ("lin2005redistributed" in references) == (boundary in ("rc", "rcd"))


@pytest.mark.parametrize("scheme", ["mechanical", "electrostatic"])
def test_the_engine_is_told_the_charge_of_the_defect(scheme):
    study = asked("none", coupling={"scheme": scheme, "charge": 1.0}, host={**SILICA, "net_charge": 1.0})
    with built(study) as model, model.open() as qmmm:
        assert model.engine.describe()["settings"]["charge"] == 1
        assert qmmm.coupling.own_charge == 1
        assert qmmm.coupling.charge == pytest.approx(1.0 - 2.4)


def test_electrons_are_shown_a_neutral_crystal():
    """In empty space, where nothing is periodic: all charges that the electrons see sum to minus the cluster's."""
    atoms = quartz() * (3, 3, 2)
    atoms.pbc = False
    atoms.center(vacuum=20.0)
    from_middle = np.linalg.norm(atoms.positions - atoms.positions.mean(axis=0), axis=1)
    middle = int(np.argmin(np.where(atoms.symbols == "Si", from_middle, np.inf)))
    host = {**SILICA, "pair_style": "buck/coul/cut 5.5 60.0", "commands": ["pair_modify shift yes"]}
    region = {"core": {"hops": 1}, "centre": {"site": middle}}
    with built(asked(structure=atoms, supercell=[1, 1, 1], host=host, region=region)) as model, model.open() as qmmm:
        assert qmmm.coupling.surroundings.shown.total == pytest.approx(0.0, abs=1e-9)


def test_forces_are_the_gradient_of_the_energy():
    with built(asked("rcd")) as model, model.open() as qmmm:
        rng = np.random.default_rng(1)
        start = model.crystal.positions + 0.02 * rng.normal(size=model.crystal.positions.shape)
        step = 1e-3 * rng.normal(size=start.shape)
        qmmm.host.set_positions(start)
        forces, energies = qmmm.forces(), []
        for sign in (1, -1):
            qmmm.host.set_positions(start + sign * step)
            energies.append(qmmm.energy())
        size = np.linalg.norm(forces) * np.linalg.norm(step)
        assert (energies[1] - energies[0]) / 2 == pytest.approx(float((forces * step).sum()), abs=1e-4 * size)


@pytest.mark.slow
def test_electrons_of_a_tetrahedron():
    """PySCF: bare charges beside the caps pull the electrons most; what is moved away pulls less."""
    pytest.importorskip("pyscf")
    attraction = {}
    for boundary in ("none", "rcd", "rc"):
        study = asked(boundary, qm={"engine": "pyscf", "basis": "sto-3g", "xc": "PBE"})
        with built(study) as model:
            result = recipebook.find("single_point").run(model=model)
        attraction[boundary] = result.energy_terms_eV["qm_mm_electrostatic"]
        assert result.region_charge_e == 0
    assert attraction["none"] > attraction["rcd"] > attraction["rc"] > 0


# --- what is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"qm": {**STAND_IN, "charge": -2.0}}, "-2 e stated, but a cluster that link atoms close has the charge of the"),
        (
            {"caps": {"kind": "none", "whole_coordination": ["Si"]}, "coupling": {"boundary_charges": "none"}},
            "or, where bonds are covalent, link atoms (caps: {kind: hydrogen})",
        ),
        ({"coupling": {"scheme": "mechanical"}}, "`boundary_charges` are for electrons that feel the crystal"),
    ],
)
def test_impossible_requests(tmp_path, call, changes, said):
    refused(tmp_path, call, asked(**changes), said, quartz())
