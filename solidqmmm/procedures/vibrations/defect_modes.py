"""Vibrations of a defect: the crystal at rest, its Hessian, and its modes by every method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matscipy.neighbours import neighbour_list

from solidqmmm.errors import RegionError, SolidQMMMError, StructureError
from solidqmmm.physics.algebra.sparse_solve import FACTORS_BELOW
from solidqmmm.physics.condensation import (
    PartitionedCrystal,
    clamped,
    full_modes,
    guyan_condensation,
    modes_near,
    static_condensation,
)
from solidqmmm.physics.dynamic_condensation import dynamic_modes
from solidqmmm.physics.geometry import unwrapped
from solidqmmm.physics.vibrations.localized_modes import Modes, squared_frequencies
from solidqmmm.procedures.building.neighbours import neighbour_shells
from solidqmmm.procedures.building.select import grown_by_hops
from solidqmmm.procedures.building.study_region import select_partition
from solidqmmm.procedures.elastic.strained_crystal import is_noise_free
from solidqmmm.procedures.elastic.symmetry_of import defect_operations
from solidqmmm.procedures.relax import rattled, settle
from solidqmmm.procedures.vibrations.hybrid_hessian import HybridHessian, hybrid_hessian
from solidqmmm.procedures.vibrations.mode_list import MARGIN
from solidqmmm.procedures.vibrations.phonopy_file import LARGEST
from solidqmmm.system.bonds import local_bonds

_LONGEST_BOND = 4.0  # angstrom
_SMALLEST_BIN = 1.0  # angstrom: the neighbour list's grid in a large crystal would take gigabytes with less
_HOST_FMAX = 1e-5  # eV/angstrom: the host's forces carry no noise


@dataclass(frozen=True, eq=False)
class CrystalAtRest:
    """The hybrid crystal at its minimum, and its Hessian there.

    Attributes:
        positions: In angstrom, shape=(n, 3).
        cell: Rows in angstrom, shape=(3, 3).
        max_force: Largest force there, eV/angstrom.
        hessian: The Hessian.
        rotations, permutations: Point operations that it has, shape=(m, 3, 3) and (m, n).
        n_qm_calls: Evaluations by the quantum engine before the Hessian.
    """

    positions: np.ndarray
    cell: np.ndarray
    max_force: float
    hessian: HybridHessian
    rotations: np.ndarray
    permutations: np.ndarray
    n_qm_calls: int


def crystal_at_rest(
    model,
    *,
    fmax: float,
    displacement: float,
    relax: bool = True,
    rattle: float = 0.0,
    folder=None,
    executor=None,
    progress: Callable | None = None,
) -> CrystalAtRest:
    """Relaxes a model's crystal at fixed cell and takes its Hessian.

    Args:
        model: A `procedures.build.Model` with a host.
        fmax: Largest force at the point of expansion, eV/angstrom; the host alone goes to 1e-5.
        displacement: Step of the quantum atoms, angstrom.
        rattle: Standard deviation of random displacements of the defect's neighbours before, angstrom.
        relax: Whether to relax; else a crystal with larger forces is refused.
        folder: Where the host's finished displacements are kept.
        executor: Any concurrent.futures executor, for the displacements of quantum atoms.
        progress: Called as progress(done, total, message).

    Raises:
        StructureError: If forces are above `fmax` and the crystal may not be relaxed.
        SolidQMMMError: If it does not relax.
        ValueError: If the displacement is more than a tenth of the shortest bond.
    """
    _require_small(displacement, model.crystal)
    with model.open() as qmmm:
        if rattle > 0:
            around = neighbour_shells(model.crystal, model.partition.centre, shells=1)
            qmmm.host.set_positions(rattled(model.crystal, around, rattle, model.study.seed))
        force = qmmm.largest_force()[0]
        if force > fmax and not relax:
            raise StructureError(
                f"the crystal is not at rest: the largest force is {force:.3g} eV/A, and frequencies need less than "
                f"{fmax:g} eV/A; set phonons: {{relax: true}}, or start from a relaxed structure"
            )
        if relax:
            force = settle(
                qmmm, fmax=fmax, target=min(fmax, _HOST_FMAX) if is_noise_free(model.engine) else None
            )
        if force > fmax:
            raise SolidQMMMError(
                f"the crystal did not relax: the largest force is {force:.3g} eV/A, asked for {fmax:g} eV/A; a looser "
                "phonons.fmax, a finer grid of the engine or a better start help"
            )
        calls = 0 if qmmm.coupling is None else qmmm.coupling.quantum.evaluations
        positions, cell = qmmm.host.positions(), qmmm.host.cell()
        rotations, permutations = defect_operations(model, positions, cell)
        hessian = hybrid_hessian(
            qmmm,
            displacement=displacement,
            rotations=rotations,
            permutations=permutations,
            folder=folder,
            study=model.study,
            workdir=model.log_dir,
            executor=executor,
            progress=progress,
        )
    return CrystalAtRest(positions, cell, force, hessian, rotations, permutations, calls)


def core_atoms(model) -> np.ndarray:
    """Indices of what is condensed on, shape=(q,).

    The quantum core; without `qm` the region's core; without both the defect and its neighbours.

    Raises:
        ValueError: If the study has neither region nor defect.
        RegionError: If the core is bonded to its own periodic image.
    """
    if model.partition.core.size:
        return model.partition.core
    core = _chosen_core(model)
    bonds = local_bonds(model.crystal, core, model.bond_rules).of(core)
    inside = np.isin(bonds.j, core)
    place = unwrapped(model.crystal.positions, model.partition.centre, model.crystal.cell, model.crystal.pbc)
    across = place[bonds.i[inside]] + bonds.vector[inside] - place[bonds.j[inside]]
    if np.any(np.abs(across) > 0.1):
        raise RegionError(
            f"region.core: the core ({len(core)} of {len(model.crystal)} atoms) is bonded to its own periodic image: what "
            "is condensed on must leave atoms between images; use a larger supercell or a smaller core"
        )
    return core


def _chosen_core(model) -> np.ndarray:
    crystal, defect = model.crystal, model.defect
    if model.study.region is not None:
        return select_partition(model.study, crystal, defect).core
    if defect is None:
        raise ValueError(
            "defect phonons need a `defect`, or a `region` whose core is condensed on; around an isotope on site 0 of a "
            "perfect crystal region: {core: {hops: 1}, centre: {site: 0}}"
        )
    if defect.kind == "vacancy":
        return np.sort(neighbour_shells(crystal, model.partition.centre, shells=1)[0])
    own = defect.atom(len(crystal))
    core = grown_by_hops(crystal, [own], 1, model.bond_rules)
    if len(core) == 1:  # bonded to nothing before it has relaxed
        core = np.append(neighbour_shells(crystal, model.partition.centre, shells=1, exclude=[own])[0], own)
    return np.sort(core)


def _require_small(displacement: float, crystal):
    """ValueError if a displacement is more than a tenth of the shortest bond."""
    reach = min(10 * displacement, _LONGEST_BOND)
    distances = neighbour_list(
        "d",
        positions=crystal.positions,
        cell=crystal.cell,
        pbc=crystal.pbc,
        cutoff=max(float(reach), _SMALLEST_BIN),
    )
    distances = distances[distances < reach]
    if len(distances):
        raise ValueError(
            f"phonons.displacement of {displacement:g} angstrom is more than a tenth of the shortest bond "
            f"({distances.min():.3f} angstrom): forces are not linear that far; 0.01 is usual"
        )


# --- modes --------------------------------------------------------------------------------------------------------


def windows(bands_THz) -> list[tuple[float, float | None]]:
    """Where modes outside the bands are sought: gaps, and above, in eV/(angstrom^2 amu); the last one has no upper end."""
    edges = squared_frequencies(np.sort(np.asarray(bands_THz), axis=0))
    gaps = [
        (high * (1 + MARGIN) ** 2, low * (1 - MARGIN) ** 2) for high, low in zip(edges[:-1, 1], edges[1:, 0])
    ]
    return [*((low, high) for low, high in gaps if low < high), (edges[-1, 1] * (1 + MARGIN) ** 2, None)]


def condensed_modes(crystal: PartitionedCrystal) -> dict[str, Modes]:
    """All modes of the core by 'clamped', 'static' and 'guyan', which share one solution for the environment."""
    static = static_condensation(crystal)
    return {
        "clamped": clamped(crystal).modes(),
        "static": static.modes(),
        "guyan": guyan_condensation(static).modes(),
    }


def modes_outside(method: str, crystal: PartitionedCrystal, bands_THz) -> Modes:
    """All modes outside the bands, exactly: 'dynamic' by condensation on the core, 'full' from the whole matrix.

    Args:
        method: 'dynamic' or 'full'.
        crystal: Force constants, masses and core.
        bands_THz: Of the perfect host, shape=(b, 2).

    Raises:
        ValueError: For another method.
    """
    if method not in ("dynamic", "full"):
        raise ValueError(f"`method` must be 'dynamic' or 'full', got {method!r}")
    find = dynamic_modes if method == "dynamic" else full_modes
    return joined([find(crystal, low, high) for low, high in windows(bands_THz)])


def with_band_modes(outside: Modes, crystal: PartitionedCrystal, bands_THz, *, count: int = 12) -> Modes:
    """All modes of a crystal of up to 300 atoms; of a larger one those outside the bands and the `count` highest others.

    Crystals of more than `FACTORS_BELOW` degrees of freedom have none added: their bands are dense.
    """
    n = crystal.K.shape[0]
    if n > FACTORS_BELOW:
        return outside
    if n <= 3 * LARGEST:
        return modes_near(crystal, 0.0, n)
    inside = modes_near(crystal, squared_frequencies(np.max(bands_THz)) * (1 - MARGIN) ** 2, count + len(outside))
    kept = np.ones(len(inside), dtype=bool)
    for low, high in windows(bands_THz):
        kept &= (inside.squared <= low) | (inside.squared >= (np.inf if high is None else high))
    return joined([outside, Modes(inside.squared[kept], inside.displacements[kept], inside.masses)])


def joined(several: list[Modes]) -> Modes:
    """Modes of one crystal in one list."""
    return Modes(
        np.concatenate([modes.squared for modes in several]),
        np.concatenate([modes.displacements for modes in several]),
        several[0].masses,
    )
