"""What all results share: frozen, plain JSON on disk, and back again as the same object."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import types
import typing
from importlib import import_module
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from monty.json import MSONable

from solidqmmm import __version__
from solidqmmm.system.foreign_code import USER_RECIPE, require_known_classes
from solidqmmm.system.whole_file import written_whole

LARGEST_INLINE_BYTES = 1_000_000

# Names say their units; the longest suffix that fits wins.
_SUFFIXES = {
    "eV_per_A": "eV/angstrom",
    "eV_per_A2": "eV/angstrom^2",
    "eV_per_A3": "eV/angstrom^3",
    "J_per_m2": "J/m^2",
    "MPa_sqrt_m": "MPa sqrt(m)",
    "per_cm": "1/cm",
    "GPa": "GPa",
    "THz": "THz",
    "meV": "meV",
    "eV": "eV",
    "A3": "angstrom^3",
    "A2": "angstrom^2",
    "A": "angstrom",
    "MB": "MB",
    "amu": "amu",
    "fs": "fs",
    "ps": "ps",
    "K": "K",
    "e": "e",
    "s": "s",
}


def unit_in_name(name: str) -> str | None:
    """The unit that a field's name ends with ('bulk_modulus_GPa' -> 'GPa'), or None."""
    fitting = [suffix for suffix in _SUFFIXES if name.endswith(f"_{suffix}")]
    return _SUFFIXES[max(fitting, key=len)] if fitting else None


@dataclasses.dataclass(frozen=True, eq=False)
class Result(MSONable):
    """Base of the frozen answers: a frozen dataclass of plain values, arrays, dicts and other results.

    On disk each field is a key of one JSON object, beside `@module`, `@class`, `@version` and `units`. Arrays
    are lists; those above 1 MB go to an HDF5 file of the same name beside the JSON, which then holds
    `{"hdf5": file, "dataset": name}` in their place. Numbers that are not finite are written as null and read
    back as NaN where the field's annotation says float or array.

    Class attributes:
        UNITS: Units of fields whose names do not say them; those that do ('energy_eV') are found without it.
        METHOD_REFERENCES: Keys of data/references.bib that a user owes for the method, beside those of model and engines.
    """

    UNITS: ClassVar[dict[str, str]] = {}
    METHOD_REFERENCES: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def units(cls) -> dict[str, str]:
        """Unit of each field that has one."""
        named = {field.name: unit_in_name(field.name) for field in dataclasses.fields(cls)}
        return {name: unit for name, unit in named.items() if unit} | cls.UNITS

    # --- dictionaries -------------------------------------------------------------------------------------

    def as_dict(self) -> dict:
        """Plain JSON values, everything inline."""
        return self._as_dict(None, "")

    def _as_dict(self, side_file, prefix):
        head = {"@module": type(self).__module__, "@class": type(self).__qualname__, "@version": __version__}
        body = {
            field.name: _plain(getattr(self, field.name), side_file, f"{prefix}{field.name}")
            for field in dataclasses.fields(self)
        }
        return {**head, **body, "units": self.units()}

    @classmethod
    def from_dict(cls, dct: dict) -> Self:
        """The inverse of `as_dict`.

        Raises:
            ValueError: If a field is missing, or still refers to a side file (use `load`).
        """
        hints = typing.get_type_hints(cls)
        given = {}
        for field in dataclasses.fields(cls):
            if field.name in dct:
                given[field.name] = _restored(dct[field.name], hints[field.name], field.name)
            elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                raise ValueError(f"{cls.__name__} has the field `{field.name}`, which is missing in the file")
        return cls(**given)

    # --- files --------------------------------------------------------------------------------------------

    def save(self, path) -> Path:
        """Writes JSON, and HDF5 beside it for arrays above 1 MB. An interrupted write leaves the old files.

        Call it on one MPI rank.
        """
        path = Path(path)
        side_file = _SideFile(path.with_suffix(".h5"))
        dct = self._as_dict(side_file, "")
        side_file.write()
        # one line for each field: short to read by eye, and a diff shows which field changed
        lines = (f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in dct.items())
        write_atomically(path, "{\n" + ",\n".join(lines) + "\n}\n")
        return path

    @classmethod
    def load(cls, path) -> Self:
        """The result that was saved at `path` (a JSON file, or a run folder that holds result.json).

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If the file is damaged, holds something else, or names classes of foreign modules.
        """
        path = Path(path)
        if path.is_dir():
            path = path / "result.json"
        try:
            dct = json.loads(path.read_text())
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{path} is damaged ({error}): run the study again in its folder with --force, its journal is used"
            ) from error
        if not isinstance(dct, dict) or not all(isinstance(dct.get(key), str) for key in ("@class", "@module")):
            raise ValueError(f"{path} holds no result of solidqmmm (no '@class' in it)")
        require_known_classes(dct, path, known=lambda node: _loaded_class(node) is not None)
        return cls._class_of(dct).from_dict(_with_arrays(dct, path.parent))

    @classmethod
    def _class_of(cls, dct):
        if dct["@class"] == cls.__qualname__:  # also the way for results of a user's own recipe
            return cls
        found = _loaded_class(dct)
        if found is None:
            require_known_classes({"@module": dct["@module"]}, "the file")
            found = _imported(dct["@module"])
            for name in dct["@class"].split("."):
                found = getattr(found, name, None)
        if not (isinstance(found, type) and issubclass(found, cls)):
            raise ValueError(f"the file holds a {dct['@class']}, expected a {cls.__name__}")
        return found

    # --- to look at ---------------------------------------------------------------------------------------

    def summary(self) -> list[tuple[str, str]]:
        """The main numbers as rows of label and value; by default every field that is a single value."""
        rows = []
        units = self.units()
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, str | bool | int | float | np.generic):
                continue
            unit = units.get(field.name, "")
            suffix = next((s for s, u in _SUFFIXES.items() if u == unit and field.name.endswith(f"_{s}")), "")
            label = field.name.removesuffix(f"_{suffix}").replace("_", " ")
            rows.append((label, f"{_short(value)} {unit}".strip()))
        return rows


def _loaded_class(dct: dict) -> type[Result] | None:
    """The result class that a mapping names, if it is of a module that is loaded already, such as a user's recipe."""
    found = sys.modules.get(str(dct.get("@module")))
    for name in str(dct.get("@class")).split("."):
        found = getattr(found, name, None)
    return found if isinstance(found, type) and issubclass(found, Result) else None


def _imported(module: str):
    try:
        return import_module(module)
    except ImportError as error:
        own = module.removeprefix(USER_RECIPE)
        recipe = f'the recipe that made it first, `solidqmmm.recipebook.find("{own}.py")`'
        raise ValueError(
            f"the file holds a result of {module}, which cannot be imported ({error}): load "
            f"{recipe if own != module else 'its module first'}, or read the file as plain JSON"
        ) from error


def write_atomically(path, text: str | bytes) -> Path:
    """Writes a whole file or nothing."""
    with written_whole(path) as temporary:
        temporary.write_bytes(text.encode() if isinstance(text, str) else text)
    return Path(path)


def _short(value) -> str:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float | np.floating) else str(value)


# --- values to JSON and back ------------------------------------------------------------------------------


class _SideFile:
    """Large arrays on their way to HDF5."""

    def __init__(self, path: Path):
        self.path = path
        self.arrays = {}

    def add(self, name, array):
        self.arrays[name] = array
        return {"hdf5": self.path.name, "dataset": name}

    def write(self):
        if not self.arrays:
            return
        import h5py

        with written_whole(self.path) as temporary, h5py.File(temporary, "w") as file:
            for name, array in self.arrays.items():
                text = array.dtype.kind == "U"
                file.create_dataset(name, data=array.astype("S") if text else array, compression="gzip")


def _plain(value, side_file, name):
    """`value` in the types that JSON knows."""
    if value is None or isinstance(value, str | bool | int):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, np.ndarray):
        if side_file is not None and value.nbytes > LARGEST_INLINE_BYTES and value.dtype != object:
            return side_file.add(name, value)
        if np.iscomplexobj(value):
            return {"real": _plain(value.real, None, name), "imag": _plain(value.imag, None, name)}
        return _finite(value.tolist()) if value.dtype.kind == "f" else _plain(value.tolist(), side_file, name)
    if isinstance(value, np.generic):
        return _plain(value.item(), side_file, name)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Result):
        return value._as_dict(side_file, f"{name}/")
    if hasattr(value, "as_dict"):
        return _plain(value.as_dict(), side_file, name)
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        return {
            field.name: _plain(getattr(value, field.name), side_file, f"{name}/{field.name}")
            for field in fields
        }
    if isinstance(value, dict):
        return {str(key): _plain(item, side_file, f"{name}/{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, side_file, f"{name}/{i}") for i, item in enumerate(value)]
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"field `{name}` holds a {type(value).__name__}, which has no plain JSON form")


def _finite(values):
    if isinstance(values, list):
        return [_finite(value) for value in values]
    return values if math.isfinite(values) else None


def _with_arrays(value, folder: Path):
    """References to side files replaced by the arrays themselves."""
    if isinstance(value, list):
        # a list of numbers, however long, refers to nothing
        return (
            [_with_arrays(item, folder) for item in value]
            if any(isinstance(i, list | dict) for i in value)
            else value
        )
    if not isinstance(value, dict):
        return value
    if value.keys() == {"hdf5", "dataset"}:
        import h5py

        with h5py.File(folder / value["hdf5"], "r") as file:
            array = file[value["dataset"]][()]
        return array.astype("U") if array.dtype.kind == "S" else array
    return {key: _with_arrays(item, folder) for key, item in value.items()}


def _restored(value, hint, name):
    """A JSON value in the type that the annotation asks for; as it is where the annotation says nothing."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _restored(value, args[0], name)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        inner = [arg for arg in args if arg is not type(None)]
        return _restored(value, inner[0], name) if len(inner) == 1 else value
    if isinstance(value, dict) and value.keys() == {"hdf5", "dataset"}:
        raise ValueError(
            f"`{name}` is in the side file {value['hdf5']}: read the result with Result.load(path)"
        )
    if hint is np.ndarray or origin is np.ndarray:
        return value if isinstance(value, np.ndarray) else _as_array(value)
    if hint is float:
        return math.nan if value is None else float(value)
    if origin is tuple or hint is tuple:
        inner = args[:1] * len(value) if len(args) == 2 and args[1] is Ellipsis else args
        return tuple(_restored(v, h, name) for v, h in zip(value, inner)) if inner else tuple(value)
    if origin is list and args:
        return [_restored(item, args[0], name) for item in value]
    if origin is dict and args and value is not None:
        key_type = args[0] if args[0] in (int, float) else str
        return {key_type(key): _restored(item, args[1], name) for key, item in value.items()}
    if hint is Path:
        return Path(value)
    if isinstance(hint, type) and isinstance(value, dict):
        if issubclass(hint, Result) and "@class" in value:
            return hint._class_of(value).from_dict(value)
        if hasattr(hint, "from_dict"):
            return hint.from_dict(value)
        if dataclasses.is_dataclass(hint):
            hints = typing.get_type_hints(hint)
            fields = [field.name for field in dataclasses.fields(hint) if field.name in value]
            return hint(
                **{field: _restored(value[field], hints[field], f"{name}.{field}") for field in fields}
            )
    return value


def _as_array(value):
    if isinstance(value, dict):
        return _as_array(value["real"]) + 1j * _as_array(value["imag"])
    return np.array(value, dtype=float) if _has_null(value) else np.array(value)


def _has_null(value) -> bool:
    return any(map(_has_null, value)) if isinstance(value, list) else value is None
