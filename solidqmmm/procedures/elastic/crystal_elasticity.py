"""The elastic tensor of one crystal: its reference state, the series of deformations, and the fit."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from ase.units import GPa
from pydantic import ValidationInfo

from solidqmmm.physics.elastic.elastic_fit import tensor_from_slopes, third_order_from_curvatures
from solidqmmm.physics.elastic.inner_displacements import stress_at_rest, symmetric_responses
from solidqmmm.physics.elastic.strain_fit import StrainFit, fit_strain_series, require_amplitudes
from solidqmmm.physics.symmetry import crystal_symmetry as symmetry
from solidqmmm.procedures.building.embed import is_additive
from solidqmmm.procedures.elastic.strain_reference import Reference, STRESS_TOLERANCE_GPa, relaxed_reference
from solidqmmm.procedures.elastic.strain_series import (
    Deformation,
    StrainedState,
    deformations,
    mirror_of,
    mirrored,
    open_strained,
    strain_series,
)
from solidqmmm.procedures.elastic.strained_crystal import is_noise_free
from solidqmmm.procedures.elastic.symmetry_of import (
    crystal_operations,
    defect_operations,
    space_group_operations,
)
from solidqmmm.procedures.records import Records, fingerprint
from solidqmmm.results.elasticity import StrainSeries

EXACT_AMPLITUDES = (0.0002, 0.0004)
NOISY_AMPLITUDES = (0.005, 0.01)
NOTEWORTHY_STRESS_GPa = 0.1
NOTEWORTHY_TENSION_GPa = 0.2
NOTEWORTHY_NONLINEARITY_PERCENT = 1.0


# --- what a study may ask for -----------------------------------------------------------------------------------


def checked_amplitudes(amplitudes: tuple[float, ...] | None) -> tuple[float, ...] | None:
    """The amplitudes of a series, if they are fit for one.

    Raises:
        ValueError: If there is none, and as `physics.elastic.strain_fit.require_amplitudes`.
    """
    if amplitudes is None:
        return None
    if not amplitudes:
        raise ValueError("at least one strain amplitude is expected, such as [0.0005, 0.001]")
    require_amplitudes(amplitudes)  # as they were written: with both signs they are as good
    return amplitudes


def checked_order(fit_order: int, info: ValidationInfo) -> int:
    """The highest power of a fit, if the amplitudes can bear it.

    Raises:
        ValueError: If it is below 1, and as `physics.elastic.strain_fit.require_amplitudes`.
    """
    if fit_order < 1:
        raise ValueError(f"a fit_order of at least 1 (linear) is expected, got {fit_order}")
    asked = info.data.get("amplitudes", ())  # missing where they are wrong themselves
    if asked != ():
        require_amplitudes(signed_amplitudes(EXACT_AMPLITUDES if asked is None else asked), fit_order=fit_order)
    return fit_order


def amplitudes_for(engine) -> tuple[float, ...]:
    """Amplitudes that suit an engine: small where forces carry no noise, large enough to stand above it elsewhere."""
    return EXACT_AMPLITUDES if is_noise_free(engine) else NOISY_AMPLITUDES


def signed_amplitudes(amplitudes) -> tuple[float, ...]:
    """Both signs of each amplitude, ascending; where some are negative already, they are taken as they are."""
    if any(a < 0 for a in amplitudes):
        return tuple(sorted(amplitudes))
    return tuple(sorted(sign * a for a in amplitudes for sign in (-1, 1)))


# --- the tensor ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class CrystalElasticity:
    """Elastic constants of one crystal; tensors in eV/angstrom^3 (Voigt).

    Attributes:
        reference: The undeformed state.
        tensor: C with relaxed ions, shape=(6, 6).
        stderr: Its standard errors, NaN where unknown, shape=(6, 6).
        clamped: C with clamped ions, shape=(6, 6).
        third_order, third_order_stderr: C_IJK, shape=(6, 6, 6), or None.
        nonlinearity_percent: Change of the constants over the amplitudes, or None with one amplitude.
        series: The rows, in GPa.
        rotations: Point operations that were used, Cartesian, shape=(m, 3, 3).
        n_force_evaluations, n_qm_calls: What was computed for it, reference included.
        warnings: What a reader should know.
    """

    reference: Reference
    tensor: np.ndarray
    stderr: np.ndarray
    clamped: np.ndarray
    third_order: np.ndarray | None
    third_order_stderr: np.ndarray | None
    nonlinearity_percent: float | None
    series: StrainSeries
    rotations: np.ndarray
    n_force_evaluations: int
    n_qm_calls: int
    warnings: list[str] = field(default_factory=list)


def elasticity_of(
    model,
    which: str,
    *,
    amplitudes=None,
    fit_order: int = 1,
    use_symmetry: bool = True,
    fmax: float = 1e-4,
    relax_cell: bool = True,
    start: CrystalElasticity | None = None,
    folder=None,
    executor=None,
    progress: Callable | None = None,
) -> CrystalElasticity:
    """The elastic tensor of a model's crystal.

    Args:
        model: A `procedures.build.Model`.
        which: 'defect' (the study's own crystal) or 'perfect' (without its defect).
        amplitudes: Green-Lagrange strains, both signs applied unless some are negative; `amplitudes_for` the engine without.
        fit_order: Highest power of the fit; from 2 on third-order constants are fitted too.
        use_symmetry: Whether symmetry reduces the strain shapes.
        fmax: Largest force with relaxed ions, eV/angstrom.
        relax_cell: Whether the cell is relaxed before.
        start: The perfect crystal, in whose relaxed cell the defect is put first.
        folder: Where finished pieces are saved, or None.
        executor: Any concurrent.futures executor for the deformations.
        progress: Called as progress(done, total, message).

    Raises:
        ValueError: For amplitudes or an order that cannot be fitted; for an additive coupling.
        EngineError: If there is no stress.
    """
    if is_additive(model.study):
        raise ValueError(
            f"the additive coupling '{model.study.coupling.scheme}' has no virial, and elastic constants are derivatives of "
            "the stress: use coupling: subtractive"
        )
    signed = signed_amplitudes(amplitudes_for(model.engine) if amplitudes is None else amplitudes)
    require_amplitudes(signed, fit_order=fit_order)
    report = progress or (lambda *_: None)
    options = {"fmax": fmax, "relax_cell": relax_cell, "frame": None if start is None else start.reference.cell.tolist()}
    records = Records(folder, fingerprint(model, **options))
    with open_strained(model, which) as crystal:
        reference, spent = _reference(which, crystal, records, fmax, relax_cell, start, report)
        tension = None
        if model.engine_alone and start is None:  # a defect changes nothing in it
            crystal.place(reference.positions, reference.cell)
            tension = crystal.basis_tension()
            spent = spent if tension is None else spent + 2
        if use_symmetry:
            operations = _operations(model, which, crystal, reference)
        else:
            operations = np.eye(3)[None], np.arange(len(reference.positions))[None]
        basis = _Basis(operations[0], fit_order)
        wanted = deformations(basis.shapes, signed)
        members = [member for member in wanted if not _is_mirrored(member, wanted, operations[0])]
        done = itertools.count(1)

        def told(state: StrainedState):
            name = f"{which} crystal, strain {state.deformation.name}"
            report(next(done), len(members), f"{name}: largest force {state.max_force:.2g} eV/A")

        states = strain_series(
            model, which, crystal, reference, members, fmax=fmax, records=records, executor=executor, report=told
        )  # fmt: skip
    states = _with_mirrored(wanted, states, operations)
    spent = spent + np.array([[s.n_force_evaluations, s.n_qm_calls] for s in states]).sum(axis=0)
    found = _fitted(reference, basis, states, at_rest(states, reference, operations), fit_order)
    warnings = _about_reference(model, which, reference, fmax, relax_cell, in_given_cell=start is None)
    if tension is not None and abs(tension) > NOTEWORTHY_TENSION_GPa * GPa:
        warnings.append(
            f"the plane waves are too few: a finite basis adds a tension of {tension / GPa:.2f} GPa (Pulay stress), which "
            "shortens the relaxed cell and makes noise in the constants; raise qm.ecut until it is below "
            f"{NOTEWORTHY_TENSION_GPa:g} GPa"
        )
    return replace(
        found,
        n_force_evaluations=int(spent[0]),
        n_qm_calls=int(spent[1]),
        warnings=[*warnings, *_about_series(found, states, fmax)],
    )


def _reference(which, crystal, records, fmax, relax_cell, start, report) -> tuple[Reference, np.ndarray]:
    """The undeformed state, from its record where there is one, and the force and quantum evaluations it took."""
    name = f"{which}/reference"
    known = records.read(name)
    if known is None:
        positions, cell, stiffness = crystal.crystal.positions, crystal.crystal.cell, None
        if start is not None:
            F, stiffness = start.reference.deformation, start.tensor
            positions, cell = positions @ F.T, cell @ F.T
        reference = relaxed_reference(
            crystal, positions, cell, fmax=fmax, relax_cell=relax_cell, stiffness=stiffness,
            report=lambda text: report(None, None, f"{which} crystal, {text}"),
        )  # fmt: skip
        spent = np.array([crystal.n_force_evaluations, crystal.n_qm_calls])
        records.write(name, spent=spent, **vars(reference))
        return reference, spent
    spent = known.pop("spent")
    return Reference(**{key: value if value.ndim else value.item() for key, value in known.items()}), spent


def _operations(model, which, crystal, reference: Reference):
    """Point operations, and the atoms' images under them or None where they are not told."""
    perfect = which == "perfect"
    if model.partition.quantum.size or (model.defect is not None and not perfect) or model.partition.frozen.size:
        return defect_operations(model, reference.positions, reference.cell, perfect=perfect)
    whole = crystal.crystal
    if model.engine is None and len(whole) > len(model.unit):
        # A supercell of the host has the symmetry of its unit cell, whatever the shape of the supercell.
        rotations, _ = space_group_operations(model.unit)
        return rotations, None
    return crystal_operations(model, whole, reference.positions, reference.cell)


def _is_mirrored(member: Deformation, wanted, rotations) -> bool:
    """Whether symmetry makes a member from the one at the opposite, positive amplitude."""
    opposite = Deformation(member.shape, -member.amplitude)
    return member.amplitude < 0 and opposite in wanted and mirror_of(member.shape, rotations) is not None


def _with_mirrored(wanted, states: list[StrainedState], operations) -> list[StrainedState]:
    rotations, permutations = operations
    found = {state.deformation: state for state in states}
    for member in wanted:
        if member not in found:
            k = mirror_of(member.shape, rotations)
            images = None if permutations is None else permutations[k]
            found[member] = mirrored(found[Deformation(member.shape, -member.amplitude)], rotations[k], images)
    return [found[member] for member in wanted]


class _Basis:
    """Tensors that the rotations allow, and the fewest strain shapes that fix them."""

    def __init__(self, rotations, fit_order):
        self.rotations = rotations
        self.second = symmetry.invariant_elastic_tensors(rotations)
        self.third = symmetry.invariant_third_order_tensors(rotations) if fit_order >= 2 else None
        if self.third is None:
            self.shapes = np.array(symmetry.strains_that_suffice(self.second, from_stress=True))
        else:
            self.shapes = np.array(symmetry.strains_that_suffice_third_order(self.third, self.second))


def at_rest(states: list[StrainedState], reference: Reference, operations) -> np.ndarray:
    """Stresses (Voigt) of the states where their forces have gone, eV/angstrom^3, shape=(n, 6).

    The response of the ions along each shape is that of the series itself; see `physics.inner_displacements`.
    """
    stresses = np.array([symmetry.voigt_stress(state.stress) for state in states])
    rotations, permutations = operations
    if permutations is None:
        return stresses
    by_shape: dict[tuple, list[StrainedState]] = {}
    for state in states:
        by_shape.setdefault(state.deformation.shape, []).append(state)
    responses = [response(same) for same in by_shape.values()]
    strains, fields = symmetric_responses(list(by_shape), responses, rotations, permutations)
    return np.array(
        [stress_at_rest(S, state.forces, strains, fields, reference.volume) for S, state in zip(stresses, states)]
    )


def response(states: list[StrainedState]) -> np.ndarray:
    """dW/da of the inner displacements along one strain shape, by least squares over its states, angstrom, shape=(n, 3).

    Large amplitudes weigh most: W of ions that are not quite at rest is off by the same amount at each.
    """
    a = np.array([state.deformation.amplitude for state in states])
    field = np.tensordot(a, [state.inner for state in states], axes=1) / (a @ a)
    return field - field.mean(axis=0)


# --- the fit ------------------------------------------------------------------------------------------------------


def _fitted(reference: Reference, basis: _Basis, states, stresses, fit_order) -> CrystalElasticity:
    at_reference = symmetry.voigt_stress(reference.stress)
    clamped = np.array([symmetry.voigt_stress(state.stress_clamped) for state in states])
    amplitudes = np.array([state.deformation.amplitude for state in states])
    shape_of = np.repeat(np.arange(len(basis.shapes)), len(states) // len(basis.shapes))

    def along(values) -> list[StrainFit]:
        return [
            fit_strain_series(amplitudes[mine], values[mine], at_reference, fit_order=fit_order)
            for mine in (shape_of == k for k in range(len(basis.shapes)))
        ]

    def tensor(fits):
        slopes, errors = [fit.slope for fit in fits], [fit.slope_error for fit in fits]
        return tensor_from_slopes(basis.second, basis.shapes, slopes, errors)

    fits = along(stresses)
    C = tensor(fits)
    third = None
    if basis.third is not None:
        curvatures, errors = [fit.curvature for fit in fits], [fit.curvature_error for fit in fits]
        third = third_order_from_curvatures(basis.third, basis.shapes, curvatures, errors)
    bends = np.array([fit.linearity for fit in fits])
    linear = bool(np.isfinite(bends).all())
    counts = np.array([[s.n_force_evaluations, s.n_qm_calls] for s in states])
    return CrystalElasticity(
        reference=reference,
        tensor=C.tensor,
        stderr=C.stderr,
        clamped=tensor(along(clamped)).tensor,
        third_order=None if third is None else third.tensor,
        third_order_stderr=None if third is None else third.stderr,
        nonlinearity_percent=float(100 * np.abs(bends).max() / np.abs(C.tensor).max()) if linear else None,
        series=StrainSeries(
            shapes=basis.shapes,
            shape_of=shape_of,
            amplitudes=amplitudes,
            stress_GPa=stresses / GPa,
            stress_clamped_GPa=clamped / GPa,
            fitted_GPa=np.concatenate([fit.curve for fit in fits]) / GPa,
            reference_stress_GPa=at_reference / GPa,
            max_force_eV_per_A=[state.max_force for state in states],
            n_force_evaluations=counts[:, 0],
            n_qm_calls=counts[:, 1],
        ),
        rotations=basis.rotations,
        n_force_evaluations=0,
        n_qm_calls=0,
    )


# --- what a reader should know ------------------------------------------------------------------------------------


def _about_reference(model, which, reference: Reference, fmax, relax_cell, in_given_cell) -> list[str]:
    """A crystal that was not at rest as it was given, or is not now."""
    said = []
    of_itself = which == "perfect" or model.defect is None
    stress = np.abs(reference.given_stress).max() / GPa
    # A defect in the cell of the perfect crystal has a stress of its own: that is its dipole.
    if stress > NOTEWORTHY_STRESS_GPa and in_given_cell and (of_itself or relax_cell):
        lengths = 100 * (np.linalg.eigvalsh(reference.deformation) - 1)
        done = f"it was relaxed, its lengths changed by {lengths.min():+.2f} to {lengths.max():+.2f} %"
        kept = "it was kept (cell: fixed): the constants are those of the stressed crystal"
        said.append(f"the cell of the study is under a stress of {stress:.2f} GPa; {done if relax_cell else kept}")
    if model.defect is None and reference.given_max_force > max(100 * fmax, 0.01):
        said.append(
            f"the ions of the study's structure were not at rest (largest force {reference.given_max_force:.3f} eV/A); they "
            "were relaxed"
        )
    if reference.max_force > 1.01 * fmax:
        said.append(f"the reference did not relax to {fmax:g} eV/A: {reference.max_force:.2g} eV/A are left")
    left = np.abs(reference.stress).max() / GPa
    if relax_cell and left > 10 * STRESS_TOLERANCE_GPa:
        said.append(
            f"the cell could not be relaxed below a stress of {left:.3f} GPa: the forces are too noisy for more; the "
            "constants are those of that state"
        )
    return said


def _about_series(found: CrystalElasticity, states: list[StrainedState], fmax) -> list[str]:
    said = []
    bend = found.nonlinearity_percent
    if bend is not None and bend > NOTEWORTHY_NONLINEARITY_PERCENT:
        said.append(
            f"the stress is not linear in the strain: constants change by {bend:.1f} % of the largest between the smallest "
            "and the largest amplitude; use smaller amplitudes, or look for noise of the potential (tabulated ones have it)"
        )
    unconverged = [state for state in states if state.max_force > 1.01 * fmax]
    if unconverged:
        worst = max(unconverged, key=lambda state: state.max_force)
        said.append(
            f"{len(unconverged)} of {len(states)} deformations did not relax to {fmax:g} eV/A (at worst "
            f"{worst.max_force:.2g} eV/A at {worst.deformation.name})"
        )
    return said
