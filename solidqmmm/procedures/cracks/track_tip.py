"""The tip of a crack system as it goes: bonds of the perfect crystal that are broken, and atoms that lack neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solidqmmm.physics.cracks.crack_tip import bond_lengths, foremost_connected, in_void, under_coordinated
from solidqmmm.system.bonds import BondRules, pairs_within
from solidqmmm.system.crack import CrackSystem

# A bond is broken beyond this stretch: in metals second neighbours are 1.15 (bcc) or 1.41 (fcc) times as far as first ones,
# and bonds ahead of a loaded tip stretch by a fifth before they break.
BROKEN = 1.35
# A sphere without atoms of this radius, in lengths of a bond, fits into no crystal and no vacancy.
_VOID = 1.2
_SAME_X = 0.05  # angstrom
_BAND = 60.0  # angstrom


@dataclass(frozen=True, eq=False)
class CrackTip:
    """Where the crack ends.

    Attributes:
        x, y: Present position of the middle of the foremost broken bond (the mean over slices of the front), angstrom.
        reference_x: x of the tip in the perfect crystal, midway between the last broken and the first whole bond, angstrom:
            `CrackSystem.far_field` takes it as `tip_x`.
        atoms: Ends of the foremost broken bonds, indices, shape=(m,).
        profile: x of the tip in each slice of the front, angstrom, shape=(slices,).
        broken: All bonds of the surface that hang together with it, as the tracker counts them, shape=(k,).
    """

    x: float
    y: float
    reference_x: float
    atoms: np.ndarray
    profile: np.ndarray
    broken: np.ndarray


class TipTracker:
    """Finds the tip of a crack system from positions alone.

    A point of the surface is a nearest-neighbour bond of the perfect crystal that is broken, and either lacks neighbours at
    one of its ends or has its middle in a void. Bonds across a slip plane are broken too, but their atoms have found others;
    those of a reconstructed surface have as well, but there is nothing between them.

    Args:
        system: The crack.
        rules: Who is bonded.
        factor: Stretch beyond which a bond is broken.
        band: Half height around the crack plane in which bonds are looked at, angstrom; by default 60, or less: half
            of the free size.
        link: Distance within which broken bonds hang together, angstrom; by default 1.5 times that of successive bonds that
            the crack cuts.
        slices: Into how many slices the front is cut; its periods by default.

    Raises:
        ValueError: If no bond crosses the crack plane.
    """

    def __init__(
        self,
        system: CrackSystem,
        *,
        rules: BondRules | None = None,
        factor: float = BROKEN,
        band: float | None = None,
        link: float | None = None,
        slices: int | None = None,
    ):
        from scipy.spatial import cKDTree

        self.system, self.factor = system, float(factor)
        self._asked: np.ndarray | None = None
        self._found: CrackTip | None = None
        self.slices = system.repeats if slices is None else slices
        perfect = system.perfect
        self.period = float(perfect.cell[2, 2])
        band = min(_BAND, system.free_size / 2) if band is None else band
        near = np.abs(perfect.positions[:, 1] - system.tip[1]) < band
        table = (rules or BondRules()).matrix(perfect.numbers)
        bonds = pairs_within(perfect, np.flatnonzero(near), table)
        # twice in the list: once each; a front shorter than two bonds has both images of a pair, which stay
        first = (bonds.i < bonds.j) | ((bonds.i == bonds.j) & (bonds.vector[:, 2] > 0))
        start = perfect.positions[bonds.i[first]]
        self.i, self.j, vector = bonds.i[first], bonds.j[first], bonds.vector[first]
        self.lengths = np.linalg.norm(vector, axis=1)
        self.images = vector[:, 2] - (perfect.positions[self.j, 2] - start[:, 2])
        self.middles = start + vector / 2
        self.cutoff = self.factor * self.lengths.min()
        y = start[:, 1] - system.tip[1]
        self.cut = (y < 0) != (y + vector[:, 1] < 0)
        if not self.cut.any():
            raise ValueError(
                "no bond crosses the crack plane: give `rules` with longer bonds (weakly bound layers have none by their "
                "covalent radii)"
            )
        self._cut_x = np.sort(self.middles[self.cut, 0])
        if link is None:
            ahead = self.middles[self.cut]
            steps = np.diff(np.unique(np.round(ahead[:, 0], 2)))
            across, _ = cKDTree(ahead).query(ahead, k=2)
            link = 1.5 * max(float(np.median(across[:, 1])), float(steps.max()))
        self.link = link
        short, n = self.lengths < self.cutoff, len(system)
        self._full = np.bincount(self.i[short], minlength=n) + np.bincount(self.j[short], minlength=n)

    @property
    def bond_spacing(self) -> float:
        """Largest distance along x between successive bonds that the crack cuts, angstrom."""
        return float(np.diff(np.unique(np.round(self._cut_x, 2))).max())

    def broken_bonds(self, positions) -> np.ndarray:
        """Which bonds are longer than they may be at `positions` in angstrom, booleans, shape=(m,)."""
        return self._lengths(positions) > self.factor * self.lengths

    def cut_bonds(self, reach: float) -> np.ndarray:
        """Indices of the bonds across the crack plane within `reach` (angstrom) of where the tip began, from behind to
        ahead, shape=(k,).
        """
        x = self.middles[:, 0] - self.system.tip[0]
        near = np.flatnonzero(self.cut & (np.abs(x) < reach))
        return near[np.argsort(x[near], kind="stable")]

    def bond_lengths(self, positions) -> np.ndarray:
        """Present lengths of all bonds in angstrom, shape=(m,)."""
        return self._lengths(np.asarray(positions, dtype=float))

    def next_bond_length(self, positions, x: float) -> float | None:
        """Length of the bonds across the crack plane that come next ahead of a tip, the longest along the front.

        Args:
            positions: Of all atoms in angstrom, shape=(n, 3).
            x: The tip in the perfect crystal, `CrackTip.reference_x`.

        Returns:
            In angstrom; None at the end of the crystal.
        """
        middles = np.where(self.cut, self.middles[:, 0], -np.inf)
        ahead = middles[middles > x]
        if not len(ahead):
            return None
        return float(self._lengths(np.asarray(positions, dtype=float))[np.abs(middles - ahead.min()) < _SAME_X].max())

    def _lengths(self, positions) -> np.ndarray:
        return bond_lengths(positions, self.i, self.j, self.images)

    def _present(self, positions, bonds) -> np.ndarray:
        """Middles of bonds as they are, shape=(m, 3)."""
        middles = (positions[self.i[bonds]] + positions[self.j[bonds]]) / 2
        middles[:, 2] += self.images[bonds] / 2
        return middles

    def find(self, positions) -> CrackTip | None:
        """The tip at positions of all atoms in angstrom (near those of the perfect crystal), shape=(n, 3).

        None if no broken bond is left at the mouth of the crack: it is closed. A slit ends where it was cut at least.
        """
        positions = np.asarray(positions, dtype=float)
        # Load, region and history of a run ask at the same positions.
        if self._asked is None or not np.array_equal(positions, self._asked):
            self._found, self._asked = self._search(positions), positions.copy()
        return self._found

    def _search(self, positions) -> CrackTip | None:
        where = np.flatnonzero(self.broken_bonds(positions))
        if len(where):
            ends = np.unique(np.concatenate([self.i[where], self.j[where]]))
            lacking = np.zeros(len(positions), dtype=bool)
            lacking[ends] = under_coordinated(
                positions, ends, self.cutoff, self._full[ends], period=self.period
            )
            surface = lacking[self.i[where]] | lacking[self.j[where]]
            rest = where[~surface]
            void = _VOID * self.lengths[rest]
            surface[~surface] = in_void(positions, self._present(positions, rest), void, period=self.period)
            where = where[surface]
        if len(where) == 0:
            return self._slit_end(positions)
        points = self.middles[where]
        found = foremost_connected(
            points, self._mouth(points), link=self.link, period=self.period, slices=self.slices
        )
        if found is None:
            return self._slit_end(positions)
        ends = where[found.points]
        present = self._present(positions, ends)
        reference = self.middles[ends, 0]
        ahead = np.array([self._next_bond(x) for x in reference])
        return CrackTip(
            float(present[:, 0].mean()),
            float(present[:, 1].mean()),
            float(((reference + ahead) / 2).mean()),
            np.unique([self.i[ends], self.j[ends]]),
            present[:, 0],
            where[found.connected],
        )

    def _mouth(self, points) -> np.ndarray:
        """Broken bonds of the outer half of the crack that was there at the start, near its plane."""
        tip, left = self.system.tip, self.system.perfect.positions[:, 0].min()
        if self.system.slit:  # what hangs together with its end
            return np.linalg.norm(points[:, :2] - tip, axis=1) < self.link
        return (points[:, 0] < (tip[0] + left) / 2) & (np.abs(points[:, 1] - tip[1]) < self.link)

    def _slit_end(self, positions) -> CrackTip | None:
        """The tip of a slit that has not grown: the first bond that the crack would cut; None without a slit."""
        if not self.system.slit:
            return None
        first = np.flatnonzero(self.cut & (self.middles[:, 0] < self._cut_x[0] + 0.05))
        present, x = self._present(positions, first), float(self.system.tip[0])
        behind = np.full(self.slices, present[:, 0].mean() - (self._cut_x[0] - x))
        atoms = np.unique([self.i[first], self.j[first]])
        return CrackTip(
            float(behind[0]), float(present[:, 1].mean()), x, atoms, behind, np.empty(0, dtype=int)
        )

    def _next_bond(self, x: float) -> float:
        k = np.searchsorted(self._cut_x, x + _SAME_X)
        return float(self._cut_x[min(k, len(self._cut_x) - 1)])
