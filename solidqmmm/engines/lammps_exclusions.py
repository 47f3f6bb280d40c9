"""Atoms taken out of the host's sums: every pair is counted once, by the host or by whoever takes the atoms over.

    E_LAMMPS = E_pair(env, env) + E_Coulomb(env, env) + E_pair(excluded, env)

The excluded atoms carry no charge and are not neighbours of each other (`neigh_modify exclude`). Only a sum over pairs can
be taken apart in this way; whether a potential is one is asked of LAMMPS itself, on small clusters.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations_with_replacement, product

import numpy as np
from ase.data import atomic_numbers, covalent_radii

from solidqmmm.engines.lammps_session import LammpsSession
from solidqmmm.engines.lammps_shells import Shells
from solidqmmm.runtime import world
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.potential import Potential

# Side of the box in which potentials are probed, and where in it, angstrom.
_BOX, _CENTRE = 80.0, 8.0
# A sum over pairs is additive to rounding.
_ADDITIVE = 1e-8


class Exclusions:
    """The excluded atoms of one host.

    Args:
        crystal, potential: Of the host.
        atoms: Excluded atoms, shape=(m,).

    Raises:
        ValueError: If an index does not exist, or the potential is not a sum over pairs.
    """

    def __init__(self, crystal: Crystal, potential: Potential, atoms):
        if atoms.min() < 0 or atoms.max() >= len(crystal):
            raise ValueError(f"`excluded` must be indices from 0 to {len(crystal) - 1}, got {atoms.min()} to {atoms.max()}")
        self.atoms, self.potential = atoms, potential
        for symbol in crystal.species:
            potential.type_of(symbol)
        require_pairwise(potential, tuple(sorted(crystal.species)))

    def apply(self, host):
        """Tells LAMMPS; the charges are the host's business."""
        _exclude(host.session, self.atoms)

    def pair_energy(self, host) -> float:
        """Energy of the pairs between excluded atoms and the rest in eV, at the host's present positions.

        The difference of two energies of another instance without any charges: with these pairs, and without them.
        (LAMMPS's own `compute group/group` does not know the pair styles of core-shell models.)
        """
        shells = Shells.of(host.crystal, self.potential, self.atoms)
        x = host.session.gather("x")
        crystal = host.crystal.with_positions(x[: len(host)], host.cell())
        with LammpsSession(self.potential, communicator=host.session.communicator) as session:
            session.create(crystal, charges=None if shells else np.zeros(len(crystal)), shells=shells)
            if shells:
                session.scatter_charges(np.zeros(session.natoms))
            session.scatter("x", x)
            _exclude(session, self.atoms)
            session.command("run 0 post no")
            energy = session.potential_energy()
            session.command("neigh_modify exclude group excluded environment")
            session.command("run 0 post no")
            return energy - session.potential_energy()


def _exclude(session: LammpsSession, atoms):
    session.group("excluded", atoms)
    session.command("group environment subtract all excluded")
    session.command("neigh_modify exclude group excluded excluded")


@lru_cache(maxsize=32)
def require_pairwise(potential: Potential, species: tuple[str, ...]):
    """Nothing, if the energy is a sum over pairs for these species.

    A centre c has six neighbours at right angles, three (A) of one kind and three (B) of another, all at covalent bond
    lengths and without charges. In a sum over pairs c does not change how A and B interact:

        E(cAB) - E(cA) - E(cB) + E(c) = E(AB) - E(A) - E(B)

    Fewer neighbours would not do: Tersoff's bond order comes alive late.

    Raises:
        ValueError: If it is not.
    """
    kinds = product(species, combinations_with_replacement(species, 2))
    for centre, (first, second) in kinds:
        excess, largest = _beyond_pairs(potential, centre, first, second)
        if abs(excess) > _ADDITIVE * max(1.0, largest):
            raise ValueError(
                f"atoms cannot be excluded from pair_style {potential.pair_style}: its energy is not a sum over pairs "
                f"({centre} between {first} and {second} has {excess:+.4g} eV beyond its pairs), so the part of the quantum "
                "atoms cannot be taken out. Use a pairwise potential (buck/coul/long, born/coul/long, lj/cut/coul/long ...) "
                "for an additive coupling, or `coupling: subtractive` with this one"
            )


def _beyond_pairs(potential: Potential, centre: str, first: str, second: str) -> tuple[float, float]:
    """What three or more atoms do together, and the largest energy on the way, eV."""
    world()  # MPI must be set up before anybody imports it
    from mpi4py import MPI

    numbers = np.array([atomic_numbers[symbol] for symbol in (centre, *3 * [first], *3 * [second])])
    bonds = (covalent_radii[numbers[0]] + covalent_radii[numbers])[1:, None]
    near = _CENTRE + np.vstack([np.zeros((1, 3)), bonds * np.vstack([np.eye(3), -np.eye(3)])])
    far = np.array(list(product((0.45 * _BOX, 0.75 * _BOX), repeat=3)))[:7]
    c, A, B = [0], [1, 2, 3], [4, 5, 6]
    energies = []
    with LammpsSession(potential, communicator=MPI.COMM_SELF) as session:
        crystal = Crystal(numbers, far, _BOX * np.eye(3))
        session.create(crystal, charges=np.zeros(7), shells=Shells.of(crystal, potential, range(7)))
        for present in (c + A + B, c + A, c + B, c, A + B, A, B, []):
            positions = far.copy()
            positions[present] = near[present]
            session.scatter("x", positions)
            session.command("run 0 post no")
            energies.append(session.potential_energy())
    signs = (1, -1, -1, 1, -1, 1, 1, -1)
    return float(np.dot(signs, energies)), float(np.abs(energies).max())
