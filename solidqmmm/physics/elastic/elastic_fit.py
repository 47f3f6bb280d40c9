"""Elastic constants of second and third order from the slopes and curvatures of strain series, with their errors.

Along the Green-Lagrange strain a eta (Voigt) the second Piola-Kirchhoff stress is

    S_I(a) = S_I(0) + C_IJ eta_J a + C_IJK eta_J eta_K a^2/2 + ...,

so that slopes are linear in the elastic tensor and curvatures in the third-order constants. Symmetry leaves few of these
free; what remains is a least-squares problem over a basis of the tensors that symmetry allows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solidqmmm.physics.symmetry.crystal_symmetry import elastic_rows, third_order_rows


@dataclass(frozen=True, eq=False)
class ElasticFit:
    """Constants in the unit of the slopes or curvatures.

    Attributes:
        tensor: C_IJ, shape=(6, 6), or C_IJK, shape=(6, 6, 6).
        stderr: Standard errors of the components, same shape; NaN where neither the series nor a comparison between strain
            shapes tells one; 0 where symmetry alone fixes the component.
        residuals: What was fitted minus what the tensor gives, shape=(n, 6).
    """

    tensor: np.ndarray
    stderr: np.ndarray
    residuals: np.ndarray

    @property
    def misfit(self) -> float:
        """The largest residual; of a perfect series of the right symmetry it is zero."""
        return float(np.abs(self.residuals).max())


def tensor_from_slopes(tensors, shapes, slopes, errors=None) -> ElasticFit:
    """The elastic tensor C_IJ = dS_I/dE_J, symmetric and of the symmetry of the basis.

    Args:
        tensors: Basis of the tensors that symmetry allows (`crystal_symmetry.invariant_elastic_tensors`), shape=(r, 6, 6).
        shapes: Voigt strains eta, shape=(n, 6).
        slopes: dS/da along each, shape=(n, 6).
        errors: Their standard errors, NaN where unknown, shape=(n, 6).

    Raises:
        ValueError: If arrays do not fit together or the shapes do not fix every constant.
    """
    blocks = [elastic_rows(tensors, strain, from_stress=True) for strain in np.asarray(shapes, dtype=float)]
    return _fitted(tensors, blocks, slopes, errors)


def third_order_from_curvatures(tensors, shapes, curvatures, errors=None) -> ElasticFit:
    """The third-order constants C_IJK = d2S_I/dE_J dE_K.

    Args:
        tensors: Basis (`crystal_symmetry.invariant_third_order_tensors`), shape=(r, 6, 6, 6).
        shapes: Voigt strains eta, shape=(n, 6).
        curvatures: d2S/da2 along each, shape=(n, 6).
        errors: Their standard errors, NaN where unknown, shape=(n, 6).

    Raises:
        ValueError: If arrays do not fit together or the shapes do not fix every constant.
    """
    blocks = [third_order_rows(tensors, strain) for strain in np.asarray(shapes, dtype=float)]
    return _fitted(tensors, blocks, curvatures, errors)


def _fitted(tensors, blocks, answers, errors) -> ElasticFit:
    tensors, answers = np.asarray(tensors, dtype=float), np.asarray(answers, dtype=float)
    n, r = len(blocks), len(tensors)
    errors = np.full((n, 6), np.nan) if errors is None else np.asarray(errors, dtype=float)
    if not n or answers.shape != (n, 6) or errors.shape != (n, 6) or not np.isfinite(answers).all():
        raise ValueError(
            f"{n} strain shapes need finite slopes or curvatures and errors of shape ({n}, 6), "
            f"got {answers.shape} and {errors.shape}"
        )
    design = np.vstack(blocks)
    rank = np.linalg.matrix_rank(design, tol=1e-3)
    if rank < r:
        raise ValueError(
            f"the strain shapes fix {rank} of the {r} constants that symmetry leaves free; add shapes "
            "(`strains_that_suffice` names them)"
        )
    solve = np.linalg.pinv(design)
    constants = solve @ answers.ravel()
    to_tensor = tensors.reshape(r, -1).T @ solve
    variance = _variance(blocks, design @ solve, to_tensor, answers.ravel(), errors.ravel())
    allowed = np.abs(tensors).max(axis=0) > 1e-9
    return ElasticFit(
        tensor=np.where(allowed, np.tensordot(constants, tensors, axes=1), 0.0),
        stderr=np.where(allowed, np.sqrt(variance).reshape(tensors.shape[1:]), 0.0),
        residuals=answers - (design @ constants).reshape(n, 6),
    )


def _variance(blocks, fitted, to_tensor, answers, errors) -> np.ndarray:
    """Variance of each component of the tensor.

    The errors of the series are carried through. The residual has two parts: between what the shapes say of the same
    constants, and what symmetry forbids within a shape. Where one is larger than those errors explain, its excess is one
    more variance, the same for every slope. Slopes of unknown error have that alone, from the comparison between shapes:
    what symmetry forbids within a shape is mostly zero however far the series is from linear, and tells nothing of them.
    """
    known = np.isfinite(errors)
    own = np.where(known, errors, 0.0) ** 2
    within = np.zeros_like(fitted)
    for k, block in enumerate(blocks):
        place = slice(6 * k, 6 * k + 6)
        within[place, place] = block @ np.linalg.pinv(block, rcond=1e-3)
    excess, comparable = 0.0, False
    for between_shapes, projector in ((True, within - fitted), (False, np.eye(len(fitted)) - within)):
        freedom = round(np.trace(projector))
        if freedom > 0:
            residual = projector @ answers
            expected = np.diag(projector) @ own
            excess = max(excess, (residual @ residual - expected) / freedom)
            comparable |= between_shapes
    variance = to_tensor**2 @ (own + excess)
    if not comparable:
        carried = np.abs(to_tensor) > 1e-9 * np.abs(to_tensor).max()
        variance = np.where((carried & ~known).any(axis=1), np.nan, variance)
    return variance
