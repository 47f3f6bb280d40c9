"""What a step takes on N ranks: rows that say what the measured times give, on one rank and on several."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from solidqmmm.engines.lammps import LammpsEngine
from solidqmmm.engines.protocols import Contribution
from solidqmmm.physics.algebra.rank_costs import RankCost
from solidqmmm.procedures.parallel.rank_forecast import (
    Forecast,
    Measured,
    measured_host,
    measured_quantum,
    seconds_of_call,
)
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.potential import Potential

SW = Potential("sw", "* * Si.sw Si", ["Si"])
HERE = Path(__file__).parent


def measured(ranks, cost):
    return Measured(tuple(ranks), tuple(cost.seconds(np.array(ranks))), cost)


HOST, QUANTUM = RankCost(0.1, 2.0), RankCost(1.0, 6.0)


def rows_of(forecast):
    return dict(forecast.rows())


def test_rows_say_both_layouts():
    rows = rows_of(Forecast(8, measured([1, 2], HOST), measured([1, 2], QUANTUM)))
    assert rows["ranks"] == "8, foretold from 1 and 2 ranks"
    assert rows["host per step"] == "350 ms on 8 ranks, efficiency 0.75"
    assert rows["quantum per step"] == "1.75 s on 8 ranks, efficiency 0.50"
    assert rows["time-sharing"] == "2.1 s per step"
    assert rows["best split"] == "2 s per step: 6 quantum + 2 host ranks"  # 1 + 6/6 against 0.1 + 2/2
    assert rows["layout"] == "time-sharing: the split is as fast within 5 %"


def test_a_gain_is_advised_and_a_loss_is_not():
    dear = Forecast(16, measured([2], RankCost(1.0, 0.5)), measured([2], RankCost(1.0, 4.0)), exchange=0.0)
    assert rows_of(dear)["layout"].startswith("ranks: {layout: split, quantum: ")
    assert dear.gain == pytest.approx(dear.shared / dear.best.seconds)
    cheap = Forecast(2, measured([2], RankCost(0.0, 1e-3)), measured([2], RankCost(0.0, 1.0)), exchange=1e-3)
    assert cheap.gain == pytest.approx((1e-3 + 1.0) / 2 / (1.0 + 1e-3))
    assert rows_of(cheap)["layout"] == "time-sharing, 2.00 times as fast as the split"


def test_ranks_that_make_it_slower_are_told():
    slower = Measured((1, 2), (2.0, 2.5), RankCost.fitted([1, 2], [2.0, 2.5]))
    assert "2 ranks were slower than 1" in rows_of(Forecast(8, measured([1, 2], HOST), slower))[""]
    assert "" not in rows_of(Forecast(8, measured([1, 2], HOST), measured([1, 2], QUANTUM)))


def test_where_nothing_overlaps_time_sharing_is_advised_with_the_reason():
    forecast = Forecast(16, measured([2], RankCost(1.0, 0.5)), measured([2], RankCost(1.0, 4.0)), "a relaxation")
    assert rows_of(forecast)["layout"] == "time-sharing: a relaxation"


@pytest.mark.parametrize(
    ("forecast", "words"),
    [
        (Forecast(4, measured([1], HOST), None), "time-sharing: the host alone"),
        (Forecast(4, None, measured([1], QUANTUM), "the engine alone"), "time-sharing: the engine alone"),
        (Forecast(4, measured([1], HOST), None, "no calibration"), "time-sharing: no calibration"),
        (Forecast(1, measured([1], HOST), measured([1], QUANTUM)), "one rank cannot be split"),
    ],
)
def test_what_cannot_be_split_says_so(forecast, words):
    assert words in rows_of(forecast)["layout"]
    assert "best split" not in rows_of(forecast)


def test_an_engine_that_nobody_can_calibrate_has_no_prediction():
    class Unknown:
        name = "unknown"

    assert measured_quantum(Unknown(), bulk("Si")) is None
    assert seconds_of_call(Unknown(), bulk("Si")) is None
    assert "no prediction" in rows_of(Forecast(4, None, None, "the engine alone"))["ranks"]


def test_one_rank_is_measured_and_the_scaling_assumed():
    crystal = Crystal.of(bulk("Si", cubic=True) * (3, 3, 3))
    found = measured_host(crystal, SW)
    assert found.ranks == (1,)
    assert found.cost.seconds(1) == pytest.approx(found.here)
    assert 1e-5 < found.here < 1
    with LammpsEngine(SW) as engine:
        call = measured_quantum(engine, crystal.to_atoms())
    assert call.cost.seconds(1) == pytest.approx(call.here)
    said = rows_of(Forecast(8, found, call))["ranks"]
    assert "how our own cases scale" in said


def test_larger_crystals_take_longer():
    small, large = (measured_host(Crystal.of(bulk("Si", cubic=True) * (n, n, n)), SW).here for n in (3, 9))
    assert large > 5 * small


class Watched:
    """A correction with a force that would tear the crystal apart; counts its calls."""

    has_energy, needs_host_forces = False, True

    def __init__(self, crystal):
        self.atoms, self.reference = np.arange(4), crystal.positions[:4]
        self.calls, self.largest = 0, 0.0

    def evaluate(self, positions, cell, host_forces=None):
        self.calls += 1
        self.largest = max(self.largest, float(np.abs(positions - self.reference).max()))
        return Contribution(np.full((4, 3), 1e4))


def test_the_couplings_work_is_timed_and_its_forces_are_not_felt():
    crystal = Crystal.of(bulk("Si", cubic=True) * (3, 3, 3))
    watched = Watched(crystal)
    measured_host(crystal, SW, coupling=lambda: watched)
    assert watched.calls > 15
    assert watched.largest < 1.0


def test_several_ranks_are_measured_in_halves(on_ranks):
    """On two ranks: two worlds of one rank at the same time, and all together; the world is as before."""
    said = on_ranks(HERE / "mpi_rank_forecast.py", ranks=2)
    assert said["host_ranks"] == said["quantum_ranks"] == [1, 2]
    assert said["costs_as_measured"] < 0.35
    assert said["world"] == 2
    assert said["energy_change"] == 0.0
    assert said["failure"] == ["EngineError"] * 2


# --- at the command line ------------------------------------------------------------------------------------------

HOST_ALONE = """
recipe: single_point
structure: {file: Si.cif}
supercell: [3, 3, 3]
host: {pair_style: sw, pair_coeff: ["* * Si.sw Si"], species: [Si]}
"""
QUANTUM_REGION = """
qm: {engine: lammps, pair_style: tersoff, pair_coeff: ["* * Si.tersoff Si"], species: [Si]}
coupling: force_mixing
"""
AT_A_VACANCY = """
defect: {kind: vacancy, site: 0}
caps: {kind: none}
region: {core: {hops: 1}, buffer: {hops: 1}}
"""
CRACK = """
recipe: fracture
structure: {file: Si.cif}
host: {pair_style: sw, pair_coeff: ["* * Si.sw Si"], species: [Si]}
crack: {system: strip, plane: [1, 1, 1], front: [1, -1, 0], load: {G: 4.0}, size_A: [130, 50]}
stadium: {width_A: 20, gamma_max_per_ps: 8}
dynamics: {temperature_K: 300, time_ps: 0.1}
"""
AT_THE_TIP = """
region: {core: {radius: 4.0}, leave_radius: 5.0, buffer: {radius: 4.0}}
caps: {kind: none, periodic_axes: [2]}
"""


def milliseconds(row) -> float:
    value, unit = row.split()[:2]
    return float(value) * {"ms": 1.0, "s": 1e3}[unit]


@pytest.fixture
def dry_run(tmp_path, monkeypatch, call):
    """Rows of a dry run of a study on a number of ranks."""
    bulk("Si", "diamond", a=5.43095, cubic=True).write(tmp_path / "Si.cif")
    monkeypatch.chdir(tmp_path)

    def run(text, ranks):
        Path("study.yaml").write_text(text)
        code, out, err = call("run", "study.yaml", "--dry-run", "--ranks", ranks)
        assert code == 0, err
        return dict(line.strip().split("  ", 1) for line in out.splitlines() if line.strip())

    return run


def test_dry_run_of_the_host_alone(dry_run):
    rows = dry_run(HOST_ALONE, 4)
    assert rows["ranks"].strip().startswith("4, foretold from one")
    assert "on 4 ranks" in rows["host per step"]
    assert rows["layout"].strip() == "time-sharing: the host alone"


def test_dry_run_of_a_relaxation_foretells_a_step_and_advises_time_sharing(dry_run):
    rows = dry_run(HOST_ALONE + QUANTUM_REGION + AT_A_VACANCY, 12)
    assert "per step" in rows["time-sharing"]
    assert "quantum + " in rows["best split"]
    assert "no steps of dynamics" in rows["layout"]


def test_dry_run_of_a_crack_foretells_its_steps(dry_run):
    rows = dry_run(CRACK + QUANTUM_REGION + AT_THE_TIP, 2)
    assert rows["best split"].strip().endswith("1 quantum + 1 host ranks")
    assert "about" in rows["quantum calls"]
    assert "not known beforehand" not in rows["layout"]
    per_step = rows["quantum per step"]
    rows = dry_run(CRACK + QUANTUM_REGION + AT_THE_TIP + "saving: {scheme: lotf, steps: 10}\n", 2)
    assert "with `saving: lotf`" in rows["layout"]
    assert milliseconds(rows["quantum per step"]) < milliseconds(per_step) / 3
    assert dry_run(CRACK, 2)["layout"].strip() == "time-sharing: the host alone"


def test_dry_run_of_a_charged_defect(dry_run, tmp_path):
    """Its recipe charges the crystal: the host of the calibration is charged too."""
    (tmp_path / "MgO.cif").write_text((HERE.parent / "examples" / "magnesia_vacancy" / "MgO.cif").read_text())
    rows = dry_run(
        "recipe: charged_defect\nstructure: {file: MgO.cif, lattice: host}\nsupercell: [2, 2, 2]\n"
        "defect: {kind: vacancy, site: 4}\nhost: {model: lewis_catlow_MgO}\n"
        "charged: {charge: 2, cells: [[2, 2, 2], [3, 3, 3], [4, 4, 4]]}\n",
        4,
    )
    assert rows["atoms"].strip() == "63"
    assert rows["layout"].strip() == "time-sharing: the host alone"


def test_an_estimate_of_ones_own_may_know_nothing_of_ranks(dry_run, tmp_path):
    (tmp_path / "mine.py").write_text(
        '"""Nothing."""\n\n\ndef run(*, model):\n    pass\n\n\n'
        'def estimate(*, model):\n    return [("sites", str(len(model.crystal)))]\n'
    )
    rows = dry_run(HOST_ALONE.replace("single_point", "mine.py"), 4)
    assert rows["sites"].strip() == "216"
    assert "takes no `ranks`" in rows["ranks"]


def test_ranks_belong_to_a_dry_run(dry_run, call):
    dry_run(HOST_ALONE, 1)
    code, _, err = call("run", "study.yaml", "--ranks", "4")
    assert code != 0
    assert "--ranks belongs to --dry-run" in err
    code, _, err = call("run", "study.yaml", "--dry-run", "--ranks", "0")
    assert code == 2
    assert "--ranks" in err
