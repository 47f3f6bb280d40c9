"""The tip of made-up cracks: moved, rattled, reconstructed, with vacancies and adatoms, slipped, curved."""

from __future__ import annotations

import numpy as np
import pytest
from crack_cases import IRON, made_up_cleavage, made_up_crack

from solidqmmm.physics.cracks.crack_tip import bond_lengths, foremost_connected, under_coordinated
from solidqmmm.procedures.cracks.crack_system import cracked_crystal
from solidqmmm.procedures.cracks.track_tip import TipTracker

STEP = 5.43095 * np.sqrt(6) / 4  # from one cut bond of silicon (111)[1-10] to the next


@pytest.fixture(scope="module")
def crack():
    return made_up_crack(size_A=(130,), front_repeats=2)


@pytest.fixture(scope="module")
def tracker(crack):
    return TipTracker(crack)


def opened(crack, steps=0, times=1.3):
    return crack.cracked(
        crack.load(K=times * crack.griffith.K_MPa_sqrt_m), crack.tip[0] + steps * STEP
    ).positions.copy()


@pytest.mark.parametrize("steps", [-2, 0, 1, 5])
def test_tip_is_where_the_field_has_its_tip(crack, tracker, steps):
    found = tracker.find(opened(crack, steps))
    assert found.reference_x == pytest.approx(crack.tip[0] + steps * STEP, abs=1e-6)
    assert abs(found.y - crack.tip[1]) < 0.1
    assert abs(found.x - found.reference_x) < STEP
    assert len(found.atoms) == 2 * crack.repeats == 2 * len(found.profile)


def test_the_next_bond_is_as_long_as_the_halves_are_apart(crack, tracker):
    """Bonds of the shuffle set are normal to the crack plane."""
    positions, bond = crack.perfect.positions.copy(), 5.43095 * np.sqrt(3) / 4
    assert tracker.next_bond_length(positions, crack.tip[0]) == pytest.approx(bond, abs=1e-9)
    positions[positions[:, 1] > crack.tip[1], 1] += 0.3
    assert tracker.next_bond_length(positions, crack.tip[0]) == pytest.approx(bond + 0.3, abs=1e-9)
    positions[positions[:, 0] < crack.tip[0], 1] = 0.0  # what is behind does not count
    assert tracker.next_bond_length(positions, crack.tip[0]) == pytest.approx(bond + 0.3, abs=1e-9)
    assert tracker.next_bond_length(positions, positions[:, 0].max()) is None


def test_what_was_found_last_is_found_again_only_at_the_same_positions(crack, tracker):
    load = crack.griffith
    here, ahead = (crack.cracked(load, x).positions for x in (crack.tip[0], crack.tip[0] + 2 * tracker.bond_spacing))
    first = tracker.find(here)
    assert tracker.find(here) is first
    moved = here.copy()
    assert tracker.find(moved) is first
    moved[:] = ahead  # the same array, other positions
    assert tracker.find(moved).reference_x > first.reference_x + tracker.bond_spacing


def test_a_closed_crack_has_no_tip(crack, tracker):
    assert tracker.find(crack.perfect.positions) is None


def test_heat_does_not_move_the_tip(crack, tracker):
    positions = opened(crack)
    rng = np.random.default_rng(5)
    for _ in range(10):
        found = tracker.find(positions + rng.normal(scale=0.12, size=positions.shape))
        assert found.reference_x == pytest.approx(crack.tip[0], abs=1e-6)


def test_a_vacancy_ahead_and_its_atom_on_a_flank_do_not_move_the_tip(crack, tracker):
    positions = opened(crack)
    d = positions - [*crack.tip, 0]
    moved = np.argmin(np.linalg.norm(d - [18.0, 1.0, 2.0], axis=1))
    flank = np.argmin(np.linalg.norm(d - [-30.0, 4.0, 2.0], axis=1))
    positions[moved] = positions[flank] - [0, 2.4, 0]
    broken_now = tracker.middles[tracker.broken_bonds(positions), 0]
    assert broken_now.max() > crack.tip[0] + 15  # it is a vacancy
    assert tracker.find(positions).reference_x == pytest.approx(crack.tip[0], abs=1e-6)


def test_a_torn_bond_ahead_is_no_tip(crack, tracker):
    positions = opened(crack)
    ahead = np.flatnonzero(tracker.cut & (np.abs(tracker.middles[:, 0] - crack.tip[0] - 6.5 * STEP) < 1))
    positions[tracker.i[ahead]] -= [0, 0.7, 0]
    positions[tracker.j[ahead]] += [0, 0.7, 0]
    assert tracker.broken_bonds(positions)[ahead].any()
    assert tracker.find(positions).reference_x == pytest.approx(crack.tip[0], abs=1e-6)


def test_reconstructed_flanks_do_not_move_the_tip(crack, tracker):
    """Rows of surface atoms pair up along the front."""
    positions = opened(crack)
    d = crack.perfect.positions - [*crack.tip, 0]
    surface = (d[:, 0] < -6) & (np.abs(d[:, 1]) < 1.3)
    positions[surface, 2] += np.where(d[surface, 2] < 3.84, 0.6, -0.6)
    assert tracker.find(positions).reference_x == pytest.approx(crack.tip[0], abs=1e-6)


def test_slip_ahead_is_no_crack(crack, tracker):
    """Whole lattice vectors along the front: bonds across the plane of slip are broken, their atoms have found others."""
    positions = opened(crack)
    d = crack.perfect.positions - [*crack.tip, 0]
    slipped = (d[:, 1] > 0) & (d[:, 0] > 0)
    positions[slipped, 2] += crack.axes.front_period
    assert tracker.broken_bonds(positions)[tracker.cut & (tracker.middles[:, 0] > crack.tip[0] + 20)].all()
    assert tracker.find(positions).reference_x < crack.tip[0] + 2 * STEP


def test_a_bowed_front_has_a_profile():
    crack = made_up_crack(size_A=(100,), front_repeats=6)
    tracker = TipTracker(crack)
    behind, ahead = opened(crack, 0), opened(crack, 4)
    first_half = crack.perfect.positions[:, 2] < 3 * crack.axes.front_period
    found = tracker.find(np.where(first_half[:, None], ahead, behind))
    assert np.ptp(found.profile) > 2.5 * STEP
    assert found.profile[1] > found.profile[4] + 3 * STEP
    assert crack.tip[0] < found.reference_x < crack.tip[0] + 4 * STEP


def test_tip_in_a_bcc_crystal():
    C = np.diag([116.0] * 6)
    C[:3, :3] = [[243, 145, 145], [145, 243, 145], [145, 145, 243]]
    cleavage = made_up_cleavage(IRON, (1, 0, 0), (0, 0, 1), C=C, gamma=2.4, height=2.855 / 4)
    crack = cracked_crystal(cleavage, system="cylinder", size_A=[110])
    tracker = TipTracker(crack)
    for steps in (0, 3):
        load = crack.load(K=2.5 * crack.griffith.K_MPa_sqrt_m)
        x = crack.tip[0] + steps * 2.855
        assert tracker.find(crack.cracked(load, x).positions).reference_x == pytest.approx(x, abs=2.9)


def test_a_slit_ends_where_it_was_cut_and_grows_with_the_bonds_ahead():
    crack = made_up_crack(size_A=(100,), mode="II")
    tracker = TipTracker(crack)
    start = tracker.find(crack.perfect.positions)
    assert start.reference_x == pytest.approx(crack.tip[0])
    assert abs(start.x - crack.tip[0]) < STEP
    assert abs(start.y - crack.tip[1]) < 0.2
    opening = crack.cleavage.field.displacements(
        crack.perfect.positions[:, 0] - crack.tip[0] - 2 * STEP,
        crack.perfect.positions[:, 1] - crack.tip[1],
        K_I=0.9,
    )
    grown = tracker.find(crack.perfect.positions + opening)
    assert grown.reference_x == pytest.approx(crack.tip[0] + 2 * STEP, abs=0.1)


# --- pure functions -------------------------------------------------------------------------------------------------


def test_only_what_hangs_together_with_the_seeds_counts():
    x = np.array([0, 1, 2, 3, 5.2, 6.2, 9.0])
    points = np.column_stack([x, 0 * x, 0 * x])
    seeds = np.arange(7) == 0
    assert foremost_connected(points, seeds, link=1.1).points.tolist() == [3]
    assert foremost_connected(points, seeds, link=2.5).points.tolist() == [5]
    assert foremost_connected(points, np.zeros(7, bool), link=2.5) is None


def test_points_hang_together_through_the_periodic_front():
    points = np.array([[0.0, 0, 0.1], [0.5, 0, 9.9], [1.0, 0, -10.2], [1.5, 0, 5.0]])
    seeds = np.arange(4) == 0
    assert foremost_connected(points, seeds, link=0.7, period=10.0).points.tolist() == [2]
    assert foremost_connected(points, seeds, link=0.7).points.tolist() == [0]


def test_bonds_and_neighbours_through_a_front_shorter_than_a_bond():
    """A simple cubic lattice, one cell along z."""
    grid = np.stack(np.meshgrid(np.arange(5.0), np.arange(5.0), [0.0], indexing="ij"), -1).reshape(-1, 3)
    full = 6
    lacking = under_coordinated(grid, np.arange(25), 1.2, full, period=1.0)
    edge = (grid[:, :2] % 4 == 0).any(axis=1)
    np.testing.assert_array_equal(lacking, edge)
    np.testing.assert_array_equal(under_coordinated(grid, np.arange(25), 1.2, full), np.ones(25, bool))
    assert bond_lengths(grid * [1.5, 1, 1], [0, 0], [5, 0], [0.0, 1.0]).tolist() == [1.5, 1.0]


def test_wrong_links_are_refused():
    with pytest.raises(ValueError, match="`link` must be positive"):
        foremost_connected(np.zeros((1, 3)), [True], link=0.0)
