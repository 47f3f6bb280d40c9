"""A study: everything that determines a calculation, validated as a whole before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, PrivateAttr

from solidqmmm.errors import StudyError
from solidqmmm.system import study_file
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.foreign_code import import_problems
from solidqmmm.system.materials_project import fetch_structure, why_not_available
from solidqmmm.system.potential import Potential
from solidqmmm.system.study_executor import ExecutorSettings, read_executor
from solidqmmm.system.study_file import Problem, Source, shown, validated
from solidqmmm.system.study_host import HostSection
from solidqmmm.system.study_needs import needs, needs_no_crystal
from solidqmmm.system.study_recipe import RecipeSchema, dumped, recipe_part
from solidqmmm.system.study_sections import (
    CapsSection,
    Coupling,
    Defect,
    MatchTargets,
    RanksSection,
    RegionSection,
    Section,
    StructureSection,
    SubtractiveSection,
    Supercell,
    beside,
)
from solidqmmm.system.unit_cell import in_cell


@dataclass(frozen=True)
class Schemas:
    """Models of the sections that belong further up the stairs; `recipebook.schemas()` has the real ones.

    Attributes:
        qm: Model of the `qm` section for the name of an engine; ValueError for an unknown engine.
        recipe: What a recipe asks of its study, for its name and the study's folder; ValueError for an unknown recipe.
        check: Model of the `check` section.
        qm_problems: What is wrong with a valid `qm` section beyond its types, one text each (missing files).
        allow_import: Modules whose ASE calculators a study may import, beside those of `foreign_code.CALCULATORS`.
    """

    qm: Callable[[str], type[BaseModel]] | None = None
    recipe: Callable[[str, Path], RecipeSchema] | None = None
    check: Callable[[], type[BaseModel]] | None = None
    qm_problems: Callable[[BaseModel, Path], list[str]] | None = None
    allow_import: tuple[str, ...] = ()


class Study(Section):
    """One study, as its YAML file says it (see `solidqmmm recipes show NAME` for the section of a recipe).

    Attributes:
        recipe: Name of a shipped recipe, or path of a user's own recipe file.
        structure: Where the crystal comes from; None for a recipe that works on numbers.
        supercell: Repeats of the unit cell, or a 3x3 matrix whose rows are the new cell vectors.
        defect: The point defect, or None.
        host: The classical potential; None: the engine alone computes the whole crystal.
        qm: Settings of the quantum engine, defaults filled in; None: the host alone.
        region: Who is quantum; None for the host or the engine alone.
        caps: What closes the cut bonds.
        coupling: The coupling scheme.
        matching: 'none', 'auto' (compute the expensive model's lattice) or its known values.
        seed: Seed of all random numbers.
        check: Options of `solidqmmm check`.
        executor: Where independent tasks are done; left out likewise.
        ranks: How MPI ranks divide the work; left out where studies are compared or written down.
    """

    recipe: str
    structure: StructureSection | None = None
    supercell: Supercell = (1, 1, 1)
    defect: Defect | None = None
    host: HostSection | None = None
    qm: dict[str, Any] | None = None
    region: RegionSection | None = None
    caps: CapsSection = CapsSection()
    coupling: Coupling = SubtractiveSection(scheme="subtractive")
    matching: Literal["none", "auto"] | MatchTargets = "none"
    seed: int = Field(default=1, ge=0)
    check: dict[str, Any] = Field(default_factory=dict)
    executor: dict[str, Any] | None = None
    ranks: RanksSection = RanksSection()

    _section: str | None = PrivateAttr(None)
    _options: dict = PrivateAttr(default_factory=dict)
    _folder: Path = PrivateAttr(default_factory=Path)
    _given: Crystal | None = PrivateAttr(None)
    _numbers: str | None = PrivateAttr(None)
    _places_region: bool = PrivateAttr(False)
    _allow_import: tuple[str, ...] = PrivateAttr(())
    _executor: ExecutorSettings | None = PrivateAttr(None)

    # --- ways in ------------------------------------------------------------------------------------------

    @classmethod
    def load(cls, path, *, schemas: Schemas | None = None) -> Self:
        """The study in a YAML file.

        Args:
            path: The file.
            schemas: Models of the sections of engine, recipe and check; without them these stay as they are.

        Raises:
            StudyError: With every mistake in the file: its key and line, what was expected, what came.
        """
        source = study_file.read(path)
        return cls._from_source(source, schemas or Schemas(), f"the study {path}")

    @classmethod
    def from_mapping(cls, mapping: dict, *, folder=".", schemas: Schemas | None = None) -> Self:
        """The study in a mapping with the keys of the file.

        `structure` may also be a Structure, Atoms or Crystal, which is taken as it is (`cell: as_given`).

        Raises:
            StudyError: With every mistake.
        """
        mapping = dict(mapping)
        given = None
        if not isinstance(mapping.get("structure"), dict | list | tuple | str | int | float | Path | None):
            given = Crystal.of(mapping["structure"])
            mapping["structure"] = {"file": "structure.json", "cell": "as_given"}
        source = Source(study_file.plain(mapping), {}, Path(folder))
        return cls._from_source(source, schemas or Schemas(), "the study", given)

    @classmethod
    def _from_source(cls, source: Source, schemas: Schemas, title: str, given=None) -> Self:
        raw = _written_out(source.mapping)
        keys = cls.model_fields
        study, problems = validated(cls, {key: value for key, value in raw.items() if key in keys})
        section, options, schema, more = recipe_part(raw, keys, schemas.recipe, source.folder)
        problems += more
        numbers = None if schema is None or schema.instead_of_crystal is None else options.get(schema.instead_of_crystal)
        if numbers is None:
            problems += needs(raw, engine_alone=None if schema is None else schema.engine_alone)
        else:
            problems += needs_no_crystal(raw, f"{section}.{schema.instead_of_crystal}")
            problems += _missing_numbers((section, schema.instead_of_crystal), numbers, source.folder)
        foreign = import_problems(raw, schemas.allow_import)
        problems += foreign
        qm, more = _qm_part(raw, schemas, source.folder)
        problems += [] if foreign else more  # whether a package is there that will not be imported is no matter
        check, more = _check_part(raw, schemas)
        problems += more
        problems += _missing_files(raw, source.folder, given)
        executor = None
        if isinstance(raw.get("executor"), dict):  # else said by the study's own validation
            executor, more = read_executor(
                raw["executor"], path=("executor",), permitted=schemas.allow_import, code=False
            )
            problems += more
        problems.sort(key=lambda problem: _line(problem, source.lines))
        if problems:
            count = "one mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
            raise StudyError(
                f"{title} has {count}; nothing was run", problems=[p.shown(source.lines) for p in problems]
            )
        study = study.model_copy(update={"qm": qm, "check": check})
        study._section, study._options = section, options
        study._folder, study._given, study._numbers = source.folder, given, numbers
        study._places_region = schema is not None and schema.places_region
        study._allow_import, study._executor = tuple(schemas.allow_import), executor
        return study

    # --- facts --------------------------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """Where the relative file names of the study start."""
        return self._folder

    @property
    def section(self) -> str | None:
        """Name of the recipe's section; None for a recipe without options, or one that owns several sections."""
        return self._section

    @property
    def options(self) -> dict:
        """The recipe's options (or its sections), defaults filled in: the keyword arguments of its `run`."""
        return dict(self._options)

    @property
    def numbers_name(self) -> str | None:
        """The file that takes the place of a crystal in a study without one, as the study names it."""
        return self._numbers

    @property
    def numbers_file(self) -> Path | None:
        """The same file, to be opened."""
        return None if self._numbers is None else beside(self._folder, self._numbers)

    @property
    def recipe_places_region(self) -> bool:
        """Whether the recipe places the quantum region itself, in a crystal of its own."""
        return self._places_region

    @property
    def allow_import(self) -> tuple[str, ...]:
        """Modules whose calculators whoever loaded the study permits; no part of the study."""
        return self._allow_import

    @property
    def executor_settings(self) -> ExecutorSettings | None:
        """Where independent tasks are done, as the study has it."""
        return self._executor

    @property
    def engine_alone(self) -> bool:
        """Whether the engine computes the whole crystal, without a host."""
        return self.host is None

    @property
    def structure_source(self) -> Crystal | Path | None:
        """The structure that was given in Python, or its file; None for one from Materials Project."""
        if self._given is not None:
            return self._given
        if self.structure is None or self.structure.file is None:
            return None
        return beside(self._folder, self.structure.file)

    def potential_files(self) -> tuple[Path, ...]:
        """Potential files of the host (where there is one) and of an engine that reads some."""
        qm = self.qm or {}
        lines = list(() if self.host is None else self.host.pair_coeff)
        for section in (qm, qm.get("inner") or {}):
            given = section.get("pair_coeff") or []
            lines += [given] if isinstance(given, str) else given
        return Potential("", lines, ("H",), search_dirs=(str(self._folder),)).files()

    def checksums(self) -> dict[str, str]:
        """sha256 of structure and potential files by bare name."""
        source = self.structure_source
        named = [*([source] if isinstance(source, Path) else []), *self.potential_files()]
        named += [] if self.numbers_file is None else [self.numbers_file]
        return {path.name: sha256(path.read_bytes()).hexdigest() for path in named}

    def potential(self) -> Potential | None:
        """The host's potential, its files looked up beside the study first; None without a host."""
        return None if self.host is None else self.host.potential(self._folder)

    def input_crystal(self) -> Crystal:
        """The structure as it was given: `defect.site` counts in this one.

        Raises:
            StructureError: If the file cannot be used.
            EnvironmentProblem: If Materials Project cannot be asked.
        """
        if self.structure_source is None:
            return Crystal.of(fetch_structure(self.structure.mp_id))
        return Crystal.of(self.structure_source)

    def unit_cell(self) -> Crystal:
        """The cell that the supercell repeats; its array `input_site` counts in the input structure."""
        return in_cell(self.input_crystal().require_separation(), self.structure.cell)

    def as_mapping(self) -> dict:
        """The study with the keys of the file, defaults filled in, in the types of JSON."""
        core = _without_none(study_file.plain(self.model_dump(exclude={"qm", "check", "executor"}, warnings=False)))
        order = [
            "recipe",
            "structure",
            "supercell",
            "defect",
            "host",
            "qm",
            "region",
            "caps",
            "coupling",
            "matching",
        ]
        core["qm"] = study_file.plain(self.qm)  # a copy
        if self.host is None:  # what joins an engine to its host has no meaning without one
            order = [key for key in order if key not in ("caps", "coupling", "matching")]
        if self.structure is None:
            order = [key for key in order if key != "supercell"]
        mapping = {key: core[key] for key in order if core.get(key) is not None}
        if self._section is not None:
            mapping[self._section] = study_file.plain(self._options)
        elif self._options:  # sections of their own; null where one is switched off
            mapping |= {key: _without_none(dumped(value)) for key, value in self._options.items()}
        if self.check:
            mapping["check"] = study_file.plain(self.check)
        return {**mapping, "seed": self.seed}

    def without_options(self) -> Self:
        """The same study without what its recipe is told."""
        study = self.model_copy()
        study._options = {}
        return study

    def with_options(self, **options) -> Self:
        """The same study with other options of its recipe."""
        study = self.model_copy()
        study._options = {**self._options, **options}
        return study


# --- the parts of a file ----------------------------------------------------------------------------------


def _written_out(mapping: dict) -> dict:
    """With the short forms written out: `coupling: force_mixing` is `{scheme: force_mixing}`."""
    raw = dict(mapping)
    if isinstance(raw.get("executor"), str):
        raw["executor"] = {"executor": raw["executor"]}
    if isinstance(raw.get("coupling"), str):
        raw["coupling"] = {"scheme": raw["coupling"]}
    if "matching" in raw and raw["matching"] is None:
        raw["matching"] = "none"
    for key in ("caps", "check"):
        if key in raw and raw[key] is None:
            raw[key] = {}
    if raw.get("seed", 0) is None:
        del raw["seed"]
    return raw


def _qm_part(raw, schemas: Schemas, folder: Path):
    qm = raw.get("qm")
    if qm is None:
        return None, []
    if not isinstance(qm, dict):
        return None, []  # said by the study's own validation
    if not isinstance(qm.get("engine"), str):
        text = f"expected the name of an engine, got {shown(qm.get('engine'))}"
        return None, [Problem(("qm", "engine"), text)]
    if schemas.qm is None:
        return qm, []
    try:
        model = schemas.qm(qm["engine"])
    except ValueError as error:
        return None, [Problem(("qm", "engine"), str(error))]
    given = (
        qm if "engine" in model.model_fields else {key: value for key, value in qm.items() if key != "engine"}
    )
    settings, problems = validated(model, given, ("qm",), strict=False)
    if settings is None:
        return None, problems
    if schemas.qm_problems is not None:
        problems += [Problem(("qm",), text) for text in schemas.qm_problems(settings, folder)]
    return {"engine": qm["engine"], **settings.model_dump(mode="json")}, problems


def _check_part(raw, schemas: Schemas):
    check = raw.get("check", {})
    if not check or schemas.check is None or not isinstance(check, dict):
        return check, []
    options, problems = validated(schemas.check(), check, ("check",))
    # what was not said stays unsaid: the defaults of `check` do not belong to the run
    return {key: getattr(options, key) for key in check} if options is not None else {}, problems


def _missing_files(raw, folder: Path, given) -> list[Problem]:
    problems = []
    structure = raw.get("structure")
    if given is None and isinstance(structure, dict) and isinstance(structure.get("file"), str):
        path = beside(folder, structure["file"])
        if not path.is_file():
            names = [p.name for p in sorted(path.parent.iterdir())] if path.parent.is_dir() else []
            near = get_close_matches(path.name, names, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            problems.append(Problem(("structure", "file"), f"file not found: {path}{hint}"))
    if isinstance(structure, dict) and isinstance(structure.get("mp_id"), str):
        reason = why_not_available(structure["mp_id"])
        if reason:
            problems.append(Problem(("structure", "mp_id"), reason))
    lines = raw["host"].get("pair_coeff") if isinstance(raw.get("host"), dict) else None
    for line in [lines] if isinstance(lines, str) else lines if isinstance(lines, list) else []:
        try:
            Potential("", (line,), ("H",), search_dirs=(str(folder),)).resolved_coeff_lines()
        except FileNotFoundError as error:
            problems.append(Problem(("host", "pair_coeff"), str(error)))
        except ValueError:
            continue  # said by the section itself
    return problems


def _missing_numbers(key, name, folder: Path) -> list[Problem]:
    path = beside(folder, name)
    if path.is_file():
        return []
    names = [p.name for p in sorted(path.parent.iterdir())] if path.parent.is_dir() else []
    near = get_close_matches(path.name, names, n=1)
    return [Problem(key, f"file not found: {path}" + (f"; did you mean '{near[0]}'?" if near else ""))]


def _line(problem: Problem, lines) -> int:
    return next(
        (lines[problem.path[:n]] for n in range(len(problem.path), 0, -1) if problem.path[:n] in lines), 10**9
    )


def _without_none(value):
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value
