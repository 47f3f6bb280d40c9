"""Rules for the cut bonds."""

from __future__ import annotations

from dataclasses import dataclass, field

from ase.data import atomic_numbers, covalent_radii

# Bond lengths in angstrom of the saturated hydrides (CRC Handbook of Chemistry and Physics, gas phase).
_HYDRIDE_LENGTHS = {
    "B": 1.19, "C": 1.09, "N": 1.01, "O": 0.96, "F": 0.92,
    "Al": 1.60, "Si": 1.48, "P": 1.42, "S": 1.34, "Cl": 1.27, "Ge": 1.53, "As": 1.51, "Se": 1.46, "Sn": 1.71,
}  # fmt: skip

CLASHING = ("include", "keep", "error")


@dataclass(frozen=True)
class CapRules:
    """How cut bonds are closed.

    Attributes:
        kind: "hydrogen", "fractional" (pseudo-hydrogens whose nuclear charge balances the bond in polar crystals), a
            chemical symbol, or "none" (bare clusters: metals, or a thick buffer).
        length: Cap bond length in angstrom: one number, or by element of the quantum atom; measured hydride lengths or
            covalent radii otherwise.
        ratio: Fixed ratio g of the cut bond instead of a fixed length.
        clashing: What happens where two or more caps stand for the same removed atom: "include" makes that atom quantum
            (default), "keep" leaves both caps, "error" refuses.
        whole_coordination: Elements whose atoms must keep all their bonded neighbours when they are quantum: with
            ["Si"] silica is cut at oxygen only.
        even_electrons: Drop the cap that is farthest from the core where the number of electrons is odd.
        vacuum: Empty space around an isolated cluster in angstrom.

    Raises:
        ValueError: For an unknown kind or way out of clashes, a length beside a ratio, or a value out of range.
    """

    kind: str = "hydrogen"
    length: float | dict | None = None
    ratio: float | None = None
    clashing: str = "include"
    whole_coordination: tuple[str, ...] = field(default=())
    even_electrons: bool = False
    vacuum: float = 5.0

    def __post_init__(self):
        object.__setattr__(self, "whole_coordination", tuple(self.whole_coordination or ()))
        if self.kind not in ("hydrogen", "fractional", "none") and self.kind not in atomic_numbers:
            raise ValueError(
                f"`kind` of the caps must be hydrogen, fractional, none or a chemical symbol, got {self.kind!r}"
            )
        if self.clashing not in CLASHING:
            raise ValueError(f"`clashing` must be one of {CLASHING}, got {self.clashing!r}")
        if self.ratio is not None and not 0 < self.ratio < 1.5:
            raise ValueError(f"`ratio` of a cap must lie between 0 and 1.5, got {self.ratio}")
        if self.ratio is not None and self.length is not None:
            raise ValueError("a cap has either a fixed `length` or a fixed `ratio`, not both")
        if self.vacuum <= 0:
            raise ValueError(f"`vacuum` must be positive (angstrom), got {self.vacuum}")
        unknown = [name for name in self.whole_coordination if name not in atomic_numbers]
        if unknown:
            raise ValueError(f"`whole_coordination` lists elements, got {', '.join(map(str, unknown))}")

    @property
    def element(self) -> str | None:
        """Chemical symbol of the cap, None for bare clusters."""
        return {"hydrogen": "H", "fractional": "H", "none": None}.get(self.kind, self.kind)

    def length_for(self, symbol: str) -> float:
        """Fixed length of a cap on an atom `symbol`, in angstrom."""
        if isinstance(self.length, dict) and symbol in self.length:
            return float(self.length[symbol])
        if self.length is not None and not isinstance(self.length, dict):
            return float(self.length)
        if self.element == "H" and symbol in _HYDRIDE_LENGTHS:
            return _HYDRIDE_LENGTHS[symbol]
        return float(covalent_radii[atomic_numbers[symbol]] + covalent_radii[atomic_numbers[self.element]])
