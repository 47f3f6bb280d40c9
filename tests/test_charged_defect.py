"""Charged defects from tables of energies: exact series, routes that agree, spread that is honest, bad input in words."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from typer.testing import CliRunner

from solidqmmm.errors import StudyError
from solidqmmm.physics.charged_defects.efnv import efnv, sphere_radius
from solidqmmm.physics.electrostatics.ewald import COULOMB, ewald_energy, ewald_potential
from solidqmmm.physics.madelung import point_charge_energy
from solidqmmm.procedures.charged_defects.potential_routes import freysoldt, potential_routes
from solidqmmm.procedures.charged_defects.size_series import extrapolate, extrapolate_table
from solidqmmm.results.base import Result
from solidqmmm.results.charged_defect import ChargedDefectResult
from solidqmmm.system.energy_table import CellEnergy, read_energies
from solidqmmm.system.site_potentials import SitePotentials, read_site_potentials
from solidqmmm.system.study_charged import FitRequest, read_dielectric

# A Gaussian of charge 2 and width 1.2 angstrom in a medium of eps = 10, in cubes (closed Ewald form), eV.
LENGTHS = (10, 12, 16, 20, 24)
ENERGIES = (0.5890140704, 0.7032455809, 0.8560438285, 0.9519751322, 1.0173241675)
E_INF = 1.3540216643
SIGMA, EPS, CHARGE = 1.2, 10.0, 2.0
TABLE = "label,n_atoms,energy_eV,length_A\n" + "".join(
    f"{L} A,{L**3 // 10},{E},{L}\n" for L, E in zip(LENGTHS, ENERGIES)
)


def cubes(lengths=LENGTHS, energies=ENERGIES, errors=None):
    errors = errors or [None] * len(lengths)
    return [CellEnergy(f"{L} A", int(L**3 / 10), L * np.eye(3), E, e) for L, E, e in zip(lengths, energies, errors)]


@pytest.fixture
def table(tmp_path):
    def write(text=TABLE, name="energies.csv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


# --- the answer -----------------------------------------------------------------------------------------------


def test_gaussian_in_a_medium(table):
    read = read_energies(table())
    for fit_as in ("auto", {"A": "fixed", "terms": [1, 3]}, {"A": "free", "terms": [1, 3]}):
        result = extrapolate_table(read, CHARGE, EPS, fit_as=fit_as)
        assert result.E_inf_eV == pytest.approx(E_INF, abs=1e-6)
        assert result.fit["A_eV_A"] == pytest.approx(result.fit["A_predicted_eV_A"], rel=1e-6)
        assert result.fit["B_eV_A3"] == pytest.approx(2 * np.pi * COULOMB * CHARGE**2 * SIGMA**2 / EPS, rel=1e-4)
        assert result.fit["E_inf_stderr_eV"] < 1e-6
    by_name = {m["model"]: m for m in result.models}
    assert abs(by_name["1/L"]["E_inf_eV"] - E_INF) > 0.03
    assert by_name["1/L"]["criterion_eV"] > 1e3 * by_name["1/L + 1/L^3"]["criterion_eV"]
    assert [p["madelung_correction_eV"] for p in result.points] == pytest.approx(
        [2.8372974795 * COULOMB * CHARGE**2 / (2 * EPS * L) for L in LENGTHS], rel=1e-9
    )
    assert not result.warnings


def test_what_rounding_foretells_is_no_better():
    """Four cells of the same: all models with a third power are exact, and their errors are those of ten digits."""
    result = extrapolate(cubes(LENGTHS[1:], ENERGIES[1:]), CHARGE, EPS)
    assert result.E_inf_eV == pytest.approx(E_INF, abs=1e-6)
    assert not any("foretells better" in warning for warning in result.warnings)


def test_routes_and_their_spread():
    """Makov and Payne are off by B/V; Lany and Zunger's screening charge is not there, and the series says so."""
    result = extrapolate(cubes(), CHARGE, EPS)
    third = 2 * np.pi * COULOMB * CHARGE**2 * SIGMA**2 / EPS / 24**3
    assert result.routes["Makov-Payne, 1/L"]["E_inf_eV"] - E_INF == pytest.approx(third, rel=1e-4)
    lany = result.routes["Lany-Zunger"]
    assert not lany["counted"]
    assert "contradicts" in lany["reason"]
    assert lany["E_inf_eV"] < E_INF - 0.1
    assert result.systematic_spread_eV == pytest.approx(third, rel=1e-4)
    for name in ("FNV", "eFNV", "Mott-Littleton"):
        assert result.routes[name]["E_inf_eV"] is None
        assert "needs" in result.routes[name]["reason"]
    known = extrapolate(cubes(), CHARGE, EPS, second_moment=3 * CHARGE * SIGMA**2)
    assert known.routes["Makov-Payne, 1/L and 1/L^3"]["E_inf_eV"] == pytest.approx(E_INF, abs=1e-6)
    fitted = extrapolate(cubes(), CHARGE, EPS, fit_as={"A": "free", "terms": [1, 3]})
    assert fitted.routes["Makov-Payne, 1/L and 1/L^3"]["E_inf_eV"] == pytest.approx(E_INF, abs=1e-6)


def test_a_series_with_the_slope_of_lany_and_zunger_contradicts_the_point_charge():
    """Where the energies fall by 0.66 of the point charge's 1/L, the roles of the two corrections are exchanged."""
    L = np.array([8.0, 10, 12, 16, 20, 24])
    A = 0.6681 * 2.8372974795 * COULOMB * CHARGE**2 / (2 * EPS)
    result = extrapolate(cubes(L, 1.0 - A / L + 30 / L**3), CHARGE, EPS)
    assert result.routes["Lany-Zunger"]["counted"]
    assert not result.routes["Makov-Payne, 1/L"]["counted"]
    assert result.E_inf_eV == pytest.approx(1.0, abs=1e-6)
    assert any("as screened by 15" in text for text in result.warnings)


def test_cells_of_any_shape_and_tensor(tmp_path):
    """Files of cubes, hexagonal and skewed cells in one table, in an anisotropic medium; E_inf is that of the model, 0."""
    tensor = np.diag([9.3, 9.3, 10.4])
    shapes = {
        "cube": np.eye(3),
        "hexagonal": Lattice.hexagonal(1.0, 1.63).matrix,
        "skewed": np.array([[1, 0, 0], [0.4, 1.1, 0], [-0.3, 0.2, 0.9]]),
    }
    records = []
    for a in (13.0, 17.0, 22.0):
        for name, shape in shapes.items():
            cell = a * shape
            Structure(Lattice(cell), ["Mg"], [[0, 0, 0]]).to(str(tmp_path / f"{name}{a:g}.cif"))
            E = ewald_energy(np.zeros((1, 3)), [1.0], cell, sigma=[1.0], dielectric=tensor, background=True).energy
            records.append({"label": f"{name} {a:g}", "n_atoms": 1, "energy_eV": E, "structure": f"{name}{a:g}.cif"})
    (tmp_path / "series.json").write_text(json.dumps({"points": records}))
    result = extrapolate_table(read_energies(tmp_path / "series.json"), 1, "9.3,9.3,10.4")
    assert result.E_inf_eV == pytest.approx(0.0, abs=2e-4)
    assert result.dielectric.tolist() == tensor.tolist()
    gan = -point_charge_energy(1.0, Lattice.hexagonal(9.567, 15.6).matrix, tensor)
    assert gan == pytest.approx(0.17972916, abs=1e-6)  # pydefect's Ewald sum


def test_sizes_from_the_crystal_alone(table, tmp_path):
    """Rows without a length are the n x n x n repeats of the crystal that hold their number of atoms."""
    magnesia = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    magnesia.get_primitive_structure().to(str(tmp_path / "POSCAR"), fmt="poscar")
    path = table("label,n_atoms,energy_eV\na,63,1.0\nb,215,1.2\nc,511,1.3\n")
    read = read_energies(path, structure=tmp_path / "POSCAR")
    assert [c.volume for c in read.cells] == pytest.approx([(n * 4.2) ** 3 for n in (2, 3, 4)])
    with pytest.raises(StudyError, match="no n x n x n supercell"):
        read_energies(table("label,n_atoms,energy_eV\na,96,1.0\n"), structure=tmp_path / "POSCAR")
    with pytest.raises(StudyError, match="no cell: give `length_A`"):
        read_energies(path)


def test_bulk_energies_are_subtracted(table):
    rows = [f"{L},{n},{E - 8.0 * n},{-8.0 * n},{L}" for L, n, E in zip(LENGTHS, (64, 125, 216, 512, 1000), ENERGIES)]
    path = table("label,n_atoms,energy_eV,bulk_energy_eV,length_A\n" + "\n".join(rows) + "\n")
    assert extrapolate_table(read_energies(path), CHARGE, EPS).E_inf_eV == pytest.approx(E_INF, abs=1e-6)


def test_error_bars_make_error_bars():
    """Standard errors follow the points' own; a series that scatters more than these enlarges them, and says so."""
    rng = np.random.default_rng(2)
    L = np.array([9.0, 11, 13, 16, 20, 25])
    exact = 1.0 - 8.171215 / L + 50 / L**3
    honest = extrapolate(cubes(L, exact + 0.01 * rng.normal(size=6), [0.01] * 6), CHARGE, EPS)
    assert 0.003 < honest.fit["E_inf_stderr_eV"] < 0.1
    assert abs(honest.E_inf_eV - 1.0) < 4 * honest.fit["E_inf_stderr_eV"]
    overconfident = extrapolate(
        cubes(L, exact + 0.05 * rng.normal(size=6), [0.005] * 6), CHARGE, EPS, fit_as={"terms": [1, 3]}
    )
    assert any("times more than their error bars" in text for text in overconfident.warnings)
    assert overconfident.fit["E_inf_stderr_eV"] > 0.01


def test_two_sizes_are_refused_or_come_with_a_warning():
    """GaAs:V_Ga(3-) in 7 and 63 atoms (tutorial of GPAW) by 1/L gives 25.25 eV, where the corrected energy is 23.5 eV."""
    cells = cubes((5.628, 11.256), (18.31, 21.78))
    with pytest.raises(ValueError, match="at least 3 cells of different size, got 2"):
        extrapolate(cells, -3, 12.7)
    with pytest.raises(ValueError, match=r"'1/L . 1/L.3' needs at least 3 cells"):
        extrapolate(cells, -3, 12.7, fit_as={"A": "free", "terms": [1, 3]})
    line = extrapolate(cells, -3, 12.7, fit_as={"A": "free", "terms": [1]})
    assert line.E_inf_eV == pytest.approx(25.25, abs=0.01)
    assert line.fit["E_inf_stderr_eV"] is None
    assert any("at least 3" in text for text in line.warnings)
    assert any("no error bar" in text for text in line.warnings)


def test_results_load_and_say_what_is_absent(tmp_path):
    result = extrapolate(cubes(LENGTHS[:3], ENERGIES[:3]), CHARGE, EPS, fit_as={"A": "free", "terms": [1, 3]})
    written = json.loads(result.save(tmp_path / "result.json").read_text())
    assert {"recipe", "charge", "dielectric", "points", "fit", "models", "routes", "systematic_spread_eV"} <= set(written)
    assert {"label", "n_atoms", "effective_length_A", "energy_eV", "madelung_correction_eV"} <= set(written["points"][0])
    assert {
        "model", "E_inf_eV", "E_inf_stderr_eV", "A_eV_A", "A_predicted_eV_A", "B_eV_A3", "residual_rms_eV",
    } <= set(written["fit"])  # fmt: skip
    assert written["fit"]["E_inf_stderr_eV"] is None
    assert written["units"]["charge"] == "e"
    again = Result.load(tmp_path / "result.json")
    assert type(again) is ChargedDefectResult
    assert again.fit == result.fit
    assert dict(again.summary())["E_inf"].endswith("no error bar eV")
    line = extrapolate(cubes(), CHARGE, EPS, fit_as={"terms": [1]})
    assert line.as_dict()["fit"]["B_eV_A3"] is None


def test_error_bars_of_few_cells_are_not_those_of_luck():
    """Three cells of A/L + B/L^3 + C/L^5, fitted without the last: the residual is small, leaving cells out is not."""
    L = np.array([8.0, 10.0, 12.0])
    for C in (2e4, 5e4):
        exact = 3.0 - 8.1712 / L + 50 / L**3
        found = extrapolate(cubes(L, exact + C / L**5), CHARGE, EPS, fit_as={"A": "free", "terms": [1]})
        fit = found.fit
        line = np.polyfit(1 / L, exact + C / L**5, 1)
        without = [np.polyfit(1 / np.delete(L, i), np.delete(exact + C / L**5, i), 1)[1] for i in range(3)]
        assert fit["E_inf_eV"] == pytest.approx(line[1], abs=1e-9)
        assert fit["E_inf_stderr_eV"] == pytest.approx(np.ptp(without), rel=1e-6)
        assert fit["stderr_from"] == "leaving out cells"
        assert dict(found.summary())["error bar"] == "from leaving out cells, 1 degree of freedom"
    many = extrapolate(cubes(), CHARGE, EPS, fit_as={"A": "free", "terms": [1]})
    assert many.fit["degrees_of_freedom"] == 3
    assert "3" in {row[1] for row in many.tables()["Models"]}
    known = extrapolate(cubes(errors=[0.01] * 5), CHARGE, EPS, fit_as={"A": "free", "terms": [1]})
    assert known.fit["stderr_from"] == "error_eV"


# --- the potential far away -----------------------------------------------------------------------------------


def gaussian_potentials(L: float, shift: float = 0.0) -> SitePotentials:
    """At a mesh of sites, and averaged over planes; the cell with the defect is shifted by a constant."""
    defect, mesh = np.array([2.0, 4.0, 5.0]), np.arange(6) / 6 * L
    sites = np.stack(np.meshgrid(mesh, mesh, mesh, indexing="ij"), axis=-1).reshape(-1, 3)
    options = {"sigma": SIGMA, "dielectric": EPS, "derivatives": 0, "exclude_self": False, "background": True}
    V = ewald_potential(sites, [defect], [CHARGE], L * np.eye(3), **options)[0]
    z, G = np.arange(120) / 120 * L, 2 * np.pi / L * np.arange(1, 60)
    wave = 8 * np.pi * COULOMB * CHARGE / EPS / L**3 * np.exp(-(G**2) * SIGMA**2 / 2) / G**2
    planar = {k: (np.cos(np.outer(z - defect[k], G)) @ wave + shift, np.zeros(120)) for k in range(3)}
    return SitePotentials(sites, V + shift, np.zeros(len(sites)), defect, planar)


def cube_of_12(energy: float) -> CellEnergy:
    return CellEnergy("12", 172, 12 * np.eye(3), energy)


@pytest.mark.parametrize("shift", [0.0, 0.3, -0.7])
def test_fnv_and_efnv_of_the_gaussian(shift):
    """One cell of 12 angstrom gives E_inf; a shifted potential shifts the energy by q c, and the corrections undo both."""
    given = gaussian_potentials(12.0, shift)
    routes = potential_routes(cube_of_12(ENERGIES[1] + CHARGE * shift), given, CHARGE, EPS * np.eye(3))
    assert routes["eFNV"]["E_inf_eV"] == pytest.approx(E_INF, abs=1e-6)
    assert routes["FNV"]["E_inf_eV"] == pytest.approx(E_INF, abs=1e-4)
    B_over_qV = 2 * np.pi * COULOMB * CHARGE * SIGMA**2 / EPS / 12**3
    assert routes["eFNV"]["alignment_V"] == pytest.approx(shift + B_over_qV, abs=1e-6)
    assert freysoldt(CHARGE, 12 * np.eye(3), EPS, given, width=2.0)[0] == pytest.approx(
        routes["FNV"]["correction_eV"], abs=1e-5
    )


def test_efnv_is_that_of_pydefect():
    """pydefect 0.10.1 for random sites and potentials in a hexagonal cell with an anisotropic medium."""
    cell = np.array([[9.567, 0, 0], [-9.567 / 2, 9.567 * 3**0.5 / 2, 0], [0, 0, 15.6]])
    rng = np.random.default_rng(0)
    positions = rng.random((24, 3)) @ cell
    defect, bulk = rng.normal(size=24) * 0.1, rng.normal(size=24) * 0.1
    found = efnv(-3, cell, np.diag([9.3, 9.3, 10.4]), positions, [1.0, 1.0, 1.0], defect, bulk)
    assert found.point_charge == pytest.approx(1.6175624185773623, abs=1e-6)
    assert found.alignment == pytest.approx(-0.2715260118526245, abs=1e-6)
    assert found.correction == pytest.approx(0.8029843830194888, abs=1e-6)
    assert found.radius == pytest.approx(7.8)
    assert found.point_charge_potentials[:3] == pytest.approx(
        [-0.2486096918328556, -0.2797026181068734, 0.43430464879516406], abs=1e-6
    )


def test_potentials_of_a_table(table, tmp_path):
    """The largest cell with potentials is corrected by them; all routes but Lany and Zunger's agree within meV."""
    given = gaussian_potentials(16.0, shift=0.2)
    written = {
        "defect_position_A": given.defect_position.tolist(),
        "positions_A": given.positions.tolist(),
        "defect_V": given.defect.tolist(),
        "bulk_V": given.bulk.tolist(),
        "planar_V": {str(k): {"defect": v[0].tolist(), "bulk": v[1].tolist()} for k, v in given.planar.items()},
    }
    (tmp_path / "sites.json").write_text(json.dumps(written))
    assert len(read_site_potentials(tmp_path / "sites.json").positions) == 216
    rows = [f"{L},{L**3},{E + 0.4 * (L == 16)},{L},{'sites.json' * (L == 16)}" for L, E in zip(LENGTHS, ENERGIES)]
    read = read_energies(table("label,n_atoms,energy_eV,length_A,potentials\n" + "\n".join(rows)))
    assert set(read.checksums()) == {"energies.csv", "sites.json"}
    result = extrapolate_table(read, CHARGE, EPS, fit_as={"terms": [1, 3]})
    assert result.routes["eFNV"]["E_inf_eV"] == pytest.approx(E_INF, abs=1e-6)
    assert result.routes["eFNV"]["cell"] == "16"
    (tmp_path / "sites.json").write_text(json.dumps(written | {"bulk_V": [0.0]}))
    with pytest.raises(StudyError, match="216 positions, 216 potentials with the defect and 1 without"):
        extrapolate_table(read, CHARGE, EPS)


def test_a_potential_that_is_not_flat_does_not_count():
    given = gaussian_potentials(12.0)
    noisy = given.defect + np.random.default_rng(1).normal(size=len(given.defect))
    rough = SitePotentials(given.positions, noisy, given.bulk, given.defect_position)
    routes = potential_routes(cube_of_12(1.0), rough, CHARGE, EPS * np.eye(3))
    assert not routes["eFNV"]["counted"]
    assert "not flat" in routes["eFNV"]["reason"]
    assert "planes" in routes["FNV"]["reason"]


def test_spheres_of_cells():
    assert sphere_radius(12 * np.eye(3)) == pytest.approx(6)
    assert sphere_radius(np.diag([10, 10, 20.0])) == pytest.approx(10)
    with pytest.raises(ValueError, match="too small for eFNV"):
        efnv(1, 10 * np.eye(3), 1.0, [[0, 0, 1.0]], [0, 0, 0], [0.0], [0.0])
    with pytest.raises(ValueError, match="one potential with and one without"):
        efnv(1, 10 * np.eye(3), 1.0, [[0, 0, 1.0]], [0, 0, 0], [0.0, 1.0], [0.0])


# --- bad input ------------------------------------------------------------------------------------------------

HEAD = "label,n_atoms,energy_eV,length_A\n"
TOTAL = HEAD + "".join(f"{L},{n},{-5.3 * n + E},{L}\n" for L, n, E in zip(LENGTHS, (64, 125, 216, 512, 1000), ENERGIES))
OF_A_UNIT_CELL = "label,n_atoms,energy_eV,bulk_energy_eV,length_A\n" + "".join(
    f"{L},{n},{-5.3 * n + E},-42.4,{L}\n" for L, n, E in zip(LENGTHS, (64, 125, 216, 512, 1000), ENERGIES)
)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (TABLE, ["--charge", "0"], "nothing needs correcting"),
        (TABLE, ["--dielectric", "9.8,1"], "a number, three (the diagonal) or nine, got 2 values"),
        (TABLE, ["--dielectric", "ten"], "must be a number, three or nine"),
        (TABLE, ["--dielectric", "-4"], "positive definite, but has the eigenvalue -4"),
        (TABLE, ["--dielectric", "9,1,0,0,9,0,0,0,9"], "must be symmetric"),
        (TABLE, ["--dielectric", "1,2,0,2,1,0,0,0,3"], "has the eigenvalue -1"),
        (TABLE, ["--terms", "1,2"], "powers of 1/L"),
        (TABLE, ["--terms", "one"], "--terms must be"),
        (TABLE, ["--free-a"], "--free-a belongs to"),
        (HEAD + "a,64,1.0,10\nb,216,1.1,15\n", [], "at least 3 cells of different size, got 2"),
        (HEAD + "a,64,1.0,10\nb,216,1.1,15\nc,216,1.2,16\n", ["--terms", "1,3,5", "--free-a"], "at least 4 cells"),
        (HEAD + "a,64,1.0,10\nb,216,1.1,15\nc,216,1.2,15\n", [], "b and c have the same size"),
        (HEAD + "a,64,1.0,10\nb,216,nan,15\nc,512,1.2,20\n", [], "line 3: `energy_eV` must be a finite number"),
        (HEAD + "a,64,,10\nb,216,x,15\nc,512,1.2,-2\n", [], "line 2: no value of energy_eV"),
        (HEAD + "a,64,,10\nb,216,x,15\nc,512,1.2,-2\n", [], "line 3: `energy_eV` must be a number, got 'x'"),
        (HEAD + "a,64,,10\nb,216,x,15\nc,512,1.2,-2\n", [], "line 4: `length_A` must be positive"),
        (HEAD + "a,64,1,10\nb,216,1.1\n", [], "line 3: 3 values for 4 columns"),
        (HEAD, [], "there are no rows"),
        ("", [], "is empty"),
        ("[1, 2]", [], "expected a list of records"),
        ("{broken", [], "not valid JSON"),
        ("label,n_atoms,energy,length_A\na,1,2,3\n", [], "`energy_eV` is missing (is it 'energy'?)"),
        (TABLE.replace("length_A", "lenght_A"), [], "did you mean `length_A`?"),
        (TABLE.replace("length_A", "length_A,length_A", 1), [], "twice"),
        ("label,n_atoms,energy_eV,structure\na,64,1.0,nowhere.cif\n", [], "file not found"),
        (TOTAL, [], "what is missing is `bulk_energy_eV`"),
        (OF_A_UNIT_CELL, [], "in the *same* cell"),
        ("label,n_atoms,energy_eV,length_A,charge\na,64,1,10,1\nb,216,1.1,15,2\nc,512,1.2,20,2\n", [], "different charges"),
        ("label,n_atoms,energy_eV,length_A,charge\na,64,1,10,1\nb,216,1.1,15,1\nc,512,1.2,20,1\n", [], "charge +1, asked"),
        ("label,n_atoms,energy_eV,length_A,error_eV\na,64,1,10,0.1\nb,216,1.1,15,\nc,512,1.2,20,1\n", [], "missing for b"),
        ("label,n_atoms,energy_eV,length_A,error_eV\na,64,1,10,0\nb,216,1.1,15,1\n", [], "`error_eV` must be positive"),
    ],
)
def test_bad_input_in_words(table, text, options, message):
    """Exit code 2, and what to do on stderr; nothing is written."""
    from solidqmmm.cli.app import app
    from solidqmmm.cli.show import exit_code

    given = {"--charge": ["--charge", "2"], "--dielectric": ["--dielectric", "10"]}
    words = [word for name, pair in given.items() if name not in options for word in pair]
    path = table(text)
    done = CliRunner().invoke(app, ["finite-size", str(path), *words, *options, "--out", str(path.parent / "out")])
    assert isinstance(done.exception, StudyError), done.output
    assert exit_code(done.exception) == 2
    assert message in str(done.exception)
    assert not (path.parent / "out").exists()


def test_the_command_writes_a_run_folder(table, tmp_path):
    from solidqmmm.cli.app import app

    out = tmp_path / "run"
    path = table(TABLE.replace("length_A\n", "length_A,code\n").replace("\n", ",GPAW\n").replace("code,GPAW", "code"))
    done = CliRunner().invoke(app, ["finite-size", str(path), "--charge", "2", "--dielectric", "10", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "1.3540" in done.output
    assert "Makov-Payne" in done.output
    assert {p.name for p in out.iterdir()} == {"result.json", "figures", "provenance.json"}
    assert {p.name for p in (out / "figures").iterdir()} == {"finite_size.png", "finite_size.pdf"}
    assert Result.load(out).E_inf_eV == pytest.approx(E_INF, abs=1e-6)
    assert "the column 'code' is not used" in Result.load(out).warnings
    cited = CliRunner().invoke(app, ["cite", str(out)])
    assert "makov1995periodic" in cited.output
    assert "no entry" not in cited.output


def test_formation_energies_that_vary_strongly_are_no_total_energies():
    """A highly charged defect in small cells, barely screened: steep, but by 1/L."""
    L = np.array([4.2, 8.4, 12.6, 16.8])
    cells = [CellEnergy(f"{a}", int(a**3 * 0.108), a * np.eye(3), 20 - 163 / a + 60 / a**3) for a in L]
    assert extrapolate(cells, 4, 2.0).E_inf_eV == pytest.approx(20, abs=0.5)


def test_words_for_fits_and_tensors():
    assert read_dielectric([[9, 0, 0], [0, 9, 0], [0, 0, 10]]).tolist() == np.diag([9.0, 9, 10]).tolist()
    assert read_dielectric("9.8").tolist() == (9.8 * np.eye(3)).tolist()
    assert FitRequest.read("auto").terms is None
    assert FitRequest.read({"A": "free", "terms": [3, 1]}).model(-1.0).n_parameters == 3
    assert FitRequest.read({"B": 5}).model(-1.0).n_parameters == 1
    for wrong, message in (
        ({"a": "fixed"}, "keys A, B and terms"),
        ({"A": 1.0}, "'fixed'"),
        ({"B": "x"}, "'free' or a number"),
        ({"terms": [3]}, "1 and of 3 and 5"),
        ({"terms": [1], "B": 2.0}, "not in `fit.terms`"),
        ("sometimes", "'auto' or a mapping"),
    ):
        with pytest.raises(ValueError, match=message):
            FitRequest.read(wrong)


def test_a_slope_that_imitates_higher_terms_is_not_believed():
    """Rigid-ion MgO:V_O(2+), relaxed (E_inf 23.966 eV from cells up to 6x6x6, 23.964 by eFNV, 23.965 by FNV).

    In its four smallest cells a line of 1.35 times the slope foretells well, and is 0.1 eV off.
    """
    L = 4.2112 * np.arange(2, 6)
    cells = cubes(L, (22.9267, 23.3153, 23.5034, 23.6068))
    result = extrapolate(cells, 2, 11.5301)
    line = next(m for m in result.models if m["model"] == "1/L")
    assert line["E_inf_eV"] > 24.06
    assert result.E_inf_eV == pytest.approx(23.966, abs=3e-3)
    few = extrapolate(cells[:3], 2, 11.5301)
    assert few.fit["model"].endswith("A fixed")
    assert any("foretells better" in text and "a larger cell would tell" in text for text in few.warnings)


def test_a_trend_in_the_residuals_is_not_left_alone():
    """V_Ca(2-) of shell-model CaF2, relaxed: 23.378 eV by Mott and Littleton (region I of 15 A and 1/R^3 beyond).

    The cells' energies less the Madelung term fall as a curve; a constant through it is 0.04 eV off.
    """
    L = 5.4427 * np.arange(2, 7)
    result = extrapolate(cubes(L, (22.1172, 22.5525, 22.7440, 22.8615, 22.9427)), -2, 5.64141)
    constant = next(m for m in result.models if m["model"] == "1/L, A fixed")
    assert constant["E_inf_eV"] > 23.41
    assert result.fit["model"] == "1/L + 1/L^3 + 1/L^5, A fixed"
    assert result.E_inf_eV == pytest.approx(23.378, abs=0.006)


def test_noise_of_a_relaxed_cell_is_no_anisotropy():
    noisy = 5.6414 * np.eye(3) + 1e-6
    result = extrapolate(cubes(LENGTHS, ENERGIES), 2, noisy)
    assert dict(result.summary())["dielectric"] == "5.6414"
    assert "rurali2009theory" not in result.METHOD_REFERENCES
    result = extrapolate(cubes(LENGTHS, ENERGIES), 2, np.diag([5.0, 5.0, 6.0]))
    assert dict(result.summary())["dielectric"] == "5 5 6 (diagonal)"
    assert "rurali2009theory" in result.METHOD_REFERENCES
