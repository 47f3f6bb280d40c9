"""Ionic crystals in which a cluster is embedded additively, by a classical stand-in for the quantum engine."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from ase.build import bulk

from solidqmmm.coupling.additive import Additive
from solidqmmm.coupling.polarizable_surroundings import PolarizableSurroundings
from solidqmmm.coupling.qmmm import QMMM
from solidqmmm.engines.classical_field import ClassicalFieldEngine
from solidqmmm.engines.lammps import LammpsEngine
from solidqmmm.procedures.building.select import grown_by_hops, partition_from
from solidqmmm.procedures.carve import carve
from solidqmmm.system.bonds import BondRules
from solidqmmm.system.caps import CapRules
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.potential import Potential

BOND_RULES = BondRules()
BARE = CapRules(kind="none")
_PAIRS = {
    "pair_coeff": ("* * 0 1 0", "1 2 821.6 0.3242 0.0", "2 2 22764.0 0.149 27.88"),
    "species": ("Mg", "O"),
}
CUTOFF = 5.55  # between shells of neighbours: the dispersion is cut off
SHIFT = "pair_modify shift yes table 0"
PERIODIC = Potential(
    f"buck/coul/long {CUTOFF}",
    charges=(2, -2),
    commands=("kspace_style ewald 1e-8", "kspace_modify gewald 0.75", SHIFT),
    **_PAIRS,
)
ISOLATED = Potential(f"buck/coul/cut {CUTOFF} 60.0", charges=(2, -2), commands=(SHIFT,), **_PAIRS)
PAIRS_ALONE = Potential(f"buck {CUTOFF}", commands=("pair_modify shift yes",), **_PAIRS)
POLARIZABILITIES = {"Mg": 0.09, "O": 1.65}


def oxide() -> Crystal:
    return Crystal.of(bulk("MgO", "rocksalt", a=4.2112, cubic=True) * (3, 3, 3))


def skewed_oxide() -> Crystal:
    """A left-handed, skewed supercell of the primitive cell."""
    return Crystal.of(bulk("MgO", "rocksalt", a=4.2112)).supercell([[0, 5, 0], [5, 0, 1], [0, 1, 5]])


def oxide_cluster() -> Crystal:
    """The same ions in empty space."""
    atoms = bulk("MgO", "rocksalt", a=4.2112, cubic=True) * (2, 2, 2)
    atoms.pbc = False
    atoms.center(vacuum=20.0)
    return Crystal.of(atoms)


@dataclass(frozen=True, eq=False)
class IonicHybrid:
    """One member of the family.

    Attributes:
        make: Makes the perfect crystal.
        embedding: "mechanical", "electrostatic" or "polarizable".
        vacancy: Whether the ion in the middle of the cluster is missing.
        charge: Total charge of the crystal in e.
        charges: Of the engine's atoms in e by element; those of the host by default.
        polarizabilities: Of the engine's atoms.
        width: Gaussian width of near charges in angstrom.
    """

    make: callable
    embedding: str
    vacancy: bool = False
    charge: float = 0.0
    charges: dict = field(default_factory=lambda: {"Mg": 2.0, "O": -2.0})
    polarizabilities: dict = field(default_factory=dict)
    width: float = 0.0

    def crystal(self) -> tuple[Crystal, np.ndarray, np.ndarray]:
        """The crystal, its quantum atoms (an oxygen ion or its vacancy, and its neighbours), and where their middle is."""
        perfect = self.make()
        middle = perfect.positions.mean(axis=0) if not perfect.pbc.any() else perfect.positions[0]
        oxygen = np.flatnonzero(perfect.numbers == 8)
        centre = int(oxygen[np.linalg.norm(perfect.positions[oxygen] - middle, axis=1).argmin()])
        core = grown_by_hops(perfect, [centre], 1, BOND_RULES)
        middle = perfect.positions[centre]
        if not self.vacancy:
            return perfect, core, middle
        core = np.array([k - (k > centre) for k in core if k != centre])
        return perfect.without(centre), core, middle

    @contextmanager
    def open(self, moved=None, order=None):
        """The live crystal at `moved` positions (rattled by default), and its coupling."""
        perfect, core, centre = self.crystal()
        crystal = rattled(perfect) if moved is None else perfect.with_positions(moved)
        if order is not None:
            perfect, crystal = (Crystal(c.numbers[order], c.positions[order], c.cell, c.pbc) for c in (perfect, crystal))
            core = np.flatnonzero(np.isin(order, core))
        potential = PERIODIC if perfect.pbc.any() else ISOLATED
        partition = partition_from(perfect, core, np.empty(0, dtype=int), centre=centre)
        with LammpsEngine(PAIRS_ALONE) as pairs:
            engine = ClassicalFieldEngine(charges=self.charges, polarizabilities=self.polarizabilities, inner=pairs)
            coupling = self.coupling(perfect, partition, engine)
            with QMMM(crystal, potential, coupling, partition=partition) as qmmm:
                yield qmmm

    def coupling(self, perfect, partition, engine) -> Additive:
        charges = np.where(perfect.numbers == 12, 2.0, -2.0)
        environment = None
        if self.embedding == "polarizable":
            alpha = np.array([POLARIZABILITIES[symbol] for symbol in perfect.symbols])
            alpha[partition.quantum] = 0.0
            environment = PolarizableSurroundings(alpha)
        return Additive(
            carve(perfect, partition, BARE, bond_rules=BOND_RULES),
            engine,
            perfect.positions,
            charges,
            embedding=self.embedding,
            charge=self.charge - np.delete(charges, partition.quantum).sum(),
            environment=environment,
            width=self.width,
            n_sites=200,
        )


def slope_and_work(qmmm: QMMM, seed: int) -> tuple[float, float, float]:
    """-dE along a random step of all particles, by central differences; that of the forces; what they are measured by (eV).

    Quantum atoms and ions, near and far: all move. Differences of 2e-6 of the last number are the stencil's.
    """
    positions, forces = qmmm.host.positions(), qmmm.forces()
    step = 5e-4 * np.random.default_rng(seed).normal(size=positions.shape)
    step[qmmm.coupling.cluster.region] *= 3
    energies = []
    for sign in (1, -1):
        qmmm.host.set_positions(positions + sign * step)
        energies.append(qmmm.energy())
    qmmm.host.set_positions(positions)
    slope = (energies[1] - energies[0]) / 2
    return slope, float((forces * step).sum()), float(np.linalg.norm(forces) * np.linalg.norm(step))


def rattled(crystal: Crystal, amplitude: float = 0.05, seed: int = 3) -> Crystal:
    u = amplitude * np.random.default_rng(seed).normal(size=crystal.positions.shape)
    return crystal.with_positions(crystal.positions + u)


# What the engine thinks of the ions differs from what the host does, as with electrons.
_OTHER = {"charges": {"Mg": 1.7, "O": -1.5}, "polarizabilities": {"O": 0.9}, "width": 0.5}
FAMILY = {
    "mechanical": IonicHybrid(oxide, "mechanical", charges={"Mg": 1.7, "O": -1.5}),
    "mechanical, vacancy": IonicHybrid(oxide, "mechanical", vacancy=True),
    "mechanical, isolated": IonicHybrid(oxide_cluster, "mechanical"),
    "electrostatic": IonicHybrid(oxide, "electrostatic", **_OTHER),
    "electrostatic, vacancy": IonicHybrid(oxide, "electrostatic", vacancy=True, **_OTHER),
    "electrostatic, charged vacancy": IonicHybrid(oxide, "electrostatic", vacancy=True, charge=2.0, **_OTHER),
    "electrostatic, skewed": IonicHybrid(skewed_oxide, "electrostatic", **_OTHER),
    "electrostatic, isolated": IonicHybrid(oxide_cluster, "electrostatic", **_OTHER),
    "polarizable": IonicHybrid(oxide, "polarizable", **_OTHER),
    "polarizable, charged vacancy": IonicHybrid(oxide, "polarizable", vacancy=True, charge=2.0, **_OTHER),
    "polarizable, isolated": IonicHybrid(oxide_cluster, "polarizable", vacancy=True, **_OTHER),
}
