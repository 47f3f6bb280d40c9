"""What GPAW's PAW data say before any calculation: electrons, basis functions, and setups for fractional hydrogen.

A cap on a cut bond of a polar crystal is a hydrogen of nuclear charge 2 - Z/N, with Z the valence electrons and N the
bonds of the atom that it caps (0.75 and 1.25 in III-V, 0.5 and 1.5 in II-VI crystals), so that every cut bond holds
exactly two electrons (X. Huang, E. Lindgren and J. R. Chelikowsky, Phys. Rev. B 71, 165328 (2005)). GPAW's own setup
generator solves the all-electron atom for any nuclear charge; setup and LCAO basis stay in memory, no file is written.
"""

from __future__ import annotations

import io
import re
from dataclasses import replace
from functools import lru_cache

import numpy as np

from solidqmmm.engines.gpaw_ghosts import ghost_setup, ghosts_of

# The projectors and radius (bohr) of GPAW's own hydrogen, gpaw.atom.generator2.parameters['H1'].
_PROJECTORS, _RADIUS = "1s,s,p", 0.9
_SMALLEST, _LARGEST = 0.2, 1.9


def cap_charges(atoms) -> np.ndarray:
    """Nuclear charges of fractional caps in e, shape=(n,); NaN where an atom is what its symbol says.

    They are read from the per-atom array `cap_charge`, where NaN, 0 and a hydrogen's 1 mean "nothing special".

    Raises:
        ValueError: For a fractional charge on another element than H, or outside 0.2 ... 1.9.
    """
    charges = np.full(len(atoms), np.nan)
    if "cap_charge" not in atoms.arrays:
        return charges
    given = np.array(atoms.arrays["cap_charge"], dtype=float)
    special = np.isfinite(given) & (given != 0.0) & ~((given == 1.0) & (atoms.numbers == 1))
    for i in np.flatnonzero(special):
        if atoms.numbers[i] != 1:
            raise ValueError(
                f"`cap_charge` of atom {i} ({atoms.symbols[i]}) is {given[i]}: only hydrogen caps can be fractional"
            )
        if not _SMALLEST <= given[i] <= _LARGEST:
            raise ValueError(
                f"`cap_charge` of atom {i} is {given[i]}, expected {_SMALLEST} to {_LARGEST} (2 - Z/N for a bond of "
                "an atom with Z valence electrons and N bonds): check the valences"
            )
    charges[special] = np.round(given[special], 6)
    return charges


@lru_cache(maxsize=64)
def fractional_hydrogen(charge: float, xc: str):
    """PAW setup and 'dzp' LCAO basis of a hydrogen with nuclear charge `charge` (e) that holds `charge` electrons.

    Made by GPAW's generator with the projectors and the radius of its own hydrogen; deterministic, 0.1 to 0.4 s.

    Args:
        charge: Nuclear charge.
        xc: Functional that the setup is made for ("PBE").

    Returns:
        (gpaw.setup_data.SetupData, gpaw.basis_data.Basis)

    Raises:
        ValueError: If the pseudo atom does not reproduce the all-electron eigenvalues.
    """
    from gpaw.atom.generator2 import generate

    words = io.StringIO()
    name = f"cap{charge:.6g}"
    generator = generate(
        "H", charge, _PROJECTORS, [_RADIUS], _RADIUS, None, 2,
        xc=xc, configuration=[(1, 0, charge, -0.2)], output=words,
    )
    if not generator.check_all():
        raise ValueError(
            f"GPAW's generator made no good setup for hydrogen of charge {charge}:\n{words.getvalue()[-800:]}"
        )
    basis = generator.create_basis_set(tag=name)
    return generator.make_paw_setup(tag=name), basis


def reduced_basis(basis, name: str):
    """The 'sz', 'dz', 'szp' or 'dzp' part of a generated dzp basis; `name` also in GPAW's form 'sz(dzp)'.

    Raises:
        ValueError: If more is asked for than the generator makes.
    """
    match = re.fullmatch(r"(s|d)z(p?)(\(.*\))?", name)
    if match is None:
        raise ValueError(
            f"fractional hydrogen caps have the bases sz, szp, dz, dzp and their forms like sz(dzp); got {name!r}"
        )
    wanted = {"bound state"}
    if match[1] == "d":
        wanted.add("split valence")
    if match[2]:
        wanted.add("polarization")
    return replace(basis, bf_j=[function for function in basis.bf_j if function.type in wanted])


def setups_and_basis(atoms, *, setups, basis, xc_setup_name: str, lcao: bool):
    """GPAW's keywords `setups` and `basis` with an entry by atom index for every fractional cap and every ghost.

    Args:
        atoms: The arrangement, perhaps with the array `cap_charge`, and with ghosts.
        setups, basis: What the user asked for (GPAW's forms, by element).
        xc_setup_name: Functional of the PAW setups.
        lcao: Whether a basis is needed.
    """
    charges = cap_charges(atoms)
    fractional, ghosts = np.flatnonzero(np.isfinite(charges)), np.flatnonzero(ghosts_of(atoms))
    if len(fractional) + len(ghosts) == 0:
        return setups, basis
    setups = {"default": setups or "paw"} if not isinstance(setups, dict) else dict(setups)
    by_name = basis if isinstance(basis, dict) else {"default": basis}
    basis = {key: value for key, value in by_name.items() if value}
    for i in fractional:
        setup, _ = fractional_hydrogen(float(charges[i]), xc_setup_name)
        setups[int(i)] = setup
        wanted = by_name.get("H", by_name.get("default"))
        if wanted or lcao:
            basis[int(i)] = _shared_basis(float(charges[i]), xc_setup_name, wanted or "dzp")
    for i in ghosts:
        symbol = atoms.symbols[i]
        setups[int(i)] = ghost_setup(symbol, by_name.get(symbol, by_name.get("default")) or "dzp")
    return setups, basis or None


@lru_cache(maxsize=64)
def _shared_basis(charge, xc, name):
    # One object for equal caps: GPAW tells setups apart by identity, and builds one for each.
    return reduced_basis(fractional_hydrogen(charge, xc)[1], name)


class PAWCounts:
    """Valence electrons and LCAO functions of each kind of atom, read once from the PAW data.

    Args:
        setups, basis: GPAW's keywords (by element, not by index).
        xc: GPAW functional object.
        lcao: Whether the mode is LCAO.
    """

    def __init__(self, *, setups, basis, xc, lcao: bool):
        self._keywords = {"setups": setups, "basis": basis, "xc_setup_name": xc.get_setup_name(), "lcao": lcao}
        self._xc = xc
        self._of_kind: dict = {}

    def valence_electrons(self, atoms) -> float:
        """Number of valence electrons of the neutral atoms (fractional caps counted as they are)."""
        return float(sum(self._kind(*kind)[0] for kind in _kinds(atoms)))

    def basis_functions(self, atoms) -> int:
        """Number of LCAO functions."""
        return int(sum(self._kind(*kind)[1] for kind in _kinds(atoms)))

    def projectors(self, atoms) -> int:
        """Number of PAW projector functions."""
        return int(sum(self._kind(*kind)[2] for kind in _kinds(atoms)))

    def _kind(self, number, charge, ghost):
        key = (number, charge, ghost)
        if key not in self._of_kind:
            from ase import Atoms
            from gpaw.setup import Setups

            atom = Atoms(numbers=[number])
            atom.set_array("cap_charge", np.array([0.0 if charge is None else charge]))
            atom.set_array("ghost", np.array([ghost]))
            setups, basis = setups_and_basis(atom, **self._keywords)
            made = Setups(
                atom.numbers,
                {"default": setups} if isinstance(setups, str) else setups or {"default": "paw"},
                {"default": basis} if isinstance(basis, str) else basis or {},
                self._xc,
            )
            self._of_kind[key] = float(made.nvalence), int(made.nao), sum(setup.ni for setup in made)
        return self._of_kind[key]


def _kinds(atoms):
    charges = cap_charges(atoms)
    return [
        (int(number), None if np.isnan(q) else float(q), bool(ghost))
        for number, q, ghost in zip(atoms.numbers, charges, ghosts_of(atoms))
    ]
