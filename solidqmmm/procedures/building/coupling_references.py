"""What a user of a coupling owes to its inventors: keys of data/references.bib by scheme and option."""

from __future__ import annotations

from solidqmmm.system.study_sections import AdditiveSection, Coupling

_ADDITIVE = ("senn2009qmmm", "sokol2004hybrid", "fairweather1998fundamental")
SCHEMES = {
    "subtractive": ("maseras1995imomm",),
    "force_mixing": ("bernstein2009hybrid",),
    "mechanical": _ADDITIVE,
    "electrostatic": _ADDITIVE,
    "polarizable": (*_ADDITIVE, "applequist1972dipole"),
}
DAMPING = {"thole": ("thole1981", "ren2003polarizable"), "linear": ("thole1981",), "none": ()}
# Z1 is one of the schemes that Lin and Truhlar compare.
BOUNDARY_CHARGES = {
    "none": (),
    "delete": ("lin2005redistributed",),
    "rc": ("lin2005redistributed",),
    "rcd": ("lin2005redistributed",),
    "shift": ("sherwood2003quasi",),
}


BALANCED = "wang2010balanced"


def coupling_references(asked: Coupling, *, link_atoms: bool) -> list[str]:
    """Keys for the section `coupling` of a study, whose cluster is closed by link atoms or not."""
    keys = [*SCHEMES[asked.scheme]]
    if isinstance(asked, AdditiveSection):
        keys += BOUNDARY_CHARGES[asked.boundary_charges]
        keys += [BALANCED] if link_atoms and asked.scheme != "mechanical" else []
        keys += DAMPING[asked.damping] if asked.scheme == "polarizable" else ()
    return keys
