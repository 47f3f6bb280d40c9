"""Force errors of schemes that save quantum calls, added up over a run.

    rms = sqrt( mean over core atoms, components and occasions of (F - F_exact)^2 )

So the norm of an atom's error vector is larger by sqrt(3) in the root mean square.
"""

from __future__ import annotations

import numpy as np


class ForceError:
    """The errors so far.

    Attributes:
        occasions: How many times forces were compared.
        largest: Largest norm of an atom's error vector in eV/angstrom, None before the first occasion.
    """

    def __init__(self):
        self.occasions, self._components, self._squares = 0, 0, 0.0
        self.largest: float | None = None

    def add(self, difference):
        """One more occasion: forces minus the exact ones on the core in eV/angstrom, shape=(n_core, 3)."""
        difference = np.asarray(difference, dtype=float)
        if not difference.size:
            return
        self.occasions += 1
        self._components += difference.size
        self._squares += float((difference**2).sum())
        self.largest = max(self.largest or 0.0, float(np.linalg.norm(difference, axis=1).max()))

    @property
    def rms(self) -> float | None:
        """Root mean square of the components in eV/angstrom; None before the first occasion."""
        return np.sqrt(self._squares / self._components).item() if self._components else None

    def state(self) -> list:
        """Plain JSON."""
        return [self.occasions, self._components, self._squares, self.largest]

    @classmethod
    def of(cls, state) -> ForceError:
        """From what `state` gave."""
        error = cls()
        error.occasions, error._components, error._squares, error.largest = state
        return error


def core_rows(correction) -> np.ndarray:
    """Mask of the core among a correction's atoms; all of them where it knows no core, shape=(n,)."""
    mask = np.ones(len(correction.atoms), dtype=bool)
    cluster = getattr(correction, "cluster", None)
    if cluster is not None:
        mask[: cluster.n_quantum] = cluster.core
        mask[cluster.n_quantum :] = False
    return mask
