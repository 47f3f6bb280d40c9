"""Modes in the gap of a compound, by the recipe: Tersoff gallium nitride and silicon carbide, zincblende."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from phonon_cases import model_of, run

from solidqmmm.physics.vibrations.localized_modes import frequencies_THz
from solidqmmm.procedures.vibrations.defect_modes import crystal_at_rest
from solidqmmm.procedures.vibrations.isotopes import Isotopes

# The same atom under another name, for a mass alone: aluminium that is gallium, phosphorus that is nitrogen.
GAN = {
    "structure": bulk("GaN", "zincblende", a=4.49850584, cubic=True),
    "host": {
        "pair_style": "tersoff",
        "pair_coeff": ["* * GaN.tersoff Ga N Ga N"],
        "species": ["Ga", "N", "Al", "P"],
    },
}
SIC = {
    "structure": bulk("SiC", "zincblende", a=4.32116989, cubic=True),
    "host": {"pair_style": "tersoff", "pair_coeff": ["* * SiC.tersoff Si C"], "species": ["Si", "C"]},
}
LIGHT = GAN | {"defect": {"kind": "substitution", "site": 0, "element": "Al"}}
HEAVY = GAN | {"defect": {"kind": "substitution", "site": 1, "element": "P"}}
ANTISITE = SIC | {"defect": {"kind": "substitution", "site": 0, "element": "C"}}  # carbon on a silicon site


def outside(result) -> np.ndarray:
    return np.array([mode["frequency_THz"] for mode in result.modes if mode["kind"] != "band"])


def dense(bands, **changes) -> np.ndarray:
    """Those frequencies in THz of the crystal, from its whole matrix, that lie in the gap or above the bands."""
    with model_of(**changes) as model:
        rest = crystal_at_rest(model, fmax=1e-3, displacement=0.01)
        scale = 1 / np.sqrt(np.repeat(Isotopes().masses(model.crystal.numbers), 3))
        nu = frequencies_THz(np.linalg.eigvalsh(rest.hessian.matrix.toarray() * np.outer(scale, scale)))[::-1]
    (_, low), (high, top) = bands
    return nu[((nu > low * 1.0002) & (nu < high * 0.9998)) | (nu > top * 1.0002)]


@pytest.mark.parametrize(
    ("study", "expected"),
    [(LIGHT, {"local": 25.2071, "gap": 11.5568}), (HEAVY, {"gap": 16.3204})],
    ids=["light on the heavy site", "heavy on the light site"],
)
def test_a_mass_in_gallium_nitride(study, expected):
    """One triplet rises from the acoustic band and one above the optic band, or one falls from the optic band."""
    found = {method: run(**study, phonons={"method": method}) for method in ("dynamic", "full")}
    for result in found.values():
        np.testing.assert_allclose(result.bulk_bands_THz, [[0, 10.154], [21.339, 23.937]], atol=1e-3)
        kinds = {}
        for mode in result.modes:
            kinds.setdefault(mode["kind"], []).append(mode)
        kinds.pop("band", None)
        assert set(kinds) == set(expected)
        for kind, modes in kinds.items():
            assert [(mode["irrep"], mode["degeneracy"]) for mode in modes] == [("T2", 3)] * 3
            np.testing.assert_allclose([mode["frequency_THz"] for mode in modes], expected[kind], atol=1e-4)
        assert result.warnings == []
    np.testing.assert_allclose(outside(found["dynamic"]), outside(found["full"]), atol=1e-7)
    np.testing.assert_allclose(outside(found["full"]), dense(found["full"].bulk_bands_THz, **study), atol=1e-6)


def test_a_mass_in_the_gap_of_an_infinite_host():
    """The heavy atom's mode is far from both bands, and the finite host has converged."""
    heavy = run(**HEAVY, phonons={"host": "infinite"})
    np.testing.assert_allclose(outside(heavy), [16.32042] * 3, atol=2e-5)
    np.testing.assert_allclose(outside(heavy), heavy.ladder_THz["dynamic"], atol=1e-4)
    assert heavy.n_perturbed_sites == 1


@pytest.mark.slow
def test_a_mode_near_a_band_in_finite_hosts_that_grow():
    """The light atom's gap mode lies 14 % above the acoustic band."""

    def gap(result):
        return np.array([mode["frequency_THz"] for mode in result.modes if mode["kind"] == "gap"])

    smaller, larger = (gap(run(**LIGHT, supercell=[n] * 3, phonons={})) for n in (3, 4))
    infinite = gap(run(**LIGHT, phonons={"host": "infinite"}))
    np.testing.assert_allclose(infinite, [11.55457] * 3, atol=1e-4)
    assert 1e-3 < np.abs(smaller - infinite).max() < 4e-3
    assert np.abs(larger - infinite).max() < 5e-4


def test_an_antisite_in_silicon_carbide():
    """Carbon on a silicon site, relaxed: modes far above the bands, one above them, and two sets of its own in the gap."""
    result = run(**ANTISITE, phonons={"method": "full"})
    np.testing.assert_allclose(result.bulk_bands_THz, [[0, 19.349], [24.677, 29.662]], atol=2e-3)
    found = outside(result)
    np.testing.assert_allclose(found, dense(result.bulk_bands_THz, **ANTISITE), atol=1e-6)
    np.testing.assert_allclose(result.ladder_THz["dynamic"], found[: len(result.ladder_THz["dynamic"])], atol=1e-6)
    gap = [mode for mode in result.modes if mode["kind"] == "gap" and mode["core_weight"] > 0.5]
    assert [mode["irrep"] for mode in gap] == ["T2"] * 3 + ["A1"]
    np.testing.assert_allclose([mode["frequency_THz"] for mode in gap], [23.996] * 3 + [21.139], atol=2e-3)


@pytest.mark.slow
def test_an_antisite_in_an_infinite_host():
    """Modes of weight on the core agree; one that the finite host has next to the band is not sought, and named."""
    result = run(**ANTISITE, phonons={"host": "infinite"})
    gap = [mode for mode in result.modes if mode["kind"] == "gap" and mode["core_weight"] > 0.5]
    np.testing.assert_allclose([mode["frequency_THz"] for mode in gap], [23.996] * 3 + [21.139], atol=0.015)
    assert any("24.645" in text and "they are not listed" in text for text in result.warnings)
    assert not any("reaches" in text for text in result.warnings)
