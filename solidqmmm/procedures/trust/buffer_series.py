"""Force error on the core against the width of the buffer.

The atoms of the study's crystal are displaced at random (the same for all widths), the core stays the same, and the force on
its atoms is compared with a reference:

- the engine's own forces in the whole periodic crystal, where the engine is a LAMMPS potential that knows all species;
- otherwise those with the widest buffer of the series, which is then no point of the series itself.

The force is the one of production: the engine's (force mixing; before the net force is removed, which is no matter of the
buffer), or F_MM(all) + F_QM(cluster) - F_MM(cluster) (subtractive; without a dead load, which would cost one more engine
call for each width). Source: N. Bernstein, J. R. Kermode and G. Csanyi, Rep. Prog. Phys. 72, 026501 (2009).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from solidqmmm.coupling.qmmm import QMMM
from solidqmmm.engines.factory import make_journaled_engine
from solidqmmm.engines.journal import without_journal
from solidqmmm.engines.protocols import Engine
from solidqmmm.engines.remote import made
from solidqmmm.errors import EngineError, RegionError, StudyError
from solidqmmm.procedures.build import Model
from solidqmmm.procedures.building.describe import engine_in_words
from solidqmmm.procedures.parallel.task_states import told
from solidqmmm.results.boundary import BufferSeries
from solidqmmm.system.crystal import Crystal
from solidqmmm.system.partition import Partition

# Without a limit by the user: most quantum atoms of a width beyond the study's, for engines other than LAMMPS.
EXPENSIVE_LIMIT = 120
# Most atoms of a whole crystal as the reference.
WHOLE_CRYSTAL_LIMIT = 50_000


@dataclass(frozen=True, eq=False)
class Series:
    """Outcome of `buffer_series`: the series, or why there is none, and what a reader should know."""

    series: BufferSeries | None
    missing_reason: str | None
    warnings: list[str]


def buffer_series(
    model: Model,
    *,
    widths: list[float] | None,
    stand_in: dict | None,
    rattle: float,
    max_quantum_atoms: int | None,
    threshold: float,
    known: dict[float, tuple[np.ndarray | None, str | None]] | None = None,
    progress: Callable[[str], None],
) -> Series:
    """Core-force error of `model` against buffer width.

    Args:
        model: A model with a quantum region.
        widths: Widths in the unit of the study's buffer (hops or angstrom); None for `default_widths`. The study's own is
            always among them.
        stand_in: A `qm` section to use instead of the study's engine, or None. Cut bonds stay bare where it is a LAMMPS
            potential that does not know the caps.
        rattle: Standard deviation of the displacements, angstrom.
        max_quantum_atoms: Wider buffers with more quantum atoms are left out; None for 120, and no limit for LAMMPS.
        threshold: What the RMS error is held against, eV/angstrom.
        known: What `forces_at_width` has found at each of `series_widths` already: forces, shape=(n_core, 3), and a reason.
        progress: Called with a message after each engine call.
    """
    unit, own = buffer_width(model)
    with _evaluator(model, stand_in) as used:
        cheap = used.engine.name == "lammps"
        partitions, notes = _asked(model, used, widths, max_quantum_atoms)
        crystal = _rattled(model, rattle)
        whole = cheap and len(crystal) <= WHOLE_CRYSTAL_LIMIT and _knows(used.engine, crystal.species)
        if not whole and max(partitions) <= own:
            return Series(None, _no_reference(notes), notes)
        if known is None:
            host_forces, known = _host_forces(model, crystal), {}
            for width, partition in partitions.items():
                with told(f"buffer {in_words(width, unit)}"):
                    known[width] = _at_width(used, partition, crystal, host_forces, width == own)
                progress(f"buffer {in_words(width, unit)}, {len(partition.quantum)} quantum atoms")
        forces = {width: known[width][0] for width in partitions if known[width][0] is not None}
        notes += [
            f"buffer {in_words(width, unit)} left out: {known[width][1]}" for width in partitions if known[width][1]
        ]
        if whole:
            reference = _whole_crystal(used, crystal, model.partition.core)
            progress("the whole crystal")
            words = f"the engine's forces in the whole periodic crystal ({len(crystal)} atoms)"
        else:
            widest = max(forces)
            if widest == own:
                return Series(None, _no_reference(notes), notes)
            reference = forces.pop(widest)
            words = f"buffer {in_words(widest, unit)} ({len(partitions[widest].quantum)} quantum atoms)"

        errors = {width: np.linalg.norm(force - reference, axis=1) for width, force in forces.items()}
        return Series(
            BufferSeries(
                width=list(errors),
                width_unit=unit,
                n_quantum=[len(partitions[width].quantum) for width in errors],
                rms_core_error_eV_per_A=[np.sqrt((error**2).mean()) for error in errors.values()],
                max_core_error_eV_per_A=[error.max() for error in errors.values()],
                reference=words,
                engine=engine_in_words(used.engine) + (" (bare cut bonds)" if _is_bare(used, model) else ""),
                stand_in=stand_in is not None,
                study_width=own,
                threshold_eV_per_A=threshold,
            ),
            None,
            notes,
        )


def series_widths(model: Model, *, widths, stand_in: dict | None, max_quantum_atoms: int | None) -> list[float]:
    """The widths that `buffer_series` computes with these arguments."""
    with _evaluator(model, stand_in) as used:
        return list(_asked(model, used, widths, max_quantum_atoms)[0])


def forces_at_width(
    model: Model, *, width: float, stand_in: dict | None, rattle: float, progress: Callable[[str], None]
) -> tuple[np.ndarray | None, str | None]:
    """Forces on the core with one buffer in eV/angstrom, shape=(n_core, 3), or None and why not.

    Arguments are those of `buffer_series`.

    Raises:
        RegionError, EngineError: At the study's own width.
    """
    unit, own = buffer_width(model)
    with _evaluator(model, stand_in) as used:
        partitions, _ = _partitions(model, [width], unit, own, np.inf)
        crystal = _rattled(model, rattle)
        found = _at_width(used, partitions[width], crystal, _host_forces(model, crystal), width == own)
    progress(f"buffer {in_words(width, unit)}")
    return found


def _asked(model: Model, used: Model, widths, max_quantum_atoms) -> tuple[dict[float, Partition], list[str]]:
    unit, own = buffer_width(model)
    cheap = used.engine.name == "lammps"
    asked = sorted({own, *(default_widths(model, cheap=cheap) if widths is None else map(float, widths))})
    return _partitions(model, asked, unit, own, max_quantum_atoms or (np.inf if cheap else EXPENSIVE_LIMIT))


def _rattled(model: Model, rattle: float) -> Crystal:
    crystal = model.crystal
    rng = np.random.default_rng(model.study.seed)
    return crystal.with_positions(crystal.positions + rng.normal(0.0, rattle, crystal.positions.shape))


def _host_forces(model: Model, crystal: Crystal) -> np.ndarray:
    with QMMM(crystal, model.potential) as host:
        return host.forces()


def _at_width(used: Model, partition, crystal: Crystal, host_forces, is_own: bool) -> tuple[np.ndarray | None, str | None]:
    try:
        return core_forces(used, partition, crystal.positions, host_forces), None
    except (RegionError, EngineError) as error:
        if is_own:
            raise
        return None, _first_line(error)


def buffer_width(model: Model) -> tuple[str, float]:
    """Unit ('hops' or 'A') and width of the study's buffer; 0 hops without one."""
    buffer = model.study.region.buffer
    if buffer is None:
        return "hops", 0.0
    return ("A", float(buffer.radius)) if buffer.hops is None else ("hops", float(buffer.hops))


def default_widths(model: Model, *, cheap: bool) -> list[float]:
    """From no buffer to one step beyond the study's, for cheap engines to two; a step is a hop or a third of the radius."""
    unit, own = buffer_width(model)
    beyond = 2 if cheap else 1
    if unit == "hops":
        return [float(hops) for hops in range(int(own) + beyond + 1)]
    if own == 0:
        return [0.0, 3.0, 6.0]
    return [round(own * thirds / 3, 3) for thirds in range(1, 4 + beyond)]


def in_words(width: float, unit: str) -> str:
    """'1 hop', '2 hops' or '6 A'."""
    return f"{width:g} {'hop' if unit == 'hops' and width == 1 else unit}"


def core_forces(model: Model, partition: Partition, positions, host_forces) -> np.ndarray:
    """Forces on the core in production with `partition`, in eV/angstrom, shape=(n_core, 3).

    Args:
        model: Whose engine and coupling are used.
        partition: Labels over the model's crystal.
        positions: Positions of all atoms in angstrom, shape=(n, 3).
        host_forces: The host's own forces there in eV/angstrom, shape=(n, 3).
    """
    crystal = model.crystal
    correction = model.coupling(crystal, partition)
    cluster = correction.cluster
    x = cluster.contiguous(positions[cluster.region], crystal.cell)
    if not correction.has_energy:
        return correction.quantum.evaluate(x, crystal.cell).bare_forces[cluster.core]
    given = correction.evaluate(x, crystal.cell, host_forces[cluster.region])
    return host_forces[cluster.core_indices] + given.forces[: cluster.n_quantum][cluster.core]


def _partitions(model, widths, unit, own, limit) -> tuple[dict[float, Partition], list[str]]:
    """Partition for each width that fits the crystal and the limit, and notes on those that do not."""
    partitions, notes = {}, []
    for width in widths:
        if width == own:
            partitions[width] = model.partition
            continue
        try:
            other = model.with_buffer(hops=int(width)) if unit == "hops" else model.with_buffer(radius=width)
            partition = other.partition
        except RegionError as error:
            notes.append(f"buffer {in_words(width, unit)} left out: {_first_line(error)}")
            continue
        if width > own and len(partition.quantum) > limit:
            notes.append(
                f"buffer {in_words(width, unit)} left out: {len(partition.quantum)} quantum atoms are more than "
                f"check.max_quantum_atoms {limit:g}"
            )
            continue
        partitions[width] = partition
    return partitions, notes


def _no_reference(notes) -> str:
    return (
        "there is no buffer wider than the study's to compare with; raise check.max_quantum_atoms, use a larger supercell, "
        "or give a cheaper check.stand_in" + "".join(f" ({note})" for note in notes)
    )


def _whole_crystal(model: Model, crystal: Crystal, core) -> np.ndarray:
    """beta F_engine(x A) A^T of the whole crystal on the core, shape=(n_core, 3)."""
    A = model.stretch
    atoms = Crystal(crystal.numbers, crystal.positions @ A, crystal.cell @ A, crystal.pbc).to_atoms()
    return model.energy_scale * model.engine.evaluate(atoms).forces[core] @ A.T


# --- engines --------------------------------------------------------------------------------------------------


@contextmanager
def _evaluator(model: Model, stand_in: dict | None):
    """The model itself, or one with the stand-in as its engine."""
    if stand_in is None:
        yield model
        return
    study = model.study
    folder = None if model.log_dir is None else Path(model.log_dir) / "stand_in"
    try:
        journal = None if folder is None else folder.with_name("journal")
        make = partial(make_journaled_engine, stand_in, journal=journal, log_dir=folder, search_dirs=(study.folder,))
        engine = made(make)
    except (ValueError, FileNotFoundError) as error:
        text = str(error).replace("`qm`", "`check.stand_in`").replace("qm.", "check.stand_in.")
        raise StudyError(text) from error
    caps = study.caps.rules().element
    if engine.name == "lammps" and caps is not None and not _knows(engine, (caps,)):
        study = study.model_copy(update={"caps": study.caps.model_copy(update={"kind": "none"})})
    parts = model.unit, model.perfect, model.crystal, model.defect, model.partition
    with Model(study, *parts, engine, model.log_dir) as twin:
        yield twin


def _is_bare(used: Model, model: Model) -> bool:
    return used.study.caps.rules().element is None and model.study.caps.rules().element is not None


def _knows(engine: Engine, species) -> bool:
    """Whether a LAMMPS potential has parameters for all `species`."""
    potential = without_journal(engine).potential
    return set(species) <= set(potential.species)


def _first_line(error) -> str:
    return str(error).splitlines()[0]
