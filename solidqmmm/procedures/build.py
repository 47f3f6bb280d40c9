"""From a study to the parts that compute: crystal, region, cluster, engines, coupling."""

from __future__ import annotations

import logging
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from solidqmmm.coupling.force_mixing import ForceMixing, smooth_weights
from solidqmmm.coupling.qmmm import QMMM
from solidqmmm.coupling.subtractive import Subtractive
from solidqmmm.engines.closing import Closing
from solidqmmm.engines.factory import make_journaled_engine
from solidqmmm.engines.lammps import LammpsEngine
from solidqmmm.engines.protocols import Engine
from solidqmmm.engines.remote import made
from solidqmmm.errors import StructureError
from solidqmmm.procedures.building.coupling_references import coupling_references
from solidqmmm.procedures.building.embed import additive_coupling, engine_settings, is_additive
from solidqmmm.procedures.building.embedding_requests import require_embeddable
from solidqmmm.procedures.building.host_lattice import pressure_GPa, relaxed_cell
from solidqmmm.procedures.building.no_crystal import NoCrystal
from solidqmmm.procedures.building.place_defect import place_defect
from solidqmmm.procedures.building.repetition import repeats_around
from solidqmmm.procedures.building.slabs import slab_axes
from solidqmmm.procedures.building.study_region import bond_rules, region_centre, select_partition
from solidqmmm.procedures.carve import carve, complete_partition
from solidqmmm.procedures.parallel.task_worker import logs_in
from solidqmmm.system.bonds import BondRules
from solidqmmm.system.cluster import Cluster
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.defect import Defect
from solidqmmm.system.partition import Partition
from solidqmmm.system.study import Study
from solidqmmm.system.study_sections import Selection

logger = logging.getLogger(__name__)

_NOTEWORTHY_PRESSURE_GPa = 0.1
# A larger input cell is a supercell already; its pressure is not worth another instance of the host.
_LARGEST_UNIT = 2000


def build_model(study: Study, *, log_dir=None) -> Model | NoCrystal:
    """The model of a study. Nothing expensive is computed yet. A study of numbers that are known has no crystal to model.

    Args:
        study: The validated study.
        log_dir: Run folder: engine logs go there, and every finished engine evaluation into its `journal`; None for neither.

    Raises:
        StructureError, RegionError: If crystal, defect or region are impossible.
        ValueError: For an element that the host potential does not know; as `require_embeddable`.
    """
    if study.numbers_file is not None:
        return NoCrystal(study)
    unit, potential = study.unit_cell(), study.potential()
    if study.structure.lattice == "host":
        for symbol in unit.species:
            potential.type_of(symbol)
        with LammpsEngine(potential) as classical:
            unit = relaxed_cell(unit, classical)
    perfect = unit.supercell(study.supercell)
    defect, crystal = None, perfect
    if study.defect is not None:
        defect = place_defect(unit, perfect, **study.defect.model_dump())
        crystal = defect.applied_to(perfect)
    for symbol in () if potential is None else crystal.species:
        potential.type_of(symbol)
    return _assembled(study, unit, perfect, crystal, defect, log_dir)


def _assembled(study: Study, unit: Crystal, perfect: Crystal, crystal: Crystal, defect: Defect | None, log_dir) -> Model:
    """Region and engine of a crystal that is there."""
    potential = study.potential()
    partition = Partition(np.zeros(len(crystal), dtype=np.int8), region_centre(study, crystal, defect))
    engine = None
    if study.region is not None and study.qm is not None and not study.recipe_places_region:
        partition = select_partition(study, crystal, defect)
        rules = study.caps.rules()
        bonds = bond_rules(study, defect, crystal.species)
        partition = complete_partition(crystal, partition, rules, bonds)
    if is_additive(study):
        require_embeddable(study, perfect, crystal, partition, potential)
    if study.qm is not None and (study.region is not None or study.engine_alone):
        folder = None if log_dir is None else Path(log_dir)
        charge = study.coupling.charge if is_additive(study) else 0.0
        rules = bond_rules(study, defect, crystal.species)
        engine = _engine(study, crystal, partition, potential, charge, rules, folder)
    return Model(study, unit, perfect, crystal, defect, partition, engine, log_dir)


def _engine(
    study: Study, crystal: Crystal, partition: Partition, potential, charge: float, rules: BondRules, folder: Path | None
) -> Engine:
    """The study's engine, its charge that of the cluster where the coupling asks for one; with a journal in `folder`."""
    settings = engine_settings(study, crystal, partition, potential, charge, rules)
    # A LAMMPS potential answers faster than a disk, and a run of dynamics has its checkpoints.
    unworthy = study.recipe_places_region and study.qm["engine"] == "lammps"
    journal = None if folder is None or unworthy else folder / "journal"
    logs = None if folder is None else logs_in(folder)
    return made(partial(make_journaled_engine, settings, journal=journal, log_dir=logs, search_dirs=(study.folder,)))


class Model(Closing):
    """Everything that a study describes, ready to be opened; a context manager that closes its engines.

    Three kinds: an engine inside a host, the host alone (`engine` is None), the engine alone on the periodic cell
    (`potential` is None: nothing to open, no cluster, no coupling).

    Attributes:
        study: The study.
        unit: The repeated cell.
        perfect: The supercell without the defect.
        crystal: The supercell with it.
        defect: The defect, or None.
        potential: The host's potential, or None for the engine alone.
        partition: Labels of the atoms of `crystal`; all 'host' for the host or the engine alone.
        engine: The quantum engine, or None for the host alone.
    """

    def __init__(self, study, unit, perfect, crystal, defect, partition, engine, log_dir=None):
        self.study: Study = study
        self.unit: Crystal = unit
        self.perfect: Crystal = perfect
        self.crystal: Crystal = crystal
        self.defect: Defect | None = defect
        self.potential = study.potential()
        self.partition: Partition = partition
        self.engine: Engine | None = engine
        self.log_dir = log_dir

    # --- life -------------------------------------------------------------------------------------------------

    def close(self):
        """Closes the engines."""
        if self.engine is not None:
            self.engine.close()
        if self.__dict__.get("perfect_engine") not in (None, self.engine):
            self.perfect_engine.close()
        if "classical" in self.__dict__:
            self.classical.close()

    # --- parts ------------------------------------------------------------------------------------------------

    @property
    def engine_alone(self) -> bool:
        """Whether the engine computes the whole periodic cell, without a host."""
        return self.potential is None

    @cached_property
    def cluster(self) -> Cluster | None:
        """The quantum cluster as the host sees it; None for the host or the engine alone, or if the recipe places it."""
        if not self._embedded or self.study.recipe_places_region:
            return None
        return self._carved(self.crystal, self.partition)

    @property
    def _embedded(self) -> bool:
        return self.engine is not None and self.potential is not None

    @property
    def bond_rules(self) -> BondRules:
        """Who is bonded."""
        return bond_rules(self.study, self.defect, self.crystal.species)

    @cached_property
    def classical(self) -> LammpsEngine:
        """The host's potential as an engine for clusters and unit cells; ValueError without a host."""
        self._require_host()
        return LammpsEngine(self.potential)

    @cached_property
    def perfect_engine(self) -> Engine | None:
        """The engine of the perfect crystal's cluster: another one where that has another charge."""
        if not is_additive(self.study) or self.study.coupling.charge == 0.0:
            return self.engine
        folder = None if self.log_dir is None else Path(self.log_dir)
        perfect = self.perfect, self.perfect_partition
        return _engine(self.study, *perfect, self.potential, 0.0, self.bond_rules, folder)

    @cached_property
    def matching(self):
        """Lattice matching of engine and host (a MatchingResult), or None where the study asks for none."""
        asked = self.study.matching
        if asked == "none" or not self._embedded:
            return None
        from solidqmmm.procedures.match import match_lattices, matched_from_values

        if asked == "auto":
            return match_lattices(self.unit, self.classical, self.engine)
        return matched_from_values(self.unit, self.classical, asked.lattice_parameter_A, asked.bulk_modulus_GPa)

    @property
    def energy_scale(self) -> float:
        """beta of the matching; 1 without."""
        return 1.0 if self.matching is None else self.matching.energy_scale

    @property
    def stretch(self) -> np.ndarray:
        """A of the matching, dimensionless, shape=(3, 3); 1 without."""
        return np.eye(3) if self.matching is None else self.matching.stretch

    @property
    def perfect_partition(self) -> Partition:
        """The partition of the crystal without the defect."""
        return self.partition if self.defect is None else self.defect.perfect_partition(self.partition)

    def _carved(self, crystal, partition, stretch=None) -> Cluster:
        return carve(
            crystal,
            partition,
            self.study.caps.rules(),
            bond_rules=self.bond_rules,
            periodic_axes=self.study.caps.periodic_axes,
            stretch=stretch,
            vacant=None if self.defect is None or crystal is self.perfect else self.defect.vacant_sites,
        )

    # --- couplings --------------------------------------------------------------------------------------------

    def coupling(self, crystal: Crystal | None = None, partition: Partition | None = None, engine: Engine | None = None):
        """The study's coupling on its crystal (or on another one with its own partition); None for host or engine alone.

        Args:
            crystal, partition: Another crystal and its labels, such as the perfect one; no dead load is applied there.
            engine: Another engine, such as a cheaper stand-in.
        """
        if not self._embedded:
            return None
        asked, own = self.study.coupling, crystal is None
        if own:
            crystal, partition = self.crystal, self.partition
        perfect = crystal is self.perfect and not own
        if engine is None:
            engine = self.perfect_engine if perfect else self.engine
        cluster = self._carved(crystal, partition, self.stretch)
        if is_additive(self.study):
            charge = 0.0 if perfect else asked.charge
            return additive_coupling(
                self.study, cluster, crystal, self.potential, engine, charge, self.bond_rules
            )
        if asked.scheme == "force_mixing":
            weights = smooth_weights(buffer_depth(cluster)) if asked.weights == "smooth" else None
            return ForceMixing(
                cluster, engine, weights=weights, energy_scale=self.energy_scale, net_force=asked.net_force
            )
        correction = Subtractive(
            cluster, engine, self.classical, energy_scale=self.energy_scale, classical_caps=asked.classical_caps
        )
        if own and asked.ghost_forces:
            self._require_perfect(partition)
            return correction.with_dead_load(self._dead_load(cluster))
        return correction

    @cached_property
    def perfect_contribution(self):
        """Host indices of the region in the perfect crystal, and what the coupling adds there, no atom displaced."""
        correction = self.coupling(self.perfect, self.perfect_partition)
        return correction.atoms, correction.evaluate(correction.reference, self.perfect.cell)

    def _require_perfect(self, partition):
        """Nothing, unless the only crystal there is has the defect in it: the dead load would be its quantum forces."""
        if self.defect is not None or len(self.unit) < len(self.perfect) or repeats_around(self.perfect, partition.quantum):
            return
        raise StructureError(
            "coupling.ghost_forces subtracts what the coupling does to the perfect crystal, and the structure that was "
            "given is none: around the quantum region it repeats nowhere, and the region's own forces would be taken away. "
            "Give the perfect crystal and the study's `defect`, or leave ghost_forces out"
        )

    def _dead_load(self, cluster: Cluster) -> np.ndarray:
        """Spurious forces of the perfect crystal on the atoms of `cluster`'s region, without net force, shape=(n, 3)."""
        atoms, given = self.perfect_contribution
        spurious = {int(atom): force for atom, force in zip(atoms, given.forces, strict=True)}
        mapped = cluster.region if self.defect is None else self.defect.to_perfect(cluster.region)
        load = np.array([spurious.get(int(atom), np.zeros(3)) for atom in mapped])
        return load - load.mean(axis=0)

    # --- live objects -----------------------------------------------------------------------------------------

    def _require_host(self):
        if self.engine_alone:
            raise ValueError(
                "this study has no host potential, so there is no hybrid crystal to open: its engine computes the whole "
                "cell (`model.engine.evaluate`); give the study `host` and `region` to embed the engine in a crystal"
            )

    def open(self, **options) -> QMMM:
        """The live hybrid crystal of the study; close it, or use it in a `with` statement. ValueError without a host."""
        self._require_host()
        return QMMM(self.crystal, self.potential, self.coupling(), partition=self.partition, **options)

    def open_perfect(self, **options) -> QMMM:
        """The live hybrid crystal without the defect, the same atoms quantum; ValueError without a host.

        Where the study corrects ghost forces, the dead load is subtracted here too: the ideal crystal is at rest.
        """
        self._require_host()
        partition = self.perfect_partition
        correction = self.coupling(self.perfect, partition)
        if correction is not None and getattr(self.study.coupling, "ghost_forces", False):
            spurious = self.perfect_contribution[1].forces
            correction = correction.with_dead_load(spurious - spurious.mean(axis=0))
        return QMMM(self.perfect, self.potential, correction, partition=partition, **options)

    def with_buffer(self, **buffer) -> Model:
        """The same model with another buffer: hops=n or radius=r (angstrom). The engine is shared."""
        region = self.study.region.model_copy(update={"buffer": _buffer(**buffer)})
        study = self.study.model_copy(update={"region": region})
        study.__pydantic_private__ = self.study.__pydantic_private__
        partition = select_partition(study, self.crystal, self.defect)
        partition = complete_partition(self.crystal, partition, study.caps.rules(), self.bond_rules)
        return Model(study, self.unit, self.perfect, self.crystal, self.defect, partition, self.engine, self.log_dir)

    def study_with_embedding(self, coupling, core: Selection | None = None) -> Study:
        """The study with another coupling section, and another core without buffer."""
        update = {"coupling": coupling}
        if core is not None:
            update["region"] = self.study.region.model_copy(update={"core": core, "buffer": None})
        study = self.study.model_copy(update=update)
        study.__pydantic_private__ = self.study.__pydantic_private__
        return study

    def with_embedding(self, coupling, core: Selection | None = None) -> Model:
        """The same crystal with another coupling section, and another core without buffer; an engine of its own.

        Raises:
            ValueError, RegionError: As `build_model`.
        """
        study = self.study_with_embedding(coupling, core)
        return _assembled(study, self.unit, self.perfect, self.crystal, self.defect, self.log_dir)

    # --- what a reader should know ----------------------------------------------------------------------------

    def warnings(self) -> list[str]:
        """What a reader of the results should know before believing them: a crystal under pressure from its own cell."""
        if self.engine_alone or len(self.unit) > _LARGEST_UNIT or not np.asarray(self.unit.pbc).all():
            return []
        if slab_axes(self.unit):  # a cell with vacuum has surface stress, and no lattice of its own
            return []
        pressure = pressure_GPa(self.unit, self.classical)
        if abs(pressure) < _NOTEWORTHY_PRESSURE_GPa:
            return []
        return [
            f"the given cell puts the host under a pressure of {pressure:+.2f} GPa: structure: {{lattice: host}} takes the "
            "host's own lattice"
        ]

    # --- provenance -------------------------------------------------------------------------------------------

    def references(self) -> list[str]:
        """Citation keys that a user of this model owes."""
        keys = [] if self.engine_alone else list(self.classical.describe()["references"])
        keys += ["larsen2017ase", "ong2013pymatgen", "matscipy2024"]
        if self.engine is not None:
            keys += self.engine.describe()["references"]
        if self._embedded:
            capped = self.study.caps.kind != "none" if self.cluster is None else len(self.cluster.caps) > 0
            keys += coupling_references(self.study.coupling, link_atoms=capped)
        return list(dict.fromkeys(keys))

    def checksums(self) -> dict[str, str]:
        """sha256 of the host's potential files by name."""
        return {} if self.potential is None else self.potential.checksums()


def _buffer(**buffer):
    from solidqmmm.system.study_sections import Buffer

    return Buffer(**buffer)


def buffer_depth(cluster: Cluster) -> np.ndarray:
    """How deep each quantum atom lies in the buffer as a fraction: 0 on the core, 1 at its outermost atoms,
    shape=(n_quantum,).
    """
    from scipy.spatial import cKDTree

    positions = cluster.reference[: cluster.n_quantum]
    distance, _ = cKDTree(positions[cluster.core]).query(positions)
    reach = distance.max()
    return distance / reach if reach > 0 else distance
