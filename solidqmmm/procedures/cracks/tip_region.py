"""A quantum region that moves: it follows a point such as a crack tip, and is carved anew only when its core changes.

    core  <-  (within r_in of the tip)  or  (in the core already, and within r_out)

The gap between the radii keeps atoms at the edge, which vibrate, from entering and leaving at every look (N. Bernstein,
J. R. Kermode and G. Csanyi, Rep. Prog. Phys. 72, 026501 (2009)). Around a point the core is a sphere; along a short
front, on which the cluster is periodic, a cylinder. The buffer is what lies within some bonds or within a distance of the
core.

Positions and velocities are not touched, so the kinetic energy is the same before and after. Forces jump, by what the
correction gives the atoms that enter or leave the core; smooth weights over the buffer (`coupling: {weights: smooth}`)
take them in little by little. A coupling with an energy jumps in energy as well, which the run says in its warnings.

The engine stays alive. Whether it can start from what it knows is its own affair: where the species, their number and the
cell are the same again GPAW starts from its last density, otherwise from atoms.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial import cKDTree

from solidqmmm.errors import RegionError
from solidqmmm.physics.geometry import unwrapped
from solidqmmm.procedures.build import Model
from solidqmmm.procedures.building.embed import is_additive
from solidqmmm.procedures.building.select import grown_by_hops
from solidqmmm.procedures.carve import complete_partition
from solidqmmm.system.bonds import BondRules
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.partition import BUFFER, CORE, FROZEN, HOST, Partition

SHAPES = ("sphere", "cylinder")
# Positions are kept this far beyond the buffer: rules for cut bonds look, and grow, outwards (angstrom).
_MARGIN = 15.0


class TipRegion:
    """Attendant of `run_dynamics` that keeps the quantum region where the tip is.

    Args:
        tip: Called with the positions of all atoms in angstrom, shape=(n, 3); gives the tip, shape=(3,), or None where
            there is none, and the region then stays where it is.
        make: Called with a crystal and labels; gives the correction and the labels that it has (see `coupled_by`).
        radius_in: Atoms within this distance of the tip enter the core, angstrom.
        radius_out: Atoms farther than this leave it, angstrom.
        buffer_hops: Bonds from the core to the edge of the buffer; or
        buffer_radius: distance from the core to it, angstrom.
        shape: "sphere", or "cylinder" along the cell vector `front`.
        front: Index of the cell vector along the front.
        bond_rules: Who is bonded.
        every: Steps between looks.
        name: Its name in checkpoints.

    Attributes:
        n_carved: How often the region was carved, the first time included.
        events: One mapping for each carving: step, time_ps, tip_A, n_core, n_quantum, entered, left.

    Raises:
        ValueError: For radii in the wrong order, an unknown shape, or not exactly one kind of buffer.
    """

    def __init__(
        self,
        tip: Callable,
        make: Callable,
        *,
        radius_in: float,
        radius_out: float,
        buffer_hops: int | None = None,
        buffer_radius: float | None = None,
        shape: str = "sphere",
        front: int = 2,
        bond_rules: BondRules | None = None,
        every: int = 10,
        name: str = "tip_region",
    ):
        if not 0 < radius_in <= radius_out:
            raise ValueError(
                "`radius_in` must be positive and `radius_out` no smaller (angstrom): atoms enter the core nearer to the "
                f"tip than they leave it, got {radius_in} and {radius_out}"
            )
        if (buffer_hops is None) == (buffer_radius is None):
            raise ValueError(
                "the buffer has either `buffer_hops` or `buffer_radius` (angstrom): give one of them"
            )
        if min(buffer_hops or 0, buffer_radius or 0) < 0:
            raise ValueError(f"the buffer must not be negative, got {buffer_hops or buffer_radius}")
        if shape not in SHAPES:
            raise ValueError(f"`shape` must be one of {SHAPES}, got {shape!r}")
        if every < 1 or front not in (0, 1, 2):
            raise ValueError(f"`every` must not be below 1, and `front` 0, 1 or 2, got {every} and {front}")
        self.tip, self.make = tip, make
        self.radius_in, self.radius_out = float(radius_in), float(radius_out)
        self.buffer_hops, self.buffer_radius = buffer_hops, buffer_radius
        self.shape, self.front, self.every, self.name = shape, front, int(every), name
        self.bond_rules = bond_rules or BondRules()
        self._crystal: Crystal | None = None
        self._held = self._core = np.zeros(0, dtype=bool)
        self._carved_of: dict = {}
        self._correction, self._kept = None, None
        self.n_carved, self.events = 0, []
        self._looks, self._n_quantum = [0, 0, 0, 0], 0

    # --- the region ---------------------------------------------------------------------------------------------

    def select(self, crystal: Crystal, *, frozen=()):
        """The region around the tip of `crystal`, from scratch: what a hybrid crystal is opened with.

        Args:
            crystal: The crystal at the start of the run, also of one that is resumed.
            frozen: Indices of atoms that never move.

        Returns:
            The correction and the labels.

        Raises:
            RegionError: Without a tip, without atoms near it, or if the region reaches frozen atoms or its own image.
        """
        self._crystal, self._kept = crystal, None
        self._held = np.zeros(len(crystal), dtype=bool)
        self._held[np.asarray(frozen, dtype=int)] = True
        self._core = np.zeros(len(crystal), dtype=bool)
        self.n_carved, self.events, self._looks = 0, [], [0, 0, 0, 0]
        tip = self.tip(crystal.positions)
        if tip is None:
            raise RegionError("there is no tip in this crystal, and so no place for the quantum region")
        distance = self._distances(crystal.positions, tip)
        made = self._carve(crystal.positions, tip, distance, self._core_at(distance))
        self._note(0, 0.0, tip, int(self._core.sum()), 0)
        self._look()
        return made

    @property
    def core(self) -> np.ndarray:
        """Indices of the core's atoms, ascending, shape=(n_core,)."""
        return np.flatnonzero(self._core)

    def counts(self) -> dict:
        """Smallest, mean and largest number of quantum atoms over the looks so far: min, mean, max; empty before."""
        n, total, least, most = self._looks
        return {"min": least, "mean": total / n, "max": most} if n else {}

    def _distances(self, positions, tip) -> np.ndarray:
        """Distances from the tip, or from the front through it, in angstrom, shape=(n,)."""
        offsets = self._flat(self._offsets(positions, tip))
        return np.sqrt(np.einsum("ij,ij->i", offsets, offsets))

    def _offsets(self, positions, tip) -> np.ndarray:
        return unwrapped(positions, tip, self._crystal.cell, self._crystal.pbc) - tip

    def _flat(self, offsets) -> np.ndarray:
        """Offsets without their part along the front, where the region is a cylinder."""
        if self.shape == "sphere":
            return offsets
        along = self._crystal.cell[self.front] / np.linalg.norm(self._crystal.cell[self.front])
        return offsets - np.outer(offsets @ along, along)

    def _core_at(self, distance) -> np.ndarray:
        """Who is core at these distances from the tip, shape=(n,).

        Raises:
            RegionError: If nobody is, or held atoms would be.
        """
        core = (distance <= self.radius_in) | (self._core & (distance <= self.radius_out))
        if not core.any():
            raise RegionError(
                f"no atom lies within radius_in = {self.radius_in} A of it (the nearest {distance.min():.2f} A away)"
            )
        if (core & self._held).any():
            raise RegionError(
                f"the core would contain {int((core & self._held).sum())} atom(s) that are held"
            )
        return core

    def _carve(self, positions, tip, distance, core):
        """Correction and labels of a core; positions are looked at, and kept, near the tip only."""
        bond = self.bond_rules.matrix(self._crystal.numbers).max()
        reach = self.radius_out + _MARGIN
        reach += self.buffer_radius if self.buffer_hops is None else self.buffer_hops * bond
        near = np.flatnonzero(distance <= reach)
        return self._carve_from(
            {"near": near, "where": positions[near], "core": np.flatnonzero(core), "tip": tip}
        )

    def _carve_from(self, known: dict):
        """The same from what was kept: atoms `near`, `where` they were, the `core` and the `tip`."""
        known = {name: np.array(value) for name, value in known.items()}
        positions = self._crystal.positions.copy()
        positions[known["near"]] = known["where"]
        crystal = self._crystal.with_positions(positions)
        labels = np.where(self._held, FROZEN, HOST).astype(np.int8)
        buffer = self._buffer(crystal, known["core"], known["tip"])
        labels[buffer] = np.where(self._held[buffer], FROZEN, BUFFER)
        labels[known["core"]] = CORE
        correction, partition = self.make(crystal, Partition(labels, known["tip"]))
        reached = self._held[buffer].sum() + self._held[partition.quantum].sum()
        if reached:
            raise RegionError(f"its buffer would contain {int(reached)} atom(s) that are held")
        self._correction, self._carved_of, self._n_quantum = correction, known, len(partition.quantum)
        self._core = partition.labels == CORE
        return correction, partition

    def _buffer(self, crystal: Crystal, core, tip) -> np.ndarray:
        """Atoms of the buffer, and of the core."""
        if self.buffer_hops is not None:
            return grown_by_hops(crystal, core, self.buffer_hops, self.bond_rules)
        points = self._flat(self._offsets(crystal.positions, tip))
        near = np.flatnonzero((np.abs(points) <= self.radius_out + self.buffer_radius).all(axis=1))
        distance, _ = cKDTree(points[core]).query(
            points[near], distance_upper_bound=self.buffer_radius + 1e-9
        )
        return near[distance <= self.buffer_radius]

    # --- the attendant ------------------------------------------------------------------------------------------

    def begin(self, run):
        """Takes the region up again where a run goes on.

        Raises:
            ValueError: If the crystal was not opened with what `select` gave.
        """
        if run.qmmm.coupling is not self._correction:
            raise ValueError(
                f"the crystal was not opened with the correction of the moving region '{self.name}': open it with what "
                "`select` gives"
            )
        warning = f"the energy jumps whenever the moving region '{self.name}' is carved anew"
        if run.has_energy and warning not in run.warnings:
            run.warnings.append(warning)
        if self._kept is not None and any(
            not np.array_equal(value, self._carved_of[name]) for name, value in self._kept.items()
        ):
            run.replace_correction(*self._carve_from(self._kept))

    def act(self, step: int, run):
        """Looks where the tip is; carves anew if the core changes, and ends the run where that cannot be."""
        positions = run.host.positions()
        tip = self.tip(positions)
        if tip is not None:
            distance = self._distances(positions, tip)
            old = self._core
            try:
                new = self._core_at(distance)
                if not np.array_equal(old, new):
                    run.replace_correction(*self._carve(positions, tip, distance, new))
                    self._note(step, run.time_ps, tip, int((new & ~old).sum()), int((old & ~new).sum()))
            except RegionError as error:
                where = np.round(np.asarray(tip, dtype=float), 2).tolist()
                run.stop(f"the quantum region cannot follow the tip to {where} A at step {step}: {error}")
        self._look()

    def _look(self):
        n, total, least, most = self._looks
        size = self._n_quantum
        self._looks = [n + 1, total + size, min(least, size) if n else size, max(most, size)]

    def _note(self, step, time_ps, tip, entered, left):
        self.n_carved += 1
        self.events.append(
            {
                "step": step, "time_ps": time_ps, "tip_A": [float(x) for x in tip], "n_core": int(self._core.sum()),
                "n_quantum": self._n_quantum, "entered": entered, "left": left,
            }
        )  # fmt: skip

    def state(self) -> dict:
        """What the region was carved from, and what is to be reported."""
        return {
            **self._carved_of,
            "n_carved": self.n_carved,
            "events": list(self.events),
            "looks": self._looks,
        }

    def restore(self, state: dict):
        """Takes up a `state`; `begin` follows."""
        state = dict(state)
        self.n_carved, self.events = state.pop("n_carved"), list(state.pop("events"))
        self._looks = list(state.pop("looks"))
        self._kept = state


def coupled_by(model: Model) -> Callable:
    """The `make` of a moving region from a model: its engine, its caps, its coupling.

    Raises:
        ValueError: For a model without a quantum engine in a host, with a coupling that takes the quantum atoms out of
            the host's own sums, or with a dead load, which belongs to a region that stays.
    """
    if model.engine is None or model.engine_alone:
        raise ValueError(
            "a moving quantum region needs both a host and a quantum engine: give `host` and `qm`"
        )
    if is_additive(model.study):
        raise ValueError(
            f"a region cannot move with the coupling '{model.study.coupling.scheme}', which takes the quantum atoms out of "
            "the host's own sums: choose force_mixing or subtractive"
        )
    if getattr(model.study.coupling, "ghost_forces", False):
        raise ValueError(
            "a dead load against ghost forces belongs to a region that stays: leave `ghost_forces` out"
        )

    def make(crystal: Crystal, partition: Partition):
        partition = complete_partition(crystal, partition, model.study.caps.rules(), model.bond_rules)
        return model.coupling(crystal, partition), partition

    return make


def place_of(tracker, z: float) -> Callable:
    """The `tip` of a moving region from a tracker with `find(positions) -> CrackTip | None`, at height `z` of the
    front.
    """

    def tip(positions):
        found = tracker.find(positions)
        return None if found is None else np.array([found.x, found.y, z])

    return tip
