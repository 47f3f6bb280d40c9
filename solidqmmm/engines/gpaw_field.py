"""GPAW in the field of external charges: what may be asked, how GPAW is told, what comes back.

The field is part of the self-consistency (`gpaw_field_extension`); sites and grids meet in `gpaw_field_grid`, repulsive
cores in `gpaw_field_cores`. Mg20O20 among 10,000 ions (LCAO dzp, h = 0.2 angstrom, one core): 5 s per SCF iteration;
the ions cost 1.4 s for a new box, 0.4 s for new positions, nothing per iteration and 0.6 s at the end, with errors of
the potential below 2e-5 V where the electrons are. With a response they cost 0.9 s per iteration.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from scipy.spatial import cKDTree

from solidqmmm.engines.gpaw_checks import require_sound
from solidqmmm.engines.gpaw_ghosts import without_ghosts
from solidqmmm.engines.protocols import FieldResponse
from solidqmmm.system.point_charges import PointCharges, RepulsiveCores

NEAREST = 0.5  # angstrom
_NEUTRAL = 1e-6  # e


@dataclass(frozen=True, eq=False)
class ExternalField:
    """What acts on the electrons from outside."""

    charges: PointCharges
    response: FieldResponse | None = None
    cores: RepulsiveCores | None = None

    def same_as(self, other: ExternalField | None) -> bool:
        """Whether nothing needs to be computed again; a response may always have changed."""
        return (
            other is not None
            and self.response is None
            and other.response is None
            and _equal(self.charges, other.charges, ("positions", "charges", "widths"))
            and _equal(self.cores, other.cores, ("positions", "heights", "widths"))
        )


class FieldSource:
    """Where a GPAW calculation finds the field of the current call; it outlives calls, as warm starts do.

    Attributes:
        field: The field, or None.
        extension: The extension of the last calculation that was set up with a field.
        map: The map between sites and grid that it uses (`gpaw_field_grid.site_map`); it outlives calculations.
    """

    def __init__(self):
        self.field = None
        self.extension = None
        self.map = None
        self._calc = None
        self._computed = None

    def assign(self, field: ExternalField | None):
        """The field from now on; an equal one keeps what has been computed for it."""
        if field is not None and field.same_as(self.field):
            field = self.field
        self.field = field

    def added_to(self, keywords: dict) -> dict:
        """GPAW's keywords for a calculation that feels the field, if there is one: no symmetry but time reversal."""
        if self.field is None:
            return keywords
        from solidqmmm.engines.gpaw_field_extension import EmbeddingInput

        keywords = dict(keywords)
        solver = keywords.pop("poissonsolver", {})
        embedding = EmbeddingInput(self, dict(solver) if isinstance(solver, dict) else {"name": solver})
        keywords["extensions"] = [*keywords.get("extensions", ()), embedding]
        keywords["symmetry"] = {"point_group": False}
        return keywords

    def fits(self, calc, atoms: Atoms) -> bool:
        """Whether `calc` may go on in the field: it must have been set up for one, or its symmetry for none."""
        embedded = any(extension.name == "embedding" for extension in calc.params.extensions)
        return embedded if self.field is not None else not (embedded and atoms.pbc.all())

    def forget(self):
        """Lets go of the last calculation."""
        self.extension = self._calc = self._computed = None

    def refresh(self, calc, atoms: Atoms):
        """Makes `calc` compute again where the field has changed and the atoms have not (GPAW looks at atoms only)."""
        changed = self.field is not self._computed or (
            self.field is not None and self.field.response is not None
        )
        if changed and calc is self._calc and np.array_equal(calc.atoms.positions, atoms.positions):
            calc.dft.move_atoms(atoms.copy())
        self._calc, self._computed = calc, self.field

    def found(self, density) -> tuple[dict, dict]:
        """What `FieldEvaluation` has beyond `Evaluation`, and what goes into its info; both empty without a field.

        Args:
            density: GPAW's converged density.
        """
        field, extension = self.field, self.extension
        if field is None:
            return {}, {}
        potentials, fields, gradients = extension.at_sites()
        charges, forces, induced = field.charges.charges, 0.0, extension.induced
        if induced is not None:
            charges = charges + induced.charges
            forces = np.einsum("jb,jba->ja", induced.dipoles, gradients)
        return {
            "charge_forces": charges[:, None] * fields + forces,
            "potentials": potentials,
            "fields": fields,
            "field_gradients": gradients,
            "core_forces": extension.on_cores(density),
            "induced": induced,
            "spill_out": extension.spilt(density),
        }, {"embedding": extension.facts()}


def require_possible(atoms: Atoms, field: ExternalField, charge: float):
    """Refuses sites on nuclei, cells that are periodic in some directions only, and periodic cells with a net charge.

    Args:
        atoms: The quantum region.
        field: What acts on it.
        charge: Charge of the quantum region in e.

    Raises:
        ValueError: Naming the site and the nucleus, or the sums.
    """
    require_sound(atoms)
    if atoms.pbc.any() and not atoms.pbc.all():
        raise ValueError(
            f"GPAW feels external charges around isolated atoms or in cells that are periodic in all directions, got pbc "
            f"{atoms.pbc.tolist()}: make the slab's vacuum periodic"
        )
    if atoms.pbc.all() and len(field.charges) and abs(field.charges.total + charge) > _NEUTRAL:
        raise ValueError(
            f"a periodic cell must be neutral: the external charges sum to {field.charges.total:+.6g} e, the quantum "
            f"region has {charge:+.6g} e"
        )
    for label, positions in (
        ("external charge", field.charges.positions),
        ("repulsive core", np.empty((0, 3)) if field.cores is None else field.cores.positions),
    ):
        if len(positions) == 0:
            continue
        nuclei, owner = _images(without_ghosts(atoms))
        if atoms.pbc.all():
            positions = atoms.cell.cartesian_positions(atoms.cell.scaled_positions(positions) % 1.0)
        distances, nearest = cKDTree(nuclei).query(positions)
        j = int(np.argmin(distances))
        if distances[j] < NEAREST:
            i = int(owner[nearest[j]])
            raise ValueError(
                f"{label} {j} is {distances[j]:.3f} A from the nucleus of atom {i} ({atoms.symbols[i]}), closer than "
                f"{NEAREST} A: the atom's own site was not taken out, or the structure is wrong"
            )


def _images(atoms: Atoms):
    """Nuclei in and around the cell, and which atoms they are."""
    owner = np.arange(len(atoms))
    if not atoms.pbc.all():
        return atoms.positions, owner
    inside = atoms.cell.scaled_positions(atoms.positions) % 1.0
    shifts = np.stack(np.meshgrid(*[(-1, 0, 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    return atoms.cell.cartesian_positions((inside + shifts).reshape(-1, 3)), np.tile(owner, 27)


def _equal(a, b, names) -> bool:
    if a is None or b is None:
        return a is b
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in names)
