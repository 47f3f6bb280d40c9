"""The host's sparse Hessian: against LAMMPS's dynamical_matrix, phonopy, plain differences and known frequencies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import units
from ase.build import bulk

from solidqmmm.engines.displaced_forces import force_cutoff, is_long_range
from solidqmmm.engines.lammps_host import LammpsHost
from solidqmmm.errors import EngineError
from solidqmmm.physics.geometry import distances_to_point
from solidqmmm.procedures.vibrations.host_hessian import host_hessian
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.potential import Potential

SW = Potential("sw", "* * Si.sw Si", "Si")
TERSOFF = Potential("tersoff", "* * SiC.tersoff Si C", ("Si", "C"))
EAM = Potential("eam/alloy", "* * Cu_mishin1.eam.alloy Cu", "Cu")
LJ = Potential("lj/cut 5.0", "1 1 1.0 2.2", "Si", units="real")
A0 = {"Si": 5.431, "Cu": 3.615}
H = 1e-4  # LAMMPS moves along its own axes and knows no sum rule: the difference is of order h^2
CM = units._hplanck * units._c * 100 / units._e  # eV in 1/cm


def silicon(*repeats):
    return Crystal.of(bulk("Si", a=A0["Si"], cubic=True)).supercell(repeats)


def rattled(crystal, amplitude=0.05):
    shift = amplitude * np.random.default_rng(2).normal(size=crystal.positions.shape)
    return crystal.with_positions(crystal.positions + shift)


def skewed(element, matrix):
    return Crystal.of(bulk(element, a=A0[element])).supercell(matrix)


def slab():
    atoms = bulk("Si", a=A0["Si"], cubic=True) * (2, 2, 2)
    atoms.center(vacuum=5.0, axis=2)
    atoms.pbc = (True, True, False)
    return Crystal.of(atoms)


def copper(*repeats):
    return Crystal.of(bulk("Cu", a=A0["Cu"], cubic=True)).supercell(repeats)


def frequencies(matrix, masses):
    """In cm-1, ascending, imaginary ones negative."""
    scale = np.repeat(np.asarray(masses) ** -0.5, 3)
    squares = np.linalg.eigvalsh(scale[:, None] * matrix.toarray() * scale)
    return np.sign(squares) * np.sqrt(np.abs(squares)) * units._hbar * 1e10 / np.sqrt(units._amu * units._e) / CM


def dynamical_matrix(host, folder):
    """LAMMPS's own K in eV/angstrom^2, in the crystal's frame, made symmetric."""
    host.command(f"dynamical_matrix all eskm {H} file {folder / 'dynmat'}")
    host.forget()
    n = len(host)
    # 10 J/(mol angstrom^2) and amu; LAMMPS's eV is 9648.5 of them.
    K = np.loadtxt(folder / "dynmat").reshape(3 * n, 3 * n) / 9648.5
    of_type = host.session.lmp.numpy.extract_atom("mass").ravel()  # files of EAM bring their own
    masses = [of_type[host.potential.type_of(symbol)] for symbol in host.crystal.symbols]
    if host.potential.units == "real":
        K *= 9648.5 / 418.4 * 0.0433641153  # kcal/mol
    root = np.sqrt(np.repeat(masses, 3))
    Q = np.kron(np.eye(n), host.session.rotation)
    K = Q @ (root[:, None] * K * root) @ Q.T
    return 0.5 * (K + K.T)


CASES = {
    "Stillinger-Weber": (SW, lambda: silicon(2, 2, 2), 2),
    "Stillinger-Weber, triclinic": (SW, lambda: skewed("Si", [[3, 0, 0], [1, 3, 0], [-1, 1, 3]]), 2),
    "Stillinger-Weber, left-handed": (SW, lambda: skewed("Si", [[0, 3, 0], [3, 0, 0], [0, 1, 3]]), 2),
    "Stillinger-Weber, vacancy": (SW, lambda: silicon(3, 2, 2).without(7), 2),
    "Stillinger-Weber, free surfaces": (SW, slab, 2),
    "Tersoff, carbon in silicon": (TERSOFF, lambda: silicon(2, 2, 2).substituted(11, "C"), 2),
    "Tersoff, triclinic, vacancy": (TERSOFF, lambda: skewed("Si", [[4, 1, 0], [0, 3, 1], [0, 0, 3]]).without(0), 2),
    "EAM, vacancy": (EAM, lambda: copper(3, 3, 3).without(3), 2),
    "EAM, triclinic, atoms beside their images": (EAM, lambda: skewed("Cu", [[2, 1, 0], [0, 2, 0], [0, 0, 3]]), 1),
    "pair potential, units real": (LJ, lambda: silicon(3, 2, 2), 1),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_dynamical_matrix(case, tmp_path):
    potential, make, hops = CASES[case]
    with LammpsHost(rattled(make()), potential) as host:
        found = host_hessian(host, displacement=H)
        expected = dynamical_matrix(host, tmp_path)
    assert np.abs(expected).max() > (0.1 if potential is LJ else 5)
    np.testing.assert_allclose(found.matrix.toarray(), expected, atol=1e-6, rtol=0)
    assert found.hops == hops
    assert found.leak == 0


def test_columns_equal_plain_differences_where_many_atoms_move_together():
    crystal = rattled(silicon(6, 6, 6).without(100), 0.02)
    beside = int(np.argmin(np.linalg.norm(crystal.positions - silicon(6, 6, 6).positions[100], axis=1)))
    with LammpsHost(crystal, SW) as host:
        found = host_hessian(host, displacement=H)
        assert found.n_colours < len(crystal) / 10
        for atom in (0, beside, 1200):
            for axis in range(3):
                forces = []
                for sign in (1, -1):
                    moved = crystal.positions.copy()
                    moved[atom, axis] += sign * H
                    host.set_positions(moved)
                    forces.append(host.forces())
                column = -(forces[0] - forces[1]) / (2 * H)
                np.testing.assert_allclose(found.matrix[:, [3 * atom + axis]].toarray().reshape(-1, 3), column, atol=1e-6)
    distance = distances_to_point(crystal.positions, crystal.positions[1200], crystal.cell, crystal.pbc)
    reached = distance[np.abs(found.matrix[:, [3600]].toarray()).reshape(-1, 3).max(axis=1) > 0]
    assert 3.8 < reached.max() < found.force_range == pytest.approx(2 * 3.77118, rel=1e-4)


def test_the_number_of_evaluations_does_not_grow():
    counts = set()
    for crystal in (silicon(5, 5, 5), silicon(8, 8, 8), silicon(10, 5, 25), silicon(11, 6, 7).without(50)):
        with LammpsHost(crystal, SW) as host:
            found = host_hessian(host)
        counts.add(found.n_force_evaluations)
        assert found.n_force_evaluations == 1 + 2 * 3 + 6 * found.n_colours
    assert counts == {1 + 6 + 6 * 34}


def test_translations_are_zero_modes_of_a_symmetric_matrix():
    with LammpsHost(rattled(silicon(5, 4, 4).substituted(9, "C"), 0.02), TERSOFF) as host:
        found = host_hessian(host, displacement=0.01)
        largest = host.max_force()
    K = found.matrix
    assert abs(K - K.T).max() < 1e-13
    assert np.abs(K @ np.tile(np.eye(3), (len(host), 1))).max() < 1e-10
    # What was there before: of order h^2.
    assert 1e-6 < found.sum_rule_error < 1e-2
    assert 1e-6 < found.asymmetry < 1e-2
    assert found.largest_force == pytest.approx(largest, rel=1e-12)


def test_errors_fall_with_the_square_of_the_displacement():
    crystal = rattled(silicon(3, 3, 3))
    with LammpsHost(crystal, TERSOFF) as host:
        coarse, fine, exact = (host_hessian(host, displacement=h).matrix for h in (0.02, 0.01, 0.0005))
    assert abs(coarse - exact).max() / abs(fine - exact).max() == pytest.approx(4, rel=0.1)


def test_force_constants_and_frequencies_are_those_of_phonopy():
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    cell = bulk("Si", a=5.43095)
    unit = PhonopyAtoms(cell.symbols, cell=cell.cell, scaled_positions=cell.get_scaled_positions())
    phonons = Phonopy(unit, 3 * np.eye(3))
    phonons.generate_displacements(distance=1e-3, is_plusminus=True)
    supercell = phonons.supercell
    crystal = Crystal(supercell.numbers, supercell.positions, supercell.cell)
    with LammpsHost(crystal, SW) as host:
        found = host_hessian(host, displacement=1e-3)
        forces = []
        for displaced in phonons.supercells_with_displacements:
            host.set_positions(displaced.positions)
            forces.append(host.forces())
    phonons.forces = np.array(forces)
    phonons.produce_force_constants(calculate_full_force_constants=True)
    n = len(crystal)
    expected = phonons.force_constants.transpose(0, 2, 1, 3).reshape(3 * n, 3 * n)
    np.testing.assert_allclose(found.matrix.toarray(), expected, atol=2e-5)
    phonons.run_mesh([3, 3, 3], is_mesh_symmetry=False, is_gamma_center=True)
    THz = np.sort(phonons.mesh.frequencies.ravel())
    mine = frequencies(found.matrix, supercell.masses) * units._c * 1e-10
    np.testing.assert_allclose(mine[3:], THz[3:], atol=1e-4)
    assert np.abs(mine[:3]).max() < 1e-3


def test_two_atoms_among_their_images_vibrate_at_the_top_of_the_band():
    # Stillinger-Weber silicon by phonopy: the top of the band is 594.796 1/cm with the mass 28.0855, given to 0.05.
    with LammpsHost(Crystal.of(bulk("Si", a=5.43095)), SW) as host:
        found = host_hessian(host)
    np.testing.assert_allclose(frequencies(found.matrix, [28.0855] * 2)[3:], 594.796, atol=0.05)


def test_local_mode_of_carbon_in_silicon():
    # Independent value, 216 sites of Tersoff silicon at a = 5.4321148: triplet at 746.881 1/cm.
    crystal = Crystal.of(bulk("Si", a=5.4321148, cubic=True)).supercell([3, 3, 3]).substituted(0, "C")
    with LammpsHost(crystal, TERSOFF) as host:
        host.minimize(fmax=1e-6)
        found = host_hessian(host)
    assert found.largest_force < 1e-5
    masses = np.where(crystal.numbers == 6, 12.0, 28.085)
    modes = frequencies(found.matrix, masses)
    np.testing.assert_allclose(modes[-3:], 746.881, atol=0.05)
    assert modes[0] > -0.01


# --- the host --------------------------------------------------------------------------------------------------------


def test_the_host_stays_where_it_was():
    crystal = rattled(silicon(3, 3, 3))
    with LammpsHost(crystal, SW) as host:
        energy, forces = host.energy(), host.forces()
        first = host_hessian(host).matrix
        np.testing.assert_allclose(host.positions(), crystal.positions, atol=1e-13)
        assert host.energy() == pytest.approx(energy, abs=1e-10)
        np.testing.assert_allclose(host.forces(), forces, atol=1e-12)
        again = host_hessian(host).matrix
        np.testing.assert_allclose(again.data, first.data, atol=1e-9)
        host.minimize(fmax=1e-3)
        assert host.max_force() < 1e-3


@pytest.mark.parametrize(
    ("potential", "cutoff"),
    [(SW, 3.77118), (TERSOFF, 3.0), (EAM, 5.50679), (LJ, 5.0)],
)
def test_cutoffs(potential, cutoff):
    assert force_cutoff(potential) == pytest.approx(cutoff, rel=2e-5)
    assert not is_long_range(potential)


class Idle:
    atoms, reference = np.array([0]), np.zeros((1, 3))
    has_energy, needs_host_forces = True, False

    def evaluate(self, positions, cell, host_forces=None):
        raise AssertionError("nobody asked")


def test_hosts_that_are_not_bare():
    crystal = silicon(2, 2, 2)
    with LammpsHost(crystal, SW, frozen=[3]) as host, pytest.raises(ValueError, match="1 frozen atoms"):
        host_hessian(host)
    with LammpsHost(crystal, SW) as host:
        host.attach(Idle(), "idle")
        with pytest.raises(ValueError, match=r"corrections attached \(idle\)"):
            host_hessian(host)
        host.detach("idle")
        host.command("fix motion all nve")
        with pytest.raises(ValueError, match=r"fixes \(motion\)"):
            host_hessian(host)
        host.command("unfix motion")
        assert host_hessian(host).n_colours > 0


def test_wrong_displacements_and_hops():
    with LammpsHost(silicon(2, 2, 2), SW) as host:
        with pytest.raises(ValueError, match=r"tenth of the shortest bond, 0.235"):
            host_hessian(host, displacement=0.3)
        with pytest.raises(ValueError, match="must be positive"):
            host_hessian(host, displacement=0.0)
        with pytest.raises(ValueError, match="at least 1"):
            host_hessian(host, hops=0)
    with LammpsHost(silicon(5, 5, 5), SW) as host:
        with pytest.raises(EngineError, match="give `hops` of 2"):
            host_hessian(host, hops=1)
        assert host_hessian(host, hops=2).n_force_evaluations == 1 + 6 * 34


def test_long_range_potentials_are_refused():
    ions = Potential(
        "hybrid/overlay coul/long 7.0 lj/cut 7.0",
        ("* * coul/long", "* * lj/cut 0.01 2.8"),
        ("Na", "Cl"),
        atom_style="charge",
        charges=(1.0, -1.0),
        commands=("kspace_style ewald 1e-6",),
    )
    salt = Crystal.of(bulk("NaCl", "rocksalt", a=5.64, cubic=True))
    with LammpsHost(salt, ions) as host, pytest.raises(ValueError, match="long-ranged"):
        host_hessian(host)


def test_forces_that_reach_too_far_are_refused(monkeypatch):
    monkeypatch.setattr("solidqmmm.procedures.vibrations.host_hessian.force_cutoff", lambda potential: 1.0)
    with LammpsHost(silicon(2, 2, 2), SW) as host, pytest.raises(ValueError, match="no finite range"):
        host_hessian(host)


def test_a_cutoff_that_is_too_short_is_made_up_for_by_hops(monkeypatch):
    with LammpsHost(rattled(silicon(3, 3, 3), 0.01), LJ) as host:
        expected = host_hessian(host)
        monkeypatch.setattr("solidqmmm.procedures.vibrations.host_hessian.force_cutoff", lambda potential: 2.6)
        found = host_hessian(host)
    assert (expected.hops, found.hops) == (1, 3)
    assert abs(found.matrix - expected.matrix).max() < 1e-8


# --- interruptions ---------------------------------------------------------------------------------------------------


class Interruption(Exception):
    pass


def stop_at(evaluation):
    def progress(done, of, message):
        assert done <= of
        if done >= evaluation:
            raise Interruption(message)

    return progress


def test_an_interrupted_run_goes_on(tmp_path):
    crystal = rattled(silicon(5, 5, 5), 0.01)
    with LammpsHost(crystal, SW) as host:
        whole = host_hessian(host)
        with pytest.raises(Interruption, match=r"^5 of"):
            host_hessian(host, folder=tmp_path, progress=stop_at(7 + 30))
        np.testing.assert_allclose(host.positions(), crystal.positions, atol=1e-13)
        (tmp_path / "group_00001.npz").write_bytes(b"half a file")
    with LammpsHost(crystal.with_positions(crystal.positions + 1e-10), SW) as host:
        resumed = host_hessian(host, folder=tmp_path)
        assert resumed.n_read == 6 + 4 * 6
        assert resumed.n_force_evaluations == whole.n_force_evaluations
        assert abs(resumed.matrix - whole.matrix).max() < 1e-7
        again = host_hessian(host, folder=tmp_path)
    assert again.n_read == again.n_force_evaluations - 1
    assert abs(again.matrix - resumed.matrix).max() == 0
    assert again.leak == 0
    assert not list(tmp_path.glob(".*"))


def test_nothing_is_read_of_another_crystal_potential_or_step(tmp_path):
    crystal = silicon(2, 2, 2)
    with LammpsHost(crystal, SW) as host:
        host_hessian(host, folder=tmp_path)
        assert host_hessian(host, folder=tmp_path, displacement=0.002).n_read == 0
        host.set_positions(rattled(crystal, 1e-3).positions)
        assert host_hessian(host, folder=tmp_path, displacement=0.002).n_read == 0
        other = host_hessian(host, folder=tmp_path, displacement=0.002)
        assert other.n_read == other.n_force_evaluations - 1
    with LammpsHost(crystal, TERSOFF) as host:
        found = host_hessian(host, folder=tmp_path)
        assert found.n_read == 0
        assert abs(found.matrix - host_hessian(host).matrix).max() < 1e-9


# --- parallel ------------------------------------------------------------------------------------------------------------


def test_two_ranks_equal_one(tmp_path, on_ranks):
    script = Path(__file__).with_name("mpi_host_hessian.py")
    serial = on_ranks(script, tmp_path / "one")
    parallel = on_ranks(script, tmp_path / "two", ranks=2)
    assert (serial.pop("ranks"), parallel.pop("ranks")) == (1, 2)
    for key, value in serial.items():
        np.testing.assert_allclose(parallel[key], value, atol=1e-9, err_msg=key)
