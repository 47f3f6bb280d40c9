"""Split ranks: some compute quantum mechanics, the others hold the host, at the same time.

    time-sharing:   T = T_MM(p) + T_QM(p)                      on all p ranks
    split:          T = max(T_MM(p_MM), T_QM(p_QM)) + exchange,  p_MM + p_QM = p

Two calculations of unlike size seldom scale equally well; where one of them has run out of speed-up, the ranks do better in
two halves. How engines are asked across the division: `engines/remote`. How a step of dynamics is overlapped:
`motion/foresight`.

A division rests on the costs of a calibration (`Plan`). A run of dynamics measures them again at its checkpoints, since the
region grows and shrinks; where another division saves more in the steps that are left than the change costs, the run ends at
the checkpoint with `DivideAnew`, and whoever divided the ranks does so again and goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from solidqmmm.engines.remote import Link, link, serve, use_link
from solidqmmm.physics.algebra.rank_costs import RankCost, Split, best_split, worth_dividing_anew
from solidqmmm.rank_halves import divide, unite


@dataclass(frozen=True)
class Plan:
    """What a division rests on.

    Attributes:
        ranks: Number of all ranks.
        host: Cost of a host step.
        quantum: Cost of the quantum work of a step.
        exchange: What neither half does while the other works, in s.
    """

    ranks: int
    host: RankCost
    quantum: RankCost
    exchange: float = 0.0

    @property
    def best(self) -> Split:
        """The division with the shortest step."""
        return best_split(self.host, self.quantum, self.ranks, self.exchange)

    def measured(self, quantum_ranks: int, host_s: float, quantum_s: float) -> Plan:
        """The plan with costs that give these seconds of a step for the present division, scaling as they did."""
        host_ranks = self.ranks - quantum_ranks
        return replace(
            self,
            host=self.host.scaled(host_s / self.host.seconds(host_ranks)),
            quantum=self.quantum.scaled(quantum_s / self.quantum.seconds(quantum_ranks)),
        )

    def better(self, quantum_ranks: int, *, steps_left: int, rebuild: float) -> Split | None:
        """The best division, if changing to it pays within the steps that are left; `rebuild` in s."""
        return worth_dividing_anew(
            self.host, self.quantum, quantum_ranks, self.ranks, steps_left=steps_left, rebuild=rebuild,
            exchange=self.exchange,
        )  # fmt: skip


class DivideAnew(BaseException):
    """A run of dynamics has ended at a checkpoint, to go on with another division of the ranks. It is no failure.

    Attributes:
        plan: The costs of the moment; `plan.best` is the division that is asked for.
        why: In words.
    """

    def __init__(self, plan: Plan, why: str):
        super().__init__(plan, why)
        self.plan, self.why = plan, why


@contextmanager
def split_ranks(quantum: int, *, plan: Plan | None = None) -> Iterator[Link | None]:
    """Inside, the ranks are divided; collective.

    Host ranks get the link to the quantum ranks, and every engine of a model that is built inside lives there. Quantum ranks
    serve until the host ranks leave the block, and then get None: what is inside is not for them. A script that ends where
    only some of the ranks have failed calls `runtime.abort_on_uncaught_error` first, as on shared ranks.

        with split_ranks(2) as quantum_ranks:
            if quantum_ranks is not None:
                ... build_model, run_dynamics ...

    Args:
        quantum: Number of quantum ranks, the last ones; all others are host ranks.
        plan: Costs with which runs of dynamics that can be resumed judge the division at their checkpoints; None: it stays.

    Raises:
        ValueError: If one half would be empty, or the ranks are divided already.
        DivideAnew: On all ranks, where a run asks for it.
    """
    if link() is not None:
        raise ValueError("these ranks are split already: leave the first `split_ranks` before the next one")
    halves = divide(quantum)
    try:
        if halves.is_quantum:
            serve(halves)
            yield None
        else:
            yield from _served(Link(halves, plan))
    finally:
        unite()


def _served(one: Link) -> Iterator[Link]:
    use_link(one)
    error = None
    try:
        yield one
    except BaseException as caught:
        error = caught
        raise
    finally:
        use_link(None)
        one.stop(error)
