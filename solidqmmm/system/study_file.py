"""Reading a study file: plain values with the line of every key, and what is wrong with them in words."""

from __future__ import annotations

import json
import types
import typing
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ValidationError

from solidqmmm.errors import StudyError

# Aliases let a short file stand for a huge one; a study with all atoms of a large region in a list stays far below.
LARGEST_BYTES = 10_000_000
LARGEST_COUNT = 1_000_000
DEEPEST = 40


@dataclass(frozen=True)
class Source:
    """The content of a study file.

    Attributes:
        mapping: Plain dicts, lists and scalars.
        lines: Line in the file (from 1) of each key path, such as ('region', 'core', 'hops').
        folder: Where relative file names start.
    """

    mapping: dict
    lines: dict[tuple, int] = field(default_factory=dict)
    folder: Path = Path()


@dataclass(frozen=True)
class Problem:
    """One mistake: where, and what was expected, what came, what to do."""

    path: tuple
    text: str

    def shown(self, lines: dict[tuple, int]) -> str:
        """'region.core.radius (line 12): ...'; without a line where there is none (from Python)."""
        key = ""
        for part in self.path:
            key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else str(part)
        where = next(
            (lines[self.path[:n]] for n in range(len(self.path), 0, -1) if self.path[:n] in lines), None
        )
        return f"{key or 'the study'}{f' (line {where})' if where else ''}: {self.text}"


def read(path) -> Source:
    """Reads a YAML study file.

    Raises:
        StudyError: If the file is missing, is no YAML (with the line), holds a key twice, is no mapping, or is too large.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    path = Path(path)
    if not path.is_file():
        near = get_close_matches(path.name, [p.name for p in sorted(path.parent.glob("*.y*ml"))], n=1)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise StudyError(f"study file not found: {path}{hint}")
    if path.stat().st_size > LARGEST_BYTES:
        raise StudyError(
            f"{path} has {path.stat().st_size / 1e6:.0f} MB, and a study file at most {LARGEST_BYTES / 1e6:.0f}: is it "
            "another file?"
        )
    try:
        document = YAML(typ="rt").load(path.read_text(encoding="utf-8"))  # builds plain values only, whatever the tags say
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" (line {mark.line + 1})" if mark else ""
        raise StudyError(f"{path}{where} is not valid YAML: {_first_line(error.problem)}") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise StudyError(f"{path} is not valid YAML: {_first_line(error)}") from None
    except Exception as error:  # of values that the parser takes for dates, numbers or nested without end
        raise StudyError(f"{path} is not valid YAML: {type(error).__name__}: {_first_line(error)}") from None
    if not isinstance(document, dict):
        raise StudyError(
            f"{path}: expected a mapping with the keys recipe, structure, host ..., got {shown(document)}"
        )
    _require_bounds(document, path)
    lines = {}
    _collect_lines(document, (), lines)
    return Source(plain(document), lines, path.parent)


def _require_bounds(document, path):
    """Aliases count as often as they are used."""
    count, level, waiting = 0, 0, [document]
    while waiting:
        level += 1
        waiting = [
            item
            for node in waiting
            for item in (node.values() if isinstance(node, dict) else node if isinstance(node, list) else ())
        ]
        count += len(waiting)
        if count > LARGEST_COUNT or level > DEEPEST:
            raise StudyError(
                f"{path} holds more than {LARGEST_COUNT:,} values or nests deeper than {DEEPEST} levels with all aliases "
                "written out: a study needs a few dozen; write them out yourself"
            )


def _collect_lines(node, path, lines):
    keyed = isinstance(node, dict)
    for key, value in node.items() if keyed else enumerate(node) if isinstance(node, list) else ():
        here = (*path, str(key) if keyed else key)
        try:
            lines[here] = (node.lc.key(key) if keyed else node.lc.item(key))[0] + 1
        except (KeyError, TypeError, AttributeError):  # merged from elsewhere by `<<`, or below a tag
            lines[here] = lines.get(path, 1)
        _collect_lines(value, here, lines)


def plain(value):
    """Dicts with string keys, lists and bare scalars, as JSON would have them."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, bool | np.bool_) or type(value).__name__ == "ScalarBoolean":
        return bool(value)
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, np.generic):
        return value.item()
    return None if value is None else str(value)


def to_yaml(mapping: dict) -> str:
    """YAML text in which short lists and mappings stay on one line."""
    from io import StringIO

    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    def styled(value, depth):
        if isinstance(value, dict):
            node = CommentedMap({key: styled(item, depth + 1) for key, item in value.items()})
        elif isinstance(value, list):
            node = CommentedSeq([styled(item, depth + 1) for item in value])
        else:
            return value
        if depth > 0 and len(json.dumps(value)) < 90:
            node.fa.set_flow_style()
        return node

    yaml = YAML()
    yaml.width = 110
    yaml.representer.add_representer(
        type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    out = StringIO()
    yaml.dump(styled(mapping, 0), out)
    return out.getvalue()


# --- validation in words ----------------------------------------------------------------------------------


def validated(
    model: type[BaseModel], raw, path: tuple = (), *, strict: bool = True
) -> tuple[BaseModel | None, list[Problem]]:
    """`raw` as `model`, or None and every problem in it. Strict: '4' is no number and 1 is no bool."""
    try:
        if strict:
            return model.model_validate_json(json.dumps(raw), strict=True), []
        return model.model_validate(raw), []
    except ValidationError as error:
        return None, problems_of(error, model, raw, path)


def problems_of(error: ValidationError, model: type[BaseModel], raw, path: tuple = ()) -> list[Problem]:
    """One problem for each key that is wrong."""
    expected, said, order = {}, {}, []
    for item in error.errors(include_url=False):
        key = _path_in(raw, item["loc"], item["type"] == "missing")
        if key not in order:
            order.append(key)
        text = _explained(item, model, raw, key)
        by_type = text.startswith("expected ") and item["type"] != "value_error"
        (expected if by_type else said).setdefault(key, []).append(text)
    found = []
    for key in order:
        # of the branches of a union, the one that got further says what matters
        if any(other[: len(key)] == key and other != key for other in order) and key not in said:
            continue
        texts = list(dict.fromkeys(said.get(key, [])))
        if key in expected:
            kinds = dict.fromkeys(text.removeprefix("expected ") for text in expected[key])
            texts.append(f"expected {' or '.join(kinds)}, got {shown(_at(raw, key))}")
        found.extend(Problem((*path, *key), text) for text in texts)
    return found


def unknown_key(key: str, allowed) -> str:
    """What to say of a key that does not exist: the nearest spelling, or the list."""
    allowed = [str(name) for name in allowed]
    near = get_close_matches(str(key).lower(), allowed, n=1, cutoff=0.6)
    if near:
        return f"unknown key; did you mean '{near[0]}'?"
    return f"unknown key; allowed here: {', '.join(allowed) or 'nothing'}"


def shown(value) -> str:
    """A value as it may appear in a message: short, and never an object's address."""
    text = repr(plain(value))
    return text if len(text) <= 70 else f"{text[:66]} ..."


def _explained(item, model, raw, key) -> str:
    kind, context = item["type"], item.get("ctx", {})
    if kind == "extra_forbidden":
        return unknown_key(item["loc"][-1], _allowed_at(model, item["loc"][:-1]))
    if kind == "missing":
        if isinstance(item["loc"][-1], int):
            return f"too few values: {shown(_at(raw, key[:-1]))}"
        return "missing, and it has no default"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        which = context["discriminator"].strip("'")
        tags = context.get("expected_tags") or _tags_at(model, item["loc"], which)
        if kind == "union_tag_not_found":
            return f"`{which}` is missing: one of {tags}"
        near = get_close_matches(context["tag"], tags.replace("'", "").split(", "), n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        return f"`{which}` must be one of {tags}, got '{context['tag']}'{hint}"
    if kind == "value_error":
        return str(context["error"])
    return f"expected {_kind_in_words(kind, context, item['msg'], model, item['loc'])}"


def _kind_in_words(kind, context, message, model, loc) -> str:
    words = {
        "float_type": "a number",
        "float_parsing": "a number",
        "finite_number": "a finite number",
        "int_type": "an integer",
        "int_parsing": "an integer",
        "int_from_float": "an integer",
        "bool_type": "true or false",
        "bool_parsing": "true or false",
        "string_type": "a text",
        "string_pattern_mismatch": "a text of the form {pattern}",
        "list_type": "a list",
        "tuple_type": "a list",
        "none_required": "null",
        "greater_than": "a number above {gt}",
        "greater_than_equal": "a number not below {ge}",
        "less_than": "a number below {lt}",
        "less_than_equal": "a number not above {le}",
        "literal_error": "{expected}",
        "enum": "{expected}",
        "too_short": "at least {min_length} value(s)",
        "too_long": "at most {max_length} value(s)",
    }
    if kind == "string_pattern_mismatch":
        form = next((m for m in _models_at(model, loc[:-1]) if loc[-1] in m.model_fields), None)
        described = form and form.model_fields[loc[-1]].description
        return described or words[kind].format(**context)
    if kind in words:
        return words[kind].format(**context)
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        example = next((m.EXAMPLE for m in _models_at(model, loc) if hasattr(m, "EXAMPLE")), None)
        return f"a mapping such as {example}" if example else "a mapping"
    message = message[0].lower() + message[1:]
    return message.removeprefix("input should be ")


# --- where an error is, in the file and in the models -----------------------------------------------------


def _path_in(raw, loc, missing: bool) -> tuple:
    """`loc` without the names of union branches and tags, which are in no file."""
    path, node = [], raw
    for position, part in enumerate(loc):
        if (isinstance(node, dict) and part in node) or (isinstance(node, list) and isinstance(part, int)):
            path.append(part)
            node = node[part] if isinstance(node, dict) or part < len(node) else None
        elif missing and position == len(loc) - 1 and isinstance(node, dict):
            path.append(part)
    return tuple(path)


def _at(raw, path):
    for part in path:
        try:
            raw = raw[part]
        except (KeyError, IndexError, TypeError):
            return None
    return raw


def _models_in(annotation) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Annotated, typing.Union, types.UnionType, tuple, list):
        return [model for arg in typing.get_args(annotation) for model in _models_in(arg)]
    return []


def _models_at(model, loc) -> list[type[BaseModel]]:
    """The models that may stand at `loc`."""
    current = [model]
    for part in loc:
        deeper = [
            m for c in current if part in c.model_fields for m in _models_in(c.model_fields[part].annotation)
        ]
        tagged = [c for c in current if c.__name__ == part or part in _literals(c)]
        current = deeper or tagged or ([] if any(part in c.model_fields for c in current) else current)
    return current


def _literals(model) -> list:
    return [
        value
        for info in model.model_fields.values()
        if typing.get_origin(info.annotation) is typing.Literal
        for value in typing.get_args(info.annotation)
    ]


def _allowed_at(model, loc) -> list[str]:
    return list(dict.fromkeys(name for found in _models_at(model, loc) for name in found.model_fields))


def _tags_at(model, loc, discriminator) -> str:
    found = [
        m.model_fields[discriminator].annotation
        for m in _models_at(model, loc)
        if discriminator in m.model_fields
    ]
    return ", ".join(repr(tag) for annotation in found for tag in typing.get_args(annotation))


def _first_line(text) -> str:
    return (str(text).strip().splitlines() or ["unreadable"])[0]
