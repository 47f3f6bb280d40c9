"""Maps the expensive model's crystal on the host's: lattice, bulk modulus, and how far the elastic constants are apart.

Two descriptions of one crystal differ in lattice and stiffness, and a quantum region of another size than the hole that
it sits in strains the crystal around it. The engine is therefore evaluated at stretched positions, and its energy counts
beta-fold,

    E(x) = beta E_engine(x A),    h_engine = h_host A,    beta = B_host / (B_engine det A),

so that it has the host's lattice exactly, and the host's bulk modulus (rescaled potentials, as in Bernstein, Kermode and
Csanyi, Rep. Prog. Phys. 72, 026501 (2009)). Shear constants do not follow: compare them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from solidqmmm.engines.protocols import Engine
from solidqmmm.physics.elastic.equation_of_state import energy_scale, rotation_free
from solidqmmm.procedures.perfect_crystal import Equilibrium, PerfectCrystal, StrainedCells
from solidqmmm.results.matching import MatchingResult
from solidqmmm.system.crystal import Crystal

logger = logging.getLogger(__name__)

# Without stresses, the tensor of a crystal with more independent constants than this is left out (orthorhombic: 9).
_MOST_CONSTANTS_FROM_ENERGIES = 9


def match_lattices(
    unit: Crystal,
    host: Engine,
    engine: Engine,
    *,
    elastic: bool = False,
    strain: float = 0.01,
    fmax: float = 1e-4,
    warn_above_percent: float = 10.0,
    progress: Callable | None = None,
) -> MatchingResult:
    """Relaxes the perfect crystal in both descriptions and works out A and beta.

    Both start from the idealized primitive cell of `unit` and keep its symmetry: as many strains are free as the
    crystal system leaves (cubic 1, hexagonal 2, ..., triclinic 6), and the ions follow where symmetry does not fix them.
    A cubic crystal takes about 8 calls of an engine without stress, about 5 with. GPAW keeps the k-points of the given
    cell throughout.

    Args:
        unit: A cell of the perfect crystal, periodic in three directions; a conventional cell or a supercell costs no
            more than the primitive one.
        host: The host's potential as an engine, `LammpsEngine(potential)`.
        engine: The expensive model.
        elastic: Also the elastic tensors of both (relaxed ions): cubic crystals take 4 more strains with stress, and
            7 without.
        strain: Half-width of the series as linear strain, so 0.01 is 3 % in volume; more for an engine whose energies
            are noisy. Elastic constants use it for energies, and a fifth of it for stresses.
        fmax: Force below which ions count as relaxed, eV/angstrom.
        warn_above_percent: Differences of lattice parameters or moduli above this are warned of, in percent.
        progress: Called as progress(done, total, message) after every call of an engine; `total` is a guess.

    Returns:
        Lattices and moduli of both, A (symmetric: the engine's cell is turned as that needs), beta, and warnings.

    Raises:
        StructureError: If the crystal is not periodic or no symmetry is found.
        ConvergenceError: If one of the two has no minimum near the given cell.
        ValueError: For a strain or limits that are not positive.
    """
    _require_positive(strain=strain, fmax=fmax, warn_above_percent=warn_above_percent)
    crystal = PerfectCrystal.of(unit)
    report = _Progress(progress, crystal, engine, elastic)
    options = {"strain": strain, "fmax": fmax, "report": report}
    cells = [
        StrainedCells(crystal, host, label=f"host ({_label(host)})", **options),
        StrainedCells(crystal, engine, label=f"engine ({_label(engine)})", **options),
    ]
    of_host, of_engine = (side.equilibrium() for side in cells)
    stretch = rotation_free(np.linalg.inv(of_host.stretch) @ of_engine.stretch)
    tensors, reason = (None, None), "not asked for"
    if elastic:
        tensors, reason = _elastic_tensors(crystal, cells, (of_host, of_engine))
    logger.info("matched with %d calls of the host and %d of the engine", cells[0].n_calls, cells[1].n_calls)
    return _with_mismatches(
        warn_above_percent,
        **_of_host(crystal, of_host, host),
        lattice_engine_A=crystal.unit.cell.array @ of_host.stretch @ stretch,
        stretch=stretch,
        energy_scale=energy_scale(of_host.bulk_modulus_GPa, of_engine.bulk_modulus_GPa, stretch),
        bulk_modulus_engine_GPa=of_engine.bulk_modulus_GPa,
        elastic_tensor_host_GPa=tensors[0],
        elastic_tensor_engine_GPa=tensors[1],
        elastic_missing_reason=reason,
        energy_per_atom_engine_eV=of_engine.energy_per_atom,
        engine=_label(engine),
        warnings=[*cells[0].warnings, *cells[1].warnings],
    )


def matched_from_values(
    unit: Crystal,
    host: Engine,
    lattice_parameter_A: float,
    bulk_modulus_GPa: float | None = None,
    *,
    strain: float = 0.01,
    fmax: float = 1e-4,
    warn_above_percent: float = 10.0,
) -> MatchingResult:
    """A and beta from the expensive model's known lattice parameter and bulk modulus; only the host is computed.

    Args:
        unit: A cell of the perfect crystal, which must be cubic.
        host: The host's potential as an engine.
        lattice_parameter_A: Of the conventional cell in angstrom, as the engine has it with the study's settings.
        bulk_modulus_GPa: Likewise, in GPa; without it beta is 1: lattices are matched, energies left as they are.
        strain, fmax, warn_above_percent: See `match_lattices`.

    Raises:
        ValueError: For a crystal that is not cubic, or values that are not positive.
        StructureError, ConvergenceError: As `match_lattices`.
    """
    _require_positive(
        lattice_parameter_A=lattice_parameter_A,
        bulk_modulus_GPa=1.0 if bulk_modulus_GPa is None else bulk_modulus_GPa,
        strain=strain,
        fmax=fmax,
    )
    crystal = PerfectCrystal.of(unit)
    if not crystal.is_cubic:
        raise ValueError(
            f"one lattice parameter describes a cubic crystal only, and this one has space group {crystal.number}: use "
            "`matching: auto`"
        )
    cells = StrainedCells(crystal, host, label=f"host ({_label(host)})", strain=strain, fmax=fmax)
    of_host = cells.equilibrium()
    volume = abs(np.linalg.det(crystal.atoms.cell.array @ of_host.stretch))
    parameter = (volume * crystal.sites_per_conventional / len(crystal.atoms)) ** (1 / 3)
    stretch = lattice_parameter_A / parameter * np.eye(3)
    known = bulk_modulus_GPa is not None
    return _with_mismatches(
        warn_above_percent,
        **_of_host(crystal, of_host, host),
        lattice_engine_A=crystal.unit.cell.array @ of_host.stretch @ stretch,
        stretch=stretch,
        energy_scale=energy_scale(of_host.bulk_modulus_GPa, bulk_modulus_GPa, stretch) if known else 1.0,
        bulk_modulus_engine_GPa=bulk_modulus_GPa,
        elastic_missing_reason="the engine was not computed: its lattice parameter and bulk modulus were given",
        engine="given values",
        warnings=list(cells.warnings),
    )


def _of_host(crystal: PerfectCrystal, equilibrium: Equilibrium, host: Engine) -> dict:
    return {
        "lattice_host_A": crystal.unit.cell.array @ equilibrium.stretch,
        "bulk_modulus_host_GPa": equilibrium.bulk_modulus_GPa,
        "energy_per_atom_host_eV": equilibrium.energy_per_atom,
        "host": _label(host),
    }


def _elastic_tensors(crystal: PerfectCrystal, cells, equilibria):
    """Both tensors, and the reason if the engine has none."""
    from solidqmmm.physics.symmetry.crystal_symmetry import invariant_elastic_tensors

    tensors = [cells[0].elastic_tensor_GPa(equilibria[0]), None]
    constants = len(invariant_elastic_tensors(crystal.rotations))
    if not cells[1].engine.provides_stress and constants > _MOST_CONSTANTS_FROM_ENERGIES:
        return tensors, (
            f"the engine gives no stress, and {constants} independent constants from energies would cost "
            f"{2 * constants + 1} relaxations of the ions"
        )
    tensors[1] = cells[1].elastic_tensor_GPa(equilibria[1])
    return tensors, None


def _with_mismatches(warn_above_percent: float, **fields) -> MatchingResult:
    """The result, with a warning for each quantity in which the two are further apart than the limit."""
    result = MatchingResult(**fields)
    pairs = result.pairs()
    said = []  # C22 = C11 of a hexagonal crystal is not said again
    for label, percent in result.percent.items():
        (of_host, of_engine), unit = pairs[label], "A" if label in "abc" else "GPa"
        if abs(percent) > warn_above_percent and not any(
            np.allclose(pairs[label], old, rtol=1e-3) for old in said
        ):
            said.append(pairs[label])
            result.warnings.append(
                f"{label}: host {of_host:.4g} {unit}, engine {of_engine:.4g} {unit}, {percent:+.1f} % (more than "
                f"{warn_above_percent:g} %): {_consequence(label)}"
            )
    return result


def _consequence(label: str) -> str:
    if label in "abc":
        return "are these the same phase?"
    if label == "B":
        return "the energy scale makes them equal, and makes the engine's forces by that much different"
    return (
        "elastic fields are refracted at the boundary; choose a host nearer to the engine, or a larger region"
    )


def _label(engine: Engine) -> str:
    """A few words that tell the model, such as 'lammps sw' or 'gpaw lcao PBE'."""
    settings = engine.describe().get("settings", {})
    words = [engine.name]
    for key in ("pair_style", "mode", "basis", "xc", "calculator"):
        value = settings.get(key)
        value = value.get("name") if isinstance(value, dict) else value
        if value:
            words.append(str(value).split()[0])
    return " ".join(words)


def _require_positive(**values):
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"`{name}` must be positive, got {value}")


class _Progress:
    """Counts the calls of both engines; the total is what a crystal with fixed ions takes, and grows when needed."""

    def __init__(self, progress: Callable | None, crystal: PerfectCrystal, engine: Engine, elastic: bool):
        m = len(crystal.strains)
        series = 4 * m + 1 if engine.provides_stress else (8 if m == 1 else 2 * m * (m + 1) + 1)
        self.progress = progress
        self.done = 0
        self.total = 4 * m + 1 + series + (20 if elastic else 0)

    def __call__(self, message: str):
        self.done += 1
        self.total = max(self.total, self.done)
        if self.progress is not None:
            self.progress(self.done, self.total, message)
