"""Energies of a charged defect in cells of several sizes: judged, fitted, and extrapolated to the infinite crystal."""

from __future__ import annotations

import numpy as np
from scipy.stats import t as student

from solidqmmm.physics.charged_defects.size_corrections import (
    inverse_effective_length,
    leading_coefficient,
    mean_dielectric,
    second_moment_coefficient,
)
from solidqmmm.physics.finite_size import SizeFit, SizeSeries, candidates, choose, fit
from solidqmmm.physics.madelung import point_charge_energy
from solidqmmm.procedures.charged_defects.potential_routes import potential_routes
from solidqmmm.procedures.charged_defects.size_routes import routes_of, spread_of
from solidqmmm.results.charged_defect import ChargedDefectResult
from solidqmmm.system.energy_table import CellEnergy, EnergyTable
from solidqmmm.system.site_potentials import read_site_potentials
from solidqmmm.system.study_charged import FitRequest, read_dielectric

# Total energies change by more than this with every atom (eV), energies of a defect by less.
_PER_ATOM = 0.05
# Cells whose lengths differ by less (relative) are of one size.
_SAME_SIZE = 1e-6
# A that is fitted and differs by more than this share from its prediction is worth a word.
_OFF_PREDICTION = 0.05
_CURVE_POINTS = 121


def extrapolate(
    cells,
    charge: float,
    dielectric,
    *,
    fit_as="auto",
    second_moment: float | None = None,
    bulk_subtracted: bool = False,
    more_routes: dict[str, dict] | None = None,
    warnings=(),
    **fields,
) -> ChargedDefectResult:
    """E_inf of a charged defect from its energies in periodic cells, with its error bar and by other routes.

    Args:
        cells: A `CellEnergy` for each cell.
        charge: q in e.
        dielectric: Relative permittivity, in any form of `read_dielectric`.
        fit_as: 'auto' (the data choose the terms), or a mapping such as {A: fixed, terms: [1, 3]}.
        second_moment: Second radial moment Q of the defect's charge in e angstrom^2, where it is known.
        bulk_subtracted: Whether the energies are already differences.
        more_routes: Further routes, as `routes_of` has them.
        warnings: What a reader should know of the energies.
        **fields: Further fields of the result.

    Raises:
        ValueError: For a series that cannot be extrapolated; the message says what is missing.
    """
    tensor, request = read_dielectric(dielectric), FitRequest.read(fit_as)
    cells = sorted(cells, key=lambda c: c.volume)
    require_one_defect(cells, charge)
    inverse = np.array([inverse_effective_length(c.cell, tensor) for c in cells])
    A = leading_coefficient(charge, tensor)
    require_sizes(cells, inverse, request)
    require_differences(cells, inverse, A, bulk_subtracted)
    B = None if second_moment is None else second_moment_coefficient(charge, second_moment, tensor)
    series = _series(cells, inverse)
    fits = candidates(series, A, B)
    if request.terms is None:
        chosen = choose(fits, A)
    else:
        chosen = fit(series, request.model(A))
        fits = [f for f in fits if f.model.name != chosen.model.name] + [chosen]
    scale = _scatter_beyond_error_bars(chosen)
    curve = _curve(chosen, inverse[-1], cells[-1].volume, inverse.max(), scale)
    routes = routes_of(cells, series, chosen, charge, tensor, A, B, more_routes or {})
    notes = [*warnings, *_remarks(chosen, fits, tensor, A, scale, request.terms is None)]
    return ChargedDefectResult(
        charge=float(charge),
        dielectric=tensor,
        points=_points(cells, inverse, chosen, charge, tensor),
        fit=_fit_in_numbers(chosen, A, request.terms is None),
        models=[_model_in_numbers(f, f is chosen) for f in fits],
        routes=routes,
        systematic_spread_eV=spread_of(routes),
        warnings=notes,
        **curve,
        **fields,
    )


def extrapolate_table(table: EnergyTable, charge: float, dielectric, **options) -> ChargedDefectResult:
    """E_inf from a table of energies; options and errors are those of `extrapolate`.

    Where the table names site potentials, the largest cell that has some is corrected by them too (eFNV, and FNV where
    the file has planar averages).
    """
    with_potentials = [c for c in table.cells if c.potentials is not None]
    more = {}
    if with_potentials:
        cell = max(with_potentials, key=lambda c: c.volume)
        given = read_site_potentials(cell.potentials)
        more = potential_routes(cell, given, charge, read_dielectric(dielectric))
    return extrapolate(
        table.cells,
        charge,
        dielectric,
        bulk_subtracted=table.bulk_subtracted,
        more_routes=more,
        warnings=table.warnings,
        **options,
    )


# --- what cannot be extrapolated ------------------------------------------------------------------------------


def require_one_defect(cells, charge: float):
    """Nothing, if all cells hold one defect of this charge (e), and it has one.

    Raises:
        ValueError: For a charge of zero, or cells of different charges.
    """
    if charge == 0:
        raise ValueError(
            "`charge` is 0: a neutral defect does not interact with its images by 1/L, so nothing needs correcting; take "
            "the energy of the largest cell"
        )
    if not np.isfinite(charge):
        raise ValueError(f"`charge` must be a finite number (e), got {charge}")
    stated = {c.label: c.charge for c in cells if c.charge is not None}
    if len(set(stated.values())) > 1:
        listed = ", ".join(f"{label} {value:+g}" for label, value in stated.items())
        raise ValueError(f"the cells are of different charges ({listed}): make a table of its own for each charge state")
    wrong = [value for value in stated.values() if abs(value - charge) > 1e-6]
    if wrong:
        raise ValueError(f"the table says charge {wrong[0]:+g}, asked for is {charge:+g}: they must be the same")


def require_sizes(cells, inverse, request: FitRequest):
    """Nothing, if there are enough cells of different size for what is asked.

    Raises:
        ValueError: If there are too few, or two of the same size.
    """
    for i, first in enumerate(cells):
        for j in range(i + 1, len(cells)):
            same = abs(cells[j].volume / first.volume - 1) < 3 * _SAME_SIZE
            if same and abs(inverse[i] - inverse[j]) <= _SAME_SIZE * abs(inverse).max():
                raise ValueError(
                    f"{first.label} and {cells[j].label} have the same size (V = {first.volume:.3f} A^3): an extrapolation "
                    "needs cells of different sizes; keep one of them, or their mean"
                )
    needed = 3 if request.terms is None else request.model(0.0).n_parameters
    if len(cells) < needed:
        model = "the choice of a model" if request.terms is None else f"the model '{request.model(0.0).name}'"
        hint = (
            "; with A fixed to its prediction two give a number without a check: fit {A: fixed, terms: [1]}"
            if request.terms is None and len(cells) == 2
            else ""
        )
        raise ValueError(
            f"{model} needs at least {needed} cells of different size, got {len(cells)}: add "
            f"{needed - len(cells)} (and one more for a good error bar){hint}"
        )


def require_differences(cells, inverse, A: float, bulk_subtracted: bool):
    """Nothing, unless the energies grow with the number of atoms, as total energies do.

    Raises:
        ValueError: If they do.
    """
    n = np.array([c.n_atoms for c in cells], dtype=float)
    E = np.array([c.energy for c in cells])
    if len(cells) < 2 or np.ptp(n) == 0:
        return
    slope = np.polyfit(n, E, 1)[0]
    by_atoms, by_length = (_left_by_a_line(x, E) for x in (n, inverse))
    beyond = np.ptp(E) > 3 * abs(A) * np.ptp(inverse)  # what no charge does
    if abs(slope) > _PER_ATOM and beyond and (len(cells) == 2 or by_atoms < by_length):
        if bulk_subtracted:
            cure = "`bulk_energy_eV` must be that of the perfect crystal in the *same* cell, not per atom or of a unit cell"
        else:
            cure = (
                "they are total energies, and what is missing is `bulk_energy_eV`: a column with the energy of the perfect "
                "crystal in the same cell (or give formation energies)"
            )
        raise ValueError(f"the energies change by {slope:.3f} eV with every atom of the cell, as total energies do: {cure}")


def _left_by_a_line(x, E) -> float:
    return float(np.linalg.norm(E - np.polyval(np.polyfit(x, E, 1), x)))


# --- the fit in numbers ---------------------------------------------------------------------------------------


def _series(cells: list[CellEnergy], inverse) -> SizeSeries:
    errors = [c.error for c in cells]
    known = [e is not None for e in errors]
    if any(known) and not all(known):
        lost = ", ".join(c.label for c in cells if c.error is None)
        raise ValueError(f"`error_eV` is missing for {lost}: give the errors of all cells, or of none")
    return SizeSeries(inverse, [c.volume for c in cells], [c.energy for c in cells], errors if all(known) else None)


def _scatter_beyond_error_bars(chosen: SizeFit) -> float:
    """By what standard errors grow where the points scatter more than their error bars say; 1 without these."""
    if chosen.chi_squared is None or not chosen.degrees_of_freedom:
        return 1.0
    return max(1.0, float(np.sqrt(chosen.chi_squared / chosen.degrees_of_freedom)))


def _enlarged(found: SizeFit) -> tuple[float, str | None]:
    """By what the standard errors of a fit grow, and what they then come from.

    With few degrees of freedom residuals may be small by chance, though the terms that are left out matter: then E_inf moves
    when a single cell is left out, by more than the standard error says.
    """
    if found.E_inf_stderr is None:
        return 1.0, None
    if found.chi_squared is not None:
        return _scatter_beyond_error_bars(found), "error_eV"
    if found.left_out_spread is None or found.left_out_spread <= found.E_inf_stderr:
        return 1.0, "residuals"
    return found.left_out_spread / max(found.E_inf_stderr, 1e-300), "leaving out cells"


def _times(value, factor):
    return None if value is None else float(value) * factor


def _fit_in_numbers(chosen: SizeFit, A: float, free_choice: bool) -> dict:
    scale, source = _enlarged(chosen)
    return {
        "model": chosen.model.name,
        "E_inf_eV": chosen.E_inf,
        "E_inf_stderr_eV": _times(chosen.E_inf_stderr, scale),
        "stderr_from": source,
        "A_eV_A": chosen.coefficients.get(1),
        "A_stderr_eV_A": _times(chosen.stderr.get(1), scale),
        "A_predicted_eV_A": A,
        "B_eV_A3": chosen.coefficients.get(3),
        "B_stderr_eV_A3": _times(chosen.stderr.get(3), scale),
        "residual_rms_eV": chosen.rms,
        "left_out_rms_eV": chosen.left_out_rms,
        "left_out_spread_eV": chosen.left_out_spread,
        "degrees_of_freedom": chosen.degrees_of_freedom,
        "chosen_by": "leave-one-out" if free_choice else "request",
    }


def _model_in_numbers(found: SizeFit, chosen: bool) -> dict:
    return {
        "model": found.model.name,
        "n_parameters": found.model.n_parameters,
        "E_inf_eV": found.E_inf,
        "E_inf_stderr_eV": _times(found.E_inf_stderr, _enlarged(found)[0]),
        "degrees_of_freedom": found.degrees_of_freedom,
        "A_eV_A": found.coefficients.get(1),
        "B_eV_A3": found.coefficients.get(3),
        "residual_rms_eV": found.rms,
        "criterion_eV": found.left_out_rms,
        "unresolved": found.unresolved(),
        "chosen": chosen,
    }


def _points(cells, inverse, chosen: SizeFit, charge, tensor) -> list[dict]:
    fitted = chosen.energy(inverse, [c.volume for c in cells])
    return [
        {
            "label": c.label,
            "n_atoms": c.n_atoms,
            "effective_length_A": float(1 / x) if abs(x) > 1e-12 else None,
            "volume_A3": c.volume,
            "energy_eV": float(c.energy),
            "error_eV": c.error,
            "madelung_correction_eV": -point_charge_energy(charge, c.cell, tensor),
            "fitted_eV": float(value),
            "residual_eV": float(c.energy - value),
        }
        for c, x, value in zip(cells, inverse, fitted, strict=True)
    ]


def _curve(chosen: SizeFit, inverse: float, volume: float, furthest: float, scale: float) -> dict:
    """The fit between the infinite crystal and the smallest cell, for cells of the largest one's shape."""
    shape = volume * inverse**3 if inverse > 0 else 1.0
    x = np.linspace(0.0, 1.04 * furthest, _CURVE_POINTS)
    with np.errstate(divide="ignore"):
        V = shape / x**3
    stderr = chosen.energy_stderr(x, V)
    factor = None
    if stderr is not None:
        factor = 1.96 if chosen.chi_squared is not None else float(student.ppf(0.975, chosen.degrees_of_freedom))
    return {
        "curve_inverse_length_per_A": x,
        "curve_energy_eV": chosen.energy(x, V),
        "curve_stderr_eV": None if stderr is None else scale * stderr,
        "band_factor": factor,
    }


def _remarks(chosen: SizeFit, fits, tensor, A: float, scale: float, free_choice: bool) -> list[str]:
    """What a reader of the fit should know."""
    found = []
    n = len(chosen.residuals)
    if n < 3:
        found.append(f"{n} cells do not tell whether they are large enough for '{chosen.model.name}': at least 3 are needed")
    if chosen.E_inf_stderr is None:
        found.append(f"as many parameters as cells ({n}): E_inf has no error bar; one more cell gives one")
    elif chosen.degrees_of_freedom == 1 and chosen.chi_squared is None:
        found.append("one degree of freedom: the standard error is itself known to a factor of a few only")
    if unresolved := chosen.unresolved():
        words = " and ".join("1/L" if power == 1 else f"1/L^{power}" for power in unresolved)
        found.append(f"the data do not tell the coefficient of {words} from zero")
    fitted = chosen.coefficients.get(1)
    if fitted is not None and 1 in chosen.stderr:
        off = abs(fitted / A - 1)
        if off > _OFF_PREDICTION and abs(fitted - A) > 2 * scale * chosen.stderr[1]:
            eps = mean_dielectric(tensor)
            meaning = f"as screened by {eps * A / fitted:.3g}, not {eps:.3g}" if fitted / A > 0 else "of the wrong sign"
            found.append(f"the fitted A is {fitted / A:.3g} of its prediction, {meaning}: look at charge and dielectric")
    if scale > 2:
        found.append(f"the points scatter {scale:.1f} times more than their error bars; standard errors grow by that")
    if free_choice and chosen.left_out_rms is not None:
        near = [
            f.E_inf
            for f in fits
            if f.left_out is not None and not f.unresolved() and f.left_out_rms <= 2 * max(chosen.left_out_rms, 1e-6)
        ]
        if len(near) > 1 and np.ptp(near) > 2 * max(chosen.E_inf_stderr or 0.0, 1e-4):
            found.append(f"models that foretell nearly as well put E_inf between {min(near):.4f} and {max(near):.4f} eV")
        better = [
            f
            for f in fits
            if f.left_out is not None and 1 in f.stderr and 1 not in chosen.stderr and not f.unresolved()
            and max(f.left_out_rms, 1e-6) < 0.5 * chosen.left_out_rms
        ]  # fmt: skip
        if better:
            best = min(better, key=lambda f: f.left_out_rms)
            found.append(
                f"'{best.model.name}' foretells better, with E_inf {best.E_inf:.4f} eV, but its A is "
                f"{best.coefficients[1] / A:.3g} of the prediction: higher terms in small cells do that, and so does a "
                "wrong dielectric constant; a larger cell would tell"
            )
    if np.linalg.eigvalsh(tensor)[0] < 1:
        found.append("the dielectric tensor is below that of vacuum, 1")
    return found


