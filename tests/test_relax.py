"""Relaxation: forces that are true at the end, few quantum calls, honest outcomes."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk

from solidqmmm.coupling.surrogate import Surrogate
from solidqmmm.engines.protocols import Contribution
from solidqmmm.errors import SolidQMMMError
from solidqmmm.physics.algebra.quasi_newton import SecantHessian
from solidqmmm.procedures.build import build_model
from solidqmmm.procedures.building.neighbours import neighbour_shells
from solidqmmm.procedures.relax import rattled, relax
from solidqmmm.recipebook import schemas
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.study import Study

SNAP = {
    "engine": "lammps",
    "pair_style": "snap",
    "pair_coeff": "* * Si_Zuo_JPCA2020.snapcoeff Si_Zuo_JPCA2020.snapparam Si",
    "species": ["Si"],
}
TERSOFF = {"engine": "lammps", "pair_style": "tersoff", "pair_coeff": "* * Si.tersoff Si", "species": ["Si"]}


def vacancy(**changes):
    """The model of a silicon vacancy in 216 sites of Stillinger-Weber silicon."""
    mapping = {
        "recipe": "defect_relaxation",
        "structure": Crystal.of(bulk("Si", a=5.431, cubic=True)),
        "supercell": [3, 3, 3],
        "defect": {"kind": "vacancy", "site": 0},
        "host": {"pair_style": "sw", "pair_coeff": ["* * Si.sw Si"], "species": ["Si"]},
        "qm": TERSOFF,
        "region": {"core": {"hops": 1}, "buffer": {"hops": 2}},
        "caps": {"kind": "none"},
    } | changes
    return build_model(Study.from_mapping(mapping, schemas=schemas()))


def relaxed(model, seed=1, **options):
    """Relaxes a rattled vacancy; the outcome, and how often the engine was really called."""
    around = neighbour_shells(model.crystal, model.partition.centre, shells=1)
    with model.open() as qmmm:
        qmmm.host.set_positions(rattled(model.crystal, around, 0.05, seed))
        outcome = relax(qmmm, **{"fmax": 0.02, **options})
        return outcome, qmmm.coupling.quantum.evaluations


def true_force(model, crystal) -> float:
    """Largest force at given positions, by a hybrid crystal and engines that were never used before."""
    with build_model(model.study) as fresh, fresh.open() as qmmm:
        qmmm.host.set_positions(crystal.positions)
        return qmmm.largest_force()[0]


# --- micro-iterations ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", [[3, 3, 3], [[3, 0, 0], [0, 3, 0], [1, -1, 3]]], ids=["cubic", "skewed"])
@pytest.mark.parametrize("coupling", ["subtractive", "force_mixing"])
def test_forces_are_true_at_the_end(coupling, cell):
    with vacancy(coupling=coupling, supercell=cell, region={"core": {"hops": 2}, "buffer": {"hops": 1}}) as model:
        outcome, calls = relaxed(model, max_qm_calls=40)
        assert outcome.converged
        assert outcome.max_force <= 0.02
        assert true_force(model, outcome.crystal) == pytest.approx(outcome.max_force, abs=1e-6)
        assert np.linalg.norm(outcome.crystal.positions - model.crystal.positions, axis=1).max() > 0.05
        assert calls <= len(outcome.trace) + 1
        assert outcome.trace.max_force_eV_per_A[-1] == pytest.approx(outcome.max_force, abs=1e-6)


def test_quantum_calls_of_the_silicon_vacancy():
    """SNAP in Stillinger-Weber silicon, to 0.02 eV/angstrom, from four random starts."""
    calls = []
    with vacancy(qm=SNAP, region={"core": {"hops": 1}, "buffer": {"hops": 1}}) as model:
        for seed in range(1, 5):
            outcome, n = relaxed(model, seed)
            assert outcome.converged
            assert true_force(model, outcome.crystal) <= 0.02 + 1e-6
            assert n == len(outcome.trace)
            calls.append(n)
    assert max(calls) <= 15, calls


def test_the_energy_never_ends_above_the_start():
    with vacancy() as model:
        outcome, _ = relaxed(model)
        energy = outcome.trace.energy_eV
    assert energy[-1] == energy.min()
    assert energy[-1] < energy[0] - 0.1


def test_calls_depend_on_the_core_and_not_on_the_crystal():
    calls = []
    for repeats in (3, 6):
        with vacancy(supercell=[repeats] * 3) as model:
            outcome, n = relaxed(model, max_qm_calls=40)
            assert outcome.converged
            calls.append(n)
    assert calls[1] <= calls[0] + 5


# --- other algorithms ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "coupling"), [("fire", "subtractive"), ("cg", "subtractive"), ("fire", "force_mixing")]
)
def test_direct_minimizers(algorithm, coupling):
    with vacancy(coupling=coupling) as model:
        outcome, calls = relaxed(model, algorithm=algorithm, fmax=0.05, max_qm_calls=400)
        assert outcome.converged
        assert true_force(model, outcome.crystal) <= 0.05 + 1e-6
        assert calls > 5
        assert abs(len(outcome.trace) - calls) <= 1


def test_direct_minimizers_keep_to_the_number_of_calls():
    with vacancy() as model:
        for algorithm in ("fire", "cg"):
            outcome, calls = relaxed(model, algorithm=algorithm, fmax=1e-4, max_qm_calls=12)
            assert not outcome.converged
            # LAMMPS ends an iteration, with the few evaluations of its line search, before it looks at its limits
            assert calls <= 12 + 8


def test_cg_needs_an_energy():
    with vacancy(coupling="force_mixing") as model, pytest.raises(ValueError, match="'cg' needs an energy"):
        relaxed(model, algorithm="cg")


# --- outcomes --------------------------------------------------------------------------------------------------------


def test_not_converged_is_an_outcome_and_an_error_only_on_request():
    with vacancy() as model:
        outcome, calls = relaxed(model, max_qm_calls=2)
        assert not outcome.converged
        assert len(outcome.trace) == 2
        assert calls <= 3
        assert outcome.max_force > 0.02
        assert true_force(model, outcome.crystal) == pytest.approx(outcome.max_force, abs=1e-6)
        with pytest.raises(SolidQMMMError, match=r"did not converge: largest force .* after 2 quantum calls"):
            relaxed(model, max_qm_calls=2, strict=True)


def test_a_relaxed_crystal_needs_one_call():
    with vacancy() as model:
        outcome, _ = relaxed(model)
        with model.open() as qmmm:
            qmmm.host.set_positions(outcome.crystal.positions)
            again = relax(qmmm, fmax=0.02)
    assert again.converged
    assert len(again.trace) == 1
    np.testing.assert_allclose(again.crystal.positions, outcome.crystal.positions, atol=1e-9)


def test_the_host_alone():
    with vacancy(qm=None, region=None) as model, model.open() as qmmm:
        around = neighbour_shells(model.crystal, model.partition.centre, shells=1)
        qmmm.host.set_positions(rattled(model.crystal, around, 0.05, 1))
        outcome = relax(qmmm, fmax=0.001)
    assert outcome.converged
    assert outcome.max_force <= 0.001


def test_what_the_engine_raises_arrives():
    with vacancy() as model, model.open() as qmmm:
        evaluate, calls = model.engine.evaluate, []

        def broken(atoms, *, stress=False):
            calls.append(1)
            if len(calls) == 3:
                raise RuntimeError("out of memory")
            return evaluate(atoms, stress=stress)

        model.engine.evaluate = broken
        qmmm.host.set_positions(rattled(model.crystal, [np.array([0, 1])], 0.1, 1))
        with pytest.raises(RuntimeError, match="out of memory"):
            relax(qmmm, fmax=0.001)
        # the crystal is whole, with its own coupling attached
        assert list(qmmm.host.corrections.values()) == [qmmm.coupling]
        assert np.isfinite(qmmm.energy())


@pytest.mark.parametrize(
    ("options", "said"), [({"algorithm": "bfgs"}, "`algorithm` must be one of"), ({"fmax": 0.0}, "`fmax` must be positive")]
)
def test_wrong_options(options, said):
    with vacancy() as model, pytest.raises(ValueError, match=said):
        relaxed(model, **options)


def test_rattling_is_random_but_repeatable():
    crystal = Crystal.of(bulk("Si", cubic=True))
    one, same, other = (rattled(crystal, [np.array([0, 3])], 0.1, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.01
    np.testing.assert_array_equal(np.flatnonzero((one != crystal.positions).any(axis=1)), [0, 3])


# --- the stand-in ------------------------------------------------------------------------------------------------------


class Quadratic:
    """An exact correction E = -F.d + d K d / 2 with an indefinite K."""

    needs_host_forces = False

    def __init__(self, n=4, has_energy=True):
        rng = np.random.default_rng(0)
        K = rng.normal(size=(3 * n, 3 * n))
        self.K = K + K.T if has_energy else K
        self.F = rng.normal(size=3 * n)
        self.atoms, self.reference, self.has_energy = np.arange(n), np.zeros((n, 3)), has_energy

    def evaluate(self, positions, cell, host_forces=None):
        x = positions.ravel()
        energy = -self.F @ x + 0.5 * x @ self.K @ x if self.has_energy else None
        return Contribution(forces=(self.F - self.K @ x).reshape(-1, 3), energy=energy)


def trained(exact, steps, size=0.1):
    surrogate, rng = Surrogate(exact), np.random.default_rng(1)
    surrogate.evaluate(exact.reference, np.eye(3))
    surrogate.learn()
    surrogate.centre_here()
    for _ in range(steps):
        x = size * rng.normal(size=exact.reference.shape)
        surrogate.evaluate(x - x.mean(axis=0), np.eye(3))
        surrogate.learn()
    surrogate.fit()
    surrogate.asks_exact = False
    return surrogate


class OnTwoAtoms(Quadratic):
    """A correction that reaches farther than the atoms that the model is about."""

    learnt = np.array([1, 2])


@pytest.mark.parametrize("kind", [Quadratic, OnTwoAtoms])
def test_model_forces_are_minus_the_gradient_of_its_energy_wall_included(kind):
    surrogate = trained(kind(), steps=5)
    surrogate.trust_radius = 0.1
    x = 0.15 * np.random.default_rng(2).normal(size=(4, 3))
    assert (np.linalg.norm(x, axis=1) > 0.1).any()
    forces = surrogate.evaluate(x, np.eye(3)).forces
    numerical, h = np.zeros((4, 3)), 1e-6
    for index in np.ndindex(4, 3):
        shift = np.zeros((4, 3))
        shift[index] = h
        energies = [surrogate.evaluate(x + s * shift, np.eye(3)).energy for s in (1, -1)]
        numerical[index] = -(energies[0] - energies[1]) / (2 * h)
    np.testing.assert_allclose(forces, numerical, atol=1e-7)


@pytest.mark.parametrize(("has_energy", "tolerance"), [(True, 0.05), (False, 0.05)])
def test_model_learns_a_quadratic_correction(has_energy, tolerance):
    exact = Quadratic(has_energy=has_energy)
    # well inside the length of the regression's kernel (0.4 A), where a quadratic function looks like one
    surrogate = trained(exact, steps=25 if has_energy else 400, size=0.03)
    x = 0.02 * np.random.default_rng(3).normal(size=(4, 3))
    x -= x.mean(axis=0)
    start = exact.evaluate(exact.reference, np.eye(3)).forces
    change = exact.evaluate(x, np.eye(3)).forces - start
    foreseen = surrogate.evaluate(x, np.eye(3)).forces - start
    change -= change.mean(axis=0)
    assert np.abs(foreseen - change).max() < tolerance * np.abs(change).max()


def test_model_never_pushes_the_crystal_as_a_whole():
    surrogate = trained(Quadratic(), steps=5)
    surrogate.trust_radius = 0.01
    x = 0.1 * np.random.default_rng(4).normal(size=(4, 3))
    net = surrogate.evaluate(x, np.eye(3)).forces.sum(axis=0) - surrogate.exact.F.reshape(-1, 3).sum(axis=0)
    np.testing.assert_allclose(net, 0.0, atol=1e-12)
    far = surrogate.evaluate(x + 3.0, np.eye(3))
    np.testing.assert_allclose(far.forces, surrogate.evaluate(x, np.eye(3)).forces, atol=1e-9)


def test_secants_explain_every_step():
    rng = np.random.default_rng(6)
    K = rng.normal(size=(12, 12))
    K, steps = K + K.T, rng.normal(size=(4, 12))
    hessian = SecantHessian.of(steps, steps @ K, shortest=1e-9)
    B = np.array([hessian.at(e)[1] for e in np.eye(12)])
    np.testing.assert_allclose(B, B.T, atol=1e-12)
    np.testing.assert_allclose(steps @ B, steps @ K, atol=1e-8)
    d = rng.normal(size=12)
    assert hessian.at(d)[0] == pytest.approx(0.5 * d @ B @ d)
    outside = np.linalg.svd(steps)[2][4:]
    np.testing.assert_allclose(outside @ B @ outside.T, 0, atol=1e-12)
    noise = SecantHessian.of(1e-6 * steps, 1e-6 * steps @ K + 1e-3, shortest=1e-2)
    assert np.abs(noise.at(d)[1]).max() < 1e-3


def test_what_the_region_does_not_explain_is_explained_elsewhere():
    exact = OnTwoAtoms(n=8)
    projector = np.kron(np.eye(8) - 1 / 8, np.eye(3))  # a correction that does not know where the crystal is
    exact.K, exact.F = projector @ exact.K @ projector, projector @ exact.F
    surrogate = trained(exact, steps=3, size=0.04)
    start = exact.evaluate(exact.reference, np.eye(3)).forces
    seen = surrogate._elsewhere.seen[1:]
    changes = np.array([one.forces - start for one in seen])
    foreseen = np.array([surrogate.evaluate(one.positions, np.eye(3)).forces - start for one in seen])
    assert np.linalg.norm(foreseen - changes) < 0.05 * np.linalg.norm(changes)


@pytest.mark.parametrize("has_energy", [True, False])
def test_model_reproduces_the_last_evaluation(has_energy):
    exact = Quadratic(has_energy=has_energy)
    surrogate = trained(exact, steps=1)
    x = surrogate._last.positions
    start = exact.evaluate(exact.reference, np.eye(3)).forces
    change = surrogate._last.forces - start
    foreseen = surrogate.evaluate(x, np.eye(3)).forces - start
    tolerance = 2e-2 if has_energy else 1e-10  # the regression allows for noise in the forces
    np.testing.assert_allclose(foreseen, change - change.mean(axis=0), atol=tolerance * np.abs(change).max())
