"""What a host says of a crack plane: elastic constants, the cost of its surfaces, and how much stress the crystal bears."""

from __future__ import annotations

import logging
from copy import copy
from pathlib import Path

import numpy as np
from ase.units import GPa

from solidqmmm.coupling.qmmm import QMMM
from solidqmmm.engines.lammps_host import LammpsHost
from solidqmmm.physics.cracks.crack_fields import J_per_m2, require_mode
from solidqmmm.physics.cracks.crack_lattice import CrackAxes, crack_axes, layers
from solidqmmm.physics.elastic.ideal_strength import first_peak
from solidqmmm.procedures.elastic.crystal_elasticity import elasticity_of
from solidqmmm.procedures.elastic.strained_crystal import HybridCrystal
from solidqmmm.system.crack import Cleavage
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.partition import Partition
from solidqmmm.system.unit_cell import primitive_cell

logger = logging.getLogger(__name__)

_SLAB = 30.0  # angstrom, beside twice the range of the potential
_SKIN = 2.0  # angstrom that LAMMPS adds to the range of a potential
_MOST_CUTS = 8
_SAME_LAYER = 0.05  # angstrom
_STRAIN_STEP, _LARGEST_STRAIN = 0.01, 1.0
_NOTEWORTHY_STRETCH = 1e-3


def cleavage_of(
    model, plane, front, *, mode: str = "I", cut: int = 0, folder=None, progress=None
) -> Cleavage:
    """Elastic constants, surface energy and ideal strength of the host of a model, for one crack plane and front.

    The lattice is relaxed first. Each cut between two layers of the crystal is tried as a slab of whole primitive cells, so
    that in a compound gamma is the mean of the two terminations that the cut leaves.

    Args:
        model: A `procedures.build.Model` with a host; its unit cell is the one in which Miller indices count.
        plane, front: (hkl) or (hkil), [uvw] or [uvtw].
        mode: 'I' or 'II': how the perfect crystal is strained to its ideal strength.
        cut: Which cut, counted from the cheapest; 0 in silicon (111) is the shuffle set.
        folder: Where the deformations of the elastic constants are saved, or None.
        progress: Called as progress(done, total, message).

    Raises:
        ValueError: For indices that are none, a front that is not in the plane, or a cut that does not exist; for a model
            without a host.
        SolidQMMMError: If the host's lattice or a surface does not relax.
    """
    require_mode(mode)
    alone = host_alone(model)
    crack_axes(alone.unit.cell, primitive_cell(alone.unit).cell, plane, front)  # wrong indices cost nothing
    report = progress or (lambda *_: None)
    report(0, None, "elastic constants of the host")
    found = elasticity_of(alone, "perfect", folder=None if folder is None else Path(folder) / "elastic")
    unit = alone.unit.with_positions(found.reference.positions, found.reference.cell)
    primitive = primitive_cell(unit)
    axes = crack_axes(unit.cell, primitive.cell, plane, front)
    report(0, None, "surface energies")
    cuts, cutoff = surface_energies(primitive, model.potential, axes)
    if not 0 <= cut < len(cuts):
        raise ValueError(f"`cut` counts the {len(cuts)} cut(s) of this plane from 0, the cheapest; got {cut}")
    report(0, None, "ideal strength")
    strain, stress = ideal_strength(primitive, model.potential, axes, mode)
    from matscipy.elasticity import rotate_elastic_constants

    stretch = np.abs(np.linalg.eigvalsh(found.reference.deformation) - 1).max()
    warnings = [text for text in found.warnings if "cell of the study" not in text]
    if stretch > _NOTEWORTHY_STRETCH:
        warnings.append(
            f"the crack is in the host's own relaxed lattice, whose lengths differ by up to {100 * stretch:.2f} % from the "
            "structure of the study"
        )
    sides = terminations(primitive, axes, cuts[cut]["height_A"])
    if sides[0] != sides[1]:
        warnings.append(
            f"the cut leaves two different surfaces ({' '.join(sides[0])} below it, {' '.join(sides[1])} above): the "
            "surface energy is the mean of both"
        )
    return Cleavage(
        axes=axes,
        unit=unit,
        elastic_tensor=rotate_elastic_constants(found.tensor, axes.rotation),
        surface_energy_J_per_m2=cuts[cut]["relaxed_J_per_m2"],
        surface_energy_unrelaxed_J_per_m2=cuts[cut]["unrelaxed_J_per_m2"],
        cut_height=cuts[cut]["height_A"],
        cuts=tuple(cuts),
        ideal_strain=strain,
        ideal_stress_GPa=stress / GPa,
        cutoff=cutoff,
        warnings=tuple(warnings),
    )


def host_alone(model):
    """The model of the host's perfect unit cell, without defect, region and engine.

    Raises:
        ValueError: If the model has no host.
    """
    if model.engine_alone:
        raise ValueError(
            "a crack needs a host that carries the elastic field: give the study a `host` potential"
        )
    changed = {"qm": None, "region": None, "defect": None, "supercell": (1, 1, 1)}
    study = model.study.model_copy(update=changed)
    study.__pydantic_private__ = copy(model.study.__pydantic_private__)
    unit = model.unit
    return type(model)(study, unit, unit, unit, None, Partition(np.zeros(len(unit), dtype=np.int8)), None)


# --- surfaces -----------------------------------------------------------------------------------------------------


def surface_energies(primitive: Crystal, potential, axes: CrackAxes) -> tuple[list[dict], float]:
    """What each cut between two layers costs, cheapest (relaxed) first, and the range of the potential in angstrom.

    Returns:
        Mappings with `height_A` of the cut above the plane of the first atom, `gap_A` between the layers,
        `unrelaxed_J_per_m2` and `relaxed_J_per_m2`.
    """
    basis = primitive.positions @ axes.rotation.T
    heights = basis[:, 1] - basis[0, 1]
    middles, widths = layers(heights, axes.spacing)
    chosen = np.argsort(-widths)[:_MOST_CUTS]
    with LammpsHost(primitive, potential) as host:
        bulk_energy = host.energy()
        cutoff = host.session.neighbour_cutoff() - _SKIN
    found = []
    for middle, width in zip(middles[chosen], widths[chosen]):
        unrelaxed, relaxed = _slab_energies(primitive, potential, axes, middle, bulk_energy, cutoff)
        found.append(
            {
                "height_A": float(middle),
                "gap_A": float(width),
                "unrelaxed_J_per_m2": unrelaxed,
                "relaxed_J_per_m2": relaxed,
            }
        )
    return sorted(found, key=lambda one: one["relaxed_J_per_m2"]), cutoff


def terminations(
    primitive: Crystal, axes: CrackAxes, cut_height: float
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Elements of the layers below and above a cut, in alphabetic order."""
    basis = primitive.positions @ axes.rotation.T
    above = (basis[:, 1] - basis[0, 1] - cut_height) % axes.spacing
    symbols = np.array(primitive.symbols)
    near = above < above.min() + _SAME_LAYER, above > above.max() - _SAME_LAYER
    upper, lower = (tuple(sorted(set(symbols[one].tolist()))) for one in near)
    return lower, upper


def slab(primitive: Crystal, axes: CrackAxes, cut_height: float, planes: int, vacuum: float) -> Crystal:
    """A 1x1 slab of whole primitive cells between two cuts at the same height, in the axes of the crack.

    Args:
        primitive: One primitive cell in the frame of the crystal.
        axes: Plane and front.
        cut_height: Above the plane of the first atom, angstrom.
        planes: Number of lattice planes.
        vacuum: Between the slab and its image, angstrom.
    """
    a, b, c = axes.cell
    basis = primitive.positions @ axes.rotation.T
    heights = basis[:, 1] - basis[0, 1] - cut_height
    basis = basis - np.floor(heights / axes.spacing + 1e-9)[:, None] * b
    positions = (basis + np.arange(planes)[:, None, None] * b).reshape(-1, 3)
    positions[:, 1] -= positions[:, 1].min()
    cell = np.array([a, [0.0, planes * axes.spacing + vacuum, 0.0], c])
    return Crystal(np.tile(primitive.numbers, planes), positions, cell)


def _slab_energies(primitive, potential, axes, cut_height, bulk_energy, cutoff) -> tuple[float, float]:
    planes = int(np.ceil((_SLAB + 2 * cutoff) / axes.spacing))
    crystal = slab(primitive, axes, cut_height, planes, vacuum=_SLAB + cutoff)
    area = np.linalg.norm(np.cross(axes.cell[0], axes.cell[2]))

    def gamma(energy):
        return float((energy - planes * bulk_energy) / (2 * area) / J_per_m2)

    with QMMM(crystal, potential) as qmmm:
        unrelaxed = gamma(qmmm.energy())
        qmmm.host.minimize(fmax=1e-4)
        return unrelaxed, gamma(qmmm.energy())


# --- ideal strength -----------------------------------------------------------------------------------------------


def ideal_strength(primitive: Crystal, potential, axes: CrackAxes, mode: str = "I") -> tuple[float, float]:
    """Strain at which the stress of the perfect crystal peaks, and that stress in eV/angstrom^3.

    Mode I: uniaxial strain along the normal of the plane; mode II: simple shear of the plane along x. Ions relax at each
    strain in one primitive cell, so that the crystal stays a lattice.
    """
    x, y, _ = axes.rotation
    along = y if require_mode(mode) == "I" else x
    strains, stresses = [0.0], [0.0]
    with HybridCrystal(QMMM(primitive, potential), tightens=True) as crystal:
        positions, F = primitive.positions, np.eye(3)
        for strain in np.arange(_STRAIN_STEP, _LARGEST_STRAIN + 1e-9, _STRAIN_STEP):
            before, F = F, np.eye(3) + strain * np.outer(along, y)
            D = F @ np.linalg.inv(before)
            crystal.place(positions @ D.T, primitive.cell @ F.T)
            crystal.relax(1e-2, 1e-3)
            positions = crystal.positions()
            strains.append(float(strain))
            stresses.append(float(along @ crystal.stress() @ y))
            if (peak := first_peak(strains, stresses)) is not None:
                return peak
    return strains[-1], max(stresses)
