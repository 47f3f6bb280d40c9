"""The shell of an ion: a charge on a spring, whose displacement is the ion's dipole.

    E = k d^2 / 2 + k4 d^4 / 24,    alpha = charge^2 / (4 pi eps0 k)  for the free ion

B. G. Dick and A. W. Overhauser, Phys. Rev. 112, 90 (1958).
"""

from __future__ import annotations

from dataclasses import dataclass

from ase.data import atomic_numbers


@dataclass(frozen=True)
class Shell:
    """The shells of one element.

    Attributes:
        element: Chemical symbol of the ions that have them.
        charge: Charge of the shell in e; the core carries what it lacks to the charge of the ion.
        spring: k in eV/angstrom^2.
        quartic: k4 in eV/angstrom^4.

    Raises:
        ValueError: For an unknown element, a shell without charge, or a spring that does not hold it.
    """

    element: str
    charge: float
    spring: float
    quartic: float = 0.0

    def __post_init__(self):
        if self.element not in atomic_numbers:
            raise ValueError(f"`shells` must name chemical symbols, got {self.element!r}")
        for name in ("charge", "spring", "quartic"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if self.charge == 0.0:
            raise ValueError(f"the shell of {self.element} needs a `charge` (e) that is not zero")
        if not self.spring > 0 or self.quartic < 0:
            raise ValueError(
                f"the shell of {self.element} needs a positive `spring` (eV/A^2) and a `quartic` (eV/A^4) that is not "
                f"negative, got {self.spring:g} and {self.quartic:g}"
            )

    @property
    def label(self) -> str:
        """Name of its LAMMPS atom type: "O_shell"."""
        return f"{self.element}_shell"
