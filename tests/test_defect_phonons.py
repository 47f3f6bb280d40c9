"""The recipe `defect_phonons`: reference numbers, hybrid Hessians a second way, an infinite host, mistakes."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from elastic_cases import SW, engine, silicon
from phonon_cases import A0, CARBON, CARBON_EMBEDDED, VACANCY_EMBEDDED, model_of, run
from scipy import linalg

from solidqmmm.errors import RegionError, SolidQMMMError, StructureError, StudyError
from solidqmmm.physics.condensation import PartitionedCrystal
from solidqmmm.physics.vibrations.localized_modes import CM1_PER_THZ, frequencies_THz
from solidqmmm.procedures.elastic.symmetry_of import defect_operations
from solidqmmm.procedures.vibrations.bulk_lattice import BulkLattice
from solidqmmm.procedures.vibrations.bulk_phonons import bulk_phonons
from solidqmmm.procedures.vibrations.defect_modes import core_atoms, crystal_at_rest
from solidqmmm.procedures.vibrations.hybrid_hessian import hybrid_hessian
from solidqmmm.procedures.vibrations.infinite_host import infinite_modes
from solidqmmm.procedures.vibrations.isotopes import Isotopes
from solidqmmm.results.base import Result

C12, C13 = {"isotopes": {"C": 12}}, {"isotopes": {"C": 13}}
# Silicon that is called carbon: nothing changes but the mass.
MASS_DEFECT = CARBON | {
    "structure": silicon(5.43095),
    "host": {"pair_style": "sw", "pair_coeff": ["* * Si.sw Si Si"], "species": ["Si", "C"]},
}
BOND_CENTRE = {"kind": "interstitial", "element": "C", "position": [0.125, 0.125, 0.125]}
SW_VACANCY = {"structure": silicon(5.43095), "host": SW, "defect": {"kind": "vacancy", "site": 0}}


def wavenumbers(result) -> np.ndarray:
    return np.array([mode["frequency_cm-1"] for mode in result.modes])


# --- the local mode of carbon in Tersoff silicon ------------------------------------------------------------------------

# Carbon at rest in n^3 cells of the host's lattice, Hessian with steps of 0.001 A, Lanczos on the whole matrix, 1/cm.
LOCAL_MODE = {3: 746.881, 4: 749.229, 6: 750.310, 8: 750.559}


@pytest.mark.parametrize(
    "n", [3, 4, pytest.param(6, marks=pytest.mark.slow), pytest.param(8, marks=pytest.mark.slow)]
)
def test_local_mode_of_carbon(n):
    result = run(supercell=[n] * 3, phonons=C12)
    np.testing.assert_allclose(wavenumbers(result), LOCAL_MODE[n], atol=0.05)
    assert [(mode["kind"], mode["irrep"], mode["degeneracy"]) for mode in result.modes] == [
        ("local", "T2", 3)
    ] * 3
    assert result.bulk_band_top_THz == pytest.approx(16.0677, abs=1e-3)
    assert result.n_force_evaluations_host < 300
    assert result.warnings == []


def test_isotope_shift():
    twelve, thirteen = (run(supercell=[4] * 3, phonons=phonons) for phonons in (C12, C13))
    shift = wavenumbers(twelve)[0] - wavenumbers(thirteen)[0]
    assert shift == pytest.approx(24.997, abs=0.06)  # of 1728 atoms
    ((label, from_natural),) = thirteen.isotope_shifts_per_cm.items()
    assert label == "C 12.011 -> 13.003 amu"
    assert from_natural == pytest.approx(
        -shift + twelve.isotope_shifts_per_cm["C 12.011 -> 12.000 amu"], abs=1e-6
    )


def test_every_core_gives_the_dynamic_frequencies_and_none_the_static_one():
    """A core of one atom: static condensation of a free crystal leaves no stiffness at all."""
    one = run(phonons=C12, region={"core": {"radius": 0.5}})
    five = run(phonons=C12)
    np.testing.assert_allclose(wavenumbers(one), wavenumbers(five), atol=1e-5)
    assert (one.n_core, five.n_core) == (1, 5)
    exact = one.ladder_THz["dynamic"][0]
    assert one.static_condensation_error_THz == pytest.approx(-exact, abs=1e-4)
    assert one.ladder_THz["guyan"][0] == pytest.approx(0, abs=1e-4)


@pytest.mark.slow
def test_what_condensation_costs():
    """1728 atoms, atoms within 2.5 A: errors of the environment clamped, static, Guyan's (1/cm)."""
    result = run(supercell=[6] * 3, phonons=C12 | {"method": "full"}, region={"core": {"radius": 2.5}})
    highest = {method: CM1_PER_THZ * frequencies[0] for method, frequencies in result.ladder_THz.items()}
    errors = [highest[method] - highest["full"] for method in ("clamped", "static", "guyan", "dynamic")]
    np.testing.assert_allclose(errors, [-1.078, -8.581, -61.231, 0], atol=0.01)


def test_methods_agree_with_the_whole_matrix():
    result = run(supercell=[3] * 3, phonons=C12 | {"method": "full"})
    with model_of() as model:
        rest = crystal_at_rest(model, fmax=1e-3, displacement=0.01)
        masses = Isotopes.read({"C": 12}).masses(model.crystal.numbers)
        crystal = PartitionedCrystal(rest.hessian.matrix, masses, core_atoms(model))
        nu = frequencies_THz(linalg.eigvalsh(crystal.weighted().toarray()))[::-1]
    np.testing.assert_allclose(
        [mode["frequency_THz"] for mode in result.modes], nu[: len(result.modes)], atol=1e-6
    )
    np.testing.assert_allclose(result.ladder_THz["dynamic"], nu[:3], atol=1e-7)
    assert [mode["kind"] for mode in result.modes] == ["local"] * 3 + ["band"] * (len(result.modes) - 3)
    assert np.abs(nu[-3:]).max() < 1e-3  # translations
    error = result.static_condensation_error_THz
    assert error == pytest.approx(result.ladder_THz["static"][0] - nu[0], abs=1e-6)


def test_static_modes_are_given_with_a_warning():
    result = run(phonons=C12 | {"method": "static"})
    assert wavenumbers(result)[0] == pytest.approx(CM1_PER_THZ * result.ladder_THz["static"][0])
    assert any("neglects the inertia" in text for text in result.warnings)


def test_formation_entropy_by_hand():
    """64 atoms, k [x / (e^x - 1) - ln(1 - e^-x)] summed over a dense spectrum of each crystal."""
    T = 300.0
    result = run(supercell=[2] * 3, phonons=C12 | {"temperatures": [T, 900.0]})

    def entropy(**changes):
        with model_of(supercell=[2] * 3, **changes) as model:
            rest = crystal_at_rest(model, fmax=1e-3, displacement=0.01)
            masses = np.where(model.crystal.numbers == 6, 12.0, 28.085)
            W = rest.hessian.matrix.toarray() / np.sqrt(np.outer(*[np.repeat(masses, 3)] * 2))
        nu = frequencies_THz(np.linalg.eigvalsh(W))[3:]
        x = 47.992430733 * nu / T  # h THz / k in K
        return np.sum(x / np.expm1(x) - np.log(-np.expm1(-x))), len(x)

    (with_defect, n), (without, m) = entropy(), entropy(defect=None)
    assert n == m == 189
    assert result.formation_entropy_k[0] == pytest.approx(with_defect - without, abs=2e-3)


# --- bulk ----------------------------------------------------------------------------------------------------------------


def test_bulk_bands_and_folded_frequencies():
    with model_of(supercell=[2] * 3, defect=None) as model:
        phonons = bulk_phonons(model, 6.0, masses={"Si": 28.085})
        rest = crystal_at_rest(model, fmax=1e-3, displacement=0.01)
    crystal = PartitionedCrystal(rest.hessian.matrix, np.full(64, 28.085), [0])
    nu = frequencies_THz(np.linalg.eigvalsh(crystal.weighted().toarray()))
    reciprocal = np.linalg.inv(np.rint(rest.cell @ np.linalg.inv(phonons.primitive.cell))).T
    whole_waves = {tuple(np.round(np.array(n) @ reciprocal % 1, 6) % 1) for n in np.ndindex(8, 8, 8)}
    assert len(whole_waves) == 32
    phonons.phonopy.run_qpoints(sorted(whole_waves))
    folded = np.sort(np.ravel(phonons.phonopy.qpoints.frequencies))
    np.testing.assert_allclose(folded[3:], nu[3:], atol=2e-4)
    phonons.phonopy.run_qpoints([[0, 0, 0]])
    np.testing.assert_allclose(phonons.phonopy.qpoints.frequencies[0][3:], 16.0677, atol=1e-3)
    grid = np.linspace(0, 20, 2001)
    assert np.trapezoid(phonons.dos_per_THz(grid, width_THz=0.1), grid) == pytest.approx(3, rel=5e-3)


# --- the hybrid crystal --------------------------------------------------------------------------------------------------


def test_the_same_potential_on_both_sides_equals_the_host_alone():
    """With caps at the host's bond length the correction is nothing, whatever its evaluations."""
    hybrid = run(phonons=C12, **(CARBON_EMBEDDED | {"caps": {"kind": "Si", "length": A0 * np.sqrt(3) / 4}}))
    alone = run(phonons=C12)
    np.testing.assert_allclose(wavenumbers(hybrid), wavenumbers(alone), atol=2e-3)
    assert hybrid.hessian_asymmetry_eV_per_A2 < 1e-9
    assert 0 < hybrid.n_force_evaluations_qm < 2 * 3 * 17  # of 17 quantum atoms without symmetry
    assert hybrid.ladder_THz["static"][0] == pytest.approx(alone.ladder_THz["static"][0], abs=1e-4)


def test_a_hybrid_crystal_in_an_infinite_host():
    """A Tersoff region around carbon in Tersoff silicon whose caps are too short: what they change is in dK."""
    result = run(phonons=C12 | {"host": "infinite"}, **CARBON_EMBEDDED)
    finite = np.array(result.ladder_THz["dynamic"])
    np.testing.assert_allclose(result.ladder_THz["infinite"], finite, atol=3e-4)
    assert abs(CM1_PER_THZ * finite[0] - LOCAL_MODE[3]) > 1


def columns(qmmm, dofs, h):
    """-dF/dx of the total forces by direct differences, shape=(3n, len(dofs))."""
    start, found = qmmm.host.positions(), []
    for dof in dofs:
        sides = []
        for sign in (1, -1):
            moved = start.copy()
            moved[dof // 3, dof % 3] += sign * h
            qmmm.host.set_positions(moved)
            sides.append(qmmm.forces().ravel())
        found.append((sides[1] - sides[0]) / (2 * h))
    qmmm.host.set_positions(start)
    return np.array(found).T


@pytest.mark.parametrize("h", [1e-3])
def test_hybrid_hessian_is_the_derivative_of_the_total_forces(h):
    """Tersoff around a vacancy of a Stillinger-Weber crystal, off every symmetric point, core, buffer and host alike."""
    with model_of(**VACANCY_EMBEDDED) as model, model.open() as qmmm:
        start = qmmm.host.positions()
        qmmm.host.set_positions(start + np.random.default_rng(0).normal(scale=0.02, size=start.shape))
        found = hybrid_hessian(qmmm, displacement=h)
        core, outer = model.partition.core[0], qmmm.coupling.atoms[-1]
        far = np.setdiff1d(np.arange(len(start)), qmmm.coupling.atoms)[0]
        dofs = np.array([3 * core, 3 * core + 2, 3 * outer + 1, 3 * far])
        direct = columns(qmmm, dofs, h)
        np.testing.assert_allclose(qmmm.host.positions().shape, start.shape)
    K = found.matrix.toarray()
    np.testing.assert_allclose(K[:, dofs], direct, atol=2e-4)
    np.testing.assert_allclose(K, K.T, atol=1e-12)
    np.testing.assert_allclose(K.reshape(len(K), -1, 3).sum(axis=1), 0, atol=1e-10)
    assert found.asymmetry < 1e-3
    assert found.n_qm_calls == 6 * len(qmmm.coupling.atoms)


def test_symmetry_saves_evaluations_and_changes_nothing():
    with model_of(**VACANCY_EMBEDDED) as model, model.open() as qmmm:
        positions, cell = qmmm.host.positions(), qmmm.host.cell()
        rotations, permutations = defect_operations(model, positions, cell)
        whole = hybrid_hessian(qmmm, displacement=1e-3)
        reduced = hybrid_hessian(qmmm, displacement=1e-3, rotations=rotations, permutations=permutations)
    assert len(rotations) == 24
    assert reduced.n_qm_calls < whole.n_qm_calls / 8
    np.testing.assert_allclose(reduced.matrix.toarray(), whole.matrix.toarray(), atol=2e-5)


def test_force_mixing_has_no_symmetric_hessian_and_says_by_how_much():
    """Quantum rows on the core, classical ones elsewhere: the direct derivative, its symmetric part, its asymmetry."""
    mixing = VACANCY_EMBEDDED | {"coupling": {"scheme": "force_mixing", "net_force": "none"}}
    with model_of(**mixing) as model, model.open() as qmmm:
        found = hybrid_hessian(qmmm, displacement=1e-3)
        atoms = qmmm.coupling.atoms
        dofs = (3 * atoms[:, None] + np.arange(3)).ravel()
        direct = columns(qmmm, dofs, 1e-3)[dofs]
    K = found.matrix.tocsr()[dofs][:, dofs].toarray()
    own = np.repeat(np.eye(len(atoms), dtype=bool), 3, axis=0).repeat(3, axis=1)  # the sum rule's
    np.testing.assert_allclose(K[~own], ((direct + direct.T) / 2)[~own], atol=0.05)
    assert found.asymmetry > 0.5
    assert found.asymmetry >= np.abs(direct - direct.T).max() - 1e-3
    assert np.abs(K - K.T).max() < 1e-12


# --- a host without end --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mass", "wavenumber"),
    [(5.0, 1026.292), (10.0129, 761.854), (12.0, 710.528), (16.0, 643.198), (20.0, 604.691)],
)
def test_mass_defect_in_an_infinite_host(mass, wavenumber):
    """Stillinger-Weber silicon, values by the bulk's Green's function; no cell size enters, for the crystal is perfect."""
    result = run(phonons={"host": "infinite", "isotopes": {"C": mass, "Si": 28.0855}}, **MASS_DEFECT)
    np.testing.assert_allclose(wavenumbers(result), [wavenumber] * 3, atol=0.005)
    assert result.method == "infinite"
    assert [mode["irrep"] for mode in result.modes] == ["T2"] * 3
    assert {mode["participation_ratio"] for mode in result.modes} == {None}
    assert 1 < result.modes[0]["participating_atoms"] < 20
    np.testing.assert_allclose(result.ladder_THz["infinite"], [wavenumber / CM1_PER_THZ] * 3, atol=2e-4)
    # the light atom's finite crystal is not far, the nearer the higher the mode
    assert abs(result.ladder_THz["dynamic"][0] - result.ladder_THz["infinite"][0]) < 0.01


@pytest.mark.parametrize("n", [3, 4, pytest.param(6, marks=pytest.mark.slow)])
def test_carbon_in_an_infinite_host(n):
    """All that is left of the cell's size is the relaxation: with the same dK the finite host is converged already."""
    result = run(supercell=[n] * 3, phonons=C12 | {"host": "infinite"})
    np.testing.assert_allclose(wavenumbers(result), LOCAL_MODE[n], atol=0.01)
    finite = np.array(result.ladder_THz["dynamic"])
    np.testing.assert_allclose(result.ladder_THz["infinite"], finite, atol=2e-4)
    assert result.modes[0]["core_weight"] == pytest.approx(0.996, abs=1e-3)


@pytest.mark.parametrize(
    ("defect", "host"),
    [
        ({"kind": "vacancy", "site": 0}, {}),
        ({"kind": "interstitial", "element": "C", "position": [0.5, 0.5, 0.5]}, {}),
    ],
    ids=["vacancy", "interstitial"],
)
@pytest.mark.slow
def test_infinite_host_around_other_defects(defect, host):
    """Their modes lie close above the band: finite hosts come nearer to the infinite one as they grow."""
    found = [run(supercell=[n] * 3, phonons={"host": "infinite"}, defect=defect, **host) for n in (3, 4)]
    off = [abs(r.ladder_THz["dynamic"][0] - r.ladder_THz["infinite"][0]) for r in found]
    assert len(found[0].modes) >= 3
    assert off[1] < 1e-3
    assert off[0] < 0.01
    assert found[1].modes[0]["frequency_THz"] > found[1].bulk_band_top_THz


def test_motion_and_weights_in_an_infinite_host_are_those_of_a_large_one():
    with model_of(supercell=[4] * 3) as model:
        rest = crystal_at_rest(model, fmax=1e-3, displacement=0.01)
        masses = Isotopes({"C": 12.0}).masses(model.crystal.numbers)
        phonons = bulk_phonons(model, rest.hessian.host.force_range, masses={"Si": 28.085, "C": 12.0})
        core = np.arange(len(model.crystal))[:200]
        endless = infinite_modes(model, rest, phonons, core, masses, most_sites=100)
        crystal = PartitionedCrystal(rest.hessian.matrix, masses, core)
        finite = crystal.weighted()
        _, e = linalg.eigh(finite.toarray(), subset_by_index=[3 * len(masses) - 3, 3 * len(masses) - 1])
    assert endless.n_sites < 100
    # as a space: the triplet may be turned within itself
    u = e.T.reshape(3, -1, 3) / np.sqrt(masses)[None, :, None]
    density = np.einsum("kia,kib->iab", u, u)[core]
    other = np.einsum("kia,kib->iab", endless.displacements, endless.displacements)[core]
    np.testing.assert_allclose(other, density, atol=2e-5)
    assert endless.core_weights.sum() == pytest.approx(np.einsum("iaa,i->", density, masses[core]), abs=1e-3)


def test_perfect_lattice_from_phonopy_is_the_supercell():
    with model_of(supercell=[3] * 3, defect=None) as model:
        rest = crystal_at_rest(model, fmax=1e-3, displacement=0.01)
        lattice = BulkLattice(bulk_phonons(model, 6.0, masses={"Si": 28.085}))
        near = np.argsort(np.linalg.norm(model.crystal.positions - 8.0, axis=1))[:17]
        sites = lattice.sites(model.crystal.positions[near], model.crystal.numbers[near])
    dofs = (3 * near[:, None] + np.arange(3)).ravel()
    K = rest.hessian.matrix.tocsr()[dofs][:, dofs].toarray().reshape(17, 3, 17, 3).transpose(0, 2, 1, 3)
    np.testing.assert_allclose(lattice.between(sites), K, atol=5e-5)
    with pytest.raises(SolidQMMMError, match="no repetition"):
        lattice.sites(model.crystal.positions[near] * 1.2, model.crystal.numbers[near])


# --- soft modes ----------------------------------------------------------------------------------------------------------


def test_soft_modes_are_negative_and_warned_of():
    """Carbon on the centre of a bond of silicon stays there by symmetry, on a saddle point."""
    result = run(defect=BOND_CENTRE, phonons={"temperatures": [300.0]})
    nu = np.array([mode["frequency_THz"] for mode in result.modes])
    assert np.all(np.diff(nu) <= 1e-9)
    assert np.sum(nu < 0) >= 1
    assert any(f"{np.sum(nu < 0)} imaginary frequencies" in text for text in result.warnings)
    assert result.formation_entropy_k is None
    assert "imaginary" in result.formation_entropy_missing_reason
    with model_of(defect=BOND_CENTRE) as model:
        rest = crystal_at_rest(model, fmax=1e-3, displacement=0.01)
        crystal = PartitionedCrystal(
            rest.hessian.matrix, Isotopes().masses(model.crystal.numbers), core_atoms(model)
        )
        lowest = frequencies_THz(np.linalg.eigvalsh(crystal.weighted().toarray()))
    soft = np.sort(nu[nu < 0])
    np.testing.assert_allclose(soft, lowest[: len(soft)], atol=1e-6)
    assert lowest[len(soft)] > -0.1
    assert {mode["kind"] for mode in result.modes[-len(soft) :]} == {"local"}
    # rattled, it relaxes to where atoms lie in the taper of the potential's cutoff, whose second derivative jumps
    rattled = run(defect=BOND_CENTRE, phonons={"rattle": 0.05})
    assert any("not smooth" in text for text in rattled.warnings)
    assert rattled.hessian_asymmetry_eV_per_A2 > 1


def test_an_unstable_environment_names_its_atoms():
    """The same saddle point, condensed onto atoms far from it."""
    with pytest.raises(SolidQMMMError, match="216") as problem:
        run(defect=BOND_CENTRE, phonons={}, region={"core": {"radius": 2.5}, "centre": [2.0, 2.0, 2.0]})
    assert "positive definite" in str(problem.value) or "unstable" in str(problem.value)


# --- files ---------------------------------------------------------------------------------------------------------------


def test_animation_of_the_modes(tmp_path):
    result = run(workdir=tmp_path, phonons=C12)
    frames = ase.io.read(tmp_path / "modes.extxyz", index=":")
    assert len(frames) == 3 * 20
    assert [frame.info["mode"] for frame in frames[::20]] == [1, 2, 3]
    assert frames[0].info["frequency_cm-1"] == pytest.approx(wavenumbers(result)[0], abs=1e-3)
    assert frames[0].info["irrep"] == "T2"
    rest, there, back = frames[0], frames[5], frames[15]
    pattern = rest.arrays["displacement"]
    np.testing.assert_allclose((there.positions + back.positions) / 2, rest.positions, atol=1e-6)
    np.testing.assert_allclose(there.positions - rest.positions, 0.4 * pattern, atol=1e-6)
    carbon = list(rest.symbols).index("C")
    assert np.linalg.norm(pattern[carbon]) == pytest.approx(1, abs=1e-6)
    u = result.mode_displacements[0]
    np.testing.assert_allclose(pattern[result.core], u / np.linalg.norm(u, axis=1).max(), atol=1e-6)


@pytest.mark.slow
def test_only_the_surroundings_of_a_defect_in_a_large_crystal_are_animated(tmp_path):
    run(workdir=tmp_path, supercell=[5] * 3, phonons=C12 | {"host": "infinite"})
    frame = ase.io.read(tmp_path / "modes.extxyz", index=0)
    assert 40 < len(frame) < 100
    assert not frame.pbc.any()
    assert "C" in frame.symbols


def test_a_result_from_a_run_folder(tmp_path, call):
    bulk("Si", a=A0, cubic=True).write(tmp_path / "POSCAR")
    (tmp_path / "study.yaml").write_text(
        "recipe: defect_phonons\nstructure: {file: POSCAR, lattice: host}\nsupercell: [3, 3, 3]\n"
        "host: {pair_style: tersoff, pair_coeff: ['* * SiC.tersoff Si C'], species: [Si, C]}\n"
        "defect: {kind: substitution, site: 0, element: C}\nphonons: {isotopes: {C: 12}, host: infinite}\n"
    )
    code, out, err = call("run", tmp_path / "study.yaml", "--out", tmp_path / "out")
    assert code == 0, err
    assert "746.88" in out
    result = Result.load(tmp_path / "out")
    np.testing.assert_allclose(wavenumbers(result), LOCAL_MODE[3], atol=0.01)
    assert {file.stem for file in (tmp_path / "out" / "figures").glob("*.png")} == {
        "frequency_ladder",
        "local_dos",
        "mode",
    }
    assert (tmp_path / "out" / "modes.extxyz").exists()
    assert "maradudin1971lattice" in (tmp_path / "out" / "provenance.json").read_text()


# --- mistakes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phonons", "message"),
    [
        ({"method": "exact"}, "expected 'static', 'guyan', 'dynamic' or 'full', got 'exact'"),
        ({"host": "large"}, "expected 'finite' or 'infinite'"),
        ({"displacement": 0.0}, "above 0.0"),
        ({"isotopes": {"C": 99}}, "C-99 is not in the table; known are"),
        ({"isotopes": {"Xx": 1}}, "expected chemical symbols, got 'Xx'"),
        ({"isotopes": {"C": 50.0}}, "no isotope of it"),
        ({"temperatures": [-3.0]}, "above 0.0"),
        ({"fmax": -1}, "above 0.0"),
        ({"rattle": -0.1}, "0.0"),
        ({"methods": "full"}, "method"),
    ],
)
def test_mistakes_in_the_section(phonons, message):
    with pytest.raises(StudyError) as problem:
        run(phonons=phonons)
    assert any(message in text for text in problem.value.problems), problem.value.problems


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"phonons": {"relax": False}}, StructureError, r"not at rest: the largest force is 11\.\d eV/A"),
        ({"phonons": {"displacement": 0.3}}, ValueError, "more than a tenth of the shortest bond"),
        ({"defect": None}, ValueError, "need a `defect`, or a `region`"),
        ({"region": {"core": {"radius": 9.0}}}, RegionError, "meets its own periodic image"),
        (
            {"supercell": [2] * 3, "region": {"core": {"hops": 4}}},
            RegionError,
            "bonded to its own periodic image",
        ),
        ({"supercell": [2] * 3, "phonons": {"host": "infinite"}}, RegionError, "wider than 12.00 A"),
        (
            {"defect": None, "region": {"core": {"radius": 3.0}}, "phonons": {"host": "infinite"}},
            ValueError,
            "a perfect crystal has no modes outside",
        ),
        ({"host": None, "defect": None, "qm": engine(SW)}, StudyError, "needs a host potential beside it"),
        (
            CARBON_EMBEDDED | {"supercell": [2] * 3, "region": {"core": {"hops": 2}, "buffer": {"hops": 2}}},
            RegionError,
            "own periodic image|its periodic image",
        ),
    ],
)
def test_impossible_studies(changes, kind, message):
    with pytest.raises((kind, StudyError)) as problem:
        run(**({"phonons": {}} | changes))
    assert isinstance(problem.value, kind)
    problem.match(message)


def test_phonopy_reads_the_crystal_back(tmp_path):
    import phonopy

    from solidqmmm.procedures.vibrations.phonopy_file import LARGEST, write_phonopy

    with model_of(supercell=[2, 2, 2]) as model:
        rest = crystal_at_rest(model, fmax=1e-4, displacement=0.01)
        masses = Isotopes({"C": 13.00335}).masses(model.crystal.numbers)
        path = tmp_path / "phonopy_params.yaml"
        assert write_phonopy(path, model.crystal.numbers, masses, rest.positions, rest.cell, rest.hessian.matrix)
        loaded = phonopy.load(path, log_level=0)
        loaded.run_qpoints([[0, 0, 0]])
        scale = 1 / np.sqrt(np.repeat(masses, 3))
        squared = np.linalg.eigvalsh(rest.hessian.matrix.toarray() * np.outer(scale, scale))
    np.testing.assert_allclose(loaded.qpoints.frequencies[0][3:], frequencies_THz(squared)[3:], atol=1e-4)
    assert not write_phonopy(path, np.ones(LARGEST + 1), None, None, None, None)
