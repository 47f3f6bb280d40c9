"""Isotopes: what a study may say, masses of elements and of named sites, and what they do to modes and entropies."""

from __future__ import annotations

import numpy as np
import pytest
from elastic_cases import SW, silicon
from phonon_cases import CARBON, model_of, run

from solidqmmm.errors import StudyError
from solidqmmm.physics.vibrations.localized_modes import CM1_PER_THZ, frequencies_THz
from solidqmmm.procedures.vibrations.defect_modes import crystal_at_rest
from solidqmmm.procedures.vibrations.isotopes import Isotopes
from solidqmmm.results.phonons import DefectPhononsResult

SI28, SI30, C13 = 27.9769265, 29.973770, 13.0033548
NUMBERS = np.array([6, 14, 14, 14, 14, 14])
# Stillinger-Weber silicon without a defect, and what is condensed on around the atom that gets another mass.
PERFECT = {
    "structure": silicon(5.43095),
    "host": SW,
    "defect": None,
    "region": {"core": {"radius": 2.5}, "centre": {"site": 37}},
}


def wavenumbers(result) -> np.ndarray:
    return np.array([mode["frequency_cm-1"] for mode in result.modes])


# --- reading -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "masses"),
    [
        (None, [12.011, *[28.085] * 5]),
        ({"C": 13}, [C13, *[28.085] * 5]),
        ({"C": 13.5}, [13.5, *[28.085] * 5]),
        ({"Si": {"mass": 30, "sites": [1, 3]}}, [12.011, SI30, 28.085, SI30, 28.085, 28.085]),
        ({"Si": [28, {"mass": 30, "sites": [2]}]}, [12.011, SI28, SI30, SI28, SI28, SI28]),
        (
            {"C": 13, "Si": [{"mass": 28, "sites": [2]}, {"mass": 31.5, "sites": [4]}]},
            [C13, 28.085, SI28, 28.085, 31.5, 28.085],
        ),
        ({"C": {"mass": 13, "sites": "defect"}}, [C13, *[28.085] * 5]),
        ({"Si": {"mass": 30, "sites": "core"}}, [12.011, SI30, SI30, 28.085, 28.085, 28.085]),
    ],
)
def test_masses_of_atoms(given, masses):
    isotopes = Isotopes.read(given).located(NUMBERS, core=[0, 1, 2], own=0)
    np.testing.assert_allclose(isotopes.masses(NUMBERS), masses, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"Xx": 1}, "expected chemical symbols, got 'Xx'"),
        ({"C": 99}, "C-99 is not in the table; known are"),
        ({"C": 50.0}, "no isotope of it"),
        ({"C": "13"}, "needs a mass number, a mass in amu or a group such as {mass: 30, sites: \\[0, 5\\]}, got '13'"),
        ({"C": True}, "needs a mass number"),
        ({"C": [12, 13]}, "one mass for all its atoms, groups such as"),
        ({"C": []}, "one mass for all its atoms"),
        ({"Si": {"mass": 30}}, "a group of Si needs `mass` and `sites`"),
        ({"Si": {"mass": 30, "site": [0]}}, "a group of Si needs `mass` and `sites`"),
        ({"Si": {"mass": 99, "sites": [0]}}, "Si-99 is not in the table"),
        ({"Si": {"mass": 30, "sites": []}}, "must be atoms of the supercell such as \\[0, 5\\], or 'core' or 'defect'"),
        ({"Si": {"mass": 30, "sites": [-1]}}, "must be atoms of the supercell"),
        ({"Si": {"mass": 30, "sites": [1.0]}}, "must be atoms of the supercell"),
        ({"Si": {"mass": 30, "sites": "edge"}}, "must be atoms of the supercell"),
        ({"Si": [{"mass": 30, "sites": [3, 4]}, {"mass": 29, "sites": [4]}]}, "site 4 is named twice"),
        ({"Si": {"mass": 30, "sites": [3, 3]}}, "site 3 is named twice"),
    ],
)
def test_what_cannot_be_read(given, message):
    with pytest.raises(ValueError, match=message):
        Isotopes.read(given)


@pytest.mark.parametrize(
    ("given", "own", "message"),
    [
        ({"Ge": 72}, 0, "there is no Ge in this crystal of C, Si"),
        ({"Ge": {"mass": 72, "sites": [0]}}, 0, "there is no Ge"),
        ({"Si": {"mass": 30, "sites": [6]}}, 0, "there is no site 6: the supercell with the defect has the atoms 0 to 5"),
        ({"C": {"mass": 13, "sites": [3]}}, 0, "site 3 is Si, not C; atoms of C are 0"),
        ({"Si": {"mass": 30, "sites": "defect"}}, 0, "site 0 is C, not Si; atoms of Si are 1, 2, 3, 4, 5"),
        ({"C": {"mass": 13, "sites": "defect"}}, None, "needs a defect with an atom of its own"),
        ({"C": {"mass": 13, "sites": "core"}}, 0, "the core has no atom of C"),
        (
            {"Si": [{"mass": 30, "sites": "core"}, {"mass": 29, "sites": [2]}]},
            0,
            "site 2 is named twice",
        ),
    ],
)
def test_what_the_crystal_does_not_have(given, own, message):
    with pytest.raises(ValueError, match=message):
        Isotopes.read(given).located(NUMBERS, core=[1, 2], own=own)


def test_a_study_says_what_is_wrong():
    with pytest.raises(StudyError) as problem:
        run(phonons={"isotopes": {"Si": {"mass": 30, "sites": "edge"}}})
    assert any("phonons.isotopes" in text and "'core' or 'defect'" in text for text in problem.value.problems)
    with pytest.raises(ValueError, match="there is no site 216"):
        run(phonons={"isotopes": {"Si": {"mass": 30, "sites": [216]}}})


def test_each_isotope_by_itself():
    isotopes = Isotopes.read({"Si": [28, {"mass": 30, "sites": [2, 5]}], "C": 13})
    found = {label: (atoms.tolist(), others.masses(NUMBERS)) for label, atoms, others in isotopes.one_by_one(NUMBERS)}
    assert {label: atoms for label, (atoms, _) in found.items()} == {
        "Si 28.085 -> 27.977 amu": [1, 3, 4],
        "C 12.011 -> 13.003 amu": [0],
        "Si 27.977 -> 29.974 amu (sites 2, 5)": [2, 5],
    }
    np.testing.assert_allclose(
        found["Si 28.085 -> 27.977 amu"][1], [C13, 28.085, SI30, 28.085, 28.085, SI30], atol=1e-5
    )
    np.testing.assert_allclose(
        found["Si 27.977 -> 29.974 amu (sites 2, 5)"][1], [C13, *[SI28] * 5], atol=1e-5
    )


# --- modes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["finite", "infinite"])
@pytest.mark.parametrize(("mass", "wavenumber"), [(5.0, 1026.292), (10.0129, 761.854), (12.0, 710.528)])
def test_one_light_atom_in_a_perfect_crystal(mass, wavenumber, host):
    """Reference: Green's function of phonopy's spectrum on 48^3 wave vectors, host mass 28.0855."""
    isotopes = {"Si": [28.0855, {"mass": mass, "sites": [37]}]}
    result = run(phonons={"host": host, "isotopes": isotopes, "temperatures": [300.0]}, **PERFECT)
    np.testing.assert_allclose(wavenumbers(result), [wavenumber] * 3, atol=0.005)
    assert {mode["irrep"] for mode in result.modes} == {"T2"}
    assert result.isotopes == {"Si": 28.0855}
    assert result.isotope_sites == [{"element": "Si", "mass_amu": mass, "sites": [37]}]
    assert result.defect == f"isotope (Si of {mass:.3f} amu)"
    assert "no defect" in result.formation_entropy_missing_reason
    if host == "infinite":
        assert result.n_perturbed_sites == 1
        assert result.left_out_eV_per_A2 < 1e-3


def test_two_light_atoms_far_apart_in_an_infinite_crystal():
    """Not images of one another: each has its own mode, and one beyond half the cell counts as well."""
    with model_of(**PERFECT) as model:
        scaled = (model.crystal.positions - model.crystal.positions[37]) @ np.linalg.inv(model.crystal.cell)
        apart = np.linalg.norm((scaled - np.rint(scaled)) @ model.crystal.cell, axis=1)
    assert apart.max() > model.crystal.widths.min() / 2
    isotopes = {"Si": [28.0855, {"mass": 12.0, "sites": [37, int(apart.argmax())]}]}
    result = run(phonons={"host": "infinite", "isotopes": isotopes}, **PERFECT)
    assert result.n_perturbed_sites == 2
    assert len(result.modes) == 6
    np.testing.assert_allclose(wavenumbers(result), 710.528, atol=0.2)


def test_a_heavy_neighbour_splits_the_triplet():
    """30Si next to carbon leaves C3v of Td: A1 and E, exactly those of the dense matrix, in both hosts."""
    with model_of(**CARBON) as model:
        rest = crystal_at_rest(model, fmax=1e-3, displacement=0.01)
        own = model.defect.atom(len(model.crystal))
        apart = rest.positions - rest.positions[own]
        apart -= np.rint(apart @ np.linalg.inv(rest.cell)) @ rest.cell
        neighbour = int(np.argsort(np.linalg.norm(apart, axis=1))[1])
        masses = np.where(model.crystal.numbers == 6, 12.0, 28.085)
        masses[neighbour] = SI30
        scale = 1 / np.sqrt(np.repeat(masses, 3))
        nu = frequencies_THz(np.linalg.eigvalsh(rest.hessian.matrix.toarray() * np.outer(scale, scale)))[::-1]
    isotopes = {"C": 12, "Si": {"mass": 30, "sites": [neighbour]}}
    finite, infinite = (run(phonons={"host": host, "isotopes": isotopes}) for host in ("finite", "infinite"))
    np.testing.assert_allclose(wavenumbers(finite), CM1_PER_THZ * nu[:3], atol=1e-4)
    np.testing.assert_allclose(wavenumbers(infinite), CM1_PER_THZ * nu[:3], atol=5e-3)
    assert [mode["irrep"] for mode in finite.modes] == [mode["irrep"] for mode in infinite.modes] == ["E", "E", "A1"]
    shift = finite.isotope_shifts_per_cm[f"Si 28.085 -> 29.974 amu (site {neighbour})"]
    assert -5 < shift <= 0


def test_the_defects_own_atom_by_name():
    by_element = run(phonons={"isotopes": {"C": 13}})
    by_name = run(phonons={"isotopes": {"C": {"mass": 13, "sites": "defect"}}})
    np.testing.assert_allclose(wavenumbers(by_name), wavenumbers(by_element), atol=1e-9)
    (one,), (other,) = by_element.isotope_shifts_per_cm.values(), by_name.isotope_shifts_per_cm.values()
    assert one == pytest.approx(other, abs=1e-9)
    assert by_name.isotopes == {}


def test_shift_by_the_host_isotope_is_that_of_the_same_mode():
    """Carbon in 30Si: the triplet moves from 746.88 (Si of natural mass) by its share of the neighbours' mass."""
    heavy = run(phonons={"isotopes": {"Si": 30, "C": 12}})
    usual = run(phonons={"isotopes": {"C": 12}})
    shift = heavy.isotope_shifts_per_cm["Si 28.085 -> 29.974 amu"]
    assert shift == pytest.approx(wavenumbers(heavy)[0] - wavenumbers(usual)[0], abs=1e-6)
    assert shift == pytest.approx(-3.457, abs=0.01)


# --- entropy, files ------------------------------------------------------------------------------------------------------


def test_isotopes_on_both_sides_leave_the_classical_entropy_alone():
    """At 5000 K masses cancel between the crystals, where the named atoms are in both."""
    small = {"supercell": [2] * 3}
    sites = list(range(20, 40))
    plain, decorated = (
        run(phonons={"isotopes": isotopes, "temperatures": [5000.0]}, **small)
        for isotopes in ({"C": 12}, {"C": 12, "Si": {"mass": 30, "sites": sites}})
    )
    assert decorated.formation_entropy_k[0] == pytest.approx(plain.formation_entropy_k[0], abs=2e-3)
    # with 20 of 64 atoms heavier in one crystal only it would be off by 20 * 3/2 ln(29.97/28.09) = 1.95 k


def test_masses_in_phonopys_file_and_in_the_result(tmp_path):
    import phonopy

    isotopes = {"C": 13, "Si": [28, {"mass": 30, "sites": [7, 8]}]}
    result = run(workdir=tmp_path, supercell=[2] * 3, phonons={"isotopes": isotopes})
    with model_of(supercell=[2] * 3) as model:
        expected = Isotopes.read(isotopes).masses(model.crystal.numbers)
    loaded = phonopy.load(tmp_path / "phonopy_params.yaml", log_level=0)
    np.testing.assert_allclose(loaded.unitcell.masses, expected, atol=1e-5)
    np.testing.assert_allclose(result.masses_amu, expected[result.core], atol=1e-9)
    back = DefectPhononsResult.from_dict(result.as_dict())
    assert back.isotope_sites == [{"element": "Si", "mass_amu": pytest.approx(SI30, abs=1e-5), "sites": [7, 8]}]
    assert back.band_margin == result.band_margin == 2e-4
