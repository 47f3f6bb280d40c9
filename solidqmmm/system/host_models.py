"""Potentials of ionic crystals that are shipped with their sources (data/host_models.yaml)."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from importlib.resources import files


@cache
def _data() -> dict:
    from ruamel.yaml import YAML

    text = files("solidqmmm.data").joinpath("host_models.yaml").read_text(encoding="utf-8")
    return YAML(typ="safe", pure=True).load(text)


def host_models() -> dict[str, str]:
    """What each shipped model is, by its name."""
    return {name: entry["about"] for name, entry in _data().items()}


def host_model(name: str) -> dict:
    """The keys of a study's section `host` for a shipped model.

    Raises:
        ValueError: For an unknown name.
    """
    if name not in _data():
        near = get_close_matches(name, _data(), n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(_data())}"
        raise ValueError(f"no host model '{name}'; {hint}")
    entry = _data()[name]
    return {**entry["host"], "references": list(entry["references"])}
