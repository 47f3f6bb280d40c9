"""The hybrid crystals that the coupling contract runs over: couplings x boundaries x crystals, small and classical.

Every region sits on atom 0, the corner of the cell, so that it straddles the periodic boundaries of its host.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
from ase.build import bulk

from solidqmmm.coupling.force_mixing import ForceMixing, smooth_weights
from solidqmmm.coupling.qmmm import QMMM
from solidqmmm.coupling.subtractive import Subtractive
from solidqmmm.engines.lammps import LammpsEngine
from solidqmmm.procedures.build import buffer_depth
from solidqmmm.procedures.building.select import grown_by_hops, partition_from
from solidqmmm.procedures.carve import carve, complete_partition
from solidqmmm.system.bonds import BondRules
from solidqmmm.system.caps import CapRules
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.partition import Partition
from solidqmmm.system.potential import Potential

SW = Potential("sw", "* * Si.sw Si", "Si")
TERSOFF = Potential("tersoff", "* * Si.tersoff Si", "Si")
TERSOFF_MOD = Potential("tersoff/mod", "* * Si.tersoff.mod Si", "Si")
SNAP = Potential("snap", "* * Si_Zuo_JPCA2020.snapcoeff Si_Zuo_JPCA2020.snapparam Si", "Si")
SIC = Potential("tersoff", "* * SiC.tersoff Si C", ("Si", "C"))
SIC_ERHART = Potential("tersoff", "* * SiC_Erhart-Albe.tersoff Si C", ("Si", "C"))
COPPER = Potential("eam/alloy", "* * Cu_mishin1.eam.alloy Cu", "Cu")
COPPER_ZHOU = Potential("eam/alloy", "* * Cu_zhou.eam.alloy Cu", "Cu")

TERSOFF_1989 = Potential("tersoff", "* * SiC.tersoff Si", "Si")

BOND_RULES = BondRules()
# A lattice matching that no symmetry excuses: stretch, compression and shear.
STRETCH = np.array([[1.012, 0.004, 0.0], [0.004, 0.991, -0.003], [0.0, -0.003, 1.006]])

SILICON_CAPS = CapRules(kind="Si", length=2.2)
BARE = CapRules(kind="none")


def silicon() -> Crystal:
    return Crystal.of(bulk("Si", a=5.431, cubic=True) * (3, 3, 3))


def thin_silicon() -> Crystal:
    """Two cells thick along c: a region may be periodic along it."""
    return Crystal.of(bulk("Si", a=5.431, cubic=True) * (4, 4, 2))


def small_silicon() -> Crystal:
    return Crystal.of(bulk("Si", a=5.431, cubic=True) * (2, 2, 2))


def triclinic_silicon() -> Crystal:
    """A left-handed, strongly skewed supercell of the primitive cell: every frame inside LAMMPS differs from ours."""
    return Crystal.of(bulk("Si", a=5.431)).supercell([[0, 5, 0], [5, 0, 1], [0, 1, 5]])


def carbide() -> Crystal:
    return Crystal.of(bulk("SiC", "zincblende", a=4.36, cubic=True) * (3, 3, 3))


def copper() -> Crystal:
    return Crystal.of(bulk("Cu", a=3.615, cubic=True) * (4, 4, 4))


@dataclass(frozen=True, eq=False)
class Hybrid:
    """One member of the family: what is described by what, and how the two are joined.

    Attributes:
        make: Makes the perfect crystal.
        host, expensive: The two descriptions.
        core, buffer: Hops along bonds around atom 0, and around the core.
        caps: Rules for the cut bonds.
        scheme: "subtractive" or "force_mixing".
        options: Further arguments of the coupling.
        periodic_axes: Of the cluster.
        stretch: Lattice matching A, shape=(3, 3).
        ghost: Whether the spurious forces of the perfect crystal are subtracted.
        smooth: Whether the weights of force mixing fall smoothly over the buffer.
    """

    make: callable
    host: Potential = SW
    expensive: Potential = TERSOFF
    core: int = 1
    buffer: int = 1
    caps: CapRules = SILICON_CAPS
    scheme: str = "subtractive"
    options: dict = field(default_factory=dict)
    periodic_axes: tuple = ()
    stretch: np.ndarray = field(default_factory=lambda: np.eye(3))
    ghost: bool = False
    smooth: bool = False

    @property
    def has_energy(self) -> bool:
        return self.scheme == "subtractive"

    def partition(self, perfect: Crystal) -> Partition:
        core = grown_by_hops(perfect, [0], self.core, BOND_RULES)
        buffer = grown_by_hops(perfect, core, self.buffer, BOND_RULES)
        partition = partition_from(perfect, core, buffer, centre=perfect.positions[0])
        return complete_partition(perfect, partition, self.caps, BOND_RULES)

    def coupling(self, perfect: Crystal, partition: Partition, quantum, classical):
        """The coupling, carved from the perfect crystal."""
        cluster = carve(
            perfect,
            partition,
            self.caps,
            bond_rules=BOND_RULES,
            periodic_axes=self.periodic_axes,
            stretch=self.stretch,
        )
        if self.scheme == "force_mixing":
            weights = smooth_weights(buffer_depth(cluster)) if self.smooth else None
            return ForceMixing(cluster, quantum, weights=weights, **self.options)
        correction = Subtractive(cluster, quantum, classical, **self.options)
        if self.ghost:
            spurious = correction.evaluate(correction.reference, perfect.cell).forces
            correction = correction.with_dead_load(spurious - spurious.mean(axis=0))
        return correction

    @contextmanager
    def open(
        self, crystal: Crystal | None = None, perfect: Crystal | None = None, partition: Partition | None = None
    ) -> Iterator[QMMM]:
        """The live crystal, by default rattled; the region is chosen and carved in the perfect one."""
        perfect = self.make() if perfect is None else perfect
        partition = self.partition(perfect) if partition is None else partition
        crystal = rattled(perfect) if crystal is None else crystal
        with ExitStack() as stack:
            quantum, classical = (
                stack.enter_context(LammpsEngine(potential)) for potential in (self.expensive, self.host)
            )
            coupling = self.coupling(perfect, partition, quantum, classical)
            yield stack.enter_context(QMMM(crystal, self.host, coupling, partition=partition))


def rattled(crystal: Crystal, amplitude: float = 0.05, seed: int = 3) -> Crystal:
    """Every atom displaced at random (angstrom)."""
    u = amplitude * np.random.default_rng(seed).normal(size=crystal.positions.shape)
    return crystal.with_positions(crystal.positions + u)


_CAPPED = Hybrid(silicon)
_MIXING = Hybrid(silicon, scheme="force_mixing", caps=BARE, buffer=2)
_CARBON_CAPS = CapRules(kind="C", length={"Si": 1.7, "C": 1.4})

SUBTRACTIVE = {
    "bare, SNAP": Hybrid(silicon, expensive=SNAP, caps=BARE),
    "caps of fixed length": _CAPPED,
    "caps of fixed ratio, bare classical side": replace(
        _CAPPED, caps=CapRules(kind="Si", ratio=0.9), options={"classical_caps": "bare"}
    ),
    "caps, two on one removed atom": replace(
        _CAPPED,
        core=0,
        buffer=2,
        caps=CapRules(kind="Si", length=1.35, clashing="keep"),
        options={"classical_caps": "bare"},
    ),
    "ghost forces": replace(_CAPPED, ghost=True),
    "matching": replace(_CAPPED, stretch=STRETCH, options={"energy_scale": 1.07}),
    "periodic line": Hybrid(thin_silicon, periodic_axes=(2,), core=1, buffer=1),
    "periodic line, matching and ghost forces": Hybrid(
        thin_silicon,
        periodic_axes=(2,),
        stretch=STRETCH,
        options={"energy_scale": 0.95},
        ghost=True,
    ),
    "periodic plane": Hybrid(
        lambda: Crystal.of(bulk("Si", a=5.431, cubic=True) * (2, 2, 4)), periodic_axes=(0, 1)
    ),
    "everything quantum, matching": Hybrid(
        small_silicon,
        core=1,
        buffer=20,
        periodic_axes=(0, 1, 2),
        stretch=STRETCH,
        options={"energy_scale": 1.1},
    ),
    "polar crystal": Hybrid(carbide, host=SIC, expensive=SIC_ERHART, caps=_CARBON_CAPS),
    "metal": Hybrid(copper, host=COPPER, expensive=COPPER_ZHOU, caps=BARE, core=1, buffer=0),
    "triclinic": Hybrid(triclinic_silicon),
    "triclinic, periodic line and matching": Hybrid(
        lambda: Crystal.of(bulk("Si", a=5.431)).supercell([[5, 0, 0], [0, 5, 0], [1, 1, 2]]),
        periodic_axes=(2,),
        stretch=STRETCH,
    ),
}

FORCE_MIXING = {
    "abrupt": _MIXING,
    "abrupt, SNAP, caps": replace(_MIXING, expensive=SNAP, caps=SILICON_CAPS, buffer=1),
    "abrupt, from all quantum atoms": replace(_MIXING, options={"net_force": "region"}),
    "abrupt, net force left": replace(_MIXING, options={"net_force": "none"}),
    "smooth": replace(_MIXING, smooth=True),
    "smooth, matching": replace(
        _MIXING, smooth=True, stretch=STRETCH, options={"energy_scale": 1.07}
    ),
    "periodic line": replace(_MIXING, make=thin_silicon, periodic_axes=(2,)),
    "triclinic": replace(_MIXING, make=triclinic_silicon, caps=SILICON_CAPS, buffer=1),
}

EVERY = {f"subtractive: {name}": hybrid for name, hybrid in SUBTRACTIVE.items()} | {
    f"force mixing: {name}": hybrid for name, hybrid in FORCE_MIXING.items()
}
