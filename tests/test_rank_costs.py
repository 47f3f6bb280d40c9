"""Costs on ranks: exact cases, limits and bounds of time-sharing and of splitting; power laws come back."""

from __future__ import annotations

import numpy as np
import pytest

from solidqmmm.physics.algebra.power_law import power_law
from solidqmmm.physics.algebra.rank_costs import (
    RankCost,
    best_split,
    proportional_split,
    shared_seconds,
    split_seconds,
    worth_dividing_anew,
)


def perfect(seconds):
    return RankCost(0.0, seconds)


@pytest.fixture(params=range(20))
def costs(request):
    """Host and quantum costs over six decades, without communication, and a number of ranks."""
    rng = np.random.default_rng(request.param)
    values = 10 ** rng.uniform(-3, 3, 4)
    return RankCost(*values[:2]), RankCost(*values[2:]), int(rng.integers(2, 200))


@pytest.mark.parametrize(("host", "quantum", "ranks", "expected"), [(1, 3, 4, 3), (5, 5, 10, 5), (1, 99, 200, 198)])
def test_perfect_scaling_is_divided_in_proportion_and_gains_nothing(host, quantum, ranks, expected):
    best = best_split(perfect(host), perfect(quantum), ranks)
    assert (best.quantum, best.host) == (expected, ranks - expected)
    assert proportional_split(perfect(host), perfect(quantum), ranks) == expected
    assert best.seconds == pytest.approx((host + quantum) / ranks, rel=1e-14)
    assert best.seconds == pytest.approx(shared_seconds(perfect(host), perfect(quantum), ranks), rel=1e-14)


def test_perfect_scaling_is_never_faster_when_split():
    for ranks in range(2, 40):
        best = best_split(perfect(1.0), perfect(np.pi), ranks)
        assert best.seconds >= shared_seconds(perfect(1.0), perfect(np.pi), ranks) * (1 - 1e-14)


def test_work_that_does_not_scale_is_hidden_behind_the_other():
    host, quantum = RankCost(2.0, 0.0), RankCost(7.0, 0.0)
    assert shared_seconds(host, quantum, 64) == 9.0
    assert best_split(host, quantum, 64).seconds == 7.0
    equal = RankCost(1.0, 0.0)
    assert shared_seconds(equal, equal, 2) == 2 * best_split(equal, equal, 2).seconds


def test_without_communication_the_gain_is_at_most_two(costs):
    host, quantum, ranks = costs
    shared, best = shared_seconds(host, quantum, ranks), best_split(host, quantum, ranks)
    assert shared / best.seconds <= 2 * (1 + 1e-12)
    assert best.seconds >= max(host.seconds(ranks), quantum.seconds(ranks))


def test_many_ranks_leave_the_longer_serial_part(costs):
    host, quantum, _ = costs
    ranks = 10**6
    assert best_split(host, quantum, ranks).seconds == pytest.approx(max(host.serial, quantum.serial), rel=0.05)
    assert shared_seconds(host, quantum, ranks) == pytest.approx(host.serial + quantum.serial, rel=0.05)


def test_the_best_division_balances_both_halves(costs):
    """One rank more or fewer on the quantum side is not faster, and there the other half is the slower one."""
    host, quantum, ranks = costs
    best = best_split(host, quantum, ranks)
    for other in (best.quantum - 1, best.quantum + 1):
        if 1 <= other < ranks:
            assert split_seconds(host, quantum, other, ranks) >= best.seconds
    if 1 < best.quantum < ranks - 1:
        assert quantum.seconds(best.quantum - 1) >= host.seconds(best.host)


def test_communication_may_leave_ranks_worth_less_than_none():
    """With T = w/p + c log2 p the best number of ranks is w ln 2 / c, and the optimum does not exceed it by much."""
    quantum, host = RankCost(0.0, 16.0, 1.0), RankCost(0.0, 1e-6)
    assert best_split(host, quantum, 10_000).quantum == round(16 * np.log(2))


def test_exchange_is_paid_by_splitting_alone():
    host, quantum = RankCost(0.1, 3.0), RankCost(0.4, 8.0)
    assert best_split(host, quantum, 8, 0.25).seconds == pytest.approx(best_split(host, quantum, 8).seconds + 0.25)
    assert best_split(host, quantum, 8, 0.25).quantum == best_split(host, quantum, 8).quantum


def test_two_ranks_have_one_division():
    best = best_split(RankCost(0.0, 1e-3), RankCost(0.0, 1e3), 2)
    assert (best.quantum, best.host) == (1, 1)
    with pytest.raises(ValueError, match="at least 2, got 1"):
        best_split(perfect(1), perfect(1), 1)
    with pytest.raises(ValueError, match="1 to 3 quantum ranks of 4, got 4"):
        split_seconds(perfect(1), perfect(1), 4, 4)


def test_a_cost_comes_back_from_its_own_times():
    known = RankCost(0.3, 12.0, 0.05)
    ranks = np.array([1, 2, 4, 8, 16, 64])
    found = RankCost.fitted(ranks, known.seconds(ranks))
    assert [found.serial, found.parallel, found.collective] == pytest.approx([0.3, 12.0, 0.05], rel=1e-9)
    two = RankCost.fitted([1, 2], RankCost(0.3, 12.0).seconds([1, 2]))
    assert [two.serial, two.parallel, two.collective] == pytest.approx([0.3, 12.0, 0.0], rel=1e-9)
    one = RankCost.fitted([4], [0.3 + 3.0], parallel_share=12 / 12.3)
    assert [one.serial, one.parallel] == pytest.approx([0.3, 12.0], rel=1e-9)


def test_two_ranks_that_are_slower_than_one_communicate():
    found = RankCost.fitted([1, 2], [2.0, 2.5])
    assert found.seconds(np.array([1, 2])) == pytest.approx([2.0, 2.5])
    assert found.serial == 0
    assert found.seconds(64) > found.seconds(8) > 2.5


def test_faster_than_perfect_is_taken_as_perfect():
    found = RankCost.fitted([1, 2], [1.0, 0.45])
    assert found.serial == 0
    assert found.efficiency(2) == pytest.approx(1.0)


def test_efficiency_of_what_does_not_scale_is_one_over_the_ranks():
    assert RankCost(3.0, 0.0).efficiency(8) == pytest.approx(1 / 8)
    assert RankCost(0.0, 3.0).efficiency(8) == pytest.approx(1.0)


def test_more_atoms_cost_their_power_on_any_ranks():
    cost = RankCost(0.2, 5.0, 0.01)
    cubed = cost.scaled(2.0, 3.0)
    assert [cubed.serial, cubed.parallel, cubed.collective] == [1.6, 40.0, 0.01]


@pytest.mark.parametrize(("ranks", "seconds"), [([], []), ([1, 2], [1.0]), ([1], [0.0]), ([0], [1.0])])
def test_costs_that_cannot_be(ranks, seconds):
    with pytest.raises(ValueError, match="above zero"):
        RankCost.fitted(ranks, seconds)
    with pytest.raises(ValueError, match="not be negative"):
        RankCost(-1.0, 1.0)


def test_dividing_anew_has_to_pay_for_itself():
    """A quantum region that has grown eightfold: 1 of 8 ranks was right, 4 of 8 is."""
    host, quantum = perfect(7.0), perfect(1.0)
    assert best_split(host, quantum, 8).quantum == 1
    grown = quantum.scaled(7.0)
    saved = split_seconds(host, grown, 1, 8) - split_seconds(host, grown, 4, 8)
    assert saved == pytest.approx(7.0 - 7.0 / 4)
    asked = {"ranks": 8, "steps_left": 10}
    assert worth_dividing_anew(host, grown, 1, rebuild=10 * saved + 1e-9, **asked) is None
    assert worth_dividing_anew(host, grown, 1, rebuild=10 * saved - 1e-9, **asked).quantum == 4
    assert worth_dividing_anew(host, grown, 4, rebuild=0.0, **asked) is None


def test_a_power_law_comes_back_with_its_error():
    sizes = np.array([1e3, 1e4, 1e5, 1e6])
    exact = power_law(sizes, 2e-6 * sizes**1.2)
    assert exact.exponent == pytest.approx(1.2)
    assert exact.factor == pytest.approx(2e-6)
    assert exact.stderr == pytest.approx(0.0, abs=1e-12)
    noise = np.exp([0.1, -0.1, -0.1, 0.1])  # orthogonal to a line: the exponent stays, its error does not
    noisy = power_law(sizes, 2e-6 * sizes**1.2 * noise)
    assert noisy.exponent == pytest.approx(1.2)
    assert noisy.stderr == pytest.approx(np.sqrt(0.04 / 2 / (5 * np.log(10) ** 2)))
    assert power_law(sizes[:2], [1.0, 10.0]).stderr is None
    with pytest.raises(ValueError, match="two sizes"):
        power_law([10, 10], [1, 2])
