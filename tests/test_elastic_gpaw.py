"""Elastic constants by GPAW alone, from a study without a host."""

import numpy as np
import pytest

pytest.importorskip("gpaw")

from ase.build import bulk

from solidqmmm import recipebook
from solidqmmm.procedures.build import build_model
from solidqmmm.system.study import Study


def constants(tmp_path, *, ecut, mesh, amplitudes):
    study = Study.from_mapping(
        {
            "recipe": "elastic_tensor",
            "structure": bulk("Si", "diamond", a=5.475),
            "qm": {"engine": "gpaw", "mode": "pw", "ecut": ecut, "xc": "PBE", "kpts": mesh},
            "elastic": {"amplitudes": amplitudes, "fmax": 0.005},
        },
        schemas=recipebook.schemas(),
    )
    with build_model(study, log_dir=tmp_path) as model:
        return recipebook.find("elastic_tensor").run(model=model, workdir=tmp_path, **study.options)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_silicon_is_as_published(tmp_path):
    """C11, C12, C44 of PBE silicon: 153.1, 57.0, 74.3 GPa (npj Comput. Mater. 10, 218 (2024), table 2); 5 %."""
    result = constants(tmp_path, ecut=300, mesh=[6, 6, 6], amplitudes=[0.01])
    C = result.elastic_tensor_GPa
    np.testing.assert_allclose([C[0, 0], C[0, 1], C[3, 3]], [153.1, 57.0, 74.3], rtol=0.05)
    assert result.elastic_tensor_clamped_GPa[3, 3] > 1.2 * C[3, 3]  # the sublattices slide
    assert result.cell_A[0, 1] == pytest.approx(5.475 / 2, rel=3e-3)
    assert result.engine.startswith("gpaw")
    assert not any("plane waves" in text for text in result.warnings)


def test_too_few_plane_waves_are_told(tmp_path):
    """Magnesia at 350 eV: its basis pretends a tension of more than 10 GPa. Only the reference is computed."""
    from solidqmmm.procedures.elastic.crystal_elasticity import elasticity_of

    study = Study.from_mapping(
        {
            "recipe": "elastic_tensor",
            "structure": bulk("MgO", "rocksalt", a=4.25),
            "qm": {"engine": "gpaw", "mode": "pw", "ecut": 350, "xc": "PBE", "kpts": [2, 2, 2]},
        },
        schemas=recipebook.schemas(),
    )
    with build_model(study, log_dir=tmp_path) as model:
        found = elasticity_of(model, "defect", amplitudes=(0.01,), relax_cell=False, folder=tmp_path, fmax=0.01)
    assert any("Pulay stress" in text for text in found.warnings)
