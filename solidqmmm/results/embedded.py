"""What results say about a quantum cluster among the charges of its crystal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solidqmmm.results.base import Result
from solidqmmm.results.fields import set_array


@dataclass(frozen=True, eq=False, kw_only=True)
class EmbeddedResult(Result):
    """Fields that results of additive couplings share; None with other couplings.

    Attributes:
        region_charge_e: Charge of the quantum cluster in e.
        dipoles_e_A: Induced dipoles of the host's particles in e angstrom, shape=(n, 3).
        scf_iterations: Iterations of the engine's self-consistency at the last evaluation.
        region_potential_rms_error_eV: Error of the crystal's potential in the region, per unit charge, against Ewald sums.
        boundary_balance_e: Charge that the atoms beside link atoms are given in the eyes of the quantum electrons, so that
            the crystal around the cluster has the charge that the cluster leaves it.
        boundary_charge_e: Charge of the atoms beside link atoms, which the quantum electrons are shown elsewhere.
        lost_charge_e: What they are not shown at all (`boundary_charges: delete`); 0 with the other schemes.
        spill_out_e: Electrons of the cluster within 1 angstrom of cations outside it.
    """

    region_charge_e: float | None = None
    dipoles_e_A: np.ndarray | None = None
    scf_iterations: int | None = None
    region_potential_rms_error_eV: float | None = None
    boundary_balance_e: float | None = None
    boundary_charge_e: float | None = None
    lost_charge_e: float | None = None
    spill_out_e: float | None = None

    def __post_init__(self):
        set_array(self, "dipoles_e_A", shape=(-1, 3))

    def embedding_rows(self) -> list[tuple[str, str]]:
        """Rows of label and value for a table, of what there is."""
        rows = []
        if self.region_charge_e is not None:
            rows.append(("charge of the cluster", f"{self.region_charge_e:+g} e"))
        if self.dipoles_e_A is not None:
            largest = np.linalg.norm(self.dipoles_e_A, axis=1).max(initial=0.0)
            rows.append(("largest induced dipole", f"{largest:.4f} e angstrom"))
        if self.scf_iterations is not None:
            rows.append(("iterations of the SCF", str(self.scf_iterations)))
        if self.region_potential_rms_error_eV is not None:
            error = 1e3 * self.region_potential_rms_error_eV
            rows.append(("error of the potential", f"{error:.2g} meV (RMS in the region)"))
        if self.boundary_balance_e:
            rows.append(("given to atoms beside link atoms", f"{self.boundary_balance_e:+.4g} e"))
        if self.boundary_charge_e is not None:
            lost = f", {self.lost_charge_e:+.4g} e lost" if self.lost_charge_e else ""
            rows.append(("charge beside link atoms", f"{self.boundary_charge_e:+.4g} e moved{lost}"))
        if self.spill_out_e is not None:
            rows.append(("electrons on outer cations", f"{self.spill_out_e:.4f}"))
        return rows
