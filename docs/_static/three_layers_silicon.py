"""Silicon in three layers: SNAP around an atom, Tersoff's potential around that, Stillinger and Weber's everywhere."""

from ase.build import bulk
from three_layers import ThreeLayers

from solidqmmm import QMMM, CapRules, Crystal, LammpsEngine, Potential, Subtractive, carve
from solidqmmm.procedures.building.select import grown_by_hops, partition_from
from solidqmmm.procedures.carve import complete_partition
from solidqmmm.system.bonds import BondRules

host = Potential("sw", "* * Si.sw Si", ["Si"])
middle = Potential("tersoff", "* * Si.tersoff Si", ["Si"])
engine = Potential("snap", "* * Si_Zuo_JPCA2020.snapcoeff Si_Zuo_JPCA2020.snapparam Si", ["Si"])

atoms = bulk("Si", a=5.431, cubic=True) * (4, 4, 4)
atoms.rattle(0.05, seed=1)
crystal = Crystal.of(atoms)
caps, bonds = CapRules(kind="Si", length=2.35), BondRules()


def region(hops):
    """Labels and cluster of the atoms within `hops` bonds of atom 0."""
    core = grown_by_hops(crystal, [0], hops, bonds)
    labels = partition_from(crystal, core, core, centre=crystal.positions[0])
    labels = complete_partition(crystal, labels, caps, bonds)
    return labels, carve(crystal, labels, caps, bond_rules=bonds)


(large, large_cluster), (small, small_cluster) = region(3), region(1)
with LammpsEngine(host) as by_host, LammpsEngine(middle) as by_middle, LammpsEngine(engine) as by_engine:
    coupling = ThreeLayers(
        outer=Subtractive(large_cluster, by_middle, by_host),
        inner=Subtractive(small_cluster, by_engine, by_middle),
    )
    with QMMM(crystal, host, coupling, partition=large) as qmmm:
        print(f"{small_cluster.n_quantum} atoms in {large_cluster.n_quantum} in {len(crystal)}")
        print(f"{qmmm.energy():.4f} eV, largest force {abs(qmmm.forces()).max():.3f} eV/A")
