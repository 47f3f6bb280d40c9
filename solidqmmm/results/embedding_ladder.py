"""One defect with its quantum cluster embedded in several ways, and in several sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from solidqmmm.results.base import Result
from solidqmmm.results.fields import same_length, set_array


@dataclass(frozen=True, eq=False, kw_only=True)
class EmbeddingRung:
    """One embedding of one cluster.

    Attributes:
        embedding: 'mechanical', 'electrostatic' or 'polarizable'.
        n_atoms_qm: Number of quantum atoms around the defect.
        formula_qm: Their formula, such as 'Mg14O12'.
        region_charge_e: Charge of the cluster in e.
        converged: Whether both crystals relaxed; True where they were not to relax.
        max_force_eV_per_A: Largest force on any atom of the crystal with the defect, eV/angstrom.
        energy_eV: Energy of the crystal with the defect in eV.
        energy_perfect_eV: That of the crystal without it, the same region quantum, in eV.
        energy_difference_eV: The first less the second, in eV.
        formation_energy_eV: The same less the chemical potentials of what was added; None where these are not known.
        energy_terms_eV: The terms of `energy_eV` in eV.
        energy_terms_perfect_eV: The terms of `energy_perfect_eV` in eV.
        largest_dipole_e_A: Largest induced dipole of an ion, e angstrom; None without polarizable ions.
        total_dipole_e_A: Norm of the sum of all induced dipoles, e angstrom.
        dipole_distance_A: Distances of ions from the defect in angstrom, shape=(k,).
        dipole_symbol: Their chemical symbols, shape=(k,).
        dipole_norm_e_A: Their induced dipoles in e angstrom, shape=(k,).
        gap_eV: Gap between the cluster's highest occupied and lowest empty state in eV; None where the engine has none.
        gap_perfect_eV: The same of the perfect crystal's cluster.
        spill_out_e: Electrons of the cluster within 1 angstrom of cations outside it; None where the engine cannot tell.
        region_potential_rms_error_eV: Error of the crystal's potential inside the region, per unit charge.
        scf_iterations: Iterations of the engine's self-consistency at the last evaluation; None where nothing is iterated.
        n_qm_calls: Quantum calls for both crystals.
        wall_s: Wall time of the last evaluation of the crystal with the defect, by the engine, when it was computed.
    """

    embedding: str
    n_atoms_qm: int
    formula_qm: str
    region_charge_e: float
    converged: bool = True
    max_force_eV_per_A: float
    energy_eV: float
    energy_perfect_eV: float
    energy_difference_eV: float
    formation_energy_eV: float | None = None
    energy_terms_eV: dict[str, float]
    energy_terms_perfect_eV: dict[str, float]
    largest_dipole_e_A: float | None = None
    total_dipole_e_A: float | None = None
    dipole_distance_A: np.ndarray = ()
    dipole_symbol: np.ndarray = ()
    dipole_norm_e_A: np.ndarray = ()
    gap_eV: float | None = None
    gap_perfect_eV: float | None = None
    spill_out_e: float | None = None
    region_potential_rms_error_eV: float | None = None
    scf_iterations: int | None = None
    n_qm_calls: int
    wall_s: float | None = None

    def __post_init__(self):
        for name in ("dipole_distance_A", "dipole_norm_e_A"):
            set_array(self, name, shape=(-1,))
        set_array(self, "dipole_symbol", str, shape=(-1,))
        same_length(self, "dipole_distance_A", "dipole_symbol", "dipole_norm_e_A")

    @property
    def label(self) -> str:
        """'electrostatic, Mg6'."""
        return f"{self.embedding}, {self.formula_qm}"

    @property
    def term_differences_eV(self) -> dict[str, float]:
        """What the defect changes in each term, in eV; they add up to the energy difference."""
        names = dict.fromkeys([*self.energy_terms_eV, *self.energy_terms_perfect_eV])
        return {name: self.energy_terms_eV.get(name, 0.0) - self.energy_terms_perfect_eV.get(name, 0.0) for name in names}


@dataclass(frozen=True, eq=False, kw_only=True)
class EmbeddingLadderResult(Result):
    """One defect, the embeddings side by side.

    Attributes:
        recipe: Name of the recipe.
        rungs: One for each embedding of each cluster, the clusters in the order that was asked for.
        ions: 'fixed' or 'relaxed'.
        fmax_eV_per_A: Threshold of the relaxations in eV/angstrom; None with fixed ions.
        chemical_potentials_eV: mu_i of the elements that were removed or added, in eV.
        formation_energy_missing_reason: Why there are no formation energies, or None.
        defect: Description of the defect.
        defect_position_A: Where it is, in angstrom, shape=(3,).
        charge_e: Charge of the crystal with the defect in e.
        n_atoms_host: Number of atoms of the crystal.
        host: Description of the host potential.
        engine: Description of the quantum engine.
        warnings: What a reader should know.

    Raises:
        ValueError: Without rungs.
    """

    METHOD_REFERENCES: ClassVar[tuple[str, ...]] = ("shi2022embedded",)

    recipe: str = "embedding_ladder"
    rungs: tuple[EmbeddingRung, ...]
    ions: str = "fixed"
    fmax_eV_per_A: float | None = None
    chemical_potentials_eV: dict[str, float] = field(default_factory=dict)
    formation_energy_missing_reason: str | None = None
    defect: str = ""
    defect_position_A: np.ndarray | None = None
    charge_e: float = 0.0
    n_atoms_host: int = 0
    host: str = ""
    engine: str = ""
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self):
        object.__setattr__(self, "rungs", tuple(self.rungs))
        set_array(self, "defect_position_A", shape=(3,))
        if not self.rungs:
            raise ValueError("`rungs` must not be empty: there is no embedding in this ladder")
        if all(rung.formation_energy_eV is not None for rung in self.rungs):
            return
        if self.formation_energy_missing_reason is None:
            object.__setattr__(self, "formation_energy_missing_reason", "not computed")

    @property
    def energies_eV(self) -> np.ndarray:
        """Formation energies of the rungs in eV, energy differences where there are none, shape=(n,)."""
        formation = [rung.formation_energy_eV for rung in self.rungs]
        if any(energy is None for energy in formation):
            formation = [rung.energy_difference_eV for rung in self.rungs]
        return np.array(formation)

    def summary(self) -> list[tuple[str, str]]:
        """Rows of label and value for a table."""
        known = self.formation_energy_missing_reason is None
        rows = [
            ("defect", self.defect),
            ("charge", f"{self.charge_e:+g} e" if self.charge_e else "0"),
            ("atoms", str(self.n_atoms_host)),
            ("host", self.host),
            ("engine", self.engine),
            ("ions", self.ions if self.fmax_eV_per_A is None else f"{self.ions} to {self.fmax_eV_per_A:g} eV/angstrom"),
            ("energies", "formation energies" if known else f"differences ({self.formation_energy_missing_reason})"),
        ]
        rows += [(rung.label, _in_words(rung, energy)) for rung, energy in zip(self.rungs, self.energies_eV)]
        rows += [("warning", text) for text in self.warnings]
        return [(label, value) for label, value in rows if value]


def _in_words(rung: EmbeddingRung, energy: float) -> str:
    words = [f"{energy:.4f} eV", f"cluster {rung.region_charge_e:+g} e"]
    if rung.largest_dipole_e_A is not None:
        words.append(f"dipoles up to {rung.largest_dipole_e_A:.4f} e A")
    if rung.gap_eV is not None:
        words.append(f"gap {rung.gap_eV:.2f} eV")
    if rung.spill_out_e is not None:
        words.append(f"{rung.spill_out_e:.3f} electrons on outer cations")
    if rung.scf_iterations is not None:
        words.append(f"{rung.scf_iterations} iterations")
    words.append(f"{rung.n_qm_calls} calls" + ("" if rung.wall_s is None else f" of {rung.wall_s:.2g} s"))
    return ", ".join(words if rung.converged else [*words, "not converged"])
