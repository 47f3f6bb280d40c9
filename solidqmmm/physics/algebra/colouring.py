"""Which atoms may move in the same evaluation: colouring of an interaction graph, and what is read from it afterwards.

Where the force on atom i changes only if one of the atoms P(i) moves (i itself among them), two atoms j and k may move
together if no force feels both: no i has j and k in P(i). Atoms of one colour move together, and every force that
changes has one cause,

    K_ij = -[F_i(all of colour c at +h) - F_i(all of colour c at -h)] / (2 h),    j the one atom of colour c in P(i).

All atoms of P(i) need different colours, so max |P(i)| is the fewest that can do. Twice as many nearly always suffice in
crystals of any size and shape, commensurate or not, with or without defects: with that palette fixed beforehand, the
number of evaluations depends on the densest neighbourhood and not on the size. First fit leaves a few atoms without a
colour; these push the fewest others out of a colour until all have one (partial colourings with a tabu list).

Sources: A. R. Curtis, M. J. D. Powell and J. K. Reid, J. Inst. Maths. Applics. 13, 117 (1974); A. H. Gebremedhin,
F. Manne and A. Pothen, SIAM Rev. 47, 629 (2005); I. Bloechliger and N. Zufferey, Comput. Oper. Res. 35, 960 (2008).
"""

from __future__ import annotations

import numpy as np
from scipy import sparse


def interaction_pattern(i, j, n: int, hops: int) -> sparse.csr_array:
    """The atoms within `hops` bonds of each other, each atom itself among them.

    Args:
        i: First atoms of the bonds, shape=(m,); every bond in both directions, images and repetitions are fine.
        j: Second atoms, shape=(m,).
        n: Number of atoms.
        hops: Largest number of bonds between two atoms that interact.

    Returns:
        Symmetric pattern, shape=(n, n), of ones, with sorted indices.

    Raises:
        ValueError: For less than one hop.
    """
    if hops < 1:
        raise ValueError(f"`hops` must be at least 1, got {hops}")
    bonds = sparse.csr_array((np.ones(len(i), dtype=np.int32), (i, j)), shape=(n, n))
    bonds = bonds + sparse.eye_array(n, format="csr", dtype=np.int32)
    bonds.data[:] = 1
    pattern = bonds
    for _ in range(hops - 1):
        pattern = (pattern @ bonds).tocsr()
        pattern.data[:] = 1
    pattern.sort_indices()
    return pattern


def colouring(pattern: sparse.csr_array, *, seed: int = 0) -> np.ndarray:
    """Colours such that no row of the pattern has two columns of one colour.

    At most twice the longest row, if the search succeeds (crystals larger than a few force ranges); a cell that is small
    against the range gets up to one colour for each atom.

    Args:
        pattern: Symmetric, with a full diagonal, shape=(n, n).
        seed: Seed of the search; the same pattern and seed give the same colours.

    Returns:
        Colour of each atom from 0, every colour used, shape=(n,).
    """
    n = pattern.shape[0]
    search = _PartialColouring(pattern, min(n, 2 * int(np.diff(pattern.indptr).max(initial=1))))
    search.first_fit(range(n))
    search.push_out(np.random.default_rng(seed))
    search.extend()
    return np.unique(search.colour, return_inverse=True)[1]


class _PartialColouring:
    """Atoms with and without a colour; `cause[i, c]` is the atom of colour c that the force on i would feel, or -1."""

    def __init__(self, pattern, n_colours):
        self.indptr, self.indices = pattern.indptr, pattern.indices
        self.cause = np.full((pattern.shape[0], n_colours), -1, dtype=np.int32)
        self.colour = np.full(pattern.shape[0], -1)
        self.without: list[int] = []

    def affected(self, atom):
        return self.indices[self.indptr[atom] : self.indptr[atom + 1]]

    def give(self, atom, colour):
        self.colour[atom] = colour
        self.cause[self.affected(atom), colour] = atom

    def take(self, atom):
        self.cause[self.affected(atom), self.colour[atom]] = -1
        self.colour[atom] = -1
        self.without.append(atom)

    def first_fit(self, atoms):
        for atom in atoms:
            taken = (self.cause[self.affected(atom)] >= 0).any(axis=0)
            free = int(taken.argmin())
            if taken[free]:
                self.without.append(atom)
            else:
                self.give(atom, free)

    def push_out(self, rng):
        """Gives colours to atoms that have none, at the cost of others, as long as their number falls now and then."""
        tabu: dict[tuple[int, int], int] = {}
        fewest, step, since = len(self.without), 0, 0
        while self.without and since < 1000 + 2 * fewest:
            step += 1
            k = int(rng.integers(len(self.without)))
            self.without[k], self.without[-1] = self.without[-1], self.without[k]
            atom = self.without.pop()
            causes = np.sort(self.cause[self.affected(atom)], axis=0)
            distinct = np.vstack([causes[:1] >= 0, (causes[1:] != causes[:-1]) & (causes[1:] >= 0)])
            cost = distinct.sum(axis=0) + 0.5 * rng.random(causes.shape[1])
            for colour in np.flatnonzero(cost < cost.min() + 4):  # tabu only matters where a colour could win
                if tabu.get((atom, int(colour)), 0) > step:
                    cost[colour] += 1000
            chosen = int(cost.argmin())
            for loser in causes[distinct[:, chosen], chosen].tolist():
                self.take(loser)
                tabu[loser, chosen] = step + int(0.6 * len(self.without)) + int(rng.integers(10))
            self.give(atom, chosen)
            since += 1
            if len(self.without) < fewest:
                fewest, since = len(self.without), 0

    def extend(self):
        """Further colours for those that are still without one."""
        while self.without:
            atoms, self.without = sorted(self.without), []
            more = min(len(atoms), max(8, self.cause.shape[1] // 8))
            self.cause = np.pad(self.cause, ((0, 0), (0, more)), constant_values=-1)
            self.first_fit(atoms)


def entries_by_colour(pattern: sparse.csr_array, colours) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the entries of the pattern are found that the atoms of one colour cause.

    Args:
        pattern: Of the interactions, shape=(n, n).
        colours: Colour of each atom, shape=(n,).

    Returns:
        Row of every entry, shape=(m,); a permutation of the entries, shape=(m,), and limits, shape=(n_colours + 1,): those
        of colour c are `order[limits[c]:limits[c + 1]]`.
    """
    rows = np.repeat(np.arange(pattern.shape[0], dtype=np.int32), np.diff(pattern.indptr))
    of_column = colours[pattern.indices]
    order = np.argsort(of_column, kind="stable")
    limits = np.concatenate([[0], np.cumsum(np.bincount(of_column, minlength=int(colours.max()) + 1))])
    return rows, order, limits
