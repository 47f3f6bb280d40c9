"""A model in words, and its structures in files: what every result says about where it comes from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from solidqmmm.results.fields import structure_record
from solidqmmm.runtime import is_root
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.partition import Partition
from solidqmmm.system.whole_file import written_whole


def described(model) -> dict:
    """The fields that results share: atom counts, and host, engine and coupling in words ('' where there is none), warnings.

    Args:
        model: A `procedures.build.Model`.
    """
    study = model.study
    fields = {
        "n_atoms_host": len(model.crystal),
        "n_atoms_qm": 0,
        "n_link_atoms": 0,
        "host": "",
        "engine": "",
        "coupling": "",
        "warnings": model.warnings(),
    }
    if not model.engine_alone:
        files = ", ".join(path.name for path in model.potential.files()) or "no file"
        fields["host"] = f"LAMMPS {study.host.pair_style} ({files})"
    if model.engine is not None:
        fields["engine"] = engine_in_words(model.engine)
    if model.engine_alone:
        fields["n_atoms_qm"] = len(model.crystal)
    elif model.engine is not None:
        if not study.recipe_places_region:
            fields["n_atoms_qm"] = len(model.partition.quantum)
            fields["n_link_atoms"] = len(model.cluster.caps)
        options = {key: value for key, value in study.coupling.model_dump().items() if key != "scheme" and value}
        details = ", ".join(key if value is True else f"{key} {value}" for key, value in options.items())
        fields["coupling"] = study.coupling.scheme + (f" ({details})" if details else "")
    return fields


def engine_in_words(engine) -> str:
    """One line: name and the settings that a reader of a table wants."""
    described = engine.describe()
    settings = {**described, **described.get("settings", {})}
    words = [engine.name]
    for key in ("mode", "basis", "xc", "h", "ecut", "pair_style", "calculator", "charge"):
        value = settings.get(key)
        if isinstance(value, dict):
            value = value.get("name")
        if value not in (None, "", 0, 0.0):
            words.append(f"{key} {value}" if key in ("h", "ecut", "charge") else str(value))
    return " ".join(words)


def stored_structure(crystal: Crystal, partition: Partition | None, workdir: Path | None, name: str) -> dict | None:
    """The crystal as a result keeps it (`structure_record`), its file written where it needs one; collective.

    The array `region` holds the labels. Without a folder a large crystal is not stored (None).
    """
    if partition is not None:
        crystal = crystal.with_arrays(region=partition.names())
    record = structure_record(crystal, name)
    if "file" not in record:
        return record
    if workdir is None:
        return None
    if is_root():
        import ase.io

        atoms = crystal.to_atoms()
        atoms.arrays = {key: value for key, value in atoms.arrays.items() if np.asarray(value).dtype != object}
        with written_whole(Path(workdir) / name) as temporary:
            ase.io.write(temporary, atoms, format="extxyz", parallel=False)
    return record
