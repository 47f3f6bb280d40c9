"""From the section `qm` of a study to an engine; a key that is misspelt is an error."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from solidqmmm.engines.guarded import guarded
from solidqmmm.engines.protocols import Engine
from solidqmmm.system.lammps_lines import require_command, require_plain, require_style

# Where GPAW writes and with whom it talks is not for a study to say.
_OURS = ("txt", "log", "communicator")
# PySCF takes the text of a basis in place of a name, and evaluates numbers in it as Python.
_BASIS_NAME = re.compile(r"[A-Za-z0-9][\w+*(),. -]*")


class _Settings(BaseModel):
    """What every engine has."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    timeout_s: float | None = Field(None, gt=0, description="seconds that one calculation may take; without end by default")

    def made(self, *, log_dir=None, search_dirs=()) -> Engine:
        """The engine, watched over (`guarded`)."""
        return guarded(self.build(log_dir=log_dir, search_dirs=search_dirs), self.timeout_s, log_dir)

    def _own(self, *left_out: str) -> dict:
        """The fields that are the engine's arguments."""
        return self.model_dump(exclude={"engine", "timeout_s", *left_out})


class GPAWSettings(_Settings):
    """`qm: {engine: gpaw, ...}`. Fields are those of `GPAWEngine`; `extra` holds further keywords of GPAW."""

    FEELS_CHARGES: ClassVar[bool] = True

    engine: Literal["gpaw"]
    mode: Literal["lcao", "pw", "fd"] | dict[str, Any] = Field("lcao", description="lcao, pw or fd")
    basis: str | dict[str, str] | None = Field(None, description="LCAO basis, such as dzp or sz(dzp), or by element")
    xc: str | dict[str, Any] = Field("PBE", description="exchange-correlation functional")
    h: float | None = Field(None, gt=0, description="grid spacing, angstrom")
    ecut: float | None = Field(None, gt=0, description="plane-wave cutoff, eV (mode pw)")
    charge: float | None = Field(None, description="total charge, e; 0, or what an additive coupling leaves to the cluster")
    spinpol: bool = Field(False, description="spin-polarized")
    magmoms: dict[str, float] | list[float] | None = Field(None, description="initial moments, Bohr magnetons")
    kpt_density: float = Field(3.5, gt=0, description="k-points per 1/angstrom along periodic directions")
    kpts: list[int] | dict[str, Any] | None = Field(None, description="a fixed k-point mesh around Gamma instead")
    smearing: float = Field(0.1, ge=0, description="Fermi-Dirac width, eV")
    occupations: dict[str, Any] | None = Field(None, description="GPAW's keyword, replaces smearing")
    convergence: dict[str, Any] | None = Field(None, description="GPAW's SCF criteria")
    maxiter: int = Field(150, gt=0, description="SCF iterations before the first retry")
    mixer: dict[str, Any] | None = Field(None, description="GPAW's density mixer")
    nbands: int | str | None = Field(None, description="number of bands")
    setups: str | dict[str, str] | None = Field(None, description="PAW setups, by element")
    fft_potential: bool = Field(False, description="LCAO: potential by Fourier transforms, for coarse grids")
    ghost_basis: bool = Field(False, description="LCAO: basis functions of the removed atom on vacant sites")
    paired_odd_electrons: bool = Field(False, description="allow an odd electron number without spin")
    extra: dict[str, Any] = Field(default_factory=dict, description="further keywords of GPAW")

    @field_validator("extra")
    @classmethod
    def _nothing_of_ours(cls, extra):
        if taken := sorted(set(extra) & set(_OURS)):
            raise ValueError(f"must not set {', '.join(taken)}: leave it out, the log goes to gpaw.txt in the run folder")
        return extra

    def build(self, *, log_dir=None, search_dirs=()) -> Engine:  # noqa: ARG002 - one signature for all engines
        """The engine; its text log goes to `log_dir`/gpaw.txt.

        Raises:
            ValueError: If `extra` repeats a key, or GPAW does not accept the settings.
        """
        from solidqmmm.engines.gpaw import GPAWEngine

        keywords = self._own("extra") | {"charge": self.charge or 0.0}
        doubled = sorted(set(self.extra) & set(keywords))
        if doubled:
            raise ValueError(f"`qm.extra` repeats {', '.join(doubled)}: say it once, directly under `qm`")
        return GPAWEngine(**keywords, **self.extra, log=Path(log_dir) / "gpaw.txt" if log_dir is not None else None)


class PySCFSettings(_Settings):
    """`qm: {engine: pyscf, ...}`. Fields are those of `PySCFEngine`."""

    FEELS_CHARGES: ClassVar[bool] = True

    engine: Literal["pyscf"]
    xc: str = Field("PBE", description="functional in PySCF's words, or HF")
    basis: str | dict[str, str] = Field("def2-svp", description="basis set, or by element")
    charge: float | None = Field(None, description="total charge, e, a whole number; without one as for gpaw")
    spin: int | None = Field(None, ge=0, description="unpaired electrons; as few as there can be by default")
    unrestricted: bool = Field(False, description="separate orbitals of both spins")
    ecp: dict[str, str] | None = Field(None, description="effective cores by element")
    density_fit: bool = Field(True, description="integrals by an auxiliary basis")
    grid_level: int = Field(3, ge=0, le=9, description="integration grid")
    tolerance: float = Field(1e-8, gt=0, description="of the SCF energy, eV")
    maxiter: int = Field(100, gt=0, description="SCF iterations of each attempt")

    @field_validator("basis", "ecp")
    @classmethod
    def _are_names(cls, given):
        for name in given.values() if isinstance(given, dict) else () if given is None else (given,):
            if not _BASIS_NAME.fullmatch(name) or Path(name).exists():
                raise ValueError(f"must be the name of a basis set, such as def2-svp (no file, no text), got {name[:60]!r}")
        return given

    def build(self, *, log_dir=None, search_dirs=()) -> Engine:  # noqa: ARG002 - one signature for all engines
        """The engine; its text log goes to `log_dir`/pyscf.txt."""
        from solidqmmm.engines.pyscf import PySCFEngine

        log = Path(log_dir) / "pyscf.txt" if log_dir is not None else None
        return PySCFEngine(**self._own() | {"charge": self.charge or 0.0}, log=log)


class LammpsSettings(_Settings):
    """`qm: {engine: lammps, ...}`. Fields are those of `Potential`."""

    engine: Literal["lammps"]
    pair_style: str
    pair_coeff: list[str] | str
    species: list[str] | str
    units: Literal["metal", "real"] = "metal"
    atom_style: Literal["atomic", "charge"] | None = None
    charges: list[float] | dict[str, float] = Field(default_factory=list)
    net_charge: float = 0.0
    shells: dict[str, dict[str, float]] = Field(default_factory=dict)
    commands: list[str] = Field(default_factory=list)

    @field_validator("pair_style")
    @classmethod
    def _is_a_style(cls, style):
        return require_style(style)

    @field_validator("pair_coeff", "commands")
    @classmethod
    def _are_harmless(cls, lines, info):
        for line in [lines] if isinstance(lines, str) else lines:
            require_plain(line, "pair_coeff") if info.field_name == "pair_coeff" else require_command(line)
        return lines

    def build(self, *, log_dir=None, search_dirs=()) -> Engine:
        """The engine; LAMMPS's log goes to `log_dir`/lammps_qm.log."""
        from solidqmmm.engines.lammps import LammpsEngine
        from solidqmmm.system.potential import Potential

        fields = self._own()
        if log_dir is not None:
            Path(log_dir).mkdir(parents=True, exist_ok=True)
        potential = Potential(**fields, search_dirs=tuple(map(str, search_dirs)))
        return LammpsEngine(potential, log=Path(log_dir) / "lammps_qm.log" if log_dir is not None else None)


class ASESettings(_Settings):
    """`qm: {engine: ase, calculator: 'module:Class', arguments: {...}}`.

    Keywords of the calculator may also stand directly under `qm`; they are then checked against the
    spelling of `calculator` and `arguments` only, since the calculator's own are not known beforehand.
    """

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    engine: Literal["ase"]
    calculator: str = Field(description="import path, such as tblite.ase:TBLite", pattern=r"^[\w.]+:\w+$")
    arguments: dict[str, Any] = Field(default_factory=dict, description="keywords of the calculator")
    references: list[str] = Field(default_factory=list, description="citation keys that a user owes")

    @model_validator(mode="after")
    def _no_near_misses(self):
        known = ("engine", "calculator", "arguments", "references", "timeout_s")
        for key in self.model_extra or {}:
            if near := get_close_matches(key, known, n=1, cutoff=0.75):
                raise ValueError(
                    f"unknown key '{key}': did you mean '{near[0]}'? (if the calculator has it, put it in `arguments`)"
                )
            if key in self.arguments:
                raise ValueError(f"'{key}' stands both under `qm` and in `arguments`: say it once")
        return self

    def build(self, *, log_dir=None, search_dirs=()) -> Engine:  # noqa: ARG002 - one signature for all engines
        """The engine."""
        from solidqmmm.engines.ase import ASEEngine

        return ASEEngine.from_import(
            self.calculator, references=tuple(self.references), **{**self.arguments, **(self.model_extra or {})}
        )


class ClassicalFieldSettings(_Settings):
    """`qm: {engine: classical_field, ...}`: charges and polarizable points in place of electrons, no quantum mechanics.

    It answers in milliseconds what an additive coupling asks of an engine: for tests, tutorials and trying a study out.
    """

    FEELS_CHARGES: ClassVar[bool] = True

    engine: Literal["classical_field"]
    charges: dict[str, float] = Field(description="charges by element, e")
    polarizabilities: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict, description="polarizabilities by element, angstrom^3"
    )
    charge: float | None = Field(None, description="total charge, e; what the atoms lack of it sits at their middle")
    interacting: bool = Field(True, description="whether the charges act on each other")
    inner: Annotated[LammpsSettings | ASESettings, Field(discriminator="engine")] | None = Field(
        None, description="an engine for all else, such as {engine: lammps, pair_style: buck 8.0, ...}"
    )

    def build(self, *, log_dir=None, search_dirs=()) -> Engine:
        """The engine; the inner one is built as on its own."""
        from solidqmmm.engines.classical_field import ClassicalFieldEngine

        inner = None if self.inner is None else self.inner.made(log_dir=log_dir, search_dirs=search_dirs)
        return ClassicalFieldEngine(**self._own("inner"), inner=inner)


SETTINGS = {
    "gpaw": GPAWSettings,
    "pyscf": PySCFSettings,
    "lammps": LammpsSettings,
    "ase": ASESettings,
    "classical_field": ClassicalFieldSettings,
}
"""The settings model of every engine that a study can name."""

EngineSettings = Annotated[
    GPAWSettings | PySCFSettings | LammpsSettings | ASESettings | ClassicalFieldSettings,
    Field(discriminator="engine"),
]
"""One of the settings models, told apart by `engine`."""

_ADAPTER = TypeAdapter(EngineSettings)


def parse_settings(settings: dict) -> BaseModel:
    """Checks a `qm` section.

    Raises:
        ValueError: Listing every mistake, with the nearest right spelling.
    """
    if isinstance(settings, tuple(SETTINGS.values())):
        return settings
    try:
        return _ADAPTER.validate_python(settings)
    except ValidationError as error:
        raise ValueError("\n".join(["`qm` is wrong:", *(f"  - {line}" for line in _lines(error, settings))])) from error


def make_engine(settings: dict, *, log_dir=None, search_dirs=()) -> Engine:
    """The engine of a `qm` section.

    Args:
        settings: {"engine": "gpaw", ...}, or "pyscf", "lammps", "ase", "classical_field", with the keys of these; or
            a model.
        log_dir: Folder for the engines' own logs, or None for none.
        search_dirs: Folders in which potential files are looked up first (the study's).

    Raises:
        ValueError: For a wrong section.
    """
    return parse_settings(settings).made(log_dir=log_dir, search_dirs=search_dirs)


def make_journaled_engine(settings: dict, *, journal=None, log_dir=None, search_dirs=()) -> Engine:
    """The same, what it finishes kept in the folder `journal`; None for none."""
    from solidqmmm.engines.journal import journaled

    engine = make_engine(settings, log_dir=log_dir, search_dirs=search_dirs)
    return engine if journal is None else journaled(engine, journal)


def _lines(error: ValidationError, settings):
    for problem in error.errors():
        where = [str(part) for part in problem["loc"] if part not in SETTINGS]
        key = ".".join(["qm", *where])
        if problem["type"] == "extra_forbidden":
            fields = SETTINGS[settings["engine"]].model_fields
            near = get_close_matches(where[-1], fields, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(fields)}"
            yield f"{key}: unknown key; {hint}"
        elif problem["type"] in ("union_tag_invalid", "union_tag_not_found"):
            yield f"{key}.engine: must be one of {', '.join(SETTINGS)}, got {settings.get('engine')!r}"
        elif problem["type"] == "missing":
            yield f"{key}: is missing"
        else:
            yield f"{key}: {problem['msg']}, got {problem['input']!r}"
