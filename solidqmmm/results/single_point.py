"""One evaluation of the hybrid crystal: energy term by term, forces, stress, and who was quantum."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from solidqmmm.results.embedded import EmbeddedResult
from solidqmmm.results.fields import or_reason, require_reason, set_array


@dataclass(frozen=True, eq=False, kw_only=True)
class SinglePointResult(EmbeddedResult):
    """Energy, forces and stress of one configuration.

    Attributes:
        recipe: Name of the recipe.
        energy_eV: Total energy in eV; None where the coupling has no energy.
        energy_missing_reason: Why there is none.
        energy_terms_eV: The terms that add up to the energy ('mm', 'qm_cluster', 'mm_cluster',
            'ghost_force', ...) in eV.
        forces_eV_per_A: Forces in eV/angstrom, in host order, shape=(n, 3).
        stress_GPa: Stress in GPa, tension positive, shape=(3, 3); None where the coupling has none.
        stress_missing_reason: Why there is none.
        partition: 'core', 'buffer', 'host' or 'frozen' for each atom, in host order.
        n_atoms_host: Number of atoms of the crystal.
        n_atoms_qm: Number of quantum atoms (core and buffer), caps not counted.
        n_link_atoms: Number of caps.
        structure: The crystal as pymatgen's dictionary, or {"file": name of an extxyz file} from 20,000
            atoms on.
        coupling: Description of the coupling; '' for the host alone.
        engine: Description of the quantum engine.
        host: Description of the host potential.
        warnings: What a reader should know.

    Raises:
        ValueError: For an absent energy without a reason, or arrays that do not fit together.
    """

    recipe: str = "single_point"
    energy_eV: float | None
    energy_missing_reason: str | None = None
    energy_terms_eV: dict[str, float] = field(default_factory=dict)
    n_atoms_host: int = 0
    n_atoms_qm: int = 0
    n_link_atoms: int = 0
    stress_GPa: np.ndarray | None = None
    stress_missing_reason: str | None = None
    coupling: str = ""
    engine: str = ""
    host: str = ""
    warnings: list[str] = field(default_factory=list)
    forces_eV_per_A: np.ndarray
    partition: list[str] = field(default_factory=list)
    structure: dict | None = None

    def __post_init__(self):
        super().__post_init__()
        require_reason(self, "energy_eV", "energy_missing_reason")
        require_reason(self, "stress_GPa", "stress_missing_reason", default="not computed")
        set_array(self, "forces_eV_per_A", shape=(-1, 3))
        set_array(self, "stress_GPa", shape=(3, 3))
        n = len(self.forces_eV_per_A)
        object.__setattr__(self, "n_atoms_host", self.n_atoms_host or n)
        object.__setattr__(self, "partition", [str(label) for label in self.partition] or ["host"] * n)
        if not n == len(self.partition) == self.n_atoms_host:
            raise ValueError(
                f"{n} forces, {len(self.partition)} partition labels and n_atoms_host = {self.n_atoms_host} "
                "must agree"
            )

    @property
    def max_force_eV_per_A(self) -> float:
        """Largest force on any atom in eV/angstrom."""
        return float(np.linalg.norm(self.forces_eV_per_A, axis=1).max(initial=0.0))

    def summary(self) -> list[tuple[str, str]]:
        """Rows of label and value for a table."""
        rows = [
            ("atoms", str(self.n_atoms_host)),
            ("quantum atoms", f"{self.n_atoms_qm} and {self.n_link_atoms} link atoms"),
            ("energy", or_reason(self.energy_eV, "eV", self.energy_missing_reason)),
            *((f"  {term}", f"{value:.6f} eV") for term, value in self.energy_terms_eV.items()),
            *self.embedding_rows(),
            ("largest force", f"{self.max_force_eV_per_A:.4f} eV/angstrom"),
        ]
        if self.stress_GPa is None:
            rows.append(("pressure", f"none ({self.stress_missing_reason})"))
        else:
            rows.append(("pressure", f"{-np.trace(self.stress_GPa) / 3:.4f} GPa"))
        return rows + [("warning", text) for text in self.warnings]
