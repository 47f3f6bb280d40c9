"""Which sections of a study need each other: a crystal needs a host, or an engine that computes all of it alone."""

from __future__ import annotations

from solidqmmm.system.study_file import Problem
from solidqmmm.system.study_host import HostSection
from solidqmmm.system.study_sections import RegionSection

# What describes a crystal and who computes it.
_OF_A_CRYSTAL = ("structure", "defect", "host", "qm", "region", "caps", "coupling", "matching")
# What joins an engine to its host.
_OF_A_HOST = ("caps", "coupling", "matching")


def needs(raw: dict, *, engine_alone: bool | None) -> list[Problem]:
    """What is missing beside the sections that are there, and what has no meaning beside them.

    Args:
        raw: The study as it was written.
        engine_alone: Whether its recipe takes a crystal that the engine computes alone; None where nobody knows.
    """
    found = [] if raw.get("structure") is not None else [Problem(("structure",), "missing, and it has no default")]
    return found + _computed_by(raw, engine_alone)


def _computed_by(raw: dict, engine_alone: bool | None) -> list[Problem]:
    has = {key: raw.get(key) is not None for key in ("host", "qm", "region", *_OF_A_HOST)}
    if has["host"]:
        if has["qm"] and not has["region"]:
            text = "missing: a study with `qm` needs a region such as " + RegionSection.EXAMPLE
            return [Problem(("region",), text)]
        return []
    if not has["qm"]:
        alone = "" if engine_alone is False else ", or `qm` alone, whose engine then computes the whole cell"
        return [Problem(("host",), f"missing: the crystal needs a `host` potential such as {HostSection.EXAMPLE}{alone}")]
    if has["region"]:
        text = "there is nothing to embed it in without a `host`: give the host's potential"
        return [Problem(("region",), text + ("" if engine_alone is False else ", or leave the region out"))]
    if engine_alone is False:
        text = f"the recipe {raw.get('recipe')} needs a host potential beside it: give `host`, and a `region` for the engine"
        return [Problem(("qm",), text)]
    found = [Problem((key,), "has no meaning without a `host`: leave it out") for key in _OF_A_HOST if has[key]]
    structure = raw.get("structure")
    if isinstance(structure, dict) and structure.get("lattice") == "host":
        text = "'host' has no meaning without a `host`: give a structure with the engine's own lattice, and leave this out"
        found.append(Problem(("structure", "lattice"), text))
    return found


def needs_no_crystal(raw: dict, instead: str) -> list[Problem]:
    """What has no meaning in a study whose numbers are known, those of the option `instead`."""
    text = f"has no meaning beside {instead}, whose numbers are known: leave one of the two out"
    # Short forms that were written out are no keys of the user's.
    return [Problem((key,), text) for key in _OF_A_CRYSTAL if raw.get(key) not in (None, "none", {})]
