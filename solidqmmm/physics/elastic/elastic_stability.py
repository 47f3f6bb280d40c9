"""Elastic stability: the conditions of Born and Huang for each Laue class, and the eigenvalues that decide.

A crystal without load is stable if its elastic energy is positive for every strain, that is if every eigenvalue of the
stiffness (with factor sqrt(2) on shear, so that it acts on tensors, after Mandel) is positive. What the eigenvalues ask of
the constants of a Laue class are the conditions after F. Mouhat and F.-X. Coudert, Phys. Rev. B 90, 224104 (2014). Under
load C is to be replaced by the symmetric part of the stress-strain tensor B: J. Wang, J. Li, S. Yip, S. Phillpot and
D. Wolf, Phys. Rev. B 52, 12627 (1995).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from solidqmmm.physics.elasticity import require_elastic_tensor
from solidqmmm.physics.symmetry.crystal_symmetry import strain_turn, turned_elastic_tensor
from solidqmmm.physics.symmetry.laue_class import generated_group, laue_class


@dataclass(frozen=True)
class BornCondition:
    """One inequality.

    Attributes:
        name: The inequality in the constants of the crystal's own frame, such as "C11 - C12 > 0".
        value_GPa: Its left side in GPa; of a product of n constants the n-th root, with its sign.
    """

    name: str
    value_GPa: float

    @property
    def holds(self) -> bool:
        """Whether the combination of constants is positive."""
        return self.value_GPa > 0


@dataclass(frozen=True, eq=False)
class ElasticStability:
    """Whether a crystal is elastically stable, and why not.

    Attributes:
        laue_class: Laue class whose conditions these are (`laue_class.laue_class`).
        conditions: Conditions of that class; together they are necessary and sufficient for a tensor of that class.
        eigenvalues_GPa: Of the stiffness, ascending, shape=(6,).
        stable: Whether all eigenvalues are positive.
        failing: Names of the conditions that fail; empty exactly if stable.
    """

    laue_class: str
    conditions: tuple[BornCondition, ...]
    eigenvalues_GPa: np.ndarray
    stable: bool
    failing: tuple[str, ...]


def elastic_stability(elastic_tensor_GPa, rotations=None) -> ElasticStability:
    """Judges a tensor by its eigenvalues and names the conditions that fail.

    Args:
        elastic_tensor_GPa: C (Voigt) in GPa, shape=(6, 6); of a tensor that is not symmetric, the symmetric part.
        rotations: As for `born_conditions`.

    Raises:
        ValueError: If the tensor is not a finite matrix of that shape.
    """
    C = _symmetric(elastic_tensor_GPa)
    name, C_own = _in_own_frame(C, rotations)
    conditions = _conditions(name, C_own)
    values = _eigenvalues(C)
    stable = bool(values.min() > 0)
    failing = tuple(condition.name for condition in conditions if not condition.holds)
    if stable:
        failing = ()
    elif not failing:  # what breaks the symmetry of the class tips the balance
        failing = ("smallest eigenvalue of C > 0",)
    return ElasticStability(name, tuple(conditions), values, stable, failing)


def born_conditions(elastic_tensor_GPa, rotations=None) -> list[BornCondition]:  # cite: mouhat2014stability
    """Conditions of stability of the Laue class; the six eigenvalues where the class has no closed ones.

    Args:
        elastic_tensor_GPa: C (Voigt) in GPa, shape=(6, 6); of a tensor that is not symmetric, the symmetric part.
        rotations: Point group of the crystal, Cartesian, in the frame of the tensor, shape=(n, 3, 3). The tensor is then
            turned into the frame of the class. Without it the class is the highest whose symmetry the tensor itself has
            (to a thousandth), its axes along x, y and z in any order.

    Raises:
        ValueError: If the tensor is not a finite matrix of that shape.
    """
    return _conditions(*_in_own_frame(_symmetric(elastic_tensor_GPa), rotations))


def _conditions(name, C) -> list[BornCondition]:
    C11, C22, C33, C44, C55, C66 = np.diag(C)
    C12, C13, C23 = C[0, 1], C[0, 2], C[1, 2]
    C14, C15, C16 = C[0, 3], C[0, 4], C[0, 5]
    if name == "cubic":
        found = {"C11 - C12 > 0": C11 - C12, "C11 + 2 C12 > 0": C11 + 2 * C12, "C44 > 0": C44}
    elif name == "orthorhombic":
        block = C11 * C22 * C33 + 2 * C12 * C13 * C23 - C11 * C23**2 - C22 * C13**2 - C33 * C12**2
        found = {
            "C11 > 0": C11,
            "C11 C22 - C12^2 > 0": _root(C11 * C22 - C12**2, 2),
            "C11 C22 C33 + 2 C12 C13 C23 - C11 C23^2 - C22 C13^2 - C33 C12^2 > 0": _root(block, 3),
            "C44 > 0": C44,
            "C55 > 0": C55,
            "C66 > 0": C66,
        }
    elif name in ("monoclinic", "triclinic"):
        found = {f"eigenvalue {k + 1} of C > 0": value for k, value in enumerate(_eigenvalues(C))}
    else:
        found = {
            "C11 - |C12| > 0": C11 - abs(C12),
            "C33 (C11 + C12) - 2 C13^2 > 0": _root(C33 * (C11 + C12) - 2 * C13**2, 2),
            "C44 > 0": C44,
        }
        if name == "tetragonal I":
            found["C66 > 0"] = C66
        elif name == "tetragonal II":
            found["C66 (C11 - C12) - 2 C16^2 > 0"] = _root(C66 * (C11 - C12) - 2 * C16**2, 2)
        elif name == "rhombohedral I":
            found["C44 (C11 - C12) - 2 C14^2 > 0"] = _root(C44 * (C11 - C12) - 2 * C14**2, 2)
        elif name == "rhombohedral II":
            value = C44 * (C11 - C12) - 2 * C14**2 - 2 * C15**2
            found["C44 (C11 - C12) - 2 C14^2 - 2 C15^2 > 0"] = _root(value, 2)
    return [BornCondition(text, float(value)) for text, value in found.items()]


def _in_own_frame(C, rotations):
    """Laue class, and the tensor averaged over its group in the frame of the class."""
    if rotations is not None:
        name, frame = laue_class(rotations)
        return name, turned_elastic_tensor(_averaged(C, np.asarray(rotations, dtype=float)), frame)
    for name, generators in _GROUPS.items():
        for frame in _FRAMES:
            turned = turned_elastic_tensor(C, frame)
            averaged = _averaged(turned, generated_group(generators))
            if np.abs(averaged - turned).max() <= 1e-3 * np.abs(C).max():
                return name, averaged
    return "triclinic", C


def _turn(axis, degrees) -> np.ndarray:
    axis = np.asarray(axis, dtype=float)
    return Rotation.from_rotvec(np.radians(degrees) * axis / np.linalg.norm(axis)).as_matrix()


_X, _Z = (1, 0, 0), (0, 0, 1)
_FRAMES = [turn @ np.roll(np.eye(3), k, axis=0) for turn in (np.eye(3), _turn(_Z, 90)) for k in range(3)]
_GROUPS = {  # from the highest symmetry down, generators in the frame of `laue_class`
    "cubic": (_turn(_Z, 90), _turn((1, 1, 1), 120)),
    "hexagonal": (_turn(_Z, 60), _turn(_X, 180)),
    "tetragonal I": (_turn(_Z, 90), _turn(_X, 180)),
    "rhombohedral I": (_turn(_Z, 120), _turn(_X, 180)),
    "tetragonal II": (_turn(_Z, 90),),
    "rhombohedral II": (_turn(_Z, 120),),
    "orthorhombic": (_turn(_Z, 180), _turn(_X, 180)),
    "monoclinic": (_turn(_Z, 180),),
}


def _averaged(C, rotations) -> np.ndarray:
    return np.mean([Q.T @ C @ Q for Q in map(strain_turn, rotations)], axis=0)


def _eigenvalues(C) -> np.ndarray:
    factors = np.sqrt([1, 1, 1, 2, 2, 2])
    return np.linalg.eigvalsh(C * factors * factors[:, None])


def _root(x, n) -> float:
    return float(np.sign(x) * np.abs(x) ** (1 / n))


def _symmetric(C) -> np.ndarray:
    C = require_elastic_tensor(C)
    return (C + C.T) / 2
