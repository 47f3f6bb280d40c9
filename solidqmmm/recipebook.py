"""The one loader of recipes: shipped ones by name, a user's own by the path of its file.

A recipe is a module with a docstring, `STUDY_SECTION` (name of its section in study files, or None) and a
keyword-only `run(*, model, ..., workdir=None, progress=None) -> Result`. Its options are the other arguments of
`run`: their annotations and defaults are the schema of the section, so that nothing is said twice. With
`STUDY_SECTIONS = ("crack", "mode")` in place of `STUDY_SECTION` each option is a key of the study's top level: a section,
where its annotation is a `Section`, or a single value.
`figures(result)` is optional and returns matplotlib figures by name; so is `estimate(*, model, ...)`, the rows of a dry
run. `ENGINE_ALONE = True` is optional too: the recipe takes a study with `qm` and neither `host` nor `region`, whose
engine computes the whole periodic cell; its model has no
`potential` and cannot be opened, and `model.engine` is what it works with. `INSTEAD_OF_CRYSTAL` is optional as well: the
name of an option (of a file) with which the study needs no crystal; `model` then has nothing but its `study`.
`MAY_CHANGE`: options on which no record depends (of a series that grows): a run goes on after they were changed.
`PLACES_REGION = True`: the recipe makes a crystal of its own and places the quantum region there; `model.partition` has
none.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import shutil
import sys
import typing
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

from pydantic import BaseModel, ConfigDict, create_model
from pydantic.errors import PydanticSchemaGenerationError

from solidqmmm.schema_words import kind_in_words
from solidqmmm.system.foreign_code import USER_RECIPE
from solidqmmm.system.study import Schemas, Study
from solidqmmm.system.study_recipe import RecipeSchema
from solidqmmm.system.study_sections import beside

# What a recipe is handed by whoever runs it, and no study can say.
HANDED_IN = ("model", "workdir", "progress", "executor")


@dataclass(frozen=True)
class Recipe:
    """A recipe that was loaded.

    Attributes:
        name: Its name: that of the file without .py.
        module: The module.
    """

    name: str
    module: ModuleType

    @property
    def path(self) -> Path:
        """Its file."""
        return Path(self.module.__file__)

    @property
    def section(self) -> str | None:
        """Name of its section in a study, None if it has no options."""
        return getattr(self.module, "STUDY_SECTION", None)

    @property
    def sections(self) -> tuple[str, ...]:
        """Names of its sections at the top level of a study, where it owns several; empty for all others."""
        return tuple(getattr(self.module, "STUDY_SECTIONS", ()))

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of a study that it reads itself."""
        return self.sections or (() if self.section is None else (self.section,))

    @property
    def engine_alone(self) -> bool:
        """Whether it takes a crystal that the engine computes alone, without a host."""
        return bool(getattr(self.module, "ENGINE_ALONE", False))

    @property
    def instead_of_crystal(self) -> str | None:
        """The option with which a study needs no crystal, or None."""
        return getattr(self.module, "INSTEAD_OF_CRYSTAL", None)

    @property
    def places_region(self) -> bool:
        """Whether it places the quantum region itself."""
        return bool(getattr(self.module, "PLACES_REGION", False))

    @property
    def may_change(self) -> tuple[str, ...]:
        """Options with which a run goes on in the same folder after they were changed."""
        return tuple(getattr(self.module, "MAY_CHANGE", ()))

    @property
    def takes_executor(self) -> bool:
        """Whether it has independent tasks that an executor may do side by side."""
        return "executor" in inspect.signature(self.module.run).parameters

    @property
    def doc(self) -> str:
        """What it does, from its docstring."""
        return inspect.cleandoc(self.module.__doc__ or "")

    @property
    def title(self) -> str:
        """First line of the docstring."""
        return self.doc.partition("\n")[0]

    @property
    def options(self) -> type[BaseModel]:
        """Schema of its section."""
        return options_of(self.module.run, f"{self.name}_options")

    def run(self, **arguments):
        """Runs it; the arguments are those of the module's `run`."""
        return self.module.run(**arguments)

    def estimate(self, model, ranks: int | None = None, **options) -> list[tuple[str, str]] | None:
        """Rows of label and value about the cost of a study; None where the recipe has no words of its own for it.

        Args:
            model: What `build_model` returns.
            ranks: A number of ranks on which a step is foretold, for an `estimate` with an argument of that name.
            **options: Options of the study.
        """
        if not hasattr(self.module, "estimate"):
            return None
        if ranks is None:
            return self.module.estimate(model=model, **options)
        if "ranks" in inspect.signature(self.module.estimate).parameters:
            return self.module.estimate(model=model, ranks=ranks, **options)
        rows = self.module.estimate(model=model, **options)
        return [*rows, ("ranks", f"{ranks}; no prediction: the recipe's own estimate takes no `ranks`")]

    def forecast(self, model, ranks: int, **options):
        """What a step takes on `ranks` ranks (`procedures.parallel.rank_forecast.Forecast`); None where nobody knows.

        A recipe that places the region itself says so in a function `forecast(*, model, ranks, ...)` of its own.
        """
        if hasattr(self.module, "forecast"):
            return self.module.forecast(model=model, ranks=ranks, **options)
        if model.engine_alone or model.cluster is None:
            return None
        from solidqmmm.procedures.dry_run import forecast

        return forecast(model, ranks)

    def figures(self, result) -> dict:
        """Matplotlib figures of a result by name; none if the recipe draws none."""
        return self.module.figures(result) if hasattr(self.module, "figures") else {}


def names() -> list[str]:
    """Names of the shipped recipes."""
    spec = importlib.util.find_spec("solidqmmm.recipes")
    folders = spec.submodule_search_locations if spec else []
    return sorted(file.stem for folder in folders for file in Path(folder).glob("[!_]*.py"))


def find(name: str, folder=".") -> Recipe:
    """The recipe `name`: a shipped one, or the path of a .py file relative to `folder`.

    Raises:
        ValueError: If there is none (the nearest name is offered), or it is no recipe (it says why).
    """
    if name.endswith(".py") or "/" in name:
        return _checked(Recipe(Path(name).stem, _from_file(beside(Path(folder), name))))
    shipped = names()
    if name not in shipped:
        near = get_close_matches(name, shipped, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"shipped are: {', '.join(shipped) or 'none'};"
        raise ValueError(
            f"no recipe '{name}'; {hint} A recipe of your own is named by the path of its .py file"
        )
    return _checked(Recipe(name, importlib.import_module(f"solidqmmm.recipes.{name}")))


def copy(name: str, destination) -> Path:
    """Copies the file of a recipe to a folder or file, as the start of a recipe of one's own.

    Raises:
        ValueError: If there is no such recipe, or the destination exists.
    """
    recipe = find(name)
    target = Path(destination)
    if target.is_dir():
        target = target / recipe.path.name
    if target.exists():
        raise ValueError(f"{target} exists already: give another destination")
    return Path(shutil.copyfile(recipe.path, target))


def options_of(function, title: str, handed_in=HANDED_IN) -> type[BaseModel]:
    """Schema of the options of `function`, from its signature.

    Raises:
        ValueError: For an argument without annotation, or with one that no YAML value fits.
    """
    hints = typing.get_type_hints(function, include_extras=True)
    fields = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name in handed_in or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        if name not in hints:
            raise ValueError(
                f"argument `{name}` of {function.__name__} has no annotation, which its option needs"
            )
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[name] = (hints[name], default)
    try:
        return create_model(title, __config__=ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False), **fields)
    except PydanticSchemaGenerationError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"an option of {function.__name__} has a type that no study can say: {reason}"
        ) from error


def described_options(schema: type[BaseModel]) -> list[tuple[str, str, str]]:
    """Rows of name, type and default; the keys of a section follow it, as `crack.plane`."""
    rows = []
    for name, info in schema.model_fields.items():
        if inner := section_in(info.annotation):
            needed = "required" if info.is_required() else "may be left out"
            rows.append((name, "section", needed))
            rows += [(f"{name}.{key}", *rest) for key, *rest in described_options(inner)]
            continue
        kind = kind_in_words(info.annotation, info.metadata).replace("`", "")
        default = "required" if info.is_required() else repr(info.get_default(call_default_factory=True))
        rows.append((name, kind, default))
    return rows


def section_in(annotation) -> type[BaseModel] | None:
    """The section that an annotation asks for, or None for a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in typing.get_args(annotation) if (found := section_in(arg))), None)


# --- studies ------------------------------------------------------------------------------------------------


def load_study(path, *, allow_import=()) -> Study:
    """The study in a YAML file, with the sections of engine, recipe and check validated too.

    Args:
        path: The file.
        allow_import: Names of modules whose ASE calculators the study may import, beside `foreign_code.CALCULATORS`.

    Raises:
        StudyError: With every mistake in the file.
    """
    return Study.load(path, schemas=schemas(allow_import=allow_import))


def schemas(*, allow_import=()) -> Schemas:
    """What the study file may say in the sections that belong to engines, recipes and the boundary check."""
    return Schemas(
        qm=_engine_settings, recipe=_recipe_schema, check=_check_options, qm_problems=_qm_problems,
        allow_import=tuple(allow_import),
    )  # fmt: skip


def _recipe_schema(name: str, folder: Path) -> RecipeSchema:
    recipe = find(name, folder)
    return RecipeSchema(
        recipe.section, recipe.options, recipe.engine_alone, recipe.instead_of_crystal, recipe.sections,
        recipe.places_region,
    )


def _engine_settings(engine: str) -> type[BaseModel]:
    from solidqmmm.engines.factory import SETTINGS

    if engine not in SETTINGS:
        near = get_close_matches(engine, SETTINGS, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"expected one of {', '.join(SETTINGS)}, got '{engine}'{hint}")
    return SETTINGS[engine]


def _qm_problems(settings, folder: Path) -> list[str]:
    """Missing packages and potential files, before anything runs."""
    if getattr(settings, "inner", None) is not None:
        return _qm_problems(settings.inner, folder)
    if settings.engine == "gpaw" and importlib.util.find_spec("gpaw") is None:
        return ["gpaw is not installed; `solidqmmm doctor` says how to get it"]
    if settings.engine == "pyscf" and importlib.util.find_spec("pyscf") is None:
        return ["pyscf is not installed: `pip install pyscf`"]
    if settings.engine == "ase":
        module = settings.calculator.partition(":")[0]
        if importlib.util.find_spec(module.partition(".")[0]) is None:
            return [f"the calculator's package '{module.partition('.')[0]}' is not installed"]
    if settings.engine == "lammps":
        from solidqmmm.system.potential import Potential

        try:
            Potential(**settings.model_dump(exclude={"engine", "timeout_s"})).with_search_dirs(
                folder
            ).resolved_coeff_lines()
        except (ValueError, FileNotFoundError) as error:
            return [str(error)]
    return []


def _check_options() -> type[BaseModel]:
    from solidqmmm.procedures.check import check_boundary

    return options_of(check_boundary, "check_options")


# --- files of users -----------------------------------------------------------------------------------------


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"recipe file not found: {path}")
    name = f"{USER_RECIPE}{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # annotations and dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        line = error.lineno if isinstance(error, SyntaxError) else None
        where = f" (line {line})" if line else ""
        raise ValueError(
            f"recipe file {path}{where} fails on import: {type(error).__name__}: {error}"
        ) from error
    return module


def _checked(recipe: Recipe) -> Recipe:
    run = getattr(recipe.module, "run", None)
    if not callable(run) or "model" not in inspect.signature(run).parameters:
        raise ValueError(
            f"{recipe.path} is no recipe: it needs a function `run(*, model, ...)` that returns a Result"
        )
    if recipe.sections and recipe.section is not None:
        raise ValueError(f"{recipe.path}: give STUDY_SECTION (one section) or STUDY_SECTIONS (several), not both")
    for key in recipe.keys:
        if key in Study.model_fields:
            name = "STUDY_SECTIONS" if recipe.sections else "STUDY_SECTION"
            raise ValueError(f"{recipe.path}: {name} must not be the study's own key '{key}'")
    options = tuple(recipe.options.model_fields)
    if recipe.sections and set(recipe.sections) != set(options):
        raise ValueError(
            f"{recipe.path}: STUDY_SECTIONS must name the options of run, one section each: it names "
            f"{', '.join(recipe.sections)}, and run has {', '.join(options) or 'none'}"
        )
    required = [name for name, info in recipe.options.model_fields.items() if info.is_required()]
    if required and not recipe.keys:
        raise ValueError(
            f"{recipe.path}: run needs {', '.join(required)}, but there is no STUDY_SECTION to say it in"
        )
    return recipe
