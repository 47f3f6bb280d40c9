"""Elastic constants from a strain series: the tensor, its errors, what it means, and what a defect does to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from typing import ClassVar

import numpy as np

from solidqmmm.results.base import Result
from solidqmmm.results.fields import or_reason, require_reason, same_length, set_array


@dataclass(frozen=True, eq=False)
class StrainSeries:
    """The deformations of one crystal and their stresses, one row for each.

    Attributes:
        shapes: The Voigt strain (xx, yy, zz, 2 yz, 2 xz, 2 xy) of unit amplitude of each strain shape, shape=(s, 6).
        shape_of: Which shape a row belongs to, shape=(p,).
        amplitudes: Signed amplitude: the Green-Lagrange strain is amplitude times shape, shape=(p,).
        stress_GPa: Second Piola-Kirchhoff stress (Voigt) with the ions relaxed in GPa, shape=(p, 6).
        stress_clamped_GPa: The same with the ions at the affine image of the reference in GPa, shape=(p, 6).
        fitted_GPa: Stress of the fit at the rows in GPa, shape=(p, 6).
        reference_stress_GPa: Stress of the reference (Voigt) in GPa, shape=(6,).
        max_force_eV_per_A: Largest force left after relaxation in eV/angstrom, shape=(p,).
        n_force_evaluations: Force evaluations of the whole crystal that a row took, shape=(p,).
        n_qm_calls: Evaluations by the quantum engine that a row took, shape=(p,).
    """

    shapes: np.ndarray = ()
    shape_of: np.ndarray = ()
    amplitudes: np.ndarray = ()
    stress_GPa: np.ndarray = ()
    stress_clamped_GPa: np.ndarray = ()
    fitted_GPa: np.ndarray = ()
    reference_stress_GPa: np.ndarray = (0.0,) * 6
    max_force_eV_per_A: np.ndarray = ()
    n_force_evaluations: np.ndarray = ()
    n_qm_calls: np.ndarray = ()

    def __post_init__(self):
        for name in ("shapes", "stress_GPa", "stress_clamped_GPa", "fitted_GPa"):
            set_array(self, name, shape=(-1, 6))
        set_array(self, "reference_stress_GPa", shape=(6,))
        for name in ("amplitudes", "max_force_eV_per_A"):
            set_array(self, name, shape=(-1,))
        for name in ("shape_of", "n_force_evaluations", "n_qm_calls"):
            set_array(self, name, int, shape=(-1,))
        same_length(
            self,
            "shape_of", "amplitudes", "stress_GPa", "stress_clamped_GPa", "fitted_GPa",
            "max_force_eV_per_A", "n_force_evaluations", "n_qm_calls",
        )  # fmt: skip

    def __len__(self):
        return len(self.amplitudes)

    def shape_names(self) -> list[str]:
        """The strained components of each shape, such as 'xx' or 'yz + xz'."""
        labels = ("xx", "yy", "zz", "yz", "xz", "xy")
        return [" + ".join(labels[k] for k in np.flatnonzero(shape)) for shape in self.shapes]


@dataclass(frozen=True, eq=False, kw_only=True)
class ElasticTensorResult(Result):
    """Elastic tensor C_IJKL = dS_IJ/dE_KL of a crystal, in Voigt order xx yy zz yz xz xy.

    Attributes:
        recipe: Name of the recipe.
        elastic_tensor_GPa: C with relaxed ions in GPa, in the frame of the input cell, shape=(6, 6).
        elastic_tensor_clamped_GPa: C with the ions at the affine image of the reference in GPa, shape=(6, 6).
        elastic_tensor_stderr_GPa: Standard error of each component of C in GPa, shape=(6, 6); NaN (null) where the
            series leaves no degree of freedom to tell it.
        elastic_tensor_ieee_GPa: C turned into the IEEE standard orientation in GPa, shape=(6, 6).
        compliance_per_GPa: Inverse of the stress-strain tensor in 1/GPa, shape=(6, 6).
        stress_strain_tensor_GPa: B = d(Cauchy stress)/d(strain) in GPa, shape=(6, 6); C at zero stress.
        third_order_GPa: Third-order constants C_IJK in GPa, shape=(6, 6, 6); None below fit_order 2.
        third_order_stderr_GPa: Their standard errors in GPa, shape=(6, 6, 6).
        bulk_modulus_vrh_GPa: Voigt-Reuss-Hill average in GPa; also `bulk_modulus_voigt_GPa`, `bulk_modulus_reuss_GPa`.
        shear_modulus_vrh_GPa: Voigt-Reuss-Hill average in GPa; also `shear_modulus_voigt_GPa`, `shear_modulus_reuss_GPa`.
        youngs_modulus_vrh_GPa: Young's modulus of the isotropic aggregate in GPa.
        poisson_ratio: Poisson's ratio of the isotropic aggregate.
        universal_anisotropy: A^U = 5 G_V/G_R + K_V/K_R - 6.
        debye_temperature_K: From the averaged sound velocities, in K; None for an unstable crystal.
        born_stable: Whether every eigenvalue of the stress-strain tensor is positive.
        born_conditions: Value of each stability condition in GPa by name.
        born_failing: Names of the conditions that fail.
        residual_stress_GPa: Cauchy stress (tension positive) with relaxed ions before the cell was relaxed, in GPa,
            shape=(3, 3): in the cell of the study; of a defect, in the relaxed cell of the perfect crystal where that was
            computed.
        reference_stress_GPa: Cauchy stress of the reference of the series in GPa, shape=(3, 3).
        cell_A: Cell of the reference, rows in angstrom, shape=(3, 3).
        cell_relaxed: Whether the cell was relaxed before the series.
        elastic_tensor_perfect_GPa: C of the crystal without the defect in GPa, shape=(6, 6); None without a defect.
        elastic_tensor_perfect_stderr_GPa: Its standard errors in GPa, shape=(6, 6).
        elastic_dipole_eV: P_ij = -V (stress of the defect - stress of the perfect crystal) at the perfect crystal's cell
            in eV, shape=(3, 3); positive where the defect pushes outwards. None without a defect.
        elastic_dipole_missing_reason: Why there is none.
        relaxation_volume_A3: Change of volume by the defect at zero stress in angstrom^3: of the relaxed cells, or at
            fixed cell the trace of `relaxation_volume_tensor_A3`.
        relaxation_volume_tensor_A3: S_ijkl P_kl in angstrom^3, shape=(3, 3).
        diaelastic_polarizability_eV: -V (C with defect - C without) in eV (Voigt), shape=(6, 6).
        n_defects_per_site: Concentration: one over the number of sites of the perfect supercell.
        strain_amplitudes: Magnitudes of the amplitudes of the series (Green-Lagrange strain), ascending.
        fit_order: Highest power of the fit.
        nonlinearity_percent: How much a constant changes between the smallest and the largest amplitude, in percent of the
            largest constant; None with one amplitude.
        n_strain_shapes: Number of strain shapes after symmetry.
        n_point_operations: Number of point operations that were used.
        n_force_evaluations: Force evaluations of the whole crystal, everything counted.
        n_qm_calls: Evaluations by the quantum engine, everything counted.
        series: The rows of the series.
        series_perfect: Those of the crystal without the defect, or None.
        n_atoms_host, n_atoms_qm, n_link_atoms: Numbers of atoms.
        coupling, engine, host: Descriptions.
        warnings: What a reader should know.

    Raises:
        ValueError: For arrays that do not fit together, or an absent dipole without a reason.
    """

    UNITS: ClassVar = {"compliance_per_GPa": "1/GPa", "nonlinearity_percent": "%"}

    recipe: str = "elastic_tensor"
    elastic_tensor_GPa: np.ndarray
    elastic_tensor_clamped_GPa: np.ndarray
    elastic_tensor_stderr_GPa: np.ndarray
    elastic_tensor_ieee_GPa: np.ndarray
    stress_strain_tensor_GPa: np.ndarray
    compliance_per_GPa: np.ndarray
    bulk_modulus_vrh_GPa: float
    bulk_modulus_voigt_GPa: float
    bulk_modulus_reuss_GPa: float
    shear_modulus_vrh_GPa: float
    shear_modulus_voigt_GPa: float
    shear_modulus_reuss_GPa: float
    youngs_modulus_vrh_GPa: float
    poisson_ratio: float
    universal_anisotropy: float
    debye_temperature_K: float | None = None
    born_stable: bool
    born_conditions: dict[str, float] = field(default_factory=dict)
    born_failing: list[str] = field(default_factory=list)
    residual_stress_GPa: np.ndarray
    reference_stress_GPa: np.ndarray
    cell_A: np.ndarray
    cell_relaxed: bool
    elastic_tensor_perfect_GPa: np.ndarray | None = None
    elastic_tensor_perfect_stderr_GPa: np.ndarray | None = None
    elastic_dipole_eV: np.ndarray | None = None
    elastic_dipole_missing_reason: str | None = None
    relaxation_volume_A3: float | None = None
    relaxation_volume_tensor_A3: np.ndarray | None = None
    diaelastic_polarizability_eV: np.ndarray | None = None
    n_defects_per_site: float | None = None
    strain_amplitudes: list[float] = field(default_factory=list)
    fit_order: int = 1
    nonlinearity_percent: float | None = None
    n_strain_shapes: int = 0
    n_point_operations: int = 1
    n_force_evaluations: int = 0
    n_qm_calls: int = 0
    defect: str = ""
    n_atoms_host: int
    n_atoms_qm: int = 0
    n_link_atoms: int = 0
    coupling: str = ""
    engine: str = ""
    host: str = ""
    warnings: list[str] = field(default_factory=list)
    third_order_GPa: np.ndarray | None = None
    third_order_stderr_GPa: np.ndarray | None = None
    series: StrainSeries = field(default_factory=StrainSeries)
    series_perfect: StrainSeries | None = None
    reference_structure: dict | None = None

    def __post_init__(self):
        for name in (
            "elastic_tensor_GPa", "elastic_tensor_clamped_GPa", "elastic_tensor_stderr_GPa", "elastic_tensor_ieee_GPa",
            "stress_strain_tensor_GPa", "compliance_per_GPa", "elastic_tensor_perfect_GPa",
            "elastic_tensor_perfect_stderr_GPa", "diaelastic_polarizability_eV",
        ):  # fmt: skip
            set_array(self, name, shape=(6, 6))
        for name in (
            "residual_stress_GPa", "reference_stress_GPa", "cell_A", "elastic_dipole_eV", "relaxation_volume_tensor_A3",
        ):  # fmt: skip
            set_array(self, name, shape=(3, 3))
        for name in ("third_order_GPa", "third_order_stderr_GPa"):
            set_array(self, name, shape=(6, 6, 6))
        require_reason(self, "elastic_dipole_eV", "elastic_dipole_missing_reason", default="there is no defect")

    @property
    def elastic_tensor(self):
        """C in GPa as pymatgen's ElasticTensor, in the frame of the input cell."""
        return _pymatgen(self.elastic_tensor_GPa)

    @property
    def elastic_tensor_perfect(self):
        """C of the perfect crystal in GPa as pymatgen's ElasticTensor, or None."""
        return None if self.elastic_tensor_perfect_GPa is None else _pymatgen(self.elastic_tensor_perfect_GPa)

    def summary(self) -> list[tuple[str, str]]:
        """Rows of label and value for a table."""
        quantum = f"{self.n_atoms_qm} and {self.n_link_atoms} link atoms" if self.n_atoms_qm else ""
        quantum = quantum if self.host else "all"
        rows = [
            ("defect", self.defect),
            ("atoms", str(self.n_atoms_host)),
            ("quantum atoms", quantum),
            ("host", self.host),
            ("engine", self.engine),
            ("coupling", self.coupling),
        ]
        rows += self._constants()
        rows += [
            ("bulk modulus", f"{self.bulk_modulus_vrh_GPa:.2f} GPa (Voigt-Reuss-Hill)"),
            ("shear modulus", f"{self.shear_modulus_vrh_GPa:.2f} GPa (Voigt-Reuss-Hill)"),
            ("Poisson's ratio", f"{self.poisson_ratio:.4f}"),
            ("anisotropy A^U", f"{self.universal_anisotropy:.4f}"),
            ("Debye temperature", "" if self.debye_temperature_K is None else f"{self.debye_temperature_K:.0f} K"),
            ("Born stability", "stable" if self.born_stable else f"unstable: {', '.join(self.born_failing)}"),
            ("residual stress", f"{_pressure_and_shear(self.residual_stress_GPa)}{', then relaxed' * self.cell_relaxed}"),
        ]
        if self.defect:
            dipole = self.elastic_dipole_eV
            trace = None if dipole is None else float(np.trace(dipole))
            rows.append(("elastic dipole", or_reason(trace, "eV (trace)", self.elastic_dipole_missing_reason, digits=4)))
        if self.relaxation_volume_A3 is not None:
            rows.append(("relaxation volume", f"{self.relaxation_volume_A3:+z.3f} A^3"))
        if self.nonlinearity_percent is not None:
            rows.append(("nonlinearity", f"{self.nonlinearity_percent:.2g} % over the amplitudes"))
        rows.append(
            (
                "cost",
                f"{self.n_strain_shapes} strain shape{'s' * (self.n_strain_shapes > 1)}, "
                f"{self.n_force_evaluations} force evaluations"
                + (f", {self.n_qm_calls} quantum calls" if self.engine else ""),
            )
        )
        rows += [("warning", text) for text in self.warnings]
        return [(label, value) for label, value in rows if value]

    def _constants(self) -> list[tuple[str, str]]:
        """Those constants that differ, relaxed with their error, clamped, and without the defect."""
        C, error = self.elastic_tensor_GPa, self.elastic_tensor_stderr_GPa
        perfect = self.elastic_tensor_perfect_GPa
        rows, seen = [], []
        for i, j in combinations_with_replacement(range(6), 2):
            value, kind = float(C[i, j]), (i == j, i < 3, j < 3)
            # Equal by symmetry, not by chance: C12 = C44 under central forces are two constants.
            known = any(abs(value - old) < 1e-4 * C.max() and kind == other for old, other in seen)
            if abs(value) < 1e-3 * C.max() or known:
                continue
            seen.append((value, kind))
            spread = f" +- {error[i, j]:.2g}" if np.isfinite(error[i, j]) else ""
            text = f"{value:.3f}{spread} GPa; clamped ions {self.elastic_tensor_clamped_GPa[i, j]:.3f}"
            if perfect is not None:
                text += f"; perfect crystal {perfect[i, j]:.3f}"
            rows.append((f"C{i + 1}{j + 1}", text))
        return rows


def _pymatgen(tensor):
    from pymatgen.analysis.elasticity import ElasticTensor

    return ElasticTensor.from_voigt(np.array(tensor))


def _pressure_and_shear(stress) -> str:
    pressure = round(float(-np.trace(stress) / 3), 4) + 0.0  # no minus sign on zero
    deviator = np.abs(stress + pressure * np.eye(3)).max()
    return f"pressure {pressure:.4f} GPa" + (f", deviator up to {deviator:.4f} GPa" if deviator > 5e-5 else "")
