"""Defect phonons on other crystals, cells and orientations, and what the command line says to impossible ones."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.data import atomic_masses
from elastic_cases import SW
from phonon_cases import CARBON_EMBEDDED, model_of, run
from scipy import sparse

from solidqmmm import recipebook
from solidqmmm.errors import RegionError
from solidqmmm.physics.condensation import PartitionedCrystal, full_modes, static_condensation
from solidqmmm.physics.vibrations.localized_modes import frequencies_THz
from solidqmmm.procedures.relax import settle
from solidqmmm.procedures.vibrations import bulk_phonons as bulk_module
from solidqmmm.procedures.vibrations.bulk_lattice import BulkLattice
from solidqmmm.procedures.vibrations.bulk_phonons import bulk_phonons
from solidqmmm.procedures.vibrations.host_hessian import host_hessian
from solidqmmm.procedures.vibrations.phonon_result import _static_error

# --- the perfect crystal -------------------------------------------------------------------------------------------------


def test_bulk_phonons_without_a_search_for_symmetry_are_the_same(monkeypatch):
    """Metals feel each other over 11 angstrom, in supercells of thousands of atoms: there every atom is displaced."""
    with model_of(defect=None) as model:
        symmetric = bulk_phonons(model, 6.0, masses={"Si": 28.085})
        monkeypatch.setattr(bulk_module, "_LARGEST_SYMMETRIC", 0)
        plain = bulk_phonons(model, 6.0, masses={"Si": 28.085})
    assert plain.n_force_evaluations == 6 * 2 > symmetric.n_force_evaluations
    np.testing.assert_allclose(plain.bands_THz, symmetric.bands_THz, atol=1e-4)
    grid = np.linspace(0, 20, 2001)
    density = plain.dos_per_THz(grid, width_THz=0.1)
    np.testing.assert_allclose(density, symmetric.dos_per_THz(grid, width_THz=0.1), atol=2e-3)
    assert np.trapezoid(density, grid) == pytest.approx(3, rel=5e-3)


GAN = {"pair_style": "tersoff", "pair_coeff": ["* * GaN.tersoff Ga N"], "species": ["Ga", "N"]}
MAGNESIUM = {"pair_style": "eam/fs", "pair_coeff": ["* * Mg_mm.eam.fs Mg"], "species": ["Mg"]}


def gamma_frequencies(hessian, masses) -> np.ndarray:
    scale = 1 / np.sqrt(np.repeat(masses, 3))
    return frequencies_THz(np.linalg.eigvalsh(hessian.matrix.toarray() * np.outer(scale, scale)))


def test_bulk_phonons_are_those_of_atoms_at_rest():
    """A wurtzite cell as given has a free parameter: the crystal relaxes along it, and so must what gives the bands."""
    wurtzite = bulk("GaN", "wurtzite", a=3.19, c=5.19, u=0.385)
    changes = {"structure": wurtzite, "host": GAN, "supercell": [2, 2, 2], "defect": None}
    with model_of(**changes) as model:
        phonons = bulk_phonons(model, 6.2, masses={"Ga": 69.723, "N": 14.007})
        with model.open() as qmmm:
            settle(qmmm, fmax=1e-5)
            nu = gamma_frequencies(host_hessian(qmmm.host), np.where(model.crystal.numbers == 7, 14.007, 69.723))
    phonons.phonopy.run_qpoints([[0, 0, 0], [0.5, 0, 0]])
    for frequencies in phonons.phonopy.qpoints.frequencies:
        assert np.abs(frequencies[3:, None] - nu).min(axis=1).max() < 1e-3
    np.testing.assert_allclose(phonons.primitive.positions, wurtzite.positions, atol=1e-9)


def test_the_infinite_lattice_of_a_cell_that_was_not_relaxed():
    """Sites are found by where atoms are in the given cell, force constants are those where they are at rest."""
    wurtzite = bulk("GaN", "wurtzite", a=3.19, c=5.19, u=0.40)  # atoms move by 0.1 angstrom
    with model_of(structure=wurtzite, host=GAN, supercell=[4, 4, 3], defect=None) as model:
        lattice = BulkLattice(bulk_phonons(model, 5.2, masses={"Ga": 69.723, "N": 14.007}))
        positions = model.perfect.positions
        near = np.argsort(np.linalg.norm(positions - positions.mean(axis=0), axis=1))[:12]
        sites = lattice.sites(positions[near], model.perfect.numbers[near])
        with model.open() as qmmm:
            settle(qmmm, fmax=1e-5)
            assert np.linalg.norm(qmmm.host.positions() - positions, axis=1).max() > 0.03
            K = host_hessian(qmmm.host).matrix
    dofs = (3 * near[:, None] + np.arange(3)).ravel()
    K = K.tocsr()[dofs][:, dofs].toarray().reshape(12, 3, 12, 3).transpose(0, 2, 1, 3)
    np.testing.assert_allclose(lattice.between(sites), K, atol=2e-3)


def test_edges_of_bands_on_the_faces_of_the_zone():
    """The highest frequency of this crystal is on the face of the zone, at L = (1/2, 0, 0): 27 wave vectors miss it."""
    argon = {"pair_style": "lj/smooth/linear 5.0", "pair_coeff": ["* * 0.0104 3.4"], "species": ["Ar"]}
    changes = {"structure": bulk("Ar", a=5.26, cubic=True), "host": argon, "supercell": [2, 2, 2], "defect": None}
    with model_of(**changes) as model:
        phonons = bulk_phonons(model, 5.0, masses={"Ar": 39.948})
    phonons.phonopy.run_qpoints([[0.5, 0, 0]])
    assert phonons.band_top_THz == pytest.approx(phonons.phonopy.qpoints.frequencies.max(), abs=1e-9)


def test_images_of_a_slab_do_not_feel_each_other():
    """A slab in a cell without vacuum, not periodic across: its phonons are those of one with plenty of it."""
    slab = bulk("Si", a=5.43095, cubic=True)
    slab.pbc = (True, True, False)
    wide = slab.copy()
    wide.cell[2, 2] = 40.0
    bands = []
    for structure in (slab, wide):
        changes = {"structure": structure, "host": SW, "supercell": [2, 2, 1], "defect": None}
        with model_of(**changes) as model:
            bands.append(bulk_phonons(model, 7.6, masses={"Si": 28.085}).bands_THz)
    np.testing.assert_allclose(*bands, atol=1e-6)


def test_formation_entropy_of_a_vacancy_is_that_of_two_dense_spectra():
    """Tables of magnesium are rough: 0.03 % of every frequency, which sum up unless both crystals are displaced alike."""
    changes = {
        "structure": bulk("Mg"), "host": MAGNESIUM, "supercell": [3, 3, 2], "region": {"core": {"sites": [0, 1]}}
    }  # fmt: skip
    result = run(defect={"kind": "vacancy", "site": 0}, phonons={"temperatures": [300.0]}, **changes)

    def entropy(**defect):
        with model_of(**changes, **defect) as model, model.open() as qmmm:
            settle(qmmm, fmax=1e-5)
            mass = atomic_masses[model.crystal.numbers]
            nu = gamma_frequencies(host_hessian(qmmm.host), mass)[3:]
        x = 47.992430733 * nu / 300  # h THz / k in K
        return np.sum(x / np.expm1(x) - np.log(-np.expm1(-x))), len(x)

    (with_defect, n), (without, m) = entropy(defect={"kind": "vacancy", "site": 0}), entropy(defect=None)
    assert result.formation_entropy_k[0] == pytest.approx(with_defect - n / m * without, abs=1e-3)


# --- what is drawn -------------------------------------------------------------------------------------------------------


def test_local_densities_reach_beyond_the_highest_mode():
    """An atom of a seventh of the mass in Stillinger-Weber silicon: the peak of its density is far above the band."""
    result = run(
        structure=bulk("Si", a=5.43095, cubic=True),
        host={"pair_style": "sw", "pair_coeff": ["* * Si.sw Si Si"], "species": ["Si", "C"]},
        phonons={"isotopes": {"C": 4.0}},
    )
    highest = result.modes[0]["frequency_THz"]
    assert highest > 1.6 * result.bulk_band_top_THz
    grid, density = result.dos_frequency_THz, result.defect_dos_per_THz
    assert grid[density.argmax()] == pytest.approx(highest, abs=2 * (grid[1] - grid[0]))
    assert np.trapezoid(density, grid) == pytest.approx(3, rel=0.01)


# --- the command line ----------------------------------------------------------------------------------------------------

STUDY = (
    "recipe: defect_phonons\nstructure: {file: POSCAR, lattice: host}\n"
    "host: {pair_style: tersoff, pair_coeff: ['* * SiC.tersoff Si C'], species: [Si, C]}\n"
)
CARBON = "supercell: [3, 3, 3]\ndefect: {kind: substitution, site: 0, element: C}\n"
SMALL = CARBON.replace("3, 3, 3", "2, 2, 2")
BOND_CENTRE = "supercell: [3, 3, 3]\ndefect: {kind: interstitial, element: C, position: [0.125, 0.125, 0.125]}\n"


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        (CARBON + "phonons: {relax: false}", "not at rest: the largest force is"),
        (CARBON + "phonons: {displacement: 0.3}", "phonons.displacement of 0.3 angstrom is more than a tenth of"),
        (SMALL + "region: {core: {hops: 4}}", "region.core: the core (59 of 64 atoms) is bonded to its own periodic image"),
        (CARBON + "region: {core: {radius: 9.0}}", "a sphere of radius 9.00 A meets its own periodic image"),
        (BOND_CENTRE + "region: {core: {radius: 2.5}, centre: [2, 2, 2]}", "these atoms move most: 216"),
        (CARBON + "phonons: {isotopes: {C: 99}}", "phonons.isotopes (line 6): isotopes: C-99 is not in the table"),
        (CARBON + "phonons: {isotopes: {Ge: 74}}", "there is no Ge in this crystal of C, Si"),
        (CARBON + "phonons: {metod: static}", "phonons.metod (line 6): unknown key; did you mean 'method'?"),
        (SMALL + "phonons: {host: infinite}", "phonons.host: infinite needs one wider than 12.00 A"),
        (CARBON + "phonons: {host: infinite, method: static}", "phonons.method: static condenses a finite host"),
        ("region: {core: {hops: 0}}\nphonons: {host: infinite}", "phonons.host: infinite needs a `defect`"),
        ("supercell: [2, 2, 2]", "need a `defect`, or a `region` whose core is condensed on"),
    ],
)
def test_impossible_requests_end_with_one_message_and_nothing_in_the_folder(tmp_path, call, sections, said):
    bulk("Si", a=5.4321148, cubic=True).write(tmp_path / "POSCAR")
    (tmp_path / "study.yaml").write_text(STUDY + sections + "\n")
    code, out, err = call("run", tmp_path / "study.yaml", "--out", tmp_path / "out")
    assert code == 2, err
    assert said in " ".join(err.split())
    assert err.count("error: ") == 1
    assert "Traceback" not in out + err
    for name in ("result.json", "provenance.json", "figures", "modes.extxyz", "phonopy_params.yaml"):
        assert not (tmp_path / "out" / name).exists()


def test_a_slab_has_no_infinite_host(tmp_path, call):
    slab = bulk("Si", a=5.4321148, cubic=True)
    slab.pbc = (True, True, False)
    slab.write(tmp_path / "slab.xyz", format="extxyz")
    study = STUDY.replace("file: POSCAR, lattice: host", "file: slab.xyz, cell: as_given") + CARBON
    (tmp_path / "study.yaml").write_text(study.replace("3, 3, 3", "3, 3, 1") + "phonons: {host: infinite}\n")
    code, _, err = call("run", tmp_path / "study.yaml", "--out", tmp_path / "out")
    assert code == 2
    assert "infinite needs a crystal that is periodic in three directions, got pbc = [True, True, False]" in err


def test_a_crystal_is_too_small_for_an_infinite_host_before_the_engine_is_asked(tmp_path):
    changes = {"supercell": [2, 2, 2], "region": {"core": {"hops": 1}, "buffer": {"hops": 0}}}
    with model_of(log_dir=tmp_path, **(CARBON_EMBEDDED | changes)) as model:
        with pytest.raises(RegionError, match="wider than 12"):
            recipebook.find("defect_phonons").run(model=model, host="infinite")
        assert not list((tmp_path / "journal").glob("*"))


# --- what is listed ------------------------------------------------------------------------------------------------------


def test_a_perfect_crystal_has_no_local_modes_and_three_that_are_zero():
    result = run(defect=None, region={"core": {"hops": 1}}, phonons={"method": "full"})
    nu = np.array([mode["frequency_THz"] for mode in result.modes])
    assert len(nu) == 3 * 216
    assert {mode["kind"] for mode in result.modes} == {"band"}
    assert np.sum(np.abs(nu) < 1e-3) == 3
    assert nu[-4] > 1
    assert result.static_condensation_error_THz is None
    assert result.warnings == []


def test_all_modes_of_a_small_crystal_and_none_twice():
    """Nitrogen's vacancy in gallium nitride: modes above, in the gap and in both bands, each as often as it is there."""
    changes = {"structure": bulk("GaN", "wurtzite", a=3.19, c=5.19), "host": GAN, "supercell": [3, 3, 2]}
    result = run(defect={"kind": "vacancy", "site": 2}, phonons={"method": "full"}, **changes)
    with model_of(defect={"kind": "vacancy", "site": 2}, **changes) as model, model.open() as qmmm:
        settle(qmmm, fmax=1e-5)
        exact = gamma_frequencies(host_hessian(qmmm.host), atomic_masses[model.crystal.numbers])[::-1]
    listed = np.array([mode["frequency_THz"] for mode in result.modes])
    np.testing.assert_allclose(listed, exact, atol=2e-3)
    gap = [mode["frequency_THz"] for mode in result.modes if mode["kind"] == "gap"]
    np.testing.assert_allclose(result.ladder_THz["dynamic"][-len(gap) :][:12], gap[:12], atol=1e-6)


def test_the_error_of_static_condensation_is_that_of_the_same_mode_in_a_gap():
    """A chain of masses 1 and 4, k = 1: a mass of 1.6 on a light site has its mode in the gap, where w^2 0.6 G(w^2) = 1.

    G = (4 w^2 - 2) / sqrt(P (P - 4)) with P = (2 - w^2) (2 - 4 w^2) between w^2 = 0.5 and 2.
    """
    n = 120
    K = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    K[0, -1] = K[-1, 0] = -1
    masses = np.resize([1.0, 4.0], n)
    masses[60] = 1.6
    bands = frequencies_THz(np.array([[0.0, 0.5], [2.0, 2.5]]))
    crystal = PartitionedCrystal(sparse.csr_array(K), masses, np.arange(55, 66))
    exact = full_modes(crystal, 0.51, 1.99)
    static = static_condensation(crystal).modes()
    (squared,) = exact.squared
    P = (2 - squared) * (2 - 4 * squared)
    assert 0.6 * squared * (4 * squared - 2) / np.sqrt(P * (P - 4)) == pytest.approx(1, abs=1e-6)
    error = _static_error(static, exact, bands)
    twin = static.weights([60]).argmax()
    assert error == pytest.approx(static.frequencies_THz[twin] - exact.frequencies_THz[0])
    assert abs(error) < 0.1 * (static.frequencies_THz[0] - exact.frequencies_THz[0])
    assert _static_error(static, static, bands) == 0.0


def test_modes_that_are_not_the_cores_are_warned_of():
    """Carbon in silicon, condensed onto atoms elsewhere: exact all the same."""
    result = run(phonons={"isotopes": {"C": 12}}, region={"core": {"sites": [100, 101]}})
    assert result.modes[0]["frequency_cm-1"] == pytest.approx(746.881, abs=0.05)
    assert any("3 of 3 modes outside the bands have less than 10 % of their weight" in text for text in result.warnings)


def test_modes_that_fill_the_supercell_are_warned_of():
    """Boron nitride under tension, 64 atoms: the carbon stiffens the whole crystal, whose highest modes leave the band."""
    host = {"pair_style": "tersoff", "pair_coeff": ["* * BNC.tersoff B N C"], "species": ["B", "N", "C"]}
    changes = {"structure": bulk("BN", "zincblende", a=3.615, cubic=True), "host": host, "supercell": [2, 2, 2]}
    result = run(defect={"kind": "substitution", "site": 0, "element": "C"}, phonons={}, **changes)
    assert max(mode["participation_ratio"] for mode in result.modes) > 0.9
    assert any("modes outside the bands fill the supercell" in warning for warning in result.warnings)
