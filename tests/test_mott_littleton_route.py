"""The route of Mott and Littleton in a study: it meets the cells, is on record, and says why where it does not exist."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ionic_cases import LATTICE, RIGID

from solidqmmm import recipebook
from solidqmmm.errors import StudyError
from solidqmmm.plotting.charged_defect import plot_mott_littleton
from solidqmmm.procedures.build import build_model
from solidqmmm.system.study import Study


def run(charged, workdir=None, **changes):
    mapping = {
        "recipe": "charged_defect",
        "structure": bulk("MgO", "rocksalt", a=LATTICE, cubic=True),
        "supercell": [2, 2, 2],
        "defect": {"kind": "vacancy", "site": 1},
        "host": {"model": "lewis_catlow_MgO"},
        "charged": {"charge": 2, "cells": [[2, 2, 2], [3, 3, 3]], "fit": {"terms": [1, 3]}} | charged,
    } | changes
    asked = Study.from_mapping(mapping, schemas=recipebook.schemas())
    with build_model(asked, log_dir=workdir) as model:
        return recipebook.find("charged_defect").run(model=model, workdir=workdir, **asked.options)


def test_the_study_has_the_route(tmp_path):
    """Ions fixed: the route meets the extrapolation of two cells, and its radii are in the result."""
    result = run({"ions": "fixed", "mott_littleton": {"inner_radius_A": 6.5}}, tmp_path)
    found = result.routes["Mott-Littleton"]
    assert found["counted"]
    assert found["E_inf_eV"] == pytest.approx(result.E_inf_eV, abs=0.02)
    assert found["E_inf_eV"] == pytest.approx(33.7147, abs=2e-3)
    assert found["inner_radii_A"][-1] == 6.5
    assert found["outer_radius_A"] == 14.5
    assert found["dielectric"] == pytest.approx(result.dielectric[0, 0], abs=1e-3)
    assert abs(found["convergence_eV"]) < 5e-3
    assert found["inner_ions"] == sorted(found["inner_ions"])
    again = run({"ions": "fixed", "mott_littleton": {"inner_radius_A": 6.5}}, tmp_path)
    assert again.routes == result.routes
    assert len(list((tmp_path / "mott_littleton").glob("*.npz"))) == 3
    assert "mott1938conduction" in result.METHOD_REFERENCES
    assert set(recipebook.find("charged_defect").figures(result)) == {"finite_size", "mott_littleton"}


@pytest.mark.parametrize(
    ("host", "asked", "reason"),
    [
        (RIGID, "auto", "mott_littleton: true"),
        ({"model": "lewis_catlow_MgO"}, False, "not asked for"),
        (RIGID | {"pair_style": "buck/coul/cut 8.0", "commands": []}, True, "cuts it"),
    ],
)
def test_hosts_without_the_route(host, asked, reason):
    result = run({"mott_littleton": asked, "cells": [[2, 2, 2]], "fit": {"terms": [1]}, "dielectric": 3.0}, host=host)
    assert result.routes["Mott-Littleton"]["E_inf_eV"] is None
    assert reason in result.routes["Mott-Littleton"]["reason"]
    with pytest.raises(ValueError, match="no route Mott-Littleton"):
        plot_mott_littleton(result)


def test_a_crystal_that_is_not_isotropic_is_left_to_the_cells():
    stretched = bulk("MgO", "rocksalt", a=LATTICE, cubic=True)
    stretched.set_cell(LATTICE * np.diag([1.0, 1.0, 1.05]), scale_atoms=True)
    result = run({"ions": "fixed", "cells": [[2, 2, 2]], "fit": {"terms": [1]}}, structure=stretched)
    assert result.routes["Mott-Littleton"]["E_inf_eV"] is None
    assert "not isotropic" in result.routes["Mott-Littleton"]["reason"]


def test_an_interstitial_has_the_route():
    """Ions fixed, their shells polarized by a cation among them. Four cells of up to 1001 atoms say 3.2209 +- 0.0001 eV."""
    defect = {"kind": "interstitial", "element": "Mg", "position": [0.25, 0.25, 0.25]}
    result = run({"ions": "fixed", "cells": [[2, 2, 2]], "fit": {"terms": [1]}}, defect=defect)
    found = result.routes["Mott-Littleton"]
    assert found["counted"]
    assert found["E_inf_eV"] == pytest.approx(3.2209, abs=1e-3)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"inner_radius_A": 9.0, "outer_radius_A": 8.0}, "3 A or more beyond"),
        ({"outer_radius_A": 2.0}, "3 A or more beyond"),
        ({"inner_radius_A": -1.0}, "above 0"),
        ({"inner_radus_A": 9.0}, "inner_rad"),
    ],
)
def test_mistakes_in_the_radii(asked, message):
    with pytest.raises(StudyError, match=message):
        run({"mott_littleton": asked})
