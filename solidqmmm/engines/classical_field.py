"""Charges and polarizable points in place of electrons: the cheapest engine that feels a field.

    E = E_inner + sum_(a<b) q_a q_b k/r_ab + sum_a (q_a phi_a - mu_a.E_a)
      + sum_a k mu_a^2/(2 alpha_a) - 1/2 mu.T.mu + E_pol[phi, E]

with phi, E of the external charges and E_pol of whatever answers them; stationary in the dipoles mu. Every number of an
electrostatic or polarizable coupling can be had from it in milliseconds, with derivatives exact to rounding. What the atoms
lack of a total charge is one more charge q at their middle: the trapped electrons of a vacancy, as far as this engine goes.
"""

from __future__ import annotations

import ase
import numpy as np

from solidqmmm.engines.closing import Closing
from solidqmmm.engines.protocols import Engine, Evaluation, FieldEvaluation, FieldResponse
from solidqmmm.errors import ConvergenceError
from solidqmmm.physics.electrostatics.coulomb import coulomb_energy, coulomb_potential
from solidqmmm.physics.electrostatics.ewald import COULOMB
from solidqmmm.system.point_charges import CLOSEST, PointCharges, RepulsiveCores

_SELF_CONSISTENT = 1e-10  # e angstrom
_ITERATIONS = 200
_RUNAWAY = 1e3  # e angstrom
_NEUTRAL = 1e-6  # e


class ClassicalFieldEngine(Closing):
    """Point charges and point polarizabilities by element, on top of any engine.

    Args:
        charges: In e by element; elements left out carry none.
        polarizabilities: In angstrom^3 by element; elements left out have none. Nothing is damped.
        charge: Total charge in e: what the atoms lack of it sits at their middle, and moves with them. None: they lack none.
        inner: An engine for everything else, or None.
        interacting: Whether the charges of one cluster act on each other (else `inner` holds that).

    Raises:
        ValueError: For a negative polarizability; when evaluated, if an atom is where the lacking charge should be.
    """

    name = "classical_field"
    provides_stress = False
    field_capabilities = frozenset({"dipoles"})

    def __init__(
        self, *, charges=None, polarizabilities=None, charge: float | None = None, inner: Engine | None = None,
        interacting: bool = True,
    ):  # fmt: skip
        self.charge = None if charge is None else float(charge)
        self.charges, self.polarizabilities = dict(charges or {}), dict(polarizabilities or {})
        self.inner, self.interacting = inner, bool(interacting)
        for element, alpha in self.polarizabilities.items():
            if alpha < 0:
                raise ValueError(f"`polarizabilities` must not be negative (angstrom^3), got {alpha:g} for {element}")

    def evaluate(self, atoms: ase.Atoms, *, stress: bool = False) -> Evaluation:
        """The atoms by themselves; no stress.

        Raises:
            ValueError: If a stress is asked for.
        """
        if stress:
            raise ValueError("the engine 'classical_field' gives no stress")
        found = self.evaluate_in_field(atoms, PointCharges.none())
        return Evaluation(found.energy, found.forces, info=found.info)

    def evaluate_in_field(
        self,
        atoms: ase.Atoms,
        charges: PointCharges,
        *,
        response: FieldResponse | None = None,
        cores: RepulsiveCores | None = None,
    ) -> FieldEvaluation:
        """See `FieldEngine`.

        Raises:
            ValueError: For repulsive cores, and as `FieldEngine`.
            ConvergenceError: Where dipoles here and answers there drive each other without end.
        """
        if cores is not None:
            raise ValueError("the engine 'classical_field' has no electrons that cores could repel")
        x, q, alpha = self._points(atoms)
        sites, widths = charges.positions, charges.widths
        p = np.flatnonzero(alpha > 0)
        energy, forces = 0.0, np.zeros_like(x)
        if self.inner is not None:
            inside = self.inner.evaluate(atoms)
            energy, forces[: len(atoms)] = inside.energy, inside.forces
        acting = q * self.interacting
        if self.interacting:
            mutual, pulls = coulomb_energy(x, q)
            energy, forces = energy + mutual, forces + pulls

        def of_sites(induced, derivatives):
            """Potential, field ... at the atoms, of the external charges and what they answered."""
            own = charges.charges if induced is None else charges.charges + induced.charges
            dipoles = None if induced is None else induced.dipoles
            return coulomb_potential(x, sites, own, dipoles=dipoles, sigma=widths, derivatives=derivatives)

        def of_atoms(mu, derivatives):
            """The same at the sites, of the atoms."""
            full = np.zeros_like(x)
            full[p] = mu
            return coulomb_potential(
                sites, x, q, dipoles=full, sigma=np.broadcast_to(widths[:, None], (len(sites), len(x))),
                derivatives=derivatives,
            )  # fmt: skip

        A = _stiffness(x[p], alpha[p])
        mu, induced, iterations = np.zeros((len(p), 3)), None, 0
        while iterations < _ITERATIONS:
            iterations += 1
            if response is not None:
                induced = response.respond(*of_atoms(mu, 1))
            field = of_sites(induced, 1)[1] + coulomb_potential(x, x, acting)[1]
            before, mu = mu, np.linalg.solve(A, field[p].ravel()).reshape(-1, 3) if len(p) else mu
            if response is None or np.abs(mu - before).max(initial=0.0) < _SELF_CONSISTENT:
                break
            if np.abs(mu).max() > _RUNAWAY:
                iterations = _ITERATIONS
        else:
            raise ConvergenceError(
                "dipoles of the quantum region and answers of its surroundings drive each other without end: "
                "move them apart or damp them"
            )
        if response is not None:
            induced = response.respond(*of_atoms(mu, 1))
        given = of_atoms(mu, 2)
        permanent = coulomb_potential(x, sites, charges.charges, sigma=widths)
        energy += float(q @ permanent[0]) - float((mu * permanent[1][p]).sum()) + 0.5 * float(mu.ravel() @ A @ mu.ravel())
        energy -= float((mu * coulomb_potential(x, x, acting)[1][p]).sum())
        total = charges.charges.copy()
        if induced is not None:
            energy += induced.energy
            total = total + induced.charges
        _, field, gradient = of_sites(induced, 2)
        forces += q[:, None] * field
        forces[p] += np.einsum("ia,iab->ib", mu, gradient[p])
        if len(p):
            full = np.zeros_like(x)
            full[p] = mu
            _, own_field, own_gradient = coulomb_potential(x, x, acting, dipoles=full, derivatives=2)
            charge_field = coulomb_potential(x, x, acting)[1]
            forces += acting[:, None] * (own_field - charge_field)
            forces += np.einsum("ia,iab->ib", full, own_gradient)
        on_charges = total[:, None] * given[1]
        if induced is not None:
            on_charges = on_charges + np.einsum("ia,iab->ib", induced.dipoles, given[2])
        return FieldEvaluation(
            energy=energy,
            forces=forces[: len(atoms)] + forces[len(atoms) :].sum(axis=0) / len(atoms),
            info={"scf_iterations": iterations, "dipoles_e_A": mu.tolist()},
            charge_forces=on_charges,
            potentials=given[0],
            fields=given[1],
            field_gradients=given[2],
            induced=induced,
        )

    def _points(self, atoms):
        """Positions, charges and polarizabilities of the atoms, and of the charge at their middle where there is one."""
        x = atoms.positions
        q = np.array([self.charges.get(symbol, 0.0) for symbol in atoms.symbols])
        alpha = np.array([self.polarizabilities.get(symbol, 0.0) for symbol in atoms.symbols])
        lacking = 0.0 if self.charge is None else self.charge - q.sum()
        if abs(lacking) < _NEUTRAL:
            return x, q, alpha
        middle = x.mean(axis=0)
        if np.linalg.norm(x - middle, axis=1).min() < CLOSEST:
            raise ValueError(
                f"the charges of {atoms.get_chemical_formula()} sum to {q.sum():+.4g} e, stated {self.charge:+.4g} e, and "
                f"there is an atom in the middle, where the other {lacking:+.4g} e would be: give `charges` that sum to it"
            )
        return np.vstack([x, middle]), np.append(q, lacking), np.append(alpha, 0.0)

    def describe(self) -> dict:
        """Charges, polarizabilities, and what the inner engine says of itself."""
        return {
            "engine": self.name,
            "settings": {
                "charges": self.charges,
                "polarizabilities": self.polarizabilities,
                "charge": self.charge,
                "interacting": self.interacting,
                "inner": None if self.inner is None else self.inner.describe(),
            },
            "versions": {},
            "references": [] if self.inner is None else list(self.inner.describe()["references"]),
        }

    def close(self):
        """Closes the inner engine."""
        if self.inner is not None:
            self.inner.close()


def _stiffness(x, alpha) -> np.ndarray:
    """k/alpha - T in V/(e angstrom^2) per dipole component, shape=(3 n, 3 n)."""
    n = len(x)
    T = np.zeros((n, 3, n, 3))
    for j in range(n):
        for b in range(3):
            dipole = np.zeros((n, 3))
            dipole[j, b] = 1.0
            T[:, :, j, b] = coulomb_potential(x, x, np.zeros(n), dipoles=dipole)[1]
    return np.diag(np.repeat(COULOMB / alpha, 3)) - T.reshape(3 * n, 3 * n)
