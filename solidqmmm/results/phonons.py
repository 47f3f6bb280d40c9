"""Vibrations of a defect: its modes by several methods, the bulk behind them, and what they do to the free energy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from solidqmmm.results.base import Result
from solidqmmm.results.fields import require_reason, same_length, set_array

METHODS = ("clamped", "static", "guyan", "dynamic", "full", "infinite")


@dataclass(frozen=True, eq=False, kw_only=True)
class DefectPhononsResult(Result):
    """Localized vibrations of a defect in its host.

    Attributes:
        recipe: Name of the recipe.
        method: Method whose modes are in `modes`; 'infinite' for a host without end.
        modes: One dictionary for each mode, descending: `frequency_THz`, `frequency_cm-1` (imaginary ones negative),
            `participation_ratio`, `core_weight`, `kind` ('local', 'gap' or 'band'), `degeneracy`, and `irrep` (Mulliken
            symbol, None where the site symmetry gives none). `core_weight` is the core's part of sum_i m_i |u_i|^2 over all
            atoms, the environment moving as the method has it: at rest ('clamped': 1), following without delay ('static',
            'guyan'), or as it does. In an infinite host `participation_ratio` is None, and `participating_atoms` is the
            inverse sum of the atoms' squared weights.
        ladder_THz: Highest frequencies of each method that was computed, descending, in THz: 'clamped' (environment held),
            'static', 'guyan', 'dynamic', 'full', 'infinite' (host without end).
        static_condensation_error_THz: Highest frequency of static condensation minus that of 'dynamic' or 'full'; where
            these have modes in gaps only, that of the mode most like the highest of them; None without a mode outside the
            bands.
        static_condensation_error_missing_reason: Why there is none.
        bulk_band_top_THz: Highest frequency of the perfect host.
        bulk_bands_THz: Lower and upper edge of each of its bands, shape=(b, 2).
        band_margin: Modes that lie nearer to the edge of a band than this, relative to the edge's frequency, are not told
            apart from the band; they are not listed as local or gap modes.
        n_perturbed_sites: Sites whose force constants or masses differ from the perfect host's, in an infinite host.
        left_out_eV_per_A2: Largest change of a force constant that lies on none of these sites, in an infinite host.
        dos_frequency_THz: Grid of the densities of states, shape=(k,).
        bulk_dos_per_THz: Density of states of the perfect host, 3 per atom, shape=(k,).
        local_dos_per_THz: Local density of states of the core's atoms in the hybrid crystal, 3 per atom, shape=(k,).
        defect_dos_per_THz: The same of the defect's own atom (the core's nearest atom for a vacancy), shape=(k,).
        local_dos_method: How these were computed: 'recursion' in the supercell, "Dyson's equation" in an infinite host.
        local_dos_half_width_THz: Half width at half maximum of their broadening, and that of the bulk's density.
        resonances: Peaks of the defect's density inside the bands, of an infinite host: `frequency_THz`, `frequency_cm-1`,
            `width_THz` (full width at half maximum, the broadening included), `enhancement` (over the bulk's density).
        core: Host indices of the core's atoms, shape=(q,).
        core_symbols: Their species.
        core_positions_A: Their positions in angstrom, contiguous, shape=(q, 3).
        mode_displacements: Displacements of the core's atoms in the listed modes, mass-normalized over the whole crystal,
            in amu^(-1/2), shape=(n_modes, q, 3).
        masses_amu: Masses of the core's atoms, shape=(q,).
        isotopes: Masses that were asked for of all (other) atoms of an element, in amu.
        isotope_sites: Those on named sites: `element`, `mass_amu`, `sites` (indices in the crystal with the defect).
        isotope_shifts_per_cm: Shift of the mode outside the bands that has most weight on an isotope's atoms, against the
            element's natural mass (named sites: against the element's mass elsewhere), by label, in 1/cm.
        temperatures_K: Temperatures of the free energy, shape=(t,).
        formation_free_energy_eV: Vibrational free energy of the defect against the perfect crystal, shape=(t,); None where
            it was not computed.
        formation_entropy_k: Vibrational formation entropy in units of k, shape=(t,).
        formation_entropy_missing_reason: Why there is none.
        max_force_eV_per_A: Largest force at the point of expansion in eV/angstrom.
        displacement_A: Step of the quantum atoms in angstrom.
        hessian_asymmetry_eV_per_A2: max |K - K^T| of the quantum block (the host's without one) before symmetrization.
        sum_rule_error_eV_per_A2: max |sum_j K_ij| before the acoustic sum rule was enforced.
        n_force_evaluations_host: Force evaluations of the host for its Hessian.
        n_force_evaluations_qm: Evaluations by the quantum engine for its block.
        n_qm_calls_relaxation: Those of the relaxation before.
        n_atoms_host, n_atoms_qm, n_link_atoms, n_core: Numbers of atoms.
        defect, coupling, engine, host: Descriptions.
        warnings: What a reader should know.

    Raises:
        ValueError: For arrays that do not fit together, or something absent without a reason.
    """

    METHOD_REFERENCES: ClassVar = ("maradudin1971lattice", "guyan1965reduction", "togo2023phonopy")
    UNITS: ClassVar = {
        "bulk_dos_per_THz": "1/THz",
        "local_dos_per_THz": "1/THz",
        "defect_dos_per_THz": "1/THz",
        "formation_entropy_k": "k",
        "mode_displacements": "amu^(-1/2)",
    }

    recipe: str = "defect_phonons"
    method: str
    modes: list[dict]
    ladder_THz: dict[str, list[float]] = field(default_factory=dict)
    static_condensation_error_THz: float | None = None
    static_condensation_error_missing_reason: str | None = None
    bulk_band_top_THz: float
    bulk_bands_THz: np.ndarray = ()
    band_margin: float | None = None
    n_perturbed_sites: int = 0
    left_out_eV_per_A2: float | None = None
    hessian_asymmetry_eV_per_A2: float
    sum_rule_error_eV_per_A2: float
    n_force_evaluations_host: int
    n_force_evaluations_qm: int = 0
    n_qm_calls_relaxation: int = 0
    max_force_eV_per_A: float
    displacement_A: float
    isotopes: dict[str, float] = field(default_factory=dict)
    isotope_sites: list[dict] = field(default_factory=list)
    isotope_shifts_per_cm: dict[str, float] = field(default_factory=dict)
    temperatures_K: np.ndarray = ()
    formation_free_energy_eV: np.ndarray | None = None
    formation_entropy_k: np.ndarray | None = None
    formation_entropy_missing_reason: str | None = None
    defect: str = ""
    n_atoms_host: int
    n_atoms_qm: int = 0
    n_link_atoms: int = 0
    n_core: int = 0
    coupling: str = ""
    engine: str = ""
    host: str = ""
    warnings: list[str] = field(default_factory=list)
    core: np.ndarray = ()
    core_symbols: list[str] = field(default_factory=list)
    core_positions_A: np.ndarray = ()
    masses_amu: np.ndarray = ()
    mode_displacements: np.ndarray = ()
    dos_frequency_THz: np.ndarray = ()
    bulk_dos_per_THz: np.ndarray | None = None
    local_dos_per_THz: np.ndarray | None = None
    defect_dos_per_THz: np.ndarray | None = None
    local_dos_method: str = "recursion"
    local_dos_half_width_THz: float | None = None
    resonances: list[dict] = field(default_factory=list)

    def __post_init__(self):
        default = "neither 'dynamic' nor 'full' was computed, or neither has a mode outside the bands"
        require_reason(
            self, "static_condensation_error_THz", "static_condensation_error_missing_reason", default=default
        )
        if self.formation_entropy_k is None and self.formation_entropy_missing_reason is None:
            object.__setattr__(self, "formation_entropy_missing_reason", "not asked for")
        set_array(self, "bulk_bands_THz", shape=(-1, 2))
        set_array(self, "core", int, shape=(-1,))
        set_array(self, "core_positions_A", shape=(-1, 3))
        set_array(self, "mode_displacements", shape=(-1, len(self.core), 3))
        for name in (
            "masses_amu", "temperatures_K", "formation_free_energy_eV", "formation_entropy_k", "dos_frequency_THz",
            "bulk_dos_per_THz", "local_dos_per_THz", "defect_dos_per_THz",
        ):  # fmt: skip
            set_array(self, name, shape=(-1,))
        same_length(self, "core", "core_symbols", "core_positions_A", "masses_amu")
        same_length(self, "modes", "mode_displacements")
        same_length(self, "dos_frequency_THz", "bulk_dos_per_THz", "local_dos_per_THz", "defect_dos_per_THz")

    def summary(self) -> list[tuple[str, str]]:
        """Rows of label and value for a table."""
        rows = [
            ("defect", self.defect),
            ("atoms", str(self.n_atoms_host)),
            ("quantum atoms", f"{self.n_atoms_qm} and {self.n_link_atoms} link atoms" if self.n_atoms_qm else ""),
            ("core", f"{self.n_core} atoms"),
            ("host", self.host),
            ("engine", self.engine),
            ("coupling", self.coupling),
            ("bulk band top", f"{self.bulk_band_top_THz:.4f} THz"),
        ]
        if self.band_margin is not None:
            rows.append(("told from a band", f"where a mode is {100 * self.band_margin:g} % or more from its edge"))
        rows += [(f"mode {k + 1}", _in_words(mode)) for k, mode in enumerate(self.modes[:8])]
        rows += [("resonance", _resonance_in_words(peak)) for peak in self.resonances[:8]]
        for method in METHODS:
            if self.ladder_THz.get(method):
                rows.append((f"highest, {method}", f"{self.ladder_THz[method][0]:.4f} THz"))
        error = self.static_condensation_error_THz
        rows.append(
            (
                "static condensation",
                f"{self.static_condensation_error_missing_reason}" if error is None else f"off by {error:+.4f} THz",
            )
        )
        rows += [(f"shift, {label}", f"{shift:+.3f} cm^-1") for label, shift in self.isotope_shifts_per_cm.items()]
        rows += [
            ("asymmetry", f"{self.hessian_asymmetry_eV_per_A2:.2g} eV/A^2 before symmetrization"),
            ("sum rule", f"{self.sum_rule_error_eV_per_A2:.2g} eV/A^2 before it was enforced"),
            (
                "cost",
                f"{self.n_force_evaluations_host} force evaluations of the host, {self.n_force_evaluations_qm} quantum",
            ),
        ]
        rows += [("warning", text) for text in self.warnings]
        return [(label, value) for label, value in rows if value]


def _in_words(mode: dict) -> str:
    symmetry = f" {mode['irrep']}" if mode.get("irrep") else ""
    return (
        f"{mode['frequency_THz']:.4f} THz = {mode['frequency_cm-1']:.3f} cm^-1, {mode['kind']}{symmetry}, "
        f"{100 * mode['core_weight']:.1f} % on the core"
    )


def _resonance_in_words(peak: dict) -> str:
    return (
        f"{peak['frequency_THz']:.2f} THz = {peak['frequency_cm-1']:.1f} cm^-1, {peak['width_THz']:.2f} THz wide, "
        f"{peak['enhancement']:.1f} times the bulk's density"
    )
