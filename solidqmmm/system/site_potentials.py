"""Electrostatic potentials of a cell with and without its defect: at the atoms, and averaged over planes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from solidqmmm.errors import StudyError


@dataclass(frozen=True, eq=False)
class CellPotentials:
    """Potentials in one crystal, as a positive charge feels them, in V.

    Attributes:
        positions: Of the atoms in angstrom, shape=(n, 3).
        sites: At the atoms, in whatever way it is the same in both crystals that are compared, shape=(n,).
        planes: Averages over planes along each axis, three arrays of shape=(p,), as in `SitePotentials.planar`.
    """

    positions: np.ndarray
    sites: np.ndarray
    planes: tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False)
class SitePotentials:
    """Potentials as a positive charge feels them, in V; those of codes that print electron energies change their sign.

    Attributes:
        positions: Of the atoms that both cells have in angstrom, shape=(n, 3).
        defect: Potential at them in the cell with the defect, shape=(n,).
        bulk: In the cell without, shape=(n,).
        defect_position: In angstrom, shape=(3,).
        planar: By axis (0, 1, 2) the averages over planes along it with and without the defect, each shape=(m,), from the
            cell's origin on in equal steps, the end left out; may be empty.

    Raises:
        ValueError: For arrays that do not fit together, or numbers that are not finite.
    """

    positions: np.ndarray
    defect: np.ndarray
    bulk: np.ndarray
    defect_position: np.ndarray
    planar: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def __post_init__(self):
        for name, shape in (("positions", (-1, 3)), ("defect", (-1,)), ("bulk", (-1,)), ("defect_position", (3,))):
            value = np.array(getattr(self, name), dtype=float)
            fits = value.ndim == len(shape) and all(want in (-1, got) for want, got in zip(shape, value.shape))
            if not fits or not np.isfinite(value).all():
                raise ValueError(f"`{name}` must be finite numbers of shape {shape} (-1: any), got shape {value.shape}")
            value.flags.writeable = False
            object.__setattr__(self, name, value)
        if not len(self.positions) == len(self.defect) == len(self.bulk):
            raise ValueError(
                f"{len(self.positions)} positions, {len(self.defect)} potentials with the defect and {len(self.bulk)} "
                "without: one of each is expected for each atom that both cells have"
            )
        for axis, (defect, bulk) in self.planar.items():
            if axis not in (0, 1, 2) or np.shape(defect) != np.shape(bulk) or np.ndim(bulk) != 1:
                raise ValueError(f"`planar` must hold two rows of equal length for axis 0, 1 or 2, got {axis!r}")


def read_site_potentials(path) -> SitePotentials:
    """Reads {"defect_position_A", "positions_A", "defect_V", "bulk_V", "planar_V": {"0": {"defect": [], "bulk": []}, ...}}.

    Raises:
        StudyError: If the file is no such JSON; says what is missing.
    """
    path = Path(path)
    keys = ("defect_position_A", "positions_A", "defect_V", "bulk_V")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in keys if key not in found]
        if missing:
            raise ValueError(f"{', '.join(missing)} missing; expected the keys {', '.join(keys)}")
        planar = {
            int(axis): (np.asarray(rows["defect"], dtype=float), np.asarray(rows["bulk"], dtype=float))
            for axis, rows in found.get("planar_V", {}).items()
        }
        return SitePotentials(
            positions=found["positions_A"],
            defect=found["defect_V"],
            bulk=found["bulk_V"],
            defect_position=found["defect_position_A"],
            planar=planar,
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise StudyError(f"{path} holds no site potentials: {error}") from None
