"""Ions of a polarizable crystal that have no place to rest: the closed formula of the optical mode, and who is refused."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from embedding_cases import ISOLATED, mapping, model_of, oxide
from test_embedding_studies import written

from solidqmmm.errors import PolarizationCatastrophe
from solidqmmm.physics.electrostatics.ewald import COULOMB
from solidqmmm.physics.polarization.induced_dipoles import PolarizableSites
from solidqmmm.procedures.charged_defects.lattice_stability import lattice_stiffness, require_stable_lattice
from solidqmmm.system.crystal import Crystal

TOO_SOFT = {"scheme": "polarizable", "charge": 2.0, "polarizabilities": {"Mg": 0.09, "O": 1.65}}


def potential():
    return model_of("electrostatic").potential


def optical(K, unit) -> float:
    """Force constant of cations against anions along z, per formula unit."""
    move = np.zeros((len(unit), 3))
    move[:, 2] = np.where(unit.numbers == 12, 0.5, -0.5)
    return float(move.ravel() @ K @ move.ravel()) / (len(unit) / 2)


@pytest.mark.parametrize("alpha", [0.0, 0.9, 1.65])
def test_the_transverse_optical_mode_of_rocksalt(alpha):
    """Dipoles take (4 pi k/3v) Z^2 (1/(1 - 4 pi alpha/3v) - 1) off its force constant."""
    unit = oxide()
    charges = np.where(unit.numbers == 12, 2.0, -2.0)
    alphas = np.where(unit.numbers == 8, alpha, 0.0)
    sites = PolarizableSites(unit.positions, charges, alphas, unit.cell, damping=None)
    plain, softened = lattice_stiffness(unit, potential(), sites)
    local = 4 * np.pi / 3 / (unit.volume / 4)
    expected = local * COULOMB * 4 * (1 / (1 - local * alpha) - 1)
    assert optical(plain, unit) - optical(softened, unit) == pytest.approx(expected, rel=1e-4, abs=1e-8)
    assert (optical(softened, unit) > 0) == (alpha < 1.0)


def test_the_error_names_ions_their_distance_and_a_cure():
    with model_of(coupling=TOO_SOFT) as model, pytest.raises(PolarizationCatastrophe) as caught:
        require_stable_lattice(model)
    i, j = caught.value.pair
    assert {model.unit.symbols[i], model.unit.symbols[j]} == {"Mg", "O"}
    assert caught.value.distance == pytest.approx(2.1)
    for words in ("(Mg)", "(O)", "2.1000 angstrom apart", "fixed ions", "without these dipoles"):
        assert words in str(caught.value)


def test_a_primitive_cell_does_not_hide_the_softest_mode():
    """At 1.2 angstrom^3 the optical mode at the zone's centre is stable, that at its boundary is not."""
    primitive = Crystal.of(bulk("MgO", "rocksalt", a=4.2))
    coupling = {**TOO_SOFT, "polarizabilities": {"Mg": 0.09, "O": 1.2}}
    with (
        model_of(coupling=coupling, structure=primitive, supercell=[5, 5, 5]) as model,
        pytest.raises(PolarizationCatastrophe, match=r"-4\.\d+ eV/A\^2 with induced dipoles"),
    ):
        require_stable_lattice(model)


@pytest.mark.parametrize(
    "changes",
    [
        {"embedding": "polarizable"},
        {"embedding": "electrostatic"},
        {"embedding": "polarizable", **ISOLATED, "coupling": TOO_SOFT},
    ],
)
def test_who_is_not_concerned(changes):
    with model_of(**changes) as model:
        require_stable_lattice(model)


def test_dipoles_that_diverge_in_the_perfect_crystal_alone():
    """The cluster's ions have no dipoles in the embedding; that the infinite crystal diverges is said all the same."""
    coupling = {**TOO_SOFT, "polarizabilities": {"Mg": 0.09, "O": 4.6}, "damping": "none"}
    with model_of(coupling=coupling) as model, pytest.raises(PolarizationCatastrophe, match="field of others"):
        require_stable_lattice(model)


def test_relaxations_are_refused_and_fixed_ions_are_not(tmp_path, call):
    small = {"coupling": TOO_SOFT, "supercell": [2, 2, 2]}
    for recipe, options in (
        ("defect_relaxation", {}),
        ("embedding_ladder", {"ladder": {"ions": "relaxed"}}),
        ("charged_defect", {"charged": {"charge": 2, "cells": [[2, 2, 2]], "ions": "relaxed", "dielectric": 3.0}}),
    ):
        folder = tmp_path / recipe
        folder.mkdir()
        study = written(folder, mapping(recipe=recipe, **small, **options), None)
        code, _, err = call("run", study, "--out", folder / "out")
        assert code != 0
        assert "no place to rest" in " ".join(err.split()), err
        assert "Traceback" not in err
        assert not (folder / "out/result.json").exists()
    study = written(tmp_path, mapping(recipe="single_point", **small), None)
    assert call("run", study, "--out", tmp_path / "out")[0] == 0
