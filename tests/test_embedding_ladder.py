"""The ladder of embeddings: what must not depend on the rung, how energies are put together, figures, refusals."""

from __future__ import annotations

import json
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from embedding_cases import COUPLINGS, HOST, ISOLATED, PAIRS, QM, mapping, oxide, run
from matplotlib.container import BarContainer

from solidqmmm import recipebook
from solidqmmm.engines.lammps_host import LammpsHost
from solidqmmm.plotting.embedding_ladder import plot_dipoles, plot_energies, plot_terms
from solidqmmm.procedures.build import build_model
from solidqmmm.results.base import Result
from solidqmmm.system import study_file
from solidqmmm.system.potential import Potential
from solidqmmm.system.study import Study

CLUSTERS = [{"hops": 1}, {"radius": 3.2}]
ALL = {**COUPLINGS["polarizable"], "charge": 2.0}
SMALL = {"recipe": "embedding_ladder", "supercell": [2, 2, 2]}


@pytest.fixture(scope="module")
def ladder():
    asked = {"clusters": CLUSTERS, "chemical_potentials": {"O": -5.0}}
    return run(coupling=ALL, ladder=asked, **SMALL)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_the_same_ions_have_one_energy_on_every_rung_of_fixed_charges():
    """Which ions are quantum, and how they are embedded, says nothing; LAMMPS alone is the second way."""
    same = {"engine": "classical_field", "charges": QM["charges"], "inner": {**QM["inner"], "pair_coeff": PAIRS}}
    points = {"scheme": "electrostatic", "charge": 2.0, "width": 0.0}
    found = run(qm=same, coupling=points, ladder={"clusters": CLUSTERS}, **SMALL)
    perfect = oxide().supercell([2, 2, 2])
    energies = []
    for crystal in (perfect.without(int(np.flatnonzero(perfect.numbers == 8)[0])), perfect):
        potential = {**HOST, "net_charge": 2.0 if len(crystal) == 63 else 0.0}
        with LammpsHost(crystal, Potential(**potential)) as host:
            energies.append(host.energy())
    assert [(rung.embedding, rung.formula_qm) for rung in found.rungs] == [
        ("mechanical", "Mg6"), ("electrostatic", "Mg6"), ("mechanical", "Mg6O12"), ("electrostatic", "Mg6O12")
    ]  # fmt: skip
    for rung in found.rungs:
        assert rung.energy_difference_eV == pytest.approx(energies[0] - energies[1], abs=1e-3)
        assert rung.formation_energy_eV is None
    assert "the chemical potential of O is not given" in found.formation_energy_missing_reason


def test_dipoles_on_both_sides_have_one_energy_on_every_polarizable_rung():
    """Sixty-four ions and their dipoles in empty space, undamped: it makes no difference which of them are quantum."""
    alpha = {"Mg": 0.09, "O": 0.9}
    inner = {**ISOLATED["qm"]["inner"], "pair_coeff": PAIRS}
    found = run(
        recipe="embedding_ladder",
        **ISOLATED | {"qm": {**ISOLATED["qm"], "polarizabilities": alpha, "inner": inner}},
        coupling={"scheme": "polarizable", "charge": 2.0, "width": 0.0, "polarizabilities": alpha, "damping": "none"},
        ladder={"embeddings": ["polarizable"], "clusters": [{"hops": 1}, {"radius": 3.2}, {"radius": 5.0}]},
    )
    assert [rung.formula_qm for rung in found.rungs] == ["Mg3", "Mg3O3", "Mg10O6"]
    assert np.ptp(found.energies_eV) < 1e-6
    for rung in found.rungs:
        assert rung.energy_terms_eV["polarization"] < -1.0


def test_the_example_gives_the_numbers_that_it_states():
    path = Path(__file__).parents[1] / "examples" / "magnesia_vacancy" / "ladder.yaml"
    stated = re.findall(r"-?\d+\.\d{2}(?=[,;.]? )", path.read_text().split("recipe:")[0].replace("\n#", ""))
    study = recipebook.load_study(path)
    with build_model(study) as model:
        found = recipebook.find(study.recipe).run(model=model, **study.options)
    by_embedding = [e for name in COUPLINGS for e, rung in zip(found.energies_eV, found.rungs) if rung.embedding == name]
    assert [f"{energy:.2f}" for energy in by_embedding] == stated


def test_energies_are_put_together(ladder):
    assert len(ladder.rungs) == 6
    for rung in ladder.rungs:
        assert sum(rung.energy_terms_eV.values()) == pytest.approx(rung.energy_eV, abs=1e-8)
        assert rung.energy_difference_eV == pytest.approx(rung.energy_eV - rung.energy_perfect_eV, abs=1e-9)
        assert sum(rung.term_differences_eV.values()) == pytest.approx(rung.energy_difference_eV, abs=1e-8)
        assert rung.formation_energy_eV == pytest.approx(rung.energy_difference_eV - 5.0, abs=1e-9)
        assert rung.region_charge_e == {"Mg6": 12, "Mg6O12": -12}[rung.formula_qm]
        assert rung.region_potential_rms_error_eV < 1e-3
        assert rung.n_qm_calls == 2
        assert rung.wall_s > 0
    mechanical, electrostatic, polarizable = ladder.energies_eV[3:]
    assert polarizable < electrostatic < mechanical  # each answers what the one before holds fixed


def test_dipoles_fall_with_the_distance(ladder):
    rung = ladder.rungs[2]
    assert rung.embedding == "polarizable"
    assert rung.total_dipole_e_A < 1e-6  # cubic
    anions = rung.dipole_symbol == "O"
    near, far = rung.dipole_distance_A[anions] < 3.5, rung.dipole_distance_A[anions] > 6.0
    assert rung.dipole_norm_e_A[anions][near].min() > 3 * rung.dipole_norm_e_A[anions][far].max()
    assert ladder.rungs[0].largest_dipole_e_A is None
    assert "dipoles_e_A" not in json.dumps(ladder.rungs[0].energy_terms_eV)


def test_json_and_summary(ladder, tmp_path):
    written = json.loads(ladder.save(tmp_path / "result.json").read_text())
    assert written["rungs"][2]["largest_dipole_e_A"] == ladder.rungs[2].largest_dipole_e_A
    again = Result.load(tmp_path / "result.json")
    assert again.rungs[5].label == "polarizable, Mg6O12"
    np.testing.assert_array_equal(again.energies_eV, ladder.energies_eV)
    np.testing.assert_array_equal(again.rungs[5].dipole_norm_e_A, ladder.rungs[5].dipole_norm_e_A)
    rows = dict(ladder.summary())
    assert rows["defect"] == "vacancy (O)"
    assert rows["polarizable, Mg6O12"].startswith(f"{ladder.energies_eV[5]:.4f} eV, cluster -12 e, dipoles up to")


def test_a_relaxed_ladder_goes_on_where_it_was(tmp_path):
    asked = {**SMALL, "ladder": {"embeddings": ["electrostatic"], "ions": "relaxed", "fmax": 0.05}}
    first = run("electrostatic", tmp_path, **asked)
    records = sorted((tmp_path / "journal").iterdir())
    again = run("electrostatic", tmp_path, **asked)
    assert sorted((tmp_path / "journal").iterdir()) == records
    assert again.as_dict() == first.as_dict()
    assert first.rungs[0].converged
    assert first.rungs[0].max_force_eV_per_A <= 0.05


# --- figures --------------------------------------------------------------------------------------------------------------


def test_figures_show_the_numbers(ladder):
    figures = recipebook.find("embedding_ladder").figures(ladder)
    assert list(figures) == ["energies", "terms", "dipoles"]
    lines = {line.get_label(): line for line in plot_energies(ladder).lines}
    np.testing.assert_allclose(lines["polarizable"].get_ydata(), ladder.energies_eV[[2, 5]])
    terms = plot_terms(ladder)
    steps = ladder.energies_eV[4:] - ladder.energies_eV[3]
    drawn = [bar.patches[0].get_width() for bar in terms.containers if isinstance(bar, BarContainer)]
    assert sum(drawn) == pytest.approx(steps.sum(), abs=5e-3)
    points = plot_dipoles(ladder).lines[0]
    assert points.get_ydata().max() == pytest.approx(ladder.rungs[2].largest_dipole_e_A)


def test_figures_of_little(ladder):
    import dataclasses

    one = dataclasses.replace(ladder, rungs=ladder.rungs[:1])
    assert list(recipebook.find("embedding_ladder").figures(one)) == ["energies", "terms"]
    assert "no step" in plot_terms(one).texts[0].get_text().replace("\n", " ")
    assert "no induced" in plot_dipoles(one).texts[0].get_text().replace("\n", " ")
    with pytest.raises(ValueError, match="must not be empty"):
        dataclasses.replace(ladder, rungs=())


# --- what cannot be -------------------------------------------------------------------------------------------------------


AROUND_AN_ION = {"core": {"hops": 1}, "centre": {"site": 1}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"defect": None, "region": AROUND_AN_ION}, "compares a defect with the perfect crystal"),
        ({"coupling": {"scheme": "subtractive"}, "host": {**HOST, "net_charge": 2.0}}, "needs an additive coupling"),
        ({"ladder": {"embeddings": ["polarizable"]}}, "the study has no polarizabilities"),
        ({"ladder": {"embeddings": ["electric"]}}, "ladder.embeddings"),
        ({"ladder": {"clusters": [{"hop": 1}]}}, "hop"),
        ({"ladder": {"clusters": []}}, "expected at least 1 value"),
    ],
)
def test_impossible_requests(tmp_path, call, changes, said):
    asked = mapping("electrostatic", **(SMALL | changes)) | {"structure": {"file": "MgO.xyz", "cell": "as_given"}}
    oxide().to_atoms().write(tmp_path / "MgO.xyz")
    (tmp_path / "study.yaml").write_text(study_file.to_yaml({k: v for k, v in asked.items() if v is not None}))
    code, _, err = call("run", tmp_path / "study.yaml", "--out", tmp_path / "out")
    assert code == 2, err
    assert said in " ".join(err.split())
    assert "Traceback" not in err
    for name in ("result.json", "study.yaml"):
        assert not (tmp_path / "out" / name).exists()


def test_another_embedding_is_the_same_crystal():
    study = Study.from_mapping(mapping("polarizable", **SMALL), schemas=recipebook.schemas())
    with build_model(study) as model, model.with_embedding(study.coupling) as other:
        assert other.crystal is model.crystal
        np.testing.assert_array_equal(other.partition.quantum, model.partition.quantum)
        assert other.engine is not model.engine


@pytest.mark.slow
def test_electrons_in_the_example():
    """GPAW on six cations: what the crystal's potential changes for two trapped electrons."""
    pytest.importorskip("gpaw")
    study = recipebook.load_study(Path(__file__).parents[1] / "examples" / "magnesia_vacancy" / "gpaw.yaml")
    with build_model(study) as model:
        found = recipebook.find(study.recipe).run(model=model, **study.options)
    mechanical, electrostatic = found.rungs
    assert mechanical.formation_energy_eV == pytest.approx(12.77, abs=0.03)
    assert electrostatic.formation_energy_eV == pytest.approx(11.72, abs=0.03)
    assert 3.0 < electrostatic.gap_eV < electrostatic.gap_perfect_eV
    assert electrostatic.spill_out_e < 0.05
    assert electrostatic.region_charge_e == 10
