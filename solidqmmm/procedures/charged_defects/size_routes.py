"""E_inf by routes that share little with the fit: corrections of a single cell, and where they do not exist, why.

A correction is added to the energy of the largest cell. Those that can be had for every cell are put to the series: the
corrected energies have no term in 1/L if the correction is right. Fitted by the chosen model without that term, they must
foretell each other as well as the chosen model does; where they do so by far worse, the series contradicts the route, and it
does not count in the spread.
"""

from __future__ import annotations

import numpy as np

from solidqmmm.physics.charged_defects.size_corrections import lany_zunger_correction
from solidqmmm.physics.finite_size import SizeFit, SizeModel, SizeSeries, fit
from solidqmmm.physics.madelung import point_charge_energy

# Left-out cells foretold worse by this factor contradict a route, if they are off by more than what nobody asks for (eV).
_WORSE, _NEGLIGIBLE = 3.0, 1e-4

EXTRAPOLATION = "extrapolation"
POINT_CHARGE = "Makov-Payne, 1/L"
MAKOV_PAYNE = "Makov-Payne, 1/L and 1/L^3"
LANY_ZUNGER = "Lany-Zunger"
FNV = "FNV"
EFNV = "eFNV"
MOTT_LITTLETON = "Mott-Littleton"
_NOT_WITHOUT_POTENTIALS = "needs the electrostatic potential of the cells, with the defect and without"
_NOT_WITHOUT_MODEL = "needs a host of ions that respond around the defect, energies alone have none"


def route(E_inf, correction=None, cell=None, *, counted=True, reason=None) -> dict:
    """One entry of a result's `routes`; energies in eV, `cell` the label of the cell that was corrected."""
    return {
        "E_inf_eV": None if E_inf is None else float(E_inf),
        "correction_eV": None if correction is None else float(correction),
        "cell": cell,
        "counted": bool(counted and E_inf is not None),
        "reason": reason,
    }


def routes_of(
    cells, series: SizeSeries, chosen: SizeFit, charge, tensor, A: float, B: float | None, more: dict[str, dict]
) -> dict[str, dict]:
    """All routes by name.

    Args:
        cells: `CellEnergy` in ascending volume.
        series: Their energies.
        chosen: The fit that is the answer.
        charge: q in e.
        tensor: Relative permittivity, shape=(3, 3).
        A: Predicted leading coefficient in eV angstrom.
        B: Predicted coefficient of 1/V in eV angstrom^3, where the second moment is known.
        more: Further routes by name.
    """
    point = np.array([-point_charge_energy(charge, c.cell, tensor) for c in cells])
    lany = np.array([lany_zunger_correction(charge, c.cell, tensor) for c in cells])
    found = {EXTRAPOLATION: route(chosen.E_inf)}
    found[POINT_CHARGE] = _on_largest(cells, series, point, chosen)
    found[MAKOV_PAYNE] = _third_order(cells, series, chosen, point, A, B)
    found[LANY_ZUNGER] = _on_largest(cells, series, lany, chosen)
    found[FNV] = route(None, reason=_NOT_WITHOUT_POTENTIALS)
    found[EFNV] = route(None, reason=_NOT_WITHOUT_POTENTIALS)
    found[MOTT_LITTLETON] = route(None, reason=_NOT_WITHOUT_MODEL)
    return found | more


def spread_of(routes: dict[str, dict]) -> float | None:
    """Largest minus smallest E_inf of the routes that count in eV; None where there is one alone."""
    counted = [r["E_inf_eV"] for r in routes.values() if r["counted"]]
    return float(np.ptp(counted)) if len(counted) > 1 else None


def _on_largest(cells, series: SizeSeries, corrections, chosen: SizeFit) -> dict:
    worse = _worse_foretold(series, corrections, chosen)
    reason = None
    if worse is not None and worse > _WORSE:
        reason = f"the series contradicts it: corrected, cells foretell each other {worse:.2g} times worse than by the fit"
    E = cells[-1].energy + corrections[-1]
    return route(E, corrections[-1], cells[-1].label, counted=reason is None, reason=reason)


def _worse_foretold(series: SizeSeries, corrections, chosen: SizeFit) -> float | None:
    """Leave-one-out residuals of the corrected energies over those of the chosen fit; None where nothing is left to tell."""
    if chosen.left_out is None:
        return None
    corrected = SizeSeries(series.inverse_lengths, series.volumes, series.energies + corrections, series.errors)
    try:
        found = fit(corrected, SizeModel(tuple(power for power in chosen.model.terms if power != 1)))
    except ValueError:  # cells too alike
        return None
    if found.left_out is None or found.left_out_rms < _NEGLIGIBLE:
        return None
    return found.left_out_rms / max(chosen.left_out_rms, 1e-6)


def _third_order(cells, series: SizeSeries, chosen: SizeFit, point, A: float, B: float | None) -> dict:
    """The point charge's correction and that of its second moment, known or fitted with A fixed."""
    if B is None:
        if chosen.model.terms == (1, 3) and chosen.model.A is not None:
            return route(None, reason="with a fitted second moment it is the extrapolation itself; give the second moment")
        model = SizeModel((1, 3), A=A)
        if len(series) < model.n_parameters:
            return route(None, reason="needs the second moment of the defect's charge, or two cells to fit it")
        try:
            B = fit(series, model).coefficients[3]
        except ValueError as error:
            return route(None, reason=str(error))
    return _on_largest(cells, series, point - B / series.volumes, chosen)
