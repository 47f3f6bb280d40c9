"""From energies of charge states to formation energies and transition levels; in from and out to pymatgen's DefectEntry."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np

from solidqmmm.errors import StudyError
from solidqmmm.physics.charged_defects.charge_transitions import stable_states, transition_level
from solidqmmm.results.base import Result
from solidqmmm.results.charge_states import ChargeStatesResult
from solidqmmm.results.charged_defect import ChargedDefectResult

CORRECTION = "finite_size"
_SAME_EDGE = 0.02  # eV
_COLUMNS = ("defect", "charge", "energy_eV", "run", "error_eV", "chemical_eV")


@dataclass(frozen=True)
class ChargeState:
    """A defect in one charge state, in the infinite crystal.

    Attributes:
        defect: Its name.
        charge: q in e.
        energy: E[X^q] - E[bulk] in eV.
        stderr: Its standard error in eV, or None.
        chemical: - sum_i n_i mu_i in eV, n_i the atoms of species i that were added.
        band_edges: Valence-band maximum in the reference of the energies and gap in eV, where its run tells them.
    """

    defect: str
    charge: float
    energy: float
    stderr: float | None = None
    chemical: float = 0.0
    band_edges: tuple[float, float] | None = None

    @classmethod
    def of(cls, result: ChargedDefectResult, defect: str, chemical: float = 0.0) -> ChargeState:
        """That of an extrapolated series; standard error and half the systematic spread are added in quadrature."""
        parts = [result.fit["E_inf_stderr_eV"], result.systematic_spread_eV and result.systematic_spread_eV / 2]
        known = [part for part in parts if part is not None]
        edges = None if result.vbm_eV is None else (result.vbm_eV, result.band_gap_eV)
        stderr = float(np.hypot.reduce(known)) if known else None
        return cls(defect, result.charge, result.E_inf_eV, stderr, chemical, edges)


def charge_states(states, *, band_gap: float | None = None, vbm: float | None = None) -> ChargeStatesResult:
    """Formation energies and transition levels of defects.

    Args:
        states: A `ChargeState` for each defect and charge, neutral ones too.
        band_gap: In eV; None takes what the states' runs tell.
        vbm: Valence-band maximum in the reference of the energies, eV; None takes what the states' runs tell, or 0.

    Raises:
        ValueError: For a gap that is not positive or that nobody tells, no states, or a defect twice in one charge.
    """
    states = list(states)
    warnings, told = [], [s.band_edges for s in states if s.band_edges is not None]
    if told:
        spread = np.ptp(told, axis=0)
        if (vbm is None and spread[0] > _SAME_EDGE) or (band_gap is None and spread[1] > _SAME_EDGE):
            warnings.append(
                f"the runs' band edges differ by up to {spread.max():.2f} eV: the first are taken; "
                "were all computed with the same settings?"
            )
        vbm, band_gap = told[0][0] if vbm is None else vbm, told[0][1] if band_gap is None else band_gap
    vbm = 0.0 if vbm is None else vbm
    if band_gap is None:
        raise ValueError("no run of these states tells the band gap: give `band_gap` (--gap), and `vbm` (--vbm) with it")
    if not (np.isfinite(band_gap) and band_gap > 0):
        raise ValueError(f"`band_gap` must be positive (eV), got {band_gap}")
    if not np.isfinite(vbm):
        raise ValueError(f"`vbm` must be a finite number (eV), got {vbm}")
    if not states:
        raise ValueError("there are no charge states")
    seen = [(s.defect, s.charge) for s in states]
    doubled = next((key for key in seen if seen.count(key) > 1), None)
    if doubled:
        raise ValueError(f"{doubled[0]} with charge {doubled[1]:+g} is there twice: keep one of them")
    rows, levels = [], []
    for name in dict.fromkeys(s.defect for s in states):
        own = [s for s in states if s.defect == name]
        at_vbm = [s.energy + s.chemical + s.charge * vbm for s in own]
        stable = stable_states([s.charge for s in own], at_vbm)
        in_gap = {i for i, begin, end in stable if end > 0 and begin < band_gap}
        follows = {(i, j) for (i, *_), (j, *_) in pairwise(stable)}
        for i, s in enumerate(own):
            rows.append(
                {"defect": name, "charge": s.charge, "energy_eV": s.energy, "chemical_eV": s.chemical,
                 "formation_energy_eV": float(at_vbm[i]), "stderr_eV": s.stderr, "stable": i in in_gap}
            )  # fmt: skip
        for i, j in combinations(sorted(range(len(own)), key=lambda i: -own[i].charge), 2):
            level = transition_level(own[i].charge, at_vbm[i], own[j].charge, at_vbm[j])
            errors = (own[i].stderr, own[j].stderr)
            stderr = None if None in errors else float(np.hypot(*errors) / abs(own[i].charge - own[j].charge))
            levels.append(
                {"defect": name, "from": own[i].charge, "to": own[j].charge, "level_eV": level, "stderr_eV": stderr,
                 "thermodynamic": (i, j) in follows, "in_gap": bool(0 <= level <= band_gap)}
            )  # fmt: skip
        if len(own) == 1:
            warnings.append(f"{name} has one charge state alone: there is no transition level")
    return ChargeStatesResult(
        states=rows, transitions=levels, vbm_eV=float(vbm), band_gap_eV=float(band_gap), warnings=warnings
    )


def read_states(path) -> list[ChargeState]:
    """Reads a CSV table with the columns defect,charge, energy_eV or run (a folder of an extrapolation), and, where known,
    error_eV and chemical_eV.

    Raises:
        StudyError: With every mistake by its line.
    """
    path, problems, states = Path(path), [], []
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{path} is no table of charge states: {error}") from None
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    try:
        rows = list(csv.DictReader(lines, skipinitialspace=True))
    except csv.Error as error:
        raise StudyError(f"{path} is no table of charge states: {error}") from None
    columns = [name.strip() for name in (lines[0].split(",") if lines else [])]
    wrong = [name for name in columns if name not in _COLUMNS]
    lost = [name for name in ("defect", "charge") if name not in columns]
    if wrong or lost or not {"energy_eV", "run"} & set(columns):
        raise StudyError(f"{path}: expected the columns {', '.join(_COLUMNS)} (energy_eV or run), got {', '.join(columns)}")
    for number, row in enumerate(rows, start=2):
        if None in row:
            problems.append(f"row {number}: more values than the {len(columns)} columns")
            continue
        try:
            states.append(_state({key.strip(): (value or "").strip() for key, value in row.items()}, path.parent))
        except (ValueError, OSError) as error:
            problems.append(f"row {number}: {error}")
    if problems:
        raise StudyError(f"{path} cannot be used", problems=problems)
    return states


def _state(row, folder: Path) -> ChargeState:
    charge, chemical = float(row["charge"]), float(row.get("chemical_eV") or 0.0)
    if row.get("run"):
        result = Result.load(folder / row["run"])
        if not isinstance(result, ChargedDefectResult) or abs(result.charge - charge) > 1e-6:
            raise ValueError(f"{row['run']} is no extrapolation of a defect with charge {charge:+g}")
        return ChargeState.of(result, row["defect"], chemical)
    if not row.get("energy_eV"):
        raise ValueError("no value of energy_eV, and no run")
    error = float(row["error_eV"]) if row.get("error_eV") else None
    energy = float(row["energy_eV"])
    if not np.isfinite([energy, chemical, charge]).all():
        raise ValueError("charge, energy_eV and chemical_eV must be finite numbers")
    return ChargeState(row["defect"], charge, energy, error, chemical)


# --- pymatgen's objects -----------------------------------------------------------------------------------------


def states_from_entries(entries, chemical_potentials: dict[str, float] | None = None) -> list[ChargeState]:
    """Charge states of pymatgen's DefectEntry objects, their corrections added.

    Args:
        entries: DefectEntry objects with a `bulk_entry` each (the perfect crystal in the same cell).
        chemical_potentials: In eV by element; those of the atoms that the defect adds or takes away.

    Raises:
        ValueError: If a bulk entry or a chemical potential is missing.
    """
    states = []
    for entry in entries:
        if entry.bulk_entry is None:
            raise ValueError(f"{entry.defect.name} {entry.charge_state:+d} has no `bulk_entry`: its energy has no reference")
        change = {str(element): n for element, n in entry.defect.element_changes.items()}
        known = chemical_potentials or {}
        missing = [element for element, n in change.items() if n and element not in known]
        if chemical_potentials is not None and missing:
            raise ValueError(f"the chemical potential of {', '.join(missing)} is missing: give it in eV")
        energy = entry.sc_entry.energy - entry.bulk_entry.energy + sum(entry.corrections.values())
        chemical = -sum(n * known.get(element, 0.0) for element, n in change.items())
        states.append(ChargeState(entry.defect.name, float(entry.charge_state), float(energy), None, float(chemical)))
    return states


def with_correction(entry, result: ChargedDefectResult):
    """A copy of a DefectEntry whose corrections hold, as 'finite_size', what leads from its cell's energy to E_inf.

    Raises:
        ValueError: If it has no bulk entry, or another charge than the result.
    """
    if entry.bulk_entry is None or abs(entry.charge_state - result.charge) > 1e-6:
        raise ValueError(
            f"the entry must have a bulk_entry and the charge of the result, {result.charge:+g}, got {entry.charge_state:+d}"
        )
    lacks = result.E_inf_eV - (entry.sc_entry.energy - entry.bulk_entry.energy)
    return replace(entry, corrections={**entry.corrections, CORRECTION: float(lacks)})
