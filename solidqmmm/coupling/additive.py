"""Additive coupling of an ionic host: every pair interaction is counted once, by one description.

    E = E_host(no charges on quantum atoms, no pairs among them) + E_QM[rho; phi] + E_pol - E_images

The host gives ions with ions, pairs and lattice sums, and the short-ranged pair terms between ions and quantum atoms; the
engine gives the quantum atoms, and their charge density in the potential phi of the infinite crystal (see `surroundings`).
E_images is the energy of the cluster's classical charges with their own images, half of which phi would count twice.

- ``mechanical``: the density does not feel the crystal; fixed charges on the quantum atoms interact with it instead.
- ``electrostatic``: it feels the crystal's charges.
- ``polarizable``: and the crystal's induced dipoles answer it, inside the engine's own self-consistency.

All have an energy, and forces on all atoms that are its exact gradient. Sources of the scheme: H. M. Senn and W. Thiel,
Angew. Chem. Int. Ed. 48, 1198 (2009), section 2; A. A. Sokol et al., Int. J. Quantum Chem. 99, 695 (2004) for ionic solids.
"""

from __future__ import annotations

import numpy as np

from solidqmmm.coupling.boundary_charges import BoundaryCharges
from solidqmmm.coupling.field_side import FieldSide, require_apart
from solidqmmm.coupling.quantum_side import QuantumSide
from solidqmmm.coupling.surroundings import REACH, Arrangement, Surroundings
from solidqmmm.engines.protocols import Contribution, Engine
from solidqmmm.physics.electrostatics.coulomb import coulomb_potential
from solidqmmm.physics.geometry import unwrapped
from solidqmmm.system.cluster import Cluster
from solidqmmm.system.point_charges import RepulsiveCores

EMBEDDINGS = ("mechanical", "electrostatic", "polarizable")
# Farther than this from every quantum atom an ion needs no repulsive core (angstrom).
_CORES_WITHIN = 4.0


class Additive:
    """The correction E_QM[rho; phi] + E_pol - E_images.

    Args:
        cluster: The carved cluster, without lattice matching.
        engine: The engine; one that feels external charges unless the embedding is mechanical.
        positions: Positions of all particles of the host (shells included) in angstrom, shape=(n, 3).
        charges: Their charges in e as the host would have them without a quantum region, shape=(n,).
        embedding: "mechanical", "electrostatic" or "polarizable".
        charge: What the host's charges leave for the cluster in e. In its images, what the atoms' classical charges lack
            sits at the middle.
        own_charge: Charge of the cluster with its link atoms, as the engine computes it, in e; `charge` by default.
        environment: Polarizabilities and damping (a `PolarizableSurroundings`); for "polarizable" only.
        cores: Height in eV and width in angstrom by host particle, NaN for none, shape=(n, 2): repulsive cores on ions near
            the cluster; or None.
        width: Gaussian width of near charges in angstrom.
        reach: Explicit charges reach that far beyond the region, angstrom.
        n_sites: Charges on the sphere that carries the field of all others.
        boundary: Charges beside link atoms, which the quantum electrons are shown elsewhere; or None.

    Raises:
        TypeError: For an engine that cannot feel external charges.
        ValueError: For an unknown embedding, or arguments that do not fit it.
    """

    has_energy = True
    needs_host_forces = False

    def __init__(
        self, cluster: Cluster, engine: Engine, positions, charges, *, embedding: str, charge: float,
        own_charge: float | None = None, environment=None, cores=None, width: float = 0.0, reach: float = REACH,
        n_sites: int = 400, boundary: BoundaryCharges | None = None,
    ):  # fmt: skip
        if embedding not in EMBEDDINGS:
            raise ValueError(f"`embedding` must be one of {EMBEDDINGS}, got {embedding!r}")
        if (environment is not None) != (embedding == "polarizable"):
            raise ValueError("`environment` belongs to embedding 'polarizable', and that needs it")
        if boundary is not None and embedding == "mechanical":
            raise ValueError("`boundary` is about what electrons are shown, and belongs to no embedding 'mechanical'")
        self.cluster, self.name = cluster, embedding
        self.excluded = cluster.quantum
        self.charge = float(charge)
        self.own_charge = self.charge if own_charge is None else float(own_charge)
        self.charges = np.array(charges, dtype=float)
        self.environment = environment
        positions = np.asarray(positions, dtype=float)
        self.atoms = np.arange(len(positions))
        middle = cluster.reference[: cluster.n_quantum].mean(axis=0)
        reference = unwrapped(positions, middle, cluster.host_cell, cluster.host_pbc)
        reference[cluster.region] = cluster.reference
        self.reference = reference
        seen = cluster.engine_positions(cluster.reference, cluster.host_cell) - cluster.offset
        self.surroundings = Surroundings(
            reference,
            cluster.host_cell,
            cluster.host_pbc,
            self.charges,
            cluster.quantum,
            centred=self.charge - self.charges[cluster.quantum].sum(),
            extent=np.linalg.norm(seen - middle, axis=1).max(),
            width=width,
            reach=reach,
            n_sites=n_sites,
            boundary=boundary,
        )
        self.boundary = boundary
        self.quantum = (QuantumSide if embedding == "mechanical" else FieldSide)(cluster, engine)
        self._core_rows = self._near_cores(cores)
        self._core_shapes = None if cores is None else np.asarray(cores)[self.surroundings.explicit[self._core_rows]]
        self._last = None

    @property
    def learnt(self) -> np.ndarray:
        """Indices of the region's atoms, shape=(n_region,).

        On these the correction changes by more than a constant force between two evaluations.
        """
        return self.cluster.region

    def evaluate(self, positions, cell, host_forces=None) -> Contribution:
        """The correction at `positions` of all particles, the region contiguous, angstrom, shape=(n, 3)."""
        del host_forces
        region = positions[self.cluster.region]
        around = self.surroundings.at(positions, cell)
        images, image_forces = around.image_energy()
        background, background_forces = around.background_energy()
        forces = around.without_middle(background_forces - image_forces)
        if self.name == "mechanical":
            terms, pulls = self._fixed_charges(around)
            alone = self.quantum.evaluate(region, cell)
            terms, own = {"qm": alone.energy} | terms, alone.forces
        else:
            terms, pulls, own = self._density(around, region, cell)
        forces += pulls
        forces[self.cluster.region] += own
        terms["images"] = background - images
        return Contribution(forces=forces, energy=sum(terms.values()), virial=None, terms=terms)

    def _fixed_charges(self, around: Arrangement):
        """Interaction of the quantum atoms' classical charges with the crystal."""
        home, q = self.surroundings.home, self.surroundings.charges[self.surroundings.home]
        x, given = around.positions[home], around.permanent
        require_apart(x[:-1], given)
        potential, field = coulomb_potential(x, given.positions, given.charges, sigma=given.widths)
        at_sites = coulomb_potential(
            given.positions, x, q, sigma=np.broadcast_to(given.widths[:, None], (len(given), len(x)))
        )
        forces = around.forces(at_sites[0], given.charges[:, None] * at_sites[1])
        own = np.zeros_like(around.positions)
        own[home] = q[:, None] * field
        self._last = around, None, None
        return {"qm_mm_electrostatic": float(q @ potential)}, forces + around.without_middle(own)

    def _density(self, around: Arrangement, region, cell):
        """The engine among the crystal's charges, and among what these answer."""
        response = None if self.environment is None else self.environment.response(around)
        found = self.quantum.evaluate(region, cell, around, response=response, cores=self._cores(around))
        given = around.permanent
        with_charges = float(given.charges @ found.potentials)
        terms = {"qm": found.energy - with_charges, "qm_mm_electrostatic": with_charges}
        dipoles = None
        forces = np.zeros((len(self.atoms), 3))
        if response is not None:
            terms["polarization"] = found.induced.energy
            terms["qm"] -= found.induced.energy
            response.settle(found.potentials, found.fields)
            dipoles = response.dipoles
            forces += around.without_middle(response.forces())
        forces += around.forces(found.potentials, found.charge_forces, dipoles)
        if found.core_forces is not None:
            forces += self._core_forces(found.core_forces)
        self._last = around, found, dipoles
        return terms, forces, self.cluster.region_forces(found.forces, region, cell)

    def report(self) -> dict:
        """About the last evaluation, the fields of `results.embedded.EmbeddedResult` that there are."""
        around, found, dipoles = self._last
        report = {
            "region_charge_e": self.own_charge,
            "region_potential_rms_error_eV": around.potential_error(),
        }
        if self.boundary is not None:
            report |= self._boundary_report()
        if found is None:
            return report
        if "scf_iterations" in found.info:
            report["scf_iterations"] = found.info["scf_iterations"]
        if dipoles is not None:
            report["dipoles_e_A"] = dipoles[:-1]
        if found.spill_out is not None:
            n = len(self.surroundings.explicit)
            explicit = self.surroundings.explicit
            cations = self.surroundings.charges[explicit] > 0
            # A link atom's bond lies where the atom beside it is.
            cations &= ~np.isin(explicit, self.cluster.region[self.cluster.n_quantum :])
            report["spill_out_e"] = float(found.spill_out[:n][cations].sum())
        return report

    def _boundary_report(self) -> dict:
        """What the atoms beside link atoms were given, what of it was moved, and what was lost by it."""
        shown, before = self.surroundings.shown, self.surroundings.charges[self.surroundings.explicit]
        given = float(self.boundary.shares.sum())
        report = {"boundary_balance_e": given}
        if self.boundary.scheme == "none":
            return report
        moved = float(self.charges[self.boundary.atoms].sum()) + given
        lost = round(float(before.sum()) + given - shown.total, 12) + 0.0
        return report | {"boundary_charge_e": moved, "lost_charge_e": lost}

    # --- repulsive cores ----------------------------------------------------------------------------------------

    def _near_cores(self, cores) -> np.ndarray:
        """Which explicit charges carry a repulsive core."""
        if cores is None:
            return np.empty(0, dtype=int)
        around = self.surroundings.at(self.reference, self.cluster.host_cell)
        quantum = around.positions[self.cluster.quantum]
        near = np.linalg.norm(around.explicit[:, None] - quantum, axis=2).min(axis=1) < _CORES_WITHIN
        return np.flatnonzero(near & np.isfinite(np.asarray(cores)[self.surroundings.explicit, 0]))

    def _cores(self, around: Arrangement) -> RepulsiveCores | None:
        if self._core_shapes is None:
            return None
        return RepulsiveCores(around.explicit[self._core_rows], *self._core_shapes.T)

    def _core_forces(self, given) -> np.ndarray:
        forces = np.zeros((len(self.atoms), 3))
        np.add.at(forces, self.surroundings.explicit[self._core_rows], given)
        return forces
