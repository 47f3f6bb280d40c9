"""Charges beside cut bonds, moved away from the link atoms that they would polarize too much.

A bond X-Y is cut, X quantum and capped, Y classical with charge q and n classical neighbours Z. What the quantum region is
shown of Y:

    delete   nothing (the scheme Z1)
    rc       redistributed charge: q/n at the midpoint (Y + Z)/2 of every bond Y-Z
    rcd      redistributed charge and dipole: 2q/n at every midpoint, and q/n less on every Z
    shift    charge shift: q/n more on every Z, and there a pair of charges, q/2ne at Z + e (Y - Z) and -q/2ne at
             Z - e (Y - Z), e = 0.05

All but `delete` keep the total charge. `rcd` and `shift` also keep the dipole, since 2 (q/n) (Y + Z)/2 - (q/n) Z = (q/n) Y
and (q/n) Z + (q/n) (Y - Z) = (q/n) Y. Added charges sit at fixed fractions t of bonds,

    r = (1 - t) Y + t Z,    so that    F_Y += (1 - t) F,  F_Z += t F.

Sources: H. Lin and D. G. Truhlar, J. Phys. Chem. A 109, 3991 (2005) for rc and rcd, with a comparison of all; P. Sherwood
et al., J. Mol. Struct. (Theochem) 632, 1 (2003) for the shift.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SCHEMES = ("delete", "shift", "rc", "rcd")
_PAIR = 0.05  # e of the module's text


@dataclass(frozen=True, eq=False)
class RedistributedCharges:
    """What a set of sites is shown to carry.

    Attributes:
        charges: Left on the sites, e, shape=(n,).
        added: Charges on bonds, e, shape=(m,).
        first: Site Y of each of them, shape=(m,).
        second: Site Z, shape=(m,).
        fraction: t of each of them, shape=(m,).
    """

    charges: np.ndarray
    added: np.ndarray
    first: np.ndarray
    second: np.ndarray
    fraction: np.ndarray

    @classmethod
    def unchanged(cls, charges) -> RedistributedCharges:
        """All charges (e, shape=(n,)) where they are."""
        none = np.empty(0, dtype=int)
        return cls(np.array(charges, dtype=float), np.empty(0), none, none, np.empty(0))

    @property
    def total(self) -> float:
        """Sum of all charges in e."""
        return float(self.charges.sum() + self.added.sum())

    def points(self, positions) -> np.ndarray:
        """Where the added charges are, in angstrom, shape=(m, 3), for sites at `positions`, shape=(n, 3)."""
        t = self.fraction[:, None]
        return (1 - t) * positions[self.first] + t * positions[self.second]

    def forces(self, point_forces) -> np.ndarray:
        """Forces on the added charges in eV/angstrom, handed to the sites, shape=(n, 3): the transpose of `points`."""
        forces, t = np.zeros((len(self.charges), 3)), self.fraction[:, None]
        np.add.at(forces, self.first, (1 - t) * point_forces)
        np.add.at(forces, self.second, t * point_forces)
        return forces


def redistributed(charges, boundary, bonds, scheme: str) -> RedistributedCharges:
    """The charges of a set of sites with those of boundary sites moved by `scheme`.

    Args:
        charges: In e, shape=(n,).
        boundary: Indices of the sites Y, shape=(k,), each once.
        bonds: Pairs (Y, Z) of sites, shape=(b, 2); a Z that is itself a boundary site takes nothing.
        scheme: "delete", "shift", "rc" or "rcd".

    Raises:
        ValueError: For an unknown scheme, a bond that does not start at a boundary site, or a boundary site whose charge
            has nowhere to go.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"`scheme` must be one of {SCHEMES}, got {scheme!r}")
    charges = np.array(charges, dtype=float)
    boundary, bonds = np.unique(boundary).astype(int), np.asarray(bonds, dtype=int).reshape(-1, 2)
    if not np.isin(bonds[:, 0], boundary).all():
        raise ValueError(f"`bonds` must start at boundary sites {boundary.tolist()}, got {np.unique(bonds[:, 0]).tolist()}")
    Y, Z = bonds[~np.isin(bonds[:, 1], boundary)].T
    shares = np.zeros(len(charges))
    np.add.at(shares, Y, 1.0)
    stuck = boundary[(shares[boundary] == 0) & (charges[boundary] != 0)]
    if len(stuck) and scheme != "delete":
        raise ValueError(
            f"the charge {charges[stuck[0]]:+.3g} e of boundary site {stuck[0]} has nowhere to go: all its neighbours are "
            "quantum or lose their charge too. Cut elsewhere, or take scheme 'delete'"
        )
    share = charges[Y] / shares[Y]
    charges[boundary] = 0.0
    if scheme == "delete":
        Y, Z, share = Y[:0], Z[:0], share[:0]
    if scheme == "shift":
        np.add.at(charges, Z, share)
        pair = share / (2 * _PAIR)
        added, t = np.concatenate([pair, -pair]), np.repeat([1 - _PAIR, 1 + _PAIR], len(Y))
        return RedistributedCharges(charges, added, np.tile(Y, 2), np.tile(Z, 2), t)
    if scheme == "rcd":
        np.add.at(charges, Z, -share)
        share = 2 * share
    return RedistributedCharges(charges, share, Y, Z, np.full(len(Y), 0.5))
