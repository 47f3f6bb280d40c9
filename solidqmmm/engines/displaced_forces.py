"""Forces of the host with some atoms displaced, at hardly more than the cost of LAMMPS's force loop.

`LammpsHost.set_positions` and `forces` set LAMMPS up afresh each time: ghosts, neighbour lists, communication. For
displacements that are small against the neighbour lists' skin none of this changes, and one step without an integrator
computes the forces alone.
"""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from solidqmmm.engines.lammps_host import LammpsHost
from solidqmmm.engines.lammps_session import LammpsSession
from solidqmmm.errors import EngineError
from solidqmmm.runtime import world
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.potential import Potential

_LONG_RANGE = re.compile(r"(^|\s)\S+/(long|msm)(/\S+)?(\s|$)")


class DisplacedForces:
    """Forces of the potential alone about the present positions of a host; a context manager, collective.

    While it is open nobody else may work with the host. Afterwards the host is where it was, a number of time steps older.

    Args:
        host: A live host without corrections, frozen atoms and fixes.

    Raises:
        ValueError: If the host has any of them.

    Attributes:
        crystal: The crystal at rest, its atoms inside the cell.
        forces: Forces at rest in eV/angstrom, shape=(n, 3).
        evaluations: Number of force evaluations so far, the one at rest included.
    """

    def __init__(self, host: LammpsHost):
        _require_bare(host)
        self._host = host
        self.evaluations = 0

    def __enter__(self):
        host, session = self._host, self._host.session
        host.command("run 0 post no")
        self._rest = session.gather("x")
        self.crystal = host.crystal.with_positions(self._rest, host.cell())
        self.forces = session.gather("f")
        self.evaluations = 1
        return self

    def __exit__(self, *exc_info):
        self._host.forget()

    def __call__(self, atoms, displacements) -> np.ndarray:
        """Forces with `atoms` displaced, which are back afterwards.

        Args:
            atoms: Indices, shape=(m,), the same on all ranks.
            displacements: In angstrom, shape=(m, 3) or (3,) for all; small against half of LAMMPS's skin (2 angstrom unless
                the potential's commands say otherwise).

        Returns:
            Forces in eV/angstrom, shape=(n, 3).

        Raises:
            EngineError: If LAMMPS fails.
        """
        session, rest = self._host.session, self._rest[atoms]
        session.scatter_some("x", atoms, rest + displacements)
        try:
            self._host.command("run 1 pre no post no")
            self.evaluations += 1
            return session.gather("f")
        finally:
            session.scatter_some("x", atoms, rest)


def _require_bare(host: LammpsHost):
    if host.corrections:
        raise ValueError(
            f"the host has corrections attached ({', '.join(host.corrections)}): detach them, its own forces are wanted"
        )
    if len(host.frozen):
        raise ValueError(
            f"the host has {len(host.frozen)} frozen atoms, whose forces it does not tell: open it without, and leave their "
            "rows and columns out of the matrix"
        )
    if len(host.shell_owner):
        raise ValueError(
            "the host has shells, whose answer reaches all atoms: a Hessian of a core-shell model is not supported"
        )
    if fixes := host.session.lmp.available_ids("fix"):
        raise ValueError(f"the host has fixes ({', '.join(fixes)}) that may move atoms or add forces: unfix them")


def is_long_range(potential: Potential) -> bool:
    """Whether the potential sums over all periodic images (kspace_style, or a pair style made for it)."""
    kspace = (line.split() for line in potential.commands if line.split()[:1] == ["kspace_style"])
    return any(words[1:2] != ["none"] for words in kspace) or bool(_LONG_RANGE.search(potential.pair_style))


def force_cutoff(potential: Potential) -> float:
    """Largest distance in angstrom at which LAMMPS looks for neighbours of an atom, over all species.

    Asked of an instance of its own that holds one atom of each species and lists without a skin. For most potentials this is
    the cutoff of the energy; those that LAMMPS gives wider ghosts (AIREBO, ReaxFF) get these.

    Raises:
        EngineError: If LAMMPS refuses the potential.
    """
    world()  # MPI must be set up before anybody imports it
    from ase.data import atomic_numbers
    from mpi4py import MPI

    n = len(potential.species)
    positions = np.full((n, 3), 10.0)
    positions[:, 0] += 10.0 * np.arange(n)
    lone = Crystal(
        [atomic_numbers[symbol] for symbol in potential.species],
        positions,
        np.diag([10.0 * (n + 1), 20.0, 20.0]),
        (False, False, False),
    )
    with LammpsSession(potential, communicator=MPI.COMM_SELF) as session, TemporaryDirectory() as folder:
        session.create(lone)
        session.command("neighbor 0.0 bin")
        session.command("run 0 post no")
        file = Path(folder, "info")
        session.command(f"info communication out overwrite {file}")
        said = re.search(r"Communication cutoff = (\S+)", file.read_text())
    if said is None:
        raise EngineError("LAMMPS did not tell the communication cutoff: is this another version of LAMMPS?")
    return float(said[1]) * (1 + 1e-5)  # printed with six digits
