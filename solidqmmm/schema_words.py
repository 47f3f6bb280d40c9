"""The types of a study's options in the words of somebody who writes YAML."""

from __future__ import annotations

import types
import typing

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel

_PLAIN = {
    int: "integer",
    float: "number",
    str: "text",
    bool: "true / false",
    list: "list",
    tuple: "list",
    typing.Any: "any",
}
_SIGNS = {Gt: ("gt", ">"), Ge: ("ge", "≥"), Lt: ("lt", "<"), Le: ("le", "≤")}


def kind_in_words(annotation, metadata=()) -> str:
    """A type as a user of YAML reads it; `metadata` are the limits of its field."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    # pydantic's Field keeps its limits in a metadata of its own
    metadata = [limit for item in metadata for limit in getattr(item, "metadata", None) or [item]]
    limits = [
        f"{sign} {getattr(item, name):g}"
        for item in metadata
        for cls, (name, sign) in _SIGNS.items()
        if isinstance(item, cls)
    ]
    if origin is typing.Annotated:
        return kind_in_words(args[0], (*args[1:], *metadata))
    if annotation is type(None):
        return "null"
    if origin in (typing.Union, types.UnionType):
        words = [kind_in_words(arg) for arg in args if arg is not type(None)]
        return ", or ".join(dict.fromkeys(words)) + _limits(limits)
    if origin is typing.Literal:
        return " / ".join(f"`{value}`" for value in args)
    if origin in (list, tuple) and args:
        inner = [arg for arg in args if arg is not Ellipsis]
        if origin is tuple and Ellipsis not in args:
            return f"list of {len(args)} × {kind_in_words(args[0])}"
        return f"list of {kind_in_words(inner[0])}{_limits(limits)}"
    if origin is dict or annotation is dict:
        return f"mapping to {kind_in_words(args[1])}" if args and args[1] is not typing.Any else "mapping"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    return _PLAIN.get(annotation, getattr(annotation, "__name__", str(annotation))) + _limits(limits)


def _limits(limits) -> str:
    return f" {' and '.join(limits)}" if limits else ""
