"""Tables of energies against the cell they were computed in, as users of any code have them: CSV or JSON.

    label,n_atoms,energy_eV,length_A              or, for cells of any shape,    label,n_atoms,energy_eV,structure

`energy_eV` is the uncorrected formation energy of a defect, or any energy difference with the same reference in every row.
Of total energies the column `bulk_energy_eV`, the perfect crystal in the same cell, is subtracted. Further columns:
`error_eV` (standard error), `charge` (e), `potentials` (a file of site potentials, see `site_potential_file`). The cell is a
cube of edge `length_A`, that of the file `structure` (relative to the table), or, without both, the repeats of a given
structure that hold `n_atoms`. In JSON the same records are a list, or the list `points` of a mapping; `structure` may there
be a pymatgen dictionary, and `cell_A` three vectors.
"""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass, field
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path

import numpy as np

from solidqmmm.errors import SolidQMMMError, StudyError
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.unit_cell import in_cell

COLUMNS = (
    "label", "n_atoms", "energy_eV", "bulk_energy_eV", "error_eV", "length_A", "structure", "cell_A", "charge", "potentials",
)  # fmt: skip
_REQUIRED = ("label", "n_atoms", "energy_eV")
_DELIMITERS = ",;\t"
# Of the supercell's atoms, by which a defect may change their number.
_SMALL_CHANGE = 0.05


@dataclass(frozen=True, eq=False)
class CellEnergy:
    """The energy of a charged defect in one periodic cell.

    Attributes:
        label: Its name.
        n_atoms: Number of atoms in the cell.
        cell: Cell vectors as rows in angstrom, shape=(3, 3).
        energy: In eV, with the same reference in every cell.
        error: Its standard error in eV; None where nobody knows.
        charge: In e, where the table says it.
        crystal: The cell's atoms, where the table names a structure.
        potentials: File of site potentials, where the table names one.

    Raises:
        ValueError: For a cell without volume, an energy that is not finite, or an error that is not positive.
    """

    label: str
    n_atoms: int
    cell: np.ndarray
    energy: float
    error: float | None = None
    charge: float | None = None
    crystal: Crystal | None = None
    potentials: Path | None = None

    def __post_init__(self):
        cell = np.array(self.cell, dtype=float)
        if cell.shape != (3, 3) or not np.isfinite(cell).all() or abs(np.linalg.det(cell)) < 1e-6:
            raise ValueError(f"the cell must be three independent vectors in angstrom, got {cell.tolist()}")
        cell.flags.writeable = False
        object.__setattr__(self, "cell", cell)
        if not math.isfinite(self.energy):
            raise ValueError(f"`energy_eV` must be a finite number, got {self.energy}")
        if self.error is not None and not (math.isfinite(self.error) and self.error > 0):
            raise ValueError(f"`error_eV` must be positive (or empty where it is not known), got {self.error}")
        if self.n_atoms < 1:
            raise ValueError(f"`n_atoms` must be a positive whole number, got {self.n_atoms}")

    @property
    def volume(self) -> float:
        """In angstrom^3."""
        return abs(float(np.linalg.det(self.cell)))


@dataclass(frozen=True, eq=False)
class EnergyTable:
    """A table that was read.

    Attributes:
        path: The file.
        cells: One for each row.
        bulk_subtracted: Whether it had a column `bulk_energy_eV`.
        files: The files it names, by the words it names them with.
        warnings: What its user should know.
    """

    path: Path
    cells: tuple[CellEnergy, ...]
    bulk_subtracted: bool
    files: dict[str, Path] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def checksums(self) -> dict[str, str]:
        """sha256 of the table and of the files it names, by bare name."""
        return {path.name: sha256(path.read_bytes()).hexdigest() for path in (self.path, *self.files.values())}


def read_energies(path, *, structure=None) -> EnergyTable:
    """Reads a table of energies.

    Args:
        path: A .csv (commas, semicolons or tabs; lines that begin with # are skipped) or .json file.
        structure: The crystal that rows without `length_A` and `structure` repeat; a path, Structure, Atoms or Crystal.

    Raises:
        StudyError: With every mistake in the table by its row, or if the file cannot be read.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        names = [p.name for p in sorted(path.parent.iterdir())] if path.parent.is_dir() else []
        near = get_close_matches(path.name, names, n=1)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise StudyError(f"table of energies not found: {path}{hint}") from None
    except (UnicodeDecodeError, OSError) as error:
        raise StudyError(f"{path} is no table of energies: {error}; expected a text file, CSV or JSON") from None
    read = _json if text.lstrip().startswith(("[", "{")) else _csv
    try:
        records, columns = read(path, text)
    except (csv.Error, RecursionError) as error:
        raise StudyError(f"{path} is no table of energies: {error}") from None
    problems = [
        f"the column `{name}` is missing{_nearest(name, columns)}" for name in _REQUIRED if name not in columns
    ]
    unknown = [name for name in columns if name not in COLUMNS]
    # A column that is nearly a known one is a slip, not a note of the user's.
    for name in list(unknown):
        near = get_close_matches(name.lower(), [c.lower() for c in COLUMNS if c not in columns], n=1, cutoff=0.75)
        if near and not any(f"'{name}'" in text for text in problems):
            problems.append(f"unknown column '{name}'; did you mean `{_as_known(near[0])}`?")
    if problems:
        raise StudyError(
            f"{path} cannot be used; its columns are: {', '.join(columns)}", problems=problems
        )
    try:
        unit = None if structure is None else _crystal(structure)
    except ValueError as error:
        raise StudyError(str(error)) from None
    has_bulk = "bulk_energy_eV" in columns
    cells, files = [], {}
    for where, record in records:
        try:
            cells.append(_cell_energy(record, path.parent, unit, has_bulk, files))
        except ValueError as error:
            problems.append(f"{where}: {error}")
    if not records:
        problems.append("there are no rows")
    if problems:
        raise StudyError(f"{path} cannot be used", problems=problems)
    warnings = [f"the column '{name}' is not used" for name in unknown]
    if unit is not None:
        warnings += _of_another_density(cells, unit)
    return EnergyTable(path, tuple(cells), has_bulk, files, tuple(warnings))


# --- text to records ----------------------------------------------------------------------------------------


def _csv(path: Path, text: str):
    """Pairs of a row's name and its record, and the columns."""
    numbered = enumerate(text.splitlines(), start=1)
    lines = [(k, line) for k, line in numbered if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise StudyError(f"{path} is empty; expected the columns label,n_atoms,energy_eV and length_A or structure")
    head = lines[0][1]
    delimiter = max(_DELIMITERS, key=head.count)
    columns = [name.strip() for name in next(csv.reader([head], delimiter=delimiter))]
    doubled = sorted({name for name in columns if columns.count(name) > 1})
    if doubled:
        raise StudyError(f"{path} has the column '{doubled[0]}' twice: keep one of them")
    records = []
    for number, line in lines[1:]:
        values = [value.strip() for value in next(csv.reader([line], delimiter=delimiter))]
        if len(values) != len(columns):
            raise StudyError(
                f"{path} line {number}: {len(values)} values for {len(columns)} columns ({', '.join(columns)})"
            )
        record = {name: value for name, value in zip(columns, values) if value != ""}
        records.append((f"line {number}", record))
    return records, columns


def _json(path: Path, text: str):
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise StudyError(f"{path} is not valid JSON: {error}") from None
    points = found.get("points") if isinstance(found, dict) else found
    if not isinstance(points, list) or not all(isinstance(point, dict) for point in points):
        raise StudyError(f"{path}: expected a list of records, or a mapping with the list `points`")
    records = [(f"point {k}", {key: v for key, v in point.items() if v is not None}) for k, point in enumerate(points, 1)]
    return records, list(dict.fromkeys(key for point in points for key in point))


def _as_known(lower: str) -> str:
    return next(name for name in COLUMNS if name.lower() == lower)


def _nearest(name: str, columns) -> str:
    near = get_close_matches(name.lower(), [c.lower() for c in columns], n=1, cutoff=0.6)
    found = next((c for c in columns if near and c.lower() == near[0]), None)
    return "" if found is None else f" (is it '{found}'?)"


# --- a record -----------------------------------------------------------------------------------------------


def _cell_energy(record, folder: Path, unit: Crystal | None, has_bulk: bool, files) -> CellEnergy:
    missing = [name for name in _REQUIRED if name not in record]
    if missing:
        raise ValueError(f"no value of {', '.join(missing)}")
    n_atoms = _number(record, "n_atoms")
    if n_atoms != round(n_atoms):
        raise ValueError(f"`n_atoms` must be a whole number, got {record['n_atoms']}")
    energy = _number(record, "energy_eV")
    if has_bulk:
        if "bulk_energy_eV" not in record:
            raise ValueError("no value of bulk_energy_eV, which other rows have: the references of the rows would differ")
        energy -= _number(record, "bulk_energy_eV")
    cell, crystal = _cell(record, folder, unit, int(n_atoms), files)
    potentials = record.get("potentials")
    if potentials is not None:
        potentials = files[potentials] = _file(folder, potentials, "potentials")
    return CellEnergy(
        label=str(record["label"]),
        n_atoms=int(n_atoms),
        cell=cell,
        energy=energy,
        error=_number(record, "error_eV") if "error_eV" in record else None,
        charge=_number(record, "charge") if "charge" in record else None,
        crystal=crystal,
        potentials=potentials,
    )


def _number(record, name: str) -> float:
    value = record[name]
    try:
        if isinstance(value, bool):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"`{name}` must be a number, got {value!r}") from None
    if not math.isfinite(number):
        raise ValueError(f"`{name}` must be a finite number, got {value!r}")
    return number


def _cell(record, folder, unit, n_atoms, files):
    """Cell vectors, and the atoms in them where they are known."""
    given = [name for name in ("structure", "cell_A", "length_A") if name in record]
    length = _number(record, "length_A") if "length_A" in record else None
    if length is not None and length <= 0:
        raise ValueError(f"`length_A` must be positive, got {length:g}")
    if "structure" in record:
        source = record["structure"]
        if isinstance(source, str):
            source = files[source] = _file(folder, source, "structure")
        crystal = _crystal(source)
        if abs(len(crystal) - n_atoms) > max(3, _SMALL_CHANGE * n_atoms):  # it may be the perfect cell
            raise ValueError(f"the structure has {len(crystal)} atoms, and n_atoms is {n_atoms}")
        V = abs(np.linalg.det(crystal.cell))
        if length is not None and abs(V - length**3) > 0.02 * V:
            raise ValueError(
                f"`length_A` {length:g} and the structure's cell of {V:.1f} A^3 do not agree: leave length_A, for cubes, out"
            )
        return crystal.cell, crystal
    if "cell_A" in record:
        cell = np.array(record["cell_A"], dtype=float)
        if cell.shape != (3, 3):
            raise ValueError(f"`cell_A` must be three vectors, got {record['cell_A']}")
        return cell, None
    if length is not None:
        return length * np.eye(3), None
    if unit is None:
        raise ValueError(f"no cell: give `length_A` (cubes) or `structure` (a file), got {given or 'neither'}")
    return _repeated(unit, n_atoms), None


def _file(folder: Path, name: str, what: str) -> Path:
    path = Path(name).expanduser()
    path = path if path.is_absolute() else folder / path
    if not path.is_file():
        names = [p.name for p in sorted(path.parent.iterdir())] if path.parent.is_dir() else []
        near = get_close_matches(path.name, names, n=1)
        raise ValueError(f"`{what}`: file not found: {path}" + (f"; did you mean '{near[0]}'?" if near else ""))
    return path


def _crystal(source) -> Crystal:
    try:
        if isinstance(source, dict):
            from pymatgen.core import Structure

            source = Structure.from_dict(source)
        crystal = Crystal.of(source)
    except (SolidQMMMError, ValueError, TypeError, KeyError, OSError) as error:
        raise ValueError(f"structure: {error}") from None
    if not np.asarray(crystal.pbc).all():
        raise ValueError(f"structure: expected a crystal that is periodic in three directions, got pbc {list(crystal.pbc)}")
    return crystal


def _repeated(unit: Crystal, n_atoms: int) -> np.ndarray:
    """The n x n x n repeats of a cell, its conventional or its primitive one that hold about `n_atoms` atoms."""
    shapes = {kind: in_cell(unit, kind) for kind in ("as_given", "conventional", "primitive")}
    found = []
    for cell in shapes.values():
        n = max(1, round((n_atoms / len(cell)) ** (1 / 3)))
        found.append((abs(n**3 * len(cell) - n_atoms), n, cell))
    off, n, cell = min(found, key=lambda item: item[0])
    if off > max(3, _SMALL_CHANGE * n_atoms):
        sizes = ", ".join(f"{len(cell)} n^3" for cell in shapes.values())
        raise ValueError(
            f"{n_atoms} atoms are no n x n x n supercell of the structure ({sizes} atoms): give a `structure` for each row"
        )
    return n * cell.cell


def _of_another_density(cells, unit: Crystal) -> list[str]:
    """A warning where the cells do not hold the structure's number of atoms per volume."""
    density = len(unit) / abs(np.linalg.det(unit.cell))
    off = [c for c in cells if abs(c.n_atoms / c.volume / density - 1) > 0.1 + 2 / c.n_atoms]
    return [
        f"{c.label}: {c.n_atoms} atoms in {c.volume:.1f} A^3, where the structure has {density * c.volume:.1f}; right?"
        for c in off
    ]
