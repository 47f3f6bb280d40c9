"""Two kinds of work on N ranks: one after the other on all of them, or side by side on a part each.

    T(p) = s + w / p + c log2 p                         one kind of work on p ranks
    T_shared(N) = T_MM(N) + T_QM(N)
    T_split(p_QM, p_MM) = max(T_QM(p_QM), T_MM(p_MM)) + T_exchange,     p_QM + p_MM = N

Where both scale perfectly (s = c = 0), p_QM : p_MM = w_QM : w_MM makes both the same, and nothing is gained. What is gained
comes from work that does not scale: each half is on fewer ranks, where it is more efficient. With c = 0 a step is never
faster by more than a factor of two, which is reached where equal s are left of both.

G. M. Amdahl, AFIPS Conf. Proc. 30, 483 (1967), for s and w; R. Thakur, R. Rabenseifner and W. Gropp, Int. J. High Perform.
Comput. Appl. 19, 49 (2005), for the logarithm of collective communication.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls


@dataclass(frozen=True)
class RankCost:
    """Seconds of one piece of work against the ranks that do it.

    Attributes:
        serial: s, what no further rank makes shorter, in s.
        parallel: w, what p ranks divide among themselves, in s.
        collective: c, in s for each doubling of the ranks.

    Raises:
        ValueError: For a negative part.
    """

    serial: float
    parallel: float
    collective: float = 0.0

    def __post_init__(self):
        if min(self.serial, self.parallel, self.collective) < 0:
            raise ValueError(f"the parts of a cost must not be negative (s), got {self}")

    @classmethod
    def fitted(cls, ranks, seconds, *, parallel_share: float = 1.0) -> RankCost:
        """The cost nearest to what was measured, in relative deviations, no part below zero.

        Args:
            ranks: Numbers of ranks, shape=(k,).
            seconds: What it took on them, shape=(k,).
            parallel_share: w / T(1) where there is only one number of ranks. Two give s and w (or w and c, where more ranks
                take longer), three all parts.

        Raises:
            ValueError: For no measurement, or one that is not positive.
        """
        p, t = np.atleast_1d(np.asarray(ranks, dtype=float)), np.atleast_1d(np.asarray(seconds, dtype=float))
        if not len(p) or p.shape != t.shape or p.min() < 1 or not t.min() > 0:
            raise ValueError(f"a cost needs numbers of ranks and seconds above zero, got {p.tolist()} and {t.tolist()}")
        n = len(np.unique(p))
        if n == 1:
            alone = t.mean() / (1 - parallel_share + parallel_share / p[0])
            return cls(float((1 - parallel_share) * alone), float(parallel_share * alone))
        terms = np.stack([np.ones_like(p), 1 / p, np.log2(p)], axis=1) / t[:, None]
        kept = [[0, 1], [1, 2]] if n == 2 else [[0, 1, 2]]
        fits = [(columns, *nnls(terms[:, columns], np.ones(len(t)))) for columns in kept]
        columns, found, _ = min(fits, key=lambda fit: round(fit[2], 9))
        parts = np.zeros(3)
        parts[columns] = found
        return cls(*parts.tolist())

    def seconds(self, ranks):
        """T(p) in s, of a number of ranks or an array of them."""
        p = np.asarray(ranks, dtype=float)
        value = self.serial + self.parallel / p + self.collective * np.log2(p)
        return value if value.ndim else float(value)

    def efficiency(self, ranks):
        """T(1) / (p T(p))."""
        return self.seconds(1) / (ranks * self.seconds(ranks))

    def scaled(self, ratio: float, exponent: float = 1.0) -> RankCost:
        """The cost with `ratio` times the atoms, where the time of one rank grows as n^exponent; messages as before."""
        factor = ratio**exponent
        return RankCost(factor * self.serial, factor * self.parallel, self.collective)


@dataclass(frozen=True)
class Split:
    """A division of the ranks.

    Attributes:
        quantum: p_QM.
        host: p_MM.
        seconds: T_split of a step in s.
    """

    quantum: int
    host: int
    seconds: float


def shared_seconds(host: RankCost, quantum: RankCost, ranks: int) -> float:
    """T_shared in s: host and quantum work one after the other, each on all ranks."""
    return host.seconds(ranks) + quantum.seconds(ranks)


def split_seconds(host: RankCost, quantum: RankCost, quantum_ranks, ranks: int, exchange: float = 0.0):
    """T_split in s with `quantum_ranks` (a number, or an array) of all ranks for the quantum work.

    Args:
        host, quantum: Costs of a host step and of a quantum call.
        quantum_ranks: p_QM, between 1 and ranks - 1.
        ranks: N.
        exchange: T_exchange in s, what neither half does while the other works.

    Raises:
        ValueError: If one half has no rank.
    """
    q = np.asarray(quantum_ranks)
    if q.min() < 1 or q.max() > ranks - 1:
        raise ValueError(f"each half needs a rank: expected 1 to {ranks - 1} quantum ranks of {ranks}, got {quantum_ranks}")
    value = np.maximum(quantum.seconds(q), host.seconds(ranks - q)) + exchange
    return value if value.ndim else float(value)


def best_split(host: RankCost, quantum: RankCost, ranks: int, exchange: float = 0.0) -> Split:
    """The division with the shortest step; of equal ones that with the fewest quantum ranks.

    Raises:
        ValueError: For fewer than two ranks.
    """
    if ranks < 2:
        raise ValueError(f"one rank cannot be divided: expected at least 2, got {ranks}")
    q = np.arange(1, ranks)
    seconds = split_seconds(host, quantum, q, ranks, exchange)
    k = int(seconds.argmin())
    return Split(int(q[k]), int(ranks - q[k]), float(seconds[k]))


def proportional_split(host: RankCost, quantum: RankCost, ranks: int) -> int:
    """p_QM nearest to p_QM : p_MM = T_QM(1) : T_MM(1), the answer of perfect scaling; each half keeps a rank."""
    share = quantum.seconds(1) / (quantum.seconds(1) + host.seconds(1))
    return int(np.clip(round(share * ranks), 1, max(ranks - 1, 1)))


def worth_dividing_anew(
    host: RankCost, quantum: RankCost, quantum_ranks: int, ranks: int, *, steps_left: int, rebuild: float,
    exchange: float = 0.0,
) -> Split | None:  # fmt: skip
    """The best division if changing to it saves more in the steps that are left than the change costs; None otherwise.

    Args:
        host, quantum: Costs as they are with the region of the moment.
        quantum_ranks: p_QM of the moment.
        ranks: N.
        steps_left: Steps to the end of the run.
        rebuild: Seconds of a change: checkpoint, engines opened anew, first SCF from atoms.
        exchange: T_exchange in s.
    """
    best = best_split(host, quantum, ranks, exchange)
    saved = split_seconds(host, quantum, quantum_ranks, ranks, exchange) - best.seconds
    return best if saved * steps_left > rebuild else None
