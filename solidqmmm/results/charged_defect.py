"""A charged defect in cells of several sizes, extrapolated to the infinite crystal, with what else says the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from solidqmmm.results.base import Result
from solidqmmm.results.fields import set_array

_NOISE = 1e-5  # of the largest component: what a relaxed unit cell leaves of symmetry


@dataclass(frozen=True, eq=False, kw_only=True)
class ChargedDefectResult(Result):
    """E(L) = E_inf + A/L_eff + B/V + ... of a charged defect in periodic cells, and E_inf by other routes.

    Attributes:
        recipe: Name of the recipe.
        charge: q in e.
        dielectric: Relative permittivity that screens the charge, shape=(3, 3).
        points: One mapping for each cell: `label`, `n_atoms`, `effective_length_A` (edge of the cube with the same Madelung
            energy; null where it has none), `volume_A3`, `energy_eV`, `error_eV`, `madelung_correction_eV` (-E_pc, what is
            added to the energy), `fitted_eV`, `residual_eV`.
        fit: The model that was chosen: `model`, `E_inf_eV`, `E_inf_stderr_eV` (null where nothing can tell it),
            `stderr_from` (residuals, error_eV, or leaving out cells, whose range is taken where it is larger), `A_eV_A`,
            `A_stderr_eV_A` (null where A is fixed), `A_predicted_eV_A`, `B_eV_A3` (null where the model has
            no such term), `B_stderr_eV_A3`, `residual_rms_eV`, `left_out_rms_eV` (leave-one-out), `left_out_spread_eV` (of
            E_inf), `degrees_of_freedom`, `chosen_by`.
        models: Every model that was tried: `model`, `n_parameters`, `degrees_of_freedom`, `E_inf_eV`, `E_inf_stderr_eV`,
            `A_eV_A`, `B_eV_A3`, `residual_rms_eV`, `criterion_eV` (rms of the leave-one-out residuals), `unresolved` (powers
            of 1/L whose coefficients the data do not tell from zero), `chosen`.
        routes: E_inf by every route, by its name: `E_inf_eV`, `correction_eV` and the `cell` it was added to, `counted` (in
            the spread) and `reason` (why it does not exist, or does not count); FNV and eFNV also `by_cell`, E_inf by the
            potentials of each cell, where several have them, and `change_eV`, the last of these minus the one before;
            Mott-Littleton `inner_radii_A`, `inner_ions` and `energies_eV`
            of its growing region I, `outer_radius_A`, `extrapolated_eV` (by 1/R^3), `convergence_eV` (that minus E_inf) and
            `dielectric`.
        systematic_spread_eV: Largest minus smallest E_inf of the routes that count; null where there is one alone.
        curve_inverse_length_per_A: 1/L_eff at which the fit is tabulated, shape=(n,).
        curve_energy_eV: The fit there, for cells of the largest one's shape, shape=(n,).
        curve_stderr_eV: Its standard error, shape=(n,); None where the fit has none.
        band_factor: Standard errors in half of the 95 % band (Student's t); None likewise.
        vbm_eV: Valence-band maximum of the perfect crystal in the reference of the energies (q times it belongs to the
            formation energy), among the k-points of the largest cell; None where nobody told it.
        band_gap_eV: From there to the lowest empty level; None likewise.
        host, engine, coupling: Descriptions, where the package computed the energies.
        warnings: What a reader should know.
    """

    UNITS: ClassVar = {"charge": "e", "curve_inverse_length_per_A": "1/angstrom"}

    recipe: str = "charged_defect"
    charge: float
    dielectric: np.ndarray
    points: list[dict] = field(default_factory=list)
    fit: dict = field(default_factory=dict)
    models: list[dict] = field(default_factory=list)
    routes: dict[str, dict] = field(default_factory=dict)
    systematic_spread_eV: float | None = None
    curve_inverse_length_per_A: np.ndarray = ()
    curve_energy_eV: np.ndarray = ()
    curve_stderr_eV: np.ndarray | None = None
    band_factor: float | None = None
    vbm_eV: float | None = None
    band_gap_eV: float | None = None
    host: str = ""
    engine: str = ""
    coupling: str = ""
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self):
        set_array(self, "dielectric", shape=(3, 3))
        for name in ("curve_inverse_length_per_A", "curve_energy_eV", "curve_stderr_eV"):
            set_array(self, name, shape=(-1,))

    @property
    def E_inf_eV(self) -> float:
        """Energy in the infinite crystal in eV, by the chosen model."""
        return self.fit["E_inf_eV"]

    def tables(self) -> dict[str, list[tuple[str, ...]]]:
        """Points, models and routes as tables: rows of texts by heading, each beginning with the names of its columns."""
        points = [("cell", "atoms", "L (A)", "E (eV)", "Madelung correction (eV)", "residual (meV)")]
        points += [
            (
                str(p["label"]),
                str(p["n_atoms"]),
                "none" if p["effective_length_A"] is None else f"{p['effective_length_A']:.3f}",
                f"{p['energy_eV']:.4f}",
                f"{p['madelung_correction_eV']:+.4f}",
                _milli(p["residual_eV"]),
            )
            for p in self.points
        ]
        models = [("model", "d.o.f.", "E_inf (eV)", "A (eV A)", "B (eV A^3)", "left out (meV)", "")]
        models += [
            (
                m["model"],
                str(m.get("degrees_of_freedom", "")),
                _with_error(m["E_inf_eV"], m["E_inf_stderr_eV"]),
                f"{m['A_eV_A']:.3f}",
                "" if m["B_eV_A3"] is None else f"{m['B_eV_A3']:.2f}",
                "" if m["criterion_eV"] is None else _milli(m["criterion_eV"]),
                "chosen" if m["chosen"] else _unresolved(m["unresolved"]),
            )
            for m in self.models
        ]
        routes = [("route", "E_inf (eV)", "correction (eV)", "")]
        routes += [
            (
                name,
                "none" if r["E_inf_eV"] is None else f"{r['E_inf_eV']:.4f}",
                "" if r.get("correction_eV") is None else f"{r['correction_eV']:+.4f} on {r['cell']}",
                ("" if r["counted"] or r["E_inf_eV"] is None else "not counted: ") + (r["reason"] or ""),
            )
            for name, r in self.routes.items()
        ]
        return {"Cells": points, "Models": models, "Routes": routes}

    def conclusion(self) -> list[tuple[str, str]]:
        """The answer as rows of label and value."""
        fit, spread = self.fit, self.systematic_spread_eV
        rows = [
            ("charge", f"{self.charge:+g} e"),
            ("dielectric", _tensor_in_words(self.dielectric)),
            ("model", f"{fit['model']} (chosen by {fit['chosen_by']})"),
            ("E_inf", _with_error(fit["E_inf_eV"], fit["E_inf_stderr_eV"], missing=", no error bar") + " eV"),
            ("error bar", _error_in_words(fit)),
            ("A", _coefficient(fit, "A", "eV A", f"predicted {fit['A_predicted_eV_A']:.3f}")),
            ("B", _coefficient(fit, "B", "eV A^3")),
            ("systematic spread", "none: one route alone" if spread is None else f"{_short(spread)} eV between the routes"),
        ]
        return rows + [("warning", text) for text in self.warnings]

    def summary(self) -> list[tuple[str, str]]:
        """Rows of label and value for a table."""
        rows = [("host", self.host), ("engine", self.engine), ("coupling", self.coupling)]
        head = [(label, value) for label, value in rows if value]
        columns = self.tables()["Cells"]
        head += [
            (f"cell {row[0]}", ", ".join(f"{name} {value}" for name, value in zip(columns[0][1:], row[1:])))
            for row in columns[1:]
        ]
        routes = [(name, _route_in_words(r)) for name, r in self.routes.items()]
        found = self.conclusion()
        return head + found[:7] + routes + found[7:]

    @property
    def METHOD_REFERENCES(self) -> tuple[str, ...]:
        """Citation keys of the methods whose numbers are in the result."""
        keys = ["leslie1985energy", "makov1995periodic", "allen1974relationship"]
        if not _is_isotropic(self.dielectric):
            keys.append("rurali2009theory")
        sources = {
            "Lany-Zunger": "lany2008assessment",
            "FNV": "freysoldt2009fully",
            "eFNV": "kumagai2014electrostatics",
            "Mott-Littleton": "mott1938conduction",
        }
        have = {name for name, r in self.routes.items() if r["E_inf_eV"] is not None}
        return (*keys, *(key for name, key in sources.items() if name in have))


def _milli(value: float) -> str:
    return f"{1e3 * value:.2f}" if abs(value) >= 5e-6 else f"{1e3 * value:.0e}" if value else "0"


def _unresolved(powers) -> str:
    words = " and ".join("1/L" if power == 1 else f"1/L^{power}" for power in powers)
    return f"{words} not resolved" if powers else ""


def _with_error(value: float, stderr: float | None, missing: str = "") -> str:
    return f"{value:.4f}" + (missing if stderr is None else f" +- {_short(stderr)}")


def _error_in_words(fit: dict) -> str:
    """Where the error bar comes from, and on how many degrees of freedom it rests."""
    n = fit["degrees_of_freedom"]
    freedom = f"{n} degree{'' if n == 1 else 's'} of freedom"
    return freedom if fit.get("stderr_from") is None else f"from {fit['stderr_from']}, {freedom}"


def _short(value: float) -> str:
    return f"{value:.4f}" if value >= 5e-4 else f"{value:.1e}" if value > 0 else "0"


def _tensor_in_words(tensor) -> str:
    diagonal = np.diag(tensor)
    if _is_isotropic(tensor):
        return f"{diagonal.mean():g}"
    if np.abs(tensor - np.diag(diagonal)).max() > _NOISE * np.abs(tensor).max():
        return "; ".join(" ".join(f"{x:g}" for x in row) for row in tensor)
    return " ".join(f"{x:g}" for x in diagonal) + " (diagonal)"


def _is_isotropic(tensor) -> bool:
    return bool(np.abs(tensor - np.diag(tensor).mean() * np.eye(3)).max() <= _NOISE * np.abs(tensor).max())


def _coefficient(fit, letter: str, unit: str, more="") -> str:
    key = {"A": "eV_A", "B": "eV_A3"}[letter]
    value, stderr = fit[f"{letter}_{key}"], fit[f"{letter}_stderr_{key}"]
    if value is None:
        return "not in the model"
    known = letter in fit["model"].partition(",")[2]  # '1/L + 1/L^3, A fixed'
    error = " (fixed)" if known else ", no error bar" if stderr is None else f" +- {stderr:.2g}"
    return ", ".join(word for word in (f"{value:.3f} {unit}{error}", more) if word)


def _route_in_words(route) -> str:
    if route.get("E_inf_eV") is None:
        return f"none ({route['reason']})"
    text = f"{route['E_inf_eV']:.4f} eV"
    if route.get("correction_eV") is not None:
        text += f" ({route['correction_eV']:+.4f} on {route['cell']})"
    if route.get("change_eV") is not None:
        text += f" ({route['change_eV']:+.4f} since the cell before)"
    if route.get("convergence_eV") is not None:
        text += f" (region I of {route['inner_radii_A'][-1]:.1f} A, {route['convergence_eV']:+.4f} by 1/R^3)"
    return text + ("" if route["counted"] else f"; not counted: {route['reason']}")
