"""Three layers: E = E_host(all) + [E_middle(large) - E_host(large)] + [E_engine(small) - E_middle(small)].

It is the sum of two subtractive corrections whose regions overlap (M. Svensson et al., J. Phys. Chem. 100, 19357 (1996)).
"""

from __future__ import annotations

import numpy as np

from solidqmmm import Subtractive
from solidqmmm.engines.protocols import Contribution


class ThreeLayers:
    """A correction made of two: `outer` (middle in host) and `inner` (engine in middle).

    Raises:
        ValueError: If their atoms were carved at different periodic images.
    """

    name = "three_layers"
    has_energy = True
    needs_host_forces = False

    def __init__(self, outer: Subtractive, inner: Subtractive):
        self.layers = {"outer": outer, "inner": inner}
        self.atoms = np.union1d(outer.atoms, inner.atoms)
        self.rows = {name: np.searchsorted(self.atoms, layer.atoms) for name, layer in self.layers.items()}
        self.reference = np.zeros((len(self.atoms), 3))
        for name, layer in self.layers.items():
            self.reference[self.rows[name]] = layer.reference
        if not np.allclose(self.reference[self.rows["outer"]], outer.reference):
            raise ValueError("the two regions see different images of the same atoms: give both partitions one centre")

    def evaluate(self, positions, cell, host_forces=None) -> Contribution:  # noqa: ARG002 - they are for force mixing
        """Energy (eV), forces (eV/angstrom, shape=(n, 3)) and virial (eV) at `positions` of `atoms`."""
        forces, virials, terms = np.zeros((len(self.atoms), 3)), [], {}
        for name, layer in self.layers.items():
            given = layer.evaluate(positions[self.rows[name]], cell)
            forces[self.rows[name]] += given.forces
            virials.append(given.virial)
            terms |= {f"{name}_{part}": energy for part, energy in given.terms.items()}
        virial = None if any(virial is None for virial in virials) else sum(virials)
        return Contribution(forces=forces, energy=sum(terms.values()), virial=virial, terms=terms)
