"""Engine and answering environment in turn until neither changes: for engines that ask nothing inside their own cycle.

    E = min_rho { E_QM[rho] + sum_i q_i phi_i[rho] + E_pol[phi[rho], E[rho]] }

At the minimum the density feels, beside the permanent charges q, the induced charges dE_pol/dphi and dipoles -dE_pol/dE.
So the engine converges in the field of both, the environment answers its potentials and fields, the answer is mixed with
the one before, and again:

    induced <- induced + mixing (answer - induced).

The energy is that of the functional: what the engine counts of its interaction with induced charges and dipoles is
taken off, and E_pol comes in its place; its error is of second order in that of the answer. An answer always enhances what
it answers, so that the plain iteration (mixing 1) converges whenever there is a minimum.

A dipole p is given to the engine as charges +p/d and -p/d at a distance d = 0.001 angstrom, of the site's width. At a
distance r its potential is wrong by the fraction (d/2r)^2, 1e-6 where charges may come closest to a nucleus.
"""

from __future__ import annotations

from dataclasses import replace

import ase
import numpy as np

from solidqmmm.engines.closing import Closing
from solidqmmm.engines.protocols import (
    Evaluation,
    FieldEngine,
    FieldEvaluation,
    FieldResponse,
    Induced,
)
from solidqmmm.errors import ConvergenceError
from solidqmmm.system.point_charges import PointCharges, RepulsiveCores

_PAIR = 1e-3  # angstrom
_GROWING = 6  # iterations in which changes grow before they are taken to grow for ever


class OuterLoop(Closing):
    """A `FieldEngine` with the capability "dipoles" made of one without it.

    Args:
        engine: An engine that feels external charges.
        mixing: Part of the new answer that is taken over, above 0 and at most 1.
        dipole_tolerance: Largest change of a dipole in the last iteration, e angstrom.
        energy_tolerance: Change of the energy in the last iteration, eV.
        force_tolerance: Largest change of a force on an atom in the last iteration, eV/angstrom.
        max_iterations: Evaluations of the engine before the loop gives up.

    Raises:
        TypeError: For an engine that feels no charges.
        ValueError: For numbers out of range.
    """

    def __init__(
        self, engine: FieldEngine, *, mixing: float = 1.0, dipole_tolerance: float = 1e-6,
        energy_tolerance: float = 1e-6, force_tolerance: float = 1e-4, max_iterations: int = 60,
    ):  # fmt: skip
        if not isinstance(engine, FieldEngine):
            raise TypeError(f"the engine '{engine.name}' cannot feel external charges")
        if not 0 < mixing <= 1:
            raise ValueError(f"`mixing` must be above 0 and at most 1, got {mixing:g}")
        if min(dipole_tolerance, energy_tolerance, force_tolerance) <= 0 or max_iterations < 2:
            raise ValueError("tolerances must be positive, and `max_iterations` at least 2")
        self.engine, self.mixing, self.max_iterations = engine, float(mixing), int(max_iterations)
        self.tolerances = (float(dipole_tolerance), float(energy_tolerance), float(force_tolerance))
        self._induced: Induced | None = None

    @property
    def name(self) -> str:
        """The engine's."""
        return self.engine.name

    @property
    def provides_stress(self) -> bool:
        """The engine's."""
        return self.engine.provides_stress

    @property
    def field_capabilities(self) -> frozenset[str]:
        """The engine's, and dipoles."""
        return self.engine.field_capabilities | {"dipoles"}

    def evaluate(self, atoms: ase.Atoms, *, stress: bool = False) -> Evaluation:
        """What the engine says."""
        return self.engine.evaluate(atoms, stress=stress)

    def evaluate_in_field(
        self,
        atoms: ase.Atoms,
        charges: PointCharges,
        *,
        response: FieldResponse | None = None,
        cores: RepulsiveCores | None = None,
    ) -> FieldEvaluation:
        """See `FieldEngine`. The first answer is that of the call before, if it had as many charges.

        Raises:
            ConvergenceError: Where engine and environment drive each other without end, or change for too long;
                `attempts` lists the changes.
        """
        if response is None:
            return self.engine.evaluate_in_field(atoms, charges, cores=cores)
        n, history, before, scf = len(charges), [], None, 0
        induced = self._induced
        if induced is None or len(induced.charges) != n:
            induced = Induced(np.zeros(n), np.zeros((n, 3)), 0.0)
        changes = [np.inf]
        while len(history) < self.max_iterations:
            given, sites = with_induced(charges, induced)
            try:
                found = self.engine.evaluate_in_field(atoms, given, cores=cores)
            except ConvergenceError as error:
                raise self._endless(history, "the engine stopped converging") from error
            scf += found.info.get("scf_iterations", 0)
            answer = response.respond(found.potentials[:n], found.fields[:n])
            answered = given.charges.copy()
            answered[:n] -= charges.charges
            energy = found.energy - float(answered @ found.potentials) + answer.energy
            change = float(np.abs(answer.dipoles - induced.dipoles).max(initial=0.0))
            steps = (np.inf, np.inf)
            if before is not None:
                steps = (abs(energy - before[0]), np.abs(found.forces - before[1]).max(initial=0.0))
            history.append(f"dipoles {change:.2e} e angstrom, energy {steps[0]:.2e} eV, forces {steps[1]:.2e} eV/angstrom")
            if all(x < tolerance for x, tolerance in zip((change, *steps), self.tolerances, strict=True)):
                break
            changes.append(change)
            recent = changes[-_GROWING - 1 :]
            if not np.isfinite(energy) or (len(recent) > _GROWING and all(np.diff(recent) > 0)):
                raise self._endless(history, "they drive each other without end")
            before = (energy, found.forces)
            induced = _mixed(induced, answer, self.mixing)
        else:
            raise self._endless(history, f"no end after {self.max_iterations} iterations")
        self._induced = answer
        on_sites = np.zeros((n, 3))
        np.add.at(on_sites, sites, found.charge_forces)
        return replace(
            found,
            energy=energy,
            charge_forces=on_sites,
            potentials=found.potentials[:n],
            fields=found.fields[:n],
            field_gradients=None if found.field_gradients is None else found.field_gradients[:n],
            spill_out=None if found.spill_out is None else found.spill_out[:n],
            induced=answer,
            info={**found.info, "scf_iterations": scf, "outer_iterations": len(history)},
        )

    def _endless(self, history, what: str) -> ConvergenceError:
        self._induced = None
        return ConvergenceError(
            f"the quantum region ('{self.name}') and the dipoles around it did not become self-consistent, {what}: damp the "
            "dipoles, take nearby polarizable ions into the quantum region, or give their charges a width",
            attempts=history[-5:],
        )

    def describe(self) -> dict:
        """The engine's description, and the loop's settings."""
        names = ("dipole_tolerance", "energy_tolerance", "force_tolerance")
        loop = {"mixing": self.mixing, **dict(zip(names, self.tolerances, strict=True))}
        return {**self.engine.describe(), "outer_loop": loop}

    def close(self):
        """Closes the engine, and forgets the last answer."""
        self._induced = None
        self.engine.close()


def with_induced(charges: PointCharges, induced: Induced) -> tuple[PointCharges, np.ndarray]:
    """Permanent and induced charges on the sites, followed by a pair of charges for every dipole that is not zero.

    Returns:
        The charges, and the index of the site to which each belongs, shape=(n_charges,).
    """
    size = np.linalg.norm(induced.dipoles, axis=1)
    p = np.flatnonzero(size > 0)
    half = 0.5 * _PAIR * induced.dipoles[p] / size[p, None]
    x, q, s = charges.positions, size[p] / _PAIR, charges.widths
    sites = np.concatenate([np.arange(len(charges)), p, p])
    return PointCharges(
        np.vstack([x, x[p] + half, x[p] - half]), np.concatenate([charges.charges + induced.charges, q, -q]), s[sites]
    ), sites


def _mixed(old: Induced, new: Induced, part: float) -> Induced:
    return Induced(
        old.charges + part * (new.charges - old.charges), old.dipoles + part * (new.dipoles - old.dipoles), new.energy
    )
