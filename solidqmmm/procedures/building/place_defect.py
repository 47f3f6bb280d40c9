"""Where the defect sits: the image of its site that lies nearest the centre of the supercell."""

from __future__ import annotations

import numpy as np

from solidqmmm.errors import StructureError
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.defect import Defect


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
        site: Index in the structure that was given; for an interstitial, number of the symmetry-distinct interstitial site.
        element: New species (substitution, interstitial).
        position: Instead of `site`, fractional coordinates of an interstitial in `unit`, shape=(3,).

    Raises:
        StructureError: If the site does not exist, or an element is missing or already there.
    """
    if kind == "interstitial":
        if element is None:
            raise StructureError("an interstitial needs `element`")
        if position is None:
            position = _distinct_interstitial(unit, element, site or 0)
        return Defect(kind, -1, element, "", _image_near_centre(np.asarray(position) @ unit.cell, unit, supercell))

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


def _distinct_interstitial(unit: Crystal, element: str, number: int) -> np.ndarray:
    """Fractional coordinates of the `number`-th symmetry-distinct interstitial site (Voronoi vertices), shape=(3,)."""
    from pymatgen.analysis.defects.generators import VoronoiInterstitialGenerator

    found = list(VoronoiInterstitialGenerator().generate(unit.with_arrays(input_site=None).to_structure(), {element}))
    if not 0 <= number < len(found):
        raise StructureError(
            f"interstitial site {number} does not exist: {len(found)} symmetry-distinct site(s) were found for {element} "
            f"(0 to {len(found) - 1}); or give `position` in fractional coordinates"
        )
    return np.asarray(found[number].site.frac_coords)
