"""Who is bonded to whom: pair cutoffs, and the bonds of a neighbourhood without a list over the whole crystal."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from ase.data import atomic_numbers, chemical_symbols, covalent_radii

from solidqmmm.physics.geometry import unwrapped
from solidqmmm.system.crystal import Crystal

# Covalent radii overestimate cation-cation contacts of ionic crystals: with an anion at least as electronegative as this
# (Pauling; C 2.55, S 2.58, N, O, halogens) two metals are never bonded to each other.
_ANION_ELECTRONEGATIVITY = 2.5


@dataclass(frozen=True)
class BondRules:
    """Two atoms are bonded below `scale` times the sum of their covalent radii, or below an explicit cutoff.

    Attributes:
        scale: Factor on the sum of covalent radii (B. Cordero et al., Dalton Trans. 2832 (2008)).
        cutoffs: Explicit cutoffs in angstrom by pair, such as {"Si-O": 2.0}.

    Raises:
        ValueError: For a scale that is not positive, or a cutoff that is not given by a pair of elements.
    """

    scale: float = 1.2
    cutoffs: dict = field(default_factory=dict)

    def __post_init__(self):
        if self.scale <= 0:
            raise ValueError(f"`scale` of the bond rules must be positive, got {self.scale}")
        for pair in self.cutoffs:
            names = str(pair).split("-")
            if len(names) != 2 or any(name not in atomic_numbers for name in names):
                raise ValueError(f"bond cutoffs are given by pairs such as 'Si-O', got {pair!r}")

    def with_substitute(self, element: str, replaced: str, species) -> BondRules:
        """With `element` bonded to whatever `replaced` is bonded to: on its site a small atom is far from its neighbours.

        Args:
            element: The substituting species.
            replaced: The species whose sites it takes.
            species: All species of the crystal.
        """
        new, old = atomic_numbers[element], atomic_numbers[replaced]
        table = self.matrix([new, old, *(atomic_numbers[symbol] for symbol in species)])
        inherited = {}
        for symbol in species:
            z = atomic_numbers[symbol]
            if table[old, z] > table[new, z] and not {f"{element}-{symbol}", f"{symbol}-{element}"} & set(self.cutoffs):
                inherited[f"{element}-{symbol}"] = float(table[old, z])
        return BondRules(self.scale, {**self.cutoffs, **inherited})

    def matrix(self, numbers) -> np.ndarray:
        """Cutoffs in angstrom by pair of atomic numbers, shape=(Z_max + 1, Z_max + 1); 0 where never bonded."""
        present = np.unique(numbers)
        table = np.zeros((present.max() + 1,) * 2)
        ionic = any(_electronegativity(z) >= _ANION_ELECTRONEGATIVITY for z in present)
        for a in present:
            for b in present:
                if not (ionic and _is_metal(a) and _is_metal(b)):
                    table[a, b] = self.scale * (covalent_radii[a] + covalent_radii[b])
        for pair, cutoff in self.cutoffs.items():
            a, b = (atomic_numbers[name] for name in pair.split("-"))
            if max(a, b) < len(table):
                table[a, b] = table[b, a] = cutoff
        return table


def _element(z):
    from pymatgen.core import Element

    return Element(chemical_symbols[z])


def _electronegativity(z) -> float:
    value = _element(z).X
    return value if np.isfinite(value) else 0.0


def _is_metal(z) -> bool:
    return _element(z).is_metal


@dataclass(frozen=True, eq=False)
class Bonds:
    """Bonds i -> j, each listed in both directions.

    Attributes:
        i, j: Atom indices in the crystal, shape=(n,).
        vector: From i to the bonded image of j in angstrom, shape=(n, 3).
    """

    i: np.ndarray
    j: np.ndarray
    vector: np.ndarray

    def of(self, atoms) -> Bonds:
        """Those that start at one of `atoms`."""
        keep = np.isin(self.i, atoms)
        return Bonds(self.i[keep], self.j[keep], self.vector[keep])


def neighbourhood(crystal: Crystal, points, reach: float) -> np.ndarray:
    """Indices of all atoms within `reach` (angstrom) of the parallelepiped around `points`; one O(N) pass.

    Args:
        crystal: The crystal.
        points: Positions in angstrom that hang together (unwrapped), shape=(k, 3).
        reach: Margin in angstrom.
    """
    inverse = np.linalg.inv(crystal.cell)
    s = np.atleast_2d(points) @ inverse
    low, high = s.min(axis=0), s.max(axis=0)
    middle, half = 0.5 * (low + high), 0.5 * (high - low) + reach / crystal.widths
    offset = crystal.positions @ inverse
    offset -= middle
    offset -= np.rint(offset) * crystal.pbc
    return np.flatnonzero((np.abs(offset) <= half).all(axis=1))


def pairs_within(crystal: Crystal, subset, cutoff) -> Bonds:
    """Pairs among `subset` below `cutoff`: a number in angstrom or a matrix by atomic numbers; any cell, all images."""
    from matscipy.neighbours import neighbour_list

    subset = np.asarray(subset)
    table = np.asarray(cutoff, dtype=float)
    reach = float(table.max())
    if len(subset) == 0 or reach <= 0:
        return Bonds(np.empty(0, int), np.empty(0, int), np.empty((0, 3)))
    i, j, vector, distance = neighbour_list(
        "ijDd",
        positions=np.ascontiguousarray(crystal.positions[subset]),
        cell=np.array(crystal.cell),
        pbc=np.array(crystal.pbc),
        cutoff=reach,
    )
    if table.ndim == 2:
        keep = distance < table[crystal.numbers[subset[i]], crystal.numbers[subset[j]]]
        i, j, vector = i[keep], j[keep], vector[keep]
    return Bonds(subset[i], subset[j], vector)


def local_bonds(crystal: Crystal, atoms, rules: BondRules, *, hops: int = 1) -> Bonds:
    """All bonds among the atoms within `hops` bonds of `atoms` (and some beyond).

    Args:
        crystal: The crystal.
        atoms: Indices of the atoms to start from.
        rules: Who is bonded.
        hops: How many bonds outward the list must be complete.
    """
    table = rules.matrix(crystal.numbers)
    atoms = np.asarray(atoms, dtype=int)
    points = unwrapped(crystal.positions[atoms], crystal.positions[atoms[0]], crystal.cell, crystal.pbc)
    return pairs_within(crystal, neighbourhood(crystal, points, (hops + 0.01) * table.max()), table)
