"""Charged vacancies with GPAW alone: GPAW's own test of FNV, and the smallest cell of the example."""

from __future__ import annotations

from pathlib import Path

import pytest
from ase.build import bulk

from solidqmmm import recipebook
from solidqmmm.procedures.build import build_model
from solidqmmm.system.study import Study

pytest.importorskip("gpaw")

EXAMPLE = Path(__file__).parents[1] / "examples" / "sodium_chloride_vacancy"


def run(study: Study, workdir):
    with build_model(study, log_dir=workdir) as model:
        return recipebook.find("charged_defect").run(model=model, workdir=workdir, **study.options)


@pytest.mark.slow
def test_gallium_vacancy_of_gpaws_own_test(tmp_path):
    """V_Ga(3-) in seven atoms: gpaw/test/test_defects_fnv.py (26.7) has 18.31 eV uncorrected and 23.55 +- 0.03 eV corrected.

    There the model charge and the average over planes are GPAW's own, here those of pymatgen-analysis-defects.
    """
    study = Study.from_mapping(
        {
            "recipe": "charged_defect",
            "structure": bulk("GaAs", "zincblende", a=5.628, cubic=True),
            "supercell": [1, 1, 1],
            "defect": {"kind": "vacancy", "site": 0},
            "qm": {"engine": "gpaw", "mode": "pw", "ecut": 400, "xc": "LDA", "smearing": 0.01,
                   "kpts": {"size": [2, 2, 2], "gamma": False}},
            "charged": {"charge": -3, "dielectric": 12.7, "cells": [[1, 1, 1]], "fit": {"A": "fixed", "terms": [1]}},
        },
        schemas=recipebook.schemas(),
    )  # fmt: skip
    result = run(study, tmp_path)
    assert result.points[0]["energy_eV"] == pytest.approx(18.31, abs=0.03)
    assert result.routes["FNV"]["E_inf_eV"] == pytest.approx(23.55, abs=0.03)


@pytest.mark.slow
def test_the_smallest_cell_of_the_example(tmp_path):
    """V_Cl(+) in 15 atoms of NaCl: its energy, what FNV and eFNV make of it, band edges, and resuming."""
    study = recipebook.load_study(EXAMPLE / "study.yaml")
    study = study.with_options(cells=[[2, 2, 2]], fit={"A": "fixed", "terms": [1]})
    result = run(study, tmp_path)
    assert result.points[0]["energy_eV"] == pytest.approx(3.2467, abs=2e-3)
    assert result.routes["eFNV"]["E_inf_eV"] == pytest.approx(3.921, abs=5e-3)
    assert result.routes["FNV"]["E_inf_eV"] == pytest.approx(4.035, abs=5e-3)
    assert not result.routes["eFNV"]["counted"]  # so near, the potential is not that of a point charge
    assert result.band_gap_eV == pytest.approx(5.07, abs=0.02)
    assert not any("partly filled" in text for text in result.warnings)
    (tmp_path / "cells" / "2x2x2.npz").unlink()
    journal = sorted((tmp_path / "journal").iterdir())
    assert run(study, tmp_path).routes == result.routes
    assert sorted((tmp_path / "journal").iterdir()) == journal


@pytest.mark.slow
def test_a_charge_that_no_vacancy_binds(tmp_path):
    """V_Na with charge +1: the holes are in the valence band. pymatgen lists the sodium of the file first."""
    study = recipebook.load_study(EXAMPLE / "study.yaml")
    study = study.with_options(cells=[[2, 2, 2]], fit={"A": "fixed", "terms": [1]})
    study = study.model_copy(update={"defect": study.defect.model_copy(update={"site": 0})})
    result = run(study, tmp_path)
    assert any("partly filled" in text and "2x2x2" in text for text in result.warnings)
