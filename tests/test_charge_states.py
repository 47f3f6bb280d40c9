"""Formation energies against the Fermi level: envelopes, transition levels, negative U, pymatgen's entries, bad input."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from pymatgen.analysis.defects.core import Vacancy
from pymatgen.analysis.defects.thermo import DefectEntry
from pymatgen.core import Lattice, PeriodicSite, Structure
from pymatgen.entries.computed_entries import ComputedEntry, ComputedStructureEntry
from typer.testing import CliRunner

from solidqmmm.errors import StudyError
from solidqmmm.physics.charged_defects.charge_transitions import (
    formation_lines,
    stable_states,
    transition_level,
)
from solidqmmm.procedures.charged_defects.charge_states import (
    CORRECTION,
    ChargeState,
    charge_states,
    read_states,
    states_from_entries,
    with_correction,
)
from solidqmmm.procedures.charged_defects.size_series import extrapolate
from solidqmmm.results.base import Result
from solidqmmm.system.energy_table import CellEnergy

V_O = [ChargeState("V_O", q, E, error, -4.9) for q, E, error in ((0, 9.75, 0.02), (1, 6.3, 0.05), (2, 2.2, 0.06))]


def series(charge=2):
    L = np.array([10.0, 12, 16, 20])
    cells = [CellEnergy(f"{a:g}", int(a**3 / 10), a * np.eye(3), 2.2 - 8.1712 / a + 50 / a**3) for a in L]
    return extrapolate(cells, charge, 10.0)


def test_the_envelope_is_the_minimum_of_the_lines():
    rng = np.random.default_rng(3)
    fermi = np.linspace(-3, 6, 901)
    for _ in range(50):
        n = rng.integers(1, 7)
        charges, energies = rng.integers(-3, 4, n).astype(float), rng.normal(size=n) * 3
        lowest = formation_lines(charges, energies, fermi).min(axis=0)
        found = stable_states(charges, energies)
        assert found[0][1] == -np.inf
        assert found[-1][2] == np.inf
        assert [charges[i] for i, *_ in found] == sorted({charges[i] for i, *_ in found}, reverse=True)
        for i, begin, end in found:
            inside = (fermi >= begin) & (fermi <= end)
            np.testing.assert_allclose(energies[i] + charges[i] * fermi[inside], lowest[inside], atol=1e-12)


def test_negative_u_and_levels():
    """eps(2+/1+) = E(1+) - E(2+) = 4.1 eV lies above eps(1+/0) = 3.45 eV: 1+ is nowhere stable, (2+/0) is their mean."""
    result = charge_states(V_O, band_gap=7.8)
    levels = {(t["from"], t["to"]): t for t in result.transitions}
    assert levels[2, 1]["level_eV"] == pytest.approx(4.1)
    assert levels[1, 0]["level_eV"] == pytest.approx(3.45)
    assert levels[2, 0]["level_eV"] == pytest.approx((4.1 + 3.45) / 2)
    assert [key for key, t in levels.items() if t["thermodynamic"]] == [(2, 0)]
    assert levels[2, 0]["stderr_eV"] == pytest.approx(np.hypot(0.02, 0.06) / 2)
    assert [s["stable"] for s in result.states] == [True, False, True]
    assert "nowhere stable" in dict(result.summary())["V_O 1+"]
    assert transition_level(2, -2.7, 0, 4.85) == pytest.approx(3.775)


def test_the_valence_band_and_the_reservoirs_shift_the_lines():
    shifted = charge_states(V_O, band_gap=7.8, vbm=1.5)
    plain = charge_states([ChargeState(s.defect, s.charge, s.energy) for s in V_O], band_gap=7.8)
    for a, b in zip(shifted.states, plain.states):
        assert a["formation_energy_eV"] == pytest.approx(b["formation_energy_eV"] - 4.9 + 1.5 * a["charge"])
    for a, b in zip(shifted.transitions, plain.transitions):
        assert a["level_eV"] == pytest.approx(b["level_eV"] - 1.5)


def test_errors_of_an_extrapolation_are_those_of_fit_and_routes():
    result = series()
    state = ChargeState.of(result, "V_O", -4.9)
    assert state.energy == pytest.approx(2.2, abs=1e-3)
    assert state.stderr == pytest.approx(np.hypot(result.fit["E_inf_stderr_eV"], result.systematic_spread_eV / 2))


# --- pymatgen -----------------------------------------------------------------------------------------------------


def entry(charge=2, energy=-320.0, corrections=None, bulk=True):
    unit = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    unit.add_oxidation_state_by_element({"Mg": 2, "O": -2})
    site = next(s for s in unit if s.specie.symbol == "O")
    cell = unit * (2, 2, 2)
    cell.remove_sites([next(i for i, s in enumerate(cell) if s.specie.symbol == "O")])
    return DefectEntry(
        defect=Vacancy(unit, PeriodicSite(site.specie, site.frac_coords, unit.lattice)),
        charge_state=charge,
        sc_entry=ComputedStructureEntry(cell, energy),
        corrections=corrections or {},
        bulk_entry=ComputedEntry("Mg32O32", -322.0) if bulk else None,
    )


@pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning")  # spglib's own
def test_entries_come_in_and_go_out():
    states = states_from_entries([entry(corrections={"freysoldt": 0.3}), entry(0, -312.0)], {"O": -4.9})
    assert [s.charge for s in states] == [2.0, 0.0]
    assert [s.energy for s in states] == pytest.approx([2.3, 10.0])
    assert [s.chemical for s in states] == pytest.approx([-4.9, -4.9])
    assert states[0].defect == "v_O"
    result = series()
    corrected = with_correction(entry(), result)
    assert corrected.corrections == {CORRECTION: pytest.approx(result.E_inf_eV - 2.0)}
    assert states_from_entries([corrected])[0].energy == pytest.approx(result.E_inf_eV)
    written = json.loads(json.dumps(corrected.as_dict(), default=float))
    assert DefectEntry.from_dict(written).corrections == corrected.corrections
    with pytest.raises(ValueError, match="no `bulk_entry`"):
        states_from_entries([entry(bulk=False)])
    with pytest.raises(ValueError, match="chemical potential of O is missing"):
        states_from_entries([entry()], {})
    with pytest.raises(ValueError, match="charge of the result"):
        with_correction(entry(1), result)


# --- tables and the command -------------------------------------------------------------------------------------------

TABLE = "defect,charge,energy_eV,error_eV,chemical_eV\nV_O,0,9.75,0.02,-4.9\nV_O,1,6.3,,-4.9\nV_O,2,2.2,0.06,-4.9\n"


def test_the_command_and_its_figure(tmp_path):
    from solidqmmm.cli.app import app

    (tmp_path / "states.csv").write_text(TABLE)
    words = ["charge-states", str(tmp_path / "states.csv"), "--gap", "7.8", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "V_O (2+/0)" in done.output
    assert "3.775" in done.output
    again = Result.load(tmp_path / "out")
    assert again.transitions[1]["stderr_eV"] == pytest.approx(np.hypot(0.02, 0.06) / 2)
    assert (tmp_path / "out" / "figures" / "formation_energy.png").is_file()
    assert "zhang1991chemical" in CliRunner().invoke(app, ["cite", str(tmp_path / "out")]).output


def test_the_figure_shows_envelope_and_levels():
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    from solidqmmm.plotting.charge_states import plot_charge_states

    ax = plot_charge_states(charge_states([*V_O, ChargeState("V_Mg", -2, 14.1)], band_gap=7.8))
    envelopes = [line for line in ax.lines if line.get_gid() == "envelope"]
    assert [tuple(line.get_xdata()) for line in envelopes] == [
        (0, pytest.approx(3.775)), (pytest.approx(3.775), 7.8), (0, 7.8),
    ]  # fmt: skip
    assert {text.get_text() for text in ax.texts} == {"2+", "0", "2−"}
    plt.close(ax.figure)


def test_runs_in_the_table(tmp_path):
    series().save(tmp_path / "plus2" / "result.json")
    (tmp_path / "states.csv").write_text("defect,charge,run,energy_eV\nV_O,2,plus2,\nV_O,0,,9.75\n")
    states = read_states(tmp_path / "states.csv")
    assert states[0].energy == pytest.approx(2.2, abs=1e-3)
    assert states[1].stderr is None
    (tmp_path / "states.csv").write_text("defect,charge,run,energy_eV\nV_O,1,plus2,\n")
    with pytest.raises(StudyError, match="no extrapolation of a defect with charge"):
        read_states(tmp_path / "states.csv")


@pytest.mark.parametrize(
    ("text", "gap", "message"),
    [
        (TABLE, "0", "`band_gap` must be positive"),
        (TABLE + "V_O,2,2.3,,\n", "7.8", "twice"),
        ("defect,charge\nV_O,2\n", "7.8", "energy_eV or run"),
        ("defect,charge,energi_eV\nV_O,2,1\n", "7.8", "expected the columns"),
        ("defect,charge,energy_eV\nV_O,two,1\n", "7.8", "row 2"),
        ("defect,charge,energy_eV\nV_O,2,\n", "7.8", "no value of energy_eV"),
        ("defect,charge,energy_eV\nV_O,2,nan\n", "7.8", "finite"),
        ("defect,charge,energy_eV\n", "7.8", "no charge states"),
        ("defect,charge,run\nV_O,2,nowhere\n", "7.8", "row 2"),
    ],
)
def test_bad_tables(tmp_path, text, gap, message):
    from solidqmmm.cli.app import app

    (tmp_path / "states.csv").write_text(text)
    done = CliRunner().invoke(app, ["charge-states", str(tmp_path / "states.csv"), "--gap", gap])
    assert isinstance(done.exception, StudyError), done.output
    assert message in str(done.exception)


# --- band edges of the runs -------------------------------------------------------------------------------------


def with_edges(vbm, gap, charge=2):
    return replace(series(charge), vbm_eV=vbm, band_gap_eV=gap)


def test_band_edges_of_the_runs():
    """They are taken where none are given, and a given one stands; q times the valence-band maximum is added."""
    state = ChargeState.of(with_edges(-1.5, 5.0), "V_O", -4.9)
    result = charge_states([state])
    assert (result.vbm_eV, result.band_gap_eV) == (-1.5, 5.0)
    assert result.states[0]["formation_energy_eV"] == pytest.approx(2.2 - 4.9 - 2 * 1.5, abs=1e-6)
    assert charge_states([state], band_gap=7.8).band_gap_eV == 7.8
    assert charge_states([state], vbm=0.3).vbm_eV == 0.3
    other = replace(ChargeState.of(with_edges(-1.1, 5.0, 1), "V_O", -4.9), charge=1.0)
    assert any("differ by up to 0.40 eV" in text for text in charge_states([state, other]).warnings)
    assert not any("differ" in text for text in charge_states([state, other], vbm=-1.5).warnings)
    with pytest.raises(ValueError, match="tells the band gap"):
        charge_states([ChargeState.of(series(), "V_O")])


def test_a_table_that_names_runs_with_band_edges(tmp_path, monkeypatch):
    from solidqmmm.cli.app import app

    monkeypatch.chdir(tmp_path)
    with_edges(-1.5, 5.0).save(tmp_path / "plus2" / "result.json")
    (tmp_path / "states.csv").write_text("defect,charge,energy_eV,run,chemical_eV\nV_O,0,9.75,,-4.9\nV_O,2,,plus2,-4.9\n")
    done = CliRunner().invoke(app, ["charge-states", "states.csv", "--out", "diagram"])
    assert done.exit_code == 0, done.output
    written = json.loads((tmp_path / "diagram" / "result.json").read_text())
    assert (written["vbm_eV"], written["band_gap_eV"]) == (-1.5, 5.0)
    (tmp_path / "states.csv").write_text("defect,charge,energy_eV\nV_O,0,9.75\n")
    refused = CliRunner().invoke(app, ["charge-states", "states.csv"])
    assert "--gap" in str(refused.exception)
