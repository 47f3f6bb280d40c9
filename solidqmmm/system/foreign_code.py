"""Whose code data may call for: a study imports calculators of a list or of permitted modules, JSON names classes of a few.

A calculator is named by an import path, and importing runs code. The list holds calculators that compute in this process
and take nothing but numbers and names. Those that start programs (most file-based ones of ASE), or whose models are pickles
(MACE, CHGNet and others of PyTorch), need a permission by whoever runs the study, for the study itself cannot give it.

pymatgen's and monty's JSON names Python classes by `@module` and `@class`, and whoever decodes it imports the module and
calls the class. Results and structures need those of a few packages, and no others are let through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches

from solidqmmm.system.study_file import Problem

#: Calculators that need no permission.
CALCULATORS = (
    "ase.calculators.eam:EAM",
    "ase.calculators.emt:EMT",
    "ase.calculators.lj:LennardJones",
    "ase.calculators.morse:MorsePotential",
    "ase.calculators.tersoff:Tersoff",
    "dftd3.ase:DFTD3",
    "dftd4.ase:DFTD4",
    "tblite.ase:TBLite",
    "xtb.ase.calculator:XTB",
)

#: What the names of modules begin with that users' recipes are loaded as.
USER_RECIPE = "solidqmmm_user_recipe_"

#: Modules whose classes a JSON file may name; with a dot at the end all below.
CLASSES = (
    "numpy", "pymatgen.core.", "pymatgen.electronic_structure.", "pymatgen.symmetry.", "solidqmmm.",
    USER_RECIPE,
)  # fmt: skip


def require_known_classes(value, source, known: Callable[[dict], bool] = lambda _: False) -> None:
    """Refuses decoded JSON or YAML that names classes of other modules than `CLASSES`, or functions.

    Args:
        value: The content.
        source: The file that it came from.
        known: Whether the class that a mapping names is harmless nevertheless.

    Raises:
        ValueError: Naming the module and `source`, the file that it came from.
    """
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += [item for item in node if isinstance(item, list | dict)]
        elif isinstance(node, dict):
            waiting += [item for item in node.values() if isinstance(item, list | dict)]
            if "@callable" in node:
                raise ValueError(f"{source} names a Python function ({node['@callable']!r}): data has none, it is not read")
            module = node.get("@module", "numpy")
            if not (isinstance(module, str) and module.startswith(CLASSES)) and not known(node):
                raise ValueError(
                    f"{source} names a class of the Python module {module!r}, which is not imported for data: expected "
                    f"one of {', '.join(name.rstrip('._') for name in CLASSES)}"
                )


def is_permitted(calculator: str, permitted: Iterable[str] = ()) -> bool:
    """Whether a calculator ("module:Class") is of the list, or lies in one of the `permitted` modules or below it."""
    return calculator in CALCULATORS or is_permitted_module(calculator, permitted)


def is_permitted_module(path: str, permitted: Iterable[str] = ()) -> bool:
    """Whether an import path ("module:name") lies in one of the `permitted` modules or below it."""
    module = path.partition(":")[0]
    return any(module == name or module.startswith(f"{name}.") for name in permitted)


def import_problems(raw: dict, permitted: Iterable[str] = ()) -> list[Problem]:
    """What a study would import without permission, in whichever section.

    Args:
        raw: The study as it was written.
        permitted: Modules that its user permits.
    """
    permitted = tuple(permitted)
    return [
        Problem(path, _refusal(calculator))
        for path, calculator in _calculators(raw, ())
        if ":" in calculator and not is_permitted(calculator, permitted)  # without, it is no import path
    ]


def _refusal(calculator: str) -> str:
    near = get_close_matches(calculator, CALCULATORS, n=1, cutoff=0.8)
    hint = f"did you mean '{near[0]}'? " if near else ""
    module = calculator.partition(":")[0]
    return (
        f"{calculator!r} is none of the calculators that a study may import ({', '.join(CALCULATORS)}); {hint}If you trust "
        f"its code, permit it: --allow-import {module} (in Python allow_import=[{module!r}])"
    )


def _calculators(node, path: tuple) -> Iterator[tuple[tuple, str]]:
    if isinstance(node, dict):
        if node.get("engine") == "ase" and isinstance(node.get("calculator"), str):
            yield (*path, "calculator"), node["calculator"]
        for key, value in node.items():
            yield from _calculators(value, (*path, key))
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from _calculators(value, (*path, i))
