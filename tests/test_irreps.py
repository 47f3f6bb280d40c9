"""Irreps of vibrations: textbook lists of small molecules in any frame, all 32 point groups, and what is no single irrep."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from pymatgen.symmetry.groups import PointGroup
from scipy.spatial.transform import Rotation

from solidqmmm.physics.symmetry.irreps import SCHOENFLIES, characters, degenerate_sets, irreps, point_group
from solidqmmm.physics.symmetry.laue_class import generated_group
from solidqmmm.physics.symmetry.site_symmetry import site_operations

HEXAGONAL = np.array([[1, -0.5, 0], [0, np.sqrt(0.75), 0], [0, 0, 1]])
TETRAHEDRON = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)
OCTAHEDRON = np.vstack([np.eye(3), -np.eye(3)])


def ring(n, radius=1.0, height=0.0, start=0.0):
    angle = np.radians(start) + 2 * np.pi * np.arange(n) / n
    return np.column_stack([radius * np.cos(angle), radius * np.sin(angle), np.full(n, height)])


def molecule(*shells):
    """Masses and positions of shells (mass, positions), the centre of mass at the origin."""
    masses = np.concatenate([np.full(len(np.atleast_2d(r)), float(m)) for m, r in shells])
    positions = np.vstack([np.atleast_2d(r) for _, r in shells])
    return masses, positions - masses @ positions / masses.sum()


CENTRE = np.zeros(3)
# Vibrations without translations and rotations: G. Herzberg, Infrared and Raman Spectra (1945); E. B. Wilson, J. C. Decius
# and P. C. Cross, Molecular Vibrations (1955); axes as R. S. Mulliken, J. Chem. Phys. 23, 1997 (1955).
MOLECULES = {
    "CH4": (molecule((12, CENTRE), (1, TETRAHEDRON)), "Td", "A1 + E + 2T2"),
    "P4": (molecule((31, TETRAHEDRON)), "Td", "A1 + E + T2"),
    "SF6": (molecule((32, CENTRE), (19, OCTAHEDRON)), "Oh", "A1g + Eg + 2T1u + T2g + T2u"),
    "NH3": (molecule((14, [0, 0, 0.4]), (1, ring(3))), "C3v", "2A1 + 2E"),
    "BF3": (molecule((11, CENTRE), (19, ring(3))), "D3h", "A1' + 2E' + A2''"),
    "H2O": (molecule((16, CENTRE), (1, [[0, 0.76, 0.59], [0, -0.76, 0.59]])), "C2v", "2A1 + B2"),
    "XeF4": (molecule((131, CENTRE), (19, ring(4))), "D4h", "A1g + B1g + B2g + A2u + B2u + 2Eu"),
    "flattened CH4": (molecule((12, CENTRE), (1, TETRAHEDRON * [1, 1, 0.8])), "D2d", "2A1 + B1 + 2B2 + 2E"),
    "ethane": (
        molecule((12, [[0, 0, 0.77], [0, 0, -0.77]]), (1, ring(3, 1.0, 1.17)), (1, ring(3, 1.0, -1.17, 60))),
        "D3d", "3A1g + A1u + 2A2u + 3Eg + 3Eu",
    ),
    "allene": (
        molecule((12, [[0, 0, 1.3], [0, 0, 0], [0, 0, -1.3]]), (1, ring(2, 0.93, 1.9)), (1, ring(2, 0.93, -1.9, 90))),
        "D2d", "3A1 + B1 + 3B2 + 4E",
    ),
    "ethylene": (
        molecule((12, [[0, 0, 0.67], [0, 0, -0.67]]), (1, [[0, s * 0.92, t * 1.23] for s in (1, -1) for t in (1, -1)])),
        "D2h", "3Ag + 2B3g + B2g + Au + 2B1u + 2B2u + B3u",
    ),
    "benzene": (
        molecule((12, ring(6, 1.39)), (1, ring(6, 2.48))),
        "D6h", "2A1g + A2g + 2B2g + E1g + 4E2g + A2u + 2B1u + 2B2u + 3E1u + 2E2u",
    ),
    "BrF5": (molecule((80, [0, 0, -0.1]), (19, ring(4)), (19.0, [0, 0, 1.2])), "C4v", "3A1 + 2B1 + B2 + 3E"),
    "propeller": (molecule((14, [0, 0, 0.3]), (12, ring(3)), (1, ring(3, 1.6, 0.5, 17))), "C3", "5A + 5E"),
    "HOOH": (
        molecule((16, [[0, 0.7, 0], [0, -0.7, 0]]), (1, [[0.8, 0.9, 0.5], [-0.8, -0.9, 0.5]])), "C2", "4A + 2B"
    ),
    "HOCl": (molecule((16, CENTRE), (1, [0.9, 0.3, 0]), (35, [-0.4, 1.6, 0])), "Cs", "3A'"),
    "CHFClBr": (
        molecule(*((m, 1.1 * r) for m, r in zip((1, 19, 35, 80), TETRAHEDRON)), (12, CENTRE)), "C1", "9A"
    ),
}  # fmt: skip


SPRINGS = [
    "CH4",
    "P4",
    "SF6",
    "NH3",
    "flattened CH4",
    "ethane",
    "BrF5",
    "propeller",
    "CHFClBr",
]  # central forces hold them
FRAMES = [np.eye(3), *Rotation.random(2, rng=5).as_matrix()]


def operations(masses, positions, frame):
    """Those operations of the cube and of the hexagonal prism that keep a molecule, and where they take its atoms."""
    cube = generated_group(
        [[[0, -1, 0], [1, 0, 0], [0, 0, 1]], [[0, 0, 1], [1, 0, 0], [0, 1, 0]], -np.eye(3)]
    )
    sixfold = Rotation.from_euler("z", 60, degrees=True).as_matrix()
    prism = generated_group([sixfold, np.diag([1, -1, -1]), -np.eye(3)])
    further = [R for R in prism if not any(np.allclose(R, known) for known in cube)]
    kept, images = [], []
    for R in frame @ np.array([*cube, *further]) @ frame.T:
        apart = np.linalg.norm((positions @ R.T)[:, None] - positions, axis=2)
        nearest = np.argmin(apart, axis=1)
        if apart.min(axis=1).max() < 1e-6 and np.allclose(masses[nearest], masses):
            kept.append(R)
            images.append(nearest)
    return np.array(kept), np.array(images)


def springs(masses, positions):
    """K of springs at rest between all pairs, stiffer between near and heavy atoms."""
    n = len(masses)
    K = np.zeros((n, 3, n, 3))
    for i, j in combinations(range(n), 2):
        d = positions[j] - positions[i]
        k = (1 + 0.1 * np.sqrt(masses[i] * masses[j])) * np.exp(-(d @ d)) * np.outer(d, d) / (d @ d)
        for a, b, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
            K[a, :, b, :] += sign * k
    return K.reshape(3 * n, 3 * n)


def generic(masses, positions, R, images):
    """A random K with the symmetry of the molecule, translations and rotations left out."""
    n = len(masses)
    A = np.random.default_rng(3).normal(size=(3 * n, 3 * n))
    K = np.zeros((3 * n, 3 * n))
    for operation, image in zip(R, images):
        D = np.zeros((n, 3, n, 3))
        D[image, :, np.arange(n), :] = operation
        D = D.reshape(3 * n, 3 * n)
        K += D @ (A @ A.T) @ D.T / len(R)
    rigid = [np.tile(axis, (n, 1)) for axis in np.eye(3)] + [np.cross(axis, positions) for axis in np.eye(3)]
    rigid = np.array(rigid).reshape(6, 3 * n)
    Q = np.linalg.qr(rigid.T)[0]
    free = np.eye(3 * n) - Q @ Q.T
    return free @ K @ free


def vibrations(masses, K):
    """Mass-weighted eigenvectors and frequencies without the six of zero frequency."""
    root = np.sqrt(np.repeat(masses, 3))
    squares, vectors = np.linalg.eigh(K / np.outer(root, root))
    assert np.abs(squares[:6]).max() < 1e-9 < 1e-4 < squares[6]
    return vectors[:, 6:].T.reshape(-1, len(masses), 3), np.sqrt(squares[6:])


def counted(sets):
    """How often each irrep is there, in the notation of the lists."""
    return Counter(found.irrep for found in sets)


def of_list(text):
    terms = [(int(t[0]), t[1:]) if t[0].isdigit() else (1, t) for t in text.split(" + ")]
    return Counter({irrep: count for count, irrep in terms})


@pytest.mark.parametrize("frame", FRAMES, ids=["standard", "turned", "turned again"])
@pytest.mark.parametrize("name", MOLECULES)
def test_generic_force_constants_have_the_irreps_of_the_textbooks(name, frame):
    (masses, positions), symbol, expected = MOLECULES[name]
    positions = positions @ frame.T
    R, images = operations(masses, positions, frame)
    assert point_group(R, images).schoenflies == symbol
    e, frequencies = vibrations(masses, generic(masses, positions, R, images))
    assert counted(irreps(e, frequencies, R, images, tolerance=1e-6)) == of_list(expected)


@pytest.mark.parametrize("frame", FRAMES, ids=["standard", "turned", "turned again"])
@pytest.mark.parametrize("name", SPRINGS)
def test_molecules_of_springs_have_the_irreps_of_the_textbooks(name, frame):
    (masses, positions), _, expected = MOLECULES[name]
    positions = positions @ frame.T
    R, images = operations(masses, positions, frame)
    e, frequencies = vibrations(masses, springs(masses, positions))
    sets = irreps(e, frequencies, R, images, tolerance=1e-6)
    assert counted(sets) == of_list(expected)
    sizes = {"A": 1, "B": 1, "E": 2, "T": 3}
    assert all(len(found.modes) == sizes[found.irrep[0]] for found in sets)
    assert sorted(np.concatenate([found.modes for found in sets])) == list(range(len(e)))


def test_the_breathing_mode_is_totally_symmetric():
    """Which mode is which: in CH4 the hydrogen atoms alone move in A1, outward, and the carbon atom only in T2."""
    (masses, positions), _, _ = MOLECULES["CH4"]
    R, images = operations(masses, positions, np.eye(3))
    e, frequencies = vibrations(masses, springs(masses, positions))
    for found in irreps(e, frequencies, R, images, tolerance=1e-6):
        carbon = np.sum(e[found.modes, 0] ** 2)
        outward = np.einsum("knx,nx->k", e[found.modes, 1:], TETRAHEDRON) / 2
        assert (carbon > 1e-3) == (found.irrep == "T2")
        assert np.isclose(np.sum(outward**2), 1.0) == (found.irrep == "A1")


@pytest.mark.parametrize("symbol", SCHOENFLIES)
def test_every_point_group_is_found_in_any_frame(symbol):
    """Operations by pymatgen; axial and polar vectors, and irreps, have the characters that group theory asks for."""
    cell = HEXAGONAL if symbol.lstrip("-")[0] in "36" else np.eye(3)
    fractional = [op.rotation_matrix for op in PointGroup(symbol).symmetry_ops]
    standard = np.array([cell @ R @ np.linalg.inv(cell) for R in fractional])
    assert np.allclose(standard @ standard.transpose(0, 2, 1), np.eye(3))
    for frame in FRAMES:
        R = frame @ standard @ frame.T
        group = point_group(R)
        assert group.symbol == symbol
        assert group.classes.count("E") == 1
        # as many real irreps as classes of R and R^-1 together; orthogonal; regular representation
        chi = np.array(list(group.characters.values()))
        assert len(chi) == len(set(group.classes))
        norms = np.diag(chi @ chi.T) / len(R)
        np.testing.assert_allclose(chi @ chi.T / len(R), np.diag(norms), atol=1e-12)
        assert set(norms) <= {1.0, 2.0}
        assert np.sum(chi[:, group.classes.index("E")] ** 2 / norms) == len(R)
        # class functions are those of the operations themselves, not only of the names
        for k, g in enumerate(R):
            conjugate = g @ R @ g.T
            places = np.argmin(np.abs(conjugate[:, None] - R).max(axis=(2, 3)), axis=1)
            np.testing.assert_array_equal(chi[:, places], chi, err_msg=f"operation {k}")
        # characters of products of vectors hold every irrep an integer number of times
        polar, axial = np.trace(R, axis1=1, axis2=2), np.trace(R, axis1=1, axis2=2) * np.linalg.det(R)
        for power in (polar, axial, polar**2, polar**3 * axial):
            n = np.array(list(group.multiplicities(power).values()))
            np.testing.assert_allclose(n, np.rint(n), atol=1e-9)


def test_parts_of_the_vectors_on_some_atoms_are_enough():
    """Carbon and its four neighbours of a molecule with a further shell: characters do not need the whole vectors."""
    shells = [
        (12, CENTRE),
        (12, 1.5 * TETRAHEDRON),
        (1, 3 * TETRAHEDRON * [1, 1, -1]),
        (28, 2.8 * OCTAHEDRON),
    ]
    masses, positions = molecule(*shells)
    R, images = operations(masses, positions, np.eye(3))
    e, frequencies = vibrations(masses, generic(masses, positions, R, images))
    whole = irreps(e, frequencies, R, images, tolerance=1e-6)
    parts = irreps(e[:, :5], frequencies, R, images[:, :5], tolerance=1e-6)
    assert {"A1", "E", "T1", "T2", "A2"} >= {found.irrep for found in whole} >= {"A1", "E", "T1", "T2"}
    for all_of_it, part in zip(whole, parts):
        # what does not move these five atoms (such as A2) has no characters there
        assert part.irrep in (all_of_it.irrep, None)
        assert (part.irrep is None) == bool(np.sum(e[all_of_it.modes, :5] ** 2) < 1e-9)


def test_accidental_degeneracy_is_a_sum_and_part_of_a_set_is_nothing():
    (masses, positions), _, _ = MOLECULES["CH4"]
    R, images = operations(masses, positions, np.eye(3))
    e, frequencies = vibrations(masses, springs(masses, positions))
    sets = irreps(e, frequencies, R, images, tolerance=1e-6)
    assert [found.irrep for found in irreps(e, 0 * frequencies, R, images)] == ["A1 + E + 2T2"]
    (triplet, *_) = (found.modes for found in sets if found.irrep == "T2")
    (pair,) = (found.modes for found in sets if found.irrep == "E")
    both = [*pair, *triplet]
    assert [found.irrep for found in irreps(e[both], np.ones(5), R, images)] == ["E + T2"]
    apart = np.array(
        [0.0, 1e-5, 3e-4, 3.1e-4, 2.9e-4]
    )  # the two sets nearer than the tolerance, each with noise
    close = irreps(e[both], 1 + apart, R, images, tolerance=1e-3)
    assert [(found.irrep, found.modes.tolist()) for found in close] == [("E", [0, 1]), ("T2", [2, 3, 4])]
    assert [found.irrep for found in irreps(e[both[:4]], np.ones(4), R, images)] == [None]
    assert [found.irrep for found in irreps(e[both], np.arange(5.0), R, images)] == [None] * 5
    # mixed by an angle, each is part of two sets
    mixed = (e[triplet[0]] + e[pair[0]]) / np.sqrt(2)
    assert [found.irrep for found in irreps(mixed[None], [1.0], R, images)] == [None]
    assert np.isnan(characters(np.array([mixed, mixed]), R, images)).all()


def test_thirds_of_three_triplets_are_no_triplet():
    """One vector of each of three T2 has whole n_i without being whole."""
    shells = [(12, CENTRE), (1, TETRAHEDRON), (28, 2.0 * TETRAHEDRON)]
    masses, positions = molecule(*shells)
    R, images = operations(masses, positions, np.eye(3))
    e, frequencies = vibrations(masses, generic(masses, positions, R, images))
    triplets = [
        found.modes for found in irreps(e, frequencies, R, images, tolerance=1e-6) if found.irrep == "T2"
    ]
    thirds = e[[modes[0] for modes in triplets[:3]]]
    chi = characters(thirds, R, images)
    assert point_group(R).multiplicities(chi)["T2"] == pytest.approx(1.0)
    assert [found.irrep for found in irreps(thirds, np.ones(3), R, images)] == [None]


def test_noise_of_an_iterative_solution_does_not_matter():
    (masses, positions), _, expected = MOLECULES["SF6"]
    R, images = operations(masses, positions, np.eye(3))
    e, frequencies = vibrations(masses, springs(masses, positions))
    rng = np.random.default_rng(8)
    R = R + 1e-4 * rng.normal(size=R.shape)
    e = e + 1e-3 * rng.normal(size=e.shape)
    frequencies = frequencies + 1e-5 * rng.normal(size=len(frequencies))
    assert counted(irreps(e, frequencies, R, images, tolerance=1e-3)) == of_list(expected)


def test_degenerate_sets_are_chains_in_the_order_of_their_first_members():
    sets = degenerate_sets([5.0, 1.0, 5.0005, 0.2, 1.0001, 5.001], 6e-4)
    assert [members.tolist() for members in sets] == [[0, 2, 5], [1, 4], [3]]
    assert degenerate_sets([], 1e-3) == []


def test_symmetry_of_a_site_in_a_crystal():
    """Displacements along x, y, z of an atom at a tetrahedral site are T2; site_operations gives what irreps take."""
    from ase.build import bulk

    silicon = bulk("Si", a=5.43, cubic=True) * (2, 2, 2)
    cell, positions = silicon.cell.array @ FRAMES[1].T, silicon.positions @ FRAMES[1].T
    labels = np.zeros(64)
    labels[20] = 1
    cube = generated_group(
        [[[0, -1, 0], [1, 0, 0], [0, 0, 1]], [[0, 0, 1], [1, 0, 0], [0, 1, 0]], -np.eye(3)]
    )
    turned = FRAMES[1] @ cube @ FRAMES[1].T
    R, images = site_operations(turned, positions, cell, labels, positions[20])
    group = point_group(R, images)
    assert (group.symbol, group.schoenflies) == ("-43m", "Td")
    shift = np.zeros((3, 64, 3))
    shift[:, 20] = np.eye(3)
    assert [found.irrep for found in irreps(shift, np.ones(3), R, images)] == ["T2"]


def test_bad_input_is_refused():
    (masses, positions), _, _ = MOLECULES["CH4"]
    R, images = operations(masses, positions, np.eye(3))
    e = np.zeros((2, 5, 3))
    with pytest.raises(ValueError, match=r"\(modes, atoms, 3\) = \(3, 5, 3\)"):
        irreps(e, [1.0, 2.0, 3.0], R, images)
    with pytest.raises(ValueError, match="one permutation for each"):
        irreps(e, [1.0, 2.0], R, images[1:])
    fivefold = generated_group([Rotation.from_euler("z", 72, degrees=True).as_matrix()])
    for not_a_group in (R[1:], fivefold, np.array([2 * np.eye(3)])):
        with pytest.raises(ValueError, match="one of the 32 crystallographic point groups"):
            point_group(not_a_group)
