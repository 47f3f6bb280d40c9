"""Stadium damping: friction that grows linearly from the inner edge of a border to its outer boundary.

    m a = F - m gamma(d) v + noise,   gamma(d) = gamma_max (1 - d/width),   0 <= d <= width

with d the distance to the outer boundary, no friction farther inside, and noise of variance 2 gamma m k_B T by fluctuation
and dissipation, so that the border is a heat bath at T. An incoming wave is absorbed and hardly reflected, because the
friction sets in without a step.

What is left of a wave that comes back is exp(-gamma_max width/c), survivors of the way to the outer end and back, and
(gamma_max c/(8 width omega^2))^2 from the bend of the profile at its inner edge (`damped_chain`, which has the exact
reflection). One falls with gamma_max and the other grows: each width has a best gamma_max, and long waves need width.

Source: S. Qu, V. Shastry, W. A. Curtin and R. E. Miller, Modelling Simul. Mater. Sci. Eng. 13, 1101 (2005).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from solidqmmm.physics.heat.damped_chain import chain_reflection

FACES = ("x-", "x+", "y-", "y+", "z-", "z+")
LOWEST, HIGHEST = 0.1, 0.95  # wanted range of frequencies, in parts of the highest of the crystal
MOST_PLANES = 4096
_FREQUENCIES = 64  # at which a reflection is computed to find the largest

# --- the profile ----------------------------------------------------------------------------------------------------


def box_damping(
    positions, *, width: float, gamma_max: float, faces: Iterable[str] = FACES, low=None, high=None
) -> np.ndarray:
    """Damping of atoms in a box, by the nearest of the chosen faces.

    Args:
        positions: In angstrom, shape=(n, 3).
        width: Width of the border in angstrom.
        gamma_max: Damping at the outer boundary in 1/ps.
        faces: Which faces have a border: any of "x-", "x+", "y-", "y+", "z-", "z+".
        low, high: Corners of the outer boundary in angstrom, shape=(3,); by default those of the atoms.

    Returns:
        gamma in 1/ps, 0 inside, gamma_max on the boundary and beyond, shape=(n,).

    Raises:
        ValueError: For an unknown face, a width or damping of no use, or borders that leave no room between them.
    """
    x = _positions(positions, width, gamma_max)
    faces = tuple(faces)
    if not faces or set(faces) - set(FACES):
        raise ValueError(f"`faces` must be some of {', '.join(FACES)}, got {faces}")
    low = x.min(axis=0) if low is None else np.asarray(low, dtype=float)
    high = x.max(axis=0) if high is None else np.asarray(high, dtype=float)
    distance = np.full(len(x), np.inf)
    for face in faces:
        axis = "xyz".index(face[0])
        borders = sum(one[0] == face[0] for one in faces)
        _require_room(width, (high[axis] - low[axis]) / borders, f"along {face[0]}")
        away = x[:, axis] - low[axis] if face[1] == "-" else high[axis] - x[:, axis]
        distance = np.minimum(distance, away)
    return _ramp(distance, width, gamma_max)


def strip_damping(
    positions, *, width: float, gamma_max: float, sides: bool = False, low=None, high=None
) -> np.ndarray:
    """Damping of atoms in a strip in 1/ps, shape=(n,): at both ends along x, with `sides` along y as well. See
    `box_damping`.
    """
    faces = FACES[:4] if sides else FACES[:2]
    return box_damping(positions, width=width, gamma_max=gamma_max, faces=faces, low=low, high=high)


def disc_damping(
    positions, *, width: float, gamma_max: float, centre, radius: float | None = None, axis: int = 2
) -> np.ndarray:
    """Damping of atoms in a disc or cylinder, by the distance from its axis.

    Args:
        positions: In angstrom, shape=(n, 3).
        width: Width of the border in angstrom.
        gamma_max: Damping at the outer boundary in 1/ps.
        centre: A point on the axis in angstrom, shape=(3,).
        radius: Of the outer boundary in angstrom; by default that of the farthest atom.
        axis: Direction of the axis, 0 to 2.

    Returns:
        gamma in 1/ps, 0 inside, gamma_max on the boundary and beyond, shape=(n,).

    Raises:
        ValueError: For a width or damping of no use, or a border as wide as the disc.
    """
    x = _positions(positions, width, gamma_max)
    across = [i for i in range(3) if i != axis]
    r = np.linalg.norm((x - np.asarray(centre, dtype=float))[:, across], axis=1)
    radius = float(r.max()) if radius is None else float(radius)
    _require_room(width, radius, "on the radius")
    return _ramp(radius - r, width, gamma_max)


def _ramp(distance, width, gamma_max):
    return gamma_max * np.clip(1 - distance / width, 0.0, 1.0)


def _positions(positions, width, gamma_max):
    x = np.asarray(positions, dtype=float)
    if x.ndim != 2 or x.shape[1] != 3 or not len(x):
        raise ValueError(f"`positions` must have shape (n, 3), got {x.shape}")
    if not width > 0 or not gamma_max > 0:
        raise ValueError(
            f"`width` (angstrom) and `gamma_max` (1/ps) must be positive, got {width} and {gamma_max}"
        )
    return x


def _require_room(width, room, where):
    if width >= room:
        raise ValueError(
            f"a stadium of width {width:.6g} angstrom leaves nothing undamped: there is room for less than {room:.6g} "
            f"angstrom {where}. Make the host larger, or the stadium narrower"
        )


def graded(gammas, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorts atoms into levels of equal damping.

    Where no more than `levels` different dampings occur (the planes of a crystal), each is a level and nothing is changed.
    Otherwise the range up to the largest is divided evenly, and the damping of a level is the mean over its atoms.

    Args:
        gammas: Damping of each atom in 1/ps, not negative, shape=(n,).
        levels: Largest number of levels.

    Returns:
        Level of each atom, -1 where there is no damping, shape=(n,), and the damping of each level, rising, shape=(m,).

    Raises:
        ValueError: For dampings that are negative or not finite, or fewer than one level.
    """
    gammas = np.asarray(gammas, dtype=float)
    if gammas.ndim != 1 or not np.isfinite(gammas).all() or (gammas < 0).any():
        raise ValueError("`gammas` must be finite numbers of shape (n,), none negative (1/ps)")
    if levels < 1:
        raise ValueError(f"`levels` must be at least 1, got {levels}")
    labels = np.full(len(gammas), -1)
    damped = gammas > 0
    if not damped.any():
        return labels, np.empty(0)
    # Atoms of a plane differ in the last digits of their positions.
    rounded = np.round(gammas[damped] / gammas.max(), 9)
    values, which = np.unique(rounded, return_inverse=True)
    if len(values) > levels:
        _, which = np.unique(np.ceil(rounded * levels - 1e-6), return_inverse=True)
    labels[damped] = which
    return labels, np.bincount(which, gammas[damped]) / np.bincount(which)


# --- a host on the chain --------------------------------------------------------------------------------------------


def linear_ramp(gamma_max: float, planes: float) -> np.ndarray:
    """Damping of the planes of a border from the inside outwards: gamma_max (n/w) for a whole number w of them.

    Args:
        gamma_max: Damping of the outermost plane.
        planes: Width in units of the distance of planes; shape=(ceil(planes),) is returned.
    """
    distance = np.arange(int(np.ceil(planes - 1e-9)))[::-1]
    return _ramp(distance, planes, gamma_max)


def wave_reflection(
    frequencies_THz,
    *,
    speed: float,
    spacing: float,
    width: float,
    gamma_max: float,
    levels: int | None = None,
) -> np.ndarray:
    """Reflected energy of a wave that meets a stadium head on, by the chain of the crystal's planes, shape=(f,).

    A plane wave along the normal of lattice planes moves each plane as a whole: a chain of planes of distance d, whose
    springs give it the host's speed of sound, k/M = (c/d)^2, and so the highest frequency c/(pi d). Friction per mass is
    what it is for an atom. Real planes also have springs to farther neighbours, and there are optical branches.

    Args:
        frequencies_THz: Frequencies in THz below c/(pi d), shape=(f,).
        speed: Speed of sound c in angstrom/ps.
        spacing: Distance d of the planes in angstrom.
        width: Width of the stadium in angstrom.
        gamma_max: Damping at its outer boundary in 1/ps.
        levels: Number of levels of `graded`; None for a damping of its own on each plane.
    """
    gammas = linear_ramp(gamma_max, width / spacing)
    if levels is not None:
        labels, values = graded(gammas, levels)
        gammas = values[labels]
    return chain_reflection(gammas, 2 * np.pi * np.asarray(frequencies_THz), k=(speed / spacing) ** 2)


@dataclass(frozen=True)
class SuggestedStadium:
    """A stadium that absorbs what is wanted.

    Attributes:
        width: Width in angstrom.
        gamma_max: Damping at the outer boundary in 1/ps, the best for this width.
        reflection: Largest reflected part of the energy of a wave within the range, at normal incidence.
        range_THz: The range of frequencies.
        spacing: Distance of the planes in angstrom.
        speeds: Speeds of sound in angstrom/ps.
    """

    width: float
    gamma_max: float
    reflection: float
    range_THz: tuple[float, float]
    spacing: float
    speeds: tuple[float, ...]


def suggested(
    speeds,
    *,
    spacing: float | None = None,
    top_THz: float | None = None,
    range_THz: tuple[float, float] | None = None,
    below: float = 0.01,
    room: float | None = None,
) -> SuggestedStadium:
    """The narrowest stadium, with its best damping, that reflects less than `below` of every wave of the range.

    The host is mapped onto chains as in `wave_reflection`, one for each of its speeds of sound (those of the longitudinal
    and the two transverse waves along the normal of the boundary, from `sound_waves.sound_speeds`), all with the same
    distance of planes. At a given frequency the fastest wave is the longest one.

    Args:
        speeds: One or more speeds of sound in angstrom/ps.
        spacing: Distance of lattice planes in angstrom.
        top_THz: In its place: highest frequency of the fastest branch in THz; the distance is then c/(pi top).
        range_THz: Lowest and highest frequency to be absorbed; by default 0.1 and 0.95 of the fastest chain's highest. Waves
            of frequency 0 fit into no stadium, and at the very top of the band they stand still. Slower branches are
            followed to the same part of their own highest frequency.
        below: Largest reflected part of the energy.
        room: Largest width that the host has room for, angstrom.

    Raises:
        ValueError: If there is not room enough: the message names the width that would do, and what the best stadium in
            the room reflects. Also for arguments of no use.
    """
    host = _Host.of(speeds, spacing, top_THz, range_THz)
    if not 0 < below < 1:
        raise ValueError(f"`below` must be between 0 and 1, got {below}")
    planes = host.fewest_planes(below)
    low, high = host.range_THz
    if planes is None:
        raise ValueError(
            f"no stadium of up to {MOST_PLANES} planes reflects less than {below:.2g} of all waves from {low:.4g} to "
            f"{high:.4g} THz: ask for a narrower range"
        )
    width = planes * host.spacing
    if room is not None and width > room + 1e-9:
        fitting = int(room / host.spacing + 1e-9)
        there = "not one plane fits"
        if fitting > 0:
            gamma_max, R = host.best_damping(fitting)
            there = (
                f"the best there, {fitting * host.spacing:.4g} angstrom with gamma_max = {gamma_max:.3g}/ps, reflects "
                f"{100 * R:.2g} %"
            )
        raise ValueError(
            f"the host is too small for its stadium: {width:.4g} angstrom of width reflect less than {100 * below:.2g} % of "
            f"the energy of waves from {low:.3g} to {high:.3g} THz, but there is room for {room:.4g} angstrom ({there}). "
            "Make the host larger"
        )
    return host.stadium(planes)


def best_damping(
    speeds,
    *,
    width: float,
    spacing: float | None = None,
    top_THz: float | None = None,
    range_THz: tuple[float, float] | None = None,
) -> SuggestedStadium:
    """A stadium of that width, with the gamma_max with which it reflects least, whatever that is.

    Args:
        width: In angstrom, at least `spacing`.
        speeds, spacing, top_THz, range_THz: As in `suggested`.

    Raises:
        ValueError: For a width below one plane, and as `suggested`.
    """
    host = _Host.of(speeds, spacing, top_THz, range_THz)
    if not width >= host.spacing:
        raise ValueError(f"`width` must be at least one plane, {host.spacing:.4g} angstrom, got {width}")
    return host.stadium(width / host.spacing)


@dataclass(frozen=True, eq=False)
class _Host:
    """Chains, one for each speed of sound, with the frequencies at which each is looked at."""

    speeds: np.ndarray
    spacing: float
    range_THz: tuple[float, float]
    branches: tuple[tuple[float, np.ndarray], ...]

    @classmethod
    def of(cls, speeds, spacing, top_THz, range_THz) -> _Host:
        speeds = np.atleast_1d(np.asarray(speeds, dtype=float))
        if speeds.ndim != 1 or not len(speeds) or not (speeds > 0).all():
            raise ValueError(f"`speeds` must be positive (angstrom/ps), got {speeds.tolist()}")
        if (spacing is None) == (top_THz is None):
            raise ValueError("give one of `spacing` (angstrom) and `top_THz`")
        if not (spacing or 0) > 0 and not (top_THz or 0) > 0:
            raise ValueError(f"`spacing` and `top_THz` must be positive, got {spacing} and {top_THz}")
        fastest = float(speeds.max())
        spacing = float(fastest / (np.pi * top_THz) if spacing is None else spacing)
        top = fastest / (np.pi * spacing)
        low, high = (LOWEST * top, HIGHEST * top) if range_THz is None else map(float, range_THz)
        if not 0 < low < high < top:
            raise ValueError(
                f"`range_THz` must rise within the band of the fastest wave, which ends at {top:.6g} THz, got {low:.6g} to "
                f"{high:.6g}"
            )
        branches = tuple(
            (float(c), np.geomspace(low, upper, _FREQUENCIES))
            for c in np.unique(speeds)
            if (upper := high * c / fastest) > low
        )
        return cls(speeds, spacing, (low, high), branches)

    def stadium(self, planes: float) -> SuggestedStadium:
        """The best stadium of so many planes."""
        gamma_max, reflection = self.best_damping(planes)
        return SuggestedStadium(
            planes * self.spacing,
            gamma_max,
            reflection,
            self.range_THz,
            self.spacing,
            tuple(self.speeds.tolist()),
        )

    def fewest_planes(self, below) -> int | None:
        """The least number of planes whose best damping reflects less than `below`; None beyond MOST_PLANES."""
        failing, passing = 0, 1
        while self.best_damping(passing)[1] >= below:
            failing, passing = passing, 2 * passing
            if passing > MOST_PLANES:
                return None
        while passing - failing > 1:
            middle = (failing + passing) // 2
            if self.best_damping(middle)[1] < below:
                passing = middle
            else:
                failing = middle
        return passing

    def best_damping(self, planes: float) -> tuple[float, float]:
        """The gamma_max in 1/ps with the least largest reflection, and that reflection."""
        fastest, d = self.speeds.max(), self.spacing
        low, high = 0.5, 200.0  # of gamma_max width/c: from what absorbs nothing to a wall
        for points in (41, 21, 21):
            strength = np.geomspace(low, high, points)
            gammas = strength * fastest / (planes * d)
            ramps = gammas[:, None] * linear_ramp(1.0, planes)
            by_branch = [
                chain_reflection(ramps, 2 * np.pi * nu, k=(c / d) ** 2).max(axis=-1)
                for c, nu in self.branches
            ]
            largest = np.max(by_branch, axis=0)
            best = int(largest.argmin())
            low, high = strength[max(best - 1, 0)], strength[min(best + 1, points - 1)]
        return float(gammas[best]), float(largest[best])
