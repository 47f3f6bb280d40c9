"""What a recipe reads of a study: the options in its section, or sections of its own at the top level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from pydantic import BaseModel

from solidqmmm.errors import StudyError
from solidqmmm.system import study_file
from solidqmmm.system.study_file import Problem, shown, unknown_key, validated


@dataclass(frozen=True)
class RecipeSchema:
    """What a recipe asks of its study.

    Attributes:
        section: Name of its section, or None.
        options: Model of that section; with `sections` its fields are keys of the study.
        engine_alone: Whether it takes a study with `qm` and no `host`, whose engine computes the whole crystal.
        instead_of_crystal: Name of the option (a file) with which a study needs no crystal at all, or None.
        sections: Names of several sections (or single values) at the top level, in place of `section`.
        places_region: Whether it places the quantum region itself, in a crystal of its own (a crack tip).
    """

    section: str | None
    options: type[BaseModel]
    engine_alone: bool = False
    instead_of_crystal: str | None = None
    sections: tuple[str, ...] = ()
    places_region: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of a study that are the recipe's own."""
        return self.sections or (() if self.section is None else (self.section,))


def recipe_part(raw: dict, keys, schema_of: Callable[[str, Path], RecipeSchema] | None, folder: Path):
    """Section name, options with defaults, the recipe's schema, and the problems of recipe, sections and unknown keys.

    Args:
        raw: The study as it was written.
        keys: The study's own keys.
        schema_of: What a recipe asks of its study, for its name and the study's folder; None where nobody knows.
        folder: Of the study.
    """
    recipe, others = raw.get("recipe"), {key: value for key, value in raw.items() if key not in keys}
    problems = []
    if schema_of is None or not isinstance(recipe, str):
        section, options, problems = _unchecked_section(others, keys)
        return section, options, None, problems
    try:
        schema = schema_of(recipe, folder)
    except (ValueError, StudyError) as error:
        _, _, problems = _unchecked_section(others, keys)
        return None, {}, None, [Problem(("recipe",), str(error)), *problems]
    for key in others:
        if key not in schema.keys:
            problems.append(Problem((key,), unknown_key(key, [*keys, *schema.keys]) + _reads(recipe, schema)))
    if schema.sections:
        options, more = validated(
            schema.options, {key: others[key] for key in schema.sections if key in others}
        )
        return None, dict(options) if options is not None else {}, schema, problems + more
    section = schema.section
    given = others.get(section)
    if not isinstance(given, dict | None):
        problem = Problem((section,), f"expected a mapping of options, got {shown(given)}")
        return section, {}, schema, [*problems, problem]
    options, more = validated(schema.options, given or {}, (section,) if section else ("recipe",))
    return section, dict(options) if options is not None else {}, schema, problems + more


def dumped(value):
    """An option in the types of JSON, also where it is a section or a list of some."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, list | tuple):
        return [dumped(item) for item in value]
    return study_file.plain(value)


def _reads(recipe: str, schema: RecipeSchema) -> str:
    if not schema.keys:
        return ""
    named = ", ".join(f"'{key}'" for key in schema.keys)
    return f" (the recipe {recipe} reads the section{'s' if len(schema.keys) > 1 else ''} {named})"


def _unchecked_section(others, keys):
    """Without a known recipe, one mapping under a name that is no misspelt key passes as its section."""
    section, options, problems = None, {}, []
    for key, value in others.items():
        if (
            section is None
            and isinstance(value, dict | None)
            and not get_close_matches(key, keys, n=1, cutoff=0.7)
        ):
            section, options = key, value or {}
        else:
            problems.append(Problem((key,), unknown_key(key, keys)))
    return section, options, problems
