"""The irreducible representation of each vibration under the point group of its surroundings.

A degenerate set of vibrations e_k spans a representation D of the point group. Its characters, and how often it holds each
irreducible representation (irrep) i with characters chi_i, are

    chi(R) = sum_k <e_k| R |e_k>,    (R e)_(p(j)) = R e_j,    n_i = sum_R chi_i(R) chi(R) / sum_R chi_i(R)^2,

where operation R takes atom j to p(j). n_i are integers where the set is whole. Pairs of complex conjugate irreps (E of C3,
C4, C6, T) count as one, as real vibrations have them together; hence the denominator, which is else the order of the group.
Source: E. B. Wilson, J. C. Decius and P. C. Cross, Molecular Vibrations (1955), chapters 5 and 6.

The character tables are those of phonopy, given for the operations of conventional cells; these are turned onto the given
ones, which may be in any frame. Where the symbols depend on a choice of axes (C2v, D2, D2h, C4v, D4, D4h, C6v, D6, D6h), it
is that of R. S. Mulliken, J. Chem. Phys. 23, 1997 (1955): axes and planes with most atoms on them are C2, C2', sigma_v and,
in C2v and D2h, the plane yz. Where atoms do not decide, it is the setting turned least from the given frame.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np

SCHOENFLIES = {
    "1": "C1", "-1": "Ci", "2": "C2", "m": "Cs", "2/m": "C2h", "222": "D2", "mm2": "C2v", "mmm": "D2h",
    "4": "C4", "-4": "S4", "4/m": "C4h", "422": "D4", "4mm": "C4v", "-42m": "D2d", "4/mmm": "D4h",
    "3": "C3", "-3": "S6", "32": "D3", "3m": "C3v", "-3m": "D3d",
    "6": "C6", "-6": "C3h", "6/m": "C6h", "622": "D6", "6mm": "C6v", "-6m2": "D3h", "6/mmm": "D6h",
    "23": "T", "m-3": "Th", "432": "O", "-43m": "Td", "m-3m": "Oh",
}  # fmt: skip

#: Classes that get most atoms, in the order in which they are compared.
_MOST_ATOMS = ("C2", "C2'", "sgv", "sgyz", "sgvyz")
_SAME = 0.1  # entries of two operations of one group differ by more than this somewhere
_INTEGER = 0.05  # of a multiplicity; a set that lacks one of its members is off by a third or more
# cell vectors in columns
_HEXAGONAL = np.array([[1.0, -0.5, 0.0], [0.0, np.sqrt(0.75), 0.0], [0.0, 0.0, 1.0]])


@dataclass(frozen=True, eq=False)
class PointGroup:
    """A crystallographic point group in the frame of given operations.

    Attributes:
        symbol: Hermann-Mauguin symbol, such as "-43m".
        classes: Name of the class of each operation ("E", "C3", "sgd", ...), shape=(m,).
        characters: Those of each irrep for each operation, by Mulliken symbol, shape=(m,) each.
    """

    symbol: str
    classes: tuple[str, ...]
    characters: dict[str, np.ndarray]

    @property
    def schoenflies(self) -> str:
        """Schoenflies symbol, such as "Td"."""
        return SCHOENFLIES[self.symbol]

    def multiplicities(self, characters) -> dict[str, float]:
        """n_i of each irrep in a representation with these characters, shape=(m,)."""
        return {irrep: float(chi @ characters / (chi @ chi)) for irrep, chi in self.characters.items()}


@dataclass(frozen=True, eq=False)
class DegenerateSet:
    """Vibrations of one frequency.

    Attributes:
        modes: Their indices, shape=(d,).
        irrep: Mulliken symbol; a sum such as "A1 + 2E" for an accidental degeneracy; None if the set is not whole.
    """

    modes: np.ndarray
    irrep: str | None


def irreps(
    eigenvectors, frequencies, rotations, permutations, *, tolerance: float = 1e-3
) -> list[DegenerateSet]:
    """The degenerate sets of some vibrations with their irreps, in the order of their first modes.

    The vectors may be the parts of the vibrations on some of the atoms, if the operations take these onto one another: the
    characters are those of the subspace that the vectors span.

    Args:
        eigenvectors: Mass-weighted, e_j = sqrt(m_j) u_j, shape=(k, n, 3).
        frequencies: In any unit, in any order, shape=(k,).
        rotations: Operations of the point group, Cartesian, all of them, shape=(m, 3, 3).
        permutations: Onto which atom each takes each atom, shape=(m, n); see `physics.site_symmetry`.
        tolerance: Frequencies that follow one another within this belong to one set, in their unit, unless a gap between
            them divides the set into whole ones.

    Raises:
        ValueError: If arrays do not fit together, or the rotations are no crystallographic point group.
    """
    e, permutations = np.asarray(eigenvectors, dtype=float), np.asarray(permutations)
    frequencies = np.asarray(frequencies, dtype=float)
    expected = (len(frequencies), permutations.shape[-1], 3)
    if e.shape != expected or len(permutations) != len(rotations):
        raise ValueError(
            f"expected eigenvectors of shape (modes, atoms, 3) = {expected} and one permutation for each of "
            f"{len(rotations)} rotations, got {e.shape} and {len(permutations)} permutations"
        )
    group = point_group(rotations, permutations)

    def symbol(modes):
        return _symbol(group, characters(e[modes], rotations, permutations))

    def separated(modes, whole):
        """Sets whose frequencies differ by less than the tolerance, if each of them is whole."""
        order = modes[np.argsort(frequencies[modes], kind="stable")]
        gaps = np.diff(frequencies[order])
        if whole is None or not np.any(gaps > 0):
            return [DegenerateSet(modes, whole)]
        at = int(np.argmax(gaps)) + 1
        parts = [np.sort(order[:at]), np.sort(order[at:])]
        symbols = [symbol(part) for part in parts]
        if None in symbols:
            return [DegenerateSet(modes, whole)]
        return [found for part, name in zip(parts, symbols) for found in separated(part, name)]

    found = [
        one for modes in degenerate_sets(frequencies, tolerance) for one in separated(modes, symbol(modes))
    ]
    return sorted(found, key=lambda one: one.modes[0])


def degenerate_sets(frequencies, tolerance: float) -> list[np.ndarray]:
    """Indices of frequencies that follow one another within `tolerance`, each shape=(d,), the sets in the order of
    their first members.
    """
    frequencies = np.asarray(frequencies, dtype=float)
    order = np.argsort(frequencies, kind="stable")
    breaks = np.flatnonzero(np.diff(frequencies[order]) > tolerance) + 1
    sets = [np.sort(members) for members in np.split(order, breaks) if len(members)]
    return sorted(sets, key=lambda members: members[0])


def characters(eigenvectors, rotations, permutations) -> np.ndarray:
    """chi(R) of the space spanned by vectors of shape (d, n, 3), shape=(m,); nan if they are linearly dependent.

    For vectors that are not orthonormal, <e_k| R |e_k> is sum_l (S^-1)_kl <e_l| R |e_k> with the overlap S.
    """
    e = np.asarray(eigenvectors, dtype=float)
    d = len(e)
    norms = np.sqrt(np.sum(e**2, axis=(1, 2)))
    e = e / np.where(norms > 0, norms, 1.0)[:, None, None]
    S = np.einsum("knx,lnx->kl", e, e)
    if np.linalg.eigvalsh(S)[0] < 1e-6:
        return np.full(len(rotations), np.nan)
    dual = np.linalg.solve(S, e.reshape(d, -1)).reshape(e.shape)
    # (R e)_(p(j)) = R e_j, hence <dual| R |e> = sum_j dual_(p(j)) . R e_j
    return np.array([np.sum((e @ np.transpose(R)) * dual[:, p]) for R, p in zip(rotations, permutations)])


def _symbol(group: PointGroup, chi) -> str | None:
    if not np.isfinite(chi).all():
        return None
    n = group.multiplicities(chi)
    whole = {irrep: round(value) for irrep, value in n.items()}
    if any(abs(value - whole[irrep]) > _INTEGER for irrep, value in n.items()):
        return None
    # Parts of several sets may have whole n_i together; their characters are not those of whole ones.
    if np.abs(sum(whole[irrep] * group.characters[irrep] for irrep in n) - chi).max() > 4 * _INTEGER:
        return None
    return " + ".join(f"{count if count > 1 else ''}{irrep}" for irrep, count in whole.items() if count)


# --- which group, and which of its settings -------------------------------------------------------------------------


def point_group(rotations, permutations=None) -> PointGroup:
    """The crystallographic point group of operations given in any Cartesian frame.

    Args:
        rotations: All its operations, shape=(m, 3, 3).
        permutations: Onto which atom each takes each atom, shape=(m, n): for the choice of axes where the symbols depend on
            it. Without them it is the setting turned least from the given frame.

    Raises:
        ValueError: If the rotations are not all operations of one of the 32 groups.
    """
    rotations = np.asarray(rotations, dtype=float)
    at_rest = np.zeros(len(rotations))
    if permutations is not None:
        at_rest = np.sum(np.asarray(permutations) == np.arange(np.shape(permutations)[1]), axis=1)
    kinds = [_kind(R) for R in rotations]
    for setting in _settings():
        if Counter(setting.kinds) != Counter(kinds):
            continue
        ranked = []
        for Q in _alignments(setting, rotations, kinds):
            places = _places(Q @ setting.operations @ Q.T, rotations)
            if places is None:
                continue
            names = [setting.names[k] for k in places]
            atoms = [sum(at_rest[k] for k, name in enumerate(names) if name == best) for best in _MOST_ATOMS]
            ranked.append((*atoms, round(float(np.trace(Q)), 6), names))
        if ranked:
            names = max(ranked)[-1]
            of_irrep = {
                irrep: np.array([row[name] for name in names]) for irrep, row in setting.characters.items()
            }
            return PointGroup(setting.symbol, tuple(names), of_irrep)
    raise ValueError(
        f"expected all operations of one of the 32 crystallographic point groups, got {len(rotations)} "
        "matrices that are not; `site_operations` gives those of a site"
    )


@dataclass(frozen=True, eq=False)
class _Setting:
    """A point group of the tables: Cartesian operations with names of their classes, and characters by irrep and class."""

    symbol: str
    operations: np.ndarray
    names: list[str]
    kinds: list[tuple[int, int]]
    characters: dict[str, dict[str, int]]


@cache
def _settings() -> list[_Setting]:
    """One for each group: the others of the tables differ by a turn."""
    from phonopy.phonon.character_table import character_table

    found = []
    for symbol, (entry, *_) in character_table.items():
        classes = [str(name) for name in np.atleast_1d(entry["rotation_list"])]
        members = [(name, np.array(R, dtype=float)) for name in classes for R in entry["mapping_table"][name]]
        orthogonal = all(np.allclose(R @ R.T, np.eye(3)) for _, R in members)
        cell = np.eye(3) if orthogonal else _HEXAGONAL
        operations = np.array([cell @ R @ np.linalg.inv(cell) for _, R in members])
        rows = {
            irrep: dict(zip(classes, np.atleast_1d(row))) for irrep, row in entry["character_table"].items()
        }
        names = [name for name, _ in members]
        found.append(_Setting(symbol, operations, names, [_kind(R) for R in operations], rows))
    return found


def _kind(R) -> tuple[int, int]:
    """Trace and determinant, which tell order and kind of an operation in any frame."""
    found = np.trace(R), np.linalg.det(R)
    whole = tuple(int(np.rint(value)) for value in found)
    return whole if np.abs(np.subtract(found, whole)).max() < _INTEGER else (99, 0)


def _alignments(setting: _Setting, rotations, kinds):
    """Turns Q that may make Q T Q^T of the table's operations T the given ones: two axes onto two of the same kinds."""
    axes = _axes(setting.operations, setting.kinds)
    if not axes:
        return [np.eye(3)]
    kind, a = max(axes, key=lambda axis: _order(axis[0]))
    across = [axis for axis in axes if abs(axis[1] @ a) < 0.99]
    given = _axes(rotations, kinds)
    if not across:
        return [
            _frame(second, _any_across(second)).T @ _frame(a, _any_across(a))
            for k, second in given
            if k == kind
        ]
    other, b = max(across, key=lambda axis: _order(axis[0]))
    signed = [(k, sign * axis) for (k, axis), sign in product(given, (1, -1))]
    pairs = product((axis for k, axis in signed if k == kind), (axis for k, axis in signed if k == other))
    return [
        _frame(first, second).T @ _frame(a, b)
        for first, second in pairs
        if abs(first @ second - a @ b) < _SAME
    ]


def _axes(operations, kinds) -> list[tuple[tuple[int, int], np.ndarray]]:
    """Kind and axis of each operation that has one; one of the two directions of each."""
    found = []
    for R, kind in zip(operations, kinds):
        if abs(kind[0]) == 3:
            continue
        axis = np.linalg.svd(R * kind[1] - np.eye(3))[2][-1]
        if not any(kind == k and abs(axis @ known) > 0.99 for k, known in found):
            found.append((kind, axis))
    return found


def _order(kind) -> int:
    """Of a rotation with or without inversion: its trace is 1 + 2 cos(2 pi / order)."""
    return {-1: 2, 0: 3, 1: 4, 2: 6}[kind[0] * kind[1]]


def _any_across(axis):
    return np.eye(3)[np.argmin(np.abs(axis))]


def _frame(a, b) -> np.ndarray:
    """Rows: a, b made orthogonal to it, and the third of a right-handed frame."""
    b = b - (b @ a) * a
    b = b / np.linalg.norm(b)
    return np.array([a, b, np.cross(a, b)])


def _places(operations, rotations) -> np.ndarray | None:
    """Which of `operations` each of `rotations` is, or None if they are not the same."""
    apart = np.abs(operations[None] - rotations[:, None]).max(axis=(2, 3))
    places = np.argmin(apart, axis=1)
    same = apart.min(axis=1).max() < _SAME and len(set(places.tolist())) == len(operations)
    return places if same else None
