"""Split ranks: some compute quantum mechanics, the others hold the host, at the same time.

    time-sharing:   T = T_MM(p) + T_QM(p)                      on all p ranks
    split:          T = max(T_MM(p_MM), T_QM(p_QM)) + exchange,  p_MM + p_QM = p

Two calculations of unlike size seldom scale equally well; where one of them has run out of speed-up, the ranks do better in
two halves. How engines are asked across the division: `engines/remote`. How a step of dynamics is overlapped:
`motion/foresight`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from solidqmmm.engines.remote import Link, link, serve, use_link
from solidqmmm.rank_halves import divide, unite


@contextmanager
def split_ranks(quantum: int) -> Iterator[Link | None]:
    """Inside, the ranks are divided; collective.

    Host ranks get the link to the quantum ranks, and every engine of a model that is built inside lives there. Quantum ranks
    serve until the host ranks leave the block, and then get None: what is inside is not for them.

        with split_ranks(2) as quantum_ranks:
            if quantum_ranks is not None:
                ... build_model, run_dynamics ...

    Args:
        quantum: Number of quantum ranks, the last ones; all others are host ranks.

    Raises:
        ValueError: If one half would be empty, or the ranks are divided already.
    """
    if link() is not None:
        raise ValueError("these ranks are split already: leave the first `split_ranks` before the next one")
    halves = divide(quantum)
    try:
        if halves.is_quantum:
            serve(halves)
            yield None
        else:
            yield from _served(Link(halves))
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
