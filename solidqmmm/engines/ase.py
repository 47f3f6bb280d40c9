"""Any ASE calculator as an engine."""

from __future__ import annotations

import logging
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from time import perf_counter

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from solidqmmm.engines.closing import Closing
from solidqmmm.engines.protocols import Evaluation
from solidqmmm.errors import EngineError, EnvironmentProblem
from solidqmmm.runtime import is_root, world

logger = logging.getLogger(__name__)

# Citation keys by package, for calculators that users are likely to bring.
_KNOWN = {"tblite": ("grimme2017gfn1",)}


class ASEEngine(Closing):
    """An ASE calculator: evaluated on MPI rank 0, its answer or its failure told to all ranks.

    The energy is the calculator's `free_energy` where it has one (consistent with the forces), else its `energy`.

    Args:
        calculator: A ready ASE calculator.
        references: Citation keys (of data/references.bib) that a user of the results owes.

    Raises:
        TypeError: If the object is not an ASE calculator.
        ValueError: If it gives no forces.
    """

    name = "ase"

    def __init__(self, calculator, *, references=()):
        if not hasattr(calculator, "get_property") and not hasattr(calculator, "get_forces"):
            raise TypeError(f"`calculator` must be an ASE calculator (an object, not a class), got {calculator!r}")
        if isinstance(calculator, type):
            raise TypeError(f"`calculator` must be an object, got the class {calculator.__name__}: call it first")
        self.calculator = calculator
        self.references = tuple(references)
        self._properties = tuple(getattr(calculator, "implemented_properties", ("energy", "forces")))
        self._keywords: dict = {}
        if "forces" not in self._properties:
            raise ValueError(f"{type(calculator).__name__} gives no forces, only {', '.join(self._properties)}")
        self.provides_stress = "stress" in self._properties

    @classmethod
    def from_import(cls, path: str, /, *, references=(), **keywords) -> ASEEngine:
        """From an import path such as "tblite.ase:TBLite" and the keywords of the calculator.

        Raises:
            ValueError: If the path or the keywords are wrong.
            EnvironmentProblem: If the package is not installed.
        """
        module_name, colon, attribute = path.partition(":")
        if not (module_name and colon and attribute):
            raise ValueError(f"`calculator` must look like 'tblite.ase:TBLite' (module, colon, class), got {path!r}")
        try:
            module = import_module(module_name)
        except ImportError as error:
            raise EnvironmentProblem(
                f"the ASE calculator {path!r} cannot be imported ({error}): install the package that brings it"
            ) from error
        if not hasattr(module, attribute):
            raise ValueError(f"module {module_name!r} has no calculator {attribute!r}: check the name after the colon")
        kind = getattr(module, attribute)
        known = getattr(kind, "default_parameters", {})
        for key in keywords:
            # ASE's base class keeps any keyword, so that a misspelt one changes nothing, silently
            if key not in known and (near := get_close_matches(key, known, n=1, cutoff=0.75)):
                raise ValueError(f"{path} has no '{key}': did you mean '{near[0]}'?")
        try:
            calculator = kind(**keywords)
        except Exception as error:
            raise ValueError(
                f"{path} does not take these arguments ({type(error).__name__}: {error}): {keywords}"
            ) from error
        engine = cls(calculator, references=references)
        engine._keywords = dict(keywords)
        return engine

    def evaluate(self, atoms: Atoms, *, stress: bool = False) -> Evaluation:
        """Energy in eV, forces in eV/angstrom, shape=(n, 3), and on request the stress in eV/angstrom^3.

        Raises:
            EngineError: With the calculator's own words, on all ranks.
            ValueError: For no atoms, or a stress that the calculator does not give.
        """
        if stress and not self.provides_stress:
            raise ValueError(f"{type(self.calculator).__name__} gives no stress: ask for energy and forces only")
        if len(atoms) == 0:
            raise ValueError("there are no atoms to compute: the quantum region is empty")
        communicator = world()
        answer = None
        if is_root():
            try:
                answer = self._evaluate(atoms.copy(), stress)
            except Exception as error:
                logger.debug("calculator failed", exc_info=True)
                answer = EngineError(f"{type(self.calculator).__name__} says: {type(error).__name__}: {error}")
                answer.__cause__ = error if communicator.size == 1 else None
        if communicator.size > 1:
            answer = communicator.bcast(answer, root=0)
        if isinstance(answer, Exception):
            raise answer
        energy, forces, tensor, info = answer
        return Evaluation(energy, forces, tensor, info)

    def _evaluate(self, atoms: Atoms, stress: bool) -> tuple:
        started = perf_counter()
        atoms.calc = self.calculator
        try:
            forces = np.array(atoms.get_forces(apply_constraint=False), dtype=float)
            consistent = "free_energy" in self._properties
            energy = float(atoms.get_potential_energy(force_consistent=consistent))
            tensor = None
            if stress:
                tensor = np.asarray(atoms.get_stress(apply_constraint=False), dtype=float)
                tensor = tensor if tensor.shape == (3, 3) else voigt_6_to_full_3x3_stress(tensor)
        finally:
            atoms.calc = None
        if forces.shape != (len(atoms), 3) or not (np.isfinite(energy) and np.isfinite(forces).all()):
            raise ArithmeticError(f"energy {energy} or forces of shape {forces.shape} are not finite numbers")
        return energy, forces, tensor, {"seconds": perf_counter() - started}

    def describe(self) -> dict:
        """Class, keywords and version of the calculator."""
        kind = type(self.calculator)
        parameters = getattr(self.calculator, "parameters", None)
        return {
            "engine": self.name,
            "calculator": f"{kind.__module__}:{kind.__qualname__}",
            "settings": _plain({**(dict(parameters) if isinstance(parameters, dict) else {}), **self._keywords}),
            "versions": {"ase": version("ase"), **_version_of(kind.__module__)},
            "references": ["larsen2017ase", *_KNOWN.get(kind.__module__.partition(".")[0], ()), *self.references],
        }

    def close(self):
        """Nothing to free: the calculator is its maker's."""


def _version_of(module: str) -> dict:
    package = module.partition(".")[0]
    if package == "ase":
        return {}
    for distribution in packages_distributions().get(package, ()):
        try:
            return {distribution: version(distribution)}
        except PackageNotFoundError:  # an editable install that is half gone
            continue
    return {}


def _plain(value):
    """JSON for a calculator's parameters; what has no plain form is named by its class."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return value.item() if isinstance(value, np.generic) else type(value).__name__
