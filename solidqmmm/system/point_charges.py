"""External charges that a quantum region feels, and the short-ranged cores that keep its electrons off them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

# A charge nearer to a nucleus than this is inside the cluster (angstrom).
CLOSEST = 0.5


@dataclass(frozen=True, eq=False)
class PointCharges:
    """Charges outside the quantum region, points or Gaussians.

    A charge q of width s is the density q (2 pi s^2)^(-3/2) exp(-r^2 / 2 s^2), whose potential is q erf(r / sqrt(2) s) / r.

    Attributes:
        positions: In angstrom, in the coordinates of the atoms that feel them, shape=(n, 3).
        charges: In e, shape=(n,).
        widths: Standard deviations s in angstrom, 0 for a point, shape=(n,); one number for all is allowed.

    Raises:
        ValueError: For shapes that do not fit, a number that is not finite, or a negative width.
    """

    positions: np.ndarray
    charges: np.ndarray
    widths: np.ndarray = 0.0

    def __post_init__(self):
        positions = np.array(self.positions, dtype=float).reshape(-1, 3)
        charges = np.array(self.charges, dtype=float).reshape(-1)
        widths = np.array(np.broadcast_to(np.asarray(self.widths, dtype=float), charges.shape))
        if len(positions) != len(charges):
            raise ValueError(f"`charges` must be as many as `positions`, got {len(charges)} for {len(positions)}")
        for name, value in (("positions", positions), ("charges", charges), ("widths", widths)):
            if not np.isfinite(value).all():
                raise ValueError(f"`{name}` must be finite, got {value[~np.isfinite(value)][0]}")
            value.flags.writeable = False
            object.__setattr__(self, name, value)
        if (widths < 0).any():
            raise ValueError(f"`widths` must not be negative (angstrom), got {widths.min():g}")

    @classmethod
    def none(cls) -> PointCharges:
        """No charges."""
        return cls(np.empty((0, 3)), np.empty(0))

    def __len__(self):
        return len(self.charges)

    @property
    def total(self) -> float:
        """Sum of the charges in e."""
        return float(self.charges.sum())

    def with_positions(self, positions) -> PointCharges:
        """The same charges elsewhere, angstrom, shape=(n, 3)."""
        return replace(self, positions=positions)

    def joined(self, other: PointCharges) -> PointCharges:
        """These charges followed by those of `other`."""
        return PointCharges(
            np.vstack([self.positions, other.positions]),
            np.concatenate([self.charges, other.charges]),
            np.concatenate([self.widths, other.widths]),
        )


@dataclass(frozen=True, eq=False)
class RepulsiveCores:
    """Short-ranged repulsion V(r) = h exp(-r^2 / 2 s^2) of the quantum electrons by ions outside the quantum region.

    It stands for the closed shells of the boundary's cations, without which electrons spill out onto them.

    Attributes:
        positions: In angstrom, shape=(n, 3).
        heights: h in eV, shape=(n,); one number for all is allowed.
        widths: s in angstrom, shape=(n,); one number for all is allowed.

    Raises:
        ValueError: For a negative height, or a width that is not positive.
    """

    positions: np.ndarray
    heights: np.ndarray
    widths: np.ndarray

    def __post_init__(self):
        positions = np.array(self.positions, dtype=float).reshape(-1, 3)
        values = {"positions": positions}
        for name in ("heights", "widths"):
            values[name] = np.array(np.broadcast_to(np.asarray(getattr(self, name), dtype=float), (len(positions),)))
        for name, value in values.items():
            if not np.isfinite(value).all():
                raise ValueError(f"`{name}` must be finite, got {value[~np.isfinite(value)][0]}")
            value.flags.writeable = False
            object.__setattr__(self, name, value)
        if (self.heights < 0).any() or (self.widths <= 0).any():
            raise ValueError("`heights` (eV) must not be negative, `widths` (angstrom) must be positive")

    def __len__(self):
        return len(self.heights)


def require_apart(positions, charges: PointCharges, closest: float = CLOSEST):
    """Nothing, if no charge lies on a nucleus, where both descriptions would count the pair, or none.

    Args:
        positions: Of the nuclei in angstrom, shape=(m, 3).
        charges: External charges.
        closest: Least distance in angstrom.

    Raises:
        ValueError: If one is nearer.
    """
    from scipy.spatial import cKDTree

    if not len(charges) or not len(positions):
        return
    distance, atom = cKDTree(positions).query(charges.positions)
    k = int(distance.argmin())
    if distance[k] < closest:
        raise ValueError(
            f"external charge {k} ({charges.charges[k]:+.3g} e) lies {distance[k]:.2f} angstrom from nucleus {int(atom[k])} "
            "of the quantum cluster: charges must stay 0.5 angstrom away; is the atom quantum and classical at once?"
        )
