"""The folder of a run: what was asked for, what came out, and where to go on. Only rank 0 writes."""

from __future__ import annotations

import errno
import json
import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from solidqmmm import recipebook
from solidqmmm.errors import SolidQMMMError, StudyError
from solidqmmm.folder_lock import NAME as LOCK
from solidqmmm.folder_lock import FolderLock
from solidqmmm.results.base import Result, write_atomically
from solidqmmm.results.provenance import Provenance
from solidqmmm.runtime import agree_on_failure, is_root, world
from solidqmmm.system import study_file
from solidqmmm.system.energy_table import read_energies
from solidqmmm.system.potential import Potential, lammps_potentials_dir
from solidqmmm.system.study import Study
from solidqmmm.system.study_sections import beside
from solidqmmm.system.whole_file import sweep

logger = logging.getLogger(__name__)

# Logs of engines that are made with the model, or that failed before the first evaluation.
_LOGS = (".log", ".txt")
_NO_WRITING = (errno.EROFS, errno.EACCES, errno.EPERM)
# Keys that change no number of a run: it may go on with others.
_NO_MATTER = ("check.", "qm.timeout_s", "qm.inner.timeout_s")
# What a disk says that takes no more, and a cure.
_OF_THE_DISK = {
    errno.ENOSPC: "the disk is full: make room",
    errno.EDQUOT: "the quota of the disk is used up: make room",
    errno.EFBIG: "the file would be larger than is allowed (see `ulimit -f`)",
    errno.EROFS: "the disk is read-only: mount it for writing, or give another folder with --out",
    errno.EACCES: "a file may not be read or written: look at its owner and rights",
    errno.EIO: "the disk does not work: look at the system's log",
}


class RunFolder:
    """A folder that holds study.yaml, its input files, result.json, figures/, provenance.json and the journal.

    The folder stands on its own: structure, potential and recipe files that lay beside the study are copied into
    it, and its study.yaml names the copies.

    Args:
        path: The folder; made by `prepare`.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.seconds = {}
        self._written = []

    @property
    def study_file(self) -> Path:
        return self.path / "study.yaml"

    @property
    def result_file(self) -> Path:
        return self.path / "result.json"

    @property
    def provenance_file(self) -> Path:
        """Written last: with it the run is complete."""
        return self.path / "provenance.json"

    @property
    def figures(self) -> Path:
        return self.path / "figures"

    @property
    def journal(self) -> Path:
        """Where engine evaluations are kept, so that a second run does not repeat them."""
        return self.path / "journal"

    @contextmanager
    def locked(self, *, or_finished: bool = False) -> Iterator[None]:
        """Alone in the folder; collective, rank 0 holds the lock. Inside, what a full disk says is put into words.

        Args:
            or_finished: Whether a folder that takes no files (a read-only disk) will do without a lock where it holds a
                finished run.

        Raises:
            SolidQMMMError: If another process works there (says which); if the disk takes no more.
        """
        lock, error = None, None
        try:
            if is_root():
                lock = FolderLock(self.path)
                sweep(self.path)
        except (OSError, SolidQMMMError) as caught:
            readable = or_finished and getattr(caught, "errno", None) in _NO_WRITING and self._is_complete()
            error = None if readable else caught
        try:
            agree_on_failure(world(), error)
            yield
        except OSError as caught:
            code = caught.errno or _errno_in(str(caught))
            if code not in _OF_THE_DISK:
                raise
            raise SolidQMMMError(
                f"{_OF_THE_DISK[code]} ({caught}). What was computed is kept, and the same command goes on",
                directory=self.path,
            ) from caught
        finally:
            if lock is not None:
                lock.release()

    def prepare(self, study: Study) -> bool:
        """Makes the folder ready for `study`; collective. True if the study was finished here before.

        Raises:
            StudyError: If the folder belongs to another study; says what differs.
        """
        finished, error = False, None
        try:
            if is_root():
                finished = self._prepare(study)
        except (OSError, StudyError) as caught:
            error = caught
        agree_on_failure(world(), error)
        return world().bcast(finished, root=0)

    def _prepare(self, study: Study) -> bool:
        asked = inputs_of(study)
        if self.study_file.exists():
            present = self._present(asked, study.allow_import)
            differences = _differences(present, asked, _free(study))
            if differences:
                raise StudyError(
                    f"{self.path} holds the run of another study; give another folder with --out, or go back to the "
                    "study that is in it. What differs",
                    problems=differences,
                    directory=self.path,
                )
            if not _differences(present, asked):
                return self._is_complete()
            self._set_aside_result()
        self.path.mkdir(parents=True, exist_ok=True)
        # study.yaml last of all: a folder with a study.yaml has everything that it names
        contents = {**asked.files, self.study_file.name: study_file.to_yaml(asked.mapping)}
        self._written = [self.path / name for name in contents if not (self.path / name).exists()]
        for name, content in contents.items():
            write_atomically(self.path / name, content)
        return False

    def _set_aside_result(self):
        """Removes what a run made of its records, the mark that it is complete first."""
        for file in (self.provenance_file, self.result_file, *self.figures.glob("*.p[nd][gf]")):
            file.unlink(missing_ok=True)

    def _is_complete(self) -> bool:
        """Whether result and provenance are there and can be read; damaged ones are made again, from the journal."""
        for file in (self.result_file, self.provenance_file):
            try:
                Result.load(file)
            except FileNotFoundError:
                return False
            except (OSError, ValueError, KeyError, TypeError) as error:
                logger.warning("%s cannot be read (%s); going on from the journal", file, error)
                return False
        return True

    @contextmanager
    def withdrawn_on_failure(self) -> Iterator[None]:
        """Where the work inside fails before anything was computed, what `prepare` wrote is taken back, on rank 0.

        So the folder accepts the corrected study. Anything but logs and records of the host counts as computed.
        """
        try:
            yield
        except Exception:
            if is_root() and self.study_file in self._written:
                self._withdraw()
            raise

    def _withdraw(self):
        there = {path for path in self.path.rglob("*") if path.is_file() and path.suffix not in _LOGS}
        # What is known of the host alone has a fingerprint of its own and serves other studies as well.
        there -= {path for path in there if path.is_relative_to(self.path / "host")}
        if there <= {*self._written, self.path / LOCK}:
            for path in self._written:
                path.unlink(missing_ok=True)

    def _present(self, asked: Inputs, allow_import) -> Inputs:
        try:
            there = inputs_of(recipebook.load_study(self.study_file, allow_import=allow_import)).mapping
        except StudyError:  # of another version, or a file is gone: compare what is written
            try:
                there = study_file.read(self.study_file).mapping
            except StudyError as error:
                raise StudyError(
                    f"{self.study_file} is damaged ({error}). If the folder is of this study, remove that file: the same "
                    "command writes it again and goes on",
                    directory=self.path,
                ) from error
        contents = {name: self.path / name for name in asked.files}
        return Inputs(there, {name: path.read_bytes() for name, path in contents.items() if path.is_file()})

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts the wall time inside under `name`."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin

    def write_result(self, result: Result, name: str = "result.json") -> Path:
        """Saves a result; on rank 0."""
        if is_root():
            result.save(self.path / name)
        return self.path / name

    def write_figures(self, figures: dict) -> list[Path]:
        """Saves figures by name as png and pdf in figures/; on rank 0."""
        if not is_root():
            return []
        from solidqmmm.plotting.style import save_figure

        return [path for name, figure in figures.items() for path in save_figure(figure, self.figures / name)]

    def write_provenance(self, provenance: Provenance) -> Path:
        """Saves provenance.json; on rank 0."""
        return self.write_result(provenance, self.provenance_file.name)


@dataclass(frozen=True)
class Inputs:
    """A study that stands on its own.

    Attributes:
        mapping: The study with the names of the copies.
        files: Contents of the files it names, by name.
    """

    mapping: dict
    files: dict[str, bytes]


def inputs_of(study: Study) -> Inputs:
    """The study as its run folder holds it.

    Raises:
        StudyError: If two different files have one name.
    """
    mapping, found = study.as_mapping(), {}

    def taken(path: Path, content: bytes | None = None) -> str:
        content = path.read_bytes() if content is None else content
        if found.setdefault(path.name, content) != content:
            raise StudyError(f"two input files are named {path.name} and differ: rename one of them")
        return path.name

    source = study.structure_source
    if isinstance(source, Path):
        mapping["structure"]["file"] = taken(source)
    elif source is not None:
        text = json.dumps(source.to_structure().as_dict())
        mapping["structure"]["file"] = taken(Path("structure.json"), text.encode())
    if study.recipe.endswith(".py"):
        mapping["recipe"] = taken(beside(study.folder, study.recipe))
    if study.numbers_file is not None:
        option = next(key for key, value in study.options.items() if value == study.numbers_name)
        mapping[study.section][option] = taken(study.numbers_file)
        found |= _beside_table(study.numbers_file)
    qm = mapping.get("qm") or {}
    for section in (mapping.get("host") or {}, qm, qm.get("inner") or {}):
        if lines := section.get("pair_coeff"):
            lines = [lines] if isinstance(lines, str) else lines
            section["pair_coeff"] = [_with_copies(line, study.folder, taken) for line in lines]
    return Inputs(mapping, found)


def _beside_table(table: Path) -> dict[str, bytes]:
    """Contents of the files that a table of numbers names, by the words it names them with."""
    files = read_energies(table).files
    far = [word for word in files if Path(word).is_absolute() or ".." in Path(word).parts]
    if far:
        raise StudyError(f"{table} names the file {far[0]}, which a run folder cannot hold: put it beside the table")
    return {word: path.read_bytes() for word, path in files.items()}


def _with_copies(line: str, folder: Path, taken) -> str:
    """A pair_coeff line whose own files (not those of the lammps package) are named without their folders."""
    own = {
        path.name: path
        for path in Potential("", (line,), ("H",), search_dirs=(str(folder),)).files()
        if path.parent != lammps_potentials_dir().resolve()
    }
    return " ".join(taken(own[Path(word).name]) if Path(word).name in own else word for word in line.split())


def _free(study: Study) -> tuple[str, ...]:
    """Keys whose change leaves every record of the study's recipe right."""
    recipe = recipebook.find(study.recipe, study.folder)
    return tuple(f"{recipe.section}.{option}" for option in recipe.may_change)


def _differences(present: Inputs, asked: Inputs, free: tuple[str, ...] = ()) -> list[str]:
    before, after = _flat(present.mapping), _flat(asked.mapping)
    keys = [key for key in dict.fromkeys([*before, *after]) if not key.startswith((*_NO_MATTER, *free))]
    lines = [
        f"{key}: {_said(before, key)} in the folder, {_said(after, key)} asked for"
        for key in keys
        if before.get(key) != after.get(key)
    ]
    changed = [name for name, content in asked.files.items() if present.files.get(name, content) != content]
    return lines + [f"the contents of {name} have changed" for name in changed]


def _errno_in(text: str) -> int | None:
    """The number that HDF5 hides in its words."""
    found = re.search(r"errno = (\d+)", text)
    return int(found[1]) if found else None


def _said(flat: dict, key: str) -> str:
    return study_file.shown(flat[key]) if key in flat else "nothing"


def _flat(value, key: str = "") -> dict:
    if isinstance(value, dict) and value:
        return {
            k: v
            for name, item in value.items()
            for k, v in _flat(item, f"{key}.{name}" if key else name).items()
        }
    return {key: value}
