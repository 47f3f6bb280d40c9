"""The fewest displacements that fix a Hessian, and the Hessian from their responses, by point symmetry.

Under an operation R that takes atom a to p(a), K_(p(i) p(j)) = R K_ij R^T. So one atom of each orbit is displaced, along as
few directions as the operations that leave it in place turn into three; and where one of these turns a direction into its
negative, the opposite displacement is an image as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np


@dataclass(frozen=True)
class Displacement:
    """One atom along one direction.

    Attributes:
        atom: Its index.
        direction: Unit vector, three numbers.
        opposite: Number of the operation that turns it into its negative, or None: then both signs are needed.
    """

    atom: int
    direction: tuple[float, float, float]
    opposite: int | None

    @property
    def signs(self) -> tuple[int, ...]:
        """Signs that must be computed."""
        return (1,) if self.opposite is not None else (1, -1)


def fewest_displacements(rotations, permutations) -> list[Displacement]:
    """Displacements whose responses fix the whole Hessian, with the fewest evaluations.

    Args:
        rotations: Point operations, Cartesian, a group, shape=(m, 3, 3).
        permutations: Onto which atom each takes each atom, shape=(m, n).
    """
    rotations, permutations = np.asarray(rotations, dtype=float), np.asarray(permutations)
    found = []
    for atom in np.flatnonzero(permutations.min(axis=0) == np.arange(permutations.shape[1])):
        stay = np.flatnonzero(permutations[:, atom] == atom)
        found += [
            Displacement(int(atom), tuple(d), _opposite(d, rotations, stay))
            for d in _fewest_directions(rotations[stay])
        ]
    return found


def _opposite(direction, rotations, stay) -> int | None:
    for k in stay:
        if np.abs(rotations[k] @ direction + direction).max() < 1e-6:
            return int(k)
    return None


def _fewest_directions(rotations) -> list[np.ndarray]:
    """Directions whose images span space, with the fewest evaluations."""
    orbits = [(d, rotations @ d) for d in _candidates(rotations)]
    cost = [1 if np.abs(images + d).max(axis=1).min() < 1e-6 else 2 for d, images in orbits]
    best, least = None, np.inf
    for count in (1, 2, 3):
        for chosen in combinations(range(len(orbits)), count):
            price = sum(cost[k] for k in chosen)
            if price >= least:
                continue
            span = np.concatenate([orbits[k][1] for k in chosen])
            if np.linalg.eigvalsh(span.T @ span)[0] > 0.1:
                best, least = chosen, price
    return [orbits[k][0] for k in best]


def _candidates(rotations) -> list[np.ndarray]:
    """Directions worth trying: axes and diagonals, and the axes and mirror normals of the operations."""
    diagonals = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, -1, 0), (1, 0, 1), (1, 0, -1), (0, 1, 1), (0, 1, -1)]
    special = []
    for R in rotations:
        values, vectors = np.linalg.eig(R)
        special += [v.real for value, v in zip(values, vectors.T) if abs(value.imag) < 1e-9 and np.abs(v.imag).max() < 1e-9]
    crossed = [np.cross(u, v) for u, v in combinations(special[:6], 2)]
    unit = []
    for d in [*map(np.array, diagonals), *special, *crossed]:
        length = np.linalg.norm(d)
        if length > 1e-6 and not any(abs(abs(d @ known) / length - 1) < 1e-9 for known in unit):
            unit.append(np.asarray(d, dtype=float) / length)
    return unit


def hessian_from_responses(displacements, responses, rotations, permutations) -> np.ndarray:
    """K_ij = -dF_i/dx_j of all atoms, shape=(n, 3, n, 3).

    Args:
        displacements: See `fewest_displacements`.
        responses: -dF/dh of all atoms for each, eV/angstrom^2, shape=(n_displacements, n, 3).
        rotations, permutations: The operations, as there.

    Returns:
        The matrix as the responses give it: symmetric under the operations, K_ij = K_ji^T only as far as they are.
    """
    rotations, permutations = np.asarray(rotations, dtype=float), np.asarray(permutations)
    n = permutations.shape[1]
    K = np.zeros((n, 3, n, 3))
    for atom in sorted({d.atom for d in displacements}):
        column = _column(atom, displacements, responses, rotations, permutations)
        done = set()
        for R, images in zip(rotations, permutations):
            if int(images[atom]) not in done:
                done.add(int(images[atom]))
                K[images, :, images[atom], :] = R @ column @ R.T
    return K


def _column(atom, displacements, responses, rotations, permutations) -> np.ndarray:
    """K_ia of one displaced atom a, shape=(n, 3, 3), by least squares over the images of its displacements."""
    directions, images_of_response = [], []
    for displacement, response in zip(displacements, responses):
        if displacement.atom != atom:
            continue
        for k in np.flatnonzero(permutations[:, atom] == atom):
            moved = np.empty_like(response)
            moved[permutations[k]] = response @ rotations[k].T
            directions.append(rotations[k] @ displacement.direction)
            images_of_response.append(moved)
    return np.einsum("qnx,qy->nxy", images_of_response, np.linalg.pinv(np.array(directions)).T)


def opposite_forces(displacement: Displacement, forces, rotations, permutations) -> np.ndarray:
    """Forces at the opposite displacement, where an operation makes them from those at the positive one, shape=(n, 3)."""
    k = displacement.opposite
    moved = np.empty_like(forces)
    moved[np.asarray(permutations)[k]] = forces @ np.asarray(rotations)[k].T
    return moved
