"""PySCF among external charges: derivatives, averages over Gaussians, far limits, and dipoles by the outer loop."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.units import Bohr
from cases import rattled
from field_cases import Dipoles

from solidqmmm.engines.classical_field import ClassicalFieldEngine
from solidqmmm.engines.factory import make_engine
from solidqmmm.engines.outer_loop import OuterLoop, with_induced
from solidqmmm.engines.protocols import FieldEngine, Induced
from solidqmmm.errors import ConvergenceError, EngineError
from solidqmmm.physics.electrostatics.ewald import COULOMB
from solidqmmm.system.point_charges import PointCharges, RepulsiveCores

pytest.importorskip("pyscf")
from solidqmmm.engines.pyscf import PySCFEngine

WATER = rattled(molecule("H2O"), 0.03)
SITES = np.array([[3.0, 0.0, 0.3], [0.0, 2.5, 1.0], [0.0, 0.4, -3.0]])
CHARGES = PointCharges(SITES, [0.8, -0.6, 0.3], [0.0, 0.5, 0.8])
STEP = 2e-3


def engine(**settings):
    return PySCFEngine(**{"basis": "6-31g", "grid_level": 1, **settings})


@pytest.fixture(scope="module")
def warm():
    """An engine that gives field gradients, and its answer for water among the charges."""
    with engine(field_gradients=True) as water:
        yield water, water.evaluate_in_field(WATER, CHARGES)


def slope(energy, step):
    """-dE/ds along `step` by central differences of `energy(displacement)`."""
    return (energy(-step) - energy(step)) / 2


@pytest.mark.parametrize("settings", [{}, {"charge": 1}, {"density_fit": False}], ids=["neutral", "cation", "exact"])
def test_forces_on_atoms_and_charges_are_derivatives(settings):
    with engine(**settings) as water:
        found = water.evaluate_in_field(WATER, CHARGES)
        rng = np.random.default_rng(1)
        for forces, at in (
            (found.forces, lambda d: (Atoms(WATER.symbols, WATER.positions + d), CHARGES)),
            (found.charge_forces, lambda d: (WATER, CHARGES.with_positions(SITES + d))),
        ):
            step = rng.normal(size=(3, 3))
            step *= STEP / np.linalg.norm(step)
            numerical = slope(lambda d, at=at: water.evaluate_in_field(*at(d)).energy, step)
            assert numerical / STEP == pytest.approx(float((forces * step).sum()) / STEP, abs=1e-5)
    total = found.forces.sum(axis=0) + found.charge_forces.sum(axis=0)
    np.testing.assert_allclose(total, 0, atol=1e-8)


def test_energy_holds_the_interaction_and_nothing_among_the_charges(warm):
    """dE/dq_i is the potential at i: PySCF's own interaction and the integrals at sites are of one kind."""
    water, found = warm
    for i in range(3):
        ends = []
        for sign in (1, -1):
            q = CHARGES.charges.copy()
            q[i] += sign * 1e-3
            ends.append(water.evaluate_in_field(WATER, PointCharges(SITES, q, CHARGES.widths)).energy)
        assert (ends[0] - ends[1]) / 2e-3 == pytest.approx(found.potentials[i], abs=1e-5)
    nothing = PointCharges(SITES, np.zeros(3), CHARGES.widths)
    assert water.evaluate_in_field(WATER, nothing).energy == pytest.approx(water.evaluate(WATER).energy, abs=1e-7)


def test_fields_and_their_gradients_are_derivatives_of_the_potential(warm):
    """At sites without charge, which may be moved without moving the electrons."""
    water, found = warm
    h = 1e-3
    moved = np.vstack([SITES, *(SITES + s * h * e for e in np.eye(3) for s in (1, -1))])
    widths = np.tile(CHARGES.widths, 7)
    probes = PointCharges(moved, np.concatenate([CHARGES.charges, np.zeros(18)]), widths)
    there = water.evaluate_in_field(WATER, probes)
    np.testing.assert_allclose(there.potentials[:3], found.potentials, atol=1e-5)
    for b in range(3):
        plus, minus = slice(3 + 6 * b, 6 + 6 * b), slice(6 + 6 * b, 9 + 6 * b)
        np.testing.assert_allclose(
            -(there.potentials[plus] - there.potentials[minus]) / (2 * h), found.fields[:, b], atol=1e-5
        )
        np.testing.assert_allclose(
            (there.fields[plus] - there.fields[minus]) / (2 * h), found.field_gradients[:, :, b], atol=1e-5
        )


def test_a_width_is_the_standard_deviation(warm):
    """The potential at a Gaussian site is the average of those at points, by quadrature over the Gaussian."""
    water, _ = warm
    centre, width = np.array([0.3, 2.9, 0.9]), 0.4
    x, w = np.polynomial.hermite_e.hermegauss(7)
    mesh = centre + width * np.stack(np.meshgrid(x, x, x, indexing="ij"), -1).reshape(-1, 3)
    weights = np.einsum("i,j,k->ijk", w, w, w).ravel() / w.sum() ** 3
    probes = PointCharges(np.vstack([centre, mesh]), np.zeros(344), np.append(width, np.zeros(343)))
    found = water.evaluate_in_field(WATER, probes).potentials
    assert found[0] == pytest.approx(weights @ found[1:], abs=2e-5)
    assert abs(found[0] - found[1:][np.argmin(np.linalg.norm(mesh - centre, axis=1))]) > 2e-4  # not the point


def test_electrons_near_a_site():
    """Helium's 1s density integrated by PySCF's own grid, and all of it in a large sphere."""
    from pyscf import dft

    from solidqmmm.engines.pyscf_sites import electrons_within

    helium = engine()
    mol = helium._molecule(Atoms("He"))
    mf, _ = helium._converged(mol, PointCharges.none())
    P = mf.make_rdm1()
    rho = dft.numint.get_rho(mf._numint, mol, P, mf.grids)
    inside = np.linalg.norm(mf.grids.coords, axis=1) * Bohr < 1.0
    expected = (rho * mf.grids.weights)[inside].sum()
    assert 1.5 < expected < 1.99
    assert electrons_within(mol, P, np.zeros((1, 3)), 1.0)[0] == pytest.approx(expected, abs=0.04)  # its grid cuts roughly
    assert electrons_within(mol, P, np.zeros((1, 3)), 3.0)[0] == pytest.approx(2.0, abs=0.02)
    assert electrons_within(mol, P, [[0, 0, 9.0]], 1.0)[0] == 0.0


def test_far_away_a_molecule_is_its_dipole():
    """The classical stand-in with charges that have water's dipole: potentials, and forces of a far charge."""
    atoms = molecule("H2O")
    middle = atoms.positions.mean(axis=0)
    axes = np.array([[0.0, 0.0, 1.0], [0.0, 0.6, 0.8], [0.6, 0.0, 0.8]])
    R = 25.0
    probes = PointCharges(middle + R * np.vstack([axes, -axes]), np.zeros(6))

    def odd(found):
        """What the dipole gives; quadrupoles are even."""
        return (found.potentials[:3] - found.potentials[3:]) / 2

    with engine() as water:
        seen = odd(water.evaluate_in_field(atoms, probes))
        unit = odd(ClassicalFieldEngine(charges={"O": -2.0, "H": 1.0}).evaluate_in_field(atoms, probes))
        q = seen[0] / unit[0]
        assert 0.2 < q < 0.6
        np.testing.assert_allclose(seen, q * unit, rtol=5e-3)
        pull = PointCharges(middle + np.array([[0.0, 0.0, R]]), [1.0])
        classical = ClassicalFieldEngine(charges={"O": -2 * q, "H": q}).evaluate_in_field(atoms, pull)
        quantum = water.evaluate_in_field(atoms, pull)
        np.testing.assert_allclose(quantum.charge_forces, classical.charge_forces, rtol=0.05, atol=1e-6)
        own = water.evaluate(atoms)
        np.testing.assert_allclose(
            (quantum.forces - own.forces).sum(axis=0), -quantum.charge_forces[0], atol=1e-7
        )


# --- an answering environment ---------------------------------------------------------------------------------


def test_outer_loop_finds_the_minimum_over_the_dipole():
    """W(mu) = E[mu] + k mu^2/2 alpha of one polarizable site, straight from the engine, is least at the loop's dipole."""
    site = PointCharges([[0.2, 3.0, 0.4]], [0.0], 0.3)
    with engine(tolerance=1e-9) as water:
        loop = OuterLoop(water)
        found = loop.evaluate_in_field(WATER, site, response=Dipoles(site))
        mu = found.induced.dipoles

        def W(dipoles):
            q = found.induced.charges  # held: its own energy and interaction are a constant of the comparison
            given, _ = with_induced(site, Induced(q, dipoles, 0.0))
            own = COULOMB * float((dipoles**2).sum()) / (2 * Dipoles.alpha)
            return water.evaluate_in_field(WATER, given).energy + own + float(q @ q) / (2 * Dipoles.softness)

        assert found.energy == pytest.approx(W(mu), abs=1e-6)
        for axis in np.eye(3)[1:]:
            plus, minus = W(mu + 0.01 * axis), W(mu - 0.01 * axis)
            assert plus > found.energy
            assert (plus - minus) / 0.02 == pytest.approx(0.0, abs=2e-4)


def test_outer_loop_far_away_is_the_closed_formula():
    """-alpha E^2/2k in the field of the molecule as it is; what comes back at 8 angstrom is 1e-4 of it."""

    class Polarizable(Dipoles):
        softness = 0.0

    site = PointCharges([[0.2, 0.5, 8.0]], [0.0])
    with engine(tolerance=1e-10) as water:
        alone = water.evaluate_in_field(WATER, site)
        found = OuterLoop(water, energy_tolerance=1e-9).evaluate_in_field(WATER, site, response=Polarizable(site))
    closed = -0.5 * Dipoles.alpha * float((alone.fields**2).sum()) / COULOMB
    assert found.energy - alone.energy == pytest.approx(closed, rel=2e-3)


def test_forces_among_answering_charges_are_derivatives():
    with engine(tolerance=1e-9) as water:
        loop = OuterLoop(water)

        def at(x, sites):
            held = Dipoles(CHARGES)  # the permanent field of the sites at each other belongs to the environment
            return loop.evaluate_in_field(Atoms(WATER.symbols, x), CHARGES.with_positions(sites), response=held)

        found, rng = at(WATER.positions, SITES), np.random.default_rng(2)
        for forces, move in (
            (found.forces, lambda d: at(WATER.positions + d, SITES)),
            (found.charge_forces, lambda d: at(WATER.positions, SITES + d)),
        ):
            step = rng.normal(size=(3, 3))
            step *= STEP / np.linalg.norm(step)
            numerical = slope(lambda d, move=move: move(d).energy, step)
            assert numerical / STEP == pytest.approx(float((forces * step).sum()) / STEP, abs=1e-4)


# --- words ----------------------------------------------------------------------------------------------------


def test_settings_of_a_study(tmp_path):
    with make_engine({"engine": "pyscf", "basis": "sto-3g", "charge": -2.0}, log_dir=tmp_path) as oxide:
        assert isinstance(oxide, FieldEngine)
        found = oxide.evaluate(Atoms("O"))
        assert found.info["n_electrons"] == 10
        assert "converged SCF energy" in (tmp_path / "pyscf.txt").read_text()
    assert "perdew1996pbe" in oxide.describe()["references"]


def test_triplet_oxygen_is_below_the_singlet():
    atoms = Atoms("O2", positions=[[0, 0, 0], [0, 0, 1.21]])
    energies = [engine(basis="sto-3g", spin=spin).evaluate(atoms).energy for spin in (0, 2)]
    assert energies[1] < energies[0] - 0.3


def test_what_it_cannot_do_it_says():
    water = engine()
    periodic = WATER.copy()
    periodic.set_cell([8, 8, 8])
    periodic.pbc = True
    with pytest.raises(ValueError, match="pbc must be all False"):
        water.evaluate(periodic)
    with pytest.raises(ValueError, match="no stress"):
        water.evaluate(WATER, stress=True)
    with pytest.raises(ValueError, match=r"0\.5 angstrom away"):
        water.evaluate_in_field(WATER, PointCharges(WATER.positions[:1] + 0.1, [1.0]))
    with pytest.raises(ValueError, match="OuterLoop"):
        water.evaluate_in_field(WATER, CHARGES, response=Dipoles(CHARGES))
    with pytest.raises(ValueError, match="no repulsive cores"):
        water.evaluate_in_field(WATER, CHARGES, cores=RepulsiveCores([[0, 0, 3]], 10.0, 0.5))
    with pytest.raises(ValueError, match="whole number"):
        engine(charge=0.5)
    with pytest.raises(ValueError, match="does not know the functional 'PBEE'"):
        engine(xc="PBEE")
    with pytest.raises(ValueError, match="10 electrons, of which 1 cannot"):
        engine(spin=1).evaluate(WATER)
    with pytest.raises(EngineError, match="PySCF says of H2O"):
        engine(basis="no-such-basis").evaluate(WATER)
    fractional = WATER.copy()
    fractional.set_array("cap_charge", np.array([np.nan, 1.0, 0.75]))
    with pytest.raises(ValueError, match="fractional"):
        water.evaluate(fractional)


def test_ladder_ends_with_what_was_tried():
    with pytest.raises(ConvergenceError, match="did not converge") as caught:
        engine(maxiter=1).evaluate(WATER)
    assert len(caught.value.attempts) >= 3
