"""Where a crystal has room for one more atom: holes between its atoms, one of each symmetry-equivalent set."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import Voronoi, cKDTree

_SAME = 0.1  # angstrom; vertices this near are one hole whose atoms are not quite on one sphere
_ONTO_ITSELF = 0.3  # angstrom; an operation that takes a hole this near to where it was keeps it
_AS_LARGE = 1e-3  # angstrom


class InterstitialSite(NamedTuple):
    """A hole between atoms.

    Attributes:
        fractional: Its middle in fractional coordinates, shape=(3,).
        radius: Distance to the nearest atoms in angstrom.
        multiplicity: How many of them symmetry makes in the cell.
        neighbours: Atomic numbers of the nearest atoms, ascending.
    """

    fractional: np.ndarray
    radius: float
    multiplicity: int
    neighbours: tuple[int, ...]


def interstitial_sites(
    cell, fractional, numbers, rotations, translations, *, smallest=0.9, largest=4.0, merged=0.5
) -> list[InterstitialSite]:
    """Vertices of the Voronoi cells of a crystal's atoms, one of each orbit, the largest hole first.

    A vertex is as far from four atoms or more as it can be locally: tetrahedral and octahedral sites of close-packed
    crystals, tetrahedral and hexagonal ones of diamond (the octahedral site of bcc is none: it lies between two vertices).
    Holes of one radius are ordered by multiplicity, and then by the atoms that they touch.

    Args:
        cell: Vectors as rows in angstrom, shape=(3, 3).
        fractional: Atoms, shape=(n, 3).
        numbers: Atomic numbers, shape=(n,).
        rotations, translations: Operations x' = W x + w of the space group on fractional coordinates, shape=(m, 3, 3)
            and (m, 3).
        smallest, largest: Radii of holes in angstrom; what is larger is empty space and no interstitial site.
        merged: A hole this near to a larger one is part of it, angstrom.
    """
    cell, numbers = np.asarray(cell, dtype=float), np.asarray(numbers)
    images, kinds = _surroundings(cell, np.asarray(fractional, dtype=float) % 1.0, numbers)
    atoms = cKDTree(images)
    vertices = Voronoi(images).vertices
    scaled = vertices @ np.linalg.inv(cell)
    vertices = vertices[((scaled > -0.05) & (scaled < 1.05)).all(axis=1)]

    to_cell = np.linalg.inv(cell)
    vertices = _merged(vertices) @ to_cell
    found, done = [], np.zeros(len(vertices), dtype=bool)
    near_vertices = cKDTree(_wrapped(vertices), boxsize=1.0)
    reach = _SAME * np.linalg.norm(to_cell, axis=0).max()
    for k, vertex in enumerate(vertices):
        if done[k]:
            continue
        orbit = np.einsum("mij,j->mi", rotations, vertex) + translations
        for image, others in zip(orbit, near_vertices.query_ball_point(_wrapped(orbit), reach)):
            done[others] |= _distance(vertices[others], image, cell) < _SAME
        back = orbit - vertex
        back -= np.rint(back)
        near = np.linalg.norm(back @ cell, axis=1) < _ONTO_ITSELF
        middle = vertex + back[near].mean(axis=0)
        radius = float(atoms.query(middle @ cell)[0])
        if smallest <= radius <= largest:
            touched = kinds[atoms.query_ball_point(middle @ cell, radius + _SAME)]
            orbit = (np.einsum("mij,j->mi", rotations, middle) + translations + 1e-6) % 1.0 - 1e-6
            first = orbit[np.lexsort(np.round(orbit, 6).T[::-1])[0]]
            count = len(rotations) // int(near.sum())
            found.append(InterstitialSite(first, radius, count, tuple(sorted(map(int, touched)))))
    found.sort(
        key=lambda s: (-round(s.radius / _AS_LARGE), s.multiplicity, s.neighbours, tuple(s.fractional))
    )

    sites, taken = [], np.empty((0, 3))
    for site in found:
        if (_distance(taken, site.fractional, cell) < merged).any():
            continue
        sites.append(site)
        taken = np.vstack([taken, np.einsum("mij,j->mi", rotations, site.fractional) + translations])
    return sites


def _wrapped(fractional):
    wrapped = fractional % 1.0
    return np.where(wrapped < 1.0, wrapped, 0.0)  # -1e-17 % 1.0 is 1.0


def _distance(points, point, cell):
    """Distances between images of fractional `points` and `point` in angstrom, shape=(n,); exact where they are short."""
    away = points - point
    return np.linalg.norm((away - np.rint(away)) @ cell, axis=1)


def _merged(points):
    """Means of the groups of points that are linked by less than `_SAME`, shape=(k, 3)."""
    first, second = cKDTree(points).query_pairs(_SAME, output_type="ndarray").T
    links = coo_array((np.ones(len(first)), (first, second)), shape=(len(points),) * 2)
    _, group = connected_components(links, directed=False)
    return np.array([np.bincount(group, weights=x) for x in points.T]).T / np.bincount(group)[:, None]


def _surroundings(cell, fractional, numbers):
    """Atoms of the cell and of its images as far as they bound a Voronoi cell: Cartesian positions, atomic numbers."""
    widths = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    reach = np.linalg.norm(cell, axis=1).sum()  # twice the largest radius that a hole of a lattice can have
    reach = min(reach, 12.0)  # holes of more than 6 angstrom are not asked for
    shifts = np.array(list(product(*(range(-n, n + 1) for n in np.ceil(reach / widths).astype(int)))))
    images = (fractional[None] + shifts[:, None]).reshape(-1, 3)
    kinds = np.tile(numbers, len(shifts))
    margin = reach / widths
    inside = ((images > -margin) & (images < 1.0 + margin)).all(axis=1)
    return images[inside] @ cell, kinds[inside]
