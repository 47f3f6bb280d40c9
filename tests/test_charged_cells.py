"""Charged defects in series of cells: exact ionic energies, routes that meet, what screens, what is refused."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from typer.testing import CliRunner

from solidqmmm import recipebook
from solidqmmm.engines.closing import Closing
from solidqmmm.engines.lammps import LammpsEngine
from solidqmmm.engines.protocols import PotentialEvaluation
from solidqmmm.errors import ConvergenceError, SolidQMMMError, StudyError
from solidqmmm.physics.electrostatics.ewald import COULOMB, ewald_potential
from solidqmmm.physics.electrostatics.planar_average import planar_average
from solidqmmm.physics.madelung import site_potentials_of
from solidqmmm.procedures.build import build_model
from solidqmmm.procedures.building.host_lattice import relaxed_cell
from solidqmmm.procedures.charged_defects import cell_series
from solidqmmm.procedures.charged_defects.charge_states import ChargeState
from solidqmmm.procedures.charged_defects.host_dielectric import host_dielectric
from solidqmmm.procedures.charged_defects.host_potentials import compared
from solidqmmm.procedures.charged_defects.size_series import extrapolate_table
from solidqmmm.results.base import Result
from solidqmmm.runfolder import RunFolder
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.defect import Defect
from solidqmmm.system.energy_table import read_energies
from solidqmmm.system.potential import Potential
from solidqmmm.system.site_potentials import CellPotentials
from solidqmmm.system.study import Study

A_MGO, RHO_MGO, A_OO, RHO_OO, C_OO, CUTOFF = 821.6, 0.3242, 22764.0, 0.149, 27.88, 8.0
PAIRS = ["* * 0 1 0", f"1 2 {A_MGO} {RHO_MGO} 0.0", f"2 2 {A_OO} {RHO_OO} {C_OO}"]
RIGID = {
    "pair_style": f"buck/coul/long {CUTOFF}",
    "pair_coeff": PAIRS,
    "species": ["Mg", "O"],
    "charges": {"Mg": 2, "O": -2},
    "commands": ["kspace_style ewald 1e-7", "pair_modify shift yes table 0"],
}
STAND_IN = {
    "engine": "classical_field",
    "charges": {"Mg": 2.0, "O": -2.0},
    "polarizabilities": {"Mg": 0.09, "O": 1.65},
    "inner": {"engine": "lammps", "pair_style": f"buck {CUTOFF}", "pair_coeff": PAIRS, "species": ["Mg", "O"],
              "commands": ["pair_modify shift yes"]},
}  # fmt: skip
EMBEDDED = {
    "qm": STAND_IN,
    "region": {"core": {"hops": 1}},
    "caps": {"kind": "none"},
    "coupling": {"scheme": "polarizable", "polarizabilities": {"Mg": 0.09, "O": 1.65}},
}
VACANCY = {"kind": "vacancy", "site": 1}
CUBES = [[2, 2, 2], [3, 3, 3], [4, 4, 4]]
LATTICE = 4.212


def magnesia(a=LATTICE):
    return bulk("MgO", "rocksalt", a=a, cubic=True)


def study(charged, **changes):
    mapping = {
        "recipe": "charged_defect",
        "structure": magnesia(),
        "supercell": [3, 3, 3],
        "defect": VACANCY,
        "host": RIGID,
        "charged": {"charge": 2, "cells": CUBES} | charged,
    }
    mapping = {key: value for key, value in (mapping | changes).items() if value is not None}
    return Study.from_mapping(mapping, schemas=recipebook.schemas())


def run(charged=(), workdir=None, executor=None, **changes):
    asked = study(dict(charged), **changes)
    with build_model(asked, log_dir=workdir) as model:
        return recipebook.find("charged_defect").run(
            model=model, workdir=workdir, executor=executor, **asked.options
        )


def removal_energy() -> float:
    """Of an oxygen ion from the infinite crystal that stays as it is: minus its potential and its pair terms."""
    unit = Crystal.of(magnesia())
    charges = np.where(unit.numbers == 12, 2.0, -2.0)
    potential = site_potentials_of(unit.positions, charges, unit.cell)[1]

    def pair(r, A, rho, C):
        return A * np.exp(-r / rho) - C / r**6

    large = unit.supercell([6, 6, 6])
    oxygen = large.numbers == 8
    middle = large.cell.sum(axis=0) / 2
    centre = large.positions[oxygen][np.linalg.norm(large.positions[oxygen] - middle, axis=1).argmin()]
    r = np.linalg.norm(large.positions - centre, axis=1)
    near = (r > 0.1) & (r < CUTOFF)
    short = 0.0
    for distance, number in zip(r[near], large.numbers[near]):
        terms = (A_MGO, RHO_MGO, 0.0) if number == 12 else (A_OO, RHO_OO, C_OO)
        short += pair(distance, *terms) - pair(CUTOFF, *terms)
    return float(2 * potential - short)


# --- energies -------------------------------------------------------------------------------------------------


def test_ions_that_do_not_move_leave_the_point_charge_alone():
    """E = E_inf + E_pc in vacuum, exactly, in cells of any shape; E_inf is known from the ion's potential and its pairs."""
    cells = [*CUBES, [2, 2, 4], [[3, 1, 0], [0, 3, 0], [0, 1, 3]]]
    result = run({"cells": cells})
    assert result.dielectric.tolist() == np.eye(3).tolist()
    assert result.E_inf_eV == pytest.approx(removal_energy(), abs=1e-3)
    assert max(abs(p["residual_eV"]) for p in result.points) < 1e-3
    assert {p["label"] for p in result.points} == {"2x2x2", "3x3x3", "4x4x4", "2x2x4", "3 1 0/0 3 0/0 1 3"}
    for name in ("Makov-Payne, 1/L", "Lany-Zunger", "FNV", "eFNV"):
        assert result.routes[name]["E_inf_eV"] == pytest.approx(result.E_inf_eV, abs=1e-3)


def test_an_engine_alone_is_the_host_alone():
    qm = {"engine": "lammps", **RIGID}
    alone = run({"dielectric": 1.0, "cells": CUBES[:2], "fit": {"terms": [1]}}, host=None, qm=qm)
    host = run({"cells": CUBES[:2], "fit": {"terms": [1]}})
    for a, b in zip(alone.points, host.points):
        assert a["energy_eV"] == pytest.approx(b["energy_eV"], abs=1e-5)
    assert alone.engine.startswith("lammps")
    relaxed = {"dielectric": 11.5, "cells": [[2, 2, 2]], "fit": {"terms": [1]}, "ions": "relaxed", "fmax": 2e-3}
    a, b = run(relaxed, host=None, qm=qm), run(relaxed)
    assert a.points[0]["energy_eV"] == pytest.approx(b.points[0]["energy_eV"], abs=1e-3)


class Telling(Closing):
    """Rigid ions that tell their potentials; in a cell with a charge q all are shifted by c, and its energy by q c."""

    calls, metallic = 0, False

    def __init__(self, engine, charge: float, shift: float):
        self.engine, self.charge, self.shift = engine, charge, shift
        self.name, self.provides_stress = engine.name, engine.provides_stress

    def evaluate(self, atoms, *, stress=False):
        found = self.engine.evaluate(atoms, stress=stress)
        return replace(found, energy=found.energy + self.charge * self.shift)

    def evaluate_with_potentials(self, atoms):
        Telling.calls += 1
        found = self.evaluate(atoms)
        charges = np.where(atoms.numbers == 12, 2.0, -2.0)
        shift = self.shift if self.charge else 0.0
        given = (atoms.positions, charges, atoms.cell.array)
        V = ewald_potential(atoms.positions, *given, derivatives=0, background=True)[0] + shift
        planes = tuple(planar_average(axis, 90, *given) + shift for axis in range(3))
        edges = None if self.charge and self.metallic else np.array([-3.0, 4.5])
        return PotentialEvaluation(
            found.energy, found.forces, site_potentials=V, planar_potentials=planes, band_edges=edges
        )

    def describe(self):
        return {**self.engine.describe(), "shift": self.shift}

    def close(self):
        self.engine.close()


def telling(monkeypatch, shift: float):
    from solidqmmm.engines.factory import make_engine

    def made(settings, **options):
        return Telling(make_engine(settings, **options), settings.net_charge, shift)

    monkeypatch.setattr("solidqmmm.engines.factory.make_engine", made)


@pytest.mark.parametrize("shift", [0.0, -0.8])
def test_an_engine_that_tells_its_potentials_needs_no_table(shift, monkeypatch):
    """FNV and eFNV of every cell, whatever the zero of the charged one; band edges are those of the perfect crystal."""
    telling(monkeypatch, shift)
    result = run({"dielectric": 1.0, "cells": CUBES[:2], "fit": {"terms": [1]}}, host=None, qm={"engine": "lammps", **RIGID})
    exact = removal_energy()
    for name in ("FNV", "eFNV"):
        assert result.routes[name]["by_cell"] == pytest.approx({"2x2x2": exact, "3x3x3": exact}, abs=2e-3)
        assert result.routes[name]["alignment_V"] == pytest.approx(shift, abs=1e-3)
        assert abs(result.routes[name]["change_eV"]) < 2e-3
        assert "since the cell before" in dict(result.summary())[name]
        assert result.routes[name]["cell"] == "3x3x3"
    figure = recipebook.find("charged_defect").figures(result)["finite_size"].figure
    drawn = [line for line in figure.axes[0].lines if line.get_gid() == "by cell"]
    assert len(drawn) == 2
    for line in drawn:
        np.testing.assert_allclose(line.get_xdata(), [1 / 8.424, 1 / 12.636], rtol=1e-6)
        np.testing.assert_allclose(line.get_ydata(), exact, atol=2e-3)
    assert (result.vbm_eV, result.band_gap_eV) == (-3.0, 7.5)
    assert ChargeState.of(result, "V_O").band_edges == (-3.0, 7.5)
    assert not any("partly filled" in text for text in result.warnings)
    if shift:
        assert abs(result.E_inf_eV - exact) > 1  # the fit cannot know


def test_a_charge_in_the_bands_is_told(tmp_path, monkeypatch):
    """Also when the cell is read from its record."""
    telling(monkeypatch, 0.0)
    monkeypatch.setattr(Telling, "metallic", True)
    charged = {"dielectric": 1.0, "cells": CUBES[:1], "fit": {"A": "fixed", "terms": [1]}}
    for _ in range(2):
        result = run(charged, workdir=tmp_path, host=None, qm={"engine": "lammps", **RIGID})
        assert any("partly filled" in text and "2x2x2" in text for text in result.warnings)
        assert result.vbm_eV == -3.0


def test_told_potentials_are_not_computed_again(tmp_path, monkeypatch):
    """They come from the records of cells, and without these from the journal."""
    telling(monkeypatch, 0.0)
    charged = {"dielectric": 1.0, "cells": CUBES[:1], "fit": {"terms": [1]}}
    alone = {"host": None, "qm": {"engine": "lammps", **RIGID}}
    Telling.calls = 0
    first = run(charged, workdir=tmp_path, **alone)
    assert Telling.calls == 2
    for record in (tmp_path / "nothing", tmp_path / "cells" / "2x2x2.npz"):
        record.unlink(missing_ok=True)
        again = run(charged, workdir=tmp_path, **alone)
        assert again.routes == first.routes
        assert (again.vbm_eV, again.band_gap_eV) == (-3.0, 7.5)
    assert Telling.calls == 2
    assert (tmp_path / "cells" / "2x2x2.npz").is_file()


def test_an_atom_that_left_its_site_has_no_counterpart():
    """Displaced atoms stand for their own sites while these are the nearest; one that hopped into the vacancy for none."""
    perfect = Crystal.of(magnesia()).supercell([2, 2, 2])
    defect = Defect("vacancy", 0, str(perfect.symbols[0]), "", perfect.positions[0])
    crystal = defect.applied_to(perfect)
    positions = crystal.positions + 0.4 * np.random.default_rng(2).normal(size=(63, 3)) / 3**0.5
    same = np.flatnonzero(crystal.numbers == perfect.numbers[0])
    hopped = same[np.linalg.norm(crystal.positions[same] - perfect.positions[0], axis=1).argmin()]
    positions[hopped] = perfect.positions[0] + 8.424  # by a lattice vector of the cell in each direction
    planes = (np.zeros(4),) * 3
    V = np.arange(64.0)
    with_it = CellPotentials(positions, np.delete(V, 0) + 0.5, planes)
    found = compared(defect, with_it, CellPotentials(perfect.positions, V, planes), perfect.cell)
    assert len(found.defect) == 62
    np.testing.assert_allclose(found.defect - found.bulk, 0.5)
    assert hopped + 1 not in found.bulk


def test_relaxed_ions_screen_with_the_static_constant():
    """The constant is computed, the slope is its, and routes that share nothing with the fit meet it within 20 meV."""
    fit = {"A": "fixed", "terms": [1, 3, 5]}
    result = run({"ions": "relaxed", "fmax": 1e-3, "fit": fit}, structure=magnesia(relaxed_lattice()))
    assert result.dielectric[0, 0] == pytest.approx(11.53, abs=0.05)
    for name in ("FNV", "eFNV"):
        assert result.routes[name]["E_inf_eV"] == pytest.approx(result.E_inf_eV, abs=0.02)
    assert result.E_inf_eV == pytest.approx(23.966, abs=5e-3)  # of cells up to 6x6x6


def test_shells_screen_with_the_electronic_constant():
    host = {"model": "lewis_catlow_MgO"}
    asked = {"dielectric": 4.0, "fit": {"A": "free", "terms": [1, 3]}, "mott_littleton": False}
    result = run(asked, host=host, structure=magnesia(4.19834))
    assert any("is not that of the model, 2.17" in text for text in result.warnings)
    assert result.fit["A_eV_A"] / result.fit["A_predicted_eV_A"] == pytest.approx(4.0 / 2.172, rel=0.01)
    result = run({}, host=host, structure=magnesia(4.19834))
    assert result.dielectric[0, 0] == pytest.approx(2.172, abs=2e-3)
    for name in ("eFNV", "Mott-Littleton"):
        assert result.routes[name]["E_inf_eV"] == pytest.approx(result.E_inf_eV, abs=0.02)
    assert result.fit["residual_rms_eV"] < 1e-3
    assert all("one degree of freedom" in text for text in result.warnings)


def test_a_quantum_region_among_induced_dipoles():
    """Polarizable embedding in growing cells: the slope is that of the induced dipoles' own dielectric constant."""
    result = run({"fit": {"A": "free", "terms": [1, 3]}}, **EMBEDDED)
    assert result.dielectric[0, 0] == pytest.approx(2.892, abs=2e-3)
    assert result.fit["A_eV_A"] == pytest.approx(result.fit["A_predicted_eV_A"], rel=0.01)
    assert "polarizable" in result.coupling
    assert result.routes["eFNV"]["E_inf_eV"] is None
    assert "potential" in result.routes["eFNV"]["reason"]


def test_the_example_of_magnesia(tmp_path):
    """What the example promises: a shell model, relaxed; extrapolation, FNV and eFNV in three cells instead of four."""
    from pathlib import Path

    folder = Path(__file__).parents[1] / "examples" / "magnesia_vacancy"
    asked = recipebook.load_study(folder / "study.yaml")
    asked = asked.with_options(cells=CUBES, fit={"A": "fixed", "terms": [1, 3, 5]})
    with build_model(asked, log_dir=tmp_path) as model:
        result = recipebook.find("charged_defect").run(model=model, workdir=tmp_path, **asked.options)
    table = read_energies(folder / "energies.csv")
    assert [p["energy_eV"] for p in result.points] == pytest.approx([c.energy for c in table.cells[:3]], abs=2e-3)
    assert extrapolate_table(table, 2, 8.378).E_inf_eV == pytest.approx(25.297, abs=2e-3)
    assert result.dielectric[0, 0] == pytest.approx(8.378, abs=5e-3)
    for name in ("extrapolation", "FNV", "eFNV", "Mott-Littleton"):
        assert result.routes[name]["E_inf_eV"] == pytest.approx(25.297, abs=0.02)


# --- resuming and tasks -----------------------------------------------------------------------------------------


def test_finished_cells_are_read_and_new_ones_computed(tmp_path, monkeypatch):
    """A longer series in the same folder computes only what is new; an executor gives the same numbers."""
    computed = []
    original = cell_series._of_host

    def counted(model, task):
        computed.append(len(model.crystal))
        return original(model, task)

    monkeypatch.setattr(cell_series, "_of_host", counted)
    fit = {"A": "fixed", "terms": [1]}
    first = run({"cells": CUBES[:2], "fit": fit}, workdir=tmp_path)
    assert computed == [63, 215]
    again = run({"cells": CUBES[:2], "fit": fit}, workdir=tmp_path)
    assert computed == [63, 215]
    assert again.points == first.points
    assert again.routes == first.routes
    with ThreadPoolExecutor(2) as executor:
        longer = run({"cells": CUBES, "fit": fit}, workdir=tmp_path, executor=executor)
    assert computed == [63, 215, 511]
    assert [p["energy_eV"] for p in longer.points[:2]] == [p["energy_eV"] for p in first.points]
    relaxed = {"ions": "relaxed", "cells": CUBES[:1], "fit": fit, "dielectric": 10}
    run(relaxed, workdir=tmp_path)
    assert computed == [63, 215, 511, 63]


# --- constants ----------------------------------------------------------------------------------------------------


def relaxed_lattice() -> float:
    with LammpsEngine(Potential(**RIGID)) as engine:
        return float((4 * relaxed_cell(Crystal.of(bulk("MgO", "rocksalt", a=LATTICE)), engine).volume) ** (1 / 3))


def test_static_constant_of_rigid_ions_is_the_closed_formula():
    """eps = 1 + 4 pi k z^2/(V K) with K = S - 4 pi k z^2/(3 V), S the curvature of the pair terms at the rest."""
    a = relaxed_lattice()
    unit = Crystal.of(bulk("MgO", "rocksalt", a=a))
    electronic, static = host_dielectric(unit, Potential(**RIGID))
    S = 0.0
    for neighbours, square in ((6, 1), (8, 3), (24, 5)):
        r = a / 2 * np.sqrt(square)
        if r < CUTOFF:
            S += neighbours / 3 * A_MGO * np.exp(-r / RHO_MGO) * (1 / RHO_MGO**2 - 2 / RHO_MGO / r)
    lorentz = 4 * np.pi * COULOMB * 4 / unit.volume
    assert electronic.tolist() == np.eye(3).tolist()
    np.testing.assert_allclose(static, (1 + lorentz / (S - lorentz / 3)) * np.eye(3), rtol=3e-3, atol=1e-6)


def test_a_constant_that_is_given_needs_no_crystal_at_rest():
    """Ions fixed where the structure has them, off their places: its own constant is not known, and not needed."""
    displaced = magnesia()
    displaced.positions += 0.05 * np.eye(8, 3)
    result = run({"dielectric": 1.0, "cells": CUBES[:1], "fit": {"A": "fixed", "terms": [1]}}, structure=displaced)
    assert any("was not compared with that of the model" in text for text in result.warnings)
    with pytest.raises(SolidQMMMError, match=r"lattice: host\}.*or give `dielectric`"):
        run({"cells": CUBES[:1]}, structure=displaced)


def test_crystals_without_a_constant():
    displaced = Crystal.of(magnesia()).with_positions(magnesia().positions + 0.1 * np.eye(8, 3))
    with pytest.raises(SolidQMMMError, match="not at rest"):
        host_dielectric(displaced, Potential(**RIGID))
    expanded = Crystal.of(bulk("MgO", "rocksalt", a=5.4))
    with pytest.raises(SolidQMMMError, match="not at a minimum"):
        host_dielectric(expanded, Potential(**RIGID))


def test_planes_are_averages_of_the_potential():
    rng = np.random.default_rng(5)
    cell = np.array([[7.0, 0, 0], [1.0, 6.0, 0], [0.5, -1.0, 8.0]])
    positions, charges = rng.random((5, 3)) @ cell, np.array([1.0, -2.0, 0.5, 1.5, 0.7])
    mesh = (np.stack(np.meshgrid(*[(np.arange(24) + 0.37) / 24] * 2, indexing="ij"), axis=-1)).reshape(-1, 2)
    for axis in range(3):
        found = planar_average(axis, 10, positions, charges, cell)
        points = np.insert(mesh, axis, 0.3, axis=1) @ cell
        smeared = ewald_potential(points, positions, charges, cell, sigma=0.8, derivatives=0, background=True)[0].mean()
        exact = planar_average(axis, 4000, positions, charges, cell)
        width = 1 / np.linalg.norm(np.linalg.inv(cell)[:, axis])
        z = (np.arange(4000) / 4000 - 0.3 + 0.5) % 1.0 - 0.5
        weight = np.exp(-((z * width) ** 2) / (2 * 0.8**2))
        assert smeared == pytest.approx((exact * weight).sum() / weight.sum(), abs=5e-3)
        assert found[3] == pytest.approx(exact[1200])
        assert exact.mean() == pytest.approx(0, abs=1e-4)


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("charged", "changes", "message"),
    [
        ({"charge": 1}, {}, r"sum to \+2 e, and charged.charge is \+1"),
        ({}, {"host": RIGID | {"net_charge": 1.0}}, r"host.net_charge is \+1, and charged.charge \+2"),
        ({}, {"defect": None}, "needs the `defect`"),
        ({"cells": None}, {}, "give `cells`"),
        ({}, EMBEDDED | {"coupling": "subtractive", "qm": {"engine": "lammps", **RIGID}}, "has no charged defects"),
        ({}, {"host": None, "qm": {"engine": "lammps", **RIGID}}, "dielectric is auto: an engine alone"),
        ({"dielectric": 3}, EMBEDDED | {"coupling": EMBEDDED["coupling"] | {"charge": -2}}, "coupling.charge is -2"),
    ],
)
def test_what_is_no_series(charged, changes, message):
    with pytest.raises(StudyError, match=message):
        run(charged, **changes)


def test_overpolarized_ions_have_no_static_constant():
    """Full charges and the polarizability of free oxygen ions together: the lattice would go soft."""
    with pytest.raises(SolidQMMMError, match="softest force constant"):
        run({"ions": "relaxed"}, **EMBEDDED)


def test_ions_that_do_not_come_to_rest(monkeypatch):
    monkeypatch.setattr(cell_series, "_MOST_STEPS", 2)
    with pytest.raises(ConvergenceError, match="2x2x2 did not come to rest"):
        run({"ions": "relaxed", "dielectric": 10}, host=None, qm={"engine": "lammps", **RIGID})


@pytest.mark.parametrize(
    ("charged", "message"),
    [
        ({"dielectric": [1, 2]}, "got 2 values"),
        ({"dielectric": "ten"}, "must be a number"),
        ({"fit": {"terms": [2]}}, "powers of 1/L"),
        ({"cells": [[2, 2]]}, "three positive integers"),
        ({"cels": [[2, 2, 2]]}, "did you mean 'cells'"),
        ({"ions": "free"}, "'fixed' or 'relaxed'"),
        ({"energies": "nowhere.csv"}, "has no meaning beside charged.energies"),
    ],
)
def test_mistakes_in_the_section(charged, message):
    with pytest.raises(StudyError, match=message):
        study(charged)


def test_a_study_of_numbers_alone(tmp_path, monkeypatch):
    """It needs no crystal; its run folder holds table and structures, and says the same again."""
    from solidqmmm.cli.app import app

    monkeypatch.chdir(tmp_path)
    (tmp_path / "cells").mkdir()
    rows = ["label,n_atoms,energy_eV,structure"]
    for n, E in zip((2, 3, 4, 5), (0.5890140704, 0.7032455809, 0.8560438285, 0.9519751322)):
        Crystal.of(bulk("MgO", "rocksalt", a=5.0 * n)).to_structure().to(str(tmp_path / f"cells/{n}.cif"))
        rows.append(f"{n},2,{E},cells/{n}.cif")
    (tmp_path / "energies.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "study.yaml").write_text(
        "recipe: charged_defect\n"
        "charged: {charge: 2, dielectric: 10, energies: energies.csv, fit: {A: free, terms: [1, 3]}}\n"
    )
    done = CliRunner().invoke(app, ["run", "study.yaml", "--out", "out"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "cells" / "4.cif").is_file()
    assert json.loads((tmp_path / "out" / "result.json").read_text())["recipe"] == "charged_defect"
    assert "nothing to do" in CliRunner().invoke(app, ["run", "study.yaml", "--out", "out"]).output
    copy = CliRunner().invoke(app, ["run", "out/study.yaml", "--out", "again"])
    assert copy.exit_code == 0, copy.output
    assert Result.load(tmp_path / "again").fit == Result.load(tmp_path / "out").fit
    with build_model(recipebook.load_study("study.yaml")) as model:
        again = recipebook.find("charged_defect").run(model=model, **model.study.options)
    assert again.fit == Result.load(tmp_path / "out").fit
    assert "numbers are known" in CliRunner().invoke(app, ["run", "study.yaml", "--dry-run"]).output
    wrong = CliRunner().invoke(app, ["carve", "study.yaml"])
    assert "no quantum region" in str(wrong.exception)
    with pytest.raises(StudyError, match="missing, and it has no default"):
        Study.from_mapping({"recipe": "charged_defect", "charged": {"charge": 2}}, schemas=recipebook.schemas())


def test_a_series_grows_in_its_folder(tmp_path):
    """Finished cells stay and are read; what changes an energy is refused; result and figures of before are gone."""

    def prepared(charged) -> RunFolder:
        folder = RunFolder(tmp_path / "run")
        assert not folder.prepare(study(charged))
        folder.figures.mkdir(exist_ok=True)
        (folder.figures / "mott_littleton.png").touch()
        folder.write_result(run(charged, workdir=folder.path))
        return folder

    prepared({"cells": CUBES[:2], "fit": {"A": "fixed", "terms": [1]}})
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "run/cells").iterdir()}
    assert len(kept) == 2
    folder = prepared({"cells": CUBES, "fit": {"A": "fixed", "terms": [1, 3]}})
    assert len(Result.load(folder.path).points) == 3
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    folder.prepare(study({"cells": CUBES}))
    assert not folder.result_file.exists()
    assert not list(folder.figures.iterdir())
    assert not folder._is_complete()
    for other in ({"charge": 1}, {"ions": "relaxed"}, {"fmax": 0.001}):
        with pytest.raises(StudyError, match="holds the run of another study"):
            RunFolder(folder.path).prepare(study({"cells": CUBES} | other))
