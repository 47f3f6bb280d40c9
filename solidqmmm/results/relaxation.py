"""A relaxed defect: what moved, how far, at what energy, and how the forces went down."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from solidqmmm.results.embedded import EmbeddedResult
from solidqmmm.results.fields import or_reason, require_reason, same_length, set_array


@dataclass(frozen=True, eq=False)
class RelaxationTrace:
    """One row for each quantum call of a relaxation.

    Attributes:
        max_force_eV_per_A: Largest force on any atom that may move in eV/angstrom, shape=(k,).
        max_force_region: 'core', 'buffer' or 'host': where that atom is, one for each call.
        energy_eV: Energy in eV (NaN in rows without one), shape=(k,); None where the coupling has none.
        host_iterations: Classical iterations between the previous call and this one, shape=(k,).
        step_length_A: Largest displacement of an atom since the previous call in angstrom, shape=(k,).
        seconds: Wall time of the quantum call and the host's iterations before it, shape=(k,).
    """

    max_force_eV_per_A: np.ndarray = ()
    max_force_region: tuple[str, ...] = ()
    energy_eV: np.ndarray | None = None
    host_iterations: np.ndarray = ()
    step_length_A: np.ndarray = ()
    seconds: np.ndarray = ()

    def __post_init__(self):
        for name in ("max_force_eV_per_A", "energy_eV", "step_length_A", "seconds"):
            set_array(self, name, shape=(-1,))
        set_array(self, "host_iterations", int, shape=(-1,))
        object.__setattr__(self, "max_force_region", tuple(str(label) for label in self.max_force_region))
        same_length(
            self,
            "max_force_eV_per_A", "max_force_region", "energy_eV",
            "host_iterations", "step_length_A", "seconds",
        )  # fmt: skip

    def __len__(self):
        return len(self.max_force_eV_per_A)

    def with_call(
        self, *, max_force, region: str = "core", energy=None, host_iterations=0, step_length=0.0, seconds=0.0
    ) -> RelaxationTrace:
        """With one more quantum call; the arguments are the fields' values in the same units."""
        energies = self.energy_eV
        if energy is not None or energies is not None:
            before = np.full(len(self), np.nan) if energies is None else energies
            energies = np.append(before, np.nan if energy is None else energy)
        return replace(
            self,
            max_force_eV_per_A=np.append(self.max_force_eV_per_A, max_force),
            max_force_region=(*self.max_force_region, region),
            energy_eV=energies,
            host_iterations=np.append(self.host_iterations, host_iterations),
            step_length_A=np.append(self.step_length_A, step_length),
            seconds=np.append(self.seconds, seconds),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class DefectRelaxationResult(EmbeddedResult):
    """A defect, relaxed in its crystal.

    Attributes:
        recipe: Name of the recipe.
        converged: Whether every force came below `fmax_eV_per_A`.
        n_atoms_host: Number of atoms of the crystal.
        n_atoms_qm: Number of quantum atoms (core and buffer), caps not counted.
        n_core: Number of core atoms.
        n_link_atoms: Number of caps.
        n_qm_calls: Number of quantum calls.
        max_force_eV_per_A: Largest force on any atom at the end in eV/angstrom.
        fmax_eV_per_A: The threshold in eV/angstrom.
        energy_eV: Energy of the relaxed crystal in eV; None where the coupling has none.
        energy_missing_reason: Why there is none.
        energy_terms_eV: The terms that add up to the energy in eV.
        formation_energy_eV: E(defect) - E(perfect) + sum_i n_i mu_i in eV, n_i atoms of element i removed
            (negative: added).
        formation_energy_missing_reason: Why there is none.
        chemical_potentials_eV: mu_i of the elements that were removed or added, in eV.
        relaxed_structure: pymatgen's dictionary, or {"file": name of an extxyz file} from 20,000 atoms on.
        defect_position_A: Where the defect is in the relaxed crystal's frame, in angstrom, shape=(3,).
        volume_A3: Volume of the cell in angstrom^3.
        neighbour_displacements_A: One dictionary for each atom of the defect's neighbour shells: `index`,
            `symbol`, `shell` (1 the nearest), `distance_before_A`, `distance_after_A`, `radial_A` (outward
            positive), `displacement_A`.
        neighbour_pair_distances_before_A: Distances between the atoms of the first shell before relaxation,
            shape=(p,).
        neighbour_pair_distances_A: The same after relaxation, in the same order; unequal ones reveal
            pairing, shape=(p,).
        displacement_distance_A: Distance of each atom from the defect before relaxation in angstrom,
            shape=(k,).
        displacement_norm_A: How far each of them moved in angstrom, shape=(k,).
        displacement_label: 'core', 'buffer', 'host' or 'frozen' of each of them, shape=(k,).
        trace: One row for each quantum call.
        defect: Description of the defect.
        coupling: Description of the coupling; '' for the host alone.
        engine: Description of the quantum engine.
        host: Description of the host potential.
        warnings: What a reader should know.

    Raises:
        ValueError: For an absent energy without a reason, or arrays that do not fit together.
    """

    recipe: str = "defect_relaxation"
    converged: bool
    n_atoms_host: int
    n_atoms_qm: int = 0
    n_core: int = 0
    n_link_atoms: int = 0
    n_qm_calls: int = 0
    max_force_eV_per_A: float
    fmax_eV_per_A: float
    energy_eV: float | None
    energy_missing_reason: str | None = None
    energy_terms_eV: dict[str, float] = field(default_factory=dict)
    formation_energy_eV: float | None = None
    formation_energy_missing_reason: str | None = None
    chemical_potentials_eV: dict[str, float] = field(default_factory=dict)
    defect: str = ""
    defect_position_A: np.ndarray | None = None
    volume_A3: float | None = None
    coupling: str = ""
    engine: str = ""
    host: str = ""
    warnings: list[str] = field(default_factory=list)
    neighbour_displacements_A: list[dict] = field(default_factory=list)
    neighbour_pair_distances_before_A: np.ndarray = ()
    neighbour_pair_distances_A: np.ndarray = ()
    trace: RelaxationTrace = field(default_factory=RelaxationTrace)
    displacement_distance_A: np.ndarray = ()
    displacement_norm_A: np.ndarray = ()
    displacement_label: np.ndarray = ()
    relaxed_structure: dict | None = None

    def __post_init__(self):
        super().__post_init__()
        require_reason(self, "energy_eV", "energy_missing_reason")
        default = "not computed" if self.energy_eV is not None else self.energy_missing_reason
        require_reason(self, "formation_energy_eV", "formation_energy_missing_reason", default=default)
        for name in (
            "neighbour_pair_distances_before_A", "neighbour_pair_distances_A",
            "displacement_distance_A", "displacement_norm_A",
        ):  # fmt: skip
            set_array(self, name, shape=(-1,))
        set_array(self, "displacement_label", str, shape=(-1,))
        set_array(self, "defect_position_A", shape=(3,))
        same_length(self, "displacement_distance_A", "displacement_norm_A", "displacement_label")
        if len(self.neighbour_pair_distances_before_A):
            same_length(self, "neighbour_pair_distances_before_A", "neighbour_pair_distances_A")

    def summary(self) -> list[tuple[str, str]]:
        """Rows of label and value for a table."""
        rows = [
            ("defect", self.defect),
            ("atoms", str(self.n_atoms_host)),
            ("quantum atoms", f"{self.n_atoms_qm} ({self.n_core} core) and {self.n_link_atoms} link atoms"),
            ("host", self.host),
            ("engine", self.engine),
            ("coupling", self.coupling),
            *self.embedding_rows(),
            ("converged", f"{'yes' if self.converged else 'no'}, after {self.n_qm_calls} quantum calls"),
            (
                "largest force",
                f"{self.max_force_eV_per_A:.4f} eV/angstrom (threshold {self.fmax_eV_per_A:g})",
            ),
            ("energy", or_reason(self.energy_eV, "eV", self.energy_missing_reason)),
            (
                "formation energy",
                or_reason(self.formation_energy_eV, "eV", self.formation_energy_missing_reason, digits=3),
            ),
        ]
        rows += [
            (f"shell {shell}", f"{len(radial)} neighbour{'s' * (len(radial) > 1)}, outward by {_range(radial)} A")
            for shell, radial in _by_shell(self.neighbour_displacements_A).items()
        ]
        if len(self.neighbour_pair_distances_A):
            rows.append(("pairs in shell 1", f"{_distances(self.neighbour_pair_distances_A)} A"))
        rows += [("warning", text) for text in self.warnings]
        return [(label, value) for label, value in rows if value]


def _by_shell(neighbours) -> dict[int, list[float]]:
    shells = {}
    for atom in neighbours:
        shells.setdefault(atom["shell"], []).append(atom["radial_A"])
    return dict(sorted(shells.items()))


def _distances(pairs, most=10) -> str:
    """Sorted distances; of many the ranges between gaps of 0.05 angstrom, with how many are in each."""
    pairs = np.sort(pairs)
    if len(pairs) <= most:
        return " ".join(f"{d:.3f}" for d in pairs)
    groups = np.split(pairs, np.flatnonzero(np.diff(pairs) > 0.05) + 1)
    return ", ".join(f"{len(g)} of {' to '.join(dict.fromkeys(f'{d:.3f}' for d in (g[0], g[-1])))}" for g in groups)


def _range(values) -> str:
    low, high = min(values), max(values)
    return " to ".join(dict.fromkeys(f"{value:+.3f}" for value in (low, high)))
