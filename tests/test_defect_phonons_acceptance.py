"""Defect phonons on other crystals, cells and orientations, and what the command line says to impossible ones."""

from __future__ import annotations

import numpy as np
import pytest
from phonon_cases import model_of

from solidqmmm.procedures import bulk_phonons as bulk_module
from solidqmmm.procedures.bulk_phonons import bulk_phonons

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
