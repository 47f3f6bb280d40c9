"""Where a crack starts to run, and whether it has advanced, from rows of its tip alone."""

from __future__ import annotations

import numpy as np
import pytest

from solidqmmm.procedures.cracks.tip_history import advanced, critical_load

PERIOD = 6.65


def rows(way):
    """A tip that goes the given way while G rises by 1 J/m^2 a row."""
    return [
        {"time_ps": 0.1 * k, "reference_x_A": None if x is None else 50.0 + x, "x_A": None if x is None else 50.0 + x,
         "G_J_per_m2": 3.0 + k, "K_MPa_sqrt_m": np.sqrt(3.0 + k)}
        for k, x in enumerate(way)
    ]  # fmt: skip


def test_the_critical_load_is_that_of_the_last_row_before_the_tip_runs():
    found = critical_load(rows([0, 0, -3, 0, 3, 10, 17, 25, 33, 40]), PERIOD)
    assert found == pytest.approx({"time_ps": 0.4, "G_J_per_m2": 7.0, "K_MPa_sqrt_m": np.sqrt(7.0)})


def test_a_tip_that_breaks_bonds_and_heals_has_not_started_yet():
    """It is ahead by two periods at the second row, is back, and runs from the fourth."""
    assert critical_load(rows([0, 14, 3, 3, 14, 25, 40]), PERIOD)["G_J_per_m2"] == 6.0


def test_blunting_is_no_running():
    way = [0, 0, 2, 2, 6.6, 3.3, 6.6, 6.6]
    assert critical_load(rows(way), PERIOD) is None
    assert not advanced(rows(way), PERIOD)
    assert advanced(rows([0, 0, 7, 7]), PERIOD)  # a period is an advance, and no running
    assert critical_load(rows([0, 0, 7, 7]), PERIOD) is None


def test_rows_without_a_tip_or_a_load_say_nothing():
    assert critical_load(rows([0, None, 5, None, 40]), PERIOD)["G_J_per_m2"] == 5.0
    assert critical_load(rows([None, None]), PERIOD) is None
    bare = [{"time_ps": 0.0, "reference_x_A": 0.0}, {"time_ps": 1.0, "reference_x_A": 90.0}]
    assert critical_load(bare, PERIOD) is None
    assert critical_load([], PERIOD) is None
