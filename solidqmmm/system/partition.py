"""Who is quantum: labels over the whole crystal."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

HOST, BUFFER, CORE, FROZEN = 0, 1, 2, 3
LABELS = ("host", "buffer", "core", "frozen")


@dataclass(frozen=True, eq=False)
class Partition:
    """Each atom is host, buffer, core or frozen.

    The quantum atoms are core and buffer together: the core is where the quantum forces (or energy) count, the buffer
    keeps the core away from the artificial surface of the cluster.

    Attributes:
        labels: HOST, BUFFER, CORE or FROZEN for each atom, shape=(n,).
        centre: The point the region was built around in angstrom, shape=(3,); the mean of the core without one.

    Raises:
        ValueError: For an unknown label.
    """

    labels: np.ndarray
    centre: np.ndarray = (0.0, 0.0, 0.0)

    def __post_init__(self):
        for name, dtype in (("labels", np.int8), ("centre", float)):
            value = np.array(getattr(self, name), dtype=dtype)
            value.flags.writeable = False
            object.__setattr__(self, name, value)
        if len(self.labels) and (self.labels.min() < HOST or self.labels.max() > FROZEN):
            raise ValueError("`labels` must be HOST, BUFFER, CORE or FROZEN")

    def __len__(self):
        return len(self.labels)

    @property
    def core(self) -> np.ndarray:
        """Indices of core atoms, ascending, shape=(n_core,)."""
        return np.flatnonzero(self.labels == CORE)

    @property
    def buffer(self) -> np.ndarray:
        """Indices of buffer atoms, ascending, shape=(n_buffer,)."""
        return np.flatnonzero(self.labels == BUFFER)

    @property
    def quantum(self) -> np.ndarray:
        """Indices of core and buffer atoms, ascending, shape=(n_quantum,)."""
        return np.flatnonzero((self.labels == CORE) | (self.labels == BUFFER))

    @property
    def frozen(self) -> np.ndarray:
        """Indices of frozen atoms, ascending, shape=(n_frozen,)."""
        return np.flatnonzero(self.labels == FROZEN)

    def names(self) -> np.ndarray:
        """Labels as strings ('core', 'buffer', 'host', 'frozen'), shape=(n,)."""
        return np.array(LABELS)[self.labels]

    def counts(self) -> dict[str, int]:
        """Number of atoms under each label."""
        tally = np.bincount(self.labels, minlength=len(LABELS))
        return {label: int(n) for label, n in zip(LABELS, tally, strict=True)}

    def with_buffer(self, indices) -> Partition:
        """The same core and frozen atoms with another buffer."""
        labels = self.labels.copy()
        labels[labels == BUFFER] = HOST
        indices = np.asarray(indices, dtype=int)
        labels[indices[labels[indices] == HOST]] = BUFFER
        return replace(self, labels=labels)

    def with_frozen(self, indices) -> Partition:
        """With `indices` frozen, unless they are quantum."""
        labels = self.labels.copy()
        indices = np.asarray(indices, dtype=int)
        labels[indices[labels[indices] == HOST]] = FROZEN
        return replace(self, labels=labels)

    def updated(self, inner, outer) -> Partition:
        """Hysteretic re-selection of the core: atoms enter at `inner` and leave only beyond `outer`.

        new core = inner or (old core and outer)     (Bernstein, Kermode, Csanyi, Rep. Prog. Phys. 72, 026501 (2009))

        Args:
            inner: Mask of atoms that must be core, shape=(n,).
            outer: Mask of atoms that may stay core, shape=(n,); must contain `inner`.

        Raises:
            ValueError: If `inner` is not within `outer`.
        """
        inner, outer = np.asarray(inner, dtype=bool), np.asarray(outer, dtype=bool)
        if (inner & ~outer).any():
            raise ValueError("the inner selection must lie within the outer one")
        labels = self.labels.copy()
        labels[(labels == CORE) | (labels == BUFFER)] = HOST
        labels[(inner | (outer & (self.labels == CORE))) & (labels != FROZEN)] = CORE
        return replace(self, labels=labels)
