"""The model of a study whose numbers are known: there is nothing to build, and nothing to open."""

from __future__ import annotations

from hashlib import sha256

from solidqmmm.system.energy_table import read_energies
from solidqmmm.system.study import Study


class NoCrystal:
    """What a recipe is handed in place of a `procedures.build.Model`; a context manager.

    Attributes:
        study: The study.
    """

    crystal = cluster = defect = engine = potential = None
    engine_alone = False

    def __init__(self, study: Study):
        self.study = study

    def close(self):
        """Nothing is open."""

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        pass

    def warnings(self) -> list[str]:
        """None."""
        return []

    def references(self) -> list[str]:
        """None but those of every run."""
        return []

    def checksums(self) -> dict[str, str]:
        """sha256 of the files that the table of numbers names."""
        files = read_energies(self.study.numbers_file).files
        return {path.name: sha256(path.read_bytes()).hexdigest() for path in files.values()}
