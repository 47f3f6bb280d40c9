"""What a command that works on a table leaves behind: result, figures and provenance in a folder."""

from __future__ import annotations

import time
from hashlib import sha256
from pathlib import Path

from solidqmmm.errors import StudyError


def folder_for(table: Path, out: Path | None) -> Path:
    """The folder that is asked for; by default the table's name.

    Raises:
        StudyError: If that is a file.
    """
    folder = Path(table.stem) if out is None else out
    if folder.exists() and not folder.is_dir():
        raise StudyError(f"{folder} is a file: give another folder with --out")
    return folder


def checksums(*files: Path | None) -> dict[str, str]:
    """SHA-256 by name of those files that there are."""
    return {file.name: sha256(file.read_bytes()).hexdigest() for file in files if file is not None}


def keep(
    folder: Path, result, figures: dict, *, begin: float, checksums: dict, settings: dict
) -> list[tuple[str, list[Path]]]:
    """Writes result, figures (Axes by name) and provenance; rows for `show.paths`.

    Args:
        folder: Where to.
        result: The result.
        figures: Axes by the names of their files.
        begin: `time.perf_counter()` when the command began.
        checksums: Of what was read, by name.
        settings: What determines the result beside that.
    """
    from solidqmmm.plotting.style import save_figure
    from solidqmmm.results.provenance import Provenance

    written = [result.save(folder / "result.json")]
    drawn = [path for name, ax in figures.items() for path in save_figure(ax, folder / "figures" / name)]
    Provenance.collected(
        seeds={},
        checksums=checksums,
        references=result.METHOD_REFERENCES,
        wall_time_s={"run": time.perf_counter() - begin},
        mpi_ranks=1,
        settings=settings,
    ).save(folder / "provenance.json")
    return [("result", written), ("figures", [path for path in drawn if path.suffix == ".png"])]
