"""PySCF as an engine for clusters: Gaussian basis sets, all electrons or effective cores, any external charges.

Charges act through PySCF's own QM/MM interface. A Gaussian charge is exp(-r^2/a^2) there and exp(-r^2/2 s^2) here, so that
its radius a is sqrt(2) times our width s.
"""

from __future__ import annotations

import logging
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import numpy as np
from ase import Atoms
from ase.units import Bohr, Hartree

from solidqmmm.engines.closing import ClosingUnheld
from solidqmmm.engines.protocols import (
    SPILL_OUT_RADIUS,
    Evaluation,
    FieldEvaluation,
    FieldResponse,
)
from solidqmmm.engines.pyscf_sites import at_sites, electrons_within, exponents
from solidqmmm.errors import ConvergenceError, EngineError, EnvironmentProblem
from solidqmmm.runtime import is_root, prepare_engines, threads_per_rank, world
from solidqmmm.system.point_charges import PointCharges, RepulsiveCores, require_apart

logger = logging.getLogger(__name__)

# Elements from rubidium on have an effective core in the def2 basis sets.
_FIRST_CORE = 37
_AUXILIARY = "def2-universal-jkfit"
_SAME = 1e-12  # angstrom
_LEVEL_SHIFT = 0.3  # hartree


class PySCFEngine(ClosingUnheld):
    """Kohn-Sham or Hartree-Fock theory by PySCF, computed on MPI rank 0.

    Consecutive calls with the same species start from the previous density matrix. Forces hold the derivatives of the
    integration grid, so that they are the gradient of the energy.

    Args:
        xc: Functional in PySCF's words ("PBE", "PBE0", "r2SCAN" ...), or "HF".
        basis: Name of a basis set, or names by element.
        charge: Total charge in e, a whole number.
        spin: Number of unpaired electrons; by default as few as there can be.
        unrestricted: Separate orbitals of both spins; always with unpaired electrons.
        ecp: Effective cores by element. By default those that belong to a def2 basis, else none.
        density_fit: Coulomb and exchange integrals by an auxiliary basis (def2-universal-jkfit): several times faster, with
            an error near 1e-3 eV per atom that cancels in differences. False for exact integrals.
        grid_level: PySCF's integration grid, 0 to 9.
        tolerance: Of the energy in eV; the orbital gradient follows.
        maxiter: SCF iterations of each attempt.
        field_gradients: Also returns the gradients of fields at external sites.
        log: File for PySCF's text output, appended to.

    Raises:
        ValueError: For a functional that PySCF does not know, a charge that is no whole number, or numbers out of range.
        EnvironmentProblem: If PySCF is not installed.
    """

    name = "pyscf"
    provides_stress = False
    field_capabilities: frozenset[str] = frozenset()

    def __init__(
        self, *, xc: str = "PBE", basis: str | dict = "def2-svp", charge: float = 0, spin: int | None = None,
        unrestricted: bool = False, ecp: dict | None = None, density_fit: bool = True, grid_level: int = 3,
        tolerance: float = 1e-8, maxiter: int = 100, field_gradients: bool = False, log=None,
    ):  # fmt: skip
        if abs(charge - round(charge)) > 1e-6:
            raise ValueError(f"`charge` of a cluster in PySCF must be a whole number of e, got {charge:g}")
        if spin is not None and (spin < 0 or spin != int(spin)):
            raise ValueError(f"`spin` is the number of unpaired electrons, 0 or more, got {spin}")
        if not 0 <= grid_level <= 9 or not tolerance > 0 or maxiter < 1:
            raise ValueError("`grid_level` must be 0 to 9, `tolerance` (eV) and `maxiter` positive")
        self.xc, self.basis, self.charge, self.spin = xc, basis, round(charge), spin
        self.unrestricted, self.ecp, self.density_fit = bool(unrestricted), dict(ecp or {}), bool(density_fit)
        self.grid_level, self.tolerance, self.maxiter = int(grid_level), float(tolerance), int(maxiter)
        self.field_gradients = bool(field_gradients)
        self.log = Path(log) if log is not None else None
        self._file = None
        self._last = None  # kind, density matrix
        self._answer = None  # what was asked last, and the answer
        self._validate()

    # --- the contract --------------------------------------------------------------------------------------------

    def evaluate(self, atoms: Atoms, *, stress: bool = False) -> Evaluation:
        """Energy in eV and forces in eV/angstrom, shape=(n, 3); no stress.

        Raises:
            ValueError: For periodic, overlapping or no atoms, fractional caps, or a spin that the electrons cannot have.
            ConvergenceError: After a fresh start, a level shift and second-order iterations.
            EngineError: For anything else that PySCF says.
        """
        if stress:
            raise ValueError("PySCF gives no stress here, which is for clusters: ask for energy and forces only")
        found = self.evaluate_in_field(atoms, PointCharges.none())
        return Evaluation(found.energy, found.forces, info=found.info)

    def evaluate_in_field(
        self,
        atoms: Atoms,
        charges: PointCharges,
        *,
        response: FieldResponse | None = None,
        cores: RepulsiveCores | None = None,
    ) -> FieldEvaluation:
        """See `FieldEngine`; an answering environment goes through `OuterLoop`.

        Raises:
            ValueError: For a response or repulsive cores, and as `evaluate`.
            ConvergenceError, EngineError: As `evaluate`.
        """
        if response is not None:
            raise ValueError("the engine 'pyscf' asks no environment in its SCF: wrap it, OuterLoop(engine)")
        if cores is not None:
            raise ValueError("the engine 'pyscf' has no repulsive cores: leave `cores` out, or choose qm: {engine: gpaw}")
        self._require_computable(atoms)
        require_apart(atoms.positions, charges)
        kind = (tuple(atoms.numbers), len(charges))
        asked = np.concatenate([atoms.positions.ravel(), charges.positions.ravel(), charges.charges, charges.widths])
        if self._answer is not None and self._answer[0] == kind and np.abs(asked - self._answer[1]).max() < _SAME:
            return self._answer[2]
        communicator, answer = world(), None
        if is_root():
            try:
                answer = self._computed(atoms, charges)
            except EngineError as error:
                answer = error
            except Exception as error:
                logger.debug("PySCF failed", exc_info=True)
                answer = EngineError(f"PySCF says of {atoms.get_chemical_formula()}: {type(error).__name__}: {error}")
        if communicator.size > 1:
            answer = communicator.bcast(answer, root=0)
        if isinstance(answer, Exception):
            raise answer
        self._answer = (kind, asked, FieldEvaluation(**answer))
        return self._answer[2]

    def describe(self) -> dict:
        """Settings, versions and citation keys."""
        references = ["sun2020pyscf", "lehtola2018libxc"] + (["perdew1996pbe"] if self.xc.upper() == "PBE" else [])
        names = (
            "xc", "basis", "charge", "spin", "unrestricted", "ecp", "density_fit", "grid_level", "tolerance",
            "maxiter", "field_gradients",
        )  # fmt: skip
        return {
            "engine": self.name,
            "settings": {name: getattr(self, name) for name in names},
            "versions": {"pyscf": version("pyscf")},
            "references": references,
        }

    def close(self):
        """Forgets the density and closes the log; a later call opens it again."""
        self._last = self._answer = None
        if self._file is not None:
            self._file.close()
            self._file = None

    # --- one calculation -----------------------------------------------------------------------------------------

    def _computed(self, atoms: Atoms, charges: PointCharges) -> dict:
        from pyscf import lib

        started = perf_counter()
        with lib.with_omp_threads(threads_per_rank()):
            mol = self._molecule(atoms)
            mf, info = self._converged(mol, charges)
            P = mf.make_rdm1()
            self._last = (tuple(mol.elements), P)
            gradient = mf.nuc_grad_method()
            gradient.grid_response = True
            forces = -Hartree / Bohr * gradient.kernel()
            P = P if P.ndim == 2 else P[0] + P[1]
            there = at_sites(mol, P, charges, derivatives=2 if self.field_gradients else 1)
            spill_out = electrons_within(mol, P, charges.positions, SPILL_OUT_RADIUS)
        if not (np.isfinite(mf.e_tot) and np.isfinite(forces).all()):
            raise ArithmeticError(f"energy {mf.e_tot} or forces are not finite numbers")
        return {
            "energy": float(mf.e_tot) * Hartree,
            "forces": forces,
            "info": {
                **info,
                "gap_eV": _gap(mf),
                "n_electrons": int(mol.nelectron),
                "seconds": perf_counter() - started,
            },
            "potentials": there[0],
            "fields": there[1],
            "field_gradients": there[2] if self.field_gradients else None,
            "charge_forces": charges.charges[:, None] * there[1],
            "spill_out": spill_out,
        }

    def _molecule(self, atoms: Atoms):
        from pyscf import gto

        heavy = {s: b for s in set(atoms.symbols) if (b := self._core_of(s))}
        mol = gto.Mole()
        mol.atom = [(symbol, x) for symbol, x in zip(atoms.symbols, atoms.positions / Bohr, strict=True)]
        mol.unit, mol.basis, mol.charge = "Bohr", self.basis, self.charge
        mol.ecp = heavy | self.ecp
        mol.spin = self.spin if self.spin is not None else (int(atoms.numbers.sum()) - self.charge) % 2
        mol.verbose, mol.output, mol.symmetry = 4 if self.log else 0, None, False
        mol.stdout = self._stream() or mol.stdout
        mol.build(dump_input=False, parse_arg=False)
        return mol

    def _core_of(self, symbol: str) -> str | None:
        """The effective core that belongs to the element's basis."""
        from pyscf.data.elements import charge

        basis = self.basis.get(symbol, "") if isinstance(self.basis, dict) else self.basis
        return basis if basis.lower().startswith("def2") and charge(symbol) >= _FIRST_CORE else None

    def _method(self, mol, charges: PointCharges):
        from pyscf import dft, qmmm

        mf = (dft.UKS if mol.spin or self.unrestricted else dft.RKS)(mol, xc=self.xc)
        mf.grids.level = self.grid_level
        if self.density_fit:
            mf = mf.density_fit(auxbasis=_AUXILIARY)
        mf.conv_tol = self.tolerance / Hartree
        # Forces are wrong in first order of the orbital gradient, energies in second.
        mf.conv_tol_grad = 0.1 * np.sqrt(mf.conv_tol)
        mf.max_cycle = self.maxiter
        mf._chkfile.close()  # its file of intermediate results, which nobody reads
        mf.chkfile = mf._chkfile = None
        if len(charges):
            radii = None if not charges.widths.any() else 1 / np.sqrt(exponents(charges.widths))
            mf = qmmm.mm_charge(mf, charges.positions / Bohr, charges.charges, radii=radii, unit="Bohr")
        return mf

    def _converged(self, mol, charges: PointCharges):
        """A converged calculation, and what it took."""
        warm = self._last is not None and self._last[0] == tuple(mol.elements)
        attempts, failures = (["warm start"] if warm else []) + ["fresh start", "level shift", "second order"], []
        for attempt in attempts:
            if failures:
                logger.warning("PySCF: %s; trying %s", failures[-1], attempt)
            mf = self._method(mol, charges)
            if attempt == "level shift":
                mf.level_shift = _LEVEL_SHIFT
            solver = mf.newton() if attempt == "second order" else mf
            solver.kernel(self._last[1] if attempt == "warm start" else None)
            if solver.converged:
                for name in ("e_tot", "converged", "mo_energy", "mo_coeff", "mo_occ"):
                    setattr(mf, name, getattr(solver, name))
                return mf, {
                    "scf_iterations": int(getattr(solver, "cycles", 0)),
                    "start": "warm" if attempt == "warm start" else "fresh",
                    "retries": failures + ([f"{attempt}: converged"] if failures else []),
                }
            failures.append(f"{attempt}: not converged in {self.maxiter} iterations")
        self._last = None
        raise ConvergenceError(
            f"PySCF's self-consistency of {mol.natm} atoms did not converge: look at the arrangement first (a wrong cap, a "
            "bond that is too short, charges in the wrong place), then set `spin` or `unrestricted`, or raise `maxiter`",
            attempts=failures,
        )

    def _stream(self):
        if self.log is None:
            return None
        if self._file is None:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.log.open("a")
        return self._file

    # --- checks --------------------------------------------------------------------------------------------------

    def _validate(self):
        prepare_engines()
        try:
            from pyscf import dft
        except ImportError as error:
            raise EnvironmentProblem(f"PySCF cannot be imported ({error}): `pip install pyscf`") from error
        try:
            dft.libxc.parse_xc(self.xc)
        except (KeyError, ValueError, AttributeError) as error:
            raise ValueError(f"`xc`: PySCF does not know the functional {self.xc!r} ({error})") from error

    def _require_computable(self, atoms: Atoms):
        if len(atoms) == 0:
            raise ValueError("there are no atoms to compute: the quantum region is empty")
        if atoms.pbc.any():
            raise ValueError(f"PySCF computes isolated clusters here: pbc must be all False, got {atoms.pbc.tolist()}")
        if not np.isfinite(atoms.positions).all():
            raise ValueError("positions of the atoms must be finite")
        caps = atoms.arrays.get("cap_charge")
        if caps is not None and not np.isnan(caps).all():
            raise ValueError("PySCF has no fractional pseudo-hydrogens here: caps: {kind: hydrogen}, or qm: {engine: gpaw}")
        n = int(atoms.numbers.sum()) - self.charge
        if self.spin is not None and (n - self.spin) % 2:
            raise ValueError(
                f"{atoms.get_chemical_formula()} of charge {self.charge:+d} e has {n} electrons, of which {self.spin} "
                "cannot be unpaired: `spin` and the number of electrons must both be even or both odd"
            )


def _gap(mf) -> float | None:
    """Between the highest occupied and the lowest empty orbital of either spin, in eV; None where there is no empty one."""
    levels, filled = np.ravel(mf.mo_energy), np.ravel(mf.mo_occ) > 0
    return None if filled.all() else float(levels[~filled].min() - levels[filled].max()) * Hartree
