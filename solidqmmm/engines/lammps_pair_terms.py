"""The short-ranged pair terms of a LAMMPS potential as tables: its energy without charges, written by LAMMPS itself.

`pair_write` evaluates a pair style for two particles of given charges, here none, so any pairwise style can be asked,
hybrids included. LAMMPS's styles for core-shell models do not answer it; they differ from the plain ones in the Coulomb part
alone, and these are asked instead.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import numpy as np

from solidqmmm.engines.lammps_coulomb import choose_splitting
from solidqmmm.engines.lammps_session import LammpsSession
from solidqmmm.errors import EngineError
from solidqmmm.physics.charged_defects.pair_terms import PairTerm, Particles, pairs_in_reach
from solidqmmm.runtime import world
from solidqmmm.system.potential import Potential

_NEAREST, _SPACING = 0.6, 0.003  # angstrom
_NEGLIGIBLE = 1e-9  # eV, eV/angstrom
_SKIN = 2.0  # by which LAMMPS looks farther than its terms reach, angstrom
_AGREES = 1e-6  # eV for each particle
_MIDDLE = 40.0


def pair_terms(potential: Potential) -> dict[tuple[int, int], PairTerm]:
    """Pair terms by kinds (a, b), a <= b: places in `potential.type_names`. Terms that vanish are left out.

    Raises:
        EngineError: If LAMMPS does not know the energy of a pair in this style.
        ValueError: If the energy of many particles is not the sum over these pairs.
    """
    world()  # MPI must be set up before anybody imports it
    from mpi4py import MPI

    found, n = {}, len(potential.type_names)
    heap = _heap(n)
    with LammpsSession(potential, communicator=MPI.COMM_SELF) as session, tempfile.TemporaryDirectory() as folder:
        _open(session, potential, heap)
        cutoff = session.neighbour_cutoff() - _SKIN
        for a in range(n):
            for b in range(a, n):
                term = _term(session, a, b, cutoff, Path(folder))
                if term is not None:
                    found[a, b] = term
        energy = session.potential_energy()
    _require_sum(potential, found, heap, energy)
    return found


def _heap(n_kinds: int) -> Particles:
    """A disordered heap of all kinds, without charges."""
    mesh = np.stack(np.meshgrid(*[np.arange(3.0)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    places = _MIDDLE + 2.3 * mesh + 0.3 * np.random.default_rng(0).uniform(-1, 1, mesh.shape)
    index = np.arange(len(mesh))
    return Particles(places, np.zeros(len(mesh)), index % n_kinds, index)


def _open(session: LammpsSession, potential: Potential, heap: Particles):
    """The heap, with the plain pair style."""
    names, width = potential.type_names, 2 * _MIDDLE
    for line in (
        f"units {potential.units}",
        "atom_style charge",
        "atom_modify map array",
        f"region whole block 0 {width} 0 {width} 0 {width}",
        f"create_box {len(names)} whole",
        "labelmap atom " + " ".join(f"{i} {name}" for i, name in enumerate(names, start=1)),
        "mass * 1.0",
        *(
            "create_atoms {} single {:.16g} {:.16g} {:.16g}".format(kind + 1, *place)
            for kind, place in zip(heap.kinds, heap.positions, strict=True)
        ),
        f"neighbor {_SKIN} bin",
        f"pair_style {_plain(potential.pair_style)}",
        *(f"pair_coeff {_plain(line)}" for line in potential.resolved_coeff_lines()),
        *potential.commands,
        "thermo_modify norm no",
    ):
        session.command(line)
    session.natoms = len(heap)
    choose_splitting(session, heap.charges, always=True)  # LAMMPS has none without charges


def _plain(words: str) -> str:
    return re.sub(r"/cs\b", "", words)


def _term(session, a: int, b: int, cutoff: float, folder: Path) -> PairTerm | None:
    # Just inside of the cutoff: the step there belongs to the term.
    r, V, F = _written(session, a, b, _NEAREST, cutoff * (1 - 1e-12), folder)
    alive = np.flatnonzero((V != 0) | (F != 0))
    if not len(alive):
        return None
    last = alive[-1]
    if last + 1 < len(r):  # a shorter cutoff of its own, between two distances
        low, high = r[last], r[last + 1]
        while high - low > 1e-9:
            s, V_s, F_s = _written(session, a, b, low, high, folder, 21)
            inside = np.flatnonzero((V_s != 0) | (F_s != 0))[-1]
            low, end = s[inside], (s[inside], V_s[inside], F_s[inside])
            high = s[min(inside + 1, len(s) - 1)]
            if high <= low:
                break
        r, V, F = (np.append(x[: last + 1], y) for x, y in zip((r, V, F), end, strict=True))
        distinct = np.flatnonzero(np.diff(r, prepend=0.0) > 1e-7)
        r, V, F = r[distinct], V[distinct], F[distinct]
    relevant = np.flatnonzero((np.abs(V) > _NEGLIGIBLE) | (np.abs(F) > _NEGLIGIBLE))
    if not len(relevant):
        return None
    end = min(relevant[-1] + 2, len(r))
    return PairTerm(r[:end], V[:end], -F[:end])


def _written(session, a: int, b: int, low: float, high: float, folder: Path, n: int | None = None):
    """Distances (angstrom), energies (eV) and forces (eV/angstrom) of a pair without charges."""
    n = n or int((high - low) / _SPACING) + 2
    path = folder / f"{a}_{b}_{len(list(folder.iterdir()))}"
    try:
        session.command(f"pair_write {a + 1} {b + 1} {n} r {low:.17g} {high:.17g} {path} pair 0.0 0.0")
    except EngineError as error:
        raise EngineError(
            f"the pair terms of pair_style {session.potential.pair_style} cannot be had one by one: {error}"
        ) from error
    rows = [line.split() for line in path.read_text().splitlines()]
    table = np.array([[float(word) for word in row] for row in rows if len(row) == 4 and row[0].isdigit()])
    return np.linspace(low, high, n), table[:, 2] * session.scale["energy"], table[:, 3] * session.scale["energy"]


def _require_sum(potential: Potential, terms, heap: Particles, energy: float):
    """ValueError unless the terms give LAMMPS's own energy of the heap."""
    total = 0.0
    for i, j, term in pairs_in_reach(terms, heap):
        total += term.values(np.linalg.norm(heap.positions[i] - heap.positions[j], axis=1))[0].sum()
    if abs(total - energy) > _AGREES * max(len(heap), abs(energy)):
        raise ValueError(
            f"the energy of pair_style {potential.pair_style} is not the sum of the pair terms that LAMMPS tells: "
            f"{energy:.6f} eV for {len(heap)} particles, {total:.6f} eV by pairs; use a pairwise style (buck/coul/long, "
            "born/coul/long ...)"
        )
