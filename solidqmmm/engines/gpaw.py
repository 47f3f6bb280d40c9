"""GPAW as an engine: warm starts, a documented ladder of retries, and errors in GPAW's own words."""

from __future__ import annotations

import copy
import logging
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from solidqmmm.engines import gpaw_checks as checks
from solidqmmm.engines import gpaw_estimate, gpaw_field
from solidqmmm.engines import gpaw_ladder as ladders
from solidqmmm.engines.closing import ClosingUnheld
from solidqmmm.engines.gpaw_ghosts import ghosts_of
from solidqmmm.engines.gpaw_ghosts import require_basis as require_ghost_basis
from solidqmmm.engines.gpaw_ladder import FRESH, RETRY_LADDER, NotConverged, Rung, SymmetryLost
from solidqmmm.engines.gpaw_potentials import WithPotentials, potentials_of
from solidqmmm.engines.gpaw_setups import PAWCounts, setups_and_basis
from solidqmmm.engines.protocols import Evaluation, FieldEvaluation, FieldResponse
from solidqmmm.errors import ConvergenceError
from solidqmmm.runtime import agree_on_failure, is_root, prepare_engines, world
from solidqmmm.system.point_charges import PointCharges, RepulsiveCores

logger = logging.getLogger(__name__)


class GPAWEngine(WithPotentials, ClosingUnheld):
    """Density functional theory by GPAW (its new implementation).

    Consecutive calls with the same species, cell and pbc start from the previous density and wave functions. Where the
    arrangement is not periodic in all directions point-group symmetry is off; fully periodic crystals use it, and start
    afresh when the atoms move off it. Energies are the ones consistent with the forces (the free energy of the
    smeared electrons); the value extrapolated to zero width is `info["energy_extrapolated"]`.

    Args:
        mode: "lcao", "pw", "fd", or GPAW's dict such as {"name": "pw", "ecut": 400}.
        basis: LCAO basis ("dzp", "sz(dzp)", or by element); "dzp" by default in LCAO mode.
        xc: Functional. Without LibXC in GPAW only LDA, PBE, RPBE, revPBE; PAW setups are shipped for those four.
        h: Grid spacing in angstrom of the LCAO and FD modes (GPAW's default is 0.2).
        ecut: Plane-wave cutoff in eV of the PW mode (340 by default).
        charge: Total charge in e.
        spinpol: Spin-polarized or not.
        magmoms: Initial moments in Bohr magnetons, shape=(n,), or by element {"Fe": 2.2}; else those of the atoms. If
            these are zero and the electron number is odd, one unpaired electron is spread over all atoms.
        kpt_density: k-points per 1/angstrom along periodic directions (Gamma included); 3.5 by default.
        kpts: A mesh (n1, n2, n3) around Gamma instead, or GPAW's keyword; it does not jump where cells are strained.
        smearing: Fermi-Dirac width in eV, 0.1 by default also for clusters (dangling bonds are nearly degenerate).
        occupations: GPAW's keyword, replaces `smearing`.
        convergence, maxiter, mixer, nbands, setups: GPAW's keywords (setups and basis by element, not by atom index:
            the order of a carved cluster is not the user's). maxiter is 150 by default.
        fft_potential: In LCAO mode, the potential and the electrostatics by Fourier transforms instead of finite
            differences (GPAW's experimental `pw_pot_calc`), with vacuum periodic for the electrostatics as in PW mode.
            It forgives a coarse grid (see the note), but costs two to three times as much per point on 50 atoms.
        ghost_basis: In LCAO mode, basis functions of the removed atoms on the vacant sites that the atoms carry
            (`VacantSites.of`): clusters of a vacancy do. Without them trapped electrons lie too high.
        paired_odd_electrons: Allows an odd number of electrons without spin (metals, where smearing halves a level).
        log: File for GPAW's text output, appended to, written by rank 0.
        retries: The ladder of retries, see `RETRY_LADDER`; () for none.
        **keywords: Any other keyword of GPAW (poissonsolver, extensions, parallel, experimental ...).

    Note:
        On a real-space grid forces depend on where the atoms sit between the points. Si16H36 in LCAO, moved rigidly by
        0.07 A on each axis: the largest change of a force is 0.82 eV/A at h = 0.25 A, 0.10 at 0.22, 0.015 at 0.20, and
        0.029 at 0.25 with `fft_potential`; the cost is 1, 1.4, 2.0 and 2.6. Grids coarser than 0.22 A log a warning.

    Raises:
        ValueError: For settings that GPAW does not accept, in its words.
        EnvironmentProblem: If GPAW is not installed.
    """

    name = "gpaw"
    field_capabilities = frozenset({"dipoles", "cores"})

    def __init__(
        self, *, mode="lcao", basis=None, xc="PBE", h=None, ecut=None, charge=0.0, spinpol=False, magmoms=None,
        kpt_density=3.5, kpts=None, smearing=0.1, occupations=None, convergence=None, maxiter=150, mixer=None,
        nbands=None, setups=None, fft_potential=False, ghost_basis=False, paired_odd_electrons=False, log=None,
        retries=RETRY_LADDER, **keywords,
    ):  # fmt: skip
        self._mode = checks.mode_dict(mode, ecut, h)
        self._lcao = self._mode["name"] == "lcao"
        if basis is None and self._lcao:
            basis = "dzp"
        for label, value in (("setups", setups), ("basis", basis)):
            if isinstance(value, dict) and any(isinstance(key, int) for key in value):
                raise ValueError(f"`{label}` goes by element, not by the order of the cluster's atoms; got {value}")
        if smearing < 0 or kpt_density <= 0 or maxiter < 1:
            raise ValueError("`smearing` (eV) must not be negative, `kpt_density` and `maxiter` must be positive")
        self._settings = {
            "mode": self._mode, "basis": basis, "xc": xc, "h": h, "spinpol": bool(spinpol),
            "convergence": checks.convergence(convergence), "mixer": mixer, "nbands": nbands, "setups": setups,
            "kpts": checks.mesh(kpts), **keywords,
        }  # fmt: skip
        self._settings = {key: value for key, value in self._settings.items() if value is not None}
        if fft_potential and (not self._lcao or "gpts" in keywords):
            raise ValueError("`fft_potential` belongs to mode 'lcao' with the grid given by `h`, not by `gpts`")
        if fft_potential:
            self._settings["experimental"] = {**self._settings.get("experimental", {}), "pw_pot_calc": True}
        self.ghost_basis = bool(ghost_basis)
        if ghost_basis:
            require_ghost_basis(self._mode["name"])
        self.real_space = not fft_potential and self._mode["name"] != "pw"
        if self.real_space:
            checks.warn_of_coarse_grid(h, self._mode["name"])
        self._occupations = occupations
        self.smearing = float(smearing)
        self.kpt_density = float(kpt_density)
        self.maxiter = int(maxiter)
        self.charge = float(charge)
        self.spinpol = bool(spinpol)
        self.magmoms = magmoms
        self.paired_odd_electrons = bool(paired_odd_electrons)
        self.retries = tuple(retries)
        self.log = Path(log) if log is not None else None
        self.provides_stress = self._mode["name"] == "pw"
        self._file = None
        self._calc = None
        self._kind = None
        self._source = gpaw_field.FieldSource()
        self._validate()

    # --- the contract --------------------------------------------------------------------------------------------

    def evaluate(self, atoms: Atoms, *, stress: bool = False) -> Evaluation:
        """Energy in eV, forces in eV/angstrom, shape=(n, 3), and on request the stress in eV/angstrom^3 (PW mode).

        Raises:
            ValueError: Before any SCF, for atoms that cannot be computed as they are: none, overlapping, no box,
                an odd electron number without spin.
            ConvergenceError: After the whole ladder; the arrangement is then in `last_good_state` (extxyz).
            EngineError: For anything else that GPAW says.
        """
        if stress and not self.provides_stress:
            raise ValueError(f"GPAW gives stress in PW mode only, not in {self._mode['name']!r}: use mode='pw'")
        self._source.assign(None)
        return Evaluation(**self._evaluated(self._bare(atoms), stress=stress))

    def evaluate_in_field(
        self, atoms: Atoms, charges: PointCharges, *, response: FieldResponse | None = None,
        cores: RepulsiveCores | None = None,
    ) -> FieldEvaluation:  # fmt: skip
        """Energy and forces of atoms whose electrons feel external charges, self-consistently; see `FieldEngine`.

        Around isolated atoms the charges are in empty space, also in PW mode; in a cell that is periodic in all directions
        they repeat with it, in conducting surroundings. Charges narrower than a real-space grid can carry are taken
        as wide as the spacing of GPAW's fine grid (h/2); periodic plane waves take points. `info["embedding"]` says how
        many. Calls with and without a field may alternate; in periodic cells each change is a fresh start (symmetry).

        Raises:
            ValueError: For a site within 0.5 angstrom of a nucleus, a periodic cell with a net charge, a slab.
            EngineError, ConvergenceError: As `evaluate`; errors of the response's own family pass as they are.
        """
        atoms = self._bare(atoms)
        field = gpaw_field.ExternalField(charges, response, cores)
        gpaw_field.require_possible(atoms, field, self.charge)
        self._source.assign(field)
        return FieldEvaluation(**self._evaluated(atoms))

    def _bare(self, atoms: Atoms) -> Atoms:
        return checks.bare(atoms, ghosts=self.ghost_basis)

    def _evaluated(self, atoms: Atoms, *, stress: bool = False, potentials: bool = False) -> dict:
        """Fields of Evaluation, of FieldEvaluation if a field is assigned, or of PotentialEvaluation."""
        self._require_computable(atoms)
        started = perf_counter()
        info = self._converge(atoms)
        try:
            calc = self._calc
            energy = calc.calculate_property(atoms, "free_energy")
            extrapolated = calc.calculate_property(atoms, "energy")
            forces = calc.calculate_property(atoms, "forces")
            tensor = voigt_6_to_full_3x3_stress(calc.calculate_property(atoms, "stress")) if stress else None
            moment = float(calc.dft.results.get("magmom", 0.0))
            homo, lumo = calc.get_homo_lumo()
            of_sites, said = self._source.found(calc.dft.density)
            of_sites |= potentials_of(calc) if potentials else {}
        except Exception as error:
            self._drop()
            raise ladders.translated(error, directory=self._folder) from error
        if info["smearing_eV"] != self.smearing and self._occupations is None:
            self._drop()  # the next call asks for the requested smearing again
        info |= said | {
            "energy_extrapolated": float(extrapolated),
            "magnetic_moment": moment,
            "gap_eV": None if atoms.pbc.any() else float(lumo - homo),
            "n_electrons": self.n_electrons(atoms),
            "seconds": perf_counter() - started,
        }
        ghosts = ghosts_of(atoms)
        if ghosts.any():
            info["ghosts"] = int(ghosts.sum())
        return {"energy": float(energy), "forces": forces[~ghosts], "stress": tensor, "info": info} | of_sites

    def describe(self) -> dict:
        """Settings, versions and citation keys; nothing that depends on the machine."""
        import gpaw

        settings = {key: checks.plain(value) for key, value in sorted(self._settings.items())}
        settings |= {
            "occupations": checks.plain(self._occupations_keyword(self.smearing)),
            "maxiter": self.maxiter,
            "charge": self.charge,
            "magmoms": checks.plain(self.magmoms),
            "kpt_density": self.kpt_density,
            "ghost_basis": self.ghost_basis,
            "paired_odd_electrons": self.paired_odd_electrons,
        }
        return {
            "engine": self.name,
            "settings": settings,
            "retries": [rung.name for rung in self.retries],
            "versions": {"gpaw": gpaw.__version__, "ase": version("ase")},
            "paw_setups": checks.setups_release(),
            "references": checks.references(self._settings["xc"], lcao=self._lcao),
        }

    def close(self):
        """Frees the calculation and closes the log; a later call opens both again."""
        self._drop()
        self._source.map = None
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def settings(self) -> dict:
        """GPAW's keywords that are the same for all atoms; a copy. `charge` and `magmoms` are attributes of their own."""
        return dict(self._settings)

    def with_settings(self, changes: dict) -> GPAWEngine:
        """The same engine with other keywords for GPAW (None takes one away) that has computed nothing yet."""
        other = copy.copy(self)
        other._settings = {key: value for key, value in (self._settings | changes).items() if value is not None}
        other._calc = other._kind = other._file = None
        other._source = gpaw_field.FieldSource()
        return other

    # --- before paying -------------------------------------------------------------------------------------------

    def n_electrons(self, atoms: Atoms) -> float:
        """Number of valence electrons, `charge` and fractional caps included; read from the PAW data."""
        try:
            return self.counts.valence_electrons(atoms) - self.charge
        except (FileNotFoundError, RuntimeError) as error:
            raise ladders.translated(error, directory=self._folder) from error

    def n_basis_functions(self, atoms: Atoms) -> int:
        """Number of LCAO functions, or in PW mode of plane waves at Gamma, or in FD mode of grid points."""
        return gpaw_estimate.basis_size(self, self._bare(atoms))

    def memory_estimate_MB(self, atoms: Atoms) -> float:
        """Memory of one process that does the whole calculation, in MB, to about a factor of two."""
        return gpaw_estimate.memory_MB(self, self._bare(atoms))

    def calibrate(self, atoms: Atoms, *, iterations: int = 3) -> dict:
        """Seconds of an evaluation from a few SCF iterations and one force call; see `gpaw_estimate.calibrate`."""
        atoms = self._bare(atoms)
        self._require_computable(atoms)
        try:
            return gpaw_estimate.calibrate(self, atoms, iterations=iterations)
        except Exception as error:
            raise ladders.translated(error, directory=self._folder) from error

    def unconverged(self, atoms: Atoms):
        """A new GPAW calculator for these atoms that has computed nothing yet; the caller's to keep."""
        self._source.assign(None)
        return self._new_calculator(atoms, FRESH, self.smearing)

    # --- self-consistency ----------------------------------------------------------------------------------------

    def _converge(self, atoms: Atoms) -> dict:
        """Climbs the ladder until an attempt converges; leaves the converged calculator in `_calc`."""
        this_kind = checks.kind(atoms)
        warm = self._calc is not None and self._kind == this_kind and self._source.fits(self._calc, atoms)
        if not warm:
            self._drop()
        first = Rung("warm start" if warm else FRESH.name)
        ladder = [first, *(rung for rung in self.retries if warm or rung.name != FRESH.name)]
        failures: list[str] = []
        for rung in ladder:
            started = perf_counter()
            if rung is not first:
                logger.warning("GPAW: %s; trying %s", failures[-1], rung.name)
            try:
                smearing = self._attempt(atoms, rung, fresh=rung is not first or not warm)
            except SymmetryLost:
                # The atoms left the symmetry that the crystal had: nothing failed, only the warm start is lost.
                logger.info("GPAW: the atoms broke the symmetry of the last call; starting afresh")
                self._drop()
                return self._converge(atoms)
            except NotConverged as failure:
                failures.append(f"{rung.name}: {failure} ({perf_counter() - started:.0f} s)")
                self._drop()
                continue
            self._kind = this_kind
            if failures:
                logger.warning("GPAW converged with %s after: %s", rung.name, "; ".join(failures))
            if smearing != self.smearing and self._occupations is None:
                logger.warning(
                    "GPAW converged only with a smearing of %.2f eV instead of %.2f eV: this energy does not compare "
                    "with others",
                    smearing,
                    self.smearing,
                )
            return {
                "scf_iterations": int(self._calc.dft.scf_loop.niter),
                "start": "warm" if warm and rung is first else "fresh",
                "retries": failures + ([f"{rung.name}: converged"] if failures else []),
                "smearing_eV": smearing,
            }
        saved = ladders.saved(atoms, self._folder or Path.cwd())
        raise ConvergenceError(
            f"the SCF cycle of {len(atoms)} atoms ({atoms.get_chemical_formula()}) did not converge: look at the "
            "arrangement first (a wrong cap, a bond that is too short), then raise `maxiter` or `smearing`, set "
            "`spinpol`, or give a `mixer`",
            attempts=failures,
            directory=self._folder,
            last_good_state=saved,
        )

    def _attempt(self, atoms: Atoms, rung: Rung, *, fresh: bool) -> float:
        """One SCF cycle. Returns the Fermi-Dirac width in eV that the result has."""
        smearing = self.smearing
        if rung.smearing_factor != 1.0:
            smearing = max(smearing * rung.smearing_factor, rung.smallest_smearing)
        error = None
        try:
            if fresh:
                self._calc = self._new_calculator(atoms, rung, smearing)
            self._iterate(atoms)
            if smearing != self.smearing and self._occupations is None:
                smearing = self._step_back(atoms, rung, smearing)
        except Exception as caught:
            error = caught
        try:
            agree_on_failure(world(), error)
        except Exception as agreed:
            self._drop()
            raise ladders.classified(agreed, directory=self._folder) from agreed
        return smearing

    def _iterate(self, atoms: Atoms):
        self._source.refresh(self._calc, atoms)
        for _ in self._calc.iconverge(atoms.copy()):
            pass

    def _step_back(self, atoms, rung, smearing) -> float:
        """From the density at a larger smearing to the requested one; the larger stays if that fails too."""
        from gpaw import ConvergenceError as GPAWConvergenceError

        try:
            ladders.change_occupations(self._calc.dft, atoms, self._occupations_keyword(self.smearing))
            self._iterate(atoms)
            return self.smearing
        except GPAWConvergenceError:
            self._drop()
            self._calc = self._new_calculator(atoms, rung, smearing)
            self._iterate(atoms)
            return smearing

    def _new_calculator(self, atoms: Atoms, rung: Rung, smearing: float):
        from gpaw.new.ase_interface import GPAW

        keywords = self.gpaw_keywords(atoms, rung, smearing)
        return GPAW(**self._source.added_to(keywords), txt=self._log_stream())

    def gpaw_keywords(self, atoms: Atoms, rung: Rung = FRESH, smearing: float | None = None) -> dict:
        """The keywords with which GPAW is called for these atoms (a way to reproduce a call by hand)."""
        keywords = copy.copy(self._settings)
        if "experimental" in keywords:
            keywords["experimental"] = dict(keywords["experimental"])  # GPAW empties the dict that it is given
        setups, basis = setups_and_basis(
            atoms,
            setups=keywords.get("setups"),
            basis=keywords.get("basis"),
            xc_setup_name=self._xc_setup_name,
            lcao=self._lcao,
        )
        keywords |= {
            "setups": setups,
            "basis": basis,
            "occupations": self._occupations_keyword(self.smearing if smearing is None else smearing),
            "maxiter": int(self.maxiter * rung.maxiter_factor),
            "charge": self.charge,
        }
        if "kpts" not in keywords and atoms.pbc.any():
            keywords["kpts"] = {"density": self.kpt_density, "gamma": True}
        # Time reversal always holds here (collinear spins, no external vector potential) and halves the k-points.
        keywords.setdefault("symmetry", {"point_group": bool(atoms.pbc.all())})
        if self.spinpol:
            keywords["magmoms"] = checks.moments(atoms, self.magmoms, lambda: self.n_electrons(atoms))
        return {key: value for key, value in (keywords | rung.keywords).items() if value is not None}

    def _occupations_keyword(self, smearing: float) -> dict:
        return self._occupations or {"name": "fermi-dirac", "width": smearing}

    # --- checks --------------------------------------------------------------------------------------------------

    def _validate(self):
        prepare_engines()
        functional = checks.functional(self._settings, self._occupations_keyword(self.smearing))
        self._xc_setup_name = functional.get_setup_name()
        self.counts = PAWCounts(
            setups=self._settings.get("setups"), basis=self._settings.get("basis"), xc=functional, lcao=self._lcao
        )

    def _require_computable(self, atoms: Atoms):
        checks.require_sound(atoms)
        paired = not (self.spinpol or self.paired_odd_electrons or checks.has_k_points(atoms, self.gpaw_kpts(atoms)))
        checks.require_electrons(self.n_electrons(atoms), atoms.get_chemical_formula(), paired=paired)
        if self.charge and self.real_space and atoms.pbc.any() and not atoms.pbc.all():
            raise ValueError(
                f"a charged ({self.charge:+g} e) arrangement that is periodic along some directions only cannot be "
                "solved on a real-space grid: use mode='pw', or fft_potential in LCAO mode"
            )

    def gpaw_kpts(self, atoms: Atoms):
        """GPAW's k-point keyword for these atoms."""
        by_density = {"density": self.kpt_density, "gamma": True} if atoms.pbc.any() else (1, 1, 1)
        return self._settings.get("kpts", by_density)

    # --- what is left behind ---------------------------------------------------------------------------------------

    def _log_stream(self):
        if self.log is None or not is_root():
            return None
        if self._file is None or self._file.closed:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.log.open("a", encoding="utf-8")
        return self._file

    @property
    def _folder(self) -> Path | None:
        return self.log.parent if self.log else None

    def _drop(self):
        self._calc = None
        self._kind = None
        self._source.forget()
