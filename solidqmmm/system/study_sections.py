"""The sections of a study file, one frozen model each; those of engines and recipes live further up."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from ase.data import atomic_numbers
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, model_validator

from solidqmmm.system.bonds import BondRules
from solidqmmm.system.caps import CapRules

Vector = tuple[float, float, float]


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, numbers are finite, and nothing changes after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _checked_element(symbol):
    if not isinstance(symbol, str) or symbol not in atomic_numbers or symbol == "X":
        raise ValueError(f"expected a chemical symbol such as 'Si', got {symbol!r}")
    return symbol


Element = Annotated[str, PlainValidator(_checked_element)]


# --- the crystal ------------------------------------------------------------------------------------------


class StructureSection(Section):
    """Where the crystal comes from.

    Attributes:
        file: Any file that pymatgen or ASE reads, relative to the study.
        mp_id: A Materials Project id instead (needs mp-api and a key).
        cell: The unit cell that the supercell repeats.
        lattice: 'as_given', or 'host' to relax the unit cell with the host's potential first.
    """

    EXAMPLE: ClassVar[str] = "{file: Si.cif}"

    file: str | None = None
    mp_id: str | None = None
    cell: Literal["conventional", "primitive", "as_given"] = "conventional"
    lattice: Literal["as_given", "host"] = "as_given"

    @model_validator(mode="after")
    def _one_source(self):
        if (self.file is None) == (self.mp_id is None):
            raise ValueError("exactly one of `file` and `mp_id` is expected")
        return self


def _checked_supercell(value):
    matrix = np.array(value, dtype=object)
    whole = all(isinstance(n, int) and not isinstance(n, bool) for n in matrix.flat)
    if matrix.shape == (3,) and whole and min(matrix) >= 1:
        return tuple(value)
    if matrix.shape == (3, 3) and whole and abs(np.linalg.det(matrix.astype(float))) > 0.5:
        return tuple(map(tuple, value))
    raise ValueError(
        "expected three positive integers, or an integer 3x3 matrix with a volume whose rows are the new "
        f"cell vectors, got {value!r}"
    )


def _supercell_or_ragged(value):
    try:
        return _checked_supercell(value)
    except (ValueError, TypeError) as error:
        if str(error).startswith("expected"):
            raise
        raise ValueError(
            f"expected three positive integers or an integer 3x3 matrix, got {value!r}"
        ) from None


Supercell = Annotated[tuple, PlainValidator(_supercell_or_ragged)]


class Vacancy(Section):
    """`site` counts in the input structure."""

    kind: Literal["vacancy"]
    site: int = Field(ge=0)


class Substitution(Section):
    """`site` counts in the input structure; `element` takes its place."""

    kind: Literal["substitution"]
    site: int = Field(ge=0)
    element: Element


class Interstitial(Section):
    """An extra atom, at `position` (fractional in the cell) or at a symmetry-distinct interstitial `site`."""

    kind: Literal["interstitial"]
    element: Element
    position: Vector | None = None
    site: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _one_place(self):
        if (self.position is None) == (self.site is None):
            raise ValueError("an interstitial needs exactly one of `position` and `site`")
        return self


Defect = Annotated[Vacancy | Substitution | Interstitial, Field(discriminator="kind")]


# --- who is quantum ---------------------------------------------------------------------------------------


class LineSection(Section):
    """A line through the centre, along the Cartesian `direction`."""

    EXAMPLE: ClassVar[str] = "{direction: [0, 0, 1]}"

    direction: Vector

    @model_validator(mode="after")
    def _has_length(self):
        if not any(self.direction):
            raise ValueError("`direction` must not be the zero vector")
        return self


class Selection(Section):
    """Atoms by exactly one of: hops along bonds, distance, host indices, a per-atom property, a line.

    Attributes:
        hops: Bonds away from the centre's atoms.
        radius: Distance in angstrom from the centre, or from the line.
        sites: Host indices.
        property: Name of a per-atom array; atoms with a value above `above` and below `below`.
        line: A line through the centre; atoms within `radius` of it.
    """

    EXAMPLE: ClassVar[str] = "{hops: 1} or {radius: 4.0} or {sites: [0, 5]}"

    @property  # before the field of that name
    def kind(self) -> str:
        """Which of the five it is: 'hops', 'radius', 'sites', 'property' or 'line'."""
        return _kinds_given(self)[0]

    hops: int | None = Field(default=None, ge=0)
    radius: float | None = Field(default=None, gt=0)
    sites: tuple[int, ...] | None = None
    property: str | None = None
    above: float | None = None
    below: float | None = None
    line: LineSection | None = None

    @model_validator(mode="after")
    def _exactly_one_kind(self):
        given = _kinds_given(self)
        if len(given) != 1:
            got = " and ".join(given) or "none of them"
            raise ValueError(f"exactly one of hops, radius, sites, property, line is expected, got {got}")
        limits = self.above is not None or self.below is not None
        if self.property is not None and not limits:
            raise ValueError("`property` needs `above` or `below` (or both)")
        if limits and self.property is None:
            raise ValueError("`above` and `below` belong to `property`, which is missing")
        if self.line is not None and self.radius is None:
            raise ValueError("`line` needs a `radius` in angstrom")
        return self


def _kinds_given(selection) -> list[str]:
    given = [
        name
        for name in ("hops", "radius", "sites", "property", "line")
        if getattr(selection, name) is not None
    ]
    return [
        name for name in given if name != "radius" or "line" not in given
    ]  # a line has a radius of its own


class Buffer(Section):
    """Atoms around the core, by hops along bonds or by distance in angstrom (exactly one).

    Around a core that is a sphere or a cylinder, the distance widens that; otherwise it counts from the core's atoms.
    """

    EXAMPLE: ClassVar[str] = "{hops: 2} or {radius: 6.0}"

    hops: int | None = Field(default=None, ge=0)
    radius: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _exactly_one_kind(self):
        if (self.hops is None) == (self.radius is None):
            got = "none of them" if self.hops is None else "both"
            raise ValueError(f"exactly one of hops, radius is expected, got {got}")
        return self


class SiteCentre(Section):
    """Centred on a host atom."""

    site: int = Field(ge=0)


def _checked_centre(value):
    if isinstance(value, list) and [type(x) in (int, float) for x in value] == [True] * 3:
        return tuple(map(float, value))
    if (
        isinstance(value, dict)
        and value.keys() == {"site"}
        and type(value["site"]) is int
        and value["site"] >= 0
    ):
        return SiteCentre(site=value["site"])
    if value is None or isinstance(value, SiteCentre):
        return value
    raise ValueError(f"expected [x, y, z] in angstrom or {{site: host index}}, got {value!r}")


class BondsSection(Section):
    """Who is bonded: below `scale` times the sum of covalent radii, or below a cutoff in angstrom for a pair."""

    EXAMPLE: ClassVar[str] = "{scale: 1.2, cutoffs: {Si-O: 2.0}}"

    scale: float = 1.2
    cutoffs: dict[str, float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _are_rules(self):
        BondRules(self.scale, dict(self.cutoffs))
        return self


class RegionSection(Section):
    """The quantum region. Without a `centre` it is centred on the defect.

    Attributes:
        leave_radius: Of a region that moves, with `core: {radius: ...}`: atoms farther than this leave the core, angstrom;
            by default 2 beyond the radius within which they enter.
    """

    EXAMPLE: ClassVar[str] = "{core: {hops: 1}, buffer: {hops: 2}}"

    core: Selection
    buffer: Buffer | None = None
    centre: Annotated[Vector | SiteCentre | None, PlainValidator(_checked_centre)] = None
    frozen: Selection | None = None
    bonds: BondsSection | None = None
    leave_radius: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _leaves_beyond_where_it_enters(self):
        if self.leave_radius is not None:
            if self.core.kind != "radius":
                raise ValueError("`leave_radius` belongs to `core: {radius: ...}`, a sphere or cylinder that moves")
            if self.leave_radius < self.core.radius:
                raise ValueError(
                    f"`leave_radius` must not be below the radius within which atoms enter, {self.core.radius:g} A, got "
                    f"{self.leave_radius:g}"
                )
        return self


# --- boundary and coupling --------------------------------------------------------------------------------


def _checked_cap(value):
    if value in ("hydrogen", "fractional", "none"):
        return value
    if value is None:
        return "none"
    if isinstance(value, str) and value in atomic_numbers and value != "X":
        return value
    raise ValueError(f"expected 'hydrogen', 'fractional', 'none' or a chemical symbol, got {value!r}")


class CapsSection(Section):
    """What closes the cut bonds.

    Attributes:
        kind: hydrogen, a chemical symbol, fractional (pseudo-hydrogens for polar crystals) or none.
        length: Fixed cap bond in angstrom, one for all or by the element that is capped.
        ratio: Fixed fraction of the cut bond instead.
        clashing: Two caps of one removed atom: include that atom, keep both caps, or stop with an error.
        vacuum: Vacuum in angstrom along non-periodic directions.
        periodic_axes: Host cell vectors (0, 1, 2) along which the cluster is periodic.
        even_electrons: Make the number of electrons even.
        whole_coordination: Elements that keep all their neighbours when they are quantum.
    """

    EXAMPLE: ClassVar[str] = "{kind: hydrogen, vacuum: 6.0}"

    kind: Annotated[str, PlainValidator(_checked_cap)] = "hydrogen"
    length: float | dict[str, float] | None = None
    ratio: float | None = None
    clashing: Literal["include", "keep", "error"] = "include"
    vacuum: float = Field(default=5.0, gt=0)
    periodic_axes: tuple[Annotated[int, Field(ge=0, le=2)], ...] = ()
    even_electrons: bool = False
    whole_coordination: tuple[Element, ...] = ()

    @model_validator(mode="after")
    def _are_rules(self):
        lengths = self.length.values() if isinstance(self.length, dict) else (self.length or 1.0,)
        if any(length <= 0 for length in lengths):
            raise ValueError(f"`length` must be positive (angstrom), got {self.length!r}")
        if len(set(self.periodic_axes)) != len(self.periodic_axes):
            raise ValueError(f"`periodic_axes` names an axis twice: {list(self.periodic_axes)}")
        self.rules()
        return self

    def rules(self) -> CapRules:
        """The same as `carve` takes it."""
        return CapRules(**self.model_dump(exclude={"periodic_axes"}))


class SubtractiveSection(Section):
    """E = E_MM(all) + E_QM(cluster) - E_MM(cluster)."""

    EXAMPLE: ClassVar[str] = "{scheme: subtractive}"

    scheme: Literal["subtractive"]
    classical_caps: Literal["host_bond", "bare"] = "host_bond"
    ghost_forces: bool = False


class ForceMixingSection(Section):
    """Quantum forces on the core, classical ones elsewhere; no energy."""

    EXAMPLE: ClassVar[str] = "{scheme: force_mixing}"

    scheme: Literal["force_mixing"]
    weights: Literal["abrupt", "smooth"] = "abrupt"
    net_force: Literal["core", "region", "none"] = "core"


class CoreSection(Section):
    """V(r) = height exp(-r^2 / 2 width^2): repels the quantum electrons from an ion of the boundary (eV, angstrom)."""

    EXAMPLE: ClassVar[str] = "{height: 30, width: 0.5}"

    height: float = Field(ge=0)
    width: float = Field(gt=0)


class AdditiveSection(Section):
    """E = E_MM without the quantum atoms' charges and mutual pairs + E_QM in the field of the ions, each pair counted once.

    Attributes:
        scheme: What the quantum electrons feel: nothing (fixed charges stand for them), the ions' charges, or these and the
            dipoles that they induce.
        charge: Total charge of the crystal with its defect in e (the defect's charge state). That of the quantum cluster
            follows from it and the ions' charges; with link atoms it is the same.
        width: Gaussian width of the ions near the cluster, angstrom.
        boundary_charges: Where electrons see the charges of atoms beside link atoms: where they are, nowhere (Z1), shifted
            to the atoms' neighbours, or on their bonds (RC; with the dipole kept, RCD).
        cores: Repulsive cores of ions at the boundary, by element.
        polarizabilities: In angstrom^3 by element; for `polarizable` only.
        damping: Of dipoles and charges near each other.
        thole_a: Parameter of the exponential damping.
    """

    EXAMPLE: ClassVar[str] = "{scheme: electrostatic}"

    scheme: Literal["mechanical", "electrostatic", "polarizable"]
    charge: float = 0.0
    width: float = Field(default=0.5, ge=0)
    boundary_charges: Literal["none", "delete", "shift", "rc", "rcd"] = "none"
    cores: dict[Element, CoreSection] | None = None
    polarizabilities: dict[Element, Annotated[float, Field(ge=0)]] | None = None
    damping: Literal["thole", "linear", "none"] = "thole"
    thole_a: float = Field(default=0.39, gt=0)

    @model_validator(mode="after")
    def _fits_the_scheme(self):
        if self.scheme == "polarizable" and not self.polarizabilities:
            raise ValueError("`polarizable` needs `polarizabilities` by element (angstrom^3), such as {Mg: 0.09, O: 1.65}")
        if self.scheme != "polarizable" and self.polarizabilities:
            raise ValueError(f"`polarizabilities` belong to scheme polarizable, got scheme {self.scheme}")
        if self.scheme == "mechanical" and self.cores:
            raise ValueError("`cores` repel electrons that feel the crystal; scheme mechanical has none of these")
        if self.scheme == "mechanical" and self.boundary_charges != "none":
            raise ValueError("`boundary_charges` are for electrons that feel the crystal: scheme mechanical has none")
        return self


Coupling = Annotated[SubtractiveSection | ForceMixingSection | AdditiveSection, Field(discriminator="scheme")]


class MatchTargets(Section):
    """Lattice parameter (angstrom, conventional cell) and bulk modulus (GPa) of the expensive model, in a cubic crystal.

    Without the bulk modulus the lattices are matched, and the engine's energies stay as they are.
    """

    EXAMPLE: ClassVar[str] = "{lattice_parameter_A: 5.47, bulk_modulus_GPa: 88}"

    lattice_parameter_A: float = Field(gt=0)
    bulk_modulus_GPa: float | None = Field(default=None, gt=0)


# --- ranks ------------------------------------------------------------------------------------------------


class RanksSection(Section):
    """How several MPI ranks divide the work; no part of what is computed.

    Attributes:
        layout: 'shared': host and quantum engine take turns on all ranks; 'split': each has ranks of its own.
        quantum: Number of quantum ranks of a split; chosen by a short calibration without it.
    """

    layout: Literal["shared", "split"] = "shared"
    quantum: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _quantum_is_split(self):
        if self.layout == "shared" and self.quantum is not None:
            raise ValueError("`quantum` counts the quantum ranks of `layout: split`; where ranks are shared all are")
        return self


# --- files ------------------------------------------------------------------------------------------------


def beside(folder: Path, name: str) -> Path:
    """A file named in a study: absolute, or relative to the study's folder."""
    path = Path(name).expanduser()
    return path if path.is_absolute() else folder / path
