"""Charge states of defects against the Fermi level: formation energies and transition levels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from solidqmmm.results.base import Result


@dataclass(frozen=True, eq=False, kw_only=True)
class ChargeStatesResult(Result):
    """Formation energies E_f(q, E_F) = E_f(q, 0) + q E_F of defects in their charge states.

    Attributes:
        recipe: What made it.
        states: One mapping for each defect and charge: `defect`, `charge`, `energy_eV` (E[X^q] - E[bulk], infinite crystal),
            `chemical_eV` (- sum_i n_i mu_i), `formation_energy_eV` (at the valence-band maximum), `stderr_eV` (null where
            nobody knows), `stable` (at some Fermi level in the gap).
        transitions: One for each pair of charges of a defect: `defect`, `from`, `to`, `level_eV` (Fermi level from the
            valence-band maximum), `stderr_eV`, `thermodynamic` (both are stable, and neighbours), `in_gap`.
        vbm_eV: Valence-band maximum in the energies' own reference, in eV.
        band_gap_eV: In eV.
        warnings: What a reader should know.
    """

    METHOD_REFERENCES: ClassVar = ("zhang1991chemical", "freysoldt2014first")

    recipe: str = "charge_states"
    states: list[dict] = field(default_factory=list)
    transitions: list[dict] = field(default_factory=list)
    vbm_eV: float = 0.0
    band_gap_eV: float
    warnings: list[str] = field(default_factory=list)

    @property
    def defects(self) -> list[str]:
        """Names of the defects in the order of the states."""
        return list(dict.fromkeys(state["defect"] for state in self.states))

    def summary(self) -> list[tuple[str, str]]:
        """Rows of label and value for a table."""
        rows = [("band gap", f"{self.band_gap_eV:.3f} eV"), ("valence-band maximum", f"{self.vbm_eV:.3f} eV")]
        for state in self.states:
            text = f"{state['formation_energy_eV']:.3f}{_error(state)} eV at the valence-band maximum"
            text += "" if state["stable"] else ", nowhere stable"
            rows.append((f"{state['defect']} {signed(state['charge'])}", text))
        for level in self.transitions:
            if level["thermodynamic"]:
                where = "" if level["in_gap"] else ", outside the gap"
                name = f"{level['defect']} ({signed(level['from'])}/{signed(level['to'])})"
                rows.append((name, f"{level['level_eV']:.3f}{_error(level)} eV{where}"))
        return rows + [("warning", text) for text in self.warnings]


def signed(charge: float) -> str:
    """'2+', '0', '1-'."""
    return "0" if charge == 0 else f"{abs(charge):g}{'+' if charge > 0 else '-'}"


def _error(entry) -> str:
    return "" if entry["stderr_eV"] is None else f" +- {entry['stderr_eV']:.3f}"
