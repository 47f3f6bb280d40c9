"""Examples of the documentation that others build on: engine, coupling, recipe, and its table of Madelung's constants."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from markdown_blocks import of_language

from solidqmmm import QMMM, Crystal, LammpsEngine, Potential, Subtractive, carve
from solidqmmm.engines.journal import journaled
from solidqmmm.engines.protocols import Engine
from solidqmmm.physics.electrostatics.ewald import COULOMB
from solidqmmm.physics.madelung import madelung_constant, site_potentials_of
from solidqmmm.procedures.building.select import grown_by_hops, partition_from, within_radius
from solidqmmm.procedures.carve import complete_partition
from solidqmmm.system.bonds import BondRules
from solidqmmm.system.caps import CapRules

STATIC = Path(__file__).resolve().parents[1] / "docs" / "_static"
sys.path.insert(0, str(STATIC))
from morse_engine import MorseEngine  # noqa: E402
from three_layers import ThreeLayers  # noqa: E402

MORSE = {"depth": 0.35, "a": 1.36, "r0": 2.83, "cutoff": 6.0}
SW = Potential("sw", "* * Si.sw Si", ["Si"])
TERSOFF = Potential("tersoff", "* * Si.tersoff Si", ["Si"])
SNAP = Potential("snap", "* * Si_Zuo_JPCA2020.snapcoeff Si_Zuo_JPCA2020.snapparam Si", ["Si"])
CAPS, BONDS = CapRules(kind="Si", length=2.35), BondRules()


def copper(repeats=4, seed=1) -> Atoms:
    atoms = bulk("Cu", a=3.615, cubic=True) * (repeats, repeats, repeats)
    atoms.rattle(0.05, seed=seed)
    return atoms


@pytest.fixture(scope="module")
def same_in_lammps():
    # LAMMPS's morse/smooth/linear is the same function, written by others.
    with LammpsEngine(Potential("morse/smooth/linear 6.0", "* * 0.35 1.36 2.83", ["Cu"])) as engine:
        yield engine


# --- the engine -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pbc", [True, False, (False, False, True)])
def test_morse_engine_is_the_pair_style_of_lammps(same_in_lammps, pbc):
    atoms = copper()
    atoms.pbc = pbc
    engine = MorseEngine(**MORSE)
    assert isinstance(engine, Engine)
    periodic = pbc is True
    ours, theirs = (each.evaluate(atoms, stress=periodic) for each in (engine, same_in_lammps))
    assert ours.energy == pytest.approx(theirs.energy, abs=1e-9)
    np.testing.assert_allclose(ours.forces, theirs.forces, atol=1e-11)
    if periodic:
        np.testing.assert_allclose(ours.stress, theirs.stress, atol=1e-13)


def test_morse_engine_in_a_host_of_itself_changes_nothing():
    potential = Potential("morse/smooth/linear 6.0", "* * 0.35 1.36 2.83", ["Cu"])
    crystal = Crystal.of(copper())
    core = within_radius(crystal, [0, 0, 0], 3.0)
    partition = partition_from(crystal, core, core, centre=[0, 0, 0])
    cluster = carve(crystal, partition, CapRules(kind="none"))
    with LammpsEngine(potential) as classical, QMMM(crystal, potential) as plain:
        coupling = Subtractive(cluster, MorseEngine(**MORSE), classical)
        with QMMM(crystal, potential, coupling, partition=partition) as hybrid:
            assert hybrid.energy() == pytest.approx(plain.energy(), abs=1e-9)
            np.testing.assert_allclose(hybrid.forces(), plain.forces(), atol=1e-10)


def test_journal_tells_two_morse_engines_apart(tmp_path):
    atoms = copper(2)
    first, again, other = (
        journaled(MorseEngine(**MORSE | change), tmp_path) for change in ({}, {}, {"depth": 0.4})
    )
    energies = [each.evaluate(atoms).energy for each in (first, again, other)]
    assert energies[0] == energies[1] != energies[2]
    assert (first.hits, again.hits, other.hits) == (0, 1, 0)


# --- the coupling ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engines():
    with LammpsEngine(SW) as sw, LammpsEngine(TERSOFF) as tersoff, LammpsEngine(SNAP) as snap:
        yield {"sw": sw, "tersoff": tersoff, "snap": snap}


@pytest.fixture(scope="module")
def crystal():
    atoms = bulk("Si", a=5.431, cubic=True) * (3, 3, 3)
    atoms.rattle(0.05, seed=1)
    return Crystal.of(atoms)


def clusters(crystal, caps=CAPS):
    """Labels of the large region, and both clusters."""
    found = []
    for hops in (2, 1):
        core = grown_by_hops(crystal, [0], hops, BONDS)
        labels = partition_from(crystal, core, core, centre=crystal.positions[0])
        labels = complete_partition(crystal, labels, caps, BONDS)
        found.append((labels, carve(crystal, labels, caps, bond_rules=BONDS)))
    return found


def answers(crystal, coupling, partition):
    with QMMM(crystal, SW, coupling, partition=partition) as qmmm:
        return qmmm.energy(), qmmm.forces(), qmmm.stress()


def assert_same(found, expected):
    assert found[0] == pytest.approx(expected[0], abs=1e-8)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-9)
    np.testing.assert_allclose(found[2], expected[2], atol=1e-11)


def test_three_layers_with_two_descriptions_are_two_layers(crystal, engines):
    # Caps of both sides differ by their lengths, so a description cancels itself in clusters without any.
    (labels, large), (_, small) = clusters(crystal, CapRules(kind="none"))
    sw, tersoff = engines["sw"], engines["tersoff"]
    two = {size: Subtractive(each, tersoff, sw) for size, each in (("large", large), ("small", small))}
    nothing_within = ThreeLayers(two["large"], Subtractive(small, tersoff, tersoff))
    assert_same(answers(crystal, nothing_within, labels), answers(crystal, two["large"], labels))
    nothing_around = ThreeLayers(Subtractive(large, sw, sw), two["small"])
    assert_same(answers(crystal, nothing_around, labels), answers(crystal, two["small"], labels))


def test_forces_of_three_layers_are_the_gradient(crystal, engines):
    (labels, large), (_, small) = clusters(crystal)
    outer = Subtractive(large, engines["tersoff"], engines["sw"])
    inner = Subtractive(small, engines["snap"], engines["tersoff"])
    with QMMM(crystal, SW, ThreeLayers(outer, inner), partition=labels) as qmmm:
        start, forces = qmmm.host.positions(), qmmm.forces()
        way = np.random.default_rng(2).normal(size=start.shape)
        energies = []
        for step in (1e-4, -1e-4):
            qmmm.host.set_positions(start + step * way)
            energies.append(qmmm.energy())
    assert (energies[0] - energies[1]) / 2e-4 == pytest.approx(-(forces * way).sum(), abs=1e-4)


def test_regions_of_different_images_are_refused(crystal, engines):
    (_, large), (_, small) = clusters(crystal)
    sw = engines["sw"]
    elsewhere = replace(small, reference=small.reference + crystal.cell[0])
    with pytest.raises(ValueError, match="one centre"):
        ThreeLayers(Subtractive(large, sw, sw), Subtractive(elsewhere, sw, sw))


# --- the scripts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["morse_in_copper", "three_layers_silicon"])
def test_scripts_print_what_the_pages_show(name, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(STATIC), "OMP_NUM_THREADS": "1"}
    script = [sys.executable, STATIC / f"{name}.py"]
    done = subprocess.run(script, cwd=tmp_path, env=environment, text=True, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == (STATIC / f"{name}.txt").read_text()


# --- the recipe -----------------------------------------------------------------------------------------------


def test_recipe_of_the_page_gives_what_the_page_shows(tmp_path):
    study = next(block for block in of_language("yaml") if block.page.name == "recipes.md")
    (tmp_path / "study.yaml").write_text(study.text)
    shutil.copy(STATIC / "bond_length.py", tmp_path)
    shutil.copy(STATIC.parents[1] / "examples" / "silicon_vacancy" / "Si.cif", tmp_path)
    words = [Path(sys.executable).with_name("solidqmmm"), "run", "study.yaml", "--out", "carbon"]
    done = subprocess.run(words, cwd=tmp_path, text=True, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == (STATIC / "bond_length.txt").read_text()


def test_a_copied_recipe_is_a_recipe_of_ones_own(tmp_path, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("recipes", "copy", "single_point", "my_recipe.py")[0] == 0
    assert call("recipes", "show", "my_recipe.py")[1] == call("recipes", "show", "single_point")[1]


# --- the constants --------------------------------------------------------------------------------------------

CUBES = {
    "simple cubic": np.eye(3),
    "face-centred cubic": np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2,
    "body-centred cubic": np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]]) / 2,
}
# Cell of edge 1, where the ions are, their charges, distance between nearest neighbours.
IONIC = {
    "rocksalt": ("face-centred cubic", (0, 0.5), (1, -1), 0.5),
    "caesium chloride": ("simple cubic", (0, 0.5), (1, -1), 3**0.5 / 2),
    "zincblende": ("face-centred cubic", (0, 0.25), (1, -1), 3**0.5 / 4),
    "fluorite": ("face-centred cubic", (0, 0.25, 0.75), (2, -1, -1), 3**0.5 / 4),
}


def rows_of_conventions(names):
    """The numbers of the table rows that begin with the names."""
    page = (STATIC.parent / "conventions.md").read_text()
    for name in names:
        row = next(line for line in page.splitlines() if line.startswith(f"| {name}"))
        yield name, [float(cell) for cell in row.strip("| ").split("|")[1:]]


def test_alpha_of_every_lattice_on_the_page():
    for name, (by_volume, by_edge) in rows_of_conventions(CUBES):
        assert madelung_constant(CUBES[name]) == pytest.approx(by_volume, abs=6e-6)
        assert madelung_constant(CUBES[name], length=1.0) == pytest.approx(by_edge, abs=6e-6)


def test_madelung_constant_of_every_crystal_on_the_page():
    for name, (by_neighbours, by_edge) in rows_of_conventions(IONIC):
        cell, places, charges, distance = IONIC[name]
        phi = site_potentials_of(np.outer(places, np.ones(3)), charges, CUBES[cell])
        energy = 0.5 * np.dot(charges, phi) / COULOMB
        assert -energy * distance == pytest.approx(by_neighbours, abs=6e-6)
        assert -energy == pytest.approx(by_edge, abs=6e-6)
