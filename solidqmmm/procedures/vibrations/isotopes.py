"""Isotopes: what a study says of masses, and the masses of atoms that follow.

    {C: 13}                                      every carbon atom; 13 is a mass number, 13.00335 a mass in amu
    {Si: {mass: 30, sites: [0, 5]}}              only these atoms of the supercell with the defect
    {Si: [28, {mass: 30, sites: [0, 5]}]}        these atoms, and all others of the element
    {C: {mass: 13, sites: defect}}               the defect's own atom; sites: core means the core's atoms of the element

An isotope of a whole element is one of the host as well: of its bands, its Green's function, its thermodynamics. On named
sites it is part of the defect, and the host keeps the mass that the element has elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from ase.data import atomic_masses, atomic_numbers, chemical_symbols

PLACES = ("core", "defect")
_EXAMPLE = "{mass: 30, sites: [0, 5]}"


@dataclass(frozen=True)
class NamedIsotope:
    """One mass on some atoms of an element.

    Attributes:
        element: Chemical symbol.
        mass: In amu.
        sites: Indices in the supercell with the defect, or one of `PLACES`.
    """

    element: str
    mass: float
    sites: tuple[int, ...] | str

    @property
    def label(self) -> str:
        """Which sites these are, in words."""
        if isinstance(self.sites, str):
            return self.sites
        many = len(self.sites) > 4
        shown = ", ".join(map(str, self.sites[:4])) + (", ..." if many else "")
        return f"site{'s' if len(self.sites) > 1 else ''} {shown}"


@dataclass(frozen=True)
class Isotopes:
    """Masses that are not the natural ones.

    Attributes:
        everywhere: Mass in amu of all atoms of an element that are not named, by symbol.
        named: Groups of atoms that have their own.
    """

    everywhere: dict[str, float] = field(default_factory=dict)
    named: tuple[NamedIsotope, ...] = ()

    @classmethod
    def read(cls, given: dict | None) -> Isotopes:
        """What a study says, by element (see the top of this file).

        Raises:
            ValueError: For an unknown element or isotope, a mass that no isotope of the element has, a group without mass or
                sites, a site that is named twice.
        """
        everywhere, named = {}, []
        for element, said in (given or {}).items():
            if element not in atomic_numbers or element == "X":
                raise ValueError(f"isotopes: expected chemical symbols, got {element!r}")
            parts = said if isinstance(said, list | tuple) else [said]
            plain = [part for part in parts if not isinstance(part, dict)]
            if len(plain) > 1 or not parts:
                raise ValueError(
                    f"isotopes: {element} needs one mass for all its atoms, groups such as {_EXAMPLE}, or both, got {said!r}"
                )
            everywhere.update((element, _mass(element, part)) for part in plain)
            named += [_group(element, part) for part in parts if isinstance(part, dict)]
        _require_different(named)
        return cls(everywhere, tuple(named))

    def located(self, numbers, *, core=(), own: int | None = None) -> Isotopes:
        """The same with 'core' and 'defect' as indices, checked against the crystal.

        Args:
            numbers: Atomic numbers of the crystal with the defect, shape=(n,).
            core: Its core's atoms.
            own: Index of the defect's own atom, None without one.

        Raises:
            ValueError: For elements and sites that the crystal does not have, for sites of another element or named twice.
        """
        numbers = np.asarray(numbers)
        present = sorted({chemical_symbols[z] for z in np.unique(numbers)})
        for element in [*self.everywhere, *(group.element for group in self.named)]:
            if element not in present:
                raise ValueError(f"isotopes: there is no {element} in this crystal of {', '.join(present)}")
        found = []
        for group in self.named:
            sites = group.sites
            if sites == "defect" and own is None:
                raise ValueError(
                    f"isotopes: {group.element} with sites: defect needs a defect with an atom of its own (a substitution "
                    "or an interstitial); name indices instead, such as sites: [0, 5]"
                )
            if sites == "defect":
                sites = (own,)
            elif sites == "core":
                sites = tuple(int(i) for i in np.sort(core) if numbers[i] == atomic_numbers[group.element])
                if not sites:
                    raise ValueError(f"isotopes: the core has no atom of {group.element}")
            found.append(NamedIsotope(group.element, group.mass, sites))
            _require_of_element(group.element, sites, numbers)
        _require_different(found)
        return Isotopes(self.everywhere, tuple(found))

    def masses(self, numbers) -> np.ndarray:
        """Masses of atoms in amu, natural ones (ASE's table) but for those that are given, shape=(n,).

        Sites count in `numbers`; they must be indices (`located`).
        """
        table = atomic_masses.copy()
        for element, mass in self.everywhere.items():
            table[atomic_numbers[element]] = mass
        masses = table[np.asarray(numbers)]
        for group in self.named:
            masses[list(group.sites)] = group.mass
        return masses

    def of_elements(self, symbols) -> dict[str, float]:
        """Masses in amu of elements, named sites left aside."""
        return {symbol: self.everywhere.get(symbol, float(atomic_masses[atomic_numbers[symbol]])) for symbol in symbols}

    def one_by_one(self, numbers) -> Iterator[tuple[str, np.ndarray, Isotopes]]:
        """Each isotope by itself: a label, the indices of its atoms, shape=(m,), and all the others without it.

        An element's isotope leaves its natural mass behind, that of named sites the mass that the element has elsewhere.
        """
        masses, numbers = self.masses(numbers), np.asarray(numbers)
        taken = [site for group in self.named for site in group.sites]
        requests = [(element, None) for element in self.everywhere] + [(g.element, g) for g in self.named]
        for element, group in requests:
            if group is None:
                atoms = np.setdiff1d(np.flatnonzero(numbers == atomic_numbers[element]), taken)
                without = Isotopes({k: v for k, v in self.everywhere.items() if k != element}, self.named)
            else:
                atoms = np.array(group.sites, dtype=int)
                without = Isotopes(self.everywhere, tuple(other for other in self.named if other is not group))
            if len(atoms):
                before = without.masses(numbers)[atoms[0]]
                where = "" if group is None else f" ({group.label})"
                yield f"{element} {before:.3f} -> {masses[atoms[0]]:.3f} amu{where}", atoms, without


# --- reading ------------------------------------------------------------------------------------------------------


def _mass(element: str, given) -> float:
    from phonopy.structure.atomic_data import get_atomic_data

    if isinstance(given, bool) or not isinstance(given, int | float):
        raise ValueError(
            f"isotopes: {element} needs a mass number, a mass in amu or a group such as {_EXAMPLE}, got {given!r}"
        )
    known = {number: mass for number, mass, _ in get_atomic_data().isotope_data.get(element, ())}
    if isinstance(given, int) and given not in known:
        raise ValueError(
            f"isotopes: {element}-{given} is not in the table; known are {sorted(known)}, or give a mass in amu"
        )
    mass = float(known[given] if isinstance(given, int) else given)
    if not 0.1 < mass / atomic_masses[atomic_numbers[element]] < 4:  # muonium is 0.11 of hydrogen
        raise ValueError(f"isotopes: a mass of {mass:g} amu for {element} is no isotope of it")
    return mass


def _group(element: str, given: dict) -> NamedIsotope:
    if set(given) != {"mass", "sites"}:
        raise ValueError(f"isotopes: a group of {element} needs `mass` and `sites`, such as {_EXAMPLE}, got {given!r}")
    sites = given["sites"]
    if isinstance(sites, str) and sites in PLACES:
        return NamedIsotope(element, _mass(element, given["mass"]), sites)
    indices = sites if isinstance(sites, list | tuple) else ()
    if not indices or not all(type(site) is int and site >= 0 for site in indices):
        raise ValueError(
            f"isotopes: `sites` of {element} must be atoms of the supercell such as [0, 5], or 'core' or 'defect', got "
            f"{sites!r}"
        )
    return NamedIsotope(element, _mass(element, given["mass"]), tuple(indices))


def _require_different(groups):
    seen = set()
    for group in groups:
        for site in () if isinstance(group.sites, str) else group.sites:
            if site in seen:
                raise ValueError(f"isotopes: site {site} is named twice; name it in one group only")
            seen.add(site)


def _require_of_element(element: str, sites, numbers):
    for site in sites:
        if site >= len(numbers):
            raise ValueError(
                f"isotopes: there is no site {site}: the supercell with the defect has the atoms 0 to {len(numbers) - 1}"
            )
        if numbers[site] != atomic_numbers[element]:
            own = np.flatnonzero(numbers == atomic_numbers[element])
            shown = ", ".join(map(str, own[:5])) + (", ..." if len(own) > 5 else "")
            raise ValueError(
                f"isotopes: site {site} is {chemical_symbols[numbers[site]]}, not {element}; atoms of {element} are {shown}"
            )
