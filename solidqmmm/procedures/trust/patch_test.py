"""Patch test: the forces that a coupling makes in the perfect crystal, where it should make none.

In the perfect crystal under a uniform strain every atom of the core should feel what the engine's own crystal gives under
that strain, every host atom what the host's gives, and a buffer atom the mixture w that the coupling means it to feel (w = 1
on all quantum atoms of an energy-based coupling). With Delta F the coupling's force,

    spurious_i = Delta F_i(eps) - w_i g_i(eps),    g = F_engine - F_host,

and for a coupling with a dead load F0, which declares the crystal at rest to be in equilibrium,

    spurious_i = Delta F_i(eps) - F0_i - w_i [g_i(eps) - g_i(0)],

g taken from the two pure periodic crystals. A strain that leaves every site without a preferred direction makes both pure
forces zero by symmetry, and then no engine call is spent on g. The strain is therefore the most searching of

    a general one  >  one along x, y, z with three different values  >  a hydrostatic one

for which that holds (fcc, bcc and rocksalt: the first; diamond and zincblende along the cubic axes: the second). Where it
holds for none (free internal coordinates, as in wurtzite or quartz) the general strain is used, and g is computed.
All of these contain a change of volume. Source: M. Dobson and M. Luskin, ESAIM: M2AN 42, 113 (2008), who ask this of coupled
atomistic and continuum models.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

from solidqmmm.coupling.qmmm import QMMM
from solidqmmm.engines.unit_cell_engine import for_unit_cell
from solidqmmm.procedures.build import Model
from solidqmmm.results.boundary import PatchTest
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.partition import FROZEN, LABELS

# Largest component 1.
STRAINS = {
    "general": np.array([[1.0, 0.5, -0.3], [0.5, -0.7, 0.4], [-0.3, 0.4, 0.6]]),
    "diagonal": np.diag([1.0, -0.7, 0.6]),
    "hydrostatic": np.eye(3),
}
# Symmetry is looked for under this much strain, so that the noise of a structure file does not hide or feign it.
_VISIBLE_STRAIN = 0.03


def patch_test(
    model: Model, *, strain: float, threshold: float, progress: Callable[[str], None]
) -> PatchTest:
    """Spurious forces in the perfect crystal of `model`, at rest and strained.

    Atoms on which the coupling does not act have none by construction and are left out of the averages: "host" means the
    partners of cut bonds. Frozen atoms are left out too.

    Args:
        model: A model with a quantum region.
        strain: Largest component of the strain.
        threshold: What the largest force is held against, eV/angstrom.
        progress: Called with a message after each engine call.
    """
    kind, vanishing = searching_strain(model.unit)
    partition = model.perfect_partition
    correction = model.coupling(model.perfect, partition)
    atoms, middle = correction.atoms, correction.reference.mean(axis=0)
    share = np.zeros(len(atoms))
    share[: correction.cluster.n_quantum] = getattr(correction, "weights", 1.0)
    keeps_dead_load = bool(getattr(model.study.coupling, "ghost_forces", False))

    found, rest = [], 0.0
    for deformation in (np.eye(3), np.eye(3) + strain * STRAINS[kind]):
        crystal = model.perfect.strained(deformation)
        with QMMM(crystal, model.potential) as host:
            host_forces = host.forces()[atoms]
        # About the middle of the region: a shift against an engine's grid is no matter of the boundary.
        strained = middle + (correction.reference - middle) @ deformation.T
        given = correction.evaluate(strained, crystal.cell, host_forces).forces
        progress("patch test")
        physical = np.zeros_like(given)
        if not vanishing:
            physical = share[:, None] * (bulk_forces(model, deformation)[atoms] - host_forces)
            progress("patch test: the engine's own crystal")
        spurious = given - physical
        if keeps_dead_load and not found:
            # F0 is what the perfect crystal feels at rest, without its net force (as `Model` makes it).
            rest = given - given.mean(axis=0) - physical
        found.append(spurious - rest)

    labels = partition.labels[atoms]
    return PatchTest(
        max_unstrained_eV_per_A=_largest(found[0], labels),
        max_strained_eV_per_A=_largest(found[1], labels),
        strain=strain * STRAINS[kind],
        rms_unstrained_eV_per_A=_rms_by_label(found[0], labels),
        rms_strained_eV_per_A=_rms_by_label(found[1], labels),
        threshold_eV_per_A=threshold,
    )


def searching_strain(unit: Crystal) -> tuple[str, bool]:
    """Name of the strain in `STRAINS` to test the cell `unit` with, and whether symmetry forbids forces under it."""
    for kind, direction in STRAINS.items():
        if forces_vanish_by_symmetry(unit.strained(np.eye(3) + _VISIBLE_STRAIN * direction)):
            return kind, True
    return "general", False


def forces_vanish_by_symmetry(unit: Crystal, *, symprec: float = 1e-3) -> bool:
    """Whether symmetry forbids a force on every atom: no direction is left unchanged by all operations of its site.

    The projector on the vectors that a site allows is the mean of the rotations that leave the atom where it is.

    Args:
        unit: The cell; one that is not periodic everywhere allows forces.
        symprec: Distance within which atoms count as symmetric, angstrom.
    """
    if not np.asarray(unit.pbc).all():
        return False
    import spglib

    s = unit.positions @ np.linalg.inv(unit.cell)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # spglib announces another way of saying "none found"
        found = spglib.get_symmetry_dataset((unit.cell, s, unit.numbers), symprec=symprec)
    if found is None:
        return False
    moved = np.einsum("oij,nj->oni", found.rotations, s) + found.translations[:, None] - s
    moved = (moved - np.rint(moved)) @ unit.cell
    stays = (np.linalg.norm(moved, axis=2) < 5 * symprec).astype(float)
    projector = np.einsum("on,oij->nij", stays, found.rotations) / stays.sum(axis=0)[:, None, None]
    return bool(np.abs(projector).max() < 1e-6)


def bulk_forces(model: Model, deformation) -> np.ndarray:
    """Forces of the engine's own periodic crystal, as the host sees them, on every atom of the perfect supercell.

    Args:
        model: The model; its lattice matching (A, beta) is applied: beta F_engine(x A) A^T.
        deformation: x -> F x, shape=(3, 3).

    Returns:
        Forces in eV/angstrom, shape=(n, 3).
    """
    A, unit = model.stretch, model.unit
    at_rest, strained = (
        Crystal(unit.numbers, unit.positions @ F.T @ A, unit.cell @ F.T @ A, unit.pbc).to_atoms()
        for F in (np.eye(3), np.asarray(deformation))
    )
    engine = for_unit_cell(model.engine, at_rest)
    forces = model.energy_scale * engine.evaluate(strained).forces @ A.T
    return np.tile(forces, (len(model.perfect) // len(unit), 1))


def _largest(forces, labels) -> float:
    return float(np.linalg.norm(forces[labels != FROZEN], axis=1).max(initial=0.0))


def _rms_by_label(forces, labels) -> dict[str, float]:
    return {
        name: float(np.sqrt((forces[labels == label] ** 2).sum(axis=1).mean()))
        for label, name in enumerate(LABELS)
        if label != FROZEN and (labels == label).any()
    }
