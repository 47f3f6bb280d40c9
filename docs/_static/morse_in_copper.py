"""A vacancy in copper: Morse's potential around it, embedded atoms in all of the crystal."""

from ase.build import bulk
from morse_engine import MorseEngine

from solidqmmm import QMMM, CapRules, Crystal, LammpsEngine, Potential, Subtractive, carve, relax
from solidqmmm.engines.journal import journaled
from solidqmmm.procedures.building.select import partition_from, within_radius

embedded_atoms = Potential("eam/alloy", "* * Cu_mishin1.eam.alloy Cu", ["Cu"])
atoms = bulk("Cu", a=3.615, cubic=True) * (6, 6, 6)
hole = atoms.positions[0].copy()  # all sites are alike
del atoms[0]

crystal = Crystal.of(atoms)
core, region = (within_radius(crystal, hole, radius) for radius in (2.7, 6.0))
partition = partition_from(crystal, core, region, centre=hole)
cluster = carve(crystal, partition, CapRules(kind="none"))

engine = journaled(MorseEngine(depth=0.35, a=1.36, r0=2.83, cutoff=6.0), "journal")
with LammpsEngine(embedded_atoms) as classical:
    coupling = Subtractive(cluster, engine, classical)
    with QMMM(crystal, embedded_atoms, coupling, partition=partition) as qmmm:
        outcome = relax(qmmm, fmax=0.01)
print(partition.counts())
print(f"converged: {outcome.converged}, largest force {outcome.max_force:.4f} eV/A")
print(f"evaluated {engine.evaluations} times, read from the journal {engine.hits} times")
