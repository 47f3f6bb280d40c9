"""The quantum region that a study asks for: its labels, its centre, and who is bonded."""

from __future__ import annotations

import numpy as np

from solidqmmm.errors import RegionError
from solidqmmm.physics.geometry import unwrapped
from solidqmmm.procedures.building.select import (
    bonded_to_point,
    by_property,
    grown_by_hops,
    grown_by_radius,
    partition_from,
    within_line,
    within_radius,
)
from solidqmmm.system.bonds import BondRules
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.defect import Defect
from solidqmmm.system.partition import Partition
from solidqmmm.system.study import Study
from solidqmmm.system.study_sections import RegionSection, Selection


def bond_rules(study: Study, defect: Defect | None, species) -> BondRules:
    """Who is bonded, by the study's region; a substituting atom to whatever the atom that it replaces was bonded to."""
    bonds = getattr(study.region, "bonds", None)
    rules = BondRules() if bonds is None else BondRules(scale=bonds.scale, cutoffs=dict(bonds.cutoffs))
    if defect is None or defect.kind != "substitution":
        return rules
    return rules.with_substitute(defect.element, defect.replaced, species)


def select_partition(study: Study, crystal: Crystal, defect: Defect | None) -> Partition:
    """Labels by the study's region, before the rules for cut bonds are applied.

    Raises:
        RegionError: If nothing is selected, or a sphere meets its own image.
    """
    region, rules = study.region, bond_rules(study, defect, crystal.species)
    centre = region_centre(study, crystal, defect)
    core = _selected(crystal, region.core, region, centre, defect, rules)
    if len(core) == 0:
        partition_from(crystal, core)  # raises
    buffer = np.empty(0, dtype=int)
    if region.buffer is not None and region.buffer.hops is not None:
        buffer = grown_by_hops(crystal, core, region.buffer.hops, rules)
    elif region.buffer is not None and region.buffer.radius > 0:
        buffer = _within(crystal, core, region.core, region.buffer.radius, centre)
    frozen = np.empty(0, dtype=int)
    if region.frozen is not None:
        frozen = _selected(crystal, region.frozen, region, centre, defect, rules)
    return partition_from(crystal, core, buffer, centre=centre, frozen=frozen)


def _within(crystal: Crystal, core, selection: Selection, width: float, centre) -> np.ndarray:
    """Atoms within `width` of the core: of the sphere or cylinder that it fills, or else of any of its atoms."""
    if selection.kind == "radius":
        return within_radius(crystal, centre, selection.radius + width)
    if selection.kind == "line":
        return within_line(crystal, centre, selection.line.direction, selection.radius + width)
    return grown_by_radius(crystal, core, width)


def region_centre(study: Study, crystal: Crystal, defect: Defect | None):
    """The point that the region is built around: asked for, the defect, or the middle of the cell; angstrom, shape=(3,).

    Raises:
        RegionError: For a site that does not exist.
    """
    given = None if study.region is None else study.region.centre
    if given is None:
        return 0.5 * crystal.cell.sum(axis=0) if defect is None else defect.position
    if hasattr(given, "site"):
        if given.site >= len(crystal):
            raise RegionError(f"region.centre names site {given.site}, but the crystal has {len(crystal)} atoms")
        return crystal.positions[given.site]
    return np.asarray(given, dtype=float)


def _selected(crystal, selection: Selection, region: RegionSection, centre, defect, rules: BondRules) -> np.ndarray:
    kind = selection.kind
    if kind == "sites":
        sites = np.asarray(selection.sites, dtype=int)
        beyond = sites[(sites < 0) | (sites >= len(crystal))]
        if len(beyond):
            key = "frozen" if selection is region.frozen else "core"
            raise RegionError(
                f"region.{key}.sites names {', '.join(map(str, beyond))}, and the atoms of the crystal (supercell, with the "
                f"defect) are 0 to {len(crystal) - 1}"
            )
        return sites
    if kind == "property":
        return by_property(crystal, selection.property, selection.above, selection.below)
    if kind == "line":
        return within_line(crystal, centre, selection.line.direction, selection.radius)
    if kind == "radius":
        return within_radius(crystal, centre, selection.radius)
    if region.centre is None and defect is not None and defect.kind == "vacancy":
        if selection.hops == 0:
            return np.empty(0, dtype=int)
        return grown_by_hops(crystal, bonded_to_point(crystal, centre, defect.element, rules), selection.hops - 1, rules)
    seed = defect.atom(len(crystal)) if region.centre is None and defect is not None else _nearest(crystal, centre)
    return grown_by_hops(crystal, [seed], selection.hops, rules)


def _nearest(crystal: Crystal, point) -> int:
    images = unwrapped(crystal.positions, point, crystal.cell, crystal.pbc)
    return int(np.argmin(((images - point) ** 2).sum(axis=1)))
