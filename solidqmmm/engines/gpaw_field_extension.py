"""GPAW's extension for external charges: a Poisson solver that adds their potential, and the energy that is then missing.

GPAW's Coulomb energy is 1/2 int rho v_H, rho the total charge density, and v_H is whatever the Poisson solver returns.
With the potential v of the sites added to it, electrons, compensation charges and the forces on the atoms feel the
sites without further work, and the energy lacks

    E_field - 1/2 int rho v,    E_field = sum_j q_j phi_j + E_pol[phi, E],

where v = dE_field/drho contains charges and dipoles that the response answers to *this* rho. (Plane-wave solvers return the
Coulomb energy themselves, without v: there all of E_field is missing.) That GPAW evaluates energies as Harris and
Foulkes do, with eigenvalues from the potential of the density that went in, needs v to be that derivative, and nothing
else.
"""

from __future__ import annotations

import numpy as np
from ase.units import Ha
from gpaw.core import PWDesc
from gpaw.dft import ExtensionInput
from gpaw.extensions import Extension
from gpaw.new import spinsum
from gpaw.new.poisson import PoissonSolver

from solidqmmm.engines.gpaw_field_cores import core_forces, core_potential, electrons_around
from solidqmmm.engines.gpaw_field_grid import site_map
from solidqmmm.engines.protocols import SPILL_OUT_RADIUS, Induced
from solidqmmm.errors import EngineError, SolidQMMMError
from solidqmmm.runtime import agree_on_failure, world


class EmbeddingInput(ExtensionInput):
    """What goes into GPAW's keyword `extensions`; the extension that comes of it is kept in `source.extension`.

    Args:
        source: Holder of the external field (`gpaw_field.FieldSource`); what it holds may change between calculations.
        poissonsolver: GPAW's keyword for the solver that is wrapped.
    """

    name = "embedding"

    def __init__(self, source, poissonsolver: dict):
        self.source = source
        self.poissonsolver = poissonsolver

    def todict(self) -> dict:
        """The keywords, as GPAW writes them into its log and its files."""
        return {"poissonsolver": self.poissonsolver}

    def build(self, builder):
        """The extension for a calculation on the grid of GPAW's `builder`."""
        self.source.extension = EmbeddingExtension(self.source, self.poissonsolver, builder.grid)
        return self.source.extension


class EmbeddingExtension(Extension):
    """Potential and energy of what `source.field` holds at the time of the call."""

    name = "embedding"

    def __init__(self, source, poissonsolver: dict, grid):
        self._source = source
        self._poissonsolver = poissonsolver
        self._grid = grid
        self._placed = None
        self._map = None
        self._missing = 0.0
        self.density = None
        self.induced = None

    # --- GPAW's hooks ----------------------------------------------------------------------------------------------

    def create_poisson_solver(self, grid, pw, *, charge, xp):
        """GPAW's own solver for these grids and this charge, wrapped so that it adds what the sites bring."""
        settings = dict(self._poissonsolver)
        if isinstance(pw, PWDesc):
            from gpaw.new.pw.poisson import make_poisson_solver

            settings.pop("fast", None)
            inner = make_poisson_solver(pw, grid, charge, **(settings or {"strength": 1.0}))
        else:
            from gpaw.poisson import PoissonSolver as real_space_solver

            inner = real_space_solver(**settings, xp=xp).build(grid, xp)
        self._map = self._source.map = site_map(grid, pw, self._source.map)
        return EmbeddedPoissonSolver(inner, self, pw)

    def get_energy_contributions(self) -> dict[str, float]:
        """In hartree by name: what GPAW's own sum lacks of the energy in the field."""
        return {"embedding": self._missing}

    def update_potential(self, vt_sR, density) -> float:
        """Adds the repulsive cores to the effective potential; their energy with the electrons in hartree."""
        field = self._source.field
        if field is None or field.cores is None or len(field.cores) == 0:
            return 0.0
        self._place(field)
        for spin in range(density.ndensities):
            vt_sR.data[spin] += self._core_potential
        electrons = spinsum(density.nt_sR)
        energy = electrons.desc.dv * float(np.vdot(self._core_potential, electrons.data))
        return electrons.desc.comm.sum_scalar(energy)

    # --- the field --------------------------------------------------------------------------------------------------

    def added(self, density, *, complete: bool):
        """Potential that electrons feel in the field of the sites, or None without any.

        Args:
            density: The total density that the Poisson equation was solved for.
            complete: Whether GPAW's Coulomb energy is computed without what is added.
        """
        field = self._source.field
        self._missing, self.density, self.induced = 0.0, None, None
        if field is None or len(field.charges) == 0:
            return None
        self._place(field)
        q = field.charges.charges
        if field.response is None:
            if self._map.permanent is None:
                self._map.permanent = self._map.electron_potential(q)
            v = self._map.permanent
            energy = v.integrate(density)
            interaction = energy
        else:
            potentials, fields = self._map.at_sites(density, 1)
            self.induced = induced = _answer(field.response, potentials, fields)
            v = self._map.electron_potential(q + induced.charges, induced.dipoles)
            energy = (q @ potentials + induced.energy) / Ha
            interaction = v.integrate(density)
        self._missing = energy if complete else energy - 0.5 * interaction
        self.density = density.copy()
        return v

    def _place(self, field):
        if self._placed is field:
            return
        sites = field.charges
        if self._map.sites is not sites:
            self._map.place(sites.positions, np.maximum(sites.widths, self._map.floor))
            self._map.sites, self._map.permanent = sites, None
        if field.cores is not None:
            self._core_potential = core_potential(field.cores, self._grid) / Ha
        self._placed = field

    # --- what is left of a converged calculation -----------------------------------------------------------------

    def at_sites(self) -> tuple:
        """Potentials and fields of the quantum charge at the sites, and field gradients, None without a response."""
        derivatives = 1 if self._source.field.response is None else 2
        if self.density is None:  # no sites
            return tuple(np.zeros((0, *(3,) * k)) if k <= derivatives else None for k in range(3))
        found = self._map.at_sites(self.density, derivatives)
        return (*found, None)[:3]

    def facts(self) -> dict:
        """For `info`: the number of sites, of those that are far from the box, and of those that had to be widened."""
        sites = self._source.field.charges
        if len(sites) == 0:
            return {"sites": 0, "far": 0, "widened": 0}
        near = ~self._map.far
        return {
            "sites": len(sites),
            "far": int(self._map.far.sum()),
            "widened": int((near & (sites.widths < self._map.floor)).sum()),
        }

    def on_cores(self, density) -> np.ndarray | None:
        """Forces on the cores in eV/angstrom, shape=(n_cores, 3); None without cores."""
        cores = self._source.field.cores
        return None if cores is None else core_forces(cores, spinsum(density.nt_sR))

    def spilt(self, density) -> np.ndarray:
        """Numbers of electrons within `SPILL_OUT_RADIUS` of the sites, shape=(n,)."""
        return electrons_around(
            self._source.field.charges.positions, spinsum(density.nt_sR), SPILL_OUT_RADIUS
        )


class EmbeddedPoissonSolver(PoissonSolver):
    """Solves as the inner solver does, and adds the potential of the sites."""

    def __init__(self, inner: PoissonSolver, extension: EmbeddingExtension, pw):
        self._inner = inner
        self._extension = extension
        self._added = None
        self._waves = isinstance(pw, PWDesc)
        self.pw = pw

    def __str__(self):
        return f"{self._inner}\n  and the potential of external charges"

    def solve(self, vHt, rhot) -> float:
        """Hartree potential of the density and of the sites, in hartree, into `vHt`; the Coulomb energy of the density
        alone.
        """
        if self._added is not None:
            vHt.data -= self._added.data  # what comes in is the solver's first guess
        coulomb = self._inner.solve(vHt, rhot)
        self._added = self._extension.added(rhot, complete=self._waves)
        if self._added is not None:
            vHt.data += self._added.data
        return coulomb

    def dipole_layer_correction(self) -> float:
        """GPAW's own, in hartree."""
        return self._inner.dipole_layer_correction()


def _answer(response, potentials, fields) -> Induced:
    """What the response says, the same on all ranks."""
    induced, error = None, None
    try:
        induced = response.respond(potentials, fields)
        charges, dipoles = np.asarray(induced.charges, dtype=float), np.asarray(induced.dipoles, dtype=float)
        n = len(potentials)
        if charges.shape != (n,) or dipoles.shape != (n, 3):
            raise EngineError(
                f"the surroundings' response must have charges of shape ({n},) and dipoles of shape ({n}, 3), got "
                f"{charges.shape} and {dipoles.shape}"
            )
        if not (np.isfinite(charges).all() and np.isfinite(dipoles).all() and np.isfinite(induced.energy)):
            raise EngineError(
                "the surroundings' response is not finite: sites that polarize each other without end?"
            )
        induced = Induced(charges, dipoles, float(induced.energy))
    except SolidQMMMError as caught:
        error = caught
    except Exception as caught:
        error = EngineError(f"the surroundings' response failed with {type(caught).__name__}: {caught}")
        error.__cause__ = caught
    communicator = world()
    agree_on_failure(communicator, error)
    return communicator.bcast(induced, root=0) if communicator.size > 1 else induced
