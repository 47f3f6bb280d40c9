"""Shaded spheres, rods and arrows on flat axes, painted from back to front; what is far away fades into the paper."""

from __future__ import annotations

import numpy as np
from matplotlib.collections import PathCollection
from matplotlib.path import Path
from scipy.spatial import ConvexHull

from solidqmmm.plotting.style import mixed

ROD = 0.13  # half width of a bond in angstrom
HEAD = 0.5, 0.2  # length and radius of an arrow's head in angstrom; shorter arrows have smaller ones
OVERLAP = 0.03  # of the halves of a bond in angstrom, so that no seam shows
FADE = 0.6  # share of paper white in what lies farthest away
LIGHT = np.array([-0.32, 0.38])  # where the light comes from, in sphere radii
OUTSIDE = "#ABABAB"  # rings and cut bonds
MANY = 400  # spheres; above, they are shaded in fewer steps

_CIRCLE = Path.unit_circle()


class Painter:
    """Collects strokes, each with its depth, and gives them back in order as one collection.

    Args:
        frame: Rows: right, up and towards the eye, shape=(3, 3).
        positions: Centres in angstrom, shape=(n, 3).
        radii: Radii of the spheres in angstrom, shape=(n,).
        fading: How much of the fading applies to each sphere (0 to 1), shape=(n,).
    """

    def __init__(self, frame, positions, radii, fading=1.0):
        self.frame, self.positions, self.radii = frame, positions, radii
        self.flat, self.depth = positions @ frame[:2].T, positions @ frame[2]
        self.fade = fading * FADE * (self.depth.max() - self.depth) / max(np.ptp(self.depth), 1e-9)
        self.steps = 12 if len(positions) <= MANY else 5
        self._strokes = []

    def _stroke(self, depth, path, face, edge="none", width=0.0):
        self._strokes.append((depth, path, face, edge, width))

    def sphere(self, k: int, colour) -> None:
        """Sphere k in `colour`: discs that shrink towards the light, from shade to shine."""
        rim = mixed(mixed(colour, "black", 0.55), "white", self.fade[k])
        for step, t in enumerate(np.linspace(0, 1, self.steps)):
            shade = (
                mixed(colour, "black", 0.25 * (1 - t / 0.45))
                if t < 0.45
                else mixed(colour, "white", 0.8 * (t - 0.45) / 0.55)
            )
            disc = Path(
                self.radii[k] * ((1 - 0.93 * t) * _CIRCLE.vertices + t * LIGHT) + self.flat[k], _CIRCLE.codes
            )
            # depths a hair apart keep the order of one sphere's discs
            edge, width = (rim, 0.5) if step == 0 else ("none", 0.0)
            self._stroke(self.depth[k] + 1e-9 * step, disc, mixed(shade, "white", self.fade[k]), edge, width)

    def ring(self, k: int) -> None:
        """Sphere k as an outline only."""
        disc = Path(0.8 * self.radii[k] * _CIRCLE.vertices + self.flat[k], _CIRCLE.codes)
        self._stroke(self.depth[k], disc, "white", mixed(OUTSIDE, "white", 0.8 * self.fade[k]), 0.6)

    def bond(self, i: int, j: int, colour_i, colour_j, thin: bool = False) -> None:
        """A rod between spheres i and j: from each surface to the middle in the colour of that end."""
        middle = (self.positions[i] + self.positions[j]) / 2
        self.half_bond(i, middle, colour_i, thin)
        self.half_bond(j, middle, colour_j, thin)

    def half_bond(self, k: int, end, colour, thin: bool = False) -> None:
        """A rod from the surface of sphere k to the point `end` in angstrom, shape=(3,)."""
        along = end - self.positions[k]
        start = self.positions[k] + along * min(0.9 * self.radii[k] / np.linalg.norm(along), 0.95)
        self._rod(start, end, ROD * (0.7 if thin else 1.0), colour, self.fade[k])

    def cut_bond(self, i: int, j: int) -> None:
        """A dashed line from sphere i to ring j."""
        along = self.positions[j] - self.positions[i]
        length = np.linalg.norm(along)
        start = self.positions[i] + along * self.radii[i] / length
        stop = self.positions[j] - along * 0.8 * self.radii[j] / length
        edge = mixed(OUTSIDE, "white", 0.8 * self.fade[j])
        dashes = np.linspace(0, 1, 8).reshape(-1, 2) if length > 0 else ()
        for a, b in dashes:
            ends = np.array([start + a * (stop - start), start + b * (stop - start)])
            self._stroke(
                float(ends.mean(axis=0) @ self.frame[2]), Path(ends @ self.frame[:2].T), "none", edge, 0.6
            )

    def arrow(self, k: int, vector, colour) -> None:
        """An arrow that begins at the surface of sphere k and is as long as `vector` in angstrom, shape=(3,)."""
        length = np.linalg.norm(vector)
        along = vector / length
        start = self.positions[k] + 0.95 * self.radii[k] * along
        size = min(1.0, 0.7 * length / HEAD[0])
        neck, tip = start + vector - size * HEAD[0] * along, start + vector
        self._rod(start, neck, size * 0.8 * ROD, colour, self.fade[k])
        self._cone(neck, tip, size * HEAD[1], colour, self.fade[k])

    def _cone(self, base, tip, radius, colour, fade):
        along = (tip - base) / np.linalg.norm(tip - base)
        across = np.linalg.svd(along[None])[2][1:]
        angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        rim = base + radius * (np.cos(angle)[:, None] * across[0] + np.sin(angle)[:, None] * across[1])
        rim, apex = rim @ self.frame[:2].T, tip @ self.frame[:2].T
        depth = float((base + tip) @ self.frame[2] / 2)
        outline = np.vstack([rim, apex])
        outline = outline[ConvexHull(outline, qhull_options="QJ").vertices]
        layers = [(outline, mixed(colour, "black", 0.06), mixed(colour, "black", 0.5), 0.5)]
        foot = rim.mean(axis=0)
        side = np.array([foot[1] - apex[1], apex[0] - foot[0]])
        if along @ self.frame[2] < 0:  # its base is seen
            layers.append((rim, mixed(colour, "black", 0.3), "none", 0.0))
        elif np.linalg.norm(side) > radius:
            side = side * np.sign(side @ LIGHT) * radius / np.linalg.norm(side)
            shine = np.array([foot + 0.1 * side, foot + 0.65 * side, apex])
            layers.append((shine, mixed(colour, "white", 0.35), "none", 0.0))
        for step, (corners, face, edge, width) in enumerate(layers):
            edge = edge if isinstance(edge, str) else mixed(edge, "white", fade)
            path = Path(np.vstack([corners, corners[:1]]), closed=True)
            self._stroke(depth + 1e-9 * step, path, mixed(face, "white", fade), edge, width)

    def _rod(self, start, stop, half_width, colour, fade):
        depth = float((start + stop) @ self.frame[2] / 2)
        a, b = start @ self.frame[:2].T, stop @ self.frame[:2].T
        length = np.linalg.norm(b - a)
        if length < 1e-6:  # seen end on
            return
        side = np.array([a[1] - b[1], b[0] - a[0]]) / length * half_width
        side = side if side @ LIGHT > 0 else -side
        b = b + OVERLAP * (b - a) / length
        layers = (
            (-1.0, 1.0, mixed(colour, "black", 0.5)),
            (-0.8, 0.8, mixed(colour, "black", 0.06)),
            (0.05, 0.6, mixed(colour, "white", 0.4)),
        )
        for step, (low, high, shade) in enumerate(layers):
            corners = np.array([a + low * side, b + low * side, b + high * side, a + high * side])
            self._stroke(depth + 1e-9 * step, Path(corners), mixed(shade, "white", fade))

    def collection(self) -> PathCollection:
        """All strokes, the farthest first."""
        ordered = sorted(self._strokes, key=lambda stroke: stroke[0])
        _, paths, faces, edges, widths = zip(*ordered)
        drawn = PathCollection(paths, facecolors=faces, edgecolors=edges, linewidths=widths, zorder=2)
        drawn.set_rasterized(len(self.positions) > MANY)  # else a PDF of many megabytes
        return drawn
