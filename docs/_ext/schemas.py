"""Tables of the keys of a study, made from the models that validate it: they cannot go stale.

    ```{study-keys} solidqmmm.system.study_sections:CapsSection
    ```
    ```{recipe-keys} defect_relaxation
    ```
    ```{check-keys}
    ```
    ```{recipe-list}
    ```

What a key means is taken from, in this order: the field's description, the class's or function's docstring, the lines of the
directive (`key: meaning`). A key without a meaning, and a meaning without its key, fail the build.
"""

from __future__ import annotations

import inspect
import re
from importlib import import_module

from pydantic import BaseModel
from sphinx.util.docutils import SphinxDirective

from solidqmmm.schema_words import kind_in_words


def meanings(docstring: str | None, heading: str) -> dict[str, str]:
    """Entries of a section 'Attributes:' or 'Args:' of a docstring by name; 'a, b: text' counts for both."""
    found, names, inside = {}, [], False
    for line in inspect.cleandoc(docstring or "").split("\n"):
        if not line.startswith(" "):
            inside = line == f"{heading}:" or (inside and not line)
            continue
        if not inside:
            continue
        entry = re.match(r"^    (\w+(?:, \w+)*): (.*)$", line)
        if entry:
            names = entry[1].split(", ")
            found |= dict.fromkeys(names, entry[2].strip())
        elif names:
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return found


def shown(value) -> str:
    """A default as YAML has it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, BaseModel):
        inner = {key: item for key, item in value.model_dump().items() if item is not None}
        said = ", ".join(f"{key}: {str(item).lower() if isinstance(item, bool) else item}" for key, item in inner.items())
        return "see below" if len(inner) > 3 else f"`{{{said}}}`"
    if isinstance(value, tuple):
        value = list(value)
    return f"`{value}`"


def rows(model: type[BaseModel], known: dict[str, str], said: dict[str, str]) -> list[tuple[str, ...]]:
    """Key, kind, default and meaning of every field.

    Raises:
        ValueError: For a key that nobody explains, or an explanation of a key that is not there.
    """
    fields = model.model_fields
    stray = set(said) - set(fields)
    if stray:
        raise ValueError(f"{model.__name__} has no key {', '.join(sorted(stray))}")
    made = []
    for name, info in fields.items():
        meaning = said.get(name) or info.description or known.get(name)
        if not meaning:
            raise ValueError(f"nobody says what `{name}` of {model.__name__} means")
        default = "*required*" if info.is_required() else shown(info.get_default(call_default_factory=True))
        meaning = meaning.strip().rstrip(".")
        meaning = meaning if meaning[:1].isupper() or meaning.startswith("`") else meaning[:1].upper() + meaning[1:]
        made.append((f"`{name}`", kind_in_words(info.annotation, info.metadata), default, meaning))
    return made


class _Table(SphinxDirective):
    has_content = True
    optional_arguments = 1

    def run(self):
        said = {}
        for line in self.content:
            if line.strip():
                key, _, meaning = line.partition(":")
                said[key.strip()] = meaning.strip()
        try:
            found = rows(*self.model_and_meanings(), said)
        except ValueError as error:
            raise self.error(str(error)) from error
        lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in found]
        return self.parse_text_to_nodes("\n".join(lines))


class StudyKeys(_Table):
    """Keys of a section, `module:Model`; the meanings may also come from `module:Model module:Class`."""

    final_argument_whitespace = True

    def model_and_meanings(self):
        found = []
        for name in self.arguments[0].split():
            module, _, cls = name.partition(":")
            found.append(getattr(import_module(module), cls))
        known = {}
        for cls in reversed(found):
            known |= meanings(cls.__doc__, "Args") | meanings(cls.__doc__, "Attributes")
        return found[0], known


class RecipeKeys(_Table):
    """Options of a recipe."""

    def model_and_meanings(self):
        from solidqmmm import recipebook

        recipe = recipebook.find(self.arguments[0])
        return recipe.options, meanings(recipe.module.run.__doc__, "Args")


class CheckKeys(_Table):
    """Options of the section `check`."""

    def model_and_meanings(self):
        from solidqmmm.procedures.check import check_boundary
        from solidqmmm.recipebook import options_of

        return options_of(check_boundary, "check"), meanings(check_boundary.__doc__, "Args")


class RecipeList(SphinxDirective):
    """The shipped recipes with their first lines."""

    def run(self):
        from solidqmmm import recipebook

        lines = ["| recipe | what | sections |", "|---|---|---|"]
        for name in recipebook.names():
            recipe = recipebook.find(name)
            keys = ", ".join(f"`{key}`" for key in recipe.keys) or "none"
            lines.append(f"| `{name}` | {recipe.title} | {keys} |")
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app):
    for name, directive in {
        "study-keys": StudyKeys,
        "recipe-keys": RecipeKeys,
        "check-keys": CheckKeys,
        "recipe-list": RecipeList,
    }.items():
        app.add_directive(name, directive)
    return {"parallel_read_safe": True}
