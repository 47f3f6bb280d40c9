"""Charges beside link atoms of an embedded cluster: who is moved, the gradient, and what is shown of the crystal."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
from ase.build import bulk
from ionic_hybrids import BOND_RULES, ISOLATED, PERIODIC, rattled, slope_and_work

from solidqmmm.coupling.additive import Additive
from solidqmmm.coupling.boundary_charges import BoundaryCharges
from solidqmmm.coupling.polarizable_surroundings import PolarizableSurroundings
from solidqmmm.coupling.qmmm import QMMM
from solidqmmm.engines.classical_field import ClassicalFieldEngine
from solidqmmm.physics.electrostatics.charge_redistribution import SCHEMES
from solidqmmm.physics.electrostatics.coulomb import coulomb_potential
from solidqmmm.procedures.building.select import grown_by_hops, partition_from
from solidqmmm.procedures.carve import carve
from solidqmmm.system.caps import CapRules
from solidqmmm.system.crystal import Crystal

CAPS = CapRules(kind="hydrogen", length=1.2)


def zinc_blende(periodic: bool) -> Crystal:
    """Four bonds on every ion, so that a cap stands for each that is cut."""
    atoms = bulk("MgO", "zincblende", a=4.6, cubic=True) * (2, 2, 2)
    if not periodic:
        atoms.pbc = False
        atoms.center(vacuum=20.0)
    return Crystal.of(atoms)


def case(periodic: bool):
    """Crystal, charges, partition and cluster of an oxygen ion and its four neighbours; twelve bonds are cut."""
    perfect = zinc_blende(periodic)
    middle = perfect.positions.mean(axis=0)
    oxygen = np.flatnonzero(perfect.numbers == 8)
    centre = int(oxygen[np.linalg.norm(perfect.positions[oxygen] - middle, axis=1).argmin()])
    core = grown_by_hops(perfect, [centre], 1, BOND_RULES)
    partition = partition_from(perfect, core, np.empty(0, dtype=int), centre=perfect.positions[centre])
    charges = np.where(perfect.numbers == 12, 2.0, -2.0)
    return perfect, charges, partition, carve(perfect, partition, CAPS, bond_rules=BOND_RULES)


@contextmanager
def hybrid(scheme, *, periodic=True, polarizable=False, balance=0.0):
    perfect, charges, partition, cluster = case(periodic)
    environment = None
    if polarizable:
        alpha = np.where(perfect.numbers == 12, 0.09, 1.0)
        alpha[partition.quantum] = 0.0
        environment = PolarizableSurroundings(alpha)
    coupling = Additive(
        cluster,
        ClassicalFieldEngine(charges={"Mg": 1.6, "O": -1.3, "H": 0.3}, polarizabilities={"O": 0.3}),
        perfect.positions,
        charges,
        embedding="polarizable" if polarizable else "electrostatic",
        charge=-np.delete(charges, partition.quantum).sum(),
        environment=environment,
        width=0.4,
        n_sites=200,
        boundary=None if scheme is None else BoundaryCharges.of(cluster, perfect, BOND_RULES, scheme, balance=balance),
    )
    with QMMM(rattled(perfect), PERIODIC if periodic else ISOLATED, coupling, partition=partition) as qmmm:
        yield qmmm


# Whatever is shown, dipoles answer the same electrons: the scheme of most parts stands for all where these are polarizable.
CASES = [(scheme, periodic, False) for scheme in SCHEMES for periodic in (True, False)] + [("shift", True, True)]


@pytest.mark.parametrize(("scheme", "periodic", "polarizable"), CASES)
def test_forces_are_the_gradient_of_the_energy(scheme, periodic, polarizable):
    with hybrid(scheme, periodic=periodic, polarizable=polarizable) as qmmm:
        slope, work, size = slope_and_work(qmmm, seed=5)
        assert slope == pytest.approx(work, abs=1e-5 * size)
        np.testing.assert_allclose(qmmm.forces().sum(axis=0), 0, atol=1e-5)


@pytest.mark.parametrize("scheme", ["none", "shift"])
def test_forces_are_the_gradient_of_the_energy_with_balanced_charges(scheme):
    with hybrid(scheme, periodic=False, balance=-6.0) as qmmm:
        slope, work, size = slope_and_work(qmmm, seed=6)
        assert slope == pytest.approx(work, abs=1e-5 * size)


@pytest.mark.parametrize("scheme", ["none", *SCHEMES])
def test_what_the_host_leaves_over_is_shared_by_cut_bonds(scheme):
    """Twelve cut bonds, twelve atoms Y: each is shown with a twelfth more, wherever its charge goes."""
    with hybrid(scheme, balance=-6.0) as qmmm:
        qmmm.energy()
        surroundings, report = qmmm.coupling.surroundings, qmmm.coupling.report()
    before = surroundings.charges[surroundings.explicit].sum()
    np.testing.assert_allclose(qmmm.coupling.boundary.shares, np.full(12, -0.5))
    assert report["boundary_balance_e"] == pytest.approx(-6.0)
    assert surroundings.shown.total == pytest.approx(before - 6.0 + (30.0 if scheme == "delete" else 0.0))
    assert report.get("boundary_charge_e") == (None if scheme == "none" else pytest.approx(-30.0))
    assert report.get("lost_charge_e", 0.0) == pytest.approx(-30.0 if scheme == "delete" else 0.0, abs=1e-9)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_books_of_charge(scheme):
    with hybrid(scheme) as qmmm:
        qmmm.energy()
        report = qmmm.coupling.report()
        assert report["boundary_charge_e"] == pytest.approx(12 * -2.0)
        assert report["lost_charge_e"] == pytest.approx(-24.0 if scheme == "delete" else 0.0, abs=1e-9)
        # The error of the crystal's potential is that of its sums, not what was moved on purpose.
        assert report["region_potential_rms_error_eV"] < 1e-3


@pytest.mark.parametrize("periodic", [True, False])
def test_only_the_bonded_images_lose_their_charge(periodic):
    """What electrons are shown with and without: -q at every Y, shares of q at the middles of its bonds, nothing else."""
    found = {}
    for scheme in (None, "rc"):
        with hybrid(scheme, periodic=periodic) as qmmm:
            qmmm.energy()
            cluster, coupling = qmmm.coupling.cluster, qmmm.coupling
            around = coupling.surroundings.at(coupling.reference, cluster.host_cell)
            probe = cluster.reference[: cluster.n_quantum] + 0.4
            given = around.permanent
            found[scheme] = coulomb_potential(probe, given.positions, given.charges, derivatives=0)[0]
    Y = np.unique(cluster.bonded_outer_positions(cluster.reference, cluster.host_cell).round(6), axis=0)
    assert len(Y) == 12
    every = around.explicit
    expected = np.zeros(len(probe))
    for y in Y:
        bonded = every[np.abs(np.linalg.norm(every - y, axis=1) - np.sqrt(3) / 4 * 4.6) < 1e-3]
        assert len(bonded) == 3 or (len(bonded) and not periodic)
        where = np.vstack([y, (y + bonded) / 2])
        q = -2.0 * np.append(-1.0, np.full(len(bonded), 1 / len(bonded)))
        expected += coulomb_potential(probe, where, q, derivatives=0)[0]
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found["rc"] - found[None], expected, atol=1e-6)


def test_dipole_is_kept_by_what_is_shown():
    """Charge and dipole of the explicit charges around the cluster, with and without."""
    moments = {}
    for scheme in (None, "rcd", "shift", "rc"):
        with hybrid(scheme, periodic=False) as qmmm:
            coupling = qmmm.coupling
            given = coupling.surroundings.at(coupling.reference, coupling.cluster.host_cell).permanent
            moments[scheme] = np.append(given.charges @ given.positions, given.total)
    for scheme in ("rcd", "shift"):
        np.testing.assert_allclose(moments[scheme], moments[None], atol=1e-8)
    assert moments["rc"][3] == pytest.approx(moments[None][3], abs=1e-10)


def test_what_it_refuses():
    perfect, charges, partition, cluster = case(True)
    with pytest.raises(ValueError, match="`scheme` must be one of"):
        BoundaryCharges.of(cluster, perfect, BOND_RULES, "all")
    bare = carve(perfect, partition, CapRules(kind="none"), bond_rules=BOND_RULES)
    with pytest.raises(ValueError, match="this cluster has none"):
        BoundaryCharges.of(bare, perfect, BOND_RULES, "rc")
    with pytest.raises(ValueError, match="no embedding 'mechanical'"):
        Additive(
            cluster, ClassicalFieldEngine(), perfect.positions, charges, embedding="mechanical", charge=0.0,
            boundary=BoundaryCharges.of(cluster, perfect, BOND_RULES, "rc"),
        )  # fmt: skip
