"""The spectrum of a defect in an infinite host by the recipe: finite hosts that grow, resonances, what is left out."""

from __future__ import annotations

import numpy as np
import pytest
from elastic_cases import SW, silicon
from phonon_cases import CARBON, model_of, run
from scipy import linalg

from solidqmmm.physics.condensation import PartitionedCrystal
from solidqmmm.physics.vibrations.defect_spectrum import quartic_kernel
from solidqmmm.physics.vibrations.localized_modes import CM1_PER_THZ, frequencies_THz
from solidqmmm.physics.vibrations.resonances import resonances
from solidqmmm.procedures.vibrations.bulk_lattice import BulkLattice
from solidqmmm.procedures.vibrations.bulk_phonons import bulk_phonons
from solidqmmm.procedures.vibrations.defect_modes import core_atoms, crystal_at_rest
from solidqmmm.procedures.vibrations.infinite_host import infinite_modes, infinite_spectrum, perturbation
from solidqmmm.procedures.vibrations.isotopes import Isotopes

VACANCY = {"kind": "vacancy", "site": 0}
INTERSTITIAL = {"kind": "interstitial", "element": "C", "position": [0.5, 0.5, 0.5]}
HEAVY = {
    "structure": silicon(5.43095),
    "host": SW,
    "defect": None,
    "region": {"core": {"radius": 2.5}, "centre": {"site": 37}},
    "phonons": {"host": "infinite", "isotopes": {"Si": {"mass": 100.0, "sites": [37]}}},
}


class Parts:
    """A model with its Hessian and the phonons of its host, for more than one question."""

    def __init__(self, **changes):
        with model_of(**changes) as model:
            self.model, self.core = model, core_atoms(model)
            self.rest = crystal_at_rest(model, fmax=1e-3, displacement=0.01)
            isotopes = Isotopes.read({"C": 12} if 6 in model.crystal.numbers else {})
            self.masses = isotopes.masses(model.crystal.numbers)
            self.bulk = bulk_phonons(
                model, self.rest.hessian.host.force_range, masses=isotopes.of_elements(model.unit.species)
            )

    def spectrum(self, nu, width, core=None):
        core = self.core if core is None else core
        return infinite_spectrum(self.model, self.rest, self.bulk, core, self.masses, nu, width_THz=width)

    def finite_spectrum(self, nu, width):
        """Of the supercell's own vibrations, all of them, broadened alike."""
        W = PartitionedCrystal(self.rest.hessian.matrix, self.masses, self.core).weighted().toarray()
        squared, e = linalg.eigh(W)
        weights = np.sum(e.reshape(-1, 3, len(squared)) ** 2, axis=1)[self.core]
        f = frequencies_THz(squared)
        kernel = quartic_kernel(nu[:, None] - f, width) + quartic_kernel(nu[:, None] + f, width)
        return weights @ kernel.T


@pytest.mark.parametrize("defect", [CARBON["defect"], VACANCY], ids=["carbon", "vacancy"])
def test_finite_crystals_come_nearer_as_they_grow(defect):
    """Local densities of the core with a broadening of 0.7 THz, beyond which the spacing of a small crystal's levels is."""
    nu, width = np.arange(0.0, 26.0, 0.25), 0.5 * np.sqrt(2)
    off = []
    for n in (2, 3, 4):
        parts = Parts(supercell=[n] * 3, defect=defect)
        if n == 2:  # too small for the infinite host; compared with that of the next
            small = parts.finite_spectrum(nu, width)
            continue
        infinite = parts.spectrum(nu, width)
        if not off:
            off.append(np.abs(small - infinite).max() / infinite.max())
        off.append(np.abs(parts.finite_spectrum(nu, width) - infinite).max() / infinite.max())
    assert off[2] < off[1] < off[0]
    assert off[2] < 0.08


@pytest.mark.parametrize("defect", [CARBON["defect"], VACANCY, INTERSTITIAL], ids=["carbon", "vacancy", "interstitial"])
def test_three_vibrations_for_each_atom(defect):
    """The interstitial atom, those around a vacant site and those that are not perturbed at all."""
    parts = Parts(defect=defect)
    far = np.argsort(np.linalg.norm(parts.rest.positions - parts.model.defect.position, axis=1))[-3:]
    nu = np.arange(0.0, 45.0, 0.1)
    density = parts.spectrum(nu, 0.2 * np.sqrt(2), np.concatenate([parts.core, far]))
    np.testing.assert_allclose(np.trapezoid(density, nu, axis=1), 3.0, atol=5e-3)
    assert density.min() > -1e-3


def test_the_result_has_the_density_of_the_infinite_host():
    infinite, finite = (run(phonons={"isotopes": {"C": 12}, "host": host}) for host in ("infinite", "finite"))
    assert (infinite.local_dos_method, finite.local_dos_method) == ("Dyson's equation", "recursion")
    assert infinite.local_dos_half_width_THz == pytest.approx(0.142, abs=1e-3)
    assert infinite.local_dos_half_width_THz < finite.local_dos_half_width_THz  # a small crystal's lines are far apart
    nu = infinite.dos_frequency_THz
    for name in ("local_dos_per_THz", "defect_dos_per_THz"):
        one, other = getattr(infinite, name), getattr(finite, name)
        assert np.trapezoid(one, nu) == pytest.approx(3, abs=0.01)
        counts = [np.cumsum(density) * nu[1] for density in (one, other)]
        inside = nu < 0.97 * infinite.bulk_band_top_THz  # at a local mode all that differs is the broadening
        assert np.abs(counts[0] - counts[1])[inside].max() < 0.1  # of 3 vibrations
    # the local mode's share of the carbon atom: 3 vibrations of weight 0.851
    above = nu > infinite.bulk_band_top_THz + 1.5
    assert np.trapezoid(infinite.defect_dos_per_THz[above], nu[above]) == pytest.approx(3 * 0.851, abs=0.01)
    peak = nu[infinite.defect_dos_per_THz.argmax()]
    assert peak == pytest.approx(infinite.modes[0]["frequency_THz"], abs=nu[1])
    assert infinite.resonances == finite.resonances == []


def test_a_heavy_atom_resonates():
    """100 amu in Stillinger-Weber silicon: no mode outside the band, a peak inside where larger finite crystals have it."""
    result = run(**HEAVY)
    assert result.modes == []
    lowest = result.resonances[0]
    assert lowest["frequency_THz"] == pytest.approx(3.66, abs=0.05)
    assert lowest["frequency_cm-1"] == pytest.approx(lowest["frequency_THz"] * CM1_PER_THZ)
    assert lowest["enhancement"] > 8
    assert 0.5 < lowest["width_THz"] < 2.5
    assert any(label == "resonance" and "3.66 THz" in text for label, text in result.summary())
    mean = np.sum(result.dos_frequency_THz * result.defect_dos_per_THz) / np.sum(result.defect_dos_per_THz)
    finite = run(**HEAVY | {"phonons": HEAVY["phonons"] | {"host": "finite"}, "supercell": [4] * 3})
    other = np.sum(finite.dos_frequency_THz * finite.defect_dos_per_THz) / np.sum(finite.defect_dos_per_THz)
    assert mean == pytest.approx(other, rel=0.01)
    below = finite.dos_frequency_THz < 6.5
    peaks = finite.defect_dos_per_THz[below]
    assert abs(finite.dos_frequency_THz[below][peaks.argmax()] - lowest["frequency_THz"]) < 0.8


def test_resonances_are_peaks_that_rise_above_the_bulk():
    nu = np.linspace(0, 20, 801)

    def peak(centre, height, width=0.3):
        return height * np.exp(-0.5 * ((nu - centre) / width) ** 2)

    bulk = 0.3 + peak(8, 1.0) + peak(18, 0.0)
    bands = [[0.0, 10.0], [12.0, 16.0]]
    density = 0.2 + peak(3, 2.0) + peak(8, 1.0) + peak(11, 5.0) + peak(14, 0.3) + peak(18, 9.0)
    (found,) = resonances(nu, density, bulk, bands)  # not the bulk's own, those outside the bands, or the small one
    assert found.frequency_THz == pytest.approx(3.0)
    assert found.width_THz == pytest.approx(0.3 * np.sqrt(8 * np.log(2)), rel=0.02)
    assert found.enhancement == pytest.approx(2.2 / 0.3, rel=1e-3)


# --- what is left out ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("most_sites", "off"), [(5, 0.05), (17, 0.01), (47, 0.001)])
def test_few_perturbed_sites_are_enough_without_a_sum_rule(most_sites, off):
    """The triplet of carbon in 216 atoms; with the acoustic sum rule on five sites it would lie 13 1/cm too high."""
    parts = Parts()
    found = infinite_modes(parts.model, parts.rest, parts.bulk, parts.core, parts.masses, most_sites=most_sites)
    assert found.n_sites == most_sites
    assert not found.reaches_far
    np.testing.assert_allclose(CM1_PER_THZ * found.frequencies_THz, 746.881, atol=off)


@pytest.mark.slow
def test_few_perturbed_sites_around_a_vacancy():
    parts = Parts(supercell=[4] * 3, defect=VACANCY)
    many, few = (
        infinite_modes(parts.model, parts.rest, parts.bulk, parts.core, parts.masses, most_sites=most)
        for most in (150, 50)
    )
    np.testing.assert_allclose(CM1_PER_THZ * few.frequencies_THz, CM1_PER_THZ * many.frequencies_THz, atol=0.05)
    finite = run(supercell=[4] * 3, defect=VACANCY, phonons={}).ladder_THz["dynamic"][:8]
    np.testing.assert_allclose(many.frequencies_THz, finite, atol=2e-3)


def test_a_defect_that_changes_the_whole_crystal_is_warned_of():
    """Silicon on a carbon site of silicon carbide pushes distant atoms into the cutoff of the potential."""
    carbide = silicon(4.32116989).to_atoms()
    carbide.numbers[1::2] = 6
    parts = Parts(structure=carbide, defect={"kind": "substitution", "site": 1, "element": "Si"})
    found = perturbation(parts.model, parts.rest, BulkLattice(parts.bulk), parts.masses, parts.core)
    assert found.left_out > 10


def test_margins_are_in_the_result_and_in_the_table():
    result = run(supercell=[3] * 3, phonons={"isotopes": {"C": 12}, "host": "infinite"})
    assert result.band_margin == 2e-3
    assert 100 < result.n_perturbed_sites <= 150
    assert 0 < result.left_out_eV_per_A2 < 1
    assert ("told from a band", "where a mode is 0.2 % or more from its edge") in result.summary()
    assert result.warnings == []
    assert {"maradudin1971lattice", "guyan1965reduction"} <= set(result.METHOD_REFERENCES)
