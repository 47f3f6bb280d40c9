"""Matching of the two descriptions: the rescaled engine has the host's lattice and bulk modulus, in any crystal."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.units import GPa
from scipy.spatial.transform import Rotation

from solidqmmm.engines.closing import Closing
from solidqmmm.engines.lammps import LammpsEngine
from solidqmmm.engines.protocols import Evaluation
from solidqmmm.errors import ConvergenceError, StructureError
from solidqmmm.physics.elastic.equation_of_state import (
    energy_scale,
    fit_energy_surface,
    strain_gradient,
    stretch_of,
)
from solidqmmm.physics.symmetry.crystal_symmetry import invariant_elastic_tensors, strains_that_suffice
from solidqmmm.procedures.match import match_lattices, matched_from_values
from solidqmmm.procedures.perfect_crystal import PerfectCrystal
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.potential import Potential

SW = Potential("sw", ("* * Si.sw Si",), ("Si",))
T3 = Potential("tersoff", ("* * SiC.tersoff Si",), ("Si",))
SNAP = Potential("snap", ("* * Si_Zuo_JPCA2020.snapcoeff Si_Zuo_JPCA2020.snapparam Si",), ("Si",))
GAN_SW = Potential("sw", ("* * GaN.sw Ga N",), ("Ga", "N"))
GAN_TERSOFF = Potential("tersoff", ("* * GaN.tersoff Ga N",), ("Ga", "N"))

SILICON = Crystal.of(bulk("Si", cubic=True))
ZIRCONIUM = Crystal.of(bulk("Zr"))  # hcp; the two potentials differ by 1.4 % in c/a
ZR_A = Potential("eam/fs", ("* * CuZr_mm.eam.fs Zr",), ("Zr",))
ZR_B = Potential("eam/fs", ("* * Zr_mm.eam.fs Zr",), ("Zr",))
WURTZITE = Crystal.of(bulk("GaN", "wurtzite", a=3.19, c=5.30))


class EnergiesOnly(Closing):
    """An engine like GPAW in LCAO mode: no stress; `noise` is the roughness of its energies in eV."""

    provides_stress = False

    def __init__(self, engine, noise=0.0):
        self.engine, self.noise, self.calls = engine, noise, 0
        self.name = engine.name
        self.random = np.random.default_rng(3)

    def evaluate(self, atoms, *, stress=False):
        assert not stress
        self.calls += 1
        answer = self.engine.evaluate(atoms)
        return Evaluation(answer.energy + self.noise * self.random.normal(), answer.forces)

    def describe(self):
        return self.engine.describe()

    def close(self):
        self.engine.close()


def matched(unit, host, engine, **options):
    """The result, with both potentials as engines."""
    with LammpsEngine(host) as classical:
        if isinstance(engine, Potential):
            engine = LammpsEngine(engine)
        with engine:
            return match_lattices(unit, classical, engine, **options)


def stress_of(potential, unit, cell, stretch=None, scale=1.0):
    """Stress in eV/angstrom^3, ions relaxed, of the rescaled model in the host's `cell`: beta det(A) A sigma A^-1."""
    from ase.calculators.calculator import Calculator
    from ase.optimize import BFGS

    A = np.eye(3) if stretch is None else stretch
    with LammpsEngine(potential) as engine:

        class Calculation(Calculator):
            implemented_properties = ("energy", "forces")

            def calculate(self, atoms=None, properties=None, system_changes=None):
                answer = engine.evaluate(atoms)
                self.results = {"energy": answer.energy, "forces": answer.forces}

        atoms = unit.to_atoms()
        atoms.set_cell(cell @ A, scale_atoms=True)
        atoms.calc = Calculation()
        BFGS(atoms, logfile=None).run(fmax=1e-6, steps=200)
        stress = engine.evaluate(atoms, stress=True).stress
    return scale * np.linalg.det(A) * A @ stress @ np.linalg.inv(A)


# --- formulas ------------------------------------------------------------------------------------------------------


def test_energy_scale_makes_the_bulk_moduli_equal():
    def energy(V):  # third-order Birch-Murnaghan, V0 = 20, B = 0.6, B' = 4.4
        f = ((20 / V) ** (2 / 3) - 1) / 2
        return 4.5 * 0.6 * 20 * f**2 * (1 + (4.4 - 4) * f)

    A = np.diag([1.01, 1.02, 0.99])
    beta = energy_scale(0.7, 0.6, A)
    V, step = 20 / np.linalg.det(A), 1e-3
    around = [beta * energy(v * np.linalg.det(A)) for v in (V - step, V, V + step)]
    assert V * (around[0] - 2 * around[1] + around[2]) / step**2 == pytest.approx(0.7, rel=1e-6)


def test_birch_murnaghan_is_a_cubic_of_the_eulerian_strain():
    basis, q = np.eye(3)[None], np.linspace(-0.02, 0.02, 7)
    volumes = np.array([20 * np.linalg.det(stretch_of([x], basis)) for x in q])
    np.testing.assert_allclose(((20 / volumes) ** (2 / 3) - 1) / 2, q, atol=1e-14)


def test_strain_gradient_is_the_derivative_of_the_energy():
    crystal = PerfectCrystal.of(WURTZITE)
    q, step = np.array([0.01, -0.02]), 1e-5
    with LammpsEngine(GAN_TERSOFF) as engine:

        def at(q, **options):
            atoms = crystal.atoms.copy()
            atoms.set_cell(atoms.cell.array @ stretch_of(q, crystal.strains), scale_atoms=True)
            return engine.evaluate(atoms, **options), atoms.get_volume()

        answer, volume = at(q, stress=True)
        gradient = strain_gradient(answer.stress, volume, stretch_of(q, crystal.strains), crystal.strains)
        for a, axis in enumerate(np.eye(2)):
            numerical = (at(q + step * axis)[0].energy - at(q - step * axis)[0].energy) / (2 * step)
            assert gradient[a] == pytest.approx(numerical, rel=1e-6)


def test_fit_recovers_a_cubic_from_energies_or_gradients():
    def energy(y):
        return 1 + 2 * (y[0] - 0.2) ** 2 + (y[1] + 0.1) ** 2 + 0.3 * (y[0] - 0.2) ** 2 * (y[1] + 0.1)

    def gradient(y):
        x, z = y[0] - 0.2, y[1] + 0.1
        return [4 * x + 0.6 * x * z, 2 * z + 0.3 * x**2]

    points = np.array([(a, b) for a in (-1, -0.5, 0, 0.5, 1) for b in (-1, -0.5, 0, 0.5, 1)])
    energies = [energy(y) for y in points]
    for gradients in (None, [gradient(y) for y in points]):
        surface = fit_energy_surface(points, energies, gradients)
        np.testing.assert_allclose(surface.minimum(), [0.2, -0.1], atol=1e-9)
        assert surface.value([0.2, -0.1]) == pytest.approx(1.0, abs=1e-9)
        assert surface.rms < 1e-9


@pytest.mark.parametrize(
    ("crystal", "n_strains", "n_displacements", "n_constants"),
    [
        (bulk("Si", cubic=True), 1, 0, 3),
        (bulk("GaN", "wurtzite", a=3.19, c=5.30), 2, 1, 5),
        (bulk("Ti"), 2, 0, 5),
        (bulk("Sn", "bct", a=5.83, c=3.18), 2, 0, 6),
    ],
    ids=["diamond", "wurtzite", "hcp", "tetragonal"],
)
def test_symmetry_leaves_free_what_it_should(crystal, n_strains, n_displacements, n_constants):
    crystal = PerfectCrystal.of(Crystal.of(crystal))
    tensors = invariant_elastic_tensors(crystal.rotations)
    assert len(crystal.strains) == n_strains
    assert len(crystal.displacements) == n_displacements
    assert len(tensors) == n_constants
    # energies fix one number per strain
    assert len(strains_that_suffice(tensors, from_stress=False)) == n_constants


# --- matching ------------------------------------------------------------------------------------------------------


def test_the_same_model_on_both_sides_is_the_identity():
    result = matched(SILICON, SW, SW)
    np.testing.assert_allclose(result.stretch, np.eye(3), atol=1e-6)
    assert result.energy_scale == pytest.approx(1.0, abs=1e-6)
    assert result.warnings == []


def test_known_lattices_moduli_and_energies():
    # LAMMPS through ASE's LAMMPSlib with matscipy.fit_elastic_constants, cell relaxed to 1e-6 eV/A
    result = matched(SILICON, SW, T3, elastic=True)
    assert result.lattice_host_A[0, 0] == pytest.approx(5.43095, rel=1e-5)
    assert result.lattice_engine_A[0, 0] == pytest.approx(5.43211, rel=1e-5)
    assert result.bulk_modulus_host_GPa == pytest.approx(101.423, rel=1e-3)
    assert result.energy_per_atom_host_eV == pytest.approx(-4.33660, abs=1e-5)
    assert result.energy_per_atom_engine_eV == pytest.approx(-4.62887, abs=1e-5)
    for tensor, constants in (
        (result.elastic_tensor_host_GPa, (151.4244, 76.4221, 56.4493)),
        (result.elastic_tensor_engine_GPa, (142.5124, 75.3641, 69.0129)),
    ):
        assert (tensor[0, 0], tensor[0, 1], tensor[3, 3]) == pytest.approx(constants, abs=0.05)
    assert len(result.warnings) == 1  # C44 alone is more than 10 % off
    assert result.warnings[0].startswith("C44: host 56.45 GPa, engine 69.01 GPa, +22.3 %")


def test_rescaled_snap_has_the_lattice_and_bulk_modulus_of_the_host():
    result = matched(SILICON, SW, SNAP)
    A, cell, step = result.stretch, result.lattice_host_A, 1e-3
    assert abs(A[0, 0] - 1) > 1e-3
    pressures = [
        -np.trace(stress_of(SNAP, SILICON, cell * s, A, result.energy_scale)) / 3 / GPa
        for s in (1 - step, 1, 1 + step)
    ]
    assert abs(pressures[1]) < 1e-4 * 3 * 101  # 0.01 % of the lattice parameter
    modulus = -(pressures[2] - pressures[0]) / (6 * step)
    assert modulus == pytest.approx(101.423, rel=2e-3)


@pytest.mark.parametrize("turned", [False, True], ids=["standard", "turned"])
def test_hexagonal_crystal_has_an_anisotropic_stretch(turned):
    R = Rotation.from_euler("xyz", [0.3, -0.5, 1.1]).as_matrix() if turned else np.eye(3)
    unit = ZIRCONIUM.strained(R)
    result = matched(unit, ZR_A, ZR_B)
    A = result.stretch
    np.testing.assert_allclose(A, A.T, atol=1e-12)
    along_a, along_c = (direction @ R.T @ A @ R @ direction for direction in np.eye(3)[[0, 2]])
    assert along_c / along_a == pytest.approx(1.5978 / 1.6196, abs=2e-4)
    np.testing.assert_allclose(result.lattice_host_A @ A, result.lattice_engine_A, atol=1e-9)
    # in the host's cell the rescaled engine has no stress
    stress = stress_of(ZR_B, unit, result.lattice_host_A, A, result.energy_scale)
    assert np.abs(stress / GPa).max() < 6e-4 * result.bulk_modulus_host_GPa  # 0.02 % in length


def test_bulk_modulus_is_the_one_of_the_elastic_tensor():
    result = matched(WURTZITE, GAN_SW, GAN_TERSOFF, elastic=True, fmax=1e-5)
    for tensor, modulus in (
        (result.elastic_tensor_host_GPa, result.bulk_modulus_host_GPa),
        (result.elastic_tensor_engine_GPa, result.bulk_modulus_engine_GPa),
    ):
        assert 1 / np.linalg.inv(tensor)[:3, :3].sum() == pytest.approx(modulus, rel=2e-3)  # Reuss
        assert tensor[5, 5] == pytest.approx((tensor[0, 0] - tensor[0, 1]) / 2, rel=1e-9)


@pytest.mark.parametrize(
    ("unit", "host", "engine"),
    [(SILICON, SW, T3), (WURTZITE, GAN_SW, GAN_TERSOFF)],
    ids=["cubic", "hexagonal"],
)
def test_energies_alone_give_what_stresses_give(unit, host, engine):
    with_stress = matched(unit, host, engine, elastic=True, fmax=1e-5)
    without = matched(unit, host, EnergiesOnly(LammpsEngine(engine)), elastic=True, fmax=1e-5)
    np.testing.assert_allclose(without.lattice_engine_A, with_stress.lattice_engine_A, atol=5e-4)
    assert without.bulk_modulus_engine_GPa == pytest.approx(with_stress.bulk_modulus_engine_GPa, rel=5e-3)
    np.testing.assert_allclose(
        without.elastic_tensor_engine_GPa, with_stress.elastic_tensor_engine_GPa, atol=0.01 * 150
    )


@pytest.mark.parametrize("repeats", [(1, 1, 1), (2, 2, 2)])
def test_every_cell_costs_what_the_primitive_one_costs(repeats):
    engine = EnergiesOnly(LammpsEngine(T3))
    unit = SILICON.supercell(repeats)
    done = []
    result = matched(unit, SW, engine, progress=lambda *report: done.append(report))
    assert engine.calls <= 8
    assert len(done) == engine.calls + 5
    assert all(count <= total for count, total, _ in done)
    assert result.lattice_engine_A[0, 0] == pytest.approx(repeats[0] * 5.43211, rel=1e-4)


def test_a_start_far_from_the_minimum_only_costs_more():
    unit = SILICON.strained(1.06 * np.eye(3))
    for engine in (T3, EnergiesOnly(LammpsEngine(T3))):
        result = matched(unit, SW, engine)
        assert result.lattice_host_A[0, 0] == pytest.approx(5.43095, rel=1e-4)
        assert result.lattice_engine_A[0, 0] == pytest.approx(5.43211, rel=1e-4)
        assert result.warnings == []


def test_coordinates_rounded_by_a_file_are_no_lower_symmetry():
    unit = SILICON.with_positions(SILICON.positions + 3e-5 * np.random.default_rng(0).normal(size=(8, 3)))
    engine = EnergiesOnly(LammpsEngine(T3))
    result = matched(unit, SW, engine)
    assert engine.calls <= 8
    np.testing.assert_allclose(result.stretch, result.stretch[0, 0] * np.eye(3), atol=1e-9)


def test_known_values_instead_of_the_engine():
    auto = matched(SILICON, SW, T3)
    with LammpsEngine(SW) as host:
        for unit in (SILICON, Crystal.of(bulk("Si"))):  # conventional and primitive
            given = matched_from_values(
                unit, host, float(auto.lattice_engine_A[0, 0]), auto.bulk_modulus_engine_GPa
            )
            np.testing.assert_allclose(given.stretch, auto.stretch, atol=1e-9)
            assert given.energy_scale == pytest.approx(auto.energy_scale, rel=1e-9)
        assert given.energy_per_atom_engine_eV is None
        assert type(given).from_dict(given.as_dict()).energy_scale == given.energy_scale


# --- what goes wrong -----------------------------------------------------------------------------------------------


def test_rough_energies_are_warned_of():
    result = matched(SILICON, SW, EnergiesOnly(LammpsEngine(T3), noise=2e-3))
    assert any("not smooth" in text and "standard error" in text for text in result.warnings)


def test_unequal_bulk_moduli_are_warned_of():
    with LammpsEngine(SW) as host:
        result = matched_from_values(SILICON, host, 5.47, 70.0)
        quiet = matched_from_values(SILICON, host, 5.47, 70.0, warn_above_percent=50.0)
    assert [text[:2] for text in result.warnings] == ["B:"]
    assert "70 GPa" in result.warnings[0]
    assert quiet.warnings == []


def test_a_crystal_that_is_not_bound_is_an_error():
    repulsive = Potential("zbl 4.0 5.0", ("1 1 14 14",), ("Si",))
    with pytest.raises(ConvergenceError, match=r"engine \(lammps zbl\): no minimum"):
        matched(SILICON, SW, repulsive)


def test_wrong_arguments():
    with (
        LammpsEngine(GAN_SW) as host,
        pytest.raises(ValueError, match=r"cubic crystal only, .* space group 186"),
    ):
        matched_from_values(WURTZITE, host, 5.43, 98.0)
    with LammpsEngine(SW) as host:
        with pytest.raises(ValueError, match="`bulk_modulus_GPa` must be positive, got -1"):
            matched_from_values(SILICON, host, 5.43, -1.0)
        with pytest.raises(ValueError, match="`strain` must be positive"):
            match_lattices(SILICON, host, host, strain=0.0)
        slab = Crystal(SILICON.numbers, SILICON.positions, SILICON.cell, (True, True, False))
        with pytest.raises(StructureError, match="periodic in three directions"):
            match_lattices(slab, host, host)


# --- GPAW ----------------------------------------------------------------------------------------------------------


def test_gpaw_keeps_its_mesh_in_the_series():
    pytest.importorskip("gpaw")
    from solidqmmm.engines.gpaw import GPAWEngine
    from solidqmmm.engines.unit_cell_engine import for_unit_cell

    atoms = bulk("Si")
    with GPAWEngine(basis="sz(dzp)", h=0.25, charge=-1) as engine:
        fixed = for_unit_cell(engine, atoms)
        stretched = atoms.copy()
        stretched.set_cell(1.01 * atoms.cell.array, scale_atoms=True)
        meshes = {tuple(fixed.gpaw_keywords(cell)["kpts"]["size"]) for cell in (atoms, stretched)}
        assert meshes == {(8, 8, 8)}
        assert "size" not in engine.gpaw_keywords(atoms)["kpts"]
        assert fixed.gpaw_keywords(atoms)["charge"] == 0
        assert fixed.n_electrons(atoms) == 8
        assert engine.n_electrons(atoms) == 9
    with GPAWEngine(basis="sz(dzp)", h=0.25, fft_potential=False) as engine:
        keywords = for_unit_cell(engine, atoms).gpaw_keywords(atoms)
        assert keywords["gpts"] == (12, 12, 12)
        assert "h" not in keywords


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_gpaw_lcao_silicon():
    pytest.importorskip("gpaw")
    from solidqmmm.engines.gpaw import GPAWEngine

    with GPAWEngine(basis="dzp", h=0.25, kpt_density=2.5) as engine:
        result = matched(SILICON, SW, engine)
    # PBE: 5.469 A, 88.6 GPa (all electron); a dzp basis is good to 1 % and 5 %
    assert result.lattice_engine_A[0, 0] == pytest.approx(5.47, rel=0.01)
    assert result.bulk_modulus_engine_GPa == pytest.approx(88.0, rel=0.06)
    assert [text[:2] for text in result.warnings] == [
        "B:"
    ]  # 13 % below Stillinger-Weber, and a smooth series
