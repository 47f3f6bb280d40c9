"""Local mode of carbon in silicon with GPAW on the smallest core there is: examples/carbon_in_silicon/gpaw.yaml, reduced."""

from __future__ import annotations

import numpy as np
import phonon_cases
import pytest

MEASURED = 589.0  # 13C, 1/cm; 607 for 12C


@pytest.mark.slow
def test_carbon_on_five_quantum_atoms(tmp_path):
    """CSi4H12 in 216 sites of Tersoff silicon, 14 quantum calls.

    So small a cluster makes the mode 14 % too stiff (35 quantum atoms: 580 1/cm); Tersoff alone is 23 % off (725 1/cm).
    """
    pytest.importorskip("gpaw")
    result = phonon_cases.run(
        workdir=tmp_path,
        qm={"engine": "gpaw", "mode": "lcao", "basis": "dzp", "xc": "PBE", "h": 0.22},
        region={"core": {"hops": 1}},
        caps={"kind": "hydrogen", "vacuum": 4.0},
        matching={"lattice_parameter_A": 5.487},
        coupling={"scheme": "subtractive"},
        phonons={"isotopes": {"C": 13}, "displacement": 0.04, "fmax": 0.03},
    )
    local = [mode for mode in result.modes if mode["kind"] == "local"]
    triplet = np.array([mode["frequency_cm-1"] for mode in local])
    assert len(local) == 3
    assert {mode["irrep"] for mode in local} == {"T2"}
    assert np.ptp(triplet) < 0.5  # what the grid's force noise splits
    assert triplet.mean() == pytest.approx(670.2, abs=3.0)  # this study, by itself
    assert MEASURED < triplet.mean() < 725.3 - 40  # from Tersoff's towards the measured one
    assert min(mode["core_weight"] for mode in local) > 0.95
    # A carbon atom alone in a rigid cage would shift by 1 - sqrt(12.011/13.003) = 3.9 %.
    (shift,) = result.isotope_shifts_per_cm.values()
    assert shift == pytest.approx(-21.9, abs=0.5)
    assert 0.75 < -shift / (triplet.mean() - shift) / (1 - np.sqrt(12.011 / 13.00335)) < 1.0
    assert result.n_force_evaluations_qm == 7
    assert abs(result.static_condensation_error_THz) > 0.2
