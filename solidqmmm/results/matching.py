"""How far the engine's crystal and the host's agree, and the map from one to the other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from solidqmmm.results.base import Result
from solidqmmm.results.fields import require_reason, set_array


@dataclass(frozen=True, eq=False, kw_only=True)
class MatchingResult(Result):
    """Lattice and elasticity of the two descriptions of the perfect crystal.

    The engine is evaluated at x A and its energy is multiplied by `energy_scale`, so that lattice and bulk
    modulus are the host's; the moduli given here are those before that scaling.

    Attributes:
        lattice_host_A: The host's relaxed cell vectors as rows in angstrom, shape=(3, 3).
        lattice_engine_A: The engine's in angstrom, shape=(3, 3).
        stretch: A, with lattice_engine = lattice_host A, shape=(3, 3).
        energy_scale: Factor on the engine's energy that makes the bulk moduli equal.
        bulk_modulus_host_GPa: Bulk modulus of the host in GPa.
        bulk_modulus_engine_GPa: Bulk modulus of the engine in GPa.
        elastic_tensor_host_GPa: Elastic tensor (Voigt) of the host in GPa, shape=(6, 6), or None.
        elastic_tensor_engine_GPa: The engine's in GPa, shape=(6, 6), or None.
        elastic_missing_reason: Why one of them is absent.
        energy_per_atom_host_eV: Energy of the host's relaxed crystal in eV/atom.
        energy_per_atom_engine_eV: Energy of the engine's relaxed crystal in eV/atom.
        percent: Difference of each quantity, 100 (engine - host) / host; worked out here unless it is given.
        warnings: Mismatches above the stated limit.

    Raises:
        ValueError: For arrays of another shape.
    """

    UNITS: ClassVar = {
        "percent": "%",
        "energy_per_atom_host_eV": "eV/atom",
        "energy_per_atom_engine_eV": "eV/atom",
    }

    lattice_host_A: np.ndarray
    lattice_engine_A: np.ndarray
    stretch: np.ndarray = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    energy_scale: float = 1.0
    bulk_modulus_host_GPa: float | None = None
    bulk_modulus_engine_GPa: float | None = None
    elastic_tensor_host_GPa: np.ndarray | None = None
    elastic_tensor_engine_GPa: np.ndarray | None = None
    elastic_missing_reason: str | None = None
    energy_per_atom_host_eV: float | None = None
    energy_per_atom_engine_eV: float | None = None
    percent: dict[str, float] = field(default_factory=dict)
    engine: str = ""
    host: str = ""
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self):
        for name in ("lattice_host_A", "lattice_engine_A", "stretch"):
            set_array(self, name, shape=(3, 3))
        for name in ("elastic_tensor_host_GPa", "elastic_tensor_engine_GPa"):
            set_array(self, name, shape=(6, 6))
        if self.elastic_tensor_host_GPa is None or self.elastic_tensor_engine_GPa is None:
            if self.elastic_missing_reason is None:
                object.__setattr__(self, "elastic_missing_reason", "not computed")
        else:
            require_reason(self, "elastic_tensor_engine_GPa", "elastic_missing_reason")
        if not self.percent:
            pairs = self.pairs().items()
            percent = {label: 100 * (engine - host) / host for label, (host, engine) in pairs if host}
            object.__setattr__(self, "percent", percent)

    def pairs(self) -> dict[str, tuple[float, float]]:
        """Value of the host and of the engine for each quantity that both have: a, b, c in angstrom, B and C
        in GPa.

        Equal lattice lengths appear once, as do C22, C33 ... where they equal C11 (cubic crystals).
        """
        found = {}
        lengths = [np.linalg.norm(cell, axis=1) for cell in (self.lattice_host_A, self.lattice_engine_A)]
        for k, label in enumerate("abc"):
            if k and all(np.allclose(length[k], length[:k], rtol=1e-4) for length in lengths):
                continue
            found[label] = (float(lengths[0][k]), float(lengths[1][k]))
        if self.bulk_modulus_host_GPa is not None and self.bulk_modulus_engine_GPa is not None:
            found["B"] = (self.bulk_modulus_host_GPa, self.bulk_modulus_engine_GPa)
        host, engine = self.elastic_tensor_host_GPa, self.elastic_tensor_engine_GPa
        if host is not None and engine is not None:
            for i, j in _distinct_constants(host, engine):
                found[f"C{i + 1}{j + 1}"] = (float(host[i, j]), float(engine[i, j]))
        return found

    def percent_matched(self) -> dict[str, float]:
        """`percent` as matching leaves it: lattice and bulk modulus agree, C becomes C B_host / B_engine."""
        if self.bulk_modulus_host_GPa is None or self.bulk_modulus_engine_GPa is None:
            return {}
        scale = self.bulk_modulus_host_GPa / self.bulk_modulus_engine_GPa
        return {
            label: 100 * (scale * engine / host - 1) if label.startswith("C") else 0.0
            for label, (host, engine) in self.pairs().items()
            if host
        }

    def summary(self) -> list[tuple[str, str]]:
        """Rows of label and value for a table."""
        rows = []
        for label, (host, engine) in self.pairs().items():
            unit = "A" if label in "abc" else "GPa"
            off = f" ({self.percent[label]:+.2f} %)" if label in self.percent else ""
            rows.append((label, f"host {host:.4g}, engine {engine:.4g} {unit}{off}"))
        rows.append(("energy scale", f"{self.energy_scale:.6f}"))
        if self.elastic_missing_reason:
            rows.append(("elastic tensor", f"none ({self.elastic_missing_reason})"))
        return rows + [("warning", text) for text in self.warnings]


def _distinct_constants(*tensors) -> list[tuple[int, int]]:
    """C11, C12, C44 for cubic crystals; otherwise the whole diagonal and the upper left block."""
    blocks = (((0, 0), (1, 1), (2, 2)), ((0, 1), (0, 2), (1, 2)), ((3, 3), (4, 4), (5, 5)))
    cubic = all(
        np.ptp([tensor[index] for index in block]) < 0.02 * abs(tensor[0, 0])
        for tensor in tensors
        for block in blocks
    )
    return [block[0] for block in blocks] if cubic else [index for block in blocks for index in block]
