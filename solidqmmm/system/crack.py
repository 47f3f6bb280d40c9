"""A crack in a crystal: the oriented, cracked and loaded crystal with its tip, its held atoms and its far field."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase.units import GPa

from solidqmmm.physics.cracks import strip_fields
from solidqmmm.physics.cracks.crack_fields import CrackField, require_mode
from solidqmmm.physics.cracks.crack_lattice import CrackAxes
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.partition import FROZEN, HOST, Partition
from solidqmmm.system.unit_cell import symmetry_operations

KINDS = ("strip", "cylinder")


@dataclass(frozen=True)
class Load:
    """How strongly a crack is loaded, in every measure that its system has.

    Attributes:
        K_MPa_sqrt_m: Stress intensity of the mode.
        G_J_per_m2: Energy release rate.
        strain: Strain of the strip far ahead of the tip (eps_yy, or gamma_xy in mode II); None for a cylinder.
    """

    K_MPa_sqrt_m: float
    G_J_per_m2: float
    strain: float | None = None


@dataclass(frozen=True, eq=False)
class Cleavage:
    """A crack plane and front of a crystal, with what its host says of them.

    Attributes:
        axes: Axes and reduced cell.
        unit: The host's relaxed unit cell, in its own frame.
        elastic_tensor: C in the axes of the crack (Voigt), eV/angstrom^3, shape=(6, 6).
        surface_energy_J_per_m2: gamma of the plane with relaxed 1x1 surfaces, the mean of both sides of the cut.
        surface_energy_unrelaxed_J_per_m2: The same as cut.
        cut_height: Height of the cut above the lattice plane through the first atom of the unit cell, angstrom.
        cuts: What other cuts between the layers of the crystal would cost: a mapping for each, with its height, the width of
            the gap and both energies.
        ideal_strain, ideal_stress_GPa: Where the stress of the perfect crystal peaks when it is strained without a crack.
        cutoff: Range of the host's potential in angstrom.
        warnings: What a reader should know.
    """

    axes: CrackAxes
    unit: Crystal
    elastic_tensor: np.ndarray
    surface_energy_J_per_m2: float
    surface_energy_unrelaxed_J_per_m2: float
    cut_height: float
    cuts: tuple[dict, ...]
    ideal_strain: float
    ideal_stress_GPa: float
    cutoff: float
    warnings: tuple[str, ...] = ()

    @cached_property
    def field(self) -> CrackField:
        """The elastic field of a crack in this solid."""
        return CrackField(self.elastic_tensor)

    @property
    def griffith_G_J_per_m2(self) -> float:
        """G = 2 gamma: what two surfaces cost."""
        return 2.0 * self.surface_energy_J_per_m2

    def griffith_K(self, mode: str) -> float:
        """The stress intensity in MPa sqrt(m) of a mode at which G = 2 gamma."""
        return self.field.stress_intensity(self.griffith_G_J_per_m2, mode)

    @cached_property
    def symmetry(self) -> dict:
        """Space group, planes that symmetry makes of the crack plane and how those through the front are inclined to it,
        and whether the front is normal to a mirror (else in-plane and antiplane strain mix).
        """
        group, rotations = symmetry_operations(self.unit)
        images = {_without_sign(np.array(self.axes.plane) @ W) for W in rotations}
        images.discard(_without_sign(np.array(self.axes.plane)))
        normals = np.linalg.inv(self.unit.cell)
        through = []
        for image in sorted(images, reverse=True):
            if np.dot(image, self.axes.front) == 0:
                n = normals @ image
                cosine = abs(n @ self.axes.rotation[1]) / np.linalg.norm(n)
                through.append(
                    {"plane": list(image), "inclination_deg": float(np.degrees(np.arccos(min(1.0, cosine))))}
                )
        mixing = np.abs(self.elastic_tensor[np.ix_([3, 4], [0, 1, 2, 5])]).max()
        return {
            "space_group": group,
            "equivalent_planes": len(images) + 1,
            "equivalent_planes_through_front": through,
            "antiplane_strain_is_separate": bool(mixing < 1e-6 * np.abs(self.elastic_tensor).max()),
        }

    @property
    def elastic_tensor_GPa(self) -> np.ndarray:
        """C in the frame of the crystal's own cell, GPa, shape=(6, 6)."""
        from matscipy.elasticity import rotate_elastic_constants

        return rotate_elastic_constants(self.elastic_tensor, self.axes.rotation.T) / GPa


@dataclass(frozen=True, eq=False)
class CrackSystem:
    """A crack in a strip or a cylinder, periodic along its front (z); x is the direction of growth, y the plane's
    normal.

    Attributes:
        kind: 'strip' (its long edges are held and moved apart) or 'cylinder' (its rim follows the K-field).
        mode: 'I' or 'II'.
        perfect: The crystal without crack and load, in its cell with room around it, pbc (False, False, True).
        tip: x and y of the tip in angstrom, between the layers and between the bonds that the crack cuts, shape=(2,).
        held: Indices of the atoms that follow the far field and do not relax, shape=(m,).
        free_size: Of a strip, its height between the held edges; of a cylinder, its radius inside the rim; angstrom.
        cleavage: Crystal, plane, front, and what the host says of them.
        repeats: Number of periods along the front.
        slit: Number of lattice planes that are missing behind the tip, so that the flanks do not touch.

    Raises:
        ValueError: For an unknown kind or mode.
    """

    kind: str
    mode: str
    perfect: Crystal
    tip: np.ndarray
    held: np.ndarray
    free_size: float
    cleavage: Cleavage
    repeats: int = 1
    slit: int = 0

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"`kind` must be one of {', '.join(KINDS)}, got {self.kind!r}")
        require_mode(self.mode)
        for name, dtype in (("tip", float), ("held", int)):
            value = np.array(getattr(self, name), dtype=dtype)
            value.flags.writeable = False
            object.__setattr__(self, name, value)

    def __len__(self):
        return len(self.perfect)

    # --- loads ------------------------------------------------------------------------------------------------------

    @property
    def axes(self) -> CrackAxes:
        """Axes and reduced cell."""
        return self.cleavage.axes

    @cached_property
    def griffith(self) -> Load:
        """The load at which a crack releases what its surfaces cost."""
        return self.load(G=self.cleavage.griffith_G_J_per_m2)

    @cached_property
    def strip_moduli(self) -> strip_fields.StripModuli:
        """Moduli of the strip in this mode; the load takes `free`."""
        return strip_fields.moduli(self.cleavage.elastic_tensor, self.mode)

    def load(self, *, K: float | None = None, G: float | None = None, strain: float | None = None) -> Load:
        """The load of one measure in all of them: K in MPa sqrt(m), G in J/m^2, or the strain of a strip.

        Raises:
            ValueError: Unless exactly one is given, for a strain of a cylinder, or beyond the ideal strength.
        """
        given = {"K": K, "G": G, "strain": strain}
        given = {name: value for name, value in given.items() if value is not None}
        if len(given) != 1:
            raise ValueError(f"a load is one of K, G or strain, got {given or 'none'}")
        (name, value), field = next(iter(given.items())), self.cleavage.field
        if not np.isfinite(value) or value < 0:
            raise ValueError(f"the load {name} must be a number not below zero, got {value}")
        if name == "strain":
            if self.kind == "cylinder":
                raise ValueError("a cylinder is loaded by K or G; a strain is the load of a strip")
            G = strip_fields.energy_release_rate(strain, self.free_size, self.strip_moduli.free)
        elif name == "K":
            G = field.energy_release_rate(**{f"K_{self.mode}": K})
        if self.kind == "strip" and strain is None:
            strain = strip_fields.strain_for(G, self.free_size, self.strip_moduli.free)
        if K is None:
            K = field.stress_intensity(G, self.mode)
        load = Load(float(K), float(G), None if strain is None else float(strain))
        self._require_below_ideal_strength(load)
        return load

    def _require_below_ideal_strength(self, load: Load):
        """A strip must bear its strain, and a cylinder the stress at its rim, where it is still a K-field."""
        c = self.cleavage
        if self.kind == "strip":
            if load.strain >= c.ideal_strain:
                raise ValueError(
                    f"the load strains the strip by {load.strain:.4f}, beyond the ideal strength of the host, whose stress "
                    f"peaks at {c.ideal_strain:.4f} ({c.ideal_stress_GPa:.1f} GPa): it would tear everywhere. Give less "
                    "load, or a higher strip, which needs less strain for the same G"
                )
            return
        stress = c.field.stresses(self.free_size, 0.0, **{f"K_{self.mode}": load.K_MPa_sqrt_m})
        at_rim = stress[1 if self.mode == "I" else 5] / GPa
        if at_rim >= c.ideal_stress_GPa:
            raise ValueError(
                f"the load K = {load.K_MPa_sqrt_m:.3f} MPa sqrt(m) puts {at_rim:.1f} GPa on the rim, {self.free_size:.1f} A "
                f"ahead of the tip, beyond the ideal strength of the host ({c.ideal_stress_GPa:.1f} GPa): give less load, "
                "or a larger cylinder"
            )

    # --- the crystal ------------------------------------------------------------------------------------------------

    def far_field(self, load: Load, tip_x: float | None = None) -> np.ndarray:
        """Displacements of all atoms from `perfect` by elasticity, for a tip at `tip_x`; angstrom, shape=(n, 3)."""
        x = self.perfect.positions[:, 0] - (self.tip[0] if tip_x is None else tip_x)
        y = self.perfect.positions[:, 1] - self.tip[1]
        if self.kind == "strip":
            return strip_fields.displacements(x, y, load.strain, self.free_size, self.mode)
        return self.cleavage.field.displacements(x, y, **{f"K_{self.mode}": load.K_MPa_sqrt_m})

    def cracked(self, load: Load, tip_x: float | None = None) -> Crystal:
        """The crystal under load, displaced as elasticity has it: what a relaxation or dynamics starts from."""
        return self.perfect.with_positions(self.perfect.positions + self.far_field(load, tip_x))

    @property
    def partition(self) -> Partition:
        """All host, the held atoms frozen."""
        labels = np.full(len(self), HOST, dtype=np.int8)
        labels[self.held] = FROZEN
        return Partition(labels, np.array([*self.tip, self.perfect.cell[2, 2] / 2]))

    def room_ahead(self, x: float) -> float:
        """Distance in angstrom of a tip at x from the held atoms ahead (cylinder) or the end of the strip."""
        if self.kind == "cylinder":
            return float(self.tip[0] + self.free_size - x)
        return float(self.perfect.positions[:, 0].max() - x)

    def described(self) -> dict:
        """Cells, orientation and sizes in plain JSON, lengths in angstrom: what a result tells about its crack."""
        axes, cleavage = self.axes, self.cleavage
        return {
            "kind": self.kind,
            "mode": self.mode,
            "plane": list(axes.plane),
            "front": list(axes.front),
            "growth": None if axes.growth is None else list(axes.growth),
            "rotation": axes.rotation.tolist(),
            "reduced_cell_A": axes.cell.tolist(),
            "reduced_cell_indices": axes.indices.tolist(),
            "symmetry": cleavage.symmetry,
            "plane_spacing_A": axes.spacing,
            "front_period_A": axes.front_period,
            "growth_period_A": axes.growth_period,
            "front_repeats": self.repeats,
            "cut_height_A": cleavage.cut_height,
            "cuts": [dict(cut) for cut in cleavage.cuts],
            "removed_planes": self.slit,
            "n_atoms": len(self),
            "n_held": len(self.held),
            "tip_A": self.tip.tolist(),
            "free_height_A" if self.kind == "strip" else "free_radius_A": self.free_size,
            "cell_A": self.perfect.cell.tolist(),
            "ideal_strain": cleavage.ideal_strain,
            "ideal_stress_GPa": cleavage.ideal_stress_GPa,
        }


def _without_sign(plane) -> tuple[int, int, int]:
    """A plane and its other side are one."""
    plane = tuple(int(k) for k in plane)
    return max(plane, tuple(-k for k in plane))
