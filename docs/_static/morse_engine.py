"""An engine in thirty lines: Morse's pair potential, with energy and force zero at the cutoff."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list

from solidqmmm.engines.protocols import Evaluation


class MorseEngine:
    """V(r) = D [exp(-2a(r - r0)) - 2 exp(-a(r - r0))], less its tangent at the cutoff.

    Args:
        depth: D in eV.
        a: In 1/angstrom.
        r0, cutoff: In angstrom.
    """

    name = "morse"
    provides_stress = True

    def __init__(self, depth: float, a: float, r0: float, cutoff: float):
        self.settings = {"depth": depth, "a": a, "r0": r0, "cutoff": cutoff}

    def evaluate(self, atoms: Atoms, *, stress: bool = False) -> Evaluation:
        """Energy (eV), forces (eV/angstrom, shape=(n, 3)), and on request the stress (eV/angstrom^3, tension positive)."""
        rc = self.settings["cutoff"]
        i, d, r = neighbor_list("iDd", atoms, rc)  # each pair twice; d points from i to its neighbour
        (v, slope), (v_c, slope_c) = self._morse(r), self._morse(rc)
        v, slope = v - v_c - slope_c * (r - rc), slope - slope_c
        pull = (slope / r)[:, None] * d
        forces = np.zeros((len(atoms), 3))
        np.add.at(forces, i, pull)
        tensor = 0.5 * d.T @ pull / atoms.get_volume() if stress else None
        return Evaluation(0.5 * v.sum(), forces, tensor)

    def _morse(self, r):
        s = self.settings
        x = np.exp(-s["a"] * (r - s["r0"]))
        return s["depth"] * (x * x - 2 * x), 2 * s["a"] * s["depth"] * (x - x * x)

    def describe(self) -> dict:
        """Everything that determines the numbers: it is the journal's key, and goes into provenance."""
        return {"engine": self.name, "settings": self.settings, "versions": {"morse_engine": "1"}, "references": []}

    def close(self):
        """Nothing to free."""

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()
