"""Reading structure files with pymatgen and ASE; whatever is wrong with a file ends in one kind of error."""

from __future__ import annotations

import json
import re
from pathlib import Path

from solidqmmm.errors import StructureError
from solidqmmm.system.foreign_code import require_known_classes

# File names that pymatgen decodes as JSON or YAML (its io.registry).
_DECODED = re.compile(r"\.(json|mson|yaml|yml)", re.IGNORECASE)
# Formats whose readers in ASE look for a closing line for ever.
_ENDLESS = ("nwchem-in",)


def read_structure(path):
    """Reads a structure file with pymatgen, and with ASE where pymatgen does not know the format.

    Returns:
        A pymatgen Structure or ASE Atoms.

    Raises:
        StructureError: If the file is missing, neither library reads it, or it names Python classes that are none of a
            structure's.
    """
    path = Path(path)
    if not path.exists():
        raise StructureError(f"structure file not found: {path}")
    if not path.is_file():
        raise StructureError(f"{path} is no file: give a CIF, POSCAR, pymatgen JSON or extxyz file")
    if _DECODED.search(path.name):
        _require_data(path)
    from pymatgen.core import Structure

    try:
        return Structure.from_file(path)
    except Exception as pymatgen_says:
        import ase.io

        try:
            _require_an_end(path)
            return ase.io.read(path)
        except Exception as ase_says:
            raise StructureError(
                f"{path} was read neither by pymatgen ({brief(pymatgen_says)}) nor by ASE ({brief(ase_says)}); "
                "give a CIF, POSCAR, pymatgen JSON or extxyz file"
            ) from ase_says


def _require_an_end(path: Path):
    """Refuses what ASE would read for ever when a part of it is missing."""
    from ase.io.formats import filetype

    kind = filetype(str(path))
    if kind in _ENDLESS:
        raise ValueError(f"files of the kind {kind} are not read: one that was cut has no end for its reader")


def _require_data(path: Path):
    """pymatgen's decoder imports the modules that a file names; so it is looked through before."""
    from monty.io import zopen

    try:
        with zopen(path, mode="rt", encoding="utf-8") as file:
            text = file.read()
        if re.search(r"\.(json|mson)", path.name, re.IGNORECASE):
            content = json.loads(text)
        else:
            from ruamel.yaml import YAML

            content = YAML(typ="safe", pure=True).load(text)
        require_known_classes(content, path)
    except Exception as error:  # libraries for many formats, with errors of any kind
        raise StructureError(f"{path} cannot be read as a structure: {brief(error)}") from error


def brief(error: BaseException) -> str:
    """The first line of what a library says."""
    text = str(error).strip().splitlines()
    return text[0][:300] if text else type(error).__name__
