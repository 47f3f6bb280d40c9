"""A crack under load: where its tip went, what that cost, and where the energy went."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from solidqmmm.results.base import Result
from solidqmmm.results.fields import division_in_words, set_array


@dataclass(frozen=True, eq=False, kw_only=True)
class FractureResult(Result):
    """A crack that was loaded, by dynamics or quasi-statically.

    Attributes:
        recipe: Name of the recipe.
        mode: 'dynamic' or 'quasistatic'.
        crack: Geometry, orientation, cells and sizes of the crack system.
        elastic_tensor_GPa: C of the host in the frame of the crystal's cell, Voigt order, shape=(6, 6).
        surface_energy_J_per_m2: gamma of the crack plane, relaxed 1x1 surfaces.
        surface_energy_unrelaxed_J_per_m2: The same as cut.
        G_griffith_J_per_m2: 2 gamma.
        K_griffith_MPa_sqrt_m: The stress intensity at which G = 2 gamma, in plane strain.
        tip: Rows of the tip: `time_ps` (dynamic), `K_MPa_sqrt_m`, `G_J_per_m2`, `x_A`, `y_A` (None without a tip) and more.
        advanced: Whether the tip went ahead, in dynamics by more than one period of the crystal; None where nobody looked.
        critical_load: Where the tip of a dynamic run started to run for good: `time_ps`, `K_MPa_sqrt_m`, `G_J_per_m2`; None
            where it did not.
        tip_speed_m_per_s: Mean speed over the second half of a dynamic run, or None.
        K_minus_MPa_sqrt_m, K_plus_MPa_sqrt_m: Loads at which the crack closes and opens by a bond (quasi-static).
        K_minus_missing_reason, K_plus_missing_reason: Why there is none.
        mean_temperature_K: Of the second half of a dynamic run.
        temperature_profile: Rows `distance_A` from the tip, `T_K`, `stderr_K`.
        energy_ledger_eV: What the load put in, where it went, at the end of the run.
        energy_ledger_in_time: The same in the course of the run, with `time_ps`.
        maps: Mean stress (GPa) and temperature (K) on a grid of x and y.
        snapshots: Atoms around the tip at some times: `time_ps` or `K_MPa_sqrt_m`, `tip_A`, `x_A`, `y_A`, `number`,
            `region`.
        n_steps: Time steps made.
        timestep_fs: Time step.
        qm_calls: Quantum calls.
        split_ranks: As of `DynamicsResult`; None where the ranks were not split.
        n_qm_atoms: Smallest, mean and largest number of quantum atoms: `min`, `mean`, `max`; empty for the host alone.
        n_carvings: How often the quantum region was carved anew; the first time is not counted.
        saving_scheme: 'none', 'respa' or 'lotf', and `saving_steps`.
        force_error_rms_eV_per_A: Of the saving scheme on the core, root mean square of a component; None without one.
        correction_impulse_amu_A_per_ps: Momentum that the correction has given to the crystal, shape=(3,); None without one.
        stadium: Width, damping and expected reflection of the thermostat; empty without one.
        seconds: Wall time by stage.
        stop_reason: Why a run ended before its time, or None.
        n_atoms_host: Number of atoms.
        n_atoms_held: Of those, how many follow the far field.
        trajectory_file: extxyz file in the run folder, or None.
        host, engine, coupling: Descriptions.
        warnings: What a reader should know.

    Raises:
        ValueError: For an unknown mode, or arrays of another shape.
    """

    UNITS: ClassVar[dict[str, str]] = {
        "tip_speed_m_per_s": "m/s",
        "correction_impulse_amu_A_per_ps": "amu angstrom/ps",
        "force_error_rms_eV_per_A": "eV/angstrom",
    }

    recipe: str = "fracture"
    mode: str
    crack: dict
    elastic_tensor_GPa: np.ndarray
    surface_energy_J_per_m2: float
    surface_energy_unrelaxed_J_per_m2: float
    G_griffith_J_per_m2: float
    K_griffith_MPa_sqrt_m: float
    tip: list[dict] = field(default_factory=list)
    advanced: bool | None = None
    critical_load: dict | None = None
    tip_speed_m_per_s: float | None = None
    K_minus_MPa_sqrt_m: float | None = None
    K_minus_missing_reason: str | None = None
    K_plus_MPa_sqrt_m: float | None = None
    K_plus_missing_reason: str | None = None
    mean_temperature_K: float | None = None
    temperature_profile: list[dict] = field(default_factory=list)
    energy_ledger_eV: dict = field(default_factory=dict)
    energy_ledger_in_time: list[dict] = field(default_factory=list)
    maps: dict = field(default_factory=dict)
    snapshots: list[dict] = field(default_factory=list)
    n_steps: int = 0
    timestep_fs: float | None = None
    qm_calls: int = 0
    split_ranks: dict | None = None
    n_qm_atoms: dict = field(default_factory=dict)
    n_carvings: int = 0
    saving_scheme: str = "none"
    saving_steps: int = 1
    force_error_rms_eV_per_A: float | None = None
    correction_impulse_amu_A_per_ps: np.ndarray | None = None
    stadium: dict = field(default_factory=dict)
    seconds: dict = field(default_factory=dict)
    stop_reason: str | None = None
    n_atoms_host: int = 0
    n_atoms_held: int = 0
    trajectory_file: str | None = None
    host: str = ""
    engine: str = ""
    coupling: str = ""
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self):
        set_array(self, "elastic_tensor_GPa", shape=(6, 6))
        set_array(self, "correction_impulse_amu_A_per_ps", shape=(3,))
        if self.mode not in ("dynamic", "quasistatic"):
            raise ValueError(f"`mode` must be dynamic or quasistatic, got {self.mode!r}")

    @property
    def METHOD_REFERENCES(self) -> tuple[str, ...]:
        """Keys for the fields of the crack, and for thermostat, moving region and saving where they were used."""
        keys = ["sih1965cracks"]
        if self.mode == "quasistatic":
            keys.append("thomson1971lattice")
        if self.stadium:
            keys.append("qu2005finite")
        if self.n_qm_atoms:
            keys.append("bernstein2009hybrid")
        saving = {"respa": "tuckerman1992respa", "lotf": "csanyi2004lotf"}
        if self.saving_scheme in saving:
            keys.append(saving[self.saving_scheme])
        return tuple(keys)

    def summary(self) -> list[tuple[str, str]]:
        """Rows of label and value for a table."""
        crack = self.crack
        plane, front = (" ".join(map(str, crack[name])) for name in ("plane", "front"))
        rows = [
            ("crack", f"({plane})[{front}], mode {crack['mode']}, {crack['kind']}"),
            ("atoms", f"{self.n_atoms_host} ({self.n_atoms_held} held)"),
            ("surface energy", f"{self.surface_energy_J_per_m2:.4f} J/m2"),
            ("Griffith", f"G {self.G_griffith_J_per_m2:.4f} J/m2, K {self.K_griffith_MPa_sqrt_m:.4f} MPa sqrt(m)"),
        ]
        if self.mode == "quasistatic":
            for label, value, why in (
                ("K- (closes)", self.K_minus_MPa_sqrt_m, self.K_minus_missing_reason),
                ("K+ (opens)", self.K_plus_MPa_sqrt_m, self.K_plus_missing_reason),
            ):
                if value is not None:
                    rows.append((label, f"{value:.4f} MPa sqrt(m), {value / self.K_griffith_MPa_sqrt_m:.3f} of Griffith's"))
                elif why is not None:
                    rows.append((label, f"none ({why})"))
        else:
            rows += self._dynamic_rows()
        if self.advanced is not None:
            rows.append(("the crack", "advanced" if self.advanced else "stayed"))
        if self.n_qm_atoms:
            n = self.n_qm_atoms
            rows.append(
                ("quantum atoms", f"{n['min']} to {n['max']} (mean {n['mean']:.1f}), carved anew {self.n_carvings} times")
            )
            rows.append(("quantum calls", str(self.qm_calls)))
        if self.split_ranks is not None:
            rows.append(("split ranks", division_in_words(self.split_ranks)))
        if self.force_error_rms_eV_per_A is not None:
            scheme = f"{self.saving_scheme}, {self.saving_steps} steps"
            rows.append((f"force error ({scheme})", f"{self.force_error_rms_eV_per_A:.3f} eV/A RMS on the core"))
        if self.stop_reason is not None:
            rows.append(("ended early", self.stop_reason))
        return rows + [("warning", text) for text in self.warnings]

    def _dynamic_rows(self) -> list[tuple[str, str]]:
        rows = [("steps", f"{self.n_steps} of {self.timestep_fs:g} fs")]
        seen = [row for row in self.tip if row["x_A"] is not None]
        if seen:
            rows.append(("tip", f"x {seen[0]['x_A']:.1f} to {seen[-1]['x_A']:.1f} A"))
        if self.tip and "G_J_per_m2" in self.tip[-1]:
            last = self.tip[-1]
            words = f"G {last['G_J_per_m2']:.3f} J/m2, K {last['K_MPa_sqrt_m']:.3f} MPa sqrt(m)"
            rows.append(("load at the end", words))
        start = self.critical_load
        if start is not None:
            G, K, time = (start[name] for name in ("G_J_per_m2", "K_MPa_sqrt_m", "time_ps"))
            rows.append(("the tip runs from", f"G {G:.3f} J/m2, K {K:.3f} MPa sqrt(m), at {time:.2f} ps"))
        if self.tip_speed_m_per_s is not None:
            rows.append(("tip speed", f"{self.tip_speed_m_per_s:.0f} m/s"))
        if self.mean_temperature_K is not None:
            rows.append(("mean temperature", f"{self.mean_temperature_K:.0f} K"))
        ledger = self.energy_ledger_eV
        if ledger:
            words = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in ledger.items())
            rows.append(("energy (eV)", words))
        return rows
