"""Figure of both layouts: its lines are the model's."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np

from solidqmmm.physics.algebra.rank_costs import RankCost, best_split, shared_seconds
from solidqmmm.plotting.ranks import plot_layouts


def test_lines_are_those_of_the_model():
    host, quantum = RankCost(0.01, 30.0, 1e-4), RankCost(0.5, 60.0)
    ax = plot_layouts(host, quantum, largest=256, exchange=0.02)
    lines = {line.get_label(): line.get_xydata() for line in ax.get_lines()}
    ranks = lines["time-sharing"][:, 0].astype(int)
    assert (ranks[0], ranks[-1]) == (2, 256)
    assert len(np.unique(ranks)) == len(ranks)
    np.testing.assert_allclose(lines["time-sharing"][:, 1], [shared_seconds(host, quantum, n) for n in ranks])
    np.testing.assert_allclose(lines["best split"][:, 1], [best_split(host, quantum, n, 0.02).seconds for n in ranks])
    np.testing.assert_allclose(lines["quantum call on all ranks"][:, 1], quantum.seconds(ranks))
    np.testing.assert_allclose(lines["host on all ranks"][:, 1], host.seconds(ranks))
    assert "seconds" in ax.get_ylabel()
    plt.close(ax.figure)


def test_axes_that_are_given_are_drawn_into():
    _, ax = plt.subplots()
    assert plot_layouts(RankCost(0.0, 1.0), RankCost(0.0, 1.0), ax, largest=8) is ax
    plt.close(ax.figure)
