"""A cluster knows which of its sites atoms have left."""

from __future__ import annotations

import numpy as np
import pytest
from embedding_cases import QM, mapping, model_of, oxide

from solidqmmm import recipebook
from solidqmmm.errors import StudyError
from solidqmmm.procedures.build import build_model
from solidqmmm.procedures.carve import carve
from solidqmmm.system.caps import CapRules
from solidqmmm.system.study import Study
from solidqmmm.system.vacant_sites import VacantSites


def test_the_site_lies_amid_its_neighbours():
    with model_of() as model:
        cluster, perfect = model.cluster, model.coupling(model.perfect, model.perfect_partition).cluster
    atoms = cluster.to_atoms()
    sites = VacantSites.of(atoms)
    assert sites.numbers.tolist() == [8]
    np.testing.assert_allclose(sites.positions[0], atoms.positions.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(atoms.positions - sites.positions, axis=1), 2.1)
    assert len(VacantSites.of(perfect.to_atoms())) == 0


def test_the_site_follows_cell_and_matching_but_no_atom():
    with model_of() as model:
        crystal, partition, sites = model.crystal, model.partition, model.defect.vacant_sites
    A, F = np.diag([1.02, 1.0, 0.99]), np.eye(3) + 0.01 * np.arange(9).reshape(3, 3)
    cluster = carve(crystal, partition, CapRules(kind="none"), stretch=A, vacant=sites)
    strained = cluster.to_atoms(cluster.reference @ F, crystal.cell @ F)
    np.testing.assert_allclose(VacantSites.of(strained).positions[0], strained.positions.mean(axis=0), atol=1e-9)
    moved = cluster.reference.copy()
    moved[0] += 0.3
    there = VacantSites.of(cluster.to_atoms(moved)).positions
    np.testing.assert_array_equal(there, cluster.vacant.positions @ A + cluster.offset)


def test_a_site_across_the_cell_is_brought_home_and_a_far_one_left_out():
    with model_of() as model:
        crystal, partition, defect = model.crystal, model.partition, model.defect
    here = carve(crystal, partition, CapRules(kind="none"), vacant=defect.vacant_sites).vacant
    image = VacantSites([8], [defect.position + crystal.cell[0] - 2 * crystal.cell[2]])
    there = carve(crystal, partition, CapRules(kind="none"), vacant=image).vacant
    np.testing.assert_allclose(there.positions, here.positions, atol=1e-9)
    beyond = VacantSites([8], [np.add(defect.position, [6.3, 0, 0])])
    assert len(carve(crystal, partition, CapRules(kind="none"), vacant=beyond).vacant) == 0


def test_other_defects_leave_no_site():
    with model_of(defect={"kind": "substitution", "site": 1, "element": "Mg"}, charge=4.0) as model:
        assert len(VacantSites.of(model.cluster.to_atoms())) == 0


@pytest.mark.parametrize("engine", [QM, {"engine": "pyscf"}], ids=lambda qm: qm["engine"])
def test_engines_without_ghosts_refuse_them(engine):
    with pytest.raises(StudyError, match=r"qm\.ghost_basis: unknown key"):
        build_model(Study.from_mapping(mapping(qm={**engine, "ghost_basis": True}), schemas=recipebook.schemas()))


def test_an_engine_without_a_cluster_refuses_ghosts():
    pytest.importorskip("gpaw")
    asked = {
        "recipe": "charged_defect",
        "structure": oxide(),
        "defect": {"kind": "vacancy", "site": 1},
        "qm": {"engine": "gpaw", "ghost_basis": True},
        "charged": {"charge": 2, "dielectric": 3.0},
    }
    with pytest.raises(ValueError, match=r"qm\.ghost_basis: only the cluster of a `region`"):
        build_model(Study.from_mapping(asked, schemas=recipebook.schemas()))
