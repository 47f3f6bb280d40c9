"""The hybrid crystal, alive: a host with its correction attached. LAMMPS drives it."""

from __future__ import annotations

import numpy as np

from solidqmmm.engines.closing import Closing
from solidqmmm.engines.lammps_host import Correction, LammpsHost
from solidqmmm.engines.protocols import Contribution
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.partition import Partition
from solidqmmm.system.potential import Potential


class QMMM(Closing):
    """Host, partition and coupling in one object; a context manager.

    Args:
        crystal: The whole crystal.
        potential: Its interatomic potential.
        coupling: The correction, or None for the host alone.
        partition: Labels of the atoms; all host by default. Frozen atoms never move.
        log: File for LAMMPS's log, or None.

    Raises:
        EngineError: If LAMMPS refuses the potential or the crystal.
    """

    def __init__(
        self,
        crystal: Crystal,
        potential: Potential,
        coupling: Correction | None = None,
        *,
        partition: Partition | None = None,
        log=None,
    ):
        self.partition = partition or Partition(np.zeros(len(crystal), dtype=np.int8))
        self.coupling = coupling
        # An additive coupling takes its atoms out of the host's own pair and Coulomb sums.
        excluded = getattr(coupling, "excluded", ())
        self.host = LammpsHost(crystal, potential, frozen=self.partition.frozen, excluded=excluded, log=log)
        if coupling is not None:
            self.host.attach(coupling)

    def close(self):
        """Closes LAMMPS; engines belong to whoever made them."""
        self.host.close()

    def __len__(self):
        return len(self.host)

    # --- the answers --------------------------------------------------------------------------------------------

    @property
    def has_energy(self) -> bool:
        """Whether the forces are the gradient of an energy."""
        return self.coupling is None or self.coupling.has_energy

    @property
    def energy_missing_reason(self) -> str | None:
        """Why there is no energy, or None where there is one."""
        if self.has_energy:
            return None
        return f"the coupling '{self.coupling.name}' has forces that are not the gradient of an energy"

    def contribution(self) -> Contribution | None:
        """What the correction gives at the present positions."""
        if self.coupling is None:
            return None
        self.host.evaluate()
        return self.host.contribution()

    def energy(self) -> float | None:
        """Total energy in eV; None where the coupling has none."""
        return self.host.energy() if self.has_energy else None

    def energy_terms(self) -> dict[str, float]:
        """The parts of the energy in eV: `mm` for the whole crystal, and those of the coupling."""
        if self.coupling is None:
            return {"mm": self.host.energy()}
        if not self.has_energy:
            return {}
        given = self.contribution()
        terms = {"mm": self.host.energy() - given.energy, **given.terms}
        if len(self.host.excluded):
            terms["qm_mm_short_range"] = self.host.excluded_pair_energy()
            terms["mm"] -= terms["qm_mm_short_range"]
        return terms

    def embedding(self) -> dict:
        """What an additive coupling says about its cluster among the crystal's charges (`results.embedded`); else empty."""
        report = getattr(self.coupling, "report", None)
        if report is None:
            return {}
        self.host.evaluate()
        return report()

    def forces(self) -> np.ndarray:
        """Total forces in eV/angstrom, zero on frozen atoms, shape=(n, 3)."""
        return self.host.forces()

    def stress(self) -> np.ndarray | None:
        """Cauchy stress in eV/angstrom^3, tension positive, shape=(3, 3); None where the coupling has none."""
        if self.stress_missing_reason is not None:
            return None
        return self.host.stress()

    @property
    def stress_missing_reason(self) -> str | None:
        """Why there is no stress, or None where there is one."""
        if self.coupling is None:
            return None
        if not self.has_energy:
            return f"the coupling '{self.coupling.name}' has no energy, and so no virial"
        if self.contribution().virial is None:
            if len(self.host.excluded):
                return f"the coupling '{self.coupling.name}' has no virial"
            return "the engine of this periodic cluster gives no stress"
        return None

    def largest_force(self) -> tuple[float, int]:
        """Norm of the largest force in eV/angstrom, and the atom it acts on."""
        norms = np.linalg.norm(self.forces(), axis=1)
        atom = int(norms.argmax())
        return float(norms[atom]), atom
