"""Where the defect sits: the image of its site that lies nearest the centre of the supercell."""

from __future__ import annotations

import numpy as np
from ase.data import chemical_symbols

from solidqmmm.errors import StructureError
from solidqmmm.physics.geometry import distances_to_point
from solidqmmm.physics.symmetry.interstitial_sites import InterstitialSite, interstitial_sites
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.defect import Defect
from solidqmmm.system.unit_cell import primitive_cell, space_group

_ROOM = 0.4  # angstrom; nearer atoms are a mistake, and potentials say anything about them


def place_defect(
    unit: Crystal,
    supercell: Crystal,
    *,
    kind: str,
    site: int | None = None,
    element: str | None = None,
    position=None,
) -> Defect:
    """The image of a defect site that lies nearest the centre of the supercell.

    Args:
        unit: The repeated cell; its array `input_site`, where there is one, counts in the structure that was given.
        supercell: Its repetition, cell by cell (as `Crystal.supercell` makes it).
        kind: "vacancy", "substitution" or "interstitial".
        site: Index in the structure that was given; for an interstitial, number of the symmetry-distinct interstitial site
            (the largest hole is 0).
        element: New species (substitution, interstitial).
        position: Instead of `site`, fractional coordinates of an interstitial in `unit`, shape=(3,).

    Raises:
        StructureError: If the site does not exist, an element is missing or already there, or an interstitial meets an atom.
    """
    if kind == "interstitial":
        if element is None:
            raise StructureError("an interstitial needs `element`")
        if position is None:
            position = _distinct_interstitial(unit, site or 0)
        place = _image_near_centre(np.asarray(position) @ unit.cell, unit, supercell)
        distance = distances_to_point(supercell.positions, place, supercell.cell, supercell.pbc)
        nearest = int(distance.argmin())
        if distance[nearest] < _ROOM:
            raise StructureError(
                f"the interstitial {element} would sit {distance[nearest]:.2f} A from an atom of "
                f"{supercell.symbols[nearest]}: `position` is in fractional coordinates of the unit cell, at least "
                f"{_ROOM} A from every atom; or give `site: 0`, the largest hole"
            )
        return Defect(kind, -1, element, "", place)

    input_site = np.asarray(unit.arrays.get("input_site", np.arange(len(unit))))
    candidates = np.flatnonzero(input_site == site)
    if len(candidates) == 0:
        raise StructureError(
            f"defect.site {site} does not exist in the cell; its sites are {sorted(set(input_site.tolist()))[:20]}; a site "
            "that another one stands for by translation is reached with structure: {cell: as_given}"
        )
    images = (np.arange(0, len(supercell), len(unit))[:, None] + candidates).ravel()
    fractional = supercell.positions[images] @ np.linalg.inv(supercell.cell)
    from_centre = np.linalg.norm((fractional - np.floor(fractional) - 0.5) @ supercell.cell, axis=1)
    chosen = int(images[np.argmin(np.round(from_centre, 6))])
    present = supercell.symbols[chosen]
    if kind == "vacancy":
        return Defect(kind, chosen, present, "", supercell.positions[chosen])
    if element is None:
        raise StructureError("a substitution needs `element`")
    if element == present:
        raise StructureError(f"the substitution puts {element} on a site that is {element} already")
    return Defect(kind, chosen, element, present, supercell.positions[chosen])


def _image_near_centre(position, unit: Crystal, supercell: Crystal) -> np.ndarray:
    """The lattice image of a point that lies nearest the centre of the supercell, in angstrom, shape=(3,)."""
    centre = 0.5 * supercell.cell.sum(axis=0)
    return position + np.rint((centre - position) @ np.linalg.inv(unit.cell)) @ unit.cell


def distinct_interstitials(unit: Crystal) -> list[InterstitialSite]:
    """Interstitial sites of a crystal, the largest hole first, the same for every cell of it.

    `fractional` of each counts in `unit`, `multiplicity` in its primitive cell.
    """
    primitive = primitive_cell(unit)
    fractional = primitive.positions @ np.linalg.inv(primitive.cell)
    sites = interstitial_sites(primitive.cell, fractional, primitive.numbers, *space_group(primitive))
    to_unit = primitive.cell @ np.linalg.inv(unit.cell)
    return [site._replace(fractional=site.fractional @ to_unit) for site in sites]


def _distinct_interstitial(unit: Crystal, number: int) -> np.ndarray:
    """Fractional coordinates of the `number`-th symmetry-distinct interstitial site, shape=(3,)."""
    sites = distinct_interstitials(unit)
    if not 0 <= number < len(sites):
        listed = "; ".join(
            f"{i} at {(np.round(site.fractional, 4) + 0.0).tolist()}, {site.radius:.2f} A from "
            f"{' '.join(chemical_symbols[z] for z in site.neighbours)}"
            for i, site in enumerate(sites[:10])
        )
        raise StructureError(
            f"interstitial site {number} does not exist: {len(sites)} symmetry-distinct site(s) were found "
            f"({listed or 'none is 0.9 to 4 A from the nearest atoms'}); or give `position` in fractional coordinates"
        )
    return sites[number].fractional
