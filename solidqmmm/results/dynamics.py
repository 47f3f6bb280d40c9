"""A run of molecular dynamics, as time series."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from solidqmmm.results.base import Result
from solidqmmm.results.fields import division_in_words, require_reason, same_length, set_array


@dataclass(frozen=True, eq=False, kw_only=True)
class DynamicsResult(Result):
    """Temperature and energies along a trajectory.

    Attributes:
        recipe: Name of the procedure.
        ensemble: 'nve', 'nvt', 'langevin' ...
        n_steps: Number of time steps made.
        n_qm_calls: Number of quantum calls.
        timestep_fs: Time step in fs.
        times_fs: Times of the rows in fs, shape=(k,).
        temperature_K: Temperature in K, shape=(k,).
        potential_energy_eV: Potential energy in eV, shape=(k,); None where the coupling has none.
        total_energy_eV: Potential and kinetic energy in eV, shape=(k,); None where the coupling has none.
        energy_missing_reason: Why they are absent.
        integrated_work_eV: -int F dx along the path in eV, from 0, shape=(k,): stands in for the potential
            energy where the forces have none.
        n_atoms_host: Number of atoms of the crystal.
        n_atoms_qm: Number of quantum atoms at the end.
        trajectory_file: Name of the extxyz file in the run folder.
        restart_file: Name of the file to go on from.
        coupling, engine, host: Descriptions.
        engine_s: Wall time in the correction, in this process, in s; None for the host alone.
        correction_impulse_amu_A_per_ps: Momentum that the correction has given to the crystal, shape=(3,); None for the
            host alone.
        split_ranks: Where quantum and host ranks were split: how many there are of each, how many calls were foreseen, hit
            and missed, and how long each half waited (`engines.remote.Traffic`), of this process; None otherwise.
        stop_reason: Why the run ended before its last step, or None.
        warnings: What a reader should know.

    Raises:
        ValueError: For absent energies without a reason, or series of unequal lengths.
    """

    recipe: str = "dynamics"
    ensemble: str = ""
    n_steps: int
    n_qm_calls: int = 0
    timestep_fs: float | None = None
    n_atoms_host: int = 0
    n_atoms_qm: int = 0
    energy_missing_reason: str | None = None
    trajectory_file: str | None = None
    restart_file: str | None = None
    coupling: str = ""
    engine: str = ""
    host: str = ""
    stop_reason: str | None = None
    engine_s: float | None = None
    correction_impulse_amu_A_per_ps: np.ndarray | None = None
    split_ranks: dict | None = None
    warnings: list[str] = field(default_factory=list)
    times_fs: np.ndarray
    temperature_K: np.ndarray
    potential_energy_eV: np.ndarray | None = None
    total_energy_eV: np.ndarray | None = None
    integrated_work_eV: np.ndarray | None = None

    def __post_init__(self):
        series = ("times_fs", "temperature_K", "potential_energy_eV", "total_energy_eV", "integrated_work_eV")
        for name in series:
            set_array(self, name, shape=(-1,))
        set_array(self, "correction_impulse_amu_A_per_ps", shape=(3,))
        same_length(self, *series)
        require_reason(self, "total_energy_eV", "energy_missing_reason")

    def summary(self) -> list[tuple[str, str]]:
        """Rows of label and value for a table."""
        rows = [
            ("atoms", f"{self.n_atoms_host} ({self.n_atoms_qm} quantum)" if self.n_atoms_host else ""),
            ("ensemble", self.ensemble),
            ("steps", f"{self.n_steps} ({self.n_qm_calls} quantum calls)"),
        ]
        if len(self.times_fs):
            rows.append(("time", f"{self.times_fs[-1] - self.times_fs[0]:g} fs"))
            rows.append(("mean temperature", f"{self.temperature_K.mean():.1f} K"))
        if self.total_energy_eV is None:
            rows.append(("energy", f"none ({self.energy_missing_reason})"))
        elif len(self.total_energy_eV):
            rows.append(
                ("change of total energy", f"{self.total_energy_eV[-1] - self.total_energy_eV[0]:+.6f} eV")
            )
        if self.split_ranks is not None:
            rows.append(("split ranks", division_in_words(self.split_ranks)))
        rows.append(("trajectory", self.trajectory_file or ""))
        rows += [("warning", text) for text in self.warnings]
        return [(label, value) for label, value in rows if value]
