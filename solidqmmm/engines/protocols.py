"""What the rest of the house asks of an engine. A capability is a narrow protocol, never a method that raises."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import ase
import numpy as np

from solidqmmm.system.point_charges import PointCharges, RepulsiveCores


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an engine says about one arrangement of atoms.

    Attributes:
        energy: Potential energy in eV (for metals the one consistent with the forces).
        forces: Forces in eV/angstrom, shape=(n, 3), in the order of the atoms that were given.
        stress: Cauchy stress in eV/angstrom^3, tension positive, shape=(3, 3); None when it was not asked for.
        info: Plain JSON facts about this evaluation (SCF iterations, seconds, retries taken, magnetic moment ...).
    """

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None = None
    info: dict = field(default_factory=dict)

    def __post_init__(self):
        for name in ("forces", "stress"):
            value = getattr(self, name)
            if value is not None:
                value = np.array(value, dtype=float)
                value.flags.writeable = False
                object.__setattr__(self, name, value)


@dataclass(frozen=True, eq=False)
class Contribution:
    """What a correction adds to the host.

    Attributes:
        forces: Forces in eV/angstrom on the correction's atoms, shape=(n, 3).
        energy: Energy in eV, or None where the scheme has none (never 0.0).
        virial: Sum of x (outer) F in eV, whose symmetric part is -dE/d(strain), shape=(3, 3); None where there is none.
        terms: The parts of the energy in eV by name.
    """

    forces: np.ndarray
    energy: float | None = None
    virial: np.ndarray | None = None
    terms: dict = field(default_factory=dict)


@runtime_checkable
class Engine(Protocol):
    """Evaluates energies and forces. Stateful at the edge only (warm starts); a context manager.

    Every MPI rank calls `evaluate` with the same atoms and gets the same answer; if the engine fails on one rank it
    raises on all of them.
    """

    name: str
    provides_stress: bool

    def evaluate(self, atoms: ase.Atoms, *, stress: bool = False) -> Evaluation:
        """Energy, forces (and stress on request, else None) of `atoms`; EngineError or ConvergenceError on failure.

        `atoms.pbc` says where the arrangement is periodic. Consecutive calls with the same species, cell and pbc may
        start from the previous solution.
        """
        ...

    def describe(self) -> dict:
        """Plain JSON: everything that determines the numbers (settings, versions), for provenance and journals.

        The key `references` lists the citation keys (of data/references.bib) that a user of the result owes.
        """
        ...

    def close(self) -> None:
        """Frees what the engine holds; may be called again, and a later call of `evaluate` opens it anew."""
        ...

    def __enter__(self): ...

    def __exit__(self, *exc_info): ...


# --- engines that feel a field --------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Induced:
    """What the sites of external charges answer to the quantum region.

    Attributes:
        charges: Induced charges in e, shape=(n,).
        dipoles: Induced dipoles in e angstrom, shape=(n, 3).
        energy: Polarization energy in eV as a functional of the potentials and fields that were given: its derivative by a
            potential is the induced charge, by a field minus the induced dipole.
    """

    charges: np.ndarray
    dipoles: np.ndarray
    energy: float


class FieldResponse(Protocol):
    """The environment's linear answer to the quantum charge density, asked at every SCF iteration.

    Potentials and fields are those of the *total* quantum charge (electrons and nuclei) at the sites of the external
    charges, averaged over each site's Gaussian. The permanent part of the environment's own field is known to the response.
    """

    def respond(self, potentials: np.ndarray, fields: np.ndarray) -> Induced:
        """The answer to potentials in V, shape=(n,), and fields in V/angstrom, shape=(n, 3); the same on all ranks."""
        ...

    def describe(self) -> dict:
        """Plain JSON: everything that determines the answers, positions included. Journals ask for it."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class FieldEvaluation(Evaluation):
    """What an engine says about atoms in the field of external charges.

    `energy` holds the atoms' own energy and their interaction with the charges (and the polarization energy of the
    response), not the interaction of the charges with each other. All that is said of sites refers to the total quantum
    charge, averaged over each site's Gaussian.

    Attributes:
        charge_forces: Forces of the quantum charge on the charges, permanent and induced ones and induced dipoles
            included, in eV/angstrom, shape=(n, 3).
        potentials: In V, shape=(n,).
        fields: In V/angstrom, shape=(n, 3).
        field_gradients: d(field_a)/d(x_b) in V/angstrom^2, shape=(n, 3, 3); None without a response.
        core_forces: Forces on the repulsive cores in eV/angstrom, shape=(n_cores, 3); None without any.
        induced: The last answer of the response, or None.
        spill_out: Electrons within `SPILL_OUT_RADIUS` of each external site, shape=(n,); None where the engine cannot tell.
    """

    charge_forces: np.ndarray
    potentials: np.ndarray
    fields: np.ndarray
    field_gradients: np.ndarray | None = None
    core_forces: np.ndarray | None = None
    induced: Induced | None = None
    spill_out: np.ndarray | None = None


SPILL_OUT_RADIUS = 1.0  # angstrom


@runtime_checkable
class FieldEngine(Engine, Protocol):
    """An engine whose electrons feel external charges, and that returns what they exert on these.

    `field_capabilities` names what else it takes: "dipoles" (as part of a response inside its SCF, with `response`) and
    "cores" (repulsive cores).
    """

    field_capabilities: frozenset[str]

    def evaluate_in_field(
        self,
        atoms: ase.Atoms,
        charges: PointCharges,
        *,
        response: FieldResponse | None = None,
        cores: RepulsiveCores | None = None,
    ) -> FieldEvaluation:
        """Energy and forces of `atoms` in the field of `charges`, in the coordinates of the atoms.

        Raises:
            ValueError: For a charge within 0.5 angstrom of a nucleus, or what the engine cannot take.
            EngineError, ConvergenceError: As `evaluate`.
        """
        ...


# --- engines that tell their electrostatic potential -----------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class PotentialEvaluation(Evaluation):
    """What an engine says about a periodic cell and the electrostatic potential in it, as a positive charge feels it.

    The zero of potentials and band edges is the one that the energies of charged cells refer to: a constant c added to all
    potentials changes the energy of a cell with charge q by q c.

    Attributes:
        site_potentials: At the atoms, averaged in a way that depends on the species alone, in V, shape=(n,).
        planar_potentials: Averages over planes along each cell vector in V, from the origin on in equal steps, the end left
            out; three arrays of shape=(p,).
        band_edges: Highest occupied and lowest empty level among the k-points in eV, shape=(2,); None without a gap, or
            where levels are partly filled.
    """

    site_potentials: np.ndarray
    planar_potentials: tuple[np.ndarray, np.ndarray, np.ndarray]
    band_edges: np.ndarray | None = None


@runtime_checkable
class SitePotentialEngine(Engine, Protocol):
    """An engine that tells the electrostatic potential in a cell that is periodic in all directions."""

    def evaluate_with_potentials(self, atoms: ase.Atoms) -> PotentialEvaluation:
        """Energy, forces and potentials of `atoms`; after `evaluate` of the same atoms little is computed again.

        Raises:
            ValueError: For atoms that are not periodic in all directions.
            EngineError, ConvergenceError: As `evaluate`.
        """
        ...


# --- engines that know what they cost --------------------------------------------------------------------------


@runtime_checkable
class CostedEngine(Protocol):
    """An engine that knows beforehand what an evaluation costs."""

    def n_electrons(self, atoms: ase.Atoms) -> float:
        """Number of valence electrons."""
        ...

    def n_basis_functions(self, atoms: ase.Atoms) -> int:
        """Number of basis functions, of plane waves or of grid points."""
        ...

    def memory_estimate_MB(self, atoms: ase.Atoms) -> float:
        """Memory in MB of one process that does the whole calculation."""
        ...

    def calibrate(self, atoms: ase.Atoms) -> dict:
        """A few SCF steps; `estimated_seconds_first` and `estimated_seconds_per_evaluation` among the answers."""
        ...
