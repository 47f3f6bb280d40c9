"""A charged defect's series of cells with what screens it: energies, dielectric tensor, and what to say of both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from solidqmmm.errors import SolidQMMMError, StudyError
from solidqmmm.procedures.charged_defects.cell_series import CellOutcome, cell_name, cell_series
from solidqmmm.procedures.charged_defects.host_dielectric import model_dielectric
from solidqmmm.procedures.charged_defects.lattice_stability import require_stable_lattice
from solidqmmm.procedures.charged_defects.mott_littleton import mott_littleton_route
from solidqmmm.procedures.charged_defects.potential_routes import potential_routes
from solidqmmm.procedures.charged_defects.size_routes import MOTT_LITTLETON
from solidqmmm.system.energy_table import CellEnergy
from solidqmmm.system.study_charged import MottLittletonRequest, read_dielectric

# A given dielectric tensor that differs by more from the host's own is worth a word.
_DIFFERENT = 0.05


@dataclass(frozen=True, eq=False)
class ChargedCells:
    """Energies of a charged defect in cells of several sizes.

    Attributes:
        cells: One for each cell.
        dielectric: What screens the charge, shape=(3, 3).
        routes: E_inf by the potentials of the largest cell, and by Mott and Littleton, see `size_routes`.
        warnings: What a reader should know.
        vbm, band_gap: Of the largest perfect cell in eV, where the engine tells them, else None.
    """

    cells: list[CellEnergy]
    dielectric: np.ndarray
    routes: dict[str, dict]
    warnings: list[str]
    vbm: float | None = None
    band_gap: float | None = None


def charged_cells(
    model, cells, charge: float, dielectric="auto", *, ions: str, fmax: float, workdir: Path | None = None, executor=None,
    progress=None, mott_littleton: MottLittletonRequest | bool | str = "auto",
) -> ChargedCells:  # fmt: skip
    """Energies of the model's defect in each cell, and the dielectric tensor that goes with them.

    Arguments are those of `cell_series`; `dielectric` is 'auto' or in any form of `read_dielectric`, `mott_littleton` what
    `mott_littleton_route` is asked.

    Raises:
        StudyError: Without cells, or without a dielectric tensor where none can be computed.
        PolarizationCatastrophe: If ions are to relax in a crystal whose dipoles make its lattice unstable.
    """
    if not cells:
        raise StudyError(
            "charged: give `cells`, a list of supercells such as [[2, 2, 2], [3, 3, 3], [4, 4, 4]], or `energies`, a table"
        )
    if ions == "relaxed":
        require_stable_lattice(model)
    warnings = [text for text in model.warnings() if ions == "relaxed" or "pressure" not in text]
    auto = isinstance(dielectric, str) and dielectric == "auto"
    try:
        own, what = model_dielectric(model, ions)
    except SolidQMMMError as error:
        if auto:
            raise
        own, what = None, ""
        warnings.append(f"the dielectric constant that was given was not compared with that of the model: {error}")
    if auto:
        if own is None:
            raise StudyError(f"charged.dielectric is auto: {what}")
        tensor = own
    else:
        tensor = read_dielectric(dielectric)
        if own is not None and np.abs(tensor - own).max() > _DIFFERENT * np.abs(own).max():
            warnings.append(
                f"the dielectric constant that was given, {_words(tensor)}, is not that of the model, {_words(own)} ({what})"
            )
    report = progress or (lambda *_: None)
    done = []

    def told(outcome):
        done.append(outcome)
        report(len(done), len(cells), f"{outcome.n_atoms} atoms: {outcome.defect - outcome.perfect:.4f} eV")

    report(0, len(cells), f"cell {cell_name(cells[0])}")
    outcomes = cell_series(model, cells, charge, ions=ions, fmax=fmax, workdir=workdir, executor=executor, report=told)
    found = [outcome.labelled(cell_name(cell)) for cell, outcome in zip(cells, outcomes, strict=True)]
    partly = [cell.label for cell, outcome in zip(found, outcomes) if outcome.partly_filled]
    if partly:
        warnings.append(
            f"levels are partly filled, or touch empty ones, in {', '.join(partly)}: the charge is then spread over the "
            "bands and not bound to the defect, and no correction holds; is it the right atom, and the right charge?"
        )
    largest = outcomes[int(np.argmax([cell.volume for cell in found]))]
    edges = (None, None) if np.isnan(largest.vbm) else (largest.vbm, largest.gap)
    routes = _routes(found, outcomes, charge, tensor)
    routes[MOTT_LITTLETON] = mott_littleton_route(
        model,
        charge,
        ions=ions,
        asked=mott_littleton,
        workdir=workdir,
        report=lambda text: report(len(done), len(cells), text),
    )
    return ChargedCells(found, tensor, routes, warnings, *edges)


def _routes(found: list[CellEnergy], outcomes: list[CellOutcome], charge: float, tensor) -> dict[str, dict]:
    """The routes by the potentials of the largest cell that has some.

    `by_cell` has E_inf by all cells that have some, `change_eV` what the largest changes: with a good correction, little.
    """
    of_cells = sorted(
        ((cell, outcome.potentials) for cell, outcome in zip(found, outcomes) if outcome.potentials is not None),
        key=lambda pair: pair[0].volume,
    )
    by_label = {cell.label: potential_routes(cell, given, charge, tensor) for cell, given in of_cells}
    if not by_label:
        return {}
    routes = by_label[of_cells[-1][0].label]
    if len(by_label) > 1:
        for name in routes:
            routes[name]["by_cell"] = {label: each[name]["E_inf_eV"] for label, each in by_label.items()}
            before, last = list(routes[name]["by_cell"].values())[-2:]
            routes[name]["change_eV"] = None if None in (before, last) else last - before
    return routes


def _words(tensor) -> str:
    diagonal = np.diag(tensor)
    return f"{diagonal[0]:.4g}" if np.ptp(diagonal) < 1e-3 * diagonal[0] else " ".join(f"{x:.4g}" for x in diagonal)
